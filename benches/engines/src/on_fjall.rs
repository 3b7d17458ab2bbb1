//! etcd's layout on fjall: revision (big endian) -> version, journal synced now and then.

use crate::engine::{
    Background, COMPACT_STEP, DURABLE_EVERY, Engine, KeyValue, Restart, decode, encode,
};
use crate::index::Index;
use bytes::Bytes;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

pub struct OnFjall {
    database: Database,
    versions: Keyspace,
    index: Index,
    durable: u64,
    buffer: Vec<u8>,
}

impl OnFjall {
    fn show(&self, revision: u64, visit: &mut dyn FnMut(&KeyValue)) {
        let stored = self.versions.get(revision.to_be_bytes()).expect("get");
        visit(&decode(&stored.expect("the index knows it")).0.to_owned());
    }

    fn sync(&mut self) {
        self.database.persist(PersistMode::SyncAll).expect("sync");
        self.durable = self.index.revision;
    }
}

impl Engine for OnFjall {
    fn open(dir: &Path, cache_bytes: usize) -> (OnFjall, Restart) {
        let start = Instant::now();
        // The journal repeats the log of the consensus and cannot be turned off; this is the
        // cheapest it gets.
        let builder = Database::builder(dir.join("fjall")).manual_journal_persist(true);
        let database = builder.cache_size(cache_bytes as u64).open().expect("open");
        let options = || KeyspaceCreateOptions::default().manual_journal_persist(true);
        let versions = database.keyspace("versions", options).expect("keyspace");
        let mut index = Index::default();
        for entry in versions.iter() {
            let stored = entry.value().expect("entry");
            let (kv, _) = decode(&stored);
            index.rebuild(kv.key, kv.create, kv.modified, kv.version);
        }
        let durable = index.revision;
        let engine = OnFjall { database, versions, index, durable, buffer: Vec::new() };
        (engine, Restart { load: start.elapsed(), ..Restart::default() })
    }

    fn put_batch(&mut self, batch: &[(Bytes, Bytes)]) {
        let mut writes = self.database.batch();
        for (key, value) in batch {
            let (create, modified, version) = self.index.put(key);
            let (key, value) = (key.clone(), value.clone());
            self.buffer.clear();
            encode(&KeyValue { key, value, create, modified, version, lease: 0 }, &mut self.buffer);
            writes.insert(&self.versions, modified.to_be_bytes(), self.buffer.as_slice());
        }
        writes.commit().expect("commit");
    }

    fn upkeep(&mut self) -> Background {
        if self.index.revision - self.durable >= DURABLE_EVERY {
            self.sync();
            return Background::Busy;
        }
        let busy = self.database.active_compactions() + self.database.outstanding_flushes() > 0;
        if busy { Background::Busy } else { Background::Idle }
    }

    fn compact_step(&mut self, revision: u64) -> usize {
        let gone = self.index.compact(revision, COMPACT_STEP);
        if gone.is_empty() {
            return 0;
        }
        let mut writes = self.database.batch();
        for revision in &gone {
            writes.remove(&self.versions, revision.to_be_bytes());
        }
        writes.commit().expect("commit");
        gone.len()
    }

    fn revision(&self) -> u64 {
        self.index.revision
    }

    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&KeyValue)) -> bool {
        let latest = self.index.latest(key);
        latest.inspect(|&revision| self.show(revision, visit)).is_some()
    }

    fn range(&mut self, key: &[u8], limit: usize, visit: &mut dyn FnMut(&KeyValue)) {
        for revision in self.index.latest_from(key, limit) {
            self.show(revision, visit);
        }
    }

    fn settle(&mut self) {
        self.sync();
        while self.database.active_compactions() + self.database.outstanding_flushes() > 0 {
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn squeeze(&mut self) {
        self.versions.rotate_memtable_and_wait().expect("rotate");
        self.versions.major_compact().expect("compact");
        self.settle();
    }
}
