//! Locks and elections as services of real members: what clients are told, beside the original
//! where it is installed, and what becomes of those who wait when leases end, clients go away and
//! members die.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::v3electionpb as epb;
use quorate_server::proto::v3electionpb::election_client::ElectionClient;
use quorate_server::proto::v3lockpb as lpb;
use quorate_server::proto::v3lockpb::lock_client::LockClient;
use std::process::Command;
use std::time::{Duration, Instant};
use support::client::Freshness;
use support::cluster::{Cluster, Program, SOON, Settings};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// Time between two looks at something that is waited for.
const GLANCE: Duration = Duration::from_millis(20);

async fn channel(cluster: &Cluster, i: usize) -> Channel {
    let address = format!("http://127.0.0.1:{}", cluster.members[i].client_port);
    Channel::from_shared(address).expect("an address").connect().await.expect("it listens")
}

async fn grant(cluster: &Cluster, id: i64, ttl: i64) {
    let since = Instant::now();
    loop {
        let mut leases = LeaseClient::new(channel(cluster, 0).await);
        match leases.lease_grant(pb::LeaseGrantRequest { ttl, id }).await {
            Ok(_) => return,
            Err(status) => assert!(since.elapsed() < SOON, "{status}"),
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn revoke(cluster: &Cluster, id: i64) {
    let mut leases = LeaseClient::new(channel(cluster, 0).await);
    leases.lease_revoke(pb::LeaseRevokeRequest { id }).await.expect("revoked");
}

async fn lock(cluster: &Cluster, i: usize, name: &str, lease: i64) -> Result<String, Status> {
    let mut locks = LockClient::new(channel(cluster, i).await);
    let name = name.to_owned().into();
    let locked = locks.lock(lpb::LockRequest { name, lease }).await?.into_inner();
    Ok(text(&locked.key))
}

async fn unlock(cluster: &Cluster, key: &str) -> Result<(), Status> {
    let mut locks = LockClient::new(channel(cluster, 0).await);
    locks.unlock(lpb::UnlockRequest { key: key.to_owned().into() }).await.map(|_| ())
}

/// Waits for the lock in a task of its own, whose end is the client's.
fn locking(
    cluster: &Cluster,
    i: usize,
    name: &'static str,
    lease: i64,
) -> JoinHandle<Result<String, Status>> {
    let port = cluster.members[i].client_port;
    tokio::spawn(async move {
        let address = format!("http://127.0.0.1:{port}");
        let mut locks = LockClient::connect(address).await.expect("it listens");
        let request = lpb::LockRequest { name: name.into(), lease };
        Ok(text(&locks.lock(request).await?.into_inner().key))
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The keys of a line, in the order of their creation.
async fn queue(cluster: &Cluster, i: usize, prefix: &str) -> Vec<String> {
    let range = pb::RangeRequest {
        key: format!("{prefix}/").into(),
        range_end: format!("{prefix}0").into(),
        sort_target: pb::range_request::SortTarget::Create.into(),
        sort_order: pb::range_request::SortOrder::Ascend.into(),
        ..pb::RangeRequest::default()
    };
    let since = Instant::now();
    loop {
        match cluster.client(i).kv.range(range.clone()).await {
            Ok(found) => return found.into_inner().kvs.iter().map(|kv| text(&kv.key)).collect(),
            Err(status) => assert!(since.elapsed() < SOON, "{status}"),
        }
        tokio::time::sleep(GLANCE).await;
    }
}

async fn wait_queue(cluster: &Cluster, i: usize, prefix: &str, wanted: &[&str]) {
    let since = Instant::now();
    loop {
        let found = queue(cluster, i, prefix).await;
        if found == wanted {
            return;
        }
        assert!(since.elapsed() < SOON, "{found:?} stand in line, not {wanted:?}");
        tokio::time::sleep(GLANCE).await;
    }
}

fn outcome<T, U: std::fmt::Debug>(
    answer: Result<Response<T>, Status>,
    told: impl Fn(T) -> U,
) -> String {
    match answer {
        Ok(response) => format!("{:?}", told(response.into_inner())),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}

/// Every kind of question about locks, as `question: answer`.
async fn talk_of_locks(cluster: &Cluster) -> Vec<String> {
    let mut said = Vec::new();
    let last = cluster.members.len() - 1;
    let mut locks = LockClient::new(channel(cluster, last).await);
    let mut lock = async |name: &'static str, lease| {
        let answer = locks.lock(lpb::LockRequest { name: name.into(), lease }).await;
        outcome(answer, |locked| text(&locked.key))
    };
    for (name, lease) in [("jobs", 16), ("jobs", 16), ("other", -16), ("", 16), ("jobs", 4_711)] {
        said.push(format!("lock {name} {lease}: {}", lock(name, lease).await));
    }
    let drawn = lock("drawn", 0).await;
    let lease = drawn.trim_matches('"').trim_start_matches("drawn/");
    let id = i64::from_str_radix(lease, 16).expect("a lease");
    let mut leases = LeaseClient::new(channel(cluster, 0).await);
    let asked = pb::LeaseTimeToLiveRequest { id, keys: false };
    let told = leases.lease_time_to_live(asked).await.expect("it lives").into_inner();
    said.push(format!("drawn: {} s", told.granted_ttl));
    for key in ["jobs/10", "jobs/10", "never/10", ""] {
        let mut locks = LockClient::new(channel(cluster, 0).await);
        let answer = locks.unlock(lpb::UnlockRequest { key: key.into() }).await;
        said.push(format!("unlock {key}: {}", outcome(answer, |_| ())));
    }
    said.push(format!(
        "left: {:?} {:?}",
        queue(cluster, 0, "jobs").await,
        queue(cluster, 0, "").await
    ));
    said
}

const LOCKS_EXPECTED: &[&str] = &[
    "lock jobs 16: \"jobs/10\"",
    "lock jobs 16: \"jobs/10\"",
    "lock other -16: \"other/-10\"",
    "lock  16: \"/10\"",
    "lock jobs 4711: NotFound etcdserver: requested lease not found",
    "drawn: 60 s",
    "unlock jobs/10: ()",
    "unlock jobs/10: ()",
    "unlock never/10: ()",
    "unlock : InvalidArgument etcdserver: key is not provided",
    "left: [] [\"/10\"]",
];

/// Every kind of question about elections, as `question: answer`.
async fn talk_of_elections(cluster: &Cluster) -> Vec<String> {
    let mut said = Vec::new();
    let mut elections = ElectionClient::new(channel(cluster, 0).await);
    let name = || "boss".into();
    let leader_of = async |mut elections: ElectionClient<Channel>| {
        let answer = elections.leader(epb::LeaderRequest { name: "boss".into() }).await;
        outcome(answer, |told| {
            let kv = told.kv.expect("a leader");
            (text(&kv.key), text(&kv.value), kv.lease)
        })
    };
    said.push(format!("nobody leads: {}", leader_of(elections.clone()).await));
    let mut proof = None;
    for value in ["ann", "ann again"] {
        let request = epb::CampaignRequest { name: name(), lease: 16, value: value.into() };
        let answer = elections.campaign(request).await.expect("elected").into_inner();
        let leader = answer.leader.expect("a proof");
        let kept = proof.as_ref().is_none_or(|proof| *proof == leader);
        said.push(format!("{value}: {} {} {kept}", text(&leader.name), text(&leader.key)));
        proof = Some(leader);
        said.push(format!("leader: {}", leader_of(elections.clone()).await));
    }
    let proof = proof.expect("elected twice");
    let stale = epb::LeaderKey { rev: proof.rev - 1, ..proof.clone() };
    for (what, leader) in [("none", None), ("stale", Some(stale)), ("true", Some(proof))] {
        let value = format!("by {what}").into();
        let request = epb::ProclaimRequest { leader: leader.clone(), value };
        let answer = elections.proclaim(request).await;
        said.push(format!("proclaim {what}: {}", outcome(answer, |_| ())));
        said.push(format!("leader: {}", leader_of(elections.clone()).await));
        let answer = elections.resign(epb::ResignRequest { leader: leader.clone() }).await;
        said.push(format!("resign {what}: {}", outcome(answer, |_| ())));
        said.push(format!("leader: {}", leader_of(elections.clone()).await));
        let request = epb::ProclaimRequest { leader, value: "too late".into() };
        let late = elections.proclaim(request).await;
        said.push(format!("proclaim {what} again: {}", outcome(late, |_| ())));
    }
    said
}

const ELECTIONS_EXPECTED: &[&str] = &[
    "nobody leads: Unknown election: no leader",
    "ann: boss boss/10 true",
    "leader: (\"boss/10\", \"ann\", 16)",
    "ann again: boss boss/10 true",
    "leader: (\"boss/10\", \"ann again\", 16)",
    "proclaim none: Unknown \"leader\" field must be provided",
    "leader: (\"boss/10\", \"ann again\", 16)",
    "resign none: Unknown \"leader\" field must be provided",
    "leader: (\"boss/10\", \"ann again\", 16)",
    "proclaim none again: Unknown \"leader\" field must be provided",
    "proclaim stale: Unknown election: not leader",
    "leader: (\"boss/10\", \"ann again\", 16)",
    "resign stale: ()",
    "leader: (\"boss/10\", \"ann again\", 16)",
    "proclaim stale again: Unknown election: not leader",
    "proclaim true: ()",
    "leader: (\"boss/10\", \"by true\", 16)",
    "resign true: ()",
    "leader: Unknown election: no leader",
    "proclaim true again: Unknown election: not leader",
];

#[tokio::test]
async fn locks_and_elections_are_answered_as_by_the_original() {
    let ours = Cluster::start(Settings::of(3)).await;
    let mut all = vec![&ours];
    let theirs;
    if Command::new("etcd").arg("--version").output().is_ok() {
        theirs = Cluster::start(Settings { program: Program::Etcd, ..Settings::of(1) }).await;
        all.push(&theirs);
    } else {
        eprintln!("SKIPPED: etcd not found on PATH; install etcd-server");
    }
    for cluster in all {
        for id in [16, -16] {
            grant(cluster, id, 600).await;
        }
        // There the errors of the store come with the code Unknown, as if nobody knew them.
        let theirs = cluster.members.len() == 1;
        let expected = LOCKS_EXPECTED.iter().map(|said| match theirs {
            true => {
                said.replace("NotFound etcd", "Unknown etcd").replace("InvalidArgument", "Unknown")
            }
            false => (*said).to_owned(),
        });
        assert_eq!(talk_of_locks(cluster).await, expected.collect::<Vec<_>>());
        assert_eq!(talk_of_elections(cluster).await, ELECTIONS_EXPECTED);
    }
}

#[tokio::test]
async fn only_keys_of_locks_are_unlocked() {
    let cluster = Cluster::start(Settings::of(1)).await;
    grant(&cluster, 16, 600).await;
    let mut client = cluster.client(0);
    for key in ["plain", "plain/10"] {
        client.put(key, "precious").await.expect("a write");
        let refused = unlock(&cluster, key).await.expect_err("no lock");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(refused.message().contains("is not the key of a lock"), "{refused}");
        let kept = client.get(key, Freshness::Linearizable).await.expect("a read").found;
        assert!(kept.is_some(), "{key} was deleted");
    }
    unlock(&cluster, "nothing").await.expect("what is not there is unlocked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_ends_the_wait_and_never_gets_the_lock() {
    let cluster = Cluster::start(Settings::of(3)).await;
    grant(&cluster, 16, 600).await;
    let held = lock(&cluster, 0, "jobs", 16).await.expect("free");
    // One ends by itself, one is revoked.
    grant(&cluster, 32, 2).await;
    grant(&cluster, 48, 600).await;
    let expiring = locking(&cluster, 1, "jobs", 32);
    let revoked = locking(&cluster, 2, "jobs", 48);
    // The short one may be over already, or not have begun.
    wait_queue(&cluster, 0, "jobs", &["jobs/10", "jobs/30"]).await;
    revoke(&cluster, 48).await;
    for (waiting, expires) in [(expiring, true), (revoked, false)] {
        let told = tokio::time::timeout(SOON, waiting).await.expect("in time").expect("it ends");
        let refused = told.expect_err("its lease has ended");
        let told = (refused.code(), refused.message());
        let before = (Code::NotFound, "etcdserver: requested lease not found");
        let on_time = told == (Code::Unknown, "mutex: session is expired");
        assert!(on_time || (expires && told == before), "{refused}");
    }
    assert_eq!(queue(&cluster, 0, "jobs").await, [held.clone()], "the holder holds on");
    unlock(&cluster, &held).await.expect("unlocked");
    assert!(queue(&cluster, 0, "jobs").await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_leaves_the_line_unless_he_came_back() {
    let cluster = Cluster::start(Settings::of(3)).await;
    for id in [16, 32, 48] {
        grant(&cluster, id, 600).await;
    }
    let held = lock(&cluster, 0, "jobs", 16).await.expect("free");
    let gone = locking(&cluster, 1, "jobs", 32);
    wait_queue(&cluster, 0, "jobs", &["jobs/10", "jobs/20"]).await;
    let moved = locking(&cluster, 1, "jobs", 48);
    wait_queue(&cluster, 0, "jobs", &["jobs/10", "jobs/20", "jobs/30"]).await;
    // The third asks another member with the same lease before its first call ends.
    let again = locking(&cluster, 2, "jobs", 48);
    wait_version(&cluster, "jobs/30", 2).await;
    gone.abort();
    moved.abort();
    wait_queue(&cluster, 0, "jobs", &["jobs/10", "jobs/30"]).await;
    unlock(&cluster, &held).await.expect("unlocked");
    let told = tokio::time::timeout(SOON, again).await.expect("in time").expect("it ends");
    assert_eq!(told.expect("served"), "jobs/30");
    // Time for the end of the first call to do harm.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(queue(&cluster, 0, "jobs").await, ["jobs/30"]);
}

async fn wait_version(cluster: &Cluster, key: &str, version: i64) {
    let range = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
    let since = Instant::now();
    loop {
        let found = cluster.client(0).kv.range(range.clone()).await.expect("a read").into_inner();
        if found.kvs.first().is_some_and(|kv| kv.version == version) {
            return;
        }
        assert!(since.elapsed() < SOON, "{:?} is not at version {version}", found.kvs);
        tokio::time::sleep(GLANCE).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_moves_on_when_the_leader_dies_and_the_holder_lets_go() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let other = 3 - leader - follower;
    for id in [16, 32, 48] {
        grant(&cluster, id, 600).await;
    }
    let held = lock(&cluster, follower, "jobs", 16).await.expect("free");
    let second = locking(&cluster, follower, "jobs", 32);
    wait_queue(&cluster, follower, "jobs", &["jobs/10", "jobs/20"]).await;
    let third = locking(&cluster, other, "jobs", 48);
    wait_queue(&cluster, follower, "jobs", &["jobs/10", "jobs/20", "jobs/30"]).await;
    cluster.kill(leader);
    let since = Instant::now();
    loop {
        let mut locks = LockClient::new(channel(&cluster, follower).await);
        match locks.unlock(lpb::UnlockRequest { key: held.clone().into() }).await {
            Ok(_) => break,
            Err(status) => assert!(since.elapsed() < SOON, "{status}"),
        }
        tokio::time::sleep(GLANCE).await;
    }
    let told = tokio::time::timeout(SOON, second).await.expect("in time").expect("it ends");
    assert_eq!(told.expect("served"), "jobs/20");
    assert!(!third.is_finished(), "one at a time");
    let mut locks = LockClient::new(channel(&cluster, other).await);
    locks.unlock(lpb::UnlockRequest { key: "jobs/20".into() }).await.expect("unlocked");
    let told = tokio::time::timeout(SOON, third).await.expect("in time").expect("it ends");
    assert_eq!(told.expect("served"), "jobs/30");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_a_wait_ends_if_it_wants_one() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    for id in [16, 32] {
        grant(&cluster, id, 600).await;
    }
    lock(&cluster, 0, "jobs", 16).await.expect("free");
    let mut locks = LockClient::new(channel(&cluster, 0).await);
    let waiting = tokio::spawn(async move {
        let mut request = Request::new(lpb::LockRequest { name: "jobs".into(), lease: 32 });
        request.metadata_mut().insert("hasleader", "true".parse().expect("a value"));
        locks.lock(request).await
    });
    wait_queue(&cluster, 0, "jobs", &["jobs/10", "jobs/20"]).await;
    cluster.kill(1);
    cluster.kill(2);
    let told = tokio::time::timeout(SOON, waiting).await.expect("in time").expect("it ends");
    let refused = told.expect_err("nobody leads");
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "etcdserver: no leader"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_leader_is_observed_in_order() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let mut elections = ElectionClient::new(channel(&cluster, 0).await);
    let mut observer = ElectionClient::new(channel(&cluster, 1).await);
    let request = epb::LeaderRequest { name: "boss".into() };
    let mut seen = observer.observe(request).await.expect("a stream").into_inner();
    let mut expected = Vec::new();
    for id in 1..=20 {
        grant(&cluster, id, 600).await;
        let value = format!("v{id}");
        let request =
            epb::CampaignRequest { name: "boss".into(), lease: id, value: value.clone().into() };
        let leader = elections.campaign(request).await.expect("elected").into_inner().leader;
        expected.push(value);
        let value = format!("v{id} again");
        let request = epb::ProclaimRequest { leader: leader.clone(), value: value.clone().into() };
        elections.proclaim(request).await.expect("the leader");
        expected.push(value);
        elections.resign(epb::ResignRequest { leader }).await.expect("the leader");
    }
    for value in expected {
        let told = tokio::time::timeout(SOON, seen.message()).await.expect("in time");
        let told = told.expect("the stream goes on").expect("a leader");
        assert_eq!(text(&told.kv.expect("a leader").value), value);
    }
}
