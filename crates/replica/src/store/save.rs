//! The store as a stream of bytes: checkpoints, and state for a replica which fell behind.
//!
//! ```text
//!   stream    blocks, then a block of length 0
//!   block     length u32 LE (at most 64 KiB), xxHash64 of the payload u64 LE, payload
//!   payloads  joined, they read:
//!     head    "quorate store" (13 bytes), version u8 = 5
//!             revision, compact_revision, swept revision, swept order, applied, digest
//!     leases  lease clock, count, then by ascending id: zigzag id, ttl, grant, countdown
//!     countdown  0 renewing  |  1 counting, deadline
//!     live    count, then by ascending key: key, version, past
//!     graves  count, then by ascending key: key, past (not empty)
//!     past    count, then versions by ascending revision
//!     log     count, then events by ascending place: revision, order, prev_revision, source
//!     alarms  count, then kind, member, ascending
//!     auth    from version 3 on: length, users and roles as in `auth/bytes.rs`
//!     requests  from version 4 on: the latest revision whose answer is forgotten, count, then by
//!             ascending revision: revision, id, hash, 0 or 1, answer as in `guard/outcome.rs`
//!             in version 4 there are no owners, and what is forgotten is that of owner 0
//!     owners  from version 5 on: of the answers, in their order; count, then for each owner the
//!             latest revision whose answer is forgotten: owner, revision
//!     limits  from version 5 on: count, then by ascending name: length, rule as in
//!             `limits/bytes.rs`
//!     source  0, rank in live  |  1, rank in live, rank in its past  |  2, pair
//!             |  3, rank in graves, rank in its past
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
//! A stream ends where its last block says and may stand inside a larger one. The keys of a lease
//! are not saved: they are the living pairs that name it.

use super::codec::{Reader, unzigzag, write_number, zigzag};
use super::digest::{Digest, xxh64};
use super::guard::{Kept, Requests};
use super::lease::{Countdown, LEASE_BYTES, Lease, LeaseTime};
use super::tree::Builder;
use super::versions::Versions;
use super::write::weight;
use super::{
    Alarm, AlarmKind, Auth, Event, Key, KeyValue, LimitRule, Living, Mutant, Place, Revision, Store,
};
use bytes::Bytes;
use std::fmt;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// Version of the format that is written.
pub const SAVE_VERSION: u8 = 5;

/// The version before users and roles, which is still read.
const WITHOUT_AUTH: u8 = 2;

/// The version before answers were kept for requests, which is still read.
const WITHOUT_REQUESTS: u8 = 3;

/// The version before limits, and before answers belonged to users, which is still read. It is
/// written as long as there are neither, so that a member of that version can be sent a checkpoint.
const WITHOUT_LIMITS: u8 = 4;

const MAGIC: &[u8] = b"quorate store";

/// Payload of a block at most, in bytes.
const BLOCK_MAX: usize = 64 * 1024;

const FROM_LIVE: u64 = 0;
const FROM_PAST: u64 = 1;
const OWN: u64 = 2;
const FROM_GRAVE: u64 = 3;

const RENEWING: u64 = 0;
const COUNTING: u64 = 1;

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
        for (key, living) in self.live.iter() {
            out.bytes(key.as_slice())?;
            out.version(&living.kv)?;
            out.past(living.past.as_ref())?;
        }
        out.number(self.graves.len() as u64)?;
        for (key, versions) in self.graves.iter() {
            out.bytes(key.as_slice())?;
            out.past(Some(versions))?;
        }
        out.number(self.log.len() as u64)?;
        for (place, event) in self.log.iter() {
            self.save_event(&mut out, *place, event)?;
        }
        self.save_alarms(&mut out)?;
        self.save_auth(&mut out)?;
        self.save_requests(&mut out)?;
        self.save_limits(&mut out)?;
        out.finish()
    }

    fn save_head(&self, out: &mut Output<'_>) -> io::Result<()> {
        out.raw(MAGIC)?;
        out.raw(&[self.save_version()])?;
        let lost = self.planted(Mutant::SweepForgotten);
        let swept = if lost { self.sweep_end() } else { self.swept };
        let numbers = [
            self.revision.0,
            self.compact_revision.0,
            swept.revision.0,
            swept.order,
            self.applied,
            self.digest.state,
            self.lease_clock.0,
            self.leases.len() as u64,
        ];
        for number in numbers {
            out.number(number)?;
        }
        for (id, lease) in self.leases.iter() {
            out.number(zigzag(*id))?;
            out.number(lease.ttl)?;
            out.number(lease.grant)?;
            match lease.countdown {
                Countdown::Counting { deadline } if !self.planted(Mutant::CountdownNotSaved) => {
                    out.number(COUNTING)?;
                    out.number(deadline.0)?;
                }
                Countdown::Counting { .. } | Countdown::Renewing => out.number(RENEWING)?,
            }
        }
        Ok(())
    }

    fn save_alarms(&self, out: &mut Output<'_>) -> io::Result<()> {
        if self.planted(Mutant::AlarmForgotten) {
            return out.number(0);
        }
        out.number(self.alarms.len() as u64)?;
        for (alarm, ()) in self.alarms.iter() {
            out.number(alarm.kind.code().into())?;
            out.number(alarm.member)?;
        }
        Ok(())
    }

    fn save_auth(&self, out: &mut Output<'_>) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self.planted(Mutant::AuthForgotten) {
            true => Auth::new().save(&mut bytes),
            false => self.auth.save(&mut bytes),
        }
        out.bytes(&bytes)
    }

    fn save_requests(&self, out: &mut Output<'_>) -> io::Result<()> {
        let lost = self.planted(Mutant::RequestsForgotten);
        let kept = if lost { &Requests::new() } else { &self.requests };
        let shared = self.save_version() > WITHOUT_LIMITS;
        out.number(if shared { kept.forgotten() } else { kept.forgotten_of(0) }.0)?;
        out.number(kept.iter().len() as u64)?;
        for (id, kept) in kept.iter() {
            out.number(kept.revision.0)?;
            out.bytes(id)?;
            out.number(kept.hash)?;
            out.number(u64::from(kept.answer.is_some()))?;
            if let Some(answer) = &kept.answer {
                out.bytes(answer)?;
            }
        }
        if !shared {
            return Ok(());
        }
        for (_, kept) in kept.iter() {
            out.number(kept.owner)?;
        }
        out.number(kept.owners().len() as u64)?;
        for (owner, forgotten) in kept.owners() {
            out.number(owner)?;
            out.number(forgotten.0)?;
        }
        Ok(())
    }

    /// The oldest version that has room for all there is.
    fn save_version(&self) -> u8 {
        let plain = self.limits.rules().is_empty() && self.requests.is_of_nobody();
        if plain { WITHOUT_LIMITS } else { SAVE_VERSION }
    }

    fn save_limits(&self, out: &mut Output<'_>) -> io::Result<()> {
        if self.save_version() == WITHOUT_LIMITS {
            return Ok(());
        }
        let lost = self.planted(Mutant::LimitsForgotten);
        let rules = if lost { &[] } else { self.limits.rules() };
        out.number(rules.len() as u64)?;
        for rule in rules {
            let mut bytes = Vec::new();
            rule.encode(&mut bytes);
            out.bytes(&bytes)?;
        }
        Ok(())
    }

    fn save_event(&self, out: &mut Output<'_>, place: Place, event: &Event) -> io::Result<()> {
        out.number(place.revision.0)?;
        out.number(place.order)?;
        out.number(event.prev_revision.0)?;
        let key = &event.kv.key[..];
        let living = self.live.get(key);
        if living.is_some_and(|living| Arc::ptr_eq(&living.kv, &event.kv)) {
            out.number(FROM_LIVE)?;
            return out.number(self.live.rank(key) as u64);
        }
        let revision = event.revision();
        let kept = self
            .past(key)
            .filter(|versions| versions.get(revision).is_some_and(|kv| Arc::ptr_eq(kv, &event.kv)));
        if let Some(versions) = kept {
            let (source, rank) = match living {
                Some(_) => (FROM_PAST, self.live.rank(key)),
                None => (FROM_GRAVE, self.graves.rank(key)),
            };
            out.number(source)?;
            out.number(rank as u64)?;
            return out.number(versions.rank(revision) as u64);
        }
        out.number(OWN)?;
        out.bytes(key)?;
        out.version(&event.kv)
    }

    /// Reads a store that [`Store::save`] wrote; reads nothing beyond it.
    pub fn load(input: &mut dyn Read) -> Result<Store, LoadError> {
        let mut input = Input { input, block: Vec::new(), at: 0 };
        let (mut store, version) = load_head(&mut input)?;
        load_live(&mut input, &mut store)?;
        load_graves(&mut input, &mut store)?;
        load_log(&mut input, &mut store)?;
        load_alarms(&mut input, &mut store)?;
        if version > WITHOUT_AUTH {
            let auth = Auth::load(input.bytes()?);
            store.auth = Arc::new(auth.map_err(|_| LoadError::Corrupt("users and roles"))?);
        }
        if version > WITHOUT_REQUESTS {
            load_requests(&mut input, &mut store, version)?;
        }
        if version > WITHOUT_LIMITS {
            load_limits(&mut input, &mut store)?;
        }
        input.finish()?;
        Ok(store)
    }
}

/// The store without its keys, and the version of the format.
fn load_head(input: &mut Input<'_>) -> Result<(Store, u8), LoadError> {
    input.fill()?;
    if !input.block.starts_with(MAGIC) {
        return Err(LoadError::NotAStore);
    }
    input.at = MAGIC.len();
    let version = input.byte()?;
    if !(WITHOUT_AUTH..=SAVE_VERSION).contains(&version) {
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
    load_leases(input, &mut store)?;
    Ok((store, version))
}

fn load_leases(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    store.lease_clock = LeaseTime(input.number()?);
    let mut leases = Builder::new();
    let mut last = None;
    for _ in 0..input.number()? {
        let id = unzigzag(input.number()?);
        ascend(&mut last, id)?;
        let (ttl, grant) = (input.number()?, input.number()?);
        let countdown = match input.number()? {
            RENEWING => Countdown::Renewing,
            COUNTING => Countdown::Counting { deadline: LeaseTime(input.number()?) },
            _ => return Err(LoadError::Corrupt("a lease has an unknown countdown")),
        };
        if id == 0 || grant >= store.applied {
            return Err(LoadError::Corrupt("a lease that was never granted"));
        }
        leases.push(id, Lease::new(ttl, grant, countdown));
        store.bytes += LEASE_BYTES;
    }
    store.leases = leases.finish();
    Ok(())
}

fn load_live(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    let mut live = Builder::new();
    let mut last: Option<Bytes> = None;
    for _ in 0..input.number()? {
        let key = input.key(&mut last)?;
        let kv = input.version(key.clone(), store.revision)?;
        if kv.version == 0 {
            return Err(LoadError::Corrupt("a living key has a tombstone"));
        }
        if !store.attach_loaded(&key, kv.lease) {
            return Err(LoadError::Corrupt("a key names a lease that is not there"));
        }
        store.bytes += weight(&kv);
        let past = input.past(&key, store)?;
        live.push(Key::from(&key), Living { kv, past });
    }
    store.live = live.finish();
    Ok(())
}

fn load_graves(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    let mut graves = Builder::new();
    let mut last: Option<Bytes> = None;
    for _ in 0..input.number()? {
        let key = input.key(&mut last)?;
        if store.get(&key).is_some() {
            return Err(LoadError::Corrupt("a key is both alive and dead"));
        }
        let past = input.past(&key, store)?;
        let versions = past.ok_or(LoadError::Corrupt("a dead key has no versions"))?;
        graves.push(Key::from(&key), versions);
    }
    store.graves = graves.finish();
    Ok(())
}

fn load_log(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    let mut log = Builder::new();
    let mut last = None;
    for _ in 0..input.number()? {
        let place = Place { revision: input.revision()?, order: input.number()? };
        ascend(&mut last, place)?;
        let prev_revision = input.revision()?;
        let (kv, past) = load_source(input, store)?;
        if kv.mod_revision != place.revision || prev_revision >= place.revision {
            return Err(LoadError::Corrupt("an event does not fit its place in the log"));
        }
        // The version before a tombstone of long ago may be forgotten.
        let prev = past.and_then(|past| past.get(prev_revision)).map(Arc::clone);
        log.push(place, Event { kv, prev_revision, prev });
    }
    store.log = log.finish();
    Ok(())
}

fn load_alarms(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    let mut alarms = Builder::new();
    let mut last = None;
    for _ in 0..input.number()? {
        let kind = u8::try_from(input.number()?).ok().and_then(AlarmKind::of_code);
        let kind = kind.ok_or(LoadError::Corrupt("an alarm is of no known kind"))?;
        let alarm = Alarm { kind, member: input.number()? };
        ascend(&mut last, alarm)?;
        alarms.push(alarm, ());
    }
    store.alarms = alarms.finish();
    Ok(())
}

fn load_requests(input: &mut Input<'_>, store: &mut Store, version: u8) -> Result<(), LoadError> {
    let forgotten = input.revision()?;
    let mut all = Vec::new();
    for _ in 0..input.number()? {
        let (revision, id, hash) = (input.revision()?, input.bytes()?, input.number()?);
        let answer = if input.number()? == 0 { None } else { Some(input.bytes()?) };
        if revision > store.revision {
            return Err(LoadError::Corrupt("an answer is younger than the store"));
        }
        all.push((id, Kept { revision, owner: 0, hash, answer }));
    }
    let mut owners = Vec::new();
    if version > WITHOUT_LIMITS {
        for (_, kept) in &mut all {
            kept.owner = input.number()?;
        }
        for _ in 0..input.number()? {
            owners.push((input.number()?, input.revision()?));
        }
    }
    let requests = Requests::restore(forgotten, all, owners);
    store.requests = requests.ok_or(LoadError::Corrupt("the answers kept for requests"))?;
    store.bytes += store.requests.bytes();
    Ok(())
}

fn load_limits(input: &mut Input<'_>, store: &mut Store) -> Result<(), LoadError> {
    let bad = || LoadError::Corrupt("the limits");
    let mut rules = Vec::new();
    for _ in 0..input.number()? {
        let mut bytes = Reader::new(input.bytes()?);
        rules.push(LimitRule::decode(&mut bytes).map_err(|_| bad())?);
        bytes.end().map_err(|_| bad())?;
    }
    store.restore_limits(rules).ok_or_else(bad)
}

/// The pair of an event, and the past of its key.
fn load_source<'a>(
    input: &mut Input<'_>,
    store: &'a Store,
) -> Result<(Arc<KeyValue>, Option<&'a Versions>), LoadError> {
    let (kv, past) = match input.number()? {
        FROM_LIVE => match store.live.nth(input.rank()?) {
            Some((_, living)) => (Some(&living.kv), living.past.as_ref()),
            None => (None, None),
        },
        FROM_PAST => {
            let living = store.live.nth(input.rank()?);
            nth_of(living.and_then(|(_, living)| living.past.as_ref()), input.rank()?)
        }
        FROM_GRAVE => {
            let grave = store.graves.nth(input.rank()?);
            nth_of(grave.map(|(_, versions)| versions), input.rank()?)
        }
        OWN => {
            let key = input.bytes()?;
            let kv = input.version(key, store.revision)?;
            let past = store.past(&kv.key);
            return Ok((kv, past));
        }
        _ => return Err(LoadError::Corrupt("an event has an unknown source")),
    };
    let kv = kv.ok_or(LoadError::Corrupt("an event names a pair that is not there"))?;
    Ok((Arc::clone(kv), past))
}

fn nth_of(past: Option<&Versions>, rank: usize) -> (Option<&Arc<KeyValue>>, Option<&Versions>) {
    (past.and_then(|versions| versions.nth(rank)), past)
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

    fn past(&mut self, past: Option<&Versions>) -> io::Result<()> {
        self.number(past.map_or(0, Versions::len) as u64)?;
        for kv in past.into_iter().flat_map(Versions::iter) {
            self.version(kv)?;
        }
        Ok(())
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

    /// A key that comes after the last one.
    fn key(&mut self, last: &mut Option<Bytes>) -> Result<Bytes, LoadError> {
        let key = self.bytes()?;
        if last.as_ref().is_some_and(|last| *last >= key) {
            return Err(LoadError::Corrupt("keys do not ascend"));
        }
        *last = Some(key.clone());
        Ok(key)
    }

    fn past(&mut self, key: &Bytes, store: &mut Store) -> Result<Option<Versions>, LoadError> {
        let mut past = None;
        let mut latest = None;
        for _ in 0..self.number()? {
            let kv = self.version(key.clone(), store.revision)?;
            ascend(&mut latest, kv.mod_revision)?;
            store.bytes += weight(&kv);
            past = Some(Versions::after(past, kv));
        }
        Ok(past)
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
