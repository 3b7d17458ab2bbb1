//! Three replicas, and the wires between them.

use crate::walk::Dice;
use bytes::Bytes;
use quorate_core::{Buggify, Context, Effect, NodeId, Protocol, Time};
use quorate_protocols::consensus::raft::{self, Configuration, Record, RoleName};
use quorate_replica::members::Members;
use quorate_replica::store::Command;
use quorate_replica::{
    Answer, Checkpoint, Config, Indication, LeaseAnswer, LeaseAsk, Life, Message, Plant, Refusal,
    Replica, Request, Ticket, Timer, seal,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

const STEP: Duration = Duration::from_millis(50);

/// Beyond so many bytes a leader refuses commands.
pub(crate) const UNCOMMITTED_BYTES_MAX: usize = 1 << 20;

/// Three replicas and the wires between them.
pub(crate) struct Town {
    pub(crate) nodes: BTreeMap<NodeId, House>,
    pub(crate) wire: VecDeque<(NodeId, NodeId, Message)>,
    pub(crate) cut_off: Vec<NodeId>,
    /// Processes that stand still: their messages wait in their sockets.
    frozen: BTreeSet<NodeId>,
    held: Vec<(NodeId, NodeId, Message)>,
    /// Whom those who start from now on take for the first members; by default they keep no table.
    pub(crate) genesis: Members,
    /// What members have said to each other, if it is kept.
    pub(crate) copies: Option<Vec<(NodeId, NodeId, Message)>>,
    plant: Option<Plant>,
    buggify: Buggify,
    dice: Dice,
    /// No rare path is taken any more.
    pub(crate) calm: bool,
    pub(crate) now: Time,
    pub(crate) tickets: u64,
}

pub(crate) struct House {
    pub(crate) node: Replica,
    pub(crate) records: Vec<Record>,
    pub(crate) timers: BTreeMap<Timer, Time>,
    pub(crate) told: Vec<Indication>,
    life: Life,
}

impl Town {
    pub(crate) fn new() -> Town {
        Town::with(None)
    }

    /// Whose members all have a mistake.
    pub(crate) fn with(plant: Option<Plant>) -> Town {
        Town::haunted(plant, Buggify::Off)
    }

    /// Whose members also take rare paths.
    pub(crate) fn haunted(plant: Option<Plant>, buggify: Buggify) -> Town {
        let mut town = Town {
            nodes: BTreeMap::new(),
            wire: VecDeque::new(),
            cut_off: Vec::new(),
            frozen: BTreeSet::new(),
            held: Vec::new(),
            copies: None,
            plant,
            buggify,
            dice: Dice(0),
            calm: false,
            now: Time::from_nanos(1),
            tickets: 0,
            genesis: Members::default(),
        };
        for id in 1..=3 {
            town.start(NodeId(id), None, Vec::new());
        }
        town
    }

    pub(crate) fn start(
        &mut self,
        id: NodeId,
        checkpoint: Option<Checkpoint>,
        records: Vec<Record>,
    ) {
        let voters = Configuration::of([1, 2, 3].map(NodeId));
        let life = Life(id.0 * 1_000 + self.now.as_nanos());
        let config = Config {
            raft: raft::Config {
                uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
                buggify: self.buggify,
                ..raft::Config::new(id, voters)
            },
            life,
            checkpoint,
            members: self.genesis.clone(),
            member_terms: Default::default(),
            request_timeout: Duration::from_secs(5),
            log_retain_bytes: 1 << 20,
        };
        let mut node = Replica::restore(&config, &mut records.clone().into_iter());
        if let Some(plant) = self.plant {
            node.plant(plant);
        }
        let house = House { node, records, timers: BTreeMap::new(), told: Vec::new(), life };
        self.nodes.insert(id, house);
        self.call(id, |node, cx| node.on_start(cx));
        self.settle();
    }

    pub(crate) fn call(
        &mut self,
        id: NodeId,
        run: impl FnOnce(&mut Replica, &mut Context<'_, Replica>),
    ) {
        let house = self.nodes.get_mut(&id).expect("a replica of the town");
        let mut effects = Vec::new();
        let (calm, dice) = (self.calm, &mut self.dice);
        let mut choose = |options: usize| match calm {
            true => 0,
            false => dice.below(options as u64) as usize,
        };
        let now = own_time(id, self.now);
        let mut cx = Context::new(id, now, &mut choose, &mut effects);
        run(&mut house.node, &mut cx);
        house.node.on_flush(&mut cx);
        house.node.invariants();
        for effect in effects {
            match effect {
                Effect::Send { to, message, .. } => self.wire.push_back((id, to, message)),
                // Different members take different times, or their elections would never end.
                Effect::SetTimer { timer, within } => {
                    let at = self.now.after(within.start + within.start / 8 * id.0 as u32);
                    house.timers.insert(timer, at);
                }
                Effect::CancelTimer { timer } => drop(house.timers.remove(&timer)),
                Effect::Write { record } => house.records.push(record),
                Effect::Indicate { indication } => house.told.push(indication),
            }
        }
    }

    /// Delivers until nobody has anything to say.
    pub(crate) fn settle(&mut self) {
        while self.deliver() {}
    }

    /// Delivers one message. False if none is left.
    pub(crate) fn deliver(&mut self) -> bool {
        if let Some((from, to, message)) = self.wire.pop_front() {
            let cut = from != to && (self.cut_off.contains(&from) || self.cut_off.contains(&to));
            if self.frozen.contains(&to) && !cut {
                self.held.push((from, to, message));
            } else if !cut && self.nodes.contains_key(&to) {
                if let Some(copies) = self.copies.as_mut().filter(|_| from != to) {
                    copies.push((from, to, message.clone()));
                }
                self.call(to, |node, cx| node.on_message(from, message, cx));
            }
        }
        !self.wire.is_empty()
    }

    /// Everything that was kept arrives once more.
    pub(crate) fn echo(&mut self) {
        let copies = self.copies.take().unwrap_or_default();
        self.wire.extend(copies);
        self.settle();
    }

    /// Everything that is under way arrives twice.
    pub(crate) fn double(&mut self) {
        let wire = std::mem::take(&mut self.wire);
        self.wire = wire.into_iter().flat_map(|sent| [sent.clone(), sent]).collect();
        self.settle();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while self.now < end {
            self.now = self.now.after(STEP);
            let awake = |id: &NodeId| !self.frozen.contains(id);
            for id in self.nodes.keys().copied().filter(awake).collect::<Vec<_>>() {
                let now = self.now;
                let due = |house: &House| {
                    house.timers.iter().find(|(_, at)| **at <= now).map(|(timer, _)| *timer)
                };
                while let Some(timer) = due(&self.nodes[&id]) {
                    self.nodes.get_mut(&id).expect("listed").timers.remove(&timer);
                    self.call(id, |node, cx| node.on_timer(timer, cx));
                }
            }
            self.settle();
        }
    }

    pub(crate) fn leader(&self) -> NodeId {
        let leads = |house: &&House| house.node.raft().role() == RoleName::Leader;
        let leader = self.nodes.values().find(leads).expect("somebody leads");
        leader.node.raft().leader().expect("a leader knows itself")
    }

    pub(crate) fn follower(&self) -> NodeId {
        let leader = self.leader();
        *self.nodes.keys().find(|id| **id != leader).expect("others follow")
    }

    pub(crate) fn write(&mut self, at: NodeId, command: &Command) -> Ticket {
        let ticket = self.submit(at, command);
        self.settle();
        ticket
    }

    /// Asks for a write; its messages are still under way.
    pub(crate) fn submit(&mut self, at: NodeId, command: &Command) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let envelope = self.sealed(at, ticket, command);
        let request = Request::Write { ticket, envelope };
        self.call(at, |node, cx| node.on_request(request, cx));
        ticket
    }

    pub(crate) fn sealed(&self, at: NodeId, ticket: Ticket, command: &Command) -> Bytes {
        let mut envelope = Vec::new();
        seal(self.nodes[&at].life, ticket, &mut envelope);
        command.encode(&mut envelope);
        Bytes::from(envelope)
    }

    pub(crate) fn read(&mut self, at: NodeId) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.call(at, |node, cx| node.on_request(Request::Read { ticket }, cx));
        self.settle();
        ticket
    }

    /// Stops a process, as a debugger or the hypervisor does.
    pub(crate) fn freeze(&mut self, id: NodeId) {
        self.frozen.insert(id);
    }

    /// Lets it go on: first it hears what has arrived meanwhile.
    pub(crate) fn thaw(&mut self, id: NodeId) {
        self.frozen.remove(&id);
        let (theirs, held) = std::mem::take(&mut self.held).into_iter().partition(|m| m.1 == id);
        self.held = held;
        self.wire.extend::<Vec<_>>(theirs);
        self.settle();
    }

    /// Asks about a lease, as a client of that member.
    pub(crate) fn ask(&mut self, at: NodeId, ask: LeaseAsk) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.call(at, |node, cx| node.on_request(Request::Lease { ticket, ask }, cx));
        self.settle();
        ticket
    }

    pub(crate) fn lease_answer(
        &self,
        at: NodeId,
        wanted: Ticket,
    ) -> Option<Result<LeaseAnswer, Refusal>> {
        self.nodes[&at].told.iter().find_map(|told| match told {
            Indication::LeaseAnswered { ticket, answer } if *ticket == wanted => Some(*answer),
            _ => None,
        })
    }

    pub(crate) fn answer(&self, at: NodeId, wanted: Ticket) -> Option<&Result<Answer, Refusal>> {
        self.nodes[&at].told.iter().find_map(|told| match told {
            Indication::Answered { ticket, answer } if *ticket == wanted => Some(answer),
            _ => None,
        })
    }

    pub(crate) fn told(&self, at: NodeId, wanted: impl Fn(&Indication) -> bool) -> bool {
        self.nodes[&at].told.iter().any(wanted)
    }

    pub(crate) fn refused(&self, at: NodeId, wanted: Ticket) -> Option<Refusal> {
        self.answer(at, wanted)?.as_ref().err().copied()
    }
}

/// What a member's clock shows: each began to count at another time.
fn own_time(id: NodeId, now: Time) -> Time {
    now.after(Duration::from_secs(86_400 * id.0))
}
