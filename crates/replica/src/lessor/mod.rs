//! The lessor: when leases end, decided by the leader, on a clock that survives it.
//!
//! **Problem.** A client says every few seconds that it is alive, so a keep-alive must not be a
//! write; yet no lease may end early because leaders changed, a process stood still, or somebody
//! takes itself for the leader who no longer is. And a lease shall not live forever because
//! leaders change often.
//!
//! **Idea.** *The lease clock* ([`clock`]) is the leader's. Others estimate it, never ahead; a new
//! leader goes on from its estimate or from the last moment in the log, whichever is later. Grants
//! carry it, so a granted lease has a deadline that every member knows.
//!
//! *The first keep-alive* of a lease replicates one record, "it is being renewed", before it is
//! answered. Later ones change only the leader's memory. If nobody renews a lease for half its time
//! the leader replicates its deadline again ([`office`]). So a new leader either knows a deadline
//! that nobody was promised more than, or gives the full time from the moment it takes over, which
//! is later than anything its predecessor promised.
//!
//! *A keep-alive is answered* only after a round of the quorum, begun after it arrived, has
//! confirmed the leadership, and with an entry of the own term applied. Later leaders are elected
//! after that round, so they take over after the client sent its keep-alive.
//!
//! *The end of a lease* is a command of the log. It means something in the term of the leader who
//! proposed it and in no other, and to the lease as it was granted then.
//!
//! ```text
//!   client -- keep-alive --> any member -- Asks --> leader -- round of the quorum -->
//!          <--------------------------- Answers --        memory, or a record of the log
//! ```
//!
//! **Guarantees.** *Never early*: no lease ends before its time has passed since the last of its
//! keep-alives that were answered was sent, or since its grant was. *Bounded*: a lease that nobody
//! renews ends at its deadline. It may be later by half its time and the length of an election if
//! the leader changed soon after the last renewal, and by what the grace and the pace below take.
//!
//! **Assumed.** Members' clocks run equally fast, within what [`clock`] says. Nothing else is
//! assumed of time: how late messages or members are costs delay, never safety.
//!
//! **Bounds.** Leases are bounded by the store's quota; a leader keeps some 150 bytes for each, and
//! reads all of them once when it takes over. Questions are bounded by the tickets of the members
//! and by `QUESTIONS_MAX` at the leader. A leader that has just taken over, or just awoke, ends no
//! lease for a grace of the shortest time to live, so that renewals which wait in sockets get in
//! first. Leases end at 1,000 a second at most, like etcd's, in records of bounded size.
//!
//! Sources: Gray and Cheriton, "Leases: An Efficient Fault-Tolerant Mechanism for Distributed File
//! Cache Consistency" (1989); etcd `server/lease` for what clients see. etcd replicates remaining
//! times every five minutes, if told to; answers keep-alives by time since it last heard a quorum.

mod clock;
mod desk;
mod message;
mod mutant;
mod office;

pub use message::LeaseMessage;
pub use mutant::LessorMutant;

use crate::envelope::{Life, Ticket};
use crate::planted::Planted;
use crate::replica::Refusal;
use crate::store::{Command, LeaseTime, Store};
use bytes::Bytes;
use clock::LeaseClock;
use desk::Desk;
use message::ITEMS_MAX;
pub(crate) use office::Origin;
use office::{Asker, Office, Question, Unstamped};
use quorate_core::{Index, NodeId, Position, Term, Time};
use quorate_protocols::consensus::raft::{self, Outstanding};
use std::collections::BTreeMap;
use std::time::Duration;

/// How often leases are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// How often the leader tells its lease clock.
const TELL_EVERY: Duration = Duration::from_millis(500);

/// Bytes of grants at another leader that are kept in case it refuses them.
const OUTSTANDING_BYTES_MAX: usize = 4 << 20;

/// Tickets from here on are the lessor's own. Those of clients count from 1.
const OWN_TICKETS: u64 = 1 << 63;

/// The shortest time to live that is granted, in seconds: one and a half election timeouts, so
/// that a lease survives a change of leader. etcd's rule.
pub fn lease_ttl_min(election_timeout: Duration) -> u64 {
    let millis = u64::try_from(election_timeout.as_millis()).unwrap_or(u64::MAX);
    millis.saturating_mul(3).div_ceil(2).div_ceil(1_000).max(1)
}

/// A question about a lease that only the leader can answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseAsk {
    /// Renew it.
    KeepAlive {
        /// The lease.
        id: i64,
    },
    /// How long will it live?
    TimeToLive {
        /// The lease.
        id: i64,
    },
}

/// The leader's answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseAnswer {
    /// There is no such lease.
    Gone,
    /// It lives.
    Lives {
        /// For so long. Unit: milliseconds.
        left: u64,
        /// What it was granted. Unit: seconds.
        granted: u64,
    },
}

/// What the lessor wants done.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Confirm by a round of the quorum that we lead.
    Confirm { ticket: Ticket },
    /// Replicate a record of ours.
    Propose(Command),
    /// Write the moment into sealed commands and replicate them. Another member, if it is of one,
    /// is told of the first that is not taken, and none after that one is proposed.
    ProposeStamped { envelopes: Vec<Bytes>, at: LeaseTime, origin: Option<Origin> },
    /// A sealed command of our own client was not replicated and will not be.
    Refused { envelope: Bytes, why: raft::Refusal },
    /// Tell another member.
    Send { to: NodeId, message: LeaseMessage },
    /// Tell all other members.
    SendAll { message: LeaseMessage },
    /// Answer the layer above.
    Answer { ticket: Ticket, answer: Result<LeaseAnswer, Refusal> },
}

/// Deeds in the making.
#[derive(Debug, Default)]
struct Deeds {
    list: Vec<Deed>,
    /// The leader's answers, which leave in one message for each asker.
    told: Vec<(Question, LeaseAnswer)>,
}

impl Deeds {
    fn push(&mut self, deed: Deed) {
        self.list.push(deed);
    }
}

/// A moment: of this member, and by the lease clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    time: Time,
    clock: LeaseTime,
}

/// What the lessor sees of its replica.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) now: Time,
    pub(crate) me: NodeId,
    /// Number of this member's life, as its consensus counts them.
    pub(crate) life: u64,
    /// Term of this member.
    pub(crate) term: Term,
    pub(crate) leader: Option<NodeId>,
    /// True if this member serves nothing, because its state is wrong.
    pub(crate) fenced: bool,
    pub(crate) applied: Position,
    pub(crate) store: &'a Store,
}

/// One member's part in leases.
#[derive(Debug)]
pub(crate) struct Lessor {
    life: Life,
    clock: LeaseClock,
    desk: Desk,
    /// While this member leads.
    office: Option<Office>,
    /// Term and leader when we last looked.
    seen: (Term, Option<NodeId>),
    stamps: Vec<Bytes>,
    /// Grants that another member was asked to stamp.
    outstanding: Outstanding,
    grace: Duration,
    standstill: Duration,
    ticked: Time,
    told: Time,
    last_ticket: u64,
    deeds: Deeds,
    planted: Planted<LessorMutant>,
}

impl Lessor {
    /// The ticket of every record of ours; nobody waits for its answer.
    pub(crate) const RECORD: Ticket = Ticket(OWN_TICKETS);

    pub(crate) fn new(life: Life, election_timeout: Duration) -> Lessor {
        Lessor {
            life,
            clock: LeaseClock::default(),
            desk: Desk::default(),
            office: None,
            seen: (Term(0), None),
            stamps: Vec::new(),
            outstanding: Outstanding::default(),
            grace: Duration::from_secs(lease_ttl_min(election_timeout)),
            standstill: election_timeout,
            ticked: Time::default(),
            told: Time::default(),
            last_ticket: OWN_TICKETS,
            deeds: Deeds::default(),
            planted: Planted::default(),
        }
    }

    /// Plants a bug.
    #[cfg(feature = "mutants")]
    pub(crate) fn plant(&mut self, mutant: LessorMutant) {
        self.planted.plant(mutant);
    }

    /// True if the ticket names a question of the lessor itself.
    pub(crate) fn owns(ticket: Ticket) -> bool {
        ticket.0 >= OWN_TICKETS
    }

    /// What is to be done since the last call.
    pub(crate) fn take_deeds(&mut self) -> Vec<Deed> {
        std::mem::take(&mut self.deeds.list)
    }

    pub(crate) fn start(&mut self, view: View<'_>) {
        self.ticked = view.now;
        self.clock = LeaseClock::restored(view.store.lease_clock(), view.now);
    }

    fn now(&self, view: View<'_>) -> Now {
        Now { time: view.now, clock: self.clock.read(view.now) }
    }

    /// A client asks.
    pub(crate) fn ask(&mut self, ticket: Ticket, ask: LeaseAsk, view: View<'_>) {
        match view.fenced {
            true => self.deeds.push(Deed::Answer { ticket, answer: Err(Refusal::Corrupt) }),
            false => self.desk.push(ticket, ask, view.now),
        }
    }

    /// A grant, sealed, that wants the leader's clock. There is a leader.
    pub(crate) fn stamp(&mut self, envelope: Bytes, view: View<'_>) {
        self.follow(view);
        match &mut self.office {
            Some(office) => office.stamp(envelope),
            None => self.stamps.push(envelope),
        }
    }

    pub(crate) fn on_message(&mut self, from: NodeId, message: LeaseMessage, view: View<'_>) {
        self.follow(view);
        match message {
            LeaseMessage::Clock { term, at } => self.clock.told(term, at, view.now),
            LeaseMessage::Asks { life, asks } => {
                let Some(office) = &mut self.office else { return };
                let asker = Asker::There { id: from, life };
                for (ticket, ask) in asks {
                    office.ask(Question { asker, ticket, ask });
                }
            }
            LeaseMessage::Answers { life, answers } if life == self.life => {
                for (ticket, answer) in answers {
                    self.answered(ticket, answer);
                }
            }
            LeaseMessage::Answers { .. } => {} // To a former life.
            LeaseMessage::Stamp { term, life, batch, envelopes } => {
                // As a forwarded command that finds no leader: whoever sent it gives up in time.
                let Some(office) = &mut self.office else { return };
                office.stamp_for(Origin { from, term, life, batch }, envelopes);
            }
            LeaseMessage::StampRefused { term, life, batch, first, why } if life == view.life => {
                let refused = self.outstanding.refused(from, term, batch, first as usize);
                for envelope in refused.unwrap_or_default() {
                    self.deeds.push(Deed::Refused { envelope, why });
                }
            }
            LeaseMessage::StampRefused { .. } => {} // To a former life.
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: LeaseAnswer) {
        if self.desk.answered(ticket) {
            self.deeds.push(Deed::Answer { ticket, answer: Ok(answer) });
        }
    }

    /// Notices who leads.
    fn follow(&mut self, view: View<'_>) {
        let leads = view.leader == Some(view.me) && !view.fenced;
        let office_term = self.office.as_ref().map(Office::term);
        if self.seen == (view.term, view.leader) && office_term == leads.then_some(view.term) {
            return;
        }
        if self.seen != (view.term, view.leader) {
            self.seen = (view.term, view.leader);
            self.desk.ask_again();
        }
        if office_term == leads.then_some(view.term) {
            return;
        }
        let fresh = leads.then(|| Office::new(view.term, self.planted));
        if let Some(mut closed) = std::mem::replace(&mut self.office, fresh) {
            let why = raft::Refusal::NoLeader;
            for Unstamped { origin, envelopes } in closed.take_unstamped() {
                let own = |envelope| Deed::Refused { envelope, why };
                match origin {
                    Some(origin) => self.deeds.push(origin.refusal(0, why)),
                    None => self.deeds.list.extend(envelopes.into_iter().map(own)),
                }
            }
        }
    }

    /// Once after each batch of events, before that of the consensus.
    pub(crate) fn flush(&mut self, view: View<'_>) {
        self.follow(view);
        if let Some(leader) = view.leader.filter(|leader| *leader != view.me) {
            self.stamps.drain(..).collect::<Vec<_>>().chunks(ITEMS_MAX).for_each(|envelopes| {
                let (term, life, envelopes) = (view.term, view.life, envelopes.to_vec());
                let bytes_max = OUTSTANDING_BYTES_MAX;
                let batch = self.outstanding.sent(leader, term, &envelopes, bytes_max, view.now);
                let message = LeaseMessage::Stamp { term, life, batch, envelopes };
                self.deeds.push(Deed::Send { to: leader, message });
            });
            for asks in self.desk.take_fresh(view.now).chunks(ITEMS_MAX) {
                let message = LeaseMessage::Asks { life: self.life, asks: asks.to_vec() };
                self.deeds.push(Deed::Send { to: leader, message });
            }
        }
        self.flush_office(view);
        self.deliver();
    }

    fn flush_office(&mut self, view: View<'_>) {
        let Some(office) = &mut self.office else { return };
        for envelope in self.stamps.drain(..) {
            office.stamp(envelope);
        }
        let open = office.is_open();
        if !open && view.applied.term == view.term {
            if self.planted.is(LessorMutant::ClockForgotten) {
                self.clock = LeaseClock::restored(view.store.lease_clock(), view.now);
            }
            self.clock.lead(view.term, view.store.lease_clock(), view.now);
            let now = Now { time: view.now, clock: self.clock.read(view.now) };
            office.take_over(view.store, now);
            office.hold(view.now, self.grace);
            self.tell(view);
        }
        let now = self.now(view);
        let Some(office) = &mut self.office else { return };
        for (ticket, ask) in self.desk.take_fresh(view.now) {
            if !office.ask(Question { asker: Asker::Here, ticket, ask }) {
                self.desk.answered(ticket);
                let answer = Err(Refusal::TooManyRequests);
                self.deeds.push(Deed::Answer { ticket, answer });
            }
        }
        office.serve(view.store, view.applied.index, now, &mut self.deeds);
        office.flush(now, &mut self.last_ticket, &mut self.deeds);
    }

    /// Answers leave in batches, one message for each asker.
    fn deliver(&mut self) {
        let mut theirs: BTreeMap<(NodeId, u64), Vec<(Ticket, LeaseAnswer)>> = BTreeMap::new();
        for (question, answer) in std::mem::take(&mut self.deeds.told) {
            match question.asker {
                Asker::Here => self.answered(question.ticket, answer),
                Asker::There { id, life } => {
                    theirs.entry((id, life.0)).or_default().push((question.ticket, answer));
                }
            }
        }
        for ((to, life), answers) in theirs {
            for answers in answers.chunks(ITEMS_MAX) {
                let message = LeaseMessage::Answers { life: Life(life), answers: answers.to_vec() };
                self.deeds.push(Deed::Send { to, message });
            }
        }
    }

    /// The quorum has confirmed that we led after we asked.
    pub(crate) fn confirmed(&mut self, ticket: Ticket, read_index: Index) {
        if let Some(office) = &mut self.office {
            office.confirmed(ticket, read_index);
        }
    }

    /// It has not.
    pub(crate) fn unconfirmed(&mut self, ticket: Ticket) {
        if let Some(office) = &mut self.office {
            office.unconfirmed(ticket);
        }
    }

    /// A record of ours was not taken.
    pub(crate) fn refused(&mut self, command: &Command) {
        if let Some(office) = &mut self.office {
            office.refused(command);
        }
    }

    /// The command as it counts in an entry of `term`: a record of another term says nothing.
    pub(crate) fn in_term(&self, command: Command, term: Term) -> Command {
        if self.planted.is(LessorMutant::RecordInAnyTerm) {
            return command;
        }
        match command {
            Command::LeaseExpire { term: told, .. } if told != term.0 => {
                Command::LeaseExpire { term: told, leases: Vec::new() }
            }
            Command::LeaseCountdown { term: told, .. } if told != term.0 => {
                let at = LeaseTime::default();
                Command::LeaseCountdown { term: told, at, leases: Vec::new() }
            }
            command => command,
        }
    }

    /// A command was applied, as an entry of `term`.
    pub(crate) fn applied(&mut self, command: &Command, term: Term, view: View<'_>) {
        match command {
            Command::LeaseGrant { at, .. } | Command::LeaseCountdown { at, .. } => {
                if *at > LeaseTime::default() {
                    self.clock.stamped(term, *at, view.now);
                }
            }
            Command::LeaseRevoke { .. } | Command::LeaseExpire { .. } => {}
            _ => return,
        }
        let now = self.now(view);
        if let Some(office) = &mut self.office {
            office.applied(command, term, view.store, now, &mut self.deeds);
        }
    }

    /// A checkpoint of a peer has replaced the state. The leases in it count on a leader's clock
    /// that this member may never have heard.
    pub(crate) fn installed(&mut self, view: View<'_>) {
        if self.planted.is(LessorMutant::InstalledUnstamped) {
            return;
        }
        self.clock.stamped(view.applied.term, view.store.lease_clock(), view.now);
    }

    /// Every [`TICK`]. `patience` is how long a question may wait.
    pub(crate) fn tick(&mut self, patience: Duration, view: View<'_>) {
        self.follow(view);
        self.outstanding.forget_older_than(self.standstill, view.now);
        for ticket in self.desk.take_late(view.now, patience) {
            let why = if view.leader.is_some() { Refusal::TimedOut } else { Refusal::NoLeader };
            self.deeds.push(Deed::Answer { ticket, answer: Err(why) });
        }
        let slept = view.now.since(self.ticked) > TICK + self.standstill;
        self.ticked = view.now;
        let now = self.now(view);
        let Some(office) = &mut self.office else {
            return self.desk.ask_late_again(view.now);
        };
        if slept && !self.planted.is(LessorMutant::AwakenedAtOnce) {
            office.hold(view.now, self.grace);
        }
        office.tick(view.store, now, &mut self.deeds);
        if office.is_open() && view.now.since(self.told) >= TELL_EVERY {
            self.tell(view);
        }
    }

    fn tell(&mut self, view: View<'_>) {
        self.told = view.now;
        let message = LeaseMessage::Clock { term: view.term, at: self.clock.read(view.now) };
        self.deeds.push(Deed::SendAll { message });
    }

    /// Nobody is answered any more.
    pub(crate) fn refuse_everything(&mut self, why: Refusal) {
        for ticket in self.desk.take_all() {
            self.deeds.push(Deed::Answer { ticket, answer: Err(why) });
        }
    }

    pub(crate) fn invariants(&self, store: &Store) {
        if let Some(office) = &self.office {
            office.invariants(store);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_time_to_live_is_etcds() {
        for (election_ms, seconds) in [(1_000, 2), (250, 1), (500, 1), (2_000, 3), (50_000, 75)] {
            assert_eq!(lease_ttl_min(Duration::from_millis(election_ms)), seconds, "{election_ms}");
        }
    }
}
