//! A process that stood still finds everything out anew before it serves.
//!
//! The leader is stopped (SIGSTOP) for as long as chance wills: shorter than an election takes, and
//! longer than leases live. Meanwhile others are written to, and questions wait in the open
//! connections of the stopped one, which believes itself to lead when it goes on. Then
//!
//! * no linearizable read is stale, whenever it was asked (`support/history.rs` judges),
//! * a stamped read is no older than its stamp says, counted from when the process went on,
//! * a lease that was kept alive at whoever led lives on, and one that was not ends, once,
//! * watchers at every member are told everything, once, in order.

mod support;

use quorate_server::api::freshness::{MAX_STALENESS, STALENESS};
use quorate_server::proto::etcdserverpb as pb;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, Failure, Freshness, HURRY};
use support::cluster::{Cluster, SOON, Settings};
use support::history::{Action, Event, check};
use support::report;
use support::seed::Seed;
use support::watching::{Seen, Watching, of_prefix};
use tokio::task::JoinHandle;
use tonic::Request;

/// How long the leader stands still, in turn: from, to. Unit: milliseconds. Members wait for at
/// least 200 ms before they elect another.
const LENGTHS: [(usize, usize); 7] =
    [(10, 60), (60, 200), (150, 400), (400, 900), (20, 150), (500, 1_500), (3_500, 4_200)];
/// How often.
const PAUSES: usize = 3 * LENGTHS.len();
/// A pause of this length outlives both kinds of leases, by the clock of who was stopped. Unit:
/// milliseconds.
const LONG: usize = 3_500;
/// Time of the leases that nobody renews. Unit: seconds.
const LEFT_TTL: i64 = 2;
/// Time of the lease that is kept alive, and how often.
const KEPT_TTL: i64 = 3;
const RENEW_EVERY: Duration = Duration::from_millis(200);
const KEPT: i64 = 7;
/// All keys of the test.
const PREFIX: &str = "pause/";
const KEY: &str = "pause/key";
const KEPT_KEY: &str = "pause/kept";
/// What stamped reads ask for.
const AT_MOST: [&str; 4] = ["0ms", "50ms", "1s", "600s"];

/// A stamped read.
struct Stamped {
    revision: i64,
    stale: Duration,
    /// What was acknowledged by then, less the stamp, must be seen. Unit: nanoseconds since the
    /// test began.
    from: u64,
}

/// Everything that clients saw.
#[derive(Default)]
struct Book {
    events: Vec<Event>,
    stamped: Vec<Stamped>,
    /// Linearizable reads that a stopped leader answered when it went on.
    answered: usize,
    deposed: usize,
}

/// The clock and the numbers of one test.
#[derive(Clone)]
struct Scene {
    start: Instant,
    values: Arc<AtomicUsize>,
    clients: Arc<AtomicUsize>,
}

impl Scene {
    fn new() -> Scene {
        Scene { start: Instant::now(), values: Arc::default(), clients: Arc::default() }
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    async fn write(&self, mut client: Client) -> Event {
        let value = self.values.fetch_add(1, Ordering::Relaxed).to_string();
        let invoked = self.now();
        let action = match client.put(KEY, value.clone()).await {
            Ok(revision) => Action::Wrote { value, revision, over: None },
            Err(Failure::Definite(_)) => Action::Refused { value },
            Err(Failure::Unknown(_)) => Action::Unknown { value },
        };
        self.event(invoked, action)
    }

    async fn read(&self, mut client: Client) -> Option<Event> {
        let invoked = self.now();
        let seen = client.get(KEY, Freshness::Linearizable).await.ok()?;
        Some(self.event(invoked, Action::Read(seen)))
    }

    fn event(&self, invoked: u64, action: Action) -> Event {
        let client = self.clients.fetch_add(1, Ordering::Relaxed);
        Event { client, invoked, returned: self.now(), key: KEY.to_owned(), action }
    }
}

/// Revision and stamp, if the member answers.
async fn stamped(mut client: Client, at_most: &'static str) -> Option<(i64, Duration)> {
    let range = pb::RangeRequest { key: KEY.into(), ..pb::RangeRequest::default() };
    let mut request = Request::new(range);
    request.metadata_mut().insert(MAX_STALENESS, at_most.parse().expect("a value"));
    let answer =
        tokio::time::timeout(client.patience, client.kv.range(request)).await.ok()?.ok()?;
    let stamp = answer.metadata().get(STALENESS).expect("a stamp").to_str().expect("text");
    let millis = stamp.strip_suffix("ms").expect("milliseconds").parse().expect("a number");
    let revision = answer.get_ref().header.as_ref().expect("a header").revision;
    Some((revision, Duration::from_millis(millis)))
}

/// Questions that wait in the connections of a stopped member.
struct Queued {
    reads: Vec<JoinHandle<Option<Event>>>,
    stamped: Vec<JoinHandle<Option<(i64, Duration)>>>,
}

impl Queued {
    fn ask(scene: &Scene, client: &Client) -> Queued {
        let read = |_| {
            let (scene, client) = (scene.clone(), client.clone());
            tokio::spawn(async move { scene.read(client).await })
        };
        let stamp = |at_most| tokio::spawn(stamped(client.clone(), at_most));
        Queued { reads: (0..3).map(read).collect(), stamped: AT_MOST.map(stamp).into() }
    }

    /// All answers are of a process that went on at `resumed`.
    async fn collect(self, resumed: u64, book: &mut Book) {
        for read in self.reads {
            let event = read.await.expect("a reader");
            book.answered += usize::from(event.is_some());
            book.events.extend(event);
        }
        for stamped in self.stamped {
            if let Some((revision, stale)) = stamped.await.expect("a reader") {
                book.stamped.push(Stamped { revision, stale, from: resumed });
            }
        }
    }
}

/// Writes through these members in turn until it is told to stop.
async fn write_on(scene: Scene, clients: Vec<Client>, stop: Arc<AtomicBool>) -> Vec<Event> {
    let mut events = Vec::new();
    for client in clients.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        events.push(scene.write(client.clone().with_patience(HURRY)).await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    events
}

/// Stops the leader for so many milliseconds while the others are written to.
async fn pause(cluster: &mut Cluster, scene: &Scene, millis: usize, book: &mut Book) {
    let leader = cluster.leader().await;
    let client = cluster.client(leader);
    book.events.push(scene.write(client.clone()).await); // The connection is open now.
    let others = (0..3).filter(|i| *i != leader).map(|i| cluster.client(i)).collect();
    cluster.pause(leader);
    let stop = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn(write_on(scene.clone(), others, Arc::clone(&stop)));
    let early = Queued::ask(scene, &client);
    tokio::time::sleep(Duration::from_millis(millis as u64)).await;
    let late = Queued::ask(scene, &client);
    tokio::time::sleep(Duration::from_millis(5)).await; // They are in its sockets.
    let resumed = scene.now();
    cluster.resume(leader);
    early.collect(resumed, book).await;
    late.collect(resumed, book).await;
    stop.store(true, Ordering::Relaxed);
    book.events.extend(writing.await.expect("a writer"));
    book.deposed += usize::from(cluster.leader().await != leader);
}

/// Asks until somebody answers.
async fn insist<T, F: Future<Output = Result<T, tonic::Status>>>(mut ask: impl FnMut() -> F) -> T {
    let since = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(status) => assert!(since.elapsed() < SOON, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A lease with one key.
async fn grant(client: &Client, id: i64, ttl: i64, key: &str) {
    insist(|| {
        let mut lease = client.lease.clone();
        async move {
            let granted = lease.lease_grant(pb::LeaseGrantRequest { ttl, id }).await;
            granted.map(|_| ()).or_else(|status| match status.message() {
                // An earlier try was heard after all.
                "etcdserver: lease already exists" => Ok(()),
                _ => Err(status),
            })
        }
    })
    .await;
    insist(|| {
        let mut kv = client.kv.clone();
        let put = pb::PutRequest { key: key.to_owned().into(), lease: id, ..Default::default() };
        async move { kv.put(put).await }
    })
    .await;
}

/// How the lease fared that is kept alive.
enum Kept {
    /// It was renewed so often, and never told to be gone.
    Alive { renewals: usize },
    /// On a machine this busy it was not renewed for so long, and is gone with reason.
    Neglected { silence: Duration },
}

/// Renews the lease at whoever answers.
///
/// Panics: if it is told that there is no such lease, and had renewed it in time.
async fn keep(clients: Vec<Client>, stop: Arc<AtomicBool>) -> Kept {
    let (mut last, mut renewals) = (Instant::now(), 0);
    for client in clients.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let sent = Instant::now();
        let mut lease = client.lease.clone();
        let once = tonic::codegen::tokio_stream::once(pb::LeaseKeepAliveRequest { id: KEPT });
        let asked = async move { lease.lease_keep_alive(once).await?.into_inner().message().await };
        if let Ok(Ok(Some(answer))) = tokio::time::timeout(HURRY / 2, asked).await {
            let silence = last.elapsed();
            if answer.ttl <= 0 {
                assert!(silence.as_secs() >= KEPT_TTL as u64, "gone {silence:?} after a renewal");
                return Kept::Neglected { silence };
            }
            (last, renewals) = (sent, renewals + 1);
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
    Kept::Alive { renewals }
}

/// Revision, key and value of each event.
fn told(seen: Vec<Seen>) -> Vec<(i64, String, Option<String>)> {
    seen.into_iter().map(|event| (event.revision, event.key, event.value)).collect()
}

/// Nobody was told more or less than another, nor twice, nor out of order; and each lease that was
/// left ended once, the one that was kept never.
fn judge_watchers(all: Vec<Vec<Seen>>, kept: &Kept) {
    let all: Vec<_> = all.into_iter().map(told).collect();
    let (replay, live) = all.split_last().expect("the replay is the last");
    for (i, live) in live.iter().enumerate() {
        let differs = (0..replay.len().max(live.len())).find(|at| live.get(*at) != replay.get(*at));
        let at = differs.map(|at| (live.get(at), replay.get(at)));
        assert_eq!(at, None, "what the watcher at member {i} was told, and what happened");
    }
    assert!(replay.is_sorted_by(|a, b| a.0 < b.0), "a revision twice, or out of order");
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, key, value) in replay {
        *ends.entry(key).or_default() += usize::from(value.is_none());
    }
    let left = ends.iter().filter(|(key, _)| key.contains("left/"));
    assert!(left.clone().count() >= PAUSES / LENGTHS.len(), "{ends:?}");
    assert!(left.clone().all(|(_, ends)| *ends == 1), "a lease ended twice, or never: {ends:?}");
    match kept {
        Kept::Alive { renewals } => {
            assert_eq!(ends.get(KEPT_KEY), Some(&0), "renewed {renewals} times");
        }
        Kept::Neglected { silence } => report(format_args!("not renewed for {silence:?}")),
    }
}

/// What was acknowledged before the process went on, less the stamp, is in what it answered.
fn judge_stamps(book: &Book) {
    for Stamped { revision, stale, from } in &book.stamped {
        // Stamps are whole milliseconds.
        let by = from.saturating_sub(stale.as_nanos() as u64 + 1_000_000);
        for event in &book.events {
            if let Action::Wrote { revision: written, .. } = event.action
                && event.returned < by
            {
                assert!(*revision >= written, "not older than {stale:?} is what a stamp says");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stood_still_finds_everything_out_anew() {
    let mut seed = Seed::of_this_run();
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let (scene, mut book) = (Scene::new(), Book::default());
    let mut watchers = Vec::new();
    for member in &cluster.members {
        let mut watching = Watching::open(member.client_port).await;
        watching.created(pb::WatchCreateRequest { start_revision: 1, ..of_prefix(PREFIX) }).await;
        watchers.push(watching);
    }
    let clients: Vec<Client> = (0..3).map(|i| cluster.client(i)).collect();
    grant(&clients[0], KEPT, KEPT_TTL, KEPT_KEY).await;
    let stop = Arc::new(AtomicBool::new(false));
    let keeping = tokio::spawn(keep(clients.clone(), Arc::clone(&stop)));
    let mut left = Vec::new();
    for number in 0..PAUSES {
        let (from, to) = LENGTHS[number % LENGTHS.len()];
        if from >= LONG {
            let id = 1_000 + number as i64;
            grant(&clients[number % 3], id, LEFT_TTL, &format!("{PREFIX}left/{id}")).await;
            left.push(id);
        }
        pause(&mut cluster, &scene, seed.between(from, to), &mut book).await;
    }
    for id in left {
        let ttl = || {
            let mut lease = clients[0].lease.clone();
            let ask = pb::LeaseTimeToLiveRequest { id, keys: false };
            async move { lease.lease_time_to_live(ask).await }
        };
        let since = Instant::now();
        while insist(ttl).await.into_inner().ttl >= 0 {
            assert!(since.elapsed() < SOON, "a lease that nobody renews lives on");
        }
    }
    stop.store(true, Ordering::Relaxed);
    let kept = keeping.await.expect("it was kept as promised");
    let last = insist(|| {
        let mut kv = clients[0].kv.clone();
        let put = pb::PutRequest { key: "pause/end".into(), ..Default::default() };
        async move { kv.put(put).await }
    });
    let last = last.await.into_inner().header.expect("a header").revision;
    book.events.extend(scene.read(clients[0].clone()).await);

    let violations = check(&book.events);
    assert!(violations.is_empty(), "{violations:#?}");
    judge_stamps(&book);
    let mut replay = Watching::open(cluster.members[0].client_port).await;
    replay.created(pb::WatchCreateRequest { start_revision: 1, ..of_prefix(PREFIX) }).await;
    watchers.push(replay);
    let mut all = Vec::new();
    for watching in &mut watchers {
        all.push(watching.events_until(last).await);
    }
    judge_watchers(all, &kept);
    let Book { answered, deposed, stamped, .. } = &book;
    let stamped = stamped.len();
    report(format_args!("{answered} reads and {stamped} stamped ones after {deposed} depositions"));
    assert!(*answered >= PAUSES && stamped >= PAUSES, "hardly anything was answered");
    assert!(*deposed >= PAUSES / 4, "the pauses are too short to mean anything");
}
