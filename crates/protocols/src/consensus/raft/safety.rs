//! What must hold across the members of a cluster at every moment.
//!
//! Source: paper, figure 3.

use super::{Raft, Role};
use quorate_core::{Index, Position};

/// Panics if the members contradict each other: the four safety properties of the paper, as far as
/// the present states show them.
pub fn safety(nodes: &[&Raft]) {
    for (at, one) in nodes.iter().enumerate() {
        for other in &nodes[at + 1..] {
            election_safety(one, other);
            log_matching(one, other);
            state_machine_safety(one, other);
            leader_completeness(one, other);
            leader_completeness(other, one);
        }
    }
}

/// At most one leader in a term.
fn election_safety(one: &Raft, other: &Raft) {
    let both_lead = one.is_leader() && other.is_leader();
    assert!(
        !(both_lead && one.term == other.term),
        "election safety: {} and {} lead in term {}",
        one.id(),
        other.id(),
        one.term
    );
}

/// The indices which both logs hold, or have at their base.
fn shared(one: &Raft, other: &Raft) -> std::ops::RangeInclusive<u64> {
    let first = one.base().index.max(other.base().index);
    let last = one.last().index.min(other.last().index);
    first.0..=last.0
}

/// Logs that share a position agree up to it.
fn log_matching(one: &Raft, other: &Raft) {
    let mut shares = false;
    for index in shared(one, other).rev().map(Index) {
        shares |= one.log.term_at(index) == other.log.term_at(index);
        let (mine, theirs) = (one.log.entry(index), other.log.entry(index));
        let same = match (mine, theirs) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => one.log.term_at(index) == other.log.term_at(index),
        };
        assert!(
            same || !shares,
            "log matching: {} and {} differ at {index} below a common entry",
            one.id(),
            other.id()
        );
    }
}

/// What two members have committed is the same.
fn state_machine_safety(one: &Raft, other: &Raft) {
    let committed = one.commit.min(other.commit);
    for index in shared(one, other).map(Index).filter(|index| *index <= committed) {
        let same = match (one.log.entry(index), other.log.entry(index)) {
            (Some(mine), Some(theirs)) => mine == theirs,
            _ => one.log.term_at(index) == other.log.term_at(index),
        };
        assert!(
            same,
            "state machine safety: {} and {} committed different entries at {index}",
            one.id(),
            other.id()
        );
    }
}

/// A leader holds what was committed in earlier terms.
fn leader_completeness(leader: &Raft, other: &Raft) {
    if !matches!(leader.role, Role::Leader(_)) || leader.term < other.term {
        return;
    }
    let Some(term) = other.log.term_at(other.commit) else { return };
    let committed = Position { term, index: other.commit };
    assert!(
        committed.index <= leader.base().index || leader.log.contains(committed),
        "leader completeness: {} leads in term {} without {committed}, which {} has committed",
        leader.id(),
        leader.term,
        other.id()
    );
}
