//! Watchers that go on through a storm, as clients should: after a broken stream they ask again
//! from the revision after the last one that they know all of.
//!
//! What they were told is an [`Account`], which `order.rs` judges. Each also asks for progress all
//! the time and believes it, so progress that runs ahead of changes would cost it changes.

use crate::support::client::Client;
use crate::support::cluster::SOON;
use crate::support::leased::Sight;
use crate::support::order::{Account, Change, Heard, Previous, Scope};
use crate::support::seed::Seed;
use bytes::Bytes;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use quorate_server::proto::mvccpb::event::EventType;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

/// A stream on which nothing is told for so long, not even progress, is given up.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// Time between two questions for progress.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A pause before a stream is opened again.
const BREATH: Duration = Duration::from_millis(30);

/// Which member a watcher goes to after a broken stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Loyalty {
    /// Always to this one, as soon as it is back.
    To(usize),
    /// To any.
    Wanders,
}

/// A watcher, and what it was told so far.
pub(crate) struct Watcher {
    ports: Vec<u16>,
    loyalty: Loyalty,
    seed: Seed,
    start: Instant,
    next: i64,
    streams: usize,
    account: Account,
    sights: Vec<Sight>,
}

/// What a watcher brings home.
pub(crate) struct Watched {
    /// What it was told.
    pub(crate) account: Account,
    /// When it was told of which revision.
    pub(crate) sights: Vec<Sight>,
    /// Streams that it opened.
    pub(crate) streams: usize,
}

/// How a stream ended.
enum End {
    Broken,
    Reached,
}

impl Watcher {
    /// A watcher of all that happens from the revision `from` on.
    pub(crate) fn new(ports: Vec<u16>, start: Instant, from: i64, seed: Seed) -> Watcher {
        let account = Account {
            name: "everything".to_owned(),
            scope: Scope::Everything,
            previous: Previous::Unwanted,
            from,
            heard: Vec::new(),
        };
        let (loyalty, sights) = (Loyalty::Wanders, Vec::new());
        Watcher { ports, loyalty, seed, start, next: from, streams: 0, account, sights }
    }

    /// The same that stays with one member.
    pub(crate) fn loyal(mut self, member: usize) -> Watcher {
        self.loyalty = Loyalty::To(member);
        self.account.name = format!("everything at {member}");
        self
    }

    /// The same for some keys only, with the pairs that are replaced.
    pub(crate) fn of_prefix(mut self, prefix: &str) -> Watcher {
        self.account.scope = Scope::Prefix(prefix.to_owned());
        self.account.previous = Previous::Wanted;
        self.account.name = format!("{prefix} with {}", self.account.name);
        self
    }

    /// Watches until it knows all up to `target`, once that is not 0, or cannot get there.
    pub(crate) async fn watch(mut self, target: Arc<AtomicI64>) -> Watched {
        let mut deadline = None;
        let mut at = match self.loyalty {
            Loyalty::To(member) => member,
            Loyalty::Wanders => self.seed.below(self.ports.len()),
        };
        loop {
            let client = Client::in_a_hurry(self.ports[at]);
            if let End::Reached = self.follow(client, &target).await {
                break;
            }
            if target.load(Ordering::SeqCst) != 0 {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + SOON);
                if Instant::now() > deadline {
                    break; // Its account will be judged as it is: with a gap at the end.
                }
            }
            if self.loyalty == Loyalty::Wanders {
                at = self.seed.below(self.ports.len());
            }
            tokio::time::sleep(BREATH).await;
        }
        Watched { account: self.account, sights: self.sights, streams: self.streams }
    }

    fn has_reached(&self, target: &AtomicI64) -> bool {
        let target = target.load(Ordering::SeqCst);
        target != 0 && self.next > target
    }

    /// One stream from its beginning to its end.
    async fn follow(&mut self, mut client: Client, target: &AtomicI64) -> End {
        let (requests, receiver) = mpsc::channel(64);
        let create = RequestUnion::CreateRequest(self.request());
        requests.try_send(pb::WatchRequest { request_union: Some(create) }).expect("room");
        let opening = client.watch.watch(ReceiverStream::new(receiver));
        let Ok(Ok(opened)) = tokio::time::timeout(SILENCE_MAX, opening).await else {
            return End::Broken;
        };
        let mut answers = opened.into_inner();
        self.streams += 1;
        let mut heard_at = Instant::now();
        let mut ask = tokio::time::interval(ASK_EVERY);
        while !self.has_reached(target) {
            let message = tokio::select! {
                message = answers.message() => message,
                _ = ask.tick() => {
                    let progress = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
                    // A full queue is a member that does not read: the silence will tell.
                    let _ = requests.try_send(pb::WatchRequest { request_union: Some(progress) });
                    if heard_at.elapsed() > SILENCE_MAX {
                        return End::Broken;
                    }
                    continue;
                }
            };
            let Ok(Some(message)) = message else { return End::Broken };
            heard_at = Instant::now();
            if message.canceled {
                self.cancelled(&message);
                return End::Broken;
            }
            if !message.created {
                self.told(message);
            }
        }
        End::Reached
    }

    fn request(&self) -> pb::WatchCreateRequest {
        let (key, range_end) = match &self.account.scope {
            Scope::Everything => (Bytes::from_static(b"\0"), Bytes::from_static(b"\0")),
            Scope::Prefix(prefix) => {
                let mut end = prefix.clone().into_bytes();
                *end.last_mut().expect("a prefix") += 1;
                (Bytes::from(prefix.clone()), end.into())
            }
        };
        pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: self.next,
            prev_kv: self.account.previous == Previous::Wanted,
            progress_notify: true,
            ..Default::default()
        }
    }

    fn cancelled(&mut self, message: &pb::WatchResponse) {
        let compacted = message.compact_revision;
        if compacted > 0 {
            self.account.heard.push(Heard::Compacted(compacted));
            self.next = self.next.max(compacted + 1);
        }
    }

    fn told(&mut self, message: pb::WatchResponse) {
        let at = message.header.as_ref().expect("a header").revision;
        let returned = self.start.elapsed().as_nanos() as u64;
        self.sights.push(Sight { invoked: 0, returned, revision: at });
        if message.events.is_empty() {
            self.account.heard.push(Heard::Progress(at));
            self.next = self.next.max(at + 1);
            return;
        }
        let changes: Vec<Change> = message.events.into_iter().map(change).collect();
        self.next = self.next.max(changes.last().expect("not empty").revision + 1);
        self.account.heard.push(Heard::Changes(changes));
    }
}

fn change(event: quorate_server::proto::mvccpb::Event) -> Change {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let deleted = event.r#type == i32::from(EventType::Delete);
    let kv = event.kv.expect("a pair");
    Change {
        revision: kv.mod_revision,
        key: text(&kv.key),
        value: (!deleted).then(|| text(&kv.value)),
        lease: kv.lease,
        prev: event.prev_kv.map(|prev| prev.mod_revision),
    }
}
