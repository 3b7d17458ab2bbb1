//! The words of `quorate sim`.

use crate::serve::duration;
use clap::{Args, Subcommand};
use quorate_core::SystemModel;
use quorate_drivers::simulate::campaign::{SHARDS_MAX, Seeds};
use quorate_drivers::simulate::{Fault, Forbidden, Plan};
use quorate_sim::{Entry, REGISTRY};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  quorate sim                                   everything that may go wrong in a data centre, 60 s
  quorate sim --seeds 0..10000 --jobs 8 --json  these seeds, for a program
  quorate sim --seed 17                         one seed, exactly as it was
  quorate sim --model network=reliable,node=crash-stop,timing=synchronous
  quorate sim --faults crash,partition --nodes 5 --sim-time 30s
  quorate sim --protocol register               an example that breaks, and its story
  quorate sim list                              every fault, protocol and planted bug
  quorate sim --seeds 0..1000000 --shard 3/16 --json > 3.json
  quorate sim merge 0.json 1.json 2.json 3.json

A run that breaks a property is made smaller and told as text; --out holds it as a page for a
browser, as a trace, for ShiViz, and as a file that runs it again.
Exit status: 0 every property held, 1 one was violated, 2 usage.";

/// How long a campaign lasts that has no range of seeds.
const LENGTH_DEFAULT: Duration = Duration::from_secs(60);
/// Nodes of a run, at most.
const NODES_MAX: u64 = 25;

/// The flags of `quorate sim`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(super) task: Option<Task>,
    #[command(flatten)]
    pub(super) flags: Flags,
}

#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Add up what shards of a campaign have printed with --json
    #[command(after_help = "Examples:\n  quorate sim merge 0.json 1.json 2.json")]
    Merge {
        /// What they have printed
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Name what can be chosen: protocols, workloads, properties, faults, planted bugs
    List {
        /// One JSON object instead of tables
        #[arg(long)]
        json: bool,
    },
}

/// What is run, and for how long.
#[derive(Args, Debug)]
pub(super) struct Flags {
    /// What the network, the nodes and time may do: network=reliable|fair-loss|arbitrary,
    /// node=crash-stop|crash-recovery|byzantine, timing=synchronous|partial|asynchronous
    /// [default: network=fair-loss,node=crash-recovery,timing=partial]
    #[arg(long, value_name = "MODEL", value_parser = model)]
    model: Option<SystemModel>,
    /// Faults by name, all of which take part in each run; 'none' [default: all that the model
    /// permits, of which each run draws some]. 'quorate sim list' names them
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    faults: Option<Vec<String>>,
    /// How many nodes [default: drawn from 3 to 5; 4 to 7 if they may be Byzantine]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=NODES_MAX))]
    nodes: Option<u64>,
    /// Run exactly this seed
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "length", "shard"])]
    pub(super) seed: Option<u64>,
    /// Run these seeds: from A to just before B, or to the first that breaks a property
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<Seeds>,
    /// End after so long [default: 60s without --seeds; with --mutants, 60s of processor time for
    /// each of them]
    #[arg(long = "for", id = "length", value_name = "TIME", value_parser = time)]
    pub(super) length: Option<Duration>,
    /// Faults happen for so long in each run; then the system must recover
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    sim_time: Duration,
    /// What is run
    #[arg(long, value_name = "NAME", default_value = REGISTRY[0].name)]
    pub(super) protocol: String,
    /// What its clients do [default: the first of the protocol]
    #[arg(long, value_name = "NAME")]
    workload: Option<String>,
    /// Plant these bugs, or all, one after the other; each must be caught. Each says by itself what
    /// is run, and under which faults
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', num_args = 0..=1)]
    #[arg(default_missing_value = "all")]
    #[arg(conflicts_with_all = ["model", "faults", "nodes", "workload", "seed", "seeds", "shard"])]
    pub(super) mutants: Option<Vec<String>>,
    /// Threads [default: one per processor]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_024))]
    jobs: Option<u64>,
    /// One JSON object instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// Of the seeds, run those whose remainder by N is I
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(u64, u64)>,
    /// Run each seed twice and compare
    #[arg(long)]
    pub(super) twice: bool,
    /// How long a run that breaks a property is made smaller
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(super) shrink: Duration,
    /// Where counter-examples are written, each in a directory of its own
    #[arg(long, value_name = "DIR", default_value = "./quorate-sim")]
    pub(super) out: PathBuf,
    /// Run a choices.json again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds", "length", "shard"])]
    #[arg(conflicts_with_all = ["model", "faults", "nodes", "mutants", "twice", "workload"])]
    pub(super) replay: Option<PathBuf>,
    /// No progress bar, even on a terminal
    #[arg(long)]
    pub(super) quiet: bool,
}

/// What the flags ask for.
pub(super) struct Request {
    pub(super) entry: &'static Entry,
    pub(super) options: quorate_sim::Options,
    pub(super) plan: Plan,
    pub(super) seeds: Seeds,
    pub(super) length: Option<Duration>,
    pub(super) jobs: usize,
    /// The flags that lead to the same runs, without the seeds.
    pub(super) again: String,
}

/// Flags that cannot be followed.
#[derive(Debug)]
pub(super) enum UsageError {
    /// There is no such protocol.
    Protocol(String),
    /// The protocol has no such workload.
    Workload { name: String, entry: &'static Entry },
    /// There is no such fault.
    Fault(String),
    /// The model does not permit it.
    Forbidden(Forbidden),
    /// This shard has none of the seeds.
    Empty(Seeds),
    /// There is no such planted bug, or none at all.
    Mutants(String),
    /// So few nodes can bear no Byzantine one.
    Byzantine { fault: Fault, nodes: usize },
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UsageError::Protocol(name) => {
                let names: Vec<&str> = REGISTRY.iter().map(|entry| entry.name).collect();
                write!(f, "--protocol: there is no '{name}'; there are {}", names.join(", "))
            }
            UsageError::Workload { name, entry } => {
                let names: Vec<&str> = entry.workloads.iter().map(|known| known.name).collect();
                let (protocol, names) = (entry.name, names.join(", "));
                write!(f, "--workload: '{protocol}' has no '{name}'; it has {names}")
            }
            UsageError::Mutants(why) => write!(f, "--mutants: {why}"),
            UsageError::Fault(why) => write!(f, "--faults: {why}"),
            UsageError::Byzantine { fault, nodes } => write!(
                f,
                "--faults: '{fault}' wants a Byzantine node, and {nodes} nodes can bear none; take \
                 --nodes 4 or more"
            ),
            UsageError::Forbidden(forbidden) => write!(f, "--faults: {forbidden}"),
            UsageError::Empty(Seeds { from, to, index, of }) => {
                write!(f, "--shard: {index}/{of} has none of the seeds {from}..{to}")
            }
        }
    }
}

impl std::error::Error for UsageError {}

impl Flags {
    /// What they ask for.
    pub(super) fn request(&self) -> Result<Request, UsageError> {
        let protocol = || UsageError::Protocol(self.protocol.clone());
        let entry = quorate_sim::entry(&self.protocol).ok_or_else(protocol)?;
        let workload = self.workload.as_deref().unwrap_or(entry.workloads[0].name);
        let unknown = || UsageError::Workload { name: workload.to_owned(), entry };
        let workload = entry.workload(workload).ok_or_else(unknown)?.name;
        let seeds = self.all_seeds();
        let Seeds { from, to, index, of } = seeds;
        if (from..to).take(usize::try_from(of).unwrap_or(usize::MAX)).all(|s| s % of != index) {
            return Err(UsageError::Empty(seeds));
        }
        Ok(Request {
            entry,
            options: quorate_sim::Options { workload },
            plan: self.plan()?,
            seeds,
            length: match self.seed.is_none() && self.seeds.is_none() {
                true => Some(self.length.unwrap_or(LENGTH_DEFAULT)),
                false => self.length,
            },
            jobs: self.jobs(),
            again: self.again(),
        })
    }

    pub(super) fn jobs(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        self.jobs.map_or(processors, |jobs| usize::try_from(jobs).unwrap_or(usize::MAX))
    }

    fn all_seeds(&self) -> Seeds {
        let (index, of) = self.shard.unwrap_or((0, 1));
        let seeds = match self.seed {
            Some(seed) => Seeds::range(seed, seed.saturating_add(1)),
            None => self.seeds.unwrap_or(Seeds::range(0, u64::MAX)),
        };
        Seeds { index, of, ..seeds }
    }

    pub(super) fn plan(&self) -> Result<Plan, UsageError> {
        let mut plan = Plan::of(self.model.unwrap_or(SystemModel::DATA_CENTRE));
        plan = plan.lasting(self.sim_time);
        if let Some(nodes) = self.nodes {
            plan = plan.with_nodes(usize::try_from(nodes).unwrap_or(usize::MAX));
        }
        match self.faults.as_deref() {
            None => Ok(plan),
            Some([one]) if one == "none" => Ok(plan.calm()),
            Some(names) => {
                let parse = |name: &String| {
                    name.parse().map_err(|error| UsageError::Fault(format!("{error}")))
                };
                let faults: Vec<Fault> = names.iter().map(parse).collect::<Result<_, _>>()?;
                let mut plan = plan.with_faults(&faults).map_err(UsageError::Forbidden)?;
                plan.all = true;
                let bears_none = plan.nodes.iter().copied().find(|nodes| *nodes < 4);
                let treason = faults.iter().find(|fault| fault.is_treason());
                match (treason, bears_none) {
                    (Some(fault), Some(nodes)) => {
                        Err(UsageError::Byzantine { fault: *fault, nodes })
                    }
                    _ => Ok(plan),
                }
            }
        }
    }

    fn again(&self) -> String {
        let mut words = vec!["quorate sim".to_owned()];
        if self.protocol != REGISTRY[0].name {
            words.push(format!("--protocol {}", self.protocol));
        }
        words.extend(self.workload.iter().map(|name| format!("--workload {name}")));
        words.extend(self.model.iter().map(|model| format!("--model {model}")));
        words.extend(self.faults.iter().map(|names| format!("--faults {}", names.join(","))));
        words.extend(self.nodes.iter().map(|nodes| format!("--nodes {nodes}")));
        if self.sim_time != Duration::from_secs(10) {
            words.push(format!("--sim-time {:?}", self.sim_time));
        }
        words.join(" ")
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).or_else(|| text.parse().ok().map(Duration::from_secs));
    time.ok_or_else(|| "write 10s, 2m or 500ms".to_owned())
}

/// A system model that says at most one thing of each axis.
fn model(text: &str) -> Result<SystemModel, String> {
    let mut seen: Vec<&str> = Vec::new();
    for part in text.split(',') {
        let axis = part.split('=').next().unwrap_or(part);
        if seen.contains(&axis) {
            return Err(format!(
                "it says two things of '{axis}'; name each of network, node and \
                                timing once"
            ));
        }
        seen.push(axis);
    }
    text.parse().map_err(|error| format!("{error}"))
}

fn seeds(text: &str) -> Result<Seeds, String> {
    let parse = || {
        let (from, to) = text.split_once("..")?;
        Some(Seeds::range(from.parse().ok()?, to.parse().ok()?))
    };
    let seeds = parse().filter(|seeds| seeds.from < seeds.to);
    seeds.ok_or_else(|| {
        "write 0..1000: the first seed, and one that is larger, which is not run".to_owned()
    })
}

fn shard(text: &str) -> Result<(u64, u64), String> {
    let parse = || {
        let (index, of) = text.split_once('/')?;
        Some((index.parse().ok()?, of.parse().ok()?))
    };
    let shard = parse().filter(|(index, of): &(u64, u64)| index < of && *of <= SHARDS_MAX);
    shard.ok_or_else(|| format!("write 0/4 to 3/4; there are at most {SHARDS_MAX} shards"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_shards() {
        assert_eq!(seeds("3..7"), Ok(Seeds::range(3, 7)));
        for wrong in ["7..3", "3..3", "3", "..", "a..b", "3..=7", "-1..2"] {
            assert!(seeds(wrong).is_err(), "{wrong}");
        }
        assert_eq!(shard("0/1"), Ok((0, 1)));
        for wrong in ["1/1", "4/4", "0/0", "1", "1/100000", "a/b"] {
            assert!(shard(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_model_says_one_thing_of_each_axis() {
        assert!(model("network=reliable,timing=synchronous").is_ok());
        let error = model("network=reliable,network=fair-loss").expect_err("a contradiction");
        assert!(error.contains("two things of 'network'"), "{error}");
        assert!(model("gravity=off").expect_err("no axis").contains("'gravity=off'"));
    }
}
