//! Forgetting old revisions, at once for readers and in slices for the memory.
//!
//! **Idea.** [`Command::Compact`](super::Command::Compact) only moves the compact revision C:
//! reads below it fail from then on. The memory is freed by [`Store::sweep`], which visits the
//! events up to C in the order of the log. An event at r <= C says exactly what became garbage:
//! the version it replaced, which no revision from C on can see, and the tombstone it left.
//! Events before C are dropped, those at C stay for watchers which start there. One visit costs
//! O(log n) and every event is visited once, or twice if a later compaction starts at it; so a
//! slice has a bounded cost whatever the size of the store or of one transaction.
//!
//! **Guarantees.** No answer and no digest depends on how far the sweep has come, since every
//! reader compares with C first. The place of the sweep is part of a checkpoint.
//!
//! Source: etcd `server/storage/mvcc/key_index.go` (what survives), `kvstore_compaction.go`.

use super::{Event, KvError, Mutant, Place, Revision, Store};
use std::ops::Bound;

impl Store {
    /// Makes every revision before `revision` unreadable.
    ///
    /// Errors: [`KvError::Compacted`] unless it is younger than the last compaction,
    /// [`KvError::FutureRevision`] if it is not reached yet. Before the first compaction revision 0
    /// stands for nothing to forget; etcd says so once, here it is said as long as it is true.
    pub(super) fn compact(&mut self, revision: Revision) -> Result<(), KvError> {
        if revision == Revision(0) && self.compact_revision == Revision(0) {
            return Ok(());
        }
        if revision <= self.compact_revision && !self.planted(Mutant::CompactionGoesBack) {
            return Err(KvError::Compacted { compact_revision: self.compact_revision });
        }
        if revision > self.revision {
            return Err(KvError::FutureRevision { current: self.revision });
        }
        self.kept_from = self.compact_revision;
        self.compact_revision = revision;
        // The events at the former compact revision stayed in the log: begin with them.
        self.swept = Place::default();
        Ok(())
    }

    /// Frees compacted versions, visiting at most `budget` events. True if nothing is left to do.
    pub fn sweep(&mut self, budget: usize) -> bool {
        self.kept_from = self.compact_revision;
        let end = self.sweep_end();
        let range = self.log.range(Bound::Included(&self.swept), Bound::Excluded(&end));
        let left = range.len();
        let slice: Vec<(Place, Event)> =
            range.take(budget).map(|(place, event)| (*place, event.clone())).collect();
        for (place, event) in &slice {
            self.visit(*place, event);
            self.swept = Place { revision: place.revision, order: place.order + 1 };
        }
        slice.len() == left
    }

    /// True if no compacted version waits for the sweep.
    pub fn is_swept(&self) -> bool {
        let (from, end) = (self.swept, self.sweep_end());
        self.log.count(Bound::Included(&from), Bound::Excluded(&end)) == 0
    }

    /// The first place that the sweep leaves alone.
    pub(super) fn sweep_end(&self) -> Place {
        let last = if self.planted(Mutant::SweepTooFar) {
            self.compact_revision.next()
        } else {
            self.compact_revision
        };
        Place { revision: last.next(), order: 0 }
    }

    fn visit(&mut self, place: Place, event: &Event) {
        assert!(place.revision <= self.revision, "the log does not reach beyond the revision");
        let key = &event.kv.key[..];
        if event.prev_revision > Revision(0) {
            self.forget(key, event.prev_revision);
        }
        if event.is_delete() && self.is_tombstone(key, place.revision) {
            self.forget(key, place.revision);
        }
        if self.planted(Mutant::CompactionDropsLive) && place.revision == self.compact_revision {
            self.forget(key, place.revision);
        }
        if place.revision < self.compact_revision {
            self.log.remove(&place);
        } else if let Some(event) = self.log.get_mut(&place) {
            event.prev = None; // It would keep the memory that was just freed.
        }
    }

    fn is_tombstone(&self, key: &[u8], revision: Revision) -> bool {
        self.past(key).and_then(|versions| versions.get(revision)).is_some_and(|kv| kv.version == 0)
    }
}
