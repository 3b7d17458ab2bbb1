//! Lamport's clock: a number that respects causality.
//!
//! **Problem.** Events on different nodes shall be put into one order, and no event before what may
//! have caused it. There is no clock that all can read.
//!
//! **Idea.** Each node counts its events. A message carries the count of its sender, and who
//! receives it goes on from the greater of the two.
//!
//! ```text
//!   n1  1 ----- 2 ------------- 6
//!                \             /
//!   n2        1   3 --- 4 --- 5
//! ```
//!
//! **Guarantees.** *Clock condition*: if one event happened before another, its time is smaller.
//! *Total order*: different events have different times, because equal counts are told apart by the
//! names of their nodes. Not the converse: a smaller time says nothing about causality; for that
//! see [`super::vector_clock`].
//!
//! **Bounds.** A clock that has counted 2^64 - 1 events refuses ([`Exhausted`]). Nobody counts so
//! far; a peer may claim that it did, and is refused before the clock has moved.
//!
//! **Source.** Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System" (1978):
//! rules IR1 and IR2, and the total order by process.

use quorate_core::NodeId;
use std::fmt;

/// The time of an event. Ordered by the count, and of equal counts by the node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LamportTime {
    /// Events on the longest chain of causes that ends here.
    pub counter: u64,
    /// Where it happened.
    pub node: NodeId,
}

/// No greater number is left: somebody sent one that no count can have reached.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Exhausted;

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a logical clock has no number left; refuse the peer that sent the last one")
    }
}

impl std::error::Error for Exhausted {}

/// The clock of one node.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LamportClock {
    node: NodeId,
    counter: u64,
}

impl LamportClock {
    /// The clock of a node at which nothing has happened.
    pub fn new(node: NodeId) -> LamportClock {
        LamportClock { node, counter: 0 }
    }

    /// The time of the next event here; a message that is sent by it carries this.
    ///
    /// Errors: no number is left.
    pub fn tick(&mut self) -> Result<LamportTime, Exhausted> {
        self.counter = self.counter.checked_add(1).ok_or(Exhausted)?;
        Ok(LamportTime { counter: self.counter, node: self.node })
    }

    /// The time of the receipt of a message that carries `sent`.
    ///
    /// Errors: no number is left; the clock is as before.
    pub fn receive(&mut self, sent: LamportTime) -> Result<LamportTime, Exhausted> {
        let counter = self.counter.max(sent.counter).checked_add(1).ok_or(Exhausted)?;
        self.counter = counter;
        Ok(LamportTime { counter, node: self.node })
    }
}

#[cfg(test)]
mod tests {
    use super::super::causality::{Act, TRACES, Trace};
    use super::*;

    fn times(trace: &Trace) -> Vec<LamportTime> {
        let names = (1..=trace.processes as u64).map(NodeId);
        let mut clocks: Vec<LamportClock> = names.map(LamportClock::new).collect();
        let mut times: Vec<LamportTime> = Vec::new();
        for event in &trace.events {
            let clock = &mut clocks[event.process];
            let time = match event.act {
                Act::Local | Act::Send => clock.tick(),
                Act::Receive(from) => clock.receive(times[from]),
            };
            times.push(time.expect("few events"));
        }
        times
    }

    /// Lamport 1978: for any events a, b: if a -> b then C(a) < C(b).
    #[test]
    fn what_happened_before_has_the_smaller_time() {
        let mut unrelated = 0_u64;
        for seed in 0..TRACES {
            let trace = Trace::random(seed);
            let times = times(&trace);
            for (one, other) in trace.pairs() {
                assert_ne!(times[one], times[other], "seed {seed}");
                match trace.happened_before(one, other) {
                    true => assert!(times[one] < times[other], "seed {seed}"),
                    false => unrelated += u64::from(times[one].counter < times[other].counter),
                }
            }
        }
        assert!(unrelated > 0, "the converse does not hold, and that was never seen");
    }

    #[test]
    fn a_number_that_nobody_can_have_counted_to_is_refused_and_changes_nothing() {
        let mut clock = LamportClock::new(NodeId(1));
        let absurd = LamportTime { counter: u64::MAX, node: NodeId(2) };
        assert_eq!(clock.receive(absurd), Err(Exhausted));
        assert_eq!(clock.tick(), Ok(LamportTime { counter: 1, node: NodeId(1) }));
    }
}
