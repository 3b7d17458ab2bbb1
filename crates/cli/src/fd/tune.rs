//! Period and margin for wanted bounds, or why there are none.

use super::{Failure, failure, seconds, trace};
use crate::output;
use clap::Args;
use quorate_sim::quality::measure::Replay;
use quorate_sim::quality::trace::Link;
use quorate_sim::quality::tune::{Infeasible, Target, Tuned, configure, show};
use quorate_sim::quality::{Detector, Quality, Trace, generate};
use serde::Serialize;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  quorate fd tune --target 'detection<=1s,mistakes<=1/day' --loss 1% --mean 20ms --deviation 6ms
  quorate fd tune --target 'detection<=2s,mistakes<=1/month,duration<=500ms' --trace my-link.txt
  quorate fd tune --target 'detection<=50ms,mistakes<=1/day' --trace loss     infeasible: status 1

A target bounds the detection time, the rate of mistakes (N/s, min, h, day, week, month or year),
and, if wanted, how long a mistake lasts on average (else as long as detection takes).

The bounds hold for every distribution of delays with that mean and deviation, if messages are lost
and delayed independently of each other. What is measured beside it is on delays of the trace in
another order, or on ones with an exponential tail.

Exit status: 0 solved, 1 infeasible (and why), 2 usage or a file that is no trace.";

/// The target is infeasible.
const EXIT_INFEASIBLE: u8 = 1;
/// Heartbeats of the trace on which the solution is measured.
const HEARTBEATS: usize = 100_000;
/// The seed of what is measured.
const SEED: u64 = 1;

/// The flags of `quorate fd tune`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// What is wanted, such as 'detection<=1s,mistakes<=1/day'
    #[arg(long, value_name = "BOUNDS", value_parser = Target::parse)]
    target: Target,
    /// The link: a file of delays, or a synthetic trace
    #[arg(long, value_name = "NAME|FILE", required_unless_present = "mean")]
    #[arg(conflicts_with_all = ["loss", "mean", "deviation"])]
    trace: Option<String>,
    /// The link: the share of messages that is lost
    #[arg(long, value_name = "SHARE", default_value = "0%", value_parser = share)]
    loss: f64,
    /// The link: the mean delay
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "deviation")]
    mean: Option<f64>,
    /// The link: the standard deviation of delays
    #[arg(long, value_name = "TIME", value_parser = seconds, requires = "mean")]
    deviation: Option<f64>,
    /// Heartbeats may come so often, at most
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = seconds)]
    every_min: f64,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Printed {
    feasible: bool,
    why: Option<String>,
    loss: f64,
    delay_mean_seconds: f64,
    delay_deviation_seconds: f64,
    every_seconds: Option<f64>,
    margin_seconds: Option<f64>,
    mistake_recurrence_at_least_seconds: Option<f64>,
    measured: Option<Quality>,
}

/// Solves and prints.
pub(super) fn run(options: &Options) -> Result<ExitCode, Failure> {
    let recorded = match &options.trace {
        Some(word) => Some(trace(word, SEED, HEARTBEATS)?),
        None => None,
    };
    let given = || Link {
        loss: options.loss,
        mean: options.mean.unwrap_or_default(),
        deviation: options.deviation.unwrap_or_default(),
    };
    let link = recorded.as_ref().map_or_else(given, Trace::link);
    let solved = configure(&link, &options.target, options.every_min);
    let measured = solved.ok().map(|tuned| measure(&link, recorded.as_ref(), &tuned));
    match options.json {
        true => output::line(json(&link, &solved, measured)?),
        false => text(&link, &options.target, &solved, measured),
    }
    Ok(match solved {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(EXIT_INFEASIBLE),
    })
}

/// What the solution does on delays of that link.
fn measure(link: &Link, recorded: Option<&Trace>, tuned: &Tuned) -> Quality {
    let trace = match recorded {
        Some(trace) => generate::resample(trace, SEED, tuned.every, HEARTBEATS),
        None => generate::link(link, SEED, tuned.every, HEARTBEATS),
    };
    Replay::new(&trace, Detector::Chen).measure(Detector::Chen, (tuned.margin * 1e9) as u64)
}

fn text(
    link: &Link,
    target: &Target,
    solved: &Result<Tuned, Infeasible>,
    measured: Option<Quality>,
) {
    let line = |name: &str, text: String| output::line(format_args!("{name:<10}  {text}"));
    let (mean, deviation) = (show(link.mean), show(link.deviation));
    line("link", format!("delay {mean} give or take {deviation}, {:.2} % lost", 100.0 * link.loss));
    line(
        "target",
        format!(
            "detection within {}, mistakes {} apart, none longer than {} on average",
            show(target.detection),
            show(target.recurrence),
            show(target.duration)
        ),
    );
    match solved {
        Err(why) => line("infeasible", why.to_string()),
        Ok(tuned) => {
            line("every", format!("{}: the period of heartbeats", show(tuned.every)));
            line("margin", format!("{}: beyond the expected arrival (Chen)", show(tuned.margin)));
            line("promised", format!("mistakes at least {} apart", show(tuned.recurrence)));
        }
    }
    if let Some(quality) = measured {
        line(
            "measured",
            format!(
                "in {HEARTBEATS} heartbeats: {} mistakes, {:.2} an hour; detection {} on average, {} \
             at most",
                quality.mistakes,
                quality.mistakes_per_hour,
                show(quality.detection_mean),
                show(quality.detection_max)
            ),
        );
    }
}

fn json(
    link: &Link,
    solved: &Result<Tuned, Infeasible>,
    measured: Option<Quality>,
) -> Result<String, Failure> {
    let tuned = solved.as_ref().ok();
    let printed = Printed {
        feasible: tuned.is_some(),
        why: solved.as_ref().err().map(Infeasible::to_string),
        loss: link.loss,
        delay_mean_seconds: link.mean,
        delay_deviation_seconds: link.deviation,
        every_seconds: tuned.map(|tuned| tuned.every),
        margin_seconds: tuned.map(|tuned| tuned.margin),
        mistake_recurrence_at_least_seconds: tuned.map(|tuned| tuned.recurrence),
        measured,
    };
    serde_json::to_string(&printed).map_err(failure)
}

/// `1%`, or `0.01`.
fn share(text: &str) -> Result<f64, String> {
    let (digits, unit) = match text.strip_suffix('%') {
        Some(digits) => (digits, 0.01),
        None => (text, 1.0),
    };
    let share = digits.trim().parse::<f64>().ok().map(|number| number * unit);
    share
        .filter(|share| (0.0..1.0).contains(share))
        .ok_or_else(|| format!("'{text}' is no share below one; write 1% or 0.01"))
}
