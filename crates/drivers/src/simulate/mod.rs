//! The simulator: a protocol under a named system model, with every fault that the model permits,
//! until a property breaks.

mod choices;
mod clock;
mod faults;
mod kernel;
mod malice;
mod nemesis;
mod network;
mod node;
mod queue;
mod recorder;
mod run;
mod setup;
pub mod show;
mod tally;
pub mod trace;
mod world;

pub use choices::{About, Choice, ChoiceLog, Choices, LOG_MAX, MILLION, Site};
pub use faults::{Fault, UnknownFault};
pub use network::Links;
pub use recorder::STEPS_MAX;
pub use run::{Bounds, Forbidden, Keep, Origin, Outcome, Plan, Violation, run};
pub use tally::Tally;
pub use world::{Broken, Choose, Hands, Nodes, SyncError, World};
