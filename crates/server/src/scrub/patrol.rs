//! One look at everything that a member keeps on its disk, while it runs.
//!
//! Log and checkpoints are read by the code that reads them at a start. What was synced does not
//! change any more, so nobody has to wait: what is released meanwhile is passed over.

use crate::shelf::Shelf;
use quorate_core::{Index, Position};
use quorate_storage::{CheckpointError, Disk, Place, SegmentFound, WalScrubber};
use serde::{Deserialize, Serialize};

/// Findings that are named one by one; further ones are counted.
pub const NAMED_MAX: usize = 100;

/// One damaged thing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: String,
    /// Where in it the damage begins. Unit: bytes.
    pub byte: u64,
    /// What is damaged there.
    pub what: String,
}

/// What a look found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// So much was read. Unit: bytes.
    pub bytes: u64,
    /// What is damaged, at most [`NAMED_MAX`] of it.
    pub findings: Vec<Finding>,
    /// How many there are.
    pub count: u64,
    /// The last segment of the log that is damaged.
    pub segment: Option<u32>,
    /// No entry up to that segment has a greater index, as far as that is readable.
    pub index: Index,
    /// The checkpoints that are damaged.
    pub checkpoints: Vec<Position>,
}

impl Found {
    /// True if nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.count == 0
    }

    pub(super) fn find(&mut self, file: String, byte: u64, what: String) {
        self.count += 1;
        if self.findings.len() < NAMED_MAX {
            self.findings.push(Finding { file, byte, what });
        }
    }

    fn segment(&mut self, found: &SegmentFound, file: &str) {
        for flaw in &found.flaws {
            self.find(file.to_owned(), flaw.place.offset.into(), flaw.part.to_string());
        }
        if !found.flaws.is_empty() {
            self.segment = Some(found.number);
        }
    }
}

/// Looks at log and checkpoints. `synced` is how far the log is synced, taken before the call.
/// `pace` is told of each step how much is read, and may take its time.
///
/// Errors: a file cannot be opened, in words.
pub fn look<D: Disk>(
    log: &WalScrubber<D>,
    shelf: &Shelf<D>,
    synced: Place,
    pace: &mut dyn FnMut(u64),
) -> Result<Found, String> {
    let mut found = Found::default();
    look_at_log(log, synced, &mut found, pace)?;
    for position in shelf.positions().map_err(|error| error.to_string())? {
        let mut read = 0;
        let verdict = shelf.verify(position, &mut |bytes| {
            read += bytes;
            pace(bytes);
        });
        found.bytes += read;
        match verdict {
            Ok(_) | Err(CheckpointError::NotFound { .. }) => {}
            Err(CheckpointError::Damaged { part, offset, .. }) => {
                let file = shelf.path_of(position).display().to_string();
                found.find(file, offset, part.to_string());
                found.checkpoints.push(position);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(found)
}

fn look_at_log<D: Disk>(
    log: &WalScrubber<D>,
    synced: Place,
    found: &mut Found,
    pace: &mut dyn FnMut(u64),
) -> Result<(), String> {
    let numbers = log.segments().map_err(|error| error.to_string())?;
    let file = |number| log.path_of(number).display().to_string();
    let mut index = Index(0);
    let mut before: Option<SegmentFound> = None;
    let mut settle = |found: &mut Found, segment: &SegmentFound| {
        index = index.max(segment.index_max);
        found.segment(segment, &file(segment.number));
        if found.segment == Some(segment.number) {
            found.index = index;
        }
    };
    for number in numbers.into_iter().filter(|number| *number <= synced.segment) {
        let looked = log.look(number, synced, pace).map_err(|error| error.to_string())?;
        let Some(segment) = looked else {
            // It was released; so were those before.
            before = None;
            continue;
        };
        found.bytes += segment.bytes;
        if let Some(mut before) = before.take() {
            before.miss_records(&segment);
            settle(found, &before);
            for gone in before.number + 1..number {
                settle(found, &SegmentFound::gone(gone));
            }
        }
        before = Some(segment);
    }
    if let Some(last) = before {
        settle(found, &last);
    }
    Ok(())
}
