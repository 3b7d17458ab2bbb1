//! The disk of the operating system as it would be: it is read, and never changed.
//!
//! Opening a log repairs it: a torn tail is cut off, what is unproven is written again. Who only
//! wants to know what would be found must not do that to the directory. Here every change stays in
//! memory, block by block, above files that are opened for reading alone; so the very code that
//! opens logs and checkpoints can be run on a directory that is somebody's evidence, a backup, or
//! mounted read-only.
//!
//! Bound: what is written, which for a log is its last segment at most.

use super::{Disk, DiskFile, Fill};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is copied when a byte of it changes. Unit: bytes.
const BLOCK_BYTES: usize = 4096;

/// Files of the operating system, with changes that nobody else sees. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Shadow {
    /// What was opened or made by its name; none if the name was removed.
    names: Arc<Mutex<BTreeMap<PathBuf, Option<ShadowFile>>>>,
}

/// An open file. Clones are the same file.
#[derive(Clone, Debug)]
pub struct ShadowFile(Arc<Mutex<Layers>>);

/// Nothing is claimed: nobody is disturbed.
#[derive(Debug)]
pub struct ShadowLock;

#[derive(Debug)]
struct Layers {
    below: Option<File>,
    /// So much of the file below still shows. Unit: bytes.
    shows: u64,
    size: u64,
    above: BTreeMap<u64, Box<[u8; BLOCK_BYTES]>>,
}

impl Shadow {
    /// The disk as it is.
    pub fn new() -> Shadow {
        Shadow::default()
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<PathBuf, Option<ShadowFile>>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Disk for Shadow {
    type File = ShadowFile;
    type Lock = ShadowLock;

    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _: &Path) -> io::Result<ShadowLock> {
        Ok(ShadowLock)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = BTreeMap::new();
        let below = match fs::read_dir(dir) {
            Ok(entries) => entries.collect::<io::Result<Vec<_>>>()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        for entry in below {
            names.extend(entry.file_name().into_string().ok().map(|name| (name, true)));
        }
        for (path, file) in self.names().iter().filter(|(path, _)| path.parent() == Some(dir)) {
            let name = path.file_name().and_then(|name| name.to_str());
            names.extend(name.map(|name| (name.to_owned(), file.is_some())));
        }
        Ok(names.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect())
    }

    fn create(&self, path: &Path) -> io::Result<ShadowFile> {
        match self.open(path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = ShadowFile::over(None, 0);
                self.names().insert(path.to_owned(), Some(file.clone()));
                Ok(file)
            }
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path) -> io::Result<ShadowFile> {
        let mut names = self.names();
        if let Some(known) = names.get(path) {
            return known.clone().ok_or_else(|| io::ErrorKind::NotFound.into());
        }
        let below = File::open(path)?;
        let size = below.metadata()?.len();
        let file = ShadowFile::over(Some(below), size);
        names.insert(path.to_owned(), Some(file.clone()));
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let file = self.open(from)?;
        let mut names = self.names();
        names.insert(from.to_owned(), None);
        names.insert(to.to_owned(), Some(file));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.open(path)?;
        self.names().insert(path.to_owned(), None);
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

impl ShadowFile {
    fn over(below: Option<File>, size: u64) -> ShadowFile {
        let above = BTreeMap::new();
        ShadowFile(Arc::new(Mutex::new(Layers { below, shows: size, size, above })))
    }

    fn layers(&self) -> MutexGuard<'_, Layers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layers {
    /// Reads what lies within one block.
    fn read_within(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let (block, at) = (offset / BLOCK_BYTES as u64, (offset % BLOCK_BYTES as u64) as usize);
        if let Some(block) = self.above.get(&block) {
            into.copy_from_slice(&block[at..at + into.len()]);
            return Ok(());
        }
        into.fill(0);
        let Some(below) = &self.below else { return Ok(()) };
        let shown = self.shows.saturating_sub(offset).min(into.len() as u64) as usize;
        below.read_exact_at(&mut into[..shown], offset)
    }

    /// Writes what lies within one block.
    fn write_within(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (number, at) = (offset / BLOCK_BYTES as u64, (offset % BLOCK_BYTES as u64) as usize);
        if !self.above.contains_key(&number) {
            let mut block = Box::new([0; BLOCK_BYTES]);
            self.read_within(number * BLOCK_BYTES as u64, &mut block[..])?;
            self.above.insert(number, block);
        }
        let block = self.above.get_mut(&number).expect("made above");
        block[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

/// The pieces of `length` bytes at `offset` that lie within one block each, as ranges of them.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let begun = ((offset + from as u64) % BLOCK_BYTES as u64) as usize;
        let to = length.min(from + BLOCK_BYTES - begun);
        let piece = (from < length).then_some(from..to);
        from = to;
        piece
    })
}

impl DiskFile for ShadowFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let layers = self.layers();
        let length = layers.size.saturating_sub(offset).min(into.len() as u64) as usize;
        for piece in pieces(offset, length) {
            layers.read_within(offset + piece.start as u64, &mut into[piece])?;
        }
        Ok(length)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut layers = self.layers();
        for piece in pieces(offset, bytes.len()) {
            layers.write_within(offset + piece.start as u64, &bytes[piece])?;
        }
        layers.size = layers.size.max(offset + bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.layers().size)
    }

    fn preallocate(&self, size: u64, _: Fill) -> io::Result<()> {
        let mut layers = self.layers();
        layers.size = layers.size.max(size);
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut layers = self.layers();
        let last = size / BLOCK_BYTES as u64;
        layers.above.retain(|number, _| *number <= last);
        // What is cut off and grown again is zero.
        let tail = vec![0; BLOCK_BYTES - (size % BLOCK_BYTES as u64) as usize];
        layers.shows = layers.shows.min(size);
        if layers.above.contains_key(&last) {
            layers.write_within(size, &tail)?;
        }
        layers.size = size;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Shadow;
    use crate::disk::{Disk, DiskFile, Fill, MemoryDisk};
    use proptest::prelude::*;
    use std::path::Path;

    #[derive(Clone, Debug)]
    enum Step {
        Write(u64, Vec<u8>),
        Truncate(u64),
        Grow(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let bytes = prop::collection::vec(any::<u8>(), 0..6_000);
        let step = prop_oneof![
            (0..14_000_u64, bytes).prop_map(|(at, bytes)| Step::Write(at, bytes)),
            (0..14_000_u64).prop_map(Step::Truncate),
            (0..14_000_u64).prop_map(Step::Grow),
        ];
        prop::collection::vec(step, 0..8)
    }

    fn content(file: &impl DiskFile) -> Vec<u8> {
        let mut bytes = vec![1; file.size().expect("a size") as usize];
        assert_eq!(file.read_at(0, &mut bytes).expect("bytes"), bytes.len());
        bytes
    }

    proptest! {
        /// A shadow behaves as a file that was changed, and the file is not changed.
        #[test]
        fn it_is_as_if_and_nothing_is(
            before in prop::collection::vec(any::<u8>(), 0..9_000),
            steps in steps(),
        ) {
            let dir = tempfile::tempdir().expect("a directory");
            let path = dir.path().join("file");
            std::fs::write(&path, &before).expect("a file");
            let memory = MemoryDisk::new();
            memory.create_dir(dir.path()).expect("a directory");
            memory.plant(&path, &before);
            let (shadow, model) = (Shadow::new().open(&path), memory.open(&path));
            let (shadow, model) = (shadow.expect("there"), model.expect("there"));
            for step in steps {
                let done = |file: &dyn DiskFile| match &step {
                    Step::Write(at, bytes) => file.write_at(*at, bytes),
                    Step::Truncate(size) => file.truncate(*size),
                    Step::Grow(size) => file.preallocate(*size, Fill::Zeroed),
                };
                done(&shadow).expect("a change");
                done(&model).expect("a change");
                prop_assert_eq!(content(&shadow), content(&model));
            }
            prop_assert_eq!(std::fs::read(&path).expect("there"), before);
        }
    }

    #[test]
    fn names_come_and_go_above_the_directory_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("a"), b"a").expect("a file");
        std::fs::write(at("b"), b"b").expect("a file");
        let shadow = Shadow::new();
        let listed = || shadow.list(dir.path()).expect("names");
        shadow.rename(&at("a"), &at("c")).expect("renamed");
        shadow.create(&at("d")).expect("made").write_at(0, b"d").expect("written");
        shadow.remove(&at("b")).expect("removed");
        assert_eq!(listed(), ["c", "d"]);
        assert_eq!(content(&shadow.open(&at("c")).expect("there")), b"a");
        assert!(shadow.open(&at("b")).is_err() && shadow.create(&at("c")).is_err());
        let below = |name: &str| Path::exists(&at(name));
        assert!(below("a") && below("b") && !below("c") && !below("d"));
    }
}
