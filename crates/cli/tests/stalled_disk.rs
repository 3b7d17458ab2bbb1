//! A leader whose file system stands still makes room for another, and nothing is lost by it: no
//! write, no lease, no fresh read (the failure of etcd#13527).

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use std::time::{Duration, Instant};
use support::cluster::{Cluster, SOON, Settings};
use support::frozen::Freezable;
use support::seed::Seed;
use support::workload::{History, Workload};

/// A leader's disk stands still for so long.
const STALL: Duration = Duration::from_secs(6);
/// Another one leads by then. On a machine that is busy with other tests it may take longer.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(4);

async fn other_leader(cluster: &Cluster, old: usize) -> Duration {
    let began = Instant::now();
    while began.elapsed() < SOON {
        for i in (0..cluster.members.len()).filter(|i| *i != old) {
            let mut client = cluster.client(i).with_patience(Duration::from_millis(500));
            let Ok(status) = client.status().await else { continue };
            if status.header.is_some_and(|header| header.member_id == status.leader) {
                return began.elapsed();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody else leads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_stands_still_hands_over_and_nothing_is_lost() {
    let mut seed = Seed::of_this_run();
    let settings = Settings { heartbeat_ms: 50, election_ms: 1_000, ..Settings::of(3) };
    let mut cluster = Cluster::prepare(settings);
    let places: Vec<_> = cluster.members.iter().map(|member| member.data_dir.clone()).collect();
    let disks: Option<Vec<_>> = places.iter().map(|place| Freezable::mount(place)).collect();
    let Some(disks) = disks else { return };
    cluster.spawn_all();
    cluster.wait_ready().await;
    let workload = Workload::start(&cluster, &mut seed, History::Kept);
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(2)).await;
        let old = cluster.leader().await;
        disks[old].freeze();
        let stalled = Instant::now();
        let took = other_leader(&cluster, old).await;
        eprintln!("another member leads after {} ms", took.as_millis());
        tokio::time::sleep(STALL.saturating_sub(stalled.elapsed())).await;
        disks[old].thaw();
        assert!(took < HANDED_OVER_WITHIN, "it took {took:?}");
    }
    workload.finish(&mut cluster).await;
    // The directory of the cluster cannot go before what is mounted in it, nor that before its
    // users.
    cluster.kill_all();
    drop(disks);
}
