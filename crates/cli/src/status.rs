//! `quorate status`: who leads, who lags, who is missing.
//!
//! Every member is asked for itself; what one member says of another is never shown as that
//! member's state. Whether the cluster serves is not concluded from who answers but tried: one
//! linearizable read, which needs a leader and a quorum. Only if the read is refused for lack of
//! permission do answers count instead.

use crate::client::{self, Channel, Endpoint};
use crate::login::Login;
use crate::neighbours::{self, Known, Whom};
use crate::output;
use clap::Args;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::{RangeRequest, StatusResponse};
use serde::Serialize;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tonic::Code;

const EXAMPLES: &str = "\
Examples:
  quorate status                                   the members known to 127.0.0.1:2379
  quorate status --endpoints a:2379,b:2379,c:2379  these and no others
  QUORATE_PASSWORD=.. quorate status --user ann    where there are users
  quorate status --json | jq .members[].lag
  quorate status >/dev/null || alarm

Exit status: 0 the cluster serves, 1 it does not, 2 usage.";

/// The flags of `quorate status`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(flatten)]
    whom: Whom,
}

/// A read that takes longer may have waited for an election: what members said before it is old.
const PROBE_LONG: Duration = Duration::from_millis(100);

/// What is shown.
#[derive(Debug, Serialize)]
struct Report {
    serves: bool,
    leader: Option<String>,
    /// They are not of one cluster, or do not let the user in.
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    members: Vec<Row>,
}

type Answer = Result<StatusResponse, tonic::Status>;

/// One member; without `state` it did not answer.
#[derive(Debug, Serialize)]
struct Row {
    endpoint: String,
    name: Option<String>,
    #[serde(flatten)]
    state: Option<State>,
    unreachable: Option<String>,
}

#[derive(Debug, Serialize)]
struct State {
    id: String,
    role: &'static str,
    term: u64,
    revision: i64,
    commit_index: u64,
    applied_index: u64,
    lag: u64,
    db_size_bytes: i64,
    version: String,
    errors: Vec<String>,
}

/// Asks, prints, judges.
pub(crate) fn run(options: &Options) -> ExitCode {
    let Some(endpoints) = options.whom.endpoints() else {
        return ExitCode::from(crate::EXIT_USAGE);
    };
    let Ok(login) = options.whom.login() else { return ExitCode::from(crate::EXIT_USAGE) };
    let report = client::block_on(look(endpoints, login.as_ref(), &options.whom));
    if options.whom.json {
        output::line(serde_json::to_string(&report).expect("numbers and text"));
    } else {
        print(&report);
    }
    if report.serves { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

async fn look(mut endpoints: Vec<Endpoint>, login: Option<&Login>, whom: &Whom) -> Report {
    let (scope, timeout) = (whom.scope(), whom.timeout());
    let known = neighbours::find(&mut endpoints, login, scope, timeout).await;
    let mut channels: Vec<Channel> = endpoints.iter().map(client::channel).collect();
    let mut answers = ask(&channels, timeout).await;
    let refused = match login {
        Some(login) => enter(login, &mut channels, &answers, timeout).await,
        None => None,
    };
    let begun = Instant::now();
    let serves = serves(&channels, &answers, timeout).await;
    if is_old(&answers, serves, begun.elapsed()) {
        answers = ask(&channels, timeout).await;
    }
    let mut report = report(&endpoints, answers, &known, serves);
    report.warning = report.warning.or(refused);
    report
}

/// Logs in at those who have answered; why one has refused it.
async fn enter(
    login: &Login,
    channels: &mut [Channel],
    answers: &[Answer],
    timeout: Duration,
) -> Option<String> {
    let mut refused = None;
    for (channel, _) in channels.iter_mut().zip(answers).filter(|(_, answer)| answer.is_ok()) {
        if let Err(status) = login.enter_within(timeout, channel).await {
            let why = client::reason(&status);
            refused = Some(format!("{} could not log in: {why}", login.name()));
        }
    }
    refused
}

async fn ask(channels: &[Channel], timeout: Duration) -> Vec<Answer> {
    let asked: Vec<_> = channels
        .iter()
        .cloned()
        .map(|channel| tokio::spawn(async move { client::status(&channel, timeout).await }))
        .collect();
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        answers.push(answer.await.expect("asking does not panic"));
    }
    answers
}

/// True if the answers may be of another time than the probe that came after them: it took long,
/// or found what they do not say.
fn is_old(answers: &[Answer], serves: bool, took: Duration) -> bool {
    took > PROBE_LONG || serves != leader(answers).is_some()
}

/// True if one linearizable read succeeds somewhere.
async fn serves(channels: &[Channel], answers: &[Answer], timeout: Duration) -> bool {
    for (channel, _) in channels.iter().zip(answers).filter(|(_, answer)| answer.is_ok()) {
        let probe = RangeRequest { key: "\0".into(), count_only: true, ..RangeRequest::default() };
        let mut kv = KvClient::new(channel.clone());
        match tokio::time::timeout(timeout, kv.range(probe)).await {
            Ok(Ok(_)) => return true,
            Ok(Err(status)) if is_permission(status.code()) => {
                let known =
                    |answer: &&Answer| answer.as_ref().is_ok_and(|status| status.leader != 0);
                return answers.iter().filter(known).count() > answers.len() / 2;
            }
            _ => {}
        }
    }
    false
}

fn is_permission(code: Code) -> bool {
    // etcd answers InvalidArgument to who gives no user name.
    matches!(code, Code::PermissionDenied | Code::Unauthenticated | Code::InvalidArgument)
}

fn report(endpoints: &[Endpoint], answers: Vec<Answer>, known: &Known, serves: bool) -> Report {
    let leader = leader(&answers);
    let cluster = |(endpoint, answer): (&Endpoint, &Answer)| {
        let header = answer.as_ref().ok()?.header.as_ref()?;
        Some((endpoint.authority(), format!("{:x}", header.cluster_id)))
    };
    let clusters: Vec<_> = endpoints.iter().zip(&answers).filter_map(cluster).collect();
    let warning = neighbours::mixed(&clusters);
    // A member lags behind what anybody knows to be committed, not behind what it knows itself.
    let committed = answers.iter().flatten().map(|status| status.raft_index).max().unwrap_or(0);
    let named = |id: u64| known.names.get(&id).filter(|name| !name.is_empty()).cloned();
    let rows = endpoints.iter().zip(answers).map(|(endpoint, answer)| match answer {
        Ok(status) => {
            let id = status.header.as_ref().map_or(0, |header| header.member_id);
            let is_witness = known.witnesses.contains_key(&id);
            let state = Some(state(status, (id, is_witness), committed));
            Row { endpoint: endpoint.authority(), name: named(id), state, unreachable: None }
        }
        Err(error) => {
            let unreachable = Some(client::reason(&error));
            Row { endpoint: endpoint.authority(), name: None, state: None, unreachable }
        }
    });
    let members = rows.collect();
    let leader = leader.map(|id| named(id).unwrap_or_else(|| format!("{id:x}")));
    Report { serves, leader, warning, members }
}

/// The leader, as far as it can be known: a member that says so itself, of the newest term; or, if
/// nobody asked is missing, the one the others name. A leader named by others while somebody is
/// missing may be the one that is missing; one that answered, and does not say so, leads no more.
fn leader(answers: &[Answer]) -> Option<u64> {
    let id = |status: &StatusResponse| status.header.as_ref().map_or(0, |header| header.member_id);
    let newest = |claims: &dyn Fn(&StatusResponse) -> bool| {
        let claimed = answers.iter().flatten().filter(|status| claims(status));
        claimed.max_by_key(|status| status.raft_term).map(|status| status.leader)
    };
    let own = newest(&|status| status.leader != 0 && status.leader == id(status));
    let all_answered = answers.iter().all(Result::is_ok);
    let answered = |leader| answers.iter().flatten().any(|status| id(status) == leader);
    let named = |status: &StatusResponse| status.leader != 0 && !answered(status.leader);
    own.or_else(|| newest(&|status| all_answered && named(status)))
}

fn state(status: StatusResponse, (id, is_witness): (u64, bool), committed: u64) -> State {
    let role = match status.leader {
        _ if is_witness => "witness",
        _ if status.is_learner => "learner",
        leader if leader == id => "leader",
        0 => "no leader",
        _ => "follower",
    };
    State {
        id: format!("{id:x}"),
        role,
        term: status.raft_term,
        revision: status.header.map_or(0, |header| header.revision),
        commit_index: status.raft_index,
        applied_index: status.raft_applied_index,
        lag: committed.saturating_sub(status.raft_applied_index),
        db_size_bytes: status.db_size,
        version: status.version,
        errors: status.errors,
    }
}

fn print(report: &Report) {
    let head = [
        "ENDPOINT",
        "NAME",
        "ID",
        "ROLE",
        "TERM",
        "REVISION",
        "COMMIT",
        "APPLIED (LAG)",
        "DB SIZE",
        "VERSION",
        "ERRORS",
    ];
    let mut table = vec![head.map(str::to_owned)];
    table.extend(report.members.iter().map(cells));
    let widths: Vec<usize> = (0..head.len())
        .map(|i| table.iter().map(|row| row[i].chars().count()).max().unwrap_or(0))
        .collect();
    for row in &table {
        let padded = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        output::line(padded.collect::<Vec<_>>().join("  ").trim_end());
    }
    if let Some(warning) = &report.warning {
        output::line(format_args!("warning: {warning}"));
    }
    output::line(verdict(report));
}

fn verdict(report: &Report) -> String {
    let all_answered = report.members.iter().all(|row| row.state.is_some());
    match (report.serves, &report.leader) {
        (true, Some(leader)) => format!("serves; leader is {leader}"),
        (true, None) if all_answered => "serves; nobody said that it leads".to_owned(),
        (true, None) => "serves; its leader was not reached".to_owned(),
        (false, Some(leader)) => format!("does not serve, though {leader} says it leads"),
        (false, None) => "does not serve: no leader reached".to_owned(),
    }
}

fn cells(row: &Row) -> [String; 11] {
    let name = row.name.clone().unwrap_or_else(|| "-".to_owned());
    let Some(state) = &row.state else {
        let mut cells: [String; 11] = std::array::from_fn(|_| "-".to_owned());
        cells[0].clone_from(&row.endpoint);
        cells[3] = "unreachable".to_owned();
        cells[10] = row.unreachable.clone().unwrap_or_default();
        return cells;
    };
    [
        row.endpoint.clone(),
        name,
        state.id.clone(),
        state.role.to_owned(),
        state.term.to_string(),
        state.revision.to_string(),
        state.commit_index.to_string(),
        format!("{} ({})", state.applied_index, state.lag),
        bytes(state.db_size_bytes),
        state.version.clone(),
        if state.errors.is_empty() { "-".to_owned() } else { state.errors.join("; ") },
    ]
}

fn bytes(count: i64) -> String {
    match count {
        1_048_576.. => format!("{:.1} MiB", count as f64 / 1_048_576.0),
        1_024.. => format!("{:.1} KiB", count as f64 / 1_024.0),
        _ => format!("{count} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_server::proto::etcdserverpb::ResponseHeader;
    use std::collections::BTreeMap;

    fn answer(id: u64, leader: u64, term: u64, applied: u64) -> Answer {
        Ok(StatusResponse {
            header: Some(ResponseHeader {
                member_id: id,
                revision: 7,
                ..ResponseHeader::default()
            }),
            leader,
            raft_term: term,
            raft_index: 100,
            raft_applied_index: applied,
            ..StatusResponse::default()
        })
    }

    #[test]
    fn roles_lags_and_absences_are_shown() {
        let none = client::Security::default();
        let endpoints = client::parse_endpoints("a:1,b:1,c:1", &none).expect("three");
        let gone = Err(tonic::Status::unavailable("connection refused"));
        let answers = vec![answer(1, 2, 5, 90), answer(2, 2, 5, 100), gone];
        let names = BTreeMap::from([(1, "n1".to_owned()), (2, "n2".to_owned())]);
        let known = Known { names, ..Known::default() };
        let report = report(&endpoints, answers, &known, true);
        assert_eq!(report.leader.as_deref(), Some("n2"));
        let states: Vec<_> = report
            .members
            .iter()
            .map(|row| row.state.as_ref().map(|state| (state.role, state.lag)))
            .collect();
        assert_eq!(states, [Some(("follower", 10)), Some(("leader", 0)), None]);
        assert_eq!(cells(&report.members[0])[7], "90 (10)");
        assert_eq!(cells(&report.members[2])[3], "unreachable");
        assert_eq!(cells(&report.members[2])[10], "connection refused");
    }

    #[test]
    fn the_newest_term_decides_who_leads() {
        let none = client::Security::default();
        let endpoints = client::parse_endpoints("a:1,b:1", &none).expect("two");
        let answers = vec![answer(1, 1, 5, 100), answer(2, 2, 6, 100)];
        let report = report(&endpoints, answers, &Known::default(), false);
        assert_eq!(report.leader.as_deref(), Some("2"));
    }

    #[test]
    fn a_leader_that_says_it_is_none_is_not_named_and_all_are_asked_again() {
        let endpoints = client::parse_endpoints("a:1,b:1", &client::Security::default());
        let endpoints = endpoints.expect("two");
        let electing = || vec![answer(1, 2, 5, 100), answer(2, 0, 6, 100)];
        let report = report(&endpoints, electing(), &Known::default(), true);
        assert_eq!(report.leader, None);
        assert_eq!(verdict(&report), "serves; nobody said that it leads");
        let swift = PROBE_LONG / 2;
        assert!(is_old(&electing(), true, swift), "somebody served the read");
        let settled = [answer(1, 2, 7, 100), answer(2, 2, 7, 100)];
        assert!(!is_old(&settled, true, swift));
        assert!(is_old(&settled, true, PROBE_LONG * 2), "the read may have waited for another");
        assert!(is_old(&settled, false, swift), "no leader served the read");
        assert!(!is_old(&electing(), false, swift));
    }

    #[test]
    fn members_of_two_clusters_are_warned_of() {
        let endpoints = client::parse_endpoints("a:1,b:1", &client::Security::default());
        let endpoints = endpoints.expect("two");
        let answer = |id, cluster_id| {
            let mut status = answer(id, id, 5, 100).expect("an answer");
            status.header.as_mut().expect("a header").cluster_id = cluster_id;
            Ok(status)
        };
        let warning = |second| {
            let answers = vec![answer(1, 7), answer(2, second)];
            report(&endpoints, answers, &Known::default(), true).warning
        };
        assert_eq!(warning(7), None);
        let told = warning(8).expect("a warning");
        assert!(told.contains("members of 2 clusters"), "{told}");
        assert!(told.contains("(7: a:1; 8: b:1)"), "{told}");
    }

    #[test]
    fn a_leader_that_may_be_missing_is_not_named() {
        let gone = || Err(tonic::Status::unavailable("connection refused"));
        assert_eq!(leader(&[answer(1, 2, 5, 100), gone()]), None);
        assert_eq!(leader(&[answer(1, 2, 5, 100)]), Some(2), "it was not asked");
        assert_eq!(leader(&[answer(1, 1, 5, 100), gone()]), Some(1));
        assert_eq!(leader(&[answer(1, 0, 5, 100)]), None);
    }
}
