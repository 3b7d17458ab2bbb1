//! What must have happened: the store by the book, fed with the committed log.
//!
//! **Problem.** Whether an answer is right depends on all that happened before it, also on what
//! moved no revision: leases that were granted, compactions, commands that were refused. A judge
//! who knows the changes of some store cannot tell a wrong refusal from a right one, and takes the
//! changes of that store for granted.
//!
//! **Idea.** The order of the committed log is the order in which operations took effect, so to
//! check linearizability (Herlihy and Wing 1990) no search is needed. This model carries out each
//! committed command once, in that order, as etcd's API describes it, and says what its answer must
//! be. It shares the words of the store (commands, outcomes, refusals) and none of its code: it is
//! a plain list of versions for each key. Three things are held against it: the changes, compact
//! revision and leases of the first replica that reaches an index ([`Truth::compare`]; that others
//! have the same is judged by their digests), every answer to a write, and every answer to a read,
//! at the index at which the member stood that gave it.
//!
//! *Bounds.* All versions, and one state per entry of the log, are kept as long as the run.
//!
//! Sources: etcd's documented API, for what commands do.

use super::clients::{fenced_key, named_key};
use bytes::Bytes;
use quorate_check::guarantees::watch::Log;
use quorate_check::models::map::{Blob, Pair};
use quorate_check::witness;
use quorate_core::{Index, Term};
use quorate_drivers::simulate::Broken;
use quorate_replica::store::{
    Asked, Command, Compare, DeleteRange, Event, Fence, Found, KeyValue, Keys, KvError, LeaseName,
    Op, Operand, Outcome, Put, Range, Relation, Revision, Store, Txn,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One version of one key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Version {
    pub(super) revision: u64,
    pub(super) create: u64,
    /// 0 if the key was deleted.
    pub(super) version: u64,
    pub(super) value: Bytes,
    pub(super) lease: i64,
}

/// One change of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Change {
    key: Bytes,
    version: Version,
    /// The revision of the version that it replaced; 0 if the key did not live.
    before: u64,
}

/// Where the store stands after an entry of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Stand {
    pub(super) revision: u64,
    /// 0 before the first compaction.
    pub(super) compacted: u64,
}

/// What a command did to a lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum LeaseChange {
    Granted(i64),
    Revoked(i64),
    /// A leader ended it.
    Expired(i64),
}

/// What a command did.
#[derive(Debug)]
pub(super) struct Did {
    pub(super) outcome: Result<Outcome, KvError>,
    pub(super) leases: Vec<LeaseChange>,
    /// It was carried out before, at this revision.
    pub(super) repeated: Option<u64>,
}

#[derive(Debug)]
struct Lease {
    /// The number of the command that granted it.
    grant: u64,
    ttl: u64,
    keys: BTreeSet<Bytes>,
}

/// Everything that must have happened to the store.
#[derive(Debug)]
pub(super) struct Truth {
    /// The changes of revision `i + 2`: an empty store is at 1.
    revisions: Vec<Vec<Change>>,
    log: Log,
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// The revision at which a value was written.
    values: BTreeMap<Bytes, u64>,
    /// After each index, from 0 on.
    stands: Vec<Stand>,
    compacted: u64,
    leases: BTreeMap<i64, Lease>,
    /// Some lease began or ended since a store was compared.
    leases_changed: bool,
    /// Revisions at which a lease took its keys with it.
    lease_ends: BTreeSet<u64>,
    /// Commands so far.
    commands: u64,
    /// The revision up to which the changes of a store were compared.
    compared: u64,
    /// What requests with names were answered, and where the store stood then.
    named: BTreeMap<Bytes, (Outcome, u64)>,
}

impl Default for Truth {
    fn default() -> Truth {
        let mut log = Log::default();
        log.on_revision(1, Vec::new()).expect("the first");
        Truth {
            revisions: Vec::new(),
            log,
            keys: BTreeMap::new(),
            values: BTreeMap::new(),
            stands: vec![Stand { revision: 1, compacted: 0 }],
            compacted: 0,
            leases: BTreeMap::new(),
            leases_changed: false,
            lease_ends: BTreeSet::new(),
            commands: 0,
            compared: 1,
            named: BTreeMap::new(),
        }
    }
}

fn mvcc(why: String) -> Broken {
    Broken::new("mvcc", why)
}

/// Where a command has begun to write: all its writes share one revision.
#[derive(Debug, Default)]
struct Writing(bool);

impl Truth {
    /// The latest revision that any replica has reached.
    pub(super) fn latest(&self) -> u64 {
        self.revisions.len() as u64 + 1
    }

    /// All changes, as the judge of watches knows them.
    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// The changes of a revision, which some replica has reached.
    fn changes(&self, revision: u64) -> &[Change] {
        &self.revisions[(revision - 2) as usize]
    }

    /// Where a store stands that has applied this index, which some replica has.
    pub(super) fn stand(&self, index: Index) -> Stand {
        self.stands[index.0 as usize]
    }

    /// An entry of the log holds no command.
    pub(super) fn pass(&mut self) {
        for revision in self.log.last() + 1..=self.latest() {
            let changes = self.changes(revision).iter().map(told).collect();
            self.log.on_revision(revision, changes).expect("one after the other");
        }
        self.stands.push(Stand { revision: self.latest(), compacted: self.compacted });
    }

    /// Carries out the command of the next entry, which is one of `term`.
    ///
    /// Errors: a value is written that was written before.
    pub(super) fn apply(&mut self, asked: &Asked, term: Term) -> Result<Did, Broken> {
        let guard = &asked.guard;
        let id = guard.request.as_ref().map(|request| &request.id);
        let first = id.and_then(|id| self.named.get(id)).cloned();
        let refused = guard.fences.iter().zip(0..).find_map(|fence| self.fenced(fence));
        let repeated = first.as_ref().map(|(_, revision)| *revision);
        let done = match (first, refused) {
            (Some((outcome, _)), _) => Some(Ok(outcome)),
            (None, Some(why)) => Some(Err(why)),
            (None, None) => None,
        };
        if let Some(outcome) = done {
            self.commands += 1;
            self.pass();
            return Ok(Did { outcome, leases: Vec::new(), repeated });
        }
        let before = self.latest();
        let did = self.carry_out(&asked.command, term)?;
        if let (Some(id), Ok(outcome)) = (id, &did.outcome)
            && self.latest() > before
        {
            self.named.insert(id.clone(), (outcome.clone(), self.latest()));
        }
        Ok(did)
    }

    /// Why a lock of a command is not held, if it is not: its key must be the one with this token.
    fn fenced(&self, (fence, number): (&Fence, u8)) -> Option<KvError> {
        let holder = self.at(&fence.key, self.latest()).map_or(0, |version| version.create);
        let held = holder == fence.token.0;
        (!held).then_some(KvError::Fenced { fence: number, holder: Revision(holder) })
    }

    fn carry_out(&mut self, command: &Command, term: Term) -> Result<Did, Broken> {
        let mut leases = Vec::new();
        let mut writing = Writing::default();
        let outcome = match command {
            Command::Put(put) => match self.check_put(put) {
                Ok(()) => Ok(self.put(put, &mut writing)?),
                Err(why) => Err(why),
            },
            Command::DeleteRange(delete) => Ok(self.delete_range(delete, &mut writing)),
            Command::Txn(txn) => self.txn(txn, &mut writing)?,
            Command::Compact { revision } => self.compact(revision.0),
            Command::LeaseGrant { id, ttl, .. } => self.grant(*id, *ttl, &mut leases),
            Command::LeaseRevoke { id } => self.revoke(*id, &mut leases),
            Command::LeaseExpire { term: told, leases: names } if *told == term.0 => {
                Ok(self.expire(names, &mut leases))
            }
            Command::LeaseExpire { .. } => Ok(Outcome::LeaseExpire { expired: 0 }),
            // When leases end is judged by true time.
            Command::LeaseCountdown { .. } => Ok(Outcome::LeaseCountdown { changed: 0 }),
            Command::Alarm(_) => return Err(mvcc("an alarm that nobody raised".to_owned())),
            Command::Auth(_) => return Err(mvcc("users that nobody made".to_owned())),
            Command::Limit(_) => return Err(mvcc("limits that nobody set".to_owned())),
        };
        self.commands += 1;
        self.leases_changed |= !leases.is_empty();
        self.pass();
        Ok(Did { outcome, leases, repeated: None })
    }

    /// Alone, a put asks for its lease first; in a transaction it asks for its key first.
    fn check_put(&self, put: &Put) -> Result<(), KvError> {
        self.check_lease(put)?;
        self.check_present(put)
    }

    fn check_lease(&self, put: &Put) -> Result<(), KvError> {
        match put.lease == 0 || self.leases.contains_key(&put.lease) {
            true => Ok(()),
            false => Err(KvError::LeaseNotFound),
        }
    }

    fn check_present(&self, put: &Put) -> Result<(), KvError> {
        let keeps = put.ignore_value || put.ignore_lease;
        match keeps && self.at(&put.key, self.latest()).is_none() {
            true => Err(KvError::KeyNotFound),
            false => Ok(()),
        }
    }

    fn begin(&mut self, writing: &mut Writing) -> u64 {
        if !std::mem::replace(&mut writing.0, true) {
            self.revisions.push(Vec::new());
        }
        self.latest()
    }

    fn put(&mut self, put: &Put, writing: &mut Writing) -> Result<Outcome, Broken> {
        let before = self.at(&put.key, self.latest()).cloned();
        let revision = self.begin(writing);
        let kept = before.clone().unwrap_or_default();
        let value = if put.ignore_value { kept.value } else { put.value.clone() };
        let lease = if put.ignore_lease { kept.lease } else { put.lease };
        if let Some(earlier) = self.values.insert(value.clone(), revision) {
            let why = format!("{value:?} was written at revision {earlier} and at {revision}");
            return Err(Broken::new("once", why));
        }
        let create = before.as_ref().map_or(revision, |before| before.create);
        let version = kept.version + 1;
        let fresh = Version { revision, create, version, value, lease };
        self.write(&put.key, before.as_ref(), fresh);
        let prev = before.filter(|_| put.prev_kv).map(|before| pair(&put.key, &before));
        Ok(Outcome::Put { prev })
    }

    fn delete_range(&mut self, delete: &DeleteRange, writing: &mut Writing) -> Outcome {
        let doomed: Vec<(Bytes, Version)> = self
            .range(&delete.keys, self.latest())
            .into_iter()
            .map(|(key, version)| (key.clone(), version.clone()))
            .collect();
        for (key, version) in &doomed {
            self.delete(key, version, writing);
        }
        let prev = doomed.iter().filter(|_| delete.prev_kv);
        let prev = prev.map(|(key, version)| pair(key, version)).collect();
        Outcome::DeleteRange { deleted: doomed.len() as u64, prev }
    }

    fn delete(&mut self, key: &Bytes, before: &Version, writing: &mut Writing) {
        let revision = self.begin(writing);
        self.write(key, Some(before), Version { revision, ..Version::default() });
    }

    fn write(&mut self, key: &Bytes, before: Option<&Version>, fresh: Version) {
        if let Some(lease) = before.and_then(|before| self.leases.get_mut(&before.lease)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.leases.get_mut(&fresh.lease) {
            lease.keys.insert(key.clone());
        }
        self.keys.entry(key.clone()).or_default().push(fresh.clone());
        let before = before.map_or(0, |before| before.revision);
        let changes = self.revisions.last_mut().expect("a revision has begun");
        changes.push(Change { key: key.clone(), version: fresh, before });
    }

    fn compact(&mut self, revision: u64) -> Result<Outcome, KvError> {
        if revision == 0 && self.compacted == 0 {
            return Ok(Outcome::Compact);
        }
        if revision <= self.compacted {
            return Err(KvError::Compacted { compact_revision: Revision(self.compacted) });
        }
        if revision > self.latest() {
            return Err(KvError::FutureRevision { current: Revision(self.latest()) });
        }
        self.compacted = revision;
        Ok(Outcome::Compact)
    }

    fn grant(
        &mut self,
        id: i64,
        ttl: u64,
        changed: &mut Vec<LeaseChange>,
    ) -> Result<Outcome, KvError> {
        if id == 0 {
            return Err(KvError::LeaseNotFound);
        }
        if self.leases.contains_key(&id) {
            return Err(KvError::LeaseExists);
        }
        self.leases.insert(id, Lease { grant: self.commands, ttl, keys: BTreeSet::new() });
        changed.push(LeaseChange::Granted(id));
        Ok(Outcome::LeaseGrant { ttl })
    }

    fn revoke(&mut self, id: i64, changed: &mut Vec<LeaseChange>) -> Result<Outcome, KvError> {
        let deleted = self.end(id).ok_or(KvError::LeaseNotFound)?;
        changed.push(LeaseChange::Revoked(id));
        Ok(Outcome::LeaseRevoke { deleted })
    }

    /// Each at a revision of its own, and only the lease that was meant.
    fn expire(&mut self, names: &[LeaseName], changed: &mut Vec<LeaseChange>) -> Outcome {
        let mut expired = 0;
        for name in names {
            if self.leases.get(&name.id).is_some_and(|lease| lease.grant == name.grant) {
                self.end(name.id);
                changed.push(LeaseChange::Expired(name.id));
                expired += 1;
            }
        }
        Outcome::LeaseExpire { expired }
    }

    /// All keys of a lease go with it, at one revision. Says how many; none if there is no lease.
    fn end(&mut self, id: i64) -> Option<u64> {
        let lease = self.leases.remove(&id)?;
        let mut writing = Writing::default();
        for key in &lease.keys {
            let before = self.at(key, self.latest()).cloned().expect("a key of a lease lives");
            self.delete(key, &before, &mut writing);
        }
        if writing.0 {
            self.lease_ends.insert(self.latest());
        }
        Some(lease.keys.len() as u64)
    }

    /// First all comparisons on the state before, which fix the branches; then all that could be
    /// refused; then the operations, each of which sees the writes before it.
    fn txn(
        &mut self,
        txn: &Txn,
        writing: &mut Writing,
    ) -> Result<Result<Outcome, KvError>, Broken> {
        let mut path = Vec::new();
        self.choose(txn, &mut path);
        if let Err(why) = self.check_txn(txn, &mut path.iter()) {
            return Ok(Err(why));
        }
        self.run(txn, &mut path.iter(), writing).map(Ok)
    }

    fn choose(&self, txn: &Txn, path: &mut Vec<bool>) {
        let succeeded = txn.compare.iter().all(|compare| self.compare_keys(compare));
        path.push(succeeded);
        for op in branch(txn, succeeded) {
            if let Op::Txn(inner) = op {
                self.choose(inner, path);
            }
        }
    }

    fn check_txn(&self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>) -> Result<(), KvError> {
        let succeeded = *path.next().expect("a branch was chosen");
        for op in branch(txn, succeeded) {
            match op {
                Op::Range(range) => self.check_revision(range, self.now())?,
                Op::Put(put) => {
                    self.check_present(put)?;
                    self.check_lease(put)?;
                }
                Op::DeleteRange(_) => {}
                Op::Txn(inner) => self.check_txn(inner, path)?,
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        txn: &Txn,
        path: &mut std::slice::Iter<'_, bool>,
        writing: &mut Writing,
    ) -> Result<Outcome, Broken> {
        let succeeded = *path.next().expect("a branch was chosen");
        let mut outcomes = Vec::new();
        for op in branch(txn, succeeded) {
            outcomes.push(match op {
                Op::Range(range) => Outcome::Range(self.find(range, self.latest())),
                Op::Put(put) => self.put(put, writing)?,
                Op::DeleteRange(delete) => self.delete_range(delete, writing),
                Op::Txn(inner) => self.run(inner, path, writing)?,
            });
        }
        Ok(Outcome::Txn { succeeded, outcomes })
    }

    /// A comparison of a range holds for each of its keys; a range without any is a missing key.
    fn compare_keys(&self, compare: &Compare) -> bool {
        let found = self.range(&compare.keys, self.latest());
        match found.is_empty() {
            true => compare_one(compare, None),
            false => found.iter().all(|(_, version)| compare_one(compare, Some(version))),
        }
    }

    fn now(&self) -> Stand {
        Stand { revision: self.latest(), compacted: self.compacted }
    }

    fn check_revision(&self, range: &Range, stand: Stand) -> Result<(), KvError> {
        let asked = range.revision.0;
        if asked > stand.revision {
            return Err(KvError::FutureRevision { current: Revision(stand.revision) });
        }
        if asked > 0 && asked < stand.compacted {
            return Err(KvError::Compacted { compact_revision: Revision(stand.compacted) });
        }
        Ok(())
    }

    /// What a read finds at a member that has applied this index.
    pub(super) fn read(&self, range: &Range, index: Index) -> Result<Found, KvError> {
        let stand = self.stand(index);
        self.check_revision(range, stand)?;
        Ok(self.find(range, stand.revision))
    }

    /// In key order and without filters: that is how clients ask.
    fn find(&self, range: &Range, latest: u64) -> Found {
        let at = if range.revision.0 > 0 { range.revision.0 } else { latest };
        let found = self.range(&range.keys, at);
        let count = found.len();
        let wanted = match range.limit {
            _ if range.count_only => 0,
            0 => count,
            limit => count.min(limit as usize),
        };
        let kvs = found[..wanted].iter().map(|(key, version)| pair(key, version)).collect();
        let more = !range.count_only && wanted < count;
        Found { kvs, more, count: count as u64, keys_only: range.keys_only }
    }

    /// The state of a key at a revision.
    pub(super) fn at(&self, key: &[u8], revision: u64) -> Option<&Version> {
        let past = self.keys.get(key)?;
        let later = past.partition_point(|version| version.revision <= revision);
        past[..later].last().filter(|version| version.version > 0)
    }

    /// The living keys of a range at a revision, ascending.
    fn range(&self, keys: &Keys, revision: u64) -> Vec<(&Bytes, &Version)> {
        if keys.range_end.len() > 1 && keys.range_end < keys.key {
            return Vec::new();
        }
        let found = self.keys.range::<[u8], _>(keys.bounds());
        found.filter_map(|(key, _)| Some((key, self.at(key, revision)?))).collect()
    }

    /// The store of a replica that has applied all that was carried out here.
    ///
    /// Errors: it is another store.
    pub(super) fn compare(&mut self, store: &Store) -> Result<(), Broken> {
        let stand = Stand { revision: store.revision().0, compacted: store.compact_revision().0 };
        if stand.compacted != self.compacted {
            let (is, must) = (stand.compacted, self.compacted);
            return Err(mvcc(format!("a store is compacted at {is} instead of {must}")));
        }
        self.compare_changes(store)?;
        if stand.revision != self.latest() {
            let (is, must) = (stand.revision, self.latest());
            let why = format!("a store is at revision {is} instead of {must}");
            return Err(Broken::new(self.property_at(must), why));
        }
        if std::mem::take(&mut self.leases_changed) {
            let must = self.leases.iter().map(|(id, lease)| (*id, lease.ttl, lease.keys.len()));
            let is = store.leases().map(|(id, lease)| (id, lease.ttl, lease.keys().len()));
            if !is.eq(must) {
                let (is, must) = (store.leases(), &self.leases);
                let is: Vec<_> = is.collect();
                let why = format!("a store has the leases {is:?} instead of {must:?}");
                return Err(Broken::new("lease", why));
            }
        }
        Ok(())
    }

    /// Those that were compacted and freed in the turn that made them cannot be compared.
    fn compare_changes(&mut self, store: &Store) -> Result<(), Broken> {
        if store.revision().0 <= self.compared {
            return Ok(());
        }
        let history = store.history();
        // What was compacted in the same turn is still there.
        let history = history.before_compaction().unwrap_or(history);
        let from = history.compact_revision().0.max(self.compared + 1);
        let told = history.changes(Revision(from)).expect("it has them from there on");
        let mut must = (from..=self.latest())
            .flat_map(|revision| self.changes(revision).iter().map(move |c| (revision, c)));
        for event in told {
            let revision = event.revision().0;
            match must.next() {
                Some((at, change)) if at == revision && is_change(event, change) => {}
                other => return Err(self.other_change(revision, &event.kv, other)),
            }
        }
        if let Some((at, missing)) = must.next() {
            let kv = pair(&missing.key, &missing.version);
            let why = format!("revision {at} of a store lacks {kv:?}");
            return Err(Broken::new(self.property_of(&kv, at), why));
        }
        drop(must);
        self.compared = store.revision().0;
        Ok(())
    }

    fn other_change(&self, revision: u64, kv: &KeyValue, must: Option<(u64, &Change)>) -> Broken {
        let at = must.map_or(revision, |(at, _)| at.min(revision));
        let why = format!("revision {revision} of a store has {kv:?} where {must:?} is due");
        Broken::new(self.property_of(kv, at), why)
    }

    /// Which promise a wrong change of this key breaks, which is one of this revision.
    fn property_of(&self, kv: &KeyValue, revision: u64) -> &'static str {
        match &kv.key {
            key if *key == fenced_key() => "lock",
            key if *key == named_key() => "once",
            _ => self.property_at(revision),
        }
    }

    /// Which promise a wrong change of this revision breaks.
    fn property_at(&self, revision: u64) -> &'static str {
        if self.lease_ends.contains(&revision) { "lease" } else { "mvcc" }
    }
}

fn branch(txn: &Txn, succeeded: bool) -> &[Op] {
    if succeeded { &txn.success } else { &txn.failure }
}

fn compare_one(compare: &Compare, version: Option<&Version>) -> bool {
    let number = |of: fn(&Version) -> u64| version.map_or(0, of) as i64;
    let order = match &compare.operand {
        Operand::Version(given) => number(|v| v.version).cmp(given),
        Operand::Create(given) => number(|v| v.create).cmp(given),
        Operand::Mod(given) => number(|v| v.revision).cmp(given),
        Operand::Lease(given) => version.map_or(0, |v| v.lease).cmp(given),
        Operand::Value(given) => match version {
            Some(version) => version.value.cmp(given),
            None => return false,
        },
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
        Relation::NotEqual => order.is_ne(),
    }
}

/// A change as the judge of watches knows it.
fn told(change: &Change) -> witness::Change {
    let Change { key, version, .. } = change;
    let key = Blob::from(&key[..]);
    match version.version {
        0 => witness::Change::Delete(key),
        count => witness::Change::Put(Pair {
            key,
            value: Blob::from(&version.value[..]),
            create: version.create,
            modified: version.revision,
            version: count,
            lease: version.lease,
        }),
    }
}

/// A version as it is answered.
fn pair(key: &Bytes, version: &Version) -> Arc<KeyValue> {
    Arc::new(KeyValue {
        key: key.clone(),
        value: version.value.clone(),
        create_revision: Revision(version.create),
        mod_revision: Revision(version.revision),
        version: version.version,
        lease: version.lease,
    })
}

/// True if a store made this change.
fn is_change(event: &Event, change: &Change) -> bool {
    let Change { key, version, before } = change;
    let kv = &event.kv;
    kv.key == *key
        && kv.value == version.value
        && kv.create_revision.0 == version.create
        && kv.mod_revision.0 == version.revision
        && kv.version == version.version
        && kv.lease == version.lease
        && event.prev_revision.0 == *before
}
