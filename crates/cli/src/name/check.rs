//! Whether an instance is healthy: a port that can be connected to, a page that is there, a command
//! that ends well.
//!
//! A check that takes too long has failed. One failure is none yet: the network loses packets, and
//! an instance that comes and goes is worse for its clients than one that is slow for a moment.

use crate::client::{self, Endpoint, Security};
use rustix::process::{Pid, Signal, kill_process_group};
use std::fmt;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// Stands for the address of the instance in the URL of a check.
const ADDR: &str = "{addr}";

/// What is looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Check {
    /// A connection can be made.
    Tcp,
    /// A GET is answered with a status from 200 to 399.
    Http(String),
    /// It ends with status 0, run by the shell.
    Command(String),
}

/// A check that cannot be done.
#[derive(Debug)]
pub(super) enum CheckError {
    /// There is nothing in it.
    Empty,
    /// The address has no port to connect to.
    NoPort(String),
    /// It is no URL.
    Url(String),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckError::Empty => f.write_str("write tcp, http://{addr}/path, or a command"),
            CheckError::NoPort(addr) => {
                write!(f, "{addr} has no port to connect to; add one, or --port")
            }
            CheckError::Url(text) => {
                write!(f, "{text} is no URL; write http://{ADDR}/path or http://host:port/path")
            }
        }
    }
}

/// How one instance is looked after.
#[derive(Clone, Debug)]
pub(super) struct Patient {
    pub(super) check: Check,
    pub(super) name: String,
    pub(super) addr: String,
    /// Between two looks.
    pub(super) every: Duration,
    /// How long a look may take.
    pub(super) within: Duration,
    /// So many failures in a row are one.
    pub(super) failures: u32,
}

/// What was found of the instance of this number; why it is not healthy.
pub(super) type Verdict = (usize, Result<(), String>);

impl Check {
    /// Reads what was given to `--check`.
    ///
    /// Errors: nothing was given.
    pub(super) fn parse(text: &str) -> Result<Check, CheckError> {
        match text.trim() {
            "" => Err(CheckError::Empty),
            "tcp" => Ok(Check::Tcp),
            scheme @ ("http" | "https") => Ok(Check::Http(format!("{scheme}://{ADDR}/"))),
            url if url.starts_with("http://") || url.starts_with("https://") => {
                Ok(Check::Http(url.to_owned()))
            }
            command => Ok(Check::Command(command.to_owned())),
        }
    }

    /// Whether it can be done for this address at all.
    ///
    /// Errors: it cannot.
    pub(super) fn suits(&self, addr: &str, has_port: bool) -> Result<(), CheckError> {
        match self {
            Check::Tcp if !has_port => Err(CheckError::NoPort(addr.to_owned())),
            Check::Http(url) => page(url, addr).map(|_| ()),
            Check::Tcp | Check::Command(_) => Ok(()),
        }
    }

    async fn look(&self, name: &str, addr: &str, within: Duration) -> Result<(), String> {
        match self {
            Check::Tcp => match timeout(within, TcpStream::connect(addr)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(format!("tcp: {error}")),
                Err(_) => Err(format!("tcp: no connection within {within:?}")),
            },
            Check::Http(url) => {
                let (endpoint, path) = page(url, addr).map_err(|error| error.to_string())?;
                match client::http_get(&endpoint, &path, within).await {
                    Ok((200..=399, _)) => Ok(()),
                    Ok((status, _)) => Err(format!("http: status {status}")),
                    Err(why) => Err(format!("http: {why}")),
                }
            }
            Check::Command(command) => run(command, name, addr, within).await,
        }
    }
}

/// Where a URL leads, and to what.
fn page(url: &str, addr: &str) -> Result<(Endpoint, String), CheckError> {
    let url = url.replace(ADDR, addr);
    let bad = || CheckError::Url(url.clone());
    let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
    let (authority, path) = match rest.split_once('/') {
        Some((authority, path)) => (authority, format!("/{path}")),
        None => (rest, "/".to_owned()),
    };
    if authority.is_empty() || authority.starts_with(':') {
        return Err(bad()); // It would be a place to listen on, and none to connect to.
    }
    let is_bracketed = authority.ends_with(']');
    let authority = match authority.rsplit_once(':').filter(|_| !is_bracketed) {
        Some(_) => authority.to_owned(),
        None => format!("{authority}:{}", if scheme == "https" { 443 } else { 80 }),
    };
    let is_clean = path.chars().all(|c| c.is_ascii_graphic());
    let parsed = client::parse_endpoints(&format!("{scheme}://{authority}"), &Security::default());
    match parsed.map_err(|_| bad())?.as_slice() {
        [endpoint] if is_clean => Ok((endpoint.clone(), path)),
        _ => Err(bad()),
    }
}

async fn run(command: &str, name: &str, addr: &str, within: Duration) -> Result<(), String> {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(command).env("QUORATE_NAME", name).env("QUORATE_ADDR", addr);
    shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = shell.process_group(0).kill_on_drop(true).spawn();
    let mut child = child.map_err(|error| format!("check: cannot run sh: {error}"))?;
    let group = child.id().and_then(|id| Pid::from_raw(id as i32));
    match timeout(within, child.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(format!("check: {status}")),
        Ok(Err(error)) => Err(format!("check: {error}")),
        Err(_) => {
            if let Some(group) = group {
                // It may have ended.
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = child.wait().await;
            Err(format!("check: not done within {within:?}"))
        }
    }
}

impl Patient {
    /// Looks for ever, and tells the first verdict and every other one.
    pub(super) async fn look_after(self, number: usize, tell: mpsc::Sender<Verdict>) {
        let (mut told, mut failed): (Option<bool>, u32) = (None, 0);
        loop {
            let found = self.check.look(&self.name, &self.addr, self.within).await;
            failed = if found.is_ok() { 0 } else { failed.saturating_add(1) };
            // What never was healthy needs no second failure.
            let is_certain = found.is_ok() || failed >= self.failures || told.is_none();
            if is_certain && told != Some(found.is_ok()) {
                told = Some(found.is_ok());
                if tell.send((number, found)).await.is_err() {
                    return;
                }
            }
            sleep(self.every).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_told_apart() {
        assert_eq!(Check::parse("tcp").expect("one"), Check::Tcp);
        assert_eq!(Check::parse("http").expect("one"), Check::Http("http://{addr}/".into()));
        let url = "https://{addr}/healthz";
        assert_eq!(Check::parse(url).expect("one"), Check::Http(url.into()));
        assert_eq!(Check::parse("./ok -q").expect("one"), Check::Command("./ok -q".into()));
        assert!(matches!(Check::parse(" "), Err(CheckError::Empty)));
        assert!(matches!(Check::Tcp.suits("a", false), Err(CheckError::NoPort(_))));
        assert!(Check::Tcp.suits("a:1", true).is_ok());
    }

    #[test]
    fn urls_lead_to_the_instance() {
        for (url, addr, authority, wanted) in [
            ("http://{addr}/healthz?x=1", "10.0.0.1:80", "10.0.0.1:80", "/healthz?x=1"),
            ("http://{addr}", "10.0.0.1", "10.0.0.1:80", "/"),
            ("http://{addr}/", "[::1]:81", "[::1]:81", "/"),
            ("http://probe:9/{addr}", "a:1", "probe:9", "/a:1"),
        ] {
            let (endpoint, path) = page(url, addr).expect(url);
            assert_eq!((endpoint.authority().as_str(), path.as_str()), (authority, wanted));
        }
        for bad in ["http:///x", "http://a:b/", "http://a:1/x y", "http://a:1,b:2/"] {
            assert!(page(bad, "a:1").is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_command_is_judged_by_its_status_and_ended_when_it_is_late() {
        let long = Duration::from_secs(60);
        assert_eq!(run("test $QUORATE_NAME$QUORATE_ADDR = na", "n", "a", long).await, Ok(()));
        assert!(run("exit 3", "n", "a", long).await.is_err_and(|why| why.contains('3')));
        let late = run("sleep 1000", "n", "a", Duration::from_millis(20)).await;
        assert!(late.is_err_and(|why| why.contains("not done")));
    }
}
