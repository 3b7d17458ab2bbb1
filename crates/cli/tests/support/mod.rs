//! What the process tests share: real members on the loopback interface, clients, histories.
//!
//! Problem: whether an acknowledged write survives `kill -9` can only be answered by real
//! processes, real files and real sockets. Idea: a [`cluster::Cluster`] owns the processes and
//! their directories and ends them whatever happens to the test; a [`client::Client`] says of each
//! failure whether the operation may still take effect; a [`history::History`] of what clients saw
//! is judged afterwards, by a checker which is itself tested on doctored histories.
//!
//! | variable | meaning |
//! |---|---|
//! | `QUORATE_BIN` | binary under test instead of the one that was just built |
//! | `QUORATE_TEST_SEED` | replays the choices of a randomized test |
//! | `QUORATE_TEST_SECONDS` | length of the chaos of a randomized test |
//! | `QUORATE_TEST_KEEP` | keeps the directories of tests that pass, too |

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]
#![allow(dead_code, reason = "each test program uses its own part of this support code")]

pub(crate) mod client;
pub(crate) mod cluster;
pub(crate) mod files;
pub(crate) mod floods;
pub(crate) mod frozen;
pub(crate) mod history;
pub(crate) mod leased;
pub(crate) mod net;
pub(crate) mod order;
pub(crate) mod proxy;
pub(crate) mod s3;
pub(crate) mod secured;
pub(crate) mod seed;
pub(crate) mod tenants;
pub(crate) mod watchers;
pub(crate) mod watching;
pub(crate) mod workload;

/// Says something about a run that is worth reading when it failed.
pub(crate) fn report(what: impl std::fmt::Display) {
    eprintln!("{what}");
}

/// Whether a program to compare with is missing; says so, so that a skipped test is seen.
pub(crate) fn missing(program: &str) -> bool {
    let found = std::process::Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} not found on PATH; install etcd-client and etcd-server");
    }
    !found
}
