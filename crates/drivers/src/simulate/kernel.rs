//! The loop: one queue of events, virtual time, and nodes whose effects are carried out as the live
//! driver does it.
//!
//! A turn of a node is: everything that has arrived for it, messages to itself, `on_flush`,
//! invariants, effects in order. Most turns have one event; a node that stood still or is slow
//! finds several, as a live node does.

use super::choices::{About, Choices, Site};
use super::faults::Fault;
use super::mutant::Mutant;
use super::nemesis::Nemesis;
use super::network::{Fate, Net};
use super::node::{BACKLOG_MAX, Shell};
use super::queue::{Event, Queue, Slab};
use super::recorder::Recorder;
use super::run::{Plan, UNDECIDED};
use super::setup::Promise;
use super::tally::{Digest, Tally};
use super::trace::Kind;
use super::world::{BootError, Broken, Hands, Nodes, Seat, SyncError, Todo, World};
use quorate_core::{Context, Effect, Network, NodeFaults, NodeId, Protocol, Release, Time, Timing};

/// Rounds of messages to oneself within one turn; more would be a livelock of the protocol.
const LOOPBACK_ROUNDS_MAX: usize = 1_000;
/// Pause before a sync is tried again on a full disk. Unit: nanoseconds.
const FULL_RETRY: u64 = 100_000_000;
/// A node that crashed because its log failed is started again after so long, at least.
const RESTART_MIN: u64 = 10_000_000;
/// A supervisor tries again after so long.
const BOOT_RETRY: u64 = 200_000_000;

type Message<W> = <<W as World>::Node as Protocol>::Message;

/// A message under way.
pub(super) struct Flying<M> {
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) id: u64,
    pub(super) message: M,
}

/// One run.
pub(super) struct Kernel<W: World> {
    pub(super) world: W,
    pub(super) plan: Plan,
    pub(super) now: u64,
    pub(super) queue: Queue,
    pub(super) shells: Vec<Shell<W::Node>>,
    /// The names of the nodes, by their numbers.
    ids: Vec<NodeId>,
    pub(super) seats: Vec<Seat<W::Node, W::Disk>>,
    pub(super) messages: Slab<Flying<Message<W>>>,
    /// Each with the life of the node that is asked.
    pub(super) requests: Slab<(u32, <W::Node as Protocol>::Request)>,
    pub(super) choices: Choices,
    pub(super) net: Net,
    pub(super) nemesis: Nemesis<Message<W>>,
    pub(super) digest: Digest,
    pub(super) tally: Tally,
    pub(super) recorder: Option<Recorder>,
    pub(super) broken: Option<Broken>,
    pub(super) calm_since: Option<u64>,
    /// It has recovered since then, and still is.
    pub(super) recovered_since: Option<u64>,
    pub(super) size_before_calm: u64,
    effects: Vec<Effect<W::Node>>,
    todo: Vec<Todo<<W::Node as Protocol>::Request>>,
    indications: Vec<<W::Node as Protocol>::Indication>,
    lossy: bool,
    pub(super) ended: bool,
}

impl<W: World> Kernel<W> {
    pub(super) fn new(
        mut world: W,
        plan: Plan,
        choices: Choices,
        recorder: Option<Recorder>,
    ) -> Self {
        let mut kernel_choices = choices;
        let shape = super::setup::draw(&plan, &mut kernel_choices);
        let mut shells = Vec::new();
        let mut seats = Vec::new();
        for node in 0..shape.nodes {
            let mut shell = Shell::new(world.id(node), node, shape.clock_origin(node));
            if plan.planted(Mutant::ClockRunsBackwards) {
                shell.clock = shell.clock.without_floor();
            }
            shells.push(shell);
            let correct = !shape.traitors.contains(&node);
            seats.push(Seat { state: None, disk: world.disk(node), correct, dead: false });
        }
        let ids = shells.iter().map(|shell| shell.id).collect();
        let lossy = plan.model.network >= Network::FairLoss;
        let delay_max = match shape.promise {
            // The other half is for the time that a message is held back, or its node stands still.
            Promise::Always { delay, .. } if plan.model.timing != Timing::Synchronous => delay / 2,
            Promise::Always { .. } if plan.planted(Mutant::LateInSynchrony) => u64::MAX,
            Promise::Always { delay, .. } => delay,
            Promise::AfterFaults | Promise::Never => u64::MAX,
        };
        let net = Net::new(shape.nodes, shape.links.clone(), delay_max);
        Kernel {
            world,
            now: 0,
            queue: Queue::default(),
            shells,
            ids,
            seats,
            messages: Slab::default(),
            requests: Slab::default(),
            choices: kernel_choices,
            net,
            nemesis: Nemesis::new(&plan, shape),
            plan,
            digest: Digest::new(),
            tally: Tally { runs: 1, ..Tally::default() },
            recorder,
            broken: None,
            calm_since: None,
            recovered_since: None,
            size_before_calm: 0,
            effects: Vec::new(),
            todo: Vec::new(),
            indications: Vec::new(),
            lossy,
            ended: false,
        }
    }

    /// The nodes of the system: not the second copies of those that equivocate.
    pub(super) fn nodes(&self) -> usize {
        self.nemesis.shape.nodes
    }

    /// Runs until the end, or until something is broken.
    pub(super) fn run(&mut self) {
        self.begin();
        while self.broken.is_none() && !self.ended {
            let Some((at, event)) = self.queue.pop() else { break };
            if self.tally.events >= self.plan.events_max() {
                let why = format!("it was ended after {} events", self.tally.events);
                self.broken = Some(Broken::new(UNDECIDED, why));
                break;
            }
            self.now = at;
            self.choices.now = at;
            self.tally.events += 1;
            self.digest.add(at);
            self.handle(event);
        }
        self.tally.simulated = self.now;
        if self.broken.is_none() {
            let finished = self.with_world(|world, nodes, hands| world.finish(nodes, hands));
            if let Err(broken) = finished {
                self.broken.get_or_insert(broken);
            }
        }
        self.nemesis.settle(&self.net, &mut self.tally);
    }

    fn begin(&mut self) {
        let nodes = self.nodes();
        self.with_world(|world, _, hands| world.prepare(nodes, hands));
        if let Promise::Always { delay, step } = self.nemesis.shape.promise {
            let (delay, step) = (delay / 1_000_000, step / 1_000_000);
            self.note(&format!("bounds hold always: {delay} ms on delays, {step} ms on steps"));
        }
        for node in 0..self.nodes() {
            self.boot(node);
        }
        self.with_world(|world, nodes, hands| world.start(nodes, hands));
        self.begin_nemesis();
        self.queue.push(self.plan.safety, Event::Calm);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Deliver { message } => self.deliver(message),
            Event::Timer { node, slot, set } => {
                let shell = &self.shells[usize::from(node)];
                if shell.timers[usize::from(slot)].set == set {
                    self.at_node(usize::from(node), event);
                }
            }
            Event::Request { node, .. } => self.at_node(usize::from(node), event),
            Event::Synced { node, life } => {
                if self.shells[usize::from(node)].life == life {
                    self.at_node(usize::from(node), event);
                }
            }
            Event::Awake { node } => self.awake(usize::from(node)),
            Event::Boot { node, life } => self.start(usize::from(node), life),
            Event::Alarm { alarm } => {
                self.digest.add(alarm ^ 0xa1a2);
                self.with_world(|world, nodes, hands| world.on_alarm(alarm, nodes, hands));
            }
            Event::Nemesis { kind } => self.think(usize::from(kind)),
            Event::Heal { fault } => self.heal(fault),
            Event::Calm => self.calm(),
            Event::Aftermath => {} // asks once more whether it has recovered
            Event::End => self.end(),
        }
        self.look_for_recovery();
    }

    /// An event of one node: now, or when it can look at it.
    fn at_node(&mut self, at: usize, event: Event) {
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

    fn awake(&mut self, at: usize) {
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

    fn deliver(&mut self, message: u32) {
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

    pub(super) fn lost(&mut self, flying: &Flying<Message<W>>, why: &'static str) {
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
        self.crash(at, super::nemesis::Power::Stays, &format!("it stops: {why}"));
        match self.plan.model.node {
            NodeFaults::CrashStop => self.seats[at].dead = true,
            _ => self.restart_after(at, RESTART_MIN),
        }
    }

    /// Runs what a turn still has to do.
    pub(super) fn finish_turn(&mut self, at: usize, counts: bool) {
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
            let cut = |from: usize, to: usize| self.net.is_cut(from, to);
            let mut hands = Hands {
                now: self.now,
                choices: &mut self.choices,
                todo: &mut self.todo,
                tally: &mut self.tally,
                broken: &mut self.broken,
                told: told.as_mut(),
                cut: &cut,
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

    /// A message leaves a node, or goes back to it.
    fn transmit(&mut self, at: usize, to: NodeId, message: Message<W>) {
        if to == self.shells[at].id {
            self.shells[at].loopback.push_back(message);
            return;
        }
        let Some(to) = self.ids.iter().position(|id| *id == to) else { return };
        let from = self.shells[at].face;
        let omission = self.shells[at].send_omission;
        if self.choices.chance(Site::new(About::Malice, at), omission) {
            let id = self.tally.sent;
            self.tally.sent += 1;
            let flying = Flying { from: from as u16, to: to as u16, id, message };
            return self.lost(&flying, "send omission");
        }
        if self.nemesis.is_malicious() {
            return self.send_with_malice(at, from, to, message);
        }
        self.send(from, to, message);
    }

    /// Hands a message to the network.
    pub(super) fn send(&mut self, from: usize, to: usize, message: Message<W>) {
        let id = self.tally.sent;
        self.tally.sent += 1;
        if self.recorder.is_some() {
            let text = self.world.describe(&message);
            self.record(Kind::Send, |step| {
                (step.node, step.peer) = (Some(from), Some(to));
                (step.message, step.text) = (Some(id), text);
            });
        }
        let fate = self.net.send(from, to, self.now, &mut self.choices);
        let (from, to) = (from as u16, to as u16);
        match fate {
            Fate::Lost(why) => {
                self.nemesis.lost += u64::from(why == "lost");
                self.lost(&Flying { from, to, id, message }, why);
            }
            Fate::Held => {
                let message = self.messages.insert(Flying { from, to, id, message });
                self.net.keep(usize::from(from), usize::from(to), message);
            }
            Fate::Arrives(at) => {
                let message = self.messages.insert(Flying { from, to, id, message });
                self.queue.push(at, Event::Deliver { message });
            }
            Fate::Twice(at, again) => {
                self.nemesis.twice += 1;
                let twin = Flying { from, to, id, message: message.clone() };
                let message = self.messages.insert(Flying { from, to, id, message });
                self.queue.push(at, Event::Deliver { message });
                let message = self.messages.insert(twin);
                self.queue.push(again, Event::Deliver { message });
            }
        }
    }

    /// A node begins a life.
    pub(super) fn boot(&mut self, at: usize) {
        if self.seats[at].dead || self.is_cut_short(at) {
            return;
        }
        let face = self.shells[at].face;
        match self.world.boot(face, &mut self.seats[at].disk) {
            Ok(node) => {
                self.seats[at].state = Some(node);
                self.record(Kind::Boot, |step| {
                    step.node = Some(face);
                    step.text = "starts".to_owned();
                });
                self.tally.size += 1;
                self.call(at, |node, cx| node.on_start(cx));
                self.finish_turn(at, false);
            }
            Err(BootError::Again(why)) => {
                self.note_of(face, format!("does not start, and tries again: {why}"));
                self.shells[at].life += 1;
                self.restart_after(at, BOOT_RETRY);
            }
            Err(BootError::Never(why)) => {
                self.seats[at].dead = true;
                self.note_of(face, format!("does not start: {why}"));
            }
        }
    }

    fn note_of(&mut self, node: usize, text: String) {
        self.record(Kind::Note, |step| (step.node, step.text) = (Some(node), text));
    }

    fn call(&mut self, at: usize, run: impl FnOnce(&mut W::Node, &mut Context<'_, W::Node>)) {
        let Kernel { seats, shells, choices, effects, now, .. } = self;
        let Some(node) = &mut seats[at].state else { return };
        let site = Site::new(About::Protocol, at);
        let mut choose = |options: usize| choices.draw(site, options as u64) as usize;
        let shell = &mut shells[at];
        let local = Time::from_nanos(shell.clock.read(*now));
        run(node, &mut Context::new(shell.id, local, &mut choose, effects));
    }

    /// Calls the world, and does what it asks for.
    pub(super) fn with_world<T>(
        &mut self,
        run: impl FnOnce(&mut W, &mut Nodes<'_, W>, &mut Hands<'_, W>) -> T,
    ) -> T {
        let nodes = self.nodes();
        let mut told = self.recorder.is_some().then(Vec::new);
        let cut = |from: usize, to: usize| self.net.is_cut(from, to);
        let mut hands = Hands {
            now: self.now,
            choices: &mut self.choices,
            todo: &mut self.todo,
            tally: &mut self.tally,
            broken: &mut self.broken,
            told: told.as_mut(),
            cut: &cut,
        };
        let mut nodes = Nodes { seats: &mut self.seats[..nodes] };
        let done = run(&mut self.world, &mut nodes, &mut hands);
        self.take_told(told);
        self.do_todo();
        done
    }

    #[inline]
    fn do_todo(&mut self) {
        if !self.todo.is_empty() {
            self.do_what_is_left();
        }
    }

    fn do_what_is_left(&mut self) {
        for todo in self.todo.drain(..) {
            match todo {
                Todo::Request { node, after, request } => {
                    let request = self.requests.insert((self.shells[node].life, request));
                    let node = node as u16;
                    self.queue.push(self.now + after, Event::Request { node, request });
                }
                Todo::Alarm { after, alarm } => {
                    self.queue.push(self.now + after, Event::Alarm { alarm });
                }
            }
        }
    }

    /// True if the network may lose messages in this run.
    pub(super) fn is_lossy(&self) -> bool {
        self.lossy
    }

    /// Counts what has been injected.
    pub(super) fn injected(&mut self, fault: Fault) {
        self.tally.fault(fault);
        self.tally.size += 1;
    }
}
