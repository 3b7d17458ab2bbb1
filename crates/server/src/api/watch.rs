//! The Watch service: HTTP/2 around a [`Conversation`].
//!
//! The generated code would make a message of each answer and encode it by itself. Here the body of
//! the response *is* the session: it is asked for the next chunk when the transport has room for
//! one, and writes as many messages into it as fit. So what a slow client costs is a chunk, and
//! there is no task, queue or channel per stream.
//!
//! Requests are read by the same body, and only while their answers do not pile up. When the client
//! has closed its side, the stream goes on, as in etcd.

use super::errors::ApiError;
use super::header::Headers;
use crate::audit::Entry;
use crate::auth::Asker;
use crate::handle::{Consistency, Handle};
use crate::proto::etcdserverpb::WatchRequest;
use crate::watch::{Client, Conversation, End, Session, Settings, Stream};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Request, Response};
use quorate_core::Time;
use quorate_drivers::live::monotonic_now;
use quorate_replica::store;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};
use tonic::Status;
use tonic::body::Body;
use tonic::codec::Streaming;
use tonic::codegen::StdError;
use tonic::codegen::tokio_stream::Stream as _;
use tonic_prost::ProstDecoder;

/// Progress is told no more often than this, whatever the configuration says; etcd's floor.
const PROGRESS_EVERY_MIN: Duration = Duration::from_millis(100);

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    handle: Handle,
    headers: Headers,
    message_bytes_max: usize,
    progress_every: Duration,
}

impl Watch {
    /// The service. Messages up to `message_bytes_max` are received, and larger ones are split for
    /// watchers which take fragments.
    pub(crate) fn new(handle: Handle, message_bytes_max: usize, progress_every: Duration) -> Watch {
        let headers = Headers::of(&handle);
        let progress_every = progress_every.max(PROGRESS_EVERY_MIN);
        Watch { handle, headers, message_bytes_max, progress_every }
    }

    /// Begins a stream; a refusal is an answer too.
    pub(crate) async fn answer<B>(
        &self,
        request: Request<B>,
        requires_leader: bool,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send,
    {
        let encoding = request.headers().get("grpc-encoding");
        if encoding.is_some_and(|encoding| encoding != "identity") {
            return Status::unimplemented("etcdserver: compressed messages are not received")
                .into_http();
        }
        let auth = self.handle.auth();
        let Asker { credential, entry } = Asker::of(request.extensions());
        let asked_by = match auth.resolve(&credential) {
            Ok(caller) => (caller, entry),
            Err(why) => return Status::from(ApiError::from(why)).into_http(),
        };
        match self.open(requires_leader).await {
            Ok(stream) => self.begin(stream, asked_by, request.into_body(), requires_leader),
            Err(error) => Status::from(error).into_http(),
        }
    }

    async fn open(&self, requires_leader: bool) -> Result<Stream, ApiError> {
        let stream = Stream::open(self.handle.watch(), requires_leader)?;
        // What happened while nobody watched is unknown to the hub.
        let snapshot = self.handle.snapshot(Consistency::Serializable).await?;
        stream.offer(snapshot.store.history(), monotonic_now());
        Ok(stream)
    }

    fn begin<B>(
        &self,
        stream: Stream,
        (asked_by, entry): (store::Caller, Option<Arc<Entry>>),
        requests: B,
        requires_leader: bool,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send,
    {
        let settings = Settings {
            headers: self.headers,
            fragment_bytes: self.message_bytes_max,
            requires_leader,
        };
        let progress_every = stream.spread(self.progress_every);
        let decoder = ProstDecoder::<WatchRequest>::default();
        let max = Some(self.message_bytes_max);
        let requests = Some(Streaming::new_request(decoder, requests, None, max));
        let caller = Caller { requests, progress_every, next_tick: None };
        let session = Session::new(stream, settings).asked_by(asked_by).recorded_in(entry);
        let conversation = Conversation::new(session, caller);
        let body = Messages { conversation, ended: false };
        let mut response = Response::new(Body::new(body));
        let grpc = HeaderValue::from_static("application/grpc");
        response.headers_mut().insert(CONTENT_TYPE, grpc);
        response
    }
}

/// The far end of one stream.
struct Caller {
    /// Absent once the client has closed its side.
    requests: Option<Streaming<WatchRequest>>,
    progress_every: Duration,
    /// Present while somebody wants it.
    next_tick: Option<Pin<Box<Sleep>>>,
}

impl Client for Caller {
    type Error = Status;

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<WatchRequest, Status>>> {
        let Some(requests) = self.requests.as_mut() else { return Poll::Ready(None) };
        let next = ready!(Pin::new(requests).poll_next(cx));
        if next.is_none() {
            self.requests = None;
        }
        Poll::Ready(next)
    }

    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let tick = self.next_tick.get_or_insert_with(|| Box::pin(sleep(self.progress_every)));
        let over = tick.as_mut().poll(cx);
        if over.is_ready() {
            tick.as_mut().reset(Instant::now() + self.progress_every);
        }
        over
    }

    fn stop_ticking(&mut self) {
        self.next_tick = None;
    }

    fn now(&self) -> Time {
        monotonic_now()
    }
}

/// The messages of one stream.
struct Messages {
    conversation: Conversation<Caller>,
    ended: bool,
}

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let status = match ready!(self.conversation.poll_chunk(cx)) {
            Ok(chunk) => return Poll::Ready(Some(Ok(Frame::data(Bytes::from(chunk))))),
            Err(End::Ours(error)) => Status::from(error),
            Err(End::Theirs(status)) => status,
        };
        self.ended = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(match status.add_header(&mut trailers) {
            Ok(()) => Ok(Frame::trailers(trailers)),
            Err(status) => Err(status),
        }))
    }
}
