//! TLS: encrypted connections between members and with clients, and who may make one.
//!
//! Problem: whoever reaches a port of a coordination service can read and change what a company
//! runs on. Idea: both ends show certificates that a CA of the operator has signed. Settings and
//! their meaning are etcd's, the protocol is rustls' with the primitives of ring, and what is ours
//! is what surrounds it: files that are kept up with, handshakes that disturb nobody, and reasons
//! that a person can act on.
//!
//! What holds: a port with an https URL gives no byte of the service to who has not finished a
//! handshake; where a CA is named, nor to who has no certificate of it that is valid now, is not
//! revoked, and carries an allowed name. A changed file is in force after
//! [`keeper::LOOK_EVERY`] at most, for connections that begin from then on; a broken one is not,
//! and what was in force stays. Connections that exist are not looked at again. Keys are never
//! shown: no message, log line or `Debug` of this module holds one.
//!
//! | file | question |
//! |---|---|
//! | `settings.rs` `policy.rs` | what was set, versions and suites |
//! | `files.rs` | what lies on disk |
//! | `keeper.rs` `expiry.rs` | what is in force, and until when |
//! | `names.rs` | who is let in |
//! | `handshakes.rs` `accept.rs` | being called |
//! | `client.rs` | calling |
//! | `reason.rs` `complaints.rs` `gauges.rs` | why not, how often it is said, what is counted |
//! | `own.rs` `pki.rs` | certificates of our own |
//!
//! Sources: RFC 8446, RFC 5280; etcd `client/pkg/transport`.

mod accept;
mod client;
mod complaints;
mod expiry;
mod files;
mod gauges;
mod handshakes;
mod keeper;
mod names;
mod own;
pub mod pki;
mod policy;
mod reason;
mod settings;
#[cfg(test)]
mod tests;

pub(crate) use accept::{Listener, Socket, Terminator, linger};
pub(crate) use client::call_within;
pub use client::{Client, ClientFiles, Verify};
pub(crate) use files::Facts;
pub use files::FileError;
pub(crate) use gauges::Gauges;
pub(crate) use keeper::Door;
pub use own::OwnError;
pub(crate) use own::{Secured, open};
pub use policy::{TlsVersion, Unfit};
pub(crate) use reason::Failure;
pub use settings::{SELF_SIGNED_YEARS_MAX, Side, TlsConfig, TlsConfigError};
