//! The rounds of the scrubber of a member: a thread that looks, tells, and repairs.

use super::patrol::{self, Found};
use super::repair::{Repair, Step, View};
use super::{Round, ScrubSettings};
use crate::handle::Handle;
use crate::host::{Ask, Shared};
use crate::peers::{Shared as PeersShared, bulk::CheckpointDesk};
use crate::sealed::{self, Pair};
use crate::wal_log::Segments;
use quorate_core::Index;
use quorate_drivers::live::LogHandle;
use quorate_replica::store::{Caller, Command, Revision};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// While a batch is on its way to the disk a step waits so long for its end.
const YIELD_MAX: Duration = Duration::from_millis(50);
/// In pauses of this.
const YIELD: Duration = Duration::from_millis(2);
/// Between two looks at what a repair has come to.
const REPAIR_PAUSE: Duration = Duration::from_millis(20);
/// A step of a repair is asked for again after so long.
const REPAIR_RETRY: Duration = Duration::from_secs(2);
/// A repair that takes longer waits for the next round, which is soon.
const REPAIR_PATIENCE: Duration = Duration::from_secs(60);
/// So often a round repairs and looks again.
const LOOKS_MAX: usize = 3;
/// After a round that left something damaged.
const RETRY_INTERVAL: Duration = Duration::from_secs(60);
/// A start that found damage is followed by a round after so long.
const FIRST_AFTER_DAMAGE: Duration = Duration::from_secs(1);
/// Under which operators are told of damage.
const CONDITION: &str = "scrub";

/// What the scrubber works on.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peers: Arc<PeersShared>,
    pub(crate) checkpoints: Arc<CheckpointDesk>,
    pub(crate) log: LogHandle,
    pub(crate) segments: Segments,
    /// `DIR/member`.
    pub(crate) dir: PathBuf,
    pub(crate) settings: ScrubSettings,
}

/// The running thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Scrubber {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Scrubber {
    /// Starts the thread.
    ///
    /// Errors: there is none to be had.
    pub(crate) fn start(parts: Parts) -> io::Result<Scrubber> {
        let shared = Arc::clone(&parts.shared);
        let runtime = tokio::runtime::Handle::current();
        let worker = Worker { parts, runtime };
        let thread = std::thread::Builder::new().name("scrub".to_owned());
        let thread = thread.spawn(move || worker.run())?;
        Ok(Scrubber { shared, thread: Some(thread) })
    }
}

impl Drop for Scrubber {
    fn drop(&mut self) {
        self.shared.scrub.stop();
        if let Some(thread) = self.thread.take() {
            // A panic of it has cost a look at the disk, and we are ending anyway.
            let _ = thread.join();
        }
    }
}

struct Worker {
    parts: Parts,
    runtime: tokio::runtime::Handle,
}

impl Worker {
    fn run(self) {
        self.complete_copies();
        let interval = self.parts.settings.interval;
        let mut pause = if self.parts.segments.damaged > 0 { FIRST_AFTER_DAMAGE } else { interval };
        while let Some(number) = self.parts.shared.scrub.next(pause) {
            let is_whole = self.round(number);
            pause = if is_whole { interval } else { RETRY_INTERVAL };
        }
    }

    /// A directory of an older version has no copies of its small files.
    fn complete_copies(&self) {
        for file in sealed::FILES {
            if let Err(error) = self.repair_file(file) {
                tracing::warn!(file, %error, "cannot write the copy");
            }
        }
    }

    /// One round. True if nothing is damaged after it.
    fn round(&self, number: u64) -> bool {
        let begun = Instant::now();
        self.doing("reading");
        let first = self.look();
        let mut round = Round { number, ..Round::default() };
        let unrepaired = match first {
            Err(why) => Some(format!("the disk could not be looked at: {why}")),
            Ok(found) => {
                round.bytes = found.bytes;
                round.damaged = found.count;
                self.tell(&found);
                let unrepaired = if found.is_clean() { None } else { self.repair(&found) };
                round.findings = found.findings;
                unrepaired
            }
        };
        round.took_ms = begun.elapsed().as_millis() as u64;
        round.unrepaired = unrepaired;
        self.finished(round)
    }

    fn doing(&self, what: &str) {
        self.parts.shared.scrub.lock().report.doing = Some(what.to_owned());
    }

    /// Looks at everything, no faster than it may.
    fn look(&self) -> Result<Found, String> {
        let Parts { shared, checkpoints, log, segments, settings, .. } = &self.parts;
        let mut pace = |bytes: u64| {
            shared.scrub.lock().report.bytes_total += bytes;
            let busy = Instant::now();
            while log.is_busy() && busy.elapsed() < YIELD_MAX && !shared.scrub.is_stopped() {
                std::thread::sleep(YIELD);
            }
            let wanted = Duration::from_secs_f64(bytes as f64 / settings.rate as f64);
            shared.scrub.sleep(wanted.saturating_sub(busy.elapsed()));
        };
        let (log, shelf) = (&segments.scrubber, checkpoints.shelf());
        let mut found = patrol::look(log, shelf, segments.synced(), &mut pace)?;
        for file in sealed::FILES {
            let path = self.parts.dir.join(file);
            let (bad, what) = match sealed::look(&path).map_err(|error| error.to_string())? {
                Pair::Whole => continue,
                Pair::FileDamaged => (path, "its checksum does not match"),
                Pair::CopyDamaged => (sealed::copy_of(&path), "it is not what the file says"),
                Pair::BothDamaged => (path, "its checksum does not match, nor that of its copy"),
            };
            found.find(bad.display().to_string(), 0, what.to_owned());
        }
        Ok(found)
    }

    fn tell(&self, found: &Found) {
        for finding in &found.findings {
            let (file, byte, what) = (&finding.file, finding.byte, &finding.what);
            tracing::error!(file, byte, what, "the disk does not hold what was written");
        }
        let mut state = self.parts.shared.scrub.lock();
        state.report.damaged_total += found.count;
        state.outstanding = found.count;
        drop(state);
        if !found.is_clean() {
            let text = format!("damage on disk: {} places; they are being repaired", found.count);
            self.parts.shared.set_condition(CONDITION, Some(text));
        }
    }

    fn finished(&self, round: Round) -> bool {
        let shared = &self.parts.shared;
        let is_whole = round.unrepaired.is_none();
        match &round.unrepaired {
            None => shared.set_condition(CONDITION, None),
            Some(why) => {
                tracing::error!(why, "damage on disk is not repaired; trying again");
                shared.set_condition(CONDITION, Some(format!("damage on disk: {why}")));
            }
        }
        let mut state = shared.scrub.lock();
        if is_whole {
            state.outstanding = 0;
            state.report.repaired_total += round.damaged;
        }
        state.report.finished = round.number;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        state.report.finished_at = now.as_secs();
        state.report.doing = None;
        state.report.last = Some(round);
        is_whole
    }

    /// Repairs what was found, and looks again: what lay beyond the synced end of the log before
    /// may be damage now. Answers with why something is damaged still.
    fn repair(&self, found: &Found) -> Option<String> {
        let mut found = found.clone();
        for _ in 0..LOOKS_MAX {
            if let Err(why) = self.repair_once(&found) {
                return Some(why);
            }
            self.doing("reading again");
            match self.look() {
                Ok(again) if again.is_clean() => {
                    tracing::info!("what was damaged on disk is repaired");
                    return None;
                }
                Ok(again) => found = again,
                Err(why) => return Some(why),
            }
        }
        let first = &found.findings[0];
        Some(format!("{}, byte {}: {}", first.file, first.byte, first.what))
    }

    fn repair_once(&self, found: &Found) -> Result<(), String> {
        self.doing("repairing");
        for file in sealed::FILES {
            self.repair_file(file).map_err(|error| format!("{file}: {error}"))?;
        }
        Repair::of(found).map_or(Ok(()), |repair| self.carry_out(repair))
    }

    fn repair_file(&self, file: &str) -> io::Result<()> {
        match file {
            "roster" => self.parts.peers.repair_roster(),
            other => sealed::repair(&self.parts.dir.join(other)),
        }
    }

    /// Step by step, each asked for again if nothing comes of it.
    fn carry_out(&self, mut repair: Repair) -> Result<(), String> {
        let begun = Instant::now();
        let mut last: Option<(Step, Instant)> = None;
        loop {
            let step = repair.next(&self.view()?);
            if step == Step::Done {
                return Ok(());
            }
            if begun.elapsed() > REPAIR_PATIENCE || self.parts.shared.scrub.is_stopped() {
                return Err(unfinished(&step).to_owned());
            }
            let asked =
                last.as_ref().filter(|(before, at)| *before == step && at.elapsed() < REPAIR_RETRY);
            if asked.is_none() {
                self.take(&step)?;
                last = Some((step, Instant::now()));
            }
            self.parts.shared.scrub.sleep(REPAIR_PAUSE);
        }
    }

    fn view(&self) -> Result<View, String> {
        let Parts { shared, checkpoints, segments, .. } = &self.parts;
        let numbers = segments.scrubber.segments().map_err(|error| error.to_string())?;
        let current = segments.synced().segment;
        Ok(View {
            oldest_segment: numbers.first().copied().unwrap_or(current),
            current_segment: current,
            checkpoints: checkpoints.shelf().positions().map_err(|error| error.to_string())?,
            applied: Index(shared.status().applied_index),
            fenced: shared.is_whole().is_err(),
        })
    }

    fn take(&self, step: &Step) -> Result<(), String> {
        let Parts { shared, checkpoints, log, .. } = &self.parts;
        match step {
            Step::Done | Step::Wait => {}
            Step::Seal => log.seal(),
            Step::SetAside(position) => {
                checkpoints.shelf().set_aside(*position).map_err(|error| error.to_string())?;
            }
            Step::Checkpoint => shared.insist(Ask::CheckpointNow),
            Step::Nudge => {
                // It is refused by every store alike, and changes nothing but the end of the log.
                let handle = Handle::new(Arc::clone(shared));
                let nothing = Command::Compact { revision: Revision(0) };
                self.runtime.spawn(async move {
                    let _ = handle.write_as(&Caller::Member, &nothing).await;
                });
            }
        }
        Ok(())
    }
}

/// Why a repair that came so far did not come to its end.
fn unfinished(step: &Step) -> &'static str {
    match step {
        Step::Nudge => "it waits for a leader, so that the log can go on",
        Step::Checkpoint => "it waits for a checkpoint",
        Step::Wait => "it waits for entries to be committed, or for a state that is not in doubt",
        Step::Seal | Step::SetAside(_) | Step::Done => "it waits for the disk",
    }
}
