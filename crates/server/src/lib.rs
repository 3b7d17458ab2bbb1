//! The door: sockets, gRPC, HTTP, peers. The only crate with async.

pub mod config;
mod handle;
pub mod proto;
mod run;
pub mod url;

pub use config::Config;
pub use handle::{Applied, Consistency, Handle, Member, Read, Refusal, Status};
pub use run::{RunError, run};
