//! The files of a log: made, made ahead, and settled when a log is opened.

use super::directory::{Directory, Loaded};
use super::segment::Place;
use super::survey::{End, SegmentInfo, Survey};
use super::{SEGMENT_BYTES_MIN, WalError};
use crate::mutant::{Mutant, planted};
use crate::{Disk, DiskFile, Fill};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Of the name of a segment file that is being made ahead.
const PREPARED_SUFFIX: &str = ".next";

/// A segment file that is open for writing.
pub(super) struct OpenSegment<F> {
    pub(super) number: u32,
    /// Unit: bytes.
    pub(super) size: u32,
    pub(super) file: F,
}

/// The making of the next segment file: slow, and independent of the log, so that another thread
/// can run it.
#[derive(Debug)]
pub struct Preparation<D: Disk> {
    pub(super) directory: Directory<D>,
    pub(super) number: u32,
    pub(super) size: u32,
}

/// A segment file made ahead.
pub struct Prepared<D: Disk>(pub(super) OpenSegment<D::File>);

/// The files to go on with after what was found is settled.
pub(super) struct Settled<F> {
    pub(super) current: OpenSegment<F>,
    pub(super) spare: Option<OpenSegment<F>>,
    pub(super) head: Place,
}

impl<D: Disk> Directory<D> {
    pub(super) fn claim(&self) -> Result<D::Lock, WalError> {
        let made = self.disk.create_dir(&self.path);
        made.map_err(|error| self.fault("creation", &self.path, &error))?;
        self.disk.lock(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => WalError::Locked { path: self.path.clone() },
            _ => self.fault("lock", &self.path, &error),
        })
    }

    /// Makes a segment file of zeros, with its name durable. A file of that name that was made and
    /// never begun is replaced.
    pub(super) fn make_segment(
        &self,
        number: u32,
        size: u32,
        fill: Fill,
    ) -> Result<OpenSegment<D::File>, WalError> {
        let segment = self.make_file(&self.path_of(number), number, size, fill)?;
        if !planted(Mutant::SegmentUnnamed) {
            self.sync()?;
        }
        Ok(segment)
    }

    fn make_file(
        &self,
        path: &Path,
        number: u32,
        size: u32,
        fill: Fill,
    ) -> Result<OpenSegment<D::File>, WalError> {
        let make = || {
            match self.disk.remove(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = self.disk.create(path)?;
            file.preallocate(size.into(), fill)?;
            file.sync()?;
            Ok(file)
        };
        let file = make().map_err(|error| {
            // Half a segment is of no use, and takes the space that is missing. If it cannot be
            // removed it is replaced at the next try, or at the next open.
            let _ = self.disk.remove(path);
            self.fault("creation", path, &error)
        })?;
        Ok(OpenSegment { number, size, file })
    }

    fn prepared_path(&self, number: u32) -> PathBuf {
        self.path.join(format!("{number:010}{PREPARED_SUFFIX}"))
    }

    /// Gives a segment made ahead its name.
    pub(super) fn publish_prepared(&self, number: u32) -> Result<(), WalError> {
        let path = self.prepared_path(number);
        let named = self.disk.rename(&path, &self.path_of(number));
        named.map_err(|error| self.fault("rename", &path, &error))?;
        if planted(Mutant::SegmentUnnamed) { Ok(()) } else { self.sync() }
    }

    /// Takes a segment made ahead away.
    pub(super) fn discard_prepared(&self, number: u32) -> Result<(), WalError> {
        let path = self.prepared_path(number);
        self.disk.remove(&path).map_err(|error| self.fault("removal", &path, &error))
    }

    /// Removes what preparations left behind that were interrupted.
    pub(super) fn sweep(&self) -> Result<(), WalError> {
        let names = self.disk.list(&self.path);
        let names = names.map_err(|error| self.fault("list", &self.path, &error))?;
        for name in names.iter().filter(|name| name.ends_with(PREPARED_SUFFIX)) {
            let path = self.path.join(name);
            self.disk.remove(&path).map_err(|error| self.fault("removal", &path, &error))?;
        }
        Ok(())
    }

    pub(super) fn write_header(
        &self,
        segment: &OpenSegment<D::File>,
        info: &SegmentInfo,
    ) -> Result<(), WalError> {
        assert_eq!(segment.number, info.number, "the header of another segment");
        self.overwrite(segment, 0, &info.header(self.identity).encode())
    }

    /// Writes and syncs.
    fn overwrite(
        &self,
        segment: &OpenSegment<D::File>,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), WalError> {
        let written =
            segment.file.write_at(offset.into(), bytes).and_then(|()| segment.file.sync());
        let path = self.path_of(segment.number);
        written.map_err(|error| self.fault("repair", &path, &error))
    }

    fn open_segment(&self, number: u32, size: u32) -> Result<OpenSegment<D::File>, WalError> {
        Ok(OpenSegment { number, size, file: self.open(number)? })
    }

    /// Makes what the survey found durable, and the rest unfindable.
    pub(super) fn settle(
        &self,
        numbers: &[u32],
        end: &End,
        survey: &Survey,
    ) -> Result<Settled<D::File>, WalError> {
        self.sweep()?;
        let last = survey.segments.last().expect("a log that has an end has a segment");
        let head = Place { segment: last.number, offset: last.used };
        for info in survey.segments.iter().filter(|info| info.header_damaged.is_some()) {
            let segment = self.open_segment(info.number, info.size)?;
            self.write_header(&segment, info)?;
        }
        let current = self.open_segment(last.number, last.size)?;
        if end.tail.number == last.number {
            self.settle_tail(&current, &end.tail, end.proof, head)?;
        } else {
            let tail = self.load(last.number)?;
            self.settle_tail(&current, &tail, end.proof, head)?;
        }
        let spare = self.settle_rest(numbers, head.segment)?;
        Ok(Settled { current, spare, head })
    }

    /// Writes what is not proven to be durable once more: it may be in the cache of the operating
    /// system only, which after a failed sync believes that it has written it. Zeros what was cut
    /// off, so that no frame of it is ever found behind what will be written there.
    fn settle_tail(
        &self,
        current: &OpenSegment<D::File>,
        tail: &Loaded,
        proof: Place,
        head: Place,
    ) -> Result<(), WalError> {
        let unproven = proof.max(Place::start_of(head.segment));
        if unproven < head && !planted(Mutant::TrustUnprovenTail) {
            let bytes = &tail.bytes[unproven.offset as usize..head.offset as usize];
            self.overwrite(current, unproven.offset, bytes)?;
        }
        let cut_off = tail.data_end.saturating_sub(head.offset as usize);
        if cut_off > 0 && !planted(Mutant::KeepCutTail) {
            self.overwrite(current, head.offset, &vec![0; cut_off])?;
        }
        Ok(())
    }

    /// Of the segments after the last one, keeps the next if it was made and never begun.
    fn settle_rest(
        &self,
        numbers: &[u32],
        last: u32,
    ) -> Result<Option<OpenSegment<D::File>>, WalError> {
        let mut spare = None;
        for number in numbers.iter().filter(|number| **number > last) {
            let loaded = self.load(*number)?;
            let size = loaded.bytes.len() as u32;
            if loaded.data_end == 0 && size >= SEGMENT_BYTES_MIN && *number == last + 1 {
                spare = Some(self.open_segment(*number, size)?);
            } else {
                self.remove(*number)?;
            }
        }
        Ok(spare)
    }
}

impl<D: Disk> Preparation<D> {
    /// Makes the file: 64 MiB of zeros, written and synced in steps.
    ///
    /// Errors: [`WalError::Io`], also when the disk is full: a warning, the log itself is unharmed.
    pub fn run(self) -> Result<Prepared<D>, WalError> {
        // Under a name of its own: the log may meanwhile make this segment itself.
        let path = self.directory.prepared_path(self.number);
        self.directory.make_file(&path, self.number, self.size, Fill::Zeroed).map(Prepared)
    }
}

impl<D: Disk> fmt::Debug for Prepared<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prepared(segment {})", self.0.number)
    }
}
