//! Planted bugs: each one removes a safety step, and a test shows that its absence is noticed.
//!
//! Without the feature `mutants` (and outside this crate's tests) [`planted`] is the constant
//! `false` and the compiler removes every mention.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutant {
    /// `Wal::sync` returns without fdatasync.
    ForgetSync,
    /// A payload is believed whatever its checksum says.
    AcceptBadPayload,
    /// Damage in the durable part of the log is taken for a torn tail.
    CorruptionIsTorn,
    /// The cut-off tail is left on disk, to be found again by a later recovery.
    KeepCutTail,
    /// What was read at open is not made durable before it is built upon.
    TrustUnprovenTail,
    /// New segments begin without the sticky records.
    ForgetSticky,
    /// Critical records are written once.
    SingleCriticalCopy,
    /// The manifest is published before the data it names is synced.
    ManifestBeforeData,
    /// What a full disk did not take counts as written.
    FullIsDone,
    /// A received checkpoint is published without being verified.
    TrustReceived,
}

#[cfg(any(test, feature = "mutants"))]
mod switch {
    use super::Mutant;
    use std::cell::Cell;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Runs `body` on this thread with a planted bug.
    pub fn with_mutant<T>(mutant: Mutant, body: impl FnOnce() -> T) -> T {
        /// Removes the bug even if the body panics, as a caught check does.
        struct Unplant;
        impl Drop for Unplant {
            fn drop(&mut self) {
                PLANTED.set(None);
            }
        }
        PLANTED.set(Some(mutant));
        let _unplant = Unplant;
        body()
    }

    pub(crate) fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }
}

#[cfg(any(test, feature = "mutants"))]
pub(crate) use switch::planted;
#[cfg(any(test, feature = "mutants"))]
pub use switch::with_mutant;

#[cfg(not(any(test, feature = "mutants")))]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}
