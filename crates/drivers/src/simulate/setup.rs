//! The shape of a run: how many nodes, how their links and disks behave, and which faults take
//! part. Swarm testing (Groce et al., "Swarm Testing", 2012): each seed draws a subset of what is
//! permitted, because a run with every fault at once hardly ever gets far enough to be interesting.

use super::choices::{About, Choices, Site};
use super::faults::Fault;
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

/// What a run looks like.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) nodes: usize,
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

struct Setup<'a> {
    choices: &'a mut Choices,
    asked: usize,
}

impl Setup<'_> {
    /// Each question has a site of its own.
    fn below(&mut self, bound: usize) -> usize {
        self.asked += 1;
        self.choices.draw(Site::new(About::Setup, self.asked), bound as u64) as usize
    }

    fn pick(&mut self, options: &[u64]) -> u64 {
        options[self.below(options.len())]
    }
}

/// Draws the shape of a run.
pub(super) fn draw(plan: &Plan, choices: &mut Choices) -> Shape {
    let mut setup = Setup { choices, asked: 0 };
    let nodes = plan.nodes[setup.below(plan.nodes.len())];
    let links = base_links(plan, &mut setup);
    let sync_min = 20_000;
    let sync_span = setup.pick(&[80_000, MILLISECOND, 10 * MILLISECOND]);
    let first_victim = setup.below(nodes);
    let minority = (nodes - 1) / 2;
    let victims = (0..minority).map(|i| (first_victim + i) % nodes).collect();
    let first_traitor = setup.below(nodes);
    let third = if plan.model.node == NodeFaults::Byzantine { (nodes - 1) / 3 } else { 0 };
    let traitors = (0..third).map(|i| (first_traitor + i) % nodes).collect();
    let clock_origins = (0..nodes).map(|_| SECOND * setup.below(100) as u64).collect();
    let mut shape = Shape {
        nodes,
        links,
        sync_min,
        sync_span,
        enabled: Vec::new(),
        victims,
        traitors,
        clock_origins,
    };
    for fault in &plan.faults {
        // Asked for each kind, so that the sites of one do not depend on the others.
        let takes_part = setup.below(if plan.all { 1 } else { 3 }) == if plan.all { 0 } else { 2 };
        let period = setup.pick(&[2_000, 1_000, 500, 200]) * MILLISECOND;
        let rate = setup.pick(&[100_000, 200_000, 400_000]);
        if takes_part {
            shape.enabled.push(Enabled { fault: *fault, period, rate });
        }
    }
    let enabled = shape.enabled.clone();
    for enabled in enabled {
        spoil_links(enabled.fault, &mut shape.links, &mut setup);
    }
    shape
}

fn base_links(plan: &Plan, setup: &mut Setup<'_>) -> Links {
    let span = setup.pick(&[MILLISECOND / 2, 2 * MILLISECOND, 10 * MILLISECOND]);
    let in_order = setup.below(2) == 1;
    let mut links = Links { delay_min: 50_000, delay_span: span, in_order, ..Links::default() };
    if plan.model.timing == Timing::Synchronous {
        links.delay_span = span.min(plan.bounds.delay_max - links.delay_min);
    }
    links
}

/// Faults that are rates of the links last as long as the faults of the run do.
fn spoil_links(fault: Fault, links: &mut Links, setup: &mut Setup<'_>) {
    match fault {
        Fault::Loss => links.loss_rate = setup.pick(&[1_000, 10_000, 50_000, 200_000]),
        Fault::Duplicate => links.twice_rate = setup.pick(&[1_000, 10_000, 100_000]),
        Fault::Tail => {
            links.tail_rate = setup.pick(&[1_000, 10_000, 50_000]);
            links.tail_span = setup.pick(&[100, 1_000, 5_000]) * MILLISECOND;
        }
        Fault::Congestion => {
            links.message_time = setup.pick(&[50_000, 500_000]);
            links.queue_max = setup.pick(&[256, 32]);
        }
        _ => {}
    }
}
