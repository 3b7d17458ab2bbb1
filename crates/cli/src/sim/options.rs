//! The words of `quorate sim`.

use super::bundle::Named;
use crate::nearest::nearest;
use crate::serve::duration;
use clap::{Args, Subcommand};
use quorate_core::{ParseModelError, SystemModel};
use quorate_drivers::simulate::seeds::{SEED_MAX, SHARDS_MAX, Seeds};
use quorate_drivers::simulate::terms::{NODES_MAX, TIME_MAX};
use quorate_drivers::simulate::{Fault, Forbidden, Plan, Switch, UnknownFault};
use quorate_sim::{Entry, REGISTRY};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  quorate sim                                   everything that may go wrong in a data centre, 60 s
  quorate sim --seeds 0..10000 --jobs 8 --json  these seeds, for a program
  quorate sim --seed 17                         one seed, exactly as it was
  quorate sim --seed 17 --show                  the same as a page and a trace, even if it holds
  quorate sim --model network=reliable,node=crash-stop,timing=synchronous
  quorate sim --faults crash,partition --nodes 5 --sim-time 30s
  quorate sim --faults none --buggify on        no fault, but rare paths of the code
  quorate sim --protocol register               an example that breaks, and its story
  quorate sim list                              every fault, protocol and planted bug
  quorate sim --seeds 0..1000000 --shard 3/16 --json > 3.json
  quorate sim merge 0.json 1.json 2.json 3.json
  quorate sim --replay quorate-sim/register-0-5eed1dea/choices.json

A run that breaks a property is made smaller and told as text; --out holds it as a page for a
browser, as a trace, for ShiViz, and as a file that runs it again.

Words: a step is one line of such a story. An event is a step that makes it: a fault, the begin or
the end of a node's life, a request, a turn in which a node writes or tells something. The other
steps (messages, timers, syncs) carry the events. Stories are made small by their events.
Calm: after --sim-time all faults end; then the system must serve again within a minute, or
'liveness' is broken, and the story says who or what is still awaited.

Exit status: 0 every property held, 1 one was violated, 2 usage, or a file that is not what it
should be.";

const MERGE_EXAMPLES: &str = "\
Examples:
  quorate sim --seeds 0..9000 --shard 0/3 --json > 0.json     on one machine
  quorate sim --seeds 0..9000 --shard 1/3 --json > 1.json     on another
  quorate sim merge 0.json 1.json                             says that shard 2/3 is not run
  quorate sim merge *.json --json > all.json                  may be merged again

All files must be of one build, protocol, workload and plan, and no seed may be in two of them.
Exit status: 0 every property held in what was run, 1 one was violated, 2 a file can not be used.";

const LIST_EXAMPLES: &str = "\
Examples:
  quorate sim list
  quorate sim list --json | jq -r '.faults[].name'

Exit status: 0.";

/// How long a campaign lasts that has no range of seeds.
const LENGTH_DEFAULT: Duration = Duration::from_secs(60);
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
    /// Add up what shards of a campaign have printed with --json, and name what was not run
    #[command(after_help = MERGE_EXAMPLES)]
    Merge {
        /// What they have printed: one file for each shard or range of seeds
        #[arg(required = true, value_name = "FILES")]
        files: Vec<PathBuf>,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Name what can be chosen: protocols, workloads, properties, faults, switches, planted bugs
    #[command(after_help = LIST_EXAMPLES)]
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
    /// Let the code under test take rare paths on purpose: on, so that some runs do, or off
    /// [default: on; off with --faults none]
    #[arg(long, value_name = "on|off", value_parser = switch)]
    buggify: Option<Switch>,
    /// How many nodes, 1 to 25 [default: drawn from 3 to 5; 4 to 7 if they may be Byzantine]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=NODES_MAX as u64))]
    nodes: Option<u64>,
    /// Run exactly this seed
    #[arg(long, value_name = "S", conflicts_with_all = ["seeds", "length", "shard"])]
    #[arg(value_parser = seed)]
    pub(super) seed: Option<u64>,
    /// Run these seeds: from A to just before B, or to the first that breaks a property
    #[arg(long, value_name = "A..B", value_parser = seeds)]
    seeds: Option<Seeds>,
    /// End after so long [default: 60s without --seeds; with --mutants, 60s of processor time for
    /// each of them]
    #[arg(long = "for", id = "length", value_name = "TIME", value_parser = length)]
    pub(super) length: Option<Duration>,
    /// Faults happen for so long in each run, a day at most; then the system must recover
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = sim_time)]
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
    #[arg(conflicts_with_all = ["buggify", "twice"])]
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
    /// Run each seed twice and compare the digests of all their events: where two runs of a seed
    /// differ, 'determinism' is broken, and the first event that differs is told
    #[arg(long)]
    pub(super) twice: bool,
    /// How long a run that breaks a property is made smaller; 0s tells it as it was
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(super) shrink: Duration,
    /// Where counter-examples are written, each in a directory of its own, named by protocol, seed
    /// and a digest of the plan
    #[arg(long, value_name = "DIR", default_value = "./quorate-sim")]
    pub(super) out: PathBuf,
    /// Write the run of --seed as page, story and trace even if every property holds
    #[arg(long, requires = "seed")]
    pub(super) show: bool,
    /// Run a choices.json again; with --json the whole outcome is printed, steps and all
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "seeds", "length", "shard"])]
    #[arg(conflicts_with_all = ["model", "faults", "nodes", "mutants", "twice", "workload"])]
    #[arg(conflicts_with_all = ["buggify", "show"])]
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
    Fault(UnknownFault),
    /// No fault at all, and some.
    None,
    /// A fault is named twice.
    Twice(Fault),
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
            UsageError::Protocol(name) => write!(f, "--protocol: {}", no_protocol(name)),
            UsageError::Workload { name, entry } => {
                write!(f, "--workload: {}", no_workload(name, entry))
            }
            UsageError::Mutants(why) => write!(f, "--mutants: {why}"),
            UsageError::Fault(unknown) => write!(f, "--faults: {}", no_fault(unknown)),
            UsageError::None => write!(
                f,
                "--faults: 'none' stands alone; leave it out, or leave the other faults out"
            ),
            UsageError::Twice(fault) => write!(f, "--faults: '{fault}' is named twice"),
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

/// There is no such protocol; the nearest, and all.
pub(super) fn no_protocol(name: &str) -> String {
    let names = || REGISTRY.iter().map(|entry| entry.name);
    let all: Vec<&str> = names().collect();
    format!("there is no '{name}'{}; there are {}", meant(name, names()), all.join(", "))
}

/// The protocol has no such workload; the nearest, and all.
pub(super) fn no_workload(name: &str, entry: &Entry) -> String {
    let names = || entry.workloads.iter().map(|known| known.name);
    let (all, meant): (Vec<&str>, _) = (names().collect(), meant(name, names()));
    format!("'{}' has no '{name}'{meant}; it has {}", entry.name, all.join(", "))
}

/// The protocol promises no such property; the nearest, and all.
pub(super) fn no_property(name: &str, entry: &Entry) -> String {
    let (all, names) = (entry.properties.join(", "), entry.properties.iter().copied());
    let meant = meant(name, names);
    format!("'{}' has no property '{name}'{meant}; it has {all}", entry.name)
}

/// There is no such fault; the nearest if one is near, and else all.
pub(super) fn no_fault(unknown: &UnknownFault) -> String {
    let UnknownFault(name) = unknown;
    match nearest(name, Fault::ALL.iter().map(|fault| fault.name())) {
        Some(near) => {
            format!("'{name}' is no fault (did you mean '{near}'?); 'quorate sim list' names all")
        }
        None => unknown.to_string(),
    }
}

/// Text that is no model; the nearest word.
pub(super) fn no_model(error: &ParseModelError) -> String {
    let ParseModelError::Unknown { part } = error else { return error.to_string() };
    let mut parts: Vec<&str> = SystemModel::all().flat_map(|cell| cell.parts()).collect();
    parts.sort_unstable();
    parts.dedup();
    // The word alone is enough to know what is meant.
    let word = |text: &'static str| text.split_once('=').map_or(text, |(_, word)| word);
    let given = part.split_once('=').map_or(part.as_str(), |(_, word)| word);
    let near = nearest(part, parts.iter().copied()).or_else(|| {
        let found = nearest(given, parts.iter().map(|known| word(known)))?;
        parts.iter().copied().find(|known| word(known) == found)
    });
    match near {
        Some(near) => format!("{error}; did you mean '{near}'?"),
        None => error.to_string(),
    }
}

fn meant<'a>(name: &str, all: impl IntoIterator<Item = &'a str>) -> String {
    nearest(name, all).map_or_else(String::new, |near| format!(" (did you mean '{near}'?)"))
}

impl std::error::Error for UsageError {}

impl Request {
    /// The run of this seed, as files name it.
    pub(super) fn named(&self, seed: u64) -> Named {
        Named {
            protocol: self.entry.name.to_owned(),
            workload: self.options.workload.to_owned(),
            mutant: None,
            seed,
        }
    }
}

impl Flags {
    /// What they ask for.
    pub(super) fn request(&self) -> Result<Request, UsageError> {
        let protocol = || UsageError::Protocol(self.protocol.clone());
        let entry = quorate_sim::entry(&self.protocol).ok_or_else(protocol)?;
        let workload = self.workload.as_deref().unwrap_or(entry.workloads[0].name);
        let unknown = || UsageError::Workload { name: workload.to_owned(), entry };
        let workload = entry.workload(workload).ok_or_else(unknown)?.name;
        let seeds = self.all_seeds();
        if seeds.count() == 0 {
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
        plan = match self.faults.as_deref() {
            None => plan,
            Some([one]) if one == "none" => plan.calm(),
            Some(names) => with_all(plan, names)?,
        };
        let buggify = self.buggify.unwrap_or(plan.buggify);
        Ok(plan.with_buggify(buggify))
    }

    fn again(&self) -> String {
        let mut words = vec!["quorate sim".to_owned()];
        if self.protocol != REGISTRY[0].name {
            words.push(format!("--protocol {}", self.protocol));
        }
        words.extend(self.workload.iter().map(|name| format!("--workload {name}")));
        words.extend(self.model.iter().map(|model| format!("--model {model}")));
        words.extend(self.faults.iter().map(|names| format!("--faults {}", names.join(","))));
        words.extend(self.buggify.iter().map(|switch| format!("--buggify {switch}")));
        words.extend(self.nodes.iter().map(|nodes| format!("--nodes {nodes}")));
        if self.sim_time != Duration::from_secs(10) {
            words.push(format!("--sim-time {:?}", self.sim_time));
        }
        words.join(" ")
    }
}

/// The plan with exactly these faults, all of which take part.
fn with_all(plan: Plan, names: &[String]) -> Result<Plan, UsageError> {
    let mut faults: Vec<Fault> = Vec::new();
    for name in names {
        if name == "none" {
            return Err(UsageError::None);
        }
        let fault = name.parse().map_err(UsageError::Fault)?;
        if faults.contains(&fault) {
            return Err(UsageError::Twice(fault));
        }
        faults.push(fault);
    }
    let mut plan = plan.with_faults(&faults).map_err(UsageError::Forbidden)?;
    plan.all = true;
    let bears_none = plan.nodes.iter().copied().find(|nodes| *nodes < 4);
    let treason = faults.iter().find(|fault| fault.is_treason());
    match (treason, bears_none) {
        (Some(fault), Some(nodes)) => Err(UsageError::Byzantine { fault: *fault, nodes }),
        _ => Ok(plan),
    }
}

/// A campaign of no length would hold because nothing was run.
fn length(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("nothing is run in no time: write 1s or more".to_owned()),
        time => Ok(time),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = duration::parse(text).or_else(|| text.parse().ok().map(Duration::from_secs));
    time.ok_or_else(|| "write 10s, 2m or 500ms".to_owned())
}

fn sim_time(text: &str) -> Result<Duration, String> {
    let most = Duration::from_nanos(TIME_MAX);
    match time(text)? {
        time if time <= most => Ok(time),
        _ => Err("a run lasts a day at most: write 10s, 2m or 24h".to_owned()),
    }
}

fn switch(text: &str) -> Result<Switch, String> {
    match text {
        "on" => Ok(Switch::On),
        "off" => Ok(Switch::Off),
        _ => Err("write on or off".to_owned()),
    }
}

fn model(text: &str) -> Result<SystemModel, String> {
    text.parse().map_err(|error| no_model(&error))
}

fn seed(text: &str) -> Result<u64, String> {
    let seed = text.parse().ok().filter(|seed| *seed <= SEED_MAX);
    seed.ok_or_else(|| format!("a seed is a whole number from 0 to {SEED_MAX}; write 17"))
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

    #[test]
    fn the_nearest_word_of_a_model_is_proposed() {
        let near = |text: &str| model(text).expect_err(text);
        for (text, expected) in [
            ("network=fairloss", "network=fair-loss"),
            ("netwrk=reliable", "network=reliable"),
            ("byzantine", "node=byzantine"),
            ("timing=async", "timing=asynchronous"),
            ("node=partial", "timing=partial"),
        ] {
            let text = near(text);
            assert!(text.ends_with(&format!("did you mean '{expected}'?")), "{text}");
        }
        assert!(!near("gravity=off").contains("did you mean"));
    }

    #[test]
    fn a_seed_and_a_time_have_their_ranges() {
        assert_eq!(seed("0"), Ok(0));
        assert_eq!(seed("18446744073709551614"), Ok(SEED_MAX));
        for wrong in ["18446744073709551615", "abc", "-1", "1.5", ""] {
            assert!(seed(wrong).expect_err(wrong).contains("a whole number from 0 to"), "{wrong}");
        }
        assert_eq!(sim_time("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in ["24h1ns", "86401", "18446744073709551615", "9999999h"] {
            assert!(sim_time(wrong).is_err(), "{wrong}");
        }
    }
}
