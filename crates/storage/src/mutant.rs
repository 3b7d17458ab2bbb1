//! Planted bugs: each one removes a safety step, and a test shows that its absence is noticed.
//!
//! Without the feature `mutants` (and outside this crate's tests) [`planted`] is the constant
//! `false` and the compiler removes every mention. With it a bug is planted for a thread, because
//! what this crate offers is opened, used and dropped on one: a simulated member holds a
//! [`Planted`] for as long as one of its calls takes.

quorate_core::planted_bugs! {
    /// A bug that can be planted.
    pub enum Mutant {
        /// `Wal::sync` returns without fdatasync (Jepsen, NATS 2.12.1; nats-server#7564).
        ForgetSync = "forget-sync",
        /// A failed sync is taken for one that worked (PostgreSQL's "fsyncgate", 2018; Rebello et
        /// al. 2020).
        SyncErrorIgnored = "sync-error-ignored",
        /// A payload is believed whatever its checksum says (Ganesan et al. 2017).
        AcceptBadPayload = "accept-bad-payload",
        /// Damage in the durable part of the log is taken for a torn tail (Alagappan et al. 2018,
        /// section 3.3.3; Jepsen, NATS 2.12.1).
        CorruptionIsTorn = "corruption-is-torn",
        /// The cut-off tail is left on disk, to be found again by a later recovery.
        KeepCutTail = "keep-cut-tail",
        /// What was read at open is not made durable before it is built upon (Rebello et al. 2020).
        TrustUnprovenTail = "trust-unproven-tail",
        /// A new segment is used before its name is durable (Pillai et al. 2014, section 4).
        SegmentUnnamed = "segment-unnamed",
        /// Segments are released although they hold entries that no checkpoint covers
        /// (RaftKeeper#392, matrixcube#556).
        ReleaseTooFar = "release-too-far",
        /// New segments begin without the sticky records.
        ForgetSticky = "forget-sticky",
        /// Critical records are written once.
        SingleCriticalCopy = "single-critical-copy",
        /// The manifest is published before the data it names is synced (Pillai et al. 2014).
        ManifestBeforeData = "manifest-before-data",
        /// What a full disk did not take counts as written.
        FullIsDone = "full-is-done",
        /// A received checkpoint is published without being verified.
        TrustReceived = "trust-received",
        /// A scrubber looks at the headers of segments and takes the rest on trust (Bairavasundaram
        /// et al., "An Analysis of Latent Sector Errors in Disk Drives", 2007: what is not read).
        ScrubReadsHeaders = "scrub-reads-headers",
    }
}

#[cfg(any(test, feature = "mutants"))]
mod switch {
    use super::Mutant;
    use std::cell::Cell;
    use std::marker::PhantomData;

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// A bug that is planted on this thread until this is dropped, also by a panic. What was
    /// planted before comes back then.
    #[derive(Debug)]
    #[must_use = "the bug is gone as soon as this is dropped"]
    pub struct Planted {
        before: Option<Mutant>,
        /// It has to be dropped on the thread where it was made.
        _stays: PhantomData<*const ()>,
    }

    impl Planted {
        /// Plants a bug, or sees to it that none is planted.
        pub fn new(mutant: Option<Mutant>) -> Planted {
            Planted { before: PLANTED.replace(mutant), _stays: PhantomData }
        }
    }

    impl Drop for Planted {
        fn drop(&mut self) {
            PLANTED.set(self.before);
        }
    }

    /// Runs `body` on this thread with a planted bug.
    pub fn with_mutant<T>(mutant: Mutant, body: impl FnOnce() -> T) -> T {
        let _planted = Planted::new(Some(mutant));
        body()
    }

    pub(crate) fn planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_bug_is_gone_with_its_guard_and_leaves_what_was_there_before() {
            let outer = Planted::new(Some(Mutant::ForgetSync));
            let panicked = std::panic::catch_unwind(|| {
                with_mutant(Mutant::FullIsDone, || panic!("{}", planted(Mutant::FullIsDone)))
            });
            assert_eq!(panicked.expect_err("it panics").downcast_ref(), Some(&"true".to_owned()));
            assert!(planted(Mutant::ForgetSync) && !planted(Mutant::FullIsDone));
            let nothing = Planted::new(None);
            assert!(!planted(Mutant::ForgetSync), "a clean member beside a mutated one");
            drop(nothing);
            assert!(planted(Mutant::ForgetSync));
            drop(outer);
            assert!(!planted(Mutant::ForgetSync));
        }
    }
}

#[cfg(any(test, feature = "mutants"))]
pub(crate) use switch::planted;
#[cfg(any(test, feature = "mutants"))]
pub use switch::{Planted, with_mutant};

#[cfg(not(any(test, feature = "mutants")))]
pub(crate) const fn planted(_: Mutant) -> bool {
    false
}
