//! Receiving a checkpoint from a peer, in chunks of its file, resumable after any interruption.

use super::directory::{CheckpointError, Directory};
use super::format::Manifest;
use super::reader::Reader;
use super::writer::SYNC_STEP_BYTES;
use crate::mutant::{Mutant, planted};
use crate::{Disk, DiskFile};
use std::fmt;
use std::path::{Path, PathBuf};

/// A checkpoint being received. Dropped, it waits on disk to be resumed.
pub struct Incoming<D: Disk> {
    directory: Directory<D>,
    manifest: Manifest,
    path: PathBuf,
    file: D::File,
    offset: u64,
    unsynced: u64,
}

impl<D: Disk> Incoming<D> {
    /// Goes on with a transfer of the same manifest, and forgets every other one.
    pub(super) fn begin(
        directory: Directory<D>,
        manifest: Manifest,
    ) -> Result<Incoming<D>, CheckpointError> {
        let mut resumes = false;
        for position in directory.incoming()? {
            let same = directory.expected(position).is_ok_and(|expected| expected == manifest);
            resumes |= same;
            if !same {
                directory.forget_incoming(position)?;
            }
        }
        let path = directory.incoming_path(manifest.position);
        if resumes {
            let file = directory.disk().open(&path);
            let file = file.map_err(|error| directory.fault("open", &path, &error))?;
            let offset = verified_prefix(&directory, &path, &manifest);
            return Ok(Incoming { directory, manifest, path, file, offset, unsynced: 0 });
        }
        // A transfer that failed before it was noted has left its file.
        directory.forget_incoming(manifest.position)?;
        let file = directory.create(&path)?;
        directory.expect(&manifest)?;
        Ok(Incoming { directory, manifest, path, file, offset: 0, unsynced: 0 })
    }

    /// Where the next chunk must begin. Unit: bytes of the file.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What is being received.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Takes the next chunk.
    ///
    /// Errors: [`CheckpointError::WrongOffset`] for a chunk that is not the next one or reaches
    /// beyond the announced size; those of the disk.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        let length = bytes.len() as u64;
        if offset != self.offset || length > self.manifest.size - self.offset {
            let size = self.manifest.size;
            return Err(CheckpointError::WrongOffset { expected: self.offset, size });
        }
        let mut written = self.file.write_at(offset, bytes);
        self.unsynced += length;
        if written.is_ok() && self.unsynced >= SYNC_STEP_BYTES {
            self.unsynced = 0;
            written = self.file.sync();
        }
        written.map_err(|error| self.directory.fault("write", &self.path, &error))?;
        self.offset += length;
        Ok(())
    }

    /// Verifies every block, then publishes the checkpoint.
    ///
    /// Errors: [`CheckpointError::Incomplete`] if chunks are missing, the transfer can then be
    /// resumed; [`CheckpointError::Damaged`] if what came is not what was announced, and the
    /// transfer is forgotten.
    pub fn complete(self) -> Result<Manifest, CheckpointError> {
        let Incoming { directory, manifest, path, file, offset, .. } = self;
        if offset < manifest.size {
            return Err(CheckpointError::Incomplete { received: offset, size: manifest.size });
        }
        let whole = Reader::new(directory.clone(), &path, manifest.clone())
            .and_then(|reader| reader.verify());
        match whole {
            Err(error) if error.is_damage() && !planted(Mutant::TrustReceived) => {
                directory.forget_incoming(manifest.position)?;
                return Err(error);
            }
            Err(error) if !error.is_damage() => return Err(error),
            _ => {}
        }
        directory.publish(&file, &path, &manifest)?;
        directory.forget_incoming(manifest.position)?;
        Ok(manifest)
    }
}

/// A power cut may have left anything in the file: only whole blocks count as received.
fn verified_prefix<D: Disk>(directory: &Directory<D>, path: &Path, manifest: &Manifest) -> u64 {
    match Reader::new(directory.clone(), path, manifest.clone()) {
        Ok(reader) => reader.whole_prefix(),
        Err(_) => 0,
    }
}

impl<D: Disk> fmt::Debug for Incoming<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("manifest", &self.manifest)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
