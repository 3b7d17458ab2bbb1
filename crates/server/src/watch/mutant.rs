//! Bugs that can be planted, to show that the tests would catch them.

use super::Hub;

/// A mistake on purpose; plantable with the cargo feature `mutants` only.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mutant {
    /// The last event before a watcher entered the index is nobody's.
    LostAtJoin,
    /// A watcher begins one revision too early.
    TwiceAtJoin,
    /// A mark replaces the one before it.
    MarkOverwritten,
    /// Progress is told by the newest history, whatever has been marked and sent.
    ProgressAhead,
    /// Filters let through what they should hold back.
    FilterInverted,
    /// A message may end within a revision.
    RevisionSplit,
    /// A watcher that a compaction has overtaken goes on behind it.
    CompactionIgnored,
    /// What cannot be sent now is forgotten.
    RestForgotten,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Mutant; 8] = [
        Mutant::LostAtJoin,
        Mutant::TwiceAtJoin,
        Mutant::MarkOverwritten,
        Mutant::ProgressAhead,
        Mutant::FilterInverted,
        Mutant::RevisionSplit,
        Mutant::CompactionIgnored,
        Mutant::RestForgotten,
    ];
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
