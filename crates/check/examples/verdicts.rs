//! Checks files of histories, and prints the time of each check: parsing excluded, one core.
//!
//! `cargo run --release -p quorate-check --example verdicts -- FILE..`

use quorate_check::linear::{self, HistoryOf, Model, Report, Verdict};
use quorate_check::models::keyed::Keyed;
use quorate_check::models::kv::Kv;
use quorate_check::models::register::Register;
use quorate_check::parse::{self, Recorded};
use std::io::Write;
use std::time::{Duration, Instant};

const ROUNDS: usize = 5;

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    let mut total = Duration::ZERO;
    for path in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&path).expect("a file");
        let format = parse::detect(&text).expect("a known format");
        let (report, median) = match parse::parse(&text, format, None).expect("a history") {
            Recorded::Register(history) => measure(&Keyed(Register::default()), &history),
            Recorded::Kv(history) => measure(&Kv, &history),
            _ => panic!("{path}: only registers and kv are measured here"),
        };
        let word = match report.verdict {
            Verdict::Holds => "ok",
            Verdict::Violated(_) => "bad",
            Verdict::Undecided(_) => "undecided",
        };
        let name = path.rsplit('/').next().unwrap_or(&path);
        let micros = median.as_secs_f64() * 1e6;
        writeln!(out, "{name:<14} {word:<10} {micros:>10.1} us {:>9} steps", report.steps)?;
        total += median;
    }
    writeln!(out, "sum of medians of {ROUNDS}: {:.3} ms", total.as_secs_f64() * 1e3)
}

fn measure<M: Model>(model: &M, history: &HistoryOf<M>) -> (Report, Duration) {
    let run = |_| {
        let start = Instant::now();
        let report = linear::check(model, history);
        (start.elapsed(), report)
    };
    let mut runs: Vec<(Duration, Report)> = (0..ROUNDS).map(run).collect();
    runs.sort_by_key(|(time, _)| *time);
    let (median, report) = runs.swap_remove(ROUNDS / 2);
    (report, median)
}
