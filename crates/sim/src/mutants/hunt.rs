//! How one planted bug is hunted: what is run, and under which plan.

use super::plant::{HostMutant, MutantCase, Plant, WorldName};
use crate::detectors::Kind;
use crate::raft::RaftWorld;
use crate::service::Service;
use crate::time::TimeWorld;
use quorate_core::{Protocol, SystemModel};
use quorate_drivers::simulate::{Plan, Subject};
use quorate_protocols::detectors::perfect::Perfect;
use std::time::Duration;

/// Faults of each run of a hunt last so long.
const LASTING: Duration = Duration::from_secs(12);

impl MutantCase {
    /// What is run: the world that shows the bug soonest, with the bug in it.
    pub fn subject(&self) -> Box<dyn Subject> {
        self.world(Some(self.plant))
    }

    /// The same without the bug, which must hold.
    pub fn clean(&self) -> Box<dyn Subject> {
        self.world(None)
    }

    fn world(&self, plant: Option<Plant>) -> Box<dyn Subject> {
        let case = *self;
        match self.world {
            WorldName::Service => Box::new(move || Service::focused(&case, plant)),
            WorldName::Time => match plant {
                Some(Plant::Time(mutant)) => Box::new(move || TimeWorld::with_mutant(mutant)),
                Some(Plant::Clock(mutant)) => Box::new(move || TimeWorld::on_machines_with(mutant)),
                Some(other) => panic!("{} is no bug of clocks", other.name()),
                None => Box::new(TimeWorld::default),
            },
            WorldName::Raft => match plant {
                Some(Plant::Replica(quorate_replica::Plant::Raft(mutant))) => {
                    Box::new(move || RaftWorld::with_mutant(mutant))
                }
                Some(Plant::Host(mutant)) => Box::new(move || RaftWorld::on_hosts_with(mutant)),
                Some(other) => panic!("{} is no bug of Raft alone", other.name()),
                None => match self.plant {
                    Plant::Host(HostMutant::ClockMonitorBlind) => {
                        Box::new(RaftWorld::on_watched_clocks)
                    }
                    Plant::Host(_) => Box::new(RaftWorld::on_kept_clocks),
                    _ => Box::new(RaftWorld::default),
                },
            },
            WorldName::Detector(kind) => match plant {
                Some(Plant::Detector(mutant)) => kind.subject(Some(mutant)),
                Some(other) => panic!("{} is no bug of a detector", other.name()),
                None => kind.subject(None),
            },
        }
    }

    /// Only the faults that the bug needs, all of them in each run.
    ///
    /// Panics: if the case names a fault that its model forbids: that of a data centre, but for the
    /// perfect detector, which needs more.
    pub fn plan(&self) -> Plan {
        let model = match self.world {
            WorldName::Detector(Kind::Perfect) => Perfect::MODEL,
            _ => SystemModel::DATA_CENTRE,
        };
        let plan = Plan::of(model).with_nodes(self.needs.voters as usize);
        let plan = plan.with_faults(self.needs.faults).expect("faults of its model");
        Plan { all: true, ..plan.lasting(LASTING) }
    }
}
