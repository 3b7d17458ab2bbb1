//! The watches of the `etcd-client` crate against quorate.

use etcd_client::{
    Client, CompactionOptions, Event, EventType, PutOptions, WatchFilterType, WatchOptions,
    WatchResponse, WatchStream,
};
use quorate_outside_etcd_client::Cluster;
use std::time::Duration;

/// How long a message may take.
const SOON: Duration = Duration::from_secs(20);

async fn start() -> (Cluster, Client) {
    let cluster = Cluster::start();
    let client = Client::connect(&cluster.endpoints, None).await.expect("a connection");
    (cluster, client)
}

async fn put(client: &mut Client, key: &str, value: &str) -> i64 {
    let put = client.put(key, value, None).await.expect("a put");
    put.header().expect("a header").revision()
}

async fn next(stream: &mut WatchStream) -> WatchResponse {
    let message = tokio::time::timeout(SOON, stream.message()).await.expect("a message in time");
    message.expect("the stream goes on").expect("the stream has not ended")
}

/// The next events, however many messages they come in.
async fn events(stream: &mut WatchStream, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let message = next(stream).await;
        assert!(!message.canceled(), "{message:?}");
        seen.extend(message.events().iter().map(in_short));
    }
    seen
}

/// An event as `key=value@revision`, with what it replaced.
fn in_short(event: &Event) -> String {
    let kv = event.kv().expect("a pair");
    let key = kv.key_str().expect("text");
    let replaced = event.prev_kv().map_or(String::new(), |prev| {
        format!(" was {}@{}", prev.value_str().expect("text"), prev.mod_revision())
    });
    let change = match event.event_type() {
        EventType::Put => format!("={}", kv.value_str().expect("text")),
        EventType::Delete => " deleted".to_owned(),
    };
    format!("{key}{change}@{}{replaced}", kv.mod_revision())
}

#[tokio::test]
async fn a_watcher_is_told_the_past_and_the_present_with_what_was_replaced() {
    let (_cluster, mut client) = start().await;
    let first = put(&mut client, "p/1", "one").await;
    put(&mut client, "other", "x").await;
    put(&mut client, "p/1", "two").await;
    let options = WatchOptions::new().with_prefix().with_start_revision(first).with_prev_key();
    let mut stream = client.watch("p/", Some(options)).await.expect("a watch");
    let created = next(&mut stream).await;
    assert!(created.created() && !created.canceled(), "{created:?}");
    let put_at = |steps: i64| first + steps;
    let past = events(&mut stream, 2).await;
    let replaced = format!("p/1=two@{} was one@{first}", put_at(2));
    assert_eq!(past, [format!("p/1=one@{first}"), replaced]);

    client.delete("p/1", None).await.expect("a delete");
    put(&mut client, "p/2", "new").await;
    let present = events(&mut stream, 2).await;
    let deleted = format!("p/1 deleted@{} was two@{}", put_at(3), put_at(2));
    assert_eq!(present, [deleted, format!("p/2=new@{}", put_at(4))]);
}

#[tokio::test]
async fn many_watchers_share_a_stream_and_are_cancelled_one_by_one() {
    let (_cluster, mut client) = start().await;
    let mut stream = client.watch("a", None).await.expect("a watch");
    let one = next(&mut stream).await.watch_id();
    let options = WatchOptions::new().with_watch_id(77).with_from_key();
    stream.watch("b", Some(options)).await.expect("a watch");
    let created = next(&mut stream).await;
    assert_eq!((created.created(), created.watch_id()), (true, 77));
    let options = WatchOptions::new().with_filters([WatchFilterType::NoPut]).with_all_keys();
    stream.watch("", Some(options)).await.expect("a watch");
    let deletions = next(&mut stream).await.watch_id();
    stream.watch("c", Some(WatchOptions::new().with_watch_id(77))).await.expect("it is sent");
    let refused = next(&mut stream).await;
    assert!(refused.created() && refused.canceled(), "an id that is taken: {refused:?}");

    let revision = put(&mut client, "a", "1").await;
    let message = next(&mut stream).await;
    assert_eq!(message.watch_id(), one);
    assert_eq!(in_short(&message.events()[0]), format!("a=1@{revision}"));
    put(&mut client, "c", "1").await;
    assert_eq!(next(&mut stream).await.watch_id(), 77);
    client.delete("a", None).await.expect("a delete");
    let mut told = [next(&mut stream).await.watch_id(), next(&mut stream).await.watch_id()];
    told.sort_unstable();
    let mut both = [one, deletions];
    both.sort_unstable();
    assert_eq!(told, both, "a filter keeps writes away and lets deletions pass");

    stream.cancel(one).await.expect("it is sent");
    let cancelled = next(&mut stream).await;
    assert_eq!((cancelled.canceled(), cancelled.watch_id()), (true, one));
    put(&mut client, "a", "2").await;
    put(&mut client, "d", "2").await;
    let message = next(&mut stream).await;
    assert_eq!(message.watch_id(), 77, "nobody watches a any more: {message:?}");
}

#[tokio::test]
async fn a_filter_keeps_deletions_away() {
    let (_cluster, mut client) = start().await;
    let options = WatchOptions::new().with_filters([WatchFilterType::NoDelete]);
    let mut stream = client.watch("a", Some(options)).await.expect("a watch");
    assert!(next(&mut stream).await.created(), "it is created");
    let first = put(&mut client, "a", "1").await;
    client.delete("a", None).await.expect("a delete");
    put(&mut client, "a", "2").await;
    let told = events(&mut stream, 2).await;
    assert_eq!(told, [format!("a=1@{first}"), format!("a=2@{}", first + 2)]);
}

#[tokio::test]
async fn progress_is_told_when_asked_for() {
    let (_cluster, mut client) = start().await;
    let options = WatchOptions::new().with_progress_notify();
    let mut stream = client.watch("a", Some(options)).await.expect("a watch");
    assert!(next(&mut stream).await.created(), "it is created");
    let revision = put(&mut client, "elsewhere", "1").await;
    let deadline = tokio::time::Instant::now() + SOON;
    loop {
        stream.request_progress().await.expect("it is sent");
        // A member tells nothing before its watchers have caught up.
        let wait = Duration::from_millis(300);
        if let Ok(message) = tokio::time::timeout(wait, stream.message()).await {
            let message = message.expect("the stream goes on").expect("it has not ended");
            assert!(message.events().is_empty(), "{message:?}");
            assert_eq!(message.watch_id(), -1, "it is said of all watchers of the stream");
            if message.header().expect("a header").revision() >= revision {
                break;
            }
        }
        assert!(tokio::time::Instant::now() < deadline, "no progress");
    }
}

#[tokio::test]
async fn what_is_compacted_is_not_watched_and_the_client_learns_where_to_begin() {
    let (cluster, _) = start().await;
    // Another member may still have what this one has compacted.
    let endpoint = [&cluster.endpoints[0]];
    let mut client = Client::connect(endpoint, None).await.expect("a connection");
    let first = put(&mut client, "a", "1").await;
    put(&mut client, "a", "2").await;
    let last = put(&mut client, "a", "3").await;
    let options = CompactionOptions::new().with_physical();
    client.compact(last, Some(options)).await.expect("a compaction");
    let from = |revision| Some(WatchOptions::new().with_start_revision(revision));
    let mut stream = client.watch("a", from(first)).await.expect("a stream");
    let mut message = next(&mut stream).await;
    if !message.canceled() {
        message = next(&mut stream).await;
    }
    assert!(message.canceled(), "{message:?}");
    assert_eq!(message.compact_revision(), last);
    stream.watch("a", from(message.compact_revision())).await.expect("it is sent");
    assert!(next(&mut stream).await.created(), "it is created");
    assert_eq!(events(&mut stream, 1).await, [format!("a=3@{last}")]);
}

#[tokio::test]
async fn fragments_of_a_large_revision_add_up() {
    let (_cluster, mut client) = start().await;
    let options = WatchOptions::new().with_prefix().with_fragment();
    let mut stream = client.watch("big/", Some(options)).await.expect("a watch");
    assert!(next(&mut stream).await.created(), "it is created");
    // Each write is below what one request may hold; their deletion tells all former values.
    let value = vec![b'x'; 1 << 20];
    for number in 0..3 {
        let key = format!("big/{number}");
        client.put(key, value.clone(), Some(PutOptions::new())).await.expect("a put");
    }
    let told = events(&mut stream, 3).await;
    assert_eq!(told.len(), 3);
    let options = WatchOptions::new().with_prefix().with_fragment().with_prev_key();
    stream.watch("big/", Some(options)).await.expect("a watch");
    let with_prev = next(&mut stream).await.watch_id();
    let options = etcd_client::DeleteOptions::new().with_prefix();
    let delete = client.delete("big/", Some(options)).await.expect("a delete");
    let at = delete.header().expect("a header").revision();
    let (mut deleted, mut bytes, mut messages) = (0, 0, 0);
    while deleted < 3 {
        let message = next(&mut stream).await;
        if message.watch_id() == with_prev {
            messages += 1;
            for event in message.events() {
                assert_eq!(event.kv().expect("a pair").mod_revision(), at);
                bytes += event.prev_kv().expect("it was asked for").value().len();
                deleted += 1;
            }
        }
    }
    assert_eq!(bytes, 3 << 20);
    assert!(messages > 1, "three megabytes came in {messages} message");
}
