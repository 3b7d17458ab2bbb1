//! Planted bugs: each is a known mistake, a line or two long, which the tests must catch.
//!
//! A build without the feature `mutants` contains none of them.

#[cfg(any(test, feature = "mutants"))]
use super::Synchronizer;

quorate_core::planted_bugs! {
    /// A known mistake in the synchronization of clocks.
    pub enum Mutant {
        /// An interval does not grow with its age (RFC 5905, section 4: dispersion).
        DispersionLeftOut = "dispersion-left-out",
        /// The middle of the round trip is taken for the truth, whatever the paths were like
        /// (Lundelius and Lynch 1984).
        DelayIgnored = "delay-ignored",
        /// Of the last exchanges the one with the greatest error is taken (RFC 5905, section 10).
        FilterInverted = "filter-inverted",
        /// Ages are measured by the wall clock of the host, which jumps (etcd#12291).
        AgeByWallClock = "age-by-wall-clock",
        /// The instants that most sources share are taken, not those that enough share: a liar
        /// that stays close moves them (Marzullo 1990).
        OverlapOfMost = "overlap-of-most",
        /// An answer is matched with the last question, whatever question it answers (RFC 5905,
        /// section 8: the test for bogus packets).
        AnswerOfAnyQuestion = "answer-of-any-question",
        /// A member tells its peers the reading of its clock with the error that it had when it
        /// was read (RFC 5905, section 7.3: root dispersion).
        StaleReadingServed = "stale-reading-served",
        /// A source that knows nothing by its own account has a voice: together with a liar it is
        /// more than may lie (RFC 5905, section 11.2.1: unfit sources).
        UnfitHasVoice = "unfit-has-voice",
    }
}

#[cfg(any(test, feature = "mutants"))]
impl Synchronizer {
    /// Puts a known mistake in this member. To be called between restore and start.
    pub fn plant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
    }

    /// This member with a known mistake in it, if there is to be one.
    pub fn with_mutant(mut self, mutant: Option<Mutant>) -> Synchronizer {
        mutant.into_iter().for_each(|mutant| self.plant(mutant));
        self
    }
}
