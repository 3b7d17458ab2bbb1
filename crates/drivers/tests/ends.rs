//! How runs end: none goes on for ever, and what has recovered must stay so.

use quorate_core::{Context, NodeId, Protocol, SystemModel};
use quorate_drivers::simulate::{Keep, Origin, Outcome, Plain, Plan, UNDECIDED, run};
use std::time::Duration;

const BEAT: Duration = Duration::from_millis(50);

/// Beats, or answers each message with so many.
struct Node {
    peer: NodeId,
    answers: usize,
}

impl Protocol for Node {
    type Config = (NodeId, usize);
    type Message = ();
    type Timer = ();
    type Record = ();
    type Request = ();
    type Indication = ();

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(&(peer, answers): &(NodeId, usize), _: &mut dyn Iterator<Item = ()>) -> Node {
        Node { peer, answers }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Node>) {
        cx.set_timer((), BEAT..BEAT);
    }

    fn on_request(&mut self, (): (), _: &mut Context<'_, Node>) {}

    fn on_message(&mut self, _: NodeId, (): (), cx: &mut Context<'_, Node>) {
        (0..self.answers).for_each(|_| cx.send(self.peer, ()));
    }

    fn on_timer(&mut self, (): (), cx: &mut Context<'_, Node>) {
        cx.send(self.peer, ());
        cx.set_timer((), BEAT..BEAT);
    }
}

fn world(answers: usize) -> Plain<Node> {
    Plain::new(move |id: NodeId, all: &[NodeId]| {
        let peer = all.iter().copied().find(|peer| *peer != id);
        (peer.expect("there are several"), answers)
    })
}

fn simulate(world: Plain<Node>) -> (Plan, Outcome) {
    let plan = Plan::of(SystemModel::DATA_CENTRE).calm().lasting(Duration::from_secs(1));
    let plan = Plan { liveness: 2_000_000_000, ..plan };
    let outcome = run(world, &plan, Origin::Seed(1), Keep::Outcome);
    (plan, outcome)
}

#[test]
fn a_storm_of_messages_ends_at_a_bound_and_is_no_verdict_on_the_protocol() {
    let (plan, outcome) = simulate(world(2));
    let violation = outcome.violation.expect("it cannot be decided");
    assert_eq!(violation.property, UNDECIDED);
    assert_eq!(outcome.tally.events, plan.events_max());
    assert_eq!(simulate(world(0)).1.violation, None, "without a storm");
}

#[test]
fn what_breaks_soon_after_the_system_has_recovered_is_found() {
    let breaks_at = |at: Duration| {
        world(0).property("lasting", move |seen| match seen.now < at.as_nanos() as u64 {
            true => Ok(()),
            false => Err("it lasted until now".to_owned()),
        })
    };
    let soon = simulate(breaks_at(Duration::from_millis(1_300))).1;
    assert_eq!(soon.violation.expect("it breaks").property, "lasting");
    let (_, later) = simulate(breaks_at(Duration::from_secs(2)));
    assert_eq!(later.violation, None, "the run has an end");
    assert!(later.tally.simulated >= 1_500_000_000, "{}", later.tally.simulated);
}
