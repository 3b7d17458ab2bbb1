//! Maintenance of real members: space and its alarm, history, hashes, snapshots, what a monitor
//! asks.

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
