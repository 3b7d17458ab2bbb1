//! One member, from its configuration to its end.

use crate::api;
use crate::clock_rate;
use crate::config::{ClusterState, Config, ConfigError, MetricsDetail};
use crate::guarantees::{self, Guard};
use crate::handle::{Handle, Member};
use crate::host::{Ask, ReplicaHost, Reply, Shared};
use crate::identity::{Identity, IdentityError, random};
use crate::peers;
use crate::peers::bulk::CheckpointDesk;
use crate::peers::{DiskLost, Neighbours, Peers, Profile, Receive, Roster};
use crate::recover::{self, Found, Home, RecoverError, ReplicaSettings};
use crate::timekeeping::Timekeeper;
use crate::tls::{self, Door, Listener, OwnError, Secured};
use crate::upkeep;
use crate::url::{Url, UrlError};
use crate::wal_log::WalLog;
use crate::witness::{Clue, ExitNotice, Notices};
use quorate_core::{NodeId, Time};
use quorate_drivers::live::{Inbox, InboxLimits, Live, LogThread, Stopped};
use quorate_protocols::consensus::raft::LeaseTerms;
use quorate_protocols::time::synchronizer::Message as TimeMessage;
use quorate_replica::{Life, Message, Replica};
use quorate_storage::RealDisk;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle, yield_now};
use tokio::time::{Instant, sleep};

/// A stopping leader waits so long for its successor.
const STEP_ASIDE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a member that waits for its peers says so.
const WAITING_NOTICE: Duration = Duration::from_secs(5);

/// Why a member could not start, or had to stop.
#[derive(Debug)]
pub enum RunError {
    /// A URL that cannot be listened on.
    Url(UrlError),
    /// A port is taken, or the address is not ours.
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
    /// The data directory cannot be used.
    Identity(IdentityError),
    /// The log or the checkpoints cannot be used.
    Recover(RecoverError),
    /// Peers remember this member with another disk.
    DiskLost(DiskLost),
    /// The configuration contradicts itself.
    Config(ConfigError),
    /// TLS cannot be set up.
    Tls(OwnError),
    /// A member without data is to join a running cluster.
    JoinUnsupported,
    /// The operating system refuses something that we need.
    System(io::Error),
    /// The log could not be written. Nothing that was not on disk was acknowledged.
    LogFailed {
        /// What failed.
        why: String,
    },
    /// An assertion failed: the member stopped rather than go on with a broken state.
    Broken,
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Url(error) => error.fmt(f),
            RunError::Bind { address, error } => write!(
                f,
                "cannot listen on {address}: {error}; is another process using the port? \
                 (`ss -ltnp` shows it)"
            ),
            RunError::Identity(error) => error.fmt(f),
            RunError::Recover(error) => error.fmt(f),
            RunError::DiskLost(lost) => lost.fmt(f),
            RunError::Config(error) => error.fmt(f),
            RunError::Tls(error) => error.fmt(f),
            RunError::JoinUnsupported => f.write_str(
                "--initial-cluster-state=existing without data: if this member had some, bring its \
                 disk back. Joining a running cluster is not supported yet; only where none of the \
                 members ever had data, start all of them with --initial-cluster-state=new",
            ),
            RunError::System(error) => write!(f, "the operating system refuses: {error}"),
            RunError::LogFailed { why } => write!(
                f,
                "the log could not be written: {why}; nothing unwritten was acknowledged. Look at \
                 the disk, then start the member again"
            ),
            RunError::Broken => f.write_str(
                "an internal check failed and the member stopped; the log says which. Its data is \
                 as it was before",
            ),
        }
    }
}

impl std::error::Error for RunError {}

impl From<IdentityError> for RunError {
    fn from(error: IdentityError) -> RunError {
        RunError::Identity(error)
    }
}

impl From<RecoverError> for RunError {
    fn from(error: RecoverError) -> RunError {
        RunError::Recover(error)
    }
}

/// Runs a member until it is told to stop (SIGTERM, SIGINT) or cannot go on.
///
/// `notices` are those of its supervisor, if it has one that sends some.
///
/// Errors: see [`RunError`]; each says what to do next.
pub fn run(config: Config, notices: Notices) -> Result<(), RunError> {
    // The replica, its peers and its clients share one thread: a request that changes hands between
    // threads costs two wake-ups, which is more than everything else that is done for it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("blocking")
        .build()
        .map_err(RunError::System)?;
    let outcome = runtime.block_on(run_member(config, notices));
    // Connections that do not end by themselves must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    outcome
}

async fn run_member(config: Config, notices: Notices) -> Result<(), RunError> {
    let mut signals = Signals::new().map_err(RunError::System)?;
    let dir = config.data_dir.join("member");
    let (cluster, me) = (config.cluster_id(), config.member_id());
    config.validate().map_err(RunError::Config)?;
    config.verify_bootstrap().map_err(RunError::Config)?;
    tell_what_has_no_effect(&config);
    let gauges = Arc::default();
    let tls = Tls::open(&config, &gauges)?;
    let mut identity = Identity::open(&dir, cluster, me)?;
    if !identity.admitted && config.initial_cluster_state == ClusterState::Existing {
        return Err(RunError::JoinUnsupported);
    }
    let client_listeners = bind(&config.listen_client_urls, &tls.client).await?;
    let metrics_listeners = bind(&config.listen_metrics_urls, &tls.client).await?;
    let peer_listeners = bind(&config.listen_peer_urls, &tls.peer).await?;
    let home = Home::of(&dir, &config, &identity);
    let found = recover::open(RealDisk, &home)?;
    let Found { wal, checkpoints, checkpoint, damaged_checkpoints, records } = found;
    let inbox = Arc::new(Inbox::new(InboxLimits::default()));
    let life = Life(random().map_err(RunError::System)?);
    let members = members(&config);
    let time = Arc::new(Timekeeper::new(&config));
    let (inboxed, kept) = (Arc::clone(&inbox), Arc::clone(&time));
    let shared = Arc::new(Shared::new(cluster, me, life, members, inboxed, kept, gauges));
    shared.damaged_checkpoints.store(damaged_checkpoints as u64, Ordering::Relaxed);
    let desk = Arc::new(CheckpointDesk::new(checkpoints));
    let receiver = Receiver { shared: Arc::clone(&shared), desk: Arc::clone(&desk) };
    let roster = open_roster(&dir, me, identity.data)?;
    let neighbours = neighbours(&config, &identity, tls.peer);
    let peers = Peers::start(neighbours, roster, peer_listeners, Box::new(receiver));
    time.start(peers.links(), Arc::clone(&shared.metrics));
    desk.connect(tokio::runtime::Handle::current(), peers.shared(), Arc::clone(&shared));

    if !identity.admitted {
        tokio::select! {
            met = meet_the_cluster(&config, &peers) => met?,
            () = signals.any() => return Ok(()),
        }
        identity.admit(&dir)?;
    }

    let log = WalLog::new(wal, Arc::clone(&shared.metrics));
    let log = LogThread::start(log, Arc::clone(&inbox)).map_err(RunError::System)?;
    let host = ReplicaHost::new(
        Arc::clone(&shared),
        peers.links(),
        log.handle(),
        Arc::clone(&desk),
        config.checkpoint_bytes,
    );
    let replica_config = replica_settings(&config).replica(life, checkpoint);
    let node = recover::restore(&replica_config, records)?;
    drop(replica_config);
    let live = Live::new(NodeId(me), node, host, Arc::clone(&inbox), log.handle(), life.0);
    shared.set_guard(Guard::new(&config, live.pulse(), log.handle()));
    let mut ended = tokio::spawn(run_loop(live, Arc::clone(&inbox)));

    let handle = Handle::new(Arc::clone(&shared));
    let (stop_api, serving) = open_ports(&config, &handle, client_listeners, metrics_listeners)?;
    tokio::spawn(announce(Arc::clone(&shared), config.clone()));
    upkeep::start(&shared, &config);
    guarantees::start(&shared).map_err(RunError::System)?;
    if config.lease_reads {
        tokio::spawn(clock_rate::watch(Arc::downgrade(&shared)));
    }
    spawn_watch_hub(&shared, config.election_timeout);
    tokio::spawn(take_notices(notices, Arc::clone(&shared), config.initial_members()));

    let outcome = tokio::select! {
        () = signals.any() => Ok(()),
        lost = peers.failed() => Err(RunError::DiskLost(lost)),
        stopped = &mut ended => Err(broken(stopped)),
    };
    if outcome.is_ok() {
        tracing::info!("stopping: handing leadership over");
        step_aside(&shared).await;
        shared.watch.stop();
        // Requests that still wait end with the loop; nothing new is taken.
        let _ = stop_api.send(());
        let _ = tokio::time::timeout(STEP_ASIDE_TIMEOUT, serving).await;
        inbox.stop();
        let _ = tokio::time::timeout(STEP_ASIDE_TIMEOUT, ended).await;
    }
    peers.say_goodbye();
    // Ends the log thread after a last sync, and settles the log.
    let _ = tokio::task::spawn_blocking(|| drop(log)).await; // A panic of it was told to the loop.
    tracing::info!("stopped");
    outcome
}

/// The tasks that mark what watchers have to be told; they end with the runtime.
fn spawn_watch_hub(shared: &Arc<Shared>, election_timeout: Duration) {
    let hub = Arc::clone(&shared.watch);
    tokio::spawn(async move { hub.run().await });
    let (hub, leader) = (Arc::clone(&shared.watch), shared.leader());
    tokio::spawn(async move { hub.follow_leader(leader, 3 * election_timeout).await });
}

/// Follows what a supervisor sees of the other members.
async fn take_notices(mut notices: Notices, shared: Arc<Shared>, members: BTreeMap<u64, String>) {
    while let Some(ExitNotice { member, at }) = notices.next().await {
        let Some((id, _)) = members.iter().find(|(_, name)| **name == member) else { continue };
        let at = Time::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
        shared.saw(NodeId(*id), Clue::Exited { at });
    }
}

/// Serves metrics and health on addresses of their own. It ends with the runtime: monitors may
/// watch a member to its end.
fn serve_monitors(
    handle: &Handle,
    calls: Arc<api::Calls>,
    listeners: Vec<Listener>,
    limits: api::Limits,
) {
    if !listeners.is_empty() {
        let forever = std::future::pending();
        tokio::spawn(api::serve_http(handle.clone(), calls, listeners, limits, forever));
    }
}

/// The client port, until it is closed.
type Serving = JoinHandle<Result<(), api::ServeError>>;

/// Serves clients until told to stop, and monitors to the end.
fn open_ports(
    config: &Config,
    handle: &Handle,
    clients: Vec<Listener>,
    monitors: Vec<Listener>,
) -> Result<(oneshot::Sender<()>, Serving), RunError> {
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await; // An end of the sender is an end as well.
    };
    let limits = api::Limits::from(config);
    let calls = Arc::new(api::Calls::new(config.metrics == MetricsDetail::Extensive));
    let threads = client_threads(config)?;
    let serving = api::serve(handle.clone(), Arc::clone(&calls), clients, threads, limits, stopped);
    let serving = tokio::spawn(serving);
    serve_monitors(handle, calls, monitors, limits);
    Ok((stop, serving))
}

fn client_threads(config: &Config) -> Result<api::Threads, RunError> {
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let count = config.client_threads.unwrap_or_else(|| api::Threads::usual(processors()));
    api::Threads::start(count).map_err(RunError::System)
}

fn broken(stopped: Result<Stopped, JoinError>) -> RunError {
    match stopped {
        Ok(Stopped::LogFailed { why }) => RunError::LogFailed { why },
        Ok(Stopped::Asked) | Err(_) => RunError::Broken,
    }
}

/// The loop of the replica as one task among those of the sockets.
async fn run_loop(
    mut live: Live<Replica, ReplicaHost>,
    inbox: Arc<Inbox<Message, Ask>>,
) -> Stopped {
    live.start();
    let mut alarm = pin!(sleep(Duration::ZERO));
    loop {
        alarm.as_mut().reset(Instant::now() + live.until_next_timer());
        let mut waited = false;
        poll_fn(|cx| {
            let poll = inbox.poll_arrived(cx);
            if poll.is_pending() {
                waited = true;
                return alarm.as_mut().poll(cx);
            }
            poll
        })
        .await;
        if !waited {
            yield_now().await; // The sockets come first, so that a turn is for all of them.
        }
        if let Some(stopped) = live.turn() {
            return stopped;
        }
    }
}

fn replica_settings(config: &Config) -> ReplicaSettings {
    ReplicaSettings {
        me: NodeId(config.member_id()),
        voters: config.initial_members().into_keys().map(NodeId).collect(),
        heartbeat_interval: config.heartbeat_interval,
        election_timeout: config.election_timeout,
        election_timeout_min: config.election_timeout_min(),
        log_retain_bytes: config.log_retain_bytes,
        lease_reads: config.lease_reads.then(|| LeaseTerms {
            length: config.election_timeout_min(),
            drift_ppm: clock_rate::DRIFT_PPM,
        }),
        buggify: quorate_core::Buggify::Off,
    }
}

/// A new directory is taken into service only after a majority has seen its data id.
async fn meet_the_cluster(config: &Config, peers: &Peers) -> Result<(), RunError> {
    let others = config.initial_members().len() / 2; // With ourselves a majority.
    if others == 0 {
        return Ok(());
    }
    tracing::info!(others, "a new data directory: waiting for a majority of members to meet it");
    let mut notice = tokio::time::interval(WAITING_NOTICE);
    notice.tick().await;
    loop {
        tokio::select! {
            met = peers.greet(others) => return met.map_err(RunError::DiskLost),
            _ = notice.tick() => tracing::warn!(
                "still waiting for a majority; start the other members, or compare \
                 --initial-cluster"
            ),
        }
    }
}

fn open_roster(dir: &std::path::Path, me: u64, data: u64) -> Result<Roster, RunError> {
    Roster::open(dir, NodeId(me), data)
        .map_err(|error| RunError::Identity(IdentityError::Io { path: dir.join("roster"), error }))
}

/// The members of the configuration. A member has a name and client URLs once it has said so.
fn members(config: &Config) -> Vec<Member> {
    let me = config.member_id();
    let member = |(id, name): (u64, String)| {
        let peer_urls = config.initial_cluster[&name].iter().map(Url::to_string).collect();
        let mut member = Member { id, peer_urls, ..Member::default() };
        if id == me {
            member.name = name;
            member.client_urls = texts(&config.advertise_client_urls);
        }
        member
    };
    config.initial_members().into_iter().map(member).collect()
}

fn neighbours(config: &Config, identity: &Identity, tls: Option<Secured>) -> Neighbours {
    let others = config.initial_members().into_iter().filter(|(id, _)| *id != identity.member);
    let dial = |(id, name): (u64, String)| {
        let url = config.initial_cluster[&name].first().expect("a member has a peer URL");
        (NodeId(id), url.clone())
    };
    Neighbours {
        cluster: identity.cluster,
        me: NodeId(identity.member),
        data: identity.data,
        profile: Profile {
            name: config.name.clone(),
            client_urls: texts(&config.advertise_client_urls),
        },
        urls: others.map(dial).collect(),
        tls,
    }
}

fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

/// The TLS of both sides; none where no URL says https.
struct Tls {
    client: Option<Secured>,
    peer: Option<Secured>,
}

impl Tls {
    fn open(config: &Config, gauges: &Arc<tls::Gauges>) -> Result<Tls, RunError> {
        let peers: Vec<Url> = config.initial_cluster.values().flatten().cloned().collect();
        let open = |door, dialled: &[Url], otherwise| {
            tls::open(door, config, dialled, gauges, otherwise).map_err(RunError::Tls)
        };
        Ok(Tls {
            client: open(Door::Client, &[], Vec::new())?,
            peer: open(Door::Peer, &peers, peers::tls_wanted())?,
        })
    }
}

fn tell_what_has_no_effect(config: &Config) {
    for flag in config.not_in_force() {
        tracing::warn!("--{flag} is understood but not in force yet in this version");
    }
    for note in config.tls.without_effect(config) {
        tracing::warn!("{note}");
    }
}

async fn bind(urls: &[Url], tls: &Option<Secured>) -> Result<Vec<Listener>, RunError> {
    let mut listeners = Vec::new();
    for url in urls {
        let address = url.bind_address().map_err(RunError::Url)?;
        let listener = TcpListener::bind(address).await;
        let tcp = listener.map_err(|error| RunError::Bind { address, error })?;
        let terminator = tls.as_ref().and_then(|secured| secured.terminator.clone());
        listeners.push(Listener { tcp, tls: terminator.filter(|_| url.is_https()) });
    }
    Ok(listeners)
}

/// Says that the member is ready, in the words that supervisors of etcd wait for.
async fn announce(shared: Arc<Shared>, config: Config) {
    let mut leader = shared.leader();
    if leader.wait_for(|(_, leader)| leader.is_some()).await.is_err() {
        return;
    }
    let handle = Handle::new(Arc::clone(&shared));
    while handle.barrier().await.is_err() {}
    let name = &config.name;
    let urls = texts(&config.advertise_client_urls).join(",");
    tracing::info!(
        "published {{Name:{name} ClientURLs:[{urls}]}} to cluster {:x}",
        shared.cluster_id
    );
    let version = api::ETCD_VERSION;
    let minor = version.rsplit_once('.').map_or(version, |(minor, _)| minor);
    tracing::info!("enabled capabilities for version {minor}");
    tracing::info!(
        "ready to serve client requests on {}",
        texts(&config.listen_client_urls).join(",")
    );
}

async fn step_aside(shared: &Shared) {
    let waiting = Arc::new(AtomicUsize::new(0));
    let (reply, done) = Reply::new(&waiting, 1).expect("a fresh counter has room");
    if shared.inbox.ask(Ask::StepAside { reply }).is_ok() {
        // Nobody may be able to take over; we stop all the same.
        let _ = tokio::time::timeout(STEP_ASIDE_TIMEOUT, done).await;
    }
}

/// The signals that end a member.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn any(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Hands what peers send to the loop.
struct Receiver {
    shared: Arc<Shared>,
    desk: Arc<CheckpointDesk>,
}

impl Receive for Receiver {
    fn deliver(&self, from: NodeId, messages: &mut Vec<Message>) {
        let dropped = self.shared.inbox.deliver(from, messages);
        if dropped > 0 {
            tracing::warn!(peer = %from, dropped, "too many messages wait: dropped some");
        }
    }

    fn timed(&self, from: NodeId, message: TimeMessage) {
        self.shared.time.heard(from, message);
    }

    fn saw(&self, peer: NodeId, clue: Clue) {
        self.shared.saw(peer, clue);
    }

    fn received(&self, from: NodeId, bytes: usize) {
        if let Some(traffic) = self.shared.metrics.peers.get(&from) {
            traffic.received_bytes.add(bytes as u64);
        }
    }

    fn introduce(&self, peer: NodeId, profile: Profile) {
        self.shared.met(peer);
        self.shared.introduce(peer.0, profile.name, profile.client_urls);
    }

    fn checkpoints(&self) -> Arc<CheckpointDesk> {
        Arc::clone(&self.desk)
    }
}
