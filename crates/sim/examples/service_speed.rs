//! How fast five members of the service are simulated, with all checks on and no faults, on one
//! core: idle, and at about a thousand operations of clients per simulated second.
//!
//! ```console
//! $ cargo run --release -p quorate-sim --example service_speed
//! ```
//!
//! It prints the median over the rounds and, in brackets, the least and the largest. Seconds are
//! those of this process on the processor, so that other work on the machine counts for little.
#![allow(clippy::print_stdout)]

use quorate_core::SystemModel;
use quorate_drivers::simulate::{Keep, Origin, Plan, Tally, run};
use quorate_sim::service::{Options, Service, Workload};
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

const ROUNDS: usize = 3;
/// Runs of one round: seeds differ in their delays, clocks and clients.
const SEEDS: u64 = 2;

struct Scenario {
    name: &'static str,
    /// Simulated seconds of one run.
    lasting: Duration,
    /// Simulated seconds for each second of the processor.
    target: f64,
    options: Options,
}

fn scenarios() -> [Scenario; 2] {
    let idle = Options {
        workload: Workload::Idle,
        clients: 0,
        watchers: 0,
        exact: true,
        ..Options::default()
    };
    let busy = Options {
        workload: Workload::Mixed,
        clients: 105,
        think: Duration::from_millis(30),
        exact: true,
        ..Options::default()
    };
    let seconds = Duration::from_secs;
    [
        Scenario { name: "idle", lasting: seconds(100), target: 1_000.0, options: idle },
        Scenario { name: "busy", lasting: seconds(60), target: 20.0, options: busy },
    ]
}

fn main() {
    println!("| scenario | operations per simulated s | simulated s per processor s | target |");
    println!("|---|---|---|---|");
    for scenario in scenarios() {
        let mut rates = Vec::new();
        let mut all = Tally::default();
        for _ in 0..ROUNDS {
            let (tally, took) = round(&scenario);
            rates.push(seconds(&tally) / took);
            all.add(&tally);
        }
        rates.sort_by(f64::total_cmp);
        println!(
            "| {} | {:.0} | {:.1} [{:.1}, {:.1}] | {} |",
            scenario.name,
            all.operations as f64 / seconds(&all),
            rates[ROUNDS / 2],
            rates[0],
            rates[ROUNDS - 1],
            scenario.target,
        );
    }
}

fn seconds(tally: &Tally) -> f64 {
    tally.simulated as f64 / 1e9
}

fn round(scenario: &Scenario) -> (Tally, f64) {
    let plan = Plan::of(SystemModel::DATA_CENTRE).calm().with_nodes(5).lasting(scenario.lasting);
    let mut tally = Tally::default();
    let begun = processor_seconds();
    for seed in 0..SEEDS {
        let world = Service::new(scenario.options.clone());
        let outcome = run(world, &plan, Origin::Seed(seed), Keep::Outcome);
        assert_eq!(outcome.violation, None, "seed {seed}");
        tally.add(&outcome.tally);
    }
    (tally, processor_seconds() - begun)
}

fn processor_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
