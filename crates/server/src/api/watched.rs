//! Something large on its way to a client, given up when the client stops taking it.
//!
//! **Problem.** A body is asked for its next piece only when the connection has room for it. A
//! client that stops reading is therefore never noticed by the body, which goes on holding a frozen
//! copy of the store and a seat among the few that may.
//!
//! **Idea.** What is held lies in a slot that the body shares with a watchman. If the body has not
//! come for a piece between two looks of the watchman, he empties the slot; the body finds that out
//! if it is ever asked again, and ends its stream with an error.
//!
//! **Bound.** A stalled client holds what it holds for two looks at most.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, interval_at};

/// A slot that is emptied unless it is used.
#[derive(Debug)]
pub(super) struct Watched<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

#[derive(Debug)]
struct Slot<T> {
    held: Option<T>,
    used: bool,
}

impl<T: Send + 'static> Watched<T> {
    /// Holds `held` as long as it is used at least once in every `stall`.
    ///
    /// Panics: outside of a runtime.
    pub(super) fn new(held: T, stall: Duration) -> Watched<T> {
        let slot = Arc::new(Mutex::new(Slot { held: Some(held), used: true }));
        let watched = Arc::downgrade(&slot);
        tokio::spawn(async move {
            let mut looks = interval_at(Instant::now() + stall, stall);
            loop {
                looks.tick().await;
                // A body that ended took its slot along.
                let Some(slot) = watched.upgrade() else { return };
                let mut slot = lock(&slot);
                if !std::mem::take(&mut slot.used) {
                    slot.held = None;
                    return;
                }
            }
        });
        Watched { slot }
    }

    /// Uses what is held; none if it was given up.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut slot = lock(&self.slot);
        slot.used = true;
        slot.held.as_mut().map(work)
    }
}

fn lock<T>(slot: &Mutex<Slot<T>>) -> MutexGuard<'_, Slot<T>> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_used_is_kept_and_what_is_not_is_given_up() {
        let stall = Duration::from_millis(40);
        let token = Arc::new(());
        let watched = Watched::new(Arc::clone(&token), stall);
        for _ in 0..10 {
            tokio::time::sleep(stall / 4).await;
            assert_eq!(watched.with(|token| Arc::strong_count(token)), Some(2));
        }
        tokio::time::sleep(stall * 4).await;
        assert_eq!(Arc::strong_count(&token), 1, "freed without being asked");
        assert_eq!(watched.with(|_| ()), None);
    }

    #[tokio::test]
    async fn a_dropped_body_frees_at_once() {
        let token = Arc::new(());
        drop(Watched::new(Arc::clone(&token), Duration::from_secs(60)));
        assert_eq!(Arc::strong_count(&token), 1);
    }
}
