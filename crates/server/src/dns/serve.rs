//! Sockets, and the way from a query to its answer.

use super::answer::{Reading, Response, Terse, Transport, read};
use super::counts::{DnsCounts, Dropped};
use super::leases::Leases;
use super::limit::{Limiter, Verdict};
use super::view::StoreView;
use super::zone::Zone;
use super::{CONNECTIONS_MAX, DnsAccess, DnsSettings, QUERIES_MAX, WhenStale, own_addresses};
use crate::config::{Config, ConfigError};
use crate::handle::{Consistency, Handle};
use crate::host::Snapshot;
use crate::run::RunError;
use std::cell::RefCell;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net;
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep, timeout};

/// A longer query is none: no question needs so much. Unit: bytes.
const QUERY_BYTES_MAX: usize = 4_096;
/// How long a proof of freshness is waited for.
const PROOF_WITHIN: Duration = Duration::from_secs(1);
/// How long a connection may be silent, or be slow to take an answer. RFC 7766, section 6.2.3.
const SILENT_MAX: Duration = Duration::from_secs(10);
/// How long a connection may last.
const CONNECTION_MAX: Duration = Duration::from_secs(120);
/// An answer that is too old may be kept so long. Unit: seconds.
const STALE_TTL: u32 = 1;
/// Pause after the system has refused a connection, which may be for want of descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// The sockets, before anything is answered.
#[derive(Debug)]
pub(crate) struct Sockets {
    settings: DnsSettings,
    zone: Zone,
    both: Vec<(UdpSocket, TcpListener)>,
}

/// The server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Dns {
    /// Dropped to tell the thread.
    _end: oneshot::Sender<()>,
}

/// What every query needs.
struct Server {
    handle: Handle,
    settings: DnsSettings,
    zone: Zone,
    leases: Arc<Leases>,
    counts: Arc<DnsCounts>,
    /// Another number for each answer.
    turn: AtomicU64,
}

impl Dns {
    /// Binds what the configuration says, if it says anything.
    ///
    /// Errors: an address cannot be listened on.
    pub(crate) fn bind(config: &Config) -> Result<Option<Sockets>, RunError> {
        let Some(settings) = config.dns.clone() else { return Ok(None) };
        let zone = settings.zone(own_addresses(config, &settings));
        let none = || ConfigError::DnsZone { zone: settings.zone.clone() };
        let zone = zone.ok_or_else(|| RunError::Config(none()))?;
        let bind = |address: &SocketAddr| {
            let both = both(*address);
            both.map_err(|error| RunError::Bind { address: *address, error })
        };
        let both = settings.listen.iter().map(bind).collect::<Result<_, _>>()?;
        Ok(Some(Sockets { settings, zone, both }))
    }

    /// Answers from now on.
    ///
    /// Errors: the system has no thread for it.
    pub(crate) fn start(sockets: Option<Sockets>, handle: Handle) -> Result<Option<Dns>, RunError> {
        let Some(Sockets { settings, zone, both }) = sockets else { return Ok(None) };
        let counts = Arc::clone(&handle.metrics().dns);
        let (listen, origin) = (settings.listen.clone(), settings.zone.clone());
        tracing::info!(?listen, zone = origin, prefix = settings.prefix, "answering DNS");
        let (leases, turn) = (Arc::new(Leases::new()), AtomicU64::new(0));
        let server = Arc::new(Server { handle, settings, zone, leases, counts, turn });
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(RunError::System)?;
        let (end, ended) = oneshot::channel::<()>();
        let body = move || {
            runtime.block_on(async {
                for (udp, tcp) in both {
                    tokio::spawn(Arc::clone(&server).datagrams(udp));
                    tokio::spawn(Arc::clone(&server).connections(tcp));
                }
                let _ = ended.await; // Never sent: it ends by the sender's end.
            });
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("dns".to_owned()).spawn(body);
        thread.map_err(RunError::System)?;
        Ok(Some(Dns { _end: end }))
    }
}

/// Both sockets of one address.
fn both(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let tcp = TcpListener::bind(address)?;
    // A port that the system chose is the same for both.
    let udp = UdpSocket::bind(tcp.local_addr()?)?;
    tcp.set_nonblocking(true)?;
    udp.set_nonblocking(true)?;
    Ok((udp, tcp))
}

impl Server {
    async fn datagrams(self: Arc<Server>, socket: UdpSocket) {
        let socket = match net::UdpSocket::from_std(socket) {
            Ok(socket) => Arc::new(socket),
            Err(error) => return tracing::error!(%error, "DNS is not answered over UDP"),
        };
        let mut limiter = Limiter::new(self.settings.rate);
        let (begun, queries) = (Instant::now(), Arc::new(Semaphore::new(QUERIES_MAX)));
        let mut buffer = vec![0; QUERY_BYTES_MAX];
        loop {
            // An error is that of an earlier answer, which somebody did not want.
            let Ok((length, source)) = socket.recv_from(&mut buffer).await else { continue };
            let verdict = limiter.judge(source.ip(), begun.elapsed().as_secs());
            if verdict == Verdict::Drop {
                self.counts.drop_one(Dropped::Rate);
                continue;
            }
            let Ok(permit) = Arc::clone(&queries).try_acquire_owned() else {
                self.counts.drop_one(Dropped::Busy);
                continue;
            };
            let (query, server) = (buffer[..length].to_vec(), Arc::clone(&self));
            let socket = Arc::clone(&socket);
            tokio::spawn(async move {
                let _permit = permit;
                if let Some(response) = server.respond(&query, Transport::Udp, verdict).await {
                    // Who asked may be gone.
                    let _ = socket.send_to(&response.bytes, source).await;
                }
            });
        }
    }

    async fn connections(self: Arc<Server>, listener: TcpListener) {
        let listener = match net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => return tracing::error!(%error, "DNS is not answered over TCP"),
        };
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(REFUSED_PAUSE).await;
                continue;
            };
            let Ok(permit) = Arc::clone(&connections).try_acquire_owned() else {
                self.counts.drop_one(Dropped::Busy);
                continue; // And closed.
            };
            let server = Arc::clone(&self);
            tokio::spawn(async move {
                let _permit = permit;
                // However it ends, it has ended.
                let _ = timeout(CONNECTION_MAX, server.converse(stream)).await;
            });
        }
    }

    /// One query after the other, each after its length. RFC 1035, section 4.2.2.
    async fn converse(&self, mut stream: net::TcpStream) -> io::Result<()> {
        loop {
            let query = timeout(SILENT_MAX, async {
                let length = usize::from(stream.read_u16().await?);
                if length > QUERY_BYTES_MAX {
                    self.counts.drop_one(Dropped::Malformed);
                    return Err(io::ErrorKind::InvalidData.into());
                }
                let mut query = vec![0; length];
                stream.read_exact(&mut query).await?;
                Ok::<_, io::Error>(query)
            });
            let query = query.await??;
            let answer = self.respond(&query, Transport::Tcp, Verdict::Answer).await;
            let Some(Response { bytes, .. }) = answer else { return Ok(()) };
            let length = u16::try_from(bytes.len()).expect("a message is shorter than 64 KiB");
            let framed = [&length.to_be_bytes()[..], &bytes].concat();
            timeout(SILENT_MAX, stream.write_all(&framed)).await??;
        }
    }

    async fn respond(
        &self,
        query: &[u8],
        transport: Transport,
        verdict: Verdict,
    ) -> Option<Response> {
        let response = match read(query, transport, &self.zone) {
            Reading::Nothing => {
                self.counts.drop_one(Dropped::Malformed);
                return None;
            }
            Reading::Answer(response) => response,
            Reading::Ask(question) if verdict == Verdict::Slip => question.truncate(),
            Reading::Ask(question) if !self.is_open() => question.refuse(),
            Reading::Ask(question) => match self.snapshot().await {
                None => question.fail(),
                Some((snapshot, ttl)) => {
                    let view = StoreView {
                        store: &snapshot.store,
                        directory: &self.zone.directory,
                        leases: &self.leases,
                        enough: ttl,
                        now: Instant::now(),
                        wanted: RefCell::default(),
                    };
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                    let response = question.answer(&self.zone, &view, Terse { ttl, turn });
                    for lease in view.wanted.take() {
                        self.leases.ask(&self.handle, lease);
                    }
                    response
                }
            },
        };
        self.counts.count(&response);
        Some(response)
    }

    /// Whether everybody may ask.
    fn is_open(&self) -> bool {
        let is_guarded = self.handle.auth_is_behind() || self.handle.auth_if_enabled().is_some();
        !is_guarded || self.settings.access == DnsAccess::Public
    }

    /// The store, fresh enough, and how long an answer from it may be kept.
    async fn snapshot(&self) -> Option<(Snapshot, u32)> {
        if self.handle.is_witness() {
            return None; // It keeps no store: what it lacks is not what is not.
        }
        let at_most = self.settings.max_stale;
        let fresh = self.handle.snapshot(Consistency::Bounded { at_most });
        if let Ok(Ok(snapshot)) = timeout(PROOF_WITHIN, fresh).await {
            let ttl = u32::try_from(self.settings.ttl.as_secs()).unwrap_or(u32::MAX);
            return Some((snapshot, ttl));
        }
        if self.settings.when_stale == WhenStale::Fail {
            return None;
        }
        let stale = self.handle.snapshot(Consistency::Serializable);
        let snapshot = timeout(PROOF_WITHIN, stale).await.ok()?.ok()?;
        self.counts.count_stale();
        Some((snapshot, STALE_TTL))
    }
}
