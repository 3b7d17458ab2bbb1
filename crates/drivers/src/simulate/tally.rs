//! What a run, or a campaign of runs, did: counted, so that nothing is claimed that did not happen.

use super::faults::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Counts of one run; those of several are added up.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Tally {
    /// Runs.
    pub runs: u64,
    /// True time that was simulated. Unit: nanoseconds.
    pub simulated: u64,
    /// Events that the kernel handled.
    pub events: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that reached a node.
    pub delivered: u64,
    /// Operations that clients began.
    pub operations: u64,
    /// What was injected, by the name of the fault.
    pub faults: BTreeMap<String, u64>,
    /// What was seen, by the name of the mark.
    pub marks: BTreeMap<String, u64>,
    /// Events that make the story of the run: faults, beginnings and ends of lives, requests of
    /// clients, and turns of nodes in which something was written or told. Not what only carries
    /// them, such as heartbeats; and of a run that breaks liveness, those until the faults end.
    pub size: u64,
}

impl Tally {
    /// One more fault of this kind.
    pub fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault.name().to_owned()).or_default() += 1;
    }

    /// So many more of this kind.
    pub fn faults(&mut self, fault: Fault, more: u64) {
        if more > 0 {
            *self.faults.entry(fault.name().to_owned()).or_default() += more;
        }
    }

    /// This was seen.
    pub fn mark(&mut self, name: &str) {
        match self.marks.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.marks.insert(name.to_owned(), 1);
            }
        }
    }

    /// Adds the counts of other runs. A count that does not fit stays at the largest that does.
    pub fn add(&mut self, other: &Tally) {
        let pairs = [
            (&mut self.runs, other.runs),
            (&mut self.simulated, other.simulated),
            (&mut self.events, other.events),
            (&mut self.sent, other.sent),
            (&mut self.delivered, other.delivered),
            (&mut self.operations, other.operations),
            (&mut self.size, other.size),
        ];
        for (sum, more) in pairs {
            *sum = sum.saturating_add(more);
        }
        for (sums, more) in [(&mut self.faults, &other.faults), (&mut self.marks, &other.marks)] {
            for (name, count) in more {
                let sum = sums.entry(name.clone()).or_default();
                *sum = sum.saturating_add(*count);
            }
        }
    }

    /// Every count, with its name.
    pub fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        let plain = [
            ("runs", self.runs),
            ("simulated", self.simulated),
            ("events", self.events),
            ("sent", self.sent),
            ("delivered", self.delivered),
            ("operations", self.operations),
            ("size", self.size),
        ];
        let named = self.faults.iter().chain(&self.marks);
        plain.into_iter().chain(named.map(|(name, count)| (name.as_str(), *count)))
    }
}

/// A running digest of all events: two runs with the same digest did the same.
///
/// A multiply-and-rotate hash over words: fast enough to be always on, and not meant against
/// anybody who wants a collision.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new() -> Digest {
        Digest(0x2545_f491_4f6c_dd1d)
    }

    #[inline]
    pub(super) fn add(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }

    pub(super) fn value(self) -> u64 {
        let mut state = self.0;
        super::choices::split_mix(&mut state)
    }
}
