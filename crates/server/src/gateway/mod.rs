//! The API for who speaks JSON over HTTP and no gRPC: `curl`, Patroni, etcd3gw.
//!
//! ```text
//!    POST /v3/kv/put   {"key":"Zm9v","value":"YmFy"}
//!      | routes.rs    which method that is
//!      | json.rs      JSON -> message, by the descriptor of its type
//!      v
//!    the dispatch of the client port: the very services, limits and permissions of gRPC
//!      |
//!      | frames.rs    bytes -> messages, as large as memory allows
//!      | json.rs      message -> JSON
//!      v
//!    {"header":{"cluster_id":"1...","revision":"2",...}}
//! ```
//!
//! Nothing here knows what a request means, so a method that gRPC serves is served here too, as
//! soon as [`routes`] names its path. Answers are written as etcd 3.5 does with the first version
//! of grpc-gateway: names of fields as in the definitions, 64-bit integers as strings, bytes in
//! base64, what is zero or empty left out. In requests both spellings of names are understood, and
//! unknown fields are passed over.
//!
//! | of a method | request | answer |
//! |---|---|---|
//! | unary | one object; what follows is not looked at | one object |
//! | streaming | objects one after another, also while answers come | a line `{"result":…}` each |
//!
//! A refusal is `{"error":…,"message":…,"code":…}` with the status of HTTP that belongs to the code
//! of gRPC; on a stream that has begun it is a line `{"error":{…}}`.
//!
//! Bounds: a request as for gRPC, in base64, and all of them in the same room
//! ([`crate::overload`]); an answer of [`ANSWER_BYTES_MAX`], all answers that
//! wait together [`WAITING_BYTES_MAX`]. What is larger is refused, and says so.

mod call;
mod frames;
mod head;
mod json;
mod routes;
mod status;
mod stream;
mod visitors;

pub(crate) use visitors::{Visitors, misdirected};

use crate::api::ApiError;
use crate::proto::DESCRIPTORS;
use bytes::Bytes;
use frames::Frames;
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use prost_reflect::{DescriptorPool, MethodDescriptor};
use std::future::Future;
use std::sync::{Arc, LazyLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use visitors::From;

/// Bytes of one answer, in the encoding of gRPC. While it becomes JSON it takes several times as
/// much, and of many small keys forty times.
pub(crate) const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Bytes of all answers together that are gathered or wait for slow readers, in the encoding of
/// gRPC, and of requests that have begun on streams. Beyond that they are refused with
/// `ResourceExhausted`.
pub(crate) const WAITING_BYTES_MAX: usize = 32 << 20;

/// What the definitions of the API say about their messages.
static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).expect("the compiler made it"));

/// The gateway of one client port.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    limits: Limits,
    visitors: Arc<Visitors>,
}

/// What calls may take.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    /// Bytes of one request, as JSON.
    request_bytes_max: usize,
    /// A permit for each KiB of answers.
    waiting: Arc<Semaphore>,
}

impl Limits {
    /// Room for so many bytes more.
    ///
    /// Errors: `ResourceExhausted`.
    fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Status> {
        let permits = u32::try_from(bytes / frames::PERMIT_BYTES + 1).expect("within the bounds");
        Arc::clone(&self.waiting).try_acquire_many_owned(permits).map_err(|_| {
            Status::resource_exhausted(
                "quorate: the gateway has no room for more; try again in a second",
            )
        })
    }
}

impl Gateway {
    /// A gateway to methods that receive messages of up to `message_bytes_max` bytes, for these
    /// visitors.
    pub(crate) fn new(message_bytes_max: usize, visitors: Arc<Visitors>) -> Gateway {
        // Four letters for three bytes; names and punctuation are in what gRPC has to spare.
        let request_bytes_max = message_bytes_max.saturating_add(message_bytes_max / 3 + 1);
        let waiting = Arc::new(Semaphore::new(WAITING_BYTES_MAX / frames::PERMIT_BYTES));
        Gateway { limits: Limits { request_bytes_max, waiting }, visitors }
    }

    /// Whether a path is of the gateway.
    pub(crate) fn serves(path: &str) -> bool {
        routes::is_below(path)
    }

    /// Whether the requests of that path do not end.
    pub(crate) fn is_endless(path: &str) -> bool {
        method(path).is_some_and(|method| method.is_client_streaming())
    }

    /// Answers one request by `serve`, which answers gRPC; a failure is an answer too.
    pub(crate) async fn answer<F, A>(&self, request: Request<Body>, serve: F) -> Response<Body>
    where
        F: FnOnce(Request<Body>) -> A,
        A: Future<Output = Response<Body>>,
    {
        let host = request.uri().authority().map(|authority| authority.as_str());
        let welcome = match self.visitors.from(request.headers(), host) {
            From::Here => None,
            From::Named(origin) if request.method() == Method::OPTIONS => {
                return visitors::preflight(origin);
            }
            From::Named(origin) => Some(origin.clone()),
            From::Stranger => {
                return status::refusal(&Status::permission_denied(
                    "quorate: pages of other origins may not use this gateway; name theirs with \
                     --cors",
                ));
            }
        };
        let mut response = self.pass_on(request, serve).await;
        if let Some(origin) = welcome {
            visitors::welcome(&origin, response.headers_mut());
        }
        response
    }

    async fn pass_on<F, A>(&self, request: Request<Body>, serve: F) -> Response<Body>
    where
        F: FnOnce(Request<Body>) -> A,
        A: Future<Output = Response<Body>>,
    {
        let Some(method) = method(request.uri().path()) else {
            return plain(StatusCode::NOT_FOUND, "Not Found\n");
        };
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        }
        let answer = self.translated(&method, request, serve).await;
        answer.unwrap_or_else(|status| status::refusal(&status))
    }

    /// The request as one of gRPC, and its answer as JSON.
    ///
    /// Errors: the request is no such message, or is refused.
    async fn translated<F, A>(
        &self,
        method: &MethodDescriptor,
        request: Request<Body>,
        serve: F,
    ) -> Result<Response<Body>, Status>
    where
        F: FnOnce(Request<Body>) -> A,
        A: Future<Output = Response<Body>>,
    {
        let is_stream = method.is_client_streaming() || method.is_server_streaming();
        let (parts, body) = request.into_parts();
        let body = match is_stream {
            true => stream::requests(method, &self.limits, body),
            false => call::request(method, &self.limits, body).await?,
        };
        let response = serve(head::as_grpc(method, &parts.headers, body)).await;
        if let Some(status) = frames::refused(response.headers()) {
            return Err(status);
        }
        let (parts, body) = response.into_parts();
        let frames = Frames::new(body, &self.limits);
        let body = match is_stream {
            true => stream::lines(method, frames).await?,
            false => call::answer(method, frames).await?,
        };
        let mut response = status::json(body);
        status::pass_metadata(&parts.headers, response.headers_mut());
        Ok(response)
    }
}

/// A refusal as HTTP tells it.
pub(crate) fn refusal(status: &Status) -> Response<Body> {
    status::refusal(status)
}

/// Every method of the API: its service, its name, and its path as JSON, if it has one; in the
/// order of the definitions.
pub fn methods() -> Vec<(String, String, Option<String>)> {
    let all = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let told = all.map(|method| {
        let (service, name) = (method.parent_service().full_name().to_owned(), method.name());
        let path = routes::ROUTES.iter().rfind(|route| (route.1, route.2) == (&*service, name));
        (service, name.to_owned(), path.map(|(path, ..)| format!("/v3/{path}")))
    });
    told.collect()
}

fn method(path: &str) -> Option<MethodDescriptor> {
    let (service, method) = routes::method(path)?;
    let service = POOL.get_service_by_name(service)?;
    service.methods().find(|of| of.name() == method)
}

/// What the `number`th method understands of a request, as a message; and what it understands when
/// that message is told to it as JSON. None: it understands nothing.
pub(crate) fn read_twice(number: usize, json: &[u8]) -> Option<(Bytes, Option<Bytes>)> {
    let methods: Vec<_> = POOL.services().flat_map(|of| of.methods().collect::<Vec<_>>()).collect();
    let shape = methods[number % methods.len()].input();
    let mut objects = json::Objects::new(json.len());
    objects.push(json);
    while let Ok(Some(_)) = objects.next() {}
    let first = json::to_message(&shape, json).ok()?;
    let mut text = Vec::new();
    json::from_message(&shape, first.slice(json::PREFIX_BYTES..), &mut text).ok()?;
    let again = json::to_message(&shape, &text).ok();
    Some((first, again))
}

fn plain(code: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::new(text.to_owned()));
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn too_large() -> Status {
    Status::from(ApiError::RequestTooLarge)
}

#[cfg(test)]
mod tests;
