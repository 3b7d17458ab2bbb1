//! The service as a world of the simulator: the replica of production on a simulated disk, with
//! clients that write, read, hold leases and locks, and watch, and with everything that they were
//! promised checked as it happens.
//!
//! ```text
//!   clients.rs   what they ask          members.rs   who waits where, watches, checkpoints
//!        \          |                       |
//!         +---- mod.rs: World ---- disk.rs: log, checkpoints, recovery, on a disk in memory
//!                   |
//!   judge.rs  every answer     logs.rs (of the crate)   the logs of the members
//!      |
//!   truth.rs  what must have happened      asks.rs  what was asked
//!   reshaping.rs  members that come and go, and what holds of them
//!   watchers.rs  leases.rs                 what was promised
//! ```
//!
//! | property | what holds | source |
//! |---|---|---|
//! | those of the logs | see `logs.rs` | Ongaro and Ousterhout (2014), figure 3 |
//! | `state-machine-safety` | replicas that applied the same index are in the same state | same |
//! | `durable` | what is acknowledged was applied, and is there in the end | |
//! | `linearizable` | each operation takes effect at one moment between its begin and its end | Herlihy and Wing (1990) |
//! | `mvcc` | states, answers and refusals are those that etcd's API says | etcd's API |
//! | `once` | what is asked once happens at most once, and not at all if it was refused; nothing else happens | |
//! | `monotone-revisions` | no member tells an older revision than it told before, and nobody who asks for the latest is told an older one | Terry et al. (1994), monotonic reads |
//! | `watch` | ordered, unique, reliable, atomic, resumable, and progress is never ahead | etcd's API |
//! | `lease` | no lease ends before its time, or is said to be gone, or leaves a key behind | Gray and Cheriton (1989) |
//! | `lock` | tokens grow; nobody writes with an older token than the resource has seen, or under a lock that he has lost | Kleppmann (2016) |
//! | `membership` | see `reshaping.rs` | Ongaro and Ousterhout (2014), section 6 |
//! | `recovery` | who was not damaged starts again, whatever happened to it | |
//! | `digest` | no member is told that its state is wrong | |
//! | `repair` | who takes its disk for whole, or for repaired, starts from it and has forgotten nothing | |
//! | `crash` | no assertion of a node fails | |
//! | `liveness` | after the faults every member that is up serves again, and all watchers are told | |

mod asks;
mod awaited;
mod checkpoints;
mod clients;
pub mod disk;
#[cfg(feature = "mutants")]
mod focus;
mod guarded;
mod judge;
mod leases;
mod members;
mod options;
mod plants;
mod renewals;
mod reshaping;
mod resource;
mod scrubbing;
mod suspicion;
mod truth;
mod vouching;
mod watchers;
mod watching;

pub use clients::Workload;
pub use options::{Options, PROPERTIES, WORKLOADS, subject};

use crate::lease_reads::{Ground, LeaseReads, VOUCH_EVERY};
use crate::logs::Logs;
use asks::Asks;
use clients::{Asked, Client, Weights};
use disk::MemberDisk;
use leases::Leases;
use members::{Answered, Member, Operation, Read, moment};
use plants::Plants;
use quorate_check::guarantees::revisions::Revisions;
use quorate_core::{Buggify, Index, Position};
use quorate_drivers::simulate::trace::Kind;
use quorate_drivers::simulate::{
    About, BootError, Broken, Choose, Fault, Hands, NodeClocks, Nodes, Site, Switch, SyncError,
    World,
};
use quorate_protocols::consensus::raft::{self, Record, RoleName};
use quorate_replica::store::Asked as Sealed;
use quorate_replica::{Indication, Message, Refusal, Replica, Request};
use quorate_server::recover::RecoverError;
use quorate_server::scrub::Repair;
use quorate_storage::{LogIdentity, WalError};
use reshaping::Reshaping;
use std::collections::BTreeMap;
use std::time::Duration;
use truth::Truth;
use watchers::Watcher;

/// A client that hears nothing for so long gives up.
const PATIENCE: Duration = Duration::from_secs(9);
/// A watcher that lost its stream connects anew after so long.
const RECONNECT: Duration = Duration::from_millis(200);
/// After the faults each member is asked so often until it has answered.
const PROBE_EVERY: Duration = Duration::from_millis(250);
/// What a checkpoint takes to be written, or to travel, at least.
const CHECKPOINT_TIME: Duration = Duration::from_millis(5);

/// What an alarm is about.
#[derive(Clone, Debug)]
enum Errand {
    /// A client does the next thing.
    Act { client: usize },
    /// A client gives up an operation.
    GiveUp { operation: u64 },
    /// A checkpoint is on the disk of a member.
    Written { member: usize, lives: u64 },
    /// A checkpoint has travelled from one member to another.
    Sent { from: usize, to: usize, position: Position, lives: u64 },
    /// A client that holds a lock writes to the resource that it protects.
    WriteToResource { operation: u64 },
    /// A client that stood still goes on.
    WakeUp { operation: u64 },
    /// A watcher connects.
    Connect { watcher: usize },
    /// A watcher hangs up, or asks something of its stream.
    Stir { watcher: usize },
    /// A member is asked whether it serves.
    Probe { member: usize },
    /// Somebody has looked at the clocks, for reads that may rest on them.
    Vouch,
    /// The operator changes the members.
    Reshape,
    /// A member reads its disk again, or goes on with a repair.
    Scrub { member: usize, lives: u64, repair: Option<Repair> },
}

/// The service under simulation.
#[derive(Debug)]
pub struct Service {
    options: Options,
    nodes: usize,
    members: Vec<Member>,
    clients: Vec<Client>,
    watchers: Vec<Watcher>,
    operations: BTreeMap<u64, Operation>,
    asked: u64,
    errands: BTreeMap<u64, Errand>,
    next_errand: u64,
    truth: Truth,
    leases: Leases,
    /// What was asked to be replicated.
    asks: Asks,
    logs: Logs,
    /// The revisions that each client was told of, and each life of a member told.
    told_to: Revisions,
    told_by: Revisions,
    /// The latest index that any client was told of by an answer.
    floor: Index,
    /// The largest token that the resource has seen.
    token: u64,
    /// State after each index that was seen, by the first replica that reached it.
    digests: BTreeMap<Index, u64>,
    calm: bool,
    /// Members that have served since the calm began.
    served: Vec<bool>,
    /// What was seen where there were no hands to say so.
    seen: Vec<&'static str>,
    weights: Weights,
    /// Rare paths of the replicas.
    buggify: Buggify,
    lease_reads: LeaseReads,
    reshaping: Reshaping,
    plants: Plants,
}

impl Service {
    /// A service that has not begun.
    pub fn new(options: Options) -> Service {
        let weights = options.workload.weights();
        Service {
            options,
            nodes: 0,
            members: Vec::new(),
            clients: Vec::new(),
            watchers: Vec::new(),
            operations: BTreeMap::new(),
            asked: 0,
            errands: BTreeMap::new(),
            next_errand: 0,
            truth: Truth::default(),
            leases: Leases::default(),
            asks: Asks::default(),
            logs: Logs::default(),
            told_to: Revisions::default(),
            told_by: Revisions::default(),
            floor: Index(0),
            token: 0,
            digests: BTreeMap::new(),
            calm: false,
            served: Vec::new(),
            seen: Vec::new(),
            weights,
            buggify: Buggify::Off,
            lease_reads: LeaseReads::default(),
            reshaping: Reshaping::default(),
            plants: Plants::default(),
        }
    }

    fn errand(&mut self, after: Duration, errand: Errand, hands: &mut Hands<'_, Self>) {
        self.errands.insert(self.next_errand, errand);
        hands.alarm(after, self.next_errand);
        self.next_errand += 1;
    }

    fn act(&mut self, client: usize, nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        if self.calm {
            return;
        }
        let think = self.options.think;
        let jitter = hands.draw(Site::new(About::Detail, client), 1 + think.as_micros() as u64);
        self.errand(think / 2 + Duration::from_micros(jitter), Errand::Act { client }, hands);
        self.suspect_wrongly(hands);
        if self.clients[client].busy {
            return self.renew_beside(client, nodes, hands);
        }
        let home = self.clients[client].home;
        if !self.members[home].up || !nodes.is_correct(home) {
            // It was refused a connection: nothing has happened. The next member is tried.
            self.clients[client].home = (home + 1) % self.nodes;
            return;
        }
        let latest = self.truth.latest();
        let asked = self.clients[client].wish(&self.weights, latest, self.nodes, hands);
        if let Some(asked) = asked {
            self.ask((client, home), asked, nodes, hands);
        }
    }

    /// A client asks a member.
    fn ask(
        &mut self,
        (client, member): (usize, usize),
        asked: Asked,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let number = self.asked;
        self.asked += 1;
        self.invoke(number, client, member, &asked, hands);
        let (name, floor) = (self.name(member), self.floor);
        let operation = Operation { number, client, asked, at: hands.now(), floor, member, name };
        self.submit(operation, nodes, hands);
    }

    fn invoke(
        &mut self,
        number: u64,
        client: usize,
        member: usize,
        asked: &Asked,
        hands: &mut Hands<'_, Self>,
    ) {
        hands.count_operation();
        if let Some(client) = self.clients.get_mut(client) {
            client.busy = true;
        }
        hands.tell(Kind::Invoke, |step| {
            (step.client, step.node, step.operation) = (Some(client), Some(member), Some(number));
            step.text = clients::words(asked);
        });
    }

    fn submit(
        &mut self,
        operation: Operation,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let Operation { number, client, member, name, .. } = operation;
        let ticket = name.1;
        let site = Site::new(About::Detail, client);
        let request = match &operation.asked {
            Asked::Write(command) => self.sealed(name, number, command.clone().into()),
            Asked::Guarded { paused: true, .. } => return self.stand_still(operation, hands),
            Asked::Guarded { guard, command, .. } => {
                let asked = Sealed { guard: guard.clone(), ..command.clone().into() };
                self.sealed(name, number, asked)
            }
            Asked::Read(_) => Request::Read { ticket },
            Asked::Lease(ask) => Request::Lease { ticket, ask: *ask },
            Asked::MoveLeader(to) => {
                self.members[member].moving.push(number);
                Request::MoveLeader { to: self.id(*to) }
            }
            Asked::Serializable(range) => {
                let Some(node) = nodes.get(member) else { return };
                let found = (!node.is_witness()).then(|| self.plants.read(member, node, range));
                self.operations.insert(number, operation);
                let read = Answered::Read(found.ok_or(Refusal::Witness));
                return self.answered(number, read, hands);
            }
            Asked::Critical { paused, .. } => {
                let pause = match paused {
                    true => Duration::from_millis(1_000 + hands.draw(site, 7_000)),
                    false => Duration::ZERO,
                };
                let surely = self.clients[operation.client].holds_surely(hands.now())
                    || self.plants.lease_unchecked();
                if surely {
                    self.errand(pause, Errand::WriteToResource { operation: number }, hands);
                }
                self.operations.insert(number, operation);
                if !surely {
                    self.answered(number, Answered::Moved, hands);
                }
                return;
            }
        };
        self.members[member].waiting.insert(ticket, number);
        self.operations.insert(number, operation);
        hands.request(member, Duration::ZERO, request);
        self.errand(PATIENCE, Errand::GiveUp { operation: number }, hands);
    }
}

impl World for Service {
    type Node = Replica;
    type Disk = MemberDisk;

    fn prepare(&mut self, nodes: usize, hands: &mut Hands<'_, Self>) {
        self.logs.begin(nodes);
        self.plants.begin();
        if self.options.exact {
            return;
        }
        let mut pick = |number: usize, options: &[u64]| {
            let site = Site::new(About::Setup, 1_000 + number);
            options[hands.draw(site, options.len() as u64) as usize]
        };
        let Options { clients, watchers, .. } = self.options;
        self.options.clients = pick(0, &[2, 3, 5, 8]).min(clients as u64) as usize;
        self.options.watchers = pick(1, &[1, 3, 0, 2]).min(watchers as u64) as usize;
        let think = self.options.think.as_micros() as u64;
        self.options.think = Duration::from_micros(think * pick(2, &[4, 1, 10]) / 4);
        let checkpoint = self.options.checkpoint_bytes;
        self.options.checkpoint_bytes = checkpoint * pick(3, &[16, 4, 1]) / 4;
        let rare = pick(5, &[0, 8, 3]);
        self.options.election_timeout_min = Duration::from_millis(pick(6, &[250, 1_000, 500]));
        let leases = if pick(7, &[0, 1, 0]) == 1 { Ground::Kept } else { Ground::None };
        let retain = self.options.log_retain_bytes as u64;
        self.options.log_retain_bytes = (retain * pick(4, &[16, 4, 1]) / 4) as usize;
        self.begin_lease_reads(nodes, leases, hands);
        if self.options.workload == Workload::Members {
            let site = Site::new(About::Setup, 1_100);
            self.reshaping.begin(nodes, hands.draw(site, 2) == 1);
            self.options.watchers = 0; // one at a node that is no member is told nothing
        }
        self.buggify = match (hands.buggify(), rare) {
            (Switch::Off, _) | (_, 0) => Buggify::Off,
            (Switch::On, times) => Buggify::OneIn(times as u32),
        };
        let text = match self.buggify {
            Buggify::Off => "buggify is off: no member takes a rare path on purpose".to_owned(),
            Buggify::OneIn(times) => format!("buggify: members take one rare path in {times}"),
        };
        hands.tell(Kind::Note, |step| step.text = text);
    }

    fn clocks(&mut self, node: usize) -> Option<NodeClocks> {
        self.lease_reads.clocks(node)
    }

    fn disk(&mut self, node: usize) -> MemberDisk {
        if node == self.members.len() {
            let id = self.id(node);
            self.members.push(Member::new(id));
            self.nodes += 1;
        }
        let member = node as u64 + 1;
        MemberDisk::new(
            LogIdentity { cluster: 1, member, data: member },
            self.options.segment_bytes,
        )
    }

    fn boot(&mut self, node: usize, disk: &mut MemberDisk) -> Result<Replica, BootError> {
        let id = self.id(node);
        let life = self.members[node].begin(id, self.options.checkpoint_bytes);
        self.logs.boot(node);
        match disk.boot(&self.settings(node), life) {
            Ok(booted) => {
                if booted.torn_tail.is_some() {
                    self.seen.push("a torn tail was cut off");
                }
                if booted.lost > 0 {
                    self.seen.push("a damaged record was named");
                }
                let mut replica = booted.replica;
                self.plants.put_into(&mut replica, &mut self.members[node].desk);
                // Restoring has looked at this, but without the planted bug.
                match replica.raft().restore_error() {
                    Some(why) => {
                        self.members[node].up = false;
                        Err(BootError::Never(why.to_string()))
                    }
                    None => Ok(replica),
                }
            }
            Err(why) => {
                self.members[node].up = false;
                Err(match why {
                    RecoverError::Log(WalError::Io(_)) | RecoverError::Checkpoints(_) => {
                        BootError::Again(why.to_string())
                    }
                    _ => BootError::Never(why.to_string()),
                })
            }
        }
    }

    fn append(&mut self, node: usize, disk: &mut MemberDisk, records: &mut Vec<Record>) {
        let member = &mut self.members[node];
        (member.syncing, member.unmarked) = (true, Some(0));
        disk.append(records);
    }

    fn sync(&mut self, node: usize, disk: &mut MemberDisk) -> Result<(), SyncError> {
        let synced = disk.sync();
        let member = &mut self.members[node];
        // As the log thread does it: between two batches, or when a full disk stops one.
        if !matches!(synced, Err(SyncError::Fatal(_))) && std::mem::take(&mut member.releasing) {
            // Should this fail the next sync says so as well.
            let _ = disk.release();
        }
        synced?;
        member.syncing = false;
        Ok(())
    }

    fn power_cut(&mut self, node: usize, disk: &mut MemberDisk, choose: Choose<'_>) {
        disk.crash(choose);
        // The mark of a log at rest is written without a sync: it may be gone.
        self.members[node].unmarked = Some(0);
        if self.plants.lost_disks_rejoin() {
            *disk = self.disk(node);
        }
    }

    fn cut_start_short(&mut self, node: usize, disk: &mut MemberDisk, choose: Choose<'_>) {
        let id = self.id(node);
        let life = self.members[node].begin(id, self.options.checkpoint_bytes);
        disk.cut_start_short(&self.settings(node), life, choose);
        self.members[node].up = false;
    }

    fn killed(&mut self, _node: usize, disk: &mut MemberDisk) {
        disk.kill();
    }

    fn damage(
        &mut self,
        node: usize,
        disk: &mut MemberDisk,
        fault: Fault,
        choose: Choose<'_>,
    ) -> Option<String> {
        // Damage in a batch that is not marked yet cannot be told from a torn one: the log promises
        // nothing of it until it has been at rest.
        let at_rest = self.members[node].unmarked.is_none();
        if matches!(fault, Fault::BitRot | Fault::Misdirected) && at_rest {
            self.reshaping.lose();
        }
        let turned = match fault {
            Fault::BitRot if at_rest => disk.rot(choose),
            Fault::Misdirected if at_rest => disk.misdirect(choose),
            _ => None,
        };
        self.members[node].turned |= turned.is_some();
        match fault {
            Fault::BitRot | Fault::Misdirected => turned,
            Fault::SyncError => {
                disk.fail(quorate_storage::Fault::Sync);
                Some("syncs fail".to_owned())
            }
            Fault::DiskFull => {
                disk.fill();
                Some("the disk is full".to_owned())
            }
            _ => None,
        }
    }

    fn mend(&mut self, _node: usize, disk: &mut MemberDisk, fault: Fault) {
        match fault {
            Fault::SyncError => disk.mend(&quorate_storage::Fault::Sync),
            Fault::DiskFull => disk.make_room(),
            _ => {}
        }
    }

    fn start(&mut self, _nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        for number in 0..self.options.clients {
            self.clients.push(Client::new(number, number % self.nodes));
            // The first election takes more than a second.
            let after = Duration::from_millis(1_200 + 7 * number as u64);
            self.errand(after, Errand::Act { client: number }, hands);
        }
        for watcher in 0..self.options.watchers {
            self.watchers.push(Watcher::new(watcher, watching::wants(watcher, hands), 1));
            self.errand(RECONNECT, Errand::Connect { watcher }, hands);
        }
        self.served = vec![false; self.nodes];
        self.begin_reshaping(hands);
        if self.lease_reads.are_on() {
            self.errand(VOUCH_EVERY, Errand::Vouch, hands);
        }
    }

    fn on_alarm(&mut self, alarm: u64, nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        let errand = self.errands.remove(&alarm).expect("each alarm is set once");
        match errand {
            Errand::Act { client } => self.act(client, nodes, hands),
            Errand::GiveUp { operation } => self.give_up(operation, hands),
            Errand::Written { member, lives } => {
                if self.members[member].lives == lives {
                    self.written(member, nodes, hands);
                }
            }
            Errand::Sent { from, to, position, lives } => {
                if self.members[from].lives == lives {
                    self.sent((from, to, position), nodes, hands);
                }
            }
            Errand::WriteToResource { operation } => self.write_to_resource(operation, hands),
            Errand::WakeUp { operation } => self.wake_up(operation, nodes, hands),
            Errand::Connect { watcher } => self.connect(watcher, nodes, hands),
            Errand::Stir { watcher } => self.stir(watcher, hands),
            Errand::Probe { member } => self.probe(member, nodes, hands),
            Errand::Vouch => self.vouch(hands),
            Errand::Reshape => self.reshape(nodes, hands),
            Errand::Scrub { member, lives, repair } => {
                if self.members[member].lives == lives {
                    self.scrub(member, repair, nodes, hands);
                }
            }
        }
    }

    fn on_indication(
        &mut self,
        node: usize,
        state: &Replica,
        indication: Indication,
        hands: &mut Hands<'_, Self>,
    ) {
        let member = &mut self.members[node];
        let (ticket, answered) = match indication {
            Indication::Answered { ticket, answer } => (ticket, Answered::Write(answer)),
            Indication::LeaseAnswered { ticket, answer } => (ticket, Answered::Lease(answer)),
            Indication::ReadRefused { ticket, why } => (ticket, Answered::Read(Err(why))),
            Indication::Readable { ticket, ground } => {
                if ground == raft::Ground::Lease {
                    hands.mark("a read rested on a lease");
                }
                let asked = member.waiting.get(&ticket);
                let Some(operation) = asked.and_then(|asked| self.operations.get(asked)) else {
                    return;
                };
                let Asked::Read(range) = &operation.asked else { return };
                let read = Read::of(state.applied().index, state.store(), range);
                (ticket, Answered::Read(Ok(read)))
            }
            Indication::LeaderMoved { .. } => {
                let moved = member.moving.drain(..).map(|asked| (asked, Answered::Moved));
                member.owed.extend(moved.collect::<Vec<_>>());
                return;
            }
            Indication::RoleChanged { role, .. } => return self.role_changed(state, role, hands),
            Indication::CheckpointWanted { by } => {
                member.wanted.push(by);
                return;
            }
            Indication::Diverged { at } => {
                let why = format!("member {node} is told that its state at {at} is wrong");
                return hands.broken(Broken::new("digest", why));
            }
            Indication::Disputed { at } => {
                return hands.broken(Broken::new("digest", format!("members differ at {at}")));
            }
            Indication::Configured(_) | Indication::Removed | Indication::Healed { .. } => return,
            Indication::Changed { ticket, answer } => {
                return self.changed(node, ticket, answer, state, hands);
            }
            Indication::MembersChanged(table) => return self.publish(node, &table, hands),
        };
        if let Some(asked) = member.waiting.remove(&ticket) {
            member.owed.push((asked, answered));
        }
    }

    fn on_turn_end(
        &mut self,
        node: usize,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        self.seen.drain(..).for_each(|seen| hands.mark(seen));
        self.mark_log(node, nodes, hands.now());
        self.scrub_later(node, hands);
        let (Some(state), disk) = nodes.with_disk(node) else { return };
        for by in std::mem::take(&mut self.members[node].wanted) {
            self.supply(node, by, state, disk, hands);
        }
        let judged = self.logs.turn(node, state.raft());
        let judged = judged.and_then(|()| self.reshaping.turn(node, state.raft()));
        if let Err(broken) = judged {
            return hands.broken(broken);
        }
        if state.applied() != self.members[node].applied {
            self.members[node].applied = state.applied();
            if let Err(broken) = self.applied(node, state, hands) {
                return hands.broken(broken);
            }
            let newest_bytes = disk.newest_bytes();
            let due = self.members[node].checkpointing.due(state, newest_bytes);
            if let Some(checkpoint) = due {
                self.take_checkpoint(node, checkpoint, disk, hands);
            }
            let now = moment(hands.now());
            self.members[node].desk.turn_ended(state, now);
        }
        if !self.watchers.is_empty() {
            self.serve_watchers(node, hands);
        }
        for (asked, answered) in std::mem::take(&mut self.members[node].owed) {
            self.answered(asked, answered, hands);
        }
    }

    fn on_down(&mut self, node: usize, hands: &mut Hands<'_, Self>) {
        self.members[node].up = false;
        self.tell_the_end(node, hands);
        let waiting = std::mem::take(&mut self.members[node].waiting);
        let moving = std::mem::take(&mut self.members[node].moving);
        for asked in waiting.into_values().chain(moving) {
            self.unknown(asked, "the member is gone", hands);
        }
        for watcher in 0..self.watchers.len() {
            if self.watchers[watcher].seat.is_some_and(|seat| seat.0 == node) {
                self.watchers[watcher].leave();
                self.errand(RECONNECT, Errand::Connect { watcher }, hands);
            }
        }
    }

    fn on_calm(&mut self, nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        self.calm = true;
        for member in 0..nodes.len() {
            if !nodes.is_dead(member) && nodes.is_correct(member) {
                self.errand(PROBE_EVERY, Errand::Probe { member }, hands);
            }
        }
    }

    fn has_recovered(&mut self, nodes: &mut Nodes<'_, Self>) -> bool {
        self.is_whole_again(nodes)
    }

    fn awaited(&mut self, nodes: &mut Nodes<'_, Self>) -> Vec<String> {
        self.still_owed(nodes)
    }

    fn finish(
        &mut self,
        nodes: &mut Nodes<'_, Self>,
        _hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        self.judge_end(nodes)
    }

    fn leader(&self, nodes: &Nodes<'_, Self>) -> Option<usize> {
        let leading = nodes.up().filter(|(_, node)| node.raft().role() == RoleName::Leader);
        leading.max_by_key(|(_, node)| node.raft().term()).map(|(node, _)| node)
    }

    fn fingerprint(&self, message: &Message) -> u64 {
        judge::fingerprint(message)
    }

    fn describe(&self, message: &Message) -> String {
        judge::describe(message)
    }

    fn portrait(&self, node: &Replica) -> BTreeMap<String, String> {
        judge::portrait(node)
    }

    fn clients(&self) -> Vec<String> {
        // The last one asks each member, after the faults, whether it serves.
        let clients = (0..self.options.clients).map(|client| format!("c{client}"));
        let renewals = (0..self.options.clients).map(|client| format!("c{client} renews"));
        clients.chain(std::iter::once("probe".to_owned())).chain(renewals).collect()
    }

    fn marks(&self) -> &'static [&'static str] {
        judge::MARKS
    }
}
