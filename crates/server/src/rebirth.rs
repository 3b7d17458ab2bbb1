//! A new data directory that begins with a state: how a cluster comes back from a backup.
//!
//! **Problem.** All members are lost, and a copy of the state is somewhere. What is made of it must
//! not be taken for the old cluster: a member of that which still runs, or comes back from a shelf,
//! would bring other entries to the same places of the log. Its clients must not be told of two
//! changes with one revision. And what was there before must not be overwritten.
//!
//! **Idea.** Every member of the new cluster is made from the same state and the same flags, apart
//! from the others. What they begin with is a checkpoint at the first place of an empty log. The
//! ids are derived from the flags and *from the state*, so that all of them agree without talking,
//! and nobody else does:
//!
//! ```text
//!   cluster id   SHA-256("quorate reborn", cluster id of the flags, revision, digest, hash)
//!   member id    as of the flags, salted with that cluster id
//! ```
//!
//! **Guarantees.** *Never over something*: the directory is empty or not there. *All or nothing*:
//! until its last step the directory is called `member.part`, and `serve` does not look at it.
//! *A stranger to the old*: members refuse peers of another cluster id. To begin again from one and
//! the same state is the same cluster; for another one give another `--initial-cluster-token`.

use crate::config::{Config, ConfigError, member_id};
use crate::genesis::Genesis;
use crate::identity::{Identity, IdentityError};
use crate::recover::Home;
use crate::shelf::Shelf;
use crate::url::Url;
use quorate_core::{NodeId, Position};
use quorate_protocols::consensus::raft::Configuration;
use quorate_replica::Checkpoint;
use quorate_replica::members::{Members, Seat};
use quorate_replica::store::{KvError, Revision};
pub use quorate_replica::store::{OldHistory, Store};
use quorate_storage::{CheckpointError, Checkpoints, RealDisk};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Added to the highest revision that is known, unless told otherwise. At ten thousand writes a
/// second the old cluster would have had to write for a day after what was saved.
pub const REVISION_MARGIN: u64 = 1_000_000_000;

/// Where the log of the new cluster begins.
const FIRST: (u64, u64) = (1, 1);

/// How the new cluster goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Beginning {
    /// Its revision. Nothing older than the state.
    pub revision: u64,
    /// What becomes of the revisions before.
    pub history: OldHistory,
}

/// A directory that was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Born {
    /// Its cluster.
    pub cluster: u64,
    /// Its member.
    pub member: u64,
    /// The revision it begins with.
    pub revision: u64,
    /// Keys that live in it.
    pub keys: u64,
    /// Hash of the pairs.
    pub hash: u64,
    /// Hash of all that ever happened to it.
    pub digest: u64,
    /// Keys whose lease the source did not know; they stay, without it.
    pub freed: u64,
}

/// Why no directory was made.
#[derive(Debug)]
pub enum RebirthError {
    /// There is something already.
    NotEmpty {
        /// Where.
        dir: PathBuf,
    },
    /// The flags make no cluster.
    Config(ConfigError),
    /// The new revision would be one of the old ones.
    GoesBack {
        /// Asked for.
        revision: u64,
        /// That of the state.
        state: u64,
    },
    /// The file system refuses.
    Io {
        /// Where.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// The state cannot be written.
    Checkpoints(CheckpointError),
}

impl fmt::Display for RebirthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RebirthError::NotEmpty { dir } => write!(
                f,
                "{} is not empty, and nothing in it was touched: give another --data-dir, or move \
                 what is there out of the way. A member that still has its data needs no backup",
                dir.display()
            ),
            RebirthError::Config(error) => error.fmt(f),
            RebirthError::GoesBack { revision, state } => write!(
                f,
                "revision {revision} is older than the state, which is at {state}: clients would \
                 see revisions a second time; give a larger --bump-revision"
            ),
            RebirthError::Io { path, error } => {
                write!(f, "cannot use {}: {error}; is it there and writable?", path.display())
            }
            RebirthError::Checkpoints(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RebirthError {}

impl From<IdentityError> for RebirthError {
    fn from(error: IdentityError) -> RebirthError {
        match error {
            IdentityError::Io { path, error } => RebirthError::Io { path, error },
            other => RebirthError::Io {
                path: PathBuf::from("identity"),
                error: io::Error::other(other.to_string()),
            },
        }
    }
}

/// Whether a member could be made here. To be asked before a long download, too.
///
/// Errors: [`RebirthError::NotEmpty`], [`RebirthError::Config`], those of the file system.
pub fn check_target(config: &Config) -> Result<(), RebirthError> {
    config.verify_bootstrap().map_err(RebirthError::Config)?;
    [Some(&config.data_dir), config.wal_dir.as_ref()].into_iter().flatten().try_for_each(is_empty)
}

/// Makes the data directory of the member that `config` describes, of a cluster that begins with
/// this state.
///
/// Errors: see [`RebirthError`]; then nothing is left behind.
pub fn create(
    config: &Config,
    mut store: Store,
    beginning: Beginning,
) -> Result<Born, RebirthError> {
    check_target(config)?;
    let Beginning { revision, history } = beginning;
    if revision < store.revision().0 {
        return Err(RebirthError::GoesBack { revision, state: store.revision().0 });
    }
    let freed = store.free_of_lost_leases();
    store.begin_anew(Revision(revision), history);
    let hash = hash_of(&store);
    let cluster = cluster_id(config, &store, hash);
    let (genesis, own) = genesis(config, cluster);
    let part = config.data_dir.join("member.part");
    let made = write(&part, config, &genesis, own, &store);
    let finished = made.and_then(|()| finish(&part, &config.data_dir));
    if let Err(error) = finished {
        let _ = fs::remove_dir_all(&part); // it is of no use, and `serve` does not look at it
        return Err(error);
    }
    let (keys, digest) = (store.keys(), store.digest());
    Ok(Born { cluster, member: own, revision, keys, hash, digest, freed })
}

/// Of the living pairs.
fn hash_of(store: &Store) -> u64 {
    let hash: Result<u64, KvError> = store.hash_kv(Revision(0));
    hash.expect("the latest revision can be read")
}

fn cluster_id(config: &Config, store: &Store, hash: u64) -> u64 {
    let mut sha = Sha256::new();
    sha.update(b"quorate reborn");
    for word in [config.cluster_id(), store.revision().0, store.digest(), hash] {
        sha.update(word.to_le_bytes());
    }
    let digest = sha.finalize();
    u64::from_le_bytes(digest[..8].try_into().expect("eight bytes")).max(1)
}

/// The members of the new cluster, and which of them this one is.
fn genesis(config: &Config, cluster: u64) -> (Genesis, u64) {
    let id = |urls: &[Url]| member_id(&config.initial_cluster_token, urls, cluster);
    let seat =
        |urls: &Vec<Url>| (NodeId(id(urls)), Seat::of(urls.iter().map(Url::to_string).collect()));
    let members = Members::of(config.initial_cluster.values().map(seat));
    (Genesis { cluster, members }, id(&config.initial_advertise_peer_urls))
}

fn write(
    part: &Path,
    config: &Config,
    genesis: &Genesis,
    own: u64,
    store: &Store,
) -> Result<(), RebirthError> {
    let io = |error| RebirthError::Io { path: part.to_owned(), error };
    let _ = fs::remove_dir_all(part); // of an attempt that was cut short
    fs::create_dir_all(part).map_err(io)?;
    let identity = Identity::open(part, genesis.cluster, own)?;
    genesis.write(part).map_err(io)?;
    let home = Home::of(part, config, &identity);
    let checkpoints = Checkpoints::open(RealDisk, &home.checkpoints, &home.identity);
    let shelf = Shelf::new(checkpoints.map_err(RebirthError::Checkpoints)?);
    let checkpoint = Checkpoint {
        position: Position::new(FIRST.0, FIRST.1),
        configuration: Configuration::of(genesis.voters()),
        members: genesis.members.clone(),
        store: store.clone(),
    };
    shelf.write(&checkpoint).map_err(io)
}

/// Gives the directory its name.
fn finish(part: &Path, data_dir: &Path) -> Result<(), RebirthError> {
    let sync = |dir: &Path| File::open(dir).and_then(|dir| dir.sync_all());
    let named = fs::rename(part, data_dir.join("member")).and_then(|()| sync(data_dir));
    named.map_err(|error| RebirthError::Io { path: data_dir.to_owned(), error })
}

fn is_empty(dir: &PathBuf) -> Result<(), RebirthError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(RebirthError::Io { path: dir.clone(), error }),
    };
    for entry in entries {
        let entry = entry.map_err(|error| RebirthError::Io { path: dir.clone(), error })?;
        // What a file system puts there, and what an attempt that was cut short left behind.
        if entry.file_name() != "lost+found" && entry.file_name() != "member.part" {
            return Err(RebirthError::NotEmpty { dir: dir.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::{Start, verify};
    use bytes::Bytes;
    use quorate_replica::store::{Command, Put};
    use std::collections::BTreeMap;

    fn config(dir: &Path, name: &str) -> Config {
        let url = |name: &str| format!("http://{name}:2380").parse::<Url>().expect("a URL");
        let initial_cluster: BTreeMap<String, Vec<Url>> =
            ["a", "b", "c"].map(|name| (name.to_owned(), vec![url(name)])).into();
        Config {
            name: name.to_owned(),
            data_dir: dir.join(name),
            initial_advertise_peer_urls: vec![url(name)],
            initial_cluster,
            ..Config::default()
        }
    }

    fn store(pairs: u64) -> Store {
        let mut store = Store::new();
        for number in 0..pairs {
            let (key, value) = (Bytes::from(format!("k{number}")), Bytes::from_static(b"v"));
            store.apply(&Command::Put(Put { key, value, ..Put::default() }));
        }
        store
    }

    const ANEW: Beginning = Beginning { revision: 5_000, history: OldHistory::Compacted };

    #[test]
    fn members_made_apart_agree_and_a_member_starts_with_the_state() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (config(dir.path(), "a"), config(dir.path(), "b"));
        let born = create(&a, store(9), ANEW).expect("made");
        let other = create(&b, store(9), ANEW).expect("made");
        assert_eq!((born.cluster, born.hash), (other.cluster, other.hash));
        assert_ne!(born.member, other.member);
        assert_ne!(born.cluster, a.cluster_id(), "the old members are strangers");
        assert_ne!(born.member, a.member_id());
        let report = verify(&a.data_dir, None).expect("it can be looked at");
        assert!(report.is_whole(), "{report:?}");
        let Start::Yes { revision, .. } = report.start else { panic!("{report:?}") };
        assert_eq!(revision, 5_000);
        assert_eq!(born.keys, 9);
    }

    #[test]
    fn another_state_or_token_is_another_cluster() {
        let dir = tempfile::tempdir().expect("a directory");
        let made = |sub: &str, token: &str, pairs| {
            let mut config = config(&dir.path().join(sub), "a");
            config.initial_cluster_token = token.to_owned();
            create(&config, store(pairs), ANEW).expect("made").cluster
        };
        let first = made("1", "t", 3);
        assert_eq!(made("2", "t", 3), first);
        assert_ne!(made("3", "u", 3), first);
        assert_ne!(made("4", "t", 4), first);
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_goes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(dir.path(), "a");
        let back = create(&config, store(9), Beginning { revision: 3, ..ANEW });
        assert!(matches!(back, Err(RebirthError::GoesBack { revision: 3, state: 10 })), "{back:?}");
        assert!(!config.data_dir.exists(), "nothing is left behind");
        create(&config, store(9), ANEW).expect("made");
        let twice = create(&config, store(9), ANEW);
        assert!(matches!(twice, Err(RebirthError::NotEmpty { .. })), "{twice:?}");
        let stray = self::config(&dir.path().join("x"), "a");
        fs::create_dir_all(&stray.data_dir).expect("a directory");
        fs::write(stray.data_dir.join("notes"), "mine").expect("a file");
        assert!(matches!(create(&stray, store(1), ANEW), Err(RebirthError::NotEmpty { .. })));
        assert_eq!(fs::read(stray.data_dir.join("notes")).expect("still there"), b"mine");
    }
}
