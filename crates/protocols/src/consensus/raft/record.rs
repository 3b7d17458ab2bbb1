//! What a member remembers through a crash.

use super::membership::Configuration;
use bytes::Bytes;
use quorate_core::{Index, NodeId, Position, Term};

/// One place of the replicated log.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Entry {
    /// Its identity.
    pub position: Position,
    /// What was proposed.
    pub payload: Payload,
}

/// What an entry costs besides its command: its share of a message and of memory.
const ENTRY_OVERHEAD_BYTES: usize = 32;

impl Entry {
    /// What this entry counts for in every bound on bytes.
    pub fn size(&self) -> usize {
        let payload = match &self.payload {
            Payload::Noop => 0,
            Payload::Command(command) => command.len(),
            Payload::Membership(configuration) => 8 * configuration.size(),
        };
        ENTRY_OVERHEAD_BYTES + payload
    }
}

/// What an entry says.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Payload {
    /// Nothing: the first entry of a leader, which lets it commit.
    Noop,
    /// A command of the layer above. Shared between disk, peers and apply.
    Command(Bytes),
    /// A configuration, in force from the moment it is appended.
    Membership(Configuration),
}

/// What a member writes to stable storage.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Record {
    /// A new life begins. Questions and answers about reads carry its number, so that an answer to
    /// a former life is not taken for one to this.
    Life {
        /// Counts from 1.
        number: u64,
    },
    /// The term and the vote in it.
    HardState {
        /// Highest term seen.
        term: Term,
        /// Whom this member voted for in it.
        vote: Option<NodeId>,
    },
    /// An entry; if its index is not beyond the last one, it cuts the log off there first.
    Entry(Entry),
    /// Entries up to here are committed. A hint: losing it costs time only.
    Commit(Index),
    /// The layer above holds the state as of `position`; the log goes on after it.
    Snapshot {
        /// Last entry that the state covers.
        position: Position,
        /// The configuration as of that entry.
        configuration: Configuration,
    },
    /// The layer above holds the state as of `position`; the log as it was is given up.
    Replaced {
        /// Last entry that the state covers.
        position: Position,
        /// The configuration as of that entry.
        configuration: Configuration,
    },
    /// Entries were found damaged: until the log reaches `last` again, this member must not claim
    /// that it does not hold them.
    Mending {
        /// The end of the log as it once was.
        last: Position,
    },
    /// The log has reached that end.
    Mended,
    /// A record that was found damaged. Only handed in by storage on recovery, never written.
    Damaged {
        /// Its position, if that is still readable: [`Position::ZERO`] for a record other than an
        /// entry.
        position: Option<Position>,
    },
}
