//! Whose data directory is this?
//!
//! ```text
//!   DIR/member/identity      format, cluster, member, data id, admitted
//!   DIR/member/genesis       the members that the cluster began with
//!   DIR/member/roster        which disk each member has
//!   DIR/member/wal/          the log
//!   DIR/member/checkpoints/  states to start from
//! ```
//!
//! The first three exist twice: see `sealed.rs`. While the state is in doubt there is a `doubt`,
//! too: see `doubt.rs`.

use crate::peers::without_checksum;
use crate::sealed;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the directory's layout and of everything in it.
const FORMAT: u64 = 1;
const FILE: &str = "identity";

/// Who owns a data directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Identity {
    /// The cluster.
    pub(crate) cluster: u64,
    /// The member.
    pub(crate) member: u64,
    /// Drawn at random when the directory was created.
    pub(crate) data: u64,
    /// The member has met a majority with this directory and nobody knew it with another one.
    pub(crate) admitted: bool,
    /// The member was removed from its cluster.
    pub(crate) removed: bool,
}

/// Why a data directory cannot be used.
#[derive(Debug)]
pub enum IdentityError {
    /// The file system refuses.
    Io {
        /// Where.
        path: PathBuf,
        /// How.
        error: io::Error,
    },
    /// It belongs to another cluster or member.
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// (cluster, member) that own it.
        found: (u64, u64),
        /// (cluster, member) that were configured.
        wanted: (u64, u64),
    },
    /// It was written by a newer version.
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The identity file is unreadable or missing beside data.
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        why: &'static str,
    },
    /// The directory holds data of etcd.
    OfEtcd {
        /// The directory.
        dir: PathBuf,
    },
}

impl std::fmt::Display for IdentityError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IdentityError::Io { path, error } => {
                write!(f, "cannot use {}: {error}; is it there and writable?", path.display())
            }
            IdentityError::Foreign { dir, found, wanted } => write!(
                f,
                "{} belongs to member {:x} of cluster {:x}, but this is member {:x} of cluster \
                 {:x}: give another --data-dir, or the --initial-cluster and token it was made \
                 with; if the members have changed since, --initial-cluster-state=existing",
                dir.display(),
                found.1,
                found.0,
                wanted.1,
                wanted.0
            ),
            IdentityError::Newer { dir, found } => write!(
                f,
                "{} was written in format {found}; this version reads up to {FORMAT}: start the \
                 newer version again",
                dir.display()
            ),
            IdentityError::Damaged { dir, why } => {
                write!(f, "{}: {why}; restore the file or replace this member", dir.display())
            }
            IdentityError::OfEtcd { dir } => write!(
                f,
                "{} holds data of etcd, which is not read: give another --data-dir and copy the \
                 keys over",
                dir.display()
            ),
        }
    }
}

impl std::error::Error for IdentityError {}

impl Identity {
    /// Reads the identity of `DIR/member`. None: there is neither an identity nor data.
    pub(crate) fn read(dir: &Path) -> Result<Option<Identity>, IdentityError> {
        let file = dir.join(FILE);
        // A newer version writes a copy of its own format, too.
        match sealed::read(&file, |text| Identity::parse(text, dir).is_ok()) {
            Ok(text) => Identity::parse(&text, dir).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if dir.join("snap").exists() {
                    return Err(IdentityError::OfEtcd { dir: dir.to_owned() });
                }
                if dir.join("wal").exists() {
                    let why = "there is a log but no identity file";
                    return Err(IdentityError::Damaged { dir: dir.to_owned(), why });
                }
                Ok(None)
            }
            Err(error) => Err(IdentityError::Io { path: file, error }),
        }
    }

    /// It is another's than (cluster, member).
    pub(crate) fn foreign(&self, dir: &Path, wanted: (u64, u64)) -> IdentityError {
        let found = (self.cluster, self.member);
        IdentityError::Foreign { dir: dir.to_owned(), found, wanted }
    }

    /// Reads the identity of `DIR/member`, or creates directory and identity if there is neither.
    pub(crate) fn open(dir: &Path, cluster: u64, member: u64) -> Result<Identity, IdentityError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |error| IdentityError::Io { path, error }
        };
        fs::create_dir_all(dir).map_err(io(dir))?;
        let file = dir.join(FILE);
        let identity = match Identity::read(dir)? {
            Some(identity) => identity,
            None => {
                let data = random().map_err(io(&file))?;
                let (admitted, removed) = (false, false);
                let identity = Identity { cluster, member, data, admitted, removed };
                identity.write(dir).map_err(io(&file))?;
                identity
            }
        };
        match (identity.cluster, identity.member) == (cluster, member) {
            true => Ok(identity),
            false => Err(identity.foreign(dir, (cluster, member))),
        }
    }

    /// Notes that the cluster took this member in with this directory.
    pub(crate) fn admit(&mut self, dir: &Path) -> Result<(), IdentityError> {
        self.admitted = true;
        self.write(dir).map_err(|error| IdentityError::Io { path: dir.join(FILE), error })
    }

    /// Notes that the cluster has removed this member.
    pub(crate) fn bury(&mut self, dir: &Path) -> Result<(), IdentityError> {
        self.removed = true;
        self.write(dir).map_err(|error| IdentityError::Io { path: dir.join(FILE), error })
    }

    fn write(&self, dir: &Path) -> io::Result<()> {
        let Identity { cluster, member, data, admitted, removed } = self;
        let admitted = if *admitted { "yes" } else { "no" };
        let removed = if *removed { "removed yes\n" } else { "" };
        let text = format!(
            "format {FORMAT}\ncluster {cluster:016x}\nmember {member:016x}\ndata {data:016x}\n\
             admitted {admitted}\n{removed}"
        );
        sealed::write(&dir.join(FILE), &text)
    }

    pub(crate) fn parse(text: &str, dir: &Path) -> Result<Identity, IdentityError> {
        let damaged =
            || IdentityError::Damaged { dir: dir.to_owned(), why: "the identity file is damaged" };
        let word =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let hex = |name| word(name).and_then(|word| u64::from_str_radix(word, 16).ok());
        let format = word("format").and_then(|word| word.parse::<u64>().ok());
        let found = format.ok_or_else(damaged)?;
        if found > FORMAT {
            return Err(IdentityError::Newer { dir: dir.to_owned(), found });
        }
        // After the format, which a newer version may seal in another way.
        without_checksum(text).ok_or_else(damaged)?;
        Ok(Identity {
            cluster: hex("cluster").ok_or_else(damaged)?,
            member: hex("member").ok_or_else(damaged)?,
            data: hex("data").ok_or_else(damaged)?,
            admitted: match word("admitted") {
                Some("yes") => true,
                Some("no") => false,
                _ => return Err(damaged()),
            },
            removed: word("removed") == Some("yes"),
        })
    }
}

/// Sixty-four bits of the operating system's randomness; never 0.
pub(crate) fn random() -> io::Result<u64> {
    loop {
        let mut bytes = [0; 8];
        rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
        match u64::from_le_bytes(bytes) {
            0 => {}
            number => return Ok(number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_stays_with_its_member() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut made = Identity::open(dir.path(), 1, 2).expect("a new directory");
        assert!(!made.admitted);
        made.admit(dir.path()).expect("writable");
        assert_eq!(Identity::open(dir.path(), 1, 2).expect("the same"), made);
        let foreign = Identity::open(dir.path(), 1, 3);
        assert!(matches!(foreign, Err(IdentityError::Foreign { found: (1, 2), .. })));
    }

    #[test]
    fn a_flipped_bit_makes_no_other_identity() {
        let dir = tempfile::tempdir().expect("a directory");
        Identity::open(dir.path(), 1, 2).expect("a new directory");
        let good = fs::read(dir.path().join(FILE)).expect("an identity");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.path().join(FILE), &bad).expect("written");
            Identity::open(dir.path(), 1, 2).expect("there is a copy");
            assert_eq!(fs::read(dir.path().join(FILE)).expect("written anew"), good);
            for file in [dir.path().join(FILE), sealed::copy_of(&dir.path().join(FILE))] {
                fs::write(file, &bad).expect("written");
            }
            assert!(Identity::open(dir.path(), 1, 2).is_err(), "bit {bit} went unnoticed");
            for file in [dir.path().join(FILE), sealed::copy_of(&dir.path().join(FILE))] {
                fs::write(file, &good).expect("written");
            }
        }
    }

    #[test]
    fn damage_a_newer_format_and_etcds_data_are_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join(FILE), "format 2\n").expect("written");
        let newer = Identity::open(dir.path(), 1, 2);
        assert!(matches!(newer, Err(IdentityError::Newer { found: 2, .. })));
        fs::write(dir.path().join(FILE), "format 1\ncluster 1\nmember 2\n").expect("written");
        assert!(matches!(Identity::open(dir.path(), 1, 2), Err(IdentityError::Damaged { .. })));
        fs::remove_file(dir.path().join(FILE)).expect("removed");
        fs::create_dir(dir.path().join("wal")).expect("made");
        assert!(matches!(Identity::open(dir.path(), 1, 2), Err(IdentityError::Damaged { .. })));
        fs::create_dir(dir.path().join("snap")).expect("made");
        assert!(matches!(Identity::open(dir.path(), 1, 2), Err(IdentityError::OfEtcd { .. })));
    }
}
