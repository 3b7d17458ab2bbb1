//! The leases of the `etcd-client` crate against quorate, and a lock made of them.

use etcd_client::{
    Client, Compare, CompareOp, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions, PutOptions,
    Txn, TxnOp, WatchOptions,
};
use quorate_outside_etcd_client::Cluster;
use std::time::{Duration, Instant};

/// A lease ends so much after its time at most, on a machine that is busy with other tests.
const LATE: Duration = Duration::from_secs(8);

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let client = Client::connect(&cluster.endpoints, None).await.expect("a connection");
    (cluster, client)
}

async fn put_leased(client: &mut Client, key: &str, lease: i64) -> i64 {
    let options = PutOptions::new().with_lease(lease);
    let put = client.put(key, "held", Some(options)).await.expect("a put");
    put.header().expect("a header").revision()
}

async fn count(client: &mut Client, prefix: &str) -> i64 {
    let options = GetOptions::new().with_prefix().with_count_only();
    client.get(prefix, Some(options)).await.expect("a get").count()
}

#[tokio::test]
async fn a_lease_is_granted_shown_listed_kept_and_revoked() {
    let (_cluster, mut client) = start().await;
    let options = LeaseGrantOptions::new().with_id(4_711);
    let granted = client.lease_grant(60, Some(options)).await.expect("a lease");
    assert_eq!((granted.id(), granted.ttl(), granted.error()), (4_711, 60, ""));
    let options = LeaseGrantOptions::new().with_id(4_711);
    let error = client.lease_grant(60, Some(options)).await.expect_err("taken").to_string();
    assert!(error.contains("etcdserver: lease already exists"), "{error}");
    let drawn = client.lease_grant(30, None).await.expect("a lease").id();
    assert!(drawn > 0, "the member draws an id: {drawn}");

    put_leased(&mut client, "held/b", 4_711).await;
    put_leased(&mut client, "held/a", 4_711).await;
    let get = client.get("held/a", None).await.expect("a get");
    assert_eq!(get.kvs()[0].lease(), 4_711);
    let options = LeaseTimeToLiveOptions::new().with_keys();
    let told = client.lease_time_to_live(4_711, Some(options)).await.expect("told");
    assert_eq!((told.id(), told.granted_ttl()), (4_711, 60));
    assert!((1..=60).contains(&told.ttl()), "{told:?}");
    let mut keys = told.keys().to_vec();
    keys.sort();
    assert_eq!(keys, [b"held/a".to_vec(), b"held/b".to_vec()]);
    let told = client.lease_time_to_live(4_711, None).await.expect("told");
    assert!(told.keys().is_empty(), "keys were not asked for");
    let leases = client.leases().await.expect("a list");
    let mut ids: Vec<i64> = leases.leases().iter().map(|lease| lease.id()).collect();
    ids.sort_unstable();
    let mut both = [4_711, drawn];
    both.sort_unstable();
    assert_eq!(ids, both);

    let (mut keeper, mut answers) = client.lease_keep_alive(4_711).await.expect("a stream");
    for _ in 0..3 {
        keeper.keep_alive().await.expect("it is sent");
        let answer = answers.message().await.expect("the stream goes on").expect("an answer");
        assert_eq!((answer.id(), answer.ttl()), (4_711, 60));
    }

    let before = put_leased(&mut client, "held/c", 4_711).await;
    client.lease_revoke(4_711).await.expect("a revocation");
    let get = client.get("held/", Some(GetOptions::new().with_prefix())).await.expect("a get");
    assert_eq!(get.count(), 0);
    let revision = get.header().expect("a header").revision();
    assert_eq!(revision, before + 1, "three keys go in one revision");
    let error = client.lease_revoke(4_711).await.expect_err("gone").to_string();
    assert!(error.contains("etcdserver: requested lease not found"), "{error}");
    assert!(client.lease_keep_alive(4_711).await.is_err(), "there is nothing to keep");
    assert_eq!(client.lease_time_to_live(4_711, None).await.expect("told").ttl(), -1);
    let options = Some(PutOptions::new().with_lease(4_711));
    let error = client.put("k", "v", options).await.expect_err("no lease").to_string();
    assert!(error.contains("etcdserver: requested lease not found"), "{error}");
}

#[tokio::test]
async fn a_lease_lives_while_it_is_kept_and_ends_with_all_its_keys() {
    let (_cluster, mut client) = start().await;
    let lease = client.lease_grant(2, None).await.expect("a lease").id();
    put_leased(&mut client, "held/a", lease).await;
    let last = put_leased(&mut client, "held/b", lease).await;
    let options = WatchOptions::new().with_prefix().with_start_revision(last + 1);
    let mut watch = client.watch("held/", Some(options)).await.expect("a watch");
    let (mut keeper, mut answers) = client.lease_keep_alive(lease).await.expect("a stream");
    let since = Instant::now();
    let mut kept = Instant::now();
    while since.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(500)).await;
        kept = Instant::now();
        keeper.keep_alive().await.expect("it is sent");
        let answer = answers.message().await.expect("the stream goes on").expect("an answer");
        assert_eq!(answer.ttl(), 2, "lost after {:?}", since.elapsed());
    }
    assert_eq!(count(&mut client, "held/").await, 2, "it lives");
    let deletions = loop {
        let message = tokio::time::timeout(Duration::from_secs(2) + LATE, watch.message()).await;
        let message = message.expect("it ends").expect("the stream goes on").expect("no end");
        if !message.events().is_empty() {
            break message;
        }
    };
    let lived = kept.elapsed();
    assert!(lived >= Duration::from_secs(2), "it ended {lived:?} after it was kept");
    let revisions: Vec<i64> =
        deletions.events().iter().map(|event| event.kv().expect("a pair").mod_revision()).collect();
    assert_eq!(revisions, [last + 1; 2], "both keys at once");
}

/// What the lock service of etcd does inside, done by its client: the lock is a key on a lease.
#[tokio::test]
async fn a_lock_of_a_lease_and_a_transaction_has_one_holder() {
    let (_cluster, mut client) = start().await;
    let take = |lease: i64| {
        Txn::new()
            .when([Compare::create_revision("lock", CompareOp::Equal, 0)])
            .and_then([TxnOp::put("lock", "held", Some(PutOptions::new().with_lease(lease)))])
            .or_else([TxnOp::get("lock", None)])
    };
    let first = client.lease_grant(60, None).await.expect("a lease").id();
    let second = client.lease_grant(60, None).await.expect("a lease").id();
    let taken = client.txn(take(first)).await.expect("a transaction");
    assert!(taken.succeeded(), "it was free");
    let token = taken.header().expect("a header").revision();
    assert!(!client.txn(take(second)).await.expect("a transaction").succeeded(), "it is held");
    let fenced = |token: i64| {
        Txn::new()
            .when([
                Compare::mod_revision("lock", CompareOp::Equal, token),
                Compare::lease("lock", CompareOp::Greater, 0),
            ])
            .and_then([TxnOp::put("guarded", token.to_string(), None)])
    };
    assert!(client.txn(fenced(token)).await.expect("a transaction").succeeded(), "it holds it");
    client.lease_revoke(first).await.expect("a revocation");
    assert!(!client.txn(fenced(token)).await.expect("a transaction").succeeded(), "no longer");
    let taken = client.txn(take(second)).await.expect("a transaction");
    assert!(taken.succeeded(), "it is free");
    let newer = taken.header().expect("a header").revision();
    assert!(newer > token, "fencing tokens grow: {token}, {newer}");
    assert!(!client.txn(fenced(token)).await.expect("a transaction").succeeded(), "an old token");
}
