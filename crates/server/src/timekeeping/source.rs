//! Where a server of the time is, as `--time-source` names it.

use super::ntp;
use std::fmt;
use std::str::FromStr;

/// A server that is asked over NTP. Printed as `ntp://host:port`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TimeSource {
    host: String,
    port: u16,
}

/// Text that names no server of the time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BadTimeSource {
    /// The scheme is missing, or not `ntp`.
    Scheme {
        /// The whole text.
        text: String,
    },
    /// There is no host.
    Host {
        /// The whole text.
        text: String,
    },
    /// What follows the host is no port.
    Port {
        /// The whole text.
        text: String,
    },
}

impl fmt::Display for BadTimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (text, what) = match self {
            BadTimeSource::Scheme { text } => (text, "is not of the form ntp://"),
            BadTimeSource::Host { text } => (text, "names no host"),
            BadTimeSource::Port { text } => (text, "ends with something that is no port"),
        };
        write!(f, "\"{text}\" {what}; write ntp://HOST, ntp://HOST:PORT or ntp://[IPV6]:PORT")
    }
}

impl std::error::Error for BadTimeSource {}

impl TimeSource {
    /// Host name or IP address, an IPv6 address without its brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// UDP port. Range: 1 to 65535.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "ntp://[{}]:{}", self.host, self.port),
            false => write!(f, "ntp://{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for TimeSource {
    type Err = BadTimeSource;

    fn from_str(text: &str) -> Result<TimeSource, BadTimeSource> {
        let whole = || text.to_owned();
        let rest = text.strip_prefix("ntp://").ok_or(BadTimeSource::Scheme { text: whole() })?;
        let (host, port) = match rest.strip_prefix('[') {
            Some(inner) => {
                let (host, rest) =
                    inner.split_once(']').ok_or(BadTimeSource::Host { text: whole() })?;
                if host.parse::<std::net::Ipv6Addr>().is_err() {
                    return Err(BadTimeSource::Host { text: whole() });
                }
                (host, rest)
            }
            None => rest.split_at(rest.find(':').unwrap_or(rest.len())),
        };
        let is_host_letter = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
        if host.is_empty() || !host.chars().all(is_host_letter) {
            return Err(BadTimeSource::Host { text: whole() });
        }
        let digits = port.strip_prefix(':');
        let port = match digits {
            None if port.is_empty() => Some(ntp::PORT),
            None => None,
            Some(digits) => digits.parse().ok().filter(|port| *port > 0),
        };
        let port = port.ok_or(BadTimeSource::Port { text: whole() })?;
        Ok(TimeSource { host: host.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_server_is_printed_in_full() {
        let cases = [
            ("ntp://a", "ntp://a:123"),
            ("ntp://pool.ntp.org:1123", "ntp://pool.ntp.org:1123"),
            ("ntp://127.0.0.1", "ntp://127.0.0.1:123"),
            ("ntp://[::1]", "ntp://[::1]:123"),
            ("ntp://[fe80::1]:7", "ntp://[fe80::1]:7"),
        ];
        for (text, printed) in cases {
            let source: TimeSource = text.parse().expect(text);
            assert_eq!(source.to_string(), printed);
        }
    }

    #[test]
    fn what_names_none_is_told_what_to_write() {
        let bad = [
            "",
            "a",
            "a:123",
            "http://a",
            "NTP://a",
            "ntp://",
            "ntp://:123",
            "ntp://a:",
            "ntp://a:0",
            "ntp://a:65536",
            "ntp://a:x",
            "ntp://a/b",
            "ntp://a b",
            "ntp://[::1",
            "ntp://[a]:1",
            "ntp://[::1]x",
            "ntp://a:1:2",
            "ntp://a\"b",
        ];
        for text in bad {
            let error = text.parse::<TimeSource>().expect_err(text).to_string();
            assert!(error.contains("write ntp://HOST"), "{error}");
        }
    }
}
