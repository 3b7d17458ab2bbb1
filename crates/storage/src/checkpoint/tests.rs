//! What checkpoints promise, on a disk that can be told to misbehave.

use super::*;
use crate::{Fault, MemoryDisk, Mutant, with_mutant};
use std::io::{Read, Write};
use std::path::PathBuf;

const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };
const PEER: LogIdentity = LogIdentity { cluster: 1, member: 9, data: 4 };

fn dir() -> &'static Path {
    Path::new("/data/checkpoints")
}

fn open(disk: &MemoryDisk) -> Checkpoints<MemoryDisk> {
    Checkpoints::open(disk.clone(), dir(), &IDENTITY).expect("opens")
}

fn at(index: u64) -> Position {
    Position::new(1, index)
}

fn state(index: u64, len: usize) -> Vec<u8> {
    (0..len).map(|byte| (byte as u64 * 31 + index) as u8).collect()
}

fn save(
    checkpoints: &Checkpoints<MemoryDisk>,
    index: u64,
    len: usize,
) -> Result<Manifest, CheckpointError> {
    let mut writer = checkpoints.begin(at(index), Bytes::from_static(b"members"))?;
    let written = writer.write_all(&state(index, len));
    let finished = writer.finish();
    assert!(written.is_ok() || finished.is_err(), "a failed write was finished");
    finished
}

fn load(checkpoints: &Checkpoints<MemoryDisk>, index: u64) -> io::Result<Vec<u8>> {
    let reader = checkpoints.open_reader(at(index));
    let mut bytes = Vec::new();
    reader.map_err(io::Error::other)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn path(index: u64, suffix: &str) -> PathBuf {
    dir().join(format!("{index:016x}-{:016x}.{suffix}", 1))
}

fn names(disk: &MemoryDisk) -> Vec<String> {
    disk.list(dir()).expect("a directory")
}

#[test]
fn what_is_written_is_read_at_any_size() {
    let disk = MemoryDisk::new();
    let checkpoints = open(&disk);
    let block = format::BLOCK_BYTES;
    for (index, len) in [0, 1, block - 1, block, block + 1, 3 * block + 5].into_iter().enumerate() {
        let index = index as u64 + 1;
        let manifest = save(&checkpoints, index, len).expect("saved");
        assert_eq!(load(&checkpoints, index).expect("whole"), state(index, len));
        assert_eq!(checkpoints.verify(at(index)), Ok(manifest.clone()));
        let newest = checkpoints.newest_whole().expect("readable");
        assert_eq!(newest, NewestWhole { found: Some(manifest), skipped: vec![] });
    }
    assert_eq!(checkpoints.list().expect("readable").len(), 6);
    assert_eq!(checkpoints.list().expect("readable")[0].metadata, &b"members"[..]);
    let again = checkpoints.begin(at(2), Bytes::new()).expect_err("it is there");
    assert_eq!(again, CheckpointError::Exists { position: at(2) });
}

#[test]
fn every_flipped_byte_is_seen_and_its_part_is_named() {
    let disk = MemoryDisk::new();
    save(&open(&disk), 7, 300).expect("saved");
    save(&open(&disk), 8, 300).expect("saved");
    let size = disk.content(&path(8, "checkpoint")).expect("a file").len() as u64;
    let mut parts = Vec::new();
    for offset in 0..size {
        let rotten = disk.fork();
        rotten.flip(&path(8, "checkpoint"), offset, 0x40);
        let checkpoints = open(&rotten);
        load(&checkpoints, 8).expect_err("a changed byte was given out");
        let newest = checkpoints.newest_whole().expect("readable");
        assert_eq!(newest.found.map(|manifest| manifest.position), Some(at(7)));
        let [CheckpointError::Damaged { position, part, .. }] = newest.skipped[..] else {
            panic!("byte {offset}: {:?}", newest.skipped);
        };
        assert_eq!(position, at(8));
        parts.push(part);
    }
    parts.dedup();
    let block = CheckpointPart::Block { number: 0 };
    // A footer whose length word rots looks like a block that is no block.
    assert_eq!(parts[..2], [CheckpointPart::Header, block]);
    assert_eq!(parts.last(), Some(&CheckpointPart::Footer));
}

#[test]
fn only_what_is_damaged_is_discarded() {
    let disk = MemoryDisk::new();
    let checkpoints = open(&disk);
    for index in 1..=4 {
        save(&checkpoints, index, 100).expect("saved");
    }
    disk.flip(&path(4, "manifest"), 20, 1);
    disk.flip(&path(3, "checkpoint"), 100, 1);
    let discarded = |index| checkpoints.discard_if_damaged(at(index)).expect("the disk is well");
    assert_eq!([1, 2, 3, 4, 5].map(discarded), [false, false, true, true, false]);
    let left: Vec<_> = checkpoints.list().expect("readable");
    let left: Vec<_> = left.iter().map(|manifest| manifest.position).collect();
    assert_eq!(left, [at(2), at(1)]);
    assert_eq!(disk.content(&path(3, "checkpoint")), None, "its space is free again");
    assert_eq!(load(&checkpoints, 2).expect("whole"), state(2, 100));
}

#[test]
fn a_damaged_or_missing_file_and_a_damaged_manifest_are_passed_over() {
    let disk = MemoryDisk::new();
    for index in 1..=4 {
        save(&open(&disk), index, 100).expect("saved");
    }
    disk.flip(&path(4, "manifest"), 20, 1);
    disk.remove(&path(3, "checkpoint")).expect("a file");
    disk.fail(Fault::Read { path: path(2, "checkpoint"), range: 100..101 });
    let checkpoints = open(&disk);
    let newest = checkpoints.newest_whole().expect("readable");
    assert_eq!(newest.found.map(|manifest| manifest.position), Some(at(1)));
    let part = |error: &CheckpointError| match error {
        CheckpointError::Damaged { part, .. } => *part,
        other => panic!("{other}"),
    };
    assert_eq!(
        newest.skipped.iter().map(part).collect::<Vec<_>>(),
        [CheckpointPart::Manifest, CheckpointPart::File, CheckpointPart::Block { number: 0 }]
    );
    disk.heal();
    // A better one may take the place of a damaged one.
    save(&checkpoints, 4, 100).expect("saved again");
    assert_eq!(load(&checkpoints, 4).expect("whole"), state(4, 100));
}

#[test]
fn only_the_newest_are_retained() {
    let disk = MemoryDisk::new();
    let checkpoints = open(&disk);
    assert_eq!(checkpoints.retain(2), Ok(None));
    for index in 1..=5 {
        save(&checkpoints, index, 10).expect("saved");
    }
    assert_eq!(checkpoints.retain(2), Ok(Some(at(4))));
    assert_eq!(checkpoints.retain(9), Ok(Some(at(4))));
    drop(checkpoints);
    disk.crash(&mut |_| 0);
    assert_eq!(names(&disk).len(), 4, "{:?}", names(&disk));
    assert_eq!(open(&disk).list().expect("readable")[0].position, at(5));
}

#[test]
fn foreign_newer_and_locked_directories_are_refused_untouched() {
    let disk = MemoryDisk::new();
    let held = open(&disk);
    save(&held, 1, 10).expect("saved");
    let locked = Checkpoints::open(disk.clone(), dir(), &IDENTITY).expect_err("held");
    assert_eq!(locked, CheckpointError::Locked { path: dir().to_owned() });
    drop(held);
    disk.plant(&path(2, "writing"), b"left behind");
    let foreign = Checkpoints::open(disk.clone(), dir(), &PEER).expect_err("not ours");
    assert!(matches!(foreign, CheckpointError::Foreign { found: IDENTITY, .. }), "{foreign}");
    let mut newer = disk.content(&path(1, "manifest")).expect("a manifest");
    newer[8] = 2;
    let end = newer.len() - 4;
    let crc = crc32c::crc32c(&newer[..end]);
    newer[end..].copy_from_slice(&crc.to_le_bytes());
    let fork = disk.fork();
    fork.plant(&path(1, "manifest"), &newer);
    let error = Checkpoints::open(fork, dir(), &IDENTITY).expect_err("from the future");
    assert!(matches!(error, CheckpointError::NewerFormat { found: 2, supported: 1, .. }));
    assert!(names(&disk).iter().any(|name| name.ends_with(".writing")), "it was touched");
    disk.fail(Fault::ReadOnly);
    let error = Checkpoints::open(disk, dir(), &IDENTITY).expect_err("read only");
    assert!(matches!(error, CheckpointError::NotWritable(_)), "{error}");
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let disk = MemoryDisk::new();
    let checkpoints = open(&disk);
    let mut writer = checkpoints.begin(at(1), Bytes::new()).expect("begun");
    writer.write_all(&[1; 100]).expect("written");
    drop(writer);
    assert_eq!(names(&disk), Vec::<String>::new());
}

#[test]
fn a_full_disk_publishes_nothing_and_harms_nothing() {
    let disk = MemoryDisk::new();
    let checkpoints = open(&disk);
    save(&checkpoints, 1, 10).expect("saved");
    disk.fail(Fault::Full { capacity: 10_000 });
    let error = save(&checkpoints, 2, 20_000).expect_err("no room");
    assert!(matches!(&error, CheckpointError::Io(fault) if fault.is_full()), "{error}");
    disk.heal();
    assert_eq!(checkpoints.list().expect("readable").len(), 1);
    save(&checkpoints, 2, 20_000).expect("saved");
}

/// Cuts the power after every single operation of `act`, and checks what is there after a restart.
fn cut_everywhere(disk: &MemoryDisk, act: impl Fn(&MemoryDisk), check: impl Fn(&MemoryDisk)) {
    let probe = disk.fork();
    let before = probe.operations();
    act(&probe);
    let operations = probe.operations() - before;
    assert!(operations > 3, "nothing happened");
    for after in 0..=operations {
        for seed in 0..6 {
            let fork = disk.fork();
            fork.fail(Fault::PowerCut { after });
            act(&fork);
            let mut draw: u64 = seed * 7919;
            fork.crash(&mut |options| match seed {
                0 | 1 => (seed as usize).min(options - 1),
                _ => {
                    draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (draw >> 33) as usize % options
                }
            });
            check(&fork);
        }
    }
}

fn check_all_whole(disk: &MemoryDisk) {
    let checkpoints = open(disk);
    let newest = checkpoints.newest_whole().expect("readable");
    assert_eq!(newest.skipped, [], "a published checkpoint is not whole");
    let found = newest.found.expect("the old one at least").position;
    assert_eq!(load(&checkpoints, found.index.0).expect("whole"), state(found.index.0, 2_000));
    let stems = names(disk).len();
    assert_eq!(stems, 2 * checkpoints.list().expect("readable").len(), "leftovers");
}

fn save_second_and_retain(disk: &MemoryDisk) {
    let Ok(checkpoints) = Checkpoints::open(disk.clone(), dir(), &IDENTITY) else { return };
    if save(&checkpoints, 2, 2_000).is_ok() {
        let _ = checkpoints.retain(1);
    }
}

#[test]
fn a_crash_at_any_step_leaves_whole_checkpoints_only() {
    let disk = MemoryDisk::new();
    save(&open(&disk), 1, 2_000).expect("saved");
    cut_everywhere(&disk, save_second_and_retain, check_all_whole);
}

#[test]
#[should_panic(expected = "a published checkpoint is not whole")]
fn the_mutant_that_publishes_too_early_is_caught() {
    let disk = MemoryDisk::new();
    save(&open(&disk), 1, 2_000).expect("saved");
    let act = |disk: &MemoryDisk| {
        with_mutant(Mutant::ManifestBeforeData, || save_second_and_retain(disk));
    };
    cut_everywhere(&disk, act, check_all_whole);
}

/// Sends the checkpoint at index 5 to another disk, in small chunks, until something fails.
fn transfer(
    from: &Checkpoints<MemoryDisk>,
    to: &Checkpoints<MemoryDisk>,
    manifest: &Manifest,
) -> Result<Manifest, CheckpointError> {
    let mut incoming = to.begin_receive(manifest.clone())?;
    loop {
        let chunk = from.read_chunk(manifest.position, incoming.offset(), 100_000)?;
        if chunk.is_empty() {
            return incoming.complete();
        }
        incoming.write(incoming.offset(), &chunk)?;
    }
}

fn sender(len: usize) -> (MemoryDisk, Manifest) {
    let disk = MemoryDisk::new();
    let checkpoints = Checkpoints::open(disk.clone(), dir(), &PEER).expect("opens");
    let manifest = save(&checkpoints, 5, len).expect("saved");
    (disk, manifest)
}

#[test]
fn a_transfer_is_resumed_after_its_last_whole_block() {
    let len = 3 * format::BLOCK_BYTES;
    let (disk, manifest) = sender(len);
    let from = Checkpoints::open(disk, dir(), &PEER).expect("opens");
    let disk = MemoryDisk::new();
    let to = open(&disk);
    let mut incoming = to.begin_receive(manifest.clone()).expect("begun");
    let half = from.read_chunk(at(5), 0, 600_000).expect("a chunk");
    incoming.write(0, &half).expect("written");
    let error = incoming.write(7, &half).expect_err("not the next one");
    assert!(matches!(error, CheckpointError::WrongOffset { expected: 600_000, .. }), "{error}");
    let error = incoming.complete().expect_err("half of it");
    assert!(matches!(error, CheckpointError::Incomplete { received: 600_000, .. }), "{error}");
    drop(to);
    let to = open(&disk);
    let resumed = to.begin_receive(manifest.clone()).expect("resumed");
    let block = (format::BLOCK_BYTES + format::BLOCK_HEADER_BYTES) as u64;
    assert_eq!(resumed.offset(), format::FILE_HEADER_BYTES as u64 + 2 * block);
    drop(resumed);
    assert_eq!(transfer(&from, &to, &manifest), Ok(manifest));
    assert_eq!(load(&to, 5).expect("whole"), state(5, len));
    assert_eq!(names(&disk).len(), 2, "{:?}", names(&disk));
}

#[test]
fn a_crash_at_any_step_of_a_transfer_leaves_it_resumable_or_done() {
    let len = 300_000;
    let (source, manifest) = sender(len);
    let from = Checkpoints::open(source, dir(), &PEER).expect("opens");
    let disk = MemoryDisk::new();
    let receive = |disk: &MemoryDisk| {
        let Ok(to) = Checkpoints::open(disk.clone(), dir(), &IDENTITY) else { return };
        let _ = transfer(&from, &to, &manifest);
    };
    cut_everywhere(&disk, receive, |disk| {
        let to = open(disk);
        assert_eq!(to.newest_whole().expect("readable").skipped, []);
        match transfer(&from, &to, &manifest) {
            Ok(_) | Err(CheckpointError::Exists { .. }) => {}
            // What was in doubt after the crash turned out bad: the second try begins anew.
            Err(CheckpointError::Damaged { .. }) => {
                transfer(&from, &to, &manifest).expect("received at last");
            }
            Err(error) => panic!("{error}"),
        }
        assert_eq!(load(&to, 5).expect("whole"), state(5, len));
    });
}

fn receive_rotten() -> Result<Manifest, CheckpointError> {
    let (source, manifest) = sender(1_000);
    source.flip(&path(5, "checkpoint"), 500, 1);
    let from = Checkpoints::open(source, dir(), &PEER).expect("opens");
    let disk = MemoryDisk::new();
    let outcome = transfer(&from, &open(&disk), &manifest);
    assert_eq!(open(&disk).list().expect("readable"), []);
    outcome
}

#[test]
fn a_peer_that_sends_rotten_bytes_is_not_believed() {
    let error = receive_rotten().expect_err("rotten");
    assert!(error.is_damage(), "{error}");
}

#[test]
#[should_panic(expected = "left == right")]
fn the_mutant_that_trusts_peers_is_caught() {
    let _ = with_mutant(Mutant::TrustReceived, receive_rotten);
}

#[test]
fn a_checkpoint_of_another_cluster_is_not_received() {
    let (source, manifest) = sender(100);
    let from = Checkpoints::open(source, dir(), &PEER).expect("opens");
    let stranger = LogIdentity { cluster: 8, ..IDENTITY };
    let to = Checkpoints::open(MemoryDisk::new(), dir(), &stranger).expect("opens");
    let error = transfer(&from, &to, &manifest).expect_err("foreign");
    assert!(matches!(error, CheckpointError::ForeignCluster { found: 1, .. }), "{error}");
}

fn few_cases() -> proptest::prelude::ProptestConfig {
    proptest::prelude::ProptestConfig { failure_persistence: None, cases: 64, ..Default::default() }
}

proptest::proptest! {
    #![proptest_config(few_cases())]
    #[test]
    fn arbitrary_files_are_never_believed(
        data in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400),
    ) {
        let disk = MemoryDisk::new();
        save(&open(&disk), 3, 50).expect("saved");
        let mut content = disk.content(&path(3, "checkpoint")).expect("a file");
        content.truncate(format::FILE_HEADER_BYTES);
        content.extend_from_slice(&data);
        disk.plant(&path(3, "checkpoint"), &content);
        disk.plant(&path(4, "manifest"), &data);
        disk.plant(&path(4, "checkpoint"), &data);
        disk.plant(&path(6, "expected"), &data);
        disk.plant(&path(6, "incoming"), &data);
        let newest = open(&disk).newest_whole().expect("readable");
        proptest::prop_assert_eq!(newest.found, None);
        proptest::prop_assert_eq!(newest.skipped.len(), 2);
    }
}

#[test]
fn a_transfer_that_found_no_space_can_be_begun_again() {
    let (source, manifest) = sender(1_000);
    let from = Checkpoints::open(source, dir(), &PEER).expect("opens");
    let disk = MemoryDisk::new();
    let to = open(&disk);
    // There is room for an empty file, and none for the note of what it is to bring.
    let full = Fault::Full { capacity: disk.used() };
    disk.fail(full.clone());
    let refused = to.begin_receive(manifest.clone()).expect_err("no space");
    assert!(!refused.is_damage(), "{refused}");
    disk.mend(&full);
    assert_eq!(transfer(&from, &to, &manifest), Ok(manifest));
}
