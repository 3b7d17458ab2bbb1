//! The disk of the operating system.

use super::{Disk, DiskFile, Fill};
use rustix::fs::{Advice, FallocateFlags, fadvise, fallocate};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Name of the file that is locked in a claimed directory.
const LOCK_FILE: &str = "LOCK";

/// Zeros are written and synced in steps, so that a log on the same device waits for one step at
/// most, not for a whole segment. Unit: bytes.
const ZERO_STEP_BYTES: usize = 1 << 20;

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// An open file of the operating system.
#[derive(Debug)]
pub struct RealFile(File);

/// A directory that is ours: an advisory lock which ends with the process, however it ends.
#[derive(Debug)]
pub struct RealLock(#[expect(dead_code, reason = "held for its lock")] File);

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = parent_of(path);
        self.create_dir(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.sync_dir(parent)
    }

    fn lock(&self, dir: &Path) -> io::Result<RealLock> {
        let path = dir.join(LOCK_FILE);
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(RealLock(file)),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            // A name that is no text is none of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path).map(RealFile)
    }

    fn open(&self, path: &Path) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(true).open(path).map(RealFile)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < into.len() {
            match self.0.read_at(&mut into[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn preallocate(&self, size: u64, fill: Fill) -> io::Result<()> {
        let have = self.size()?;
        if have >= size {
            return Ok(());
        }
        match fallocate(&self.0, FallocateFlags::empty(), 0, size) {
            Ok(()) => {}
            // A file system without reservation: the space is taken as it is written.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.0.set_len(size)?,
            Err(errno) => return Err(errno.into()),
        }
        match fill {
            Fill::Reserved => Ok(()),
            Fill::Zeroed => self.write_zeros(have, size),
        }
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn forget_cached(&self) {
        // A system that does not take the advice reads from its cache, which is what readers get.
        let _ = fadvise(&self.0, 0, None, Advice::DontNeed);
    }
}

impl RealFile {
    fn write_zeros(&self, from: u64, to: u64) -> io::Result<()> {
        let zeros = vec![0; ZERO_STEP_BYTES];
        let mut at = from;
        while at < to {
            let step = (to - at).min(ZERO_STEP_BYTES as u64);
            self.write_at(at, &zeros[..step as usize])?;
            self.sync()?;
            at += step;
        }
        Ok(())
    }
}

/// The directory above; "here" for a bare name.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_ours_alone_until_the_lock_is_dropped() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = RealDisk.lock(dir.path()).expect("the first lock");
        let error = RealDisk.lock(dir.path()).expect_err("a second one");
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        RealDisk.lock(dir.path()).expect("free again");
    }

    #[test]
    fn preallocated_space_is_zero_and_keeps_what_was_there() {
        let dir = tempfile::tempdir().expect("a directory");
        let deep = dir.path().join("a/b");
        RealDisk.create_dir(&deep).expect("directories");
        for (name, fill) in [("reserved", Fill::Reserved), ("zeroed", Fill::Zeroed)] {
            let file = RealDisk.create(&deep.join(name)).expect("a file");
            file.write_at(0, b"kept").expect("a write");
            file.preallocate(10_000, fill).expect("space");
            let mut bytes = vec![1; 20_000];
            assert_eq!(file.read_at(0, &mut bytes).expect("a read"), 10_000);
            assert_eq!(&bytes[..4], b"kept");
            assert!(bytes[4..10_000].iter().all(|byte| *byte == 0));
        }
        assert_eq!(RealDisk.list(&deep).expect("names"), ["reserved", "zeroed"]);
    }
}
