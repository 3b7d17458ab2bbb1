//! Clients at work, and what must be true of everything they saw.
//!
//! Whatever a test does to the cluster meanwhile, afterwards this must hold:
//!
//! * the history is one that a linearizable store can show (`history.rs`);
//! * the counter, moved by compare-and-swap only, counts each acknowledged swap once;
//! * each acknowledged write is still readable at its own revision, from every member;
//! * all members hold the same keys with the same revisions;
//! * there was progress.

use crate::support::client::{Client, Failure, Found, Freshness, Seen, Snapshot, Swap};
use crate::support::cluster::Cluster;
use crate::support::history::{Action, Event, check};
use crate::support::seed::Seed;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Clients that work at the same time.
const CLIENTS: usize = 6;

/// Keys that everybody writes.
const HOT_KEYS: usize = 3;

/// The key that is only ever moved by compare-and-swap.
const COUNTER: &str = "counter";

/// A pause after a failed request, so that a cluster without a leader is not flooded.
const BREATH: Duration = Duration::from_millis(10);

/// Reads of the past in one request; a transaction takes 128 operations.
const PAST_BATCH: usize = 100;

/// Time between two compactions.
const COMPACT_EVERY: Duration = Duration::from_millis(700);

/// Revisions that a compaction leaves readable.
const HISTORY_KEPT: i64 = 300;

/// Acknowledged writes per second, at least. Far below what is measured: the machine may be slow,
/// not idle.
const WRITES_PER_SECOND_MIN: usize = 20;

/// Clients that work until they are asked what they saw.
pub(crate) struct Workload {
    start: Instant,
    over: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Vec<Event>>>,
    /// Returns the highest revision that it tried to compact.
    compactor: JoinHandle<i64>,
}

/// Whether the history is shortened while the clients work.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum History {
    /// It stays whole, so all of it can be checked afterwards.
    Kept,
    /// All but the last revisions are compacted again and again.
    Compacted,
}

impl Workload {
    /// Sets clients to work on all members.
    pub(crate) fn start(cluster: &Cluster, seed: &mut Seed, history: History) -> Workload {
        let start = Instant::now();
        let over = Arc::new(AtomicBool::new(false));
        let ports: Vec<u16> = cluster.members.iter().map(|member| member.client_port).collect();
        let workers = (0..CLIENTS)
            .map(|id| {
                let worker = Worker::new(id, &ports, start, seed.fork());
                tokio::spawn(worker.work(Arc::clone(&over)))
            })
            .collect();
        let compactor = match history {
            History::Kept => tokio::spawn(std::future::ready(0)),
            History::Compacted => tokio::spawn(compact(ports, Arc::clone(&over), seed.fork())),
        };
        Workload { start, over, workers, compactor }
    }

    /// Ends the work, waits until every member is back, and checks everything.
    ///
    /// Panics: if a promise was broken, or if too little happened to say so.
    pub(crate) async fn finish(self, cluster: &mut Cluster) {
        let length = self.start.elapsed();
        self.over.store(true, Ordering::SeqCst);
        let mut events = Vec::new();
        for worker in self.workers {
            events.extend(worker.await.expect("a client"));
        }
        let compacted = self.compactor.await.expect("the compactor");
        cluster.wait_ready().await;
        let last = cluster.wait_agreement().await;
        read_everything(cluster, &mut events, self.start).await;
        let tally = Tally::of(&events);
        let (keys, revision) = (last.kvs.len(), last.revision);
        eprintln!("{tally:?} {keys} keys at revision {revision}, compacted at {compacted}");
        assert_history(&events);
        assert_counter(&events, &last);
        assert_past(cluster, &events, compacted).await;
        tally.assert_progress(length);
    }
}

/// One client: it works until the storm is over and remembers all it saw.
struct Worker {
    id: usize,
    members: Vec<Client>,
    at: usize,
    start: Instant,
    seed: Seed,
    sequence: u64,
    counter: i64,
    events: Vec<Event>,
}

impl Worker {
    fn new(id: usize, ports: &[u16], start: Instant, seed: Seed) -> Worker {
        let members = ports.iter().map(|port| Client::new(*port)).collect();
        Worker { id, members, at: id, start, seed, sequence: 0, counter: 0, events: Vec::new() }
    }

    async fn work(mut self, over: Arc<AtomicBool>) -> Vec<Event> {
        while !over.load(Ordering::SeqCst) {
            // Mostly stay, sometimes move: a client that always moves hides what one member does.
            if self.seed.below(8) == 0 {
                self.at = self.seed.below(self.members.len());
            }
            let hot = format!("hot/{}", self.seed.below(HOT_KEYS));
            let answered = match self.seed.below(100) {
                0..30 => self.put(format!("unique/{}/{}", self.id, self.sequence)).await,
                30..50 => self.put(hot).await,
                50..55 => self.delete(hot).await,
                55..80 => self.get(&hot).await,
                _ => self.count().await,
            };
            if !answered {
                self.at = self.seed.below(self.members.len());
                tokio::time::sleep(BREATH).await;
            }
        }
        self.events
    }

    async fn put(&mut self, key: String) -> bool {
        let value = self.next_value();
        let invoked = self.now();
        let action = match self.member().put(&key, value.as_str()).await {
            Ok(revision) => Action::Wrote { value, revision, over: None },
            Err(Failure::Definite(_)) => Action::Refused { value },
            Err(Failure::Unknown(_)) => Action::Unknown { value },
        };
        self.remember(invoked, key, action)
    }

    async fn delete(&mut self, key: String) -> bool {
        let invoked = self.now();
        let action = match self.member().delete(&key).await {
            Ok((revision, 1)) => Action::Deleted { revision },
            Ok((_, deleted)) => {
                assert_eq!(deleted, 0, "one key was to be deleted");
                return true;
            }
            Err(Failure::Definite(_)) => return false,
            Err(Failure::Unknown(_)) => Action::DeleteUnknown,
        };
        self.remember(invoked, key, action)
    }

    async fn get(&mut self, key: &str) -> bool {
        let invoked = self.now();
        match self.member().get(key, Freshness::Linearizable).await {
            Ok(seen) => self.remember(invoked, key.to_owned(), Action::Read(seen)),
            Err(_) => false,
        }
    }

    /// One step of the counter, if nobody moved it since this client last looked.
    async fn count(&mut self) -> bool {
        let value = self.next_value();
        let expected = self.counter;
        let invoked = self.now();
        let action = match self.member().swap(COUNTER, expected, &value).await {
            Ok(Swap::Done { revision }) => {
                self.counter = revision;
                Action::Wrote { value, revision, over: Some(expected) }
            }
            Ok(Swap::Lost(seen)) => {
                self.counter = seen.found.as_ref().map_or(0, |found| found.mod_revision);
                Action::Read(seen)
            }
            Err(Failure::Definite(_)) => Action::Refused { value },
            Err(Failure::Unknown(_)) => Action::Unknown { value },
        };
        self.remember(invoked, COUNTER.to_owned(), action)
    }

    fn member(&mut self) -> &mut Client {
        let count = self.members.len();
        &mut self.members[self.at % count]
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn next_value(&mut self) -> String {
        self.sequence += 1;
        format!("{}.{}", self.id, self.sequence)
    }

    /// Returns true if the operation was answered with a result.
    fn remember(&mut self, invoked: u64, key: String, action: Action) -> bool {
        let answered =
            matches!(action, Action::Wrote { .. } | Action::Deleted { .. } | Action::Read(_));
        let returned = self.now();
        self.events.push(Event { client: self.id, invoked, returned, key, action });
        answered
    }
}

/// Compacts through any member, whatever becomes of it; returns the highest revision tried.
async fn compact(ports: Vec<u16>, over: Arc<AtomicBool>, mut seed: Seed) -> i64 {
    let mut highest = 0;
    while !over.load(Ordering::SeqCst) {
        tokio::time::sleep(COMPACT_EVERY).await;
        let mut client = Client::new(*seed.pick(&ports));
        let Ok(seen) = client.get(COUNTER, Freshness::Serializable).await else { continue };
        let revision = seen.revision - HISTORY_KEPT;
        if revision > highest {
            highest = revision;
            // An unknown outcome is as good as any: what is checked afterwards lies above.
            let _ = client.compact(revision).await;
        }
    }
    highest
}

/// How the operations ended.
#[derive(Debug, Default)]
struct Tally {
    written: usize,
    read: usize,
    refused: usize,
    unknown: usize,
}

impl Tally {
    fn of(events: &[Event]) -> Tally {
        let mut tally = Tally::default();
        for event in events {
            match event.action {
                Action::Wrote { .. } | Action::Deleted { .. } => tally.written += 1,
                Action::Read(_) => tally.read += 1,
                Action::Refused { .. } => tally.refused += 1,
                Action::Unknown { .. } | Action::DeleteUnknown => tally.unknown += 1,
            }
        }
        tally
    }

    fn assert_progress(&self, length: Duration) {
        let least = WRITES_PER_SECOND_MIN * length.as_secs() as usize;
        assert!(self.written >= least, "{} writes in {length:?}", self.written);
        assert!(self.read >= least / 4, "{} reads in {length:?}", self.read);
    }
}

/// Adds a linearizable read of every key that anybody wrote to the history.
async fn read_everything(cluster: &mut Cluster, events: &mut Vec<Event>, start: Instant) {
    let invoked = start.elapsed().as_nanos() as u64;
    let all = cluster.client(0).all(Freshness::Linearizable).await.expect("a quiet cluster");
    let returned = start.elapsed().as_nanos() as u64;
    let mut keys: Vec<String> = events.iter().map(|event| event.key.clone()).collect();
    keys.extend(all.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()));
    keys.sort();
    keys.dedup();
    for key in keys {
        let kv = all.kvs.iter().find(|kv| kv.key == key.as_bytes());
        let found = kv.map(|kv| Found {
            value: String::from_utf8_lossy(&kv.value).into_owned(),
            mod_revision: kv.mod_revision,
        });
        let action = Action::Read(Seen { revision: all.revision, found });
        events.push(Event { client: CLIENTS, invoked, returned, key, action });
    }
}

fn assert_history(events: &[Event]) {
    let violations = check(events);
    for violation in &violations {
        eprintln!("{violation}");
    }
    assert!(violations.is_empty(), "{} promises were broken", violations.len());
}

/// Each acknowledged swap moved the counter once; each unknown one once or never.
fn assert_counter(events: &[Event], last: &Snapshot) {
    let swaps = events.iter().filter(|event| event.key == COUNTER);
    let (mut done, mut unknown) = (0, 0);
    for swap in swaps {
        match swap.action {
            Action::Wrote { .. } => done += 1,
            Action::Unknown { .. } => unknown += 1,
            _ => {}
        }
    }
    let counter = last.kvs.iter().find(|kv| kv.key == COUNTER.as_bytes());
    let steps = counter.expect("somebody counted").version;
    assert!(
        (done..=done + unknown).contains(&steps),
        "{steps} steps of {done} acknowledged and {unknown} unknown ones"
    );
}

/// Each acknowledged write that was not compacted is readable at its own revision, everywhere.
async fn assert_past(cluster: &Cluster, events: &[Event], compacted: i64) {
    let is_kept = |event: &&Event| match &event.action {
        Action::Wrote { revision, .. } => *revision >= compacted,
        _ => false,
    };
    let writes: Vec<&Event> = events.iter().filter(is_kept).collect();
    assert!(!writes.is_empty(), "no write is left to look for");
    for i in 0..cluster.members.len() {
        let mut client = cluster.client(i);
        for batch in writes.chunks(PAST_BATCH) {
            let places = batch.iter().filter_map(|event| match &event.action {
                Action::Wrote { revision, .. } => Some((event.key.as_str(), *revision)),
                _ => None,
            });
            let past = client.get_past(places).await.expect("a read of the past");
            for (event, found) in batch.iter().zip(past) {
                let Action::Wrote { value, revision, .. } = &event.action else { continue };
                let found = found.unwrap_or_else(|| panic!("{event} is not in the past"));
                assert_eq!((&found.value, found.mod_revision), (value, *revision), "{event}");
            }
        }
    }
}
