//! Methods with one request and one answer.

use super::frames::{Frames, PERMIT_BYTES, refused};
use super::{Limits, json, status};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri, Version};
use prost_reflect::{MessageDescriptor, MethodDescriptor};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::Status;
use tonic::body::Body;

/// A request that is not whole after so long is given up.
const BODY_WITHIN: Duration = Duration::from_secs(30);

/// What is larger is made JSON of on a thread that may take its time. Unit: bytes.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// Bytes beyond the largest request that are still read before it is refused.
const LEFT_OUT_BYTES_MAX: usize = 64 << 20;

/// Answers a request of a unary method.
///
/// Errors: the request is no such message, or is refused.
pub(super) async fn answer<F, A>(
    method: &MethodDescriptor,
    limits: &Limits,
    request: Request<Body>,
    serve: F,
) -> Result<Response<Body>, Status>
where
    F: FnOnce(Request<Body>) -> A,
    A: Future<Output = Response<Body>>,
{
    let (parts, body) = request.into_parts();
    let late = |_| Err(Status::deadline_exceeded("quorate: the request did not come to its end"));
    let body = timeout(BODY_WITHIN, gathered(body, limits)).await.unwrap_or_else(late)?;
    let message = json::to_message(&method.input(), &body.bytes)?;
    drop(body);
    let body = Body::new(Full::new(message));
    let response = serve(as_grpc(method, &parts.headers, body)).await;
    if let Some(status) = refused(response.headers()) {
        return Err(status);
    }
    let (parts, body) = response.into_parts();
    let mut frames = Frames::new(body, limits);
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
    let mut response = status::json(Vec::new());
    *response.body_mut() = Body::new(Held { text: Some(text.into()), _room: framed.room });
    status::pass_metadata(&parts.headers, response.headers_mut());
    Ok(response)
}

fn written(shape: &MessageDescriptor, message: Bytes) -> Result<Vec<u8>, Status> {
    let mut text = Vec::with_capacity(message.len() * 2);
    json::from_message(shape, message, &mut text)?;
    Ok(text)
}

/// The whole body. One that is too large is read on for a while, because who is still writing does
/// not look for a refusal.
async fn gathered(mut body: Body, limits: &Limits) -> Result<Gathered, Status> {
    let (mut bytes, mut left_out) = (BytesMut::new(), 0);
    let mut room = limits.room(1)?;
    while let Some(frame) = body.frame().await {
        let broken = |error| Status::invalid_argument(format!("the request broke off: {error}"));
        let data = frame.map_err(broken)?.into_data().unwrap_or_default();
        if left_out == 0 && bytes.len() + data.len() <= limits.request_bytes_max {
            bytes.extend_from_slice(&data);
            if bytes.len() / PERMIT_BYTES >= room.num_permits() {
                room.merge(limits.room(data.len())?);
            }
        } else {
            left_out += data.len();
            if left_out > LEFT_OUT_BYTES_MAX {
                break;
            }
        }
    }
    if left_out > 0 { Err(super::too_large()) } else { Ok(Gathered { bytes, _room: room }) }
}

/// A whole body, and the room that it takes.
struct Gathered {
    bytes: BytesMut,
    _room: OwnedSemaphorePermit,
}

/// The request of gRPC that stands for one of JSON with those headers.
pub(super) fn as_grpc(method: &MethodDescriptor, headers: &HeaderMap, body: Body) -> Request<Body> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::try_from(path).expect("names of the definitions");
    *request.version_mut() = Version::HTTP_2;
    for (name, value) in headers {
        if let Some(name) = metadata(name) {
            request.headers_mut().append(name, value.clone());
        }
    }
    let grpc = HeaderValue::from_static("application/grpc");
    request.headers_mut().insert(CONTENT_TYPE, grpc);
    request
}

/// The name as metadata of a header that is passed on: the token, and what says that it is meant
/// so. What tells the form of the request is made here and cannot be set.
fn metadata(name: &HeaderName) -> Option<HeaderName> {
    let name = match name.as_str() {
        "authorization" => "authorization",
        name => name.strip_prefix(status::METADATA)?,
    };
    let of_form = ["grpc-encoding", "grpc-accept-encoding", "te", "connection"];
    let of_length = ["content-length", "content-encoding", "transfer-encoding"];
    let allowed = !of_form.contains(&name) && !of_length.contains(&name);
    HeaderName::try_from(name).ok().filter(|_| allowed)
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
