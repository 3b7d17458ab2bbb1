//! Applying commands: the one way in which the store changes.
//!
//! A command is first checked against the state, then carried out; nothing can fail after the
//! first change. The revision moves with the first write of a command and stays there for the
//! rest of it, so that all writes of a transaction share it and a read of the former revision
//! from within the transaction is an ordinary historical read.
//!
//! Admission refuses transactions that write one key twice. Apply stays sane if one arrives all
//! the same: the later write wins, both are events of the one revision, and a historical read
//! never sees the earlier one.
//!
//! Source: etcd `server/etcdserver/txn/txn.go` and `server/storage/mvcc/kvstore_txn.go`.

use super::guard::{hash, owner};
use super::versions::Versions;
use super::{
    AuthCommand, Bytes, Caller, Command, DeleteRange, Event, Guard, Key, KeyValue, KvError,
    LimitCommand, Living, Mutant, Op, Outcome, Place, Put, Revision, Store,
};
use std::borrow::Cow;
use std::sync::Arc;

/// Charged for each stored version beside its key and value, in bytes: what tree entries,
/// reference counts and the allocator take. etcd charges puts the same (`storage/quota.go`).
pub const VERSION_BYTES: u64 = 256;

/// What a command did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Applied {
    /// The latest revision after the command.
    pub revision: Revision,
    /// The answer.
    pub outcome: Result<Outcome, KvError>,
}

/// The write in progress.
#[derive(Debug, Default)]
pub(super) struct Write {
    /// Events so far; the first one moves the revision.
    order: u64,
}

impl Store {
    /// Carries out one command of the log that nobody in particular asked for.
    pub fn apply(&mut self, command: &Command) -> Applied {
        self.apply_as(&Caller::Anonymous, command)
    }

    /// Carries out one command of the log, if its caller may ask for it.
    pub fn apply_as(&mut self, caller: &Caller, command: &Command) -> Applied {
        self.apply_guarded(caller, &Guard::default(), command)
    }

    /// As [`Store::apply_as`], if its guard allows it. A request that was carried out before is
    /// answered as it was then, also with the revision of then.
    pub fn apply_guarded(&mut self, caller: &Caller, guard: &Guard, command: &Command) -> Applied {
        let applied = match self.carry_out_guarded(caller, guard, command) {
            Ok(applied) => applied,
            Err(why) => Applied { revision: self.revision, outcome: Err(why) },
        };
        self.applied += 1;
        self.digest.fold(self.applied);
        self.digest.fold(self.revision.0);
        self.digest.fold(self.compact_revision.0);
        self.digest.fold_outcome(&applied.outcome);
        applied
    }

    fn carry_out_guarded(
        &mut self,
        caller: &Caller,
        guard: &Guard,
        command: &Command,
    ) -> Result<Applied, KvError> {
        self.authorize_command(caller, command).map_err(KvError::Denied)?;
        self.authorize_fences(caller, &guard.fences).map_err(KvError::Denied)?;
        let who = || (owner(caller), hash(caller, command));
        let named = guard.request.as_ref().map(|request| (request, who()));
        if let Some((request, who)) = named
            && let Some(first) = self.recall(request, who)?
        {
            return Ok(first);
        }
        self.permits(command)?;
        self.check_fences(guard)?;
        let before = self.revision;
        let outcome = self.carry_out(command)?;
        if let Some((request, who)) = named
            && self.revision > before
        {
            self.remember(request, who, &outcome);
        }
        Ok(Applied { revision: self.revision, outcome: Ok(outcome) })
    }

    fn carry_out(&mut self, command: &Command) -> Result<Outcome, KvError> {
        match command {
            Command::Put(put) => self.within_quotas(|store| store.apply_put(put)),
            Command::DeleteRange(delete) => Ok(self.delete_range(&mut Write::default(), delete)),
            Command::Txn(txn) => self.within_quotas(|store| store.apply_txn(txn)),
            Command::Compact { revision } => self.compact(*revision).map(|()| Outcome::Compact),
            Command::LeaseGrant { id, ttl, at } => self.grant(*id, *ttl, *at),
            Command::LeaseRevoke { id } => self.revoke(*id),
            Command::LeaseExpire { leases, .. } => Ok(self.expire(leases)),
            Command::LeaseCountdown { at, leases, .. } => Ok(self.count_down(*at, leases)),
            Command::Alarm(action) => Ok(self.alarm(action)),
            Command::Auth(command) => self.change_auth(command),
            Command::Limit(command) => self.change_limits(command),
        }
    }

    /// Changes users and roles. What was changed is folded as it is in the log.
    fn change_auth(&mut self, command: &AuthCommand) -> Result<Outcome, KvError> {
        Arc::make_mut(&mut self.auth).change(command).map_err(KvError::Auth)?;
        let mut bytes = Vec::new();
        command.encode(&mut bytes);
        self.digest.fold_bytes(&bytes);
        self.digest.fold(self.auth.revision());
        Ok(Outcome::Auth)
    }

    /// How many keys a command deletes or counts at most, in O(log n) for each of its ranges.
    pub fn doomed_by(&self, command: &Command) -> u64 {
        let within = |delete: &DeleteRange| {
            let (lower, upper) = delete.keys.bounds();
            self.live.count(lower, upper) as u64
        };
        match command {
            Command::DeleteRange(delete) => within(delete),
            Command::Txn(txn) => {
                let ops = txn.success.iter().chain(&txn.failure);
                ops.map(|op| if let Op::DeleteRange(delete) = op { within(delete) } else { 0 })
                    .sum()
            }
            Command::LeaseRevoke { id } => {
                self.leases.get(id).map_or(0, |lease| lease.keys().len() as u64)
            }
            Command::Limit(LimitCommand::Set(rule)) => self.counted_for(rule),
            _ => 0,
        }
    }

    fn apply_put(&mut self, put: &Put) -> Result<Outcome, KvError> {
        // Alone, a put asks for its lease first; in a transaction it asks for its key first.
        self.check_lease(put)?;
        self.check_present(put)?;
        Ok(self.put(&mut Write::default(), put))
    }

    /// A put that names a lease needs it to exist.
    pub(super) fn check_lease(&self, put: &Put) -> Result<(), KvError> {
        if put.lease == 0 || self.leases.get(&put.lease).is_some() {
            return Ok(());
        }
        Err(KvError::LeaseNotFound)
    }

    /// A put that keeps something of the key needs the key to exist.
    pub(super) fn check_present(&self, put: &Put) -> Result<(), KvError> {
        if (put.ignore_value || put.ignore_lease) && self.get(&put.key).is_none() {
            return Err(KvError::KeyNotFound);
        }
        Ok(())
    }

    /// Writes a checked put.
    pub(super) fn put(&mut self, write: &mut Write, put: &Put) -> Outcome {
        let revision = self.begin(write);
        let Some(living) = self.live.get_mut(&put.key[..]) else {
            self.create(write, put, revision);
            return Outcome::Put { prev: None };
        };
        let fresh = Arc::new(succeed(&living.kv, put, revision));
        let old = std::mem::replace(&mut living.kv, Arc::clone(&fresh));
        let (prev, dropped) = retire(&mut living.past, Arc::clone(&old), revision);
        self.attach(&fresh.key, old.lease, fresh.lease);
        self.charge(&fresh.key, Some(old.value.len()), Some(fresh.value.len()));
        self.bytes += weight(&fresh);
        self.bytes -= dropped;
        self.record(write, Event::new(fresh, prev));
        Outcome::Put { prev: Some(old).filter(|_| put.prev_kv) }
    }

    /// Brings a key to life, or back to life.
    fn create(&mut self, write: &mut Write, put: &Put, revision: Revision) {
        let version = 1 + self.version_kept_by_mutant(&put.key);
        if write.order > 0 {
            // If this command deleted the key, it was never dead at any revision.
            self.forget(&put.key, revision);
        }
        let past = self.graves.remove(&put.key[..]);
        let prev = in_force_before(past.as_ref().filter(|_| write.order > 0), revision);
        let key = Bytes::copy_from_slice(&put.key);
        let fresh = Arc::new(KeyValue {
            key: key.clone(),
            value: Bytes::copy_from_slice(&put.value),
            create_revision: revision,
            mod_revision: revision,
            version,
            lease: put.lease,
        });
        self.bytes += weight(&fresh);
        self.live.insert(Key::from(&key), Living { kv: Arc::clone(&fresh), past });
        self.attach(&key, 0, fresh.lease);
        self.charge(&key, None, Some(fresh.value.len()));
        self.record(write, Event::new(fresh, prev));
    }

    /// Planted bug: a key that comes back after a delete goes on counting its versions.
    fn version_kept_by_mutant(&self, key: &[u8]) -> u64 {
        if !self.planted(Mutant::VersionKept) {
            return 0;
        }
        let versions = self.past(key).map(|versions| versions.iter());
        versions.into_iter().flatten().map(|kv| kv.version).max().unwrap_or(0)
    }

    /// Planted bug: the digest does not see leases.
    fn seen_by_mutant<'a>(&self, event: &'a Event) -> Cow<'a, Event> {
        if !self.planted(Mutant::DigestWithoutLease) {
            return Cow::Borrowed(event);
        }
        let kv = Arc::new(KeyValue { lease: 0, ..KeyValue::clone(&event.kv) });
        Cow::Owned(Event { kv, ..event.clone() })
    }

    /// Deletes every key of the range.
    pub(super) fn delete_range(&mut self, write: &mut Write, delete: &DeleteRange) -> Outcome {
        let (lower, upper) = delete.keys.bounds();
        let doomed: Vec<Arc<KeyValue>> =
            self.live.range(lower, upper).map(|(_, living)| Arc::clone(&living.kv)).collect();
        for old in &doomed {
            self.delete(write, old);
        }
        let deleted = doomed.len() as u64;
        Outcome::DeleteRange { deleted, prev: if delete.prev_kv { doomed } else { Vec::new() } }
    }

    /// Deletes one living key.
    pub(super) fn delete(&mut self, write: &mut Write, old: &Arc<KeyValue>) {
        let revision = self.begin(write);
        let removed = self.live.remove(&old.key[..]);
        let mut past = removed.expect("only a living key is deleted").past;
        self.attach(&old.key, old.lease, 0);
        self.charge(&old.key, Some(old.value.len()), None);
        let (prev, dropped) = retire(&mut past, Arc::clone(old), revision);
        let tombstone = Arc::new(KeyValue {
            key: old.key.clone(),
            mod_revision: revision,
            ..KeyValue::default()
        });
        self.bytes += weight(&tombstone);
        self.bytes -= dropped;
        let grave = Versions::after(past, Arc::clone(&tombstone));
        self.graves.insert(Key::from(&old.key), grave);
        self.record(write, Event::new(tombstone, prev));
    }

    /// The revision of the write in progress, opened by its first change.
    fn begin(&mut self, write: &Write) -> Revision {
        if write.order == 0 || self.planted(Mutant::RevisionPerWrite) {
            self.revision = self.revision.next();
        }
        self.revision
    }

    /// Drops one version from the past of its key, if it is there.
    pub(super) fn forget(&mut self, key: &[u8], revision: Revision) {
        let forgotten = match self.live.get_mut(key) {
            Some(living) => forget(&mut living.past, revision),
            None => self.forget_dead(key, revision),
        };
        self.bytes -= forgotten.map_or(0, |kv| weight(&kv));
    }

    fn forget_dead(&mut self, key: &[u8], revision: Revision) -> Option<Arc<KeyValue>> {
        let versions = self.graves.get_mut(key)?;
        match versions {
            Versions::One(kv) if kv.mod_revision == revision => {
                let kv = Arc::clone(kv);
                self.graves.remove(key);
                Some(kv)
            }
            versions => versions.remove(revision),
        }
    }

    fn record(&mut self, write: &mut Write, event: Event) {
        self.digest.fold_event(&self.seen_by_mutant(&event));
        let place = Place { revision: self.revision, order: write.order };
        write.order += 1;
        let former = self.log.insert(place, event);
        assert!(former.is_none(), "a place of the log is written once");
    }
}

/// Moves the version that was just replaced out of the way. Answers with the version in force
/// before this write began, if there was one, and with the bytes dropped.
fn retire(
    past: &mut Option<Versions>,
    old: Arc<KeyValue>,
    revision: Revision,
) -> (Option<Arc<KeyValue>>, u64) {
    if old.mod_revision < revision {
        *past = Some(Versions::after(past.take(), Arc::clone(&old)));
        return (Some(old), 0);
    }
    // The key is written a second time by this command: what it wrote first was never in force
    // at any revision.
    (in_force_before(past.as_ref(), revision), weight(&old))
}

fn in_force_before(past: Option<&Versions>, revision: Revision) -> Option<Arc<KeyValue>> {
    past.and_then(|versions| versions.at(Revision(revision.0 - 1))).cloned()
}

/// Drops one version from the past of a living key, if it is there.
pub(super) fn forget(past: &mut Option<Versions>, revision: Revision) -> Option<Arc<KeyValue>> {
    match past {
        Some(Versions::One(kv)) if kv.mod_revision == revision => {
            let kv = Arc::clone(kv);
            *past = None;
            Some(kv)
        }
        past => past.as_mut()?.remove(revision),
    }
}

/// What a version adds to [`Store::bytes_in_use`].
pub(super) fn weight(kv: &KeyValue) -> u64 {
    kv.key.len() as u64 + kv.value.len() as u64 + VERSION_BYTES
}

/// The version after `old`; shares the key with it.
fn succeed(old: &KeyValue, put: &Put, revision: Revision) -> KeyValue {
    let value =
        if put.ignore_value { old.value.clone() } else { Bytes::copy_from_slice(&put.value) };
    KeyValue {
        key: old.key.clone(),
        value,
        create_revision: old.create_revision,
        mod_revision: revision,
        version: old.version + 1,
        lease: if put.ignore_lease { old.lease } else { put.lease },
    }
}
