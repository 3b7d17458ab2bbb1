//! What a value says of itself, so that an answer can be judged by what it contains.
//!
//! ```text
//! offset  size  field        all numbers big-endian
//!      0     4  checksum     CRC-32C of everything that follows, to the end of the value
//!      4     4  writer       who wrote it; 1 and up
//!      8     8  run          which run of this program; chosen at random
//!     16     8  key          number of the key it was written to
//!     24     8  sequence     counts the writes of this writer; 1 and up
//!     32     8  counter      compare-and-swaps of this key before and with this write
//!     40     8  sent_at      nanoseconds from the beginning of the run to the write
//!     48     -  filling
//! ```
//!
//! The checksum serves as the value's identity, too: two writes of one run differ in writer or
//! sequence, hence (but for one chance in four thousand million) in their checksum.

use bytes::{Bytes, BytesMut};

/// Bytes of the fields; no value is smaller.
pub(super) const STAMP_BYTES: usize = 48;

/// The fields of a value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Stamp {
    /// Who wrote it.
    pub(super) writer: u32,
    /// Which run of this program.
    pub(super) run: u64,
    /// Number of the key it was written to.
    pub(super) key: u64,
    /// Counts the writes of this writer.
    pub(super) sequence: u64,
    /// Counts the compare-and-swaps of this key.
    pub(super) counter: u64,
    /// When it was sent. Unit: nanoseconds since the run began.
    pub(super) sent_at: u64,
}

/// Why bytes are no value of this program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Damage {
    /// Too short for the fields.
    Short { bytes: usize },
    /// The checksum is that of other bytes.
    Checksum { carried: u32, computed: u32 },
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Damage::Short { bytes } => write!(f, "a value of {bytes} bytes, too short to be ours"),
            Damage::Checksum { carried, computed } => {
                write!(f, "a value that says checksum {carried:08x} and has {computed:08x}")
            }
        }
    }
}

impl Stamp {
    /// A value of at least [`STAMP_BYTES`], with its checksum.
    pub(super) fn encode(&self, filling: &[u8]) -> (Bytes, u32) {
        let mut value = BytesMut::with_capacity(STAMP_BYTES + filling.len());
        value.extend_from_slice(&[0; 4]);
        value.extend_from_slice(&self.writer.to_be_bytes());
        for field in [self.run, self.key, self.sequence, self.counter, self.sent_at] {
            value.extend_from_slice(&field.to_be_bytes());
        }
        value.extend_from_slice(filling);
        let checksum = crc32c::crc32c(&value[4..]);
        value[..4].copy_from_slice(&checksum.to_be_bytes());
        (value.freeze(), checksum)
    }

    /// The fields and the checksum of a value.
    ///
    /// Errors: these bytes were not made by [`Stamp::encode`], or are not whole.
    pub(super) fn decode(value: &[u8]) -> Result<(Stamp, u32), Damage> {
        let Some((head, _)) = value.split_first_chunk::<STAMP_BYTES>() else {
            return Err(Damage::Short { bytes: value.len() });
        };
        let word = |at: usize| {
            let bytes = head[at..at + 8].try_into().expect("eight bytes of a longer head");
            u64::from_be_bytes(bytes)
        };
        let carried = (word(0) >> 32) as u32;
        let computed = crc32c::crc32c(&value[4..]);
        if carried != computed {
            return Err(Damage::Checksum { carried, computed });
        }
        let stamp = Stamp {
            writer: word(0) as u32,
            run: word(8),
            key: word(16),
            sequence: word(24),
            counter: word(32),
            sent_at: word(40),
        };
        Ok((stamp, computed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let stamp = Stamp { writer: 7, run: 1 << 60, key: 3, sequence: 9, counter: 2, sent_at: 5 };
        let (value, checksum) = stamp.encode(b"filling");
        assert_eq!(Stamp::decode(&value), Ok((stamp, checksum)));
        for bit in 0..value.len() * 8 {
            let mut damaged = value.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Stamp::decode(&damaged), Err(Damage::Checksum { .. })), "{bit}");
        }
        assert_eq!(Stamp::decode(&value[..47]), Err(Damage::Short { bytes: 47 }));
    }
}
