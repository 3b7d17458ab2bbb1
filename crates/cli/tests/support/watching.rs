//! A stream of watchers, and what it says in few words.

use crate::support::cluster::SOON;
use crate::support::net::loopback;
use bytes::Bytes;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

/// One stream, both ways.
pub(crate) struct Watching {
    requests: mpsc::Sender<pb::WatchRequest>,
    /// The original says nothing, not even that the call has begun, before it is asked something.
    opening: Option<JoinHandle<Result<Response<Streaming<pb::WatchResponse>>, Status>>>,
    answers: Option<Streaming<pb::WatchResponse>>,
}

/// What is asked of a cluster without a leader.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Leader {
    /// To end.
    Required,
    /// To go on.
    Optional,
}

struct Requests(mpsc::Receiver<pb::WatchRequest>);

impl Stream for Requests {
    type Item = pb::WatchRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// A connection to the member that serves clients at `port`.
pub(crate) async fn connect(port: u16) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", loopback(port))).expect("a URL");
    endpoint.connect().await.expect("a member that serves")
}

impl Watching {
    /// A stream of its own connection.
    pub(crate) async fn open(port: u16) -> Watching {
        Watching::open_on(connect(port).await, Leader::Optional)
    }

    /// A stream of this connection.
    pub(crate) fn open_on(channel: Channel, leader: Leader) -> Watching {
        let (requests, receiver) = mpsc::channel(1_024);
        let mut request = Request::new(Requests(receiver));
        if leader == Leader::Required {
            let value = "true".parse().expect("ASCII");
            request.metadata_mut().insert("hasleader", value);
        }
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let opening = Some(tokio::spawn(async move { client.watch(request).await }));
        Watching { requests, opening, answers: None }
    }

    /// Sends anything.
    pub(crate) async fn send(&self, request: Option<RequestUnion>) {
        let request = pb::WatchRequest { request_union: request };
        self.requests.send(request).await.expect("the stream is open");
    }

    /// Asks for a watcher.
    pub(crate) async fn create(&self, create: pb::WatchCreateRequest) {
        self.send(Some(RequestUnion::CreateRequest(create))).await;
    }

    /// Asks for a watcher and waits for it; returns its id.
    pub(crate) async fn created(&mut self, create: pb::WatchCreateRequest) -> i64 {
        self.create(create).await;
        let answer = self.next().await;
        assert!(answer.created && !answer.canceled, "{answer:?}");
        answer.watch_id
    }

    /// Asks for the end of a watcher.
    pub(crate) async fn cancel(&self, watch_id: i64) {
        self.send(Some(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }))).await;
    }

    /// Asks how far the stream is.
    pub(crate) async fn ask_progress(&self) {
        self.send(Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}))).await;
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> pb::WatchResponse {
        self.try_next().await.expect("the stream goes on").expect("the stream has not ended")
    }

    /// The next message, or how the stream ended.
    pub(crate) async fn try_next(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        tokio::time::timeout(SOON, self.message()).await.expect("a message in time")
    }

    async fn message(&mut self) -> Result<Option<pb::WatchResponse>, Status> {
        if let Some(opening) = &mut self.opening {
            let opened = opening.await.expect("opening does not panic");
            self.opening = None;
            self.answers = Some(opened?.into_inner());
        }
        self.answers.as_mut().expect("the stream was refused").message().await
    }

    /// True if no message comes for so long.
    pub(crate) async fn is_silent(&mut self, length: Duration) -> bool {
        tokio::time::timeout(length, self.message()).await.is_err()
    }

    /// The next messages until one has the event of this revision; returns all events.
    pub(crate) async fn events_until(&mut self, revision: i64) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let message = self.next().await;
            assert!(!message.canceled, "{message:?}");
            seen.extend(message.events.iter().map(|event| Seen::of(message.watch_id, event)));
            if seen.last().is_some_and(|event| event.revision >= revision) {
                return seen;
            }
        }
    }
}

/// An event in short.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Seen {
    /// Who was told.
    pub(crate) watch_id: i64,
    /// When it happened.
    pub(crate) revision: i64,
    /// The key, as text.
    pub(crate) key: String,
    /// The value, as text; none if the key was deleted.
    pub(crate) value: Option<String>,
}

impl Seen {
    fn of(watch_id: i64, event: &quorate_server::proto::mvccpb::Event) -> Seen {
        let kv = event.kv.as_ref().expect("a pair");
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        let value = (event.r#type == 0).then(|| text(&kv.value));
        Seen { watch_id, revision: kv.mod_revision, key: text(&kv.key), value }
    }
}

/// A watcher of one key from now on.
pub(crate) fn of_key(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..Default::default() }
}

/// A watcher of all keys that begin with `prefix`, from now on.
pub(crate) fn of_prefix(prefix: &str) -> pb::WatchCreateRequest {
    let mut end = prefix.as_bytes().to_vec();
    *end.last_mut().expect("a prefix") += 1;
    pb::WatchCreateRequest { range_end: end.into(), ..of_key(prefix) }
}

/// A message in few words, without what differs between clusters.
pub(crate) fn in_short(message: &pb::WatchResponse) -> String {
    let mut words = vec![format!("{}:", message.watch_id)];
    let mut word = |when: bool, word: String| {
        if when {
            words.push(word);
        }
    };
    let revision = message.header.as_ref().map_or(-1, |header| header.revision);
    word(message.created, "created".to_owned());
    word(message.canceled, "canceled".to_owned());
    word(message.compact_revision != 0, format!("compacted {}", message.compact_revision));
    word(!message.cancel_reason.is_empty(), format!("'{}'", message.cancel_reason));
    for event in &message.events {
        let seen = Seen::of(0, event);
        let change = seen.value.map_or("deleted".to_owned(), |value| value);
        let kv = event.kv.as_ref().expect("a pair");
        let prev = event.prev_kv.as_ref().map_or(String::new(), |prev| {
            format!(" was {}@{}", String::from_utf8_lossy(&prev.value), prev.mod_revision)
        });
        let numbers = format!("c{} v{}", kv.create_revision, kv.version);
        word(true, format!("[{}={change}@{} {numbers}{prev}]", seen.key, seen.revision));
    }
    word(message.fragment, "fragment".to_owned());
    word(true, format!("at {revision}"));
    words.join(" ")
}
