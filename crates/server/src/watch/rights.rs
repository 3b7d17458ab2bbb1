//! Watchers and rights: who may watch what, and when a right that was taken back counts.

use super::Stream;
use super::desk::messages;
use super::hub::Hub;
use super::mutant::Mutant;
use super::session::{Session, Settings};
use crate::api::Headers;
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use bytes::Bytes;
use quorate_core::Time;
use quorate_replica::store::{Access, AuthCommand, Caller, Command, Keys, Permission, Put, Store};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn change(store: &mut Store, command: AuthCommand) {
    let applied = store.apply_as(&Caller::Member, &Command::Auth(command));
    applied.outcome.expect("it is in order");
}

fn range(key: &str, end: &str) -> Keys {
    Keys { key: name(key), range_end: name(end) }
}

/// Ann may read `a` and all that begins with `b`.
fn store() -> Store {
    let mut store = Store::new();
    for command in [
        AuthCommand::UserAdd { name: name("root"), hash: None },
        AuthCommand::UserGrantRole { user: name("root"), role: name("root") },
        AuthCommand::UserAdd { name: name("ann"), hash: None },
        AuthCommand::RoleAdd { name: name("r") },
        AuthCommand::UserGrantRole { user: name("ann"), role: name("r") },
        AuthCommand::Enable { token_key: name("key") },
    ] {
        change(&mut store, command);
    }
    for keys in [range("a", ""), range("b", "c")] {
        let permission = Permission { keys, access: Access::Read };
        change(&mut store, AuthCommand::RoleGrant { role: name("r"), permission });
    }
    store
}

fn ann(store: &Store) -> Caller {
    Caller::User { name: name("ann"), revision: store.auth().revision() }
}

fn session(hub: &Arc<Hub>, store: &Store, caller: Caller) -> Session {
    let stream = Stream::open(hub, false).expect("a stream");
    stream.offer(store.history(), Time::default());
    let settings =
        Settings { headers: Headers::test(), fragment_bytes: 1 << 20, requires_leader: false };
    Session::new(stream, settings).asked_by(caller)
}

fn watch(session: &mut Session, keys: &Keys) {
    let (key, range_end) = (keys.key.clone(), keys.range_end.clone());
    let create = pb::WatchCreateRequest { key, range_end, ..Default::default() };
    let request_union = Some(RequestUnion::CreateRequest(create));
    session.request(pb::WatchRequest { request_union });
}

fn told(session: &mut Session) -> Vec<pb::WatchResponse> {
    let mut chunk = Vec::new();
    session.fill(Time::default(), &mut chunk);
    messages(&chunk)
}

fn put(store: &mut Store, key: &str) {
    let put = Command::Put(Put { key: name(key), ..Put::default() });
    store.apply_as(&Caller::Member, &put).outcome.expect("written");
}

fn publish(hub: &Hub, store: &Store) {
    hub.offer(store.history(), Time::default());
    hub.walk();
}

/// Watches `a` and `b..c` as ann, takes the right on `a` back, and writes both; what she is told
/// from then on, as reasons and numbers of events by watcher.
fn revoked(mutant: Option<Mutant>) -> Vec<(i64, String, usize)> {
    let mut store = store();
    let mut hub = Hub::new();
    hub.mutant = mutant;
    let hub = Arc::new(hub);
    let mut session = session(&hub, &store, ann(&store));
    watch(&mut session, &range("a", ""));
    watch(&mut session, &range("b", "c"));
    assert!(told(&mut session).iter().all(|answer| answer.created && !answer.canceled));
    change(&mut store, AuthCommand::RoleRevoke { role: name("r"), keys: range("a", "") });
    put(&mut store, "a");
    put(&mut store, "b");
    publish(&hub, &store);
    let all = told(&mut session);
    all.into_iter().map(|it| (it.watch_id, it.cancel_reason, it.events.len())).collect()
}

#[test]
fn a_watcher_without_a_right_is_refused() {
    let store = store();
    let hub = Arc::new(Hub::new());
    let (user, nobody) = (ann(&store), Caller::Anonymous);
    let root = Caller::User { name: name("root"), revision: store.auth().revision() };
    let cases = [
        (&user, range("a", ""), ""),
        (&user, range("b", "bz"), ""),
        (&user, range("a", "\0"), DENIED),
        (&user, range("a", "c"), DENIED),
        (&user, range("x", ""), DENIED),
        (
            &nobody,
            range("a", ""),
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        ),
        (&root, range("\0", "\0"), ""),
    ];
    for (caller, keys, reason) in cases {
        let mut session = session(&hub, &store, caller.clone());
        watch(&mut session, &keys);
        let answers = told(&mut session);
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!(&answer.cancel_reason, reason, "{keys:?}");
        assert_eq!((answer.created, answer.canceled), (true, !reason.is_empty()));
    }
}

#[test]
fn a_right_that_is_taken_back_ends_its_watcher_before_the_next_event() {
    let reason = DENIED.to_owned();
    let expected = [(0, reason, 0), (1, String::new(), 1)];
    assert_eq!(revoked(None), expected);
    assert_ne!(revoked(Some(Mutant::RevokedGoesOn)), expected, "the planted bug is seen");
}

/// Sets a flag.
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_stream_that_sleeps_is_woken_by_a_change_of_rights_alone() {
    let mut store = store();
    let hub = Arc::new(Hub::new());
    let mut session = session(&hub, &store, ann(&store));
    watch(&mut session, &range("a", ""));
    told(&mut session);
    let bell = Arc::new(Bell(AtomicBool::new(false)));
    assert!(session.sleep(&Waker::from(Arc::clone(&bell))));
    change(&mut store, AuthCommand::UserDelete { name: name("ann") });
    publish(&hub, &store);
    assert!(bell.0.load(Ordering::SeqCst), "nobody has written, and she is told all the same");
    let answers = told(&mut session);
    assert!(answers.len() == 1 && answers[0].canceled, "{answers:?}");
    // The user who gets the name afterwards is somebody else.
    change(&mut store, AuthCommand::UserAdd { name: name("ann"), hash: None });
    change(&mut store, AuthCommand::UserGrantRole { user: name("ann"), role: name("r") });
    publish(&hub, &store);
    watch(&mut session, &range("a", ""));
    assert_eq!(
        told(&mut session)[0].cancel_reason,
        "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token"
    );
}

#[test]
fn an_older_state_of_rights_does_not_come_back() {
    let mut store = store();
    let hub = Arc::new(Hub::new());
    let mut session = session(&hub, &store, ann(&store));
    let before = store.history();
    change(&mut store, AuthCommand::UserDelete { name: name("ann") });
    publish(&hub, &store);
    hub.offer(before, Time::default());
    watch(&mut session, &range("a", ""));
    assert!(told(&mut session)[0].canceled);
}
