//! Time as a protocol sees it: the node's own monotonic clock, and what a clock on the wall says.
//!
//! **Problem.** An instant of one node's monotonic clock, a reading of a wall clock and a length of
//! time are all nanoseconds, and any two of them can be mixed up in a subtraction.
//!
//! **Idea.** One type for each, and only the arithmetic that makes sense. What has passed is asked
//! of a [`Time`] and is a [`Duration`]; how far two wall clocks are apart is an [`Offset`]; a
//! [`WallTime`] can be moved by either. None of them compares with another:
//!
//! ```compile_fail
//! use quorate_core::{Time, WallTime};
//! // A wall clock is set back now and then, so it measures nothing.
//! let passed = Time::from_nanos(5).since(WallTime::from_nanos(3));
//! ```
//! ```compile_fail
//! use quorate_core::{Time, WallTime};
//! assert!(Time::from_nanos(5) > WallTime::from_nanos(3));
//! ```
//! ```compile_fail
//! use quorate_core::{Offset, Time};
//! // An offset is between two wall clocks; a monotonic one has no other to be off.
//! let later = Time::from_nanos(5).moved(Offset::from_nanos(3));
//! ```
//! ```
//! use quorate_core::{Offset, WallTime};
//! let (mine, theirs) = (WallTime::from_nanos(7), WallTime::from_nanos(3));
//! assert_eq!(theirs.offset_from(mine), Offset::from_nanos(-4));
//! assert_eq!(mine.moved(theirs.offset_from(mine)), theirs);
//! ```
//!
//! **Bounds.** A wall time that would leave its range stays at the end of it: what a peer claims
//! may be any number, and none of them is a reason to stop.

use std::fmt;
use std::time::Duration;

/// An instant of one node's monotonic clock.
///
/// Unit: nanoseconds since an arbitrary origin. Never compare the instants of two nodes.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Time(u64);

impl Time {
    /// The instant `nanos` nanoseconds after the clock's origin.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Nanoseconds since the clock's origin.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// The time that has passed since `earlier`; zero if `earlier` is not earlier.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The instant `duration` later, at most the end of the clock's range.
    pub fn after(self, duration: Duration) -> Time {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}

/// What a wall clock shows, right or wrong: the time of day, of one clock that may be set.
///
/// Unit: nanoseconds since 1970 in UTC, without leap seconds (POSIX). Range: the years 1677 to
/// 2262; beyond it, its ends.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct WallTime(i64);

impl WallTime {
    /// The earliest that can be said.
    pub const MIN: WallTime = WallTime(i64::MIN);
    /// The latest that can be said.
    pub const MAX: WallTime = WallTime(i64::MAX);

    /// The time `nanos` nanoseconds after the beginning of 1970.
    pub const fn from_nanos(nanos: i64) -> WallTime {
        WallTime(nanos)
    }

    /// Nanoseconds since the beginning of 1970.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// So much later, at most the end of the range.
    pub fn later(self, by: Duration) -> WallTime {
        WallTime(self.0.saturating_add_unsigned(saturated(by)))
    }

    /// So much earlier, at least the beginning of the range.
    pub fn earlier(self, by: Duration) -> WallTime {
        WallTime(self.0.saturating_sub_unsigned(saturated(by)))
    }

    /// Moved by an offset, within the range.
    pub fn moved(self, by: Offset) -> WallTime {
        WallTime(self.0.saturating_add(by.0))
    }

    /// How far this reading is ahead of `other`; negative if it is behind.
    pub fn offset_from(self, other: WallTime) -> Offset {
        Offset(self.0.saturating_sub(other.0))
    }
}

fn saturated(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// How far one wall clock is ahead of another; negative if it is behind.
///
/// Unit: nanoseconds. Range: 292 years to either side; beyond it, its ends.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Offset(i64);

impl Offset {
    /// Both show the same.
    pub const ZERO: Offset = Offset(0);

    /// So many nanoseconds ahead.
    pub const fn from_nanos(nanos: i64) -> Offset {
        Offset(nanos)
    }

    /// Nanoseconds ahead.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// How far it is from zero.
    pub const fn magnitude(self) -> Duration {
        Duration::from_nanos(self.0.unsigned_abs())
    }
}

impl fmt::Display for Offset {
    /// In milliseconds with its sign, as `+1.250000 ms`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{}.{:06} ms", nanos / 1_000_000, nanos % 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_liar_says_stays_within_the_range() {
        let year = Duration::from_secs(365 * 86_400);
        assert_eq!(WallTime::MAX.later(year), WallTime::MAX);
        assert_eq!(WallTime::MIN.earlier(Duration::MAX), WallTime::MIN);
        assert_eq!(WallTime::MAX.offset_from(WallTime::MIN), Offset::from_nanos(i64::MAX));
        assert_eq!(WallTime::MIN.moved(Offset::from_nanos(-1)), WallTime::MIN);
    }

    #[test]
    fn an_offset_is_read_in_milliseconds() {
        assert_eq!(Offset::from_nanos(-1_250_000).to_string(), "-1.250000 ms");
        assert_eq!(Offset::from_nanos(7).to_string(), "+0.000007 ms");
    }
}
