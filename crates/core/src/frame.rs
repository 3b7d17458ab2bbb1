//! How a record looks to the storage layer: an identity that can outlive a damaged payload.

use crate::Position;
use bytes::Bytes;

/// A record on its way to or from stable storage.
///
/// The identity (`kind`, `position`) is checked apart from the payload, so that a damaged entry can
/// still be *named* and fetched from a peer instead of ending the log.
/// Source: Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Which record of its protocol this is. Range: 0 is reserved for the storage layer itself.
    pub kind: u8,
    /// The log position for a log entry; [`Position::ZERO`] for any other record.
    pub position: Position,
    /// The encoded rest. Shared, never copied: the same bytes go to disk, to peers and to apply.
    pub payload: Bytes,
}

/// A frame that no record of this protocol encodes to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadFrame {
    /// What is wrong with it.
    pub reason: &'static str,
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for BadFrame {}

/// A record that can be written to and read back from stable storage.
pub trait Persist: Sized {
    /// The frame to write. `from_frame(to_frame(r))` is `r`.
    fn to_frame(&self) -> Frame;

    /// The record that was written as `frame`.
    ///
    /// Errors: the frame passed its checksum but is no record of ours, so it was written by
    /// something else (another version, another program).
    fn from_frame(frame: Frame) -> Result<Self, BadFrame>;

    /// A hint whose loss is harmless: it never needs a sync of its own.
    fn is_hint(&self) -> bool {
        false
    }
}
