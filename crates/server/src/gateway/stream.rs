//! Methods whose requests or answers do not end: watches, keep-alives, observers, snapshots.
//!
//! Both directions go on at the same time, as far as the client's HTTP lets them: a request that
//! stays open may ask for further watches while answers come.

use super::frames::{Framed, Frames};
use super::json::{self, Objects};
use super::{Limits, status};
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

/// The messages of a request, as they come.
pub(super) fn requests(method: &MethodDescriptor, limits: &Limits, body: Body) -> Body {
    let objects = Objects::new(limits.request_bytes_max);
    let (only_one, shape, limits) = (!method.is_client_streaming(), method.input(), limits.clone());
    Body::new(Requests { body, objects, shape, only_one, limits, room: None, ended: false })
}

/// The messages of an answer as lines of JSON. It begins with its first message, so that a refusal
/// before it has the status of HTTP.
///
/// Errors: the answer is a refusal, or there is no room for it.
pub(super) async fn lines(method: &MethodDescriptor, mut frames: Frames) -> Result<Body, Status> {
    let first = poll_fn(|cx| frames.poll_next(cx)).await.transpose()?;
    let ended = first.is_none();
    Ok(Body::new(Lines { first, frames, shape: method.output(), ended }))
}

/// Objects of JSON as requests of gRPC.
struct Requests {
    body: Body,
    objects: Objects,
    shape: MessageDescriptor,
    /// Nothing behind the first is looked at.
    only_one: bool,
    limits: Limits,
    /// For an object that has begun.
    room: Option<OwnedSemaphorePermit>,
    ended: bool,
}

impl Requests {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            match self.objects.next() {
                Ok(None) => {}
                Ok(Some(object)) => {
                    self.room = None;
                    self.ended = self.only_one;
                    return Poll::Ready(Some(json::to_message(&self.shape, &object)));
                }
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    let data = frame.into_data().unwrap_or_default();
                    self.room = None;
                    match self.limits.room(self.objects.waiting() + data.len()) {
                        Ok(room) => self.room = Some(room),
                        Err(status) => return Poll::Ready(Some(Err(status))),
                    }
                    self.objects.push(&data);
                }
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                None if self.objects.is_within() => {
                    let broken = "the request ends within an object";
                    return Poll::Ready(Some(Err(Status::invalid_argument(broken))));
                }
                None if self.only_one => {
                    self.ended = true;
                    return Poll::Ready(Some(json::to_message(&self.shape, b"")));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl HttpBody for Requests {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let message = ready!(self.poll_message(cx));
        self.ended |= !matches!(message, Some(Ok(_)));
        Poll::Ready(message.map(|message| message.map(Frame::data)))
    }
}

/// The messages of an answer as lines of JSON.
struct Lines {
    first: Option<Framed>,
    frames: Frames,
    shape: MessageDescriptor,
    ended: bool,
}

impl Lines {
    fn line(&self, message: Bytes) -> Result<Vec<u8>, Status> {
        let mut line = Vec::with_capacity(message.len() * 2 + 16);
        line.extend_from_slice(b"{\"result\":");
        json::from_message(&self.shape, message, &mut line)?;
        line.extend_from_slice(b"}\n");
        Ok(line)
    }
}

impl HttpBody for Lines {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let next = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => ready!(self.frames.poll_next(cx)),
        };
        let line = next.map(|framed| framed.and_then(|framed| self.line(framed.message)));
        self.ended = !matches!(line, Some(Ok(_)));
        let text = line.map(|line| line.unwrap_or_else(|status| status::last_line(&status)));
        Poll::Ready(text.map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}
