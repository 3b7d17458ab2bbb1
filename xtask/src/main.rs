//! The repository's own chores: `cargo xtask tidy`, `fmt`, `ci`.
//!
//! What a check of this repository runs is written here and nowhere else: the hosted checks call
//! `cargo xtask ci`, and so can everybody before a push. It needs nothing but the Rust toolchain.

mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask <command>

  tidy   the rules of the house that no compiler knows (also part of `cargo test`)
  fmt    formats the workspace
  ci     what the hosted checks run: fmt --check, clippy, tidy, test

exit status: 0 all is well, 1 something is not, 2 no such command
";

/// Steps of `ci` beside `tidy`, cheapest first.
const STEPS: &[&[&str]] = &[
    &["fmt", "--all", "--check"],
    &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
    &["test", "--workspace", "--no-fail-fast"],
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["tidy"] => status(tidy_up()),
        ["fmt"] => status(cargo(&["fmt", "--all"])),
        ["ci"] => status(tidy_up() && STEPS.iter().all(|step| cargo(step)) && licences()),
        _ => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().expect("the workspace lies above xtask").to_path_buf()
}

fn status(is_well: bool) -> ExitCode {
    if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tidy_up() -> bool {
    let offences = match tidy::Tree::load(&root()) {
        Ok(tree) => tidy::offences(&tree),
        Err(why) => {
            eprintln!("cannot read the repository: {why}");
            return false;
        }
    };
    offences.iter().for_each(|offence| println!("{offence}"));
    offences.is_empty()
}

fn cargo(arguments: &[&str]) -> bool {
    eprintln!("cargo {}", arguments.join(" "));
    run(Command::new(env!("CARGO")).args(arguments).current_dir(root()))
}

/// Checks licences and advisories where `cargo-deny` is installed; it is never required.
fn licences() -> bool {
    let is_there = Command::new("cargo-deny").arg("--version").output().is_ok();
    !is_there || cargo(&["deny", "check", "licenses", "bans", "sources"])
}

fn run(command: &mut Command) -> bool {
    match command.status() {
        Ok(status) => status.success(),
        Err(why) => {
            eprintln!("{command:?}: {why}");
            false
        }
    }
}
