//! Lines about strangers, as many as a log can bear.
//!
//! Whoever reaches a port could fill a disk with refusals. So a listener complains [`AT_ONCE`]
//! times at once and then once per [`REFILL`]; what was not said is counted, and told with the
//! next line. The metric counts all of them.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many lines may follow each other.
const AT_ONCE: u32 = 10;
/// After this there is room for one more.
const REFILL: Duration = Duration::from_secs(1);

/// Decides what is said.
#[derive(Debug)]
pub(super) struct Complaints(Mutex<State>);

#[derive(Debug)]
struct State {
    room: u32,
    since: Instant,
    unsaid: u64,
}

impl Complaints {
    pub(super) fn new() -> Complaints {
        Complaints(Mutex::new(State { room: AT_ONCE, since: Instant::now(), unsaid: 0 }))
    }

    /// How many were not said before this one, if this one may be said.
    pub(super) fn may_say(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let periods = now.saturating_duration_since(state.since).as_millis() / REFILL.as_millis();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        if periods > 0 {
            state.room = state.room.saturating_add(periods).min(AT_ONCE);
            state.since = now;
        }
        if state.room == 0 {
            state.unsaid += 1;
            return None;
        }
        state.room -= 1;
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_in_few_lines_and_all_of_it_is_counted() {
        let complaints = Complaints::new();
        let start = Instant::now();
        let mut lines = 0;
        let mut told = 0;
        for millis in 0..10_000 {
            if let Some(unsaid) = complaints.may_say(start + Duration::from_millis(millis)) {
                lines += 1;
                told += unsaid + 1;
            }
        }
        assert!((10..=20).contains(&lines), "{lines}");
        let last = complaints.may_say(start + Duration::from_secs(60)).expect("room again");
        assert_eq!(told + last, 10_000);
    }
}
