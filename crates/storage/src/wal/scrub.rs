//! Whether the segments of a log that is in use are still what was written.
//!
//! What was synced is never written again, so another thread can read it beside the log: all of
//! the segments before the current one, and of that as much as is synced. The frames are found by
//! the very cursor that recovery uses. What is damaged has a name here for operators; how it is
//! made good is decided above (see `seal` and `release` of [`super::Wal`]).
//!
//! | what | noticed by |
//! |---|---|
//! | a header of a segment, a frame, its payload | its checksum |
//! | bytes after the last frame of a segment | they are not zero |
//! | frames that are gone from the end of a segment | the next header counts more records |
//! | a whole segment that is gone | its number |
//!
//! Bound: one segment in memory at a time.

use super::directory::{Directory, Loaded};
use super::frame::Piece;
use super::segment::{HeaderState, Place, SEGMENT_HEADER_BYTES, SegmentHeader, usable_bytes};
use super::survey::cursor;
use super::{Wal, WalError};
use crate::bytes_le::without_zero_tail;
use crate::mutant::{Mutant, planted};
use crate::{Disk, DiskFile};
use quorate_core::{Index, Position};
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Read between two calls of `pace`. Unit: bytes.
const STEP_BYTES: usize = 256 << 10;

/// Looks at the segments of a log beside the one that writes it. Made by [`Wal::scrubber`].
#[derive(Clone, Debug)]
pub struct WalScrubber<D: Disk> {
    directory: Directory<D>,
}

/// One segment, as it was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SegmentFound {
    /// Its number.
    pub number: u32,
    /// So much of it was looked at. Unit: bytes.
    pub bytes: u64,
    /// The greatest index of an entry in it, as far as that is readable.
    pub index_max: Index,
    /// Records up to the end of the segment before, by its header. None: that is damaged.
    pub serials_before: Option<u64>,
    /// The last record in it; none if it holds none.
    pub last_serial: Option<u64>,
    /// What is damaged, in order.
    pub flaws: Vec<Flaw>,
}

/// A damaged place of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Flaw {
    /// Where it begins.
    pub place: Place,
    /// What lay there.
    pub part: FlawedPart,
}

/// What is damaged of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FlawedPart {
    /// The header of the segment.
    Header,
    /// The payload of the frame with this kind and position.
    Payload {
        /// Of the record.
        kind: u8,
        /// Of the log entry; [`Position::ZERO`] for another record.
        position: Position,
    },
    /// Bytes up to this offset, in which no frame is found. Unit: bytes.
    Bytes {
        /// Where the next frame begins, or the data ends.
        end: u32,
    },
    /// So many records at the end of the segment are not there.
    Missing {
        /// How many.
        records: u64,
    },
    /// The file is not there.
    File,
}

impl<D: Disk> Wal<D> {
    /// Who looks at the segments of this log while it is written.
    pub fn scrubber(&self) -> WalScrubber<D> {
        WalScrubber { directory: self.directory.clone() }
    }
}

impl<D: Disk> WalScrubber<D> {
    /// The numbers of the segments there are, in order; one that is made ahead is among them.
    ///
    /// Errors: the directory cannot be read.
    pub fn segments(&self) -> Result<Vec<u32>, WalError> {
        self.directory.numbers()
    }

    /// The file of a segment.
    pub fn path_of(&self, number: u32) -> PathBuf {
        self.directory.path_of(number)
    }

    /// Looks at one segment, up to `synced` if it lies in it. None if it was released meanwhile.
    /// `pace` is told of each step how many bytes it will read, and may take its time.
    ///
    /// Errors: the file cannot be opened.
    pub fn look(
        &self,
        number: u32,
        synced: Place,
        pace: &mut dyn FnMut(u64),
    ) -> Result<Option<SegmentFound>, WalError> {
        let upto = if synced.segment == number { synced.offset } else { u32::MAX };
        let Some(loaded) = self.load(number, upto, pace)? else { return Ok(None) };
        let mut found = SegmentFound {
            number,
            bytes: loaded.bytes.len() as u64,
            index_max: Index(0),
            serials_before: loaded.header.map(|header| header.base_serial),
            last_serial: None,
            flaws: Vec::new(),
        };
        if loaded.header.is_none() {
            found.flaw(Place::start_of(number), FlawedPart::Header);
        }
        if planted(Mutant::ScrubReadsHeaders) {
            found.serials_before = None;
            return Ok(Some(found));
        }
        for piece in cursor(&loaded, &self.directory, u32::MAX) {
            found.piece(&piece);
        }
        Ok(Some(found))
    }

    fn load(
        &self,
        number: u32,
        upto: u32,
        pace: &mut dyn FnMut(u64),
    ) -> Result<Option<Loaded>, WalError> {
        let path = self.directory.path_of(number);
        let fault = |error: &io::Error| self.directory.fault("open", &path, error);
        let file = match self.directory.disk.open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(&error)),
        };
        let size = file.size().map_err(|error| fault(&error))?;
        // What lies in memory says nothing of the medium.
        file.forget_cached();
        let mut bytes = vec![0; usable_bytes(size).min(upto) as usize];
        for (step, part) in bytes.chunks_mut(STEP_BYTES).enumerate() {
            pace(part.len() as u64);
            super::directory::read_what_can_be_read(&file, (step * STEP_BYTES) as u64, part);
        }
        let header = match SegmentHeader::decode(&bytes) {
            HeaderState::Intact(header)
                if header.segment == number && header.identity == self.directory.identity =>
            {
                Some(header)
            }
            _ => None,
        };
        let data_end = without_zero_tail(&bytes);
        Ok(Some(Loaded { number, bytes, data_end, header }))
    }
}

impl SegmentFound {
    fn flaw(&mut self, place: Place, part: FlawedPart) {
        self.flaws.push(Flaw { place, part });
    }

    fn piece(&mut self, piece: &Piece<'_>) {
        match *piece {
            Piece::Frame { at, header, payload } => {
                if header.is_content() {
                    self.index_max = self.index_max.max(header.position.index);
                }
                if !header.is_head() {
                    self.last_serial = self.last_serial.max(Some(header.serial));
                }
                if payload.is_none() {
                    let place = Place { segment: self.number, offset: at };
                    let (kind, position) = (header.kind, header.position);
                    self.flaw(place, FlawedPart::Payload { kind, position });
                }
            }
            Piece::Bad { at, end } => {
                let place = Place { segment: self.number, offset: at };
                self.flaw(place, FlawedPart::Bytes { end });
            }
        }
    }

    /// Compares with the segment after it: records that are gone from the end of this one.
    pub fn miss_records(&mut self, next: &SegmentFound) {
        let (Some(counted), true) = (next.serials_before, next.number == self.number + 1) else {
            return;
        };
        let have = self.last_serial.or(self.serials_before);
        // A damaged place says so already.
        if let Some(have) = have.filter(|have| *have < counted && self.flaws.is_empty()) {
            let offset = self.bytes.min(u64::from(u32::MAX)) as u32;
            let place = Place { segment: self.number, offset };
            self.flaw(place, FlawedPart::Missing { records: counted - have });
        }
    }

    /// A segment that ought to be there.
    pub fn gone(number: u32) -> SegmentFound {
        let flaw = Flaw { place: Place::start_of(number), part: FlawedPart::File };
        SegmentFound {
            number,
            bytes: 0,
            index_max: Index(0),
            serials_before: None,
            last_serial: None,
            flaws: vec![flaw],
        }
    }
}

impl fmt::Display for FlawedPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FlawedPart::Header => {
                write!(f, "the header of the segment ({SEGMENT_HEADER_BYTES} bytes)")
            }
            FlawedPart::Payload { position, .. } if position.index > Index(0) => {
                write!(f, "the entry at {position}")
            }
            FlawedPart::Payload { kind, .. } => write!(f, "a record of kind {kind}"),
            FlawedPart::Bytes { end } => write!(f, "no frame up to byte {end}"),
            FlawedPart::Missing { records } => write!(f, "{records} records are gone from its end"),
            FlawedPart::File => f.write_str("the file is gone"),
        }
    }
}

#[cfg(test)]
mod tests;
