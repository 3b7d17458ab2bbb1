//! The thread that writes the log: one write and one sync for everything that waits.

use super::{Inbox, monotonic_now};
use quorate_core::{Frame, Index, Lsn, Time};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// After so long without work the log may note how far it was synced.
const IDLE_AFTER: Duration = Duration::from_millis(50);

/// How often a log that waits for space tries again.
const SPACE_RETRY: Duration = Duration::from_millis(100);

/// The log cannot be written any more.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogError {
    /// What failed, for the operator.
    pub why: String,
}

/// What the live driver needs of a write-ahead log.
pub trait Log: Send + 'static {
    /// Buffers a frame; no I/O.
    fn append(&mut self, frame: &Frame);

    /// Makes everything appended durable.
    ///
    /// Errors: fatal. What was appended since the last sync may or may not be on disk, and no later
    /// success can tell (PostgreSQL's fsync lesson of 2018), so the node must stop.
    fn sync(&mut self) -> Result<(), LogError>;

    /// True if the last sync failed for want of space alone: then nothing is in doubt, and it is
    /// tried again until there is some.
    fn wants_space(&self) -> bool {
        false
    }

    /// Nothing has been appended for a while.
    fn idle(&mut self) -> Result<(), LogError>;

    /// What was written so far is to be in files that nothing more is written to, so that it can be
    /// released; what a member must remember is repeated after it, durably.
    fn seal(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    /// Entries up to `upto` are held by a checkpoint and need not be kept.
    fn release(&mut self, upto: Index) -> Result<(), LogError>;

    /// Bytes on disk.
    fn bytes(&self) -> u64;
}

#[derive(Debug, Default)]
struct Work {
    frames: Vec<Frame>,
    written: Lsn,
    release: Option<Index>,
    seal: bool,
    stop: bool,
    sleeping: bool,
    bytes: u64,
    /// Why the log stands still, if it waits for space.
    stalled: Option<String>,
    /// When the turn under way began, unless it waits for space.
    busy_since: Option<Time>,
    /// The longest turn since somebody asked.
    longest: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    arrived: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A turn is over.
    fn rest(&self, bytes: u64) {
        let now = monotonic_now();
        let mut work = self.lock();
        work.bytes = bytes;
        let took = work.busy_since.take().map_or(Duration::ZERO, |since| now.since(since));
        work.longest = work.longest.max(took);
    }

    fn wake(&self, work: MutexGuard<'_, Work>) {
        let sleeping = work.sleeping;
        drop(work);
        if sleeping {
            self.arrived.notify_one();
        }
    }
}

/// The loop's end of the log thread.
///
/// Bound: the protocol bounds what it has written but not committed, and so what waits here.
#[derive(Clone, Debug)]
pub struct LogHandle {
    shared: Arc<Shared>,
}

impl LogHandle {
    /// Hands frames over; `written` is the number of the last one. Leaves `frames` empty.
    pub fn write(&self, frames: &mut Vec<Frame>, written: Lsn) {
        let mut work = self.shared.lock();
        if work.frames.is_empty() {
            std::mem::swap(&mut work.frames, frames);
        } else {
            work.frames.append(frames);
        }
        work.written = written;
        self.shared.wake(work);
    }

    /// Entries up to `upto` are held by a checkpoint.
    pub fn release(&self, upto: Index) {
        let mut work = self.shared.lock();
        work.release = work.release.max(Some(upto));
        self.shared.wake(work);
    }

    /// What was written so far is to be in files of its own: see [`Log::seal`].
    pub fn seal(&self) {
        let mut work = self.shared.lock();
        work.seal = true;
        self.shared.wake(work);
    }

    /// True while something is on its way to the disk, or waits for it.
    pub fn is_busy(&self) -> bool {
        let work = self.shared.lock();
        !work.frames.is_empty() || work.busy_since.is_some()
    }

    /// Why the log stands still, if it waits for space.
    pub fn stalled(&self) -> Option<String> {
        self.shared.lock().stalled.clone()
    }

    /// The longest that a turn took since the last call: writing, syncing, housekeeping. The one
    /// under way counts as far as it has come; waiting for space does not count.
    pub fn take_longest(&self, now: Time) -> Duration {
        let mut work = self.shared.lock();
        let so_far = work.busy_since.map_or(Duration::ZERO, |since| now.since(since));
        std::mem::take(&mut work.longest).max(so_far)
    }

    /// Bytes of the log on disk, as of its last turn.
    pub fn bytes(&self) -> u64 {
        self.shared.lock().bytes
    }
}

/// The running thread. Dropping it ends the thread after what was handed over is synced.
#[derive(Debug)]
pub struct LogThread {
    handle: LogHandle,
    thread: Option<JoinHandle<()>>,
}

impl LogThread {
    /// Starts the thread; it reports to `inbox`.
    pub fn start<M, A>(log: impl Log, inbox: Arc<Inbox<M, A>>) -> std::io::Result<LogThread>
    where
        M: Send + 'static,
        A: Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        shared.lock().bytes = log.bytes();
        let theirs = Arc::clone(&shared);
        let body = move || {
            let _obituary = Obituary(&inbox);
            if let Err(failure) = run(log, &theirs, &inbox) {
                inbox.log_failed(failure.why);
            }
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(body)?;
        Ok(LogThread { handle: LogHandle { shared }, thread: Some(thread) })
    }

    /// The end to hand frames to.
    pub fn handle(&self) -> LogHandle {
        self.handle.clone()
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        let mut work = self.handle.shared.lock();
        work.stop = true;
        self.handle.shared.wake(work);
        if let Some(thread) = self.thread.take() {
            // A panic of the log thread has been told to the loop; we are ending anyway.
            let _ = thread.join();
        }
    }
}

/// Tells the loop of a panic. Without it the node would lead on, and queue frames for nobody.
struct Obituary<'a, M, A>(&'a Inbox<M, A>);

impl<M, A> Drop for Obituary<'_, M, A> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.log_failed("an internal check of the log failed".to_owned());
        }
    }
}

fn run<M, A>(mut log: impl Log, shared: &Shared, inbox: &Inbox<M, A>) -> Result<(), LogError> {
    let mut frames = Vec::new();
    let mut settled = true;
    loop {
        let Wanted { written, release, seal, stop } = wait(shared, &mut frames, settled);
        if !frames.is_empty() {
            frames.iter().for_each(|frame| log.append(frame));
            frames.clear();
            if !sync(&mut log, shared)? {
                return Ok(());
            }
            inbox.synced(written);
            settled = false;
        } else if !settled {
            log.idle()?;
            settled = true;
        }
        if seal {
            log.seal()?;
        }
        if let Some(upto) = release {
            log.release(upto)?;
        }
        shared.rest(log.bytes());
        if stop {
            return Ok(());
        }
    }
}

/// Syncs, waiting for space as long as it takes: nothing is acknowledged meanwhile. False if the
/// thread is to stop before there was any.
fn sync(log: &mut impl Log, shared: &Shared) -> Result<bool, LogError> {
    while let Err(failure) = log.sync() {
        if !log.wants_space() {
            return Err(failure);
        }
        let mut work = shared.lock();
        work.stalled = Some(failure.why);
        work.busy_since = None;
        let (release, stop) = (work.release.take(), work.stop);
        drop(work);
        if stop {
            return Ok(false);
        }
        // What is released may be the very space that is missing.
        match release {
            Some(upto) => log.release(upto)?,
            None => std::thread::sleep(SPACE_RETRY),
        }
    }
    let mut work = shared.lock();
    if work.stalled.is_some() {
        work.stalled = None;
    }
    Ok(true)
}

/// What a turn of the log is to do beside writing frames.
struct Wanted {
    written: Lsn,
    release: Option<Index>,
    seal: bool,
    stop: bool,
}

/// Swaps the waiting frames out. Returns without any only to settle, to seal, to release or to
/// stop.
fn wait(shared: &Shared, frames: &mut Vec<Frame>, settled: bool) -> Wanted {
    let mut work = shared.lock();
    let idle = |work: &mut Work| {
        work.frames.is_empty() && work.release.is_none() && !work.seal && !work.stop
    };
    if idle(&mut work) {
        work.sleeping = true;
        work = if settled {
            shared.arrived.wait_while(work, idle).unwrap_or_else(PoisonError::into_inner)
        } else {
            let waited = shared.arrived.wait_timeout_while(work, IDLE_AFTER, idle);
            waited.unwrap_or_else(PoisonError::into_inner).0
        };
        work.sleeping = false;
    }
    std::mem::swap(&mut work.frames, frames);
    work.busy_since = Some(monotonic_now());
    // Stop only when nothing is left: what was handed over must still be synced.
    Wanted {
        written: work.written,
        release: work.release.take(),
        seal: std::mem::take(&mut work.seal),
        stop: work.stop,
    }
}
