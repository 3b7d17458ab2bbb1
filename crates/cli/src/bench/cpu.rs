//! Processor time of the processes behind an endpoint.
//!
//! Who listens on a port of this machine is read from the kernel's tables: `/proc/net/tcp` names
//! the socket that listens, and a link in `/proc/PID/fd` the process that holds it. User and
//! system time of all its threads, also of those that have ended, are two fields of
//! `/proc/PID/stat`, in hundredths of a second.
//!
//! Source: `man 5 proc_pid_stat`, `man 5 proc_pid_net`.

use crate::client::Endpoint;
use quorate_server::url::Url;
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// `USER_HZ`, which is 100 on every Linux that is in use.
const TICKS_PER_SECOND: u64 = 100;

/// How long it may take to learn whether an endpoint is on this machine.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// User and system time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct CpuTime(pub(super) Duration);

/// The processes that serve a cluster's endpoints, if all of them run here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Processes {
    /// Their ids.
    Here(Vec<u32>),
    /// Some endpoint is on another machine, or its process cannot be seen.
    NotLocal,
}

impl Processes {
    /// Who listens at these endpoints.
    pub(super) fn behind(endpoints: &[Endpoint]) -> Processes {
        if !endpoints.iter().all(|endpoint| is_here(endpoint)) {
            return Processes::NotLocal;
        }
        let ports: BTreeSet<u16> = endpoints.iter().map(|endpoint| endpoint.port()).collect();
        let sockets: BTreeSet<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
            .iter()
            .filter_map(|path| fs::read_to_string(path).ok())
            .flat_map(|table| listening(&table, &ports))
            .map(|inode| format!("socket:[{inode}]"))
            .collect();
        let holders: Vec<u32> = process_ids().filter(|id| holds_any(*id, &sockets)).collect();
        if holders.is_empty() { Processes::NotLocal } else { Processes::Here(holders) }
    }

    /// What they have used since they began; `None` if they are not here, or one has ended.
    pub(super) fn used(&self) -> Option<CpuTime> {
        let Processes::Here(ids) = self else { return None };
        let mut sum = Duration::ZERO;
        for id in ids {
            sum += used_by(&id.to_string())?.0;
        }
        Some(CpuTime(sum))
    }
}

/// What this process has used.
pub(super) fn used_here() -> CpuTime {
    used_by("self").unwrap_or_default()
}

impl CpuTime {
    /// What was used since an earlier look.
    pub(super) fn since(self, earlier: CpuTime) -> CpuTime {
        CpuTime(self.0.saturating_sub(earlier.0))
    }
}

/// A connection whose two ends have one address never left this machine.
fn is_here(endpoint: &Url) -> bool {
    let Ok(addresses) = (endpoint.host(), endpoint.port()).to_socket_addrs() else { return false };
    addresses.into_iter().any(|address| {
        let Ok(stream) = TcpStream::connect_timeout(&address, DIAL_TIMEOUT) else { return false };
        let ends: (Option<IpAddr>, Option<IpAddr>) = (
            stream.local_addr().ok().map(|end| end.ip()),
            stream.peer_addr().ok().map(|end| end.ip()),
        );
        ends.0.is_some() && ends.0 == ends.1
    })
}

/// Inodes of the sockets that listen on one of these ports.
fn listening(table: &str, ports: &BTreeSet<u16>) -> Vec<u64> {
    const LISTEN: &str = "0A";
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        let is_wanted = *fields.get(3)? == LISTEN && ports.contains(&port);
        if is_wanted { fields.get(9)?.parse().ok() } else { None }
    };
    table.lines().skip(1).filter_map(socket).collect()
}

fn process_ids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn holds_any(id: u32, sockets: &BTreeSet<String>) -> bool {
    let Ok(entries) = fs::read_dir(format!("/proc/{id}/fd")) else { return false };
    entries.flatten().any(|entry| {
        let target = fs::read_link(entry.path()).ok();
        target.and_then(|target| target.to_str().map(|name| sockets.contains(name))) == Some(true)
    })
}

fn used_by(process: &str) -> Option<CpuTime> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    ticks(&text).map(|ticks| CpuTime(Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)))
}

/// Fields 14 and 15; the name, which is the second, may contain anything but ends with the last
/// parenthesis.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_listener_of_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let url = || format!("http://127.0.0.1:{port}").parse().expect("a URL");
        let endpoint = || vec![Endpoint::of(url(), None)];
        let found = Processes::behind(&endpoint());
        assert_eq!(found, Processes::Here(vec![std::process::id()]));
        assert!(found.used().is_some());
        drop(listener);
        assert_eq!(Processes::behind(&endpoint()), Processes::NotLocal);
    }

    #[test]
    fn names_with_parentheses_confuse_nobody() {
        let stat = "12 (a) b) S 1 2 3 4 5 6 7 8 9 10 70 30 0 0 20 0";
        assert_eq!(ticks(stat), Some(100));
        assert_eq!(ticks("12 (short) S 1"), None);
    }
}
