//! One member, from its configuration to its end.

mod error;

pub use error::RunError;

use crate::admission::{self, Admission};
use crate::api;
use crate::audit::Audit;
use crate::auth::{Certificates, Gate, Passwords, Tokens};
use crate::clock_rate;
use crate::config::{Config, MetricsDetail};
use crate::dns::{self, Dns};
use crate::doubt::{ATTEMPTS_MAX, Doubt};
use crate::force;
use crate::gateway::Visitors;
use crate::genesis::Genesis;
use crate::guarantees::{self, Guard};
use crate::handle::Handle;
use crate::host::{Ask, ReplicaHost, Shared};
use crate::identity::{Identity, IdentityError, random};
use crate::peers;
use crate::peers::bulk::CheckpointDesk;
use crate::peers::{Neighbours, Peers, Profile, Receive, Roster};
use crate::recover::{self, Found, Home, Records, ReplicaSettings};
use crate::reply::Reply;
use crate::scrub::{self, Scrubber};
use crate::timekeeping::Timekeeper;
use crate::tls::{self, Door, Listener, Secured};
use crate::upkeep;
use crate::url::Url;
use crate::wal_log::{Segments, WalLog};
use crate::witness::{Clue, ExitNotice, Notices};
use quorate_core::{Index, NodeId, Time};
use quorate_drivers::live::{Inbox, InboxLimits, Live, LogThread, Stopped};
use quorate_protocols::consensus::raft::LeaseTerms;
use quorate_protocols::time::synchronizer::Message as TimeMessage;
use quorate_replica::members::{Members, MembersCommand};
use quorate_replica::{Life, MemberTerms, Message, Replica};
use quorate_storage::{RealDisk, Wal};
use std::future::{Future, poll_fn};
use std::io;
use std::path::{Path, PathBuf};
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
/// A member that was removed stays so long, to be heard and answered.
const FAREWELL: Duration = Duration::from_secs(1);
/// Between two attempts to publish what this member is called.
const PUBLISH_PAUSE: Duration = Duration::from_millis(200);
/// How often a member that waits for its peers says so.
const WAITING_NOTICE: Duration = Duration::from_secs(5);

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
    config.validate().map_err(RunError::Config)?;
    tell_what_has_no_effect(&config);
    let gauges = Arc::default();
    let tls = Tls::open(&config, &gauges)?;
    let Admission { mut identity, genesis, members } = tokio::select! {
        admission = admission::admit(&config, &dir, tls.peer.as_ref()) => admission?,
        () = signals.any() => return Ok(()),
    };
    let (cluster, me) = (identity.cluster, identity.member);
    let doors = Doors::open(&config, &tls).await?;
    let home = Home::of(&dir, &config, &identity);
    let settings = replica_settings(&config, me, &genesis);
    force_if_wanted(&config, &home, &settings)?;
    let (doubt, found) = open_home(&dir, &home)?;
    let Found { wal, checkpoints, checkpoint, damaged_checkpoints, records } = found;
    let damaged = records.recovery().damaged_places + damaged_checkpoints as u64;
    let inbox = Arc::new(Inbox::new(InboxLimits::default()));
    let life = Life(random().map_err(RunError::System)?);
    let replica_config = settings.replica(life, checkpoint);
    let node = restore(&replica_config, records, doubt)?;
    drop(replica_config);
    // Who joins has heard of members that its own log does not name yet.
    let members = if identity.admitted { node.members_of_log() } else { members };
    let time = Arc::new(Timekeeper::new(&config, me, &members));
    let (inboxed, kept) = (Arc::clone(&inbox), Arc::clone(&time));
    let shared = Arc::new(Shared::new(cluster, me, life, inboxed, kept, gauges));
    shared.damaged_checkpoints.store(damaged_checkpoints as u64, Ordering::Relaxed);
    show(&shared, &node);
    let desk = Arc::new(CheckpointDesk::new(checkpoints));
    let receiver = Receiver { shared: Arc::clone(&shared), desk: Arc::clone(&desk) };
    let roster = open_roster(&dir, me, identity.data)?;
    roster.forget(|id| members.was_removed(id)).map_err(RunError::System)?;
    let neighbours = neighbours(&config, &identity, tls.peer, (genesis, members.clone()));
    let peers = Peers::start(neighbours, roster, doors.peers, Box::new(receiver));
    shared.set_peers(peers.shared());
    time.start(peers.links(), Arc::clone(&shared.metrics));
    desk.connect(tokio::runtime::Handle::current(), peers.shared(), Arc::clone(&shared));

    if !identity.admitted {
        tokio::select! {
            met = meet_the_cluster(members.iter().count(), &peers) => met?,
            () = signals.any() => return Ok(()),
        }
        identity.admit(&dir)?;
    }

    let (log, segments) = start_log(wal, damaged, &shared)?;
    let mut host = ReplicaHost::new(
        Arc::clone(&shared),
        peers.shared(),
        log.handle(),
        Arc::clone(&desk),
        config.checkpoint_bytes,
    );
    shared.auth.begin(&node);
    shared.overload.begin(node.store().limit_rules(), &config);
    host.link(&members);
    let live = Live::new(NodeId(me), node, host, Arc::clone(&inbox), log.handle(), life.0);
    shared.set_guard(Guard::new(&config, live.pulse(), log.handle()));
    let mut ended = tokio::spawn(run_loop(live, Arc::clone(&inbox)));

    let ports = open_ports(&config, &shared, doors.clients, doors.monitors)?;
    let _dns = Dns::start(doors.dns, Handle::new(Arc::clone(&shared)))?;
    start_tasks(&shared, &config, notices)?;
    let scrubber = start_scrubber(&shared, (&peers, desk), &log, segments, &config)?;

    let outcome = tokio::select! {
        () = signals.any() => Ok(()),
        verdict = peers.failed() => Err(verdict.into()),
        () = left(&shared) => Err(removed(&shared)),
        at = to_be_healed(&shared, doubt, &dir) => Err(RunError::Differs { at }),
        stopped = &mut ended => Err(broken(stopped)),
    };
    if matches!(outcome, Err(RunError::Removed { .. })) {
        identity.bury(&dir)?;
    }
    if outcome.is_ok() {
        tracing::info!("stopping: handing leadership over");
        stop_serving(&shared, ports).await;
        let _ = tokio::time::timeout(STEP_ASIDE_TIMEOUT, ended).await;
    }
    peers.say_goodbye();
    // Ends the log thread after a last sync, and settles the log; its panic was told to the loop.
    let _ = tokio::task::spawn_blocking(|| drop((scrubber, log))).await;
    tracing::info!("stopped");
    outcome
}

/// Opens what is on the disk, without what may hold a wrong state if the last life ended with one.
fn open_home(dir: &Path, home: &Home) -> Result<(Option<Doubt>, Found<RealDisk>), RunError> {
    let doubt = Doubt::read(dir).map_err(RunError::System)?;
    if let Some(doubt) = &doubt {
        doubt.discard(RealDisk, home)?;
    }
    Ok((doubt, recover::open(RealDisk, home)?))
}

/// The replica as it was; in doubt, if its last life ended so.
fn restore(
    config: &quorate_replica::Config,
    records: Records<RealDisk>,
    doubt: Option<Doubt>,
) -> Result<Replica, RunError> {
    let mut node = recover::restore(config, records)?;
    doubt.into_iter().for_each(|doubt| node.doubt(doubt.since));
    Ok(node)
}

/// Shows others what a replica begins with.
fn show(shared: &Shared, node: &Replica) {
    shared.set_fenced(node.fenced().is_some());
    shared.set_members(node.members().clone());
    shared.set_configuration(node.raft().configuration().clone());
}

/// The thread of the log, and what reads its segments beside it.
fn start_log(
    wal: Wal<RealDisk>,
    damaged: u64,
    shared: &Shared,
) -> Result<(LogThread, Segments), RunError> {
    let log = WalLog::new(wal, Arc::clone(&shared.metrics));
    let segments = log.segments(damaged);
    let thread = LogThread::start(log, Arc::clone(&shared.inbox)).map_err(RunError::System)?;
    Ok((thread, segments))
}

/// What reads the disk again, beside everything else.
fn start_scrubber(
    shared: &Arc<Shared>,
    (peers, checkpoints): (&Peers, Arc<CheckpointDesk>),
    log: &LogThread,
    segments: Segments,
    config: &Config,
) -> Result<Scrubber, RunError> {
    let parts = scrub::Parts {
        shared: Arc::clone(shared),
        peers: peers.shared(),
        checkpoints,
        log: log.handle(),
        segments,
        dir: config.data_dir.join("member"),
        settings: config.scrub,
    };
    Scrubber::start(parts).map_err(RunError::System)
}

fn force_if_wanted(
    config: &Config,
    home: &Home,
    settings: &ReplicaSettings,
) -> Result<(), RunError> {
    if config.force_new_cluster {
        tracing::warn!("--force-new-cluster: this member is its own cluster from now on");
        force::force_new_cluster(RealDisk, home, settings)?;
    }
    Ok(())
}

/// What looks after a member beside its loop; the tasks end with the runtime.
fn start_tasks(shared: &Arc<Shared>, config: &Config, notices: Notices) -> Result<(), RunError> {
    tokio::spawn(announce(Arc::clone(shared), config.clone()));
    tokio::spawn(forget_doubt(Arc::clone(shared), config.data_dir.join("member")));
    tokio::spawn(publish(Handle::new(Arc::clone(shared)), config.clone()));
    upkeep::start(shared, config);
    guarantees::start(shared).map_err(RunError::System)?;
    if config.lease_reads {
        tokio::spawn(clock_rate::watch(Arc::downgrade(shared)));
    }
    spawn_watch_hub(shared, config.election_timeout);
    tokio::spawn(take_notices(notices, Arc::clone(shared)));
    Ok(())
}

/// Hands leadership over, answers what can still be answered, and lets the loop end.
async fn stop_serving(shared: &Shared, ports: Ports) {
    step_aside(shared).await;
    shared.watch.stop();
    // Requests that still wait end with the loop; nothing new is taken.
    ports.close().await;
    shared.inbox.stop();
}

/// The tasks that mark what watchers have to be told; they end with the runtime.
fn spawn_watch_hub(shared: &Arc<Shared>, election_timeout: Duration) {
    let hub = Arc::clone(&shared.watch);
    tokio::spawn(async move { hub.run().await });
    let (hub, leader) = (Arc::clone(&shared.watch), shared.leader());
    tokio::spawn(async move { hub.follow_leader(leader, 3 * election_timeout).await });
}

/// Follows what a supervisor sees of the other members.
async fn take_notices(mut notices: Notices, shared: Arc<Shared>) {
    while let Some(ExitNotice { member, at }) = notices.next().await {
        let members = shared.register.members();
        let Some(ended) = members.iter().find(|known| known.name == member) else { continue };
        let at = Time::from_nanos(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
        shared.saw(NodeId(ended.id), Clue::Exited { at });
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

/// The client port.
struct Ports {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), api::ServeError>>,
    audit: Option<Audit>,
}

impl Ports {
    /// Takes nothing new, and waits a while for what is in flight.
    async fn close(self) {
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(STEP_ASIDE_TIMEOUT, self.serving).await;
        if let Some(audit) = self.audit {
            let _ = tokio::time::timeout(STEP_ASIDE_TIMEOUT, audit.close()).await;
        }
    }
}

/// Serves clients until told to stop, and monitors to the end.
fn open_ports(
    config: &Config,
    shared: &Arc<Shared>,
    clients: Vec<Listener>,
    monitors: Vec<Listener>,
) -> Result<Ports, RunError> {
    let handle = &Handle::new(Arc::clone(shared));
    let audit = open_audit(config, shared)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let stopped = async {
        let _ = stopped.await; // An end of the sender is an end as well.
    };
    let limits = api::Limits::from(config);
    let calls = Arc::new(api::Calls::new(config.metrics == MetricsDetail::Extensive));
    let threads = client_threads(config)?;
    let gate = open_gate(config, handle)?;
    let serves = api::Serves {
        handle: handle.clone(),
        gate,
        audit: audit.clone(),
        calls: Arc::clone(&calls),
        visitors: Visitors::new(&config.cors, &config.host_whitelist),
    };
    let serving = tokio::spawn(api::serve(serves, clients, threads, limits, stopped));
    serve_monitors(handle, calls, monitors, limits);
    Ok(Ports { stop, serving, audit })
}

/// Where calls are recorded, if they are to be.
fn open_audit(config: &Config, shared: &Arc<Shared>) -> Result<Option<Audit>, RunError> {
    let Some(settings) = &config.audit else { return Ok(None) };
    let told = Arc::downgrade(shared);
    let tell = move |what| {
        if let Some(shared) = told.upgrade() {
            shared.set_condition("audit", what);
        }
    };
    let audit = Audit::start(settings.clone(), shared.member_id, tell).map_err(RunError::Audit)?;
    shared.metrics.audit.get_or_init(|| audit.counts());
    Ok(Some(audit))
}

/// Who lets the requests of clients in.
fn open_gate(config: &Config, handle: &Handle) -> Result<Gate, RunError> {
    let tokens = Tokens::new(&config.auth_token, config.auth_token_ttl).map_err(RunError::Jwt)?;
    let passwords = Passwords::start(config.bcrypt_cost).map_err(RunError::System)?;
    let certificates = match config.tls.client.client_cert_auth {
        true => Certificates::StandForUsers,
        false => Certificates::LetIn,
    };
    Ok(Gate::new(handle.clone(), Arc::new(tokens), Arc::new(passwords), certificates))
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

fn replica_settings(config: &Config, me: u64, genesis: &Genesis) -> ReplicaSettings {
    ReplicaSettings {
        me: NodeId(me),
        voters: genesis.voters(),
        members: genesis.members.clone(),
        member_terms: MemberTerms {
            strict: config.strict_reconfig_check,
            learners_max: config.learners_max as usize,
            auto_promote: config.auto_promote,
        },
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
async fn meet_the_cluster(members: usize, peers: &Peers) -> Result<(), RunError> {
    let others = members / 2; // With ourselves a majority.
    if others == 0 {
        return Ok(());
    }
    tracing::info!(others, "a new data directory: waiting for a majority of members to meet it");
    let mut notice = tokio::time::interval(WAITING_NOTICE);
    notice.tick().await;
    loop {
        tokio::select! {
            met = peers.greet(others) => return Ok(met?),
            _ = notice.tick() => tracing::warn!(
                "still waiting for a majority; start the other members, or compare \
                 --initial-cluster. A member that was added to a running cluster is begun with an \
                 empty directory and --initial-cluster-state=existing"
            ),
        }
    }
}

fn open_roster(dir: &Path, me: u64, data: u64) -> Result<Roster, RunError> {
    Roster::open(dir, NodeId(me), data)
        .map_err(|error| RunError::Identity(IdentityError::Io { path: dir.join("roster"), error }))
}

/// Returns when this member's state is wrong and it is to start anew, which is written down.
async fn to_be_healed(shared: &Shared, before: Option<Doubt>, dir: &Path) -> Index {
    let (since, agreed) = shared.differs().await;
    let next = Doubt::next(before, since, agreed);
    match next.map(|doubt| doubt.write(dir)) {
        Some(Ok(())) => return since,
        Some(Err(error)) => tracing::error!(%error, "cannot write down that the state is wrong"),
        None => tracing::error!(
            attempts = ATTEMPTS_MAX,
            "the state was built anew and is wrong again: this member stays fenced. Keep its \
             data directory for whoever looks into it, and give its place to a new one: 'quorate \
             member replace'"
        ),
    }
    std::future::pending().await
}

/// Once a quorum shares what was in doubt, nothing is in doubt any more.
async fn forget_doubt(shared: Arc<Shared>, dir: PathBuf) {
    shared.healed().await;
    if let Err(error) = Doubt::clear(&dir) {
        tracing::warn!(%error, "cannot forget that the state was in doubt");
    }
}

/// Returns when this member was removed, a moment after that: the others are to hear of it, and who
/// asked for it of us is to be answered.
async fn left(shared: &Shared) {
    shared.removed().await;
    sleep(FAREWELL).await;
}

fn removed(shared: &Shared) -> RunError {
    RunError::Removed {
        why: format!(
            "member {:x} was removed from cluster {:x}: it stops, and its data directory is not \
             used again",
            shared.member_id, shared.cluster_id
        ),
    }
}

fn neighbours(
    config: &Config,
    identity: &Identity,
    tls: Option<Secured>,
    (genesis, members): (Genesis, Members),
) -> Neighbours {
    let client_urls = texts(&config.advertise_client_urls);
    Neighbours {
        cluster: identity.cluster,
        me: NodeId(identity.member),
        data: identity.data,
        profile: Profile { name: config.name.clone(), client_urls },
        tls,
        genesis,
        members,
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

/// Where this member listens, before anybody is answered.
struct Doors {
    clients: Vec<Listener>,
    monitors: Vec<Listener>,
    peers: Vec<Listener>,
    dns: Option<dns::Sockets>,
}

impl Doors {
    async fn open(config: &Config, tls: &Tls) -> Result<Doors, RunError> {
        Ok(Doors {
            clients: bind(&config.listen_client_urls, &tls.client).await?,
            monitors: bind(&config.listen_metrics_urls, &tls.client).await?,
            peers: bind(&config.listen_peer_urls, &tls.peer).await?,
            dns: Dns::bind(config)?,
        })
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

/// Writes to the log what this member is called and where clients reach it, unless it says so
/// already.
async fn publish(handle: Handle, config: Config) {
    let (id, client_urls) = (NodeId(handle.member_id()), texts(&config.advertise_client_urls));
    loop {
        let table = handle.table();
        let Some(seat) = table.get(id) else {
            // Who joins is told of its seat by the log.
            sleep(PUBLISH_PAUSE).await;
            continue;
        };
        if seat.started && seat.name == config.name && seat.client_urls == client_urls {
            return;
        }
        let (name, client_urls) = (config.name.clone(), client_urls.clone());
        let publish = MembersCommand::Publish { id, name, client_urls };
        match handle.change_members(&publish).await {
            Ok(Ok(_)) => return,
            Ok(Err(why)) => tracing::debug!(%why, "the name of this member is not published"),
            Err(why) => tracing::debug!(?why, "publishing the name of this member again"),
        }
        sleep(PUBLISH_PAUSE).await;
    }
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
        if let Some(peer) = self.shared.metrics.peer(from) {
            peer.traffic.received_bytes.add(bytes as u64);
        }
    }

    fn introduce(&self, peer: NodeId, profile: Profile) {
        self.shared.met(peer);
        self.shared.register.introduce(peer.0, profile.name, profile.client_urls);
    }

    fn checkpoints(&self) -> Arc<CheckpointDesk> {
        Arc::clone(&self.desk)
    }
}
