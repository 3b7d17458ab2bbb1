//! What a test does to a member's directory while the member is down.

use std::fs;
use std::path::{Path, PathBuf};

/// All files below `dir`, sorted by path, with their sizes in bytes.
pub(crate) fn files_below(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        // A running member removes files while we look.
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => pending.push(entry.path()),
                Ok(meta) => found.push((entry.path(), meta.len())),
                Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

/// Sum of the sizes of all files below `dir`. Unit: bytes.
pub(crate) fn bytes_below(dir: &Path) -> u64 {
    files_below(dir).iter().map(|(_, bytes)| bytes).sum()
}

/// Inverts one bit at `offset`.
pub(crate) fn flip_bit(file: &Path, offset: u64) {
    let mut bytes = fs::read(file).expect("a file to damage");
    let at = usize::try_from(offset).expect("an offset");
    assert!(at < bytes.len(), "{} has {} bytes", file.display(), bytes.len());
    bytes[at] ^= 0x10;
    fs::write(file, bytes).expect("the damage");
}

/// Offset of the last occurrence of `needle`: tests aim at data, not at preallocated zeros.
pub(crate) fn find_last(file: &Path, needle: &[u8]) -> Option<u64> {
    let bytes = fs::read(file).expect("a file to search");
    bytes.windows(needle.len()).rposition(|window| window == needle).map(|at| at as u64)
}

/// Length without the zeros at the end, which are preallocated room.
pub(crate) fn data_end(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Copies a directory tree.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    for (file, _) in files_below(from) {
        let target = to.join(file.strip_prefix(from).expect("a file below"));
        fs::create_dir_all(target.parent().expect("a parent")).expect("a directory");
        fs::copy(&file, target).expect("a copy");
    }
}
