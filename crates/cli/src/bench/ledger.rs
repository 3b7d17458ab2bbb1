//! What is known of a cluster's keys, and whether an answer agrees with it.
//!
//! The store promises one order of all writes, numbered by revisions. So three rules cover every
//! read, whatever else runs at the same time:
//!
//! 1. *Fresh.* A linearizable answer is of a revision not below any that was acknowledged, or
//!    seen by a linearizable read, before the question was asked.
//! 2. *Whole.* An answer of revision R contains every write of a revision up to R, and none above:
//!    whatever is known of a key from a revision up to R must be there, or something newer. This
//!    holds for serializable answers, too, which are merely allowed a smaller R.
//! 3. *Intact.* A value is the one that was written at its revision: it carries its key, and the
//!    checksum known of that revision; and one writer's values follow each other in its order.
//!
//! 4. *Once.* In the end the version of a key, which counts its writes, has grown by as many
//!    as were acknowledged.
//!
//! And for writes: an acknowledgement is of a revision above all those known before it was sent.
//!
//! A writer whose write had an unknown outcome goes on under another number, because that write
//! may still happen, after later ones. What other runs of this program wrote is checked as far as
//! it carries its checksum.
//!
//! One lock per key, held for a few loads and stores; two answers about one key at one moment are
//! rare.
//!
//! Source: Herlihy, Wing: Linearizability, 1990; etcd's KV API guarantees.

use super::space::Space;
use super::stamp::Stamp;
use super::verdict::Wrong;
use quorate_server::proto::etcdserverpb::ResponseHeader;
use quorate_server::proto::mvccpb::KeyValue;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Whether counters of values are those of compare-and-swaps, which never stand still.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Counters {
    /// Each write of a key counts one more than the write before.
    Counted,
    /// They say nothing.
    Ignored,
}

/// The newest that is known of one key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    /// Revision of the write; 0 if nothing is known.
    pub(super) revision: i64,
    /// Its counter.
    pub(super) counter: u64,
    /// How often the key was written: before, and acknowledged since.
    version: i64,
    sequence: u64,
    writer: u32, // 0 if it is not of this run
    checksum: u32,
}

/// No linearizable answer to a question asked now may be older than this revision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor(pub(super) i64);

/// The books.
#[derive(Debug)]
pub(super) struct Ledger {
    /// The keys.
    pub(super) space: Space,
    /// Chosen at random, so that no two runs have the same.
    pub(super) run: u64,
    counters: Counters,
    highest: AtomicI64,
    keys: Box<[Mutex<Known>]>,
    writers: AtomicU32,
    swaps: AtomicU64,
    swaps_unknown: AtomicU64,
    uncertain: AtomicU64,
}

impl Ledger {
    /// Knows nothing yet.
    pub(super) fn new(space: Space, run: u64, counters: Counters) -> Ledger {
        let keys = (0..space.keys).map(|_| Mutex::default()).collect();
        Ledger {
            space,
            run,
            counters,
            highest: AtomicI64::new(0),
            keys,
            writers: AtomicU32::new(0),
            swaps: AtomicU64::new(0),
            swaps_unknown: AtomicU64::new(0),
            uncertain: AtomicU64::new(0),
        }
    }

    /// A number for a writer, unused so far.
    pub(super) fn writer(&self) -> u32 {
        self.writers.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// To be taken before a question is asked.
    pub(super) fn floor(&self) -> Floor {
        Floor(self.highest.load(Ordering::Acquire))
    }

    /// The newest that is known of a key.
    pub(super) fn known(&self, key: u64) -> Known {
        *self.entry(key)
    }

    /// A write was acknowledged at this revision.
    pub(super) fn acknowledged(
        &self,
        floor: Floor,
        header: Option<&ResponseHeader>,
        stamp: &Stamp,
        checksum: u32,
    ) -> Result<i64, Wrong> {
        let revision = self.written(floor, header)?;
        self.enter(revision, stamp, checksum)?;
        Ok(revision)
    }

    /// A write that leaves no value (a delete, a lease's end) was acknowledged, or one whose
    /// values are entered one by one.
    pub(super) fn written(
        &self,
        floor: Floor,
        header: Option<&ResponseHeader>,
    ) -> Result<i64, Wrong> {
        let revision = header.map_or(0, |header| header.revision);
        if revision <= floor.0 {
            return Err(Wrong {
                promise: "a write is ordered after everything acknowledged before it was sent",
                expected: format!("an acknowledgement at a revision above {}", floor.0),
                seen: format!("revision {revision}"),
            });
        }
        self.raise(revision);
        Ok(revision)
    }

    /// One key of a write that was acknowledged at this revision.
    pub(super) fn enter(&self, revision: i64, stamp: &Stamp, checksum: u32) -> Result<(), Wrong> {
        self.merge(stamp.key, self.entry_of(revision, stamp, checksum))?;
        self.entry(stamp.key).version += 1;
        Ok(())
    }

    /// Before anything is written, a key has been written so often.
    pub(super) fn begins_at(&self, key: u64, version: i64) {
        self.entry(key).version = version;
    }

    /// When nothing is under way any more, each write has happened once.
    pub(super) fn is_settled(&self, key: u64, pair: &KeyValue) -> Result<(), Wrong> {
        let version = self.known(key).version;
        let uncertain = self.uncertain.load(Ordering::Relaxed) as i64;
        if (version..=version + uncertain).contains(&pair.version) {
            return Ok(());
        }
        Err(Wrong {
            promise: "a write that is acknowledged happens, and it happens once",
            expected: format!(
                "{} at version {version} ({uncertain} writes had an unknown outcome)",
                String::from_utf8_lossy(&pair.key)
            ),
            seen: format!("version {}; or does another program write there?", pair.version),
        })
    }

    /// A write may have happened, or happen later.
    pub(super) fn perhaps_written(&self) {
        self.uncertain.fetch_add(1, Ordering::Relaxed);
    }

    /// The revision of a linearizable answer.
    pub(super) fn fresh(
        &self,
        floor: Floor,
        header: Option<&ResponseHeader>,
    ) -> Result<i64, Wrong> {
        let revision = header.map_or(0, |header| header.revision);
        if revision < floor.0 {
            return Err(Wrong {
                promise: "a linearizable read sees every write acknowledged before it",
                expected: format!("an answer of revision {} or later", floor.0),
                seen: format!("revision {revision}"),
            });
        }
        self.raise(revision);
        Ok(revision)
    }

    /// A pair in an answer of revision `at`; `key` is the number it must have.
    pub(super) fn seen(&self, key: u64, pair: &KeyValue, at: i64) -> Result<Stamp, Wrong> {
        let name = || String::from_utf8_lossy(&self.space.key(key)).into_owned();
        if self.space.number(&pair.key) != Some(key) {
            return Err(Wrong {
                promise: "an answer holds the keys that were asked for, complete and in order",
                expected: name(),
                seen: String::from_utf8_lossy(&pair.key).into_owned(),
            });
        }
        let intact = "a value is the one that was written";
        let (stamp, checksum) = Stamp::decode(&pair.value).map_err(|damage| Wrong {
            promise: intact,
            expected: format!("an intact value of {} at revision {}", name(), pair.mod_revision),
            seen: damage.to_string(),
        })?;
        if stamp.key != key {
            return Err(Wrong {
                promise: intact,
                expected: format!("a value of key number {key}"),
                seen: format!("a value of key number {} at {}", stamp.key, name()),
            });
        }
        if pair.mod_revision > at || pair.mod_revision <= 0 {
            return Err(Wrong {
                promise: "an answer of one revision holds nothing newer",
                expected: format!("{} at a revision from 1 to {at}", name()),
                seen: format!("mod_revision {}", pair.mod_revision),
            });
        }
        let known = self.known(key);
        if pair.mod_revision < known.revision && known.revision <= at {
            return Err(Wrong {
                promise: "an answer of one revision holds every write up to it",
                expected: format!("{} as written at revision {}", name(), known.revision),
                seen: format!(
                    "mod_revision {} in an answer of revision {at}: a stale value",
                    pair.mod_revision
                ),
            });
        }
        self.merge(key, self.entry_of(pair.mod_revision, &stamp, checksum))?;
        Ok(stamp)
    }

    /// A key that is missing in an answer of revision `at`; keys of these workloads are never
    /// deleted.
    pub(super) fn missing(&self, key: u64, at: i64) -> Result<(), Wrong> {
        let known = self.known(key);
        if known.revision == 0 || known.revision > at {
            return Ok(());
        }
        Err(Wrong {
            promise: "an acknowledged write is never lost",
            expected: format!(
                "{} as written at revision {}",
                String::from_utf8_lossy(&self.space.key(key)),
                known.revision
            ),
            seen: format!("no such key in an answer of revision {at}"),
        })
    }

    /// A compare-and-swap was done.
    pub(super) fn swapped(&self) {
        self.swaps.fetch_add(1, Ordering::Relaxed);
    }

    /// A compare-and-swap may have been done.
    pub(super) fn perhaps_swapped(&self) {
        self.swaps_unknown.fetch_add(1, Ordering::Relaxed);
    }

    /// How many compare-and-swaps were done: certainly, and perhaps besides.
    pub(super) fn swaps(&self) -> (u64, u64) {
        (self.swaps.load(Ordering::Relaxed), self.swaps_unknown.load(Ordering::Relaxed))
    }

    fn raise(&self, revision: i64) {
        // Most answers are of a revision that is known; reading shares the line, writing does not.
        if self.highest.load(Ordering::Relaxed) < revision {
            self.highest.fetch_max(revision, Ordering::AcqRel);
        }
    }

    fn entry(&self, key: u64) -> MutexGuard<'_, Known> {
        self.keys[key as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry_of(&self, revision: i64, stamp: &Stamp, checksum: u32) -> Known {
        let writer = if stamp.run == self.run { stamp.writer } else { 0 };
        let Stamp { counter, sequence, .. } = *stamp;
        Known { revision, counter, version: 0, sequence, writer, checksum }
    }

    /// Compares what is new with what is known and keeps the later of them.
    fn merge(&self, key: u64, new: Known) -> Result<(), Wrong> {
        let mut entry = self.entry(key);
        let known = *entry;
        if known.revision == new.revision {
            if known.checksum == new.checksum {
                return Ok(());
            }
            return Err(self.contradiction(key, "one revision of a key is one value", known, new));
        }
        let (older, newer) =
            if known.revision < new.revision { (known, new) } else { (new, known) };
        let is_of_one_writer = older.writer == newer.writer && newer.writer != 0;
        if is_of_one_writer && older.sequence >= newer.sequence {
            let promise = "the writes of one writer happen in its order";
            return Err(self.contradiction(key, promise, older, newer));
        }
        let is_counted = self.counters == Counters::Counted && older.revision != 0;
        if is_counted && older.counter >= newer.counter {
            let promise = "a compare-and-swap replaces what it compared with: none is lost";
            return Err(self.contradiction(key, promise, older, newer));
        }
        *entry = Known { version: known.version, ..newer };
        Ok(())
    }

    fn contradiction(&self, key: u64, promise: &'static str, older: Known, newer: Known) -> Wrong {
        let name = self.space.key(key);
        let name = String::from_utf8_lossy(&name);
        let tell = |known: Known| {
            let Known { revision, counter, sequence, writer, checksum, .. } = known;
            format!(
                "revision {revision}: write {sequence} of writer {writer}, counter {counter}, \
                 checksum {checksum:08x}"
            )
        };
        Wrong {
            promise,
            expected: format!("what agrees with {name} at {}", tell(older)),
            seen: format!("{name} at {}", tell(newer)),
        }
    }
}
