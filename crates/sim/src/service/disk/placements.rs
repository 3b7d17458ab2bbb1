//! A single byte turns, anywhere in any file of one member of three: nothing is lost, nothing wrong
//! is served, and it is made good.
//!
//! Three replicas of production talk to each other directly, each over log, checkpoints and
//! recovery of production on a disk in memory. One byte after another turns on the disk of one of
//! them, while it is down and while it runs. Whatever state it comes to, it is compared with the
//! others' at the same entry of the log; in the end its files are judged whole by one who starts
//! from them.

use super::tests::{Chance, settings};
use super::*;
use bytes::Bytes;
use quorate_core::{Context, Effect, NodeId, Protocol, Time};
use quorate_replica::store::{Command, Put};
use quorate_replica::{Indication, Message, Request, Ticket, Timer, seal};
use quorate_server::scrub::{Repair, Step};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

const SEGMENT_BYTES: u32 = 16 << 10;
/// The member whose disk is bad.
const VICTIM: usize = 2;
/// A cluster that needs longer than this, in virtual time, does not come back.
const PATIENCE: Duration = Duration::from_secs(60);

/// One member.
struct Node {
    replica: Replica,
    disk: MemberDisk,
    timers: BTreeMap<Timer, Time>,
}

/// Three members, and a network without delay.
struct Cluster {
    nodes: Vec<Node>,
    now: Time,
    flying: VecDeque<(usize, NodeId, Message)>,
    wanted: Vec<(usize, NodeId)>,
    tickets: u64,
    answered: u64,
    /// The state after each entry, by who reached it first.
    truth: BTreeMap<Index, u64>,
    /// The victim's state is wrong: it may serve it until that is noticed.
    expects: bool,
    /// Where that was noticed.
    diverged: Option<Index>,
}

fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

impl Cluster {
    /// Starts members on these disks.
    fn start(disks: Vec<MemberDisk>, life: u64, truth: BTreeMap<Index, u64>) -> Cluster {
        Cluster::start_with(disks, life, truth, |_| {})
    }

    /// As [`Cluster::start`], with something done to the victim before it starts.
    fn start_with(
        disks: Vec<MemberDisk>,
        life: u64,
        truth: BTreeMap<Index, u64>,
        treat: impl Fn(&mut Replica),
    ) -> Cluster {
        Cluster::prepared(disks, life, truth, false, treat).begun()
    }

    /// As [`Cluster::start`], where the victim's state is wrong.
    fn start_suspecting(disks: Vec<MemberDisk>, life: u64, truth: BTreeMap<Index, u64>) -> Cluster {
        Cluster::prepared(disks, life, truth, true, |_| {}).begun()
    }

    fn prepared(
        disks: Vec<MemberDisk>,
        life: u64,
        truth: BTreeMap<Index, u64>,
        expects: bool,
        treat: impl Fn(&mut Replica),
    ) -> Cluster {
        let nodes = disks.into_iter().enumerate().map(|(at, mut disk)| {
            let settings = ReplicaSettings { me: id(at), log_retain_bytes: 8_000, ..settings() };
            let mut replica = match disk.boot(&settings, Life(life * 10 + at as u64)) {
                Ok(booted) => booted.replica,
                Err(why) => panic!("member {at} does not start: {why}"),
            };
            if at == VICTIM {
                treat(&mut replica);
            }
            Node { replica, disk, timers: BTreeMap::new() }
        });
        Cluster {
            nodes: nodes.collect(),
            now: Time::default(),
            flying: VecDeque::new(),
            wanted: Vec::new(),
            tickets: life * 1_000_000,
            answered: 0,
            truth,
            expects,
            diverged: None,
        }
    }

    fn begun(mut self) -> Cluster {
        for at in 0..self.nodes.len() {
            self.call(at, |replica, cx| replica.on_start(cx));
        }
        self.settle();
        self
    }

    fn call(&mut self, at: usize, act: impl FnOnce(&mut Replica, &mut Context<'_, Replica>)) {
        let Node { replica, disk, timers } = &mut self.nodes[at];
        let (mut effects, mut choose) = (Vec::new(), |_| 0);
        act(replica, &mut Context::new(id(at), self.now, &mut choose, &mut effects));
        let mut records = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { to, message, .. } => {
                    self.flying.push_back((to.0 as usize - 1, id(at), message));
                }
                Effect::SetTimer { timer, within } => {
                    // Each its own moment, so that they do not all campaign together.
                    let spread = (within.end - within.start) * at as u32 / 3;
                    timers.insert(timer, self.now.after(within.start + spread));
                }
                Effect::CancelTimer { timer } => drop(timers.remove(&timer)),
                Effect::Write { record } => records.push(record),
                Effect::Indicate { indication } => match indication {
                    Indication::Answered { answer, .. } => {
                        self.answered += u64::from(answer.is_ok())
                    }
                    Indication::CheckpointWanted { by } => self.wanted.push((at, by)),
                    Indication::Diverged { at: index } if at == VICTIM && self.expects => {
                        self.diverged = Some(index);
                    }
                    Indication::Disputed { .. } if self.expects => {}
                    Indication::Diverged { at: index } | Indication::Disputed { at: index } => {
                        panic!("member {at} differs at {index}")
                    }
                    _ => {}
                },
            }
        }
        // Synced before anything that was sent arrives.
        if !records.is_empty() {
            disk.append(&mut records);
            disk.sync().expect("the disk takes it");
        }
        let (index, digest) = (replica.applied().index, replica.digest());
        // Who is fenced serves nobody.
        if replica.fenced().is_none() && !(self.expects && at == VICTIM) {
            let before = *self.truth.entry(index).or_insert(digest);
            assert_eq!(before, digest, "member {at} serves another state after {index}");
        }
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            while let Some((to, from, message)) = self.flying.pop_front() {
                self.call(to, |replica, cx| replica.on_message(from, message, cx));
            }
            for at in 0..self.nodes.len() {
                self.call(at, |replica, cx| replica.on_flush(cx));
            }
            for (from, by) in std::mem::take(&mut self.wanted) {
                self.send_checkpoint(from, by);
            }
            if self.flying.is_empty() {
                return;
            }
        }
    }

    /// The next alarm.
    fn tick(&mut self) {
        let timers = self.nodes.iter().enumerate();
        let due =
            timers.flat_map(|(at, node)| node.timers.iter().map(move |(t, due)| (*due, at, *t)));
        let (due, at, timer) = due.min().expect("somebody waits for something");
        self.now = self.now.max(due);
        self.nodes[at].timers.remove(&timer);
        self.call(at, |replica, cx| replica.on_timer(timer, cx));
        self.settle();
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Cluster) -> bool) {
        let patience = self.now.after(PATIENCE);
        while !holds(self) {
            assert!(self.now < patience, "{what}: {:?}", self.nodes[VICTIM].replica.raft());
            self.tick();
        }
    }

    fn leader(&self) -> Option<usize> {
        let leads = |at: &usize| self.nodes[*at].replica.raft().leader() == Some(id(*at));
        (0..self.nodes.len()).find(leads)
    }

    fn put(&mut self) {
        self.until("a leader", |cluster| cluster.leader().is_some());
        let leader = self.leader().expect("just seen");
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let life = Life((self.tickets / 1_000_000) * 10 + leader as u64);
        let key = Bytes::from(format!("k{}", self.tickets % 7));
        let value = Bytes::from(vec![self.tickets as u8; 150 + (self.tickets % 5) as usize * 90]);
        let mut envelope = Vec::new();
        seal(life, ticket, &mut envelope);
        Command::Put(Put { key, value, ..Put::default() }).encode(&mut envelope);
        let request = Request::Write { ticket, envelope: Bytes::from(envelope) };
        let before = self.answered;
        self.call(leader, |replica, cx| replica.on_request(request, cx));
        self.settle();
        self.until("an answer", |cluster| cluster.answered > before);
    }

    /// All have applied the same, and nobody lacks anything.
    fn agree(&mut self) {
        self.until("agreement", |cluster| {
            let replicas = || cluster.nodes.iter().map(|node| &node.replica);
            let latest = replicas().map(|replica| replica.applied()).max();
            let whole = |replica: &Replica| {
                Some(replica.applied()) == latest && !replica.raft().is_mending()
            };
            cluster.leader().is_some() && replicas().all(whole)
        });
    }

    fn checkpoint(&mut self, at: usize) {
        let Node { replica, disk, .. } = &mut self.nodes[at];
        disk.begin_checkpoint(replica.checkpoint());
        disk.finish_checkpoint().expect("written");
        disk.release().expect("released");
    }

    fn send_checkpoint(&mut self, from: usize, by: NodeId) {
        let to = by.0 as usize - 1;
        let base = self.nodes[from].replica.raft().base().index;
        if self.nodes[from].disk.newest().is_none_or(|newest| newest.index < base) {
            self.checkpoint(from);
        }
        let position = self.nodes[from].disk.newest().expect("just written");
        let announced = self.nodes[from].disk.announce(position).expect("whole");
        let mut reply = self.nodes[to].disk.receive(announced).expect("room");
        while let Reply::Send { offset } = reply {
            let part = self.nodes[from].disk.part(position, offset).expect("readable");
            reply = self.nodes[to].disk.receive_part(offset, &part).expect("the next part");
        }
        let checkpoint = self.nodes[to].disk.install(position).expect("whole");
        let install = Request::Install(Box::new(checkpoint));
        self.call(to, |replica, cx| replica.on_request(install, cx));
        let sent = Request::CheckpointSent { to: by, position };
        self.call(from, |replica, cx| replica.on_request(sent, cx));
    }

    /// As the scrubber of a member does it. Answers with how much was found.
    fn scrub(&mut self) -> u64 {
        let found = self.nodes[VICTIM].disk.scrub().expect("readable");
        let Some(mut repair) = Repair::of(&found) else { return found.count };
        for _ in 0..100 {
            let Node { replica, disk, .. } = &mut self.nodes[VICTIM];
            let view = disk.view(replica.applied().index, replica.fenced().is_some());
            match repair.next(&view.expect("readable")) {
                Step::Done => {
                    let again = self.nodes[VICTIM].disk.scrub().expect("readable");
                    assert_ne!(again.findings, found.findings, "it is not repaired");
                    // What lay beyond the synced end before is damage now.
                    if !again.is_clean() {
                        return found.count + self.scrub();
                    }
                    return found.count;
                }
                Step::Seal => disk.seal().expect("a new segment"),
                Step::SetAside(position) => disk.set_aside(position).expect("set aside"),
                Step::Checkpoint => self.checkpoint(VICTIM),
                Step::Nudge => self.put(),
                Step::Wait => self.tick(),
            }
        }
        panic!("it comes to no end: {repair:?}");
    }

    fn disks(&self) -> Vec<MemberDisk> {
        self.nodes.iter().map(|node| node.disk.fork()).collect()
    }
}

/// What would be found by a start from these files: no damage, and this state in the end.
fn judge(disk: &MemberDisk, truth: &BTreeMap<Index, u64>, what: &str) {
    let mut disk = disk.fork();
    let settings = ReplicaSettings { me: id(VICTIM), ..settings() };
    let booted = disk.boot(&settings, Life(9_999)).expect("it starts");
    assert_eq!((booted.damaged_places, booted.lost), (0, 0), "{what}: the log");
    let replica = booted.replica;
    assert!(!replica.raft().is_mending(), "{what}");
    assert_eq!(truth[&replica.applied().index], replica.digest(), "{what}: the state");
    let found = disk.scrub().expect("readable");
    assert!(found.is_clean(), "{what}: {found:?}");
}

/// A cluster with something of everything on its disks: segments, checkpoints, votes, hints.
fn made() -> Cluster {
    let disks = (1..=3).map(|member| {
        let identity = LogIdentity { cluster: 1, member, data: member };
        MemberDisk::new(identity, SEGMENT_BYTES)
    });
    let mut cluster = Cluster::start(disks.collect(), 1, BTreeMap::new());
    for number in 0..90 {
        cluster.put();
        if number % 30 == 19 {
            cluster.agree();
            (0..3).for_each(|at| cluster.checkpoint(at));
        }
        if number % 45 == 30 {
            let to = id((cluster.leader().expect("one leads") + 1) % 3);
            let leader = cluster.leader().expect("one leads");
            cluster.call(leader, |replica, cx| replica.on_request(Request::MoveLeader { to }, cx));
            cluster.settle();
            cluster.until("the next leader", |cluster| cluster.leader() == Some(to.0 as usize - 1));
        }
    }
    cluster.agree();
    cluster.nodes.iter_mut().for_each(|node| node.disk.idle().expect("a mark"));
    cluster
}

/// A file of the victim and a byte of it: every file as often as another, and all regions of it.
fn place(disk: &MemberDisk, number: usize, chance: &mut Chance) -> (PathBuf, u64) {
    let mut files = disk.disk.files();
    files.retain(|(_, size)| *size > 0);
    let (path, size) = files.swap_remove(number % files.len());
    (path, chance.below(size as usize) as u64)
}

/// Bytes turn under a running member. Answers with how many were found.
fn while_it_runs(placements: usize, seed: u64) -> usize {
    let mut chance = Chance(seed);
    let (mut cluster, mut found) = (made(), 0);
    for number in 0..placements {
        let (path, byte) = place(&cluster.nodes[VICTIM].disk, number, &mut chance);
        let what = format!("byte {byte} of {} turns", path.display());
        cluster.nodes[VICTIM].disk.disk.flip(&path, byte, 1 << chance.below(8));
        found += usize::from(cluster.scrub() > 0);
        if number % 16 == 15 {
            cluster.put();
            cluster.agree();
            // What lay beyond the synced end at that moment is found by the next look.
            cluster.scrub();
            judge(&cluster.nodes[VICTIM].disk, &cluster.truth, &what);
        }
        if number % 64 == 63 {
            let (disks, truth) = (cluster.disks(), std::mem::take(&mut cluster.truth));
            cluster = Cluster::start(disks, 2 + number as u64, truth);
            cluster.put();
            cluster.agree();
        }
    }
    found
}

/// Bytes turn in the files of a member that is down: it starts, is brought up to date, and repairs
/// its files. Answers with how many it noticed.
fn while_it_is_down(placements: usize, seed: u64) -> usize {
    let mut chance = Chance(seed);
    let (made, mut noticed) = (made(), 0);
    let upto = made.nodes[0].replica.applied().index;
    for number in 0..placements {
        let disks = made.disks();
        let (path, byte) = place(&disks[VICTIM], number, &mut chance);
        let what = format!("byte {byte} of {} turned", path.display());
        disks[VICTIM].disk.flip(&path, byte, 1 << chance.below(8));
        let mut cluster = Cluster::start(disks, 2, made.truth.clone());
        cluster.agree();
        cluster.put();
        cluster.agree();
        assert!(cluster.nodes[0].replica.applied().index > upto, "{what}: acknowledged entries");
        noticed += usize::from(cluster.scrub() > 0);
        judge(&cluster.nodes[VICTIM].disk, &cluster.truth, &what);
    }
    noticed
}

#[test]
fn a_byte_that_turns_under_a_running_member_is_found_and_made_good() {
    let found = while_it_runs(800, 1);
    assert!(found > 300, "only {found} were found");
}

#[test]
fn a_byte_that_turns_while_a_member_is_down_is_made_good_when_it_starts() {
    let noticed = while_it_is_down(400, 2);
    assert!(noticed > 100, "only {noticed} were noticed");
}

/// The figure: `cargo test -p quorate-sim --lib placements -- --ignored --nocapture`.
#[test]
#[ignore = "takes minutes"]
fn twelve_thousand_placements() {
    let found = while_it_runs(6_000, 3);
    println!("6000 bytes turned under a running member: {found} found, all made good");
    let noticed = while_it_is_down(6_000, 4);
    println!(
        "6000 bytes turned while a member was down: {noticed} noticed after it, all made good"
    );
}

/// The victim's newest checkpoint says something else, with checksums that hold: what a state that
/// went wrong in memory leaves behind.
fn with_a_wrong_checkpoint(cluster: &Cluster) -> Vec<MemberDisk> {
    let mut disks = cluster.disks();
    let position = cluster.nodes[VICTIM].disk.newest().expect("a checkpoint");
    let settings = ReplicaSettings { me: id(VICTIM), ..settings() };
    let disk = &mut disks[VICTIM];
    disk.boot(&settings, Life(8_888)).expect("it starts");
    let mut wrong = disk.install(position).expect("whole");
    let put = Put { key: Bytes::from_static(b"never asked for"), ..Put::default() };
    wrong.store.apply(&Command::Put(put));
    let path = disk.checkpoint_file(position);
    disk.disk.flip(&path, 100, 1);
    disk.begin_checkpoint(wrong);
    disk.finish_checkpoint().expect("written");
    disk.kill();
    disks
}

/// The state of a member is wrong: it is fenced, built anew from what a quorum shared, and believed
/// once a quorum shares it again. `treat` is what the member does to itself on the way.
fn heal(discard: impl Fn(&mut MemberDisk), treat: impl Fn(&mut Replica, Index)) {
    let whole = made();
    let (term, truth) = (whole.nodes[VICTIM].replica.raft().term(), whole.truth.clone());
    let disks = with_a_wrong_checkpoint(&whole);
    let mut cluster = Cluster::start_suspecting(disks, 2, truth);
    for _ in 0..20 {
        cluster.put();
    }
    cluster.until("it is noticed", |cluster| cluster.diverged.is_some());
    let (since, voted) = (cluster.diverged.expect("just seen"), term);
    let truth = std::mem::take(&mut cluster.truth);
    let mut disks = cluster.disks();
    discard(&mut disks[VICTIM]);
    let mut cluster = Cluster::start_with(disks, 3, truth, |replica| {
        assert!(replica.raft().term() >= voted, "votes stay");
        treat(replica, since);
    });
    assert_eq!(cluster.nodes[VICTIM].replica.fenced(), Some(since));
    // Up to the next entry at which digests are compared.
    (0..16).for_each(|_| cluster.put());
    cluster.until("a state that is believed", |cluster| {
        cluster.nodes[VICTIM].replica.fenced().is_none()
    });
    cluster.agree();
    cluster.put();
    cluster.agree();
}

fn discard_all(disk: &mut MemberDisk) {
    disk.set_all_aside();
}

#[test]
fn a_state_that_is_wrong_is_built_anew_and_believed_when_a_quorum_shares_it() {
    heal(discard_all, |replica, since| replica.doubt(since));
}

#[test]
#[should_panic(expected = "differs at")]
fn who_trusts_its_own_checkpoints_is_never_believed() {
    heal(|_| {}, |replica, since| replica.doubt(since));
}

#[cfg(feature = "mutants")]
#[test]
#[should_panic(expected = "serves another state")]
fn the_mutant_that_believes_a_state_nobody_shares_is_caught() {
    use quorate_replica::{Plant, ReplicaMutant};
    heal(
        |_| {},
        |replica, since| {
            replica.plant(Plant::Replica(ReplicaMutant::HealedUnproven));
            replica.doubt(since);
        },
    );
}
