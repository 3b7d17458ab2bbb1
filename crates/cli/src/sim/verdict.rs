//! What a campaign found, for eyes and for programs.

use super::words::{count, span, wrapped};
use crate::output;
use quorate_drivers::simulate::campaign::{Covered, Found, REPORT_VERSION, Report, Seeds};
use quorate_drivers::simulate::{Fault, Plan};
use quorate_sim::Entry;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the words of the table begin.
const INDENT: usize = 12;

/// What is printed with `--json`: what `merge` reads, and the story that was made of a violation.
#[derive(Debug, Serialize)]
pub(super) struct Printed<'a> {
    #[serde(flatten)]
    pub(super) report: &'a Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) story: Option<Story>,
}

/// A counter-example in numbers.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Story {
    /// Events that make it, as the shrinker counts them.
    pub(super) events: u64,
    /// Lines of the text, with all messages and timers.
    pub(super) steps: u64,
    /// Those of the run that it was made from.
    pub(super) events_before: u64,
    /// Where it is written.
    pub(super) directory: String,
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
pub(super) fn show(report: &Report, took: Option<Duration>) {
    let tally = &report.tally;
    row("protocol", format_args!("{}, workload {}", report.protocol, report.workload));
    row("model", &report.plan.model);
    let seeds: Vec<String> = report.seeds.iter().map(seeds_text).collect();
    row("seeds", wrapped(&seeds, INDENT));
    let simulated = format!("{} in {} runs", span(tally.simulated), count(tally.runs));
    match took.filter(|took| !took.is_zero()) {
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
    row("verdict", verdict(&report.violations));
    for Found { seed, property, why, at } in &report.violations {
        row("", format_args!("seed {seed} breaks '{property}' after {}: {why}", span(*at)));
    }
}

fn seeds_text(seeds: &Seeds) -> String {
    let Seeds { from, to, index, of } = seeds;
    match of {
        1 => format!("{from}..{to}"),
        _ => format!("{from}..{to} (shard {index}/{of})"),
    }
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
