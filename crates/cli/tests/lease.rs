//! Leases of real members: what clients see, beside the original where it is installed, and what
//! becomes of leases when leaders die or stand still.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};
use support::client::Freshness;
use support::cluster::{Cluster, Program, SOON, Settings};
use support::missing;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

/// A lease is ended so much after its time at most, on a machine that is busy with other tests.
const LATE: Duration = SOON;

/// No request of others may take longer while leases end; all of them at once would take more.
const SLOWEST_MAX: Duration = Duration::from_secs(5);

async fn client(cluster: &Cluster, i: usize) -> LeaseClient<Channel> {
    let address = format!("http://127.0.0.1:{}", cluster.members[i].client_port);
    LeaseClient::connect(address).await.expect("the member listens")
}

/// Asks until somebody answers: a cluster may be without a leader for a moment.
async fn grant(cluster: &Cluster, i: usize, id: i64, ttl: i64) -> i64 {
    let mut client = client(cluster, i).await;
    let since = Instant::now();
    loop {
        match client.lease_grant(pb::LeaseGrantRequest { ttl, id }).await {
            Ok(granted) => return granted.into_inner().ttl,
            Err(status) => assert!(since.elapsed() < SOON, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn time_to_live(cluster: &Cluster, i: usize, id: i64) -> pb::LeaseTimeToLiveResponse {
    let mut client = client(cluster, i).await;
    let since = Instant::now();
    loop {
        match client.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true }).await {
            Ok(told) => return told.into_inner(),
            Err(status) => assert!(since.elapsed() < SOON, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn attach(cluster: &Cluster, i: usize, id: i64, keys: &[&str]) {
    for key in keys {
        let key = (*key).to_owned().into_bytes().into();
        let put = pb::PutRequest { key, lease: id, ..pb::PutRequest::default() };
        cluster.client(i).kv.put(put).await.expect("it is put");
    }
}

/// A stream of keep-alives.
struct Stream {
    requests: mpsc::Sender<pb::LeaseKeepAliveRequest>,
    answers: Streaming<pb::LeaseKeepAliveResponse>,
}

impl Stream {
    async fn open(cluster: &Cluster, i: usize, metadata: Option<&'static str>) -> Stream {
        let (requests, receiver) = mpsc::channel(1_024);
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(name) = metadata {
            request.metadata_mut().insert(name, "true".parse().expect("a value"));
        }
        let answers = client(cluster, i).await.lease_keep_alive(request).await;
        Stream { requests, answers: answers.expect("a stream").into_inner() }
    }

    async fn ask(&self, id: i64) {
        self.requests.send(pb::LeaseKeepAliveRequest { id }).await.expect("the stream is open");
    }

    async fn answer(&mut self) -> Result<pb::LeaseKeepAliveResponse, Status> {
        let answer = tokio::time::timeout(SOON, self.answers.message()).await;
        answer.expect("in time")?.ok_or_else(|| Status::cancelled("the stream ended"))
    }
}

async fn keep_alive(cluster: &Cluster, i: usize, id: i64) -> Result<i64, Status> {
    // The original says nothing on a stream, not even that it is open, before it is asked.
    let once = tonic::codegen::tokio_stream::once(pb::LeaseKeepAliveRequest { id });
    let mut answers = client(cluster, i).await.lease_keep_alive(once).await?.into_inner();
    let answer = answers.message().await?;
    answer.map(|answer| answer.ttl).ok_or_else(|| Status::cancelled("the stream ended"))
}

/// Every kind of question, as `question: answer`.
async fn conversation(cluster: &Cluster) -> Vec<String> {
    let mut said = Vec::new();
    let members = cluster.members.len();
    for (number, (id, ttl)) in [
        (-7, 60),
        (-7, 60),
        (7, -5),
        (8, 9_000_000_001),
        (7, 9_000_000_001),
        (9, 9_000_000_000),
        (10, 0),
        (i64::MIN, 60),
        (i64::MAX, 60),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = client(cluster, number % members).await;
        let granted = client.lease_grant(pb::LeaseGrantRequest { ttl, id }).await;
        said.push(format!("grant {id} {ttl}: {}", outcome(granted, |g| (g.id, g.ttl, g.error))));
    }
    let mut drawn = client(cluster, 0).await;
    let drawn = drawn.lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 }).await;
    let drawn = drawn.expect("granted").into_inner();
    said.push(format!("drawn: {}", drawn.id > 0));
    attach(cluster, 0, i64::MAX, &["b", "a", "moved"]).await;
    attach(cluster, members - 1, i64::MIN, &["moved"]).await;
    for id in [i64::MAX, i64::MIN, 9, 0, 4_711] {
        let told = time_to_live(cluster, id as usize % members, id).await;
        // A set: the original lists them in no order.
        let keys: BTreeSet<_> = told.keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        // Some seconds may have gone by on a busy machine.
        let nearly = (-20..=0).contains(&(told.ttl - told.granted_ttl));
        said.push(format!("left {id}: {} {nearly} {keys:?}", told.granted_ttl));
        said.push(format!("kept {id}: {:?}", keep_alive(cluster, 0, id).await.ok()));
    }
    let mut last = client(cluster, members - 1).await;
    let listed = last.lease_leases(pb::LeaseLeasesRequest {}).await.expect("listed").into_inner();
    let listed: BTreeSet<i64> = listed.leases.iter().map(|lease| lease.id).collect();
    // Without those that are about to end, and the one whose number nobody knows.
    let lasting = |id: &i64| ![drawn.id, 7, 10].contains(id);
    let others: Vec<i64> = listed.into_iter().filter(lasting).collect();
    said.push(format!("list: {others:?}"));
    for id in [i64::MAX, i64::MAX, 0, drawn.id] {
        let before = last_revision(cluster).await;
        let revoked = last.lease_revoke(pb::LeaseRevokeRequest { id }).await;
        let moved = last_revision(cluster).await - before;
        let name = if id == drawn.id { "drawn".to_owned() } else { id.to_string() };
        said.push(format!("revoke {name}: {} moved {moved}", outcome(revoked, |_| ())));
    }
    let unknown = pb::PutRequest { key: "k".into(), lease: 4_711, ..Default::default() };
    let put = cluster.client(0).kv.put(unknown).await;
    said.push(format!("put: {}", outcome(put, |_| ())));
    said
}

async fn last_revision(cluster: &Cluster) -> i64 {
    let snapshot = cluster.client(0).all(Freshness::Linearizable).await;
    snapshot.expect("the cluster answers").revision
}

fn outcome<T, U: std::fmt::Debug>(
    answer: Result<tonic::Response<T>, Status>,
    told: impl Fn(T) -> U,
) -> String {
    match answer {
        Ok(response) => format!("{:?}", told(response.into_inner())),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    }
}

/// What the original says, so that the test says something where it is not installed.
const EXPECTED: &[&str] = &[
    "grant -7 60: (-7, 60, \"\")",
    "grant -7 60: FailedPrecondition etcdserver: lease already exists",
    "grant 7 -5: (7, 1, \"\")",
    "grant 8 9000000001: OutOfRange etcdserver: too large lease TTL",
    "grant 7 9000000001: OutOfRange etcdserver: too large lease TTL",
    "grant 9 9000000000: (9, 9000000000, \"\")",
    "grant 10 0: (10, 1, \"\")",
    "grant -9223372036854775808 60: (-9223372036854775808, 60, \"\")",
    "grant 9223372036854775807 60: (9223372036854775807, 60, \"\")",
    "drawn: true",
    "left 9223372036854775807: 60 true {\"a\", \"b\"}",
    "kept 9223372036854775807: Some(60)",
    "left -9223372036854775808: 60 true {\"moved\"}",
    "kept -9223372036854775808: Some(60)",
    "left 9: 9000000000 true {}",
    "kept 9: Some(9000000000)",
    "left 0: 0 true {}",
    "kept 0: Some(0)",
    "left 4711: 0 true {}",
    "kept 4711: Some(0)",
    "list: [-9223372036854775808, -7, 9, 9223372036854775807]",
    "revoke 9223372036854775807: () moved 1",
    "revoke 9223372036854775807: NotFound etcdserver: requested lease not found moved 0",
    "revoke 0: NotFound etcdserver: requested lease not found moved 0",
    "revoke drawn: () moved 0",
    "put: NotFound etcdserver: requested lease not found",
];

#[tokio::test]
async fn leases_are_answered_as_by_the_original() {
    let ours = Cluster::start(Settings::of(3)).await;
    let here = conversation(&ours).await;
    assert_eq!(here, EXPECTED);
    if missing("etcd") {
        return;
    }
    let settings = Settings { program: Program::Etcd, ..Settings::of(1) };
    let theirs = Cluster::start(settings).await;
    assert_eq!(here, conversation(&theirs).await);
}

fn etcdctl(cluster: &Cluster, words: &str) -> String {
    let ports = cluster.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port));
    let output = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .arg(format!("--endpoints={}", ports.collect::<Vec<_>>().join(",")))
        .args(words.split(' '))
        .output()
        .expect("etcdctl");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).trim_end().to_owned()
}

#[tokio::test]
async fn etcdctl_grants_keeps_lists_and_revokes() {
    if missing("etcdctl") {
        return;
    }
    let cluster = Cluster::start(Settings::of(3)).await;
    let granted = etcdctl(&cluster, "lease grant 60");
    let id = granted.split(' ').nth(1).expect("an id").to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(60s)"));
    assert_eq!(etcdctl(&cluster, &format!("put --lease={id} a 1")), "OK");
    assert_eq!(etcdctl(&cluster, &format!("put --lease={id} b 1")), "OK");
    let kept = etcdctl(&cluster, &format!("lease keep-alive --once {id}"));
    assert_eq!(kept, format!("lease {id} keepalived with TTL(60)"));
    let told = etcdctl(&cluster, &format!("lease timetolive {id} --keys"));
    assert!(told.starts_with(&format!("lease {id} granted with TTL(60s), remaining(")), "{told}");
    assert!(told.ends_with("attached keys([a b])"), "{told}");
    assert_eq!(etcdctl(&cluster, "lease list"), format!("found 1 leases\n{id}"));
    assert_eq!(etcdctl(&cluster, &format!("lease revoke {id}")), format!("lease {id} revoked"));
    assert_eq!(etcdctl(&cluster, "get a"), "");
    let told = etcdctl(&cluster, &format!("lease timetolive {id}"));
    assert_eq!(told, format!("lease {id} already expired"));
    let refused = etcdctl(&cluster, &format!("lease revoke {id}"));
    assert!(refused.contains("requested lease not found"), "{refused}");
    let refused = etcdctl(&cluster, &format!("lease keep-alive --once {id}"));
    assert!(refused.contains("requested lease not found"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_survives_kill_nine_of_the_leader_and_all_keys_go_at_once() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let sent = Instant::now();
    assert_eq!(grant(&cluster, follower, 7, 12).await, 12);
    let granted = Instant::now();
    attach(&cluster, follower, 7, &["b", "a", "c"]).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    cluster.kill(leader);
    let told = time_to_live(&cluster, follower, 7).await;
    assert!(told.ttl <= 8, "{} s are left after {:?}", told.ttl, sent.elapsed());
    assert_eq!((told.granted_ttl, told.keys.len()), (12, 3));
    let before = loop {
        let snapshot = cluster.client(follower).all(Freshness::Linearizable).await;
        let Ok(snapshot) = snapshot else { continue };
        match snapshot.kvs.len() {
            3 => assert!(granted.elapsed() < Duration::from_secs(12) + LATE, "it lives for ever"),
            0 => break snapshot.revision,
            count => panic!("{count} keys of a lease are left"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(sent.elapsed() >= Duration::from_secs(12), "it ended after {:?}", sent.elapsed());
    assert_eq!(before, 5, "three puts, and one revision for the end of all of them");
    assert_eq!(time_to_live(&cluster, follower, 7).await.ttl, -1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stands_still_costs_no_client_its_lease() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    grant(&cluster, follower, 7, 4).await;
    grant(&cluster, follower, 8, 4).await;
    attach(&cluster, follower, 7, &["a"]).await;
    attach(&cluster, follower, 8, &["b"]).await;
    let mut stream = Stream::open(&cluster, follower, None).await;
    let since = Instant::now();
    let mut paused = false;
    while since.elapsed() < Duration::from_secs(11) {
        for id in [7, 8] {
            stream.ask(id).await;
            let kept = stream.answer().await.expect("a stream survives a change of leader");
            assert_eq!((kept.id, kept.ttl), (id, 4), "lost after {:?}", since.elapsed());
        }
        match since.elapsed().as_secs() {
            1..6 if !paused => {
                cluster.pause(leader);
                paused = true;
            }
            6.. if cluster.is_paused(leader) => cluster.resume(leader),
            _ => {}
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(paused && !cluster.is_paused(leader));
    let snapshot = cluster.client(follower).all(Freshness::Linearizable).await.expect("answers");
    assert_eq!(snapshot.kvs.len(), 2);
    // And the one that stood still serves leases again.
    let kept = keep_alive(&cluster, leader, 7).await.expect("answered");
    assert_eq!(kept, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_answered_in_its_order_through_a_change_of_leader() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    for id in 1..=10 {
        grant(&cluster, follower, id, 60).await;
    }
    let mut stream = Stream::open(&cluster, follower, None).await;
    let requests = stream.requests.clone();
    // More than may be in flight; every eleventh is unknown.
    let asking = tokio::spawn(async move {
        for id in (1..=11).cycle().take(5_000) {
            requests.send(pb::LeaseKeepAliveRequest { id }).await.expect("the stream is open");
        }
    });
    for (number, id) in (1..=11).cycle().take(5_000).enumerate() {
        if number == 2_000 {
            cluster.kill(leader);
        }
        let kept = stream.answer().await.expect("answered");
        assert_eq!((kept.id, kept.ttl), (id, if id == 11 { 0 } else { 60 }), "answer {number}");
    }
    asking.await.expect("all were asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_leader_streams_end_by_saying_so() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    grant(&cluster, 0, 7, 60).await;
    let mut patient = Stream::open(&cluster, 0, None).await;
    let mut strict = Stream::open(&cluster, 0, Some("hasleader")).await;
    for stream in [&mut patient, &mut strict] {
        stream.ask(7).await;
        assert_eq!(stream.answer().await.expect("answered").ttl, 60);
    }
    cluster.kill(1);
    cluster.kill(2);
    let no_leader = |answer: Result<pb::LeaseKeepAliveResponse, Status>| {
        let status = answer.expect_err("there is no leader");
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
    };
    let since = Instant::now();
    no_leader(strict.answer().await);
    patient.ask(7).await;
    no_leader(patient.answer().await);
    assert!(since.elapsed() > Duration::from_secs(4), "it waits for a leader to come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_endings_leaves_room_for_others() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let granting = (1..=8).map(|lane| {
        let port = cluster.members[lane as usize % 3].client_port;
        tokio::spawn(async move {
            let address = format!("http://127.0.0.1:{port}");
            let mut client = LeaseClient::connect(address).await.expect("the member listens");
            for number in 0..250 {
                let id = lane * 1_000 + number;
                let granted = client.lease_grant(pb::LeaseGrantRequest { ttl: 3, id }).await;
                granted.expect("granted");
            }
        })
    });
    for lane in granting.collect::<Vec<_>>() {
        lane.await.expect("all were granted");
    }
    let since = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut kv = cluster.client(0);
    loop {
        let begun = Instant::now();
        kv.put("k", "v").await.expect("others are served");
        slowest = slowest.max(begun.elapsed());
        let mut client = client(&cluster, 1).await;
        let listed = client.lease_leases(pb::LeaseLeasesRequest {}).await.expect("listed");
        if listed.into_inner().leases.is_empty() {
            break;
        }
        assert!(since.elapsed() < SOON, "2,000 leases end within seconds");
    }
    support::report(format_args!("ended in {:?}, slowest put {slowest:?}", since.elapsed()));
    assert!(slowest < SLOWEST_MAX, "a put took {slowest:?}");
}
