//! Adds up the campaigns of several machines, and says which seeds none of them has run.
//!
//! Whoever asks whether a campaign held must know whether it was run: a shard that is missing, or
//! ended early, is named, between the first and the last seed of all files.
//!
//! Bound: [`BYTES_MAX`] of each file.

use super::verdict::{self, Beside, Printed};
use super::{Verdict, boxed, options};
use crate::{input, output};
use quorate_drivers::simulate::report::{REPORT_VERSION, Report};
use quorate_drivers::simulate::seeds::Seeds;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Of one file, at most.
const BYTES_MAX: u64 = 64 << 20;

/// Merges files which `quorate sim --json` has printed.
pub(super) fn run(files: &[PathBuf], json: bool) -> Result<Verdict, Box<dyn Display>> {
    let mut merged: Option<Report> = None;
    for file in files {
        let named = |why: String| boxed(format!("{}: {why}", file.display()));
        let report = read(file).map_err(named)?;
        match &mut merged {
            None => merged = Some(report),
            Some(sum) => sum.merge(&report).map_err(|error| {
                let before = files[0].display();
                named(format!("does not belong to {before} and those after it: {error}"))
            })?,
        }
    }
    let report = merged.expect("at least one file is required");
    let beside = Beside { unrun: Seeds::left_out(&report.seeds), ..Beside::default() };
    match json {
        true => {
            let printed = Printed { report: &report, beside: &beside };
            output::line(serde_json::to_string(&printed).map_err(boxed)?);
        }
        false => verdict::show(&report, &beside),
    }
    if beside.unrun.is_none() {
        output::complain(
            "the numbers of shards have nothing to do with each other, so it is not known which \
             seeds were left out; give all machines the same N of --shard I/N",
        );
    }
    Ok(Verdict::of(!report.violations.is_empty()))
}

fn read(file: &Path) -> Result<Report, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        quorate_campaign: u32,
    }
    let text = input::text(file, BYTES_MAX).map_err(|error| error.to_string())?;
    let version: Version = serde_json::from_str(&text)
        .map_err(|error| format!("this is nothing that 'quorate sim --json' prints: {error}"))?;
    if version.quorate_campaign != REPORT_VERSION {
        let found = version.quorate_campaign;
        return Err(format!(
            "this is version {found}, and this build reads version {REPORT_VERSION}; merge it with \
             the build that wrote it"
        ));
    }
    let report: Report = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let Some(entry) = quorate_sim::entry(&report.protocol) else {
        return Err(options::no_protocol(&report.protocol));
    };
    if entry.workload(&report.workload).is_none() {
        return Err(options::no_workload(&report.workload, entry));
    }
    report.check().map_err(|error| error.to_string())?;
    Ok(report)
}
