//! One member, from its configuration to its end.

use crate::Config;
use std::fmt;

/// Why a member could not start or had to stop.
#[derive(Debug)]
pub enum RunError {
    /// The replica is not wired to the sockets yet.
    NotWired,
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::NotWired => f.write_str("this build cannot serve yet"),
        }
    }
}

impl std::error::Error for RunError {}

/// Runs a member until it is told to stop.
pub fn run(_config: Config) -> Result<(), RunError> {
    Err(RunError::NotWired)
}
