//! Watches, as clients see them: shapes, order, numbers, slow readers, lost leaders.
//!
//! The conversation of shapes is held with the original as well, where it is installed.

mod support;

use bytes::Bytes;
use quorate_server::proto::etcdserverpb as pb;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::client::{Client, fill};
use support::cluster::{Cluster, Program, SOON, Settings};
use support::watching::{Leader, Watching, connect, in_short, of_key, of_prefix};

/// Watchers on one member in the test of their number.
const WATCHERS: usize = 10_000;

/// Streams that they are spread over.
const STREAMS: usize = 8;

/// What one of them may take of the member's memory. Unit: bytes.
const WATCHER_BYTES_MAX: u64 = 4_096;

/// What a step of the conversation does.
enum Step {
    Put(&'static str, &'static str),
    Delete(&'static str),
    /// Two keys at once.
    Both(&'static str, &'static str),
    Compact(i64),
    Create(pb::WatchCreateRequest),
    Cancel(i64),
    Progress,
    Nothing,
}

/// Steps, and what they are answered with. The store is empty before the first one.
fn conversation() -> Vec<(Step, &'static [&'static str])> {
    use Step::*;
    let from = |key, start_revision| pb::WatchCreateRequest { start_revision, ..of_key(key) };
    let id = |key, watch_id| pb::WatchCreateRequest { watch_id, ..of_key(key) };
    let range = |key: &'static str, end: &'static str| pb::WatchCreateRequest {
        range_end: Bytes::from_static(end.as_bytes()),
        ..of_key(key)
    };
    let filtered = |filter| pb::WatchCreateRequest { filters: vec![filter], ..of_key("f") };
    let with_prev = |create| pb::WatchCreateRequest { prev_kv: true, ..create };
    vec![
        (Put("a", "1"), &[]),
        (Put("a", "2"), &[]),
        (Create(of_key("a")), &["0: created at 3"]),
        (Put("a", "3"), &["0: [a=3@4 c2 v3] at 4"]),
        (Put("b", "1"), &[]),
        // Numbers are given in order and skip what the client took.
        (Create(id("x", 2)), &["2: created at 5"]),
        (Create(of_key("x")), &["1: created at 5"]),
        (Create(of_key("x")), &["3: created at 5"]),
        (
            Create(id("x", 2)),
            &["-1: created canceled 'mvcc: duplicate watch ID provided on the WatchStream' at 5"],
        ),
        (Cancel(1), &["1: canceled at 5"]),
        (Cancel(1), &[]),
        (Cancel(99), &[]),
        (Cancel(3), &["3: canceled at 5"]),
        (Create(of_key("x")), &["4: created at 5"]),
        (Put("x", "1"), &["2: [x=1@6 c6 v1] at 6", "4: [x=1@6 c6 v1] at 6"]),
        (Cancel(2), &["2: canceled at 6"]),
        (Cancel(4), &["4: canceled at 6"]),
        // Ranges.
        (Create(range("b", "b")), &["-1: created canceled 'mvcc: watcher range is empty' at 6"]),
        (Create(range("b", "a")), &["-1: created canceled 'mvcc: watcher range is empty' at 6"]),
        (Create(range("c", "\0")), &["5: created at 6"]),
        (Create(range("", "\0")), &["6: created at 6"]),
        (Put("c", "1"), &["5: [c=1@7 c7 v1] at 7", "6: [c=1@7 c7 v1] at 7"]),
        (Cancel(5), &["5: canceled at 7"]),
        (Cancel(6), &["6: canceled at 7"]),
        (Create(range("", "")), &["7: created at 7"]),
        (Cancel(7), &["7: canceled at 7"]),
        // The past, with what was before; the future.
        (
            Create(with_prev(from("a", 3))),
            &["8: created at 7", "8: [a=2@3 c2 v2 was 1@2] [a=3@4 c2 v3 was 2@3] at 7"],
        ),
        (Cancel(8), &["8: canceled at 7"]),
        (Create(from("d", 10)), &["9: created at 7"]),
        (Put("d", "8"), &[]),
        (Put("d", "9"), &[]),
        (Put("d", "10"), &["9: [d=10@10 c8 v3] at 10"]),
        (Cancel(9), &["9: canceled at 10"]),
        // Filters; deletes; several changes at once.
        (Create(filtered(0)), &["10: created at 10"]),
        (Create(filtered(1)), &["11: created at 10"]),
        (Put("f", "1"), &["11: [f=1@11 c11 v1] at 11"]),
        (Delete("f"), &["10: [f=deleted@12 c0 v0] at 12"]),
        (Cancel(10), &["10: canceled at 12"]),
        (Cancel(11), &["11: canceled at 12"]),
        (Create(with_prev(of_prefix("t"))), &["12: created at 12"]),
        (Both("t1", "t2"), &["12: [t1=x@13 c13 v1] [t2=x@13 c13 v1] at 13"]),
        (Delete("t1"), &["12: [t1=deleted@14 c0 v0 was x@13] at 14"]),
        // Progress of the stream.
        (Progress, &["-1: at 14"]),
        (Create(from("z", 1_000)), &["13: created at 14"]),
        (Progress, &["-1: at 14"]),
        (Nothing, &[]),
        // What is forgotten.
        (Compact(4), &[]),
        (Create(from("a", 3)), &["14: created at 14", "14: canceled compacted 4 at 0"]),
        (Create(with_prev(from("a", 4))), &["15: created at 14", "15: [a=3@4 c2 v3] at 14"]),
        (Create(from("a", -3)), &["16: created at 14", "16: canceled compacted 4 at 0"]),
        (Put("a", "4"), &["0: [a=4@15 c2 v4] at 15", "15: [a=4@15 c2 v4 was 3@4] at 15"]),
    ]
}

async fn perform(step: &Step, client: &mut Client, watching: &Watching) {
    match step {
        Step::Put(key, value) => drop(client.put(key, *value).await.expect("a write")),
        Step::Delete(key) => drop(client.delete(key).await.expect("a delete")),
        Step::Both(first, second) => {
            let put = |key: &'static str| pb::PutRequest {
                key: Bytes::from_static(key.as_bytes()),
                value: Bytes::from_static(b"x"),
                ..Default::default()
            };
            let op =
                |put| pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put)) };
            let success = vec![op(put(first)), op(put(second))];
            let txn = pb::TxnRequest { success, ..Default::default() };
            client.kv.txn(txn).await.expect("a transaction");
        }
        Step::Compact(revision) => client.compact(*revision).await.expect("a compaction"),
        Step::Create(create) => watching.create(create.clone()).await,
        Step::Cancel(id) => watching.cancel(*id).await,
        Step::Progress => watching.ask_progress().await,
        Step::Nothing => watching.send(None).await,
    }
}

async fn converse(cluster: &Cluster) {
    let mut client = cluster.client(0);
    let mut watching = Watching::open(cluster.members[0].client_port).await;
    for (number, (step, expected)) in conversation().into_iter().enumerate() {
        perform(&step, &mut client, &watching).await;
        let mut answers = Vec::new();
        for _ in expected {
            answers.push(in_short(&watching.next().await));
        }
        // Watchers of one event are told in no particular order.
        if !matches!(step, Step::Create(_)) {
            answers.sort_by_key(|answer| {
                answer.split(':').next().and_then(|id| id.parse::<i64>().ok())
            });
        }
        assert_eq!(answers, expected, "step {number}");
    }
    assert!(watching.is_silent(Duration::from_millis(300)).await, "an answer too many");
}

fn has(program: &str) -> bool {
    let mut command = Command::new(program);
    let found =
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        support::report(format_args!("SKIPPED in part: {program} not found on PATH"));
    }
    found
}

#[tokio::test]
async fn every_shape_is_the_originals() {
    converse(&Cluster::start(Settings::of(1)).await).await;
    if has("etcd") {
        let theirs = Settings { program: Program::Etcd, ..Settings::of(1) };
        converse(&Cluster::start(theirs).await).await;
    }
}

/// Up to 3.5.17 the original answers this with a compact revision of -1, or not at all; later
/// versions refuse it.
#[tokio::test]
async fn a_negative_start_is_refused_while_nothing_is_forgotten() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let mut watching = Watching::open(cluster.members[0].client_port).await;
    watching.create(pb::WatchCreateRequest { start_revision: -1, ..of_key("a") }).await;
    let answer = watching.next().await;
    assert!(answer.created && answer.canceled && answer.watch_id == -1, "{answer:?}");
    assert!(answer.cancel_reason.contains("compacted"), "{answer:?}");
}

#[tokio::test]
async fn large_revisions_are_split_only_when_asked() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let mut client = cluster.client(0);
    // Three deletes of 1 MB each at one revision are told with what was before: 3 MB.
    for key in ["k/1", "k/2", "k/3"] {
        client.put(key, vec![b'v'; 1_000_000]).await.expect("a write");
    }
    let mut watching = Watching::open(cluster.members[0].client_port).await;
    let create = pb::WatchCreateRequest { prev_kv: true, ..of_prefix("k/") };
    let whole = watching.created(create.clone()).await;
    let parts = watching.created(pb::WatchCreateRequest { fragment: true, ..create }).await;
    let range = pb::DeleteRangeRequest {
        key: Bytes::from_static(b"k/"),
        range_end: Bytes::from_static(b"k0"),
        ..Default::default()
    };
    client.kv.delete_range(range).await.expect("a delete");
    let mut sizes = Vec::new();
    for _ in 0..3 {
        let message = watching.next().await;
        sizes.push((message.watch_id, message.events.len(), message.fragment));
        assert!(message.events.iter().all(|event| event.prev_kv.is_some()));
    }
    sizes.sort();
    let expected = [(whole, 3, false), (parts, 1, false), (parts, 2, true)];
    assert_eq!(sizes, expected);
}

#[tokio::test]
async fn quiet_watchers_hear_of_progress_and_never_before_events() {
    let settings = Settings::of(1).with("--experimental-watch-progress-notify-interval", "200ms");
    let cluster = Cluster::start(settings).await;
    let mut client = cluster.client(0);
    let mut watching = Watching::open(cluster.members[0].client_port).await;
    let notify = pb::WatchCreateRequest { progress_notify: true, ..of_key("quiet") };
    let quiet = watching.created(notify).await;
    watching.created(of_key("loud")).await;
    let revision = client.put("other", "x").await.expect("a write");
    let deadline = Instant::now() + SOON;
    loop {
        let message = watching.next().await;
        assert_eq!((message.watch_id, message.events.len()), (quiet, 0), "{message:?}");
        if message.header.expect("a header").revision == revision {
            break;
        }
        assert!(Instant::now() < deadline, "no progress");
    }
    // Progress of the stream comes after all events up to it.
    for round in 0..200 {
        let revision = client.put("loud", format!("{round}")).await.expect("a write");
        watching.ask_progress().await;
        let mut told = 0;
        loop {
            let message = watching.next().await;
            told = message
                .events
                .last()
                .map_or(told, |event| event.kv.as_ref().expect("a pair").mod_revision);
            if message.watch_id == -1 {
                let progress = message.header.expect("a header").revision;
                assert!(told >= revision, "progress {progress} before the event at {revision}");
                assert!(progress >= revision, "progress of the past: {progress} < {revision}");
                break;
            }
        }
    }
}

/// Each of ten thousand watchers is told its own events, in order, and costs little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_watchers_are_each_told_their_own() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let port = cluster.members[0].client_port;
    let client = cluster.client(0);
    fill(&client, "warm", 2_000, 100).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(Watching::open(port).await);
    }
    let before = cluster.resident_bytes(0);
    for (number, watching) in streams.iter_mut().enumerate() {
        for watcher in 0..WATCHERS / STREAMS {
            // Every other one watches one key, the rest ten keys each.
            let group = number * (WATCHERS / STREAMS) + watcher;
            let create = match group % 2 {
                0 => of_key(&format!("w/{group:06}/3")),
                _ => of_prefix(&format!("w/{group:06}/")),
            };
            assert_eq!(watching.created(create).await, watcher as i64);
        }
    }
    let grown = cluster.resident_bytes(0).saturating_sub(before);
    let each = grown / WATCHERS as u64;
    support::report(format_args!("{each} bytes of memory per watcher"));
    assert!(each <= WATCHER_BYTES_MAX, "{each} bytes of memory per watcher");

    let mut expected = vec![Vec::new(); WATCHERS];
    let mut last = 0;
    let mut writer = client.clone();
    let mut seed = support::seed::Seed::of_this_run();
    for _ in 0..2_000 {
        let (group, key) = (seed.below(WATCHERS), seed.below(10));
        let name = format!("w/{group:06}/{key}");
        last = writer.put(&name, "x").await.expect("a write");
        if group % 2 == 1 || key == 3 {
            expected[group].push(last);
        }
    }
    for (number, watching) in streams.iter_mut().enumerate() {
        // The answer about progress comes after everything else.
        watching.ask_progress().await;
        let mut told = vec![Vec::new(); WATCHERS / STREAMS];
        loop {
            let message = watching.next().await;
            if message.watch_id == -1 {
                assert!(message.header.expect("a header").revision >= last);
                break;
            }
            let revisions = message.events.iter().map(|e| e.kv.as_ref().expect("kv").mod_revision);
            told[message.watch_id as usize].extend(revisions);
        }
        let first = number * (WATCHERS / STREAMS);
        assert!(told[..] == expected[first..first + told.len()], "stream {number}");
    }
}

/// A reader that stops reading neither slows the others nor lets the member grow, and finds
/// everything when it goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stops_costs_its_cursor() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let port = cluster.members[0].client_port;
    let mut stopped = Vec::new();
    for _ in 0..20 {
        let mut watching = Watching::open(port).await;
        watching.created(of_prefix("k/")).await;
        stopped.push(watching);
    }
    let mut reader = Watching::open(port).await;
    reader.created(of_prefix("k/")).await;
    let client = cluster.client(0);
    // Over and over the same keys, so that only history grows, by 40 MB.
    let before = cluster.resident_bytes(0);
    let mut writer = client.clone();
    let mut last = 0;
    for round in 0..8 {
        fill(&client, &format!("k/{round}"), 500, 10_000).await;
        last = writer.put("k/last", "x").await.expect("a write");
        let told = reader.events_until(last).await;
        assert_eq!(told.len(), 501, "round {round}");
    }
    // Copies for 20 readers would be 800 MB.
    let grown = cluster.resident_bytes(0).saturating_sub(before) >> 20;
    support::report(format_args!("the member has grown by {grown} MiB"));
    assert!(grown < 300, "the member has grown by {grown} MiB");
    for watching in &mut stopped {
        let told = watching.events_until(last).await;
        assert_eq!(told.len(), 8 * 501, "nothing is lost");
        assert!(told.windows(2).all(|pair| pair[0].revision < pair[1].revision), "in order");
    }
}

/// A compaction overtakes a reader that stopped: it is told so, and from where to go on.
#[tokio::test]
async fn a_reader_that_a_compaction_overtakes_is_cancelled() {
    // Those who follow have a moment to read what was just compacted. How much longer a busy
    // machine lets them nobody knows.
    for pause_ms in [1_500, 5_000, 20_000] {
        if is_overtaken(Duration::from_millis(pause_ms)).await {
            return;
        }
    }
    panic!("everything arrived, so nothing was overtaken");
}

/// Compacts what a reader has not read, and lets it go on after a pause. True if it was cancelled.
async fn is_overtaken(pause: Duration) -> bool {
    let cluster = Cluster::start(Settings::of(1)).await;
    let client = cluster.client(0);
    let mut watching = Watching::open(cluster.members[0].client_port).await;
    let id = watching.created(of_prefix("k/")).await;
    // More than fits into the windows of HTTP/2.
    fill(&client, "k/", 1_000, 10_000).await;
    let mut writer = client.clone();
    let last = writer.put("k/last", "x").await.expect("a write");
    writer.compact(last).await.expect("a compaction");
    tokio::time::sleep(pause).await;
    let mut told = 0;
    loop {
        let message = watching.next().await;
        if message.canceled {
            assert_eq!((message.watch_id, message.compact_revision), (id, last));
            break;
        }
        told += message.events.len();
        if told == 1_001 {
            return false;
        }
    }
    // From there on everything is there.
    let resume = pb::WatchCreateRequest { start_revision: last, ..of_prefix("k/") };
    watching.created(resume).await;
    assert_eq!(watching.events_until(last).await.len(), 1);
    true
}

/// Watchers on every member while the leader is killed, twice: no gap, nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_survive_a_change_of_leader() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let mut streams = Vec::new();
    for member in &cluster.members {
        let mut watching = Watching::open(member.client_port).await;
        watching.created(of_prefix("k/")).await;
        streams.push(Some(watching));
    }
    let clients: Vec<Client> = (0..3).map(|i| cluster.client(i)).collect();
    let mut acknowledged = Vec::new();
    let killed = cluster.leader().await;
    for number in 0..600 {
        if number == 200 {
            cluster.kill(killed);
            streams[killed] = None;
        }
        if number == 400 {
            cluster.spawn(killed);
        }
        let mut client = clients[number % 3].clone();
        if let Ok(revision) = client.put(&format!("k/{number}"), format!("{number}")).await {
            acknowledged.push((format!("k/{number}"), revision));
        }
    }
    assert!(acknowledged.len() > 300, "only {} writes", acknowledged.len());
    let last = loop {
        let survivor = (killed + 1) % 3;
        if let Ok(revision) = clients[survivor].clone().put("k/last", "x").await {
            break revision;
        }
    };
    for watching in streams.iter_mut().flatten() {
        let told = watching.events_until(last).await;
        assert!(told.windows(2).all(|pair| pair[0].revision < pair[1].revision), "in order, once");
        for (key, revision) in &acknowledged {
            let found = told.iter().any(|seen| seen.key == *key && seen.revision == *revision);
            assert!(found, "{key} at {revision} was acknowledged and not told");
        }
        // Writes without an answer may have happened: every revision is somebody's.
        let first = told[0].revision;
        let contiguous = told.iter().zip(first..).all(|(seen, revision)| seen.revision == revision);
        assert!(contiguous, "a revision is missing");
    }
    cluster.wait_ready().await;
    cluster.wait_agreement().await;
}

#[tokio::test]
async fn a_stream_that_requires_a_leader_ends_without_one() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let survivor = cluster.follower().await;
    let channel = connect(cluster.members[survivor].client_port).await;
    let mut strict = Watching::open_on(channel.clone(), Leader::Required);
    strict.created(of_key("k")).await;
    let mut patient = Watching::open_on(channel.clone(), Leader::Optional);
    patient.created(of_key("k")).await;
    for i in (0..3).filter(|i| *i != survivor) {
        cluster.kill(i);
    }
    let ended = strict.try_next().await.expect_err("the stream ends");
    assert_eq!(ended.code(), tonic::Code::Unavailable);
    assert_eq!(ended.message(), "etcdserver: no leader");
    let mut refused = Watching::open_on(channel, Leader::Required);
    let refusal = refused.try_next().await.expect_err("no leader");
    assert_eq!(refusal.message(), "etcdserver: no leader");
    cluster.spawn_all();
    cluster.wait_ready().await;
    let revision = cluster.client(survivor).put("k", "x").await.expect("a write");
    assert_eq!(patient.events_until(revision).await.len(), 1, "the other stream went on");
}

#[tokio::test]
async fn a_member_that_stops_ends_its_streams() {
    let mut cluster = Cluster::start(Settings::of(1)).await;
    let mut watching = Watching::open(cluster.members[0].client_port).await;
    watching.created(of_key("k")).await;
    let stopping = Instant::now();
    assert!(cluster.stop(0).success());
    assert!(stopping.elapsed() < SOON / 2, "it waited for the stream");
    let ended = watching.try_next().await.expect_err("the stream ends");
    assert_eq!(ended.code(), tonic::Code::Unavailable);
}

#[tokio::test]
async fn etcdctl_watches() {
    if !has("etcdctl") {
        return;
    }
    let cluster = Cluster::start(Settings::of(1)).await;
    let endpoint = format!("--endpoints=127.0.0.1:{}", cluster.members[0].client_port);
    let mut client = cluster.client(0);
    client.put("a/1", "one").await.expect("a write");
    client.put("a/2", "two").await.expect("a write");
    client.put("b", "other").await.expect("a write");
    client.put("a/1", "three").await.expect("a write");
    client.delete("a/2").await.expect("a delete");
    for (words, expected) in [
        ("--prefix a/ --rev 1", "PUT a/1 one PUT a/2 two PUT a/1 three DELETE a/2"),
        ("--prefix a/ --rev 5 --prev-kv", "PUT a/1 one a/1 three DELETE a/2 two a/2"),
        ("--rev 4 b", "PUT b other"),
    ] {
        let mut etcdctl = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args([&endpoint, "watch"])
            .args(words.split(' '))
            // Where the client is a script, whatever it starts ends with it.
            .process_group(0)
            .stdout(Stdio::piped())
            .spawn()
            .expect("etcdctl");
        let printed = BufReader::new(etcdctl.stdout.take().expect("a pipe")).lines();
        let count = expected.split(' ').count();
        let lines = tokio::task::spawn_blocking(move || {
            printed.take(count).collect::<Result<Vec<String>, _>>()
        });
        let lines = tokio::time::timeout(SOON, lines).await;
        kill_process_group(Pid::from_child(&etcdctl), Signal::KILL).expect("a signal");
        etcdctl.wait().expect("an end");
        let lines = lines.expect("so many lines").expect("no panic").expect("text");
        assert_eq!(lines, expected.split(' ').collect::<Vec<_>>(), "{words}");
    }
}
