//! The exchange of four timestamps: what one question and one answer say about the true time.
//!
//! **Problem.** A server says what time it is, and the answer is old when it arrives. How old,
//! nobody can measure: only the round trip has one clock at both of its ends.
//!
//! **Model.** Messages may take any time, each way another. The server's reading is off by at most
//! what the server says of itself; the asker's clock keeps its [`DriftBound`].
//!
//! **Idea.** The true time at the arrival of the answer is not before the server's last reading,
//! and not after its first one plus the whole round trip. Half of the round trip, less the time for
//! which the server held the question, is therefore a bound on the error, and the middle is the
//! best guess.
//!
//! ```text
//!   server           received --- answered            delay  = (arrived - sent)
//!                   /                     \                    - (answered - received)
//!   asker      sent                        arrived    error <= delay / 2 + what the server admits
//! ```
//!
//! The guess `server time + delay / 2` alone is right on symmetric paths only; its error is as
//! large as half of the delay, and no exchange of messages can make it smaller (Lundelius and
//! Lynch 1984). So the interval is kept, not the point.
//!
//! Of the last [`SAMPLES_MAX`] exchanges with one server the one with the smallest error *now* is
//! the best: little delay, if it is not too long ago ([`Filter`]).
//!
//! **Guarantees.** *Soundness*: if the server's claim was right, [`Sample::interval`] contains the
//! true time at every later instant, whatever the paths were like. *No less is possible* of what
//! no honest server can have said: [`BadExchange`] refuses it.
//!
//! **Source.** Mills et al., RFC 5905 (2010), sections 8 (on-wire protocol) and 10 (clock filter).

use super::dispersion::DriftBound;
use crate::clocks::interval::TimeInterval;
use quorate_core::{Offset, Time, WallTime};
use std::fmt;
use std::time::Duration;

/// Exchanges with one server of which the best is taken.
pub const SAMPLES_MAX: usize = 8;

/// Offset and delay of the textbook, from four readings of wall clocks: how far the server is
/// ahead of the asker if both ways are equally long, and how long both are together.
///
/// Unit of the delay: nanoseconds; negative if the readings cannot be right.
pub fn offset_and_delay(
    sent: WallTime,
    received: WallTime,
    answered: WallTime,
    arrived: WallTime,
) -> (Offset, i128) {
    let nanos = |time: WallTime| i128::from(time.as_nanos());
    let there = nanos(received) - nanos(sent);
    let back = nanos(answered) - nanos(arrived);
    let offset = (there + back) / 2;
    let offset = offset.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64;
    (Offset::from_nanos(offset), there - back)
}

/// One question and its answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Exchange {
    /// When the question left, by the clock of the asker.
    pub sent: Time,
    /// When it reached the server, by the server.
    pub received: WallTime,
    /// When the answer left, by the server.
    pub answered: WallTime,
    /// When it arrived, by the clock of the asker.
    pub arrived: Time,
    /// How far the server's readings may be off, as it says itself.
    pub error: Duration,
}

/// What no honest server can have answered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum BadExchange {
    /// The answer arrived before the question was sent.
    ArrivedBeforeSent,
    /// The answer left before the question was received.
    AnsweredBeforeReceived,
    /// The server claims to have held the question for longer than the asker waited.
    HeldTooLong {
        /// By so much, beyond every error that is admitted.
        by: Duration,
    },
}

impl fmt::Display for BadExchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadExchange::ArrivedBeforeSent => {
                f.write_str("the answer arrived before its question was sent; check the clock here")
            }
            BadExchange::AnsweredBeforeReceived => {
                f.write_str("the source answered before it was asked; leave it out")
            }
            BadExchange::HeldTooLong { by } => write!(
                f,
                "the source claims to have held the question {by:?} longer than the whole exchange \
                 took; leave it out"
            ),
        }
    }
}

impl std::error::Error for BadExchange {}

impl Exchange {
    /// What it says about the true time.
    ///
    /// Errors: no honest server can have answered that.
    pub fn sample(&self, drift: DriftBound) -> Result<Sample, BadExchange> {
        if self.arrived < self.sent {
            return Err(BadExchange::ArrivedBeforeSent);
        }
        if self.answered < self.received {
            return Err(BadExchange::AnsweredBeforeReceived);
        }
        let round_trip = self.arrived.since(self.sent);
        let drifted = drift.dispersion(round_trip);
        let nanos = |duration: Duration| duration.as_nanos() as i128;
        let earliest = i128::from(self.answered.as_nanos());
        let latest = i128::from(self.received.as_nanos()) + nanos(round_trip);
        let admitted = 2 * nanos(self.error) + nanos(drifted);
        if latest + admitted < earliest {
            let by = u64::try_from(earliest - latest - admitted).unwrap_or(u64::MAX);
            return Err(BadExchange::HeldTooLong { by: Duration::from_nanos(by) });
        }
        let delay = u64::try_from((latest - earliest).max(0)).unwrap_or(u64::MAX);
        let middle = ((earliest + latest) >> 1).min(i128::from(i64::MAX));
        Ok(Sample {
            at: self.arrived,
            reading: WallTime::from_nanos(middle as i64),
            delay: Duration::from_nanos(delay),
            drifted,
            error: self.error,
        })
    }
}

/// What was known of the true time at one instant, and how well.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Sample {
    /// When, by the clock of the asker.
    pub at: Time,
    /// The best guess at the true time then.
    pub reading: WallTime,
    /// The round trip, less what the server needed for its answer.
    pub delay: Duration,
    /// By how much the asker's clock may have gone wrong during the exchange.
    pub drifted: Duration,
    /// How far the server may be off, as it says itself.
    pub error: Duration,
}

/// How wrong a reading may be, and why.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ErrorSplit {
    /// Half of the delay: nobody knows how it was shared between the two ways.
    pub delay: Duration,
    /// What the clock here may have gone wrong since.
    pub drift: Duration,
    /// What the source admits of itself: its dispersion, that of its own sources included.
    pub dispersion: Duration,
}

impl ErrorSplit {
    /// All of it.
    pub fn total(&self) -> Duration {
        self.delay.saturating_add(self.drift).saturating_add(self.dispersion)
    }
}

impl Sample {
    /// A reading that needed no message: of a clock that is at hand.
    pub fn at_hand(at: Time, reading: WallTime, error: Duration) -> Sample {
        Sample { at, reading, delay: Duration::ZERO, drifted: Duration::ZERO, error }
    }

    /// How wrong it may be when it is `age` old.
    pub fn split(&self, age: Duration, drift: DriftBound) -> ErrorSplit {
        ErrorSplit {
            delay: Duration::from_nanos((self.delay.as_nanos() as u64).div_ceil(2)),
            drift: self.drifted.saturating_add(drift.dispersion(age)),
            dispersion: self.error,
        }
    }

    /// What it says of the true time when it is `age` old.
    pub fn interval(&self, age: Duration, drift: DriftBound) -> TimeInterval {
        TimeInterval::around(self.reading.later(age), self.split(age, drift).total())
    }
}

/// The last samples of one source.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Filter {
    samples: Vec<Sample>,
}

impl Filter {
    /// One more. Beyond [`SAMPLES_MAX`] the oldest goes.
    pub fn push(&mut self, sample: Sample) {
        if self.samples.len() == SAMPLES_MAX {
            self.samples.remove(0);
        }
        self.samples.push(sample);
    }

    /// Those that are kept, oldest first.
    pub fn samples(&self) -> &[Sample] {
        &self.samples
    }

    /// The one that says most about the true time at `now`; of equals, the latest.
    pub fn best(&self, now: Time, drift: DriftBound) -> Option<&Sample> {
        let error = |sample: &&Sample| sample.split(now.since(sample.at), drift).total();
        self.samples.iter().rev().min_by_key(error)
    }

    /// Panics: if more is kept than should be.
    pub fn invariants(&self) {
        assert!(self.samples.len() <= SAMPLES_MAX, "{} samples", self.samples.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wall(nanos: i64) -> WallTime {
        WallTime::from_nanos(nanos)
    }

    fn nanos(nanos: u64) -> Duration {
        Duration::from_nanos(nanos)
    }

    /// RFC 5905, section 8: offset ((T2 - T1) + (T3 - T4)) / 2, delay (T4 - T1) - (T3 - T2).
    #[test]
    fn offset_and_delay_of_the_textbook() {
        let (offset, delay) = offset_and_delay(wall(100), wall(620), wall(630), wall(150));
        assert_eq!((offset, delay), (Offset::from_nanos(500), 40));
        let (_, delay) = offset_and_delay(wall(100), wall(600), wall(900), wall(150));
        assert!(delay < 0, "no server holds a question for longer than the exchange takes");
        offset_and_delay(WallTime::MIN, WallTime::MAX, WallTime::MIN, WallTime::MAX);
    }

    fn exchange(answered: i64) -> Exchange {
        Exchange {
            sent: Time::from_nanos(1_000),
            received: wall(5_000),
            answered: wall(answered),
            arrived: Time::from_nanos(1_400),
            error: nanos(10),
        }
    }

    #[test]
    fn half_of_the_delay_is_the_error() {
        let sample = exchange(5_100).sample(DriftBound::new(0)).expect("a good exchange");
        assert_eq!(sample.delay, nanos(300));
        assert_eq!(sample.reading, wall(5_250));
        let split = sample.split(nanos(0), DriftBound::new(0));
        assert_eq!(
            (split.delay, split.dispersion, split.total()),
            (nanos(150), nanos(10), nanos(160))
        );
    }

    #[test]
    fn what_no_honest_server_says_is_refused_and_named() {
        let drift = DriftBound::new(0);
        assert_eq!(exchange(4_999).sample(drift), Err(BadExchange::AnsweredBeforeReceived));
        assert!(exchange(5_420).sample(drift).is_ok(), "within what the server admits");
        let held = exchange(5_421).sample(drift).expect_err("longer than the exchange");
        assert_eq!(held, BadExchange::HeldTooLong { by: nanos(1) });
        assert!(held.to_string().contains("leave it out"), "{held}");
        let early = Exchange { arrived: Time::from_nanos(999), ..exchange(5_100) };
        assert_eq!(early.sample(drift), Err(BadExchange::ArrivedBeforeSent));
        let absurd = Exchange {
            received: WallTime::MIN,
            answered: WallTime::MAX,
            error: Duration::MAX,
            ..exchange(0)
        };
        assert!(absurd.sample(drift).is_ok(), "who admits everything says nothing");
        let later = Exchange { received: WallTime::MAX, answered: WallTime::MAX, ..exchange(0) };
        let sample = later.sample(drift).expect("the end of time is a time");
        assert_eq!(sample.interval(Duration::MAX, drift).latest(), WallTime::MAX);
    }

    #[test]
    fn little_delay_wins_until_it_is_too_old() {
        let mut filter = Filter::default();
        let drift = DriftBound::default();
        let mut sample = |second: u64, delay: u64| {
            let at = Time::from_nanos(second * 1_000_000_000);
            let delay = Duration::from_micros(delay);
            filter.push(Sample { delay, ..Sample::at_hand(at, wall(0), Duration::ZERO) });
            filter.best(at, drift).expect("a sample").at.as_nanos() / 1_000_000_000
        };
        // 200 ppm are 200 us in a second, and half of the delay counts.
        assert_eq!(sample(0, 1_000), 0);
        assert_eq!(sample(1, 2_000), 0);
        assert_eq!(sample(2, 2_000), 0, "500 + 400 against 1000");
        assert_eq!(sample(3, 2_000), 3, "500 + 600 against 1000");
        for second in 4..20 {
            sample(second, 9_000);
        }
        assert_eq!(filter.samples().len(), SAMPLES_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100_000))]

        /// Whatever the paths are like, and however the clocks drift within their bounds.
        #[test]
        fn the_true_time_is_within_the_interval(
            (there, held, back, age) in
                (0u64..1 << 36, 0u64..1 << 34, 0u64..1 << 36, 0u64..1 << 46),
            (error, off_1, off_2) in (0i64..1 << 30, -100i64..=100, -100i64..=100),
            rate in -200_000i64..=200_000,
        ) {
            let truth = 1i64 << 60;
            // The clock of the asker at a true time since it sent, either end of the rounding.
            let local = |since: u64| {
                let drifted = i128::from(since) * i128::from(rate) / 1_000_000_000;
                Time::from_nanos((7_000 + i128::from(since) + drifted) as u64)
            };
            let exchange = Exchange {
                sent: local(0),
                received: wall(truth + there as i64 + error * off_1 / 100),
                answered: wall(truth + (there + held) as i64 + error * off_2 / 100),
                arrived: local(there + held + back),
                error: nanos(error as u64),
            };
            let bound = DriftBound::of_data_sheet(200_000);
            // A server that is off another way each time may seem to answer early: it is refused.
            if exchange.answered < exchange.received {
                return Ok(());
            }
            let sample = exchange.sample(bound).expect("an honest server");
            let since = there + held + back + age;
            let waited = local(since).since(sample.at);
            // Reading the clock loses up to a nanosecond at each end.
            let interval = sample.interval(waited, bound).aged(nanos(0), nanos(2));
            prop_assert!(interval.contains(wall(truth + since as i64)), "{interval:?}");
        }
    }
}
