//! Bugs that can be planted, to show that the tests would catch them.

use super::Store;

/// A mistake that the store makes on purpose; plantable with the cargo feature `mutants` only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutant {
    /// A key that comes back after a delete goes on counting its versions.
    VersionKept,
    /// The comparisons of a nested transaction see the writes before it.
    CompareAfterWrites,
    /// The count stops at the limit.
    CountHonoursLimit,
    /// Compaction drops the version that is in force at the compact revision.
    CompactionDropsLive,
    /// The sweep goes one revision too far.
    SweepTooFar,
    /// A historical read takes the latest version.
    LatestForHistorical,
    /// Every write of a transaction takes a revision of its own.
    RevisionPerWrite,
    /// A refused transaction keeps the writes before the refusal.
    PartialTxn,
    /// A checkpoint loses the place of the sweep.
    SweepForgotten,
    /// A range comparison is content with one matching key.
    CompareAny,
    /// The digest leaves leases out.
    DigestWithoutLease,
    /// A put that names another lease leaves its key with the former one too.
    KeyStaysAttached,
    /// A put under the lease that its key has detaches the key.
    KeptLeaseDetaches,
    /// Every key of a revoked lease takes a revision of its own.
    RevisionPerLeaseKey,
    /// A record about a lease strikes a later lease of the same id.
    RegrantExpires,
    /// A checkpoint takes every lease for one that is being renewed.
    CountdownNotSaved,
    /// The digest leaves the countdown of leases out.
    DigestWithoutCountdown,
    /// A space alarm forbids nothing.
    AlarmIgnored,
    /// A space alarm forbids deletes as well, so that nobody ever gets out of it.
    AlarmForbidsDeletes,
    /// A checkpoint loses the alarms.
    AlarmForgotten,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 20] = [
        Mutant::VersionKept,
        Mutant::CompareAfterWrites,
        Mutant::CountHonoursLimit,
        Mutant::CompactionDropsLive,
        Mutant::SweepTooFar,
        Mutant::LatestForHistorical,
        Mutant::RevisionPerWrite,
        Mutant::PartialTxn,
        Mutant::SweepForgotten,
        Mutant::CompareAny,
        Mutant::DigestWithoutLease,
        Mutant::KeyStaysAttached,
        Mutant::KeptLeaseDetaches,
        Mutant::RevisionPerLeaseKey,
        Mutant::RegrantExpires,
        Mutant::CountdownNotSaved,
        Mutant::DigestWithoutCountdown,
        Mutant::AlarmIgnored,
        Mutant::AlarmForbidsDeletes,
        Mutant::AlarmForgotten,
    ];
}

impl Store {
    /// Plants a bug; clones inherit it.
    #[cfg(feature = "mutants")]
    pub fn plant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
    }

    /// True if the bug is planted.
    #[cfg(feature = "mutants")]
    pub(super) fn planted(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Without the feature no bug can be planted, and the compiler drops the questions.
    #[cfg(not(feature = "mutants"))]
    pub(super) fn planted(&self, _mutant: Mutant) -> bool {
        false
    }
}
