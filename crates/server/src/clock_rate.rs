//! Whether this machine's clock runs well enough for reads to rest on it.
//!
//! **Problem.** A lease is measured by a clock that nobody looks at. A daemon may make it run
//! faster or slower, and a machine that slept sets it by a clock on a battery.
//!
//! **Idea.** The kernel has two clocks of the same oscillator: the one that the service goes by
//! (`CLOCK_BOOTTIME`), which daemons adjust and which counts in suspend, and a raw one
//! (`CLOCK_MONOTONIC_RAW`), which nobody touches. They are read together every [`LOOK_EVERY`]; if
//! between two looks one has gained on the other by more than [`RATE_PPM`], or there was no look
//! for long, nobody vouches for the clock until it has run well for [`WINDOW`].
//!
//! What no clock can tell of itself the peers tell: the clock must also be found good among theirs
//! ([`guarantees`](crate::guarantees)). That takes some seconds to notice, and this does not.
//!
//! **Guarantees.** A clock that is vouched for was adjusted by less than the bound. Leases allow
//! for much more ([`DRIFT_PPM`]): all that adjtimex(2) lets a daemon do to a clock, so that what it
//! does between two looks, before anybody has noticed, breaks nothing.
//!
//! **Left out.** A machine that is restored from a snapshot: its peers tell, some seconds later.
//!
//! Sources: clock_gettime(2) and adjtimex(2) of Linux: a tick may be changed by a tenth, the
//! frequency by 500 ppm.

use crate::host::{Ask, INSIST_PAUSE, Shared};
use quorate_core::Time;
use quorate_drivers::live::monotonic_now;
use rustix::time::{ClockId, clock_gettime};
use std::sync::Weak;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval, sleep};

/// What leases allow for in each clock: a tick that is a tenth too long, an adjusted frequency, and
/// a bad oscillator. Unit: parts per million.
pub(crate) const DRIFT_PPM: u32 = 110_000;
/// A clock that is adjusted by more is not vouched for: twice what a daemon does without stepping
/// ticks. Unit: parts per million.
const RATE_PPM: u32 = 1_000;
/// The two clocks are compared so often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A look that comes later says nothing of the time before.
const LOOK_LATE: Duration = Duration::from_millis(1_500);
/// A clock must have run well for so long.
const WINDOW: Duration = Duration::from_secs(2);
/// What was seen may be believed for so long.
const TRUSTED_FOR: Duration = Duration::from_secs(2);
/// Two clocks that could not be read within this time were not read together.
const TOGETHER: Duration = Duration::from_micros(100);
/// They are tried so often.
const READS_MAX: usize = 10;

/// Both clocks at one instant.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Time,
    raw: Time,
}

impl Look {
    /// None if this process was interrupted again and again.
    fn take() -> Option<Look> {
        (0..READS_MAX).find_map(|_| {
            let at = monotonic_now();
            let now = clock_gettime(ClockId::MonotonicRaw);
            let nanos = now.tv_sec.checked_mul(1_000_000_000)?.checked_add(now.tv_nsec)?;
            let raw = Time::from_nanos(u64::try_from(nanos).ok()?);
            (monotonic_now().since(at) <= TOGETHER).then_some(Look { at, raw })
        })
    }
}

/// Compares looks.
#[derive(Debug, Default)]
struct Rate {
    last: Option<Look>,
    /// It has run well since.
    well_since: Option<Time>,
}

impl Rate {
    /// Until when the clock may be believed after this look; an instant that is over if it may not.
    fn judge(&mut self, look: Look) -> Time {
        let Some(last) = self.last.replace(look) else { return Time::default() };
        let passed = look.at.since(last.at);
        let gained = passed.abs_diff(look.raw.since(last.raw));
        let allowed = passed / 1_000_000 * RATE_PPM + 2 * TOGETHER;
        if gained > allowed || passed > LOOK_LATE {
            self.well_since = None;
            return Time::default();
        }
        let since = *self.well_since.get_or_insert(last.at);
        match look.at.since(since) >= WINDOW {
            true => look.at.after(TRUSTED_FOR),
            false => Time::default(),
        }
    }
}

/// Vouches for the clock of a member, as long as there is one.
pub(crate) async fn watch(shared: Weak<Shared>) {
    let mut rate = Rate::default();
    let mut trusted = false;
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let alone = Look::take().map_or(Time::default(), |look| rate.judge(look));
        let among_peers = shared.guard().look(&shared).clock_vouched_until();
        let until = alone.min(among_peers.unwrap_or_default());
        let trusts = until > Time::default();
        if trusts != std::mem::replace(&mut trusted, trusts) {
            match trusts {
                true => tracing::info!("the clock runs well: reads may rest on leases"),
                false => tracing::warn!("the clock does not run well: each read asks a quorum"),
            }
        }
        let mut ask = Ask::TrustClock { until };
        while let Err(again) = shared.inbox.ask(ask) {
            if trusts {
                break; // The last one ends by itself.
            }
            ask = again;
            sleep(INSIST_PAUSE).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Duration = Duration::from_millis(500);

    /// Looks every half second, each with so many microseconds gained on the raw clock.
    fn looks(gained: impl IntoIterator<Item = i64>) -> Vec<bool> {
        let mut rate = Rate::default();
        let (mut at, mut raw) = (Time::from_nanos(1), Time::from_nanos(1));
        let judged = gained.into_iter().map(|micros| {
            raw = raw.after(HALF);
            let half = HALF.as_micros() as i64 + micros;
            at = at.after(Duration::from_micros(half as u64));
            rate.judge(Look { at, raw }) > at
        });
        judged.collect()
    }

    #[test]
    fn a_clock_is_vouched_for_once_it_has_run_well_for_a_while() {
        assert_eq!(looks([0; 6]), [false, false, false, false, true, true]);
        assert!(looks([-250; 20])[19], "a daemon that slews");
    }

    #[test]
    fn one_that_is_adjusted_by_more_or_slept_is_not() {
        assert!(!looks([40_000; 20])[19], "a tick that is a twelfth too long");
        assert!(!looks([-40_000; 20])[19]);
        let slept = looks([0, 0, 0, 0, 0, 700_000, 0, 0, 0, 0]);
        assert_eq!(slept[4..], [true, false, false, false, false, true]);
    }

    #[test]
    fn who_has_not_looked_for_long_knows_nothing() {
        let at = Time::from_nanos;
        let second = 1_000_000_000;
        let mut rate = Rate::default();
        let both = |nanos| Look { at: at(nanos), raw: at(nanos) };
        for half in 1..=8 {
            rate.judge(both(half * second / 2));
        }
        assert!(rate.judge(both(9 * second / 2)) > at(9 * second / 2));
        assert_eq!(rate.judge(both(7 * second)), Time::default());
    }

    #[test]
    fn the_clocks_of_this_machine_can_be_compared() {
        let look = Look::take().expect("two readings within 100 us");
        assert!(look.at > Time::default() && look.raw > Time::default());
    }
}
