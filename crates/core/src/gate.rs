//! Durability as a property of a send.

use crate::NodeId;
use std::collections::VecDeque;

/// A count of records in a node's own write-ahead log since it was started.
pub type Lsn = u64;

/// Holds messages back until the records written before them are on stable storage.
///
/// Every driver uses this one gate, so no protocol has a storage-completion event. A crash drops
/// the waiting messages together with the records that were not synced.
///
/// ```text
/// write r1, send A once durable, write r2, send B once durable, send C at once
///
///    C leaves now            synced(1) releases A            synced(2) releases B
/// ```
///
/// Bound: it holds as many messages as the protocol sends between two syncs; drivers bound those
/// by bounding a batch.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Gate<M> {
    written: Lsn,
    durable: Lsn,
    waiting: VecDeque<(Lsn, NodeId, M)>,
}

impl<M> Default for Gate<M> {
    fn default() -> Self {
        Gate { written: 0, durable: 0, waiting: VecDeque::new() }
    }
}

impl<M> Gate<M> {
    /// Counts one written record and returns its number.
    pub fn wrote(&mut self) -> Lsn {
        self.written += 1;
        self.written
    }

    /// Returns the message if nothing before it is still on its way to disk, else keeps it.
    pub fn admit(&mut self, to: NodeId, message: M) -> Option<(NodeId, M)> {
        if self.written == self.durable {
            assert!(self.waiting.is_empty(), "a message waits although every record is durable");
            return Some((to, message));
        }
        self.waiting.push_back((self.written, to, message));
        None
    }

    /// Every record up to and including number `upto` is durable: returns the messages that
    /// waited for them, in the order in which they were sent.
    ///
    /// Panics: if `upto` goes back or lies beyond what was written.
    pub fn synced(&mut self, upto: Lsn) -> impl Iterator<Item = (NodeId, M)> + '_ {
        assert!(self.durable <= upto, "durability went back from {} to {upto}", self.durable);
        assert!(upto <= self.written, "synced {upto} of {} written records", self.written);
        self.durable = upto;
        let ready = self.waiting.partition_point(|(lsn, ..)| *lsn <= upto);
        self.waiting.drain(..ready).map(|(_, to, message)| (to, message))
    }

    /// Records written so far.
    pub fn written(&self) -> Lsn {
        self.written
    }

    /// Records known to be on stable storage.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Messages held back.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(2);

    #[test]
    fn a_message_waits_for_the_records_before_it_only() {
        let mut gate = Gate::default();
        assert_eq!(gate.admit(PEER, "free"), Some((PEER, "free")));
        let first = gate.wrote();
        assert_eq!(gate.admit(PEER, "after first"), None);
        let second = gate.wrote();
        assert_eq!(gate.admit(PEER, "after second"), None);
        assert_eq!(gate.synced(first).collect::<Vec<_>>(), [(PEER, "after first")]);
        assert_eq!(gate.waiting(), 1);
        assert_eq!(gate.synced(second).collect::<Vec<_>>(), [(PEER, "after second")]);
    }

    #[test]
    #[should_panic(expected = "durability went back")]
    fn durability_never_goes_back() {
        let mut gate = Gate::<()>::default();
        gate.wrote();
        gate.wrote();
        gate.synced(2).for_each(drop);
        gate.synced(1).for_each(drop);
    }
}
