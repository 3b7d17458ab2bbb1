//! Who belongs to the cluster.

use quorate_core::NodeId;
use std::collections::BTreeSet;

/// The members of a cluster, possibly on their way from one set of voters to another.
///
/// Source: Ongaro and Ousterhout (2014), section 6 (joint consensus); Ongaro (2014), section 4.2.1
/// (learners).
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Configuration {
    /// Who votes, or will vote once the change is complete.
    pub incoming: BTreeSet<NodeId>,
    /// Who voted before. Not empty exactly while a change is under way.
    pub outgoing: BTreeSet<NodeId>,
    /// Who only listens.
    pub learners: BTreeSet<NodeId>,
}

impl Configuration {
    /// A settled configuration of voters.
    pub fn of(voters: impl IntoIterator<Item = NodeId>) -> Configuration {
        Configuration { incoming: voters.into_iter().collect(), ..Configuration::default() }
    }

    /// True while a change is under way: both sets of voters must agree.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// True if `id` votes in either set.
    pub fn is_voter(&self, id: NodeId) -> bool {
        self.incoming.contains(&id) || self.outgoing.contains(&id)
    }

    /// True if `id` belongs to the cluster in any way.
    pub fn contains(&self, id: NodeId) -> bool {
        self.is_voter(id) || self.learners.contains(&id)
    }

    /// All who vote in either set, in the order of their ids.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.incoming.union(&self.outgoing).copied()
    }

    /// All who belong to the cluster, in the order of their ids.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters().chain(self.learners.iter().copied()).collect()
    }
}
