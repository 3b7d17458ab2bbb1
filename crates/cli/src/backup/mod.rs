//! Copies of everything: taken once or all the time, and made into clusters again.
//!
//! | command | file | |
//! |---|---|---|
//! | `snapshot` | `snapshot.rs` | the state of this moment, as one file |
//! | `export` | `export.rs` | the same as etcd writes it |
//! | `import` | `import.rs`, `follow.rs` | from etcd: a file of it, or a running one |
//! | `backup` | `ship.rs`, `shelf.rs` | every change, to a directory or an object store |
//! | `restore` | `restore.rs` | a member with the state of any revision; drills |
//! | | `feed.rs` | every change, as it happens |
//! | | `source.rs` | whom to ask |
//! | | `seat.rs` | the member that is made |
//! | | `error.rs` | what can go wrong |

mod error;
mod export;
mod feed;
mod follow;
mod import;
mod restore;
mod seat;
mod shelf;
mod ship;
mod snapshot;
mod source;

pub(crate) use error::BackupError;
pub(crate) use export::Options as ExportOptions;
pub(crate) use import::Options as ImportOptions;
pub(crate) use restore::Options as RestoreOptions;
pub(crate) use ship::Options as ShipOptions;
pub(crate) use snapshot::{Options as SnapshotOptions, Snapshot};
pub(crate) use source::Source;

use crate::client;
use crate::output;
use serde_json::{Value, json};
use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// `quorate snapshot`.
pub(crate) fn run_snapshot(options: SnapshotOptions) -> ExitCode {
    let json = options.json();
    finish(options.run(), json)
}

/// `quorate export`.
pub(crate) fn run_export(options: &ExportOptions) -> ExitCode {
    finish(options.run(), options.json())
}

/// `quorate import`.
pub(crate) fn run_import(options: &ImportOptions) -> ExitCode {
    finish(options.run(), options.json())
}

/// `quorate backup`.
pub(crate) fn run_backup(options: &ShipOptions) -> ExitCode {
    finish(client::block_on(options.run()), options.json())
}

/// `quorate restore`.
pub(crate) fn run_restore(options: &RestoreOptions) -> ExitCode {
    finish(client::block_on(options.run()), options.json())
}

/// Prints how a command ended.
fn finish(done: Result<Done, BackupError>, as_json: bool) -> ExitCode {
    match done {
        Ok(done) => {
            done.print(as_json);
            ExitCode::SUCCESS
        }
        Err(error) => {
            if as_json {
                output::line(json!({ "error": error.to_string() }));
            } else {
                output::complain(&error);
            }
            ExitCode::from(error.exit_status())
        }
    }
}

/// What a command has to say at its end.
#[derive(Debug)]
pub(crate) struct Done {
    /// For eyes.
    pub(crate) lines: Vec<String>,
    /// For programs.
    pub(crate) json: Value,
}

impl Done {
    /// Prints one of both.
    pub(crate) fn print(&self, as_json: bool) {
        match as_json {
            true => output::line(&self.json),
            false => self.lines.iter().for_each(output::line),
        }
    }
}

/// Two columns: a word, and what it is.
fn table(rows: &[(&str, String)]) -> Vec<String> {
    let width = rows.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
    rows.iter().map(|(word, value)| format!("{word:width$}  {value}")).collect()
}

/// Bytes in hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file that gets its name when it is whole. Until then it is `FILE.part`, which is removed
/// unless [`Part::publish`] is reached.
#[derive(Debug)]
struct Part {
    file: PathBuf,
    part: PathBuf,
    output: File,
}

impl Part {
    /// Begins one.
    ///
    /// Errors: [`BackupError::Exists`]; those of the file system.
    fn create(file: &Path) -> Result<Part, BackupError> {
        if file.symlink_metadata().is_ok() {
            return Err(BackupError::Exists { file: file.to_owned() });
        }
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        // It holds everything, the hashes of passwords included: it is for its owner alone.
        let options =
            File::options().read(true).write(true).create(true).truncate(true).mode(0o600).clone();
        let output =
            options.open(&part).map_err(|error| BackupError::File { file: part.clone(), error })?;
        Ok(Part { file: file.to_owned(), part, output })
    }

    /// Makes it durable and gives it its name. Errors: those of the file system; one that has
    /// appeared meanwhile stays.
    fn publish(self) -> Result<(), BackupError> {
        let parent = self.file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        let named = self
            .output
            .sync_all()
            // A link does not replace what is there, as a new name would.
            .and_then(|()| std::fs::hard_link(&self.part, &self.file))
            .and_then(|()| File::open(parent)?.sync_all());
        named.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists { file: self.file.clone() },
            _ => BackupError::File { file: self.file.clone(), error },
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.part); // half a file is of no use
    }
}
