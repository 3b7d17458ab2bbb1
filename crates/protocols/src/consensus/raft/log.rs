//! The replicated log in memory: what follows the last compacted position.
//!
//! ```text
//!    base        first                        last
//!    (9@2) | 10@2 11@2 12@4 13@4 14@4 15@4 16@5
//!      ^ covered by a state of the layer above; its term is kept for the consistency check
//! ```
//!
//! The configurations in the log are kept beside it, because the one in force is the last that is
//! *appended*, committed or not (Ongaro 2014, section 4.1), and must be found again after a cut.

use super::membership::Configuration;
use super::record::{Entry, Payload};
use quorate_core::{Index, Position, Term};
use std::collections::VecDeque;

/// Room for this many entries is kept, however short the log becomes.
const ENTRIES_KEPT: usize = 4_096;

/// The log after `base`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Log {
    base: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// Never empty; the first is in force at `base`, the others stand in `entries`.
    configurations: VecDeque<(Position, Configuration)>,
}

impl Log {
    /// An empty log after `base`, at which `configuration` is in force.
    pub(super) fn new(base: Position, configuration: Configuration) -> Log {
        let configurations = VecDeque::from([(base, configuration)]);
        Log { base, entries: VecDeque::new(), bytes: 0, configurations }
    }

    pub(super) fn base(&self) -> Position {
        self.base
    }

    pub(super) fn last(&self) -> Position {
        self.entries.back().map_or(self.base, |entry| entry.position)
    }

    /// Bytes of the entries in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The configuration in force, and where it was appended.
    pub(super) fn configuration(&self) -> &(Position, Configuration) {
        self.configurations.back().expect("a log has at least the configuration at its base")
    }

    /// The configuration in force at `index`.
    pub(super) fn configuration_at(&self, index: Index) -> &Configuration {
        let at = self.configurations.iter().rev().find(|(position, _)| position.index <= index);
        &at.unwrap_or(&self.configurations[0]).1
    }

    /// Every configuration in memory.
    pub(super) fn configurations(&self) -> impl Iterator<Item = &Configuration> + '_ {
        self.configurations.iter().map(|(_, configuration)| configuration)
    }

    pub(super) fn entry(&self, index: Index) -> Option<&Entry> {
        self.entries.get(self.offset(index)?)
    }

    /// Term of the entry at `index`; known for the entries in memory and for the base.
    pub(super) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.entry(index).map(|entry| entry.position.term)
    }

    pub(super) fn contains(&self, position: Position) -> bool {
        self.term_at(position.index) == Some(position.term)
    }

    /// The last entry (or the base) whose index is below or at `limit.index` and whose term is at
    /// most `limit.term`: the farthest at which a log with entry `limit` can agree with this one.
    pub(super) fn agreeing(&self, limit: Position) -> Position {
        let within = limit.index.distance_from(self.base.index);
        let within = usize::try_from(within).unwrap_or(usize::MAX).min(self.entries.len());
        let old = self.entries.partition_point(|entry| entry.position.term <= limit.term);
        match within.min(old) {
            0 => self.base,
            count => self.entries[count - 1].position,
        }
    }

    /// Adds an entry at the end.
    ///
    /// Panics: if it does not follow the last one, or its term goes back.
    pub(super) fn append(&mut self, entry: Entry) {
        let last = self.last();
        let position = entry.position;
        assert_eq!(position.index, last.index.next(), "entry {position} after {last}");
        assert!(position.term >= last.term, "the term goes back from {last} to {position}");
        self.bytes += entry.size();
        if let Payload::Membership(configuration) = &entry.payload {
            self.configurations.push_back((position, configuration.clone()));
        }
        self.entries.push_back(entry);
    }

    /// Drops every entry after `index`. Panics: if `index` lies before the base.
    pub(super) fn truncate_after(&mut self, index: Index) {
        assert!(index >= self.base.index, "cut at {index}, before the base {}", self.base);
        while self.last().index > index {
            self.bytes -= self.entries.pop_back().map_or(0, |entry| entry.size());
        }
        while self.configurations.len() > 1 && self.configuration().0.index > index {
            self.configurations.pop_back();
        }
    }

    /// Planted bug: the configurations after `index` are no longer in force.
    #[cfg(any(test, feature = "mutants"))]
    pub(super) fn forget_configurations_after(&mut self, index: Index) {
        while self.configurations.len() > 1 && self.configuration().0.index > index {
            self.configurations.pop_back();
        }
    }

    /// Drops every entry up to `index`, which becomes the base.
    ///
    /// Panics: if there is no entry at `index`.
    pub(super) fn compact(&mut self, index: Index) {
        let term = self.term_at(index).expect("compaction at an entry that the log holds");
        while self.base.index < index {
            let entry = self.entries.pop_front().expect("entries up to the new base");
            self.bytes -= entry.size();
            self.base.index = self.base.index.next();
        }
        if self.entries.capacity() > ENTRIES_KEPT
            && self.entries.len() < self.entries.capacity() / 4
        {
            self.entries.shrink_to(ENTRIES_KEPT.max(self.entries.len() * 2));
        }
        self.base = Position { term, index };
        while self.configurations.get(1).is_some_and(|(position, _)| position.index <= index) {
            self.configurations.pop_front();
        }
    }

    /// How many entries from `first` on fit into `bytes_max`, at least one if there is one.
    pub(super) fn fitting(&self, first: Index, upto: Index, bytes_max: usize) -> usize {
        let Some(start) = self.offset(first) else { return 0 };
        let available = usize::try_from(upto.next().distance_from(first)).unwrap_or(usize::MAX);
        let end = self.entries.len().min(start.saturating_add(available));
        let mut bytes = 0;
        let mut count = 0;
        for entry in self.entries.range(start.min(end)..end) {
            bytes += entry.size();
            if count > 0 && bytes > bytes_max {
                break;
            }
            count += 1;
        }
        count
    }

    /// The `count` entries from `first` on. Panics: if they are not all there.
    pub(super) fn slice(&self, first: Index, count: usize) -> impl Iterator<Item = &Entry> + '_ {
        let start = self.offset(first).unwrap_or(0);
        self.entries.range(start..start + count)
    }

    /// Every entry in memory.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> + '_ {
        self.entries.iter()
    }

    fn offset(&self, index: Index) -> Option<usize> {
        if index <= self.base.index {
            return None;
        }
        usize::try_from(index.distance_from(self.base.index) - 1).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;
    use quorate_core::NodeId;

    fn entry(term: u64, index: u64, size: usize) -> Entry {
        let payload = match size % 4 {
            0 => Payload::Noop,
            1 => Payload::Membership(Configuration::of([NodeId(index), NodeId(term)])),
            _ => Payload::Command(Bytes::from(vec![7; size])),
        };
        Entry { position: Position::new(term, index), payload }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Append { term: u64, size: usize },
        Truncate { at: usize },
        Compact { at: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0u64..3, 0usize..40).prop_map(|(term, size)| Step::Append { term, size }),
            1 => (0usize..40).prop_map(|at| Step::Truncate { at }),
            1 => (0usize..40).prop_map(|at| Step::Compact { at }),
        ]
    }

    /// Everything that a log answers, computed from a plain vector which forgets nothing.
    fn check(log: &Log, model: &[Entry], base: usize) {
        let position = |index: usize| match index {
            0 => Position::ZERO,
            _ => model[index - 1].position,
        };
        assert_eq!(log.base(), position(base));
        assert_eq!(log.last(), position(model.len()));
        assert_eq!(log.bytes(), model[base..].iter().map(Entry::size).sum::<usize>());
        for index in 0..=model.len() + 1 {
            let known = (base..=model.len()).contains(&index).then(|| position(index).term);
            assert_eq!(log.term_at(Index(index as u64)), known);
        }
        let in_force = model.iter().rev().find_map(|entry| match &entry.payload {
            Payload::Membership(configuration) => Some(configuration.clone()),
            Payload::Noop | Payload::Command(_) => None,
        });
        assert_eq!(log.configuration().1, in_force.unwrap_or_default());
        for term in 0..6 {
            for index in base..=model.len() + 1 {
                let limit = Position::new(term, index as u64);
                let naive = (base..=model.len().min(index))
                    .rev()
                    .map(position)
                    .find(|position| position.term <= limit.term);
                assert_eq!(log.agreeing(limit), naive.unwrap_or(position(base)));
            }
        }
        for first in base + 1..=model.len() {
            let mut size = 0;
            let fit = model[first - 1..].iter().take_while(|entry| {
                size += entry.size();
                size <= 100
            });
            let count = fit.count().max(1);
            let last = Index(model.len() as u64);
            assert_eq!(log.fitting(Index(first as u64), last, 100), count);
            let slice: Vec<_> = log.slice(Index(first as u64), count).cloned().collect();
            assert_eq!(slice, model[first - 1..first - 1 + count]);
        }
    }

    proptest! {
        #[test]
        fn a_log_is_a_vector_that_forgets_its_beginning(
            steps in proptest::collection::vec(step(), 0..50),
        ) {
            let mut log = Log::new(Position::ZERO, Configuration::default());
            let mut model: Vec<Entry> = Vec::new();
            let mut base = 0;
            for step in steps {
                match step {
                    Step::Append { term, size } => {
                        let term = log.last().term.0.max(term);
                        let entry = entry(term, model.len() as u64 + 1, size);
                        log.append(entry.clone());
                        model.push(entry);
                    }
                    Step::Truncate { at } => {
                        let at = at.clamp(base, model.len());
                        log.truncate_after(Index(at as u64));
                        model.truncate(at);
                    }
                    Step::Compact { at } => {
                        base = at.clamp(base, model.len());
                        log.compact(Index(base as u64));
                    }
                }
                check(&log, &model, base);
            }
        }
    }
}
