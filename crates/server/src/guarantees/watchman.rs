//! What changed since the last look, who is told of it, and for how long it has been so. Pure: the
//! time comes in from outside.
//!
//! An assumption breaks at the first look that finds it broken. It is whole again once it has held
//! for [`CALM`], so that one at its bound neither flickers nor fills the log.

use super::assumption::{Assumption, Bounds, Measured, NAMES, Name, Standing, judge};
use super::table::{PROMISES, Row, promises, text};
use quorate_core::Time;
use std::fmt::Write;
use std::time::Duration;

/// What was broken is whole again after so long without a fault.
const CALM: Duration = Duration::from_secs(1);
/// The longest delay of this time and of the one before it counts.
const WINDOW: Duration = Duration::from_secs(5);

/// The longest of the last [`WINDOW`] or two.
#[derive(Clone, Copy, Debug, Default)]
struct Longest {
    windows: [Duration; 2],
    began: Time,
}

impl Longest {
    fn add(&mut self, now: Time, sample: Duration) -> Duration {
        let passed = now.since(self.began);
        if passed > WINDOW {
            // Nobody looked for longer than both windows: what is kept is too old to count.
            let kept = if passed > 2 * WINDOW { Duration::ZERO } else { self.windows[0] };
            self.windows = [Duration::ZERO, kept];
            self.began = now;
        }
        self.windows[0] = self.windows[0].max(sample);
        self.windows[0].max(self.windows[1])
    }
}

/// What is remembered of an assumption.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// As it is shown.
    pub standing: Standing,
    /// Since when.
    pub since: Time,
    /// How often it broke in this life.
    pub broken_total: u64,
    /// Operators were told that it is broken.
    told: bool,
    /// Since when a broken one has held again.
    calm: Option<Time>,
}

/// Something that operators should know of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum News {
    /// An assumption broke.
    Broken {
        /// Value and bound, and what is promised no more.
        line: String,
    },
    /// It holds again.
    Whole {
        /// Value and bound, and how long it was broken.
        line: String,
    },
}

/// Everything that is shown, as of one look.
#[derive(Clone, Debug)]
pub struct View {
    /// When.
    pub at: Time,
    /// What it was judged by.
    pub measured: Measured,
    /// The assumptions.
    pub assumptions: [Assumption; NAMES],
    /// What is remembered of them.
    pub kept: [Kept; NAMES],
    /// The promises.
    pub rows: [Row; PROMISES],
}

/// Compares each look with what was before.
#[derive(Clone, Debug)]
pub struct Watchman {
    kept: [Kept; NAMES],
    delay: Longest,
    sync: Longest,
}

impl Watchman {
    /// A member that starts at `now` knows of no leader; this is no news.
    pub fn new(now: Time) -> Watchman {
        let kept = Name::ALL.map(|name| {
            let standing = match name {
                Name::Quorum => Standing::Broken,
                Name::ClockRate => Standing::NotMeasured,
                _ => Standing::Holds,
            };
            Kept { standing, since: now, broken_total: 0, told: false, calm: None }
        });
        Watchman { kept, delay: Longest::default(), sync: Longest::default() }
    }

    /// Takes in what was measured at `now`: the longest delays since the last look among it.
    pub fn look(&mut self, now: Time, measured: Measured, bounds: &Bounds) -> (View, Vec<News>) {
        let delay = self.delay.add(now, measured.delay);
        let sync = self.sync.add(now, measured.sync);
        let measured = Measured { delay, sync, ..measured };
        let mut assumptions = judge(&measured, bounds);
        let before = self.kept;
        for (kept, assumption) in self.kept.iter_mut().zip(&mut assumptions) {
            kept.take_in(now, assumption);
        }
        let rows = promises(&measured, &assumptions);
        let mut news = Vec::new();
        for ((kept, before), assumption) in self.kept.iter_mut().zip(before).zip(&assumptions) {
            if kept.standing == before.standing {
                continue;
            }
            match kept.standing {
                Standing::Broken => {
                    kept.told = true;
                    news.push(News::Broken { line: consequences(assumption, &rows) });
                }
                Standing::Holds | Standing::NotMeasured if before.told => {
                    kept.told = false;
                    let lasted = text(now.since(before.since));
                    let line = format!("{}: holds again after {lasted}", assumption.line());
                    news.push(News::Whole { line });
                }
                Standing::Holds | Standing::NotMeasured => {}
            }
        }
        (View { at: now, measured, assumptions, kept: self.kept, rows }, news)
    }
}

impl Kept {
    /// Moves on to what was judged; a broken one that has not held for long stays broken.
    fn take_in(&mut self, now: Time, assumption: &mut Assumption) {
        if self.standing == Standing::Broken && assumption.standing == Standing::Holds {
            let calm = *self.calm.get_or_insert(now);
            if now.since(calm) < CALM {
                assumption.standing = Standing::Broken;
                assumption.detail = Some("holds again for less than a second");
            }
        } else {
            self.calm = None;
        }
        if assumption.standing != self.standing {
            self.broken_total += u64::from(assumption.standing == Standing::Broken);
            (self.standing, self.since, self.calm) = (assumption.standing, now, None);
        }
    }
}

/// `disk 812 ms > 500 ms: write growth weaker, write delete weaker`.
fn consequences(assumption: &Assumption, rows: &[Row]) -> String {
    let mut line = assumption.line();
    let concerned = rows.iter().filter(|row| row.because == Some(assumption.name));
    let mut before = ": ";
    for row in concerned {
        let (operation, mode) = row.promise.names();
        let _ = write!(line, "{before}{operation} {mode} {}", row.state.text());
        before = ", ";
    }
    line
}

#[cfg(test)]
mod tests {
    use super::super::assumption::tests::{BOUNDS, well};
    use super::super::table::{Promise, State};
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Time {
        Time::from_nanos(1 + millis * 1_000_000)
    }

    /// A member with whom all is well from the beginning.
    fn calm() -> Watchman {
        let mut watchman = Watchman::new(at(0));
        for look in 1..=10 {
            let (_, news) = watchman.look(at(look * 200), well(), &BOUNDS);
            assert_eq!(news, [], "a start is no news");
        }
        watchman
    }

    #[test]
    fn a_break_is_told_once_and_so_is_its_end() {
        let mut watchman = calm();
        let lonely = Measured { leader: None, silence: 400 * MS, ..well() };
        let (view, news) = watchman.look(at(2_200), lonely, &BOUNDS);
        let line = "quorum 400 ms > 250 ms (no leader is known): write growth withdrawn, write \
            delete withdrawn, read linearizable withdrawn, read bounded-staleness weaker, watch \
            ordered weaker, lease keep-alive withdrawn, lease expiry weaker, lock fenced-write \
            withdrawn";
        assert_eq!(news, [News::Broken { line: line.to_owned() }]);
        assert_eq!(view.kept[Name::Quorum as usize].broken_total, 1);
        let (view, news) = watchman.look(at(2_400), lonely, &BOUNDS);
        assert_eq!(news, []);
        assert_eq!(view.kept[Name::Quorum as usize].since, at(2_200));

        let (view, news) = watchman.look(at(2_600), well(), &BOUNDS);
        assert_eq!(news, [], "not yet");
        assert_eq!(view.rows[Promise::LinearizableRead as usize].state, State::Withdrawn);
        let (view, news) = watchman.look(at(3_600), well(), &BOUNDS);
        let line = "quorum 12 ms <= 250 ms: holds again after 1.4 s".to_owned();
        assert_eq!(news, [News::Whole { line }]);
        assert_eq!(view.rows[Promise::LinearizableRead as usize].state, State::Holds);
        assert_eq!(view.kept[Name::Quorum as usize].broken_total, 1);
    }

    #[test]
    fn what_flickers_stays_broken_and_is_told_once() {
        let mut watchman = calm();
        let (mut told, mut broken) = (0, 0);
        for look in 0..100 {
            let silence = if look % 4 == 0 { 251 * MS } else { 12 * MS };
            let measured = Measured { silence, ..well() };
            let (view, news) = watchman.look(at(3_000 + look * 200), measured, &BOUNDS);
            told += news.len();
            broken += usize::from(view.kept[0].standing == Standing::Broken);
        }
        assert_eq!((told, broken), (1, 100));
    }

    #[test]
    fn a_delay_counts_for_a_while_and_not_for_ever() {
        let mut watchman = calm();
        let stuck = Measured { sync: 1_500 * MS, ..well() };
        let (view, _) = watchman.look(at(10_000), stuck, &BOUNDS);
        assert_eq!(view.kept[Name::Disk as usize].standing, Standing::Broken);
        let standing_at = |watchman: &mut Watchman, millis| {
            let (view, _) = watchman.look(at(millis), well(), &BOUNDS);
            view.kept[Name::Disk as usize].standing
        };
        let mut whole_after = None;
        for millis in (10_200..40_000).step_by(200) {
            if standing_at(&mut watchman, millis) == Standing::Holds {
                whole_after.get_or_insert(millis - 10_000);
            }
        }
        let whole_after = whole_after.expect("whole again in the end");
        assert!((5_000..=12_000).contains(&whole_after), "{whole_after} ms");
    }

    #[test]
    fn a_clock_that_errs_turns_lease_reads_off() {
        use super::super::assumption::{ClockReport, Switch};
        let mut watchman = calm();
        let clock = |ms: u32| Some(ClockReport { error: ms * MS, drift_ppm: 200 });
        let leased = |ms| Measured { clock: clock(ms), lease_reads: Switch::On, ..well() };
        assert_eq!(watchman.look(at(3_000), leased(3), &BOUNDS).1, []);
        let (view, news) = watchman.look(at(3_200), leased(41), &BOUNDS);
        let line = "clock-rate 41 ms > 20 ms: read lease weaker, lease expiry weaker".to_owned();
        assert_eq!(news, [News::Broken { line }]);
        let words = &view.rows[Promise::LeaseRead as usize].words;
        assert!(words.starts_with("lease reads off, read index on"), "{words}");
    }
}
