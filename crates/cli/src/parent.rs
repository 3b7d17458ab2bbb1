//! A member and its supervisor: it must not outlive it, and is told by it of others that ended.
//!
//! `quorate up` holds the writing end of each member's standard input. When the supervisor dies,
//! however it dies, the kernel closes the pipe and the member reads the end of it. (The
//! alternative, `PR_SET_PDEATHSIG`, needs unsafe code and follows threads, not processes.)
//!
//! What the supervisor writes there are exit notices, a line each:
//!
//! ```text
//!    exited NAME NANOSECONDS       the process of member NAME has ended, so long after the start
//!                                  of the machine
//! ```
//!
//! Nobody else holds that end, so a notice needs no signature; and whoever gets at it can have a
//! member ask for an election too early, and no more. A line that is none is passed over.

use quorate_server::{ExitNotice, Supervisor};
use rustix::process::{Signal, getpid, kill_process};
use std::io::{ErrorKind, Read};
use std::time::Duration;

/// Set by `quorate up` for its members.
pub(crate) const VARIABLE: &str = "QUORATE_EXIT_WITH_PARENT";

/// How long a member may take to stop in order once its supervisor is gone.
const GRACE: Duration = Duration::from_secs(10);
/// A line that is longer is none. Unit: bytes.
const LINE_MAX: usize = 512;

/// Stops this process in order when its standard input ends, if the supervisor asked for it, and
/// passes on what comes there before.
pub(crate) fn watch(supervisor: Option<Supervisor>) {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let watcher = std::thread::Builder::new().name("parent".to_owned());
    let watched = watcher.spawn(move || stop_at_end_of_input(supervisor.as_ref()));
    watched.expect("a process that starts can start a thread");
}

/// The line that tells of an exit.
pub(crate) fn notice_line(member: &str) -> String {
    format!("exited {member} {}\n", Supervisor::now().as_nanos())
}

fn stop_at_end_of_input(supervisor: Option<&Supervisor>) {
    let (mut bytes, mut lines) = ([0; 512], Lines::default());
    loop {
        match std::io::stdin().read(&mut bytes) {
            Ok(0) => break,
            Ok(count) => {
                for notice in lines.take(&bytes[..count]) {
                    supervisor.iter().for_each(|supervisor| supervisor.tell(notice.clone()));
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    tracing::warn!("the supervisor is gone, stopping");
    // The same signal as an operator's, so that there is one way to stop.
    let _ = kill_process(getpid(), Signal::TERM);
    std::thread::sleep(GRACE);
    std::process::exit(1);
}

/// Notices out of pieces of a stream.
#[derive(Debug, Default)]
struct Lines {
    /// The line that has begun; beyond [`LINE_MAX`] nothing of it is kept.
    begun: Vec<u8>,
}

impl Lines {
    fn take(&mut self, bytes: &[u8]) -> Vec<ExitNotice> {
        let mut notices = Vec::new();
        for byte in bytes {
            match byte {
                b'\n' => notices.extend(notice(&std::mem::take(&mut self.begun))),
                // One byte more than is allowed stays, so that the line is known as too long.
                _ if self.begun.len() > LINE_MAX => {}
                _ => self.begun.push(*byte),
            }
        }
        notices
    }
}

fn notice(line: &[u8]) -> Option<ExitNotice> {
    let text = std::str::from_utf8(line).ok().filter(|text| text.len() <= LINE_MAX)?;
    let (member, at) = text.strip_prefix("exited ")?.rsplit_once(' ')?;
    let at = Duration::from_nanos(at.parse().ok()?);
    Some(ExitNotice { member: member.to_owned(), at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_survive_any_split_and_nonsense_between() {
        let long = "x".repeat(LINE_MAX + 1);
        let text = format!("exited n2 17\nhello\nexited\nexited n3 soon\n{long}\n\nexited a b 5\n");
        let wanted = [("n2", 17), ("a b", 5)].map(|(member, nanos)| ExitNotice {
            member: member.to_owned(),
            at: Duration::from_nanos(nanos),
        });
        for piece in [1, 2, 7, 1_000] {
            let mut lines = Lines::default();
            let told: Vec<_> =
                text.as_bytes().chunks(piece).flat_map(|bytes| lines.take(bytes)).collect();
            assert_eq!(told, wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let before = Supervisor::now();
        let notices = Lines::default().take(notice_line("n1").as_bytes());
        assert!(notices[0].member == "n1" && notices[0].at >= before, "{notices:?}");
    }
}
