//! The messages of an answer, which arrive in pieces of any size.

use super::json::PREFIX_BYTES;
use super::{ANSWER_BYTES_MAX, Limits};
use bytes::{Buf, Bytes, BytesMut};
use hyper::body::Body as _;
use hyper::header::HeaderMap;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;
use tonic::body::Body;

/// What one permit of [`Limits`] stands for.
pub(super) const PERMIT_BYTES: usize = 1024;

/// The messages of a body of gRPC.
#[derive(Debug)]
pub(super) struct Frames {
    body: Body,
    limits: Limits,
    bytes: BytesMut,
    /// Length of the message that has begun, and the room it was given.
    begun: Option<(usize, OwnedSemaphorePermit)>,
}

/// One message, and the room that it takes until it was sent.
#[derive(Debug)]
pub(super) struct Framed {
    pub(super) message: Bytes,
    pub(super) room: OwnedSemaphorePermit,
}

impl Frames {
    pub(super) fn new(body: Body, limits: &Limits) -> Frames {
        Frames { body, limits: limits.clone(), bytes: BytesMut::new(), begun: None }
    }

    /// The next message; none at the end of an answer that went well.
    ///
    /// Errors: the answer is a refusal, or there is no room for it.
    pub(super) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Framed, Status>>> {
        loop {
            match self.whole() {
                Ok(None) => {}
                Ok(Some(framed)) => return Poll::Ready(Some(Ok(framed))),
                Err(status) => return Poll::Ready(Some(Err(status))),
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(status)) => return Poll::Ready(Some(Err(status))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => self.bytes.extend_from_slice(&data),
                Err(frame) => {
                    let end = frame.trailers_ref().and_then(refused);
                    return Poll::Ready(end.map(Err));
                }
            }
        }
    }

    /// The message that has arrived, if one has.
    fn whole(&mut self) -> Result<Option<Framed>, Status> {
        if self.begun.is_none() && self.bytes.len() >= PREFIX_BYTES {
            self.bytes.advance(1);
            let length = self.bytes.get_u32() as usize;
            self.begun = Some((length, self.room(length)?));
        }
        let Some((length, room)) = self.begun.take() else { return Ok(None) };
        if self.bytes.len() < length {
            self.begun = Some((length, room));
            return Ok(None);
        }
        Ok(Some(Framed { message: self.bytes.split_to(length).freeze(), room }))
    }

    fn room(&self, length: usize) -> Result<OwnedSemaphorePermit, Status> {
        if length > ANSWER_BYTES_MAX {
            return Err(Status::resource_exhausted(format!(
                "quorate: an answer of {length} bytes is too large for the gateway, whose limit is \
                 {ANSWER_BYTES_MAX}; ask for less at once by \"limit\", or use gRPC",
            )));
        }
        self.limits.room(length)
    }
}

/// The refusal that headers or trailers tell of.
pub(super) fn refused(headers: &HeaderMap) -> Option<Status> {
    Status::from_header_map(headers).filter(|status| status.code() != tonic::Code::Ok)
}
