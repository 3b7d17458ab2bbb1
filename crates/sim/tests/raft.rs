//! Raft under the faults of a data centre, and a little beyond it.

use quorate_core::{Protocol, SystemModel};
use quorate_drivers::simulate::{Keep, Origin, Outcome, Plan, Tally, World, run};
use quorate_protocols::consensus::raft::Raft;
use quorate_sim::raft::RaftWorld;
use std::time::Duration;

fn plan() -> Plan {
    Plan::of(Raft::MODEL).lasting(Duration::from_secs(5))
}

fn simulate(plan: &Plan, seed: u64) -> Outcome {
    run(RaftWorld::default(), plan, Origin::Seed(seed), Keep::Outcome)
}

#[test]
fn raft_keeps_its_promises_in_a_data_centre() {
    let mut sum = Tally::default();
    for seed in 0..300 {
        let outcome = simulate(&plan(), seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
        sum.add(&outcome.tally);
    }
    for mark in RaftWorld::default().marks() {
        assert!(sum.marks.contains_key(*mark), "'{mark}' was never seen: {sum:?}");
    }
}
