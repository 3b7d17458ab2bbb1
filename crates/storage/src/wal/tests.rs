//! What the log promises, on a disk that can be told to misbehave.

use super::*;
use crate::{Fault, MemoryDisk, Mutant, with_mutant};
use bytes::Bytes;

const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };
const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const HINT: u8 = 3;

fn options() -> WalOptions {
    WalOptions { segment_bytes: 16 << 10, sticky_kinds: vec![], critical_kinds: vec![VOTE] }
}

fn dir() -> &'static Path {
    Path::new("/data/wal")
}

fn entry(index: u64) -> Frame {
    let payload = Bytes::from(vec![index as u8; (index * 7 % 60) as usize]);
    Frame { kind: ENTRY, position: Position::new(1 + index / 100, index), payload }
}

fn sticky(kind: u8, value: u64) -> Frame {
    let payload = Bytes::copy_from_slice(&value.to_le_bytes());
    Frame { kind, position: Position::ZERO, payload }
}

fn open(disk: &MemoryDisk) -> (Wal<MemoryDisk>, Recovery<MemoryDisk>) {
    Wal::open(disk.clone(), dir(), options(), &IDENTITY).expect("the log opens")
}

fn recovered(disk: &MemoryDisk) -> Vec<Recovered> {
    let (_wal, recovery) = open(disk);
    recovery.map(|item| item.expect("readable")).collect()
}

fn frames(disk: &MemoryDisk) -> Vec<Frame> {
    let frame = |item| match item {
        Recovered::Frame(frame) => frame,
        Recovered::Damaged(damage) => panic!("{damage:?}"),
    };
    recovered(disk).into_iter().map(frame).collect()
}

#[test]
fn what_was_synced_comes_back_in_order_over_many_segments() {
    let disk = MemoryDisk::new();
    let (mut wal, recovery) = open(&disk);
    assert!(recovery.created);
    assert_eq!(recovery.count(), 0);
    let mut written = Vec::new();
    for index in 1..=600 {
        written.push(entry(index));
        if index % 97 == 0 {
            written.push(sticky(VOTE, index));
        }
    }
    for batch in written.chunks(7) {
        batch.iter().for_each(|frame| wal.append(frame));
        wal.sync().expect("a sync");
        wal.prepare().expect("room");
    }
    assert!(wal.synced().segment > 3, "{wal:?}");
    drop(wal);
    disk.crash(&mut |_| 0);
    assert_eq!(frames(&disk), written);
    assert_eq!(frames(&disk), written);
}
