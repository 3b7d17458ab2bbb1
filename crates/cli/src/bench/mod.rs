//! `quorate bench`: how fast a cluster is, of ours or of etcd's, if its answers are right.
//!
//! A load generator for any etcd v3 endpoints. What it reads it verifies, always: a figure of a
//! server that answers wrongly is worse than none.
//!
//! | file | question |
//! |---|---|
//! | `work.rs` | what one client asks |
//! | `ledger.rs`, `stamp.rs`, `space.rs` | whether an answer can be true |
//! | `verdict.rs` | what was wrong |
//! | `pace.rs` | when a client asks, and from when its latency counts |
//! | `round.rs`, `record.rs` | one round, and its figures |
//! | `watch.rs`, `leases.rs`, `age.rs` | workloads with a life of their own |
//! | `contest.rs`, `cluster.rs` | rounds of several clusters in turn |
//! | `overload.rs` | what is left of the peak when more is asked |
//! | `fill.rs` | keys before, books after |
//! | `failover/` | how long nobody is served when the leader goes; who is elected when nobody does |
//! | `echo.rs` | what a bare gRPC server does with the same clients |
//! | `cpu.rs` | what the processes of a cluster use |
//! | `report.rs`, `progress.rs` | what is shown |

mod age;
mod cluster;
mod contest;
mod cpu;
mod echo;
mod failover;
mod fill;
mod leases;
mod ledger;
mod options;
mod overload;
mod pace;
mod progress;
mod record;
mod report;
mod round;
mod space;
mod stamp;
mod verdict;
mod watch;
mod work;

use crate::client::Endpoint;
use crate::output;
use cluster::{Cluster, Kind};
use contest::{ContestError, Contestant};
use echo::EchoServer;
use failover::elections;
use fill::Gaps;
use ledger::Ledger;
pub(crate) use options::Options;
use options::{Common, Plan, UsageError};
use progress::{Progress, Wish};
use space::Space;
use std::process::ExitCode;
use std::time::Instant;
use work::Work;

/// A wrong answer, or usage: either way there are no figures.
const EXIT_WRONG: u8 = 2;

/// Measures.
pub(crate) fn run(options: &Options) -> ExitCode {
    if options.is_echo_server() {
        return echo::serve();
    }
    if options.is_burner() {
        return elections::burn();
    }
    let measured = match (options.failover(), options.elections()) {
        (Ok(Some((options, json, quiet))), _) => Ok(fail_over(options, json, quiet)),
        (_, Ok(Some((options, common)))) => Ok(hold_still(options, common)),
        (Err(error), _) | (_, Err(error)) => Err(error),
        (Ok(None), Ok(None)) => options.plan().and_then(|plan| measure(&plan)),
    };
    measured.unwrap_or_else(|error| {
        output::complain(error);
        ExitCode::from(crate::EXIT_USAGE)
    })
}

fn hold_still(options: &elections::Options, common: &Common) -> ExitCode {
    let mut progress = Progress::new(if common.quiet { Wish::Quiet } else { Wish::Shown });
    let watched = elections::run(options, common.length, common.json, &mut progress);
    match crate::client::block_on(watched) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            progress.end();
            output::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn fail_over(options: &failover::Options, json: bool, quiet: bool) -> ExitCode {
    let mut progress = Progress::new(if quiet { Wish::Quiet } else { Wish::Shown });
    let measured = crate::client::block_on(failover::run(options, json, &mut progress));
    progress.end();
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(error);
            ExitCode::FAILURE
        }
    }
}

fn measure(plan: &Plan<'_>) -> Result<ExitCode, UsageError> {
    let common = plan.common;
    let ledger = || {
        let space = Space::new(&plan.prefix(), common.keys);
        Ledger::new(space, common.run(), plan.load.work.counters())
    };
    let mut clusters =
        if plan.load.work == Work::Echo { Vec::new() } else { common.clusters(ledger)? };
    let echo = plan.with_echo.then(EchoServer::start).transpose().map_err(UsageError::Echo)?;
    let wish = if common.quiet { Wish::Quiet } else { Wish::Shown };
    let mut progress = Progress::new(wish);
    let done = if plan.fills {
        fill_all(plan, &clusters, &mut progress)
    } else if let Some(times) = plan.times {
        let (load, rounds) = (&plan.load, plan.rounds);
        let each = |cluster: &Cluster| {
            overload::run(load, times, cluster, rounds, common.json, &mut progress)
        };
        clusters.iter().try_for_each(each)
    } else {
        let endpoint =
            echo.as_ref().map(|server| vec![Endpoint::of(server.endpoint.clone(), None)]);
        clusters
            .extend(endpoint.map(|at| Cluster::new(Kind::Echo, "echo".to_owned(), at, ledger())));
        contest::run(&plan.load, clusters, plan.rounds, &mut progress)
            .map(|contestants| show(plan, &contestants))
    };
    progress.end();
    let Err(error) = done else { return Ok(ExitCode::SUCCESS) };
    let is_wrong = matches!(error, ContestError::Wrong(_));
    if common.json {
        output::line(serde_json::json!({ "error": error.to_string(), "wrong": is_wrong }));
    } else {
        output::complain(&error);
    }
    Ok(ExitCode::from(if is_wrong { EXIT_WRONG } else { 1 }))
}

fn show(plan: &Plan<'_>, contestants: &[Contestant]) {
    if plan.common.json {
        output::line(report::json(plan.name, plan.unit, &plan.load, contestants));
    } else {
        report::text(&plan.title(), plan.unit, &plan.load, contestants);
    }
}

fn fill_all(
    plan: &Plan<'_>,
    clusters: &[Cluster],
    progress: &mut Progress,
) -> Result<(), ContestError> {
    for cluster in clusters {
        let began = Instant::now();
        let filled = contest::fill(cluster, &plan.load, Gaps::Filled, progress)?;
        progress.end();
        let seconds = began.elapsed().as_secs_f64();
        let (keys, name) = (filled.keys, &cluster.name);
        if plan.common.json {
            let line = serde_json::json!({ "name": name, "keys": keys, "seconds": seconds });
            output::line(line);
        } else {
            output::line(format_args!("{name}: {keys} keys are there after {seconds:.1} s"));
        }
    }
    Ok(())
}
