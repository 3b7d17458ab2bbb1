//! One detector on one trace.
//!
//! Mistakes are counted from what arrives: each time that a deadline passed before the next arrival
//! is one. Detection times are those of crashes at [`CRASHES`] instants, spread over the trace and
//! over the period between two heartbeats: what left before the crash still arrives, nothing else,
//! and the last deadline counts.

use super::subjects::{Detector, Watch};
use super::{SECOND, Trace};
use serde::Serialize;

/// Heartbeats before anything counts: windows fill.
const WARM: usize = 150;
/// Instants at which a crash is tried.
pub const CRASHES: usize = 400;
/// Messages that may overtake each other, at most; what is later than that is missed by a crash.
const OVERTAKE_MAX: usize = 256;

/// What Chen, Toueg and Aguilera measure. Unit: seconds, unless named.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Quality {
    /// The mean detection time.
    pub detection_mean: f64,
    /// 99 of 100 crashes are detected within this.
    pub detection_p99: f64,
    /// All are.
    pub detection_max: f64,
    /// Mistakes.
    pub mistakes: u64,
    /// Mistakes in an hour.
    pub mistakes_per_hour: f64,
    /// How long one lasts, on average; 0 without any.
    pub mistake_duration: f64,
    /// The share of time in which the peer, which lives, is trusted.
    pub query_accuracy: f64,
}

/// A message that arrived.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    at: u64,
    number: u64,
    sent: u64,
}

/// The trace as one detector sees it, in the order of arrival.
#[derive(Debug)]
pub struct Replay {
    every: u64,
    arrivals: Vec<Arrival>,
    crashes: Vec<u64>,
    /// Where in the arrivals each crash is.
    places: Vec<usize>,
}

impl Replay {
    /// What `detector` sees of the trace: traffic sees every message, the others heartbeats only.
    pub fn new(trace: &Trace, detector: Detector) -> Replay {
        let step = if detector == Detector::Traffic { 1 } else { trace.per };
        let sent = (0..trace.delays.len()).step_by(step).map(|index| trace.sent(index));
        let delays = trace.delays.iter().step_by(step);
        let arrived = delays.zip(sent).zip(0..).filter_map(|((delay, sent), number)| {
            delay.map(|delay| Arrival { at: sent + delay, number, sent })
        });
        let mut arrivals: Vec<Arrival> = arrived.collect();
        arrivals.sort_by_key(|arrival| (arrival.at, arrival.number));
        let crashes = crashes(trace);
        let place = |crash: &u64| {
            let begin = arrivals.partition_point(|arrival| arrival.at < *crash);
            let first_lost = arrivals[begin..].iter().position(|arrival| arrival.sent > *crash);
            begin + first_lost.unwrap_or(arrivals.len() - begin)
        };
        let places = crashes.iter().map(place).collect();
        Replay { every: trace.every, arrivals, crashes, places }
    }

    /// Measures the detector with that parameter.
    pub fn measure(&self, detector: Detector, value: u64) -> Quality {
        let mut watch = detector.begin(value, self.every);
        let mut book = Book::default();
        let mut crash = 0;
        for (place, arrival) in self.arrivals.iter().enumerate() {
            while self.places.get(crash) == Some(&place) {
                book.detections.push(self.detection(watch.clone(), book.newest, place, crash));
                crash += 1;
            }
            book.arrives(&mut watch, *arrival, arrival.sent >= WARM as u64 * self.every);
        }
        book.quality()
    }

    /// The time from that crash to the suspicion that stays. Unit: seconds.
    fn detection(&self, mut watch: Watch, newest: u64, place: usize, crash: usize) -> f64 {
        let at = self.crashes[crash];
        let mut book = Book { newest, ..Book::default() };
        let rest = &self.arrivals[place..self.arrivals.len().min(place + OVERTAKE_MAX)];
        for arrival in rest.iter().filter(|arrival| arrival.sent <= at) {
            book.arrives(&mut watch, *arrival, false);
        }
        watch.deadline().saturating_sub(at) as f64 / SECOND as f64
    }
}

/// Crashes, spread by the golden ratio over the periods in which they happen.
fn crashes(trace: &Trace) -> Vec<u64> {
    let first = WARM.min(trace.heartbeats() / 2);
    let last = trace.heartbeats() - 20;
    let count = CRASHES.min(last - first);
    let place = |at: usize| {
        let heartbeat = first + (last - first) * at / count;
        let part = at as u64 * 618_034 % 1_000_000;
        trace.sent(heartbeat * trace.per) + trace.every * part / 1_000_000
    };
    (0..count).map(place).collect()
}

#[derive(Debug, Default)]
struct Book {
    /// One above the number of the newest message.
    newest: u64,
    is_suspected: bool,
    suspected_since: u64,
    begin: Option<u64>,
    end: u64,
    mistakes: u64,
    suspected: u64,
    detections: Vec<f64>,
}

impl Book {
    fn arrives(&mut self, watch: &mut Watch, arrival: Arrival, counts: bool) {
        if arrival.number < self.newest {
            return;
        }
        let (deadline, now) = (watch.deadline(), arrival.at);
        if !self.is_suspected && deadline < now {
            (self.is_suspected, self.suspected_since) = (true, deadline.max(self.end));
            self.mistakes += u64::from(counts);
        }
        self.newest = arrival.number + 1;
        watch.heard(arrival.number, arrival.sent, now);
        if self.is_suspected {
            watch.was_wrong();
            if watch.deadline() > now {
                self.is_suspected = false;
                let since = self.begin.map(|begin| self.suspected_since.max(begin));
                self.suspected += since.map_or(0, |since| now.saturating_sub(since));
            }
        }
        if counts {
            self.begin.get_or_insert(now);
        }
        self.end = now;
    }

    fn quality(mut self) -> Quality {
        let seconds = |nanos: u64| nanos as f64 / SECOND as f64;
        let begin = self.begin.unwrap_or(self.end);
        if self.is_suspected {
            self.suspected += self.end.saturating_sub(self.suspected_since.max(begin));
        }
        let observed = seconds(self.end - begin).max(1e-9);
        let mistakes = self.mistakes as f64;
        self.detections.sort_by(f64::total_cmp);
        let count = self.detections.len().max(1);
        let at = |share: f64| {
            let index = ((count as f64 * share).ceil() as usize).clamp(1, count) - 1;
            self.detections.get(index).copied().unwrap_or_default()
        };
        Quality {
            detection_mean: self.detections.iter().sum::<f64>() / count as f64,
            detection_p99: at(0.99),
            detection_max: at(1.0),
            mistakes: self.mistakes,
            mistakes_per_hour: mistakes * 3_600.0 / observed,
            mistake_duration: seconds(self.suspected) / mistakes.max(1.0),
            query_accuracy: 1.0 - seconds(self.suspected) / observed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MILLISECOND;
    use super::*;

    fn trace(delays: Vec<Option<u64>>) -> Trace {
        Trace { name: "test".into(), every: 100 * MILLISECOND, per: 1, delays }
    }

    /// Heartbeats that take 10 ms each; two are lost in a row once.
    #[test]
    fn one_outage_is_one_mistake_as_long_as_arithmetic_says() {
        let mut delays = vec![Some(10 * MILLISECOND); 1_000];
        (delays[500], delays[501]) = (None, None);
        let replay = Replay::new(&trace(delays), Detector::Fixed);
        let quality = replay.measure(Detector::Fixed, 180 * MILLISECOND);
        assert_eq!(quality.mistakes, 1);
        // Silence of 300 ms, of which 180 are borne.
        assert!((quality.mistake_duration - 0.120).abs() < 1e-9, "{quality:?}");
        let observed = 0.1 * (1_000 - WARM - 1) as f64;
        assert!((quality.query_accuracy - (1.0 - 0.120 / observed)).abs() < 1e-9);
        assert!((quality.mistakes_per_hour - 3_600.0 / observed).abs() < 1e-6);
    }

    /// Chen 2002, section 3: a crash is detected a timeout and a delay after the last heartbeat, so
    /// between `timeout + delay - every` and `timeout + delay` after the crash.
    #[test]
    fn detection_times_lie_where_arithmetic_puts_them() {
        let replay = Replay::new(&trace(vec![Some(10 * MILLISECOND); 2_000]), Detector::Fixed);
        let quality = replay.measure(Detector::Fixed, 250 * MILLISECOND);
        assert_eq!((quality.mistakes, quality.query_accuracy), (0, 1.0));
        assert!((quality.detection_mean - 0.210).abs() < 0.001, "{quality:?}");
        assert!(quality.detection_max <= 0.260 && quality.detection_max > 0.258, "{quality:?}");
    }

    #[test]
    fn a_heartbeat_that_was_overtaken_is_no_sign_of_life() {
        let mut delays = vec![Some(10 * MILLISECOND); 600];
        delays[400] = Some(450 * MILLISECOND); // arrives after 401 to 404
        let replay = Replay::new(&trace(delays), Detector::Fixed);
        assert_eq!(replay.measure(Detector::Fixed, 150 * MILLISECOND).mistakes, 1);
    }
}
