//! When a member that stopped is started again, and when somebody should look.
//!
//! Pure: the moment comes from the caller.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const DELAY_MIN: Duration = Duration::from_millis(200);
const DELAY_MAX: Duration = Duration::from_secs(10);

/// A member that ran this long is healthy: its past is forgotten.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// So many crashes within [`CRASH_WINDOW`] are a crash loop.
pub(super) const CRASHES_MAX: usize = 5;

/// See [`CRASHES_MAX`].
pub(super) const CRASH_WINDOW: Duration = Duration::from_secs(60);

/// The past of one member.
#[derive(Debug)]
pub(super) struct Restarts {
    delay_next: Duration,
    crashes: VecDeque<Instant>, // at most CRASHES_MAX
    episode: Episode,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Episode {
    Quiet,
    Told,
}

/// What to do about a member that stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    /// Start it again after this.
    pub(super) delay: Duration,
    /// A crash loop begins: tell somebody, once.
    pub(super) crash_loop_begins: bool,
}

impl Restarts {
    /// No past.
    pub(super) fn new() -> Restarts {
        Restarts { delay_next: DELAY_MIN, crashes: VecDeque::new(), episode: Episode::Quiet }
    }

    /// The member that was started at `started` stopped at `now`.
    pub(super) fn crashed(&mut self, started: Instant, now: Instant) -> Verdict {
        if now.saturating_duration_since(started) >= HEALTHY_AFTER {
            *self = Restarts::new();
        }
        if self.crashes.len() == CRASHES_MAX {
            self.crashes.pop_front();
        }
        self.crashes.push_back(now);
        let first = self.crashes[0];
        let looping = self.crashes.len() == CRASHES_MAX
            && now.saturating_duration_since(first) <= CRASH_WINDOW;
        let crash_loop_begins = looping && self.episode == Episode::Quiet;
        if looping {
            self.episode = Episode::Told;
        }
        let delay = self.delay_next;
        self.delay_next = (delay * 2).min(DELAY_MAX);
        Verdict { delay, crash_loop_begins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crashes right after each start; returns the verdicts and the last moment.
    fn crash(restarts: &mut Restarts, mut now: Instant, times: usize) -> (Vec<Verdict>, Instant) {
        let mut verdicts = Vec::new();
        for _ in 0..times {
            let verdict = restarts.crashed(now, now);
            now += verdict.delay;
            verdicts.push(verdict);
        }
        (verdicts, now)
    }

    #[test]
    fn delays_double_up_to_a_limit() {
        let (verdicts, _) = crash(&mut Restarts::new(), Instant::now(), 8);
        let ms: Vec<u128> = verdicts.iter().map(|verdict| verdict.delay.as_millis()).collect();
        assert_eq!(ms, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    }

    #[test]
    fn a_crash_loop_is_told_once_per_episode() {
        let mut restarts = Restarts::new();
        let (verdicts, now) = crash(&mut restarts, Instant::now(), 12);
        let told: Vec<usize> =
            (0..12).filter(|i| verdicts[*i].crash_loop_begins).map(|i| i + 1).collect();
        assert_eq!(told, [5]);

        let later = now + HEALTHY_AFTER;
        let verdict = restarts.crashed(now, later);
        assert_eq!(verdict, Verdict { delay: DELAY_MIN, crash_loop_begins: false });
        let (verdicts, _) = crash(&mut restarts, later, 4);
        assert!(verdicts[3].crash_loop_begins, "a new episode is told again");
    }

    #[test]
    fn slow_crashes_are_no_loop() {
        let mut restarts = Restarts::new();
        let mut now = Instant::now();
        for _ in 0..20 {
            let started = now;
            now += Duration::from_secs(20);
            assert!(!restarts.crashed(started, now).crash_loop_begins);
        }
    }
}
