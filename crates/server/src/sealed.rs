//! Small files of a member that exist twice, so that a byte that turns costs nothing.
//!
//! The identity, the members that the cluster began with, and the roster are some lines of text
//! with a checksum. None of them can be asked of a peer: they say who we are. So each has a copy
//! beside it, and who finds one of the two damaged writes it anew from the other.
//!
//! ```text
//!   DIR/member/identity          read first
//!   DIR/member/identity.copy     written first, so it is never older
//! ```
//!
//! A directory of an older version has no copies; they are made at its next start.

use crate::peers::{replace_file, with_checksum, without_checksum};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The files of a member's directory that exist twice.
pub(crate) const FILES: [&str; 3] = ["identity", "genesis", "roster"];

/// The copy of a file.
pub(crate) fn copy_of(path: &Path) -> PathBuf {
    path.with_extension("copy")
}

/// Replaces a file and its copy by this text, durably, with a checksum.
pub(crate) fn write(path: &Path, text: &str) -> io::Result<()> {
    let sealed = with_checksum(text);
    replace_file(&copy_of(path), sealed.as_bytes())?;
    replace_file(path, sealed.as_bytes())
}

/// The text of a file with its checksum, or of its copy if `is_whole` says that the file is
/// damaged and the copy is not; then the file is written anew. The text as it is if neither is.
///
/// Errors: those of the file system; `NotFound` if the file is not there, whatever of its copy.
pub(crate) fn read(path: &Path, is_whole: impl Fn(&str) -> bool) -> io::Result<String> {
    let text = lossy(path)?;
    if is_whole(&text) {
        return Ok(text);
    }
    match lossy(&copy_of(path)) {
        Ok(copy) if without_checksum(&copy).is_some() && is_whole(&copy) => {
            tracing::error!(file = %path.display(), "the file is damaged: restored from its copy");
            replace_file(path, copy.as_bytes())?;
            Ok(copy)
        }
        _ => Ok(text),
    }
}

/// What is said of a file and its copy.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Pair {
    /// Both are whole and the same, or neither is there.
    Whole,
    /// The file is damaged.
    FileDamaged,
    /// The copy is damaged, another one, or not there.
    CopyDamaged,
    /// Both are damaged.
    BothDamaged,
}

/// Looks at a file and its copy. Changes nothing.
pub(crate) fn look(path: &Path) -> io::Result<Pair> {
    let text = match lossy(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pair::Whole),
        Err(error) => return Err(error),
    };
    let copy = lossy(&copy_of(path)).ok().filter(|copy| without_checksum(copy).is_some());
    Ok(match (without_checksum(&text).is_some(), copy) {
        (true, Some(copy)) if copy == text => Pair::Whole,
        (true, _) => Pair::CopyDamaged,
        (false, Some(_)) => Pair::FileDamaged,
        (false, None) => Pair::BothDamaged,
    })
}

/// Writes the damaged one anew from the other. What [`Pair::BothDamaged`] says stays as it is.
///
/// Errors: those of the file system.
pub(crate) fn repair(path: &Path) -> io::Result<()> {
    match look(path)? {
        Pair::Whole | Pair::BothDamaged => Ok(()),
        Pair::FileDamaged => replace_file(path, &fs::read(copy_of(path))?),
        Pair::CopyDamaged => replace_file(&copy_of(path), &fs::read(path)?),
    }
}

/// A byte that turned may make bytes that are no text.
fn lossy(path: &Path) -> io::Result<String> {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> bool {
        without_checksum(text).is_some()
    }

    #[test]
    fn no_byte_that_turns_in_either_costs_anything() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("roster");
        write(&path, "a line\nand another\n").expect("written");
        let good = fs::read(&path).expect("a file");
        for (file, damaged) in
            [(path.clone(), Pair::FileDamaged), (copy_of(&path), Pair::CopyDamaged)]
        {
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x90;
                fs::write(&file, &bad).expect("the damage");
                assert_eq!(look(&path).expect("readable"), damaged, "byte {at}");
                if at % 2 == 0 {
                    let text = read(&path, whole).expect("readable");
                    assert_eq!(text.as_bytes(), good, "byte {at}");
                }
                repair(&path).expect("written");
                assert_eq!(look(&path).expect("readable"), Pair::Whole, "byte {at}");
                assert_eq!(fs::read(&file).expect("a file"), good);
            }
        }
    }

    #[test]
    fn without_a_copy_damage_stays_damage_and_a_whole_file_gets_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("genesis");
        assert_eq!(look(&path).expect("readable"), Pair::Whole, "there is none");
        let sealed = with_checksum("of an older version\n");
        fs::write(&path, &sealed).expect("written");
        repair(&path).expect("written");
        assert_eq!(look(&path).expect("readable"), Pair::Whole);
        fs::remove_file(copy_of(&path)).expect("there");
        fs::write(&path, "x".to_owned() + &sealed).expect("written");
        assert_eq!(look(&path).expect("readable"), Pair::BothDamaged);
        assert_eq!(read(&path, whole).expect("readable"), "x".to_owned() + &sealed);
    }
}
