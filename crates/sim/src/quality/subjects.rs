//! The detectors that are measured, each with the one parameter that makes it patient.

use super::MILLISECOND;
use quorate_core::Time;
use quorate_protocols::detectors::chen::{self, Chen};
use quorate_protocols::detectors::heartbeat::{Growing, Timeouts};
use quorate_protocols::detectors::jacobson::{self, RoundTrips};
use quorate_protocols::detectors::phi::{self, Phi};
use quorate_protocols::detectors::{Estimator, Planted};
use std::time::Duration;

/// Arrivals that Chen's and the phi detector remember.
const WINDOW: usize = 100;

/// A detector, by name.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Detector {
    /// A timeout since the last heartbeat: what the others are measured against.
    Fixed,
    /// The same, doubled with each mistake.
    Heartbeat,
    /// Chen's freshness points.
    Chen,
    /// Phi accrual.
    Phi,
    /// A ping in each period; the trace is taken for round trips.
    Jacobson,
    /// A timeout since the last message of any kind.
    Traffic,
}

impl Detector {
    /// All of them; the first is the reference.
    pub const ALL: &[Detector] = &[
        Detector::Fixed,
        Detector::Heartbeat,
        Detector::Chen,
        Detector::Phi,
        Detector::Jacobson,
        Detector::Traffic,
    ];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Detector::Fixed => "fixed",
            Detector::Heartbeat => "heartbeat",
            Detector::Chen => "chen",
            Detector::Phi => "phi",
            Detector::Jacobson => "jacobson",
            Detector::Traffic => "traffic",
        }
    }

    /// What its parameter is, and in which unit it is counted.
    pub const fn parameter(self) -> &'static str {
        match self {
            Detector::Fixed => "timeout",
            Detector::Heartbeat => "first timeout",
            Detector::Chen => "margin",
            Detector::Phi => "threshold",
            Detector::Jacobson => "deviations",
            Detector::Traffic => "timeout",
        }
    }

    /// The parameter as people read it.
    pub fn show(self, value: u64) -> String {
        match self {
            Detector::Phi => format!("{:.2}", value as f64 / 1_000.0),
            Detector::Jacobson => format!("{:.2}", value as f64 / 100.0),
            _ => format!("{:.1} ms", value as f64 / MILLISECOND as f64),
        }
    }

    /// The range of its parameter, for a link with that period. It is in nanoseconds, thousandths
    /// of phi, or hundredths of a deviation.
    pub fn range(self, every: u64) -> (u64, u64) {
        match self {
            Detector::Fixed | Detector::Heartbeat => (every / 2, 60 * every),
            Detector::Traffic => (every / 20, 60 * every),
            Detector::Chen => (every / 1_000, 60 * every),
            Detector::Phi => (50, u64::from(phi::THRESHOLD_MAX)),
            Detector::Jacobson => (5, 100_000),
        }
    }

    /// One that has heard nothing, with that parameter.
    pub fn begin(self, value: u64, every: u64) -> Watch {
        let (time, now) = (Duration::from_nanos(value), Time::default());
        let period = Duration::from_nanos(every);
        let planted = Planted::default();
        match self {
            Detector::Fixed | Detector::Traffic => {
                let timeouts = Timeouts { initial: time, timeout_max: time };
                Watch::Growing(Growing::new(&timeouts, planted, now))
            }
            Detector::Heartbeat => {
                let timeouts = Timeouts { initial: time, timeout_max: time.max(100 * period) };
                Watch::Growing(Growing::new(&timeouts, planted, now))
            }
            Detector::Chen => {
                let first = 3 * period;
                let config = chen::Config { every: period, margin: time, window: WINDOW, first };
                Watch::Chen(Chen::new(&config, planted, now))
            }
            Detector::Phi => {
                let config = phi::Config {
                    threshold: u32::try_from(value).expect("within its range"),
                    window: WINDOW,
                    deviation_min: period / 1_000,
                    interval_max: 10 * period,
                    first: period,
                };
                Watch::Phi(Phi::new(&config, planted, now))
            }
            Detector::Jacobson => {
                let config = jacobson::Config {
                    first: 3 * period,
                    timeout_min: Duration::from_nanos(1),
                    timeout_max: 100 * period,
                    factor: u32::try_from(value).expect("within its range"),
                };
                let round_trips = RoundTrips::new(&config, planted);
                Watch::RoundTrips { round_trips, every, next: 0 }
            }
        }
    }
}

/// A detector at work on a trace.
#[derive(Clone, Debug)]
pub enum Watch {
    /// A timeout since the last arrival.
    Growing(Growing),
    /// Chen's.
    Chen(Chen),
    /// Phi.
    Phi(Phi),
    /// Pings: the one that is waited for was, or will be, sent at a time that is known.
    RoundTrips {
        /// The estimate.
        round_trips: RoundTrips,
        /// The period. Unit: nanoseconds.
        every: u64,
        /// The number of the next ping that is not answered.
        next: u64,
    },
}

impl Watch {
    /// Message `number`, sent at `sent`, arrives. Unit: nanoseconds.
    pub fn heard(&mut self, number: u64, sent: u64, now: u64) {
        let at = Time::from_nanos(now);
        match self {
            Watch::Growing(estimator) => estimator.heard(number, at),
            Watch::Chen(estimator) => estimator.heard(number, at),
            Watch::Phi(estimator) => estimator.heard(number, at),
            Watch::RoundTrips { round_trips, next, .. } => {
                round_trips.sample(Duration::from_nanos(now - sent));
                *next = number + 1;
            }
        }
    }

    /// The peer had been suspected.
    pub fn was_wrong(&mut self) {
        match self {
            Watch::Growing(estimator) => estimator.was_wrong(),
            Watch::Chen(estimator) => estimator.was_wrong(),
            Watch::Phi(estimator) => estimator.was_wrong(),
            Watch::RoundTrips { .. } => {}
        }
    }

    /// Suspected from then on. Unit: nanoseconds.
    pub fn deadline(&self) -> u64 {
        match self {
            Watch::Growing(estimator) => estimator.deadline().as_nanos(),
            Watch::Chen(estimator) => estimator.deadline().as_nanos(),
            Watch::Phi(estimator) => estimator.deadline().as_nanos(),
            Watch::RoundTrips { round_trips, every, next } => {
                next * every + round_trips.timeout().as_nanos() as u64
            }
        }
    }
}
