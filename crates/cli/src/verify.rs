//! `quorate verify`: whether the data directory of a stopped member is whole.
//!
//! It runs what a member runs when it starts, on a copy in memory of what that would change; see
//! [`quorate_server::verify`].

use crate::output;
use clap::Args;
use indicatif::HumanBytes;
use quorate_server::verify::{CheckpointFound, Report, Start, verify};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  quorate verify m1.etcd
  quorate verify /backup/m1.etcd --wal-dir /backup/m1.wal
  quorate verify m1.etcd --json | jq .damage

Nothing is changed, and nothing has to be writable. The member must not run.

Exit status: 0 whole, 1 damaged, 2 there is nothing that could be looked at.";

/// Something is damaged.
const EXIT_DAMAGED: u8 = 1;

/// The flags of `quorate verify`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// The --data-dir of the member
    dir: PathBuf,
    /// Its --wal-dir, if the log is apart
    #[arg(long)]
    wal_dir: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Looks, prints, judges.
pub(crate) fn run(options: &Options) -> ExitCode {
    let report = match verify(&options.dir, options.wal_dir.as_deref()) {
        Ok(report) => report,
        Err(error) => {
            output::complain(error);
            return ExitCode::from(crate::EXIT_USAGE);
        }
    };
    if options.json {
        output::line(serde_json::to_string(&report).expect("numbers and text"));
    } else {
        lines(&report).iter().for_each(output::line);
    }
    if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DAMAGED) }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![format!("member {} of cluster {}", report.member, report.cluster)];
    lines.extend(report.checkpoints.iter().map(checkpoint));
    let log = HumanBytes(report.log_bytes);
    lines.push(format!("log: {} records in {log}", report.records));
    if report.unfinished_bytes > 0 {
        let bytes = HumanBytes(report.unfinished_bytes);
        lines.push(format!("  the last crash left {bytes} unfinished, which were never confirmed"));
    }
    for finding in &report.damage {
        lines.push(format!("damaged: {}: {}", finding.what, finding.why));
    }
    match &report.start {
        Start::Yes { revision, digest, from_peers: 0 } => {
            lines.push(format!(
                "a member starts with revision {revision}, digest {digest}, and the log after it"
            ));
        }
        Start::Yes { revision, from_peers, .. } => lines.push(format!(
            "a member starts with revision {revision} and the log after it, and asks its peers for \
             {from_peers} lost records"
        )),
        Start::No { why } => lines.push(format!("a member refuses to start: {why}")),
    }
    lines.push(if report.is_whole() { "whole" } else { "damaged" }.to_owned());
    lines
}

fn checkpoint(found: &CheckpointFound) -> String {
    let CheckpointFound { term, index, bytes } = found;
    // As positions are written in logs.
    match bytes {
        Some(bytes) => format!("checkpoint at {index}@{term}: {}, whole", HumanBytes(*bytes)),
        None => format!("checkpoint at {index}@{term}: damaged"),
    }
}
