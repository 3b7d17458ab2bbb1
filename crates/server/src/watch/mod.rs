//! Watching: everybody who wants it hears of every change, in order, once.
//!
//! **Problem.** Thousands of watchers follow the store. Copying each event into a queue for each of
//! them costs memory that the slowest one determines, and what to do with a full queue has no good
//! answer. And whoever hears "everything up to revision r has been told" builds on it, so that a
//! message about progress must never overtake an event.
//!
//! **Idea.** The store keeps its changes in a log that is copied in O(1); nothing else is kept.
//! A watcher is a *cursor*: the next revision that it has not been told, of fixed size.
//!
//! ```text
//!   loop thread           hub (a task)                    a stream (polled by its connection)
//!   turn ends             walks the new events once,      reads the log from the cursors of the
//!   hands over     --->   finds by the index who is       watchers that are marked, as often and
//!   a frozen History      interested, and *marks* them:   as far as the transport takes it
//!                         (first, last) revision
//!                         wakes their streams      --->
//! ```
//!
//! A mark is a span of revisions that may hold something for the watcher. Marks of a watcher melt
//! into one span, so they need no queue; a stream that is marked already is not woken again. A
//! watcher that starts in the past is marked from there to where the hub has got to, in the moment
//! in which it enters the index: events after that are marked by the hub, those before by this
//! mark. There is no other hand-over between catching up and following, hence nothing to be lost
//! or told twice at it.
//!
//! **Guarantees.** *Ordered, unique, reliable*: a watcher is told the events of its keys from its
//! start, in order, each once, or it is cancelled in so many words and with the revision to go on
//! from. *Atomic*: the events of one revision come in one message, unless fragments were asked for.
//! *Bookmarkable*: a header without events is sent for a watcher whose marks, all of them set
//! before the revision in that header was called dispatched, are used up. *Fixed cost*: a reader
//! that stops reading keeps its cursors and nothing of the store. *Fenced*: a member whose state
//! was found wrong ends all streams.
//!
//! **Bounds.** The constants below; each says what happens at it.
//!
//! | file | holds |
//! |---|---|
//! | `intervals.rs` `index.rs` | who is interested in a key |
//! | `hub.rs` `tasks.rs` | marking and waking; the tasks that do it in a member |
//! | `session.rs` | the watchers of one stream: requests, cursors |
//! | `deliver.rs` | from cursors to messages |
//! | `wire.rs` | messages as bytes |
//! | `conversation.rs` | who speaks when on a stream |
//! | `bell.rs` | waiting for keys inside the member |
//! | `api/watch.rs` | HTTP/2 around a conversation |
//! | `desk.rs` | all of it without tasks and clocks, for tests and simulators |
//!
//! Sources: etcd's documented guarantees (learning/api_guarantees) and the behaviour of etcd 3.4.23
//! and 3.5.1; Kreps, "The Log" (2013), for readers that are cursors.

mod bell;
mod conversation;
mod deliver;
pub mod desk;
mod hub;
mod index;
mod intervals;
mod mutant;
#[cfg(test)]
mod rights;
mod session;
mod tasks;
#[cfg(test)]
mod tests;
mod wire;

pub(crate) use bell::Bell;
pub(crate) use conversation::{Client, Conversation, End};
pub(crate) use hub::{Feeder, Hub, Stream};
pub use mutant::Mutant;
pub(crate) use session::{Session, Settings};

use std::time::Duration;

/// Streams on one member; a further one is refused with "too many requests".
pub(crate) const STREAMS_MAX: usize = 65_536;

/// Watchers on one stream; a further one is answered with `canceled` and a reason.
pub(crate) const STREAM_WATCHERS_MAX: usize = 65_536;

/// Watchers on one member, at some 860 bytes of resident memory each; a further one is answered
/// with `canceled` and a reason.
pub(crate) const WATCHERS_MAX: usize = 1 << 20;

/// Bytes of the keys that all watchers of a member name, as they may be as long as a request.
/// Beyond it a watcher is answered with `canceled` and a reason.
pub(crate) const KEY_BYTES_MAX: usize = 256 << 20;

/// What a stream hands to the transport at a time; more follows when that has been taken. A single
/// message may be longer, see [`REVISION_BYTES_MAX`]. Unit: bytes.
const CHUNK_BYTES: usize = 48 << 10;

/// A message takes in no further revision beyond this. Unit: bytes.
const MESSAGE_BYTES: usize = 16 << 10;

/// Events of one revision for one watcher, which must fit into one message. Beyond it the watcher
/// is cancelled with a reason that names the revision, unless it takes fragments. Unit: bytes.
const REVISION_BYTES_MAX: usize = 32 << 20;

/// Events looked at before other tasks get their turn.
const SCAN_EVENTS: usize = 4_096;

/// Events that the hub looks at before it lets watchers come and go.
const WALK_EVENTS: usize = 1_024;

/// Marks that the hub sets before it lets watchers come and go.
const WALK_MARKS: usize = 65_536;

/// Answers that wait for the transport; beyond it no further request of the stream is read, and
/// HTTP/2 tells the client to wait.
const ANSWERS_MAX: usize = 64;

/// How long the changes before a compaction can still be read by watchers which were about to.
/// A watcher that is told what happens never falls behind a compaction, then, however fast that
/// follows the writes.
const COMPACTION_GRACE: Duration = Duration::from_secs(1);

/// A transport that has taken nothing for so long is called stuck,
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// and when it moves again, its watchers which are more than so many revisions behind are cancelled
/// with a reason that names the revision to resume from: that client has to read the state anew
/// sooner than a million changes.
const LAG_REVISIONS_MAX: u64 = 1_000_000;
