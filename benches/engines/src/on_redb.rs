//! etcd's layout on redb: revision -> version, commits without a sync, a durable one now and then.

use crate::engine::{
    Background, COMPACT_STEP, DURABLE_EVERY, Engine, KeyValue, Restart, decode, encode,
};
use crate::index::Index;
use bytes::Bytes;
use redb::{Database, Durability, ReadOnlyTable, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;
use std::time::Instant;

const VERSIONS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("versions");

pub struct OnRedb {
    database: Database,
    index: Index,
    durable: u64,
    reader: Option<ReadOnlyTable<u64, &'static [u8]>>,
    buffer: Vec<u8>,
}

impl OnRedb {
    fn reader(&mut self) -> &ReadOnlyTable<u64, &'static [u8]> {
        self.reader.get_or_insert_with(|| {
            self.database.begin_read().expect("read").open_table(VERSIONS).expect("table")
        })
    }

    fn commit_durably(&mut self) {
        let mut transaction = self.database.begin_write().expect("write");
        transaction.set_durability(Durability::Immediate).expect("durability");
        // Without it a restart after a crash walks the whole file.
        transaction.set_quick_repair(true);
        transaction.commit().expect("commit");
        self.durable = self.index.revision;
    }

    fn show(&mut self, revision: u64, visit: &mut dyn FnMut(&KeyValue)) {
        let stored = self.reader().get(revision).expect("get").expect("the index knows it");
        visit(&decode(stored.value()).0.to_owned());
    }
}

impl Engine for OnRedb {
    fn open(dir: &Path, cache_bytes: usize) -> (OnRedb, Restart) {
        let start = Instant::now();
        let path = dir.join("store.redb");
        let mut builder = Database::builder();
        let database = builder.set_cache_size(cache_bytes).create(path).expect("open");
        let transaction = database.begin_write().expect("write");
        let mut index = Index::default();
        {
            let table = transaction.open_table(VERSIONS).expect("table");
            for entry in table.iter().expect("scan") {
                let (_, stored) = entry.expect("entry");
                let (kv, _) = decode(stored.value());
                index.rebuild(kv.key, kv.create, kv.modified, kv.version);
            }
        }
        transaction.commit().expect("commit");
        let durable = index.revision;
        let engine = OnRedb { database, index, durable, reader: None, buffer: Vec::new() };
        (engine, Restart { load: start.elapsed(), ..Restart::default() })
    }

    fn put_batch(&mut self, batch: &[(Bytes, Bytes)]) {
        self.reader = None;
        let mut transaction = self.database.begin_write().expect("write");
        transaction.set_durability(Durability::None).expect("durability");
        {
            let mut table = transaction.open_table(VERSIONS).expect("table");
            for (key, value) in batch {
                let (create, modified, version) = self.index.put(key);
                let (key, value) = (key.clone(), value.clone());
                self.buffer.clear();
                encode(
                    &KeyValue { key, value, create, modified, version, lease: 0 },
                    &mut self.buffer,
                );
                table.insert(modified, self.buffer.as_slice()).expect("insert");
            }
        }
        transaction.commit().expect("commit");
    }

    fn upkeep(&mut self) -> Background {
        if self.index.revision - self.durable < DURABLE_EVERY {
            return Background::Idle;
        }
        self.commit_durably();
        Background::Busy
    }

    fn compact_step(&mut self, revision: u64) -> usize {
        let gone = self.index.compact(revision, COMPACT_STEP);
        if gone.is_empty() {
            return 0;
        }
        self.reader = None;
        let mut transaction = self.database.begin_write().expect("write");
        transaction.set_durability(Durability::None).expect("durability");
        {
            let mut table = transaction.open_table(VERSIONS).expect("table");
            for revision in &gone {
                table.remove(revision).expect("remove").expect("the index knows it");
            }
        }
        transaction.commit().expect("commit");
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
        self.reader = None;
        self.commit_durably();
    }

    fn squeeze(&mut self) {
        self.settle();
        while self.database.compact().expect("compact") {}
    }
}
