//! Fan-out: every write is told to many watchers.
//!
//! ```text
//!  writers --- put ---> cluster --- W events per put ---> S streams, W / S watchers on each
//!     ^                                                        |
//!     +------------- delivered to all W: next -----------------+
//! ```
//!
//! All watchers follow the whole key space and exist before the first write. What is measured is
//! events delivered per second, and the time from sending a write to receiving its event. In a
//! closed loop a write is done when all watchers have its event, so that at most as many writes as
//! there are writers wait to be told; at a rate, writes are sent whatever has been told.
//!
//! Judged for each watcher alone: revisions increase (so nothing comes twice or late), values are
//! the ones written, and of each writer the sequence has no gap. When the writers have ended,
//! every watcher must get everything that was acknowledged. A watch that the server cancels,
//! saying so, is begun again after the last event it had, and counted as an error.

use super::cluster::Cluster;
use super::cpu;
use super::pace::Pace;
use super::progress::Progress;
use super::record::{Recorder, Round};
use super::round::{FAILURE_PAUSE, Load, RoundError, Window, conclude, connect, lock, observe};
use super::space::Random;
use super::stamp::Stamp;
use super::verdict::Wrong;
use super::work::{Client, Failed, Link};
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use quorate_server::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use quorate_server::proto::mvccpb::Event;
use quorate_server::proto::mvccpb::event::EventType;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// How long a stream may be silent while it owes events.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// How long the creation of all watchers of a stream may take.
const CREATED_WITHIN: Duration = Duration::from_secs(30);

/// Time between two looks at what all streams share.
const GLANCE: Duration = Duration::from_millis(100);

/// What all threads of a round share.
#[derive(Debug)]
struct Board {
    watchers: usize,
    writers: u64,
    /// Writes that were begun; a write that failed is as good as delivered.
    begun: AtomicU64,
    /// Events received by all watchers.
    delivered: AtomicU64,
    /// Of those, within the window.
    counted: AtomicU64,
    progressed: Notify,
    /// Highest revision that was acknowledged.
    acknowledged: AtomicI64,
    writers_left: AtomicUsize,
    /// One per writer.
    slots: Vec<Slot>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Writes of this writer that were acknowledged.
    acknowledged: AtomicU64,
    /// Some write of it may happen at any time, so its sequence proves nothing.
    is_uncertain: AtomicBool,
}

impl Board {
    fn deliver(&self, events: u64) {
        let before = self.delivered.fetch_add(events, Ordering::AcqRel);
        let watchers = self.watchers as u64;
        if before / watchers != (before + events) / watchers {
            self.progressed.notify_waiters();
        }
    }

    /// Waits until all watchers have what was written before, but for one write per writer.
    async fn turn(&self, end: Instant) {
        let ticket = self.begun.fetch_add(1, Ordering::AcqRel);
        let is_my_turn = || {
            self.delivered.load(Ordering::Acquire) / self.watchers as u64 + self.writers > ticket
        };
        while !is_my_turn() && Instant::now() < end {
            let progress = self.progressed.notified();
            if is_my_turn() {
                return;
            }
            let _ = tokio::time::timeout(GLANCE, progress).await; // looks again either way
        }
    }

    fn is_written(&self) -> bool {
        self.writers_left.load(Ordering::Acquire) == 0
    }
}

/// One watcher, as far as it has got.
#[derive(Clone, Debug, Default)]
struct Watcher {
    /// Revision of the last event, or that at which it was created.
    reached: i64,
    /// Last sequence of each writer.
    sequences: Vec<u64>,
    /// Its id now; it gets another one when it is begun again.
    id: i64,
}

/// Runs a round.
pub(super) fn run(
    load: &Load,
    cluster: &Cluster,
    number: u64,
    progress: &mut Progress,
    (watchers, streams): (usize, usize),
) -> Result<Round, RoundError> {
    let threads = load.threads.min(streams);
    let board = Arc::new(Board {
        watchers,
        writers: load.clients as u64,
        begun: AtomicU64::new(0),
        delivered: AtomicU64::new(0),
        counted: AtomicU64::new(0),
        progressed: Notify::new(),
        acknowledged: AtomicI64::new(0),
        writers_left: AtomicUsize::new(load.clients),
        slots: (0..load.clients).map(|_| Slot::default()).collect(),
    });
    let (ready, readiness) = channel();
    let mut workers = Vec::new();
    for index in 0..threads {
        let (start, started) = channel();
        let share = Share {
            load: load.clone(),
            cluster: cluster.clone(),
            board: Arc::clone(&board),
            recorder: Arc::new(Mutex::new(Recorder::new())),
            seed: load.seed ^ number,
            streams,
            index,
            threads,
        };
        let ready = ready.clone();
        let thread = std::thread::Builder::new().name(format!("watchers-{index}"));
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
    observe(window.measure, window, &board.counted, cluster, progress);
    let before = (cluster.processes.used(), cpu::used_here());
    observe(window.end, window, &board.counted, cluster, progress);
    let after = (cluster.processes.used(), cpu::used_here());
    let mut record = Recorder::new();
    for (_, handle) in workers {
        record.add(&handle.join().expect("watchers do not panic"));
    }
    conclude(record, cluster, window, before, after)
}

/// What one thread does.
struct Share {
    load: Load,
    cluster: Cluster,
    board: Arc<Board>,
    recorder: Arc<Mutex<Recorder>>,
    seed: u64,
    streams: usize,
    index: usize,
    threads: usize,
}

impl Share {
    fn run(self, ready: &Sender<Result<(), RoundError>>, started: &Receiver<Window>) -> Recorder {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("the system gives a process its timer and its poller");
        let opened = runtime.block_on(self.open());
        let (links, streams) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let _ = ready.send(Err(error)); // the round has ended if nobody listens
                return Recorder::new();
            }
        };
        let _ = ready.send(Ok(()));
        // No window comes if another thread could not connect.
        let Ok(window) = started.recv() else { return Recorder::new() };
        runtime.block_on(self.measure(&links, streams, window));
        lock(&self.recorder).clone()
    }

    /// Connections, and streams with all their watchers.
    async fn open(&self) -> Result<(Vec<Link>, Vec<Stream>), RoundError> {
        let mine = (self.index..self.load.connections.max(self.threads)).step_by(self.threads);
        let links = connect(&self.cluster, mine).await?;
        let mut streams = Vec::new();
        for (turn, stream) in (self.index..self.streams).step_by(self.threads).enumerate() {
            let link = &links[turn % links.len()];
            let count = (stream..self.board.watchers).step_by(self.streams).count();
            let opening = Stream::open(link, &self.cluster, count, self.load.clients);
            let opened = tokio::time::timeout(CREATED_WITHIN, opening).await;
            let opened = opened.unwrap_or_else(|_| {
                Err(Failed::Status(Status::deadline_exceeded("watchers are not created")))
            });
            streams.push(opened.map_err(|failed| match failed {
                Failed::Wrong(wrong) => {
                    self.cluster.verdict.condemn(&link.endpoint, wrong);
                    RoundError::Condemned
                }
                Failed::Status(status) => RoundError::NothingDone {
                    reason: format!("a watch was refused: {}", status.message()),
                },
            })?);
        }
        Ok((links, streams))
    }

    async fn measure(&self, links: &[Link], streams: Vec<Stream>, window: Window) {
        let mut tasks = JoinSet::new();
        for number in (self.index..self.load.clients).step_by(self.threads) {
            let random = Random::new(self.seed, number as u64);
            let client = Client::new(&self.cluster, &self.load, links.to_vec(), number, random);
            let pace = Pace::new(self.load.rate, number, self.load.clients, window.begin);
            let board = Arc::clone(&self.board);
            let cluster = self.cluster.clone();
            let recorder = Arc::clone(&self.recorder);
            let is_paced = self.load.rate.is_some();
            tasks.spawn(async move {
                let writer = Writer { client, pace, number, is_paced, window, recorder };
                writer.write(&board, &cluster).await;
                board.writers_left.fetch_sub(1, Ordering::AcqRel);
            });
        }
        for stream in streams {
            let (board, cluster) = (Arc::clone(&self.board), self.cluster.clone());
            let recorder = Arc::clone(&self.recorder);
            tasks.spawn(async move {
                let endpoint = Arc::clone(&stream.endpoint);
                match stream.follow(&board, &cluster, &recorder, window).await {
                    Ok(()) => {}
                    Err(Failed::Wrong(wrong)) => cluster.verdict.condemn(&endpoint, wrong),
                    Err(Failed::Status(status)) => lock(&recorder).failed(&status),
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }
}

/// One writer.
struct Writer {
    client: Client,
    pace: Pace,
    number: usize,
    is_paced: bool,
    window: Window,
    recorder: Arc<Mutex<Recorder>>,
}

impl Writer {
    async fn write(mut self, board: &Board, cluster: &Cluster) {
        let end = self.window.end;
        let slot = &board.slots[self.number];
        while cluster.verdict.finding().is_none() {
            if !self.is_paced {
                board.turn(end).await;
            }
            let Some(start) = self.pace.wait(end).await else { return };
            match self.client.put_for(self.number as u64, start).await {
                Ok(revision) => {
                    slot.acknowledged.fetch_add(1, Ordering::AcqRel);
                    board.acknowledged.fetch_max(revision, Ordering::AcqRel);
                }
                Err(Failed::Wrong(wrong)) => {
                    cluster.verdict.condemn(self.client.endpoint(), wrong);
                }
                Err(Failed::Status(status)) => {
                    // Perhaps it happens yet, with a sequence that nobody waits for.
                    slot.is_uncertain.store(true, Ordering::Release);
                    board.deliver(board.watchers as u64);
                    lock(&self.recorder).failed(&status);
                    tokio::time::sleep(FAILURE_PAUSE).await;
                }
            }
        }
    }
}

/// One stream and its watchers.
struct Stream {
    endpoint: Arc<str>,
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
    watchers: Vec<Watcher>,
    key: bytes::Bytes,
    range_end: bytes::Bytes,
}

impl Stream {
    /// Opens it and creates `count` watchers.
    async fn open(
        link: &Link,
        cluster: &Cluster,
        count: usize,
        writers: usize,
    ) -> Result<Stream, Failed> {
        let space = &cluster.ledger.space;
        let (key, range_end) = (space.key(0), space.key(space.keys));
        let (requests, stream) = mpsc::channel(count.max(1));
        let create = |id: i64| create(&key, &range_end, id, 0);
        for id in 1..=count as i64 {
            requests.try_send(create(id)).expect("room for all of them");
        }
        let mut client =
            WatchClient::new(link.channel.clone()).max_decoding_message_size(usize::MAX);
        let answers = client.watch(ReceiverStream::new(stream)).await?.into_inner();
        let watcher = |id| Watcher { reached: 0, sequences: vec![0; writers], id };
        let watchers = (1..=count as i64).map(watcher).collect();
        let endpoint = Arc::clone(&link.endpoint);
        let mut stream = Stream { endpoint, requests, answers, watchers, key, range_end };
        let mut created = 0;
        while created < count {
            let answer = stream.answers.message().await?;
            let answer = answer.ok_or_else(|| Status::unavailable("the stream has ended"))?;
            if answer.canceled {
                return Err(Status::cancelled(answer.cancel_reason).into());
            }
            let watcher = stream.watcher(&answer)?;
            if answer.created && watcher.reached == 0 {
                watcher.reached = answer.header.map_or(0, |header| header.revision).max(1);
                created += 1;
                continue;
            }
            return Err(Failed::Wrong(Wrong {
                promise: "a watch is created once, and told nothing before",
                expected: "an answer to each request to create".to_owned(),
                seen: format!("{} events for watch {}", answer.events.len(), answer.watch_id),
            }));
        }
        Ok(stream)
    }

    fn watcher(&mut self, answer: &WatchResponse) -> Result<&mut Watcher, Wrong> {
        let count = self.watchers.len() as i64;
        let index = usize::try_from((answer.watch_id - 1).rem_euclid(count)).expect("below count");
        match self.watchers.get_mut(index) {
            Some(watcher) if watcher.id == answer.watch_id => Ok(watcher),
            _ => Err(Wrong {
                promise: "an answer on a stream is about one of its watches",
                expected: format!("the id of one of {count} watches"),
                seen: format!("id {}", answer.watch_id),
            }),
        }
    }

    /// Receives and judges until everything that was acknowledged has come.
    async fn follow(
        mut self,
        board: &Board,
        cluster: &Cluster,
        recorder: &Mutex<Recorder>,
        window: Window,
    ) -> Result<(), Failed> {
        let mut silent_since = Instant::now();
        loop {
            if cluster.verdict.finding().is_some() {
                return Ok(());
            }
            let is_written = board.is_written();
            if is_written && self.has_all(board) {
                return self.settle(board);
            }
            let Ok(answer) = tokio::time::timeout(GLANCE, self.answers.message()).await else {
                if !is_written {
                    silent_since = Instant::now();
                } else if silent_since.elapsed() > SILENCE_MAX {
                    return self.settle(board);
                }
                continue;
            };
            silent_since = Instant::now();
            let Some(answer) = answer? else {
                return Err(Status::unavailable("the stream of watches has ended").into());
            };
            if answer.canceled {
                let status = Status::cancelled(answer.cancel_reason.clone());
                lock(recorder).failed(&status);
                self.resume(&answer).await?;
                continue;
            }
            let events = self.judge(&answer, board, cluster)?;
            let now = Instant::now();
            if now >= window.measure && now <= window.end {
                let mut recorder = lock(recorder);
                for sent_at in events {
                    recorder.done(cluster.origin + Duration::from_nanos(sent_at), now);
                }
                board.counted.fetch_add(answer.events.len() as u64, Ordering::Relaxed);
            }
            board.deliver(answer.events.len() as u64);
        }
    }

    /// Judges the events of one answer; tells when each was sent.
    fn judge(
        &mut self,
        answer: &WatchResponse,
        board: &Board,
        cluster: &Cluster,
    ) -> Result<Vec<u64>, Wrong> {
        let watcher = self.watcher(answer)?;
        let mut sent = Vec::with_capacity(answer.events.len());
        for event in &answer.events {
            let stamp = read(event, cluster)?;
            let revision = event.kv.as_ref().map_or(0, |pair| pair.mod_revision);
            if revision <= watcher.reached {
                return Err(Wrong {
                    promise: "events come once and in the order of their revisions",
                    expected: format!("an event after revision {}", watcher.reached),
                    seen: format!("one of revision {revision}"),
                });
            }
            watcher.reached = revision;
            sent.push(stamp.sent_at);
            let slot = usize::try_from(stamp.counter).ok();
            let Some((slot, last)) = slot
                .and_then(|at| board.slots.get(at).zip(watcher.sequences.get_mut(at)))
                .filter(|_| stamp.run == cluster.ledger.run)
            else {
                return Err(Wrong {
                    promise: "events are about what was written",
                    expected: "a value of this run; does another program write there?".to_owned(),
                    seen: format!("{stamp:?}"),
                });
            };
            if stamp.sequence != *last + 1 && !slot.is_uncertain.load(Ordering::Acquire) {
                return Err(Wrong {
                    promise: "no event is left out",
                    expected: format!("write {} of writer {}", *last + 1, stamp.counter),
                    seen: format!("write {} at revision {revision}", stamp.sequence),
                });
            }
            *last = stamp.sequence;
        }
        Ok(sent)
    }

    /// Begins a watch again that the server has cancelled.
    async fn resume(&mut self, answer: &WatchResponse) -> Result<(), Failed> {
        if answer.compact_revision != 0 {
            return Err(Status::out_of_range("the watch fell behind a compaction").into());
        }
        let (key, range_end) = (self.key.clone(), self.range_end.clone());
        let count = self.watchers.len() as i64;
        let watcher = self.watcher(answer)?;
        watcher.id += count;
        let request = create(&key, &range_end, watcher.id, watcher.reached + 1);
        let sent = self.requests.send(request).await;
        sent.map_err(|_| Status::unavailable("the stream of watches has ended").into())
    }

    fn has_all(&self, board: &Board) -> bool {
        let last = board.acknowledged.load(Ordering::Acquire);
        self.watchers.iter().all(|watcher| watcher.reached >= last)
    }

    /// Everything that was acknowledged has been told to everybody.
    fn settle(&self, board: &Board) -> Result<(), Failed> {
        for watcher in &self.watchers {
            for (number, (slot, got)) in board.slots.iter().zip(&watcher.sequences).enumerate() {
                let wanted = slot.acknowledged.load(Ordering::Acquire);
                if *got < wanted && !slot.is_uncertain.load(Ordering::Acquire) {
                    return Err(Failed::Wrong(Wrong {
                        promise: "every acknowledged write is told to every watcher",
                        expected: format!("{wanted} writes of writer {number}"),
                        seen: format!("{got}, then nothing for {SILENCE_MAX:?}"),
                    }));
                }
            }
        }
        Ok(())
    }
}

/// What an event says, if it is one of a put and intact.
fn read(event: &Event, cluster: &Cluster) -> Result<Stamp, Wrong> {
    let ledger = &cluster.ledger;
    let number = event.kv.as_ref().and_then(|pair| ledger.space.number(&pair.key));
    match (&event.kv, number) {
        (Some(pair), Some(number)) if event.r#type() == EventType::Put => {
            ledger.seen(number, pair, pair.mod_revision)
        }
        _ => Err(Wrong {
            promise: "events are about what was written",
            expected: "a put of a key that is watched".to_owned(),
            seen: format!("{:?} of key {:?}", event.r#type(), event.kv.as_ref().map(|kv| &kv.key)),
        }),
    }
}

fn create(key: &bytes::Bytes, range_end: &bytes::Bytes, id: i64, start: i64) -> WatchRequest {
    let create = WatchCreateRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        start_revision: start,
        watch_id: id,
        ..WatchCreateRequest::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}
