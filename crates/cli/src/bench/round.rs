//! One round: some clients, for some time, against one cluster.
//!
//! The clients share few threads, each with a runtime, connections and figures of its own: no
//! client is ever woken by another thread, and nothing that is counted is shared but the books.
//! All connections are there before the first question is asked, the warm-up is not counted, and
//! what the processes used is read when counting begins and when it ends.

use super::cluster::Cluster;
use super::cpu::{self, CpuTime};
use super::pace::Pace;
use super::progress::Progress;
use super::record::{Recorder, Round};
use super::space::Random;
use super::watch;
use super::work::{Client, Done, Failed, Link, Work};
use crate::retry;
use bytes::Bytes;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::Status;

/// Pause of a client after a failure, so that a cluster that is down is not hammered.
pub(super) const FAILURE_PAUSE: Duration = Duration::from_millis(20);

/// How long operations may be overdue, in an open loop, before they are given up.
const OVERDUE_MAX: Duration = Duration::from_secs(5);

/// How long the last answers are waited for.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Time between two looks at the progress.
const GLANCE: Duration = Duration::from_millis(100);

/// What is done to a cluster in each round.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// What each client does.
    pub(super) work: Work,
    /// How many clients; at least one.
    pub(super) clients: usize,
    /// How many connections, spread over the endpoints; at least one.
    pub(super) connections: usize,
    /// How many threads serve them; at least one.
    pub(super) threads: usize,
    /// Operations per second of an open loop; none is a closed loop.
    pub(super) rate: Option<f64>,
    /// Time before counting begins.
    pub(super) warmup: Duration,
    /// Time that counts.
    pub(super) length: Duration,
    /// What follows the stamp in each value.
    pub(super) filling: Bytes,
    /// Where the random sequences begin.
    pub(super) seed: u64,
}

/// A round that could not be run.
#[derive(Debug)]
pub(super) enum RoundError {
    /// An endpoint cannot be reached.
    Unreachable { endpoint: String, reason: String },
    /// The server answers wrongly; see the cluster's verdict.
    Condemned,
    /// Operations were due faster than they were done.
    TooFast { not_begun: u64 },
    /// Not one operation was done.
    NothingDone { reason: String },
}

impl fmt::Display for RoundError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RoundError::Unreachable { endpoint, reason } => write!(
                f,
                "cannot reach {endpoint}: {reason}; start a cluster with 'quorate up', or name one \
                 with --endpoints"
            ),
            RoundError::Condemned => f.write_str("the server answers wrongly"),
            RoundError::TooFast { not_begun } => write!(
                f,
                "the cluster could not keep up: {not_begun} operations were never begun, and none \
                 of those that count; give a lower --rate"
            ),
            RoundError::NothingDone { reason } => write!(
                f,
                "not one operation was done: {reason}; 'quorate status' shows how the members are"
            ),
        }
    }
}

/// The times of a round, the same for all threads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Questions are asked from here on.
    pub(super) begin: Instant,
    /// And counted from here on.
    pub(super) measure: Instant,
    /// Until here.
    pub(super) end: Instant,
}

impl Window {
    /// Beginning now.
    pub(super) fn new(load: &Load) -> Window {
        let begin = Instant::now();
        let measure = begin + load.warmup;
        Window { begin, measure, end: measure + load.length }
    }
}

/// Runs a round, at whose end no question is under way any more.
pub(super) fn run(
    load: &Load,
    cluster: &Cluster,
    number: u64,
    progress: &mut Progress,
) -> Result<Round, RoundError> {
    if let Work::Watch { watchers, streams } = load.work {
        return watch::run(load, cluster, number, progress, (watchers, streams));
    }
    let threads = load.threads.min(load.clients).min(load.connections);
    let counted = Arc::new(AtomicU64::new(0));
    let (ready, readiness) = channel();
    let mut workers = Vec::new();
    for index in 0..threads {
        let (start, started) = channel();
        let share = Share {
            load: load.clone(),
            cluster: cluster.clone(),
            seed: load.seed ^ number,
            index,
            threads,
            counted: Arc::clone(&counted),
        };
        let ready = ready.clone();
        let thread = std::thread::Builder::new().name(format!("clients-{index}"));
        let handle = thread.spawn(move || share.run(&ready, &started));
        workers.push((start, handle.expect("a process that starts can start a thread")));
    }
    for _ in 0..threads {
        readiness.recv().expect("each thread reports once")?;
    }
    let window = Window::new(load);
    for (start, _) in &workers {
        start.send(window).expect("a thread that is ready waits for this");
    }
    observe(window.measure, window, &counted, cluster, progress);
    let before = (cluster.processes.used(), cpu::used_here());
    observe(window.end, window, &counted, cluster, progress);
    let mut after = (cluster.processes.used(), cpu::used_here());
    let mut record = Recorder::new();
    for (_, handle) in workers {
        record.add(&handle.join().expect("clients do not panic"));
    }
    if load.rate.is_some() {
        // Operations of an open loop count even if they end late, and so does what they cost.
        after = (cluster.processes.used(), cpu::used_here());
    }
    conclude(record, cluster, window, before, after)
}

/// What members and clients had used at some moment.
type Used = (Option<CpuTime>, CpuTime);

/// The figures of a round, if there are any.
pub(super) fn conclude(
    record: Recorder,
    cluster: &Cluster,
    window: Window,
    before: Used,
    after: Used,
) -> Result<Round, RoundError> {
    if cluster.verdict.finding().is_some() {
        return Err(RoundError::Condemned);
    }
    if record.done == 0 && record.not_begun > 0 {
        return Err(RoundError::TooFast { not_begun: record.not_begun });
    }
    if record.done == 0 {
        let failure = record.failures.iter().next();
        let reason = failure.map_or("no answer in time".to_owned(), |(code, failures)| {
            format!("{code}: {}", failures.example)
        });
        return Err(RoundError::NothingDone { reason });
    }
    let until = record.until.max(Some(window.end)).expect("an end");
    let server_cpu = after.0.zip(before.0).map(|(after, before)| after.since(before));
    Ok(Round {
        took: until - window.measure,
        record,
        server_cpu,
        client_cpu: after.1.since(before.1),
    })
}

/// Shows the progress until then, or until something is found wrong.
pub(super) fn observe(
    until: Instant,
    window: Window,
    counted: &AtomicU64,
    cluster: &Cluster,
    progress: &mut Progress,
) {
    loop {
        let now = Instant::now();
        if now >= until || cluster.verdict.finding().is_some() {
            return;
        }
        std::thread::sleep(GLANCE.min(until - now));
        let measured = Instant::now().saturating_duration_since(window.measure);
        progress.tick(measured, window.end - window.measure, counted.load(Ordering::Relaxed));
    }
}

/// What one thread does.
struct Share {
    load: Load,
    cluster: Cluster,
    seed: u64,
    index: usize,
    threads: usize,
    counted: Arc<AtomicU64>,
}

impl Share {
    fn run(self, ready: &Sender<Result<(), RoundError>>, started: &Receiver<Window>) -> Recorder {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system gives a process its timer and its poller");
        let connections = (self.index..self.load.connections).step_by(self.threads);
        let links = match runtime.block_on(connect(&self.cluster, connections)) {
            Ok(links) => links,
            Err(error) => {
                let _ = ready.send(Err(error)); // the round has ended if nobody listens
                return Recorder::new();
            }
        };
        let _ = ready.send(Ok(()));
        // No window comes if another thread could not connect.
        let Ok(window) = started.recv() else { return Recorder::new() };
        runtime.block_on(self.clients(&links, window))
    }

    async fn clients(&self, links: &[Link], window: Window) -> Recorder {
        let recorder = Arc::new(Mutex::new(Recorder::new()));
        let mut clients = JoinSet::new();
        for number in (self.index..self.load.clients).step_by(self.threads) {
            let random = Random::new(self.seed, number as u64);
            let client = Client::new(&self.cluster, &self.load, links.to_vec(), number, random);
            clients.spawn(drive(Driven {
                client,
                pace: Pace::new(self.load.rate, number, self.load.clients, window.begin),
                work: self.load.work,
                window,
                is_open: self.load.rate.is_some(),
                cluster: self.cluster.clone(),
                recorder: Arc::clone(&recorder),
                counted: Arc::clone(&self.counted),
            }));
        }
        let last = window.end + OVERDUE_MAX + LAST_ANSWER_WITHIN;
        let all = async { while clients.join_next().await.is_some() {} };
        if tokio::time::timeout_at(last.into(), all).await.is_err() {
            let status = Status::deadline_exceeded("no answer when the round ended");
            (0..clients.len()).for_each(|_| lock(&recorder).failed(&status));
            clients.shutdown().await;
        }
        lock(&recorder).clone()
    }
}

/// Opens connections by their numbers, spread over the endpoints.
pub(super) async fn connect(
    cluster: &Cluster,
    connections: impl Iterator<Item = usize>,
) -> Result<Vec<Link>, RoundError> {
    let mut links = Vec::new();
    for connection in connections {
        let endpoint = &cluster.endpoints[connection % cluster.endpoints.len()];
        let channel = cluster.connect(endpoint).await.map_err(|reason| {
            let endpoint = endpoint.authority();
            RoundError::Unreachable { endpoint, reason }
        })?;
        links.push(Link::new(endpoint.authority().into(), channel));
    }
    Ok(links)
}

/// A client and what it needs.
struct Driven {
    client: Client,
    pace: Pace,
    work: Work,
    window: Window,
    is_open: bool,
    cluster: Cluster,
    recorder: Arc<Mutex<Recorder>>,
    counted: Arc<AtomicU64>,
}

async fn drive(mut driven: Driven) {
    let Window { measure, end, .. } = driven.window;
    let verdict = Arc::clone(&driven.cluster.verdict);
    while verdict.finding().is_none() {
        if driven.is_open && Instant::now() > end + OVERDUE_MAX {
            lock(&driven.recorder).not_begun += driven.pace.missed(end);
            return;
        }
        let Some(start) = driven.pace.wait(end).await else { return };
        let asked = Instant::now();
        let outcome = driven.client.once(driven.work).await;
        let now = Instant::now();
        // A closed loop counts what ends in the window, an open loop what should begin in it.
        let counts = if driven.is_open { start >= measure } else { now >= measure && now <= end };
        match outcome {
            Ok(done) if counts => {
                let mut recorder = lock(&driven.recorder);
                recorder.done(start, now);
                recorder.served(now - asked);
                recorder.conflicts += u64::from(done == Done::Conflict);
                driven.counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => {}
            Err(Failed::Wrong(wrong)) => verdict.condemn(driven.client.endpoint(), wrong),
            Err(Failed::Status(status)) => {
                if counts {
                    lock(&driven.recorder).failed(&status);
                }
                let wanted = retry::pushback(&status).unwrap_or_default();
                tokio::time::sleep(wanted.max(FAILURE_PAUSE)).await;
            }
        }
    }
}

/// Only the clients of one thread share it, so that nobody ever waits.
pub(super) fn lock(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}
