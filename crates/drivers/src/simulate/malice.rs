//! Byzantine nodes, and a network that alters, replays and forges.
//!
//! Nothing here knows a protocol. A traitor equivocates by being two (Bano et al., "Twins", 2020):
//! a second copy of it, with a disk of its own, talks to some of the peers, so that each half hears
//! a node that behaves well, and both contradict each other. It withholds, sends what it sent long
//! ago, forgets its promises, and lies with what [`World::alter`] makes of its messages. The same
//! alteration is what corruption and forgery on the network are made of.
//!
//! Bound: [`OLD_MAX`] old messages are kept for replay; the oldest goes first.

use super::choices::{About, Site};
use super::faults::Fault;
use super::kernel::{Flying, Kernel};
use super::nemesis::Power;
use super::node::Shell;
use super::run::Plan;
use super::setup::Shape;
use super::trace::Kind;
use super::world::{Seat, World};
use quorate_core::Protocol;
use std::collections::{BTreeMap, VecDeque};

/// Old messages that may be sent again.
const OLD_MAX: usize = 64;
/// Numbers of treasons among the faults of a trace: the number of the traitor is added.
const TREASON: u64 = 1 << 32;
/// How often a liar lies, an echo is sent, a message is altered. Unit: parts per million.
const RATE: u64 = 50_000;

/// Who lies, and how.
#[derive(Debug)]
pub(super) struct Malice<M> {
    corrupt: u64,
    replay: u64,
    forge: u64,
    lie: u64,
    echo: u64,
    withhold: bool,
    twins: bool,
    traitors: Vec<usize>,
    /// The second copy of a traitor, and who is heard by it.
    twin_of: BTreeMap<usize, (usize, Vec<usize>)>,
    /// Whom a traitor is silent towards.
    silent: BTreeMap<usize, usize>,
    old: VecDeque<(usize, usize, M)>,
    done: BTreeMap<Fault, u64>,
    stopped: bool,
}

impl<M> Malice<M> {
    pub(super) fn new(_plan: &Plan, shape: &Shape) -> Malice<M> {
        let rate = |fault| if shape.has(fault) { RATE } else { 0 };
        Malice {
            corrupt: rate(Fault::Corrupt),
            replay: rate(Fault::Replay),
            forge: rate(Fault::Forge),
            lie: rate(Fault::Lie),
            echo: rate(Fault::Echo),
            withhold: shape.has(Fault::Withhold),
            twins: shape.has(Fault::Twins),
            traitors: shape.traitors.clone(),
            twin_of: BTreeMap::new(),
            silent: BTreeMap::new(),
            old: VecDeque::new(),
            done: BTreeMap::new(),
            stopped: false,
        }
    }

    /// True if anything has to be looked at when a message is sent.
    pub(super) fn is_active(&self) -> bool {
        !self.stopped
            && (self.corrupt + self.replay + self.forge > 0
                || (!self.traitors.is_empty()
                    && (self.lie + self.echo > 0 || self.withhold || self.twins)))
    }

    /// The network behaves from now on. Traitors stay what they are, and stop lying.
    pub(super) fn stop(&mut self) {
        self.stopped = true;
    }

    /// What was done, by kind.
    pub(super) fn counts(&self) -> impl Iterator<Item = (Fault, u64)> {
        self.done.iter().map(|(fault, count)| (*fault, *count))
    }

    fn count(&mut self, fault: Fault) {
        *self.done.entry(fault).or_default() += 1;
    }
}

impl<W: World> Kernel<W> {
    /// Traitors choose whom they are silent towards, and are doubled if they equivocate.
    pub(super) fn begin_malice(&mut self) {
        let traitors = self.nemesis.malice.traitors.clone();
        for traitor in traitors {
            let nodes = self.nodes();
            self.record(Kind::Fault, |step| {
                (step.fault, step.nodes) = (Some(TREASON + traitor as u64), vec![traitor]);
                step.text = format!("n{} is Byzantine", traitor + 1);
            });
            if self.nemesis.malice.withhold {
                let site = Site::new(About::Malice, traitor);
                let peer = self.choices.draw(site, nodes as u64) as usize;
                self.nemesis.malice.silent.insert(traitor, peer);
            }
            if self.nemesis.malice.twins {
                self.double(traitor);
            }
        }
    }

    /// The calm has come: the network behaves, and traitors say nothing more. Of those who behaved
    /// well so far nobody would know, and nothing could be demanded of them.
    pub(super) fn silence_traitors(&mut self) {
        self.nemesis.malice.stop();
        for at in 0..self.seats.len() {
            if self.seats[at].correct {
                continue;
            }
            if self.seats[at].state.is_some() {
                self.crash(at, Power::Stays, "the traitor falls silent");
            }
            self.seats[at].dead = true;
            let face = self.shells[at].face as u64;
            self.record(Kind::Heal, |step| {
                step.fault = Some(TREASON + face);
                step.text = "the traitor is silent".to_owned();
            });
        }
    }

    fn double(&mut self, traitor: usize) {
        let nodes = self.nodes();
        let site = Site::new(About::Malice, traitor);
        let first = self.choices.draw(site, nodes as u64) as usize;
        let audience = (0..nodes / 2).map(|i| (first + i) % nodes).collect();
        let twin = self.shells.len();
        // Its clock is the same, or its peers could tell the two apart.
        let origin = self.nemesis.shape.clock_origin(traitor);
        self.shells.push(Shell::new(self.world.id(traitor), traitor, origin));
        let disk = self.world.disk(traitor);
        let damaged = false;
        self.seats.push(Seat { state: None, disk, correct: false, dead: false, damaged });
        self.nemesis.malice.twin_of.insert(traitor, (twin, audience));
        self.injected(Fault::Twins);
        self.boot(twin);
    }

    /// Which copy of `to` hears what `from` sends.
    pub(super) fn shell_of(&self, from: usize, to: usize) -> usize {
        match self.nemesis.malice.twin_of.get(&to) {
            Some((twin, audience)) if audience.contains(&from) => *twin,
            _ => to,
        }
    }

    /// Sends, and does to the message what traitors and the network do.
    pub(super) fn send_with_malice(
        &mut self,
        at: usize,
        from: usize,
        to: usize,
        message: <W::Node as Protocol>::Message,
    ) {
        let site = Site::new(About::Malice, at);
        let malice = &mut self.nemesis.malice;
        if malice.old.len() == OLD_MAX {
            malice.old.pop_front();
        }
        malice.old.push_back((from, to, message.clone()));
        let traitor = malice.traitors.contains(&from);
        if traitor && malice.silent.get(&from) == Some(&to) {
            malice.count(Fault::Withhold);
            let id = self.tally.sent;
            self.tally.sent += 1;
            return self
                .lost(&Flying { from: from as u16, to: to as u16, id, message }, "withheld");
        }
        let (lie, echo) = if traitor { (malice.lie, malice.echo) } else { (0, 0) };
        let (corrupt, replay, forge) = (malice.corrupt, malice.replay, malice.forge);
        let mut message = message;
        for (fault, rate) in [(Fault::Lie, lie), (Fault::Corrupt, corrupt)] {
            if self.choices.chance(site, rate)
                && let Some(other) = self.altered(site, &message)
            {
                self.nemesis.malice.count(fault);
                message = other;
            }
        }
        if self.choices.chance(site, forge) {
            self.forge(site, to, &message);
        }
        if self.choices.chance(site, echo.max(replay)) {
            self.send_old(site, from, if echo > 0 { Fault::Echo } else { Fault::Replay });
        }
        self.send(from, to, message);
    }

    fn altered(
        &mut self,
        site: Site,
        message: &<W::Node as Protocol>::Message,
    ) -> Option<<W::Node as Protocol>::Message> {
        let choices = &mut self.choices;
        self.world.alter(message, &mut |options| choices.draw(site, options as u64) as usize)
    }

    /// Something like this message arrives in the name of another node.
    fn forge(&mut self, site: Site, to: usize, message: &<W::Node as Protocol>::Message) {
        let from = self.choices.draw(site, self.nodes() as u64) as usize;
        let forged = self.altered(site, message).unwrap_or_else(|| message.clone());
        if from != to {
            self.nemesis.malice.count(Fault::Forge);
            self.send(from, to, forged);
        }
    }

    /// An old message once more: any for a network that replays, its own for a traitor.
    fn send_old(&mut self, site: Site, of: usize, fault: Fault) {
        let old = self.nemesis.malice.old.len() as u64;
        let chosen = self.choices.draw(site, old) as usize;
        let (from, to, message) = self.nemesis.malice.old[chosen].clone();
        if fault == Fault::Replay || from == of {
            self.nemesis.malice.count(fault);
            self.send(from, to, message);
        }
    }
}
