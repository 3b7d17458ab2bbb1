//! The simulator: a protocol under a named system model, with every fault that the model permits,
//! until a property breaks.

pub mod campaign;
mod choices;
mod clock;
pub mod example;
mod faults;
mod kernel;
mod malice;
mod mutant;
mod nemesis;
mod network;
mod node;
pub mod plain;
mod queue;
mod recorder;
pub mod replay;
mod run;
mod setup;
pub mod show;
mod shrink;
mod subject;
mod tally;
pub mod trace;
mod world;

pub use choices::{About, Choice, ChoiceLog, Choices, LOG_MAX, MILLION, Site};
pub use faults::{Fault, UnknownFault};
#[cfg(any(test, feature = "mutants"))]
pub use mutant::Mutant;
pub use network::Links;
pub use plain::{Plain, Seen, Told, hash_of_text};
pub use recorder::STEPS_MAX;
pub use run::{Bounds, Forbidden, Keep, Origin, Outcome, Plan, Violation, run};
pub use shrink::{Budget, Shrinking, Shrunk, shrink};
pub use subject::Subject;
pub use tally::Tally;
pub use world::{BootError, Broken, Choose, Hands, Nodes, SyncError, World};
