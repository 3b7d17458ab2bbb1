//! What only the leader knows of leases: until when each lives, and who asked about it.
//!
//! ```text
//!             keep-alive              record applied
//!   Counting ------------> Waking ----------------------> Renewing <-+ keep-alive: memory only
//!    |    ^  ------------>                                 |         |
//!    |    |  keep-alive                                    | not renewed for half its time
//!    |    +---------------- Settling <---------------------+
//!    |      record applied
//!    | the deadline has passed
//!    v        leadership confirmed         record applied
//!   Due --------------------------> Ending --------------> gone
//! ```
//!
//! A lease which is not *Renewing* has a deadline that everybody knows, or soon will: a keep-alive
//! of it is answered once everybody knows better. *Waking* and *Settling* have a record on its way,
//! in the order of the log; so has *Ending*, and whoever asks then waits for what comes of it.

use super::mutant::LessorMutant;
use super::{Deed, Deeds, LeaseAnswer, LeaseAsk, LeaseMessage, Now, Ticket};
use crate::planted::Planted;
use crate::store::{Command, Countdown, Lease, LeaseName, LeaseTime, Store};
use bytes::Bytes;
use quorate_core::{Index, NodeId, Term, Time};
use quorate_protocols::consensus::raft::{self, ReplayWindow};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Leases that are ended, and leases that are settled, in one [`super::TICK`] at most: 1,000 a
/// second, etcd's rate. What is due beyond it waits for the next one.
const LEASES_PER_TICK: usize = 100;

/// Keys that one record deletes at most, unless a single lease has more.
const KEYS_PER_RECORD: usize = 10_000;

/// Leases in one record at most.
const LEASES_PER_RECORD: usize = 1_000;

/// Questions that wait at a leader; one more is dropped, and asked again by whoever asked.
const QUESTIONS_MAX: usize = 131_072;

/// If leases count down and no command has told the lease clock for so long, a record does: so
/// much of their time comes back if all members restart. Unit: milliseconds of that clock.
const CLOCK_RECORD_EVERY: u64 = 60_000;

/// Who wants to know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asker {
    /// This member.
    Here,
    /// Another one, in one of its lives.
    There { id: NodeId, life: super::Life },
}

/// Where grants came from that another member asks us to stamp.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Origin {
    pub(crate) from: NodeId,
    pub(crate) term: Term,
    /// As the consensus of that member counts its lives.
    pub(crate) life: u64,
    pub(crate) batch: u64,
}

impl Origin {
    /// What tells it that the commands of the batch are refused from the `first` on.
    pub(crate) fn refusal(self, first: u32, why: raft::Refusal) -> Deed {
        let Origin { from, term, life, batch } = self;
        let message = LeaseMessage::StampRefused { term, life, batch, first, why };
        Deed::Send { to: from, message }
    }
}

/// Grants that want the lease clock.
#[derive(Debug)]
pub(super) struct Unstamped {
    /// None: of our own clients.
    pub(super) origin: Option<Origin>,
    pub(super) envelopes: Vec<Bytes>,
}

/// A question at the leader.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(super) asker: Asker,
    pub(super) ticket: Ticket,
    pub(super) ask: LeaseAsk,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Counting,
    Waking,
    Renewing,
    Settling,
    Due,
    Ending,
}

/// One lease.
#[derive(Clone, Copy, Debug)]
struct Live {
    grant: u64,
    /// Unit: seconds.
    ttl: u64,
    deadline: LeaseTime,
    phase: Phase,
    /// The moment at which it stands on the agenda, if it does.
    on_agenda: Option<LeaseTime>,
}

impl Live {
    fn new(lease: &Lease, deadline: LeaseTime, phase: Phase) -> Live {
        Live { grant: lease.grant, ttl: lease.ttl, deadline, phase, on_agenda: None }
    }

    fn millis(&self) -> u64 {
        self.ttl.saturating_mul(1_000)
    }

    /// When it will not have been renewed for half its time.
    fn idle_at(&self) -> LeaseTime {
        LeaseTime(self.deadline.0.saturating_sub(self.millis() / 2))
    }
}

/// Questions that share a confirmation of the leadership, and leases that wait for it to be ended.
#[derive(Debug)]
struct Round {
    ticket: Ticket,
    /// Confirmed, and to be answered once the state has come so far.
    read_index: Option<Index>,
    questions: Vec<Question>,
    due: Vec<LeaseName>,
}

/// The leader's part of a lessor.
#[derive(Debug)]
pub(super) struct Office {
    term: Term,
    live: BTreeMap<i64, Live>,
    /// Leases that are Counting or Settling, by their deadline.
    expiries: BTreeSet<(LeaseTime, i64)>,
    /// Leases that are Renewing, by the moment (or an earlier one) at which they will be idle.
    idlers: BTreeSet<(LeaseTime, i64)>,
    fresh: Vec<Question>,
    due: Vec<LeaseName>,
    rounds: VecDeque<Round>,
    /// Questions that wait for a record about their lease.
    parked: BTreeMap<i64, Vec<Question>>,
    waking: Vec<LeaseName>,
    /// Records that were not taken, to be proposed again at the next tick.
    refused: Vec<LeaseName>,
    unstamped: Vec<Unstamped>,
    /// Which grants of each other member were seen in this term.
    forwarders: BTreeMap<NodeId, ReplayWindow>,
    questions: usize,
    /// No lease is ended before.
    hold_until: Time,
    /// The term has an entry that is applied here, so that we know what our predecessors did.
    open: bool,
    planted: Planted<LessorMutant>,
}

impl Office {
    /// The office of a leader that does not yet know what its predecessors did.
    pub(super) fn new(term: Term, planted: Planted<LessorMutant>) -> Office {
        Office {
            term,
            live: BTreeMap::new(),
            expiries: BTreeSet::new(),
            idlers: BTreeSet::new(),
            fresh: Vec::new(),
            due: Vec::new(),
            rounds: VecDeque::new(),
            parked: BTreeMap::new(),
            waking: Vec::new(),
            refused: Vec::new(),
            unstamped: Vec::new(),
            forwarders: BTreeMap::new(),
            questions: 0,
            hold_until: Time::default(),
            open: false,
            planted,
        }
    }

    pub(super) fn term(&self) -> Term {
        self.term
    }

    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Takes over: counting leases keep their deadline, the others get all of their time.
    pub(super) fn take_over(&mut self, store: &Store, now: Now) {
        assert!(!self.open, "an office is opened once");
        self.open = true;
        for (id, lease) in store.leases() {
            let full = now.clock.after(lease.ttl_millis());
            let (deadline, phase) = match lease.countdown {
                Countdown::Counting { deadline } => (deadline, Phase::Counting),
                Countdown::Renewing if self.planted.is(LessorMutant::FullTtlForgotten) => {
                    (now.clock, Phase::Counting)
                }
                Countdown::Renewing => (full, Phase::Renewing),
            };
            self.live.insert(id, Live::new(lease, deadline, phase));
        }
        // Sorted once, which is faster than lease by lease.
        let (mut expiries, mut idlers) = (Vec::new(), Vec::new());
        for (id, live) in &mut self.live {
            let renewing = live.phase == Phase::Renewing;
            let moment = if renewing { live.idle_at() } else { live.deadline };
            live.on_agenda = Some(moment);
            if renewing { &mut idlers } else { &mut expiries }.push((moment, *id));
        }
        (self.expiries, self.idlers) =
            (expiries.into_iter().collect(), idlers.into_iter().collect());
    }

    /// Ends no lease for a while.
    pub(super) fn hold(&mut self, now: Time, grace: Duration) {
        self.hold_until = self.hold_until.max(now.after(grace));
    }

    /// False if too many wait.
    pub(super) fn ask(&mut self, question: Question) -> bool {
        let room = self.questions < QUESTIONS_MAX;
        if room {
            self.questions += 1;
            self.fresh.push(question);
        }
        room
    }

    /// A grant of our own client that wants the lease clock.
    pub(super) fn stamp(&mut self, envelope: Bytes) {
        self.unstamped.push(Unstamped { origin: None, envelopes: vec![envelope] });
    }

    /// Grants of another member. Those that were seen before are dropped: they would be granted
    /// again after they have ended. So are those of another term, whose memory is not here.
    pub(super) fn stamp_for(&mut self, origin: Origin, envelopes: Vec<Bytes>) {
        let window = self.forwarders.entry(origin.from).or_default();
        let is_first = origin.term == self.term && window.is_first_sight(origin.life, origin.batch);
        if is_first || self.planted.is(LessorMutant::StampTakenTwice) {
            self.unstamped.push(Unstamped { origin: Some(origin), envelopes });
        }
    }

    /// The grants that were not proposed, when the office closes.
    pub(super) fn take_unstamped(&mut self) -> Vec<Unstamped> {
        std::mem::take(&mut self.unstamped)
    }

    /// Proposes what has come up, and asks for the confirmation of what waits for one.
    pub(super) fn flush(&mut self, now: Now, ticket: &mut u64, deeds: &mut Deeds) {
        if !self.open {
            return;
        }
        for Unstamped { origin, envelopes } in self.unstamped.drain(..) {
            let unstamped = self.planted.is(LessorMutant::GrantUnstamped);
            let at = if unstamped { LeaseTime::default() } else { now.clock };
            deeds.push(Deed::ProposeStamped { envelopes, at, origin });
        }
        if self.planted.is(LessorMutant::AnsweredUnconfirmed) {
            self.answer(now, None, deeds);
        }
        if !self.fresh.is_empty() || !self.due.is_empty() {
            *ticket += 1;
            let ticket = Ticket(*ticket);
            let (questions, due) = (std::mem::take(&mut self.fresh), std::mem::take(&mut self.due));
            self.rounds.push_back(Round { ticket, read_index: None, questions, due });
            deeds.push(Deed::Confirm { ticket });
        }
        self.propose_waking(now, deeds);
    }

    fn propose_waking(&mut self, now: Now, deeds: &mut Deeds) {
        for names in self.waking.chunks(LEASES_PER_RECORD) {
            let leases = names.iter().map(|name| (*name, Countdown::Renewing)).collect();
            deeds.push(self.countdown(now, leases));
        }
        self.waking.clear();
    }

    fn countdown(&self, now: Now, leases: Vec<(LeaseName, Countdown)>) -> Deed {
        let (term, at) = (self.term.0, now.clock);
        Deed::Propose(Command::LeaseCountdown { term, at, leases })
    }

    /// The leadership was confirmed after the round had begun.
    pub(super) fn confirmed(&mut self, ticket: Ticket, read_index: Index) {
        if let Some(round) = self.rounds.iter_mut().find(|round| round.ticket == ticket) {
            round.read_index = Some(read_index);
        }
    }

    /// It could not be confirmed: what waits for it waits for the next round.
    pub(super) fn unconfirmed(&mut self, ticket: Ticket) {
        let Some(at) = self.rounds.iter().position(|round| round.ticket == ticket) else { return };
        let round = self.rounds.remove(at).expect("just found");
        self.fresh.extend(round.questions);
        self.due.extend(round.due);
    }

    /// Answers the questions whose round is confirmed and whose state is applied.
    pub(super) fn serve(&mut self, store: &Store, applied: Index, now: Now, deeds: &mut Deeds) {
        let ready = |round: &Round| round.read_index.is_some_and(|index| index <= applied);
        while self.rounds.front().is_some_and(ready) {
            let round = self.rounds.pop_front().expect("just seen");
            for question in round.questions {
                self.answer_one(question, now, deeds);
            }
            self.end(&round.due, store, now, deeds);
        }
        self.propose_waking(now, deeds);
    }

    fn answer(&mut self, now: Now, id: Option<i64>, deeds: &mut Deeds) {
        let questions = match id {
            Some(id) => self.parked.remove(&id).unwrap_or_default(),
            None => std::mem::take(&mut self.fresh),
        };
        for question in questions {
            self.answer_one(question, now, deeds);
        }
    }

    fn answer_one(&mut self, question: Question, now: Now, deeds: &mut Deeds) {
        let (LeaseAsk::KeepAlive { id } | LeaseAsk::TimeToLive { id }) = question.ask;
        let Some(live) = self.live.get_mut(&id) else {
            return self.told(question, LeaseAnswer::Gone, deeds);
        };
        if live.phase == Phase::Counting && self.planted.is(LessorMutant::LivingIsGone) {
            return self.told(question, LeaseAnswer::Gone, deeds);
        }
        let granted = live.ttl;
        if matches!(question.ask, LeaseAsk::TimeToLive { .. }) {
            let left = live.deadline.since(now.clock);
            return self.told(question, LeaseAnswer::Lives { left, granted }, deeds);
        }
        let renewing = match live.phase {
            Phase::Renewing => !self.planted.is(LessorMutant::RenewalWritten),
            _ => self.planted.is(LessorMutant::RenewalNotAwaited),
        };
        if renewing {
            let left = live.millis();
            live.deadline = now.clock.after(left);
            return self.told(question, LeaseAnswer::Lives { left, granted }, deeds);
        }
        if !matches!(live.phase, Phase::Waking | Phase::Ending) {
            live.phase = Phase::Waking;
            self.waking.push(LeaseName { id, grant: live.grant });
            self.leave_agenda(id);
        }
        self.parked.entry(id).or_default().push(question);
    }

    fn told(&mut self, question: Question, answer: LeaseAnswer, deeds: &mut Deeds) {
        self.questions -= 1;
        deeds.told.push((question, answer));
    }

    /// Proposes the end of leases that ran out before the round which was now confirmed. One that
    /// was asked to be kept alive meanwhile has got in first.
    fn end(&mut self, due: &[LeaseName], store: &Store, now: Now, deeds: &mut Deeds) {
        let mut ending = Vec::new();
        let mut keys = 0;
        for name in due {
            let Some(live) = self.live.get_mut(&name.id) else { continue };
            if live.phase != Phase::Due || live.grant != name.grant {
                continue;
            }
            if now.time < self.hold_until {
                self.put_on_agenda(name.id, Phase::Counting);
                continue;
            }
            live.phase = Phase::Ending;
            let own = store.lease(name.id).map_or(0, |lease| lease.keys().len());
            if keys + own > KEYS_PER_RECORD && !ending.is_empty() {
                deeds.push(self.expiry(std::mem::take(&mut ending)));
                keys = 0;
            }
            keys += own;
            ending.push(*name);
        }
        if !ending.is_empty() {
            deeds.push(self.expiry(ending));
        }
    }

    fn expiry(&self, leases: Vec<LeaseName>) -> Deed {
        Deed::Propose(Command::LeaseExpire { term: self.term.0, leases })
    }

    /// Time has passed: looks for leases that ran out, and for those nobody renews any more.
    pub(super) fn tick(&mut self, store: &Store, now: Now, deeds: &mut Deeds) {
        if !self.open {
            return;
        }
        for name in std::mem::take(&mut self.refused) {
            let waits = |live: &&mut Live| live.grant == name.grant && live.phase == Phase::Waking;
            if self.live.get_mut(&name.id).filter(waits).is_some() {
                self.waking.push(name);
            }
        }
        self.settle(now, deeds);
        self.expire(now, deeds);
        let untold = now.clock.since(store.lease_clock());
        if !self.expiries.is_empty() && untold >= CLOCK_RECORD_EVERY {
            deeds.push(self.countdown(now, Vec::new()));
        }
    }

    /// Leases that nobody renews any more count down again.
    fn settle(&mut self, now: Now, deeds: &mut Deeds) {
        if self.planted.is(LessorMutant::SettleForgotten) {
            return;
        }
        let mut leases = Vec::new();
        while let Some((moment, id)) = self.idlers.first().copied() {
            if moment > now.clock || leases.len() == LEASES_PER_TICK {
                break;
            }
            let live = self.live[&id];
            if live.idle_at() > now.clock {
                self.put_on_agenda(id, Phase::Renewing);
                continue;
            }
            self.put_on_agenda(id, Phase::Settling);
            let deadline = live.deadline;
            let name = LeaseName { id, grant: live.grant };
            leases.push((name, Countdown::Counting { deadline }));
        }
        if !leases.is_empty() {
            deeds.push(self.countdown(now, leases));
        }
    }

    /// Leases that ran out are to be ended, once the leadership is confirmed.
    fn expire(&mut self, now: Now, deeds: &mut Deeds) {
        let confirming = !self.due.is_empty() || self.rounds.iter().any(|r| !r.due.is_empty());
        if now.time < self.hold_until || confirming {
            return;
        }
        let unpaced = self.planted.is(LessorMutant::StormUnpaced);
        while let Some((moment, id)) = self.expiries.first().copied() {
            if moment > now.clock || (self.due.len() == LEASES_PER_TICK && !unpaced) {
                break;
            }
            self.leave_agenda(id);
            let live = self.live.get_mut(&id).expect("what is on the agenda lives");
            live.phase = Phase::Due;
            self.due.push(LeaseName { id, grant: live.grant });
        }
        if self.planted.is(LessorMutant::ExpiryUnconfirmed) && !self.due.is_empty() {
            let due = std::mem::take(&mut self.due);
            deeds.push(self.expiry(due));
        }
    }

    /// A command about leases was applied, as an entry of `term`.
    pub(super) fn applied(
        &mut self,
        command: &Command,
        term: Term,
        store: &Store,
        now: Now,
        deeds: &mut Deeds,
    ) {
        if !self.open {
            return; // It will be in the store when we take over.
        }
        match command {
            Command::LeaseGrant { id, .. } => self.granted(*id, term, store, now),
            Command::LeaseRevoke { id } => self.forget(*id, store, now, deeds),
            Command::LeaseExpire { leases, .. } => {
                for name in leases {
                    self.forget(name.id, store, now, deeds);
                }
            }
            Command::LeaseCountdown { leases, .. } => {
                for (name, countdown) in leases {
                    self.counted(*name, *countdown, now, deeds);
                }
            }
            _ => {}
        }
    }

    fn granted(&mut self, id: i64, term: Term, store: &Store, now: Now) {
        let Some(lease) = store.lease(id) else { return };
        if self.live.get(&id).is_some_and(|live| live.grant == lease.grant) {
            return; // It was refused because the lease is there.
        }
        let Countdown::Counting { deadline } = lease.countdown else { return };
        // What it took to replicate the grant is not taken from the lease.
        let full = if term == self.term { now.clock.after(lease.ttl_millis()) } else { deadline };
        self.live.insert(id, Live::new(lease, deadline.max(full), Phase::Counting));
        self.put_on_agenda(id, Phase::Counting);
    }

    /// Forgets a lease if it is gone; whoever asked about it hears so.
    fn forget(&mut self, id: i64, store: &Store, now: Now, deeds: &mut Deeds) {
        let grant = store.lease(id).map(|lease| lease.grant);
        let Some(live) = self.live.get(&id) else { return };
        if grant == Some(live.grant) {
            return;
        }
        self.leave_agenda(id);
        self.live.remove(&id);
        self.answer(now, Some(id), deeds);
    }

    /// A record of ours is known everywhere.
    fn counted(&mut self, name: LeaseName, countdown: Countdown, now: Now, deeds: &mut Deeds) {
        let id = name.id;
        let Some(live) = self.live.get_mut(&id).filter(|live| live.grant == name.grant) else {
            return;
        };
        match (countdown, live.phase) {
            (Countdown::Renewing, Phase::Waking) => {
                live.deadline = now.clock.after(live.millis());
                self.put_on_agenda(id, Phase::Renewing);
                if self.planted.is(LessorMutant::RenewalWritten) {
                    return self.answer_parked_as_they_are(id, deeds);
                }
                self.answer(now, Some(id), deeds);
            }
            (Countdown::Counting { .. }, Phase::Settling) => live.phase = Phase::Counting,
            _ => {} // Something came up since; its record follows.
        }
    }

    /// Planted bug: answers without looking at the lease again, which would ask for a record again.
    fn answer_parked_as_they_are(&mut self, id: i64, deeds: &mut Deeds) {
        let (granted, left) = (self.live[&id].ttl, self.live[&id].millis());
        for question in self.parked.remove(&id).unwrap_or_default() {
            self.told(question, LeaseAnswer::Lives { left, granted }, deeds);
        }
    }

    /// A record of ours was not taken, for now.
    pub(super) fn refused(&mut self, command: &Command) {
        match command {
            Command::LeaseExpire { leases, .. } => {
                for name in leases {
                    if self.is(*name, Phase::Ending) {
                        self.put_on_agenda(name.id, Phase::Counting);
                        self.fresh.extend(self.parked.remove(&name.id).into_iter().flatten());
                    }
                }
            }
            Command::LeaseCountdown { leases, .. } => {
                for (name, countdown) in leases {
                    match countdown {
                        Countdown::Renewing => self.refused.push(*name),
                        Countdown::Counting { .. } if self.is(*name, Phase::Settling) => {
                            self.put_on_agenda(name.id, Phase::Renewing);
                        }
                        Countdown::Counting { .. } => {}
                    }
                }
            }
            _ => {}
        }
    }

    fn is(&self, name: LeaseName, phase: Phase) -> bool {
        let is = |live: &Live| live.grant == name.grant && live.phase == phase;
        self.live.get(&name.id).is_some_and(is)
    }

    /// Puts a lease where its phase belongs, away from where it stood.
    fn put_on_agenda(&mut self, id: i64, phase: Phase) {
        self.leave_agenda(id);
        let live = self.live.get_mut(&id).expect("only what lives is on the agenda");
        live.phase = phase;
        let (agenda, moment) = match phase {
            Phase::Renewing => (&mut self.idlers, live.idle_at()),
            _ => (&mut self.expiries, live.deadline),
        };
        live.on_agenda = Some(moment);
        agenda.insert((moment, id));
    }

    fn leave_agenda(&mut self, id: i64) {
        let Some(live) = self.live.get_mut(&id) else { return };
        if let Some(moment) = live.on_agenda.take() {
            self.expiries.remove(&(moment, id));
            self.idlers.remove(&(moment, id));
        }
    }

    pub(super) fn invariants(&self, store: &Store) {
        if self.open {
            assert_eq!(self.live.len(), store.leases().len(), "a lease is counted by nobody");
        }
        assert!(self.expiries.len() + self.idlers.len() <= self.live.len(), "a lease stands twice");
    }
}
