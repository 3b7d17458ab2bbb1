//! The golden transcripts in `scenarios/`: what each protocol does, told as stories.
//!
//! `UPDATE=1 cargo test -p quorate-protocols --test scenarios` records what they do today. Each
//! planted bug must change a story, or break an invariant while it is told: else nothing here would
//! show whoever makes that mistake.

mod raft_story;
mod time_story;

use quorate_drivers::scenario::{check_folder, play};
use quorate_protocols::consensus::raft::Mutant;
use raft_story::RaftStory;
use raft_story::flawed::FlawedStory;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use time_story::{BerkeleyStory, CristianStory, TimeStory};

fn folder(protocol: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(protocol)
}

#[test]
fn raft() {
    let stories = check_folder::<RaftStory>(&folder("raft"));
    assert!(stories >= 15, "only {stories} stories were found");
}

#[test]
fn physical_time() {
    assert!(check_folder::<TimeStory>(&folder("time")) >= 6);
    assert!(check_folder::<CristianStory>(&folder("cristian")) >= 1);
    assert!(check_folder::<BerkeleyStory>(&folder("berkeley")) >= 1);
}

/// Where each mistake of a synchronizer shows.
const SHOWN_BY: &[(&str, &str)] = &[
    ("dispersion-left-out", "exchange"),
    ("delay-ignored", "exchange"),
    ("stale-reading-served", "outvoted"),
    ("answer-of-any-question", "old_answers"),
];

#[test]
fn every_planted_bug_of_a_synchronizer_changes_a_story() {
    for (mutant, story) in SHOWN_BY {
        let path = folder("time").join(format!("{story}.txt"));
        let script = std::fs::read_to_string(&path).expect("a story");
        let flaw = format!(" mutant={mutant}");
        let flawed = script.replace("\ncluster", &format!("\ncluster{flaw}"));
        assert_ne!(flawed, script, "nothing was planted in {story}");
        if let Ok(told) = play::<TimeStory>(&flawed) {
            assert_ne!(told.replace(&flaw, ""), script, "{mutant} does not show in {story}");
        }
    }
}

/// Where each mistake shows, at least.
const EXPOSED_BY: &[(Mutant, &str)] = &[
    (Mutant::AckBeforeDurable, "async_durability"),
    (Mutant::VoteWithoutPersisting, "election"),
    (Mutant::VoteTwice, "split_vote"),
    (Mutant::CommitOldTerms, "figure_8"),
    (Mutant::ReadWithoutQuorum, "read_index"),
    (Mutant::ReadBeforeOwnCommit, "read_index"),
    (Mutant::ReadAnswerOfFormerLife, "read_index"),
    (Mutant::DuplicateVotesCounted, "split_vote"),
    (Mutant::JointBypassed, "membership"),
    (Mutant::LearnerCounted, "learner"),
    (Mutant::PurgedPrevTruncates, "snapshot"),
    (Mutant::MendingVotes, "mending"),
    (Mutant::ReconfigureEarly, "membership"),
    (Mutant::VoteForAnyLog, "log_conflict"),
    (Mutant::ForwardTakenTwice, "forwarding"),
    (Mutant::RefusedForwardForgotten, "forwarding"),
    (Mutant::PromiseYieldsToEvidence, "lease"),
    (Mutant::LeaseOutlivesTransfer, "lease"),
];

#[test]
fn every_planted_bug_changes_a_story() {
    for (mutant, story) in EXPOSED_BY {
        let path = folder("raft").join(format!("{story}.txt"));
        let script = std::fs::read_to_string(&path).expect("a story");
        let honest = play::<FlawedStory>(&script).expect("a story that can be told");
        let flaw = format!(" mutant={mutant:?}");
        let flawed = script
            .replace("\ncluster", &format!("\ncluster{flaw}"))
            .replace("\nnode n4", &format!("\nnode n4{flaw}"));
        assert_ne!(flawed, script, "nothing was planted in {story}");
        // Telling it may also break an invariant, or the script no longer fits what happens.
        let told = catch_unwind(AssertUnwindSafe(|| play::<FlawedStory>(&flawed)));
        if let Ok(Ok(told)) = told {
            assert_ne!(told.replace(&flaw, ""), honest, "{mutant:?} does not show in {story}");
        }
    }
}

#[test]
fn the_stories_of_a_member_without_a_bug_are_the_same_in_a_wrapper() {
    let path = folder("raft").join("election.txt");
    let script = std::fs::read_to_string(path).expect("a story");
    let sorted = |told: String| {
        let mut lines: Vec<String> = told.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let wrapped = play::<FlawedStory>(&script).expect("a story that can be told");
    let plain = play::<RaftStory>(&script).expect("a story that can be told");
    assert_eq!(sorted(wrapped), sorted(plain), "a wrapper only moves indications back");
}
