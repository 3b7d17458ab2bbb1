//! A member whose state was found to differ from a quorum's, on its way back.
//!
//! **Problem.** Such a member serves nothing. Its log and its votes are good, and synced; what is
//! wrong is what it made of them, in memory, and perhaps in the checkpoints that it took since. If
//! it is started anew from one of those, it serves wrong data until its digest is compared.
//!
//! **Idea.** It writes down that it is in doubt, and starts anew (`quorate serve` replaces its own
//! process): log and votes stay where they are, and everything in memory is built again. What is
//! written down makes that start, and every one after it, go this way:
//!
//! 1. checkpoints that are newer than the last entry at which a quorum shared its state are taken
//!    out of use; at a second attempt all of them are;
//! 2. the replica is built from what is left and the log, or fetches the leader's checkpoint if the
//!    log does not reach back to the beginning;
//! 3. it stays fenced until a quorum is seen to share its state where it had gone wrong. Then it
//!    serves, and what was written down is removed.
//!
//! **Bound.** After [`ATTEMPTS_MAX`] starts it stays as it is, fenced, for whoever looks into it:
//! then it is not memory that is wrong. Where no quorum agrees nobody is in doubt, but in a
//! dispute, which no member can settle.
//!
//! ```text
//!   DIR/member/doubt     since ENTRY / agreed ENTRY / attempt NUMBER, with a checksum and a copy
//! ```

use crate::peers::without_checksum;
use crate::recover::{Home, RecoverError};
use crate::sealed;
use quorate_core::Index;
use quorate_storage::{Checkpoints, Disk};
use std::fs;
use std::io;
use std::path::Path;

const FILE: &str = "doubt";

/// So often a member starts anew because its state is wrong.
pub(crate) const ATTEMPTS_MAX: u64 = 3;

/// What is known of a state that is in doubt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Doubt {
    /// Where it was seen to differ.
    pub(crate) since: Index,
    /// Up to here a quorum shared it.
    pub(crate) agreed: Index,
    /// The start that this is for, from 1.
    pub(crate) attempt: u64,
}

impl Doubt {
    /// What is written down in `DIR/member`. None: nothing is in doubt. What cannot be read puts
    /// everything in doubt.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Doubt>> {
        match sealed::read(&dir.join(FILE), |text| without_checksum(text).is_some()) {
            Ok(text) => {
                let everything = Doubt { since: Index(0), agreed: Index(0), attempt: 2 };
                Ok(Some(parse(&text).unwrap_or(everything)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it down, durably.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let Doubt { since, agreed, attempt } = self;
        let text = format!("since {}\nagreed {}\nattempt {attempt}\n", since.0, agreed.0);
        sealed::write(&dir.join(FILE), &text)
    }

    /// The doubt is over.
    pub(crate) fn clear(dir: &Path) -> io::Result<()> {
        for file in [dir.join(FILE), sealed::copy_of(&dir.join(FILE))] {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::File::open(dir)?.sync_all()
    }

    /// What follows if the state is seen to differ at `since`, in a life that began with `before`.
    /// None: it was tried often enough.
    pub(crate) fn next(before: Option<Doubt>, since: Index, agreed: Index) -> Option<Doubt> {
        let attempt = before.map_or(1, |before| before.attempt + 1);
        (attempt <= ATTEMPTS_MAX).then_some(Doubt { since, agreed, attempt })
    }

    /// Takes the checkpoints out of use that may hold what is wrong. To be called before they are
    /// opened.
    ///
    /// Errors: the checkpoints cannot be used.
    pub(crate) fn discard<D: Disk>(&self, disk: D, home: &Home) -> Result<(), RecoverError> {
        let checkpoints = Checkpoints::open(disk, &home.checkpoints, &home.identity)?;
        let agreed = if self.attempt > 1 { Index(0) } else { self.agreed };
        for position in checkpoints.positions()? {
            if position.index > agreed {
                tracing::warn!(%position, "a checkpoint may hold a wrong state: set it aside");
                checkpoints.set_aside(position)?;
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<Doubt> {
    let mut lines = without_checksum(text)?.lines();
    let mut number = |name: &str| lines.next()?.strip_prefix(name)?.trim().parse::<u64>().ok();
    let (since, agreed) = (Index(number("since ")?), Index(number("agreed ")?));
    Some(Doubt { since, agreed, attempt: number("attempt ")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_remembered_until_it_is_over() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Doubt::read(dir.path()).expect("readable"), None);
        let first = Doubt::next(None, Index(96), Index(80)).expect("a first attempt");
        first.write(dir.path()).expect("written");
        assert_eq!(Doubt::read(dir.path()).expect("readable"), Some(first));
        fs::write(dir.path().join(FILE), "nonsense").expect("written");
        assert_eq!(Doubt::read(dir.path()).expect("readable"), Some(first), "by its copy");
        for file in [dir.path().join(FILE), sealed::copy_of(&dir.path().join(FILE))] {
            fs::write(file, "nonsense").expect("written");
        }
        let all = Doubt::read(dir.path()).expect("readable").expect("in doubt");
        assert_eq!((all.agreed, all.attempt), (Index(0), 2));
        Doubt::clear(dir.path()).expect("removed");
        assert_eq!(Doubt::read(dir.path()).expect("readable"), None);
    }

    #[test]
    fn it_is_tried_so_often() {
        let mut before = None;
        for attempt in 1..=ATTEMPTS_MAX {
            let next = Doubt::next(before, Index(16), Index(0)).expect("again");
            assert_eq!(next.attempt, attempt);
            before = Some(next);
        }
        assert_eq!(Doubt::next(before, Index(16), Index(0)), None);
    }
}
