//! Interval clocks: a clock that says how wrong it may be, and what can be concluded from that.
//!
//! **Problem.** No clock shows the true time. Whoever compares two readings as if they were exact
//! concludes an order of events that did not happen.
//!
//! **Idea.** A clock does not show an instant but an interval which contains the true time. Two
//! readings whose intervals do not touch are ordered for sure; of others nobody knows.
//!
//! ```text
//!        a |-----|                 a is before b
//!                    b |----|
//!                        c |-----| of b and c nobody knows
//! ```
//!
//! Who needs an order for sure *waits*. A transaction takes the latest end of the present interval
//! as its stamp and answers only when the earliest end has passed it ([`CommitWait`]): then the
//! stamp is truly in the past, and whatever begins after the answer gets a later one.
//!
//! **Guarantees**, if each interval contains the true time at which it was read. *Sound order*: if
//! [`TimeInterval::order`] says `Before`, then it was before. *External consistency*: if one commit
//! is answered before another begins, on any node, its stamp is smaller.
//!
//! **Bounds.** The wait is as long as the interval is wide: about twice the error of the clock.
//!
//! **Left out.** Where intervals come from: [`crate::time`].
//!
//! **Sources.** Marzullo and Owicki, "Maintaining the Time in a Distributed System" (1983), for
//! clocks as intervals; Corbett et al., "Spanner" (OSDI 2012), sections 3 and 4.1.2, for
//! `earliest`, `latest` and commit wait.

use quorate_core::WallTime;
use std::time::Duration;

/// A closed interval of wall time that is claimed to contain the true time.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct TimeInterval {
    earliest: WallTime,
    latest: WallTime,
}

/// What can be said of two instants of which only intervals are known.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum TimeOrder {
    /// The first was before the second.
    Before,
    /// The first was after the second.
    After,
    /// The intervals touch: either may be.
    Unknown,
}

impl TimeInterval {
    /// From `earliest` to `latest`, both included.
    ///
    /// Panics: if it ends before it begins.
    pub fn new(earliest: WallTime, latest: WallTime) -> TimeInterval {
        assert!(earliest <= latest, "an interval from {earliest:?} back to {latest:?}");
        TimeInterval { earliest, latest }
    }

    /// All that is at most `error` away from `reading`.
    pub fn around(reading: WallTime, error: Duration) -> TimeInterval {
        TimeInterval { earliest: reading.earlier(error), latest: reading.later(error) }
    }

    /// The true time is not before this.
    pub fn earliest(&self) -> WallTime {
        self.earliest
    }

    /// The true time is not after this.
    pub fn latest(&self) -> WallTime {
        self.latest
    }

    /// The best guess at the true time: no other has a smaller greatest error.
    pub fn middle(&self) -> WallTime {
        let (early, late) = (self.earliest.as_nanos(), self.latest.as_nanos());
        WallTime::from_nanos(((i128::from(early) + i128::from(late)) >> 1) as i64)
    }

    /// How far the true time may be from [`TimeInterval::middle`], rounded up.
    pub fn error(&self) -> Duration {
        Duration::from_nanos(self.width_nanos().div_ceil(2))
    }

    /// From its earliest to its latest end.
    pub fn width(&self) -> Duration {
        Duration::from_nanos(self.width_nanos())
    }

    fn width_nanos(&self) -> u64 {
        self.latest.as_nanos().abs_diff(self.earliest.as_nanos())
    }

    /// True if `instant` may be the true time.
    pub fn contains(&self, instant: WallTime) -> bool {
        self.earliest <= instant && instant <= self.latest
    }

    /// What both contain, if they touch.
    pub fn intersection(&self, other: &TimeInterval) -> Option<TimeInterval> {
        let earliest = self.earliest.max(other.earliest);
        let latest = self.latest.min(other.latest);
        (earliest <= latest).then_some(TimeInterval { earliest, latest })
    }

    /// The least interval that contains both.
    pub fn hull(&self, other: &TimeInterval) -> TimeInterval {
        TimeInterval {
            earliest: self.earliest.min(other.earliest),
            latest: self.latest.max(other.latest),
        }
    }

    /// The same claim after `elapsed`, measured with an error of at most `error`.
    #[must_use]
    pub fn aged(&self, elapsed: Duration, error: Duration) -> TimeInterval {
        TimeInterval {
            earliest: self.earliest.later(elapsed).earlier(error),
            latest: self.latest.later(elapsed).later(error),
        }
    }

    /// What is known of the order of two events, the first of which happened within this interval
    /// and the second within `other`.
    pub fn order(&self, other: &TimeInterval) -> TimeOrder {
        match () {
            () if self.latest < other.earliest => TimeOrder::Before,
            () if other.latest < self.earliest => TimeOrder::After,
            () => TimeOrder::Unknown,
        }
    }
}

/// A commit that waits until its stamp is in the past, whatever clock is asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct CommitWait {
    stamp: WallTime,
}

impl CommitWait {
    /// Takes a stamp that is not before the true time, and not before `floor`: the greatest stamp
    /// that was given here before.
    pub fn begin(now: &TimeInterval, floor: WallTime) -> CommitWait {
        CommitWait { stamp: now.latest.max(floor) }
    }

    /// The stamp of the commit.
    pub fn stamp(&self) -> WallTime {
        self.stamp
    }

    /// True if the commit may be answered: its stamp has passed for sure.
    pub fn is_over(&self, now: &TimeInterval) -> bool {
        now.earliest > self.stamp
    }

    /// It takes at least so much longer, if the interval gets no narrower.
    pub fn remaining(&self, now: &TimeInterval) -> Duration {
        if self.is_over(now) {
            return Duration::ZERO;
        }
        let nanos = self.stamp.as_nanos().abs_diff(now.earliest.as_nanos());
        Duration::from_nanos(nanos.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(nanos: i64) -> WallTime {
        WallTime::from_nanos(nanos)
    }

    fn from_to(earliest: i64, latest: i64) -> TimeInterval {
        TimeInterval::new(at(earliest), at(latest))
    }

    /// What a clock shows that may be wrong by `error` and is wrong by `off` hundredths of that.
    fn read(truth: i64, error: i64, off: i64) -> TimeInterval {
        TimeInterval::around(at(truth + error * off / 100), Duration::from_nanos(error as u64))
    }

    /// A commit at true time `begin`, answered at the first instant at which the wait is over.
    fn commit(begin: i64, error: i64, off: i64) -> (WallTime, i64) {
        let wait = CommitWait::begin(&read(begin, error, off), WallTime::MIN);
        let mut now = begin;
        while !wait.is_over(&read(now, error, off)) {
            now += wait.remaining(&read(now, error, off)).as_nanos() as i64;
        }
        (wait.stamp(), now)
    }

    #[test]
    fn what_touches_is_not_ordered() {
        assert_eq!(from_to(1, 3).order(&from_to(4, 5)), TimeOrder::Before);
        assert_eq!(from_to(4, 5).order(&from_to(1, 3)), TimeOrder::After);
        assert_eq!(from_to(1, 4).order(&from_to(4, 5)), TimeOrder::Unknown);
    }

    #[test]
    fn the_middle_and_the_error_cover_the_interval() {
        for (earliest, latest) in [(-3, 4), (0, 0), (i64::MIN, i64::MAX), (-5, -2)] {
            let interval = from_to(earliest, latest);
            let around = TimeInterval::around(interval.middle(), interval.error());
            assert!(around.contains(interval.earliest()) && around.contains(interval.latest()));
        }
    }

    #[test]
    fn a_commit_waits_for_about_the_width_of_the_interval() {
        let (stamp, answered) = commit(1_000, 100, 0);
        assert_eq!((stamp, answered), (at(1_100), 1_201));
    }

    /// Why one waits: two clocks that are both within their bounds.
    #[test]
    fn without_the_wait_a_later_commit_gets_an_earlier_stamp() {
        let fast = CommitWait::begin(&read(1_000, 100, 100), WallTime::MIN);
        let slow = CommitWait::begin(&read(1_001, 100, -100), WallTime::MIN);
        assert!(slow.stamp() < fast.stamp());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        #[test]
        fn an_order_that_is_said_is_the_true_one(
            (first, second) in (-1_000i64..1_000, -1_000i64..1_000),
            (error_1, error_2) in (0i64..500, 0i64..500),
            (off_1, off_2) in (-100i64..=100, -100i64..=100),
        ) {
            let order = read(first, error_1, off_1).order(&read(second, error_2, off_2));
            match order {
                TimeOrder::Before => prop_assert!(first < second),
                TimeOrder::After => prop_assert!(first > second),
                TimeOrder::Unknown => {}
            }
        }

        #[test]
        fn what_begins_after_an_answer_gets_a_later_stamp(
            begin in -1_000i64..1_000, gap in 1i64..1_000,
            (error_1, error_2) in (0i64..500, 0i64..500),
            (off_1, off_2) in (-100i64..=100, -100i64..=100),
        ) {
            let (first, answered) = commit(begin, error_1, off_1);
            let (second, _) = commit(answered + gap, error_2, off_2);
            prop_assert!(first < second);
        }
    }
}
