//! The answer to a range that is large: made while it is sent.
//!
//! **Problem.** A unary answer is one message, and whoever encodes it as a whole holds all of it in
//! memory, once for every caller.
//!
//! **Idea.** The store can be frozen at no cost, so the answer need not be there before it is sent.
//! A first pass over the frozen pairs adds up the length of the message; then the message is
//! written piece by piece, whenever the connection has room:
//!
//! ```text
//!   0 | length u32 BE | header | pair pair pair ..  pair | more, count |   trailers: grpc-status 0
//!   `----- head --------------'`---- chunks ------------'`--- tail ----'
//! ```
//!
//! Whether an answer is large shows when [`LARGE_BYTES`] of it have been collected; one that ends
//! before takes the ordinary way. The ordinary way also frames and decodes for this one: the
//! service leaves the body in the extensions of an empty response, and [`exchange`] puts it in
//! place.
//!
//! **Bounds.** [`SEATS`] large answers at a time, each with what it has collected, one chunk and
//! what HTTP/2 buffers for one stream (400 KiB); a further one waits [`SEAT_WITHIN`] and is then
//! refused as one request too many. A client that stops reading loses its seat after
//! [`STALL`]: see `watched.rs`.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message"; Protocol Buffers, "Encoding".

use super::convert;
use super::errors::ApiError;
use super::watched::Watched;
use crate::proto::etcdserverpb as pb;
use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::Frame;
use hyper::{HeaderMap, Response};
use prost::Message;
use prost::encoding::message;
use quorate_replica::store::{Found, KeyValue, KvError, Pages, Range, SortOrder, Store};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Body as AnyBody;

/// An answer with more keys and values than this is made while it is sent. Unit: bytes.
pub(super) const LARGE_BYTES: usize = 1 << 20;
/// Large answers at a time.
pub(super) const SEATS: usize = 64;
/// How long a large answer waits for its seat.
const SEAT_WITHIN: Duration = Duration::from_secs(5);
/// A client that takes nothing for so long is given up.
const STALL: Duration = Duration::from_secs(30);
/// Keys and values in one chunk, about. Unit: bytes.
const CHUNK_BYTES: usize = 64 << 10;
/// Ranges that ask for at most so many keys are never large enough to be looked at.
const FEW_KEYS: u64 = 2;
/// A range that may visit more keys than this is computed off the threads that serve sockets.
const INLINE_KEYS_MAX: u64 = 10_000;

/// Field numbers of a `RangeResponse`.
const KVS: u32 = 2;

/// What a range was answered with.
pub(super) enum Answer {
    /// As a whole.
    Small(Found),
    /// To be made while it is sent.
    Large(LargeAnswer),
}

/// Makes answers that may be large.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    seats: Arc<Semaphore>,
    seat_within: Duration,
}

/// A large answer on its way.
pub(super) struct LargeAnswer {
    /// Bytes of the message; its head and its tail included.
    message_bytes: u32,
    head: Bytes,
    /// Collected before it was known that there is more.
    collected: std::vec::IntoIter<Found>,
    pages: Pages,
    /// Absent once it was sent.
    tail: Option<Bytes>,
    _seat: OwnedSemaphorePermit,
}

/// In the extensions of a response: its real body. Taken once.
#[derive(Clone)]
struct Exchanged(Arc<Mutex<Option<Lazy>>>);

/// The body.
struct Lazy {
    answer: Watched<LargeAnswer>,
    ended: bool,
}

/// True if the range asks for so little that its answer cannot be large.
pub(super) fn is_short(range: &Range) -> bool {
    let few = range.limit > 0 && range.limit <= FEW_KEYS;
    range.keys.range_end.is_empty() || range.count_only || few
}

impl Desk {
    pub(super) fn new() -> Desk {
        Desk { seats: Arc::new(Semaphore::new(SEATS)), seat_within: SEAT_WITHIN }
    }

    /// Answers a range from a frozen store.
    ///
    /// Errors: those of the store; [`ApiError::TooManyRequests`] if no seat was free in time.
    pub(super) async fn answer(
        &self,
        store: Arc<Store>,
        range: Range,
        header: pb::ResponseHeader,
    ) -> Result<Answer, Status> {
        let collected = match is_long(&store, &range) {
            false => collect(&store, &range),
            true => {
                let store = Arc::clone(&store);
                let collecting = spawn_blocking(move || collect(&store, &range));
                collecting.await.expect("a read does not panic")
            }
        };
        let (pages, rest) = match collected.map_err(ApiError::from)? {
            (mut pages, None) => {
                let last = pages.pop().expect("there is always a last page");
                return Ok(Answer::Small(joined(pages, last)));
            }
            (pages, Some(rest)) => (pages, rest),
        };
        drop(store);
        let seat = timeout(self.seat_within, Arc::clone(&self.seats).acquire_owned()).await;
        let seat = seat.map_err(|_| ApiError::TooManyRequests)?;
        let seat = seat.expect("seats are never closed");
        let measuring = spawn_blocking(move || LargeAnswer::new(header, pages, rest, seat));
        measuring.await.expect("a read does not panic").map(Answer::Large)
    }
}

/// True if collecting the beginning of the answer may have to visit much of the store.
fn is_long(store: &Store, range: &Range) -> bool {
    let ascending = range.is_plain() && range.sort_order != SortOrder::Descend;
    let latest = range.revision.0 == 0 || range.revision == store.revision();
    !(ascending && latest) && store.keys() > INLINE_KEYS_MAX
}

type Collected = (Vec<Found>, Option<Pages>);

/// The first pages, and where the others come from unless these were all.
fn collect(store: &Store, range: &Range) -> Result<Collected, KvError> {
    let mut rest = store.pages(range, CHUNK_BYTES)?;
    let mut pages = Vec::new();
    while pages.len() < LARGE_BYTES / CHUNK_BYTES
        && let Some(page) = rest.next()
    {
        pages.push(page);
    }
    // The last page that fits may be the last that there is: it tells `more` and `count` then.
    Ok(if rest.is_done() { (pages, None) } else { (pages, Some(rest)) })
}

fn joined(pages: Vec<Found>, last: Found) -> Found {
    if pages.is_empty() {
        return last;
    }
    let mut kvs: Vec<_> = pages.into_iter().flat_map(|page| page.kvs).collect();
    kvs.extend(last.kvs);
    Found { kvs, ..last }
}

impl LargeAnswer {
    /// Measures what is to come.
    ///
    /// Errors: the message is longer than the framing of gRPC can tell.
    fn new(
        header: pb::ResponseHeader,
        collected: Vec<Found>,
        pages: Pages,
        seat: OwnedSemaphorePermit,
    ) -> Result<LargeAnswer, Status> {
        let keys_only = collected.first().is_some_and(|page| page.keys_only);
        let mut pairs = 0;
        let mut add = |kv: &KeyValue| pairs += pair_bytes(kv, keys_only) as u64;
        collected.iter().flat_map(|page| &page.kvs).for_each(|kv| add(kv));
        let (more, count) = pages.survey(&mut add);
        let count = convert::signed(count);
        let head = pb::RangeResponse { header: Some(header), ..pb::RangeResponse::default() }
            .encode_to_vec();
        let tail =
            pb::RangeResponse { more, count, ..pb::RangeResponse::default() }.encode_to_vec();
        let whole = (head.len() + tail.len()) as u64 + pairs;
        let too_long = || Status::resource_exhausted(format!("an answer of {whole} bytes"));
        Ok(LargeAnswer {
            message_bytes: u32::try_from(whole).map_err(|_| too_long())?,
            head: head.into(),
            collected: collected.into_iter(),
            pages,
            tail: Some(tail.into()),
            _seat: seat,
        })
    }

    /// Leaves the answer in an empty response, for [`exchange`] to find.
    pub(super) fn into_response(self) -> tonic::Response<pb::RangeResponse> {
        let answer = Watched::new(self, STALL);
        let body = Exchanged(Arc::new(Mutex::new(Some(Lazy { answer, ended: false }))));
        let mut response = tonic::Response::new(pb::RangeResponse::default());
        response.extensions_mut().insert(body);
        response
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        let mut chunk = BytesMut::new();
        if !self.head.is_empty() {
            chunk.put_u8(0); // Not compressed.
            chunk.put_u32(self.message_bytes);
            chunk.put(std::mem::take(&mut self.head));
        }
        let begun = chunk.len();
        // The last page may be one without pairs: then the tail is still to come.
        while chunk.len() == begun && self.tail.is_some() {
            match self.collected.next().or_else(|| self.pages.next()) {
                Some(page) => put_pairs(&page, &mut chunk),
                None => chunk.put(self.tail.take().unwrap_or_default()),
            }
        }
        Some(chunk.freeze()).filter(|chunk| !chunk.is_empty())
    }
}

fn pair_bytes(kv: &KeyValue, keys_only: bool) -> usize {
    message::encoded_len(KVS, &convert::pair(kv, keys_only))
}

fn put_pairs(page: &Found, chunk: &mut BytesMut) {
    for kv in &page.kvs {
        message::encode(KVS, &convert::pair(kv, page.keys_only), chunk);
    }
}

/// Puts the body that a service left in the extensions of its response in place.
pub(super) fn exchange(mut response: Response<Body>) -> Response<Body> {
    let left = response.extensions_mut().remove::<Exchanged>();
    let body = left.and_then(|left| left.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    match body {
        Some(body) => response.map(|_| Body::new(body)),
        None => response,
    }
}

impl AnyBody for Lazy {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        Poll::Ready(Some(match this.answer.with(LargeAnswer::next_chunk) {
            Some(Some(chunk)) => Ok(Frame::data(chunk)),
            Some(None) => {
                this.ended = true;
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", "0".parse().expect("a header value"));
                Ok(Frame::trailers(trailers))
            }
            None => {
                this.ended = true;
                Err(Status::deadline_exceeded("the answer was not taken in time"))
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_replica::store::{Command, Keys, Put, Revision};
    use std::future::poll_fn;

    fn store(pairs: usize, value_bytes: usize) -> Store {
        let mut store = Store::new();
        for number in 0..pairs {
            let key = Bytes::from(format!("key-{number:06}"));
            let value = Bytes::from(vec![b'v'; value_bytes]);
            store.apply(&Command::Put(Put { key, value, ..Put::default() }));
        }
        store
    }

    fn everything() -> Range {
        let end = Bytes::from_static(b"\0");
        Range { keys: Keys { key: end.clone(), range_end: end }, ..Range::default() }
    }

    fn header() -> pb::ResponseHeader {
        pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 9, raft_term: 4 }
    }

    async fn bytes_of(mut response: Response<Body>) -> (Vec<usize>, Vec<u8>, Option<HeaderMap>) {
        let (mut chunks, mut bytes, mut trailers) = (Vec::new(), Vec::new(), None);
        loop {
            let frame = poll_fn(|cx| Pin::new(response.body_mut()).poll_frame(cx)).await;
            let Some(frame) = frame else { return (chunks, bytes, trailers) };
            match frame.expect("a frame").into_data() {
                Ok(data) => {
                    chunks.push(data.len());
                    bytes.extend_from_slice(&data);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
    }

    #[tokio::test]
    async fn a_large_answer_has_the_bytes_of_an_ordinary_one() {
        let store = Arc::new(store(9_000, 300));
        let desk = Desk::new();
        for range in [
            everything(),
            Range { limit: 8_000, ..everything() },
            Range { sort_order: SortOrder::Descend, ..everything() },
            Range { revision: Revision(8_500), ..everything() },
            Range { min_mod_revision: Revision(100), ..everything() },
            // 184 pairs fill a page exactly, so that the last one is empty.
            Range { limit: 184 * 40, ..everything() },
        ] {
            let found = store.range(&range).expect("it can be read");
            let ordinary = convert::found_response(Some(header()), &found).encode_to_vec();
            let answer = desk.answer(Arc::clone(&store), range, header()).await;
            let Ok(Answer::Large(answer)) = answer else { panic!("it is large") };
            assert_eq!(desk.seats.available_permits(), SEATS - 1);
            let response = answer.into_response();
            let response =
                Response::from_parts(http_parts(response.extensions().clone()), Body::empty());
            let (chunks, bytes, trailers) = bytes_of(exchange(response)).await;
            assert_eq!(bytes[0], 0);
            assert_eq!(bytes[1..5], (ordinary.len() as u32).to_be_bytes());
            assert!(bytes[5..] == ordinary, "other bytes");
            assert!(chunks.iter().all(|len| *len < 3 * CHUNK_BYTES / 2), "{chunks:?}");
            assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
            assert_eq!(desk.seats.available_permits(), SEATS, "the seat is free again");
        }
    }

    /// Answers which end before, with, and after the last page that is collected at once.
    #[tokio::test]
    async fn an_answer_is_whole_wherever_its_last_page_ends() {
        let store = Arc::new(store(4_000, 300));
        let (mut small, mut large) = (0, 0);
        for limit in 184 * 14..=184 * 18 {
            let range = Range { limit, ..everything() };
            let found = store.range(&range).expect("it can be read");
            let ordinary = convert::found_response(Some(header()), &found).encode_to_vec();
            match Desk::new().answer(Arc::clone(&store), range, header()).await {
                Ok(Answer::Small(answer)) => {
                    assert_eq!(answer, found, "{limit} pairs");
                    small += 1;
                }
                Ok(Answer::Large(answer)) => {
                    let response = answer.into_response();
                    let parts = http_parts(response.extensions().clone());
                    let (_, bytes, _) =
                        bytes_of(exchange(Response::from_parts(parts, Body::empty()))).await;
                    assert_eq!(bytes[1..5], (ordinary.len() as u32).to_be_bytes());
                    assert!(bytes[5..] == ordinary, "other bytes of {limit} pairs");
                    large += 1;
                }
                Err(status) => panic!("{limit} pairs: {status}"),
            }
        }
        assert!(small > 184 && large > 184, "{small} and {large}");
    }

    fn http_parts(extensions: tonic::Extensions) -> http::response::Parts {
        let mut response = Response::new(());
        *response.extensions_mut() = extensions;
        response.into_parts().0
    }

    #[tokio::test]
    async fn a_small_answer_takes_the_ordinary_way() {
        let store = Arc::new(store(2_000, 300));
        for range in [everything(), Range { limit: 5, ..everything() }] {
            let found = store.range(&range).expect("it can be read");
            let answer = Desk::new().answer(Arc::clone(&store), range, header()).await;
            let Ok(Answer::Small(answer)) = answer else { panic!("it is small") };
            assert_eq!(answer, found);
        }
        let future = Range { revision: Revision(9_999), ..everything() };
        let refused = Desk::new().answer(store, future, header()).await.err().expect("an error");
        assert_eq!(refused.code(), tonic::Code::OutOfRange);
    }

    #[tokio::test]
    async fn one_too_many_waits_and_is_refused() {
        let store = Arc::new(store(4_000, 300));
        let desk = Desk { seat_within: Duration::from_millis(20), ..Desk::new() };
        let taken = Arc::clone(&desk.seats).acquire_many_owned(SEATS as u32).await;
        let refused = desk.answer(Arc::clone(&store), everything(), header()).await;
        let refused = refused.err().expect("no seat");
        assert_eq!(refused.message(), "etcdserver: too many requests");
        drop(taken);
        assert!(desk.answer(store, everything(), header()).await.is_ok());
    }
}
