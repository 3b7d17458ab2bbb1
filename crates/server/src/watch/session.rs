//! The watchers of one stream: what a client asks, and where each watcher is.
//!
//! A value without I/O: requests go in, [`Session::fill`] (see `deliver.rs`) writes what is to be
//! sent, and nothing happens in between; whoever owns it decides when.
//!
//! Watchers with the same keys and the same wishes form a *class*, so that what they are told is
//! found and written once for all of them.
//!
//! Refusals have etcd's shape, `created` and `canceled` in one message about watcher -1. A start
//! before the last compaction is etcd's other shape: `created`, then `canceled` with the compact
//! revision and a header without a revision. A negative start is one of the latter while there has
//! been a compaction, as up to etcd 3.5.17, and is refused otherwise, as in later versions: earlier
//! ones answered with a compact revision of -1 or not at all.
//!
//! Source: etcd `server/etcdserver/api/v3rpc/watch.go`, compared with running 3.4.23 and 3.5.1.

use super::hub::{Full, Kinds, Span, Stream, View};
use super::index::Index;
use super::mutant::Mutant;
use super::{
    ANSWERS_MAX, KEY_BYTES_MAX, LAG_REVISIONS_MAX, STREAM_WATCHERS_MAX, STUCK_AFTER, WATCHERS_MAX,
};
use crate::api::{ApiError, Headers};
use crate::audit::Entry;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use bytes::Bytes;
use quorate_core::Time;
use quorate_replica::store::{Caller, Denied, Keys, Revision};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The id in answers which are about no watcher in particular.
const NO_WATCHER: i64 = -1;

/// What holds for all watchers of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// For headers.
    pub(crate) headers: Headers,
    /// Size at which messages are split for those who take fragments. Unit: bytes.
    pub(crate) fragment_bytes: usize,
    /// The stream ends when there is no leader for long.
    pub(crate) requires_leader: bool,
}

/// What [`Session::fill`] did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Filled {
    /// There is something to send, and perhaps more after it.
    Chunk,
    /// Nothing so far, but there is more to look at.
    Again,
    /// There is nothing to do until the stream is woken.
    Idle,
    /// The stream is over.
    End(ApiError),
}

/// One watcher.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: i64,
    /// Its place in the hub's index.
    seat: u32,
    pub(super) class: u32,
    /// The next revision that may hold something it has not been told.
    pub(super) cursor: Revision,
    /// Events of that revision which have been looked at, in the midst of fragments.
    pub(super) skip: u64,
    /// The last revision that it is marked for; it is in the queue while this is not below the
    /// cursor.
    pub(super) last: Revision,
    pub(super) queued: bool,
    pub(super) fragments: bool,
    /// It wants to hear of progress now and then.
    notify: bool,
    /// It has been told nothing since the last tick.
    pub(super) quiet: bool,
}

/// Watchers which are told the same.
#[derive(Debug)]
pub(super) struct Class {
    pub(super) keys: Keys,
    pub(super) kinds: Kinds,
    pub(super) prev: bool,
    members: u32,
    /// The window in which one of them has something to do.
    pub(super) stamp: u64,
    /// Where the picks of the window lie, the suffix that is written, and where that lies.
    pub(super) picks: (usize, usize),
    pub(super) written: Option<(usize, std::ops::Range<usize>)>,
}

/// All watchers of one stream.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) stream: Stream,
    pub(super) settings: Settings,
    pub(super) watchers: Vec<Option<Watcher>>,
    free: Vec<u32>,
    ids: HashMap<i64, u32>,
    next_id: i64,
    pub(super) classes: Vec<Option<Class>>,
    free_classes: Vec<u32>,
    class_ids: HashMap<(Bytes, Bytes, Kinds, bool), u32>,
    pub(super) class_index: Index,
    /// Watchers that are marked; those that waited longest first. Who leaves stays in it, with an
    /// empty slot that nobody is given, until its turn comes or such are the half of all: so to
    /// leave costs no search.
    pub(super) queue: VecDeque<u32>,
    /// How many have left the queue that way.
    left: usize,
    pub(super) answers: VecDeque<pb::WatchResponse>,
    /// Watchers that want to hear of their progress now and then.
    notified: usize,
    /// Those of them that are due.
    pub(super) notices: VecDeque<u32>,
    /// Questions about the progress of the stream, and the revision at the last of them.
    pub(super) asked: (usize, Revision),
    /// The hub will wake us at this revision.
    pub(super) waits_for: Option<Revision>,
    /// The watcher whose fragments are being sent; nothing comes between them.
    pub(super) split: Option<u32>,
    pub(super) stamp: u64,
    /// When the transport was handed the last chunk, until it comes for another.
    pub(super) handed: Option<Time>,
    /// Who has opened the stream.
    caller: Caller,
    /// Where it is recorded what is watched, if it is.
    entry: Option<Arc<Entry>>,
    /// How often users and roles had changed when the watchers were last judged.
    pub(super) judged: u64,
}

/// Why a watcher is not allowed, as etcd words it: clients match the whole text.
fn reason(why: Denied) -> String {
    let (code, text) = ApiError::from(why).code_and_text();
    format!("rpc error: code = {code:?} desc = {text}")
}

impl Session {
    /// A stream without watchers.
    pub(crate) fn new(stream: Stream, settings: Settings) -> Session {
        Session {
            stream,
            settings,
            watchers: Vec::new(),
            free: Vec::new(),
            ids: HashMap::new(),
            next_id: 0,
            classes: Vec::new(),
            free_classes: Vec::new(),
            class_ids: HashMap::new(),
            class_index: Index::new(),
            queue: VecDeque::new(),
            left: 0,
            answers: VecDeque::new(),
            notified: 0,
            notices: VecDeque::new(),
            asked: (0, Revision(0)),
            waits_for: None,
            split: None,
            stamp: 0,
            handed: None,
            caller: Caller::Anonymous,
            entry: None,
            judged: 0,
        }
    }

    /// The same stream, opened by this caller.
    pub(crate) fn asked_by(mut self, caller: Caller) -> Session {
        self.caller = caller;
        self
    }

    /// The same stream, recorded there.
    pub(crate) fn recorded_in(mut self, entry: Option<Arc<Entry>>) -> Session {
        self.entry = entry;
        self
    }

    /// Users or roles have changed: watchers that are no longer allowed end, with the reason. In
    /// etcd a watcher that was once allowed is told everything for as long as it lives.
    pub(super) fn judge_watchers(&mut self, view: &View) {
        let auth = view.latest().auth();
        let refused = |class: &Option<Class>| {
            let class = class.as_ref()?;
            let why = auth.may_watch(&self.caller, &class.keys).err()?;
            if let Some(entry) = &self.entry {
                entry.watches(&class.keys, Some(&ApiError::from(why).into()));
            }
            Some(why)
        };
        let reasons: Vec<Option<Denied>> = self.classes.iter().map(refused).collect();
        for slot in 0..self.watchers.len() {
            let Some(watcher) = &self.watchers[slot] else { continue };
            if let Some(why) = reasons[watcher.class as usize] {
                self.cancel(slot as u32, view.latest().revision(), reason(why));
            }
        }
    }

    /// False while further requests should wait: their answers would pile up, or come between
    /// fragments.
    pub(crate) fn takes_requests(&self) -> bool {
        self.answers.len() < ANSWERS_MAX && self.split.is_none()
    }

    /// True if some watcher wants to hear of its progress now and then.
    pub(crate) fn wants_ticks(&self) -> bool {
        self.notified > 0
    }

    /// Takes in one request. What it does not understand it ignores, as etcd does.
    pub(crate) fn request(&mut self, request: pb::WatchRequest) {
        let Some(view) = self.stream.hub.view() else { return };
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create, &view),
            Some(RequestUnion::CancelRequest(cancel)) => {
                if let Some(slot) = self.ids.get(&cancel.watch_id).copied() {
                    if !self.stream.hub.planted(Mutant::CancelIgnored) {
                        self.remove(slot);
                    }
                    let header = Some(self.header(view.latest().revision()));
                    let watch_id = cancel.watch_id;
                    let canceled = true;
                    let answer = pb::WatchResponse { header, watch_id, canceled, ..empty() };
                    self.answers.push_back(answer);
                }
            }
            Some(RequestUnion::ProgressRequest(_)) => {
                let asked = (self.asked.0 + 1).min(ANSWERS_MAX);
                self.asked = (asked, view.latest().revision());
            }
            None => {}
        }
    }

    /// Time for news about progress, for those who want it and have been told nothing since.
    pub(crate) fn tick(&mut self) {
        for (slot, watcher) in self.watchers.iter_mut().enumerate() {
            let Some(watcher) = watcher.as_mut().filter(|watcher| watcher.notify) else { continue };
            if watcher.quiet && self.notices.len() < STREAM_WATCHERS_MAX {
                self.notices.push_back(slot as u32);
            }
            watcher.quiet = true;
        }
    }

    pub(super) fn header(&self, revision: Revision) -> pb::ResponseHeader {
        self.settings.headers.at(revision, self.stream.hub.term())
    }

    fn create(&mut self, create: pb::WatchCreateRequest, view: &View) {
        let latest = view.latest().revision();
        let keys = keys(&create);
        let denied = view.latest().auth().may_watch(&self.caller, &keys).err();
        if let Some(entry) = &self.entry {
            entry.watches(&keys, denied.map(|why| ApiError::from(why).into()).as_ref());
        }
        if let Some(why) = denied {
            return self.refuse(latest, reason(why));
        }
        let ranged = !create.range_end.is_empty() && create.range_end != b"\0"[..];
        if ranged && keys.key >= keys.range_end {
            return self.refuse(latest, "mvcc: watcher range is empty".to_owned());
        }
        if create.watch_id != 0 && self.ids.contains_key(&create.watch_id) {
            let text = "mvcc: duplicate watch ID provided on the WatchStream";
            return self.refuse(latest, text.to_owned());
        }
        let compacted = view.latest().compact_revision();
        if create.start_revision < 0 && compacted == Revision(0) {
            let (_, text) = ApiError::Compacted.code_and_text();
            return self.refuse(latest, text.to_owned());
        }
        if self.ids.len() >= STREAM_WATCHERS_MAX {
            let text = format!("etcdserver: more than {STREAM_WATCHERS_MAX} watchers on a stream");
            return self.refuse(latest, text);
        }
        let from = match create.start_revision {
            0 if self.stream.hub.planted(Mutant::TwiceAtJoin) => latest,
            0 => latest.next(),
            start => Revision(u64::try_from(start).unwrap_or(0)),
        };
        let kinds = Kinds {
            puts: !create.filters.contains(&FilterType::Noput.into()),
            deletes: !create.filters.contains(&FilterType::Nodelete.into()),
        };
        let watch_id = self.choose_id(create.watch_id);
        let forgotten = from < compacted;
        let admitted = match forgotten {
            true => Ok(()),
            false => self.admit(watch_id, &create, keys, kinds, from),
        };
        if let Err(full) = admitted {
            let text = match full {
                Full::Watchers => {
                    format!("etcdserver: more than {WATCHERS_MAX} watchers on this member")
                }
                Full::KeyBytes => format!(
                    "etcdserver: the keys of all watchers on this member exceed {KEY_BYTES_MAX} \
                     bytes"
                ),
            };
            return self.refuse(latest, text);
        }
        let header = Some(self.header(latest));
        let answer = pb::WatchResponse { header, watch_id, created: true, ..empty() };
        self.answers.push_back(answer);
        if forgotten {
            self.answers.push_back(self.compacted(watch_id, compacted));
        }
    }

    /// The client's choice, or the next number that is free.
    fn choose_id(&mut self, wanted: i64) -> i64 {
        if wanted != 0 {
            return wanted;
        }
        while self.ids.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn admit(
        &mut self,
        id: i64,
        create: &pb::WatchCreateRequest,
        keys: Keys,
        kinds: Kinds,
        from: Revision,
    ) -> Result<(), Full> {
        let slot = self.free.last().copied().unwrap_or(self.watchers.len() as u32);
        let Stream { hub, mailbox } = &self.stream;
        let joined = hub.join(mailbox, slot, &keys, from, kinds)?;
        if self.free.pop().is_none() {
            self.watchers.push(None);
        }
        self.ids.insert(id, slot);
        let class = self.enter_class(keys, kinds, create.prev_kv);
        self.notified += usize::from(create.progress_notify);
        self.watchers[slot as usize] = Some(Watcher {
            id,
            seat: joined.seat,
            class,
            cursor: from,
            skip: 0,
            last: Revision(0),
            queued: false,
            fragments: create.fragment,
            notify: create.progress_notify,
            quiet: true,
        });
        if let Some(missed) = joined.missed {
            self.mark(slot, missed);
        }
        Ok(())
    }

    fn enter_class(&mut self, keys: Keys, kinds: Kinds, prev: bool) -> u32 {
        let name = (keys.key.clone(), keys.range_end.clone(), kinds, prev);
        let class = match self.class_ids.get(&name) {
            Some(class) => *class,
            None => {
                let fresh = self.free_classes.pop().unwrap_or(self.classes.len() as u32);
                self.class_index.insert(&keys, fresh);
                let class =
                    Class { keys, kinds, prev, members: 0, stamp: 0, picks: (0, 0), written: None };
                match self.classes.get_mut(fresh as usize) {
                    Some(empty) => *empty = Some(class),
                    None => self.classes.push(Some(class)),
                }
                self.class_ids.insert(name, fresh);
                fresh
            }
        };
        self.classes[class as usize].as_mut().expect("just seen").members += 1;
        class
    }

    /// A watcher is gone; nothing follows for it but what is said about that.
    pub(super) fn remove(&mut self, slot: u32) {
        let watcher = self.watchers[slot as usize].take().expect("a watcher is removed once");
        self.notified -= usize::from(watcher.notify);
        self.ids.remove(&watcher.id);
        match watcher.queued {
            true => self.leave_queue(),
            false => self.free.push(slot),
        }
        if self.split == Some(slot) {
            self.split = None;
        }
        let at = watcher.class as usize;
        let class = self.classes[at].as_mut().expect("a watcher has a class");
        self.stream.hub.leave(watcher.seat, &class.keys);
        class.members -= 1;
        if class.members == 0 {
            let Class { keys, kinds, prev, .. } = self.classes[at].take().expect("just seen");
            self.class_index.remove(&keys, watcher.class);
            self.class_ids.remove(&(keys.key, keys.range_end, kinds, prev));
            self.free_classes.push(watcher.class);
        }
    }

    /// Somebody in the queue is gone.
    fn leave_queue(&mut self) {
        self.left += 1;
        if self.left * 2 > self.queue.len() {
            let Session { queue, watchers, free, .. } = self;
            queue.retain(|slot| {
                let is_there = watchers[*slot as usize].is_some();
                if !is_there {
                    free.push(*slot);
                }
                is_there
            });
            self.left = 0;
        }
    }

    /// Takes the first one out of the queue. None if that one has left.
    pub(super) fn unqueue(&mut self) -> Option<u32> {
        let slot = self.queue.pop_front()?;
        match &mut self.watchers[slot as usize] {
            Some(watcher) => {
                watcher.queued = false;
                Some(slot)
            }
            None => {
                self.left -= 1;
                self.free.push(slot);
                None
            }
        }
    }

    /// The watcher may find something in `span`.
    pub(super) fn mark(&mut self, slot: u32, span: Span) {
        let watcher = self.watchers[slot as usize].as_mut().expect("marks are for watchers");
        watcher.last = watcher.last.max(span.last);
        if !watcher.queued {
            watcher.cursor = watcher.cursor.max(span.first);
            watcher.queued = watcher.cursor <= watcher.last;
            if watcher.queued {
                self.queue.push_back(slot);
            }
        }
    }

    /// A watcher that a compaction has overtaken.
    pub(super) fn cancel_compacted(&mut self, slot: u32, compacted: Revision) {
        let id = self.watchers[slot as usize].as_ref().expect("a watcher").id;
        self.remove(slot);
        self.answers.push_back(self.compacted(id, compacted));
    }

    /// A watcher that we do not serve any longer, for a reason of ours.
    pub(super) fn cancel(&mut self, slot: u32, latest: Revision, cancel_reason: String) {
        let watch_id = self.watchers[slot as usize].as_ref().expect("a watcher").id;
        self.remove(slot);
        let header = Some(self.header(latest));
        let canceled = true;
        let answer = pb::WatchResponse { header, watch_id, canceled, cancel_reason, ..empty() };
        self.answers.push_back(answer);
    }

    /// Cancels watchers which are far behind because nobody has read for long.
    pub(super) fn cancel_stuck(&mut self, now: Time, latest: Revision) {
        let Some(handed) = self.handed.take() else { return };
        if now.since(handed) < STUCK_AFTER {
            return;
        }
        let is_late = |slot: &u32| {
            let watcher = self.watchers[*slot as usize].as_ref()?;
            let lag = latest.0.saturating_sub(watcher.cursor.0);
            (lag > LAG_REVISIONS_MAX).then_some((*slot, lag, watcher.cursor.0))
        };
        let late: Vec<_> = self.queue.iter().filter_map(is_late).collect();
        for (slot, lag, cursor) in late {
            let reason = format!(
                "etcdserver: the watcher is {lag} revisions behind and its client did not read for \
                 {} s; resume at revision {cursor}",
                STUCK_AFTER.as_secs()
            );
            self.cancel(slot, latest, reason);
        }
    }

    fn compacted(&self, watch_id: i64, compacted: Revision) -> pb::WatchResponse {
        let invented = self.stream.hub.planted(Mutant::CompactionInvented);
        let compacted = if invented { compacted.next() } else { compacted };
        pb::WatchResponse {
            header: Some(self.settings.headers.without_revision(self.stream.hub.term())),
            watch_id,
            canceled: true,
            compact_revision: compacted.0 as i64,
            ..empty()
        }
    }

    fn refuse(&mut self, latest: Revision, cancel_reason: String) {
        self.answers.push_back(pb::WatchResponse {
            header: Some(self.header(latest)),
            watch_id: NO_WATCHER,
            created: true,
            canceled: true,
            cancel_reason,
            ..empty()
        });
    }

    /// An answer about the progress of one watcher, or of all.
    pub(super) fn progress(&self, slot: Option<u32>, revision: Revision) -> pb::WatchResponse {
        let of = |slot: u32| self.watchers[slot as usize].as_ref().expect("a watcher").id;
        let header = Some(self.header(revision));
        pb::WatchResponse { header, watch_id: slot.map_or(NO_WATCHER, of), ..empty() }
    }

    /// Each slot is taken, free, or empty in the queue; a watcher knows whether it is in the queue.
    #[cfg(test)]
    pub(super) fn invariants(&self) {
        let mut places = vec![0; self.watchers.len()];
        self.queue.iter().for_each(|slot| places[*slot as usize] += 1);
        let empty = self.queue.iter().filter(|slot| self.watchers[**slot as usize].is_none());
        assert_eq!(empty.count(), self.left, "those who left the queue are counted");
        self.free.iter().for_each(|slot| places[*slot as usize] += 1);
        for (slot, watcher) in self.watchers.iter().enumerate() {
            let expected = watcher.as_ref().is_none_or(|watcher| watcher.queued);
            assert_eq!(places[slot], usize::from(expected), "places of slot {slot}: {watcher:?}");
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.queue.clear();
        for slot in 0..self.watchers.len() {
            if let Some(watcher) = &mut self.watchers[slot] {
                watcher.queued = false;
                self.remove(slot as u32);
            }
        }
    }
}

fn empty() -> pb::WatchResponse {
    pb::WatchResponse::default()
}

/// The keys of a request, in memory of their own: what was received may be much longer. An empty
/// key stands for the smallest one.
fn keys(create: &pb::WatchCreateRequest) -> Keys {
    let key = if create.key.is_empty() { &b"\0"[..] } else { &create.key[..] };
    Keys { key: Bytes::copy_from_slice(key), range_end: Bytes::copy_from_slice(&create.range_end) }
}
