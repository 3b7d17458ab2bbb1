//! What history is kept: which revision is to be compacted, and when.
//!
//! ```text
//!   periodic(P)    every P (every hour if P is longer) to the revision of P ago; the revisions are
//!                  noted every tenth of that
//!   revision(N)    every five minutes to the latest revision less N
//! ```
//!
//! Only the leader compacts, but every member notes: a new leader knows what the revision was some
//! time ago. What fails is tried again at the next note, with the revision of then.
//!
//! Source: etcd `server/etcdserver/api/v3compactor/{periodic,revision}.go`.

use crate::config::AutoCompaction;
use quorate_replica::store::Revision;
use std::collections::VecDeque;
use std::time::Duration;

/// A longer period is worked off in steps of this.
const STEP_MAX: Duration = Duration::from_secs(60 * 60);
/// Revisions are noted so often within a step.
const NOTES_PER_STEP: u32 = 10;
/// How often a number of revisions is looked at.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// When to compact what.
#[derive(Clone, Debug)]
pub(super) struct History {
    mode: AutoCompaction,
    /// Revisions of the last notes, oldest first: those of one period and one more.
    noted: VecDeque<Revision>,
    /// When the next note is due; as all times since the start of this member.
    next_note: Duration,
    /// When the last compaction succeeded.
    succeeded: Duration,
    /// The wait before the next compaction: a whole period first, then a step.
    wait: Duration,
    last: Revision,
}

impl History {
    pub(super) fn new(mode: AutoCompaction) -> History {
        let wait = match mode {
            AutoCompaction::Periodic(period) => period,
            AutoCompaction::Revision(_) => Duration::ZERO,
        };
        let noted = VecDeque::new();
        let (next_note, succeeded) = (Duration::ZERO, Duration::ZERO);
        History { mode, noted, next_note, succeeded, wait, last: Revision(0) }
    }

    /// Time between two notes.
    pub(super) fn interval(&self) -> Duration {
        let interval = match self.mode {
            AutoCompaction::Periodic(period) => period.min(STEP_MAX) / NOTES_PER_STEP,
            AutoCompaction::Revision(_) => REVISION_INTERVAL,
        };
        interval.max(Duration::from_millis(1))
    }

    /// Notes the revision if it is time for it; the answer is what to compact now.
    pub(super) fn look(
        &mut self,
        now: Duration,
        revision: Revision,
        leads: bool,
    ) -> Option<Revision> {
        if now < self.next_note {
            return None;
        }
        let first = self.noted.is_empty();
        self.next_note = now + self.interval();
        let wanted = match self.mode {
            AutoCompaction::Periodic(_) => self.noted.front().copied(),
            AutoCompaction::Revision(kept) => revision.0.checked_sub(kept).map(Revision),
        };
        self.note(revision);
        let due = now.saturating_sub(self.succeeded) >= self.wait;
        wanted.filter(|wanted| {
            let fresh = *wanted > Revision(0) && *wanted != self.last;
            leads && due && fresh && !first
        })
    }

    /// What was wanted is compacted.
    pub(super) fn done(&mut self, now: Duration, revision: Revision) {
        self.last = revision;
        self.succeeded = now;
        if let AutoCompaction::Periodic(period) = self.mode {
            self.wait = period.min(STEP_MAX);
        }
    }

    fn note(&mut self, revision: Revision) {
        let kept = match self.mode {
            AutoCompaction::Periodic(period) => {
                let notes = period.as_nanos() / self.interval().as_nanos();
                usize::try_from(notes).unwrap_or(usize::MAX)
            }
            AutoCompaction::Revision(_) => 1,
        };
        self.noted.push_back(revision);
        while self.noted.len() > kept.max(1) {
            self.noted.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Lets one member look every second for so long, the revision being the minute; answers with
    /// the minutes at which it compacted, and to what.
    fn run(history: &mut History, minutes: std::ops::Range<u32>, leads: bool) -> Vec<(u64, u64)> {
        let mut compacted = Vec::new();
        for second in minutes.start * 60..minutes.end * 60 {
            let now = Duration::from_secs(second.into());
            let revision = Revision(u64::from(second) / 60 + 1);
            if let Some(wanted) = history.look(now, revision, leads) {
                compacted.push((u64::from(second) / 60, wanted.0));
                history.done(now, wanted);
            }
        }
        compacted
    }

    #[test]
    fn a_period_is_kept_and_the_rest_goes_once_a_period() {
        let mut history = History::new(AutoCompaction::Periodic(10 * MINUTE));
        assert_eq!(history.interval(), MINUTE);
        let compacted = run(&mut history, 0..31, true);
        assert_eq!(compacted, [(10, 1), (20, 11), (30, 21)]);
    }

    #[test]
    fn a_long_period_is_waited_for_once_and_then_worked_off_hourly() {
        let mut history = History::new(AutoCompaction::Periodic(3 * STEP_MAX));
        assert_eq!(history.interval(), 6 * MINUTE);
        let compacted = run(&mut history, 0..301, true);
        assert_eq!(compacted, [(180, 1), (240, 61), (300, 121)]);
    }

    #[test]
    fn a_new_leader_goes_on_with_what_it_noted_as_a_follower() {
        let mut history = History::new(AutoCompaction::Periodic(10 * MINUTE));
        assert_eq!(run(&mut history, 0..25, false), []);
        assert_eq!(run(&mut history, 25..36, true), [(25, 16), (35, 26)]);
    }

    #[test]
    fn what_failed_is_tried_again_at_the_next_note() {
        let mut history = History::new(AutoCompaction::Periodic(10 * MINUTE));
        run(&mut history, 0..10, true);
        let look = |history: &mut History, minute: u32| {
            history.look(minute * MINUTE, Revision(u64::from(minute) + 1), true)
        };
        assert_eq!(look(&mut history, 10), Some(Revision(1)));
        assert_eq!(look(&mut history, 11), Some(Revision(2)), "nobody said that it was done");
        history.done(11 * MINUTE, Revision(2));
        assert_eq!(look(&mut history, 12), None);
    }

    #[test]
    fn a_store_without_writes_is_left_alone() {
        let mut history = History::new(AutoCompaction::Periodic(10 * MINUTE));
        for minute in 0..40 {
            let wanted = history.look(minute * MINUTE, Revision(7), true);
            assert_eq!(wanted, if minute == 10 { Some(Revision(7)) } else { None }, "{minute}");
            if let Some(wanted) = wanted {
                history.done(minute * MINUTE, wanted);
            }
        }
    }

    #[test]
    fn a_number_of_revisions_is_kept() {
        let mut history = History::new(AutoCompaction::Revision(20));
        assert_eq!(run(&mut history, 0..31, true), [(20, 1), (25, 6), (30, 11)]);
        let mut few = History::new(AutoCompaction::Revision(100));
        assert_eq!(run(&mut few, 0..31, true), []);
    }

    #[test]
    fn the_notes_are_bounded_and_tiny_periods_do_not_spin() {
        let mut history = History::new(AutoCompaction::Periodic(2_000 * STEP_MAX));
        for note in 0..40_000 {
            history.look(note * 6 * MINUTE, Revision(note.into()), false);
        }
        assert_eq!(history.noted.len(), 20_000, "ten an hour");
        let tiny = History::new(AutoCompaction::Periodic(Duration::from_nanos(1)));
        assert_eq!(tiny.interval(), Duration::from_millis(1));
    }
}
