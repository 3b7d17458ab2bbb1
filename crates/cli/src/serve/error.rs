//! What can be wrong with the settings of a member, and what to do about it.

use quorate_server::auth::JwtError;
use quorate_server::config::ConfigError;
use quorate_server::timekeeping::BadTimeSource;
use quorate_server::url::UrlError;
use std::fmt;

/// Settings that cannot be used. Every message names the setting as the user wrote it.
#[derive(Debug)]
pub(crate) enum UsageError {
    /// No such flag.
    UnknownFlag { name: String },
    /// A word that belongs to no flag.
    NotAFlag { word: String, after: Option<&'static str> },
    /// The command line ends where a value should stand.
    MissingValue { flag: &'static str },
    /// A value of the wrong kind.
    BadValue { given: String, value: String, wanted: &'static str },
    /// The setting is known, and cannot be honoured.
    Unsupported { given: String, value: String, reason: &'static str },
    /// A key that no flag has.
    UnknownKey { key: String, path: String },
    /// The file cannot be read.
    Unreadable { path: String, error: std::io::Error },
    /// The file is not YAML, or not a table of settings.
    NotYaml { path: String, reason: String },
    /// A list of addresses that cannot be used.
    Url { given: String, error: UrlError },
    /// A server of the time that cannot be understood.
    TimeSource { given: String, error: BadTimeSource },
    /// `--initial-cluster` is not of the form `NAME=URL,NAME=URL`.
    InitialCluster { part: String },
    /// Clients would be told addresses on which nobody listens.
    AdvertiseUnset,
    /// The options of signed login tokens are wrong.
    Jwt { given: String, error: JwtError },
    /// Settings that contradict each other.
    Config(ConfigError),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsageError::UnknownFlag { name } => {
                write!(f, "flag provided but not defined: --{name}")?;
                match super::nearest::flag(name) {
                    Some(near) => write!(f, "; did you mean --{near}?"),
                    None => f.write_str("; see 'quorate serve --help'"),
                }
            }
            UsageError::NotAFlag { word, after: None } => write!(f, "'{word}' is not a valid flag"),
            UsageError::NotAFlag { word, after: Some(flag) } => {
                write!(f, "'{word}' is not a valid flag; write --{flag}")?;
                match super::settings::parse_bool(word) {
                    Some(_) => write!(f, "={word}"),
                    None => write!(f, "=true or --{flag}=false"),
                }
            }
            UsageError::MissingValue { flag } => {
                write!(f, "flag needs an argument: --{flag}; write --{flag}=VALUE")
            }
            UsageError::BadValue { given, value, wanted } => {
                write!(f, "invalid value \"{value}\" for {given}: write {wanted}")
            }
            UsageError::Unsupported { given, value, reason } => {
                write!(f, "{given} \"{value}\" is not supported: {reason}")
            }
            UsageError::UnknownKey { key, path } => {
                write!(f, "unknown key \"{key}\" in {path}")?;
                match super::nearest::yaml_key(key) {
                    Some(near) => write!(f, "; did you mean \"{near}\"?"),
                    None => f.write_str("; see 'quorate serve --help' for the known ones"),
                }
            }
            UsageError::Unreadable { path, error } => {
                write!(f, "cannot read the configuration file {path}: {error}")
            }
            UsageError::NotYaml { path, reason } => {
                write!(f, "cannot understand the configuration file {path}: {reason}")
            }
            UsageError::Url { given, error } => write!(f, "invalid value for {given}: {error}"),
            UsageError::TimeSource { given, error } => {
                write!(f, "invalid value for {given}: {error}")
            }
            UsageError::InitialCluster { part } => write!(
                f,
                "--initial-cluster: cannot understand \"{part}\"; write \
                 NAME=http://HOST:PORT,NAME=http://HOST:PORT"
            ),
            UsageError::AdvertiseUnset => f.write_str(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ),
            UsageError::Jwt { given, error } => write!(f, "{given}: {error}"),
            UsageError::Config(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for UsageError {}

impl From<ConfigError> for UsageError {
    fn from(error: ConfigError) -> UsageError {
        UsageError::Config(error)
    }
}
