//! Refusals as HTTP tells them.

use crate::overload::PUSHBACK;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;
use tonic::body::Body;
use tonic::{Code, Status};

/// What stands before the name of metadata in a header.
pub(super) const METADATA: &str = "grpc-metadata-";

/// The body of a refusal.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    message: &'a str,
    code: i32,
}

/// The line of a stream that says why it ends.
#[derive(Serialize)]
struct LastLine<'a> {
    error: StreamError<'a>,
}

#[derive(Serialize)]
struct StreamError<'a> {
    grpc_code: i32,
    http_code: u16,
    message: &'a str,
    http_status: &'a str,
}

/// A refusal as an answer.
pub(super) fn refusal(status: &Status) -> Response<Body> {
    let message = status.message();
    let told = Refusal { error: message, message, code: i32::from(status.code()) };
    let text = serde_json::to_vec(&told).expect("text and a number");
    let mut response = json(Body::new(http_body_util::Full::from(text)));
    *response.status_mut() = http_code(status.code());
    let metadata = status.metadata().clone().into_headers();
    pass_metadata(&metadata, response.headers_mut());
    let again_after = metadata.get(PUSHBACK).and_then(|ms| ms.to_str().ok()?.parse::<u64>().ok());
    if let Some(ms) = again_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(ms.div_ceil(1_000)));
    }
    response
}

/// The last line of a stream that ends with a refusal.
pub(super) fn last_line(status: &Status) -> Vec<u8> {
    let http = http_code(status.code());
    let error = StreamError {
        grpc_code: i32::from(status.code()),
        http_code: http.as_u16(),
        message: status.message(),
        http_status: http.canonical_reason().unwrap_or_default(),
    };
    let mut line = serde_json::to_vec(&LastLine { error }).expect("text and numbers");
    line.push(b'\n');
    line
}

/// An answer that is JSON.
pub(super) fn json(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// Tells the metadata of an answer in the headers of another, each with its prefix.
pub(super) fn pass_metadata(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from {
        if matches!(name.as_str(), "grpc-status" | "grpc-message" | "grpc-status-details-bin") {
            continue;
        }
        if let Ok(name) = HeaderName::try_from(format!("{METADATA}{name}")) {
            to.append(name, value.clone());
        }
    }
}

/// Source: `HTTPStatusFromCode` of grpc-gateway 1.16, which etcd 3.5 has. With 3.4 a failed
/// precondition was 412.
fn http_code(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
