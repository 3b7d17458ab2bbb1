//! Why a configuration is refused, in etcd's words where it has some.

use super::ELECTION_TIMEOUT_MAX;
use crate::timekeeping::{SERVERS_MAX, TIME_POLL_MAX, TIME_POLL_MIN, TimeSource};
use crate::tls::TlsConfigError;
use crate::url::{Url, UrlError};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Settings that contradict each other or cannot work.
///
/// The messages follow etcd's (`server/embed/config.go`, `server/config/config.go`).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ConfigError {
    /// A duration that must be positive is zero.
    Zero {
        /// Name of the flag.
        flag: &'static str,
    },
    /// The election timeout is less than five heartbeats.
    ElectionTooShort {
        /// Unit: milliseconds.
        election_ms: u128,
        /// Unit: milliseconds.
        heartbeat_ms: u128,
    },
    /// The shortest election timeout is less than five heartbeats, or beyond the longest.
    ElectionMin {
        /// Unit: milliseconds.
        min_ms: u128,
        /// Unit: milliseconds.
        heartbeat_ms: u128,
        /// Unit: milliseconds.
        election_ms: u128,
    },
    /// The election timeout is beyond [`ELECTION_TIMEOUT_MAX`].
    ElectionTooLong {
        /// Unit: milliseconds.
        election_ms: u128,
    },
    /// A list of addresses is empty or one of them cannot be bound.
    Url {
        /// Name of the flag.
        flag: &'static str,
        /// What is wrong with it.
        error: UrlError,
    },
    /// An advertised address has no host, so nobody could dial it.
    EmptyHost {
        /// Name of the flag.
        flag: &'static str,
        /// The address.
        url: Url,
    },
    /// A number is outside its range.
    Range {
        /// Name of the flag.
        flag: &'static str,
        /// The value given.
        value: u64,
        /// Smallest allowed.
        min: u64,
        /// Largest allowed.
        max: u64,
    },
    /// `initial_cluster` does not contain this member's name.
    NameMissing {
        /// The name.
        name: String,
    },
    /// `initial_cluster` and `initial_advertise_peer_urls` name different addresses for us.
    AdvertiseMismatch {
        /// This member's name.
        name: String,
        /// According to `initial_cluster`.
        in_cluster: String,
        /// According to `initial_advertise_peer_urls`.
        advertised: String,
    },
    /// Too many servers of the time.
    TimeSources {
        /// So many.
        count: usize,
    },
    /// A server of the time is named twice: one that lies would be two that agree.
    TimeSourceTwice {
        /// Which.
        source: TimeSource,
    },
    /// The time between two questions about the time is too short or too long.
    TimePoll {
        /// Unit: milliseconds.
        poll_ms: u128,
    },
    /// Servers of the time are named, and nobody is to be asked.
    TimeSourcesUnasked,
    /// A bound that every member breaks, or none.
    Bound {
        /// Name of the flag.
        flag: &'static str,
        /// The value given.
        bound: Duration,
        /// What is allowed.
        range: RangeInclusive<Duration>,
    },
    /// Two members of `initial_cluster` share an address.
    DuplicateUrl {
        /// The address.
        url: Url,
    },
    /// The zone is no name of DNS, or too long for names below it.
    DnsZone {
        /// What was given.
        zone: String,
    },
    /// What is said of TLS contradicts itself.
    Tls(TlsConfigError),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::DnsZone { zone } => write!(
                f,
                "--dns-zone={zone} is no zone; write a name of DNS as in svc.example, shorter than \
                 64 letters"
            ),
            ConfigError::Zero { flag } => write!(f, "--{flag} must be >0 (set to 0ms)"),
            ConfigError::ElectionTooShort { election_ms, heartbeat_ms } => write!(
                f,
                "--election-timeout[{election_ms}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat_ms}ms]"
            ),
            ConfigError::ElectionMin { min_ms, heartbeat_ms, election_ms } => write!(
                f,
                "--election-timeout-min[{min_ms}ms] must be at least 5 times \
                 --heartbeat-interval[{heartbeat_ms}ms] and at most \
                 --election-timeout[{election_ms}ms]"
            ),
            ConfigError::ElectionTooLong { election_ms } => write!(
                f,
                "--election-timeout[{election_ms}ms] is too long, and should be set less than \
                 {}ms",
                ELECTION_TIMEOUT_MAX.as_millis()
            ),
            ConfigError::Url { flag, error } => write!(f, "--{flag}: {error}"),
            ConfigError::EmptyHost { flag, url } => {
                write!(f, "--{flag}: unexpected empty host ({url}); write a name others can dial")
            }
            ConfigError::Range { flag, value, min, max } => {
                write!(f, "--{flag}={value} is out of range; write {min} to {max}")
            }
            ConfigError::NameMissing { name } => write!(
                f,
                "couldn't find local name \"{name}\" in the initial cluster configuration; add \
                 '{name}=http://HOST:PORT' to --initial-cluster or set --name"
            ),
            ConfigError::AdvertiseMismatch { name, in_cluster, advertised } => write!(
                f,
                "--initial-cluster has {name}={in_cluster} but \
                 --initial-advertise-peer-urls={advertised}; make them equal"
            ),
            ConfigError::TimeSources { count } => {
                write!(f, "--time-source: {count} sources; name at most {SERVERS_MAX}")
            }
            ConfigError::TimeSourceTwice { source } => {
                write!(f, "--time-source names {source} twice; each counts once, leave one out")
            }
            ConfigError::TimePoll { poll_ms } => write!(
                f,
                "--time-poll[{poll_ms}ms] is out of range; write {TIME_POLL_MIN:?} to \
                 {TIME_POLL_MAX:?}, or 0 to ask nobody"
            ),
            ConfigError::TimeSourcesUnasked => f.write_str(
                "--time-source is set and --time-poll=0 asks nobody; leave one of them out",
            ),
            ConfigError::Bound { flag, bound, range } => {
                let (start, end) = (range.start(), range.end());
                write!(f, "--{flag}[{bound:?}] is out of range; write {start:?} to {end:?}")
            }
            ConfigError::DuplicateUrl { url } => {
                write!(f, "--initial-cluster has duplicate url {url}; each member needs its own")
            }
            ConfigError::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ConfigError {}
