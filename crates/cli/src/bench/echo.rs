//! A bare gRPC server beside the clusters, in a process of its own.
//!
//! The child is this binary again; it tells its port in the first line it prints, and ends with
//! its standard input, so that it cannot outlive us.

use crate::output;
use crate::parent;
use quorate_server::url::Url;
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};

/// A running echo server.
#[derive(Debug)]
pub(super) struct EchoServer {
    child: Child,
    /// Where it serves.
    pub(super) endpoint: Url,
}

impl EchoServer {
    /// Starts it.
    ///
    /// Errors: this program cannot be started again.
    pub(super) fn start() -> io::Result<EchoServer> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["bench", "echo-server"])
            .env(parent::VARIABLE, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().expect("it was asked for");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let endpoint = format!("http://127.0.0.1:{}", line.trim()).parse();
        let endpoint = endpoint.map_err(|_| io::Error::other("it did not tell its port"))?;
        Ok(EchoServer { child, endpoint })
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
    }
}

/// What the child does.
pub(super) fn serve() -> ExitCode {
    parent::watch(None);
    match quorate_server::echo::run(output::line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(error);
            ExitCode::from(crate::EXIT_USAGE)
        }
    }
}
