//! The catalogue is complete, and says what it must.

use super::{CATALOGUE, ClientMutant, HostMutant, Plant, UNIT_ONLY, case_named, cases};
use crate::time::ClockMutant;
use quorate_protocols::consensus::raft;
use quorate_protocols::detectors;
use quorate_protocols::time::synchronizer;
use quorate_replica::{LessorMutant, ReplicaMutant, store};
use std::collections::BTreeSet;

/// Every bug that can be planted anywhere.
fn plants() -> Vec<Plant> {
    let raft = raft::Mutant::ALL.iter().copied().map(quorate_replica::Plant::Raft);
    let store = store::Mutant::ALL.iter().copied().map(quorate_replica::Plant::Store);
    let lessor = LessorMutant::ALL.iter().copied().map(quorate_replica::Plant::Lessor);
    let replica = ReplicaMutant::ALL.iter().copied().map(quorate_replica::Plant::Replica);
    let parts = raft.chain(store).chain(lessor).chain(replica).map(Plant::Replica);
    let storage = quorate_storage::Mutant::ALL.iter().copied().map(Plant::Storage);
    let watches = quorate_server::watch::Mutant::ALL.iter().copied().map(Plant::Watch);
    let times = synchronizer::Mutant::ALL.iter().copied().map(Plant::Time);
    let clocks = ClockMutant::ALL.iter().copied().map(Plant::Clock);
    let hosts = HostMutant::ALL.iter().copied().map(Plant::Host);
    let clients = ClientMutant::ALL.iter().copied().map(Plant::Client);
    let detectors = detectors::Mutant::ALL.iter().copied().map(Plant::Detector);
    let service = parts.chain(storage).chain(watches).chain(hosts).chain(clients);
    service.chain(times).chain(clocks).chain(detectors).collect()
}

#[test]
fn every_plant_is_in_the_catalogue_or_has_a_reason_not_to_be() {
    for plant in plants() {
        let asked = cases().filter(|case| case.plant == plant).count();
        let excused = UNIT_ONLY.iter().filter(|(unit, _)| *unit == plant).count();
        assert_eq!(asked + excused, 1, "{} is listed {asked} + {excused} times", plant.name());
    }
    assert_eq!(plants().len(), cases().count() + UNIT_ONLY.len());
    assert!(CATALOGUE.len() >= 45, "{} cases", CATALOGUE.len());
}

#[test]
fn names_are_unique_and_made_for_a_command_line() {
    let names: BTreeSet<&str> = plants().into_iter().map(Plant::name).collect();
    assert_eq!(names.len(), plants().len(), "two bugs of one name");
    for name in names {
        let plain = |letter: char| letter.is_ascii_lowercase() || letter == '-';
        assert!(name.chars().all(plain) && !name.starts_with('-'), "{name}");
    }
}

#[test]
fn a_case_is_found_by_its_name_and_another_word_lists_the_names() {
    for case in cases() {
        assert_eq!(case_named(case.name).expect("listed").plant, case.plant);
    }
    let error = case_named("heisenbug").expect_err("no such bug").to_string();
    assert!(error.starts_with("'heisenbug' is no planted bug; there are vote-without"), "{error}");
}

#[test]
fn every_case_says_what_it_breaks_why_and_whence() {
    for case in cases() {
        assert!(case.world.properties().contains(&case.breaks), "{}: {}", case.name, case.breaks);
        assert!(case.what.len() > 10 && case.source.len() > 4, "{}", case.name);
        assert!([3, 4, 5].contains(&case.needs.voters), "{}", case.name);
    }
    assert!(UNIT_ONLY.iter().all(|(_, reason)| reason.len() > 10));
}
