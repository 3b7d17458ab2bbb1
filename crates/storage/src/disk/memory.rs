//! A disk in memory that can lose power, tear, rot and fail. Deterministic: every choice is asked
//! of the caller.
//!
//! ```text
//!   names  (live)  ---> inode: content as a reader sees it
//!   names  (durable)            + undo: for each unsynced sector, what the medium still holds
//!                               + phantom: the same for sectors whose sync failed
//! ```
//!
//! A sync forgets the undo of a file, a `sync_dir` copies the live names of a directory. A crash
//! goes the other way: for each unsynced sector the caller chooses whether the medium got it
//! (kept), not (lost) or in part (torn); each unsynced change of a name is kept or lost on its own.
//!
//! After a failed sync the written sectors are *phantoms*: readers still see them, a later sync
//! succeeds without writing them, and a crash loses them. That is what Linux does.
//! Source: Rebello et al., "Can Applications Recover from fsync Failures?" (2020), section 3.
//!
//! Simplification: directories are durable as soon as they are made.

use super::{Disk, DiskFile, Fill, SECTOR_BYTES};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Something that goes wrong from now on, until [`MemoryDisk::heal`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fault {
    /// Every sync of a file fails, and what it should have synced becomes a phantom.
    Sync,
    /// Every sync, of a file or of a directory, reports success and makes nothing durable: a
    /// device with a cache that is not what it says.
    SyncLie,
    /// No file may grow so that all files together exceed this many bytes.
    Full {
        /// Unit: bytes.
        capacity: u64,
    },
    /// Reads that touch these bytes of the file fail.
    Read {
        /// The file.
        path: PathBuf,
        /// The unreadable bytes.
        range: Range<u64>,
    },
    /// Everything that would change the disk is refused.
    ReadOnly,
    /// This many more changing operations succeed, then all operations fail: a power cut, to be
    /// followed by [`MemoryDisk::crash`].
    PowerCut {
        /// Operations that still succeed.
        after: u64,
    },
}

/// A disk in memory. Clones share the same disk; [`MemoryDisk::fork`] makes another one.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

/// An open file of a [`MemoryDisk`]; useless after a crash.
#[derive(Debug)]
pub struct MemoryFile {
    state: Arc<Mutex<State>>,
    inode: u64,
    life: u64,
}

/// A claimed directory of a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryLock {
    state: Arc<Mutex<State>>,
    dir: PathBuf,
    life: u64,
}

/// What the medium holds of a sector that has changed since; none if it lay beyond the end.
#[derive(Clone, Debug)]
struct Undo(Option<Box<[u8]>>);

#[derive(Clone, Debug, Default)]
struct Inode {
    content: Vec<u8>,
    durable_size: u64,
    unsynced: BTreeMap<u64, Undo>,
    phantom: BTreeMap<u64, Undo>,
}

/// An unsynced change of the names of one directory; all its steps happen or none.
#[derive(Clone, Debug)]
struct NameChange {
    dir: PathBuf,
    steps: Vec<(PathBuf, Option<u64>)>,
}

#[derive(Clone, Debug, Default)]
struct State {
    life: u64,
    operations: u64,
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    changes: Vec<NameChange>,
    locked: BTreeSet<PathBuf>,
    faults: Vec<Fault>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// The power fails: open files and locks are gone, and what was not synced is kept, lost or
    /// torn as `choose(n)`, a number below `n`, says. Faults end, as the machine is restarted.
    pub fn crash(&self, choose: &mut dyn FnMut(usize) -> usize) {
        self.state().crash(choose);
    }

    /// Bit rot: inverts the bits of `mask` in one byte, on the medium.
    ///
    /// Panics: if there is no such byte, or if the mask is zero.
    pub fn flip(&self, path: &Path, offset: u64, mask: u8) {
        assert!(mask != 0, "a flip that changes nothing");
        let mut state = self.state();
        let inode = state.names.get(path).copied().expect("a file to rot");
        let inode = state.inode(inode);
        inode.content[offset as usize] ^= mask;
        let (sector, within) = place_of(offset);
        for undo in [inode.unsynced.get_mut(&sector), inode.phantom.get_mut(&sector)] {
            if let Some(Undo(Some(bytes))) = undo {
                bytes[within] ^= mask;
            }
        }
    }

    /// From now on this goes wrong.
    pub fn fail(&self, fault: Fault) {
        self.state().faults.push(fault);
    }

    /// Nothing goes wrong any more. What went wrong stays so.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// This no longer goes wrong; a power cut is over whatever number it was told. What went wrong
    /// stays so.
    pub fn mend(&self, fault: &Fault) {
        let cut = |fault: &Fault| matches!(fault, Fault::PowerCut { .. });
        self.state().faults.retain(|other| other != fault && !(cut(fault) && cut(other)));
    }

    /// A write of long ago has hit the wrong place: one sector of a file holds what another one
    /// does, on the medium. Does nothing beyond the end of the file.
    ///
    /// Panics: if there is no such file.
    pub fn misdirect(&self, path: &Path, from: u64, to: u64) {
        let mut state = self.state();
        let inode = state.names.get(path).copied().expect("a file to damage");
        let inode = state.inode(inode);
        let place =
            |sector: u64| sector as usize * SECTOR_BYTES..(sector as usize + 1) * SECTOR_BYTES;
        if inode.content.len() < place(from.max(to)).end {
            return;
        }
        inode.content.copy_within(place(from), place(to).start);
        let now = inode.content[place(to)].to_vec();
        for undo in [inode.unsynced.get_mut(&to), inode.phantom.get_mut(&to)] {
            if let Some(Undo(Some(bytes))) = undo {
                bytes.copy_from_slice(&now);
            }
        }
    }

    /// The files there are, by name, and their sizes in bytes.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let size = |inode: &u64| state.inodes.get(inode).map_or(0, |inode| inode.content.len());
        state.names.iter().map(|(path, inode)| (path.clone(), size(inode) as u64)).collect()
    }

    /// What all files together take. Unit: bytes.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// Changing operations (writes, syncs, names) that were tried so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// What a reader sees of a file.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let inode = state.names.get(path)?;
        Some(state.inodes[inode].content.clone())
    }

    /// Puts a file there, whole and durable, with its directory.
    pub fn plant(&self, path: &Path, content: &[u8]) {
        let mut state = self.state();
        let inode = state.new_inode();
        let size = content.len() as u64;
        let planted = Inode { content: content.to_vec(), durable_size: size, ..Inode::default() };
        state.inodes.insert(inode, planted);
        state.names.insert(path.to_owned(), inode);
        state.durable_names.insert(path.to_owned(), inode);
        for dir in path.ancestors().skip(1) {
            state.dirs.insert(dir.to_owned());
        }
    }

    /// Another disk in the same state, with no file open and nothing locked.
    pub fn fork(&self) -> MemoryDisk {
        let mut state = self.state().clone();
        state.locked.clear();
        MemoryDisk { state: Arc::new(Mutex::new(state)) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;
    type Lock = MemoryLock;

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.dirs.contains(path) {
            return Ok(());
        }
        state.change()?;
        state.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn lock(&self, dir: &Path) -> io::Result<MemoryLock> {
        let mut state = self.state();
        state.change()?;
        if !state.locked.insert(dir.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(MemoryLock { state: self.state.clone(), dir: dir.to_owned(), life: state.life })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        state.powered()?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.keys().filter(|path| path.parent() == Some(dir));
        let names = inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    fn create(&self, path: &Path) -> io::Result<MemoryFile> {
        let mut state = self.state();
        state.change()?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let inode = state.new_inode();
        state.inodes.insert(inode, Inode::default());
        state.rename_steps(vec![(path.to_owned(), Some(inode))])?;
        Ok(MemoryFile { state: self.state.clone(), inode, life: state.life })
    }

    fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        let state = self.state();
        state.powered()?;
        let inode = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(MemoryFile { state: self.state.clone(), inode, life: state.life })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        assert_eq!(from.parent(), to.parent(), "a rename stays within its directory");
        let mut state = self.state();
        state.change()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        state.rename_steps(vec![(from.to_owned(), None), (to.to_owned(), Some(inode))])
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.rename_steps(vec![(path.to_owned(), None)])
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if state.faults.contains(&Fault::SyncLie) {
            return Ok(());
        }
        let changes = std::mem::take(&mut state.changes);
        for change in changes {
            if change.dir == dir {
                state.settle(change);
            } else {
                state.changes.push(change);
            }
        }
        state.forget_unnamed();
        Ok(())
    }
}

impl DiskFile for MemoryFile {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.with(|state, id| {
            state.powered()?;
            let Some(inode) = state.inodes.get(&id) else { return Ok(0) };
            let from = (offset as usize).min(inode.content.len());
            let to = (from + into.len()).min(inode.content.len());
            state.readable(id, from as u64..to as u64)?;
            into[..to - from].copy_from_slice(&inode.content[from..to]);
            Ok(to - from)
        })
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|state, id| {
            state.change()?;
            let end = offset + bytes.len() as u64;
            state.room_for(id, end)?;
            let inode = state.inode(id);
            inode.touch(offset..end);
            if inode.content.len() < end as usize {
                inode.content.resize(end as usize, 0);
            }
            inode.content[offset as usize..end as usize].copy_from_slice(bytes);
            Ok(())
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|state, id| {
            state.change()?;
            if state.faults.contains(&Fault::SyncLie) {
                return Ok(());
            }
            let failed = state.faults.contains(&Fault::Sync);
            let inode = state.inode(id);
            let unsynced = std::mem::take(&mut inode.unsynced);
            if failed {
                inode.phantom.extend(unsynced);
                return Err(io::Error::other("injected: the device lost a write"));
            }
            inode.durable_size = inode.content.len() as u64;
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.with(|state, id| {
            state.powered()?;
            Ok(state.inodes.get(&id).map_or(0, |inode| inode.content.len()) as u64)
        })
    }

    fn preallocate(&self, size: u64, fill: Fill) -> io::Result<()> {
        self.with(|state, id| {
            state.change()?;
            state.room_for(id, size)?;
            let inode = state.inode(id);
            if inode.content.len() < size as usize {
                inode.content.resize(size as usize, 0);
            }
            if fill == Fill::Zeroed {
                inode.durable_size = inode.content.len() as u64;
            }
            Ok(())
        })
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.with(|state, id| {
            state.change()?;
            let inode = state.inode(id);
            inode.touch(size..inode.content.len() as u64);
            inode.content.resize(size as usize, 0);
            Ok(())
        })
    }
}

impl MemoryFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, u64) -> io::Result<T>) -> io::Result<T> {
        let mut state = locked(&self.state);
        if state.life != self.life {
            return Err(io::Error::other("the file was opened before the crash"));
        }
        act(&mut state, self.inode)
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        let mut state = locked(&self.state);
        if state.life == self.life {
            state.locked.remove(&self.dir);
        }
    }
}

impl Inode {
    /// Remembers what the medium holds of the sectors that are about to change.
    fn touch(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (first, _) = place_of(range.start);
        let (last, _) = place_of(range.end - 1);
        for sector in first..=last {
            if let Some(undo) = self.phantom.remove(&sector) {
                self.unsynced.insert(sector, undo);
            } else if !self.unsynced.contains_key(&sector) {
                self.unsynced.insert(sector, self.medium(sector));
            }
        }
    }

    fn medium(&self, sector: u64) -> Undo {
        let from = (sector * SECTOR_BYTES as u64).min(self.durable_size) as usize;
        let to = (from + SECTOR_BYTES).min(self.durable_size as usize).min(self.content.len());
        if from >= to {
            return Undo(None);
        }
        let mut bytes = vec![0; SECTOR_BYTES];
        bytes[..to - from].copy_from_slice(&self.content[from..to]);
        Undo(Some(bytes.into()))
    }

    fn crash(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        let size = self.content.len() as u64;
        let kept_size =
            if size == self.durable_size || choose(2) == 0 { self.durable_size } else { size };
        // Room for sectors that a cut removed from the reader's view but not from the medium.
        let room = kept_size.next_multiple_of(SECTOR_BYTES as u64).max(size);
        self.content.resize(room.next_multiple_of(SECTOR_BYTES as u64) as usize, 0);
        for (sector, undo) in std::mem::take(&mut self.unsynced) {
            let kept = match choose(3) {
                0 => 0,
                1 => SECTOR_BYTES,
                _ => 1 + choose(SECTOR_BYTES - 1),
            };
            self.restore(sector, undo, kept);
        }
        for (sector, undo) in std::mem::take(&mut self.phantom) {
            self.restore(sector, undo, 0);
        }
        self.content.truncate(kept_size as usize);
        self.durable_size = kept_size;
    }

    /// Puts the medium's bytes back, all but the first `kept` of the sector.
    fn restore(&mut self, sector: u64, Undo(undo): Undo, kept: usize) {
        let from = sector as usize * SECTOR_BYTES;
        if from >= self.content.len() {
            return;
        }
        let now = &mut self.content[from..from + SECTOR_BYTES];
        match undo {
            Some(bytes) => now[kept..].copy_from_slice(&bytes[kept..]),
            None => now[kept..].fill(0),
        }
    }
}

impl State {
    fn powered(&self) -> io::Result<()> {
        match self.faults.iter().any(|fault| matches!(fault, Fault::PowerCut { after: 0 })) {
            true => Err(io::Error::other("injected: the power is cut")),
            false => Ok(()),
        }
    }

    fn change(&mut self) -> io::Result<()> {
        self.powered()?;
        if self.faults.contains(&Fault::ReadOnly) {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        self.operations += 1;
        for fault in &mut self.faults {
            if let Fault::PowerCut { after } = fault {
                *after -= 1;
            }
        }
        Ok(())
    }

    fn room_for(&self, id: u64, size: u64) -> io::Result<()> {
        let have = self.inodes.get(&id).map_or(0, |inode| inode.content.len()) as u64;
        if size <= have || self.faults.is_empty() {
            return Ok(());
        }
        let wanted = self.used() + (size - have);
        let full = |fault: &Fault| matches!(fault, Fault::Full { capacity } if wanted > *capacity);
        match self.faults.iter().any(full) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.inodes.values().map(|inode| inode.content.len() as u64).sum()
    }

    fn readable(&self, id: u64, wanted: Range<u64>) -> io::Result<()> {
        for fault in &self.faults {
            if let Fault::Read { path, range } = fault
                && self.names.get(path) == Some(&id)
                && range.start < wanted.end
                && wanted.start < range.end
            {
                return Err(io::Error::other("injected: an unreadable sector"));
            }
        }
        Ok(())
    }

    fn inode(&mut self, id: u64) -> &mut Inode {
        // The space of an open file without a name may have been given back already.
        self.inodes.entry(id).or_default()
    }

    fn new_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    fn rename_steps(&mut self, steps: Vec<(PathBuf, Option<u64>)>) -> io::Result<()> {
        let dir = steps[0].0.parent().map(Path::to_owned).unwrap_or_default();
        if !self.dirs.contains(&dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        apply(&mut self.names, &steps);
        self.changes.push(NameChange { dir, steps });
        Ok(())
    }

    fn settle(&mut self, change: NameChange) {
        apply(&mut self.durable_names, &change.steps);
    }

    fn crash(&mut self, choose: &mut dyn FnMut(usize) -> usize) {
        for change in std::mem::take(&mut self.changes) {
            if choose(2) == 1 {
                self.settle(change);
            }
        }
        self.names = self.durable_names.clone();
        for inode in self.inodes.values_mut() {
            inode.crash(choose);
        }
        self.forget_unnamed();
        self.locked.clear();
        self.faults.clear();
        self.life += 1;
    }

    /// Space of files without a name is given back, even of open ones.
    fn forget_unnamed(&mut self) {
        let mut named: BTreeSet<u64> = self.names.values().copied().collect();
        named.extend(self.durable_names.values());
        for change in &self.changes {
            named.extend(change.steps.iter().filter_map(|(_, inode)| *inode));
        }
        self.inodes.retain(|id, _| named.contains(id));
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, steps: &[(PathBuf, Option<u64>)]) {
    for (path, inode) in steps {
        match inode {
            Some(inode) => names.insert(path.clone(), *inode),
            None => names.remove(path),
        };
    }
}

fn place_of(offset: u64) -> (u64, usize) {
    (offset / SECTOR_BYTES as u64, (offset % SECTOR_BYTES as u64) as usize)
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    // The state is plain data that no panic leaves half changed in a way that matters to a test.
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (MemoryDisk, PathBuf) {
        let disk = MemoryDisk::new();
        disk.create_dir(Path::new("/d")).expect("a directory");
        (disk, PathBuf::from("/d/f"))
    }

    fn read(disk: &MemoryDisk, path: &Path) -> Option<Vec<u8>> {
        disk.content(path)
    }

    #[test]
    fn only_what_was_synced_survives_the_worst_crash() {
        let (disk, path) = disk();
        let file = disk.create(&path).expect("a file");
        file.write_at(0, &[1; 600]).expect("a write");
        file.sync().expect("a sync");
        disk.sync_dir(Path::new("/d")).expect("a sync");
        file.write_at(500, &[2; 600]).expect("a write");
        assert_eq!(read(&disk, &path).expect("a file")[500..600], [2; 100]);
        disk.crash(&mut |_| 0);
        assert_eq!(read(&disk, &path), Some(vec![1; 600]));
        assert!(file.sync().is_err(), "a handle outlived the crash");
    }

    #[test]
    fn an_unsynced_sector_may_be_kept_or_torn() {
        let (disk, path) = disk();
        let file = disk.create(&path).expect("a file");
        file.write_at(0, &[1; 1024]).expect("a write");
        file.sync().expect("a sync");
        disk.sync_dir(Path::new("/d")).expect("a sync");
        file.write_at(0, &[2; 1024]).expect("a write");
        let mut answers = [1, 2, 99].into_iter();
        disk.crash(&mut |_| answers.next().expect("three questions"));
        let content = read(&disk, &path).expect("a file");
        assert_eq!(content[..612], [2; 612]);
        assert_eq!(content[612..], [1; 412]);
    }

    #[test]
    fn a_name_is_lost_without_sync_dir_and_a_rename_is_atomic() {
        let (disk, path) = disk();
        let file = disk.create(&path).expect("a file");
        file.write_at(0, b"new").expect("a write");
        file.sync().expect("a sync");
        disk.fork().crash(&mut |_| 0);
        let lost = disk.fork();
        lost.crash(&mut |_| 0);
        assert_eq!(read(&lost, &path), None);
        disk.sync_dir(Path::new("/d")).expect("a sync");
        let other = PathBuf::from("/d/g");
        disk.rename(&path, &other).expect("a rename");
        for (choice, kept, gone) in [(0, &path, &other), (1, &other, &path)] {
            let fork = disk.fork();
            fork.crash(&mut |_| choice);
            assert_eq!(read(&fork, kept).as_deref(), Some(&b"new"[..]));
            assert_eq!(read(&fork, gone), None);
        }
    }

    #[test]
    fn after_a_failed_sync_the_next_one_lies() {
        let (disk, path) = disk();
        let file = disk.create(&path).expect("a file");
        file.preallocate(512, Fill::Zeroed).expect("space");
        disk.sync_dir(Path::new("/d")).expect("a sync");
        file.write_at(0, b"precious").expect("a write");
        disk.fail(Fault::Sync);
        file.sync().expect_err("injected");
        disk.heal();
        file.sync().expect("nothing left to write, says the system");
        assert_eq!(read(&disk, &path).expect("a file")[..8], *b"precious");
        let lost = disk.fork();
        lost.crash(&mut |_| 1);
        assert_eq!(read(&lost, &path).expect("a file")[..8], [0; 8]);
        file.write_at(0, b"precious").expect("written again");
        file.sync().expect("a sync");
        disk.crash(&mut |_| 0);
        assert_eq!(read(&disk, &path).expect("a file")[..8], *b"precious");
    }

    #[test]
    fn a_sync_that_lies_makes_nothing_durable_until_it_is_mended() {
        let (disk, path) = disk();
        let file = disk.create(&path).expect("a file");
        disk.sync_dir(Path::new("/d")).expect("a sync");
        disk.fail(Fault::SyncLie);
        file.write_at(0, b"precious").expect("a write");
        file.sync().expect("so it says");
        let lost = disk.fork();
        lost.crash(&mut |_| 0);
        assert_eq!(read(&lost, &path), Some(Vec::new()));
        disk.mend(&Fault::SyncLie);
        file.sync().expect("a sync");
        disk.crash(&mut |_| 0);
        assert_eq!(read(&disk, &path).as_deref(), Some(&b"precious"[..]));
    }

    #[test]
    fn a_misdirected_write_is_on_the_medium() {
        let (disk, path) = disk();
        disk.plant(&path, &[[1; 512], [2; 512]].concat());
        disk.misdirect(&path, 0, 1);
        disk.misdirect(&path, 0, 2);
        disk.crash(&mut |_| 0);
        assert_eq!(read(&disk, &path), Some(vec![1; 1024]));
        assert_eq!(disk.files(), [(path, 1024)]);
    }

    #[test]
    fn a_fault_is_mended_without_the_others() {
        let (disk, path) = disk();
        let file = disk.create(&path).expect("a file");
        disk.fail(Fault::ReadOnly);
        disk.fail(Fault::PowerCut { after: 0 });
        disk.mend(&Fault::PowerCut { after: 9 });
        let error = file.write_at(0, &[0]).expect_err("still read-only");
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        disk.mend(&Fault::ReadOnly);
        file.write_at(0, &[0]).expect("all is well");
        assert_eq!(disk.used(), 1);
    }

    #[test]
    fn injected_errors_have_their_kind() {
        let (disk, path) = disk();
        let file = disk.create(&path).expect("a file");
        disk.fail(Fault::Full { capacity: 100 });
        let error = file.write_at(0, &[0; 101]).expect_err("no room");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        file.write_at(0, &[0; 100]).expect("room");
        disk.fail(Fault::Read { path, range: 10..20 });
        file.read_at(0, &mut [0; 11]).expect_err("unreadable");
        file.read_at(20, &mut [0; 11]).expect("readable");
        disk.fail(Fault::PowerCut { after: 1 });
        file.write_at(0, &[0]).expect("the last one");
        file.write_at(0, &[0]).expect_err("no power");
        file.size().expect_err("no power");
    }
}
