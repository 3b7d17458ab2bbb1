//! One binary, `quorate`: the key to the house.
//!
//! | command | file |
//! |---|---|
//! | `serve` | `serve/`: one member, with etcd's flags, variables and file |
//! | `up` | `up/`: a whole local cluster of real processes |
//! | `status` | `status.rs`: who leads, who lags |
//! | `guarantees` | `guarantees.rs`: what is promised right now, and by what |
//! | `scrub` | `scrub.rs`: members read their disks again |
//! | `time` | `time.rs`: what time the members take it to be, and who disagrees |
//! | `ctl` | `ctl/`: keys and values |
//! | `member` `limit` | `ctl/`: who the members are; what users and prefixes may take |
//! | `lock` `elect` | `lock/`: run a command while a lock, or leadership, is held |
//! | `name` | `name/`: who is where, as long as he is there
//! | `bench` | `bench/`: how fast a cluster is, if its answers are right |
//! | `sim` | `sim/`: what can go wrong, in a simulated system |
//! | `verify` | `verify.rs`: whether the data directory of a stopped member is whole |
//! | `check` | `check/`: whether what clients saw keeps the promise |
//! | `snapshot` `backup` `restore` `export` `import` | `backup/`: copies of everything, and clusters made of them |
//! | `audit` | `audit.rs`: whether somebody has changed an audit log |
//! | `pki` | `pki.rs`: a CA, and certificates for members and clients |
//! | `fd` | `fd/`: how good failure detectors are, and how to set them |
//! | `man` | `man.rs`: a manual page for every command |
//!
//! Exit status: 0 done, 1 not so (no quorum, not found), 2 usage or environment.

mod audit;
mod backup;
mod bench;
mod check;
mod client;
mod ctl;
mod fd;
mod guarantees;
mod input;
mod lock;
mod logging;
mod login;
mod man;
mod name;
mod nearest;
mod neighbours;
mod output;
mod parent;
mod pki;
mod retry;
mod scrub;
mod serve;
mod sim;
mod status;
mod time;
mod up;
mod verify;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use quorate_server::{RunError, Supervisor};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  quorate up                              three members on this machine, kept alive
  quorate status                          who leads, who lags
  quorate guarantees                      what is promised right now
  quorate time status                     what time it is, and who disagrees
  quorate ctl put hello world             write a key
  quorate lock backup -- ./backup.sh      one machine at a time
  quorate name resolve web                where a service is
  quorate limit list                      what users and prefixes may take
  quorate snapshot save monday.db         a copy of everything
  quorate backup /mnt/backup              every change, as it happens
  quorate restore --from /mnt/backup --drill
  quorate bench put --clients 64          how fast it is
  quorate sim                             what breaks when everything goes wrong
  quorate check history.edn               was it linearizable?
  quorate audit verify DIR                has anybody changed the audit log?
  quorate verify m1.etcd                  is this data directory whole?
  quorate scrub                           are the disks of all members whole?
  quorate fd bench                        which failure detector suits which link
  quorate pki init                        certificates of your own
  quorate serve --config-file etcd.yml    one member, configured as etcd is
  quorate completions bash > quorate.bash shell completions
  quorate man /usr/local/share/man/man1   manual pages";

/// A member that was removed from its cluster: starting it again is in vain.
pub(crate) const EXIT_REMOVED: u8 = 3;

/// Usage or environment: nothing has been done.
pub(crate) const EXIT_USAGE: u8 = 2;

/// A replicated, linearizable store that speaks the etcd v3 API.
#[derive(Debug, Parser)]
#[command(name = "quorate", version, about, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one member, with etcd's flags, ETCD_* variables and YAML file
    #[command(disable_help_flag = true)]
    Serve {
        /// etcd's flags; see 'quorate serve --help'
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// Run a whole local cluster and keep it alive
    Up(up::Options),
    /// Show who leads, who lags and who is missing
    Status(status::Options),
    /// Show what each member promises right now, and by which assumption
    Guarantees(guarantees::Options),
    /// Show what time it is, how wrong that may be, and who disagrees
    Time(time::Options),
    /// Read, write and watch keys; leases, history, alarms, snapshots
    Ctl(ctl::Options),
    /// Run a command while a lock is held
    Lock(lock::LockOptions),
    /// Run a command while this machine leads
    Elect(lock::ElectOptions),
    /// Register services, find them, and watch them come and go
    Name(name::Options),
    /// Show the members; add, remove, promote, replace them
    Member(ctl::MemberOptions),
    /// Show and set what users and parts of the key space may take
    Limit(ctl::LimitOptions),
    /// Save the whole state to a file, check one, make a new cluster from one
    Snapshot(backup::SnapshotOptions),
    /// Copy every change to a directory or an object store, as it happens
    Backup(Box<backup::ShipOptions>),
    /// Make a member from a backup, with the state of any revision; or a drill
    Restore(Box<backup::RestoreOptions>),
    /// Write the whole state as a snapshot that etcd restores from
    Export(backup::ExportOptions),
    /// Make a new cluster from a snapshot of etcd
    Import(Box<backup::ImportOptions>),
    /// Measure how fast a cluster is, and whether its answers are right
    Bench(bench::Options),
    /// Break a simulated cluster, and tell the smallest story of what breaks
    Sim(Box<sim::Options>),
    /// Look at the data directory of a stopped member: is every byte as it was written?
    Verify(verify::Options),
    /// Have running members read all of their disks again, and repair what has turned
    Scrub(scrub::Options),
    /// Check what clients saw: is there an order that one copy could have shown?
    Check(check::Options),
    /// Measure failure detectors on traces of delays, and find their parameters
    Fd(fd::Options),
    /// Find out whether somebody has changed an audit log
    Audit(audit::Options),
    /// Make a CA, and certificates for members and clients
    Pki(pki::Options),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write a manual page for every command
    Man {
        /// Directory of the pages, made if it is not there
        dir: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let program = words.first().map(Path::new).and_then(Path::file_name);
    // Installed under etcd's name, everything is a flag of `serve`; and the flags of `serve` are
    // etcd's, which are Go's: clap would misread `-name a`.
    if program.is_some_and(|name| name == "etcd") {
        return serve(&words[1..]);
    }
    if words.get(1).is_some_and(|word| word == "serve") {
        return serve(&words[2..]);
    }
    let mut command =
        Cli::command().mut_subcommand("serve", |serve| serve.override_help(serve::long_help()));
    let matches = command.get_matches_mut();
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => run(cli.command, command),
        Err(error) => error.exit(),
    }
}

fn run(command: Command, mut definition: clap::Command) -> ExitCode {
    match command {
        Command::Serve { flags } => serve(&flags),
        Command::Up(options) => up::run(options),
        Command::Status(options) => status::run(&options),
        Command::Guarantees(options) => guarantees::run(&options),
        Command::Time(options) => time::run(&options),
        Command::Ctl(options) => ctl::run(&options),
        Command::Lock(options) => lock::run_lock(&options),
        Command::Elect(options) => lock::run_elect(&options),
        Command::Name(options) => name::run(&options),
        Command::Member(options) => ctl::run_member(options),
        Command::Limit(options) => ctl::run_limit(options),
        Command::Snapshot(options) => backup::run_snapshot(options),
        Command::Backup(options) => backup::run_backup(&options),
        Command::Restore(options) => backup::run_restore(&options),
        Command::Export(options) => backup::run_export(&options),
        Command::Import(options) => backup::run_import(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Verify(options) => verify::run(&options),
        Command::Scrub(options) => scrub::run(&options),
        Command::Check(options) => check::run(&options),
        Command::Fd(options) => fd::run(&options),
        Command::Audit(options) => audit::run(&options),
        Command::Pki(options) => pki::run(&options),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut definition, "quorate", &mut script);
            output::line(String::from_utf8_lossy(&script).trim_end());
            ExitCode::SUCCESS
        }
        Command::Man { dir } => match man::write(Cli::command(), &dir) {
            Ok(pages) => {
                output::line(format_args!("{pages} pages in {}", dir.display()));
                ExitCode::SUCCESS
            }
            Err(error) => {
                output::complain(error);
                ExitCode::from(EXIT_USAGE)
            }
        },
    }
}

fn serve(words: &[String]) -> ExitCode {
    let text = |word: std::ffi::OsString| word.to_string_lossy().into_owned();
    let variables: BTreeMap<String, String> =
        std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect();
    let read = |path: &str| std::fs::read_to_string(path);
    match serve::request(words, &variables, read) {
        Ok(serve::Request::Help) => output::line(serve::long_help().trim_end()),
        Ok(serve::Request::Version) => output::line(serve::etcd_version().trim_end()),
        Ok(serve::Request::Serve { config, warnings }) => return serve_member(*config, &warnings),
        Err(error) => {
            output::complain(error);
            return ExitCode::from(EXIT_USAGE);
        }
    }
    ExitCode::SUCCESS
}

/// Replaces this process by a new one with the same words: nothing that was in memory is left, and
/// whoever supervises the process notices nothing. Returns if the system refuses that.
fn start_anew() -> ExitCode {
    use std::os::unix::process::CommandExt;
    let mut words = std::env::args_os();
    let refused = std::env::current_exe().map(|program| {
        let mut command = std::process::Command::new(program);
        if let Some(name) = words.next() {
            command.arg0(name);
        }
        command.args(words).exec()
    });
    tracing::error!(?refused, "cannot start anew: start the member again");
    ExitCode::from(EXIT_USAGE)
}

fn serve_member(config: quorate_server::Config, warnings: &[String]) -> ExitCode {
    if let Err(error) = logging::start(&config.log) {
        output::complain(error);
        return ExitCode::from(EXIT_USAGE);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let (supervisor, notices) = Supervisor::new();
    parent::watch(Some(supervisor));
    match quorate_server::run(config, notices) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            match error {
                RunError::Removed { .. } => ExitCode::from(EXIT_REMOVED),
                RunError::Differs { .. } => start_anew(),
                _ => ExitCode::from(EXIT_USAGE),
            }
        }
    }
}
