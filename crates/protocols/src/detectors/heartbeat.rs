//! Heartbeats, and a timeout that grows with every mistake: an eventually perfect detector.
//!
//! **Problem.** Delays are bounded, but nobody knows by what, or from when on.
//!
//! **Idea.** Everybody sends a heartbeat to everybody once in a period. Who is not heard for longer
//! than a timeout is suspected. Who is heard again was suspected by mistake: it is trusted, and its
//! timeout doubles. So mistakes teach, and there are finitely many of them.
//!
//! ```text
//!      n1   |--1------2------3------4----x
//!              \      \      \      \
//!      n2   ----->-----lost--->------>----------|suspect n1
//!                 |timeout|suspect  |     timeout
//!                            |trust, timeout x 2
//! ```
//!
//! [`Heartbeats`] is the protocol, for any [`Estimator`]; [`Growing`] is the estimator of this
//! file. A heartbeat carries the *life* of its sender, a number that is durable before the first of
//! them leaves, so that what an earlier life sent, or the network doubles, is no sign of life; and
//! the number of the sender's period, so that the receiver knows when it was due, whatever was
//! lost.
//!
//! **Guarantees**, for [`Growing`] in a partially synchronous system with lossy links:
//! * *Strong completeness*: a node that crashes for good is suspected by every correct one, at most
//!   a period, a delay and the largest timeout after the crash.
//! * *Eventual strong accuracy*: if from some time on (GST) heartbeats arrive with gaps below
//!   `gap`, each pair makes at most `log2(gap / initial) + 1` mistakes after that. Losses that are
//!   independent do not spoil it: that several heartbeats in a row are lost becomes unlikely faster
//!   than mistakes accumulate (Borel and Cantelli), as long as the timeout may grow.
//!
//! **Left out.** A node that crashes and returns for ever is neither correct nor crashed (Aguilera,
//! Chen and Toueg, "Failure Detection and Consensus in the Crash-Recovery Model", 2000).
//!
//! **Bounds.** `timeout_max`: there the timeout stops growing, which bounds detection time, and
//! with it the delays under which accuracy is promised. One estimator for each peer.
//!
//! Source: Chandra and Toueg (1996), section 9.1 and figure 10, where the timeout grows by one.

use super::{Change, Estimator, Mutant, Planted, Watched};
use quorate_core::{Context, NodeId, Protocol, SystemModel, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a node knows before it begins.
#[derive(Clone, Debug)]
pub struct Config<C> {
    /// All nodes; this one may be among them.
    pub nodes: Vec<NodeId>,
    /// The period of heartbeats. Range: above zero.
    pub every: Duration,
    /// The parameters of the estimators.
    pub estimator: C,
}

/// A sign of life.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Heartbeat {
    /// The life of the sender, from 1.
    pub life: u64,
    /// Its period, from 0.
    pub number: u64,
}

/// The number of a life, durable before anything is sent in it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Life(pub u64);

/// The alarms of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// The next heartbeat is due.
    Beat,
    /// A peer has been silent for too long.
    Deadline(NodeId),
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Peer<E> {
    /// The newest heartbeat; none before the first.
    newest: Option<Heartbeat>,
    watched: Watched<E>,
}

/// A node that sends heartbeats and listens to those of the others.
#[derive(Clone, Debug)]
pub struct Heartbeats<E: Estimator> {
    config: Config<E::Config>,
    life: u64,
    began: Time,
    peers: BTreeMap<NodeId, Peer<E>>,
    planted: Planted,
}

impl<E: Estimator> Heartbeats<E> {
    /// Those that are suspected at present.
    pub fn suspects(&self) -> impl Iterator<Item = NodeId> {
        let suspected = self.peers.iter().filter(|(_, peer)| peer.watched.is_suspected);
        suspected.map(|(node, _)| *node)
    }

    /// Puts a known mistake in this node. To be called between restore and start.
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Planted::with(mutant);
    }

    fn estimator(&self, now: Time) -> E {
        E::new(&self.config.estimator, self.planted, now)
    }

    /// Sends the heartbeat of this period. Periods are those of the clock since the start: a node
    /// that stood still leaves some out, and does not shift those after them.
    fn beat(&mut self, cx: &mut Context<'_, Self>) {
        let every = self.config.every.as_nanos() as u64;
        let passed = cx.now.since(self.began).as_nanos() as u64;
        let number = passed / every;
        for peer in self.peers.keys() {
            cx.send_once_durable(*peer, Heartbeat { life: self.life, number });
        }
        let next = Duration::from_nanos(every - passed % every);
        cx.set_timer(Timer::Beat, next..next);
    }
}

impl<E: Estimator> Protocol for Heartbeats<E> {
    type Config = Config<E::Config>;
    type Message = Heartbeat;
    type Timer = Timer;
    type Record = Life;
    /// Nothing is asked of a detector.
    type Request = ();
    type Indication = Change;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Self::Config, records: &mut dyn Iterator<Item = Life>) -> Self {
        assert!(config.every > Duration::ZERO, "a period of nothing");
        let life = records.last().map_or(0, |Life(number)| number);
        Heartbeats {
            config: config.clone(),
            life,
            began: Time::default(),
            peers: BTreeMap::new(),
            planted: Planted::default(),
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.life += 1;
        self.began = cx.now;
        cx.write(Life(self.life));
        let others: Vec<NodeId> =
            self.config.nodes.iter().copied().filter(|node| *node != cx.id).collect();
        for node in others {
            let watched = Watched::new(self.estimator(cx.now));
            let patience = watched.patience(cx.now);
            cx.set_timer(Timer::Deadline(node), patience..patience);
            self.peers.insert(node, Peer { newest: None, watched });
        }
        self.beat(cx);
    }

    fn on_request(&mut self, (): (), _cx: &mut Context<'_, Self>) {}

    /// One that is not newer than the newest is dropped: it is no sign of life.
    fn on_message(&mut self, from: NodeId, heartbeat: Heartbeat, cx: &mut Context<'_, Self>) {
        let fresh = self.estimator(cx.now);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        if peer.newest.is_some_and(|newest| newest >= heartbeat) {
            return;
        }
        let is_first = peer.newest.is_none_or(|newest| newest.life < heartbeat.life);
        peer.newest = Some(heartbeat);
        let was_trusted = !peer.watched.is_suspected;
        let trusted = match is_first {
            true => {
                let mut estimator = fresh;
                estimator.heard(heartbeat.number, cx.now);
                peer.watched.reborn(estimator, cx.now)
            }
            false => peer.watched.heard(heartbeat.number, cx.now),
        };
        if !was_trusted && self.planted.is(Mutant::SuspectForEver) {
            peer.watched.is_suspected = true;
            return;
        }
        if trusted {
            cx.indicate(Change::Trust(from));
        }
        let patience = peer.watched.patience(cx.now);
        cx.set_timer(Timer::Deadline(from), patience..patience);
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Beat => self.beat(cx),
            Timer::Deadline(node) => {
                let peer = self.peers.get_mut(&node).expect("a peer that is watched");
                if peer.watched.expired(cx.now) {
                    cx.indicate(Change::Suspect(node));
                }
            }
        }
    }

    fn invariants(&self) {
        assert!(self.life > 0 || self.peers.is_empty(), "peers are known in a life only");
    }
}

/// The parameters of [`Growing`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Timeouts {
    /// The timeout of a peer that has not been suspected by mistake yet.
    pub initial: Duration,
    /// It does not grow beyond this: the longest silence of a correct peer that is believed in.
    pub timeout_max: Duration,
}

/// A timeout since the last heartbeat, which doubles with every mistake.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Growing {
    timeout: Duration,
    timeout_max: Duration,
    last: Time,
    planted: Planted,
}

impl Growing {
    /// The present timeout.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }
}

impl Estimator for Growing {
    type Config = Timeouts;

    fn new(config: &Timeouts, planted: Planted, now: Time) -> Growing {
        assert!(config.initial <= config.timeout_max, "the first timeout is above the largest");
        let Timeouts { initial, timeout_max } = *config;
        Growing { timeout: initial, timeout_max, last: now, planted }
    }

    fn heard(&mut self, _number: u64, now: Time) {
        self.last = now;
    }

    fn was_wrong(&mut self) {
        if !self.planted.is(Mutant::TimeoutNeverGrows) {
            self.timeout = (2 * self.timeout).min(self.timeout_max);
        }
    }

    fn deadline(&self) -> Time {
        self.last.after(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    /// Chandra and Toueg 1996, theorem 31: after GST there are finitely many mistakes; here at most
    /// `log2(gap / initial) + 1`.
    #[test]
    fn mistakes_end_and_are_as_few_as_the_essay_says() {
        for gap in [1, 7, 50, 130, 999] {
            let config = Timeouts { initial: 10 * MS, timeout_max: 2_000 * MS };
            let mut watched =
                Watched::new(Growing::new(&config, Planted::default(), Time::default()));
            let mut mistakes = 0;
            for number in 1..1_000 {
                let now = at(number * gap);
                if watched.expired(now) {
                    mistakes += 1;
                }
                watched.heard(number, now);
                assert!(!watched.is_suspected, "a heartbeat is a sign of life");
            }
            let allowed = (gap / 10).checked_ilog2().map_or(0, |log| log + 1) + 1;
            assert!(mistakes <= allowed, "{mistakes} mistakes at a gap of {gap} ms");
        }
    }

    #[test]
    fn the_timeout_ends_at_its_bound() {
        let config = Timeouts { initial: 10 * MS, timeout_max: 35 * MS };
        let mut growing = Growing::new(&config, Planted::default(), Time::default());
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(growing.timeout());
            growing.was_wrong();
        }
        assert_eq!(seen, [10 * MS, 20 * MS, 35 * MS, 35 * MS]);
    }
}
