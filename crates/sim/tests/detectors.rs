//! Each detector keeps the promises of its class in its model, breaks them outside, and a planted
//! bug in it is caught.

use quorate_core::{Protocol, SystemModel};
use quorate_drivers::simulate::{Fault, Keep, Origin, Plan, Tally, Violation, run};
use quorate_protocols::detectors::perfect::Perfect;
use quorate_protocols::detectors::swim::Health;
use quorate_sim::detectors::{Kind, swim};
use quorate_sim::mutants::DETECTORS;

/// Runs the seeds; the first violation, and what was seen.
fn campaign(kind: Kind, model: SystemModel, seeds: u64) -> (Option<(u64, Violation)>, Tally) {
    let (subject, plan) = (kind.subject(None), Plan::of(model));
    let mut tally = Tally::default();
    for seed in 0..seeds {
        let outcome = subject.run(&plan, Origin::Seed(seed), Keep::Outcome);
        tally.add(&outcome.tally);
        if let Some(violation) = outcome.violation {
            return (Some((seed, violation)), tally);
        }
    }
    (None, tally)
}

fn entry_model(kind: Kind) -> SystemModel {
    quorate_sim::entry(kind.name()).expect("it is in the registry").model
}

#[test]
fn every_detector_keeps_the_promises_of_its_class() {
    for kind in Kind::ALL {
        let (violation, tally) = campaign(*kind, entry_model(*kind), 40);
        assert_eq!(violation, None, "{kind:?}");
        assert!(tally.delivered > 10_000, "{kind:?} hardly did anything");
    }
}

#[test]
fn eventually_perfect_detectors_err_and_correct_themselves() {
    for kind in [Kind::Heartbeat, Kind::Chen, Kind::Phi, Kind::Jacobson, Kind::Traffic, Kind::Swim]
    {
        let (_, tally) = campaign(kind, SystemModel::DATA_CENTRE, 20);
        for mark in ["a crash was suspected", "a mistake was made", "a mistake was taken back"] {
            assert!(tally.marks.contains_key(mark), "{kind:?}: never seen: {mark}");
        }
    }
}

/// There is no perfect detector where delays have no bound, or messages are lost.
#[test]
fn outside_of_its_model_the_perfect_detector_lies() {
    assert_eq!(campaign(Kind::Perfect, Perfect::MODEL, 40).0, None);
    for model in [
        "network=reliable,node=crash-stop,timing=asynchronous",
        "network=reliable,node=crash-stop,timing=partial",
        "network=fair-loss,node=crash-stop,timing=synchronous",
        "network=reliable,node=crash-recovery,timing=synchronous",
    ] {
        let (violation, _) = campaign(Kind::Perfect, model.parse().expect("a model"), 100);
        let (_, violation) = violation.unwrap_or_else(|| panic!("it held in {model}"));
        assert_eq!(violation.property, "accuracy", "{model}");
    }
}

/// Dadgar, Phillips and Currey 2017: local health makes fewer mistakes where members are slow
/// themselves. Here that is a quarter fewer; most mistakes are about members that stand still.
#[test]
fn lifeguard_makes_fewer_mistakes_among_slow_and_paused_members() {
    let faults = [Fault::SlowNode, Fault::Pause];
    let plan = Plan::of(SystemModel::DATA_CENTRE).with_nodes(5);
    let plan = Plan { all: true, ..plan.with_faults(&faults).expect("faults of a data centre") };
    let mistakes = |health: Health| -> u64 {
        let mistakes = |seed: u64| {
            let outcome = run(swim(None, health), &plan, Origin::Seed(seed), Keep::Outcome);
            assert_eq!(outcome.violation, None, "{health:?}, seed {seed}");
            outcome.tally.marks.get("a mistake was made").copied().unwrap_or_default()
        };
        (0..60).map(mistakes).sum()
    };
    let (plain, lifeguard) = (mistakes(Health::Ignored), mistakes(Health::Lifeguard));
    assert!(plain > 100, "hardly anybody erred");
    assert!(10 * lifeguard <= 9 * plain, "{lifeguard} with Lifeguard, {plain} without");
}

/// The first trap of quorum ping: partial partitions give two majorities.
#[test]
fn quorum_ping_lets_two_write_that_do_not_hear_each_other() {
    let (violation, tally) = campaign(Kind::QuorumPing, SystemModel::DATA_CENTRE, 40);
    assert_eq!(violation, None, "at most one side of a clean split");
    for mark in ["two that do not hear each other both write", "nobody writes"] {
        assert!(tally.marks.contains_key(mark), "never seen: {mark}");
    }
}

#[test]
fn every_planted_bug_is_caught_by_the_property_it_breaks_and_nothing_is_without_it() {
    for case in DETECTORS {
        let (subject, clean, plan) = (case.subject(), case.clean(), case.plan());
        let found = (0..300).find_map(|seed| {
            let outcome = subject.run(&plan, Origin::Seed(seed), Keep::Outcome);
            outcome.violation.map(|violation| (seed, violation))
        });
        let (seed, violation) = found.unwrap_or_else(|| panic!("{} is not caught", case.name));
        assert_eq!(violation.property, case.breaks, "{}: {}", case.name, violation.why);
        for seed in 0..=seed {
            let outcome = clean.run(&plan, Origin::Seed(seed), Keep::Outcome);
            assert_eq!(outcome.violation, None, "{} without it, seed {seed}", case.name);
        }
    }
}
