//! The product's store itself, with the log and the checkpoints of `ours.rs`.

use crate::engine::{Background, COMPACT_STEP, Engine, KeyValue, Restart, decode, encode};
use crate::ours::{
    LOG_MIN, checkpoint_path, create_log, log_path, numbered, publish, read_block, seal,
};
use bytes::Bytes;
use quorate_replica::store::{self, Command, Keys, Put, Range, Revision, Store};
use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// Bytes between store and file.
const BUFFER: usize = 1 << 20;

/// The revision of an empty store.
const FIRST: u64 = 1;

pub struct OnStore {
    dir: PathBuf,
    store: Store,
    log: File,
    log_bytes: u64,
    checkpoint: Option<JoinHandle<u64>>,
    checkpoint_bytes: u64,
    buffer: Vec<u8>,
}

impl OnStore {
    fn put(&mut self, key: &Bytes, value: &Bytes) {
        let (key, value) = (key.clone(), value.clone());
        self.store.apply(&Command::Put(Put { key, value, ..Put::default() }));
    }

    fn append(&mut self, batch: &[(Bytes, Bytes)]) {
        self.buffer.clear();
        self.buffer.extend_from_slice(&[0; 8]);
        for (key, value) in batch {
            let (key, value) = (key.clone(), value.clone());
            let kv = KeyValue { key, value, create: 0, modified: 0, version: 0, lease: 0 };
            encode(&kv, &mut self.buffer);
        }
        seal(&mut self.buffer);
        self.log.write_all(&self.buffer).expect("append");
        self.log_bytes += self.buffer.len() as u64;
    }

    fn start_checkpoint(&mut self) {
        self.log = create_log(&self.dir, self.revision());
        self.log_bytes = 0;
        let (dir, store, revision) = (self.dir.clone(), self.store.clone(), self.revision());
        self.checkpoint = Some(thread::spawn(move || write_checkpoint(&dir, &store, revision)));
    }

    fn reap(&mut self) {
        let checkpoint = self.checkpoint.take().expect("a checkpoint runs");
        self.checkpoint_bytes = checkpoint.join().expect("checkpoint");
    }

    fn replay(&mut self) -> u64 {
        let before = self.revision();
        for first in numbered(&self.dir, "log-").into_iter().filter(|&first| first >= before) {
            assert_eq!(first, self.revision(), "a log begins where the one before it ends");
            let mut file = File::open(log_path(&self.dir, first)).expect("log");
            let mut buffer = Vec::new();
            while let Some(record) = read_block(&mut file, &mut buffer) {
                self.log_bytes += record.len() as u64;
                let mut rest = record;
                while !rest.is_empty() {
                    let (kv, len) = decode(rest);
                    rest = &rest[len..];
                    let kv = kv.to_owned();
                    self.put(&kv.key, &kv.value);
                }
            }
        }
        self.revision() - before
    }
}

impl Engine for OnStore {
    fn open(dir: &Path, _cache_bytes: usize) -> (OnStore, Restart) {
        let start = Instant::now();
        let mut engine = OnStore {
            dir: dir.to_path_buf(),
            store: Store::new(),
            log: File::open("/dev/null").expect("null"),
            log_bytes: 0,
            checkpoint: None,
            checkpoint_bytes: 0,
            buffer: Vec::new(),
        };
        if let Some(newest) = numbered(dir, "checkpoint-").pop() {
            let file = File::open(checkpoint_path(dir, newest)).expect("checkpoint");
            engine.checkpoint_bytes = file.metadata().expect("length").len();
            let mut reader = BufReader::with_capacity(BUFFER, file);
            engine.store = Store::load(&mut reader).expect("load");
        }
        let load = start.elapsed();
        let replayed = engine.replay();
        engine.log = create_log(dir, engine.revision());
        (engine, Restart { load, replay: start.elapsed() - load, replayed })
    }

    fn put_batch(&mut self, batch: &[(Bytes, Bytes)]) {
        self.append(batch);
        for (key, value) in batch {
            self.put(key, value);
        }
    }

    fn upkeep(&mut self) -> Background {
        match &self.checkpoint {
            Some(checkpoint) if checkpoint.is_finished() => self.reap(),
            Some(_) => {}
            None if self.log_bytes > LOG_MIN.max(self.checkpoint_bytes / 2) => {
                self.start_checkpoint();
            }
            None => return Background::Idle,
        }
        Background::Busy
    }

    fn compact_step(&mut self, revision: u64) -> usize {
        let revision = Revision(revision + FIRST);
        if revision > self.store.compact_revision() && revision > Revision(FIRST) {
            self.store.apply(&Command::Compact { revision });
        }
        if self.store.is_swept() {
            return 0;
        }
        self.store.sweep(COMPACT_STEP);
        COMPACT_STEP
    }

    fn revision(&self) -> u64 {
        self.store.revision().0 - FIRST
    }

    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&KeyValue)) -> bool {
        let kv = self.store.get(key).map(Arc::clone);
        kv.inspect(|kv| visit(&as_ours(kv))).is_some()
    }

    fn range(&mut self, key: &[u8], limit: usize, visit: &mut dyn FnMut(&KeyValue)) {
        let keys = Keys { key: Bytes::copy_from_slice(key), range_end: Bytes::from_static(b"\0") };
        let range = Range { keys, limit: limit as u64, ..Range::default() };
        let found = self.store.range(&range).expect("a range at the latest revision");
        found.kvs.iter().for_each(|kv| visit(&as_ours(kv)));
    }

    fn settle(&mut self) {
        if self.checkpoint.is_some() {
            self.reap();
        }
        self.log.sync_all().expect("sync");
    }

    fn squeeze(&mut self) {
        self.settle();
        self.start_checkpoint();
        self.reap();
    }
}

fn as_ours(kv: &store::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key.clone(),
        value: kv.value.clone(),
        create: kv.create_revision.0,
        modified: kv.mod_revision.0,
        version: kv.version,
        lease: kv.lease,
    }
}

fn write_checkpoint(dir: &Path, store: &Store, revision: u64) -> u64 {
    let temporary = dir.join("checkpoint.tmp");
    let mut writer =
        BufWriter::with_capacity(BUFFER, File::create(&temporary).expect("checkpoint"));
    store.save(&mut writer).expect("save");
    let file = writer.into_inner().expect("write");
    file.sync_all().expect("sync");
    publish(dir, &temporary, revision);
    file.metadata().expect("length").len()
}
