//! `quorate backup`: every change, written somewhere else a moment after it happened.
//!
//! **Problem.** A snapshot now and then loses what came after it, and a program that takes part in
//! the cluster can take the cluster down with it.
//!
//! **Idea.** A client beside the cluster watches everything. What it hears is gathered for
//! `--interval`, or until it is large, and put away as a segment; now and then it takes a snapshot
//! as the next base. What is there already says where to go on after a crash, so nothing has to be
//! remembered here.
//!
//! ```text
//!   cluster ── watch ──► Gathering ── segment ──► shelf      what was put is never read again here
//!              snapshot ──► file, read back ──► base
//! ```
//!
//! **Guarantees.** What a segment's name promises is there, and durable, before the next one
//! begins. A segment follows the one before without a gap, or a new base begins a new stretch: when
//! the cluster has compacted what was missed. While the store is away nothing is read from the
//! cluster either, so memory stays small, and the cluster keeps what is missing until it compacts.
//!
//! **Bounds.** [`GATHERED_MAX`] bytes and one response of the watch; [`LEASES_MAX`] remembered ids.

use super::feed::{Feed, FeedError, News};
use super::shelf::{Absent, Shelf};
use super::source::{Bar, SourceFlags};
use super::{BackupError, Done, Part, Source};
use crate::client::Channel;
use crate::output;
use crate::serve::duration;
use clap::Args;
use indicatif::HumanBytes;
use quorate_server::archive::{
    Catalogue, Gathering, KeyValue, Span, base_name, catalogues, manifest_name,
};
use quorate_server::proto::etcdserverpb::auth_client::AuthClient;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::{AuthStatusRequest, LeaseTimeToLiveRequest};
use quorate_server::saved::{self, Saved};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A segment is put when so much has gathered. Unit: bytes.
const GATHERED_MAX: usize = 4 << 20;
/// Leases whose time is remembered, so that it is not asked for again; then all are forgotten.
const LEASES_MAX: usize = 100_000;
/// How often the cluster is asked for its revision,
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// and whether users or roles have changed.
const AUTH_EVERY: Duration = Duration::from_secs(5);
/// How often it is looked whether something is due.
const TICK: Duration = Duration::from_millis(50);
/// The first pause before another endpoint is tried; each is twice the one before,
const PAUSE: Duration = Duration::from_millis(200);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The time of a lease that had ended before its time was asked for: until then its keys are held.
/// Unit: seconds.
const LEASE_UNKNOWN: u64 = 60;

const EXAMPLES: &str = "\
Examples:
  quorate backup /mnt/backup --endpoints a:2379,b:2379,c:2379
  AWS_ACCESS_KEY_ID=.. AWS_SECRET_ACCESS_KEY=.. AWS_REGION=eu-central-1 \\
      quorate backup s3://bucket/clusters/one --keep 14 --base-every 1d
  quorate backup /mnt/backup --once          what is missing, and no more: for cron
  quorate restore --from /mnt/backup --list

It runs beside the cluster until it is stopped, and goes on where it was when it is started again.
A user must have the role root, if the cluster has users.
Exit status: 0 stopped or caught up, 2 the cluster or the store cannot be used any longer.";

/// The flags of `quorate backup`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Where to: a directory, or s3://BUCKET/PREFIX
    #[arg(value_name = "PLACE")]
    place: String,
    /// Put what has gathered after so long
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = time)]
    interval: Duration,
    /// Take a new base after so long, if anything has changed
    #[arg(long, value_name = "TIME", default_value = "6h", value_parser = time)]
    base_every: Duration,
    /// Keep so many bases, and every change since the oldest of them
    #[arg(long, value_name = "BASES", default_value_t = 8)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=100_000))]
    keep: u64,
    /// Give up when the cluster or the store is away for so long
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    patience: Duration,
    /// Say how far behind it is, so often
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    say_every: Duration,
    /// Put what is missing, and end
    #[arg(long)]
    once: bool,
    /// Lines of JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: SourceFlags,
}

fn time(text: &str) -> Result<Duration, String> {
    let day = text.strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    let time = day.map(|days| Duration::from_secs(days.saturating_mul(86_400)));
    let time = time.or_else(|| duration::parse(text)).filter(|time| !time.is_zero());
    time.ok_or_else(|| "write 500ms, 10s, 5m, 6h or 1d".to_owned())
}

/// Milliseconds since 1970, by the clock of this machine.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The process.
struct Shipper<'a> {
    options: &'a Options,
    source: Source<'a>,
    shelf: Shelf,
    cluster: Option<u64>,
    catalogue: Catalogue,
    gathering: Gathering,
    /// The revision of the cluster, as far as is known.
    seen: u64,
    base_at: Instant,
    /// There is none that what follows could follow.
    wants_base: bool,
    /// Revision of users and roles in the newest base; none if that is not known.
    auth: Option<u64>,
    leases: BTreeSet<i64>,
    said_at: Instant,
    put: u64,
    put_bytes: u64,
    silent_since: Instant,
}

/// Why a session ends.
enum Ended {
    /// All is done.
    Done,
    /// The feed has.
    Feed(FeedError),
    /// It is of no use to go on.
    Error(BackupError),
}

impl<E: Into<BackupError>> From<E> for Ended {
    fn from(error: E) -> Ended {
        Ended::Error(error.into())
    }
}

impl Options {
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) async fn run(&self) -> Result<Done, BackupError> {
        let login = self.source.login()?;
        let source = self.source.source(login.as_ref())?;
        let shelf = Shelf::open(&self.place, Absent::Make, self.patience)?;
        let now = Instant::now();
        let mut shipper = Shipper {
            options: self,
            source,
            shelf,
            cluster: None,
            catalogue: Catalogue::default(),
            gathering: Gathering::new(0, 0),
            seen: 0,
            base_at: now,
            wants_base: false,
            auth: None,
            leases: BTreeSet::new(),
            said_at: now,
            put: 0,
            put_bytes: 0,
            silent_since: now,
        };
        shipper.run().await?;
        Ok(shipper.done())
    }
}

impl Shipper<'_> {
    async fn run(&mut self) -> Result<(), BackupError> {
        let no_signal = |error| BackupError::File { file: PathBuf::from("signals"), error };
        let mut stop = signal(SignalKind::terminate()).map_err(no_signal)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signal)?;
        let mut pause = PAUSE;
        loop {
            let before = self.gathering.last();
            let error = match self.session(&mut stop, &mut interrupt).await {
                Ended::Done => return Ok(()),
                Ended::Error(error) if may_pass(&error) => FeedError::Lost(error.to_string()),
                Ended::Error(error) => return Err(error),
                Ended::Feed(FeedError::Refused(message)) => {
                    return Err(BackupError::Refused { what: "the watch", message });
                }
                Ended::Feed(FeedError::Compacted { oldest }) => {
                    output::complain(format_args!(
                        "changes between revision {before} and {oldest} are compacted: they are \
                         not in the backup, which begins anew with a base"
                    ));
                    // A new stretch begins; what had gathered belongs to the one before.
                    self.flush().await?;
                    self.wants_base = true;
                    continue;
                }
                Ended::Feed(error) => error,
            };
            if self.gathering.last() > before {
                (pause, self.silent_since) = (PAUSE, Instant::now());
            }
            if self.silent_since.elapsed() > self.options.patience {
                return Err(BackupError::Refused { what: "the watch", message: error.to_string() });
            }
            output::complain(format_args!("{error}; going on from revision {before}"));
            // The members take turns: the one that was asked last may be what is wrong.
            self.source.endpoints.rotate_left(1);
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
                _ = stop.recv() => return self.flush().await,
                _ = interrupt.recv() => return self.flush().await,
            }
        }
    }

    /// From a connection to its end.
    async fn session(&mut self, stop: &mut Signal, interrupt: &mut Signal) -> Ended {
        match self.follow(stop, interrupt).await {
            Ok(()) => Ended::Done,
            Err(ended) => ended,
        }
    }

    async fn follow(&mut self, stop: &mut Signal, interrupt: &mut Signal) -> Result<(), Ended> {
        let channel = self.source.connect().await.map_err(|error| Ended::Feed(error.into()))?;
        let target = self.meet(&channel).await?;
        if self.wants_base {
            self.take_base().await?;
            self.begin_after_base();
            self.wants_base = false;
        }
        self.greet();
        let from = self.gathering.last() + 1;
        let opened = Feed::open(channel.clone(), &self.source, from).await;
        let mut feed = opened.map_err(Ended::Feed)?;
        let (mut asked_at, mut auth_at) = (Instant::now(), Instant::now());
        loop {
            if self.options.once && self.gathering.last() >= target {
                self.flush().await?;
                return Ok(());
            }
            tokio::select! {
                news = feed.next() => {
                    let news = news.map_err(Ended::Feed)?;
                    self.take(news, &channel).await?;
                }
                () = tokio::time::sleep(TICK) => {}
                _ = stop.recv() => return Ok(self.flush().await?),
                _ = interrupt.recv() => return Ok(self.flush().await?),
            }
            self.flush_if_due().await?;
            if asked_at.elapsed() >= PROGRESS_EVERY {
                asked_at = Instant::now();
                feed.ask_progress();
            }
            if auth_at.elapsed() >= AUTH_EVERY {
                auth_at = Instant::now();
                let auth = auth_revision(&channel, &self.source).await;
                if auth.is_some() && auth != self.auth {
                    self.flush().await?;
                    self.take_base().await?;
                }
            }
            self.base_if_due().await?;
            self.say_if_due();
        }
    }

    /// Finds out which cluster it is, and where its backup stands. Answers with the revision up to
    /// which there is something to copy now.
    async fn meet(&mut self, channel: &Channel) -> Result<u64, Ended> {
        let status = crate::client::status(channel, self.source.timeout).await;
        let status = status.map_err(|status| Ended::Feed(status.into()))?;
        let header = status.header.unwrap_or_default();
        let revision = header.revision.max(0) as u64;
        self.seen = self.seen.max(revision);
        match self.cluster {
            None => {}
            Some(cluster) if cluster == header.cluster_id => return Ok(revision),
            Some(cluster) => {
                return Err(Ended::Error(BackupError::Usage(format!(
                    "the endpoints are members of two clusters: {cluster:x} and {:x}",
                    header.cluster_id
                ))));
            }
        }
        let names = self.shelf.list().await?;
        let mut all = catalogues(names.iter().map(String::as_str));
        self.catalogue = all.remove(&header.cluster_id).unwrap_or_default();
        self.cluster = Some(header.cluster_id);
        self.wants_base = self.catalogue.bases.is_empty();
        if let Some(newest) = self.catalogue.bases.last() {
            let manifest = self.shelf.get(&self.named(&manifest_name(*newest))).await?;
            let manifest: Value = serde_json::from_slice(&manifest).unwrap_or_default();
            self.auth = manifest["auth_revision"].as_u64();
        }
        self.begin_after_base();
        Ok(revision)
    }

    /// Says what it is about to do.
    fn greet(&self) {
        let (cluster, place) = (self.cluster.unwrap_or(0), self.shelf.place());
        let from = self.gathering.last() + 1;
        self.say(format_args!("cluster {cluster:x} to {place}, from revision {from} on"));
    }

    /// What is gathered from now on follows all that is there.
    fn begin_after_base(&mut self) {
        let base = self.catalogue.bases.last().copied().unwrap_or(0);
        let at = self.catalogue.way(base, u64::MAX).1;
        self.gathering = Gathering::new(self.cluster.unwrap_or(0), at + 1);
        self.leases.clear();
    }

    async fn take(&mut self, news: News, channel: &Channel) -> Result<(), Ended> {
        self.seen = self.seen.max(news.revision);
        self.silent_since = Instant::now();
        if news.changes.is_empty() {
            return Ok(());
        }
        // All questions come first: if one fails, none of these changes was taken in.
        let mut granted = Vec::new();
        for kv in &news.changes {
            let is_new = kv.version > 0 && kv.lease != 0 && !self.leases.contains(&kv.lease);
            if is_new && !granted.iter().any(|(id, _)| *id == kv.lease) {
                granted.push((kv.lease, self.ttl(kv, channel).await?));
            }
        }
        self.gathering.moment(now_ms());
        for (id, ttl) in granted {
            self.gathering.lease(id, ttl);
            if self.leases.len() >= LEASES_MAX {
                self.leases.clear();
            }
            self.leases.insert(id);
        }
        for kv in &news.changes {
            self.gathering.change(kv);
            self.seen = self.seen.max(kv.mod_revision.0);
        }
        Ok(())
    }

    /// How long a lease was granted for.
    async fn ttl(&self, kv: &KeyValue, channel: &Channel) -> Result<u64, Ended> {
        let request = LeaseTimeToLiveRequest { id: kv.lease, keys: false };
        let mut client = LeaseClient::new(channel.clone());
        let asked = client.lease_time_to_live(request);
        let lost = || Ended::Feed(FeedError::Lost("no answer about a lease".to_owned()));
        match tokio::time::timeout(self.source.timeout, asked).await {
            Err(_) => Err(lost()),
            Ok(Ok(answer)) => {
                let granted = answer.into_inner().granted_ttl;
                Ok(u64::try_from(granted).ok().filter(|ttl| *ttl > 0).unwrap_or(LEASE_UNKNOWN))
            }
            Ok(Err(status)) if status.code() == tonic::Code::NotFound => Ok(LEASE_UNKNOWN),
            Ok(Err(status)) => Err(Ended::Feed(status.into())),
        }
    }

    async fn flush_if_due(&mut self) -> Result<(), BackupError> {
        let age = now_ms().saturating_sub(self.gathering.began());
        let is_old = u128::from(age) >= self.options.interval.as_millis();
        match !self.gathering.is_empty() && (is_old || self.gathering.bytes() >= GATHERED_MAX) {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Puts what has gathered.
    async fn flush(&mut self) -> Result<(), BackupError> {
        if self.gathering.is_empty() {
            return Ok(());
        }
        let (span, bytes) = self.gathering.seal();
        (self.put, self.put_bytes) = (self.put + 1, self.put_bytes + bytes.len() as u64);
        self.shelf.put(&self.named(&span.name()), bytes.into()).await?;
        self.catalogue.spans.insert(span);
        Ok(())
    }

    fn named(&self, name: &str) -> String {
        format!("{:016x}/{name}", self.cluster.unwrap_or(0))
    }

    async fn base_if_due(&mut self) -> Result<(), BackupError> {
        let newest = self.catalogue.bases.last().copied().unwrap_or(0);
        let has_changed = self.gathering.last() > newest;
        match has_changed && self.base_at.elapsed() >= self.options.base_every {
            true => self.take_base().await,
            false => Ok(()),
        }
    }

    /// Takes a snapshot, looks whether it can be read, and puts it; then removes what is no longer
    /// kept.
    async fn take_base(&mut self) -> Result<(), BackupError> {
        self.base_at = Instant::now();
        let name = format!("quorate-base-{}-{}", std::process::id(), now_ms());
        let mut part = Part::create(&std::env::temp_dir().join(name))?;
        let file = part.part.clone();
        let channel = self.source.connect().await?;
        let auth = auth_revision(&channel, &self.source).await;
        self.source.fetch(&mut part.output, &file, Bar::Hidden).await?;
        let saved = saved::read(&file)?;
        let revision = saved.revision;
        self.shelf.put_file(&self.named(&base_name(revision)), &file).await?;
        let manifest = self.manifest(&saved, auth).to_string().into_bytes();
        self.shelf.put(&self.named(&manifest_name(revision)), manifest.into()).await?;
        self.catalogue.bases.insert(revision);
        (self.auth, self.seen) = (auth, self.seen.max(revision));
        let (keys, size) = (saved.store.keys(), HumanBytes(saved.bytes));
        self.say(format_args!("base at revision {revision}: {keys} keys, {size}"));
        self.clear_out().await
    }

    /// What is said of a base: that it is whole, and of when.
    fn manifest(&self, saved: &Saved, auth: Option<u64>) -> Value {
        json!({
            "format": 1,
            "cluster": format!("{:016x}", self.cluster.unwrap_or(0)),
            "revision": saved.revision,
            "time_ms": now_ms(),
            "bytes": saved.bytes,
            "sha256": saved.digest.map(|digest| super::hex(&digest)),
            "keys": saved.store.keys(),
            "hash": format!("{:016x}", saved.hash()),
            "auth_revision": auth,
        })
    }

    async fn clear_out(&mut self) -> Result<(), BackupError> {
        let keep = usize::try_from(self.options.keep).unwrap_or(usize::MAX);
        let (bases, spans) = self.catalogue.superfluous(keep);
        for base in bases {
            // A base without its manifest is none, so that goes first.
            self.shelf.remove(&self.named(&manifest_name(base))).await?;
            self.shelf.remove(&self.named(&base_name(base))).await?;
            self.catalogue.bases.remove(&base);
        }
        for span in spans {
            self.shelf.remove(&self.named(&Span::name(span))).await?;
            self.catalogue.spans.remove(&span);
        }
        Ok(())
    }

    fn say_if_due(&mut self) {
        if self.said_at.elapsed() >= self.options.say_every {
            self.said_at = Instant::now();
            let done = self.done();
            done.print(self.options.json);
        }
    }

    fn say(&self, line: std::fmt::Arguments<'_>) {
        if !self.options.json {
            output::line(line);
        }
    }

    /// How far it is.
    fn done(&self) -> Done {
        let newest = self.catalogue.bases.last().copied().unwrap_or(0);
        let at = self.catalogue.way(newest, u64::MAX).1;
        let behind = self.seen.saturating_sub(at);
        let waits = if self.gathering.is_empty() { 0 } else { self.gathering.began() };
        let lag_ms = if waits == 0 { 0 } else { now_ms().saturating_sub(waits) };
        let (put, put_bytes) = (self.put, self.put_bytes);
        let line = format!(
            "at revision {at} of {}, lag {behind} revisions, {:.1} s; {put} segments, {} since the \
             start; base {newest}",
            self.seen,
            lag_ms as f64 / 1_000.0,
            HumanBytes(put_bytes),
        );
        let json = json!({
            "revision": at,
            "cluster_revision": self.seen,
            "lag_revisions": behind,
            "lag_ms": lag_ms,
            "segments": put,
            "segment_bytes": put_bytes,
            "base": newest,
        });
        Done { lines: vec![line], json }
    }
}

/// A member that is away, or was lost while it sent a snapshot, may be back; who may not have one
/// never will.
fn may_pass(error: &BackupError) -> bool {
    match error {
        BackupError::Unreachable { .. } => true,
        BackupError::Refused { what: "the snapshot", message } => {
            !["permission denied", "user name is empty"].iter().any(|no| message.contains(no))
        }
        _ => false,
    }
}

/// Moves with every change of users and roles. None if it cannot be found out.
async fn auth_revision(channel: &Channel, source: &Source<'_>) -> Option<u64> {
    let mut client = AuthClient::new(channel.clone());
    let asked = client.auth_status(AuthStatusRequest {});
    let answer = tokio::time::timeout(source.timeout, asked).await.ok()?.ok()?;
    Some(answer.into_inner().auth_revision)
}
