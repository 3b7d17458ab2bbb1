//! Adds up the campaigns of several machines.

use super::verdict::{self, Printed};
use super::{Verdict, boxed};
use crate::output;
use quorate_drivers::simulate::campaign::{REPORT_VERSION, Report};
use std::fmt::Display;
use std::path::{Path, PathBuf};

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
    match json {
        true => {
            let printed = Printed { report: &report, story: None };
            output::line(serde_json::to_string(&printed).map_err(boxed)?);
        }
        false => verdict::show(&report, None),
    }
    Ok(Verdict::of(!report.violations.is_empty()))
}

fn read(file: &Path) -> Result<Report, String> {
    #[derive(serde::Deserialize)]
    struct Version {
        quorate_campaign: u32,
    }
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let version: Version = serde_json::from_str(&text)
        .map_err(|error| format!("this is nothing that 'quorate sim --json' prints: {error}"))?;
    if version.quorate_campaign != REPORT_VERSION {
        let found = version.quorate_campaign;
        return Err(format!(
            "this is version {found}, and this build reads version {REPORT_VERSION}; merge it with \
             the build that wrote it"
        ));
    }
    serde_json::from_str(&text).map_err(|error| error.to_string())
}
