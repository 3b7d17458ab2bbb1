//! One member as a child process.

use crate::EXIT_REMOVED;
use crate::parent;
use crate::up::directory::Directory;
use crate::up::error::UpError;
use crate::up::plan::Member;
use crate::up::restarts::Restarts;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much of a log is read to find its last line.
const LOG_TAIL_BYTES: u64 = 4 << 10;

/// What runs as a member.
#[derive(Debug)]
pub(super) enum Program {
    /// This program's `serve`.
    Ourselves(PathBuf),
    /// Another server that understands etcd's flags.
    Other(PathBuf),
}

/// One member, running or waiting to be started again.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) member: Member,
    restarts: Restarts,
    state: State,
}

#[derive(Debug)]
enum State {
    /// The child's standard input stays open as long as we live; see `parent.rs`.
    Running {
        child: Child,
        since: Instant,
    },
    Waiting {
        until: Instant,
    },
    /// It was removed from the cluster, and is not started again.
    Left,
}

/// What became of a member since it was last looked at.
#[derive(Debug)]
pub(super) enum News {
    /// It stopped and will be started again after `again_in`.
    Stopped { how: String, again_in: Duration, crash_loop_begins: bool },
    /// It stopped because it was removed from the cluster: that is for good.
    Left,
    /// It could not be started; the same holds.
    SpawnFailed { error: String, crash_loop_begins: bool },
}

impl Process {
    /// Starts a member for the first time.
    pub(super) fn start(
        member: Member,
        program: &Program,
        directory: &Directory,
    ) -> Result<Process, UpError> {
        let child = spawn(&member, program, directory)?;
        let state = State::Running { child, since: Instant::now() };
        Ok(Process { member, restarts: Restarts::new(), state })
    }

    /// Looks after it: notices that it stopped, starts it again when it is time.
    pub(super) fn tend(&mut self, program: &Program, directory: &Directory) -> Option<News> {
        let now = Instant::now();
        match &mut self.state {
            State::Running { child, since } => {
                let how = match child.try_wait() {
                    Ok(None) => return None,
                    Ok(Some(status)) if status.code() == Some(i32::from(EXIT_REMOVED)) => {
                        self.state = State::Left;
                        return Some(News::Left);
                    }
                    Ok(Some(status)) => describe(status),
                    Err(error) => error.to_string(),
                };
                let verdict = self.restarts.crashed(*since, now);
                self.state = State::Waiting { until: now + verdict.delay };
                let crash_loop_begins = verdict.crash_loop_begins;
                Some(News::Stopped { how, again_in: verdict.delay, crash_loop_begins })
            }
            State::Waiting { until } if *until <= now => {
                match spawn(&self.member, program, directory) {
                    Ok(child) => {
                        self.state = State::Running { child, since: now };
                        None
                    }
                    Err(error) => {
                        let verdict = self.restarts.crashed(now, now);
                        self.state = State::Waiting { until: now + verdict.delay };
                        let crash_loop_begins = verdict.crash_loop_begins;
                        Some(News::SpawnFailed { error: error.to_string(), crash_loop_begins })
                    }
                }
            }
            State::Waiting { .. } | State::Left => None,
        }
    }

    /// Tells it that the process of another member has ended. If it does not read, it will know
    /// from the other's silence.
    pub(super) fn notify(&mut self, line: &str) {
        let State::Running { child, .. } = &mut self.state else { return };
        let Some(stdin) = &mut child.stdin else { return };
        // A line is shorter than what a pipe takes whole or not at all.
        let _ = stdin.write(line.as_bytes());
    }

    /// Asks it to stop in order.
    pub(super) fn terminate(&self) {
        if let State::Running { child, .. } = &self.state {
            // An error means that it has already stopped.
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        }
    }

    /// True if it has stopped.
    pub(super) fn has_stopped(&mut self) -> bool {
        match &mut self.state {
            State::Running { child, .. } => !matches!(child.try_wait(), Ok(None)),
            State::Waiting { .. } | State::Left => true,
        }
    }

    /// Ends it at once and waits for that.
    pub(super) fn kill(&mut self) {
        if let State::Running { child, .. } = &mut self.state {
            // Errors mean that it has already stopped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn spawn(member: &Member, program: &Program, directory: &Directory) -> Result<Child, UpError> {
    let log = directory.open_log(&member.name)?;
    let spawn_error = |error| UpError::Spawn { member: member.name.clone(), error };
    let log_too = log.try_clone().map_err(spawn_error)?;
    let mut command = match program {
        Program::Ourselves(path) => {
            let mut command = Command::new(path);
            command.arg("serve");
            command
        }
        Program::Other(path) => Command::new(path),
    };
    // Settings of the caller's own etcd must not reach our members.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ETCD_") {
            command.env_remove(name);
        }
    }
    let child = command
        .args(directory.plan.flags(member, &directory.path))
        .env(parent::VARIABLE, "1")
        .stdin(Stdio::piped())
        .stdout(log_too)
        .stderr(log)
        // Ctrl-C is for us alone: we stop the members, and do not take it for a crash.
        .process_group(0)
        .spawn()
        .map_err(spawn_error)?;
    if let Some(stdin) = &child.stdin {
        // A member that stands still must not make us wait.
        let flags = fcntl_getfl(stdin).map_err(|error| spawn_error(error.into()))?;
        let set = fcntl_setfl(stdin, flags | OFlags::NONBLOCK);
        set.map_err(|error| spawn_error(error.into()))?;
    }
    Ok(child)
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The last line of a log that is not empty, for an error message.
pub(super) fn last_line(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let end = file.seek(SeekFrom::End(0))?;
        file.seek(SeekFrom::Start(end.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.read_to_end(&mut tail)?;
        Ok::<_, std::io::Error>(tail)
    };
    let tail = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("(nothing)").to_owned()
}
