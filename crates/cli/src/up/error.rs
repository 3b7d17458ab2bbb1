//! Why a local cluster cannot be started, and what to do about it.

use quorate_server::tls::FileError;
use quorate_server::tls::pki::PkiError;
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why `quorate up` gave up.
#[derive(Debug)]
pub(super) enum UpError {
    /// A directory or file cannot be read or written.
    Unwritable { path: PathBuf, error: io::Error },
    /// Another `quorate up` holds it.
    InUse { path: PathBuf },
    /// It contains something that we did not put there.
    NotOurs { path: PathBuf, entry: String },
    /// Its plan cannot be read.
    DamagedPlan { path: PathBuf, reason: String },
    /// It holds another cluster than the one asked for.
    Conflict { path: PathBuf, flag: &'static str, known: u16 },
    /// The last port would lie beyond 65535, or the first is 0.
    PortsOutOfRange { nodes: u16, port_base: u16 },
    /// Somebody listens where a member should.
    PortBusy { port: u16, member: String, error: io::Error, advice: String },
    /// A member cannot be started at all.
    Spawn { member: String, error: io::Error },
    /// A member stops again and again before the cluster ever served.
    NeverServed { member: String, log: PathBuf, last_line: String },
    /// The members run, and do not agree on a leader in time.
    NoLeader { seconds: u64, log: PathBuf },
    /// A certificate cannot be made.
    Pki(PkiError),
    /// One that was made cannot be read.
    Certificate(FileError),
    /// The operating system refuses what a supervisor needs.
    System { what: &'static str, error: io::Error },
}

impl fmt::Display for UpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UpError::Unwritable { path, error } => write!(
                f,
                "cannot use {}: {error}; choose another directory with --data",
                path.display()
            ),
            UpError::InUse { path } => write!(
                f,
                "another 'quorate up' is running on {}; stop it, or choose another directory \
                 with --data and other ports with --port-base",
                path.display()
            ),
            UpError::NotOurs { path, entry } => write!(
                f,
                "{} contains '{entry}', which 'quorate up' did not make; choose an empty or new \
                 directory with --data",
                path.display()
            ),
            UpError::DamagedPlan { path, reason } => write!(
                f,
                "cannot understand {}: {reason}; repair it, or start over with --fresh (which \
                 deletes the data)",
                path.display()
            ),
            UpError::Conflict { path, flag, known } => write!(
                f,
                "the cluster in {} was made with {flag} {known}; leave {flag} out to continue it, \
                 start over with --fresh (which deletes its data), or choose another --data",
                path.display()
            ),
            UpError::PortsOutOfRange { nodes, port_base } => write!(
                f,
                "{nodes} members from port {port_base} on do not fit into 1..65535; choose \
                 another --port-base"
            ),
            UpError::PortBusy { port, member, error, advice } => {
                write!(f, "port {port} (for {member}) cannot be used: {error}; {advice}")
            }
            UpError::Spawn { member, error } => write!(f, "cannot start member {member}: {error}"),
            UpError::NeverServed { member, log, last_line } => write!(
                f,
                "member {member} stops again and again; see {}; its last line: {last_line}",
                log.display()
            ),
            UpError::NoLeader { seconds, log } => write!(
                f,
                "the members agreed on no leader within {seconds} s; see {} and its neighbours",
                log.display()
            ),
            UpError::Pki(error) => error.fmt(f),
            UpError::Certificate(error) => error.fmt(f),
            UpError::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for UpError {}
