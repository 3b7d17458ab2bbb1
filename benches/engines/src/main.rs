//! Measures candidates for the engine under the multi-version store. See README.md.

mod engine;
mod index;
mod measure;
mod on_fjall;
mod on_redb;
mod on_store;
mod ours;
mod tree_key;
mod workload;

use measure::{disk_mib, evict, figure, memory_mib};
use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{self, Command};

const CANDIDATES: [&str; 5] = ["store", "redb", "fjall", "tree", "tree-inline"];

const USAGE: &str = "usage: quorate-bench-engines [--keys N] [--overwrites N] [--hot N] \
    [--value BYTES] [--cache-mib N] [--data-limit-mib N] [--rounds N] [--only ENGINE,..] \
    [--dir PATH] [--json]";

/// The workload and where it runs.
#[derive(Clone)]
struct Options {
    keys: usize,
    overwrites: usize,
    hot: usize,
    value: usize,
    cache_mib: usize,
    data_limit_mib: u64,
    rounds: usize,
    only: Option<String>,
    dir: PathBuf,
    json: bool,
    child: Option<String>,
}

fn main() {
    let options = parse();
    match options.child.as_deref() {
        Some("write") => by_engine(&options, Phase::Write),
        Some("restart") => by_engine(&options, Phase::Restart),
        Some("cold") => by_engine(&options, Phase::Cold),
        _ => all(&options),
    }
}

enum Phase {
    Write,
    Restart,
    Cold,
}

fn parse() -> Options {
    let mut options = Options {
        keys: 1_000_000,
        overwrites: 1_000_000,
        hot: 10_000,
        value: 256,
        cache_mib: 256,
        data_limit_mib: 0,
        rounds: 3,
        only: None,
        dir: env::temp_dir().join(format!("quorate-bench-engines-{}", process::id())),
        json: false,
        child: None,
    };
    let mut arguments = env::args().skip(1);
    while let Some(name) = arguments.next() {
        if name == "--json" {
            options.json = true;
            continue;
        }
        let value = arguments.next().unwrap_or_else(|| usage());
        let number = || value.parse::<usize>().unwrap_or_else(|_| usage());
        match name.as_str() {
            "--keys" => options.keys = number(),
            "--overwrites" => options.overwrites = number(),
            "--hot" => options.hot = number(),
            "--value" => options.value = number(),
            "--cache-mib" => options.cache_mib = number(),
            "--data-limit-mib" => options.data_limit_mib = number() as u64,
            "--rounds" => options.rounds = number(),
            "--only" => options.only = Some(value),
            "--dir" => options.dir = value.into(),
            "--child" => options.child = Some(value),
            _ => usage(),
        }
    }
    options
}

fn usage() -> ! {
    eprintln!("{USAGE}");
    process::exit(2)
}

/// Runs every candidate in fresh processes and prints the medians so far after each round.
fn all(options: &Options) {
    let mut figures: BTreeMap<(String, &str), Vec<f64>> = BTreeMap::new();
    for round in 1..=options.rounds {
        for candidate in CANDIDATES {
            if options
                .only
                .as_ref()
                .is_some_and(|only| !only.split(',').any(|name| name == candidate))
            {
                continue;
            }
            let _ = fs::remove_dir_all(&options.dir);
            fs::create_dir_all(&options.dir).expect("directory");
            for phase in ["write", "restart", "cold"] {
                eprintln!("round {round}: {candidate} {phase}");
                let Some(output) = child(options, candidate, phase) else { break };
                for line in output.lines() {
                    let (name, value) = line.split_once(' ').expect("a figure");
                    let value = value.parse().expect("a number");
                    figures.entry((name.to_owned(), candidate)).or_default().push(value);
                }
            }
        }
        if !options.json {
            println!("after {round} of {} rounds:\n", options.rounds);
            print_table(&mut figures);
        }
    }
    let _ = fs::remove_dir_all(&options.dir);
    if options.json {
        print_json(&mut figures);
    }
}

/// Figures of one phase in its own process; `None` if it died, as it must when memory runs out.
fn child(options: &Options, candidate: &str, phase: &str) -> Option<String> {
    let mut command = Command::new(env::current_exe().expect("own path"));
    let numbers = [
        ("--keys", options.keys),
        ("--overwrites", options.overwrites),
        ("--hot", options.hot),
        ("--value", options.value),
        ("--cache-mib", options.cache_mib),
        ("--data-limit-mib", options.data_limit_mib as usize),
    ];
    for (name, value) in numbers {
        command.arg(name).arg(value.to_string());
    }
    command.arg("--dir").arg(&options.dir).args(["--only", candidate, "--child", phase]);
    let output = command.stderr(process::Stdio::inherit()).output().expect("child");
    if !output.status.success() {
        eprintln!("{candidate} {phase}: {}", output.status);
        return None;
    }
    Some(String::from_utf8(output.stdout).expect("text"))
}

/// Median, and behind it the least and the largest of the rounds.
fn spread(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

fn print_table(figures: &mut BTreeMap<(String, &str), Vec<f64>>) {
    println!("| figure | {} |\n|---|---|---|---|---|---|", CANDIDATES.join(" | "));
    let names: std::collections::BTreeSet<String> =
        figures.keys().map(|(name, _)| name.clone()).collect();
    for name in names {
        let cells = CANDIDATES.map(|candidate| {
            figures.get_mut(&(name.clone(), candidate)).map_or("-".to_owned(), |values| {
                let (median, least, most) = spread(values);
                format!("{median:.3} ({least:.3}..{most:.3})")
            })
        });
        println!("| {name} | {} |", cells.join(" | "));
    }
}

fn print_json(figures: &mut BTreeMap<(String, &str), Vec<f64>>) {
    let lines: Vec<String> = figures
        .iter()
        .map(|((name, candidate), values)| {
            format!(
                "  {{\"engine\": \"{candidate}\", \"figure\": \"{name}\", \"rounds\": {values:?}}}"
            )
        })
        .collect();
    println!("[\n{}\n]", lines.join(",\n"));
}

fn by_engine(options: &Options, phase: Phase) {
    if options.data_limit_mib > 0 {
        let limit = Some(options.data_limit_mib << 20);
        let limit = rustix::process::Rlimit { current: limit, maximum: limit };
        rustix::process::setrlimit(rustix::process::Resource::Data, limit).expect("limit");
    }
    match options.only.as_deref() {
        Some("tree") => run::<ours::Ours<tree_key::PointedKey>>(options, phase),
        Some("tree-inline") => run::<ours::Ours<tree_key::InlineKey>>(options, phase),
        Some("store") => run::<on_store::OnStore>(options, phase),
        Some("redb") => run::<on_redb::OnRedb>(options, phase),
        Some("fjall") => run::<on_fjall::OnFjall>(options, phase),
        _ => usage(),
    }
    // As a crash: no engine gets the chance to say goodbye.
    process::exit(0)
}

fn run<E: engine::Engine>(options: &Options, phase: Phase) {
    match phase {
        Phase::Write => write::<E>(options),
        Phase::Restart => restart::<E>(options, "restart"),
        Phase::Cold => {
            evict(&options.dir);
            restart::<E>(options, "cold");
        }
    }
}

fn write<E: engine::Engine>(options: &Options) {
    let (mut engine, _) = E::open(&options.dir, options.cache_mib << 20);
    workload::load(&mut engine, options.keys, options.value);
    figure("load.rss_mib", memory_mib("RssAnon"));
    engine.settle();
    figure("load.disk_mib", disk_mib(&options.dir));
    workload::get(&mut engine, "get", options.keys, 300_000.min(options.keys));
    workload::range(&mut engine, options.keys, 300);
    workload::overwrite(&mut engine, options.keys, options.hot, options.overwrites, options.value);
    figure("overwrite.rss_mib", memory_mib("RssAnon"));
    figure("peak.rss_mib", memory_mib("VmHWM"));
    engine.settle();
    figure("overwrite.disk_mib", disk_mib(&options.dir));
    // The engine must not be dropped: a clean close would make the restart look better.
    std::mem::forget(engine);
}

fn restart<E: engine::Engine>(options: &Options, phase: &str) {
    let (mut engine, restart) = E::open(&options.dir, options.cache_mib << 20);
    figure(&format!("{phase}.total_s"), (restart.load + restart.replay).as_secs_f64());
    figure(&format!("{phase}.load_s"), restart.load.as_secs_f64());
    figure(&format!("{phase}.replay_s"), restart.replay.as_secs_f64());
    figure(&format!("{phase}.replayed"), restart.replayed as f64);
    figure(&format!("{phase}.rss_mib"), memory_mib("RssAnon"));
    let expected = (options.keys + options.overwrites / workload::BATCH * workload::BATCH) as u64;
    assert_eq!(engine.revision(), expected, "nothing synced was lost");
    workload::get(&mut engine, &format!("{phase}.get"), options.keys, 100_000.min(options.keys));
    if phase == "cold" {
        let start = std::time::Instant::now();
        engine.squeeze();
        figure("squeeze.s", start.elapsed().as_secs_f64());
        figure("squeeze.disk_mib", disk_mib(&options.dir));
    }
    std::mem::forget(engine);
}
