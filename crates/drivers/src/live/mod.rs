//! The live driver: a loop runs a protocol on real time and a real disk.
//!
//! ```text
//!   sockets, API -- push --> Inbox -- take (one lock per batch) --> loop -- frames --> log thread
//!                              ^                                    | ^                   |
//!                              +----------- synced(upto) -----------|-+-------------------+
//!                                                                   v
//!                                              Host: messages out, indications up
//! ```
//!
//! The loop never waits for the disk: timers fire and heartbeats leave while a sync takes its time.
//! It batches: everything that arrived during one turn is handled before `on_flush`, so one turn
//! costs one append per peer, one write and one sync.
//!
//! [`Live::run`] is a loop on a thread of its own. [`Live::turn`] never waits, and [`Inbox`] wakes
//! any standard waker: so the loop can also be one task among others, which saves a wake-up
//! whenever what it waits for arrives on the same thread. Async begins beyond the [`Host`] all the
//! same.

mod clock;
mod inbox;
mod log_thread;
mod node;
mod pulse;
#[cfg(test)]
mod tests;

pub use clock::monotonic_now;
pub use inbox::{Inbox, InboxLimits, Offered};
pub use log_thread::{Log, LogError, LogHandle, LogThread};
pub use node::{Host, Live, Stopped};
pub use pulse::Pulse;
