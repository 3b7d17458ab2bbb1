//! What is logged, how and where.

use std::path::PathBuf;

/// What is logged, how and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// Where lines go; each line goes to all of them. At least one.
    pub outputs: Vec<LogOutput>,
}

/// Importance of a log line; etcd's `panic` and `fatal` are `Error` here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should know.
    Warn,
    /// What an operator must know.
    Error,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object per line with `level`, `ts`, `caller`, `msg`, as etcd's.
    Json,
    /// For eyes.
    Text,
}

/// A place for log lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}
