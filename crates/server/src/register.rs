//! The members as the tasks of this process see them: what the log wants, what is in force, and
//! what each told of itself when a connection began, until the log says so as well.

use crate::handle::Member;
use quorate_core::NodeId;
use quorate_protocols::consensus::raft::Configuration;
use quorate_replica::members::{Members, Seat, Wanted};
use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is known of the members.
#[derive(Debug, Default)]
pub(crate) struct Register(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    table: Members,
    configuration: Configuration,
    told: BTreeMap<u64, (String, Vec<String>)>,
}

impl Register {
    /// The members, but those who are leaving.
    pub(crate) fn members(&self) -> Vec<Member> {
        let known = self.read();
        let member = |(id, seat): (NodeId, &Seat)| {
            let told = known.told.get(&id.0).filter(|_| !seat.started);
            let (name, client_urls) = match told {
                Some((name, client_urls)) => (name.clone(), client_urls.clone()),
                None => (seat.name.clone(), seat.client_urls.clone()),
            };
            let is_learner = !known.configuration.is_voter(id);
            let (peer_urls, is_witness) = (seat.peer_urls.clone(), seat.witness);
            Member { id: id.0, name, peer_urls, client_urls, is_learner, is_witness }
        };
        let stays = known.table.iter().filter(|(_, seat)| seat.wanted != Wanted::Gone);
        stays.map(member).collect()
    }

    /// What the log wants.
    pub(crate) fn table(&self) -> Members {
        self.read().table.clone()
    }

    /// The log wants this.
    pub(crate) fn want(&self, table: Members) {
        let mut known = self.write();
        known.told.retain(|id, _| table.get(NodeId(*id)).is_some());
        known.table = table;
    }

    /// This configuration is in force.
    pub(crate) fn configure(&self, configuration: Configuration) {
        self.write().configuration = configuration;
    }

    /// Takes in what a member tells of itself. What is said of who is no member is not kept.
    pub(crate) fn introduce(&self, id: u64, name: String, client_urls: Vec<String>) {
        let mut known = self.write();
        if known.table.get(NodeId(id)).is_some() {
            known.told.insert(id, (name, client_urls));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_counts_for_more_than_what_a_member_says() {
        let register = Register::default();
        register.introduce(7, "stranger".to_owned(), Vec::new());
        register.want(Members::of([(NodeId(1), Seat::of(vec!["http://a:1".to_owned()]))]));
        let name = || register.members().iter().map(|m| m.name.clone()).collect::<Vec<_>>();
        assert_eq!(name(), [""]);
        register.introduce(1, "a".to_owned(), vec!["http://a:2".to_owned()]);
        assert_eq!(name(), ["a"]);
        assert!(register.members()[0].is_learner, "nothing is in force");
        register.configure(Configuration::of([NodeId(1)]));
        assert!(!register.members()[0].is_learner);
        let seat = Seat { name: "b".to_owned(), started: true, ..Seat::default() };
        register.want(Members::of([(NodeId(1), seat)]));
        assert_eq!(name(), ["b"]);
    }
}
