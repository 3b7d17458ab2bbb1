//! Fences and named requests at real members: who lost the lock writes nothing, however late he
//! comes, and who asks again is answered as the first time.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use quorate_server::api::conditions::{FENCE, REQUEST_ID};
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::request_op::Request as Op;
use quorate_server::proto::v3lockpb as lpb;
use quorate_server::proto::v3lockpb::lock_client::LockClient;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::client::Freshness;
use support::cluster::{Cluster, SOON, Settings, binary};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Time between two attempts at something that fails while members come and go.
const PAUSE: Duration = Duration::from_millis(20);

fn endpoints(cluster: &Cluster) -> String {
    let all = cluster.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port));
    all.collect::<Vec<_>>().join(",")
}

async fn channel(cluster: &Cluster, i: usize) -> Channel {
    let address = format!("http://127.0.0.1:{}", cluster.members[i].client_port);
    Channel::from_shared(address).expect("an address").connect().await.expect("it listens")
}

fn with<T>(message: T, name: &'static str, value: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(name, value.parse().expect("a value"));
    request
}

fn put(key: &str, value: &str) -> pb::PutRequest {
    let (key, value) = (key.to_owned().into(), value.to_owned().into());
    pb::PutRequest { key, value, ..pb::PutRequest::default() }
}

/// Locks, and answers with key and token.
async fn lock(cluster: &Cluster, lease: i64) -> (String, i64) {
    let mut leases = LeaseClient::new(channel(cluster, 0).await);
    let grant = pb::LeaseGrantRequest { ttl: 600, id: lease };
    leases.lease_grant(grant).await.expect("granted");
    let mut locks = LockClient::new(channel(cluster, 0).await);
    let request = lpb::LockRequest { name: "jobs".into(), lease };
    let locked = locks.lock(request).await.expect("locked").into_inner();
    let token = locked.header.expect("a header").revision;
    (String::from_utf8(locked.key.to_vec()).expect("text"), token)
}

/// Every kind of write under a fence.
async fn write_everything(cluster: &Cluster, fence: &str) -> Vec<Result<(), Status>> {
    let mut kv = KvClient::new(channel(cluster, 1).await);
    let mut leases = LeaseClient::new(channel(cluster, 1).await);
    let op = pb::RequestOp { request: Some(Op::RequestPut(put("state", "txn"))) };
    let txn = pb::TxnRequest { success: vec![op], ..pb::TxnRequest::default() };
    let delete = pb::DeleteRangeRequest { key: "state".into(), ..Default::default() };
    let revoke = pb::LeaseRevokeRequest { id: 4_711 };
    vec![
        kv.put(with(put("state", "put"), FENCE, fence)).await.map(|_| ()),
        kv.txn(with(txn, FENCE, fence)).await.map(|_| ()),
        kv.delete_range(with(delete, FENCE, fence)).await.map(|_| ()),
        leases.lease_revoke(with(revoke, FENCE, fence)).await.map(|_| ()),
    ]
}

#[tokio::test]
async fn every_kind_of_write_is_fenced_and_the_refusal_names_the_holder() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let mut leases = LeaseClient::new(channel(&cluster, 0).await);
    let spare = pb::LeaseGrantRequest { ttl: 600, id: 4_711 };
    leases.lease_grant(spare.clone()).await.expect("granted");
    let (key, token) = lock(&cluster, 16).await;
    let fence = format!("{key}={token}");
    for done in write_everything(&cluster, &fence).await {
        done.expect("the lock is held");
    }
    leases.lease_grant(spare).await.expect("granted");
    let mut locks = LockClient::new(channel(&cluster, 0).await);
    let unlock = || lpb::UnlockRequest { key: key.clone().into() };
    locks.unlock(with(unlock(), FENCE, &format!("{key}={}", token + 1))).await.expect_err("fenced");
    locks.unlock(with(unlock(), FENCE, &fence)).await.expect("unlocked by its holder");

    for taken in [false, true] {
        let holder = match taken {
            true => format!("it is held with token {} now", lock(&cluster, 32).await.1),
            false => "nobody holds it now".to_owned(),
        };
        let before = cluster.client(0).all(Freshness::Linearizable).await.expect("everything");
        for refused in write_everything(&cluster, &fence).await {
            let refused = refused.expect_err("the lock is lost");
            assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
            let text = refused.message();
            let lost = format!("lock {key:?} is not held with token {token}: {holder}");
            assert!(text.contains(&lost), "{text}");
        }
        let after = cluster.client(0).all(Freshness::Linearizable).await.expect("everything");
        assert_eq!(before.revision, after.revision, "nothing was written");
    }
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 7 };
    let refused = leases.lease_grant(with(grant, FENCE, &fence)).await.expect_err("no fences");
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn a_holder_that_stood_still_writes_nothing_when_it_goes_on() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let (all, program) = (endpoints(&cluster), binary());
    let ctl = format!("{} ctl --endpoints {all} put state", program.display());
    let script = format!("echo $$; read go; {ctl} late 2>&1; echo status $?");
    let words = |ttl: &str, script: &str| {
        let mut command = Command::new(&program);
        command.args(["lock", "--endpoints", &all, ttl, "jobs", "--", "sh", "-c", script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    };
    let mut paused = words("--ttl=3", &script).spawn().expect("the binary under test");
    let mut lines = BufReader::new(paused.stdout.take().expect("a pipe")).lines();
    let group: i32 = lines.next().expect("a line").expect("text").parse().expect("a number");
    let group = Pid::from_raw(group).expect("a process");
    // The whole machine of the holder stands still.
    kill_process(Pid::from_child(&paused), Signal::STOP).expect("it runs");
    kill_process_group(group, Signal::STOP).expect("it runs");
    let next = words("--ttl=60", &format!("{ctl} new")).output().expect("the binary under test");
    assert!(next.status.success(), "the next one gets the lock: {next:?}");

    // The command goes on before who holds its lock does, and writes as if nothing had happened.
    kill_process_group(group, Signal::CONT).expect("it is there");
    paused.stdin.take().expect("a pipe").write_all(b"go\n").expect("a pipe");
    let said: Vec<String> = lines.by_ref().take(2).map(|line| line.expect("text")).collect();
    assert!(said[0].contains("quorate: fenced: lock"), "{said:?}");
    assert!(said[0].contains("nobody holds it now"), "{said:?}");
    assert_eq!(said[1], "status 1");
    let state = cluster.client(0).get("state", Freshness::Linearizable).await.expect("a read");
    assert_eq!(state.found.expect("it is there").value, "new");
    kill_process(Pid::from_child(&paused), Signal::CONT).expect("it is there");
    // It finds out that it has lost the lock, or that its command has ended.
    let status = paused.wait().expect("it ends").code().expect("a status");
    assert!([0, 76].contains(&status), "{status}");
}

/// From `seen`, the last revision of the counter, to a value.
fn count(seen: i64, value: u64) -> pb::TxnRequest {
    let compare = pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: "counter".into(),
        target_union: Some(TargetUnion::ModRevision(seen)),
        range_end: Default::default(),
    };
    let op = pb::RequestOp { request: Some(Op::RequestPut(put("counter", &value.to_string()))) };
    pb::TxnRequest { compare: vec![compare], success: vec![op], failure: Vec::new() }
}

/// Asks one member after the other until one answers.
async fn ask_until_answered(
    cluster: &Cluster,
    first: usize,
    txn: &pb::TxnRequest,
    name: &str,
) -> pb::TxnResponse {
    let since = Instant::now();
    for i in (0..cluster.members.len()).cycle().skip(first) {
        if cluster.is_up(i) {
            let mut client = cluster.client(i);
            let asked = client.kv.txn(with(txn.clone(), REQUEST_ID, name));
            match tokio::time::timeout(Duration::from_secs(5), asked).await {
                Ok(Ok(answer)) => return answer.into_inner(),
                told => assert!(since.elapsed() < SOON, "{told:?}"),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    unreachable!("the members go round for ever")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swap_of_unknown_outcome_that_is_asked_again_is_told_that_it_won() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let (mut seen, mut since) = (0, 1);
    for round in 1..=6_u64 {
        let txn = count(seen, round);
        let name = format!("counter/{round}@{since}");
        let asked = round as usize % 3;
        let mut client = cluster.client(asked);
        let request = with(txn.clone(), REQUEST_ID, &name);
        let first = tokio::spawn(async move { client.kv.txn(request).await });
        // Sometimes before it is proposed, sometimes after, sometimes when it is answered.
        tokio::time::sleep(Duration::from_millis(3 * round)).await;
        cluster.kill(asked);
        let first = first.await.expect("it ends").ok();
        let told = ask_until_answered(&cluster, (asked + 1) % 3, &txn, &name).await;
        let header = told.header.expect("a header");
        assert!(told.succeeded, "round {round}: nobody else writes, so it must have won");
        if let Some(first) = first {
            let first = first.into_inner();
            let revision = first.header.map(|header| header.revision);
            assert_eq!((first.succeeded, revision), (true, Some(header.revision)));
        }
        (seen, since) = (header.revision, header.revision);
        cluster.spawn(asked);
        cluster.wait_ready().await;
    }
    let counter = cluster.client(0).all(Freshness::Linearizable).await.expect("everything").kvs;
    assert_eq!(counter.len(), 1);
    assert_eq!(
        (&counter[0].value[..], counter[0].version),
        (&b"6"[..], 6),
        "each took effect once"
    );

    // After a restart of everything, at every member, and however often.
    let (txn, name) = (count(0, 1), "counter/1@1");
    let first = ask_until_answered(&cluster, 0, &txn, name).await;
    assert!(first.succeeded && first.header.expect("a header").revision == 2);
    cluster.kill_all();
    cluster.spawn_all();
    cluster.wait_ready().await;
    for i in 0..3 {
        let again = ask_until_answered(&cluster, i, &txn, name).await;
        assert_eq!(again.succeeded, first.succeeded);
        assert_eq!(again.header.expect("a header").revision, 2, "through member {i}");
    }
    let blind = cluster.client(0).kv.txn(txn.clone()).await.expect("an answer").into_inner();
    assert!(!blind.succeeded, "without a name it is told that it lost");
    let mut client = cluster.client(0);
    let other = client.kv.txn(with(count(7, 7), REQUEST_ID, name)).await.expect_err("reused");
    assert_eq!(other.code(), Code::InvalidArgument, "{other}");
}

#[test]
fn conditions_on_the_command_line_are_looked_at_before_anything_is_sent() {
    for words in [["--fence", "jobs"], ["--fence", "=7"], ["--request-id", "me"]] {
        let output = Command::new(binary()).args(["ctl", "put", "k", "v"]).args(words).output();
        let output = output.expect("the binary under test");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(words[0]), "{errors}");
    }
}
