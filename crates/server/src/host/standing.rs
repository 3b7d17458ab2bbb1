//! What this member is among the members, as tasks outside of the loop see it.

use super::Shared;
use crate::peers::Shared as PeersShared;
use quorate_core::NodeId;
use quorate_protocols::consensus::raft::Configuration;
use quorate_replica::members::Members;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Shared {
    /// The members are these now.
    pub(crate) fn set_members(&self, table: Members) {
        let others = table.iter().map(|(id, _)| id).filter(|id| id.0 != self.member_id);
        self.metrics.follow(others);
        let is_witness = table.is_witness(NodeId(self.member_id));
        self.is_witness.store(is_witness, Ordering::Relaxed);
        self.register.want(table);
    }

    /// The configuration is this one now.
    pub(crate) fn set_configuration(&self, configuration: Configuration) {
        let is_learner = !configuration.is_voter(NodeId(self.member_id));
        self.is_learner.store(is_learner, Ordering::Relaxed);
        self.register.configure(configuration);
    }

    /// Puts in the links. Panics: there are some already.
    pub(crate) fn set_peers(&self, peers: Arc<PeersShared>) {
        self.peers.set(peers).expect("a member has its links once");
    }

    /// True if changes of members may be put into the log.
    pub(crate) fn may_change(&self) -> bool {
        self.peers.get().is_some_and(|peers| peers.may_change())
    }

    /// True if changes of limits may be put into the log.
    pub(crate) fn may_limit(&self) -> bool {
        self.peers.get().is_some_and(|peers| peers.may_limit())
    }

    /// True if this member does not vote.
    pub(crate) fn is_learner(&self) -> bool {
        self.is_learner.load(Ordering::Relaxed)
    }

    /// True if this member keeps no store.
    pub(crate) fn is_witness(&self) -> bool {
        self.is_witness.load(Ordering::Relaxed)
    }
}
