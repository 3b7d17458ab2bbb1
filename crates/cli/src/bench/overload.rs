//! What is left of a cluster's peak when it is asked for more.
//!
//! In each round the peak is measured first, by clients that ask as fast as they are answered. Then
//! an open loop asks at multiples of it, in an order that is reversed each time: what the machine
//! does in between meets all of them alike. *Goodput* is what was answered, and rightly, within
//! [`IN_TIME`] of being asked; what comes later is of use to nobody. Clients that are refused obey
//! the pause that the member asks for.
//!
//! Source: Huang et al., "Metastable Failures in the Wild" (OSDI 2022).

use super::cluster::Cluster;
use super::contest::{self, ContestError};
use super::fill::Gaps;
use super::progress::Progress;
use super::record::{Round, median};
use super::report::{columns, thousands, time};
use super::round::{self, Load};
use crate::output;
use serde_json::{Value, json};
use std::time::Duration;

/// An answer after so long is of no use.
pub(super) const IN_TIME: Duration = Duration::from_secs(1);

/// Clients of the closed loop.
const PEAK_CLIENTS: usize = 256;

/// The rounds of one load.
struct Step {
    /// Times the peak; none is the peak itself.
    times: Option<f64>,
    rounds: Vec<Round>,
}

/// The figures of one load, as medians.
struct Figures {
    asked: f64,
    goodput: f64,
    of_peak: f64,
    late: u64,
    refused: u64,
    p50: Duration,
    p99: Duration,
}

/// Measures one cluster at its peak and at multiples of it, and prints what is left.
pub(super) fn run(
    load: &Load,
    times: &[f64],
    cluster: &Cluster,
    rounds: u64,
    is_json: bool,
    progress: &mut Progress,
) -> Result<(), ContestError> {
    contest::fill(cluster, load, Gaps::Left, progress)?;
    let closed = Load { clients: PEAK_CLIENTS, rate: None, ..load.clone() };
    let mut peak = Step { times: None, rounds: Vec::new() };
    let step = |times: &f64| Step { times: Some(*times), rounds: Vec::new() };
    let mut steps: Vec<Step> = times.iter().map(step).collect();
    for number in 0..rounds {
        progress.begin(format!("peak {}/{rounds}", number + 1));
        peak.rounds.push(asked(&closed, cluster, number, progress)?);
        let best = median(peak.rounds.iter().map(goodput));
        let mut order: Vec<usize> = (0..steps.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let step = &mut steps[at];
            let factor = step.times.unwrap_or(1.0);
            progress.begin(format!("{factor} times {}/{rounds}", number + 1));
            let open = Load { rate: Some(factor * best), ..load.clone() };
            step.rounds.push(asked(&open, cluster, number, progress)?);
        }
    }
    progress.end();
    let best = median(peak.rounds.iter().map(goodput));
    let all = std::iter::once(&peak).chain(&steps);
    let figures: Vec<_> = all.map(|step| (step.times, Figures::of(step, best))).collect();
    match is_json {
        true => output::line(told(&figures, load, rounds)),
        false => show(&figures, load, rounds),
    }
    Ok(())
}

fn asked(
    load: &Load,
    cluster: &Cluster,
    number: u64,
    progress: &mut Progress,
) -> Result<Round, ContestError> {
    let round = round::run(load, cluster, number, progress);
    round.map_err(|error| ContestError::Round { cluster: cluster.name.clone(), error })
}

/// Answers in time, in a second.
fn goodput(round: &Round) -> f64 {
    round.record.in_time as f64 / round.took.as_secs_f64().max(1e-9)
}

impl Figures {
    fn of(step: &Step, peak: f64) -> Figures {
        let rounds = &step.rounds;
        let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of));
        let quantile = |share: f64| {
            let seconds = middle(&|round| round.record.service(share).as_secs_f64());
            Duration::from_secs_f64(seconds)
        };
        let refused =
            |round: &Round| round.record.failures.values().map(|of| of.count).sum::<u64>();
        let goodput = middle(&goodput);
        Figures {
            asked: step.times.map_or(goodput, |times| times * peak),
            goodput,
            of_peak: goodput / peak.max(1e-9),
            late: rounds.iter().map(|round| round.record.done - round.record.in_time).sum(),
            refused: rounds.iter().map(refused).sum(),
            p50: quantile(0.5),
            p99: quantile(0.99),
        }
    }
}

fn show(figures: &[(Option<f64>, Figures)], load: &Load, rounds: u64) {
    output::line(format_args!(
        "overload: {} clients, {} connections, {rounds} rounds of {:?}; an answer is good within \
         {IN_TIME:?}",
        load.clients, load.connections, load.length
    ));
    let head = ["LOAD", "ASKED/s", "GOODPUT/s", "OF PEAK", "P50", "P99", "LATE", "REFUSED"];
    let mut rows = vec![head.map(str::to_owned)];
    for (times, of) in figures {
        rows.push([
            times.map_or("peak".to_owned(), |times| format!("{times} times")),
            thousands(of.asked),
            thousands(of.goodput),
            format!("{:.2}", of.of_peak),
            time(of.p50),
            time(of.p99),
            of.late.to_string(),
            of.refused.to_string(),
        ]);
    }
    columns(&rows);
}

fn told(figures: &[(Option<f64>, Figures)], load: &Load, rounds: u64) -> Value {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let steps = figures.iter().map(|(times, of)| {
        json!({
            "times": times,
            "asked": of.asked,
            "goodput": of.goodput,
            "of_peak": of.of_peak,
            "p50_us": us(of.p50),
            "p99_us": us(of.p99),
            "late": of.late,
            "refused": of.refused,
        })
    });
    json!({
        "workload": "overload",
        "clients": load.clients,
        "connections": load.connections,
        "seconds": load.length.as_secs_f64(),
        "rounds": rounds,
        "in_time_seconds": IN_TIME.as_secs_f64(),
        "steps": steps.collect::<Vec<_>>(),
    })
}
