//! One stream between a client and its [`Session`]: who speaks when.
//!
//! The client's requests go first, as long as their answers do not pile up; then the time is looked
//! at; then the next chunk is written. With nothing left to say, a waker is left with the session.
//!
//! What surrounds a conversation is a [`Client`]: HTTP/2 and a timer in a member (`api/watch.rs`),
//! a queue and a number in a simulation (`desk.rs`). It never waits by itself.

use super::session::{Filled, Session};
use crate::api::ApiError;
use crate::proto::etcdserverpb::WatchRequest;
use quorate_core::Time;
use std::task::{Context, Poll};

/// Requests taken in before the events get their turn.
const REQUESTS_AT_ONCE: usize = 64;

/// Room for a chunk that turns out to be small. Unit: bytes.
const CHUNK_ROOM: usize = 1_024;

/// What surrounds a conversation.
pub(crate) trait Client {
    /// Why a request cannot be received.
    type Error;

    /// The next request; none when the client has closed its side.
    fn poll_request(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<WatchRequest, Self::Error>>>;

    /// Ready each time that the interval between two news of progress is over, counted from the
    /// first call.
    fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Nobody wants to hear of progress: the interval begins anew when somebody does.
    fn stop_ticking(&mut self);

    /// The time.
    fn now(&self) -> Time;
}

/// Why a conversation is over.
#[derive(Debug)]
pub(crate) enum End<E> {
    /// The member ends it.
    Ours(ApiError),
    /// What the client sent is no request.
    Theirs(E),
}

/// A stream and who is at its other end.
#[derive(Debug)]
pub(crate) struct Conversation<C> {
    session: Session,
    client: C,
    /// The client has closed its side. The stream goes on, as in etcd.
    listens_only: bool,
}

impl<C: Client> Conversation<C> {
    /// Begins.
    pub(crate) fn new(session: Session, client: C) -> Conversation<C> {
        Conversation { session, client, listens_only: false }
    }

    /// Who is at the other end.
    pub(crate) fn client_mut(&mut self) -> &mut C {
        &mut self.client
    }

    /// The next chunk: whole messages, each in a gRPC frame. To be asked for when there is room
    /// for one.
    pub(crate) fn poll_chunk(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Vec<u8>, End<C::Error>>> {
        loop {
            let more_requests = match self.poll_requests(cx) {
                Ok(more) => more,
                Err(error) => return Poll::Ready(Err(End::Theirs(error))),
            };
            self.poll_ticks(cx);
            let mut chunk = Vec::with_capacity(CHUNK_ROOM);
            match self.session.fill(self.client.now(), &mut chunk) {
                Filled::Chunk => return Poll::Ready(Ok(chunk)),
                Filled::End(error) => return Poll::Ready(Err(End::Ours(error))),
                Filled::Again => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Filled::Idle if more_requests => {}
                Filled::Idle => {
                    if self.session.sleep(cx.waker()) {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    /// Reads what the client asks. True if there may be more of it at once.
    ///
    /// Errors: what the client sent is no request.
    fn poll_requests(&mut self, cx: &mut Context<'_>) -> Result<bool, C::Error> {
        for _ in 0..REQUESTS_AT_ONCE {
            if self.listens_only {
                return Ok(false);
            }
            if !self.session.takes_requests() {
                return Ok(true);
            }
            match self.client.poll_request(cx) {
                Poll::Pending => return Ok(false),
                Poll::Ready(None) => self.listens_only = true,
                Poll::Ready(Some(request)) => self.session.request(request?),
            }
        }
        Ok(true)
    }

    /// Lets the session know of the time.
    fn poll_ticks(&mut self, cx: &mut Context<'_>) {
        if !self.session.wants_ticks() {
            return self.client.stop_ticking();
        }
        while self.client.poll_tick(cx).is_ready() {
            self.session.tick();
        }
    }
}
