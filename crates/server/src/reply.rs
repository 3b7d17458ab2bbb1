//! The way back to whoever asked the loop: bounded by how many wait, not by how long.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::oneshot;

/// The place of an answer that somebody waits for. Counts as a waiting request until it is dropped.
#[derive(Debug)]
pub(crate) struct Reply<T> {
    sender: oneshot::Sender<T>,
    slot: Slot,
}

/// One waiting request; counted down when dropped.
#[derive(Debug)]
struct Slot(Arc<AtomicUsize>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T> Reply<T> {
    /// None if `max` requests wait already.
    pub(crate) fn new(
        waiting: &Arc<AtomicUsize>,
        max: usize,
    ) -> Option<(Reply<T>, oneshot::Receiver<T>)> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= max {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        Some((Reply { sender, slot: Slot(Arc::clone(waiting)) }, receiver))
    }

    /// True if nobody waits any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    /// Answers.
    pub(crate) fn send(self, answer: T) {
        drop(self.slot);
        // Whoever asked may have gone away; the answer is then of no use to anybody.
        let _ = self.sender.send(answer);
    }
}
