//! The scenario driver: a protocol's behaviour as a story that a reviewer can read.
//!
//! A transcript is a text file of blocks. A block is some commands, a line `----`, and the exact
//! effects which the commands had; blocks are parted by empty lines and the cluster lives on from
//! block to block. A changed effect is a changed file: changed behaviour shows in review.
//!
//! ```text
//! # Section 5.2: a candidate that hears from a quorum leads its term.
//! cluster nodes=3
//! fire n1 Election
//! sync n1
//! ----
//! n1 timer Election
//!   n1 writes 1: Vote term=1 for=n1
//!   n1 -| n2 RequestVote term=1 [waits for 1]
//! n1 synced 1
//!   n1 -> n2 RequestVote term=1 [durable 1]
//! ```
//!
//! `UPDATE=1 cargo test` rewrites the files; commit only a difference that you understand.
//!
//! | sign | meaning |
//! |---|---|
//! | `n1 -> n2 M` | the message left; `[durable 3]`: after record 3 was on stable storage |
//! | `n1 -\| n2 M [waits for 3]` | held back by the gate until record 3 is on stable storage |
//! | `n1 -x n2 M` | the message is lost |
//! | `n2 <- n1 M` | the message arrives; what it causes is indented below |
//!
//! The commands are described in `command.rs`. Nothing happens by itself: no message arrives, no
//! record becomes durable and no alarm goes off unless the script says so. What the driver has to
//! choose, it chooses in one fixed way, so a transcript has one outcome.
//!
//! After every event the local invariants of the node and [`Transcript::safety`] of the cluster are
//! checked; a broken one panics and names the line of the script.
//!
//! Sources: the data-driven tests of etcd-io/raft and CockroachDB; toyDB's golden scripts.

mod command;
mod golden;
mod network;
mod place;
mod printer;
mod script;
mod words;
mod world;

#[cfg(test)]
mod tests;

pub use golden::{check_folder, play};
pub use words::{Misread, Options, ScriptError};

use quorate_core::{NodeId, Protocol};

/// One place of a cluster before the story begins.
#[derive(Clone, Debug)]
pub struct Seat<P: Protocol> {
    /// What the node knows before its first event.
    pub config: P::Config,
    /// What its stable storage holds already; empty for a new node.
    pub records: Vec<P::Record>,
}

/// The words of one protocol: how a script asks it, and how its values are printed.
///
/// It is implemented by a marker type beside the transcripts, so that neither the protocol knows
/// this driver nor the driver the protocol.
pub trait Transcript {
    /// The protocol.
    type Node: Protocol<Record: Clone>;

    /// The place of `node` in a cluster of `members`, from the `key=value` words of `cluster` (or
    /// of `node`, for one which comes later).
    ///
    /// Errors: a word that says nothing about this protocol.
    fn seat(
        node: NodeId,
        members: &[NodeId],
        options: &mut Options,
    ) -> Result<Seat<Self::Node>, Misread>;

    /// The request that these words ask for.
    fn request(words: &[&str]) -> Result<<Self::Node as Protocol>::Request, Misread>;

    /// A message on one line, its kind first.
    fn message(message: &<Self::Node as Protocol>::Message) -> String;

    /// A record on one line.
    fn record(record: &<Self::Node as Protocol>::Record) -> String;

    /// An indication on one line.
    fn indication(indication: &<Self::Node as Protocol>::Indication) -> String;

    /// The state of a node on one line.
    fn state(node: &Self::Node) -> String;

    /// What recovery finds in the place of a record whose payload is damaged, if this protocol can
    /// name such a record at all.
    fn damaged(
        _record: &<Self::Node as Protocol>::Record,
    ) -> Option<<Self::Node as Protocol>::Record> {
        None
    }

    /// Panics if the nodes, taken together, break a promise of the protocol. Crashed nodes are
    /// left out.
    fn safety(_nodes: &[&Self::Node]) {}
}
