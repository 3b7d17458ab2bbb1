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
//! | `contest.rs`, `cluster.rs` | rounds of several clusters in turn |
//! | `fill.rs` | keys before, books after |
//! | `cpu.rs` | what the processes of a cluster use |
//! | `report.rs`, `progress.rs` | what is shown |

mod cluster;
mod contest;
mod cpu;
mod fill;
mod ledger;
mod options;
mod pace;
mod progress;
mod record;
mod report;
mod round;
mod space;
mod stamp;
mod verdict;
mod work;

use crate::output;
use contest::ContestError;
use ledger::Ledger;
pub(crate) use options::Options;
use options::{Common, Plan, UsageError};
use progress::{Progress, Wish};
use space::Space;
use std::process::ExitCode;

/// A wrong answer, or usage: either way there are no figures.
const EXIT_WRONG: u8 = 2;

/// Measures.
pub(crate) fn run(options: &Options) -> ExitCode {
    match options.plan().and_then(|plan| measure(&plan, plan.common)) {
        Ok(code) => code,
        Err(error) => {
            output::complain(error);
            ExitCode::from(crate::EXIT_USAGE)
        }
    }
}

fn measure(plan: &Plan<'_>, common: &Common) -> Result<ExitCode, UsageError> {
    let clusters = common.clusters(|| {
        let space = Space::new(&common.prefix, common.keys);
        Ledger::new(space, common.run(), plan.load.work.counters())
    })?;
    let wish = if common.quiet { Wish::Quiet } else { Wish::Shown };
    let mut progress = Progress::new(wish);
    let done = contest::run(&plan.load, clusters, common.rounds, &mut progress);
    progress.end();
    match done {
        Ok(contestants) if common.json => {
            output::line(report::json(plan.name, plan.unit, &plan.load, &contestants));
        }
        Ok(contestants) => report::text(&plan.title(), plan.unit, &plan.load, &contestants),
        Err(error) => {
            let is_wrong = matches!(error, ContestError::Wrong(_));
            if common.json {
                output::line(serde_json::json!({ "error": error.to_string(), "wrong": is_wrong }));
            } else {
                output::complain(&error);
            }
            return Ok(ExitCode::from(if is_wrong { EXIT_WRONG } else { 1 }));
        }
    }
    Ok(ExitCode::SUCCESS)
}
