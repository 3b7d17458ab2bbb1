//! A state goes out as a file of etcd and comes back; and what is none, or is damaged, is refused.
//! What etcd itself makes of such a file is tested on its processes, in the tests of the binary.

use super::*;
use proptest::prelude::*;
use quorate_replica::store::{DeleteRange, LeaseTime, Op, Put, Txn};
use std::io::Cursor;

fn put(key: impl Into<Bytes>, value: impl Into<Bytes>, lease: i64) -> Put {
    Put { key: key.into(), value: value.into(), lease, ..Put::default() }
}

fn delete(key: &'static str) -> DeleteRange {
    let keys = Keys { key: Bytes::from_static(key.as_bytes()), range_end: Bytes::new() };
    DeleteRange { keys, prev_kv: false }
}

/// Keys that live, died and came back, a lease, users, a compaction, and `pairs` more.
fn lived(pairs: usize) -> Store {
    let mut store = Store::new();
    store.apply(&Command::LeaseGrant { id: -3, ttl: 77, at: LeaseTime(0) });
    store.apply(&Command::LeaseGrant { id: 9, ttl: 60, at: LeaseTime(0) });
    for round in 0..4 {
        for key in ["a", "b", "c"] {
            store.apply(&Command::Put(put(key, format!("{key}{round}"), 9 * (round % 2))));
        }
        store.apply(&Command::DeleteRange(delete("b")));
        let success = vec![Op::Put(put("x", "1", 0)), Op::Put(put("y", "2", -3))];
        store.apply(&Command::Txn(Txn { success, ..Txn::default() }));
    }
    store.apply(&Command::Compact { revision: Revision(12) });
    while !store.sweep(3) {}
    for number in 0..pairs {
        store.apply(&Command::Put(put(format!("many/{number:06}"), vec![7; 40], 0)));
    }
    let name = Bytes::from_static(b"root");
    let hash = Some(Bytes::from_static(b"$2a$04$abcdefghijklmnopqrstuu"));
    let keys = Keys { key: Bytes::from_static(b"a"), range_end: Bytes::from_static(b"c") };
    let permission = Permission { keys, access: Access::ReadWrite };
    for command in [
        AuthCommand::RoleAdd { name: name.clone() },
        AuthCommand::RoleGrant { role: name.clone(), permission },
        AuthCommand::UserAdd { name: name.clone(), hash },
        AuthCommand::UserAdd { name: Bytes::from_static(b"cert"), hash: None },
        AuthCommand::UserGrantRole { user: name.clone(), role: name },
        AuthCommand::Enable { token_key: Bytes::from(vec![1; 32]) },
    ] {
        store.apply(&Command::Auth(command)).outcome.expect("it can be done");
    }
    store
}

fn written(store: &Store) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    let len = write(store, &mut out).expect("memory does not fail");
    assert_eq!(len, out.get_ref().len() as u64);
    out.into_inner()
}

fn taken(bytes: &[u8]) -> Result<Taken, EtcdFileError> {
    read_bytes(bytes)
}

#[test]
fn a_revision_without_a_change_is_told() {
    let mut store = lived(3);
    let above = Revision(store.revision().0 + 5_000);
    store.begin_anew(above, quorate_replica::store::OldHistory::Kept);
    let back = taken(&written(&store)).expect("it was just written");
    assert_eq!(back.revision, above.0, "etcd goes on above it as well");
    assert_eq!(taken(&written(&Store::new())).expect("an empty one").revision, 1);
}

#[test]
fn a_state_goes_out_and_comes_back_with_every_revision() {
    for pairs in [0, 3, 5_000] {
        let store = lived(pairs);
        let back = taken(&written(&store)).expect("it was just written").store;
        assert_eq!((back.revision(), back.keys()), (store.revision(), store.keys()));
        assert_eq!(back.compact_revision(), store.compact_revision());
        for revision in store.compact_revision().0..=store.revision().0.min(40) {
            let hash = |store: &Store| store.hash_kv(Revision(revision));
            assert_eq!(hash(&back), hash(&store), "at {revision}");
        }
        assert_eq!(back.hash_kv(Revision(0)), store.hash_kv(Revision(0)));
        let events = |store: &Store| {
            let from = store.compact_revision();
            store.changes(from).expect("there").map(|event| event.kv.clone()).collect::<Vec<_>>()
        };
        assert_eq!(events(&back), events(&store));
        let leases = |store: &Store| {
            let lease = |(id, lease): (i64, &quorate_replica::store::Lease)| {
                (id, lease.ttl, lease.keys().cloned().collect::<Vec<_>>())
            };
            store.leases().map(lease).collect::<Vec<_>>()
        };
        assert_eq!(leases(&back), leases(&store));
        assert!(back.auth().is_enabled());
        let users = |store: &Store| {
            let user = |(name, user): (&Bytes, &quorate_replica::store::User)| {
                (name.clone(), user.hash.clone(), user.roles.clone())
            };
            store.auth().users().map(user).collect::<Vec<_>>()
        };
        assert_eq!(users(&back), users(&store));
        let role =
            |store: &Store| store.auth().role(b"root").map(|role| role.permissions().to_vec());
        assert_eq!(role(&back), role(&store));
    }
}

#[test]
fn a_value_larger_than_a_page_is_whole() {
    let mut store = Store::new();
    let large: Vec<u8> = (0..1_500_000_u32).map(|byte| byte as u8).collect();
    store.apply(&Command::Put(put("large", large.clone(), 0)));
    store.apply(&Command::Put(put("small", "s", 0)));
    let back = taken(&written(&store)).expect("it was just written").store;
    assert_eq!(back.get(b"large").map(|kv| kv.value.clone()), Some(Bytes::from(large)));
    assert_eq!(back.hash_kv(Revision(0)), store.hash_kv(Revision(0)));
}

#[test]
fn what_is_none_is_named() {
    let error = |bytes: &[u8]| taken(bytes).expect_err("it is none").to_string();
    assert_eq!(error(b""), "not a database of etcd (bbolt)");
    assert_eq!(error(&[0; 100_000]), "not a database of etcd (bbolt)");
    let mut out = Cursor::new(Vec::new());
    Writer::begin(&mut out).and_then(Writer::finish).expect("memory does not fail");
    assert!(error(out.get_ref()).starts_with("a bbolt database, but not of etcd v3"));
    let mut newer = written(&lived(0));
    for at in [0, page::PAGE_BYTES] {
        newer[at + page::HEADER_BYTES + 4] = 9;
        let said = page::fnv1a(&newer[at + page::HEADER_BYTES..][..page::META_HASHED]);
        let place = at + page::HEADER_BYTES + page::META_HASHED;
        newer[place..place + 8].copy_from_slice(&said.to_le_bytes());
    }
    assert_eq!(error(&newer), "a bbolt database of version 9; version 2 is known");
}

#[test]
fn every_flipped_byte_and_every_cut_ends_in_words() {
    let whole = written(&lived(60));
    let mut refused = 0;
    for at in (0..whole.len()).step_by(7) {
        let mut rotten = whole.clone();
        rotten[at] ^= 0x41;
        refused += u32::from(taken(&rotten).is_err());
    }
    assert!(refused > 50, "{refused}: pages, keys and numbers are looked at");
    for cut in (0..whole.len()).step_by(97) {
        let _ = taken(&whole[..cut]); // it ends, which is all that can be asked
    }
}

#[test]
fn a_page_that_is_its_own_child_ends() {
    let mut whole = written(&lived(5_000));
    let branch = (0..whole.len() / page::PAGE_BYTES)
        .map(|number| number * page::PAGE_BYTES)
        .find(|at| page::u16_at(&whole, at + 8) == Some(page::BRANCH))
        .expect("so many leaves have a branch");
    let own = (branch / page::PAGE_BYTES) as u64;
    let child = branch + page::HEADER_BYTES + 8;
    whole[child..child + 8].copy_from_slice(&own.to_le_bytes());
    let error = taken(&whole).expect_err("it is damaged").to_string();
    assert!(error.ends_with("is damaged: it is its own child"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn arbitrary_pages_never_panic(
        places in prop::collection::vec((0_usize..40_000, any::<u8>()), 1..40),
    ) {
        let mut bytes = written(&lived(100));
        for (at, byte) in places {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let _ = taken(&bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..10_000)) {
        prop_assert!(taken(&bytes).is_err());
    }

    #[test]
    fn pairs_of_any_size_come_back(sizes in prop::collection::vec(0_usize..9_000, 0..60)) {
        let mut store = Store::new();
        for (number, size) in sizes.iter().enumerate() {
            let (key, value) = (vec![b'k'; 1 + size % 700], vec![number as u8; *size]);
            store.apply(&Command::Put(put(key, value, 0)));
        }
        let back = taken(&written(&store)).expect("it was just written").store;
        prop_assert_eq!(back.hash_kv(Revision(0)), store.hash_kv(Revision(0)));
        prop_assert_eq!(back.revision(), store.revision());
    }
}
