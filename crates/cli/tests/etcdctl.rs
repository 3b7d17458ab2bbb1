//! The official command line client, if it is installed: what it prints is compared with what is
//! known to be right, and, if the original server is installed too, with what it prints there.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use std::process::{Command, Output, Stdio};
use support::cluster::{Cluster, Program, Settings};

/// Commands, what is typed into them, and what they print. `!` begins an error.
const CONVERSATION: &[(&str, &str, &str)] = &[
    ("put a 1", "", "OK"),
    ("get a", "", "a\n1"),
    ("put --prev-kv a 2", "", "OK\na\n1"),
    ("get --print-value-only a", "", "2"),
    ("get nothing", "", ""),
    ("put k1 x", "", "OK"),
    ("put k2 y", "", "OK"),
    ("put k3 z", "", "OK"),
    ("get --prefix k", "", "k1\nx\nk2\ny\nk3\nz"),
    ("get --prefix --keys-only k", "", "k1\n\nk2\n\nk3\n"),
    ("get --prefix --limit 2 k", "", "k1\nx\nk2\ny"),
    ("get --prefix --order DESCEND --sort-by KEY k", "", "k3\nz\nk2\ny\nk1\nx"),
    ("get --prefix --order DESCEND --sort-by VALUE --limit 1 k", "", "k3\nz"),
    ("get --from-key k2", "", "k2\ny\nk3\nz"),
    ("get k1 k3", "", "k1\nx\nk2\ny"),
    ("get --rev 2 a", "", "a\n1"),
    ("get --rev 3 --prefix k", "", ""),
    ("get --rev 99 a", "", "!mvcc: required revision is a future revision"),
    ("get --consistency s a", "", "a\n2"),
    ("put --ignore-value a", "", "OK"),
    ("put --ignore-value nothing", "", "!key not found"),
    ("put --lease 123 a 1", "", "!requested lease not found"),
    ("put", "", "!put command needs 1 argument"),
    (
        "txn",
        "mod(\"a\") > \"0\"\nvalue(\"a\") = \"2\"\n\nput a 3\nget a\n\nput a 4\n\n",
        "SUCCESS\n\nOK\n\na\n3",
    ),
    ("txn", "value(\"a\") = \"2\"\n\nput a 5\n\nget a\ndel k3\n\n", "FAILURE\n\na\n3\n\n1"),
    ("txn", "create(\"new\") = \"0\"\n\nput new 1\n\nget new\n\n", "SUCCESS\n\nOK"),
    ("txn", "version(\"new\") = \"1\"\n\ndel new\n\n\n", "SUCCESS\n\n1"),
    ("txn", "\nput a 1\nput a 2\n\n\n", "!duplicate key given in txn request"),
    ("del k1", "", "1"),
    ("del k1", "", "0"),
    ("put k1 w", "", "OK"),
    ("del --prev-kv --prefix k", "", "2\nk1\nw\nk2\ny"),
    ("get --prefix k", "", ""),
    ("compaction 4", "", "compacted revision 4"),
    ("compaction 4", "", "!mvcc: required revision has been compacted"),
    ("compaction 99", "", "!mvcc: required revision is a future revision"),
    ("get --rev 3 a", "", "!mvcc: required revision has been compacted"),
    ("get --rev 4 a", "", "a\n2"),
    ("put bytes \u{fc}\u{4e2d}", "", "OK"),
    ("get --hex bytes", "", "\\x62\\x79\\x74\\x65\\x73\n\\xc3\\xbc\\xe4\\xb8\\xad"),
    ("del --from-key \"\"", "", "2"),
    ("get --prefix \"\"", "", ""),
];

/// Says which client is missing, so that a skipped test is seen.
fn missing(program: &str) -> bool {
    let found = Command::new(program).arg("version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} not found on PATH; install etcd-client and etcd-server");
    }
    !found
}

fn etcdctl(endpoints: &str, words: &str, typed: &str) -> Output {
    let words = words.split(' ').map(|word| if word == "\"\"" { "" } else { word });
    let mut child = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoints}"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("etcdctl");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that reads nothing closes the pipe first, which is no fault of it.
    let _ = std::io::Write::write_all(&mut stdin, typed.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("etcdctl")
}

fn endpoints(cluster: &Cluster) -> String {
    let all = cluster.members.iter().map(|m| format!("http://127.0.0.1:{}", m.client_port));
    all.collect::<Vec<_>>().join(",")
}

/// What a command printed, without the end of the last line; errors begin with `!`.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        let printed = text(&output.stdout);
        return printed.strip_suffix('\n').unwrap_or(&printed).to_owned();
    }
    // The last line; the one before it is a log line with a time and an address.
    let error = text(&output.stderr);
    let last = error.lines().rfind(|line| line.starts_with("Error:")).unwrap_or(&error);
    let last = last.trim_start_matches("Error: ").trim_start_matches("etcdserver: ");
    format!("!{}", last.trim_end())
}

#[tokio::test]
async fn a_conversation_with_etcdctl_goes_as_with_etcd() {
    if missing("etcdctl") {
        return;
    }
    let ours = Cluster::start(Settings::of(3)).await;
    let theirs = if missing("etcd") {
        None
    } else {
        Some(Cluster::start(Settings { program: Program::Etcd, ..Settings::of(1) }).await)
    };
    for (words, typed, expected) in CONVERSATION {
        let here = said(&etcdctl(&endpoints(&ours), words, typed));
        let matches = match expected.strip_prefix('!') {
            Some(error) => here.starts_with('!') && here.contains(error),
            None => here == *expected,
        };
        assert!(matches, "etcdctl {words}\n{here}\nexpected\n{expected}");
        if let Some(theirs) = &theirs {
            let there = said(&etcdctl(&endpoints(theirs), words, typed));
            assert_eq!(here, there, "etcdctl {words}: ours and the original's");
        }
    }
}

/// Headers differ in ids and terms; everything else of the JSON output must be the original's.
#[tokio::test]
async fn answers_in_json_have_the_originals_fields() {
    if missing("etcdctl") || missing("etcd") {
        return;
    }
    let ours = Cluster::start(Settings::of(1)).await;
    let theirs = Cluster::start(Settings { program: Program::Etcd, ..Settings::of(1) }).await;
    let commands = [
        ("put a 1", ""),
        ("put --prev-kv a 2", ""),
        ("get a", ""),
        ("get --prefix --limit 1 \"\"", ""),
        ("get nothing", ""),
        ("txn", "value(\"a\") = \"2\"\n\nput a 3\nget a\ndel b\n\n\n"),
        ("txn", "value(\"a\") = \"2\"\n\nput a 3\n\nget a\n\n"),
        ("del --prev-kv a", ""),
        ("get a --rev 3", ""),
    ];
    for (words, typed) in commands {
        let mut answers = [&ours, &theirs].map(|cluster| {
            let output = etcdctl(&endpoints(cluster), &format!("-w json {words}"), typed);
            let text = said(&output);
            let json: serde_json::Value =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
            json
        });
        for answer in &mut answers {
            let header = answer["header"].as_object_mut().expect("a header");
            for own in ["cluster_id", "member_id", "raft_term"] {
                assert!(header.remove(own).is_some(), "etcdctl {words}: no {own} in the header");
            }
        }
        assert_eq!(answers[0], answers[1], "etcdctl -w json {words}");
    }
}

#[tokio::test]
async fn members_health_status_and_leadership_are_shown_and_moved() {
    if missing("etcdctl") {
        return;
    }
    let cluster = Cluster::start(Settings::of(3)).await;
    let all = endpoints(&cluster);
    let members = said(&etcdctl(&all, "member list", ""));
    for member in &cluster.members {
        let urls = format!("{}, http://127.0.0.1:{}", member.peer_url(), member.client_port);
        let line = format!(", started, {}, {urls}, false", member.name);
        assert!(members.contains(&line), "{members}\nhas no\n{line}");
    }
    assert_eq!(members.lines().count(), 3, "{members}");

    let output = etcdctl(&all, "endpoint health", "");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(text.matches("is healthy: successfully committed proposal").count(), 3, "{text}");

    let text = said(&etcdctl(&all, "endpoint status -w json", ""));
    let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let status = status.as_array().expect("one status per endpoint");
    assert_eq!(status.len(), 3, "{text}");
    let version = status[0]["Status"]["version"].as_str().expect("a version");
    assert!(version.starts_with("3."), "clients parse the version: {version}");
    for field in ["dbSize", "leader", "raftIndex", "raftTerm", "raftAppliedIndex"] {
        let value = status[0]["Status"][field].as_u64();
        assert!(value.is_some_and(|value| value > 0), "{field}: {text}");
    }

    let leader = cluster.leader().await;
    let target = cluster.follower().await;
    let header = cluster.client(target).status().await.expect("a status").header;
    let target_id = header.expect("a header").member_id;
    let words = format!("move-leader {target_id:x}");
    let refusal = said(&etcdctl(&one(&cluster, target), &words, ""));
    assert!(refusal.contains("no leader endpoint given"), "{refusal}");
    let moved = said(&etcdctl(&one(&cluster, leader), &words, ""));
    assert!(moved.starts_with("Leadership transferred from"), "{moved}");
    assert!(moved.ends_with(&format!("to {target_id:x}")), "{moved}");
    assert_eq!(cluster.leader().await, target, "the leader after the move");
}

fn one(cluster: &Cluster, i: usize) -> String {
    format!("127.0.0.1:{}", cluster.members[i].client_port)
}
