//! Bytes from outside: encoded commands and saved stores, good and bad.

use crate::generate::{Generator, Random};
use bytes::Bytes;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use quorate_replica::store::{
    BadCommand, Command, LeaseName, LeaseTime, LoadError, Revision, SAVE_VERSION, Store, xxh64,
};
use std::sync::Arc;

fn generator(seed: u64) -> Generator {
    let keys = Arc::new(["a", "b", "c", "d"].map(Bytes::from).to_vec());
    let granted = vec![LeaseName { id: 1, grant: 0 }];
    let former = Vec::new();
    Generator { random: Random(seed), keys, revision: 9, compacted: 3, granted, former }
}

fn encode(command: &Command) -> Vec<u8> {
    let mut encoded = Vec::new();
    command.encode(&mut encoded);
    encoded
}

/// A store with history, an unfinished sweep, and a log that names pairs in all three ways.
fn store() -> Store {
    let mut store = Store::new();
    for id in [1, 2] {
        store.apply(&Command::LeaseGrant { id, ttl: 60, at: LeaseTime(7) });
    }
    let mut generator = generator(1);
    while store.revision() < Revision(60) {
        generator.revision = store.revision().0;
        generator.compacted = store.compact_revision().0;
        store.apply(&generator.command());
    }
    let revision = Revision(store.revision().0 - 5);
    store.apply(&Command::Compact { revision });
    assert!(!store.sweep(3), "the sweep is under way");
    store
}

fn saved() -> Vec<u8> {
    let mut saved = Vec::new();
    store().save(&mut saved).expect("memory does not fail");
    saved
}

/// Recomputes the hash of the first block, so that the content is what is read.
fn seal(saved: &mut [u8]) {
    let len = u32::from_le_bytes(saved[..4].try_into().expect("4 bytes")) as usize;
    let hash = xxh64(&saved[12..12 + len], 0);
    saved[4..12].copy_from_slice(&hash.to_le_bytes());
}

proptest! {
    #[test]
    fn every_command_comes_back(seed in any::<u64>()) {
        let command = generator(seed).command();
        prop_assert_eq!(Command::decode(Bytes::from(encode(&command))), Ok(command));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        version in 0_u8..3,
        kind in 0_u8..12,
        rest in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [&[version, kind], &rest[..]].concat();
        if let Ok(command) = Command::decode(Bytes::from(bytes)) {
            let again = encode(&command);
            prop_assert_eq!(Command::decode(Bytes::from(again)), Ok(command));
        }
    }

    #[test]
    fn damaged_commands_never_panic(
        seed in any::<u64>(),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let mut encoded = encode(&generator(seed).command());
        let at = at % encoded.len();
        prop_assert!(Command::decode(Bytes::copy_from_slice(&encoded[..at])).is_err());
        encoded[at] = byte;
        let _ = Command::decode(Bytes::from(encoded));
    }

    #[test]
    fn a_damaged_store_is_refused(at in any::<usize>(), bit in 0_u32..8) {
        let mut saved = saved();
        let at = at % saved.len();
        prop_assert!(Store::load(&mut &saved[..at]).is_err());
        saved[at] ^= 1 << bit;
        prop_assert!(Store::load(&mut &saved[..]).is_err());
    }

    #[test]
    fn a_forged_store_never_panics(at in any::<usize>(), byte in any::<u8>()) {
        let mut saved = saved();
        let content = 12 + 14..saved.len() - 12;
        saved[content.start + at % content.len()] = byte;
        seal(&mut saved);
        let _ = Store::load(&mut &saved[..]);
    }
}

#[test]
fn bad_commands_are_named() {
    let decode = |bytes: &'static [u8]| Command::decode(Bytes::from_static(bytes));
    assert_eq!(decode(&[]), Err(BadCommand::Truncated));
    assert_eq!(decode(&[9, 4, 1]), Err(BadCommand::UnknownVersion { version: 9 }));
    assert_eq!(decode(&[1, 99]), Err(BadCommand::UnknownKind { kind: 99 }));
    assert_eq!(decode(&[1, 4, 1, 0, 0]), Err(BadCommand::Trailing { bytes: 2 }));
    assert_eq!(decode(&[1, 1, 8]), Err(BadCommand::UnknownKind { kind: 8 }));
    assert_eq!(
        decode(&[1, 4, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]),
        Err(BadCommand::NumberTooLarge)
    );
    // Nothing but the beginnings of nested transactions: no comparisons, one operation, a txn.
    let deep = [&[1, 3][..], &[0, 1, 3].repeat(500)].concat();
    assert_eq!(Command::decode(Bytes::from(deep)), Err(BadCommand::TooDeep));
    // A count that promises more than there is must not allocate for it.
    assert_eq!(decode(&[1, 3, 255, 255, 255, 255, 255, 255, 255, 127]), Err(BadCommand::Truncated));
}

#[test]
fn bad_stores_are_named() {
    let good = saved();
    let load = |bytes: &[u8]| Store::load(&mut &bytes[..]).expect_err("it is bad");
    let mut other = good.clone();
    other[12] = b'Q';
    assert!(matches!(load(&other), LoadError::Corrupt(_)), "the hash no longer fits");
    seal(&mut other);
    assert!(matches!(load(&other), LoadError::NotAStore));
    let mut newer = good.clone();
    newer[12 + 13] = SAVE_VERSION + 1;
    seal(&mut newer);
    assert!(
        matches!(load(&newer), LoadError::UnknownVersion { version } if version == SAVE_VERSION + 1)
    );
    assert!(matches!(load(&good[..good.len() - 1]), LoadError::Io(_)));
}

#[test]
fn the_leader_writes_the_clock_into_a_grant_and_nothing_else() {
    let grant = |at| Command::LeaseGrant { id: -7, ttl: 60, at: LeaseTime(at) };
    let mut encoded = encode(&grant(0));
    assert!(Command::wants_stamp(&encoded));
    Command::stamp(&mut encoded, LeaseTime(u64::MAX - 1));
    assert_eq!(Command::decode(Bytes::from(encoded)), Ok(grant(u64::MAX - 1)));
    assert!(!Command::wants_stamp(&encode(&Command::LeaseRevoke { id: 1 })));
    assert!(!Command::wants_stamp(&[1, 6, 0, 0]), "too short to be one");
}

#[test]
fn a_loaded_store_goes_on_as_the_saved_one() {
    let mut left = store();
    let mut right = Store::load(&mut &saved()[..]).expect("it was just saved");
    let mut generator = generator(2);
    for _ in 0..200 {
        generator.revision = left.revision().0;
        let command = generator.command();
        assert_eq!(left.apply(&command), right.apply(&command));
        left.sweep(1);
    }
    assert_eq!(left.digest(), right.digest());
    assert_eq!(left.hash_kv(Revision(0)), right.hash_kv(Revision(0)));
}

#[test]
fn large_values_cross_blocks() {
    let mut store = Store::new();
    for n in 0..4_u8 {
        let value = Bytes::from(vec![n; 150_000]);
        let put =
            quorate_replica::store::Put { key: vec![n + 1].into(), value, ..Default::default() };
        store.apply(&Command::Put(put));
    }
    let mut saved = Vec::new();
    store.save(&mut saved).expect("memory does not fail");
    let loaded = Store::load(&mut &saved[..]).expect("it was just saved");
    assert_eq!(loaded.hash_kv(Revision(0)), store.hash_kv(Revision(0)));
}

#[test]
fn the_hash_is_xxh64() {
    // The vectors of the reference implementation's documentation and tests.
    assert_eq!(xxh64(b"", 0), 0xEF46_DB37_51D8_E999);
    assert_eq!(xxh64(b"a", 0), 0xD24E_C4F1_A98C_6E5B);
    assert_eq!(xxh64(b"abc", 0), 0x44BC_2CF5_AD77_0999);
    let long = b"Call me Ishmael. Some years ago--never mind how long precisely-";
    assert_eq!(xxh64(long, 0), 0x02A2_E854_70D6_FD96);
}
