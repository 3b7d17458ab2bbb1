//! Raft under the faults of a data centre, and outside of its model.

use quorate_core::{Protocol, SystemModel};
use quorate_drivers::simulate::{Keep, Origin, Outcome, Plan, Tally, World, run};
use quorate_protocols::consensus::raft::Raft;
use quorate_sim::raft::{PROPERTIES, RaftWorld};
use std::collections::BTreeMap;
use std::time::Duration;

fn plan(model: SystemModel) -> Plan {
    Plan::of(model).lasting(Duration::from_secs(5))
}

fn simulate(world: RaftWorld, plan: &Plan, seed: u64) -> Outcome {
    run(world, plan, Origin::Seed(seed), Keep::Outcome)
}

#[test]
fn raft_keeps_its_promises_in_a_data_centre() {
    let plan = plan(Raft::MODEL);
    let mut sum = Tally::default();
    for seed in 0..300 {
        let outcome = simulate(RaftWorld::default(), &plan, seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
        sum.add(&outcome.tally);
    }
    for mark in RaftWorld::default().marks() {
        assert!(sum.marks.contains_key(*mark), "'{mark}' was never seen: {sum:?}");
    }
}

#[test]
fn raft_keeps_its_promises_in_every_stronger_system() {
    for network in ["reliable", "fair-loss"] {
        for node in ["crash-stop", "crash-recovery"] {
            for timing in ["synchronous", "partial"] {
                let model = format!("network={network},node={node},timing={timing}");
                let plan = plan(model.parse().expect("a model"));
                for seed in 0..30 {
                    let outcome = simulate(RaftWorld::default(), &plan, seed);
                    assert_eq!(outcome.violation, None, "{model}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn safety_needs_no_clock() {
    let plan = plan("timing=asynchronous".parse().expect("a model"));
    for seed in 0..60 {
        let outcome = simulate(RaftWorld::default(), &plan, seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

/// Raft claims nothing there. That its world finds contradictions shows that lies arrive.
#[test]
fn outside_of_its_model_raft_runs_and_breaks() {
    for model in ["network=arbitrary", "node=byzantine"] {
        let plan = plan(model.parse().expect("a model"));
        let mut broken: BTreeMap<String, u64> = BTreeMap::new();
        for seed in 0..60 {
            if let Some(violation) = simulate(RaftWorld::default(), &plan, seed).violation {
                *broken.entry(violation.property).or_default() += 1;
            }
        }
        let known = broken.keys().all(|property| PROPERTIES.contains(&property.as_str()));
        assert!(known, "a property without an entry: {broken:?}");
        let unsafe_ones = broken.keys().filter(|property| *property != "liveness").count();
        assert!(unsafe_ones > 0, "{model} broke {broken:?} only");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let plan = plan(Raft::MODEL);
    for seed in 0..10 {
        let digest = || simulate(RaftWorld::default(), &plan, seed).digest;
        let here = digest();
        assert_eq!(digest(), here, "seed {seed}");
        let there = std::thread::scope(|scope| scope.spawn(digest).join().expect("no panic"));
        assert_eq!(there, here, "seed {seed}, in another thread");
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::{RaftWorld, plan, simulate};
    use quorate_core::Protocol;
    use quorate_protocols::consensus::raft::{Mutant, Raft};

    /// Runs within which each must be caught.
    const RUNS: u64 = 3_000;

    /// Each, and the properties that it may break first.
    const CAUGHT: &[(Mutant, &[&str])] = &[
        (Mutant::AckBeforeDurable, &["acknowledged-durable"]),
        (Mutant::VoteWithoutPersisting, &["election-safety", "recovery"]),
        (Mutant::VoteTwice, &["election-safety"]),
        (Mutant::ReadWithoutQuorum, &["linearizable-reads"]),
        (Mutant::ReadBeforeOwnCommit, &["linearizable-reads"]),
        (Mutant::ReadAnswerOfFormerLife, &["linearizable-reads"]),
        (Mutant::JointBypassed, &["acknowledged-durable", "leader-completeness"]),
        (Mutant::LearnerCounted, &["acknowledged-durable", "liveness"]),
        (Mutant::PurgedPrevTruncates, &["committed-in-order"]),
        (Mutant::MendingVotes, &["leader-completeness"]),
        // A member that lost its vote to a damaged byte relies on the same rule not to vote twice.
        (Mutant::VoteForAnyLog, &["leader-completeness", "election-safety"]),
        (Mutant::ForwardTakenTwice, &["applied-once", "refused-never-applied"]),
        (Mutant::RefusedForwardForgotten, &["refused-never-applied"]),
    ];

    #[test]
    fn every_planted_bug_that_walks_catch_is_caught() {
        let plan = plan(Raft::MODEL);
        let mut escaped = Vec::new();
        for (mutant, properties) in CAUGHT {
            let first = (0..RUNS).find_map(|seed| {
                let outcome = simulate(RaftWorld::with_mutant(*mutant), &plan, seed);
                outcome.violation.map(|violation| (seed, violation))
            });
            match first {
                Some((_, violation)) if properties.contains(&violation.property.as_str()) => {}
                other => escaped.push((mutant, other)),
            }
        }
        assert!(escaped.is_empty(), "not caught, or as something else: {escaped:#?}");
    }
}
