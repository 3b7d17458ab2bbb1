//! What a member finds on its disk when it starts.

use crate::config::Config;
use crate::identity::Identity;
use crate::peers::bulk::CheckpointDesk;
use crate::wal_log::WalLog;
use quorate_core::{Persist, Position, Term};
use quorate_protocols::consensus::raft::{Record, codec};
use quorate_replica::store::Store;
use quorate_replica::{Checkpoint, decode_configuration};
use quorate_storage::{
    CheckpointError, Checkpoints, Damage, LogIdentity, RealDisk, Recovered, Recovery, Wal,
    WalError, WalOptions,
};
use std::io::BufReader;
use std::path::Path;

/// Segments of the log are at least this long; shorter ones would only be many.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// And at most this long: what has to be zeroed ahead, and what the last one may waste.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes read from a checkpoint at once.
const READ_BYTES: usize = 1 << 20;

/// Why a member cannot start from what is on its disk.
#[derive(Debug)]
pub enum RecoverError {
    /// The log cannot be used.
    Log(WalError),
    /// The checkpoints cannot be used.
    Checkpoints(CheckpointError),
    /// A checkpoint passed its checksums but does not hold what this version writes.
    Checkpoint {
        /// Which.
        position: Position,
        /// What is wrong.
        why: String,
    },
    /// A record of the log passed its checksums but is none that this version writes.
    Record {
        /// What is wrong.
        why: String,
    },
    /// The log is empty although this member has taken part before.
    LogLost,
    /// What is lost cannot be made good by peers.
    Promise {
        /// What is lost.
        why: String,
    },
}

impl std::fmt::Display for RecoverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecoverError::Log(error) => error.fmt(f),
            RecoverError::Checkpoints(error) => error.fmt(f),
            RecoverError::Checkpoint { position, why } => {
                write!(f, "the checkpoint at {position} is none of this version: {why}")
            }
            RecoverError::Record { why } => {
                write!(f, "the log holds a record that this version does not write: {why}")
            }
            RecoverError::LogLost => f.write_str(
                "the log is gone although this member has taken part before; it may have voted and \
                 acknowledged what it no longer knows. Bring the log back, or remove this member \
                 and add it under a new identity",
            ),
            RecoverError::Promise { why } => write!(
                f,
                "{why}; this member may have promised what it no longer knows. Bring an intact \
                 copy of the data directory back, or remove this member and add it anew"
            ),
        }
    }
}

impl std::error::Error for RecoverError {}

impl From<WalError> for RecoverError {
    fn from(error: WalError) -> RecoverError {
        RecoverError::Log(error)
    }
}

impl From<CheckpointError> for RecoverError {
    fn from(error: CheckpointError) -> RecoverError {
        RecoverError::Checkpoints(error)
    }
}

/// Everything that was found.
pub(crate) struct Found {
    /// The log, to be written on.
    pub(crate) log: WalLog,
    /// The checkpoints.
    pub(crate) desk: CheckpointDesk,
    /// The newest whole checkpoint.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// The records of the log.
    pub(crate) records: Records,
}

/// Opens log and checkpoints and loads the newest whole checkpoint.
pub(crate) fn open(
    dir: &Path,
    config: &Config,
    identity: &Identity,
) -> Result<Found, RecoverError> {
    let Identity { cluster, member, data, admitted } = *identity;
    let identity = LogIdentity { cluster, member, data };
    let checkpoints = Checkpoints::open(RealDisk, &dir.join("checkpoints"), &identity)?;
    let checkpoint = newest(&checkpoints)?;
    // The log is released in whole segments: one that outlived several checkpoints would keep what
    // they have made superfluous.
    let segment_bytes = config.checkpoint_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX) as u32;
    let critical_kinds = codec::CRITICAL_KINDS.to_vec();
    let options = WalOptions { segment_bytes, critical_kinds, ..WalOptions::default() };
    let wal_dir = config.wal_dir.clone().unwrap_or_else(|| dir.join("wal"));
    let (wal, recovery) = Wal::open(RealDisk, &wal_dir, options, &identity)?;
    if recovery.created && admitted {
        return Err(RecoverError::LogLost);
    }
    if let Some(torn) = recovery.torn_tail {
        tracing::warn!(?torn, "cut off a batch that the last crash left unfinished");
    }
    Ok(Found {
        log: WalLog::new(wal),
        desk: CheckpointDesk::new(checkpoints),
        checkpoint,
        records: Records { recovery, failure: None },
    })
}

fn newest(checkpoints: &Checkpoints<RealDisk>) -> Result<Option<Checkpoint>, RecoverError> {
    let newest = checkpoints.newest_whole()?;
    for damaged in &newest.skipped {
        tracing::error!(%damaged, "a checkpoint is damaged: starting from an older one");
        // Without an older one it stays, for whoever wants to look at it.
        if let (Some(_), CheckpointError::Damaged { position, .. }) = (&newest.found, damaged) {
            checkpoints.discard_if_damaged(*position)?;
        }
    }
    newest.found.map(|manifest| load(checkpoints, manifest.position)).transpose()
}

/// Loads the checkpoint at `position`.
pub(crate) fn load(
    checkpoints: &Checkpoints<RealDisk>,
    position: Position,
) -> Result<Checkpoint, RecoverError> {
    let reader = checkpoints.open_reader(position)?;
    let metadata = reader.manifest().metadata.clone();
    let other = |why: String| RecoverError::Checkpoint { position, why };
    let configuration = decode_configuration(metadata).map_err(|bad| other(bad.to_string()))?;
    let mut buffered = BufReader::with_capacity(READ_BYTES, reader);
    let store = Store::load(&mut buffered).map_err(|error| other(error.to_string()))?;
    Ok(Checkpoint { position, configuration, store })
}

/// The records of the log as the replica takes them. Ends early at what cannot be read; ask
/// [`Records::finish`] afterwards.
pub(crate) struct Records {
    recovery: Recovery<RealDisk>,
    failure: Option<RecoverError>,
}

impl Records {
    /// Errors: what ended the records early.
    pub(crate) fn finish(self) -> Result<(), RecoverError> {
        self.failure.map_or(Ok(()), Err)
    }
}

impl Iterator for Records {
    type Item = Record;

    fn next(&mut self) -> Option<Record> {
        if self.failure.is_some() {
            return None;
        }
        let next = self.recovery.find(|next| !is_lost_hint(next))?;
        match next {
            Ok(Recovered::Frame(frame)) => match Record::from_frame(frame) {
                Ok(record) => Some(record),
                Err(bad) => {
                    self.failure = Some(RecoverError::Record { why: bad.to_string() });
                    None
                }
            },
            Ok(Recovered::Damaged(damage)) => Some(damaged(damage)),
            Err(error) => {
                self.failure = Some(error.into());
                None
            }
        }
    }
}

fn is_lost_hint(next: &Result<Recovered, WalError>) -> bool {
    let kind = match next {
        Ok(Recovered::Damaged(damage)) => damage.kind,
        _ => None,
    };
    kind.is_some_and(|kind| codec::HINT_KINDS.contains(&kind))
}

/// Damage in the words of the consensus. A place in the log is enough to know that it was an entry.
fn damaged(damage: Damage) -> Record {
    tracing::error!(?damage, "a record of the log is damaged; peers will be asked for it");
    let inferred = damage.index.map(|index| Position { term: Term(0), index });
    Record::Damaged { position: damage.position.or(inferred) }
}
