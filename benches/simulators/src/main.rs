//! Deterministic simulators, measured side by side. See README.md.

mod by_hand;
mod on_madsim;
mod on_quorate;
mod on_turmoil;
mod work;

use std::time::Duration;
use work::{Candidate, Work};

const CANDIDATES: [Candidate; 4] = [
    Candidate { name: "by-hand", run: by_hand::run },
    Candidate { name: "quorate", run: on_quorate::run },
    Candidate { name: "turmoil", run: on_turmoil::run },
    Candidate { name: "madsim", run: on_madsim::run },
];

const USAGE: &str = "usage: quorate-bench-simulators [--rounds N] [--millis N] \
    [--only CANDIDATE,..]";

/// How long a run of the third figure is.
const RUN: Duration = Duration::from_secs(10);

/// What is measured.
#[derive(Clone, Copy)]
enum Figure {
    /// Messages delivered per second of processor time.
    Flood,
    /// Simulated seconds per second of processor time.
    Heartbeat,
    /// Whole runs of ten seconds with set-up per second of processor time.
    Seeds,
}

impl Figure {
    const ALL: [Figure; 3] = [Figure::Flood, Figure::Heartbeat, Figure::Seeds];

    fn name(self) -> &'static str {
        match self {
            Figure::Flood => "flood, messages/s",
            Figure::Heartbeat => "heartbeat, simulated s/s",
            Figure::Seeds => "10-second runs/s",
        }
    }

    /// Does `amount` of it (simulated seconds, or runs), and returns how much came of it.
    fn measure(self, candidate: &Candidate, amount: u64) -> f64 {
        match self {
            Figure::Flood => (candidate.run)(Work::Flood, 1, Duration::from_secs(amount)) as f64,
            Figure::Heartbeat => {
                let delivered = (candidate.run)(Work::Heartbeat, 1, Duration::from_secs(amount));
                assert_beats(delivered, amount);
                amount as f64
            }
            Figure::Seeds => {
                for seed in 0..amount {
                    assert_beats((candidate.run)(Work::Heartbeat, seed, RUN), RUN.as_secs());
                }
                amount as f64
            }
        }
    }
}

/// Twenty times a second, five nodes tell four others; a few per cent may be missing, since clocks
/// of ticks beat a little less often.
fn assert_beats(delivered: u64, seconds: u64) {
    let expected = seconds * 400;
    let range = expected * 90 / 100..=expected * 101 / 100;
    assert!(range.contains(&delivered), "{delivered} heartbeats instead of {expected}");
}

struct Options {
    rounds: usize,
    millis: u64,
    only: Option<String>,
}

fn main() {
    let Some(options) = parse() else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let chosen: Vec<&Candidate> = CANDIDATES
        .iter()
        .filter(|candidate| match &options.only {
            Some(only) => only.split(',').any(|name| name == candidate.name),
            None => true,
        })
        .collect();
    if chosen.is_empty() {
        eprintln!("{USAGE}");
        std::process::exit(2);
    }
    println!("| {:24} | candidate | median | least | largest | of the first |", "figure");
    println!("|---|---|---|---|---|---|");
    for figure in Figure::ALL {
        table(figure, &chosen, &options);
    }
}

fn parse() -> Option<Options> {
    let mut options = Options { rounds: 5, millis: 1_000, only: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => options.rounds = args.next()?.parse().ok().filter(|n| *n > 0)?,
            "--millis" => options.millis = args.next()?.parse().ok().filter(|n| *n > 0)?,
            "--only" => options.only = Some(args.next()?),
            _ => return None,
        }
    }
    Some(options)
}

/// Rounds in which each candidate has its turn, in an order that is reversed each time.
fn table(figure: Figure, chosen: &[&Candidate], options: &Options) {
    let wall = Duration::from_millis(options.millis);
    let amounts: Vec<u64> =
        chosen.iter().map(|candidate| amount(figure, candidate, wall)).collect();
    let mut rates = vec![Vec::new(); chosen.len()];
    for round in 0..options.rounds {
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let begun = cpu_time();
            let done = figure.measure(chosen[at], amounts[at]);
            rates[at].push(done / (cpu_time() - begun).as_secs_f64());
        }
    }
    rates.iter_mut().for_each(|rates| rates.sort_by(f64::total_cmp));
    let first = median(&rates[0]);
    for (candidate, rates) in chosen.iter().zip(&rates) {
        println!(
            "| {:24} | {:9} | {:.0} | {:.0} | {:.0} | {:.4} |",
            figure.name(),
            candidate.name,
            median(rates),
            rates[0],
            rates[rates.len() - 1],
            median(rates) / first,
        );
    }
}

/// So much takes about `wall`.
fn amount(figure: Figure, candidate: &Candidate, wall: Duration) -> u64 {
    let mut amount = 1;
    loop {
        let begun = cpu_time();
        figure.measure(candidate, amount);
        let took = cpu_time() - begun;
        if took * 4 > wall {
            let scale = wall.as_secs_f64() / took.as_secs_f64();
            return ((amount as f64 * scale) as u64).max(1);
        }
        amount *= 2;
    }
}

/// Processor time of this process: what others do on the machine takes no part in it, except that
/// they share its caches. Asked of the system directly, since madsim replaces what the C library
/// says about time.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn median(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    match sorted.len() % 2 {
        1 => sorted[half],
        _ => (sorted[half - 1] + sorted[half]) / 2.0,
    }
}
