//! `quorate restore`: a member with the state of any revision, from a continuous backup.
//!
//! **Drill.** A backup that was never restored is a hope. `--drill` does all of it, in a scratch
//! directory, with the code that a member starts with, and says how long it took.

use super::seat::SeatFlags;
use super::shelf::{Absent, Shelf, ShelfError};
use super::source::SourceFlags;
use super::{BackupError, Done, table};
use crate::output;
use clap::Args;
use futures_util::stream::{self, StreamExt as _};
use quorate_server::Config;
use quorate_server::archive::{self, Catalogue, Until, base_name, catalogues, manifest_name};
use quorate_server::proto::etcdserverpb::HashKvRequest;
use quorate_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_server::rebirth::{Beginning, OldHistory, REVISION_MARGIN, Store, create};
use quorate_server::saved;
use quorate_server::verify::{Start, verify};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// For a store that is away. Whoever restores is waiting.
const PATIENCE: Duration = Duration::from_secs(30);
/// Segments that are fetched at once.
const AHEAD: usize = 16;
/// Revisions that `--list` names one by one.
const LISTED_MAX: usize = 20;

const EXAMPLES: &str = "\
Examples:
  quorate restore --from /mnt/backup --list
  quorate restore --from /mnt/backup --drill
  quorate restore --from s3://bucket/clusters/one --to-time 2026-03-01T11:59:00Z \\
      --name m1 --data-dir /var/lib/quorate --initial-cluster m1=http://a:2380,m2=http://b:2380 \\
      --initial-advertise-peer-urls http://a:2380
  quorate restore --from /mnt/backup --to-revision 81233 --data-dir m1.etcd

Exit status: 0 done, 1 the drill has failed, 2 nothing was done.";

/// The flags of `quorate restore`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct Options {
    /// Where the backup lies: a directory, or s3://BUCKET/PREFIX
    #[arg(long, value_name = "PLACE")]
    from: String,
    /// Of which cluster, if there are several: its id
    #[arg(long, value_name = "ID")]
    cluster: Option<String>,
    /// The state of this revision [default: the newest]
    #[arg(long, value_name = "REVISION", conflicts_with = "to_time")]
    to_revision: Option<u64>,
    /// The state of this moment, as 2026-03-01T11:59:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to_time: Option<u64>,
    /// Show what can be restored
    #[arg(long, conflicts_with = "drill")]
    list: bool,
    /// Restore into a scratch directory, start from it, verify, remove it
    #[arg(long)]
    drill: bool,
    /// Where the scratch directory is made [default: that of the system]
    #[arg(long, value_name = "DIR", requires = "drill")]
    scratch: Option<PathBuf>,
    /// With --drill: compare with the members at --endpoints, which must remember that revision
    #[arg(long, requires = "drill")]
    compare: bool,
    #[command(flatten)]
    source: SourceFlags,
    #[command(flatten, next_help_heading = "The new member")]
    seat: SeatFlags,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

/// A moment as ms since 1970.
fn moment(text: &str) -> Result<u64, String> {
    let parsed = OffsetDateTime::parse(text, &Rfc3339).ok();
    let millis = parsed.and_then(|at| u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok());
    millis.ok_or_else(|| "write 2026-03-01T11:59:00Z or 2026-03-01T12:59:00.5+01:00".to_owned())
}

fn written(ms: u64) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| format!("{ms} ms since 1970"))
}

/// A directory that is gone when this is.
struct Scratch(PathBuf);

impl Scratch {
    fn make(below: Option<&Path>) -> Result<Scratch, BackupError> {
        let below = below.map_or_else(std::env::temp_dir, Path::to_owned);
        let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let nanos = nanos.unwrap_or_default().subsec_nanos();
        let dir = below.join(format!("quorate-restore-{}-{nanos}", std::process::id()));
        let made = std::fs::create_dir_all(&below).and_then(|()| std::fs::create_dir(&dir));
        made.map_err(|error| BackupError::File { file: dir.clone(), error })?;
        Ok(Scratch(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // of no use to anybody else
    }
}

/// What was found of one cluster.
struct Backup {
    shelf: Shelf,
    cluster: u64,
    catalogue: Catalogue,
}

impl Options {
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) async fn run(&self) -> Result<Done, BackupError> {
        let shelf = Shelf::open(&self.from, Absent::Refuse, PATIENCE)?;
        if self.list {
            return self.listed(shelf).await;
        }
        if self.drill {
            return self.drilled(shelf).await;
        }
        let config = self.seat.config()?; // before a long download
        let backup = self.find(shelf).await?;
        let scratch = Scratch::make(config.data_dir.parent().filter(|dir| dir.is_dir()))?;
        let store = self.state(&backup, &scratch).await?;
        let mut done = self.seat.create(&config, store, backup.catalogue.highest())?;
        done.json["from_cluster"] = json!(format!("{:x}", backup.cluster));
        Ok(done)
    }

    fn until(&self) -> Until {
        match (self.to_revision, self.to_time) {
            (Some(revision), _) => Until::Revision(revision),
            (None, Some(ms)) => Until::Time(ms),
            (None, None) => Until::Newest,
        }
    }

    /// The backup of the cluster that is meant.
    async fn find(&self, shelf: Shelf) -> Result<Backup, BackupError> {
        let names = shelf.list().await?;
        let mut all = catalogues(names.iter().map(String::as_str));
        let wanted = self.cluster.as_deref().map(|text| u64::from_str_radix(text, 16));
        let ids = all.keys().map(|id| format!("{id:x}")).collect::<Vec<_>>().join(", ");
        let place = shelf.place();
        let told = match (&wanted, all.len()) {
            (_, 0) => {
                format!("{place} holds no backup: is this the place given to 'quorate backup'?")
            }
            (None, 1) | (Some(Ok(_)), _) => {
                let first = all.keys().next().copied().unwrap_or(0);
                let cluster = wanted.clone().and_then(Result::ok).unwrap_or(first);
                match all.remove(&cluster) {
                    Some(catalogue) => return Ok(Backup { shelf, cluster, catalogue }),
                    None => format!("{place} has nothing of cluster {cluster:x}, but of {ids}"),
                }
            }
            (None, _) => format!("{place} has several clusters, name one with --cluster: {ids}"),
            (Some(Err(_)), _) => format!("--cluster is the id of one: {ids}"),
        };
        Err(BackupError::Usage(told))
    }

    async fn listed(&self, shelf: Shelf) -> Result<Done, BackupError> {
        let names = shelf.list().await?;
        let all = catalogues(names.iter().map(String::as_str));
        let (mut lines, mut clusters) = (Vec::new(), Vec::new());
        for (cluster, catalogue) in all {
            lines.push(format!("cluster {cluster:x}"));
            let mut reaches = Vec::new();
            for reach in catalogue.reaches() {
                lines.push(format!("  any revision from {} to {}", reach.from, reach.to));
                reaches.push(json!({ "from": reach.from, "to": reach.to }));
            }
            let mut bases = Vec::new();
            for base in &catalogue.bases {
                let name = format!("{cluster:016x}/{}", manifest_name(*base));
                let manifest = manifest(&shelf, &name).await?;
                let time = written(manifest["time_ms"].as_u64().unwrap_or(0));
                if bases.len() < LISTED_MAX {
                    let keys = &manifest["keys"];
                    lines.push(format!("  base {base:>12}  {time}  {keys} keys"));
                }
                bases.push(json!({ "revision": base, "time": time, "keys": manifest["keys"] }));
            }
            if bases.len() > LISTED_MAX {
                lines.push(format!("  and {} bases more", bases.len() - LISTED_MAX));
            }
            clusters.push(json!({
                "cluster_id": format!("{cluster:x}"), "reaches": reaches, "bases": bases,
            }));
        }
        if lines.is_empty() {
            lines.push(format!("{} holds no backup", shelf.place()));
        }
        Ok(Done { lines, json: json!({ "clusters": clusters }) })
    }

    /// The state that is wanted.
    async fn state(&self, backup: &Backup, scratch: &Scratch) -> Result<Store, BackupError> {
        let until = self.until();
        let mut bases: Vec<u64> = backup.catalogue.bases.iter().copied().collect();
        if let Until::Revision(revision) = until {
            bases.retain(|base| *base <= revision);
        }
        let mut last = None;
        for base in bases.into_iter().rev() {
            if let Until::Time(wanted) = until {
                let name = format!("{:016x}/{}", backup.cluster, manifest_name(base));
                let taken = manifest(&backup.shelf, &name).await?["time_ms"].as_u64();
                if taken.unwrap_or(u64::MAX) > wanted {
                    continue;
                }
            }
            match backup.state_from(base, until, scratch).await {
                Ok(store) => return Ok(store),
                // An older base, and the changes since, give the same.
                Err(error) if error.is_damage() => {
                    output::complain(format_args!("{error}; trying an older base"));
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        Err(last.unwrap_or_else(|| {
            BackupError::Usage(format!(
                "{} does not reach so far back; 'quorate restore --from {0} --list' shows what it \
                 holds",
                backup.shelf.place()
            ))
        }))
    }

    async fn drilled(&self, shelf: Shelf) -> Result<Done, BackupError> {
        let began = Instant::now();
        let backup = self.find(shelf).await?;
        let scratch = Scratch::make(self.scratch.as_deref())?;
        let store = self.state(&backup, &scratch).await?;
        let (state, keys) = (store.revision().0, store.keys());
        let (hash, copy) = (hash(&store), store.clone());
        let fetched = began.elapsed();
        let config = Config { data_dir: scratch.0.join("member"), ..Config::default() };
        let revision = backup.catalogue.highest() + REVISION_MARGIN;
        let born = create(&config, copy, Beginning { revision, history: OldHistory::Compacted })?;
        let report = verify(&config.data_dir, None);
        let report = report.map_err(|error| failed(&error))?;
        let starts = match &report.start {
            Start::Yes { revision, digest, .. } => {
                *revision == born.revision && *digest == format!("{:016x}", born.digest)
            }
            Start::No { .. } => false,
        };
        if !report.is_whole()
            || !starts
            || born.keys != keys
            || born.hash != hash && born.freed == 0
        {
            return Err(failed(&format!(
                "a member would not start with what was saved: {report:?}"
            )));
        }
        let compared = if self.compare { Some(self.compared(&store, hash).await?) } else { None };
        let took = began.elapsed();
        let mut rows = vec![
            ("cluster", format!("{:x}", backup.cluster)),
            ("revision", format!("{state}, {keys} keys, hash {hash:016x}")),
            ("fetched in", format!("{:.1} s", fetched.as_secs_f64())),
            ("started from", "a member's own start code: whole, same digest".to_owned()),
            ("took", format!("{:.1} s", took.as_secs_f64())),
        ];
        rows.extend(compared.map(|told| ("compared", told)));
        let mut lines = table(&rows);
        lines.push("the drill has succeeded; its directory is removed".to_owned());
        let json = json!({
            "cluster_id": format!("{:x}", backup.cluster),
            "revision": state,
            "keys": keys,
            "hash": format!("{hash:016x}"),
            "compared": self.compare,
            "seconds": took.as_secs_f64(),
        });
        Ok(Done { lines, json })
    }

    /// Whether a running member says the same of that revision.
    async fn compared(&self, store: &Store, hash: u64) -> Result<String, BackupError> {
        let login = self.source.login()?;
        let source = self.source.source(login.as_ref())?;
        let revision = store.revision().0;
        let request = HashKvRequest { revision: i64::try_from(revision).unwrap_or(i64::MAX) };
        let mut client = MaintenanceClient::new(source.connect().await?);
        let answer = client.hash_kv(request).await;
        let answer = answer.map_err(|status| BackupError::refused("the hash", &status))?;
        let (told, own) = (answer.into_inner().hash, (hash ^ (hash >> 32)) as u32);
        match told == own {
            true => Ok(format!("a running member has the same at revision {revision}")),
            false => Err(BackupError::Differs {
                told: format!(
                    "at revision {revision} a running member has hash {told:08x}, and the backup \
                     {own:08x}: take a new base, and find out which is right"
                ),
            }),
        }
    }
}

fn failed(why: &dyn std::fmt::Display) -> BackupError {
    BackupError::Differs { told: format!("the drill has failed: {why}") }
}

fn hash(store: &Store) -> u64 {
    store.hash_kv(archive::Revision(0)).expect("the latest revision can be read")
}

async fn manifest(shelf: &Shelf, name: &str) -> Result<Value, BackupError> {
    let bytes = shelf.get(name).await?;
    serde_json::from_slice(&bytes).map_err(|error| BackupError::Object {
        name: name.to_owned(),
        why: format!("no manifest: {error}"),
    })
}

impl Backup {
    /// A base, and the changes after it.
    async fn state_from(
        &self,
        base: u64,
        until: Until,
        scratch: &Scratch,
    ) -> Result<Store, BackupError> {
        let file = scratch.0.join("base");
        let name = format!("{:016x}/{}", self.cluster, base_name(base));
        self.shelf.get_file(&name, &file).await?;
        let mut store = saved::read(&file)?.store;
        let _ = std::fs::remove_file(&file); // the directory goes as well
        let to = if let Until::Revision(revision) = until { revision } else { u64::MAX };
        let (way, reached) = self.catalogue.way(base, to);
        let gap = || {
            BackupError::Shelf(ShelfError::Missing {
                place: self.shelf.place().to_owned(),
                name: format!("revision {}", reached + 1),
            })
        };
        if to != u64::MAX && reached < to {
            return Err(gap());
        }
        // Many are small and far away: some are fetched ahead.
        let names = way.iter().map(|span| format!("{:016x}/{}", self.cluster, span.name()));
        let objects = names.map(|name| async {
            let bytes = self.shelf.get(&name).await?;
            Ok::<_, BackupError>((name, bytes))
        });
        let mut objects = std::pin::pin!(stream::iter(objects).buffered(AHEAD));
        while let Some(object) = objects.next().await {
            let (name, bytes) = object?;
            let applied = archive::apply(&bytes, self.cluster, &mut store, until);
            let is_enough =
                applied.map_err(|error| BackupError::Object { name, why: error.to_string() })?;
            if is_enough {
                return Ok(store);
            }
        }
        // Something newer is there, and nothing leads to it: who asks for the newest is not given
        // less in silence.
        if to == u64::MAX && reached < self.catalogue.highest() { Err(gap()) } else { Ok(store) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written() {
        assert_eq!(moment("1970-01-01T00:00:01Z"), Ok(1_000));
        assert_eq!(moment("2026-03-01T12:59:00.5+01:00"), moment("2026-03-01T11:59:00.5Z"));
        assert_eq!(written(1_500), "1970-01-01T00:00:01.5Z");
        for bad in ["", "yesterday", "2026-03-01", "1969-12-31T23:59:59Z"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }
}
