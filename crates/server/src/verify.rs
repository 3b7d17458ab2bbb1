//! What a member would find on its disk, without a member and without a change.
//!
//! **Problem.** Whether a data directory is whole is best known before it is needed: of a backup,
//! of a disk that made noises, of a member that was stopped. To start a member on it repairs what
//! it can, which destroys evidence, and needs the rest of the cluster.
//!
//! **Idea.** The very code that a member starts with runs on a [`Shadow`] of the directory. So what
//! is said here is what a member would do, and each checksum is looked at that a member looks at.
//!
//! | part | looked at |
//! |---|---|
//! | `identity`, `roster`, `genesis` | their checksums, and those of their copies |
//! | each checkpoint | the manifest, every block, the footer |
//! | the log | every frame and header; each lost record by its name |
//! | all of it | the replica is built as at a start |

use crate::identity::{Identity, IdentityError};
use crate::recover::{self, Home, RecoverError, ReplicaSettings};
use crate::sealed::{self, Pair};
use quorate_core::{Buggify, NodeId};
use quorate_protocols::consensus::raft::codec;
use quorate_replica::members::Members;
use quorate_replica::{Life, MemberTerms};
use quorate_storage::{Checkpoints, Damage, Disk, LogIdentity, RealDisk, Recovered, Shadow, Wal};
use serde::Serialize;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The segments that a member would make; of no weight here, where none is made durable.
const SEGMENT_BYTES: u32 = 64 << 20;

/// Records of the log that are named one by one; further ones are counted.
const LOST_NAMED_MAX: usize = 100;

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The cluster, in hexadecimal.
    pub cluster: String,
    /// The member, in hexadecimal.
    pub member: String,
    /// The checkpoints, the newest first.
    pub checkpoints: Vec<CheckpointFound>,
    /// Bytes of the log that were looked at.
    pub log_bytes: u64,
    /// Records in the log.
    pub records: u64,
    /// Bytes of a batch that the last crash left unfinished. That is no damage.
    pub unfinished_bytes: u64,
    /// What is damaged; empty if all is whole.
    pub damage: Vec<Finding>,
    /// What a member would start with.
    pub start: Start,
}

/// One checkpoint.
#[derive(Clone, Debug, Serialize)]
pub struct CheckpointFound {
    /// Last entry in it: term, index.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// Its size in bytes, if every byte is as it was written; none if it is damaged.
    pub bytes: Option<u64>,
}

/// One thing that is damaged.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Which file or record.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// What a member would do with this directory.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// It starts, and asks peers for so many lost records.
    Yes {
        /// Revision of its store before it has heard of anybody.
        revision: u64,
        /// Hash of that store, in hexadecimal: members at one revision have the same.
        digest: String,
        /// Records that peers must give again.
        from_peers: u64,
    },
    /// It refuses.
    No {
        /// Why, and what to do.
        why: String,
    },
}

impl Report {
    /// Whether there is nothing to worry about.
    pub fn is_whole(&self) -> bool {
        self.damage.is_empty() && matches!(self.start, Start::Yes { .. })
    }
}

/// Why a directory cannot be looked at.
#[derive(Debug)]
pub enum VerifyError {
    /// There is no data of a member.
    NoData {
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// A member runs with it.
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The identity is no identity, or another version's.
    Identity(IdentityError),
    /// Reading failed.
    Io {
        /// Where.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
}

impl std::fmt::Display for VerifyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            VerifyError::NoData { dir } => write!(
                f,
                "{} holds no data of a member: give the directory that --data-dir names",
                dir.display()
            ),
            VerifyError::InUse { dir } => write!(
                f,
                "a member runs with {}: stop it, or look at a copy. A running member looks at its \
                 files by itself",
                dir.display()
            ),
            VerifyError::Identity(error) => error.fmt(f),
            VerifyError::Io { path, error } => write!(f, "reading {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for VerifyError {}

/// Looks at the data directory of a member that does not run. Changes nothing.
///
/// `wal_dir` is the directory of the log, if it is apart.
///
/// Errors: there is nothing that could be looked at. Damage is no error, but in the report.
pub fn verify(data_dir: &Path, wal_dir: Option<&Path>) -> Result<Report, VerifyError> {
    let dir = data_dir.join("member");
    let identity = identity(&dir)?;
    let home = Home {
        wal: wal_dir.map_or_else(|| dir.join("wal"), Path::to_owned),
        checkpoints: dir.join("checkpoints"),
        identity: LogIdentity {
            cluster: identity.cluster,
            member: identity.member,
            data: identity.data,
        },
        admitted: identity.admitted,
        segment_bytes: SEGMENT_BYTES,
    };
    for dir in [&home.wal, &home.checkpoints] {
        free(dir)?;
    }
    let mut report = Report {
        cluster: format!("{:x}", identity.cluster),
        member: format!("{:x}", identity.member),
        checkpoints: Vec::new(),
        log_bytes: 0,
        records: 0,
        unfinished_bytes: 0,
        damage: Vec::new(),
        start: match identity.removed {
            true => Start::No { why: "it was removed from its cluster".to_owned() },
            false => start(&home, identity.member),
        },
    };
    small_files(&dir, &mut report);
    checkpoints(&home, &mut report);
    log(&home, &mut report);
    Ok(report)
}

fn identity(dir: &Path) -> Result<Identity, VerifyError> {
    let path = dir.join("identity");
    match fs::read(&path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            // As at a start: what is damaged is read from the copy.
            Identity::parse(&text, dir).or_else(|error| {
                let copy = fs::read_to_string(sealed::copy_of(&path)).unwrap_or_default();
                Identity::parse(&copy, dir).map_err(|_| VerifyError::Identity(error))
            })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(VerifyError::NoData { dir: dir.to_owned() })
        }
        Err(error) => Err(VerifyError::Io { path, error }),
    }
}

/// Nobody has claimed that directory.
fn free(dir: &Path) -> Result<(), VerifyError> {
    match RealDisk.lock(dir) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(VerifyError::InUse { dir: dir.to_owned() })
        }
        // Where nothing can be written, nobody runs.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn start(home: &Home, member: u64) -> Start {
    let started = recover::open(Shadow::new(), home).and_then(|found| {
        let from_peers = found.records.recovery().lost;
        let configuration = found.checkpoint.as_ref().map(|found| found.configuration.clone());
        let voters = configuration.map_or_else(
            || [NodeId(member)].into(),
            |configuration| configuration.incoming.into_iter().collect(),
        );
        let settings = ReplicaSettings {
            me: NodeId(member),
            voters,
            members: Members::default(),
            member_terms: MemberTerms::default(),
            heartbeat_interval: Duration::from_millis(50),
            election_timeout: Duration::from_secs(1),
            election_timeout_min: Duration::from_secs(1),
            log_retain_bytes: 0,
            lease_reads: None,
            buggify: Buggify::Off,
        };
        let config = settings.replica(Life(0), found.checkpoint);
        let replica = recover::restore(&config, found.records)?;
        let store = replica.store();
        let digest = format!("{:016x}", store.digest());
        Ok(Start::Yes { revision: store.revision().0, digest, from_peers })
    });
    started.unwrap_or_else(|error: RecoverError| Start::No { why: error.to_string() })
}

fn small_files(dir: &Path, report: &mut Report) {
    for file in sealed::FILES {
        let path = dir.join(file);
        // One of an older version has no copies, and is none the worse for it.
        let has_copy = sealed::copy_of(&path).exists();
        let (what, why) = match sealed::look(&path) {
            Ok(Pair::Whole) => continue,
            Ok(Pair::CopyDamaged) if !has_copy => continue,
            Ok(Pair::CopyDamaged) => (format!("the copy of {file}"), "it is not the same"),
            Ok(Pair::FileDamaged) => (file.to_owned(), "its checksum does not match"),
            Ok(Pair::BothDamaged) => {
                (file.to_owned(), "its checksum does not match, nor that of a copy")
            }
            Err(error) => {
                report.found(file, &error);
                continue;
            }
        };
        report.damage.push(Finding { what, why: why.to_owned() });
    }
}

fn checkpoints(home: &Home, report: &mut Report) {
    let opened = Checkpoints::open(Shadow::new(), &home.checkpoints, &home.identity)
        .and_then(|checkpoints| Ok((checkpoints.positions()?, checkpoints)));
    let (positions, checkpoints) = match opened {
        Ok(opened) => opened,
        Err(error) => return report.found("the checkpoints", &error),
    };
    for position in positions {
        let verdict = checkpoints.verify(position);
        report.checkpoints.push(CheckpointFound {
            term: position.term.0,
            index: position.index.0,
            bytes: verdict.as_ref().ok().map(|manifest| manifest.size),
        });
        if let Err(error) = verdict {
            report.found(&format!("the checkpoint at {position}"), &error);
        }
    }
}

fn log(home: &Home, report: &mut Report) {
    let opened = Wal::open(Shadow::new(), &home.wal, home.wal_options(), &home.identity);
    let (wal, recovery) = match opened {
        Ok(opened) => opened,
        Err(error) => return report.found("the log", &error),
    };
    report.log_bytes = wal.bytes();
    report.unfinished_bytes = recovery.torn_tail.map_or(0, |torn| torn.bytes);
    let (places, lost) = (recovery.damaged_places, recovery.lost);
    for next in recovery {
        match next {
            Ok(Recovered::Frame(_)) => report.records += 1,
            Ok(Recovered::Damaged(damage)) if report.damage.len() < LOST_NAMED_MAX => {
                let why = "it was durable once, and its checksum does not match".to_owned();
                report.damage.push(Finding { what: name(&damage), why });
            }
            Ok(Recovered::Damaged(_)) => {}
            Err(error) => return report.found("the log", &error),
        }
    }
    if places > lost {
        report.damage.push(Finding {
            what: format!("{} places of the log", places - lost),
            why: "damaged, but they hold nothing that is not elsewhere".to_owned(),
        });
    }
}

impl Report {
    fn found(&mut self, what: &str, error: &dyn std::fmt::Display) {
        self.damage.push(Finding { what: what.to_owned(), why: error.to_string() });
    }
}

/// A lost record in the words of the log.
fn name(damage: &Damage) -> String {
    let entry = damage.position.filter(|position| position.index.0 > 0);
    let what = match (entry, damage.index, damage.kind) {
        (Some(position), ..) => format!("the entry at {position}"),
        (None, Some(index), _) => format!("the entry at index {index}"),
        (None, None, Some(kind)) if codec::CRITICAL_KINDS.contains(&kind) => {
            "the record of the last vote".to_owned()
        }
        (None, None, Some(kind)) => format!("a record of kind {kind}"),
        (None, None, None) => "a record whose name is lost, too".to_owned(),
    };
    format!("{what} (segment {}, byte {})", damage.place.segment, damage.place.offset)
}
