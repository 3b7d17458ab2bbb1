//! `--force-new-cluster`: the data of one survivor become a cluster of one member.
//!
//! **Problem.** A majority is lost for good. Nobody can be elected, so nobody can be removed.
//!
//! **Idea.** What an election and a change of members would have written is written to the log of
//! the survivor by hand, once, before it starts: a term of its own, a configuration in which it is
//! alone, and the change of the table that gives up all others. All that its log holds counts as
//! committed. From then on it is a usual cluster, and others join it as usual.
//!
//! **What is given up.** Entries that a majority had acknowledged and this member does not hold are
//! lost, and entries that nobody had acknowledged may come to life. The cluster keeps its id; the
//! others of the old one must never be started again, as they might still find a majority among
//! themselves.
//!
//! Source: etcd's flag of that name.

use crate::recover::{self, Found, Home, RecoverError, ReplicaSettings};
use bytes::Bytes;
use quorate_core::{Index, Persist, Position};
use quorate_protocols::consensus::raft::{Configuration, Entry, Payload, Record};
use quorate_replica::members::MembersCommand;
use quorate_replica::{Life, Ticket, seal};
use quorate_storage::Disk;

/// Makes the member at home here the only one of its cluster.
///
/// Errors: those of starting; a member with holes in its log is not made a cluster of.
pub(crate) fn force_new_cluster<D: Disk>(
    disk: D,
    home: &Home,
    settings: &ReplicaSettings,
) -> Result<(), RecoverError> {
    let Found { mut wal, checkpoint, records, .. } = recover::open(disk, home)?;
    let config = settings.replica(Life(0), checkpoint);
    let replica = recover::restore(&config, records)?;
    let raft = replica.raft();
    if raft.is_mending() {
        let why = "entries of the log are damaged".to_owned();
        return Err(RecoverError::Promise { why });
    }
    let (me, last) = (settings.me, raft.last());
    let term = raft.term().next();
    let position = |after: u64| Position { term, index: Index(last.index.0 + after) };
    let entry = |after, payload| Record::Entry(Entry { position: position(after), payload });
    let mut given_up = Vec::new();
    seal(Life(0), Ticket(0), &mut given_up);
    MembersCommand::Force { id: me }.encode(&mut given_up);
    let records = [
        Record::HardState { term, vote: Some(me) },
        entry(1, Payload::Membership(Configuration::of([me]))),
        entry(2, Payload::Command(Bytes::from(given_up))),
        Record::Commit(position(2).index),
    ];
    for record in records {
        wal.append(&record.to_frame());
    }
    wal.sync()?;
    wal.close()?;
    Ok(())
}
