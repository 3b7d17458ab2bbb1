//! The golden transcripts of the failure detectors in `scenarios/`, and the planted bugs that must
//! change them.
//!
//! `UPDATE=1 cargo test -p quorate-protocols --test detectors` records what they do today.

mod detector_story;

use detector_story::{Story, Told};
use quorate_drivers::scenario::{check_folder, play};
use quorate_protocols::detectors::Mutant;
use quorate_protocols::detectors::chen::Chen;
use quorate_protocols::detectors::heartbeat::{Growing, Heartbeats};
use quorate_protocols::detectors::jacobson::Pings;
use quorate_protocols::detectors::perfect::Perfect;
use quorate_protocols::detectors::phi::Phi;
use quorate_protocols::detectors::quorum_ping::QuorumPing;
use quorate_protocols::detectors::swim::Swim;
use quorate_protocols::detectors::traffic::Traffic;
use std::path::{Path, PathBuf};

fn folder(protocol: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(protocol)
}

fn told<P: Told>(protocol: &str, stories: usize) {
    assert_eq!(check_folder::<Story<P>>(&folder(protocol)), stories, "stories of {protocol}");
}

#[test]
fn every_detector_has_its_story() {
    told::<Perfect>("perfect", 1);
    told::<Heartbeats<Growing>>("heartbeat", 1);
    told::<Heartbeats<Chen>>("chen", 1);
    told::<Heartbeats<Phi>>("phi", 1);
    told::<Pings>("jacobson", 1);
    told::<Traffic>("traffic", 1);
    told::<QuorumPing>("quorum_ping", 3);
    told::<Swim>("swim", 1);
}

/// Panics if a bug does not change the story.
fn exposes<P: Told>(story: &str, mutants: &[Mutant]) {
    let path = folder(story).with_extension("txt");
    let script = std::fs::read_to_string(path).expect("a story");
    let honest = play::<Story<P>>(&script).expect("a story that can be told");
    for mutant in mutants {
        let flaw = format!(" mutant={}", mutant.name());
        let flawed = script.replace("\ncluster", &format!("\ncluster{flaw}"));
        assert_ne!(flawed, script, "nothing was planted in {story}");
        // The script may no longer fit what happens.
        if let Ok(told) = play::<Story<P>>(&flawed) {
            let told = told.replace(&flaw, "");
            assert_ne!(told, honest, "{mutant:?} does not show in {story}");
        }
    }
}

#[test]
fn every_planted_bug_changes_a_story() {
    exposes::<Perfect>(
        "perfect/bounds",
        &[Mutant::PerfectHalfBound, Mutant::PerfectSuspicionForgotten],
    );
    exposes::<Heartbeats<Growing>>(
        "heartbeat/mistakes_teach",
        &[Mutant::TimeoutNeverGrows, Mutant::SuspectForEver],
    );
    exposes::<Heartbeats<Chen>>(
        "chen/freshness",
        &[Mutant::ChenMarginLeftOut, Mutant::ChenWindowNeverForgets],
    );
    exposes::<Heartbeats<Phi>>(
        "phi/level",
        &[Mutant::PhiOutageLearned, Mutant::PhiDeviationLeftOut],
    );
    exposes::<Pings>("jacobson/round_trips", &[Mutant::RttOfLastPing, Mutant::RttDeviationLeftOut]);
    exposes::<Traffic>("traffic/talk", &[Mutant::TrafficSilencesAll, Mutant::TrafficBurstLearned]);
    exposes::<QuorumPing>(
        "quorum_ping/split",
        &[Mutant::QuorumSelfUncounted, Mutant::QuorumHalfSuffices, Mutant::QuorumOldAnswerCounted],
    );
    exposes::<Swim>(
        "swim/suspicion",
        &[Mutant::SwimIncarnationIgnored, Mutant::SwimRefutationLeftOut, Mutant::SwimDeadForgotten],
    );
}
