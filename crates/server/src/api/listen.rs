//! Accepting connections, driving them, and stopping.
//!
//! Knows nothing of what is served, so that it can be tested without a replica. Bytes which are
//! neither HTTP/1.1 nor HTTP/2 end their connection and nothing else. A listener may take TLS off
//! first ([`crate::tls`]); then a request knows whose certificate it came with.

use super::Limits;
use super::authority::Tolerant;
use super::certificate::ClientCertificate;
use super::threads::Threads;
use crate::audit::PeerAddress;
use crate::metrics::Metrics;
use crate::overload::Room;
use crate::tls::{Listener, Socket};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tonic::body::Body;

/// A client that has not said a word, or over HTTP/1.1 not finished the head of its request, is
/// disconnected after this.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(30);

/// What a client may send on one stream before anybody has looked at it. Unit: bytes.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// And on all streams of a connection: what it can make a member hold that is counted nowhere else.
/// Unit: bytes.
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// Headers of one request, with what HTTP/2 charges for each; what has more is refused. Unit:
/// bytes.
const HEADER_BYTES_MAX: u32 = 16 << 10;

/// Bytes of an answer that wait on one stream for a client that reads slowly; more is made of it
/// when there is room again.
const SEND_BUFFER_BYTES: usize = 128 << 10;

/// Streams that a client has opened and reset before they were looked at; beyond it the connection
/// ends (CVE-2023-44487, "rapid reset").
const PENDING_RESETS_MAX: usize = 20;

/// Pause after the process ran out of sockets or memory, so that accepting does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why serving ended before it was asked to.
#[derive(Debug)]
pub enum ServeError {
    /// There is nothing to listen on.
    NoListener,
    /// A listener is broken.
    Accept(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::NoListener => write!(f, "no address to serve clients on"),
            ServeError::Accept(error) => write!(f, "cannot accept connections: {error}"),
        }
    }
}

impl Error for ServeError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ServeError::NoListener => None,
            ServeError::Accept(error) => Some(error),
        }
    }
}

/// Answers every request on every listener by `answer`, until `shutdown`.
///
/// Errors: as [`super::serve`]. Panics: if accepting does.
pub(super) async fn serve<A, F>(
    answer: A,
    listeners: Vec<Listener>,
    threads: Threads,
    limits: Limits,
    metrics: Arc<Metrics>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    if listeners.is_empty() {
        return Err(ServeError::NoListener);
    }
    let (stop, stopped) = watch::channel(());
    let room = Arc::new(Semaphore::new(limits.connections_max));
    let threads = Arc::new(threads);
    let mut doors = JoinSet::new();
    for listener in listeners {
        let (answer, room) = (answer.clone(), Arc::clone(&room));
        let (threads, metrics) = (Arc::clone(&threads), Arc::clone(&metrics));
        let door = Door { answer, room, threads, limits, metrics };
        doors.spawn(door.keep(listener, stopped.clone()));
    }
    let mut outcome = Ok(());
    tokio::select! {
        () = shutdown => {}
        Some(broken) = doors.join_next() => outcome = closed(broken),
    }
    drop(stop);
    while let Some(door) = doors.join_next().await {
        outcome = outcome.and(closed(door));
    }
    outcome.map_err(ServeError::Accept)
}

/// How a door ended. One that was cancelled did so because the runtime is going away, which is how
/// a member ends that cannot go on.
fn closed(door: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    match door {
        Ok(outcome) => outcome,
        Err(error) if error.is_cancelled() => Ok(()),
        Err(error) => panic!("a door does not panic: {error}"),
    }
}

/// One listener and the connections that came through it.
struct Door<A> {
    answer: A,
    /// Shared by all doors.
    room: Arc<Semaphore>,
    /// Who serves the connections; shared by all doors.
    threads: Arc<Threads>,
    limits: Limits,
    /// Counts what goes through it.
    metrics: Arc<Metrics>,
}

impl<A, F> Door<A>
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    /// Accepts until stopped, then lets the connections finish what they have begun.
    async fn keep(self, listener: Listener, mut stopped: watch::Receiver<()>) -> io::Result<()> {
        let mut connections = JoinSet::new();
        let outcome = loop {
            tokio::select! {
                _ = stopped.changed() => break Ok(()),
                accepted = listener.tcp.accept() => match accepted {
                    Ok((stream, _)) => self.admit(stream, &listener, &mut connections, &stopped),
                    Err(error) if passes(&error) => sleep(ACCEPT_PAUSE).await,
                    Err(error) => break Err(error),
                },
                // Collects what has ended; a panic in it has been reported by its own hook.
                Some(_) = connections.join_next() => {}
            }
        };
        drop(listener);
        let finished = async { while connections.join_next().await.is_some() {} };
        if timeout(self.limits.drain, finished).await.is_err() {
            connections.shutdown().await;
        }
        outcome
    }

    /// Beyond the bound a connection is closed at once, so that its client tries another member.
    fn admit(
        &self,
        stream: TcpStream,
        listener: &Listener,
        connections: &mut JoinSet<()>,
        stopped: &watch::Receiver<()>,
    ) {
        if let Ok(seat) = Arc::clone(&self.room).try_acquire_owned() {
            let (answer, metrics) = (self.answer.clone(), Arc::clone(&self.metrics));
            let (limits, mut stopped, tls) = (self.limits, stopped.clone(), listener.tls.clone());
            let serve = move |stream: TcpStream| async move {
                // Answers are small and awaited one by one; without this they wait for
                // acknowledgements.
                let ready = stream.set_nodelay(true).is_ok();
                let counted = |stream| Counted { stream, metrics };
                match tls {
                    _ if !ready => {}
                    None => connection(counted(stream), None, answer, limits, stopped).await,
                    Some(tls) => {
                        let accepted = tokio::select! {
                            _ = stopped.changed() => None,
                            accepted = tls.accept(stream, counted) => accepted,
                        };
                        if let Some(stream) = accepted {
                            let certificate = ClientCertificate::of(stream.get_ref().1);
                            connection(stream, certificate, answer, limits, stopped).await;
                        }
                    }
                }
                drop(seat);
            };
            match self.threads.next() {
                None => connections.spawn(serve(stream)),
                Some(runtime) => connections.spawn_on(moved(stream, serve), runtime),
            };
        }
    }
}

/// Takes a connection to the thread that this runs on. One that cannot be taken is closed.
async fn moved<F: Future<Output = ()>>(stream: TcpStream, serve: impl FnOnce(TcpStream) -> F) {
    if let Ok(stream) = stream.into_std().and_then(TcpStream::from_std) {
        serve(stream).await;
    }
}

/// What is known of a connection before anything is read from it.
trait Fresh {
    /// Waits for bytes that were sent and not yet looked at.
    async fn readable(&self) -> io::Result<()>;

    /// Who is at its other end.
    fn from(&self) -> Option<PeerAddress>;
}

impl Fresh for Counted {
    async fn readable(&self) -> io::Result<()> {
        self.stream.readable().await
    }

    fn from(&self) -> Option<PeerAddress> {
        self.stream.peer_addr().ok().map(PeerAddress)
    }
}

impl Fresh for TlsStream<Counted> {
    async fn readable(&self) -> io::Result<()> {
        let (stream, session) = self.get_ref();
        // A request may have come with the end of the handshake.
        if session.wants_read() { stream.readable().await } else { Ok(()) }
    }

    fn from(&self) -> Option<PeerAddress> {
        self.get_ref().0.from()
    }
}

/// Drives one connection to its end. That a client breaks off is its own affair and no error.
async fn connection<S, A, F>(
    stream: S,
    certificate: Option<ClientCertificate>,
    answer: A,
    limits: Limits,
    mut stopped: watch::Receiver<()>,
) where
    S: AsyncRead + AsyncWrite + Fresh + Send + Unpin + 'static,
    A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    tokio::select! {
        _ = stopped.changed() => return,
        spoke = timeout(FIRST_WORD_WITHIN, stream.readable()) => match spoke {
            Ok(Ok(())) => {}
            _ => return,
        }
    }
    let builder = protocols(limits);
    let from = stream.from();
    let room = Arc::new(Room::new(limits.connection_bytes_max));
    let answer = service_fn(move |mut request: Request<Incoming>| {
        if let Some(from) = from {
            request.extensions_mut().insert(from);
        }
        if let Some(certificate) = &certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        request.extensions_mut().insert(Arc::clone(&room));
        answer(request)
    });
    let mut served = pin!(builder.serve_connection(TokioIo::new(Tolerant::new(stream)), answer));
    tokio::select! {
        _ = served.as_mut() => return,
        _ = stopped.changed() => {}
    }
    served.as_mut().graceful_shutdown();
    // Its outcome concerns only this client, see above.
    let _ = served.await;
}

fn protocols(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(FIRST_WORD_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(limits.ping_every)
        .keep_alive_timeout(limits.pong_within)
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        // No gRPC client looks at a date.
        .auto_date_header(false);
    builder
}

/// A connection whose bytes are counted.
struct Counted {
    stream: TcpStream,
    metrics: Arc<Metrics>,
}

impl Socket for Counted {
    fn tcp(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, into);
        let count = into.filled().len() - before;
        self.metrics.clients.received_bytes.add(count as u64);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.sent(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.sent(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Counted {
    fn sent(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = &polled {
            self.metrics.clients.sent_bytes.add(*count as u64);
        }
        polled
    }
}

/// True for the errors of one connection and for shortages that end; false if the listener itself
/// is no good.
fn passes(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::NotConnected)
}

#[cfg(test)]
mod tests {
    use super::{ServeError, Threads, serve};
    use crate::api::{Limits, http};
    use crate::config::Config;
    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use std::convert::Infallible;
    use std::future::{Future, pending};
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::{Duration, Instant};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;
    use tokio::time::sleep;
    use tonic::body::Body;
    use tonic::codegen::Service;

    const VERSION_REQUEST: &[u8] = b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

    fn limits() -> Limits {
        Limits::from(&Config::default())
    }

    /// A served port, stopped by a message or by dropping this.
    struct Port {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        served: JoinHandle<Result<(), ServeError>>,
    }

    async fn open<A, F>(limits: Limits, answer: A) -> Port
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        open_on(0, limits, answer).await
    }

    async fn open_on<A, F>(threads: usize, limits: Limits, answer: A) -> Port
    where
        A: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let threads = Threads::start(threads).expect("threads");
        let served = tokio::spawn(serve(
            answer,
            vec![listener.into()],
            threads,
            limits,
            Arc::default(),
            shutdown,
        ));
        Port { address, stop, served }
    }

    /// The part of the HTTP side which needs no replica.
    async fn plain(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let response = http::plain().call(request.map(axum::body::Body::new)).await?;
        Ok(response.map(Body::new))
    }

    /// What the server says until it closes the connection.
    async fn say(address: SocketAddr, words: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.write_all(words).await.expect("sends");
        let mut answer = Vec::new();
        // A reset instead of an orderly end is an end too.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn the_version_is_told_over_plain_http() {
        let port = open(limits(), plain).await;
        let answer = say(port.address, VERSION_REQUEST).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");
        let json = r#"{"etcdserver":"3.5.17","etcdcluster":"3.5.0","quorate":"0.1.0"}"#;
        assert!(answer.ends_with(json), "{answer}");
    }

    #[tokio::test]
    async fn threads_of_their_own_serve_connections_alike() {
        let port = open_on(2, limits(), plain).await;
        for _ in 0..3 {
            let answer = say(port.address, VERSION_REQUEST).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
        port.stop.send(()).expect("it listens");
        port.served.await.expect("no panic").expect("an orderly end");
    }

    #[tokio::test]
    async fn an_unknown_path_is_a_plain_404() {
        let port = open(limits(), plain).await;
        let request = b"GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        let answer = say(port.address, request).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n404 page not found\n"), "{answer}");
    }

    #[tokio::test]
    async fn malformed_bytes_end_their_connection_and_nothing_else() {
        let port = open(limits(), plain).await;
        let garbage: [&[u8]; 4] = [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS greeting",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and no frame at all follows",
            b"GET",
            b"\0\0\0\0\0\0\0\0\r\n\r\n",
        ];
        for words in garbage {
            let mut stream = TcpStream::connect(port.address).await.expect("connects");
            stream.write_all(words).await.expect("sends");
            stream.shutdown().await.expect("ends");
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(!answer.starts_with(b"HTTP/1.1 200"), "{words:?}");
        }
        assert!(say(port.address, VERSION_REQUEST).await.contains("200 OK"));
    }

    #[tokio::test]
    async fn a_connection_beyond_the_bound_is_closed_at_once() {
        let limits = Limits { connections_max: 1, ..limits() };
        let port = open(limits, plain).await;
        let mut first = TcpStream::connect(port.address).await.expect("connects");
        sleep(Duration::from_millis(50)).await;
        assert_eq!(say(port.address, VERSION_REQUEST).await, "");
        first.write_all(VERSION_REQUEST).await.expect("sends");
        let mut answer = String::new();
        first.read_to_string(&mut answer).await.expect("an answer");
        assert!(answer.contains("200 OK"), "{answer}");
        drop(first);
        sleep(Duration::from_millis(50)).await;
        assert!(say(port.address, VERSION_REQUEST).await.contains("200 OK"), "the seat is free");
    }

    #[tokio::test]
    async fn stopping_finishes_what_has_begun_and_accepts_nothing_new() {
        let slow = |request| async {
            sleep(Duration::from_millis(200)).await;
            plain(request).await
        };
        let port = open(limits(), slow).await;
        let begun = tokio::spawn(async move { say(port.address, VERSION_REQUEST).await });
        sleep(Duration::from_millis(50)).await;
        port.stop.send(()).expect("serving");
        sleep(Duration::from_millis(50)).await;
        assert!(TcpStream::connect(port.address).await.is_err());
        assert!(begun.await.expect("no panic").contains("200 OK"));
        port.served.await.expect("no panic").expect("ends well");
    }

    #[tokio::test]
    async fn stopping_cuts_what_does_not_finish_in_time() {
        let limits = Limits { drain: Duration::from_millis(100), ..limits() };
        let port = open(limits, |_| pending()).await;
        let begun = tokio::spawn(async move { say(port.address, VERSION_REQUEST).await });
        sleep(Duration::from_millis(50)).await;
        let stopping = Instant::now();
        port.stop.send(()).expect("serving");
        port.served.await.expect("no panic").expect("ends well");
        assert!(stopping.elapsed() >= Duration::from_millis(100), "it was given its time");
        assert!(stopping.elapsed() < Duration::from_secs(2));
        assert_eq!(begun.await.expect("no panic"), "");
    }

    #[tokio::test]
    async fn an_idle_connection_does_not_hold_stopping_up() {
        let port = open(limits(), plain).await;
        let _idle = TcpStream::connect(port.address).await.expect("connects");
        sleep(Duration::from_millis(50)).await;
        let stopping = Instant::now();
        port.stop.send(()).expect("serving");
        port.served.await.expect("no panic").expect("ends well");
        assert!(stopping.elapsed() < Duration::from_millis(500));
    }

    #[tokio::test]
    async fn nothing_to_listen_on_is_an_error() {
        let outcome =
            serve(plain, Vec::new(), Threads::default(), limits(), Arc::default(), pending()).await;
        assert!(matches!(outcome, Err(ServeError::NoListener)));
    }
}
