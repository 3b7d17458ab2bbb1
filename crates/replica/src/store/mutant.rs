//! Bugs that can be planted, to show that the tests would catch them.

use super::Store;

quorate_core::planted_bugs! {
    /// A mistake that the store makes on purpose; plantable with the cargo feature `mutants` only.
    pub enum Mutant {
        /// A key that comes back after a delete goes on counting its versions (etcd's API: "a
        /// deletion resets the version to zero").
        VersionKept = "version-kept",
        /// The comparisons of a nested transaction see the writes before it (etcd#8102).
        CompareAfterWrites = "compare-after-writes",
        /// The count stops at the limit (etcd's API: "the number of keys within the range").
        CountHonoursLimit = "count-honours-limit",
        /// Compaction drops the version that is in force at the compact revision (Bernstein and
        /// Goodman 1983: a version may go once nobody can read it).
        CompactionDropsLive = "compaction-drops-live",
        /// The sweep goes one revision too far (etcd#18089, the other end of it).
        SweepTooFar = "sweep-too-far",
        /// A historical read takes the latest version (Berenson et al. 1995, read skew).
        LatestForHistorical = "latest-for-historical",
        /// Every write of a transaction takes a revision of its own (etcd#3875).
        RevisionPerWrite = "revision-per-write",
        /// A refused transaction keeps the writes before the refusal (etcd#18679).
        PartialTxn = "partial-txn",
        /// A checkpoint loses the place of the sweep.
        SweepForgotten = "sweep-forgotten",
        /// A state that is read back has lost the deletes at the compact revision (etcd#18089,
        /// etcd#19179).
        TombstoneNotRestored = "tombstone-not-restored",
        /// What is compacted is served to watchers as far as it is still there (etcd's API: a watch
        /// below the compact revision is cancelled).
        CompactedChangesServed = "compacted-changes-served",
        /// A range comparison is content with one matching key.
        CompareAny = "compare-any",
        /// The digest leaves leases out.
        DigestWithoutLease = "digest-without-lease",
        /// A put that names another lease leaves its key with the former one too (etcd#6102).
        KeyStaysAttached = "key-stays-attached",
        /// A put under the lease that its key has detaches the key.
        KeptLeaseDetaches = "kept-lease-detaches",
        /// Every key of a revoked lease takes a revision of its own (etcd's API: "atomic").
        RevisionPerLeaseKey = "revision-per-lease-key",
        /// A lease that ends leaves a key behind (etcd's API, LeaseRevoke: "all keys
        /// attached to the lease").
        KeyOutlivesLease = "key-outlives-lease",
        /// A revocation counts one key too many.
        RevokeMiscounted = "revoke-miscounted",
        /// The revision that was compacted to cannot be read (etcd's API: "the event history before
        /// the revision").
        OldestRefused = "oldest-refused",
        /// A read of a revision that has not come finds the present.
        FutureServed = "future-served",
        /// An old compaction is taken after a newer one.
        CompactionGoesBack = "compaction-goes-back",
        /// A record about a lease strikes a later lease of the same id (etcd#12528).
        RegrantExpires = "regrant-expires",
        /// A checkpoint takes every lease for one that is being renewed (etcd#13491).
        CountdownNotSaved = "countdown-not-saved",
        /// The digest leaves the countdown of leases out.
        DigestWithoutCountdown = "digest-without-countdown",
        /// A space alarm forbids nothing.
        AlarmIgnored = "alarm-ignored",
        /// A space alarm forbids deletes as well, so that nobody ever gets out of it.
        AlarmForbidsDeletes = "alarm-forbids-deletes",
        /// A checkpoint loses the alarms.
        AlarmForgotten = "alarm-forgotten",
        /// The token of a fenced write is not looked at (Kleppmann 2016).
        FenceIgnored = "fence-ignored",
        /// A fence asks whether the key of the lock is there, and not whose it is.
        FenceByName = "fence-by-name",
        /// A request that is asked again is carried out again (Jepsen, jetcd 0.8.2, 2024).
        RequestRepeated = "request-repeated",
        /// A checkpoint loses the answers that are kept for requests.
        RequestsForgotten = "requests-forgotten",
        /// A transaction within a transaction is not judged (CVE-2026-33343).
        NestedNotChecked = "nested-not-checked",
        /// A previous value is told to who may only write (CVE-2026-44283).
        PrevKvNotChecked = "prev-kv-not-checked",
        /// A comparison tells of keys that may not be read (etcd's `checkTxnAuth`).
        ComparesNotChecked = "compares-not-checked",
        /// The end of a range is taken for an earlier one.
        RangeEndOffByOne = "range-end-off-by-one",
        /// A range without end is judged as its first key (GHSA-xg4h-6gfc-h4m8).
        OpenEndIgnored = "open-end-ignored",
        /// What was allowed when it was asked is carried out, whatever has changed since (etcd's
        /// `auth_revision`).
        NotCheckedAtApply = "not-checked-at-apply",
        /// A lease is ended, or bound to, whoever's keys it has (etcd's `checkLeasePuts`).
        LeaseKeysNotChecked = "lease-keys-not-checked",
        /// A checkpoint loses users and roles.
        AuthForgotten = "auth-forgotten",
        /// A key that dies gives nothing back to the quota of its prefix.
        QuotaNotReturned = "quota-not-returned",
        /// No quota is looked at.
        QuotaIgnored = "quota-ignored",
        /// A checkpoint loses the limits.
        LimitsForgotten = "limits-forgotten",
    }
}

impl Store {
    /// Plants a bug; clones inherit it. To be called on a state that was just read back.
    #[cfg(feature = "mutants")]
    pub fn plant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
        if mutant == Mutant::TombstoneNotRestored {
            let from = self.compact_revision;
            let at_it = self.log.iter().filter(|(place, _)| place.revision == from);
            let lost: Vec<_> = at_it.filter(|(_, e)| e.is_delete()).map(|(p, _)| *p).collect();
            lost.iter().for_each(|place| drop(self.log.remove(place)));
        }
    }

    /// This state, with the bug of another one and no other.
    #[cfg(feature = "mutants")]
    pub(crate) fn planted_like(mut self, other: &Store) -> Store {
        self.mutant = None;
        other.mutant.into_iter().for_each(|mutant| self.plant(mutant));
        self
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
