//! The clocks of the host: what they show, and whether one of them jumped.
//!
//! **Problem.** The wall clock may be set by anybody at any time, by years. The monotonic clock
//! goes on in suspend, but is then as good as the clock on the battery, which counts seconds.
//!
//! **Idea.** Three clocks are read together, every now and then. Between two looks the wall clock
//! gains on the monotonic one by next to nothing, because a daemon that speeds one up speeds the
//! other up, too; more than [`STEP_MIN`] is a *step*: somebody set it. And what
//! `CLOCK_BOOTTIME` gains on `CLOCK_MONOTONIC` is time spent in *suspend*.
//!
//! After a step the wall clock is not believed for [`STEP_HOLD`]; others judge it meanwhile.
//!
//! **Bounds.** Steps below [`STEP_MIN`] are not told from reading late. A virtual machine that was
//! restored shows no suspend: what others say of the time tells it.

use quorate_core::{Offset, Time, WallTime};
use quorate_drivers::live::monotonic_now;
use quorate_protocols::time::discipline;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// A wall clock that moves by more between two looks was set.
pub(super) const STEP_MIN: Duration = discipline::STEP_MIN;
/// For so long a wall clock that was set is not believed.
pub(super) const STEP_HOLD: Duration = Duration::from_secs(64);
/// A suspend is longer than this.
const SUSPEND_MIN: Duration = Duration::from_millis(100);
/// Clocks that could not be read within this time are read again,
const TOGETHER: Duration = Duration::from_millis(1);
/// so many times.
const READS_MAX: usize = 4;

/// What the clocks of the host showed at one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Readings {
    /// The monotonic clock, which counts in suspend.
    pub(super) at: Time,
    /// The one that does not.
    pub(super) awake: Time,
    /// The wall clock.
    pub(super) wall: WallTime,
}

impl Readings {
    /// Reads them.
    pub(super) fn take() -> Readings {
        let mut readings = Readings::once();
        for _ in 1..READS_MAX {
            if monotonic_now().since(readings.at) <= TOGETHER {
                break;
            }
            readings = Readings::once();
        }
        readings
    }

    fn once() -> Readings {
        let nanos = |clock| {
            let now = clock_gettime(clock);
            now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
        };
        let at = monotonic_now();
        let awake = u64::try_from(nanos(ClockId::Monotonic)).unwrap_or(0);
        let wall = WallTime::from_nanos(nanos(ClockId::Realtime));
        Readings { at, awake: Time::from_nanos(awake), wall }
    }
}

/// What happened to the clocks between two looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Event {
    /// The wall clock was set, by so much.
    Stepped(Offset),
    /// The host was suspended for so long.
    Suspended(Duration),
}

/// A step of the wall clock that was seen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Step {
    /// When it was seen.
    pub(super) at: Time,
    /// By how much.
    pub(super) by: Offset,
}

/// Looks at the clocks.
#[derive(Clone, Debug, Default)]
pub(super) struct HostClock {
    last: Option<Readings>,
    /// The last step that was seen.
    pub(super) step: Option<Step>,
    /// Steps that were seen.
    pub(super) steps: u64,
    /// Suspends that were seen.
    pub(super) suspends: u64,
}

impl HostClock {
    /// One look.
    pub(super) fn look(&mut self, now: Readings) -> Option<Event> {
        let last = self.last.replace(now)?;
        let passed = now.at.since(last.at);
        let asleep = passed.saturating_sub(now.awake.since(last.awake));
        if asleep > SUSPEND_MIN {
            self.suspends += 1;
            return Some(Event::Suspended(asleep));
        }
        let gained = now.wall.offset_from(last.wall.later(passed));
        if gained.magnitude() > STEP_MIN {
            self.steps += 1;
            self.step = Some(Step { at: now.at, by: gained });
            return Some(Event::Stepped(gained));
        }
        None
    }

    /// False while a step is too young for the clock to be believed.
    pub(super) fn is_believed(&self, now: Time) -> bool {
        self.step.is_none_or(|step| now.since(step.at) >= STEP_HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const YEAR: i64 = 365 * 86_400 * SECOND as i64;

    fn readings(at: u64, awake: u64, wall: i64) -> Readings {
        Readings {
            at: Time::from_nanos(at),
            awake: Time::from_nanos(awake),
            wall: WallTime::from_nanos(wall),
        }
    }

    #[test]
    fn clocks_that_run_are_no_event() {
        let mut clock = HostClock::default();
        for second in 0..100 {
            let (at, wall) = (second * SECOND, (second * SECOND) as i64 + YEAR);
            assert_eq!(clock.look(readings(at, at, wall)), None);
        }
        let (first, second) = (Readings::take(), Readings::take());
        assert!(first.at <= second.at && first.awake <= second.awake);
    }

    #[test]
    fn a_wall_clock_that_jumps_by_years_was_set_and_is_not_believed_for_a_while() {
        for by in [40 * YEAR, -40 * YEAR, i64::MAX, i64::MIN, 200_000_000] {
            let mut clock = HostClock::default();
            clock.look(readings(SECOND, SECOND, YEAR));
            let wall = YEAR.saturating_add(by);
            let event = clock.look(readings(SECOND, SECOND, wall));
            let by = Offset::from_nanos(wall.saturating_sub(YEAR));
            assert_eq!(event, Some(Event::Stepped(by)));
            assert!(!clock.is_believed(Time::from_nanos(64 * SECOND)));
            assert!(clock.is_believed(Time::from_nanos(65 * SECOND)));
        }
    }

    #[test]
    fn a_suspend_is_no_step_although_the_wall_clock_went_on() {
        let mut clock = HostClock::default();
        clock.look(readings(SECOND, SECOND, YEAR));
        let hour = 3_600 * SECOND;
        let event = clock.look(readings(SECOND + hour, SECOND, YEAR + hour as i64));
        assert_eq!(event, Some(Event::Suspended(Duration::from_secs(3_600))));
        assert_eq!((clock.steps, clock.suspends), (0, 1));
    }
}
