//! `quorate import --follow`: keeps up with a running etcd, until the switch.
//!
//! **Problem.** Between a snapshot and the moment at which the clients are pointed elsewhere the
//! old cluster goes on, and to stop it for so long is what nobody wants.
//!
//! **Idea.** All pairs are copied as they are at one pinned revision, and from the next one on
//! every change is written in the order in which it happened. What it has done is kept in
//! `--state`, so that a follower that was stopped goes on where it was.
//!
//! ```text
//!   source        ...41 42 | 43 44 45 46 ...
//!   destination     pages  |  43 44 45        state: 45
//!                 at 42      by watch
//! ```
//!
//! A lease is granted at the destination with its id and its time when the first key needs it, is
//! kept alive while the source has it, and revoked when it has it no longer. Who switches its
//! clients does so within the time of its shortest lease.
//!
//! **Guarantees.** Changes arrive in their order, those of one revision at once if a transaction of
//! the destination takes them ([`OPS_MAX`]). A change may be written twice, which leaves the same
//! pair with a higher version. At the end all pairs are compared, key by key: that is the proof.
//! Revisions, versions and users are not carried over: a file does that (`quorate import FILE`).

use super::feed::{Feed, FeedError};
use super::source::MESSAGE_BYTES_MAX;
use super::{BackupError, Done, Source, hex, table};
use crate::client::{self, Channel};
use crate::output;
use quorate_server::archive::{KeyValue, Revision};
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::request_op::Request as OpRequest;
use quorate_server::proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tonic::codegen::tokio_stream;
use tonic::{Code, Status};

/// Pairs that are asked for at once.
const PAGE: i64 = 500;
/// Changes in one transaction; etcd's limit is 128.
const OPS_MAX: usize = 100;
/// Bytes in one transaction, beyond its first change.
const TXN_BYTES_MAX: usize = 512 << 10;
/// How often the source is asked for its revision,
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// how often the state is written down,
const STATE_EVERY: Duration = Duration::from_secs(1);
/// and how often it is said.
const SAY_EVERY: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(100);
/// Between two attempts to reach the source or the destination.
const PAUSE: Duration = Duration::from_millis(500);
/// After so long without either it is given up.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is to be followed, and to where.
pub(super) struct Follow<'a> {
    pub(super) from: Source<'a>,
    pub(super) to: Source<'a>,
    /// Where is written how far it is.
    pub(super) state: Option<PathBuf>,
    /// End when all is there.
    pub(super) until_caught_up: bool,
    /// Keys may be there already.
    pub(super) merge: bool,
    pub(super) json: bool,
}

/// A lease of the source that is kept alive at the destination.
struct Held {
    ttl: u64,
    renewed: Instant,
}

struct Follower<'a> {
    plan: &'a Follow<'a>,
    state: PathBuf,
    clusters: (u64, u64),
    /// All changes up to here are written.
    at: u64,
    /// The revision of the source, as far as is known.
    seen: u64,
    leases: BTreeMap<i64, Held>,
    written: u64,
    copied: u64,
}

/// Why it cannot go on, just now or at all.
enum Broken {
    Source(FeedError),
    Destination(Status),
    Error(BackupError),
}

impl From<BackupError> for Broken {
    fn from(error: BackupError) -> Broken {
        match error {
            BackupError::Unreachable { .. } => Broken::Source(error.into()),
            other => Broken::Error(other),
        }
    }
}

impl Follow<'_> {
    pub(super) async fn run(&self) -> Result<Done, BackupError> {
        let (from, to) = (self.from.connect().await?, self.to.connect().await?);
        let (source, destination) =
            (cluster(&from, &self.from).await?, cluster(&to, &self.to).await?);
        if source == destination {
            return Err(BackupError::Usage(format!(
                "both are cluster {source:x}: --follow names the etcd to copy from, --endpoints \
                 where to"
            )));
        }
        let named = || PathBuf::from(format!("quorate-import-{source:x}.json"));
        let mut follower = Follower {
            plan: self,
            state: self.state.clone().unwrap_or_else(named),
            clusters: (source, destination),
            at: 0,
            seen: 0,
            leases: BTreeMap::new(),
            written: 0,
            copied: 0,
        };
        follower.at = follower.read_state()?;
        if follower.at == 0 {
            follower.copy(&from, &to).await?;
        } else {
            follower.say(format_args!("going on after revision {}", follower.at));
            follower.hold_again(&from, &to).await?;
        }
        follower.keep_up().await?;
        follower.write_state()?;
        if !self.until_caught_up {
            return Ok(follower.done());
        }
        follower.compare().await
    }
}

impl Follower<'_> {
    fn say(&self, line: std::fmt::Arguments<'_>) {
        if !self.plan.json {
            output::line(line);
        }
    }

    /// The revision up to which an earlier follower got; 0 if there was none.
    fn read_state(&self) -> Result<u64, BackupError> {
        let text = match std::fs::read_to_string(&self.state) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(self.at_state(error)),
        };
        let state: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = |id: u64| json!(format!("{id:x}"));
        let is_ours =
            state["source"] == id(self.clusters.0) && state["destination"] == id(self.clusters.1);
        match state["revision"].as_u64().filter(|_| is_ours) {
            Some(revision) => Ok(revision),
            None => Err(BackupError::Usage(format!(
                "{} is about other clusters, or damaged: remove it to begin anew, or name another \
                 with --state",
                self.state.display()
            ))),
        }
    }

    fn write_state(&self) -> Result<(), BackupError> {
        let state = json!({
            "source": format!("{:x}", self.clusters.0),
            "destination": format!("{:x}", self.clusters.1),
            "revision": self.at,
        });
        let mut part = self.state.clone().into_os_string();
        part.push(".part");
        std::fs::write(&part, format!("{state}\n"))
            .and_then(|()| std::fs::rename(&part, &self.state))
            .map_err(|error| self.at_state(error))
    }

    fn at_state(&self, error: std::io::Error) -> BackupError {
        BackupError::File { file: self.state.clone(), error }
    }

    /// Copies all pairs as they are now.
    async fn copy(&mut self, from: &Channel, to: &Channel) -> Result<(), BackupError> {
        let there = count(to, &self.plan.to).await?;
        if there.1 > 0 && !self.plan.merge {
            return Err(BackupError::Usage(format!(
                "the destination has {} keys already: empty it, or say --merge",
                there.1
            )));
        }
        let (revision, keys) = count(from, &self.plan.from).await?;
        self.say(format_args!("copying {keys} keys as of revision {revision}"));
        let mut pages = Pages::new(from.clone(), &self.plan.from, revision);
        while let Some(page) = pages.next().await? {
            self.copied += page.len() as u64;
            self.apply(page, from, to).await.map_err(Broken::ended)?;
        }
        (self.at, self.seen) = (revision, revision);
        self.write_state()
    }

    /// Nobody has kept the leases of the destination alive since the last follower was stopped:
    /// they are granted anew, and what hung on them is written again.
    async fn hold_again(&mut self, from: &Channel, to: &Channel) -> Result<(), BackupError> {
        let mut pages = Pages::new(from.clone(), &self.plan.from, self.at);
        while let Some(mut page) = pages.next().await? {
            page.retain(|kv| kv.lease != 0);
            self.copied += page.len() as u64;
            self.apply(page, from, to).await.map_err(Broken::ended)?;
        }
        Ok(())
    }

    /// Follows until it is stopped, or has caught up.
    async fn keep_up(&mut self) -> Result<(), BackupError> {
        let mut silent_since = Instant::now();
        loop {
            let before = self.at;
            let broken = tokio::select! {
                ended = self.session() => match ended {
                    Ok(()) => return Ok(()),
                    Err(broken) => broken,
                },
                _ = tokio::signal::ctrl_c() => return Ok(()),
            };
            if self.at > before {
                silent_since = Instant::now();
            }
            let hopeless = match &broken {
                Broken::Source(FeedError::Lost(_)) => false,
                Broken::Destination(status) => is_hopeless(status),
                Broken::Source(_) | Broken::Error(_) => true,
            };
            if hopeless || silent_since.elapsed() > PATIENCE {
                self.write_state()?;
                return Err(broken.ended());
            }
            let told = broken.ended();
            output::complain(format_args!("{told}; going on after revision {}", self.at));
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn session(&mut self) -> Result<(), Broken> {
        let (from, to) = (self.plan.from.connect().await?, self.plan.to.connect().await?);
        let target = count(&from, &self.plan.from).await?.0;
        self.seen = self.seen.max(target);
        let opened = Feed::open(from.clone(), &self.plan.from, self.at + 1).await;
        let mut feed = opened.map_err(Broken::Source)?;
        let (mut asked, mut noted, mut said) = (Instant::now(), Instant::now(), Instant::now());
        loop {
            if self.plan.until_caught_up && self.at >= target {
                return Ok(());
            }
            tokio::select! {
                news = feed.next() => {
                    let news = news.map_err(Broken::Source)?;
                    self.seen = self.seen.max(news.revision);
                    if let Some(last) = news.changes.last().map(|kv| kv.mod_revision.0) {
                        self.apply(news.changes, &from, &to).await?;
                        self.at = last;
                    }
                }
                () = tokio::time::sleep(TICK) => {}
            }
            self.renew(&from, &to).await?;
            if asked.elapsed() >= PROGRESS_EVERY {
                asked = Instant::now();
                feed.ask_progress();
            }
            if noted.elapsed() >= STATE_EVERY {
                noted = Instant::now();
                self.write_state()?;
            }
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                self.done().print(self.plan.json);
            }
        }
    }

    /// Writes changes in their order.
    async fn apply(
        &mut self,
        changes: Vec<KeyValue>,
        from: &Channel,
        to: &Channel,
    ) -> Result<(), Broken> {
        let mut batch = Batch::default();
        for kv in changes {
            let lease = match kv.version > 0 && kv.lease != 0 {
                true => self.hold(kv.lease, from, to).await?,
                false => 0,
            };
            if !batch.takes(&kv) {
                self.write(std::mem::take(&mut batch), to).await?;
            }
            batch.add(kv, lease);
        }
        self.write(batch, to).await
    }

    async fn write(&mut self, batch: Batch, to: &Channel) -> Result<(), Broken> {
        if batch.ops.is_empty() {
            return Ok(());
        }
        self.written += batch.ops.len() as u64;
        let request = TxnRequest { success: batch.ops, ..TxnRequest::default() };
        let mut client = KvClient::new(to.clone());
        let written = tokio::time::timeout(self.plan.to.timeout, client.txn(request)).await;
        let written = written.map_err(|_| Broken::Destination(late()))?;
        written.map(drop).map_err(Broken::Destination)
    }

    /// Makes a lease of the source known at the destination. Answers with 0 if it has ended: then
    /// the keys will be deleted in a moment.
    async fn hold(&mut self, id: i64, from: &Channel, to: &Channel) -> Result<i64, Broken> {
        if self.leases.contains_key(&id) {
            return Ok(id);
        }
        let Some(ttl) = self.ttl(id, from).await? else { return Ok(0) };
        let request = LeaseGrantRequest { id, ttl: i64::try_from(ttl).unwrap_or(i64::MAX) };
        match LeaseClient::new(to.clone()).lease_grant(request).await {
            Ok(_) => {}
            Err(status) if status.message().contains("lease already exists") => {}
            Err(status) => return Err(Broken::Destination(status)),
        }
        self.leases.insert(id, Held { ttl, renewed: Instant::now() });
        Ok(id)
    }

    /// How long a lease was granted for; none if it has ended.
    async fn ttl(&self, id: i64, from: &Channel) -> Result<Option<u64>, Broken> {
        let request = LeaseTimeToLiveRequest { id, keys: false };
        match LeaseClient::new(from.clone()).lease_time_to_live(request).await {
            Ok(answer) => {
                let answer = answer.into_inner();
                let granted = u64::try_from(answer.granted_ttl).ok().filter(|ttl| *ttl > 0);
                Ok(granted.filter(|_| answer.ttl >= 0))
            }
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(Broken::Source(status.into())),
        }
    }

    /// Keeps alive at the destination what lives at the source, and ends what does not.
    async fn renew(&mut self, from: &Channel, to: &Channel) -> Result<(), Broken> {
        let is_due = |held: &Held| held.renewed.elapsed().as_secs() >= (held.ttl / 3).max(1);
        let due = self.leases.iter().filter(|(_, held)| is_due(held));
        let due: Vec<i64> = due.map(|(id, _)| *id).collect();
        for id in due {
            let mut client = LeaseClient::new(to.clone());
            if self.ttl(id, from).await?.is_none() {
                self.leases.remove(&id);
                match client.lease_revoke(LeaseRevokeRequest { id }).await {
                    Ok(_) => continue,
                    Err(status) if status.code() == Code::NotFound => continue,
                    Err(status) => return Err(Broken::Destination(status)),
                }
            }
            let ask = tokio_stream::iter([LeaseKeepAliveRequest { id }]);
            let answers = client.lease_keep_alive(ask).await.map_err(Broken::Destination)?;
            answers.into_inner().message().await.map_err(Broken::Destination)?;
            if let Some(held) = self.leases.get_mut(&id) {
                held.renewed = Instant::now();
            }
        }
        Ok(())
    }

    fn done(&self) -> Done {
        let lag = self.seen.saturating_sub(self.at);
        let line = format!(
            "at revision {} of {}, lag {lag} revisions; {} pairs copied, {} changes written, {} \
             leases held",
            self.at,
            self.seen,
            self.copied,
            self.written.saturating_sub(self.copied),
            self.leases.len()
        );
        let json = json!({
            "revision": self.at,
            "source_revision": self.seen,
            "lag_revisions": lag,
            "copied": self.copied,
            "changes": self.written.saturating_sub(self.copied),
            "leases": self.leases.len(),
        });
        Done { lines: vec![line], json }
    }

    /// Compares all pairs of both: the source as of the revision that was reached.
    async fn compare(&self) -> Result<Done, BackupError> {
        let (from, to) = (self.plan.from.connect().await?, self.plan.to.connect().await?);
        let (now, _) = count(&to, &self.plan.to).await?;
        let theirs = digest(Pages::new(from, &self.plan.from, self.at)).await?;
        let ours = digest(Pages::new(to, &self.plan.to, now)).await?;
        if theirs != ours {
            return Err(BackupError::Differs {
                told: format!(
                    "at revision {} the source has {} keys ({}), and the destination {} ({}): does \
                     somebody else write there? Empty it, remove {}, and begin anew",
                    self.at,
                    theirs.0,
                    &hex(&theirs.1)[..16],
                    ours.0,
                    &hex(&ours.1)[..16],
                    self.state.display(),
                ),
            });
        }
        let mut done = self.done();
        done.lines.extend(table(&[
            ("equal", format!("{} keys, values and leases, as of revision {}", ours.0, self.at)),
            ("sha256", hex(&ours.1)),
        ]));
        done.json["keys"] = json!(ours.0);
        done.json["sha256"] = json!(hex(&ours.1));
        done.json["equal"] = json!(true);
        Ok(done)
    }
}

impl Broken {
    fn ended(self) -> BackupError {
        match self {
            Broken::Error(error) => error,
            Broken::Source(FeedError::Compacted { oldest }) => BackupError::Usage(format!(
                "the source has compacted what is missing (before revision {oldest}): empty the \
                 destination, remove the state file, and begin anew"
            )),
            Broken::Source(error) => {
                BackupError::Refused { what: "the source", message: error.to_string() }
            }
            Broken::Destination(status) => BackupError::refused("the destination", &status),
        }
    }
}

/// Changes that become one transaction.
#[derive(Default)]
struct Batch {
    ops: Vec<RequestOp>,
    keys: BTreeSet<Vec<u8>>,
    bytes: usize,
}

impl Batch {
    /// A transaction changes a key once, and is not too large.
    fn takes(&self, kv: &KeyValue) -> bool {
        let is_small = self.ops.len() < OPS_MAX && self.bytes + weight(kv) <= TXN_BYTES_MAX;
        self.ops.is_empty() || is_small && !self.keys.contains(&kv.key[..])
    }

    fn add(&mut self, kv: KeyValue, lease: i64) {
        self.bytes += weight(&kv);
        self.keys.insert(kv.key.to_vec());
        let (key, value) = (kv.key, kv.value);
        let request = match kv.version {
            0 => OpRequest::RequestDeleteRange(DeleteRangeRequest {
                key,
                ..DeleteRangeRequest::default()
            }),
            _ => OpRequest::RequestPut(PutRequest { key, value, lease, ..PutRequest::default() }),
        };
        self.ops.push(RequestOp { request: Some(request) });
    }
}

fn weight(kv: &KeyValue) -> usize {
    kv.key.len() + kv.value.len()
}

fn late() -> Status {
    Status::deadline_exceeded("no answer in time")
}

/// It would be answered the same again.
fn is_hopeless(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::Unimplemented
    )
}

async fn cluster(channel: &Channel, source: &Source<'_>) -> Result<u64, BackupError> {
    let status = client::status(channel, source.timeout).await;
    let status = status.map_err(|status| BackupError::refused("the status", &status))?;
    Ok(status.header.unwrap_or_default().cluster_id)
}

async fn range(
    channel: &Channel,
    source: &Source<'_>,
    request: RangeRequest,
) -> Result<RangeResponse, BackupError> {
    let mut client = KvClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let answer = tokio::time::timeout(source.timeout, client.range(request)).await;
    let answer = answer.unwrap_or_else(|_| Err(late()));
    answer
        .map(tonic::Response::into_inner)
        .map_err(|status| BackupError::refused("a read", &status))
}

/// The revision now, and how many keys there are.
async fn count(channel: &Channel, source: &Source<'_>) -> Result<(u64, u64), BackupError> {
    let (key, range_end) = (vec![0].into(), vec![0].into());
    let request = RangeRequest { key, range_end, count_only: true, ..RangeRequest::default() };
    let answer = range(channel, source, request).await?;
    let revision = answer.header.unwrap_or_default().revision;
    Ok((revision.max(0) as u64, answer.count.max(0) as u64))
}

/// All pairs as of one revision, in pages.
struct Pages<'a> {
    channel: Channel,
    source: &'a Source<'a>,
    revision: u64,
    from: Option<Vec<u8>>,
}

impl Pages<'_> {
    fn new<'a>(channel: Channel, source: &'a Source<'a>, revision: u64) -> Pages<'a> {
        Pages { channel, source, revision, from: Some(vec![0]) }
    }

    async fn next(&mut self) -> Result<Option<Vec<KeyValue>>, BackupError> {
        let Some(key) = self.from.take() else { return Ok(None) };
        let request = RangeRequest {
            key: key.into(),
            range_end: vec![0].into(),
            limit: PAGE,
            revision: i64::try_from(self.revision).unwrap_or(i64::MAX),
            ..RangeRequest::default()
        };
        let answer = range(&self.channel, self.source, request).await?;
        if answer.more {
            let last = answer.kvs.last().map(|kv| kv.key.to_vec());
            self.from = last.map(|mut key| {
                key.push(0);
                key
            });
        }
        let pair = |kv: quorate_server::proto::mvccpb::KeyValue| KeyValue {
            key: kv.key,
            value: kv.value,
            mod_revision: Revision(kv.mod_revision.max(0) as u64),
            create_revision: Revision(kv.create_revision.max(0) as u64),
            version: kv.version.max(1) as u64,
            lease: kv.lease,
        };
        Ok(Some(answer.kvs.into_iter().map(pair).collect()))
    }
}

/// How many pairs there are, and the SHA-256 of keys, values and leases.
async fn digest(mut pages: Pages<'_>) -> Result<(u64, [u8; 32]), BackupError> {
    let (mut keys, mut hash) = (0, Sha256::new());
    while let Some(page) = pages.next().await? {
        for kv in page {
            keys += 1;
            for part in [&kv.key[..], &kv.value[..], &kv.lease.to_le_bytes()] {
                hash.update((part.len() as u64).to_le_bytes());
                hash.update(part);
            }
        }
    }
    Ok((keys, hash.finalize().into()))
}
