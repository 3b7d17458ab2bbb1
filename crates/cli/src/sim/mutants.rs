//! Whether planted bugs are caught, and how soon.
//!
//! Each bug is hunted by a campaign of its own, on one thread, until a property breaks or its time
//! is over; then the same campaign runs without the bug for as long as the hunt took, and must find
//! nothing. Time is that of the processor, so that a busy machine changes no figure. A line is
//! printed when its hunt is over; the order of the catalogue is that of `--json`.
//!
//! A build without the feature `mutants` has no bugs, and says how to get one that has.

#[cfg(not(feature = "mutants"))]
use super::Verdict;
use super::boxed;
#[cfg(not(feature = "mutants"))]
use super::options::Flags;
use super::options::UsageError;
use quorate_drivers::simulate::Subject;
use quorate_sim::{Entry, Options};
use std::fmt::Display;

/// How to get a build that has them.
#[cfg(not(feature = "mutants"))]
const HOW: &str = "this build has no planted bugs; make one that has them with \
                   'cargo run --release --features mutants -- sim --mutants'";

/// Runs these mutants, or all.
#[cfg(not(feature = "mutants"))]
pub(super) fn run(_flags: &Flags, _names: &[String]) -> Result<Verdict, Box<dyn Display>> {
    Err(boxed(UsageError::Mutants(HOW.to_owned())))
}

#[cfg(feature = "mutants")]
pub(super) use hunt::run;

/// The subject, with a bug in it if one is named.
pub(super) fn planted(
    entry: &Entry,
    options: &Options,
    mutant: Option<&str>,
) -> Result<Box<dyn Subject>, Box<dyn Display>> {
    match mutant {
        None => Ok((entry.make)(options)),
        #[cfg(not(feature = "mutants"))]
        Some(_) => Err(boxed(UsageError::Mutants(HOW.to_owned()))),
        #[cfg(feature = "mutants")]
        Some(name) => match quorate_sim::mutants::case_named(name) {
            Ok(case) => Ok(case.subject()),
            Err(unknown) => Err(boxed(UsageError::Mutants(no_mutant(&unknown)))),
        },
    }
}

/// There is no such planted bug; the nearest if one is near, and else all.
#[cfg(feature = "mutants")]
fn no_mutant(unknown: &quorate_sim::mutants::UnknownMutant) -> String {
    let name = &unknown.0;
    let names = quorate_sim::mutants::cases().map(|case| case.name);
    match crate::nearest::nearest(name, names) {
        Some(near) => format!(
            "'{name}' is no planted bug (did you mean '{near}'?); 'quorate sim list' names all"
        ),
        None => unknown.to_string(),
    }
}

#[cfg(feature = "mutants")]
mod hunt {
    use super::super::bundle::{self, Named};
    use super::super::options::{Flags, UsageError};
    use super::super::progress::Progress;
    use super::super::verdict::Story;
    use super::super::words::span;
    use super::super::{Verdict, boxed, smallest, write_story};
    use super::no_mutant;
    use crate::output;
    use quorate_drivers::simulate::campaign::{Campaign, Covered};
    use quorate_drivers::simulate::report::Found;
    use quorate_drivers::simulate::seeds::Seeds;
    use quorate_drivers::simulate::{Plan, Subject, Tally};
    use quorate_sim::mutants::{MutantCase, case_named, cases};
    use rustix::time::{ClockId, clock_gettime};
    use serde::Serialize;
    use std::fmt::Display;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    /// Time for each bug. Unit: of the processor.
    const BUDGET: Duration = Duration::from_secs(60);
    /// The campaign without the bug takes at least so long.
    const CLEAN_MIN: Duration = Duration::from_secs(1);

    /// Columns of a name.
    const WIDTH: usize = 28;

    /// What became of one bug.
    #[derive(Debug, Serialize)]
    struct Hunted {
        name: &'static str,
        what: &'static str,
        source: &'static str,
        /// The property that it should break.
        breaks: &'static str,
        /// The property that it broke, if any.
        property: Option<String>,
        seed: Option<u64>,
        runs: u64,
        simulated_seconds: f64,
        cpu_seconds: f64,
        /// Events of the story, and of the run that it was made from.
        events: Option<u64>,
        steps: Option<u64>,
        events_before: Option<u64>,
        directory: Option<String>,
        /// Runs without the bug, and what broke in them.
        clean_runs: u64,
        clean_violation: Option<String>,
    }

    #[derive(Serialize)]
    struct Printed<'a> {
        mutants: &'a [Hunted],
        caught: usize,
        median_cpu_seconds: f64,
        median_simulated_seconds: f64,
        median_events: f64,
        median_steps: f64,
    }

    /// Runs these mutants, or all.
    pub(in super::super) fn run(
        flags: &Flags,
        names: &[String],
    ) -> Result<Verdict, Box<dyn Display>> {
        let cases: Vec<&MutantCase> = match names {
            [all] if all == "all" => cases().collect(),
            names => names
                .iter()
                .map(|name| case_named(name))
                .collect::<Result<_, _>>()
                .map_err(|unknown| boxed(UsageError::Mutants(no_mutant(&unknown))))?,
        };
        bundle::probe(&flags.out).map_err(boxed)?;
        let progress = Progress::new(!flags.quiet && !flags.json, None, cases.len() as u64);
        if !flags.json {
            show_head();
        }
        let hunted = hunt_all(&cases, flags, &progress);
        progress.end();
        show(&hunted, flags.json)?;
        let is_missed = |one: &Hunted| one.property.is_none() || one.clean_violation.is_some();
        Ok(Verdict::of(hunted.iter().any(is_missed)))
    }

    /// In the order of `cases`, on several threads.
    fn hunt_all(cases: &[&MutantCase], flags: &Flags, progress: &Progress) -> Vec<Hunted> {
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::new());
        let work = || {
            while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                let hunted = hunt(case, flags);
                let mut done = done.lock().expect("no hunt panics: each run is caught");
                if !flags.json {
                    progress.above(|| show_one(&hunted));
                }
                done.push(hunted);
                progress.count(done.len() as u64, case.name);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..flags.jobs().min(cases.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut done = done.into_inner().expect("no hunt panics: each run is caught");
        let place = |name: &str| cases.iter().position(|case| case.name == name);
        done.sort_by_key(|hunted| place(hunted.name));
        done
    }

    fn hunt(case: &MutantCase, flags: &Flags) -> Hunted {
        let (subject, plan) = (case.subject(), case.plan());
        let (covered, took) = cover(&*subject, &plan, flags.length.unwrap_or(BUDGET));
        let (clean, _) = cover(&*case.clean(), &plan, took.max(CLEAN_MIN));
        let told = |found| tell(case, &*subject, &plan, found, flags);
        let story = covered.found.as_ref().map(told);
        let of_clean = |found: Found| format!("{} at seed {}", found.property, found.seed);
        Hunted {
            name: case.name,
            what: case.what,
            source: case.source,
            breaks: case.breaks,
            property: covered.found.as_ref().map(|found| found.property.clone()),
            seed: covered.found.as_ref().map(|found| found.seed),
            runs: covered.tally.runs,
            simulated_seconds: covered.tally.simulated as f64 / 1e9,
            cpu_seconds: took.as_secs_f64(),
            events: story.as_ref().map(|story| story.events),
            steps: story.as_ref().map(|story| story.steps),
            events_before: story.as_ref().map(|story| story.events_before),
            directory: story.and_then(|story| story.directory),
            clean_runs: clean.tally.runs,
            clean_violation: clean.found.map(of_clean),
        }
    }

    /// Runs seed after seed for so long. Returns the time that it took, too.
    fn cover(subject: &dyn Subject, plan: &Plan, budget: Duration) -> (Covered, Duration) {
        let began = cpu_time();
        let stop = || cpu_time().saturating_sub(began) >= budget;
        let seeds = Seeds::range(0, u64::MAX);
        let report = |_: &Tally| ();
        let campaign =
            Campaign { subject, plan, seeds, jobs: 1, twice: false, stop: &stop, report: &report };
        let covered = campaign.run();
        (covered, cpu_time().saturating_sub(began))
    }

    /// What this thread has used of a processor.
    fn cpu_time() -> Duration {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
    }

    fn tell(
        case: &MutantCase,
        subject: &dyn Subject,
        plan: &Plan,
        found: &Found,
        flags: &Flags,
    ) -> Story {
        let protocol = case.world.name();
        let named = Named {
            protocol: protocol.to_owned(),
            workload: quorate_sim::entry(protocol).map_or("", |it| it.workloads[0].name).to_owned(),
            mutant: Some(case.name.to_owned()),
            seed: found.seed,
        };
        let began = cpu_time();
        let over = || cpu_time().saturating_sub(began) >= flags.shrink;
        let smallest = smallest(subject, plan, &named, flags, &over, &|_| ());
        let (trace, mut story, plan, log) = smallest;
        write_story(&trace, &mut story, &named, &plan, &log);
        story
    }

    fn show(hunted: &[Hunted], json: bool) -> Result<(), Box<dyn Display>> {
        let caught: Vec<&Hunted> = hunted.iter().filter(|one| one.property.is_some()).collect();
        let median = |of: &dyn Fn(&Hunted) -> f64| middle(caught.iter().map(|one| of(one)));
        let cpu = median(&|one| one.cpu_seconds);
        let simulated = median(&|one| one.simulated_seconds);
        let events = median(&|one| one.events.unwrap_or(0) as f64);
        let steps = median(&|one| one.steps.unwrap_or(0) as f64);
        if json {
            let printed = Printed {
                mutants: hunted,
                caught: caught.len(),
                median_cpu_seconds: cpu,
                median_simulated_seconds: simulated,
                median_events: events,
                median_steps: steps,
            };
            output::line(serde_json::to_string(&printed).map_err(boxed)?);
            return Ok(());
        }
        output::line(format_args!(
            "{} of {} caught; medians: {cpu:.1} CPU-seconds, {} simulated, {events:.0} events in \
             {steps:.0} steps",
            caught.len(),
            hunted.len(),
            span((simulated * 1e9) as u64),
        ));
        Ok(())
    }

    fn show_head() {
        output::line(format_args!(
            "{:<WIDTH$}  {:<22} {:>6} {:>12} {:>8} {:>6} {:>6}  without it",
            "mutant", "caught by", "runs", "simulated", "CPU", "events", "steps"
        ));
    }

    fn show_one(one: &Hunted) {
        let property = one.property.as_deref().unwrap_or("NOT CAUGHT");
        let number = |of: Option<u64>| of.map_or("-".to_owned(), |number| number.to_string());
        let (events, steps) = (number(one.events), number(one.steps));
        let clean = match &one.clean_violation {
            None => format!("{} runs hold", one.clean_runs),
            Some(violation) => format!("BREAKS {violation}"),
        };
        output::line(format_args!(
            "{:<WIDTH$}  {property:<22} {:>6} {:>12} {:>6.1} s {events:>6} {steps:>6}  {clean}",
            one.name,
            one.runs,
            span((one.simulated_seconds * 1e9) as u64),
            one.cpu_seconds,
        ));
    }

    /// The median; 0 of nothing.
    fn middle(values: impl Iterator<Item = f64>) -> f64 {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => 0.0,
            many if many % 2 == 1 => values[many / 2],
            many => (values[many / 2 - 1] + values[many / 2]) / 2.0,
        }
    }
}
