//! Checkpoints: the state at a position of the log, so that the log before it can be released.
//!
//! Problem: a checkpoint is believed blindly or not at all. If a half-written or rotten one is
//! loaded, a replica diverges silently; if the only one is refused, the log before it is gone.
//!
//! Idea: the data is a file of blocks, each with a checksum that knows its place. A small manifest
//! (position, size, hash, whose it is) is published only after the data is durable, so a name means
//! a whole file. The reader gives out no byte of a block it has not verified, and reports the end
//! only after the footer agreed. At a start the newest *whole* one is taken, and what was skipped
//! on the way is reported.
//!
//! ```text
//!   begin -> write.. -> finish:  sync data -> rename -> sync dir -> manifest: write, sync, rename,
//!                                                                   sync dir
//! ```
//!
//! A checkpoint travels to a peer as chunks of its file, which is the same on every member of the
//! cluster; the receiver verifies all of it before it publishes.
//!
//! Guarantees: *atomic*: after a crash at any step a checkpoint is there whole or not at all;
//! *named damage*: no changed byte is given out, and the damaged part is named;
//! *resumable*: an interrupted transfer goes on after its last whole block.
//!
//! Left out: incremental checkpoints, compression, encryption.

mod directory;
mod format;
mod reader;
mod receive;
#[cfg(test)]
mod tests;
mod writer;

pub use directory::CheckpointError;
pub use format::{CheckpointPart, METADATA_MAX, Manifest};
pub use reader::Reader;
pub use receive::Incoming;
pub use writer::Writer;

use crate::{Disk, DiskFile, LogIdentity};
use bytes::Bytes;
use directory::Directory;
use quorate_core::Position;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A chunk is never longer, whatever is asked for. Unit: bytes.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;

/// The checkpoints of one member. Clones share the directory; writers, readers and transfers may
/// live on other threads.
pub struct Checkpoints<D: Disk> {
    directory: Directory<D>,
}

/// The outcome of looking for a checkpoint to start from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewestWhole {
    /// The newest one that is whole; none if there is none.
    pub found: Option<Manifest>,
    /// Newer ones that were passed over, each with its [`CheckpointError::Damaged`].
    pub skipped: Vec<CheckpointError>,
}

impl<D: Disk> Checkpoints<D> {
    /// Opens the directory, or makes it, and removes what interrupted writes left behind.
    ///
    /// Errors: locked, foreign or newer checkpoints (nothing is changed then); those of the disk.
    pub fn open(
        disk: D,
        dir: &Path,
        identity: &LogIdentity,
    ) -> Result<Checkpoints<D>, CheckpointError> {
        Ok(Checkpoints { directory: Directory::open(disk, dir, identity)? })
    }

    /// Begins a checkpoint of the state after the entry at `position`.
    ///
    /// Errors: [`CheckpointError::Exists`] if there is a whole one at this position; those of the
    /// disk. Panics: if the metadata exceeds [`METADATA_MAX`].
    pub fn begin(&self, position: Position, metadata: Bytes) -> Result<Writer<D>, CheckpointError> {
        assert!(metadata.len() <= METADATA_MAX, "{} bytes of metadata", metadata.len());
        self.make_room_at(position)?;
        Writer::new(self.directory.clone(), position, metadata)
    }

    /// The published checkpoints, newest first. Those with a damaged manifest are left out; the
    /// data is not read.
    pub fn list(&self) -> Result<Vec<Manifest>, CheckpointError> {
        let mut manifests = Vec::new();
        for position in self.directory.positions()? {
            match self.directory.manifest(position) {
                Ok(manifest) => manifests.push(manifest),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(manifests)
    }

    /// Where the log stood at each published checkpoint, whole or not; newest first.
    pub fn positions(&self) -> Result<Vec<Position>, CheckpointError> {
        self.directory.positions()
    }

    /// Reads the checkpoints, newest first, until one is whole to its last byte.
    pub fn newest_whole(&self) -> Result<NewestWhole, CheckpointError> {
        let mut skipped = Vec::new();
        for position in self.directory.positions()? {
            match self.verify(position) {
                Ok(manifest) => return Ok(NewestWhole { found: Some(manifest), skipped }),
                Err(error) if error.is_damage() => skipped.push(error),
                Err(error) => return Err(error),
            }
        }
        Ok(NewestWhole { found: None, skipped })
    }

    /// Reads a checkpoint to its end: whether it is whole.
    ///
    /// Errors: [`CheckpointError::Damaged`] names the first bad part.
    pub fn verify(&self, position: Position) -> Result<Manifest, CheckpointError> {
        self.open_reader(position)?.verify()
    }

    /// Reads a checkpoint to its end and withdraws it if it is damaged, so that nobody is offered
    /// it again. True if it was.
    ///
    /// Errors: those of the disk; what cannot be read for another reason than damage stays.
    pub fn discard_if_damaged(&self, position: Position) -> Result<bool, CheckpointError> {
        match self.verify(position) {
            Ok(_) | Err(CheckpointError::NotFound { .. }) => Ok(false),
            Err(error) if error.is_damage() => self.directory.withdraw(position).map(|()| true),
            Err(error) => Err(error),
        }
    }

    /// As [`Checkpoints::verify`], for one who reads along beside a member that has other work:
    /// see [`Reader::verify_paced`].
    ///
    /// Errors: as [`Checkpoints::verify`].
    pub fn verify_paced(
        &self,
        position: Position,
        pace: &mut dyn FnMut(u64),
    ) -> Result<Manifest, CheckpointError> {
        self.open_reader(position)?.verify_paced(pace)
    }

    /// Takes a damaged checkpoint out of use, and keeps its data for whoever wants to look at it:
    /// of one at most, that of an earlier one is removed. True if it was damaged.
    ///
    /// Errors: those of the disk; what cannot be read for another reason than damage stays.
    pub fn set_aside_if_damaged(&self, position: Position) -> Result<bool, CheckpointError> {
        match self.verify(position) {
            Ok(_) | Err(CheckpointError::NotFound { .. }) => Ok(false),
            Err(error) if error.is_damage() => self.directory.set_aside(position).map(|()| true),
            Err(error) => Err(error),
        }
    }

    /// As [`Checkpoints::set_aside_if_damaged`], of one whose checksums hold: what it says is
    /// wrong.
    ///
    /// Errors: those of the disk.
    pub fn set_aside(&self, position: Position) -> Result<(), CheckpointError> {
        self.directory.set_aside(position)
    }

    /// The file that holds the data of a checkpoint.
    pub fn path_of(&self, position: Position) -> PathBuf {
        self.directory.data_path(position)
    }

    /// Opens a checkpoint for reading.
    ///
    /// Errors: [`CheckpointError::NotFound`]; damage of the manifest or of the file's header.
    pub fn open_reader(&self, position: Position) -> Result<Reader<D>, CheckpointError> {
        let manifest = self.directory.manifest(position)?;
        Reader::new(self.directory.clone(), &self.directory.data_path(position), manifest)
    }

    /// Removes all but the newest `keep`, and returns the oldest one kept: the log may be released
    /// up to there. Damaged ones that are newer are neither counted (if the manifest is damaged)
    /// nor removed.
    ///
    /// Panics: if `keep` is zero.
    pub fn retain(&self, keep: usize) -> Result<Option<Position>, CheckpointError> {
        assert!(keep > 0, "a member without a checkpoint cannot release its log");
        let kept = self.list()?;
        let Some(oldest) = kept.iter().take(keep).next_back() else { return Ok(None) };
        for position in self.directory.positions()? {
            if position < oldest.position {
                self.directory.withdraw(position)?;
            }
        }
        Ok(Some(oldest.position))
    }

    /// Bytes of a checkpoint's file, to be sent to a peer: at most `len_max` (and never more than
    /// [`CHUNK_BYTES_MAX`]) from `offset`, none at the end. They are not verified here: the
    /// receiver verifies the whole.
    ///
    /// Errors: [`CheckpointError::NotFound`] if it was removed meanwhile; those of the disk.
    pub fn read_chunk(
        &self,
        position: Position,
        offset: u64,
        len_max: usize,
    ) -> Result<Bytes, CheckpointError> {
        let path = self.directory.data_path(position);
        let read = self.directory.disk().open(&path).and_then(|file| {
            let left = file.size()?.saturating_sub(offset);
            let mut bytes = vec![0; len_max.min(CHUNK_BYTES_MAX).min(left as usize)];
            let count = file.read_at(offset, &mut bytes)?;
            bytes.truncate(count);
            Ok(Bytes::from(bytes))
        });
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => CheckpointError::NotFound { position },
            _ => self.directory.fault("read", &path, &error),
        })
    }

    /// Begins to receive the checkpoint that a peer announced, or goes on where an interrupted
    /// transfer of the same one stood: see [`Incoming::offset`]. There is one transfer at a time;
    /// any other one is forgotten.
    ///
    /// Errors: [`CheckpointError::Exists`] if there is a whole one at this position; those of the
    /// disk.
    pub fn begin_receive(&self, announced: Manifest) -> Result<Incoming<D>, CheckpointError> {
        self.make_room_at(announced.position)?;
        Incoming::begin(self.directory.clone(), announced)
    }

    /// Withdraws a damaged checkpoint at this position, so that a better one can take its place.
    fn make_room_at(&self, position: Position) -> Result<(), CheckpointError> {
        match self.verify(position) {
            Ok(_) => Err(CheckpointError::Exists { position }),
            Err(CheckpointError::NotFound { .. }) => Ok(()),
            Err(error) if error.is_damage() => self.directory.withdraw(position),
            Err(error) => Err(error),
        }
    }
}

impl<D: Disk> Clone for Checkpoints<D> {
    fn clone(&self) -> Self {
        Checkpoints { directory: self.directory.clone() }
    }
}

impl<D: Disk> fmt::Debug for Checkpoints<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checkpoints({})", self.directory.path().display())
    }
}
