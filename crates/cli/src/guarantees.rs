//! `quorate guarantees`: what each member promises right now, and by which assumption.
//!
//! Every member is asked for itself, over the plain HTTP side of its client port. A member that
//! does not answer promises nothing to whoever asks, which is told as such.

use crate::client::{self, Endpoint};
use crate::neighbours::{self, Whom};
use crate::output;
use clap::Args;
use quorate_server::guarantees::{AssumptionReport, PromiseReport, Report};
use serde::Serialize;
use std::process::ExitCode;
use std::time::Duration;

/// Between two tables of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  quorate guarantees                                   the members known to 127.0.0.1:2379
  quorate guarantees --endpoints a:2379,b:2379,c:2379  these and no others
  quorate guarantees --watch                           again every second
  quorate guarantees --json | jq -r '.members[].report.assumptions[] | select(.state == \"broken\")'

Exit status: 0 everything that is offered holds, 1 something is withdrawn or weaker or a member is
missing, 2 usage or nobody reachable.";

/// Nobody answered.
const EXIT_NOBODY: u8 = 2;

/// The flags of `quorate guarantees`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    whom: Whom,
    /// Ask again every second, until interrupted
    #[arg(long)]
    watch: bool,
}

/// What is shown.
#[derive(Debug, Serialize)]
struct Answers {
    /// Everything that is offered holds, on every member.
    holds: bool,
    /// They are not of one cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    members: Vec<Answer>,
}

/// One member, or why it did not answer.
#[derive(Debug, Serialize)]
struct Answer {
    endpoint: String,
    report: Option<Report>,
    unreachable: Option<String>,
}

/// Asks, prints, judges.
pub(crate) fn run(options: &Options) -> ExitCode {
    let Some(endpoints) = options.whom.endpoints() else {
        return ExitCode::from(crate::EXIT_USAGE);
    };
    client::block_on(async {
        loop {
            let answers = look(endpoints.clone(), options).await;
            if options.whom.json {
                output::line(serde_json::to_string(&answers).expect("numbers and text"));
            } else {
                table(&answers).iter().for_each(output::line);
            }
            if !options.watch {
                return verdict(&answers);
            }
            tokio::time::sleep(WATCH_EVERY).await;
            if !options.whom.json {
                output::line("");
            }
        }
    })
}

fn verdict(answers: &Answers) -> ExitCode {
    match answers.holds {
        true => ExitCode::SUCCESS,
        false if answers.members.iter().all(|member| member.report.is_none()) => {
            ExitCode::from(EXIT_NOBODY)
        }
        false => ExitCode::from(1),
    }
}

async fn look(mut endpoints: Vec<Endpoint>, options: &Options) -> Answers {
    let (scope, timeout) = (options.whom.scope(), options.whom.timeout());
    neighbours::find(&mut endpoints, scope, timeout).await;
    let ask = |endpoint: &Endpoint| {
        let endpoint = endpoint.clone();
        tokio::spawn(async move {
            let (report, unreachable) = match ask(&endpoint, timeout).await {
                Ok(report) => (Some(report), None),
                Err(why) => (None, Some(why)),
            };
            Answer { endpoint: endpoint.authority(), report, unreachable }
        })
    };
    let asked: Vec<_> = endpoints.iter().map(ask).collect();
    let mut members = Vec::with_capacity(asked.len());
    for answer in asked {
        members.push(answer.await.expect("asking does not panic"));
    }
    let whole = |member: &Answer| member.report.as_ref().is_some_and(|report| !report.is_less());
    let holds = members.iter().all(whole);
    let cluster = |member: &Answer| {
        let cluster = member.report.as_ref()?.cluster.clone();
        Some((member.endpoint.clone(), cluster))
    };
    let clusters: Vec<_> = members.iter().filter_map(cluster).collect();
    Answers { holds, warning: neighbours::mixed(&clusters), members }
}

/// Asks one member. Errors: why there is no answer, for eyes.
async fn ask(endpoint: &Endpoint, timeout: Duration) -> Result<Report, String> {
    let (code, body) = client::http_get(endpoint, "/guarantees", timeout).await?;
    match code {
        200 => serde_json::from_str(&body).map_err(|error| format!("not understood: {error}")),
        404 => Err("it knows of no guarantees; is it an older member, or etcd?".to_owned()),
        code => Err(format!("it answers with status {code}")),
    }
}

/// Lines for eyes: the assumptions of each member, its promises, and what it comes to.
fn table(answers: &Answers) -> Vec<String> {
    let mut lines = match reports(answers).next() {
        Some(_) => tables(answers),
        None => Vec::new(),
    };
    for member in &answers.members {
        if let Some(why) = &member.unreachable {
            lines.push(format!("{}: unreachable: {why}", member.endpoint));
        }
    }
    lines.extend(reports(answers).filter_map(|(member, report)| read_only(&member, report)));
    lines.extend(answers.warning.iter().map(|warning| format!("warning: {warning}")));
    lines.push(summary(answers));
    lines
}

fn tables(answers: &Answers) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rows = vec![
        ["MEMBER", "ASSUMPTION", "STATE", "MEASURED", "BOUND", "FOR", "BROKEN"].map(str::to_owned),
    ];
    for (member, report) in reports(answers) {
        rows.extend(report.assumptions.iter().map(|found| assumption(&member, found)));
    }
    lines.extend(aligned(&rows));
    lines.push(String::new());
    let mut rows =
        vec![["MEMBER", "OPERATION", "MODE", "STATE", "PROMISE", "BECAUSE"].map(str::to_owned)];
    for (member, report) in reports(answers) {
        rows.extend(report.promises.iter().map(|found| promise(&member, found)));
    }
    lines.extend(aligned(&rows));
    lines.push(String::new());
    lines
}

fn read_only(member: &str, report: &Report) -> Option<String> {
    let since = time(report.read_only_for_ms?);
    let age = report
        .age_ms
        .map_or("of unknown age".to_owned(), |age| format!("at most {} old", time(age)));
    let unserved = match report.unserved_total {
        0 => String::new(),
        unserved => format!("; requests not served so far: {unserved}"),
    };
    Some(format!("{member}: read-only for {since}; its state is {age}{unserved}"))
}

/// What it comes to; who is missing promises nothing.
fn summary(answers: &Answers) -> String {
    let missing = answers.members.iter().filter(|member| member.report.is_none());
    let missing: Vec<&str> = missing.map(|member| member.endpoint.as_str()).collect();
    let is_less = reports(answers).any(|(_, report)| report.is_less());
    match (is_less, &missing[..]) {
        (_, missing) if missing.len() == answers.members.len() => "nobody was reached".to_owned(),
        (false, []) => "everything holds".to_owned(),
        (true, []) => "less is promised".to_owned(),
        (true, _) => format!("less is promised; missing: {}", missing.join(", ")),
        (false, _) => {
            format!("everything holds that the others promise; missing: {}", missing.join(", "))
        }
    }
}

/// Who answered, by name, and what.
fn reports(answers: &Answers) -> impl Iterator<Item = (String, &Report)> {
    answers.members.iter().filter_map(|member| {
        let report = member.report.as_ref()?;
        let name = match report.member.is_empty() {
            true => member.endpoint.clone(),
            false => report.member.clone(),
        };
        Some((name, report))
    })
}

fn assumption(member: &str, found: &AssumptionReport) -> [String; 7] {
    let number = |value: Option<u64>| match value {
        Some(value) => format!("{value} {}", found.unit).trim_end().to_owned(),
        None => "-".to_owned(),
    };
    let state = match &found.detail {
        Some(detail) => format!("{}: {detail}", found.state),
        None => found.state.clone(),
    };
    [
        member.to_owned(),
        found.name.clone(),
        state,
        number(found.measured),
        number(found.bound),
        time(found.for_ms),
        found.broken_total.to_string(),
    ]
}

fn promise(member: &str, found: &PromiseReport) -> [String; 6] {
    [
        member.to_owned(),
        found.operation.clone(),
        found.mode.clone(),
        found.state.clone(),
        found.promise.clone(),
        found.because.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

fn aligned<const CELLS: usize>(rows: &[[String; CELLS]]) -> impl Iterator<Item = String> {
    let width = |cell: usize| rows.iter().map(|row| row[cell].chars().count()).max().unwrap_or(0);
    let widths: [usize; CELLS] = std::array::from_fn(width);
    rows.iter().map(move |row| {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    })
}

/// For eyes, rounded up.
fn time(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..100_000 => {
            let tenths = millis.div_ceil(100);
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        _ => format!("{} s", millis.div_ceil(1_000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(promise: &str, standing: &str) -> Report {
        Report {
            member: "n1".to_owned(),
            id: "1".to_owned(),
            cluster: "c1".to_owned(),
            leader: None,
            read_only_for_ms: Some(2_001),
            unserved_total: 7,
            age_ms: Some(3_200),
            assumptions: vec![AssumptionReport {
                name: "quorum".to_owned(),
                meaning: "silence".to_owned(),
                state: standing.to_owned(),
                measured: Some(412),
                bound: Some(250),
                unit: "ms".to_owned(),
                detail: Some("no leader is known".to_owned()),
                for_ms: 2_001,
                broken_total: 1,
            }],
            promises: vec![PromiseReport {
                operation: "read".to_owned(),
                mode: "linearizable".to_owned(),
                state: promise.to_owned(),
                promise: "waits for a quorum, then refused".to_owned(),
                rests_on: vec!["quorum".to_owned()],
                because: Some("quorum".to_owned()),
            }],
        }
    }

    fn answers(report: Option<Report>) -> Answers {
        let holds = report.as_ref().is_some_and(|report| !report.is_less());
        let unreachable = report.is_none().then(|| "connection refused".to_owned());
        let endpoint = "a:1".to_owned();
        let members = vec![Answer { endpoint, report, unreachable }];
        Answers { holds, warning: None, members }
    }

    #[test]
    fn a_table_says_what_is_withdrawn_and_why() {
        let lines = table(&answers(Some(report("withdrawn", "broken"))));
        assert_eq!(
            lines,
            [
                "MEMBER  ASSUMPTION  STATE                       MEASURED  BOUND   FOR    BROKEN",
                "n1      quorum      broken: no leader is known  412 ms    250 ms  2.1 s  1",
                "",
                "MEMBER  OPERATION  MODE          STATE      PROMISE                           \
                 BECAUSE",
                "n1      read       linearizable  withdrawn  waits for a quorum, then refused  \
                 quorum",
                "",
                "n1: read-only for 2.1 s; its state is at most 3.2 s old; requests not served so far: 7",
                "less is promised",
            ]
        );
    }

    #[test]
    fn who_is_missing_is_named_and_nobody_is_no_table() {
        let both = |promise| {
            let mut both = answers(Some(report(promise, "holds")));
            let endpoint = "b:1".to_owned();
            let unreachable = Some("connection refused".to_owned());
            both.members.push(Answer { endpoint, report: None, unreachable });
            both.holds = false;
            table(&both).pop().expect("a last line")
        };
        assert_eq!(both("holds"), "everything holds that the others promise; missing: b:1");
        assert_eq!(both("weaker"), "less is promised; missing: b:1");
        let lines = ["a:1: unreachable: connection refused", "nobody was reached"];
        assert_eq!(table(&answers(None)), lines);
        let mut mixed = answers(Some(report("holds", "holds")));
        mixed.warning = Some("these are two".to_owned());
        assert!(table(&mixed).contains(&"warning: these are two".to_owned()));
        assert_eq!(table(&mixed).pop().as_deref(), Some("everything holds"));
    }

    #[test]
    fn the_exit_status_tells_less_from_nobody() {
        let code = |report| format!("{:?}", verdict(&answers(report)));
        assert_eq!(code(Some(report("holds", "holds"))), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(Some(report("off", "holds"))), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(Some(report("weaker", "broken"))), format!("{:?}", ExitCode::from(1)));
        assert_eq!(code(None), format!("{:?}", ExitCode::from(EXIT_NOBODY)));
    }
}
