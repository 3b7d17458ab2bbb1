//! What a crash, and a bad disk, leave of a member.
//!
//! Records are replayed in the order in which they were written. What is damaged leaves a hole, and
//! the log ends before the first hole that nothing filled later:
//!
//! ```text
//!    10@2 11@2 12@4 [damaged] 14@4 15@4        log: 10@2 11@2 12@4      mending: 15@4
//! ```
//!
//! The member once answered for everything up to the end of the old log, so it remembers that end
//! (`mending`) and neither campaigns nor helps a shorter log to win until it holds as much again.
//! If the damaged record can have been its vote, it must not take part at all.
//!
//! A record whose identity is lost may have been an entry or may have said that the log was
//! replaced by a state. Only what was known to be committed before it is kept.
//!
//! Source: after Alagappan et al. (FAST 2018), more conservatively: whole tails are fetched again.

use super::forward::Forwards;
use super::lease::Promise;
use super::patience::Patience;
use super::read::Questions;
use super::record::{Entry, Payload, Record};
use super::{Config, Configuration, Log, Owed, Raft, Role};
use quorate_core::{Index, NodeId, Position, Term, Time};
use std::collections::BTreeMap;
use std::fmt;

/// Why a member must not take part again under its id.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RestoreError {
    /// A damaged record may have been the last vote: the member could vote twice in a term. Remove
    /// it from the cluster and add it as a new one.
    VoteDamaged,
    /// Entries are damaged and there is no other voter to fetch them from. Restore a backup.
    NobodyToMendFrom,
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RestoreError::VoteDamaged => {
                "the record of this member's last vote is damaged: remove the member from the \
                 cluster and add it as a new one"
            }
            RestoreError::NobodyToMendFrom => {
                "entries of the only voter's log are damaged: restore a backup"
            }
        })
    }
}

impl std::error::Error for RestoreError {}

/// One place of the log while it is replayed.
#[derive(Debug)]
enum Slot {
    Whole(Payload),
    Damaged,
}

/// The records seen so far.
#[derive(Debug)]
struct Replay {
    life: u64,
    term: Term,
    vote: Option<NodeId>,
    vote_in_doubt: bool,
    base: Position,
    configuration: Configuration,
    slots: BTreeMap<Index, (Term, Slot)>,
    hint: Index,
    mending: Option<Position>,
    /// From here on the log cannot be trusted, because a record of unknown kind is lost.
    doubt: Option<Index>,
    /// The lost record may have been the last entry.
    end_in_doubt: bool,
}

impl Replay {
    fn add(&mut self, record: Record) {
        match record {
            Record::Life { number } => self.life = self.life.max(number),
            Record::HardState { term, vote } => {
                (self.term, self.vote) = (term, vote);
                self.vote_in_doubt = false;
            }
            Record::Entry(Entry { position, payload }) => {
                self.put(position, Slot::Whole(payload));
            }
            Record::Commit(index) => self.hint = self.hint.max(index),
            Record::Snapshot { position, configuration } if position.index > self.base.index => {
                self.slots = self.slots.split_off(&position.index.next());
                self.rebase(position, configuration);
                self.doubt = self.doubt.map(|doubt| doubt.max(position.index.next()));
            }
            Record::Replaced { position, configuration } if position.index > self.base.index => {
                self.slots.clear();
                self.rebase(position, configuration);
                (self.doubt, self.end_in_doubt) = (None, false);
            }
            Record::Snapshot { .. } | Record::Replaced { .. } => {} // older than what we have
            Record::Mending { last } => self.mending = self.mending.max(Some(last)),
            Record::Mended => self.mending = None,
            Record::Damaged { position: Some(position) } if position != Position::ZERO => {
                self.put(position, Slot::Damaged);
            }
            Record::Damaged { position } => self.lose(position),
        }
    }

    /// An entry takes its place, and what stood there and after it is gone.
    fn put(&mut self, position: Position, slot: Slot) {
        if position.index <= self.base.index {
            return;
        }
        self.slots.split_off(&position.index);
        self.slots.insert(position.index, (position.term, slot));
        if self.doubt.is_some_and(|doubt| position.index <= doubt) {
            (self.doubt, self.end_in_doubt) = (None, false);
        }
    }

    fn rebase(&mut self, position: Position, configuration: Configuration) {
        self.base = position;
        self.configuration = configuration;
        self.term = self.term.max(position.term);
    }

    /// A record is lost of which only this much is known: whether it can have been an entry.
    fn lose(&mut self, position: Option<Position>) {
        self.life += 1;
        self.vote_in_doubt = true;
        let firm = self.hint.max(self.base.index).next();
        self.doubt = Some(self.doubt.map_or(firm, |doubt| doubt.min(firm)));
        self.end_in_doubt |= position.is_none();
    }

    /// The log up to the first hole, and the end of the log as it once was if there is a hole.
    fn log(&mut self) -> (Log, Option<Position>) {
        let mut log = Log::new(self.base, self.configuration.clone());
        let mut end = None;
        for (index, (term, slot)) in std::mem::take(&mut self.slots) {
            let position = Position { term, index };
            let last = log.last();
            let follows = index == last.index.next() && term >= last.term && end.is_none();
            let trusted = self.doubt.is_none_or(|doubt| index < doubt);
            match slot {
                Slot::Whole(payload) if follows && trusted => {
                    log.append(Entry { position, payload })
                }
                Slot::Whole(_) | Slot::Damaged => end = end.max(Some(position)),
            }
        }
        if self.end_in_doubt {
            end = end.max(Some(Position { term: self.term, index: Index(u64::MAX) }));
        }
        (log, end)
    }
}

/// A member as its records say.
pub(super) fn restore(config: &Config, records: &mut dyn Iterator<Item = Record>) -> Raft {
    let mut replay = Replay {
        life: 0,
        term: Term(0),
        vote: None,
        vote_in_doubt: false,
        base: Position::ZERO,
        configuration: config.configuration.clone(),
        slots: BTreeMap::new(),
        hint: Index(0),
        mending: None,
        doubt: None,
        end_in_doubt: false,
    };
    records.for_each(|record| replay.add(record));
    let (log, end) = replay.log();
    let last = log.last();
    let mending = replay.mending.max(end).filter(|end| *end > last);
    let sole = log.configuration().1.voters().eq([config.id]);
    // A checkpoint that a peer sent may outlive the crash that cut off the term it came in: then
    // this member has not voted in that term, as a vote leaves only once it is durable. An entry
    // is written after its term.
    let term = replay.term.max(log.base().term);
    let restore_error = if replay.vote_in_doubt || last.term > term {
        Some(RestoreError::VoteDamaged)
    } else if sole && mending.is_some() {
        Some(RestoreError::NobodyToMendFrom)
    } else {
        None
    };
    let was_member = log.configurations().any(|configuration| configuration.contains(config.id));
    let commit = replay.hint.clamp(log.base().index, last.index);
    Raft {
        config: config.clone(),
        restore_error,
        life: replay.life + 1,
        term: term.max(last.term), // the same, unless a damaged record held it
        vote: replay.vote.filter(|_| term == replay.term),
        written_hard_state: (replay.term, replay.vote),
        indicated: log.base().index,
        log,
        mending,
        role: Role::Follower,
        leader: None,
        heard_leader: None,
        patience: Patience::new(
            config.election_timeout_min,
            config.election_timeout,
            config.heartbeat_interval,
        ),
        promise: Promise::default(),
        hurried: false,
        fruitless: 0,
        campaign_unwritten: None,
        last_event: Time::default(),
        commit,
        hinted: replay.hint,
        transfer: None,
        questions: Questions::default(),
        forwards: Forwards::default(),
        owed: Owed::default(),
        told_role: None,
        told_configuration: None,
        was_member,
        #[cfg(any(test, feature = "mutants"))]
        mutant: None,
    }
}
