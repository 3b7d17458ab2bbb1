//! What the formats ask of a file system, and nothing more.
//!
//! Problem: the interesting states of a disk (a torn sector, a lost rename, a flipped bit, a failed
//! sync) hardly ever occur on a developer's machine. So the log and the checkpoints are written
//! against [`Disk`], and the same code runs on a [`RealDisk`] and on a [`MemoryDisk`] that can be
//! told to do each of these things; or on a [`Shadow`], to see what it would do to a directory.
//!
//! What a disk promises, and what may not be assumed:
//! * a write is durable only after [`DiskFile::sync`] of that file returned;
//! * a name (created, renamed, removed) is durable only after [`Disk::sync_dir`] of its directory;
//! * without these, a crash keeps any subset, and tears within a sector;
//! * after a failed sync nothing is known of what was written since the last good one
//!   (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).

mod memory;
mod real;
mod shadow;

pub use memory::{Fault, MemoryDisk, MemoryFile, MemoryLock};
pub use real::{RealDisk, RealFile, RealLock};
pub use shadow::Shadow;

use std::io;
use std::path::Path;

/// The unit in which writes reach a medium. Unit: bytes.
pub const SECTOR_BYTES: usize = 512;

/// How the space of a preallocated file comes to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fill {
    /// Reserved only: at once, but the first write of each block changes metadata.
    Reserved,
    /// Written with zeros and synced: slow, but a later sync of data there writes no metadata.
    Zeroed,
}

/// A place where files live.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Held while a directory is ours alone; dropping it gives the directory back.
    type Lock: Send + Sync + 'static;

    /// Makes a directory and those above it, durably. One that exists is left as it is.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Claims a directory. Errors: `WouldBlock` if somebody else holds it.
    fn lock(&self, dir: &Path) -> io::Result<Self::Lock>;

    /// The names of the files in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Makes a new, empty file. Errors: `AlreadyExists`.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file for reading and writing. Errors: `NotFound`.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Gives a file another name of the same directory, replacing what was there, atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names of a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// An open file. All methods take `&self`: offsets are explicit, there is no cursor.
pub trait DiskFile: Send + Sync + 'static {
    /// Reads at most `into.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Writes all the bytes, growing the file if needed.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the contents and the size durable.
    fn sync(&self) -> io::Result<()>;

    /// Unit: bytes.
    fn size(&self) -> io::Result<u64>;

    /// Grows the file to at least `size` bytes, the new ones being zero.
    fn preallocate(&self, size: u64, fill: Fill) -> io::Result<()>;

    /// Cuts the file to `size` bytes.
    fn truncate(&self, size: u64) -> io::Result<()>;

    /// What comes next is to be read from the medium, not from memory, as far as that can be had.
    fn forget_cached(&self) {}
}
