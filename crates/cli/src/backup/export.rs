//! `quorate export`: the state as etcd writes it, for who wants to leave.

use super::source::{Bar, SourceFlags};
use super::{BackupError, Done, Part, hex, table};
use crate::client;
use clap::Args;
use indicatif::HumanBytes;
use quorate_server::saved::{self, Saved};
use serde_json::json;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  quorate export for-etcd.db
  quorate export for-etcd.db --from monday.db
  etcdctl snapshot status for-etcd.db -w table
  etcdctl snapshot restore for-etcd.db --data-dir default.etcd

All revisions that are not compacted, leases, users and roles go along; leases begin their time
anew. The file ends with the SHA-256 that etcd's tools check.";

/// The flags of `quorate export`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Where to; it must not be there
    file: PathBuf,
    /// Take the state from this snapshot instead of a running cluster
    #[arg(long, value_name = "FILE", conflicts_with = "endpoints")]
    from: Option<PathBuf>,
    #[command(flatten)]
    source: SourceFlags,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Options {
    pub(super) fn json(&self) -> bool {
        self.json
    }

    pub(super) fn run(&self) -> Result<Done, BackupError> {
        let mut part = Part::create(&self.file)?;
        let saved = match &self.from {
            Some(file) => saved::read(file)?,
            None => self.fetched(&self.file)?,
        };
        let at_part = |error| BackupError::File { file: self.file.clone(), error };
        saved::write_for_etcd(&saved.store, &mut part.output).map_err(at_part)?;
        let written = saved::read(&part.part)?;
        if written.hash() != saved.hash() || written.store.keys() != saved.store.keys() {
            let told = format!("{} does not read back as it was written", self.file.display());
            return Err(BackupError::Differs { told });
        }
        part.publish()?;
        Ok(done(&self.file, &written))
    }

    /// The state of a running cluster, by way of a file beside the one that is to be.
    fn fetched(&self, file: &Path) -> Result<Saved, BackupError> {
        let mut name = file.as_os_str().to_owned();
        name.push(".snapshot");
        let mut fetched = Part::create(Path::new(&name))?;
        let login = self.source.login()?;
        let source = self.source.source(login.as_ref())?;
        let part = fetched.part.clone();
        let fetch = source.fetch(&mut fetched.output, &part, Bar::unless(self.json));
        client::block_on(fetch)?;
        Ok(saved::read(&fetched.part)?)
    }
}

fn done(file: &Path, saved: &Saved) -> Done {
    let digest = saved.digest.map(|digest| hex(&digest)).unwrap_or_default();
    let rows = [
        ("written", file.display().to_string()),
        ("revision", saved.revision.to_string()),
        ("keys", saved.store.keys().to_string()),
        ("size", HumanBytes(saved.bytes).to_string()),
        ("sha256", digest.clone()),
    ];
    let json = json!({
        "file": file,
        "revision": saved.revision,
        "keys": saved.store.keys(),
        "bytes": saved.bytes,
        "sha256": digest,
        "hash": format!("{:016x}", saved.hash()),
    });
    Done { lines: table(&rows), json }
}
