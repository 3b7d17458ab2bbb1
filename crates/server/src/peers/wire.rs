//! Frames between members: length, checksum, kind, payload.
//!
//! ```text
//!   0        4        8    9      12
//!   +--------+--------+----+------+-----------------+
//!   | length | crc32c |kind| zero | payload         |   all little-endian
//!   +--------+--------+----+------+-----------------+
//! ```
//!
//! The checksum covers kind and payload. A frame that fails it ends the connection: TCP delivers
//! in order, so nothing after a bad byte can be trusted, and the sender will simply connect again.

use bytes::{Buf, Bytes, BytesMut};

/// Bytes before every payload.
pub(super) const HEADER_BYTES: usize = 12;
/// The longest payload that is accepted; a longer one ends the connection.
pub(super) const PAYLOAD_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What a frame carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Who is calling.
    Hello = 1,
    /// The call is taken.
    Welcome = 2,
    /// The call is refused; the payload says why.
    Refused = 3,
    /// A message of a replica.
    Message = 4,
    /// A checkpoint is offered.
    Offer = 5,
    /// From which byte the offered checkpoint is wanted.
    Resume = 6,
    /// A piece of a checkpoint.
    Chunk = 7,
    /// The checkpoint is complete, checked and on disk.
    Stored = 8,
    /// A question about the time, or its answer.
    Time = 9,
    /// The sender stops in order: its silence from now on need not be waited for.
    Goodbye = 10,
    /// A newcomer asks for its id.
    Join = 11,
    /// It is told.
    Joined = 12,
    /// The call is refused because the caller was removed from the cluster; the payload says so.
    Removed = 13,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Kind> {
        use Kind::{Chunk, Goodbye, Hello, Message, Offer, Refused, Resume, Stored, Time, Welcome};
        use Kind::{Join, Joined, Removed};
        let all = [
            Hello, Welcome, Refused, Message, Offer, Resume, Chunk, Stored, Time, Goodbye, Join,
            Joined, Removed,
        ];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// Why bytes on a peer connection are no frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum BadFrame {
    /// The length is beyond what is accepted.
    TooLong {
        /// The length it claims.
        bytes: usize,
    },
    /// The checksum does not match: the bytes were altered, or this is no quorate member.
    Checksum,
    /// The kind is unknown here.
    UnknownKind {
        /// The kind it claims.
        kind: u8,
    },
    /// The reserved bytes are not zero.
    Reserved,
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            BadFrame::TooLong { bytes } => {
                write!(f, "a frame of {bytes} bytes; at most {PAYLOAD_BYTES_MAX} are accepted")
            }
            BadFrame::Checksum => f.write_str("a frame whose checksum does not match"),
            BadFrame::UnknownKind { kind } => write!(f, "a frame of unknown kind {kind}"),
            BadFrame::Reserved => f.write_str("a frame whose reserved bytes are not zero"),
        }
    }
}

impl std::error::Error for BadFrame {}

/// Appends a frame whose payload is written by `payload`, without a copy in between.
pub(super) fn push_frame(out: &mut Vec<u8>, kind: Kind, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    payload(out);
    let length = out.len() - start - HEADER_BYTES;
    assert!(length <= PAYLOAD_BYTES_MAX, "admission bounds every message, this has {length} bytes");
    let crc = checksum(kind as u8, &out[start + HEADER_BYTES..]);
    out[start..start + 4].copy_from_slice(&(length as u32).to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    out[start + 8] = kind as u8;
}

/// Splits the next frame off `buffer`. None: more bytes are needed. The payload shares the buffer.
pub(super) fn split_frame(buffer: &mut BytesMut) -> Result<Option<(Kind, Bytes)>, BadFrame> {
    if buffer.len() < HEADER_BYTES {
        return Ok(None);
    }
    let mut header = &buffer[..HEADER_BYTES];
    let length = header.get_u32_le() as usize;
    let crc = header.get_u32_le();
    let kind = header.get_u8();
    if header.iter().any(|byte| *byte != 0) {
        return Err(BadFrame::Reserved);
    }
    if length > PAYLOAD_BYTES_MAX {
        return Err(BadFrame::TooLong { bytes: length });
    }
    let Some(known) = Kind::from_byte(kind) else { return Err(BadFrame::UnknownKind { kind }) };
    if buffer.len() < HEADER_BYTES + length {
        buffer.reserve(HEADER_BYTES + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    let payload = buffer.split_to(length).freeze();
    if checksum(kind, &payload) != crc {
        return Err(BadFrame::Checksum);
    }
    Ok(Some((known, payload)))
}

fn checksum(kind: u8, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&[kind]), payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        push_frame(&mut out, Kind::Message, |out| out.extend_from_slice(payload));
        out
    }

    #[test]
    fn frames_survive_any_split_of_the_stream() {
        let mut stream = framed(b"one");
        stream.extend(framed(b""));
        stream.extend(framed(&[7; 5_000]));
        for piece in [1, 2, 3, 11, 12, 13, 4_096, 10_000] {
            let mut buffer = BytesMut::new();
            let mut lengths = Vec::new();
            for bytes in stream.chunks(piece) {
                buffer.extend_from_slice(bytes);
                while let Some((kind, payload)) = split_frame(&mut buffer).expect("good frames") {
                    assert_eq!(kind, Kind::Message);
                    lengths.push(payload.len());
                }
            }
            assert_eq!(lengths, [3, 0, 5_000], "in pieces of {piece}");
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = framed(b"payload");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let mut buffer = BytesMut::from(&bad[..]);
            // A longer length waits for bytes that never come; the checksum would fail then.
            let outcome = split_frame(&mut buffer);
            assert!(!matches!(outcome, Ok(Some(_))), "bit {bit} went unnoticed");
        }
    }

    #[test]
    fn an_absurd_length_is_refused_before_memory_is_taken() {
        let mut buffer = BytesMut::from(&[0xff; HEADER_BYTES - 3][..]);
        buffer.extend_from_slice(&[0; 3]);
        assert!(matches!(split_frame(&mut buffer), Err(BadFrame::TooLong { .. })));
    }
}
