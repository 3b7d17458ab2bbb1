//! How long a silence means that the leader is gone, and how fast a cluster is.
//!
//! **Problem.** A timeout is a guess. A fixed one that never errs on a bad day lets everybody wait
//! for a second on a good one.
//!
//! **Idea.** A follower knows how irregularly its leader speaks: the longest silence of the last
//! [`WINDOW`]s contains what the network, the leader's processor and its own have done to it. The
//! leader measures how long a quorum takes to answer, disks included, and tells it in each
//! heartbeat, because an election needs two such answers in a row:
//!
//! ```text
//!    patience = max(2 x longest silence + interval, 5 x pace), within the bounds of the settings
//! ```
//!
//! What was measured long ago says nothing about now, and is forgotten. A campaign that came to
//! nothing doubles the time for the next one (`election.rs`): disks and links may have become slow
//! since there was a leader to learn it from.
//!
//! **Guarantees.** None for safety: an election may always come early or late. A follower that has
//! not listened for a while knows nothing yet, and waits for the longest.
//!
//! **Bounds.** Two windows of silence and two numbers for each follower; whole nanoseconds.
//!
//! Sources: Jacobson, "Congestion Avoidance and Control" (1988), appendix A, for the mean and the
//! deviation; Chen, Toueg and Aguilera, "On the Quality of Service of Failure Detectors" (2002),
//! section 5, for expecting the next sign of life from those before.

use quorate_core::Time;
use std::time::Duration;

/// The longest silence of this time and of the one before it counts.
const WINDOW: Duration = Duration::from_secs(10);
/// Who has not listened for so many of the shortest timeouts knows nothing yet.
const LISTEN_FOR: u32 = 2;
/// What was measured counts for so long: a slow answer of long ago says nothing about now.
const COUNTS_FOR: Duration = Duration::from_secs(20);
/// An election takes two answers of a quorum, and must be likely to end before the next begins.
const PACES: u32 = 5;

/// What a follower knows of how its leader speaks.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Patience {
    shortest: Duration,
    longest: Duration,
    interval: Duration,
    /// The last sign of life, and the first of this leader.
    heard: Option<(Time, Time)>,
    /// Longest silences: of this window, and of the one before.
    silences: [Duration; 2],
    window_began: Time,
    /// As the leader told it.
    pace: Duration,
}

impl Patience {
    /// Between `shortest` and `longest`; equal ones make it fixed.
    pub(super) fn new(shortest: Duration, longest: Duration, interval: Duration) -> Patience {
        Patience {
            shortest: shortest.min(longest),
            longest,
            interval,
            heard: None,
            silences: [Duration::ZERO; 2],
            window_began: Time::default(),
            pace: Duration::ZERO,
        }
    }

    /// The leader gave a sign of life.
    pub(super) fn hear(&mut self, now: Time) {
        let Some((last, first)) = self.heard else {
            self.heard = Some((now, now));
            return;
        };
        if now.since(self.window_began) > WINDOW {
            self.silences = [Duration::ZERO, self.silences[0]];
            self.window_began = now;
        }
        self.silences[0] = self.silences[0].max(now.since(last));
        self.heard = Some((now, first));
    }

    /// The leader told how fast a quorum answers.
    pub(super) fn told(&mut self, pace: Duration) {
        self.pace = pace;
    }

    /// Another leader, or none: its silence says nothing about the next one.
    pub(super) fn forget_leader(&mut self) {
        self.heard = None;
    }

    /// A silence of this length means that the leader is gone.
    pub(super) fn timeout(&self) -> Duration {
        let listened = self.heard.map_or(Duration::ZERO, |(last, first)| last.since(first));
        if listened < self.shortest * LISTEN_FOR && self.silences[1].is_zero() {
            return self.longest;
        }
        let silence = self.longest_silence();
        let wanted = (silence * 2 + self.interval).max(self.pace * PACES);
        wanted.clamp(self.shortest, self.longest)
    }

    /// A planted bug: a silence that was borne once is all that is ever borne.
    pub(super) fn without_margin(&self) -> Duration {
        self.longest_silence().clamp(self.shortest, self.longest)
    }

    fn longest_silence(&self) -> Duration {
        self.silences[0].max(self.silences[1])
    }
}

/// How long something takes, as a mean with its deviation.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Latency {
    mean: Duration,
    deviation: Duration,
}

impl Latency {
    fn add(&mut self, sample: Duration) {
        if *self == Latency::default() {
            *self = Latency { mean: sample, deviation: sample / 2 };
            return;
        }
        let error = self.mean.abs_diff(sample);
        self.deviation = (self.deviation * 3 + error) / 4;
        self.mean = (self.mean * 7 + sample) / 8;
    }

    /// Hardly anything takes longer. Zero if nothing was measured.
    pub(super) fn bound(&self) -> Duration {
        self.mean + self.deviation * 4
    }
}

/// Measures one thing at a time: the first that is begun while none is under way.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Stopwatch {
    running: Option<(u64, Time)>,
    latency: Latency,
    /// When something ended last.
    measured: Option<Time>,
}

impl Stopwatch {
    /// The thing with this number begins.
    pub(super) fn begin(&mut self, number: u64, now: Time) {
        self.running.get_or_insert((number, now));
    }

    /// The same, where what is under way may have been lost: after a while it is given up.
    pub(super) fn begin_anew(&mut self, number: u64, after: Duration, now: Time) {
        if self.elapsed(now) > after {
            self.give_up();
        }
        self.begin(number, now);
    }

    /// Everything up to this number is over.
    pub(super) fn end(&mut self, number: u64, now: Time) {
        if let Some((running, began)) = self.running
            && running <= number
        {
            self.running = None;
            if !self.has_measured_within(COUNTS_FOR, now) {
                self.latency = Latency::default();
            }
            self.latency.add(now.since(began));
            self.measured = Some(now);
        }
    }

    /// What is under way will not end.
    pub(super) fn give_up(&mut self) {
        self.running = None;
    }

    /// For how long the thing that is measured has been under way.
    pub(super) fn elapsed(&self, now: Time) -> Duration {
        self.running.map_or(Duration::ZERO, |(_, began)| now.since(began))
    }

    /// Something ended lately.
    pub(super) fn has_measured_within(&self, time: Duration, now: Time) -> bool {
        self.measured.is_some_and(|at| now.since(at) <= time)
    }

    /// Hardly anything takes longer. Zero if nothing was measured for a while.
    pub(super) fn bound(&self, now: Time) -> Duration {
        match self.has_measured_within(COUNTS_FOR, now) {
            true => self.latency.bound(),
            false => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Time {
        Time::from_nanos(1 + millis * 1_000_000)
    }

    /// Hears a leader at these moments.
    fn listening(moments: impl Iterator<Item = u64>) -> Patience {
        let mut patience = Patience::new(250 * MS, 1_000 * MS, 50 * MS);
        moments.for_each(|millis| patience.hear(at(millis)));
        patience
    }

    #[test]
    fn who_has_not_listened_long_waits_for_the_longest() {
        assert_eq!(listening((0..10).map(|beat| beat * 50)).timeout(), 1_000 * MS);
        assert_eq!(listening((0..100).map(|beat| beat * 50)).timeout(), 250 * MS);
    }

    #[test]
    fn an_irregular_leader_is_given_more_time_for_a_while() {
        let mut patience = listening((0..100).map(|beat| beat * 50));
        patience.hear(at(99 * 50 + 180));
        assert_eq!(patience.timeout(), 410 * MS);
        (1..200).for_each(|beat| patience.hear(at(99 * 50 + 180 + beat * 50)));
        assert_eq!(patience.timeout(), 410 * MS, "the window before counts too");
        (200..600).for_each(|beat| patience.hear(at(99 * 50 + 180 + beat * 50)));
        assert_eq!(patience.timeout(), 250 * MS);
    }

    #[test]
    fn a_slow_cluster_is_given_more_time_and_never_more_than_the_longest() {
        let mut patience = listening((0..100).map(|beat| beat * 50));
        patience.told(80 * MS);
        assert_eq!(patience.timeout(), 400 * MS);
        patience.told(3_600_000 * MS);
        assert_eq!(patience.timeout(), 1_000 * MS);
    }

    #[test]
    fn equal_bounds_make_it_fixed() {
        let mut patience = Patience::new(1_000 * MS, 1_000 * MS, 100 * MS);
        (0..1_000).for_each(|beat| patience.hear(at(beat * 100)));
        assert_eq!(patience.timeout(), 1_000 * MS);
    }

    #[test]
    fn another_leader_is_not_blamed_for_the_time_between() {
        let mut patience = listening((0..100).map(|beat| beat * 50));
        patience.forget_leader();
        (0..100).for_each(|beat| patience.hear(at(60_000 + beat * 50)));
        assert_eq!(patience.timeout(), 250 * MS);
    }

    #[test]
    fn a_stopwatch_measures_one_thing_at_a_time() {
        let mut watch = Stopwatch::default();
        watch.begin(7, at(0));
        watch.begin(8, at(5));
        watch.end(6, at(6));
        assert_eq!(watch.elapsed(at(9)), 9 * MS);
        watch.end(9, at(10));
        assert_eq!((watch.elapsed(at(11)), watch.bound(at(11))), (Duration::ZERO, 30 * MS));
        for step in 0..100 {
            watch.begin(step, at(step * 100));
            watch.end(step, at(step * 100 + 10));
        }
        let bound = watch.bound(at(10_000));
        assert!(bound < 11 * MS, "{bound:?}");
        assert_eq!(watch.bound(at(31_000)), Duration::ZERO, "that was long ago");
    }

    #[test]
    fn an_answer_that_was_lost_is_no_slow_one() {
        let mut watch = Stopwatch::default();
        watch.begin_anew(1, 1_000 * MS, at(0));
        watch.begin_anew(2, 1_000 * MS, at(500));
        assert_eq!(watch.elapsed(at(600)), 600 * MS);
        watch.begin_anew(3, 1_000 * MS, at(60_000));
        watch.end(3, at(60_010));
        assert_eq!(watch.bound(at(60_010)), 30 * MS);
    }
}
