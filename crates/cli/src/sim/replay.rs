//! `quorate sim --replay`: a run again, from the file that names its choices.
//!
//! The file is short, and meant to be read, changed and run again; so all of it is looked at before
//! anything runs. What runs is then another run than the one that was written down, which its
//! digest shows: it is told, and says nothing of that one.
//!
//! Bound: [`BYTES_MAX`].

use super::bundle::{self, Named};
use super::options::{Flags, no_fault, no_model, no_property, no_protocol, no_workload};
use super::{Verdict, boxed, mutants, show_text};
use crate::{input, output};
use quorate_drivers::simulate::replay::{REPLAY_VERSION, Replay};
use quorate_drivers::simulate::terms::TermsError;
use quorate_drivers::simulate::trace::{Head, Step};
use quorate_drivers::simulate::{Origin, Tally};
use quorate_sim::Entry;
use serde::Serialize;
use std::fmt::Display;
use std::path::Path;

/// Of the file, at most.
const BYTES_MAX: u64 = 64 << 20;
/// The version of what is printed with `--json`.
const OUTCOME_VERSION: u32 = 1;

/// What is printed with `--json`: the whole outcome.
#[derive(Serialize)]
struct Outcome<'a> {
    quorate_outcome: u32,
    /// It is the run that was written down.
    is_same: bool,
    head: &'a Head,
    /// True time at which the property broke. Unit: nanoseconds.
    broken_at: Option<u64>,
    tally: &'a Tally,
    steps: &'a [Step],
}

/// Runs a `choices.json` again.
pub(super) fn run(flags: &Flags, file: &Path) -> Result<Verdict, Box<dyn Display>> {
    let named = |why: String| boxed(format!("{}: {why}", file.display()));
    let text = input::text(file, BYTES_MAX).map_err(|error| named(error.to_string()))?;
    let recorded = read(&text).map_err(named)?;
    let plan = recorded.plan.plan().map_err(|error| named(no_plan(&error)))?;
    let (entry, workload) = entry(&recorded).map_err(named)?;
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
    let told = bundle::trace(&*subject, &plan, Origin::Log(&log), &names, again);
    let head = &told.trace.head;
    let is_same = head.digest == recorded.digest;
    match flags.json {
        true => {
            let outcome = Outcome {
                quorate_outcome: OUTCOME_VERSION,
                is_same,
                head,
                broken_at: told.violation.as_ref().map(|violation| violation.at),
                tally: &told.tally,
                steps: &told.trace.steps,
            };
            output::line(serde_json::to_string(&outcome).map_err(boxed)?);
        }
        false => show_text(&told.trace),
    }
    if !is_same {
        let (now, then) = (&head.digest, &recorded.digest);
        return Err(named(format!(
            "this is another run than the one that was written down (digest {now}, and {then} \
             then), so it says nothing of that one: the file was edited, or written by another \
             build; run the seed {} again with this one",
            recorded.seed
        )));
    }
    Ok(Verdict::of(head.property.is_some()))
}

fn read(text: &str) -> Result<Replay, String> {
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

/// Who is run, and the workload.
fn entry(recorded: &Replay) -> Result<(&'static Entry, &'static str), String> {
    let Replay { protocol, workload, property, .. } = recorded;
    let Some(entry) = quorate_sim::entry(protocol) else {
        return Err(no_protocol(protocol));
    };
    let Some(known) = entry.workload(workload) else {
        return Err(no_workload(workload, entry));
    };
    // Of a run that holds it is empty.
    if !property.is_empty() && !entry.properties.contains(&property.as_str()) {
        return Err(no_property(property, entry));
    }
    Ok((entry, known.name))
}

fn no_plan(error: &TermsError) -> String {
    match error {
        TermsError::Model(unknown) => {
            format!("the plan in it is none: model: {}", no_model(unknown))
        }
        TermsError::Fault(unknown) => {
            format!("the plan in it is none: faults: {}", no_fault(unknown))
        }
        _ => error.to_string(),
    }
}
