//! What a member of the simulated cluster keeps: records with a mark up to where they are synced,
//! and the state of the layer above.
//!
//! Beside the records stands what they *once* made durable: whoever asks later whether a quorum
//! held an entry when it was acknowledged must not be told of what rotted since.

use quorate_core::{Index, Position, Term};
use quorate_drivers::simulate::{Choose, Fault, SyncError};
use quorate_protocols::consensus::raft::{Configuration, Entry, Record};
use std::collections::BTreeMap;

/// A state machine that has applied a prefix of the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct State {
    /// The last entry that it has applied.
    pub(super) position: Position,
    /// Of everything that it has applied.
    pub(super) digest: u64,
    /// The configuration as of that entry.
    pub(super) configuration: Configuration,
}

/// The disk of one member.
#[derive(Clone, Debug)]
pub struct RaftDisk {
    records: Vec<Record>,
    synced: usize,
    /// The state that survives a crash; written as a whole.
    pub(super) state: State,
    /// Entries that were durable once, unless the log was cut off there.
    held: BTreeMap<Index, Term>,
    /// The last entry that a durable compaction covers.
    covered: Position,
    full: bool,
    fails: bool,
    lies: bool,
    /// An entry was damaged, ever.
    damaged: bool,
}

impl RaftDisk {
    pub(super) fn new(configuration: Configuration) -> RaftDisk {
        RaftDisk {
            records: Vec::new(),
            synced: 0,
            state: State { position: Position::ZERO, digest: 0, configuration },
            held: BTreeMap::new(),
            covered: Position::ZERO,
            full: false,
            fails: false,
            lies: false,
            damaged: false,
        }
    }

    /// The records, read back at the begin of a life, and from then on durable.
    pub(super) fn read(&mut self) -> impl Iterator<Item = Record> + '_ {
        if !self.lies {
            self.note_synced();
        }
        self.records.iter().cloned()
    }

    pub(super) fn append(&mut self, records: &mut Vec<Record>) {
        self.records.append(records);
    }

    pub(super) fn sync(&mut self) -> Result<(), SyncError> {
        if std::mem::take(&mut self.fails) {
            // What a failed sync leaves is not known: here it is the least.
            self.records.truncate(self.synced);
            return Err(SyncError::Fatal("a sync failed".to_owned()));
        }
        if self.full {
            return Err(SyncError::Full);
        }
        if !self.lies && self.note_synced() {
            self.trim();
        }
        Ok(())
    }

    /// Moves the mark. True if a compaction is among what has become durable.
    fn note_synced(&mut self) -> bool {
        let mut compacted = false;
        for record in &self.records[self.synced..] {
            match record {
                Record::Entry(Entry { position, .. }) => {
                    // A member that is mending fetches again what it once held, and protects all
                    // of it meanwhile.
                    let known = self.held.get(&position.index) == Some(&position.term);
                    if !(self.damaged && known) {
                        self.held.split_off(&position.index);
                    }
                    self.held.insert(position.index, position.term);
                }
                Record::Snapshot { position, .. } => {
                    self.held = self.held.split_off(&position.index.next());
                    (self.covered, compacted) = (*position, true);
                }
                Record::Replaced { position, .. } => {
                    if !self.damaged {
                        self.held.clear();
                    }
                    (self.covered, compacted) = (*position, true);
                }
                _ => {}
            }
        }
        self.synced = self.records.len();
        compacted
    }

    /// Drops the records that a durable compaction has made superfluous.
    fn trim(&mut self) {
        let compacts =
            |record: &Record| matches!(record, Record::Snapshot { .. } | Record::Replaced { .. });
        let Some(end) = self.records[..self.synced].iter().rposition(compacts) else { return };
        let covered = match &self.records[end] {
            Record::Snapshot { position, .. } => position.index,
            _ => Index(u64::MAX),
        };
        let run_begins = |record: &Record| matches!(record, Record::HardState { .. });
        let start = self.records[..end].iter().rposition(run_begins);
        let start = start.expect("a compaction writes the hard state first");
        let needed = |record: &Record| match record {
            Record::Entry(entry) => entry.position.index > covered,
            // Without it, what stood there before would seem to be whole.
            Record::Damaged { position: Some(position) } => position.index > covered,
            _ => false,
        };
        let before = self.records.len();
        let mut place = 0;
        self.records.retain(|record| {
            place += 1;
            place > start || needed(record)
        });
        self.synced -= before - self.records.len();
    }

    pub(super) fn power_cut(&mut self, choose: Choose<'_>) {
        let open = self.records.len() - self.synced;
        if open > 0 {
            self.records.truncate(self.synced + choose(open + 1));
        }
    }

    /// What can go wrong with a disk.
    pub(super) fn damage(&mut self, fault: Fault, choose: Choose<'_>) -> Option<String> {
        match fault {
            Fault::SyncError => self.fails = true,
            Fault::SyncLie => self.lies = true,
            Fault::DiskFull => self.full = true,
            Fault::BitRot => return self.rot(1, choose),
            // The record that was hit, and the one that is not where it should be.
            Fault::Misdirected => return self.rot(2, choose),
            _ => return None,
        }
        Some(fault.meaning().to_owned())
    }

    /// Damages so many entries, beginning at a drawn one.
    fn rot(&mut self, count: usize, choose: Choose<'_>) -> Option<String> {
        let is_entry = |place: &usize| matches!(self.records[*place], Record::Entry(_));
        let entries: Vec<usize> = (0..self.synced).filter(is_entry).collect();
        if entries.is_empty() {
            return None;
        }
        self.damaged = true;
        let first = choose(entries.len());
        let mut damaged = Vec::new();
        for place in entries.into_iter().skip(first).take(count) {
            if let Record::Entry(Entry { position, .. }) = &self.records[place] {
                damaged.push(position.to_string());
                self.records[place] = Record::Damaged { position: Some(*position) };
            }
        }
        Some(format!("the record of {} is damaged", damaged.join(" and ")))
    }

    pub(super) fn mend(&mut self, fault: Fault) {
        match fault {
            Fault::SyncError => self.fails = false,
            Fault::SyncLie => self.lies = false,
            Fault::DiskFull => self.full = false,
            _ => {}
        }
    }

    /// True if this entry, and with it all before it, was made durable here.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.covered.index >= position.index
            || self.state.position.index >= position.index
            || self.held.get(&position.index) == Some(&position.term)
    }
}
