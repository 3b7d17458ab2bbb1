//! The multi-version store: etcd's key-value semantics as a value without I/O.
//!
//! **Problem.** Every replica applies the same commands and must end in the same state; readers
//! want the latest state, the state at an older revision, or all changes since one, without
//! holding up the writer; old revisions must go away in small steps.
//!
//! **Idea.** Three copy-on-write trees share immutable [`KeyValue`]s:
//!
//! ```text
//!   live    key -> pair, older versions       living keys only, so counting is O(log n) and
//!                                             tombstones are never walked over
//!   graves  key -> versions                   dead keys which still have a past
//!   log     (revision, order) -> event        every change, for watchers
//! ```
//!
//! A key's latest state is in `live`, or it is dead. Its state at revision r is the living pair if
//! that is not younger than r, else the youngest of its older versions at or below r; version 0
//! is a tombstone. An overwrite finds the pair and its past in one place. A clone of the
//! store costs O(1) and never changes, so readers, streams and checkpoints take one.
//!
//! **Guarantees.** Equal commands in equal order give equal stores, equal answers and equal
//! [digests](Store::digest), whatever the moments of [`Store::sweep`], [`Store::clone`],
//! [`Store::save`] and [`Store::load`]. A command that is answered with a [`KvError`] changes
//! nothing. No key or value keeps a larger buffer alive: both are copied on apply.
//!
//! | word | file | meaning |
//! |---|---|---|
//! | [`Command`], [`Outcome`] | `command.rs` | what is asked and answered |
//! | [`Limits`], [`Invalid`] | `admit.rs` | what is refused before it is replicated |
//! | [`Alarm`] | `alarm.rs` | conditions that the members agree on, and what they forbid |
//! | [`Auth`], [`Asking`] | `auth/` | users and roles; who may do what |
//! | [`BadCommand`] | `codec.rs` | how a command looks in the log |
//! | [`Found`], [`Pages`] | `range.rs` | reading |
//! | [`Applied`] | `write.rs` | single writes |
//! | | `txn.rs` | transactions |
//! | [`Lease`], [`Countdown`] | `lease.rs` | keys that end with their lease |
//! | | `compact.rs` | forgetting, in slices |
//! | [`Guard`] | `guard/` | locks that must be held, and requests that take effect once |
//! | [`LimitRule`] | `limits/` | what users and parts of the key space may take |
//! | | `line.rs` | how the keys of locks are named |
//! | [`Consumer`] | `consumers.rs` | who takes the space |
//! | [`History`] | `history.rs` | what watchers read |
//! | | `versions.rs` | the past of one key |
//! | | `digest.rs` | fingerprints of history and of state |
//! | [`LoadError`] | `save.rs` | checkpoints |
//! | [`ReplayError`] | `replay.rs` | states of backups, and new beginnings |
//! | [`tree::Tree`] | `tree.rs` | the map below all of this |
//! | | `key.rs` | a key inside a node of it |
//!
//! Sources: etcd's documented API and `server/storage/mvcc`, `server/etcdserver/txn` (behaviour);
//! Bernstein and Goodman, "Multiversion Concurrency Control" (1983).

mod admit;
mod alarm;
pub mod auth;
mod codec;
mod command;
mod compact;
mod consumers;
mod digest;
mod guard;
mod history;
mod key;
mod lease;
mod limits;
pub mod line;
mod mutant;
mod range;
mod replay;
mod save;
pub mod tree;
mod txn;
mod versions;
mod write;

pub use admit::{Invalid, Limits};
pub use alarm::{ALARMS_MAX, Alarm, AlarmAction, AlarmKind};
pub use auth::{
    Access, Asked, Asking, Auth, AuthCommand, AuthError, Caller, Credential, Denied, Permission,
    Role, User,
};
pub use codec::{BadCommand, CODEC_VERSION, DEPTH_MAX};
pub use command::{
    Command, Compare, DeleteRange, Found, KeyValue, Keys, KvError, Op, Operand, Outcome, Put,
    Range, Relation, Revision, SortOrder, SortTarget, Txn,
};
pub use consumers::Consumer;
pub use digest::xxh64;
pub use guard::{
    FENCES_MAX, Fence, Guard, ID_BYTES_MAX, OUTCOME_BYTES_MAX, REQUEST_AGE_MAX, REQUEST_BYTES,
    REQUESTS_MAX, RequestId,
};
pub use history::History;
pub use lease::{Countdown, LEASE_BYTES, LEASE_TTL_MAX, Lease, LeaseName, LeaseTime};
pub use limits::{
    LimitCommand, LimitError, LimitRule, Priority, Quota, QuotaKind, RULE_NAME_BYTES_MAX,
    RULE_PREFIX_BYTES_MAX, RULE_USER_BYTES_MAX, RULES_MAX, Used,
};
pub use mutant::Mutant;
pub use range::{Changes, Pages};
pub use replay::{OldHistory, Recorded, ReplayError};
pub use save::{LoadError, SAVE_VERSION};
pub use txn::{TXN_ANSWER_BYTES_MAX, TXN_VISITS_MAX};
pub use write::{Applied, VERSION_BYTES};

use bytes::Bytes;
use digest::Digest;
use guard::Requests;
use key::Key;
use std::fmt;
use std::sync::Arc;
use tree::Tree;
use versions::Versions;

/// The key-value store of one replica group.
#[derive(Clone)]
pub struct Store {
    revision: Revision,
    compact_revision: Revision,
    /// First place of the log which the sweep has not visited; see `compact.rs`.
    swept: Place,
    /// Oldest revision whose changes are all still in the log. Below the compact revision between
    /// a compaction and the first slice of its sweep, so no answer may depend on it.
    kept_from: Revision,
    live: Tree<Key, Living>,
    graves: Tree<Key, Versions>,
    log: Tree<Place, Event>,
    leases: Tree<i64, Lease>,
    /// The latest moment of the lease clock that any command told.
    lease_clock: LeaseTime,
    alarms: Tree<Alarm, ()>,
    auth: Arc<Auth>,
    limits: limits::Limits,
    /// Answers to requests that may be asked again.
    requests: Requests,
    digest: Digest,
    applied: u64,
    /// Keys and values of all versions in `live` and `graves`, with [`VERSION_BYTES`] for each, and
    /// [`LEASE_BYTES`] for each lease.
    bytes: u64,
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

/// A living key.
#[derive(Clone)]
struct Living {
    /// The latest version.
    kv: Arc<KeyValue>,
    /// What came before it, tombstones included.
    past: Option<Versions>,
}

/// The place of an event in the log: its revision, and its order among the events of it.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
struct Place {
    revision: Revision,
    order: u64,
}

/// One change of one key, as watchers hear of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// The pair as it was written. A delete has the key and the revision; all else is zero.
    pub kv: Arc<KeyValue>,
    /// Revision of the version that this change replaced; 0 if the key did not live.
    pub prev_revision: Revision,
    /// That version, unless it is compacted and forgotten. What is compacted may still be here:
    /// readers ask [`Store::prev_of`].
    prev: Option<Arc<KeyValue>>,
}

impl Event {
    /// A change that took the place of `prev`.
    pub fn new(kv: Arc<KeyValue>, prev: Option<Arc<KeyValue>>) -> Event {
        let prev_revision = prev.as_ref().map_or(Revision(0), |prev| prev.mod_revision);
        Event { kv, prev_revision, prev }
    }

    /// True if the key was deleted.
    pub fn is_delete(&self) -> bool {
        self.kv.version == 0
    }

    /// The revision of the change; all events of one revision happened at once.
    pub fn revision(&self) -> Revision {
        self.kv.mod_revision
    }
}

impl Store {
    /// The empty store, at revision 1.
    pub fn new() -> Store {
        Store {
            revision: Revision(1),
            compact_revision: Revision(0),
            swept: Place::default(),
            kept_from: Revision(0),
            live: Tree::new(),
            graves: Tree::new(),
            log: Tree::new(),
            leases: Tree::new(),
            lease_clock: LeaseTime::default(),
            alarms: Tree::new(),
            auth: Arc::new(Auth::new()),
            limits: limits::Limits::new(),
            requests: Requests::new(),
            digest: Digest::new(),
            applied: 0,
            bytes: 0,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// The latest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read; 0 before the first compaction.
    pub fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    /// Number of keys that live at the latest revision.
    pub fn keys(&self) -> u64 {
        self.live.len() as u64
    }

    /// Commands applied, those answered with an error included.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// An estimate of the memory in use, in bytes: every stored version counts its key, its value
    /// and [`VERSION_BYTES`], every lease [`LEASE_BYTES`]. Falls as the sweep goes on, so replicas
    /// may differ in it.
    pub fn bytes_in_use(&self) -> u64 {
        self.bytes
    }

    /// The pair of `key` at the latest revision.
    pub fn get(&self, key: &[u8]) -> Option<&Arc<KeyValue>> {
        self.live.get(key).map(|living| &living.kv)
    }

    /// What came before the latest state of `key`.
    fn past(&self, key: &[u8]) -> Option<&Versions> {
        match self.live.get(key) {
            Some(living) => living.past.as_ref(),
            None => self.graves.get(key),
        }
    }
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl fmt::Debug for Store {
    /// The figures only: the pairs may be gigabytes, and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("revision", &self.revision)
            .field("compact_revision", &self.compact_revision)
            .field("keys", &self.keys())
            .field("bytes_in_use", &self.bytes)
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}
