//! Fences and named requests under every fault: no former holder of a lock writes, nothing that is
//! asked again happens twice; and each rule of the store is needed.

use quorate_core::Protocol;
use quorate_drivers::simulate::{Keep, Origin, Plan, Tally, run};
use quorate_replica::Replica;
use quorate_sim::service::{Options, Service, Workload};
use std::time::Duration;

const FENCED: &str = "a write of a former holder was fenced";
const ASKED_AGAIN: &str = "a request was asked again and told its first answer";

#[test]
fn locks_fence_and_named_requests_happen_once_whatever_goes_wrong() {
    let plan = Plan::of(Replica::MODEL).lasting(Duration::from_secs(12));
    let mut sum = Tally::default();
    for seed in 0..150 {
        let options = Options { workload: Workload::Lock, ..Options::default() };
        let outcome = run(Service::new(options), &plan, Origin::Seed(seed), Keep::Outcome);
        assert_eq!(outcome.violation, None, "seed {seed}");
        sum.add(&outcome.tally);
    }
    let seen = |mark| sum.marks.get(mark).copied().unwrap_or(0);
    assert!(seen(FENCED) > 5 && seen(ASKED_AGAIN) > 10, "{:?}", sum.marks);
}

#[cfg(feature = "mutants")]
mod planted {
    use super::{Keep, Origin};
    use quorate_sim::mutants::GUARDS;

    /// The runs within which each must be caught: many times as many as it took.
    const RUNS: u64 = 400;

    #[test]
    fn each_rule_of_a_guard_is_needed() {
        let mut missed = Vec::new();
        for case in GUARDS {
            let plan = case.plan();
            let subject = case.subject();
            let caught = (0..RUNS).find_map(|seed| {
                let outcome = subject.run(&plan, Origin::Seed(seed), Keep::Outcome);
                outcome.violation.map(|violation| (seed, violation))
            });
            match caught {
                Some((_, violation)) if violation.property == case.breaks => {}
                other => missed.push((case.name, other)),
            }
            let clean = case.clean();
            for seed in 0..10 {
                let outcome = clean.run(&plan, Origin::Seed(seed), Keep::Outcome);
                assert_eq!(outcome.violation, None, "{} without its bug, {seed}", case.name);
            }
        }
        assert!(missed.is_empty(), "not caught, or as something else: {missed:#?}");
    }
}
