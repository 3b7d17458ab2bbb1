//! The language that every protocol and every driver of quorate speaks.
//!
//! A [`Protocol`] is a value: a deterministic state machine without clock, thread, randomness or
//! I/O. A *driver* calls its handlers, one event at a time, and carries out the [`Effect`]s which
//! the handlers push into the [`Context`]. The same value therefore runs under a simulator, an
//! explorer, a golden transcript and in production.
//!
//! | word | file | meaning |
//! |---|---|---|
//! | [`Protocol`] | `protocol.rs` | the state machine and its six associated types |
//! | [`Context`] | `context.rs` | what a handler may see and do, borrowed for one call |
//! | [`Effect`] | `effect.rs` | what it asked for, as plain data |
//! | [`Gate`] | `gate.rs` | holds a send back until the records before it are on disk |
//! | [`Frame`], [`Persist`] | `frame.rs` | how a record looks to the storage layer |
//! | [`Time`], [`WallTime`], [`Offset`] | `time.rs` | instants, the time of day, and what is between two clocks |
//! | [`Position`] | `position.rs` | the identity (term, index) of a log entry |
//! | [`SystemModel`] | `model.rs` | network x node x timing |
//! | [`Buggify`] | `buggify.rs` | taking a rare path more often, under simulation only |
//! | [`planted_bugs!`] | `planted.rs` | known mistakes which the tests must catch |

mod buggify;
mod context;
mod effect;
mod frame;
mod gate;
mod ids;
mod model;
mod planted;
mod position;
mod protocol;
mod time;

pub use buggify::Buggify;
pub use context::Context;
pub use effect::{Effect, Release};
pub use frame::{BadFrame, Frame, Persist};
pub use gate::{Gate, Lsn};
pub use ids::NodeId;
pub use model::{Network, NodeFaults, ParseModelError, SystemModel, Timing};
pub use position::{Index, Position, Term};
pub use protocol::Protocol;
pub use time::{Offset, Time, WallTime};
