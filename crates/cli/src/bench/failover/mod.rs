//! `quorate bench failover`: how long nobody is served when the leader goes.
//!
//! **Question.** A leader is killed, or stopped like a process whose machine freezes. How long is
//! it until the next write is acknowledged?
//!
//! **How.** Three members are started as processes of their own on loopback, by flags that etcd
//! has too, so that both can be measured in turn. Writes begin at fixed times whatever the answers
//! do (an open loop), at all members in turn. What is counted is the longest time between two
//! acknowledgements around the blow, by the clock of the one process that sends it and hears them.
//!
//! | file | what |
//! |---|---|
//! | `members.rs` | the processes |
//! | `load.rs` | the writes, and when they were acknowledged |
//! | `elections.rs` | the same processes, and nobody is struck |

pub(super) mod elections;
mod load;
mod members;

use super::progress::Progress;
use crate::output;
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use load::Load;
use members::{Members, Program};
use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Writes go on for so long before a blow.
const BEFORE: Duration = Duration::from_millis(1_500);
/// Writes go on for so long after they are acknowledged again.
const AFTER: Duration = Duration::from_millis(300);
/// Nobody waits longer for a new leader.
const GAP_MAX: Duration = Duration::from_secs(60);
/// A stopped process goes on after this.
const STOPPED_FOR: Duration = Duration::from_secs(3);
/// A member that was started anew is given so long to serve.
const SERVES_WITHIN: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  quorate bench failover --blows 20
  quorate bench failover --how stop --blows 20
  quorate bench failover --with /usr/bin/etcd --blows 100 --json

The members are processes of this program on loopback, in a directory that is removed at the end.
With --with, those of another server that takes etcd's flags get every other blow.";

/// What happens to a leader.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum How {
    /// SIGKILL: the process ends, its host is there
    Kill,
    /// SIGSTOP for three seconds: the process stands still, and nothing tells of it
    Stop,
}

/// The flags of `quorate bench failover`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// How often the leader goes
    #[arg(long, value_name = "N", default_value_t = 20)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=10_000))]
    blows: u64,
    /// How it goes
    #[arg(long, value_enum, default_value_t = How::Kill)]
    how: How,
    /// Writes per second
    #[arg(long, value_name = "OPS", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    writes: u64,
    /// Another server to measure in turn with ours: a program that takes etcd's flags
    #[arg(long, value_name = "PROGRAM")]
    with: Option<PathBuf>,
    /// A further flag for our members; may be given again
    #[arg(long, value_name = "FLAG=VALUE", allow_hyphen_values = true)]
    flag: Vec<String>,
}

/// Why there are no figures.
#[derive(Debug)]
pub(super) enum FailoverError {
    /// A process could not be started, or a signal not be sent.
    Process { what: String, error: std::io::Error },
    /// A member has ended by itself.
    Ended { name: String, last: String },
    /// A member does not serve.
    Mute { name: String, log: PathBuf },
    /// Nothing was acknowledged any more.
    NobodyServes { name: String },
}

impl fmt::Display for FailoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailoverError::Process { what, error } => write!(f, "{what}: {error}"),
            FailoverError::Ended { name, last } => {
                write!(f, "{name} has ended by itself, and last said: {last}")
            }
            FailoverError::Mute { name, log } => {
                let seconds = SERVES_WITHIN.as_secs();
                write!(f, "{name} does not serve after {seconds} s; see {}", log.display())
            }
            FailoverError::NobodyServes { name } => {
                let seconds = GAP_MAX.as_secs();
                write!(f, "{name}: no write was acknowledged for {seconds} s after a blow")
            }
        }
    }
}

/// One kind of server, and what was seen of it.
struct Contestant {
    name: &'static str,
    members: Members,
    /// Unit: microseconds.
    gaps: Histogram<u64>,
    terms: u64,
    blows: u64,
}

/// Measures, and shows the figures.
pub(super) async fn run(
    options: &Options,
    json: bool,
    progress: &mut Progress,
) -> Result<(), FailoverError> {
    let mut contestants = vec![Contestant::start("quorate", Program::ours(&options.flag)?).await?];
    if let Some(path) = &options.with {
        contestants.push(Contestant::start("other", Program::other(path)).await?);
    }
    let rounds = options.blows * contestants.len() as u64;
    for round in 0..rounds {
        progress.begin(format!("blow {}", round + 1));
        progress.count(round, rounds);
        let at = (round % contestants.len() as u64) as usize;
        contestants[at].blow(options).await?;
    }
    progress.end();
    match json {
        true => show_json(options, &contestants),
        false => show(options, &contestants),
    }
    Ok(())
}

impl Contestant {
    async fn start(name: &'static str, program: Program) -> Result<Contestant, FailoverError> {
        let mut members = Members::new(program)?;
        members.start_all().await?;
        let longest = 2 * GAP_MAX.as_micros() as u64;
        let gaps = Histogram::new_with_bounds(1, longest, 3).expect("constants in their ranges");
        Ok(Contestant { name, members, gaps, terms: 0, blows: 0 })
    }

    /// Strikes the leader under load, and waits until all members serve again.
    async fn blow(&mut self, options: &Options) -> Result<(), FailoverError> {
        let (leader, term) = self.members.leader().await?;
        let mut load = Load::begin(self.members.endpoints(), options.writes);
        load.run_for(BEFORE).await;
        match options.how {
            How::Kill => {
                load.leave_out(leader);
                self.members.kill(leader)?;
            }
            How::Stop => self.members.stop(leader)?,
        }
        let struck = Instant::now();
        let served = load.run_until_served(struck, GAP_MAX).await;
        load.run_for(AFTER).await;
        if options.how == How::Stop {
            tokio::time::sleep(STOPPED_FOR.saturating_sub(struck.elapsed())).await;
            self.members.go_on(leader)?;
        }
        let gap = load.end(struck).await;
        if !served {
            return Err(FailoverError::NobodyServes { name: self.name.to_owned() });
        }
        self.gaps.saturating_record(gap.as_micros().try_into().unwrap_or(u64::MAX));
        if options.how == How::Kill {
            self.members.start(leader)?;
        }
        self.members.await_service(leader).await?;
        self.blows += 1;
        self.terms += self.members.leader().await?.1.saturating_sub(term);
        Ok(())
    }

    /// Unit: milliseconds.
    fn at(&self, quantile: f64) -> f64 {
        self.gaps.value_at_quantile(quantile) as f64 / 1_000.0
    }

    /// New terms per blow: 1 if every election elected somebody at once and none was for nothing.
    fn terms_per_blow(&self) -> f64 {
        self.terms as f64 / self.blows as f64
    }
}

fn failed(what: &str, error: std::io::Error) -> FailoverError {
    FailoverError::Process { what: what.to_owned(), error }
}

fn show(options: &Options, contestants: &[Contestant]) {
    let how = match options.how {
        How::Kill => "killed",
        How::Stop => "stopped for 3 s",
    };
    output::line(format_args!(
        "the leader of three members is {how} {} times under {} writes/s;",
        options.blows, options.writes
    ));
    output::line("milliseconds between two acknowledged writes:");
    output::line("            median      p90      p99      max  terms per blow");
    for contestant in contestants {
        output::line(format_args!(
            "{:<9} {:>8.0} {:>8.0} {:>8.0} {:>8.0}  {:>14.2}",
            contestant.name,
            contestant.at(0.5),
            contestant.at(0.9),
            contestant.at(0.99),
            contestant.at(1.0),
            contestant.terms_per_blow()
        ));
    }
    if let [ours, other] = contestants {
        let ratio = ours.at(0.5) / other.at(0.5);
        output::line(format_args!("ours is {ratio:.2} of the other's median"));
    }
}

fn show_json(options: &Options, contestants: &[Contestant]) {
    let each: Vec<_> = contestants
        .iter()
        .map(|contestant| {
            serde_json::json!({
                "name": contestant.name,
                "median_ms": contestant.at(0.5),
                "p90_ms": contestant.at(0.9),
                "p99_ms": contestant.at(0.99),
                "max_ms": contestant.at(1.0),
                "terms_per_blow": contestant.terms_per_blow(),
            })
        })
        .collect();
    let how = if options.how == How::Kill { "kill" } else { "stop" };
    output::line(serde_json::json!({
        "bench": "failover",
        "how": how,
        "blows": options.blows,
        "writes_per_second": options.writes,
        "clusters": each,
    }));
}
