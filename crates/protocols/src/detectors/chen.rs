//! Freshness points: how late a heartbeat is, measured against when it was due.
//!
//! **Problem.** A timeout since the last heartbeat depends on how fast that one was: after a fast
//! one the detector is rash, after a slow one it is late. And it wants to be set in the terms of
//! its user: detected within a second, one mistake in a month.
//!
//! **Idea.** The sender keeps a schedule, and heartbeats carry their place in it. The receiver
//! estimates when the next one is due from the mean of the last arrivals, each shifted back by its
//! place; and trusts for a margin `alpha` beyond that. The clocks of the two need not agree: only
//! their rates.
//!
//! ```text
//!   expected arrival of l+1 = mean over the window of (arrival_i - i * every) + (l+1) * every
//!   suspected from          = expected arrival + margin      (freshness point)
//! ```
//!
//! **Guarantees.** Detected at most `every + margin` beyond the mean delay after the crash. A
//! mistake happens when a heartbeat and all that follow it before the freshness point are late or
//! lost; Chen's configurator turns a wanted rate of mistakes into `every` and `margin`, from the
//! loss and the variance of delays alone (`quorate fd tune`). Not ◇P by itself: where delays have
//! no bound, mistakes go on at that rate. Where jitter ends up below the margin, they end.
//!
//! **Why a window.** Clocks drift, are set, and paths change: what is older than the window is
//! forgotten, so that after a step of the delay the estimate is right again when the window has
//! passed. Sums are integers and exact; nothing is accumulated that could rot.
//!
//! A heartbeat that comes more than a period and a margin *before* it was expected did not travel
//! fast: a clock was set. Then the window begins anew, so that no deadline is ever further away
//! than twice a period and a margin.
//!
//! **Bounds.** [`WINDOW_MAX`] arrivals; one more pushes the oldest out.
//!
//! Source: Chen, Toueg and Aguilera (2002), section 6.3 (NFD-E) and 6.2 (its margin).

use super::{Estimator, Mutant, Planted};
use quorate_core::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// Arrivals that are remembered, at most. The paper finds no gain beyond some thirty.
pub const WINDOW_MAX: usize = 1_000;

/// The parameters of [`Chen`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// The sender's period. Range: above zero.
    pub every: Duration,
    /// How long a peer is trusted beyond the expected arrival: `alpha` of the paper.
    pub margin: Duration,
    /// Arrivals that are remembered. Range: 1 to [`WINDOW_MAX`].
    pub window: usize,
    /// Before the first heartbeat: how long silence is borne.
    pub first: Duration,
}

/// Chen's NFD-E.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Chen {
    every: i128,
    margin: Duration,
    window: usize,
    /// When heartbeat 0 would have arrived, by each remembered arrival. Unit: nanoseconds.
    origins: VecDeque<i128>,
    sum: i128,
    deadline: Time,
    planted: Planted,
}

impl Chen {
    /// When the heartbeat of that number is expected. None before the first arrival.
    pub fn expected(&self, number: u64) -> Option<Time> {
        let count = i128::try_from(self.origins.len()).expect("a window is small");
        let mean = self.sum.checked_div(count)?;
        let at = mean + i128::from(number) * self.every;
        Some(Time::from_nanos(u64::try_from(at.max(0)).unwrap_or(u64::MAX)))
    }
}

impl Estimator for Chen {
    type Config = Config;

    fn new(config: &Config, planted: Planted, now: Time) -> Chen {
        assert!(config.every > Duration::ZERO, "a period of nothing");
        assert!((1..=WINDOW_MAX).contains(&config.window), "a window of {}", config.window);
        Chen {
            every: config.every.as_nanos() as i128,
            margin: config.margin,
            window: config.window,
            origins: VecDeque::new(),
            sum: 0,
            deadline: now.after(config.first),
            planted,
        }
    }

    fn heard(&mut self, number: u64, now: Time) {
        let early = self.expected(number).map_or(Duration::ZERO, |expected| expected.since(now));
        if early.as_nanos() as i128 > self.every + self.margin.as_nanos() as i128 {
            self.origins.clear();
            self.sum = 0;
        }
        let origin = i128::from(now.as_nanos()) - i128::from(number) * self.every;
        self.origins.push_back(origin);
        self.sum += origin;
        let forgets = !self.planted.is(Mutant::ChenWindowNeverForgets);
        if self.origins.len() > self.window && forgets {
            self.sum -= self.origins.pop_front().expect("more than none");
        }
        let margin = match self.planted.is(Mutant::ChenMarginLeftOut) {
            true => Duration::ZERO,
            false => self.margin,
        };
        let expected = self.expected(number.saturating_add(1)).expect("one was heard");
        self.deadline = expected.after(margin);
    }

    fn deadline(&self) -> Time {
        self.deadline
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn chen(window: usize) -> Chen {
        let every = Duration::from_millis(100);
        let margin = Duration::from_millis(30);
        let config = Config { every, margin, window, first: 3 * every };
        Chen::new(&config, Planted::default(), Time::default())
    }

    fn naive(arrivals: &[(u64, u64)], window: usize) -> u64 {
        let last = &arrivals[arrivals.len().saturating_sub(window)..];
        let sum: i128 = last.iter().map(|(n, at)| *at as i128 - (n * 100 * MS) as i128).sum();
        let next = arrivals.last().expect("some").0 + 1;
        (sum / last.len() as i128 + (next * 100 * MS) as i128) as u64 + 30 * MS
    }

    #[test]
    fn the_deadline_is_that_of_the_formula_whatever_is_lost() {
        let mut chen = chen(16);
        let mut arrivals = Vec::new();
        let mut state = 7_u64;
        for number in 0..2_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if state >> 61 == 0 {
                continue; // lost
            }
            let at = 5_000 * MS + number * 100 * MS + (state >> 40) % (40 * MS);
            arrivals.push((number, at));
            chen.heard(number, Time::from_nanos(at));
            assert_eq!(chen.deadline().as_nanos(), naive(&arrivals, 16));
        }
        assert!(arrivals.len() < 1_900, "some were lost");
    }

    /// Section 6.3: the estimate follows a change of the delay within a window.
    #[test]
    fn a_step_of_the_delay_is_forgotten_after_a_window() {
        let mut chen = chen(10);
        for number in 0..50 {
            let delay = if number < 30 { 5 } else { 65 };
            chen.heard(number, Time::from_nanos((number * 100 + delay) * MS));
        }
        assert_eq!(chen.expected(50), Some(Time::from_nanos((5_000 + 65) * MS)));
    }

    #[test]
    fn after_a_step_of_a_clock_no_deadline_is_far_away() {
        let mut chen = chen(100);
        (0..100).for_each(|number| chen.heard(number, Time::from_nanos(number * 100 * MS)));
        // The sender's clock has jumped ahead by ten seconds.
        let now = Time::from_nanos(10_000 * MS);
        chen.heard(200, now);
        assert!(chen.deadline().since(now) <= Duration::from_millis(260), "{:?}", chen.deadline());
    }

    #[test]
    fn before_the_first_heartbeat_silence_has_its_own_bound() {
        assert_eq!(chen(4).deadline(), Time::from_nanos(300 * MS));
        assert_eq!(chen(4).expected(1), None);
    }
}
