//! What a member finds on its disk when it starts.
//!
//! **Problem.** After a crash the newest checkpoint may be torn or rotten, the log may end in half
//! a batch, records in its midst may be lost, and the whole log may be gone. Each of these wants
//! another answer: an older checkpoint, a cut, a question to the peers, a refusal to start.
//!
//! **Idea.** [`open`] looks for the newest checkpoint that is *whole* and opens the log;
//! [`restore`] builds the replica from both, with each lost record in its place as
//! [`Record::Damaged`]. What the consensus cannot make good ends the start with a reason.
//!
//! Everything here is written against [`Disk`]: a member runs it on files, a simulated member runs
//! it on a disk in memory.

use crate::config::Config;
use crate::identity::Identity;
use quorate_core::{Buggify, NodeId, Persist, Position, Protocol, Term};
use quorate_protocols::consensus::raft::{self, Configuration, LeaseTerms, Record, codec};
use quorate_replica::members::Members;
use quorate_replica::store::Store;
use quorate_replica::{Checkpoint, Life, MemberTerms, Replica, decode_metadata};
use quorate_storage::{
    CheckpointError, Checkpoints, Damage, Disk, LogIdentity, Recovered, Recovery, Wal, WalError,
    WalOptions, Weight,
};
use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Segments of the log are at least this long; shorter ones would only be many.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// And at most this long: what has to be zeroed ahead, and what the last one may waste.
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes read from a checkpoint at once.
const READ_BYTES: usize = 1 << 20;
/// A follower that waits for nothing hears within this time what was committed, at the latest.
const NEWS_DELAY: Duration = Duration::from_millis(1);
/// A request waits so long for its answer, and for two elections beside; as in etcd.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

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
                 acknowledged what it no longer knows. Bring the log back, or \
                 give its place to a new one: 'quorate member replace'",
            ),
            RecoverError::Promise { why } => write!(
                f,
                "{why}; this member may have promised what it no longer knows. Bring an intact \
                 copy of the data directory back, or give this member's place to a new one: \
                 'quorate member replace ID NAME PEER_URLS'"
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

/// Where a member keeps its state, and whose state it is.
#[derive(Clone, Debug)]
pub struct Home {
    /// Directory of the log.
    pub wal: PathBuf,
    /// Directory of the checkpoints.
    pub checkpoints: PathBuf,
    /// Whose they are.
    pub identity: LogIdentity,
    /// The member has taken part before: an empty log is a lost one.
    pub admitted: bool,
    /// Size of a segment of the log. Unit: bytes. Range: that of [`WalOptions::segment_bytes`].
    pub segment_bytes: u32,
}

impl Home {
    /// That of a member with these settings, in its directory `dir`.
    pub(crate) fn of(dir: &Path, config: &Config, identity: &Identity) -> Home {
        let Identity { cluster, member, data, admitted, .. } = *identity;
        // The log is released in whole segments: one that outlived several checkpoints would keep
        // what they have made superfluous.
        let segment_bytes = config.checkpoint_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        Home {
            wal: config.wal_dir.clone().unwrap_or_else(|| dir.join("wal")),
            checkpoints: dir.join("checkpoints"),
            identity: LogIdentity { cluster, member, data },
            admitted,
            segment_bytes: segment_bytes as u32,
        }
    }
}

impl Home {
    /// How the log is kept.
    pub(crate) fn wal_options(&self) -> WalOptions {
        let critical_kinds = codec::CRITICAL_KINDS.to_vec();
        WalOptions { segment_bytes: self.segment_bytes, critical_kinds, ..WalOptions::default() }
    }
}

/// Everything that was found.
#[derive(Debug)]
pub struct Found<D: Disk> {
    /// The log, to be written on.
    pub wal: Wal<D>,
    /// The checkpoints.
    pub checkpoints: Checkpoints<D>,
    /// The newest whole checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Newer ones that are damaged.
    pub damaged_checkpoints: usize,
    /// The records of the log.
    pub records: Records<D>,
}

/// Opens log and checkpoints and loads the newest whole checkpoint. On an empty disk both are made.
///
/// Errors: those of [`RecoverError`] that concern log and checkpoints.
pub fn open<D: Disk>(disk: D, home: &Home) -> Result<Found<D>, RecoverError> {
    let checkpoints = Checkpoints::open(disk.clone(), &home.checkpoints, &home.identity)?;
    let (checkpoint, damaged_checkpoints) = newest(&checkpoints)?;
    let (wal, recovery) = Wal::open(disk, &home.wal, home.wal_options(), &home.identity)?;
    if recovery.created && home.admitted {
        return Err(RecoverError::LogLost);
    }
    if let Some(torn) = recovery.torn_tail {
        tracing::warn!(?torn, "cut off a batch that the last crash left unfinished");
    }
    let records = Records { recovery, failure: None };
    Ok(Found { wal, checkpoints, checkpoint, damaged_checkpoints, records })
}

/// What the operator says of a replica.
#[derive(Clone, Debug)]
pub struct ReplicaSettings {
    /// This member.
    pub me: NodeId,
    /// The members that a new cluster begins with.
    pub voters: BTreeSet<NodeId>,
    /// Their addresses. Empty: the members are never changed.
    pub members: Members,
    /// What a leader allows when members are changed.
    pub member_terms: MemberTerms,
    /// Between two heartbeats of a leader.
    pub heartbeat_interval: Duration,
    /// A follower that hears nothing for so long, or up to twice as long, campaigns at the latest.
    pub election_timeout: Duration,
    /// The same at the earliest, if all has gone smoothly.
    pub election_timeout_min: Duration,
    /// Bytes of log kept in memory for followers that are a little behind.
    pub log_retain_bytes: usize,
    /// Reads may rest on promises and clocks.
    pub lease_reads: Option<LeaseTerms>,
    /// Rare paths, for simulations; off in production.
    pub buggify: Buggify,
}

impl ReplicaSettings {
    /// The settings of a replica that starts from `checkpoint`.
    pub fn replica(&self, life: Life, checkpoint: Option<Checkpoint>) -> quorate_replica::Config {
        let configuration = Configuration::of(self.voters.iter().copied());
        let mut raft = raft::Config::new(self.me, configuration);
        raft.heartbeat_interval = self.heartbeat_interval;
        raft.election_timeout = self.election_timeout;
        raft.election_timeout_min = self.election_timeout_min;
        raft.news_delay = NEWS_DELAY;
        raft.lease_reads = self.lease_reads;
        raft.buggify = self.buggify;
        quorate_replica::Config {
            raft,
            life,
            checkpoint,
            members: self.members.clone(),
            member_terms: self.member_terms,
            request_timeout: REQUEST_TIMEOUT + 2 * self.election_timeout,
            log_retain_bytes: self.log_retain_bytes,
        }
    }
}

/// Builds the replica as it was: from the checkpoint in `config` and the records after it.
///
/// Errors: the records that cannot be read or be made good.
pub fn restore<D: Disk>(
    config: &quorate_replica::Config,
    mut records: Records<D>,
) -> Result<Replica, RecoverError> {
    let replica = Replica::restore(config, &mut records);
    records.finish()?;
    match replica.raft().restore_error() {
        Some(why) => Err(RecoverError::Promise { why: why.to_string() }),
        None => Ok(replica),
    }
}

/// The newest whole checkpoint, and how many newer ones are damaged.
fn newest<D: Disk>(
    checkpoints: &Checkpoints<D>,
) -> Result<(Option<Checkpoint>, usize), RecoverError> {
    let newest = checkpoints.newest_whole()?;
    for damaged in &newest.skipped {
        tracing::error!(%damaged, "a checkpoint is damaged: starting from an older one");
        // Without an older one it stays, for whoever wants to look at it.
        if let (Some(_), CheckpointError::Damaged { position, .. }) = (&newest.found, damaged) {
            checkpoints.discard_if_damaged(*position)?;
        }
    }
    let found = newest.found.map(|manifest| load(checkpoints, manifest.position)).transpose()?;
    Ok((found, newest.skipped.len()))
}

/// Loads the checkpoint at `position`.
///
/// Errors: it is not there, damaged, or none of this version.
pub fn load<D: Disk>(
    checkpoints: &Checkpoints<D>,
    position: Position,
) -> Result<Checkpoint, RecoverError> {
    let reader = checkpoints.open_reader(position)?;
    let metadata = reader.manifest().metadata.clone();
    let other = |why: String| RecoverError::Checkpoint { position, why };
    let decoded = decode_metadata(metadata).map_err(|bad| other(bad.to_string()))?;
    let (configuration, members) = decoded;
    let mut buffered = BufReader::with_capacity(READ_BYTES, reader);
    let store = Store::load(&mut buffered).map_err(|error| other(error.to_string()))?;
    Ok(Checkpoint { position, configuration, members, store })
}

/// The records of the log as the replica takes them. Ends early at what cannot be read; ask
/// [`Records::finish`] afterwards.
#[derive(Debug)]
pub struct Records<D: Disk> {
    recovery: Recovery<D>,
    failure: Option<RecoverError>,
}

impl<D: Disk> Records<D> {
    /// What the log says of itself: what was cut off, how much is damaged.
    pub fn recovery(&self) -> &Recovery<D> {
        &self.recovery
    }

    /// Errors: what ended the records early.
    pub fn finish(self) -> Result<(), RecoverError> {
        self.failure.map_or(Ok(()), Err)
    }
}

impl<D: Disk> Iterator for Records<D> {
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
    let Ok(Recovered::Damaged(damage)) = next else { return false };
    match damage.kind {
        Some(kind) => codec::HINT_KINDS.contains(&kind),
        // What is no entry and was not written twice is a hint.
        None => damage.position == Some(Position::ZERO) && damage.weight == Weight::NotCritical,
    }
}

/// Damage in the words of the consensus. A place in the log is enough to know that it was an entry.
fn damaged(damage: Damage) -> Record {
    tracing::error!(?damage, "a record of the log is damaged; peers will be asked for it");
    let inferred = damage.index.map(|index| Position { term: Term(0), index });
    Record::Damaged { position: damage.position.or(inferred) }
}
