//! Round trips: how long an answer may take, from how long answers took.
//!
//! **Problem.** Who asks wants to know how long to wait, without a schedule of the other side.
//!
//! **Idea.** Each answer is a sample of the round trip. Two running means, of the samples and of
//! how far they are off, cost two shifts each; the timeout is the one plus a multiple of the other.
//! A deviation reacts to a change within a few samples, where a fixed multiple of the mean would
//! either be too much on a steady link or too little on a busy one.
//!
//! ```text
//!   error      = sample - mean
//!   mean      += error / 8
//!   deviation += (|error| - deviation) / 4
//!   timeout    = mean + factor * deviation            4 in TCP
//! ```
//!
//! [`RoundTrips`] is that estimator. [`Pings`] is a detector with it: a ping to each peer in each
//! period; a peer is suspected when the oldest of `misses` unanswered pings in a row is overdue.
//! Pings are numbered, so that an answer is measured from *its* ping (Karn and Partridge 1987): a
//! late answer teaches the longer round trip instead of a shorter one.
//!
//! **Guarantees.** Strong completeness: suspected at most `misses + 1` periods and `timeout_max`
//! after the crash. Accuracy: a wrong suspicion needs `misses` answers in a row that are lost or
//! overdue; where the round trip stays within `timeout_max` and stops changing, they end. After a
//! threefold step of the round trip late answers raise the timeout before `misses` are overdue if
//! `misses` periods are longer than the new round trip.
//!
//! **Bounds.** [`PENDING_MAX`] unanswered pings are remembered for each peer, the oldest of them,
//! which say when it is overdue; those after them are sent, and their answers are no samples.
//!
//! Source: Jacobson, "Congestion Avoidance and Control" (1988), appendix A; RFC 6298.

use super::{Change, Mutant, Planted};
use quorate_core::{Context, NodeId, Protocol, SystemModel, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// Unanswered pings that are remembered for a peer.
pub const PENDING_MAX: usize = 64;

/// The parameters of [`RoundTrips`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// The timeout before the first answer.
    pub first: Duration,
    /// The timeout is at least this, which covers the granularity of clocks and schedulers.
    pub timeout_min: Duration,
    /// And at most this.
    pub timeout_max: Duration,
    /// Deviations that are added to the mean. Unit: hundredths; TCP has 400.
    pub factor: u32,
}

/// A running estimate of a round trip. All steps are integer arithmetic.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct RoundTrips {
    config: Config,
    /// Eight times the mean. Unit: nanoseconds. None before the first sample.
    mean_8: Option<u64>,
    /// Four times the mean deviation. Unit: nanoseconds.
    deviation_4: u64,
    planted: Planted,
}

impl RoundTrips {
    /// An estimate without samples.
    pub fn new(config: &Config, planted: Planted) -> RoundTrips {
        assert!(config.timeout_min <= config.timeout_max, "the least timeout is above the largest");
        RoundTrips { config: *config, mean_8: None, deviation_4: 0, planted }
    }

    /// A round trip took so long.
    pub fn sample(&mut self, took: Duration) {
        // Half the range leaves room for the eightfold mean.
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX / 16);
        match &mut self.mean_8 {
            None => {
                self.mean_8 = Some(8 * took);
                self.deviation_4 = 2 * took; // half of the sample, as RFC 6298 has it
            }
            Some(mean_8) => {
                let mean = *mean_8 / 8;
                let error = took.abs_diff(mean);
                *mean_8 = *mean_8 - mean + took;
                self.deviation_4 = self.deviation_4 - self.deviation_4 / 4 + error;
            }
        }
    }

    /// The mean; none before the first sample.
    pub fn mean(&self) -> Option<Duration> {
        self.mean_8.map(|mean_8| Duration::from_nanos(mean_8 / 8))
    }

    /// How long an answer may take.
    pub fn timeout(&self) -> Duration {
        let Config { first, timeout_min, timeout_max, factor } = self.config;
        let Some(mean_8) = self.mean_8 else { return first };
        if self.planted.is(Mutant::RttDeviationLeftOut) {
            return Duration::from_nanos(mean_8 / 8);
        }
        let added = u128::from(self.deviation_4) * u128::from(factor) / 400;
        let nanos = u64::try_from(u128::from(mean_8 / 8) + added).unwrap_or(u64::MAX);
        Duration::from_nanos(nanos).clamp(timeout_min, timeout_max)
    }
}

/// What a node knows before it begins.
#[derive(Clone, Debug)]
pub struct PingsConfig {
    /// All nodes; this one may be among them.
    pub nodes: Vec<NodeId>,
    /// The period of pings. Range: above zero.
    pub every: Duration,
    /// So many unanswered pings in a row are borne, less one. Range: at least 1.
    pub misses: u32,
    /// The estimate of round trips.
    pub round_trips: Config,
}

/// What nodes say to each other. An answer names its ping and the life of who asked.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Message {
    /// Are you there?
    Ping {
        /// When the life of the sender began, on its own clock. Unit: nanoseconds.
        life: u64,
        /// The number of the ping, from 1.
        number: u64,
    },
    /// Yes.
    Pong {
        /// Of the ping.
        life: u64,
        /// Of the ping.
        number: u64,
    },
}

/// The alarms of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// The next pings are due.
    Ping,
    /// Too many pings of a peer are overdue.
    Overdue(NodeId),
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Peer {
    round_trips: RoundTrips,
    /// When pings left that were not answered, by number.
    pending: BTreeMap<u64, Time>,
    /// The newest that was answered.
    answered: u64,
    is_suspected: bool,
}

/// A node that pings the others and measures their answers.
#[derive(Clone, Debug)]
pub struct Pings {
    config: PingsConfig,
    began: Time,
    number: u64,
    peers: BTreeMap<NodeId, Peer>,
    planted: Planted,
}

impl Pings {
    /// Those that are suspected at present.
    pub fn suspects(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.is_suspected).map(|(node, _)| *node)
    }

    /// The estimate for a peer.
    pub fn round_trips(&self, node: NodeId) -> Option<&RoundTrips> {
        self.peers.get(&node).map(|peer| &peer.round_trips)
    }

    /// Puts a known mistake in this node. To be called between restore and start.
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Planted::with(mutant);
    }

    fn ping(&mut self, cx: &mut Context<'_, Self>) {
        self.number += 1;
        let number = self.number;
        let misses = self.config.misses;
        for (node, peer) in &mut self.peers {
            if peer.pending.len() < PENDING_MAX {
                peer.pending.insert(number, cx.now);
            }
            cx.send(*node, Message::Ping { life: self.began.as_nanos(), number });
            if !peer.is_suspected
                && let Some(overdue) = peer.overdue(misses)
            {
                let patience = overdue.since(cx.now);
                cx.set_timer(Timer::Overdue(*node), patience..patience);
            }
        }
        cx.set_timer(Timer::Ping, self.config.every..self.config.every);
    }

    fn pong(&mut self, from: NodeId, number: u64, cx: &mut Context<'_, Self>) {
        let newest = self.number;
        let of_last = self.planted.is(Mutant::RttOfLastPing);
        let Some(peer) = self.peers.get_mut(&from) else { return };
        let measured = if of_last { newest } else { number };
        if let Some(left) = peer.pending.get(&measured) {
            peer.round_trips.sample(cx.now.since(*left));
        }
        if number > peer.answered {
            peer.answered = number;
            peer.pending = peer.pending.split_off(&(number + 1));
            let is_back = std::mem::take(&mut peer.is_suspected);
            if is_back {
                cx.indicate(Change::Trust(from));
            }
            cx.cancel_timer(Timer::Overdue(from));
        }
        if let Some(overdue) = peer.overdue(self.config.misses) {
            let patience = overdue.since(cx.now);
            cx.set_timer(Timer::Overdue(from), patience..patience);
        }
    }
}

impl Peer {
    /// When it is to be suspected, if nothing comes: the last of `misses` pings in a row after the
    /// newest answered one is overdue then. None if there are not so many yet.
    fn overdue(&self, misses: u32) -> Option<Time> {
        let mut unanswered = self.pending.range(self.answered + 1..);
        let (_, left) = unanswered.nth(misses as usize - 1)?;
        Some(left.after(self.round_trips.timeout()))
    }
}

impl Protocol for Pings {
    type Config = PingsConfig;
    type Message = Message;
    type Timer = Timer;
    type Record = ();
    /// Nothing is asked of a detector.
    type Request = ();
    type Indication = Change;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &PingsConfig, _records: &mut dyn Iterator<Item = ()>) -> Pings {
        assert!(config.misses >= 1, "to miss no ping is no reason");
        assert!((config.misses as usize) < PENDING_MAX, "more misses than are remembered");
        Pings {
            config: config.clone(),
            began: Time::default(),
            number: 0,
            peers: BTreeMap::new(),
            planted: Planted::default(),
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.began = cx.now;
        for node in self.config.nodes.iter().filter(|node| **node != cx.id) {
            let round_trips = RoundTrips::new(&self.config.round_trips, self.planted);
            let pending = BTreeMap::new();
            let peer = Peer { round_trips, pending, answered: 0, is_suspected: false };
            self.peers.insert(*node, peer);
        }
        self.ping(cx);
    }

    fn on_request(&mut self, (): (), _cx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        match message {
            Message::Ping { life, number } => cx.send(from, Message::Pong { life, number }),
            // An answer to an earlier life is dropped: its ping left before our clock began.
            Message::Pong { life, number } if life == self.began.as_nanos() => {
                self.pong(from, number, cx);
            }
            Message::Pong { .. } => {}
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Ping => self.ping(cx),
            Timer::Overdue(node) => {
                let peer = self.peers.get_mut(&node).expect("a peer that is watched");
                let is_late = peer.overdue(self.config.misses).is_some_and(|at| at <= cx.now);
                if is_late && !peer.is_suspected {
                    peer.is_suspected = true;
                    cx.indicate(Change::Suspect(node));
                }
            }
        }
    }

    fn invariants(&self) {
        assert!(self.peers.values().all(|peer| peer.pending.len() <= PENDING_MAX));
        assert!(self.peers.values().all(|peer| peer.answered <= self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn config() -> Config {
        Config { first: 1_000 * MS, timeout_min: MS, timeout_max: 10_000 * MS, factor: 400 }
    }

    /// RFC 6298, section 2, with rational numbers.
    #[test]
    fn the_estimate_is_that_of_the_rfc() {
        let mut estimate = RoundTrips::new(&config(), Planted::default());
        assert_eq!(estimate.timeout(), 1_000 * MS);
        let (mut mean, mut deviation) = (0.0_f64, 0.0_f64);
        for sample in 0..500_u64 {
            let took = 20 + sample * 7_919 % 61;
            estimate.sample(took as u32 * MS);
            let took = took as f64;
            if sample == 0 {
                (mean, deviation) = (took, took / 2.0);
            } else {
                deviation += ((took - mean).abs() - deviation) / 4.0;
                mean += (took - mean) / 8.0;
            }
            let timeout = estimate.timeout().as_secs_f64() * 1e3;
            assert!((timeout - (mean + 4.0 * deviation)).abs() < 1e-3, "{timeout}");
        }
    }

    /// A threefold step: the timeout exceeds the new round trip after the first sample of it.
    #[test]
    fn a_threefold_step_is_followed_within_ten_samples() {
        let mut estimate = RoundTrips::new(&config(), Planted::default());
        (0..100).for_each(|at| estimate.sample((20 + at % 3) * MS));
        let before = estimate.timeout();
        assert!(before < 30 * MS, "{before:?}");
        for sample in 0..10 {
            estimate.sample(60 * MS);
            assert!(estimate.timeout() > 60 * MS, "sample {sample}");
        }
        (0..200).for_each(|_| estimate.sample(60 * MS));
        assert!(estimate.timeout() < 62 * MS, "and calms down: {:?}", estimate.timeout());
    }
}
