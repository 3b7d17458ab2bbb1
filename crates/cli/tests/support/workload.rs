//! Clients at work, and what must be true of everything they saw.
//!
//! Whatever a test does to the cluster meanwhile, afterwards this must hold:
//!
//! * the history is one that a linearizable store can show (`history.rs`);
//! * the counter, moved by compare-and-swap only, counts each acknowledged swap once;
//! * each acknowledged write is still readable at its own revision, from every member;
//! * all members hold the same keys with the same revisions;
//! * each watcher was told the total order of writes (`order.rs`);
//! * leases were kept, ended and handed on as promised (`leased.rs`);
//! * there was progress.

use crate::support::client::{Client, Failure, Found, Freshness, Seen, Snapshot, Swap};
use crate::support::cluster::Cluster;
use crate::support::history::{Action, Event, Violation, check};
use crate::support::leased::{Calm, Clock, LATE, Sight, check_leases, check_lock};
use crate::support::order::{
    Account, Change, Claim, FIRST, Fate, Heard, Order, check_account, check_order,
};
use crate::support::seed::Seed;
use crate::support::tenants::{FENCED, LOCK, Lived, TTL_MAX, Tenant, Trade, has_lease};
use crate::support::watchers::{Watched, Watcher};
use quorate_server::proto::etcdserverpb as pb;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Clients that work at the same time.
const CLIENTS: usize = 6;

/// Clients that live on leases, and clients that want the lock.
const KEEPERS: usize = 4;
const CONTENDERS: usize = 3;

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
    tenants: Vec<JoinHandle<Lived>>,
    watchers: Vec<JoinHandle<Watched>>,
    /// The revision that watchers must reach; 0 while there are writes.
    target: Arc<AtomicI64>,
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
            History::Compacted => {
                tokio::spawn(compact(ports.clone(), Arc::clone(&over), seed.fork()))
            }
        };
        let trades = [Trade::Keeper; KEEPERS].into_iter().chain([Trade::Contender; CONTENDERS]);
        let tenants = trades
            .enumerate()
            .map(|(number, trade)| {
                let tenant = Tenant::new(number, &ports, start, seed.fork());
                tokio::spawn(tenant.live(trade, Arc::clone(&over)))
            })
            .collect();
        let target = Arc::new(AtomicI64::new(0));
        let watcher = |seed| Watcher::new(ports.clone(), start, FIRST, seed);
        let mut watchers: Vec<Watcher> =
            (0..ports.len()).map(|at| watcher(seed.fork()).loyal(at)).collect();
        watchers.push(watcher(seed.fork()).of_prefix("hot/"));
        watchers.push(watcher(seed.fork()).of_prefix("l"));
        let watchers =
            watchers.into_iter().map(|w| tokio::spawn(w.watch(Arc::clone(&target)))).collect();
        Workload { start, over, workers, compactor, tenants, watchers, target }
    }

    /// Ends the work, waits until every member is back, and checks everything.
    ///
    /// Returns how many of the watchers' streams were broken.
    ///
    /// Panics: if a promise was broken, or if too little happened to say so.
    pub(crate) async fn finish(self, cluster: &mut Cluster) -> usize {
        let length = self.start.elapsed();
        self.over.store(true, Ordering::SeqCst);
        let mut events = Vec::new();
        for worker in self.workers {
            events.extend(worker.await.expect("a client"));
        }
        let compacted = self.compactor.await.expect("the compactor");
        let mut lived = Lived::default();
        for tenant in self.tenants {
            lived.append(tenant.await.expect("a tenant"));
        }
        cluster.wait_ready().await;
        let calm = wait_for_leases(cluster, self.start, &lived).await;
        let last = cluster.wait_agreement().await;
        read_everything(cluster, &mut events, self.start).await;
        self.target.store(last.revision, Ordering::SeqCst);
        let mut watched = Vec::new();
        for watcher in self.watchers {
            watched.push(watcher.await.expect("a watcher"));
        }
        let replays = replay(cluster, compacted + 1, last.revision).await;
        let tally = Tally::of(&events);
        let (keys, revision) = (last.kvs.len(), last.revision);
        eprintln!("{tally:?} {keys} keys at revision {revision}, compacted at {compacted}");
        assert_kept(check(&events));
        assert_counter(&events, &last);
        assert_past(cluster, &events, compacted).await;
        tally.assert_progress(length);
        let told = Told { events, lived, watched, replays, calm, compacted, last: revision };
        told.assert_kept();
        told.assert_progress()
    }
}

/// Everything that watchers and those who live on leases saw, and what it is held against.
struct Told {
    events: Vec<Event>,
    lived: Lived,
    watched: Vec<Watched>,
    /// What each member tells a new watcher of what is not compacted.
    replays: Vec<Account>,
    calm: Calm,
    compacted: i64,
    last: i64,
}

impl Told {
    fn assert_kept(&self) {
        let from = (self.compacted + 1).max(FIRST);
        let replayed: Vec<Change> = self.replays[0].heard.iter().flat_map(changes).collect();
        let mut order = Order::replayed(replayed, from, self.last);
        let accounts: Vec<Account> =
            self.watched.iter().map(|watched| watched.account.clone()).collect();
        order.learn(&accounts);
        let mut claims: Vec<Claim> = self.events.iter().filter_map(claim).collect();
        claims.extend(self.lived.claims.iter().cloned());
        let mut found = check_order(&order, &claims, has_lease);
        for account in accounts.iter().chain(&self.replays) {
            found.extend(check_account(&order, account, self.compacted));
        }
        let mut sights: Vec<Sight> = self.events.iter().filter_map(sight).collect();
        sights.extend(&self.lived.sights);
        sights.extend(self.watched.iter().flat_map(|watched| &watched.sights));
        let clock = Clock::of(&sights);
        found.extend(check_leases(&order, &clock, &self.lived.tenancies, &self.calm));
        found.extend(check_lock(&order, LOCK, &self.lived.tenures));
        assert_kept(found);
    }

    /// A storm in which no lease ended and nobody held the lock proves nothing. Returns how many
    /// streams were broken.
    fn assert_progress(&self) -> usize {
        let streams: usize = self.watched.iter().map(|watched| watched.streams).sum();
        let Lived { tenancies, tenures, .. } = &self.lived;
        let renewed: usize = tenancies.iter().map(|t| t.renewals.len().saturating_sub(1)).sum();
        let left = tenancies.iter().filter(|t| t.revoking.is_none()).count();
        let (all, held) = (tenancies.len(), tenures.len());
        let fenced: usize = tenures.iter().map(|tenure| tenure.fenced.len()).sum();
        let waited = (self.calm.listed - self.calm.since) / 1_000_000;
        eprintln!(
            "{} watchers had {streams} streams; {all} leases, {left} of them left to end, \
             renewed {renewed} times; lock held {held} times for {fenced} writes; all leases \
             ended within {waited} ms of calm",
            self.watched.len()
        );
        assert!(left > 0 && renewed > all && held > 0 && fenced > 0, "too little happened");
        streams - self.watched.len()
    }
}

fn changes(heard: &Heard) -> Vec<Change> {
    match heard {
        Heard::Changes(changes) => changes.clone(),
        Heard::Progress(_) | Heard::Compacted(_) => Vec::new(),
    }
}

fn claim(event: &Event) -> Option<Claim> {
    let (value, fate) = match &event.action {
        Action::Wrote { value, revision, .. } => (Some(value), Fate::Acknowledged(*revision)),
        Action::Refused { value } => (Some(value), Fate::Refused),
        Action::Unknown { value } => (Some(value), Fate::Unknown),
        Action::Deleted { revision } => (None, Fate::Acknowledged(*revision)),
        Action::DeleteUnknown => (None, Fate::Unknown),
        Action::Read(_) => return None,
    };
    Some(Claim { key: event.key.clone(), value: value.cloned(), fate })
}

fn sight(event: &Event) -> Option<Sight> {
    let revision = event.revision()?;
    Some(Sight { invoked: event.invoked, returned: event.returned, revision })
}

/// Waits until every lease has ended, or should have.
async fn wait_for_leases(cluster: &Cluster, start: Instant, lived: &Lived) -> Calm {
    let now = || start.elapsed().as_nanos() as u64;
    let since = now();
    let granted: BTreeSet<i64> = lived.tenancies.iter().map(|tenancy| tenancy.id).collect();
    let limit = since + TTL_MAX as u64 * 1_000_000_000 + LATE + 500_000_000;
    loop {
        let listed = now();
        let leases = cluster.client(0).lease.lease_leases(pb::LeaseLeasesRequest {}).await;
        let leases = leases.expect("a quiet cluster").into_inner().leases;
        let leases: BTreeSet<i64> = leases.into_iter().map(|lease| lease.id).collect();
        assert!(leases.is_subset(&granted), "of {leases:?} some are nobody's");
        if leases.is_empty() || listed > limit {
            return Calm { since, listed, leases };
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What each member tells a new watcher of these revisions.
async fn replay(cluster: &Cluster, from: i64, to: i64) -> Vec<Account> {
    let mut replays = Vec::new();
    for (i, member) in cluster.members.iter().enumerate() {
        let ports = vec![member.client_port];
        let watcher =
            Watcher::new(ports, Instant::now(), from.max(FIRST), Seed::new(i as u64)).loyal(0);
        let mut account = watcher.watch(Arc::new(AtomicI64::new(to))).await.account;
        account.name = format!("replay of {}", member.name);
        replays.push(account);
    }
    replays
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
        let members = ports.iter().map(|port| Client::in_a_hurry(*port)).collect();
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
        let mut client = Client::in_a_hurry(*seed.pick(&ports));
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
    keys.retain(|key| key != FENCED && !has_lease(key));
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

/// Breaches that a failure shows; there are thousands where one thing is wrong everywhere.
const BREACHES_SHOWN: usize = 40;

fn assert_kept(violations: Vec<Violation>) {
    for violation in violations.iter().take(BREACHES_SHOWN) {
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
