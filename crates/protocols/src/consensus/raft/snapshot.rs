//! Compaction, and states that come from elsewhere.
//!
//! The layer above keeps states; Raft keeps the position that a state covers, and says who needs
//! one ([`Indication::SnapshotWanted`]). No message carries a state.
//!
//! A compaction writes a run of records, from `HardState` to `Snapshot` (or `Replaced`). Once that
//! run is durable, every record before it may be dropped but entries beyond the snapshot's
//! position.
//!
//! Sources: paper, section 7; dissertation, section 5.1.

use super::membership::Configuration;
use super::mutant::Mutant;
use super::record::Record;
use super::{Log, Raft, Role};
use quorate_core::{Context, Index, NodeId, Position};

impl Raft {
    pub(super) fn compact(&mut self, upto: Index, cx: &mut Context<'_, Raft>) {
        let upto = upto.min(self.indicated);
        if upto <= self.log.base().index {
            return;
        }
        let configuration = self.log.configuration_at(upto).clone();
        self.log.compact(upto);
        let position = self.log.base();
        self.write_snapshot(Record::Snapshot { position, configuration }, cx);
    }

    /// As [`Raft::compact`], but the entries stay on disk, where a restart finds them again.
    pub(super) fn forget(&mut self, upto: Index) {
        let upto = upto.min(self.indicated);
        if upto > self.log.base().index {
            self.log.compact(upto);
        }
    }

    /// Everything that the older records say besides entries, so that they can be dropped.
    fn write_all_but_entries(&mut self, cx: &mut Context<'_, Raft>) {
        self.written_hard_state = (self.term, self.vote);
        cx.write(Record::HardState { term: self.term, vote: self.vote });
        cx.write(Record::Life { number: self.life });
        if let Some(last) = self.mending {
            cx.write(Record::Mending { last });
        }
    }

    /// Ends the run. The hint comes last: before the log is replaced, it would speak of entries
    /// which are not those that are committed.
    fn write_snapshot(&mut self, snapshot: Record, cx: &mut Context<'_, Raft>) {
        self.write_all_but_entries(cx);
        cx.write(snapshot);
        self.hinted = self.commit;
        cx.write(Record::Commit(self.commit));
    }

    /// The layer above now holds a state as of `position`, which is committed somewhere.
    pub(super) fn installed(
        &mut self,
        position: Position,
        configuration: Configuration,
        cx: &mut Context<'_, Raft>,
    ) {
        if position.index > self.commit {
            self.jump_to(position, configuration, cx);
        }
        if !self.is_leader() {
            let known = position.index.min(self.commit);
            self.owed.acknowledgement = self.owed.acknowledgement.max(Some(known));
        }
    }

    fn jump_to(
        &mut self,
        position: Position,
        configuration: Configuration,
        cx: &mut Context<'_, Raft>,
    ) {
        let keeps = self.planted(Mutant::SnapshotKeepsLog)
            && (self.log.base().index..=self.log.last().index).contains(&position.index);
        let record = if self.log.contains(position) || keeps {
            self.log.compact(position.index);
            Record::Snapshot { position, configuration }
        } else {
            assert!(!self.is_leader(), "a leader without the committed entry {position}");
            self.log = Log::new(position, configuration.clone());
            Record::Replaced { position, configuration }
        };
        self.term = self.term.max(position.term);
        self.commit = position.index;
        self.indicated = position.index;
        self.write_snapshot(record, cx);
    }

    pub(super) fn snapshot_sent(&mut self, to: NodeId, position: Position) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.progress.get_mut(&to) {
            progress.snapshot_sent(position.index.min(self.log.last().index));
        }
    }

    pub(super) fn snapshot_failed(&mut self, to: NodeId) {
        if self.planted(Mutant::SnapshotFailureForgotten) {
            return;
        }
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.progress.get_mut(&to) {
            progress.snapshot_failed();
        }
    }
}
