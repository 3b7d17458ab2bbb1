//! What the operating system said, in a form that can be kept and compared.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A failed call to the disk.
///
/// Unlike `std::io::Error` it can be cloned: a log that was poisoned by a failed sync answers every
/// later call with the same fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct IoFault {
    /// What was tried: "sync", "write", ...
    pub operation: &'static str,
    /// On which file or directory.
    pub path: PathBuf,
    /// The kind, for programs.
    pub kind: io::ErrorKind,
    /// The operating system's words, for people.
    pub message: String,
}

impl IoFault {
    pub(crate) fn new(operation: &'static str, path: &Path, error: &io::Error) -> IoFault {
        IoFault { operation, path: path.to_owned(), kind: error.kind(), message: error.to_string() }
    }

    /// True if there was no room: freeing space and restarting helps.
    pub fn is_full(&self) -> bool {
        matches!(self.kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// True if the place cannot be written by us: wrong owner or mode, or a read-only mount.
    pub fn is_not_writable(&self) -> bool {
        matches!(self.kind, io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
    }
}

impl fmt::Display for IoFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} failed: {}", self.operation, self.path.display(), self.message)
    }
}

impl std::error::Error for IoFault {}
