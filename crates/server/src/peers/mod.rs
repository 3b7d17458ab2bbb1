//! The links between members: an own framed protocol on TCP.
//!
//! Every member dials every other one and speaks only on the connections that it dialled, so two
//! members hold two one-way connections and neither waits for the other. A connection begins with
//! a hello (cluster, caller, callee, data id, lane) that is answered by a welcome or by a refusal
//! in words. Checkpoints travel on a lane of their own.
//!
//! | file | |
//! |---|---|
//! | `wire.rs` | frames: length, checksum, kind |
//! | `hello.rs` | the first frame |
//! | `roster.rs` | who has which disk |
//! | `link.rs` | calling, and sending without waiting |
//! | `listen.rs` | being called |
//! | `join.rs` | being let in |
//! | `bulk.rs` | checkpoints, in resumable chunks |
//! | `stream.rs` | bytes as they are, or over TLS |
//!
//! Links come and go with the members: whoever is in their table is dialled, and listened to. One
//! that has left is dialled for [`LINGER`] more, so that it hears of it; after that, and whenever
//! it calls, it is told that it was removed.
//!
//! TLS wraps the stream in [`dial`] and in `listen.rs` and nowhere else; see [`crate::tls`].

pub(crate) mod bulk;
mod hello;
pub(crate) mod join;
mod link;
mod listen;
mod roster;
mod stream;
mod wire;

pub(crate) use hello::BadHello;
pub(crate) use hello::Profile;
pub(crate) use link::Link;
pub use roster::DiskLost;
pub(crate) use roster::{Roster, replace_file, with_checksum, without_checksum};
pub(crate) use wire::BadFrame;

use crate::genesis::Genesis;
use crate::tls::{self, Secured};
use crate::url::{Scheme, Url};
use crate::witness::Clue;
use bytes::{Bytes, BytesMut};
use quorate_core::NodeId;
use quorate_replica::Message;
use quorate_replica::members::Members;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use stream::Stream;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{AbortHandle, spawn_blocking};

/// Said to who speaks to a port for TLS without it, in a frame of ours.
const TLS_WANTED: &str = "this port speaks TLS: write https:// for this member in \
    --initial-cluster, and --initial-advertise-peer-urls";

/// Who has left is still dialled for so long.
const LINGER: Duration = Duration::from_secs(10);
/// A call that is not taken within this time has failed.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);
/// A handshake that has not ended within this time has failed.
const TLS_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection whose other end confirms nothing for so long is given up, and dialled anew.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(5);
/// An idle connection is asked for a sign of life after this,
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// and again after this, until it is given up.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// Beside the data ids that a member tells stands a pair that no member can have, with what it
/// understands: a version that does not know of it drops it, as any word on who is no member.
const FEATURES: u64 = u64::MAX;
/// It understands changes of members in the log.
const CHANGES: u64 = 1;
/// It understands limits, in the log and in a checkpoint.
const LIMITS: u64 = 2;

/// A frame taken apart.
type Call = (wire::Kind, Bytes);

/// What can go wrong between two members.
#[derive(Debug)]
pub(crate) enum PeerError {
    /// The socket failed.
    Io(io::Error),
    /// The bytes are no frames.
    BadFrame(BadFrame),
    /// The first frame is not understood.
    BadHello(BadHello),
    /// The other side did not answer the hello in time.
    NoAnswer,
    /// The other side closed the connection.
    HungUp,
    /// There is no encrypted connection to be had.
    Tls(tls::Failure),
    /// The caller begins TLS, and this port has none.
    TlsUnwanted,
    /// The other side refused the call.
    Refused {
        /// Its words.
        why: String,
    },
    /// The other side answered with a frame that has no place there.
    Unexpected,
    /// We are remembered with another disk: fatal for this member.
    DiskLost(DiskLost),
    /// The peer is remembered with another disk.
    PeerDiskLost(DiskLost),
    /// We were removed from the cluster: fatal for this member.
    Removed {
        /// The peer's words.
        why: String,
    },
}

/// What ends this member, as its peers say.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// We are remembered with another disk.
    DiskLost(DiskLost),
    /// We were removed from the cluster.
    Removed {
        /// In words.
        why: String,
    },
}

impl std::fmt::Display for PeerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PeerError::Io(error) => error.fmt(f),
            PeerError::BadFrame(error) => error.fmt(f),
            PeerError::BadHello(error) => error.fmt(f),
            PeerError::NoAnswer => f.write_str("no answer to our hello"),
            PeerError::HungUp => f.write_str("the peer closed the connection"),
            PeerError::Tls(failure) => write!(f, "no TLS with the peer: {failure}"),
            PeerError::TlsUnwanted => f.write_str(
                "it speaks TLS to a port without TLS; write https:// in --listen-peer-urls and \
                 give --peer-cert-file and --peer-key-file, or write http:// at the caller",
            ),
            PeerError::Refused { why } => write!(f, "the peer refused the call: {why}"),
            PeerError::Removed { why } => f.write_str(why),
            PeerError::Unexpected => f.write_str("the peer answered out of turn"),
            PeerError::DiskLost(lost) | PeerError::PeerDiskLost(lost) => lost.fmt(f),
        }
    }
}

impl std::error::Error for PeerError {}

impl PeerError {
    /// True if the host is there and nobody listens: evidence that the process has ended.
    fn is_refused_connection(&self) -> bool {
        matches!(self, PeerError::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
    }
}

impl From<io::Error> for PeerError {
    fn from(error: io::Error) -> PeerError {
        // The other side judges our certificate only after our own handshake is through.
        let of_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        if of_tls { PeerError::Tls(error.into()) } else { PeerError::Io(error) }
    }
}

impl From<tls::Failure> for PeerError {
    fn from(failure: tls::Failure) -> PeerError {
        PeerError::Tls(failure)
    }
}

impl From<BadFrame> for PeerError {
    fn from(error: BadFrame) -> PeerError {
        PeerError::BadFrame(error)
    }
}

impl From<BadHello> for PeerError {
    fn from(error: BadHello) -> PeerError {
        PeerError::BadHello(error)
    }
}

/// Takes what peers send. Called from many tasks; must not block.
pub(crate) trait Receive: Send + Sync + 'static {
    /// Messages of one peer, in order. Leaves `messages` empty.
    fn deliver(&self, from: NodeId, messages: &mut Vec<Message>);

    /// A peer asks for the time, or answers: the frame has just been read.
    fn timed(&self, from: NodeId, message: quorate_protocols::time::synchronizer::Message);

    /// Something was seen of a peer beside its messages.
    fn saw(&self, peer: NodeId, clue: Clue);

    /// So many bytes of messages came from a peer.
    fn received(&self, from: NodeId, bytes: usize);

    /// What a peer tells of itself, when a connection to or from it begins.
    fn introduce(&self, peer: NodeId, profile: Profile);

    /// The checkpoint store that a peer may send a checkpoint into.
    fn checkpoints(&self) -> Arc<bulk::CheckpointDesk>;
}

/// What all connections of this member know.
pub(crate) struct Shared {
    cluster: u64,
    me: NodeId,
    data: u64,
    profile: Profile,
    roster: Arc<Roster>,
    tls: Option<Secured>,
    genesis: Genesis,
    members: RwLock<Members>,
    links: Mutex<BTreeMap<NodeId, Kept>>,
    /// What is understood by whom, of those who were met in this life.
    features: Mutex<BTreeMap<NodeId, u64>>,
    /// Who has said, when called last, that this member was removed.
    disowned_by: Mutex<BTreeSet<NodeId>>,
    /// Somebody has taken this member for one, in this life.
    owned: AtomicBool,
    receiver: Box<dyn Receive>,
    greeted: watch::Sender<Vec<NodeId>>,
    failure: watch::Sender<Option<Verdict>>,
}

/// A link, and the task that keeps it up.
struct Kept {
    link: Arc<Link>,
    task: AbortHandle,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Shared {
    /// Calls a peer.
    async fn dial(&self, peer: NodeId) -> Result<Stream, PeerError> {
        let unknown = || io::Error::new(io::ErrorKind::NotFound, "the peer has no URL");
        let url = self.url(peer).ok_or_else(unknown)?;
        dial(&url, self.tls.as_ref()).await
    }

    /// Where the peer is dialled. The table keeps the scheme of its day, and a cluster that has
    /// moved to TLS since then moved with all its members: nobody is dialled without it.
    fn url(&self, peer: NodeId) -> Option<Url> {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let url: Url = members.get(peer)?.peer_urls.first()?.parse().ok()?;
        Some(if self.tls.is_some() { url.with_scheme(Scheme::Https) } else { url })
    }

    /// The members, as this one knows them.
    fn members(&self) -> Members {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_member(&self, id: NodeId) -> bool {
        self.members.read().unwrap_or_else(PoisonError::into_inner).get(id).is_some()
    }

    /// Follows the members: links to newcomers are made, and to those who have left they end after
    /// a while. Returns the links to all members. Must be called within the runtime.
    pub(crate) fn follow(self: &Arc<Self>, members: &Members) -> BTreeMap<NodeId, Arc<Link>> {
        *self.members.write().unwrap_or_else(PoisonError::into_inner) = members.clone();
        let mut links = self.links();
        for (id, _) in members.iter().filter(|(id, _)| *id != self.me) {
            links.entry(id).or_insert_with(|| {
                let link = Arc::new(Link::new(id));
                let task = tokio::spawn(Arc::clone(&link).keep(Arc::clone(self)));
                Kept { link, task: task.abort_handle() }
            });
        }
        let gone: Vec<NodeId> =
            links.keys().copied().filter(|id| members.get(*id).is_none()).collect();
        for id in gone {
            let shared = Arc::clone(self);
            tokio::spawn(async move {
                tokio::time::sleep(LINGER).await;
                if !shared.is_member(id)
                    && let Some(kept) = shared.links().remove(&id)
                {
                    kept.task.abort();
                }
            });
        }
        links.iter().map(|(id, kept)| (*id, Arc::clone(&kept.link))).collect()
    }

    fn links(&self) -> MutexGuard<'_, BTreeMap<NodeId, Kept>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is damaged of the roster on disk anew. Waits for the disk.
    pub(crate) fn repair_roster(&self) -> io::Result<()> {
        self.roster.repair()
    }

    /// The data ids that this member knows of, and what it understands.
    fn tells(&self) -> Vec<(u64, u64)> {
        std::iter::once((FEATURES, CHANGES | LIMITS)).chain(self.roster.known()).collect()
    }

    /// Notes what a peer understands.
    fn note_features(&self, peer: NodeId, told: &[(u64, u64)]) {
        let told = told.iter().find(|(id, _)| *id == FEATURES);
        let mut features = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        features.insert(peer, told.map_or(0, |(_, what)| *what));
    }

    /// True if changes of members may be put into the log: a majority was met, and all who were met
    /// understand them. A version that does not would stop.
    pub(crate) fn may_change(&self) -> bool {
        self.all_understand(CHANGES)
    }

    /// As [`Shared::may_change`], of limits.
    pub(crate) fn may_limit(&self) -> bool {
        self.all_understand(LIMITS)
    }

    fn all_understand(&self, feature: u64) -> bool {
        let members = self.members.read().unwrap_or_else(PoisonError::into_inner);
        let features = self.features.lock().unwrap_or_else(PoisonError::into_inner);
        let met = members.iter().filter_map(|(id, _)| features.get(&id));
        let (count, all) =
            met.fold((0, true), |(count, all), one| (count + 1, all && one & feature != 0));
        // A seat that nobody has taken yet is nobody to be asked.
        let started = members.iter().filter(|(_, seat)| seat.started).count();
        let seats = if started > 0 { started } else { members.iter().count() };
        all && count + 1 > seats / 2
    }

    /// Somebody who is told that it was removed hears why.
    fn farewell(&self, id: NodeId) -> String {
        format!(
            "member {:x} was removed from cluster {:x}: it takes no part any more. To bring this \
             host back, add it as a new member ('quorate member add NAME --peer-urls=URL') with an \
             empty --data-dir",
            id.0, self.cluster
        )
    }

    fn greeted(&self, peer: NodeId) {
        self.greeted.send_if_modified(|greeted| {
            let new = !greeted.contains(&peer);
            if new {
                greeted.push(peer);
            }
            new
        });
    }

    /// Takes in what `peer` says of itself and of others, before anything else it says is listened
    /// to. The roster is written by a thread that may wait for the disk: this one also runs the
    /// replica.
    ///
    /// Errors: we lost our disk, the peer lost its own, or the roster could not be written.
    async fn take_in(
        &self,
        peer: NodeId,
        data: u64,
        mut rumours: Vec<(u64, u64)>,
    ) -> Result<(), PeerError> {
        let roster = Arc::clone(&self.roster);
        self.note_features(peer, &rumours);
        // What is said of who is no member is not kept, so the roster has a bound.
        rumours.retain(|(id, _)| *id == self.me.0 || self.is_member(NodeId(*id)));
        let written = spawn_blocking(move || {
            // Who is not the one that we know is not listened to. Of the others, what they remember
            // of us comes first: if we lost our disk we must remember nobody.
            roster.check(peer, data).map_err(PeerError::PeerDiskLost)?;
            roster.hear(&rumours)?.map_err(PeerError::DiskLost)?;
            roster.meet(peer, data)?.map_err(PeerError::PeerDiskLost)
        });
        written.await.map_err(io::Error::from)?
    }

    /// A peer says that this member was removed. True if that is to be believed: nobody has taken
    /// it for a member in this life, or a majority of the others says so. One alone may have been
    /// made a cluster of its own by force, while this member and the others are whole.
    fn told_removed(&self, by: NodeId) -> bool {
        let members = self.members();
        let others = members.iter().filter(|(id, _)| *id != self.me).count();
        let mut disowned_by = self.disowned_by.lock().unwrap_or_else(PoisonError::into_inner);
        disowned_by.insert(by);
        disowned_by.retain(|id| members.get(*id).is_some());
        !self.owned.load(Ordering::Relaxed) || disowned_by.len() > others / 2
    }

    /// The peer takes this member for one.
    fn is_owned_by(&self, peer: NodeId) {
        self.owned.store(true, Ordering::Relaxed);
        self.disowned_by.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer);
    }

    fn fail(&self, verdict: Verdict) {
        self.failure.send_replace(Some(verdict));
    }
}

/// Who this member is, and whom it talks to.
#[derive(Debug)]
pub(crate) struct Neighbours {
    /// Id of the cluster.
    pub(crate) cluster: u64,
    /// This member.
    pub(crate) me: NodeId,
    /// Its data directory.
    pub(crate) data: u64,
    /// What this member tells of itself.
    pub(crate) profile: Profile,
    /// How, where a URL says https.
    pub(crate) tls: Option<Secured>,
    /// What the cluster began with.
    pub(crate) genesis: Genesis,
    /// Who is dialled and listened to, at first.
    pub(crate) members: Members,
}

/// All links of this member.
#[derive(Debug)]
pub(crate) struct Peers {
    shared: Arc<Shared>,
}

impl Peers {
    /// Listens and starts to dial. Must be called within the runtime that is to run the links.
    pub(crate) fn start(
        neighbours: Neighbours,
        roster: Roster,
        listeners: Vec<tls::Listener>,
        receiver: Box<dyn Receive>,
    ) -> Peers {
        let Neighbours { cluster, me, data, profile, tls, genesis, members } = neighbours;
        let shared = Arc::new(Shared {
            cluster,
            me,
            data,
            profile,
            roster: Arc::new(roster),
            tls,
            genesis,
            members: RwLock::default(),
            links: Mutex::default(),
            features: Mutex::default(),
            disowned_by: Mutex::default(),
            owned: AtomicBool::new(false),
            receiver,
            greeted: watch::Sender::new(Vec::new()),
            failure: watch::Sender::new(None),
        });
        shared.follow(&members);
        for listener in listeners {
            tokio::spawn(listen::listen(listener, Arc::clone(&shared)));
        }
        Peers { shared }
    }

    /// The links, for the loop thread.
    pub(crate) fn links(&self) -> BTreeMap<NodeId, Arc<Link>> {
        self.shared.links().iter().map(|(id, kept)| (*id, Arc::clone(&kept.link))).collect()
    }

    /// Tells every peer that this member stops. It sends nothing after that which matters.
    pub(crate) fn say_goodbye(&self) {
        self.shared.links().values().for_each(|kept| kept.link.say_goodbye());
    }

    /// What checkpoint transfers need to call a peer.
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// Returns when `count` peers have taken our call and none of them knows us with another disk.
    ///
    /// Errors: one of them does, or says that we were removed.
    pub(crate) async fn greet(&self, count: usize) -> Result<(), Verdict> {
        let mut greeted = self.shared.greeted.subscribe();
        tokio::select! {
            lost = self.failed() => Err(lost),
            _ = greeted.wait_for(|greeted| greeted.len() >= count) => Ok(()),
        }
    }

    /// Returns when a peer says that we lost our disk, or were removed; never otherwise.
    pub(crate) async fn failed(&self) -> Verdict {
        let mut failure = self.shared.failure.subscribe();
        let failed = failure.wait_for(Option::is_some).await.expect("we hold the sender");
        failed.clone().expect("just seen")
    }
}

/// Opens a connection to a peer. The one place where an outgoing stream is made.
async fn dial(url: &Url, tls: Option<&Secured>) -> Result<Stream, PeerError> {
    let connecting = tokio::time::timeout(DIAL_TIMEOUT, TcpStream::connect(url.authority()));
    let stream = connecting.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    configure(&stream)?;
    match tls {
        Some(secured) if url.is_https() => {
            let config = secured.keeper.client();
            let stream = tls::call_within(TLS_TIMEOUT, config, url.host(), stream).await?;
            Ok(Stream::secured(stream.into()))
        }
        // Members that came later may have what this one was not set up for.
        None if url.is_https() => {
            let why = "its URL is https, and this member has no TLS for peers";
            Err(io::Error::new(io::ErrorKind::Unsupported, why).into())
        }
        _ => Ok(Stream::Plain(stream)),
    }
}

/// What a listener for peers says to who calls without TLS.
pub(crate) fn tls_wanted() -> Vec<u8> {
    let mut frame = Vec::new();
    wire::push_frame(&mut frame, wire::Kind::Refused, |out| {
        out.extend_from_slice(TLS_WANTED.as_bytes());
    });
    frame
}

/// What both ends of a connection between members ask of the kernel. Links go one way and may be
/// idle, so neither end would notice by itself that the other is out of reach: the caller would
/// wait for a retransmission that backs off to minutes, and the callee for ever.
fn configure(stream: &TcpStream) -> io::Result<()> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_user_timeout(stream, UNREACHABLE_AFTER.as_millis() as u32)?;
    Ok(())
}

/// Reads bytes as the frames of a peer, and each payload, and the whole, as all that a payload
/// may be. See [`crate::fuzzing`].
pub(crate) fn read_all(bytes: &[u8]) {
    let mut sealed = Vec::new();
    wire::push_frame(&mut sealed, wire::Kind::Message, |out| out.extend_from_slice(bytes));
    for stream in [bytes, &sealed] {
        let mut buffer = BytesMut::from(stream);
        while let Ok(Some((_, payload))) = wire::split_frame(&mut buffer) {
            read_payload(payload);
        }
    }
    read_payload(Bytes::copy_from_slice(bytes));
}

fn read_payload(payload: Bytes) {
    let _ = hello::Hello::decode(payload.clone());
    let _ = hello::Welcome::decode(payload.clone());
    let _ = join::decode_urls(payload.clone());
    let _ = join::decode(payload.clone());
    let _ = bulk::decode_offer(payload.clone());
    let _ = crate::timekeeping::wire::decode(payload.clone());
    let _ = Message::decode(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::sockopt;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_silent_network_ends_a_connection_at_both_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let url = format!("http://{address}").parse().expect("a URL");
        let Stream::Plain(ours) = dial(&url, None).await.expect("a call") else {
            panic!("the URL says http");
        };
        let (theirs, _) = listener.accept().await.expect("the call");
        configure(&theirs).expect("a socket");
        for stream in [ours, theirs] {
            assert!(stream.nodelay().expect("a socket"));
            assert!(sockopt::socket_keepalive(&stream).expect("a socket"));
            assert_eq!(sockopt::tcp_user_timeout(&stream).expect("a socket"), 5_000);
        }
    }
}
