//! The shape of a run: how many nodes, how their links and disks behave, and which faults take
//! part. Swarm testing (Groce et al., "Swarm Testing", 2012): each seed draws a subset of what is
//! permitted, because a run with every fault at once hardly ever gets far enough to be interesting.

use super::choices::{About, Choices, Site};
use super::faults::Fault;
use super::mutant::Mutant;
use super::network::Links;
use super::run::Plan;
use quorate_core::{NodeFaults, Timing};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLISECOND;

/// What faults of one kind do in this run.
#[derive(Clone, Debug)]
pub(super) struct Enabled {
    pub(super) fault: Fault,
    /// They are thought about so often.
    pub(super) period: u64,
    /// And then happen so often. Unit: parts per million.
    pub(super) rate: u64,
}

/// When the bounds on delays and steps hold.
///
/// A partially synchronous system is one of two things (Dwork, Lynch and Stockmeyer 1988, section
/// 2.3): its bounds are known and hold from an instant on that is not, or they hold always and are
/// not known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Promise {
    /// From the first moment: in a synchronous system the bounds of the plan, else bounds that were
    /// drawn and that the nodes are not told. Unit: nanoseconds.
    Always { delay: u64, step: u64 },
    /// The bounds of the plan, when the faults of the run have ended: that is the global
    /// stabilization time.
    AfterFaults,
    /// Never. What is sent arrives.
    Never,
}

/// What a run looks like.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) nodes: usize,
    pub(super) promise: Promise,
    pub(super) links: Links,
    /// A sync takes at least so long.
    pub(super) sync_min: u64,
    /// And at most so much longer.
    pub(super) sync_span: u64,
    pub(super) enabled: Vec<Enabled>,
    /// Nodes whose disks may be damaged, or which may die for ever: a minority.
    pub(super) victims: Vec<usize>,
    /// Byzantine nodes: less than a third.
    pub(super) traitors: Vec<usize>,
    clock_origins: Vec<u64>,
}

impl Shape {
    /// What the clock of a node shows when the run begins.
    pub(super) fn clock_origin(&self, node: usize) -> u64 {
        self.clock_origins[node]
    }

    /// True if faults of this kind take part.
    pub(super) fn has(&self, fault: Fault) -> bool {
        self.enabled.iter().any(|enabled| enabled.fault == fault)
    }
}

/// Places of the questions. Each has a site of its own, so that the answer to one, such as the
/// number of nodes, does not move the others.
mod question {
    pub(super) const NODES: usize = 0;
    pub(super) const SPAN: usize = 1;
    pub(super) const IN_ORDER: usize = 2;
    pub(super) const SYNC: usize = 3;
    pub(super) const VICTIM: usize = 4;
    pub(super) const TRAITOR: usize = 5;
    pub(super) const VARIANT: usize = 6;
    pub(super) const BOUND: usize = 7;
    pub(super) const CALM: usize = 8;
    /// And one for each node.
    pub(super) const CLOCK: usize = 1 << 8;
    /// And four for each kind of fault.
    pub(super) const FAULT: usize = 1 << 24;
}

struct Setup<'a> {
    choices: &'a mut Choices,
}

impl Setup<'_> {
    fn below(&mut self, question: usize, bound: usize) -> usize {
        self.choices.draw(Site::new(About::Setup, question), bound as u64) as usize
    }

    fn pick(&mut self, question: usize, options: &[u64]) -> u64 {
        options[self.below(question, options.len())]
    }
}

/// The site at which it is drawn whether faults of this kind take part.
pub(super) fn takes_part(fault: Fault) -> Site {
    Site::new(About::Setup, question::FAULT + 4 * fault as usize)
}

/// The site of the seed of the calm.
pub(super) const CALM: Site = Site::new(About::Setup, question::CALM);

/// Draws the shape of a run.
pub(super) fn draw(plan: &Plan, choices: &mut Choices) -> Shape {
    let mut setup = Setup { choices };
    let nodes = plan.nodes[setup.below(question::NODES, plan.nodes.len())];
    let links = base_links(plan, &mut setup);
    let sync_min = 20_000;
    let sync_span = setup.pick(question::SYNC, &[80_000, MILLISECOND, 9 * MILLISECOND]);
    let first_victim = setup.below(question::VICTIM, nodes);
    let minority = (nodes - 1) / 2;
    let mut victims: Vec<usize> = (0..minority).map(|i| (first_victim + i) % nodes).collect();
    let first_traitor = setup.below(question::TRAITOR, nodes);
    let byzantine = plan.model.node == NodeFaults::Byzantine;
    let lies = byzantine || plan.planted(Mutant::TraitorsAmongHonest);
    let third = if lies { (nodes - 1) / 3 } else { 0 };
    let traitors: Vec<usize> = (0..third).map(|i| (first_traitor + i) % nodes).collect();
    if byzantine {
        // A dead or damaged node is a faulty one: together they are less than a third.
        victims.clone_from(&traitors);
    }
    let origin = |node: usize| SECOND * setup.below(question::CLOCK + node, 100) as u64;
    let clock_origins = (0..nodes).map(origin).collect();
    let promise = promise(plan, &mut setup);
    let mut shape = Shape {
        nodes,
        promise,
        links,
        sync_min,
        sync_span,
        enabled: Vec::new(),
        victims,
        traitors,
        clock_origins,
    };
    let possible = plan.faults.iter().filter(|fault| {
        let stays_in_time = !fault.breaks_time() || promise == Promise::AfterFaults;
        stays_in_time || plan.model.timing == Timing::Asynchronous
    });
    for fault in possible {
        let at = question::FAULT + 4 * *fault as usize;
        let takes_part = match plan.all {
            true => true,
            false => setup.choices.draw(takes_part(*fault), 3) == 2,
        };
        if takes_part {
            let period = setup.pick(at + 1, &[2_000, 1_000, 500, 200]) * MILLISECOND;
            let rate = setup.pick(at + 2, &[100_000, 200_000, 400_000]);
            shape.enabled.push(Enabled { fault: *fault, period, rate });
            spoil_links(*fault, at + 3, &mut shape.links, &mut setup);
        }
    }
    shape
}

fn promise(plan: &Plan, setup: &mut Setup<'_>) -> Promise {
    let known = Promise::Always { delay: plan.bounds.delay_max, step: plan.bounds.step_max };
    match plan.model.timing {
        Timing::Synchronous => known,
        Timing::Asynchronous => Promise::Never,
        Timing::PartiallySynchronous if setup.below(question::VARIANT, 2) == 0 => {
            Promise::AfterFaults
        }
        Timing::PartiallySynchronous => {
            let bound = setup.pick(question::BOUND, &[100, 500, 2_000]) * MILLISECOND;
            Promise::Always { delay: bound, step: bound }
        }
    }
}

fn base_links(plan: &Plan, setup: &mut Setup<'_>) -> Links {
    let span = setup.pick(question::SPAN, &[MILLISECOND / 2, 2 * MILLISECOND, 10 * MILLISECOND]);
    let in_order = setup.below(question::IN_ORDER, 2) == 1;
    if plan.planted(Mutant::LateInSynchrony) {
        let delay_span = 2 * plan.bounds.delay_max;
        return Links { delay_min: 50_000, delay_span, in_order, ..Links::default() };
    }
    if let Some(links) = &plan.links {
        return links.clone();
    }
    let delay_min = 50_000.min(plan.bounds.delay_max);
    let delay_span = span.min(plan.bounds.delay_max - delay_min);
    let twice_rate = if plan.planted(Mutant::DuplicatesInReliable) { 1_000 } else { 0 };
    Links { delay_min, delay_span, twice_rate, in_order, ..Links::default() }
}

/// Faults that are rates of the links last as long as the faults of the run do.
fn spoil_links(fault: Fault, at: usize, links: &mut Links, setup: &mut Setup<'_>) {
    match fault {
        Fault::Loss => links.loss_rate = setup.pick(at, &[1_000, 10_000, 50_000, 200_000]),
        Fault::Duplicate => links.twice_rate = setup.pick(at, &[1_000, 10_000, 100_000]),
        Fault::Tail => {
            links.tail_rate = setup.pick(at, &[1_000, 10_000, 50_000]);
            links.tail_span = setup.pick(at, &[100, 1_000, 5_000]) * MILLISECOND;
        }
        Fault::Congestion => {
            links.message_time = setup.pick(at, &[50_000, 500_000, 5_000_000]);
            links.queue_max = setup.pick(at, &[256, 32]);
        }
        _ => {}
    }
}
