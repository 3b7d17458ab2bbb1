//! What clients ask of the store and what it answers, in etcd's terms but typed.

use super::lease::{Countdown, LeaseName, LeaseTime};
use super::{Alarm, AlarmAction, AuthCommand, AuthError, Denied};
use super::{LimitCommand, LimitError, QuotaKind};
use bytes::Bytes;
use std::sync::Arc;

/// A point in the history of the store: every write moves it by one.
///
/// Range: an empty store is at 1; 0 in a request means "the latest".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Revision {
        Revision(self.0 + 1)
    }
}

/// One key at one revision.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeyValue {
    /// The key. Never empty.
    pub key: Bytes,
    /// The value; empty where a request asked for keys only.
    pub value: Bytes,
    /// Revision at which the key came to life.
    pub create_revision: Revision,
    /// Revision of the last write.
    pub mod_revision: Revision,
    /// Writes since the key came to life; the creation is 1.
    pub version: u64,
    /// The lease that the key is attached to; 0 is none.
    pub lease: i64,
}

/// The keys that a request speaks of: `[key, end)` in etcd's convention.
///
/// `range_end` empty: the one key. `range_end` = `"\0"`: every key from `key` on. Both `"\0"`:
/// every key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Keys {
    /// First key.
    pub key: Bytes,
    /// End, exclusive, with the conventions above.
    pub range_end: Bytes,
}

/// Order in which a range is answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SortOrder {
    /// By ascending key; with a target other than the key as [`SortOrder::Ascend`].
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What a range is sorted by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The revision of creation.
    Create,
    /// The revision of the last write.
    Mod,
    /// The value.
    Value,
}

/// Reads a range of keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Range {
    /// Which keys.
    pub keys: Keys,
    /// At most so many keys in the answer; 0 is no limit.
    pub limit: u64,
    /// The state to read; 0 is the latest.
    pub revision: Revision,
    /// Order of the answer.
    pub sort_order: SortOrder,
    /// What to order by.
    pub sort_target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Filter: keys last written before this revision are left out; 0 is no filter.
    pub min_mod_revision: Revision,
    /// Filter: keys last written after this revision are left out; 0 is no filter.
    pub max_mod_revision: Revision,
    /// Filter: keys created before this revision are left out; 0 is no filter.
    pub min_create_revision: Revision,
    /// Filter: keys created after this revision are left out; 0 is no filter.
    pub max_create_revision: Revision,
}

/// Writes one key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Put {
    /// The key.
    pub key: Bytes,
    /// Its new value.
    pub value: Bytes,
    /// Attach to this lease; 0 is none.
    pub lease: i64,
    /// Answer with the pair as it was before.
    pub prev_kv: bool,
    /// Keep the present value; the key must exist.
    pub ignore_value: bool,
    /// Keep the present lease; the key must exist.
    pub ignore_lease: bool,
}

/// Deletes a range of keys.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DeleteRange {
    /// Which keys.
    pub keys: Keys,
    /// Answer with the pairs as they were before.
    pub prev_kv: bool,
}

/// How a comparison relates the stored (left) to the given (right) operand.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Relation {
    /// Stored = given.
    #[default]
    Equal,
    /// Stored > given.
    Greater,
    /// Stored < given.
    Less,
    /// Stored != given.
    NotEqual,
}

/// What of a key is compared, and with what.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Operand {
    /// The version; 0 for a missing key.
    Version(i64),
    /// The revision of creation; 0 for a missing key.
    Create(i64),
    /// The revision of the last write; 0 for a missing key.
    Mod(i64),
    /// The value; false for a missing key whatever the relation.
    Value(Bytes),
    /// The lease; 0 for a missing key.
    Lease(i64),
}

/// One condition of a transaction: every key of the range must satisfy it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Compare {
    /// Which keys.
    pub keys: Keys,
    /// Stored against given.
    pub relation: Relation,
    /// What is given.
    pub operand: Operand,
}

/// If every comparison holds then `success` else `failure`, all at one revision.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Txn {
    /// The conditions, evaluated on one snapshot before any operation.
    pub compare: Vec<Compare>,
    /// Operations if all hold.
    pub success: Vec<Op>,
    /// Operations if one does not.
    pub failure: Vec<Op>,
}

/// One operation inside a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Op {
    /// Read; sees the writes before it in the same transaction.
    Range(Range),
    /// Write.
    Put(Put),
    /// Delete.
    DeleteRange(DeleteRange),
    /// A nested transaction; its comparisons are evaluated with the outermost ones.
    Txn(Txn),
}

/// A command of the replicated log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Write one key.
    Put(Put),
    /// Delete a range.
    DeleteRange(DeleteRange),
    /// A transaction with at least one write in some branch.
    Txn(Txn),
    /// Forget the history before this revision.
    Compact {
        /// The oldest revision that stays readable.
        revision: Revision,
    },
    /// Grant a lease.
    LeaseGrant {
        /// Its id. Range: not 0, which stands for no lease.
        id: i64,
        /// Its time to live. Unit: seconds.
        ttl: u64,
        /// The lease clock. Written by the leader, whatever it was before.
        at: LeaseTime,
    },
    /// End a lease and delete its keys at one revision.
    LeaseRevoke {
        /// Its id.
        id: i64,
    },
    /// Of a leader: end leases that have run out, each at a revision of its own.
    LeaseExpire {
        /// The term of the leader. In another term the record means nothing.
        term: u64,
        /// Which leases.
        leases: Vec<LeaseName>,
    },
    /// Of a leader: what is known of the end of leases.
    LeaseCountdown {
        /// The term of the leader. In another term the record means nothing.
        term: u64,
        /// The lease clock.
        at: LeaseTime,
        /// Of each lease.
        leases: Vec<(LeaseName, Countdown)>,
    },
    /// Raise or clear alarms.
    Alarm(AlarmAction),
    /// Change users and roles.
    Auth(AuthCommand),
    /// Change what users and prefixes may take.
    Limit(LimitCommand),
}

/// What a range found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// The pairs, in the order asked for.
    pub kvs: Vec<Arc<KeyValue>>,
    /// Keys beyond the limit exist.
    pub more: bool,
    /// All keys of the range at that revision, whatever the limit and the filters.
    pub count: u64,
    /// True if the values are to be left out of the answer (`kvs` still shares them).
    pub keys_only: bool,
}

/// What one operation did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Of a [`Range`].
    Range(Found),
    /// Of a [`Put`].
    Put {
        /// The pair as it was, if asked for and existing.
        prev: Option<Arc<KeyValue>>,
    },
    /// Of a [`DeleteRange`].
    DeleteRange {
        /// Number of keys deleted.
        deleted: u64,
        /// The pairs as they were, if asked for.
        prev: Vec<Arc<KeyValue>>,
    },
    /// Of a [`Txn`].
    Txn {
        /// True if the `success` branch was taken.
        succeeded: bool,
        /// One outcome per operation of the branch taken.
        outcomes: Vec<Outcome>,
    },
    /// Of a compaction.
    Compact,
    /// Of a grant.
    LeaseGrant {
        /// The time to live. Unit: seconds.
        ttl: u64,
    },
    /// Of a revocation.
    LeaseRevoke {
        /// Number of keys deleted.
        deleted: u64,
    },
    /// Of leases that have run out.
    LeaseExpire {
        /// How many were ended.
        expired: u64,
    },
    /// Of a record of countdowns.
    LeaseCountdown {
        /// How many leases it concerned.
        changed: u64,
    },
    /// Of a command on alarms: those that it raised or cleared.
    Alarms(Vec<Alarm>),
    /// Of a change of users and roles.
    Auth,
    /// Of a change of limits.
    Limit,
}

/// Why a well-formed operation was not carried out. The store is as it was before.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KvError {
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// The lease is unknown.
    LeaseNotFound,
    /// A lease of this id is there already.
    LeaseExists,
    /// The revision is older than the last compaction.
    Compacted {
        /// The oldest revision that can be read.
        compact_revision: Revision,
    },
    /// The revision lies in the future.
    FutureRevision {
        /// The latest revision.
        current: Revision,
    },
    /// A transaction that visits or answers more than a transaction may.
    TooLarge,
    /// A space alarm is active, and the operation might make the store grow.
    NoSpace,
    /// An alarm of corruption is active.
    Corrupt,
    /// A lock that the command depends on is not held with the token that it names.
    Fenced {
        /// Which of the fences, from 0.
        fence: u8,
        /// The token of whoever holds that lock; 0 if nobody does.
        holder: Revision,
    },
    /// The answer to this request may have been forgotten, so it may have been carried out.
    RequestForgotten,
    /// The id of this request was given to another one.
    RequestReused,
    /// The request was carried out before, and its answer was too long to be kept.
    AnswerNotKept {
        /// When it was.
        revision: Revision,
    },
    /// The caller may not do this.
    Denied(Denied),
    /// Users and roles stay as they are.
    Auth(AuthError),
    /// The limits stay as they are.
    Limit(LimitError),
    /// A prefix would take more than it may.
    QuotaExceeded {
        /// The place of the rule among the rules, from 0.
        rule: u16,
        /// Which bound of it.
        kind: QuotaKind,
        /// The bound.
        max: u64,
    },
}

impl std::fmt::Display for KvError {
    /// etcd's message.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            KvError::Denied(why) => return why.fmt(f),
            KvError::Auth(why) => return why.fmt(f),
            KvError::Limit(why) => return why.fmt(f),
            KvError::QuotaExceeded { .. } => {
                "quorate: a storage quota is used up; nothing was written"
            }
            KvError::Fenced { .. } => "quorate: fenced: the lock is not held with this token",
            KvError::RequestForgotten => {
                "quorate: unknown request id, too old: it may have been carried out, and its \
                 answer is forgotten"
            }
            KvError::RequestReused => "quorate: the request id was given to another request",
            KvError::AnswerNotKept { .. } => {
                "quorate: the request was carried out, and its answer was too long to be kept"
            }
            KvError::KeyNotFound => "etcdserver: key not found",
            KvError::LeaseNotFound => "etcdserver: requested lease not found",
            KvError::LeaseExists => "etcdserver: lease already exists",
            KvError::Compacted { .. } => "etcdserver: mvcc: required revision has been compacted",
            KvError::FutureRevision { .. } => {
                "etcdserver: mvcc: required revision is a future revision"
            }
            KvError::TooLarge => "etcdserver: request is too large",
            KvError::NoSpace => "etcdserver: mvcc: database space exceeded",
            KvError::Corrupt => "etcdserver: corrupt cluster",
        })
    }
}

impl std::error::Error for KvError {}
