//! How the commands reach members: endpoints, channels, one question.

use quorate_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_server::proto::etcdserverpb::{StatusRequest, StatusResponse};
use quorate_server::url::{Url, UrlError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::transport::Endpoint;
use tonic::transport::channel::{Channel as Transport, ResponseFuture};

/// Endpoints if none are given: where a local cluster's first member serves.
pub(crate) const ENDPOINTS_DEFAULT: &str = "127.0.0.1:2379";

/// How long dialling may take before the next endpoint is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A member that owes an answer is asked so often for a sign of life,
const PING_EVERY: Duration = Duration::from_secs(1);
/// and given up if it gives none within this time.
const PONG_WITHIN: Duration = Duration::from_secs(2);

/// A longer answer to a plain HTTP GET is cut off.
const HTTP_BYTES_MAX: u64 = 1 << 20;

/// Parses `HOST:PORT,http://HOST:PORT`, in the order given.
pub(crate) fn parse_endpoints(text: &str) -> Result<Vec<Url>, UrlError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let urls: Result<Vec<Url>, UrlError> = parts
        .map(
            |part| {
                if part.contains("://") { part.parse() } else { format!("http://{part}").parse() }
            },
        )
        .collect();
    match urls {
        Ok(urls) if urls.is_empty() => Err(UrlError::Empty),
        other => other,
    }
}

/// A connection, and the token that goes with each request over it.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    transport: Transport,
    token: Option<HeaderValue>,
}

impl Channel {
    /// Requests carry this token from now on.
    pub(crate) fn carry(&mut self, token: HeaderValue) {
        self.token = Some(token);
    }
}

impl From<Transport> for Channel {
    fn from(transport: Transport) -> Channel {
        Channel { transport, token: None }
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::poll_ready(&mut self.transport, cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> ResponseFuture {
        if let Some(token) = &self.token {
            request.headers_mut().insert("token", token.clone());
        }
        Service::call(&mut self.transport, request)
    }
}

/// Connects now, so that a failure is known to precede every request.
pub(crate) async fn connect(endpoint: &Url) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(endpoint.to_string()).expect("a checked URL is a URI");
    endpoint.connect_timeout(DIAL_TIMEOUT).connect().await.map(Channel::from)
}

/// As [`connect`]; a member that falls silent while a request waits breaks the connection.
pub(crate) async fn connect_alert(endpoint: &Url) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(endpoint.to_string()).expect("a checked URL is a URI");
    let endpoint = endpoint.http2_keep_alive_interval(PING_EVERY).keep_alive_timeout(PONG_WITHIN);
    endpoint.connect_timeout(DIAL_TIMEOUT).connect().await.map(Channel::from)
}

/// A connection that is made when it is first needed, and again when it breaks.
///
/// Panics: outside a tokio runtime.
pub(crate) fn channel(endpoint: &Url) -> Channel {
    let endpoint = Endpoint::from_shared(endpoint.to_string()).expect("a checked URL is a URI");
    endpoint.connect_timeout(DIAL_TIMEOUT).connect_lazy().into()
}

/// Asks one member how it is.
pub(crate) async fn status(
    channel: &Channel,
    timeout: Duration,
) -> Result<StatusResponse, tonic::Status> {
    let mut client = MaintenanceClient::new(channel.clone());
    let answer = tokio::time::timeout(timeout, client.status(StatusRequest {})).await;
    match answer {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(tonic::Status::deadline_exceeded("no answer in time")),
    }
}

/// Status code and body of a plain HTTP GET.
///
/// Errors: nobody answers, or not in HTTP, in words.
pub(crate) async fn http_get(
    endpoint: &Url,
    path: &str,
    within: Duration,
) -> Result<(u16, String), String> {
    let authority = endpoint.authority();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    let conversation = async {
        let mut stream = TcpStream::connect(&authority).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(HTTP_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = timeout(within, conversation).await.map_err(|_| "no answer in time".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer in HTTP")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or("no answer in HTTP")?, body.to_owned()))
}

/// The innermost reason: "connection refused", not "transport error".
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// What a call failed of: the answer of a server as it is, or why none was reached.
pub(crate) fn reason(status: &tonic::Status) -> String {
    let source = std::error::Error::source(status);
    source.map_or_else(|| status.message().to_owned(), root_cause)
}

/// Runs one command's questions to their end.
pub(crate) fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("the system gives a process its timer and its poller").block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_with_and_without_a_scheme() {
        let urls = parse_endpoints("b:2, http://a:1").expect("two");
        let urls: Vec<String> = urls.iter().map(Url::to_string).collect();
        assert_eq!(urls, ["http://b:2", "http://a:1"]);
        assert!(matches!(parse_endpoints("https://a:1"), Err(UrlError::Tls { .. })));
        assert!(matches!(parse_endpoints("a"), Err(UrlError::HostPort { .. })));
        assert!(matches!(parse_endpoints(","), Err(UrlError::Empty)));
    }
}
