//! Reads that rest on promises and clocks: none is stale while clocks keep their bound, nor when
//! they break it and the trust in them is withdrawn; and each rule of a lease is needed.

use quorate_core::{Protocol, SystemModel};
use quorate_drivers::simulate::{Fault, Keep, Origin, Plan, Tally, run};
use quorate_protocols::consensus::raft::Raft;
use quorate_sim::raft::RaftWorld;
use std::time::Duration;

const LASTING: Duration = Duration::from_secs(5);
const BY_LEASE: &str = "a read rests on a lease";

/// Clocks that break every bound, in members that never stand still.
fn wild_clocks() -> Plan {
    let faults = [
        Fault::WildDrift,
        Fault::Freeze,
        Fault::StepForward,
        Fault::StepBack,
        Fault::LeapSecond,
        Fault::IsolateLeader,
        Fault::Partition,
        Fault::Loss,
    ];
    let plan = Plan::of(SystemModel::DATA_CENTRE).with_faults(&faults).expect("faults of it");
    Plan { all: true, ..plan.lasting(LASTING) }
}

fn hold(world: fn() -> RaftWorld, plan: &Plan, seeds: std::ops::Range<u64>) -> Tally {
    let mut sum = Tally::default();
    for seed in seeds {
        let outcome = run(world(), plan, Origin::Seed(seed), Keep::Outcome);
        assert_eq!(outcome.violation, None, "seed {seed}");
        sum.add(&outcome.tally);
    }
    sum
}

#[test]
fn reads_hold_on_clocks_that_keep_their_bound_whatever_else_goes_wrong() {
    let sum = hold(RaftWorld::on_kept_clocks, &Plan::of(Raft::MODEL).lasting(LASTING), 0..300);
    assert!(sum.marks[BY_LEASE] > 10_000, "{sum:?}");
}

#[test]
fn reads_hold_on_clocks_that_break_every_bound_if_somebody_sees_it_in_time() {
    let sum = hold(RaftWorld::on_watched_clocks, &wild_clocks(), 0..300);
    assert!(sum.marks[BY_LEASE] > 1_000, "{sum:?}");
}

#[cfg(feature = "mutants")]
mod planted {
    use super::{Keep, Origin, RaftWorld, run, wild_clocks};
    use quorate_sim::mutants::{HostMutant, case_named};

    /// Each, and the runs within which it must be caught: some five times as many as it took.
    const CAUGHT: &[(&str, u64)] = &[
        ("lease-margin-forgotten", 1_200),
        ("lease-from-answer", 1_200),
        ("promise-forgotten", 5_000),
        ("promise-yields-to-evidence", 100),
        ("lease-outlives-transfer", 200),
        ("lease-on-wall-clock", 100),
        ("lease-clock-stops", 100),
        ("clock-monitor-blind", 1_000),
    ];

    #[test]
    fn each_rule_of_a_lease_is_needed() {
        let mut missed = Vec::new();
        for (name, runs) in CAUGHT {
            let case = case_named(name).expect("a planted bug");
            let (subject, plan) = (case.subject(), case.plan());
            let first = (0..*runs)
                .find_map(|seed| subject.run(&plan, Origin::Seed(seed), Keep::Outcome).violation);
            match first {
                Some(violation) if violation.property == case.breaks => {}
                other => missed.push((name, other)),
            }
        }
        assert!(missed.is_empty(), "not caught, or as something else: {missed:#?}");
    }

    /// The same runs as those which hold, but that nobody sees what the clocks do.
    #[test]
    fn a_clock_beyond_its_bound_breaks_reads_if_it_is_trusted() {
        let found = (0..300).any(|seed| {
            let world = RaftWorld::on_hosts_with(HostMutant::ClockMonitorBlind);
            let outcome = run(world, &wild_clocks(), Origin::Seed(seed), Keep::Outcome);
            outcome.violation.is_some_and(|violation| violation.property == "linearizable-reads")
        });
        assert!(found, "nothing was broken");
    }
}
