//! Writing a checkpoint: blocks to a file of another name, published when it is whole.

use super::directory::{CheckpointError, Directory};
use super::format::{
    BLOCK_BYTES, BLOCK_HEADER_BYTES, FILE_HEADER_BYTES, FOOTER_BYTES, Footer, Manifest, block_crc,
    chain, encode_file_header, salt,
};
use crate::bytes_le::put;
use crate::{Disk, DiskFile};
use bytes::Bytes;
use quorate_core::Position;
use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

/// Written data is synced in steps of this, so that a log on the same device never waits for a
/// whole checkpoint. Unit: bytes.
pub(super) const SYNC_STEP_BYTES: u64 = 8 << 20;

/// A checkpoint being written. Dropped before [`Writer::finish`], it leaves nothing behind.
pub struct Writer<D: Disk> {
    directory: Directory<D>,
    path: PathBuf,
    file: D::File,
    manifest: Manifest,
    salt: u32,
    /// A block in the making: room for its header, then payload.
    block: Vec<u8>,
    blocks: u64,
    payload_bytes: u64,
    unsynced: u64,
    failed: Option<CheckpointError>,
    published: bool,
}

impl<D: Disk> Writer<D> {
    pub(super) fn new(
        directory: Directory<D>,
        position: Position,
        metadata: Bytes,
    ) -> Result<Writer<D>, CheckpointError> {
        let path = directory.writing_path(position);
        let file = directory.create(&path)?;
        let cluster = directory.identity().cluster;
        let mut writer = Writer {
            path,
            file,
            manifest: Manifest { position, size: 0, hash: 0, metadata },
            salt: salt(cluster, position),
            block: Vec::with_capacity(BLOCK_HEADER_BYTES + BLOCK_BYTES),
            blocks: 0,
            payload_bytes: 0,
            unsynced: 0,
            failed: None,
            published: false,
            directory,
        };
        writer.put(&encode_file_header(cluster, position))?;
        assert_eq!(writer.manifest.size, FILE_HEADER_BYTES as u64, "a header of the wrong size");
        writer.begin_block();
        Ok(writer)
    }

    /// Syncs what was written, then publishes it: from now on it is found, and whole.
    ///
    /// Errors: those of the disk, also of an earlier write; nothing is published then.
    pub fn finish(mut self) -> Result<Manifest, CheckpointError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.end_block()?;
        let footer = Footer {
            blocks: self.blocks,
            payload_bytes: self.payload_bytes,
            hash: self.manifest.hash,
        };
        let footer = footer.encode(self.salt);
        assert_eq!(footer.len(), FOOTER_BYTES, "a footer of the wrong size");
        self.put(&footer)?;
        self.directory.publish(&self.file, &self.path, &self.manifest)?;
        self.published = true;
        Ok(self.manifest.clone())
    }

    fn begin_block(&mut self) {
        self.block.clear();
        self.block.resize(BLOCK_HEADER_BYTES, 0);
    }

    /// Writes the block if there is anything in it.
    fn end_block(&mut self) -> Result<(), CheckpointError> {
        let payload = &self.block[BLOCK_HEADER_BYTES..];
        let length = payload.len();
        if length == 0 {
            return Ok(());
        }
        let crc = block_crc(self.salt, self.blocks, payload);
        put(&mut self.block, 0, &(length as u32).to_le_bytes());
        put(&mut self.block, 4, &crc.to_le_bytes());
        self.manifest.hash = chain(self.manifest.hash, crc);
        self.blocks += 1;
        self.payload_bytes += length as u64;
        let block = std::mem::take(&mut self.block);
        let written = self.put(&block);
        self.block = block;
        self.begin_block();
        written
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let mut written = self.file.write_at(self.manifest.size, bytes);
        self.manifest.size += bytes.len() as u64;
        self.unsynced += bytes.len() as u64;
        if written.is_ok() && self.unsynced >= SYNC_STEP_BYTES {
            self.unsynced = 0;
            written = self.file.sync();
        }
        written.map_err(|error| {
            let error = self.directory.fault("write", &self.path, &error);
            self.failed = Some(error.clone());
            error
        })
    }
}

impl<D: Disk> Write for Writer<D> {
    /// Errors: those of the disk; the checkpoint is then lost.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(error) = &self.failed {
            return Err(io::Error::other(error.clone()));
        }
        let room = BLOCK_HEADER_BYTES + BLOCK_BYTES - self.block.len();
        let taken = bytes.len().min(room);
        self.block.extend_from_slice(&bytes[..taken]);
        if taken == room {
            self.end_block().map_err(io::Error::other)?;
        }
        Ok(taken)
    }

    /// Does nothing: a part of a checkpoint is of no use to anybody.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<D: Disk> Drop for Writer<D> {
    fn drop(&mut self) {
        if !self.published {
            // If this fails too, the next open removes it.
            let _ = self.directory.disk().remove(&self.path);
        }
    }
}

impl<D: Disk> fmt::Debug for Writer<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("position", &self.manifest.position)
            .field("blocks", &self.blocks)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
