//! All watching of one member, without tasks and clocks: for tests and simulators.
//!
//! **Problem.** In a member the loop, the hub's task and the tasks of the connections run when the
//! runtime pleases. A simulator must run the same hub, index, sessions and wire format, and decide
//! by itself when each of them moves and what time it is.
//!
//! **Idea.** A desk holds the hub and the open streams. Its calls are the steps that tasks take in
//! a member, and nothing happens between them:
//!
//! | in a member | here |
//! |---|---|
//! | the loop ends a turn | [`WatchDesk::turn_ended`] |
//! | the hub's task wakes up | [`WatchDesk::walk`] |
//! | the leader is lost or found | [`WatchDesk::note_leader`] |
//! | a client opens a stream, asks, goes away | `open_stream`, `request`, `close` |
//! | the transport has room for a chunk | [`WatchDesk::poll_chunk`] |
//!
//! Who is to be polled is told by the wakers that the streams leave, as in a member: a stream that
//! the hub forgets to wake stands still here as well. See [`WatchDesk::due`].
//!
//! **Guarantee.** The same calls give the same messages, in every process.
//!
//! A stream is slow if its owner seldom polls it. [`WatchDesk::poll`] is a transport that takes
//! everything at once.

use super::conversation::{Client, Conversation, End};
use super::hub::{Feeder, Hub, Stream, Walked};
#[cfg(any(test, feature = "mutants"))]
#[cfg(any(test, feature = "mutants"))]
use super::mutant::Mutant;
use super::session::{Session, Settings};
use crate::api::{ApiError, Headers};
use crate::proto::etcdserverpb as pb;
use prost::Message;
use quorate_core::{NodeId, Time};
use quorate_replica::Replica;
use quorate_replica::store::History;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Names a stream of one desk. Never used twice.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(u64);

/// What holds for all streams of a desk.
#[derive(Clone, Copy, Debug)]
pub struct DeskOptions {
    /// For headers.
    pub cluster_id: u64,
    /// For headers.
    pub member_id: u64,
    /// Size at which messages are split for watchers that take fragments. Unit: bytes.
    pub fragment_bytes: usize,
    /// About how often watchers that want it are told of their progress.
    pub progress_every: Duration,
    /// Streams that require a leader end when none was known for so long.
    pub leader_patience: Duration,
}

/// What becomes of a stream when no leader is known for long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leaderless {
    /// It goes on, and hears what this member hears.
    GoesOn,
    /// It ends.
    Ends,
}

/// What a stream has to say.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Messages, of about one chunk.
    Chunk(Vec<pb::WatchResponse>),
    /// Nothing until it is [due](WatchDesk::due).
    Idle,
    /// It is over, for this reason, and closed.
    Ended(ApiError),
}

/// All watching of one member.
#[derive(Debug)]
pub struct WatchDesk {
    hub: Arc<Hub>,
    feeder: Feeder,
    options: DeskOptions,
    streams: BTreeMap<StreamId, Conversation<Scripted>>,
    next_stream: u64,
    woken: Arc<Woken>,
    /// Since when no leader is known.
    leaderless_since: Option<Time>,
    /// That is so for longer than anybody has patience.
    leaderless: bool,
    /// When the hub has to be walked for the sake of time alone.
    walk_at: Option<Time>,
}

/// The streams that were woken.
#[derive(Debug, Default)]
struct Woken(Mutex<BTreeSet<StreamId>>);

/// Wakes one stream.
struct Bell {
    woken: Arc<Woken>,
    stream: StreamId,
}

/// The far end of a stream: what it asks has been written down already.
#[derive(Debug)]
struct Scripted {
    waker: Waker,
    requests: VecDeque<pb::WatchRequest>,
    now: Time,
    progress_every: Duration,
    next_tick: Option<Time>,
}

impl WatchDesk {
    /// Nobody watches.
    pub fn new(options: DeskOptions) -> WatchDesk {
        WatchDesk {
            hub: Arc::new(Hub::new()),
            feeder: Feeder::default(),
            options,
            streams: BTreeMap::new(),
            next_stream: 0,
            woken: Arc::default(),
            leaderless_since: None,
            leaderless: false,
            walk_at: None,
        }
    }

    /// Plants a bug. Panics: if a stream is open.
    #[cfg(any(test, feature = "mutants"))]
    pub fn plant(&mut self, mutant: Mutant) {
        let hub = Arc::get_mut(&mut self.hub).expect("bugs are planted before a stream is opened");
        hub.mutant = Some(mutant);
    }

    /// A turn of the replica ends, and its answers have not been seen by anybody yet.
    pub fn turn_ended(&mut self, node: &Replica, now: Time) {
        self.feeder.turn_ended(&self.hub, node, || now);
    }

    /// Marks what has happened, and forgets what was kept for late readers of a compaction. To be
    /// called some time after each turn, and when it is [time](WatchDesk::walk_at).
    pub fn walk(&mut self, now: Time) {
        while self.hub.walk() == Walked::Slice {}
        self.walk_at = self.hub.let_go(now);
    }

    /// When [`WatchDesk::walk`] must be called although no turn ended.
    pub fn walk_at(&self) -> Option<Time> {
        self.walk_at
    }

    /// Hands the changes over and marks them at once: for a desk without a replica.
    pub fn publish(&mut self, history: History, now: Time) {
        self.hub.offer(history, now);
        self.walk(now);
    }

    /// The leader that this member knows of at this moment.
    pub fn note_leader(&mut self, leader: Option<NodeId>, now: Time) {
        let since = match leader {
            Some(_) => None,
            None => Some(*self.leaderless_since.get_or_insert(now)),
        };
        self.leaderless_since = since;
        let lost = since.is_some_and(|since| now.since(since) >= self.options.leader_patience);
        if lost != self.leaderless {
            self.leaderless = lost;
            self.hub.set_leaderless(lost);
        }
    }

    /// This member's state is wrong: all streams end, and no further one begins.
    pub fn fence(&mut self) {
        self.hub.fence();
    }

    /// A client opens a stream. `history` holds the changes of this moment.
    ///
    /// Errors: why streams end, if they do; too many are open.
    pub fn open_stream(
        &mut self,
        leaderless: Leaderless,
        history: History,
        now: Time,
    ) -> Result<StreamId, ApiError> {
        let requires_leader = leaderless == Leaderless::Ends;
        let stream = Stream::open(&self.hub, requires_leader)?;
        stream.offer(history, now);
        let DeskOptions { cluster_id, member_id, fragment_bytes, progress_every, .. } =
            self.options;
        let headers = Headers::new(cluster_id, member_id);
        let settings = Settings { headers, fragment_bytes, requires_leader };
        let id = StreamId(self.next_stream);
        self.next_stream += 1;
        let far_end = Scripted {
            waker: Waker::from(Arc::new(Bell { woken: Arc::clone(&self.woken), stream: id })),
            requests: VecDeque::new(),
            now,
            progress_every: stream.spread(progress_every),
            next_tick: None,
        };
        self.streams.insert(id, Conversation::new(Session::new(stream, settings), far_end));
        Ok(id)
    }

    /// A client asks; its stream is due. Taken in when the stream is polled, and in order.
    ///
    /// Panics: if the stream is closed.
    pub fn request(&mut self, stream: StreamId, request: pb::WatchRequest) {
        let conversation = self.streams.get_mut(&stream).expect("an open stream");
        conversation.client_mut().requests.push_back(request);
        self.woken.lock().insert(stream);
    }

    /// The streams that have something to do, by age: they were woken, or their time has come.
    pub fn due(&mut self, now: Time) -> Vec<StreamId> {
        let mut due = self.woken.lock().clone();
        let ticking = self.streams.iter_mut().filter_map(|(stream, conversation)| {
            let next = conversation.client_mut().next_tick?;
            (next <= now).then_some(*stream)
        });
        due.extend(ticking);
        due.retain(|stream| self.streams.contains_key(stream));
        due.into_iter().collect()
    }

    /// When a stream is due although nobody wakes it.
    pub fn due_at(&mut self) -> Option<Time> {
        let ticks = self.streams.values_mut();
        ticks.filter_map(|conversation| conversation.client_mut().next_tick).min()
    }

    /// Takes the next chunk of a stream.
    ///
    /// Panics: if the stream is closed.
    pub fn poll_chunk(&mut self, stream: StreamId, now: Time) -> Told {
        self.woken.lock().remove(&stream);
        let conversation = self.streams.get_mut(&stream).expect("an open stream");
        let far_end = conversation.client_mut();
        far_end.now = now;
        let waker = far_end.waker.clone();
        match conversation.poll_chunk(&mut Context::from_waker(&waker)) {
            Poll::Pending => Told::Idle,
            Poll::Ready(Ok(chunk)) => {
                // The transport comes again when it has passed this on.
                self.woken.lock().insert(stream);
                Told::Chunk(messages(&chunk))
            }
            Poll::Ready(Err(End::Ours(why))) => {
                self.close(stream);
                Told::Ended(why)
            }
        }
    }

    /// Takes everything that a stream has to say.
    ///
    /// Errors: the stream is over; what it said before that is lost, as when a connection breaks.
    /// Panics: if the stream is closed.
    pub fn poll(
        &mut self,
        stream: StreamId,
        now: Time,
    ) -> Result<Vec<pb::WatchResponse>, ApiError> {
        let mut all = Vec::new();
        loop {
            match self.poll_chunk(stream, now) {
                Told::Chunk(mut more) => all.append(&mut more),
                Told::Idle if self.woken.lock().contains(&stream) => {}
                Told::Idle => return Ok(all),
                Told::Ended(why) => return Err(why),
            }
        }
    }

    /// A client goes away. Nothing happens if its stream is closed.
    pub fn close(&mut self, stream: StreamId) {
        self.streams.remove(&stream);
        self.woken.lock().remove(&stream);
    }

    /// The open streams, by age.
    pub fn streams(&self) -> impl Iterator<Item = StreamId> + '_ {
        self.streams.keys().copied()
    }
}

impl Client for Scripted {
    type Error = Infallible;

    fn poll_request(
        &mut self,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<pb::WatchRequest, Infallible>>> {
        self.requests.pop_front().map_or(Poll::Pending, |request| Poll::Ready(Some(Ok(request))))
    }

    fn poll_tick(&mut self, _cx: &mut Context<'_>) -> Poll<()> {
        let next = *self.next_tick.get_or_insert(self.now.after(self.progress_every));
        if self.now < next {
            return Poll::Pending;
        }
        self.next_tick = Some(self.now.after(self.progress_every));
        Poll::Ready(())
    }

    fn stop_ticking(&mut self) {
        self.next_tick = None;
    }

    fn now(&self) -> Time {
        self.now
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.woken.lock().insert(self.stream);
    }
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<StreamId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The messages of a chunk. Panics: if it was not written by a session.
pub(super) fn messages(mut chunk: &[u8]) -> Vec<pb::WatchResponse> {
    let mut messages = Vec::new();
    while !chunk.is_empty() {
        let length = u32::from_be_bytes(chunk[1..5].try_into().expect("four bytes")) as usize;
        messages.push(pb::WatchResponse::decode(&chunk[5..5 + length]).expect("a message"));
        chunk = &chunk[5 + length..];
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use pb::watch_request::RequestUnion;
    use quorate_replica::store::{Command, DeleteRange, Keys, Put, Revision, Store};

    const OPTIONS: DeskOptions = DeskOptions {
        cluster_id: 1,
        member_id: 2,
        fragment_bytes: 2_000,
        progress_every: Duration::from_secs(10),
        leader_patience: Duration::from_secs(3),
    };

    fn at(seconds: u64) -> Time {
        Time::default().after(Duration::from_secs(seconds))
    }

    fn watch(
        key: &'static [u8],
        range_end: &'static [u8],
        start_revision: i64,
    ) -> pb::WatchRequest {
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(key),
            range_end: Bytes::from_static(range_end),
            start_revision,
            progress_notify: true,
            prev_kv: true,
            ..Default::default()
        };
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    fn put(store: &mut Store, key: &'static [u8], bytes: usize) {
        let (key, value) = (Bytes::from_static(key), Bytes::from(vec![b'v'; bytes]));
        store.apply(&Command::Put(Put { key, value, ..Put::default() }));
    }

    /// SplitMix64.
    struct Choices(u64);

    impl Choices {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    /// Some thousand steps drawn from `seed`; answers with everything that was told, and when.
    fn play(seed: u64) -> Vec<(u64, StreamId, Told)> {
        const KEYS: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"e", b"f"];
        let mut choices = Choices(seed);
        let mut store = Store::new();
        let mut desk = WatchDesk::new(OPTIONS);
        let mut story = Vec::new();
        for second in 0..3_000 {
            let now = at(second);
            let key = KEYS[choices.below(6) as usize];
            let streams: Vec<StreamId> = desk.streams().collect();
            match choices.below(16) {
                0..6 => put(&mut store, key, choices.below(900) as usize),
                6 => {
                    let keys = Keys { key: Bytes::from_static(key), range_end: Bytes::new() };
                    store.apply(&Command::DeleteRange(DeleteRange { keys, prev_kv: false }));
                }
                7 => {
                    let revision = Revision(store.revision().0.saturating_sub(choices.below(9)));
                    store.apply(&Command::Compact { revision });
                    store.sweep(4);
                }
                8..11 => desk.publish(store.history(), now),
                11 if streams.len() < 4 => {
                    let opened = desk.open_stream(Leaderless::GoesOn, store.history(), now);
                    opened.expect("there is room");
                }
                12 | 13 if !streams.is_empty() => {
                    let stream = streams[choices.below(streams.len() as u64) as usize];
                    let end = if choices.below(2) == 0 { &b""[..] } else { &b"\0"[..] };
                    let from = store.revision().0 as i64 - choices.below(9) as i64;
                    desk.request(stream, watch(key, end, from.max(0)));
                }
                14 if choices.below(20) == 0 && !streams.is_empty() => desk.close(streams[0]),
                _ => {}
            }
            for stream in desk.due(now) {
                if choices.below(3) > 0 {
                    story.push((second, stream, desk.poll_chunk(stream, now)));
                }
            }
        }
        story
    }

    /// Each run has hash tables with a seed of their own, so that an order of theirs would show.
    #[test]
    fn the_same_steps_are_told_the_same_way() {
        for seed in 0..8 {
            let (first, second) = (play(seed), play(seed));
            assert!(first.len() > 1_000, "little was told: {}", first.len());
            assert_eq!(first, second, "seed {seed}");
        }
        assert_ne!(play(1), play(2));
    }

    #[test]
    fn a_stream_is_due_when_something_concerns_it_and_not_before() {
        let mut store = Store::new();
        let mut desk = WatchDesk::new(OPTIONS);
        let stream = desk.open_stream(Leaderless::GoesOn, store.history(), at(0)).expect("room");
        desk.request(stream, watch(b"k", b"", 0));
        assert_eq!(desk.due(at(0)), [stream]);
        let created = desk.poll(stream, at(0)).expect("it goes on");
        assert!(created[0].created && created.len() == 1);
        assert_eq!(desk.due(at(0)), []);
        put(&mut store, b"other", 1);
        desk.publish(store.history(), at(1));
        assert_eq!(desk.due(at(1)), []);
        put(&mut store, b"k", 1);
        desk.publish(store.history(), at(1));
        assert_eq!(desk.due(at(1)), [stream]);
        let told = desk.poll(stream, at(1)).expect("it goes on");
        assert_eq!(told[0].events[0].kv.as_ref().map(|kv| kv.mod_revision), Some(3));
        // News of progress come by time alone: about every ten seconds, once all is quiet.
        let mut told = Vec::new();
        while told.is_empty() {
            let due_at = desk.due_at().expect("it wants to hear");
            assert!(due_at <= at(40), "{due_at:?}");
            assert_eq!(desk.due(due_at), [stream]);
            told = desk.poll(stream, due_at).expect("it goes on");
        }
        assert!(told[0].events.is_empty());
        assert_eq!(told[0].header.as_ref().map(|header| header.revision), Some(3));
    }

    #[test]
    fn a_stream_that_wants_a_leader_ends_without_one() {
        let mut desk = WatchDesk::new(OPTIONS);
        let history = || Store::new().history();
        desk.note_leader(None, at(0));
        let stays = desk.open_stream(Leaderless::GoesOn, history(), at(0)).expect("room");
        let ends = desk.open_stream(Leaderless::Ends, history(), at(0)).expect("room");
        for stream in [stays, ends] {
            assert_eq!(desk.poll_chunk(stream, at(1)), Told::Idle);
        }
        desk.note_leader(Some(NodeId(1)), at(2));
        desk.note_leader(None, at(3));
        desk.note_leader(None, at(5));
        assert_eq!(desk.due(at(5)), []);
        desk.note_leader(None, at(6));
        assert_eq!(desk.due(at(6)), [stays, ends], "all look for themselves");
        assert_eq!(desk.poll(stays, at(6)), Ok(Vec::new()));
        assert_eq!(desk.poll(ends, at(6)), Err(ApiError::NoLeader));
        assert_eq!(desk.streams().collect::<Vec<_>>(), [stays]);
    }

    #[test]
    fn the_changes_before_a_compaction_are_let_go_in_time() {
        let mut store = Store::new();
        let mut desk = WatchDesk::new(OPTIONS);
        desk.open_stream(Leaderless::GoesOn, store.history(), at(0)).expect("room");
        put(&mut store, b"k", 1);
        put(&mut store, b"k", 1);
        store.apply(&Command::Compact { revision: Revision(3) });
        desk.publish(store.history(), at(1));
        let until = desk.walk_at().expect("there is something to let go");
        assert!(until > at(1));
        desk.walk(until);
        assert_eq!(desk.walk_at(), None);
    }

    #[test]
    fn a_planted_bug_shows() {
        let told = |mutant: Option<Mutant>| {
            let mut store = Store::new();
            let mut desk = WatchDesk::new(OPTIONS);
            mutant.into_iter().for_each(|mutant| desk.plant(mutant));
            put(&mut store, b"k", 1);
            let stream = desk.open_stream(Leaderless::GoesOn, store.history(), at(0));
            let stream = stream.expect("room");
            desk.request(stream, watch(b"k", b"", 2));
            let messages = desk.poll(stream, at(0)).expect("it goes on");
            messages.iter().map(|message| message.events.len()).sum::<usize>()
        };
        assert_eq!((told(None), told(Some(Mutant::LostAtJoin))), (1, 0));
    }
}
