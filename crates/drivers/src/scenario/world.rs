//! The cluster of a story, and how each command moves it.

use super::command::{Command, Switch};
use super::network::{Flight, Network, Selection, Ticket};
use super::place::{Alarm, Life, Place, Synced};
use super::printer::Printer;
use super::{Misread, Options, Transcript};
use quorate_core::{Context, Effect, Lsn, NodeId, Protocol, Release, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Rounds of messages to oneself within one turn; more would be a livelock of the protocol.
const LOOPBACK_ROUNDS_MAX: usize = 1_000;
/// Rounds of deliveries after which a cluster that is not quiet never will be.
const STABILIZE_ROUNDS_MAX: usize = 1_000;
/// Alarms that may go off within one `advance`.
const ALARMS_MAX: usize = 10_000;

/// What happens between two alarms while time passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Between {
    Nothing,
    Everything,
}

/// All nodes of a story, the network between them, and time.
pub(super) struct World<T: Transcript> {
    places: BTreeMap<NodeId, Place<T::Node>>,
    network: Network<<T::Node as Protocol>::Message>,
    now: Time,
    choices: VecDeque<usize>,
    printer: Printer,
}

impl<T: Transcript> Default for World<T> {
    fn default() -> Self {
        World {
            places: BTreeMap::new(),
            network: Network::default(),
            now: Time::default(),
            choices: VecDeque::new(),
            printer: Printer::default(),
        }
    }
}

impl<T: Transcript> World<T> {
    /// Carries out one command. Errors: it makes no sense here and now.
    pub(super) fn obey(&mut self, command: Command<'_>) -> Result<(), Misread> {
        match command {
            Command::Cluster(options) => self.cluster(options)?,
            Command::Node(id, options) => self.join(id, options)?,
            Command::Request(id, words) => self.request(id, &words)?,
            Command::Deliver(selection) => self.deliver(&selection)?,
            Command::Drop(selection) => self.lose(&selection)?,
            Command::Duplicate(selection) => self.duplicate(&selection)?,
            Command::Partition(sides) => self.partition(sides)?,
            Command::Heal => self.network.heal(),
            Command::Fire(id, name) => self.fire_named(id, &name)?,
            Command::Advance(duration) => self.advance(duration, Between::Nothing)?,
            Command::Run(duration) => self.advance(duration, Between::Everything)?,
            Command::Sync { nodes, upto } => {
                for id in self.living_or_all(nodes) {
                    self.sync(id, upto)?;
                }
            }
            Command::AutoSync(switch, nodes) => self.auto_sync(switch, nodes)?,
            Command::Damage(id, number) => self.damage(id, number)?,
            Command::Crash(nodes) => nodes.into_iter().try_for_each(|id| self.crash(id))?,
            Command::Restart(nodes) => nodes.into_iter().try_for_each(|id| self.restart(id))?,
            Command::Stabilize(nodes) => self.stabilize(nodes)?,
            Command::Choose(choices) => self.choices.extend(choices),
            Command::State(nodes) => self.print_states(nodes)?,
            Command::InFlight => self.print_in_flight(),
            Command::Timers(switch) => self.printer.alarms = switch,
            Command::Log(switch) => self.printer.log = switch,
        }
        self.check_safety();
        Ok(())
    }

    /// What was printed since the last call.
    pub(super) fn take_output(&mut self) -> Vec<String> {
        self.printer.take()
    }

    fn cluster(&mut self, mut options: Options) -> Result<(), Misread> {
        self.places.clear();
        self.network = Network::default();
        self.choices.clear();
        let members: Vec<NodeId> = (1..=options.parsed("nodes", 3)?).map(NodeId).collect();
        for id in &members {
            let seat = T::seat(*id, &members, &mut options)?;
            self.places.insert(*id, Place::new(seat));
        }
        options.all_asked()?;
        members.into_iter().for_each(|id| self.begin_life(id));
        Ok(())
    }

    fn join(&mut self, id: NodeId, mut options: Options) -> Result<(), Misread> {
        if self.places.contains_key(&id) {
            return Err(Misread(format!("{id} exists")));
        }
        let members: Vec<NodeId> = self.places.keys().copied().collect();
        let seat = T::seat(id, &members, &mut options)?;
        options.all_asked()?;
        self.places.insert(id, Place::new(seat));
        self.begin_life(id);
        Ok(())
    }

    fn begin_life(&mut self, id: NodeId) {
        self.place(id).expect("its place was just made").begin_life();
        self.printer.event_if_any(format!("{id} begins"));
        self.turn(id, |node, cx| node.on_start(cx));
    }

    fn request(&mut self, id: NodeId, words: &[&str]) -> Result<(), Misread> {
        let request = T::request(words)?;
        self.place(id)?.living(id)?;
        self.printer.event(format!("{id} is asked: {}", words.join(" ")));
        self.turn(id, |node, cx| node.on_request(request, cx));
        Ok(())
    }

    fn deliver(&mut self, selection: &Selection) -> Result<(), Misread> {
        let tickets = self.some_of(selection)?;
        tickets.into_iter().for_each(|ticket| self.deliver_one(ticket));
        Ok(())
    }

    fn deliver_one(&mut self, ticket: Ticket) {
        let Some(Flight { from, to, message, print, .. }) = self.network.take(ticket) else {
            return;
        };
        if self.places.get(&to).is_none_or(|place| place.life.is_none()) {
            return self.printer.event(format!("{from} -x {to} {print}"));
        }
        self.printer.event(format!("{to} <- {from} {print}"));
        self.turn(to, |node, cx| node.on_message(from, message, cx));
    }

    fn lose(&mut self, selection: &Selection) -> Result<(), Misread> {
        for ticket in self.some_of(selection)? {
            let flight = self.network.take(ticket).expect("it was just selected");
            self.printer.event(format!("{} -x {} {}", flight.from, flight.to, flight.print));
        }
        Ok(())
    }

    fn duplicate(&mut self, selection: &Selection) -> Result<(), Misread> {
        for ticket in self.some_of(selection)? {
            let copy = self.network.duplicate(ticket).expect("it was just selected");
            self.printer.event(format!("{} -> {} {} [again]", copy.from, copy.to, copy.print));
        }
        Ok(())
    }

    fn some_of(&self, selection: &Selection) -> Result<Vec<Ticket>, Misread> {
        let tickets = self.network.select(selection);
        match tickets.is_empty() {
            true => Err(Misread("no such message is under way; see 'inflight'".to_owned())),
            false => Ok(tickets),
        }
    }

    fn partition(&mut self, sides: Vec<BTreeSet<NodeId>>) -> Result<(), Misread> {
        let mut named: Vec<NodeId> = sides.iter().flatten().copied().collect();
        named.sort();
        if !named.iter().eq(self.places.keys()) {
            return Err(Misread("name every node on exactly one side".to_owned()));
        }
        for lost in self.network.part(sides) {
            self.printer.event(format!("{} -x {} {}", lost.from, lost.to, lost.print));
        }
        Ok(())
    }

    fn fire_named(&mut self, id: NodeId, name: &str) -> Result<(), Misread> {
        let life = self.place(id)?.living(id)?;
        let named = |timer: &<T::Node as Protocol>::Timer| {
            format!("{timer:?}").split_whitespace().collect::<String>() == name
        };
        let found = life.alarms.iter().find(|(timer, _)| named(timer));
        let Some((timer, alarm)) = found.map(|(timer, alarm)| (*timer, *alarm)) else {
            let armed: Vec<_> = life.alarms.keys().collect();
            return Err(Misread(format!("{id} has no armed alarm {name}; armed: {armed:?}")));
        };
        self.now = self.now.max(alarm.earliest);
        self.fire(id, timer);
        Ok(())
    }

    fn fire(&mut self, id: NodeId, timer: <T::Node as Protocol>::Timer) {
        let life = self.life_of(id);
        life.alarms.remove(&timer).expect("only an armed alarm goes off");
        self.printer.event(format!("{id} timer {timer:?}"));
        self.turn(id, |node, cx| node.on_timer(timer, cx));
    }

    fn advance(&mut self, duration: Duration, between: Between) -> Result<(), Misread> {
        let until = self.now.after(duration);
        for _ in 0..ALARMS_MAX {
            let armed =
                self.places.iter().filter_map(|(id, place)| Some((id, place.life.as_ref()?)));
            let due = armed.flat_map(|(id, life)| {
                life.alarms.iter().map(|(timer, alarm)| (alarm.at, *id, *timer))
            });
            match due.min().filter(|(at, ..)| *at <= until) {
                None => {
                    self.now = until;
                    return Ok(());
                }
                Some((at, id, timer)) => {
                    self.now = self.now.max(at);
                    self.fire(id, timer);
                    if between == Between::Everything {
                        self.stabilize(Vec::new())?;
                    }
                }
            }
        }
        Err(Misread(format!(
            "more than {ALARMS_MAX} alarms went off; is one set to go off at once?"
        )))
    }

    fn sync(&mut self, id: NodeId, upto: Option<Lsn>) -> Result<(), Misread> {
        let Synced { upto, released } = self.place(id)?.sync(id, upto)?;
        self.printer.event(format!("{id} synced {upto}"));
        for (to, message) in released {
            self.leave(id, to, message, &format!(" [durable {upto}]"));
        }
        // Messages to itself that waited for the disk arrive now.
        if !self.life_of(id).loopback.is_empty() {
            self.turn(id, |_, _| ());
        }
        Ok(())
    }

    fn auto_sync(&mut self, switch: Switch, nodes: Vec<NodeId>) -> Result<(), Misread> {
        let nodes = if nodes.is_empty() { self.places.keys().copied().collect() } else { nodes };
        for id in nodes {
            self.place(id)?.auto_sync = switch;
            let waits = |life: &Life<T::Node>| !life.unsynced.is_empty();
            if switch == Switch::On && self.place(id)?.life.as_ref().is_some_and(waits) {
                self.sync(id, None)?;
            }
        }
        Ok(())
    }

    fn damage(&mut self, id: NodeId, number: usize) -> Result<(), Misread> {
        let place = self.place(id)?;
        let none = || Misread(format!("{id} has no durable record {number}"));
        let slot = place.disk.get_mut(number.wrapping_sub(1)).ok_or_else(none)?;
        let found = T::damaged(slot)
            .ok_or_else(|| Misread(format!("this protocol cannot name record {number}")))?;
        let before = T::record(&std::mem::replace(slot, found));
        self.printer.event(format!("{id} damage in {number}: {before}"));
        Ok(())
    }

    fn crash(&mut self, id: NodeId) -> Result<(), Misread> {
        let place = self.place(id)?;
        place.living(id)?;
        let durable = place.disk.len();
        let mut life = place.life.take().expect("it was alive a moment ago");
        self.printer.event(format!("{id} crashes"));
        for (offset, record) in life.unsynced.iter().enumerate() {
            let number = durable + 1 + offset;
            self.printer.effect(format!("{id} loses {number}: {}", T::record(record)));
        }
        let written = life.gate.written();
        for (to, message) in life.gate.synced(written) {
            self.printer.effect(format!("{id} -x {to} {}", T::message(&message)));
        }
        Ok(())
    }

    fn restart(&mut self, id: NodeId) -> Result<(), Misread> {
        let place = self.place(id)?;
        if place.life.is_some() {
            return Err(Misread(format!("{id} has not crashed")));
        }
        place.begin_life();
        let records = place.disk.len();
        self.printer.event(format!("{id} restarts with {records} records"));
        self.turn(id, |node, cx| node.on_start(cx));
        Ok(())
    }

    fn stabilize(&mut self, nodes: Vec<NodeId>) -> Result<(), Misread> {
        let nodes: BTreeSet<NodeId> = self.living_or_all(nodes).into_iter().collect();
        let among = Selection {
            from: Some(nodes.clone()),
            to: Some(nodes.clone()),
            count: usize::MAX,
            ..Selection::default()
        };
        for _ in 0..STABILIZE_ROUNDS_MAX {
            let tickets = self.network.select(&among);
            let mut is_quiet = tickets.is_empty();
            tickets.into_iter().for_each(|ticket| self.deliver_one(ticket));
            for id in &nodes {
                if !self.place(*id)?.living(*id)?.unsynced.is_empty() {
                    self.sync(*id, None)?;
                    is_quiet = false;
                }
            }
            if is_quiet {
                return Ok(());
            }
        }
        Err(Misread(format!("not quiet after {STABILIZE_ROUNDS_MAX} rounds")))
    }

    fn print_states(&mut self, nodes: Vec<NodeId>) -> Result<(), Misread> {
        let nodes = if nodes.is_empty() { self.places.keys().copied().collect() } else { nodes };
        for id in nodes {
            let state = self.place(id)?.life.as_ref().map(|life| T::state(&life.node));
            self.printer.answer(format!("{id} {}", state.as_deref().unwrap_or("crashed")));
        }
        Ok(())
    }

    fn print_in_flight(&mut self) {
        for Flight { from, to, print, .. } in self.network.in_flight() {
            self.printer.answer(format!("{from} -> {to} {print}"));
        }
    }

    /// One event of a living node and all that follows from it within the node.
    fn turn(&mut self, id: NodeId, event: impl FnOnce(&mut T::Node, &mut Context<'_, T::Node>)) {
        let mut effects = Vec::new();
        self.call(id, &mut effects, event);
        for round in 0.. {
            assert!(round < LOOPBACK_ROUNDS_MAX, "{id} keeps talking to itself");
            while let Some(message) = self.life_of(id).loopback.pop_front() {
                self.call(id, &mut effects, |node, cx| node.on_message(id, message, cx));
            }
            self.call(id, &mut effects, |node, cx| node.on_flush(cx));
            self.life_of(id).node.invariants();
            effects.drain(..).for_each(|effect| self.carry_out(id, effect));
            if self.life_of(id).loopback.is_empty() {
                break;
            }
        }
        self.check_safety();
    }

    fn call(
        &mut self,
        id: NodeId,
        effects: &mut Vec<Effect<T::Node>>,
        run: impl FnOnce(&mut T::Node, &mut Context<'_, T::Node>),
    ) {
        let choices = &mut self.choices;
        let mut choose = |_| choices.pop_front().unwrap_or(0);
        let life = self.places.get_mut(&id).and_then(|place| place.life.as_mut());
        let node = &mut life.expect("only the living are called").node;
        run(node, &mut Context::new(id, self.now, &mut choose, effects));
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect<T::Node>) {
        match effect {
            Effect::Send { to, message, release: Release::Immediately } => {
                self.leave(id, to, message, "");
            }
            Effect::Send { to, message, release: Release::OnceDurable } => {
                let print = T::message(&message);
                let admitted = self.life_of(id).gate.admit(to, message);
                let written = self.life_of(id).gate.written();
                let number = self.places[&id].record_number(written);
                match admitted {
                    Some((to, message)) => {
                        self.leave(id, to, message, &format!(" [durable {number}]"))
                    }
                    None => {
                        self.printer.effect(format!("{id} -| {to} {print} [waits for {number}]"));
                    }
                }
            }
            Effect::SetTimer { timer, within } => {
                let rank = self.places.range(..id).count();
                let alarm = Alarm::new(self.now, &within, rank, self.places.len());
                self.life_of(id).alarms.insert(timer, alarm);
                self.printer.alarm(format!("{id} sets {timer:?} within {within:?}"));
            }
            Effect::CancelTimer { timer } => {
                self.life_of(id).alarms.remove(&timer);
                self.printer.alarm(format!("{id} cancels {timer:?}"));
            }
            Effect::Write { record } => self.write(id, record),
            Effect::Indicate { indication } => {
                self.printer.effect(format!("{id} indicates {}", T::indication(&indication)));
            }
        }
    }

    fn write(&mut self, id: NodeId, record: <T::Node as Protocol>::Record) {
        let print = T::record(&record);
        let life = self.life_of(id);
        let lsn = life.gate.wrote();
        life.unsynced.push_back(record);
        let place = &self.places[&id];
        let (number, auto_sync) = (place.record_number(lsn), place.auto_sync);
        self.printer.effect(format!("{id} writes {number}: {print}"));
        if auto_sync == Switch::On {
            let synced = self.place(id).and_then(|place| place.sync(id, None));
            let Synced { released, .. } = synced.expect("a living node can sync all that it wrote");
            assert!(released.is_empty(), "a message waited for records that are durable at once");
        }
    }

    /// A message passes the gate of its sender.
    fn leave(
        &mut self,
        id: NodeId,
        to: NodeId,
        message: <T::Node as Protocol>::Message,
        note: &str,
    ) {
        let print = T::message(&message);
        if !self.network.connects(id, to) {
            return self.printer.effect(format!("{id} -x {to} {print}{note}"));
        }
        self.printer.effect(format!("{id} -> {to} {print}{note}"));
        match id == to {
            true => self.life_of(id).loopback.push_back(message),
            false => self.network.send(id, to, message, print),
        }
    }

    fn check_safety(&self) {
        let lives = self.places.values().filter_map(|place| place.life.as_ref());
        let nodes: Vec<&T::Node> = lives.map(|life| &life.node).collect();
        nodes.iter().for_each(|node| node.invariants());
        T::safety(&nodes);
    }

    fn living_or_all(&self, nodes: Vec<NodeId>) -> Vec<NodeId> {
        if !nodes.is_empty() {
            return nodes;
        }
        self.places.iter().filter(|(_, place)| place.life.is_some()).map(|(id, _)| *id).collect()
    }

    fn place(&mut self, id: NodeId) -> Result<&mut Place<T::Node>, Misread> {
        self.places.get_mut(&id).ok_or_else(|| Misread(format!("there is no {id}")))
    }

    fn life_of(&mut self, id: NodeId) -> &mut Life<T::Node> {
        let life = self.places.get_mut(&id).and_then(|place| place.life.as_mut());
        life.expect("only the living have events")
    }
}
