//! The service as one deterministic machine: consensus, store, and who waits for what.
//!
//! No clock, thread, randomness or I/O: a driver hands in events and carries out effects, so the
//! replica that runs in production is the one that is simulated.

mod checkpoint;
mod digests;
mod envelope;
mod held;
mod lessor;
pub mod members;
mod message;
mod planted;
mod replica;
pub mod store;

pub use checkpoint::{BadConfiguration, Checkpoint, decode_metadata, encode_metadata};
pub use digests::DIGEST_EVERY;
pub use envelope::{Life, Ticket, open, seal};
pub use lessor::{LeaseAnswer, LeaseAsk, LeaseMessage, LessorMutant, lease_ttl_min};
pub use message::{BadMessage, Message};
#[cfg(feature = "mutants")]
pub use replica::Plant;
pub use replica::{
    Answer, AppliedCommands, Config, Indication, MemberTerms, Refusal, Replica, ReplicaMutant,
    Request, Timer,
};
