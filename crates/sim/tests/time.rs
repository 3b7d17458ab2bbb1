//! Clocks that are synchronized under the faults of the model, and more liars than may be.

use quorate_core::{Protocol, SystemModel};
use quorate_drivers::simulate::{Keep, Origin, Outcome, Plan, Tally, World, run};
use quorate_protocols::time::synchronizer::Synchronizer;
use quorate_sim::time::TimeWorld;
use std::time::Duration;

fn plan(model: SystemModel) -> Plan {
    Plan::of(model).lasting(Duration::from_secs(10))
}

fn simulate(world: TimeWorld, plan: &Plan, seed: u64) -> Outcome {
    run(world, plan, Origin::Seed(seed), Keep::Outcome)
}

#[test]
fn the_true_time_is_within_the_interval_under_all_faults() {
    let mut sum = Tally::default();
    for model in [Synchronizer::MODEL, SystemModel::DATA_CENTRE] {
        let plan = plan(model);
        for seed in 0..400 {
            let outcome = simulate(TimeWorld::default(), &plan, seed);
            assert_eq!(outcome.violation, None, "{model}, seed {seed}");
            sum.add(&outcome.tally);
        }
    }
    for mark in TimeWorld::default().marks() {
        assert!(sum.marks.contains_key(*mark), "'{mark}' was never seen: {sum:?}");
    }
}

#[test]
fn it_is_so_in_every_stronger_system_and_without_any_bound_on_delays() {
    for network in ["reliable", "fair-loss"] {
        for node in ["crash-stop", "crash-recovery", "byzantine"] {
            for timing in ["synchronous", "partial", "asynchronous"] {
                let model = format!("network={network},node={node},timing={timing}");
                let plan = plan(model.parse().expect("a model"));
                for seed in 0..30 {
                    let outcome = simulate(TimeWorld::default(), &plan, seed);
                    assert_eq!(outcome.violation, None, "{model}, seed {seed}");
                }
            }
        }
    }
}

/// Runs of the long campaign, and the first of them.
fn long_campaign() -> std::ops::Range<u64> {
    let number = |name, otherwise: u64| {
        let word = std::env::var(name).ok();
        word.and_then(|word| word.parse().ok()).unwrap_or(otherwise)
    };
    let first = number("FIRST", 0);
    first..first + number("RUNS", 100_000)
}

/// `RUNS=1000 cargo test --release -p quorate-sim --test time -- --ignored --nocapture`
#[test]
#[ignore = "a hundred thousand runs take minutes"]
fn the_true_time_is_within_the_interval_in_a_hundred_thousand_runs() {
    let plan = plan(Synchronizer::MODEL);
    let (seeds, jobs) = (long_campaign(), 2);
    let share = &|job: u64| {
        let mut sum = Tally::default();
        for seed in seeds.clone().filter(|seed| seed % jobs == job) {
            let outcome = simulate(TimeWorld::default(), &plan, seed);
            assert_eq!(outcome.violation, None, "seed {seed}");
            sum.add(&outcome.tally);
        }
        sum
    };
    let mut sum = Tally::default();
    std::thread::scope(|scope| {
        let shares: Vec<_> = (0..jobs).map(|job| scope.spawn(move || share(job))).collect();
        shares.into_iter().for_each(|share| sum.add(&share.join().expect("no violation")));
    });
    println!("{sum:?}");
}

/// What is promised is promised for `f`: one liar more, and the truth is outvoted.
#[test]
fn one_liar_more_than_may_be_breaks_it() {
    let plan = plan(Synchronizer::MODEL).calm().with_nodes(5);
    for seed in 0..20 {
        let outcome = simulate(TimeWorld::with_too_many_liars(), &plan, seed);
        let violation = outcome.violation.expect("three of five outvote the truth");
        assert_eq!(violation.property, "interval", "seed {seed}: {}", violation.why);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let plan = plan(Synchronizer::MODEL);
    for seed in 0..10 {
        let digest = || simulate(TimeWorld::default(), &plan, seed).digest;
        let here = digest();
        let there = std::thread::scope(|scope| scope.spawn(digest).join().expect("no panic"));
        assert_eq!(there, here, "seed {seed}, in another thread");
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::{TimeWorld, plan, simulate};
    use quorate_core::Protocol;
    use quorate_drivers::simulate::{Keep, Origin, Subject};
    use quorate_protocols::time::synchronizer::{Mutant, Synchronizer};
    use quorate_sim::mutants::{CATALOGUE, WorldName};
    use quorate_sim::time::ClockMutant;
    use std::collections::BTreeSet;

    /// Runs within which each must be caught.
    const RUNS: u64 = 1_000;

    /// The first seed that breaks this property, and what others broke before it.
    fn first(property: &str, world: impl Fn() -> TimeWorld) -> Result<u64, BTreeSet<String>> {
        let plan = plan(Synchronizer::MODEL);
        let mut others = BTreeSet::new();
        for seed in 0..RUNS {
            match simulate(world(), &plan, seed).violation {
                Some(violation) if violation.property == property => return Ok(seed),
                Some(violation) => _ = others.insert(violation.property),
                None => {}
            }
        }
        Err(others)
    }

    #[test]
    fn every_planted_bug_is_caught_by_the_property_that_it_breaks() {
        let mut escaped = Vec::new();
        for mutant in Mutant::ALL {
            let property = match mutant {
                Mutant::FilterInverted => "filter",
                Mutant::UnfitHasVoice => "no-contradiction",
                _ => "interval",
            };
            if let Err(others) = first(property, || TimeWorld::with_mutant(*mutant)) {
                escaped.push((mutant.name(), others));
            }
        }
        assert!(escaped.is_empty(), "not caught, or as something else: {escaped:?}");
    }

    #[test]
    fn a_clock_that_does_not_count_a_suspend_is_caught() {
        for mutant in ClockMutant::ALL {
            let broken = first("interval", || TimeWorld::on_machines_with(*mutant));
            assert!(broken.is_ok(), "{} was not caught: {broken:?}", mutant.name());
        }
    }

    #[test]
    fn every_case_of_the_catalogue_is_found_and_its_world_is_clean_without_it() {
        let cases = CATALOGUE.iter().filter(|case| case.world == WorldName::Time);
        for case in cases {
            let (plan, planted, clean) = (case.plan(), case.subject(), case.clean());
            let breaks = |subject: &dyn Subject, seed| {
                let outcome = subject.run(&plan, Origin::Seed(seed), Keep::Outcome);
                outcome.violation.map(|violation| violation.property)
            };
            let found = (0..RUNS).find_map(|seed| breaks(&*planted, seed));
            assert!(found.is_some(), "{} was not found", case.name);
            for seed in 0..20 {
                assert_eq!(breaks(&*clean, seed), None, "without {}, seed {seed}", case.name);
            }
        }
    }
}
