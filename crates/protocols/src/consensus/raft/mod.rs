//! Raft: a replicated log under a strong leader.
//!
//! **Problem.** A few members, of which a minority may be down or unreachable, shall agree on one
//! growing sequence of commands, and never forget one that was acknowledged.
//!
//! **Model.** Messages are lost, doubled, reordered and late; members crash and return with what
//! was durable; nobody lies; delays are bounded only most of the time
//! ([`SystemModel::DATA_CENTRE`]). Safety needs no clock at all.
//!
//! **Idea.** Time is cut into *terms*; a majority elects at most one leader in each. Only it may
//! append; its followers copy. An entry of the leader's own term which a majority holds durably is
//! *committed*, and everything before it too, because a later leader needs the vote of one of those
//! who hold it, and none of them votes for a shorter log.
//!
//! ```text
//!                  silence                quorum would vote          quorum votes
//!    Follower -----------------> PreCandidate ----------> Candidate --------------> Leader
//!       ^  ^                        |   ^                   |                         |
//!       |  +-- a leader speaks -----+   +--- no decision ---+                         |
//!       +------------- a higher term, or no quorum heard for an election timeout -----+
//! ```
//!
//! *Remember, then answer*: a vote, and the acknowledgement of an entry, are sent once the records
//! before them are durable. A leader writes and sends in parallel, and acknowledges and votes for
//! itself by such a message *to itself*; so there is no storage-completion event here.
//!
//! | file | what | source |
//! |---|---|---|
//! | `election.rs` | pre-vote, vote, check-quorum | paper 5.2, 5.4.1; dissertation 6.2, 9.6 |
//! | `replication.rs` | append, acknowledge, commit | paper 5.3, 5.4.2; dissertation 10.2.1 |
//! | `forward.rs` | from follower to leader, once | dissertation 6.2 |
//! | `read.rs` | linearizable reads without the log | dissertation 6.4 |
//! | `lease.rs` | the same without a round, by promises and clocks | dissertation 6.4.1 |
//! | `membership.rs` | joint consensus, learners | paper 6; dissertation 4.2.1, 4.2.2, 4.3 |
//! | `snapshot.rs` | compaction, states from elsewhere | paper 7; dissertation 5.1 |
//! | `transfer.rs` | handing over leadership | dissertation 3.10 |
//! | `restore.rs` | what a crash and a bad disk leave | Alagappan et al. 2018, conservatively |
//! | `patience.rs` | how long a silence counts as an end | Jacobson 1988; Chen et al. 2002 |
//! | `progress.rs`, `quorum.rs`, `log.rs` | pure parts | |
//! | `safety.rs` | what must hold across members | paper, figure 3 |
//!
//! **Guarantees.** *Election safety*: at most one leader in a term. *Log matching*: two logs which
//! share a position agree up to it. *Leader completeness*: a leader holds every entry committed in
//! earlier terms. *State machine safety*: no two members commit different entries at an index.
//! *Once*: what is proposed once is appended once, however often messages are doubled.
//! *Linearizable reads*: a [`Indication::ReadReady`] names an index not below any write which was
//! acknowledged before the read was asked for. *Progress*: while a majority is up, reachable and
//! timely, commands commit.
//!
//! **Reads** cost a round of heartbeats, shared by all reads of a batch, and never wait for a disk.
//! Where that is asked for they rest on promises of the voters and on the rate of clocks instead.
//! The number of a round grows within a term and is never used twice, so a late answer confirms
//! only what was asked before it.
//!
//! **Damage.** A member whose log has a hole keeps what stands before the hole and remembers, also
//! through further crashes, where the log once ended. Until it reaches that end again it does not
//! campaign and votes only for those who have reached it, so what it once acknowledged stays
//! acknowledged.
//!
//! **Left out.** Witnesses, flexible quorums. States travel by
//! the layer above; a message never carries one. A forwarded command that is lost on its way is not
//! reported: its proposer gives up after a while.
//!
//! **Sources.** Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014),
//! here "paper"; Ongaro, "Consensus: Bridging Theory and Practice" (2014), here "dissertation";
//! Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018).

pub mod codec;
mod election;
mod forward;
mod interface;
mod lease;
mod log;
mod membership;
mod message;
mod mutant;
mod patience;
mod progress;
mod quorum;
mod read;
mod record;
mod replication;
mod restore;
mod safety;
mod snapshot;
mod transfer;

#[cfg(test)]
mod lease_tests;
#[cfg(test)]
mod paper_tests;

pub use forward::{Outstanding, ReplayWindow};
pub use interface::{
    Config, Indication, ReconfigureRefusal, Refusal, Request, RoleName, Standing, Timer,
    TransferOutcome,
};
pub use lease::{Ground, LeaseTerms};
pub use membership::Configuration;
pub use message::{Body, Cause, Message, Verdict};
#[cfg(any(test, feature = "mutants"))]
pub use mutant::Mutant;
pub use progress::ProgressState;
pub use record::{Entry, Payload, Record};
pub use restore::RestoreError;
pub use safety::safety;

use election::Votes;
use forward::Forwards;
use lease::{Promise, Sends};
use log::Log;
#[cfg(not(any(test, feature = "mutants")))]
use mutant::Mutant;
use patience::Patience;
use progress::Progress;
use quorate_core::{Context, Index, NodeId, Position, Protocol, SystemModel, Term, Time};
use read::{Asker, Questions, Rounds};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One member of a Raft cluster.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Raft {
    config: Config,
    restore_error: Option<RestoreError>,
    life: u64,

    term: Term,
    vote: Option<NodeId>,
    /// Term and vote as last written.
    written_hard_state: (Term, Option<NodeId>),
    log: Log,
    /// The end of the log as it once was, while it is damaged.
    mending: Option<Position>,

    role: Role,
    leader: Option<NodeId>,
    heard_leader: Option<Time>,
    patience: Patience,
    promise: Promise,
    /// The election timer is short, because the leader's process is known to have ended.
    hurried: bool,
    /// Campaigns, of anybody's, since a leader was heard: the next one is given more time.
    fruitless: u32,
    /// The term of our last campaign, while our vote in it is not durable.
    campaign_unwritten: Option<Term>,
    last_event: Time,
    commit: Index,
    /// Last index that the layer above was told to be committed.
    indicated: Index,
    /// Last commit index that was written as a hint.
    hinted: Index,
    transfer: Option<NodeId>,
    questions: Questions,
    forwards: Forwards,

    /// What the next flush owes.
    owed: Owed,
    told_role: Option<(RoleName, Term, Option<NodeId>)>,
    told_configuration: Option<Position>,
    /// This member belonged to a configuration that was in force here.
    was_member: bool,
    #[cfg(any(test, feature = "mutants"))]
    mutant: Option<Mutant>,
}

/// Debts of the handlers of a batch, paid by the flush.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Owed {
    /// The election alarm must be set anew.
    election_timer: bool,
    /// Entries were written, so that a hint of the commit index can go along.
    commit_hint: bool,
    /// The log is, once durable, the leader's up to here.
    acknowledgement: Option<Index>,
}

/// What only a role knows.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Role {
    Follower,
    PreCandidate(Votes),
    Candidate(Votes),
    Leader(Box<Leader>),
}

/// What only a leader knows.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Leader {
    /// Of every member, ourselves included, and of those who are leaving.
    progress: BTreeMap<NodeId, Progress>,
    rounds: Rounds,
    sends: Sends,
    /// Somebody was asked to campaign in spite of all promises.
    handed_over: bool,
    /// What was seen of each member that forwarded; never cut in a term.
    forwarders: BTreeMap<NodeId, ReplayWindow>,
    uncommitted_bytes: usize,
    /// How far our own disk had come at the last check of the quorum, and for how many checks it
    /// has stood there although others went on.
    stalled: (Index, u32),
    /// Since when our own disk has been much slower than a quorum's.
    slow_since: Option<Time>,
    /// When leadership was last offered to another for that.
    spared: Option<Time>,
    /// To whom, since nothing was offered for a while; emptied then. At most the voters.
    spared_to: BTreeSet<NodeId>,
    /// A quorum answers and writes within this time; looked at with each heartbeat timer.
    pace: Duration,
    /// The commit index when [`Timer::News`] was set; what was committed later waits for the next.
    news: Option<Index>,
}

impl Raft {
    /// The highest term seen.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Number of this life, from 1. A life that ended before anything of it was durable has the
    /// number of the next one.
    pub fn life(&self) -> u64 {
        self.life
    }

    /// What this member does.
    pub fn role(&self) -> RoleName {
        match &self.role {
            Role::Follower if self.configuration().is_voter(self.config.id) => RoleName::Follower,
            Role::Follower => RoleName::Learner,
            Role::PreCandidate(_) => RoleName::PreCandidate,
            Role::Candidate(_) => RoleName::Candidate,
            Role::Leader(_) => RoleName::Leader,
        }
    }

    /// Whom this member takes for the leader.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Entries up to here never change.
    pub fn commit_index(&self) -> Index {
        self.commit
    }

    /// The end of the log.
    pub fn last(&self) -> Position {
        self.log.last()
    }

    /// What precedes the first entry in memory.
    pub fn base(&self) -> Position {
        self.log.base()
    }

    /// The position of the entry at `index`, if it is in memory or the base.
    pub fn position_at(&self, index: Index) -> Option<Position> {
        self.log.term_at(index).map(|term| Position { term, index })
    }

    /// The entries in memory: those after [`Raft::base`].
    pub fn entries(&self) -> impl Iterator<Item = &Entry> + '_ {
        self.log.entries()
    }

    /// This member.
    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The configuration in force.
    pub fn configuration(&self) -> &Configuration {
        &self.log.configuration().1
    }

    /// What the entries in memory count for. Unit: bytes, see [`Entry::size`].
    pub fn retained_bytes(&self) -> usize {
        self.log.bytes()
    }

    /// What a leader knows of each member: how much of the log it holds, and how it is served.
    /// Empty at others.
    pub fn progress(&self) -> impl Iterator<Item = (NodeId, Index, ProgressState)> + '_ {
        let progress = match &self.role {
            Role::Leader(leader) => Some(&leader.progress),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => None,
        };
        let each = progress.into_iter().flatten();
        each.map(|(id, progress)| (*id, progress.matched(), progress.state()))
    }

    /// True if a leader has heard the member lately: within two election timeouts or so. A leader
    /// always hears itself; others hear nobody.
    pub fn is_alive(&self, id: NodeId) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        id == self.id() || leader.progress.get(&id).is_some_and(Progress::is_alive)
    }

    /// True while entries that this member once held are missing.
    pub fn is_mending(&self) -> bool {
        self.mending.is_some()
    }

    /// A silence of the leader of this length means to this member that it is gone.
    pub fn patience(&self) -> Duration {
        if self.planted(Mutant::PatienceFrozen) {
            return self.config.election_timeout_min;
        }
        if self.planted(Mutant::MarginLeftOut) {
            return self.patience.without_margin();
        }
        self.patience.timeout()
    }

    /// When this member last heard the leader of its term. None if it has not, or leads.
    pub fn heard_leader(&self) -> Option<Time> {
        self.heard_leader.filter(|_| !self.is_leader())
    }

    /// Why this member must not take part: its records contradict what it may have promised. It
    /// then stays mute, and whoever runs it should say why and stop.
    pub fn restore_error(&self) -> Option<RestoreError> {
        self.restore_error
    }

    fn planted(&self, mutant: Mutant) -> bool {
        #[cfg(any(test, feature = "mutants"))]
        return self.mutant == Some(mutant);
        #[cfg(not(any(test, feature = "mutants")))]
        {
            let _ = mutant;
            false
        }
    }

    fn say(&self, body: Body) -> Message {
        Message { term: self.term, body }
    }

    fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// What a quorum of the configuration in force reaches.
    fn agreed<T: Copy + Default + Ord>(&self, of: impl Fn(NodeId) -> T) -> T {
        let configuration = self.configuration();
        if self.planted(Mutant::JointBypassed) {
            return quorum::majority(&configuration.incoming, of);
        }
        if self.planted(Mutant::HalfIsQuorum) {
            return quorum::half(&configuration.incoming, of);
        }
        if self.planted(Mutant::LearnerCounted) {
            let mut counted = configuration.clone();
            counted.incoming.extend(&configuration.learners);
            return quorum::agreed(&counted, of);
        }
        quorum::agreed(configuration, of)
    }

    /// Writes the term and the vote if they changed. Called before anything is promised.
    fn persist(&mut self, cx: &mut Context<'_, Raft>) {
        if self.written_hard_state == (self.term, self.vote) {
            return;
        }
        self.written_hard_state = (self.term, self.vote);
        cx.write(Record::HardState { term: self.term, vote: self.vote });
    }

    /// Before each event: notices that this process stood still.
    fn wake(&mut self, cx: &mut Context<'_, Raft>) {
        if cx.now.since(self.last_event) > self.config.election_timeout {
            self.ask_reads_again();
        }
        self.last_event = cx.now;
    }

    fn tell_role(&mut self, cx: &mut Context<'_, Raft>) {
        let now = (self.role(), self.term, self.leader);
        if self.told_role != Some(now) {
            self.told_role = Some(now);
            let (role, term, leader) = now;
            cx.indicate(Indication::RoleChanged { role, term, leader });
        }
    }

    /// A message of our own term, or one that is answered whatever its term.
    fn dispatch(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Raft>) {
        match message.body {
            Body::PreVote { campaign, last } => self.on_pre_vote(from, campaign, last, cx),
            Body::PreVoteReply { campaign, verdict } => {
                self.on_pre_vote_reply(from, campaign, verdict, cx);
            }
            Body::Vote { last, cause } => self.on_vote(from, last, cause, cx),
            Body::VoteReply { verdict } => self.on_vote_reply(from, verdict, cx),
            Body::Append { prev, entries, commit } => {
                self.on_append(from, prev, entries, commit, cx);
            }
            Body::Appended { matched } => self.on_appended(from, matched, cx),
            Body::AppendRejected { prev, hint } => self.on_append_rejected(from, prev, hint),
            Body::Heartbeat { round, commit, pace, lease } => {
                self.patience.told(pace);
                self.on_heartbeat(from, round, commit, lease, cx);
            }
            Body::Committed { commit } => self.on_committed(from, commit, cx),
            Body::HeartbeatReply { round, promise } => {
                self.on_heartbeat_reply(from, round, promise, cx);
            }
            Body::Forward { life, batch, commands } => {
                self.on_forward(from, life, batch, commands, cx);
            }
            Body::ForwardRefused { life, batch, first, why } => {
                self.on_forward_refused(from, life, batch, first, why, cx);
            }
            Body::ReadIndex { life, batch } => self.on_read_index(from, life, batch, cx),
            Body::ReadIndexReply { life, batch, read_index } => {
                self.on_read_index_reply(life, batch, read_index, cx);
            }
            Body::TimeoutNow => self.on_timeout_now(from, cx),
        }
    }

    /// A sender of an older term must learn of ours, or it would go on leading or campaigning.
    fn correct(&mut self, from: NodeId, body: Body, cx: &mut Context<'_, Raft>) {
        match body {
            Body::Append { prev, entries, commit }
                if self.planted(Mutant::StaleAppendAccepted) && !self.is_leader() =>
            {
                self.on_append(from, prev, entries, commit, cx);
            }
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Committed { .. } => {
                let promise = Duration::ZERO;
                cx.send(from, self.say(Body::HeartbeatReply { round: 0, promise }));
            }
            Body::Vote { .. } => {
                cx.send(from, self.say(Body::VoteReply { verdict: Verdict::Denied }));
            }
            Body::PreVote { campaign, last } => self.on_pre_vote(from, campaign, last, cx),
            // Whoever grants is in an older term than the campaign, and may be in one older than
            // ours: a new voter that has heard nothing yet.
            Body::PreVoteReply { campaign, verdict } => {
                self.on_pre_vote_reply(from, campaign, verdict, cx);
            }
            body => self.believe(from, body, cx),
        }
    }

    /// Planted bugs: what an older term says counts in this one.
    fn believe(&mut self, from: NodeId, body: Body, cx: &mut Context<'_, Raft>) {
        match body {
            Body::VoteReply { verdict } if self.planted(Mutant::StaleVoteCounted) => {
                self.on_vote_reply(from, verdict, cx);
            }
            Body::Appended { matched } if self.planted(Mutant::StaleAckCounted) => {
                self.on_appended(from, matched, cx);
            }
            _ => {}
        }
    }
}

impl Protocol for Raft {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = Record;
    type Request = Request;
    type Indication = Indication;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Config, records: &mut dyn Iterator<Item = Record>) -> Raft {
        restore::restore(config, records)
    }

    fn on_start(&mut self, cx: &mut Context<'_, Raft>) {
        assert_eq!(cx.id, self.config.id, "a member runs under its own id");
        self.last_event = cx.now;
        if self.restore_error.is_some() {
            return;
        }
        cx.write(Record::Life { number: self.life });
        if let Some(last) = self.mending {
            cx.write(Record::Mending { last });
        }
        self.keep_former_promise(cx.now);
        self.owed.election_timer = true;
        if self.is_sole_voter() {
            match self.has_promised(cx.now) {
                true => self.stand_after_promise(cx),
                false => self.pre_campaign(cx), // nobody else could be leading
            }
        }
    }

    fn on_request(&mut self, request: Request, cx: &mut Context<'_, Raft>) {
        if self.restore_error.is_some() {
            return self.refuse(request, cx);
        }
        self.wake(cx);
        match request {
            Request::Propose { command } => self.propose(command, cx),
            Request::Read { ticket } => self.read(Asker::Here { ticket }, cx),
            Request::Confirm { ticket } => self.read(Asker::Confirming { ticket }, cx),
            Request::TrustClock { until } => self.trust_clock(until, cx.now),
            Request::TransferLeadership { to } => self.transfer_leadership(to, cx),
            Request::Reconfigure { voters, learners } => self.reconfigure(voters, learners, cx),
            Request::Compact { upto } => self.compact(upto, cx),
            Request::Forget { upto } => self.forget(upto),
            Request::Installed { position, configuration } => {
                self.installed(position, configuration, cx);
            }
            Request::SnapshotSent { to, position } => self.snapshot_sent(to, position),
            Request::Suspect { peer } => self.suspect(peer, cx),
            Request::SnapshotFailed { to } => self.snapshot_failed(to),
        }
        self.persist(cx);
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Raft>) {
        if self.restore_error.is_some() {
            return;
        }
        self.wake(cx);
        if from == self.id() && matches!(message.body, Body::VoteReply { .. }) {
            // Our own vote comes when it is durable; disks write in order.
            let written = message.term;
            self.campaign_unwritten = self.campaign_unwritten.filter(|term| *term > written);
        }
        if message.term > self.term {
            match &message.body {
                Body::Vote { cause: Cause::Silence, .. }
                    if self.has_promised(cx.now)
                        || self.hears_a_leader(cx.now)
                            && !self.planted(Mutant::ElectionUnguarded) =>
                {
                    return;
                }
                Body::PreVote { .. } => {} // asking costs nobody a term
                Body::Append { .. } | Body::Heartbeat { .. } | Body::Committed { .. } => {
                    self.follow(message.term, Some(from), cx);
                }
                _ => self.follow(message.term, None, cx),
            }
        }
        if message.term < self.term {
            self.correct(from, message.body, cx);
        } else {
            self.dispatch(from, message, cx);
        }
        self.persist(cx);
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Raft>) {
        if self.restore_error.is_some() {
            return;
        }
        self.wake(cx);
        match timer {
            Timer::Election => self.on_election_timer(cx),
            Timer::Heartbeat => self.on_heartbeat_timer(cx),
            Timer::Transfer if self.planted(Mutant::TransferNeverEnds) => {}
            Timer::Transfer => self.end_transfer(TransferOutcome::Aborted, cx),
            Timer::News => self.on_news_timer(cx),
        }
        self.persist(cx);
    }

    fn on_flush(&mut self, cx: &mut Context<'_, Raft>) {
        if self.restore_error.is_some() {
            return;
        }
        self.tell_role(cx);
        self.indicate_committed(cx);
        self.tell_configuration(cx);
        self.flush_writes(cx);
        if self.is_leader() {
            self.flush_appends(cx);
            self.flush_rounds(cx);
            self.retire(cx);
        } else {
            self.flush_forwards(cx);
            self.flush_questions(cx);
        }
        if std::mem::take(&mut self.owed.election_timer) {
            self.set_election_timer(cx);
        }
        self.tell_role(cx);
    }

    fn invariants(&self) {
        let (base, last) = (self.log.base(), self.log.last());
        assert!(base.index <= self.indicated, "{base} is compacted but was not applied");
        assert!(self.indicated <= self.commit, "told of {} uncommitted", self.indicated);
        assert!(self.commit <= last.index, "committed {} beyond {last}", self.commit);
        assert!(last.term <= self.term, "an entry {last} of a term to come");
        self.forwards.invariants();
        match &self.role {
            Role::Follower => assert_ne!(self.leader, Some(self.id()), "a follower of itself"),
            Role::PreCandidate(_) => assert_eq!(self.leader, None, "campaigns against a leader"),
            Role::Candidate(_) => assert_eq!(self.vote, Some(self.id()), "votes for itself"),
            Role::Leader(leader) => {
                assert_eq!(self.vote, Some(self.id()), "leads without its own vote");
                assert_eq!(self.leader, Some(self.id()), "leads, and follows somebody");
                assert_eq!(last.term, self.term, "leads without an entry of its term");
                assert!(!self.is_mending() || self.planted(Mutant::MendingVotes));
                for id in self.configuration().voters() {
                    assert!(leader.progress.contains_key(&id), "{id} is not served");
                }
                leader.progress.values().for_each(|progress| progress.invariants(last.index));
                leader.rounds.invariants();
            }
        }
    }
}
