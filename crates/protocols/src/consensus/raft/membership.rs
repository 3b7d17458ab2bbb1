//! Membership: who belongs to the cluster, and how that changes.
//!
//! ```text
//!    old voters ---- joint: a majority of old *and* of new ---- new voters
//!              appended                          appended once the joint one is committed
//! ```
//!
//! A configuration is in force from the moment it is appended, committed or not, and no longer if
//! it is cut off. At no moment can old and new voters decide without each other. Learners only
//! listen; they catch up before they are made voters.
//!
//! Sources: paper, section 6; dissertation 4.2.1 (learners), 4.2.2 (a leader that removes itself),
//! 4.3 (joint consensus).

use super::mutant::Mutant;
use super::progress::Progress;
use super::record::Payload;
use super::{Indication, Raft, ReconfigureRefusal, Role, Standing};
use quorate_core::{Context, Index, NodeId};
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

    /// Members, counted once for each set that they belong to.
    pub fn size(&self) -> usize {
        self.incoming.len() + self.outgoing.len() + self.learners.len()
    }

    /// All who belong to the cluster, in the order of their ids.
    pub fn members(&self) -> BTreeSet<NodeId> {
        self.voters().chain(self.learners.iter().copied()).collect()
    }
}

impl Raft {
    /// Begins a change of members.
    pub(super) fn reconfigure(
        &mut self,
        voters: BTreeSet<NodeId>,
        learners: BTreeSet<NodeId>,
        cx: &mut Context<'_, Raft>,
    ) {
        if let Some(why) = self.refuses_to_reconfigure(&voters, &learners) {
            return cx.indicate(Indication::ReconfigureRefused { why });
        }
        let present = &self.configuration().incoming;
        // With the same voters, old and new quorums are the same: nothing to bridge.
        let direct = *present == voters || self.planted(Mutant::JointSkipped);
        let outgoing = if direct { BTreeSet::new() } else { present.clone() };
        let next = Configuration { incoming: voters, outgoing, learners };
        self.append_own(Payload::Membership(next), cx);
    }

    /// A change may begin when the last one is settled, and this leader has committed an entry of
    /// its own: otherwise two changes could be under way that do not know of each other.
    fn refuses_to_reconfigure(
        &self,
        voters: &BTreeSet<NodeId>,
        learners: &BTreeSet<NodeId>,
    ) -> Option<ReconfigureRefusal> {
        let (position, present) = self.log.configuration();
        let ready = self.has_committed_in_term() || self.planted(Mutant::ReconfigureEarly);
        if !self.is_leader() {
            Some(ReconfigureRefusal::NotLeader)
        } else if self.transfer.is_some() {
            Some(ReconfigureRefusal::Transferring)
        } else if voters.is_empty() || !voters.is_disjoint(learners) {
            Some(ReconfigureRefusal::Malformed)
        } else if !ready {
            Some(ReconfigureRefusal::NotReady)
        } else if present.is_joint() || position.index > self.commit {
            Some(ReconfigureRefusal::InProgress)
        } else if present.incoming == *voters && present.learners == *learners {
            Some(ReconfigureRefusal::Unchanged)
        } else {
            None
        }
    }

    /// Leaves the joint configuration once it is committed, whoever began the change.
    pub(super) fn complete_change(&mut self, cx: &mut Context<'_, Raft>) {
        let (position, present) = self.log.configuration();
        let settled = position.index <= self.commit && self.has_committed_in_term();
        let leaves = settled || self.planted(Mutant::JointLeftEarly);
        if !(self.is_leader() && present.is_joint() && leaves) {
            return;
        }
        let next = Configuration { outgoing: BTreeSet::new(), ..present.clone() };
        self.append_own(Payload::Membership(next), cx);
    }

    /// A leader serves everybody in the configuration in force. Those who left are served until
    /// they know it, see `check_quorum`.
    pub(super) fn serve_members(&mut self) {
        let last = self.log.last().index;
        let members = self.configuration().members();
        let Role::Leader(leader) = &mut self.role else { return };
        for id in members {
            leader.progress.entry(id).or_insert_with(|| Progress::new(last));
        }
    }

    /// Tells the layer above which configurations among the entries `first..=last` are now firm.
    pub(super) fn configurations_committed(
        &self,
        first: Index,
        last: Index,
        cx: &mut Context<'_, Raft>,
    ) {
        let count = self.log.fitting(first, last, usize::MAX);
        for entry in self.log.slice(first, count) {
            if let Payload::Membership(configuration) = &entry.payload {
                let configuration = configuration.clone();
                let standing = Standing::Committed;
                cx.indicate(Indication::Configured { configuration, standing });
            }
        }
    }

    /// Tells the layer above which configuration is in force, if it is another than before.
    pub(super) fn tell_configuration(&mut self, cx: &mut Context<'_, Raft>) {
        let (position, configuration) = self.log.configuration();
        let position = *position;
        let belongs = configuration.contains(self.id());
        if self.told_configuration != Some(position) {
            self.told_configuration = Some(position);
            let configuration = configuration.clone();
            let standing = Standing::Adopted;
            cx.indicate(Indication::Configured { configuration, standing });
        }
        if belongs {
            self.was_member = true;
        } else if self.was_member && position.index <= self.commit {
            self.was_member = false;
            cx.indicate(Indication::Removed);
        }
    }

    /// A leader that a committed change has made something else steps down, after it has told its
    /// followers (paper, section 6).
    pub(super) fn retire(&mut self, cx: &mut Context<'_, Raft>) {
        let (position, configuration) = self.log.configuration();
        if position.index <= self.commit && !configuration.is_voter(self.id()) {
            self.follow(self.term, None, cx);
        }
    }
}
