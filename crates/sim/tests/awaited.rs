//! A system that did not recover says who or what is waited for. The time to recover is cut to
//! nothing here, so that it has not.

use quorate_core::SystemModel;
use quorate_drivers::simulate::{Keep, Origin, Plan, Violation};

fn broken(protocol: &str, seed: u64) -> Option<Violation> {
    let entry = quorate_sim::entry(protocol).expect("it is there");
    let mut plan = Plan::of(SystemModel::DATA_CENTRE);
    plan.liveness = 1;
    let outcome = (entry.make)(&entry.defaults()).run(&plan, Origin::Seed(seed), Keep::Outcome);
    outcome.violation
}

/// What is awaited in any of some runs.
fn awaited(protocol: &str) -> String {
    let broken = (0..60).filter_map(|seed| broken(protocol, seed));
    let liveness: Vec<Violation> = broken.filter(|it| it.property == "liveness").collect();
    assert!(liveness.len() > 6, "{liveness:?}");
    for violation in &liveness {
        assert!(!violation.awaited.is_empty() && violation.awaited.len() <= 17, "{violation:?}");
    }
    liveness.iter().flat_map(|it| &it.awaited).map(|text| format!("{text}\n")).collect()
}

#[test]
fn the_service_names_members_operations_leases_and_watchers() {
    let text = awaited("service");
    for expected in ["n1 does not serve: ", "operation ", "lease ", "watcher "] {
        assert!(text.lines().any(|line| line.starts_with(expected)), "{expected}: {text}");
    }
    assert!(text.contains(" is not answered: ") && text.contains(" of revision "), "{text}");
}

#[test]
fn raft_names_what_is_not_done() {
    let text = awaited("raft");
    assert!(text.contains("no command that was proposed after the faults is committed"), "{text}");
    assert!(text.contains("no read that was asked for after the faults is confirmed"), "{text}");
}
