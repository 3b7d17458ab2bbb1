//! The order that revisions give: right histories hold, and each rule has a history that breaks it.

use quorate_check::history::{ClientId, History, OpId, Outcome, Recorder};
use quorate_check::models::map::{
    Blob, Compare, Pair, Relation, Request, Response, Span, Store, Target,
};
use quorate_check::witness::{self, Breach, Change, Rule, Seen, Sessions, Verdict};

fn put(key: &str, value: &str) -> Request {
    Request::Put { key: key.into(), value: value.into(), lease: 0 }
}

fn leased(key: &str, lease: i64) -> Request {
    Request::Put { key: key.into(), value: "x".into(), lease }
}

fn get(key: &str) -> Request {
    let (key, span) = (key.into(), Span::One);
    Request::Range { key, span, revision: 0, limit: 0, serializable: false }
}

fn delete(key: &str) -> Request {
    Request::Delete { key: key.into(), span: Span::One }
}

/// A transaction that puts if the key has this version.
fn guarded(key: &str, version: u64, value: &str) -> Request {
    let (span, target, relation) = (Span::One, Target::Version(version), Relation::Equal);
    let compare = Compare { key: key.into(), span, target, relation };
    let (success, failure) = (vec![put(key, value)], vec![get(key)]);
    Request::Txn { compares: vec![compare], success, failure }
}

/// A store, and a history of it that one client after another makes.
#[derive(Default)]
struct World {
    store: Store,
    revision: u64,
    recorder: Recorder<Request, Response>,
}

impl World {
    fn new() -> Self {
        World { revision: 1, ..World::default() }
    }

    /// Asks and is answered at once, rightly.
    fn ask(&mut self, client: u64, request: Request) -> OpId {
        let id = self.recorder.invoke(ClientId(client), request.clone());
        let (response, revision) = self.apply(&request);
        self.recorder.returned_at(id, Outcome::Ok(response), revision);
        id
    }

    fn apply(&mut self, request: &Request) -> (Response, u64) {
        let (response, effect) = self.store.apply(request, self.revision + 1);
        self.revision += u64::from(effect.is_write());
        (response, self.revision)
    }

    /// Asks, and is answered with this.
    fn told(&mut self, client: u64, request: Request, response: Response, at: u64) -> OpId {
        let id = self.recorder.invoke(ClientId(client), request);
        self.recorder.returned_at(id, Outcome::Ok(response), at);
        id
    }

    fn lost(&mut self, client: u64, request: Request) -> OpId {
        let id = self.recorder.invoke(ClientId(client), request);
        self.recorder.returned(id, Outcome::Unknown);
        id
    }

    fn verdict(self) -> Verdict {
        self.verdict_with(&Seen::new())
    }

    fn verdict_with(self, seen: &Seen) -> Verdict {
        let history: History<Request, Response> = self.recorder.history();
        witness::check(&history, seen, Sessions::Monotone).verdict
    }
}

fn breach(verdict: Verdict) -> Breach {
    match verdict {
        Verdict::Violated(breach) => breach,
        other => panic!("a breach was expected, not {other:?}"),
    }
}

fn found(pairs: Vec<Pair>) -> Response {
    Response::Range { count: pairs.len() as u64, pairs }
}

fn pair(key: &str, value: &str, create: u64, modified: u64, version: u64) -> Pair {
    Pair { key: key.into(), value: value.into(), create, modified, version, lease: 0 }
}

#[test]
fn what_a_store_does_holds() {
    let mut world = World::new();
    for round in 0..50_u64 {
        let key = ["a", "b", "c"][(round % 3) as usize];
        world.ask(1, put(key, "v"));
        world.ask(2, get(key));
        world.ask(3, guarded(key, round % 5, "w"));
        world.ask(1, if round % 4 == 0 { delete(key) } else { get(key) });
    }
    assert_eq!(world.verdict(), Verdict::Holds);
}

#[test]
fn an_old_state_can_be_asked_for() {
    let mut world = World::new();
    world.ask(1, put("a", "1"));
    world.ask(1, put("a", "2"));
    let (key, span) = (Blob::from("a"), Span::One);
    let past = Request::Range { key, span, revision: 2, limit: 0, serializable: false };
    world.told(2, past.clone(), found(vec![pair("a", "1", 2, 2, 1)]), 3);
    world.told(2, past, found(vec![pair("a", "2", 2, 3, 2)]), 3);
    let breach = breach(world.verdict());
    assert_eq!((breach.rule, breach.operations), (Rule::Content, vec![OpId(3)]));
}

#[test]
fn a_read_below_what_was_seen_before_is_stale() {
    let mut world = World::new();
    world.ask(1, put("a", "1"));
    let write = world.ask(1, put("a", "2"));
    let read = world.told(2, get("a"), found(vec![pair("a", "1", 2, 2, 1)]), 2);
    let breach = breach(world.verdict());
    assert_eq!((breach.rule, breach.operations), (Rule::RealTime, vec![write, read]));
}

#[test]
fn a_serializable_read_may_be_old_but_not_older_than_the_clients_last() {
    let serializable = || {
        let (key, span) = (Blob::from("a"), Span::One);
        Request::Range { key, span, revision: 0, limit: 0, serializable: true }
    };
    let mut world = World::new();
    world.ask(1, put("a", "1"));
    world.ask(1, put("a", "2"));
    world.told(2, serializable(), found(vec![pair("a", "1", 2, 2, 1)]), 2);
    world.told(2, serializable(), found(vec![pair("a", "2", 2, 3, 2)]), 3);
    world.told(2, serializable(), found(vec![pair("a", "1", 2, 2, 1)]), 2);
    let history = world.recorder.history();
    let report = witness::check(&history, &Seen::new(), Sessions::Free);
    assert_eq!(report.verdict, Verdict::Holds);
    let report = witness::check(&history, &Seen::new(), Sessions::Monotone);
    assert_eq!(breach(report.verdict).rule, Rule::Session);
}

#[test]
fn two_writes_can_not_share_a_revision() {
    let mut world = World::new();
    let first = world.recorder.invoke(ClientId(1), put("a", "1"));
    let second = world.recorder.invoke(ClientId(2), put("b", "1"));
    world.recorder.returned_at(first, Outcome::Ok(Response::Put), 2);
    world.recorder.returned_at(second, Outcome::Ok(Response::Put), 2);
    assert_eq!(breach(world.verdict()).rule, Rule::RevisionShared);
}

#[test]
fn a_lost_write_is_missed() {
    let mut world = World::new();
    world.ask(1, put("a", "1"));
    let read = world.told(2, get("a"), found(vec![]), 2);
    let breach = breach(world.verdict());
    assert_eq!((breach.rule, breach.operations), (Rule::Content, vec![read]));
}

#[test]
fn a_compare_that_went_wrong_is_found() {
    let mut world = World::new();
    world.ask(1, put("a", "1"));
    let swap = guarded("a", 5, "2");
    let response = Response::Txn { succeeded: true, responses: vec![Response::Put] };
    world.told(2, swap, response, 3);
    assert_eq!(breach(world.verdict()).rule, Rule::Content);
}

#[test]
fn a_deletion_that_counts_wrong_is_found() {
    let mut world = World::new();
    world.ask(1, put("a", "1"));
    world.told(2, delete("a"), Response::Delete { deleted: 2 }, 3);
    assert_eq!(breach(world.verdict()).rule, Rule::Content);
}

#[test]
fn an_unknown_write_appears_once_or_never() {
    let mut never = World::new();
    never.lost(1, put("a", "1"));
    never.ask(2, get("a"));
    assert_eq!(never.verdict(), Verdict::Holds);

    let mut late = World::new();
    late.lost(1, put("a", "1"));
    late.ask(2, put("b", "1"));
    late.apply(&put("a", "1"));
    late.ask(2, get("a"));
    assert_eq!(late.verdict(), Verdict::Holds);

    let mut twice = World::new();
    twice.lost(1, put("a", "1"));
    twice.apply(&put("a", "1"));
    twice.ask(2, get("a"));
    twice.ask(2, delete("a"));
    twice.apply(&put("a", "1"));
    twice.ask(2, get("a"));
    assert_eq!(breach(twice.verdict()).rule, Rule::Forged);
}

#[test]
fn a_write_is_not_seen_before_it_was_asked_for() {
    let mut world = World::new();
    world.apply(&put("a", "1"));
    world.ask(2, get("a"));
    world.lost(1, put("a", "1"));
    assert_eq!(breach(world.verdict()).rule, Rule::Forged);
}

#[test]
fn what_failed_is_never_seen() {
    let mut world = World::new();
    let failed = world.recorder.invoke(ClientId(1), put("a", "1"));
    world.recorder.returned(failed, Outcome::Failed);
    world.apply(&put("a", "1"));
    world.ask(2, get("a"));
    let breach = breach(world.verdict());
    assert_eq!((breach.rule, breach.operations[0]), (Rule::Undead, failed));
}

#[test]
fn a_revision_that_nobody_made_is_a_hole() {
    let mut world = World::new();
    world.ask(1, put("a", "1"));
    world.revision += 1;
    world.ask(1, put("a", "2"));
    let breach = breach(world.verdict());
    assert_eq!((breach.rule, breach.revision), (Rule::Hole, 3));
}

#[test]
fn a_lease_ends_in_one_revision_that_nobody_acknowledges() {
    let mut world = World::new();
    world.ask(1, leased("a", 7));
    world.ask(1, leased("b", 7));
    world.ask(1, put("c", "1"));
    world.apply(&Request::Revoke { lease: 7 });
    world.ask(2, get("a"));
    world.ask(2, get("c"));
    assert_eq!(world.verdict(), Verdict::Holds);

    let split = |changes: Vec<Change>| {
        let mut world = World::new();
        world.ask(1, leased("a", 7));
        world.ask(1, leased("b", 7));
        world.verdict_with(&Seen::from([(4, changes)]))
    };
    let both = vec![Change::Delete("a".into()), Change::Delete("b".into())];
    assert_eq!(split(both), Verdict::Holds);
    assert_eq!(breach(split(vec![Change::Delete("a".into())])).rule, Rule::Forged);
}

#[test]
fn what_a_watcher_was_told_is_compared() {
    let seen = |value| Seen::from([(2, vec![Change::Put(pair("a", value, 2, 2, 1))])]);
    let world = || {
        let mut world = World::new();
        world.ask(1, put("a", "1"));
        world
    };
    assert_eq!(world().verdict_with(&seen("1")), Verdict::Holds);
    assert_eq!(breach(world().verdict_with(&seen("2"))).rule, Rule::Content);
}

#[test]
fn a_doubtful_choice_is_no_proof() {
    let mut world = World::new();
    world.lost(1, put("a", "1"));
    world.lost(2, put("b", "1"));
    world.apply(&put("b", "1"));
    world.ask(3, put("c", "1"));
    world.ask(3, delete("b"));
    assert!(matches!(world.verdict(), Verdict::Undecided { revision: 1, .. }));
}

#[test]
fn an_answer_without_a_revision_is_no_witness() {
    let mut world = World::new();
    let id = world.recorder.invoke(ClientId(1), put("a", "1"));
    world.recorder.returned(id, Outcome::Ok(Response::Put));
    assert!(matches!(world.verdict(), Verdict::Undecided { .. }));
}
