//! Networks that are cut: whoever cannot reach a majority must not answer for it, and whoever can
//! must not be disturbed by those who cannot.

mod support;

use std::time::{Duration, Instant};
use support::client::{Client, Freshness, Seen};
use support::cluster::{Cluster, SOON, Settings, Wires};
use support::history::{Action, Event, Rule, check};
use support::proxy::Cut;
use support::seed::{Seed, chaos_seconds};
use support::workload::{History, Workload};

/// Long enough for several elections at the timeouts of the tests.
const SEVERAL_ELECTIONS: Duration = Duration::from_secs(2);

/// Chaos in CI; `QUORATE_TEST_SECONDS` makes it longer.
const CHAOS_SECONDS: u64 = 15;

async fn start(members: usize) -> (Cluster, Vec<u64>) {
    start_with(Settings::of(members)).await
}

async fn start_with(settings: Settings) -> (Cluster, Vec<u64>) {
    let settings = Settings { wires: Wires::Proxied, ..settings };
    let cluster = Cluster::start(settings).await;
    let ids = cluster.ids().await;
    (cluster, ids)
}

/// Cuts the direction from `from` to `to`.
fn cut(cluster: &Cluster, ids: &[u64], from: usize, to: usize, cut: Cut) {
    cluster.network.as_ref().expect("proxied wires").cut(ids[from], to, cut);
}

/// Cuts both directions between member `i` and everybody else.
fn isolate(cluster: &Cluster, ids: &[u64], i: usize, how: Cut) {
    for other in (0..ids.len()).filter(|other| *other != i) {
        cut(cluster, ids, i, other, how);
        cut(cluster, ids, other, i, how);
    }
}

fn heal(cluster: &Cluster) {
    cluster.network.as_ref().expect("proxied wires").heal();
}

/// Writes until it is acknowledged.
async fn put_at_last(client: &mut Client, key: &str, value: &str) -> i64 {
    let deadline = Instant::now() + SOON;
    loop {
        match client.put(key, value).await {
            Ok(revision) => return revision,
            Err(failure) => assert!(Instant::now() < deadline, "{failure}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cut_off_neither_writes_nor_reads() {
    for how in [Cut::Stalled, Cut::Closed] {
        let (cluster, ids) = start(3).await;
        let old = cluster.leader().await;
        let before = cluster.client(old).put("k", "before").await.expect("a write");
        isolate(&cluster, &ids, old, how);
        // At once, while the old leader has no reason yet to doubt itself.
        let mut cut_off = cluster.client(old).with_patience(SEVERAL_ELECTIONS);
        let mut other = cluster.client((old + 1) % 3);
        let (lonely, after) =
            tokio::join!(cut_off.put("k", "lonely"), put_at_last(&mut other, "k", "after"));
        assert!(lonely.is_err(), "a write without a majority was acknowledged");
        let read = cut_off.get("k", Freshness::Linearizable).await;
        assert!(read.is_err(), "a leader without a majority answered {read:?}");
        let read = cut_off.get("k", Freshness::Serializable).await.expect("its own state");
        assert_eq!(read.found.as_ref().expect("the key").value, "before");
        assert!(is_noticed(before, after, read), "the checker takes a stale read for a fresh one");

        heal(&cluster);
        let deadline = Instant::now() + SOON;
        let seen = loop {
            match cut_off.get("k", Freshness::Linearizable).await {
                Ok(seen) => break seen,
                Err(failure) => assert!(Instant::now() < deadline, "after the cut: {failure}"),
            }
        };
        let value = seen.found.expect("the key").value;
        assert_eq!(value, "after", "a write of the cut-off leader came through");
        cluster.wait_agreement().await;
    }
}

/// True if the checker of histories notices that `read` came too late to be what it is.
fn is_noticed(before: i64, after: i64, read: Seen) -> bool {
    let wrote =
        |value: &str, revision| Action::Wrote { value: value.to_owned(), revision, over: None };
    let actions = [wrote("before", before), wrote("after", after), Action::Read(read)];
    let events: Vec<Event> = (0..)
        .step_by(10)
        .zip(actions)
        .map(|(invoked, action)| Event {
            client: 0,
            invoked,
            returned: invoked + 5,
            key: "k".to_owned(),
            action,
        })
        .collect();
    check(&events).iter().any(|broken| broken.rule == Rule::WentBack)
}

/// A member that does not hear the leader, but whom everybody hears, would raise the term for ever
/// if it did not ask before it campaigned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deaf_follower_disturbs_nobody() {
    // Nor does a busy machine: nobody else is silent for so long.
    let patient = Settings { election_ms: 1_000, heartbeat_ms: 100, ..Settings::of(3) };
    let (cluster, ids) = start_with(patient).await;
    let leader = cluster.leader().await;
    let deaf = cluster.follower().await;
    let term = cluster.client(leader).status().await.expect("a status").raft_term;
    for other in (0..3).filter(|other| *other != deaf) {
        cut(&cluster, &ids, other, deaf, Cut::Stalled);
    }
    let mut client = cluster.client(leader);
    let end = Instant::now() + 2 * SEVERAL_ELECTIONS;
    while Instant::now() < end {
        client.put("k", "x").await.expect("the others are a majority and hear each other");
    }
    let status = client.status().await.expect("a status");
    assert_eq!((status.raft_term, status.leader), (term, ids[leader]), "the leader was disturbed");
    heal(&cluster);
    cluster.wait_agreement().await;
    let status = client.status().await.expect("a status");
    assert_eq!(status.raft_term, term, "the follower came back with a new term");
}

/// Two members do not reach each other, the third reaches both: there is a majority around it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_between_two_of_three_leaves_a_cluster_that_serves() {
    let (cluster, ids) = start(3).await;
    let leader = cluster.leader().await;
    let (cut_off, bridge) = ((leader + 1) % 3, (leader + 2) % 3);
    cut(&cluster, &ids, leader, cut_off, Cut::Stalled);
    cut(&cluster, &ids, cut_off, leader, Cut::Stalled);
    let end = Instant::now() + SEVERAL_ELECTIONS;
    let mut written = 0;
    while Instant::now() < end || written < 50 && Instant::now() < end + SOON {
        for i in [leader, bridge] {
            let wrote = cluster.client(i).put("k", "x").await;
            written += usize::from(wrote.is_ok());
        }
    }
    assert!(written >= 50, "only {written} writes in {SEVERAL_ELECTIONS:?}");
    heal(&cluster);
    put_at_last(&mut cluster.client(cut_off), "k", "healed").await;
    cluster.wait_agreement().await;
}

/// Writers and readers while wires are cut at random, in one direction or both, and now and then a
/// member is killed on top of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_history_holds_while_the_network_falls_apart() {
    let mut seed = Seed::of_this_run();
    let (mut cluster, ids) = start(5).await;
    let workload = Workload::start(&cluster, &mut seed, History::Kept);
    let length = Duration::from_secs(chaos_seconds(CHAOS_SECONDS));
    let (end, deadline) = (Instant::now() + length, Instant::now() + length + SOON);
    let (mut cuts, enough) = (0, length.as_secs() / 3);
    while Instant::now() < end || cuts < enough && Instant::now() < deadline {
        cause_trouble(&mut cluster, &ids, &mut seed).await;
        cuts += 1;
        let wait = seed.between(200, 1_500) as u64;
        tokio::time::sleep(Duration::from_millis(wait)).await;
        heal(&cluster);
        (0..5).filter(|i| !cluster.is_up(*i)).collect::<Vec<_>>().into_iter().for_each(|i| {
            cluster.spawn(i);
        });
        let wait = seed.between(100, 700) as u64;
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    eprintln!("{cuts} cuts");
    workload.finish(&mut cluster).await;
    assert!(cuts >= enough, "only {cuts} cuts");
}

async fn cause_trouble(cluster: &mut Cluster, ids: &[u64], seed: &mut Seed) {
    let how = *seed.pick(&[Cut::Stalled, Cut::Closed]);
    let leader = cluster.leader_now().await.unwrap_or(0);
    match seed.below(5) {
        0 => isolate(cluster, ids, leader, how),
        1 => isolate(cluster, ids, seed.below(5), how),
        // Every single wire with a chance of its own.
        2 => {
            for (from, to) in (0..5).flat_map(|from| (0..5).map(move |to| (from, to))) {
                if from != to && seed.below(3) == 0 {
                    cut(cluster, ids, from, to, how);
                }
            }
        }
        // Two against three, with the leader on the smaller side.
        3 => {
            let other = (leader + seed.between(1, 5)) % 5;
            for from in [leader, other] {
                for to in (0..5).filter(|to| *to != leader && *to != other) {
                    cut(cluster, ids, from, to, how);
                    cut(cluster, ids, to, from, how);
                }
            }
        }
        _ => {
            isolate(cluster, ids, leader, how);
            cluster.kill((leader + seed.between(1, 5)) % 5);
        }
    }
}
