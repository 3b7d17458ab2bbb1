//! Runs some seeds of the service and prints what came of them.
use quorate_core::SystemModel;
use quorate_drivers::simulate::{Keep, Origin, Plan, run};
use quorate_sim::service::{Options, Service, Workload};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let from: u64 = args[1].parse().expect("a seed");
    let to: u64 = args[2].parse().expect("a seed");
    let quiet = args.get(3).is_some_and(|a| a == "calm");
    let trace = args.get(3).is_some_and(|a| a == "trace");
    let mut plan = Plan::of(SystemModel::DATA_CENTRE);
    if quiet {
        plan = plan.calm().with_nodes(5);
    }
    let mut options = Options::default();
    if let Some(w) = args.get(4) {
        options.workload = Workload::ALL.iter().find(|x| x.0 == w).expect("w").1;
    }
    if let Some(w) = args.get(5) {
        options.think = std::time::Duration::from_micros(w.parse().unwrap());
    }
    if let Some(w) = args.get(6) {
        options.clients = w.parse().unwrap();
    }
    if let Some(w) = args.get(7) {
        plan.safety = w.parse::<u64>().unwrap() * 1_000_000_000;
    }
    let begun = std::time::Instant::now();
    let mut all = quorate_drivers::simulate::Tally::default();
    for seed in from..to {
        let outcome = run(
            Service::new(options.clone()),
            &plan,
            Origin::Seed(seed),
            if trace { Keep::Trace } else { Keep::Outcome },
        );
        all.add(&outcome.tally);
        if let Some(violation) = &outcome.violation {
            println!(
                "seed {seed}: {} at {} ms: {}",
                violation.property,
                violation.at / 1_000_000,
                violation.why
            );
        }
        if trace {
            for step in outcome.steps.unwrap() {
                println!(
                    "{:9.3} {:?} n{:?} p{:?} c{:?} {} {:?}",
                    step.at as f64 / 1e6,
                    step.kind,
                    step.node.map(|n| n + 1),
                    step.peer.map(|n| n + 1),
                    step.client,
                    step.text,
                    step.state
                );
            }
        }
    }
    let wall = begun.elapsed().as_secs_f64();
    println!("{:?}", all);
    println!(
        "{:.1} simulated s / s, {:.0} ops/s, {:.0} events/s",
        all.simulated as f64 / 1e9 / wall,
        all.operations as f64 / wall,
        all.events as f64 / wall
    );
}
