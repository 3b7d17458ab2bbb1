//! The door: sockets, gRPC, HTTP, peers. The only crate with async.

mod admission;
pub mod api;
pub mod audit;
pub mod auth;
pub mod checkpointing;
mod clock_rate;
mod codec;
pub mod config;
pub mod dns;
pub mod echo;
mod force;
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
mod genesis;
pub mod guarantees;
mod handle;
mod host;
mod identity;
mod metrics;
pub mod naming;
pub mod overload;
mod peers;
pub mod proto;
pub mod recover;
mod register;
mod reply;
mod run;
pub mod shelf;
pub mod snapshot;
pub mod timekeeping;
pub mod tls;
mod upkeep;
pub mod url;
pub mod verify;
mod wal_log;
pub mod watch;
mod witness;

pub use config::Config;
pub use handle::{Applied, Consistency, Handle, Member, Read, Refusal, Status};
pub use host::successor;
pub use identity::IdentityError;
pub use peers::DiskLost;
pub use recover::RecoverError;
pub use run::{RunError, run};
pub use witness::{ExitNotice, Notices, Supervisor};
