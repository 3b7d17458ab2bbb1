//! Traffic as heartbeat: who talks need not say that it lives.
//!
//! **Problem.** Heartbeats cost messages, most of them between nodes that talk to each other
//! anyway; and while there is traffic, a lost heartbeat is a poor reason to suspect.
//!
//! **Idea.** Every message is a sign of life. Only a node that had nothing to say to *that* peer
//! for `idle` sends a heartbeat. So silence longer than `idle` and a margin is suspicious, however
//! busy the link was; the margin doubles with every mistake, as in [`super::heartbeat`].
//!
//! ```text
//!      n1 -> n2   data data data . . idle . . heartbeat . . idle . . heartbeat   data
//!      n1 -> n3   heartbeat . . idle . . heartbeat . . idle . . heartbeat
//! ```
//!
//! It is tempting to expect that a busy link stays busy, and to suspect soon after the rhythm of
//! its messages stops. But a client that stops asking is no crash: what a node *promises* is
//! `idle`, and nothing else can be held against it.
//!
//! **Guarantees.** As `heartbeat` with period `idle`: ◇P in a partially synchronous system, with
//! detection within `idle`, a delay and the largest margin. At most one message for each peer and
//! `idle` more than the layer above sends.
//!
//! **Bounds.** `margin_max`. One entry for each peer.
//!
//! Sources: the fault detector of TigerBeetle (2024), for traffic as heartbeat; Chandra and Toueg
//! (1996) for the rest.

use super::heartbeat::{Growing, Timeouts};
use super::{Change, Estimator, Mutant, Planted, Watched};
use quorate_core::{Context, NodeId, Protocol, SystemModel, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a node knows before it begins.
#[derive(Clone, Debug)]
pub struct Config {
    /// All nodes; this one may be among them.
    pub nodes: Vec<NodeId>,
    /// Who has said nothing to a peer for so long sends a heartbeat. Range: above zero.
    pub idle: Duration,
    /// Silence is borne for so long beyond `idle`, at first.
    pub margin: Duration,
    /// And at most for so long after mistakes.
    pub margin_max: Duration,
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Message {
    /// The layer above has something to say.
    Data(u64),
    /// It has not.
    Heartbeat,
}

/// The layer above says something to a peer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Say {
    /// To whom.
    pub to: NodeId,
    /// What.
    pub data: u64,
}

/// What the layer above is told.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Told {
    /// A peer said something.
    Data {
        /// Who.
        from: NodeId,
        /// What.
        data: u64,
    },
    /// The suspects have changed.
    Change(Change),
}

/// The alarms of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// Nothing was said to this peer for long enough.
    Idle(NodeId),
    /// This peer has been silent for too long.
    Deadline(NodeId),
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Peer {
    watched: Watched<Growing>,
    heard: Time,
    /// Eight times the running mean of gaps. Unit: nanoseconds. Only a planted bug looks at it.
    gap_8: u64,
}

/// A node whose traffic shows that it lives.
#[derive(Clone, Debug)]
pub struct Traffic {
    config: Config,
    peers: BTreeMap<NodeId, Peer>,
    planted: Planted,
}

impl Traffic {
    /// Those that are suspected at present.
    pub fn suspects(&self) -> impl Iterator<Item = NodeId> {
        let suspected = self.peers.iter().filter(|(_, peer)| peer.watched.is_suspected);
        suspected.map(|(node, _)| *node)
    }

    /// Puts a known mistake in this node. To be called between restore and start.
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Planted::with(mutant);
    }

    fn say(&self, to: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        cx.send(to, message);
        let idle = self.config.idle;
        cx.set_timer(Timer::Idle(to), idle..idle);
        if self.planted.is(Mutant::TrafficSilencesAll) {
            let others = self.peers.keys().filter(|peer| **peer != to);
            others.for_each(|other| cx.set_timer(Timer::Idle(*other), idle..idle));
        }
    }

    /// How long the silence of a peer is borne.
    fn patience(&self, peer: &Peer, now: Time) -> Duration {
        match self.planted.is(Mutant::TrafficBurstLearned) {
            true => Duration::from_nanos(peer.gap_8).min(peer.watched.patience(now)),
            false => peer.watched.patience(now),
        }
    }
}

impl Protocol for Traffic {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = ();
    type Request = Say;
    type Indication = Told;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Config, _records: &mut dyn Iterator<Item = ()>) -> Traffic {
        assert!(config.idle > Duration::ZERO, "idle for nothing");
        Traffic { config: config.clone(), peers: BTreeMap::new(), planted: Planted::default() }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let Config { idle, margin, margin_max, .. } = self.config;
        let timeouts = Timeouts { initial: idle + margin, timeout_max: idle + margin_max };
        let others: Vec<NodeId> =
            self.config.nodes.iter().copied().filter(|node| *node != cx.id).collect();
        for node in &others {
            let watched = Watched::new(Growing::new(&timeouts, self.planted, cx.now));
            let patience = watched.patience(cx.now);
            cx.set_timer(Timer::Deadline(*node), patience..patience);
            let gap_8 = 8 * idle.as_nanos() as u64;
            self.peers.insert(*node, Peer { watched, heard: cx.now, gap_8 });
        }
        others.into_iter().for_each(|node| self.say(node, Message::Heartbeat, cx));
    }

    /// Words to a node that is not known here are dropped.
    fn on_request(&mut self, Say { to, data }: Say, cx: &mut Context<'_, Self>) {
        if self.peers.contains_key(&to) {
            self.say(to, Message::Data(data), cx);
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let gap = cx.now.since(peer.heard).as_nanos() as u64;
        peer.gap_8 = peer.gap_8 - peer.gap_8 / 8 + gap;
        peer.heard = cx.now;
        if peer.watched.heard(0, cx.now) {
            cx.indicate(Told::Change(Change::Trust(from)));
        }
        if let Message::Data(data) = message {
            cx.indicate(Told::Data { from, data });
        }
        let patience = self.patience(&self.peers[&from], cx.now);
        cx.set_timer(Timer::Deadline(from), patience..patience);
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Idle(node) => self.say(node, Message::Heartbeat, cx),
            Timer::Deadline(node) => {
                let is_rash = self.planted.is(Mutant::TrafficBurstLearned);
                let peer = self.peers.get_mut(&node).expect("a peer that is watched");
                let is_early = is_rash && !peer.watched.is_suspected;
                if peer.watched.expired(cx.now) || is_early {
                    peer.watched.is_suspected = true;
                    cx.indicate(Told::Change(Change::Suspect(node)));
                }
            }
        }
    }
}
