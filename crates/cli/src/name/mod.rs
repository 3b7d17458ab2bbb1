//! `quorate name`: what is where, as long as it is there.
//!
//! **Problem.** Services are started, moved and killed, and their clients must find those that are
//! alive: soon after they come, and not for long after they are gone.
//!
//! **Idea.** Beside each service runs its *registrar*, which keeps a lease alive, and under it a
//! key for each instance. When the registrar falls silent the lease ends, and with it the keys; as
//! long as the service's check fails, its instance is *withdrawn*: moved to where clients do not
//! look. `quorate_server::naming` tells how all that is laid out; clients of etcd that know its
//! naming read and write the same.
//!
//! **Guarantees.** An instance that is listed was kept alive within the last `--ttl` by the clock
//! of the leader. A command outlives its registration: a service does not die because its cluster
//! cannot be reached, it is registered again when it can. Of two registrars of one address the
//! later one has it, and the other says so and leaves it alone.
//!
//! | file | does |
//! |---|---|
//! | `register.rs` | `register`: the lease, the command, what is told |
//! | `claim.rs` | the keys of one instance, changed only if they are as they were read |
//! | `check.rs` | whether an instance is healthy |
//! | `look.rs` | reads the instances of a name |
//! | `show.rs` | `resolve` and `list` |
//! | `follow.rs` | `watch` |
//!
//! Exit status: 0 done; 1 there is nothing, or a member refused; 2 usage, or nobody was reached;
//! of `register` that of the command, or 76 if another registrar took everything over.

mod check;
mod claim;
mod follow;
mod look;
mod register;
mod show;

use crate::client::{self, EndpointsError, Security};
use crate::lock::members::{AskError, Members};
use crate::login::{LoginError, LoginFlags};
use crate::output;
use clap::{Args, Subcommand};
use quorate_server::naming::{Directory, Name, NameError, PREFIX_DEFAULT};
use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;

/// Everything was taken over by another registrar; also of `quorate lock`.
const EXIT_REPLACED: u8 = crate::lock::EXIT_LOST;

const EXAMPLES: &str = "\
Examples:
  quorate name register web 10.0.0.1:80 --check tcp     listed while the port answers
  quorate name register web 10.0.0.1:80 -- ./serve.sh   listed while the command runs
  quorate name resolve web                              who is healthy
  quorate name watch web --json                         who comes and goes
  quorate name list                                     all names

A member with --listen-dns answers for the same names: dig web.quorate SRV.";

/// The flags of `quorate name`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register addresses under a name for as long as they are healthy
    Register(Box<register::Register>),
    /// Show where a name is
    Resolve(show::Resolve),
    /// Show who comes and goes
    Watch(follow::Watch),
    /// Show all names
    List(show::List),
}

/// What all of them take.
#[derive(Args, Debug)]
struct Flags {
    /// Whom to ask, in this order; name all members, so that one of them may fail
    #[arg(long, value_name = "HOST:PORT,..", default_value = client::ENDPOINTS_DEFAULT)]
    #[arg(env = "ETCDCTL_ENDPOINTS", hide_env = true)]
    endpoints: String,
    #[command(flatten)]
    security: Security,
    #[command(flatten)]
    login: LoginFlags,
    /// Prefix of the keys of all names; '' for what clients of etcd keep at the root
    #[arg(long, value_name = "PREFIX", default_value = PREFIX_DEFAULT)]
    prefix: String,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

/// Why it was not done.
#[derive(Debug)]
enum Failure {
    Endpoints(EndpointsError),
    Login(LoginError),
    Ask(AskError),
    /// What was given is no name.
    Name {
        text: String,
        error: NameError,
    },
    /// What was given is no address.
    Address(String),
    /// The same address twice.
    Twice(String),
    /// What was given to `--metadata` is no JSON.
    Metadata(serde_json::Error),
    /// What was given to `--check` cannot be done.
    Check(check::CheckError),
    /// The command could not be begun.
    Command {
        command: OsString,
        error: std::io::Error,
    },
    /// Another registrar has all the addresses now.
    Replaced,
}

impl Failure {
    fn exit_status(&self) -> u8 {
        match self {
            Failure::Ask(AskError::Refused { .. }) => 1,
            Failure::Replaced => EXIT_REPLACED,
            _ => crate::EXIT_USAGE,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Endpoints(error) => error.fmt(f),
            Failure::Login(error) => error.fmt(f),
            Failure::Ask(error) => error.fmt(f),
            Failure::Name { text, error } => write!(f, "{text:?} is no name: {error}"),
            Failure::Address(text) => write!(
                f,
                "{text:?} is no address; write 10.0.0.1:80, [fd00::1]:80 or host:80, or give the \
                 port with --port"
            ),
            Failure::Twice(text) => write!(f, "{text} is given twice; give it once"),
            Failure::Metadata(error) => {
                write!(f, "--metadata is no JSON: {error}; text goes in quotes, as in '\"text\"'")
            }
            Failure::Check(error) => write!(f, "--check: {error}"),
            Failure::Command { command, error } => {
                write!(f, "cannot run {}: {error}", command.display())
            }
            Failure::Replaced => {
                f.write_str("replaced: another registrar has registered the same; stop one of them")
            }
        }
    }
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Failure {
        Failure::Ask(error)
    }
}

impl Flags {
    fn members(&self) -> Result<Members, Failure> {
        let endpoints =
            client::parse_endpoints(&self.endpoints, &self.security).map_err(Failure::Endpoints)?;
        let login = self.login.read().map_err(Failure::Login)?;
        Ok(Members::new(endpoints, login))
    }

    fn directory(&self) -> Directory {
        Directory::at(&self.prefix)
    }
}

/// A name that may be asked for: ours in small letters, one of other clients as it is.
fn asked(text: &str) -> Result<String, Failure> {
    match Name::parse(text.trim_end_matches('/')) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(NameError::Character('/')) => Ok(text.trim_end_matches('/').to_owned()),
        Err(error) => Err(Failure::Name { text: text.to_owned(), error }),
    }
}

/// Does it.
pub(crate) fn run(options: &Options) -> ExitCode {
    let (json, done) = match &options.action {
        Action::Register(register) => (register.flags.json, register::run(register)),
        Action::Resolve(resolve) => (resolve.flags.json, show::resolve(resolve)),
        Action::Watch(watch) => (watch.flags.json, follow::run(watch)),
        Action::List(list) => (list.flags.json, show::list(list)),
    };
    let status = done.unwrap_or_else(|failure| {
        let status = failure.exit_status();
        match json {
            true => {
                let why = failure.to_string();
                let told = serde_json::json!({ "event": "failed", "why": why, "status": status });
                output::note(told);
            }
            false => output::complain(&failure),
        }
        status
    });
    ExitCode::from(status)
}
