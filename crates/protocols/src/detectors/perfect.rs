//! The perfect detector: who does not answer in time *has* crashed.
//!
//! **Problem.** Where bounds are known, silence is proof; a detector must not err by forgetting a
//! part of the bound.
//!
//! **Model.** Synchronous, reliable links, crash-stop: a message takes at most `d`, a step of a
//! node at most `r`, a clock is off by at most a known rate.
//!
//! **Idea.** Ask everybody, and wait as long as question and answer may take together:
//!
//! ```text
//!      n1  ping ----d----> n2 (looks up after r) ----d----> n1 (looks up after r)
//!          |------------- wait 2d + 2r, on a clock that may be fast ------------|
//! ```
//!
//! Then ask again. Who has not answered is suspected for ever.
//!
//! **Guarantees**, in that model:
//! * *Strong completeness*: a crashed node is suspected by every correct one, at most two waits
//!   after the crash: the rest of the round that it still answered, and one more.
//! * *Strong accuracy*: no correct node is ever suspected.
//!
//! Completeness alone would be worth nothing: whoever suspects everybody is complete.
//!
//! **Outside of its model it lies**, and never takes a word back: one late or lost answer is
//! enough. No detector is perfect in a system without known bounds, because a slow run and a crash
//! look the same until the wait is over.
//!
//! **Bounds.** A set of nodes that answered, and one of suspects.
//!
//! Sources: Chandra and Toueg (1996), section 2; Cachin, Guerraoui and Rodrigues (2011), algorithm
//! 2.5, "Exclude on Timeout"; Kuper, lectures on distributed systems (2020), for `2d + r`.

use super::{Change, Mutant, Planted};
use quorate_core::{Context, Network, NodeFaults, NodeId, Protocol, SystemModel, Timing};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a node knows before it begins: the bounds of the system.
#[derive(Clone, Debug)]
pub struct Config {
    /// All nodes; this one may be among them.
    pub nodes: Vec<NodeId>,
    /// A message takes at most so long: `d`.
    pub delay_max: Duration,
    /// A node looks at what has arrived after at most so long: `r`.
    pub step_max: Duration,
    /// A clock is off by at most so much. Unit: parts per million.
    pub drift_max: u32,
}

impl Config {
    /// How long an answer may take: `2d + 2r`, on a clock that may be too fast.
    pub fn wait(&self) -> Duration {
        let both = 2 * (self.delay_max + self.step_max);
        both + both * self.drift_max / 1_000_000 + Duration::from_nanos(1)
    }
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Message {
    /// Are you there?
    Ping {
        /// The round of who asks.
        round: u64,
    },
    /// Yes.
    Pong {
        /// The round of the ping.
        round: u64,
    },
}

/// The alarm of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// Whoever lives has answered.
    Round,
}

/// A node that pings the others and believes the bounds.
#[derive(Clone, Debug)]
pub struct Perfect {
    config: Config,
    round: u64,
    answered: BTreeSet<NodeId>,
    suspects: BTreeSet<NodeId>,
    planted: Planted,
}

impl Perfect {
    /// Those that have crashed.
    pub fn suspects(&self) -> impl Iterator<Item = NodeId> {
        self.suspects.iter().copied()
    }

    /// Puts a known mistake in this node. To be called between restore and start.
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Planted::with(mutant);
    }

    fn begin_round(&mut self, cx: &mut Context<'_, Self>) {
        self.round += 1;
        self.answered.clear();
        if self.planted.is(Mutant::PerfectSuspicionForgotten) {
            self.suspects.clear();
        }
        let me = cx.id;
        for node in self.config.nodes.iter().filter(|node| **node != me) {
            cx.send(*node, Message::Ping { round: self.round });
        }
        let wait = match self.planted.is(Mutant::PerfectHalfBound) {
            true => self.config.wait() / 2,
            false => self.config.wait(),
        };
        cx.set_timer(Timer::Round, wait..wait);
    }

    fn end_round(&mut self, cx: &mut Context<'_, Self>) {
        let silent = |node: &&NodeId| **node != cx.id && !self.answered.contains(node);
        let silent: Vec<NodeId> = self.config.nodes.iter().filter(silent).copied().collect();
        for node in silent {
            if self.suspects.insert(node) {
                cx.indicate(Change::Suspect(node));
            }
        }
    }
}

impl Protocol for Perfect {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = ();
    /// Nothing is asked of a detector.
    type Request = ();
    type Indication = Change;

    const MODEL: SystemModel = SystemModel {
        network: Network::Reliable,
        node: NodeFaults::CrashStop,
        timing: Timing::Synchronous,
    };

    fn restore(config: &Config, _records: &mut dyn Iterator<Item = ()>) -> Perfect {
        Perfect {
            config: config.clone(),
            round: 0,
            answered: BTreeSet::new(),
            suspects: BTreeSet::new(),
            planted: Planted::default(),
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.begin_round(cx);
    }

    fn on_request(&mut self, (): (), _cx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        match message {
            Message::Ping { round } => cx.send(from, Message::Pong { round }),
            Message::Pong { round } if round == self.round => {
                self.answered.insert(from);
            }
            Message::Pong { .. } => {}
        }
    }

    fn on_timer(&mut self, Timer::Round: Timer, cx: &mut Context<'_, Self>) {
        self.end_round(cx);
        self.begin_round(cx);
    }

    fn invariants(&self) {
        let known = |node: &NodeId| self.config.nodes.contains(node);
        assert!(self.suspects.iter().all(known), "a stranger is suspected");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_is_twice_the_way_and_a_little_for_the_clock() {
        let ms = Duration::from_millis;
        let config =
            Config { nodes: Vec::new(), delay_max: ms(10), step_max: ms(5), drift_max: 200 };
        assert_eq!(config.wait(), ms(30) + Duration::from_nanos(6_001));
    }
}
