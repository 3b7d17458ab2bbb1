//! A log whose bytes were changed while nobody looked. What it says after that was once written, in
//! order, and it can be gone on with.
//!
//! The first byte says how many lives the log had, then come changes of four bytes each: where (in
//! 1/65536 of what is written), what to do, with which byte. A longer rest takes the place of the
//! log's end.
#![no_main]

use bytes::Bytes;
use quorate_core::{Frame, Position};
use quorate_storage::{LogIdentity, MemoryDisk, Recovered, Wal, WalOptions};
use std::path::{Path, PathBuf};

const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };
const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const CHANGES_MAX: usize = 8;

fn open(disk: &MemoryDisk) -> Option<(Wal<MemoryDisk>, Vec<Frame>)> {
    let options = WalOptions {
        segment_bytes: 16 << 10,
        sticky_kinds: vec![VOTE],
        critical_kinds: vec![VOTE],
    };
    let (wal, recovery) = Wal::open(disk.clone(), Path::new("/log"), options, &IDENTITY).ok()?;
    let frame = |item| match item {
        Ok(Recovered::Frame(frame)) => Some(frame),
        _ => None,
    };
    Some((wal, recovery.filter_map(frame).collect()))
}

fn entry(index: u64) -> Frame {
    let payload = Bytes::from(vec![index as u8; (index * 37 % 900) as usize]);
    Frame { kind: ENTRY, position: Position::new(1, index), payload }
}

fn vote(life: u64) -> Frame {
    let payload = Bytes::copy_from_slice(&life.to_le_bytes());
    Frame { kind: VOTE, position: Position::ZERO, payload }
}

/// A log that lived `lives` times, and all that was written.
fn lived(lives: u64) -> (MemoryDisk, Vec<Frame>) {
    let (disk, mut written) = (MemoryDisk::new(), Vec::new());
    for life in 0..lives {
        let (mut wal, _) = open(&disk).expect("a whole log opens");
        let entries = (1..=9).map(|number| entry(life * 9 + number));
        for frame in entries.chain([vote(life)]) {
            wal.append(&frame);
            written.push(frame);
        }
        wal.sync().expect("a disk that works");
        wal.mark().expect("a mark");
    }
    (disk, written)
}

fn change(disk: &MemoryDisk, files: &[(PathBuf, u64)], change: &[u8]) {
    let at = u64::from(u16::from_le_bytes([change[0], change[1]]));
    let (path, _) = &files[usize::from(change[2] >> 4) % files.len()];
    let mut content = disk.content(path).unwrap_or_default();
    let used = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    if used == 0 {
        return; // cut to nothing before
    }
    let at = (used as u64 * at / 65_536) as usize;
    match change[2] & 15 {
        0 => content.truncate(at),
        1..8 => content[at] ^= change[3].max(1),
        8..12 => content[at] = change[3],
        _ => content[at..used].rotate_left(usize::from(change[3]) % (used - at).max(1)),
    }
    disk.plant(path, &content);
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((lives, changes)) = input.split_first() else { return };
    let (disk, written) = lived(u64::from(lives % 6) + 1);
    let files: Vec<_> = disk.files().into_iter().filter(|(_, size)| *size > 0).collect();
    let mut chunks = changes.chunks_exact(4);
    chunks.by_ref().take(CHANGES_MAX).for_each(|one| change(&disk, &files, one));
    let rest = changes.get(CHANGES_MAX * 4..).unwrap_or_default();
    if let (false, Some((path, _))) = (rest.is_empty(), files.last()) {
        let mut content = disk.content(path).unwrap_or_default();
        content.extend_from_slice(rest);
        disk.plant(path, &content);
    }
    let Some((mut wal, found)) = open(&disk) else { return };
    assert!(found.iter().all(|frame| written.contains(frame)), "it invents");
    let mut entries = found.iter().filter(|frame| frame.kind == ENTRY);
    assert!(entries.by_ref().is_sorted_by_key(|frame| frame.position.index), "out of order");
    wal.mark().expect("a mark");
    let more = Frame { position: Position::new(9, 1_000), ..entry(1_000) };
    wal.append(&more);
    wal.sync().expect("a disk that works");
    drop(wal);
    let (_, found) = open(&disk).expect("a mended log opens");
    assert_eq!(found.last(), Some(&more), "it does not go on");
});
