//! The synchronizer: members that find out the true time together, and how wrong they may be.
//!
//! **Problem.** Each member has some clock at hand, whose error it is told, and may be told
//! wrongly. Some members can ask servers, which lie too. Every member shall know an interval that
//! contains the true time, at every moment, and who of its sources is wrong.
//!
//! **Model.** Messages are lost, doubled and arbitrarily late; members crash and return with
//! nothing; of all the sources of a member at most `f` lie, members that behave arbitrarily among
//! them. The *monotonic* clock of a correct member keeps its drift bound, or says that it did not
//! ([`Request::Disrupted`]): that is assumed beside [`Synchronizer::MODEL`], which knows no such
//! axis. Wall clocks may do what they like.
//!
//! **Idea.** A *source* is the clock at hand, a peer's clock at hand, or a server. Each exchange
//! with one ([`super::exchange`]) gives an interval, which is widened by the drift bound as it
//! ages. The best of the last eight counts as the claim of the source; the instants that all but
//! `f` claims share ([`super::marzullo`]) make the answer.
//!
//! ```text
//!   clock at hand --+                     best of 8   all but f share        smooth reading
//!   peers ----------+--> four timestamps --> claim --> interval, outvoted --> discipline
//!   servers --------+                        + drift x age
//! ```
//!
//! A peer tells of its own clock only, never of what it has heard from others: hearsay would count
//! one lying server once for each member that believes it.
//!
//! **States.** `unsynchronised` until more than `f` fresh sources share an instant, which is then
//! vouched for by an honest one; `synced` while they do; `freewheel` when they are no longer heard;
//! `stepped` when the disciplined clock had to jump, or what was claimed before is contradicted.
//! The interval does not depend on the state: it holds as soon as more than `f` sources were heard,
//! and grows while none is.
//!
//! **Guarantees.** *Interval*: the true time lies within [`Synchronizer::interval`], whatever the
//! paths are like. *No accusation of the innocent*: who is outvoted is wrong. *Monotone*: the
//! disciplined reading runs backwards only where `Stepped` is told. *Progress*: where more than `f`
//! honest sources are heard within `fresh`, a member becomes `synced`. With more than `f` liars
//! that agree, nothing of this holds, and nobody can know it; if they do not agree,
//! [`Indication::Contradiction`] tells.
//!
//! **Bounds.** [`PEERS_MAX`], [`SERVERS_MAX`]: more is a mistake of the caller. [`ASKED_MAX`]
//! questions per peer are open; the oldest is given up. An answer that matches none is dropped and
//! counted.
//!
//! **Left out.** Nothing is durable: a member that returns asks anew. Adjusting the clock of the
//! system is left to its daemon.
//!
//! **Sources.** Mills et al., RFC 5905 (2010); Marzullo and Owicki, "Maintaining the Time in a
//! Distributed System" (1983); the replicas of TigerBeetle for exchanging clocks among members.

mod interface;
mod mutant;

pub use interface::{Config, Indication, Message, Request, SourceId, SourceStatus, State, Timer};
#[cfg(any(test, feature = "mutants"))]
pub use mutant::Mutant;

use super::discipline::{Correction, Discipline, DriftEstimate};
use super::dispersion::DriftBound;
use super::exchange::{Exchange, Filter, Sample};
use super::marzullo::{self, Agreement};
use crate::clocks::interval::TimeInterval;
#[cfg(not(any(test, feature = "mutants")))]
use mutant::Mutant;
use quorate_core::{
    Context, Network, NodeFaults, NodeId, Offset, Protocol, SystemModel, Time, Timing, WallTime,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

/// Peers of one member.
pub const PEERS_MAX: usize = 64;
/// Servers of one member.
pub const SERVERS_MAX: u16 = 16;
/// Questions to one peer that wait for an answer.
pub const ASKED_MAX: usize = 4;

/// Lives of a member are told apart by a number that is drawn below this.
const LIVES: usize = 1 << 31;

/// A question that was asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Question {
    ticket: u64,
    sent: Time,
}

/// What is known of one source.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
struct Source {
    filter: Filter,
    heard: Time,
    refused: u64,
}

/// A reading of the system's wall clock, and when.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct HostReading {
    at: Time,
    wall: WallTime,
}

/// One member.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Synchronizer {
    config: Config,
    sources: BTreeMap<SourceId, Source>,
    asked: BTreeMap<NodeId, VecDeque<Question>>,
    tickets: u64,
    discipline: Discipline,
    state: State,
    outvoted: BTreeSet<SourceId>,
    contradicts: bool,
    /// The interval at the last review.
    claimed: Option<(Time, TimeInterval)>,
    host: Option<HostReading>,
    host_first: Option<HostReading>,
    /// Something was heard, or time has passed, since the last review.
    is_due: bool,
    dropped: u64,
    #[cfg(any(test, feature = "mutants"))]
    mutant: Option<Mutant>,
}

impl Synchronizer {
    /// The true time at `now`, unless too few sources were ever heard, or they contradict each
    /// other.
    pub fn interval(&self, now: Time) -> Option<TimeInterval> {
        self.agreement(now).1.interval
    }

    /// How wide the interval was at the last review, halved; it has grown by the drift bound since.
    pub fn error(&self) -> Option<Duration> {
        self.claimed.map(|(_, interval)| interval.error())
    }

    /// The smooth reading; none before it was first set.
    pub fn reading(&self, now: Time) -> Option<WallTime> {
        self.discipline.read(now)
    }

    /// How fast true time runs beside the monotonic clock here, once that is known.
    pub fn drift(&self) -> Option<DriftEstimate> {
        self.discipline.estimate()
    }

    /// How well the time is known.
    pub fn state(&self) -> State {
        self.state
    }

    /// Messages and readings that were of no use.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How far the system's wall clock is ahead of the middle of the interval, as it was read last.
    pub fn host_offset(&self) -> Option<Offset> {
        let HostReading { at, wall } = self.host?;
        Some(wall.offset_from(self.interval(at)?.middle()))
    }

    /// All sources that were heard in this life, with what is known of them.
    pub fn sources(&self, now: Time) -> Vec<SourceStatus> {
        let status = |(id, source): (&SourceId, &Source)| {
            let sample = self.claimant(source, now)?;
            let age = self.age(sample, now);
            let claim = sample.reading.later(now.since(sample.at));
            Some(SourceStatus {
                source: *id,
                reading: claim,
                offset: self.reading(now).map(|own| claim.offset_from(own)),
                error: sample.split(age, self.bound()),
                delay: sample.delay,
                age: now.since(source.heard),
                is_outvoted: self.outvoted.contains(id),
                is_unfit: self.claim(source, now).is_none(),
                refused: source.refused,
            })
        };
        self.sources.iter().filter_map(status).collect()
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

    fn bound(&self) -> DriftBound {
        match self.planted(Mutant::DispersionLeftOut) {
            true => DriftBound::new(0),
            false => self.config.drift,
        }
    }

    /// How old a sample is.
    fn age(&self, sample: &Sample, now: Time) -> Duration {
        let age = now.since(sample.at);
        if self.planted(Mutant::AgeByWallClock)
            && let (Some(first), Some(last)) = (self.host_first, self.host)
        {
            let shown = last.wall.offset_from(first.wall).as_nanos();
            let gained = shown.saturating_sub(last.at.since(first.at).as_nanos() as i64);
            let age = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX).saturating_add(gained);
            return Duration::from_nanos(age.max(0) as u64);
        }
        age
    }

    /// The sample by which a source is judged.
    fn claimant<'a>(&self, source: &'a Source, now: Time) -> Option<&'a Sample> {
        if self.planted(Mutant::FilterInverted) {
            let error = |s: &&Sample| s.split(now.since(s.at), self.bound()).total();
            return source.filter.samples().iter().max_by_key(error);
        }
        source.filter.best(now, self.bound())
    }

    /// What a source says of the true time at `now`, if it knows anything.
    fn claim(&self, source: &Source, now: Time) -> Option<TimeInterval> {
        let sample = self.claimant(source, now)?;
        let age = self.age(sample, now);
        let error = sample.split(age, self.bound()).total();
        let is_unfit = self.config.error_max.is_some_and(|max| error >= max);
        if is_unfit && !self.planted(Mutant::UnfitHasVoice) {
            return None;
        }
        if self.planted(Mutant::DelayIgnored) {
            let sample = Sample { delay: Duration::ZERO, ..*sample };
            return Some(sample.interval(age, self.bound()));
        }
        Some(sample.interval(age, self.bound()))
    }

    /// What all sources that were ever heard say together, in the order of the list.
    fn agreement(&self, now: Time) -> (Vec<SourceId>, Agreement) {
        let claim = |(id, source): (&SourceId, &Source)| Some((*id, self.claim(source, now)?));
        let (ids, claims): (Vec<_>, Vec<_>) = self.sources.iter().filter_map(claim).unzip();
        let mut faulty_max = self.config.faulty_max;
        if self.planted(Mutant::OverlapOfMost) && ids.len() > faulty_max {
            faulty_max = ids.len() - marzullo::most_sharing(&claims);
        }
        (ids, marzullo::agree(&claims, faulty_max))
    }

    /// How many of the sources that were heard lately share an instant.
    fn fresh_sharing(&self, now: Time) -> usize {
        let is_fresh = |source: &&Source| now.since(source.heard) <= self.config.fresh;
        let fresh = self.sources.values().filter(is_fresh);
        let claims: Vec<_> = fresh.filter_map(|source| self.claim(source, now)).collect();
        marzullo::most_sharing(&claims)
    }

    fn heard(&mut self, source: SourceId, sample: Sample, cx: &mut Context<'_, Self>) {
        let entry = self.sources.entry(source).or_default();
        entry.heard = cx.now;
        entry.filter.push(sample);
        self.is_due = true;
        cx.indicate(Indication::Measured { source, sample });
    }

    fn take(&mut self, source: SourceId, exchange: &Exchange, cx: &mut Context<'_, Self>) {
        match exchange.sample(self.bound()) {
            Ok(sample) => self.heard(source, sample, cx),
            Err(why) => {
                let refused = &mut self.sources.entry(source).or_default().refused;
                *refused = refused.saturating_add(1);
                cx.indicate(Indication::Refused { source, why });
            }
        }
    }

    fn ask_all(&mut self, cx: &mut Context<'_, Self>) {
        for peer in &self.config.peers {
            self.tickets += 1;
            let ticket = self.tickets;
            let asked = self.asked.entry(*peer).or_default();
            if asked.len() == ASKED_MAX {
                asked.pop_front();
            }
            asked.push_back(Question { ticket, sent: cx.now });
            cx.send(*peer, Message::Ask { ticket });
        }
        cx.set_timer(Timer::Poll, self.config.poll..self.config.poll * 5 / 4);
    }

    /// What the clock at hand says, to a peer.
    fn answer(&self, ticket: u64, now: Time) -> Message {
        let own = self.sources.get(&SourceId::Own);
        let Some(sample) = own.and_then(|source| self.claimant(source, now)) else {
            return Message::NoClock { ticket };
        };
        let age = self.age(sample, now);
        let error = match self.planted(Mutant::StaleReadingServed) {
            true => sample.error,
            false => sample.split(age, self.bound()).total(),
        };
        let reading = sample.reading.later(age);
        Message::Answer { ticket, received: reading, answered: reading, error }
    }

    /// The question that this answers, if it was asked and not answered before.
    fn question(&mut self, from: NodeId, ticket: u64) -> Option<Question> {
        let any = self.planted(Mutant::AnswerOfAnyQuestion);
        let asked = self.asked.get_mut(&from)?;
        if any {
            return asked.back().copied();
        }
        let place = asked.iter().position(|question| question.ticket == ticket)?;
        asked.remove(place)
    }

    /// What follows from all that is known now.
    fn review(&mut self, cx: &mut Context<'_, Self>) {
        self.is_due = false;
        let (ids, agreement) = self.agreement(cx.now);
        self.vote(agreement.outvoted.iter().map(|place| ids[*place]).collect(), cx);
        let contradicts = agreement.interval.is_none() && ids.len() > self.config.faulty_max;
        if contradicts && !self.contradicts {
            let (heard, sharing) = (ids.len(), agreement.sharing);
            cx.indicate(Indication::Contradiction { heard, sharing });
        }
        self.contradicts = contradicts;
        let state = match agreement.interval {
            None => {
                self.claimed = None;
                State::Unsynchronised
            }
            Some(interval) => self.follow(interval, cx),
        };
        if state != self.state {
            self.state = state;
            cx.indicate(Indication::StateChanged { state });
        }
    }

    /// The true time is within `interval`: the disciplined clock follows it, if it is fresh.
    fn follow(&mut self, interval: TimeInterval, cx: &mut Context<'_, Self>) -> State {
        let before = self.claimed.replace((cx.now, interval));
        let contradicted = before.is_some_and(|(at, claim)| {
            let elapsed = cx.now.since(at);
            let claim = claim.aged(elapsed, self.config.drift.dispersion(elapsed));
            claim.intersection(&interval).is_none()
        });
        if self.fresh_sharing(cx.now) <= self.config.faulty_max {
            return match self.reading(cx.now) {
                Some(_) => State::Freewheel,
                None => State::Unsynchronised,
            };
        }
        let correction = self.discipline.correct(cx.now, &interval);
        if !matches!(correction, Correction::Slewed(_)) {
            cx.indicate(Indication::Corrected { correction });
        }
        match contradicted || matches!(correction, Correction::Stepped(_)) {
            true => State::Stepped,
            false => State::Synced,
        }
    }

    fn vote(&mut self, outvoted: BTreeSet<SourceId>, cx: &mut Context<'_, Self>) {
        for source in outvoted.difference(&self.outvoted) {
            cx.indicate(Indication::Outvoted { source: *source });
        }
        for source in self.outvoted.difference(&outvoted) {
            cx.indicate(Indication::Readmitted { source: *source });
        }
        self.outvoted = outvoted;
    }

    fn disrupted(&mut self) {
        self.sources.clear();
        self.asked.clear();
        self.discipline.forget();
        self.claimed = None;
        (self.host, self.host_first) = (None, None);
        self.is_due = true;
    }
}

impl Protocol for Synchronizer {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = Infallible;
    type Request = Request;
    type Indication = Indication;

    const MODEL: SystemModel = SystemModel {
        network: Network::FairLoss,
        node: NodeFaults::Byzantine,
        timing: Timing::PartiallySynchronous,
    };

    /// Panics: if the configuration names more sources than there may be, or itself.
    fn restore(config: &Config, _records: &mut dyn Iterator<Item = Infallible>) -> Synchronizer {
        assert!(config.peers.len() <= PEERS_MAX, "{} peers", config.peers.len());
        assert!(config.servers <= SERVERS_MAX, "{} servers", config.servers);
        assert!(!config.peers.contains(&config.id), "a member is no peer of itself");
        Synchronizer {
            config: config.clone(),
            sources: BTreeMap::new(),
            asked: BTreeMap::new(),
            tickets: 0,
            discipline: Discipline::new(config.drift),
            state: State::default(),
            outvoted: BTreeSet::new(),
            contradicts: false,
            claimed: None,
            host: None,
            host_first: None,
            is_due: false,
            dropped: 0,
            #[cfg(any(test, feature = "mutants"))]
            mutant: None,
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        // Tickets of an earlier life must not match, and no clock tells lives apart: that of a
        // machine which has started anew may stand anywhere.
        self.tickets = (cx.choose(LIVES) as u64) << 32;
        self.ask_all(cx);
    }

    fn on_request(&mut self, request: Request, cx: &mut Context<'_, Self>) {
        match request {
            Request::Reading { at, wall, error } if at <= cx.now => {
                self.heard(SourceId::Own, Sample::at_hand(at, wall, error), cx);
            }
            Request::Exchanged { server, exchange }
                if server < self.config.servers && exchange.arrived <= cx.now =>
            {
                self.take(SourceId::Server(server), &exchange, cx);
            }
            Request::Host { at, wall } if at <= cx.now => {
                self.host = Some(HostReading { at, wall });
                self.host_first = self.host_first.or(self.host);
            }
            Request::Disrupted => self.disrupted(),
            _ => self.dropped = self.dropped.saturating_add(1),
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        match message {
            Message::Ask { ticket } => cx.send(from, self.answer(ticket, cx.now)),
            Message::NoClock { ticket } => {
                self.question(from, ticket);
            }
            Message::Answer { ticket, received, answered, error } => {
                let Some(Question { sent, .. }) = self.question(from, ticket) else {
                    self.dropped = self.dropped.saturating_add(1);
                    return;
                };
                let exchange = Exchange { sent, received, answered, arrived: cx.now, error };
                self.take(SourceId::Peer(from), &exchange, cx);
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Poll => {
                self.ask_all(cx);
                self.is_due = true;
            }
        }
    }

    fn on_flush(&mut self, cx: &mut Context<'_, Self>) {
        if self.is_due {
            self.review(cx);
        }
    }

    fn invariants(&self) {
        assert!(self.asked.values().all(|asked| asked.len() <= ASKED_MAX), "{:?}", self.asked);
        assert!(self.sources.len() <= 1 + PEERS_MAX + usize::from(SERVERS_MAX), "too many sources");
        let is_known = |source: &SourceId| self.sources.contains_key(source);
        assert!(self.outvoted.iter().all(is_known), "outvoted and not heard: {:?}", self.outvoted);
        self.sources.values().for_each(|source| source.filter.invariants());
        self.discipline.invariants();
    }
}
