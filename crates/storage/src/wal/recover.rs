//! What a log held, in order, one segment in memory at a time.

use super::WalError;
use super::directory::{Directory, Loaded};
use super::frame::{Cursor, Header, KIND_OWN, Piece};
use super::segment::{Place, SEGMENT_HEADER_BYTES, salt};
use super::survey::{Loss, Survey};
use crate::Disk;
use bytes::Bytes;
use quorate_core::{Frame, Position};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

/// An unfinished batch at the end of the log, cut off when it was opened.
///
/// It was written and its sync was never proven to have returned: see "The ambiguity that remains"
/// in `FORMAT.md`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TornTail {
    /// Where it began; the log continues there.
    pub place: Place,
    /// How much was cut off. Unit: bytes.
    pub bytes: u64,
    /// Whole frames among it, after the first bad one.
    pub frames: u64,
}

/// One thing that the log gives back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recovered {
    /// A record, as it was appended.
    Frame(Frame),
    /// A record that was once durable and is lost. Fetch it from a peer, or refuse to take part in
    /// what it decided.
    Damaged(Damage),
}

/// The name of a lost record, as far as it is known. A later frame of the same kind (if sticky) or
/// of the same or a lower index (if a log entry) supersedes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damage {
    /// The kind, if the header of the frame survived.
    pub kind: Option<u8>,
    /// Which record exactly: [`Position::ZERO`] if it is known to be no log entry.
    pub position: Option<Position>,
    /// The place in the replicated log, known by inference even where the term is not.
    pub index: Option<quorate_core::Index>,
    /// Where the damage begins on disk.
    pub place: Place,
    /// Where the kind is not known: whether it can have been a critical one.
    pub weight: Weight,
}

/// What a lost record can have been.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Weight {
    /// Anything.
    Unknown,
    /// No critical record: all that is damaged of the log is too little to have held both of its
    /// copies.
    NotCritical,
}

/// The records of a log, read segment by segment: an iterator to be run before the log is
/// released, though appending does not disturb it.
pub struct Recovery<D: Disk> {
    /// True if there was no log and an empty one was made. A member that has taken part before
    /// must not go on with an empty log.
    pub created: bool,
    /// What was cut off, if anything.
    pub torn_tail: Option<TornTail>,
    /// Damaged places in the durable part, those included that cost nothing.
    pub damaged_places: u64,
    /// Records that will be given as [`Recovered::Damaged`].
    pub lost: u64,
    directory: Directory<D>,
    segments: VecDeque<(u32, u32)>,
    loaded: Option<Segment>,
    repeats: Repeats,
    losses: VecDeque<Loss>,
    lost_serials: BTreeSet<u64>,
    last_serial: Option<u64>,
    given: BTreeMap<u8, u64>,
}

/// The segment that is being read.
struct Segment {
    file: Loaded,
    at: u32,
    to: u32,
    repeats: Repeats,
}

/// What the repetitions at the head of a segment are good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Repeats {
    /// The segments before were released: they are all that is left of these records.
    Originals,
    /// The records themselves were given, or made good, already.
    Known,
}

impl<D: Disk> Recovery<D> {
    pub(super) fn empty(directory: Directory<D>) -> Recovery<D> {
        Recovery::new(directory, Survey::default(), None)
    }

    pub(super) fn new(
        directory: Directory<D>,
        survey: Survey,
        torn_tail: Option<TornTail>,
    ) -> Recovery<D> {
        Recovery {
            created: survey.segments.is_empty(),
            torn_tail,
            damaged_places: survey.damaged_places,
            lost: survey.losses.iter().filter(|loss| loss.healed.is_none()).count() as u64,
            directory,
            segments: survey.segments.iter().map(|info| (info.number, info.used)).collect(),
            loaded: None,
            repeats: Repeats::Originals,
            lost_serials: survey.losses.iter().map(|loss| loss.serial).collect(),
            losses: survey.losses.into(),
            last_serial: None,
            given: BTreeMap::new(),
        }
    }

    /// Goes on with the next segment. False at the end.
    fn load(&mut self) -> Result<bool, WalError> {
        let Some((number, to)) = self.segments.pop_front() else { return Ok(false) };
        let file = self.directory.load(number)?;
        let repeats = std::mem::replace(&mut self.repeats, Repeats::Known);
        self.loaded = Some(Segment { file, at: SEGMENT_HEADER_BYTES as u32, to, repeats });
        Ok(true)
    }

    /// The next loss that lies before `place`, or the copy that makes it good.
    fn loss_before(&mut self, place: Place) -> Option<Recovered> {
        let due = self.losses.front().is_some_and(|loss| loss.damage.place <= place);
        let loss = if due { self.losses.pop_front()? } else { return None };
        let Some(frame) = loss.healed else { return Some(Recovered::Damaged(loss.damage)) };
        self.given.insert(frame.kind, loss.serial);
        Some(Recovered::Frame(frame))
    }

    fn step(&mut self) -> Result<Option<Recovered>, WalError> {
        loop {
            if self.loaded.is_none() && !self.load()? {
                let end = Place { segment: u32::MAX, offset: u32::MAX };
                return Ok(self.loss_before(end));
            }
            let segment = self.loaded.as_ref().expect("loaded above");
            let here = Place { segment: segment.file.number, offset: segment.at };
            if let Some(loss) = self.loss_before(here) {
                return Ok(Some(loss));
            }
            if let Some(recovered) = self.piece() {
                return Ok(Some(recovered));
            }
        }
    }

    /// Takes one piece of the loaded segment, and gives it if it is worth giving.
    fn piece(&mut self) -> Option<Recovered> {
        let segment = self.loaded.as_mut()?;
        let number = segment.file.number;
        let salt = salt(&self.directory.identity, number);
        let (bytes, data_end) = (&segment.file.bytes, segment.file.data_end);
        let mut cursor = Cursor::new(bytes, salt, segment.at, segment.to, data_end);
        let Some(piece) = cursor.next() else {
            self.loaded = None;
            return None;
        };
        segment.at = cursor.at();
        let Piece::Frame { at, header, payload } = piece else { return None };
        let repeats = segment.repeats;
        let payload = payload.map(Bytes::copy_from_slice);
        self.frame(&header, payload, Place { segment: number, offset: at }, repeats)
    }

    fn frame(
        &mut self,
        header: &Header,
        payload: Option<Bytes>,
        place: Place,
        repeats: Repeats,
    ) -> Option<Recovered> {
        if header.kind == KIND_OWN {
            return None;
        }
        if header.is_content() {
            if self.last_serial.is_some_and(|last| header.serial <= last) {
                return None; // Left over from another time; the survey counted it as damage.
            }
            self.last_serial = Some(header.serial);
        } else {
            let given = self.given.get(&header.kind).is_some_and(|given| *given >= header.serial);
            if given || !(repeats == Repeats::Originals || header.is_healing()) {
                return None;
            }
        }
        let Some(payload) = payload else { return self.fresh_damage(header, place) };
        self.given.insert(header.kind, header.serial);
        Some(Recovered::Frame(Frame { kind: header.kind, position: header.position, payload }))
    }

    /// Damage that the survey did not see yet: the disk rots while it is read.
    fn fresh_damage(&self, header: &Header, place: Place) -> Option<Recovered> {
        let known = header.is_copy() || self.lost_serials.contains(&header.serial);
        let damage = Damage::named(header.kind, header.position, place);
        (!known).then_some(Recovered::Damaged(damage))
    }
}

impl<D: Disk> Iterator for Recovery<D> {
    type Item = Result<Recovered, WalError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}

impl<D: Disk> fmt::Debug for Recovery<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recovery")
            .field("created", &self.created)
            .field("torn_tail", &self.torn_tail)
            .field("damaged_places", &self.damaged_places)
            .field("lost", &self.lost)
            .finish_non_exhaustive()
    }
}

impl Damage {
    pub(super) fn unnamed(place: Place) -> Damage {
        Damage { kind: None, position: None, index: None, place, weight: Weight::Unknown }
    }

    pub(super) fn named(kind: u8, position: Position, place: Place) -> Damage {
        let index = (position != Position::ZERO).then_some(position.index);
        let weight = Weight::Unknown;
        Damage { kind: Some(kind), position: Some(position), index, place, weight }
    }
}
