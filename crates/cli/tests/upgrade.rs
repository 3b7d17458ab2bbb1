//! A cluster of the version before becomes one of this version, a member at a time, while clients
//! write and read. A request that may be asked again succeeds, nothing acknowledged is lost, and in
//! the end the members agree and can do what is new.
//!
//! The version before is the binary that `QUORATE_PREVIOUS_BIN` names; without it this is skipped,
//! loudly. `cargo xtask upgrade REVISION` builds one and runs this.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, Freshness};
use support::cluster::{Cluster, SOON, Settings};

/// Keys that each writer goes round.
const KEYS: u64 = 50;

/// Clients at once.
const WRITERS: u64 = 3;

/// Writes that must be acknowledged between two steps.
const WRITES: u64 = 40;

#[derive(Debug, Default)]
struct Tally {
    written: AtomicU64,
    over: AtomicBool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_upgraded_member_by_member_and_no_request_fails() {
    let Some(previous) = std::env::var_os("QUORATE_PREVIOUS_BIN") else {
        eprintln!("SKIPPED: an upgrade needs QUORATE_PREVIOUS_BIN (cargo xtask upgrade REVISION)");
        return;
    };
    let mut settings = Settings::of(3).with("--checkpoint-bytes", 64 << 10);
    settings.version = Some(previous.into());
    let mut cluster = Cluster::start(settings).await;
    let ports: Vec<u16> = cluster.members.iter().map(|member| member.client_port).collect();
    let tally = Arc::new(Tally::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(writer, ports.clone(), Arc::clone(&tally))))
        .collect();
    written(&tally).await;
    cluster.upgrade();
    for i in 0..3 {
        // The leader hands over when it is asked to end.
        assert!(cluster.stop(i).success(), "{} did not end well", cluster.members[i].name);
        cluster.spawn(i);
        cluster.wait_ready().await;
        written(&tally).await;
        if i == 1 {
            // Two versions serve, and a member of the new one dies.
            cluster.kill(i);
            written(&tally).await;
            cluster.spawn(i);
            cluster.wait_ready().await;
        }
    }
    tally.over.store(true, Ordering::Relaxed);
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.push(writer.await.expect("a writer whose every request succeeded"));
    }
    let store = cluster.wait_agreement().await;
    for (writer, last) in acknowledged.iter().enumerate() {
        for number in last.saturating_sub(KEYS)..*last {
            let key = format!("{writer}/{}", number % KEYS);
            let found = store.kvs.iter().find(|kv| kv.key == key.as_bytes());
            assert_eq!(found.map(|kv| &kv.value[..]), Some(number.to_string().as_bytes()), "{key}");
        }
    }
    let members = cluster.client(0).members().await.expect("members are listed");
    assert_eq!(members.members.len(), 3);
    eprintln!("{} writes, none failed", tally.written.load(Ordering::Relaxed));
}

/// Waits until [`WRITES`] more were acknowledged.
async fn written(tally: &Tally) {
    let (begin, deadline) = (tally.written.load(Ordering::Relaxed), Instant::now() + SOON);
    while tally.written.load(Ordering::Relaxed) < begin + WRITES {
        assert!(Instant::now() < deadline, "the cluster does not serve");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Writes numbers until it is over, each again and at another member until it is acknowledged, and
/// reads each back. Returns how many.
///
/// Panics: if one is not acknowledged in time, or not read.
async fn write(writer: u64, ports: Vec<u16>, tally: Arc<Tally>) -> u64 {
    let mut clients: Vec<Client> = ports.iter().map(|port| Client::in_a_hurry(*port)).collect();
    let mut number = 0;
    while !tally.over.load(Ordering::Relaxed) {
        let key = format!("{writer}/{}", number % KEYS);
        let (begin, mut attempt) = (Instant::now(), number as usize);
        loop {
            let client = &mut clients[attempt % ports.len()];
            match client.put(&key, number.to_string()).await {
                Ok(_) => break,
                Err(why) => assert!(begin.elapsed() < SOON, "{key} = {number}: {why}"),
            }
            attempt += 1;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let reader = &mut clients[(attempt + 1) % ports.len()];
        if let Ok(seen) = reader.get(&key, Freshness::Linearizable).await {
            let value = seen.found.map(|found| found.value);
            assert_eq!(value, Some(number.to_string()), "a stale read of {key}");
        }
        tally.written.fetch_add(1, Ordering::Relaxed);
        number += 1;
    }
    number
}
