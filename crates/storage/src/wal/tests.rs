//! What the log promises, on a disk that can be told to misbehave.

use super::*;
use crate::bytes_le::without_zero_tail;
use crate::{Fault, MemoryDisk, Mutant, with_mutant};
use bytes::Bytes;
use proptest::prelude::*;
use std::path::PathBuf;

const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };
const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const HINT: u8 = 3;
const MEMBERS: u8 = 4;

fn options() -> WalOptions {
    WalOptions { segment_bytes: 16 << 10, sticky_kinds: vec![MEMBERS], critical_kinds: vec![VOTE] }
}

fn dir() -> &'static Path {
    Path::new("/data/wal")
}

fn segment_path(number: u32) -> PathBuf {
    dir().join(segment::file_name(number))
}

fn entry(index: u64) -> Frame {
    let payload = Bytes::from(vec![index as u8; (index * 7 % 60) as usize]);
    Frame { kind: ENTRY, position: Position::new(1, index), payload }
}

fn large_entry(index: u64, len: usize) -> Frame {
    Frame { payload: Bytes::from(vec![index as u8; len]), ..entry(index) }
}

fn sticky(kind: u8, value: u64) -> Frame {
    let payload = Bytes::copy_from_slice(&value.to_le_bytes());
    Frame { kind, position: Position::ZERO, payload }
}

fn try_open(disk: &MemoryDisk) -> Result<(Wal<MemoryDisk>, Recovery<MemoryDisk>), WalError> {
    Wal::open(disk.clone(), dir(), options(), &IDENTITY)
}

fn open(disk: &MemoryDisk) -> (Wal<MemoryDisk>, Recovery<MemoryDisk>) {
    try_open(disk).expect("the log opens")
}

fn wal(disk: &MemoryDisk) -> Wal<MemoryDisk> {
    open(disk).0
}

fn write(wal: &mut Wal<MemoryDisk>, frames: &[Frame]) {
    frames.iter().for_each(|frame| wal.append(frame));
    wal.sync().expect("a sync");
}

fn all(recovery: Recovery<MemoryDisk>) -> Vec<Recovered> {
    recovery.map(|item| item.expect("readable")).collect()
}

fn recovered(disk: &MemoryDisk) -> Vec<Recovered> {
    all(open(disk).1)
}

fn split(recovered: Vec<Recovered>) -> (Vec<Frame>, Vec<Damage>) {
    let (mut frames, mut damages) = (Vec::new(), Vec::new());
    for item in recovered {
        match item {
            Recovered::Frame(frame) => frames.push(frame),
            Recovered::Damaged(damage) => damages.push(damage),
        }
    }
    (frames, damages)
}

/// The frames of an undamaged log.
fn frames(disk: &MemoryDisk) -> Vec<Frame> {
    let (frames, damages) = split(recovered(disk));
    assert_eq!(damages, [], "a crash was taken for corruption");
    frames
}

/// Draws like a generator of the textbooks; two seeds always answer with an extreme.
fn choices(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    move |options| match seed {
        0 => 0,
        1 => options - 1,
        _ => {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % options
        }
    }
}

fn mixed(count: u64) -> Vec<Frame> {
    let mut written = Vec::new();
    for index in 1..=count {
        written.push(entry(index));
        if index % 30 == 0 {
            written.push(sticky(VOTE, index));
        }
        if index % 11 == 0 {
            written.push(sticky(HINT, index));
        }
    }
    written
}

// What is written is read.

#[test]
fn what_was_synced_comes_back_in_order_over_many_segments() {
    let disk = MemoryDisk::new();
    let (mut wal, recovery) = open(&disk);
    assert!(recovery.created);
    assert_eq!(recovery.count(), 0);
    let written = mixed(600);
    for batch in written.chunks(7) {
        write(&mut wal, batch);
        wal.prepare().expect("room");
    }
    assert!(wal.synced().segment > 3, "{wal:?}");
    drop(wal);
    disk.crash(&mut |_| 0);
    assert_eq!(frames(&disk), written);
    assert!(!open(&disk).1.created);
    assert_eq!(frames(&disk), written);
}

#[test]
fn a_frame_larger_than_a_segment_gets_one_of_its_size() {
    let disk = MemoryDisk::new();
    let mut wal = wal(&disk);
    let written =
        [entry(1), large_entry(2, 100_000), entry(3), sticky(VOTE, 9), large_entry(4, 20_000)];
    write(&mut wal, &written);
    drop(wal);
    assert_eq!(frames(&disk), written);
}

#[test]
fn one_batch_may_span_many_segments() {
    let disk = MemoryDisk::new();
    let mut wal = wal(&disk);
    let written = mixed(900);
    write(&mut wal, &written);
    assert!(wal.bytes() > 60_000, "{} bytes", wal.bytes());
    drop(wal);
    disk.crash(&mut |_| 0);
    assert_eq!(frames(&disk), written);
}

#[test]
fn a_sync_is_one_write_and_one_sync() {
    let disk = MemoryDisk::new();
    let mut wal = wal(&disk);
    for count in [1, 50] {
        let before = disk.operations();
        write(&mut wal, &(1..=count).map(entry).collect::<Vec<_>>());
        assert_eq!(disk.operations() - before, 2);
        wal.sync().expect("nothing to do");
        assert_eq!(disk.operations() - before, 2);
        wal.mark().expect("a mark");
        assert_eq!(disk.operations() - before, 3, "a mark is a write and no sync");
        wal.mark().expect("nothing to do");
        assert_eq!(disk.operations() - before, 3);
    }
}

#[test]
fn a_segment_made_ahead_is_used_and_one_that_comes_late_is_removed() {
    let disk = MemoryDisk::new();
    let mut wal = wal(&disk);
    write(&mut wal, &[large_entry(1, 9_000)]);
    let preparation = wal.preparation().expect("half full");
    assert!(wal.preparation().is_none(), "offered twice");
    let prepared = preparation.run().expect("room");
    write(&mut wal, &[large_entry(2, 9_000)]);
    wal.adopt(prepared).expect("too late");
    assert_eq!(disk.list(dir()).expect("names").len(), 2);
    wal.prepare().expect("room");
    let before = disk.operations();
    write(&mut wal, &[large_entry(3, 9_000)]);
    assert_eq!(disk.operations() - before, 2, "the segment was there");
    drop(wal);
    assert_eq!(frames(&disk), [1, 2, 3].map(|index| large_entry(index, 9_000)));
}

#[test]
fn a_segment_made_ahead_survives_a_restart() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[large_entry(1, 9_000)]);
    log.prepare().expect("room");
    drop(log);
    let (mut log, recovery) = open(&disk);
    assert_eq!(recovery.torn_tail, None);
    assert!(log.preparation().is_none(), "it is there");
    let before = disk.operations();
    write(&mut log, &[large_entry(2, 9_000)]);
    assert_eq!(disk.operations() - before, 2);
    drop(log);
    assert_eq!(frames(&disk), [1, 2].map(|index| large_entry(index, 9_000)));
}

// Release and sticky records.

fn release_most(disk: &MemoryDisk) -> u64 {
    let mut wal = wal(disk);
    let members = Frame { kind: MEMBERS, ..entry(2) };
    write(&mut wal, &[entry(1), members, sticky(VOTE, 7), sticky(HINT, 8), sticky(VOTE, 9)]);
    for index in 3..900 {
        write(&mut wal, &[entry(index)]);
    }
    let before = wal.bytes();
    wal.release(Index(800)).expect("released");
    assert!(wal.bytes() < before / 3, "{} of {before} bytes are left", wal.bytes());
    wal.bytes()
}

fn check_sticky_after_release() {
    let disk = MemoryDisk::new();
    let bytes = release_most(&disk);
    disk.crash(&mut |_| 0);
    for _ in 0..2 {
        let (wal, recovery) = open(&disk);
        assert_eq!(wal.bytes(), bytes);
        let (found, damages) = split(all(recovery));
        assert_eq!(damages, []);
        let of = |kind| found.iter().filter(move |frame| frame.kind == kind);
        assert_eq!(of(VOTE).collect::<Vec<_>>(), [&sticky(VOTE, 9)]);
        assert_eq!(of(HINT).collect::<Vec<_>>(), [&sticky(HINT, 8)]);
        assert_eq!(of(MEMBERS).map(|frame| frame.position.index.0).collect::<Vec<_>>(), [2]);
        let indexes: Vec<u64> = of(ENTRY).map(|frame| frame.position.index.0).collect();
        assert!(indexes[0] <= 801, "entry {} is the first", indexes[0]);
        assert_eq!(indexes, (indexes[0]..900).collect::<Vec<_>>());
    }
}

#[test]
fn sticky_records_survive_the_release_of_their_segment() {
    check_sticky_after_release();
}

#[test]
#[should_panic(expected = "left == right")]
fn the_mutant_that_forgets_sticky_records_is_caught() {
    with_mutant(Mutant::ForgetSticky, check_sticky_after_release);
}

#[test]
fn release_keeps_what_is_newer_and_the_segment_in_use() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &(1..500).map(entry).collect::<Vec<_>>());
    let bytes = log.bytes();
    log.release(Index(0)).expect("nothing");
    assert_eq!(log.bytes(), bytes);
    log.release(Index(10_000)).expect("all but one");
    log.append(&entry(500));
    log.sync().expect("goes on");
    drop(log);
    let (found, damages) = split(recovered(&disk));
    assert_eq!(damages, []);
    assert_eq!(found.last(), Some(&entry(500)));
    assert!(found.len() < 200, "{} entries are left", found.len());
}

fn check_release_is_bounded() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &(1..500).map(entry).collect::<Vec<_>>());
    log.release(Index(250)).expect("about half");
    drop(log);
    let first = frames(&disk).first().map(|frame| frame.position.index);
    assert!((Index(2)..=Index(251)).contains(&first.unwrap_or_default()), "begins at {first:?}");
}

#[test]
fn release_keeps_every_entry_after_its_bound() {
    check_release_is_bounded();
}

#[test]
#[should_panic(expected = "begins at")]
fn the_mutant_that_releases_too_much_is_caught() {
    with_mutant(Mutant::ReleaseTooFar, check_release_is_bounded);
}

// Refusals.

#[test]
fn foreign_newer_locked_and_read_only_logs_are_refused_untouched() {
    let disk = MemoryDisk::new();
    let mut held = wal(&disk);
    write(&mut held, &[entry(1)]);
    let locked = try_open(&disk).expect_err("held");
    assert_eq!(locked, WalError::Locked { path: dir().to_owned() });
    drop(held);
    let before = disk.content(&segment_path(1));
    let other = LogIdentity { member: 77, ..IDENTITY };
    let foreign = Wal::open(disk.clone(), dir(), options(), &other).expect_err("not ours");
    let path = segment_path(1);
    assert_eq!(foreign, WalError::ForeignLog { path, found: IDENTITY, expected: other });
    let newer = disk.fork();
    let mut file = before.clone().expect("a segment");
    file[8] = 9;
    let crc = crc32c::crc32c(&file[..SEGMENT_HEADER_BYTES - 4]);
    file[SEGMENT_HEADER_BYTES - 4..SEGMENT_HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    newer.plant(&segment_path(1), &file);
    let error = try_open(&newer).expect_err("from the future");
    assert!(matches!(error, WalError::NewerFormat { found: 9, supported: 1, .. }), "{error}");
    assert_eq!(newer.content(&segment_path(1)), Some(file));
    assert_eq!(disk.content(&segment_path(1)), before);
    disk.fail(Fault::ReadOnly);
    let error = try_open(&disk).expect_err("read only");
    assert!(matches!(error, WalError::NotWritable(_)), "{error}");
}

#[test]
fn a_failed_sync_poisons_the_log_for_ever() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[entry(1)]);
    disk.fail(Fault::Sync);
    log.append(&entry(2));
    let error = log.sync().expect_err("injected");
    assert!(matches!(&error, WalError::Io(fault) if fault.operation == "sync"), "{error}");
    disk.heal();
    assert_eq!(log.sync(), Err(error.clone()));
    assert_eq!(log.mark(), Err(error.clone()));
    assert_eq!(log.release(Index(1)), Err(error.clone()));
    assert_eq!(log.close(), Err(error));
}

/// The system forgot that it owes us a write. What a reopened log gives back must last.
fn check_reopened_after_failed_sync() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[entry(1)]);
    disk.fail(Fault::Sync);
    log.append(&entry(2));
    log.sync().expect_err("injected");
    drop(log);
    disk.heal();
    let given = frames(&disk);
    disk.crash(&mut |_| 0);
    assert_eq!(frames(&disk), given, "given back, and lost");
}

#[test]
fn what_is_given_back_after_a_failed_sync_is_durable() {
    check_reopened_after_failed_sync();
}

#[test]
#[should_panic(expected = "given back, and lost")]
fn the_mutant_that_trusts_what_it_reads_is_caught() {
    with_mutant(Mutant::TrustUnprovenTail, check_reopened_after_failed_sync);
}

/// What the log says is durable must be there after a crash.
fn check_a_failed_sync_is_told() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    disk.fail(Fault::Sync);
    log.append(&entry(1));
    let told = log.sync().is_ok();
    drop(log);
    disk.crash(&mut |_| 0);
    assert!(!told || frames(&disk) == [entry(1)], "told, and lost");
}

#[test]
fn who_is_told_that_a_sync_worked_finds_it_after_a_crash() {
    check_a_failed_sync_is_told();
}

#[test]
#[should_panic(expected = "told, and lost")]
fn the_mutant_that_ignores_a_failed_sync_is_caught() {
    with_mutant(Mutant::SyncErrorIgnored, check_a_failed_sync_is_told);
}

#[test]
fn a_full_disk_is_told_as_such_and_a_preparation_warns_of_it() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[large_entry(1, 9_000)]);
    disk.fail(Fault::Full { capacity: 17_000 });
    let warning = log.prepare().expect_err("no room");
    assert!(matches!(warning, WalError::Io(fault) if fault.is_full()));
    write(&mut log, &[entry(2)]);
    log.append(&large_entry(3, 9_000));
    let error = log.sync().expect_err("no room");
    assert!(matches!(error, WalError::Io(fault) if fault.is_full()));
    drop(log);
    disk.heal();
    assert_eq!(frames(&disk), [large_entry(1, 9_000), entry(2)]);
}

/// Writes in batches to a disk that is full now and then; nothing counts before its sync returned,
/// everything is there in the end, and a crash on the way loses nothing that counts.
fn check_a_full_disk_loses_nothing(seed: u64) {
    let mut choose = choices(seed + 2);
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    let (mut appended, mut counted) = (Vec::new(), 0);
    for index in 1..120 {
        if choose(6) == 0 {
            disk.fail(Fault::Full { capacity: (16 << 10) + 4_000 * choose(30) as u64 });
        }
        if choose(4) == 0 {
            disk.heal();
        }
        for frame in [large_entry(index, choose(3_000)), sticky(VOTE, index)] {
            log.append(&frame);
            appended.push(frame);
        }
        match log.sync() {
            Ok(()) => counted = appended.len(),
            Err(error) => assert!(error.wants_space(), "{error}"),
        }
        if choose(3) == 0 {
            log.mark().expect("a mark waits for space too");
        }
        if choose(9) == 0 {
            let crashed = disk.fork();
            crashed.heal();
            crashed.crash(&mut choose);
            let entries = |frames: &[Frame]| -> Vec<Frame> {
                frames.iter().filter(|frame| frame.kind == ENTRY).cloned().collect()
            };
            let found = entries(&frames(&crashed));
            let (all, kept) = (entries(&appended), entries(&appended[..counted]));
            assert!(found.len() >= kept.len(), "what counted is lost");
            assert_eq!(found, all[..found.len()], "what was never appended is found");
        }
    }
    disk.heal();
    log.sync().expect("there is room again");
    log.close().expect("an orderly end");
    let entries = |frame: &Frame| frame.kind == ENTRY;
    let found: Vec<_> = frames(&disk).into_iter().filter(entries).collect();
    let wanted: Vec<_> = appended.into_iter().filter(entries).collect();
    assert_eq!(found, wanted, "not everything is there in the end");
}

#[test]
fn a_full_disk_stops_nothing_for_good() {
    (0..60).for_each(check_a_full_disk_loses_nothing);
}

#[test]
#[should_panic(expected = "what counted is lost")]
fn the_mutant_that_takes_full_for_done_is_caught() {
    with_mutant(Mutant::FullIsDone, || (0..60).for_each(check_a_full_disk_loses_nothing));
}

#[test]
fn a_failed_sync_is_never_want_of_space() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    disk.fail(Fault::Sync);
    log.append(&entry(1));
    let error = log.sync().expect_err("the device lost a write");
    assert!(!error.wants_space());
    disk.heal();
    log.sync().expect_err("poisoned");
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let fault = crate::IoFault::new("sync", dir(), &full);
    assert!(!WalError::Io(fault).wants_space(), "whatever it says");
}

// Torn tails.

#[test]
fn a_torn_batch_is_cut_off_and_reported() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[entry(1), entry(2)]);
    let synced = log.synced();
    disk.fail(Fault::Sync);
    [large_entry(3, 2_000), entry(4)].iter().for_each(|frame| log.append(frame));
    log.sync().expect_err("the power fails during the sync");
    drop(log);
    // The first sector of the batch did not reach the medium, the others did.
    let mut file = disk.content(&segment_path(1)).expect("a segment");
    file[synced.offset as usize..][..400].fill(0);
    disk.heal();
    disk.plant(&segment_path(1), &file);
    let (log, recovery) = open(&disk);
    let torn = recovery.torn_tail.expect("a torn tail");
    assert_eq!((torn.place, torn.frames), (synced, 1));
    assert_eq!(all(recovery), [entry(1), entry(2)].map(Recovered::Frame));
    drop(log);
    assert_eq!(open(&disk).1.torn_tail, None, "it was settled");
}

/// A tail is cut off; what is written over it is cut off too, further on. The remains of the first
/// must not come back behind the second.
fn check_cut_tail_is_gone() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[entry(1)]);
    let cut = log.synced().offset as usize;
    write(&mut log, &[large_entry(2, 64), large_entry(3, 64), large_entry(4, 64)]);
    drop(log);
    disk.flip(&segment_path(1), cut as u64, 1);
    let (mut log, recovery) = open(&disk);
    assert!(recovery.torn_tail.is_some());
    // As long as the first of the three: what follows would fit on exactly.
    write(&mut log, &[large_entry(2, 64)]);
    drop(log);
    let (found, damages) = split(recovered(&disk));
    assert_eq!((found, damages), (vec![entry(1), large_entry(2, 64)], vec![]), "invented");
}

#[test]
fn a_tail_that_was_cut_off_never_comes_back() {
    check_cut_tail_is_gone();
}

#[test]
#[should_panic(expected = "invented")]
fn the_mutant_that_keeps_the_cut_tail_is_caught() {
    with_mutant(Mutant::KeepCutTail, check_cut_tail_is_gone);
}

#[test]
fn a_mark_ends_the_ambiguity_of_the_last_batch() {
    for marked in [0, 1] {
        let disk = MemoryDisk::new();
        let mut log = wal(&disk);
        write(&mut log, &[entry(1)]);
        let place = log.synced();
        write(&mut log, &[large_entry(2, 64)]);
        if marked == 1 {
            log.mark().expect("a mark");
        }
        drop(log);
        disk.flip(&segment_path(1), u64::from(place.offset) + 60, 1);
        let (_log, recovery) = open(&disk);
        let torn = recovery.torn_tail;
        let (found, damages) = split(all(recovery));
        assert_eq!(found, [entry(1)]);
        if marked == 1 {
            assert_eq!(torn, None);
            assert_eq!(damages, [Damage::named(ENTRY, Position::new(1, 2), place)]);
        } else {
            assert_eq!(torn.map(|torn| torn.place), Some(place));
            assert_eq!(damages, []);
        }
    }
}

// Corruption.

/// A log over several segments with every kind of frame in it, closed cleanly.
fn small_log() -> (MemoryDisk, Vec<Frame>) {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    let mut written = Vec::new();
    for index in 1..=40 {
        let mut batch = vec![if index % 4 == 0 { large_entry(index, 700) } else { entry(index) }];
        if index % 8 == 5 {
            batch.push(sticky(HINT, index));
        }
        if index % 12 == 10 {
            batch.push(sticky(VOTE, index));
        }
        write(&mut log, &batch);
        written.extend(batch);
        if index % 5 == 0 {
            log.mark().expect("a mark");
        }
    }
    assert!(log.synced().segment >= 2, "{log:?}");
    log.close().expect("closed");
    (disk, written)
}

/// The frames found are the written ones but for as many as are reported lost, each by its name.
fn check_accounted(written: &[Frame], recovered: Vec<Recovered>, context: &str) {
    let (found, damages) = split(recovered);
    let mut found = found.iter().peekable();
    let mut missing = written.iter().filter(|frame| found.next_if_eq(frame).is_none());
    let missing: Vec<&Frame> = missing.by_ref().collect();
    assert_eq!(found.next(), None, "{context}: invented or out of order");
    assert_eq!(missing.len(), damages.len(), "{context}: {missing:?} lost, named {damages:?}");
    for (lost, damage) in missing.iter().zip(&damages) {
        assert!(lost.kind != VOTE, "{context}: a critical record is lost");
        assert!(damage.kind.is_none_or(|kind| kind == lost.kind), "{context}: {damage:?}");
        if lost.position == Position::ZERO {
            assert!(damage.index.is_none(), "{context}: {damage:?}");
            // A hint, unless the log ends with it.
            let light = damage.kind.is_some() || damage.weight == Weight::NotCritical;
            assert!(light, "{context}: {damage:?}");
        } else if damage.kind.is_none() && lost.position.index == Index(1) {
            // Nothing stands before the first entry, so its term is not known.
            assert_eq!(damage.index, Some(Index(1)), "{context}");
        } else {
            assert_eq!(damage.position, Some(lost.position), "{context}");
        }
    }
}

fn check_every_flipped_byte() {
    let (disk, written) = small_log();
    assert_eq!(frames(&disk), written);
    let last = wal(&disk).head;
    let mut flips = 0;
    for number in 1..=last.segment {
        let file = disk.content(&segment_path(number)).expect("a segment");
        let end =
            if number == last.segment { last.offset as usize } else { without_zero_tail(&file) };
        for offset in 0..end {
            let rotten = disk.fork();
            rotten.flip(&segment_path(number), offset as u64, 1 << (offset % 8));
            let (_log, recovery) = open(&rotten);
            let context = format!("segment {number} byte {offset}");
            let seen = recovery.damaged_places + u64::from(recovery.torn_tail.is_some());
            assert!(seen > 0, "{context}: unseen");
            // Only the closing mark itself is beyond the proof.
            let in_tail = number == last.segment && offset + MARK_BYTES >= end;
            assert_eq!(recovery.torn_tail.is_some(), in_tail, "{context}");
            check_accounted(&written, all(recovery), &context);
            flips += 1;
        }
    }
    assert!(flips > 20_000, "only {flips} bytes were tried");
}

#[test]
fn every_flipped_byte_is_seen_and_what_it_cost_is_named() {
    check_every_flipped_byte();
}

#[test]
#[should_panic(expected = "unseen")]
fn the_mutant_that_believes_bad_payloads_is_caught() {
    with_mutant(Mutant::AcceptBadPayload, check_every_flipped_byte);
}

#[test]
#[should_panic(expected = "left == right")]
fn the_mutant_that_takes_corruption_for_a_torn_tail_is_caught() {
    with_mutant(Mutant::CorruptionIsTorn, check_every_flipped_byte);
}

/// A whole block of 4 KiB goes bad or cannot be read.
fn check_every_bad_block() {
    let (disk, written) = small_log();
    let last = wal(&disk).head;
    for number in 1..=last.segment {
        let path = segment_path(number);
        let size = disk.content(&path).expect("a segment").len();
        for block in 0..size / COPY_BLOCK_BYTES {
            let range = (block * COPY_BLOCK_BYTES) as u64..((block + 1) * COPY_BLOCK_BYTES) as u64;
            if number == last.segment && range.end + COPY_BLOCK_BYTES as u64 > last.offset.into() {
                continue; // The proof would be in it.
            }
            let unreadable = disk.fork();
            unreadable.fail(Fault::Read { path: path.clone(), range: range.clone() });
            let zeroed = disk.fork();
            let mut file = disk.content(&path).expect("a segment");
            file[range.start as usize..range.end as usize].fill(0);
            zeroed.plant(&path, &file);
            for rotten in [unreadable, zeroed] {
                let (found, damages) = split(recovered(&rotten));
                let context = format!("segment {number} block {block}");
                let votes = |frames: &[Frame]| {
                    frames.iter().filter(|frame| frame.kind == VOTE).cloned().collect::<Vec<_>>()
                };
                assert_eq!(votes(&found), votes(&written), "{context}: a vote is lost");
                let mut healed = found.clone();
                healed.sort_by_key(|frame| (frame.position, frame.kind, frame.payload.clone()));
                healed.dedup();
                assert_eq!(healed.len() + damages.len(), written.len(), "{context}: {damages:?}");
            }
        }
    }
}

#[test]
fn a_bad_block_never_takes_a_critical_record_and_the_count_of_losses_is_exact() {
    check_every_bad_block();
}

#[test]
#[should_panic(expected = "a vote is lost")]
fn the_mutant_that_writes_critical_records_once_is_caught() {
    with_mutant(Mutant::SingleCriticalCopy, check_every_bad_block);
}

#[test]
fn a_missing_segment_is_a_counted_loss() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    let written: Vec<Frame> = (1..=900).map(entry).collect();
    written.chunks(10).for_each(|batch| write(&mut log, batch));
    drop(log);
    disk.remove(&segment_path(2)).expect("a segment");
    let (found, damages) = split(recovered(&disk));
    assert!(damages.len() > 50);
    assert_eq!(found.len() + damages.len(), 900);
    let first = damages[0].position.expect("named").index.0;
    for (damage, index) in damages.iter().zip(first..) {
        assert_eq!(damage.position, Some(Position::new(1, index)));
    }
}

#[test]
fn a_log_of_which_nothing_is_left_says_so() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[entry(1), sticky(VOTE, 3)]);
    drop(log);
    let file = disk.content(&segment_path(1)).expect("a segment");
    disk.plant(&segment_path(1), &vec![0xab; file.len()]);
    let (mut log, recovery) = open(&disk);
    assert!(!recovery.created);
    assert!(recovery.torn_tail.is_some());
    let (found, damages) = split(all(recovery));
    assert_eq!(found, []);
    assert_eq!(damages.len(), 1, "{damages:?}");
    write(&mut log, &[entry(2)]);
    drop(log);
    assert_eq!(frames(&disk), [entry(2)]);
}

#[test]
fn where_the_term_is_unknown_the_index_is_named_still() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[entry(1)]);
    let place = log.synced();
    write(&mut log, &[entry(2)]);
    write(&mut log, &[Frame { position: Position::new(5, 3), ..entry(3) }]);
    log.close().expect("closed");
    disk.flip(&segment_path(1), place.offset.into(), 1);
    let (_, damages) = split(recovered(&disk));
    let index = Some(Index(2));
    let weight = Weight::NotCritical;
    assert_eq!(damages, [Damage { kind: None, position: None, index, place, weight }]);
}

/// The latest value of a sticky kind is lost. The one before must not pass for it, not even when
/// the segment of the loss is released and forgotten.
#[test]
fn a_lost_sticky_record_does_not_bring_back_an_older_one() {
    let disk = MemoryDisk::new();
    let mut log = wal(&disk);
    write(&mut log, &[sticky(HINT, 1)]);
    let place = log.synced();
    write(&mut log, &[sticky(HINT, 2)]);
    log.close().expect("closed");
    disk.flip(&segment_path(1), u64::from(place.offset) + 50, 1);
    let (mut log, recovery) = open(&disk);
    let damage = Damage::named(HINT, Position::ZERO, place);
    assert_eq!(all(recovery), [Recovered::Frame(sticky(HINT, 1)), Recovered::Damaged(damage)]);
    (1..400).for_each(|index| write(&mut log, &[entry(index)]));
    log.release(Index(300)).expect("released");
    drop(log);
    assert!(frames(&disk).iter().all(|frame| frame.kind == ENTRY));
}

// Crashes.

/// One life after another: appends, syncs, marks, preparations and a crash at the end of each.
fn live_and_die(lives: &[(Vec<u8>, u64)]) {
    let disk = MemoryDisk::new();
    let mut durable: Vec<Frame> = Vec::new();
    for (acts, seed) in lives {
        let (mut log, recovery) = open(&disk);
        let (found, damages) = split(all(recovery));
        assert_eq!(damages, [], "a crash was taken for corruption");
        assert_eq!(found, durable, "not what was given back before");
        let mut written = durable.clone();
        let mut synced = written.len();
        for act in acts {
            let index = written.len() as u64 + 1;
            match act % 8 {
                0..=2 => written.push(entry(index)),
                3 => written.push(large_entry(index, usize::from(*act) * 20)),
                4 => written.push(sticky([VOTE, HINT][usize::from(*act) / 8 % 2], index)),
                5 => log.mark().expect("a mark"),
                6 => log.prepare().expect("room"),
                _ => {
                    log.sync().expect("a sync");
                    synced = written.len();
                }
            }
            if act % 8 <= 4 {
                log.append(&written[written.len() - 1]);
            }
        }
        // The last batch is on its way when the power fails.
        disk.fail(Fault::PowerCut { after: seed % 3 });
        let _ = log.sync();
        drop(log);
        disk.crash(&mut choices(*seed));
        let survived = frames(&disk);
        assert!(survived.len() >= synced, "{} of {synced} synced frames", survived.len());
        assert_eq!(survived, written[..survived.len()], "not a prefix of what was written");
        disk.crash(&mut |_| 0);
        durable = survived;
    }
}

fn cases() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, cases: 200, ..ProptestConfig::default() }
}

fn life() -> impl Strategy<Value = (Vec<u8>, u64)> {
    (prop::collection::vec(any::<u8>(), 0..120), any::<u64>())
}

fn file() -> impl Strategy<Value = (u32, Vec<u8>)> {
    (1..6_u32, prop::collection::vec(any::<u8>(), 0..9_000))
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_synced_frame_survives_any_sequence_of_crashes(
        lives in prop::collection::vec(life(), 1..5)
    ) {
        live_and_die(&lives);
    }

    #[test]
    fn whatever_rots_nothing_is_invented(
        flips in prop::collection::vec((1..=4_u32, 0..16_384_u64, 1..=255_u8), 1..40)
    ) {
        let (disk, written) = small_log();
        for (number, offset, mask) in flips {
            let size = disk.content(&segment_path(number)).map_or(0, |file| file.len() as u64);
            if offset < size {
                disk.flip(&segment_path(number), offset, mask);
            }
        }
        let (found, _) = split(recovered(&disk));
        for frame in &found {
            prop_assert!(written.contains(frame), "invented {:?}", frame);
        }
        let indexes: Vec<_> = found.iter().filter(|frame| frame.kind == ENTRY).collect();
        prop_assert!(indexes.is_sorted_by_key(|frame| frame.position.index));
        // And the repaired log goes on.
        let mut log = wal(&disk);
        write(&mut log, &[entry(1_000)]);
        drop(log);
        prop_assert_eq!(split(recovered(&disk)).0.pop(), Some(entry(1_000)));
    }

    #[test]
    fn arbitrary_files_never_panic(
        files in prop::collection::vec(file(), 0..4)
    ) {
        let disk = MemoryDisk::new();
        for (number, content) in files {
            disk.plant(&segment_path(number), &content);
        }
        let (mut log, recovery) = open(&disk);
        prop_assert_eq!(split(all(recovery)).0, []);
        log.mark().expect("a mark");
        write(&mut log, &[entry(1)]);
        drop(log);
        prop_assert_eq!(split(recovered(&disk)).0, [entry(1)]);
    }
}

#[test]
#[should_panic(expected = "synced frames")]
fn the_mutant_that_forgets_to_sync_is_caught() {
    with_mutant(Mutant::ForgetSync, || live_and_die(&[(vec![0, 0, 7, 0, 7], 0)]));
}

/// A life with a bit of everything. Returns how many frames were acknowledged, and the index up to
/// which the log was released.
fn eventful_life(disk: &MemoryDisk, written: &[Frame]) -> (usize, u64) {
    let mut acknowledged = 0;
    let mut released = 0;
    let mut life = || -> Result<(), WalError> {
        let (mut log, recovery) = try_open(disk)?;
        let skip = recovery.filter(|item| item.is_ok()).count();
        assert_eq!(skip, 0, "a first life");
        for (number, batch) in written.chunks(9).enumerate() {
            batch.iter().for_each(|frame| log.append(frame));
            log.sync()?;
            acknowledged += batch.len();
            match number % 4 {
                0 => log.mark()?,
                1 => log.prepare()?,
                2 if number % 8 == 6 => {
                    let upto = batch[0].position.index.0.saturating_sub(40);
                    released = released.max(upto);
                    log.release(Index(upto))?;
                }
                _ => {}
            }
        }
        log.close()
    };
    let _ = life();
    (acknowledged, released)
}

fn check_a_crash_at_any_step() {
    let written = mixed(330);
    let probe = MemoryDisk::new();
    let (acknowledged, released) = eventful_life(&probe, &written);
    assert_eq!(acknowledged, written.len());
    assert!(released > 200, "released up to {released} only");
    for after in 0..=probe.operations() {
        for seed in 0..4 {
            let disk = MemoryDisk::new();
            disk.fail(Fault::PowerCut { after });
            let (acknowledged, released) = eventful_life(&disk, &written);
            disk.crash(&mut choices(seed + (seed / 2) * after));
            let found = frames(&disk);
            let context = format!("after {after} operations, seed {seed}");
            let of = |frames: &[Frame], kind| -> Vec<Frame> {
                frames.iter().filter(|frame| frame.kind == kind).cloned().collect()
            };
            let kept = of(&written, ENTRY);
            let first = found.iter().find(|frame| frame.kind == ENTRY);
            let first = first.map_or(0, |frame| frame.position.index.0 as usize - 1);
            assert!(first as u64 <= released, "{context}: entry {first} was not released");
            let entries = of(&found, ENTRY);
            assert_eq!(entries, kept[first..first + entries.len()], "{context}");
            let due = of(&written[..acknowledged], ENTRY).len();
            assert!(first + entries.len() >= due, "{context}: entries are lost");
            for kind in [VOTE, HINT] {
                let newest = of(&written[..acknowledged], kind).pop();
                let given = of(&found, kind).pop();
                let value = |frame: Option<Frame>| {
                    frame.map(|frame| u64::from_le_bytes(frame.payload[..].try_into().expect("8")))
                };
                assert!(value(given) >= value(newest), "{context}: kind {kind} is lost");
            }
        }
    }
}

#[test]
fn a_crash_at_any_step_loses_nothing_that_was_acknowledged() {
    check_a_crash_at_any_step();
}

#[test]
#[should_panic(expected = "after ")]
fn the_mutant_that_leaves_a_segment_without_a_durable_name_is_caught() {
    with_mutant(Mutant::SegmentUnnamed, check_a_crash_at_any_step);
}
