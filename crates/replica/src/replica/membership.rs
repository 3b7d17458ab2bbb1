//! Changing the members: who asks, who decides, and who carries it out.
//!
//! ```text
//!   Change ─► (a follower: Vet ─► leader) ─► may it? ─no─► Vetoed ─► Changed(Err)
//!                                              │yes
//!                                          proposed ─► Committed ─► Members::apply ─► Changed
//!                                                                        │   (or later: settled)
//!   leader: reconcile ◄── what is wanted ◄───────────────────────────────┘
//!      │ Reconfigure ─► joint ─► settled ─► Members::settle ─► who left has left
//! ```
//!
//! What can be judged from the log alone is judged when the command is applied, by everybody alike.
//! What depends on who is alive is judged by the leader before it proposes, because it knows best;
//! so nothing in the state depends on it.
//!
//! A leader reconciles only when it has applied an entry of its own term: everything that former
//! leaders proposed is then in its table, and it undoes nothing of theirs.
//!
//! A change that takes a vote away, or gives one to a learner, is answered when the consensus has
//! settled it. Whoever asked may then stop a process, and no quorum counts on it.

use super::{Indication, Refusal, Replica, ReplicaMutant};
use crate::envelope::{self, Life, Ticket};
use crate::members::{self, Members, MembersCommand, MembersError, Seat, Wanted};
use crate::message::Message;
use bytes::Bytes;
use quorate_core::{Context, Index, NodeId, Protocol, Time};
use quorate_protocols::consensus::raft::{self, ProgressState};
use std::collections::BTreeSet;

/// A learner that lacks more entries than this is not in sync, however long the log is.
const LAG_MAX: u64 = 1_000;

/// What a leader allows.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct MemberTerms {
    /// Refuse changes that a cluster in its present health might not survive.
    pub strict: bool,
    /// Learners that are to stay learners, at most.
    pub learners_max: usize,
    /// Learners that are in sync become voters without being asked.
    pub auto_promote: bool,
}

impl Default for MemberTerms {
    /// etcd's.
    fn default() -> MemberTerms {
        MemberTerms { strict: true, learners_max: 1, auto_promote: false }
    }
}

/// A change that somebody here asked for.
#[derive(Clone, Debug)]
pub(super) struct Change {
    since: Time,
    state: ChangeState,
}

#[derive(Clone, Debug)]
enum ChangeState {
    /// Nothing can have happened.
    Queued(Bytes),
    /// On its way.
    Sent,
    /// In the table; the consensus is to follow.
    Until(Settled),
}

/// What a change waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Settled {
    Left(NodeId),
    Votes(NodeId),
}

/// True if a sealed command is a change of members.
pub(super) fn is_change(sealed: &Bytes) -> bool {
    envelope::body(sealed).is_some_and(MembersCommand::is_one)
}

impl Replica {
    /// The table of the members, as of [`Replica::applied`].
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The table with what the log holds beyond it: everybody whom the configuration in force can
    /// name, applied or not.
    pub fn members_of_log(&self) -> Members {
        let mut members = self.members.clone();
        let beyond = self.raft.entries().filter(|e| e.position.index > self.applied.index);
        for entry in beyond {
            if let raft::Payload::Command(sealed) = &entry.payload
                && let Some((_, _, command)) = opened(sealed)
                && !matches!(command, MembersCommand::Force { .. })
            {
                let at = entry.position.index;
                let _ = members.apply(&command, &self.configuration, at); // refused then as now
            }
        }
        members
    }

    /// Hands leadership over to a voter.
    pub(super) fn move_leader(&mut self, to: NodeId, cx: &mut Context<'_, Self>) {
        let why = match () {
            () if self.raft.leader() != Some(cx.id) => Some(Refusal::NotLeader),
            () if !self.configuration.incoming.contains(&to) => Some(Refusal::BadTransferee),
            () if self.members.is_witness(to) => Some(Refusal::BadTransferee),
            () => None,
        };
        if let Some(why) = why {
            return cx.indicate(Indication::LeaderMoved { to, outcome: Err(why) });
        }
        let request = raft::Request::TransferLeadership { to };
        let heard = cx.child(|cx| self.raft.on_request(request, cx));
        self.hear(heard, cx);
    }

    pub(super) fn change(&mut self, ticket: Ticket, envelope: Bytes, cx: &mut Context<'_, Self>) {
        if self.agreement.fenced.is_some() {
            return cx.indicate(Indication::Changed { ticket, answer: Err(Refusal::Corrupt) });
        }
        let state = ChangeState::Queued(envelope);
        let before = self.changes.insert(ticket, Change { since: cx.now, state });
        assert!(before.is_none(), "ticket {ticket:?} was used twice");
        self.send_queued_changes(cx);
    }

    pub(super) fn send_queued_changes(&mut self, cx: &mut Context<'_, Self>) {
        let Some(leader) = self.raft.leader() else { return };
        let mut sealed = Vec::new();
        for change in self.changes.values_mut() {
            if let ChangeState::Queued(envelope) = &change.state {
                sealed.push(envelope.clone());
                change.state = ChangeState::Sent;
            }
        }
        for envelope in sealed {
            match leader == cx.id {
                true => self.vet_for(cx.id, envelope, cx),
                false => cx.send(leader, Message::Vet { envelope }),
            }
        }
    }

    /// As the leader: looks at a change, and proposes it or says why not. Somebody else leaves it
    /// unanswered; whoever asked gives up after a while.
    pub(super) fn vet_for(&mut self, from: NodeId, envelope: Bytes, cx: &mut Context<'_, Self>) {
        if self.raft.leader() != Some(cx.id) {
            return;
        }
        let Some((life, ticket, command)) = opened(&envelope) else { return };
        match self.vet(&command) {
            Ok(()) => {
                let request = raft::Request::Propose { command: envelope };
                let heard = cx.child(|cx| self.raft.on_request(request, cx));
                self.hear(heard, cx);
            }
            Err(why) if from == cx.id => self.vetoed(life, ticket, why, cx),
            Err(why) => cx.send(from, Message::Vetoed { life, ticket, why }),
        }
    }

    pub(super) fn vetoed(
        &mut self,
        life: Life,
        ticket: Ticket,
        why: MembersError,
        cx: &mut Context<'_, Self>,
    ) {
        if life == self.life && self.changes.remove(&ticket).is_some() {
            cx.indicate(Indication::Changed { ticket, answer: Ok(Err(why)) });
        }
    }

    /// The consensus does not take it. Definite.
    pub(super) fn change_refused(
        &mut self,
        ticket: Ticket,
        why: raft::Refusal,
        cx: &mut Context<'_, Self>,
    ) {
        self.changes.remove(&ticket);
        let why = match why {
            raft::Refusal::NoLeader | raft::Refusal::Transferring => Refusal::NoLeader,
            raft::Refusal::Overloaded => Refusal::TooManyRequests,
        };
        cx.indicate(Indication::Changed { ticket, answer: Err(why) });
    }

    pub(super) fn lose_patience_with_changes(&mut self, cx: &mut Context<'_, Self>) {
        let late = |change: &Change| change.since.after(self.request_timeout) <= cx.now;
        let late: Vec<Ticket> =
            self.changes.iter().filter(|(_, c)| late(c)).map(|(t, _)| *t).collect();
        for ticket in late {
            let change = self.changes.remove(&ticket).expect("just seen");
            let why = match change.state {
                ChangeState::Queued(_) => Refusal::NoLeader,
                ChangeState::Sent | ChangeState::Until(_) => Refusal::TimedOut,
            };
            cx.indicate(Indication::Changed { ticket, answer: Err(why) });
        }
    }

    /// A committed change takes effect.
    ///
    /// Panics: on bytes that are none; see `apply.rs`.
    pub(super) fn apply_change(&mut self, at: Index, sealed: Bytes, cx: &mut Context<'_, Self>) {
        let (life, ticket, command) = opened(&sealed).expect("a committed change decodes");
        let was_witness = self.is_witness();
        let applied = self.members.apply(&command, &self.configuration, at);
        if applied.is_ok() {
            cx.indicate(Indication::MembersChanged(self.members.clone()));
        }
        self.give_up_store(was_witness, cx);
        if life == self.life && self.changes.contains_key(&ticket) {
            let until = match command {
                MembersCommand::Remove { id } if !self.planted(ReplicaMutant::RemovalUnsettled) => {
                    Some(Settled::Left(id))
                }
                MembersCommand::Promote { id } => Some(Settled::Votes(id)),
                _ => None,
            };
            match (until, applied) {
                (Some(until), Ok(())) => {
                    let change = self.changes.get_mut(&ticket).expect("just seen");
                    change.state = ChangeState::Until(until);
                }
                (_, applied) => {
                    self.changes.remove(&ticket);
                    let answer = Ok(applied.map(|()| self.members.clone()));
                    cx.indicate(Indication::Changed { ticket, answer });
                }
            }
        }
        self.answer_settled(cx);
        self.reconcile(cx);
    }

    /// The configuration at `at` is committed.
    pub(super) fn configured(&mut self, at: Index, cx: &mut Context<'_, Self>) {
        let before = self.members.iter().count();
        self.members.settle(&self.configuration, at);
        if self.members.iter().count() != before {
            cx.indicate(Indication::MembersChanged(self.members.clone()));
        }
        self.answer_settled(cx);
        self.reconcile(cx);
    }

    /// A checkpoint took the place of the state: what was asked for may be in it.
    pub(super) fn members_installed(&mut self, members: Members, cx: &mut Context<'_, Self>) {
        if !members.is_empty() {
            self.members = members;
            cx.indicate(Indication::MembersChanged(self.members.clone()));
        }
        self.answer_settled(cx);
    }

    fn answer_settled(&mut self, cx: &mut Context<'_, Self>) {
        let settled = !self.configuration.is_joint();
        let done = |until: Settled| match until {
            Settled::Left(id) => settled && self.members.get(id).is_none(),
            Settled::Votes(id) => settled && self.configuration.incoming.contains(&id),
        };
        let is_done = |change: &Change| matches!(change.state, ChangeState::Until(u) if done(u));
        let answered: Vec<Ticket> =
            self.changes.iter().filter(|(_, c)| is_done(c)).map(|(t, _)| *t).collect();
        for ticket in answered {
            self.changes.remove(&ticket);
            let answer = Ok(Ok(self.members.clone()));
            cx.indicate(Indication::Changed { ticket, answer });
        }
    }

    /// As the leader: brings the configuration one step nearer to what is wanted.
    pub(super) fn reconcile(&mut self, cx: &mut Context<'_, Self>) {
        let knows =
            self.applied.term == self.raft.term() || self.planted(ReplicaMutant::ReconciledBehind);
        let leads = self.raft.leader() == Some(cx.id) && knows;
        if !leads || self.members.is_empty() || self.agreement.fenced.is_some() {
            return;
        }
        self.promote_the_ready(cx);
        let present = self.raft.configuration();
        if present.is_joint() {
            return;
        }
        let (mut voters, learners) = self.members.target(present, |id| self.is_ready(id));
        if self.planted(ReplicaMutant::ReplacedStays) {
            let leaves =
                |id: &NodeId| self.members.get(*id).is_none_or(|s| s.wanted == Wanted::Gone);
            voters.extend(present.incoming.iter().filter(|id| !leaves(id)));
        }
        if voters == present.incoming && learners == present.learners {
            return;
        }
        if let Some(heir) = self.heir(&voters) {
            return self.move_leader(heir, cx);
        }
        let request = raft::Request::Reconfigure { voters, learners };
        let heard = cx.child(|cx| self.raft.on_request(request, cx));
        self.hear(heard, cx);
    }

    /// To whom a leader that is to vote no longer hands over first, once in a term: so that nobody
    /// waits for an election. If nothing comes of it the change goes on all the same.
    fn heir(&mut self, voters: &BTreeSet<NodeId>) -> Option<NodeId> {
        let term = self.raft.term();
        if voters.contains(&self.id) || self.handed_over == Some(term) {
            return None;
        }
        self.handed_over = Some(term);
        self.ablest(voters)
    }

    /// Who of these would lead best: is heard, has a store, and holds most of the log.
    pub(super) fn ablest(&self, of: &BTreeSet<NodeId>) -> Option<NodeId> {
        let able = |id: &NodeId| {
            of.contains(id) && self.raft.is_alive(*id) && !self.members.is_witness(*id)
        };
        let others = self.raft.progress().filter(|(id, ..)| able(id));
        others.max_by_key(|(_, matched, _)| *matched).map(|(id, ..)| id)
    }

    /// Learners that are in sync become voters where that is wanted of all.
    fn promote_the_ready(&mut self, cx: &mut Context<'_, Self>) {
        if !self.member_terms.auto_promote {
            return;
        }
        let ready = |(id, seat): (NodeId, &Seat)| {
            (seat.wanted == Wanted::Learner && seat.started && self.is_ready(id)).then_some(id)
        };
        let Some(id) = self.members.iter().find_map(ready) else { return };
        if self.promoted == Some((self.raft.term(), id)) {
            return; // on its way
        }
        self.promoted = Some((self.raft.term(), id));
        let mut sealed = Vec::new();
        // Nobody waits for the answer: no life has this mark.
        envelope::seal(Life(0), Ticket(0), &mut sealed);
        MembersCommand::Promote { id }.encode(&mut sealed);
        let request = raft::Request::Propose { command: Bytes::from(sealed) };
        let heard = cx.child(|cx| self.raft.on_request(request, cx));
        self.hear(heard, cx);
    }

    /// True if a learner holds nearly all of the log, and goes on taking it.
    fn is_ready(&self, id: NodeId) -> bool {
        if self.planted(ReplicaMutant::PromotedEarly) {
            return true;
        }
        let last = self.raft.last().index.0;
        let in_sync =
            |matched: u64| last.saturating_sub(matched) <= LAG_MAX && matched >= last - last / 10;
        let mut progress = self.raft.progress();
        progress.any(|(of, matched, state)| {
            of == id && state == ProgressState::Replicate && in_sync(matched.0)
        }) && self.raft.is_alive(id)
    }

    /// As the leader: whether the cluster as it is now can bear a change.
    fn vet(&self, command: &MembersCommand) -> Result<(), MembersError> {
        if self.members.is_empty() {
            return Err(MembersError::NotCapable);
        }
        let strict = self.member_terms.strict;
        match command {
            MembersCommand::Add { wanted: Wanted::Learner, .. } => {
                let learners = self.members.iter().filter(|(_, s)| s.wanted == Wanted::Learner);
                if learners.count() >= self.member_terms.learners_max {
                    return Err(MembersError::TooManyLearners);
                }
                if strict { self.check_health(None) } else { Ok(()) }
            }
            MembersCommand::Add { .. } if strict => {
                self.check_started(None, 1, 0)?;
                self.check_health(None)
            }
            MembersCommand::Remove { id } if strict && self.is_voter(*id) => {
                self.check_started(Some(*id), 0, 0)?;
                self.check_health(Some(*id))
            }
            MembersCommand::Promote { id } => {
                let seat = self.members.get(*id).ok_or(MembersError::NotFound)?;
                members::check_promotion(*id, seat, self.raft.configuration())?;
                if !self.is_ready(*id) {
                    return Err(MembersError::LearnerNotReady);
                }
                if strict { self.check_started(None, 1, 1) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }

    fn is_voter(&self, id: NodeId) -> bool {
        self.members.get(id).is_some_and(|seat| seat.wanted == Wanted::Voter)
    }

    /// Of the voters that there will be, a quorum has started. `more` come, of whom some have
    /// started; `without` goes.
    fn check_started(
        &self,
        without: Option<NodeId>,
        more: usize,
        started: usize,
    ) -> Result<(), MembersError> {
        let left = self
            .members
            .iter()
            .filter(|(id, seat)| seat.wanted == Wanted::Voter && Some(*id) != without);
        let (mut voters, mut up) = (more, started);
        for (_, seat) in left {
            voters += 1;
            up += usize::from(seat.started);
        }
        // The only member gets a second one: nobody else could help it.
        if up == 1 && voters == 2 && more == 1 {
            return Ok(());
        }
        if voters > 0 && up > voters / 2 { Ok(()) } else { Err(MembersError::NotEnoughStarted) }
    }

    /// Nobody is added while a voter is not heard. One who is not heard may always be removed; one
    /// who is, only if a quorum of those who vote now is heard without it.
    fn check_health(&self, without: Option<NodeId>) -> Result<(), MembersError> {
        let voters = &self.raft.configuration().incoming;
        let alive = voters.iter().filter(|id| self.raft.is_alive(**id)).count();
        let healthy = match without {
            None => alive == voters.len(),
            Some(id) if !voters.contains(&id) || !self.raft.is_alive(id) => true,
            Some(id) => {
                let enough = voters.len() == 1 || alive > 1 + (voters.len() - 1) / 2;
                enough && self.leaves_a_living_quorum(id)
            }
        };
        if healthy { Ok(()) } else { Err(MembersError::Unhealthy) }
    }
}

impl Replica {
    /// Once all that is wished for already has come about, and this voter is gone, too, a quorum of
    /// who is left is heard. Removals that are asked for at once must not add up.
    fn leaves_a_living_quorum(&self, gone: NodeId) -> bool {
        let wished = self.members_of_log();
        let left = wished.iter().filter(|(id, seat)| seat.wanted == Wanted::Voter && *id != gone);
        let (mut voters, mut alive) = (0, 0);
        for (id, _) in left {
            voters += 1;
            alive += usize::from(self.raft.is_alive(id));
        }
        alive > voters / 2
    }
}

fn opened(sealed: &Bytes) -> Option<(Life, Ticket, MembersCommand)> {
    let (life, ticket, body) = envelope::open(sealed.clone())?;
    Some((life, ticket, MembersCommand::decode(body).ok()?))
}
