//! The maintenance calls of the `etcd-client` crate against quorate, and its streamed ranges.

use etcd_client::{
    AlarmAction, AlarmOptions, AlarmType, Client, CompactionOptions, GetOptions, PutOptions,
    SortOrder, SortTarget,
};
use quorate_outside_etcd_client::Cluster;
use std::time::{Duration, Instant};

/// How long members may take to agree.
const SOON: Duration = Duration::from_secs(20);

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let client = Client::connect(&cluster.endpoints, None).await.expect("a connection");
    (cluster, client)
}

/// A client of one member, which has caught up with what was written before.
async fn at(cluster: &Cluster, member: usize) -> Client {
    let endpoint = [&cluster.endpoints[member]];
    let mut client = Client::connect(endpoint, None).await.expect("a connection");
    client.get("any", None).await.expect("a linearizable get");
    client
}

#[tokio::test]
async fn a_status_has_every_field() {
    let (cluster, mut client) = start().await;
    client.put("a", "1", None).await.expect("a put");
    let mut leaders = Vec::new();
    for member in 0..cluster.endpoints.len() {
        let status = at(&cluster, member).await.status().await.expect("a status");
        assert!(status.version().starts_with("3."), "{}", status.version());
        assert!(status.storage_version().starts_with("3."), "{}", status.storage_version());
        assert!(status.db_size() > 0 && status.raft_used_db_size() > 0, "{status:?}");
        assert!(status.raft_index() > 0 && status.raft_term() > 0, "{status:?}");
        assert!(status.raft_applied_index() <= status.raft_index(), "{status:?}");
        assert!(status.db_size_quota() > 0, "{status:?}");
        assert!(status.errors().is_empty() && !status.is_learner(), "{status:?}");
        leaders.push(status.leader());
    }
    assert!(leaders[0] != 0 && leaders.iter().all(|leader| *leader == leaders[0]), "{leaders:?}");
}

#[tokio::test]
async fn alarms_are_raised_listed_and_disarmed() {
    let (cluster, mut client) = start().await;
    let members = client.member_list().await.expect("a list");
    let id = members.members()[0].id();
    let of_member = || {
        let mut options = AlarmOptions::new();
        options.with_member(id);
        Some(options)
    };
    let none = client.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("a list");
    assert!(none.alarms().is_empty(), "{none:?}");
    client.alarm(AlarmAction::Activate, AlarmType::Nospace, of_member()).await.expect("an alarm");
    let mut other = at(&cluster, 1).await;
    let raised = other.alarm(AlarmAction::Get, AlarmType::None, None).await.expect("a list");
    assert_eq!(raised.alarms().len(), 1);
    assert_eq!(
        (raised.alarms()[0].member_id(), raised.alarms()[0].alarm()),
        (id, AlarmType::Nospace)
    );
    let error = client.put("a", "1", None).await.expect_err("no space").to_string();
    assert!(error.contains("etcdserver: mvcc: database space exceeded"), "{error}");
    client.delete("a", None).await.expect("deletions are always admitted");
    let disarmed = client.alarm(AlarmAction::Deactivate, AlarmType::Nospace, of_member()).await;
    assert_eq!(disarmed.expect("it is disarmed").alarms().len(), 1);
    client.put("a", "1", None).await.expect("a put");
}

#[tokio::test]
async fn hashes_are_those_of_the_other_members() {
    let (cluster, mut client) = start().await;
    let mut last = 0;
    for number in 0..50 {
        let put = client.put(format!("k/{}", number % 7), number.to_string(), None).await;
        last = put.expect("a put").header().expect("a header").revision();
    }
    let options = CompactionOptions::new().with_physical();
    client.compact(20, Some(options)).await.expect("a compaction");
    let deadline = Instant::now() + SOON;
    loop {
        let mut at_revision = Vec::new();
        let mut whole = Vec::new();
        for member in 0..cluster.endpoints.len() {
            let mut client = at(&cluster, member).await;
            // A member that is behind says so.
            let Ok(hash) = client.hash_kv(last).await else { continue };
            at_revision.push((hash.hash(), hash.compact_version()));
            whole.push(client.hash().await.expect("a hash").hash());
        }
        let same = at_revision.len() == cluster.endpoints.len()
            && at_revision.iter().all(|other| *other == (at_revision[0].0, 20))
            && whole.iter().all(|other| *other == whole[0]);
        if same {
            break;
        }
        assert!(Instant::now() < deadline, "{at_revision:?} {whole:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // From here on one member is asked: another one may be behind.
    let mut client = at(&cluster, 0).await;
    let now = client.hash_kv(0).await.expect("a hash").hash();
    client.put("k/0", "another", None).await.expect("a put");
    assert_ne!(client.hash_kv(0).await.expect("a hash").hash(), now);
    let error = client.hash_kv(10).await.expect_err("compacted").to_string();
    assert!(error.contains("mvcc: required revision has been compacted"), "{error}");
    let error = client.hash_kv(last + 100).await.expect_err("the future").to_string();
    assert!(error.contains("mvcc: required revision is a future revision"), "{error}");
}

#[tokio::test]
async fn a_snapshot_is_streamed_to_its_end() {
    let (cluster, _) = start().await;
    // A snapshot is of what this member has, and another one may be behind.
    let mut client = at(&cluster, 0).await;
    for number in 0..64 {
        let value = vec![number as u8; 16 << 10];
        client.put(format!("k/{number}"), value, Some(PutOptions::new())).await.expect("a put");
    }
    client.defragment().await.expect("nothing stands still for it");
    let mut stream = client.snapshot().await.expect("a stream");
    let (mut bytes, mut remaining) = (0, u64::MAX);
    while let Some(part) = stream.message().await.expect("the stream goes on") {
        let left = part.remaining_bytes();
        assert!(left <= remaining, "{left} bytes remain after {remaining} did");
        remaining = left;
        bytes += part.blob().len();
    }
    assert_eq!(remaining, 0);
    assert!(bytes > 64 * (16 << 10), "{bytes} bytes of a megabyte");
}

#[tokio::test]
async fn a_range_is_streamed_as_it_is_read() {
    let (_cluster, mut client) = start().await;
    let value = vec![b'x'; 4 << 10];
    for number in 0..600 {
        client.put(format!("k/{number:03}"), value.clone(), None).await.expect("a put");
    }
    let mut kv = client.kv_client();
    let options = GetOptions::new().with_prefix();
    let mut stream = kv.get_stream("k/", Some(options)).await.expect("a stream");
    let (mut keys, mut messages) = (Vec::new(), 0);
    while let Some(part) = stream.message().await.expect("the stream goes on") {
        messages += 1;
        keys.extend(part.kvs().iter().map(|kv| kv.key_str().expect("text").to_owned()));
        assert!(part.kvs().iter().all(|kv| kv.value() == value), "each value is whole");
    }
    let expected: Vec<String> = (0..600).map(|number| format!("k/{number:03}")).collect();
    assert_eq!(keys, expected);
    assert!(messages > 1, "two megabytes came in {messages} message");

    let options = GetOptions::new().with_prefix().with_sort(SortTarget::Mod, SortOrder::Descend);
    let get = client.get("k/", Some(options.with_limit(2))).await.expect("a get");
    let keys: Vec<_> = get.kvs().iter().map(|kv| kv.key_str().expect("text")).collect();
    assert_eq!(keys, ["k/599", "k/598"]);
    let newest = get.kvs()[0].mod_revision();
    let options = GetOptions::new().with_prefix().with_min_mod_revision(newest);
    let get = client.get("k/", Some(options)).await.expect("a get");
    assert_eq!((get.kvs().len(), get.kvs()[0].key_str().expect("text")), (1, "k/599"));
    let options = GetOptions::new().with_prefix().with_max_create_revision(2);
    let get = client.get("k/", Some(options)).await.expect("a get");
    assert_eq!((get.kvs().len(), get.kvs()[0].key_str().expect("text")), (1, "k/000"));
}
