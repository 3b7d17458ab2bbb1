//! A member reads again what it has written, while it runs, and makes good what has turned.
//!
//! **Problem.** A byte that turns on a disk is noticed when it is read, and log and checkpoints are
//! read at a start alone: a member that runs for a year finds out when it needs them most, and by
//! then the same may have happened to others.
//!
//! **Idea.** A thread of its own reads everything again and again, at a bounded rate and from the
//! medium, with the code that reads it at a start. What it finds is named, and repaired from the
//! state in memory; see [`repair`].
//!
//! | part | looked at by | repaired by |
//! |---|---|---|
//! | segments of the log, as far as they are synced | [`patrol`] | checkpoints that cover it |
//! | checkpoints | [`patrol`] | another one; the damaged data is kept, of one |
//! | `identity`, `genesis`, `roster` and their copies | `sealed.rs` | each other |
//!
//! The log thread never waits for any of it: it is asked to begin a segment and to release some,
//! as it is anyway. Between two steps the thread sleeps as long as its rate says, and longer while
//! a batch is on its way to the disk, up to a bound, so that it comes to an end on a busy one.
//!
//! **Bounds.** One segment in memory; [`NAMED_MAX`] findings; one round at a time.
//!
//! **Left out.** What lies beyond the synced end of the log: it is written over, or cut off at the
//! next start. The audit log, which has a verifier of its own.

pub mod patrol;
pub mod repair;
mod rounds;

pub use patrol::{Finding, Found, NAMED_MAX, look};
pub use repair::{Repair, Step, View};
pub(crate) use rounds::{Parts, Scrubber};

use serde::{Deserialize, Serialize};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How a member reads its disk again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ScrubSettings {
    /// From the end of one round to the next; zero: only when asked.
    pub interval: Duration,
    /// At most so much is read in a second. Unit: bytes. Range: at least 64 KiB.
    pub rate: u64,
}

impl Default for ScrubSettings {
    fn default() -> ScrubSettings {
        ScrubSettings { interval: Duration::from_secs(24 * 60 * 60), rate: 16 << 20 }
    }
}

/// What the scrubber of a member says of itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct ScrubReport {
    /// The member, in hexadecimal.
    pub member: String,
    /// Rounds that were begun since the start.
    pub begun: u64,
    /// Rounds that were finished, damage found in them repaired or not.
    pub finished: u64,
    /// Read in all rounds. Unit: bytes.
    pub bytes_total: u64,
    /// Damaged things found in all rounds.
    pub damaged_total: u64,
    /// Damaged things that were repaired.
    pub repaired_total: u64,
    /// When the last round was finished. Unit: seconds since 1970; 0 for none.
    pub finished_at: u64,
    /// What the round that is under way is doing, if one is.
    pub doing: Option<String>,
    /// The last round that was finished.
    pub last: Option<Round>,
}

/// One round.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Round {
    /// Its number, from 1.
    pub number: u64,
    /// What it took. Unit: milliseconds.
    pub took_ms: u64,
    /// Read at the first look. Unit: bytes.
    pub bytes: u64,
    /// What was damaged, at most [`NAMED_MAX`] of it.
    pub findings: Vec<Finding>,
    /// How many damaged things there were.
    pub damaged: u64,
    /// Why what was damaged is damaged still; none if nothing is.
    pub unrepaired: Option<String>,
}

/// Where the scrubber and those who ask for it meet.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    report: ScrubReport,
    /// A round is wanted at once.
    wanted: bool,
    stop: bool,
    /// Damaged things that wait to be repaired.
    outstanding: u64,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it says of itself.
    pub(crate) fn report(&self) -> ScrubReport {
        self.lock().report.clone()
    }

    /// Damaged things that wait to be repaired.
    pub(crate) fn outstanding(&self) -> u64 {
        self.lock().outstanding
    }

    /// Asks for a round. Answers with its number: one that begins after this call.
    pub(crate) fn ask(&self) -> u64 {
        let mut state = self.lock();
        state.wanted = true;
        self.changed.notify_all();
        state.report.begun + 1
    }

    /// The thread is to end.
    pub(crate) fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }

    fn is_stopped(&self) -> bool {
        self.lock().stop
    }

    /// Waits for the next round: until somebody asks, or for `interval` if it is not zero. None if
    /// the thread is to end; otherwise the number of the round.
    fn next(&self, interval: Duration) -> Option<u64> {
        let idle = |state: &mut State| !state.wanted && !state.stop;
        let state = self.lock();
        let mut state = if interval.is_zero() {
            self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner)
        } else {
            let waited = self.changed.wait_timeout_while(state, interval, idle);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        if state.stop {
            return None;
        }
        state.wanted = false;
        state.report.begun += 1;
        Some(state.report.begun)
    }

    /// Sleeps, but not when the thread is to end.
    fn sleep(&self, pause: Duration) {
        let waited = self.changed.wait_timeout_while(self.lock(), pause, |state| !state.stop);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
