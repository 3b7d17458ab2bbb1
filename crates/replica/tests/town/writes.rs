//! Random days in the town: puts and reads at any member while wires are cut, processes stand still
//! and members restart from checkpoints that were taken at any moment. Whoever was told that a
//! write happened, or did not, must not be told otherwise later; nothing happens twice; and a read
//! sees what was answered before it was asked.

use crate::put;
use crate::streets::Town;
use crate::walk::{Dice, MEMBERS};
use quorate_core::{Buggify, NodeId, Protocol};
use quorate_protocols::consensus::raft::{Record, RoleName};
use quorate_replica::store::{Event, Revision};
use quorate_replica::{
    Answer, Checkpoint, Indication, Plant, Refusal, ReplicaMutant, Request, Ticket,
};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const WALKS: u64 = 200;
const STEPS: u64 = 150;

/// Walks within which a planted mistake must be found.
const WALKS_PER_MUTANT: u64 = 400;

struct Walk {
    town: Town,
    dice: Dice,
    /// Tickets count in each life of a member, so the same ones are in use at all of them.
    tickets: BTreeMap<NodeId, u64>,
    writes: BTreeMap<(NodeId, Ticket), String>,
    /// Reads, and the revision that was answered to somebody before each was asked.
    reads: BTreeMap<(NodeId, Ticket), Revision>,
    answered: Revision,
    refused: BTreeSet<String>,
    frozen: Option<NodeId>,
    checkpoints: BTreeMap<NodeId, Checkpoint>,
    /// Members that wait for a checkpoint, and of whom.
    wanted: Vec<(NodeId, NodeId)>,
    last_value: u64,
    answers: u64,
    installed: u64,
}

impl Walk {
    fn new(seed: u64, plant: Option<Plant>) -> Walk {
        let buggify = [Buggify::Off, Buggify::OneIn(5)][seed as usize % 2];
        let mut town = Town::haunted(plant, buggify);
        town.pass(Duration::from_secs(4));
        Walk {
            town,
            dice: Dice(seed),
            tickets: BTreeMap::new(),
            writes: BTreeMap::new(),
            reads: BTreeMap::new(),
            answered: Revision(0),
            refused: BTreeSet::new(),
            frozen: None,
            checkpoints: BTreeMap::new(),
            wanted: Vec::new(),
            last_value: 0,
            answers: 0,
            installed: 0,
        }
    }

    fn step(&mut self) {
        match self.dice.below(40) {
            0..14 => self.put(),
            14..20 => self.read(),
            20..22 => self.town.cut_off = vec![self.dice.member()],
            22..25 => self.town.cut_off.clear(),
            25 => self.freeze(),
            26..28 => self.thaw(),
            28 => self.restart(),
            29..31 => self.checkpoint(),
            31 => self.stray(),
            _ => {
                let time = [50, 100, 500, 1_500][self.dice.below(4) as usize];
                self.town.pass(Duration::from_millis(time));
            }
        }
        for _ in 0..self.dice.below(12) {
            self.town.deliver();
            self.hear();
        }
        if self.dice.below(2) == 0 {
            self.town.settle();
        }
        self.hear();
    }

    /// A member that is awake, with its next ticket.
    fn somebody(&mut self) -> Option<NodeId> {
        let at = self.dice.member();
        if self.frozen == Some(at) {
            return None;
        }
        self.town.tickets = self.tickets.get(&at).copied().unwrap_or_default();
        self.tickets.insert(at, self.town.tickets + 1);
        Some(at)
    }

    fn put(&mut self) {
        let Some(at) = self.somebody() else { return };
        self.last_value += 1;
        let value = format!("v{}", self.last_value);
        let ticket = self.town.submit(at, &put(["a", "b"][self.dice.below(2) as usize], &value));
        self.writes.insert((at, ticket), value);
    }

    fn read(&mut self) {
        let Some(at) = self.somebody() else { return };
        let ticket = Ticket(self.town.tickets + 1);
        self.town.call(at, |node, cx| node.on_request(Request::Read { ticket }, cx));
        self.reads.insert((at, ticket), self.answered);
    }

    fn freeze(&mut self) {
        let member = self.dice.member();
        if self.frozen.is_none() {
            self.frozen = Some(member);
            self.town.freeze(member);
        }
    }

    fn thaw(&mut self) {
        if let Some(member) = self.frozen.take() {
            self.town.thaw(member);
        }
    }

    fn checkpoint(&mut self) {
        let member = self.dice.member();
        self.checkpoints.insert(member, self.town.nodes[&member].node.checkpoint());
    }

    fn restart(&mut self) {
        let member = self.dice.member();
        if self.frozen == Some(member) {
            return;
        }
        self.hear();
        let checkpoint = self.checkpoints.get(&member).cloned();
        let records: Vec<Record> = self.town.nodes[&member].records.clone();
        self.writes.retain(|(at, _), _| *at != member);
        self.reads.retain(|(at, _), _| *at != member);
        self.tickets.remove(&member);
        self.town.start(member, checkpoint, records);
    }

    /// Some checkpoint of another member arrives, late or unwanted. Nobody sends one to a leader:
    /// it has answered nobody in a later term.
    fn stray(&mut self) {
        let (by, of) = (self.dice.member(), self.dice.member());
        let checkpoint = self.checkpoints.get(&of).cloned();
        let leads = self.town.nodes[&by].node.raft().role() == RoleName::Leader;
        if by != of && self.frozen != Some(by) && !leads {
            checkpoint.into_iter().for_each(|checkpoint| self.install(by, checkpoint));
        }
    }

    fn send_checkpoint(&mut self, by: NodeId, of: NodeId) {
        let reachable = |id: &NodeId| !self.town.cut_off.contains(id) && self.frozen != Some(*id);
        if ![by, of].iter().all(reachable) {
            return self.wanted.push((by, of));
        }
        let checkpoint = self.town.nodes[&of].node.checkpoint();
        let position = checkpoint.position;
        self.install(by, checkpoint);
        let sent = Request::CheckpointSent { to: by, position };
        self.town.call(of, |node, cx| node.on_request(sent, cx));
    }

    fn install(&mut self, by: NodeId, checkpoint: Checkpoint) {
        if checkpoint.position > self.town.nodes[&by].node.applied() {
            self.checkpoints.insert(by, checkpoint.clone());
            self.installed += 1;
        }
        let install = Request::Install(Box::new(checkpoint));
        self.town.call(by, |node, cx| node.on_request(install, cx));
    }

    fn hear(&mut self) {
        let wanted = self.town.nodes.values_mut().map(|house| std::mem::take(&mut house.told));
        for (at, told) in MEMBERS.into_iter().zip(wanted.collect::<Vec<_>>()) {
            for told in told {
                match told {
                    Indication::Answered { ticket, answer } => self.written(at, ticket, answer),
                    Indication::Readable { ticket, .. } => {
                        let floor = self.reads.remove(&(at, ticket)).expect("a read that waits");
                        let seen = self.town.nodes[&at].node.store().revision();
                        assert!(seen >= floor, "{at} reads {seen:?}, answered was {floor:?}");
                    }
                    Indication::ReadRefused { ticket, .. } => {
                        self.reads.remove(&(at, ticket));
                    }
                    Indication::CheckpointWanted { by } => self.wanted.push((by, at)),
                    Indication::Diverged { .. } | Indication::Disputed { .. } => {
                        panic!("{at} differs from the others")
                    }
                    _ => {}
                }
            }
        }
        for (by, of) in std::mem::take(&mut self.wanted) {
            self.send_checkpoint(by, of);
        }
    }

    fn written(&mut self, at: NodeId, ticket: Ticket, answer: Result<Answer, Refusal>) {
        let value = self.writes.remove(&(at, ticket)).expect("one answer to each write");
        match answer {
            Ok(answer) => {
                let store = self.town.nodes[&at].node.store();
                let mut changes = store.changes(answer.revision).expect("nothing is compacted");
                let event = changes.next().expect("what was answered is there");
                assert_eq!(event.kv.value, value, "the answer to another write");
                self.answered = self.answered.max(answer.revision);
                self.answers += 1;
            }
            Err(why) if why.is_definite() => drop(self.refused.insert(value)),
            Err(_) => {}
        }
    }

    /// Peace: everybody agrees, and nothing has happened twice or against what was told.
    fn finish(mut self) -> (u64, u64) {
        self.thaw();
        self.town.cut_off.clear();
        self.town.calm = true;
        for _ in 0..200 {
            self.town.pass(Duration::from_millis(100));
            self.hear();
        }
        assert!(self.writes.is_empty() && self.reads.is_empty(), "somebody is not answered");
        let digests: BTreeSet<u64> =
            self.town.nodes.values().map(|house| house.node.store().digest()).collect();
        assert_eq!(digests.len(), 1, "the members differ");
        let store = self.town.nodes[&NodeId(1)].node.store();
        assert!(store.revision() >= self.answered, "what was answered is gone");
        let mut seen = BTreeSet::new();
        let value = |event: &Event| String::from_utf8_lossy(&event.kv.value).into_owned();
        for value in store.changes(Revision(0)).expect("nothing is compacted").map(value) {
            assert!(!self.refused.contains(&value), "{value} was refused");
            assert!(seen.insert(value.clone()), "{value} was written twice");
        }
        (self.answers, self.installed)
    }
}

fn walk(seed: u64, plant: Option<Plant>) -> (u64, u64) {
    let mut walk = Walk::new(seed, plant);
    for _ in 0..STEPS {
        walk.step();
    }
    walk.finish()
}

#[test]
fn what_was_answered_stays_and_nothing_happens_twice() {
    let (mut answers, mut installed) = (0, 0);
    for seed in 0..WALKS {
        let run = catch_unwind(AssertUnwindSafe(|| walk(seed, None)));
        let (more, others) = run.unwrap_or_else(|_| panic!("walk {seed}"));
        (answers, installed) = (answers + more, installed + others);
    }
    assert!(answers > WALKS * 10 && installed > WALKS / 4, "{answers} answers, {installed} states");
}

#[test]
fn walks_find_the_mistakes_of_a_replica() {
    // Costs an election that nobody needs, and has a story of its own.
    let costly = ReplicaMutant::WakefulnessIgnored;
    for mutant in ReplicaMutant::ALL.iter().copied().filter(|mutant| *mutant != costly) {
        let plant = Some(Plant::Replica(mutant));
        let fails = |seed| catch_unwind(AssertUnwindSafe(|| walk(seed, plant))).is_err();
        let found = (0..WALKS_PER_MUTANT).find(|seed| fails(*seed));
        assert!(found.is_some(), "{mutant:?} survived {WALKS_PER_MUTANT} walks");
    }
}
