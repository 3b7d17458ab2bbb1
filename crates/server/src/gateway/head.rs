//! The head of a request of JSON as one of gRPC.

use super::status;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Uri, Version};
use prost_reflect::MethodDescriptor;
use tonic::body::Body;

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
