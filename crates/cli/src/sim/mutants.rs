//! Plants known bugs, one after the other, and says which are caught.

use super::options::Flags;
use super::{Verdict, boxed};
use quorate_drivers::simulate::Subject;
use quorate_sim::{Entry, Options};
use std::fmt::Display;

/// How to get a build that has them.
const HOW: &str = "this build has no planted bugs; build one that has them with \
                   'cargo run --release --features mutants -- sim --mutants'";

/// Runs these mutants, or all.
pub(super) fn run(_flags: &Flags, _names: &[String]) -> Result<Verdict, Box<dyn Display>> {
    Err(boxed(HOW))
}

/// The subject, with a bug in it if one is named.
pub(super) fn planted(
    entry: &Entry,
    options: &Options,
    mutant: Option<&str>,
) -> Result<Box<dyn Subject>, Box<dyn Display>> {
    match mutant {
        None => Ok((entry.make)(options)),
        Some(_) => Err(boxed(HOW)),
    }
}
