//! What is counted of TLS. How it is told says `api/metrics.rs`.

use super::keeper::Door;
use super::reason::Reason;
use crate::metrics::Counter;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// What one listener counts.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Handshakes that succeeded.
    pub(crate) shaken: Counter,
    /// Those that failed, as in [`Reason::ALL`].
    failed: [Counter; Reason::ALL.len()],
    stale: AtomicBool,
}

impl Tally {
    /// Counts a failure.
    pub(crate) fn fail(&self, reason: Reason) {
        self.failed[reason as usize].add(1);
    }

    /// Failures by reason.
    pub(crate) fn failures(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.into_iter().zip(self.failed.iter().map(Counter::get))
    }

    /// True while changed files cannot be used.
    pub(crate) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }
}

/// Everything that is counted.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    client: Tally,
    peer: Tally,
    /// Files that were read anew.
    pub(crate) reloaded: Counter,
    /// Files that could not be.
    pub(crate) reload_failures: Counter,
    /// By file, when its certificate ends: seconds since 1970.
    ends: Mutex<BTreeMap<(&'static str, PathBuf), i64>>,
}

impl Gauges {
    /// Of one listener.
    pub(crate) fn of(&self, door: Door) -> &Tally {
        match door {
            Door::Client => &self.client,
            Door::Peer => &self.peer,
        }
    }

    /// Says whether changed files could not be used.
    pub(super) fn stale(&self, door: Door, stale: bool) {
        self.of(door).stale.store(stale, Ordering::Relaxed);
    }

    /// Says when certificates end, in place of what was said of this listener.
    pub(super) fn expiry<'a>(&self, door: Door, ends: impl Iterator<Item = (&'a PathBuf, i64)>) {
        let mut known = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(listener, _), _| *listener != door.name());
        known.extend(ends.map(|(path, end)| ((door.name(), path.clone()), end)));
    }

    /// When certificates end, by listener and file.
    pub(crate) fn ends(&self) -> Vec<(&'static str, PathBuf, i64)> {
        let known = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|((door, path), end)| (*door, path.clone(), *end)).collect()
    }
}
