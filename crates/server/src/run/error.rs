//! Why a member could not start, or had to stop; each reason says what to do next.

use crate::audit::AuditError;
use crate::auth::JwtError;
use crate::config::ConfigError;
use crate::identity::IdentityError;
use crate::peers::{DiskLost, Verdict};
use crate::recover::RecoverError;
use crate::tls::OwnError;
use crate::url::UrlError;
use quorate_core::Index;
use std::io;
use std::net::SocketAddr;

/// Why a member could not start, or had to stop.
#[derive(Debug)]
pub enum RunError {
    /// A URL that cannot be listened on.
    Url(UrlError),
    /// A port is taken, or the address is not ours.
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's answer.
        error: io::Error,
    },
    /// The data directory cannot be used.
    Identity(IdentityError),
    /// The log or the checkpoints cannot be used.
    Recover(RecoverError),
    /// Peers remember this member with another disk.
    DiskLost(DiskLost),
    /// The configuration contradicts itself.
    Config(ConfigError),
    /// The keys of login tokens cannot be used.
    Jwt(JwtError),
    /// The audit log cannot be written to.
    Audit(AuditError),
    /// TLS cannot be set up.
    Tls(OwnError),
    /// The cluster does not let this member in.
    JoinRefused {
        /// Its words.
        why: String,
    },
    /// No member of the cluster that is to be joined answers.
    NobodyToJoin,
    /// A cluster is to be made of data that are not there.
    NothingToForce,
    /// The member was removed from its cluster.
    Removed {
        /// In words.
        why: String,
    },
    /// The state of this member differs from a quorum's. It is to be started anew: it has written
    /// down what to do then.
    Differs {
        /// Where it was seen.
        at: Index,
    },
    /// The operating system refuses something that we need.
    System(io::Error),
    /// The log could not be written. Nothing that was not on disk was acknowledged.
    LogFailed {
        /// What failed.
        why: String,
    },
    /// An assertion failed: the member stopped rather than go on with a broken state.
    Broken,
}

impl std::fmt::Display for RunError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunError::Url(error) => error.fmt(f),
            RunError::Bind { address, error } => write!(
                f,
                "cannot listen on {address}: {error}; is another process using the port? \
                 (`ss -ltnp` shows it)"
            ),
            RunError::Identity(error) => error.fmt(f),
            RunError::Recover(error) => error.fmt(f),
            RunError::DiskLost(lost) => lost.fmt(f),
            RunError::Config(error) => error.fmt(f),
            RunError::Jwt(error) => write!(f, "--auth-token: {error}"),
            RunError::Audit(error) => write!(f, "--audit-log: {error}"),
            RunError::Tls(error) => error.fmt(f),
            RunError::JoinRefused { why } => {
                write!(f, "--initial-cluster-state=existing without data: {why}")
            }
            RunError::NobodyToJoin => f.write_str(
                "--initial-cluster-state=existing without data, and no member of \
                 --initial-cluster answers: if this member had data, bring its disk back; else \
                 start the others first, or compare their peer URLs. Only where none of the \
                 members ever had data, start all of them with --initial-cluster-state=new",
            ),
            RunError::NothingToForce => f.write_str(
                "--force-new-cluster makes a cluster of the data of one member, and --data-dir has \
                 none: give the directory of the member that is left",
            ),
            RunError::Removed { why } => f.write_str(why),
            RunError::Differs { at } => write!(
                f,
                "the state of this member differs from a quorum's at entry {at}: it is built anew, \
                 and serves once a quorum shares it"
            ),
            RunError::System(error) => write!(f, "the operating system refuses: {error}"),
            RunError::LogFailed { why } => write!(
                f,
                "the log could not be written: {why}; nothing unwritten was acknowledged. Look at \
                 the disk, then start the member again"
            ),
            RunError::Broken => f.write_str(
                "an internal check failed and the member stopped; the log says which. Its data is \
                 as it was before",
            ),
        }
    }
}

impl std::error::Error for RunError {}

impl From<IdentityError> for RunError {
    fn from(error: IdentityError) -> RunError {
        RunError::Identity(error)
    }
}

impl From<RecoverError> for RunError {
    fn from(error: RecoverError) -> RunError {
        RunError::Recover(error)
    }
}

impl From<Verdict> for RunError {
    fn from(verdict: Verdict) -> RunError {
        match verdict {
            Verdict::DiskLost(lost) => RunError::DiskLost(lost),
            Verdict::Removed { why } => RunError::Removed { why },
        }
    }
}
