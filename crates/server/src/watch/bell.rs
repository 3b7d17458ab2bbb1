//! Waiting inside the member until certain keys change.
//!
//! **Problem.** Who waits for a lock waits for two keys: that of the candidate before it, and its
//! own. Ten thousand that wait must not be woken by each write of everybody.
//!
//! **Idea.** A bell is a stream of watchers (see [`super`]) without messages: the hub marks it when
//! one of its keys changes, and whoever waits then looks at the store by itself. What it reads
//! after the bell rang holds the change: a turn is published before the hub hears of it.
//!
//! **Guarantee.** A change at or after the revision that a key was asked for from rings the bell,
//! at least once. It may ring for nothing.
//!
//! **Bounds.** A bell counts as a stream, each of its keys as a watcher.

use super::hub::{Full, Kinds, Span, Stream};
use crate::api::ApiError;
use quorate_core::Time;
use quorate_replica::store::{History, Keys, Revision};
use std::future::poll_fn;
use std::task::Poll;

/// The interest in some keys. Its end is the end of it.
#[derive(Debug)]
pub(crate) struct Bell {
    stream: Stream,
    requires_leader: bool,
    /// By slot.
    seats: Vec<Option<(u32, Keys)>>,
    /// What happened before a key was taken in, and after the revision that was asked for.
    missed: Option<Span>,
}

impl Bell {
    /// A bell that nothing rings yet. `history` is of a moment after `stream` was opened.
    pub(crate) fn new(stream: Stream, history: History, now: Time, requires_leader: bool) -> Bell {
        stream.offer(history, now);
        Bell { stream, requires_leader, seats: Vec::new(), missed: None }
    }

    /// Rings from now on for changes of `keys` at `from` and later. What this slot rang for before
    /// is forgotten.
    ///
    /// Errors: [`ApiError::TooManyRequests`] if the member has too many watchers.
    pub(crate) fn set(&mut self, slot: u32, keys: Keys, from: Revision) -> Result<(), ApiError> {
        let at = slot as usize;
        if self.seats.len() <= at {
            self.seats.resize_with(at + 1, || None);
        }
        if let Some((seat, keys)) = self.seats[at].take() {
            self.stream.hub.leave(seat, &keys);
        }
        let kinds = Kinds { puts: true, deletes: true };
        let joined = self.stream.hub.join(&self.stream.mailbox, slot, &keys, from, kinds);
        let joined = joined.map_err(|full| match full {
            Full::Watchers | Full::KeyBytes => ApiError::TooManyRequests,
        })?;
        self.seats[at] = Some((joined.seat, keys));
        self.missed = melted(self.missed, joined.missed);
        Ok(())
    }

    /// Waits until it rings, or rang since the last call. Answers with the first revision that may
    /// hold a change.
    ///
    /// Errors: why streams end.
    pub(crate) async fn rung(&mut self) -> Result<Revision, ApiError> {
        let mut rung = self.missed.take();
        poll_fn(|cx| {
            loop {
                if let Some(why) = self.stream.hub.ended(self.requires_leader) {
                    return Poll::Ready(Err(why));
                }
                self.stream.mailbox.take(|_, span| rung = melted(rung, Some(span)));
                if let Some(span) = rung {
                    return Poll::Ready(Ok(span.first));
                }
                let slept = self.stream.mailbox.sleep(cx.waker());
                // The end may have come before the waker was left.
                if slept && self.stream.hub.ended(self.requires_leader).is_none() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Errors: why streams end.
    pub(crate) fn is_going_on(&self) -> Result<(), ApiError> {
        self.stream.hub.ended(self.requires_leader).map_or(Ok(()), Err)
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        for (seat, keys) in self.seats.drain(..).flatten() {
            self.stream.hub.leave(seat, &keys);
        }
    }
}

fn melted(one: Option<Span>, other: Option<Span>) -> Option<Span> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.melt(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Hub;
    use bytes::Bytes;
    use quorate_replica::store::{Command, Put, Store};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Arc;
    use std::task::{Context, Waker};

    const NOW: Time = Time::from_nanos(1);

    fn keys(key: &'static str) -> Keys {
        Keys { key: Bytes::from(key), range_end: Bytes::new() }
    }

    fn put(store: &mut Store, hub: &Hub, key: &'static str) -> Revision {
        let (key, value) = (Bytes::from(key), Bytes::from_static(b"v"));
        store.apply(&Command::Put(Put { key, value, ..Put::default() }));
        hub.offer(store.history(), NOW);
        hub.walk();
        store.revision()
    }

    fn rung(bell: &mut Bell) -> Option<Result<Revision, ApiError>> {
        match pin!(bell.rung()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => Some(answer),
            Poll::Pending => None,
        }
    }

    fn bell(store: &Store, hub: &Arc<Hub>) -> Bell {
        let stream = Stream::open(hub, false).expect("room for one");
        Bell::new(stream, store.history(), NOW, false)
    }

    #[test]
    fn it_rings_for_its_keys_and_for_no_others() {
        let (mut store, hub) = (Store::new(), Arc::new(Hub::new()));
        let mut bell = bell(&store, &hub);
        bell.set(0, keys("a"), store.revision().next()).expect("room");
        assert_eq!(rung(&mut bell), None);
        put(&mut store, &hub, "b");
        assert_eq!(rung(&mut bell), None);
        let at = put(&mut store, &hub, "a");
        assert_eq!(rung(&mut bell), Some(Ok(at)));
        assert_eq!(rung(&mut bell), None, "once");
        bell.set(0, keys("b"), store.revision().next()).expect("room");
        put(&mut store, &hub, "a");
        assert_eq!(rung(&mut bell), None, "the former key is forgotten");
        let at = put(&mut store, &hub, "b");
        assert_eq!(rung(&mut bell), Some(Ok(at)));
    }

    #[test]
    fn it_rings_for_what_happened_before_it_was_set_and_after_what_was_seen() {
        let (mut store, hub) = (Store::new(), Arc::new(Hub::new()));
        let mut other = bell(&store, &hub);
        other.set(0, keys("a"), Revision(0)).expect("room");
        let seen = store.revision();
        let mut bell = bell(&store, &hub);
        put(&mut store, &hub, "a");
        bell.set(0, keys("a"), seen.next()).expect("room");
        assert_eq!(rung(&mut bell), Some(Ok(seen.next())));
    }

    #[test]
    fn it_ends_with_the_member() {
        let (store, hub) = (Store::new(), Arc::new(Hub::new()));
        let mut bell = bell(&store, &hub);
        assert_eq!(rung(&mut bell), None);
        hub.stop();
        assert_eq!(rung(&mut bell), Some(Err(ApiError::Stopped)));
    }
}
