//! The one way from the API into a replica: bounded queues of typed questions.

use quorate_core::{NodeId, Term};
use quorate_replica::store::{Command, KvError, Outcome, Range, Revision, Txn};

/// A read, answered from one snapshot.
#[derive(Clone, Debug)]
pub enum Read {
    /// A range.
    Range(Range),
    /// A transaction without writes.
    Txn(Txn),
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began.
    Linearizable,
    /// The state of this member, however old.
    Serializable,
}

/// What the store answered, and when.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Revision of the store after a write, or at which a read was served.
    pub revision: Revision,
    /// Term of this member at that moment.
    pub term: Term,
    /// The answer itself.
    pub outcome: Result<Outcome, KvError>,
}

/// Why a request got no answer from the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No leader is known; definite, nothing happened.
    NoLeader,
    /// The leader changed while a read waited; definite.
    LeaderChanged,
    /// Too much is queued; definite.
    TooManyRequests,
    /// This member is stopping; definite for requests not yet sent.
    Stopping,
    /// No answer in time: a write may still happen.
    TimedOut,
    /// No answer in time and the leader was lost meanwhile: a write may still happen.
    TimedOutLeaderLost,
    /// This member's state differs from the quorum's, so it serves nothing.
    Corrupt,
    /// Only the leader can do this.
    NotLeader,
    /// The wanted leader is no voter of this cluster.
    BadTransferee,
    /// A learner does not serve this.
    Learner,
}

impl Refusal {
    /// True if the operation has not happened and never will.
    pub fn is_definite(self) -> bool {
        !matches!(self, Refusal::TimedOut | Refusal::TimedOutLeaderLost | Refusal::Stopping)
    }
}

/// A member of the cluster as clients see it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// True if it does not vote.
    pub is_learner: bool,
}

/// A member's view of itself.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Current term.
    pub term: Term,
    /// Last entry known to be committed.
    pub commit_index: u64,
    /// Last entry applied to the store.
    pub applied_index: u64,
    /// Revision of the store.
    pub revision: Revision,
    /// Bytes on disk: log and checkpoints.
    pub db_size: u64,
    /// Bytes of keys and values that are readable.
    pub db_size_in_use: u64,
    /// True if this member does not vote.
    pub is_learner: bool,
    /// Conditions an operator should know of, one sentence each.
    pub errors: Vec<String>,
}

/// A handle on this process's replica. Cheap to clone; every method may be called from any task.
///
/// Bound: requests in flight are limited; beyond that the answer is [`Refusal::TooManyRequests`].
#[derive(Clone, Debug)]
pub struct Handle {}

#[expect(clippy::unimplemented, reason = "the replica is wired in next")]
impl Handle {
    /// Id of the cluster.
    pub fn cluster_id(&self) -> u64 {
        unimplemented!()
    }

    /// Id of this member.
    pub fn member_id(&self) -> u64 {
        unimplemented!()
    }

    /// Replicates a command and answers with what it did when it was applied here.
    pub async fn write(&self, _command: Command) -> Result<Applied, Refusal> {
        unimplemented!()
    }

    /// Reads one snapshot.
    pub async fn read(&self, _read: Read, _consistency: Consistency) -> Result<Applied, Refusal> {
        unimplemented!()
    }

    /// Returns when this member has applied everything committed before the call.
    pub async fn barrier(&self) -> Result<(), Refusal> {
        unimplemented!()
    }

    /// Hands leadership to `target`; must be asked of the leader.
    pub async fn move_leader(&self, _target: NodeId) -> Result<(), Refusal> {
        unimplemented!()
    }

    /// The members as this one knows them.
    pub fn members(&self) -> Vec<Member> {
        unimplemented!()
    }

    /// This member's view of itself.
    pub fn status(&self) -> Status {
        unimplemented!()
    }
}
