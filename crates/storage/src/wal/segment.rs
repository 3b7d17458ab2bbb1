//! One file of the log: a header block of 4 KiB, then frames, then zeros.
//!
//! The header has a block of its own, so that one bad block takes the header or frames, not both.

use super::frame::FRAME_ALIGN_BYTES;
use crate::LogIdentity;
use crate::bytes_le::{put, u32_at, u64_at};
use quorate_core::Position;
use std::fmt;

/// What the log is written in. A newer one is refused, never guessed at.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Size of the header block: frames begin here. Unit: bytes.
pub(super) const SEGMENT_HEADER_BYTES: usize = 4096;

/// A file that claims to be longer is read up to here only. Unit: bytes.
pub(super) const SEGMENT_BYTES_MAX: u64 = 1 << 30;

const MAGIC: &[u8; 8] = b"quoratWL";
const CRC_AT: usize = SEGMENT_HEADER_BYTES - 4;
const SUFFIX: &str = ".wal";

/// A place in the log. Order: that of writing.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Place {
    /// Number of the segment, from 1.
    pub segment: u32,
    /// Where in its file. Unit: bytes.
    pub offset: u32,
}

/// What stands at the head of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SegmentHeader {
    pub(super) identity: LogIdentity,
    pub(super) segment: u32,
    /// Serial of the last record before this segment.
    pub(super) base_serial: u64,
    /// The last log entry before this segment.
    pub(super) base_position: Position,
}

/// What a header block turned out to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HeaderState {
    Intact(SegmentHeader),
    /// Intact, but written by a later version of this program.
    Newer {
        version: u32,
    },
    /// Not a header, or no longer.
    Bad,
}

impl Place {
    /// As one number; places keep their order.
    pub fn to_u64(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    /// The place that was packed.
    pub fn from_u64(packed: u64) -> Place {
        Place { segment: (packed >> 32) as u32, offset: packed as u32 }
    }

    /// The very beginning of a segment: before its header.
    pub(super) fn start_of(segment: u32) -> Place {
        Place { segment, offset: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} offset {}", self.segment, self.offset)
    }
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut block = [0; SEGMENT_HEADER_BYTES];
        put(&mut block, 0, MAGIC);
        put(&mut block, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut block, 12, &self.segment.to_le_bytes());
        put(&mut block, 16, &self.identity.encode());
        put(&mut block, 40, &self.base_serial.to_le_bytes());
        put(&mut block, 48, &self.base_position.term.0.to_le_bytes());
        put(&mut block, 56, &self.base_position.index.0.to_le_bytes());
        let crc = crc32c::crc32c(&block[..CRC_AT]);
        put(&mut block, CRC_AT, &crc.to_le_bytes());
        block
    }

    pub(super) fn decode(file: &[u8]) -> HeaderState {
        let Some(block) = file.get(..SEGMENT_HEADER_BYTES) else {
            return HeaderState::Bad;
        };
        // Magic, version and checksum keep their places in every version to come.
        if block[..8] != *MAGIC || u32_at(block, CRC_AT) != crc32c::crc32c(&block[..CRC_AT]) {
            return HeaderState::Bad;
        }
        let version = u32_at(block, 8);
        if version > FORMAT_VERSION {
            return HeaderState::Newer { version };
        }
        HeaderState::Intact(SegmentHeader {
            identity: LogIdentity::decode(block, 16),
            segment: u32_at(block, 12),
            base_serial: u64_at(block, 40),
            base_position: Position::new(u64_at(block, 48), u64_at(block, 56)),
        })
    }
}

/// What the checksums of a segment's frames are salted with.
pub(super) fn salt(identity: &LogIdentity, segment: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&identity.encode()), &segment.to_le_bytes())
}

pub(super) fn file_name(segment: u32) -> String {
    format!("{segment:010}{SUFFIX}")
}

/// The number of the segment of this name; none for a file that is none of ours.
pub(super) fn parse_name(name: &str) -> Option<u32> {
    let number: u32 = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (number > 0 && file_name(number) == name).then_some(number)
}

/// The length of a segment file that may be used: whole frames fit up to there. Unit: bytes.
pub(super) fn usable_bytes(file_size: u64) -> u32 {
    let size = file_size.min(SEGMENT_BYTES_MAX) as usize;
    (size - size % FRAME_ALIGN_BYTES) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };

    #[test]
    fn every_flipped_byte_of_a_header_is_seen() {
        let base_position = Position::new(3, 5);
        let header =
            SegmentHeader { identity: IDENTITY, segment: 7, base_serial: 99, base_position };
        let block = header.encode();
        assert_eq!(SegmentHeader::decode(&block), HeaderState::Intact(header));
        for at in 0..block.len() {
            let mut rotten = block;
            rotten[at] ^= 0x10;
            assert_eq!(SegmentHeader::decode(&rotten), HeaderState::Bad, "byte {at}");
        }
    }

    #[test]
    fn names_are_parsed_exactly() {
        assert_eq!(parse_name(&file_name(12)), Some(12));
        for name in ["0000000000.wal", "12.wal", "+000000012.wal", "0000000012.old", "LOCK"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn places_keep_their_order_when_packed() {
        let early = Place { segment: 1, offset: u32::MAX };
        let late = Place { segment: 2, offset: 0 };
        assert!(early < late && early.to_u64() < late.to_u64());
        assert_eq!(Place::from_u64(early.to_u64()), early);
    }
}
