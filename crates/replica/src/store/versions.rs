//! The past of one key.
//!
//! Most keys have no past, and most of the others one version of it until the next compaction,
//! so a single version costs a pointer. A key that is written all the time may have a hundred
//! thousand versions; they form a tree, so that a write after a snapshot does not copy them all.

use super::tree::Tree;
use super::{KeyValue, Revision};
use std::sync::Arc;

/// Superseded versions of one key, by the revision that wrote them; version 0 is a tombstone.
/// Never empty.
#[derive(Clone, Debug)]
pub(super) enum Versions {
    /// The one there is.
    One(Arc<KeyValue>),
    /// Two or more.
    Many(Box<Tree<Revision, Arc<KeyValue>>>),
}

impl Versions {
    pub(super) fn len(&self) -> usize {
        match self {
            Versions::One(_) => 1,
            Versions::Many(tree) => tree.len(),
        }
    }

    /// The pair that was in force at `revision`; none if the key was dead or not yet born.
    pub(super) fn at(&self, revision: Revision) -> Option<&Arc<KeyValue>> {
        let kv = match self {
            Versions::One(kv) => Some(kv).filter(|kv| kv.mod_revision <= revision),
            Versions::Many(tree) => tree.floor(&revision).map(|(_, kv)| kv),
        };
        kv.filter(|kv| kv.version > 0)
    }

    /// The version that `revision` wrote.
    pub(super) fn get(&self, revision: Revision) -> Option<&Arc<KeyValue>> {
        match self {
            Versions::One(kv) => Some(kv).filter(|kv| kv.mod_revision == revision),
            Versions::Many(tree) => tree.get(&revision),
        }
    }

    /// How many versions are older than `revision`.
    pub(super) fn rank(&self, revision: Revision) -> usize {
        match self {
            Versions::One(kv) => usize::from(kv.mod_revision < revision),
            Versions::Many(tree) => tree.rank(&revision),
        }
    }

    /// The version with so many older ones.
    pub(super) fn nth(&self, rank: usize) -> Option<&Arc<KeyValue>> {
        match self {
            Versions::One(kv) => Some(kv).filter(|_| rank == 0),
            Versions::Many(tree) => tree.nth(rank).map(|(_, kv)| kv),
        }
    }

    /// All of them, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<KeyValue>> {
        let (one, many) = match self {
            Versions::One(kv) => (Some(kv), None),
            Versions::Many(tree) => (None, Some(tree.iter())),
        };
        one.into_iter().chain(many.into_iter().flatten().map(|(_, kv)| kv))
    }

    /// A past with one version more. Panics: if it is not younger than all others.
    pub(super) fn after(past: Option<Versions>, kv: Arc<KeyValue>) -> Versions {
        match past {
            None => Versions::One(kv),
            Some(mut versions) => {
                versions.push(kv);
                versions
            }
        }
    }

    /// Adds a version. Panics: if it is not younger than all others.
    pub(super) fn push(&mut self, kv: Arc<KeyValue>) {
        match self {
            Versions::One(old) => {
                let pair = [Arc::clone(old), kv].map(|kv| (kv.mod_revision, kv));
                *self = Versions::Many(Box::new(Tree::from_sorted(pair)));
            }
            Versions::Many(tree) => {
                let last = tree.last().map(|(revision, _)| *revision);
                assert!(last < Some(kv.mod_revision), "versions are superseded in order");
                tree.insert(kv.mod_revision, kv);
            }
        }
    }

    /// Removes the version of `revision`, unless it is the only one.
    pub(super) fn remove(&mut self, revision: Revision) -> Option<Arc<KeyValue>> {
        let Versions::Many(tree) = self else { return None };
        let removed = tree.remove(&revision)?;
        if tree.len() == 1
            && let Some((_, last)) = tree.first()
        {
            *self = Versions::One(Arc::clone(last));
        }
        Some(removed)
    }
}
