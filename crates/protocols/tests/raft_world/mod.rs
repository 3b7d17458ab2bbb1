//! A small world for Raft: hosts with disks that lose what was not synced, a network that loses,
//! doubles, delays and cuts, clocks that jump, and a judge who remembers everything.
//!
//! The walk draws one event after another from a seed. What is true at every step is asserted at
//! every step; in the end all faults cease, and the cluster must show that it still works.

#![allow(dead_code, reason = "each test takes what it needs of this world")]

use bytes::Bytes;
use quorate_core::{
    Buggify, Context, Effect, Gate, Index, NodeId, Position, Protocol, Release, Time,
};
use quorate_protocols::consensus::raft::{
    Body, Config, Configuration, Entry, Indication, Message, Mutant, Payload, Raft, Record,
    Request, RoleName, Timer, safety,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Messages under way; one more and an old one is lost.
const MESSAGES_MAX: usize = 40;

/// A generator of numbers that are the same for the same seed (Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub(crate) struct Dice {
    state: u64,
}

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice { state: seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x1234_5678_9abc_def1 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, chances: usize) -> bool {
        chances > 0 && self.below(chances) == 0
    }
}

/// What may go wrong, as "one event in so many"; 0 is never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) hosts: u64,
    pub(crate) voters: u64,
    pub(crate) steps: usize,
    pub(crate) loss: usize,
    pub(crate) duplicate: usize,
    pub(crate) crash: usize,
    pub(crate) partition: usize,
    pub(crate) pause: usize,
    pub(crate) clock_jump: usize,
    pub(crate) damage: usize,
    pub(crate) reconfigure: usize,
    pub(crate) transfer: usize,
    pub(crate) compact: usize,
    pub(crate) batch: usize,
    /// Steps in 40 at which time moves to the next alarm.
    pub(crate) haste: usize,
    /// Longest pause of a host, in steps.
    pub(crate) pause_max: usize,
    /// Bytes of proposals that wait at a member; a command takes up to 48.
    pub(crate) uncommitted_bytes_max: usize,
    pub(crate) buggify: Buggify,
}

impl Faults {
    pub(crate) const ALL: Faults = Faults {
        hosts: 5,
        voters: 3,
        steps: 1_500,
        loss: 20,
        duplicate: 15,
        crash: 150,
        partition: 200,
        pause: 300,
        clock_jump: 500,
        damage: 0,
        reconfigure: 2,
        transfer: 4,
        compact: 1,
        batch: 5,
        haste: 2,
        pause_max: 100,
        uncommitted_bytes_max: 2_000,
        buggify: Buggify::Off,
    };

    /// Many elections, few words.
    pub(crate) const HASTE: Faults =
        Faults { crash: 80, partition: 100, haste: 3, pause: 150, pause_max: 200, ..Faults::FIXED };

    /// Five voters, many elections.
    pub(crate) const CROWD: Faults =
        Faults { hosts: 5, voters: 5, duplicate: 3, damage: 0, ..Faults::HASTE };

    /// Room for two or three commands, and a network that doubles much.
    pub(crate) const CRAMPED: Faults =
        Faults { uncommitted_bytes_max: 80, duplicate: 3, loss: 40, damage: 0, ..Faults::FIXED };

    /// Rare paths are taken often.
    pub(crate) const BUGGIFIED: Faults = Faults { buggify: Buggify::OneIn(4), ..Faults::FIXED };

    pub(crate) const FIXED: Faults =
        Faults { hosts: 3, voters: 3, reconfigure: 0, damage: 3, ..Faults::ALL };
}

/// The state machine of a host: how far it has applied, and a digest of all it has applied.
#[derive(Clone, Debug, Eq, PartialEq)]
struct State {
    position: Position,
    digest: u64,
    configuration: Configuration,
}

#[derive(Debug)]
struct Host {
    config: Config,
    raft: Option<Raft>,
    records: Vec<Record>,
    gate: Gate<Message>,
    inbox: Vec<Message>,
    timers: BTreeMap<Timer, Time>,
    ahead: Duration,
    paused: usize,
    state: State,
    /// The state that survives a crash.
    stored: State,
    /// Next index that must be indicated in this life.
    expected: Index,
    damaged: bool,
}

impl Host {
    /// How many of the records would survive a crash now.
    fn durable(&self) -> usize {
        self.records.len() - (self.gate.written() - self.gate.durable()) as usize
    }
}

#[derive(Clone, Debug)]
enum Parcel {
    Message(Message),
    State(State),
}

#[derive(Clone, Debug)]
struct Envelope {
    from: NodeId,
    to: NodeId,
    parcel: Parcel,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) committed: usize,
    pub(crate) reads: usize,
    pub(crate) elections: usize,
    pub(crate) states_sent: usize,
    pub(crate) mended: usize,
    pub(crate) changes: usize,
    pub(crate) transfers: usize,
    pub(crate) damages: usize,
    pub(crate) replaced: usize,
    /// Commands that were refused, and those that a leader refused to a follower.
    pub(crate) refused: usize,
    pub(crate) forwards_refused: usize,
    pub(crate) forwards_doubled: usize,
}

pub(crate) struct World {
    faults: Faults,
    dice: Dice,
    now: Time,
    hosts: Vec<Host>,
    network: Vec<Envelope>,
    cut: BTreeSet<(NodeId, NodeId)>,
    calm: bool,
    mutant: Option<Mutant>,
    /// What is committed for ever, with the digest of everything up to it.
    chosen: BTreeMap<Index, (Entry, u64)>,
    /// The commands in `chosen`. Each was proposed once.
    applied: BTreeSet<Bytes>,
    /// The commands that were refused, which is for ever.
    refused: BTreeSet<Bytes>,
    reads: BTreeMap<u64, Index>,
    answered: u64,
    next_ticket: u64,
    next_command: u64,
    pub(crate) tally: Tally,
    pub(crate) trace: u64,
}

impl World {
    pub(crate) fn new(faults: Faults, seed: u64, mutant: Option<Mutant>) -> World {
        let voters = Configuration::of((1..=faults.voters).map(NodeId));
        let hosts = (1..=faults.hosts).map(|id| {
            let founder = id <= faults.voters;
            let configuration = if founder { voters.clone() } else { Configuration::default() };
            let config = Config {
                append_bytes_max: 150,
                inflight_bytes_max: 400,
                inflight_max: 3,
                uncommitted_bytes_max: faults.uncommitted_bytes_max,
                news_delay: Duration::from_millis(seed % 2),
                buggify: faults.buggify,
                ..Config::new(NodeId(id), configuration.clone())
            };
            let state = State { position: Position::ZERO, digest: 0, configuration };
            Host {
                config,
                raft: None,
                records: Vec::new(),
                gate: Gate::default(),
                inbox: Vec::new(),
                timers: BTreeMap::new(),
                ahead: Duration::ZERO,
                paused: 0,
                stored: state.clone(),
                state,
                expected: Index(1),
                damaged: false,
            }
        });
        let mut world = World {
            faults,
            dice: Dice::new(seed),
            now: Time::from_nanos(1),
            hosts: hosts.collect(),
            network: Vec::new(),
            cut: BTreeSet::new(),
            calm: false,
            mutant,
            chosen: BTreeMap::new(),
            applied: BTreeSet::new(),
            refused: BTreeSet::new(),
            reads: BTreeMap::new(),
            answered: 0,
            next_ticket: 0,
            next_command: 0,
            tally: Tally::default(),
            trace: 0,
        };
        (0..world.hosts.len()).for_each(|at| world.start(at));
        world
    }

    /// Lets everything go wrong for a while.
    pub(crate) fn walk(&mut self) {
        for _ in 0..self.faults.steps {
            self.step();
            self.judge();
        }
    }

    /// Ends all faults; panics unless the cluster then commits, reads and agrees.
    pub(crate) fn recover(&mut self) {
        self.calm = true;
        self.cut.clear();
        for at in 0..self.hosts.len() {
            self.hosts[at].paused = 0;
            if self.hosts[at].raft.is_none() {
                self.start(at);
            }
        }
        for round in 0..400 {
            for _ in 0..20 {
                self.step();
            }
            self.judge();
            if round > 20 && round % 10 == 0 && self.works() {
                return;
            }
        }
        panic!("no progress after all faults have ended: {}", self.describe());
    }

    /// True if one more command reaches every member, and one more read is answered.
    fn works(&mut self) -> bool {
        let Some(leader) = (0..self.hosts.len()).find(|at| self.role(*at) == RoleName::Leader)
        else {
            return false;
        };
        let before = self.chosen.len();
        let answered = self.answered;
        let members = self.raft(leader).configuration().members();
        self.propose(leader);
        self.read(leader);
        for _ in 0..300 {
            self.step();
        }
        let last = self.chosen.keys().next_back().copied().unwrap_or_default();
        let hosts = self.hosts.iter().filter(|host| members.contains(&host.config.id));
        self.chosen.len() > before
            && self.answered > answered
            && hosts.clone().all(|host| host.state.position.index.0 + 3 > last.0)
            && hosts.clone().all(|host| !host.raft.as_ref().is_some_and(Raft::is_mending))
            && !self.raft(leader).configuration().is_joint()
    }

    pub(crate) fn describe(&self) -> String {
        let hosts = self.hosts.iter().map(|host| {
            let Some(raft) = &host.raft else { return format!("{} down", host.config.id) };
            format!(
                "\n{} {:?} term {} leader {:?} base {} last {} commit {} config {:?} mending {} {:?}",
                host.config.id,
                raft.role(),
                raft.term(),
                raft.leader(),
                raft.base(),
                raft.last(),
                raft.commit_index(),
                raft.configuration(),
                raft.is_mending(),
                raft.progress().collect::<Vec<_>>(),
            )
        });
        hosts.collect()
    }

    fn raft(&self, at: usize) -> &Raft {
        self.hosts[at].raft.as_ref().expect("a host that is up")
    }

    fn role(&self, at: usize) -> RoleName {
        self.hosts[at].raft.as_ref().map_or(RoleName::Learner, Raft::role)
    }

    fn step(&mut self) {
        self.now = self.now.after(Duration::from_micros(100));
        self.hosts.iter_mut().for_each(|host| host.paused = host.paused.saturating_sub(1));
        if !self.calm {
            self.misfortune();
        }
        if !self.calm && self.dice.below(40) < self.faults.haste {
            return self.wait();
        }
        match self.dice.below(40) {
            0..=19 => self.deliver(),
            20..=27 => self.sync(),
            28 => self.request(),
            29..=32 if !self.calm => self.request(),
            _ => self.deliver_to_self(),
        }
    }

    fn misfortune(&mut self) {
        let at = self.dice.below(self.hosts.len());
        let faults = self.faults;
        if self.dice.one_in(faults.crash) {
            match self.hosts[at].raft.is_some() {
                true => self.crash(at),
                false => self.start(at),
            }
        }
        if self.dice.one_in(10) && self.hosts[at].raft.is_none() {
            self.start(at);
        }
        if self.dice.one_in(faults.partition) {
            self.repartition();
        }
        if self.dice.one_in(faults.pause) {
            self.hosts[at].paused = self.dice.below(faults.pause_max);
        }
        if self.dice.one_in(faults.clock_jump) {
            self.hosts[at].ahead += Duration::from_secs(self.dice.below(5) as u64);
        }
    }

    fn repartition(&mut self) {
        self.cut.clear();
        let ids: Vec<NodeId> = self.hosts.iter().map(|host| host.config.id).collect();
        match self.dice.below(3) {
            0 => {}
            1 => {
                let side: Vec<bool> = ids.iter().map(|_| self.dice.one_in(2)).collect();
                for (from, mine) in ids.iter().zip(&side) {
                    let others = ids.iter().zip(&side).filter(|(_, theirs)| *theirs != mine);
                    self.cut.extend(others.map(|(to, _)| (*from, *to)));
                }
            }
            _ => {
                for _ in 0..3 {
                    let (from, to) = (self.dice.below(ids.len()), self.dice.below(ids.len()));
                    self.cut.insert((ids[from], ids[to]));
                }
            }
        }
    }

    /// Runs one event of a host and carries out what it asks for.
    fn run(&mut self, at: usize, event: impl FnOnce(&mut Raft, &mut Context<'_, Raft>)) {
        let batch = !self.calm && self.dice.one_in(self.faults.batch);
        let host = &mut self.hosts[at];
        let Some(raft) = host.raft.as_mut() else { return };
        let mut effects = Vec::new();
        let (dice, calm) = (&mut self.dice, self.calm);
        let mut choose = |options: usize| if calm { 0 } else { dice.below(options) };
        let now = self.now.after(host.ahead);
        let mut cx = Context::new(host.config.id, now, &mut choose, &mut effects);
        event(raft, &mut cx);
        if !batch {
            raft.on_flush(&mut cx);
        }
        raft.invariants();
        for effect in effects {
            self.carry_out(at, effect, now);
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect<Raft>, now: Time) {
        let host = &mut self.hosts[at];
        match effect {
            Effect::Send { to, message, release: Release::Immediately } => {
                self.post(at, to, message);
            }
            Effect::Send { to, message, release: Release::OnceDurable } => {
                if let Some((to, message)) = host.gate.admit(to, message) {
                    self.post(at, to, message);
                }
            }
            Effect::Write { record } => {
                host.gate.wrote();
                self.tally.replaced += usize::from(matches!(record, Record::Replaced { .. }));
                self.tally.mended += usize::from(matches!(record, Record::Mended));
                host.records.push(record);
            }
            Effect::SetTimer { timer, within } => {
                let span = (within.end - within.start).as_nanos() as usize;
                assert!(span > 0, "an empty range for {timer:?}");
                let delay = within.start + Duration::from_nanos(self.dice.below(span) as u64);
                host.timers.insert(timer, now.after(delay));
            }
            Effect::CancelTimer { timer } => {
                host.timers.remove(&timer);
            }
            Effect::Indicate { indication } => self.indicated(at, indication),
        }
    }

    fn post(&mut self, at: usize, to: NodeId, message: Message) {
        let from = self.hosts[at].config.id;
        if from == to {
            return self.hosts[at].inbox.push(message);
        }
        // What travels is what the codec says.
        let mut bytes = Vec::new();
        quorate_protocols::consensus::raft::codec::encode(&message, &mut bytes);
        let decoded = quorate_protocols::consensus::raft::codec::decode(Bytes::from(bytes));
        assert_eq!(decoded.as_ref(), Ok(&message));
        self.network.push(Envelope { from, to, parcel: Parcel::Message(message) });
        while self.network.len() > MESSAGES_MAX {
            let at = self.dice.below(self.network.len() / 2);
            let lost = self.network.remove(at);
            self.lost(&lost);
        }
    }

    fn indicated(&mut self, at: usize, indication: Indication) {
        self.trace = self.trace.wrapping_mul(31).wrapping_add(at as u64 + 1);
        match indication {
            Indication::Committed { entries } => {
                assert!(!entries.is_empty(), "nothing is committed");
                entries.into_iter().for_each(|entry| self.apply(at, entry));
            }
            Indication::Refused { command, .. } => {
                assert!(!self.applied.contains(&command), "what is applied was refused");
                assert!(self.refused.insert(command), "refused twice");
                self.tally.refused += 1;
            }
            Indication::ReadReady { ticket, read_index, .. } => {
                let floor = self.reads.remove(&ticket).expect("an answer to a read that waits");
                assert!(read_index >= floor, "a stale read: {read_index}, after {floor}");
                self.tally.reads += 1;
                self.answered += 1;
            }
            Indication::ReadRefused { ticket } => {
                self.reads.remove(&ticket).expect("a refusal of a read that waits");
            }
            Indication::RoleChanged { role: RoleName::Leader, .. } => self.tally.elections += 1,
            Indication::SnapshotWanted { by } => self.send_state(at, by),
            Indication::Configured { .. } => self.tally.changes += 1,
            Indication::TransferEnded { .. } => self.tally.transfers += 1,
            _ => {}
        }
    }

    fn apply(&mut self, at: usize, entry: Entry) {
        let position = entry.position;
        let host = &mut self.hosts[at];
        assert_eq!(position.index, host.expected, "indicated in order, and once");
        host.expected = position.index.next();
        let before = match position.index {
            Index(1) => 0,
            index => self.chosen.get(&index.prev()).map_or(0, |(_, digest)| *digest),
        };
        let digest = digest(before, &entry);
        if !self.chosen.contains_key(&position.index)
            && let Payload::Command(command) = &entry.payload
        {
            assert!(self.applied.insert(command.clone()), "{position} is applied a second time");
            assert!(!self.refused.contains(command), "{position} was refused");
        }
        let (first, agreed) =
            self.chosen.entry(position.index).or_insert_with(|| (entry.clone(), digest));
        assert_eq!(*first, entry, "two entries are committed at {}", position.index);
        assert_eq!(*agreed, digest);
        self.trace = self.trace.wrapping_mul(31).wrapping_add(digest);
        self.tally.committed = self.chosen.len();
        if position.index <= host.state.position.index {
            return; // the stored state covers it
        }
        assert_eq!(position.index, host.state.position.index.next());
        host.state.position = position;
        host.state.digest = digest;
        if let Payload::Membership(configuration) = entry.payload {
            host.state.configuration = configuration;
        }
    }

    fn send_state(&mut self, at: usize, to: NodeId) {
        let from = self.hosts[at].config.id;
        let state = self.hosts[at].state.clone();
        self.tally.states_sent += 1;
        self.network.push(Envelope { from, to, parcel: Parcel::State(state) });
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return match self.busy() {
                true => self.deliver_to_self(),
                false => self.wait(),
            };
        }
        // Mostly in order, now and then not.
        let among = if self.dice.one_in(4) { self.network.len() } else { 2 };
        let pick = self.dice.below(among.min(self.network.len()));
        let Envelope { from, to, .. } = self.network[pick];
        let at = self.at(to);
        if self.hosts[at].paused > 0 || self.cut.contains(&(from, to)) {
            let delayed = self.network.remove(pick);
            match self.dice.one_in(2) {
                true => self.lost(&delayed),
                false => self.network.push(delayed),
            }
            return;
        }
        let twice = !self.calm && self.dice.one_in(self.faults.duplicate);
        let is_message = matches!(self.network[pick].parcel, Parcel::Message(_));
        let envelope = match twice && is_message {
            true => self.network[pick].clone(),
            false => self.network.remove(pick),
        };
        if !self.calm && self.dice.one_in(self.faults.loss) || self.hosts[at].raft.is_none() {
            return self.lost(&envelope);
        }
        match envelope.parcel {
            Parcel::Message(message) => {
                let is_forward = matches!(message.body, Body::Forward { .. });
                let is_refusal = matches!(message.body, Body::ForwardRefused { .. });
                self.tally.forwards_doubled += usize::from(twice && is_forward);
                self.tally.forwards_refused += usize::from(is_refusal);
                self.run(at, |raft, cx| raft.on_message(from, message, cx));
            }
            Parcel::State(state) => self.install(at, from, state),
        }
    }

    fn lost(&mut self, envelope: &Envelope) {
        if matches!(envelope.parcel, Parcel::State(_)) {
            let to = envelope.to;
            let at = self.at(envelope.from);
            self.run(at, |raft, cx| raft.on_request(Request::SnapshotFailed { to }, cx));
        }
    }

    fn install(&mut self, at: usize, from: NodeId, state: State) {
        let to = self.hosts[at].config.id;
        let State { position, configuration, .. } = state.clone();
        let host = &mut self.hosts[at];
        if position.index > host.state.position.index {
            host.state = state.clone();
            host.stored = state;
        }
        let commit = self.raft(at).commit_index();
        if position.index > commit {
            self.hosts[at].expected = position.index.next();
        }
        // Entries that are committed but not yet indicated are indicated before the jump, or not at
        // all: the flush below runs first.
        let request = Request::Installed { position, configuration };
        self.run(at, |raft, cx| raft.on_request(request, cx));
        let sender = self.at(from);
        self.run(sender, |raft, cx| raft.on_request(Request::SnapshotSent { to, position }, cx));
    }

    /// True if a host still has something to do before time goes on.
    fn busy(&self) -> bool {
        self.hosts
            .iter()
            .filter(|host| host.raft.is_some() && host.paused == 0)
            .any(|host| !host.inbox.is_empty() || host.gate.written() > host.gate.durable())
    }

    /// One of the hosts which are awake and have `work`.
    fn one_with(&mut self, work: impl Fn(&Host) -> bool) -> Option<usize> {
        let awake = |host: &Host| host.paused == 0 && host.raft.is_some();
        let count = self.hosts.iter().filter(|host| awake(host) && work(host)).count();
        let pick = if count == 0 { return None } else { self.dice.below(count) };
        let mut with_work =
            (0..self.hosts.len()).filter(|at| awake(&self.hosts[*at]) && work(&self.hosts[*at]));
        with_work.nth(pick)
    }

    fn deliver_to_self(&mut self) {
        let Some(at) = self.one_with(|host| !host.inbox.is_empty()) else { return };
        let host = &mut self.hosts[at];
        let message = host.inbox.remove(0);
        let own = host.config.id;
        self.run(at, |raft, cx| raft.on_message(own, message, cx));
    }

    fn sync(&mut self) {
        let Some(at) = self.one_with(|host| host.gate.written() > host.gate.durable()) else {
            return;
        };
        let host = &mut self.hosts[at];
        let open = host.gate.written() - host.gate.durable();
        let some = if self.calm { open } else { 1 + self.dice.below(open as usize) as u64 };
        let upto = host.gate.durable() + some;
        let ready: Vec<_> = host.gate.synced(upto).collect();
        for (to, message) in ready {
            self.post(at, to, message);
        }
        if self.dice.one_in(10) {
            self.trim(at);
        }
    }

    /// Drops the records that a durable compaction has made superfluous.
    fn trim(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let durable = host.durable();
        let snapshot = host.records[..durable].iter().rposition(|record| {
            matches!(record, Record::Snapshot { .. } | Record::Replaced { .. })
        });
        let Some(end) = snapshot else { return };
        let covered = match &host.records[end] {
            Record::Snapshot { position, .. } => position.index,
            _ => Index(u64::MAX),
        };
        let start = host.records[..end]
            .iter()
            .rposition(|record| matches!(record, Record::HardState { .. }))
            .expect("a compaction writes the hard state first");
        let mut kept = Vec::new();
        for (at, record) in host.records.drain(..).enumerate() {
            let needed = match &record {
                Record::Entry(entry) => entry.position.index > covered,
                // Without it, what stood there before would seem to be whole.
                Record::Damaged { position: Some(position) } => position.index > covered,
                _ => false,
            };
            if at >= start || needed {
                kept.push(record);
            }
        }
        host.records = kept;
    }

    /// Moves time to the next alarm and lets it ring.
    fn wait(&mut self) {
        let up = self.hosts.iter().enumerate();
        let due = up.filter(|(_, host)| host.raft.is_some() && host.paused == 0);
        let due = due.flat_map(|(at, host)| {
            host.timers.iter().map(move |(timer, due)| {
                let left = due.since(Time::from_nanos(0)).saturating_sub(host.ahead);
                (left, at, *timer)
            })
        });
        let Some((left, at, timer)) = due.min() else { return };
        self.now = self.now.max(Time::from_nanos(left.as_nanos() as u64));
        self.hosts[at].timers.remove(&timer);
        self.run(at, |raft, cx| raft.on_timer(timer, cx));
    }

    fn request(&mut self) {
        let at = self.dice.below(self.hosts.len());
        if self.hosts[at].raft.is_none() || self.hosts[at].paused > 0 {
            return;
        }
        let faults = self.faults;
        match self.dice.below(8) {
            0..=2 => self.propose(at),
            3..=4 => self.read(at),
            _ if self.calm => {}
            5 if self.dice.one_in(faults.compact) => self.compact(at),
            6 if self.dice.one_in(faults.transfer) => {
                let to = NodeId(self.dice.below(self.hosts.len()) as u64 + 1);
                let request = Request::TransferLeadership { to };
                self.run(at, |raft, cx| raft.on_request(request, cx));
            }
            7 if self.dice.one_in(faults.reconfigure) => self.reconfigure(at),
            _ => {}
        }
    }

    fn propose(&mut self, at: usize) {
        self.next_command += 1;
        let mut command = self.next_command.to_le_bytes().to_vec();
        command.resize(8 + self.dice.below(40), 0);
        let command = Bytes::from(command);
        self.run(at, |raft, cx| raft.on_request(Request::Propose { command }, cx));
    }

    /// A read must see everything that anybody was told to be committed before it was asked.
    fn read(&mut self, at: usize) {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let floor = self.chosen.keys().next_back().copied().unwrap_or_default();
        self.reads.insert(ticket, floor);
        self.run(at, |raft, cx| raft.on_request(Request::Read { ticket }, cx));
    }

    fn reconfigure(&mut self, at: usize) {
        let ids: Vec<NodeId> = self.hosts.iter().map(|host| host.config.id).collect();
        let mut voters = BTreeSet::new();
        while voters.len() < 1 + self.dice.below(3) {
            voters.insert(ids[self.dice.below(ids.len())]);
        }
        let candidates = ids.into_iter().filter(|id| !voters.contains(id));
        let learners = candidates.filter(|_| self.dice.one_in(3)).collect();
        let request = Request::Reconfigure { voters, learners };
        self.run(at, |raft, cx| raft.on_request(request, cx));
    }

    fn compact(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.stored = host.state.clone();
        let upto = Index(host.stored.position.index.0.saturating_sub(self.dice.below(3) as u64));
        self.run(at, |raft, cx| raft.on_request(Request::Compact { upto }, cx));
    }

    fn crash(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.raft = None;
        let durable = host.durable();
        let torn = self.dice.below(host.records.len() - durable + 1);
        host.records.truncate(durable + torn);
        let may_damage = !host.damaged && !self.calm && self.dice.one_in(self.faults.damage);
        host.timers.clear();
        host.inbox.clear();
        if may_damage && self.hosts.iter().all(|host| !host.damaged) {
            self.damage(at);
        }
    }

    fn damage(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let entries: Vec<usize> = (0..host.records.len())
            .filter(|at| matches!(host.records[*at], Record::Entry(_)))
            .collect();
        if entries.is_empty() {
            return;
        }
        let pick = entries[self.dice.below(entries.len())];
        if let Record::Entry(entry) = &host.records[pick] {
            let position = Some(entry.position);
            host.records[pick] = Record::Damaged { position };
            host.damaged = true;
            self.tally.damages += 1;
        }
    }

    fn start(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        let mut records = host.records.iter().cloned();
        let raft = Raft::restore(&host.config, &mut records).with_mutant(self.mutant);
        assert_eq!(raft.restore_error(), None, "the vote is never damaged here");
        host.gate = Gate::default();
        host.state = host.stored.clone();
        host.expected = raft.base().index.next();
        let missing = raft.last().index < host.state.position.index;
        host.raft = Some(raft);
        self.run(at, |raft, cx| raft.on_start(cx));
        let State { position, configuration, .. } = self.hosts[at].state.clone();
        if missing && position.index > self.raft(at).commit_index() {
            self.hosts[at].expected = position.index.next();
            let request = Request::Installed { position, configuration };
            self.run(at, |raft, cx| raft.on_request(request, cx));
        }
    }

    fn at(&self, id: NodeId) -> usize {
        self.hosts.iter().position(|host| host.config.id == id).expect("a known host")
    }

    fn judge(&self) {
        let up: Vec<&Raft> = self.hosts.iter().filter_map(|host| host.raft.as_ref()).collect();
        safety(&up);
        for host in &self.hosts {
            if let Some((_, digest)) = self.chosen.get(&host.state.position.index) {
                assert_eq!(*digest, host.state.digest, "the state of {}", host.config.id);
            }
        }
    }
}

fn digest(before: u64, entry: &Entry) -> u64 {
    let mut digest = before ^ entry.position.term.0.rotate_left(32) ^ entry.position.index.0;
    if let Payload::Command(command) = &entry.payload {
        for byte in command.iter() {
            digest = digest.wrapping_mul(0x0100_0000_01b3) ^ u64::from(*byte);
        }
    }
    digest.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
