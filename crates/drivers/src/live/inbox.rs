//! Where everything that happens to a live node is queued for its loop.

use quorate_core::{Lsn, NodeId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

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
    /// There while the loop sleeps, so that a busy loop costs its feeders no wake-up call.
    sleeper: Option<Waker>,
}

/// The loop's letter box: many threads push, the loop takes all at once.
///
/// It wakes whoever waits for it through a standard [`Waker`]: a loop with a thread of its own and
/// a loop that is one task among others sleep in the same way.
#[derive(Debug)]
pub struct Inbox<M, A> {
    limits: InboxLimits,
    queue: Mutex<Queue<M, A>>,
}

impl<M, A> Inbox<M, A> {
    /// An empty inbox.
    pub fn new(limits: InboxLimits) -> Self {
        let queue = Queue { offered: Offered::default(), sleeper: None };
        Inbox { limits, queue: Mutex::new(queue) }
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

    /// Swaps everything that arrived into `into`, which must be empty. Never waits.
    pub fn take(&self, into: &mut Offered<M, A>) {
        assert!(into.is_empty(), "the last turn left events behind");
        std::mem::swap(&mut self.lock().offered, into);
    }

    /// Ready once something has arrived; until then the task is woken by the next arrival. One
    /// task at a time may wait.
    pub fn poll_arrived(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.lock();
        if !queue.offered.is_empty() {
            return Poll::Ready(());
        }
        match &mut queue.sleeper {
            Some(sleeper) => sleeper.clone_from(cx.waker()),
            sleeper => *sleeper = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Blocks this thread until something has arrived, or `patience` is over.
    pub fn wait(&self, patience: Duration) {
        let waker = Waker::from(Arc::new(Sleeper(std::thread::current())));
        let until = Instant::now() + patience;
        while self.poll_arrived(&mut Context::from_waker(&waker)).is_pending() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::park_timeout(left);
        }
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue<M, A>>) {
        let sleeper = queue.sleeper.take();
        drop(queue);
        if let Some(sleeper) = sleeper {
            sleeper.wake();
        }
    }

    /// A feeder that panicked left whole values behind: every push is one statement.
    fn lock(&self) -> MutexGuard<'_, Queue<M, A>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that waits for its inbox.
struct Sleeper(Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
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
        inbox.take(&mut offered);
        assert_eq!(offered.asks, ["first"]);
        assert_eq!(offered.messages, [(NodeId(1), 'a')]);
    }

    #[test]
    fn a_push_wakes_a_sleeping_loop() {
        let inbox = Arc::new(Inbox::<(), u8>::new(InboxLimits::default()));
        let feeder = Arc::clone(&inbox);
        let thread = std::thread::spawn(move || feeder.ask(7));
        let mut offered = Offered::default();
        while offered.asks.is_empty() {
            inbox.wait(Duration::from_secs(5));
            inbox.take(&mut offered);
        }
        assert_eq!(offered.asks, [7]);
        thread.join().expect("the feeder ends").expect("the inbox has room");
    }
}
