//! SWIM: failure detection at a cost that does not grow with the cluster, with Lifeguard.
//!
//! **Problem.** Heartbeats from all to all are n^2 messages in each period. And one bad link
//! between two members is no reason to declare either of them dead.
//!
//! **Idea.** In each period a member *probes* one other, in a random round-robin order. If the
//! answer does not come in time, it asks `k` others to probe for it. If that fails too it
//! *suspects* the member, and tells so. The suspect may contradict, by a higher incarnation; if it
//! does not in time, it is declared dead. News travel on the probes themselves.
//!
//! ```text
//!      n1 --Ping--> n2        n1 --PingRequest(n2)--> n3 --Ping--> n2
//!      n1 <--Ack--- n2   or   n1 <------- Ack ------- n3 <--Ack--- n2     (Nack: n3 heard nothing)
//!
//!      Alive --probe failed--> Suspect --time--> Dead
//!        ^----- "alive" of a higher incarnation, by the member itself -----'
//! ```
//!
//! Lifeguard ([`Health::Lifeguard`], `health.rs`) stretches the timeouts of a member that is slow
//! itself, and tells a suspect first of all that it is one.
//!
//! **What the layer above is told.** [`Change::Suspect`] when a member is declared dead,
//! [`Change::Trust`] when it is alive again. What SWIM calls a suspect is not told: it is trusted
//! until it is declared dead.
//!
//! **Guarantees**, in a partially synchronous system with lossy links:
//! * *Strong completeness*, within a bound: each member is probed by each other within `2n - 1`
//!   periods, then a suspicion runs, then the news travels.
//! * *Eventual accuracy*, weaker than it looks: mistakes end if round trips, from some time on, are
//!   below `ping_timeout`. Lifeguard bears [`health::SCORE_MAX`] times as much, not more: where
//!   delays are bounded by something larger, there is no eventual accuracy.
//! * Members that go on hearing each other's news come to agree, because the greatest news wins
//!   (`news.rs`).
//!
//! **Ours.** The dead are probed in their turn as well, and told that they are dead, so that the
//! two sides of a healed partition find each other again; members are given, none joins or is
//! removed.
//!
//! **Bounds.** [`RELAYS_MAX`] probes for others at a time, the oldest is dropped;
//! [`news::NEWS_MAX`] news in a message.
//!
//! Sources: Das, Gupta and Motivala, "SWIM: Scalable Weakly-consistent Infection-style Process
//! Group Membership Protocol" (2002); Dadgar, Phillips and Currey (2017).

pub mod health;
pub mod news;

use super::{Change, Mutant, Planted};
use health::Score;
use news::{Gossip, News, Standing, View};
use quorate_core::{Context, NodeId, Protocol, SystemModel};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Probes for others that are under way, at most.
pub const RELAYS_MAX: usize = 64;
/// News are told so often, times the logarithm of the number of members.
const TOLD_FACTOR: u32 = 3;

/// Whether a member watches its own health.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Health {
    /// SWIM of 2002.
    Ignored,
    /// With Lifeguard.
    Lifeguard,
}

/// What a member knows before it begins.
#[derive(Clone, Debug)]
pub struct Config {
    /// All members; this one may be among them.
    pub nodes: Vec<NodeId>,
    /// The period of probes. Range: more than twice `ping_timeout`.
    pub every: Duration,
    /// How long an answer is waited for before others are asked.
    pub ping_timeout: Duration,
    /// How many others are asked: `k`.
    pub indirect: usize,
    /// A suspect may contradict for so long, at least.
    pub suspicion: Duration,
    /// Whether timeouts follow one's own health.
    pub health: Health,
}

/// What members say to each other, with news.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Message {
    /// What is asked or answered.
    pub body: Body,
    /// What the sender has heard of others.
    pub news: Vec<News>,
}

/// A question or an answer. Numbers are those of the probe of who asked.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Body {
    /// Are you there?
    Ping(u64),
    /// Ask that member whether it is there.
    PingRequest(u64, NodeId),
    /// It is.
    Ack(u64),
    /// It did not answer in time. Lifeguard's: it shows that the relay lives.
    Nack(u64),
}

/// The alarms of a member.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// The probe ends, the next begins.
    Period,
    /// No direct answer: ask others.
    Direct,
    /// A suspect has not contradicted.
    Suspicion(NodeId),
    /// A probe for another has not been answered.
    Relay(u64),
}

/// The probe of this period.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Probe {
    number: u64,
    target: NodeId,
    is_answered: bool,
    /// Relays that were asked and have said nothing yet.
    silent_relays: BTreeSet<NodeId>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Relay {
    asked_by: NodeId,
    number: u64,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Member {
    view: View,
    /// Who else suspects it: they make a suspicion shorter.
    confirmed_by: BTreeSet<NodeId>,
    /// When it was suspected here. Unit: nanoseconds of this node's clock.
    suspected_at: u64,
}

/// A member.
#[derive(Clone, Debug)]
pub struct Swim {
    config: Config,
    id: NodeId,
    incarnation: u64,
    members: BTreeMap<NodeId, Member>,
    /// Those still to be probed in this round, last first.
    round: Vec<NodeId>,
    numbers: u64,
    probe: Option<Probe>,
    relays: BTreeMap<u64, Relay>,
    gossip: Gossip,
    score: Score,
    planted: Planted,
}

impl Swim {
    /// Those that are declared dead at present.
    pub fn suspects(&self) -> impl Iterator<Item = NodeId> {
        let dead = |(_, member): &(&NodeId, &Member)| member.view.standing == Standing::Dead;
        self.members.iter().filter(dead).map(|(node, _)| *node)
    }

    /// What is thought of a member.
    pub fn view(&self, node: NodeId) -> Option<View> {
        self.members.get(&node).map(|member| member.view)
    }

    /// This member's incarnation.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// This member's health.
    pub fn score(&self) -> Score {
        self.score
    }

    /// Puts a known mistake in this member. To be called between restore and start.
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Planted::with(mutant);
    }

    fn is_lifeguard(&self) -> bool {
        self.config.health == Health::Lifeguard
    }

    /// A time, stretched by one's own health.
    fn scaled(&self, time: Duration) -> Duration {
        if self.is_lifeguard() { self.score.scale(time) } else { time }
    }

    fn say(&mut self, to: NodeId, body: Body, cx: &mut Context<'_, Self>) {
        let members = self.members.len() as u32 + 1;
        let mut news = self.gossip.take(TOLD_FACTOR * (members.ilog2() + 1));
        // Whoever is doubted hears it from everybody who talks to it (Lifeguard's buddy system).
        if let Some(Member { view, .. }) = self.members.get(&to) {
            let doubt = News { member: to, view: *view };
            if view.standing != Standing::Alive && !news.contains(&doubt) {
                news.push(doubt);
            }
        }
        cx.send(to, Message { body, news });
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// The next in a round-robin order that is shuffled in each round (SWIM 4.3).
    fn next_target(&mut self, cx: &mut Context<'_, Self>) -> Option<NodeId> {
        let forgets_dead = self.planted.is(Mutant::SwimDeadForgotten);
        let members = &self.members;
        let is_worth_it =
            |node: &NodeId| !forgets_dead || members[node].view.standing != Standing::Dead;
        if self.round.is_empty() {
            self.round = members.keys().copied().collect();
            for last in (1..self.round.len()).rev() {
                let other = cx.choose(last + 1);
                self.round.swap(last, other);
            }
        }
        self.round.retain(is_worth_it);
        self.round.pop()
    }

    fn begin_probe(&mut self, cx: &mut Context<'_, Self>) {
        let (every, timeout) =
            (self.scaled(self.config.every), self.scaled(self.config.ping_timeout));
        cx.set_timer(Timer::Period, every..every);
        let Some(target) = self.next_target(cx) else { return };
        let number = self.number();
        let silent_relays = BTreeSet::new();
        self.probe = Some(Probe { number, target, is_answered: false, silent_relays });
        self.say(target, Body::Ping(number), cx);
        cx.set_timer(Timer::Direct, timeout..timeout);
    }

    fn end_probe(&mut self, cx: &mut Context<'_, Self>) {
        let Some(probe) = self.probe.take() else { return };
        if probe.is_answered {
            return self.score.better();
        }
        let view = self.members[&probe.target].view;
        if view.standing == Standing::Dead {
            return; // nobody expected an answer
        }
        // Relays that say neither yes nor no: the trouble may be ours.
        if probe.silent_relays.is_empty() {
            self.score.worse();
        }
        probe.silent_relays.iter().for_each(|_| self.score.worse());
        let doubt = View { standing: Standing::Suspect, ..view };
        self.learn(cx.id, News { member: probe.target, view: doubt }, cx);
    }

    /// Asks `indirect` others, drawn from those that are not dead.
    fn ask_others(&mut self, cx: &mut Context<'_, Self>) {
        let Some(Probe { number, target, is_answered: false, .. }) = self.probe else { return };
        let is_able = |(node, member): &(&NodeId, &Member)| {
            **node != target && member.view.standing != Standing::Dead
        };
        if self.members[&target].view.standing == Standing::Dead {
            return;
        }
        let mut able: Vec<NodeId> =
            self.members.iter().filter(is_able).map(|(node, _)| *node).collect();
        for _ in 0..self.config.indirect.min(able.len()) {
            let chosen = cx.choose(able.len());
            let relay = able.swap_remove(chosen);
            self.say(relay, Body::PingRequest(number, target), cx);
            let probe = self.probe.as_mut().expect("a probe is under way");
            probe.silent_relays.insert(relay);
        }
    }

    fn relay(&mut self, from: NodeId, number: u64, target: NodeId, cx: &mut Context<'_, Self>) {
        if !self.members.contains_key(&target) {
            return;
        }
        if self.relays.len() == RELAYS_MAX
            && let Some((oldest, _)) = self.relays.pop_first()
        {
            cx.cancel_timer(Timer::Relay(oldest));
        }
        let own = self.number();
        self.relays.insert(own, Relay { asked_by: from, number });
        self.say(target, Body::Ping(own), cx);
        let timeout = self.config.ping_timeout;
        cx.set_timer(Timer::Relay(own), timeout..timeout);
    }

    fn acknowledged(&mut self, number: u64, cx: &mut Context<'_, Self>) {
        if let Some(Relay { asked_by, number }) = self.relays.remove(&number) {
            self.say(asked_by, Body::Ack(number), cx);
        }
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.number == number) {
            probe.is_answered = true;
        }
    }

    /// Takes news in, from `from` or (if that is this member) from its own probe.
    fn learn(&mut self, from: NodeId, news: News, cx: &mut Context<'_, Self>) {
        if news.member == cx.id {
            return self.contradict(news.view);
        }
        let (planted, me) = (self.planted, cx.id);
        let Some(member) = self.members.get_mut(&news.member) else { return };
        let was = member.view;
        if was == news.view && was.standing == Standing::Suspect && from != me {
            if member.confirmed_by.insert(from) {
                self.await_contradiction(news.member, cx);
            }
            return;
        }
        if !news.view.overrides(was, planted) {
            return;
        }
        member.view = news.view;
        member.confirmed_by.clear();
        member.suspected_at = cx.now.as_nanos();
        self.gossip.add(news);
        match (was.standing, news.view.standing) {
            (_, Standing::Suspect) => self.await_contradiction(news.member, cx),
            _ => cx.cancel_timer(Timer::Suspicion(news.member)),
        }
        match (was.standing == Standing::Dead, news.view.standing == Standing::Dead) {
            (false, true) => cx.indicate(Change::Suspect(news.member)),
            (true, false) => cx.indicate(Change::Trust(news.member)),
            _ => {}
        }
    }

    /// Somebody doubts us: say that we live, louder than the doubt.
    fn contradict(&mut self, doubt: View) {
        let is_doubt = doubt.standing != Standing::Alive;
        if !is_doubt && doubt.incarnation <= self.incarnation {
            return;
        }
        // A doubt about an earlier incarnation was contradicted already, and that was not heard.
        if doubt.incarnation >= self.incarnation {
            self.incarnation = doubt.incarnation + u64::from(is_doubt);
            if is_doubt {
                self.score.worse();
            }
        }
        if self.planted.is(Mutant::SwimRefutationLeftOut) {
            return;
        }
        let view = View { incarnation: self.incarnation, standing: Standing::Alive };
        self.gossip.add(News { member: self.id, view });
    }

    fn await_contradiction(&mut self, node: NodeId, cx: &mut Context<'_, Self>) {
        let member = &self.members[&node];
        let whole = match self.is_lifeguard() {
            true => health::suspicion(self.config.suspicion, member.confirmed_by.len()),
            false => self.config.suspicion,
        };
        let passed = cx.now.as_nanos().saturating_sub(member.suspected_at);
        let rest = whole.saturating_sub(Duration::from_nanos(passed));
        cx.set_timer(Timer::Suspicion(node), rest..rest);
    }

    fn declare_dead(&mut self, node: NodeId, cx: &mut Context<'_, Self>) {
        let view = self.members[&node].view;
        if view.standing == Standing::Suspect {
            let dead = View { standing: Standing::Dead, ..view };
            self.learn(cx.id, News { member: node, view: dead }, cx);
        }
    }
}

impl Protocol for Swim {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    /// Nothing survives: a member that returns learns its incarnation from those who doubt it.
    type Record = ();
    /// Nothing is asked of a detector.
    type Request = ();
    type Indication = Change;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Config, _records: &mut dyn Iterator<Item = ()>) -> Swim {
        assert!(config.every > 2 * config.ping_timeout, "a period too short for two round trips");
        Swim {
            config: config.clone(),
            id: NodeId(0),
            incarnation: 0,
            members: BTreeMap::new(),
            round: Vec::new(),
            numbers: 0,
            probe: None,
            relays: BTreeMap::new(),
            gossip: Gossip::default(),
            score: Score::default(),
            planted: Planted::default(),
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.id = cx.id;
        // Numbers of an earlier life, whose answers may still be under way, are below these.
        self.numbers = cx.now.as_nanos();
        for node in self.config.nodes.iter().filter(|node| **node != cx.id) {
            let member = Member { view: View::NEW, confirmed_by: BTreeSet::new(), suspected_at: 0 };
            self.members.insert(*node, member);
        }
        self.begin_probe(cx);
    }

    fn on_request(&mut self, (): (), _cx: &mut Context<'_, Self>) {}

    /// A message of a node that is no member is dropped.
    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        if !self.members.contains_key(&from) {
            return;
        }
        message.news.iter().for_each(|news| self.learn(from, *news, cx));
        match message.body {
            Body::Ping(number) => self.say(from, Body::Ack(number), cx),
            Body::PingRequest(number, target) => self.relay(from, number, target, cx),
            Body::Ack(number) => self.acknowledged(number, cx),
            Body::Nack(number) => {
                if let Some(probe) = self.probe.as_mut().filter(|it| it.number == number) {
                    probe.silent_relays.remove(&from);
                }
            }
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Period => {
                self.end_probe(cx);
                self.begin_probe(cx);
            }
            Timer::Direct => self.ask_others(cx),
            Timer::Suspicion(node) => self.declare_dead(node, cx),
            Timer::Relay(own) => {
                if let Some(Relay { asked_by, number }) = self.relays.remove(&own) {
                    self.say(asked_by, Body::Nack(number), cx);
                }
            }
        }
    }

    fn invariants(&self) {
        assert!(self.relays.len() <= RELAYS_MAX, "more relays than the bound");
        assert!(self.round.len() <= self.members.len(), "a round probes each member once");
    }
}
