//! The store as a stream of bytes: checkpoints, and state for a replica which fell behind.
//!
//! ```text
//!   stream    blocks, then a block of length 0
//!   block     length u32 LE (at most 64 KiB), xxHash64 of the payload u64 LE, payload
//!   payloads  joined, they read:
//!     head    "quorate store" (13 bytes), version u8 = 1
//!             revision, compact_revision, swept revision, swept order, applied, digest
//!     leases  count, then zigzag ids, ascending
//!     live    count, then pairs by ascending key
//!     past    count, then by ascending key: key, count, versions by ascending revision
//!     log     count, then events by ascending place: revision, order, prev_revision, source
//!     source  0, rank in live  |  1, rank in past, rank among the versions  |  2, pair
//!     pair    key, version
//!     version mod_revision, version, and unless that is 0 (a tombstone):
//!             create_revision, lease zigzag, value
//!   numbers   LEB128; byte strings: length, bytes
//! ```
//!
//! The log names its pairs by rank instead of repeating them: almost every event's pair is still
//! in one of the trees, and the trees find the n-th entry without comparing keys. Writer and
//! reader hold one block in memory; loading builds full nodes from ascending input.
//!
//! Every block is hashed, so a flipped bit is a named error here and not a divergence later.
//! A stream ends where its last block says and may stand inside a larger one.

use super::codec::{unzigzag, write_number, zigzag};
use super::digest::{Digest, xxh64};
use super::tree::Builder;
use super::versions::Versions;
use super::write::weight;
use super::{Event, KeyValue, Mutant, Place, Revision, Store};
use bytes::Bytes;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Version of the format that is written; the only one that is read.
pub const SAVE_VERSION: u8 = 1;

const MAGIC: &[u8] = b"quorate store";

/// Payload of a block at most, in bytes.
const BLOCK_MAX: usize = 64 * 1024;

const FROM_LIVE: u64 = 0;
const FROM_PAST: u64 = 1;
const OWN: u64 = 2;

/// Why a stream is not a store.
#[derive(Debug)]
pub enum LoadError {
    /// The reader failed, or the stream ends too early.
    Io(io::Error),
    /// It is no saved store at all.
    NotAStore,
    /// It was written by a version of this program that is not known.
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// The bytes are not what was written.
    Corrupt(&'static str),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Io(error) => write!(f, "reading a saved store: {error}"),
            LoadError::NotAStore => f.write_str("not a saved store"),
            LoadError::UnknownVersion { version } => {
                write!(f, "saved store of unknown version {version}")
            }
            LoadError::Corrupt(what) => write!(f, "saved store is corrupt: {what}"),
        }
    }
}

impl std::error::Error for LoadError {}

impl From<io::Error> for LoadError {
    fn from(error: io::Error) -> LoadError {
        LoadError::Io(error)
    }
}

impl Store {
    /// Writes the store with all its revisions. Errors: those of the writer.
    pub fn save(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut out = Output { out, block: Vec::with_capacity(BLOCK_MAX) };
        self.save_head(&mut out)?;
        out.number(self.live.len() as u64)?;
        for (key, kv) in self.live.iter() {
            out.bytes(key)?;
            out.version(kv)?;
        }
        out.number(self.past.len() as u64)?;
        for (key, versions) in self.past.iter() {
            out.bytes(key)?;
            out.number(versions.len() as u64)?;
            for kv in versions.iter() {
                out.version(kv)?;
            }
        }
        out.number(self.log.len() as u64)?;
        for (place, event) in self.log.iter() {
            self.save_event(&mut out, *place, event)?;
        }
        out.finish()
    }

    fn save_head(&self, out: &mut Output<'_>) -> io::Result<()> {
        out.raw(MAGIC)?;
        out.raw(&[SAVE_VERSION])?;
        let lost = self.planted(Mutant::SweepForgotten);
        let swept = if lost { self.sweep_end() } else { self.swept };
        let numbers = [
            self.revision.0,
            self.compact_revision.0,
            swept.revision.0,
            swept.order,
            self.applied,
            self.digest.state,
            self.leases.len() as u64,
        ];
        for number in numbers {
            out.number(number)?;
        }
        for (lease, ()) in self.leases.iter() {
            out.number(zigzag(*lease))?;
        }
        Ok(())
    }

    fn save_event(&self, out: &mut Output<'_>, place: Place, event: &Event) -> io::Result<()> {
        out.number(place.revision.0)?;
        out.number(place.order)?;
        out.number(event.prev_revision.0)?;
        let key = &event.kv.key[..];
        if self.live.get(key).is_some_and(|kv| Arc::ptr_eq(kv, &event.kv)) {
            out.number(FROM_LIVE)?;
            return out.number(self.live.rank(key) as u64);
        }
        let revision = event.revision();
        let versions = self.past.get(key);
        let kept = versions
            .filter(|versions| versions.get(revision).is_some_and(|kv| Arc::ptr_eq(kv, &event.kv)));
        if let Some(versions) = kept {
            out.number(FROM_PAST)?;
            out.number(self.past.rank(key) as u64)?;
            return out.number(versions.rank(revision) as u64);
        }
        out.number(OWN)?;
        out.bytes(key)?;
        out.version(&event.kv)
    }

    /// Reads a store that [`Store::save`] wrote; reads nothing beyond it.
    pub fn load(input: &mut dyn Read) -> Result<Store, LoadError> {
        let mut input = Input { input, block: Vec::new(), at: 0 };
        let mut store = load_head(&mut input)?;
        load_live(&mut input, &mut store)?;
        load_past(&mut input, &mut store)?;
        load_log(&mut input, &mut store)?;
        input.finish()?;
        Ok(store)
    }
}

fn load_head(input: &mut Input<'_>) -> Result<Store, LoadError> {
    input.fill()?;
    if !input.block.starts_with(MAGIC) {
        return Err(LoadError::NotAStore);
    }
    input.at = MAGIC.len();
    let version = input.byte()?;
    if version != SAVE_VERSION {
        return Err(LoadError::UnknownVersion { version });
    }
    let mut store = Store::new();
    store.revision = input.revision()?;
    store.compact_revision = input.revision()?;
    store.swept = Place { revision: input.revision()?, order: input.number()? };
    store.kept_from = store.compact_revision;
    store.applied = input.number()?;
    store.digest = Digest { state: input.number()? };
    if store.compact_revision > store.revision || store.revision.0 == 0 {
        return Err(LoadError::Corrupt("the compact revision lies in the future"));
    }
    let mut leases = Builder::new();
    let mut last = None;
    for _ in 0..input.number()? {
        let lease = unzigzag(input.number()?);
        ascend(&mut last, lease)?;
        leases.push(lease, ());
    }
    store.leases = leases.finish();
    Ok(store)
}

fn load_live(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    let mut live = Builder::new();
    let mut last: Option<Bytes> = None;
    for _ in 0..input.number()? {
        let key = input.bytes()?;
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(LoadError::Corrupt("keys do not ascend"));
        }
        last = Some(key.clone());
        let kv = input.version(key.clone(), store.revision)?;
        if kv.version == 0 {
            return Err(LoadError::Corrupt("a living key has a tombstone"));
        }
        store.bytes += weight(&kv);
        live.push(key, kv);
    }
    store.live = live.finish();
    Ok(())
}

fn load_past(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    let mut past = Builder::new();
    let mut last: Option<Bytes> = None;
    for _ in 0..input.number()? {
        let read = input.bytes()?;
        // All versions of a key share its bytes, as they did before.
        let key = store.live.get_entry(&read[..]).map_or(read, |(key, _)| key.clone());
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(LoadError::Corrupt("past keys do not ascend"));
        }
        last = Some(key.clone());
        let count = input.number()?;
        let mut versions: Option<Versions> = None;
        let mut latest = None;
        for _ in 0..count {
            let kv = input.version(key.clone(), store.revision)?;
            ascend(&mut latest, kv.mod_revision)?;
            store.bytes += weight(&kv);
            match &mut versions {
                None => versions = Some(Versions::One(kv)),
                Some(versions) => versions.push(kv),
            }
        }
        past.push(key, versions.ok_or(LoadError::Corrupt("a past key has no versions"))?);
    }
    store.past = past.finish();
    Ok(())
}

fn load_log(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    let mut log = Builder::new();
    let mut last = None;
    for _ in 0..input.number()? {
        let place = Place { revision: input.revision()?, order: input.number()? };
        ascend(&mut last, place)?;
        let prev_revision = input.revision()?;
        let kv = load_source(input, store)?;
        if kv.mod_revision != place.revision || prev_revision >= place.revision {
            return Err(LoadError::Corrupt("an event does not fit its place in the log"));
        }
        log.push(place, Event { kv, prev_revision });
    }
    store.log = log.finish();
    Ok(())
}

fn load_source(input: &mut Input<'_>, store: &Store) -> Result<Arc<KeyValue>, LoadError> {
    let kv = match input.number()? {
        FROM_LIVE => store.live.nth(input.rank()?).map(|(_, kv)| kv),
        FROM_PAST => {
            let versions = store.past.nth(input.rank()?);
            let rank = input.rank()?;
            versions.and_then(|(_, versions)| versions.nth(rank))
        }
        OWN => {
            let key = input.bytes()?;
            return input.version(key, store.revision);
        }
        _ => return Err(LoadError::Corrupt("an event has an unknown source")),
    };
    kv.cloned().ok_or(LoadError::Corrupt("an event names a pair that is not there"))
}

/// Checks that a sequence ascends.
fn ascend<T: Copy + Ord>(last: &mut Option<T>, next: T) -> Result<(), LoadError> {
    if last.is_some_and(|last| last >= next) {
        return Err(LoadError::Corrupt("a sequence does not ascend"));
    }
    *last = Some(next);
    Ok(())
}

/// The block being written.
struct Output<'a> {
    out: &'a mut dyn Write,
    block: Vec<u8>,
}

impl Output<'_> {
    fn raw(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.block.len() == BLOCK_MAX {
                self.flush()?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_MAX - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn number(&mut self, number: u64) -> io::Result<()> {
        if self.block.len() + 10 <= BLOCK_MAX {
            write_number(&mut self.block, number);
            return Ok(());
        }
        let mut encoded = Vec::with_capacity(10);
        write_number(&mut encoded, number);
        self.raw(&encoded)
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.number(bytes.len() as u64)?;
        self.raw(bytes)
    }

    fn version(&mut self, kv: &KeyValue) -> io::Result<()> {
        self.number(kv.mod_revision.0)?;
        self.number(kv.version)?;
        if kv.version == 0 {
            return Ok(());
        }
        self.number(kv.create_revision.0)?;
        self.number(zigzag(kv.lease))?;
        self.bytes(&kv.value)
    }

    fn flush(&mut self) -> io::Result<()> {
        assert!(self.block.len() <= BLOCK_MAX, "a block is flushed when it is full");
        self.out.write_all(&(self.block.len() as u32).to_le_bytes())?;
        self.out.write_all(&xxh64(&self.block, 0).to_le_bytes())?;
        self.out.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        // An empty block ends the stream; the head alone makes the first one not empty.
        self.flush()
    }
}

/// The block being read.
struct Input<'a> {
    input: &'a mut dyn Read,
    block: Vec<u8>,
    at: usize,
}

impl Input<'_> {
    /// Fetches the next block. Errors: if the stream ended.
    fn fill(&mut self) -> Result<(), LoadError> {
        let (mut len, mut hash) = ([0; 4], [0; 8]);
        self.input.read_exact(&mut len)?;
        self.input.read_exact(&mut hash)?;
        let len = u32::from_le_bytes(len) as usize;
        if len > BLOCK_MAX {
            return Err(LoadError::Corrupt("a block is too long"));
        }
        self.block.resize(len, 0);
        self.input.read_exact(&mut self.block)?;
        self.at = 0;
        if xxh64(&self.block, 0) != u64::from_le_bytes(hash) {
            return Err(LoadError::Corrupt("a block does not match its hash"));
        }
        Ok(())
    }

    /// Fetches the next block, which the content needs.
    fn fill_more(&mut self) -> Result<(), LoadError> {
        self.fill()?;
        if self.block.is_empty() {
            return Err(LoadError::Corrupt("the content ends too early"));
        }
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, LoadError> {
        if self.at == self.block.len() {
            self.fill_more()?;
        }
        self.at += 1;
        Ok(self.block[self.at - 1])
    }

    fn number(&mut self) -> Result<u64, LoadError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(LoadError::Corrupt("a number does not fit in 64 bits"))
    }

    fn revision(&mut self) -> Result<Revision, LoadError> {
        self.number().map(Revision)
    }

    fn rank(&mut self) -> Result<usize, LoadError> {
        // A rank that is no `usize` is beyond every tree, as the largest one is.
        self.number().map(|rank| usize::try_from(rank).unwrap_or(usize::MAX))
    }

    /// A byte string. It grows as blocks arrive: the length alone must not allocate.
    fn bytes(&mut self) -> Result<Bytes, LoadError> {
        let len = usize::try_from(self.number()?)
            .map_err(|_| LoadError::Corrupt("a length is beyond all memory"))?;
        if len <= self.block.len() - self.at {
            self.at += len;
            return Ok(Bytes::copy_from_slice(&self.block[self.at - len..self.at]));
        }
        let mut bytes = Vec::new();
        while bytes.len() < len {
            if self.at == self.block.len() {
                self.fill_more()?;
            }
            let now = (len - bytes.len()).min(self.block.len() - self.at);
            bytes.extend_from_slice(&self.block[self.at..self.at + now]);
            self.at += now;
        }
        bytes.shrink_to_fit();
        Ok(Bytes::from(bytes))
    }

    fn version(&mut self, key: Bytes, revision: Revision) -> Result<Arc<KeyValue>, LoadError> {
        let mut kv = KeyValue { key, mod_revision: self.revision()?, ..KeyValue::default() };
        kv.version = self.number()?;
        if kv.version > 0 {
            kv.create_revision = self.revision()?;
            kv.lease = unzigzag(self.number()?);
            kv.value = self.bytes()?;
        }
        if kv.mod_revision > revision || kv.create_revision > kv.mod_revision {
            return Err(LoadError::Corrupt("a pair is younger than the store"));
        }
        Ok(Arc::new(kv))
    }

    /// Checks that nothing is left and that the stream ends.
    fn finish(mut self) -> Result<(), LoadError> {
        if self.at < self.block.len() {
            return Err(LoadError::Corrupt("the content goes on too long"));
        }
        self.fill()?;
        if self.block.is_empty() { Ok(()) } else { Err(LoadError::Corrupt("a block too many")) }
    }
}
