//! Bugs that can be planted, to show that the tests would catch them.

use super::Hub;

quorate_core::planted_bugs! {
    /// A mistake on purpose; plantable with the cargo feature `mutants` only.
    pub enum Mutant {
        /// The last event before a watcher entered the index is nobody's (etcd#17529).
        LostAtJoin = "watch-lost-at-join",
        /// A watcher begins one revision too early.
        TwiceAtJoin = "watch-twice-at-join",
        /// A mark replaces the one before it.
        MarkOverwritten = "watch-mark-overwritten",
        /// Progress is told by the newest history, whatever has been marked and sent (etcd#15220).
        ProgressAhead = "watch-progress-ahead",
        /// Filters let through what they should hold back.
        FilterInverted = "watch-filter-inverted",
        /// A message may end within a revision (etcd#9294).
        RevisionSplit = "watch-revision-split",
        /// A watcher that a compaction has overtaken goes on behind it (etcd#15271).
        CompactionIgnored = "watch-compaction-ignored",
        /// A watcher that is cancelled by a compaction is told of a later one, and skips what lies
        /// between (etcd's API, WatchResponse.compact_revision).
        CompactionInvented = "watch-compaction-invented",
        /// A watcher that was cancelled goes on.
        CancelIgnored = "watch-cancel-ignored",
        /// The pair before a change is left out (etcd's API, WatchCreateRequest.prev_kv).
        PrevForgotten = "watch-prev-forgotten",
        /// A deletion is told as a put.
        DeleteAsPut = "watch-delete-as-put",
        /// What cannot be sent now is forgotten.
        RestForgotten = "watch-rest-forgotten",
        /// A watcher whose right was taken back is told of all that follows, as in etcd.
        RevokedGoesOn = "watch-revoked-goes-on",
    }
}

impl Hub {
    /// True if the bug is planted.
    #[cfg(any(test, feature = "mutants"))]
    pub(super) fn planted(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Without the feature no bug can be planted, and the compiler drops the questions.
    #[cfg(not(any(test, feature = "mutants")))]
    pub(super) fn planted(&self, _mutant: Mutant) -> bool {
        false
    }
}
