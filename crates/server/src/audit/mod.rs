//! The audit log: who asked for what, from where, and what came of it, so that nobody can change
//! the story afterwards without being found out.
//!
//! **Problem.** After something has happened, somebody has to answer who did it, from files that
//! others could have edited since. What is recorded must hold neither values nor passwords, and
//! recording must not hold up those who are served.
//!
//! **Idea.** Each line is a record in JSON that names the hash of the line before it, and ends with
//! its own. A line that was changed has another hash than the one it tells; one that was removed,
//! added or moved leaves a neighbour that names somebody else. The chain goes on over files and
//! restarts.
//!
//! ```text
//!   audit-00000001.log                                     audit-00000002.log
//!   {"seq":1,"prev":"000..","hash":"a1.."}      .--------> {"seq":3,"prev":"c3..", ..}
//!   {"seq":2,"prev":"a1..","hash":"c3.."} ------'          {"seq":4,"prev":"e5..", ..}
//!   audit.head: "4 <hash of 4>", after each sync           both kept by whoever keeps the log
//! ```
//!
//! The end of a chain proves nothing by itself: whoever cuts off the last lines leaves a shorter
//! chain that is whole. So `audit.head` names the last record that was synced.
//!
//! **Bound of the promise.** There is no secret in it: who may write all of these files can make up
//! another chain. It is found out by a head that was kept elsewhere: the member logs it whenever it
//! begins a file, starts and stops, and `quorate audit verify --head SEQ:HASH` looks for it.
//!
//! **What is recorded**: every call but those that only read (with [`AuditCalls::All`] these too),
//! and every call that was refused. Of what is asked the keys, users and roles are told, and never
//! a value or a password.
//!
//! **When it cannot be written.** Serving goes on. Records wait in a queue of [`QUEUE_MAX`]; what
//! finds no room, or no disk, is *counted*: in `quorate_audit_records_lost_total`, in the member's
//! conditions (`quorate status`) while it lasts, and as soon as it can be written again in the log
//! itself. A log that cannot be opened when the member starts keeps it from starting.
//!
//! **Durability.** A record is written within milliseconds and synced within [`SYNC_EVERY`]: a
//! killed process loses what was still queued, a machine without power what was not synced.
//!
//! | file | holds |
//! |---|---|
//! | `entry.rs` | one call while it is answered |
//! | `what.rs` | what is asked, without values |
//! | `record.rs` | the form of a line |
//! | `files.rs` | the directory: opening, rotation, removal, the head |
//! | `writer.rs` | the thread that writes |
//! | `verify.rs` | whether a chain is whole |
//!
//! Source: Schneier and Kelsey, "Secure Audit Logs to Support Computer Forensics" (1999), section 3
//! (the chain of hashes; their evolving key is left out).

mod entry;
mod files;
mod record;
mod verify;
mod what;
mod writer;

#[cfg(test)]
mod tests;

pub(crate) use entry::{Entry, Open, PeerAddress};
pub use files::AuditError;
pub use verify::{Finding, Head, Report, Trouble, verify_dir, verify_file};
pub(crate) use what::What;
pub(crate) use writer::{Audit, Counts};

use std::path::PathBuf;
use std::time::Duration;

/// Records that may wait to be written.
const QUEUE_MAX: usize = 8_192;

/// Between two syncs of a log that is written to.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// Bytes of one file, unless told otherwise.
pub const FILE_BYTES_DEFAULT: u64 = 64 << 20;
/// A smaller file would be full of what begins and ends it.
pub const FILE_BYTES_MIN: u64 = 64 << 10;

/// Files that are kept, unless told otherwise.
pub const FILES_DEFAULT: u32 = 16;
/// The one that is written, and the one before it.
pub const FILES_MIN: u32 = 2;

/// Settings of the audit log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuditSettings {
    /// Directory of its files; created if missing.
    pub dir: PathBuf,
    /// Which calls are recorded.
    pub calls: AuditCalls,
    /// A file that would grow beyond this is followed by the next. Range: at least
    /// [`FILE_BYTES_MIN`].
    pub file_bytes: u64,
    /// So many files are kept; the oldest goes. Range: at least [`FILES_MIN`].
    pub files: u32,
}

/// Which calls are recorded.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AuditCalls {
    /// What may change something, logins, and what was refused.
    #[default]
    Changes,
    /// Reads as well.
    All,
}
