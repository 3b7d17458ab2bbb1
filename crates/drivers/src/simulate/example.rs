//! A complete example: a protocol, its world, and what must hold. Copy it to simulate your own.
//!
//! The protocol is a register with a primary and backups, as simple as it can be and still be of
//! use: the primary answers at once and sends copies to its backups; when a backup has heard
//! nothing for long enough, it takes over.
//!
//! ```text
//!   client --write--> primary --copy--> backup, backup
//!          <--wrote--         --alive->            silence: the next in rank takes over
//! ```
//!
//! It promises that a read sees every write that was acknowledged before the read began. That is
//! true in a synchronous system with a reliable network, where silence means death: a copy arrives
//! before anybody can have grown suspicious. In every weaker model it is false, and this is how
//! data is lost in practice: asynchronous replication with automatic failover. Sources: Alsberg and
//! Day, "A Principle for Resilient Sharing of Distributed Resources" (1976), for the scheme;
//! Kingsbury, "Call me maybe: Redis" (2013), for what becomes of it when a network is partitioned.
//!
//! ```
//! use quorate_drivers::simulate::example::RegisterWorld;
//! use quorate_drivers::simulate::{Keep, Origin, Plan, run};
//!
//! // The model that the register was made for: it holds.
//! let strong = "network=reliable,node=crash-stop,timing=synchronous".parse()?;
//! let outcome = run(RegisterWorld::default(), &Plan::of(strong), Origin::Seed(1), Keep::Outcome);
//! assert_eq!(outcome.violation, None);
//!
//! // A data centre is not like that.
//! let plan = Plan::of(quorate_core::SystemModel::DATA_CENTRE);
//! let broken = (0..100).find_map(|seed| {
//!     run(RegisterWorld::default(), &plan, Origin::Seed(seed), Keep::Outcome).violation
//! });
//! assert_eq!(broken.expect("it breaks soon").property, "read-your-acknowledged");
//! # Ok::<(), quorate_core::ParseModelError>(())
//! ```

use super::choices::{About, Site};
use super::trace::Kind;
use super::world::{BootError, Broken, Choose, Hands, Nodes, SyncError, World};
use quorate_core::{Context, Network, NodeFaults, NodeId, Protocol, SystemModel, Time, Timing};
use std::collections::BTreeMap;
use std::time::Duration;

/// A primary says so often that it is alive.
const ALIVE_EVERY: Duration = Duration::from_millis(50);
/// A backup is patient for so long for each rank between it and the primary: longer than a
/// heartbeat and two delays of a synchronous system.
const PATIENCE: Duration = Duration::from_millis(200);
/// The client thinks about an operation so often.
const PACE: Duration = Duration::from_millis(20);
/// The one property.
const PROPERTY: &str = "read-your-acknowledged";

/// What the register tells its clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Told {
    /// Operation `operation` wrote, as that version.
    Wrote {
        /// The client's number.
        operation: u64,
        /// The version of the register from then on.
        version: u64,
    },
    /// Operation `operation` read that version.
    Saw {
        /// The client's number.
        operation: u64,
        /// The version that was read.
        version: u64,
    },
    /// This node is not the primary.
    Refused {
        /// The client's number.
        operation: u64,
    },
}

/// What clients ask.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ask {
    /// Write.
    Write(u64),
    /// Read.
    Read(u64),
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Message {
    /// The sender is the primary, and lives.
    Alive,
    /// The register has this version.
    Copy(u64),
}

/// The alarms of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// Say that we live, or look whether the primary does.
    Look,
}

/// One node of the register. Ranks are the numbers of the nodes: the lowest that lives is primary.
#[derive(Debug)]
pub struct Register {
    rank: u64,
    nodes: u64,
    primary: u64,
    heard: Time,
    version: u64,
}

impl Register {
    fn is_primary(&self) -> bool {
        self.primary == self.rank
    }

    fn tell_others(&self, message: Message, cx: &mut Context<'_, Self>) {
        for other in (1..=self.nodes).filter(|other| *other != self.rank) {
            cx.send(NodeId(other), message);
        }
    }

    fn look(&mut self, cx: &mut Context<'_, Self>) {
        let ranks = self.rank.saturating_sub(self.primary) as u32;
        if !self.is_primary() && cx.now.since(self.heard) >= PATIENCE * ranks {
            self.primary = self.rank;
        }
        if self.is_primary() {
            self.tell_others(Message::Alive, cx);
        }
        cx.set_timer(Timer::Look, ALIVE_EVERY..ALIVE_EVERY + Duration::from_millis(5));
    }
}

impl Protocol for Register {
    type Config = (u64, u64);
    type Message = Message;
    type Timer = Timer;
    type Record = ();
    type Request = Ask;
    type Indication = Told;

    const MODEL: SystemModel = SystemModel {
        network: Network::Reliable,
        node: NodeFaults::CrashStop,
        timing: Timing::Synchronous,
    };

    fn restore(config: &(u64, u64), _records: &mut dyn Iterator<Item = ()>) -> Register {
        let (rank, nodes) = *config;
        Register { rank, nodes, primary: 1, heard: Time::default(), version: 0 }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.heard = cx.now;
        self.look(cx);
    }

    fn on_request(&mut self, request: Ask, cx: &mut Context<'_, Self>) {
        let told = match request {
            Ask::Write(operation) | Ask::Read(operation) if !self.is_primary() => {
                Told::Refused { operation }
            }
            Ask::Write(operation) => {
                self.version += 1;
                self.tell_others(Message::Copy(self.version), cx);
                Told::Wrote { operation, version: self.version }
            }
            Ask::Read(operation) => Told::Saw { operation, version: self.version },
        };
        cx.indicate(told);
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        match message {
            Message::Alive if from.0 <= self.primary || from.0 < self.rank => {
                self.primary = from.0;
                self.heard = cx.now;
            }
            Message::Alive => {}
            Message::Copy(version) => self.version = self.version.max(version),
        }
    }

    fn on_timer(&mut self, Timer::Look: Timer, cx: &mut Context<'_, Self>) {
        self.look(cx);
    }
}

/// The register's world: one client that writes and reads, and remembers what it was promised.
#[derive(Debug, Default)]
pub struct RegisterWorld {
    nodes: u64,
    operations: u64,
    /// The newest version that was acknowledged.
    acknowledged: u64,
    /// What an operation under way must see at least.
    floors: BTreeMap<u64, u64>,
    /// The first operation of the calm, and whether one since then was answered.
    calm_from: Option<u64>,
    served: bool,
}

impl RegisterWorld {
    fn invoke(&mut self, nodes: &Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        let what = hands.draw(Site::new(About::Client, 0), 3);
        if what == 0 && self.calm_from.is_none() {
            return;
        }
        let node = hands.draw(Site::new(About::Detail, 0), nodes.len() as u64) as usize;
        let operation = self.operations;
        self.operations += 1;
        self.floors.insert(operation, self.acknowledged);
        hands.count_operation();
        let (ask, text) = match what {
            2 => (Ask::Read(operation), "read"),
            _ => (Ask::Write(operation), "write"),
        };
        hands.tell(Kind::Invoke, |step| {
            (step.client, step.operation) = (Some(0), Some(operation));
            (step.node, step.text) = (Some(node), text.to_owned());
        });
        hands.request(node, Duration::ZERO, ask);
    }
}

impl World for RegisterWorld {
    type Node = Register;
    /// The register keeps nothing when it crashes.
    type Disk = ();

    /// Every node is given a disk before the first of them boots.
    fn disk(&mut self, node: usize) {
        self.nodes = self.nodes.max(node as u64 + 1);
    }

    fn boot(&mut self, node: usize, _disk: &mut ()) -> Result<Register, BootError> {
        let config = (node as u64 + 1, self.nodes);
        Ok(Register::restore(&config, &mut std::iter::empty()))
    }

    fn append(&mut self, _node: usize, _disk: &mut (), records: &mut Vec<()>) {
        records.clear();
    }

    fn sync(&mut self, _node: usize, _disk: &mut ()) -> Result<(), SyncError> {
        Ok(())
    }

    fn power_cut(&mut self, _node: usize, _disk: &mut (), _choose: Choose<'_>) {}

    fn start(&mut self, _nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        hands.alarm(PACE, 0);
    }

    fn on_alarm(&mut self, _: u64, nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        self.invoke(nodes, hands);
        hands.alarm(PACE, 0);
    }

    fn on_indication(
        &mut self,
        node: usize,
        _state: &Register,
        told: Told,
        hands: &mut Hands<'_, Self>,
    ) {
        let (operation, version, must_grow) = match told {
            Told::Wrote { operation, version } => (operation, version, 1),
            Told::Saw { operation, version } => (operation, version, 0),
            Told::Refused { .. } => return,
        };
        hands.tell(Kind::Return, |step| {
            (step.client, step.operation) = (Some(0), Some(operation));
            (step.node, step.text) = (Some(node), format!("version {version}"));
        });
        if node > 0 {
            hands.mark("a backup serves");
        }
        let floor = self.floors.remove(&operation).expect("each operation is answered once");
        if version < floor + must_grow {
            let name = self.id(node);
            let why = format!(
                "operation {operation} at {name} has version {version}, and version {floor} was \
                 acknowledged before it began"
            );
            return hands.broken(Broken::new(PROPERTY, why));
        }
        self.acknowledged = self.acknowledged.max(version);
        self.served |= self.calm_from.is_some_and(|first| operation >= first);
    }

    fn on_calm(&mut self, _nodes: &mut Nodes<'_, Self>, _hands: &mut Hands<'_, Self>) {
        self.calm_from = Some(self.operations);
    }

    fn has_recovered(&mut self, _nodes: &mut Nodes<'_, Self>) -> bool {
        self.served
    }

    fn awaited(&mut self, nodes: &mut Nodes<'_, Self>) -> Vec<String> {
        let mut owed = vec!["no operation that began after the faults was answered".to_owned()];
        let down = (0..nodes.len()).filter(|node| nodes.get(*node).is_none());
        owed.extend(down.map(|node| format!("n{} is down", node + 1)));
        owed
    }

    fn leader(&self, nodes: &Nodes<'_, Self>) -> Option<usize> {
        nodes.up().find(|(_, node)| node.is_primary()).map(|(at, _)| at)
    }

    fn fingerprint(&self, message: &Message) -> u64 {
        match message {
            Message::Alive => 0,
            Message::Copy(version) => *version,
        }
    }

    fn portrait(&self, node: &Register) -> BTreeMap<String, String> {
        let role = if node.is_primary() { "primary" } else { "backup" };
        let fields = [("role", role.to_owned()), ("version", node.version.to_string())];
        fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn clients(&self) -> Vec<String> {
        vec!["c1".to_owned()]
    }

    fn marks(&self) -> &'static [&'static str] {
        &["a backup serves"]
    }
}
