//! What Raft still owes when its time to recover is up: it names what
//! [`World::has_recovered`](quorate_drivers::simulate::World::has_recovered) waits for.

use super::{Calm, RaftWorld, own};
use quorate_drivers::simulate::Nodes;
use quorate_protocols::consensus::raft::RoleName;

impl RaftWorld {
    /// A line for each thing that is waited for.
    pub(super) fn still_owed(&self, nodes: &Nodes<'_, RaftWorld>) -> Vec<String> {
        let mut owed = Vec::new();
        let Some(Calm { committed, read, .. }) = self.calm else { return owed };
        if committed.is_none() {
            owed.push("no command that was proposed after the faults is committed".to_owned());
        }
        if !read {
            owed.push("no read that was asked for after the faults is confirmed".to_owned());
        }
        let leaders = nodes.up().filter(|(_, raft)| raft.role() == RoleName::Leader);
        let Some((_, leader)) = leaders.max_by_key(|(_, raft)| raft.term()) else {
            owed.push("nobody leads".to_owned());
            owed.extend((0..nodes.len()).map(|node| standing(node, nodes)));
            return owed;
        };
        if leader.configuration().is_joint() {
            owed.push("the change of the members is not over".to_owned());
        }
        let members = leader.configuration().members();
        for node in (0..nodes.len()).filter(|node| members.contains(&own(*node))) {
            let applied = self.judge.members[node].state.position.index;
            let is_due = nodes.is_correct(node) && !nodes.is_dead(node);
            let lags = committed.is_some_and(|committed| applied < committed);
            let is_mending = nodes.get(node).is_none_or(|raft| raft.is_mending());
            if is_due && (lags || is_mending) {
                owed.push(standing(node, nodes));
            }
        }
        owed
    }
}

/// Where a member stands.
fn standing(node: usize, nodes: &Nodes<'_, RaftWorld>) -> String {
    let id = own(node);
    let Some(raft) = nodes.get(node) else {
        return match nodes.is_dead(node) {
            true => format!("{id} is down for ever"),
            false => format!("{id} is down"),
        };
    };
    let (term, last, commit) = (raft.term(), raft.last(), raft.commit_index());
    let mends = if raft.is_mending() { ", and lacks entries that were damaged" } else { "" };
    format!("{id} stands at {:?} of term {term}, last {last}, commit {commit}{mends}", raft.role())
}
