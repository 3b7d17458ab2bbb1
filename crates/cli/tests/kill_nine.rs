//! Acknowledged means acknowledged: writers and readers against members that die and freeze.
//!
//! Problem: the promises of a replicated store are about what happens when processes end between
//! any two instructions. Idea: clients write through all members while a nemesis kills (`-9`),
//! restarts, freezes and thaws members, never more than a minority at once. Everything that the
//! clients saw becomes a history (`support/history.rs`); after the storm the whole store is read
//! and added to it. What must hold then:
//!
//! * the history is one that a linearizable store can show;
//! * the counter, moved by compare-and-swap only, counts each acknowledged swap once;
//! * each acknowledged write is still readable at its own revision, from every member;
//! * all members hold the same keys with the same revisions;
//! * there was progress, and there was trouble.
//!
//! A failure prints the seed; `QUORATE_TEST_SEED` replays the choices, though not the exact times.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, Failure, Freshness, Snapshot, Swap};
use support::cluster::{Cluster, Settings};
use support::history::{Action, Event, check};
use support::seed::{Seed, chaos_seconds};

/// Clients that work at the same time.
const CLIENTS: usize = 6;

/// Keys that everybody writes.
const HOT_KEYS: usize = 3;

/// The key that is only ever moved by compare-and-swap.
const COUNTER: &str = "counter";

/// Chaos per test in CI; `QUORATE_TEST_SECONDS` makes it longer.
const CHAOS_SECONDS: u64 = 20;

/// A pause after a failed request, so that a cluster without a leader is not flooded.
const BREATH: Duration = Duration::from_millis(10);

/// Reads of the past in one request; a transaction takes 128 operations.
const PAST_BATCH: usize = 100;

/// Two storms at once on a small machine would be a test of the scheduler.
static ONE_STORM: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_keep_their_word() {
    storm(Settings::of(3)).await;
}

/// Five members, and so little log that checkpoints and their transfer happen all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_members_with_constant_checkpoints_keep_their_word() {
    let settings = Settings::of(5).with("--checkpoint-bytes", 32 << 10);
    storm(settings.with("--log-retain-bytes", 16 << 10)).await;
}

async fn storm(settings: Settings) {
    let _alone = ONE_STORM.lock().await;
    let number = Seed::of_this_run();
    eprintln!("QUORATE_TEST_SEED={number} replays the choices of this run");
    let mut seed = Seed::new(number);
    let mut cluster = Cluster::start(settings).await;

    let start = Instant::now();
    let over = Arc::new(AtomicBool::new(false));
    let ports: Vec<u16> = cluster.members.iter().map(|member| member.client_port).collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|id| {
            let worker = Worker::new(id, &ports, start, seed.fork());
            tokio::spawn(worker.work(Arc::clone(&over)))
        })
        .collect();
    let length = Duration::from_secs(chaos_seconds(CHAOS_SECONDS));
    let trouble = Nemesis::new(seed.fork()).rage(&mut cluster, length).await;
    over.store(true, Ordering::SeqCst);
    let mut events = Vec::new();
    for client in clients {
        events.extend(client.await.expect("a client"));
    }

    cluster.wait_ready().await;
    let last = cluster.wait_agreement().await;
    read_everything(&mut cluster, &mut events, start).await;
    let tally = Tally::of(&events);
    eprintln!("{tally:?} {trouble:?} {} keys at revision {}", last.kvs.len(), last.revision);
    assert_history(&events);
    assert_counter(&events, &last);
    assert_past(&cluster, &events).await;
    tally.assert_progress(length);
    trouble.assert_trouble(length);
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

/// What makes trouble, and how much of it there was.
struct Nemesis {
    seed: Seed,
    trouble: Trouble,
}

#[derive(Debug, Default)]
struct Trouble {
    kills: usize,
    leader_kills: usize,
    pauses: usize,
    leader_pauses: usize,
}

impl Nemesis {
    fn new(seed: Seed) -> Nemesis {
        Nemesis { seed, trouble: Trouble::default() }
    }

    /// Causes trouble for so long, then brings every member back.
    async fn rage(mut self, cluster: &mut Cluster, length: Duration) -> Trouble {
        let end = Instant::now() + length;
        while Instant::now() < end {
            let wait = self.seed.between(50, 900) as u64;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let count = cluster.members.len();
            let down: Vec<usize> = (0..count).filter(|i| !cluster.is_up(*i)).collect();
            let minority = (count - 1) / 2;
            // A full minority is down half of the time, so elections need every vote there is.
            if down.len() == minority || (!down.is_empty() && self.seed.below(2) == 0) {
                let back = *self.seed.pick(&down);
                bring_back(cluster, back);
            } else {
                self.strike(cluster).await;
            }
        }
        for i in 0..cluster.members.len() {
            if !cluster.is_up(i) {
                bring_back(cluster, i);
            }
        }
        self.trouble
    }

    async fn strike(&mut self, cluster: &mut Cluster) {
        let up: Vec<usize> = (0..cluster.members.len()).filter(|i| cluster.is_up(*i)).collect();
        let (draw, any) = (self.seed.below(100), *self.seed.pick(&up));
        let leader = cluster.leader_now().await;
        match (draw, leader) {
            (0..45, _) => {
                cluster.kill(any);
                self.trouble.kills += 1;
            }
            (45..70, Some(leader)) => {
                cluster.kill(leader);
                self.trouble.kills += 1;
                self.trouble.leader_kills += 1;
            }
            (70..85, Some(leader)) => {
                cluster.pause(leader);
                self.trouble.pauses += 1;
                self.trouble.leader_pauses += 1;
            }
            _ => {
                cluster.pause(any);
                self.trouble.pauses += 1;
            }
        }
    }
}

impl Trouble {
    /// A storm in which nothing happened proves nothing. One strike takes about a second.
    fn assert_trouble(&self, length: Duration) {
        let least = length.as_secs() as usize / 4;
        assert!(self.kills >= least, "only {} kills", self.kills);
        assert!(self.kills + self.pauses >= 2 * least, "too little trouble");
    }
}

fn bring_back(cluster: &mut Cluster, i: usize) {
    if cluster.is_paused(i) {
        cluster.resume(i);
    } else {
        cluster.spawn(i);
    }
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

    /// Availability is asserted far below what is measured: the machine may be slow, not idle.
    fn assert_progress(&self, length: Duration) {
        let least = 20 * length.as_secs() as usize;
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
        let found = kv.map(|kv| support::client::Found {
            value: String::from_utf8_lossy(&kv.value).into_owned(),
            mod_revision: kv.mod_revision,
        });
        let action = Action::Read(support::client::Seen { revision: all.revision, found });
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

/// Nothing was compacted, so each acknowledged write is readable at its own revision, everywhere.
async fn assert_past(cluster: &Cluster, events: &[Event]) {
    let writes: Vec<&Event> =
        events.iter().filter(|event| matches!(event.action, Action::Wrote { .. })).collect();
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
