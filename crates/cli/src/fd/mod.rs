//! `quorate fd`: how good failure detectors are on a link, and which parameters meet a target.
//!
//! | file | question |
//! |---|---|
//! | `bench.rs` | all detectors side by side, at equal detection time |
//! | `tune.rs` | period and margin for wanted bounds, or why there are none |
//!
//! What is computed is `quorate_sim::quality`'s. Exit status: 0 done, 1 the target is infeasible,
//! 2 usage or environment.

mod bench;
mod tune;

use crate::output;
use clap::{Args, Subcommand};
use quorate_sim::quality::{Trace, generate, trace, tune as solver};
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  quorate fd bench                                   all detectors on all synthetic traces
  quorate fd bench --trace regimes --plot plot.svg   one trace, and a picture
  quorate fd bench --trace my-link.txt --detection 300ms
  quorate fd tune --target 'detection<=1s,mistakes<=1/day' --loss 1% --mean 20ms --deviation 6ms
  quorate fd tune --target 'detection<=1s,mistakes<=1/day' --trace my-link.txt

Exit status: 0 done, 1 the target is infeasible, 2 usage or a file that is no trace.";

/// The flags of `quorate fd`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure all failure detectors on traces of delays, at equal detection time
    Bench(bench::Options),
    /// Find period and margin for wanted bounds, by Chen's configurator
    Tune(tune::Options),
}

/// Measures, or solves.
pub(crate) fn run(options: &Options) -> ExitCode {
    let done = match &options.task {
        Task::Bench(options) => bench::run(options),
        Task::Tune(options) => tune::run(options),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            output::complain(error);
            ExitCode::from(crate::EXIT_USAGE)
        }
    }
}

/// What went wrong before anything was measured.
type Failure = Box<dyn Display>;

fn failure(text: impl Display) -> Failure {
    Box::new(text.to_string())
}

/// A synthetic trace by name, or a file.
///
/// Errors: there is neither, or the file is no trace; with the line.
fn trace(word: &str, seed: u64, heartbeats: usize) -> Result<Trace, Failure> {
    const EVERY: u64 = 100 * quorate_sim::quality::MILLISECOND;
    if let Some(trace) = generate::generate(word, seed, EVERY, heartbeats) {
        return Ok(trace);
    }
    let text = std::fs::read_to_string(word).map_err(|error| {
        let names = generate::NAMES.join(", ");
        failure(format!("--trace {word}: {error}; synthetic traces are {names}"))
    })?;
    let name = Path::new(word).file_stem().map_or(word.into(), |stem| stem.to_string_lossy());
    Trace::parse(&name, &text).map_err(|error| failure(format!("--trace {word}: {error}")))
}

/// For clap: a time in seconds.
fn seconds(text: &str) -> Result<f64, String> {
    solver::seconds(text)
}

/// The fewest and the most heartbeats of a synthetic trace.
const HEARTBEATS: std::ops::RangeInclusive<u64> = 2_000..=trace::HEARTBEATS_MAX as u64 / 5;
