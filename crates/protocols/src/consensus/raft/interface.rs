//! What the layer above knows of Raft: configuration, requests and indications.

use super::lease::{Ground, LeaseTerms};
use super::membership::Configuration;
use super::record::Entry;
use bytes::Bytes;
use quorate_core::{Buggify, Index, NodeId, Position, Term, Time};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a member knows before its first event.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// The members of the cluster, until the log holds a configuration.
    pub configuration: Configuration,
    /// Time between two heartbeats of a leader. Range: well below the election timeout.
    pub heartbeat_interval: Duration,
    /// Silence of the leader after which a member campaigns at the latest, drawn from `t..2t`.
    pub election_timeout: Duration,
    /// The same at the earliest: in between, a member waits as long as what it has measured of
    /// the leader's silences and of the cluster's pace says. The same value makes it fixed.
    pub election_timeout_min: Duration,
    /// Somebody who knows that the leader's process has ended campaigns after a time below this.
    pub suspicion_spread: Duration,
    /// Bytes of entries in one append message (at least one entry travels) and in one
    /// [`Indication::Committed`].
    pub append_bytes_max: usize,
    /// Bytes of appends on their way to one follower; beyond it the leader waits for an answer.
    pub inflight_bytes_max: usize,
    /// Appends on their way to one follower; beyond it the leader waits for an answer.
    pub inflight_max: usize,
    /// Bytes of proposals that are not yet committed; beyond it proposals are refused.
    pub uncommitted_bytes_max: usize,
    /// News of the commit index may wait so long for an append that brings them, unless the
    /// follower waits for an entry which it forwarded itself. Zero: they leave at once.
    pub news_delay: Duration,
    /// Reads may rest on promises and clocks. None: each takes a round, and this member promises
    /// nothing.
    pub lease_reads: Option<LeaseTerms>,
    /// Whether rare paths are taken on purpose: under simulation only.
    pub buggify: Buggify,
}

impl Config {
    /// Usual settings for one member of a cluster in one data centre.
    pub fn new(id: NodeId, configuration: Configuration) -> Config {
        Config {
            id,
            configuration,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1_000),
            election_timeout_min: Duration::from_millis(1_000),
            suspicion_spread: Duration::from_millis(50),
            append_bytes_max: 1 << 20,
            inflight_bytes_max: 16 << 20,
            inflight_max: 256,
            uncommitted_bytes_max: 64 << 20,
            news_delay: Duration::ZERO,
            lease_reads: None,
            buggify: Buggify::Off,
        }
    }
}

/// Alarms of a member.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// A follower has not heard of a leader; a leader asks itself whether a quorum still hears it.
    Election,
    /// A leader speaks to its followers.
    Heartbeat,
    /// A transfer of leadership has taken too long.
    Transfer,
    /// News of the commit index have waited long enough.
    News,
}

/// What the layer above may ask.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Request {
    /// Append a command to the replicated log. A leader appends it, a follower that knows the
    /// leader forwards it, anybody else answers [`Indication::Refused`].
    ///
    /// A forwarded command may be lost on its way, or the leader's refusal of it: whoever proposes
    /// must give up after a while, and then does not know the outcome.
    Propose {
        /// Opaque to Raft, and shared: never copied between disk, peers and apply.
        command: Bytes,
    },
    /// Ask up to which index a state must be applied so that reading it is linearizable.
    Read {
        /// Chosen by the asker; comes back in the answer.
        ticket: u64,
    },
    /// The same for a decision that must not rest on clocks: a round is taken in any case, unless
    /// another member leads and answers by its lease.
    Confirm {
        /// As for [`Request::Read`].
        ticket: u64,
    },
    /// The rate of this member's clock is known to keep its bound, until an instant of that clock;
    /// an instant that is over says that it is not known any longer. Until this is said reads do
    /// not rest on it.
    TrustClock {
        /// For how long this may be believed without being said again.
        until: Time,
    },
    /// Hand leadership to a voter. Ends with [`Indication::TransferEnded`].
    TransferLeadership {
        /// The wanted leader.
        to: NodeId,
    },
    /// Change the members by joint consensus.
    Reconfigure {
        /// Who votes in the end. Range: not empty.
        voters: BTreeSet<NodeId>,
        /// Who only listens in the end. Range: none of the voters.
        learners: BTreeSet<NodeId>,
    },
    /// Drop entries at or below `upto` from memory: the layer above holds, durably, a state that
    /// covers them. Indices that are not committed are not dropped.
    Compact {
        /// Last index to drop.
        upto: Index,
    },
    /// Drop entries at or below `upto` from memory only. The records stay, so nothing is asked of
    /// the layer above; a follower that needs such an entry is sent a state instead. Indices that
    /// are not committed are not dropped.
    Forget {
        /// Last index to drop.
        upto: Index,
    },
    /// The layer above has received and durably stored the state as of `position`.
    Installed {
        /// The last entry which that state covers.
        position: Position,
        /// The configuration as of that entry.
        configuration: Configuration,
    },
    /// The follower which a [`Indication::SnapshotWanted`] named holds the state as of `position`.
    SnapshotSent {
        /// The follower.
        to: NodeId,
        /// What it now holds.
        position: Position,
    },
    /// There is evidence that the process of `peer` has ended: silence need not be waited for. A
    /// wrong one costs an election at most.
    Suspect {
        /// The member.
        peer: NodeId,
    },
    /// The follower which a [`Indication::SnapshotWanted`] named could not be served.
    SnapshotFailed {
        /// The follower.
        to: NodeId,
    },
}

/// Why a command was not accepted. Definite: it has not been appended and never will be.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// No leader is known here.
    NoLeader,
    /// Too many bytes wait to be committed or forwarded.
    Overloaded,
    /// The leader is handing over.
    Transferring,
}

/// Why a change of members was not begun.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ReconfigureRefusal {
    /// Only the leader can begin one.
    NotLeader,
    /// The leader has not yet committed an entry of its own term; try again soon.
    NotReady,
    /// Another change is under way.
    InProgress,
    /// The leader is handing over.
    Transferring,
    /// The target has no voter, or a member that both votes and only listens.
    Malformed,
    /// The target is the present configuration.
    Unchanged,
}

/// What a member does at present.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RoleName {
    /// Follows, and votes.
    Follower,
    /// Asks whether it could win an election.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
    /// Follows, without a vote in its own configuration.
    Learner,
}

/// How firm a configuration is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Standing {
    /// In force here, but it may still be rolled back.
    Adopted,
    /// Never rolled back.
    Committed,
}

/// How a transfer of leadership ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TransferOutcome {
    /// The wanted leader leads.
    Completed,
    /// It does not: not a voter, too slow, or somebody else leads.
    Aborted,
}

/// What Raft tells the layer above.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Indication {
    /// Entries that are chosen for ever: in order, each exactly once per life, starting after
    /// [`super::Raft::base`] as it was restored (or after the last [`Request::Installed`]).
    Committed {
        /// Shared payloads; the sum of their bytes is bounded by [`Config::append_bytes_max`]
        /// unless a single entry is longer.
        entries: Vec<Entry>,
    },
    /// The role, the term or the known leader has changed.
    RoleChanged {
        /// New role.
        role: RoleName,
        /// New term.
        term: Term,
        /// Whom this member takes for the leader.
        leader: Option<NodeId>,
    },
    /// A command was not accepted. Definite.
    Refused {
        /// The command, as it was proposed here.
        command: Bytes,
        /// The reason.
        why: Refusal,
    },
    /// A read may be served once the entry at `read_index` is applied.
    ReadReady {
        /// As asked.
        ticket: u64,
        /// Wait for this index.
        read_index: Index,
        /// What it rests on.
        ground: Ground,
    },
    /// A read cannot be confirmed: no leader, a change of leader, or too many waiting.
    ReadRefused {
        /// As asked.
        ticket: u64,
    },
    /// A follower needs entries which the log no longer holds. Told once per follower, until
    /// [`Request::SnapshotSent`] or [`Request::SnapshotFailed`].
    SnapshotWanted {
        /// The follower.
        by: NodeId,
    },
    /// Another configuration is in force (also after a roll-back), or the one in force is
    /// committed.
    Configured {
        /// The configuration in force.
        configuration: Configuration,
        /// How firm it is.
        standing: Standing,
    },
    /// A change of members was not begun. Definite.
    ReconfigureRefused {
        /// The reason.
        why: ReconfigureRefusal,
    },
    /// A transfer of leadership has ended.
    TransferEnded {
        /// The wanted leader.
        to: NodeId,
        /// How it ended.
        outcome: TransferOutcome,
    },
    /// This member is no longer part of the cluster.
    Removed,
}
