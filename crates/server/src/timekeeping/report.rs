//! What a member tells of the time, at `GET /time`: for `quorate time status`, and for scripts.

use super::host_clock::{Readings, STEP_HOLD};
use super::keeper::Keeper;
use super::server::Asked;
use super::{ClockRate, HOST_CLOCK_ERROR, OFF};
use quorate_protocols::time::exchange::ErrorSplit;
use quorate_protocols::time::synchronizer::{SourceId, SourceStatus};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a member knows of the time.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct TimeReport {
    /// Its name.
    pub name: String,
    /// Its id, in hexadecimal digits.
    pub member_id: String,
    /// `synced`, `freewheel`, `unsynchronised`, `stepped`, or `off`.
    pub state: String,
    /// How far the wall clock of its host is ahead of the true time, if that is known.
    pub offset_seconds: Option<f64>,
    /// How wrong what it knows may be, if it knows anything.
    pub error: Option<ErrorReport>,
    /// How fast true time runs beside its monotonic clock, once that is known.
    pub drift: Option<DriftReport>,
    /// By how much its monotonic clock may run off, as is assumed. Unit: parts per million.
    pub drift_bound_ppm: f64,
    /// How fast its monotonic clock runs beside those of the other members.
    pub rate: RateReport,
    /// So many of its sources may be wrong.
    pub faulty_max: usize,
    /// Who was asked, its own clock included.
    pub sources: Vec<SourceReport>,
    /// What else an operator should know, one sentence each.
    pub notes: Vec<String>,
}

/// A bound on an error, and what it is made of. Unit: seconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct ErrorReport {
    /// The bound.
    pub total_seconds: f64,
    /// Of it: half of the time that messages took.
    pub delay_seconds: f64,
    /// Of it: what the clock here may have gone wrong since.
    pub drift_seconds: f64,
    /// Of it: what the source admits, or is assumed of it.
    pub dispersion_seconds: f64,
}

/// A rate. Unit: parts per million.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct DriftReport {
    /// True time gains so much on the monotonic clock.
    pub ppm: f64,
    /// Give or take so much.
    pub uncertainty_ppm: f64,
}

/// What the other members say of the rate of a member's clock.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct RateReport {
    /// `good`, `bad` or `unknown`.
    pub verdict: String,
    /// If it is good, the clocks run apart by at most so much; if it is bad, by at least so much.
    /// Unit: parts per million.
    pub apart_ppm: Option<f64>,
}

impl From<ClockRate> for RateReport {
    fn from(rate: ClockRate) -> RateReport {
        let (verdict, apart) = match rate {
            ClockRate::Good(apart) => ("good", Some(apart)),
            ClockRate::Bad(apart) => ("bad", Some(apart)),
            ClockRate::Unknown => ("unknown", None),
        };
        let apart_ppm = apart.map(|apart| apart.0 as f64 / 1e3);
        RateReport { verdict: verdict.to_owned(), apart_ppm }
    }
}

/// What is known of one source.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct SourceReport {
    /// Its name: `own clock`, a member, or `ntp://host:port`.
    pub source: String,
    /// `counts`, `shown`, `outvoted`, `disputed`, `refused`, `unreachable`, or `not heard`.
    pub verdict: String,
    /// How far it is ahead of the wall clock of this host, if it was heard.
    pub offset_seconds: Option<f64>,
    /// How wrong that may be, if it was heard.
    pub error: Option<ErrorReport>,
    /// It was heard so long ago.
    pub age_seconds: Option<f64>,
    /// Answers that could not be, and packets that answered nothing.
    pub refused: u64,
    /// Why the verdict is what it is.
    pub why: Option<String>,
}

impl From<ErrorSplit> for ErrorReport {
    fn from(split: ErrorSplit) -> ErrorReport {
        ErrorReport {
            total_seconds: split.total().as_secs_f64(),
            delay_seconds: split.delay.as_secs_f64(),
            drift_seconds: split.drift.as_secs_f64(),
            dispersion_seconds: split.dispersion.as_secs_f64(),
        }
    }
}

fn seconds(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// The report of a member.
pub(super) fn of(keeper: &Keeper, readings: Readings, is_off: bool) -> TimeReport {
    let node = keeper.node();
    let now = readings.at;
    let heard: BTreeMap<SourceId, SourceStatus> =
        node.sources(now).into_iter().map(|status| (status.source, status)).collect();
    let interval = node.interval(now);
    let offset = interval.map(|interval| readings.wall.offset_from(interval.middle()));
    let ppm = |ppb: i64| ppb as f64 / 1e3;
    let voices = heard.values().filter(|status| !status.is_unfit).count();
    let is_disputed = interval.is_none() && voices > keeper.faulty_max;
    let told = |id| source(keeper, id, heard.get(&id), readings, is_disputed);
    let sources = keeper.names.keys();
    TimeReport {
        state: if is_off { OFF.to_owned() } else { node.state().to_string() },
        offset_seconds: offset.map(|offset| seconds(offset.as_nanos())),
        error: interval.map(|interval| shared_out(interval.error(), heard.values())),
        drift: node.drift().map(|drift| DriftReport {
            ppm: ppm(drift.rate.0),
            uncertainty_ppm: ppm(drift.uncertainty.0),
        }),
        drift_bound_ppm: ppm(keeper.drift_bound().ppb().0),
        rate: keeper.rates.rate(now).into(),
        faulty_max: keeper.faulty_max,
        sources: sources.copied().map(told).collect(),
        notes: notes(keeper, readings),
        ..TimeReport::default()
    }
}

/// The error of the answer has the shares that the best claim has which counts: the answer is what
/// several claims share, so it has none of its own.
fn shared_out<'a>(error: Duration, heard: impl Iterator<Item = &'a SourceStatus>) -> ErrorReport {
    let counts = heard.filter(|status| !status.is_outvoted && !status.is_unfit);
    let best = counts.map(|status| status.error).min_by_key(ErrorSplit::total).unwrap_or_default();
    let (whole, total) = (best.total().as_secs_f64(), error.as_secs_f64());
    let scale = if whole > 0.0 { total / whole } else { 0.0 };
    let delay_seconds = best.delay.as_secs_f64() * scale;
    let drift_seconds = best.drift.as_secs_f64() * scale;
    let dispersion_seconds = (total - delay_seconds - drift_seconds).max(0.0);
    ErrorReport { total_seconds: total, delay_seconds, drift_seconds, dispersion_seconds }
}

fn source(
    keeper: &Keeper,
    id: SourceId,
    heard: Option<&SourceStatus>,
    readings: Readings,
    is_disputed: bool,
) -> SourceReport {
    let log = match id {
        SourceId::Server(number) => keeper.servers.get(usize::from(number)),
        SourceId::Own | SourceId::Peer(_) => None,
    };
    let (verdict, why) = verdict(keeper, id, heard, log.map(|log| &log.asked), is_disputed);
    SourceReport {
        source: keeper.name(id),
        verdict: verdict.to_owned(),
        offset_seconds: heard.map(|s| seconds(s.reading.offset_from(readings.wall).as_nanos())),
        error: heard.map(|status| status.error.into()),
        age_seconds: heard.map(|status| status.age.as_secs_f64()),
        refused: heard.map_or(0, |status| status.refused) + log.map_or(0, |log| log.strangers),
        why,
    }
}

/// What becomes of what a source says, and why if it does not count.
fn verdict(
    keeper: &Keeper,
    id: SourceId,
    heard: Option<&SourceStatus>,
    asked: Option<&Asked>,
    is_disputed: bool,
) -> (&'static str, Option<String>) {
    match asked {
        Some(Asked::Unreachable { why }) => return ("unreachable", Some(why.clone())),
        Some(Asked::Refused { why } | Asked::GivenUp { why }) => {
            return ("refused", Some(why.clone()));
        }
        Some(Asked::NotYet | Asked::Answered) | None => {}
    }
    let assumed = || {
        format!("it does not say how wrong it may be: {} s are assumed", HOST_CLOCK_ERROR.as_secs())
    };
    let refused = keeper.refused.get(&id);
    match heard {
        Some(status) if is_disputed && !status.is_unfit => {
            let why = "sources contradict each other, and more are wrong than can be outvoted";
            ("disputed", Some(why.to_owned()))
        }
        Some(status) if status.is_outvoted => {
            let why = "it contradicts the others by more than all errors that are admitted";
            ("outvoted", Some(why.to_owned()))
        }
        Some(status) if status.is_unfit => ("shown", Some(assumed())),
        Some(_) if !matches!(id, SourceId::Server(_)) => ("counts", Some(assumed())),
        Some(_) => ("counts", None),
        None if refused.is_some() => ("refused", refused.cloned()),
        None => ("not heard", None),
    }
}

fn notes(keeper: &Keeper, readings: Readings) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(step) = keeper.clock.step {
        let age = readings.at.since(step.at);
        let believed = match age < STEP_HOLD {
            true => ": it is not believed for now",
            false => "",
        };
        notes.push(format!(
            "the wall clock of the host was set by {:+.3} s, {} s ago ({} such steps){believed}",
            seconds(step.by.as_nanos()),
            age.as_secs(),
            keeper.clock.steps,
        ));
    }
    if keeper.clock.suspends > 0 {
        notes.push(format!(
            "the host was suspended {} times: what was known then was forgotten",
            keeper.clock.suspends
        ));
    }
    notes
}
