//! The bytes of a checkpoint: file header, blocks, footer; and the manifest beside it.

use crate::LogIdentity;
use crate::bytes_le::{put, u32_at, u64_at};
use bytes::Bytes;
use quorate_core::Position;

/// What checkpoints are written in. A newer one is refused, never guessed at.
pub(super) const FORMAT_VERSION: u32 = 1;

/// Payload of one block. Unit: bytes.
pub(super) const BLOCK_BYTES: usize = 256 << 10;

/// Length and checksum before a block's payload. Unit: bytes.
pub(super) const BLOCK_HEADER_BYTES: usize = 8;

/// Unit: bytes.
pub(super) const FILE_HEADER_BYTES: usize = 48;

/// Unit: bytes.
pub(super) const FOOTER_BYTES: usize = 32;

/// Metadata longer than this is refused by a panic. Unit: bytes.
pub const METADATA_MAX: usize = 1 << 20;

const FILE_MAGIC: &[u8; 8] = b"quoratCP";
const MANIFEST_MAGIC: &[u8; 8] = b"quoratMF";
const MANIFEST_FIXED_BYTES: usize = 72;
const CRC_BYTES: usize = 4;

/// What names a checkpoint, and what a receiver must know before the first byte.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// The last log entry that the checkpoint includes.
    pub position: Position,
    /// Size of the file. Unit: bytes.
    pub size: u64,
    /// CRC32C over the checksums of all blocks, in order.
    pub hash: u32,
    /// The caller's: the configuration of the cluster, say. At most [`METADATA_MAX`] bytes.
    pub metadata: Bytes,
}

/// Which part of a checkpoint is damaged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CheckpointPart {
    /// The manifest.
    Manifest,
    /// The whole file: the manifest is there, the file is not.
    File,
    /// The head of the file.
    Header,
    /// A block.
    Block {
        /// From 0.
        number: u64,
    },
    /// The end of the file: it is shorter or longer than it says, or of another hash.
    Footer,
}

/// Why bytes are no manifest or no file header of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    Damaged,
    Newer { version: u32 },
    Foreign { cluster: u64 },
}

/// How a file ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Footer {
    pub(super) blocks: u64,
    pub(super) payload_bytes: u64,
    pub(super) hash: u32,
}

/// The head of a file. It names the cluster, not the member: files travel between members.
pub(super) fn encode_file_header(cluster: u64, position: Position) -> [u8; FILE_HEADER_BYTES] {
    let mut bytes = [0; FILE_HEADER_BYTES];
    put(&mut bytes, 0, FILE_MAGIC);
    put(&mut bytes, 8, &FORMAT_VERSION.to_le_bytes());
    put(&mut bytes, 16, &cluster.to_le_bytes());
    put(&mut bytes, 24, &position.term.0.to_le_bytes());
    put(&mut bytes, 32, &position.index.0.to_le_bytes());
    seal(&mut bytes);
    bytes
}

pub(super) fn check_file_header(
    bytes: &[u8],
    cluster: u64,
    position: Position,
) -> Result<(), Refusal> {
    check_sealed(bytes, FILE_MAGIC, FILE_HEADER_BYTES)?;
    if u64_at(bytes, 16) != cluster {
        return Err(Refusal::Foreign { cluster: u64_at(bytes, 16) });
    }
    let found = Position::new(u64_at(bytes, 24), u64_at(bytes, 32));
    if found == position { Ok(()) } else { Err(Refusal::Damaged) }
}

/// The checksum of a block: salted with its file and its number, so that no block passes for
/// another.
pub(super) fn block_crc(salt: u32, number: u64, payload: &[u8]) -> u32 {
    let mut place = [0; 12];
    put(&mut place, 0, &number.to_le_bytes());
    put(&mut place, 8, &(payload.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(salt, &place), payload)
}

/// What the blocks of a file are salted with.
pub(super) fn salt(cluster: u64, position: Position) -> u32 {
    crc32c::crc32c(&encode_file_header(cluster, position))
}

pub(super) fn chain(hash: u32, block_crc: u32) -> u32 {
    crc32c::crc32c_append(hash, &block_crc.to_le_bytes())
}

impl Footer {
    /// A footer is where a block could be, with a length of zero.
    pub(super) fn encode(&self, salt: u32) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        put(&mut bytes, 8, &self.blocks.to_le_bytes());
        put(&mut bytes, 16, &self.payload_bytes.to_le_bytes());
        put(&mut bytes, 24, &self.hash.to_le_bytes());
        let crc = crc32c::crc32c_append(salt, &bytes[8..]);
        put(&mut bytes, 4, &crc.to_le_bytes());
        bytes
    }
}

impl Manifest {
    pub(super) fn encode(&self, identity: &LogIdentity) -> Vec<u8> {
        assert!(self.metadata.len() <= METADATA_MAX, "{} bytes of metadata", self.metadata.len());
        let mut bytes = vec![0; MANIFEST_FIXED_BYTES + self.metadata.len() + CRC_BYTES];
        put(&mut bytes, 0, MANIFEST_MAGIC);
        put(&mut bytes, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut bytes, 12, &(self.metadata.len() as u32).to_le_bytes());
        put(&mut bytes, 16, &identity.encode());
        put(&mut bytes, 40, &self.position.term.0.to_le_bytes());
        put(&mut bytes, 48, &self.position.index.0.to_le_bytes());
        put(&mut bytes, 56, &self.size.to_le_bytes());
        put(&mut bytes, 64, &self.hash.to_le_bytes());
        put(&mut bytes, MANIFEST_FIXED_BYTES, &self.metadata);
        seal(&mut bytes);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(LogIdentity, Manifest), Refusal> {
        check_sealed(bytes, MANIFEST_MAGIC, MANIFEST_FIXED_BYTES + CRC_BYTES)?;
        let metadata = &bytes[MANIFEST_FIXED_BYTES..bytes.len() - CRC_BYTES];
        if metadata.len() != u32_at(bytes, 12) as usize || metadata.len() > METADATA_MAX {
            return Err(Refusal::Damaged);
        }
        let manifest = Manifest {
            position: Position::new(u64_at(bytes, 40), u64_at(bytes, 48)),
            size: u64_at(bytes, 56),
            hash: u32_at(bytes, 64),
            metadata: Bytes::copy_from_slice(metadata),
        };
        Ok((LogIdentity::decode(bytes, 16), manifest))
    }
}

/// Magic, version and a checksum over all at the end keep their places in every version to come.
fn check_sealed(bytes: &[u8], magic: &[u8; 8], bytes_min: usize) -> Result<(), Refusal> {
    if bytes.len() < bytes_min || bytes[..8] != *magic {
        return Err(Refusal::Damaged);
    }
    let (covered, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
    if u32_at(crc, 0) != crc32c::crc32c(covered) {
        return Err(Refusal::Damaged);
    }
    match u32_at(bytes, 8) {
        version if version > FORMAT_VERSION => Err(Refusal::Newer { version }),
        _ => Ok(()),
    }
}

fn seal(bytes: &mut [u8]) {
    let end = bytes.len() - CRC_BYTES;
    let crc = crc32c::crc32c(&bytes[..end]);
    put(bytes, end, &crc.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };

    #[test]
    fn every_flipped_byte_of_a_manifest_is_seen() {
        let metadata = Bytes::from_static(b"members: a b c");
        let manifest = Manifest { position: Position::new(2, 40), size: 1234, hash: 99, metadata };
        let bytes = manifest.encode(&IDENTITY);
        assert_eq!(Manifest::decode(&bytes), Ok((IDENTITY, manifest)));
        for at in 0..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[at] ^= 1;
            assert_eq!(Manifest::decode(&rotten), Err(Refusal::Damaged), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_manifests_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Manifest::decode(&bytes), Err(Refusal::Damaged));
        }
    }
}
