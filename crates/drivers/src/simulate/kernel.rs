//! The loop: one queue of events, virtual time, and nodes that take turns (`kernel/turn.rs`).
//!
//! The loop pops the next event, hands it to whom it concerns, and looks whether the run is over.
//! What is sent leaves through here, and what the world asks for is queued here.

mod turn;

use super::choices::{About, Choices, Site};
use super::faults::Fault;
use super::mutant::Mutant;
use super::nemesis::Nemesis;
use super::network::{Fate, Net};
use super::node::Shell;
use super::queue::{Event, Queue, Slab};
use super::recorder::Recorder;
use super::run::{Plan, UNDECIDED};
use super::setup::Promise;
use super::tally::{Digest, Tally};
use super::trace::Kind;
use super::world::{BootError, Broken, Hands, Nodes, Seat, Todo, World};
use quorate_core::{Context, Effect, Network, NodeId, Protocol, Time, Timing};

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
    /// What was still owed when the time to recover was up.
    pub(super) awaited: Vec<String>,
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
            let disk = world.disk(node);
            seats.push(Seat { state: None, disk, correct, dead: false, damaged: false });
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
            awaited: Vec::new(),
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
        let shells = self.shells.iter_mut().enumerate();
        shells.for_each(|(node, shell)| shell.take_clocks(self.world.clocks(node)));
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
            Err(BootError::Never(why)) => self.stays_away(at, &why),
        }
    }

    pub(super) fn note_of(&mut self, node: usize, text: String) {
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
                Todo::Links(links) => self.net.links = links,
                Todo::Syncs { min, span } => {
                    let shape = &mut self.nemesis.shape;
                    (shape.sync_min, shape.sync_span) = (min, span);
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
