//! Records that speak of a state which is not there.
//!
//! The log says where a state from elsewhere took its place. If that state is found damaged, the
//! replica starts from an older one, and what the log says must not be believed:
//!
//! ```text
//!   state 270   log: .. 300@1 | Replaced 900@2 | 901@2 902@2       900@2 is damaged on disk
//!               what is left: nothing after 270; mending until 902@2 is reached again
//! ```
//!
//! Entries before `Replaced` were given up because the log of the leader was another one, so not
//! even a hint that they are committed may be believed of them.

use quorate_core::Position;
use quorate_protocols::consensus::raft::Record;

/// The records of a log, for a replica whose newest state is as of `held`.
pub(crate) struct HeldRecords<'a> {
    records: &'a mut dyn Iterator<Item = Record>,
    held: Position,
    lost: Option<Position>,
    ended: bool,
}

impl<'a> HeldRecords<'a> {
    /// `records` without the states beyond `held` that they speak of.
    pub(crate) fn new(
        records: &'a mut dyn Iterator<Item = Record>,
        held: Position,
    ) -> HeldRecords<'a> {
        HeldRecords { records, held, lost: None, ended: false }
    }
}

impl Iterator for HeldRecords<'_> {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        while !self.ended {
            match self.records.next() {
                // The log held the entries up to it then, so they stand before it.
                Some(Record::Snapshot { position, .. }) if position.index > self.held.index => {}
                Some(Record::Replaced { position, .. }) if position.index > self.held.index => {
                    self.lost = self.lost.max(Some(position));
                    let first = Position { term: position.term, index: self.held.index.next() };
                    return Some(Record::Damaged { position: Some(first) });
                }
                Some(record) => return Some(record),
                None => self.ended = true,
            }
        }
        // Last, because a former `Mended` speaks of an earlier loss.
        self.lost.take().map(|last| Record::Mending { last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_core::{Index, NodeId, Term};
    use quorate_protocols::consensus::raft::{Config, Configuration, Entry, Payload, Raft};

    fn configuration() -> Configuration {
        Configuration::of([1, 2, 3].map(NodeId))
    }

    fn entry(term: u64, index: u64) -> Record {
        let payload = Payload::Command(Bytes::from_static(b"c"));
        Record::Entry(Entry { position: Position::new(term, index), payload })
    }

    /// What a member restores that has a state as of `held` and these records.
    fn restored(held: Position, records: Vec<Record>) -> Raft {
        let first = Record::Snapshot { position: held, configuration: configuration() };
        let config = Config::new(NodeId(2), configuration());
        let mut records = records.into_iter();
        let held = HeldRecords::new(&mut records, held);
        quorate_core::Protocol::restore(&config, &mut [first].into_iter().chain(held))
    }

    /// Entries 4 and 5 were never committed; 9@2 took the place of them, and went bad.
    fn replaced_at_nine(then: Vec<Record>) -> Vec<Record> {
        let hard_state = Record::HardState { term: Term(2), vote: None };
        let position = Position::new(2, 9);
        let replaced = Record::Replaced { position, configuration: configuration() };
        let before = [hard_state, entry(1, 4), entry(1, 5), replaced, Record::Commit(Index(9))];
        before.into_iter().chain(then).collect()
    }

    #[test]
    fn a_lost_state_leaves_nothing_after_the_older_one() {
        for then in [vec![], vec![entry(2, 10), entry(2, 11)], vec![Record::Mended]] {
            let raft = restored(Position::new(1, 3), replaced_at_nine(then));
            assert_eq!(raft.restore_error(), None);
            assert_eq!(raft.last(), Position::new(1, 3), "what was given up stays given up");
            assert_eq!(raft.commit_index(), Index(3));
            assert!(raft.is_mending(), "it acknowledged what it no longer holds");
        }
    }

    #[test]
    fn a_state_that_is_there_is_believed() {
        let records = replaced_at_nine(vec![entry(2, 10)]);
        let raft = restored(Position::new(2, 9), records);
        assert_eq!(raft.last(), Position::new(2, 10));
        assert_eq!(raft.commit_index(), Index(9));
        assert!(!raft.is_mending());
    }

    #[test]
    fn entries_before_a_lost_state_of_our_own_log_stay() {
        let hard_state = Record::HardState { term: Term(1), vote: None };
        let position = Position::new(1, 5);
        let snapshot = Record::Snapshot { position, configuration: configuration() };
        let records = vec![hard_state, entry(1, 4), entry(1, 5), snapshot, entry(1, 6)];
        let raft = restored(Position::new(1, 3), records);
        assert_eq!(raft.last(), Position::new(1, 6));
        assert_eq!(raft.base(), Position::new(1, 3));
        assert!(!raft.is_mending());
    }
}
