//! Disk, write-ahead log and checkpoints, with damage detected and named.
//!
//! | what | folder | promise |
//! |---|---|---|
//! | [`Disk`] | `disk/` | all that the formats ask of a file system; a real and an in-memory one |
//! | [`Wal`] | `wal/` | what was synced comes back in order, or is *named* as damaged |
//! | [`Checkpoints`] | `checkpoint/` | the newest whole one is found; a damaged one is named |
//!
//! The formats are written against [`Disk`], so the very same code runs on files and on a
//! [`MemoryDisk`] that loses power, tears sectors and rots. Byte tables: `FORMAT.md`.
//!
//! Nothing in here is `async` and nothing starts a thread: a caller decides where it blocks.

mod bytes_le;
mod checkpoint;
mod disk;
mod fault;
mod identity;
mod mutant;
mod wal;

pub use checkpoint::{
    CHUNK_BYTES_MAX, CheckpointError, CheckpointPart, Checkpoints, Incoming, METADATA_MAX,
    Manifest, NewestWhole, Reader, Writer,
};
pub use disk::{Disk, DiskFile, Fault, Fill, MemoryDisk, MemoryFile, MemoryLock, RealDisk, Shadow};
pub use disk::{RealFile, RealLock, SECTOR_BYTES};
pub use fault::IoFault;
pub use identity::LogIdentity;
pub use mutant::Mutant;
#[cfg(any(test, feature = "mutants"))]
pub use mutant::{Planted, with_mutant};
pub use wal::{
    Damage, FRAME_PAYLOAD_MAX, Flaw, FlawedPart, Place, Preparation, Prepared, Recovered, Recovery,
    STICKY_PAYLOAD_MAX, SegmentFound, TornTail, Wal, WalError, WalOptions, WalScrubber, Weight,
};
