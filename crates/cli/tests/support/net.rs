//! Ports, and conversations below the level of any client library.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::time::Duration;

/// Ports come from below the range from which the system serves outgoing connections: the port of
/// a member that is down must not be taken by somebody's client before it is back.
const PORT_MIN: u16 = 10_500;
const PORT_MAX: u16 = 31_500;

/// Ports that this process has given out; two clusters of one test program never share one.
static TAKEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port that nobody listens on.
pub(crate) fn free_port() -> u16 {
    free_ports(1)
}

/// The first of `count` neighbouring ports that nobody listens on.
pub(crate) fn free_ports(count: u16) -> u16 {
    let mut taken = TAKEN.lock().expect("no test panics while it holds the lock");
    let span = u32::from(PORT_MAX - PORT_MIN - count);
    // Test programs that run side by side begin their search at different places.
    let start = std::process::id().wrapping_mul(997) % span;
    (0..span)
        .map(|step| PORT_MIN + ((start + step) % span) as u16)
        .find(|first| {
            let ports = *first..*first + count;
            let free = ports.clone().all(|port| !taken.contains(&port) && can_bind(port));
            if free {
                taken.extend(ports);
            }
            free
        })
        .expect("a free port")
}

/// Where `port` is on this machine.
pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Status line and body of a plain HTTP/1.1 GET.
pub(crate) fn http_get(port: u16, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect_timeout(&loopback(port), Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok((head.lines().next().unwrap_or_default().to_owned(), body.to_owned()))
}

fn can_bind(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}
