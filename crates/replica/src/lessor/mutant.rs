//! Mistakes of a lessor that can be planted, to show that the tests would catch them.

quorate_core::planted_bugs! {
    /// A mistake made on purpose; plantable with the cargo feature `mutants` only.
    pub enum LessorMutant {
        /// A record of a leader counts in every term (etcd#15247, etcd#12528).
        RecordInAnyTerm = "record-in-any-term",
        /// A keep-alive is answered by whoever takes itself for the leader (Gray and Cheriton
        /// 1989, section 2; etcd#15247).
        AnsweredUnconfirmed = "answered-unconfirmed",
        /// The first keep-alive is answered before everybody knows that the lease is being renewed
        /// (etcd#13491).
        RenewalNotAwaited = "renewal-not-awaited",
        /// Every keep-alive is written to the log.
        RenewalWritten = "renewal-written",
        /// A new leader takes a lease that is being renewed for one that has run out (etcd#15247).
        FullTtlForgotten = "full-ttl-forgotten",
        /// A new leader counts from the last moment in its log (etcd#9888, etcd#13491).
        ClockForgotten = "clock-forgotten",
        /// A grant carries no moment of the lease clock.
        GrantUnstamped = "grant-unstamped",
        /// A member that takes in a checkpoint keeps its own estimate of the lease clock (found by
        /// the simulator, in this very service).
        InstalledUnstamped = "installed-unstamped",
        /// A lease that was renewed once never counts down again (etcd#17132).
        SettleForgotten = "settle-forgotten",
        /// A leader that stood still ends leases as soon as it wakes.
        AwakenedAtOnce = "awakened-at-once",
        /// Leases are ended without asking whether we still lead (etcd#12528).
        ExpiryUnconfirmed = "expiry-unconfirmed",
        /// All leases that have run out are ended at once.
        StormUnpaced = "storm-unpaced",
        /// A lease that nobody has renewed yet is said to be gone (etcd's API,
        /// LeaseKeepAliveResponse: only "if the lease is expired").
        LivingIsGone = "living-is-gone",
        /// A doubled grant is proposed twice (dissertation 6.3).
        StampTakenTwice = "stamp-taken-twice",
    }
}
