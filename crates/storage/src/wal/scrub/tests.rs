//! Bytes turn in a log that is in use: each is found beside it, and sealing and releasing leaves a
//! log that is whole and has forgotten nothing.

use super::*;
use crate::mutant::with_mutant;
use crate::wal::{Recovered, WalOptions, segment};
use crate::{LogIdentity, MemoryDisk};
use bytes::Bytes;
use quorate_core::Frame;
use std::path::Path;

const VOTE: u8 = 2;
const ENTRY: u8 = 4;
const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };

fn open(disk: &MemoryDisk) -> (Wal<MemoryDisk>, Vec<Recovered>) {
    let options =
        WalOptions { segment_bytes: 16 << 10, critical_kinds: vec![VOTE], ..WalOptions::default() };
    let opened = Wal::open(disk.clone(), Path::new("/wal"), options, &IDENTITY);
    let (wal, recovery) = opened.expect("the log opens");
    (wal, recovery.map(|item| item.expect("readable")).collect())
}

fn path(number: u32) -> PathBuf {
    Path::new("/wal").join(segment::file_name(number))
}

fn entry(index: u64) -> Frame {
    let payload = Bytes::from(vec![index as u8; 300]);
    Frame { kind: ENTRY, position: Position::new(1, index), payload }
}

fn vote(term: u64) -> Frame {
    let payload = Bytes::copy_from_slice(&term.to_le_bytes());
    Frame { kind: VOTE, position: Position::ZERO, payload }
}

/// A log in use over several segments.
fn log(disk: &MemoryDisk) -> Wal<MemoryDisk> {
    let mut wal = open(disk).0;
    for index in 1..=100 {
        wal.append(&entry(index));
        if index % 20 == 7 {
            wal.append(&vote(index));
        }
        wal.sync().expect("a sync");
    }
    assert!(wal.synced().segment > 2);
    wal
}

/// Every segment that is in use, as it is found.
fn look(wal: &Wal<MemoryDisk>) -> Vec<SegmentFound> {
    let (scrubber, synced) = (wal.scrubber(), wal.synced());
    let numbers = scrubber.segments().expect("readable");
    let used = numbers.into_iter().filter(|number| *number <= synced.segment);
    let look = |number| scrubber.look(number, synced, &mut |_| {}).expect("readable");
    let mut found: Vec<SegmentFound> = used.filter_map(look).collect();
    for at in 1..found.len() {
        let next = found[at].clone();
        found[at - 1].miss_records(&next);
    }
    found
}

fn flawed(found: &[SegmentFound]) -> Vec<Flaw> {
    found.iter().flat_map(|segment| segment.flaws.clone()).collect()
}

fn check_every_byte() {
    let disk = MemoryDisk::new();
    let wal = log(&disk);
    assert_eq!(flawed(&look(&wal)), [], "a sound log is found sound");
    let synced = wal.synced();
    for number in 1..=synced.segment {
        let size = disk.content(&path(number)).expect("a segment").len() as u64;
        let end = if number == synced.segment { synced.offset.into() } else { size };
        for offset in (0..end).step_by(3) {
            disk.flip(&path(number), offset, 0x10);
            let flaws = flawed(&look(&wal));
            let [flaw] = flaws[..] else { panic!("segment {number} byte {offset}: {flaws:?}") };
            let (place, near) = (flaw.place, u64::from(flaw.place.offset));
            assert!(place.segment == number && near <= offset, "{offset}: {flaw:?}");
            assert!(offset - near < 4_096, "{offset}: {flaw:?}");
            disk.flip(&path(number), offset, 0x10);
        }
    }
}

#[test]
fn every_flipped_byte_of_a_log_in_use_is_found_at_its_place() {
    check_every_byte();
}

#[test]
#[should_panic(expected = "segment 1 byte")]
fn the_mutant_that_reads_headers_only_is_caught() {
    with_mutant(Mutant::ScrubReadsHeaders, check_every_byte);
}

#[test]
fn an_end_that_is_gone_is_found_by_the_count_of_the_next_segment() {
    let disk = MemoryDisk::new();
    let wal = log(&disk);
    let whole = disk.content(&path(1)).expect("a segment");
    let end = without_zero_tail(&whole);
    let mut cut = whole.clone();
    cut[end - 700..].fill(0);
    disk.plant(&path(1), &cut);
    let missing = |flaw: &Flaw| matches!(flaw.part, FlawedPart::Missing { .. });
    let flaws = flawed(&look(&wal));
    assert!(flaws.iter().any(|flaw| missing(flaw) || flaw.place.segment == 1), "{flaws:?}");
}

/// What the repair of a log does: the damaged segment is sealed, and released once a checkpoint
/// covers it. What is sticky stands in the next one, even if it was damaged here.
#[test]
fn what_is_sealed_and_released_is_whole_and_forgets_no_vote() {
    let disk = MemoryDisk::new();
    let mut wal = log(&disk);
    let current = wal.synced().segment;
    // Every byte of the current segment turns, the votes in it as well.
    for offset in (0..u64::from(wal.synced().offset)).step_by(7) {
        disk.flip(&path(current), offset, 1);
    }
    assert!(!flawed(&look(&wal)).is_empty());
    wal.seal().expect("a new segment");
    assert_eq!(wal.synced().segment, current + 1);
    wal.release(Index(99)).expect("released as far as it may");
    assert!(!flawed(&look(&wal)).is_empty(), "entry 100 is nowhere else");
    wal.release(Index(100)).expect("released");
    assert_eq!(flawed(&look(&wal)), []);
    wal.append(&entry(101));
    wal.sync().expect("a sync");
    drop(wal);
    let recovered = open(&disk).1;
    assert_eq!(recovered, [Recovered::Frame(vote(87)), Recovered::Frame(entry(101))]);
}

#[test]
fn an_empty_segment_is_not_sealed() {
    let disk = MemoryDisk::new();
    let mut wal = open(&disk).0;
    wal.seal().expect("nothing to do");
    assert_eq!(wal.synced().segment, 1);
    wal.append(&entry(1));
    wal.seal().expect("a new segment");
    wal.seal().expect("nothing to do");
    assert_eq!(wal.synced().segment, 2);
}
