//! The loop: events in, effects out, one turn at a time.

use super::{Inbox, LogHandle, Offered, Pulse, monotonic_now};
use quorate_core::{Context, Effect, Gate, NodeId, Persist, Protocol, Release, Time};
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// The loop wakes at least so often even without a timer.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Rounds of messages to oneself within one turn; more would be a livelock of the protocol.
const LOOPBACK_ROUNDS_MAX: usize = 1_000;

/// What surrounds a live node: the network below, the service above.
pub trait Host<P: Protocol>: Send {
    /// A question of the layer above, as it lies in the inbox.
    type Ask: Send;

    /// Turns a question into requests.
    fn on_ask(&mut self, node: &P, ask: Self::Ask, requests: &mut Vec<P::Request>);

    /// The node told us something; the answer may be further requests.
    fn on_indication(
        &mut self,
        node: &P,
        indication: P::Indication,
        requests: &mut Vec<P::Request>,
    );

    /// Takes a message to a peer. Must not block; may lose it.
    fn send(&mut self, to: NodeId, message: P::Message);

    /// The messages of this step are complete: let them leave.
    fn flush(&mut self);

    /// The turn is over.
    fn on_turn_end(&mut self, node: &P);
}

/// Why a loop ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Stopped {
    /// It was asked to.
    Asked,
    /// The log could not be written; nothing that was not synced was acknowledged.
    LogFailed {
        /// What failed.
        why: String,
    },
}

/// A protocol with its gate, timers and log: everything of a live node but the host.
pub struct Live<P: Protocol, H: Host<P>>
where
    P::Record: Persist,
{
    id: NodeId,
    node: P,
    host: H,
    inbox: Arc<Inbox<P::Message, H::Ask>>,
    /// Emptied by each turn; kept for its buffers.
    offered: Offered<P::Message, H::Ask>,
    log: LogHandle,
    gate: Gate<P::Message>,
    timers: BTreeMap<P::Timer, Time>,
    effects: Vec<Effect<P>>,
    requests: Vec<P::Request>,
    frames: Vec<quorate_core::Frame>,
    loopback: VecDeque<P::Message>,
    dice: Dice,
    now: Time,
    pulse: Arc<Pulse>,
}

impl<P: Protocol, H: Host<P>> Live<P, H>
where
    P::Record: Persist,
{
    /// A node that was just restored. `seed` feeds the jitter of timers.
    pub fn new(
        id: NodeId,
        node: P,
        host: H,
        inbox: Arc<Inbox<P::Message, H::Ask>>,
        log: LogHandle,
        seed: u64,
    ) -> Self {
        Live {
            id,
            node,
            host,
            inbox,
            offered: Offered::default(),
            log,
            gate: Gate::default(),
            timers: BTreeMap::new(),
            effects: Vec::new(),
            requests: Vec::new(),
            frames: Vec::new(),
            loopback: VecDeque::new(),
            dice: Dice(seed),
            now: monotonic_now(),
            pulse: Arc::default(),
        }
    }

    /// How late this loop is, to be looked at from elsewhere.
    pub fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Runs until stopped, on a thread of its own.
    pub fn run(mut self) -> Stopped {
        self.start();
        loop {
            let patience = self.until_next_timer();
            self.inbox.wait(patience);
            if let Some(stopped) = self.turn() {
                return stopped;
            }
        }
    }

    /// The first turn; called once, before any other.
    pub fn start(&mut self) {
        self.call(|node, cx| node.on_start(cx));
        self.finish_turn();
    }

    /// One turn: everything that has arrived, then the timers that are due. Never waits. Whoever
    /// calls it does so again when the inbox has something, or [`Live::until_next_timer`] is over.
    ///
    /// Returns why the node ends, if it does; it must not be called again then.
    pub fn turn(&mut self) -> Option<Stopped> {
        let mut offered = std::mem::take(&mut self.offered);
        self.inbox.take(&mut offered);
        self.now = self.now.max(monotonic_now());
        self.pulse.begin_turn(self.now);
        if let Some(why) = offered.log_failure.take() {
            return Some(Stopped::LogFailed { why });
        }
        if std::mem::take(&mut offered.stop) {
            return Some(Stopped::Asked);
        }
        self.handle(&mut offered);
        self.offered = offered;
        self.fire_due_timers();
        self.finish_turn();
        self.pulse.end_turn(monotonic_now());
        None
    }

    /// The longest that the node may be left alone if nothing arrives.
    pub fn until_next_timer(&self) -> Duration {
        let now = monotonic_now();
        let next = self.timers.values().min();
        next.map_or(SLEEP_MAX, |at| at.since(now)).min(SLEEP_MAX)
    }

    fn handle(&mut self, offered: &mut Offered<P::Message, H::Ask>) {
        if let Some(upto) = offered.synced.take() {
            for (to, message) in self.gate.synced(upto) {
                match to == self.id {
                    true => self.loopback.push_back(message),
                    false => self.host.send(to, message),
                }
            }
        }
        for (from, message) in offered.messages.drain(..) {
            self.call(|node, cx| node.on_message(from, message, cx));
        }
        for ask in offered.asks.drain(..) {
            self.host.on_ask(&self.node, ask, &mut self.requests);
        }
    }

    fn fire_due_timers(&mut self) {
        let now = self.now;
        let due: Vec<P::Timer> =
            self.timers.iter().filter(|(_, at)| **at <= now).map(|(timer, _)| *timer).collect();
        for timer in due {
            let at = self.timers.remove(&timer);
            self.pulse.timer_was_late(at.map_or(Duration::ZERO, |at| now.since(at)));
            self.call(|node, cx| node.on_timer(timer, cx));
        }
    }

    /// Runs requests and messages to ourselves until none is left, then flushes and carries out
    /// what the flush asked for, which may again concern ourselves.
    fn finish_turn(&mut self) {
        for round in 0.. {
            assert!(round < LOOPBACK_ROUNDS_MAX, "the node keeps talking to itself");
            for request in std::mem::take(&mut self.requests) {
                self.call(|node, cx| node.on_request(request, cx));
            }
            while let Some(message) = self.loopback.pop_front() {
                let id = self.id;
                self.call(|node, cx| node.on_message(id, message, cx));
            }
            self.call(|node, cx| node.on_flush(cx));
            self.node.invariants();
            self.carry_out();
            if self.requests.is_empty() && self.loopback.is_empty() {
                break;
            }
        }
        self.host.on_turn_end(&self.node);
    }

    /// Effects in order. Messages and records leave before any indication is looked at: what peers
    /// and the disk can begin with must not wait for us to talk upwards.
    fn carry_out(&mut self) {
        let mut effects = std::mem::take(&mut self.effects);
        let mut indications = Vec::new();
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, message, release } => self.send(to, message, release),
                Effect::SetTimer { timer, within } => {
                    let at = self.now.after(self.dice.within(within));
                    self.timers.insert(timer, at);
                }
                Effect::CancelTimer { timer } => {
                    self.timers.remove(&timer);
                }
                Effect::Write { record } => {
                    self.gate.wrote();
                    self.frames.push(record.to_frame());
                }
                Effect::Indicate { indication } => indications.push(indication),
            }
        }
        self.effects = effects;
        if !self.frames.is_empty() {
            self.log.write(&mut self.frames, self.gate.written());
        }
        self.host.flush();
        for indication in indications {
            self.host.on_indication(&self.node, indication, &mut self.requests);
        }
    }

    fn send(&mut self, to: NodeId, message: P::Message, release: Release) {
        let leaving = match release {
            Release::Immediately => Some((to, message)),
            Release::OnceDurable => self.gate.admit(to, message),
        };
        match leaving {
            Some((to, message)) if to == self.id => self.loopback.push_back(message),
            Some((to, message)) => self.host.send(to, message),
            None => {}
        }
    }

    fn call(&mut self, run: impl FnOnce(&mut P, &mut Context<'_, P>)) {
        let dice = &mut self.dice;
        let mut choose = |options: usize| dice.below(options as u64) as usize;
        let mut cx = Context::new(self.id, self.now, &mut choose, &mut self.effects);
        run(&mut self.node, &mut cx);
    }
}

/// A small generator (SplitMix64) for jitter and protocol choices; nothing secret depends on it.
///
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "a choice among nothing");
        self.next() % limit
    }

    fn within(&mut self, range: Range<Duration>) -> Duration {
        let width = range.end.saturating_sub(range.start).as_nanos() as u64;
        match width {
            0 => range.start,
            width => range.start + Duration::from_nanos(self.below(width)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_range() {
        let mut dice = Dice(1);
        let range = Duration::from_millis(100)..Duration::from_millis(200);
        for _ in 0..1_000 {
            assert!(range.contains(&dice.within(range.clone())));
        }
        let point = Duration::from_millis(5)..Duration::from_millis(5);
        assert_eq!(dice.within(point), Duration::from_millis(5));
    }
}
