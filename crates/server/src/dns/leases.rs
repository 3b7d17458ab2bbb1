//! How long leases live at least.
//!
//! An answer must not be kept for longer than what it tells is true. When a lease ends is known by
//! the leader alone; but when it says "so much is left", then the lease lives that long at least,
//! whatever comes after: a keep-alive only adds to it. So that moment is remembered, and the leader
//! is asked again when it comes near. Until it has answered a lease lives [`UNKNOWN_SECONDS`].
//!
//! A lease that is revoked ends at once; its keys are then gone from the store, and who kept the
//! answer finds out when that has run out.
//!
//! **Bounds.** [`LEASES_MAX`] leases are remembered; if there are more, what was remembered is
//! forgotten. Each is asked about at most every [`AGAIN_AFTER`], with [`ASKED_MAX`] questions at
//! one time; further leases stay unknown.

use crate::handle::Handle;
use quorate_replica::{LeaseAnswer, LeaseAsk};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// Leases that are remembered.
const LEASES_MAX: usize = 16_384;
/// Questions to the leader at one time.
const ASKED_MAX: usize = 64;
/// Between two questions about one lease.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long a question may take.
const WITHIN: Duration = Duration::from_secs(2);
/// What a lease has left of which nothing is known yet. Unit: seconds.
const UNKNOWN_SECONDS: u32 = 1;

#[derive(Clone, Copy, Debug)]
struct Known {
    asked: Instant,
    /// It lives until then, at least. None: nothing was answered yet.
    until: Option<Instant>,
}

/// What is known of leases.
#[derive(Debug)]
pub(super) struct Leases {
    known: Mutex<BTreeMap<i64, Known>>,
    asked: Arc<Semaphore>,
}

impl Leases {
    pub(super) fn new() -> Leases {
        Leases { known: Mutex::default(), asked: Arc::new(Semaphore::new(ASKED_MAX)) }
    }

    /// How many whole seconds a lease lives at least, if it is no more than `enough`; and whether
    /// the leader should be asked again.
    pub(super) fn left(&self, lease: i64, enough: u32, now: Instant) -> (u32, bool) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = known.get(&lease) else { return (UNKNOWN_SECONDS.min(enough), true) };
        let may_ask = now.saturating_duration_since(known.asked) >= AGAIN_AFTER;
        let Some(until) = known.until else { return (UNKNOWN_SECONDS.min(enough), may_ask) };
        let left = until.saturating_duration_since(now).as_secs();
        match u32::try_from(left).unwrap_or(u32::MAX) {
            left if left >= enough => (enough, false),
            left => (left, may_ask),
        }
    }

    /// Asks about a lease, unless too many are asked about.
    pub(super) fn ask(self: &Arc<Leases>, handle: &Handle, lease: i64) {
        let Ok(permit) = Arc::clone(&self.asked).try_acquire_owned() else { return };
        let asked = Instant::now();
        self.begin(lease, asked);
        let Ok(answer) = handle.ask_lease(LeaseAsk::TimeToLive { id: lease }) else { return };
        let leases = Arc::clone(self);
        tokio::spawn(async move {
            let _permit = permit;
            if let Ok(Ok(Ok(LeaseAnswer::Lives { left, .. }))) = timeout(WITHIN, answer).await {
                leases.learn(lease, asked + Duration::from_millis(left));
            }
        });
    }

    fn begin(&self, lease: i64, asked: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LEASES_MAX {
            known.retain(|_, known| known.until.is_some_and(|until| until > asked));
        }
        if known.len() >= LEASES_MAX {
            known.clear();
        }
        known.entry(lease).or_insert(Known { asked, until: None }).asked = asked;
    }

    fn learn(&self, lease: i64, until: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = known.get_mut(&lease) {
            known.until = known.until.max(Some(until));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lives_as_long_as_was_said_and_no_longer() {
        let (leases, now) = (Leases::new(), Instant::now());
        let at = |millis| now + Duration::from_millis(millis);
        assert_eq!(leases.left(7, 5, now), (1, true), "nothing is known");
        leases.begin(7, now);
        assert_eq!(leases.left(7, 5, at(100)), (1, false), "it is being asked");
        assert_eq!(leases.left(7, 0, at(100)), (0, false));
        leases.learn(7, at(10_000));
        assert_eq!(leases.left(7, 5, at(100)), (5, false));
        assert_eq!(leases.left(7, 5, at(5_001)), (4, true));
        assert_eq!(leases.left(7, 5, at(20_000)), (0, true));
        leases.begin(7, at(20_000));
        assert_eq!(leases.left(7, 5, at(20_100)), (0, false));
        leases.learn(7, at(28_000));
        leases.learn(7, at(24_000)); // Said before, heard after.
        assert_eq!(leases.left(7, 5, at(20_100)), (5, false));
    }

    #[test]
    fn no_more_leases_are_remembered_than_the_bound() {
        let (leases, now) = (Leases::new(), Instant::now());
        for lease in 0..=LEASES_MAX as i64 {
            leases.begin(lease, now);
            leases.learn(lease, now + Duration::from_secs(60));
        }
        assert!(leases.known.lock().expect("whole").len() <= LEASES_MAX);
    }
}
