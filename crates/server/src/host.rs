//! What surrounds the replica on its loop thread: who waits for which answer, what readers see,
//! when a checkpoint is taken.

mod ask;
mod fence;
mod standing;

pub(crate) use ask::{Ask, ChangeReply};

use crate::auth::Known;
use crate::checkpointing::{Checkpointing, Supply};
use crate::guarantees::{Guard, Vitals};
use crate::handle::Status;
use crate::metrics::{Metrics, PeerMetrics};
use crate::overload::Overload;
use crate::peers::bulk::CheckpointDesk;
use crate::peers::{Link, Shared as PeersShared};
use crate::register::Register;
use crate::reply::Reply;
use crate::scrub;
use crate::timekeeping::Timekeeper;
use crate::tls::Gauges;
use crate::watch::{Feeder, Hub};
use crate::witness::{Clue, Witness};
use quorate_core::{Index, NodeId, Position, Term, Time};
use quorate_drivers::live::{Host, Inbox, LogHandle, monotonic_now};
use quorate_replica::members::Members;
use quorate_replica::store::Store;
use quorate_replica::{
    Answer, Checkpoint, Indication, LeaseAnswer, Life, Message, Refusal, Replica, Request, Ticket,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Pause before news that must not be lost are offered to a full inbox again.
pub(crate) const INSIST_PAUSE: Duration = Duration::from_millis(10);

/// A frozen copy of the store, and where it stood.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The store.
    pub store: Arc<Store>,
    /// Term of this member at that moment.
    pub term: Term,
    /// How old it can be at most, if that was asked.
    pub staleness: Option<Duration>,
}

/// What the API's tasks see of the loop thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) cluster_id: u64,
    pub(crate) member_id: u64,
    pub(crate) life: Life,
    pub(crate) register: Register,
    is_learner: AtomicBool,
    is_witness: AtomicBool,
    peers: OnceLock<Arc<PeersShared>>,
    /// This member was removed from the cluster.
    removed: watch::Sender<bool>,
    /// A quorum was seen to share a state that was in doubt.
    healed: watch::Sender<bool>,
    /// Where this member's state was seen to differ, and up to where a quorum shared it.
    differs: watch::Sender<Option<(Index, Index)>>,
    pub(crate) inbox: Arc<Inbox<Message, Ask>>,
    pub(crate) next_ticket: AtomicU64,
    pub(crate) waiting: Arc<AtomicUsize>,
    pub(crate) metrics: Arc<Metrics>,
    /// Who watches.
    pub(crate) watch: Arc<Hub>,
    /// What time it is.
    pub(crate) time: Arc<Timekeeper>,
    published: RwLock<Snapshot>,
    /// Users and roles as of the last turn.
    pub(crate) auth: Known,
    /// What is let in.
    pub(crate) overload: Overload,
    /// The published snapshot is older than what was acknowledged here. Of one total order with
    /// the number of open streams: a stream that opens while a turn ends must find the snapshot
    /// stale, or be found open by the feeder, or it would miss that turn.
    stale: AtomicBool,
    /// Serializable reads since the last turn: while there are some, every turn publishes.
    readers: AtomicU64,
    status: RwLock<Status>,
    /// What others than the loop thread want operators to know, by a name of their own.
    conditions: RwLock<BTreeMap<&'static str, String>>,
    /// Where writes begin to be refused, in bytes; 0 for nowhere.
    pub(crate) quota: AtomicU64,
    fenced: AtomicBool,
    /// The state of this member is no older than this. Unit: nanoseconds of its monotonic clock; 0
    /// if nothing is known.
    fresh_since: AtomicU64,
    leader: watch::Sender<(Term, Option<NodeId>)>,
    /// Damaged checkpoints that no newer one has replaced.
    pub(crate) damaged_checkpoints: AtomicU64,
    /// What reads the disk again.
    pub(crate) scrub: scrub::Desk,
    guard: OnceLock<Guard>,
    witness: Witness,
}

impl Shared {
    pub(crate) fn new(
        cluster_id: u64,
        member_id: u64,
        life: Life,
        inbox: Arc<Inbox<Message, Ask>>,
        time: Arc<Timekeeper>,
        tls: Arc<Gauges>,
    ) -> Shared {
        let metrics = Metrics::new(tls);
        let empty = Snapshot { store: Arc::new(Store::new()), term: Term(0), staleness: None };
        Shared {
            cluster_id,
            member_id,
            life,
            register: Register::default(),
            is_learner: AtomicBool::new(false),
            is_witness: AtomicBool::new(false),
            peers: OnceLock::new(),
            removed: watch::Sender::new(false),
            healed: watch::Sender::new(false),
            differs: watch::Sender::new(None),
            inbox,
            next_ticket: AtomicU64::new(1),
            waiting: Arc::default(),
            metrics: Arc::new(metrics),
            watch: Arc::new(Hub::new()),
            auth: Known::new(empty.store.auth()),
            overload: Overload::default(),
            time,
            published: RwLock::new(empty),
            stale: AtomicBool::new(true),
            readers: AtomicU64::new(0),
            status: RwLock::default(),
            conditions: RwLock::default(),
            quota: AtomicU64::new(0),
            fenced: AtomicBool::new(false),
            fresh_since: AtomicU64::new(0),
            leader: watch::Sender::new((Term(0), None)),
            damaged_checkpoints: AtomicU64::new(0),
            scrub: scrub::Desk::default(),
            guard: OnceLock::new(),
            witness: Witness::default(),
        }
    }

    /// A connection to or from the peer begins.
    pub(crate) fn met(&self, peer: NodeId) {
        self.witness.met(peer, monotonic_now());
    }

    /// Somebody saw something of a peer beside its messages.
    pub(crate) fn saw(&self, peer: NodeId, clue: Clue) {
        let Some(counted) = self.metrics.peer(peer) else { return };
        counted.clues[clue.kind()].add(1);
        if self.witness.hear(peer, monotonic_now(), clue) {
            tracing::warn!(%peer, ?clue, "the process of the peer has ended");
            // It must not wait; if the inbox is full, silence will tell the same.
            let _ = self.inbox.ask(Ask::Suspect { peer });
        }
    }

    /// The published snapshot, if nothing newer was acknowledged by this member.
    pub(crate) fn published(&self) -> Option<Snapshot> {
        self.readers.fetch_add(1, Ordering::Relaxed);
        if self.stale.load(Ordering::SeqCst) {
            return None;
        }
        Some(self.published.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// Puts in who watches over the assumptions. Panics: there is one already.
    pub(crate) fn set_guard(&self, guard: Guard) {
        self.guard.set(guard).expect("a member has one guard");
    }

    /// Who watches over the assumptions. Panics: before the member serves.
    pub(crate) fn guard(&self) -> &Guard {
        self.guard.get().expect("it is there before anybody is served")
    }

    /// A request of a client was not served.
    pub(crate) fn count_unserved(&self) {
        if let Some(guard) = self.guard.get() {
            guard.count_unserved();
        }
    }

    /// A quorum has proven that this member's state is no older than that.
    pub(crate) fn proven_fresh(&self, since: Time) {
        self.fresh_since.fetch_max(since.as_nanos(), Ordering::AcqRel);
    }

    /// The latest of these proofs.
    pub(crate) fn fresh_since(&self) -> Option<Time> {
        let since = self.fresh_since.load(Ordering::Acquire);
        (since > 0).then(|| Time::from_nanos(since))
    }

    pub(crate) fn status(&self) -> Status {
        let mut status = self.status.read().unwrap_or_else(PoisonError::into_inner).clone();
        status.db_size_quota = self.quota.load(Ordering::Relaxed);
        let conditions = self.conditions.read().unwrap_or_else(PoisonError::into_inner);
        status.errors.extend(conditions.values().cloned());
        status
    }

    /// Says, or no longer says, that operators should know of something.
    pub(crate) fn set_condition(&self, name: &'static str, what: Option<String>) {
        let mut conditions = self.conditions.write().unwrap_or_else(PoisonError::into_inner);
        match what {
            Some(what) => conditions.insert(name, what),
            None => conditions.remove(name),
        };
    }

    /// Asks until the inbox has room: for news that must not be lost, from threads that may wait.
    pub(crate) fn insist(&self, mut ask: Ask) {
        while let Err(again) = self.inbox.ask(ask) {
            ask = again;
            std::thread::sleep(INSIST_PAUSE);
        }
    }

    /// Returns when this member was removed from the cluster; never otherwise.
    pub(crate) async fn removed(&self) {
        let mut removed = self.removed.subscribe();
        let _ = removed.wait_for(|removed| *removed).await.expect("we hold the sender");
    }

    /// Follows term and leader.
    pub(crate) fn leader(&self) -> watch::Receiver<(Term, Option<NodeId>)> {
        self.leader.subscribe()
    }
}

/// Reads that share one question to the leader.
type Readers = Vec<Reply<Result<Snapshot, Refusal>>>;

/// The host of one replica.
#[derive(Debug)]
pub(crate) struct ReplicaHost {
    shared: Arc<Shared>,
    links: BTreeMap<NodeId, Outgoing>,
    peers: Arc<PeersShared>,
    changes: HashMap<Ticket, ChangeReply>,
    log: LogHandle,
    desk: Arc<CheckpointDesk>,
    writes: HashMap<Ticket, Reply<Result<Answer, Refusal>>>,
    reads: HashMap<Ticket, Readers>,
    leases: HashMap<Ticket, Reply<Result<LeaseAnswer, Refusal>>>,
    /// The question that the reads of this turn share.
    turn_read: Option<Ticket>,
    /// Waiting for the end of the turn, when what they tell can also be read.
    answers: Vec<Owed>,
    readable: Vec<Readers>,
    moving: Vec<Reply<Result<(), Refusal>>>,
    seen_applied: Position,
    errors: BTreeMap<&'static str, String>,
    checkpointing: Checkpointing,
    feeder: Feeder,
    vitals: Vitals,
    /// As a leader: the term, and the last round that a quorum answered in it.
    answered: Option<(Term, u64)>,
}

/// An answer, and who waits for it.
#[derive(Debug)]
struct Owed {
    reply: Reply<Result<Answer, Refusal>>,
    answer: Result<Answer, Refusal>,
}

/// The frames for one peer that this step has produced.
#[derive(Debug)]
struct Outgoing {
    link: Arc<Link>,
    counted: Option<Arc<PeerMetrics>>,
    frames: Vec<u8>,
}

impl ReplicaHost {
    pub(crate) fn new(
        shared: Arc<Shared>,
        peers: Arc<PeersShared>,
        log: LogHandle,
        desk: Arc<CheckpointDesk>,
        checkpoint_bytes_min: u64,
    ) -> ReplicaHost {
        ReplicaHost {
            shared,
            links: BTreeMap::new(),
            peers,
            changes: HashMap::new(),
            log,
            desk,
            writes: HashMap::new(),
            reads: HashMap::new(),
            leases: HashMap::new(),
            turn_read: None,
            answers: Vec::new(),
            readable: Vec::new(),
            moving: Vec::new(),
            seen_applied: Position::ZERO,
            errors: BTreeMap::new(),
            checkpointing: Checkpointing::new(checkpoint_bytes_min),
            feeder: Feeder::default(),
            vitals: Vitals::default(),
            answered: None,
        }
    }

    fn ticket(&self) -> Ticket {
        Ticket(self.shared.next_ticket.fetch_add(1, Ordering::Relaxed))
    }

    /// The members are these: whoever came gets a link, and who left is told no more after a while.
    fn follow(&mut self, members: &Members) {
        self.shared.set_members(members.clone());
        self.link(members);
        if members.was_removed(NodeId(self.shared.member_id)) {
            self.shared.removed.send_replace(true);
        }
    }

    /// Links to these members, and for a while to those who were linked before.
    pub(crate) fn link(&mut self, members: &Members) {
        let mut before = std::mem::take(&mut self.links);
        for (peer, link) in self.peers.follow(members) {
            let counted = self.shared.metrics.peer(peer);
            let frames = before.remove(&peer).map_or_else(Vec::new, |outgoing| outgoing.frames);
            self.links.insert(peer, Outgoing { link, counted, frames });
        }
    }

    fn move_leader(
        &mut self,
        to: NodeId,
        reply: Reply<Result<(), Refusal>>,
        requests: &mut Vec<Request>,
    ) {
        self.moving.push(reply);
        requests.push(Request::MoveLeader { to });
    }

    fn step_aside(
        &mut self,
        node: &Replica,
        reply: Reply<Result<(), Refusal>>,
        requests: &mut Vec<Request>,
    ) {
        match successor(node, NodeId(self.shared.member_id)) {
            Some(to) => self.move_leader(to, reply, requests),
            None => reply.send(Ok(())),
        }
    }

    fn checkpoint_taken(
        &mut self,
        outcome: Result<Position, String>,
        node: &Replica,
        requests: &mut Vec<Request>,
    ) {
        match outcome {
            Ok(position) => {
                tracing::info!(%position, "checkpoint written");
                self.errors.remove("checkpoint");
                self.shared.damaged_checkpoints.store(0, Ordering::Relaxed);
                if let Some(oldest) = self.desk.shelf().oldest_kept() {
                    self.log.release(oldest.index);
                }
                for peer in self.checkpointing.written() {
                    self.send_checkpoint(peer, node);
                }
            }
            Err(why) => {
                tracing::error!(why, "the checkpoint could not be written; trying again later");
                self.errors.insert("checkpoint", format!("checkpoint failed: {why}"));
                let waited = self.checkpointing.failed();
                requests.extend(waited.into_iter().map(|to| Request::CheckpointNotSent { to }));
            }
        }
    }

    fn send_checkpoint(&mut self, to: NodeId, node: &Replica) {
        match self.checkpointing.supply(to, node, self.desk.shelf().newest()) {
            Supply::Send(position) => {
                let shared = Arc::clone(&self.shared);
                self.desk.send(to, position, move |outcome| {
                    shared.insist(Ask::CheckpointSent { to, outcome });
                });
            }
            Supply::Take(checkpoint) => self.write_checkpoint(*checkpoint),
            Supply::Wait | Supply::Withhold => {}
        }
    }

    fn checkpoint_if_due(&mut self, node: &Replica) {
        if let Some(checkpoint) = self.checkpointing.due(node, self.desk.shelf().newest_bytes()) {
            self.write_checkpoint(checkpoint);
        }
    }

    fn checkpoint_now(&mut self, node: &Replica) {
        if let Some(checkpoint) = self.checkpointing.now(node) {
            self.write_checkpoint(checkpoint);
        }
    }

    fn write_checkpoint(&mut self, checkpoint: Checkpoint) {
        let begun = Instant::now();
        let shared = Arc::clone(&self.shared);
        let started = self.desk.write(checkpoint, move |outcome| {
            shared.metrics.checkpoint.observe(begun.elapsed());
            shared.insist(Ask::CheckpointTaken { outcome });
        });
        if let Err(error) = started {
            // The log grows until the next one is due.
            tracing::error!(%error, "cannot start a thread for the checkpoint");
            self.checkpointing.not_begun();
        }
    }

    fn snapshot(&self, node: &Replica) -> Snapshot {
        let store = Arc::new(node.store().clone());
        Snapshot { store, term: node.raft().term(), staleness: None }
    }

    /// Shows readers the present state, or tells them that what they see is old.
    fn publish_if_read(&self, node: &Replica) {
        if self.shared.readers.swap(0, Ordering::Relaxed) > 0 {
            self.publish(self.snapshot(node));
        } else {
            self.shared.stale.store(true, Ordering::SeqCst);
        }
    }

    fn publish(&self, snapshot: Snapshot) {
        *self.shared.published.write().unwrap_or_else(PoisonError::into_inner) = snapshot;
        self.shared.stale.store(false, Ordering::Release);
    }

    /// What the promises of this member rest on, as far as the loop knows.
    fn examine(&mut self, node: &Replica) {
        let raft = node.raft();
        let voters = raft.configuration().incoming.len();
        let answered = raft.answered_round().map(|round| (raft.term(), round));
        if answered.is_some() && (answered != self.answered || voters == 1) {
            self.vitals.heard = Some(monotonic_now());
        }
        self.answered = answered;
        if raft.leader().is_some() {
            self.vitals.heard = self.vitals.heard.max(raft.heard_leader());
        }
        self.vitals.patience = raft.patience();
        self.vitals.voters = voters;
        self.vitals.is_mending = raft.is_mending();
        self.vitals.holds_lease = raft.holds_lease(monotonic_now());
        self.vitals.is_disputed = node.disputed().is_some();
        if let (Some(since), false) = (node.fenced(), self.errors.contains_key("diverged")) {
            let text =
                format!("state in doubt since entry {since}: fenced until a quorum shares it");
            self.errors.insert("diverged", text);
        }
        if !self.vitals.is_disputed {
            self.errors.remove("disputed");
        }
    }

    fn report(&mut self, node: &Replica) {
        self.examine(node);
        let raft = node.raft();
        let mut status = self.shared.status.write().unwrap_or_else(PoisonError::into_inner);
        status.leader = raft.leader();
        status.term = raft.term();
        status.commit_index = raft.commit_index().0;
        status.applied_index = node.applied().index.0;
        status.revision = node.store().revision();
        status.db_size = self.log.bytes() + self.desk.shelf().bytes();
        status.db_size_in_use = node.store().bytes_in_use();
        status.is_learner = !raft.configuration().is_voter(NodeId(self.shared.member_id));
        self.shared.is_learner.store(status.is_learner, Ordering::Relaxed);
        status.is_witness = node.is_witness();
        status.applied_commands = node.applied_commands();
        status.alarms.clear();
        status.alarms.extend(node.store().alarms());
        status.vitals = self.vitals;
        status.errors.clear();
        status.errors.extend(self.errors.values().cloned());
        let stalled = self.log.stalled();
        status.errors.extend(stalled.map(|why| format!("the log waits for space: {why}")));
    }
}

/// Who is to lead when the leader `me` steps aside: the most caught-up other voter with a store.
/// None if `me` does not lead, or there is no such voter.
pub fn successor(node: &Replica, me: NodeId) -> Option<NodeId> {
    let voters = &node.raft().configuration().incoming;
    let others = node.raft().progress().filter(|peer| peer.0 != me && voters.contains(&peer.0));
    let others = others.filter(|peer| !node.members().is_witness(peer.0));
    let next = others.max_by_key(|peer| peer.1).map(|peer| peer.0);
    next.filter(|_| node.raft().leader() == Some(me))
}

impl Host<Replica> for ReplicaHost {
    type Ask = Ask;

    fn on_ask(&mut self, node: &Replica, ask: Ask, requests: &mut Vec<Request>) {
        match ask {
            // Its client has given up: nothing has happened, and it would be of use to nobody.
            Ask::Write { reply, .. } if reply.is_abandoned() => {}
            Ask::Write { ticket, envelope, reply } => {
                self.writes.insert(ticket, reply);
                requests.push(Request::Write { ticket, envelope });
            }
            Ask::Read { reply } => {
                // The first read of a turn asks for all of them.
                if self.turn_read.is_none() {
                    let ticket = self.ticket();
                    self.turn_read = Some(ticket);
                    requests.push(Request::Read { ticket });
                }
                let ticket = self.turn_read.expect("just set");
                self.reads.entry(ticket).or_default().push(reply);
            }
            Ask::Publish { reply } => {
                let snapshot = self.snapshot(node);
                self.publish(snapshot.clone());
                reply.send(Ok(snapshot));
            }
            Ask::Lease { ask, reply } => {
                let ticket = self.ticket();
                self.leases.insert(ticket, reply);
                requests.push(Request::Lease { ticket, ask });
            }
            Ask::Change { ticket, envelope, reply } => {
                self.changes.insert(ticket, reply);
                requests.push(Request::Change { ticket, envelope });
            }
            Ask::MoveLeader { to, reply } => self.move_leader(to, reply, requests),
            Ask::StepAside { reply } => self.step_aside(node, reply, requests),
            Ask::Suspect { peer } => requests.push(Request::Suspect { peer }),
            Ask::Install(checkpoint) => {
                self.shared.damaged_checkpoints.store(0, Ordering::Relaxed);
                requests.push(Request::Install(checkpoint));
            }
            Ask::TrustClock { until } => requests.push(Request::TrustClock { until }),
            Ask::CheckpointNow => self.checkpoint_now(node),
            Ask::CheckpointTaken { outcome } => self.checkpoint_taken(outcome, node, requests),
            Ask::CheckpointSent { to, outcome } => requests.push(match outcome {
                Ok(position) => Request::CheckpointSent { to, position },
                Err(why) => {
                    tracing::warn!(peer = %to, why, "the checkpoint did not reach the peer");
                    Request::CheckpointNotSent { to }
                }
            }),
        }
    }

    fn on_indication(
        &mut self,
        node: &Replica,
        indication: Indication,
        _requests: &mut Vec<Request>,
    ) {
        match indication {
            Indication::Answered { ticket, answer } => {
                self.shared.metrics.proposals_failed.add(u64::from(answer.is_err()));
                if let Some(reply) = self.writes.remove(&ticket) {
                    self.answers.push(Owed { reply, answer });
                }
            }
            Indication::Readable { ticket, ground } => {
                let readers = self.reads.remove(&ticket).unwrap_or_default();
                self.shared.metrics.reads_by(ground).add(readers.len() as u64);
                self.readable.push(readers);
            }
            Indication::ReadRefused { ticket, why } => {
                self.shared.metrics.reads_failed.add(1);
                for reader in self.reads.remove(&ticket).into_iter().flatten() {
                    reader.send(Err(why));
                }
            }
            Indication::LeaseAnswered { ticket, answer } => {
                if let Some(reply) = self.leases.remove(&ticket) {
                    reply.send(answer);
                }
            }
            Indication::RoleChanged { role, term, leader } => {
                let name = leader.map_or("none".to_owned(), |leader| leader.to_string());
                tracing::info!(?role, %term, leader = name, "role or leader changed");
                let before = self.shared.leader.send_replace((term, leader));
                let changed = leader.is_some() && before != (term, leader);
                self.shared.metrics.leader_changes.add(u64::from(changed));
            }
            Indication::CheckpointWanted { by } => self.send_checkpoint(by, node),
            Indication::LeaderMoved { outcome, .. } => {
                for reply in self.moving.drain(..) {
                    reply.send(outcome);
                }
            }
            Indication::Diverged { at } => {
                let text = self.shared.diverged(at, node.agreed());
                self.errors.insert("diverged", text);
            }
            Indication::Healed { at } => {
                self.errors.remove("diverged");
                self.shared.believed(at);
            }
            Indication::Disputed { at } => {
                tracing::error!(index = %at, "members differ and no quorum can tell who is right");
                self.errors.insert("disputed", format!("members differ at entry {at}"));
            }
            Indication::Changed { ticket, answer } => {
                if let Some(reply) = self.changes.remove(&ticket) {
                    reply.send(answer);
                }
            }
            Indication::MembersChanged(members) => self.follow(&members),
            Indication::Configured(configuration) => {
                tracing::info!(?configuration, "membership committed");
                self.shared.set_configuration(configuration);
            }
            Indication::Removed => {
                tracing::warn!("this member was removed from the cluster");
                self.shared.removed.send_replace(true);
            }
        }
    }

    fn send(&mut self, to: NodeId, message: Message) {
        if let Some(outgoing) = self.links.get_mut(&to) {
            outgoing.link.frame(&message, &mut outgoing.frames);
        }
    }

    fn flush(&mut self) {
        for outgoing in self.links.values_mut() {
            if outgoing.frames.is_empty() {
                continue;
            }
            if let Some(counted) = &outgoing.counted {
                counted.traffic.sent_bytes.add(outgoing.frames.len() as u64);
            }
            outgoing.link.push(&mut outgoing.frames);
        }
    }

    fn on_turn_end(&mut self, node: &Replica) {
        self.turn_read = None;
        let changed = node.applied() != self.seen_applied;
        if changed {
            self.seen_applied = node.applied();
            self.shared.auth.follow(node);
            self.shared.overload.follow(node.store().limit_rules());
            self.publish_if_read(node);
            self.checkpoint_if_due(node);
        }
        self.feeder.turn_ended(&self.shared.watch, node, monotonic_now);
        self.report(node);
        for Owed { reply, answer } in self.answers.drain(..) {
            reply.send(answer);
        }
        if !self.readable.is_empty() {
            let snapshot = self.snapshot(node);
            for reader in self.readable.drain(..).flatten() {
                reader.send(Ok(snapshot.clone()));
            }
        }
    }
}
