//! Raft: a replicated log under a strong leader.

mod interface;
mod membership;
mod message;
mod record;

pub use interface::{
    Config, Indication, ReconfigureRefusal, Refusal, Request, RoleName, Standing, Timer,
    TransferOutcome,
};
pub use membership::Configuration;
pub use message::{Body, Cause, Message, Verdict};
pub use record::{Entry, Payload, Record};
