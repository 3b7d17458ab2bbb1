//! What watchers read: the log of changes as it was at one moment.
//!
//! A clone of the whole store would do, but the next write after it copies every node on its path
//! through each tree. Watchers want a copy after every turn and look at the log alone, so the
//! other trees are left out.

use super::range::Changes;
use super::tree::Tree;
use super::{Auth, Event, KeyValue, KvError, Mutant, Place, Revision, Store};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// All changes that the store still remembered at one moment. Cloned in O(1); never changes.
#[derive(Clone)]
pub struct History {
    revision: Revision,
    compact_revision: Revision,
    kept_from: Revision,
    log: Tree<Place, Event>,
    auth: Arc<Auth>,
}

impl Store {
    /// The changes as they are now, in O(1).
    pub fn history(&self) -> History {
        History {
            revision: self.revision,
            compact_revision: self.told_compact_revision(),
            kept_from: self.kept_from,
            log: self.log.clone(),
            auth: Arc::clone(&self.auth),
        }
    }

    /// All changes from `from` on, found in O(log n); `from` may lie in the future.
    ///
    /// Errors: [`KvError::Compacted`] if changes of `from` may be gone.
    pub fn changes(&self, from: Revision) -> Result<Changes<'_>, KvError> {
        let from = Place { revision: from, order: 0 };
        changes(&self.log, self.told_compact_revision(), from)
    }

    fn told_compact_revision(&self) -> Revision {
        let hides = self.planted(Mutant::CompactedChangesServed);
        if hides { Revision(0) } else { self.compact_revision }
    }

    /// The pair that an event replaced: none if there was none, or if it is compacted.
    pub fn prev_of<'a>(&self, event: &'a Event) -> Option<&'a Arc<KeyValue>> {
        prev_of(self.compact_revision, event)
    }
}

impl History {
    /// Users and roles of that moment.
    pub fn auth(&self) -> &Auth {
        &self.auth
    }

    /// The latest revision of that moment.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision whose changes are all here; 0 before the first compaction.
    pub fn compact_revision(&self) -> Revision {
        self.compact_revision
    }

    /// The same as it was before the last compaction, if nothing has been swept since: for
    /// readers which were about to read what has just been compacted.
    pub fn before_compaction(&self) -> Option<History> {
        let compact_revision = Some(self.kept_from).filter(|kept| *kept < self.compact_revision)?;
        Some(History { compact_revision, ..self.clone() })
    }

    /// As [`Store::changes`], beginning within a revision: after its first `skip` events.
    ///
    /// Errors: as [`Store::changes`].
    pub fn changes_after(&self, from: Revision, skip: u64) -> Result<Changes<'_>, KvError> {
        changes(&self.log, self.compact_revision, Place { revision: from, order: skip })
    }

    /// As [`Store::changes`].
    pub fn changes(&self, from: Revision) -> Result<Changes<'_>, KvError> {
        let from = Place { revision: from, order: 0 };
        changes(&self.log, self.compact_revision, from)
    }

    /// As [`Store::prev_of`].
    pub fn prev_of<'a>(&self, event: &'a Event) -> Option<&'a Arc<KeyValue>> {
        prev_of(self.compact_revision, event)
    }
}

impl fmt::Debug for History {
    /// The figures only: the pairs may be gigabytes, and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("revision", &self.revision)
            .field("compact_revision", &self.compact_revision)
            .finish_non_exhaustive()
    }
}

fn changes(
    log: &Tree<Place, Event>,
    compact_revision: Revision,
    from: Place,
) -> Result<Changes<'_>, KvError> {
    if from.revision < compact_revision {
        return Err(KvError::Compacted { compact_revision });
    }
    Ok(Changes { events: log.range(Bound::Included(&from), Bound::Unbounded) })
}

fn prev_of(compact_revision: Revision, event: &Event) -> Option<&Arc<KeyValue>> {
    event.prev.as_ref().filter(|_| event.revision() > compact_revision)
}
