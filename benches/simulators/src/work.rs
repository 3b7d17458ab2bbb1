//! What every candidate does: five nodes, pings of eight bytes, links of 1 to 10 ms.

use std::time::Duration;

/// How many nodes there are.
pub const NODES: usize = 5;
/// When nodes begin to send, so that all of them are there.
pub const BEGIN: Duration = Duration::from_millis(20);
/// Pings of the flood from each node to each other.
pub const WINDOW: usize = 16;
/// Between two heartbeats.
pub const BEAT: Duration = Duration::from_millis(50);
/// Bounds of the delay of a link.
pub const DELAY_MIN: Duration = Duration::from_millis(1);
/// See [`DELAY_MIN`].
pub const DELAY_MAX: Duration = Duration::from_millis(10);

/// A program of the nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// Sixteen pings to each other node, and for each message that arrives one back.
    Flood,
    /// One message to each other node, every 50 ms; who receives one counts it.
    Heartbeat,
}

/// A simulator with both programs written for it.
pub struct Candidate {
    /// Its name.
    pub name: &'static str,
    /// Runs a program with this seed, for so long in simulated time. Returns the number of
    /// messages that were delivered.
    pub run: fn(Work, u64, Duration) -> u64,
}

/// The others.
pub fn peers(of: usize) -> impl Iterator<Item = usize> {
    (0..NODES).filter(move |peer| *peer != of)
}
