//! Which disk each member has: what keeps a member that lost its disk from being trusted.
//!
//! A member that comes back with an empty directory has forgotten its votes and the entries that it
//! acknowledged; under its old name it would break promises it does not know of. So every data
//! directory is born with a random *data id*, members tell each other theirs in the first frame of
//! every connection and write down what they hear **before** they take a message. Whoever shows up
//! with another data id under a known name is refused.
//!
//! Writing it down takes a sync of the disk, so whoever meets a member does it where waiting is
//! allowed; meanwhile the table as it was can be read without waiting.
//!
//! The table also travels: a member tells what it knows of the others, so that the news of a data
//! id reaches members that have not met its owner yet.

use crate::sealed;
use quorate_core::NodeId;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

const FILE: &str = "roster";

/// A member shows up with another disk than it had.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DiskLost {
    /// The member.
    pub member: NodeId,
    /// The data id that it had.
    pub known: u64,
    /// The one it presents now.
    pub presented: u64,
}

impl std::fmt::Display for DiskLost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "member {} is known with data id {:016x} but comes with {:016x}: it lost its disk, and \
             with it its votes and acknowledged entries. Bring its old data directory back, or \
             give its place to a new member: 'quorate member replace {:x} NAME PEER_URLS'",
            self.member, self.known, self.presented, self.member.0
        )
    }
}

impl std::error::Error for DiskLost {}

impl DiskLost {
    /// The same for whoever presents it, which may be an impostor: it is not told the data id that
    /// is known.
    pub(crate) fn told_to_the_caller(self) -> String {
        format!(
            "member {} is known with another data id than {:016x}: it lost its disk, and with it \
             its votes and acknowledged entries. Bring its old data directory back, or give its \
             place to a new member: 'quorate member replace {:x} NAME PEER_URLS'",
            self.member, self.presented, self.member.0
        )
    }
}

/// The known data ids, on disk.
#[derive(Debug)]
pub(crate) struct Roster {
    path: PathBuf,
    me: NodeId,
    /// What is on disk. Held for moments only.
    known: Mutex<BTreeMap<u64, u64>>,
    /// Held by the one who writes, from looking at what is known until the new table is durable.
    writing: Mutex<()>,
}

impl Roster {
    /// Reads the roster of a data directory; a new one knows only ourselves.
    pub(crate) fn open(dir: &Path, me: NodeId, data: u64) -> io::Result<Roster> {
        let path = dir.join(FILE);
        let mut known = match sealed::read(&path, |text| parse(text).is_ok()) {
            Ok(text) => parse(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(error),
        };
        known.insert(me.0, data);
        Ok(Roster { path, me, known: Mutex::new(known), writing: Mutex::new(()) })
    }

    /// All that is known: (member, data).
    pub(crate) fn known(&self) -> Vec<(u64, u64)> {
        self.lock().iter().map(|(member, data)| (*member, *data)).collect()
    }

    /// Forgets the disks of those who never return. Waits for the disk.
    pub(crate) fn forget(&self, is_gone: impl Fn(NodeId) -> bool) -> io::Result<()> {
        let _writing = self.begin();
        let mut next = self.lock().clone();
        let before = next.len();
        next.retain(|member, _| *member == self.me.0 || !is_gone(NodeId(*member)));
        if next.len() < before { self.write(next) } else { Ok(()) }
    }

    /// Takes in that `member` presents `data`, durably before it returns. Waits for the disk.
    ///
    /// Errors: the inner one if another data id is known for it; the outer one if the roster could
    /// not be written, in which case the member must not be listened to either.
    pub(crate) fn meet(&self, member: NodeId, data: u64) -> io::Result<Result<(), DiskLost>> {
        let _writing = self.begin();
        if let Err(lost) = self.check(member, data) {
            return Ok(Err(lost));
        }
        let mut next = self.lock().clone();
        if next.insert(member.0, data).is_some() {
            return Ok(Ok(()));
        }
        self.write(next)?;
        Ok(Ok(()))
    }

    /// Whether `member` may present `data`, as far as is known.
    ///
    /// Errors: another data id is known for it.
    pub(crate) fn check(&self, member: NodeId, data: u64) -> Result<(), DiskLost> {
        match self.lock().get(&member.0) {
            Some(known) if *known != data => {
                Err(DiskLost { member, known: *known, presented: data })
            }
            _ => Ok(()),
        }
    }

    /// Takes in what a peer knows. What it says of a third member is believed only if we know
    /// nothing yet. Waits for the disk.
    ///
    /// Errors: the inner one if the peer remembers *us* with another disk.
    pub(crate) fn hear(&self, rumours: &[(u64, u64)]) -> io::Result<Result<(), DiskLost>> {
        let _writing = self.begin();
        let mut next = self.lock().clone();
        let mine = next[&self.me.0];
        if let Some((_, theirs)) = rumours.iter().find(|(m, d)| *m == self.me.0 && *d != mine) {
            return Ok(Err(DiskLost { member: self.me, known: *theirs, presented: mine }));
        }
        let known = next.len();
        for (member, data) in rumours {
            next.entry(*member).or_insert(*data);
        }
        if next.len() > known {
            self.write(next)?;
        }
        Ok(Ok(()))
    }

    fn write(&self, next: BTreeMap<u64, u64>) -> io::Result<()> {
        let lines = next.iter().map(|(member, data)| format!("{member:016x} {data:016x}\n"));
        sealed::write(&self.path, &lines.collect::<String>())?;
        *self.lock() = next;
        Ok(())
    }

    /// Writes what is damaged of it anew. Waits for the disk.
    pub(crate) fn repair(&self) -> io::Result<()> {
        let _writing = self.begin();
        sealed::repair(&self.path)
    }

    fn begin(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u64>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A bit that flipped in here would tell a sound peer that it lost its disk, and stop it.
fn parse(text: &str) -> io::Result<BTreeMap<u64, u64>> {
    let line = |line: &str| {
        let (member, data) = line.split_once(' ')?;
        Some((u64::from_str_radix(member, 16).ok()?, u64::from_str_radix(data, 16).ok()?))
    };
    let whole = without_checksum(text);
    let lines = whole.and_then(|text| text.lines().map(line).collect::<Option<BTreeMap<_, _>>>());
    lines.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the roster is damaged"))
}

/// The text with a last line which says that it is whole.
pub(crate) fn with_checksum(text: &str) -> String {
    format!("{text}crc32c {:08x}\n", crc32c::crc32c(text.as_bytes()))
}

/// What [`with_checksum`] was given. None: it has changed since.
pub(crate) fn without_checksum(text: &str) -> Option<&str> {
    let start = text.strip_suffix('\n')?.rfind('\n').map_or(0, |end| end + 1);
    let (whole, _) = text.split_at_checked(start)?;
    (with_checksum(whole) == text).then_some(whole)
}

/// Replaces a small file so that after a crash it is either the old or the new one.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    let dir = path.parent().expect("a file in a directory");
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: NodeId = NodeId(1);
    const PEER: NodeId = NodeId(2);

    #[test]
    fn an_impostor_is_not_told_what_would_make_it_believed() {
        let dir = tempfile::tempdir().expect("a directory");
        let roster = Roster::open(dir.path(), ME, 10).expect("a new roster");
        roster.meet(PEER, 0xfeed).expect("written").expect("nothing is known of it");
        let lost = roster.check(PEER, 0xbad).expect_err("another data id");
        assert!(lost.to_string().contains("feed"), "the operator sees both");
        assert!(!lost.told_to_the_caller().contains("feed"));
        assert_eq!(roster.check(PEER, 0xfeed), Ok(()));
        assert_eq!(roster.check(NodeId(3), 1), Ok(()), "nothing is known of it");
    }

    #[test]
    fn a_member_with_another_disk_is_refused_even_after_our_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let roster = Roster::open(dir.path(), ME, 10).expect("a new roster");
        assert_eq!(roster.meet(PEER, 20).expect("written"), Ok(()));
        drop(roster);
        let roster = Roster::open(dir.path(), ME, 10).expect("the same roster");
        assert_eq!(roster.meet(PEER, 20).expect("known"), Ok(()));
        let lost = DiskLost { member: PEER, known: 20, presented: 21 };
        assert_eq!(roster.meet(PEER, 21).expect("known"), Err(lost));
    }

    #[test]
    fn we_learn_from_others_that_we_lost_our_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let roster = Roster::open(dir.path(), ME, 10).expect("a new roster");
        assert_eq!(roster.hear(&[(1, 10), (3, 30)]).expect("written"), Ok(()));
        assert_eq!(roster.known(), [(1, 10), (3, 30)]);
        let lost = DiskLost { member: ME, known: 11, presented: 10 };
        assert_eq!(roster.hear(&[(1, 11)]).expect("no write needed"), Err(lost));
    }

    #[test]
    fn a_flipped_bit_accuses_nobody() {
        let dir = tempfile::tempdir().expect("a directory");
        let roster = Roster::open(dir.path(), ME, 10).expect("a new roster");
        roster.meet(PEER, 20).expect("written").expect("new");
        let good = fs::read(dir.path().join(FILE)).expect("a roster");
        fs::remove_file(sealed::copy_of(&dir.path().join(FILE))).expect("a copy");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.path().join(FILE), bad).expect("written");
            assert!(Roster::open(dir.path(), ME, 10).is_err(), "bit {bit} went unnoticed");
        }
        for cut in 0..good.len() {
            fs::write(dir.path().join(FILE), &good[..cut]).expect("written");
            assert!(Roster::open(dir.path(), ME, 10).is_err(), "a cut at {cut} went unnoticed");
        }
    }

    #[test]
    fn what_is_known_can_be_read_while_the_disk_keeps_a_writer_waiting() {
        let dir = tempfile::tempdir().expect("a directory");
        let roster = Roster::open(dir.path(), ME, 10).expect("a new roster");
        let writing = roster.begin();
        std::thread::scope(|scope| {
            let meeting = scope.spawn(|| roster.meet(PEER, 20));
            assert_eq!(roster.known(), [(1, 10)], "nothing that is not durable");
            drop(writing);
            assert_eq!(meeting.join().expect("no panic").expect("written"), Ok(()));
        });
        assert_eq!(roster.known(), [(1, 10), (2, 20)]);
    }

    #[test]
    fn a_rumour_never_replaces_what_we_saw() {
        let dir = tempfile::tempdir().expect("a directory");
        let roster = Roster::open(dir.path(), ME, 10).expect("a new roster");
        roster.meet(PEER, 20).expect("written").expect("new");
        roster.hear(&[(2, 99)]).expect("nothing to write").expect("not about us");
        assert_eq!(roster.meet(PEER, 20).expect("known"), Ok(()));
    }
}
