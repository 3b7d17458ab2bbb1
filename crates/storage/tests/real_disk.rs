//! The log and the checkpoints on real files, as a node uses them.

use bytes::Bytes;
use quorate_core::{Frame, Index, Position};
use quorate_storage::{Checkpoints, LogIdentity, RealDisk, Recovered, Wal, WalError, WalOptions};
use std::io::{Read, Write};

const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };

fn options() -> WalOptions {
    WalOptions { segment_bytes: 64 << 10, sticky_kinds: vec![], critical_kinds: vec![2] }
}

fn entry(index: u64) -> Frame {
    let payload = Bytes::from(vec![index as u8; 100]);
    Frame { kind: 1, position: Position::new(1, index), payload }
}

fn vote(term: u64) -> Frame {
    let payload = Bytes::copy_from_slice(&term.to_le_bytes());
    Frame { kind: 2, position: Position::ZERO, payload }
}

#[test]
fn a_log_is_written_released_and_read_back_with_segments_made_on_another_thread() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("wal");
    let (mut wal, _) = Wal::open(RealDisk, &path, options(), &IDENTITY).expect("opens");
    wal.append(&vote(7));
    for index in 1..=3_000 {
        wal.append(&entry(index));
        if index % 50 == 0 {
            wal.sync().expect("a sync");
            if let Some(preparation) = wal.preparation() {
                let made = std::thread::spawn(|| preparation.run()).join().expect("no panic");
                wal.adopt(made.expect("room")).expect("adopted");
            }
        }
    }
    wal.release(Index(2_000)).expect("released");
    let locked = Wal::open(RealDisk, &path, options(), &IDENTITY).expect_err("held");
    assert_eq!(locked, WalError::Locked { path: path.clone() });
    let bytes = wal.bytes();
    wal.close().expect("closed");

    let (wal, recovery) = Wal::open(RealDisk, &path, options(), &IDENTITY).expect("opens");
    assert!(wal.bytes() >= bytes && bytes < 300_000, "{} bytes, {bytes} before", wal.bytes());
    assert_eq!((recovery.lost, recovery.damaged_places, recovery.torn_tail), (0, 0, None));
    let mut indexes = Vec::new();
    let mut votes = Vec::new();
    for item in recovery {
        match item.expect("readable") {
            Recovered::Frame(frame) if frame.kind == 1 => {
                assert_eq!(frame, entry(frame.position.index.0));
                indexes.push(frame.position.index.0);
            }
            Recovered::Frame(frame) => votes.push(frame),
            Recovered::Damaged(damage) => panic!("{damage:?}"),
        }
    }
    assert_eq!(votes, [vote(7)]);
    assert!(indexes[0] <= 2_001);
    assert_eq!(indexes, (indexes[0]..=3_000).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_is_written_read_and_sent_to_another_member() {
    let dir = tempfile::tempdir().expect("a directory");
    let position = Position::new(2, 500);
    let ours = Checkpoints::open(RealDisk, &dir.path().join("a"), &IDENTITY).expect("opens");
    let state: Vec<u8> = (0..1_000_000_u32).map(|byte| (byte % 251) as u8).collect();
    let mut writer = ours.begin(position, Bytes::from_static(b"members")).expect("begun");
    writer.write_all(&state).expect("written");
    let manifest = writer.finish().expect("published");

    let peer = LogIdentity { member: 9, ..IDENTITY };
    let theirs = Checkpoints::open(RealDisk, &dir.path().join("b"), &peer).expect("opens");
    let mut incoming = theirs.begin_receive(manifest.clone()).expect("begun");
    while incoming.offset() < manifest.size {
        let chunk = ours.read_chunk(position, incoming.offset(), 64 << 10).expect("a chunk");
        incoming.write(incoming.offset(), &chunk).expect("written");
    }
    incoming.complete().expect("whole");
    let found = theirs.newest_whole().expect("readable").found.expect("one");
    assert_eq!(found, manifest);
    let mut read = Vec::new();
    theirs.open_reader(position).expect("opens").read_to_end(&mut read).expect("whole");
    assert_eq!(read, state);
}
