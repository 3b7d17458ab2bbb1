//! `quorate serve`: one member, with etcd's flags, variables and configuration file.
//!
//! ```text
//! words ------ sources.rs ---> settings.rs ---> build.rs ---> Config ---> the server
//! ETCD_* ---/      |              |                |
//! YAML ----/    table.rs      kind checks      meaning, contradictions
//! ```

mod build;
pub(crate) mod duration;
mod error;
mod flag;
mod help;
mod naming;
mod nearest;
mod security;
mod settings;
mod sources;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use error::UsageError;
pub(crate) use help::{etcd_version, long_help};

use quorate_server::Config;
use std::collections::BTreeMap;

/// What a `serve` command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    /// Print the flags.
    Help,
    /// Print the version.
    Version,
    /// Run a member; the warnings are to be logged first.
    Serve { config: Box<Config>, warnings: Vec<String> },
}

/// Reads everything that may set something.
///
/// Errors: see [`UsageError`]; nothing has happened then.
pub(crate) fn request(
    words: &[String],
    variables: &BTreeMap<String, String>,
    read: impl FnOnce(&str) -> std::io::Result<String>,
) -> Result<Request, UsageError> {
    let arguments = sources::read_arguments(words)?;
    if arguments.help {
        return Ok(Request::Help);
    }
    if arguments.version {
        return Ok(Request::Version);
    }
    let mut settings = sources::gather(arguments, variables, read)?;
    let config = Box::new(build::build(&mut settings)?);
    Ok(Request::Serve { config, warnings: settings.warnings })
}
