//! A member that must not outlive its supervisor.
//!
//! `quorate up` holds the writing end of each member's standard input and never writes. When the
//! supervisor dies, however it dies, the kernel closes the pipe and the member reads the end of it.
//! (The alternative, `PR_SET_PDEATHSIG`, needs unsafe code and follows threads, not processes.)

use rustix::process::{Signal, getpid, kill_process};
use std::io::{ErrorKind, Read};
use std::time::Duration;

/// Set by `quorate up` for its members.
pub(crate) const VARIABLE: &str = "QUORATE_EXIT_WITH_PARENT";

/// How long a member may take to stop in order once its supervisor is gone.
const GRACE: Duration = Duration::from_secs(10);

/// Stops this process in order when its standard input ends, if the supervisor asked for it.
pub(crate) fn watch() {
    if std::env::var_os(VARIABLE).is_none() {
        return;
    }
    let watcher = std::thread::Builder::new().name("parent".to_owned());
    watcher.spawn(stop_at_end_of_input).expect("a process that starts can start a thread");
}

fn stop_at_end_of_input() {
    let mut byte = [0; 64];
    loop {
        match std::io::stdin().read(&mut byte) {
            Ok(0) => break,
            Ok(_) => {}
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
