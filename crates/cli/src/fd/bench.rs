//! All detectors on traces of delays, side by side.

use super::{Failure, HEARTBEATS, failure, seconds, trace};
use crate::output;
use clap::Args;
use quorate_sim::quality::contest::{self, Contest};
use quorate_sim::quality::tune::show;
use quorate_sim::quality::{Detector, Quality, Trace, generate, plot};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  quorate fd bench                                 all synthetic traces
  quorate fd bench --trace step --trace regimes --heartbeats 200000
  quorate fd bench --trace my-link.txt --detection 300ms
  quorate fd bench --plot plot.svg --json > bench.json

Synthetic traces, of a heartbeat each 100 ms and five messages in all:
  normal       20 ms, give or take 6 ms
  exponential  5 ms and an exponential tail of mean 10 ms
  pareto       5 ms and a heavy tail
  loss         as normal, and one message in a hundred is lost
  bursts       as normal, and now and then most messages are lost for half a second
  step         every ten minutes delay and jitter become threefold, and fall back
  regimes      jitter of 1, 4 and 16 ms in turn, for some minutes each
  stalls       the process stands still for 50 to 400 ms

A file has a line 'every 100ms', and then one line for each heartbeat: its delay in milliseconds, or
'lost'. What follows a '#' is a comment.

Each detector is set, by its one parameter, to the mean detection time of the fixed timeout or just
below; then its mistakes are counted. 'traffic' sees all messages, the others heartbeats only.";

/// The flags of `quorate fd bench`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// A synthetic trace, or a file; may be said several times [default: all synthetic ones]
    #[arg(long, value_name = "NAME|FILE")]
    trace: Vec<String>,
    /// The mean detection time at which all are compared [default: where the fixed timeout errs
    /// about once in 500 heartbeats]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    detection: Option<f64>,
    /// Heartbeats of each synthetic trace
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(HEARTBEATS))]
    heartbeats: u64,
    /// Which synthetic traces: the same seed is the same trace
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Draw detection time against mistake rate, for each trace and detector
    #[arg(long, value_name = "OUT.svg")]
    plot: Option<PathBuf>,
    /// One JSON array instead of tables; with --plot, all points of the lines too
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct PrintedRow<'a> {
    detector: &'static str,
    parameter: &'static str,
    value: String,
    #[serde(flatten)]
    quality: &'a Quality,
    mistakes_per_fixed_one: Option<f64>,
}

#[derive(Serialize)]
struct PrintedLine<'a> {
    detector: &'static str,
    points: &'a [Quality],
}

#[derive(Serialize)]
struct Printed<'a> {
    trace: &'a str,
    heartbeats: usize,
    loss: f64,
    delay_mean_seconds: f64,
    delay_deviation_seconds: f64,
    detection_seconds: f64,
    detectors: Vec<PrintedRow<'a>>,
    too_slow: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lines: Vec<PrintedLine<'a>>,
}

/// Measures and prints.
pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let names: Vec<&str> = match options.trace.is_empty() {
        true => generate::NAMES.to_vec(),
        false => options.trace.iter().map(String::as_str).collect(),
    };
    let heartbeats = usize::try_from(options.heartbeats).map_err(failure)?;
    let read = |name: &&str| trace(name, options.seed, heartbeats);
    let traces: Vec<Trace> = names.iter().map(read).collect::<Result<_, _>>()?;
    let mut panels: Vec<plot::Panel> = Vec::new();
    let mut contests = Vec::new();
    for trace in &traces {
        let contest = contest::contest(trace, options.detection);
        if contest.rows.is_empty() {
            return Err(failure(format!(
                "--detection {}: no detector is so fast on '{}', whose heartbeats come each {}; \
                 allow more",
                show(contest.detection),
                trace.name,
                show(trace.every as f64 / 1e9)
            )));
        }
        if options.plot.is_some() {
            let lines = contest::sweep(trace, &contest);
            panels.push(plot::Panel { trace: trace.name.clone(), lines });
        }
        if !options.json {
            table(&contest);
        }
        contests.push(contest);
    }
    if options.json {
        let printed: Vec<Printed<'_>> =
            contests.iter().enumerate().map(|(at, it)| printed(it, panels.get(at))).collect();
        output::line(serde_json::to_string(&printed).map_err(failure)?);
    }
    if let Some(path) = &options.plot {
        std::fs::write(path, plot::svg(&panels))
            .map_err(|error| failure(format!("--plot {}: {error}", path.display())))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(contest: &Contest) {
    let link = contest.link;
    output::line(format_args!(
        "trace {}: {} heartbeats, delay {} give or take {}, {:.2} % lost; mean detection {}",
        contest.trace,
        contest.heartbeats,
        show(link.mean),
        show(link.deviation),
        100.0 * link.loss,
        show(contest.detection)
    ));
    output::line(format_args!(
        "  {:<10} {:<24} {:>9} {:>9} {:>9} {:>8} {:>9} {:>9} {:>11}  against fixed",
        "DETECTOR", "SET TO", "T_D mean", "T_D p99", "T_D max", "MISTAKES", "an hour", "T_M", "P_A"
    ));
    for row in &contest.rows {
        let quality = &row.quality;
        let set = format!("{} {}", row.detector.parameter(), row.detector.show(row.value));
        let duration = match quality.mistakes {
            0 => "-".to_owned(),
            _ => show(quality.mistake_duration),
        };
        output::line(format_args!(
            "  {:<10} {set:<24} {:>9} {:>9} {:>9} {:>8} {:>9.2} {duration:>9} {:>9.5} %  {}",
            row.detector.name(),
            show(quality.detection_mean),
            show(quality.detection_p99),
            show(quality.detection_max),
            quality.mistakes,
            quality.mistakes_per_hour,
            100.0 * quality.query_accuracy,
            against(contest, row)
        ));
    }
    for detector in &contest.too_slow {
        output::line(format_args!("  {:<10} is slower, however it is set", detector.name()));
    }
    output::line("");
}

fn against(contest: &Contest, row: &contest::Row) -> String {
    if row.detector == Detector::Fixed {
        return "-".to_owned();
    }
    let count = contest.rows[0].quality.mistakes;
    match (contest.ratio(row), row.quality.mistakes) {
        (None, _) => "-".to_owned(),
        (Some(_), 0) => format!("none for {count}"),
        (Some(ratio), _) if ratio < 0.095 => format!("1/{:.0}", 1.0 / ratio),
        (Some(ratio), _) if ratio < 0.91 => format!("1/{:.1}", 1.0 / ratio),
        (Some(ratio), _) if ratio < 1.05 => "as many".to_owned(),
        (Some(ratio), _) => format!("{ratio:.1} times as many"),
    }
}

fn printed<'a>(contest: &'a Contest, panel: Option<&'a plot::Panel>) -> Printed<'a> {
    let row = |row: &'a contest::Row| PrintedRow {
        detector: row.detector.name(),
        parameter: row.detector.parameter(),
        value: row.detector.show(row.value),
        quality: &row.quality,
        mistakes_per_fixed_one: contest.ratio(row),
    };
    let lines = panel.map(|panel| panel.lines.as_slice()).unwrap_or_default();
    Printed {
        trace: &contest.trace,
        heartbeats: contest.heartbeats,
        loss: contest.link.loss,
        delay_mean_seconds: contest.link.mean,
        delay_deviation_seconds: contest.link.deviation,
        detection_seconds: contest.detection,
        detectors: contest.rows.iter().map(row).collect(),
        too_slow: contest.too_slow.iter().map(|detector| detector.name()).collect(),
        lines: lines
            .iter()
            .map(|(detector, points)| PrintedLine { detector: detector.name(), points })
            .collect(),
    }
}
