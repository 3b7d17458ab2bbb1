//! Lease reads of real processes: whoever leads answers without asking anybody, and a leader that
//! stood still longer than its lease answers nothing that is old.

mod support;

use std::time::{Duration, Instant};
use support::client::{Client, Freshness};
use support::cluster::{Cluster, SOON, Settings};
use support::net::http_get;
use support::seed::{Seed, chaos_seconds};
use support::workload::{History, Workload};

/// A leader stands still for so long: several of the leases of these members.
const PAUSE: Duration = Duration::from_millis(900);
/// Reads that are under way to it meanwhile.
const READERS: usize = 8;
/// Pauses in CI; `QUORATE_TEST_SECONDS` makes it longer.
const CHAOS_SECONDS: u64 = 8;

/// Members that compare their clocks often, so that they soon know that these run well.
fn leased() -> Settings {
    let flags = ["--lease-reads", "--time-poll=100ms"].map(str::to_owned);
    Settings { extra: flags.into(), ..Settings::of(3) }
}

/// Linearizable reads that a member has answered: by rounds, and by leases.
async fn reads(cluster: &Cluster, i: usize) -> (u64, u64) {
    let port = cluster.members[i].client_port;
    let page = tokio::task::spawn_blocking(move || http_get(port, "/metrics"));
    let (_, page) = page.await.expect("a thread").expect("a page");
    let count = |by: &str| {
        let name = format!("quorate_reads_total{{by=\"{by}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        line.expect("the counter").parse().expect("a number")
    };
    (count("round"), count("lease"))
}

async fn get(client: &mut Client) -> Option<String> {
    let seen = client.get("k", Freshness::Linearizable).await.ok()?;
    Some(seen.found.map(|found| found.value).unwrap_or_default())
}

/// The leader, once it reads by its lease.
async fn leader_with_lease(cluster: &Cluster) -> usize {
    let deadline = Instant::now() + 3 * SOON; // The clocks are compared over some seconds.
    loop {
        let leader = cluster.leader().await;
        let (_, before) = reads(cluster, leader).await;
        let _ = get(&mut cluster.client(leader)).await;
        if reads(cluster, leader).await.1 > before {
            return leader;
        }
        assert!(Instant::now() < deadline, "no leader reads by a lease");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Writes through somebody else than the member that stands still.
async fn put_elsewhere(cluster: &Cluster, not: usize, value: &str) {
    let deadline = Instant::now() + SOON;
    for i in (0..cluster.members.len()).cycle().filter(|i| *i != not) {
        let client = cluster.client(i);
        if client.with_patience(Duration::from_secs(1)).put("k", value).await.is_ok() {
            return;
        }
        assert!(Instant::now() < deadline, "nobody else comes to lead");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_leads_reads_without_a_round_and_so_do_its_followers() {
    let cluster = Cluster::start(leased()).await;
    let deadline = Instant::now() + 3 * SOON;
    loop {
        let leader = leader_with_lease(&cluster).await;
        let follower = (leader + 1) % 3;
        let before = [reads(&cluster, leader).await, reads(&cluster, follower).await];
        for i in [leader, follower] {
            let mut client = cluster.client(i);
            for _ in 0..100 {
                get(&mut client).await.expect("an answer");
            }
        }
        let after = [reads(&cluster, leader).await, reads(&cluster, follower).await];
        let by_lease = |at: usize| after[at].1 - before[at].1;
        assert!(after[0].0 + after[0].1 >= before[0].0 + before[0].1 + 100, "each is counted");
        if by_lease(0) > 90 && by_lease(1) > 90 {
            return;
        }
        // A machine that is busy may let a lease lapse, or another lead.
        assert!(Instant::now() < deadline, "{before:?}, then {after:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_who_was_not_told_to_reads_by_lease() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(leader);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        get(&mut client).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (by_round, by_lease) = reads(&cluster, leader).await;
    assert!(by_round > 0 && by_lease == 0, "{by_round} by rounds, {by_lease} by leases");
}

/// The reads lie in its sockets when it goes on, before it has heard that another leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stood_still_longer_than_its_lease_reads_nothing_old() {
    let mut cluster = Cluster::start(leased()).await;
    let (mut answers, mut round) = (0, 0);
    while round < 6 || answers == 0 && round < 30 {
        round += 1;
        let value = format!("value {round}");
        let old = leader_with_lease(&cluster).await;
        let mut warm: Vec<Client> = (0..READERS).map(|_| cluster.client(old)).collect();
        for client in &mut warm {
            let _ = get(client).await; // Connected.
        }
        cluster.pause(old);
        put_elsewhere(&cluster, old, &value).await;
        let waiting: Vec<_> = warm
            .into_iter()
            .map(|mut client| tokio::spawn(async move { get(&mut client).await }))
            .collect();
        tokio::time::sleep(PAUSE).await;
        cluster.resume(old);
        for reader in waiting {
            let Some(seen) = reader.await.expect("a reader") else { continue };
            assert_eq!(seen, value, "asked after it had been written");
            answers += 1;
        }
    }
    assert!(answers > 0, "nobody was answered in {round} rounds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn histories_hold_while_leaders_stand_still() {
    let mut seed = Seed::of_this_run();
    let mut cluster = Cluster::start(leased()).await;
    leader_with_lease(&cluster).await;
    let workload = Workload::start(&cluster, &mut seed, History::Kept);
    let end = Instant::now() + Duration::from_secs(chaos_seconds(CHAOS_SECONDS));
    while Instant::now() < end {
        let leader = cluster.leader_now().await.unwrap_or(0);
        cluster.pause(leader);
        tokio::time::sleep(Duration::from_millis(seed.between(100, 900) as u64)).await;
        cluster.resume(leader);
        tokio::time::sleep(Duration::from_millis(seed.between(300, 900) as u64)).await;
    }
    workload.finish(&mut cluster).await;
    let mut by_lease = 0;
    for i in 0..3 {
        by_lease += reads(&cluster, i).await.1;
    }
    assert!(by_lease > 0, "no read rested on a lease");
}
