//! What the judges of the service must notice: bugs that a client could see and that the service
//! could hide from a judge who is too kind. Each is planted, and hunted as `quorate sim --mutants`
//! does it; without it the same runs hold.
#![cfg(feature = "mutants")]

use quorate_drivers::simulate::{Keep, Origin};
use quorate_sim::mutants::case_named;

/// Runs within which each must be caught.
const RUNS: u64 = 400;

/// Runs that must hold without it.
const CLEAN_RUNS: u64 = 10;

/// Each, and the property by which it is caught.
const CAUGHT: &[(&str, &str)] = &[
    // A lease that lives is not gone, and one that ends takes all its keys with it.
    ("living-is-gone", "lease"),
    ("key-outlives-lease", "lease"),
    ("revoke-miscounted", "lease"),
    ("key-stays-attached", "lease"),
    // Refusals follow from the state, and so does their absence.
    ("oldest-refused", "mvcc"),
    ("future-served", "mvcc"),
    ("compaction-goes-back", "mvcc"),
    // What was told is never untold.
    ("stale-copy", "monotone-revisions"),
    // A watcher is told all of what it asked for, and no more.
    ("watch-compaction-invented", "watch"),
    ("watch-cancel-ignored", "watch"),
    ("watch-prev-forgotten", "watch"),
    ("watch-delete-as-put", "watch"),
    ("watch-filter-inverted", "watch"),
    ("watch-revision-split", "watch"),
];

#[test]
fn each_judge_notices_what_it_is_there_for() {
    let mut missed = Vec::new();
    for (name, property) in CAUGHT {
        let case = case_named(name).expect("a planted bug");
        let (subject, plan) = (case.subject(), case.plan());
        let first = (0..RUNS).find_map(|seed| {
            let violation = subject.run(&plan, Origin::Seed(seed), Keep::Outcome).violation?;
            Some((seed, violation))
        });
        match first {
            Some((_, violation)) if violation.property == *property => {}
            other => missed.push((name, other)),
        }
        for seed in 0..CLEAN_RUNS {
            let outcome = case.clean().run(&plan, Origin::Seed(seed), Keep::Outcome);
            assert_eq!(outcome.violation, None, "without {name}, seed {seed}");
        }
    }
    assert!(missed.is_empty(), "not caught, or as something else: {missed:#?}");
}
