//! What a member keeps when it crashes: its log and its checkpoints, on a disk in memory.
//!
//! **Problem.** A simulated member that keeps its records in a list proves nothing about torn
//! batches, lost names, rot in the midst of the log, or a checkpoint of which half is there. Those
//! are what recovery exists for.
//!
//! **Idea.** The log, the checkpoints and the recovery are those of production
//! ([`quorate_server::recover`], [`quorate_server::shelf`]); only the disk below them is a
//! [`MemoryDisk`]. What takes time in a member takes time here: between [`MemberDisk::append`] and
//! [`MemberDisk::sync`] a batch is under way, between [`MemberDisk::begin_checkpoint`] and
//! [`MemberDisk::finish_checkpoint`] a checkpoint. A crash in between leaves as much of it as
//! `choose` says: so many calls to the disk still succeed, and of what they wrote each sector is
//! kept, lost or torn.
//!
//! **Guarantees.** The same calls and choices give the same bytes. A member whose log fails is dead
//! until it is started anew, as in production: every later sync fails.
//!
//! **Left out.** The identity file and the roster: a member is admitted once it has started.

use quorate_core::{Index, Persist, Position};
use quorate_drivers::simulate::SyncError;
use quorate_protocols::consensus::raft::Record;
use quorate_replica::{Checkpoint, Life, Replica};
use quorate_server::recover::{self, Found, Home, RecoverError, ReplicaSettings};
use quorate_server::scrub;
use quorate_server::shelf::{Reception, Shelf};
use quorate_storage::{
    Fault, Incoming, LogIdentity, Manifest, MemoryDisk, SECTOR_BYTES, TornTail, Wal, WalError,
};
use std::path::PathBuf;

/// Calls to the disk that one batch takes, beginning a segment included. A crash cuts it off
/// before one of them.
const BATCH_CALLS: usize = 10;
/// The same of a checkpoint.
const CHECKPOINT_CALLS: usize = 24;
/// The same of a start.
const START_CALLS: usize = 24;
/// Draws numbers below a bound.
pub type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

/// The disk of one member.
#[derive(Debug)]
pub struct MemberDisk {
    disk: MemoryDisk,
    home: Home,
    /// Open while the member lives.
    open: Option<Open>,
    /// What [`MemberDisk::fill`] did and was not taken back.
    filled: Vec<Fault>,
}

#[derive(Debug)]
struct Open {
    wal: Wal<MemoryDisk>,
    shelf: Shelf<MemoryDisk>,
    /// Being written.
    writing: Option<Checkpoint>,
    incoming: Option<Incoming<MemoryDisk>>,
    /// Why nothing is written any more.
    failed: Option<String>,
}

/// A member as it was found.
#[derive(Debug)]
pub struct Booted {
    /// The replica, ready to start.
    pub replica: Replica,
    /// The checkpoint that it was built from.
    pub from: Option<Position>,
    /// What the last crash left unfinished and was cut off.
    pub torn_tail: Option<TornTail>,
    /// Damaged places in the log, those included that cost nothing.
    pub damaged_places: u64,
    /// Records of the log that are lost, each given to the replica by name.
    pub lost: u64,
}

/// What could not be done with a checkpoint.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckpointFailed {
    /// In words.
    pub why: String,
}

/// How it goes on with a checkpoint that a peer offers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// Its bytes are wanted, from this one on.
    Send {
        /// Unit: bytes of its file.
        offset: u64,
    },
    /// It is here already: [`MemberDisk::install`] it.
    Here,
}

impl MemberDisk {
    /// An empty disk for this member. `segment_bytes`: see [`Home::segment_bytes`]; small ones take
    /// less memory and are released sooner.
    pub fn new(identity: LogIdentity, segment_bytes: u32) -> MemberDisk {
        let home = Home {
            wal: PathBuf::from("/member/wal"),
            checkpoints: PathBuf::from("/member/checkpoints"),
            identity,
            admitted: false,
            segment_bytes,
        };
        MemberDisk { disk: MemoryDisk::new(), home, open: None, filled: Vec::new() }
    }

    /// The member starts: recovers what is here and builds the replica from it.
    ///
    /// Errors: it cannot start, because what it may have promised is lost or the disk fails.
    pub fn boot(&mut self, settings: &ReplicaSettings, life: Life) -> Result<Booted, RecoverError> {
        self.open = None;
        let found = recover::open(self.disk.clone(), &self.home)?;
        let Found { wal, checkpoints, checkpoint, records, .. } = found;
        let shelf = Shelf::new(checkpoints);
        let from = checkpoint.as_ref().map(|checkpoint| checkpoint.position);
        let recovery = records.recovery();
        let (torn_tail, lost) = (recovery.torn_tail, recovery.lost);
        let damaged_places = recovery.damaged_places;
        let replica = recover::restore(&settings.replica(life, checkpoint), records)?;
        self.home.admitted = true;
        self.open = Some(Open { wal, shelf, writing: None, incoming: None, failed: None });
        Ok(Booted { replica, from, torn_tail, damaged_places, lost })
    }

    /// Writes records, without making them durable: the next [`MemberDisk::sync`] is under way.
    /// Empties `records`.
    pub fn append(&mut self, records: &mut Vec<Record>) {
        let open = self.open();
        for record in records.drain(..) {
            open.wal.append(&record.to_frame());
        }
    }

    /// Makes durable what was appended.
    ///
    /// Errors: [`SyncError::Full`] when there is no space, then nothing is in doubt; otherwise the
    /// log is lost for this life.
    pub fn sync(&mut self) -> Result<(), SyncError> {
        self.open().attempt(Wal::sync)?;
        self.prepare()
    }

    /// Makes the next segment ahead if it is time. That this cannot be done is no failure.
    fn prepare(&mut self) -> Result<(), SyncError> {
        let open = self.open();
        let Some(preparation) = open.wal.preparation() else { return Ok(()) };
        match preparation.run() {
            Ok(prepared) => open.attempt(|wal| wal.adopt(prepared)),
            Err(_) => Ok(()),
        }
    }

    /// Nothing has been written for a while: notes how far the log was synced.
    ///
    /// Errors: as [`MemberDisk::sync`].
    pub fn idle(&mut self) -> Result<(), SyncError> {
        self.open().attempt(Wal::mark)
    }

    /// Gives up what the kept checkpoints make superfluous: of the log, whole segments.
    ///
    /// Errors: as [`MemberDisk::sync`].
    pub fn release(&mut self) -> Result<(), SyncError> {
        let open = self.open();
        let upto = open.shelf.oldest_kept().map_or(Index(0), |kept| kept.index);
        open.attempt(|wal| wal.release(upto))
    }

    /// Everything is read again, as far as it is synced, beside the log that goes on.
    ///
    /// Errors: a file cannot be opened.
    pub fn scrub(&mut self) -> Result<scrub::Found, String> {
        let open = self.open();
        scrub::look(&open.wal.scrubber(), &open.shelf, open.wal.synced(), &mut |_| {})
    }

    /// What a repair goes by, for a member whose state stands there.
    ///
    /// Errors: those of the disk.
    pub fn view(&mut self, applied: Index, fenced: bool) -> Result<scrub::View, String> {
        let open = self.open();
        let numbers = open.wal.scrubber().segments().map_err(|error| error.to_string())?;
        let current_segment = open.wal.synced().segment;
        Ok(scrub::View {
            oldest_segment: numbers.first().copied().unwrap_or(current_segment),
            current_segment,
            checkpoints: open.shelf.positions().map_err(|error| error.to_string())?,
            applied,
            fenced,
        })
    }

    /// What is in the current segment of the log can be released from now on.
    ///
    /// Errors: as [`MemberDisk::sync`].
    pub fn seal(&mut self) -> Result<(), SyncError> {
        self.open().attempt(Wal::seal)
    }

    /// A checkpoint that was found damaged is used no more.
    ///
    /// Errors: those of the disk.
    pub fn set_aside(&mut self, position: Position) -> Result<(), CheckpointFailed> {
        self.open().shelf.set_aside(position).map_err(failed)
    }

    /// Planted bug: drops all segments of the log but the current one, whatever covers them.
    pub(super) fn release_uncovered(&mut self) {
        let _ = self.open().attempt(|wal| wal.release(Index(u64::MAX)));
    }

    /// The same bytes, for somebody else.
    pub(super) fn fork(&self) -> MemberDisk {
        let (disk, home) = (self.disk.fork(), self.home.clone());
        MemberDisk { disk, home, open: None, filled: Vec::new() }
    }

    /// What the log occupies. Unit: bytes.
    pub fn log_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.wal.bytes())
    }

    /// The newest checkpoint.
    pub fn newest(&self) -> Option<Position> {
        self.open.as_ref()?.shelf.newest()
    }

    /// Size of the newest checkpoint; 0 if there is none. Unit: bytes.
    pub fn newest_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.shelf.newest_bytes())
    }

    /// A checkpoint begins to be written. One at a time.
    pub fn begin_checkpoint(&mut self, checkpoint: Checkpoint) {
        let before = self.open().writing.replace(checkpoint);
        assert!(before.is_none(), "one checkpoint is written at a time");
    }

    /// It is written, published and durable; older ones are removed.
    ///
    /// Errors: those of the disk; the checkpoints before it are there still.
    /// Panics: if none was begun in this life.
    pub fn finish_checkpoint(&mut self) -> Result<Position, CheckpointFailed> {
        let open = self.open();
        let checkpoint = open.writing.take().expect("a checkpoint was begun");
        open.shelf.write(&checkpoint).map_err(failed)?;
        Ok(checkpoint.position)
    }

    /// What a peer is told of the checkpoint at `position` before it is sent.
    ///
    /// Errors: it is damaged, and was withdrawn; it is not the newest any more.
    pub fn announce(&mut self, position: Position) -> Result<Manifest, CheckpointFailed> {
        let shelf = &self.open().shelf;
        shelf.check(position).map_err(failed)?;
        shelf.announce(position).ok_or_else(|| failed(format!("{position} is gone")))
    }

    /// The part of the announced checkpoint that begins at `offset`; empty at the end.
    ///
    /// Errors: it was removed meanwhile; those of the disk.
    pub fn part(&mut self, position: Position, offset: u64) -> Result<Vec<u8>, CheckpointFailed> {
        self.open().shelf.part(position, offset).map(|part| part.to_vec()).map_err(failed)
    }

    /// Begins to take in what a peer announced, or goes on where an earlier try stood.
    ///
    /// Errors: those of the disk.
    pub fn receive(&mut self, announced: Manifest) -> Result<Reply, CheckpointFailed> {
        let open = self.open();
        open.incoming = None;
        match open.shelf.receive(announced).map_err(failed)? {
            Reception::Here => Ok(Reply::Here),
            Reception::Wanted(incoming) => {
                let offset = incoming.offset();
                open.incoming = Some(incoming);
                Ok(Reply::Send { offset })
            }
        }
    }

    /// Takes the next part. Answers with what is wanted next.
    ///
    /// Errors: nothing is being received; the part is not the next one; those of the disk.
    pub fn receive_part(&mut self, offset: u64, part: &[u8]) -> Result<Reply, CheckpointFailed> {
        let open = self.open();
        let incoming = open.incoming.as_mut().ok_or_else(|| failed("nothing is received"))?;
        incoming.write(offset, part).map_err(failed)?;
        let offset = incoming.offset();
        if offset < incoming.manifest().size {
            return Ok(Reply::Send { offset });
        }
        let incoming = open.incoming.take().expect("just seen");
        incoming.complete().map_err(failed)?;
        Ok(Reply::Here)
    }

    /// Loads a checkpoint that came in whole, for the replica.
    ///
    /// Errors: it cannot be read, or is none of this version.
    pub fn install(&mut self, position: Position) -> Result<Checkpoint, CheckpointFailed> {
        self.open().shelf.install(position).map_err(failed)
    }

    /// The power fails while the member starts: so many calls to the disk as `choose` says still
    /// succeed, and then as in [`MemberDisk::crash`].
    pub fn cut_start_short(&mut self, settings: &ReplicaSettings, life: Life, choose: Choose<'_>) {
        self.disk.fail(Fault::PowerCut { after: choose(START_CALLS) as u64 });
        // Whatever it says: nobody is there to hear it.
        let _ = self.boot(settings, life);
        self.disk.mend(&Fault::PowerCut { after: 0 });
        self.crash(choose);
    }

    /// The power fails. Of what was under way, and of every sector and name that was not synced,
    /// `choose` decides what the medium has. Faults end.
    pub fn crash(&mut self, choose: Choose<'_>) {
        if let Some(mut open) = self.open.take() {
            if open.wal.has_unsynced() {
                self.disk.fail(Fault::PowerCut { after: choose(BATCH_CALLS) as u64 });
                // Whatever it says: nobody is there to hear it.
                let _ = open.wal.sync();
                self.disk.mend(&Fault::PowerCut { after: 0 });
            }
            if let Some(checkpoint) = open.writing.take() {
                self.disk.fail(Fault::PowerCut { after: choose(CHECKPOINT_CALLS) as u64 });
                let _ = open.shelf.write(&checkpoint);
                self.disk.mend(&Fault::PowerCut { after: 0 });
            }
        }
        self.disk.crash(choose);
    }

    /// The process dies and the machine goes on: what was written stays, synced or not.
    pub fn kill(&mut self) {
        if let Some(mut open) = self.open.take()
            && open.wal.has_unsynced()
        {
            self.disk.fail(Fault::PowerCut { after: 1 });
            let _ = open.wal.sync();
            self.disk.mend(&Fault::PowerCut { after: 0 });
        }
    }

    /// From now on this goes wrong with the disk, until it is mended or the power fails.
    pub fn fail(&mut self, fault: Fault) {
        self.disk.fail(fault);
    }

    /// This no longer goes wrong.
    pub fn mend(&mut self, fault: &Fault) {
        self.disk.mend(fault);
    }

    /// There is no space for anything more, until [`MemberDisk::make_room`] or a power failure.
    pub fn fill(&mut self) {
        let fault = Fault::Full { capacity: self.disk.used() };
        self.disk.fail(fault.clone());
        self.filled.push(fault);
    }

    /// There is space again.
    pub fn make_room(&mut self) {
        for fault in self.filled.drain(..) {
            self.disk.mend(&fault);
        }
    }

    /// Some bit of some file turns. Says which; none if there is no file.
    pub fn rot(&mut self, choose: Choose<'_>) -> Option<String> {
        let (path, size) = self.some_file(choose)?;
        let (offset, bit) = (choose(size as usize) as u64, choose(8));
        self.disk.flip(&path, offset, 1 << bit);
        Some(format!("bit {bit} of byte {offset} of {} turns", path.display()))
    }

    /// A sector of some file comes to hold what another one does. Says which; none if that file has
    /// no two sectors, or if it would be its last one.
    pub fn misdirect(&mut self, choose: Choose<'_>) -> Option<String> {
        let (path, size) = self.some_file(choose)?;
        let sectors = size as usize / SECTOR_BYTES;
        if sectors < 2 {
            return None;
        }
        let from = choose(sectors);
        let to = (from + 1 + choose(sectors - 1)) % sectors;
        // The last record and the mark that proves it may share the last sector: without both, the
        // end of a log looks torn, and the log says so of itself (`FORMAT.md`).
        if to == sectors - 1 {
            return None;
        }
        self.disk.misdirect(&path, from as u64, to as u64);
        Some(format!("sector {to} of {} holds what sector {from} does", path.display()))
    }

    /// A file, and how much of it holds data.
    fn some_file(&self, choose: Choose<'_>) -> Option<(PathBuf, u64)> {
        let mut files = self.disk.files();
        files.retain(|(_, size)| *size > 0);
        if files.is_empty() {
            return None;
        }
        let (path, size) = files.swap_remove(choose(files.len()));
        let content = self.disk.content(&path).unwrap_or_default();
        let data = content.iter().rposition(|byte| *byte != 0).map_or(size, |last| last as u64 + 1);
        Some((path, data))
    }

    fn open(&mut self) -> &mut Open {
        self.open.as_mut().expect("only a member that lives uses its disk")
    }
}

impl Open {
    /// Uses the log. A failure is for ever, unless it is for want of space.
    fn attempt(
        &mut self,
        act: impl FnOnce(&mut Wal<MemoryDisk>) -> Result<(), WalError>,
    ) -> Result<(), SyncError> {
        if let Some(why) = &self.failed {
            return Err(SyncError::Fatal(why.clone()));
        }
        match act(&mut self.wal) {
            Ok(()) => Ok(()),
            Err(error) if error.wants_space() => Err(SyncError::Full),
            Err(error) => {
                let why = error.to_string();
                self.failed = Some(why.clone());
                Err(SyncError::Fatal(why))
            }
        }
    }
}

fn failed(why: impl ToString) -> CheckpointFailed {
    CheckpointFailed { why: why.to_string() }
}

#[cfg(test)]
impl MemberDisk {
    /// The file of a checkpoint.
    fn checkpoint_file(&self, position: Position) -> PathBuf {
        self.open.as_ref().expect("it lives").shelf.path_of(position)
    }

    /// No checkpoint is used any more, whatever its checksums say.
    fn set_all_aside(&mut self) {
        let opened = quorate_storage::Checkpoints::open(
            self.disk.clone(),
            &self.home.checkpoints,
            &self.home.identity,
        );
        let checkpoints = opened.expect("a directory");
        for position in checkpoints.positions().expect("readable") {
            checkpoints.set_aside(position).expect("set aside");
        }
    }
}

#[cfg(test)]
mod placements;
#[cfg(test)]
mod tests;
