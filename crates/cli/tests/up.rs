//! `quorate up`, `status` and `ctl`, as somebody at a terminal meets them.

mod support;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use support::client::{Client, Freshness};
use support::cluster::{SOON, binary};
use support::net::{free_port, free_ports, http_get, loopback};
use tempfile::TempDir;

/// Ports between two members of `up`.
const PORT_STRIDE: u16 = 10;

/// Ports that a cluster of three spans.
const PORT_SPAN: u16 = 2 * PORT_STRIDE + 2;

/// A running `quorate up`; dropping it kills it, and its members notice.
struct Up {
    child: Child,
    events: Receiver<Value>,
    seen: Vec<Value>,
    port_base: u16,
}

impl Up {
    fn start(data: &Path, port_base: u16) -> Up {
        let mut child = command(data, port_base)
            .arg("--json")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary under test starts");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let line = line.expect("text");
                let event = serde_json::from_str(&line)
                    .unwrap_or_else(|error| panic!("--json printed {line:?}: {error}"));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Up { child, events, seen: Vec::new(), port_base }
    }

    /// The next event of this name; others are skipped.
    fn wait(&mut self, name: &str) -> Value {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if event["event"] == name {
                        return event;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("no event {name:?} after {:?}", self.seen);
                }
            }
        }
    }

    fn client(&self, member: u16) -> Client {
        Client::new(self.port_base + PORT_STRIDE * member)
    }

    fn endpoints(&self) -> String {
        let all = (0..3).map(|i| format!("127.0.0.1:{}", self.port_base + PORT_STRIDE * i));
        all.collect::<Vec<_>>().join(",")
    }

    /// The processes of its members.
    fn members(&self) -> Vec<Pid> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        let children = children.expect("a living process");
        let pids = children.split_whitespace().map(|pid| pid.parse().expect("a number"));
        pids.filter_map(Pid::from_raw).collect()
    }

    /// How often that member was told by us that another's process has ended.
    fn seen_exits(&self, member: u16) -> u64 {
        let page = http_get(self.port_base + PORT_STRIDE * member, "/metrics").expect("figures").1;
        let told = page.lines().filter(|line| {
            line.starts_with("quorate_peer_evidence_total{") && line.contains("kind=\"exited\"")
        });
        told.map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("it")).sum()
    }

    fn interrupt(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("a signal");
        wait_exit(&mut self.child)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let members = if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.members()
        } else {
            Vec::new()
        };
        let _ = self.child.kill();
        let _ = self.child.wait();
        for member in members {
            let _ = kill_process(member, Signal::KILL);
        }
    }
}

fn command(data: &Path, port_base: u16) -> Command {
    let mut command = Command::new(binary());
    command.args(["up", "--nodes", "3", "--port-base", &port_base.to_string(), "--data"]).arg(data);
    command
}

fn wait_exit(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        assert!(Instant::now() < deadline, "the process still runs");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_gone(pids: &[Pid]) {
    let deadline = Instant::now() + SOON;
    while pids.iter().any(|pid| test_kill_process(*pid).is_ok()) {
        assert!(Instant::now() < deadline, "members outlived their supervisor");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Writes once the cluster is able to, as somebody does who repeats a command.
async fn put(client: &mut Client, key: &str, value: &str) {
    let deadline = Instant::now() + SOON;
    while let Err(failure) = client.put(key, value).await {
        assert!(Instant::now() < deadline, "{failure}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn up_serves_heals_stops_and_continues() {
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    let base = free_ports(PORT_SPAN);
    let mut up = Up::start(&data, base);
    let ready = up.wait("ready");
    let endpoints = ready["endpoints"].as_array().expect("endpoints");
    let first = Value::from(format!("127.0.0.1:{base}"));
    assert_eq!((endpoints.len(), &endpoints[0]), (3, &first));
    assert_eq!(up.wait("leader")["leader"].as_str().map(str::len), Some(2));
    put(&mut up.client(0), "k", "before").await;

    let members = up.members();
    assert_eq!(members.len(), 3, "one process per member");
    kill_process(members[1], Signal::KILL).expect("a signal");
    let stopped = up.wait("stopped");
    assert_eq!(stopped["how"], "signal 9");
    put(&mut up.client(0), "k", "meanwhile").await;
    let deadline = Instant::now() + SOON;
    while up.client(1).get("k", Freshness::Linearizable).await.is_err() {
        assert!(Instant::now() < deadline, "the killed member is not back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(up.members().len(), 3, "the killed member was replaced");
    for member in [0, 2] {
        assert!(up.seen_exits(member) > 0, "member {member} was not told");
    }

    let members = up.members();
    let status = up.interrupt();
    assert!(status.success(), "an orderly stop is a success: {status}");
    wait_gone(&members);
    drop(up);

    let mut up = Up::start(&data, base);
    assert_eq!(up.wait("starting")["continued"], true);
    up.wait("ready");
    let seen = up.client(2).get("k", Freshness::Linearizable).await.expect("a read");
    assert_eq!(seen.found.expect("the key").value, "meanwhile");
    assert!(up.interrupt().success(), "the second stop");
}

#[tokio::test]
async fn members_do_not_outlive_a_killed_supervisor() {
    let dir = TempDir::new().expect("a directory");
    let base = free_ports(PORT_SPAN);
    let mut up = Up::start(&dir.path().join("data"), base);
    up.wait("ready");
    put(&mut up.client(0), "k", "x").await;
    let members = up.members();
    up.child.kill().expect("a signal");
    up.child.wait().expect("a dead child");
    wait_gone(&members);
    // The ports are free and the lock is gone, so the same command goes on.
    let mut again = Up::start(&dir.path().join("data"), base);
    again.wait("ready");
    let seen = again.client(0).get("k", Freshness::Linearizable).await.expect("a read");
    assert_eq!(seen.found.expect("the key").value, "x");
}

fn refusal(command: &mut Command) -> String {
    let output = command.output().expect("the binary under test");
    assert_eq!(output.status.code(), Some(2), "usage or environment: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_second_up_and_a_busy_port_are_refused_by_name() {
    let dir = TempDir::new().expect("a directory");
    let data = dir.path().join("data");
    let mut up = Up::start(&data, free_ports(PORT_SPAN));
    up.wait("ready");
    let words = refusal(&mut command(&data, up.port_base));
    assert!(words.contains("another 'quorate up' is running"), "{words}");
    assert!(words.contains(&data.display().to_string()), "{words}");

    let busy_base = free_ports(PORT_SPAN);
    let busy = busy_base + PORT_STRIDE;
    let _occupant = std::net::TcpListener::bind(loopback(busy)).expect("the port");
    let words = refusal(&mut command(&dir.path().join("other"), busy_base));
    assert!(words.contains(&format!("port {busy}")), "{words}");

    let home = dir.path().join("home");
    fs::create_dir(&home).expect("a directory");
    fs::write(home.join("letter"), "dear").expect("a file");
    let words = refusal(command(&home, free_ports(PORT_SPAN)).arg("--fresh"));
    assert!(words.contains("letter"), "{words}");
    assert!(home.join("letter").exists(), "somebody's file was deleted");
    put(&mut up.client(0), "k", "still served").await;
}

fn quorate(words: &[&str]) -> Output {
    Command::new(binary()).args(words).stdin(Stdio::null()).output().expect("the binary")
}

fn said(words: &[&str]) -> String {
    let output = quorate(words);
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "quorate {words:?} ended with {}: {err}", output.status);
    out.trim_end().to_owned()
}

#[tokio::test]
async fn keys_and_status_by_hand() {
    let dir = TempDir::new().expect("a directory");
    let mut up = Up::start(&dir.path().join("data"), free_ports(PORT_SPAN));
    up.wait("ready");
    let endpoints = format!("--endpoints={}", up.endpoints());
    let ctl = |words: &[&str]| said(&[&["ctl", &endpoints], words].concat());
    assert_eq!(ctl(&["put", "hello", "world"]), "OK");
    assert_eq!(ctl(&["get", "hello"]), "hello\nworld");
    assert_eq!(ctl(&["put", "help", "me"]), "OK");
    assert_eq!(ctl(&["get", "--prefix", "hel"]), "hello\nworld\nhelp\nme");
    assert_eq!(ctl(&["del", "hello"]), "1");

    let status = || {
        let output = quorate(&["status", &endpoints, "--json"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("status --json printed {text:?}: {error}"));
        (output.status.code(), json)
    };
    let (code, json) = status();
    assert_eq!(code, Some(0), "a healthy cluster: {json}");
    for port in [0, PORT_STRIDE, 2 * PORT_STRIDE] {
        let port = (up.port_base + port).to_string();
        assert!(json.to_string().contains(&port), "{json} does not name {port}");
    }
    up.interrupt();
    let (code, json) = status();
    assert_eq!(code, Some(1), "nobody serves: {json}");
}

#[test]
fn commands_without_a_server_say_whom_they_tried() {
    let endpoint = format!("127.0.0.1:{}", free_port());
    let flag = format!("--endpoints={endpoint}");
    let output = quorate(&["ctl", &flag, "get", "k"]);
    assert!(!output.status.success(), "a read from nobody");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(words.contains(&endpoint), "{words}");
    let words = String::from_utf8_lossy(&quorate(&["ctl", "--nonsense"]).stderr).into_owned();
    assert!(words.contains("--nonsense"), "{words}");
}

/// Whoever gets at the pipe of a supervisor can have a member ask whether it could lead. Nobody who
/// hears the leader says yes.
///
/// A disk that stalls meanwhile may move the leader with good reason, so that a round in which it
/// stays is enough; a notice that elected somebody would do so in each of them.
#[tokio::test]
async fn forged_exit_notices_elect_nobody() {
    let dir = TempDir::new().expect("a directory");
    let mut up = Up::start(&dir.path().join("data"), free_ports(PORT_SPAN));
    up.wait("ready");
    put(&mut up.client(0), "k", "before").await;
    let mut rounds = Vec::new();
    while rounds.len() < 5 && !rounds.iter().any(|(before, after)| before == after) {
        let before = reign(&up).await;
        deceive(&up, before.0).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        rounds.push((before, reign(&up).await));
    }
    let (before, after) = rounds.last().expect("a round");
    assert_eq!(before, after, "each round had an election: {rounds:?}");
    assert!(up.interrupt().success(), "it stops in order");
}

/// Which member leads, counted from nought, and its term, once all three say the same.
async fn reign(up: &Up) -> (usize, u64) {
    let deadline = Instant::now() + SOON;
    loop {
        let mut told = Vec::new();
        for member in 0..3 {
            put(&mut up.client(member), "k", "value").await;
            let status = up.client(member).status().await.expect("a status");
            told.push((status.leader, status.raft_term, status.header.expect("one").member_id));
        }
        let (leader, term, _) = told[0];
        let leads = told.iter().position(|(.., member)| *member == leader);
        match leads {
            Some(leads) if told.iter().all(|one| (one.0, one.1) == (leader, term)) => {
                return (leads, term);
            }
            _ => assert!(Instant::now() < deadline, "they do not agree: {told:?}"),
        }
    }
}

/// Tells a follower of the leader's end, over and over, until it has taken a hundred notices. What
/// comes quicker than a member looks at it is dropped.
async fn deceive(up: &Up, leads: usize) {
    let deceived = (leads + 1) % 3;
    // Processes are started in the order of the members.
    let pid = up.members()[deceived].as_raw_nonzero();
    let mut pipe =
        fs::File::options().write(true).open(format!("/proc/{pid}/fd/0")).expect("a pipe");
    let (seen, deadline) = (up.seen_exits(deceived as u16), Instant::now() + SOON);
    while up.seen_exits(deceived as u16) < seen + 100 {
        assert!(Instant::now() < deadline, "the notices were not taken");
        for _ in 0..100 {
            let line = format!("exited n{} {}\nnonsense\n", leads + 1, u64::MAX);
            pipe.write_all(line.as_bytes()).expect("it reads");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
