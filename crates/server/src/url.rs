//! Addresses as etcd writes them: `http://host:port` and `https://host:port`.
//!
//! The same text is a flag, an identity (member ids are derived from peer URLs) and a place to
//! bind or to dial, so it is parsed once, here, and always printed alike.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Where something listens or can be reached.
///
/// Shape: `http://host:port` or `https://host:port`, no path; an IPv6 host is kept without its
/// brackets. URLs are ordered by host and port before the scheme.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Url {
    host: String,
    port: u16,
    scheme: Scheme,
}

/// How bytes travel there.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scheme {
    /// As they are.
    Http,
    /// Over TLS.
    Https,
}

/// Text that is no address this server can use.
///
/// The messages follow etcd's (`client/pkg/types/urls.go`), which operators search for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum UrlError {
    /// The scheme is none of etcd's.
    Scheme {
        /// The whole text.
        text: String,
    },
    /// A socket of the file system is asked for, and this version listens on TCP only.
    UnixSocket {
        /// The whole text.
        text: String,
    },
    /// Host or port is missing or no port number.
    HostPort {
        /// The whole text.
        text: String,
    },
    /// Something follows the port.
    Path {
        /// The whole text.
        text: String,
    },
    /// A name stands where only an IP address can be bound.
    NotBindable {
        /// The whole text.
        text: String,
    },
    /// Nothing was given where at least one address is needed.
    Empty,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlError::Scheme { text } => {
                write!(f, "URL scheme must be http or https: {text} (write http://HOST:PORT)")
            }
            UrlError::UnixSocket { text } => {
                write!(f, "unix sockets are not supported: {text} (use http://127.0.0.1:PORT)")
            }
            UrlError::HostPort { text } => {
                write!(f, "URL address does not have the form \"host:port\": {text}")
            }
            UrlError::Path { text } => write!(f, "URL must not contain a path: {text}"),
            UrlError::NotBindable { text } => {
                write!(f, "expected IP in URL for binding ({text}); only 'localhost' may be a name")
            }
            UrlError::Empty => f.write_str("no valid URLs given"),
        }
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// Host name or IP address, an IPv6 address without brackets. May be empty, which etcd reads
    /// as "every interface" when listening and refuses when advertising.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port. Range: 0 lets the system choose one when listening.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How bytes travel there.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// True if it is reached over TLS.
    pub fn is_https(&self) -> bool {
        self.scheme == Scheme::Https
    }

    /// The same place, reached in another way.
    pub fn with_scheme(self, scheme: Scheme) -> Url {
        Url { scheme, ..self }
    }

    /// `host:port` for dialling, with brackets around an IPv6 address.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// Where to bind a listener.
    ///
    /// Errors: a host name other than `localhost`, as etcd refuses it: what a name resolves to may
    /// change, and with it the interface that is exposed.
    pub fn bind_address(&self) -> Result<SocketAddr, UrlError> {
        let ip = match self.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            host => host.parse().map_err(|_| UrlError::NotBindable { text: self.to_string() })?,
        };
        Ok(SocketAddr::new(ip, self.port))
    }

    /// Parses a comma-separated list and returns it sorted, as etcd does.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, UrlError> {
        let mut urls = text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .map(str::parse)
            .collect::<Result<Vec<Url>, UrlError>>()?;
        if urls.is_empty() {
            return Err(UrlError::Empty);
        }
        urls.sort();
        Ok(urls)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Url, UrlError> {
        let whole = || text.to_owned();
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UrlError::Scheme { text: whole() });
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" | "unixs" => return Err(UrlError::UnixSocket { text: whole() }),
            _ => return Err(UrlError::Scheme { text: whole() }),
        };
        // One trailing slash is no path: `http://host:1/` is how many tools print a URL.
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(UrlError::Path { text: whole() });
        }
        let (host, port) = split_authority(rest).ok_or(UrlError::HostPort { text: whole() })?;
        Ok(Url { host, port, scheme })
    }
}

/// Host and port of `host:port` or `[ipv6]:port`.
fn split_authority(authority: &str) -> Option<(String, u16)> {
    let (host, port) = authority.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().ok()?.to_string(),
        None if host.contains([':', '[', ']', '@', ' ']) => return None,
        None => host.to_ascii_lowercase(),
    };
    let digits_only = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if digits_only { Some((host, port.parse().ok()?)) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_print_as_they_are_read() {
        for text in ["http://127.0.0.1:2379", "http://localhost:2380", "https://[::1]:2379"] {
            assert_eq!(text.parse::<Url>().expect(text).to_string(), text);
        }
        let secure = "https://h:1".parse::<Url>().expect("https");
        assert!(secure.is_https());
        assert_eq!(secure.with_scheme(Scheme::Http).to_string(), "http://h:1");
        assert_eq!("http://h:1/".parse::<Url>().expect("a slash").to_string(), "http://h:1");
    }

    #[test]
    fn each_wrong_url_is_refused_for_its_own_reason() {
        let cases = [
            ("127.0.0.1:2379", "URL scheme must be http or https"),
            ("ftp://127.0.0.1:2379", "URL scheme must be http"),
            ("https://127.0.0.1", "does not have the form \"host:port\""),
            ("unix:///tmp/s", "unix sockets are not supported"),
            ("http://127.0.0.1", "does not have the form \"host:port\""),
            ("http://127.0.0.1:x", "does not have the form \"host:port\""),
            ("http://127.0.0.1:65536", "does not have the form \"host:port\""),
            ("http://::1:2379", "does not have the form \"host:port\""),
            ("http://user@h:2379", "does not have the form \"host:port\""),
            ("http://127.0.0.1:2379/v2", "must not contain a path"),
        ];
        for (text, message) in cases {
            let error = text.parse::<Url>().expect_err(text).to_string();
            assert!(error.contains(message), "{text}: {error}");
            assert!(error.contains(text), "the message names the text: {error}");
        }
    }

    #[test]
    fn only_addresses_and_localhost_can_be_bound() {
        let bind = |text: &str| text.parse::<Url>().expect(text).bind_address();
        assert_eq!(bind("http://localhost:1"), Ok(SocketAddr::from(([127, 0, 0, 1], 1))));
        assert_eq!(bind("http://:1"), Ok(SocketAddr::from(([0, 0, 0, 0], 1))));
        assert!(bind("http://[::]:1").expect("IPv6").is_ipv6());
        assert!(matches!(bind("http://example.com:1"), Err(UrlError::NotBindable { .. })));
    }

    #[test]
    fn a_list_is_sorted_and_never_empty() {
        let urls = Url::parse_list("http://b:1, http://a:1").expect("two");
        assert_eq!(urls[0].host(), "a");
        assert_eq!(Url::parse_list(" , "), Err(UrlError::Empty));
    }
}
