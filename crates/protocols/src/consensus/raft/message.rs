//! What members say to each other.

use super::interface::Refusal;
use super::lease::Ground;
use super::record::Entry;
use bytes::Bytes;
use quorate_core::{Index, Position, Term};
use std::time::Duration;

/// A message between two members.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Message {
    /// The sender's term when it spoke.
    pub term: Term,
    /// What it said.
    pub body: Body,
}

/// The kinds of messages.
///
/// Source: Ongaro and Ousterhout (2014), figure 2; Ongaro (2014), sections 3.10, 6.4 and 9.6. A
/// heartbeat is a message of its own here, so that neither it nor a read ever waits for a disk.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Body {
    /// Would you vote for me in `campaign`? Changes nothing at the receiver.
    PreVote {
        /// The term in which the sender would campaign.
        campaign: Term,
        /// The end of the sender's log.
        last: Position,
    },
    /// The answer.
    PreVoteReply {
        /// As asked.
        campaign: Term,
        /// Yes or no.
        verdict: Verdict,
    },
    /// Vote for me in the term of this message.
    Vote {
        /// The end of the sender's log.
        last: Position,
        /// What made the sender campaign.
        cause: Cause,
    },
    /// The answer, for the term of this message.
    VoteReply {
        /// Yes or no.
        verdict: Verdict,
    },
    /// Entries after `prev`.
    Append {
        /// The entry before the first of `entries`.
        prev: Position,
        /// Consecutive; empty to probe where the logs agree.
        entries: Vec<Entry>,
        /// The leader's commit index.
        commit: Index,
    },
    /// The sender's log is, durably, the leader's up to `matched`.
    Appended {
        /// Last index that is known to agree.
        matched: Index,
    },
    /// The sender's log has no entry `prev`.
    AppendRejected {
        /// Index of the entry that was looked for.
        prev: Index,
        /// The last entry of the sender's log that could agree: its index is below `prev`, its term
        /// at most that of the entry looked for.
        hint: Position,
    },
    /// I lead. Never waits for a disk.
    Heartbeat {
        /// Grows with each round of heartbeats in a term.
        round: u64,
        /// The leader's commit index, at most what the receiver is known to hold.
        commit: Index,
        /// A quorum answers in this time, nearly always. Unit: whole microseconds travel. Zero: it
        /// was not measured yet.
        pace: Duration,
        /// Promise for so long, from the receipt of this, neither to vote nor to stand. Unit: whole
        /// microseconds travel. Zero: no promise is wanted. See `lease.rs`.
        lease: Duration,
    },
    /// News of the commit index. No answer is expected.
    Committed {
        /// At most what the receiver is known to hold.
        commit: Index,
    },
    /// I heard the heartbeat of this round. Never waits for a disk.
    HeartbeatReply {
        /// As heard.
        round: u64,
        /// What was promised; no longer than was wanted. Zero: nothing.
        promise: Duration,
    },
    /// Commands that were proposed to a follower.
    Forward {
        /// The follower's life, which comes back in the answer.
        life: u64,
        /// Number of this batch of commands in that life.
        batch: u64,
        /// In the order of the proposals.
        commands: Vec<Bytes>,
    },
    /// The leader does not take all of a batch. What stands before is appended; of a batch that is
    /// taken as a whole there is no answer.
    ForwardRefused {
        /// As in the batch.
        life: u64,
        /// As in the batch.
        batch: u64,
        /// Place of the first command that is not taken, and none after it is. From 0.
        first: u32,
        /// The reason.
        why: Refusal,
    },
    /// For the reads that wait here: up to which index must I apply?
    ReadIndex {
        /// The asker's life, which comes back in the answer.
        life: u64,
        /// Number of this question in that life.
        batch: u64,
    },
    /// The answer, confirmed by a quorum, or by what one has promised.
    ReadIndexReply {
        /// As asked.
        life: u64,
        /// As asked.
        batch: u64,
        /// Wait for this index, and what it rests on; or `None` if the leader cannot say.
        read_index: Option<(Index, Ground)>,
    },
    /// Campaign now: leadership is handed to you.
    TimeoutNow,
}

/// Yes or no.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Yes.
    Granted,
    /// No.
    Denied,
}

/// What makes a member campaign.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Cause {
    /// It has not heard of a leader: those who have ignore it.
    Silence,
    /// The leader handed over: nobody needs to protect it.
    Transfer,
}
