//! What the clients of one thread measured, and what the whole of a round comes to.

use super::cpu::CpuTime;
use super::overload::IN_TIME;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tonic::{Code, Status};

/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// Longest latency that is told apart.
const LATENCY_MAX: Duration = Duration::from_secs(3_600);

/// An error code: how often, and one message.
#[derive(Clone, Debug, Default)]
pub(super) struct Failures {
    /// How often.
    pub(super) count: u64,
    /// The first message with this code.
    pub(super) example: String,
}

/// Figures that add up.
#[derive(Clone, Debug)]
pub(super) struct Recorder {
    /// Latencies of what was done. Unit: nanoseconds.
    latencies: Histogram<u64>,
    /// From being asked to being answered, of the same. Unit: nanoseconds.
    services: Histogram<u64>,
    /// Operations done, or events delivered.
    pub(super) done: u64,
    /// Those that were answered soon enough after they were asked to be of use.
    pub(super) in_time: u64,
    /// Compare-and-swaps that were answered with "somebody was faster".
    pub(super) conflicts: u64,
    /// Operations whose time had come, but whose client was still waiting when the round ended.
    pub(super) not_begun: u64,
    /// When the last of them was done.
    pub(super) until: Option<Instant>,
    /// What was refused or lost, by code.
    pub(super) failures: BTreeMap<&'static str, Failures>,
}

impl Recorder {
    /// Nothing so far.
    pub(super) fn new() -> Recorder {
        let max = u64::try_from(LATENCY_MAX.as_nanos()).expect("an hour");
        Recorder {
            latencies: Histogram::new_with_bounds(1_000, max, DIGITS).expect("constants"),
            services: Histogram::new_with_bounds(1_000, max, DIGITS).expect("constants"),
            done: 0,
            in_time: 0,
            conflicts: 0,
            not_begun: 0,
            until: None,
            failures: BTreeMap::new(),
        }
    }

    /// Something that counts from `start` is done now.
    pub(super) fn done(&mut self, start: Instant, now: Instant) {
        self.until = self.until.max(Some(now));
        self.took(now.saturating_duration_since(start));
    }

    /// Of what is done, how long it took from when it was asked.
    pub(super) fn served(&mut self, service: Duration) {
        self.in_time += u64::from(service <= IN_TIME);
        self.services.saturating_record(u64::try_from(service.as_nanos()).unwrap_or(u64::MAX));
    }

    fn took(&mut self, latency: Duration) {
        self.done += 1;
        self.latencies.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Something failed.
    pub(super) fn failed(&mut self, status: &Status) {
        let entry = self.failures.entry(code_name(status.code())).or_default();
        entry.count += 1;
        if entry.example.is_empty() {
            entry.example = status.message().to_owned();
        }
    }

    /// What both measured.
    pub(super) fn add(&mut self, other: &Recorder) {
        self.latencies.add(&other.latencies).expect("the bounds are the same");
        self.services.add(&other.services).expect("the bounds are the same");
        self.done += other.done;
        self.in_time += other.in_time;
        self.conflicts += other.conflicts;
        self.not_begun += other.not_begun;
        self.until = self.until.max(other.until);
        for (code, failures) in &other.failures {
            let entry = self.failures.entry(code).or_default();
            entry.count += failures.count;
            if entry.example.is_empty() {
                entry.example.clone_from(&failures.example);
            }
        }
    }

    /// The latency below which this share of the operations stayed.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(self.latencies.value_at_quantile(share))
    }

    /// The time from asking to the answer, below which this share of the operations stayed.
    pub(super) fn service(&self, share: f64) -> Duration {
        Duration::from_nanos(self.services.value_at_quantile(share))
    }

    /// The longest latency.
    pub(super) fn longest(&self) -> Duration {
        Duration::from_nanos(self.latencies.max())
    }
}

/// One round of one cluster.
#[derive(Clone, Debug)]
pub(super) struct Round {
    /// What the clients measured.
    pub(super) record: Recorder,
    /// How long they did.
    pub(super) took: Duration,
    /// What the members used meanwhile, if they are on this machine.
    pub(super) server_cpu: Option<CpuTime>,
    /// What this program used meanwhile.
    pub(super) client_cpu: CpuTime,
}

impl Round {
    /// Operations per second.
    pub(super) fn rate(&self) -> f64 {
        self.record.done as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// What the members used for one operation. Unit: microseconds.
    pub(super) fn server_cpu_per_op(&self) -> Option<f64> {
        self.server_cpu.map(|cpu| cpu.0.as_secs_f64() * 1e6 / self.record.done.max(1) as f64)
    }

    /// What this program used for one operation. Unit: microseconds.
    pub(super) fn client_cpu_per_op(&self) -> f64 {
        self.client_cpu.0.as_secs_f64() * 1e6 / self.record.done.max(1) as f64
    }
}

/// gRPC's name of a code.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The middle one; of an even number the mean of the middle two.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        odd if odd % 2 == 1 => sorted[middle],
        _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median([3.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median([]).abs() < 1e-9);
    }

    #[test]
    fn records_add_up() {
        let mut one = Recorder::new();
        let mut other = Recorder::new();
        (1..=100).for_each(|ms| one.took(Duration::from_millis(ms)));
        other.took(Duration::from_secs(2));
        other.failed(&Status::unavailable("etcdserver: no leader"));
        one.add(&other);
        one.add(&other);
        assert_eq!(one.done, 102);
        assert_eq!(one.failures["UNAVAILABLE"].count, 2);
        assert_eq!(one.failures["UNAVAILABLE"].example, "etcdserver: no leader");
        let median = one.quantile(0.5).as_secs_f64();
        assert!((0.050..0.052).contains(&median), "{median}");
        assert!(one.longest() >= Duration::from_secs(2));
    }
}
