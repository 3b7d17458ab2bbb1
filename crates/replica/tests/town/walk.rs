//! Random days in the town: leases are granted, renewed and revoked at any member while wires are
//! cut, processes stand still, members restart and everybody sleeps. Whoever was promised that a
//! lease lives until a moment must find it until then, everywhere; and what nobody renews ends.

use crate::streets::Town;
use bytes::Bytes;
use quorate_core::{NodeId, Protocol, Time};
use quorate_replica::store::{Command, LeaseTime, Outcome, Put};
use quorate_replica::{
    Checkpoint, Indication, LeaseAnswer, LeaseAsk, LessorMutant, Plant, Request, Ticket,
};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const WALKS: u64 = 400;
const STEPS: u64 = 150;

/// Walks within which a planted mistake must be found.
const WALKS_PER_MUTANT: u64 = 600;

pub(crate) const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

/// SplitMix64, see the tests of the store.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % end
    }

    pub(crate) fn member(&mut self) -> NodeId {
        MEMBERS[self.below(3) as usize]
    }
}

#[derive(Clone, Copy)]
enum Asked {
    Grant { id: i64, ttl: u64 },
    KeepAlive { id: i64 },
    TimeToLive { id: i64 },
}

/// How often each thing happened.
type Tally = BTreeMap<&'static str, u64>;

struct Walk {
    town: Town,
    dice: Dice,
    asked: BTreeMap<Ticket, (NodeId, Time, Asked)>,
    /// Until when the clients of a lease were promised that it lives.
    promised: BTreeMap<i64, Time>,
    /// Where each lease was seen.
    seen: BTreeSet<(NodeId, i64)>,
    frozen: Option<NodeId>,
    /// Members that wait for a checkpoint, and of whom.
    wanted: Vec<(NodeId, NodeId)>,
    /// The newest checkpoint on each member's disk.
    checkpoints: BTreeMap<NodeId, Checkpoint>,
    last_id: i64,
    tally: Tally,
}

impl Walk {
    fn new(seed: u64, mutant: Option<LessorMutant>) -> Walk {
        let mut town = Town::with(mutant.map(Plant::Lessor));
        town.pass(Duration::from_secs(4));
        Walk {
            town,
            dice: Dice(seed),
            asked: BTreeMap::new(),
            promised: BTreeMap::new(),
            seen: BTreeSet::new(),
            frozen: None,
            wanted: Vec::new(),
            checkpoints: BTreeMap::new(),
            last_id: 0,
            tally: Tally::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn some_lease(&mut self) -> Option<i64> {
        let known: Vec<i64> = self.promised.keys().copied().collect();
        (!known.is_empty()).then(|| known[self.dice.below(known.len() as u64) as usize])
    }

    fn step(&mut self) {
        match self.dice.below(40) {
            0..6 => self.grant(),
            6..22 => self.ask(),
            22..24 => self.revoke(),
            24..26 => self.put(),
            26..28 => {
                self.town.cut_off = vec![self.dice.member()];
                self.count("cut");
            }
            28..32 => self.town.cut_off.clear(),
            32 => self.freeze(),
            33..36 => self.thaw(),
            36 => self.restart(),
            37 => {
                // All of them sleep, as when their machine is suspended.
                let asleep = Duration::from_millis(200 + self.dice.below(3_000));
                self.town.now = self.town.now.after(asleep);
                self.count("slept");
            }
            _ => {}
        }
        let time = [50, 50, 100, 200, 500, 1_500][self.dice.below(6) as usize];
        for _ in 0..time / 50 {
            self.town.pass(Duration::from_millis(50));
            self.hear();
            self.look();
        }
    }

    fn grant(&mut self) {
        self.last_id += 1;
        let (at, id, ttl) = (self.dice.member(), self.last_id, 2 + self.dice.below(6));
        if self.frozen == Some(at) {
            return;
        }
        let asked = self.town.now;
        let ticket = self.town.write(at, &Command::LeaseGrant { id, ttl, at: LeaseTime(0) });
        self.asked.insert(ticket, (at, asked, Asked::Grant { id, ttl }));
    }

    fn ask(&mut self) {
        let (at, kind) = (self.dice.member(), self.dice.below(5));
        let Some(id) = self.some_lease().filter(|_| self.frozen != Some(at)) else { return };
        let (ask, asked) = match kind {
            0 => (LeaseAsk::TimeToLive { id }, Asked::TimeToLive { id }),
            _ => (LeaseAsk::KeepAlive { id }, Asked::KeepAlive { id }),
        };
        let now = self.town.now;
        let ticket = self.town.ask(at, ask);
        self.asked.insert(ticket, (at, now, asked));
    }

    fn revoke(&mut self) {
        let at = self.dice.member();
        let Some(id) = self.some_lease().filter(|_| self.frozen != Some(at)) else { return };
        self.promised.remove(&id);
        self.town.write(at, &Command::LeaseRevoke { id });
        self.count("revoked");
    }

    fn put(&mut self) {
        let at = self.dice.member();
        let Some(lease) = self.some_lease().filter(|_| self.frozen != Some(at)) else { return };
        let key = Bytes::from(format!("k{}", self.dice.below(20)));
        self.town.write(at, &Command::Put(Put { key, lease, ..Put::default() }));
    }

    fn freeze(&mut self) {
        if self.frozen.is_none() {
            let member = self.dice.member();
            self.frozen = Some(member);
            self.town.freeze(member);
            self.count("frozen");
        }
    }

    fn thaw(&mut self) {
        if let Some(member) = self.frozen.take() {
            self.town.thaw(member);
        }
    }

    fn restart(&mut self) {
        let member = self.dice.member();
        if self.frozen == Some(member) {
            return;
        }
        if self.dice.below(2) == 0 {
            let checkpoint = self.town.nodes[&member].node.checkpoint();
            self.checkpoints.insert(member, checkpoint);
        }
        // What follows it in the records is applied again.
        let checkpoint = self.checkpoints.get(&member).cloned();
        let records = self.town.nodes[&member].records.clone();
        self.asked.retain(|_, (at, ..)| *at != member);
        self.seen.retain(|(at, _)| *at != member);
        self.town.start(member, checkpoint, records);
        self.count("restarted");
    }

    /// Takes in what the members told.
    fn hear(&mut self) {
        for id in MEMBERS {
            let house = self.town.nodes.get_mut(&id).expect("a member");
            for told in std::mem::take(&mut house.told) {
                match told {
                    Indication::Answered { ticket, answer: Ok(answer) } => {
                        let Some((_, since, asked)) = self.asked.remove(&ticket) else { continue };
                        let Asked::Grant { id, ttl } = asked else { continue };
                        if answer.outcome == Ok(Outcome::LeaseGrant { ttl }) {
                            self.promised.insert(id, since.after(Duration::from_secs(ttl)));
                            self.count("granted");
                        }
                    }
                    Indication::Answered { ticket, .. } => drop(self.asked.remove(&ticket)),
                    Indication::LeaseAnswered { ticket, answer } => {
                        let Some((_, since, asked)) = self.asked.remove(&ticket) else { continue };
                        match answer {
                            Ok(answer) => self.answered(since, asked, answer),
                            Err(_) => self.count("refused"),
                        }
                    }
                    Indication::CheckpointWanted { by } => self.wanted.push((by, id)),
                    _ => {}
                }
            }
        }
        for (by, of) in std::mem::take(&mut self.wanted) {
            self.send_checkpoint(by, of);
        }
    }

    fn send_checkpoint(&mut self, by: NodeId, of: NodeId) {
        let reachable = |id: &NodeId| !self.town.cut_off.contains(id) && self.frozen != Some(*id);
        if ![by, of].iter().all(reachable) {
            return self.wanted.push((by, of));
        }
        let checkpoint = self.town.nodes[&of].node.checkpoint();
        let position = checkpoint.position;
        self.checkpoints.insert(by, checkpoint.clone());
        self.seen.retain(|(at, _)| *at != by);
        let install = Request::Install(Box::new(checkpoint));
        self.town.call(by, |node, cx| node.on_request(install, cx));
        let sent = Request::CheckpointSent { to: by, position };
        self.town.call(of, |node, cx| node.on_request(sent, cx));
        self.town.settle();
        self.count("checkpoint sent");
    }

    fn answered(&mut self, since: Time, asked: Asked, answer: LeaseAnswer) {
        let (Asked::KeepAlive { id } | Asked::TimeToLive { id } | Asked::Grant { id, .. }) = asked;
        match (asked, answer) {
            (Asked::KeepAlive { .. }, LeaseAnswer::Lives { left, .. }) => {
                self.count("kept alive");
                // Unless it is being revoked, and no promise counts any more.
                if let Some(promised) = self.promised.get_mut(&id) {
                    *promised = (*promised).max(since.after(Duration::from_millis(left)));
                }
            }
            (_, LeaseAnswer::Gone) => {
                let promised = self.promised.get(&id).copied().unwrap_or_default();
                assert!(promised <= self.town.now, "lease {id} is said to be gone");
                self.promised.remove(&id);
                self.count("gone");
            }
            _ => self.count("time to live"),
        }
    }

    /// Nobody may miss a lease that was promised to live.
    fn look(&mut self) {
        for (member, house) in &self.town.nodes {
            let store = house.node.store();
            self.seen.extend(store.leases().map(|(id, _)| (*member, id)));
            for (id, promised) in &self.promised {
                if *promised > self.town.now && self.seen.contains(&(*member, *id)) {
                    assert!(store.lease(*id).is_some(), "lease {id} ended early at {member}");
                }
            }
        }
    }

    /// Peace, and nobody renews anything: all leases end, and everybody agrees.
    fn finish(mut self) -> Tally {
        self.thaw();
        self.town.cut_off.clear();
        for _ in 0..600 {
            self.town.pass(Duration::from_millis(50));
            self.hear();
            self.look();
        }
        assert!(self.asked.is_empty(), "a question was never answered");
        let digests: BTreeSet<u64> =
            self.town.nodes.values().map(|house| house.node.store().digest()).collect();
        assert_eq!(digests.len(), 1, "the members differ");
        for house in self.town.nodes.values() {
            assert_eq!(house.node.store().leases().len(), 0, "a lease lives for ever");
        }
        self.tally
    }
}

fn walk(seed: u64, mutant: Option<LessorMutant>) -> Tally {
    let mut walk = Walk::new(seed, mutant);
    for _ in 0..STEPS {
        walk.step();
    }
    walk.finish()
}

#[test]
fn nobody_loses_a_lease_that_was_promised_and_no_lease_lives_for_ever() {
    let mut all = Tally::new();
    for seed in 0..WALKS {
        let run = catch_unwind(AssertUnwindSafe(|| walk(seed, None)));
        for (what, count) in run.unwrap_or_else(|_| panic!("walk {seed}")) {
            *all.entry(what).or_default() += count;
        }
    }
    let wanted = ["granted", "kept alive", "gone", "time to live", "revoked", "refused"];
    for what in wanted.into_iter().chain(["cut", "frozen", "slept", "restarted", "checkpoint sent"])
    {
        assert!(all.get(what).is_some_and(|count| *count > 30), "{what}: {all:?}");
    }
}

#[test]
fn walks_find_the_mistakes_that_end_leases_early() {
    for mutant in [
        LessorMutant::AnsweredUnconfirmed,
        LessorMutant::RenewalNotAwaited,
        LessorMutant::FullTtlForgotten,
        LessorMutant::GrantUnstamped,
    ] {
        let fails = |seed| catch_unwind(AssertUnwindSafe(|| walk(seed, Some(mutant)))).is_err();
        let found = (0..WALKS_PER_MUTANT).find(|seed| fails(*seed));
        assert!(found.is_some(), "{mutant:?} survived {WALKS_PER_MUTANT} walks");
    }
}
