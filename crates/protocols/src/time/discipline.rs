//! The discipline: one clock that runs smoothly, made of many readings that jump.
//!
//! **Problem.** Each exchange moves the best guess at the true time a little, to and fro. Who reads
//! it wants a clock that does not run backwards, and that goes on well when nobody is heard.
//!
//! **Idea.** Beside the interval, a *disciplined* clock is kept: the monotonic clock of the node,
//! times its estimated rate, plus a correction that is spread over time ("slewed"), never faster
//! than [`SLEW_MAX`]. An error above [`STEP_MIN`] would take too long: then the clock is stepped,
//! and says so.
//!
//! ```text
//!                   guess x                         reading = wall
//!                        .   |  offset                      + elapsed x (1 + rate)
//!        disciplined ........|......                        + what of the offset is slewed
//! ```
//!
//! The rate is estimated over a long span: two guesses with errors `e1` and `e2`, a span apart,
//! give it with an error of `(e1 + e2) / span`. A span ends after [`SPAN_MAX`], because a quartz
//! wanders with the temperature of the room.
//!
//! **Guarantees.** *Monotone*: between two steps the clock never runs backwards. *Bounded error of
//! the rate*: the mean rate of the span lies within [`DriftEstimate::uncertainty`] of the estimate,
//! if the intervals that were given contain the true time. What the estimate is good for is the
//! reading alone: an interval grows by the full drift bound, because the rate may change at once.
//!
//! **Bounds.** No division by an elapsed time of zero: two guesses at the same instant are one.
//!
//! **Source.** Mills et al., RFC 5905 (2010), sections 11.3 and 12: clock discipline, step
//! threshold 128 ms, slew of at most 500 ppm. The estimate is simpler than its hybrid loop.

use super::dispersion::{DriftBound, Ppb};
use crate::clocks::interval::TimeInterval;
use quorate_core::{Offset, Time, WallTime};
use std::time::Duration;

/// A correction is spread so that it changes the rate by no more.
pub const SLEW_MAX: Ppb = Ppb::from_ppm(500);
/// A correction takes at least so long.
pub const SLEW_MIN: Duration = Duration::from_secs(8);
/// From this error on the clock is stepped.
pub const STEP_MIN: Duration = Duration::from_millis(128);
/// The rate is estimated over at most so long.
pub const SPAN_MAX: Duration = Duration::from_secs(1_024);

const BILLION: i128 = 1_000_000_000;

/// What a correction did.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Correction {
    /// The clock was set for the first time.
    Set,
    /// The error is taken away little by little.
    Slewed(Offset),
    /// It was too large for that: the clock jumped by so much.
    Stepped(Offset),
}

/// How fast the true time runs beside the monotonic clock of the node.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct DriftEstimate {
    /// True time gains so much.
    pub rate: Ppb,
    /// Give or take so much.
    pub uncertainty: Ppb,
}

/// A guess at the true time, at an instant of the monotonic clock.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Guess {
    at: Time,
    wall: WallTime,
    error: Duration,
}

/// The clock as it runs since it was last corrected.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Course {
    from: Time,
    wall: WallTime,
    rate: Ppb,
    /// To be added, evenly, during `slew_time`.
    slew: Offset,
    slew_time: Duration,
}

/// A clock that follows guesses at the true time.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Discipline {
    bound: DriftBound,
    course: Option<Course>,
    estimate: Option<DriftEstimate>,
    /// Where the span of the estimate begins.
    base: Option<Guess>,
    /// Where the next one begins.
    next: Option<Guess>,
}

impl Discipline {
    /// A clock that has not been set, on top of a monotonic one which keeps this bound.
    pub fn new(bound: DriftBound) -> Discipline {
        Discipline { bound, course: None, estimate: None, base: None, next: None }
    }

    /// What the clock shows, once it has been set.
    pub fn read(&self, now: Time) -> Option<WallTime> {
        self.course.map(|course| course.read(now))
    }

    /// The rate, once it is known better than the bound says.
    pub fn estimate(&self) -> Option<DriftEstimate> {
        self.estimate
    }

    /// The true time is within `interval` at `now`.
    pub fn correct(&mut self, now: Time, interval: &TimeInterval) -> Correction {
        let guess = Guess { at: now, wall: interval.middle(), error: interval.error() };
        self.observe(guess);
        let rate = self.estimate.map_or(Ppb(0), |estimate| estimate.rate);
        let still = Course {
            from: now,
            wall: guess.wall,
            rate,
            slew: Offset::ZERO,
            slew_time: Duration::ZERO,
        };
        let Some(shown) = self.read(now) else {
            self.course = Some(still);
            return Correction::Set;
        };
        let offset = guess.wall.offset_from(shown);
        if offset.magnitude() >= STEP_MIN {
            self.course = Some(still);
            return Correction::Stepped(offset);
        }
        let slew_time = slew_time(offset);
        self.course = Some(Course { wall: shown, slew: offset, slew_time, ..still });
        Correction::Slewed(offset)
    }

    /// The monotonic clock has lost count: nothing that is known of it holds any more.
    pub fn forget(&mut self) {
        *self = Discipline::new(self.bound);
    }

    fn observe(&mut self, guess: Guess) {
        let Some(base) = self.base else {
            (self.base, self.next) = (Some(guess), Some(guess));
            return;
        };
        self.estimate = self.refined(&base, &guess).or(self.estimate);
        let half = |since: &Guess| guess.at.since(since.at) >= SPAN_MAX / 2;
        if self.next.is_some_and(|next| half(&next)) {
            (self.base, self.next) = (self.next, Some(guess));
        }
    }

    /// The rate between two guesses, if that says more than the bound.
    fn refined(&self, base: &Guess, guess: &Guess) -> Option<DriftEstimate> {
        let span = guess.at.since(base.at).as_nanos() as i128;
        if span == 0 {
            return None;
        }
        let gained = i128::from(guess.wall.offset_from(base.wall).as_nanos()) - span;
        let errors = base.error.saturating_add(guess.error).as_nanos() as i128;
        let uncertainty = errors.saturating_mul(BILLION) / span + 1;
        let bound = i128::from(self.bound.ppb().0);
        let rate = (gained * BILLION / span).clamp(-bound, bound) as i64;
        (uncertainty < bound)
            .then_some(DriftEstimate { rate: Ppb(rate), uncertainty: Ppb(uncertainty as i64) })
    }

    /// Panics: if the rate leaves what the clock below can be wrong by.
    pub fn invariants(&self) {
        let known = self.estimate.map_or(Ppb(0), |estimate| estimate.rate);
        assert!(known.0.abs() <= self.bound.ppb().0, "the rate {known} is beyond the bound");
        if let Some(course) = self.course {
            let spread = course.slew_time >= slew_time(course.slew) || course.slew == Offset::ZERO;
            assert!(spread, "{course:?} is slewed too fast");
        }
    }
}

/// How long it takes to take an error away.
fn slew_time(offset: Offset) -> Duration {
    let nanos = offset.magnitude().as_nanos() * BILLION as u128 / SLEW_MAX.0.unsigned_abs() as u128;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).max(SLEW_MIN)
}

impl Course {
    fn read(&self, now: Time) -> WallTime {
        let elapsed = now.since(self.from);
        let gained = self.rate.of(elapsed) + self.slewed(elapsed);
        let gained = gained.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
        self.wall.later(elapsed).moved(Offset::from_nanos(gained))
    }

    fn slewed(&self, elapsed: Duration) -> i128 {
        let slew = i128::from(self.slew.as_nanos());
        if elapsed >= self.slew_time {
            return slew;
        }
        slew * elapsed.as_nanos() as i128 / self.slew_time.as_nanos() as i128
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn seconds(count: u64) -> Time {
        Time::from_nanos(count * SECOND)
    }

    fn around(nanos: i64, error: Duration) -> TimeInterval {
        TimeInterval::around(WallTime::from_nanos(nanos), error)
    }

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn a_small_error_is_slewed_and_a_large_one_stepped() {
        let mut clock = Discipline::new(DriftBound::default());
        assert_eq!(clock.read(seconds(0)), None);
        assert_eq!(clock.correct(seconds(0), &around(0, millis(1))), Correction::Set);
        let second = SECOND as i64;
        let small = Offset::from_nanos(2_000_000);
        let slewed = clock.correct(seconds(10), &around(10 * second + 2_000_000, millis(1)));
        assert_eq!(slewed, Correction::Slewed(small));
        let read = |clock: &Discipline, at| clock.read(seconds(at)).expect("it is set").as_nanos();
        assert_eq!(read(&clock, 10), 10 * second, "nothing jumps");
        assert_eq!(read(&clock, 14), 14 * second + 1_000_000, "half of it in half of the time");
        assert_eq!(read(&clock, 20), 20 * second + 2_000_000);
        let large = clock.correct(seconds(30), &around(40 * second, millis(1)));
        assert_eq!(large, Correction::Stepped(Offset::from_nanos(10 * second - 2_000_000)));
        assert_eq!(read(&clock, 30), 40 * second);
        clock.invariants();
    }

    /// A quartz that loses 100 ppm, seen through guesses that are wrong by up to a millisecond.
    #[test]
    fn the_rate_of_a_constant_quartz_becomes_known_within_its_uncertainty() {
        let mut clock = Discipline::new(DriftBound::default());
        for second in (0..3_000).step_by(4) {
            // What a true second is more than a second of this clock.
            let truth = (second * SECOND + second * 100_000) as i64;
            let noise = (second * 7_919 % 2_000_001) as i64 - 1_000_000;
            clock.correct(seconds(second), &around(truth + noise, millis(1)));
            if let Some(DriftEstimate { rate, uncertainty }) = clock.estimate() {
                assert!((rate.0 - 100_000).abs() <= uncertainty.0, "{rate} +- {uncertainty}");
            }
        }
        let DriftEstimate { rate, uncertainty } = clock.estimate().expect("it is known by now");
        assert!(uncertainty <= Ppb::from_ppm(4), "{uncertainty}");
        assert!((rate.0 - 100_000).abs() <= 4_000, "{rate}");
        // Left alone for an hour, it is off by what is not known of its rate.
        let (end, hour) = (2_996 + 3_600, 3_600_i64);
        let truth = (end * SECOND + end * 100_000) as i64;
        let off = clock.read(seconds(end)).expect("it is set").as_nanos() - truth;
        assert!(off.abs() <= hour * uncertainty.0 + 2_000_000, "{off} ns");
        clock.invariants();
    }

    #[test]
    fn a_clock_that_lost_count_begins_anew() {
        let mut clock = Discipline::new(DriftBound::default());
        clock.correct(seconds(0), &around(0, millis(1)));
        clock.forget();
        assert_eq!((clock.read(seconds(1)), clock.estimate()), (None, None));
        assert_eq!(clock.correct(seconds(1), &around(99, millis(1))), Correction::Set);
    }

    proptest! {
        #[test]
        fn it_never_runs_backwards_between_steps(
            guesses in proptest::collection::vec(
                (1u64..100 * SECOND, -200_000_000i64..200_000_000),
                1..20,
            ),
        ) {
            let mut clock = Discipline::new(DriftBound::default());
            let (mut now, mut last) = (0, None);
            for (gap, off) in guesses {
                for part in 0..4 {
                    let read = clock.read(Time::from_nanos(now + gap * part / 4));
                    prop_assert!(read >= last, "{read:?} after {last:?}");
                    last = read;
                }
                now += gap;
                let interval = around(now as i64 + off, millis(300));
                if let Correction::Stepped(_) = clock.correct(Time::from_nanos(now), &interval) {
                    last = None;
                }
                clock.invariants();
            }
        }
    }
}
