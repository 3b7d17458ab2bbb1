//! Files among the checkpoints of a member that are not what was written. None of them is believed,
//! unless it is what was written. The first byte chooses how they differ.
#![no_main]

use bytes::Bytes;
use quorate_core::Position;
use quorate_storage::{Checkpoints, LogIdentity, MemoryDisk};
use std::io::{Read, Write};
use std::path::Path;

const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };
const STATE: &[u8] = b"the state of a store, in more words than a few";

fn position() -> Position {
    Position::new(1, 3)
}

fn open(disk: &MemoryDisk) -> Option<Checkpoints<MemoryDisk>> {
    Checkpoints::open(disk.clone(), Path::new("/checkpoints"), &IDENTITY).ok()
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((how, bytes)) = input.split_first() else { return };
    let disk = MemoryDisk::new();
    let checkpoints = open(&disk).expect("an empty directory");
    let mut writer = checkpoints.begin(position(), Bytes::from_static(b"members")).expect("begins");
    writer.write_all(STATE).expect("a disk that works");
    writer.finish().expect("a disk that works");
    drop(checkpoints);
    let mut files: Vec<_> = disk.files().into_iter().filter(|(_, size)| *size > 0).collect();
    files.sort();
    let (path, _) = &files[usize::from(how >> 2) % files.len()];
    let mut content = disk.content(path).expect("it is there");
    match how & 3 {
        0 => content = bytes.to_vec(),
        1 => content.extend_from_slice(bytes),
        _ => {
            for change in bytes.chunks_exact(3) {
                let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % content.len();
                content[at] ^= change[2];
            }
        }
    }
    disk.plant(path, &content);
    let Some(checkpoints) = open(&disk) else { return };
    let Ok(newest) = checkpoints.newest_whole() else { return };
    if let Some(found) = newest.found {
        let mut state = Vec::new();
        let mut reader = checkpoints.open_reader(found.position).expect("it was found whole");
        reader.read_to_end(&mut state).expect("it was found whole");
        assert_eq!((found.position, &state[..]), (position(), STATE), "it was believed");
    }
});
