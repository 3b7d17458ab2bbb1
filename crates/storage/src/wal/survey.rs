//! The pass over a log at open: where it ends, what is lost, and what that is called.
//!
//! First the end is found, from the back. Every intact frame (and every intact segment header)
//! asserts that the log was durable up to some place; the greatest such place is the *proof*:
//!
//! ```text
//!        durable for certain            |  nobody knows
//!   -----------------------------------P---------------------------> place
//!         a bad region here            |  a bad region here
//!         is corruption: named         |  is a torn tail: cut off here
//! ```
//!
//! Then the frames up to the end are counted by their serials. A gap in the serials is a loss, and
//! its size is known; if as many log indexes are missing between the entries around the gap, the
//! lost records were these entries. Damage without a gap (in a copy, a mark, a filler) cost
//! nothing.

use super::directory::{Directory, Loaded};
use super::frame::{Cursor, FRAME_HEADER_BYTES, Header, Piece, frame_bytes};
use super::recover::Weight;
use super::segment::{Place, SEGMENT_HEADER_BYTES, salt};
use super::{COPY_BLOCK_BYTES, Damage, Sticky, StickyRules, TornTail, WalError};
use crate::Disk;
use crate::mutant::{Mutant, planted};
use bytes::Bytes;
use quorate_core::{Frame, Index, Position};
use std::collections::BTreeMap;

/// Of one gap at most so many lost records are told apart; the rest is one unnamed damage more.
const GAP_RECORDS_MAX: u64 = 1 << 20;

const HEADER_END: u32 = SEGMENT_HEADER_BYTES as u32;

/// Where the log ends and why.
pub(super) struct End {
    /// Everything before was once durable.
    pub(super) proof: Place,
    /// The log ends here; whatever follows in this segment is to be zeroed.
    pub(super) cut: Place,
    pub(super) torn_tail: Option<TornTail>,
    /// The segment in which it ends, kept so that it need not be read again.
    pub(super) tail: Loaded,
}

/// A segment that holds a part of the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct SegmentInfo {
    pub(super) number: u32,
    /// Usable size of the file. Unit: bytes.
    pub(super) size: u32,
    /// Frames end here. Unit: bytes.
    pub(super) used: u32,
    /// The greatest index of an entry in it.
    pub(super) index_max: Index,
    /// What its header says, or should say if it is damaged.
    pub(super) base_serial: u64,
    pub(super) base_position: Position,
    pub(super) header_damaged: Option<HeaderDamaged>,
}

/// The header has to be written again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct HeaderDamaged;

/// A record that was once durable and cannot be read any more where it was written.
#[derive(Clone, Debug)]
pub(super) struct Loss {
    pub(super) serial: u64,
    pub(super) damage: Damage,
    /// The record itself, if a copy of it was found.
    pub(super) healed: Option<Frame>,
}

/// What the pass over the log found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    pub(super) segments: Vec<SegmentInfo>,
    pub(super) sticky: BTreeMap<u8, Sticky>,
    pub(super) losses: Vec<Loss>,
    pub(super) damaged_places: u64,
    pub(super) last_serial: Option<u64>,
    bad_since: Option<Place>,
    pub(super) before: Option<Position>,
    run_from: usize,
    runs: Vec<Run>,
    /// A region is damaged that can have held both copies of a critical record.
    held_two: bool,
}

/// The losses `from..to` lie between what is known here.
#[derive(Debug)]
struct Run {
    from: usize,
    to: usize,
    before: Option<Position>,
    after: After,
}

/// What is known after some losses.
#[derive(Clone, Copy, Debug)]
enum After {
    /// This entry comes next.
    Entry(Position),
    /// This was the last entry, lost or not.
    Reached(Position),
}

/// Finds the end of the log among segments in order; none if nothing of any log is there.
pub(super) fn find_end<D: Disk>(
    directory: &Directory<D>,
    numbers: &[u32],
) -> Result<Option<End>, WalError> {
    for (at, number) in numbers.iter().enumerate().rev() {
        let loaded = directory.load(*number)?;
        // Segments are removed only after, and made only while, a neighbour is in use.
        let floor = if begun_for_certain(&loaded, at, numbers) {
            Place { segment: *number, offset: HEADER_END }
        } else {
            Place::default()
        };
        let proof = proof_in(&loaded, directory).max(floor);
        if proof != Place::default() {
            let (proof, cut, torn_tail) = end_of(&loaded, directory, proof);
            return Ok(Some(End { proof, cut, torn_tail, tail: loaded }));
        }
    }
    Ok(None)
}

/// True if the header of this segment must have been durable, whatever it looks like now.
fn begun_for_certain(loaded: &Loaded, at: usize, numbers: &[u32]) -> bool {
    let has_successor = at + 1 < numbers.len();
    let survivors_only = at == 0 && loaded.number > 1;
    // The first header of all is synced before any frame is written.
    let first_with_frames = loaded.number == 1 && loaded.data_end > SEGMENT_HEADER_BYTES;
    has_successor || survivors_only || first_with_frames
}

/// How far the log was durable, as this segment asserts.
fn proof_in<D>(loaded: &Loaded, directory: &Directory<D>) -> Place {
    let start = Place::start_of(loaded.number);
    let mut proof = if loaded.header.is_some() { start } else { Place::default() };
    for piece in cursor(loaded, directory, u32::MAX) {
        if let Piece::Frame { at, header, .. } = piece {
            let here = Place { segment: loaded.number, offset: at };
            // An assertion about the future is nonsense; do not let it cover a torn tail.
            proof = proof.max(start).max(header.synced.min(here));
        }
    }
    proof
}

/// The proof, the end of the log, and what is cut off there.
fn end_of<D>(
    loaded: &Loaded,
    directory: &Directory<D>,
    proof: Place,
) -> (Place, Place, Option<TornTail>) {
    let proof = if planted(Mutant::CorruptionIsTorn) { Place::default() } else { proof };
    let place = |offset| Place { segment: loaded.number, offset };
    let torn = |cut: Place, frames| {
        let bytes = (loaded.data_end as u64).saturating_sub(u64::from(cut.offset));
        (proof, cut, Some(TornTail { place: cut, bytes, frames }))
    };
    if loaded.header.is_none() && proof < place(HEADER_END) {
        let dropped = cursor(loaded, directory, u32::MAX).filter(is_intact).count();
        return torn(place(0), dropped as u64);
    }
    let mut pieces = cursor(loaded, directory, u32::MAX);
    while let Some(piece) = pieces.next() {
        let (at, end) = extent(&piece);
        if !is_intact(&piece) && place(end) > proof {
            let dropped = pieces.filter(is_intact).count();
            return torn(place(at).max(proof), dropped as u64);
        }
    }
    (proof, place(pieces.at()), None)
}

fn is_intact(piece: &Piece<'_>) -> bool {
    matches!(piece, Piece::Frame { payload: Some(_), .. })
}

fn extent(piece: &Piece<'_>) -> (u32, u32) {
    match piece {
        Piece::Frame { at, header, .. } => (*at, at + frame_bytes(header.length as usize) as u32),
        Piece::Bad { at, end } => (*at, *end),
    }
}

pub(super) fn cursor<'a, D>(loaded: &'a Loaded, directory: &Directory<D>, to: u32) -> Cursor<'a> {
    let salt = salt(&directory.identity, loaded.number);
    Cursor::new(&loaded.bytes, salt, HEADER_END, to, loaded.data_end)
}

impl Survey {
    /// Counts what the segments up to the end hold.
    pub(super) fn take<D: Disk>(
        directory: &Directory<D>,
        numbers: &[u32],
        end: &End,
        rules: &StickyRules,
    ) -> Result<Survey, WalError> {
        let mut survey = Survey::default();
        for number in numbers.iter().filter(|number| **number < end.cut.segment) {
            survey.segment(&directory.load(*number)?, directory, u32::MAX, rules);
        }
        // A segment whose very header was not durable was never begun.
        if end.cut > Place::start_of(end.tail.number) {
            survey.segment(&end.tail, directory, end.cut.offset, rules);
        }
        survey.finish();
        Ok(survey)
    }

    fn segment<D>(
        &mut self,
        loaded: &Loaded,
        directory: &Directory<D>,
        to: u32,
        rules: &StickyRules,
    ) {
        let start = Place::start_of(loaded.number);
        self.segments.push(SegmentInfo {
            number: loaded.number,
            size: loaded.bytes.len() as u32,
            used: HEADER_END,
            index_max: Index(0),
            base_serial: 0,
            base_position: self.before.unwrap_or(Position::ZERO),
            header_damaged: loaded.header.is_none().then_some(HeaderDamaged),
        });
        match loaded.header {
            Some(header) => {
                self.before.get_or_insert(header.base_position);
                self.witness(header.base_serial, start);
                self.known(After::Reached(header.base_position));
            }
            None => self.damaged_at(start),
        }
        self.last_segment().base_serial = self.last_serial.unwrap_or(0);
        let mut pieces = cursor(loaded, directory, to);
        let mut intact = 0;
        for piece in pieces.by_ref() {
            intact += u64::from(is_intact(&piece));
            self.piece(loaded.number, &piece, rules);
        }
        let used = pieces.at();
        self.last_segment().used = used;
        if loaded.header.is_none() && intact == 0 {
            // Begun for certain, and nothing of it is left: how much there was nobody knows.
            self.lose(self.last_serial.unwrap_or(0) + 1, Damage::unnamed(start));
        }
    }

    fn piece(&mut self, segment: u32, piece: &Piece<'_>, rules: &StickyRules) {
        let (at, _) = extent(piece);
        let place = Place { segment, offset: at };
        let Piece::Frame { header, payload, .. } = piece else {
            let (at, end) = extent(piece);
            self.held_two |= can_hold_two(at as usize, end as usize);
            return self.damaged_at(place);
        };
        if payload.is_none() {
            self.damaged_at(place);
        }
        if header.is_content() {
            self.content(header, *payload, place, rules);
        } else if header.is_copy() {
            self.copy(header, *payload, place, rules);
        } else {
            self.witness(header.serial, place);
            self.known(After::Reached(header.position));
        }
    }

    fn content(
        &mut self,
        header: &Header,
        payload: Option<&[u8]>,
        place: Place,
        rules: &StickyRules,
    ) {
        if self.is_stale(header.serial) {
            return self.damaged_at(place);
        }
        self.witness(header.serial - 1, place);
        self.last_serial = Some(header.serial);
        self.bad_since = None;
        if header.position.index > Index(0) {
            self.entry(header.position);
        }
        match payload {
            Some(payload) => self.stick(header, payload, rules),
            None => self.lose(header.serial, Damage::named(header.kind, header.position, place)),
        }
    }

    fn copy(&mut self, header: &Header, payload: Option<&[u8]>, place: Place, rules: &StickyRules) {
        let Some(payload) = payload else { return };
        if header.serial == 0 {
            return; // A copy of nothing: records are counted from 1.
        }
        if !header.is_head() && self.last_serial.is_none_or(|last| header.serial > last) {
            // The original is gone; its copy takes its place in the count.
            self.witness(header.serial - 1, place);
            self.last_serial = Some(header.serial);
            self.bad_since = None;
            if header.position.index > Index(0) {
                self.entry(header.position);
            }
        }
        if header.is_healing()
            && let Ok(at) = self.losses.binary_search_by_key(&header.serial, |loss| loss.serial)
        {
            let payload = Bytes::copy_from_slice(payload);
            let frame = Frame { kind: header.kind, position: header.position, payload };
            self.losses[at].healed = Some(frame);
        }
        self.stick(header, payload, rules);
    }

    fn stick(&mut self, header: &Header, payload: &[u8], rules: &StickyRules) {
        let newest = self.sticky.get(&header.kind).is_none_or(|old| old.serial <= header.serial);
        if rules.is_sticky(header.kind, header.position) && newest {
            let payload = Bytes::copy_from_slice(payload);
            let frame = Frame { kind: header.kind, position: header.position, payload };
            self.sticky.insert(header.kind, Sticky { frame, serial: header.serial });
        }
    }

    /// The records up to `serial` were written before `place`; those not seen are lost.
    fn witness(&mut self, serial: u64, place: Place) {
        let Some(last) = self.last_serial else {
            // The segments before this one were released.
            self.last_serial = Some(serial);
            self.last_segment().base_serial = serial;
            return;
        };
        if serial <= last {
            return;
        }
        let from = self.bad_since.take().unwrap_or(place);
        let told_apart = (serial - last).min(GAP_RECORDS_MAX);
        if told_apart < serial - last {
            self.lose(serial - told_apart, Damage::unnamed(from));
        }
        for lost in serial - told_apart + 1..=serial {
            self.lose(lost, Damage::unnamed(from));
        }
        self.last_serial = Some(serial);
    }

    fn is_stale(&self, serial: u64) -> bool {
        serial == 0 || self.last_serial.is_some_and(|last| serial <= last)
    }

    fn damaged_at(&mut self, place: Place) {
        self.damaged_places += 1;
        self.bad_since.get_or_insert(place);
    }

    fn lose(&mut self, serial: u64, damage: Damage) {
        self.losses.push(Loss { serial, damage, healed: None });
        if damage.kind.is_some() {
            // It has its name: it takes no part in guessing the names of others.
            self.run_from = self.losses.len();
        }
    }

    fn entry(&mut self, position: Position) {
        self.known(After::Entry(position));
        let segment = self.last_segment();
        segment.index_max = segment.index_max.max(position.index);
    }

    /// The losses since the last such knowledge can be named by it.
    fn known(&mut self, after: After) {
        let (from, to) = (self.run_from, self.losses.len());
        if from < to {
            self.runs.push(Run { from, to, before: self.before, after });
        }
        self.run_from = to;
        let (After::Entry(position) | After::Reached(position)) = after;
        self.before = Some(position);
    }

    fn last_segment(&mut self) -> &mut SegmentInfo {
        self.segments.last_mut().expect("frames are found in segments only")
    }

    /// Names what can be named.
    fn finish(&mut self) {
        for run in std::mem::take(&mut self.runs) {
            let mut lost: Vec<&mut Loss> = self.losses[run.from..run.to]
                .iter_mut()
                .filter(|loss| loss.healed.is_none())
                .collect();
            name_entries(&mut lost, run.before, run.after);
        }
        if self.damaged_places == 1 && !self.held_two {
            let unknown = self.losses.iter_mut().filter(|loss| loss.damage.kind.is_none());
            unknown.for_each(|loss| loss.damage.weight = Weight::NotCritical);
        }
        for loss in &self.losses {
            if let Some(kind) = loss.damage.kind
                && loss.healed.is_none()
                && self.sticky.get(&kind).is_some_and(|sticky| sticky.serial < loss.serial)
            {
                // What superseded it is lost: the old one must not come back as the latest.
                self.sticky.remove(&kind);
            }
        }
        self.losses.sort_by_key(|loss| loss.damage.place);
    }
}

/// True if both copies of a critical record may have lain in these bytes: they never touch the same
/// block, and neither is shorter than a header.
fn can_hold_two(at: usize, end: usize) -> bool {
    let one_block = at / COPY_BLOCK_BYTES == end.saturating_sub(1) / COPY_BLOCK_BYTES;
    !one_block && end - at >= 2 * FRAME_HEADER_BYTES
}

/// Some records are lost after the entry `before`. If some indexes are missing, as many of the lost
/// records were these entries.
fn name_entries(lost: &mut [&mut Loss], before: Option<Position>, after: After) {
    let Some(before) = before else { return };
    let (last, upto) = match after {
        After::Entry(next) => (next, next.index.0),
        After::Reached(last) => (last, last.index.0.saturating_add(1)),
    };
    let missing = upto.saturating_sub(before.index.0).saturating_sub(1);
    if missing == 0 && last.term == before.term && upto == before.index.0.saturating_add(1) {
        // No entry is missing, and within a term none takes the place of another.
        lost.iter_mut().for_each(|loss| loss.damage.position = Some(Position::ZERO));
    }
    if missing > lost.len() as u64 {
        return; // The log was moved forward, by a checkpoint: the indexes say nothing.
    }
    for (loss, index) in lost.iter_mut().zip(before.index.0.saturating_add(1)..upto) {
        let position = Position { term: last.term, index: Index(index) };
        loss.damage.index = Some(position.index);
        // Terms never go down, so between equal ones there is no other.
        if before.term == last.term || position == last {
            loss.damage.position = Some(position);
        }
    }
}
