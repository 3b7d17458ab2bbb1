//! The names of services, told over DNS.
//!
//! **Problem.** Every program can ask DNS, and few can ask us. What is registered (`naming.rs`) is
//! to be found by those too, as fresh as it is here, and without a way for the whole world to put
//! load on the members.
//!
//! **Idea.** A member answers for one zone, with authority, from its own copy of the store. It asks
//! nobody else for it but a quorum now and then: an answer is at most `--dns-max-stale` old, which
//! the last proof of freshness allows nearly always, and a new one is waited for when it does not.
//!
//! ```text
//!   datagram, or connection          a thread of its own: a flood takes nothing from the replica's
//!      |   limit.rs     how much one source may ask
//!      |   answer.rs    read: refused, or a question about the zone      (no I/O, no clock)
//!      |   serve.rs     a snapshot of the store, fresh enough
//!      |   view.rs      the instances of a name in it
//!      |   leases.rs    how long they live at least
//!      v   answer.rs    the answer
//! ```
//!
//! **Guarantees.** An answer shows the store as it was at one revision, at most `--dns-max-stale`
//! before it was asked for. A member that cannot prove that, because it has lost its quorum, says
//! SERVFAIL, so that a resolver asks another member; with `--dns-serve-stale` it tells what it
//! knows, to be kept for a second only. Nobody is told to keep an address for longer than the lease
//! behind it lives without another keep-alive: a dead instance is out of every cache within the
//! time to live of its lease and the time that its end takes to be committed.
//!
//! **Who may ask.** Everybody who reaches the port: DNS knows no users. So with users and roles
//! enabled nothing is told (REFUSED) unless `--dns-public` says that the names below `--dns-prefix`
//! may be; no other key is ever told.
//!
//! **Bounds.** See [`QUERIES_MAX`], [`CONNECTIONS_MAX`], `INSTANCES_MAX`, `LEASES_MAX`; an answer
//! over UDP is at most 1,232 bytes.
//!
//! **Left out.** Recursion, transfers of the zone, DNSSEC, updates over DNS. A CNAME for instances
//! that are named by a host name: there may be several, so they are told by SRV alone.
//!
//! Sources: RFC 1034 and 1035; 2181 (one TTL for a set), 2308 (negative answers), 2782 (SRV), 6891
//! (EDNS), 7766 (TCP), 8020 (NXDOMAIN), 8482 (ANY), 8767 (stale answers); Vixie and Schryver,
//! "Response Rate Limiting" (2012).

mod answer;
mod counts;
mod leases;
mod limit;
mod serve;
mod view;
mod zone;

pub(crate) use counts::DnsCounts;
pub(crate) use serve::{Dns, Sockets};

use crate::config::{Config, ConfigError};
use crate::naming::{Directory, PREFIX_DEFAULT};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use zone::Zone;

/// Queries that are being answered at one time; a further datagram is dropped.
pub const QUERIES_MAX: usize = 256;
/// Connections at one time; a further one is closed.
pub const CONNECTIONS_MAX: usize = 64;

/// The zone, unless told otherwise.
pub const ZONE_DEFAULT: &str = "quorate";
/// How long an answer may be kept, unless told otherwise.
pub const TTL_DEFAULT: Duration = Duration::from_secs(5);
/// How old an answer may be, unless told otherwise.
pub const MAX_STALE_DEFAULT: Duration = Duration::from_secs(5);
/// Answers to one source in a second, unless told otherwise.
pub const RATE_DEFAULT: u32 = 1_000;

/// The longest zone: names, services and addresses have to find room below it. Unit: bytes.
const ZONE_BYTES_MAX: usize = 63;
/// The longest time for which an answer may be kept. Unit: seconds.
const TTL_SECONDS_MAX: u64 = 3_600;
/// The greatest staleness that can be allowed. Unit: milliseconds.
const STALE_MILLIS_MAX: u64 = 3_600_000;

/// How names are told over DNS.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DnsSettings {
    /// Where to listen, for datagrams and connections. Not empty.
    pub listen: Vec<SocketAddr>,
    /// The zone, with or without the last dot.
    pub zone: String,
    /// The prefix of the keys of the names.
    pub prefix: String,
    /// An answer may be kept so long at most. Whole seconds, at most an hour.
    pub ttl: Duration,
    /// An answer may be so old at most. From 1 ms to an hour.
    pub max_stale: Duration,
    /// What a member says whose state may be older.
    pub when_stale: WhenStale,
    /// Whether names are told although users and roles guard the store.
    pub access: DnsAccess,
    /// Answers to one source (/24, /56) in a second; 0 is no limit.
    pub rate: u32,
}

/// What a member says whose state may be too old.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WhenStale {
    /// SERVFAIL: another member may know better.
    Fail,
    /// What it knows.
    Serve,
}

/// Whether names are told although users and roles guard the store.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DnsAccess {
    /// They are not.
    Guarded,
    /// They are public.
    Public,
}

impl Default for DnsSettings {
    /// As the flags have it; listens nowhere.
    fn default() -> DnsSettings {
        DnsSettings {
            listen: Vec::new(),
            zone: ZONE_DEFAULT.to_owned(),
            prefix: PREFIX_DEFAULT.to_owned(),
            ttl: TTL_DEFAULT,
            max_stale: MAX_STALE_DEFAULT,
            when_stale: WhenStale::Fail,
            access: DnsAccess::Guarded,
            rate: RATE_DEFAULT,
        }
    }
}

impl DnsSettings {
    /// Checks what can be judged without a socket.
    ///
    /// Errors: the first setting that cannot work.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let too_long = self.zone.trim_end_matches('.').len() > ZONE_BYTES_MAX;
        if too_long || self.zone(Vec::new()).is_none() {
            return Err(ConfigError::DnsZone { zone: self.zone.clone() });
        }
        let range = |flag, value: u128, min, max| {
            let value = u64::try_from(value).unwrap_or(u64::MAX);
            let is_good = (min..=max).contains(&value);
            is_good.then_some(()).ok_or(ConfigError::Range { flag, value, min, max })
        };
        range("dns-ttl (in seconds)", self.ttl.as_secs().into(), 0, TTL_SECONDS_MAX)?;
        range("dns-max-stale (in milliseconds)", self.max_stale.as_millis(), 1, STALE_MILLIS_MAX)
    }

    fn zone(&self, server_addresses: Vec<IpAddr>) -> Option<Zone> {
        Zone::new(&self.zone, Directory::at(&self.prefix), server_addresses)
    }
}

/// Where the server of the zone is: where it listens; or, if that is everywhere, where clients are
/// told to look for this member.
fn own_addresses(config: &Config, settings: &DnsSettings) -> Vec<IpAddr> {
    let listens = settings.listen.iter().map(SocketAddr::ip);
    if listens.clone().all(|ip| !ip.is_unspecified()) {
        return listens.collect();
    }
    config.advertise_client_urls.iter().filter_map(|url| url.host().parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let good = DnsSettings::default();
        assert_eq!(good.validate(), Ok(()));
        let long = "a.".repeat(40);
        for zone in ["", "a..b", "a b", &long] {
            let bad = DnsSettings { zone: zone.to_owned(), ..good.clone() };
            assert!(matches!(bad.validate(), Err(ConfigError::DnsZone { .. })), "{zone}");
        }
        let bad = DnsSettings { max_stale: Duration::ZERO, ..good.clone() };
        assert!(matches!(bad.validate(), Err(ConfigError::Range { .. })));
        let bad = DnsSettings { ttl: Duration::from_secs(3_601), ..good };
        assert!(matches!(bad.validate(), Err(ConfigError::Range { .. })));
    }

    #[test]
    fn a_server_is_where_it_listens_or_where_its_member_is() {
        let listening = |at: &str| DnsSettings {
            listen: vec![at.parse().expect("an address")],
            ..DnsSettings::default()
        };
        let advertise_client_urls = "http://10.0.0.7:2379".parse().map(|url| vec![url]);
        let advertise_client_urls = advertise_client_urls.expect("a URL");
        let config = Config { advertise_client_urls, ..Config::default() };
        let found = |at| own_addresses(&config, &listening(at));
        assert_eq!(found("192.0.2.1:53"), [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(found("0.0.0.0:53"), [IpAddr::from([10, 0, 0, 7])]);
    }
}
