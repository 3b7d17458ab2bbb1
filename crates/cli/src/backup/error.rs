//! What can go wrong with copies, in words that say what to do.

use super::shelf::ShelfError;
use crate::client::EndpointsError;
use crate::login::LoginError;
use crate::serve::UsageError;
use quorate_server::rebirth::RebirthError;
use quorate_server::saved::SavedError;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a command has not done what it was to do.
#[derive(Debug)]
pub(crate) enum BackupError {
    /// `--endpoints` names nobody.
    Endpoints(EndpointsError),
    /// The password cannot be read.
    Login(LoginError),
    /// Nobody answers.
    Unreachable { tried: Vec<(String, String)> },
    /// Somebody answers, and refuses.
    Refused { what: &'static str, message: String },
    /// The file is there already.
    Exists { file: PathBuf },
    /// The file system refuses.
    File { file: PathBuf, error: io::Error },
    /// The file is no good.
    Saved(SavedError),
    /// The flags describe no member.
    Seat(UsageError),
    /// No directory was made.
    Rebirth(RebirthError),
    /// Where the backup lies does not do what it should.
    Shelf(ShelfError),
    /// An object of a backup is not as it was written.
    Object { name: String, why: String },
    /// What was copied is not what is there.
    Differs { told: String },
    /// Words that contradict each other, or where one is missing.
    Usage(String),
}

impl BackupError {
    /// 1: what was looked at is not as it should be. 2: nothing was done.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            BackupError::Saved(SavedError::Digest { .. }) | BackupError::Differs { .. } => 1,
            _ => crate::EXIT_USAGE,
        }
    }
}

impl BackupError {
    /// A file or an object is not as it was written.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, BackupError::Saved(_) | BackupError::Object { .. })
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Endpoints(error) => write!(f, "--endpoints: {error}"),
            BackupError::Login(error) => error.fmt(f),
            BackupError::Unreachable { tried } => {
                f.write_str("no endpoint could be reached:")?;
                for (endpoint, error) in tried {
                    write!(f, " {endpoint} ({error})")?;
                }
                f.write_str("; name one with --endpoints")
            }
            BackupError::Refused { what, message } => write!(f, "{what}: {message}"),
            BackupError::Exists { file } => write!(
                f,
                "{} is there already, and a copy is never written over: give another name",
                file.display()
            ),
            BackupError::File { file, error } => write!(f, "{}: {error}", file.display()),
            BackupError::Saved(error) => error.fmt(f),
            BackupError::Seat(error) => error.fmt(f),
            BackupError::Rebirth(error) => error.fmt(f),
            BackupError::Shelf(error) => error.fmt(f),
            BackupError::Object { name, why } => write!(
                f,
                "{name} is damaged: {why}; restore to a revision before it, or from another copy"
            ),
            BackupError::Differs { told } => f.write_str(told),
            BackupError::Usage(told) => f.write_str(told),
        }
    }
}

impl std::error::Error for BackupError {}

impl From<SavedError> for BackupError {
    fn from(error: SavedError) -> BackupError {
        BackupError::Saved(error)
    }
}

impl From<RebirthError> for BackupError {
    fn from(error: RebirthError) -> BackupError {
        BackupError::Rebirth(error)
    }
}

impl From<ShelfError> for BackupError {
    fn from(error: ShelfError) -> BackupError {
        BackupError::Shelf(error)
    }
}
