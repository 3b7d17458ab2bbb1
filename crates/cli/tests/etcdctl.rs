//! The official command line client, if it is installed: what it prints is compared with what is
//! known to be right, and, if the original server is installed too, with what it prints there.
//!
//! `QUORATE_ETCDCTLS` names several of them, separated by colons, for what is built in the client
//! and differs between its versions: locks, elections, mirrors, checks.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::client::Freshness;
use support::cluster::{Cluster, Program, SOON, Settings};
use support::missing;

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
    ("compaction --physical 3", "", "!mvcc: required revision has been compacted"),
    ("get --rev 3 a", "", "!mvcc: required revision has been compacted"),
    ("get --rev 4 a", "", "a\n2"),
    ("put bytes \u{fc}\u{4e2d}", "", "OK"),
    ("get --hex bytes", "", "\\x62\\x79\\x74\\x65\\x73\n\\xc3\\xbc\\xe4\\xb8\\xad"),
    ("del --from-key \"\"", "", "2"),
    ("compaction --physical 8", "", "compacted revision 8"),
    ("get --prefix \"\"", "", ""),
];

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
    let _ = Write::write_all(&mut stdin, typed.as_bytes());
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

/// The clients to show recipes with: those of the environment, or the one on the search path.
fn clients() -> Vec<String> {
    let programs = std::env::var("QUORATE_ETCDCTLS").unwrap_or_else(|_| "etcdctl".to_owned());
    programs.split(':').filter(|program| !missing(program)).map(str::to_owned).collect()
}

/// A client that goes on running, with what it prints.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(program: &str, endpoints: &str, words: &[&str]) -> Running {
        let mut child = Command::new(program)
            .env("ETCDCTL_API", "3")
            .arg(format!("--endpoints={endpoints}"))
            .args(words)
            // Where the client is a script, whatever it starts ends with it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcdctl");
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Running { child, lines }
    }

    /// What it prints next.
    fn line(&self) -> String {
        self.lines.recv_timeout(SOON).expect("the client prints a line")
    }

    /// True if it has printed nothing new, and does not for so long.
    fn is_silent(&self, length: Duration) -> bool {
        self.lines.recv_timeout(length).is_err()
    }

    fn type_in(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{line}").expect("it reads");
    }

    /// Ends it by a signal, and waits until it has ended.
    fn end(mut self, signal: Signal) {
        let group = Pid::from_child(&self.child);
        kill_process_group(group, signal).expect("a signal");
        self.child.wait().expect("a child that ended");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, and been waited for, before.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

fn run(program: &str, endpoints: &str, words: &[&str]) -> String {
    let output = Command::new(program)
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={endpoints}"))
        .args(words)
        .output()
        .expect("etcdctl");
    said(&output)
}

/// The queue of a lock or an election: its keys, in the order of their creation.
fn queue(program: &str, endpoints: &str, prefix: &str) -> Vec<String> {
    let words = ["get", "--prefix", "--keys-only", "--sort-by", "CREATE", "--order", "ASCEND"];
    let said = run(program, endpoints, &[&words[..], &[prefix]].concat());
    said.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Waits until so many stand in the queue.
fn wait_queue(program: &str, endpoints: &str, prefix: &str, count: usize) -> Vec<String> {
    let deadline = Instant::now() + SOON;
    loop {
        let queue = queue(program, endpoints, prefix);
        if queue.len() == count {
            return queue;
        }
        assert!(Instant::now() < deadline, "{queue:?} are in the queue, not {count}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[tokio::test]
async fn a_lock_passes_on_when_its_holder_lets_go_or_dies() {
    for program in clients() {
        let program = program.as_str();
        let mut cluster = Cluster::start(Settings::of(3)).await;
        let all = endpoints(&cluster);
        let command = "echo $ETCD_LOCK_KEY at $ETCD_LOCK_REV";
        let said = run(program, &all, &["lock", "jobs", "--", "sh", "-c", command]);
        let (key, revision) = said.split_once(" at ").expect("key and revision");
        assert!(key.starts_with("jobs/"), "{said}");
        assert_eq!(revision, "2", "the first write of this store took it");
        assert!(queue(program, &all, "jobs/").is_empty(), "the lock was given back");

        let holder = Running::start(program, &all, &["lock", "--ttl=4", "jobs"]);
        let held = holder.line();
        let second = Running::start(program, &all, &["lock", "--ttl=4", "jobs"]);
        assert_eq!(wait_queue(program, &all, "jobs/", 2)[0], held);
        let third = Running::start(program, &all, &["lock", "--ttl=4", "jobs"]);
        let waiting = wait_queue(program, &all, "jobs/", 3);
        assert!(second.is_silent(Duration::from_secs(5)), "renewed for longer than its time");

        // kill -9: nobody says good-bye, so the lease has to end.
        let killed = Instant::now();
        holder.end(Signal::KILL);
        assert_eq!(second.line(), waiting[1], "they are served in their order");
        let passed = killed.elapsed();
        // It was renewed within the last half of its time.
        assert!(passed > Duration::from_secs(1), "passed on after {passed:?} of four seconds");

        // It survives the leader, and an orderly end passes it on at once.
        let leader = cluster.leader().await;
        cluster.kill(leader);
        assert!(third.is_silent(Duration::from_secs(5)), "the holder lives");
        assert_eq!(queue(program, &all, "jobs/"), waiting[1..], "and so do both leases");
        second.end(Signal::INT);
        assert_eq!(third.line(), waiting[2]);
        third.end(Signal::INT);
        wait_queue(program, &all, "jobs/", 0);
    }
}

#[tokio::test]
async fn an_election_is_observed_and_passes_on() {
    for program in clients() {
        let program = program.as_str();
        let cluster = Cluster::start(Settings::of(3)).await;
        let all = endpoints(&cluster);
        let first = Running::start(program, &all, &["elect", "boss", "ann"]);
        let elected = (first.line(), first.line());
        assert!(elected.0.starts_with("boss/"), "{elected:?}");
        assert_eq!(elected.1, "ann");
        let observer = Running::start(program, &one(&cluster, 1), &["elect", "-l", "boss"]);
        assert_eq!((observer.line(), observer.line()), elected);
        let second = Running::start(program, &all, &["elect", "boss", "bob"]);
        wait_queue(program, &all, "boss/", 2);
        let third = Running::start(program, &all, &["elect", "boss", "cid"]);
        let waiting = wait_queue(program, &all, "boss/", 3);
        assert!(second.is_silent(Duration::from_millis(500)), "there is one leader");

        // The key's name is the lease in hexadecimal: without it there is no candidate any more.
        first.end(Signal::KILL);
        let lease = elected.0.trim_start_matches("boss/");
        let revoked = run(program, &all, &["lease", "revoke", lease]);
        assert_eq!(revoked, format!("lease {lease:0>16} revoked"));
        assert_eq!((second.line(), second.line()), (waiting[1].clone(), "bob".to_owned()));
        assert_eq!((observer.line(), observer.line()), (waiting[1].clone(), "bob".to_owned()));
        second.end(Signal::INT);
        assert_eq!((third.line(), third.line()), (waiting[2].clone(), "cid".to_owned()));
        assert_eq!((observer.line(), observer.line()), (waiting[2].clone(), "cid".to_owned()));
    }
}

#[tokio::test]
async fn watches_are_typed_in_run_commands_and_tell_progress() {
    for program in clients() {
        let program = program.as_str();
        let cluster = Cluster::start(Settings::of(3)).await;
        let all = endpoints(&cluster);
        let mut watch = Running::start(program, &all, &["watch", "-i"]);
        watch.type_in("watch --prefix a/ --rev 1");
        let mut client = cluster.client(0);
        client.put("b", "other").await.expect("a write");
        let last = client.put("a/1", "one").await.expect("a write");
        assert_eq!([watch.line(), watch.line(), watch.line()], ["PUT", "a/1", "one"]);
        // Nothing is said of progress before a watcher has caught up.
        let deadline = Instant::now() + SOON;
        let told = loop {
            watch.type_in("progress");
            match watch.lines.recv_timeout(Duration::from_millis(500)) {
                Ok(line) => break line,
                Err(_) => assert!(Instant::now() < deadline, "no progress"),
            }
        };
        assert_eq!(told, format!("progress notify: {last}"));

        let echo = "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE";
        let words = ["watch", "--rev=3", "a/1", "--", "sh", "-c", echo];
        let runs = Running::start(program, &all, &words);
        let printed = [runs.line(), runs.line(), runs.line(), runs.line()];
        assert_eq!(printed[..3], ["PUT", "a/1", "one"]);
        assert_eq!(printed[3], r#""PUT" "a/1" "one""#, "the client quotes what it hands on");
    }
}

#[tokio::test]
async fn a_mirror_follows_another_cluster() {
    for program in clients() {
        let (from, to) =
            (Cluster::start(Settings::of(1)).await, Cluster::start(Settings::of(1)).await);
        let mut source = from.client(0);
        for number in 0..1_100 {
            // More than one page of the client's listing.
            source.put(&format!("m/{number:04}"), number.to_string()).await.expect("a write");
        }
        let words = ["make-mirror", "--prefix=m/", "--dest-prefix=copy/", &one(&to, 0)];
        let _mirror = Running::start(&program, &one(&from, 0), &words);
        let mut copy = to.client(0);
        let deadline = Instant::now() + SOON;
        while copy.get("copy/1099", Freshness::Linearizable).await.expect("a get").found.is_none() {
            assert!(Instant::now() < deadline, "the mirror does not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        source.delete("m/0000").await.expect("a delete");
        source.put("m/0001", "new").await.expect("a write");
        loop {
            let all = copy.all(Freshness::Linearizable).await.expect("everything");
            if all.kvs[0].value == "new" {
                assert_eq!(all.kvs[0].key, "copy/0001");
                assert_eq!(all.kvs.len(), 1_099);
                break;
            }
            assert!(Instant::now() < deadline, "the mirror stands still");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A minute of load, and figures of a machine: for the hand, not for every change.
///
///     cargo test -p quorate --test etcdctl -- --ignored --nocapture
#[tokio::test]
#[ignore = "it takes a minute for each client, and judges the machine as well"]
async fn the_clients_own_checks_pass() {
    for program in clients() {
        let cluster = Cluster::start(Settings::of(3)).await;
        let all = endpoints(&cluster);
        let data = run(&program, &all, &["check", "datascale", "--load", "s"]);
        eprintln!("{data}");
        assert!(data.contains("PASS: Approximate system memory used"), "{data}");
        let perf = run(&program, &all, &["check", "perf", "--load", "s"]);
        eprintln!("{perf}");
        assert!(perf.trim_end().ends_with("PASS") && !perf.contains("FAIL"), "{perf}");
    }
}
