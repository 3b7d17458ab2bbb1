//! A file that somebody saved, whoever made it: of this program, or of etcd.
//!
//! Nothing is believed before the SHA-256 at the end fits. A database that was copied out of etcd's
//! data directory has none; it is read all the same, and [`Saved::digest`] says so.

use crate::etcd_file::{self, EtcdFileError, Taken};
use crate::snapshot::{self, SnapshotError, SnapshotHeader};
use quorate_replica::store::{KvError, Revision, Store};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of a SHA-256.
const DIGEST_BYTES: u64 = 32;
/// What stands before the digest is a multiple of this, here and there.
const ALIGN_BYTES: u64 = 512;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
/// What a snapshot of this program begins with.
const MAGIC: &[u8; 8] = b"quorSNAP";

/// What a file holds.
#[derive(Debug)]
pub struct Saved {
    /// Who made it.
    pub maker: Maker,
    /// The state.
    pub store: Store,
    /// The latest revision that its maker had given. At or above that of the state.
    pub revision: u64,
    /// Length without the digest. Unit: bytes.
    pub bytes: u64,
    /// The SHA-256 that was checked; none if the file has none.
    pub digest: Option<[u8; DIGEST_BYTES as usize]>,
    /// Alarms that were left behind.
    pub alarms: u64,
}

/// Who made a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Maker {
    /// This program.
    Quorate(SnapshotHeader),
    /// etcd.
    Etcd,
}

/// Why a file is not used.
#[derive(Debug)]
pub enum SavedError {
    /// It cannot be read.
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// No snapshot has this length.
    Cut {
        /// Which.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// The digest is that of other bytes.
    Digest {
        /// Which.
        file: PathBuf,
    },
    /// A snapshot of this program that cannot be read.
    Snapshot {
        /// Which.
        file: PathBuf,
        /// Why.
        error: SnapshotError,
    },
    /// Neither of this program nor of etcd.
    Foreign {
        /// Which.
        file: PathBuf,
        /// What it was taken for, and why it is that not.
        error: EtcdFileError,
    },
}

impl fmt::Display for SavedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SavedError::Io { file, error } => write!(f, "{}: {error}", file.display()),
            SavedError::Cut { file, bytes } => write!(
                f,
                "{} is no whole snapshot: {bytes} bytes are not pages and a digest; it was cut off \
                 on the way, or is another kind of file. Copy it again, or save a new one",
                file.display()
            ),
            SavedError::Digest { file } => write!(
                f,
                "{} is damaged: its SHA-256 does not match. Nothing was done with it; copy it \
                 again, or take another snapshot",
                file.display()
            ),
            SavedError::Snapshot { file, error } => write!(f, "{}: {error}", file.display()),
            SavedError::Foreign { file, error } => write!(
                f,
                "{} is neither a snapshot of quorate nor of etcd: {error}",
                file.display()
            ),
        }
    }
}

impl std::error::Error for SavedError {}

/// Reads a file to its end, and the state from it.
///
/// Errors: see [`SavedError`]; never panics.
pub fn read(path: &Path) -> Result<Saved, SavedError> {
    let io = |error| SavedError::Io { file: path.to_owned(), error };
    let mut file = File::open(path).map_err(io)?;
    let len = file.metadata().map_err(io)?.len();
    let mut head = [0; MAGIC.len()];
    let is_ours = len >= head.len() as u64 && file.read_exact(&mut head).is_ok() && head == *MAGIC;
    let has_digest = len % ALIGN_BYTES == DIGEST_BYTES && len > DIGEST_BYTES;
    let has_none = len.is_multiple_of(ALIGN_BYTES) && len > 0 && !is_ours;
    if !has_digest && !has_none {
        return Err(SavedError::Cut { file: path.to_owned(), bytes: len });
    }
    let bytes = if has_digest { len - DIGEST_BYTES } else { len };
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    let digest = match has_digest {
        true => Some(checked(&mut file, bytes, path)?),
        false => None,
    };
    file.seek(SeekFrom::Start(0)).map_err(io)?;
    if is_ours {
        let mut input = BufReader::with_capacity(READ_BYTES, file);
        let read = snapshot::read(&mut input);
        let (header, store) =
            read.map_err(|error| SavedError::Snapshot { file: path.to_owned(), error })?;
        let revision = store.revision().0;
        let alarms = store.alarms().count() as u64;
        let maker = Maker::Quorate(header);
        return Ok(Saved { maker, store, revision, bytes, digest, alarms });
    }
    let taken = etcd_file::read(&file, bytes);
    let Taken { store, revision, alarms } =
        taken.map_err(|error| SavedError::Foreign { file: path.to_owned(), error })?;
    Ok(Saved { maker: Maker::Etcd, store, revision, bytes, digest, alarms })
}

impl Saved {
    /// Hash of the living pairs.
    pub fn hash(&self) -> u64 {
        let hash: Result<u64, KvError> = self.store.hash_kv(Revision(0));
        hash.expect("the latest revision can be read")
    }
}

/// Compares what the first `bytes` hash to with what stands after them.
fn checked(file: &mut File, bytes: u64, path: &Path) -> Result<[u8; 32], SavedError> {
    let io = |error| SavedError::Io { file: path.to_owned(), error };
    let (mut hash, mut left) = (Sha256::new(), bytes);
    let mut chunk = vec![0; READ_BYTES];
    while left > 0 {
        let size = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut chunk[..size]).map_err(io)?;
        hash.update(&chunk[..size]);
        left -= size as u64;
    }
    let mut told = [0; DIGEST_BYTES as usize];
    file.read_exact(&mut told).map_err(io)?;
    let found: [u8; DIGEST_BYTES as usize] = hash.finalize().into();
    if found != told {
        return Err(SavedError::Digest { file: path.to_owned() });
    }
    Ok(found)
}

/// Writes a state as a snapshot of etcd: its database, and the SHA-256 after it. Answers with the
/// length without that.
///
/// Errors: those of the file.
pub fn write_for_etcd(store: &Store, file: &mut File) -> io::Result<u64> {
    let mut out = io::BufWriter::with_capacity(READ_BYTES, &mut *file);
    let bytes = etcd_file::write(store, &mut out)?;
    let _: &mut File = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    let (mut hash, mut left) = (Sha256::new(), bytes);
    let mut chunk = vec![0; READ_BYTES];
    while left > 0 {
        let size = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        file.read_exact(&mut chunk[..size])?;
        hash.update(&chunk[..size]);
        left -= size as u64;
    }
    io::Write::write_all(file, &hash.finalize())?;
    file.sync_all()?;
    Ok(bytes)
}

/// Writes a state as a snapshot of this program, as the `Snapshot` call sends it.
///
/// Errors: those of the writer.
pub fn write(header: SnapshotHeader, store: &Store, out: &mut dyn io::Write) -> io::Result<()> {
    snapshot::write(header, store, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_replica::store::{Command, Put};

    fn store() -> Store {
        let mut store = Store::new();
        for number in 0..40 {
            let (key, value) = (Bytes::from(format!("k{number}")), Bytes::from_static(b"v"));
            store.apply(&Command::Put(Put { key, value, ..Put::default() }));
        }
        store
    }

    #[test]
    fn both_kinds_are_known_and_every_damage_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let (ours, etcds) = (dir.path().join("ours"), dir.path().join("etcds"));
        let store = store();
        let header = SnapshotHeader { cluster: 1, member: 2, term: 3, revision: 41 };
        let mut file = File::create(&ours).expect("a file");
        write(header, &store, &mut file).expect("written");
        let options =
            std::fs::OpenOptions::new().read(true).write(true).create_new(true).open(&etcds);
        write_for_etcd(&store, &mut options.expect("a file")).expect("written");
        for (path, maker) in [(&ours, Maker::Quorate(header)), (&etcds, Maker::Etcd)] {
            let saved = read(path).expect("whole");
            assert_eq!((saved.maker, saved.revision), (maker, 41));
            assert_eq!(Ok(saved.hash()), store.hash_kv(Revision(0)));
            let whole = std::fs::read(path).expect("a file");
            for at in (0..whole.len()).step_by(397).chain(whole.len() - 32..whole.len()) {
                let mut rotten = whole.clone();
                rotten[at] ^= 8;
                let damaged = dir.path().join("damaged");
                std::fs::write(&damaged, rotten).expect("a file");
                assert!(read(&damaged).is_err(), "byte {at}");
            }
            for cut in [0, 1, 31, 32, 512, 544, whole.len() - 512, whole.len() - 1] {
                let damaged = dir.path().join("damaged");
                std::fs::write(&damaged, &whole[..cut]).expect("a file");
                assert!(read(&damaged).is_err(), "cut at {cut}");
            }
        }
        let foreign = dir.path().join("foreign");
        std::fs::write(&foreign, [7; 1_024]).expect("a file");
        let told = read(&foreign).expect_err("neither").to_string();
        assert!(told.contains("is neither a snapshot of quorate nor of etcd"), "{told}");
    }
}
