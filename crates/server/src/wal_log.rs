//! The write-ahead log as the log thread of the live driver drives it.

use crate::metrics::Metrics;
use quorate_core::{Frame, Index};
use quorate_drivers::live::{Log, LogError};
use quorate_storage::{Place, Prepared, RealDisk, Wal, WalError, WalScrubber};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

/// The log of one member. Its next segment is made ahead on a thread of its own, because zeroing
/// one takes longer than any sync may.
#[derive(Debug)]
pub(crate) struct WalLog {
    wal: Option<Wal<RealDisk>>,
    preparing: Option<JoinHandle<Result<Prepared<RealDisk>, WalError>>>,
    metrics: Arc<Metrics>,
    /// The last sync failed for want of space.
    full: bool,
    /// How far the log is synced, for who reads along: a packed place.
    synced: Arc<AtomicU64>,
}

/// The segments of a log, to be read beside it.
#[derive(Debug)]
pub(crate) struct Segments {
    /// Who reads them.
    pub(crate) scrubber: WalScrubber<RealDisk>,
    /// How far the log is synced, as a packed place; it goes on as the log does.
    synced: Arc<AtomicU64>,
    /// Places that were found damaged at the start.
    pub(crate) damaged: u64,
}

impl Segments {
    /// How far the log is synced.
    pub(crate) fn synced(&self) -> Place {
        Place::from_u64(self.synced.load(Ordering::Acquire))
    }
}

impl WalLog {
    /// The log; its syncs are counted in `metrics`.
    pub(crate) fn new(wal: Wal<RealDisk>, metrics: Arc<Metrics>) -> WalLog {
        let synced = Arc::new(AtomicU64::new(wal.synced().to_u64()));
        WalLog { wal: Some(wal), preparing: None, metrics, full: false, synced }
    }

    /// The segments, for who reads them beside this log. `damaged`: places that the start found so.
    pub(crate) fn segments(&self, damaged: u64) -> Segments {
        let wal = self.wal.as_ref().expect("the log is open until it is dropped");
        Segments { scrubber: wal.scrubber(), synced: Arc::clone(&self.synced), damaged }
    }

    fn tell_synced(&mut self) {
        let synced = self.wal().synced().to_u64();
        self.synced.store(synced, Ordering::Release);
    }

    fn wal(&mut self) -> &mut Wal<RealDisk> {
        self.wal.as_mut().expect("the log is open until it is dropped")
    }

    /// Makes the next segment ahead, or takes the one that was made.
    fn prepare(&mut self) -> Result<(), LogError> {
        if let Some(preparing) = self.preparing.take_if(|preparing| preparing.is_finished()) {
            match preparing.join().expect("making a file does not panic") {
                Ok(prepared) => self.wal().adopt(prepared).map_err(fatal)?,
                // The log makes the segment itself when it needs it, and then it counts.
                Err(error) => tracing::warn!(%error, "cannot make the next log segment ahead"),
            }
        }
        if self.preparing.is_none()
            && let Some(preparation) = self.wal().preparation()
        {
            let thread = std::thread::Builder::new().name("log-ahead".to_owned());
            self.preparing = thread.spawn(|| preparation.run()).ok();
        }
        Ok(())
    }
}

fn fatal(error: WalError) -> LogError {
    LogError { why: error.to_string() }
}

impl Log for WalLog {
    fn append(&mut self, frame: &Frame) {
        self.wal().append(frame);
    }

    fn sync(&mut self) -> Result<(), LogError> {
        let begun = Instant::now();
        let synced = self.wal().sync();
        let full = synced.as_ref().is_err_and(WalError::wants_space);
        match &synced {
            Err(error) if full && !self.full => {
                tracing::error!(%error, "no space for the log: waiting for some");
            }
            Ok(()) if self.full => tracing::info!("there is space for the log again"),
            _ => {}
        }
        self.full = full;
        synced.map_err(fatal)?;
        self.tell_synced();
        self.metrics.log_sync.observe(begun.elapsed());
        let prepared = self.prepare();
        self.metrics.log_turn.observe(begun.elapsed());
        prepared
    }

    fn wants_space(&self) -> bool {
        self.full
    }

    fn idle(&mut self) -> Result<(), LogError> {
        self.wal().mark().map_err(fatal)
    }

    fn seal(&mut self) -> Result<(), LogError> {
        match self.wal().seal() {
            // The next sync begins the segment, when there is space.
            Err(error) if error.wants_space() => Ok(()),
            sealed => {
                self.tell_synced();
                sealed.map_err(fatal)
            }
        }
    }

    fn release(&mut self, upto: Index) -> Result<(), LogError> {
        self.wal().release(upto).map_err(fatal)
    }

    fn bytes(&self) -> u64 {
        self.wal.as_ref().map_or(0, Wal::bytes)
    }
}

impl Drop for WalLog {
    fn drop(&mut self) {
        if let Some(wal) = self.wal.take()
            && let Err(error) = wal.close()
        {
            tracing::error!(%error, "the log could not be settled; it is sound without");
        }
    }
}
