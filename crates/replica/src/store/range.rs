//! Reading: ranges at the latest and at older revisions, streams of pages, the log of changes.
//!
//! Three ways lead to an answer. A range of the latest revision in key order walks the living
//! keys from the bound and stops at the limit; its count comes from the sizes in the tree. A
//! range of an older revision in ascending key order merges the living keys with the past ones
//! and must visit all of them to count. Everything else (another order, filters) collects
//! references to all pairs of the range, filters, sorts and cuts, as etcd does.
//!
//! Ties of a sort stay in ascending key order in both directions. With a sort target other than
//! the key and no order given, etcd cuts at the limit before it sorts; here the limit always
//! comes last, which is what its documentation says.
//!
//! Source: etcd `server/etcdserver/txn/range.go`, `server/storage/mvcc/kvstore_txn.go`.

use super::tree::Ascend;
use super::versions::Versions;
use super::{
    Event, Found, Key, KeyValue, Keys, KvError, Living, Mutant, Place, Range, Revision, SortOrder,
    SortTarget, Store,
};
use bytes::Bytes;
use std::cmp::Ordering;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::Arc;

/// Charged for each pair of a page beside its key and value: numbers and framing, in bytes.
const PAIR_BYTES: usize = 48;

/// The events of the log from one revision on, oldest first; see [`Store::changes`].
pub struct Changes<'a> {
    pub(super) events: Ascend<'a, Place, Event>,
}

/// A range in pieces; see [`Store::pages`].
pub struct Pages {
    source: Source,
    page_bytes: usize,
    keys_only: bool,
}

/// Where the next page comes from.
enum Source {
    /// Walk on through the pinned store.
    Walk(Box<Walk>),
    /// Cut from an answer that had to be computed as a whole.
    List { rest: std::vec::IntoIter<Arc<KeyValue>>, more: bool, count: u64 },
    /// The last page is out.
    Done,
}

/// A range in ascending key order, answered up to a bound.
struct Walk {
    store: Store,
    range: Range,
    /// Where the next page begins.
    lower: Bound<Bytes>,
    /// Pairs on the pages so far.
    sent: u64,
}

/// The pairs that live at one revision, ascending.
pub(super) struct Scan<'a> {
    live: Peekable<Ascend<'a, Key, Living>>,
    graves: Peekable<Ascend<'a, Key, Versions>>,
    revision: Revision,
}

impl Keys {
    /// The keys as a lower and an upper bound.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let lower = Bound::Included(&self.key[..]);
        match &self.range_end[..] {
            [] => (lower, lower),
            [0] => (lower, Bound::Unbounded),
            end => (lower, Bound::Excluded(end)),
        }
    }

    /// True if `key` is one of them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.range_end[..] {
            [] => key == &self.key[..],
            [0] => key >= &self.key[..],
            end => key >= &self.key[..] && key < end,
        }
    }
}

impl Store {
    /// Reads a range.
    ///
    /// Errors: [`KvError::Compacted`], [`KvError::FutureRevision`]. A limit is honoured without
    /// visiting the keys beyond it in key order at the latest revision, in either direction.
    pub fn range(&self, range: &Range) -> Result<Found, KvError> {
        self.check_revision(range.revision)?;
        Ok(self.find(range))
    }

    /// Reads a range in pieces of about `page_bytes` from the state of this moment.
    ///
    /// Only the last page tells `more` and `count`; there is always one, perhaps without pairs.
    /// A page holds at least one pair. In plain key order no more than a page is collected at a
    /// time, else the whole answer is. Errors as for [`Store::range`].
    pub fn pages(&self, range: &Range, page_bytes: usize) -> Result<Pages, KvError> {
        self.check_revision(range.revision)?;
        let keys_only = range.keys_only;
        if range.is_plain() && !range.is_descending() && !range.count_only {
            let lower = Bound::Included(range.keys.key.clone());
            let (store, range) = (self.clone(), range.clone());
            let source = Source::Walk(Box::new(Walk { store, range, lower, sent: 0 }));
            return Ok(Pages { source, page_bytes, keys_only });
        }
        let Found { kvs, more, count, .. } = self.find(range);
        let source = Source::List { rest: kvs.into_iter(), more, count };
        Ok(Pages { source, page_bytes, keys_only })
    }

    /// Whether a revision of a request (0 is the latest) can be read.
    pub(super) fn check_revision(&self, revision: Revision) -> Result<(), KvError> {
        if revision > self.revision && !self.planted(Mutant::FutureServed) {
            return Err(KvError::FutureRevision { current: self.revision });
        }
        let refused = self.planted(Mutant::OldestRefused) && revision == self.compact_revision;
        if revision > Revision(0) && (refused || revision < self.compact_revision) {
            return Err(KvError::Compacted { compact_revision: self.compact_revision });
        }
        Ok(())
    }

    /// Reads a range whose revision was checked.
    pub(super) fn find(&self, range: &Range) -> Found {
        let found = if range.count_only {
            Found { count: self.count(range), ..Found::default() }
        } else if !range.is_plain() {
            self.find_sorted(range)
        } else if !self.is_latest(range.revision) {
            self.find_past(range)
        } else {
            let (lower, upper) = range.keys.bounds();
            if range.is_descending() {
                cut(self.live.range_back(lower, upper).map(latest), range.limit)
            } else {
                cut(self.live.range(lower, upper).map(latest), range.limit)
            }
        };
        let count = match range.limit {
            limit if limit > 0 && self.planted(Mutant::CountHonoursLimit) => found.count.min(limit),
            _ => found.count,
        };
        Found { count, keys_only: range.keys_only, ..found }
    }

    fn is_latest(&self, revision: Revision) -> bool {
        revision.0 == 0 || revision == self.revision || self.planted(Mutant::LatestForHistorical)
    }

    /// How many keys a range visits at most, in O(log n).
    pub(super) fn visited_by(&self, range: &Range) -> u64 {
        let (lower, upper) = range.keys.bounds();
        let living = self.live.count(lower, upper) as u64;
        match (self.is_latest(range.revision), range.count_only) {
            (false, _) => living + self.graves.count(lower, upper) as u64,
            (true, true) => 0,
            (true, false) if range.is_plain() => living.min(limit_of(range.limit) as u64),
            (true, false) => living,
        }
    }

    fn count(&self, range: &Range) -> u64 {
        let (lower, upper) = range.keys.bounds();
        if self.is_latest(range.revision) {
            return self.live.count(lower, upper) as u64;
        }
        self.scan(lower, upper, range.revision).count() as u64
    }

    /// Key order at an older revision.
    fn find_past(&self, range: &Range) -> Found {
        let (lower, upper) = range.keys.bounds();
        let mut scan = self.scan(lower, upper, range.revision);
        if range.is_descending() {
            let all: Vec<_> = scan.collect();
            return cut(all.into_iter().rev(), range.limit);
        }
        let kvs: Vec<_> = scan.by_ref().take(limit_of(range.limit)).map(Arc::clone).collect();
        let beyond = scan.count();
        Found { count: (kvs.len() + beyond) as u64, kvs, more: beyond > 0, keys_only: false }
    }

    /// Any order, any filter.
    fn find_sorted(&self, range: &Range) -> Found {
        let (lower, upper) = range.keys.bounds();
        let mut all: Vec<&Arc<KeyValue>> = if self.is_latest(range.revision) {
            self.live.range(lower, upper).map(latest).collect()
        } else {
            self.scan(lower, upper, range.revision).collect()
        };
        let count = all.len() as u64;
        all.retain(|kv| range.admits(kv));
        match (range.sort_target, range.sort_order) {
            (SortTarget::Key, SortOrder::Descend) => all.reverse(),
            (SortTarget::Key, _) => {}
            (target, SortOrder::Descend) => all.sort_by(|a, b| compare(target, b, a)),
            (target, _) => all.sort_by(|a, b| compare(target, a, b)),
        }
        let kvs =
            all.iter().take(limit_of(range.limit)).map(|kv| Arc::clone(kv)).collect::<Vec<_>>();
        Found { more: kvs.len() < all.len(), kvs, count, keys_only: false }
    }

    /// The pairs between two bounds that live at `revision`.
    fn scan(&self, lower: Bound<&[u8]>, upper: Bound<&[u8]>, revision: Revision) -> Scan<'_> {
        Scan {
            live: self.live.range(lower, upper).peekable(),
            graves: self.graves.range(lower, upper).peekable(),
            revision,
        }
    }

    /// All pairs that live at `revision`.
    pub(super) fn scan_all(&self, revision: Revision) -> Scan<'_> {
        self.scan(Bound::Unbounded, Bound::Unbounded, revision)
    }
}

impl Range {
    /// True if the answer is in key order, in either direction, and nothing is filtered out:
    /// then the limit bounds the work.
    pub fn is_plain(&self) -> bool {
        let filters = [
            self.min_mod_revision,
            self.max_mod_revision,
            self.min_create_revision,
            self.max_create_revision,
        ];
        self.sort_target == SortTarget::Key && filters.iter().all(|filter| filter.0 == 0)
    }

    fn is_descending(&self) -> bool {
        self.sort_order == SortOrder::Descend
    }

    fn admits(&self, kv: &KeyValue) -> bool {
        let within = |revision: Revision, min: Revision, max: Revision| {
            revision >= min && (max.0 == 0 || revision <= max)
        };
        within(kv.mod_revision, self.min_mod_revision, self.max_mod_revision)
            && within(kv.create_revision, self.min_create_revision, self.max_create_revision)
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = &'a Arc<KeyValue>;

    fn next(&mut self) -> Option<&'a Arc<KeyValue>> {
        loop {
            let living_first = match (self.live.peek(), self.graves.peek()) {
                (None, None) => return None,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (Some((live, _)), Some((dead, _))) => live < dead,
            };
            let kv = if living_first {
                self.live.next().and_then(|(_, living)| living.at(self.revision))
            } else {
                self.graves.next().and_then(|(_, versions)| versions.at(self.revision))
            };
            if kv.is_some() {
                return kv;
            }
        }
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = &'a Event;

    fn next(&mut self) -> Option<&'a Event> {
        self.events.next().map(|(_, event)| event)
    }
}

impl Pages {
    /// True if the last page is out.
    pub fn is_done(&self) -> bool {
        matches!(self.source, Source::Done)
    }

    /// Visits the pairs of all pages to come, without taking them: so the length of an answer can
    /// be known before its first byte leaves. Answers with what the last page will tell as `more`
    /// and `count`.
    pub fn survey(&self, visit: &mut dyn FnMut(&KeyValue)) -> (bool, u64) {
        match &self.source {
            Source::Done => (false, 0),
            Source::List { rest, more, count } => {
                rest.as_slice().iter().for_each(|kv| visit(kv));
                (*more, *count)
            }
            Source::Walk(walk) => {
                let mut sent = walk.sent;
                walk.visit(&mut |kv| {
                    sent += 1;
                    visit(kv);
                    true
                });
                let count = walk.store.count(&walk.range);
                (count > sent, count)
            }
        }
    }
}

impl Iterator for Pages {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let (bytes_max, keys_only) = (self.page_bytes, self.keys_only);
        let mut page = Page { kvs: Vec::new(), bytes: 0, bytes_max, keys_only };
        let (more, count) = match &mut self.source {
            Source::Done => return None,
            Source::List { rest, more, count } => {
                for kv in rest.by_ref() {
                    if !page.push(&kv) {
                        break;
                    }
                }
                if rest.len() > 0 {
                    return Some(page.into_found());
                }
                (*more, *count)
            }
            Source::Walk(walk) => {
                if !walk.fill(&mut page) {
                    return Some(page.into_found());
                }
                let count = walk.store.count(&walk.range);
                (count > walk.sent, count)
            }
        };
        self.source = Source::Done;
        Some(Found { more, count, ..page.into_found() })
    }
}

impl Walk {
    /// Fills a page; true if the range is exhausted or its limit reached.
    fn fill(&mut self, page: &mut Page) -> bool {
        let exhausted = self.visit(&mut |kv| page.push(kv));
        self.sent += page.kvs.len() as u64;
        if let Some(last) = page.kvs.last() {
            self.lower = Bound::Excluded(last.key.clone());
        }
        exhausted
    }

    /// Visits the pairs to come until told to stop; true if it was not.
    fn visit(&self, visit: &mut dyn FnMut(&Arc<KeyValue>) -> bool) -> bool {
        let (_, upper) = self.range.keys.bounds();
        let lower = match &self.lower {
            Bound::Included(key) => Bound::Included(&key[..]),
            Bound::Excluded(key) => Bound::Excluded(&key[..]),
            Bound::Unbounded => Bound::Unbounded,
        };
        let left = limit_of(self.range.limit).saturating_sub(self.sent as usize);
        let revision = self.range.revision;
        if self.store.is_latest(revision) {
            self.store.live.range(lower, upper).take(left).all(|(_, living)| visit(&living.kv))
        } else {
            self.store.scan(lower, upper, revision).take(left).all(visit)
        }
    }
}

/// A page being filled.
struct Page {
    kvs: Vec<Arc<KeyValue>>,
    bytes: usize,
    bytes_max: usize,
    keys_only: bool,
}

impl Page {
    /// Adds a pair; false if the page is full now.
    fn push(&mut self, kv: &Arc<KeyValue>) -> bool {
        let value = if self.keys_only { 0 } else { kv.value.len() };
        self.bytes += kv.key.len() + value + PAIR_BYTES;
        self.kvs.push(Arc::clone(kv));
        self.bytes < self.bytes_max
    }

    fn into_found(self) -> Found {
        Found { kvs: self.kvs, keys_only: self.keys_only, ..Found::default() }
    }
}

/// A limit of 0 is none.
fn limit_of(limit: u64) -> usize {
    if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) }
}

impl Living {
    /// The pair that was in force at `revision`; none if the key was dead or not yet born.
    fn at(&self, revision: Revision) -> Option<&Arc<KeyValue>> {
        if self.kv.mod_revision <= revision {
            return Some(&self.kv);
        }
        self.past.as_ref()?.at(revision)
    }
}

fn latest<'a>((_, living): (&'a Key, &'a Living)) -> &'a Arc<KeyValue> {
    &living.kv
}

/// The first pairs of a walk whose length is known beforehand.
fn cut<'a>(walk: impl ExactSizeIterator<Item = &'a Arc<KeyValue>>, limit: u64) -> Found {
    let count = walk.len();
    let kvs: Vec<_> = walk.take(limit_of(limit)).map(Arc::clone).collect();
    Found { more: kvs.len() < count, count: count as u64, kvs, keys_only: false }
}

fn compare(target: SortTarget, a: &KeyValue, b: &KeyValue) -> Ordering {
    match target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::Create => a.create_revision.cmp(&b.create_revision),
        SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    }
}
