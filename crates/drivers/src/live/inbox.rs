//! Where everything that happens to a live node is queued for its loop.

use quorate_core::{Lsn, NodeId};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How much may wait for the loop.
#[derive(Clone, Copy, Debug)]
pub struct InboxLimits {
    /// Questions of the layer above; one more is handed back to the asker.
    pub asks_max: usize,
    /// Messages of peers; one more is dropped, as a network would.
    pub messages_max: usize,
}

impl Default for InboxLimits {
    fn default() -> Self {
        InboxLimits { asks_max: 16_384, messages_max: 65_536 }
    }
}

/// Everything that arrived since the loop last looked. Buffers are swapped, not copied.
#[derive(Debug)]
pub struct Offered<M, A> {
    /// Records up to this number are durable.
    pub synced: Option<Lsn>,
    /// Messages of peers, in order of arrival.
    pub messages: Vec<(NodeId, M)>,
    /// Questions of the layer above, in order.
    pub asks: Vec<A>,
    /// The log thread cannot go on.
    pub log_failure: Option<String>,
    /// Somebody asked the loop to end.
    pub stop: bool,
}

impl<M, A> Default for Offered<M, A> {
    fn default() -> Self {
        Offered {
            synced: None,
            messages: Vec::new(),
            asks: Vec::new(),
            log_failure: None,
            stop: false,
        }
    }
}

impl<M, A> Offered<M, A> {
    fn is_empty(&self) -> bool {
        self.synced.is_none()
            && self.messages.is_empty()
            && self.asks.is_empty()
            && self.log_failure.is_none()
            && !self.stop
    }
}

#[derive(Debug)]
struct Queue<M, A> {
    offered: Offered<M, A>,
    /// True while the loop sleeps, so that a busy loop costs its feeders no wake-up call.
    sleeping: bool,
}

/// The loop's letter box: many threads push, the loop takes all at once.
#[derive(Debug)]
pub struct Inbox<M, A> {
    limits: InboxLimits,
    queue: Mutex<Queue<M, A>>,
    arrived: Condvar,
}

impl<M, A> Inbox<M, A> {
    /// An empty inbox.
    pub fn new(limits: InboxLimits) -> Self {
        let queue = Queue { offered: Offered::default(), sleeping: false };
        Inbox { limits, queue: Mutex::new(queue), arrived: Condvar::new() }
    }

    /// Queues a question. Errors: hands it back if `asks_max` wait already.
    pub fn ask(&self, ask: A) -> Result<(), A> {
        let mut queue = self.lock();
        if queue.offered.asks.len() >= self.limits.asks_max {
            return Err(ask);
        }
        queue.offered.asks.push(ask);
        self.wake(queue);
        Ok(())
    }

    /// Queues messages of a peer, leaving `messages` empty. What exceeds `messages_max` is dropped;
    /// returns how many that were.
    pub fn deliver(&self, from: NodeId, messages: &mut Vec<M>) -> usize {
        let mut queue = self.lock();
        let room = self.limits.messages_max.saturating_sub(queue.offered.messages.len());
        let dropped = messages.len().saturating_sub(room);
        queue.offered.messages.extend(messages.drain(..).take(room).map(|m| (from, m)));
        self.wake(queue);
        dropped
    }

    /// Records up to `upto` are durable.
    pub fn synced(&self, upto: Lsn) {
        let mut queue = self.lock();
        queue.offered.synced = Some(upto);
        self.wake(queue);
    }

    /// The log cannot be written any more: the node must stop.
    pub fn log_failed(&self, why: String) {
        let mut queue = self.lock();
        queue.offered.log_failure = Some(why);
        self.wake(queue);
    }

    /// Asks the loop to end after its present turn.
    pub fn stop(&self) {
        let mut queue = self.lock();
        queue.offered.stop = true;
        self.wake(queue);
    }

    /// Swaps everything that arrived into `into` (which must be empty), waiting at most `patience`
    /// for something to arrive.
    pub fn take(&self, into: &mut Offered<M, A>, patience: Duration) {
        assert!(into.is_empty(), "the last turn left events behind");
        let mut queue = self.lock();
        if queue.offered.is_empty() && !patience.is_zero() {
            queue.sleeping = true;
            let woken = self.arrived.wait_timeout_while(queue, patience, |q| q.offered.is_empty());
            queue = woken.unwrap_or_else(PoisonError::into_inner).0;
            queue.sleeping = false;
        }
        std::mem::swap(&mut queue.offered, into);
    }

    fn wake(&self, queue: MutexGuard<'_, Queue<M, A>>) {
        let sleeping = queue.sleeping;
        drop(queue);
        if sleeping {
            self.arrived.notify_one();
        }
    }

    /// A feeder that panicked left whole values behind: every push is one statement.
    fn lock(&self) -> MutexGuard<'_, Queue<M, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_hands_questions_back_and_drops_messages() {
        let inbox = Inbox::new(InboxLimits { asks_max: 1, messages_max: 1 });
        assert_eq!(inbox.ask("first"), Ok(()));
        assert_eq!(inbox.ask("second"), Err("second"));
        assert_eq!(inbox.deliver(NodeId(1), &mut vec!['a', 'b']), 1);
        let mut offered = Offered::default();
        inbox.take(&mut offered, Duration::ZERO);
        assert_eq!(offered.asks, ["first"]);
        assert_eq!(offered.messages, [(NodeId(1), 'a')]);
    }

    #[test]
    fn a_push_wakes_a_sleeping_loop() {
        let inbox = std::sync::Arc::new(Inbox::<(), u8>::new(InboxLimits::default()));
        let feeder = std::sync::Arc::clone(&inbox);
        let thread = std::thread::spawn(move || feeder.ask(7));
        let mut offered = Offered::default();
        while offered.asks.is_empty() {
            inbox.take(&mut offered, Duration::from_secs(5));
        }
        assert_eq!(offered.asks, [7]);
        thread.join().expect("the feeder ends").expect("the inbox has room");
    }
}
