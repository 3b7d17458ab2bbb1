//! The directory of checkpoints: names, publishing, errors.
//!
//! ```text
//!   I-T.writing     a checkpoint being written         removed at open
//!   I-T.checkpoint  a whole file                       removed at open if it has no manifest
//!   I-T.manifest    names it: from now on it exists
//!   I-T.new         a manifest being written           removed at open
//!   I-T.incoming    a file being received              kept: the transfer can be resumed
//!   I-T.expected    the manifest that it is to have
//!   I-T.damaged     the data of one that was taken out of use: kept to be looked at, of one
//! ```
//! `I` and `T` are the index and the term in hexadecimal.

use super::format::{CheckpointPart, FORMAT_VERSION, Manifest, Refusal};
use crate::mutant::{Mutant, planted};
use crate::{Disk, DiskFile, IoFault, LogIdentity};
use quorate_core::Position;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const WRITING: &str = "writing";
const CHECKPOINT: &str = "checkpoint";
const MANIFEST: &str = "manifest";
const NEW: &str = "new";
const INCOMING: &str = "incoming";
const EXPECTED: &str = "expected";
const DAMAGED: &str = "damaged";

/// A manifest file that is longer cannot be one. Unit: bytes.
const MANIFEST_FILE_MAX: u64 = super::format::METADATA_MAX as u64 + 4096;

/// Why a checkpoint cannot be written, read or received.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CheckpointError {
    /// The directory is in use by another process.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds checkpoints of another member.
    Foreign {
        /// The manifest.
        path: PathBuf,
        /// Whose it is.
        found: LogIdentity,
        /// Who asked.
        expected: LogIdentity,
    },
    /// The file is a checkpoint of another cluster.
    ForeignCluster {
        /// The file.
        path: PathBuf,
        /// The cluster it is of.
        found: u64,
    },
    /// Written by a later version of this program. Nothing was changed.
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest format that is understood here.
        supported: u32,
    },
    /// There is no checkpoint at this position.
    NotFound {
        /// The position.
        position: Position,
    },
    /// There is a whole one at this position already.
    Exists {
        /// The position.
        position: Position,
    },
    /// The checkpoint is not what was written.
    Damaged {
        /// The position.
        position: Position,
        /// The first damaged part.
        part: CheckpointPart,
        /// Where it begins in its file. Unit: bytes.
        offset: u64,
    },
    /// A received chunk does not follow the last one, or exceeds the announced size.
    WrongOffset {
        /// Where the next chunk must begin.
        expected: u64,
        /// The announced size. Unit: bytes.
        size: u64,
    },
    /// The transfer is not at its end.
    Incomplete {
        /// Received and written. Unit: bytes.
        received: u64,
        /// The announced size. Unit: bytes.
        size: u64,
    },
    /// The directory cannot be written: owner, mode, or a read-only mount.
    NotWritable(IoFault),
    /// A call to the disk failed.
    Io(IoFault),
}

/// Where checkpoints live and whose they are. Clones share the lock.
pub(super) struct Directory<D: Disk> {
    shared: Arc<Shared<D>>,
}

struct Shared<D: Disk> {
    disk: D,
    path: PathBuf,
    identity: LogIdentity,
    _lock: D::Lock,
}

/// What the name of a file says.
struct Name<'a> {
    position: Position,
    suffix: &'a str,
}

impl<D: Disk> Clone for Directory<D> {
    fn clone(&self) -> Self {
        Directory { shared: self.shared.clone() }
    }
}

impl<D: Disk> Directory<D> {
    /// Claims the directory and removes what interrupted writes left behind.
    pub(super) fn open(
        disk: D,
        path: &Path,
        identity: &LogIdentity,
    ) -> Result<Directory<D>, CheckpointError> {
        let claim = disk.create_dir(path).and_then(|()| disk.lock(path));
        let lock = claim.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => CheckpointError::Locked { path: path.to_owned() },
            _ => fault("lock", path, &error),
        })?;
        let shared = Shared { disk, path: path.to_owned(), identity: *identity, _lock: lock };
        let directory = Directory { shared: Arc::new(shared) };
        directory.check_owner()?;
        directory.sweep()?;
        Ok(directory)
    }

    pub(super) fn disk(&self) -> &D {
        &self.shared.disk
    }

    pub(super) fn identity(&self) -> &LogIdentity {
        &self.shared.identity
    }

    pub(super) fn path(&self) -> &Path {
        &self.shared.path
    }

    pub(super) fn fault(
        &self,
        operation: &'static str,
        path: &Path,
        error: &io::Error,
    ) -> CheckpointError {
        fault(operation, path, error)
    }

    pub(super) fn writing_path(&self, position: Position) -> PathBuf {
        self.path_of(position, WRITING)
    }

    pub(super) fn data_path(&self, position: Position) -> PathBuf {
        self.path_of(position, CHECKPOINT)
    }

    pub(super) fn incoming_path(&self, position: Position) -> PathBuf {
        self.path_of(position, INCOMING)
    }

    pub(super) fn create(&self, path: &Path) -> Result<D::File, CheckpointError> {
        self.disk().create(path).map_err(|error| fault("creation", path, &error))
    }

    /// The positions that have a manifest, damaged or not; newest first.
    pub(super) fn positions(&self) -> Result<Vec<Position>, CheckpointError> {
        self.with_suffix(MANIFEST)
    }

    /// The positions of which a transfer was begun.
    pub(super) fn incoming(&self) -> Result<Vec<Position>, CheckpointError> {
        self.with_suffix(EXPECTED)
    }

    pub(super) fn manifest(&self, position: Position) -> Result<Manifest, CheckpointError> {
        self.read_manifest(position, MANIFEST)
    }

    pub(super) fn expected(&self, position: Position) -> Result<Manifest, CheckpointError> {
        self.read_manifest(position, EXPECTED)
    }

    /// Notes what a transfer is to bring, before its first byte.
    pub(super) fn expect(&self, manifest: &Manifest) -> Result<(), CheckpointError> {
        self.write_manifest(manifest, EXPECTED)
    }

    /// Makes the data durable under its name, then the manifest that names it: after a crash at any
    /// step a manifest means a whole file.
    pub(super) fn publish(
        &self,
        file: &D::File,
        path: &Path,
        manifest: &Manifest,
    ) -> Result<(), CheckpointError> {
        let early = planted(Mutant::ManifestBeforeData);
        if early {
            self.write_manifest(manifest, MANIFEST)?;
        }
        file.sync().map_err(|error| fault("sync", path, &error))?;
        let data = self.data_path(manifest.position);
        self.disk().rename(path, &data).map_err(|error| fault("rename", path, &error))?;
        self.sync()?;
        if early { Ok(()) } else { self.write_manifest(manifest, MANIFEST) }
    }

    /// Takes a checkpoint away: first its name, so that no name is left without a file.
    pub(super) fn withdraw(&self, position: Position) -> Result<(), CheckpointError> {
        self.remove(&self.path_of(position, MANIFEST))?;
        self.sync()?;
        self.remove(&self.data_path(position))?;
        self.sync()
    }

    /// Takes a checkpoint away as [`Directory::withdraw`] does, but keeps its data under another
    /// name, in the place of what was kept so before.
    pub(super) fn set_aside(&self, position: Position) -> Result<(), CheckpointError> {
        self.remove(&self.path_of(position, MANIFEST))?;
        self.sync()?;
        for before in self.with_suffix(DAMAGED)? {
            self.remove(&self.path_of(before, DAMAGED))?;
        }
        let (data, aside) = (self.data_path(position), self.path_of(position, DAMAGED));
        match self.disk().rename(&data, &aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(fault("rename", &data, &error))
            }
            _ => self.sync(),
        }
    }

    /// Forgets a transfer.
    pub(super) fn forget_incoming(&self, position: Position) -> Result<(), CheckpointError> {
        self.remove(&self.path_of(position, EXPECTED))?;
        self.remove(&self.incoming_path(position))?;
        self.sync()
    }

    fn path_of(&self, position: Position, suffix: &str) -> PathBuf {
        self.path().join(format!("{:016x}-{:016x}.{suffix}", position.index.0, position.term.0))
    }

    fn sync(&self) -> Result<(), CheckpointError> {
        let synced = self.disk().sync_dir(self.path());
        synced.map_err(|error| fault("directory sync", self.path(), &error))
    }

    /// Removes a file if it is there.
    fn remove(&self, path: &Path) -> Result<(), CheckpointError> {
        match self.disk().remove(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(fault("removal", path, &error))
            }
            _ => Ok(()),
        }
    }

    fn names(&self) -> Result<Vec<String>, CheckpointError> {
        self.disk().list(self.path()).map_err(|error| fault("list", self.path(), &error))
    }

    fn with_suffix(&self, suffix: &str) -> Result<Vec<Position>, CheckpointError> {
        let names = self.names()?;
        let named = names.iter().filter_map(|name| parse_name(name));
        let mut positions: Vec<Position> =
            named.filter(|name| name.suffix == suffix).map(|name| name.position).collect();
        positions.sort_unstable();
        positions.reverse();
        Ok(positions)
    }

    fn write_manifest(&self, manifest: &Manifest, suffix: &str) -> Result<(), CheckpointError> {
        let new = self.path_of(manifest.position, NEW);
        self.remove(&new)?;
        let file = self.create(&new)?;
        let bytes = manifest.encode(self.identity());
        let written = file.write_at(0, &bytes).and_then(|()| file.sync());
        written.map_err(|error| fault("write", &new, &error))?;
        let path = self.path_of(manifest.position, suffix);
        self.disk().rename(&new, &path).map_err(|error| fault("rename", &new, &error))?;
        self.sync()
    }

    fn read_manifest(&self, position: Position, suffix: &str) -> Result<Manifest, CheckpointError> {
        let path = self.path_of(position, suffix);
        let damaged =
            CheckpointError::Damaged { position, part: CheckpointPart::Manifest, offset: 0 };
        let file = match self.disk().open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CheckpointError::NotFound { position });
            }
            Err(error) => return Err(fault("open", &path, &error)),
        };
        let size = file.size().map_err(|error| fault("open", &path, &error))?;
        let mut bytes = vec![0; size.min(MANIFEST_FILE_MAX) as usize];
        if file.read_at(0, &mut bytes).is_err() {
            return Err(damaged);
        }
        match Manifest::decode(&bytes) {
            Ok((identity, _)) if identity != *self.identity() => {
                Err(CheckpointError::Foreign { path, found: identity, expected: *self.identity() })
            }
            Ok((_, manifest)) if manifest.position == position => Ok(manifest),
            Err(Refusal::Newer { version }) => Err(CheckpointError::newer(&path, version)),
            _ => Err(damaged),
        }
    }

    /// Refuses the checkpoints of others and of later versions before anything is changed.
    fn check_owner(&self) -> Result<(), CheckpointError> {
        for position in self.positions()? {
            match self.manifest(position) {
                Err(CheckpointError::Damaged { .. }) | Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sweep(&self) -> Result<(), CheckpointError> {
        let names = self.names()?;
        let has = |position, suffix| {
            let path = self.path_of(position, suffix);
            names.iter().any(|name| path.ends_with(name))
        };
        for name in &names {
            let Some(Name { position, suffix }) = parse_name(name) else { continue };
            let leftover = match suffix {
                WRITING | NEW => true,
                CHECKPOINT => !has(position, MANIFEST),
                INCOMING => !has(position, EXPECTED),
                // The transfer was published; its note is not needed any more.
                EXPECTED => !has(position, INCOMING),
                _ => false,
            };
            if leftover {
                self.remove(&self.path().join(name))?;
            }
        }
        self.sync()
    }
}

fn parse_name(name: &str) -> Option<Name<'_>> {
    let (stem, suffix) = name.split_once('.')?;
    let (index, term) = stem.split_once('-')?;
    let hex = |text: &str| match text.len() {
        16 => u64::from_str_radix(text, 16).ok(),
        _ => None,
    };
    let known = [WRITING, CHECKPOINT, MANIFEST, NEW, INCOMING, EXPECTED, DAMAGED].contains(&suffix);
    let position = Position::new(hex(term)?, hex(index)?);
    known.then_some(Name { position, suffix })
}

fn fault(operation: &'static str, path: &Path, error: &io::Error) -> CheckpointError {
    let fault = IoFault::new(operation, path, error);
    match fault.is_not_writable() {
        true => CheckpointError::NotWritable(fault),
        false => CheckpointError::Io(fault),
    }
}

impl CheckpointError {
    pub(super) fn newer(path: &Path, found: u32) -> CheckpointError {
        CheckpointError::NewerFormat { path: path.to_owned(), found, supported: FORMAT_VERSION }
    }

    /// True for a checkpoint that has to be replaced: skip it, use an older one or a peer's.
    pub fn is_damage(&self) -> bool {
        matches!(self, CheckpointError::Damaged { .. })
    }
}

impl fmt::Display for CheckpointPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointPart::Manifest => f.write_str("manifest"),
            CheckpointPart::File => f.write_str("file (missing)"),
            CheckpointPart::Header => f.write_str("header"),
            CheckpointPart::Block { number } => write!(f, "block {number}"),
            CheckpointPart::Footer => f.write_str("footer"),
        }
    }
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointError::Locked { path } => {
                write!(f, "{} is in use by another process", path.display())
            }
            CheckpointError::Foreign { path, found, expected } => {
                write!(f, "{} belongs to {found}, not to {expected}", path.display())
            }
            CheckpointError::ForeignCluster { path, found } => {
                write!(f, "{} is a checkpoint of cluster {found:x}", path.display())
            }
            CheckpointError::NewerFormat { path, found, supported } => write!(
                f,
                "{} has format {found}; this version reads formats up to {supported}",
                path.display()
            ),
            CheckpointError::NotFound { position } => write!(f, "no checkpoint at {position}"),
            CheckpointError::Exists { position } => {
                write!(f, "the checkpoint at {position} exists already")
            }
            CheckpointError::Damaged { position, part, offset } => {
                write!(f, "checkpoint {position} is damaged: {part}, at byte {offset}")
            }
            CheckpointError::WrongOffset { expected, size } => {
                write!(f, "the next chunk begins at byte {expected} of {size}")
            }
            CheckpointError::Incomplete { received, size } => {
                write!(f, "only {received} of {size} bytes were received")
            }
            CheckpointError::NotWritable(fault) => write!(f, "not writable: {fault}"),
            CheckpointError::Io(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for CheckpointError {}
