//! What a cluster remembers when its processes end: all at once, in order, or over and over, with
//! its log shortened by checkpoints and its followers fed by them.

mod support;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, Freshness, assert_filled, fill};
use support::cluster::{Cluster, SOON, Settings};
use support::files::{bytes_below, files_below};
use support::seed::Seed;

/// Enough keys for several checkpoints of [`CHECKPOINT_BYTES`].
const KEYS: usize = 600;

/// Size of a value. Unit: bytes.
const VALUE_BYTES: usize = 1_000;

/// A checkpoint after so much log; [`KEYS`] of [`VALUE_BYTES`] are about ten times as much.
const CHECKPOINT_BYTES: usize = 64 << 10;

/// What is kept behind a checkpoint.
const RETAIN_BYTES: usize = 32 << 10;

/// With which a member says that it took its state from another's checkpoint.
const RECEIVED: &[&str] = &["received a checkpoint"];

#[tokio::test]
async fn all_members_killed_at_once_lose_nothing_acknowledged() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let ports: Vec<u16> = cluster.members.iter().map(|member| member.client_port).collect();
    let progress: Vec<Progress> = ports.iter().map(|_| Progress::default()).collect();
    let writers: Vec<_> = ports
        .iter()
        .zip(&progress)
        .map(|(port, progress)| tokio::spawn(write_until_refused(*port, Arc::clone(progress))))
        .collect();
    for progress in &progress {
        wait_written(progress, 50).await;
    }
    cluster.kill_all();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await.expect("a writer"));
    }
    cluster.spawn_all();
    cluster.wait_ready().await;
    let store = cluster.wait_agreement().await;
    for (port, acknowledged) in ports.iter().zip(acknowledged) {
        for number in 0..acknowledged {
            let key = format!("{port}/{number}");
            assert!(store.kvs.iter().any(|kv| kv.key == key.as_bytes()), "{key} is lost");
        }
    }
}

/// The last number that a writer knows to be written.
type Progress = Arc<AtomicU64>;

/// Waits until a writer has come so far.
async fn wait_written(progress: &Progress, number: u64) {
    let deadline = Instant::now() + SOON;
    while progress.load(Ordering::SeqCst) < number {
        assert!(Instant::now() < deadline, "{number} is not written");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Writes `port/0`, `port/1`, ... until a write fails; returns how many were acknowledged.
async fn write_until_refused(port: u16, progress: Progress) -> u64 {
    let mut client = Client::new(port);
    let mut number = 0;
    while client.put(&format!("{port}/{number}"), "x").await.is_ok() {
        number += 1;
        progress.store(number, Ordering::SeqCst);
    }
    number
}

#[tokio::test]
async fn a_cluster_that_stops_in_order_starts_as_the_same_cluster() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    fill(&cluster.client(0), "k", 50, 100).await;
    let before = cluster.wait_agreement().await;
    let identities_before = identities(&cluster).await;
    for i in 0..3 {
        let status = cluster.stop(i);
        assert!(status.success(), "{} ended with {status}", cluster.members[i].name);
    }
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await, before, "the store after the restart");
    for (before, after) in identities_before.iter().zip(identities(&cluster).await) {
        assert_eq!((before.0, before.1), (after.0, after.1), "cluster and member id");
        assert!(before.2 <= after.2, "the term went back from {} to {}", before.2, after.2);
    }
}

/// Cluster id, member id and term of every member.
async fn identities(cluster: &Cluster) -> Vec<(u64, u64, u64)> {
    let mut found = Vec::new();
    for i in 0..cluster.members.len() {
        let header = cluster.client(i).status().await.expect("a status").header;
        let header = header.expect("a header");
        found.push((header.cluster_id, header.member_id, header.raft_term));
    }
    found
}

/// The flags that make checkpoints with little data.
fn small_logs() -> Settings {
    let settings = Settings::of(3).with("--checkpoint-bytes", CHECKPOINT_BYTES);
    settings.with("--log-retain-bytes", RETAIN_BYTES)
}

#[tokio::test]
async fn checkpoints_replace_the_log_and_survive_any_restart() {
    let mut cluster = Cluster::start(small_logs()).await;
    let first: Vec<PathBuf> = (0..3).map(|i| first_segment(&cluster, i)).collect();
    // Twice over the same keys: a checkpoint must keep the history, not only the newest state.
    fill(&cluster.client(0), "k", KEYS, VALUE_BYTES).await;
    let middle = cluster.wait_agreement().await;
    fill(&cluster.client(1), "k", KEYS, VALUE_BYTES).await;
    let before = cluster.wait_agreement().await;
    for (i, first) in first.iter().enumerate() {
        assert_log_was_released(&cluster, i, first).await;
    }
    cluster.kill_all();
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await, before, "the store after the restart");
    for i in 0..3 {
        let places =
            middle.kvs.iter().take(100).map(|kv| {
                (std::str::from_utf8(&kv.key).expect("our keys are text"), kv.mod_revision)
            });
        let past = cluster.client(i).get_past(places).await.expect("the past");
        for (kv, found) in middle.kvs.iter().zip(past) {
            let found = found.expect("the past of a key");
            assert_eq!(found.mod_revision, kv.mod_revision, "an overwritten value");
        }
    }
    fill(&cluster.client(2), "more", 20, VALUE_BYTES).await;
    let store = cluster.wait_agreement().await;
    assert_filled(&store, "k", KEYS, VALUE_BYTES);
    assert_filled(&store, "more", 20, VALUE_BYTES);
}

/// The oldest segment of the log of member `i`.
fn first_segment(cluster: &Cluster, i: usize) -> PathBuf {
    let files = files_below(&cluster.members[i].wal_dir()).into_iter().map(|(file, _)| file);
    let segments = files.filter(|file| file.extension().is_some_and(|ending| ending == "wal"));
    segments.min().expect("a log")
}

/// A few checkpoints must stand for the beginning of the log, which is gone. How much is left
/// behind depends on when they were taken: as much as the state is long may be written between two.
async fn assert_log_was_released(cluster: &Cluster, i: usize, first: &Path) {
    let member = &cluster.members[i];
    let deadline = Instant::now() + SOON;
    loop {
        let checkpoints = files_below(&member.checkpoint_dir()).len();
        if (1..=6).contains(&checkpoints) && !first.exists() {
            return;
        }
        let name = &member.name;
        assert!(
            Instant::now() < deadline,
            "{name}: {checkpoints} checkpoint files, a log of {} bytes from its beginning",
            bytes_below(&member.wal_dir())
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_follower_far_behind_catches_up_by_a_checkpoint() {
    let mut cluster = Cluster::start(small_logs()).await;
    let follower = cluster.follower().await;
    let leader = cluster.leader().await;
    cluster.kill(follower);
    fill(&cluster.client(leader), "k", KEYS, VALUE_BYTES).await;
    cluster.spawn(follower);
    cluster.wait_ready().await;
    assert_filled(&cluster.wait_agreement().await, "k", KEYS, VALUE_BYTES);
    cluster.wait_log(follower, RECEIVED).await;

    // What it received is its own now: it can serve it alone after a restart of everybody.
    cluster.kill_all();
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert_filled(&cluster.wait_agreement().await, "k", KEYS, VALUE_BYTES);
}

#[tokio::test]
async fn a_follower_killed_while_it_receives_a_checkpoint_tries_again() {
    let mut cluster = Cluster::start(small_logs()).await;
    let follower = cluster.follower().await;
    let leader = cluster.leader().await;
    // Large enough that receiving it takes longer than the shortest lives below.
    let (keys, bytes) = (400, 50_000);
    for (round, life_ms) in [5, 20, 40, 80, 160].into_iter().enumerate() {
        if cluster.is_up(follower) {
            cluster.kill(follower);
        }
        fill(&cluster.client(leader), &format!("r{round}"), keys / 5, bytes).await;
        cluster.spawn(follower);
        wait_listening(&cluster, follower).await;
        tokio::time::sleep(Duration::from_millis(life_ms)).await;
        cluster.kill(follower);
    }
    cluster.spawn(follower);
    cluster.wait_ready().await;
    let store = cluster.wait_agreement().await;
    for round in 0..5 {
        assert_filled(&store, &format!("r{round}"), keys / 5, bytes);
    }
    cluster.wait_log(follower, RECEIVED).await;
    // What was left behind by the broken attempts is gone or at least bounded.
    let kept = bytes_below(&cluster.members[follower].checkpoint_dir());
    assert!(kept < 5 * (keys * bytes) as u64, "{kept} bytes of checkpoints");
}

/// A member that listens has begun to talk to its peers.
async fn wait_listening(cluster: &Cluster, i: usize) {
    let address = support::net::loopback(cluster.members[i].peer_port);
    let deadline = Instant::now() + SOON;
    while tokio::net::TcpStream::connect(address).await.is_err() {
        assert!(Instant::now() < deadline, "nobody listens on {address}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What is left when processes end while directories, identities and logs are being made must
/// neither be taken for a lost disk nor for somebody else's.
#[tokio::test]
async fn a_cluster_killed_while_it_is_born_is_born_all_the_same() {
    let mut seed = Seed::of_this_run();
    let mut cluster = Cluster::prepare(small_logs());
    for _ in 0..12 {
        cluster.spawn_all();
        tokio::time::sleep(Duration::from_millis(seed.below(150) as u64)).await;
        if seed.below(2) == 0 {
            cluster.kill_all();
        } else {
            cluster.kill(seed.below(3));
        }
    }
    cluster.spawn_all();
    cluster.wait_ready().await;
    fill(&cluster.client(0), "k", 20, VALUE_BYTES).await;
    assert_filled(&cluster.wait_agreement().await, "k", 20, VALUE_BYTES);
}

/// Clients are told where a member is now, not where it once was.
#[tokio::test]
async fn a_member_may_come_back_on_another_client_port() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    cluster.stop(1);
    cluster.members[1].client_port = support::net::free_port();
    cluster.spawn(1);
    cluster.wait_ready().await;
    let port = cluster.members[1].client_port.to_string();
    let deadline = Instant::now() + SOON;
    for i in 0..3 {
        loop {
            let members = cluster.client(i).members().await.expect("a list").members;
            let member = members.iter().find(|member| member.name == "m2").expect("m2");
            if member.client_ur_ls.iter().any(|url| url.ends_with(&port)) {
                break;
            }
            assert!(Instant::now() < deadline, "m{} names {:?}", i + 1, member.client_ur_ls);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A member alone acknowledges by its own disk only, so nothing hides a missing sync.
#[tokio::test]
async fn a_single_member_keeps_what_it_acknowledged_over_many_kills() {
    let settings = Settings::of(1).with("--checkpoint-bytes", 16 << 10);
    let mut cluster = Cluster::start(settings.with("--log-retain-bytes", 8 << 10)).await;
    let mut newest = 0;
    for round in 0..8 {
        let port = cluster.members[0].client_port;
        let progress = Progress::default();
        let writer = tokio::spawn(write_counting(port, newest, Arc::clone(&progress)));
        wait_written(&progress, newest + 1).await;
        tokio::time::sleep(Duration::from_millis(100 + 40 * round)).await;
        cluster.kill(0);
        let acknowledged = writer.await.expect("a writer");
        cluster.spawn(0);
        cluster.wait_ready().await;
        let seen = cluster.client(0).get("n", Freshness::Linearizable).await.expect("a read");
        let found: u64 = seen.found.expect("the key").value.parse().expect("a number");
        assert!(
            (acknowledged..=acknowledged + 1).contains(&found),
            "{acknowledged} was acknowledged and {found} is there"
        );
        newest = found;
    }
}

/// Writes growing numbers to one key until a write fails; returns the last acknowledged one.
async fn write_counting(port: u16, from: u64, progress: Progress) -> u64 {
    let mut client = Client::new(port);
    let mut number = from;
    while client.put("n", (number + 1).to_string()).await.is_ok() {
        number += 1;
        progress.store(number, Ordering::SeqCst);
    }
    number
}
