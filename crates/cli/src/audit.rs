//! `quorate audit`: whether anybody has changed an audit log since it was written.

use crate::output;
use clap::{Args, Subcommand};
use quorate_server::audit::{Head, Report, verify_dir, verify_file};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  quorate audit verify /var/log/quorate-audit
  quorate audit verify /var/log/quorate-audit --head 4711:9f2c..   a head that was kept elsewhere
  quorate audit verify audit-00000007.log                          one file by itself
  quorate audit verify /var/log/quorate-audit --json | jq .findings[]

The member logs a head whenever it starts, stops and begins another file. Without one, whoever could
write all files could have made up all of them.
Exit status: 0 nobody has changed it, 1 somebody has, 2 usage, or it cannot be read.";

/// The questions of `quorate audit`.
#[derive(Args, Debug)]
pub(crate) struct Options {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Look for records that were changed, removed, moved or made up
    Verify(Verify),
}

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
struct Verify {
    /// The directory of the log, or one of its files
    path: PathBuf,
    /// A record that must be there, as the member has logged it
    #[arg(long, value_name = "SEQ:HASH")]
    head: Option<Head>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// Reads, judges, prints.
pub(crate) fn run(options: &Options) -> ExitCode {
    let Question::Verify(Verify { path, head, json }) = &options.question;
    let verified = if path.is_dir() { verify_dir(path, *head) } else { verify_file(path, *head) };
    match verified {
        Ok(report) => {
            if *json {
                output::line(serde_json::to_string(&report).expect("numbers and text"));
            } else {
                print(&report);
            }
            if report.is_whole() { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            let text = format!("{}: {error}", path.display());
            if *json {
                output::line(json!({ "error": text }));
            } else {
                output::complain(text);
            }
            ExitCode::from(crate::EXIT_USAGE)
        }
    }
}

fn print(report: &Report) {
    for finding in &report.findings {
        let place = match finding.line {
            0 => finding.file.clone(),
            line => format!("{}:{line}", finding.file),
        };
        output::line(format_args!("{place}: {}", finding.trouble));
    }
    if report.further_findings > 0 {
        output::line(format_args!("and {} further findings", report.further_findings));
    }
    if report.lost > 0 {
        let lost = report.lost;
        output::line(format_args!("it says itself that {lost} records could not be written"));
    }
    if report.unfinished_bytes > 0 {
        output::line(format_args!(
            "it ends with {} bytes of an unfinished record: of a crash, or of this moment",
            report.unfinished_bytes
        ));
    }
    let (records, files, first, last) = (report.records, report.files, report.first, report.last);
    let verdict = if report.is_whole() { "whole" } else { "NOT whole" };
    output::line(format_args!("{verdict}: {records} records ({first} to {last}), {files} files"));
    output::line(format_args!("head: {last}:{}", report.hash));
}
