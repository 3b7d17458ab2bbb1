//! The service and the shelf under simulation: worlds, workloads, properties, mutants.
//!
//! [`REGISTRY`] is the table of what can be simulated. An [`Entry`] is data and one function, which
//! makes a [`Subject`]: the simulator's campaigns, shrinker and command line know nothing else of a
//! protocol.

pub mod detectors;
mod lease_reads;
mod logs;
pub mod mutants;
pub mod quality;
pub mod raft;
pub mod service;
pub mod time;

use quorate_core::{Protocol, SystemModel};
use quorate_drivers::simulate::Subject;
use quorate_drivers::simulate::example::{Register, RegisterWorld};
use quorate_protocols::consensus::raft::Raft;
use quorate_protocols::detectors::perfect::Perfect;
use quorate_protocols::time::synchronizer::Synchronizer;
use quorate_replica::Replica;

use detectors::Kind;
use raft::RaftWorld;
use time::TimeWorld;

/// One protocol, or system, that can be simulated.
#[derive(Debug)]
pub struct Entry {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is, in a few words.
    pub about: &'static str,
    /// The weakest system model in which it keeps its promises.
    pub model: SystemModel,
    /// What its clients may do; the first is the default.
    pub workloads: &'static [Workload],
    /// The properties that are checked, by name.
    pub properties: &'static [&'static str],
    /// Makes it.
    pub make: fn(&Options) -> Box<dyn Subject>,
}

/// A workload, by name.
#[derive(Debug)]
pub struct Workload {
    /// Its name on the command line.
    pub name: &'static str,
    /// What clients do, in a few words.
    pub about: &'static str,
}

/// What a user may choose about a subject, beside the plan.
#[derive(Clone, Debug)]
pub struct Options {
    /// The name of a workload of the entry.
    pub workload: &'static str,
}

impl Entry {
    /// The options with which it runs if nobody says otherwise.
    pub fn defaults(&self) -> Options {
        Options { workload: self.workloads[0].name }
    }

    /// The workload of that name.
    pub fn workload(&self, name: &str) -> Option<&'static Workload> {
        self.workloads.iter().find(|workload| workload.name == name)
    }
}

/// Everything that can be simulated.
pub const REGISTRY: &[Entry] = &[
    Entry {
        name: "service",
        about: "the service: the replica of production on a simulated disk, with its clients",
        model: Replica::MODEL,
        workloads: service::WORKLOADS,
        properties: service::PROPERTIES,
        make: |options| Box::new(service::subject(options)),
    },
    Entry {
        name: "register",
        about: "the example: a register with a primary that fails over",
        model: Register::MODEL,
        workloads: &[Workload { name: "mixed", about: "one client writes and reads" }],
        properties: &["read-your-acknowledged", "crash", "liveness"],
        make: |_| Box::new(RegisterWorld::default),
    },
    Entry {
        name: "raft",
        about: "Raft alone, with its records on a simulated disk",
        model: Raft::MODEL,
        workloads: &[Workload {
            name: "mixed",
            about: "clients propose, read, hand over leadership and change the members",
        }],
        properties: raft::PROPERTIES,
        make: |_| Box::new(RaftWorld::default),
    },
    detector(Kind::Perfect, "perfect failure detector: pings with a known bound", Perfect::MODEL),
    detector(Kind::Heartbeat, "heartbeats with a timeout that grows with mistakes", DATA_CENTRE),
    detector(Kind::Chen, "heartbeats with Chen's freshness points (NFD-E)", DATA_CENTRE),
    detector(Kind::Phi, "heartbeats with phi accrual", DATA_CENTRE),
    detector(Kind::Jacobson, "pings with a timeout from round trips", DATA_CENTRE),
    detector(Kind::Traffic, "traffic as heartbeat", DATA_CENTRE),
    detector(Kind::QuorumPing, "quorum ping: the smaller side of a split only reads", DATA_CENTRE),
    detector(Kind::Swim, "SWIM with Lifeguard's local health", DATA_CENTRE),
    Entry {
        name: "time",
        about: "members that synchronize their clocks, some of which lie",
        model: Synchronizer::MODEL,
        workloads: &[
            Workload { name: "mixed", about: "up to f of 2f + 1 clocks lie, each its own way" },
            Workload { name: time::TOO_MANY_LIARS, about: "f + 1 say the same: it must break" },
        ],
        properties: time::PROPERTIES,
        make: |options| match options.workload {
            time::TOO_MANY_LIARS => Box::new(TimeWorld::with_too_many_liars),
            _ => Box::new(TimeWorld::default),
        },
    },
];

const DATA_CENTRE: SystemModel = SystemModel::DATA_CENTRE;

const fn detector(kind: Kind, about: &'static str, model: SystemModel) -> Entry {
    let workloads = match kind {
        Kind::Traffic => detectors::TALK,
        _ => detectors::ALONE,
    };
    let make: fn(&Options) -> Box<dyn Subject> = match kind {
        Kind::Perfect => |_| Kind::Perfect.subject(None),
        Kind::Heartbeat => |_| Kind::Heartbeat.subject(None),
        Kind::Chen => |_| Kind::Chen.subject(None),
        Kind::Phi => |_| Kind::Phi.subject(None),
        Kind::Jacobson => |_| Kind::Jacobson.subject(None),
        Kind::Traffic => |_| Kind::Traffic.subject(None),
        Kind::QuorumPing => |_| Kind::QuorumPing.subject(None),
        Kind::Swim => |_| Kind::Swim.subject(None),
    };
    Entry { name: kind.name(), about, model, workloads, properties: kind.properties(), make }
}

/// The entry of that name.
pub fn entry(name: &str) -> Option<&'static Entry> {
    REGISTRY.iter().find(|entry| entry.name == name)
}
