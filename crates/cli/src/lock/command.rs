//! The command, and everything that it starts: one process group.

use rustix::process::{Pid, Signal, kill_process_group};
use rustix::termios::tcsetpgrp;
use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// How often a group that was told to end is looked at.
const GLANCE: Duration = Duration::from_millis(10);

/// A running command.
#[derive(Debug)]
pub(crate) struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    /// Starts it in a process group of its own, which gets the terminal if there is one.
    pub(crate) fn start(
        program: &OsString,
        arguments: &[OsString],
        environment: Vec<(&'static str, String)>,
    ) -> io::Result<Group> {
        let child =
            Command::new(program).args(arguments).envs(environment).process_group(0).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(id as i32));
        let stdin = io::stdin();
        if let Some(leader) = leader
            && stdin.is_terminal()
        {
            // Without it a command that reads from the terminal would be stopped; if it is not to
            // be had, that is all that happens.
            let _ = tcsetpgrp(&stdin, leader);
        }
        Ok(Group { child, leader })
    }

    /// Waits until the command has ended; its exit status, as a shell would tell it.
    pub(crate) async fn ended(&mut self) -> u8 {
        status(self.child.wait().await)
    }

    /// Sends a signal to everybody in the group.
    pub(crate) fn pass_on(&self, signal: i32) {
        if let Some(signal) = Signal::from_named_raw(signal) {
            self.signal(signal);
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // It may have ended.
            let _ = kill_process_group(leader, signal);
        }
    }

    /// Ends everybody in the group: SIGTERM, and SIGKILL for who is left after the grace. Returns
    /// when the command has ended and nobody is left.
    pub(crate) async fn end(&mut self, grace: Duration) {
        self.signal(Signal::TERM);
        // Who was stopped would not hear it.
        self.signal(Signal::CONT);
        let until = Instant::now() + grace;
        let _ = timeout(grace, self.child.wait()).await;
        while Instant::now() < until && self.is_anybody_left() {
            sleep(GLANCE).await;
        }
        self.signal(Signal::KILL);
        let _ = self.child.wait().await;
    }

    fn is_anybody_left(&self) -> bool {
        self.leader.is_some_and(|leader| rustix::process::test_kill_process_group(leader).is_ok())
    }
}

fn status(ended: io::Result<ExitStatus>) -> u8 {
    match ended {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
            (None, Some(signal)) => status_of_signal(signal),
            (None, None) => u8::MAX,
        },
        Err(_) => u8::MAX, // Somebody else has reaped it.
    }
}

/// 128 and the number of the signal, as shells have it.
pub(crate) fn status_of_signal(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
