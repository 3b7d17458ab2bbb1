//! Names of services and where their instances are: how both are laid out in the store.
//!
//! **Problem.** Clients of etcd find services by keys that etcd's Go client writes and reads. What
//! is registered here must be found by them, what they register must be found here; and we want to
//! say more of an instance than they know how to.
//!
//! **Layout.** A name is a prefix of keys, an instance is one key below it:
//!
//! ```text
//!   names/            web   /  10.0.0.1:80   ->  {"Op":0,"Addr":"10.0.0.1:80","Metadata":null,
//!   |                 |        |                  "quorate":{"weight":5,..}}
//!   the prefix        name     instance           our terms, which Go's decoder passes over
//!   |--- target of ---|
//!        Go's client
//!
//!   names/.withdrawn/ web   /  10.0.0.1:80   ->  the same, and why
//! ```
//!
//! An instance that is not healthy is *moved* to the second place in one transaction: clients that
//! know nothing of health take every key below their target for one that may be used. No name
//! begins with a dot, so the two places never meet, and rights on the prefix cover both.
//!
//! **Names** are what DNS takes: labels of letters, digits, `-` and `_`, with dots between them.
//! They are kept in small letters.
//!
//! Sources: etcd `client/v3/naming/endpoints/internal/update.go` (the value), `endpoints_impl.go`
//! (the keys); Go's `encoding/json`, which passes over fields that it does not know, and takes
//! those it knows in any case of letters: so ours have a name of their own. RFC 1035, section
//! 2.3.1.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::net::IpAddr;

/// Prefix of the keys of all names, unless told otherwise.
pub const PREFIX_DEFAULT: &str = "names/";

/// Below the prefix: the instances that are not to be used now.
const WITHDRAWN: &str = ".withdrawn/";

/// The longest name. Unit: bytes. With a zone and the label of a service it still is one of DNS.
pub const NAME_BYTES_MAX: usize = 128;
/// The longest part of a name between dots. Unit: bytes. RFC 1035, section 2.3.4.
pub const LABEL_BYTES_MAX: usize = 63;

/// The weight of an instance of which none is said. Range: 0 to 65,535.
pub const WEIGHT_DEFAULT: u16 = 1;

/// The value of an instance's key.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// Always 0, "added": a change that is of no use in a store.
    #[serde(rename = "Op", default)]
    op: u8,
    /// Where it can be reached: `HOST:PORT`, `[IPV6]:PORT`, or without a port.
    #[serde(rename = "Addr", default)]
    pub addr: String,
    /// Whatever its clients want to know.
    #[serde(rename = "Metadata", default)]
    pub metadata: Value,
    /// What only we say. None if another client registered it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quorate: Option<Terms>,
}

/// What clients of ours say of an instance beside its address.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Terms {
    /// Its share of the requests, among those of its priority. RFC 2782.
    #[serde(default = "weight")]
    pub weight: u16,
    /// Instances of a smaller number are used first. RFC 2782.
    #[serde(default)]
    pub priority: u16,
    /// What it serves: `http` for `_http._tcp`. None: whatever it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Over what: `tcp` or `udp`.
    #[serde(default = "proto")]
    pub proto: String,
    /// It is gone so long after its registrar fell silent. Unit: seconds.
    #[serde(default)]
    pub ttl: u64,
    /// Since when it is where it is, by the clock of its registrar. Unit: seconds since 1970.
    #[serde(default)]
    pub since: u64,
    /// Why it is withdrawn, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

fn weight() -> u16 {
    WEIGHT_DEFAULT
}

fn proto() -> String {
    "tcp".to_owned()
}

impl Default for Terms {
    fn default() -> Terms {
        let (weight, proto) = (weight(), proto());
        Terms { weight, priority: 0, service: None, proto, ttl: 0, since: 0, why: None }
    }
}

impl Record {
    /// Of an instance of our own.
    pub fn new(addr: String, metadata: Value, terms: Terms) -> Record {
        Record { op: 0, addr, metadata, quorate: Some(terms) }
    }

    /// None if the value is not that of an instance.
    pub fn parse(value: &[u8]) -> Option<Record> {
        let record: Record = serde_json::from_slice(value).ok()?;
        (!record.addr.is_empty() || !record.metadata.is_null()).then_some(record)
    }

    /// As it is stored.
    pub fn to_value(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text and numbers")
    }

    /// What is said of it, by whomever.
    pub fn terms(&self) -> Terms {
        self.quorate.clone().unwrap_or_default()
    }

    /// True if a client of ours registered it, so that the terms mean something.
    pub fn has_terms(&self) -> bool {
        self.quorate.is_some()
    }

    /// Where it is. None if its address is none of a host.
    pub fn place(&self) -> Option<Place> {
        Place::parse(&self.addr)
    }
}

/// An address as it is written in a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The host.
    pub host: Host,
    /// The port, if one is said.
    pub port: Option<u16>,
}

/// Whom to reach.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Host {
    /// By address.
    Ip(IpAddr),
    /// By a name of DNS.
    Name(String),
}

impl Place {
    /// Reads `1.2.3.4`, `1.2.3.4:80`, `[::1]:80`, `::1`, `host`, `host:80`.
    pub fn parse(text: &str) -> Option<Place> {
        if let Ok(ip) = text.parse() {
            return Some(Place { host: Host::Ip(ip), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
            None => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare.unwrap_or(host).parse() {
            Ok(ip) => Host::Ip(ip),
            Err(_) => Host::Name(Name::parse(host.trim_end_matches('.')).ok()?.0),
        };
        Some(Place { host, port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Ip(IpAddr::V6(ip)), Some(port)) => write!(f, "[{ip}]:{port}"),
            (Host::Ip(ip), Some(port)) => write!(f, "{ip}:{port}"),
            (Host::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (Host::Ip(ip), None) => ip.fmt(f),
            (Host::Name(name), None) => f.write_str(name),
        }
    }
}

/// A name that DNS takes, in small letters.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Name(String);

/// Text that is no name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NameError {
    /// Nothing, or nothing between two dots.
    Empty,
    /// Longer than [`NAME_BYTES_MAX`], or a part longer than [`LABEL_BYTES_MAX`].
    Long,
    /// This character.
    Character(char),
    /// A part that begins or ends with a hyphen.
    Hyphen,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("nothing, or nothing between two dots"),
            NameError::Long => write!(
                f,
                "longer than {NAME_BYTES_MAX} letters, or than {LABEL_BYTES_MAX} between two dots"
            ),
            NameError::Character(character) => write!(f, "{character:?} in it"),
            NameError::Hyphen => f.write_str("a hyphen at the edge of a part"),
        }?;
        f.write_str("; use letters, digits, '-' and '_', with dots between, as in 'web' or 'db.eu'")
    }
}

impl Name {
    /// Reads a name in letters of any case.
    ///
    /// Errors: DNS could not say it.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::Long);
        }
        for label in text.split('.') {
            if label.is_empty() {
                return Err(NameError::Empty);
            }
            if label.len() > LABEL_BYTES_MAX {
                return Err(NameError::Long);
            }
            let is_good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
            if let Some(character) = label.chars().find(|c| !is_good(c)) {
                return Err(NameError::Character(character));
            }
            if label.starts_with('-') || label.ends_with('-') {
                return Err(NameError::Hyphen);
            }
        }
        Ok(Name(text.to_ascii_lowercase()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether an instance may be used.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Standing {
    /// It is healthy, as far as anybody has looked.
    Healthy,
    /// It is there, and its check fails.
    Withdrawn,
}

/// Where names are kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Directory {
    prefix: String,
}

impl Directory {
    /// Below this prefix, which may be empty.
    pub fn at(prefix: impl Into<String>) -> Directory {
        Directory { prefix: prefix.into() }
    }

    /// The prefix of all its keys.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The prefix of the keys of a name. Of a name that others have made it need not be one of DNS.
    pub fn keys_of(&self, name: &str, standing: Standing) -> String {
        let place = match standing {
            Standing::Healthy => "",
            Standing::Withdrawn => WITHDRAWN,
        };
        format!("{}{place}{name}/", self.prefix)
    }

    /// The key of an instance.
    pub fn key(&self, name: &str, addr: &str, standing: Standing) -> String {
        self.keys_of(name, standing) + addr
    }

    /// Name, standing and instance of a key. None if it lies elsewhere, or is of nobody.
    pub fn read<'a>(&self, key: &'a str) -> Option<(&'a str, Standing, &'a str)> {
        let below = key.strip_prefix(&self.prefix)?;
        let (below, standing) = match below.strip_prefix(WITHDRAWN) {
            Some(below) => (below, Standing::Withdrawn),
            None => (below, Standing::Healthy),
        };
        let (name, instance) = below.rsplit_once('/')?;
        (!name.is_empty() && !instance.is_empty()).then_some((name, standing, instance))
    }
}

/// The end of the range of all keys that begin with `prefix`; `"\0"`, for all, if it is empty.
pub fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // Text has no byte of 255: there is always one to count up.
    match end.last_mut() {
        Some(last) => *last += 1,
        None => end.push(0),
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// What Go's client writes: `json.Marshal` of its `internal.Update`, whose fields are `Op`,
    /// `Addr` and `Metadata` and have no tags; and what etcd's manual puts by hand
    /// ("gRPC naming and discovery", etcd 3.5).
    const OF_GO: &[(&str, &str, &str)] = &[
        (r#"{"Op":0,"Addr":"1.2.3.4:80","Metadata":null}"#, "1.2.3.4:80", "null"),
        (
            r#"{"Op":0,"Addr":"127.0.0.1:2000","Metadata":"metadata"}"#,
            "127.0.0.1:2000",
            "\"metadata\"",
        ),
        (
            r#"{"Op":0,"Addr":"b:1","Metadata":{"zone":"a\u003cb","n":[1,2]}}"#,
            "b:1",
            r#"{"n":[1,2],"zone":"a<b"}"#,
        ),
        (r#"{"Addr":"1.2.3.4","Metadata":"..."}"#, "1.2.3.4", "\"...\""),
        (r#"{"Op":0,"Addr":"","Metadata":7}"#, "", "7"),
    ];

    #[test]
    fn what_etcds_client_registers_is_read() {
        for (value, addr, metadata) in OF_GO {
            let record = Record::parse(value.as_bytes()).expect(value);
            assert_eq!(
                (record.addr.as_str(), record.metadata.to_string().as_str()),
                (*addr, *metadata)
            );
            assert!(!record.has_terms());
            assert_eq!(record.terms().weight, WEIGHT_DEFAULT);
        }
        for none in [
            "",
            "1.2.3.4:80",
            "{}",
            "[1]",
            r#"{"Op":0,"Addr":"","Metadata":null}"#,
            r#"{"Addr":7}"#,
        ] {
            assert_eq!(Record::parse(none.as_bytes()), None, "{none}");
        }
    }

    /// Go's decoder, as far as it matters: a field is known by its name in any case of letters, and
    /// what is not known is passed over.
    fn as_go_reads(value: &[u8]) -> Vec<(String, Value)> {
        let Ok(Value::Object(fields)) = serde_json::from_slice(value) else { panic!("no object") };
        let known = |name: &str| {
            ["Op", "Addr", "Metadata"].into_iter().find(|field| field.eq_ignore_ascii_case(name))
        };
        fields
            .into_iter()
            .filter_map(|(name, value)| Some((known(&name)?.to_owned(), value)))
            .collect()
    }

    #[test]
    fn what_is_registered_here_is_read_by_etcds_client() {
        let plain = Record {
            quorate: None,
            ..Record::new("1.2.3.4:80".into(), Value::Null, Terms::default())
        };
        assert_eq!(plain.to_value(), OF_GO[0].0.as_bytes(), "to the byte, but for our terms");
        let terms = Terms {
            weight: 5,
            priority: 2,
            service: Some("http".into()),
            ttl: 10,
            since: 7,
            ..Terms::default()
        };
        let ours = Record::new("1.2.3.4:80".into(), json!({"zone": "a"}), terms);
        let value = ours.to_value();
        assert_eq!(
            String::from_utf8_lossy(&value),
            r#"{"Op":0,"Addr":"1.2.3.4:80","Metadata":{"zone":"a"},"quorate":{"weight":5,"priority":2,"service":"http","proto":"tcp","ttl":10,"since":7}}"#
        );
        let read = as_go_reads(&value);
        let wanted =
            [("Addr", json!("1.2.3.4:80")), ("Metadata", json!({"zone": "a"})), ("Op", json!(0))];
        assert_eq!(read, wanted.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(Record::parse(&value), Some(ours));
    }

    #[test]
    fn terms_that_are_not_all_there_have_their_usual_values() {
        let value = br#"{"Addr":"a:1","quorate":{"priority":3,"colour":"red"}}"#;
        let terms = Record::parse(value).expect("a record").terms();
        assert_eq!(terms, Terms { priority: 3, ..Terms::default() });
    }

    #[test]
    fn places_are_read_and_written() {
        for text in ["1.2.3.4", "1.2.3.4:80", "[::1]:80", "::1", "host", "db.eu:5432", "_a.b"] {
            assert_eq!(Place::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Place::parse("Host.:80").expect("a host").to_string(), "host:80");
        for none in ["", ":80", "a:0", "a:65536", "a:b", "unix:/run/x", "a b:1", "[::1]:", "[x]:1"]
        {
            assert_eq!(Place::parse(none), None, "{none}");
        }
    }

    #[test]
    fn names_are_those_of_dns() {
        for (text, name) in [("web", "web"), ("Web-1.EU", "web-1.eu"), ("_a", "_a"), ("9", "9")] {
            assert_eq!(Name::parse(text).map(|name| name.0), Ok(name.to_owned()));
        }
        let long = "a".repeat(LABEL_BYTES_MAX + 1);
        for (text, error) in [
            ("", NameError::Empty),
            ("a..b", NameError::Empty),
            (".withdrawn", NameError::Empty),
            ("a/b", NameError::Character('/')),
            ("caf\u{e9}", NameError::Character('\u{e9}')),
            ("-a", NameError::Hyphen),
            (&long, NameError::Long),
        ] {
            assert_eq!(Name::parse(text), Err(error), "{text}");
        }
        let many = vec!["a"; NAME_BYTES_MAX].join(".");
        assert_eq!(Name::parse(&many), Err(NameError::Long));
    }

    #[test]
    fn keys_lead_to_names_and_back() {
        let directory = Directory::at("names/");
        for standing in [Standing::Healthy, Standing::Withdrawn] {
            let key = directory.key("web", "[::1]:80", standing);
            assert!(key.starts_with(&directory.keys_of("web", standing)));
            assert_eq!(directory.read(&key), Some(("web", standing, "[::1]:80")));
        }
        assert_eq!(directory.key("web", "a:1", Standing::Healthy), "names/web/a:1");
        assert!(!directory.keys_of("web", Standing::Withdrawn).starts_with("names/web"));
        for other in ["other/web/a:1", "names/web", "names//a", "names/web/"] {
            assert_eq!(directory.read(other), None, "{other}");
        }
        // As Go's client may have made it.
        assert_eq!(directory.read("names/a/b/c:1"), Some(("a/b", Standing::Healthy, "c:1")));
        assert_eq!(range_end("names/"), b"names0");
        assert_eq!(range_end(""), b"\0");
    }
}
