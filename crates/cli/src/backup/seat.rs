//! The member that is made from a copy: etcd's flags, and how far its cluster leaps.

use super::{BackupError, Done, table};
use crate::serve;
use clap::Args;
use quorate_server::Config;
use quorate_server::rebirth::{self, Beginning, Born, OldHistory, REVISION_MARGIN, Store};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What to say about each of them.
pub(super) const SEAT_HELP: &str = "\
Do this for every member, with the same file and the same --initial-cluster, on its own machine;
then start them with 'quorate serve' and the same flags. The new cluster has another identity than
the old one: old members can not join it. It goes on above every revision that clients can have
seen, and tells watchers of before that what they want is compacted, so that they read anew.
The directory must be empty or not there.";

/// The flags of a new member.
#[derive(Args, Debug)]
pub(super) struct SeatFlags {
    /// Name of the member
    #[arg(long, value_name = "NAME", default_value = "default")]
    name: String,
    /// Its data directory, to be made [default: NAME.etcd]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory of its log, if that is to be apart; empty or not there
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// All members of the new cluster [default: NAME=http://localhost:2380]
    #[arg(long, value_name = "NAME=URL,..")]
    initial_cluster: Option<String>,
    /// Tells clusters apart that are made from one copy with the same addresses
    #[arg(long, value_name = "TOKEN")]
    initial_cluster_token: Option<String>,
    /// The addresses of this member in --initial-cluster [default: http://localhost:2380]
    #[arg(long, value_name = "URL,..")]
    initial_advertise_peer_urls: Option<String>,
    /// Go on so far above the highest revision that is known
    #[arg(long, value_name = "REVISIONS", default_value_t = REVISION_MARGIN)]
    bump_revision: u64,
    /// As it is anyway: all before is compacted (etcd's flag)
    #[arg(long, hide = true)]
    mark_compacted: bool,
    /// Leave the old revisions readable, and let watchers go on where they were
    #[arg(long, conflicts_with = "mark_compacted")]
    keep_history: bool,
}

impl SeatFlags {
    /// The member.
    ///
    /// Errors: the flags describe none, or its directory is taken.
    pub(super) fn config(&self) -> Result<Config, BackupError> {
        let mut words = vec![format!("--name={}", self.name)];
        let mut word = |flag: &str, value: Option<String>| {
            words.extend(value.map(|value| format!("--{flag}={value}")));
        };
        let text = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        word("data-dir", text(&self.data_dir));
        word("wal-dir", text(&self.wal_dir));
        word("initial-cluster", self.initial_cluster.clone());
        word("initial-cluster-token", self.initial_cluster_token.clone());
        word("initial-advertise-peer-urls", self.initial_advertise_peer_urls.clone());
        let none = |_: &str| Err(std::io::ErrorKind::NotFound.into());
        match serve::request(&words, &BTreeMap::new(), none).map_err(BackupError::Seat)? {
            serve::Request::Serve { config, .. } => {
                rebirth::check_target(&config)?;
                Ok(*config)
            }
            serve::Request::Help | serve::Request::Version => unreachable!("nobody asked"),
        }
    }

    /// How the new cluster begins, if the highest revision that is known is this.
    ///
    /// Errors: there is no such number.
    pub(super) fn beginning(&self, highest: u64) -> Result<Beginning, BackupError> {
        // The API has revisions as signed numbers, and some room should be left.
        let revision = highest.checked_add(self.bump_revision).filter(|sum| *sum < 1 << 62);
        let Some(revision) = revision else {
            return Err(BackupError::Usage(format!(
                "--bump-revision {} from {highest} leaves no revisions; give a smaller one",
                self.bump_revision
            )));
        };
        let history = if self.keep_history { OldHistory::Kept } else { OldHistory::Compacted };
        Ok(Beginning { revision, history })
    }

    /// Makes it.
    pub(super) fn create(
        &self,
        config: &Config,
        store: Store,
        highest: u64,
    ) -> Result<Done, BackupError> {
        let state = store.revision().0;
        let born = rebirth::create(config, store, self.beginning(highest)?)?;
        Ok(done(config, &born, state))
    }
}

fn done(config: &Config, born: &Born, state: u64) -> Done {
    let Born { cluster, member, revision, keys, hash, freed, .. } = *born;
    let mut rows = vec![
        ("member", format!("{} ({member:x})", config.name)),
        ("cluster", format!("{cluster:x}, a new one")),
        ("data", config.data_dir.display().to_string()),
        ("state of", format!("revision {state}, {keys} keys, hash {hash:016x}")),
        ("goes on", format!("above revision {revision}")),
    ];
    if freed > 0 {
        rows.push(("freed", format!("{freed} keys, whose lease is not in the copy")));
    }
    let json = json!({
        "name": config.name,
        "data_dir": config.data_dir,
        "cluster_id": format!("{cluster:x}"),
        "member_id": format!("{member:x}"),
        "state_revision": state,
        "revision": revision,
        "keys": keys,
        "hash": format!("{hash:016x}"),
        "freed_keys": freed,
    });
    Done { lines: table(&rows), json }
}
