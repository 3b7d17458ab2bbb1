//! The repository's own chores: `cargo xtask tidy`, `fmt`, `ci`, `upgrade`.
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
  upgrade REVISION
         builds that revision of the repository, and upgrades a cluster of it to this one while
         clients write

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
        ["upgrade", revision] => status(upgrade_from(revision)),
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

/// The test of a rolling upgrade, from a revision that lies below `target/` until the next one.
fn upgrade_from(revision: &str) -> bool {
    let tree = root().join("target/previous");
    let git = |arguments: &[&str]| run(Command::new("git").args(arguments).current_dir(root()));
    let place = tree.to_string_lossy();
    if tree.exists() && !git(&["worktree", "remove", "--force", &place]) {
        return false;
    }
    if !git(&["worktree", "add", "--detach", &place, revision]) {
        return false;
    }
    let built = root().join("target/previous-build");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "-p", "quorate"]).current_dir(&tree).env("CARGO_TARGET_DIR", &built);
    let mut test = Command::new(env!("CARGO"));
    test.args(["test", "-p", "quorate", "--test", "upgrade", "--", "--nocapture"])
        .current_dir(root())
        .env("QUORATE_PREVIOUS_BIN", built.join("debug/quorate"));
    run(&mut build) && run(&mut test)
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
