//! What every candidate must do, and the bytes of one version of a key.

use bytes::Bytes;
use std::path::Path;
use std::time::Duration;

/// The engine makes all puts durable each time so many have been applied; until then the log of
/// the consensus has them. (The copy-on-write candidate has its own rule, see `ours.rs`.)
pub const DURABLE_EVERY: u64 = 100_000;

/// Versions removed by one step of a compaction at most, as in etcd.
pub const COMPACT_STEP: usize = 1_000;

/// One key at one revision.
#[derive(Clone, Debug)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    pub create: u64,
    pub modified: u64,
    pub version: u64,
    pub lease: i64,
}

/// Whether something runs beside the puts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Background {
    Idle,
    Busy,
}

/// What a restart consisted of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Restart {
    /// Opening and reading the checkpoint, or opening and rebuilding the index.
    pub load: Duration,
    /// Replaying the log behind it.
    pub replay: Duration,
    /// Puts replayed.
    pub replayed: u64,
}

/// A candidate. Every error is a panic: a benchmark has nobody to tell.
pub trait Engine {
    /// Opens what a killed process left behind, or an empty store.
    fn open(dir: &Path, cache_bytes: usize) -> (Self, Restart)
    where
        Self: Sized;
    /// Applies a batch, visible afterwards, durable by the log of the consensus.
    fn put_batch(&mut self, batch: &[(Bytes, Bytes)]);
    /// Called after each batch: starts what is due, never waits for it.
    fn upkeep(&mut self) -> Background;
    /// Removes at most [`COMPACT_STEP`] versions superseded at or before `revision`.
    fn compact_step(&mut self, revision: u64) -> usize;
    /// The latest revision.
    fn revision(&self) -> u64;
    /// Shows the newest version of a key, owned as an answer needs it.
    fn get(&mut self, key: &[u8], visit: &mut dyn FnMut(&KeyValue)) -> bool;
    /// Shows the newest versions of at most `limit` keys from `key` on.
    fn range(&mut self, key: &[u8], limit: usize, visit: &mut dyn FnMut(&KeyValue));
    /// Waits until everything is on disk and nothing runs in the background.
    fn settle(&mut self);
    /// Gives back disk space by the engine's own means, stopping the world if it must.
    fn squeeze(&mut self);
}

/// Bytes of the fixed part of an encoded version.
const HEAD: usize = 36;

/// Appends a version: lengths, numbers, key, value.
pub fn encode(kv: &KeyValue, out: &mut Vec<u8>) {
    let key_len = u16::try_from(kv.key.len()).expect("keys of the bench are short");
    let value_len = u16::try_from(kv.value.len()).expect("values of the bench are short");
    out.extend_from_slice(&key_len.to_le_bytes());
    out.extend_from_slice(&value_len.to_le_bytes());
    out.extend_from_slice(&kv.create.to_le_bytes());
    out.extend_from_slice(&kv.modified.to_le_bytes());
    out.extend_from_slice(&kv.version.to_le_bytes());
    out.extend_from_slice(&kv.lease.to_le_bytes());
    out.extend_from_slice(&kv.key);
    out.extend_from_slice(&kv.value);
}

/// Reads a version without copying key and value; gives back the number of bytes read.
pub fn decode(bytes: &[u8]) -> (Borrowed<'_>, usize) {
    let short = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (key_end, end) = (HEAD + short(0), HEAD + short(0) + short(2));
    let kv = Borrowed {
        create: long(4),
        modified: long(12),
        version: long(20),
        lease: long(28).cast_signed(),
        key: &bytes[HEAD..key_end],
        value: &bytes[key_end..end],
    };
    (kv, end)
}

/// A version inside a buffer.
pub struct Borrowed<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub create: u64,
    pub modified: u64,
    pub version: u64,
    pub lease: i64,
}

impl Borrowed<'_> {
    /// Copies key and value out of the buffer.
    pub fn to_owned(&self) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(self.value),
            create: self.create,
            modified: self.modified,
            version: self.version,
            lease: self.lease,
        }
    }
}
