//! What members promise while something is broken: the table greys what rests on it, says why, and
//! is whole again afterwards; and what it says of reads and writes is what clients then find.

mod support;

use quorate_server::guarantees::{AssumptionReport, PromiseReport, Report};
use quorate_server::proto::etcdserverpb as pb;
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use support::client::{Freshness, fill};
use support::cluster::{Cluster, SOON, Settings, Wires, binary};
use support::files::{copy_tree, files_below, find_last, flip_bit};
use support::frozen::Freezable;
use support::net::{free_port, http_get};
use support::proxy::Cut;

/// A disk that stands still is told by then. On a machine that is busy it may take longer.
const DISK_TOLD_WITHIN: Duration = Duration::from_secs(4);

/// Body of a plain GET, without blocking the runtime of the test. None if nobody answers.
async fn page(cluster: &Cluster, i: usize, path: &'static str) -> Option<String> {
    let port = cluster.members[i].client_port;
    let answer = tokio::task::spawn_blocking(move || http_get(port, path)).await;
    answer.expect("a thread").ok().map(|(_, body)| body)
}

async fn report(cluster: &Cluster, i: usize) -> Option<Report> {
    let body = page(cluster, i, "/guarantees").await?;
    Some(serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

fn assumption<'a>(report: &'a Report, name: &str) -> &'a AssumptionReport {
    report.assumptions.iter().find(|found| found.name == name).expect(name)
}

fn promise<'a>(report: &'a Report, operation: &str, mode: &str) -> &'a PromiseReport {
    let wanted = |found: &&PromiseReport| found.operation == operation && found.mode == mode;
    report.promises.iter().find(wanted).expect(mode)
}

fn states<'a>(report: &'a Report, names: &[(&str, &str)]) -> Vec<&'a str> {
    names.iter().map(|(operation, mode)| &promise(report, operation, mode).state[..]).collect()
}

/// Waits until an assumption of member `i` is in that state.
async fn wait(cluster: &Cluster, i: usize, name: &str, state: &str) -> Report {
    let deadline = Instant::now() + SOON;
    loop {
        let report = report(cluster, i).await;
        if let Some(report) = &report
            && assumption(report, name).state == state
        {
            return report.clone();
        }
        assert!(Instant::now() < deadline, "{name} is never {state}: {report:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// `quorate guarantees` with these flags.
async fn command(flags: &[&str]) -> Output {
    run("guarantees", flags).await
}

async fn run(subcommand: &str, flags: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg(subcommand).args(flags);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    output.expect("a thread").expect("the binary under test starts")
}

fn endpoint(cluster: &Cluster, i: usize) -> String {
    format!("127.0.0.1:{}", cluster.members[i].client_port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_is_cut_off_says_so_and_is_whole_again_when_it_is_not() {
    let settings = Settings { wires: Wires::Proxied, ..Settings::of(3) };
    let cluster = Cluster::start(settings).await;
    let ids = cluster.ids().await;
    let (lonely, other) = (cluster.follower().await, cluster.leader().await);
    cluster.client(other).put("k", "v").await.expect("a write");
    wait(&cluster, lonely, "quorum", "holds").await;
    cluster.client(lonely).get("k", Freshness::Linearizable).await.expect("a proof");

    let network = cluster.network.as_ref().expect("proxied wires");
    for i in (0..3).filter(|i| *i != lonely) {
        network.cut(ids[lonely], i, Cut::Stalled);
        network.cut(ids[i], lonely, Cut::Stalled);
    }
    let told = wait(&cluster, lonely, "quorum", "broken").await;
    let reads = [("read", "linearizable"), ("read", "bounded-staleness"), ("read", "serializable")];
    assert_eq!(states(&told, &reads), ["withdrawn", "weaker", "holds"], "{told:#?}");
    let writes = [("write", "growth"), ("write", "delete"), ("lock", "fenced-write")];
    assert_eq!(states(&told, &writes), ["withdrawn"; 3], "{told:#?}");
    assert_eq!(promise(&told, "read", "linearizable").because.as_deref(), Some("quorum"));
    let bounded = &promise(&told, "read", "bounded-staleness").promise;
    assert!(bounded.contains("or more are allowed"), "{bounded}");
    let (since, age) = (told.read_only_for_ms.expect("read-only"), told.age_ms.expect("proven"));

    // What it says is so: nothing fresh is served, its own state is.
    let mut client = cluster.client(lonely).with_patience(Duration::from_secs(1));
    client.get("k", Freshness::Linearizable).await.expect_err("no quorum");
    client.get("k", Freshness::Serializable).await.expect("its own state");
    let later = report(&cluster, lonely).await.expect("an answer");
    assert!(later.read_only_for_ms.expect("still") >= since + 1_000, "{later:#?}");
    assert!(later.age_ms.expect("proven") >= age + 1_000, "{later:#?}");

    // It says for how long, wherever operators look; what clients are told is etcd's.
    let refused = client.put("k", "w").await.expect_err("no quorum");
    assert!(!refused.to_string().contains("read-only"), "{refused}");
    let deadline = Instant::now() + SOON;
    while report(&cluster, lonely).await.expect("an answer").unserved_total == 0 {
        assert!(Instant::now() < deadline, "nothing is counted");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    cluster.wait_log(lonely, &["requests that need one and were not served"]).await;
    for (subcommand, exit) in [("guarantees", 1), ("status", 1)] {
        let output = run(subcommand, &["--endpoints", &endpoint(&cluster, lonely)]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{text}");
        assert!(text.contains("read-only for "), "{text}");
    }
    let metrics = page(&cluster, lonely, "/metrics").await.expect("an answer");
    for line in [
        "quorate_assumption_holds{name=\"quorum\"} 0\n",
        "quorate_promise_holds{operation=\"read\",mode=\"linearizable\"} 0\n",
        "quorate_promise_holds{operation=\"read\",mode=\"serializable\"} 1\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    for name in ["quorate_read_only_seconds", "quorate_unserved_without_quorum_total"] {
        let value = metrics.lines().find_map(|line| line.strip_prefix(name));
        assert!(value.is_some_and(|value| value.trim() != "0"), "{name}{value:?}");
    }
    cluster.wait_log(lonely, &["assumption broken: quorum"]).await;

    network.heal();
    let whole = wait(&cluster, lonely, "quorum", "holds").await;
    assert_eq!(promise(&whole, "read", "linearizable").state, "holds", "{whole:#?}");
    assert!(assumption(&whole, "quorum").broken_total >= 1);
    assert_eq!(whole.read_only_for_ms, None);
    wait(&cluster, lonely, "clock-rate", "holds").await;
    cluster.wait_log(lonely, &["assumption whole: quorum"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_stands_still_is_told_and_nothing_else_is_withdrawn() {
    let settings = Settings { heartbeat_ms: 50, election_ms: 1_000, ..Settings::of(3) };
    let mut cluster = Cluster::prepare(settings.with("--disk-sync-max", "700ms"));
    let places: Vec<_> = cluster.members.iter().map(|member| member.data_dir.clone()).collect();
    let disks: Option<Vec<_>> = places.iter().map(|place| Freezable::mount(place)).collect();
    let Some(disks) = disks else { return };
    cluster.spawn_all();
    cluster.wait_ready().await;
    for role in ["follower", "leader"] {
        let leader = cluster.leader().await;
        let slow = if role == "leader" { leader } else { cluster.follower().await };
        wait(&cluster, slow, "disk", "holds").await;
        disks[slow].freeze();
        let frozen = Instant::now();
        // Something has to be written, or nobody can know; a quorum of others takes it.
        cluster.client(leader).put("k", role).await.expect("two disks are left");
        let told = wait(&cluster, slow, "disk", "broken").await;
        let took = frozen.elapsed();
        support::report(format!("the disk of the {role} is told after {} ms", took.as_millis()));
        let growth = promise(&told, "write", "growth").clone();
        disks[slow].thaw();
        assert!(took < DISK_TOLD_WITHIN, "it took {took:?}");
        // A leader may by now have handed over, and know of no leader for a moment.
        if growth.because.as_deref() == Some("disk") {
            assert_eq!(growth.state, "weaker", "{told:#?}");
        }
        wait(&cluster, slow, "disk", "holds").await;
        cluster.wait_log(slow, &["assumption broken: disk", "assumption whole: disk"]).await;
    }
    drop(cluster);
}

#[tokio::test]
async fn an_alarm_for_space_withdraws_growth_and_leaves_deletes() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let mut client = cluster.client(0);
    client.put("k", "v").await.expect("a write");
    let raise = pb::AlarmRequest { action: 1, member_id: 7, alarm: 1 };
    client.maintenance.alarm(raise).await.expect("an alarm");
    let told = wait(&cluster, 0, "space", "broken").await;
    let writes = [("write", "growth"), ("lock", "fenced-write"), ("write", "delete")];
    assert_eq!(states(&told, &writes)[..2], ["withdrawn"; 2], "{told:#?}");
    assert_ne!(promise(&told, "write", "delete").because.as_deref(), Some("space"));
    client.put("k", "w").await.expect_err("no space");
    client.delete("k").await.expect("deletes go on");
    let clear = pb::AlarmRequest { action: 2, member_id: 7, alarm: 1 };
    client.maintenance.alarm(clear).await.expect("no alarm");
    wait(&cluster, 0, "space", "holds").await;
    client.put("k", "w").await.expect("a write");
}

#[tokio::test]
async fn damage_is_told_until_it_is_mended() {
    const VALUE: &str = "a value that is about to be damaged";
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let follower = cluster.follower().await;
    fill(&cluster.client(0), "before", 30, 200).await;
    cluster.client(0).put("marker", VALUE).await.expect("a write");
    fill(&cluster.client(0), "after", 30, 200).await;
    cluster.wait_agreement().await;
    cluster.kill_all();
    let log = files_below(&cluster.members[follower].wal_dir());
    let place = log.iter().find_map(|(file, _)| Some((file, find_last(file, VALUE.as_bytes())?)));
    let (file, at) = place.expect("the value is in the log");
    flip_bit(file, at + 9);
    // Alone it has nobody to ask.
    cluster.spawn(follower);
    let told = wait(&cluster, follower, "disk-integrity", "broken").await;
    assert_eq!(promise(&told, "write", "growth").state, "withdrawn", "{told:#?}");
    cluster.spawn_all();
    wait(&cluster, follower, "disk-integrity", "holds").await;
}

/// Two members of one history and one of another, with logs of the same terms: what a broken disk,
/// a mixed-up restore or a bug can leave.
async fn diverge(cluster: &mut Cluster) {
    let dirs: Vec<_> = cluster.members.iter().map(|member| member.data_dir.clone()).collect();
    let put_aside = |name: &str| {
        for dir in &dirs {
            copy_tree(dir, &dir.with_extension(name));
        }
    };
    let bring_back = |name: &str, members: &[usize]| {
        for dir in members.iter().map(|i| &dirs[*i]) {
            fs::remove_dir_all(dir).expect("the present data");
            copy_tree(&dir.with_extension(name), dir);
        }
    };
    cluster.kill_all();
    put_aside("begin");
    for _ in 0..10 {
        let first = go_on(cluster, "first", 60).await;
        put_aside("first");
        bring_back("begin", &[0, 1, 2]);
        let second = go_on(cluster, "second", 40).await;
        if first == second {
            // The longer logs are the quorum's, so that the third member only follows.
            return bring_back("first", &[0, 1]);
        }
        bring_back("begin", &[0, 1, 2]);
        dirs.iter().for_each(|dir| fs::remove_dir_all(dir.with_extension("first")).expect("it"));
    }
    panic!("elections never took the same number of terms");
}

/// Runs the cluster for so many writes, ends it, and returns its term.
async fn go_on(cluster: &mut Cluster, value: &str, writes: usize) -> u64 {
    cluster.spawn_all();
    cluster.wait_ready().await;
    let mut client = cluster.client(0);
    for number in 0..writes {
        client.put("k", format!("{value} {number}")).await.expect("a write");
    }
    cluster.wait_agreement().await;
    let term = client.status().await.expect("a status").raft_term;
    cluster.kill_all();
    term
}

#[tokio::test]
async fn a_member_whose_state_is_not_the_quorums_promises_nothing() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    cluster.client(0).put("k", "v").await.expect("a write");
    cluster.wait_agreement().await;
    diverge(&mut cluster).await;
    cluster.spawn_all();
    // Until it has heard both others it cannot know that it is the one who is wrong.
    wait(&cluster, 2, "agreement", "broken").await;
    cluster.wait_log(2, &["differs from a quorum's: fenced"]).await;
    let told = report(&cluster, 2).await.expect("an answer");
    for promise in told.promises.iter().filter(|promise| promise.mode != "lease") {
        assert_eq!(promise.state, "withdrawn", "{promise:?}");
        assert_eq!(promise.because.as_deref(), Some("agreement"), "{promise:?}");
    }
    cluster.wait_log(2, &["assumption broken: agreement"]).await;
    let mut client = cluster.client(2);
    client.get("k", Freshness::Serializable).await.expect_err("it serves nothing");
    for right in [0, 1] {
        wait(&cluster, right, "quorum", "holds").await;
        wait(&cluster, right, "agreement", "holds").await;
    }
}

#[tokio::test]
async fn the_exit_status_tells_whole_from_less_from_nobody() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let all: Vec<String> = (0..3).map(|i| endpoint(&cluster, i)).collect();
    let all = all.join(",");
    let deadline = Instant::now() + SOON;
    loop {
        let output = command(&["--endpoints", &all]).await;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.code() == Some(0) {
            assert!(text.ends_with("everything holds\n"), "{text}");
            break;
        }
        assert!(Instant::now() < deadline, "never whole: {text}");
    }
    let output = command(&["--json", "--endpoints", &endpoint(&cluster, 0)]).await;
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["members"].as_array().expect("members").len(), 1);
    assert_eq!(json["members"][0]["report"]["member"], "m1");

    cluster.kill(2);
    let output = command(&["--endpoints", &all]).await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("unreachable: "), "{text}");
    let nobody = format!("127.0.0.1:{}", free_port());
    assert_eq!(command(&["--endpoints", &nobody]).await.status.code(), Some(2));
    assert_eq!(command(&["--endpoints", "a b"]).await.status.code(), Some(2));
    assert_eq!(command(&["--nothing"]).await.status.code(), Some(2));
}
