//! `quorate check`: does what clients saw keep the promise?
//!
//! Reads histories that were recorded anywhere, finds the format and the model by their content,
//! and gives a row for each: holds, violated, or undecided with how far it got. A violation is told
//! with the fewest operations that contradict each other, and drawn if `--html` wants it.
//!
//! Bounds: the search's, which are flags; a file must fit into memory.

mod print;

use crate::output;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_check::parse::{self, Format, Kind};
use quorate_check::report::{self, Judgement, Limits, Word, html};
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
Examples:
  quorate check history.edn                      a Jepsen history; format and model are found
  quorate check etcd_*.log --html report.html    many logs, and a page that shows what went wrong
  quorate check run.ndjson --json | jq .[].verdict
  quorate check big.edn --timeout 60 --budget-memory 4096

Formats: json (our own, one object per line), jepsen-log, edn, porcupine.
Models:  register, cas-register, map (etcd's keys, ranges and transactions), queue, lock, set, kv.

A time-out in a history (':info') may still take effect later. One that is written as ':fail' is
believed never to have happened; a correct store is then found guilty.

Exit status: 0 all hold, 1 one is violated, 2 one is undecided or can not be read.";

/// The flags of `quorate check`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Histories
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What they are histories of
    #[arg(long, value_enum, default_value = "auto")]
    model: ModelFlag,
    /// How they are written
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatFlag,
    /// Steps of the search for each file
    #[arg(long, value_name = "N", default_value_t = quorate_check::linear::STEPS_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    budget_steps: u64,
    /// Memory of the search, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=65536))]
    budget_memory: u64,
    /// Seconds for each file
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    /// Write a page that shows the conflicts on a time line
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// One JSON array instead of a table
    #[arg(long)]
    json: bool,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ModelFlag {
    Auto,
    Register,
    CasRegister,
    Map,
    Queue,
    Lock,
    Set,
    Kv,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum FormatFlag {
    Auto,
    Json,
    JepsenLog,
    Edn,
    Porcupine,
}

impl ModelFlag {
    fn kind(self) -> Option<Kind> {
        Some(match self {
            ModelFlag::Auto => return None,
            ModelFlag::Register => Kind::Register,
            ModelFlag::CasRegister => Kind::CasRegister,
            ModelFlag::Map => Kind::Map,
            ModelFlag::Queue => Kind::Queue,
            ModelFlag::Lock => Kind::Lock,
            ModelFlag::Set => Kind::Set,
            ModelFlag::Kv => Kind::Kv,
        })
    }
}

impl FormatFlag {
    fn of(self, text: &str) -> Option<Format> {
        match self {
            FormatFlag::Auto => parse::detect(text),
            FormatFlag::Json => Some(Format::Json),
            FormatFlag::JepsenLog => Some(Format::JepsenLog),
            FormatFlag::Edn => Some(Format::Edn),
            FormatFlag::Porcupine => Some(Format::Porcupine),
        }
    }
}

/// One file, checked.
struct Row {
    file: String,
    judgement: Judgement,
    took: Duration,
}

/// Checks, prints, judges.
pub(crate) fn run(options: &Options) -> ExitCode {
    let mut rows = Vec::new();
    let mut unread = 0;
    let bar = bar(options);
    for (at, path) in options.files.iter().enumerate() {
        let file = path.display().to_string();
        bar.set_prefix(format!("{}/{} {file}", at + 1, options.files.len()));
        match check(options, path, &bar) {
            Ok((judgement, took)) => rows.push(Row { file, judgement, took }),
            Err(error) => {
                unread += 1;
                bar.suspend(|| output::complain(format_args!("{file}:{error}")));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    if options.json {
        output::line(print::json(&rows));
    } else if !rows.is_empty() {
        print::table(&rows);
        rows.iter().for_each(print::story);
    }
    if let Some(path) = &options.html {
        let pages: Vec<(String, Judgement)> =
            rows.iter().map(|row| (row.file.clone(), row.judgement.clone())).collect();
        if let Err(error) = std::fs::write(path, html::page(&pages)) {
            output::complain(format_args!("--html {}: {error}", path.display()));
            return ExitCode::from(crate::EXIT_USAGE);
        }
    }
    let any = |word| rows.iter().any(|row| row.judgement.word == word);
    if any(Word::Violated) {
        ExitCode::from(1)
    } else if unread > 0 || any(Word::Undecided) {
        ExitCode::from(crate::EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    }
}

fn bar(options: &Options) -> ProgressBar {
    if options.quiet || options.json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}").expect("a constant");
    let bar = ProgressBar::new(options.files.len() as u64).with_style(style);
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar
}

/// Checks one file; an error begins with the line and the column, or with a blank.
fn check(
    options: &Options,
    path: &PathBuf,
    bar: &ProgressBar,
) -> Result<(Judgement, Duration), String> {
    let bytes = std::fs::read(path).map_err(|error| format!(" {error}"))?;
    let text = String::from_utf8(bytes).map_err(|error| not_text(&error))?;
    let format = options.format.of(&text).ok_or(
        "1:1: the format is not known; say it with --format json, jepsen-log, edn or porcupine",
    )?;
    let recorded =
        parse::parse(&text, format, options.model.kind()).map_err(|error| error.to_string())?;
    let begin = Instant::now();
    let limit = Duration::from_secs(options.timeout);
    let mut cancel = || {
        let passed = begin.elapsed();
        bar.set_message(format!("{:.0} s", passed.as_secs_f64()));
        passed > limit
    };
    let limits = Limits {
        steps: options.budget_steps,
        bytes: options.budget_memory << 20,
        cancel: &mut cancel,
    };
    let judgement = report::judge(&recorded, limits);
    Ok((judgement, begin.elapsed()))
}

/// Names the place of the first byte that is no text.
fn not_text(error: &std::string::FromUtf8Error) -> String {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let good = String::from_utf8_lossy(good);
    let line = good.matches('\n').count() + 1;
    let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column}: this is no text (UTF-8)")
}
