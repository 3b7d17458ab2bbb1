//! From a connection to a stream that is encrypted, or to a line in the log that says why not.
//!
//! Who speaks without TLS to a port that wants it is told so in its own words: HTTP/1 by an answer
//! with status 400, HTTP/2 (and gRPC) by a GOAWAY with the reason, a peer by a refusal. An end that
//! comes with unread bytes would reach the other side as a reset, and the reason not at all; so the
//! stream is closed on our side first, and read for a moment.

use super::complaints::Complaints;
use super::files::Facts;
use super::gauges::Gauges;
use super::handshakes::Handshakes;
use super::keeper::{Door, Keeper};
use super::reason::{Failure, Reason};
use rustls::ServerConfig;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// First byte of a TLS record that begins a handshake.
const HANDSHAKE_RECORD: u8 = 0x16;

/// So long the other side may take to read why it was refused.
const LINGER: Duration = Duration::from_secs(1);

/// What is read of it meanwhile. Unit: bytes.
const LINGER_BYTES_MAX: u64 = 256 * 1024;

/// Names of a certificate that are looked up.
const NAMES_MAX: usize = 16;

/// Each of them within this time.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// Said to HTTP/1 without TLS, as Go's servers do.
const HTTP_ANSWER: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS \
    server: write https://\n";

/// Said to HTTP/2 without TLS.
const GOAWAY_TEXT: &[u8] = b"this port speaks TLS only: write https://";

/// INADEQUATE_SECURITY, RFC 9113, section 7.
const INADEQUATE_SECURITY: u32 = 0xc;

/// Something around a socket.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The socket in it.
    fn tcp(&mut self) -> &mut TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&mut self) -> &mut TcpStream {
        self
    }
}

/// Where connections come from.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The port.
    pub(crate) tcp: TcpListener,
    /// What takes the TLS off; none if there is no TLS.
    pub(crate) tls: Option<Arc<Terminator>>,
}

impl From<TcpListener> for Listener {
    /// Without TLS.
    fn from(tcp: TcpListener) -> Listener {
        Listener { tcp, tls: None }
    }
}

/// Takes the TLS off connections of one listener.
#[derive(Debug)]
pub(crate) struct Terminator {
    keeper: Arc<Keeper>,
    handshakes: Handshakes,
    gauges: Arc<Gauges>,
    complaints: Complaints,
    /// Said to who speaks neither TLS nor HTTP.
    otherwise: Vec<u8>,
}

impl Terminator {
    /// Errors: there is no thread to be had.
    pub(crate) fn new(
        keeper: Arc<Keeper>,
        gauges: Arc<Gauges>,
        otherwise: Vec<u8>,
    ) -> io::Result<Terminator> {
        let handshakes = Handshakes::start(keeper.door().name())?;
        Ok(Terminator { keeper, handshakes, gauges, complaints: Complaints::new(), otherwise })
    }

    /// Shakes hands, on the thread for that; the stream belongs to the caller's thread afterwards.
    /// `None` if it failed: then it has been told and counted.
    pub(crate) async fn accept<S: Socket>(
        &self,
        stream: TcpStream,
        wrap: impl FnOnce(TcpStream) -> S + Send + 'static,
    ) -> Option<TlsStream<S>> {
        let address = stream.peer_addr().ok();
        let accepted = self.shake(stream, wrap).await;
        let accepted = match accepted {
            Ok(mut stream) => match self.check(&mut stream, address.map(|at| at.ip())).await {
                Ok(()) => Ok(stream),
                Err(failure) => Err(failure),
            },
            Err(failure) => Err(failure),
        };
        match accepted {
            Ok(stream) => {
                self.gauges.of(self.keeper.door()).shaken.add(1);
                Some(stream)
            }
            Err(failure) => {
                let address = address.map_or_else(|| "?".to_owned(), |at| at.to_string());
                self.complain(&address, &failure);
                None
            }
        }
    }

    async fn shake<S: Socket>(
        &self,
        stream: TcpStream,
        wrap: impl FnOnce(TcpStream) -> S + Send + 'static,
    ) -> Result<TlsStream<S>, Failure> {
        let (config, otherwise) = (self.keeper.server(), self.otherwise.clone());
        let stream = stream.into_std()?;
        let handshake = async move {
            let stream = TcpStream::from_std(stream)?;
            shake(stream, wrap, config, &otherwise).await
        };
        let mut stream = self.handshakes.run(handshake).await?;
        adopt(stream.get_mut().0.tcp())?;
        Ok(stream)
    }

    /// What etcd checks of peers beyond the handshake: whether they call from where their
    /// certificate says they are.
    async fn check<S>(
        &self,
        stream: &mut TlsStream<S>,
        from: Option<IpAddr>,
    ) -> Result<(), Failure> {
        let side = self.keeper.side();
        if self.keeper.door() == Door::Client || side.skip_client_san_verification {
            return Ok(());
        }
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let (Some(certificate), Some(from)) = (certificate, from) else { return Ok(()) };
        let facts = Facts::of(certificate).map_err(|why| Failure::new(Reason::Certificate, why))?;
        comes_from(&facts, from.to_canonical()).await
    }

    fn complain(&self, address: &str, failure: &Failure) {
        let door = self.keeper.door();
        self.gauges.of(door).fail(failure.reason);
        // Probes of load balancers connect and go.
        if failure.reason == Reason::HungUp {
            tracing::debug!(listener = door.name(), address, "{failure}");
        } else if let Some(unsaid) = self.complaints.may_say(Instant::now()) {
            tracing::warn!(
                listener = door.name(),
                address,
                reason = failure.reason.label(),
                unsaid,
                "rejected a connection: {failure}"
            );
        }
    }
}

async fn shake<S: Socket>(
    stream: TcpStream,
    wrap: impl FnOnce(TcpStream) -> S,
    config: Arc<ServerConfig>,
    otherwise: &[u8],
) -> Result<TlsStream<S>, Failure> {
    let mut first = [0; 8];
    let seen = stream.peek(&mut first).await?;
    if seen == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    if first[0] != HANDSHAKE_RECORD {
        let (answer, what) = match &first[..seen] {
            [b'P', b'R', b'I', ..] => (goaway(), "HTTP/2 (gRPC)"),
            [b'A'..=b'Z', b'A'..=b'Z', ..] => (HTTP_ANSWER.to_vec(), "HTTP"),
            _ => (otherwise.to_vec(), "something"),
        };
        let mut stream = stream;
        let told = stream.write_all(&answer).await;
        if told.is_ok() {
            linger(stream).await;
        }
        let text = format!("it speaks {what} without TLS to a port that wants TLS (https://)");
        return Err(Failure::new(Reason::Plaintext, text));
    }
    let accepting = TlsAcceptor::from(config).accept(wrap(stream)).into_fallible();
    match accepting.await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            let failure = Failure::from(error);
            if failure.reason != Reason::HungUp {
                linger(stream).await;
            }
            Err(failure)
        }
    }
}

/// Ends a stream so that what was written to it arrives.
pub(crate) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let ending = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES_MAX), &mut tokio::io::sink()).await
    };
    let _ = timeout(LINGER, ending).await; // It was told, or will not listen.
}

/// An empty SETTINGS and a GOAWAY. Source: RFC 9113, sections 6.5 and 6.8.
fn goaway() -> Vec<u8> {
    let mut frames = vec![0, 0, 0, 0x4, 0, 0, 0, 0, 0];
    frames.extend([0, 0, 8 + GOAWAY_TEXT.len() as u8, 0x7, 0, 0, 0, 0, 0]);
    frames.extend([0; 4]); // No stream was looked at.
    frames.extend(INADEQUATE_SECURITY.to_be_bytes());
    frames.extend(GOAWAY_TEXT);
    frames
}

/// Registers a socket with the thread that this runs on.
fn adopt(stream: &mut TcpStream) -> io::Result<()> {
    use std::os::fd::AsFd as _;
    let same = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    *stream = TcpStream::from_std(same)?;
    Ok(())
}

/// Errors: the certificate has names, and none of them is that address.
///
/// Source: etcd `client/pkg/transport/listener_tls.go` (checkCertSAN). A name with a wildcard can
/// not be looked up and lets nobody in here, where etcd asks which name the address has.
async fn comes_from(facts: &Facts, from: IpAddr) -> Result<(), Failure> {
    let unnamed = facts.addresses.is_empty() && facts.dns_names.is_empty();
    if unnamed || facts.addresses.iter().any(|address| address.to_canonical() == from) {
        return Ok(());
    }
    for name in facts.dns_names.iter().filter(|name| !name.contains('*')).take(NAMES_MAX) {
        let looking = timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((name.as_str(), 0)));
        let Ok(Ok(addresses)) = looking.await else { continue };
        if addresses.into_iter().any(|address| address.ip().to_canonical() == from) {
            return Ok(());
        }
    }
    let text = format!(
        "it calls from {from}, and its certificate is good for {}; issue it for that address, or \
         set --peer-skip-client-san-verification",
        facts.names().escape_default()
    );
    Err(Failure::new(Reason::Name, text))
}
