//! `quorate lock` and `quorate elect`: who runs, what becomes of the command when the lock is lost,
//! and what the one who started it is told.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use quorate_server::proto::mvccpb::KeyValue;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};
use support::client::Freshness;
use support::cluster::{Cluster, SOON, Settings, binary};

/// Time between two looks at something that is waited for.
const GLANCE: Duration = Duration::from_millis(20);

/// A lease that no stall of a busy machine ends.
const LONG: &str = "--ttl=60";

fn endpoints(cluster: &Cluster) -> String {
    let all = cluster.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port));
    all.collect::<Vec<_>>().join(",")
}

fn quorate(cluster: &Cluster, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.arg(words[0]).arg(format!("--endpoints={}", endpoints(cluster))).args(&words[1..]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Status, standard output and standard error of a command that ends by itself.
fn run(cluster: &Cluster, words: &[&str]) -> (i32, String, String) {
    let output = quorate(cluster, words).output().expect("the binary under test");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("a status"), text(&output.stdout), text(&output.stderr))
}

/// A command that goes on; it is killed with the test.
struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(cluster: &Cluster, words: &[&str]) -> Running {
        let mut child = quorate(cluster, words).spawn().expect("the binary under test");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Running { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("a pipe");
        line.trim_end().to_owned()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Status and standard error, once it has ended by itself.
    fn ended(&mut self) -> (i32, String) {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status.code().expect("a status");
            }
            assert!(since.elapsed() < SOON, "it does not end");
            std::thread::sleep(GLANCE);
        };
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("a pipe");
        (status, said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn keys(cluster: &Cluster, i: usize) -> Vec<String> {
    let since = Instant::now();
    loop {
        match cluster.client(i).all(Freshness::Linearizable).await {
            Ok(all) => {
                let text = |kv: &KeyValue| String::from_utf8_lossy(&kv.key).into_owned();
                return all.kvs.iter().map(text).collect();
            }
            Err(failure) => assert!(since.elapsed() < SOON, "{failure}"),
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn wait_keys(cluster: &Cluster, i: usize, count: usize) -> Vec<String> {
    let since = Instant::now();
    loop {
        let found = keys(cluster, i).await;
        if found.len() == count {
            return found;
        }
        assert!(since.elapsed() < SOON, "{found:?} are there, not {count}");
        tokio::time::sleep(GLANCE).await;
    }
}

fn wait_for(path: &Path) -> String {
    let since = Instant::now();
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text.trim_end().to_owned(),
            _ => assert!(since.elapsed() < SOON, "{} is not written", path.display()),
        }
        std::thread::sleep(GLANCE);
    }
}

/// The lease that a key of a line is named after.
fn lease_of(key: &str) -> String {
    key.rsplit('/').next().expect("a last part").to_owned()
}

#[tokio::test]
async fn a_command_runs_under_the_lock_and_its_status_is_handed_through() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let show = "echo $QUORATE_LOCK_NAME $QUORATE_LOCK_KEY $QUORATE_FENCING_TOKEN $QUORATE_FENCE \
                $ETCD_LOCK_KEY $ETCD_LOCK_REV; exit 7";
    let (status, said, errors) = run(&cluster, &["lock", LONG, "jobs", "--", "sh", "-c", show]);
    assert_eq!((status, errors.as_str()), (7, ""));
    let words: Vec<&str> = said.split_whitespace().collect();
    let [name, key, token, fence, etcd_key, etcd_rev] = words[..] else { panic!("{said}") };
    assert_eq!((name, token), ("jobs", "2"), "the first write of this store took it");
    assert!(key.starts_with("jobs/"), "{said}");
    assert_eq!((etcd_key, etcd_rev), (key, token));
    assert_eq!(fence, format!("{key}={token}"));
    assert!(keys(&cluster, 0).await.is_empty(), "the lock was given back");

    let (status, ..) = run(&cluster, &["lock", LONG, "jobs", "--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(status, 128 + 9);
    let (status, _, errors) = run(&cluster, &["lock", LONG, "jobs", "--", "/no/such/program"]);
    assert_eq!(status, 2, "{errors}");
    assert!(errors.contains("cannot run /no/such/program"), "{errors}");
    let (status, said, errors) =
        run(&cluster, &["lock", LONG, "--json", "jobs", "--", "echo", "out"]);
    assert_eq!((status, said.as_str()), (0, "out\n"), "its output is its own");
    let events: Vec<serde_json::Value> =
        errors.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(events[0]["event"], "held");
    assert_eq!(events[0]["token"], 8, "after four keys created and three deleted");
    assert_eq!((&events[1]["event"], &events[1]["status"]), (&"done".into(), &0.into()));
    assert!(keys(&cluster, 0).await.is_empty());
}

#[tokio::test]
async fn one_holds_and_the_others_wait_or_give_up() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let mut holder = Running::start(&cluster, &["lock", LONG, "jobs"]);
    let held = holder.line();
    assert!(held.starts_with("jobs/"), "{held}");
    for timeout in ["--timeout=0", "--timeout=1s"] {
        let (status, said, errors) =
            run(&cluster, &["lock", LONG, timeout, "jobs", "--", "echo", "never"]);
        assert_eq!((status, said.as_str()), (75, ""), "{errors}");
        assert!(errors.contains("somebody else holds it"), "{errors}");
    }
    assert_eq!(keys(&cluster, 0).await.len(), 1, "who gave up stands in no line");
    let mut second = Running::start(&cluster, &["lock", LONG, "jobs", "--", "echo", "in turn"]);
    wait_keys(&cluster, 0, 2).await;
    holder.signal(Signal::INT);
    assert_eq!(holder.ended(), (0, String::new()));
    assert_eq!(second.line(), "in turn");
    assert_eq!(second.ended().0, 0);
    // Who is interrupted while he waits says so, and leaves nothing behind.
    let mut holder = Running::start(&cluster, &["lock", LONG, "jobs"]);
    holder.line();
    let mut waiter = Running::start(&cluster, &["lock", LONG, "jobs"]);
    wait_keys(&cluster, 0, 2).await;
    waiter.signal(Signal::TERM);
    assert_eq!(waiter.ended().0, 128 + 15);
    wait_keys(&cluster, 0, 1).await;
}

#[tokio::test]
async fn signals_reach_the_command() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let script = "trap 'echo heard; exit 3' INT; echo ready; while :; do sleep 0.05; done";
    let mut running = Running::start(&cluster, &["lock", LONG, "jobs", "--", "sh", "-c", script]);
    assert_eq!(running.line(), "ready");
    running.signal(Signal::INT);
    assert_eq!(running.line(), "heard");
    assert_eq!(running.ended().0, 3);
    wait_keys(&cluster, 0, 0).await;
}

#[tokio::test]
async fn a_command_whose_lock_is_lost_is_ended_with_all_its_children() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let pids = cluster.dir().join("pids");
    // Neither the command nor its child hears SIGTERM.
    let script = format!(
        "trap 'echo told' TERM; (trap '' TERM; while :; do sleep 0.05; done) & \
         echo $$ $! > {}; while :; do sleep 0.05; done",
        pids.display()
    );
    for by in ["lease revoke", "del"] {
        let _ = std::fs::remove_file(&pids);
        let words = ["lock", LONG, "--grace=300ms", "jobs", "--", "sh", "-c", &script];
        let mut running = Running::start(&cluster, &words);
        let started = wait_for(&pids);
        let key = keys(&cluster, 0).await.remove(0);
        match by {
            "del" => run(&cluster, &["ctl", "del", &key]),
            _ => run(&cluster, &["ctl", "lease", "revoke", &lease_of(&key)]),
        };
        let (status, errors) = running.ended();
        assert_eq!(status, 76, "{by}: {errors}");
        assert!(errors.contains("lost: "), "{by}: {errors}");
        assert_eq!(running.line(), "told", "{by}: SIGTERM comes first");
        for pid in started.split(' ') {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            assert!(stat.is_empty() || stat.contains(" Z "), "{by}: {pid} lives on: {stat}");
        }
    }
}

#[tokio::test]
async fn the_lock_is_held_while_the_leader_dies_and_lost_when_nobody_is_left() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let mut holder = Running::start(&cluster, &["lock", "--ttl=8", "jobs"]);
    let held = holder.line();
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.leader().await;
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(10) {
        assert!(holder.child.try_wait().expect("a child").is_none(), "it lost its lock");
        tokio::time::sleep(GLANCE).await;
    }
    let left = (0..3).find(|i| cluster.is_up(*i)).expect("somebody");
    let key = held.split(' ').next().expect("a key");
    assert_eq!(keys(&cluster, left).await, [key], "and has it still");
    let last: Vec<usize> = (0..3).filter(|i| cluster.is_up(*i)).collect();
    let alone = Instant::now();
    last.into_iter().for_each(|i| cluster.pause(i));
    let (status, errors) = holder.ended();
    assert_eq!(status, 76, "{errors}");
    assert!(errors.contains("no keep-alive was answered"), "{errors}");
    assert!(alone.elapsed() > Duration::from_secs(3), "after {:?}", alone.elapsed());
}

#[tokio::test]
async fn a_leader_is_elected_and_observed() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let mut observer = Running::start(&cluster, &["elect", "boss", "--observe"]);
    let mut first = Running::start(&cluster, &["elect", LONG, "boss", "ann"]);
    let key = first.line().split(' ').next().expect("a key").to_owned();
    assert_eq!((observer.line(), observer.line()), (key, "ann".to_owned()));
    let words = ["elect", LONG, "boss", "bob", "--", "sh", "-c", "echo $QUORATE_LOCK_KEY; exit 4"];
    let mut second = Running::start(&cluster, &words);
    wait_keys(&cluster, 0, 2).await;
    first.signal(Signal::INT);
    let key = second.line();
    assert_eq!(second.ended().0, 4);
    assert_eq!((observer.line(), observer.line()), (key, "bob".to_owned()));
}

#[tokio::test]
async fn clients_of_etcd_stand_in_the_same_line() {
    if Command::new("etcdctl").arg("version").output().is_err() {
        eprintln!("SKIPPED: etcdctl not found on PATH; install etcd-client");
        return;
    }
    let cluster = Cluster::start(Settings::of(3)).await;
    let etcdctl = |words: &[&str]| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", endpoints(&cluster)));
        command.args(words).output().expect("etcdctl")
    };
    let mut ours = Running::start(&cluster, &["lock", LONG, "jobs"]);
    ours.line();
    let waiting = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| etcdctl(&["lock", "jobs", "--", "echo", "theirs"]));
        let since = Instant::now();
        let count = || {
            let listed = etcdctl(&["get", "--prefix", "--keys-only", "jobs/"]).stdout;
            String::from_utf8_lossy(&listed).lines().filter(|line| !line.is_empty()).count()
        };
        while count() < 2 {
            assert!(since.elapsed() < SOON, "it does not stand in line");
        }
        assert!(!theirs.is_finished(), "it waits");
        ours.signal(Signal::INT);
        theirs.join().expect("it ends")
    });
    assert_eq!(String::from_utf8_lossy(&waiting.stdout), "theirs\n");
}

#[test]
fn wrong_usage_and_nobody_there_are_told_apart() {
    let run = |words: &[&str]| {
        let output = Command::new(binary()).args(words).output().expect("the binary under test");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for words in [
        &["lock"][..],
        &["lock", "jobs", "--ttl=1"],
        &["lock", "jobs", "--timeout=soon"],
        &["lock", "jobs", "ls"],
        &["elect", "boss", "value", "--observe"],
        &["lock", "jobs", "--endpoints=nonsense"],
    ] {
        let (status, errors) = run(words);
        assert_eq!(status, Some(2), "{words:?}: {errors}");
        assert!(!errors.is_empty(), "{words:?}");
    }
    let nobody = format!("--endpoints=127.0.0.1:{}", support::net::free_port());
    let (status, errors) = run(&["lock", "jobs", &nobody, "--", "true"]);
    assert_eq!(status, Some(2), "{errors}");
    assert!(errors.contains("no member answered") && errors.contains("refused"), "{errors}");
}
