//! `quorate bench elections`: whether anybody is elected although nobody fails.
//!
//! **Question.** A short timeout finds a dead leader soon, and on a machine that is busy with other
//! things it may find dead leaders that are alive. How many?
//!
//! **How.** Three members as processes of their own, writes at fixed times, and beside them
//! processes that do nothing but compute. No member is struck. Each term after the first is a
//! false election. With another server its members run at the same time, so that both have the
//! same weather.

use super::load::Load;
use super::members::{Members, Program};
use super::{FailoverError, failed};
use crate::bench::progress::Progress;
use crate::{output, parent};
use clap::Args;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long it is watched if nobody says otherwise.
const FOR: Duration = Duration::from_secs(60);
/// Before that: an election takes a while, and a member that knows its leader for a short time
/// waits for the longest.
const SETTLE: Duration = Duration::from_secs(3);
/// More would only keep each other from the processors.
const BURNERS_MAX: u64 = 256;
/// Between two looks at the progress.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const EXAMPLES: &str = "\
Examples:
  quorate bench elections --for 10m --burn
  quorate bench elections --for 10m --burn 8 --with /usr/bin/etcd
  quorate bench elections --burn --flag=--election-timeout-min=50 --flag=--heartbeat-interval=10

The members are processes of this program on loopback, in a directory that is removed at the end.
Exit status: 0 nobody was elected, 1 somebody was, or it could not be measured, 2 usage.";

/// The flags of `quorate bench elections`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(in crate::bench) struct Options {
    /// Processes that compute meanwhile; without a number two for each processor
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "auto")]
    #[arg(default_value = "0", value_parser = burners)]
    burn: u64,
    /// Writes per second
    #[arg(long, value_name = "OPS", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    writes: u64,
    /// Another server beside ours: a program that takes etcd's flags
    #[arg(long, value_name = "PROGRAM")]
    with: Option<PathBuf>,
    /// A further flag for our members; may be given again
    #[arg(long, value_name = "FLAG=VALUE", allow_hyphen_values = true)]
    flag: Vec<String>,
}

/// One kind of server, and what was seen of it.
struct Watched {
    name: &'static str,
    members: Members,
    /// Terms after the first.
    elections: u64,
    acknowledged: usize,
    /// The longest time between two acknowledgements.
    gap: Duration,
}

/// Processes that compute; they end when this is dropped.
struct Burners(Vec<Child>);

/// What a burner does until it is killed.
pub(in crate::bench) fn burn() -> ExitCode {
    parent::watch(None);
    let mut number = 1_u64;
    loop {
        number = std::hint::black_box(number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31));
    }
}

/// Measures, and shows the figures. True if nobody was elected by our members.
pub(in crate::bench) async fn run(
    options: &Options,
    length: Option<Duration>,
    json: bool,
    progress: &mut Progress,
) -> Result<bool, FailoverError> {
    let length = length.unwrap_or(FOR);
    let mut watched = vec![Watched::start("quorate", Program::ours(&options.flag)?).await?];
    if let Some(path) = &options.with {
        watched.push(Watched::start("other", Program::other(path)).await?);
    }
    tokio::time::sleep(SETTLE).await;
    let burners = Burners::start(options.burn)?;
    progress.begin("steady");
    let begun = Instant::now();
    let mut running = JoinSet::new();
    let writes = options.writes;
    watched.into_iter().for_each(|one| drop(running.spawn(one.watch(writes, length))));
    let mut done = Vec::new();
    while !running.is_empty() {
        progress.tick(begun.elapsed().min(length), length, 0);
        let next = tokio::time::timeout(LOOK_EVERY, running.join_next());
        if let Ok(Some(one)) = next.await {
            done.push(one.expect("watching does not panic")?);
        }
    }
    drop(burners);
    progress.end();
    done.sort_by_key(|one| one.name != "quorate");
    match json {
        true => show_json(options, length, &done),
        false => show(options, length, &done),
    }
    Ok(done.iter().all(|one| one.name != "quorate" || one.elections == 0))
}

/// How many processes compute.
fn burners(text: &str) -> Result<u64, String> {
    if text == "auto" {
        return Ok(2 * std::thread::available_parallelism().map_or(1, usize::from) as u64);
    }
    let number = text.parse().ok().filter(|number: &u64| *number <= BURNERS_MAX);
    number.ok_or_else(|| {
        format!("write a number up to {BURNERS_MAX}, or none for two for each processor")
    })
}

impl Watched {
    async fn start(name: &'static str, program: Program) -> Result<Watched, FailoverError> {
        let mut members = Members::new(program)?;
        members.start_all().await?;
        Ok(Watched { name, members, elections: 0, acknowledged: 0, gap: Duration::ZERO })
    }

    async fn watch(mut self, writes: u64, length: Duration) -> Result<Watched, FailoverError> {
        let (_, term) = self.members.leader().await?;
        let mut load = Load::begin(self.members.endpoints(), writes);
        let begun = Instant::now();
        load.run_for(length).await;
        self.acknowledged = load.acknowledged();
        self.gap = load.end(begun).await;
        self.elections = self.members.leader().await?.1.saturating_sub(term);
        Ok(self)
    }
}

impl Burners {
    fn start(number: u64) -> Result<Burners, FailoverError> {
        let mut burners = Burners(Vec::new());
        for _ in 0..number {
            let path = std::env::current_exe();
            let child = path.and_then(|path| {
                let mut command = Command::new(path);
                command.args(["bench", "burner"]).env(parent::VARIABLE, "1");
                command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()
            });
            burners.0.push(child.map_err(|error| failed("cannot start a burner", error))?);
        }
        Ok(burners)
    }
}

impl Drop for Burners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill(); // it may have ended by itself
            let _ = child.wait();
        }
    }
}

fn show(options: &Options, length: Duration, watched: &[Watched]) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    output::line(format_args!(
        "three members for {length:?} under {} writes/s; {} processes compute on {processors} \
         processors",
        options.writes, options.burn
    ));
    output::line("            elections  acknowledged  longest gap (ms)");
    for one in watched {
        output::line(format_args!(
            "{:<9} {:>11}  {:>12}  {:>16}",
            one.name,
            one.elections,
            one.acknowledged,
            one.gap.as_millis()
        ));
    }
}

fn show_json(options: &Options, length: Duration, watched: &[Watched]) {
    let each = watched.iter().map(|one| {
        serde_json::json!({
            "name": one.name,
            "elections": one.elections,
            "acknowledged": one.acknowledged,
            "longest_gap_ms": one.gap.as_millis() as u64,
        })
    });
    output::line(serde_json::json!({
        "bench": "elections",
        "seconds": length.as_secs_f64(),
        "writes_per_second": options.writes,
        "burners": options.burn,
        "clusters": each.collect::<Vec<_>>(),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Words {
        #[command(flatten)]
        options: Options,
    }

    fn burn(words: &[&str]) -> Option<u64> {
        let words = ["elections"].iter().chain(words);
        Words::try_parse_from(words).ok().map(|words| words.options.burn)
    }

    #[test]
    fn no_burners_are_none_and_no_number_is_two_for_each_processor() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        assert_eq!(burn(&[]), Some(0));
        assert_eq!(burn(&["--burn=0"]), Some(0));
        assert_eq!(burn(&["--burn", "8"]), Some(8));
        assert_eq!(burn(&["--burn"]), Some(2 * processors));
        assert_eq!(burn(&["--burn", "--writes", "9"]), Some(2 * processors));
        assert_eq!(burn(&["--burn=257"]), None);
        assert_eq!(burn(&["--burn=many"]), None);
    }
}
