//! The door: sockets, gRPC, HTTP, peers. The only crate with async.

mod handle;
pub mod proto;

pub use handle::{Applied, Consistency, Handle, Member, Read, Refusal, Status};
