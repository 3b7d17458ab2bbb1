//! How late a loop is: measured where it runs, looked at from elsewhere.

use quorate_core::Time;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The delays of one loop: turns that took long, timers that fired late.
///
/// Two relaxed atomics; a look from another thread sees a turn that has not ended, too.
#[derive(Debug, Default)]
pub struct Pulse {
    /// When the turn under way began; 0 between turns. Unit: nanoseconds of the monotonic clock.
    began: AtomicU64,
    /// The longest delay since the last look. Unit: nanoseconds.
    longest: AtomicU64,
}

impl Pulse {
    pub(super) fn begin_turn(&self, now: Time) {
        self.began.store(now.as_nanos().max(1), Ordering::Relaxed);
    }

    pub(super) fn timer_was_late(&self, by: Duration) {
        self.longest.fetch_max(nanos(by), Ordering::Relaxed);
    }

    pub(super) fn end_turn(&self, now: Time) {
        let began = Time::from_nanos(self.began.swap(0, Ordering::Relaxed));
        self.longest.fetch_max(nanos(now.since(began)), Ordering::Relaxed);
    }

    /// The longest delay since the last call; the turn under way counts as far as it has come.
    pub fn take_longest(&self, now: Time) -> Duration {
        let longest = Duration::from_nanos(self.longest.swap(0, Ordering::Relaxed));
        match self.began.load(Ordering::Relaxed) {
            0 => longest,
            began => longest.max(now.since(Time::from_nanos(began))),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Time {
        Time::from_nanos(1 + millis * 1_000_000)
    }

    #[test]
    fn the_longest_delay_counts_once_and_a_turn_under_way_as_far_as_it_is() {
        let pulse = Pulse::default();
        pulse.begin_turn(at(10));
        pulse.timer_was_late(7 * MS);
        pulse.end_turn(at(15));
        assert_eq!(pulse.take_longest(at(20)), 7 * MS);
        assert_eq!(pulse.take_longest(at(900)), Duration::ZERO, "it sleeps, which is no delay");
        pulse.begin_turn(at(1_000));
        assert_eq!(pulse.take_longest(at(1_400)), 400 * MS);
        pulse.end_turn(at(1_500));
        assert_eq!(pulse.take_longest(at(1_600)), 500 * MS);
    }
}
