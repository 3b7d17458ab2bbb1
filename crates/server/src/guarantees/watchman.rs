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
/// Between two lines of the log about requests that are not served for want of a quorum.
pub const UNSERVED_TOLD_EVERY: Duration = Duration::from_secs(5);

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
    pub(super) calm: Option<Time>,
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
    /// Requests were not served for want of a quorum.
    Unserved {
        /// How many, and since when there is none.
        line: String,
    },
}

/// What operators know of such requests.
#[derive(Clone, Copy, Debug, Default)]
struct Unserved {
    told: u64,
    at: Option<Time>,
}

impl Unserved {
    /// So many by now, and for so long there has been no quorum, if there is none.
    fn add(&mut self, now: Time, total: u64, read_only: Option<Duration>) -> Option<News> {
        let is_early = self.at.is_some_and(|at| now.since(at) < UNSERVED_TOLD_EVERY);
        let new = total - self.told;
        let lasted = read_only.filter(|_| new > 0 && !is_early)?;
        *self = Unserved { told: total, at: Some(now) };
        let line = format!(
            "{}; requests that need one and were not served: {new}",
            super::read_only(lasted)
        );
        Some(News::Unserved { line })
    }
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
    member: String,
    kept: [Kept; NAMES],
    delay: Longest,
    sync: Longest,
    unserved: Unserved,
}

impl Watchman {
    /// A member that starts at `now` knows of no leader; this is no news.
    pub fn new(now: Time, member: &str) -> Watchman {
        let kept = Name::ALL.map(|name| {
            let standing = match name {
                Name::Quorum => Standing::Broken,
                Name::ClockRate | Name::ClockError => Standing::NotMeasured,
                _ => Standing::Holds,
            };
            Kept { standing, since: now, broken_total: 0, told: false, calm: None }
        });
        let (delay, sync) = (Longest::default(), Longest::default());
        let unserved = Unserved::default();
        Watchman { member: member.to_owned(), kept, delay, sync, unserved }
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
                    let line = consequences(assumption, &self.member, &rows);
                    news.push(News::Broken { line });
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
        let view = View { at: now, measured, assumptions, kept: self.kept, rows };
        news.extend(self.unserved.add(now, measured.unserved, view.read_only_for()));
        (view, news)
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

/// `disk 812 ms > 500 ms on n3: write growth weaker, write delete weaker`.
fn consequences(assumption: &Assumption, member: &str, rows: &[Row]) -> String {
    let mut line = format!("{} on {member}", assumption.line());
    let concerned = rows.iter().filter(|row| row.because == Some(assumption.name));
    let words = concerned.map(|row| {
        let (operation, mode) = row.promise.names();
        format!("{operation} {mode} {}", row.state.text())
    });
    let words = words.collect::<Vec<_>>().join(", ");
    // A row names the gravest of its reasons only.
    let rests = |row: &&Row| row.promise.rests_on().contains(&assumption.name);
    let mut masks: Vec<_> = rows.iter().filter(rests).filter_map(|row| row.because).collect();
    masks.sort_unstable();
    masks.dedup();
    let _ = match (words.is_empty(), masks.is_empty()) {
        (false, _) => write!(line, ": {words}"),
        (true, true) => write!(line, ": nothing that is offered rests on it"),
        (true, false) => {
            let masks = masks.into_iter().map(Name::text).collect::<Vec<_>>().join(", ");
            write!(line, ": what rests on it is less for another reason already: {masks}")
        }
    };
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
        let mut watchman = Watchman::new(at(0), "n3");
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
        let line = "quorum 400 ms > 250 ms (no leader is known) on n3: write growth withdrawn, \
            write delete withdrawn, read linearizable withdrawn, read bounded-staleness weaker, \
            watch ordered weaker, lease keep-alive withdrawn, lease expiry weaker, lock \
            fenced-write withdrawn";
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
    fn what_is_less_already_is_not_called_nothing() {
        let told = |before, after| {
            let mut watchman = calm();
            watchman.look(at(2_200), before, &BOUNDS);
            let (_, news) = watchman.look(at(2_400), after, &BOUNDS);
            let lines = news.into_iter().map(|news| match news {
                News::Broken { line } => line,
                other => panic!("{other:?}"),
            });
            lines.collect::<Vec<_>>()
        };
        let lonely = Measured { leader: None, ..well() };
        let stuck = |measured| Measured { sync: 1_500 * MS, ..measured };
        let line = "disk 1500 ms > 1000 ms on n3: what rests on it is less for another reason \
            already: quorum";
        assert_eq!(told(lonely, stuck(lonely)), [line]);
        let full = Measured { space_alarm: true, ..well() };
        let line = "disk 1500 ms > 1000 ms on n3: write delete weaker";
        assert_eq!(told(full, stuck(full)), [line], "the others have a reason already");
        let cramped = Measured { space_alarm: true, ..lonely };
        let line = "space (an alarm for want of space is active) on n3: what rests on it is less \
            for another reason already: quorum";
        assert_eq!(told(lonely, cramped), [line], "1000 of 2000 bytes are no reason");
        use crate::timekeeping::{ClockBounds, ClockError};
        let clock = ClockBounds { error: ClockError::Within(41 * MS), ..ClockBounds::UNKNOWN };
        let line = "clock-error 41 ms > 20 ms on n3: nothing that is offered rests on it";
        assert_eq!(told(lonely, Measured { clock, ..lonely }), [line]);
    }

    #[test]
    fn requests_without_a_quorum_are_summed_up_with_since_when() {
        let mut watchman = calm();
        let lonely = |unserved| Measured { leader: None, unserved, ..well() };
        watchman.look(at(3_000), lonely(0), &BOUNDS);
        let told = |watchman: &mut Watchman, millis, total| {
            let (_, news) = watchman.look(at(millis), lonely(total), &BOUNDS);
            news.into_iter().find_map(|news| match news {
                News::Unserved { line } => Some(line),
                _ => None,
            })
        };
        assert_eq!(told(&mut watchman, 3_200, 0), None);
        let line = "read-only for 1.5 s: no quorum; requests that need one and were not served: 3";
        assert_eq!(told(&mut watchman, 4_500, 3).as_deref(), Some(line));
        assert_eq!(told(&mut watchman, 5_000, 9), None, "not again and again");
        let line = "read-only for 7.0 s: no quorum; requests that need one and were not served: 7";
        assert_eq!(told(&mut watchman, 10_000, 10).as_deref(), Some(line));
        assert_eq!(told(&mut watchman, 20_000, 10), None, "there were none");
    }

    /// The promise comes back a second later; but who serves does not say that it is read-only.
    #[test]
    fn a_quorum_that_is_back_ends_read_only_at_once() {
        let mut watchman = calm();
        let lonely = Measured { leader: None, ..well() };
        let (view, _) = watchman.look(at(3_000), lonely, &BOUNDS);
        assert_eq!(view.read_only_since(), Some(at(3_000)));
        let (view, _) = watchman.look(at(3_200), well(), &BOUNDS);
        assert_eq!(view.kept[Name::Quorum as usize].standing, Standing::Broken);
        assert_eq!(view.read_only_since(), None);
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
    fn a_clock_that_errs_turns_lease_reads_off_and_nobody_vouches_for_it() {
        use super::super::assumption::Switch;
        use crate::timekeeping::{ClockBounds, ClockError, ClockRate};
        use quorate_protocols::time::dispersion::Ppb;
        let leased = |ms: u32, rate| {
            let error = ClockError::Within(ms * MS);
            let clock = ClockBounds { error, rate, ..ClockBounds::UNKNOWN };
            Measured { clock, lease_reads: Switch::On, ..well() }
        };
        let (good, bad) = (ClockRate::Good(Ppb(9_000)), ClockRate::Bad(Ppb(900_500)));
        let cases = [
            (leased(41, good), "clock-error 41 ms > 20 ms on n3: read lease weaker"),
            (
                leased(3, bad),
                "clock-rate 901 ppm > 200 ppm on n3: read lease weaker, lease expiry weaker",
            ),
        ];
        for (wrong, line) in cases {
            let mut watchman = calm();
            let (view, news) = watchman.look(at(3_000), leased(3, good), &BOUNDS);
            assert_eq!((news, view.clock_vouched_until()), (vec![], Some(at(4_000))));
            let (view, news) = watchman.look(at(3_200), wrong, &BOUNDS);
            assert_eq!(news, [News::Broken { line: line.to_owned() }]);
            assert_eq!(view.clock_vouched_until(), None, "{line}");
            let words = &view.rows[Promise::LeaseRead as usize].words;
            assert!(words.starts_with("lease reads off, read index on"), "{words}");
        }
        let (view, news) = calm().look(at(3_000), leased(3, ClockRate::Unknown), &BOUNDS);
        assert_eq!(
            (news, view.clock_vouched_until()),
            (vec![], None),
            "what is unknown is not good"
        );
    }
}
