//! Why a log cannot be used.

use crate::{IoFault, LogIdentity};
use std::fmt;
use std::path::PathBuf;

/// Why the log cannot be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum WalError {
    /// The directory holds the log of somebody else.
    ForeignLog {
        /// The segment.
        path: PathBuf,
        /// Whose it is.
        found: LogIdentity,
        /// Who asked.
        expected: LogIdentity,
    },
    /// The log was written by a later version of this program. Nothing was changed.
    NewerFormat {
        /// The segment.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The latest format that is understood here.
        supported: u32,
    },
    /// Another process, or another log of this one, has the directory.
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The directory cannot be written: owner, mode, or a read-only mount.
    NotWritable(IoFault),
    /// A file or the directory cannot be opened or listed. Unreadable *contents* are damage
    /// instead.
    Unreadable(IoFault),
    /// A write or a sync failed. The log is poisoned: stop the node, do not try again. Unless it
    /// [wants space](WalError::wants_space) only.
    Io(IoFault),
}

impl WalError {
    /// True if there was no room to write, so that nothing is in doubt: what was to be written is
    /// kept, and the same call can be made again when there is room. A sync that fails is never of
    /// this kind, whatever it says.
    pub fn wants_space(&self) -> bool {
        matches!(self, WalError::Io(fault) if fault.is_full() && fault.operation != "sync")
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalError::ForeignLog { path, found, expected } => write!(
                f,
                "{} belongs to {found}, not to {expected}: is this the right data directory?",
                path.display()
            ),
            WalError::NewerFormat { path, found, supported } => write!(
                f,
                "{} has format {found}; this version reads formats up to {supported}",
                path.display()
            ),
            WalError::Locked { path } => {
                write!(f, "{} is in use by another process", path.display())
            }
            WalError::NotWritable(fault) => write!(f, "not writable: {fault}"),
            WalError::Unreadable(fault) => write!(f, "not readable: {fault}"),
            WalError::Io(fault) => fault.fmt(f),
        }
    }
}

impl std::error::Error for WalError {}
