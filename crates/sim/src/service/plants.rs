//! The bug that is planted in a simulated service, if there is one. Without the cargo feature
//! `mutants` there never is, and the compiler drops the questions.

use super::members::Read;
#[cfg(feature = "mutants")]
use crate::mutants::{ClientMutant, HostMutant, Plant};
#[cfg(feature = "mutants")]
use quorate_core::Index;
use quorate_replica::Replica;
use quorate_replica::store::Range;
#[cfg(feature = "mutants")]
use quorate_replica::store::Store;
use quorate_server::watch::desk::WatchDesk;
#[cfg(feature = "mutants")]
use std::collections::BTreeMap;

/// What is planted.
#[derive(Debug, Default)]
pub(super) struct Plants {
    #[cfg(feature = "mutants")]
    plant: Option<Plant>,
    /// Held as long as the service is: a service lives on one thread.
    #[cfg(feature = "mutants")]
    storage: Option<quorate_storage::Planted>,
    /// Of members that answer from a copy: reads so far, and the copy.
    #[cfg(feature = "mutants")]
    copies: BTreeMap<usize, (u32, (Index, Store))>,
}

#[cfg(feature = "mutants")]
impl Plants {
    pub(super) fn of(plant: Plant) -> Plants {
        Plants { plant: Some(plant), storage: None, copies: BTreeMap::new() }
    }

    /// The run begins.
    pub(super) fn begin(&mut self) {
        if let Some(Plant::Storage(mutant)) = self.plant {
            self.storage = Some(quorate_storage::Planted::new(Some(mutant)));
        }
    }

    /// A member begins a life.
    pub(super) fn put_into(&self, replica: &mut Replica, desk: &mut WatchDesk) {
        match self.plant {
            Some(Plant::Replica(plant)) => replica.plant(plant),
            Some(Plant::Watch(mutant)) => desk.plant(mutant),
            _ => {}
        }
    }

    fn is_host(&self, mutant: HostMutant) -> bool {
        self.plant == Some(Plant::Host(mutant))
    }

    fn is_client(&self, mutant: ClientMutant) -> bool {
        self.plant == Some(Plant::Client(mutant))
    }

    pub(super) fn lost_disks_rejoin(&self) -> bool {
        self.is_host(HostMutant::LostDiskRejoins)
    }

    /// What a member answers to a read that need not see the latest.
    pub(super) fn read(&mut self, member: usize, node: &Replica, range: &Range) -> Read {
        if !self.is_host(HostMutant::StaleCopy) {
            return Read::of(node.applied().index, node.store(), range);
        }
        let fresh = || (node.applied().index, node.store().clone());
        let (reads, (index, store)) = self.copies.entry(member).or_insert_with(|| (0, fresh()));
        *reads += 1;
        if *reads % 8 == 0 {
            (*index, *store) = fresh();
        }
        Read::of(*index, store, range)
    }

    pub(super) fn releases_first(&self) -> bool {
        self.is_host(HostMutant::RepairReleasesFirst)
    }

    pub(super) fn lease_unchecked(&self) -> bool {
        self.is_client(ClientMutant::LockWithoutLeaseCheck)
    }

    pub(super) fn unfenced(&self) -> bool {
        self.is_client(ClientMutant::LockWithoutFencing)
    }

    pub(super) fn retried_blindly(&self) -> bool {
        self.is_client(ClientMutant::RetriedBlindly)
    }
}

#[cfg(not(feature = "mutants"))]
impl Plants {
    pub(super) fn begin(&mut self) {}

    pub(super) fn put_into(&self, _replica: &mut Replica, _desk: &mut WatchDesk) {}

    pub(super) fn read(&mut self, _member: usize, node: &Replica, range: &Range) -> Read {
        Read::of(node.applied().index, node.store(), range)
    }

    pub(super) fn lost_disks_rejoin(&self) -> bool {
        false
    }

    pub(super) fn releases_first(&self) -> bool {
        false
    }

    pub(super) fn lease_unchecked(&self) -> bool {
        false
    }

    pub(super) fn unfenced(&self) -> bool {
        false
    }

    pub(super) fn retried_blindly(&self) -> bool {
        false
    }
}
