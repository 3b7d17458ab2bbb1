//! The write-ahead log: what was synced comes back in order, or is named as damaged.
//!
//! Problem: a log that ends at the first bad checksum takes bit rot for a crash and silently drops
//! records which were acknowledged; a log that refuses to start at one takes a crash for bit rot.
//! Both lose clusters.
//!
//! Idea, after Alagappan et al., "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018):
//! each frame has an identity with a checksum of its own, so that a bad frame can be *named* and
//! fetched from a peer; and each frame asserts how far the log was durable when it was made, so
//! that damage before that place is known to be corruption.
//!
//! ```text
//!  append -> buffer -> sync: one write, one fdatasync -> durable
//!
//!  0000000007.wal                        0000000008.wal
//!  | header | sticky | frames ........ | | header | sticky | frames .... | zeros ........ |
//!                                                                        ^ the next frame
//! ```
//!
//! Guarantees:
//! * *Durable order*: every record whose sync returned is given back, in order, or named as lost.
//! * *No invention*: nothing is given back that was not appended, whatever the disk does.
//! * *Sticky records* (a vote, say) survive the release of the segments they were written in, and
//!   critical ones survive any single damage.
//! * *Poison*: after a failed write or sync every call fails; what is on disk is then unknown until
//!   the log is opened anew, which writes the unproven part again (Rebello et al., 2020).
//! * *Patience*: a disk that is full poisons nothing. What could not be written stays in the
//!   buffer, and the next call writes it to the same place.
//!
//! Left out: an index of entries (the replica keeps what it needs in memory), compression.

mod directory;
mod error;
mod files;
mod frame;
mod recover;
mod scrub;
mod segment;
mod survey;
#[cfg(test)]
mod tests;

pub use error::WalError;
pub use files::{Preparation, Prepared};
pub use frame::FRAME_PAYLOAD_MAX;
pub use recover::{Damage, Recovered, Recovery, TornTail, Weight};
pub use scrub::{Flaw, FlawedPart, SegmentFound, WalScrubber};
pub use segment::Place;

use crate::mutant::{Mutant, planted};
use crate::{Disk, DiskFile, Fill, LogIdentity};
use directory::Directory;
use files::OpenSegment;
use frame::{FLAG_COPY, FLAG_HEAD, FRAME_HEADER_BYTES, Header, KIND_OWN, encode, frame_bytes};
use quorate_core::{Frame, Index, Position};
use segment::{SEGMENT_HEADER_BYTES, SegmentHeader, salt, usable_bytes};
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::Path;
use survey::{SegmentInfo, Survey, find_end};

/// A larger sticky record is refused by a panic: each segment repeats it. Unit: bytes.
pub const STICKY_PAYLOAD_MAX: usize = 64 << 10;

/// A write buffer that has grown beyond this is given back after the sync. Unit: bytes.
const BUFFER_KEPT_MAX: usize = 4 << 20;

/// The two copies of a critical record never touch the same block of this size. Unit: bytes.
const COPY_BLOCK_BYTES: usize = 4096;

/// Segments are not made smaller than this. Unit: bytes.
const SEGMENT_BYTES_MIN: u32 = 4 * SEGMENT_HEADER_BYTES as u32;

/// Room for a mark is kept at the end of every segment. Unit: bytes.
const MARK_BYTES: usize = FRAME_HEADER_BYTES;

/// How a log is to be kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WalOptions {
    /// Size of a new segment file. Unit: bytes. Range: 16 KiB ..= 512 MiB; a larger frame gets a
    /// segment of its own size.
    pub segment_bytes: u32,
    /// Kinds of which the latest record is repeated at the head of each segment. Records without a
    /// position are so in any case. When its own segment was released, recovery gives such a record
    /// first of all, even one with a position: before the entries, not among them.
    pub sticky_kinds: Vec<u8>,
    /// Sticky kinds of which each record is written twice.
    pub critical_kinds: Vec<u8>,
}

/// The latest record of a sticky kind.
#[derive(Clone, Debug)]
struct Sticky {
    frame: Frame,
    serial: u64,
}

/// Which records are sticky, which are critical.
#[derive(Clone, Debug)]
struct StickyRules {
    sticky: [bool; 256],
    critical: [bool; 256],
}

/// Bytes of the buffer that belong into one segment.
#[derive(Clone, Copy, Debug)]
struct Run {
    place: Place,
    from: usize,
}

/// A write-ahead log. One owner; blocking calls; no thread of its own.
pub struct Wal<D: Disk> {
    directory: Directory<D>,
    rules: StickyRules,
    segment_bytes: u32,
    /// The segments of the log in order; those to be begun by the next sync included.
    segments: VecDeque<SegmentInfo>,
    current: OpenSegment<D::File>,
    spare: Option<OpenSegment<D::File>>,
    /// The last segment whose preparation was offered.
    offered: u32,
    sticky: BTreeMap<u8, Sticky>,
    serial: u64,
    /// The last log entry that was appended.
    last_entry: Position,
    /// Where the next frame goes.
    head: Place,
    /// Everything before is on stable storage.
    synced: Place,
    /// What the next frame asserts to be durable.
    assertable: Place,
    /// The greatest place that was asserted by a frame written so far.
    asserted: Place,
    buffer: Vec<u8>,
    runs: Vec<Run>,
    /// A mark was written and not synced.
    unsynced_mark: bool,
    poison: Option<WalError>,
    _lock: D::Lock,
}

impl Default for WalOptions {
    fn default() -> Self {
        WalOptions { segment_bytes: 64 << 20, sticky_kinds: Vec::new(), critical_kinds: Vec::new() }
    }
}

impl<D: Disk> Wal<D> {
    /// Opens the log in `dir`, or makes an empty one. What is found is repaired as far as the log
    /// alone can: a torn tail is cut off, the unproven rest is made durable.
    ///
    /// Errors: all of [`WalError`]; a foreign, newer or locked log is left untouched.
    /// Panics: if a size in the options is out of its range.
    pub fn open(
        disk: D,
        dir: &Path,
        options: WalOptions,
        identity: &LogIdentity,
    ) -> Result<(Wal<D>, Recovery<D>), WalError> {
        assert!(
            (SEGMENT_BYTES_MIN..=512 << 20).contains(&options.segment_bytes),
            "a segment of {} bytes",
            options.segment_bytes
        );
        let directory = Directory { disk, path: dir.to_owned(), identity: *identity };
        let lock = directory.claim()?;
        let rules = StickyRules::new(&options);
        let numbers = directory.numbers()?;
        let Some(end) = find_end(&directory, &numbers)? else {
            let wal = Wal::create(directory.clone(), &numbers, rules, &options, lock)?;
            return Ok((wal, Recovery::empty(directory)));
        };
        let survey = Survey::take(&directory, &numbers, &end, &rules)?;
        let settled = directory.settle(&numbers, &end, &survey)?;
        let wal = Wal {
            rules,
            segment_bytes: options.segment_bytes,
            segments: survey.segments.iter().copied().collect(),
            current: settled.current,
            spare: settled.spare,
            offered: 0,
            sticky: survey.sticky.clone(),
            serial: survey.last_serial.unwrap_or(0),
            last_entry: survey.before.unwrap_or(Position::ZERO),
            head: settled.head,
            synced: settled.head,
            assertable: settled.head,
            asserted: end.proof,
            buffer: Vec::new(),
            runs: Vec::new(),
            unsynced_mark: false,
            poison: None,
            _lock: lock,
            directory: directory.clone(),
        };
        Ok((wal, Recovery::new(directory, survey, end.torn_tail)))
    }

    fn create(
        directory: Directory<D>,
        leftovers: &[u32],
        rules: StickyRules,
        options: &WalOptions,
        lock: D::Lock,
    ) -> Result<Wal<D>, WalError> {
        directory.sweep()?;
        for number in leftovers {
            directory.remove(*number)?;
        }
        let size = usable_bytes(options.segment_bytes.into());
        let current = directory.make_segment(1, size, Fill::Zeroed)?;
        let info = SegmentInfo::begun(1, size, 0, Position::ZERO);
        directory.write_header(&current, &info)?;
        let head = Place { segment: 1, offset: SEGMENT_HEADER_BYTES as u32 };
        Ok(Wal {
            rules,
            segment_bytes: options.segment_bytes,
            segments: VecDeque::from([info]),
            current,
            spare: None,
            offered: 0,
            sticky: BTreeMap::new(),
            serial: 0,
            last_entry: Position::ZERO,
            head,
            synced: head,
            assertable: head,
            asserted: Place::default(),
            buffer: Vec::new(),
            runs: Vec::new(),
            unsynced_mark: false,
            poison: None,
            _lock: lock,
            directory,
        })
    }

    /// Puts a record into the write buffer. No I/O: it is durable when the next [`Wal::sync`]
    /// returns. The buffer grows until then; the caller bounds its batches.
    ///
    /// Panics: if the kind is 0, which is ours, or the payload exceeds [`FRAME_PAYLOAD_MAX`]
    /// ([`STICKY_PAYLOAD_MAX`] for a sticky record).
    pub fn append(&mut self, frame: &Frame) {
        assert!(frame.kind != KIND_OWN, "kind 0 is reserved for the log itself");
        let length = frame.payload.len();
        assert!(length <= FRAME_PAYLOAD_MAX, "a payload of {length} bytes");
        let sticky = self.rules.is_sticky(frame.kind, frame.position);
        assert!(!sticky || length <= STICKY_PAYLOAD_MAX, "a sticky payload of {length} bytes");
        let twice = sticky && self.rules.critical[usize::from(frame.kind)];
        let space = if twice { space_of_two(length) } else { frame_bytes(length) };
        if !self.fits(space) {
            self.roll(space);
        }
        self.serial += 1;
        let serial = self.serial;
        self.put(frame, serial, 0);
        if twice && !planted(Mutant::SingleCriticalCopy) {
            self.put_copy(frame, serial, FLAG_COPY);
        }
        let segment = self.segments.back_mut().expect("a log has a segment");
        segment.index_max = segment.index_max.max(frame.position.index);
        if frame.position.index > Index(0) {
            self.last_entry = frame.position;
        }
        if sticky {
            self.sticky.insert(frame.kind, Sticky { frame: frame.clone(), serial });
        }
    }

    /// Makes everything appended so far durable: one write and one fdatasync per segment touched,
    /// which is one as a rule. Does nothing if there is nothing to do.
    ///
    /// Errors: [`WalError::Io`], and then for ever: what is on disk is unknown, stop the node. If
    /// it [wants space](WalError::wants_space) only, call again when there may be some.
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.healthy()?;
        let outcome = self.write_and_sync();
        if outcome.as_ref().is_err_and(WalError::wants_space) {
            return if planted(Mutant::FullIsDone) { Ok(()) } else { outcome };
        }
        self.poison = outcome.clone().err();
        outcome
    }

    /// To be called when idle: records how far the log was synced, by a write without a sync. From
    /// then on damage to the last batch is told from a torn tail. Does nothing if frames wait for
    /// their sync, or if the last sync is recorded already.
    ///
    /// Errors: as [`Wal::sync`].
    pub fn mark(&mut self) -> Result<(), WalError> {
        self.healthy()?;
        let room = self.current.size.saturating_sub(self.head.offset) as usize >= MARK_BYTES;
        if !self.buffer.is_empty() || self.asserted >= self.synced || !room {
            return Ok(());
        }
        self.put_own(0);
        let outcome = self.write_run(0);
        if outcome.as_ref().is_err_and(WalError::wants_space) {
            return Ok(()); // It stays in the buffer and leaves with the next batch.
        }
        self.buffer.clear();
        self.runs.clear();
        self.unsynced_mark = true;
        self.poison = outcome.clone().err();
        outcome
    }

    /// Syncs what is buffered, then records that durably: a log closed so has no doubtful tail.
    ///
    /// Errors: as [`Wal::sync`].
    pub fn close(mut self) -> Result<(), WalError> {
        self.sync()?;
        self.mark()?;
        self.sync()
    }

    /// Ends the current segment, if it holds anything: what is appended from now on goes to a new
    /// one, at whose head the sticky records stand, durable on return. So the one that was current
    /// can be released.
    ///
    /// Errors: as [`Wal::sync`]. If it wants space, the new segment is begun by a later sync.
    pub fn seal(&mut self) -> Result<(), WalError> {
        self.sync()?;
        if self.head.offset as usize > SEGMENT_HEADER_BYTES {
            self.roll(0);
        }
        self.sync()
    }

    /// Removes the oldest segments, as long as they hold no entry after `upto`. The sticky records
    /// stay: each later segment repeats them at its head.
    ///
    /// Errors: as [`Wal::sync`].
    pub fn release(&mut self, upto: Index) -> Result<(), WalError> {
        self.healthy()?;
        let upto = if planted(Mutant::ReleaseTooFar) { Index(u64::MAX) } else { upto };
        while let Some(oldest) = self.segments.front()
            && oldest.index_max <= upto
            && oldest.number < self.synced.segment
        {
            // One at a time and each durably: a hole in the middle would look like damage.
            let removed = self.directory.remove(oldest.number);
            self.poison = removed.clone().err();
            removed?;
            self.segments.pop_front();
        }
        Ok(())
    }

    /// What the log occupies, from its oldest segment to its head. Unit: bytes.
    pub fn bytes(&self) -> u64 {
        let before = self.segments.iter().rev().skip(1).map(|info| u64::from(info.used));
        before.sum::<u64>() + u64::from(self.head.offset)
    }

    /// True if something was appended that no sync has made durable.
    pub fn has_unsynced(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Everything before this place is on stable storage.
    pub fn synced(&self) -> Place {
        self.synced
    }

    /// The making of the next segment, when the current one is half full and there is none yet.
    /// Run it on any thread and [`Wal::adopt`] the outcome. It is offered once per segment. A log
    /// that needs the segment before is not stalled: it reserves one, whose syncs cost a little
    /// more.
    pub fn preparation(&mut self) -> Option<Preparation<D>> {
        let half_full = self.head.offset > self.current.size / 2;
        let number = self.head.segment + 1;
        if !half_full || self.spare.is_some() || self.offered >= number {
            return None;
        }
        self.offered = number;
        let size = usable_bytes(self.segment_bytes.into());
        Some(Preparation { directory: self.directory.clone(), number, size })
    }

    /// Takes a segment made ahead. One that comes too late is removed.
    ///
    /// Errors: as [`Wal::sync`].
    pub fn adopt(&mut self, prepared: Prepared<D>) -> Result<(), WalError> {
        self.healthy()?;
        let segment = prepared.0;
        let in_time = segment.number == self.current.number + 1 && self.spare.is_none();
        if !in_time {
            return self.directory.discard_prepared(segment.number);
        }
        let outcome = self.directory.publish_prepared(segment.number);
        self.poison = outcome.clone().err();
        self.spare = Some(segment);
        outcome
    }

    /// Makes the next segment here and now if it is time: for callers with one thread.
    ///
    /// Errors: as [`Preparation::run`] and [`Wal::adopt`].
    pub fn prepare(&mut self) -> Result<(), WalError> {
        match self.preparation() {
            Some(preparation) => self.adopt(preparation.run()?),
            None => Ok(()),
        }
    }

    fn healthy(&self) -> Result<(), WalError> {
        self.poison.clone().map_or(Ok(()), Err)
    }

    fn write_and_sync(&mut self) -> Result<(), WalError> {
        if self.buffer.is_empty() && !self.unsynced_mark {
            return Ok(());
        }
        if self.runs.is_empty() {
            self.sync_current()?;
        }
        for run in 0..self.runs.len() {
            if let Err(error) = self.write_run(run) {
                self.written(run);
                return Err(error);
            }
            // In order: a frame of one segment asserts that those before it are durable.
            self.sync_current()?;
        }
        self.written(self.runs.len());
        self.buffer.shrink_to(BUFFER_KEPT_MAX);
        self.unsynced_mark = false;
        self.synced = self.head;
        self.assertable = self.head;
        Ok(())
    }

    /// The first so many runs need not be written again.
    fn written(&mut self, runs: usize) {
        let bytes = self.runs.get(runs).map_or(self.buffer.len(), |run| run.from);
        self.buffer.drain(..bytes);
        self.runs.drain(..runs);
        self.runs.iter_mut().for_each(|run| run.from -= bytes);
    }

    fn sync_current(&self) -> Result<(), WalError> {
        if planted(Mutant::ForgetSync) {
            return Ok(());
        }
        let synced = self.current.file.sync();
        let synced = if planted(Mutant::SyncErrorIgnored) { synced.or(Ok(())) } else { synced };
        synced.map_err(|error| {
            let path = self.directory.path_of(self.current.number);
            self.directory.fault("sync", &path, &error)
        })
    }

    fn write_run(&mut self, number: usize) -> Result<(), WalError> {
        let Run { place, from } = self.runs[number];
        let to = self.runs.get(number + 1).map_or(self.buffer.len(), |next| next.from);
        if place.segment != self.current.number {
            self.next_segment(place.segment)?;
        }
        let bytes = &self.buffer[from..to];
        assert!(place.offset as usize + bytes.len() <= self.current.size as usize, "out of space");
        let written = self.current.file.write_at(place.offset.into(), bytes);
        written.map_err(|error| {
            let path = self.directory.path_of(place.segment);
            self.directory.fault("write", &path, &error)
        })
    }

    /// Opens the segment that a run needs: the one made ahead, or a new one.
    fn next_segment(&mut self, number: u32) -> Result<(), WalError> {
        assert_eq!(number, self.current.number + 1, "segments are begun in order");
        let info = self.segments.iter().find(|info| info.number == number);
        let size = info.expect("a run lies in a segment of the log").size;
        let mut next = match self.spare.take() {
            Some(spare) => spare,
            None => self.directory.make_segment(number, size, Fill::Reserved)?,
        };
        assert_eq!(next.number, number, "a spare for another place");
        if next.size < size {
            let path = self.directory.path_of(number);
            let grown = next.file.preallocate(size.into(), Fill::Reserved);
            grown.map_err(|error| self.directory.fault("preallocation", &path, &error))?;
            next.size = size;
        }
        self.current = next;
        Ok(())
    }

    fn fits(&self, space: usize) -> bool {
        let size = self.segments.back().expect("a log has a segment").size as usize;
        self.head.offset as usize + space + MARK_BYTES <= size
    }

    /// Begins a new segment in the buffer, with room for at least `space` bytes of frames.
    fn roll(&mut self, space: usize) {
        let heads: usize = self.sticky.values().map(|sticky| self.head_space(sticky)).sum();
        let needed = SEGMENT_HEADER_BYTES + heads + space + MARK_BYTES;
        let needed = u32::try_from(needed).expect("bounded by the greatest payloads");
        let size = usable_bytes(self.segment_bytes.max(needed).next_multiple_of(8).into());
        let last = self.segments.back_mut().expect("a log has a segment");
        last.used = self.head.offset;
        let number = self.head.segment.checked_add(1).expect("too many segments");
        let info = SegmentInfo::begun(number, size, self.serial, self.last_entry);
        self.segments.push_back(info);
        self.head = Place::start_of(number);
        // True when it is written: all before is synced first.
        self.assertable = self.head;
        let header = info.header(self.directory.identity);
        self.begin_run();
        self.buffer.extend_from_slice(&header.encode());
        self.head.offset = SEGMENT_HEADER_BYTES as u32;
        if planted(Mutant::ForgetSticky) {
            return;
        }
        let sticky = std::mem::take(&mut self.sticky);
        for latest in sticky.values() {
            self.put(&latest.frame, latest.serial, FLAG_COPY | FLAG_HEAD);
            if self.rules.critical[usize::from(latest.frame.kind)] {
                self.put_copy(&latest.frame, latest.serial, FLAG_COPY | FLAG_HEAD);
            }
        }
        self.sticky = sticky;
    }

    fn head_space(&self, sticky: &Sticky) -> usize {
        let length = sticky.frame.payload.len();
        match self.rules.critical[usize::from(sticky.frame.kind)] {
            true => space_of_two(length),
            false => frame_bytes(length),
        }
    }

    /// Notes that what follows in the buffer goes to the head of the log.
    fn begin_run(&mut self) {
        self.runs.push(Run { place: self.head, from: self.buffer.len() });
    }

    fn put(&mut self, frame: &Frame, serial: u64, flags: u8) {
        let Frame { kind, position, ref payload } = *frame;
        self.put_raw(kind, flags, position, serial, payload);
    }

    /// Repeats a frame in a block that the last frame does not touch.
    fn put_copy(&mut self, frame: &Frame, serial: u64, flags: u8) {
        let gap = gap_to_next_block(self.head.offset as usize);
        if gap > 0 {
            self.put_own(gap - FRAME_HEADER_BYTES);
        }
        self.put(frame, serial, flags);
    }

    /// A frame of the log itself: a mark, or a filler of this many bytes. It tells the last entry.
    fn put_own(&mut self, length: usize) {
        assert!(length < 2 * COPY_BLOCK_BYTES, "a filler of {length} bytes");
        let zeros = [0; 2 * COPY_BLOCK_BYTES];
        self.put_raw(KIND_OWN, 0, self.last_entry, self.serial, &zeros[..length]);
    }

    fn put_raw(&mut self, kind: u8, flags: u8, position: Position, serial: u64, payload: &[u8]) {
        if self.runs.is_empty() {
            self.begin_run();
        }
        let length = payload.len() as u32;
        let synced = self.assertable;
        let header = Header { kind, flags, length, position, serial, synced, payload_crc: 0 };
        let salt = salt(&self.directory.identity, self.head.segment);
        encode(&mut self.buffer, salt, self.head.offset, &header, payload);
        self.head.offset += frame_bytes(payload.len()) as u32;
        self.asserted = self.asserted.max(synced);
    }
}

impl SegmentInfo {
    fn begun(number: u32, size: u32, base_serial: u64, base_position: Position) -> SegmentInfo {
        SegmentInfo {
            number,
            size,
            used: SEGMENT_HEADER_BYTES as u32,
            index_max: Index(0),
            base_serial,
            base_position,
            header_damaged: None,
        }
    }

    fn header(&self, identity: LogIdentity) -> SegmentHeader {
        SegmentHeader {
            identity,
            segment: self.number,
            base_serial: self.base_serial,
            base_position: self.base_position,
        }
    }
}

impl StickyRules {
    fn new(options: &WalOptions) -> StickyRules {
        let mut rules = StickyRules { sticky: [false; 256], critical: [false; 256] };
        for kind in options.sticky_kinds.iter().chain(&options.critical_kinds) {
            rules.sticky[usize::from(*kind)] = true;
        }
        for kind in &options.critical_kinds {
            rules.critical[usize::from(*kind)] = true;
        }
        rules
    }

    fn is_sticky(&self, kind: u8, position: Position) -> bool {
        position == Position::ZERO || self.sticky[usize::from(kind)]
    }
}

/// From `offset` to the next block, leaving room for a filler or nothing. Unit: bytes.
fn gap_to_next_block(offset: usize) -> usize {
    let gap = offset.next_multiple_of(COPY_BLOCK_BYTES) - offset;
    if gap > 0 && gap < FRAME_HEADER_BYTES { gap + COPY_BLOCK_BYTES } else { gap }
}

/// The most that a critical record takes. Unit: bytes.
fn space_of_two(payload_len: usize) -> usize {
    2 * frame_bytes(payload_len) + FRAME_HEADER_BYTES + COPY_BLOCK_BYTES
}

impl<D: Disk> fmt::Debug for Wal<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("directory", &self.directory.path)
            .field("head", &self.head)
            .field("synced", &self.synced)
            .field("serial", &self.serial)
            .field("poison", &self.poison)
            .finish_non_exhaustive()
    }
}
