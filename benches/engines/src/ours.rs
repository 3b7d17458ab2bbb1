//! Our design: a copy-on-write B+tree in memory, a log, and checkpoints written beside the puts.
//!
//! A checkpoint costs one clone of the root on the applying thread; another thread walks the
//! clone, and the puts copy the nodes they touch meanwhile. It is due when the log has outgrown
//! both [`LOG_MIN`] and half of the last checkpoint: a restart never replays more bytes than half
//! of what it loads, and checkpoints cost at most two bytes per byte of log once the state has
//! stopped growing. The log stands for that of the consensus; it is charged to this candidate
//! alone.

use crate::engine::{Background, COMPACT_STEP, Engine, KeyValue, Restart, decode, encode};
use crate::tree_key::TreeKey;
use bytes::Bytes;
use quorate_replica::store::tree::{Builder, Tree};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// No checkpoint before the log has so many bytes.
pub const LOG_MIN: u64 = 64 << 20;

/// Bytes of a checkpoint block, the unit of its checksums.
const BLOCK: usize = 1 << 20;

/// A checkpoint is synced each time so many blocks were written, lest the last sync pile up.
const BLOCKS_PER_SYNC: usize = 16;

/// The versions of one key; a leaf copies it by two counters.
#[derive(Clone)]
struct History {
    latest: Arc<KeyValue>,
    older: Option<Arc<VecDeque<Arc<KeyValue>>>>,
}

struct Superseded {
    at: u64,
    key: Bytes,
}

pub struct Ours<K: TreeKey> {
    dir: PathBuf,
    tree: Tree<K, History>,
    revision: u64,
    superseded: VecDeque<Superseded>,
    log: File,
    log_bytes: u64,
    checkpoint: Option<JoinHandle<u64>>,
    checkpoint_bytes: u64,
    buffer: Vec<u8>,
}

impl<K: TreeKey> Ours<K> {
    fn put(&mut self, key: &Bytes, value: &Bytes) {
        self.revision += 1;
        let (modified, value) = (self.revision, value.clone());
        let Some(history) = self.tree.get_mut::<[u8]>(key) else {
            let (key, create) = (key.clone(), modified);
            let latest = Arc::new(KeyValue {
                key: key.clone(),
                value,
                create,
                modified,
                version: 1,
                lease: 0,
            });
            self.tree.insert(K::from(&key), History { latest, older: None });
            return;
        };
        let last = &history.latest;
        let (key, create, version) = (last.key.clone(), last.create, last.version + 1);
        let at = Superseded { at: modified, key: key.clone() };
        let kv = KeyValue { key, value, create, modified, version, lease: 0 };
        push(history, Arc::new(kv));
        self.superseded.push_back(at);
    }

    /// Appends the batch as one record; the process may die, the machine may not.
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
        self.log = create_log(&self.dir, self.revision);
        self.log_bytes = 0;
        let (dir, tree, revision) = (self.dir.clone(), self.tree.clone(), self.revision);
        self.checkpoint = Some(thread::spawn(move || write_checkpoint(&dir, &tree, revision)));
    }

    fn reap(&mut self) {
        let checkpoint = self.checkpoint.take().expect("a checkpoint runs");
        self.checkpoint_bytes = checkpoint.join().expect("checkpoint");
    }

    fn load(&mut self, revision: u64) {
        let mut file = File::open(checkpoint_path(&self.dir, revision)).expect("checkpoint");
        self.checkpoint_bytes = file.metadata().expect("length").len();
        let mut tree = Builder::new();
        let mut open: Option<History> = None;
        let mut superseded = Vec::new();
        while let Some(block) = read_block(&mut file, &mut self.buffer) {
            let mut rest = block;
            while !rest.is_empty() {
                let (kv, len) = decode(rest);
                rest = &rest[len..];
                let mut kv = kv.to_owned();
                match &mut open {
                    Some(history) if history.latest.key == kv.key => {
                        kv.key = history.latest.key.clone();
                        superseded.push(Superseded { at: kv.modified, key: kv.key.clone() });
                        push(history, Arc::new(kv));
                    }
                    _ => {
                        let latest = Arc::new(kv);
                        let done = open.replace(History { latest, older: None });
                        done.into_iter()
                            .for_each(|done| tree.push(K::from(&done.latest.key), done));
                    }
                }
            }
        }
        open.into_iter().for_each(|done| tree.push(K::from(&done.latest.key), done));
        superseded.sort_unstable_by_key(|superseded| superseded.at);
        (self.tree, self.superseded, self.revision) = (tree.finish(), superseded.into(), revision);
    }

    /// Applies the logs behind the checkpoint, oldest first; gives back the number of puts.
    fn replay(&mut self) -> u64 {
        let before = self.revision;
        for first in numbered(&self.dir, "log-").into_iter().filter(|&first| first >= before) {
            assert_eq!(first, self.revision, "a log begins where the one before it ends");
            let mut file = File::open(log_path(&self.dir, first)).expect("log");
            let mut buffer = Vec::new();
            while let Some(record) = read_block(&mut file, &mut buffer) {
                self.log_bytes += record.len() as u64;
                let mut rest = record;
                while !rest.is_empty() {
                    let (kv, len) = decode(rest);
                    rest = &rest[len..];
                    let (key, value) =
                        (Bytes::copy_from_slice(kv.key), Bytes::copy_from_slice(kv.value));
                    self.put(&key, &value);
                }
            }
        }
        self.revision - before
    }
}

impl<K: TreeKey> Engine for Ours<K> {
    fn open(dir: &Path, _cache_bytes: usize) -> (Ours<K>, Restart) {
        let start = Instant::now();
        let mut ours = Ours {
            dir: dir.to_path_buf(),
            tree: Tree::new(),
            revision: 0,
            superseded: VecDeque::new(),
            log: File::open("/dev/null").expect("null"),
            log_bytes: 0,
            checkpoint: None,
            checkpoint_bytes: 0,
            buffer: Vec::new(),
        };
        if let Some(newest) = numbered(dir, "checkpoint-").pop() {
            ours.load(newest);
        }
        let load = start.elapsed();
        let replayed = ours.replay();
        ours.log = create_log(dir, ours.revision);
        (ours, Restart { load, replay: start.elapsed() - load, replayed })
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
                self.start_checkpoint()
            }
            None => return Background::Idle,
        }
        Background::Busy
    }

    fn compact_step(&mut self, revision: u64) -> usize {
        for done in 0..COMPACT_STEP {
            let Some(next) = self.superseded.pop_front_if(|next| next.at <= revision) else {
                return done;
            };
            let history = self.tree.get_mut::<[u8]>(&next.key).expect("no key is deleted here");
            let older = Arc::make_mut(history.older.as_mut().expect("a superseded version"));
            older.pop_front().expect("a superseded version");
            if older.is_empty() {
                history.older = None;
            }
        }
        COMPACT_STEP
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&KeyValue)) -> bool {
        let kv = self.tree.get(key).map(|history| Arc::clone(&history.latest));
        kv.inspect(|kv| visit(kv)).is_some()
    }

    fn range(&mut self, key: &[u8], limit: usize, visit: &mut dyn FnMut(&KeyValue)) {
        let range = self.tree.range(Bound::Included(key), Bound::Unbounded).take(limit);
        let found: Vec<_> = range.map(|(_, history)| Arc::clone(&history.latest)).collect();
        found.iter().for_each(|kv| visit(kv));
    }

    fn settle(&mut self) {
        if self.checkpoint.is_some() {
            while self.checkpoint.as_ref().is_some_and(|checkpoint| !checkpoint.is_finished()) {
                thread::yield_now();
            }
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

fn push(history: &mut History, kv: Arc<KeyValue>) {
    let last = std::mem::replace(&mut history.latest, kv);
    Arc::make_mut(history.older.get_or_insert_default()).push_back(last);
}

pub fn checkpoint_path(dir: &Path, revision: u64) -> PathBuf {
    dir.join(format!("checkpoint-{revision}"))
}

pub fn log_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("log-{first}"))
}

pub fn create_log(dir: &Path, first: u64) -> File {
    File::options().create(true).append(true).open(log_path(dir, first)).expect("log")
}

/// The numbers of the files of one kind, ascending.
pub fn numbered(dir: &Path, prefix: &str) -> Vec<u64> {
    let names =
        fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry").file_name());
    let mut numbers: Vec<u64> =
        names.filter_map(|name| name.to_str()?.strip_prefix(prefix)?.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

/// Fills in the length and the checksum of a block which begins with room for both.
pub fn seal(block: &mut [u8]) {
    let len = u32::try_from(block.len() - 8).expect("blocks are small");
    let checksum = crc32c::crc32c(&block[8..]);
    block[..4].copy_from_slice(&len.to_le_bytes());
    block[4..8].copy_from_slice(&checksum.to_le_bytes());
}

pub fn read_block<'a>(file: &mut File, buffer: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    let mut head = [0; 8];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return None,
        read => read.expect("read"),
    }
    let (len, checksum) = head.split_at(4);
    buffer.resize(u32::from_le_bytes(len.try_into().expect("four bytes")) as usize, 0);
    file.read_exact(buffer).expect("a whole block");
    let checksum = u32::from_le_bytes(checksum.try_into().expect("four bytes"));
    assert_eq!(crc32c::crc32c(buffer), checksum, "damaged");
    Some(buffer)
}

/// Writes, publishes and then drops what it replaces; gives back its size.
fn write_checkpoint<K>(dir: &Path, tree: &Tree<K, History>, revision: u64) -> u64 {
    let temporary = dir.join("checkpoint.tmp");
    let mut file = File::create(&temporary).expect("checkpoint");
    let mut block = Vec::with_capacity(BLOCK + (1 << 17));
    let (mut bytes, mut blocks) = (0, 0);
    let mut flush = |block: &mut Vec<u8>| {
        seal(block);
        file.write_all(block).expect("write");
        bytes += block.len() as u64;
        blocks += 1;
        if blocks % BLOCKS_PER_SYNC == 0 {
            file.sync_data().expect("sync");
        }
        block.truncate(8);
    };
    block.extend_from_slice(&[0; 8]);
    for (_, history) in tree.iter() {
        let older = history.older.iter().flat_map(|older| older.iter());
        for kv in older.chain([&history.latest]) {
            encode(kv, &mut block);
            if block.len() >= BLOCK {
                flush(&mut block);
            }
        }
    }
    if block.len() > 8 {
        flush(&mut block);
    }
    file.sync_all().expect("sync");
    publish(dir, &temporary, revision);
    bytes
}

/// Makes a checkpoint the newest one and drops what it replaces.
pub fn publish(dir: &Path, temporary: &Path, revision: u64) {
    fs::rename(temporary, checkpoint_path(dir, revision)).expect("publish");
    File::open(dir).expect("directory").sync_all().expect("sync");
    for (prefix, path) in
        [("checkpoint-", checkpoint_path as fn(&Path, u64) -> PathBuf), ("log-", log_path)]
    {
        for number in numbered(dir, prefix).into_iter().filter(|&number| number < revision) {
            fs::remove_file(path(dir, number)).expect("remove");
        }
    }
}
