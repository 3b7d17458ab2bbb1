//! Who asks: from what a request carries to a [`Credential`], and whether it is let in.
//!
//! **Problem.** Each request has to be traced to a user, at every member, after restarts, and at
//! no price that would be felt; passwords are made to be slow to check, and a crowd that logs in
//! must not hold up those who are in.
//!
//! **Idea.** Three parts, none of which knows the others:
//!
//! ```text
//!   metadata `token` --(tokens.rs)--> Credential ----.
//!   certificate's common name ---------------------> |
//!                                                    v
//!   path --(rules.rs)--> Rule: open, of users, of root, or judged by its own content
//!                                                    |  gate.rs
//!                                                    v
//!   a read: judged on the snapshot that it reads     a write: judged when it is applied
//!
//!   name, password --(passwords.rs)--> yes or no     bcrypt: one thread, of low priority,
//!                                                    a bounded queue, and a cache before it
//! ```
//!
//! What is allowed is decided by the store's `authorize` alone. What is refused here by an old
//! state is looked at again in the present one before it is refused for good, so that a token which
//! another member has just made, or a right which was just granted, counts at once everywhere.
//!
//! | file | holds |
//! |---|---|
//! | `gate.rs` | letting requests in, judging reads and writes |
//! | `known.rs` | users and roles as this member knows them |
//! | `rules.rs` | what each method needs |
//! | `tokens.rs` | login tokens |
//! | `jwt.rs` | those that others can read |
//! | `passwords.rs` | bcrypt |
//!
//! Source: etcd `server/auth`, `server/etcdserver/v3_server.go` (behaviour).

mod gate;
mod jwt;
mod known;
mod passwords;
mod rules;
mod tokens;

pub(crate) use gate::{Asker, Certificates, Gate};
pub use jwt::{Algorithm, JwtError, JwtSettings};
pub(crate) use known::Known;
pub(crate) use passwords::Passwords;
pub use tokens::TokenKind;
pub(crate) use tokens::Tokens;
