//! One replica of the service: consensus below, store above, and who waits for what.
//!
//! ```text
//!   Write ─► queued ─► raft ── Committed ─► store.apply ─► Answered
//!   Read  ─► raft (read index) ── ReadReady ─► applied far enough? ─► Readable
//! ```
//!
//! A write is answered by the replica that it was asked of, when *that replica* has applied it: so
//! the answer needs no way back from the leader, and whoever has the answer sees the write in its
//! own member's state at once.

mod agreement;
mod apply;
mod leases;
mod membership;
mod mutant;
mod patience;
mod reads;
mod trim;
mod wakefulness;
mod witness;

use crate::checkpoint::Checkpoint;
use crate::envelope::{self, Life, Ticket};
use crate::held::HeldRecords;
use crate::lessor::{LeaseAnswer, LeaseAsk, Lessor};
use crate::members::{Members, MembersError};
use crate::message::Message;
use crate::planted::Planted;
use crate::store::{KvError, Outcome, Revision, Store};
use agreement::Agreement;
use bytes::Bytes;
use quorate_core::{Buggify, Context, Index, NodeId, Position, Protocol, SystemModel, Term, Time};
use quorate_protocols::consensus::raft::{self, Configuration, Entry, Ground, Raft};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use wakefulness::Wakefulness;

pub use membership::MemberTerms;
#[cfg(feature = "mutants")]
pub use mutant::Plant;
pub use mutant::ReplicaMutant;

/// How often waiting requests are looked at for their deadline, and leases.
const PATIENCE_TICK: Duration = crate::lessor::TICK;
/// How often the digest of the state is told to the others.
const DIGEST_TICK: Duration = Duration::from_millis(500);
/// What an entry takes in the log beside its payload, about.
const ENTRY_OVERHEAD_BYTES: u64 = 48;
/// Of lessor and consensus in one turn: alone, a replica confirms its leadership while it flushes,
/// and the lessor's answer may be a record.
const FLUSHES: usize = 2;
/// Between two turns of background compaction on an idle replica.
const SWEEP_PAUSE: Duration = Duration::from_millis(2);

/// What a replica is made of.
#[derive(Clone, Debug)]
pub struct Config {
    /// Of the consensus.
    pub raft: raft::Config,
    /// This life's mark.
    pub life: Life,
    /// The newest checkpoint, if there is one.
    pub checkpoint: Option<Checkpoint>,
    /// The members that the cluster began with. Empty: they are never changed.
    pub members: Members,
    /// What a leader allows.
    pub member_terms: MemberTerms,
    /// A request that waited so long is answered without a result.
    pub request_timeout: Duration,
    /// Bytes of log kept in memory for followers that are a little behind; who is further behind
    /// is sent a checkpoint.
    pub log_retain_bytes: usize,
}

/// Asked by the layer above.
#[derive(Debug)]
pub enum Request {
    /// Replicate a command.
    Write {
        /// Names the answer.
        ticket: Ticket,
        /// A sealed envelope with the same ticket.
        envelope: Bytes,
    },
    /// Say when the state is fresh enough for a linearizable read that begins now.
    Read {
        /// Names the answer.
        ticket: Ticket,
    },
    /// Ask the leader about a lease.
    Lease {
        /// Names the answer.
        ticket: Ticket,
        /// What.
        ask: LeaseAsk,
    },
    /// Change the members.
    Change {
        /// Names the answer.
        ticket: Ticket,
        /// A sealed [`crate::members::MembersCommand`], with the same ticket.
        envelope: Bytes,
    },
    /// Hand leadership over.
    MoveLeader {
        /// The next leader.
        to: NodeId,
    },
    /// A checkpoint of a peer lies on our disk.
    Install(Box<Checkpoint>),
    /// The peer has received a checkpoint of ours.
    CheckpointSent {
        /// The peer.
        to: NodeId,
        /// What it received.
        position: Position,
    },
    /// The peer could not be sent a checkpoint.
    CheckpointNotSent {
        /// The peer.
        to: NodeId,
    },
    /// There is evidence that the peer's process has ended. Only ever costs an election.
    Suspect {
        /// The peer.
        peer: NodeId,
    },
    /// The rate of this member's clock is known to keep its bound: see
    /// [`raft::Request::TrustClock`].
    TrustClock {
        /// An instant of that clock.
        until: Time,
    },
}

/// Commands that were applied, by what they write.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct AppliedCommands {
    /// Puts.
    pub puts: u64,
    /// Deletes of keys and ranges.
    pub deletes: u64,
    /// Transactions.
    pub txns: u64,
}

/// What a command did.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Revision of the store after it.
    pub revision: Revision,
    /// Term of this replica at that moment.
    pub term: Term,
    /// Its outcome.
    pub outcome: Result<Outcome, KvError>,
}

/// Why a request got no answer from the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No leader is known; definite, nothing happened.
    NoLeader,
    /// The leader changed while a read waited; definite.
    LeaderChanged,
    /// Too much is queued; definite.
    TooManyRequests,
    /// This member is stopping: a write that was sent may still happen.
    Stopping,
    /// No answer in time: a write may still happen.
    TimedOut,
    /// No answer in time and the leader was lost meanwhile: a write may still happen.
    TimedOutLeaderLost,
    /// This member's state differs from the quorum's, so it serves nothing.
    Corrupt,
    /// Only the leader can do this.
    NotLeader,
    /// The wanted leader is no voter of this cluster.
    BadTransferee,
    /// A learner does not serve this.
    Learner,
    /// A witness keeps no store.
    Witness,
}

impl Refusal {
    /// True if the operation has not happened and never will.
    pub fn is_definite(self) -> bool {
        !matches!(self, Refusal::TimedOut | Refusal::TimedOutLeaderLost | Refusal::Stopping)
    }
}

/// Told to the layer above.
#[derive(Debug)]
pub enum Indication {
    /// A write was applied, or will not be waited for any longer.
    Answered {
        /// Of this request.
        ticket: Ticket,
        /// What it did.
        answer: Result<Answer, Refusal>,
    },
    /// From now on the state is fresh enough for this read.
    Readable {
        /// Of this request.
        ticket: Ticket,
        /// What that rests on.
        ground: Ground,
    },
    /// This read cannot be served now.
    ReadRefused {
        /// Of this request.
        ticket: Ticket,
        /// Why.
        why: Refusal,
    },
    /// The leader answered about a lease, or will not be waited for any longer.
    LeaseAnswered {
        /// Of this request.
        ticket: Ticket,
        /// How.
        answer: Result<LeaseAnswer, Refusal>,
    },
    /// Role, term or leader changed.
    RoleChanged {
        /// This replica's role.
        role: raft::RoleName,
        /// Its term.
        term: Term,
        /// The leader of that term, if known.
        leader: Option<NodeId>,
    },
    /// A follower needs what the log no longer holds: send it a checkpoint.
    CheckpointWanted {
        /// The follower.
        by: NodeId,
    },
    /// A hand-over of leadership ended.
    LeaderMoved {
        /// To whom it was to go.
        to: NodeId,
        /// How it ended.
        outcome: Result<(), Refusal>,
    },
    /// Our state differs from a quorum's: this replica is fenced off.
    Diverged {
        /// Where it was seen.
        at: Index,
    },
    /// Our state was in doubt and a quorum shares it: this replica serves again.
    Healed {
        /// Where.
        at: Index,
    },
    /// Replicas differ and no quorum can tell who is right.
    Disputed {
        /// Where it was seen.
        at: Index,
    },
    /// The members were changed as was asked, or are not, or that will not be waited for.
    Changed {
        /// Of this request.
        ticket: Ticket,
        /// The members after it.
        answer: Result<Result<Members, MembersError>, Refusal>,
    },
    /// The table of the members is another one.
    MembersChanged(Members),
    /// A membership was committed.
    Configured(Configuration),
    /// This replica is no longer a member.
    Removed,
}

/// Named alarms of a replica.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// Of the consensus.
    Raft(raft::Timer),
    /// Look for requests that waited too long.
    Patience,
    /// Tell the others the digest of our state.
    Digest,
    /// Go on with the background compaction.
    Sweep,
}

impl From<raft::Timer> for Timer {
    fn from(timer: raft::Timer) -> Timer {
        Timer::Raft(timer)
    }
}

#[derive(Clone, Debug)]
enum Write {
    /// Not yet given to the consensus: nothing can have happened.
    Queued { since: Time, envelope: Bytes },
    /// On its way: it may happen at any moment, or never.
    Sent { since: Time, term: Term },
}

/// A replica of the service.
///
/// Bounds: the layer above bounds the requests that wait (its tickets); the consensus bounds what
/// is uncommitted; the log in memory is cut beyond `Config::log_retain_bytes`.
#[derive(Debug)]
pub struct Replica {
    id: NodeId,
    raft: Raft,
    store: Store,
    applied: Position,
    applied_bytes: u64,
    /// Committed, not yet applied.
    committed: Vec<Entry>,
    configuration: Configuration,
    members: Members,
    /// Digest of the members that the cluster began with.
    genesis_digest: u64,
    member_terms: MemberTerms,
    changes: BTreeMap<Ticket, membership::Change>,
    /// As the leader of that term: the learner whose promotion was proposed last.
    promoted: Option<(Term, NodeId)>,
    /// The last term in which leadership was handed over by a leader that is to leave.
    handed_over: Option<Term>,
    life: Life,
    request_timeout: Duration,
    log_retain_bytes: usize,
    writes: BTreeMap<Ticket, Write>,
    queued: BTreeSet<Ticket>,
    reads: BTreeMap<Ticket, reads::Reading>,
    lessor: Lessor,
    wakefulness: Wakefulness,
    agreement: Agreement,
    /// The last long command that was announced.
    announced: Index,
    leader_seen: Option<NodeId>,
    applied_commands: AppliedCommands,
    buggify: Buggify,
    planted: Planted<ReplicaMutant>,
}

impl Replica {
    /// The consensus, to be looked at.
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// The store, to be looked at or cloned (which costs nothing).
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Last entry whose effect is in the store.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The state as it is now, for a checkpoint.
    pub fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            position: self.covered(),
            configuration: self.configuration.clone(),
            members: self.members.clone(),
            store: self.store.clone(),
        }
    }

    /// Bytes of log that were applied in this life: what a checkpoint would save a restart.
    pub fn applied_bytes(&self) -> u64 {
        self.applied_bytes
    }

    /// What was applied in this life.
    pub fn applied_commands(&self) -> AppliedCommands {
        self.applied_commands
    }

    fn write(&mut self, ticket: Ticket, envelope: Bytes, cx: &mut Context<'_, Self>) {
        if let Some(why) = self.serves_nothing() {
            return cx.indicate(Indication::Answered { ticket, answer: Err(why) });
        }
        let queued = Write::Queued { since: cx.now, envelope };
        let before = self.writes.insert(ticket, queued);
        assert!(before.is_none(), "ticket {ticket:?} was used twice");
        self.queued.insert(ticket);
        self.send_queued(cx);
    }

    /// Gives everything that waits for a leader to the consensus, in the order of the tickets.
    fn send_queued(&mut self, cx: &mut Context<'_, Self>) {
        if self.raft.leader().is_none() {
            return;
        }
        let term = self.raft.term();
        let asks_again = self.planted(ReplicaMutant::AskedAgain);
        let answers_early = self.planted(ReplicaMutant::AnsweredWhenProposed);
        for ticket in std::mem::take(&mut self.queued) {
            let write = self.writes.get_mut(&ticket).expect("a queued write waits");
            let Write::Queued { since, envelope } = write else {
                unreachable!("{ticket:?} is queued and sent")
            };
            let command = if asks_again { envelope.clone() } else { std::mem::take(envelope) };
            if asks_again {
                self.queued.insert(ticket);
            } else {
                *write = Write::Sent { since: *since, term };
            }
            if envelope::wants_stamp(&command) {
                self.stamp(command, cx);
                continue;
            }
            let early = answers_early.then(|| command.clone());
            let request = raft::Request::Propose { command };
            let heard = cx.child(|cx| self.raft.on_request(request, cx));
            self.hear(heard, cx);
            early.into_iter().for_each(|command| self.answer_early(ticket, command, cx));
        }
    }

    fn refused(&mut self, command: Bytes, why: raft::Refusal, cx: &mut Context<'_, Self>) {
        let Some((life, ticket, encoded)) = envelope::open(command.clone()) else { return };
        if life != self.life {
            return; // Of a former life, or not ours: nobody here waits for it.
        }
        if Lessor::owns(ticket) {
            return self.record_refused(encoded);
        }
        if self.changes.contains_key(&ticket) {
            return self.change_refused(ticket, why, cx);
        }
        let Some(write) = self.writes.get_mut(&ticket) else { return };
        let Write::Sent { since, .. } = *write else { return };
        match why {
            raft::Refusal::NoLeader | raft::Refusal::Transferring => {
                *write = Write::Queued { since, envelope: command };
                self.queued.insert(ticket);
            }
            raft::Refusal::Overloaded => {
                self.writes.remove(&ticket);
                let answer = Err(Refusal::TooManyRequests);
                cx.indicate(Indication::Answered { ticket, answer });
            }
        }
    }

    fn hear(&mut self, heard: Vec<raft::Indication>, cx: &mut Context<'_, Self>) {
        for indication in heard {
            match indication {
                raft::Indication::Committed { entries } => self.hold(entries, cx),
                raft::Indication::RoleChanged { role, term, leader } => {
                    cx.indicate(Indication::RoleChanged { role, term, leader });
                }
                raft::Indication::Refused { command, why } => self.refused(command, why, cx),
                raft::Indication::ReadReady { ticket, read_index, ground } => {
                    match Ticket(ticket) {
                        own if Lessor::owns(own) => self.lessor.confirmed(own, read_index),
                        ticket => self.read_ready(ticket, read_index, ground, cx),
                    }
                }
                raft::Indication::ReadRefused { ticket } => match Ticket(ticket) {
                    own if Lessor::owns(own) => self.lessor.unconfirmed(own),
                    ticket => self.read_refused(ticket),
                },
                raft::Indication::SnapshotWanted { by }
                    if self.is_witness()
                        && !self.planted(ReplicaMutant::WitnessGivesCheckpoint) =>
                {
                    self.has_no_checkpoint(by, cx);
                }
                raft::Indication::SnapshotWanted { by } => {
                    cx.indicate(Indication::CheckpointWanted { by });
                }
                raft::Indication::TransferEnded { to, outcome } => {
                    let outcome = match outcome {
                        raft::TransferOutcome::Completed => Ok(()),
                        raft::TransferOutcome::Aborted => Err(Refusal::TimedOut),
                    };
                    cx.indicate(Indication::LeaderMoved { to, outcome });
                }
                raft::Indication::Removed => cx.indicate(Indication::Removed),
                // Told again when it is committed, which is when it concerns anybody above.
                raft::Indication::Configured { .. } => {}
                // What is wanted is looked at again and again.
                raft::Indication::ReconfigureRefused { .. } => {}
            }
        }
    }

    fn install(&mut self, checkpoint: Checkpoint, cx: &mut Context<'_, Self>) {
        let Checkpoint { position, configuration, members, store } = checkpoint;
        let is_old = position.index <= self.applied.index;
        if is_old && !self.planted(ReplicaMutant::InstallGoesBack) {
            return; // We caught up while it was on its way.
        }
        self.store = self.replanted(store);
        self.applied = position;
        let was_witness = self.is_witness();
        if !self.planted(ReplicaMutant::InstallKeepsCommitted) {
            self.committed.retain(|entry| entry.position.index > position.index);
        }
        self.configuration = configuration.clone();
        self.members_installed(members, cx);
        self.give_up_store(was_witness, cx);
        self.leases_installed(cx.now);
        let request = raft::Request::Installed { position, configuration };
        let heard = cx.child(|cx| self.raft.on_request(request, cx));
        self.hear(heard, cx);
        // What we waited for may be inside the checkpoint: its outcome is no longer to be known.
        let sent = |write: &Write| matches!(write, Write::Sent { .. });
        let lost: Vec<Ticket> =
            self.writes.iter().filter(|(_, write)| sent(write)).map(|(t, _)| *t).collect();
        for ticket in lost {
            self.writes.remove(&ticket);
            let answer = Err(Refusal::TimedOutLeaderLost);
            cx.indicate(Indication::Answered { ticket, answer });
        }
        self.release_reads(cx);
    }
}

impl Protocol for Replica {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = raft::Record;
    type Request = Request;
    type Indication = Indication;

    const MODEL: SystemModel = Raft::MODEL;

    fn restore(config: &Config, records: &mut dyn Iterator<Item = raft::Record>) -> Replica {
        let mut configuration = config.raft.configuration.clone();
        let mut members = config.members.clone();
        let mut store = Store::new();
        let mut applied = Position::ZERO;
        let mut first = None;
        if let Some(checkpoint) = &config.checkpoint {
            applied = checkpoint.position;
            configuration = checkpoint.configuration.clone();
            if !checkpoint.members.is_empty() {
                members = checkpoint.members.clone();
            }
            // A peer's has data, and may have come just before this member died.
            if !members.is_witness(config.raft.id) {
                store = checkpoint.store.clone();
            }
            let configuration = configuration.clone();
            first = Some(raft::Record::Snapshot { position: applied, configuration });
        }
        let records = HeldRecords::new(records, applied);
        Replica {
            id: config.raft.id,
            raft: Raft::restore(&config.raft, &mut first.into_iter().chain(records)),
            store,
            applied,
            applied_bytes: 0,
            committed: Vec::new(),
            configuration,
            members,
            genesis_digest: config.members.digest(),
            member_terms: config.member_terms,
            changes: BTreeMap::new(),
            promoted: None,
            handed_over: None,
            life: config.life,
            request_timeout: config.request_timeout,
            log_retain_bytes: config.log_retain_bytes,
            writes: BTreeMap::new(),
            queued: BTreeSet::new(),
            reads: BTreeMap::new(),
            agreement: Agreement::default(),
            lessor: Lessor::new(config.life, config.raft.election_timeout),
            wakefulness: Wakefulness::new(),
            announced: Index(0),
            leader_seen: None,
            applied_commands: AppliedCommands::default(),
            buggify: config.raft.buggify,
            planted: Planted::default(),
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        cx.set_timer(Timer::Patience, PATIENCE_TICK..PATIENCE_TICK);
        cx.set_timer(Timer::Digest, DIGEST_TICK..DIGEST_TICK * 2);
        let heard = cx.child(|cx| self.raft.on_start(cx));
        self.hear(heard, cx);
        self.sweep(cx);
        self.start_leases(cx);
    }

    fn on_request(&mut self, request: Request, cx: &mut Context<'_, Self>) {
        match request {
            Request::Write { ticket, envelope } => self.write(ticket, envelope, cx),
            Request::Read { ticket } => self.read(ticket, cx),
            Request::Lease { ticket, ask } => self.ask_about_lease(ticket, ask, cx),
            Request::Change { ticket, envelope } => self.change(ticket, envelope, cx),
            Request::MoveLeader { to } => self.move_leader(to, cx),
            Request::Install(checkpoint) => self.install(*checkpoint, cx),
            Request::CheckpointSent { to, position } => {
                let request = raft::Request::SnapshotSent { to, position };
                let heard = cx.child(|cx| self.raft.on_request(request, cx));
                self.hear(heard, cx);
            }
            Request::CheckpointNotSent { to } => {
                let request = raft::Request::SnapshotFailed { to };
                let heard = cx.child(|cx| self.raft.on_request(request, cx));
                self.hear(heard, cx);
            }
            Request::Suspect { peer } => {
                let request = raft::Request::Suspect { peer };
                let heard = cx.child(|cx| self.raft.on_request(request, cx));
                self.hear(heard, cx);
            }
            Request::TrustClock { until } => {
                let request = raft::Request::TrustClock { until };
                let heard = cx.child(|cx| self.raft.on_request(request, cx));
                self.hear(heard, cx);
            }
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        match message {
            Message::Raft(message) => {
                let heard = cx.child(|cx| self.raft.on_message(from, message, cx));
                self.hear(heard, cx);
            }
            Message::Apply if from == cx.id => self.apply(cx),
            Message::Apply => {} // Nobody else may tell us when.
            Message::Lease(message) => self.on_lease_message(from, message, cx),
            Message::Digest { at, digest } => self.hear_digest(from, at, digest, cx),
            Message::Vet { envelope } => self.vet_for(from, envelope, cx),
            Message::Vetoed { life, ticket, why } => self.vetoed(life, ticket, why, cx),
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Raft(timer) => self.on_raft_timer(timer, cx),
            Timer::Patience => {
                self.lose_patience(cx);
                self.tick_leases(cx);
                self.send_queued(cx);
                self.ask_queued_reads(cx);
                self.send_queued_changes(cx);
                self.reconcile(cx);
                let stays = self.is_witness() && self.planted(ReplicaMutant::WitnessLeadsOn);
                if self.serves_nothing().is_some() && !stays {
                    self.step_aside(cx);
                }
                cx.set_timer(Timer::Patience, PATIENCE_TICK..PATIENCE_TICK);
            }
            Timer::Digest => {
                self.tell_digest(cx);
                if self.buggify.strikes(cx) {
                    self.forget_half(cx);
                }
                cx.set_timer(Timer::Digest, DIGEST_TICK..DIGEST_TICK * 2);
            }
            Timer::Sweep => self.sweep(cx),
        }
    }

    fn on_flush(&mut self, cx: &mut Context<'_, Self>) {
        self.wakefulness.note(cx.now, self.raft.patience());
        if self.leader_seen != self.raft.leader() {
            self.leader_seen = self.raft.leader();
            self.send_queued(cx);
            self.ask_queued_reads(cx);
            self.send_queued_changes(cx);
        }
        for _ in 0..FLUSHES {
            self.flush_leases(cx);
            let heard = cx.child(|cx| self.raft.on_flush(cx));
            self.hear(heard, cx);
        }
        self.trim_log(cx);
    }

    fn invariants(&self) {
        self.raft.invariants();
        assert!(self.applied.index <= self.raft.commit_index(), "applied beyond the commit index");
        self.lessor.invariants(&self.store);
        assert!(self.queued.len() <= self.writes.len(), "more queued writes than writes");
    }
}
