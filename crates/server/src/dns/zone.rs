//! What the names of a zone stand for.
//!
//! ```text
//!   quorate.                        the zone: SOA, NS
//!   ns.quorate.                     this server
//!   web.quorate.                    the instances of `web`: A, AAAA, SRV
//!   _http._tcp.web.quorate.         those of them that serve `http` over `tcp`: SRV
//!   ip-10-0-0-1.web.quorate.        the one of them that is there: A (AAAA: 32 hexadecimal digits)
//! ```
//!
//! The last kind is what a SRV record points to, which must be a name; it is there only while an
//! instance with that address is, so nobody can make up names for addresses of others.

use crate::naming::{Directory, Name as ServiceName, Place};
use domain::base::name::{Name, ToName};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The name of the server in its zone.
const NS: &str = "ns";
/// Begins the label of an address.
const IP: &str = "ip-";

/// A zone, and where its names are kept.
#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// In small letters, without the root.
    labels: Vec<String>,
    /// Its name.
    pub(super) origin: Name<Vec<u8>>,
    /// The name of its server.
    pub(super) server: Name<Vec<u8>>,
    /// Who looks after it, as SOA says that.
    pub(super) contact: Name<Vec<u8>>,
    /// Where the server is.
    pub(super) server_addresses: Vec<IpAddr>,
    /// Where its names are kept.
    pub(super) directory: Directory,
}

/// What a name of DNS stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Meaning {
    /// Nothing here: of another zone.
    Elsewhere,
    /// The zone itself.
    Zone,
    /// The server of the zone.
    Server,
    /// A service.
    Service(String),
    /// Those instances of it that serve this, over that.
    Port {
        /// `http` of `_http`.
        service: String,
        /// `tcp` of `_tcp`.
        proto: String,
        /// The service.
        name: String,
    },
    /// `_tcp` below a service: there is something below it.
    Between(String),
    /// The instance of a service that has this address.
    Host {
        /// The address.
        ip: IpAddr,
        /// The service.
        name: String,
    },
    /// Within the zone, and no name that anybody could have registered.
    Nothing,
}

impl Zone {
    /// None if the text is no name of DNS that leaves room for names below it.
    pub(crate) fn new(
        origin: &str,
        directory: Directory,
        server_addresses: Vec<IpAddr>,
    ) -> Option<Zone> {
        let text = origin.trim_end_matches('.');
        let name = ServiceName::parse(text).ok()?;
        let labels = name.as_str().split('.').map(str::to_owned).collect();
        let name_of = |below: &str| Name::vec_from_str(&format!("{below}{text}.")).ok();
        Some(Zone {
            labels,
            origin: name_of("")?,
            server: name_of(&format!("{NS}."))?,
            contact: name_of("hostmaster.")?,
            server_addresses,
            directory,
        })
    }

    /// What this name stands for.
    pub(crate) fn meaning(&self, name: &impl ToName) -> Meaning {
        // The root is the last one.
        let labels: Vec<String> = name
            .iter_labels()
            .filter(|label| !label.is_root())
            .map(|label| String::from_utf8_lossy(label.as_slice()).to_ascii_lowercase())
            .collect();
        let Some(below) = labels.strip_suffix(self.labels.as_slice()) else {
            return Meaning::Elsewhere;
        };
        match below {
            [] => Meaning::Zone,
            [ns] if ns == NS => Meaning::Server,
            [service, proto, name @ ..]
                if is_underscored(service) && is_proto(proto) && !name.is_empty() =>
            {
                let (service, proto) = (service[1..].to_owned(), proto[1..].to_owned());
                match named(name) {
                    Some(name) => Meaning::Port { service, proto, name },
                    None => Meaning::Nothing,
                }
            }
            [proto, name @ ..] if is_proto(proto) && !name.is_empty() => {
                named(name).map_or(Meaning::Nothing, Meaning::Between)
            }
            [host, name @ ..] if !name.is_empty() && address(host).is_some() => {
                match (address(host), named(name)) {
                    (Some(ip), Some(name)) => Meaning::Host { ip, name },
                    _ => Meaning::Nothing,
                }
            }
            name => named(name).map_or(Meaning::Nothing, Meaning::Service),
        }
    }

    /// The name of the host with this address, of a service of the zone. None if it would be too
    /// long for DNS.
    pub(super) fn host_name(&self, ip: IpAddr, service: &str) -> Option<Name<Vec<u8>>> {
        let label = match ip {
            IpAddr::V4(ip) => format!("{IP}{}", ip.to_string().replace('.', "-")),
            IpAddr::V6(ip) => format!("{IP}{:032x}", u128::from(ip)),
        };
        Name::vec_from_str(&format!("{label}.{service}.{}.", self.labels.join("."))).ok()
    }
}

fn named(labels: &[String]) -> Option<String> {
    // A label of DNS may have a dot in it, a name may not have it there.
    if labels.iter().any(|label| label.contains('.')) {
        return None;
    }
    Some(ServiceName::parse(&labels.join(".")).ok()?.as_str().to_owned())
}

fn is_underscored(label: &str) -> bool {
    label.len() > 1 && label.starts_with('_')
}

fn is_proto(label: &str) -> bool {
    label == "_tcp" || label == "_udp"
}

/// The address that the label of a host stands for, if it is one.
fn address(label: &str) -> Option<IpAddr> {
    let text = label.strip_prefix(IP)?;
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Some(Ipv6Addr::from(u128::from_str_radix(text, 16).ok()?).into());
    }
    let ip: Ipv4Addr = text.replace('-', ".").parse().ok()?;
    (!text.contains('.')).then_some(ip.into())
}

/// The name of DNS that a record gives as its host.
pub(super) fn outside(place: &Place) -> Option<Name<Vec<u8>>> {
    match &place.host {
        crate::naming::Host::Name(name) => Name::vec_from_str(&format!("{name}.")).ok(),
        crate::naming::Host::Ip(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Zone {
        Zone::new("Svc.Quorate.", Directory::at("names/"), Vec::new()).expect("a zone")
    }

    fn meaning(text: &str) -> Meaning {
        zone().meaning(&Name::vec_from_str(text).expect(text))
    }

    #[test]
    fn names_are_understood_in_any_case() {
        let name = || "db.eu".to_owned();
        for (text, wanted) in [
            ("svc.quorate.", Meaning::Zone),
            ("SVC.QUORATE.", Meaning::Zone),
            ("quorate.", Meaning::Elsewhere),
            ("xsvc.quorate.", Meaning::Elsewhere),
            (".", Meaning::Elsewhere),
            ("NS.svc.quorate.", Meaning::Server),
            ("Db.Eu.svc.quorate.", Meaning::Service(name())),
            (
                "_pg._TCP.db.eu.svc.quorate.",
                Meaning::Port { service: "pg".into(), proto: "tcp".into(), name: name() },
            ),
            ("_udp.db.eu.svc.quorate.", Meaning::Between(name())),
            (
                "ip-10-0-0-1.db.eu.svc.quorate.",
                Meaning::Host { ip: [10, 0, 0, 1].into(), name: name() },
            ),
            ("ip-10-0-0-256.db.eu.svc.quorate.", Meaning::Service("ip-10-0-0-256.db.eu".into())),
            ("ip-10-0-0-1.svc.quorate.", Meaning::Service("ip-10-0-0-1".into())),
            (r"a\.b.svc.quorate.", Meaning::Nothing),
            (r"a\032b.svc.quorate.", Meaning::Nothing),
            (r"caf\195\169.svc.quorate.", Meaning::Nothing),
        ] {
            assert_eq!(meaning(text), wanted, "{text}");
        }
    }

    #[test]
    fn the_names_of_hosts_lead_back_to_their_addresses() {
        for ip in ["10.0.0.1", "255.255.255.255", "::1", "2001:db8::7"] {
            let ip: IpAddr = ip.parse().expect("an address");
            let name = zone().host_name(ip, "web").expect("short enough");
            assert_eq!(zone().meaning(&name), Meaning::Host { ip, name: "web".into() });
        }
    }

    #[test]
    fn what_is_no_zone_is_refused() {
        for text in ["", ".", "a..b", "a b", "-a"] {
            assert!(Zone::new(text, Directory::at(""), Vec::new()).is_none(), "{text:?}");
        }
    }
}
