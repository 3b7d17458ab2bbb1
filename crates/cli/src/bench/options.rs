//! The words of `quorate bench`.

use super::cluster::{Cluster, Kind};
use super::failover::{self, elections};
use super::ledger::Ledger;
use super::round::Load;
use super::space::{KEYS_MAX, Random};
use super::stamp::STAMP_BYTES;
use super::work::{Freshness, Work};
use crate::client;
use crate::login::{LoginError, LoginFlags};
use crate::serve::duration;
use bytes::Bytes;
use clap::{Args, Subcommand};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const EXAMPLES: &str = "\
Examples:
  quorate bench put --clients 64
  quorate bench get --serializable --for 10s
  quorate bench put --endpoints a:2379,b:2379,c:2379 --against d:2379,e:2379,f:2379 --rounds 5
  quorate bench mixed --rate 2000 --json
  quorate bench overload --times 1,2,3 --for 5s

Every answer is verified: what was acknowledged must be read, in order, complete and intact.
Exit status: 0 measured, 1 could not be measured, 2 usage, or a wrong answer: then no figures.";

const AGE_EXAMPLES: &str = "\
Examples:
  quorate bench age --for 2m --clients 32
  quorate bench age --keys 100000 --endpoints a:2379,b:2379,c:2379";

/// The flags of `quorate bench`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    workload: Workload,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Workload {
    /// Write random keys
    Put,
    /// Read random keys, linearizably
    Get {
        /// From the member asked, without consulting the others: fast, perhaps stale
        #[arg(long)]
        serializable: bool,
        /// Measure a bare gRPC server in turn with it, on this machine
        #[arg(long)]
        echo: bool,
    },
    /// Read and write random keys
    Mixed {
        /// How many of a hundred operations are linearizable reads
        #[arg(long, value_name = "PERCENT", default_value_t = 80)]
        #[arg(value_parser = clap::value_parser!(u64).range(0..=100))]
        reads: u64,
    },
    /// Compare-and-swap random keys by their mod_revision
    Txn,
    /// Read neighbouring keys
    Range {
        /// How many
        #[arg(long, value_name = "KEYS", default_value_t = 1_000)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
        span: u64,
    },
    /// Read all keys in one call
    List,
    /// Tell every write to many watchers; counts events
    Watch {
        /// How many watchers, all of the whole key space
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
        watchers: u64,
        /// How many streams they share
        #[arg(long, value_name = "N", default_value_t = 10)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
        streams: u64,
    },
    /// Grant leases; they are revoked after each round
    LeaseGrant,
    /// Keep leases alive
    LeaseKeepalive {
        /// How many leases, at least one per client
        #[arg(long, value_name = "N", default_value_t = 1_000)]
        #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
        leases: u64,
    },
    /// Ask for more than the cluster can do: what is left of its peak?
    Overload {
        /// Times the peak that is measured first
        #[arg(long, value_name = "TIMES,..", default_value = "1,2,3", value_delimiter = ',')]
        #[arg(value_parser = positive)]
        times: Vec<f64>,
    },
    /// Write all keys that are not there yet, and measure nothing
    Fill,
    /// Wear a cluster out with puts, deletes, transactions, leases and ranges
    #[command(after_help = AGE_EXAMPLES)]
    Age,
    /// Kill the leader again and again, and see how long nobody is served
    Failover(failover::Options),
    /// Let members and other processes share the machine, and see whether anybody is elected
    Elections(elections::Options),
    /// One of those processes
    #[command(hide = true)]
    Burner,
    /// Measure a bare gRPC server with the clients of 'get', as a yardstick
    Echo,
    /// The server of 'echo'
    #[command(hide = true)]
    EchoServer,
}

/// What all workloads take.
#[derive(Args, Debug)]
pub(super) struct Common {
    /// The cluster
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    #[arg(default_value = client::ENDPOINTS_DEFAULT)]
    endpoints: String,
    #[command(flatten)]
    security: client::Security,
    /// A cluster to compare with, round by round in turn; may be given again
    #[arg(long, global = true, value_name = "HOST:PORT,..")]
    against: Vec<String>,
    #[command(flatten)]
    login: LoginFlags,
    /// How many ask at the same time [default: 64; list: 1; watch: 16 who write]
    #[arg(long, global = true, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    clients: Option<u64>,
    /// Connections, spread over the endpoints
    #[arg(long, global = true, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    connections: u64,
    /// Threads that serve the clients [default: one per processor]
    #[arg(long, global = true, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=256))]
    threads: Option<u64>,
    /// Keys that are worked on
    #[arg(long, global = true, value_name = "N", default_value_t = 10_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=KEYS_MAX))]
    pub(super) keys: u64,
    /// What their names begin with
    #[arg(long, global = true, value_name = "TEXT", default_value = "quorate-bench/")]
    prefix: String,
    /// Size of each value in bytes, at least 48
    #[arg(long, global = true, value_name = "BYTES", default_value_t = 256)]
    #[arg(value_parser = clap::value_parser!(u64).range(48..=64 << 20))]
    value_size: u64,
    /// How long each round measures [default: 5s; elections: 1m; age: 2m]
    #[arg(long = "for", global = true, value_name = "TIME", value_parser = length)]
    pub(super) length: Option<Duration>,
    /// How long each round runs before it measures [default: 1s; age: 0s]
    #[arg(long, global = true, value_name = "TIME", value_parser = time)]
    warmup: Option<Duration>,
    /// How many rounds [default: 3; age: 1]
    #[arg(long, global = true, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000))]
    rounds: Option<u64>,
    /// Operations per second, begun at fixed times whatever the answers do (an open loop);
    /// latency counts from those times [default: each client asks when it was answered]
    #[arg(long, global = true, value_name = "OPS", value_parser = positive)]
    rate: Option<f64>,
    /// Where the random choices begin
    #[arg(long, global = true, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// One JSON object instead of a table
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// No progress bar, even on a terminal
    #[arg(long, global = true)]
    pub(super) quiet: bool,
}

/// Flags that cannot be followed.
#[derive(Debug)]
pub(super) enum UsageError {
    /// No list of endpoints.
    Endpoints { flag: &'static str, error: client::EndpointsError },
    /// The password cannot be read.
    Login(LoginError),
    /// More neighbours than keys.
    Span { span: u64, keys: u64 },
    /// Clients without a lease, or streams without a watcher.
    TooFew { flag: &'static str, wanted: u64, of: &'static str },
    /// A cluster is named where one is started.
    OwnCluster,
    /// The yardstick cannot be started.
    Echo(std::io::Error),
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsageError::Endpoints { flag, error } => write!(f, "{flag}: {error}"),
            UsageError::Login(error) => error.fmt(f),
            UsageError::Span { span, keys } => {
                write!(f, "--span {span} is more than {keys}; give --keys {span} or more")
            }
            UsageError::TooFew { flag, wanted, of } => {
                write!(f, "give {flag} {wanted} or more: there are so many {of}")
            }
            UsageError::OwnCluster => f.write_str(
                "this starts the members that it measures: leave --endpoints and --against out, \
                 and name another server's program with --with",
            ),
            UsageError::Echo(error) => write!(f, "cannot start the echo server: {error}"),
        }
    }
}

/// What is to be measured.
pub(super) struct Plan<'a> {
    /// The flags.
    pub(super) common: &'a Common,
    /// The workload's name.
    pub(super) name: &'static str,
    /// What is counted.
    pub(super) unit: &'static str,
    /// Each round.
    pub(super) load: Load,
    /// How many rounds.
    pub(super) rounds: u64,
    /// A bare gRPC server is measured, too.
    pub(super) with_echo: bool,
    /// Keys are written, and nothing is measured.
    pub(super) fills: bool,
    /// Times the peak that are asked, if it is that.
    pub(super) times: Option<&'a [f64]>,
}

impl Options {
    /// True for the child process of `echo`.
    pub(super) fn is_echo_server(&self) -> bool {
        matches!(self.workload, Workload::EchoServer)
    }

    /// True for the child processes of `elections`.
    pub(super) fn is_burner(&self) -> bool {
        matches!(self.workload, Workload::Burner)
    }

    /// The flags of `elections`, if that is wanted, and what all workloads take.
    ///
    /// Errors: a cluster is named, which is not the one that is measured.
    pub(super) fn elections(&self) -> Result<Option<(&elections::Options, &Common)>, UsageError> {
        let Workload::Elections(options) = &self.workload else { return Ok(None) };
        self.common.names_no_cluster()?;
        Ok(Some((options, &self.common)))
    }

    /// The flags of `failover`, if that is wanted; then whether it speaks JSON, and shows no bar.
    ///
    /// Errors: a cluster is named, which must not be taken for one that is struck.
    pub(super) fn failover(&self) -> Result<Option<(&failover::Options, bool, bool)>, UsageError> {
        let Workload::Failover(options) = &self.workload else { return Ok(None) };
        self.common.names_no_cluster()?;
        Ok(Some((options, self.common.json, self.common.quiet)))
    }

    /// What these words ask for.
    pub(super) fn plan(&self) -> Result<Plan<'_>, UsageError> {
        let common = &self.common;
        let (name, unit, work) = self.workload.work();
        let clients = match (work, &self.workload) {
            (Work::List, _) => 1,
            (Work::Watch { .. }, _) => 16,
            // As many as ask within a second of waiting, so that nobody waits for his own turn.
            (_, Workload::Overload { .. }) => 20_000,
            _ => 64,
        };
        let is_age = work == Work::Age;
        let load = common.load(work, clients, is_age);
        let clients = load.clients as u64;
        match self.workload {
            Workload::Range { span } if span > common.keys => {
                return Err(UsageError::Span { span, keys: common.keys });
            }
            Workload::LeaseKeepalive { leases } if leases < clients => {
                let (flag, of) = ("--leases", "clients");
                return Err(UsageError::TooFew { flag, wanted: clients, of });
            }
            Workload::Watch { watchers, streams } if watchers < streams => {
                let (flag, of) = ("--watchers", "streams");
                return Err(UsageError::TooFew { flag, wanted: streams, of });
            }
            _ => {}
        }
        Ok(Plan {
            common,
            name,
            unit,
            load,
            rounds: common.rounds.unwrap_or(if is_age { 1 } else { 3 }),
            with_echo: matches!(self.workload, Workload::Get { echo: true, .. } | Workload::Echo),
            fills: matches!(self.workload, Workload::Fill),
            times: match &self.workload {
                Workload::Overload { times } => Some(times),
                _ => None,
            },
        })
    }
}

impl Workload {
    /// Its name, what it counts, and what its clients do.
    fn work(&self) -> (&'static str, &'static str, Work) {
        match *self {
            Workload::Put => ("put", "puts", Work::Put),
            Workload::Get { serializable: true, .. } => {
                ("get --serializable", "gets", Work::Get(Freshness::Serializable))
            }
            Workload::Get { .. } => ("get", "gets", Work::Get(Freshness::Linearizable)),
            Workload::Mixed { reads } => ("mixed", "ops", Work::Mixed { reads }),
            Workload::Txn => ("txn", "txns", Work::Swap),
            Workload::Range { span } => ("range", "ranges", Work::Range { span }),
            Workload::List => ("list", "lists", Work::List),
            Workload::Watch { watchers, streams } => {
                let (watchers, streams) = (watchers as usize, streams as usize);
                ("watch", "events", Work::Watch { watchers, streams })
            }
            Workload::LeaseGrant => ("lease-grant", "grants", Work::Grant),
            Workload::LeaseKeepalive { leases } => {
                ("lease-keepalive", "keep-alives", Work::KeepAlive { leases })
            }
            Workload::Failover(_) => ("failover", "puts", Work::Put),
            Workload::Elections(_) | Workload::Burner => ("elections", "puts", Work::Put),
            Workload::Fill => ("fill", "keys", Work::Put),
            Workload::Overload { .. } => ("overload", "puts", Work::Put),
            Workload::Age => ("age", "ops", Work::Age),
            Workload::Echo | Workload::EchoServer => ("echo", "echoes", Work::Echo),
        }
    }
}

impl Plan<'_> {
    /// What the names of keys begin with. Keys come and go while a cluster is aged, so those are
    /// others than the ones that are read.
    pub(super) fn prefix(&self) -> String {
        let Common { prefix, .. } = self.common;
        if self.load.work == Work::Age { format!("{prefix}age/") } else { prefix.clone() }
    }

    /// A line above the figures.
    pub(super) fn title(&self) -> String {
        let Load { clients, connections, rate, length, .. } = self.load;
        let Common { keys, value_size, .. } = self.common;
        let rounds = self.rounds;
        let unit = if rounds == 1 { "round" } else { "rounds" };
        let what = match self.load.work {
            Work::Watch { watchers, streams } => {
                format!("{watchers} watchers on {streams} streams, {clients} writers")
            }
            Work::KeepAlive { leases } => format!("{leases} leases, {clients} clients"),
            _ => format!("{clients} clients"),
        };
        let pace = match rate {
            Some(rate) => format!("open loop at {rate}/s"),
            None => "closed loop".to_owned(),
        };
        format!(
            "{}: {what}, {connections} connections, {keys} keys, {value_size}-byte \
             values, {rounds} {unit} of {length:?}, {pace}",
            self.name
        )
    }
}

impl Common {
    fn names_no_cluster(&self) -> Result<(), UsageError> {
        match self.endpoints == client::ENDPOINTS_DEFAULT && self.against.is_empty() {
            true => Ok(()),
            false => Err(UsageError::OwnCluster),
        }
    }

    fn load(&self, work: Work, clients: u64, is_age: bool) -> Load {
        let size = |number: u64| usize::try_from(number).expect("the flags have a range");
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut filling = vec![0; size(self.value_size) - STAMP_BYTES];
        let mut random = Random::new(self.seed, u64::MAX);
        filling.iter_mut().for_each(|byte| *byte = random.next() as u8);
        Load {
            work,
            clients: size(self.clients.unwrap_or(clients)),
            connections: size(self.connections),
            threads: self.threads.map_or(processors, size),
            rate: self.rate,
            warmup: self.warmup.unwrap_or(Duration::from_secs(u64::from(!is_age))),
            length: self.length.unwrap_or(Duration::from_secs(if is_age { 120 } else { 5 })),
            filling: Bytes::from(filling),
            seed: self.seed,
        }
    }

    /// The clusters, the first of which is the one that is judged.
    pub(super) fn clusters(&self, ledger: impl Fn() -> Ledger) -> Result<Vec<Cluster>, UsageError> {
        let lists = std::iter::once(("--endpoints", &self.endpoints))
            .chain(self.against.iter().map(|list| ("--against", list)));
        let login = self.login.read().map_err(UsageError::Login)?.map(Arc::new);
        let mut clusters = Vec::new();
        for (number, (flag, list)) in lists.enumerate() {
            let endpoints = client::parse_endpoints(list, &self.security)
                .map_err(|error| UsageError::Endpoints { flag, error })?;
            let letter = char::from(b'A' + u8::try_from(number % 26).expect("below 26"));
            let cluster = Cluster::new(Kind::Store, letter.to_string(), endpoints, ledger());
            clusters.push(Cluster { login: login.clone(), ..cluster });
        }
        Ok(clusters)
    }

    /// A number for this run; two runs must not take each other's values for their own.
    pub(super) fn run(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Random::new(now.as_nanos() as u64, u64::from(std::process::id())).next()
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).or_else(|| text.parse().ok().map(Duration::from_secs));
    time.ok_or_else(|| "write 10s, 2m or 500ms".to_owned())
}

/// A time in which something can be measured.
fn length(text: &str) -> Result<Duration, String> {
    let is_some = |length: &Duration| !length.is_zero();
    let nothing = || "nothing can be measured in no time; write 10s, 2m or 500ms".to_owned();
    Some(time(text)?).filter(is_some).ok_or_else(nothing)
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| *number > 0.0 && number.is_finite());
    number.ok_or_else(|| "a number above 0 is wanted".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_takes_time_and_a_warmup_need_not() {
        assert_eq!(length("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(length("5"), Ok(Duration::from_secs(5)));
        for text in ["0s", "0", "0ms", "0.0h"] {
            let refusal = length(text).expect_err(text);
            assert!(refusal.contains("write 10s, 2m or 500ms"), "{refusal}");
            assert_eq!(time(text), Ok(Duration::ZERO), "{text}");
        }
        assert_eq!(length("soon"), Err("write 10s, 2m or 500ms".to_owned()));
    }
}
