//! How many requests of one kind are let in at a time, by the delay of those that were answered.
//!
//! ```text
//!   least delay of an interval above the target:  limit = what is answered within the target, at
//!                                                 the rate of that interval; at least WINDOW_MIN
//!   below a quarter of it:                        limit grows by an eighth and some
//!   between the two:                              limit stays
//! ```
//!
//! So many requests wait for just the target (Little 1961), and a limit that is set again while the
//! delay has not yet followed is the same one: it does not fall until nothing is left to do.
//!
//! The least delay is that of the luckiest request, so a burst, or one slow write, changes nothing;
//! and where the disk itself is slower than the target, what remains is [`WINDOW_MIN`], which one
//! sync of a log carries at once.

use super::{Shed, Why};
use quorate_replica::store::Priority;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many are always let in.
pub(super) const WINDOW_MIN: usize = 256;

/// How often the limit is looked at.
const INTERVAL: Duration = Duration::from_millis(100);

/// Who is refused is told to wait at least so long, and at most so long.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// The window of one kind of requests.
#[derive(Debug)]
pub(super) struct Window {
    max: usize,
    target_us: AtomicU64,
    waiting: AtomicUsize,
    limit: AtomicUsize,
    /// The least delay of the interval before. Unit: microseconds.
    standing_us: AtomicU64,
    interval: Mutex<Interval>,
}

/// What was seen since the limit was looked at.
#[derive(Debug, Default)]
struct Interval {
    began: Option<Instant>,
    least: Option<Duration>,
    answered: u32,
}

impl Interval {
    /// The limit after an interval that lasted so long.
    fn judge(&self, lasted: Duration, limit: usize, max: usize, target: Duration) -> usize {
        let Some(least) = self.least else { return limit };
        if !target.is_zero() && least > target {
            let within = u128::from(self.answered) * target.as_micros() / lasted.as_micros().max(1);
            return usize::try_from(within).unwrap_or(max).min(limit).max(WINDOW_MIN);
        }
        // A delay is seen when it is over: who grew until then would have let too many in.
        if !target.is_zero() && least > target / 4 {
            return limit;
        }
        (limit + limit / 8 + 16).min(max)
    }
}

impl Window {
    pub(super) fn new(max: usize, target: Duration) -> Window {
        let window = Window {
            max,
            target_us: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            limit: AtomicUsize::new(max),
            standing_us: AtomicU64::new(0),
            interval: Mutex::default(),
        };
        window.set_target(target);
        window
    }

    pub(super) fn set_target(&self, target: Duration) {
        self.target_us.store(micros(target), Ordering::Relaxed);
    }

    fn target(&self) -> Duration {
        Duration::from_micros(self.target_us.load(Ordering::Relaxed))
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// How many may be in when one of this priority asks.
    fn allowed(&self, priority: Priority) -> usize {
        let limit = self.limit();
        match priority {
            Priority::Low => limit / 2,
            Priority::Normal => limit,
            Priority::High => (limit + limit / 2).min(self.max),
        }
    }

    /// Lets one in that waits for its answer as long as that.
    ///
    /// Errors: it would wait too long, or in vain.
    pub(super) fn enter(&self, priority: Priority, patience: Option<Duration>) -> Result<(), Shed> {
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let standing = Duration::from_micros(self.standing_us.load(Ordering::Relaxed));
        // Nobody waits for long who is alone.
        let in_vain = waiting >= WINDOW_MIN && patience.is_some_and(|patience| patience < standing);
        let why = match waiting >= self.allowed(priority) {
            true => Why::Queue,
            false if in_vain => Why::Deadline,
            false => return Ok(()),
        };
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let [least, most] = AGAIN_AFTER;
        Err(Shed { again_after: (2 * standing).clamp(least, most), ..Shed::of(why, None) })
    }

    /// One that was let in leaves, answered after that delay or not at all.
    pub(super) fn leave(&self, now: Instant, delay: Option<Duration>) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let Some(delay) = delay else { return };
        let mut interval = self.interval.lock().unwrap_or_else(PoisonError::into_inner);
        interval.least = Some(interval.least.map_or(delay, |least| least.min(delay)));
        interval.answered = interval.answered.saturating_add(1);
        let lasted = now.saturating_duration_since(*interval.began.get_or_insert(now));
        if lasted < INTERVAL {
            return;
        }
        let limit = interval.judge(lasted, self.limit(), self.max, self.target());
        self.limit.store(limit, Ordering::Relaxed);
        self.standing_us.store(micros(interval.least.unwrap_or_default()), Ordering::Relaxed);
        *interval = Interval { began: Some(now), ..Interval::default() };
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overload::WINDOW_MAX;

    const TARGET: Duration = Duration::from_millis(500);

    /// A server that answers `per_interval` requests in an interval, first come first served, and
    /// is asked `asked` times in each: how many it has answered within a second, and the limit.
    fn run(
        (window, clock): (&Window, &mut Instant),
        intervals: u32,
        asked: u32,
        per_interval: u32,
    ) -> (u32, usize) {
        let begin = *clock;
        *clock += intervals * INTERVAL;
        let mut queue = std::collections::VecDeque::new();
        let mut in_time = 0;
        for interval in 0..intervals {
            let step = INTERVAL / asked.max(per_interval);
            for tick in 0..asked.max(per_interval) {
                let now = begin + interval * INTERVAL + tick * step;
                if tick < asked && window.enter(Priority::Normal, None).is_ok() {
                    queue.push_back(now);
                }
                let due = tick * per_interval / asked.max(per_interval)
                    != (tick + 1) * per_interval / asked.max(per_interval);
                if due && let Some(since) = queue.pop_front() {
                    window.leave(now, Some(now - since));
                    in_time += u32::from(now - since <= Duration::from_secs(1));
                }
            }
        }
        for _ in queue {
            window.leave(*clock, None);
        }
        (in_time, window.limit())
    }

    #[test]
    fn three_times_too_much_leaves_the_peak() {
        let (window, mut clock) = (Window::new(100_000, TARGET), Instant::now());
        run((&window, &mut clock), 50, 3_000, 1_000);
        let (in_time, limit) = run((&window, &mut clock), 100, 3_000, 1_000);
        assert!(in_time >= 95_000, "{in_time} of 100,000 were of use");
        // Half a second of work.
        assert!((3_000..8_000).contains(&limit), "{limit}");
        // Without it everything is late.
        let open = Window::new(100_000, Duration::ZERO);
        let (in_time, _) = run((&open, &mut clock), 100, 3_000, 1_000);
        assert!(in_time < 20_000, "{in_time} of 100,000 were of use");
    }

    #[test]
    fn what_can_be_done_is_never_refused_and_the_window_opens_again() {
        let (window, mut clock) = (Window::new(WINDOW_MAX, TARGET), Instant::now());
        assert_eq!(run((&window, &mut clock), 20, 900, 1_000), (18_000, WINDOW_MAX));
        run((&window, &mut clock), 100, 5_000, 1_000);
        assert!(window.limit() < WINDOW_MAX);
        assert_eq!(run((&window, &mut clock), 40, 900, 1_000).1, WINDOW_MAX);
    }

    #[test]
    fn a_slow_disk_keeps_what_one_sync_carries() {
        let window = Window::new(WINDOW_MAX, TARGET);
        let begin = Instant::now();
        for second in 0..60 {
            let now = begin + Duration::from_secs(second);
            window.enter(Priority::Normal, None).expect("one is let in");
            window.leave(now, Some(Duration::from_secs(2)));
        }
        assert_eq!(window.limit(), WINDOW_MIN);
    }

    #[test]
    fn low_goes_first_and_high_last_and_who_cannot_wait_at_once() {
        let window = Window::new(1_000, TARGET);
        window.limit.store(600, Ordering::Relaxed);
        window.standing_us.store(400_000, Ordering::Relaxed);
        let enter = |priority, count: usize| {
            (0..count).take_while(|_| window.enter(priority, None).is_ok()).count()
        };
        assert_eq!(enter(Priority::Low, 1_000), 300);
        assert_eq!(enter(Priority::Low, 1_000), 0);
        let soon = Some(Duration::from_millis(300));
        let vain = window.enter(Priority::Normal, soon).expect_err("it would be late");
        assert_eq!((vain.why, vain.again_after), (Why::Deadline, Duration::from_millis(800)));
        assert_eq!(enter(Priority::Normal, 1_000), 300);
        assert_eq!(enter(Priority::High, 1_000), 300);
        let late = window.enter(Priority::High, None).expect_err("all are in");
        assert_eq!(late.why, Why::Queue);
        assert_eq!(window.waiting.load(Ordering::Relaxed), 900, "who is refused does not wait");
    }
}
