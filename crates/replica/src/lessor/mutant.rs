//! Mistakes of a lessor that can be planted, to show that the tests would catch them.

/// A mistake made on purpose; plantable with the cargo feature `mutants` only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LessorMutant {
    /// A record of a leader counts in every term.
    RecordInAnyTerm,
    /// A keep-alive is answered by whoever takes itself for the leader.
    AnsweredUnconfirmed,
    /// The first keep-alive is answered before everybody knows that the lease is being renewed.
    RenewalNotAwaited,
    /// Every keep-alive is written to the log.
    RenewalWritten,
    /// A new leader takes a lease that is being renewed for one that has run out.
    FullTtlForgotten,
    /// A new leader counts from the last moment in its log.
    ClockForgotten,
    /// A grant carries no moment of the lease clock.
    GrantUnstamped,
    /// A leader that stood still ends leases as soon as it wakes.
    AwakenedAtOnce,
    /// Leases are ended without asking whether we still lead.
    ExpiryUnconfirmed,
    /// All leases that have run out are ended at once.
    StormUnpaced,
    /// A doubled grant is proposed twice.
    StampTakenTwice,
}

/// The mistake that is planted, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Planted {
    #[cfg(feature = "mutants")]
    mutant: Option<LessorMutant>,
}

impl Planted {
    /// Plants one.
    #[cfg(feature = "mutants")]
    pub(super) fn plant(&mut self, mutant: LessorMutant) {
        self.mutant = Some(mutant);
    }

    /// True if this one is planted.
    #[cfg(feature = "mutants")]
    pub(super) fn is(self, mutant: LessorMutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Without the feature none can be planted, and the compiler drops the questions.
    #[cfg(not(feature = "mutants"))]
    pub(super) fn is(self, _: LessorMutant) -> bool {
        false
    }
}
