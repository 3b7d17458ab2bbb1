//! What must hold of a Raft cluster after every turn, each with the name under which a report
//! tells of it.
//!
//! | name | meaning | source |
//! |---|---|---|
//! | those of the logs | see [`crate::logs`] | paper 5.2 to 5.4 |
//! | `state-machine-safety` | nobody commits another entry at an index | paper 5.4.3 |
//! | `committed-in-order` | told in order, without a gap, once in a life | |
//! | `acknowledged-durable` | what is committed is on the disks of a quorum | paper 5.3 |
//! | `applied-once` | a command is committed at one index only | dissertation 6.3 |
//! | `refused-never-applied` | a refusal is definite | |
//! | `recovery` | who was not damaged starts again | |
//! | `linearizable-reads` | a read sees all that was committed before it was asked | dissertation 6.4 |
//!
//! All is judged from the turn that is over and from what is remembered of earlier ones, so that a
//! turn costs what it changed.
//!
//! Sources: paper and dissertation as in [`quorate_protocols::consensus::raft`].

use super::disk::{RaftDisk, State};
use crate::logs::Logs;
use quorate_core::{Index, NodeId, Position, Term};
use quorate_drivers::simulate::Broken;
use quorate_protocols::consensus::raft::{Configuration, Entry, Payload, Raft, RoleName};
use std::collections::{BTreeMap, BTreeSet};

/// What is remembered of one member.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// Its state machine, in this life.
    pub(super) state: State,
    /// The next index that must be told in this life.
    expected: Index,
    /// States that were installed in this life: the next index may be the one after any of them.
    installed: BTreeSet<Index>,
    /// The configuration in force at the end of its last turn.
    configuration: Configuration,
}

/// What is remembered of the run.
#[derive(Debug, Default)]
pub(super) struct Judge {
    pub(super) members: Vec<Member>,
    logs: Logs,
    /// What is committed for ever, with the digest of everything up to it; from index 1.
    chosen: Vec<(Entry, u64)>,
    /// What was told for the first time in this turn.
    fresh: Option<Position>,
    applied: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    /// Reads that wait: at which member, and what they must see.
    reads: BTreeMap<u64, (usize, Index)>,
}

impl Judge {
    /// A cluster whose members have yet to boot.
    pub(super) fn begin(&mut self, nodes: usize) {
        let state =
            State { position: Position::ZERO, digest: 0, configuration: Configuration::default() };
        let member = Member {
            state,
            expected: Index(1),
            installed: BTreeSet::new(),
            configuration: Configuration::default(),
        };
        self.members = vec![member; nodes];
        self.logs.begin(nodes);
    }

    /// A member begins a life.
    pub(super) fn boot(&mut self, at: usize, raft: &Raft, disk: &RaftDisk) {
        self.logs.boot(at);
        self.members[at] = Member {
            state: disk.state.clone(),
            expected: raft.base().index.next(),
            installed: BTreeSet::new(),
            configuration: raft.configuration().clone(),
        };
    }

    /// The reads of a member that has gone down are never answered.
    pub(super) fn down(&mut self, at: usize) {
        self.reads.retain(|_, (node, _)| *node != at);
    }

    /// A state has come from elsewhere.
    pub(super) fn install(&mut self, at: usize, state: &State) {
        let member = &mut self.members[at];
        if state.position.index > member.state.position.index {
            member.state = state.clone();
        }
        member.installed.insert(state.position.index);
    }

    /// The last index that anybody was told to be committed.
    pub(super) fn last(&self) -> Index {
        Index(self.chosen.len() as u64)
    }

    /// A client asks to read.
    pub(super) fn read(&mut self, ticket: u64, at: usize) {
        self.reads.insert(ticket, (at, self.last()));
    }

    /// The read is answered.
    pub(super) fn read_ready(&mut self, ticket: u64, read_index: Index) -> Result<(), Broken> {
        let Some((_, floor)) = self.reads.remove(&ticket) else {
            let why = format!("read {ticket} does not wait, or is answered twice");
            return Err(Broken::new("linearizable-reads", why));
        };
        if read_index >= floor {
            return Ok(());
        }
        let why =
            format!("read {ticket} was asked after {floor} was committed, and sees {read_index}");
        Err(Broken::new("linearizable-reads", why))
    }

    /// The read is refused.
    pub(super) fn read_refused(&mut self, ticket: u64) {
        self.reads.remove(&ticket);
    }

    /// A command is refused.
    pub(super) fn refuse(&mut self, command: u64) -> Result<(), Broken> {
        let broken = |why: String| Err(Broken::new("refused-never-applied", why));
        if self.applied.contains(&command) {
            return broken(format!("command {command} is refused after it was committed"));
        }
        match self.refused.insert(command) {
            true => Ok(()),
            false => broken(format!("command {command} is refused a second time")),
        }
    }

    /// A member tells that an entry is committed. True if nobody had told it before.
    pub(super) fn commit(&mut self, at: usize, term: Term, entry: Entry) -> Result<bool, Broken> {
        let Entry { position, .. } = entry;
        self.in_order(at, position.index)?;
        let place = position.index.0 as usize - 1;
        let is_new = place == self.chosen.len();
        if place > self.chosen.len() {
            let why = format!("{position} is committed before what stands before it");
            return Err(Broken::new("committed-in-order", why));
        }
        if is_new {
            self.choose(term, entry.clone())?;
        }
        let (first, digest) = &self.chosen[place];
        if *first != entry {
            let why = format!("{} and {position} are both committed", first.position);
            return Err(Broken::new("state-machine-safety", why));
        }
        let member = &mut self.members[at];
        if position.index > member.state.position.index {
            member.state.position = position;
            member.state.digest = *digest;
            if let Payload::Membership(configuration) = entry.payload {
                member.state.configuration = configuration;
            }
        }
        Ok(is_new)
    }

    fn in_order(&mut self, at: usize, index: Index) -> Result<(), Broken> {
        let member = &mut self.members[at];
        let jumps = index.0 > 0 && member.installed.contains(&index.prev());
        if index == member.expected || (jumps && index > member.expected) {
            member.expected = index.next();
            return Ok(());
        }
        let why = format!("index {index} is told where {} is due", member.expected);
        Err(Broken::new("committed-in-order", why))
    }

    fn choose(&mut self, term: Term, entry: Entry) -> Result<(), Broken> {
        let before = self.chosen.last().map_or(0, |(_, digest)| *digest);
        let mut digest = before ^ entry.position.term.0.rotate_left(32) ^ entry.position.index.0;
        if let Payload::Command(bytes) = &entry.payload {
            let command = super::command_number(bytes);
            if !self.applied.insert(command) {
                let why = format!("command {command} is committed again, at {}", entry.position);
                return Err(Broken::new("applied-once", why));
            }
            if self.refused.contains(&command) {
                let why = format!("command {command} was refused, and is committed");
                return Err(Broken::new("refused-never-applied", why));
            }
            digest ^= command.rotate_left(17);
        }
        self.fresh = Some(entry.position);
        self.logs.choose(term, entry.position);
        self.chosen.push((entry, digest.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        Ok(())
    }

    /// A turn is over. The log of a member begins after a committed entry, and its state is that of
    /// the others.
    pub(super) fn turn(&mut self, at: usize, raft: &Raft) -> Result<(), Broken> {
        self.logs.turn(at, raft)?;
        self.logs.state_is_agreed(own(at), raft.base())?;
        self.logs.state_is_agreed(own(at), self.members[at].state.position)
    }

    /// What was told first in this turn, if its durability is still to be judged: by the leader
    /// that told it, under the configuration with which it decided.
    pub(super) fn take_fresh(
        &mut self,
        at: usize,
        raft: &Raft,
    ) -> Option<(Position, Configuration)> {
        let fresh = self.fresh.take();
        let present = raft.configuration().clone();
        let before = std::mem::replace(&mut self.members[at].configuration, present);
        Some((fresh?, before)).filter(|_| raft.role() == RoleName::Leader)
    }
}

/// The name of a member.
pub(super) fn own(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}
