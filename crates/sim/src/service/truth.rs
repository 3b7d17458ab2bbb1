//! What has happened, as the simulator knows it: every change of the store, in the order of the
//! revisions, and an own reading of what each operation should have answered.
//!
//! The changes are taken from the first replica that applies them. That they are *right* is judged
//! here, by a model that shares no code with the store: a plain list of versions for each key. That
//! other replicas have the same is judged by their digests.
//!
//! Because each write has a revision, the order in which operations took effect is given, and to
//! check linearizability (Herlihy and Wing 1990) no search is needed: an operation must have the
//! answer that the model gives at its revision, and its revision must lie between what was known
//! when it began and when it ended.

use bytes::Bytes;
use quorate_drivers::simulate::Broken;
use quorate_replica::store::{
    Command, Compare, DeleteRange, Found, KeyValue, Keys, Op, Operand, Outcome, Put, Range,
    Relation, Revision, Store, Txn,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One version of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Version {
    pub(super) revision: u64,
    pub(super) create: u64,
    /// 0 if the key was deleted.
    pub(super) version: u64,
    pub(super) value: Bytes,
    pub(super) lease: i64,
}

/// One change, for watchers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Change {
    pub(super) key: Bytes,
    pub(super) version: Version,
}

/// Everything that happened to the store.
#[derive(Debug, Default)]
pub(super) struct Truth {
    /// The changes of revision `i + 2`: an empty store is at 1.
    revisions: Vec<Vec<Change>>,
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// The revision at which a value was written.
    values: BTreeMap<Bytes, u64>,
    /// Values of writes that did not happen.
    refused: BTreeSet<Bytes>,
    /// Values of writes of which nobody knows whether they will happen.
    doubtful: BTreeSet<Bytes>,
    /// Those of them that have happened.
    pub(super) surprises: u64,
}

fn mvcc(why: String) -> Broken {
    Broken::new("mvcc", why)
}

impl Truth {
    /// The latest revision that any replica has reached.
    pub(super) fn latest(&self) -> u64 {
        self.revisions.len() as u64 + 1
    }

    /// The changes of a revision, which some replica has reached.
    pub(super) fn changes(&self, revision: u64) -> &[Change] {
        &self.revisions[(revision - 2) as usize]
    }

    /// The write of this value was refused for good.
    ///
    /// Errors: it has happened.
    pub(super) fn refuse(&mut self, value: &Bytes, why: &str) -> Result<(), Broken> {
        if let Some(revision) = self.values.get(value) {
            return Err(Broken::new(
                "once",
                format!("{value:?} was written at revision {revision} and refused: {why}"),
            ));
        }
        self.refused.insert(value.clone());
        Ok(())
    }

    /// Nobody knows what became of the write of this value.
    pub(super) fn doubt(&mut self, value: &Bytes) {
        match self.values.contains_key(value) {
            true => self.surprises += 1,
            false => drop(self.doubtful.insert(value.clone())),
        }
    }

    /// Learns what a replica has applied beyond what is known.
    ///
    /// Errors: its changes cannot follow from what came before.
    pub(super) fn learn(&mut self, store: &Store) -> Result<(), Broken> {
        let latest = self.latest();
        if store.revision().0 <= latest {
            return Ok(());
        }
        let history = store.history();
        // What was compacted in the same turn is still there.
        let history = history.before_compaction().unwrap_or(history);
        let events = history.changes(Revision(latest + 1)).map_err(|error| {
            mvcc(format!("the changes after revision {latest} are gone at once: {error}"))
        })?;
        for event in events {
            let (kv, revision) = (&event.kv, event.revision().0);
            match revision.checked_sub(self.latest()) {
                Some(0) => {}
                Some(1) => self.revisions.push(Vec::new()),
                _ => {
                    let latest = self.latest();
                    return Err(mvcc(format!("revision {revision} follows revision {latest}")));
                }
            }
            self.learn_change(kv, revision)?;
        }
        match self.latest() == store.revision().0 {
            true => Ok(()),
            false => Err(mvcc(format!(
                "the store is at revision {}, its changes end at {}",
                store.revision().0,
                self.latest()
            ))),
        }
    }

    fn learn_change(&mut self, kv: &KeyValue, revision: u64) -> Result<(), Broken> {
        let past = self.keys.entry(kv.key.clone()).or_default();
        let before = past.last().filter(|version| version.version > 0);
        let name = String::from_utf8_lossy(&kv.key).into_owned();
        let expected = match (kv.version, before) {
            (0, None) => {
                return Err(mvcc(format!("{name} is deleted at {revision} and was not there")));
            }
            (0, Some(_)) => (0, 0),
            (_, Some(before)) => (before.create, before.version + 1),
            (_, None) => (revision, 1),
        };
        if (kv.create_revision.0, kv.version) != expected {
            let was = (kv.create_revision.0, kv.version);
            return Err(mvcc(format!(
                "{name} at {revision} has creation and version {was:?} instead of {expected:?}"
            )));
        }
        let version = Version {
            revision,
            create: kv.create_revision.0,
            version: kv.version,
            value: kv.value.clone(),
            lease: kv.lease,
        };
        past.push(version.clone());
        if version.version > 0 {
            if let Some(before) = self.values.insert(kv.value.clone(), revision) {
                let value = &kv.value;
                let why = format!("{value:?} was written at revision {before} and at {revision}");
                return Err(Broken::new("once", why));
            }
            self.surprises += u64::from(self.doubtful.remove(&kv.value));
            if self.refused.contains(&kv.value) {
                let value = &kv.value;
                let why = format!("{value:?} was refused, and written at revision {revision}");
                return Err(Broken::new("once", why));
            }
        }
        let changes = self.revisions.last_mut().expect("a revision has begun");
        if changes.iter().any(|change| change.key == kv.key) {
            return Err(mvcc(format!("{name} changes twice at revision {revision}")));
        }
        changes.push(Change { key: kv.key.clone(), version });
        Ok(())
    }

    /// The state of a key at a revision.
    pub(super) fn at(&self, key: &[u8], revision: u64) -> Option<&Version> {
        let past = self.keys.get(key)?;
        let later = past.partition_point(|version| version.revision <= revision);
        past[..later].last().filter(|version| version.version > 0)
    }

    /// The living keys that hang on a lease at a revision.
    pub(super) fn keys_of_lease(&self, lease: i64, revision: u64) -> Vec<&Bytes> {
        let on_it = |key: &&Bytes| self.at(key, revision).is_some_and(|v| v.lease == lease);
        self.keys.keys().filter(on_it).collect()
    }

    /// The living keys of a range at a revision, ascending.
    pub(super) fn range(&self, keys: &Keys, revision: u64) -> Vec<(&Bytes, &Version)> {
        let (lower, upper) = keys.bounds();
        if keys.range_end.len() > 1 && keys.range_end < keys.key {
            return Vec::new();
        }
        let found = self.keys.range::<[u8], _>((lower, upper));
        found.filter_map(|(key, _)| Some((key, self.at(key, revision)?))).collect()
    }

    /// What a read at `revision` should have found.
    ///
    /// Errors: what is different.
    pub(super) fn judge_read(
        &self,
        range: &Range,
        revision: u64,
        found: &Found,
    ) -> Result<(), String> {
        let at = if range.revision.0 > 0 { range.revision.0 } else { revision };
        let expected = self.range(&range.keys, at);
        if found.count != expected.len() as u64 {
            return Err(format!("counted {} keys instead of {}", found.count, expected.len()));
        }
        let wanted = match range.limit {
            0 => expected.len(),
            limit => expected.len().min(limit as usize),
        };
        if !range.count_only && found.kvs.len() != wanted {
            return Err(format!("found {} pairs instead of {wanted}", found.kvs.len()));
        }
        let pairs = expected.iter().zip(&found.kvs);
        for ((key, version), kv) in pairs.filter(|_| !range.count_only) {
            same_pair(key, version, kv)?;
        }
        Ok(())
    }

    /// What a command that was applied at `revision` should have done and answered.
    ///
    /// Errors: what is different.
    pub(super) fn judge(
        &self,
        command: &Command,
        revision: u64,
        outcome: &Outcome,
    ) -> Result<(), String> {
        match (command, outcome) {
            (Command::Put(put), Outcome::Put { prev }) => {
                self.judge_events(&[Wanted::Put(put)], revision)?;
                self.judge_prev(put, revision, prev.as_ref())
            }
            (Command::DeleteRange(delete), Outcome::DeleteRange { deleted, .. }) => {
                let before = if *deleted > 0 { revision - 1 } else { revision };
                let doomed = self.range(&delete.keys, before);
                if doomed.len() as u64 != *deleted {
                    return Err(format!("deleted {deleted} keys instead of {}", doomed.len()));
                }
                match deleted {
                    0 => Ok(()),
                    _ => self.judge_events(&[Wanted::Delete(delete)], revision),
                }
            }
            (Command::Txn(txn), Outcome::Txn { succeeded, outcomes }) => {
                self.judge_txn(txn, revision, *succeeded, outcomes)
            }
            _ => Ok(()),
        }
    }

    fn judge_prev(
        &self,
        put: &Put,
        revision: u64,
        prev: Option<&Arc<KeyValue>>,
    ) -> Result<(), String> {
        let expected = self.at(&put.key, revision - 1).filter(|_| put.prev_kv);
        match (expected, prev) {
            (None, None) => Ok(()),
            (Some(version), Some(kv)) => same_pair(&put.key, version, kv),
            (expected, prev) => Err(format!("the pair before was {expected:?}, not {prev:?}")),
        }
    }

    fn judge_txn(
        &self,
        txn: &Txn,
        revision: u64,
        succeeded: bool,
        outcomes: &[Outcome],
    ) -> Result<(), String> {
        let branch = if succeeded { &txn.success } else { &txn.failure };
        let before = if wrote(outcomes) { revision - 1 } else { revision };
        let mut wanted = Vec::new();
        self.gather(txn, before, succeeded, outcomes, &mut wanted)?;
        if wrote(outcomes) {
            return self.judge_events(&wanted, revision);
        }
        for (op, outcome) in branch.iter().zip(outcomes) {
            if let (Op::Range(range), Outcome::Range(found)) = (op, outcome) {
                self.judge_read(range, revision, found)?;
            }
        }
        Ok(())
    }

    /// Checks the comparisons of a transaction and of those inside it, which see the same state,
    /// and gathers the writes of the branches taken.
    fn gather<'a>(
        &self,
        txn: &'a Txn,
        before: u64,
        succeeded: bool,
        outcomes: &[Outcome],
        wanted: &mut Vec<Wanted<'a>>,
    ) -> Result<(), String> {
        let holds = txn.compare.iter().all(|compare| self.compare(compare, before));
        if holds != succeeded {
            return Err(format!("its comparisons were {holds} at revision {before}"));
        }
        let branch = if succeeded { &txn.success } else { &txn.failure };
        for (op, outcome) in branch.iter().zip(outcomes) {
            match (op, outcome) {
                (Op::Put(put), _) => wanted.push(Wanted::Put(put)),
                (Op::DeleteRange(delete), _) => wanted.push(Wanted::Delete(delete)),
                (Op::Txn(inner), Outcome::Txn { succeeded, outcomes }) => {
                    self.gather(inner, before, *succeeded, outcomes, wanted)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A comparison of a range holds for each of its keys; a range without any is a missing key.
    fn compare(&self, compare: &Compare, revision: u64) -> bool {
        let found = self.range(&compare.keys, revision);
        match found.is_empty() {
            true => self.compare_one(compare, None),
            false => found.iter().all(|(_, version)| self.compare_one(compare, Some(version))),
        }
    }

    fn compare_one(&self, compare: &Compare, version: Option<&Version>) -> bool {
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

    /// The changes of `revision` are those that the writes make, and no others.
    fn judge_events(&self, wanted: &[Wanted<'_>], revision: u64) -> Result<(), String> {
        let mut expected: BTreeMap<&[u8], Option<(&Bytes, i64)>> = BTreeMap::new();
        for write in wanted {
            match write {
                Wanted::Put(put) => {
                    expected.insert(&put.key, Some((&put.value, put.lease)));
                }
                Wanted::Delete(delete) => {
                    for (key, _) in self.range(&delete.keys, revision.saturating_sub(1)) {
                        expected.insert(key, None);
                    }
                }
            }
        }
        let found: BTreeMap<&[u8], Option<(&Bytes, i64)>> = self
            .changes(revision)
            .iter()
            .map(|change| {
                let living = (change.version.version > 0)
                    .then_some((&change.version.value, change.version.lease));
                (&change.key[..], living)
            })
            .collect();
        match found == expected {
            true => Ok(()),
            false => Err(format!("revision {revision} changed {found:?} instead of {expected:?}")),
        }
    }
}

/// True if a transaction with these outcomes moved the revision.
pub(super) fn wrote(outcomes: &[Outcome]) -> bool {
    outcomes.iter().any(|outcome| match outcome {
        Outcome::Put { .. } => true,
        Outcome::DeleteRange { deleted, .. } | Outcome::LeaseRevoke { deleted } => *deleted > 0,
        Outcome::Txn { outcomes, .. } => wrote(outcomes),
        _ => false,
    })
}

/// A write, as far as its changes are concerned.
enum Wanted<'a> {
    Put(&'a Put),
    Delete(&'a DeleteRange),
}

fn same_pair(key: &Bytes, version: &Version, kv: &KeyValue) -> Result<(), String> {
    let same = *key == kv.key
        && version.value == kv.value
        && version.create == kv.create_revision.0
        && version.revision == kv.mod_revision.0
        && version.version == kv.version
        && version.lease == kv.lease;
    match same {
        true => Ok(()),
        false => Err(format!("found {kv:?} instead of {key:?} {version:?}")),
    }
}
