//! The rules that break naive servers, one test each, in etcd's words.
//!
//! Source: etcd's API documentation, `rpc.proto`, and answers recorded from an etcd 3.4.23.

use bytes::Bytes;
use quorate_replica::store::{
    ALARMS_MAX, Alarm, AlarmAction, AlarmKind, Command, Compare, Countdown, DeleteRange, Found,
    Invalid, Keys, KvError, LeaseName, LeaseTime, Limits, Op, Operand, Outcome, Put, Range,
    Relation, Revision, SortOrder, SortTarget, Store, TXN_ANSWER_BYTES_MAX, TXN_VISITS_MAX, Txn,
    VERSION_BYTES,
};

fn one(key: &str) -> Keys {
    Keys { key: Bytes::copy_from_slice(key.as_bytes()), range_end: Bytes::new() }
}

fn span(key: &str, end: &str) -> Keys {
    Keys { range_end: Bytes::copy_from_slice(end.as_bytes()), ..one(key) }
}

fn put(key: &str, value: &str) -> Put {
    let (key, value) = (one(key).key, Bytes::copy_from_slice(value.as_bytes()));
    Put { key, value, ..Put::default() }
}

fn delete(keys: Keys) -> DeleteRange {
    DeleteRange { keys, prev_kv: false }
}

fn range(keys: Keys) -> Range {
    Range { keys, ..Range::default() }
}

fn compare(keys: Keys, relation: Relation, operand: Operand) -> Compare {
    Compare { keys, relation, operand }
}

fn then(success: Vec<Op>) -> Txn {
    Txn { success, ..Txn::default() }
}

fn nest(txn: Txn) -> Op {
    Op::Txn(txn)
}

/// Applies a command that must be carried out.
fn done(store: &mut Store, command: Command) -> Outcome {
    store.apply(&command).outcome.expect("it is carried out")
}

fn grant(id: i64, ttl: u64, at: u64) -> Command {
    Command::LeaseGrant { id, ttl, at: LeaseTime(at) }
}

fn store_of(pairs: &[(&str, &str)]) -> Store {
    let mut store = Store::new();
    for (key, value) in pairs {
        done(&mut store, Command::Put(put(key, value)));
    }
    store
}

fn keys_of(found: &Found) -> Vec<&str> {
    found.kvs.iter().map(|kv| std::str::from_utf8(&kv.key).expect("text")).collect()
}

fn read(store: &Store, range: &Range) -> Found {
    store.range(range).expect("a revision that can be read")
}

fn succeeds(store: &mut Store, compare: Compare) -> bool {
    let txn = Txn { compare: vec![compare], ..Txn::default() };
    matches!(store.read(&txn), Ok(Outcome::Txn { succeeded: true, .. }))
}

fn admit(txn: &Txn) -> Result<(), Invalid> {
    Limits::default().admit_txn(txn)
}

#[test]
fn an_empty_store_is_at_revision_1_and_the_first_write_makes_2() {
    let mut store = Store::new();
    assert_eq!(store.revision(), Revision(1));
    assert_eq!(store.apply(&Command::Put(put("a", "1"))).revision, Revision(2));
}

#[test]
fn range_ends_are_one_key_an_interval_or_everything_from_the_key() {
    let store = store_of(&[("a", ""), ("a\0", ""), ("ab", ""), ("b", ""), ("c", "")]);
    let keys = |keys| keys_of(&read(&store, &range(keys))).join(" ");
    assert_eq!(keys(one("a")), "a");
    assert_eq!(keys(span("a", "b")), "a a\0 ab");
    assert_eq!(keys(span("ab", "\0")), "ab b c");
    assert_eq!(keys(span("\0", "\0")), "a a\0 ab b c");
    assert_eq!(keys(span("c", "a")), "");
    assert_eq!(keys(span("b", "b")), "");
}

#[test]
fn version_starts_at_1_and_resets_after_a_delete_while_create_revision_stays() {
    let mut store = store_of(&[("a", "1"), ("a", "2"), ("a", "3")]);
    let kv = store.get(b"a").expect("it lives");
    assert_eq!((kv.version, kv.create_revision, kv.mod_revision), (3, Revision(2), Revision(4)));
    done(&mut store, Command::DeleteRange(delete(one("a"))));
    done(&mut store, Command::Put(put("a", "4")));
    let kv = store.get(b"a").expect("it lives again");
    assert_eq!((kv.version, kv.create_revision, kv.mod_revision), (1, Revision(6), Revision(6)));
}

#[test]
fn a_delete_moves_the_revision_only_if_something_was_deleted() {
    let mut store = store_of(&[("a", "1")]);
    let nothing = store.apply(&Command::DeleteRange(delete(one("b"))));
    assert_eq!(nothing.revision, Revision(2));
    let prev_kv = DeleteRange { keys: span("\0", "\0"), prev_kv: true };
    let all = store.apply(&Command::DeleteRange(prev_kv));
    assert_eq!(all.revision, Revision(3));
    let Ok(Outcome::DeleteRange { deleted: 1, prev }) = all.outcome else { panic!("{all:?}") };
    assert_eq!(prev[0].value, "1");
}

#[test]
fn count_ignores_limit_and_filters_and_more_tells_of_the_limit() {
    let store = store_of(&[("a", ""), ("b", ""), ("c", ""), ("d", "")]);
    let all = range(span("\0", "\0"));
    let limited = read(&store, &Range { limit: 3, ..all.clone() });
    assert_eq!((limited.kvs.len(), limited.more, limited.count), (3, true, 4));
    let exact = read(&store, &Range { limit: 4, ..all.clone() });
    assert_eq!((exact.kvs.len(), exact.more, exact.count), (4, false, 4));
    let filter = Range { min_mod_revision: Revision(4), limit: 1, ..all.clone() };
    let filtered = read(&store, &filter);
    assert_eq!((keys_of(&filtered), filtered.more, filtered.count), (vec!["c"], true, 4));
    let counted = read(&store, &Range { count_only: true, limit: 1, ..all });
    assert_eq!((counted.kvs.len(), counted.more, counted.count), (0, false, 4));
}

#[test]
fn a_sort_target_without_an_order_ascends_and_the_limit_comes_last() {
    let store = store_of(&[("a", "3"), ("b", "1"), ("c", "2")]);
    let by_value = Range { sort_target: SortTarget::Value, ..range(span("a", "\0")) };
    assert_eq!(keys_of(&read(&store, &by_value)), ["b", "c", "a"]);
    let first = Range { limit: 1, ..by_value.clone() };
    assert_eq!(keys_of(&read(&store, &first)), ["b"]);
    let last = Range { sort_order: SortOrder::Descend, ..first };
    assert_eq!(keys_of(&read(&store, &last)), ["a"]);
    let back = Range {
        sort_order: SortOrder::Descend,
        sort_target: SortTarget::Key,
        limit: 2,
        ..by_value
    };
    assert_eq!(keys_of(&read(&store, &back)), ["c", "b"]);
}

#[test]
fn a_transaction_of_many_large_ranges_is_refused_before_it_changes_anything() {
    let (keys, value_bytes) = (10_000, 100);
    let mut store = Store::new();
    let value = "v".repeat(value_bytes);
    for number in 0..keys {
        done(&mut store, Command::Put(put(&format!("k/{number:05}"), &value)));
    }
    let all = || range(span("k/", "k0"));
    let mut apply = |range: Range, times: u64| {
        let mut success = vec![Op::Put(put("marker", "x"))];
        success.extend((0..times).map(|_| Op::Range(range.clone())));
        let before = store.revision();
        let applied = store.apply(&Command::Txn(then(success)));
        assert_eq!(applied.outcome.is_ok(), store.revision() > before, "all or nothing");
        applied.outcome.map(drop)
    };
    let few = TXN_ANSWER_BYTES_MAX / (keys * (VERSION_BYTES + value_bytes as u64 + 7));
    assert_eq!(apply(all(), few), Ok(()));
    assert_eq!(apply(all(), few + 1), Err(KvError::TooLarge), "by its answer");
    let many = TXN_VISITS_MAX / keys;
    let filtered = || Range { max_mod_revision: Revision(1), ..all() };
    assert_eq!(apply(filtered(), many), Ok(()));
    assert_eq!(apply(filtered(), many + 1), Err(KvError::TooLarge), "by what it visits");
    let past = Range { revision: Revision(2), ..all() };
    assert_eq!(apply(past, many + 1), Err(KvError::TooLarge), "by what it visits in the past");
    let counts = Range { count_only: true, ..all() };
    assert_eq!(apply(counts, 2 * many), Ok(()), "a count visits nothing");
    let first = Range { limit: 1, ..all() };
    assert_eq!(apply(first, 2 * many), Ok(()), "a limit bounds the visit");
}

#[test]
fn comparisons_and_nested_transactions_share_the_bounds_of_one() {
    let mut store = Store::new();
    for number in 0..1_000 {
        done(&mut store, Command::Put(put(&format!("k/{number:03}"), "")));
    }
    let times = usize::try_from(TXN_VISITS_MAX / 1_000).expect("few");
    let alive = compare(span("k/", "k0"), Relation::Greater, Operand::Version(0));
    let txn = |compares: usize| Txn { compare: vec![alive.clone(); compares], ..Txn::default() };
    assert!(store.read(&txn(times)).is_ok());
    assert_eq!(store.read(&txn(times + 1)), Err(KvError::TooLarge));
    let half = txn(times / 2 + 1);
    let twice = Txn { success: vec![nest(half.clone())], ..half.clone() };
    assert!(store.read(&half).is_ok());
    assert_eq!(store.read(&twice), Err(KvError::TooLarge));
    assert_eq!(KvError::TooLarge.to_string(), "etcdserver: request is too large");
}

#[test]
fn compacted_and_future_revisions_fail_with_different_errors() {
    let mut store = store_of(&[("a", "1"), ("a", "2"), ("a", "3")]);
    done(&mut store, Command::Compact { revision: Revision(3) });
    let at = |revision| Range { revision: Revision(revision), ..range(one("a")) };
    let compacted = store.range(&at(2)).expect_err("below the compaction");
    let future = store.range(&at(5)).expect_err("not written yet");
    let prefix = "etcdserver: mvcc: required revision ";
    assert_eq!(compacted.to_string(), format!("{prefix}has been compacted"));
    assert_eq!(future.to_string(), format!("{prefix}is a future revision"));
    assert_eq!(read(&store, &at(3)).kvs[0].value, "2");
    let nothing = store.apply(&Command::Compact { revision: Revision(0) }).outcome;
    assert_eq!(nothing, Err(KvError::Compacted { compact_revision: Revision(3) }));
    let virgin = Store::new().apply(&Command::Compact { revision: Revision(0) }).outcome;
    assert_eq!(virgin, Ok(Outcome::Compact), "there is nothing to forget");
    let again = store.apply(&Command::Compact { revision: Revision(3) }).outcome;
    assert_eq!(again, Err(KvError::Compacted { compact_revision: Revision(3) }));
    let beyond = store.apply(&Command::Compact { revision: Revision(9) }).outcome;
    assert_eq!(beyond, Err(KvError::FutureRevision { current: Revision(4) }));
}

#[test]
fn a_put_keeps_value_or_lease_only_of_an_existing_key() {
    let mut store = Store::new();
    done(&mut store, grant(5, 60, 0));
    let keep = Put { ignore_value: true, lease: 5, ..put("a", "") };
    assert_eq!(store.apply(&Command::Put(keep.clone())).outcome, Err(KvError::KeyNotFound));
    assert_eq!(KvError::KeyNotFound.to_string(), "etcdserver: key not found");
    done(&mut store, Command::Put(put("a", "1")));
    done(&mut store, Command::Put(keep));
    let keep = Put { ignore_lease: true, ..put("a", "2") };
    done(&mut store, Command::Put(keep));
    let kv = store.get(b"a").expect("it lives");
    assert_eq!((&kv.value[..], kv.lease, kv.version), (&b"2"[..], 5, 3));
}

#[test]
fn a_revoked_lease_takes_its_keys_along_at_one_revision() {
    let mut store = Store::new();
    assert_eq!(done(&mut store, grant(5, 60, 1_000)), Outcome::LeaseGrant { ttl: 60 });
    assert_eq!(store.revision(), Revision(1), "a grant is no write");
    assert_eq!(store.apply(&grant(5, 9, 0)).outcome, Err(KvError::LeaseExists));
    assert_eq!(store.apply(&grant(0, 9, 0)).outcome, Err(KvError::LeaseNotFound));
    assert_eq!(KvError::LeaseExists.to_string(), "etcdserver: lease already exists");
    done(&mut store, grant(-6, 2, 500));
    let deadline = LeaseTime(3_000);
    let countdown = store.lease(-6).expect("granted").countdown;
    assert_eq!(countdown, Countdown::Counting { deadline }, "the clock never goes back");
    for key in ["c", "a", "b"] {
        done(&mut store, Command::Put(Put { lease: 5, ..put(key, "1") }));
    }
    done(&mut store, Command::Put(Put { lease: -6, ..put("b", "2") }));
    done(&mut store, Command::Put(put("d", "1")));
    let before = store.revision();
    let outcome = done(&mut store, Command::LeaseRevoke { id: 5 });
    assert_eq!(outcome, Outcome::LeaseRevoke { deleted: 2 });
    assert_eq!(store.revision(), before.next(), "all of its keys at one revision");
    let events = store.changes(before.next()).expect("not compacted");
    let gone: Vec<&[u8]> = events.map(|event| &event.kv.key[..]).collect();
    assert_eq!(gone, [b"a", b"c"], "in the order of the keys; b belongs to another lease");
    let again = store.apply(&Command::LeaseRevoke { id: 5 }).outcome;
    assert_eq!(again, Err(KvError::LeaseNotFound));
    done(&mut store, Command::DeleteRange(delete(one("b"))));
    let revision = store.revision();
    done(&mut store, Command::LeaseRevoke { id: -6 });
    assert_eq!(store.revision(), revision, "without keys nothing was written");
}

#[test]
fn leases_expire_each_at_a_revision_of_its_own_and_only_as_they_were_granted() {
    let mut store = Store::new();
    for (id, key) in [(1, "a"), (2, "b"), (3, "c")] {
        done(&mut store, grant(id, 60, 0));
        done(&mut store, Command::Put(Put { lease: id, ..put(key, "1") }));
    }
    let name = |id| LeaseName { id, grant: store.lease(id).expect("granted").grant };
    let (first, second, former) = (name(1), name(2), name(3));
    done(&mut store, Command::LeaseRevoke { id: 3 });
    done(&mut store, grant(3, 60, 0));
    let revision = store.revision();
    let leases = vec![first, former, second];
    let outcome = done(&mut store, Command::LeaseExpire { term: 1, leases });
    assert_eq!(outcome, Outcome::LeaseExpire { expired: 2 });
    assert_eq!(store.revision(), Revision(revision.0 + 2));
    assert!(store.lease(3).is_some(), "it is another one than the one that ran out");
    let countdown = vec![(former, Countdown::Renewing)];
    let record = Command::LeaseCountdown { term: 1, at: LeaseTime(9), leases: countdown };
    assert_eq!(done(&mut store, record), Outcome::LeaseCountdown { changed: 0 });
    assert_eq!(store.lease_clock(), LeaseTime(9));
}

#[test]
fn a_lease_may_not_be_longer_than_etcds() {
    let limits = Limits::default();
    assert_eq!(limits.admit(&grant(1, 9_000_000_000, 0)), Ok(()));
    assert_eq!(limits.admit(&grant(1, 9_000_000_001, 0)), Err(Invalid::LeaseTtlTooLarge));
    assert_eq!(Invalid::LeaseTtlTooLarge.to_string(), "etcdserver: too large lease TTL");
}

#[test]
fn an_unknown_lease_refuses_a_put_before_a_missing_key_does_but_after_it_in_a_txn() {
    let mut store = Store::new();
    let put = Put { lease: 7, ignore_value: true, ..put("a", "") };
    let alone = store.apply(&Command::Put(put.clone())).outcome;
    assert_eq!(alone, Err(KvError::LeaseNotFound));
    let in_txn = store.apply(&Command::Txn(then(vec![Op::Put(put)]))).outcome;
    assert_eq!(in_txn, Err(KvError::KeyNotFound));
    assert_eq!(KvError::LeaseNotFound.to_string(), "etcdserver: requested lease not found");
}

#[test]
fn all_writes_of_a_txn_share_one_revision_and_reads_inside_see_them() {
    let mut store = store_of(&[("old", "1")]);
    let past = Range { revision: Revision(2), ..range(span("\0", "\0")) };
    let ops = vec![
        Op::Put(put("a", "1")),
        Op::Range(range(span("\0", "\0"))),
        Op::Range(past),
        Op::DeleteRange(delete(one("old"))),
        Op::Put(put("b", "1")),
        Op::Range(range(span("\0", "\0"))),
    ];
    let applied = store.apply(&Command::Txn(then(ops)));
    assert_eq!(applied.revision, Revision(3));
    let Ok(Outcome::Txn { succeeded: true, outcomes }) = applied.outcome else { panic!("txn") };
    let seen: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Range(found) => Some(keys_of(found).join(" ")),
            _ => None,
        })
        .collect();
    assert_eq!(seen, ["a old", "old", "a b"]);
    assert!(store.changes(Revision(3)).expect("not compacted").all(|e| e.revision().0 == 3));
}

#[test]
fn a_txn_that_writes_nothing_leaves_the_revision() {
    let mut store = store_of(&[("a", "1")]);
    let txn = then(vec![Op::DeleteRange(delete(one("zz"))), Op::Range(range(one("a")))]);
    assert_eq!(store.apply(&Command::Txn(txn)).revision, Revision(2));
}

#[test]
fn a_refused_txn_changes_nothing() {
    let mut store = store_of(&[("a", "1")]);
    let future = Range { revision: Revision(3), ..range(one("a")) };
    let keep = Put { ignore_value: true, ..put("missing", "") };
    for bad in [Op::Range(future), Op::Put(keep), Op::Put(Put { lease: 1, ..put("b", "") })] {
        let txn = then(vec![Op::Put(put("a", "2")), nest(then(vec![bad]))]);
        let applied = store.apply(&Command::Txn(txn));
        assert!(applied.outcome.is_err());
        assert_eq!(applied.revision, Revision(2));
        assert_eq!(store.get(b"a").expect("it lives").value, "1");
    }
}

#[test]
fn nested_comparisons_see_the_state_before_the_txn() {
    let mut store = Store::new();
    let missing = compare(one("a"), Relation::Equal, Operand::Version(0));
    let inner = Txn { compare: vec![missing], ..then(vec![Op::Put(put("b", "inner"))]) };
    let txn = then(vec![Op::Put(put("a", "1")), nest(inner)]);
    done(&mut store, Command::Txn(txn));
    assert_eq!(store.get(b"b").expect("the inner branch was taken").value, "inner");
}

#[test]
fn a_missing_key_compares_as_zeros_but_never_by_value() {
    let mut store = store_of(&[("a", "1")]);
    for operand in [Operand::Version(0), Operand::Create(0), Operand::Mod(0), Operand::Lease(0)] {
        assert!(succeeds(&mut store, compare(one("x"), Relation::Equal, operand.clone())));
        assert!(!succeeds(&mut store, compare(one("x"), Relation::NotEqual, operand)));
    }
    for relation in [Relation::Equal, Relation::NotEqual, Relation::Less, Relation::Greater] {
        let by_value = compare(one("x"), relation, Operand::Value(Bytes::new()));
        assert!(!succeeds(&mut store, by_value), "{relation:?}");
    }
    assert!(succeeds(&mut store, compare(one("x"), Relation::Greater, Operand::Mod(-1))));
}

#[test]
fn with_a_range_end_all_keys_must_satisfy_the_comparison() {
    let mut store = store_of(&[("a", "1"), ("b", "1"), ("b", "2")]);
    let versions = |relation, n| compare(span("a", "c"), relation, Operand::Version(n));
    assert!(succeeds(&mut store, versions(Relation::Greater, 0)));
    assert!(!succeeds(&mut store, versions(Relation::Equal, 1)));
    let nothing = compare(span("x", "y"), Relation::Equal, Operand::Version(0));
    assert!(succeeds(&mut store, nothing));
}

#[test]
fn no_key_is_written_twice_on_one_path() {
    let put_a = || Op::Put(put("a", "1"));
    let delete_a = || Op::DeleteRange(delete(span("a", "b")));
    let twice = Err(Invalid::DuplicateKey);
    assert_eq!(admit(&then(vec![put_a(), put_a()])), twice);
    assert_eq!(admit(&then(vec![put_a(), delete_a()])), twice);
    assert_eq!(admit(&then(vec![delete_a(), put_a()])), twice);
    assert_eq!(admit(&then(vec![put_a(), nest(then(vec![put_a()]))])), twice);
    assert_eq!(admit(&then(vec![nest(then(vec![delete_a()])), put_a()])), twice);
    assert_eq!(admit(&then(vec![nest(then(vec![put_a()])), nest(then(vec![put_a()]))])), twice);
    let other = Txn { failure: vec![put_a(), put_a()], ..Txn::default() };
    assert_eq!(admit(&other), twice);
    assert_eq!(Invalid::DuplicateKey.to_string(), DUPLICATE);
}

const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";

#[test]
fn deletes_may_overlap_and_exclusive_branches_may_write_one_key() {
    let put_a = || Op::Put(put("a", "1"));
    let delete_a = || Op::DeleteRange(delete(span("a", "b")));
    assert_eq!(admit(&then(vec![delete_a(), delete_a()])), Ok(()));
    let either = Txn { failure: vec![put_a()], ..then(vec![put_a()]) };
    assert_eq!(admit(&then(vec![nest(either)])), Ok(()));
    let either = Txn { failure: vec![delete_a()], ..then(vec![put_a()]) };
    assert_eq!(admit(&then(vec![nest(either.clone())])), Ok(()));
    let after = then(vec![nest(either), Op::Put(put("b", "1"))]);
    assert_eq!(admit(&after), Ok(()), "the end of an interval is exclusive");
}

#[test]
fn the_holes_of_the_original_are_closed() {
    let put_a = || nest(then(vec![Op::Put(put("a", "1"))]));
    let delete_a = || nest(then(vec![Op::DeleteRange(delete(one("a")))]));
    let twice = Err(Invalid::DuplicateKey);
    // Accepted by etcd in this order, refused in the other one.
    assert_eq!(admit(&then(vec![put_a(), delete_a()])), twice);
    assert_eq!(admit(&then(vec![delete_a(), put_a()])), twice);
    // Accepted by etcd, which takes the end "\0" for a key before "a".
    let from_a = Op::DeleteRange(delete(span("a", "\0")));
    assert_eq!(admit(&then(vec![from_a, Op::Put(put("b", "1"))])), twice);
}

#[test]
fn a_put_and_a_delete_of_one_key_at_one_revision_stay_sane_if_they_arrive() {
    let mut store = store_of(&[("a", "1")]);
    let both = then(vec![Op::Put(put("a", "2")), Op::DeleteRange(delete(one("a")))]);
    done(&mut store, Command::Txn(both));
    assert_eq!(store.revision(), Revision(3));
    assert!(store.get(b"a").is_none());
    let kinds: Vec<_> =
        store.changes(Revision(3)).expect("kept").map(|event| event.is_delete()).collect();
    assert_eq!(kinds, [false, true]);
    let at_2 = Range { revision: Revision(2), ..range(one("a")) };
    assert_eq!(read(&store, &at_2).kvs[0].value, "1");
}

#[test]
fn the_op_budget_is_the_longest_list_and_nested_txns_get_what_is_left() {
    let limits = Limits { txn_ops_max: 4, ..Limits::default() };
    let ranges = |n| vec![Op::Range(range(one("a"))); n];
    assert_eq!(limits.admit_txn(&then(ranges(4))), Ok(()));
    assert_eq!(limits.admit_txn(&then(ranges(5))), Err(Invalid::TooManyOps));
    let compare = vec![compare(one("a"), Relation::Equal, Operand::Mod(0)); 5];
    let compares = Txn { compare, ..Txn::default() };
    assert_eq!(limits.admit_txn(&compares), Err(Invalid::TooManyOps));
    let with_nested = |outer: usize, inner| {
        let mut ops = ranges(outer - 1);
        ops.push(nest(then(ranges(inner))));
        limits.admit_txn(&then(ops))
    };
    assert_eq!(with_nested(2, 2), Ok(()));
    assert_eq!(with_nested(2, 3), Err(Invalid::TooManyOps));
    assert_eq!(with_nested(4, 0), Ok(()));
}

#[test]
fn nesting_has_an_end_whatever_the_budget() {
    let limits = Limits { txn_ops_max: 1 << 20, ..Limits::default() };
    let nested = |depth| (1..depth).fold(Txn::default(), |txn, _| then(vec![nest(txn)]));
    assert_eq!(limits.admit_txn(&nested(128)), Ok(()));
    assert_eq!(limits.admit_txn(&nested(129)), Err(Invalid::TooManyOps));
    let mut encoded = Vec::new();
    Command::Txn(nested(128)).encode(&mut encoded);
    assert!(Command::decode(Bytes::from(encoded)).is_ok(), "what is admitted can be read back");
}

#[test]
fn a_request_says_what_it_lacks() {
    let limits = Limits::default();
    let put_error = |put| limits.admit(&Command::Put(put)).expect_err("it lacks something");
    assert_eq!(put_error(put("", "1")), Invalid::KeyNotProvided);
    let kept = Put { ignore_value: true, ..put("a", "1") };
    assert_eq!(put_error(kept), Invalid::ValueProvided);
    let kept = Put { ignore_lease: true, lease: 1, ..put("a", "1") };
    assert_eq!(put_error(kept), Invalid::LeaseProvided);
    assert_eq!(limits.admit_range(&range(one(""))), Err(Invalid::KeyNotProvided));
    let delete = Command::DeleteRange(delete(one("")));
    assert_eq!(limits.admit(&delete), Err(Invalid::KeyNotProvided));
    let small = Limits { request_bytes_max: 3, ..limits };
    assert_eq!(small.admit(&Command::Put(put("a", "12"))), Ok(()));
    let large = small.admit(&Command::Put(put("a", "123")));
    assert_eq!(large, Err(Invalid::RequestTooLarge));
    assert_eq!(SortOrder::try_from(3), Err(Invalid::InvalidSortOption));
    assert_eq!(SortTarget::try_from(4), Ok(SortTarget::Value));
    assert_eq!(SortTarget::try_from(-1), Err(Invalid::InvalidSortOption));
    assert_eq!(Invalid::EmptyOp.to_string(), "etcdserver: key not found");
}

#[test]
fn the_previous_pair_of_an_event_is_absent_once_compacted() {
    let mut store = store_of(&[("a", "1"), ("a", "2"), ("a", "3")]);
    done(&mut store, Command::Compact { revision: Revision(3) });
    for swept in [false, true] {
        let events: Vec<_> = store.changes(Revision(3)).expect("kept").cloned().collect();
        let prev: Vec<_> = events.iter().map(|event| store.prev_of(event).cloned()).collect();
        assert!(prev[0].is_none(), "swept: {swept}");
        assert_eq!(prev[1].as_ref().map(|kv| &kv.value[..]), Some(&b"2"[..]));
        assert_eq!(events.len(), 2);
        store.sweep(usize::MAX);
    }
    assert!(store.changes(Revision(2)).is_err());
    assert_eq!(store.changes(Revision(99)).expect("in the future").count(), 0);
}

#[test]
fn what_is_stored_does_not_share_the_buffer_of_the_request() {
    let frame = Bytes::from(vec![b'x'; 1 << 16]);
    let (key, value) = (frame.slice(0..4), frame.slice(4..8));
    let mut store = Store::new();
    done(&mut store, Command::Put(Put { key, value, ..Put::default() }));
    assert!(frame.is_unique(), "the store holds on to the frame");
}

fn alarm(kind: AlarmKind, member: u64) -> Alarm {
    Alarm { kind, member }
}

fn raise(store: &mut Store, kind: AlarmKind, member: u64) -> Outcome {
    done(store, Command::Alarm(AlarmAction::Raise(alarm(kind, member))))
}

fn clear(store: &mut Store, kind: AlarmKind, member: u64) -> Outcome {
    done(store, Command::Alarm(AlarmAction::Clear(alarm(kind, member))))
}

#[test]
fn a_space_alarm_forbids_growth_and_nothing_else() {
    let mut store = store_of(&[("a", "1"), ("b", "2")]);
    raise(&mut store, AlarmKind::NoSpace, 7);
    let refused = |store: &mut Store, command| {
        let before = store.revision();
        assert_eq!(store.apply(&command).outcome, Err(KvError::NoSpace));
        assert_eq!(store.revision(), before);
    };
    refused(&mut store, Command::Put(put("a", "3")));
    refused(&mut store, Command::Txn(then(vec![Op::Put(put("c", ""))])));
    // A put in the branch that is not taken counts, and so does one in a nested transaction.
    let other = Txn { failure: vec![Op::Put(put("c", ""))], ..Txn::default() };
    refused(&mut store, Command::Txn(other.clone()));
    refused(&mut store, Command::Txn(then(vec![nest(other)])));
    let deleting = then(vec![Op::DeleteRange(delete(one("a"))), Op::Range(range(one("b")))]);
    done(&mut store, Command::Txn(deleting));
    done(&mut store, Command::DeleteRange(delete(one("b"))));
    done(&mut store, Command::Compact { revision: Revision(4) });
    assert_eq!(clear(&mut store, AlarmKind::NoSpace, 8), Outcome::Alarms(vec![]));
    let cleared = clear(&mut store, AlarmKind::NoSpace, 7);
    assert_eq!(cleared, Outcome::Alarms(vec![alarm(AlarmKind::NoSpace, 7)]));
    done(&mut store, Command::Put(put("a", "3")));
}

#[test]
fn an_alarm_of_corruption_forbids_every_command_but_those_on_alarms() {
    let mut store = store_of(&[("a", "1")]);
    raise(&mut store, AlarmKind::Corrupt, 7);
    for command in [
        Command::Put(put("a", "3")),
        Command::DeleteRange(delete(one("a"))),
        Command::Txn(then(vec![Op::DeleteRange(delete(one("a")))])),
        Command::Compact { revision: Revision(2) },
    ] {
        assert_eq!(store.apply(&command).outcome, Err(KvError::Corrupt));
    }
    assert_eq!(keys_of(&read(&store, &range(one("a")))), ["a"], "reads go on");
    clear(&mut store, AlarmKind::Corrupt, 7);
    done(&mut store, Command::Put(put("a", "3")));
}

#[test]
fn member_0_clears_the_alarms_of_one_kind_for_all_members() {
    let mut store = Store::new();
    for member in [9, 0, 4] {
        raise(&mut store, AlarmKind::NoSpace, member);
    }
    raise(&mut store, AlarmKind::Corrupt, 4);
    let tight = [0, 4, 9].map(|member| alarm(AlarmKind::NoSpace, member));
    let cleared = clear(&mut store, AlarmKind::NoSpace, 0);
    assert_eq!(cleared, Outcome::Alarms(tight.to_vec()));
    let left: Vec<Alarm> = store.alarms().collect();
    assert_eq!(left, [alarm(AlarmKind::Corrupt, 4)]);
}

#[test]
fn alarms_have_a_bound_and_a_raised_one_is_raised_again_without_effect() {
    let mut store = Store::new();
    for member in 0..2 * ALARMS_MAX as u64 {
        raise(&mut store, AlarmKind::NoSpace, member);
        raise(&mut store, AlarmKind::NoSpace, member);
    }
    assert_eq!(store.alarms().count(), ALARMS_MAX);
}
