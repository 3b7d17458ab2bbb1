//! Reading a checkpoint: nothing is given out that was not verified.

use super::directory::{CheckpointError, Directory};
use super::format::{
    BLOCK_BYTES, BLOCK_HEADER_BYTES, CheckpointPart, FILE_HEADER_BYTES, FOOTER_BYTES, Footer,
    Manifest, Refusal, block_crc, chain, check_file_header, salt,
};
use crate::bytes_le::u32_at;
use crate::{Disk, DiskFile};
use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A checkpoint being read, block by block, each verified before a byte of it is given out.
///
/// The end of the data is reported only after the footer was verified: a reader that came to the
/// end has read the whole checkpoint and nothing else.
pub struct Reader<D: Disk> {
    directory: Directory<D>,
    path: PathBuf,
    file: D::File,
    manifest: Manifest,
    salt: u32,
    /// Where the next block begins in the file.
    offset: u64,
    blocks: u64,
    payload_bytes: u64,
    hash: u32,
    block: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<D: Disk> Reader<D> {
    pub(super) fn new(
        directory: Directory<D>,
        path: &Path,
        manifest: Manifest,
    ) -> Result<Reader<D>, CheckpointError> {
        let file = match directory.disk().open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let position = manifest.position;
                return Err(CheckpointError::Damaged {
                    position,
                    part: CheckpointPart::File,
                    offset: 0,
                });
            }
            Err(error) => return Err(directory.fault("open", path, &error)),
        };
        let mut reader = Reader {
            salt: salt(directory.identity().cluster, manifest.position),
            path: path.to_owned(),
            file,
            manifest,
            offset: FILE_HEADER_BYTES as u64,
            blocks: 0,
            payload_bytes: 0,
            hash: 0,
            block: Vec::new(),
            given: 0,
            ended: false,
            directory,
        };
        reader.check_header()?;
        Ok(reader)
    }

    /// What is being read.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads to the end and throws it away: whether the checkpoint is whole.
    ///
    /// Errors: the first [`CheckpointError::Damaged`] part.
    pub fn verify(mut self) -> Result<Manifest, CheckpointError> {
        while self.next_block()? {}
        Ok(self.manifest)
    }

    /// As [`Reader::verify`], from the medium and no faster than `pace`, which is told of each step
    /// how many bytes were read, takes its time.
    ///
    /// Errors: as [`Reader::verify`].
    pub fn verify_paced(mut self, pace: &mut dyn FnMut(u64)) -> Result<Manifest, CheckpointError> {
        self.file.forget_cached();
        while self.next_block()? {
            pace(self.block.len() as u64);
        }
        Ok(self.manifest)
    }

    /// How far the file is whole, in blocks. Unit: bytes.
    pub(super) fn whole_prefix(mut self) -> u64 {
        while !self.ended && self.next_block().is_ok() {}
        self.offset
    }

    /// Reads and verifies the next block. False after the footer.
    fn next_block(&mut self) -> Result<bool, CheckpointError> {
        if self.ended {
            return Ok(false);
        }
        let number = self.blocks;
        let part = CheckpointPart::Block { number };
        let mut head = [0; BLOCK_HEADER_BYTES];
        if self.fill(self.offset, &mut head)? < head.len() {
            return Err(self.damaged(part));
        }
        let length = u32_at(&head, 0) as usize;
        if length == 0 {
            return self.footer();
        }
        if length > BLOCK_BYTES {
            return Err(self.damaged(part));
        }
        let mut block = std::mem::take(&mut self.block);
        block.resize(length, 0);
        let read = self.fill(self.offset + head.len() as u64, &mut block)?;
        let crc = block_crc(self.salt, number, &block);
        self.block = block;
        if read < length || crc != u32_at(&head, 4) {
            self.block.clear();
            return Err(self.damaged(part));
        }
        self.given = 0;
        self.blocks += 1;
        self.payload_bytes += length as u64;
        self.hash = chain(self.hash, crc);
        self.offset += (head.len() + length) as u64;
        Ok(true)
    }

    fn footer(&mut self) -> Result<bool, CheckpointError> {
        let mut found = [0; FOOTER_BYTES + 1];
        let read = self.fill(self.offset, &mut found)?;
        let footer =
            Footer { blocks: self.blocks, payload_bytes: self.payload_bytes, hash: self.hash };
        let expected = footer.encode(self.salt);
        // One byte more is asked for than there may be: nothing follows a footer.
        let good = read == FOOTER_BYTES && found[..read] == expected;
        let size = self.offset + FOOTER_BYTES as u64;
        if !good || size != self.manifest.size || self.hash != self.manifest.hash {
            return Err(self.damaged(CheckpointPart::Footer));
        }
        self.block.clear();
        self.given = 0;
        self.offset = size;
        self.ended = true;
        Ok(false)
    }

    fn check_header(&mut self) -> Result<(), CheckpointError> {
        let mut head = [0; FILE_HEADER_BYTES];
        let read = self.fill(0, &mut head)?;
        let cluster = self.directory.identity().cluster;
        match check_file_header(&head[..read], cluster, self.manifest.position) {
            Ok(()) => Ok(()),
            Err(Refusal::Damaged) => Err(CheckpointError::Damaged {
                position: self.manifest.position,
                part: CheckpointPart::Header,
                offset: 0,
            }),
            Err(Refusal::Newer { version }) => Err(CheckpointError::newer(&self.path, version)),
            Err(Refusal::Foreign { cluster }) => {
                Err(CheckpointError::ForeignCluster { path: self.path.clone(), found: cluster })
            }
        }
    }

    /// Unreadable sectors are damage, like wrong ones.
    fn fill(&self, offset: u64, into: &mut [u8]) -> Result<usize, CheckpointError> {
        match self.file.read_at(offset, into) {
            Ok(read) => Ok(read),
            Err(_) if offset == 0 => Ok(0),
            Err(_) => Err(self.damaged(CheckpointPart::Block { number: self.blocks })),
        }
    }

    fn damaged(&self, part: CheckpointPart) -> CheckpointError {
        CheckpointError::Damaged { position: self.manifest.position, part, offset: self.offset }
    }
}

impl<D: Disk> Read for Reader<D> {
    /// Errors: `InvalidData` with a [`CheckpointError::Damaged`] inside.
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.given == self.block.len() {
            let more = self.next_block();
            more.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
        let ready = &self.block[self.given..];
        let taken = ready.len().min(into.len());
        into[..taken].copy_from_slice(&ready[..taken]);
        self.given += taken;
        Ok(taken)
    }
}

impl<D: Disk> fmt::Debug for Reader<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader")
            .field("manifest", &self.manifest)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}
