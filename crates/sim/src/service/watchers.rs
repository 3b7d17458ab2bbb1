//! Clients that watch, and what they may rely on.
//!
//! A watcher follows a range from a revision on. Whatever member it is connected to, and however
//! often it has to connect anew, it is told every change of the range: in order, each once, those
//! of one revision together, and never that it has seen everything up to a revision before it has.
//! It knows what it is owed from the [`Truth`].
//!
//! Source: etcd's "KV API guarantees", watch: ordered, unique, reliable, atomic, resumable,
//! bookmarkable.

use super::truth::{Change, Truth};
use bytes::Bytes;
use quorate_drivers::simulate::Broken;
use quorate_replica::store::Keys;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::mvccpb;
use quorate_server::watch::desk::StreamId;

/// One watcher, over all its connections.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) keys: Keys,
    /// The member and the stream that it listens to.
    pub(super) seat: Option<(usize, StreamId)>,
    /// It has seen everything before this revision; 0 if it wants what happens from now on.
    pub(super) next: u64,
    /// The stream has confirmed it.
    created: bool,
}

/// What a watcher makes of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// It goes on.
    Fine,
    /// It was cancelled, and begins anew.
    Canceled,
}

fn broken(why: String) -> Broken {
    Broken::new("watch", why)
}

impl Watcher {
    pub(super) fn new(keys: Keys, from: u64) -> Watcher {
        Watcher { keys, seat: None, next: from, created: false }
    }

    /// What to ask a member for.
    pub(super) fn request(&mut self) -> pb::WatchRequest {
        self.created = false;
        let create = pb::WatchCreateRequest {
            key: self.keys.key.clone(),
            range_end: self.keys.range_end.clone(),
            start_revision: self.next as i64,
            progress_notify: true,
            ..Default::default()
        };
        let union = pb::watch_request::RequestUnion::CreateRequest(create);
        pb::WatchRequest { request_union: Some(union) }
    }

    /// Takes in one message.
    ///
    /// Errors: it breaks what a watcher relies on.
    pub(super) fn hear(
        &mut self,
        message: &pb::WatchResponse,
        truth: &Truth,
    ) -> Result<Heard, Broken> {
        if message.created {
            self.created = true;
        }
        if message.canceled {
            // Only what is compacted may be missed.
            let compacted = message.compact_revision as u64;
            if compacted > self.next {
                self.next = compacted;
            } else if message.compact_revision != 0 {
                let next = self.next;
                return Err(broken(format!(
                    "cancelled by a compaction at {compacted} although it waits for {next}"
                )));
            }
            return Ok(Heard::Canceled);
        }
        if message.created {
            let now = message.header.as_ref().map_or(0, |header| header.revision as u64);
            if self.next == 0 {
                self.next = now + 1;
            }
            return Ok(Heard::Fine);
        }
        if !self.created {
            return Err(broken("events before the watcher was confirmed".to_owned()));
        }
        let told = message.header.as_ref().map_or(0, |header| header.revision as u64);
        match message.events.is_empty() {
            true => self.hear_progress(told, truth)?,
            false => self.hear_events(&message.events, truth)?,
        }
        Ok(Heard::Fine)
    }

    /// "You have seen everything up to this revision."
    fn hear_progress(&mut self, upto: u64, truth: &Truth) -> Result<(), Broken> {
        if upto > truth.latest() {
            let latest = truth.latest();
            return Err(broken(format!("progress up to {upto}, and the store is at {latest}")));
        }
        if let Some((revision, missed)) = self.owed(truth).find(|(revision, _)| *revision <= upto) {
            return Err(broken(format!(
                "progress up to {upto} although {:?} of revision {revision} was not told",
                missed.key
            )));
        }
        self.next = self.next.max(upto + 1);
        Ok(())
    }

    fn hear_events(&mut self, events: &[mvccpb::Event], truth: &Truth) -> Result<(), Broken> {
        let mut owed = self.owed(truth);
        let mut last = 0;
        for event in events {
            let kv = event.kv.as_ref().ok_or_else(|| broken("an event without a pair".into()))?;
            let Some((revision, change)) = owed.next() else {
                let (key, at) = (&kv.key, kv.mod_revision);
                return Err(broken(format!("{key:?} at {at} was told and is owed to nobody")));
            };
            if !same(kv, revision, change) {
                return Err(broken(format!(
                    "told {:?} of revision {} instead of {:?} of revision {revision}",
                    kv.key, kv.mod_revision, change.key
                )));
            }
            last = revision;
        }
        if let Some((revision, change)) = owed.next().filter(|(revision, _)| *revision == last) {
            let key = &change.key;
            return Err(broken(format!("revision {revision} was told without its {key:?}")));
        }
        drop(owed);
        self.next = last + 1;
        Ok(())
    }

    /// What it has not been told, in order.
    pub(super) fn owed<'a>(&'a self, truth: &'a Truth) -> impl Iterator<Item = (u64, &'a Change)> {
        let revisions = self.next.max(2)..=truth.latest();
        let changes = revisions
            .flat_map(|revision| truth.changes(revision).iter().map(move |c| (revision, c)));
        changes.filter(|(_, change)| self.keys.contains(&change.key))
    }
}

fn same(kv: &mvccpb::KeyValue, revision: u64, change: &Change) -> bool {
    let version = &change.version;
    let put = version.version > 0;
    kv.key == change.key
        && kv.mod_revision as u64 == revision
        && kv.version as u64 == version.version
        && (!put || (kv.value == version.value && kv.create_revision as u64 == version.create))
        && (!put || kv.lease == version.lease)
}

/// The keys of a range, for requests.
pub(super) fn all_keys() -> Keys {
    Keys { key: Bytes::from_static(b"k"), range_end: Bytes::from_static(b"l") }
}
