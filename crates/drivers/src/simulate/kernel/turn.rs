//! A turn of a node: what it is handed, and what comes of it, as the live driver does it.
//!
//! A turn is: everything that has arrived for the node, messages to itself, `on_flush`, invariants,
//! effects in order. Most turns have one event; a node that stood still or is slow finds several,
//! as a live node does.
//!
//! Bounds: [`LOOPBACK_ROUNDS_MAX`] rounds in one turn; what waits for a node that stands still is
//! lost beyond [`BACKLOG_MAX`] messages, where the model allows a loss.

use super::super::choices::{About, Site};
use super::super::nemesis::Power;
use super::super::node::BACKLOG_MAX;
use super::super::queue::Event;
use super::super::trace::Kind;
use super::super::world::{Hands, SyncError, World};
use super::{Flying, Kernel, Message};
use quorate_core::{Effect, NodeFaults, Protocol, Release};

/// Rounds of messages to oneself within one turn; more would be a livelock of the protocol.
const LOOPBACK_ROUNDS_MAX: usize = 1_000;
/// Pause before a sync is tried again on a full disk. Unit: nanoseconds.
const FULL_RETRY: u64 = 100_000_000;
/// A node that crashed because its log failed is started again after so long, at least.
const RESTART_MIN: u64 = 10_000_000;

impl<W: World> Kernel<W> {
    /// An event of one node: now, or when it can look at it.
    pub(super) fn at_node(&mut self, at: usize, event: Event) {
        let shell = &mut self.shells[at];
        let idle = shell.paused == 0 && shell.busy_until <= self.now;
        if idle && shell.backlog.is_empty() {
            let counts = self.take_in(at, event);
            self.finish_turn(at, counts);
            return;
        }
        match event {
            Event::Deliver { message } if self.lossy && shell.backlog.len() >= BACKLOG_MAX => {
                let flying = self.messages.take(message);
                self.lost(&flying, "the queue of the node is full");
            }
            _ => shell.backlog.push(event),
        }
    }

    pub(super) fn awake(&mut self, at: usize) {
        let shell = &mut self.shells[at];
        if shell.paused > 0 || shell.busy_until > self.now || shell.backlog.is_empty() {
            return;
        }
        let mut backlog = std::mem::take(&mut shell.backlog);
        // As the live driver does it: the disk, messages and questions, then timers.
        backlog.sort_by_key(|event| match event {
            Event::Synced { .. } => 0,
            Event::Deliver { .. } => 1,
            Event::Timer { .. } => 3,
            _ => 2,
        });
        let mut counts = false;
        for event in backlog {
            counts |= self.take_in(at, event);
        }
        self.finish_turn(at, counts);
    }

    /// Hands one event to the node. True if what comes of it may count for the size of the run.
    fn take_in(&mut self, at: usize, event: Event) -> bool {
        match event {
            Event::Deliver { message } => self.receive(at, message),
            Event::Timer { slot, set, .. } => self.fire(at, usize::from(slot), set),
            Event::Synced { life, .. } => self.synced(at, life),
            Event::Request { request, .. } => {
                self.ask(at, request);
                self.tally.size += 1;
                false
            }
            _ => unreachable!("{event:?} is no event of a node"),
        }
    }

    fn ask(&mut self, at: usize, request: u32) {
        let (life, request) = self.requests.take(request);
        if life != self.shells[at].life {
            return;
        }
        self.digest.add(0x5e ^ at as u64);
        if self.recorder.is_some()
            && self.seats[at].state.is_some()
            && let Some(text) = self.world.describe_request(&request)
        {
            self.record(Kind::Invoke, |step| (step.node, step.text) = (Some(at), text));
        }
        self.call(at, |node, cx| node.on_request(request, cx));
    }

    pub(super) fn deliver(&mut self, message: u32) {
        let to = {
            let flying = self.messages.get(message);
            self.shell_of(usize::from(flying.from), usize::from(flying.to))
        };
        self.at_node(to, Event::Deliver { message });
    }

    fn receive(&mut self, at: usize, message: u32) -> bool {
        let flying = self.messages.take(message);
        let (from, to) = (usize::from(flying.from), usize::from(flying.to));
        let why = match () {
            () if self.seats[at].state.is_none() => Some("the node is down"),
            () if self.lossy && self.net.is_cut(from, to) => Some("cut off"),
            () if self.lossy && self.choices.edited(Site::link(About::Deliver, from, to)) => {
                Some("lost")
            }
            () => self.omitted(at),
        };
        if let Some(why) = why {
            self.lost(&flying, why);
            return false;
        }
        self.tally.delivered += 1;
        self.digest.add(flying.id ^ (to as u64) << 56);
        self.digest.add(self.world.fingerprint(&flying.message));
        if self.recorder.is_some() {
            let text = self.world.describe(&flying.message);
            self.record(Kind::Receive, |step| {
                (step.node, step.peer) = (Some(to), Some(from));
                (step.message, step.text) = (Some(flying.id), text);
            });
        }
        let sender = self.shells[from].id;
        let Flying { message, .. } = flying;
        self.call(at, |node, cx| node.on_message(sender, message, cx));
        true
    }

    pub(in super::super) fn lost(&mut self, flying: &Flying<Message<W>>, why: &'static str) {
        let (from, to, id) = (usize::from(flying.from), usize::from(flying.to), flying.id);
        if self.recorder.is_some() {
            let text = format!("{} ({why})", self.world.describe(&flying.message));
            self.record(Kind::Lose, |step| {
                (step.node, step.peer) = (Some(to), Some(from));
                (step.message, step.text) = (Some(id), text);
            });
        }
    }

    fn fire(&mut self, at: usize, slot: usize, set: u32) -> bool {
        let Some(state) = &self.shells[at].timers.get(slot) else { return false };
        if state.set != set || !state.armed || self.seats[at].state.is_none() {
            return false;
        }
        let timer = state.timer;
        self.shells[at].timers[slot].armed = false;
        self.digest.add(0x71_0000 ^ (at as u64) << 8 ^ slot as u64);
        if self.recorder.is_some() {
            let face = self.shells[at].face;
            self.record(Kind::Timer, |step| {
                step.node = Some(face);
                step.text = format!("{timer:?}");
            });
        }
        self.call(at, |node, cx| node.on_timer(timer, cx));
        true
    }

    fn synced(&mut self, at: usize, life: u32) -> bool {
        if self.shells[at].life != life || self.seats[at].state.is_none() {
            return false;
        }
        let stalled = self.shells[at].stalled_until;
        if stalled > self.now {
            self.queue.push(stalled, Event::Synced { node: at as u16, life });
            return false;
        }
        match self.world.sync(self.shells[at].face, &mut self.seats[at].disk) {
            Ok(()) => {}
            Err(SyncError::Full) => {
                self.queue.push(self.now + FULL_RETRY, Event::Synced { node: at as u16, life });
                return false;
            }
            Err(SyncError::Fatal(why)) => {
                self.log_failed(at, &why);
                return false;
            }
        }
        let shell = &mut self.shells[at];
        let upto = shell.syncing.take().expect("a sync was under way");
        let released: Vec<_> = shell.gate.synced(upto).collect();
        self.digest.add(0x5c ^ upto << 8);
        if self.recorder.is_some() {
            let face = self.shells[at].face;
            self.record(Kind::Synced, |step| {
                step.node = Some(face);
                step.text = format!("{upto} records are durable");
            });
        }
        for (to, message) in released {
            self.transmit(at, to, message);
        }
        self.begin_sync(at);
        true
    }

    /// Nothing can be written any more: the node stops, and is started again by its supervisor.
    fn log_failed(&mut self, at: usize, why: &str) {
        self.crash(at, Power::Stays, &format!("it stops: {why}"));
        match self.plan.model.node {
            NodeFaults::CrashStop => self.seats[at].dead = true,
            _ => self.restart_after(at, RESTART_MIN),
        }
    }

    /// Runs what a turn still has to do.
    pub(in super::super) fn finish_turn(&mut self, at: usize, counts: bool) {
        if self.seats[at].state.is_none() {
            return;
        }
        let mut lasting = false;
        for round in 0.. {
            assert!(round < LOOPBACK_ROUNDS_MAX, "the node keeps talking to itself");
            while let Some(message) = self.shells[at].loopback.pop_front() {
                let id = self.shells[at].id;
                self.call(at, |node, cx| node.on_message(id, message, cx));
            }
            self.call(at, |node, cx| node.on_flush(cx));
            if let Some(node) = &self.seats[at].state {
                node.invariants();
            }
            lasting |= self.carry_out(at);
            if self.shells[at].loopback.is_empty() {
                break;
            }
        }
        if counts && lasting {
            self.tally.size += 1;
        }
        if self.seats[at].correct && at < self.nodes() {
            self.with_world(|world, nodes, hands| world.on_turn_end(at, nodes, hands));
        }
        self.portray(at);
        self.look_for_leader();
        let shell = &mut self.shells[at];
        if shell.step_time > 0 {
            shell.busy_until = self.now + shell.step_time;
            self.queue.push(shell.busy_until, Event::Awake { node: at as u16 });
        }
    }

    /// Effects in order, as the live driver carries them out. True if one was a write, or told.
    fn carry_out(&mut self, at: usize) -> bool {
        let mut effects = std::mem::take(&mut self.effects);
        let mut lasting = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Send { to, message, release } => {
                    let leaving = match release {
                        Release::Immediately => Some((to, message)),
                        Release::OnceDurable => self.shells[at].gate.admit(to, message),
                    };
                    if let Some((to, message)) = leaving {
                        self.transmit(at, to, message);
                    }
                }
                Effect::SetTimer { timer, within } => {
                    let start = within.start.as_nanos() as u64;
                    let width = within.end.saturating_sub(within.start).as_nanos() as u64;
                    let site = Site::new(About::Timer, at);
                    let jitter = if width == 0 { 0 } else { self.choices.draw(site, width) };
                    self.shells[at].set_timer(timer, start + jitter, self.now, at, &mut self.queue);
                }
                Effect::CancelTimer { timer } => self.shells[at].cancel_timer(timer),
                Effect::Write { record } => {
                    lasting = true;
                    let shell = &mut self.shells[at];
                    shell.gate.wrote();
                    shell.pending.push(record);
                }
                Effect::Indicate { indication } => {
                    lasting = true;
                    self.indications.push(indication);
                }
            }
        }
        self.effects = effects;
        self.begin_sync(at);
        self.indicate(at);
        lasting
    }

    fn indicate(&mut self, at: usize) {
        if self.indications.is_empty() {
            return;
        }
        let mut indications = std::mem::take(&mut self.indications);
        let heard = self.seats[at].correct && at < self.nodes();
        for indication in indications.drain(..).filter(|_| heard) {
            let Kernel { world, seats, .. } = self;
            let Some(state) = &seats[at].state else { continue };
            let mut told = self.recorder.is_some().then(Vec::new);
            let mut hands = Hands {
                now: self.now,
                choices: &mut self.choices,
                todo: &mut self.todo,
                tally: &mut self.tally,
                broken: &mut self.broken,
                told: told.as_mut(),
                net: &self.net,
                shells: &self.shells,
                buggify: self.plan.buggify,
            };
            world.on_indication(at, state, indication, &mut hands);
            self.take_told(told);
        }
        self.indications = indications;
        self.do_todo();
    }

    /// Starts a sync if there is something to write and none is under way.
    fn begin_sync(&mut self, at: usize) {
        let shell = &mut self.shells[at];
        if shell.syncing.is_some() || shell.pending.is_empty() {
            return;
        }
        let face = shell.face;
        self.world.append(face, &mut self.seats[at].disk, &mut shell.pending);
        assert!(shell.pending.is_empty(), "the world leaves no record behind");
        shell.syncing = Some(shell.gate.written());
        let span = self.nemesis.shape.sync_span;
        let jitter = self.choices.draw(Site::new(About::Sync, at), span + 1);
        let takes = self.nemesis.shape.sync_min + jitter + shell.sync_extra;
        let (node, life) = (at as u16, shell.life);
        self.queue.push(self.now + takes, Event::Synced { node, life });
    }
}
