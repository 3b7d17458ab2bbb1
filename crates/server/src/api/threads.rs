//! Threads that serve clients only, for machines with processors to spare.
//!
//! A connection that shares the thread of the replica costs least: no request changes hands. But
//! one thread is one processor. Beyond that, connections are dealt out to further threads in turn,
//! each with a small runtime of its own; their requests reach the replica through its inbox, as
//! those of the first thread do.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads at most, unless told otherwise: the replica behind them is one thread.
const THREADS_MAX: usize = 8;

/// What the tasks of a thread may take to end with it.
const END_WITHIN: Duration = Duration::from_millis(500);

/// The threads; they end when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    runtimes: Vec<Handle>,
    next: AtomicUsize,
    /// Dropped to tell the threads.
    _ends: Vec<oneshot::Sender<()>>,
}

impl Threads {
    /// How many a machine with so many processors is given: none below four, where members,
    /// clients and the disk's own work leave no processor idle.
    pub(crate) fn usual(processors: usize) -> usize {
        if processors < 4 { 0 } else { (processors / 2).min(THREADS_MAX) }
    }

    /// Starts so many. Errors: those of the operating system.
    pub(crate) fn start(count: usize) -> io::Result<Threads> {
        let mut threads = Threads::default();
        for number in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (end, ended) = oneshot::channel::<()>();
            threads.runtimes.push(runtime.handle().clone());
            threads._ends.push(end);
            let body = move || {
                let _ = runtime.block_on(ended); // Never sent: it ends by the sender's end.
                runtime.shutdown_timeout(END_WITHIN);
            };
            std::thread::Builder::new().name(format!("clients-{number}")).spawn(body)?;
        }
        Ok(threads)
    }

    /// Who serves the next connection; none if that is the thread which accepts it.
    pub(super) fn next(&self) -> Option<&Handle> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.runtimes.get(turn.checked_rem(self.runtimes.len())?)
    }
}

#[cfg(test)]
mod tests {
    use super::Threads;

    #[test]
    fn small_machines_share_the_thread_of_the_replica() {
        assert_eq!([1, 2, 3, 4, 8, 64].map(Threads::usual), [0, 0, 0, 2, 4, 8]);
        assert!(Threads::default().next().is_none());
    }

    #[test]
    fn connections_are_dealt_out_in_turn() {
        let threads = Threads::start(2).expect("threads");
        let names = [(); 4].map(|()| {
            let runtime = threads.next().expect("a thread");
            let (tell, told) = std::sync::mpsc::channel();
            runtime
                .spawn(async move { tell.send(std::thread::current().name().map(String::from)) });
            told.recv().expect("it runs").expect("it has a name")
        });
        assert_eq!(names, ["clients-0", "clients-1", "clients-0", "clients-1"]);
    }
}
