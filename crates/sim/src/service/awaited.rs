//! What the service still owes when its time to recover is up: who does not serve, who has heard
//! nothing, and what has not ended. It names what [`World::has_recovered`] waits for.
//!
//! [`World::has_recovered`]: quorate_drivers::simulate::World::has_recovered

use super::Service;
use quorate_drivers::simulate::{Nodes, World as _};
use std::collections::BTreeMap;

impl Service {
    /// True if nothing is waited for any longer.
    pub(super) fn is_whole_again(&self, nodes: &Nodes<'_, Self>) -> bool {
        // Of few members a majority may be gone, or have lost records that only it had.
        let is_reduced = || (0..nodes.len()).any(|member| nodes.is_dead(member));
        if self.reshaping.is_on() && (self.reshaping.has_lost() || is_reduced()) {
            return true;
        }
        let serving = (0..nodes.len()).all(|member| {
            self.served[member]
                || nodes.is_dead(member)
                || !nodes.is_correct(member)
                || !self.reshaping.serves(self.id(member))
        });
        serving
            && self.reshaping.is_settled()
            && self.operations.is_empty()
            && nodes.up().all(|(_, node)| node.store().leases().len() == 0)
            && !self.watchers.iter().any(|watcher| watcher.is_owed(&self.truth))
    }

    /// A line for each member, operation, lease and watcher that is waited for.
    pub(super) fn still_owed(&self, nodes: &Nodes<'_, Self>) -> Vec<String> {
        let mut owed = self.members_that_do_not_serve(nodes);
        for operation in self.operations.values() {
            let client = self.clients().get(operation.client).cloned().unwrap_or_default();
            owed.push(format!(
                "operation {} of {client} at {} is not answered: {:?}",
                operation.number,
                self.id(operation.member),
                operation.asked
            ));
        }
        let mut leases: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for (at, node) in nodes.up() {
            for (lease, _) in node.store().leases() {
                leases.entry(lease).or_default().push(self.id(at).to_string());
            }
        }
        for (lease, members) in leases {
            owed.push(format!("lease {lease} has not ended at {}", members.join(" ")));
        }
        for (number, watcher) in self.watchers.iter().enumerate() {
            let Some((revision, change)) = watcher.owed(&self.truth).next() else { continue };
            let more = watcher.owed(&self.truth).count() - 1;
            let seat = match watcher.seat {
                Some((member, _)) => format!("listens to {}", self.id(member)),
                None => "has no stream".to_owned(),
            };
            owed.push(format!(
                "watcher {number} {seat} and was not told {:?} of revision {revision}, and {more} \
                 changes after it",
                change.key()
            ));
        }
        owed
    }

    fn members_that_do_not_serve(&self, nodes: &Nodes<'_, Self>) -> Vec<String> {
        let due = |member: &usize| {
            !self.served[*member] && !nodes.is_dead(*member) && nodes.is_correct(*member)
        };
        let told = |member: usize| match nodes.get(member) {
            Some(node) => format!(
                "{} does not serve: {:?} of term {}, applied {}",
                self.id(member),
                node.raft().role(),
                node.raft().term(),
                node.applied().index
            ),
            None => format!("{} does not serve: it is down", self.id(member)),
        };
        (0..nodes.len()).filter(due).map(told).collect()
    }
}
