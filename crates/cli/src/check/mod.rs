//! `quorate check`: does what clients saw keep the promise?
//!
//! Reads histories that were recorded anywhere, finds the format and the model by their content,
//! and gives a row for each: holds, violated, or undecided with how far it got. A violation is told
//! with the fewest operations that contradict each other, and drawn if `--html` wants it.
//!
//! Bounds: the search's, which are flags; [`BYTES_MAX`] of a file, which must fit into memory.

mod print;

use crate::input::{self, InputError};
use crate::output;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_check::parse::{self, Format, Kind};
use quorate_check::report::{self, Judgement, Limits, Word, html};
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Of one history, at most.
const BYTES_MAX: u64 = 8 << 30;

const EXAMPLES: &str = "\
Examples:
  quorate check history.edn                      a Jepsen history; format and model are found
  quorate check etcd_*.log --html report.html    many logs, and a page that shows what went wrong
  quorate check run.ndjson --json | jq '.[].verdict'
  quorate check big.edn --timeout 60 --budget-memory 4096

Formats: json (our own, one object per line), jepsen-log, edn, porcupine.
Models:  register, cas-register, map (etcd's keys, ranges and transactions), queue, lock, set, kv.

A time-out in a history (':info') may still take effect later. One that is written as ':fail' is
believed never to have happened; a correct store is then found guilty.

A violation is told with the fewest operations that contradict each other. '[a, b]' behind one says
when it was under way: the places of its invocation and its answer in the order of all events.

--json has a row for each file, in their order. 'verdict' is holds, violated, undecided, or unread
for a file that could not be read, of which 'why' says the reason; that is told on standard error as
well.

Exit status: 1 if one is violated; if none is, 2 if one is undecided or could not be read; else 0.
2 as well if the flags make no sense.";

/// The flags of `quorate check`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Histories: regular files of text (UTF-8) of up to 8 GiB each
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What they are histories of; auto finds it by the operations
    #[arg(long, value_enum, default_value = "auto")]
    model: ModelFlag,
    /// How they are written; auto finds it by the first line
    #[arg(long, value_enum, default_value = "auto")]
    format: FormatFlag,
    /// Steps of the search for each file; then it is undecided
    #[arg(long, value_name = "N", default_value_t = quorate_check::linear::STEPS_DEFAULT)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    budget_steps: u64,
    /// Memory of the search, in MiB, 1 to 65536; then it is undecided
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=65536))]
    budget_memory: u64,
    /// Seconds for each file, up to a week; then it is undecided
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=604_800))]
    timeout: u64,
    /// Write a page that shows the conflicts on a time line; it needs no other file
    #[arg(long, value_name = "OUT")]
    html: Option<PathBuf>,
    /// One JSON array instead of a table, with a row for each file
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

/// One file: checked, in so long, or why it could not be.
struct Row {
    file: String,
    checked: Result<(Judgement, Duration), String>,
}

impl Row {
    fn judgement(&self) -> Option<&Judgement> {
        self.checked.as_ref().ok().map(|(judgement, _)| judgement)
    }
}

/// Checks, prints, judges.
pub(crate) fn run(options: &Options) -> ExitCode {
    if let Some(path) = &options.html
        && let Err(error) = std::fs::OpenOptions::new().create(true).append(true).open(path)
    {
        // Before the search, which may take an hour.
        return no_page(path, &error);
    }
    let mut rows = Vec::new();
    let bar = bar(options);
    for (at, path) in options.files.iter().enumerate() {
        let file = path.display().to_string();
        bar.set_prefix(format!("{}/{} {file}", at + 1, options.files.len()));
        let checked = check(options, path, &bar);
        if let Err(error) = &checked {
            bar.suspend(|| output::complain(format_args!("{file}:{error}")));
        }
        rows.push(Row { file, checked });
        bar.inc(1);
    }
    bar.finish_and_clear();
    if options.json {
        output::line(print::json(&rows));
    } else if rows.iter().any(|row| row.checked.is_ok()) {
        print::table(&rows);
        rows.iter().for_each(print::story);
    }
    let any = |word| rows.iter().filter_map(Row::judgement).any(|judged| judged.word == word);
    let status = if any(Word::Violated) {
        ExitCode::from(1)
    } else if any(Word::Undecided) || rows.iter().any(|row| row.checked.is_err()) {
        ExitCode::from(crate::EXIT_USAGE)
    } else {
        ExitCode::SUCCESS
    };
    match &options.html {
        Some(path) => draw(path, &rows, status),
        None => status,
    }
}

/// Writes the page. A violation is one even if nobody can draw it.
fn draw(path: &Path, rows: &[Row], status: ExitCode) -> ExitCode {
    let judged = |row: &Row| Some((row.file.clone(), row.judgement()?.clone()));
    let pages: Vec<(String, Judgement)> = rows.iter().filter_map(judged).collect();
    match std::fs::write(path, html::page(&pages)) {
        Ok(()) => status,
        Err(error) if status == ExitCode::SUCCESS => no_page(path, &error),
        Err(error) => {
            no_page(path, &error);
            status
        }
    }
}

fn no_page(path: &Path, error: &std::io::Error) -> ExitCode {
    output::complain(format_args!(
        "--html {}: {error}; name a file in a directory that can be written",
        path.display()
    ));
    ExitCode::from(crate::EXIT_USAGE)
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
    path: &Path,
    bar: &ProgressBar,
) -> Result<(Judgement, Duration), String> {
    let text = input::text(path, BYTES_MAX).map_err(|error| match error {
        InputError::NotText { at: (line, column), .. } => format!("{line}:{column}: {error}"),
        _ => format!(" {error}"),
    })?;
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
