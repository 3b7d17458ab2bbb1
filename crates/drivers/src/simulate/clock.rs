//! A node's monotonic clock as a function of true time.
//!
//! Only the simulator knows true time. A node reads `local(true)`, a line that the clock's faults
//! bend: another rate is drift, a rate of zero is a freeze, a jump forward is a suspend that the
//! clock counts. A clock that is set back is held where it was until it has caught up, because that
//! is what the live driver does with what it reads.
//!
//! A clock with an [`Oscillator`] counts as that does instead, keeps its bound, and can only be
//! stopped. A wall clock is a line that is read as it is, also when it was set back.

use super::oscillator::{EPOCH, Oscillator};

/// A thousand million.
const BILLION: i128 = 1_000_000_000;

/// A node's clock.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    /// A point of the line, (true, local). Unit: nanoseconds.
    from: (u64, u64),
    /// Unit: parts per thousand million beside 1; -10^9 is a clock that stands.
    rate: i64,
    /// What was read last.
    floor: u64,
    /// What was read last does not count: a wall clock, or a planted bug.
    has_no_floor: bool,
    oscillator: Option<Oscillator>,
    /// It stands still until it is told to go on.
    is_stopped: bool,
}

impl Clock {
    /// A perfect clock that shows `local` at true time `now`.
    pub(super) fn new(now: u64, local: u64) -> Clock {
        let oscillator = None;
        let (has_no_floor, is_stopped) = (false, false);
        Clock { from: (now, local), rate: 0, floor: local, has_no_floor, oscillator, is_stopped }
    }

    /// A wall clock that is right when the run begins.
    pub(super) fn wall() -> Clock {
        Clock::new(0, EPOCH).without_floor()
    }

    /// The same clock, counting as an oscillator does.
    pub(super) fn on(self, oscillator: Oscillator) -> Clock {
        Clock { oscillator: Some(oscillator), ..self }
    }

    /// The same clock, read as it is.
    pub(super) fn without_floor(self) -> Clock {
        Clock { has_no_floor: true, ..self }
    }

    /// What the node reads at true time `now`.
    #[inline]
    pub(super) fn read(&mut self, now: u64) -> u64 {
        let line = self.line(now);
        self.floor = if self.has_no_floor { line } else { self.floor.max(line) };
        self.floor
    }

    /// What the node would read at true time `now`.
    pub(super) fn peek(&self, now: u64) -> u64 {
        let line = self.line(now);
        if self.has_no_floor { line } else { self.floor.max(line) }
    }

    #[inline]
    fn line(&self, now: u64) -> u64 {
        if self.is_stopped {
            return self.from.1;
        }
        if let Some(oscillator) = &self.oscillator {
            return self.from.1 + (oscillator.counted(now) - oscillator.counted(self.from.0));
        }
        let passed = now - self.from.0;
        if self.rate == 0 {
            return self.from.1 + passed;
        }
        let scaled = i128::from(passed) * (BILLION + i128::from(self.rate)) / BILLION;
        self.from.1 + scaled as u64
    }

    /// The true time at which the clock shows `local`, at least `now`; none if it stands still.
    #[inline]
    pub(super) fn when(&self, local: u64, now: u64) -> Option<u64> {
        let Some(ahead) = local.checked_sub(self.from.1) else { return Some(now) };
        if self.is_stopped {
            return None;
        }
        if let Some(oscillator) = &self.oscillator {
            let when = oscillator.passed(oscillator.counted(self.from.0) + ahead);
            return Some(when.max(now));
        }
        if self.rate == 0 {
            return Some((self.from.0 + ahead).max(now));
        }
        let speed = BILLION + i128::from(self.rate);
        if speed <= 0 {
            return None;
        }
        let passed = (i128::from(ahead) * BILLION + speed - 1) / speed;
        Some((self.from.0 + passed as u64).max(now))
    }

    /// From now on it runs so many parts per thousand million too fast.
    pub(super) fn set_rate(&mut self, now: u64, rate: i64) {
        assert!(rate >= -(BILLION as i64), "time does not run backwards");
        self.from = (now, self.line(now));
        self.rate = rate;
    }

    /// From now on it is a good clock, which goes on from what was read last: the wait of one that
    /// was set back ends.
    pub(super) fn settle(&mut self, now: u64) {
        self.from = (now, self.line(now).max(self.floor));
        self.rate = 0;
    }

    /// Shows `local` at true time `now`, as that of a machine which has just started. It runs as
    /// fast as before: its oscillator is the same.
    pub(super) fn begin(&mut self, now: u64, local: u64) {
        (self.from, self.floor) = ((now, local), local);
    }

    /// Jumps by so many nanoseconds.
    pub(super) fn step(&mut self, now: u64, by: i64) {
        self.from = (now, self.line(now).saturating_add_signed(by));
    }

    /// Stands still from now on.
    pub(super) fn stop(&mut self, now: u64) {
        self.from = (now, self.line(now));
        self.is_stopped = true;
    }

    /// Goes on from what `shown` was, less `back`.
    pub(super) fn go_on(&mut self, now: u64, shown: u64, back: u64) {
        self.from = (now, shown.saturating_sub(back));
        self.is_stopped = false;
    }

    /// How far it is off a perfect clock which was started with it. Unit: nanoseconds.
    pub(super) fn error(&self, now: u64) -> i64 {
        self.line(now) as i64 - now as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_hundred_parts_per_million_are_six_milliseconds_in_half_a_minute() {
        let mut clock = Clock::new(0, 0);
        clock.set_rate(0, 200_000);
        assert_eq!(clock.read(30_000_000_000), 30_006_000_000);
        assert_eq!(clock.when(30_006_000_000, 0), Some(30_000_000_000));
    }

    #[test]
    fn a_clock_that_is_set_back_stands_until_it_has_caught_up() {
        let mut clock = Clock::new(0, 0);
        assert_eq!(clock.read(100), 100);
        clock.step(100, -50);
        assert_eq!(clock.read(120), 100);
        assert_eq!(clock.read(160), 110);
        assert_eq!(clock.error(160), -50);
        assert_eq!(clock.when(110, 100), Some(160));
    }

    #[test]
    fn a_frozen_clock_never_shows_a_later_time() {
        let mut clock = Clock::new(0, 0);
        clock.set_rate(10, -1_000_000_000);
        assert_eq!(clock.read(1_000), 10);
        assert_eq!(clock.when(11, 1_000), None);
        assert_eq!(clock.when(9, 1_000), Some(1_000));
    }
}
