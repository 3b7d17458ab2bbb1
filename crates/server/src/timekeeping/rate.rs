//! How fast the clock here runs beside those of the peers: whether anybody may rest on it.
//!
//! **Problem.** Whoever counts on two clocks running equally fast is wrong as soon as one of them
//! does not, and no clock can tell of itself. What it shows says nothing about it, either: a clock
//! that is an hour off may run perfectly, and one that is right may be running away.
//!
//! **Idea.** Each exchange with a peer says how far its clock is ahead of ours, within half of the
//! delay. Two exchanges, a span apart, bound the rate at which the two run apart:
//!
//! ```text
//!   ahead   |        [====]             steepest: from the top of the first to the bottom of the
//!           | [====]                    last; the rate lies between that and the other diagonal
//!           +-----span-----> time
//! ```
//!
//! A peer *agrees* if the whole interval lies within the bound, and *contradicts* if any two of its
//! exchanges prove that the bound was exceeded between them. So many must agree that a quorum is
//! complete with this member, and no fewer than contradict; then the clock here is *good*. It is
//! *bad* if more contradict than agree. Anything else is not known: whoever must rest on the rate
//! must wait until it is.
//!
//! **Guarantees.** *No proof without exchanges:* whoever was not heard lately does not agree. *A
//! clock that runs off is found out* by the first two exchanges between which it gained more than
//! both of their errors and the bound; about 2 seconds apart on a quiet link. What is measured is a
//! mean: a clock that runs off and back within a span is not seen.
//!
//! **Bounds.** [`SEEN_MAX`] exchanges per peer, one in [`SPACING`] at most. A wall clock that is
//! set at a peer looks like a rate; it counts against the two until it has left the window.
//!
//! **Source.** Mills et al., RFC 5905 (2010), section 11.3, for the rate from two offsets; Gray and
//! Cheriton, "Leases" (1989), section 5, for what rests on it.

use quorate_core::{NodeId, Time};
use quorate_protocols::time::dispersion::{DriftBound, Ppb};
use quorate_protocols::time::exchange::Sample;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Exchanges with one peer that are kept.
const SEEN_MAX: usize = 32;
/// Of exchanges within this time the best is kept.
const SPACING: Duration = Duration::from_secs(2);
/// A peer that was not heard for so many polls says nothing.
const POLLS_MISSED: u32 = 4;

const BILLION: i128 = 1_000_000_000;

/// What is known of the rate of the clock here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClockRate {
    /// It runs apart from those of enough peers by at most so much.
    Good(Ppb),
    /// More peers contradict it than agree: it runs apart by at least so much.
    Bad(Ppb),
    /// Too few peers were heard, or not for long enough.
    Unknown,
}

/// How far the clock of a peer was ahead of ours.
#[derive(Clone, Copy, Debug)]
struct Seen {
    at: Time,
    /// Unit: nanoseconds, since whichever instant.
    ahead: i128,
    /// Give or take so much. Unit: nanoseconds.
    slack: i128,
}

/// What one peer says of our rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    /// The clocks run apart by at most so much.
    Agrees(Ppb),
    /// By at least so much.
    Contradicts(Ppb),
    Nothing,
}

/// Compares the rate of the clock here with those of the peers.
#[derive(Debug)]
pub(super) struct RateWatch {
    peers: BTreeMap<NodeId, VecDeque<Seen>>,
    bound: Ppb,
    fresh: Duration,
    /// With so many peers a quorum is complete.
    needed: usize,
}

impl RateWatch {
    /// Compares with so many peers, asked that often; clocks may run apart by `bound`.
    pub(super) fn new(peers: usize, poll: Duration, bound: DriftBound) -> RateWatch {
        let fresh = poll.max(SPACING) * POLLS_MISSED;
        RateWatch { peers: BTreeMap::new(), bound: bound.ppb(), fresh, needed: peers.div_ceil(2) }
    }

    /// A peer was heard.
    pub(super) fn note(&mut self, peer: NodeId, sample: &Sample) {
        let now = i128::from(sample.at.as_nanos());
        let ahead = i128::from(sample.reading.as_nanos()) - now;
        let slack = (sample.delay.as_nanos() as i128 + 1) / 2 + 1;
        let new = Seen { at: sample.at, ahead, slack };
        let seen = self.peers.entry(peer).or_default();
        let period = |seen: &Seen| seen.at.as_nanos() / SPACING.as_nanos() as u64;
        match seen.back_mut() {
            Some(last) if period(last) == period(&new) => {
                if new.slack < last.slack {
                    *last = new;
                }
            }
            _ => seen.push_back(new),
        }
        if seen.len() > SEEN_MAX {
            seen.pop_front();
        }
    }

    /// The clock here has lost count: what was seen before says nothing.
    pub(super) fn forget(&mut self) {
        self.peers.clear();
    }

    #[cfg(test)]
    pub(super) fn peers_heard(&self) -> usize {
        self.peers.len()
    }

    /// What all peers say together at `now`.
    pub(super) fn rate(&self, now: Time) -> ClockRate {
        let (mut agree, mut contradict) = (Vec::new(), Vec::new());
        for seen in self.peers.values() {
            match self.word(seen, now) {
                Word::Agrees(apart) => agree.push(apart),
                Word::Contradicts(apart) => contradict.push(apart),
                Word::Nothing => {}
            }
        }
        let (agreeing, contradicting) = (agree.len(), contradict.len());
        // Who has no peers has nobody to compare with.
        if self.needed > 0 && agreeing >= self.needed && agreeing >= contradicting {
            return ClockRate::Good(agree.into_iter().max().unwrap_or_default());
        }
        match contradict.into_iter().max() {
            Some(apart) if contradicting > agreeing => ClockRate::Bad(apart),
            _ => ClockRate::Unknown,
        }
    }

    fn word(&self, seen: &VecDeque<Seen>, now: Time) -> Word {
        let (Some(first), Some(last)) = (seen.front(), seen.back()) else { return Word::Nothing };
        if now.since(last.at) > self.fresh {
            return Word::Nothing;
        }
        let pairs = seen.iter().enumerate().flat_map(|(at, early)| {
            seen.range(at + 1..).filter_map(|late| apart(early, late)).map(|(least, _)| least)
        });
        if let Some(least) = pairs.filter(|least| *least > self.bound).max() {
            return Word::Contradicts(least);
        }
        let middle = first.at.after(last.at.since(first.at) / 2);
        let early = seen.iter().filter(|seen| seen.at <= middle).min_by_key(|seen| seen.slack);
        let late = seen.iter().rev().filter(|seen| seen.at > middle).min_by_key(|seen| seen.slack);
        let most = early.zip(late).and_then(|(early, late)| apart(early, late));
        match most {
            Some((_, most)) if most <= self.bound => Word::Agrees(most),
            _ => Word::Nothing,
        }
    }
}

/// At which rate two clocks ran apart between these, at least and at most; none if they are at the
/// same instant.
fn apart(early: &Seen, late: &Seen) -> Option<(Ppb, Ppb)> {
    let span = i128::from(late.at.as_nanos()) - i128::from(early.at.as_nanos());
    if span <= 0 {
        return None;
    }
    let (gained, slop) = ((late.ahead - early.ahead).abs(), early.slack + late.slack);
    let ppb = |nanos: i128| Ppb(i64::try_from(nanos).unwrap_or(i64::MAX));
    let least = (gained - slop).max(0).saturating_mul(BILLION) / span;
    let most = (gained + slop).saturating_mul(BILLION) / span + 1;
    Some((ppb(least), ppb(most)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::WallTime;

    const SECOND: u64 = 1_000_000_000;
    const POLL: Duration = Duration::from_secs(2);

    fn at(second: u64) -> Time {
        Time::from_nanos(second * SECOND)
    }

    /// What a peer says whose clock is off by that rate, in an exchange that took `delay_us` and
    /// whose ways are as unequal as can be, now this way, now that.
    fn sample(second: u64, ppm: i64, delay_us: i64) -> Sample {
        let skew = if second % 4 < 2 { delay_us * 500 } else { -delay_us * 500 };
        let wall = (second * SECOND) as i64 + second as i64 * ppm * 1_000 + skew;
        let delay = Duration::from_micros(delay_us as u64);
        Sample {
            delay,
            ..Sample::at_hand(at(second), WallTime::from_nanos(wall), Duration::from_secs(16))
        }
    }

    /// One that has heard peers with these rates for so long.
    fn watch(peers: &[i64], seconds: u64, delay_us: i64) -> RateWatch {
        let mut watch = RateWatch::new(peers.len(), POLL, DriftBound::default());
        for second in (0..seconds).step_by(2) {
            for (peer, ppm) in (1..).zip(peers) {
                watch.note(NodeId(peer), &sample(second, *ppm, delay_us));
            }
        }
        watch
    }

    fn told(peers: &[i64], seconds: u64, delay_us: i64) -> ClockRate {
        watch(peers, seconds, delay_us).rate(at(seconds))
    }

    fn is_good(rate: ClockRate) -> bool {
        matches!(rate, ClockRate::Good(_))
    }

    #[test]
    fn clocks_that_keep_the_bound_agree_once_that_can_be_known() {
        assert_eq!(told(&[0, 50], 2, 200), ClockRate::Unknown, "one exchange is none");
        for ppm in [-150, 0, 50, 150] {
            let ClockRate::Good(Ppb(apart)) = told(&[ppm, ppm], 60, 200) else {
                panic!("{ppm} ppm are within the bound")
            };
            assert!(apart >= ppm.abs() * 1_000 && apart <= 200_000, "{apart}");
        }
        assert_eq!(told(&[0, 0], 20, 50_000), ClockRate::Unknown, "delays of 50 ms say too little");
    }

    #[test]
    fn a_clock_that_runs_off_is_contradicted_within_seconds() {
        for ppm in [-1_000, 1_000, 500_000] {
            let ClockRate::Bad(Ppb(apart)) = told(&[ppm, ppm], 4, 200) else {
                panic!("{ppm} ppm are beyond the bound")
            };
            assert!(apart > 200_000 && apart <= ppm.abs() * 1_000, "{apart}");
        }
        // The truth is never contradicted, however unequal the ways are.
        for ppm in [-199, 199] {
            assert!(!matches!(told(&[ppm, ppm], 60, 5_000), ClockRate::Bad(_)));
        }
    }

    #[test]
    fn a_clock_that_begins_to_run_off_is_good_no_longer() {
        let mut watch = watch(&[0, 0], 60, 200);
        assert!(is_good(watch.rate(at(60))));
        for second in [60, 62, 64] {
            for peer in [1, 2].map(NodeId) {
                let mut sample = sample(second, 0, 200);
                let gained = (second - 58) * 1_000_000;
                sample.reading = sample.reading.later(Duration::from_nanos(gained));
                watch.note(peer, &sample);
            }
        }
        assert!(matches!(watch.rate(at(64)), ClockRate::Bad(_)), "{:?}", watch.rate(at(64)));
    }

    #[test]
    fn one_bad_peer_is_the_one_that_is_wrong_and_a_majority_is_right() {
        assert!(is_good(told(&[0, 1_000], 60, 200)), "a quorum agrees");
        assert!(matches!(told(&[1_000], 60, 200), ClockRate::Bad(_)), "of two nobody knows who");
        assert!(matches!(told(&[1_000, 1_000, 1_000, 0], 60, 200), ClockRate::Bad(_)));
        assert!(is_good(told(&[0, 0, 1_000, 1_000], 60, 200)));
        assert_eq!(told(&[], 60, 200), ClockRate::Unknown, "alone there is nobody to ask");
    }

    /// Who agreed once does not agree for ever: the planted mistake of a monitor that grants.
    #[test]
    fn who_is_not_heard_any_more_says_nothing() {
        let watch = watch(&[0, 0], 60, 200);
        assert!(is_good(watch.rate(at(65))));
        assert_eq!(watch.rate(at(67)), ClockRate::Unknown);
        let mut watch = watch;
        watch.forget();
        assert_eq!(watch.rate(at(60)), ClockRate::Unknown);
    }

    #[test]
    fn only_so_many_exchanges_are_kept_and_of_those_that_are_close_the_best() {
        let mut watch = RateWatch::new(1, POLL, DriftBound::default());
        for tenth in 0..10_000_u64 {
            let mut sample = sample(0, 0, if tenth % 20 == 7 { 10 } else { 900 });
            sample.at = Time::from_nanos(tenth * SECOND / 10);
            watch.note(NodeId(1), &sample);
        }
        let seen = &watch.peers[&NodeId(1)];
        assert_eq!(seen.len(), SEEN_MAX);
        assert!(seen.iter().all(|seen| seen.slack == 5_001), "{seen:?}");
    }
}
