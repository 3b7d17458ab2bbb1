//! Reads that may be old, but not older than their client says: the stamp is true, a minority
//! answers for as long as its last proof allows, and says why it does not any more.

mod support;

use quorate_server::api::freshness::{MAX_STALENESS, STALENESS};
use quorate_server::proto::etcdserverpb as pb;
use std::time::{Duration, Instant};
use support::client::{Client, Freshness};
use support::cluster::{Cluster, SOON, Settings, Wires};
use support::proxy::Cut;
use tonic::{Code, Request, Status};

/// A value, and how old it can be.
type Seen = (String, Duration);

async fn read(client: &mut Client, at_most: &str) -> Result<Seen, Status> {
    let range = pb::RangeRequest { key: "k".into(), ..pb::RangeRequest::default() };
    let mut request = Request::new(range);
    request.metadata_mut().insert(MAX_STALENESS, at_most.parse().expect("a value"));
    let answer = client.kv.range(request).await?;
    let stamp = answer.metadata().get(STALENESS).expect("a stamp").to_str().expect("text");
    let millis = stamp.strip_suffix("ms").expect("milliseconds").parse().expect("a number");
    let value = answer.into_inner().kvs[0].value.to_vec();
    Ok((String::from_utf8(value).expect("text"), Duration::from_millis(millis)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_answers_as_long_as_its_proof_allows() {
    let settings = Settings { wires: Wires::Proxied, ..Settings::of(3) };
    let cluster = Cluster::start(settings).await;
    let mut ids = Vec::new();
    for i in 0..3 {
        let status = cluster.client(i).status().await.expect("a status");
        ids.push(status.header.expect("a header").member_id);
    }
    let cut_off = cluster.follower().await;
    let mut lonely = cluster.client(cut_off);
    let mut other = cluster.client((cut_off + 1) % 3);
    other.put("k", "before").await.expect("a write");
    let (value, stale) = read(&mut lonely, "0ms").await.expect("a quorum is there");
    assert_eq!(value, "before");
    assert!(stale < SOON, "{stale:?}");
    let proven = Instant::now();

    let network = cluster.network.as_ref().expect("proxied wires");
    for i in (0..3).filter(|i| *i != cut_off) {
        network.cut(ids[cut_off], i, Cut::Closed);
        network.cut(ids[i], cut_off, Cut::Closed);
    }
    other.put("k", "after").await.expect("the majority serves");
    let (value, stale) = read(&mut lonely, "600s").await.expect("old is allowed");
    assert_eq!(value, "before", "it cannot know better");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_, later) = read(&mut lonely, "600s").await.expect("old is allowed");
    assert!(later >= stale + Duration::from_millis(300), "{stale:?}, then {later:?}");
    assert!(later >= proven.elapsed() - Duration::from_millis(300), "the stamp flatters");
    let refused = read(&mut lonely, "100ms").await.expect_err("too old");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("100 ms are allowed"), "{refused}");

    network.heal();
    let began = Instant::now();
    while lonely.get("k", Freshness::Linearizable).await.is_err() {
        assert!(began.elapsed() < SOON, "it never came back");
    }
    let (value, stale) = read(&mut lonely, "1s").await.expect("a quorum is there");
    assert_eq!(value, "after");
    assert!(stale <= Duration::from_secs(1) || began.elapsed() > Duration::from_secs(1));
}

#[tokio::test]
async fn what_is_no_time_is_refused() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let mut client = cluster.client(0);
    client.put("k", "v").await.expect("a write");
    for text in ["", "soon", "-1s", "5m", "1.5s"] {
        let refused = read(&mut client, text).await.expect_err(text);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}
