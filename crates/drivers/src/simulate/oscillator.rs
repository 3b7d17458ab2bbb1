//! What makes a clock count: a quartz that runs a little off, and not always by as much.
//!
//! **Problem.** A clock that is exact until a fault bends it never shows what a protocol makes of
//! the clocks that there are: each off by something else, wandering with the temperature, ageing,
//! standing still while the machine sleeps.
//!
//! **Idea.** A rate that is a staircase over true time, in whole numbers, with its sums kept, so
//! that the reading at any instant is exact and costs a division:
//!
//! ```text
//!   constant       temperature               ageing
//!                     __          __              ____________  +bound
//!   -----------    __/  \__    __/             __/
//!                          \__/             __/
//! ```
//!
//! A world that says nothing of clocks ([`super::World::clocks`]) has the exact ones of old, and
//! faults of clocks bend them. A world that gives its nodes [`NodeClocks`] has two for each: the
//! monotonic one, on an oscillator that keeps its bound whatever happens, and a *wall clock*, which
//! the faults of clocks hit: drift, steps, leap seconds (smeared or stepped), freezes.
//!
//! **Guarantees.** Between any two instants the monotonic clock gains or loses no more than
//! [`Oscillator::bound`] says, but for two nanoseconds of rounding; unless the machine is suspended
//! and its clock does not count that ([`Suspend`]).
//!
//! **Left out.** A virtual machine that is restored loses its memory since the snapshot too; here
//! only its clocks go back.
//!
//! **Sources.** Mills, "Computer Network Time Synchronization" (2nd edition, 2010), for what
//! oscillators do; clock_gettime(2) of Linux for CLOCK_MONOTONIC and CLOCK_BOOTTIME.

use std::time::Duration;

const BILLION: i128 = 1_000_000_000;
/// Steps of one wave of the temperature, and of an ageing until it ends.
const STEPS: usize = 64;

/// What true wall time is when a run begins. Unit: nanoseconds since 1970.
pub const EPOCH: u64 = 1_000_000_000 * BILLION as u64;

/// How fast a clock counts, as a function of true time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Oscillator {
    /// Beside 1. Unit: parts per thousand million.
    rates: Vec<i64>,
    /// The rates before each, added up.
    sums: Vec<i128>,
    /// Each lasts so long. Unit: nanoseconds.
    step: u64,
    /// Whether they begin again, or the last one lasts for ever.
    is_cyclic: bool,
}

impl Oscillator {
    fn new(rates: Vec<i64>, step: u64, is_cyclic: bool) -> Oscillator {
        assert!(step > 0 && rates.iter().all(|rate| i128::from(rate.abs()) < BILLION));
        let mut sum = 0;
        let mut sums = vec![0];
        for rate in &rates {
            sum += i128::from(*rate);
            sums.push(sum);
        }
        Oscillator { rates, sums, step, is_cyclic }
    }

    /// Always as much too fast, or too slow. Unit: parts per thousand million.
    pub fn constant(rate: i64) -> Oscillator {
        Oscillator::new(vec![rate], 1, false)
    }

    /// A rate that follows the temperature: up to `swing` about `base`, in waves of this period,
    /// the first of which has begun `phase` steps ago (of 64).
    pub fn temperature(base: i64, swing: i64, period: Duration, phase: usize) -> Oscillator {
        let half = STEPS as i64 / 2;
        let wave = |place: usize| {
            let at = (place + phase) as i64 % STEPS as i64;
            let arc = |x: i64| 4 * x * (half - x) * swing / (half * half);
            base + if at < half { arc(at) } else { -arc(at - half) }
        };
        let step = (period.as_nanos() as u64 / STEPS as u64).max(1);
        Oscillator::new((0..STEPS).map(wave).collect(), step, true)
    }

    /// A rate that goes from one to another, evenly and within `time`, and then stays.
    pub fn ageing(from: i64, to: i64, time: Duration) -> Oscillator {
        let last = STEPS as i64 - 1;
        let rates = (0..=last).map(|place| from + (to - from) * place / last).collect();
        Oscillator::new(rates, (time.as_nanos() as u64 / STEPS as u64).max(1), false)
    }

    /// One of these kinds, within a bound; `draw` gives numbers below its argument.
    pub fn drawn(bound: i64, draw: &mut dyn FnMut(u64) -> u64) -> Oscillator {
        let mut rate = |most: i64| draw(2 * most as u64 + 1) as i64 - most;
        match rate(2) {
            -2 => Oscillator::constant(bound),
            -1 => Oscillator::constant(-bound),
            0 => Oscillator::constant(rate(bound)),
            1 => {
                let base = rate(bound / 2);
                let period = Duration::from_secs(4 + draw(60));
                let phase = draw(STEPS as u64) as usize;
                Oscillator::temperature(base, bound - base.abs(), period, phase)
            }
            _ => {
                let (from, to) = (rate(bound), rate(bound));
                Oscillator::ageing(from, to, Duration::from_secs(5 + draw(60)))
            }
        }
    }

    /// It runs off by no more. Unit: parts per thousand million.
    pub fn bound(&self) -> i64 {
        self.rates.iter().map(|rate| rate.abs()).max().unwrap_or(0)
    }

    /// What a clock has counted `passed` after it began. Unit: nanoseconds, both.
    pub fn counted(&self, passed: u64) -> u64 {
        let (steps, within) = (passed / self.step, i128::from(passed % self.step));
        let count = self.rates.len() as u64;
        let all = self.sums[self.rates.len()];
        let (sum, rate) = match self.is_cyclic {
            true => {
                let place = (steps % count) as usize;
                (i128::from(steps / count) * all + self.sums[place], self.rates[place])
            }
            false if steps < count => (self.sums[steps as usize], self.rates[steps as usize]),
            false => {
                let last = self.rates[self.rates.len() - 1];
                (all + i128::from(steps - count) * i128::from(last), last)
            }
        };
        let gained = sum * i128::from(self.step) + within * i128::from(rate);
        (i128::from(passed) + gained.div_euclid(BILLION)) as u64
    }

    /// The first instant at which so much has been counted: the inverse of
    /// [`Oscillator::counted`].
    pub fn passed(&self, counted: u64) -> u64 {
        let slack = (i128::from(counted) * i128::from(self.bound()) / BILLION) as u64;
        let (mut early, mut late) = (counted.saturating_sub(2 * slack + 2), counted + 2);
        while self.counted(late) < counted {
            late += 2 * slack + 2;
        }
        while early < late {
            let middle = early + (late - early) / 2;
            match self.counted(middle) < counted {
                true => early = middle + 1,
                false => late = middle,
            }
        }
        late
    }
}

/// What the monotonic clock of a machine does while it stands still (see [`super::Fault::Pause`]).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Suspend {
    /// It counts, as CLOCK_BOOTTIME does.
    #[default]
    Counts,
    /// It stands still too, as CLOCK_MONOTONIC of Linux does.
    Stops,
    /// The machine is virtual, and is restored from a snapshot that is so much older than the
    /// pause: both of its clocks begin there again.
    Restored(Duration),
}

/// The clocks of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeClocks {
    /// Makes the monotonic one count.
    pub oscillator: Oscillator,
    /// What becomes of them while the node stands still.
    pub suspend: Suspend,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::choices::{About, Choices, Site};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn each_kind_runs_as_it_says() {
        assert_eq!(Oscillator::constant(200_000).counted(30 * SECOND), 30_006_000_000);
        let warm = Oscillator::temperature(0, 100_000, Duration::from_secs(64), 0);
        assert_eq!(warm.bound(), 100_000);
        assert!(warm.counted(32 * SECOND) > 32 * SECOND + 2_000_000, "half a wave of warmth");
        assert_eq!(warm.counted(64 * SECOND), 64 * SECOND, "and half of cold");
        let old = Oscillator::ageing(0, -50_000, Duration::from_secs(64));
        assert_eq!(old.counted(1_000 * SECOND) - old.counted(999 * SECOND), SECOND - 50_000);
    }

    /// The audit: between any two instants, of any kind, within the bound that was asked for.
    #[test]
    fn no_oscillator_leaves_its_bound() {
        let mut choices = Choices::from_seed(5);
        let site = Site::new(About::Detail, 1);
        let bound = 200_000;
        let mut widest = 0;
        for _ in 0..2_000 {
            let oscillator = Oscillator::drawn(bound, &mut |below| choices.draw(site, below));
            assert!(oscillator.bound() <= bound, "{oscillator:?}");
            let (mut at, mut last) = (0, 0);
            for _ in 0..50 {
                let passed = choices.draw(site, 9 * SECOND);
                at += passed;
                let now = oscillator.counted(at);
                let off = (now - last).abs_diff(passed);
                assert!(off <= passed * bound as u64 / SECOND + 2, "{off} in {passed}");
                widest = widest.max(off * SECOND / passed.max(SECOND));
                last = now;
            }
        }
        assert!(widest > 199_000, "the bound was never nearly reached: {widest}");
    }

    #[test]
    fn the_inverse_is_the_first_instant() {
        let mut choices = Choices::from_seed(6);
        let site = Site::new(About::Detail, 1);
        for _ in 0..2_000 {
            let oscillator = Oscillator::drawn(200_000, &mut |below| choices.draw(site, below));
            let counted = choices.draw(site, 100 * SECOND);
            let passed = oscillator.passed(counted);
            assert!(oscillator.counted(passed) >= counted);
            assert!(passed == 0 || oscillator.counted(passed - 1) < counted);
        }
    }
}
