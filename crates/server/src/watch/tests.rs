//! What watchers were told, against what happened.
//!
//! A random run of writes, compactions, creations, cancellations, questions, slow readers and
//! pauses of the hub. The model is the list of all events; each watcher must have been told exactly
//! those it asked for, in order, whole revisions at a time, and nobody was told to be further than
//! that.

use super::desk::messages;
use super::hub::Hub;
use super::mutant::Mutant;
use super::session::{Filled, Session, Settings};
use super::{COMPACTION_GRACE, LAG_REVISIONS_MAX, Stream};
use crate::api::{ApiError, Headers};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use quorate_core::{Term, Time};
use quorate_replica::store::{
    Command, DeleteRange, Keys, Op, Put, Revision, Store, Txn as StoreTxn,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const KEYS: u8 = 6;
const STREAMS: usize = 3;
/// Small, so that fragments happen. Unit: bytes.
const FRAGMENT_BYTES: usize = 120;

#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        bytes: u16,
    },
    Delete {
        key: u8,
        end: u8,
    },
    Txn {
        keys: Vec<u8>,
        bytes: u16,
    },
    Compact {
        back: u8,
    },
    Sweep,
    /// The loop hands over.
    Offer,
    Walk,
    Create {
        stream: usize,
        key: u8,
        end: u8,
        start: Start,
        wishes: u8,
    },
    Cancel {
        stream: usize,
        watcher: usize,
    },
    Ask {
        stream: usize,
    },
    Tick {
        stream: usize,
    },
    /// The transport takes so many chunks.
    Read {
        stream: usize,
        chunks: u8,
    },
    /// The grace after a compaction is over.
    LetGo,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    Now,
    Back(u8),
    Ahead(u8),
    /// Around the compact revision.
    Compacted(i8),
}

fn step() -> impl Strategy<Value = Step> {
    let stream = 0..STREAMS;
    let start = prop_oneof![
        3 => Just(Start::Now),
        3 => (0u8..20).prop_map(Start::Back),
        1 => (1u8..5).prop_map(Start::Ahead),
        2 => (-1i8..=1).prop_map(Start::Compacted),
    ];
    let bytes = prop_oneof![4 => 0u16..40, 1 => Just(20_000u16)];
    prop_oneof![
        8 => (0..KEYS, bytes.clone()).prop_map(|(key, bytes)| Step::Put { key, bytes }),
        2 => (0..KEYS, 0..KEYS + 2).prop_map(|(key, end)| Step::Delete { key, end }),
        3 => (prop::collection::btree_set(0..KEYS, 1..5), bytes)
            .prop_map(|(keys, bytes)| Step::Txn { keys: keys.into_iter().collect(), bytes }),
        1 => (0u8..6).prop_map(|back| Step::Compact { back }),
        1 => Just(Step::Sweep),
        8 => Just(Step::Offer),
        6 => Just(Step::Walk),
        5 => (stream.clone(), 0..KEYS, 0..KEYS + 2, start, any::<u8>()).prop_map(
            |(stream, key, end, start, wishes)| Step::Create { stream, key, end, start, wishes }
        ),
        2 => (stream.clone(), any::<usize>())
            .prop_map(|(stream, watcher)| Step::Cancel { stream, watcher }),
        2 => stream.clone().prop_map(|stream| Step::Ask { stream }),
        1 => stream.clone().prop_map(|stream| Step::Tick { stream }),
        8 => (stream, 1u8..4).prop_map(|(stream, chunks)| Step::Read { stream, chunks }),
        1 => Just(Step::LetGo),
    ]
}

/// An event as the model keeps it.
#[derive(Clone, Debug, PartialEq)]
struct Happened {
    revision: u64,
    key: u8,
    deleted: bool,
    bytes: usize,
    /// Revision of what it replaced.
    replaced: Option<i64>,
}

/// A watcher as its client sees it.
#[derive(Clone, Debug)]
struct Client {
    key: u8,
    end: u8,
    from: u64,
    puts: bool,
    deletes: bool,
    prev: bool,
    fragments: bool,
    told: Vec<Happened>,
    /// Beyond this nothing may come any more as news.
    progress: u64,
    in_fragments: bool,
}

impl Client {
    fn wants(&self, event: &Happened) -> bool {
        let kind = if event.deleted { self.deletes } else { self.puts };
        let key = match self.end {
            0 => event.key == self.key,
            1 => event.key >= self.key,
            end => event.key >= self.key && event.key < end,
        };
        event.revision >= self.from && kind && key
    }
}

struct World {
    hub: Arc<Hub>,
    store: Store,
    happened: Vec<Happened>,
    modified: BTreeMap<u8, i64>,
    sessions: Vec<Session>,
    clients: Vec<BTreeMap<i64, Client>>,
    /// Creations that have not been answered yet.
    created: Vec<Vec<Client>>,
    offered: u64,
    now: Time,
}

impl World {
    fn new(mutant: Option<Mutant>) -> World {
        let mut hub = Hub::new();
        hub.mutant = mutant;
        hub.set_term(Term(1));
        let hub = Arc::new(hub);
        let store = Store::new();
        let sessions = (0..STREAMS).map(|_| session(&hub, &store)).collect();
        World {
            hub,
            store,
            happened: Vec::new(),
            modified: BTreeMap::new(),
            sessions,
            clients: vec![BTreeMap::new(); STREAMS],
            created: vec![Vec::new(); STREAMS],
            offered: 1,
            now: Time::default(),
        }
    }

    fn run(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Put { key, bytes } => self.write(&Command::Put(put(*key, *bytes))),
            Step::Delete { key, end } => {
                let keys = keys(*key, *end);
                self.write(&Command::DeleteRange(DeleteRange { keys, prev_kv: false }));
            }
            Step::Txn { keys, bytes } => {
                let success = keys.iter().map(|key| Op::Put(put(*key, *bytes))).collect();
                self.write(&Command::Txn(StoreTxn { success, ..StoreTxn::default() }));
            }
            Step::Compact { back } => {
                let revision = self.store.revision().0.saturating_sub(u64::from(*back));
                self.store.apply(&Command::Compact { revision: Revision(revision) });
            }
            Step::Sweep => drop(self.store.sweep(4)),
            Step::Offer => self.offer(),
            Step::Walk => drop(self.hub.walk()),
            Step::Create { stream, key, end, start, wishes } => {
                self.create(*stream, *key, *end, *start, *wishes);
            }
            Step::Cancel { stream, watcher } => {
                let ids: Vec<i64> = self.clients[*stream].keys().copied().collect();
                if !ids.is_empty() {
                    let watch_id = ids[watcher % ids.len()];
                    let cancel = pb::WatchCancelRequest { watch_id };
                    self.ask(*stream, RequestUnion::CancelRequest(cancel));
                }
            }
            Step::Ask { stream } => {
                let ask = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                self.ask(*stream, ask);
            }
            Step::Tick { stream } => self.sessions[*stream].tick(),
            Step::Read { stream, chunks } => {
                for _ in 0..*chunks {
                    self.read(*stream)?;
                }
            }
            Step::LetGo => self.hub.forget_before(),
        }
        Ok(())
    }

    fn write(&mut self, command: &Command) {
        let before = self.store.revision();
        self.store.apply(command);
        for event in self.store.changes(before.next()).expect("just happened") {
            let key = event.kv.key[0];
            let revision = event.revision().0;
            let deleted = event.is_delete();
            let replaced = self.modified.remove(&key);
            if !deleted {
                self.modified.insert(key, revision as i64);
            }
            let bytes = event.kv.value.len();
            self.happened.push(Happened { revision, key, deleted, bytes, replaced });
        }
    }

    fn offer(&mut self) {
        self.hub.offer(self.store.history(), self.now);
        self.offered = self.store.revision().0;
    }

    fn ask(&mut self, stream: usize, request: RequestUnion) {
        if self.sessions[stream].takes_requests() {
            let request = pb::WatchRequest { request_union: Some(request) };
            self.sessions[stream].request(request);
        } else if let RequestUnion::CreateRequest(_) = request {
            self.created[stream].pop();
        }
    }

    fn create(&mut self, stream: usize, key: u8, end: u8, start: Start, wishes: u8) {
        if end > 1 && end <= key {
            return; // Refused; see the tests of shapes.
        }
        let now = self.offered;
        let start = match start {
            Start::Now => 0,
            Start::Back(back) => now.saturating_sub(u64::from(back)).max(1),
            Start::Ahead(ahead) => now + u64::from(ahead),
            Start::Compacted(by) => {
                self.store.compact_revision().0.saturating_add_signed(by.into()).max(1)
            }
        };
        let wish = |bit: u8| wishes & 1 << bit != 0;
        let filters = match wishes >> 4 & 7 {
            0 => vec![0],
            1 => vec![1],
            _ => Vec::new(),
        };
        let client = Client {
            key,
            end,
            from: if start == 0 { now + 1 } else { start },
            puts: !filters.contains(&0),
            deletes: !filters.contains(&1),
            prev: wish(0),
            fragments: wish(1),
            told: Vec::new(),
            progress: 0,
            in_fragments: false,
        };
        let Keys { key, range_end } = keys(key, end);
        let create = pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: start as i64,
            progress_notify: wish(2),
            filters,
            prev_kv: wish(0),
            watch_id: 0,
            fragment: wish(1),
        };
        self.created[stream].push(client);
        self.ask(stream, RequestUnion::CreateRequest(create));
    }

    /// Takes a chunk and compares each message in it with what happened.
    fn read(&mut self, stream: usize) -> Result<Filled, String> {
        let mut chunk = Vec::new();
        let filled = self.sessions[stream].fill(self.now, &mut chunk);
        for message in messages(&chunk) {
            self.hear(stream, &message)?;
        }
        self.sessions[stream].invariants();
        Ok(filled)
    }

    fn hear(&mut self, stream: usize, message: &pb::WatchResponse) -> Result<(), String> {
        let revision = message.header.as_ref().expect("a header").revision as u64;
        let split = self.clients[stream].iter().find(|(_, client)| client.in_fragments);
        if let Some((id, _)) = split
            && *id != message.watch_id
        {
            return Err(format!("{message:?} came between the fragments of watcher {id}"));
        }
        if message.created {
            let client = self.created[stream].remove(0);
            self.clients[stream].insert(message.watch_id, client);
            return Ok(());
        }
        if message.canceled {
            return self.hear_cancelled(stream, message);
        }
        if message.watch_id == -1 {
            for id in self.clients[stream].keys().copied().collect::<Vec<_>>() {
                self.hear_progress(stream, id, revision)?;
            }
            return Ok(());
        }
        if message.events.is_empty() {
            return self.hear_progress(stream, message.watch_id, revision);
        }
        self.hear_events(stream, message)
    }

    fn hear_cancelled(&mut self, stream: usize, message: &pb::WatchResponse) -> Result<(), String> {
        let client = self.clients[stream].remove(&message.watch_id).ok_or("nobody to cancel")?;
        let compacted = message.compact_revision as u64;
        if compacted == 0 {
            return Ok(());
        }
        // It has to have missed something, or to be about to.
        let missing = self.expected(&client, compacted - 1).len() > client.told.len();
        let behind = self.offered_is_behind(&client, compacted);
        if compacted > self.store.compact_revision().0 || !(missing || behind) {
            return Err(format!("cancelled without need at {compacted}: {client:?}"));
        }
        Ok(())
    }

    /// True if the watcher's start itself is compacted, or it may not have got that far.
    fn offered_is_behind(&self, client: &Client, compacted: u64) -> bool {
        client.from < compacted && client.progress < compacted
    }

    fn hear_progress(&mut self, stream: usize, id: i64, revision: u64) -> Result<(), String> {
        let client = self.clients[stream].get(&id).ok_or("progress of nobody")?.clone();
        if revision > self.offered {
            return Err(format!("progress {revision} beyond the store at {}", self.offered));
        }
        let expected = self.expected(&client, revision);
        if expected.len() > client.told.len() {
            return Err(format!("progress {revision} ahead of {:?}", expected.last()));
        }
        self.clients[stream].get_mut(&id).expect("just seen").progress = revision;
        Ok(())
    }

    fn hear_events(&mut self, stream: usize, message: &pb::WatchResponse) -> Result<(), String> {
        let header = message.header.as_ref().expect("a header").revision as u64;
        let compacted = self.store.compact_revision().0 as i64;
        let client = self.clients[stream].get_mut(&message.watch_id).ok_or("events of nobody")?;
        for event in &message.events {
            let kv = event.kv.as_ref().expect("a pair");
            let key = kv.key[0];
            let revision = kv.mod_revision as u64;
            let replaced = event.prev_kv.as_ref().map(|prev| prev.mod_revision);
            let deleted = event.r#type == 1;
            let told = Happened { revision, key, deleted, bytes: kv.value.len(), replaced };
            let same = |h: &&Happened| h.revision == revision && h.key == key;
            let happened = self.happened.iter().find(same).ok_or("it never happened")?;
            let prev_is_right = match told.replaced {
                None => !client.prev || happened.replaced.is_none() || kv.mod_revision <= compacted,
                replaced => client.prev && replaced == happened.replaced,
            };
            let rest_is_right = told.deleted == happened.deleted && told.bytes == happened.bytes;
            if !prev_is_right || !rest_is_right {
                return Err(format!("{told:?} is not {happened:?}"));
            }
            client.told.push(happened.clone());
            if header < revision {
                return Err(format!("header {header} is older than its event {told:?}"));
            }
            if revision <= client.progress {
                return Err(format!("{told:?} after progress {}", client.progress));
            }
        }
        if message.fragment && !client.fragments {
            return Err(format!("a revision is split for {client:?}"));
        }
        client.in_fragments = message.fragment;
        let client = client.clone();
        let last = client.told.last().expect("just pushed").revision;
        let mut expected = self.expected(&client, last);
        if message.fragment {
            expected.truncate(client.told.len());
        }
        if client.told != expected {
            return Err(format!("told {:?}\nexpected {expected:?}\n{client:?}", client.told));
        }
        Ok(())
    }

    fn expected(&self, client: &Client, upto: u64) -> Vec<Happened> {
        let wanted = |event: &&Happened| event.revision <= upto && client.wants(event);
        self.happened.iter().filter(wanted).cloned().collect()
    }

    /// Lets everything arrive and compares.
    fn finish(&mut self) -> Result<(), String> {
        self.offer();
        while self.hub.walk() == super::hub::Walked::Slice {}
        for stream in 0..STREAMS {
            let ask = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
            self.ask(stream, ask);
            while self.read(stream)? != Filled::Idle {}
            for client in self.clients[stream].values() {
                let expected = self.expected(client, u64::MAX);
                if client.told != expected {
                    return Err(format!("in the end {:?}\nexpected {expected:?}", client.told));
                }
            }
            if !self.created[stream].is_empty() {
                return Err("a creation was not answered".to_owned());
            }
        }
        Ok(())
    }
}

fn session(hub: &Arc<Hub>, store: &Store) -> Session {
    let stream = Stream::open(hub, false).expect("a stream");
    stream.offer(store.history(), Time::default());
    let headers = Headers::test();
    let settings = Settings { headers, fragment_bytes: FRAGMENT_BYTES, requires_leader: false };
    Session::new(stream, settings)
}

fn put(key: u8, bytes: u16) -> Put {
    let value = Bytes::from(vec![b'v'; bytes.into()]);
    Put { key: Bytes::from(vec![key]), value, ..Put::default() }
}

/// An end of 0 is none, of 1 is "everything from there".
fn keys(key: u8, end: u8) -> Keys {
    let range_end = match end {
        0 => Bytes::new(),
        1 => Bytes::from_static(b"\0"),
        end => Bytes::from(vec![end]),
    };
    Keys { key: Bytes::from(vec![key]), range_end }
}

fn play(mutant: Option<Mutant>, steps: &[Step]) -> Result<(), String> {
    let mut world = World::new(mutant);
    for step in steps {
        world.run(step)?;
    }
    world.finish()
}

/// A world with one watcher of everything on the first stream.
fn watched(fragments: bool) -> World {
    let mut world = World::new(None);
    world.create(0, 0, 1, Start::Now, 0x70 | u8::from(fragments) << 1);
    world.read(0).expect("created");
    world
}

/// As a follower does which applies writes and the compaction after them in one turn.
#[test]
fn a_compaction_right_behind_writes_cancels_nobody_who_follows() {
    let mut world = watched(false);
    for key in 0..5 {
        world.write(&Command::Put(put(key, 1)));
    }
    world.run(&Step::Compact { back: 0 }).expect("compacted");
    world.offer();
    world.hub.walk();
    world.read(0).expect("told");
    assert_eq!(world.clients[0][&0].told.len(), 5);
    // Who comes later cannot begin before it, whatever is still there.
    world.create(0, 0, 1, Start::Back(3), 0x70);
    world.read(0).expect("cancelled");
    assert_eq!(world.clients[0].len(), 1);
}

#[test]
fn the_changes_before_a_compaction_are_kept_for_their_time_only() {
    let mut world = watched(false);
    world.write(&Command::Put(put(1, 1)));
    world.write(&Command::Put(put(1, 1)));
    world.run(&Step::Compact { back: 0 }).expect("compacted");
    world.offer();
    world.hub.walk();
    let over = world.now.after(COMPACTION_GRACE);
    assert_eq!(world.hub.let_go(world.now), Some(over), "too early");
    assert!(world.hub.view().expect("offered").from(Revision(2)).is_some());
    assert_eq!(world.hub.let_go(over), None);
    assert!(world.hub.view().expect("offered").from(Revision(2)).is_none());
    world.read(0).expect("cancelled with a reason");
    assert!(world.clients[0].is_empty());
}

/// The chunk that was handed out last is not fetched for long, and then the reader is back.
#[test]
fn a_stuck_watcher_far_behind_is_cancelled_with_where_to_resume() {
    for (seconds, lag, cancelled) in [(61, LAG_REVISIONS_MAX + 1, true), (59, u64::MAX, false)] {
        let mut world = watched(false);
        world.write(&Command::Put(put(1, 1)));
        world.offer();
        world.hub.walk();
        assert_eq!(world.read(0), Ok(Filled::Chunk));
        world.write(&Command::Put(put(2, 1)));
        world.offer();
        world.hub.walk();
        let session = &mut world.sessions[0];
        session.collect();
        let later = world.now.after(Duration::from_secs(seconds));
        session.cancel_stuck(later, Revision(lag.saturating_add(3)));
        let answer = session.answers.pop_front();
        assert_eq!(answer.is_some(), cancelled, "{answer:?}");
        if let Some(answer) = answer {
            assert!(answer.canceled && answer.cancel_reason.ends_with("resume at revision 3"));
        }
    }
}

/// A stream that is fenced, stopped or without the leader it wants ends, and no other begins.
#[test]
fn streams_end_when_the_member_cannot_go_on() {
    let mut world = watched(false);
    world.hub.set_leaderless(true);
    assert_eq!(world.read(0), Ok(Filled::Idle), "it does not require a leader");
    assert!(Stream::open(&world.hub, true).is_err());
    world.hub.set_leaderless(false);
    assert!(Stream::open(&world.hub, true).is_ok());
    world.hub.fence();
    world.hub.stop();
    assert_eq!(world.read(0), Ok(Filled::End(ApiError::Corrupt)));
    assert!(Stream::open(&world.hub, false).is_err());
}

#[test]
fn the_last_stream_takes_the_history_with_it() {
    let mut world = watched(false);
    assert!(world.hub.view().is_some());
    world.sessions.clear();
    assert!(world.hub.view().is_none(), "nobody needs it, and it pins memory");
    world.hub.offer(world.store.history(), world.now);
    assert!(world.hub.view().is_none());
}

/// Leaving costs no search, and what that leaves behind is never more than what is there.
#[test]
fn watchers_that_leave_in_a_crowd_are_soon_forgotten() {
    let mut world = watched(false);
    for _ in 1..500 {
        world.create(0, 0, 1, Start::Now, 0x70);
        world.read(0).expect("created");
    }
    world.write(&Command::Put(put(1, 1)));
    world.offer();
    world.hub.walk();
    for id in 0..499 {
        let session = &mut world.sessions[0];
        if id == 250 {
            session.collect();
        }
        let cancel = RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id: id });
        session.request(pb::WatchRequest { request_union: Some(cancel) });
        let waiting = session.queue.len() + session.stream.mailbox.len();
        let there = 499 - id as usize;
        assert!(waiting <= 2 * there, "{waiting} entries for {there} watchers");
        session.invariants();
    }
    world.read(0).expect("told");
    assert_eq!(world.clients[0][&499].told.len(), 1);
}

fn runs() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..160)
}

#[test]
fn every_watcher_is_told_exactly_what_it_asked_for() {
    let config = ProptestConfig { cases: 600, failure_persistence: None, ..Default::default() };
    let outcome = TestRunner::new(config)
        .run(&runs(), |steps| play(None, &steps).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn every_planted_bug_is_caught() {
    // The runs have no users; see `rights.rs`.
    let others = |mutant: &Mutant| *mutant != Mutant::RevokedGoesOn;
    for mutant in Mutant::ALL.iter().copied().filter(others) {
        let config = ProptestConfig {
            cases: 3_000,
            failure_persistence: None,
            max_shrink_iters: 0,
            ..Default::default()
        };
        let outcome = TestRunner::new(config).run(&runs(), |steps| {
            // A bug may show as a broken assertion as well.
            let played = std::panic::catch_unwind(|| play(Some(mutant), &steps));
            played.unwrap_or(Err("panicked".to_owned())).map_err(TestCaseError::fail)
        });
        assert!(outcome.is_err(), "{mutant:?} was not caught");
    }
}
