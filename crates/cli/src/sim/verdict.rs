//! What a campaign found, for eyes and for programs.

use super::words::{count, span, wrapped};
use crate::output;
use quorate_drivers::simulate::campaign::Covered;
use quorate_drivers::simulate::report::{Found, REPORT_VERSION, Report};
use quorate_drivers::simulate::seeds::Seeds;
use quorate_drivers::simulate::{Fault, Plan};
use quorate_sim::Entry;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the words of the table begin.
const INDENT: usize = 12;
/// So many parts that were not run are named in the table, at most; all are in the JSON.
const UNRUN_MAX: usize = 20;

/// What is printed with `--json`: what `merge` reads, and what it does not ask for.
#[derive(Debug, Serialize)]
pub(super) struct Printed<'a> {
    #[serde(flatten)]
    pub(super) report: &'a Report,
    #[serde(flatten)]
    pub(super) beside: &'a Beside,
}

/// What is known beside the report.
#[derive(Debug, Default, Serialize)]
pub(super) struct Beside {
    /// What it took. Not printed as data, in which the same seeds are the same bytes.
    #[serde(skip)]
    pub(super) took: Option<Duration>,
    /// Seeds were run twice, and so many were compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) compared: Option<u64>,
    /// Seeds between the first and the last that were not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unrun: Option<Vec<Seeds>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) story: Option<Story>,
}

/// A counter-example in numbers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Story {
    /// Steps that make it, as the shrinker counts them: see the words in the help.
    pub(super) events: u64,
    /// Lines of the text, with all messages, timers and syncs.
    pub(super) steps: u64,
    /// Events of the run that it was made from.
    pub(super) events_before: u64,
    /// Where it is written; none if it could not be.
    pub(super) directory: Option<String>,
}

/// The report of a campaign.
pub(super) fn report(
    entry: &Entry,
    workload: &str,
    plan: &Plan,
    covered: &Covered,
    marks: &[&str],
) -> Report {
    let never = |mark: &&&str| !covered.tally.marks.contains_key(**mark);
    Report {
        quorate_campaign: REPORT_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: entry.name.to_owned(),
        workload: workload.to_owned(),
        mutant: None,
        plan: plan.into(),
        seeds: vec![covered.seeds],
        tally: covered.tally.clone(),
        digest: format!("{:016x}", covered.digest),
        missing: marks.iter().filter(never).map(|mark| (*mark).to_owned()).collect(),
        violations: covered.found.iter().cloned().collect(),
    }
}

fn row(name: &str, text: impl std::fmt::Display) {
    output::line(format_args!("{name:<INDENT$}{text}"));
}

/// Prints the table.
pub(super) fn show(report: &Report, beside: &Beside) {
    let tally = &report.tally;
    row("protocol", format_args!("{}, workload {}", report.protocol, report.workload));
    row("model", &report.plan.model);
    row("buggify", report.plan.buggify);
    let seeds: Vec<String> = report.seeds.iter().map(Seeds::to_string).collect();
    row("seeds", wrapped(&seeds, INDENT));
    if let Some(unrun) = &beside.unrun {
        show_unrun(unrun);
    }
    let simulated = format!("{} in {} runs", span(tally.simulated), count(tally.runs));
    match beside.took.filter(|took| !took.is_zero()) {
        Some(took) => {
            let times = tally.simulated as f64 / took.as_nanos() as f64;
            let took = span(took.as_nanos() as u64);
            row("simulated", format_args!("{simulated}, in {took}: {times:.0} times as fast"));
        }
        None => row("simulated", simulated),
    }
    row("operations", count(tally.operations));
    let (sent, delivered) = (count(tally.sent), count(tally.delivered));
    row("messages", format_args!("{sent} sent, {delivered} delivered"));
    row("faults", counted(&tally.faults));
    let idle = report.plan.faults.iter().filter(|name| !tally.faults.contains_key(*name));
    // A slow network is a matter of rates, and has no single events to count.
    let idle: Vec<String> = idle
        .filter(|name| ![Fault::Tail, Fault::Congestion].iter().any(|rate| rate.name() == *name))
        .cloned()
        .collect();
    if !idle.is_empty() {
        row("  never", wrapped(&idle, INDENT));
    }
    if !tally.marks.is_empty() || !report.missing.is_empty() {
        row("seen", counted(&tally.marks));
    }
    if !report.missing.is_empty() {
        row("  never", wrapped(&report.missing, INDENT));
    }
    if let Some(entry) = quorate_sim::entry(&report.protocol) {
        let properties: Vec<String> = entry.properties.iter().map(|&name| name.into()).collect();
        row("checked", wrapped(&properties, INDENT));
    }
    row("digest", &report.digest);
    if let Some(compared) = beside.compared {
        let compared = count(compared);
        row(
            "twice",
            format_args!("{compared} seeds were run again, with equal digests of all events"),
        );
    }
    row("verdict", verdict(&report.violations));
    for Found { seed, property, why, at, awaited } in &report.violations {
        let why = in_a_line(why);
        row("", format_args!("seed {seed} breaks '{property}' after {}: {why}", span(*at)));
        awaited.iter().for_each(|text| row("", format_args!("awaited: {}", in_a_line(text))));
    }
}

fn show_unrun(unrun: &[Seeds]) {
    if unrun.is_empty() {
        return;
    }
    let shown = unrun.iter().take(UNRUN_MAX).map(Seeds::to_string);
    let mut words: Vec<String> = shown.collect();
    if unrun.len() > UNRUN_MAX {
        words.push(format!("and {} more", unrun.len() - UNRUN_MAX));
    }
    row("  not run", wrapped(&words, INDENT));
}

/// Without what would end a line or move a cursor.
fn in_a_line(text: &str) -> String {
    let unseen = |letter: char| if letter.is_control() { ' ' } else { letter };
    text.chars().map(unseen).collect()
}

fn verdict(violations: &[Found]) -> String {
    match violations {
        [] => "0 violations".to_owned(),
        [_] => "1 violation".to_owned(),
        many => format!("{} violations", many.len()),
    }
}

fn counted(counts: &BTreeMap<String, u64>) -> String {
    let words: Vec<String> =
        counts.iter().map(|(name, number)| format!("{name} {}", count(*number))).collect();
    if words.is_empty() { "none".to_owned() } else { wrapped(&words, INDENT) }
}
