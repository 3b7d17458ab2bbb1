//! The programs as protocols, in the world of closures that a user begins with: no property, no
//! fault, and what is always on: the digest of all events, invariants, and the choice log's sites.

use crate::work::{BEAT, BEGIN, DELAY_MAX, DELAY_MIN, NODES, WINDOW, Work};
use quorate_core::{Context, NodeId, Protocol, SystemModel};
use quorate_drivers::simulate::{Keep, Links, Origin, Plain, Plan, run as run_once};
use std::time::Duration;

struct Node {
    work: Work,
    peers: Vec<NodeId>,
    heard: u64,
}

impl Protocol for Node {
    type Config = (Work, Vec<NodeId>);
    type Message = u64;
    type Timer = ();
    type Record = ();
    type Request = ();
    type Indication = ();

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore((work, peers): &Self::Config, _: &mut dyn Iterator<Item = ()>) -> Node {
        Node { work: *work, peers: peers.clone(), heard: 0 }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Node>) {
        cx.set_timer((), BEGIN..BEGIN);
    }

    fn on_request(&mut self, (): (), _: &mut Context<'_, Node>) {}

    fn on_message(&mut self, from: NodeId, payload: u64, cx: &mut Context<'_, Node>) {
        match self.work {
            Work::Flood => cx.send(from, payload + 1),
            Work::Heartbeat => self.heard += payload,
        }
    }

    fn on_timer(&mut self, (): (), cx: &mut Context<'_, Node>) {
        let (times, payload) = match self.work {
            Work::Flood => (WINDOW, 0),
            Work::Heartbeat => (1, 1),
        };
        for peer in &self.peers {
            for _ in 0..times {
                cx.send(*peer, payload);
            }
        }
        if self.work == Work::Heartbeat {
            cx.set_timer((), BEAT..BEAT);
        }
    }
}

/// See [`crate::work::Candidate::run`].
pub fn run(work: Work, seed: u64, simulated: Duration) -> u64 {
    let world = Plain::<Node>::new(move |id, all| {
        (work, all.iter().copied().filter(|peer| *peer != id).collect())
    })
    .fingerprint(|payload| *payload);
    let model = "network=reliable,node=crash-stop,timing=synchronous".parse().expect("a model");
    let links = Links {
        delay_min: DELAY_MIN.as_nanos() as u64,
        delay_span: (DELAY_MAX - DELAY_MIN).as_nanos() as u64,
        ..Links::default()
    };
    let plan = Plan::of(model).calm().with_nodes(NODES).with_links(links).lasting(simulated);
    let outcome = run_once(world, &plan, Origin::Seed(seed), Keep::Outcome);
    assert_eq!(outcome.violation, None);
    outcome.tally.delivered
}
