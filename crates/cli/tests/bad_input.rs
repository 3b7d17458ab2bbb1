//! Requests that are wrong and bytes that are no requests: refused with etcd's codes and words,
//! which clients match literally, and without a trace in the store or in the process.
//!
//! Source of the words: etcd `api/v3rpc/rpctypes/error.go`.

mod support;

use bytes::{Buf, BufMut, Bytes};
use quorate_server::proto::etcdserverpb as pb;
use std::future::Future;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use support::client::{Freshness, fill};
use support::cluster::{Cluster, Settings};
use support::net::loopback;
use support::seed::Seed;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Response, Status};

/// etcd's limit on the operations of one branch of a transaction.
const TXN_OPS_MAX: usize = 128;

/// Connections that are opened and then left waiting.
const IDLE_CONNECTIONS: usize = 100;

/// What garbage may cost in memory at most; a length that is believed costs gigabytes.
const GROWTH_MAX_BYTES: u64 = 256 << 20;

async fn assert_status<T: std::fmt::Debug>(
    case: &str,
    call: impl Future<Output = Result<Response<T>, Status>>,
    code: Code,
    message: &str,
) {
    let status = call.await.expect_err(case);
    assert_eq!((status.code(), status.message()), (code, message), "{case}");
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() }
}

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() }
}

fn delete(key: &str, range_end: &'static str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        range_end: range_end.into(),
        ..Default::default()
    }
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

fn put_op(key: &str) -> pb::RequestOp {
    op(pb::request_op::Request::RequestPut(put(key)))
}

fn delete_op(key: &str, range_end: &'static str) -> pb::RequestOp {
    op(pb::request_op::Request::RequestDeleteRange(delete(key, range_end)))
}

fn txn(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest { success, ..Default::default() }
}

/// `count` puts to different keys.
fn puts(count: usize) -> Vec<pb::RequestOp> {
    (0..count).map(|number| put_op(&format!("key/{number}"))).collect()
}

#[tokio::test]
async fn wrong_requests_get_etcds_answers_and_change_nothing() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    cluster.client(0).put("k", "x").await.expect("a write");
    let before = cluster.wait_agreement().await;
    // From every member: a follower must refuse in the same words as the leader.
    for i in 0..3 {
        wrong_keys_and_values(&cluster, i).await;
        wrong_transactions(&cluster, i).await;
        wrong_revisions(&cluster, i, before.revision).await;
        assert_eq!(cluster.wait_agreement().await, before, "something was written");
    }
    wrong_transferees(&cluster).await;
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await, before, "something was written");
}

async fn wrong_keys_and_values(cluster: &Cluster, i: usize) {
    let mut kv = cluster.client(i).kv;
    let invalid = Code::InvalidArgument;
    let no_key = "etcdserver: key is not provided";
    assert_status("put without key", kv.clone().put(put("")), invalid, no_key).await;
    assert_status("range without key", kv.clone().range(range("")), invalid, no_key).await;
    let request = delete("", "");
    assert_status("delete nothing", kv.clone().delete_range(request), invalid, no_key).await;

    let request = pb::PutRequest { ignore_value: true, value: "v".into(), ..put("k") };
    let words = "etcdserver: value is provided";
    assert_status("ignored value", kv.clone().put(request), invalid, words).await;
    let request = pb::PutRequest { ignore_lease: true, lease: 7, ..put("k") };
    let words = "etcdserver: lease is provided";
    assert_status("ignored lease", kv.clone().put(request), invalid, words).await;
    let request = pb::PutRequest { ignore_value: true, ..put("missing") };
    let words = "etcdserver: key not found";
    assert_status("value to keep of no key", kv.clone().put(request), invalid, words).await;
    let request = pb::PutRequest { lease: 7, ..put("k") };
    let words = "etcdserver: requested lease not found";
    assert_status("unknown lease", kv.clone().put(request), Code::NotFound, words).await;
    let request = pb::RangeRequest { sort_order: 99, ..range("k") };
    let words = "etcdserver: invalid sort option";
    assert_status("sort order", kv.clone().range(request), invalid, words).await;
    let request = pb::RangeRequest { sort_target: 99, ..range("k") };
    assert_status("sort target", kv.clone().range(request), invalid, words).await;

    let request = pb::PutRequest { value: vec![7; 1_600 << 10].into(), ..put("k") };
    let words = "etcdserver: request is too large";
    assert_status("a large request", kv.clone().put(request), invalid, words).await;
    // The transport refuses this one, and says so in the same words.
    let request = pb::PutRequest { value: vec![7; 5 << 20].into(), ..put("k") };
    assert_status("a huge request", kv.put(request), invalid, words).await;
}

async fn wrong_transactions(cluster: &Cluster, i: usize) {
    let kv = cluster.client(i).kv;
    let invalid = Code::InvalidArgument;
    let too_many = "etcdserver: too many operations in txn request";
    let call = txn(puts(TXN_OPS_MAX + 1));
    assert_status("129 operations", kv.clone().txn(call), invalid, too_many).await;
    let compare = vec![pb::Compare { key: "k".into(), ..Default::default() }; TXN_OPS_MAX + 1];
    let call = pb::TxnRequest { compare, ..Default::default() };
    assert_status("129 conditions", kv.clone().txn(call), invalid, too_many).await;
    let inner = op(pb::request_op::Request::RequestTxn(txn(puts(TXN_OPS_MAX))));
    let call = txn(vec![put_op("a"), put_op("b"), inner]);
    assert_status("130 nested operations", kv.clone().txn(call), invalid, too_many).await;

    let duplicate = "etcdserver: duplicate key given in txn request";
    let call = txn(vec![put_op("a"), put_op("a")]);
    assert_status("two puts", kv.clone().txn(call), invalid, duplicate).await;
    let call = txn(vec![put_op("b"), delete_op("a", "c")]);
    assert_status("put and delete", kv.clone().txn(call), invalid, duplicate).await;
    let inner = op(pb::request_op::Request::RequestTxn(txn(vec![put_op("a")])));
    let call = txn(vec![put_op("a"), inner]);
    assert_status("put and nested put", kv.clone().txn(call), invalid, duplicate).await;

    let words = "etcdserver: key not found";
    let call = txn(vec![pb::RequestOp { request: None }]);
    assert_status("an empty operation", kv.clone().txn(call), invalid, words).await;
    let words = "etcdserver: key is not provided";
    let call = txn(vec![put_op("")]);
    assert_status("a put without key", kv.clone().txn(call), invalid, words).await;
}

async fn wrong_revisions(cluster: &Cluster, i: usize, revision: i64) {
    let kv = cluster.client(i).kv;
    let future = "etcdserver: mvcc: required revision is a future revision";
    let call = pb::RangeRequest { revision: revision + 1, ..range("k") };
    assert_status("the future", kv.clone().range(call), Code::OutOfRange, future).await;
    let call = pb::CompactionRequest { revision: revision + 1, ..Default::default() };
    assert_status("compact the future", kv.clone().compact(call), Code::OutOfRange, future).await;
    let call = pb::RangeRequest { revision: i64::MAX, ..range("k") };
    assert_status("the far future", kv.clone().range(call), Code::OutOfRange, future).await;
    let inside = pb::RangeRequest { revision: revision + 1, ..range("k") };
    let call = txn(vec![put_op("k"), op(pb::request_op::Request::RequestRange(inside))]);
    assert_status("the future in a txn", kv.clone().txn(call), Code::OutOfRange, future).await;
}

async fn wrong_transferees(cluster: &Cluster) {
    let follower = cluster.follower().await;
    let leader = cluster.leader().await;
    let mut client = cluster.client(follower);
    let own = client.status().await.expect("a status").header.expect("a header").member_id;
    let call = client.maintenance.move_leader(pb::MoveLeaderRequest { target_id: own });
    let words = "etcdserver: not leader";
    assert_status("asked of a follower", call, Code::FailedPrecondition, words).await;
    let mut client = cluster.client(leader);
    let call = client.maintenance.move_leader(pb::MoveLeaderRequest { target_id: 4711 });
    let words = "etcdserver: bad leader transferee";
    assert_status("to nobody", call, Code::FailedPrecondition, words).await;
}

#[tokio::test]
async fn a_compacted_revision_is_refused_by_name_for_ever() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let mut client = cluster.client(0);
    for number in 0..5 {
        client.put("k", number.to_string()).await.expect("a write");
    }
    let compact = |revision| pb::CompactionRequest { revision, physical: true };
    client.kv.compact(compact(4)).await.expect("a compaction");
    cluster.wait_agreement().await;
    // Also after a restart: the compaction is part of the store.
    for restarted in [false, true] {
        if restarted {
            cluster.kill_all();
            cluster.spawn_all();
            cluster.wait_ready().await;
            cluster.wait_agreement().await;
        }
        for i in 0..3 {
            let mut kv = cluster.client(i).kv;
            let words = "etcdserver: mvcc: required revision has been compacted";
            let call = pb::RangeRequest { revision: 3, serializable: true, ..range("k") };
            assert_status("the past", kv.clone().range(call), Code::OutOfRange, words).await;
            for again in [3, 4] {
                let call = compact(again);
                assert_status("again", kv.clone().compact(call), Code::OutOfRange, words).await;
            }
            let call = pb::RangeRequest { revision: 4, ..range("k") };
            let kept = kv.range(call).await.expect("the oldest revision kept").into_inner();
            assert_eq!(kept.kvs[0].value.as_ref(), b"2", "the oldest revision kept");
        }
    }
}

/// Sends bytes as they are, so that a body which is no protobuf message can be sent.
#[derive(Clone, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

#[tokio::test]
async fn bodies_that_are_no_messages_are_refused() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let before = cluster.wait_agreement().await;
    let endpoint = format!("http://{}", loopback(cluster.members[0].client_port));
    let channel = tonic::transport::Endpoint::from_shared(endpoint).expect("an address");
    let mut grpc = tonic::client::Grpc::new(channel.connect().await.expect("a connection"));
    let mut seed = Seed::new(1);
    for method in ["KV/Put", "KV/Range", "KV/Txn", "KV/DeleteRange", "Maintenance/MoveLeader"] {
        for length in [1, 2, 10, 1_000, 100_000] {
            // A first byte of 0xff begins a field number that never ends within its ten bytes.
            let mut body = vec![0xff; 11];
            body.extend(seed.bytes(length));
            let path = format!("/etcdserverpb.{method}").parse().expect("a path");
            grpc.ready().await.expect("the connection lives");
            let request = tonic::Request::new(Bytes::from(body));
            let answer = grpc.unary(request, path, Raw).await;
            assert!(answer.is_err(), "{method} took {length} bytes of garbage");
        }
    }
    grpc.ready().await.expect("the connection lives");
    let path = "/etcdserverpb.KV/Nonsense".parse().expect("a path");
    let status = grpc.unary(tonic::Request::new(Bytes::new()), path, Raw).await;
    assert_eq!(status.expect_err("no such method").code(), Code::Unimplemented);
    assert_eq!(cluster.wait_agreement().await, before, "something was written");
}

/// What strangers, scanners and broken peers send.
fn rubbish() -> Vec<Vec<u8>> {
    let mut seed = Seed::new(7);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let mut all = vec![
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{".to_vec(),
        b"GET / HTTP/1.1\r\n".to_vec(),
        vec![b'A'; 100_000],
        // Lengths that nobody should believe, in both byte orders.
        vec![0xff; 64],
        [&[0x00, 0x00, 0x00, 0x7f][..], &[0; 60]].concat(),
        [&[0x7f, 0xff, 0xff, 0xff][..], &[0; 60]].concat(),
        // A TLS client that lost its way.
        [&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01][..], &seed.bytes(200)].concat(),
        preface.clone(),
        [&preface[..], &seed.bytes(500)].concat(),
        // A SETTINGS frame that claims 16 MiB, and a HEADERS frame on stream 0.
        [&preface[..], &[0xff, 0xff, 0xff, 0x04, 0, 0, 0, 0, 0]].concat(),
        [&preface[..], &[0, 0, 1, 0x01, 4, 0, 0, 0, 0, 0x80]].concat(),
        Vec::new(),
    ];
    all.extend((0..30).map(|round| seed.bytes(1 << (round % 15))));
    all
}

#[tokio::test]
async fn rubbish_on_any_port_harms_nobody() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    fill(&cluster.client(0), "k", 20, 100).await;
    let before = cluster.wait_agreement().await;
    let resident_before = cluster.resident_bytes(0);
    let ports = [cluster.members[0].client_port, cluster.members[0].peer_port];
    let mut waiting = Vec::new();
    for port in ports {
        for bytes in rubbish() {
            // Whether the other side reads it all, closes or resets is its own affair.
            let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
            stream.set_read_timeout(Some(Duration::from_millis(5))).expect("a time limit");
            let _ = stream.write_all(&bytes);
            let _ = stream.read(&mut [0; 512]);
            waiting.push(stream);
        }
        // Begins like the real thing and never goes on.
        for _ in 0..IDLE_CONNECTIONS {
            let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
            stream.write_all(b"P").expect("one byte");
            waiting.push(stream);
        }
    }
    cluster.client(0).put("still", "serving").await.expect("a write beside the rubbish");
    drop(waiting);
    for i in 0..3 {
        assert!(cluster.is_alive(i), "{} ended", cluster.members[i].name);
    }
    let read = cluster.client(0).get("k/0", Freshness::Linearizable).await.expect("a read");
    assert!(read.found.is_some(), "a key is gone");
    let after = cluster.wait_agreement().await;
    assert_eq!(after.kvs.len(), before.kvs.len() + 1, "only our own write was added");
    let growth = cluster.resident_bytes(0).saturating_sub(resident_before);
    assert!(growth < GROWTH_MAX_BYTES, "{growth} bytes of memory for rubbish");
}
