//! Changes that another store recorded, carried over with all their numbers.
//!
//! **Problem.** A backup, or the file of another implementation, says what became of each key at
//! which revision. Applying such changes as commands would number them anew, and every client that
//! remembers a revision, a version or a lock would be told something else.
//!
//! **Idea.** [`Store::replay`] writes one recorded change at its own revision. When all are in,
//! [`Store::begin_anew`] makes the state one that a *new* cluster can begin with: it goes on above
//! every revision that the old one can have issued, and whoever asks for what was between is told
//! that it is compacted, which clients know how to handle.
//!
//! ```text
//!   recorded      2 3 4 .. 812
//!   lost with the old cluster      813 .. 9,400     perhaps seen by somebody
//!   begin_anew(1,000,000,812)                        .. 1,000,000,812   compacted up to here
//!   first write of the new cluster                      1,000,000,813
//! ```
//!
//! **Guarantees.** Equal changes in equal order give equal stores and digests. A change that does
//! not fit is refused and changes nothing. After `begin_anew` no revision of the old cluster is
//! ever given to another change, no alarm of its members is left, and a request of before is
//! refused instead of being carried out twice.
//!
//! Source: etcd `etcdutl/snapshot/v3_snapshot.go` (`--bump-revision`, `--mark-compacted`).

use super::guard::Requests;
use super::lease::LEASE_TTL_MAX;
use super::tree::Tree;
use super::versions::Versions;
use super::write::{forget, weight};
use super::{Command, Event, Key, KeyValue, Living, Place, Revision, Store};
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// Events that one slice of the sweep visits while a state is prepared.
const SWEEP_SLICE: usize = 10_000;

/// Why a recorded change is not taken in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplayError {
    /// Its revision is not younger than the state.
    GoesBack {
        /// Revision of the change.
        change: Revision,
        /// Revision of the state.
        state: Revision,
    },
    /// Its numbers contradict each other.
    Absurd {
        /// Revision of the change.
        change: Revision,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayError::GoesBack { change, state } => {
                write!(f, "a change at revision {} comes after revision {}", change.0, state.0)
            }
            ReplayError::Absurd { change } => {
                write!(f, "the numbers of a change at revision {} contradict each other", change.0)
            }
        }
    }
}

impl std::error::Error for ReplayError {}

impl Store {
    /// Writes a recorded change: a pair with all its numbers, or with version 0 the end of its key.
    /// Changes of one revision come one after another.
    ///
    /// A lease that the pair names should be [there](Store::replay_lease).
    ///
    /// Errors: see [`ReplayError`].
    pub fn replay(&mut self, kv: KeyValue) -> Result<(), ReplayError> {
        let change = kv.mod_revision;
        let is_absurd = match kv.version {
            0 => kv.key.is_empty(),
            _ => kv.key.is_empty() || kv.create_revision > change || kv.create_revision.0 == 0,
        };
        if is_absurd {
            return Err(ReplayError::Absurd { change });
        }
        let order = match self.log.last() {
            Some((last, _)) if last.revision == change => last.order + 1,
            _ if change > self.revision => 0,
            _ => return Err(ReplayError::GoesBack { change, state: self.revision }),
        };
        self.revision = change;
        let key = self.get(&kv.key).map(|old| old.key.clone());
        let key = key.unwrap_or_else(|| Bytes::copy_from_slice(&kv.key));
        let value = Bytes::copy_from_slice(&kv.value);
        let fresh = Arc::new(KeyValue { key, value, ..kv });
        self.bytes += weight(&fresh);
        let prev = self.put_recorded(&fresh);
        let event = Event::new(fresh, prev);
        self.digest.fold_event(&event);
        self.log.insert(Place { revision: change, order }, event);
        Ok(())
    }

    /// Takes a recorded pair in; answers with the one that it replaced.
    fn put_recorded(&mut self, fresh: &Arc<KeyValue>) -> Option<Arc<KeyValue>> {
        let key = &fresh.key;
        let (old, mut past) = match self.live.remove(&key[..]) {
            Some(Living { kv, past }) => (Some(kv), past),
            None => (None, self.graves.remove(&key[..])),
        };
        if let Some(old) = &old {
            self.attach_known(key, old.lease, 0);
            match old.mod_revision < fresh.mod_revision {
                true => past = Some(Versions::after(past, Arc::clone(old))),
                false => self.bytes -= weight(old), // never in force at any revision
            }
        }
        let twice = forget(&mut past, fresh.mod_revision);
        self.bytes -= twice.map_or(0, |dead| weight(&dead));
        if fresh.version == 0 {
            self.graves.insert(Key::from(key), Versions::after(past, Arc::clone(fresh)));
        } else {
            self.attach_known(key, 0, fresh.lease);
            self.live.insert(Key::from(key), Living { kv: Arc::clone(fresh), past });
        }
        old.filter(|old| old.mod_revision < fresh.mod_revision)
    }

    /// As `attach`, where a lease may be unknown.
    fn attach_known(&mut self, key: &Bytes, from: i64, to: i64) {
        let to = if self.lease(to).is_some() { to } else { 0 };
        self.attach(key, from, to);
    }

    /// Makes a lease known, with its whole time before it. One that is there stays as it is.
    ///
    /// `ttl`: as granted, at most [`LEASE_TTL_MAX`]. Unit: seconds.
    pub fn replay_lease(&mut self, id: i64, ttl: u64) {
        if id != 0 && self.lease(id).is_none() {
            let (ttl, at) = (ttl.clamp(1, LEASE_TTL_MAX), self.lease_clock);
            self.apply(&Command::LeaseGrant { id, ttl, at });
        }
    }

    /// Frees living keys from leases that are not there, and says how many: nobody could end them.
    pub fn free_of_lost_leases(&mut self) -> u64 {
        let is_lost = |kv: &KeyValue| kv.lease != 0 && self.lease(kv.lease).is_none();
        let living = self.live.iter().map(|(_, living)| &living.kv);
        let lost: Vec<Bytes> = living.filter(|kv| is_lost(kv)).map(|kv| kv.key.clone()).collect();
        for key in &lost {
            let living = self.live.get_mut(&key[..]).expect("just seen");
            living.kv = Arc::new(KeyValue { lease: 0, ..KeyValue::clone(&living.kv) });
        }
        lost.len() as u64
    }

    /// What was compacted where the changes come from is compacted here.
    pub fn replay_compaction(&mut self, revision: Revision) {
        if self.compact(revision.min(self.revision)).is_ok() {
            while !self.sweep(SWEEP_SLICE) {}
        }
    }

    /// All versions that are remembered, living and dead, in the order of their revisions: what
    /// [`Store::replay`] takes in. In memory for each: a reference and two numbers.
    pub fn recorded(&self) -> Vec<Recorded> {
        let first = self.log.first().map_or(Revision(u64::MAX), |(place, _)| place.revision);
        let logged = self.log.iter().take_while(|(place, _)| place.revision == first);
        let of_first: Vec<&[u8]> = logged.map(|(_, event)| &event.kv.key[..]).collect();
        let is_older = |kv: &&Arc<KeyValue>| {
            let at = kv.mod_revision;
            at < first || at == first && !of_first.contains(&&kv.key[..])
        };
        let living = self.live.iter().flat_map(|(_, living)| {
            living.past.iter().flat_map(Versions::iter).chain([&living.kv])
        });
        let dead = self.graves.iter().flat_map(|(_, versions)| versions.iter());
        // What is compacted has lost its order within a revision; any will do.
        let mut older: Vec<&Arc<KeyValue>> = living.chain(dead).filter(is_older).collect();
        older.sort_by(|a, b| (a.mod_revision, &a.key).cmp(&(b.mod_revision, &b.key)));
        let mut all: Vec<Recorded> = Vec::with_capacity(older.len() + self.log.len());
        for kv in older {
            let last = all.last().filter(|last| last.kv.mod_revision == kv.mod_revision);
            let order = last.map_or(0, |last| last.order + 1);
            all.push(Recorded { order, kv: Arc::clone(kv) });
        }
        for (place, event) in self.log.iter() {
            all.push(Recorded { order: place.order, kv: Arc::clone(&event.kv) });
        }
        all
    }

    /// Makes this the state that a new cluster begins with, at `revision`; with all before it
    /// compacted unless `history` says otherwise.
    ///
    /// Panics: if `revision` is older than the state.
    pub fn begin_anew(&mut self, revision: Revision, history: OldHistory) {
        assert!(revision >= self.revision, "a state never goes back");
        self.bytes -= self.requests.bytes();
        self.requests = Requests::restore(revision, [], []).expect("none is in disorder");
        self.alarms = Tree::new();
        self.revision = revision;
        self.digest.fold(revision.0);
        if history == OldHistory::Compacted {
            self.replay_compaction(revision);
        }
    }
}

/// One version, as it was recorded.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its place among those of its revision.
    pub order: u64,
    /// The pair; version 0 is the end of its key.
    pub kv: Arc<KeyValue>,
}

/// What becomes of the revisions before a new beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OldHistory {
    /// They are compacted: who watches from there is told so, and reads anew.
    Compacted,
    /// They can be read, as in the old cluster.
    Kept,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Alarm, AlarmAction, AlarmKind, DeleteRange, Keys, KvError, Op, Put, Range, Txn,
    };

    fn put(key: &str, value: &str, lease: i64) -> Put {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(value.to_owned()));
        Put { key, value, lease, ..Put::default() }
    }

    fn delete(key: &str) -> DeleteRange {
        let keys = Keys { key: Bytes::from(key.to_owned()), range_end: Bytes::new() };
        DeleteRange { keys, prev_kv: false }
    }

    /// A store with overwritten, deleted, reborn and leased keys, some written at once.
    fn lived() -> Store {
        let mut store = Store::new();
        store.apply(&Command::LeaseGrant { id: 7, ttl: 60, at: Default::default() });
        for round in 0..5 {
            for key in ["a", "b", "c", "d"] {
                store.apply(&Command::Put(put(key, &format!("{key}{round}"), 7 * (round % 2))));
            }
            store.apply(&Command::DeleteRange(delete("b")));
            let success = vec![
                Op::Put(put("t", &round.to_string(), 0)),
                Op::DeleteRange(delete("c")),
                Op::Put(put("u", "u", 7)),
            ];
            store.apply(&Command::Txn(Txn { success, ..Txn::default() }));
        }
        store
    }

    fn replayed(from: &Store) -> Store {
        let mut copy = Store::new();
        from.leases().for_each(|(id, lease)| copy.replay_lease(id, lease.ttl));
        for event in from.changes(Revision(0)).expect("nothing is compacted") {
            copy.replay(KeyValue::clone(&event.kv)).expect("it fits");
        }
        copy
    }

    #[test]
    fn a_replayed_history_is_the_same_at_every_revision() {
        let lived = lived();
        let copy = replayed(&lived);
        assert_eq!(copy.revision(), lived.revision());
        assert_eq!(copy.bytes_in_use(), lived.bytes_in_use());
        for revision in 1..=lived.revision().0 {
            let hash = |store: &Store| store.hash_kv(Revision(revision));
            assert_eq!(hash(&copy), hash(&lived), "at {revision}");
        }
        let keys =
            |store: &Store| store.lease(7).expect("there").keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&copy), keys(&lived));
        let mut saved = Vec::new();
        copy.save(&mut saved).expect("memory does not fail");
        let back = Store::load(&mut &saved[..]).expect("a replayed store can be saved");
        assert_eq!(back.digest(), copy.digest());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let mut store = replayed(&lived());
        let before = (store.revision(), store.digest(), store.bytes_in_use());
        let kv = |key: &'static str, revision: u64, created: u64, version: u64| KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            mod_revision: Revision(revision),
            create_revision: Revision(created),
            version,
            ..KeyValue::default()
        };
        let state = store.revision();
        let back = store.replay(kv("a", 3, 3, 1));
        assert_eq!(back, Err(ReplayError::GoesBack { change: Revision(3), state }));
        let absurd = ReplayError::Absurd { change: Revision(99) };
        for nonsense in [kv("", 99, 1, 1), kv("a", 99, 100, 1), kv("a", 99, 0, 1), kv("", 99, 0, 0)]
        {
            assert_eq!(store.replay(nonsense), Err(absurd));
        }
        assert_eq!((store.revision(), store.digest(), store.bytes_in_use()), before);
    }

    #[test]
    fn a_new_beginning_is_above_all_that_was_and_says_that_it_is_compacted() {
        let mut store = lived();
        let alarm = Alarm { kind: AlarmKind::NoSpace, member: 9 };
        store.apply(&Command::Alarm(AlarmAction::Raise(alarm)));
        let (before, hash) = (store.revision(), store.hash_kv(Revision(0)));
        let above = Revision(before.0 + 1_000);
        store.begin_anew(above, OldHistory::Compacted);
        assert_eq!((store.revision(), store.compact_revision()), (above, above));
        assert_eq!(store.hash_kv(Revision(0)), hash, "the pairs are what they were");
        assert_eq!(store.alarms().count(), 0);
        let compacted = KvError::Compacted { compact_revision: above };
        assert_eq!(store.changes(before.next()).err(), Some(compacted.clone()));
        let old = Range { revision: before, ..Range::default() };
        assert_eq!(store.range(&old).err(), Some(compacted));
        let applied = store.apply(&Command::Put(put("a", "new", 0)));
        assert_eq!(applied.revision, above.next(), "no revision is given twice");
        let mut saved = Vec::new();
        store.save(&mut saved).expect("memory does not fail");
        Store::load(&mut &saved[..]).expect("such a state can be saved");
    }

    #[test]
    fn keys_of_lost_leases_are_freed() {
        let mut store = Store::new();
        let kv = KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: Revision(2),
            create_revision: Revision(2),
            version: 1,
            lease: 5,
            ..KeyValue::default()
        };
        store.replay(kv).expect("it fits");
        assert_eq!(store.free_of_lost_leases(), 1);
        assert_eq!(store.get(b"k").map(|kv| kv.lease), Some(0));
        assert_eq!(store.free_of_lost_leases(), 0);
        let mut saved = Vec::new();
        store.save(&mut saved).expect("memory does not fail");
        Store::load(&mut &saved[..]).expect("no key names a lease that is not there");
    }
}
