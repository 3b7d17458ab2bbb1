//! Elections: who leads.
//!
//! A member that hears no leader first asks whether it *could* win (pre-vote), so that one with a
//! bad link does not push the term up for nothing. Whoever hears a leader answers no such question
//! and no request for a vote, unless the leader itself asked for the change. A leader that hears no
//! quorum for an election timeout steps down: both together keep one bad link from stopping or
//! disturbing the cluster. A promise (`lease.rs`) holds where that silence would not be enough.
//!
//! Sources: paper 5.2 and 5.4.1; dissertation 4.2.3, 6.2 and 9.6.

use super::lease::Sends;
use super::mutant::Mutant;
use super::progress::Progress;
use super::read::{Asker, Rounds};
use super::record::{Entry, Payload};
use super::{Body, Cause, Leader, Raft, Role, Timer, TransferOutcome, Verdict};
use quorate_core::{Context, Index, NodeId, Position, Term, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Campaigns that came to nothing double the time for the next one, so often at most.
const FRUITLESS_MAX: u32 = 8;

/// A leader whose disk took nothing for so many election timeouts, while a quorum went on without
/// it, makes room for another.
const STALLED_CHECKS_MAX: u32 = 3;

/// The answers to one campaign. A set, so that an answer that arrives twice counts once.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Votes {
    verdicts: BTreeMap<NodeId, Verdict>,
}

impl Votes {
    fn is(&self, id: NodeId, verdict: Verdict) -> bool {
        self.verdicts.get(&id) == Some(&verdict)
    }
}

impl Raft {
    pub(super) fn is_sole_voter(&self) -> bool {
        let configuration = self.configuration();
        configuration.is_voter(self.id()) && configuration.voters().count() == 1
    }

    /// True while nobody here needs another leader.
    pub(super) fn hears_a_leader(&self, now: Time) -> bool {
        let recently = |heard: Time| now.since(heard) < self.patience();
        self.is_leader() || self.leader.is_some() && self.heard_leader.is_some_and(recently)
    }

    /// Falls back to following, in a new term or in this one.
    pub(super) fn follow(
        &mut self,
        term: Term,
        leader: Option<NodeId>,
        cx: &mut Context<'_, Raft>,
    ) {
        assert!(term >= self.term, "the term goes back from {} to {term}", self.term);
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.heard_leader = None;
            self.owed.acknowledgement = None;
        }
        match std::mem::replace(&mut self.role, Role::Follower) {
            Role::Follower => {}
            Role::PreCandidate(_) | Role::Candidate(_) => self.owed.election_timer = true,
            Role::Leader(former) => {
                self.owed.election_timer = true;
                self.owed.acknowledgement = None;
                self.questions.take_over(former.rounds);
                cx.cancel_timer(Timer::Heartbeat);
            }
        }
        if self.leader != leader {
            self.leader = leader;
            self.patience.forget_leader();
            self.questions.ask_again();
        }
        if leader.is_some() {
            self.leader_found(cx);
        }
    }

    /// A message that only the leader of this term sends.
    pub(super) fn hear_leader(&mut self, from: NodeId, cx: &mut Context<'_, Raft>) {
        assert!(!self.is_leader(), "{from} and we lead in term {}", self.term);
        self.follow(self.term, Some(from), cx);
        self.heard_leader = Some(cx.now);
        self.patience.hear(cx.now);
        self.fruitless = 0;
        self.owed.election_timer = true;
    }

    pub(super) fn set_election_timer(&mut self, cx: &mut Context<'_, Raft>) {
        self.hurried = false;
        let within = match self.role {
            // Nobody competes with a leader's question whether it is still heard.
            Role::Leader(_) => {
                let timeout = self.config.election_timeout;
                timeout..timeout + timeout / 4 + Duration::from_nanos(1)
            }
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => {
                // A campaign that came to nothing may have been too short, for disks or links that
                // are slower than they were when there was a leader.
                let longer = 1 << self.fruitless.min(FRUITLESS_MAX);
                let timeout = self.patience() * longer;
                let timeout = timeout.min(self.config.election_timeout);
                timeout..timeout * 2
            }
        };
        cx.set_timer(Timer::Election, within);
    }

    /// The process of `peer` has ended, as somebody saw: its silence need not be waited for.
    /// Whoever follows it campaigns soon, and no longer protects it from those who do.
    pub(super) fn suspect(&mut self, peer: NodeId, cx: &mut Context<'_, Raft>) {
        if self.leader != Some(peer) || self.is_leader() {
            return;
        }
        self.follow(self.term, None, cx);
        self.heard_leader = None;
        self.hurried = true;
        self.take_evidence();
        self.stand_after_promise(cx);
    }

    /// The election timer fires soon, but not before what was promised is over.
    pub(super) fn stand_after_promise(&mut self, cx: &mut Context<'_, Raft>) {
        let left = self.promise_left(cx.now);
        let spread = self.config.suspicion_spread.max(Duration::from_nanos(1));
        self.owed.election_timer = false;
        cx.set_timer(Timer::Election, left..left + spread);
    }

    /// Starts the election timer anew. For whoever knows that this member stood still, so that the
    /// timer which is due says nothing about the others. An election may always be late.
    pub fn put_off_election(&mut self) {
        self.owed.election_timer = true;
    }

    pub(super) fn on_election_timer(&mut self, cx: &mut Context<'_, Raft>) {
        self.owed.election_timer = true;
        if self.is_leader() {
            return self.check_quorum(cx);
        }
        if self.has_promised(cx.now) {
            return self.stand_after_promise(cx);
        }
        self.leader = None;
        self.fruitless = self.fruitless.saturating_add(1);
        self.refuse_reads(cx);
        self.pre_campaign(cx);
    }

    /// A leader that no quorum has heard for an election timeout may have a successor.
    fn check_quorum(&mut self, cx: &mut Context<'_, Raft>) {
        if !self.is_heard_by_quorum() && !self.planted(Mutant::QuorumUnchecked) {
            return self.follow(self.term, None, cx);
        }
        if self.is_stalled() {
            return self.follow(self.term, None, cx);
        }
        let (position, configuration) = self.log.configuration();
        let (own, leaving_since) = (self.config.id, position.index);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.progress.retain(|id, progress| {
            let informed = progress.commit_sent() >= leaving_since || !progress.is_heard();
            *id == own || configuration.contains(*id) || !informed
        });
        leader.progress.values_mut().for_each(Progress::forget_heard);
    }

    /// True if a quorum was heard since the last check of it.
    pub(super) fn is_heard_by_quorum(&self) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let own = self.id();
        self.agreed(|id| id == own || leader.progress.get(&id).is_some_and(Progress::is_heard))
    }

    /// True if the disk hangs while others commit: what is proposed here would only pile up, and
    /// nobody else would take over, because heartbeats need no disk.
    fn is_stalled(&mut self) -> bool {
        let (own, commit) = (self.id(), self.commit);
        let Role::Leader(leader) = &mut self.role else { return false };
        let held = leader.progress.get(&own).map_or(Index(0), Progress::matched);
        let (before, checks) = leader.stalled;
        let checks = if held < commit && held == before { checks + 1 } else { 0 };
        leader.stalled = (held, checks);
        checks >= STALLED_CHECKS_MAX
    }

    /// True if this member may ask for votes. One that votes no more must still do so until the
    /// change is known to be committed: those who are left may need its longer log (dissertation
    /// 4.2.2). One whose disk has not even taken its last campaign would only push terms up, which
    /// whoever could win has to catch up with each time.
    pub(super) fn may_campaign(&self) -> bool {
        let whole = self.mending.is_none() || self.planted(Mutant::MendingVotes);
        if self.campaign_unwritten.is_some() && !self.planted(Mutant::StalledCampaigns) {
            return false;
        }
        let firm = self.log.configuration_at(self.commit);
        whole && (self.configuration().is_voter(self.id()) || firm.is_voter(self.id()))
    }

    pub(super) fn pre_campaign(&mut self, cx: &mut Context<'_, Raft>) {
        self.leader = None;
        if !self.may_campaign() {
            // What a slow disk takes at last may still win: the requests leave when it does.
            let waits = self.campaign_unwritten == Some(self.term);
            if !(waits && matches!(self.role, Role::Candidate(_))) {
                self.role = Role::Follower;
            }
            return;
        }
        if self.planted(Mutant::ElectionUnguarded) {
            return self.campaign(Cause::Silence, cx);
        }
        self.role = Role::PreCandidate(Votes::default());
        let campaign = self.term.next();
        let body = Body::PreVote { campaign, last: self.log.last() };
        for id in self.configuration().voters().filter(|id| *id != self.id()) {
            cx.send(id, self.say(body.clone()));
        }
        self.on_pre_vote_reply(self.id(), campaign, Verdict::Granted, cx);
    }

    /// Asks for votes in a new term. Everything that the request claims, and our own vote, must be
    /// durable before anybody counts on it: an answer could otherwise outlive what it answered.
    pub(super) fn campaign(&mut self, cause: Cause, cx: &mut Context<'_, Raft>) {
        let held = cause == Cause::Silence && self.has_promised(cx.now);
        assert!(!held, "{} stands although it promised not to", self.id());
        self.term = self.term.next();
        self.vote = Some(self.id());
        self.leader = None;
        self.heard_leader = None;
        self.owed.acknowledgement = None;
        self.owed.election_timer = true;
        self.role = Role::Candidate(Votes::default());
        self.campaign_unwritten = Some(self.term);
        self.persist(cx);
        let body = Body::Vote { last: self.log.last(), cause };
        for id in self.configuration().voters().filter(|id| *id != self.id()) {
            cx.send_once_durable(id, self.say(body.clone()));
        }
        let own = self.say(Body::VoteReply { verdict: Verdict::Granted });
        cx.send_once_durable(self.id(), own);
    }

    /// The rule which keeps committed entries in every leader's log.
    fn is_up_to_date(&self, candidate: Position) -> bool {
        let mending = self.mending.filter(|_| !self.planted(Mutant::MendingVotes));
        let ours = self.log.last().max(mending.unwrap_or(Position::ZERO));
        let longer = candidate.index >= ours.index && self.planted(Mutant::VoteByLength);
        candidate >= ours || longer || self.planted(Mutant::VoteForAnyLog)
    }

    pub(super) fn on_pre_vote(
        &mut self,
        from: NodeId,
        campaign: Term,
        last: Position,
        cx: &mut Context<'_, Raft>,
    ) {
        if self.hears_a_leader(cx.now) || self.has_promised(cx.now) {
            return;
        }
        let verdict = match campaign > self.term && self.is_up_to_date(last) {
            true => Verdict::Granted,
            false => Verdict::Denied,
        };
        if verdict == Verdict::Granted && self.hurried {
            // Two who campaign at once may both fail. Whoever hurries lets another go first, once.
            self.owed.election_timer = true;
        }
        cx.send(from, self.say(Body::PreVoteReply { campaign, verdict }));
    }

    pub(super) fn on_pre_vote_reply(
        &mut self,
        from: NodeId,
        campaign: Term,
        verdict: Verdict,
        cx: &mut Context<'_, Raft>,
    ) {
        let Role::PreCandidate(votes) = &mut self.role else { return };
        if campaign != self.term.next() {
            return;
        }
        votes.verdicts.insert(from, verdict);
        let Role::PreCandidate(votes) = &self.role else { return };
        if self.agreed(|id| votes.is(id, Verdict::Granted)) {
            self.campaign(Cause::Silence, cx);
        } else if !self.agreed(|id| !votes.is(id, Verdict::Denied)) {
            self.follow(self.term, None, cx);
        }
    }

    pub(super) fn on_vote(
        &mut self,
        from: NodeId,
        last: Position,
        cause: Cause,
        cx: &mut Context<'_, Raft>,
    ) {
        let held = cause == Cause::Silence && self.has_promised(cx.now);
        let free = self.vote.is_none_or(|vote| vote == from) || self.planted(Mutant::VoteTwice);
        let idle = matches!(self.role, Role::Follower | Role::PreCandidate(_));
        if held || !(free && idle && self.is_up_to_date(last)) {
            return cx.send(from, self.say(Body::VoteReply { verdict: Verdict::Denied }));
        }
        self.follow(self.term, self.leader, cx);
        self.vote = Some(from);
        self.fruitless = self.fruitless.saturating_add(1);
        self.owed.election_timer = true;
        if !self.planted(Mutant::VoteWithoutPersisting) {
            self.persist(cx);
        }
        self.written_hard_state = (self.term, self.vote);
        let granted = self.say(Body::VoteReply { verdict: Verdict::Granted });
        if self.planted(Mutant::VoteBeforeDurable) {
            return cx.send(from, granted);
        }
        cx.send_once_durable(from, granted);
    }

    pub(super) fn on_vote_reply(
        &mut self,
        from: NodeId,
        verdict: Verdict,
        cx: &mut Context<'_, Raft>,
    ) {
        let denied = verdict == Verdict::Denied && !self.planted(Mutant::DenialCounted);
        let verdict = if denied { Verdict::Denied } else { Verdict::Granted };
        let counted_again = self.planted(Mutant::DuplicateVotesCounted);
        let missing = self.configuration().voters().find(
            |id| matches!(&self.role, Role::Candidate(votes) if !votes.verdicts.contains_key(id)),
        );
        let Role::Candidate(votes) = &mut self.role else { return };
        match missing {
            Some(other) if counted_again && votes.verdicts.contains_key(&from) => {
                votes.verdicts.insert(other, verdict);
            }
            _ => {
                votes.verdicts.insert(from, verdict);
            }
        }
        let Role::Candidate(votes) = &self.role else { return };
        if self.agreed(|id| votes.is(id, Verdict::Granted)) {
            self.lead(cx);
        } else if !self.agreed(|id| !votes.is(id, Verdict::Denied)) {
            self.follow(self.term, None, cx);
        }
    }

    /// Takes up leadership with an empty entry: only an entry of its own term lets a leader commit.
    fn lead(&mut self, cx: &mut Context<'_, Raft>) {
        let last = self.log.last().index;
        let mut members = self.configuration().members();
        members.insert(self.id());
        let mut progress: BTreeMap<NodeId, Progress> =
            members.into_iter().map(|id| (id, Progress::new(last))).collect();
        progress.insert(self.id(), Progress::of_own(last));
        let uncommitted = self.log.fitting(self.commit.next(), last, usize::MAX);
        let uncommitted = self.log.slice(self.commit.next(), uncommitted);
        let uncommitted_bytes = uncommitted.map(Entry::size).sum();
        self.role = Role::Leader(Box::new(Leader {
            progress,
            rounds: Rounds::default(),
            sends: Sends::default(),
            handed_over: false,
            uncommitted_bytes,
            forwarders: BTreeMap::new(),
            stalled: (Index(0), 0),
            slow_since: None,
            spared: None,
            spared_to: BTreeSet::new(),
            pace: Duration::ZERO,
            news: None,
        }));
        self.forwards.forget_outstanding();
        self.leader = Some(self.id());
        self.owed.election_timer = true;
        let interval = self.config.heartbeat_interval;
        cx.set_timer(Timer::Heartbeat, interval..interval + interval / 8 + Duration::from_nanos(1));
        self.append_own(Payload::Noop, cx);
        for command in self.forwards.take_fresh() {
            self.propose(command, cx);
        }
        for ticket in self.questions.take_all() {
            self.read(Asker::Here { ticket }, cx);
        }
        self.leader_found(cx);
    }

    /// A leader of this term is known: a transfer that was under way has come to an end.
    fn leader_found(&mut self, cx: &mut Context<'_, Raft>) {
        let outcome = match self.transfer {
            Some(to) if self.leader == Some(to) => TransferOutcome::Completed,
            _ => TransferOutcome::Aborted,
        };
        self.end_transfer(outcome, cx);
    }

    /// Index of the first entry of this leader's term is at or below the commit index.
    pub(super) fn has_committed_in_term(&self) -> bool {
        self.log.term_at(self.commit) == Some(self.term)
    }
}
