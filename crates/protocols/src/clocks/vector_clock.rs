//! Vector clocks: causality itself, and not only an order that fits it.
//!
//! **Problem.** Of two events one wants to know whether the one may have caused the other, or
//! whether they are *concurrent*. A single number cannot say that.
//!
//! **Idea.** Each node counts its own events, and keeps for every other node the latest count that
//! it has heard of, directly or through others. A message carries all of these counts.
//!
//! ```text
//!   n1  [1 0] ---- [2 0] ------------------ [3 3]
//!                       \                  /
//!   n2        [0 1]      [2 2] ------ [2 3]           [1 0] and [0 1] are concurrent
//! ```
//!
//! **Guarantees.** *Strong clock condition*: one event happened before another if and only if its
//! vector is smaller: no count greater, and one less.
//!
//! **Bounds.** A vector grows with the number of nodes, and cannot be smaller (Charron-Bost 1991):
//! more than [`NODES_MAX`] are refused. A count that is exhausted is refused too.
//!
//! Traces of the simulator can be written as logs with vector clocks, which ShiViz draws as
//! space-time diagrams: `quorate sim` leaves a `shiviz.log` with every counter-example. That export
//! counts as this file does.
//!
//! **Sources.** Fidge, "Timestamps in Message-Passing Systems That Preserve the Partial Ordering"
//! (1988); Mattern, "Virtual Time and Global States of Distributed Systems" (1989); Charron-Bost,
//! "Concerning the Size of Logical Clocks in Distributed Systems" (1991).

use quorate_core::NodeId;
use std::collections::BTreeMap;
use std::fmt;

/// Nodes that a vector may count.
pub const NODES_MAX: usize = 1_024;

/// What two vectors say about their events.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Causality {
    /// They are of the same event.
    Same,
    /// The first may have caused the second.
    Before,
    /// The second may have caused the first.
    After,
    /// Neither may have caused the other.
    Concurrent,
}

/// The time of an event: for each node, how many of its events may have caused this one, itself
/// included. Nodes that are not named have none.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct VectorTime {
    counts: BTreeMap<NodeId, u64>,
}

/// What a vector clock does not take.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// More than [`NODES_MAX`] nodes would have to be counted.
    TooManyNodes,
    /// The count of a node has no greater number left.
    Exhausted(NodeId),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooManyNodes => {
                write!(f, "a vector clock counts {NODES_MAX} nodes at most; use a hybrid clock")
            }
            Refusal::Exhausted(node) => {
                write!(f, "the count of {node} has no number left; refuse who sent it")
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl VectorTime {
    /// The count of `node`.
    pub fn count(&self, node: NodeId) -> u64 {
        self.counts.get(&node).copied().unwrap_or(0)
    }

    /// Those whose count is not zero, by name.
    pub fn counts(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.counts.iter().map(|(node, count)| (*node, *count))
    }

    /// True if no count is greater than in `other`.
    pub fn is_within(&self, other: &VectorTime) -> bool {
        self.counts.iter().all(|(node, count)| *count <= other.count(*node))
    }

    /// What the vectors of two events say about them.
    pub fn causality(&self, other: &VectorTime) -> Causality {
        match (self.is_within(other), other.is_within(self)) {
            (true, true) => Causality::Same,
            (true, false) => Causality::Before,
            (false, true) => Causality::After,
            (false, false) => Causality::Concurrent,
        }
    }

    /// The greater of each count.
    fn joined(&self, other: &VectorTime) -> Result<VectorTime, Refusal> {
        let mut counts = self.counts.clone();
        for (node, count) in &other.counts {
            let own = counts.entry(*node).or_default();
            *own = (*own).max(*count);
        }
        match counts.len() <= NODES_MAX {
            true => Ok(VectorTime { counts }),
            false => Err(Refusal::TooManyNodes),
        }
    }

    fn ticked(mut self, node: NodeId) -> Result<VectorTime, Refusal> {
        let count = self.counts.entry(node).or_default();
        *count = count.checked_add(1).ok_or(Refusal::Exhausted(node))?;
        match self.counts.len() <= NODES_MAX {
            true => Ok(self),
            false => Err(Refusal::TooManyNodes),
        }
    }
}

impl fmt::Display for VectorTime {
    /// As `[n1:2 n3:1]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> =
            self.counts.iter().map(|(node, count)| format!("{node}:{count}")).collect();
        write!(f, "[{}]", counts.join(" "))
    }
}

/// The clock of one node.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct VectorClock {
    node: NodeId,
    time: VectorTime,
}

impl VectorClock {
    /// The clock of a node at which nothing has happened.
    pub fn new(node: NodeId) -> VectorClock {
        VectorClock { node, time: VectorTime::default() }
    }

    /// The time of the next event here; a message that is sent by it carries this.
    ///
    /// Errors: the count of this node is exhausted.
    pub fn tick(&mut self) -> Result<&VectorTime, Refusal> {
        self.time = self.time.clone().ticked(self.node)?;
        Ok(&self.time)
    }

    /// The time of the receipt of a message that carries `sent`.
    ///
    /// Errors: it counts too many nodes, or too far; the clock is as before.
    pub fn receive(&mut self, sent: &VectorTime) -> Result<&VectorTime, Refusal> {
        self.time = self.time.joined(sent)?.ticked(self.node)?;
        Ok(&self.time)
    }

    /// The time of the last event here.
    pub fn time(&self) -> &VectorTime {
        &self.time
    }
}

#[cfg(test)]
mod tests {
    use super::super::causality::{Act, TRACES, Trace};
    use super::*;

    fn times(trace: &Trace) -> Vec<VectorTime> {
        let names = (1..=trace.processes as u64).map(NodeId);
        let mut clocks: Vec<VectorClock> = names.map(VectorClock::new).collect();
        let mut times: Vec<VectorTime> = Vec::new();
        for event in &trace.events {
            let clock = &mut clocks[event.process];
            let time = match event.act {
                Act::Local | Act::Send => clock.tick(),
                Act::Receive(from) => clock.receive(&times[from]),
            };
            let time = time.expect("few nodes").clone();
            times.push(time);
        }
        times
    }

    /// Mattern 1989: e < e' if and only if C(e) < C(e').
    #[test]
    fn a_vector_is_smaller_if_and_only_if_its_event_happened_before() {
        let mut concurrent = 0_u64;
        for seed in 0..TRACES {
            let trace = Trace::random(seed);
            let times = times(&trace);
            for (one, other) in trace.pairs() {
                let truth = match () {
                    () if trace.happened_before(one, other) => Causality::Before,
                    () if trace.happened_before(other, one) => Causality::After,
                    () => Causality::Concurrent,
                };
                assert_eq!(times[one].causality(&times[other]), truth, "seed {seed}");
                concurrent += u64::from(truth == Causality::Concurrent);
            }
        }
        assert!(concurrent > 0, "nothing was ever concurrent");
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut clock = VectorClock::new(NodeId(1));
        clock.tick().expect("the first event");
        let before = clock.clone();
        let crowd = (1..=NODES_MAX as u64 + 1).map(|node| (NodeId(node), 1)).collect();
        assert_eq!(clock.receive(&VectorTime { counts: crowd }), Err(Refusal::TooManyNodes));
        let absurd = VectorTime { counts: [(NodeId(1), u64::MAX)].into() };
        assert_eq!(clock.receive(&absurd), Err(Refusal::Exhausted(NodeId(1))));
        assert_eq!(clock, before);
    }
}
