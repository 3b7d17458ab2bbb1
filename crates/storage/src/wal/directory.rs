//! The directory of a log: names, whole-segment reads, and errors with a path in them.

use super::WalError;
use super::segment::{HeaderState, SegmentHeader, file_name, parse_name, usable_bytes};
use crate::bytes_le::without_zero_tail;
use crate::{Disk, DiskFile, IoFault, LogIdentity};
use std::io;
use std::path::{Path, PathBuf};

/// A segment is read in steps of this. Unit: bytes.
const READ_STEP_BYTES: usize = 1 << 20;

/// Where a step fails, what can be read is read in units of this. Unit: bytes.
const READ_RETRY_BYTES: usize = 4096;

/// Where a log lives and whose it is.
#[derive(Clone, Debug)]
pub(super) struct Directory<D> {
    pub(super) disk: D,
    pub(super) path: PathBuf,
    pub(super) identity: LogIdentity,
}

/// A segment in memory.
pub(super) struct Loaded {
    pub(super) number: u32,
    pub(super) bytes: Vec<u8>,
    /// Only zeros follow from here on.
    pub(super) data_end: usize,
    /// None if the header is damaged.
    pub(super) header: Option<SegmentHeader>,
}

impl<D: Disk> Directory<D> {
    /// The numbers of the segments there are, in order. Other files are left alone.
    pub(super) fn numbers(&self) -> Result<Vec<u32>, WalError> {
        let names =
            self.disk.list(&self.path).map_err(|error| self.unreadable(&self.path, &error))?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| parse_name(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn path_of(&self, number: u32) -> PathBuf {
        self.path.join(file_name(number))
    }

    pub(super) fn open(&self, number: u32) -> Result<D::File, WalError> {
        let path = self.path_of(number);
        self.disk.open(&path).map_err(|error| self.unreadable(&path, &error))
    }

    /// Reads a segment. Sectors that cannot be read count as zeros, which is damage like any other.
    ///
    /// Errors: a header that is intact but of another log or of a newer format.
    pub(super) fn load(&self, number: u32) -> Result<Loaded, WalError> {
        let path = self.path_of(number);
        let file = self.open(number)?;
        let size = file.size().map_err(|error| self.unreadable(&path, &error))?;
        let mut bytes = vec![0; usable_bytes(size) as usize];
        for (step, part) in bytes.chunks_mut(READ_STEP_BYTES).enumerate() {
            read_what_can_be_read(&file, (step * READ_STEP_BYTES) as u64, part);
        }
        let header = self.checked_header(&path, number, SegmentHeader::decode(&bytes))?;
        let data_end = without_zero_tail(&bytes);
        Ok(Loaded { number, bytes, data_end, header })
    }

    pub(super) fn remove(&self, number: u32) -> Result<(), WalError> {
        let path = self.path_of(number);
        self.disk.remove(&path).map_err(|error| self.fault("removal", &path, &error))?;
        self.sync()
    }

    pub(super) fn sync(&self) -> Result<(), WalError> {
        let synced = self.disk.sync_dir(&self.path);
        synced.map_err(|error| self.fault("directory sync", &self.path, &error))
    }

    pub(super) fn fault(
        &self,
        operation: &'static str,
        path: &Path,
        error: &io::Error,
    ) -> WalError {
        let fault = IoFault::new(operation, path, error);
        if fault.is_not_writable() { WalError::NotWritable(fault) } else { WalError::Io(fault) }
    }

    fn unreadable(&self, path: &Path, error: &io::Error) -> WalError {
        // Files are opened for writing too, so a read-only place shows up here.
        let fault = IoFault::new("open", path, error);
        match fault.is_not_writable() {
            true => WalError::NotWritable(fault),
            false => WalError::Unreadable(fault),
        }
    }

    fn checked_header(
        &self,
        path: &Path,
        number: u32,
        state: HeaderState,
    ) -> Result<Option<SegmentHeader>, WalError> {
        match state {
            HeaderState::Bad => Ok(None),
            HeaderState::Newer { version } => Err(WalError::NewerFormat {
                path: path.to_owned(),
                found: version,
                supported: super::segment::FORMAT_VERSION,
            }),
            HeaderState::Intact(header) if header.identity != self.identity => {
                Err(WalError::ForeignLog {
                    path: path.to_owned(),
                    found: header.identity,
                    expected: self.identity,
                })
            }
            // The header of another segment, put here by mistake, says nothing about this one.
            HeaderState::Intact(header) => Ok((header.segment == number).then_some(header)),
        }
    }
}

/// Sectors that cannot be read count as zeros.
pub(super) fn read_what_can_be_read(file: &impl DiskFile, offset: u64, part: &mut [u8]) {
    if file.read_at(offset, part).is_ok() {
        return;
    }
    for (step, small) in part.chunks_mut(READ_RETRY_BYTES).enumerate() {
        if file.read_at(offset + (step * READ_RETRY_BYTES) as u64, small).is_err() {
            small.fill(0);
        }
    }
}
