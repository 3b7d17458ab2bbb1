//! `quorate sim`: break a protocol under a named system model, and tell the smallest story of it.
//!
//! | file | question |
//! |---|---|
//! | `options.rs` | what is asked for |
//! | `progress.rs`, `words.rs` | what is shown meanwhile, and how numbers read |
//! | `verdict.rs` | what came of it |
//! | `bundle.rs` | a run as files |
//! | `replay.rs` | a run again, from its file |
//! | `list.rs` | every word that can be said |
//! | `merge.rs` | campaigns of several machines |
//! | `mutants.rs` | whether planted bugs are caught |
//!
//! Exit status: 0 every property held, 1 one was violated, 2 usage or environment.

mod bundle;
mod list;
mod merge;
mod mutants;
mod options;
mod progress;
mod replay;
mod verdict;
mod words;

use crate::output;
use bundle::{Named, Told};
pub(crate) use options::Options;
use options::{Flags, Request, Task};
use progress::Progress;
use quorate_core::SystemModel;
use quorate_drivers::simulate::campaign::{Campaign, Covered, DETERMINISM};
use quorate_drivers::simulate::report::Found;
use quorate_drivers::simulate::show::Colour;
use quorate_drivers::simulate::trace::Trace;
use quorate_drivers::simulate::{Budget, Origin, Plan, Subject, shrink};
use quorate_sim::Entry;
use std::fmt::Display;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use verdict::{Beside, Printed, Story};

/// Runs of the shrinker, at most; the flag `--shrink` bounds it before that.
const SHRINK_RUNS: u64 = 1_000_000;
/// Lines of a story that are printed, at most; all of them are in `story.txt`.
const LINES_MAX: usize = 240;

/// A property was violated, or a planted bug was not caught.
const EXIT_VIOLATED: u8 = 1;

/// Simulates.
pub(crate) fn run(options: &Options) -> ExitCode {
    let flags = &options.flags;
    let done = match (&options.task, &flags.mutants, &flags.replay) {
        (Some(Task::Merge { files, json }), ..) => merge::run(files, *json),
        (Some(Task::List { json }), ..) => {
            list::run(*json);
            Ok(Verdict::Holds)
        }
        (None, Some(names), _) => mutants::run(flags, names),
        (None, None, Some(file)) => replay::run(flags, file),
        (None, None, None) => campaign(flags),
    };
    match done {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Violated) => ExitCode::from(EXIT_VIOLATED),
        Err(error) => {
            output::complain(error);
            ExitCode::from(crate::EXIT_USAGE)
        }
    }
}

/// What the exit status says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Holds,
    Violated,
}

impl Verdict {
    fn of(is_violated: bool) -> Verdict {
        if is_violated { Verdict::Violated } else { Verdict::Holds }
    }
}

fn campaign(flags: &Flags) -> Result<Verdict, Box<dyn Display>> {
    let request = flags.request().map_err(boxed)?;
    bundle::probe(&flags.out).map_err(boxed)?;
    let Request { entry, options, plan, .. } = &request;
    warn(entry, &plan.model);
    let subject = (entry.make)(options);
    let seeds = request.seeds.to.saturating_sub(request.seeds.from) / request.seeds.of;
    let progress = Progress::new(!flags.quiet && !flags.json, request.length, seeds);
    let began = Instant::now();
    let covered = cover(&*subject, &request, flags.twice, &progress);
    let took = began.elapsed();
    let report = verdict::report(entry, options.workload, plan, &covered, subject.marks());
    let leaks = covered.found.as_ref().is_some_and(|found| found.property == DETERMINISM);
    let told = match &covered.found {
        Some(found) if !leaks => Some(tell(&*subject, &request, found, flags, &progress)),
        _ => None,
    };
    progress.end();
    let mut beside = Beside {
        took: (!flags.json).then_some(took),
        compared: (flags.twice && !leaks).then_some(covered.tally.runs),
        ..Beside::default()
    };
    let shown = match covered.found.is_none() && flags.show {
        true => Some(write_whole(&*subject, &request, flags)?),
        false => None,
    };
    beside.story = told.as_ref().map(|(_, story)| story.clone());
    if flags.json {
        let printed = Printed { report: &report, beside: &beside };
        output::line(serde_json::to_string(&printed).map_err(boxed)?);
        return Ok(Verdict::of(covered.found.is_some()));
    }
    verdict::show(&report, &beside);
    if let Some((trace, story)) = told {
        show_story(&trace, &story);
        let seed = trace.head.seed;
        output::line(format_args!("again       {} --seed {seed}", request.again));
    }
    if let Some((trace, directory)) = shown {
        show_files(&directory, &trace);
    }
    Ok(Verdict::of(covered.found.is_some()))
}

/// Says what is to be expected where a protocol promises nothing, and which words make it so.
fn warn(entry: &Entry, model: &SystemModel) {
    let weaker = model.weaker_than(&entry.model);
    if weaker.is_empty() {
        return;
    }
    let said = |(says, needs): &(&str, &str)| format!("{says} where it needs {needs}");
    let axes: Vec<String> = weaker.iter().map(said).collect();
    let needs: Vec<&str> = weaker.iter().map(|(_, needs)| *needs).collect();
    output::complain(format_args!(
        "outside of the model of {}: {}; violations are to be expected (inside it: --model {})",
        entry.name,
        axes.join(", "),
        within(model, &needs)
    ));
}

/// The model with these parts instead of its own.
fn within(model: &SystemModel, parts: &[&str]) -> String {
    let axis = |part: &str| part.split('=').next().unwrap_or_default().to_owned();
    let instead = |own: &'static str| {
        parts.iter().copied().find(|part| axis(part) == axis(own)).unwrap_or(own)
    };
    model.parts().map(instead).join(",")
}

fn cover(subject: &dyn Subject, request: &Request, twice: bool, progress: &Progress) -> Covered {
    let began = Instant::now();
    let stop = || request.length.is_some_and(|length| began.elapsed() >= length);
    let report = |tally: &_| progress.tell(tally);
    let (plan, seeds, jobs) = (&request.plan, request.seeds, request.jobs);
    Campaign { subject, plan, seeds, jobs, twice, stop: &stop, report: &report }.run()
}

/// Makes the run smaller, and writes it down if that can be done: a violation is told in any case.
fn tell(
    subject: &dyn Subject,
    request: &Request,
    found: &Found,
    flags: &Flags,
    progress: &Progress,
) -> (Trace, Story) {
    let named = request.named(found.seed);
    let say = |text| progress.say("shrinking", text);
    let began = Instant::now();
    let over = || began.elapsed() >= flags.shrink;
    let smallest = smallest(subject, &request.plan, &named, flags, &over, &say);
    let (trace, mut story, plan, log) = smallest;
    write_story(&trace, &mut story, &named, &plan, &log);
    (trace, story)
}

/// Writes a story where it says; one that cannot be written says so, and goes on without files.
fn write_story(
    trace: &Trace,
    story: &mut Story,
    named: &Named,
    plan: &Plan,
    log: &[quorate_drivers::simulate::Choice],
) {
    let Some(directory) = &story.directory else { return };
    if let Err(error) = bundle::write(Path::new(directory), trace, named, plan, log) {
        output::complain(format_args!("{error}. The story is told without its files"));
        story.directory = None;
    }
}

/// Writes a run that holds, as it was. Returns its trace, and where it lies.
fn write_whole(
    subject: &dyn Subject,
    request: &Request,
    flags: &Flags,
) -> Result<(Trace, String), Box<dyn Display>> {
    let (plan, seed) = (&request.plan, request.seeds.from);
    let named = request.named(seed);
    let directory = bundle::directory(&flags.out, &named, plan);
    let again = again(&directory);
    let told = bundle::trace(subject, plan, Origin::Seed(seed), &named, again);
    bundle::write(&directory, &told.trace, &named, plan, &told.log).map_err(boxed)?;
    Ok((told.trace, directory.display().to_string()))
}

fn again(directory: &Path) -> String {
    format!("quorate sim --replay {}", directory.join("choices.json").display())
}

/// The smallest run that is found until time is `over`: as a trace, in numbers, and as its plan and
/// choices.
fn smallest(
    subject: &dyn Subject,
    plan: &Plan,
    named: &Named,
    flags: &Flags,
    over: &dyn Fn() -> bool,
    say: &dyn Fn(String),
) -> (Trace, Story, Plan, Vec<quorate_drivers::simulate::Choice>) {
    let budget = Budget { runs: SHRINK_RUNS, cancel: over };
    let directory = bundle::directory(&flags.out, named, plan);
    let again = again(&directory);
    let directory = Some(directory.display().to_string());
    let shrunk = shrink(subject, plan, named.seed, &budget, &mut |so_far| {
        say(format!("{} events after {} runs", so_far.size, so_far.runs));
    });
    match shrunk {
        Some(small) => {
            let origin = Origin::Log(&small.log);
            let Told { trace, log, .. } = bundle::trace(subject, &small.plan, origin, named, again);
            let (events, events_before) = (small.size, small.size_before);
            let steps = trace.steps.len() as u64;
            (trace, Story { events, steps, events_before, directory }, small.plan, log)
        }
        // It does not replay from its choices, so that nothing of it can be left out.
        None => {
            let origin = Origin::Seed(named.seed);
            let told = bundle::trace(subject, plan, origin, named, again);
            let steps = told.trace.steps.len() as u64;
            let (events, events_before) = (told.tally.size, told.tally.size);
            let story = Story { events, steps, events_before, directory };
            (told.trace, story, plan.clone(), told.log)
        }
    }
}

fn show_story(trace: &Trace, story: &Story) {
    let Story { events, steps, events_before, directory } = story;
    let from = words::count(*events_before);
    output::line(format_args!(
        "story       {events} events, told in {steps} steps; made from {from} events"
    ));
    output::line("");
    show_text(trace);
    output::line("");
    match directory {
        Some(directory) => show_files(directory, trace),
        None => output::line("files       none: they could not be written"),
    }
}

fn show_files(directory: &str, trace: &Trace) {
    output::line(format_args!(
        "files       {directory}: page.html, story.txt, trace.ndjson, shiviz.log, choices.json"
    ));
    output::line(format_args!("replay      {}", trace.head.replay));
}

/// The story, or its last lines.
fn show_text(trace: &Trace) {
    let is_terminal = std::io::stdout().is_terminal();
    let text = bundle::story(trace, if is_terminal { Colour::Ansi } else { Colour::Plain });
    let lines: Vec<&str> = text.lines().collect();
    let left_out = lines.len().saturating_sub(LINES_MAX);
    if left_out > 0 {
        output::line(format_args!("({left_out} lines before these are in story.txt)"));
    }
    for line in &lines[left_out..] {
        output::line(line);
    }
}

fn boxed(error: impl Display + 'static) -> Box<dyn Display> {
    Box::new(error)
}
