//! Who is told of what: the index of all watchers, walked once for each new event.
//!
//! Three things move on their own: the loop thread hands over histories, the hub's task marks,
//! streams read. They meet in two locks, `feed` for the histories and `table` for the watchers, and
//! in one mailbox per stream. A mailbox is locked while the table is, never the other way round.
//!
//! `dispatched` is the revision up to which every mark has been set. It is stored after the marks
//! are in their mailboxes; so whoever loads it first and looks into the mailbox then, sees all
//! marks up to it. All talk of progress rests on this order.

use super::index::Index;
use super::mutant::Mutant;
use super::{COMPACTION_GRACE, KEY_BYTES_MAX, STREAMS_MAX, WALK_EVENTS, WALK_MARKS, WATCHERS_MAX};
use crate::api::ApiError;
use quorate_core::{Position, Term, Time};
use quorate_replica::Replica;
use quorate_replica::store::{Event, History, Keys, Revision};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;
use tokio::sync::Notify;

/// Why all streams end; the value of [`Hub::end`].
const GOING_ON: u8 = 0;
const STOPPED: u8 = 1;
const CORRUPT: u8 = 2;

/// Revisions which may hold something for a watcher.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Span {
    pub(super) first: Revision,
    pub(super) last: Revision,
}

impl Span {
    /// The two, and what lies between them.
    pub(super) fn melt(self, other: Span) -> Span {
        Span { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// Which kinds of events a watcher wants.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Kinds {
    pub(super) puts: bool,
    pub(super) deletes: bool,
}

impl Kinds {
    pub(super) fn include(self, event: &Event) -> bool {
        if event.is_delete() { self.deletes } else { self.puts }
    }
}

/// A watcher as the hub knows it.
#[derive(Debug)]
struct Seat {
    mailbox: Arc<Mailbox>,
    /// Its number on its stream.
    slot: u32,
    from: Revision,
    kinds: Kinds,
    /// Marked by the walk in progress.
    span: Option<Span>,
}

/// Where the hub leaves marks for one stream.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    /// Names the stream.
    id: u64,
    marks: Mutex<Marks>,
}

#[derive(Debug, Default)]
struct Marks {
    /// By slot.
    spans: Vec<Option<Span>>,
    /// Slots that are marked. Those of watchers which are gone stay until the next look, or until
    /// they are the half of all, so that leaving costs no search.
    marked: Vec<u32>,
    /// How many have left since then.
    left: usize,
    /// The stream, while it has nothing to do.
    waker: Option<Waker>,
}

impl Mailbox {
    /// Takes all marks out. The stream is awake now and needs no waking.
    pub(super) fn take(&self, mut mark: impl FnMut(u32, Span)) {
        let mut marks = lock(&self.marks);
        let Marks { spans, marked, left, waker } = &mut *marks;
        *waker = None;
        *left = 0;
        for slot in marked.drain(..) {
            if let Some(span) = spans[slot as usize].take() {
                mark(slot, span);
            }
        }
    }

    /// Leaves a waker, unless there is something to do. True if it was left.
    pub(super) fn sleep(&self, waker: &Waker) -> bool {
        let mut marks = lock(&self.marks);
        if !marks.marked.is_empty() {
            return false;
        }
        marks.waker = Some(waker.clone());
        true
    }

    /// A watcher is gone and its slot may be given to another.
    pub(super) fn clear(&self, slot: u32) {
        let mut marks = lock(&self.marks);
        let Marks { spans, marked, left, .. } = &mut *marks;
        if spans.get_mut(slot as usize).and_then(Option::take).is_none() {
            return;
        }
        *left += 1;
        if *left * 2 > marked.len() {
            *left = 0;
            marked.retain(|marked| spans[*marked as usize].is_some());
        }
    }

    fn wake(&self) -> Option<Waker> {
        lock(&self.marks).waker.take()
    }

    /// Entries, also of who has left.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.marks).marked.len()
    }
}

impl Marks {
    fn mark(&mut self, slot: u32, span: Span) {
        let at = slot as usize;
        if self.spans.len() <= at {
            self.spans.resize(at + 1, None);
        }
        match &mut self.spans[at] {
            Some(old) => *old = old.melt(span),
            empty => {
                *empty = Some(span);
                self.marked.push(slot);
            }
        }
    }
}

/// What can be read at this moment.
#[derive(Clone, Debug)]
pub(super) struct View {
    latest: Arc<History>,
    /// The last one before a compaction that has just happened.
    before: Option<Arc<History>>,
}

impl View {
    pub(super) fn latest(&self) -> &History {
        &self.latest
    }

    /// A history with all changes from `from` on to its own end; none if they are forgotten.
    pub(super) fn from(&self, from: Revision) -> Option<&History> {
        if from >= self.latest.compact_revision() {
            return Some(&self.latest);
        }
        let before = self.before.as_deref()?;
        (from >= before.compact_revision() && from <= before.revision()).then_some(before)
    }
}

#[derive(Debug, Default)]
struct Feed {
    latest: Option<Arc<History>>,
    before: Option<(Arc<History>, Time)>,
}

#[derive(Debug)]
struct Table {
    index: Index,
    seats: Vec<Option<Seat>>,
    free: Vec<u32>,
    key_bytes: usize,
    /// The first revision that has not been walked.
    next: Revision,
    /// Seats marked by the walk in progress.
    touched: Vec<u32>,
    streams: BTreeMap<u64, Arc<Mailbox>>,
    next_stream: u64,
    /// Streams that want to know when a revision has been dispatched; each at most once.
    waiting: Vec<(Revision, Arc<Mailbox>)>,
}

/// Whether a walk has come to the end of what there is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Walked {
    All,
    Slice,
}

/// Why a watcher was not taken in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Full {
    Watchers,
    KeyBytes,
}

/// The place of a watcher, and what it missed so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joined {
    pub(super) seat: u32,
    pub(super) missed: Option<Span>,
}

/// All watchers of a member.
#[derive(Debug)]
pub(crate) struct Hub {
    feed: Mutex<Feed>,
    table: Mutex<Table>,
    /// Every mark up to this revision has been set.
    dispatched: AtomicU64,
    term: AtomicU64,
    /// Open streams; while there is one, histories are wanted.
    open: AtomicUsize,
    end: AtomicU8,
    leaderless: AtomicBool,
    /// Moves when a history comes with other users or roles.
    auth_changes: AtomicU64,
    /// Rings for whoever walks. Without a task that waits for it, it does nothing.
    work: Notify,
    /// A planted bug.
    #[cfg(any(test, feature = "mutants"))]
    pub(super) mutant: Option<Mutant>,
}

impl Hub {
    pub(crate) fn new() -> Hub {
        Hub {
            feed: Mutex::default(),
            table: Mutex::new(Table {
                index: Index::new(),
                seats: Vec::new(),
                free: Vec::new(),
                key_bytes: 0,
                next: Revision(0),
                touched: Vec::new(),
                streams: BTreeMap::new(),
                next_stream: 0,
                waiting: Vec::new(),
            }),
            dispatched: AtomicU64::new(0),
            term: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            end: AtomicU8::new(GOING_ON),
            leaderless: AtomicBool::new(false),
            auth_changes: AtomicU64::new(0),
            work: Notify::new(),
            #[cfg(any(test, feature = "mutants"))]
            mutant: None,
        }
    }

    /// True if somebody wants histories.
    pub(crate) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }

    /// Streams and the watchers on them.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let table = lock(&self.table);
        (self.open.load(Ordering::SeqCst), table.index.len())
    }

    /// The term of this member, for headers.
    pub(crate) fn set_term(&self, term: Term) {
        self.term.store(term.0, Ordering::Relaxed);
    }

    pub(super) fn term(&self) -> Term {
        Term(self.term.load(Ordering::Relaxed))
    }

    /// Takes in the changes as they are now. Older ones than those it has are ignored.
    pub(crate) fn offer(&self, history: History, now: Time) {
        let new = Arc::new(history);
        let mut feed = lock(&self.feed);
        if !self.is_open() {
            return;
        }
        let mut advanced = true;
        let mut rejudged = false;
        let mut replaced = None;
        if let Some(old) = feed.latest.take() {
            let (revision, compacted) = (new.revision(), new.compact_revision());
            let before = new.auth().age() < old.auth().age();
            if before || revision < old.revision() || compacted < old.compact_revision() {
                feed.latest = Some(old);
                return;
            }
            rejudged = !new.auth().judges_like(old.auth());
            advanced = revision > old.revision() || compacted > old.compact_revision();
            replaced = Some(if compacted > old.compact_revision() {
                let before = new.before_compaction().map_or(old, Arc::new);
                feed.before.replace((before, now)).map(|(history, _)| history)
            } else {
                Some(old)
            });
        }
        feed.latest = Some(new);
        if rejudged {
            self.auth_changes.fetch_add(1, Ordering::AcqRel);
        }
        drop(feed);
        // Frees what only it held, which must not happen under the lock.
        drop(replaced);
        if advanced {
            self.work.notify_one();
        }
        if rejudged {
            self.wake_all();
        }
    }

    /// How often users and roles have changed.
    pub(super) fn auth_changes(&self) -> u64 {
        self.auth_changes.load(Ordering::Acquire)
    }

    /// What can be read now; none before the first history.
    pub(super) fn view(&self) -> Option<View> {
        let feed = lock(&self.feed);
        let latest = Arc::clone(feed.latest.as_ref()?);
        let before = feed.before.as_ref().map(|(history, _)| Arc::clone(history));
        Some(View { latest, before })
    }

    /// Drops the changes before the last compaction once they had their time. Tells when to come
    /// again.
    pub(super) fn let_go(&self, now: Time) -> Option<Time> {
        let feed = lock(&self.feed);
        let until = feed.before.as_ref()?.1.after(COMPACTION_GRACE);
        if now < until {
            return Some(until);
        }
        drop(feed);
        self.forget_before();
        None
    }

    /// Drops the changes before the last compaction.
    pub(super) fn forget_before(&self) {
        let gone = lock(&self.feed).before.take();
        drop(gone);
    }

    /// Returns when there is something to walk.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// Every event up to this revision has been marked for whom it concerns.
    pub(super) fn dispatched(&self) -> Revision {
        Revision(self.dispatched.load(Ordering::Acquire))
    }

    /// Asks to be woken when `revision` has been dispatched. False if that is so already.
    pub(super) fn wait_for(&self, revision: Revision, mailbox: &Arc<Mailbox>) -> bool {
        let mut table = lock(&self.table);
        if self.dispatched() >= revision {
            return false;
        }
        table.waiting.push((revision, Arc::clone(mailbox)));
        true
    }

    /// Takes a watcher in: from now on events from `from` on are marked for it. Those that were
    /// walked before are in [`Joined::missed`].
    pub(super) fn join(
        &self,
        mailbox: &Arc<Mailbox>,
        slot: u32,
        keys: &Keys,
        from: Revision,
        kinds: Kinds,
    ) -> Result<Joined, Full> {
        let mut table = lock(&self.table);
        if table.index.len() >= WATCHERS_MAX {
            return Err(Full::Watchers);
        }
        self.skip_unwatched(&mut table);
        let bytes = keys.key.len() + keys.range_end.len();
        if table.key_bytes + bytes > KEY_BYTES_MAX {
            return Err(Full::KeyBytes);
        }
        table.key_bytes += bytes;
        let seat = Seat { mailbox: Arc::clone(mailbox), slot, from, kinds, span: None };
        let at = match table.free.pop() {
            Some(at) => {
                table.seats[at as usize] = Some(seat);
                at
            }
            None => {
                table.seats.push(Some(seat));
                table.seats.len() as u32 - 1
            }
        };
        table.index.insert(keys, at);
        let missed = self.missed(from, table.next);
        Ok(Joined { seat: at, missed })
    }

    /// Nobody watches yet, so nobody is concerned by what has not been walked.
    fn skip_unwatched(&self, table: &mut Table) {
        let latest = self.view().map(|view| view.latest().revision());
        if let Some(latest) = latest.filter(|latest| *latest >= table.next)
            && table.index.len() == 0
        {
            table.next = latest.next();
            self.dispatched.store(latest.0, Ordering::Release);
            self.work.notify_one(); // Somebody may wait for this.
        }
    }

    /// What a watcher from `from` on missed if everything before `next` has been walked.
    fn missed(&self, from: Revision, next: Revision) -> Option<Span> {
        let lost = u64::from(self.planted(Mutant::LostAtJoin));
        let next = Revision(next.0.saturating_sub(lost));
        (from < next).then(|| Span { first: from, last: Revision(next.0 - 1) })
    }

    /// A watcher is gone: nothing is marked for it any more.
    pub(super) fn leave(&self, seat: u32, keys: &Keys) {
        let mut table = lock(&self.table);
        table.index.remove(keys, seat);
        table.key_bytes -= keys.key.len() + keys.range_end.len();
        let seat_gone = table.seats[seat as usize].take().expect("a watcher leaves once");
        table.free.push(seat);
        seat_gone.mailbox.clear(seat_gone.slot);
    }

    /// Marks the watchers that the next events concern, and wakes their streams.
    pub(super) fn walk(&self) -> Walked {
        let Some(view) = self.view() else { return Walked::All };
        let mut guard = lock(&self.table);
        let table = &mut *guard;
        let latest = view.latest().revision();
        let next = match view.from(table.next) {
            _ if table.next > latest => table.next,
            _ if table.index.len() == 0 => latest.next(),
            Some(history) => table.mark_from(history),
            None => {
                // Overtaken by a compaction: the watchers find out when they read.
                table.mark_all(Span { first: table.next, last: latest });
                latest.next()
            }
        };
        table.next = next;
        let dispatched = Revision(next.0 - 1);
        let mut wakers = table.flush(self.planted(Mutant::MarkOverwritten));
        self.dispatched.store(dispatched.0, Ordering::Release);
        table.waiting.retain(|(revision, mailbox)| {
            let waits = *revision > dispatched;
            if !waits {
                wakers.extend(mailbox.wake());
            }
            waits
        });
        drop(guard);
        for waker in wakers {
            waker.wake();
        }
        if next > latest { Walked::All } else { Walked::Slice }
    }

    /// Why streams must end now; `requires_leader` if the stream wants to.
    pub(super) fn ended(&self, requires_leader: bool) -> Option<ApiError> {
        match self.end.load(Ordering::Acquire) {
            CORRUPT => return Some(ApiError::Corrupt),
            STOPPED => return Some(ApiError::Stopped),
            _ => {}
        }
        let leaderless = requires_leader && self.leaderless.load(Ordering::Acquire);
        leaderless.then_some(ApiError::NoLeader)
    }

    /// This member's state is wrong: all streams end, and no further one begins.
    pub(crate) fn fence(&self) {
        self.end.store(CORRUPT, Ordering::Release);
        self.wake_all();
    }

    /// A quorum shares this member's state: streams may begin again.
    pub(crate) fn unfence(&self) {
        let _ = self.end.compare_exchange(CORRUPT, GOING_ON, Ordering::AcqRel, Ordering::Acquire);
    }

    /// This member stops: all streams end.
    pub(crate) fn stop(&self) {
        let going_on = GOING_ON;
        // A fenced member stays fenced.
        let _ = self.end.compare_exchange(going_on, STOPPED, Ordering::AcqRel, Ordering::Acquire);
        self.wake_all();
    }

    pub(super) fn set_leaderless(&self, leaderless: bool) {
        self.leaderless.store(leaderless, Ordering::Release);
        if leaderless {
            self.wake_all();
        }
    }

    fn wake_all(&self) {
        let table = lock(&self.table);
        let wakers: Vec<Waker> =
            table.streams.values().filter_map(|mailbox| mailbox.wake()).collect();
        drop(table);
        for waker in wakers {
            waker.wake();
        }
    }
}

impl Table {
    /// Marks who is concerned by a slice of `history` from `next` on. Answers with the revision
    /// after the slice, which never ends within a revision.
    fn mark_from(&mut self, history: &History) -> Revision {
        let Table { index, seats, touched, next, .. } = self;
        let changes = history.changes(*next).expect("the view has these changes");
        let (mut events, mut marks, mut at) = (0, 0, *next);
        for event in changes {
            let revision = event.revision();
            if revision > at && (events >= WALK_EVENTS || marks >= WALK_MARKS) {
                return revision;
            }
            at = revision;
            events += 1;
            index.find(&event.kv.key, |seat| {
                marks += 1;
                let found = seats[seat as usize].as_mut().expect("the index names no empty seat");
                if revision < found.from || !found.kinds.include(event) {
                    return;
                }
                match &mut found.span {
                    Some(span) => span.last = revision,
                    empty => {
                        *empty = Some(Span { first: revision, last: revision });
                        touched.push(seat);
                    }
                }
            });
        }
        history.revision().next()
    }

    fn mark_all(&mut self, span: Span) {
        for (at, seat) in self.seats.iter_mut().enumerate() {
            if let Some(seat) = seat.as_mut().filter(|seat| seat.from <= span.last) {
                seat.span = Some(Span { first: span.first.max(seat.from), last: span.last });
                self.touched.push(at as u32);
            }
        }
    }

    /// Takes the marks of this walk to the mailboxes. Answers with the streams to be woken.
    fn flush(&mut self, overwrite: bool) -> Vec<Waker> {
        let Table { seats, touched, .. } = self;
        let seat = |at: &u32| seats[*at as usize].as_ref().expect("a touched seat is taken");
        touched.sort_unstable_by_key(|at| seat(at).mailbox.id);
        let mut wakers = Vec::new();
        let mut rest = &touched[..];
        while let Some(first) = rest.first() {
            let mailbox = Arc::clone(&seats[*first as usize].as_ref().expect("taken").mailbox);
            let mut marks = lock(&mailbox.marks);
            while let Some((at, others)) = rest.split_first() {
                let seat = seats[*at as usize].as_mut().expect("a touched seat is taken");
                if seat.mailbox.id != mailbox.id {
                    break;
                }
                let span = seat.span.take().expect("a touched seat has a span");
                marks.mark(seat.slot, span);
                if overwrite {
                    marks.spans[seat.slot as usize] = Some(span);
                }
                rest = others;
            }
            wakers.extend(marks.waker.take());
        }
        touched.clear();
        wakers
    }
}

/// Hands the changes of a replica to those who watch, turn by turn.
#[derive(Debug, Default)]
pub(crate) struct Feeder {
    seen_applied: Position,
    /// The hub was handed a history that was not yet swept.
    sweep_seen: bool,
}

impl Feeder {
    /// To be called at the end of a turn, before its answers leave: so that a watcher created after
    /// an answer was seen begins after what the answer tells.
    pub(crate) fn turn_ended(&mut self, hub: &Hub, node: &Replica, now: impl Fn() -> Time) {
        let changed = node.applied() != self.seen_applied;
        self.seen_applied = node.applied();
        hub.set_term(node.raft().term());
        // After a compaction once more when all is swept, or the watchers' copy would pin it.
        let swept = self.sweep_seen && node.store().is_swept();
        if hub.is_open() && (changed || swept) {
            hub.offer(node.store().history(), now());
            self.sweep_seen = !node.store().is_swept();
        }
    }
}

/// One stream's connection to the hub; its end is the stream's.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(super) hub: Arc<Hub>,
    pub(super) mailbox: Arc<Mailbox>,
}

impl Stream {
    /// A further stream. The caller offers a history after this and before the first watcher, as
    /// the newest one may have been missed while no stream was open.
    ///
    /// Errors: [`ApiError::TooManyRequests`] beyond [`STREAMS_MAX`]; why streams end, if they do.
    pub(crate) fn open(hub: &Arc<Hub>, requires_leader: bool) -> Result<Stream, ApiError> {
        if let Some(why) = hub.ended(requires_leader) {
            return Err(why);
        }
        let mut table = lock(&hub.table);
        if table.streams.len() >= STREAMS_MAX {
            return Err(ApiError::TooManyRequests);
        }
        let id = table.next_stream;
        table.next_stream += 1;
        let mailbox = Arc::new(Mailbox { id, marks: Mutex::default() });
        table.streams.insert(id, Arc::clone(&mailbox));
        hub.open.fetch_add(1, Ordering::SeqCst);
        Ok(Stream { hub: Arc::clone(hub), mailbox })
    }

    /// About `every`, at most a tenth more or less, and for each stream something else: so that
    /// streams which began together do not speak together.
    pub(crate) fn spread(&self, every: Duration) -> Duration {
        let thousandths = 900 + self.mailbox.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 201;
        every * thousandths as u32 / 1_000
    }

    /// Takes in the changes of a moment after [`Stream::open`].
    pub(crate) fn offer(&self, history: History, now: Time) {
        self.hub.offer(history, now);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut table = lock(&self.hub.table);
        table.streams.remove(&self.mailbox.id);
        table.waiting.retain(|(_, mailbox)| mailbox.id != self.mailbox.id);
        drop(table);
        if self.hub.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            let mut feed = lock(&self.hub.feed);
            // Somebody may have come meanwhile.
            if !self.hub.is_open() {
                let gone = std::mem::take(&mut *feed);
                drop(feed);
                drop(gone);
            }
        }
    }
}

/// What a thread that panicked left behind is whole: marks and seats change in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
