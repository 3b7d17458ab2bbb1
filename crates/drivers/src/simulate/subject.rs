//! What can be run again and again: a world and its options, hidden behind a plan.
//!
//! The shrinker and the campaign run thousands of runs of the same thing and look at outcomes only.
//! They know neither the protocol nor its world, so that one campaign serves every protocol, those
//! of a user's own crate too: a function that makes a fresh world is a subject.

use super::run::{Keep, Origin, Outcome, Plan};
use super::world::World;

/// Something that can be run, from several threads at a time.
pub trait Subject: Sync {
    /// Runs it once, from the beginning. The same plan and origin give the same outcome.
    fn run(&self, plan: &Plan, origin: Origin<'_>, keep: Keep) -> Outcome;

    /// What a campaign should have seen at least once.
    fn marks(&self) -> &'static [&'static str];
}

impl<W: World, F: Fn() -> W + Sync> Subject for F {
    fn run(&self, plan: &Plan, origin: Origin<'_>, keep: Keep) -> Outcome {
        super::run::run(self(), plan, origin, keep)
    }

    fn marks(&self) -> &'static [&'static str] {
        self().marks()
    }
}
