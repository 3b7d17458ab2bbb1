//! What a continuous backup keeps: states, and every change between them.
//!
//! **Problem.** A snapshot an hour loses an hour, and the mistake that is to be undone was made
//! between two of them. So each change is kept as well, as it happens, somewhere that knows nothing
//! but objects: written once, listed by name, read as a whole.
//!
//! **Idea.** Names say everything that must be known to find a way; no list has to be kept that two
//! writers, or a crash, could leave wrong.
//!
//! ```text
//!   CLUSTER/base-REVISION.snap         a snapshot, as the Snapshot call sends it
//!   CLUSTER/base-REVISION.json         says that it is whole; a base without it is none
//!   CLUSTER/log-FIRST-LAST.seg         all changes of these revisions
//!
//!   base-100      log-101-140   log-141-147   log-148-148   log-149-203
//!                                   base-145
//!   revision 146: base-145, then of log-141-147 what is younger than 145, up to 146
//! ```
//!
//! An object is put only where none is, so nothing is ever written over; two processes that back up
//! one cluster make segments that overlap, which does no harm.
//!
//! ```text
//!   segment   header: "quorSEGM", format u32 = 1, CRC-32C of all after the header u32,
//!             cluster u64, first u64, last u64, began u64, ended u64 (ms since 1970),
//!             xxHash64 of the 56 bytes before, u64
//!   records   1 moment: ms u64              of what follows, by the clock of who wrote it
//!             2 lease: id i64, ttl u64      before a change that names it
//!             3 put: revision, created, version u64, lease i64, key and value as u32 and bytes
//!             4 delete: revision u64, key
//!             0 end: changes u64                                              little-endian
//! ```
//!
//! **Guarantees.** A segment is whole or refused. A state is restored only from a base and segments
//! without a gap between.
//!
//! **Not kept.** Users and roles are those of the base: whoever ships takes a new one when they
//! change. A lease begins its time anew. Compactions do not matter: what is made from a backup is
//! compacted, or keeps all that is here.
//!
//! **Bounds.** [`SEGMENT_BYTES_MAX`].
//!
//! Sources: PostgreSQL's continuous archiving and point-in-time recovery (the idea).

use bytes::Bytes;
pub use quorate_replica::store::{KeyValue, Revision};
use quorate_replica::store::{ReplayError, Store, xxh64};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A larger segment is neither written nor read. Unit: bytes.
pub const SEGMENT_BYTES_MAX: usize = 1 << 30;

const MAGIC: &[u8; 8] = b"quorSEGM";
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 64;
/// Where the hash of the header stands.
const HASH_AT: usize = HEADER_BYTES - 8;

const END: u8 = 0;
const MOMENT: u8 = 1;
const LEASE: u8 = 2;
const PUT: u8 = 3;
const DELETE: u8 = 4;

/// Which changes an object holds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Span {
    /// The first revision.
    pub first: u64,
    /// The last one.
    pub last: u64,
}

impl Span {
    /// The name of its object, without the cluster.
    pub fn name(self) -> String {
        format!("log-{:020}-{:020}.seg", self.first, self.last)
    }
}

/// The name of a base's object, without the cluster.
pub fn base_name(revision: u64) -> String {
    format!("base-{revision:020}.snap")
}

/// The name of what says that a base is whole.
pub fn manifest_name(revision: u64) -> String {
    format!("base-{revision:020}.json")
}

/// Changes that are gathered for a segment.
#[derive(Clone, Debug)]
pub struct Gathering {
    cluster: u64,
    first: u64,
    last: u64,
    changes: u64,
    began: u64,
    moment: u64,
    body: Vec<u8>,
}

impl Gathering {
    /// Of changes from revision `first` on.
    pub fn new(cluster: u64, first: u64) -> Gathering {
        let (changes, began, moment) = (0, 0, 0);
        Gathering { cluster, first, last: 0, changes, began, moment, body: Vec::new() }
    }

    /// True if there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// Bytes that have gathered.
    pub fn bytes(&self) -> usize {
        self.body.len()
    }

    /// When the first change came; ms since 1970.
    pub fn began(&self) -> u64 {
        self.began
    }

    /// The last revision in it; that before the first one if it is empty.
    pub fn last(&self) -> u64 {
        if self.is_empty() { self.first.saturating_sub(1) } else { self.last }
    }

    /// What follows happened now. A clock that goes back is not followed.
    pub fn moment(&mut self, ms: u64) {
        if self.moment == 0 {
            self.began = ms;
        }
        if ms > self.moment {
            self.moment = ms;
            self.record(MOMENT, &[ms]);
        }
    }

    /// A lease that a following change names.
    pub fn lease(&mut self, id: i64, ttl: u64) {
        self.record(LEASE, &[id as u64, ttl]);
    }

    /// A change: version 0 is the end of a key.
    ///
    /// Panics: if it is of an older revision than the one before.
    pub fn change(&mut self, kv: &KeyValue) {
        let revision = kv.mod_revision.0;
        assert!(revision >= self.last && revision >= self.first, "changes come in their order");
        self.last = revision;
        self.changes += 1;
        if kv.version == 0 {
            self.record(DELETE, &[revision]);
            return self.text(&kv.key);
        }
        self.record(PUT, &[revision, kv.create_revision.0, kv.version, kv.lease as u64]);
        self.text(&kv.key);
        self.text(&kv.value);
    }

    fn record(&mut self, kind: u8, words: &[u64]) {
        self.body.push(kind);
        words.iter().for_each(|word| self.body.extend(word.to_le_bytes()));
    }

    fn text(&mut self, bytes: &[u8]) {
        self.body.extend((bytes.len() as u32).to_le_bytes());
        self.body.extend_from_slice(bytes);
    }

    /// The segment, and which changes it holds. What comes after begins a new one.
    ///
    /// Panics: if it is empty.
    pub fn seal(&mut self) -> (Span, Vec<u8>) {
        assert!(!self.is_empty(), "a segment without a change has no name");
        let next = Gathering::new(self.cluster, self.last + 1);
        let mut whole = std::mem::replace(self, next);
        let changes = whole.changes;
        whole.record(END, &[changes]);
        let words = [whole.cluster, whole.first, whole.last, whole.began, whole.moment];
        (Span { first: whole.first, last: whole.last }, seal(words, &whole.body))
    }
}

/// A header of these words, and the records after it.
fn seal(words: [u64; 5], body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[12..16].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    for (at, word) in (16..).step_by(8).zip(words) {
        bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    }
    let hash = xxh64(&bytes[..HASH_AT], 0);
    bytes[HASH_AT..].copy_from_slice(&hash.to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Arbitrary records in a segment that says it is whole.
pub(crate) fn sealed(body: &[u8]) -> Vec<u8> {
    seal([0, 2, 9, 0, 0], body)
}

/// Up to where changes are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// All of them.
    Newest,
    /// This revision is the last.
    Revision(u64),
    /// What came later than this is not wanted; ms since 1970.
    Time(u64),
}

/// Why a segment is not used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SegmentError {
    /// It is none.
    NotASegment,
    /// A newer version of this program made it.
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// Its checksum does not fit, or its records contradict each other.
    Damaged,
    /// It is of another cluster.
    Foreign {
        /// Of which.
        cluster: u64,
    },
    /// It begins after what the state holds.
    Gap {
        /// The first revision that is missing.
        missing: u64,
    },
    /// A change does not fit the state.
    Change(ReplayError),
}

impl fmt::Display for SegmentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SegmentError::NotASegment => f.write_str("not a segment of a backup"),
            SegmentError::NewerFormat { found } => {
                write!(f, "a segment of format {found}; this version reads up to {FORMAT}")
            }
            SegmentError::Damaged => f.write_str("its checksum does not match"),
            SegmentError::Foreign { cluster } => write!(f, "it is of cluster {cluster:x}"),
            SegmentError::Gap { missing } => write!(f, "revision {missing} is missing before it"),
            SegmentError::Change(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SegmentError {}

/// Carries the changes of a segment over to a state that holds all before them. True if there was
/// more than was wanted.
///
/// Errors: see [`SegmentError`]; never panics. After [`SegmentError::Change`] the state is not to
/// be used; after the others it is as it was.
pub fn apply(
    bytes: &[u8],
    cluster: u64,
    store: &mut Store,
    until: Until,
) -> Result<bool, SegmentError> {
    let body = checked(bytes, cluster, store.revision().0)?;
    let before = store.revision().0;
    let (mut input, mut moment) = (body, 0);
    loop {
        let (kind, rest) = input.split_first().ok_or(SegmentError::Damaged)?;
        input = rest;
        match *kind {
            END => return Ok(false),
            MOMENT => moment = word(&mut input)?,
            LEASE => {
                let (id, ttl) = (word(&mut input)?, word(&mut input)?);
                store.replay_lease(id as i64, ttl);
            }
            PUT | DELETE => {
                let kv = change(*kind, &mut input)?;
                let at = kv.mod_revision.0;
                let is_wanted = match until {
                    Until::Newest => true,
                    Until::Revision(last) => at <= last,
                    Until::Time(last) => moment <= last,
                };
                // A revision is taken as a whole: its changes have one moment.
                if !is_wanted {
                    return Ok(true);
                }
                if at > before {
                    store.replay(kv).map_err(SegmentError::Change)?;
                }
            }
            _ => return Err(SegmentError::Damaged),
        }
    }
}

/// What follows the header, if all of it is as it was written.
fn checked(bytes: &[u8], cluster: u64, state: u64) -> Result<&[u8], SegmentError> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else {
        return Err(SegmentError::NotASegment);
    };
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    if header[..8] != *MAGIC || word(HASH_AT) != xxh64(&header[..HASH_AT], 0) {
        return Err(SegmentError::NotASegment);
    }
    let found = word(8) as u32;
    if found > FORMAT {
        return Err(SegmentError::NewerFormat { found });
    }
    if (word(8) >> 32) as u32 != crc32c::crc32c(body) {
        return Err(SegmentError::Damaged);
    }
    let (owner, first) = (word(16), word(24));
    if owner != cluster {
        return Err(SegmentError::Foreign { cluster: owner });
    }
    if first > state + 1 {
        return Err(SegmentError::Gap { missing: state + 1 });
    }
    Ok(body)
}

fn word(input: &mut &[u8]) -> Result<u64, SegmentError> {
    let (word, rest) = input.split_first_chunk::<8>().ok_or(SegmentError::Damaged)?;
    *input = rest;
    Ok(u64::from_le_bytes(*word))
}

fn text(input: &mut &[u8]) -> Result<Bytes, SegmentError> {
    let (len, rest) = input.split_first_chunk::<4>().ok_or(SegmentError::Damaged)?;
    let len = u32::from_le_bytes(*len) as usize;
    let (text, rest) = rest.split_at_checked(len).ok_or(SegmentError::Damaged)?;
    *input = rest;
    Ok(Bytes::copy_from_slice(text))
}

fn change(kind: u8, input: &mut &[u8]) -> Result<KeyValue, SegmentError> {
    let mut kv = KeyValue { mod_revision: Revision(word(input)?), ..KeyValue::default() };
    if kind == PUT {
        kv.create_revision = Revision(word(input)?);
        kv.version = word(input)?.max(1);
        kv.lease = word(input)? as i64;
    }
    kv.key = text(input)?;
    if kind == PUT {
        kv.value = text(input)?;
    }
    Ok(kv)
}

/// What there is of one cluster.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Catalogue {
    /// Revisions of the bases that are whole.
    pub bases: BTreeSet<u64>,
    /// The segments.
    pub spans: BTreeSet<Span>,
}

/// A stretch of revisions each of which can be restored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reach {
    /// The base that it begins with.
    pub from: u64,
    /// The last revision.
    pub to: u64,
}

impl Catalogue {
    /// Notes an object by its name, without the cluster. One of another kind is passed over.
    pub fn note(&mut self, name: &str) {
        let number = |text: &str| text.parse::<u64>().ok();
        if let Some(base) = name.strip_prefix("base-").and_then(|rest| rest.strip_suffix(".json")) {
            self.bases.extend(number(base));
        }
        let span = name.strip_prefix("log-").and_then(|rest| rest.strip_suffix(".seg"));
        if let Some((first, last)) = span.and_then(|span| span.split_once('-'))
            && let (Some(first), Some(last)) = (number(first), number(last))
            && first <= last
        {
            self.spans.insert(Span { first, last });
        }
    }

    /// The segments that lead on from a state at revision `from`, and how far: without a gap, and
    /// not further than needed for `to`.
    pub fn way(&self, from: u64, to: u64) -> (Vec<Span>, u64) {
        let (mut way, mut at) = (Vec::new(), from);
        // By first revision; of those that lead on, the longest.
        let mut ahead = self.spans.iter().peekable();
        while at < to {
            let mut best: Option<Span> = None;
            while let Some(span) = ahead.next_if(|span| span.first <= at + 1) {
                if span.last > at && best.is_none_or(|best| span.last > best.last) {
                    best = Some(*span);
                }
            }
            let Some(span) = best else { break };
            way.push(span);
            at = span.last;
        }
        (way, at)
    }

    /// What can be restored. Stretches that one base after the other reaches are one.
    pub fn reaches(&self) -> Vec<Reach> {
        let mut reaches: Vec<Reach> = Vec::new();
        for base in &self.bases {
            let to = self.way(*base, u64::MAX).1;
            match reaches.last_mut() {
                Some(last) if *base <= last.to => last.to = last.to.max(to),
                _ => reaches.push(Reach { from: *base, to }),
            }
        }
        reaches
    }

    /// The highest revision of which anything is known.
    pub fn highest(&self) -> u64 {
        let spans = self.spans.iter().map(|span| span.last).max();
        spans.max(self.bases.last().copied()).unwrap_or(0)
    }

    /// What may be removed so that the newest `keep` bases, and all after the oldest of them, stay:
    /// bases and segments.
    pub fn superfluous(&self, keep: usize) -> (Vec<u64>, Vec<Span>) {
        let Some(oldest) = self.bases.iter().rev().take(keep).last().copied() else {
            return (Vec::new(), Vec::new());
        };
        let bases = self.bases.iter().filter(|base| **base < oldest).copied().collect();
        let spans = self.spans.iter().filter(|span| span.last <= oldest).copied().collect();
        (bases, spans)
    }
}

/// The objects below a prefix, by cluster. `paths` are relative: `CLUSTER/NAME`.
pub fn catalogues<'a>(paths: impl IntoIterator<Item = &'a str>) -> BTreeMap<u64, Catalogue> {
    let mut found: BTreeMap<u64, Catalogue> = BTreeMap::new();
    for path in paths {
        let Some((cluster, name)) = path.split_once('/') else { continue };
        if let Ok(cluster) = u64::from_str_radix(cluster, 16) {
            found.entry(cluster).or_default().note(name);
        }
    }
    found.retain(|_, catalogue| *catalogue != Catalogue::default());
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_replica::store::{Command, DeleteRange, Keys, Put};

    const CLUSTER: u64 = 0xC1;

    /// A store with `writes` writes, some of them deletes.
    fn lived(writes: u64) -> Store {
        let mut store = Store::new();
        for number in 0..writes {
            let key = Bytes::from(format!("k{}", number % 5));
            let command = match number % 4 {
                3 => {
                    let keys = Keys { key, range_end: Bytes::new() };
                    Command::DeleteRange(DeleteRange { keys, prev_kv: false })
                }
                _ => Command::Put(Put { key, value: number.to_string().into(), ..Put::default() }),
            };
            store.apply(&command);
        }
        store
    }

    /// Its changes in segments of so many changes, each at a moment of its own.
    fn segments(store: &Store, every: u64) -> Vec<(Span, Vec<u8>)> {
        let mut gathering = Gathering::new(CLUSTER, 2);
        let mut all = Vec::new();
        for event in store.changes(Revision(0)).expect("nothing is compacted") {
            gathering.moment(1_000 * event.revision().0);
            gathering.change(&event.kv);
            if gathering.changes == every {
                all.push(gathering.seal());
            }
        }
        if !gathering.is_empty() {
            all.push(gathering.seal());
        }
        all
    }

    #[test]
    fn every_revision_comes_back_by_number_and_by_time() {
        let whole = lived(40);
        for every in [1, 3, 100] {
            let segments = segments(&whole, every);
            for last in 1..=whole.revision().0 {
                for until in [Until::Revision(last), Until::Time(1_000 * last + 7)] {
                    let mut store = Store::new();
                    for (_, bytes) in &segments {
                        if apply(bytes, CLUSTER, &mut store, until).expect("whole") {
                            break;
                        }
                    }
                    assert_eq!(store.revision().0, last, "{until:?}");
                    assert_eq!(store.hash_kv(Revision(0)), whole.hash_kv(Revision(last)));
                }
            }
        }
    }

    #[test]
    fn segments_that_overlap_do_no_harm_and_a_gap_is_refused() {
        let whole = lived(40);
        let (fine, coarse) = (segments(&whole, 2), segments(&whole, 7));
        let mut store = Store::new();
        for (_, bytes) in [&fine[0], &coarse[0], &fine[1], &coarse[1]] {
            apply(bytes, CLUSTER, &mut store, Until::Newest).expect("it fits");
        }
        let reached = store.revision();
        assert_eq!(store.hash_kv(Revision(0)), whole.hash_kv(reached));
        let gap = apply(&coarse[4].1, CLUSTER, &mut store, Until::Newest);
        assert_eq!(gap, Err(SegmentError::Gap { missing: reached.0 + 1 }));
        let foreign = apply(&coarse[2].1, 7, &mut store, Until::Newest);
        assert_eq!(foreign, Err(SegmentError::Foreign { cluster: CLUSTER }));
        assert_eq!(store.revision(), reached);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let (_, whole) = segments(&lived(6), 100).remove(0);
        for at in 0..whole.len() {
            let mut rotten = whole.clone();
            rotten[at] ^= 1;
            assert!(apply(&rotten, CLUSTER, &mut Store::new(), Until::Newest).is_err(), "{at}");
            assert!(
                apply(&whole[..at], CLUSTER, &mut Store::new(), Until::Newest).is_err(),
                "{at}"
            );
        }
    }

    #[test]
    fn the_way_has_no_gap_and_is_no_longer_than_needed() {
        let mut catalogue = Catalogue::default();
        for name in [
            "base-00000000000000000100.json",
            "base-00000000000000000145.json",
            "base-00000000000000000300.json",
            "base-00000000000000000900.snap",
            "log-00000000000000000101-00000000000000000140.seg",
            "log-00000000000000000101-00000000000000000120.seg",
            "log-00000000000000000141-00000000000000000147.seg",
            "log-00000000000000000148-00000000000000000203.seg",
            "log-00000000000000000205-00000000000000000210.seg",
            "log-00000000000000000301-00000000000000000310.seg",
            "log-9-3.seg",
            "notes.txt",
        ] {
            catalogue.note(name);
        }
        let span = |first, last| Span { first, last };
        assert_eq!(catalogue.way(145, 146), (vec![span(141, 147)], 147));
        let all = vec![span(101, 140), span(141, 147), span(148, 203)];
        assert_eq!(catalogue.way(100, u64::MAX), (all, 203));
        assert_eq!(catalogue.way(100, 100), (vec![], 100));
        let reaches = [Reach { from: 100, to: 203 }, Reach { from: 300, to: 310 }];
        assert_eq!(catalogue.reaches(), reaches);
        assert_eq!(catalogue.highest(), 310);
        let (bases, spans) = catalogue.superfluous(2);
        assert_eq!(bases, [100]);
        assert_eq!(spans, [span(101, 120), span(101, 140)]);
        assert_eq!(catalogue.superfluous(9), (vec![], vec![]));
    }

    #[test]
    fn objects_are_sorted_by_cluster() {
        let found = catalogues([
            "00000000000000c1/base-00000000000000000100.json",
            "00000000000000c2/log-00000000000000000002-00000000000000000009.seg",
            "zz/base-00000000000000000100.json",
            "stray",
            "00000000000000c3/readme",
        ]);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0xC1, 0xC2]);
    }
}
