//! Handshakes, where they disturb nobody.
//!
//! Problem: whoever reaches a port can make us compute a signature, without being known to anybody;
//! a flood of handshakes on the thread of the replica would stop heartbeats. Idea: each listener
//! has one thread for handshakes alone, so that they cost one processor at most, and the kernel
//! shares that one fairly with the replica. A connection changes to its own thread once it is
//! through.
//!
//! Bounds: a handshake takes [`HANDSHAKE_WITHIN`] at most, silence and answers included; of those
//! under way there are [`HANDSHAKES_MAX`] at most. Beyond that the oldest is cut off: a client that
//! means well takes milliseconds and is among the youngest, one that dawdles is not.

use super::reason::{Failure, Reason};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// A handshake that is not through by then has failed.
pub(crate) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// Handshakes under way on one listener; each takes a file descriptor and some 20 KiB.
pub(crate) const HANDSHAKES_MAX: usize = 1_024;

/// A thread for handshakes; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Handshakes {
    runtime: Handle,
    under_way: Arc<Mutex<UnderWay>>,
    most: usize,
    within: Duration,
    /// Dropped to tell the thread.
    _end: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct UnderWay {
    /// Number of the next one.
    next: u64,
    /// By number: the first is the oldest.
    tasks: BTreeMap<u64, AbortHandle>,
}

impl Handshakes {
    /// Starts the thread. Errors: those of the operating system.
    pub(crate) fn start(name: &str) -> io::Result<Handshakes> {
        Handshakes::bounded(name, HANDSHAKES_MAX, HANDSHAKE_WITHIN)
    }

    fn bounded(name: &str, most: usize, within: Duration) -> io::Result<Handshakes> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let body = move || {
            let _ = runtime.block_on(ended); // Never sent: it ends by the sender's end.
            runtime.shutdown_background();
        };
        std::thread::Builder::new().name(format!("tls-{name}")).spawn(body)?;
        Ok(Handshakes { runtime: handle, under_way: Arc::default(), most, within, _end: end })
    }

    /// Does one on that thread. Dropping the future ends it.
    ///
    /// Errors: that of the handshake, or a bound.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        handshake: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> Result<T, Failure> {
        let within = self.within;
        let task = self.runtime.spawn(async move {
            timeout(within, handshake).await.unwrap_or_else(|_| {
                let text = format!("it did not finish the TLS handshake within {within:?}");
                Err(Failure::new(Reason::Slow, text))
            })
        });
        let _seat = self.seat(task.abort_handle());
        task.await.unwrap_or_else(|_| {
            let text = "too many TLS handshakes are under way, and this was the oldest";
            Err(Failure::new(Reason::Crowded, text))
        })
    }

    fn seat(&self, task: AbortHandle) -> Seat {
        let mut under_way = lock(&self.under_way);
        if under_way.tasks.len() >= self.most
            && let Some((_, oldest)) = under_way.tasks.pop_first()
        {
            oldest.abort();
        }
        let number = under_way.next;
        under_way.next += 1;
        under_way.tasks.insert(number, task);
        Seat { under_way: Arc::clone(&self.under_way), number }
    }
}

fn lock(under_way: &Mutex<UnderWay>) -> MutexGuard<'_, UnderWay> {
    under_way.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of one handshake; dropping it ends the handshake, if it still runs.
struct Seat {
    under_way: Arc<Mutex<UnderWay>>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.under_way).tasks.remove(&self.number) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    #[tokio::test]
    async fn the_oldest_makes_room_and_the_slow_are_cut_off() {
        let handshakes = Handshakes::bounded("test", 2, Duration::from_millis(300));
        let handshakes = Arc::new(handshakes.expect("a thread"));
        let dawdle = || {
            let handshakes = Arc::clone(&handshakes);
            tokio::spawn(async move { handshakes.run(pending::<Result<(), Failure>>()).await })
        };
        let oldest = dawdle();
        tokio::task::yield_now().await;
        let older = dawdle();
        tokio::task::yield_now().await;
        assert_eq!(handshakes.run(async { Ok(7) }).await, Ok(7), "there is always room");
        let reason = |outcome: Result<(), Failure>| outcome.expect_err("cut off").reason;
        assert_eq!(reason(oldest.await.expect("no panic")), Reason::Crowded);
        assert_eq!(reason(older.await.expect("no panic")), Reason::Slow);
        assert!(lock(&handshakes.under_way).tasks.is_empty());
    }

    #[tokio::test]
    async fn one_that_is_given_up_ends() {
        let handshakes = Handshakes::bounded("test", 2, Duration::from_secs(60));
        let handshakes = handshakes.expect("a thread");
        let (held, released) = oneshot::channel::<()>();
        let endless = async move {
            let _held = held;
            pending::<Result<(), Failure>>().await
        };
        let given_up = timeout(Duration::from_millis(20), handshakes.run(endless)).await;
        assert!(given_up.is_err());
        let ended = timeout(Duration::from_secs(10), released).await;
        assert!(ended.expect("it was dropped on its thread").is_err());
    }
}
