//! Members that run out of something: room for a checkpoint, room for the log, descriptors.
//!
//! A full disk cannot be had without the rights of root; a limit on the size of a file makes the
//! same calls fail. The signal that comes with it is ignored, as a full disk sends none.

mod support;

use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::client::{assert_filled, fill};
use support::cluster::{Cluster, SOON, Settings};
use support::files::files_below;
use support::net::loopback;

/// Size of a value. Unit: bytes.
const VALUE_BYTES: usize = 1_000;

/// Writes to files fail beyond this. `ulimit -f` counts in units of 512 bytes.
const FILE_BYTES_MAX: usize = 512 << 10;

/// More than a file may have, all together, and much more than a segment of the log.
const KEYS: usize = 2 * FILE_BYTES_MAX / VALUE_BYTES;

/// Descriptors that a member may have in the test of their number.
const DESCRIPTORS_MAX: usize = 64;

fn small_files() -> String {
    format!("trap '' XFSZ; ulimit -f {}", FILE_BYTES_MAX / 512)
}

/// Checkpoints and segments of the log of about 64 KiB, so that a checkpoint outgrows the limit
/// while the log does not.
fn settings(members: usize) -> Settings {
    Settings::of(members).with("--checkpoint-bytes", 64 << 10)
}

/// What member `i` says is wrong.
async fn errors(cluster: &Cluster, i: usize) -> String {
    cluster.client(i).status().await.expect("a status").errors.join("; ")
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_stops_nothing() {
    let settings = Settings { prelude: small_files(), ..settings(1) };
    let mut cluster = Cluster::start(settings).await;
    fill(&cluster.client(0), "k", KEYS, VALUE_BYTES).await;
    cluster.wait_log(0, &["checkpoint could not be written"]).await;
    assert!(errors(&cluster, 0).await.contains("checkpoint failed"), "status keeps it secret");
    cluster.client(0).put("still", "serving").await.expect("a write");
    let before = cluster.wait_agreement().await;
    assert_filled(&before, "k", KEYS, VALUE_BYTES);

    // Nothing was lost meanwhile, and with room again the checkpoint is made.
    cluster.kill(0);
    cluster.set_prelude("");
    cluster.spawn(0);
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await, before, "the store after the restart");
    fill(&cluster.client(0), "more", KEYS, VALUE_BYTES).await;
    let deadline = Instant::now() + SOON;
    let large = |cluster: &Cluster| {
        let files = files_below(&cluster.members[0].checkpoint_dir());
        files.iter().any(|(_, bytes)| *bytes > FILE_BYTES_MAX as u64)
    };
    while !large(&cluster) {
        assert!(Instant::now() < deadline, "no checkpoint although there is room");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(errors(&cluster, 0).await, "", "an error that is over");
}

/// The log is what promises are made of: a member that cannot write it must end, not go on.
#[tokio::test]
async fn a_member_that_cannot_write_its_log_ends_and_the_others_go_on() {
    let mut cluster = Cluster::start(settings(3)).await;
    let limited = cluster.follower().await;
    cluster.stop(limited);
    cluster.set_prelude(&small_files());
    cluster.spawn(limited);
    cluster.wait_ready().await;
    // Longer than any file may become.
    let large = vec![7; 2 * FILE_BYTES_MAX];
    let leader = cluster.leader().await;
    cluster.client(leader).put("large", large.clone()).await.expect("two of three can write it");
    let status = cluster.wait_exit(limited, SOON);
    assert!(!status.success(), "it ended as if all were well");
    cluster.wait_log(limited, &["log could not be written"]).await;
    cluster.client(leader).put("k", "x").await.expect("the others go on");

    cluster.set_prelude("");
    cluster.spawn(limited);
    cluster.wait_ready().await;
    let store = cluster.wait_agreement().await;
    let found = store.kvs.iter().find(|kv| kv.key == b"large".as_slice()).expect("the key");
    assert!(found.value == large, "a large value came back as another one");
}

#[tokio::test]
async fn a_member_without_room_for_any_log_says_so_at_once() {
    let prelude = "trap '' XFSZ; ulimit -f 32".to_owned();
    let mut cluster = Cluster::prepare(Settings { prelude, ..settings(1) });
    cluster.spawn(0);
    assert!(!cluster.wait_exit(0, SOON).success(), "it ended as if all were well");
    let place = cluster.members[0].wal_dir().display().to_string();
    cluster.wait_log(0, &[&place]).await;
}

/// More connections than descriptors: those that fit are served, and when they are gone, so is the
/// trouble.
#[tokio::test]
async fn connections_beyond_all_descriptors_cost_only_themselves() {
    let prelude = format!("ulimit -n {DESCRIPTORS_MAX}");
    let mut cluster = Cluster::start(Settings { prelude, ..settings(3) }).await;
    cluster.client(0).put("k", "before").await.expect("a write");
    let ports = [cluster.members[0].client_port, cluster.members[0].peer_port];
    let connect = |port| TcpStream::connect_timeout(&loopback(port), Duration::from_secs(2));
    let hoard: Vec<TcpStream> =
        (0..4 * DESCRIPTORS_MAX).filter_map(|number| connect(ports[number % 2]).ok()).collect();
    assert!(hoard.len() > DESCRIPTORS_MAX, "the system itself refused");
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(hoard);
    assert!(cluster.is_alive(0), "it ended for want of descriptors");
    cluster.wait_ready().await;
    cluster.client(0).put("k", "after").await.expect("a write");
    fill(&cluster.client(0), "more", 200, VALUE_BYTES).await;
    cluster.wait_agreement().await;
}
