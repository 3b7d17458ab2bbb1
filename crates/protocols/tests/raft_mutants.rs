//! Planted bugs must be caught by walks; see `mutant.rs` for what they are.
//!
//! Some are too rare for short walks, and are caught by the tests named after their rules: commits
//! of old terms by counting, votes that are counted twice or given before they are durable, reads
//! that join a round, and a change of members before the first commit of a term. Two cost progress
//! only while a link stays broken, and walks end in peace: elections without their guards, and a
//! leader that no quorum hears.

mod raft_world;

use quorate_protocols::consensus::raft::Mutant;
use raft_world::{Faults, World};
use std::panic::{AssertUnwindSafe, catch_unwind};

const WALKS_MAX: u64 = 3_000;

/// The first walk that notices the mutant.
fn caught(mutant: Mutant, faults: Faults) -> Option<u64> {
    (0..WALKS_MAX).find(|seed| {
        let mut world = World::new(faults, *seed, Some(mutant));
        catch_unwind(AssertUnwindSafe(|| {
            world.walk();
            world.recover();
        }))
        .is_err()
    })
}

#[test]
fn walks_catch_every_planted_bug() {
    std::panic::set_hook(Box::new(|_| {})); // thousands of caught panics say nothing new
    let mutants = [
        (Mutant::AckBeforeDurable, Faults::FIXED),
        (Mutant::VoteWithoutPersisting, Faults::FIXED),
        (Mutant::VoteTwice, Faults::FIXED),
        (Mutant::VoteByLength, Faults::FIXED),
        (Mutant::DenialCounted, Faults::FIXED),
        (Mutant::StaleVoteCounted, Faults::CROWD),
        (Mutant::HalfIsQuorum, Faults::FIXED),
        (Mutant::CommitBeyondMatch, Faults::FIXED),
        (Mutant::HeartbeatCommitUncapped, Faults::FIXED),
        (Mutant::ConflictKept, Faults::FIXED),
        (Mutant::TruncatesAlways, Faults::FIXED),
        (Mutant::StaleAppendAccepted, Faults::FIXED),
        (Mutant::StaleAckCounted, Faults::FIXED),
        (Mutant::RestartTruncatesToCommit, Faults::FIXED),
        (Mutant::SnapshotKeepsLog, Faults::FIXED),
        (Mutant::SnapshotFailureForgotten, Faults::FIXED),
        (Mutant::LostAppendForgotten, Faults::FIXED),
        (Mutant::LeaseRead, Faults::ALL),
        (Mutant::TransferNeverEnds, Faults::FIXED),
        (Mutant::JointSkipped, Faults::ALL),
        (Mutant::JointLeftEarly, Faults::ALL),
        (Mutant::ConfigurationForgotten, Faults::ALL),
        (Mutant::ReadWithoutQuorum, Faults::HASTE),
        (Mutant::ReadBeforeOwnCommit, Faults::FIXED),
        (Mutant::ReadAnswerOfFormerLife, Faults::HASTE),
        (Mutant::JointBypassed, Faults::ALL),
        (Mutant::LearnerCounted, Faults::ALL),
        (Mutant::PurgedPrevTruncates, Faults::FIXED),
        (Mutant::MendingVotes, Faults::FIXED),
        (Mutant::VoteForAnyLog, Faults::FIXED),
        (Mutant::ForwardTakenTwice, Faults::FIXED),
        (Mutant::RefusedForwardForgotten, Faults::CRAMPED),
    ];
    let mut escaped = Vec::new();
    for (mutant, faults) in mutants {
        let walk = caught(mutant, faults);
        if walk.is_none() {
            escaped.push(mutant);
        }
    }
    let _ = std::panic::take_hook();
    assert!(escaped.is_empty(), "nothing noticed {escaped:?}");
}
