//! `quorate lock` and `quorate elect`: run a command while a lock, or leadership, is held.
//!
//! **Problem.** Of several machines one is to do the work, and another one when it fails. Whoever
//! holds the lock must notice when he does no longer, and stop; and what he still does too late,
//! because he stood still or was cut off, must be harmless.
//!
//! **Idea.** The lock is a key under a lease that is kept alive as long as the command runs. It is
//! *lost* when the lease is gone, when the key is gone, or when no keep-alive was answered for so
//! long that the lease may be about to end by the clock of this machine, which counts the time that
//! the machine slept. Then the command is told to end (SIGTERM to its process group) and, after a
//! grace, is ended (SIGKILL). The command finds its *fencing token* in its environment; a write
//! that carries it is refused by the store once somebody else may hold the lock, however late it
//! comes.
//!
//! **Guarantees.** The command is begun only after a quorum has confirmed that the lock is held. At
//! any one time at most one command runs under a lock, as long as its holder's clock runs as fast
//! as the leader's, up to a tenth, and its group ends within that tenth of the lease; the store's
//! fence rests on no clock at all. A member that dies or stands still costs nothing: every question
//! is asked of the other members, and asking again has no further effect.
//!
//! | file | does |
//! |---|---|
//! | `members.rs` | asks one member after the other |
//! | `lease.rs` | keeps the lease alive, and says when it is lost |
//! | `hold.rs` | stands in line, and says when the key is lost |
//! | `command.rs` | the command and its process group |
//!
//! Exit status: that of the command, 128 and its signal's number if one ended it; [`EXIT_LOST`] if
//! the lock was lost, [`EXIT_WAITED`] if it was not had in time; 1 if a member refused, 2 for wrong
//! usage, or if no member was reached.
//!
//! Sources: Burrows, "The Chubby lock service" (2006); Kleppmann, "How to do distributed locking"
//! (2016); etcd `etcdctl/ctlv3/command/{lock,elect}_command.go` (behaviour).

pub(crate) mod command;
mod hold;
pub(crate) mod lease;
pub(crate) mod members;

use crate::client::{self, EndpointsError, Security};
use crate::login::{LoginError, LoginFlags};
use crate::output;
use crate::serve::duration;
use clap::Args;
use command::Group;
use hold::{Hold, Want};
use lease::Lease;
use members::{AskError, Members};
use serde_json::{Value, json};
use std::ffi::OsString;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The lock was lost while the command ran, or while it was held.
pub(crate) const EXIT_LOST: u8 = 76;
/// The lock was not had within `--timeout`. "Temporary failure" of `sysexits.h`.
pub(crate) const EXIT_WAITED: u8 = 75;

/// How long giving the lock back may take; after that its lease has to end.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);

const LOCK_EXAMPLES: &str = "\
Examples:
  quorate lock backup -- ./backup.sh               one machine at a time
  quorate lock backup --timeout 10s -- ./backup.sh or give up after ten seconds
  quorate lock backup                              hold it until Ctrl-C; prints key and token
  quorate lock jobs -- sh -c 'quorate ctl put state done'
                                                   refused by the store if the lock was lost

The command finds QUORATE_LOCK_NAME, QUORATE_LOCK_KEY, QUORATE_FENCING_TOKEN and QUORATE_FENCE
(KEY=TOKEN) in its environment, and ETCD_LOCK_KEY and ETCD_LOCK_REV as with etcdctl.
Exit status: that of the command; 75 the lock was not had in time, 76 it was lost, 1 refused,
2 usage or no endpoint reachable.";

const ELECT_EXAMPLES: &str = "\
Examples:
  quorate elect boss -- ./serve-as-leader.sh       runs while this machine leads
  quorate elect boss 10.0.0.7:8080 -- ./serve.sh   and shows the others an address
  quorate elect boss --observe                     who leads, and who leads next

The command finds QUORATE_LOCK_NAME, QUORATE_LOCK_KEY, QUORATE_FENCING_TOKEN and QUORATE_FENCE
(KEY=TOKEN) in its environment.
Exit status: that of the command; 75 not elected in time, 76 leadership was lost, 1 refused,
2 usage or no endpoint reachable.";

/// What both commands take.
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
    /// Seconds after which others go on when this machine falls silent
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(i64).range(2..=86_400))]
    ttl: i64,
    /// Wait no longer than this for the lock: 0, 500ms, 2s, 5m [default: for ever]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,
    /// Time between SIGTERM and SIGKILL when the lock is lost
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    grace: Duration,
    /// JSON lines instead of text; on standard error if a command is run
    #[arg(long)]
    json: bool,
}

/// The flags of `quorate lock`.
#[derive(Args, Debug)]
#[command(after_help = LOCK_EXAMPLES)]
pub(crate) struct LockOptions {
    /// The lock
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    #[command(flatten)]
    flags: Flags,
    /// What to run while the lock is held [default: nothing; hold it until Ctrl-C]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// The flags of `quorate elect`.
#[derive(Args, Debug)]
#[command(after_help = ELECT_EXAMPLES)]
pub(crate) struct ElectOptions {
    /// The election
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,
    /// What the leader shows to those who observe [default: this machine and process]
    value: Option<String>,
    /// Show who leads and who leads next, and stand for nothing
    #[arg(long, conflicts_with_all = ["value", "command"])]
    observe: bool,
    #[command(flatten)]
    flags: Flags,
    /// What to run while leading [default: nothing; lead until Ctrl-C]
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn time(text: &str) -> Result<Duration, String> {
    duration::parse(text).ok_or_else(|| "write 500ms, 2s or 5m".to_owned())
}

/// Why nothing is held, or nothing more.
#[derive(Debug)]
enum LockError {
    Endpoints(EndpointsError),
    Login(LoginError),
    Ask(AskError),
    /// Not had within this time.
    Waited(Duration),
    Lost(String),
    /// The command could not be begun.
    Command {
        command: OsString,
        error: std::io::Error,
    },
    /// Ended by this signal before there was a command.
    Signalled(i32),
}

impl LockError {
    fn exit_status(&self) -> u8 {
        match self {
            LockError::Ask(AskError::Refused { .. }) => 1,
            LockError::Waited(_) => EXIT_WAITED,
            LockError::Lost(_) => EXIT_LOST,
            LockError::Signalled(signal) => command::status_of_signal(*signal),
            _ => crate::EXIT_USAGE,
        }
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LockError::Endpoints(error) => error.fmt(f),
            LockError::Login(error) => error.fmt(f),
            LockError::Ask(error) => error.fmt(f),
            LockError::Waited(time) => write!(
                f,
                "somebody else holds it, and {time:?} are over; wait longer with --timeout"
            ),
            LockError::Lost(why) => write!(f, "lost: {why}"),
            LockError::Command { command, error } => {
                write!(f, "cannot run {}: {error}", command.display())
            }
            LockError::Signalled(signal) => write!(f, "ended by signal {signal} while waiting"),
        }
    }
}

impl From<AskError> for LockError {
    fn from(error: AskError) -> LockError {
        LockError::Ask(error)
    }
}

/// Does `quorate lock`.
pub(crate) fn run_lock(options: &LockOptions) -> ExitCode {
    let want = Want::Lock { name: options.name.clone() };
    run(&options.flags, &want, &options.command)
}

/// Does `quorate elect`.
pub(crate) fn run_elect(options: &ElectOptions) -> ExitCode {
    if options.observe {
        let observing = async {
            let members = options.flags.members()?;
            let show = |key: &str, value: &str| match options.flags.json {
                true => output::line(json!({ "event": "leader", "key": key, "value": value })),
                false => output::line(format_args!("{key}\n{value}")),
            };
            Ok(members.observe(&options.name, show).await?)
        };
        return ended(&options.flags, false, client::block_on(observing).map(|()| 0));
    }
    let value = options.value.clone().unwrap_or_else(process_name);
    let want = Want::Lead { name: options.name.clone(), value };
    run(&options.flags, &want, &options.command)
}

fn run(flags: &Flags, want: &Want, command: &[OsString]) -> ExitCode {
    let runs = !command.is_empty();
    ended(flags, runs, client::block_on(hold_and_run(flags, want, command)))
}

fn ended(flags: &Flags, runs: bool, ended: Result<u8, LockError>) -> ExitCode {
    let error = match ended {
        Ok(status) => return ExitCode::from(status),
        Err(error) => error,
    };
    let status = error.exit_status();
    match flags.json {
        true => {
            let event = if matches!(error, LockError::Lost(_)) { "lost" } else { "failed" };
            let why = error.to_string();
            tell(runs, &json!({ "event": event, "why": why, "status": status }));
        }
        false => output::complain(error),
    }
    ExitCode::from(status)
}

/// Standard output is the command's, if there is one.
fn tell(runs: bool, event: &Value) {
    if runs { output::note(event) } else { output::line(event) }
}

/// This machine and process, as others would look for it.
fn process_name() -> String {
    let system = rustix::system::uname();
    format!("{}/{}", system.nodename().to_string_lossy(), std::process::id())
}

impl Flags {
    fn members(&self) -> Result<Members, LockError> {
        let endpoints = client::parse_endpoints(&self.endpoints, &self.security)
            .map_err(LockError::Endpoints)?;
        let login = self.login.read().map_err(LockError::Login)?;
        Ok(Members::new(endpoints, login))
    }
}

async fn hold_and_run(flags: &Flags, want: &Want, command: &[OsString]) -> Result<u8, LockError> {
    let members = flags.members()?;
    let mut signals = Signals::new();
    let lease = Lease::grant(&members, flags.ttl).await?;
    let ran = held_under(flags, want, command, &members, &lease, &mut signals).await;
    let released = tokio::time::timeout(RELEASE_WITHIN, lease.revoke(&members)).await;
    let was_lost = matches!(ran, Err(LockError::Lost(_)));
    if !was_lost && !matches!(released, Ok(Ok(()))) {
        let ttl = flags.ttl;
        output::complain(format_args!("could not give it back; it ends within {ttl} s"));
    }
    ran
}

async fn held_under(
    flags: &Flags,
    want: &Want,
    command: &[OsString],
    members: &Members,
    lease: &Lease,
    signals: &mut Signals,
) -> Result<u8, LockError> {
    let lost = lease.keep_alive(members);
    tokio::pin!(lost);
    let patience = async {
        match flags.timeout {
            Some(time) => {
                tokio::time::sleep(time.max(hold::LEAST_PATIENCE)).await;
                time
            }
            None => std::future::pending().await,
        }
    };
    let hold = tokio::select! {
        hold = Hold::stand_in_line(members, want, lease.id()) => hold?,
        why = &mut lost => return Err(LockError::Lost(why)),
        time = patience => return Err(LockError::Waited(time)),
        signal = signals.any() => return Err(LockError::Signalled(signal)),
    };
    let runs = !command.is_empty();
    if flags.json {
        tell(runs, &hold.json(lease.id()));
    } else if !runs {
        output::line(&hold);
    }
    let gone = async {
        tokio::select! {
            why = &mut lost => why,
            why = hold.watch(members) => why,
        }
    };
    tokio::pin!(gone);
    let Some((program, arguments)) = command.split_first() else {
        return tokio::select! {
            why = &mut gone => Err(LockError::Lost(why)),
            _ = signals.any() => Ok(0),
        };
    };
    let mut group = Group::start(program, arguments, hold.environment(want))
        .map_err(|error| LockError::Command { command: program.clone(), error })?;
    let status = loop {
        tokio::select! {
            status = group.ended() => break status,
            why = &mut gone => {
                group.end(flags.grace).await;
                return Err(LockError::Lost(why));
            }
            signal = signals.any() => group.pass_on(signal),
        }
    };
    if flags.json {
        tell(runs, &json!({ "event": "done", "status": status }));
    }
    Ok(status)
}

/// The signals that ask us to end.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> Signals {
        let listen = |kind| signal(kind).expect("the system lets a process hear its signals");
        Signals {
            interrupt: listen(SignalKind::interrupt()),
            terminate: listen(SignalKind::terminate()),
            hangup: listen(SignalKind::hangup()),
        }
    }

    /// Waits for the next one; its number.
    pub(crate) async fn any(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt().as_raw_value(),
            _ = self.terminate.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.hangup.recv() => SignalKind::hangup().as_raw_value(),
        }
    }
}
