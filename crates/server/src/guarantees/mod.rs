//! Guarantees: what this member promises right now, and by which assumption.
//!
//! **Problem.** A promise of a distributed system rests on assumptions: a quorum answers, the disk
//! syncs, turns come in time, clocks run equally fast. They break one by one, and most systems say
//! nothing until a request has failed, or was answered wrongly.
//!
//! **Idea.** Each assumption is measured and held against a bound. A pure function makes of it the
//! table *operation x mode -> what is promised*. What rests on a broken assumption is withdrawn, or
//! promised in weaker words, *before* it can be wrong:
//!
//! ```text
//!   loop thread --(after each turn)--> Vitals --+
//!   live::Pulse, LogHandle (delays) ------------+--> judge --> promises --> /guarantees, /metrics
//!   upkeep, recovery, digests, clock -----------+      |
//!                                                   Watchman: what changed -> log, counters
//! ```
//!
//! **Guarantees.** The table never grants: it tells what the protocols below enforce, and may be
//! greyer than they are. A break is seen within [`LOOK_EVERY`], and at once by whoever asks. The
//! thread that looks is neither the loop's nor the log's, so that it tells of both when they stand.
//!
//! **Bounds.** Constant memory. A look takes a few short locks and no I/O. Each change is one line
//! of the log, and a broken assumption stays so for a second at least; requests that are not
//! served for want of a quorum are summed up every [`UNSERVED_TOLD_EVERY`]. To know how old its
//! state can be, a member asks for a proof every [`PROVE_EVERY`]: a round of heartbeats, no write.
//!
//! **Clocks.** What is promised by the rate of clocks rests on [`View::clock_vouched_until`]: for
//! [`VOUCH_FOR`] at a time while the clock is looked at and all is well, so that a monitor that
//! stands still vouches for nothing. It only ever withdraws: lease reads must have been opted into.

mod assumption;
mod report;
mod table;
mod watchman;

pub use assumption::{Assumption, Bounds, Measured, Name, Standing, Switch, Unit};
pub use assumption::{NAMES, judge};
pub use report::{AssumptionReport, PromiseReport, Report};
pub use table::{PROMISES, Promise, Row, State, promises};
pub use watchman::{Kept, News, UNSERVED_TOLD_EVERY, View, Watchman};

use crate::config::Config;
use crate::handle::Handle;
use crate::host::Shared;
use quorate_core::Time;
use quorate_drivers::live::{LogHandle, Pulse, monotonic_now};
use quorate_replica::store::AlarmKind;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often the assumptions are looked at.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A state is proven fresh so often.
pub const PROVE_EVERY: Duration = Duration::from_secs(1);
/// A clock that was found good is vouched for so long.
pub const VOUCH_FOR: Duration = Duration::from_secs(1);

/// What the loop thread tells after each turn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vitals {
    /// When it last heard its leader; as a leader, a quorum.
    pub(crate) heard: Option<Time>,
    /// A longer silence means that the leader is gone.
    pub(crate) patience: Duration,
    /// Members that vote.
    pub(crate) voters: usize,
    /// Entries that this member once held are missing.
    pub(crate) is_mending: bool,
    /// Members differ and no quorum can tell who is right.
    pub(crate) is_disputed: bool,
    /// As a leader: reads that come now may rest on a lease.
    pub(crate) holds_lease: bool,
}

/// Watches over the assumptions of one member.
#[derive(Debug)]
pub(crate) struct Guard {
    bounds: Bounds,
    lease_reads: Switch,
    pulse: Arc<Pulse>,
    log: LogHandle,
    started: Time,
    /// At the last look there was no quorum.
    lonely: AtomicBool,
    /// Requests that were not served while there was none.
    unserved: AtomicU64,
    watchman: Mutex<Watchman>,
}

impl Guard {
    /// Over the loop with this pulse and this log.
    pub(crate) fn new(config: &Config, pulse: Arc<Pulse>, log: LogHandle) -> Guard {
        let started = monotonic_now();
        let bounds = Bounds {
            delay: config.loop_delay_max(),
            sync: config.disk_sync_max(),
            clock_error: config.clock_error_max,
        };
        let watchman = Mutex::new(Watchman::new(started, &config.name));
        let lease_reads = if config.lease_reads { Switch::On } else { Switch::Off };
        Guard {
            bounds,
            lease_reads,
            pulse,
            log,
            started,
            lonely: AtomicBool::new(true),
            unserved: AtomicU64::new(0),
            watchman,
        }
    }

    /// Measures, judges, and logs what changed.
    pub(crate) fn look(&self, shared: &Shared) -> View {
        let mut watchman = self.watchman.lock().unwrap_or_else(PoisonError::into_inner);
        let now = monotonic_now();
        let (view, news) = watchman.look(now, self.measure(shared, now), &self.bounds);
        drop(watchman);
        self.lonely.store(view.read_only_since().is_some(), Ordering::Relaxed);
        for news in news {
            match news {
                News::Broken { line } => tracing::warn!("assumption broken: {line}"),
                News::Whole { line } => tracing::info!("assumption whole: {line}"),
                News::Unserved { line } => tracing::warn!("{line}"),
            }
        }
        view
    }

    /// A request of a client was refused, or given up by it. It counts if there is no quorum.
    pub(crate) fn count_unserved(&self) {
        if self.lonely.load(Ordering::Relaxed) {
            self.unserved.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn measure(&self, shared: &Shared, now: Time) -> Measured {
        let status = shared.status();
        let vitals = status.vitals;
        let alarmed = |kind| status.alarms.iter().any(|alarm| alarm.kind == kind);
        let damaged = shared.damaged_checkpoints.load(Ordering::Relaxed);
        let damaged = damaged + shared.scrub.outstanding();
        Measured {
            leads: status.leader.is_some_and(|leader| leader.0 == shared.member_id),
            leader: status.leader,
            voters: vitals.voters,
            silence: now.since(vitals.heard.unwrap_or(self.started)),
            patience: vitals.patience,
            delay: self.pulse.take_longest(now),
            sync: self.log.take_longest(now),
            damaged: damaged + u64::from(vitals.is_mending),
            fenced: shared.is_whole().is_err(),
            disputed: vitals.is_disputed,
            corrupt_alarm: alarmed(AlarmKind::Corrupt),
            used: status.db_size_in_use,
            quota: status.db_size_quota,
            space_alarm: alarmed(AlarmKind::NoSpace),
            log_waits: self.log.stalled().is_some(),
            clock: shared.time.bounds(),
            lease_reads: self.lease_reads,
            holds_lease: vitals.holds_lease,
            age: shared.fresh_since().map(|since| now.since(since)),
            unserved: self.unserved.load(Ordering::Relaxed),
        }
    }
}

impl View {
    /// Since when writes and linearizable reads wait or are refused for want of a quorum.
    pub fn read_only_since(&self) -> Option<Time> {
        let kept = &self.kept[Name::Quorum as usize];
        // What holds again is promised a second later, but served at once.
        (kept.standing == Standing::Broken && kept.calm.is_none()).then_some(kept.since)
    }

    /// For how long.
    pub fn read_only_for(&self) -> Option<Duration> {
        self.read_only_since().map(|since| self.at.since(since))
    }

    /// Until when promises may rest on the rate of this member's clock: an instant of its monotonic
    /// clock. None: not at all.
    pub fn clock_vouched_until(&self) -> Option<Time> {
        let standing = |name: Name| self.kept[name as usize].standing;
        let good = standing(Name::ClockRate) == Standing::Holds;
        let contradicted = standing(Name::ClockError) == Standing::Broken;
        (good && !contradicted).then(|| self.at.after(VOUCH_FOR))
    }
}

/// What a member without a quorum says of itself.
pub(crate) fn read_only(lasted: Duration) -> String {
    format!("read-only for {}: no quorum", table::text(lasted))
}

impl Handle {
    /// What this member promises right now.
    pub fn guarantees(&self) -> Report {
        Report::of(self, &self.assumptions())
    }
}

/// Begins to look. The thread ends with the member, the task with its runtime.
///
/// Errors: the system gives no thread.
pub(crate) fn start(shared: &Arc<Shared>) -> io::Result<()> {
    tokio::spawn(prove(Handle::new(Arc::clone(shared))));
    let watched = Arc::downgrade(shared);
    let body = move || {
        while let Some(shared) = watched.upgrade() {
            shared.guard().look(&shared);
            drop(shared);
            std::thread::sleep(LOOK_EVERY);
        }
    };
    std::thread::Builder::new().name("guard".to_owned()).spawn(body).map(|_| ())
}

/// Keeps the proof young that this member's state is fresh, as long as there is a quorum.
async fn prove(handle: Handle) {
    let mut ticks = interval(PROVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let young = handle.staleness().is_some_and(|age| age < PROVE_EVERY);
        if !young && handle.status().leader.is_some() {
            // Without a quorum it is refused; the proof then grows older, which is shown.
            let _ = handle.barrier().await;
        }
    }
}
