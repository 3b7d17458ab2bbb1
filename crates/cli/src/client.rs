//! How the commands reach members: endpoints, channels, one question.

use clap::Args;
use quorate_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_server::proto::etcdserverpb::{StatusRequest, StatusResponse};
use quorate_server::tls::{Client, ClientFiles, FileError, Verify};
use quorate_server::url::{Scheme, Url, UrlError};
use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::transport;
use tonic::transport::channel::{Channel as Transport, ResponseFuture};

/// Endpoints if none are given: where a local cluster's first member serves.
pub(crate) const ENDPOINTS_DEFAULT: &str = "127.0.0.1:2379";

/// How long dialling may take before the next endpoint is tried.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// A member that owes an answer is asked so often for a sign of life,
const PING_EVERY: Duration = Duration::from_secs(1);
/// and given up if it gives none within this time.
const PONG_WITHIN: Duration = Duration::from_secs(2);

/// A longer answer to an HTTP GET is cut off.
const HTTP_BYTES_MAX: u64 = 1 << 20;

/// Where a member is asked, and how.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    url: Url,
    /// For https.
    tls: Option<Client>,
}

impl Deref for Endpoint {
    type Target = Url;

    fn deref(&self) -> &Url {
        &self.url
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
    type Error = transport::Error;
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

impl Endpoint {
    /// Of a cluster of our own, without TLS unless given.
    pub(crate) fn of(url: Url, tls: Option<Client>) -> Endpoint {
        Endpoint { url, tls }
    }

    /// Another place, asked in the same way.
    pub(crate) fn beside(&self, url: Url) -> Endpoint {
        Endpoint { url, tls: self.tls.clone() }
    }

    fn dial(&self) -> transport::Endpoint {
        let uri = transport::Endpoint::from_shared(self.url.to_string());
        uri.expect("a checked URL is a URI").connect_timeout(DIAL_TIMEOUT)
    }

    async fn connect(&self, dial: transport::Endpoint) -> Result<Channel, transport::Error> {
        let transport = match &self.tls {
            Some(tls) if self.is_https() => tls.connect(dial).await?,
            _ => dial.connect().await?,
        };
        Ok(transport.into())
    }
}

/// The flags of commands that ask members over TLS; etcdctl's. Their ids are not their names: a
/// command may have a KEY of another kind.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Security {
    /// CA whose signature the members' certificates must have [default: those of this machine]
    #[arg(id = "tls-cacert", long = "cacert", global = true, value_name = "FILE")]
    #[arg(env = "ETCDCTL_CACERT", hide_env = true)]
    cacert: Option<PathBuf>,
    /// Certificate to show to the members
    #[arg(id = "tls-cert", long = "cert", global = true, value_name = "FILE")]
    #[arg(env = "ETCDCTL_CERT", hide_env = true)]
    cert: Option<PathBuf>,
    /// Its key
    #[arg(id = "tls-key", long = "key", global = true, value_name = "FILE")]
    #[arg(env = "ETCDCTL_KEY", hide_env = true)]
    key: Option<PathBuf>,
    /// Do not look at the members' certificates: anybody may answer
    #[arg(long, global = true, env = "ETCDCTL_INSECURE_SKIP_TLS_VERIFY", hide_env = true)]
    #[arg(value_parser = clap::builder::FalseyValueParser::new())]
    insecure_skip_tls_verify: bool,
}

/// Endpoints that cannot be used.
#[derive(Debug)]
pub(crate) enum EndpointsError {
    /// One of them is no address.
    Url(UrlError),
    /// A certificate file is no good.
    File(FileError),
    /// A certificate without its key, or a key alone.
    Lonely,
}

impl fmt::Display for EndpointsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndpointsError::Url(error) => write!(f, "--endpoints: {error}"),
            EndpointsError::File(error) => write!(f, "--cacert, --cert, --key: {error}"),
            EndpointsError::Lonely => f.write_str("--cert and --key go together; give both"),
        }
    }
}

impl Security {
    /// True if anything says that TLS is wanted.
    fn is_given(&self) -> bool {
        let given = |path: &Option<PathBuf>| filled(path).is_some();
        given(&self.cacert) || given(&self.cert) || self.insecure_skip_tls_verify
    }

    fn client(&self) -> Result<Client, EndpointsError> {
        let files = ClientFiles {
            ca: filled(&self.cacert),
            cert: filled(&self.cert),
            key: filled(&self.key),
            verify: if self.insecure_skip_tls_verify { Verify::Nothing } else { Verify::Server },
        };
        if files.cert.is_some() != files.key.is_some() {
            return Err(EndpointsError::Lonely);
        }
        Client::new(&files).map_err(EndpointsError::File)
    }
}

/// An empty variable counts as none.
fn filled(path: &Option<PathBuf>) -> Option<PathBuf> {
    path.clone().filter(|path| !path.as_os_str().is_empty())
}

/// Parses `HOST:PORT,https://HOST:PORT`, in the order given. Without a scheme it is https if a
/// certificate or a CA is given, as with etcdctl.
pub(crate) fn parse_endpoints(
    text: &str,
    security: &Security,
) -> Result<Vec<Endpoint>, EndpointsError> {
    let usual = if security.is_given() { Scheme::Https } else { Scheme::Http };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let parse = |part: &str| match part.contains("://") {
        true => part.parse::<Url>(),
        false => format!("http://{part}").parse::<Url>().map(|url| url.with_scheme(usual)),
    };
    let urls = parts.map(parse).collect::<Result<Vec<Url>, UrlError>>();
    let urls = urls.map_err(EndpointsError::Url)?;
    if urls.is_empty() {
        return Err(EndpointsError::Url(UrlError::Empty));
    }
    let secured = urls.iter().any(Url::is_https) || security.is_given();
    let tls = if secured { Some(security.client()?) } else { None };
    Ok(urls.into_iter().map(|url| Endpoint { url, tls: tls.clone() }).collect())
}

/// Connects now, so that a failure is known to precede every request.
pub(crate) async fn connect(endpoint: &Endpoint) -> Result<Channel, transport::Error> {
    endpoint.connect(endpoint.dial()).await
}

/// As [`connect`]; a member that falls silent while a request waits breaks the connection.
pub(crate) async fn connect_alert(endpoint: &Endpoint) -> Result<Channel, transport::Error> {
    let alert = endpoint.dial().http2_keep_alive_interval(PING_EVERY);
    endpoint.connect(alert.keep_alive_timeout(PONG_WITHIN)).await
}

/// A connection that is made when it is first needed, and again when it breaks.
///
/// Panics: outside a tokio runtime.
pub(crate) fn channel(endpoint: &Endpoint) -> Channel {
    let transport = match &endpoint.tls {
        Some(tls) if endpoint.is_https() => tls.channel(&endpoint.dial()),
        _ => endpoint.dial().connect_lazy(),
    };
    transport.into()
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

/// Status code and body of an HTTP GET, over TLS where the endpoint says https.
///
/// Errors: nobody answers, or not in HTTP, in words.
pub(crate) async fn http_get(
    endpoint: &Endpoint,
    path: &str,
    within: Duration,
) -> Result<(u16, String), String> {
    http_ask(endpoint, "GET", path, within).await
}

/// As [`http_get`], for what a member is to do. Nothing is sent with it.
pub(crate) async fn http_post(
    endpoint: &Endpoint,
    path: &str,
    within: Duration,
) -> Result<(u16, String), String> {
    http_ask(endpoint, "POST", path, within).await
}

async fn http_ask(
    endpoint: &Endpoint,
    method: &str,
    path: &str,
    within: Duration,
) -> Result<(u16, String), String> {
    let authority = endpoint.authority();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {authority}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    );
    let conversation = async {
        match &endpoint.tls {
            Some(tls) if endpoint.is_https() => talk(tls.http(endpoint).await?, &request).await,
            _ => talk(TcpStream::connect(&authority).await?, &request).await,
        }
    };
    let answer = timeout(within, conversation).await.map_err(|_| "no answer in time".to_owned())?;
    let answer = answer.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer in HTTP")?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.ok_or("no answer in HTTP")?, body.to_owned()))
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    stream.take(HTTP_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
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

    fn parse(text: &str, security: &Security) -> Result<Vec<String>, EndpointsError> {
        let endpoints = parse_endpoints(text, security)?;
        Ok(endpoints.iter().map(|endpoint| endpoint.url.to_string()).collect())
    }

    #[test]
    fn endpoints_with_and_without_a_scheme() {
        let none = Security::default();
        assert_eq!(parse("b:2, http://a:1", &none).expect("two"), ["http://b:2", "http://a:1"]);
        assert_eq!(parse("https://a:1", &none).expect("one"), ["https://a:1"]);
        let url = |text: &str| match parse(text, &none) {
            Err(EndpointsError::Url(error)) => error,
            other => panic!("{text}: {other:?}"),
        };
        assert!(matches!(url("a"), UrlError::HostPort { .. }));
        assert!(matches!(url(","), UrlError::Empty));
    }

    #[test]
    fn what_is_said_of_certificates_makes_endpoints_https() {
        let blind = Security { insecure_skip_tls_verify: true, ..Security::default() };
        assert_eq!(parse("a:1,http://b:1", &blind).expect("two"), ["https://a:1", "http://b:1"]);
        let file = Some(PathBuf::from("/nowhere/at/all"));
        let missing = Security { cacert: file.clone(), ..Security::default() };
        let error = parse("a:1", &missing).expect_err("no such file").to_string();
        assert!(error.contains("cannot read /nowhere/at/all"), "{error}");
        let lonely = Security { cert: file, ..Security::default() };
        assert!(matches!(parse("a:1", &lonely), Err(EndpointsError::Lonely)));
        let empty = Security { cacert: Some(PathBuf::new()), ..Security::default() };
        assert_eq!(parse("a:1", &empty).expect("an empty variable is none"), ["http://a:1"]);
    }
}
