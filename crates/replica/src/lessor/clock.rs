//! The clock by which leases end, as one member estimates it.
//!
//! The leader's clock counts with its own time and is told to the others. A message takes time, so
//! what a member reckons from it is late by the delay and never early:
//!
//! ```text
//!   leader     told 5000 ------------> 5200
//!                      \ 120 ms          |
//!   member              5000 --------> 5080        never ahead of the leader
//! ```
//!
//! Of several messages the one that took the shortest counts. A member whose time runs faster than
//! the leader's would creep ahead of it, so each message may also take back a little.
//!
//! What was told in a term is compared with nothing told in another: a leader that knew little of
//! its predecessor's clock may lag behind it. Its first stamp or message sets everybody back, and
//! only then is there a lease that counts on its clock.

use crate::store::LeaseTime;
use quorate_core::{Term, Time};

/// What a message may take back of the estimate. Unit: milliseconds. With a message every half
/// second, clocks may differ in speed by two in a thousand; quartz differs by one in ten thousand.
const TAKEN_BACK_MAX: u64 = 1;

/// The lease clock as one member knows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct LeaseClock {
    /// Of the leader whose clock it is.
    term: Term,
    at: LeaseTime,
    since: Time,
}

impl LeaseClock {
    /// What a member knows when it starts: the last moment in its state, and nothing of how long
    /// ago that was.
    pub(super) fn restored(stamped: LeaseTime, now: Time) -> LeaseClock {
        LeaseClock { term: Term(0), at: stamped, since: now }
    }

    /// Reads the clock.
    pub(super) fn read(&self, now: Time) -> LeaseTime {
        let passed = now.since(self.since).as_millis();
        self.at.after(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The leader of `term` told its clock.
    pub(super) fn told(&mut self, term: Term, at: LeaseTime, now: Time) {
        if term < self.term {
            return;
        }
        let own = self.read(now);
        let least = LeaseTime(own.0.saturating_sub(TAKEN_BACK_MAX));
        let at = if term > self.term { at } else { at.max(least.min(own)) };
        *self = LeaseClock { term, at, since: now };
    }

    /// An entry of `term` carried this moment; it was written some time ago.
    pub(super) fn stamped(&mut self, term: Term, at: LeaseTime, now: Time) {
        if term > self.term || (term == self.term && at > self.read(now)) {
            *self = LeaseClock { term, at, since: now };
        }
    }

    /// This member leads from now on, and `stamped` is the last moment in its log.
    pub(super) fn lead(&mut self, term: Term, stamped: LeaseTime, now: Time) {
        *self = LeaseClock { term, at: self.read(now).max(stamped), since: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn of_several_messages_the_fastest_counts() {
        let mut clock = LeaseClock::default();
        clock.told(Term(1), LeaseTime(5_000), ms(100));
        assert_eq!(clock.read(ms(350)), LeaseTime(5_250));
        clock.told(Term(1), LeaseTime(5_600), ms(600));
        assert_eq!(clock.read(ms(600)), LeaseTime(5_600), "this one took 100 ms less");
        clock.told(Term(1), LeaseTime(5_900), ms(1_100));
        assert_eq!(clock.read(ms(1_100)), LeaseTime(6_099), "and this one too long");
    }

    #[test]
    fn the_time_before_a_start_is_not_counted() {
        let clock = LeaseClock::restored(LeaseTime(7), ms(86_400_000));
        assert_eq!(clock.read(ms(86_400_100)), LeaseTime(107));
    }

    #[test]
    fn a_member_that_runs_fast_is_held() {
        let mut clock = LeaseClock::default();
        for told in 0..10_000 {
            // The leader's half second is half a second and half a millisecond here.
            clock.told(Term(1), LeaseTime(told * 500), Time::from_nanos(told * 500_500_000));
            let ahead =
                clock.read(Time::from_nanos(told * 500_500_000)).since(LeaseTime(told * 500));
            assert!(ahead <= 1, "{ahead} ms ahead of the leader");
        }
    }

    #[test]
    fn another_term_has_another_clock() {
        let mut clock = LeaseClock::default();
        clock.told(Term(1), LeaseTime(90_000), ms(0));
        clock.stamped(Term(2), LeaseTime(60_000), ms(10));
        assert_eq!(clock.read(ms(20)), LeaseTime(60_010), "leases of term 2 count on its clock");
        clock.told(Term(1), LeaseTime(90_100), ms(30));
        clock.stamped(Term(1), LeaseTime(90_200), ms(30));
        assert_eq!(clock.read(ms(30)), LeaseTime(60_020), "nothing of term 1 counts any more");
        clock.stamped(Term(2), LeaseTime(60_015), ms(30));
        assert_eq!(clock.read(ms(30)), LeaseTime(60_020), "an old stamp says nothing new");
        clock.lead(Term(3), LeaseTime(60_015), ms(40));
        assert_eq!(clock.read(ms(40)), LeaseTime(60_030), "a leader goes on from what it knows");
        clock.lead(Term(4), LeaseTime(70_000), ms(50));
        assert_eq!(clock.read(ms(50)), LeaseTime(70_000), "and not from before the log's end");
    }
}
