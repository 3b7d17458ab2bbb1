//! The key index which etcd's layout needs in memory: key -> its revisions.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

/// The history of one key, without its values.
struct History {
    create: u64,
    version: u64,
    latest: u64,
    older: Vec<u64>,
}

/// A version which a newer one has replaced.
struct Superseded {
    at: u64,
    key: Arc<[u8]>,
    revision: u64,
}

/// Key -> revisions, and the queue of superseded versions that a compaction eats.
#[derive(Default)]
pub struct Index {
    keys: BTreeMap<Arc<[u8]>, History>,
    superseded: VecDeque<Superseded>,
    pub revision: u64,
}

impl Index {
    /// Notes a put at the next revision; gives back the revisions (create, modified, version).
    pub fn put(&mut self, key: &[u8]) -> (u64, u64, u64) {
        self.revision += 1;
        let revision = self.revision;
        if let Some(history) = self.keys.get_mut(key) {
            history.version += 1;
            let (create, version) = (history.create, history.version);
            self.supersede(key, revision);
            return (create, revision, version);
        }
        let first = History { create: revision, version: 1, latest: revision, older: Vec::new() };
        self.keys.insert(Arc::from(key), first);
        (revision, revision, 1)
    }

    /// Notes a version found on disk; they come in the order of their revisions.
    pub fn rebuild(&mut self, key: &[u8], create: u64, modified: u64, version: u64) {
        self.revision = modified;
        if let Some(history) = self.keys.get_mut(key) {
            (history.create, history.version) = (create, version);
            self.supersede(key, modified);
            return;
        }
        let only = History { create, version, latest: modified, older: Vec::new() };
        self.keys.insert(Arc::from(key), only);
    }

    fn supersede(&mut self, key: &[u8], by: u64) {
        let (key, _) = self.keys.get_key_value(key).expect("the caller has seen the key");
        let key = Arc::clone(key);
        let history = self.keys.get_mut(&key).expect("seen above");
        let revision = std::mem::replace(&mut history.latest, by);
        history.older.push(revision);
        self.superseded.push_back(Superseded { at: by, key, revision });
    }

    /// Forgets at most `limit` versions superseded at or before `revision`; tells which.
    pub fn compact(&mut self, revision: u64, limit: usize) -> Vec<u64> {
        let mut gone = Vec::new();
        while gone.len() < limit {
            let Some(next) = self.superseded.pop_front_if(|next| next.at <= revision) else {
                break;
            };
            let history = self.keys.get_mut(&next.key).expect("no key is deleted here");
            assert_eq!(history.older.remove(0), next.revision, "oldest first");
            gone.push(next.revision);
        }
        gone
    }

    /// The latest revision of a key.
    pub fn latest(&self, key: &[u8]) -> Option<u64> {
        self.keys.get(key).map(|history| history.latest)
    }

    /// The latest revisions of the keys from `key` on.
    pub fn latest_from(&self, key: &[u8], limit: usize) -> Vec<u64> {
        let range = (Bound::Included(key), Bound::Unbounded);
        self.keys.range::<[u8], _>(range).take(limit).map(|(_, history)| history.latest).collect()
    }
}
