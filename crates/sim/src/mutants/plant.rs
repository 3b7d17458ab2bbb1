//! The words of the catalogue: where a bug is planted, what it breaks, and what shows it.

use crate::detectors::Kind;
use quorate_drivers::simulate::Fault;
use std::fmt;

quorate_core::planted_bugs! {
    /// A mistake of what surrounds a member, which the world of the service makes on purpose.
    pub enum HostMutant {
        /// A member whose disk is lost whenever it loses power takes part again at once, under its
        /// old name ("Paxos Made Live", Chandra et al. 2007, section 5.1).
        LostDiskRejoins = "lost-disk-rejoins",
        /// A member answers reads that need not be the latest from a copy of its state, which it
        /// renews only now and then (Terry et al. 1994, monotonic reads).
        StaleCopy = "stale-copy",
        /// Leases are measured by a clock that is set (etcd#12291).
        LeaseOnWallClock = "lease-on-wall-clock",
        /// Leases are measured by a clock that stands still while the machine sleeps
        /// (clock_gettime(2): CLOCK_MONOTONIC).
        LeaseClockStops = "lease-clock-stops",
        /// Whoever vouches for clocks does not see that one has left its bound.
        ClockMonitorBlind = "clock-monitor-blind",
        /// A damaged segment of the log is dropped before a checkpoint covers it (etcd#11488: what
        /// a repair throws away).
        RepairReleasesFirst = "repair-releases-first",
    }
}

quorate_core::planted_bugs! {
    /// A mistake of a client, which the workload makes on purpose.
    pub enum ClientMutant {
        /// A lock is taken for held as soon as it is the first in the queue, without a look at the
        /// lease that it hangs on (etcd#11456).
        LockWithoutLeaseCheck = "lock-without-lease-check",
        /// A write under a lock does not compare that the lock is still held when it happens
        /// (Kleppmann 2016).
        LockWithoutFencing = "lock-without-fencing",
        /// What was not answered in time is asked for again as if it had not happened
        /// (dissertation 6.3).
        RetriedBlindly = "retried-blindly",
    }
}

/// A planted bug, by where it is planted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Plant {
    /// In a replica: [`quorate_replica::Replica::plant`], in each life between restore and start.
    /// In the world of Raft alone, whose nodes are no replicas: [`raft::Raft::plant`].
    ///
    /// [`raft::Raft::plant`]: quorate_protocols::consensus::raft::Raft::plant
    Replica(quorate_replica::Plant),
    /// In log and checkpoints: a [`quorate_storage::Planted`] is held while a member uses its disk.
    Storage(quorate_storage::Mutant),
    /// In the watches of a member: [`quorate_server::watch::desk::WatchDesk::plant`], in each life.
    Watch(quorate_server::watch::Mutant),
    /// In a synchronizer of clocks: [`synchronizer::Synchronizer::plant`], in each life.
    ///
    /// [`synchronizer::Synchronizer::plant`]:
    ///     quorate_protocols::time::synchronizer::Synchronizer::plant
    Time(quorate_protocols::time::synchronizer::Mutant),
    /// In the machine under a synchronizer.
    Clock(crate::time::ClockMutant),
    /// In what surrounds a member.
    Host(HostMutant),
    /// In a client of the workload.
    Client(ClientMutant),
    /// In a failure detector, in each life of each node.
    Detector(quorate_protocols::detectors::Mutant),
}

/// Which world shows a bug soonest.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum WorldName {
    /// Raft alone: more elections and more changes of members in the same time.
    Raft,
    /// Clocks that are synchronized.
    Time,
    /// The whole service.
    Service,
    /// A failure detector alone.
    Detector(Kind),
}

impl WorldName {
    /// The properties that it checks.
    pub const fn properties(self) -> &'static [&'static str] {
        match self {
            WorldName::Raft => crate::raft::PROPERTIES,
            WorldName::Time => crate::time::PROPERTIES,
            WorldName::Service => crate::service::PROPERTIES,
            WorldName::Detector(kind) => kind.properties(),
        }
    }

    /// The name of its entry in the registry.
    pub const fn name(self) -> &'static str {
        match self {
            WorldName::Raft => "raft",
            WorldName::Time => "time",
            WorldName::Service => "service",
            WorldName::Detector(kind) => kind.name(),
        }
    }
}

/// What clients and operators must do for a bug to show, beside puts.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Work {
    /// Linearizable reads at every member.
    Read,
    /// Deletes, and puts of what was deleted.
    Delete,
    /// Transactions: comparisons, several writes, nested ones, and writes that are refused.
    Txn,
    /// Ranges, with limits and counts.
    Range,
    /// Reads at older revisions.
    History,
    /// Compactions of old revisions.
    Compaction,
    /// Leases: granted, renewed, revoked, left alone, with keys attached.
    Lease,
    /// Watches that are opened, closed and resumed.
    Watch,
    /// Locks by lease and comparison, held through pauses of their clients.
    Lock,
    /// Writes under a lock, some of them long after it was lost.
    Fence,
    /// Requests with names, which are asked again when they are not answered.
    Named,
    /// Checkpoints often, logs and segments short, so that followers are sent states.
    Checkpoint,
    /// Leadership is handed over.
    Transfer,
    /// Members are changed.
    Reconfigure,
    /// Members refuse early because too much waits.
    Overload,
    /// Rare paths are taken on purpose: [`quorate_core::Buggify`].
    RarePaths,
}

/// What a campaign that is to find a bug must have switched on; it may have more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Needs {
    /// Faults without which the bug does not show, or hardly.
    pub faults: &'static [Fault],
    /// What must be asked of the cluster.
    pub work: &'static [Work],
    /// Voters with which it shows soonest.
    pub voters: u64,
}

/// A planted bug that a campaign must catch.
#[derive(Clone, Copy, Debug)]
pub struct MutantCase {
    /// Its name on the command line and in reports.
    pub name: &'static str,
    /// Where it is planted.
    pub plant: Plant,
    /// The property of that world which it must break. A campaign may catch it by another one that
    /// breaks first.
    pub breaks: &'static str,
    /// The bug, paper or manual that it is taken from.
    pub source: &'static str,
    /// What is wrong, in one line.
    pub what: &'static str,
    /// Where it shows soonest.
    pub world: WorldName,
    /// What shows it.
    pub needs: Needs,
}

impl Plant {
    /// The name on a command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Plant::Replica(plant) => plant.name(),
            Plant::Storage(mutant) => mutant.name(),
            Plant::Watch(mutant) => mutant.name(),
            Plant::Time(mutant) => mutant.name(),
            Plant::Clock(mutant) => mutant.name(),
            Plant::Host(mutant) => mutant.name(),
            Plant::Client(mutant) => mutant.name(),
            Plant::Detector(mutant) => mutant.name(),
        }
    }
}

/// A word that names no planted bug of the catalogue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownMutant(pub String);

impl fmt::Display for UnknownMutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = super::cases().map(|case| case.name).collect();
        write!(f, "'{}' is no planted bug; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownMutant {}

/// The case of this name.
///
/// Errors: there is none; the error lists all names.
pub fn case_named(name: &str) -> Result<&'static MutantCase, UnknownMutant> {
    let found = super::cases().find(|case| case.name == name);
    found.ok_or_else(|| UnknownMutant(name.to_owned()))
}
