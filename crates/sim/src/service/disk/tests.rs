//! A log of entries is written, and the power fails whenever it likes. What a sync has confirmed is
//! there afterwards, or is named as lost; and what was never written is not.

use super::*;
use bytes::Bytes;
use quorate_core::{NodeId, Term};
use quorate_protocols::consensus::raft::{Entry, Payload};
use quorate_replica::store::{Command, Put, Store};
use quorate_storage::{Mutant, with_mutant};
use std::time::Duration;

const SEGMENT_BYTES: u32 = 32 << 10;

/// SplitMix64.
pub(super) struct Chance(pub(super) u64);

impl Chance {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

pub(super) fn settings() -> ReplicaSettings {
    ReplicaSettings {
        me: NodeId(1),
        voters: (1..=3).map(NodeId).collect(),
        members: Default::default(),
        member_terms: Default::default(),
        heartbeat_interval: Duration::from_millis(100),
        election_timeout: Duration::from_secs(1),
        election_timeout_min: Duration::from_secs(1),
        log_retain_bytes: 64 << 20,
        lease_reads: None,
        buggify: quorate_core::Buggify::Off,
    }
}

fn new_disk(member: u64) -> MemberDisk {
    MemberDisk::new(LogIdentity { cluster: 1, member, data: member }, SEGMENT_BYTES)
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let command = Bytes::from(vec![index as u8; bytes]);
    Entry { position: Position::new(term, index), payload: Payload::Command(command) }
}

fn checkpoint(position: Position) -> Checkpoint {
    let mut store = Store::new();
    for number in 0..position.index.0 {
        let key = Bytes::copy_from_slice(&number.to_be_bytes());
        let value = Bytes::from(vec![1; 300]);
        store.apply(&Command::Put(Put { key, value, ..Put::default() }));
    }
    let configuration = settings().replica(Life(1), None).raft.configuration;
    Checkpoint { position, configuration, members: Default::default(), store }
}

/// A member and what it was made to write.
struct Story {
    disk: MemberDisk,
    /// Every entry of the log, in order.
    entries: Vec<Entry>,
    /// So many of them a sync has confirmed.
    synced: usize,
    term: u64,
    synced_term: u64,
    checkpoints: Vec<Position>,
    lives: u64,
    torn: usize,
}

impl Story {
    fn new() -> Story {
        let mut story = Story {
            disk: new_disk(1),
            entries: Vec::new(),
            synced: 0,
            term: 0,
            synced_term: 0,
            checkpoints: Vec::new(),
            lives: 0,
            torn: 0,
        };
        story.boot();
        story
    }

    fn write(&mut self, chance: &mut Chance) {
        let mut records = Vec::new();
        if chance.below(4) == 0 {
            self.term += 1;
            let vote = Some(NodeId(1));
            records.push(Record::HardState { term: Term(self.term), vote });
        }
        for _ in 0..chance.below(4) {
            let entry = entry(self.term, self.entries.len() as u64 + 1, chance.below(3_000));
            self.entries.push(entry.clone());
            records.push(Record::Entry(entry));
        }
        self.disk.append(&mut records);
        assert!(records.is_empty(), "all were taken");
    }

    fn sync(&mut self) {
        self.disk.sync().expect("the disk is well");
        (self.synced, self.synced_term) = (self.entries.len(), self.term);
    }

    /// Of the last entry that is synced; the log goes on with what is there.
    fn checkpoint(&mut self) -> bool {
        let Some(last) = self.entries[..self.synced].last().map(|entry| entry.position) else {
            return false;
        };
        self.disk.begin_checkpoint(checkpoint(last));
        true
    }

    /// Starts again, and compares.
    fn boot(&mut self) {
        self.lives += 1;
        let booted = self.disk.boot(&settings(), Life(self.lives)).expect("nothing is damaged");
        assert_eq!(booted.lost, 0, "a torn tail is no loss");
        self.torn += usize::from(booted.torn_tail.is_some());
        let raft = booted.replica.raft();
        assert!(!raft.is_mending());
        let terms = self.synced_term..=self.term;
        assert!(terms.contains(&raft.term().0), "{} of {terms:?}", raft.term());
        let base = raft.base().index.0 as usize;
        let found: Vec<Entry> = raft.entries().cloned().collect();
        let (from, upto) = (booted.from.map_or(0, |at| at.index.0 as usize), base + found.len());
        assert_eq!(base, from, "the log goes on where the checkpoint ends");
        assert!(upto >= self.synced, "{upto} of {} synced entries are there", self.synced);
        assert_eq!(found, self.entries[base..upto], "what was never written");
        if let Some(from) = booted.from {
            assert!(self.checkpoints.contains(&from) || from.index.0 as usize <= self.synced);
            let expected = checkpoint(from).store.digest();
            assert_eq!(booted.replica.store().digest(), expected, "at {from}");
        }
        self.entries.truncate(upto);
        (self.synced, self.term, self.synced_term) = (upto, raft.term().0, raft.term().0);
    }

    fn step(&mut self, chance: &mut Chance) {
        match chance.below(24) {
            0..8 => self.write(chance),
            8..15 => self.sync(),
            15 => self.disk.idle().expect("the disk is well"),
            16 if self.checkpoint() => {
                let written = self.disk.finish_checkpoint().expect("the disk is well");
                self.checkpoints.push(written);
                self.disk.release().expect("the disk is well");
            }
            17 => {
                self.disk.kill();
                self.boot();
            }
            18 | 19 => {
                if chance.below(4) == 0 {
                    self.checkpoint();
                }
                self.disk.crash(&mut |options| chance.below(options));
                for _ in 0..chance.below(3) {
                    // The power fails again and again while it starts.
                    self.lives += 1;
                    let life = Life(self.lives);
                    let mut choose = |options: usize| chance.below(options);
                    self.disk.cut_start_short(&settings(), life, &mut choose);
                }
                self.boot();
            }
            _ => {}
        }
    }
}

fn play(seeds: std::ops::Range<u64>) -> usize {
    let mut torn = 0;
    for seed in seeds {
        let mut chance = Chance(seed);
        let mut story = Story::new();
        (0..400).for_each(|_| story.step(&mut chance));
        torn += story.torn;
    }
    torn
}

#[test]
fn what_was_synced_survives_a_crash_at_any_point() {
    let torn = play(0..25);
    assert!(torn > 10, "{torn} torn tails were seen");
}

#[test]
fn a_log_that_forgets_to_sync_is_caught() {
    with_mutant(Mutant::ForgetSync, || {
        std::panic::catch_unwind(|| play(0..25)).expect_err("unnoticed");
    });
}

#[test]
fn the_same_choices_leave_the_same_bytes() {
    let content = |seed: u64| {
        let mut chance = Chance(seed);
        let mut story = Story::new();
        (0..400).for_each(|_| story.step(&mut chance));
        let disk = &story.disk.disk;
        let files = disk.files();
        files.into_iter().map(|(path, _)| (disk.content(&path), path)).collect::<Vec<_>>()
    };
    assert_eq!(content(7), content(7));
    assert_ne!(content(7), content(8));
}

/// Bits turn one at a time in a log that was settled: it is as before, or the member knows.
#[test]
fn damage_is_named_and_nothing_is_lost_in_silence() {
    let (mut named, mut harmless) = (0, 0);
    for seed in 0..300 {
        let mut chance = Chance(seed);
        let mut story = Story::new();
        for _ in 0..8 {
            story.write(&mut chance);
            story.sync();
        }
        story.disk.idle().expect("the disk is well");
        story.sync();
        let what = match seed % 4 {
            0 => story.disk.misdirect(&mut |options| chance.below(options)),
            _ => story.disk.rot(&mut |options| chance.below(options)),
        };
        // A sector that may not be overwritten was drawn: nothing happens to this log.
        let Some(what) = what else { continue };
        story.disk.crash(&mut |options| chance.below(options));
        let booted = match story.disk.boot(&settings(), Life(9)) {
            Ok(booted) => booted,
            Err(RecoverError::Promise { .. } | RecoverError::LogLost) => {
                named += 1;
                continue;
            }
            Err(error) => panic!("{what}: {error}"),
        };
        let raft = booted.replica.raft();
        let whole = raft.entries().eq(&story.entries) && raft.term().0 == story.term;
        assert!(whole || raft.is_mending(), "{what}, and nobody noticed");
        if booted.lost > 0 || raft.is_mending() { named += 1 } else { harmless += 1 }
    }
    assert!(named > 50 && harmless > 10, "{named} named, {harmless} harmless");
}

#[test]
fn a_sync_that_fails_is_the_end_of_a_life_and_a_full_disk_is_not() {
    let mut chance = Chance(3);
    let mut story = Story::new();
    story.write(&mut chance);
    story.sync();
    story.disk.fill();
    for _ in 0..20 {
        story.write(&mut chance);
    }
    assert_eq!(story.disk.sync(), Err(SyncError::Full));
    assert_eq!(story.disk.sync(), Err(SyncError::Full));
    story.disk.make_room();
    story.sync();
    story.disk.fail(Fault::Sync);
    story.write(&mut chance);
    story.write(&mut chance);
    let fatal = story.disk.sync();
    assert!(matches!(fatal, Err(SyncError::Fatal(_))), "{fatal:?}");
    story.disk.mend(&Fault::Sync);
    assert_eq!(story.disk.sync(), fatal, "nothing makes it good");
    story.disk.crash(&mut |options| chance.below(options));
    story.boot();
    story.write(&mut chance);
    story.sync();
}

#[test]
fn a_checkpoint_reaches_a_peer_in_spite_of_its_crashes() {
    let (mut here, mut there) = (new_disk(1), new_disk(2));
    here.boot(&settings(), Life(1)).expect("new");
    let position = Position::new(1, 9_000);
    here.begin_checkpoint(checkpoint(position));
    here.finish_checkpoint().expect("written");
    let announced = here.announce(position).expect("whole");
    let mut crashes = 0;
    loop {
        there.boot(&settings(), Life(2)).expect("nothing is damaged");
        let Reply::Send { offset } = there.receive(announced.clone()).expect("room") else { break };
        let part = here.part(position, offset).expect("readable");
        let cut = &part[..part.len().div_ceil(2).max(300_000).min(part.len())];
        if there.receive_part(offset, cut).expect("the next part") == Reply::Here {
            break;
        }
        crashes += 1;
        assert!(crashes < 60, "it goes forward: {offset} of {}", announced.size);
        there.crash(&mut |_| 1);
    }
    assert!(crashes > 3, "{} bytes and {crashes} crashes", announced.size);
    let installed = there.install(position).expect("whole");
    assert_eq!(installed.store.digest(), checkpoint(position).store.digest());
    assert_eq!(there.newest(), Some(position));
    // The log of the peer does not know of it, until the replica says so; the checkpoint is found.
    there.crash(&mut |_| 0);
    let booted = there.boot(&settings(), Life(3)).expect("nothing is damaged");
    assert_eq!(booted.from, Some(position));
}
