//! Members come, go and change places in the simulated service, and what was promised of that
//! holds; and each rule of it is needed.
#![cfg(feature = "mutants")]

use quorate_core::Protocol;
use quorate_drivers::simulate::{Keep, Origin, Plan, Tally};
use quorate_protocols::consensus::raft::{self, Raft};
use quorate_sim::mutants::{MutantCase, Plant, WorldName, case_named};
use quorate_sim::{Options, REGISTRY};
use std::time::Duration;

/// Runs within which each planted bug must be caught.
const RUNS: u64 = 600;

fn hold(plan: &Plan, seeds: std::ops::Range<u64>) -> Tally {
    let service = REGISTRY.iter().find(|entry| entry.name == "service").expect("the service");
    let subject = (service.make)(&Options { workload: "members" });
    let mut sum = Tally::default();
    for seed in seeds {
        let outcome = subject.run(plan, Origin::Seed(seed), Keep::Outcome);
        assert_eq!(outcome.violation, None, "seed {seed}");
        sum.add(&outcome.tally);
    }
    sum
}

#[test]
fn members_come_and_go_under_every_fault_and_nothing_is_lost() {
    let plan = Plan::of(Raft::MODEL).lasting(Duration::from_secs(8));
    let sum = hold(&plan.clone().with_nodes(5), 0..600);
    let promoted = "a learner was promoted";
    let witness = "a witness passed over a command";
    for mark in ["a member was removed", "a member is being replaced", promoted, witness] {
        assert!(sum.marks.get(mark).is_some_and(|times| *times > 0), "{mark}: {sum:?}");
    }
    hold(&plan.with_nodes(3), 600..700);
}

fn caught(case: &MutantCase) {
    let (subject, plan) = (case.subject(), case.plan());
    let first = (0..RUNS).find_map(|seed| {
        let violation = subject.run(&plan, Origin::Seed(seed), Keep::Outcome).violation?;
        Some((seed, violation))
    });
    let (seed, violation) = first.unwrap_or_else(|| panic!("{} is not caught", case.name));
    assert!(violation.property == case.breaks, "{}, seed {seed}: {violation:?}", case.name);
    for seed in 0..8 {
        let outcome = case.clean().run(&plan, Origin::Seed(seed), Keep::Outcome);
        assert_eq!(outcome.violation, None, "without {}, seed {seed}", case.name);
    }
}

#[test]
fn each_rule_of_changing_members_is_needed() {
    for name in ["promoted-early", "removal-unsettled", "replaced-stays"] {
        caught(case_named(name).expect("a planted bug"));
    }
}

#[test]
fn each_rule_of_witnesses_is_needed() {
    for name in ["witness-gives-checkpoint", "witness-leads-on"] {
        caught(case_named(name).expect("a planted bug"));
    }
}

/// The campaign of Raft alone hunts these; the service must notice them too.
#[test]
fn a_change_without_its_joint_phase_is_noticed_in_the_service() {
    let like = case_named("promoted-early").expect("a planted bug");
    let plant = Plant::Replica(quorate_replica::Plant::Raft(raft::Mutant::JointSkipped));
    let case = MutantCase { name: "joint-skipped in the service", plant, ..*like };
    assert_eq!(case.world, WorldName::Service);
    caught(&case);
}
