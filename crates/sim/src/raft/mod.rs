//! Raft alone as a world of the simulator: clients that propose, read, hand over leadership and
//! change the members, states that travel beside the log, and a judge who remembers everything.
//!
//! ```text
//!   client --request--> Raft --records--> disk        Raft --told--> judge: state machine, reads
//!                        ^ |                            |
//!                        | +-- snapshot wanted --> transfer of the state, takes a while
//!                        +---- installed <-------------+
//! ```
//!
//! Each run draws its own cluster: how long timeouts are, how much fits into a message and how much
//! may wait (little of each, so that limits are reached), whether the members change in it, and
//! how often clients ask. Where members change, no disk is damaged: a minority of all nodes may be
//! a majority of those that vote.
//!
//! **Liveness.** When all faults have ended, a command must be committed and applied by every
//! member, and a read answered. That is not demanded of a cluster whose voters, by bad luck and
//! changes of members, have died in their majority.
//!
//! In some runs reads may rest on leases, over clocks that keep a bound (`lease_reads.rs`). There,
//! members are also told now and then that a leader has ended which has not.
//!
//! Outside of its model Raft promises nothing, and can still be run: `lies.rs` says what becomes of
//! its messages. Which property breaks there is worth knowing.

mod awaited;
mod disk;
mod judge;
mod leased;
mod lies;
pub mod weather;

use crate::lease_reads::{Ground, LeaseReads, VOUCH_EVERY};
use bytes::Bytes;
use disk::State;
use judge::{Judge, own};
use quorate_core::{Buggify, Index, NodeId, Position, Protocol};
use quorate_drivers::simulate::trace::Kind;
use quorate_drivers::simulate::{
    About, BootError, Broken, Choose, Fault, Hands, NodeClocks, Nodes, Site, SyncError, World,
};
#[cfg(feature = "mutants")]
use quorate_protocols::consensus::raft::Mutant;
use quorate_protocols::consensus::raft::{
    self, Config, Configuration, Entry, Indication, Message, Payload, Raft, Record, Request,
    RoleName, codec,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub use disk::RaftDisk;

/// The properties, by name.
pub const PROPERTIES: &[&str] = &[
    "election-safety",
    "leader-append-only",
    "log-matching",
    "leader-completeness",
    "state-machine-safety",
    "committed-in-order",
    "acknowledged-durable",
    "applied-once",
    "refused-never-applied",
    "linearizable-reads",
    "recovery",
    "liveness",
    "crash",
];

const MARKS: &[&str] = &[
    "a leader is elected",
    "a read is confirmed",
    "a command is refused",
    "a state is installed",
    "a leader commits an entry of an earlier term",
    "a member fetches what was damaged",
    "leadership is handed over",
    "the members change",
    "a read rests on a lease",
];

/// The alarm of the workload; those of transfers begin after it.
const WORK: u64 = 0;
/// The alarm of whoever vouches for clocks.
const VOUCH: u64 = u64::MAX;
/// Clients, for the traces.
const CLIENTS: u64 = 3;
/// Bytes of a command: its number, and some more.
const COMMAND_BYTES_MAX: u64 = 48;

/// Raft as a world. One value is one run.
#[derive(Debug, Default)]
pub struct RaftWorld {
    settings: Settings,
    judge: Judge,
    /// Operations so far: numbers of commands and of reads.
    operations: u64,
    /// Operations that wait: of which client, at which member.
    open: BTreeMap<u64, (u64, usize)>,
    transfers: BTreeMap<u64, Transfer>,
    transfers_begun: u64,
    /// A life began with a state that is ahead of its log.
    reinstall: BTreeSet<usize>,
    calm: Option<Calm>,
    leases: LeaseReads,
    /// The ground of lease reads, if it is not to be drawn.
    ground: Option<Ground>,
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

/// What a run is like.
#[derive(Clone, Debug, Default)]
struct Settings {
    nodes: usize,
    /// Elections adapt, and the end of a process is noticed.
    adapts: bool,
    election_timeout: Duration,
    news_delay: Duration,
    uncommitted_bytes_max: usize,
    /// Between two operations, on average.
    pace: Duration,
    founders: Configuration,
    members_change: bool,
    buggify: Buggify,
}

/// A state on its way to a follower.
#[derive(Clone, Debug)]
struct Transfer {
    from: usize,
    to: usize,
    state: State,
}

/// What must happen after the faults.
#[derive(Clone, Copy, Debug)]
struct Calm {
    /// Operations from here on began in the calm.
    first: u64,
    /// Where one of them was committed.
    committed: Option<Index>,
    read: bool,
}

impl RaftWorld {
    fn config(&self, node: usize) -> Config {
        let Settings { election_timeout, news_delay, uncommitted_bytes_max, .. } = &self.settings;
        let Settings { founders, buggify, .. } = &self.settings;
        let founds = founders.contains(own(node));
        let configuration = if founds { founders.clone() } else { Configuration::default() };
        Config {
            election_timeout: *election_timeout,
            election_timeout_min: if self.settings.adapts {
                *election_timeout / 2
            } else {
                *election_timeout
            },
            suspicion_spread: *election_timeout / 20,
            heartbeat_interval: *election_timeout / 10,
            append_bytes_max: 150,
            inflight_bytes_max: 400,
            inflight_max: 3,
            uncommitted_bytes_max: *uncommitted_bytes_max,
            news_delay: *news_delay,
            buggify: *buggify,
            lease_reads: self.leases.terms(match self.settings.adapts {
                true => *election_timeout / 2,
                false => *election_timeout,
            }),
            ..Config::new(own(node), configuration)
        }
    }

    fn work(&mut self, nodes: &mut Nodes<'_, RaftWorld>, hands: &mut Hands<'_, RaftWorld>) {
        let half = self.settings.pace.as_nanos() as u64 / 2;
        let gap = half + hands.draw(Site::new(About::Detail, 0), 2 * half);
        hands.alarm(Duration::from_nanos(gap), WORK);
        if self.calm.is_some() {
            // Not drawn: what must happen must not be edited away.
            let at = self.operations as usize / 2 % nodes.len();
            match self.operations % 2 {
                0 => self.propose(at, 0, hands),
                _ => self.read(at, 1, hands),
            }
            return;
        }
        let what = hands.draw(Site::new(About::Client, 0), 20);
        let at = hands.draw(Site::new(About::Client, 1), nodes.len() as u64) as usize;
        let client = hands.draw(Site::new(About::Client, 2), CLIENTS);
        match what {
            0 => self.suspect_wrongly(nodes, hands),
            1..=8 => self.propose(at, client, hands),
            9..=14 => self.read(at, client, hands),
            15..=16 => self.compact(at, nodes, hands),
            17 => {
                let to = own(hands.draw(Site::new(About::Detail, 1), nodes.len() as u64) as usize);
                hands.request(at, Duration::ZERO, Request::TransferLeadership { to });
            }
            _ if self.settings.members_change => self.reconfigure(at, nodes.len(), hands),
            _ => self.propose(at, client, hands),
        }
    }

    /// The next operation, which a client begins.
    fn begin(
        &mut self,
        at: usize,
        client: u64,
        hands: &mut Hands<'_, RaftWorld>,
        what: &str,
    ) -> u64 {
        self.operations += 1;
        let operation = self.operations;
        hands.count_operation();
        self.open.insert(operation, (client, at));
        hands.tell(Kind::Invoke, |step| {
            (step.node, step.client) = (Some(at), Some(client as usize));
            (step.operation, step.text) = (Some(operation), format!("{what} {operation}"));
        });
        operation
    }

    /// The operation ends, if its client still waits for it.
    fn end(&mut self, operation: u64, hands: &mut Hands<'_, RaftWorld>, how: &str) {
        let Some((client, at)) = self.open.remove(&operation) else { return };
        hands.tell(Kind::Return, |step| {
            (step.node, step.client) = (Some(at), Some(client as usize));
            (step.operation, step.text) = (Some(operation), how.to_owned());
        });
    }

    fn propose(&mut self, at: usize, client: u64, hands: &mut Hands<'_, RaftWorld>) {
        let operation = self.begin(at, client, hands, "propose");
        let mut command = operation.to_le_bytes().to_vec();
        let more = hands.draw(Site::new(About::Detail, 2), COMMAND_BYTES_MAX - 7);
        command.resize(8 + more as usize, 0);
        let command = Bytes::from(command);
        hands.request(at, Duration::ZERO, Request::Propose { command });
    }

    fn read(&mut self, at: usize, client: u64, hands: &mut Hands<'_, RaftWorld>) {
        let ticket = self.begin(at, client, hands, "read");
        self.judge.read(ticket, at);
        hands.request(at, Duration::ZERO, Request::Read { ticket });
    }

    /// The layer above stores its state, and lets the log before it go.
    fn compact(
        &mut self,
        at: usize,
        nodes: &mut Nodes<'_, RaftWorld>,
        hands: &mut Hands<'_, RaftWorld>,
    ) {
        let (Some(_), disk) = nodes.with_disk(at) else { return };
        disk.state = self.judge.members[at].state.clone();
        let keep = hands.draw(Site::new(About::Detail, 3), 3);
        let upto = Index(disk.state.position.index.0.saturating_sub(keep));
        hands.request(at, Duration::ZERO, Request::Compact { upto });
    }

    fn reconfigure(&mut self, at: usize, nodes: usize, hands: &mut Hands<'_, RaftWorld>) {
        let site = Site::new(About::Detail, 4);
        let first = hands.draw(site, nodes as u64) as usize;
        let count = 1 + hands.draw(site, nodes as u64) as usize;
        let mut learners: BTreeSet<NodeId> = (0..nodes).map(own).collect();
        let voters: BTreeSet<NodeId> = (0..count).map(|i| own((first + i) % nodes)).collect();
        learners.retain(|id| !voters.contains(id) && hands.draw(site, 3) == 1);
        hands.request(at, Duration::ZERO, Request::Reconfigure { voters, learners });
    }

    fn committed(
        &mut self,
        at: usize,
        state: &Raft,
        entry: Entry,
        hands: &mut Hands<'_, RaftWorld>,
    ) -> Result<(), Broken> {
        let Entry { position, ref payload } = entry;
        let operation = match payload {
            Payload::Command(command) => Some(command_number(command)),
            Payload::Noop | Payload::Membership(_) => None,
        };
        if self.judge.commit(at, state.term(), entry)? {
            if state.role() == RoleName::Leader && position.term < state.term() {
                hands.mark("a leader commits an entry of an earlier term");
            }
            let calm =
                self.calm.as_mut().filter(|calm| operation.is_some_and(|of| of > calm.first));
            if let Some(calm) = calm {
                calm.committed.get_or_insert(position.index);
            }
        }
        if let Some(operation) = operation
            && self.open.get(&operation).is_some_and(|(_, asked)| *asked == at)
        {
            self.end(operation, hands, "committed");
        }
        Ok(())
    }

    fn told(
        &mut self,
        at: usize,
        state: &Raft,
        indication: Indication,
        hands: &mut Hands<'_, RaftWorld>,
    ) -> Result<(), Broken> {
        match indication {
            Indication::Committed { entries } => {
                for entry in entries {
                    self.committed(at, state, entry, hands)?;
                }
            }
            Indication::Refused { command, .. } => {
                let command = command_number(&command);
                hands.mark("a command is refused");
                self.end(command, hands, "refused");
                self.judge.refuse(command)?;
            }
            Indication::ReadReady { ticket, read_index, ground } => {
                hands.mark(match ground {
                    raft::Ground::Round => "a read is confirmed",
                    raft::Ground::Lease => "a read rests on a lease",
                });
                self.end(ticket, hands, &format!("reads {read_index}"));
                if let Some(calm) = self.calm.as_mut().filter(|calm| ticket > calm.first) {
                    calm.read = true;
                }
                self.judge.read_ready(ticket, read_index)?;
            }
            Indication::ReadRefused { ticket } => {
                self.end(ticket, hands, "refused");
                self.judge.read_refused(ticket);
            }
            Indication::RoleChanged { role: RoleName::Leader, .. } => {
                hands.mark("a leader is elected");
            }
            Indication::SnapshotWanted { by } => self.send_state(at, by, hands),
            Indication::Configured { .. } => hands.mark("the members change"),
            Indication::TransferEnded { .. } => hands.mark("leadership is handed over"),
            _ => {}
        }
        Ok(())
    }

    /// The layer above sends its state; that takes a while.
    fn send_state(&mut self, from: usize, to: NodeId, hands: &mut Hands<'_, RaftWorld>) {
        let to = to.0 as usize - 1;
        self.transfers_begun += 1;
        let state = self.judge.members[from].state.clone();
        self.transfers.insert(self.transfers_begun, Transfer { from, to, state });
        let takes = 1 + hands.draw(Site::new(About::Detail, 5), 50);
        hands.alarm(Duration::from_millis(takes), self.transfers_begun);
    }

    /// The state has arrived, or has not.
    fn arrive(
        &mut self,
        transfer: u64,
        nodes: &mut Nodes<'_, RaftWorld>,
        hands: &mut Hands<'_, RaftWorld>,
    ) {
        let Some(Transfer { from, to, state }) = self.transfers.remove(&transfer) else { return };
        let name = own(to);
        if nodes.get(to).is_none() || hands.is_cut(from, to) || hands.is_cut(to, from) {
            return hands.request(from, Duration::ZERO, Request::SnapshotFailed { to: name });
        }
        let (_, disk) = nodes.with_disk(to);
        if state.position.index > disk.state.position.index {
            disk.state = state.clone();
        }
        self.judge.install(to, &state);
        hands.mark("a state is installed");
        let State { position, configuration, .. } = state;
        hands.request(to, Duration::ZERO, Request::Installed { position, configuration });
        hands.request(from, Duration::ZERO, Request::SnapshotSent { to: name, position });
    }

    /// What is committed stands on the disks of a quorum.
    fn is_durable(
        &mut self,
        at: usize,
        nodes: &mut Nodes<'_, RaftWorld>,
        hands: &Hands<'_, RaftWorld>,
    ) -> Result<(), Broken> {
        let Some(raft) = nodes.get(at) else { return Ok(()) };
        let present = raft.configuration().clone();
        let Some((position, before)) = self.judge.take_fresh(at, raft) else { return Ok(()) };
        let holders: BTreeSet<NodeId> = (0..nodes.len())
            .filter(|node| nodes.with_disk(*node).1.holds(position))
            .map(own)
            .collect();
        if has_quorum(&before, &holders) || has_quorum(&present, &holders) {
            return self.outlives_elections(position, nodes, hands);
        }
        let names: Vec<String> = holders.iter().map(NodeId::to_string).collect();
        let why = format!("{position} is committed; only [{}] hold it", names.join(", "));
        Err(Broken::new("acknowledged-durable", why))
    }

    /// What is committed is in the log of everybody whom a majority would elect now. A leader that
    /// breaks this is found when it does, and not when that election happens.
    ///
    /// Not judged where members change, nor where a log was damaged: who may vote there is another
    /// question.
    fn outlives_elections(
        &self,
        committed: Position,
        nodes: &Nodes<'_, RaftWorld>,
        hands: &Hands<'_, RaftWorld>,
    ) -> Result<(), Broken> {
        let damaged = [Fault::BitRot, Fault::Misdirected].map(|fault| hands.has_seen(fault));
        if self.settings.members_change || damaged.contains(&true) {
            return Ok(());
        }
        let lacks = |raft: &Raft| {
            let (index, base) = (committed.index, raft.base().index);
            index > base && raft.position_at(index) != Some(committed)
        };
        for (candidate, raft) in nodes.up().filter(|(_, raft)| lacks(raft)) {
            let votes = nodes.up().filter(|(_, voter)| voter.last() <= raft.last()).count();
            if votes * 2 > nodes.len() {
                let candidate = own(candidate);
                let why =
                    format!("{committed} is committed, and {candidate} could lead without it");
                return Err(Broken::new("leader-completeness", why));
            }
        }
        Ok(())
    }

    /// False if a majority of the voters that somebody goes by will not return.
    fn can_serve(nodes: &Nodes<'_, RaftWorld>) -> bool {
        let alive: BTreeSet<NodeId> = (0..nodes.len())
            .filter(|node| !nodes.is_dead(*node) && nodes.is_correct(*node))
            .map(own)
            .collect();
        nodes.up().all(|(_, raft)| {
            let configuration = raft.configuration();
            configuration.incoming.is_empty() || has_quorum(configuration, &alive)
        })
    }
}

/// The number of a command: it begins with it.
fn command_number(command: &Bytes) -> u64 {
    let mut number = [0; 8];
    let known = command.len().min(8);
    number[..known].copy_from_slice(&command[..known]);
    u64::from_le_bytes(number)
}

/// True if `some` are a majority of the voters, of both sets during a change.
fn has_quorum(configuration: &Configuration, some: &BTreeSet<NodeId>) -> bool {
    let majority = |voters: &BTreeSet<NodeId>| voters.intersection(some).count() * 2 > voters.len();
    majority(&configuration.incoming)
        && (!configuration.is_joint() || majority(&configuration.outgoing))
}

impl World for RaftWorld {
    type Node = Raft;
    type Disk = RaftDisk;

    fn prepare(&mut self, nodes: usize, hands: &mut Hands<'_, RaftWorld>) {
        let mut pick = |question: usize, options: &[u64]| {
            let site = Site::new(About::Detail, 1_000 + question);
            options[hands.draw(site, options.len() as u64) as usize]
        };
        let members_change = pick(0, &[0, 1]) == 1;
        let founders = if members_change && nodes > 3 { 3 } else { nodes };
        self.settings = Settings {
            nodes,
            adapts: pick(6, &[0, 1]) == 1,
            election_timeout: Duration::from_millis(pick(1, &[1_000, 300, 100])),
            news_delay: Duration::from_millis(pick(2, &[0, 1])),
            uncommitted_bytes_max: pick(3, &[2_000, 80]) as usize,
            pace: Duration::from_millis(pick(4, &[50, 10, 2])),
            founders: Configuration::of((0..founders).map(own)),
            members_change,
            buggify: match pick(5, &[0, 8, 3]) {
                0 => Buggify::Off,
                times => Buggify::OneIn(times as u32),
            },
        };
        let drawn = if pick(7, &[0, 1]) == 1 { Ground::Kept } else { Ground::None };
        let drift = pick(8, &[200, 50_000]) as u32;
        self.begin_leases(nodes, drawn, drift, hands);
        self.judge.begin(nodes);
    }

    fn clocks(&mut self, node: usize) -> Option<NodeClocks> {
        self.leases.clocks(node)
    }

    fn disk(&mut self, _node: usize) -> RaftDisk {
        RaftDisk::new(Configuration::default())
    }

    fn boot(&mut self, node: usize, disk: &mut RaftDisk) -> Result<Raft, BootError> {
        if disk.state.position == Position::ZERO {
            disk.state.configuration = self.config(node).configuration;
        }
        let raft = Raft::restore(&self.config(node), &mut disk.read());
        #[cfg(feature = "mutants")]
        let raft = raft.with_mutant(self.mutant);
        if let Some(error) = raft.restore_error() {
            return Err(BootError::Never(error.to_string()));
        }
        self.judge.boot(node, &raft, disk);
        if raft.last().index < disk.state.position.index {
            self.reinstall.insert(node);
        }
        Ok(raft)
    }

    fn append(&mut self, _node: usize, disk: &mut RaftDisk, records: &mut Vec<Record>) {
        disk.append(records);
    }

    fn sync(&mut self, _node: usize, disk: &mut RaftDisk) -> Result<(), SyncError> {
        disk.sync()
    }

    fn power_cut(&mut self, _node: usize, disk: &mut RaftDisk, choose: Choose<'_>) {
        disk.power_cut(choose);
    }

    fn damage(
        &mut self,
        _node: usize,
        disk: &mut RaftDisk,
        fault: Fault,
        choose: Choose<'_>,
    ) -> Option<String> {
        if matches!(fault, Fault::BitRot | Fault::Misdirected) && self.settings.members_change {
            return None;
        }
        disk.damage(fault, choose)
    }

    fn mend(&mut self, _node: usize, disk: &mut RaftDisk, fault: Fault) {
        disk.mend(fault);
    }

    fn start(&mut self, _nodes: &mut Nodes<'_, RaftWorld>, hands: &mut Hands<'_, RaftWorld>) {
        hands.alarm(self.settings.pace, WORK);
        if self.leases.are_on() {
            hands.alarm(VOUCH_EVERY, VOUCH);
        }
    }

    fn on_alarm(
        &mut self,
        alarm: u64,
        nodes: &mut Nodes<'_, RaftWorld>,
        hands: &mut Hands<'_, RaftWorld>,
    ) {
        match alarm {
            WORK => self.work(nodes, hands),
            VOUCH => {
                self.vouch(nodes.len(), hands);
                hands.alarm(VOUCH_EVERY, VOUCH);
            }
            transfer => self.arrive(transfer, nodes, hands),
        }
    }

    fn on_indication(
        &mut self,
        node: usize,
        state: &Raft,
        indication: Indication,
        hands: &mut Hands<'_, RaftWorld>,
    ) {
        if let Err(broken) = self.told(node, state, indication, hands) {
            hands.broken(broken);
        }
    }

    fn on_turn_end(
        &mut self,
        node: usize,
        nodes: &mut Nodes<'_, RaftWorld>,
        hands: &mut Hands<'_, RaftWorld>,
    ) {
        let Some(raft) = nodes.get(node) else { return };
        if raft.is_mending() {
            hands.mark("a member fetches what was damaged");
        }
        let judged = self.judge.turn(node, raft).and_then(|()| self.is_durable(node, nodes, hands));
        if let Err(broken) = judged {
            hands.broken(broken);
        }
        if self.reinstall.remove(&node) {
            let State { position, configuration, .. } = nodes.with_disk(node).1.state.clone();
            self.judge.install(node, &nodes.with_disk(node).1.state);
            hands.request(node, Duration::ZERO, Request::Installed { position, configuration });
        }
    }

    fn on_fault(
        &mut self,
        fault: Fault,
        nodes: &mut Nodes<'_, RaftWorld>,
        hands: &mut Hands<'_, RaftWorld>,
    ) {
        if self.leases.lose_trust(fault) {
            self.vouch(nodes.len(), hands);
        }
    }

    fn on_down(&mut self, node: usize, hands: &mut Hands<'_, RaftWorld>) {
        // Half of the others notice that the process has ended; some of them late, when the node
        // is back already.
        let others = (0..self.settings.nodes).filter(|other| *other != node);
        for other in others.filter(|_| self.settings.adapts) {
            let site = Site::new(About::Detail, 1_000 + other);
            if hands.draw(site, 2) == 1 {
                let after = Duration::from_millis(1 + hands.draw(site, 200));
                hands.request(other, after, Request::Suspect { peer: own(node) });
            }
        }
        self.judge.down(node);
        self.reinstall.remove(&node);
        self.open.retain(|_, (_, at)| *at != node);
    }

    fn on_calm(&mut self, _nodes: &mut Nodes<'_, RaftWorld>, _hands: &mut Hands<'_, RaftWorld>) {
        self.calm = Some(Calm { first: self.operations, committed: None, read: false });
    }

    fn has_recovered(&mut self, nodes: &mut Nodes<'_, RaftWorld>) -> bool {
        let Some(Calm { committed: Some(committed), read: true, .. }) = self.calm else {
            return !Self::can_serve(nodes);
        };
        let leaders = nodes.up().filter(|(_, raft)| raft.role() == RoleName::Leader);
        let Some((_, leader)) = leaders.max_by_key(|(_, raft)| raft.term()) else { return false };
        let members = leader.configuration().members();
        let serves = |node: usize| {
            let applied = self.judge.members[node].state.position.index >= committed;
            applied && nodes.get(node).is_some_and(|raft| !raft.is_mending())
        };
        let due = |node: &usize| {
            members.contains(&own(*node)) && nodes.is_correct(*node) && !nodes.is_dead(*node)
        };
        !leader.configuration().is_joint() && (0..nodes.len()).filter(due).all(serves)
    }

    fn awaited(&mut self, nodes: &mut Nodes<'_, RaftWorld>) -> Vec<String> {
        self.still_owed(nodes)
    }

    fn leader(&self, nodes: &Nodes<'_, RaftWorld>) -> Option<usize> {
        let leaders = nodes.up().filter(|(_, raft)| raft.role() == RoleName::Leader);
        leaders.max_by_key(|(_, raft)| raft.term()).map(|(node, _)| node)
    }

    fn fingerprint(&self, message: &Message) -> u64 {
        let mut bytes = Vec::with_capacity(128);
        codec::encode(message, &mut bytes);
        bytes.chunks(8).fold(0x51_7c_c1, |hash: u64, chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
        })
    }

    fn alter(&mut self, message: &Message, choose: Choose<'_>) -> Option<Message> {
        Some(lies::alter(message, choose))
    }

    fn describe(&self, message: &Message) -> String {
        lies::describe(message)
    }

    fn portrait(&self, raft: &Raft) -> BTreeMap<String, String> {
        let leader = raft.leader().map_or("none".to_owned(), |leader| leader.to_string());
        let voters: Vec<String> =
            raft.configuration().voters().map(|voter| voter.to_string()).collect();
        BTreeMap::from([
            ("role".to_owned(), format!("{:?}", raft.role())),
            ("term".to_owned(), raft.term().to_string()),
            ("leader".to_owned(), leader),
            ("last".to_owned(), raft.last().to_string()),
            ("commit".to_owned(), raft.commit_index().to_string()),
            ("base".to_owned(), raft.base().to_string()),
            ("voters".to_owned(), voters.join(" ")),
        ])
    }

    fn clients(&self) -> Vec<String> {
        (1..=CLIENTS).map(|client| format!("c{client}")).collect()
    }

    fn marks(&self) -> &'static [&'static str] {
        MARKS
    }
}
