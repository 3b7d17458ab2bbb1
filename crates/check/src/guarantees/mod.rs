//! Promises beside linearizability, each a small value that is fed events one by one.
//!
//! | promise | file | fed with |
//! |---|---|---|
//! | a watch is ordered, unique, reliable, atomic, resumable, and its bookmarks are true | `watch.rs` | what the store did; what a watcher was told |
//! | a lease outlives its last acknowledged keep-alive, and its keys go together | `lease.rs` | grants, keep-alives, deletions |
//! | a lock has one holder, and an old token writes nothing | `lock.rs` | grants, releases, fenced writes |
//! | an acknowledged write is there, or overwritten | `durability.rs` | acknowledgements; the final state |
//! | a client's revisions only grow | `revisions.rs` | answers |
//!
//! Each `on_..` takes one event and gives the first [`Broken`] that it completes. Events must come
//! in the order in which they happened; a value that has reported is not to be fed any further.
//!
//! The simulator of `quorate-sim` feeds watches and revisions as its clients see them. It judges
//! leases, locks and durability by itself, since it knows more than any client: the committed log,
//! in which each lease ends and each write lies, and true time. Here the same promises are judged
//! from what clients saw, which is all that a history of another system has.
//!
//! Bounds: memory grows with what is watched, leased or locked, as each file says; never with time.

pub mod durability;
pub mod lease;
pub mod lock;
pub mod revisions;
pub mod watch;

use std::fmt;

/// A promise that was broken, and by which events.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// The promise, in the words of the tables: `watch ordered`, `lease expiry`, ..
    pub promise: &'static str,
    /// What happened, with the events concerned.
    pub story: String,
}

impl Broken {
    pub(crate) fn new(promise: &'static str, story: impl Into<String>) -> Self {
        Broken { promise, story: story.into() }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.promise, self.story)
    }
}
