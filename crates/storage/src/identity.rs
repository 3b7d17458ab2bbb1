//! Whose data this is.

use crate::bytes_le::{put, u64_at};
use std::fmt;

/// Whose log or checkpoint this is. Written into every file, so that a directory that was copied
/// or mounted into the wrong place is refused instead of being believed.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct LogIdentity {
    /// The cluster.
    pub cluster: u64,
    /// The member of the cluster.
    pub member: u64,
    /// This incarnation of the member's data; a wiped member comes back with another one.
    pub data: u64,
}

impl LogIdentity {
    /// Size of the encoded form. Unit: bytes.
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        put(&mut bytes, 0, &self.cluster.to_le_bytes());
        put(&mut bytes, 8, &self.member.to_le_bytes());
        put(&mut bytes, 16, &self.data.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(block: &[u8], at: usize) -> LogIdentity {
        LogIdentity {
            cluster: u64_at(block, at),
            member: u64_at(block, at + 8),
            data: u64_at(block, at + 16),
        }
    }
}

impl fmt::Display for LogIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {:x}, member {:x}, data {:x}", self.cluster, self.member, self.data)
    }
}
