//! `quorate up`: a whole local cluster of real processes, kept alive.
//!
//! The members are this very program's `serve`, started with etcd's flags on 127.0.0.1, so what is
//! tried here is what runs elsewhere. What they remember stays in one directory, and the next `up`
//! continues with it. If `up` is killed, its members notice and stop (`parent.rs`).
//!
//! | file | question |
//! |---|---|
//! | `plan.rs` | which members, which ports, which flags |
//! | `directory.rs` | whose directory is it, is it in use, what may be deleted |
//! | `security.rs` | which certificates, if it is served over TLS |
//! | `restarts.rs` | when is a stopped member started again, when is somebody told |
//! | `leadership.rs` | who leads |
//! | `process.rs`, `supervisor.rs` | the effects of all that |

mod directory;
mod error;
mod leadership;
mod plan;
mod process;
mod report;
mod restarts;
mod security;
mod supervisor;

use crate::output;
use clap::Args;
use directory::{Directory, Start, Wanted};
use error::UpError;
use plan::{Member, NODES_MAX, Plan, Transport};
use process::Program;
use report::{Reporter, Style};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use supervisor::Ending;

/// Members of a supervisor that was killed need a moment to notice and free their ports.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  quorate up                               three members: ports 2379, 2389, 2399
  quorate up --nodes 1                     one member
  quorate up --nodes 5 --port-base 12379 --data /tmp/five
  quorate up --fresh                       forget what was there
  quorate up --tls                         over TLS, with certificates that it makes
  quorate up --json | jq .event            for programs

Member i serves clients on PORT-BASE + 10 (i-1) and peers on the port after it. Run it again with
the same --data to continue. Exit status: 0 stopped in order, 1 a member had to be killed, 2 could
not start.";

/// The flags of `quorate up`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Number of members [default: 3, or as before]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_MAX)))]
    nodes: Option<u16>,
    /// Directory of the cluster
    #[arg(long, value_name = "DIR", default_value = "./quorate-data")]
    data: PathBuf,
    /// Client port of the first member [default: 2379, or as before]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port_base: Option<u16>,
    /// Delete the data of an earlier cluster in this directory first
    #[arg(long)]
    fresh: bool,
    /// Serve over TLS, with a CA and certificates in the directory; kept when it continues
    #[arg(long)]
    tls: bool,
    /// One JSON object per line instead of text
    #[arg(long)]
    json: bool,
    /// Run another server that has etcd's flags as the members, to compare; it will outlive a
    /// supervisor that is killed
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// Runs the cluster until it is stopped.
pub(crate) fn run(options: Options) -> ExitCode {
    match start(options) {
        Ok(Ending::Orderly) => ExitCode::SUCCESS,
        Ok(Ending::Forced) => ExitCode::from(1),
        Err(error) => {
            output::complain(error);
            ExitCode::from(crate::EXIT_USAGE)
        }
    }
}

fn start(options: Options) -> Result<Ending, UpError> {
    let wanted = Wanted {
        nodes: options.nodes,
        port_base: options.port_base,
        transport: options.tls.then_some(Transport::Tls),
        start: if options.fresh { Start::Fresh } else { Start::Continue },
    };
    let program = match options.program {
        Some(path) => Program::Other(path),
        None => {
            let what = "find this program";
            let path = std::env::current_exe();
            Program::Ourselves(path.map_err(|error| UpError::System { what, error })?)
        }
    };
    let directory = Directory::open(&options.data, wanted)?;
    let members = directory.plan.members();
    let patience = if directory.continued { PORT_PATIENCE } else { Duration::ZERO };
    free_ports(&directory.plan, &members, patience)?;
    let style = if options.json { Style::Json } else { Style::Text };
    let reporter = Reporter::new(style, &members);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| UpError::System { what: "start a runtime", error })?;
    runtime.block_on(supervisor::supervise(&directory, &program, &reporter))
}

/// Errors: a port stays in use by somebody else for longer than `patience`.
fn free_ports(plan: &Plan, members: &[Member], patience: Duration) -> Result<(), UpError> {
    let deadline = Instant::now() + patience;
    for member in members {
        for port in [member.client_port, member.peer_port] {
            while let Err(error) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
                if !in_use || Instant::now() >= deadline {
                    let member = member.name.clone();
                    return Err(UpError::PortBusy { port, member, error, advice: advice(plan) });
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
    Ok(())
}

/// What to do about a busy port: other ports that are free right now, if there are.
fn advice(plan: &Plan) -> String {
    let free = |base: &u16| {
        let other = Plan { port_base: *base, ..plan.clone() };
        let ports = |m: &Member| [m.client_port, m.peer_port];
        let bindable = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        other.fits() && other.members().iter().flat_map(ports).all(bindable)
    };
    let base = [12_379, 22_379, 32_379, 42_379].into_iter().find(free);
    match base {
        Some(base) => format!(
            "stop what listens there, or use other ports: --port-base {base} (with --fresh, or \
             another --data, if the cluster exists already)"
        ),
        None => "stop what listens there, or use other ports with --port-base".to_owned(),
    }
}
