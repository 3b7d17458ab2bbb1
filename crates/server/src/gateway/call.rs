//! Methods with one request and one answer.

use super::frames::Frames;
use super::{Limits, json};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tonic::body::Body;
use tonic::{Code, Status};

/// What is larger is made JSON of on a thread that may take its time. Unit: bytes.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// Bytes beyond the largest request that are still read before it is refused.
const LEFT_OUT_BYTES_MAX: usize = 64 << 20;

/// The message of a request.
///
/// Errors: it is none, or did not arrive.
pub(super) async fn request(
    method: &MethodDescriptor,
    limits: &Limits,
    body: Body,
) -> Result<Body, Status> {
    let text = gathered(body, limits).await?;
    Ok(Body::new(Full::new(json::to_message(&method.input(), &text)?)))
}

/// The message of an answer as JSON.
///
/// Errors: the answer is a refusal, or there is no room for it.
pub(super) async fn answer(method: &MethodDescriptor, mut frames: Frames) -> Result<Body, Status> {
    let framed = poll_fn(|cx| frames.poll_next(cx)).await;
    let framed = framed.unwrap_or_else(|| Err(Status::internal("quorate: no answer")))?;
    // A status that follows the message may still take it back.
    while poll_fn(|cx| frames.poll_next(cx)).await.transpose()?.is_some() {}
    let (shape, message) = (method.output(), framed.message);
    let text = match message.len() > AT_ONCE_BYTES_MAX {
        true => {
            let written = spawn_blocking(move || written(&shape, message));
            written.await.expect("writing JSON does not panic")?
        }
        false => written(&shape, message)?,
    };
    Ok(Body::new(Held { text: Some(text.into()), _room: framed.room }))
}

fn written(shape: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, Status> {
    let mut text = Vec::with_capacity(message.len() * 2);
    json::from_message(shape, message, &mut text)?;
    Ok(text)
}

/// The whole body. One that is too large is read on for a while, because who is still writing does
/// not look for a refusal.
async fn gathered(mut body: Body, limits: &Limits) -> Result<BytesMut, Status> {
    let (mut bytes, mut left_out) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame.map_err(broken)?.into_data().unwrap_or_default();
        if left_out == 0 && bytes.len() + data.len() <= limits.request_bytes_max {
            bytes.extend_from_slice(&data);
        } else {
            left_out += data.len();
            if left_out > LEFT_OUT_BYTES_MAX {
                break;
            }
        }
    }
    if left_out > 0 { Err(super::too_large()) } else { Ok(bytes) }
}

/// A body that did not come to its end: it was refused, for want of room or of patience, or its
/// client broke off.
fn broken(status: Status) -> Status {
    match status.code() {
        Code::ResourceExhausted | Code::DeadlineExceeded => status,
        _ => Status::invalid_argument(format!("the request broke off: {status}")),
    }
}

/// The text of an answer, which holds its room until it was sent.
struct Held {
    text: Option<Bytes>,
    _room: OwnedSemaphorePermit,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.text.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.as_ref().map_or(0, |text| text.len() as u64))
    }
}
