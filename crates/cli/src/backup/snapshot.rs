//! `quorate snapshot`: the state of this moment, as one file; and a member made from one.
//!
//! ```text
//! FILE.part   blobs as they come   --- digest right, fsync ---> FILE, fsync of the directory
//! ```
//!
//! A stream ends with the SHA-256 of all before it, and that stays in the file, as etcdctl leaves
//! it there. So FILE is either absent or whole, and can be checked at any time without the server.
//!
//! Source: etcd `client/v3/snapshot/v3_snapshot.go`, `etcdutl/snapshot`; the table of our own
//! format is in `crates/storage/FORMAT.md`.

use super::seat::{SEAT_HELP, SeatFlags};
use super::source::{Bar, SourceFlags};
use super::{BackupError, Done, Part, Source, hex, table};
use crate::client;
use clap::{Args, Subcommand};
use indicatif::HumanBytes;
use quorate_server::saved::{self, Maker, Saved};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  quorate snapshot save monday.db
  quorate snapshot save monday.db --endpoints b:2379
  quorate snapshot status monday.db
  quorate snapshot restore monday.db --name m1 --data-dir /var/lib/quorate \\
      --initial-cluster m1=http://a:2380,m2=http://b:2380,m3=http://c:2380 \\
      --initial-advertise-peer-urls http://a:2380

FILE appears when all of it is there, its digest is right and the disk has it; until then it is
FILE.part. A file that is there is never written over. 'status' and 'restore' read snapshots of etcd
as well.
Exit status: 0 done, 1 the file is damaged, 2 nothing was done.";

/// The flags of `quorate snapshot`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    source: SourceFlags,
    /// One JSON object instead of text
    #[arg(long, global = true)]
    json: bool,
}

/// What can be asked, here and of `quorate ctl`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Snapshot {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the whole state of one member to a file
    Save {
        /// Where to; it must not be there
        file: PathBuf,
    },
    /// Check a file that was saved, and tell what is in it
    Status {
        /// The file, of quorate or of etcd
        file: PathBuf,
    },
    /// Make the data directory of a member of a new cluster from a file
    #[command(after_help = SEAT_HELP)]
    Restore(Box<Restore>),
}

#[derive(Args, Debug)]
struct Restore {
    /// The file, of quorate or of etcd
    file: PathBuf,
    #[command(flatten)]
    seat: SeatFlags,
}

impl Options {
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn run(self) -> Result<Done, BackupError> {
        let login = match &self.command {
            Command::Save { .. } => self.source.login()?,
            Command::Status { .. } | Command::Restore(_) => None,
        };
        let source = self.source.source(login.as_ref())?;
        client::block_on(self.command.run(&source, self.json))
    }
}

impl Snapshot {
    /// Does it.
    pub(crate) async fn run(&self, source: &Source<'_>, json: bool) -> Result<Done, BackupError> {
        self.command.run(source, json).await
    }
}

impl Command {
    async fn run(&self, source: &Source<'_>, json: bool) -> Result<Done, BackupError> {
        match self {
            Command::Save { file } => save(source, file, json).await,
            Command::Status { file } => Ok(status(file, &saved::read(file)?)),
            Command::Restore(restore) => {
                let Restore { file, seat } = &**restore;
                let config = seat.config()?; // before a large file is read for nothing
                let saved = saved::read(file)?;
                seat.create(&config, saved.store, saved.revision)
            }
        }
    }
}

async fn save(source: &Source<'_>, file: &Path, json: bool) -> Result<Done, BackupError> {
    let mut part = Part::create(file)?;
    let name = part.part.clone();
    source.fetch(&mut part.output, &name, Bar::unless(json)).await?;
    // Read back: what counts is what the file holds.
    let saved = saved::read(&name)?;
    part.publish()?;
    let mut done = status(file, &saved);
    let size = HumanBytes(saved.bytes);
    done.lines = vec![format!(
        "Snapshot saved at {}: revision {}, {} keys, {size}",
        file.display(),
        saved.revision,
        saved.store.keys()
    )];
    Ok(done)
}

fn status(file: &Path, saved: &Saved) -> Done {
    let store = &saved.store;
    let digest = saved.digest.map(|digest| hex(&digest));
    let mut rows = vec![("made by", maker(saved.maker).to_owned())];
    let mut json: Value = json!({
        "file": file,
        "made_by": maker(saved.maker),
        "bytes": saved.bytes,
        "sha256": digest,
        "revision": saved.revision,
        "compact_revision": store.compact_revision().0,
        "keys": store.keys(),
        "leases": store.leases().len(),
        "hash": format!("{:016x}", saved.hash()),
    });
    if let Maker::Quorate(header) = saved.maker {
        rows.push(("cluster", format!("{:x}", header.cluster)));
        rows.push(("member", format!("{:x}, in term {}", header.member, header.term)));
        json["cluster_id"] = json!(format!("{:x}", header.cluster));
        json["member_id"] = json!(format!("{:x}", header.member));
        json["term"] = json!(header.term);
    }
    let compacted = store.compact_revision().0;
    rows.push(("revision", format!("{}, compacted up to {compacted}", saved.revision)));
    rows.push(("keys", store.keys().to_string()));
    rows.push(("leases", store.leases().len().to_string()));
    rows.push(("size", HumanBytes(saved.bytes).to_string()));
    rows.push(("hash", format!("{:016x} of the living pairs", saved.hash())));
    rows.push((
        "sha256",
        match &digest {
            Some(digest) => format!("{digest}, right"),
            None => "none: a database that was copied out of a data directory".to_owned(),
        },
    ));
    Done { lines: table(&rows), json }
}

fn maker(maker: Maker) -> &'static str {
    match maker {
        Maker::Quorate(_) => "quorate",
        Maker::Etcd => "etcd",
    }
}
