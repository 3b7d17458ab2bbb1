//! Three members as processes of their own, in a directory that goes with them.

use super::{FailoverError, SERVES_WITHIN, failed};
use crate::client::{self, Endpoint};
use crate::parent;
use quorate_server::url::Url;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many.
const MEMBERS: usize = 3;
/// Between two questions whether a member serves.
const ASK_EVERY: Duration = Duration::from_millis(20);
/// A member that does not answer such a question in time is asked again.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// What runs as a member.
#[derive(Clone, Debug)]
pub(super) struct Program {
    path: PathBuf,
    first: Vec<String>,
}

impl Program {
    /// This program's `serve`, with these flags.
    pub(super) fn ours(flags: &[String]) -> Result<Program, FailoverError> {
        let path = std::env::current_exe();
        let path = path.map_err(|error| failed("this program cannot be found", error))?;
        let first = std::iter::once("serve".to_owned()).chain(flags.iter().cloned()).collect();
        Ok(Program { path, first })
    }

    /// Another server with etcd's flags.
    pub(super) fn other(path: &Path) -> Program {
        Program { path: path.to_owned(), first: Vec::new() }
    }
}

/// The members of a cluster.
#[derive(Debug)]
pub(super) struct Members {
    program: Program,
    directory: PathBuf,
    endpoints: Vec<Url>,
    peers: Vec<Url>,
    children: [Option<Child>; MEMBERS],
}

impl Members {
    /// None runs yet.
    pub(super) fn new(program: Program) -> Result<Members, FailoverError> {
        let name = program.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let directory = format!("quorate-failover-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(directory);
        let made = fs::create_dir_all(&directory);
        made.map_err(|error| failed(&directory.display().to_string(), error))?;
        let mut urls = free_urls(2 * MEMBERS)?;
        let peers = urls.split_off(MEMBERS);
        Ok(Members { program, directory, endpoints: urls, peers, children: Default::default() })
    }

    /// Where clients are served.
    pub(super) fn endpoints(&self) -> &[Url] {
        &self.endpoints
    }

    /// Starts all, and waits until they serve.
    pub(super) async fn start_all(&mut self) -> Result<(), FailoverError> {
        (0..MEMBERS).try_for_each(|member| self.start(member))?;
        for member in 0..MEMBERS {
            self.await_service(member).await?;
        }
        Ok(())
    }

    /// Starts one that does not run.
    pub(super) fn start(&mut self, member: usize) -> Result<(), FailoverError> {
        let what = |error| failed(&self.program.path.display().to_string(), error);
        let log = File::options().create(true).append(true).open(self.log(member)).map_err(what)?;
        let (client, peer) = (&self.endpoints[member], &self.peers[member]);
        let all: Vec<String> =
            self.peers.iter().enumerate().map(|(at, url)| format!("m{at}={url}")).collect();
        let child = Command::new(&self.program.path)
            .args(&self.program.first)
            .args(["--name", &format!("m{member}")])
            .arg("--data-dir")
            .arg(self.directory.join(format!("m{member}")))
            .args(["--listen-client-urls", &client.to_string()])
            .args(["--advertise-client-urls", &client.to_string()])
            .args(["--listen-peer-urls", &peer.to_string()])
            .args(["--initial-advertise-peer-urls", &peer.to_string()])
            .args(["--initial-cluster", &all.join(",")])
            .env(parent::VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().map_err(what)?)
            .stderr(log)
            .spawn()
            .map_err(what)?;
        self.children[member] = Some(child);
        Ok(())
    }

    /// Who leads, and in which term.
    pub(super) async fn leader(&self) -> Result<(usize, u64), FailoverError> {
        let began = Instant::now();
        while began.elapsed() < SERVES_WITHIN {
            for (member, url) in self.endpoints.iter().enumerate() {
                let status = client::status(
                    &client::channel(&Endpoint::of(url.clone(), None)),
                    ANSWER_WITHIN,
                )
                .await;
                if let Ok(status) = status
                    && status.header.as_ref().is_some_and(|it| it.member_id == status.leader)
                {
                    return Ok((member, status.raft_term));
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Err(FailoverError::Mute { name: "a leader".to_owned(), log: self.directory.clone() })
    }

    /// Waits until a member knows a leader and has caught up with it.
    pub(super) async fn await_service(&mut self, member: usize) -> Result<(), FailoverError> {
        let began = Instant::now();
        let channel = client::channel(&Endpoint::of(self.endpoints[member].clone(), None));
        while began.elapsed() < SERVES_WITHIN {
            let child = self.children[member].as_mut();
            if let Some(Ok(Some(_))) = child.map(Child::try_wait) {
                let said = fs::read_to_string(self.log(member)).unwrap_or_default();
                let last = said.lines().last().unwrap_or("it said nothing").to_owned();
                return Err(FailoverError::Ended { name: format!("m{member}"), last });
            }
            let status = client::status(&channel, ANSWER_WITHIN).await;
            if let Ok(status) = status
                && status.leader != 0
                && status.raft_applied_index >= status.raft_index
            {
                return Ok(());
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Err(FailoverError::Mute { name: format!("m{member}"), log: self.log(member) })
    }

    /// SIGKILL, and waits for the end.
    pub(super) fn kill(&mut self, member: usize) -> Result<(), FailoverError> {
        let Some(mut child) = self.children[member].take() else { return Ok(()) };
        child.kill().map_err(|error| failed("cannot kill a member", error))?;
        child.wait().map_err(|error| failed("cannot wait for a member", error))?;
        Ok(())
    }

    /// SIGSTOP.
    pub(super) fn stop(&self, member: usize) -> Result<(), FailoverError> {
        self.signal(member, Signal::STOP)
    }

    /// SIGCONT.
    pub(super) fn go_on(&self, member: usize) -> Result<(), FailoverError> {
        self.signal(member, Signal::CONT)
    }

    fn signal(&self, member: usize, signal: Signal) -> Result<(), FailoverError> {
        let Some(child) = &self.children[member] else { return Ok(()) };
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let sent = pid.map_or(Ok(()), |pid| kill_process(pid, signal));
        sent.map_err(|error| failed("cannot signal a member", error.into()))
    }

    fn log(&self, member: usize) -> PathBuf {
        self.directory.join(format!("m{member}.log"))
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill(); // it may have ended by itself
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Ports that nobody uses at this moment.
fn free_urls(count: usize) -> Result<Vec<Url>, FailoverError> {
    let bind = |_| TcpListener::bind(("127.0.0.1", 0));
    let bound: io::Result<Vec<TcpListener>> = (0..count).map(bind).collect();
    let bound = bound.map_err(|error| failed("no free port", error))?;
    let address = |listener: &TcpListener| listener.local_addr();
    let addresses: io::Result<Vec<_>> = bound.iter().map(address).collect();
    let addresses = addresses.map_err(|error| failed("no free port", error))?;
    let url = |address| format!("http://{address}").parse().expect("an address is a URL");
    Ok(addresses.into_iter().map(url).collect())
}
