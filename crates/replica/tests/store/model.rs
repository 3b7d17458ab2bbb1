//! The reference: a plain vector of all events, every answer computed by scanning it.

use bytes::Bytes;
use quorate_replica::store::{
    Alarm, AlarmAction, AlarmKind, Command, Compare, Countdown, DeleteRange, Found, KeyValue, Keys,
    KvError, LEASE_BYTES, LeaseName, LeaseTime, Op, Operand, Outcome, Put, Range, Relation,
    Revision, SortOrder, SortTarget, Store, Txn, VERSION_BYTES,
};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One change: the key by its place in [`Model::keys`], and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) revision: u64,
    pub(crate) key: usize,
    pub(crate) kv: Option<Arc<KeyValue>>,
}

/// A store that never forgets.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Every key that will ever be used, ascending.
    pub(crate) keys: Arc<Vec<Bytes>>,
    pub(crate) leases: BTreeMap<i64, Granted>,
    pub(crate) lease_clock: u64,
    /// Commands applied.
    pub(crate) applied: u64,
    pub(crate) revision: u64,
    pub(crate) compacted: u64,
    pub(crate) changes: Vec<Change>,
    pub(crate) alarms: Vec<Alarm>,
}

/// A lease; its keys are found by looking at all pairs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Granted {
    pub(crate) ttl: u64,
    pub(crate) grant: u64,
    pub(crate) countdown: Countdown,
}

/// The living pairs by the place of their key.
type State = Vec<Option<Arc<KeyValue>>>;

impl Model {
    pub(crate) fn new(keys: Arc<Vec<Bytes>>) -> Model {
        Model {
            keys,
            leases: BTreeMap::new(),
            lease_clock: 0,
            applied: 0,
            revision: 1,
            compacted: 0,
            changes: Vec::new(),
            alarms: Vec::new(),
        }
    }

    /// All pairs after the changes up to `revision`.
    pub(crate) fn state(&self, revision: u64) -> State {
        let mut state = vec![None; self.keys.len()];
        for change in self.changes.iter().filter(|change| change.revision <= revision) {
            state[change.key] = change.kv.clone();
        }
        state
    }

    pub(crate) fn apply(&mut self, command: &Command) -> Result<Outcome, KvError> {
        let before = self.clone();
        let next = self.revision + 1;
        let of_leader =
            matches!(command, Command::LeaseExpire { .. } | Command::LeaseCountdown { .. });
        let outcome = match command {
            Command::Alarm(action) => Ok(self.alarm(action)),
            Command::Auth(_) => unreachable!("see the tests of users and roles"),
            Command::Limit(_) => unreachable!("see `quotas.rs`"),
            _ if !of_leader && self.has_alarm(AlarmKind::Corrupt) => Err(KvError::Corrupt),
            Command::Put(_) | Command::LeaseGrant { .. } if self.has_alarm(AlarmKind::NoSpace) => {
                Err(KvError::NoSpace)
            }
            Command::Txn(txn) if self.has_alarm(AlarmKind::NoSpace) && puts(txn) => {
                Err(KvError::NoSpace)
            }
            Command::Put(put) => {
                if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                    Err(KvError::LeaseNotFound)
                } else if (put.ignore_value || put.ignore_lease) && self.lookup(&put.key).is_none()
                {
                    Err(KvError::KeyNotFound)
                } else {
                    Ok(self.put(put, next))
                }
            }
            Command::DeleteRange(delete) => Ok(self.delete(delete, next)),
            Command::Txn(txn) => self.txn(&before, txn, next),
            Command::Compact { revision } => self.compact(revision.0),
            Command::LeaseGrant { id, ttl, at } => self.grant(*id, *ttl, at.0),
            Command::LeaseRevoke { id } => self.revoke(*id, next),
            Command::LeaseExpire { leases, .. } => Ok(self.expire(leases)),
            Command::LeaseCountdown { at, leases, .. } => Ok(self.count_down(at.0, leases)),
        };
        if outcome.is_err() {
            *self = before;
        }
        if let Some(change) = self.changes.last() {
            self.revision = self.revision.max(change.revision);
        }
        self.applied += 1;
        outcome
    }

    fn has_alarm(&self, kind: AlarmKind) -> bool {
        self.alarms.iter().any(|alarm| alarm.kind == kind)
    }

    fn alarm(&mut self, action: &AlarmAction) -> Outcome {
        match action {
            AlarmAction::Raise(alarm) => {
                self.alarms.retain(|other| other != alarm);
                self.alarms.push(*alarm);
                Outcome::Alarms(vec![*alarm])
            }
            AlarmAction::Clear(Alarm { kind, member }) => {
                let mut cleared = self.alarms.clone();
                cleared.retain(|alarm| {
                    alarm.kind == *kind && (*member == 0 || alarm.member == *member)
                });
                self.alarms.retain(|alarm| !cleared.contains(alarm));
                cleared.sort_unstable();
                Outcome::Alarms(cleared)
            }
        }
    }

    fn compact(&mut self, revision: u64) -> Result<Outcome, KvError> {
        if revision == 0 && self.compacted == 0 {
            return Ok(Outcome::Compact);
        }
        if revision <= self.compacted {
            return Err(KvError::Compacted { compact_revision: Revision(self.compacted) });
        }
        if revision > self.revision {
            return Err(KvError::FutureRevision { current: Revision(self.revision) });
        }
        self.compacted = revision;
        Ok(Outcome::Compact)
    }

    fn grant(&mut self, id: i64, ttl: u64, at: u64) -> Result<Outcome, KvError> {
        if self.leases.contains_key(&id) {
            return Err(KvError::LeaseExists);
        }
        self.lease_clock = self.lease_clock.max(at);
        let deadline = LeaseTime(self.lease_clock + ttl * 1_000);
        let countdown = Countdown::Counting { deadline };
        self.leases.insert(id, Granted { ttl, grant: self.applied, countdown });
        Ok(Outcome::LeaseGrant { ttl })
    }

    fn revoke(&mut self, id: i64, revision: u64) -> Result<Outcome, KvError> {
        self.leases.remove(&id).ok_or(KvError::LeaseNotFound)?;
        let mut deleted = 0;
        for (key, kv) in self.state(u64::MAX).into_iter().enumerate() {
            if kv.is_some_and(|kv| kv.lease == id) {
                self.changes.push(Change { revision, key, kv: None });
                deleted += 1;
            }
        }
        Ok(Outcome::LeaseRevoke { deleted })
    }

    fn expire(&mut self, names: &[LeaseName]) -> Outcome {
        let mut expired = 0;
        for name in names {
            if self.leases.get(&name.id).is_some_and(|lease| lease.grant == name.grant) {
                let last = self.changes.last().map_or(0, |change| change.revision);
                let next = last.max(self.revision) + 1;
                self.revoke(name.id, next).expect("just seen");
                expired += 1;
            }
        }
        Outcome::LeaseExpire { expired }
    }

    fn count_down(&mut self, at: u64, leases: &[(LeaseName, Countdown)]) -> Outcome {
        self.lease_clock = self.lease_clock.max(at);
        let mut changed = 0;
        for (name, countdown) in leases {
            let lease = self.leases.get_mut(&name.id);
            if let Some(lease) = lease.filter(|lease| lease.grant == name.grant) {
                lease.countdown = *countdown;
                changed += 1;
            }
        }
        Outcome::LeaseCountdown { changed }
    }

    /// Whether a store has the same leases with the same keys.
    pub(crate) fn compare_leases(&self, store: &Store) -> Result<(), String> {
        let theirs: BTreeMap<i64, Granted> = store
            .leases()
            .map(|(id, lease)| {
                let (ttl, grant, countdown) = (lease.ttl, lease.grant, lease.countdown);
                (id, Granted { ttl, grant, countdown })
            })
            .collect();
        if theirs != self.leases || store.lease_clock() != LeaseTime(self.lease_clock) {
            return Err(format!("leases\n  store {theirs:?}\n  model {:?}", self.leases));
        }
        let state = self.state(u64::MAX);
        for (id, lease) in store.leases() {
            let living = state.iter().flatten().filter(|kv| kv.lease == id).map(|kv| &kv.key);
            if !lease.keys().eq(living) {
                let keys: Vec<_> = lease.keys().collect();
                return Err(format!("lease {id} has the keys {keys:?}"));
            }
        }
        Ok(())
    }

    fn place(&self, key: &[u8]) -> usize {
        self.keys.iter().position(|known| known == key).expect("a key of the universe")
    }

    fn lookup(&self, key: &[u8]) -> Option<Arc<KeyValue>> {
        self.state(u64::MAX)[self.place(key)].clone()
    }

    fn put(&mut self, put: &Put, revision: u64) -> Outcome {
        let old = self.lookup(&put.key);
        let mut kv = KeyValue {
            key: put.key.clone(),
            value: put.value.clone(),
            create_revision: Revision(revision),
            mod_revision: Revision(revision),
            version: 1,
            lease: put.lease,
        };
        if let Some(old) = &old {
            kv.create_revision = old.create_revision;
            kv.version = old.version + 1;
            kv.value = if put.ignore_value { old.value.clone() } else { kv.value };
            kv.lease = if put.ignore_lease { old.lease } else { kv.lease };
        }
        let key = self.place(&put.key);
        self.changes.push(Change { revision, key, kv: Some(Arc::new(kv)) });
        Outcome::Put { prev: old.filter(|_| put.prev_kv) }
    }

    fn delete(&mut self, delete: &DeleteRange, revision: u64) -> Outcome {
        let mut prev = Vec::new();
        for (key, kv) in self.state(u64::MAX).into_iter().enumerate() {
            let Some(kv) = kv.filter(|kv| within(&delete.keys, &kv.key)) else { continue };
            self.changes.push(Change { revision, key, kv: None });
            prev.push(kv);
        }
        let deleted = prev.len() as u64;
        Outcome::DeleteRange { deleted, prev: if delete.prev_kv { prev } else { Vec::new() } }
    }

    fn txn(&mut self, before: &Model, txn: &Txn, revision: u64) -> Result<Outcome, KvError> {
        let state = before.state(u64::MAX);
        let succeeded = txn.compare.iter().all(|compare| holds(&state, compare));
        let mut outcomes = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            outcomes.push(match op {
                Op::Range(range) => {
                    before.readable(range.revision.0)?;
                    Outcome::Range(self.find(range))
                }
                Op::Put(put) => {
                    let place = before.place(&put.key);
                    if (put.ignore_value || put.ignore_lease) && state[place].is_none() {
                        return Err(KvError::KeyNotFound);
                    }
                    if put.lease != 0 && !self.leases.contains_key(&put.lease) {
                        return Err(KvError::LeaseNotFound);
                    }
                    self.put(put, revision)
                }
                Op::DeleteRange(delete) => self.delete(delete, revision),
                Op::Txn(inner) => self.txn(before, inner, revision)?,
            });
        }
        Ok(Outcome::Txn { succeeded, outcomes })
    }

    fn readable(&self, revision: u64) -> Result<(), KvError> {
        if revision > self.revision {
            return Err(KvError::FutureRevision { current: Revision(self.revision) });
        }
        if revision != 0 && revision < self.compacted {
            return Err(KvError::Compacted { compact_revision: Revision(self.compacted) });
        }
        Ok(())
    }

    pub(crate) fn range(&self, range: &Range) -> Result<Found, KvError> {
        self.readable(range.revision.0)?;
        Ok(self.find(range))
    }

    fn find(&self, range: &Range) -> Found {
        let revision = if range.revision.0 == 0 { u64::MAX } else { range.revision.0 };
        let mut kvs: Vec<Arc<KeyValue>> = self.state(revision).into_iter().flatten().collect();
        kvs.retain(|kv| within(&range.keys, &kv.key));
        let count = kvs.len() as u64;
        let keys_only = range.keys_only;
        if range.count_only {
            return Found { kvs: Vec::new(), more: false, count, keys_only };
        }
        kvs.retain(|kv| {
            let (modified, created) = (kv.mod_revision, kv.create_revision);
            (range.min_mod_revision.0 == 0 || modified >= range.min_mod_revision)
                && (range.max_mod_revision.0 == 0 || modified <= range.max_mod_revision)
                && (range.min_create_revision.0 == 0 || created >= range.min_create_revision)
                && (range.max_create_revision.0 == 0 || created <= range.max_create_revision)
        });
        kvs.sort_by(|a, b| {
            let order = match range.sort_target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if range.sort_order == SortOrder::Descend { order.reverse() } else { order }
        });
        let limit = if range.limit == 0 { usize::MAX } else { range.limit as usize };
        let more = kvs.len() > limit;
        kvs.truncate(limit);
        Found { kvs, more, count, keys_only }
    }

    /// What a fully swept store holds, in the unit of its accounting: every version which some
    /// readable revision sees, and the deletes which some readable revision precedes.
    pub(crate) fn bytes(&self) -> u64 {
        let kept = self.changes.iter().enumerate().filter(|(at, change)| {
            let mut later = self.changes[at + 1..].iter().filter(|later| later.key == change.key);
            let end = later.next().map_or(u64::MAX, |later| later.revision);
            let visible = change.revision < end && end > self.compacted;
            visible && (change.kv.is_some() || change.revision > self.compacted)
        });
        let weights = kept.map(|(_, change)| {
            let value = change.kv.as_ref().map_or(0, |kv| kv.value.len());
            (self.keys[change.key].len() + value) as u64 + VERSION_BYTES
        });
        weights.sum::<u64>() + self.leases.len() as u64 * LEASE_BYTES
    }
}

/// True if a put stands anywhere in it, whatever branch is taken.
fn puts(txn: &Txn) -> bool {
    format!("{txn:?}").contains("Put(")
}

fn within(keys: &Keys, key: &[u8]) -> bool {
    let end = &keys.range_end[..];
    if end.is_empty() {
        return key == &keys.key[..];
    }
    key >= &keys.key[..] && (end == b"\0" || key < end)
}

fn holds(state: &State, compare: &Compare) -> bool {
    let mut matching: Vec<KeyValue> = state
        .iter()
        .flatten()
        .filter(|kv| within(&compare.keys, &kv.key))
        .map(|kv| KeyValue::clone(kv))
        .collect();
    if matching.is_empty() {
        if let Operand::Value(_) = compare.operand {
            return false;
        }
        matching.push(KeyValue::default());
    }
    matching.iter().all(|kv| {
        let order = match &compare.operand {
            Operand::Version(given) => (kv.version as i64).cmp(given),
            Operand::Create(given) => (kv.create_revision.0 as i64).cmp(given),
            Operand::Mod(given) => (kv.mod_revision.0 as i64).cmp(given),
            Operand::Value(given) => kv.value.cmp(given),
            Operand::Lease(given) => kv.lease.cmp(given),
        };
        match compare.relation {
            Relation::Equal => order == Ordering::Equal,
            Relation::Greater => order == Ordering::Greater,
            Relation::Less => order == Ordering::Less,
            Relation::NotEqual => order != Ordering::Equal,
        }
    })
}
