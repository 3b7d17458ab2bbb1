//! Clients that watch, and what they may rely on.
//!
//! A watcher follows some keys from a revision on. Whatever member it is connected to, and however
//! often it has to connect anew, it is told what the API promises: that is judged by
//! [`quorate_check::guarantees::watch`], as it is for histories that were recorded elsewhere,
//! against the log of changes that [`Truth`] keeps. Here is what that judge does not know: what a
//! watcher can ask for, the messages of etcd's protocol, the pair before a change, and the
//! revisions that a member may name.
//!
//! Source: etcd's "KV API guarantees", watch; etcd's API, `Watch`.

use super::truth::{Stand, Truth};
use bytes::Bytes;
use quorate_check::guarantees::watch::{Filter, Part, Watch};
use quorate_check::models::map::{Blob, Pair, Span};
use quorate_check::witness::Change;
use quorate_drivers::simulate::Broken;
use quorate_replica::store::Keys;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::mvccpb;
use quorate_server::watch::desk::StreamId;

/// What a watcher asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wants {
    pub(super) keys: Keys,
    pub(super) filter: Filter,
    /// The pair before each change.
    pub(super) prev_kv: bool,
    /// It takes a revision in several messages.
    pub(super) fragments: bool,
    /// It wants to hear of progress by itself.
    pub(super) notify: bool,
}

/// One watcher, over all its connections.
#[derive(Debug)]
pub(super) struct Watcher {
    name: String,
    pub(super) wants: Wants,
    /// The member and the stream that it listens to.
    pub(super) seat: Option<(usize, StreamId)>,
    /// Where it begins; 0 if it wants what happens from now on.
    from: u64,
    /// None until it has begun: it is told from where on.
    watch: Option<Watch>,
    /// Its name on the stream, once that has confirmed it.
    id: Option<i64>,
    /// It has asked to be cancelled.
    cancels: bool,
    /// When it has left its stream it is another one: what it wants, and from where on.
    pub(super) after: Option<(Wants, u64)>,
}

/// What a watcher makes of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// It goes on.
    Fine,
    /// It was cancelled by a compaction, and begins anew.
    Overtaken,
    /// It was cancelled as it had asked.
    Canceled,
}

fn broken(why: String) -> Broken {
    Broken::new("watch", why)
}

impl Watcher {
    pub(super) fn new(number: usize, wants: Wants, from: u64) -> Watcher {
        let name = format!("w{number}");
        let (seat, watch, id, cancels, after) = (None, None, None, false, None);
        Watcher { name, wants, seat, from, watch, id, cancels, after }
    }

    /// It has no stream any more.
    pub(super) fn leave(&mut self) {
        self.seat = None;
    }

    /// True if a stream has confirmed it.
    pub(super) fn is_there(&self) -> bool {
        self.id.is_some() && !self.cancels
    }

    /// What to ask a member for.
    pub(super) fn create(&mut self) -> pb::WatchRequest {
        (self.id, self.cancels) = (None, false);
        if let Some((wants, from)) = self.after.take() {
            (self.wants, self.from, self.watch) = (wants, from, None);
        }
        let start = self.watch.as_ref().map_or(self.from, Watch::resume_at);
        self.watch = (start > 0).then(|| self.begin(start));
        let filter = match self.wants.filter {
            Filter::All => None,
            Filter::NoPut => Some(pb::watch_create_request::FilterType::Noput),
            Filter::NoDelete => Some(pb::watch_create_request::FilterType::Nodelete),
        };
        let create = pb::WatchCreateRequest {
            key: self.wants.keys.key.clone(),
            range_end: self.wants.keys.range_end.clone(),
            start_revision: start as i64,
            progress_notify: self.wants.notify,
            prev_kv: self.wants.prev_kv,
            fragment: self.wants.fragments,
            filters: filter.into_iter().map(i32::from).collect(),
            ..Default::default()
        };
        request(pb::watch_request::RequestUnion::CreateRequest(create))
    }

    /// Asks to be cancelled. Only for one that is there.
    pub(super) fn cancel(&mut self) -> pb::WatchRequest {
        self.cancels = true;
        let watch_id = self.id.expect("it is there");
        let cancel = pb::WatchCancelRequest { watch_id };
        request(pb::watch_request::RequestUnion::CancelRequest(cancel))
    }

    fn begin(&self, start: u64) -> Watch {
        let Keys { key, range_end } = &self.wants.keys;
        let span = match &range_end[..] {
            [] => Span::One,
            [0] => Span::Rest,
            end => Span::Until(Blob::from(end)),
        };
        Watch::new(self.name.clone(), Blob::from(&key[..]), span, self.wants.filter, start)
    }

    /// Takes in one message of a member that stands there.
    ///
    /// Errors: it breaks what a watcher relies on.
    pub(super) fn hear(
        &mut self,
        message: &pb::WatchResponse,
        truth: &Truth,
        stand: Stand,
    ) -> Result<Heard, Broken> {
        let told = message.header.as_ref().map_or(0, |header| header.revision as u64);
        if message.canceled {
            return self.hear_end(message, stand);
        }
        if message.created {
            return self.hear_created(message, told, stand);
        }
        // An answer to a question about progress is about all watchers that the stream has.
        let of_all = message.watch_id == -1 && message.events.is_empty();
        let (Some(id), Some(watch)) = (self.id, &mut self.watch) else {
            return match of_all {
                true => Ok(Heard::Fine),
                false => Err(broken(format!("{} is told something and is not there", self.name))),
            };
        };
        if message.watch_id != id && !of_all {
            let (name, other) = (&self.name, message.watch_id);
            return Err(broken(format!("{name} is {id} of its stream, and hears of {other}")));
        }
        if message.fragment && !self.wants.fragments {
            return Err(broken(format!("{} takes no fragments, and gets one", self.name)));
        }
        if message.events.is_empty() {
            watch.on_bookmark(truth.log(), told).map_err(of_check)?;
            return Ok(Heard::Fine);
        }
        let mut changes = Vec::new();
        for event in &message.events {
            changes.push(change(event)?);
            judge_prev(event, self.wants.prev_kv, truth, stand)?;
        }
        let part = if message.fragment { Part::Fragment } else { Part::Whole };
        watch.on_events(truth.log(), &changes, part).map_err(of_check)?;
        Ok(Heard::Fine)
    }

    fn hear_created(
        &mut self,
        message: &pb::WatchResponse,
        told: u64,
        stand: Stand,
    ) -> Result<Heard, Broken> {
        if self.id.replace(message.watch_id).is_some() {
            return Err(broken(format!("{} is confirmed twice", self.name)));
        }
        if told != stand.revision {
            let (name, stands) = (&self.name, stand.revision);
            return Err(broken(format!("{name} begins at {told} of a member that is at {stands}")));
        }
        if self.watch.is_none() {
            self.watch = Some(self.begin(told + 1));
        }
        Ok(Heard::Fine)
    }

    /// Only what is compacted may be missed.
    fn hear_end(&mut self, message: &pb::WatchResponse, stand: Stand) -> Result<Heard, Broken> {
        let (name, compacted) = (&self.name, message.compact_revision as u64);
        let id = self.id.take();
        if id != Some(message.watch_id) {
            return Err(broken(format!(
                "{name} is {id:?} of its stream, and hears of another end"
            )));
        }
        if message.compact_revision == 0 {
            let asked = self.cancels;
            let why = &message.cancel_reason;
            return match asked {
                true => Ok(Heard::Canceled),
                false => Err(broken(format!("{name} is cancelled without cause: '{why}'"))),
            };
        }
        if compacted != stand.compacted {
            let stands = stand.compacted;
            let why = format!("{name} hears of a compaction at {compacted}, which is at {stands}");
            return Err(broken(why));
        }
        if let Some(watch) = &mut self.watch {
            watch.on_compacted(compacted).map_err(of_check)?;
        }
        self.watch = Some(self.begin(compacted));
        Ok(Heard::Overtaken)
    }

    /// True if there is something that it has not been told.
    pub(super) fn is_owed(&self, truth: &Truth) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.is_owed(truth.log()))
    }

    /// What it has not been told, in order: revisions, and what happened there.
    pub(super) fn owed<'a>(&'a self, truth: &'a Truth) -> impl Iterator<Item = (u64, &'a Change)> {
        self.watch.iter().flat_map(|watch| watch.owed(truth.log()))
    }
}

fn request(union: pb::watch_request::RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}

/// A promise of watches that does not hold.
fn of_check(found: quorate_check::guarantees::Broken) -> Broken {
    broken(format!("{}: {}", found.promise, found.story))
}

/// An event as the judge of watches knows it. A deletion has the key and the revision, and all else
/// is zero.
fn change(event: &mvccpb::Event) -> Result<(u64, Change), Broken> {
    let kv = event.kv.as_ref().ok_or_else(|| broken("an event without a pair".to_owned()))?;
    let key = Blob::from(&kv.key[..]);
    let revision = kv.mod_revision as u64;
    if event.r#type() == mvccpb::event::EventType::Put {
        let pair = Pair {
            key,
            value: Blob::from(&kv.value[..]),
            create: kv.create_revision as u64,
            modified: revision,
            version: kv.version as u64,
            lease: kv.lease,
        };
        return Ok((revision, Change::Put(pair)));
    }
    let plain = mvccpb::KeyValue {
        key: kv.key.clone(),
        mod_revision: kv.mod_revision,
        ..mvccpb::KeyValue::default()
    };
    match *kv == plain {
        true => Ok((revision, Change::Delete(key))),
        false => Err(broken(format!("the deletion of {key} at {revision} tells more: {kv:?}"))),
    }
}

/// The pair before a change is told to who asked for it, if there was one and it is not compacted.
fn judge_prev(
    event: &mvccpb::Event,
    wanted: bool,
    truth: &Truth,
    stand: Stand,
) -> Result<(), Broken> {
    let Some(kv) = &event.kv else { return Ok(()) };
    let revision = kv.mod_revision as u64;
    let before = truth.at(&kv.key, revision.saturating_sub(1)).filter(|_| wanted);
    let right = match (&event.prev_kv, before) {
        (None, None) => true,
        (None, Some(_)) => revision <= stand.compacted,
        (Some(_), None) => false,
        (Some(prev), Some(before)) => {
            prev.key == kv.key
                && prev.value == before.value
                && prev.create_revision as u64 == before.create
                && prev.mod_revision as u64 == before.revision
                && prev.version as u64 == before.version
                && prev.lease == before.lease
        }
    };
    let (key, prev) = (&kv.key, &event.prev_kv);
    match right {
        true => Ok(()),
        false => Err(broken(format!(
            "before {key:?} of revision {revision} there was {before:?}, and {prev:?} is told"
        ))),
    }
}

/// The keys from `key` up to `end`, which is not of them; see [`Keys`] for what else that may mean.
pub(super) fn keys(key: impl Into<Bytes>, end: &'static str) -> Keys {
    Keys { key: key.into(), range_end: Bytes::from_static(end.as_bytes()) }
}
