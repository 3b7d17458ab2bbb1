//! The checkpoints on a member's disk: written, kept, given out in parts, put together from parts.
//!
//! ```text
//!   write(checkpoint) ──► published, durable ──► tidy: the newest and one to fall back to
//!
//!   sender                          receiver
//!   announce(position)  ─────────►  receive(manifest)     Wanted(offset..), or Here already
//!   part(position, offset) ──────►  Incoming::write …     then Incoming::complete: verified
//!                                   install(position)  ──► the state, for the replica
//! ```
//!
//! Every step blocks, and none starts a thread: a member calls them from threads that may wait, a
//! simulated member wherever it likes. What is decided about checkpoints is in
//! [`checkpointing`](crate::checkpointing).
//!
//! **Guarantee.** The log is needed from [`Shelf::oldest_kept`] on: so that, should the newest
//! checkpoint turn out to be damaged, the one before it and the log give the same state.

use crate::recover::{RecoverError, load};
use bytes::Bytes;
use quorate_core::Position;
use quorate_replica::{Checkpoint, encode_metadata};
use quorate_storage::{CheckpointError, Checkpoints, Disk, Incoming, Manifest};
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes that a checkpoint is written in.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes of one part that a peer is sent.
pub const PART_BYTES: usize = 1 << 20;
/// Whole checkpoints that are kept: the newest, and one to fall back to.
const KEPT: usize = 2;

/// The checkpoints of one member. Shared by the threads that use it.
#[derive(Debug)]
pub struct Shelf<D: Disk> {
    checkpoints: Checkpoints<D>,
    newest: Mutex<Option<Manifest>>,
    oldest_kept: Mutex<Option<Position>>,
    bytes: AtomicU64,
}

/// What becomes of a checkpoint that a peer offers.
#[derive(Debug)]
pub enum Reception<D: Disk> {
    /// Its parts are wanted, from [`Incoming::offset`] on.
    Wanted(Incoming<D>),
    /// It is here already.
    Here,
}

impl<D: Disk> Shelf<D> {
    /// What lies on the disk, tidied.
    pub fn new(checkpoints: Checkpoints<D>) -> Shelf<D> {
        let shelf = Shelf {
            checkpoints,
            newest: Mutex::new(None),
            oldest_kept: Mutex::new(None),
            bytes: AtomicU64::new(0),
        };
        if let Err(error) = shelf.tidy() {
            tracing::warn!(%error, "cannot look at the checkpoints");
        }
        shelf
    }

    /// The newest checkpoint.
    pub fn newest(&self) -> Option<Position> {
        lock(&self.newest).as_ref().map(|manifest| manifest.position)
    }

    /// Size of the newest checkpoint; 0 if there is none.
    pub fn newest_bytes(&self) -> u64 {
        lock(&self.newest).as_ref().map_or(0, |manifest| manifest.size)
    }

    /// The oldest checkpoint that is kept: the log up to it is not needed. None while there is none
    /// to fall back to.
    pub fn oldest_kept(&self) -> Option<Position> {
        *lock(&self.oldest_kept)
    }

    /// Bytes of all checkpoints.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Writes a checkpoint and removes what it makes superfluous. One that is there already is left
    /// as it is.
    ///
    /// Errors: those of the disk; the checkpoints that were there are there still.
    pub fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let metadata = encode_metadata(&checkpoint.configuration, &checkpoint.members);
        match self.checkpoints.begin(checkpoint.position, metadata) {
            Ok(writer) => {
                let mut buffered = BufWriter::with_capacity(WRITE_BYTES, writer);
                checkpoint.store.save(&mut buffered)?;
                buffered.flush()?;
                let writer = buffered.into_inner().map_err(|error| error.into_error())?;
                writer.finish().map_err(io::Error::other)?;
            }
            Err(CheckpointError::Exists { .. }) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        self.tidy().map_err(io::Error::other)
    }

    /// Removes what is no longer needed and notes what is there.
    fn tidy(&self) -> Result<(), CheckpointError> {
        let oldest = self.checkpoints.retain(KEPT)?;
        let kept = self.checkpoints.list()?;
        self.bytes.store(kept.iter().map(|manifest| manifest.size).sum(), Ordering::Relaxed);
        // With a single one there is none to fall back to yet, so the log before it stays.
        *lock(&self.oldest_kept) = oldest.filter(|_| kept.len() >= KEPT);
        *lock(&self.newest) = kept.into_iter().next();
        Ok(())
    }

    /// Looks through a checkpoint that is about to be sent. A peer would refuse a damaged one, and
    /// be offered the same again; so it is withdrawn, and the next one offered is another one.
    ///
    /// Errors: [`CheckpointError::NotFound`] if it was withdrawn; those of the disk.
    pub fn check(&self, position: Position) -> Result<(), CheckpointError> {
        if self.checkpoints.discard_if_damaged(position)? {
            tracing::error!(%position, "a checkpoint is damaged: withdrew it");
            self.tidy()?;
            return Err(CheckpointError::NotFound { position });
        }
        Ok(())
    }

    /// Where the log stood at each checkpoint, whole or not; newest first.
    ///
    /// Errors: those of the disk.
    pub fn positions(&self) -> Result<Vec<Position>, CheckpointError> {
        self.checkpoints.positions()
    }

    /// Reads a checkpoint to its end, in steps that `pace` is told of.
    ///
    /// Errors: [`CheckpointError::Damaged`], [`CheckpointError::NotFound`]; those of the disk.
    pub fn verify(
        &self,
        position: Position,
        pace: &mut dyn FnMut(u64),
    ) -> Result<Manifest, CheckpointError> {
        self.checkpoints.verify_paced(position, pace)
    }

    /// The file of a checkpoint.
    pub fn path_of(&self, position: Position) -> PathBuf {
        self.checkpoints.path_of(position)
    }

    /// Takes a checkpoint that was found damaged out of use; its data is kept, to be looked at.
    ///
    /// Errors: those of the disk.
    pub fn set_aside(&self, position: Position) -> Result<(), CheckpointError> {
        if self.checkpoints.set_aside_if_damaged(position)? {
            tracing::error!(%position, "a checkpoint is damaged: set it aside");
        }
        self.tidy()
    }

    /// What a peer is to be told of the checkpoint at `position`; none if that is not the newest
    /// any more.
    pub fn announce(&self, position: Position) -> Option<Manifest> {
        lock(&self.newest).clone().filter(|newest| newest.position == position)
    }

    /// The part of a checkpoint that begins at `offset`, at most [`PART_BYTES`]; empty at the end.
    ///
    /// Errors: [`CheckpointError::NotFound`] if it was removed meanwhile; those of the disk.
    pub fn part(&self, position: Position, offset: u64) -> Result<Bytes, CheckpointError> {
        self.checkpoints.read_chunk(position, offset, PART_BYTES)
    }

    /// Begins to take in what a peer announced, or goes on where an earlier try of the same stood.
    /// One at a time: any other that was begun is forgotten.
    ///
    /// Errors: those of the disk.
    pub fn receive(&self, announced: Manifest) -> Result<Reception<D>, CheckpointError> {
        match self.checkpoints.begin_receive(announced) {
            Ok(incoming) => Ok(Reception::Wanted(incoming)),
            Err(CheckpointError::Exists { .. }) => Ok(Reception::Here),
            Err(error) => Err(error),
        }
    }

    /// Loads a checkpoint that came in whole: to be given to the replica.
    ///
    /// Errors: it cannot be read, or is none of this version.
    pub fn install(&self, position: Position) -> Result<Checkpoint, RecoverError> {
        let checkpoint = load(&self.checkpoints, position)?;
        self.tidy()?;
        Ok(checkpoint)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::NodeId;
    use quorate_protocols::consensus::raft::Configuration;
    use quorate_replica::store::{Command, Put, Store};
    use quorate_storage::{LogIdentity, MemoryDisk};
    use std::path::Path;

    fn shelf(disk: &MemoryDisk, member: u64) -> Shelf<MemoryDisk> {
        let identity = LogIdentity { cluster: 1, member, data: member };
        let checkpoints = Checkpoints::open(disk.clone(), Path::new("/checkpoints"), &identity);
        Shelf::new(checkpoints.expect("a directory"))
    }

    fn checkpoint(index: u64) -> Checkpoint {
        let mut store = Store::new();
        for _ in 0..index {
            let value = Bytes::from(vec![b'v'; 400_000]);
            let put = Put { key: Bytes::from_static(b"k"), value, ..Put::default() };
            store.apply(&Command::Put(put));
        }
        let configuration = Configuration::of([NodeId(1), NodeId(2)]);
        Checkpoint {
            position: Position::new(1, index),
            configuration,
            members: Default::default(),
            store,
        }
    }

    /// Sends the newest checkpoint from one shelf to another, part by part.
    fn send(
        from: &Shelf<MemoryDisk>,
        to: &Shelf<MemoryDisk>,
        parts_max: usize,
    ) -> Option<Position> {
        let position = from.newest().expect("a checkpoint");
        from.check(position).expect("it is whole");
        let announced = from.announce(position).expect("it is the newest");
        let Reception::Wanted(mut incoming) = to.receive(announced).expect("room") else {
            return Some(position);
        };
        for _ in 0..parts_max {
            let part = from.part(position, incoming.offset()).expect("readable");
            if part.is_empty() {
                return Some(incoming.complete().expect("whole").position);
            }
            incoming.write(incoming.offset(), &part).expect("the next part");
        }
        None
    }

    #[test]
    fn the_log_is_needed_until_there_is_a_second_checkpoint() {
        let disk = MemoryDisk::new();
        let shelf = shelf(&disk, 1);
        assert_eq!((shelf.newest(), shelf.oldest_kept()), (None, None));
        shelf.write(&checkpoint(1)).expect("written");
        assert_eq!(shelf.oldest_kept(), None, "there is none to fall back to");
        shelf.write(&checkpoint(2)).expect("written");
        assert_eq!(shelf.oldest_kept(), Some(Position::new(1, 1)));
        shelf.write(&checkpoint(3)).expect("written");
        assert_eq!(shelf.oldest_kept(), Some(Position::new(1, 2)));
        assert_eq!(shelf.newest(), Some(Position::new(1, 3)));
        assert!(shelf.bytes() > shelf.newest_bytes());
    }

    #[test]
    fn a_checkpoint_travels_in_parts_and_is_resumed_after_a_crash() {
        let (here, there) = (MemoryDisk::new(), MemoryDisk::new());
        let ours = shelf(&here, 1);
        ours.write(&checkpoint(8)).expect("written");
        assert_eq!(send(&ours, &shelf(&there, 2), 2), None, "interrupted");
        there.crash(&mut |_| 1);
        let theirs = shelf(&there, 2);
        assert_eq!(send(&ours, &theirs, 9), ours.newest());
        let installed = theirs.install(Position::new(1, 8)).expect("whole");
        assert_eq!(installed.store.digest(), checkpoint(8).store.digest());
        assert_eq!(installed.configuration, checkpoint(8).configuration);
        assert_eq!(theirs.newest(), ours.newest());
        // A second time it is there already.
        assert!(matches!(
            theirs.receive(ours.announce(Position::new(1, 8)).expect("newest")),
            Ok(Reception::Here)
        ));
    }

    #[test]
    fn a_damaged_checkpoint_is_withdrawn_before_it_is_sent() {
        let disk = MemoryDisk::new();
        let shelf = shelf(&disk, 1);
        shelf.write(&checkpoint(1)).expect("written");
        shelf.write(&checkpoint(2)).expect("written");
        let path = Path::new("/checkpoints").join(format!("{:016x}-{:016x}.checkpoint", 2, 1));
        disk.flip(&path, 5_000, 1);
        let gone = CheckpointError::NotFound { position: Position::new(1, 2) };
        assert_eq!(shelf.check(Position::new(1, 2)), Err(gone));
        assert_eq!(shelf.newest(), Some(Position::new(1, 1)));
    }
}
