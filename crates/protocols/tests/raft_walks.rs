//! Thousands of short walks through a hostile world; see `raft_world`.

mod raft_world;

use raft_world::{Faults, Tally, World};

/// How many times as many walks as usual; for a long search, with `--release`.
fn factor() -> u64 {
    std::env::var("QUORATE_WALKS_FACTOR").map_or(1, |text| text.parse().expect("a number"))
}

fn walks(faults: Faults, seeds: std::ops::Range<u64>) -> Tally {
    let mut sum = Tally::default();
    for seed in seeds.start..seeds.end * factor() {
        let mut world = World::new(faults, seed, None);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.walk();
            world.recover();
        }));
        if outcome.is_err() {
            panic!("seed {seed} of {faults:?} fails: {}", world.describe());
        }
        let tally = world.tally;
        sum.committed += tally.committed;
        sum.reads += tally.reads;
        sum.elections += tally.elections;
        sum.states_sent += tally.states_sent;
        sum.mended += tally.mended;
        sum.changes += tally.changes;
        sum.transfers += tally.transfers;
        sum.damages += tally.damages;
        sum.replaced += tally.replaced;
        sum.refused += tally.refused;
        sum.forwards_refused += tally.forwards_refused;
        sum.forwards_doubled += tally.forwards_doubled;
    }
    sum
}

#[test]
fn three_members_survive_everything_that_the_model_allows() {
    let sum = walks(Faults::FIXED, 0..800);
    assert!(sum.committed > 800 * 5, "{sum:?}");
    assert!(sum.reads > 800 * 5, "{sum:?}");
    assert!(sum.mended > 50, "{sum:?}");
    assert!(sum.states_sent > 20 && sum.replaced > 20, "{sum:?}");
}

#[test]
fn members_come_and_go_while_everything_fails() {
    let sum = walks(Faults::ALL, 0..800);
    assert!(sum.committed > 800 * 5, "{sum:?}");
    assert!(sum.reads > 800 * 5, "{sum:?}");
    assert!(sum.changes > 600, "{sum:?}");
    assert!(sum.transfers > 60, "{sum:?}");
}

#[test]
fn elections_in_haste_are_safe() {
    for faults in [Faults::HASTE, Faults::CROWD] {
        let sum = walks(faults, 0..500);
        assert!(sum.elections > 500, "{sum:?}");
        assert!(sum.committed > 500 * 5, "{sum:?}");
        assert!(sum.reads > 500, "{sum:?}");
    }
}

#[test]
fn what_is_proposed_once_is_applied_once_or_refused() {
    let sum = walks(Faults::CRAMPED, 0..500);
    assert!(sum.committed > 500 * 5, "{sum:?}");
    assert!(sum.forwards_doubled > 500 && sum.forwards_refused > 500, "{sum:?}");
    assert!(sum.refused > sum.forwards_refused, "{sum:?}");
}

#[test]
fn rare_paths_are_safe() {
    let sum = walks(Faults::BUGGIFIED, 0..500);
    assert!(sum.committed > 500 * 5, "{sum:?}");
    assert!(sum.reads > 500 * 5, "{sum:?}");
    assert!(sum.states_sent > 500, "{sum:?}");
}

#[test]
fn the_same_seed_takes_the_same_walk() {
    for seed in 0..20 {
        let run = || {
            let mut world = World::new(Faults::ALL, seed, None);
            world.walk();
            world.trace
        };
        assert_eq!(run(), run());
    }
}
