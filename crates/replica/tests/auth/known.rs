//! What etcd let through, one advisory after the other.

use super::name;
use bytes::Bytes;
use quorate_replica::store::{
    Access, Alarm, AlarmAction, AlarmKind, Asking, AuthCommand, Caller, Command, Compare,
    DeleteRange, Denied, Fence, Guard, Keys, KvError, LeaseTime, Op, Operand, Permission, Put,
    Range, Relation, Revision, Store, Txn,
};

/// A store in which ann reads and writes the key `a`, reads `r`, and writes `w`; `secret` is of
/// root alone, and hangs on lease 7.
fn store() -> Store {
    let mut store = Store::new();
    let root = name("root");
    let mut commands = vec![
        AuthCommand::UserAdd { name: root.clone(), hash: Some(name("hash")) },
        AuthCommand::UserGrantRole { user: root.clone(), role: root },
        AuthCommand::UserAdd { name: name("ann"), hash: Some(name("hash")) },
        AuthCommand::RoleAdd { name: name("tenant") },
        AuthCommand::UserGrantRole { user: name("ann"), role: name("tenant") },
    ];
    for (key, access) in [("a", Access::ReadWrite), ("r", Access::Read), ("w", Access::Write)] {
        let keys = point(key);
        let permission = Permission { keys, access };
        commands.push(AuthCommand::RoleGrant { role: name("tenant"), permission });
    }
    commands.push(AuthCommand::Enable { token_key: name("key") });
    for command in commands {
        let applied = store.apply_as(&Caller::Member, &Command::Auth(command));
        applied.outcome.expect("it is in order");
    }
    let grant = Command::LeaseGrant { id: 7, ttl: 60, at: LeaseTime(0) };
    store.apply_as(&Caller::Member, &grant).outcome.expect("granted");
    for (key, lease) in [("secret", 7), ("w", 0), ("a", 0)] {
        let put = Put { key: name(key), value: name("v"), lease, ..Put::default() };
        store.apply_as(&Caller::Member, &Command::Put(put)).outcome.expect("written");
    }
    store
}

fn point(key: &str) -> Keys {
    Keys { key: name(key), range_end: Bytes::new() }
}

fn ann(store: &Store) -> Caller {
    Caller::User { name: name("ann"), revision: store.auth().revision() }
}

fn nested(depth: usize, op: Op) -> Txn {
    let success = match depth {
        0 => vec![op],
        _ => vec![Op::Txn(nested(depth - 1, op))],
    };
    Txn { success, ..Txn::default() }
}

fn judged(asking: Asking<'_>) -> Result<(), Denied> {
    let store = store();
    store.authorize(&ann(&store), asking)
}

const NO: Result<(), Denied> = Err(Denied::NotPermitted);

/// CVE-2026-33343: nothing within a nested transaction was judged.
#[test]
fn a_nested_transaction_is_judged_at_every_depth() {
    for depth in 0..5 {
        let read = Op::Range(Range { keys: point("secret"), ..Range::default() });
        assert_eq!(judged(Asking::Txn(&nested(depth, read))), NO, "{depth}");
        let write = Op::Put(Put { key: name("secret"), ..Put::default() });
        let txn = nested(depth, write);
        assert_eq!(judged(Asking::Txn(&txn)), NO, "{depth}");
        let mut store = store();
        let applied = store.apply_as(&ann(&store), &Command::Txn(txn));
        assert_eq!(applied.outcome, Err(KvError::Denied(Denied::NotPermitted)));
        let own = Op::Put(Put { key: name("a"), ..Put::default() });
        assert_eq!(judged(Asking::Txn(&nested(depth, own))), Ok(()));
    }
}

/// The branch that is not taken is judged as well, and so is what a comparison tells.
#[test]
fn neither_branch_nor_comparison_tells_of_other_keys() {
    let (relation, operand) = (Relation::Equal, Operand::Version(1));
    let compare = vec![Compare { keys: point("secret"), relation, operand }];
    let txn = Txn { compare: compare.clone(), ..Txn::default() };
    assert_eq!(judged(Asking::Txn(&txn)), NO);
    let inner = Op::Txn(Txn { compare, ..Txn::default() });
    assert_eq!(judged(Asking::Txn(&nested(2, inner))), NO);
    let write = Op::Put(Put { key: name("secret"), ..Put::default() });
    let txn = Txn { failure: vec![write], ..Txn::default() };
    assert_eq!(judged(Asking::Txn(&txn)), NO, "no comparison: this branch is never taken");
}

/// CVE-2026-44283: previous values and leases of puts, within transactions and alone.
#[test]
fn a_put_neither_shows_what_was_there_nor_binds_to_the_lease_of_others() {
    let shows = Put { key: name("w"), prev_kv: true, ..Put::default() };
    let binds = Put { key: name("w"), lease: 7, ..Put::default() };
    for put in [shows, binds] {
        assert_eq!(judged(Asking::Put(&put)), NO);
        assert_eq!(judged(Asking::Txn(&nested(0, Op::Put(put.clone())))), NO);
        assert_eq!(judged(Asking::Txn(&nested(3, Op::Put(put.clone())))), NO);
        let plain = Put { prev_kv: false, lease: 0, ..put };
        assert_eq!(judged(Asking::Put(&plain)), Ok(()));
    }
    let shows = DeleteRange { keys: point("w"), prev_kv: true };
    assert_eq!(judged(Asking::DeleteRange(&shows)), NO);
    assert_eq!(judged(Asking::DeleteRange(&DeleteRange { prev_kv: false, ..shows })), Ok(()));
}

/// GHSA-xg4h-6gfc-h4m8: the right on one key opened a watch on all keys after it.
#[test]
fn the_right_on_one_key_is_no_right_on_those_after_it() {
    for end in ["\0", "b", "a\0\0", "zz"] {
        let keys = Keys { key: name("a"), range_end: name(end) };
        assert_eq!(judged(Asking::Watch(&keys)), NO, "{end:?}");
        assert_eq!(store().auth().may_watch(&ann(&store()), &keys), NO);
        let range = Range { keys: keys.clone(), ..Range::default() };
        assert_eq!(judged(Asking::Range(&range)), NO, "{end:?}");
        assert_eq!(judged(Asking::DeleteRange(&DeleteRange { keys, prev_kv: false })), NO);
    }
    let just_it = Keys { key: name("a"), range_end: name("a\0") };
    assert_eq!(judged(Asking::Watch(&just_it)), Ok(()), "that is the one key");
}

/// CVE-2026-33413: alarms, leases and the list of members without a user.
#[test]
fn nobody_in_particular_may_do_nothing_in_particular() {
    let mut store = store();
    let nobody = Caller::Anonymous;
    for asking in [
        Asking::AnyUser,
        Asking::Root,
        Asking::LeaseRevoke(7),
        Asking::LeaseRevoke(99),
        Asking::LeaseKeys(7),
        Asking::LeaseKeys(99),
        Asking::User(b""),
        Asking::Role(b""),
    ] {
        assert_eq!(store.authorize(&nobody, asking), Err(Denied::NoUser), "{asking:?}");
    }
    let alarm = Alarm { kind: AlarmKind::NoSpace, member: 1 };
    for command in [
        Command::Alarm(AlarmAction::Raise(alarm)),
        Command::Compact { revision: Revision(2) },
        Command::LeaseGrant { id: 9, ttl: 60, at: LeaseTime(0) },
        Command::LeaseRevoke { id: 7 },
        Command::Auth(AuthCommand::Disable),
    ] {
        let outcome = store.apply(&command).outcome;
        assert_eq!(outcome, Err(KvError::Denied(Denied::NoUser)), "{command:?}");
    }
    for command in [Command::Alarm(AlarmAction::Raise(alarm)), Command::Auth(AuthCommand::Disable)]
    {
        let outcome = store.apply_as(&ann(&store), &command).outcome;
        assert_eq!(outcome, Err(KvError::Denied(Denied::NotPermitted)), "{command:?}");
    }
    assert!(store.auth().is_enabled() && store.alarms().next().is_none());
}

/// CVE-2023-32082: the keys of a lease were told to everybody.
#[test]
fn the_keys_of_a_lease_are_for_those_who_may_read_them() {
    assert_eq!(judged(Asking::LeaseKeys(7)), NO);
    assert_eq!(judged(Asking::LeaseRevoke(7)), NO);
    assert_eq!(judged(Asking::LeaseKeys(99)), Ok(()), "it has none");
}

/// etcd#22386: while a space alarm was active, nothing but puts was judged.
#[test]
fn an_alarm_does_not_switch_judgement_off() {
    let mut store = store();
    let alarm = AlarmAction::Raise(Alarm { kind: AlarmKind::NoSpace, member: 1 });
    store.apply_as(&Caller::Member, &Command::Alarm(alarm)).outcome.expect("raised");
    for command in [
        Command::DeleteRange(DeleteRange { keys: point("secret"), prev_kv: false }),
        Command::LeaseRevoke { id: 7 },
        Command::Auth(AuthCommand::Disable),
        Command::Auth(AuthCommand::UserDelete { name: name("ann") }),
    ] {
        let outcome = store.apply_as(&ann(&store), &command).outcome;
        assert_eq!(outcome, Err(KvError::Denied(Denied::NotPermitted)), "{command:?}");
    }
}

/// What was allowed when it was asked is judged again when it is carried out.
#[test]
fn a_right_that_was_taken_back_in_between_is_none() {
    let mut store = store();
    let asked_as = ann(&store);
    let put = Command::Put(Put { key: name("a"), ..Put::default() });
    let revoke = AuthCommand::RoleRevoke { role: name("tenant"), keys: point("a") };
    store.apply_as(&Caller::Member, &Command::Auth(revoke)).outcome.expect("it is there");
    let outcome = store.apply_as(&asked_as, &put).outcome;
    assert_eq!(outcome, Err(KvError::Denied(Denied::OldRevision)), "etcd's words");
    let outcome = store.apply_as(&ann(&store), &put).outcome;
    assert_eq!(outcome, Err(KvError::Denied(Denied::NotPermitted)));
}

/// A fence on a key tells, by its refusal, whether and since when the key is there.
#[test]
fn a_fence_tells_nothing_of_keys_that_may_not_be_read() {
    let mut store = store();
    let put = Command::Put(Put { key: name("a"), ..Put::default() });
    let fenced = |key: &str| Guard {
        fences: vec![Fence { key: name(key), token: Revision(1) }],
        ..Guard::default()
    };
    let caller = ann(&store);
    for key in ["secret", "nothing", "w"] {
        let outcome = store.apply_guarded(&caller, &fenced(key), &put).outcome;
        assert_eq!(outcome, Err(KvError::Denied(Denied::NotPermitted)), "{key}");
    }
    let outcome = store.apply_guarded(&caller, &fenced("a"), &put).outcome;
    assert!(matches!(outcome, Err(KvError::Fenced { .. })), "{outcome:?}");
}
