//! `quorate time`: what time the members take it to be, how wrong that may be, and who disagrees.
//!
//! Every member is asked over plain HTTP for what it knows itself (`GET /time` at its client port);
//! nothing is concluded from what one member says of another.

use crate::client::{self, Endpoint};
use crate::neighbours::{self, Whom};
use crate::output;
use clap::{Args, Subcommand};
use quorate_server::timekeeping::{ErrorReport, SourceReport, TimeReport};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  quorate time status                                   the members known to 127.0.0.1:2379
  quorate time status --endpoints a:2379,b:2379,c:2379  these and no others
  quorate time status --json | jq '.members[].error.total_seconds'
  quorate time status >/dev/null || alarm

An offset is how far something is ahead: a host's clock of the time, a source of the host's clock.
Exit status: 0 all are synced, 1 one is not, 2 usage, or nobody could be asked.";

/// The questions of `quorate time`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Show offset, error and sources of each member, and who is outvoted
    Status(Flags),
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct Flags {
    #[command(flatten)]
    whom: Whom,
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Report {
    synced: bool,
    members: Vec<Member>,
}

/// One member; without `report` it did not answer.
#[derive(Debug, Serialize)]
struct Member {
    endpoint: String,
    #[serde(flatten)]
    report: Option<TimeReport>,
    unreachable: Option<String>,
}

/// Asks, prints, judges.
pub(crate) fn run(options: &Options) -> ExitCode {
    let Question::Status(flags) = &options.question;
    let Some(mut endpoints) = flags.whom.endpoints() else {
        return ExitCode::from(crate::EXIT_USAGE);
    };
    let (scope, timeout) = (flags.whom.scope(), flags.whom.timeout());
    let report = client::block_on(async {
        neighbours::find(&mut endpoints, scope, timeout).await;
        look(&endpoints, timeout).await
    });
    match flags.whom.json {
        true => output::line(serde_json::to_string(&report).expect("numbers and text")),
        false => print(&report),
    }
    match report.members.iter().any(|member| member.report.is_some()) {
        false => ExitCode::from(crate::EXIT_USAGE),
        true if report.synced => ExitCode::SUCCESS,
        true => ExitCode::from(1),
    }
}

async fn look(endpoints: &[Endpoint], timeout: Duration) -> Report {
    let asked: Vec<_> = endpoints
        .iter()
        .cloned()
        .map(|endpoint| tokio::spawn(async move { ask(&endpoint, timeout).await }))
        .collect();
    let mut members = Vec::with_capacity(asked.len());
    for (endpoint, answer) in endpoints.iter().zip(asked) {
        let answer = answer.await.expect("asking does not panic");
        let endpoint = endpoint.authority();
        members.push(match answer {
            Ok(report) => Member { endpoint, report: Some(report), unreachable: None },
            Err(why) => Member { endpoint, report: None, unreachable: Some(why) },
        });
    }
    Report { synced: members.iter().all(is_synced), members }
}

fn is_synced(member: &Member) -> bool {
    member.report.as_ref().is_some_and(|report| report.state == "synced")
}

async fn ask(endpoint: &Endpoint, timeout: Duration) -> Result<TimeReport, String> {
    let (code, body) = client::http_get(endpoint, "/time", timeout).await?;
    match code {
        200 => serde_json::from_str(&body).map_err(|error| format!("no report: {error}")),
        404 => Err("it does not tell the time: no member of quorate, or an older one".to_owned()),
        code => Err(format!("it answers with status {code}")),
    }
}

fn print(report: &Report) {
    let head = ["ENDPOINT", "NAME", "STATE", "OFFSET", "ERROR", "= DELAY", "+ DRIFT"];
    let head = [&head[..], &["+ DISPERSION", "RATE (BOUND)", "BESIDE PEERS"]].concat();
    let mut table = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    table.extend(report.members.iter().map(row));
    print_table(&table);
    for member in &report.members {
        if let Some(told) = &member.report {
            print_sources(&member.endpoint, told);
        }
    }
    output::line("");
    output::line(match report.synced {
        true => "all are synced".to_owned(),
        false => {
            let not = report.members.iter().filter(|member| !is_synced(member));
            let names: Vec<&str> = not.map(name).collect();
            format!("not synced: {}", names.join(", "))
        }
    });
}

fn name(member: &Member) -> &str {
    member.report.as_ref().map_or(&member.endpoint, |report| &report.name)
}

fn row(member: &Member) -> Vec<String> {
    let Some(report) = &member.report else {
        let why = member.unreachable.clone().unwrap_or_default();
        return vec![member.endpoint.clone(), "-".to_owned(), format!("unreachable: {why}")];
    };
    let drift = report.drift.map_or("-".to_owned(), |drift| {
        format!("{:+.1} \u{b1}{:.1} ppm", drift.ppm, drift.uncertainty_ppm)
    });
    let mut row = vec![member.endpoint.clone(), report.name.clone(), report.state.clone()];
    row.push(report.offset_seconds.map_or("-".to_owned(), offset));
    row.extend(errors(report.error.as_ref()));
    row.push(format!("{drift} ({:.0})", report.drift_bound_ppm));
    row.push(match (&report.rate.verdict[..], report.rate.apart_ppm) {
        ("good", Some(apart)) => format!("good (<= {apart:.1} ppm)"),
        (verdict, Some(apart)) => format!("{verdict} (>= {apart:.1} ppm)"),
        (verdict, None) => verdict.to_owned(),
    });
    row
}

fn print_sources(endpoint: &str, report: &TimeReport) {
    output::line("");
    output::line(format_args!("{} ({endpoint}): {}", report.name, tolerance(report.faulty_max)));
    let head = ["  SOURCE", "VERDICT", "OFFSET", "ERROR", "= DELAY", "+ DRIFT", "+ DISP.", "AGE"];
    let mut table = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    table.extend(report.sources.iter().map(source_row));
    print_table(&table);
    for (why, names) in reasons(&report.sources) {
        output::line(format_args!("  {}: {why}", names.join(", ")));
    }
    for note in &report.notes {
        output::line(format_args!("  {note}"));
    }
}

/// How many wrong sources do no harm.
fn tolerance(faulty_max: usize) -> String {
    match faulty_max {
        1 => "tolerates 1 wrong source".to_owned(),
        count => format!("tolerates {count} wrong sources"),
    }
}

fn source_row(source: &SourceReport) -> Vec<String> {
    let mut row = vec![format!("  {}", source.source), source.verdict.clone()];
    row.push(source.offset_seconds.map_or("-".to_owned(), offset));
    row.extend(errors(source.error.as_ref()));
    row.push(source.age_seconds.map_or("-".to_owned(), |age| format!("{age:.0} s")));
    row
}

/// What is to be said of sources, and of which, in their order.
fn reasons(sources: &[SourceReport]) -> Vec<(String, Vec<&str>)> {
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for source in sources {
        let refused = (source.refused > 0).then(|| match source.refused {
            1 => "1 answer was refused".to_owned(),
            count => format!("{count} answers were refused"),
        });
        for why in source.why.clone().into_iter().chain(refused) {
            match reasons.iter_mut().find(|(said, _)| *said == why) {
                Some((_, names)) => names.push(&source.source),
                None => reasons.push((why, vec![source.source.as_str()])),
            }
        }
    }
    reasons
}

fn errors(error: Option<&ErrorReport>) -> [String; 4] {
    let Some(error) = error else { return std::array::from_fn(|_| "-".to_owned()) };
    let parts = [error.delay_seconds, error.drift_seconds, error.dispersion_seconds];
    let [delay, drift, dispersion] = parts.map(length);
    [length(error.total_seconds), delay, drift, dispersion]
}

/// A length of time, with three digits that count.
fn length(seconds: f64) -> String {
    match seconds.abs() {
        size if size < 1e-3 => format!("{:.1} us", seconds * 1e6),
        size if size < 1.0 => format!("{:.3} ms", seconds * 1e3),
        size if size < 1e5 => format!("{seconds:.3} s"),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

fn offset(seconds: f64) -> String {
    let sign = if seconds < 0.0 { '-' } else { '+' };
    format!("{sign}{}", length(seconds.abs()))
}

fn print_table(table: &[Vec<String>]) {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    // A row that ends early says something in its last cell that no column is made wide for.
    let cell = |row: &Vec<String>, at: usize| match row.get(at) {
        Some(cell) if at + 1 < row.len() || row.len() == columns => cell.chars().count(),
        _ => 0,
    };
    let widths: Vec<usize> =
        (0..columns).map(|at| table.iter().map(|row| cell(row, at)).max().unwrap_or(0)).collect();
    for row in table {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        output::line(padded.collect::<Vec<_>>().join("  ").trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_server::timekeeping::RateReport;

    #[test]
    fn lengths_are_read_at_a_glance() {
        let cases = [
            (0.0, "+0.0 us"),
            (-0.000_012_34, "-12.3 us"),
            (0.001_5, "+1.500 ms"),
            (-3_600.0, "-3600.000 s"),
            (946_080_000.0, "+10950.0 days"),
        ];
        for (seconds, text) in cases {
            assert_eq!(offset(seconds), text);
        }
    }

    #[test]
    fn a_member_is_synced_if_it_says_so_and_a_missing_one_is_not() {
        let member = |state: Option<&str>| Member {
            endpoint: "a:1".to_owned(),
            report: state
                .map(|state| TimeReport { state: state.to_owned(), ..TimeReport::default() }),
            unreachable: state.is_none().then(|| "connection refused".to_owned()),
        };
        assert!(is_synced(&member(Some("synced"))));
        for state in [Some("freewheel"), Some("stepped"), Some("off"), None] {
            assert!(!is_synced(&member(state)), "{state:?}");
        }
        assert_eq!(row(&member(None))[2], "unreachable: connection refused");
    }

    #[test]
    fn what_holds_of_several_sources_is_said_once() {
        let source = |name: &str, why: &str, refused| SourceReport {
            source: name.to_owned(),
            why: (!why.is_empty()).then(|| why.to_owned()),
            refused,
            ..SourceReport::default()
        };
        let sources = [source("a", "late", 0), source("b", "", 2), source("c", "late", 2)];
        let told = reasons(&sources);
        let wanted = [
            ("late".to_owned(), vec!["a", "c"]),
            ("2 answers were refused".to_owned(), vec!["b", "c"]),
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_row_has_offset_error_and_its_parts() {
        let error = ErrorReport {
            total_seconds: 0.006,
            delay_seconds: 0.001,
            drift_seconds: 0.002,
            dispersion_seconds: 0.003,
        };
        let report = TimeReport {
            name: "n1".to_owned(),
            state: "synced".to_owned(),
            offset_seconds: Some(-0.0015),
            error: Some(error),
            drift_bound_ppm: 200.0,
            rate: RateReport { verdict: "bad".to_owned(), apart_ppm: Some(900.0) },
            ..TimeReport::default()
        };
        let member = Member { endpoint: "a:1".to_owned(), report: Some(report), unreachable: None };
        let cells = [
            "a:1",
            "n1",
            "synced",
            "-1.500 ms",
            "6.000 ms",
            "1.000 ms",
            "2.000 ms",
            "3.000 ms",
            "- (200)",
            "bad (>= 900.0 ppm)",
        ];
        assert_eq!(row(&member), cells);
    }
}
