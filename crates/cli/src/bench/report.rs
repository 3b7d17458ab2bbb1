//! Figures for eyes and for programs.

use super::contest::Contestant;
use super::cpu::Processes;
use super::record::{Recorder, Round, median};
use super::round::Load;
use crate::output;
use serde_json::{Value, json};
use std::time::Duration;

/// Medians over the rounds of one cluster.
#[derive(Clone, Copy, Debug)]
struct Figures {
    rate: f64,
    p50: Duration,
    p99: Duration,
    p999: Duration,
    longest: Duration,
    server_cpu_us: Option<f64>,
    client_cpu_us: f64,
    errors: u64,
}

impl Figures {
    fn of(rounds: &[Round]) -> Figures {
        let middle = |of: &dyn Fn(&Round) -> f64| median(rounds.iter().map(of));
        let quantile = |share: f64| {
            let seconds = middle(&|round| round.record.quantile(share).as_secs_f64());
            Duration::from_secs_f64(seconds)
        };
        let server: Option<Vec<f64>> = rounds.iter().map(Round::server_cpu_per_op).collect();
        let failures = |round: &Round| -> u64 {
            round.record.failures.values().map(|failures| failures.count).sum()
        };
        Figures {
            rate: middle(&Round::rate),
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            longest: rounds.iter().map(|r| r.record.longest()).max().unwrap_or_default(),
            server_cpu_us: server.map(median),
            client_cpu_us: middle(&Round::client_cpu_per_op),
            errors: rounds.iter().map(failures).sum(),
        }
    }
}

/// Prints a table.
pub(super) fn text(title: &str, unit: &str, load: &Load, contestants: &[Contestant]) {
    output::line(title);
    for contestant in contestants {
        let endpoints = contestant.cluster.authorities().join(",");
        output::line(format_args!("{} is {endpoints}", contestant.cluster.name));
    }
    let head = [
        "",
        &format!("{unit}/s"),
        "P50",
        "P99",
        "P99.9",
        "MAX",
        "SERVER CPU",
        "CLIENT CPU",
        "ERRORS",
    ]
    .map(str::to_owned);
    let mut rows = vec![head];
    let all: Vec<Figures> = contestants.iter().map(|c| Figures::of(&c.rounds)).collect();
    for (contestant, figures) in contestants.iter().zip(&all) {
        rows.push([
            contestant.cluster.name.clone(),
            thousands(figures.rate),
            time(figures.p50),
            time(figures.p99),
            time(figures.p999),
            time(figures.longest),
            figures.server_cpu_us.map_or(unknown_cpu(contestant), micros),
            micros(figures.client_cpu_us),
            figures.errors.to_string(),
        ]);
    }
    for (contestant, other) in contestants.iter().zip(&all).skip(1) {
        let first = all[0];
        let of = |a: f64, b: f64| if b > 0.0 { format!("{:.2}", a / b) } else { "-".to_owned() };
        let times = |a: Duration, b: Duration| of(a.as_secs_f64(), b.as_secs_f64());
        rows.push([
            format!("{} / {}", contestants[0].cluster.name, contestant.cluster.name),
            of(first.rate, other.rate),
            times(first.p50, other.p50),
            times(first.p99, other.p99),
            times(first.p999, other.p999),
            times(first.longest, other.longest),
            first.server_cpu_us.zip(other.server_cpu_us).map_or("-".to_owned(), |(a, b)| of(a, b)),
            of(first.client_cpu_us, other.client_cpu_us),
            String::new(),
        ]);
    }
    columns(&rows);
    for contestant in contestants {
        notes(contestant, load);
    }
}

/// What a reader should know beside the figures.
fn notes(contestant: &Contestant, load: &Load) {
    let mut sum = Recorder::new();
    contestant.rounds.iter().for_each(|round| sum.add(&round.record));
    let name = &contestant.cluster.name;
    if sum.conflicts > 0 {
        let share = 100.0 * sum.conflicts as f64 / sum.done.max(1) as f64;
        output::line(format_args!("{name}: {share:.1} % of the swaps came too late for their key"));
    }
    if sum.not_begun > 0 {
        let rate = load.rate.unwrap_or_default();
        output::line(format_args!(
            "{name}: could not keep up with {rate:.0}/s: {} operations were never begun",
            sum.not_begun
        ));
    }
    for (code, failures) in &sum.failures {
        output::line(format_args!("{name}: {} x {code}: {}", failures.count, failures.example));
    }
}

/// The same for programs.
pub(super) fn json(workload: &str, unit: &str, load: &Load, contestants: &[Contestant]) -> Value {
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    let clusters: Vec<Value> = contestants
        .iter()
        .map(|contestant| {
            let figures = Figures::of(&contestant.rounds);
            let mut sum = Recorder::new();
            contestant.rounds.iter().for_each(|round| sum.add(&round.record));
            let errors: serde_json::Map<String, Value> = sum
                .failures
                .iter()
                .map(|(code, failures)| ((*code).to_owned(), json!(failures.count)))
                .collect();
            let endpoints = contestant.cluster.authorities();
            json!({
                "name": contestant.cluster.name,
                "endpoints": endpoints,
                "rate": figures.rate,
                "rates": contestant.rounds.iter().map(Round::rate).collect::<Vec<f64>>(),
                "done": sum.done,
                "p50_us": us(figures.p50),
                "p99_us": us(figures.p99),
                "p999_us": us(figures.p999),
                "max_us": us(figures.longest),
                "server_cpu_us": figures.server_cpu_us,
                "client_cpu_us": figures.client_cpu_us,
                "conflicts": sum.conflicts,
                "not_begun": sum.not_begun,
                "errors": errors,
            })
        })
        .collect();
    let all: Vec<Figures> = contestants.iter().map(|c| Figures::of(&c.rounds)).collect();
    let ratios: Vec<Value> = all
        .iter()
        .zip(contestants)
        .skip(1)
        .map(|(other, contestant)| {
            let first = &all[0];
            let of = |a: f64, b: f64| if b > 0.0 { json!(a / b) } else { Value::Null };
            json!({
                "against": contestant.cluster.name,
                "rate": of(first.rate, other.rate),
                "p50": of(us(first.p50), us(other.p50)),
                "p99": of(us(first.p99), us(other.p99)),
                "p999": of(us(first.p999), us(other.p999)),
                "server_cpu": first.server_cpu_us.zip(other.server_cpu_us).map(|(a, b)| of(a, b)),
            })
        })
        .collect();
    json!({
        "workload": workload,
        "unit": unit,
        "clients": load.clients,
        "connections": load.connections,
        "rate_wanted": load.rate,
        "seconds": load.length.as_secs_f64(),
        "warmup_seconds": load.warmup.as_secs_f64(),
        "seed": load.seed,
        "clusters": clusters,
        "ratios": ratios,
    })
}

/// `15,060`, but `3.2` where digits are few.
pub(super) fn thousands(number: f64) -> String {
    if number < 100.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three digits and a unit.
pub(super) fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        us if us < 1_000.0 => format!("{us:.0} us"),
        us if us < 10_000.0 => format!("{:.2} ms", us / 1e3),
        us if us < 100_000.0 => format!("{:.1} ms", us / 1e3),
        us if us < 10_000_000.0 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

/// Why there is no processor time of the members.
fn unknown_cpu(contestant: &Contestant) -> String {
    match contestant.cluster.processes {
        Processes::NotLocal => "not local".to_owned(),
        Processes::Here(_) => "one ended".to_owned(),
    }
}

/// Processor time of one operation, which can be little.
fn micros(us: f64) -> String {
    if us < 10.0 { format!("{us:.2} us") } else { format!("{us:.0} us") }
}

/// The first column to the left, the others to the right.
pub(super) fn columns<const N: usize>(rows: &[[String; N]]) {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in rows {
        let mut line = format!("{:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line.push_str(&format!("  {cell:>width$}"));
        }
        output::line(line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let cases =
            [(3.25, "3.2"), (850.4, "850"), (15_060.0, "15,060"), (1_234_567.0, "1,234,567")];
        for (number, text) in cases {
            assert_eq!(thousands(number), text);
        }
        let times =
            [(15, "15 us"), (1_280, "1.28 ms"), (52_140, "52.1 ms"), (12_000_000, "12.0 s")];
        for (us, text) in times {
            assert_eq!(time(Duration::from_micros(us)), text);
        }
    }
}
