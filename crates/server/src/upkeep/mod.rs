//! Keeping a member in shape: its space and its history.
//!
//! Two small tasks beside the loop thread look at the member a few times a second and say what is
//! to be done; what they do is a command like any other. What they decide is pure and in files of
//! its own, so that it can be tested with made-up clocks and disks.
//!
//! | file | decides |
//! |---|---|
//! | `space.rs` | when the alarm is raised and cleared: quota, disk, log |
//! | `history.rs` | what is compacted when |
//!
//! Both are soft. Between two looks a member may take more than its quota by what is written in
//! that time; nothing of what is admitted is ever taken back.

mod history;
mod space;

use crate::config::{AutoCompaction, Config};
use crate::handle::Handle;
use crate::host::Shared;
use history::History;
use quorate_core::NodeId;
use quorate_replica::store::{Alarm, AlarmAction, AlarmKind, Caller, Command, KvError};
use space::{Advice, Disk, Look, Space};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};

/// How often the space is looked at: what a soft limit may be exceeded by.
const SPACE_LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often the history is looked at, unless its period is so short that it wants it oftener.
const HISTORY_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a member that is out of space adds up anew who takes it.
const CONSUMERS_EVERY: Duration = Duration::from_secs(30);
/// Consumers that are named.
const CONSUMERS_NAMED: usize = 3;
/// Under which operators are told of the want of space.
const SPACE: &str = "space";

/// Starts both tasks; they end with the runtime.
pub(crate) fn start(shared: &Arc<Shared>, config: &Config) {
    shared.quota.store(config.quota_backend_bytes.unwrap_or(0), Ordering::Relaxed);
    let keeper = SpaceKeeper {
        handle: Handle::new(Arc::clone(shared)),
        shared: Arc::clone(shared),
        data_dir: config.data_dir.clone(),
        wal_dir: config.wal_dir.clone(),
        space: Space::new(config.quota_backend_bytes),
        named: None,
        settled: false,
    };
    tokio::spawn(keeper.keep());
    if let Some(mode) = config.auto_compaction {
        tokio::spawn(keep_history(Handle::new(Arc::clone(shared)), mode));
    }
}

fn every(pause: Duration) -> Interval {
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Watches the space of one member.
struct SpaceKeeper {
    handle: Handle,
    shared: Arc<Shared>,
    data_dir: PathBuf,
    wal_dir: Option<PathBuf>,
    space: Space,
    /// When the consumers were last named.
    named: Option<Instant>,
    /// This member has caught up since it started.
    settled: bool,
}

impl SpaceKeeper {
    async fn keep(mut self) {
        let mut ticks = every(SPACE_LOOK_EVERY);
        loop {
            ticks.tick().await;
            if !self.settled {
                let caught_up = timeout(SPACE_LOOK_EVERY, self.handle.barrier()).await;
                self.settled = matches!(caught_up, Ok(Ok(())));
            }
            let look = self.look().await;
            match self.space.judge(&look) {
                Advice::Fine => {
                    self.shared.set_condition(SPACE, None);
                    self.named = None;
                }
                Advice::Tight { raise, why } => {
                    self.name_consumers(&why).await;
                    if raise {
                        self.change(AlarmAction::Raise(self.own_alarm())).await;
                    }
                }
                Advice::Clear => {
                    self.shared.set_condition(SPACE, None);
                    self.named = None;
                    self.change(AlarmAction::Clear(self.own_alarm())).await;
                }
            }
        }
    }

    async fn look(&self) -> Look {
        let status = self.handle.status();
        let dirs = (self.data_dir.clone(), self.wal_dir.clone());
        let looking = spawn_blocking(move || {
            let log = dirs.1.as_deref().and_then(room);
            room(&dirs.0).into_iter().chain(log).min_by_key(|disk| disk.free)
        });
        Look {
            used: status.db_size_in_use,
            disk: looking.await.expect("looking at a disk does not panic"),
            alarmed: status.alarms.contains(&self.own_alarm()),
            settled: self.settled,
        }
    }

    fn own_alarm(&self) -> Alarm {
        Alarm { kind: AlarmKind::NoSpace, member: self.handle.member_id() }
    }

    /// Tells operators what is wrong and who takes the space.
    async fn name_consumers(&mut self, why: &str) {
        if self.named.is_some_and(|at| at.elapsed() < CONSUMERS_EVERY) {
            return;
        }
        self.named = Some(Instant::now());
        let snapshot = self.handle.snapshot(crate::Consistency::Serializable).await;
        let Ok(snapshot) = snapshot else { return };
        let adding = spawn_blocking(move || snapshot.store.consumers(CONSUMERS_NAMED));
        let consumers = adding.await.expect("adding up does not panic");
        let text = space::describe(why, &consumers);
        tracing::warn!("{text}");
        self.shared.set_condition(SPACE, Some(text));
    }

    /// A change that fails is tried again at the next look: what it rests on is looked at anew.
    async fn change(&self, action: AlarmAction) {
        match self.handle.write_as(&Caller::Member, &Command::Alarm(action)).await {
            Ok(_) => tracing::warn!(?action, "changed the alarm for want of space"),
            Err(refusal) => tracing::debug!(?action, ?refusal, "the alarm was not changed"),
        }
    }
}

/// The room on the disk that holds `path`; none if the system does not say.
fn room(path: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Some(Disk { free: bytes(found.f_bavail), total: bytes(found.f_blocks) })
}

/// Compacts while this member leads. Every member keeps the history of revisions, so that a new
/// leader goes on where the old one stood.
async fn keep_history(handle: Handle, mode: AutoCompaction) {
    let me = NodeId(handle.member_id());
    let mut history = History::new(mode);
    let mut ticks = every(HISTORY_LOOK_EVERY.min(history.interval()));
    let started = Instant::now();
    loop {
        ticks.tick().await;
        let status = handle.status();
        let leads = status.leader == Some(me);
        let wanted = history.look(started.elapsed(), status.revision, leads);
        let Some(revision) = wanted else { continue };
        let command = Command::Compact { revision };
        let compacted = match handle.write_as(&Caller::Member, &command).await {
            Ok(applied) => applied.outcome.map(|_| ()),
            Err(refusal) => {
                tracing::warn!(
                    revision = revision.0,
                    ?refusal,
                    "auto-compaction failed; trying again"
                );
                continue;
            }
        };
        match compacted {
            Ok(()) => tracing::info!(revision = revision.0, "auto-compaction is done"),
            // Somebody else was faster, which is as good.
            Err(KvError::Compacted { .. }) => {}
            Err(error) => {
                let revision = revision.0;
                tracing::warn!(revision, %error, "auto-compaction failed; trying again");
                continue;
            }
        }
        history.done(started.elapsed(), revision);
    }
}
