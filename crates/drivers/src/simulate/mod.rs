//! The simulator: a protocol under a named system model, with every fault that the model permits,
//! until a property breaks; then the smallest story of how it broke.
//!
//! **Problem.** What goes wrong in a distributed system is rare, and hardly ever happens twice.
//!
//! **Idea.** One thread, virtual time, and every choice drawn from one log: which message is late,
//! whose power fails, what a client asks. The same choices give the same run, on every machine; so
//! a run can be drawn, replayed, made smaller, and enumerated.
//!
//! ```text
//!   Plan (model, faults, nodes) --+                                  Outcome: tally, digest,
//!   Origin (seed, or log) --------+--> run --> kernel <--> World --> violation, choices, trace
//!                                                |                      |
//!            campaign: many seeds, threads ------+      shrink <--------+--> show: text, page
//! ```
//!
//! | what | file |
//! |---|---|
//! | one run | `run.rs`: [`Plan`], [`run`], [`Outcome`] |
//! | its choices | `choices.rs`: [`Choices`], [`Site`]; `setup.rs` draws its shape |
//! | its loop | `kernel.rs`, with `queue.rs`, `node.rs`, `clock.rs`, `oscillator.rs`, `network.rs` |
//! | lives and ends | `lives.rs`, `calm.rs`; who may stay away: `recovery.rs` |
//! | its faults | `faults.rs`: [`Fault`]; `nemesis.rs` begins and ends them, `malice.rs` lies |
//! | .. that wait for leaders | `ambush.rs` |
//! | what surrounds the nodes | `world.rs`: [`World`]; `plain.rs`: [`Plain`], for a protocol of yours |
//! | many runs | `campaign.rs`, `seeds.rs`, `tally.rs`, `subject.rs` |
//! | what is printed of them, and added up | `report.rs`, `terms.rs` |
//! | a smaller run | `shrink.rs`, `replay.rs` |
//! | looking at it | `trace.rs`, `recorder.rs`, `show/` |
//! | does it find anything? | `mutant.rs`: mistakes of the simulator itself; `example.rs` breaks |
//!
//! **Guarantees.** The simulator does nothing that the model of the run forbids, and counts what it
//! did. Every run ends in a *calm*: faults end, who can return returns, Byzantine nodes fall
//! silent, and the system must come to serve within a bound, unless it is asynchronous.
//!
//! **Bounds.** Those of each file; a run keeps its choices and its steps only if asked to.
//!
//! Sources: FoundationDB's simulator (Zhou et al., 2021) and TigerBeetle's VOPR for the idea; Groce
//! et al., "Swarm Testing" (2012); Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input" (2002), for making runs smaller.

#[cfg(test)]
mod altered;
mod ambush;
mod calm;
pub mod campaign;
mod choices;
mod clock;
pub mod example;
mod faults;
mod kernel;
mod lives;
mod malice;
mod mutant;
mod nemesis;
mod network;
mod node;
mod oscillator;
pub mod plain;
mod queue;
mod recorder;
mod recovery;
pub mod replay;
pub mod report;
mod run;
pub mod seeds;
mod setup;
pub mod show;
mod shrink;
mod subject;
mod tally;
pub mod terms;
pub mod trace;
mod world;

pub use choices::{About, Choice, ChoiceLog, Choices, LOG_MAX, MILLION, Site};
pub use faults::{Fault, UnknownFault};
#[cfg(any(test, feature = "mutants"))]
pub use mutant::Mutant;
pub use network::Links;
pub use oscillator::{EPOCH, NodeClocks, Oscillator, Suspend};
pub use plain::{Plain, Seen, Told, hash_of_text};
pub use recorder::STEPS_MAX;
pub use run::{Bounds, Forbidden, Keep, Origin, Outcome, Plan, Switch, UNDECIDED, Violation, run};
pub use shrink::{Budget, Shrinking, Shrunk, shrink};
pub use subject::Subject;
pub use tally::Tally;
pub use world::{BootError, Broken, Choose, Hands, Nodes, SyncError, World};
