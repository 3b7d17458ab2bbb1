//! The identity of a log entry.

use std::fmt;

/// A term: at most one leader is elected in each.
///
/// Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014),
/// section 5.1. Range: 0 is before the first election.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Term(pub u64);

/// A place in the replicated log. Range: 1-based; 0 is "before the first entry".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Index(pub u64);

/// What tells one log entry from every other: two entries of the same position are the same entry
/// (the Log Matching property, ibid. section 5.3).
///
/// Order: by term, then by index, which is the order of "more up-to-date" (ibid. section 5.4.1).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Term in which the entry was first appended.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl Term {
    /// The term after this one.
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl Index {
    /// The place after this one.
    pub fn next(self) -> Index {
        Index(self.0 + 1)
    }

    /// The place before this one. Panics: at 0.
    pub fn prev(self) -> Index {
        assert!(self.0 > 0, "nothing stands before index 0");
        Index(self.0 - 1)
    }

    /// How many entries lie in `(earlier, self]`; 0 if `earlier` is not earlier.
    pub fn distance_from(self, earlier: Index) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Position {
    /// Before the first entry of every log.
    pub const ZERO: Position = Position { term: Term(0), index: Index(0) };

    /// The position (term, index) from plain numbers.
    pub fn new(term: u64, index: u64) -> Position {
        Position { term: Term(term), index: Index(index) }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Position {
    /// `7@2` is the entry at index 7 of term 2.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}
