//! One frame of the log: 48 bytes of header, the payload, zeros up to a multiple of 8.
//!
//! ```text
//!  0      2     3      4       8      16      24       32       40        44       48
//!  | magic | kind | flags | length | term | index | serial | synced | payload | header | payload..
//!  |       |      |       |        |      |       |        |        |   CRC   |   CRC  |
//! ```
//!
//! * The header has a checksum of its own, so that a frame with a bad payload is still *named*.
//! * That checksum is salted with the identity of the log and the place of the frame. A frame that
//!   the disk put elsewhere, and bytes of a payload that look like a frame, are no frames.
//! * `serial` counts the records of the log, so that after a hole the number of lost ones is known.
//! * `synced` says up to where the log was durable when this frame was made: the proof that damage
//!   before that place is corruption and not an interrupted write.

use super::segment::Place;
use crate::bytes_le::{put, u16_at, u32_at, u64_at};
use crate::mutant::{Mutant, planted};
use quorate_core::Position;

/// Size of the header. Unit: bytes.
pub(super) const FRAME_HEADER_BYTES: usize = 48;

/// Frames begin at multiples of this. Unit: bytes.
pub(super) const FRAME_ALIGN_BYTES: usize = 8;

/// A larger payload is refused by a panic. Unit: bytes.
pub const FRAME_PAYLOAD_MAX: usize = 64 << 20;

/// The kind of the storage layer's own frames: a mark if empty, a filler otherwise.
pub(super) const KIND_OWN: u8 = 0;

/// Set in a frame that repeats a record which was written before.
pub(super) const FLAG_COPY: u8 = 1;

/// Set besides in a copy at the head of a segment.
pub(super) const FLAG_HEAD: u8 = 2;

const MAGIC: u16 = 0x5157;

/// Everything about a frame but its payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) length: u32,
    pub(super) position: Position,
    pub(super) serial: u64,
    pub(super) synced: Place,
    pub(super) payload_crc: u32,
}

/// What a cursor finds next in a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Piece<'a> {
    /// A frame whose header is intact; the payload is none if its checksum is wrong.
    Frame { at: u32, header: Header, payload: Option<&'a [u8]> },
    /// Bytes up to `end` that belong to no frame whose header is intact.
    Bad { at: u32, end: u32 },
}

/// Walks over the frames of one segment and past what is damaged.
pub(super) struct Cursor<'a> {
    segment: &'a [u8],
    salt: u32,
    at: usize,
    end: usize,
    data_end: usize,
}

impl Header {
    pub(super) fn is_copy(&self) -> bool {
        self.flags & FLAG_COPY != 0
    }

    pub(super) fn is_head(&self) -> bool {
        self.flags & FLAG_HEAD != 0
    }

    /// True for a record that the caller wrote, when it was first written.
    pub(super) fn is_content(&self) -> bool {
        self.kind != KIND_OWN && !self.is_copy()
    }

    /// True for a copy that makes the loss of its original good. The head of a segment repeats log
    /// entries far from their place in the log, which only helps if that place was released.
    pub(super) fn is_healing(&self) -> bool {
        self.is_copy() && (!self.is_head() || self.position == Position::ZERO)
    }

    fn decode(bytes: &[u8], salt: u32, at: u32) -> Option<Header> {
        if bytes.len() < FRAME_HEADER_BYTES || u16_at(bytes, 0) != MAGIC {
            return None;
        }
        if u32_at(bytes, 44) != header_crc(&bytes[..44], salt, at) {
            return None;
        }
        let header = Header {
            kind: bytes[2],
            flags: bytes[3],
            length: u32_at(bytes, 4),
            position: Position::new(u64_at(bytes, 8), u64_at(bytes, 16)),
            serial: u64_at(bytes, 24),
            synced: Place::from_u64(u64_at(bytes, 32)),
            payload_crc: u32_at(bytes, 40),
        };
        let fits = frame_bytes(header.length as usize) <= bytes.len();
        (fits && header.flags & !(FLAG_COPY | FLAG_HEAD) == 0).then_some(header)
    }
}

/// The space that a payload of this length takes with all that belongs to it. Unit: bytes.
pub(super) fn frame_bytes(payload_len: usize) -> usize {
    FRAME_HEADER_BYTES + payload_len.next_multiple_of(FRAME_ALIGN_BYTES)
}

/// Appends a frame that will lie at `at` in its segment. The checksum of the payload in `header`
/// is ignored: it is computed here.
pub(super) fn encode(out: &mut Vec<u8>, salt: u32, at: u32, header: &Header, payload: &[u8]) {
    assert_eq!(header.length as usize, payload.len(), "a length that lies");
    assert_eq!(at as usize % FRAME_ALIGN_BYTES, 0, "a frame at {at} is not aligned");
    let start = out.len();
    let mut bytes = [0; FRAME_HEADER_BYTES];
    put(&mut bytes, 0, &MAGIC.to_le_bytes());
    bytes[2] = header.kind;
    bytes[3] = header.flags;
    put(&mut bytes, 4, &header.length.to_le_bytes());
    put(&mut bytes, 8, &header.position.term.0.to_le_bytes());
    put(&mut bytes, 16, &header.position.index.0.to_le_bytes());
    put(&mut bytes, 24, &header.serial.to_le_bytes());
    put(&mut bytes, 32, &header.synced.to_u64().to_le_bytes());
    let padding = payload.len().next_multiple_of(FRAME_ALIGN_BYTES) - payload.len();
    let zeros = &[0; FRAME_ALIGN_BYTES][..padding];
    // The padding is covered too: no byte of a frame can change unnoticed.
    let payload_crc = crc32c::crc32c_append(crc32c::crc32c(payload), zeros);
    put(&mut bytes, 40, &payload_crc.to_le_bytes());
    let crc = header_crc(&bytes[..44], salt, at);
    put(&mut bytes, 44, &crc.to_le_bytes());
    out.extend_from_slice(&bytes);
    out.extend_from_slice(payload);
    out.extend_from_slice(zeros);
    assert_eq!(out.len() - start, frame_bytes(payload.len()), "a frame of the wrong size");
}

fn header_crc(bytes: &[u8], salt: u32, at: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &at.to_le_bytes()), bytes)
}

impl<'a> Cursor<'a> {
    /// Reads the frames of `segment` that lie in `from..to`; zeros follow from `data_end` on.
    pub(super) fn new(
        segment: &'a [u8],
        salt: u32,
        from: u32,
        to: u32,
        data_end: usize,
    ) -> Cursor<'a> {
        let end = segment.len().min(to as usize);
        Cursor { segment, salt, at: from as usize, end, data_end: data_end.min(end) }
    }

    /// Where the next piece would begin. After the last one: the end of the log in this segment.
    pub(super) fn at(&self) -> u32 {
        self.at as u32
    }

    fn header_at(&self, at: usize) -> Option<Header> {
        Header::decode(&self.segment[at..self.end], self.salt, at as u32)
    }

    /// Damage has no length: the next frame is found by trying every aligned place.
    fn resynchronise(&mut self) -> Piece<'a> {
        let at = self.at as u32;
        self.at += FRAME_ALIGN_BYTES;
        while self.at < self.data_end && self.header_at(self.at).is_none() {
            self.at += FRAME_ALIGN_BYTES;
        }
        self.at = self.at.min(self.end);
        Piece::Bad { at, end: self.at as u32 }
    }
}

impl<'a> Iterator for Cursor<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        if self.at >= self.data_end {
            return None;
        }
        let Some(header) = self.header_at(self.at) else {
            return Some(self.resynchronise());
        };
        let at = self.at as u32;
        let body = self.at + FRAME_HEADER_BYTES;
        self.at += frame_bytes(header.length as usize);
        let good = crc32c::crc32c(&self.segment[body..self.at]) == header.payload_crc
            || planted(Mutant::AcceptBadPayload);
        let payload = &self.segment[body..body + header.length as usize];
        Some(Piece::Frame { at, header, payload: good.then_some(payload) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes_le::without_zero_tail;
    use proptest::prelude::*;

    const SALT: u32 = 77;

    fn header(kind: u8, payload: &[u8]) -> Header {
        Header {
            kind,
            flags: 0,
            length: payload.len() as u32,
            position: Position::new(3, 9),
            serial: 12,
            synced: Place { segment: 1, offset: 4096 },
            payload_crc: 0,
        }
    }

    fn whole(bytes: &[u8]) -> Cursor<'_> {
        Cursor::new(bytes, SALT, 0, u32::MAX, without_zero_tail(bytes))
    }

    #[test]
    fn a_frame_comes_back_as_it_was_encoded() {
        for len in 0..40 {
            let payload = vec![7; len];
            let mut bytes = Vec::new();
            encode(&mut bytes, SALT, 0, &header(5, &payload), &payload);
            let mut cursor = whole(&bytes);
            let Some(Piece::Frame { at: 0, header: found, payload: Some(back) }) = cursor.next()
            else {
                panic!("a frame of {len} bytes was not found");
            };
            assert_eq!(back, payload);
            assert_eq!(Header { payload_crc: 0, ..found }, header(5, &payload));
            assert_eq!(cursor.next(), None);
            assert_eq!(cursor.at() as usize, bytes.len());
        }
    }

    #[test]
    fn a_frame_at_another_place_or_of_another_log_is_no_frame() {
        let mut bytes = Vec::new();
        encode(&mut bytes, SALT, 0, &header(5, b"x"), b"x");
        assert!(Header::decode(&bytes, SALT, 0).is_some());
        assert!(Header::decode(&bytes, SALT, 8).is_none());
        assert!(Header::decode(&bytes, SALT + 1, 0).is_none());
    }

    #[test]
    fn every_flipped_bit_is_seen_and_the_next_frame_is_found() {
        let mut bytes = Vec::new();
        encode(&mut bytes, SALT, 0, &header(5, b"first frame"), b"first frame");
        let second = bytes.len();
        encode(&mut bytes, SALT, second as u32, &header(6, b"second"), b"second");
        for bit in 0..second * 8 {
            let mut rotten = bytes.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            let pieces: Vec<_> = whole(&rotten).collect();
            match pieces[0] {
                Piece::Frame { payload, .. } => assert!(payload.is_none(), "bit {bit} unseen"),
                Piece::Bad { at, end } => assert_eq!((at, end as usize), (0, second)),
            }
            let next = pieces.last().expect("two pieces");
            assert!(matches!(next, Piece::Frame { payload: Some(b"second"), .. }));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2_000)) {
            let mut covered = 0;
            for piece in whole(&bytes) {
                if let Piece::Bad { at, end } = piece {
                    prop_assert_eq!(at, covered);
                    covered = end;
                }
            }
        }
    }
}
