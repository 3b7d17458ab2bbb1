//! The thread that writes, and what is given to it.

use super::files::{AuditError, Files};
use super::record::{Body, Call, Event};
use super::{AuditCalls, AuditSettings, QUEUE_MAX, SYNC_EVERY};
use crate::metrics::Counter;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// Records that are written together, at most.
const BATCH_MAX: usize = 512;

/// How long operators are told of records that were lost.
const LOSS_TOLD_FOR: Duration = Duration::from_secs(300);

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Records that are in the log.
    pub(crate) written: Counter,
    /// Records that are not.
    pub(crate) lost: Counter,
}

/// Somebody who is told what is wrong with the log, or that nothing is any more.
pub(crate) trait Tell: Fn(Option<String>) + Send + 'static {}

impl<F: Fn(Option<String>) + Send + 'static> Tell for F {}

/// A log that is written to. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit {
    shared: Arc<Shared>,
}

struct Shared {
    jobs: SyncSender<Job>,
    calls: AuditCalls,
    counts: Arc<Counts>,
    /// Records that found no room since the thread last looked.
    overflowed: AtomicU64,
}

enum Job {
    Record { at: SystemTime, call: Box<Call> },
    Close { reply: oneshot::Sender<()> },
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("counts", &self.shared.counts).finish_non_exhaustive()
    }
}

impl Audit {
    /// Opens the log of a member and starts its thread.
    ///
    /// Errors: see [`AuditError`].
    pub(crate) fn start(
        settings: AuditSettings,
        member: u64,
        tell: impl Tell,
    ) -> Result<Audit, AuditError> {
        let (dir, calls) = (settings.dir.clone(), settings.calls);
        let files = Files::open(settings, &format!("{member:x}"))?;
        tracing::info!(dir = %dir.display(), head = files.head(), "the audit log is open");
        let (jobs, queue) = sync_channel(QUEUE_MAX);
        let (counts, overflowed) = (Arc::default(), AtomicU64::new(0));
        let shared = Arc::new(Shared { jobs, calls, counts, overflowed });
        // Weak: the thread ends when nobody can record any more.
        let weak = Arc::downgrade(&shared);
        let mut writer = Writer { files, pending: None, unsynced: 0, told_at: None, tell };
        let work = move || {
            let mut due = None;
            loop {
                let batch = receive(&queue, due);
                let Some(shared) = weak.upgrade() else { return };
                let Some(batch) = batch else { return };
                let wrote = writer.write(batch, &shared);
                due = writer.sync_if_due(due, wrote, &shared);
            }
        };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(work)
            .map_err(|error| AuditError::Io { path: dir, error })?;
        Ok(Audit { shared })
    }

    /// Which calls are recorded.
    pub(super) fn calls(&self) -> AuditCalls {
        self.shared.calls
    }

    /// What is counted.
    pub(crate) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.shared.counts)
    }

    /// Hands a record to the thread. Without room it is counted as lost.
    pub(super) fn record(&self, call: Call) {
        let job = Job::Record { at: SystemTime::now(), call: Box::new(call) };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.shared.jobs.try_send(job)
        {
            self.shared.counts.lost.add(1);
            self.shared.overflowed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Writes and syncs what waits, and says that the log ends in good order.
    pub(crate) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.shared.jobs.try_send(Job::Close { reply }).is_ok() {
            let _ = done.await; // A thread that has ended has nothing left to write.
        }
    }
}

/// What waits, as far as it is written together. None: nobody can record any more.
fn receive(queue: &Receiver<Job>, due: Option<Instant>) -> Option<Vec<Job>> {
    let patience = due.map_or(SYNC_EVERY, |due| due.saturating_duration_since(Instant::now()));
    let mut batch = match queue.recv_timeout(patience) {
        Ok(job) => vec![job],
        Err(RecvTimeoutError::Timeout) => Vec::new(),
        Err(RecvTimeoutError::Disconnected) => return None,
    };
    batch.extend(queue.try_iter().take(BATCH_MAX - batch.len()));
    Some(batch)
}

/// The thread's own.
struct Writer<T> {
    files: Files,
    /// Records that were lost and of which the log does not tell yet.
    pending: Option<(u64, String)>,
    /// Records in the file since the last sync.
    unsynced: u64,
    /// When operators were last told of a loss.
    told_at: Option<Instant>,
    tell: T,
}

impl<T: Tell> Writer<T> {
    /// Writes a batch. Returns true if the file has changed.
    fn write(&mut self, batch: Vec<Job>, shared: &Shared) -> bool {
        let overflowed = shared.overflowed.swap(0, Ordering::Relaxed);
        if overflowed > 0 {
            self.lose(overflowed, "too many calls at once");
        }
        let (mut calls, mut replies) = (Vec::new(), Vec::new());
        for job in batch {
            match job {
                Job::Record { at, call } => calls.push((at, Body::Call(*call))),
                Job::Close { reply } => replies.push(reply),
            }
        }
        let count = calls.len() as u64;
        let before = self.files.written();
        let outcome = self.append(calls, !replies.is_empty());
        let mut lost = 0;
        if let Err(error) = &outcome {
            self.files.drop_unwritten();
            // A file may have become full in between, and what came first be in it.
            let mut kept = self.files.written() - before;
            if kept > 0 && self.pending.take().is_some() {
                kept -= 1;
            }
            lost = count.saturating_sub(kept);
            shared.counts.lost.add(lost);
            self.lose(lost, &error.to_string());
        }
        shared.counts.written.add(count - lost);
        self.unsynced += count - lost;
        let is_over = self.told_at.is_some_and(|at| at.elapsed() > LOSS_TOLD_FOR);
        if outcome.is_ok() && is_over {
            self.told_at = None;
            (self.tell)(None);
        }
        for reply in replies {
            let _ = reply.send(()); // Whoever stops may have lost its patience.
        }
        count > lost
    }

    /// A batch, after what was lost before it.
    fn append(&mut self, calls: Vec<(SystemTime, Body)>, closes: bool) -> io::Result<()> {
        if let Some((count, why)) = &self.pending {
            let event = Event::Lost { count: *count, why: why.clone() };
            self.files.push(SystemTime::now(), &Body::Event(event))?;
        }
        for (at, body) in calls {
            self.files.push(at, &body)?;
        }
        if closes {
            self.files.push(SystemTime::now(), &Body::Event(Event::Closed))?;
            self.files.sync()?;
            tracing::info!(head = self.files.head(), "the audit log ends here");
        }
        self.files.flush()?;
        self.pending = None;
        Ok(())
    }

    /// Remembers what was lost until the log can say so, and tells operators.
    fn lose(&mut self, count: u64, why: &str) {
        if count == 0 {
            return;
        }
        let before = self.pending.take().map_or(0, |(count, _)| count);
        self.pending = Some((before + count, why.to_owned()));
        if self.told_at.is_none() {
            tracing::error!(why, "the audit log loses records; calls are served without");
        }
        self.told_at = Some(Instant::now());
        (self.tell)(Some(format!("the audit log loses records: {why}")));
    }

    /// When the next sync is due.
    fn sync_if_due(
        &mut self,
        due: Option<Instant>,
        wrote: bool,
        shared: &Shared,
    ) -> Option<Instant> {
        let now = Instant::now();
        let due = due.or_else(|| wrote.then(|| now + SYNC_EVERY))?;
        if due > now {
            return Some(due);
        }
        match self.files.sync() {
            Ok(()) => {
                self.unsynced = 0;
                None
            }
            Err(error) => {
                // What is in the file may not be on the disk: nobody knows how much of it.
                let count = std::mem::take(&mut self.unsynced);
                shared.counts.lost.add(count);
                self.lose(count, &format!("cannot sync: {error}"));
                Some(now + SYNC_EVERY)
            }
        }
    }
}
