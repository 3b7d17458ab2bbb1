//! The keys and the cluster calls of the `etcd-client` crate against quorate.

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, DeleteOptions, GetOptions, PutOptions,
    SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse,
};
use quorate_outside_etcd_client::{Cluster, MEMBERS};
use std::time::{Duration, Instant};

/// How long a new leader may take.
const SOON: Duration = Duration::from_secs(20);

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let client = Client::connect(&cluster.endpoints, None).await.expect("a connection");
    (cluster, client)
}

/// Keys and values of an answer as text.
fn pairs(kvs: &[etcd_client::KeyValue]) -> Vec<(&str, &str)> {
    kvs.iter().map(|kv| (kv.key_str().expect("text"), kv.value_str().expect("text"))).collect()
}

#[tokio::test]
async fn keys_are_written_read_and_deleted() {
    let (_cluster, mut client) = start().await;
    let put = client.put("a", "1", None).await.expect("a put");
    let first = put.header().expect("a header").revision();
    assert!(put.prev_key().is_none(), "nothing was asked for");
    let options = PutOptions::new().with_prev_key();
    let put = client.put("a", "2", Some(options)).await.expect("a put");
    assert_eq!(put.prev_key().expect("the former pair").value(), b"1");
    assert_eq!(put.header().expect("a header").revision(), first + 1);

    for (key, value) in [("p/1", "z"), ("p/2", "y"), ("p/3", "x")] {
        client.put(key, value, None).await.expect("a put");
    }
    let get = client.get("p/", Some(GetOptions::new().with_prefix())).await.expect("a get");
    assert_eq!(pairs(get.kvs()), [("p/1", "z"), ("p/2", "y"), ("p/3", "x")]);
    assert_eq!((get.count(), get.more()), (3, false));
    let options = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Value, SortOrder::Ascend)
        .with_limit(2);
    let get = client.get("p/", Some(options)).await.expect("a get");
    assert_eq!(pairs(get.kvs()), [("p/3", "x"), ("p/2", "y")]);
    assert_eq!((get.count(), get.more()), (3, true));
    let options = GetOptions::new().with_prefix().with_count_only();
    let get = client.get("p/", Some(options)).await.expect("a get");
    assert_eq!((get.kvs().len(), get.count()), (0, 3));
    let options = GetOptions::new().with_prefix().with_keys_only();
    let get = client.get("p/", Some(options)).await.expect("a get");
    assert!(get.kvs().iter().all(|kv| kv.value().is_empty()), "values were not asked for");
    let get = client.get("a", Some(GetOptions::new().with_revision(first))).await.expect("a get");
    assert_eq!(pairs(get.kvs()), [("a", "1")]);
    // Any member may answer this one, and may be behind.
    let deadline = Instant::now() + SOON;
    loop {
        let options = GetOptions::new().with_serializable().with_from_key();
        let get = client.get("p/2", Some(options)).await.expect("a get");
        if get.count() == 2 {
            break;
        }
        assert!(Instant::now() < deadline, "{} keys from p/2 on", get.count());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let options = DeleteOptions::new().with_prefix().with_prev_key();
    let delete = client.delete("p/", Some(options)).await.expect("a delete");
    assert_eq!(delete.deleted(), 3);
    assert_eq!(pairs(delete.prev_kvs()).len(), 3);
    let get = client.get("", Some(GetOptions::new().with_all_keys())).await.expect("a get");
    assert_eq!(pairs(get.kvs()), [("a", "2")]);
}

#[tokio::test]
async fn a_transaction_takes_the_branch_of_its_conditions() {
    let (_cluster, mut client) = start().await;
    client.put("a", "1", None).await.expect("a put");
    let txn = |expected: &str| {
        Txn::new()
            .when([
                Compare::value("a", CompareOp::Equal, expected),
                Compare::version("missing", CompareOp::Equal, 0),
            ])
            .and_then([TxnOp::put("a", "2", None), TxnOp::get("a", None)])
            .or_else([TxnOp::get("a", None), TxnOp::delete("missing", None)])
    };
    let answer = client.txn(txn("1")).await.expect("a transaction");
    assert!(answer.succeeded(), "the value was as expected");
    let answers = answer.op_responses();
    let TxnOpResponse::Get(get) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(pairs(get.kvs()), [("a", "2")], "a read sees the write before it");
    let answer = client.txn(txn("1")).await.expect("a transaction");
    assert!(!answer.succeeded(), "the value was not as expected");
    let answers = answer.op_responses();
    let TxnOpResponse::Delete(delete) = &answers[1] else { panic!("{answers:?}") };
    assert_eq!(delete.deleted(), 0);
    let inner = Txn::new().and_then([TxnOp::put("b", "1", None)]);
    let nested = Txn::new().and_then([TxnOp::txn(inner)]);
    assert!(client.txn(nested).await.expect("a transaction").succeeded(), "no condition");
    let twice = Txn::new().and_then([TxnOp::put("a", "x", None), TxnOp::put("a", "y", None)]);
    let error = client.txn(twice).await.expect_err("one key twice").to_string();
    assert!(error.contains("etcdserver: duplicate key given in txn request"), "{error}");
}

#[tokio::test]
async fn compacted_and_future_revisions_are_refused_in_etcds_words() {
    let (_cluster, mut client) = start().await;
    let mut revision = 0;
    for value in ["1", "2", "3"] {
        let put = client.put("a", value, None).await.expect("a put");
        revision = put.header().expect("a header").revision();
    }
    let options = CompactionOptions::new().with_physical();
    client.compact(revision, Some(options)).await.expect("a compaction");
    let at = |revision| Some(GetOptions::new().with_revision(revision));
    let error = client.get("a", at(revision - 1)).await.expect_err("compacted").to_string();
    assert!(error.contains("mvcc: required revision has been compacted"), "{error}");
    let error = client.get("a", at(revision + 1)).await.expect_err("the future").to_string();
    assert!(error.contains("mvcc: required revision is a future revision"), "{error}");
    let get = client.get("a", at(revision)).await.expect("a get");
    assert_eq!(pairs(get.kvs()), [("a", "3")]);
}

#[tokio::test]
async fn the_cluster_describes_itself_and_leadership_moves() {
    let (cluster, mut client) = start().await;
    let members = client.member_list().await.expect("a list");
    assert_eq!(members.members().len(), usize::from(MEMBERS));
    for member in members.members() {
        assert!(!member.name().is_empty(), "{member:?}");
        assert_eq!(member.peer_urls().len(), 1);
        let advertised = member.client_urls()[0].trim_start_matches("http://");
        assert!(cluster.endpoints.iter().any(|endpoint| endpoint == advertised), "{member:?}");
    }
    let status = client.status().await.expect("a status");
    assert!(status.version().starts_with("3."), "clients parse it: {}", status.version());
    let leader = status.leader();
    let target = members.members().iter().find(|member| member.id() != leader);
    let target = target.expect("a follower").id();
    let at = members.members().iter().find(|member| member.id() == leader);
    let at = at.expect("the leader").client_urls()[0].clone();
    let mut asked = Client::connect([at], None).await.expect("a connection");
    asked.move_leader(target).await.expect("a transfer");
    let deadline = Instant::now() + SOON;
    while client.status().await.expect("a status").leader() != target {
        assert!(Instant::now() < deadline, "leadership did not move");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    client.put("after", "the move", None).await.expect("a put");
}
