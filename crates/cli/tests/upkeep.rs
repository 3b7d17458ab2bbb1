//! Maintenance of real members: space and its alarm, history, hashes, snapshots, what a monitor
//! asks.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use bytes::Bytes;
use quorate_server::proto::etcdserverpb as pb;
use std::time::{Duration, Instant};
use support::client::{Freshness, fill};
use support::cluster::{Cluster, SOON, Settings};
use tonic::Code;

/// etcd's text, which its clients match.
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Numbers of the wire.
const GET: i32 = 0;
const ACTIVATE: i32 = 1;
const DEACTIVATE: i32 = 2;
const NOSPACE: i32 = 1;
const CORRUPT: i32 = 2;

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

async fn alarm(
    cluster: &Cluster,
    i: usize,
    action: i32,
    member_id: u64,
    alarm: i32,
) -> Vec<(u64, i32)> {
    let request = pb::AlarmRequest { action, member_id, alarm };
    let answer = cluster.client(i).maintenance.alarm(request).await.expect("an answer");
    answer.into_inner().alarms.iter().map(|alarm| (alarm.member_id, alarm.alarm)).collect()
}

async fn put(cluster: &Cluster, i: usize, name: &str, bytes: usize) -> Result<(), tonic::Status> {
    let request =
        pb::PutRequest { key: key(name), value: vec![b'v'; bytes].into(), ..Default::default() };
    cluster.client(i).kv.put(request).await.map(drop)
}

async fn status(cluster: &Cluster, i: usize) -> pb::StatusResponse {
    cluster.client(i).maintenance.status(pb::StatusRequest {}).await.expect("a status").into_inner()
}

/// Tries again until it holds.
async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// ---- alarms ----

#[tokio::test]
async fn an_alarm_is_the_clusters_and_outlives_members() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    put(&cluster, 0, "a", 1).await.expect("a write");
    assert_eq!(alarm(&cluster, 0, GET, 0, 0).await, []);
    assert_eq!(alarm(&cluster, 1, ACTIVATE, 77, NOSPACE).await, [(77, NOSPACE)]);
    assert_eq!(alarm(&cluster, 1, ACTIVATE, 5, 0).await, [], "no kind, no alarm");
    for i in 0..3 {
        assert_eq!(alarm(&cluster, i, GET, 0, 0).await, [(77, NOSPACE)]);
        let refused = put(&cluster, i, "a", 1).await.expect_err("no space");
        assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, NO_SPACE));
        let errors = status(&cluster, i).await.errors;
        assert!(errors.contains(&"memberID:77 alarm:NOSPACE ".to_owned()), "{errors:?}");
        cluster.client(i).get("a", Freshness::Linearizable).await.expect("reads go on");
    }
    cluster.client(2).delete("a").await.expect("deletes go on");
    cluster.kill_all();
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert!(put(&cluster, 0, "a", 1).await.is_err(), "the alarm was forgotten");
    assert_eq!(alarm(&cluster, 0, DEACTIVATE, 0, NOSPACE).await, [(77, NOSPACE)]);
    put(&cluster, 0, "a", 1).await.expect("room again");

    assert_eq!(alarm(&cluster, 0, ACTIVATE, 78, CORRUPT).await, [(78, CORRUPT)]);
    let refused = put(&cluster, 1, "a", 1).await.expect_err("corrupt");
    let told = (refused.code(), refused.message());
    assert_eq!(told, (Code::DataLoss, "etcdserver: corrupt cluster"));
    cluster.client(1).delete("a").await.expect_err("corrupt");
    cluster.client(1).get("a", Freshness::Linearizable).await.expect("as in etcd, reads go on");
    alarm(&cluster, 0, DEACTIVATE, 78, CORRUPT).await;
    put(&cluster, 1, "a", 1).await.expect("whole again");
}

// ---- the quota ----

#[tokio::test]
async fn a_full_store_refuses_growth_names_its_consumers_and_heals_by_itself() {
    let quota = 1 << 20;
    let cluster =
        Cluster::start(Settings::of(3).with("--quota-backend-bytes", quota.to_string())).await;
    put(&cluster, 0, "small/1", 10).await.expect("a write");
    let refused = eventually("the quota is never reached", async || {
        put(&cluster, 0, "large/one", 20_000).await.err()
    })
    .await;
    assert_eq!((refused.code(), refused.message()), (Code::ResourceExhausted, NO_SPACE));
    let told = eventually("operators are not told", async || {
        let status = status(&cluster, 0).await;
        status.errors.iter().find(|error| error.contains("out of space")).cloned()
    })
    .await;
    assert!(told.contains("\"large/\""), "{told}");
    cluster.wait_log(0, &["out of space"]).await;
    assert_eq!(status(&cluster, 0).await.db_size_quota, quota);

    // The way out: delete and compact; the space is swept and the alarm goes by itself.
    let (revision, _) = cluster.client(1).delete("large/one").await.expect("deletes go on");
    let request = pb::CompactionRequest { revision, physical: false };
    cluster.client(1).kv.compact(request).await.expect("compaction goes on");
    eventually("the alarm stays", async || {
        alarm(&cluster, 2, GET, 0, 0).await.is_empty().then_some(())
    })
    .await;
    put(&cluster, 2, "large/one", 10).await.expect("room again");
    eventually("operators are told for ever", async || {
        status(&cluster, 0).await.errors.is_empty().then_some(())
    })
    .await;
}

/// Who raised the alarm may be another life of the member.
#[tokio::test]
async fn a_restart_with_a_larger_quota_clears_the_alarm() {
    let mut cluster = Cluster::start(Settings::of(1).with("--quota-backend-bytes", 1 << 20)).await;
    eventually("the quota is never reached", async || {
        put(&cluster, 0, "large/one", 20_000).await.err()
    })
    .await;
    cluster.kill(0);
    let mut flags = cluster.flags(0);
    flags.extend(["--quota-backend-bytes".to_owned(), (1 << 30).to_string()]);
    let small = flags.iter().position(|flag| flag == "--quota-backend-bytes").expect("a flag");
    flags.drain(small..small + 2);
    cluster.spawn_with(0, &flags);
    cluster.wait_ready().await;
    eventually("the alarm stays", async || {
        alarm(&cluster, 0, GET, 0, 0).await.is_empty().then_some(())
    })
    .await;
    put(&cluster, 0, "large/one", 20_000).await.expect("room again");
    // What an operator raises is the operator's, even under this member's id; once the member has
    // seen that its own is gone, which it may not have when it is raised for the first time.
    let me = status(&cluster, 0).await.header.expect("a header").member_id;
    eventually("what an operator raised is cleared", async || {
        alarm(&cluster, 0, ACTIVATE, me, NOSPACE).await;
        tokio::time::sleep(Duration::from_millis(800)).await;
        (alarm(&cluster, 0, GET, 0, 0).await == [(me, NOSPACE)]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_negative_quota_is_none() {
    let cluster = Cluster::start(Settings::of(1).with("--quota-backend-bytes", "-1")).await;
    fill(&cluster.client(0), "k", 50, 20_000).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(alarm(&cluster, 0, GET, 0, 0).await, []);
    assert_eq!(status(&cluster, 0).await.db_size_quota, 0);
}

// ---- history ----

#[tokio::test]
async fn history_is_compacted_by_itself_also_under_a_new_leader() {
    let settings = Settings::of(3).with("--auto-compaction-retention", "1s");
    let mut cluster = Cluster::start(settings).await;
    compacts(&cluster).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.leader().await;
    compacts(&cluster).await;
}

/// Writes until a revision that was just written is compacted.
async fn compacts(cluster: &Cluster) {
    let i = (0..3).find(|i| cluster.is_up(*i)).expect("a member");
    let mut client = cluster.client(i);
    let written = eventually("no write", async || client.put("k", "x").await.ok()).await;
    eventually("nothing is compacted", async || {
        client.put("k", "x").await.expect("a write");
        let range = pb::RangeRequest { key: key("k"), revision: written, ..Default::default() };
        let refused = client.kv.range(range).await.err()?;
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        Some(())
    })
    .await;
}

// ---- hashes, snapshots, and what else is asked of one member ----

#[tokio::test]
async fn hashes_agree_between_members_at_the_same_revision() {
    let cluster = Cluster::start(Settings::of(3)).await;
    fill(&cluster.client(0), "k", 40, 100).await;
    cluster.wait_agreement().await;
    let revision = status(&cluster, 0).await.header.expect("a header").revision;
    let request = pb::CompactionRequest { revision: 20, physical: true };
    cluster.client(1).kv.compact(request).await.expect("a compaction");
    // After the compaction: who has this write has that, too.
    cluster.client(1).put("later", "x").await.expect("a write");
    cluster.wait_agreement().await;
    let mut hashes = Vec::new();
    for i in 0..3 {
        let asked = |revision| pb::HashKvRequest { revision };
        let mut maintenance = cluster.client(i).maintenance;
        let answer = maintenance.hash_kv(asked(revision)).await.expect("a hash").into_inner();
        assert_eq!((answer.compact_revision, answer.hash_revision), (20, revision));
        let whole = maintenance.hash(pb::HashRequest {}).await.expect("a hash").into_inner();
        hashes.push((answer.hash, whole.hash));
        let past = maintenance.hash_kv(asked(5)).await.expect_err("compacted");
        assert_eq!(past.message(), "etcdserver: mvcc: required revision has been compacted");
        let future = maintenance.hash_kv(asked(revision + 99)).await.expect_err("the future");
        assert_eq!(future.message(), "etcdserver: mvcc: required revision is a future revision");
        maintenance.defragment(pb::DefragmentRequest {}).await.expect("nothing to do");
    }
    assert!(hashes.iter().all(|other| *other == hashes[0]), "{hashes:?}");
}

#[tokio::test]
async fn a_snapshot_is_whole_and_can_be_read_back() {
    let cluster = Cluster::start(Settings::of(3)).await;
    fill(&cluster.client(0), "k", 300, 1_000).await;
    cluster.wait_agreement().await;
    let mut maintenance = cluster.client(2).maintenance;
    let mut stream =
        maintenance.snapshot(pb::SnapshotRequest {}).await.expect("a stream").into_inner();
    let (mut bytes, mut last) = (Vec::new(), None);
    while let Some(piece) = stream.message().await.expect("a piece") {
        bytes.extend_from_slice(&piece.blob);
        last = Some((piece.remaining_bytes, piece.blob.len(), piece.version));
    }
    assert_eq!(last, Some((0, 32, "3.5.17".to_owned())));
    assert_eq!(bytes.len() % 512, 32);
    let (header, store) = quorate_server::snapshot::read(&mut &bytes[..]).expect("a snapshot");
    assert_eq!((store.keys(), header.revision), (300, store.revision().0));
}

/// A consumer that stops reading costs some pieces, one that goes away nothing.
#[tokio::test]
async fn a_snapshot_that_nobody_takes_costs_little() {
    let cluster = Cluster::start(Settings::of(1)).await;
    fill_large(&cluster, 20_000).await;
    let before = cluster.resident_bytes(0);
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut maintenance = cluster.client(0).maintenance;
        let stream = maintenance.snapshot(pb::SnapshotRequest {}).await.expect("a stream");
        let mut stream = stream.into_inner();
        stream.message().await.expect("a piece").expect("the first");
        stalled.push((stream, maintenance));
    }
    let refused = cluster.client(0).maintenance.snapshot(pb::SnapshotRequest {}).await;
    let refused = refused.expect_err("the fifth");
    assert_eq!(refused.message(), "etcdserver: too many requests");
    let raised = cluster.resident_bytes(0).saturating_sub(before);
    assert!(raised < 16 << 20, "four stalled snapshots hold {raised} bytes");
    put(&cluster, 0, "others", 10).await.expect("nobody else is slowed");
    drop(stalled);
    eventually("the seats are not given back", async || {
        cluster.client(0).maintenance.snapshot(pb::SnapshotRequest {}).await.ok().map(drop)
    })
    .await;
}

/// Size of the values of [`fill_large`]. Unit: bytes.
const LARGE_VALUE_BYTES: usize = 2_000;

async fn fill_large(cluster: &Cluster, keys: usize) {
    fill_with(cluster, keys, LARGE_VALUE_BYTES).await;
}

async fn fill_with(cluster: &Cluster, keys: usize, value_bytes: usize) {
    use pb::request_op::Request;
    let mut client = cluster.client(0);
    for first in (0..keys).step_by(100) {
        let put = |number: usize| pb::PutRequest {
            key: key(&format!("large/{number:06}")),
            value: vec![number as u8; value_bytes].into(),
            ..Default::default()
        };
        let op = |number| pb::RequestOp { request: Some(Request::RequestPut(put(number))) };
        let success = (first..first + 100).map(op).collect();
        let txn = pb::TxnRequest { success, ..Default::default() };
        client.kv.txn(txn).await.expect("a write");
    }
}

/// One unary call that lists everything, by four callers at once.
#[tokio::test]
async fn a_range_of_everything_is_made_while_it_is_sent() {
    let keys = 20_000;
    let cluster = Cluster::start(Settings::of(1)).await;
    fill_large(&cluster, keys).await;
    let raised = list_by_four(&cluster, keys, LARGE_VALUE_BYTES).await;
    let answers = (4 * keys * LARGE_VALUE_BYTES) as u64;
    assert!(raised < answers / 8, "{raised} bytes more for answers of {answers}");
}

/// The same at the size that is promised. By hand: `QUORATE_BIN=target/release/quorate cargo test
/// -p quorate --test upkeep a_million -- --ignored --nocapture`.
#[tokio::test]
#[ignore = "takes a gigabyte for each caller and a minute or two"]
async fn a_million_keys_are_listed_in_little_memory() {
    let cluster = Cluster::start(Settings::of(1)).await;
    fill_with(&cluster, 1_000_000, 256).await;
    let raised = list_by_four(&cluster, 1_000_000, 256).await;
    eprintln!("four callers raised the memory by {} KiB", raised >> 10);
    assert!(raised <= 128 << 20, "{raised} bytes more");
}

/// Lists everything by four callers at once; answers with what that took of the member's memory at
/// its peak.
async fn list_by_four(cluster: &Cluster, keys: usize, value_bytes: usize) -> u64 {
    let before = cluster.resident_bytes(0);
    let list = async |mut client: support::client::Client| {
        let all = Bytes::from_static(b"\0");
        let range = pb::RangeRequest { key: all.clone(), range_end: all, ..Default::default() };
        client.kv.range(range).await.expect("an answer").into_inner()
    };
    let callers: Vec<_> = (0..4).map(|_| tokio::spawn(list(cluster.client(0)))).collect();
    let mut peak = 0;
    while !callers.iter().all(tokio::task::JoinHandle::is_finished) {
        peak = peak.max(cluster.resident_bytes(0));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for caller in callers {
        let answer = caller.await.expect("no panic");
        assert_eq!((answer.count, answer.kvs.len(), answer.more), (keys as i64, keys, false));
        assert!(answer.kvs.iter().enumerate().all(|(number, kv)| {
            kv.key == format!("large/{number:06}") && kv.value == vec![number as u8; value_bytes]
        }));
    }
    peak.saturating_sub(before)
}

/// Both clients of the original, if they are there.
#[tokio::test]
async fn etcdctl_takes_snapshots_hashes_and_alarms() {
    let programs = std::env::var("QUORATE_ETCDCTLS").unwrap_or_else(|_| "etcdctl".to_owned());
    let cluster = Cluster::start(Settings::of(3)).await;
    fill(&cluster.client(0), "k", 100, 1_000).await;
    cluster.wait_agreement().await;
    let endpoints: Vec<String> =
        cluster.members.iter().map(|m| format!("127.0.0.1:{}", m.client_port)).collect();
    for (number, program) in programs.split(':').enumerate() {
        if std::process::Command::new(program).arg("version").output().is_err() {
            eprintln!("SKIPPED: {program} not found; install etcd-client");
            continue;
        }
        let run = |endpoints: &str, words: &[&str]| {
            let output = std::process::Command::new(program)
                .env("ETCDCTL_API", "3")
                .arg(format!("--endpoints={endpoints}"))
                .args(words)
                .output()
                .expect("etcdctl");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{program} {words:?}: {said}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let file = cluster.dir().join(format!("snapshot-{number}"));
        let name = file.display().to_string();
        assert!(run(&endpoints[1], &["snapshot", "save", &name]).contains("Snapshot saved at"));
        let bytes = std::fs::read(&file).expect("a snapshot");
        let (_, store) = quorate_server::snapshot::read(&mut &bytes[..]).expect("one of ours");
        assert_eq!(store.keys(), 100);

        let hashes = run(&endpoints.join(","), &["endpoint", "hashkv"]);
        let hash = |line: &str| line.split_once(", ").map(|(_, hash)| hash.to_owned());
        let hashes: Vec<_> = hashes.lines().map(hash).collect();
        assert_eq!(hashes.len(), 3);
        assert!(hashes.iter().all(|other| other.is_some() && *other == hashes[0]), "{hashes:?}");

        assert_eq!(run(&endpoints[0], &["alarm", "list"]), "");
        alarm(&cluster, 0, ACTIVATE, 77, NOSPACE).await;
        assert_eq!(run(&endpoints[1], &["alarm", "list"]), "memberID:77 alarm:NOSPACE \n");
        assert_eq!(run(&endpoints[2], &["alarm", "disarm"]), "memberID:77 alarm:NOSPACE \n");
        assert_eq!(run(&endpoints[0], &["alarm", "list"]), "");
        assert!(run(&endpoints[0], &["defrag"]).contains("Finished defragmenting"));
    }
}
