//! `quorate sim`: break a protocol under a named system model, and tell the smallest story of it.
//!
//! | file | question |
//! |---|---|
//! | `options.rs` | what is asked for |
//! | `progress.rs`, `words.rs` | what is shown meanwhile, and how numbers read |
//! | `verdict.rs` | what came of it |
//! | `bundle.rs` | a counter-example as files |
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
mod verdict;
mod words;

use crate::output;
use bundle::Named;
pub(crate) use options::Options;
use options::{Flags, Request, Task};
use progress::Progress;
use quorate_core::SystemModel;
use quorate_drivers::simulate::campaign::{Campaign, Covered, DETERMINISM, Found};
use quorate_drivers::simulate::replay::{REPLAY_VERSION, Replay};
use quorate_drivers::simulate::show::Colour;
use quorate_drivers::simulate::trace::Trace;
use quorate_drivers::simulate::{Budget, Origin, Plan, Subject, shrink};
use quorate_sim::Entry;
use std::fmt::Display;
use std::io::IsTerminal as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use verdict::{Printed, Story};

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
        (None, None, Some(file)) => replay(flags, file),
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
    let Request { entry, options, plan, .. } = &request;
    warn(entry, &plan.model);
    let subject = (entry.make)(options);
    let seeds = request.seeds.to.saturating_sub(request.seeds.from) / request.seeds.of;
    let progress = Progress::new(!flags.quiet && !flags.json, request.length, seeds);
    let began = Instant::now();
    let covered = cover(&*subject, &request, flags.twice, &progress);
    let took = began.elapsed();
    let report = verdict::report(entry, options.workload, plan, &covered, subject.marks());
    let story = match &covered.found {
        Some(found) if found.property != DETERMINISM => {
            Some(tell(&*subject, &request, found, flags, &progress)?)
        }
        _ => None,
    };
    progress.end();
    if flags.json {
        let story = story.map(|(_, story)| story);
        let printed = Printed { report: &report, story };
        output::line(serde_json::to_string(&printed).map_err(boxed)?);
        return Ok(Verdict::of(covered.found.is_some()));
    }
    verdict::show(&report, Some(took));
    if let Some((trace, story)) = story {
        show_story(&trace, &story);
        let seed = trace.head.seed;
        output::line(format_args!("again       {} --seed {seed}", request.again));
    }
    Ok(Verdict::of(covered.found.is_some()))
}

/// Says what is to be expected where a protocol promises nothing.
fn warn(entry: &Entry, model: &SystemModel) {
    if !model.supports(&entry.model) {
        output::complain(format_args!(
            "outside of the model of {} ({}): violations are to be expected",
            entry.name, entry.model
        ));
    }
}

fn cover(subject: &dyn Subject, request: &Request, twice: bool, progress: &Progress) -> Covered {
    let began = Instant::now();
    let stop = || request.length.is_some_and(|length| began.elapsed() >= length);
    let report = |tally: &_| progress.tell(tally);
    let (plan, seeds, jobs) = (&request.plan, request.seeds, request.jobs);
    Campaign { subject, plan, seeds, jobs, twice, stop: &stop, report: &report }.run()
}

/// Makes the run smaller, and writes it down.
fn tell(
    subject: &dyn Subject,
    request: &Request,
    found: &Found,
    flags: &Flags,
    progress: &Progress,
) -> Result<(Trace, Story), Box<dyn Display>> {
    let named = Named {
        protocol: request.entry.name.to_owned(),
        workload: request.options.workload.to_owned(),
        mutant: None,
        seed: found.seed,
    };
    let say = |text| progress.say("shrinking", text);
    let began = Instant::now();
    let over = || began.elapsed() >= flags.shrink;
    let smallest = smallest(subject, &request.plan, &named, &over, &flags.out, &say);
    let (trace, story, plan, log) = smallest;
    bundle::write(Path::new(&story.directory), &trace, &named, &plan, &log).map_err(boxed)?;
    Ok((trace, story))
}

/// The smallest run that is found until time is `over`, as a trace, in numbers, and as its plan and
/// choices.
fn smallest(
    subject: &dyn Subject,
    plan: &Plan,
    named: &Named,
    over: &dyn Fn() -> bool,
    out: &Path,
    say: &dyn Fn(String),
) -> (Trace, Story, Plan, Vec<quorate_drivers::simulate::Choice>) {
    let budget = Budget { runs: SHRINK_RUNS, cancel: over };
    let directory = bundle::directory(out, named);
    let again = format!("quorate sim --replay {}", directory.join("choices.json").display());
    let directory = directory.display().to_string();
    let shrunk = shrink(subject, plan, named.seed, &budget, &mut |so_far| {
        say(format!("{} events after {} runs", so_far.size, so_far.runs));
    });
    match shrunk {
        Some(small) => {
            let origin = Origin::Log(&small.log);
            let (trace, log) = bundle::trace(subject, &small.plan, origin, named, again);
            let (events, events_before) = (small.size, small.size_before);
            let steps = trace.steps.len() as u64;
            (trace, Story { events, steps, events_before, directory }, small.plan, log)
        }
        // It does not replay from its choices, so that nothing of it can be left out.
        None => {
            let origin = Origin::Seed(named.seed);
            let (trace, log) = bundle::trace(subject, plan, origin, named, again);
            let steps = trace.steps.len() as u64;
            let (events, events_before) = (steps, steps);
            (trace, Story { events, steps, events_before, directory }, plan.clone(), log)
        }
    }
}

fn show_story(trace: &Trace, story: &Story) {
    let Story { events, steps, events_before, directory } = story;
    let from = words::count(*events_before);
    output::line(format_args!("story       {events} events in {steps} steps, made from {from}"));
    output::line("");
    show_text(trace);
    output::line("");
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

/// Runs a `choices.json` again.
fn replay(flags: &Flags, file: &Path) -> Result<Verdict, Box<dyn Display>> {
    let named = |why: String| boxed(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    let recorded = read_replay(&text).map_err(named)?;
    let plan = recorded.plan.plan().map_err(named)?;
    let unknown = || named(format!("this build has no protocol '{}'", recorded.protocol));
    let entry = quorate_sim::entry(&recorded.protocol).ok_or_else(unknown)?;
    let unknown = || named(format!("'{}' has no workload '{}'", entry.name, recorded.workload));
    let workload = entry.workload(&recorded.workload).ok_or_else(unknown)?.name;
    let mutant = recorded.mutant.as_deref();
    let subject = mutants::planted(entry, &quorate_sim::Options { workload }, mutant)?;
    let names = Named {
        protocol: recorded.protocol.clone(),
        workload: recorded.workload.clone(),
        mutant: recorded.mutant.clone(),
        seed: recorded.seed,
    };
    let again = format!("quorate sim --replay {}", file.display());
    let log = recorded.log();
    let (trace, _) = bundle::trace(&*subject, &plan, Origin::Log(&log), &names, again);
    if flags.json {
        let head = serde_json::to_string(&trace.head).map_err(boxed)?;
        output::line(head);
    } else {
        show_text(&trace);
    }
    if trace.head.digest != recorded.digest {
        let (now, then) = (&trace.head.digest, &recorded.digest);
        return Err(named(format!(
            "this is another run than the one that was written down (digest {now}, and {then} \
             then), so it says nothing of that one: the file was edited, or written by another \
             build; run the seed {} again with this one",
            recorded.seed
        )));
    }
    Ok(Verdict::of(trace.head.property.is_some()))
}

fn read_replay(text: &str) -> Result<Replay, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        quorate_replay: u32,
    }
    let version: Version = serde_json::from_str(text)
        .map_err(|error| format!("this is no choices.json of 'quorate sim': {error}"))?;
    if version.quorate_replay != REPLAY_VERSION {
        let found = version.quorate_replay;
        return Err(format!(
            "this is version {found}, and this build reads version {REPLAY_VERSION}; use the \
             build that wrote it"
        ));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn boxed(error: impl Display + 'static) -> Box<dyn Display> {
    Box::new(error)
}
