//! The checkers of histories must find what they are there for: each rule has a doctored history,
//! of clients, of watchers, of leases and of a lock.

mod support;

use support::client::{Found, Seen};
use support::history::{Action, Event, Rule, Violation, check};
use support::leased::{
    Calm, Clock, LATE, Sight, Tenancy, Tenure, check_leases, check_lock, own_key,
};
use support::order::{
    Account, Change, Claim, Fate, Heard, Order, Previous, Scope, check_account, check_order,
};

/// An honest history of two clients, one key, a swap, a deletion and every kind of outcome.
fn honest() -> Vec<Event> {
    vec![
        event(0, 0..10, wrote("a", 2)),
        event(1, 11..20, read(2, Some(("a", 2)))),
        event(0, 12..30, Action::Unknown { value: "b".to_owned() }),
        event(1, 21..40, Action::Refused { value: "c".to_owned() }),
        event(1, 41..50, read(3, Some(("b", 3)))),
        event(0, 51..60, swapped("d", 4, 3)),
        event(1, 51..61, read(3, Some(("b", 3)))),
        event(1, 62..70, Action::Deleted { revision: 5 }),
        event(0, 71..80, read(5, None)),
        event(0, 81..90, wrote("e", 6)),
        event(0, 91..99, read(6, Some(("e", 6)))),
    ]
}

fn event(client: usize, span: std::ops::Range<u64>, action: Action) -> Event {
    Event { client, invoked: span.start, returned: span.end, key: "k".to_owned(), action }
}

fn wrote(value: &str, revision: i64) -> Action {
    Action::Wrote { value: value.to_owned(), revision, over: None }
}

fn swapped(value: &str, revision: i64, over: i64) -> Action {
    Action::Wrote { value: value.to_owned(), revision, over: Some(over) }
}

fn read(revision: i64, found: Option<(&str, i64)>) -> Action {
    let found = found.map(|(value, mod_revision)| Found { value: value.to_owned(), mod_revision });
    Action::Read(Seen { revision, found })
}

/// Replaces the event at `at` by one with the same times and another outcome.
fn doctored(at: usize, action: Action) -> Vec<Event> {
    let mut events = honest();
    events[at].action = action;
    events
}

#[test]
fn an_honest_history_passes() {
    assert_eq!(check(&honest()), []);
}

#[test]
fn each_lie_is_found_and_called_by_its_name() {
    let cases = [
        ("a lost acknowledgement", 10, read(6, None), Rule::Lost),
        ("a stale read", 4, read(3, Some(("a", 2))), Rule::Stale),
        ("a read from the past", 10, read(5, None), Rule::WentBack),
        ("a phantom", 10, read(6, Some(("never", 6))), Rule::Phantom),
        ("a value before it was written", 1, read(2, Some(("e", 2))), Rule::Phantom),
        ("a value from the future", 10, read(6, Some(("e", 7))), Rule::Phantom),
        ("a refused write that happened", 10, read(6, Some(("c", 6))), Rule::Undead),
        ("a write at an old revision", 9, wrote("e", 5), Rule::WentBack),
        ("two writes at one revision", 9, wrote("e", 4), Rule::RevisionShared),
        ("a write acknowledged with a wrong revision", 0, wrote("a", 1), Rule::Twofold),
        ("an unknown write that happened twice", 6, read(4, Some(("b", 4))), Rule::Twofold),
        ("a swap over a write that came between", 5, swapped("d", 4, 2), Rule::SwapOver),
        ("a deletion undone", 8, read(5, Some(("d", 4))), Rule::Stale),
    ];
    for (lie, at, action, rule) in cases {
        let rules: Vec<Rule> =
            check(&doctored(at, action)).into_iter().map(|broken| broken.rule).collect();
        assert!(rules.contains(&rule), "{lie}: expected {rule:?}, found {rules:?}");
    }
}

#[test]
fn an_unknown_outcome_may_happen_late_but_not_before_it_was_sent() {
    let mut events = honest();
    events.push(event(2, 82..95, Action::Unknown { value: "late".to_owned() }));
    events.push(event(2, 100..110, read(7, Some(("late", 7)))));
    assert_eq!(check(&events), []);
    events.last_mut().expect("the read").action = read(7, Some(("late", 5)));
    assert!(check(&events).iter().any(|broken| broken.rule == Rule::WentBack));
}

#[test]
fn a_deletion_of_unknown_outcome_excuses_a_missing_key_only_after_it_was_sent() {
    let mut events = honest();
    events.push(event(2, 100..110, Action::DeleteUnknown));
    events.push(event(2, 111..120, read(7, None)));
    assert_eq!(check(&events), []);
    events[10].action = read(6, None);
    assert!(check(&events).iter().any(|broken| broken.rule == Rule::Lost));
}

fn rules(found: &[Violation]) -> Vec<Rule> {
    found.iter().map(|broken| broken.rule).collect()
}

fn put(revision: i64, key: &str, value: &str) -> Change {
    let (key, value) = (key.to_owned(), Some(value.to_owned()));
    Change { revision, key, value, lease: 0, prev: None }
}

fn del(revision: i64, key: &str) -> Change {
    Change { value: None, ..put(revision, key, "") }
}

/// Two keys written at one revision, one of them twice more, deleted, and written again.
fn story() -> Vec<Change> {
    vec![
        put(2, "a", "1"),
        put(2, "b", "1"),
        put(3, "a", "2"),
        put(4, "c", "3"),
        put(5, "a", "4"),
        del(6, "a"),
        put(7, "a", "5"),
    ]
}

fn claims() -> Vec<Claim> {
    let claim = |key: &str, value: Option<&str>, fate| Claim {
        key: key.to_owned(),
        value: value.map(str::to_owned),
        fate,
    };
    vec![
        claim("a", Some("1"), Fate::Acknowledged(2)),
        claim("b", Some("1"), Fate::Acknowledged(2)),
        claim("a", Some("2"), Fate::Unknown),
        claim("a", Some("never"), Fate::Unknown),
        claim("c", Some("3"), Fate::Acknowledged(4)),
        claim("a", Some("4"), Fate::Acknowledged(5)),
        claim("a", Some("refused"), Fate::Refused),
        claim("a", None, Fate::Acknowledged(6)),
        claim("a", Some("5"), Fate::Acknowledged(7)),
    ]
}

#[test]
fn an_order_is_what_became_of_the_writes() {
    let judged = |changes: Vec<Change>, claims: &[Claim]| {
        rules(&check_order(&Order::replayed(changes, 2, 7), claims, |key| key == "leased"))
    };
    assert_eq!(judged(story(), &claims()), []);
    let doctored = |at: usize, change: Change| {
        let mut changes = story();
        changes[at] = change;
        judged(changes, &claims())
    };
    assert_eq!(doctored(2, put(3, "a", "nobody's")), [Rule::Forged]);
    assert_eq!(doctored(2, put(3, "c", "2")), [Rule::Forged], "a value at another key");
    assert_eq!(doctored(2, put(3, "a", "refused")), [Rule::Undead]);
    assert_eq!(doctored(2, put(3, "a", "4")), [Rule::Twofold], "seen again");
    assert_eq!(doctored(2, put(3, "a", "never")), [], "an unknown write may have happened");
    assert_eq!(doctored(2, del(3, "a")), [Rule::Forged], "a deletion that nobody asked for");
    assert_eq!(doctored(2, del(3, "leased")), [], "the end of a lease is judged elsewhere");
    assert_eq!(doctored(3, put(4, "a", "never")), [Rule::Missing]);
    assert_eq!(doctored(5, put(6, "a", "never")), [Rule::Missing], "a lost deletion");
    let mut hole = story();
    hole.remove(2);
    assert_eq!(judged(hole, &claims()), [Rule::Hole]);
}

/// Messages of a stream that was broken once, and of progress.
fn heard() -> Vec<Heard> {
    let mut changes = story();
    for (at, replaced) in [(2, 2), (4, 3), (5, 5)] {
        changes[at].prev = Some(replaced);
    }
    let mut part = |count: usize| Heard::Changes(changes.drain(..count).collect());
    vec![part(3), Heard::Progress(3), part(1), part(2), Heard::Progress(6), part(1)]
}

fn account(heard: Vec<Heard>) -> Account {
    let (scope, previous) = (Scope::Everything, Previous::Wanted);
    Account { name: "w".to_owned(), scope, previous, from: 2, heard }
}

fn told(account: &Account) -> Vec<Rule> {
    rules(&check_account(&Order::replayed(story(), 2, 7), account, 0))
}

#[test]
fn a_watcher_that_was_told_the_order_passes() {
    assert_eq!(told(&account(heard())), []);
    let scope = Scope::Prefix("c".to_owned());
    let only = vec![Heard::Progress(3), Heard::Changes(vec![put(4, "c", "3")]), Heard::Progress(7)];
    assert_eq!(told(&Account { scope, ..account(only) }), []);
}

#[test]
fn each_lie_to_a_watcher_is_found_and_called_by_its_name() {
    let changes = |changes: &[Change]| Heard::Changes(changes.to_vec());
    let c = put(4, "c", "3");
    let with_prev = |change: Change, prev| Change { prev: Some(prev), ..change };
    let cases: Vec<(&str, usize, Vec<Heard>, Rule)> = vec![
        ("a gap", 2, vec![], Rule::Gap),
        ("a gap at the end", 5, vec![], Rule::Gap),
        ("a duplicate", 3, vec![changes(std::slice::from_ref(&c)); 2], Rule::Repeat),
        ("a duplicate in one message", 2, vec![changes(&[c.clone(), c.clone()])], Rule::Repeat),
        (
            "disorder",
            3,
            vec![changes(&[with_prev(del(6, "a"), 5), with_prev(put(5, "a", "4"), 3)])],
            Rule::Disorder,
        ),
        ("a half revision", 0, vec![changes(&[put(2, "a", "1")])], Rule::Torn),
        (
            "a revision in two messages",
            0,
            vec![changes(&[put(2, "a", "1")]), changes(&[put(2, "b", "1")])],
            Rule::Torn,
        ),
        ("another value", 2, vec![changes(&[put(4, "c", "x")])], Rule::Invented),
        ("another key", 2, vec![changes(&[put(4, "d", "3")])], Rule::Invented),
        ("a deletion for a write", 2, vec![changes(&[del(4, "c")])], Rule::Invented),
        ("another lease", 2, vec![changes(&[Change { lease: 7, ..c.clone() }])], Rule::Invented),
        ("what came after the end", 5, vec![changes(&[put(8, "a", "6")])], Rule::Invented),
        ("another former pair", 2, vec![changes(&[with_prev(c.clone(), 2)])], Rule::WrongPrev),
        (
            "progress into the future",
            5,
            vec![changes(&[put(7, "a", "5")]), Heard::Progress(9)],
            Rule::Ahead,
        ),
        ("progress ahead of changes", 1, vec![Heard::Progress(4)], Rule::Ahead),
        ("a compaction that nobody asked for", 2, vec![Heard::Compacted(4)], Rule::Early),
    ];
    for (lie, at, instead, rule) in cases {
        let mut heard = heard();
        heard.splice(at..=at, instead);
        let rules = told(&account(heard));
        assert!(rules.contains(&rule), "{lie}: expected {rule:?}, found {rules:?}");
    }
    let mut bare = heard();
    bare[3] = changes(&[put(5, "a", "4"), del(6, "a")]);
    assert_eq!(told(&account(bare)), [Rule::WrongPrev; 2], "former pairs were asked for");
}

#[test]
fn a_watcher_of_some_keys_misses_only_what_it_watches() {
    let of =
        |prefix: &str, heard| Account { scope: Scope::Prefix(prefix.to_owned()), ..account(heard) };
    assert_eq!(told(&of("c", vec![Heard::Progress(7)])), [Rule::Ahead]);
    assert_eq!(told(&of("c", vec![])), [Rule::Gap]);
    assert_eq!(told(&of("d", vec![])), []);
}

#[test]
fn a_compaction_excuses_what_it_took_and_no_more() {
    let order = Order::replayed(story().split_off(4), 5, 7);
    let judged = |order: &Order, compacted_at: i64| {
        let mut heard = heard();
        heard.splice(..3, [Heard::Compacted(compacted_at)]);
        rules(&check_account(order, &account(heard), 4))
    };
    assert_eq!(judged(&order, 4), []);
    assert_eq!(judged(&order, 3), [Rule::Gap]);
    assert_eq!(judged(&order, 5), [Rule::Early, Rule::Disorder]);
    // What is compacted is known from watchers, and all were told the same.
    let mut order = order;
    order.learn(&[account(heard())]);
    assert_eq!(rules(&check_account(&order, &account(heard()), 4)), []);
    let mut other = heard();
    other[2] = Heard::Changes(vec![put(4, "c", "x")]);
    assert_eq!(rules(&check_account(&order, &account(other), 4)), [Rule::Invented]);
}

/// Unit of time in the stories of leases: a second, in nanoseconds.
const S: u64 = 1_000_000_000;

/// Lease 7 has two keys of its own and the lock; it ends at revision 4. The lock passes to lease 8,
/// whose holder gives it back. Revisions come a second after each other: revision r at r s.
fn lives() -> Vec<Change> {
    let held = |lease, change: Change| Change { lease, ..change };
    vec![
        held(7, put(2, &own_key(7, 0), "x")),
        held(7, put(2, &own_key(7, 1), "x")),
        held(7, put(2, "lock", "x")),
        put(3, "fenced", "x1"),
        del(4, &own_key(7, 0)),
        del(4, &own_key(7, 1)),
        del(4, "lock"),
        held(8, put(5, &own_key(8, 0), "y")),
        held(8, put(5, "lock", "y")),
        put(6, "fenced", "y1"),
        del(7, "lock"),
        del(8, &own_key(8, 0)),
    ]
}

/// Lease 7 lives a second, is renewed at 2 s and left; lease 8 is revoked.
fn tenancies() -> Vec<Tenancy> {
    let seven = Tenancy {
        id: 7,
        ttl: S,
        renewals: vec![S, 2 * S],
        until: 2 * S,
        gone: None,
        revoking: None,
        revoked: None,
    };
    let eight = Tenancy {
        id: 8,
        ttl: 100 * S,
        renewals: vec![4 * S],
        until: 8 * S,
        revoking: Some(7 * S),
        revoked: Some(8),
        ..seven.clone()
    };
    vec![seven, eight]
}

fn judge_leases(changes: Vec<Change>, tenancies: &[Tenancy], listed: &[i64]) -> Vec<Rule> {
    let order = Order::replayed(changes, 2, 8);
    let sights = (2..=8).map(|revision| {
        let at = revision as u64 * S;
        Sight { invoked: at, returned: at + S / 10, revision }
    });
    let clock = Clock::of(&sights.collect::<Vec<_>>());
    let leases = listed.iter().copied().collect();
    let calm = Calm { since: 9 * S, listed: 200 * S, leases };
    rules(&check_leases(&order, &clock, tenancies, &calm))
}

#[test]
fn leases_that_were_kept_and_ended_pass() {
    assert_eq!(judge_leases(lives(), &tenancies(), &[]), []);
    // Nobody knows when it ended, within a second: the benefit is the store's.
    let mut close = tenancies();
    close[0].renewals.push(3 * S + S / 10);
    assert_eq!(judge_leases(lives(), &close, &[]), []);
}

#[test]
fn each_lie_about_a_lease_is_found_and_called_by_its_name() {
    let with = |at: usize, change: &dyn Fn(&mut Tenancy)| {
        let mut tenancies = tenancies();
        change(&mut tenancies[at]);
        judge_leases(lives(), &tenancies, &[])
    };
    let lost = [Rule::LeaseLost];
    assert_eq!(with(0, &|t| t.renewals.push(3 * S + S / 5)), lost, "ended within its time");
    assert_eq!(with(0, &|t| t.ttl = 100 * S), lost, "ended within its time");
    assert_eq!(with(0, &|t| t.gone = Some(3 * S - 1)), lost, "said to be gone within its time");
    assert_eq!(with(1, &|t| (t.revoking, t.revoked) = (None, None)), lost, "nobody revoked it");
    assert_eq!(with(1, &|t| t.revoking = Some(9 * S)), lost, "gone before it was revoked");
    assert_eq!(with(1, &|t| t.revoked = Some(7)), [Rule::Overdue], "revoked, but there");
    assert_eq!(judge_leases(lives(), &tenancies(), &[7]), [Rule::Overdue], "listed after its end");
    let mut forever = lives();
    forever.drain(4..=5);
    assert_eq!(judge_leases(forever, &tenancies(), &[7]), [Rule::Overdue], "it lives for ever");

    let doctored = |at: usize, change: Change| {
        let mut changes = lives();
        changes[at] = change;
        judge_leases(changes, &tenancies(), &[])
    };
    assert_eq!(doctored(5, del(5, &own_key(7, 1))), [Rule::Split; 2], "one key a revision later");
    assert_eq!(doctored(5, put(4, "c", "x")), [Rule::Split], "a key that stayed");
    assert_eq!(doctored(6, del(5, "lock")), [Rule::Split], "a key that is not its own stayed");
    let late = Change { lease: 7, ..put(6, "late", "x") };
    assert_eq!(doctored(9, late), [Rule::Revived]);
}

#[test]
fn a_lease_that_ends_late_is_overdue_only_after_calm_and_its_time() {
    let order = Order::replayed(lives(), 2, 8);
    let judged = |alive: u64| {
        // An answer with revision 3 to a request that was sent so late.
        let sights = [Sight { invoked: alive, returned: alive + 1, revision: 3 }];
        let calm = Calm { since: 9 * S, listed: 200 * S, leases: [].into() };
        rules(&check_leases(&order, &Clock::of(&sights), &tenancies()[..1], &calm))
    };
    assert_eq!(judged(10 * S + LATE), []);
    assert_eq!(judged(10 * S + LATE + 1), [Rule::Overdue]);
}

fn tenures() -> Vec<Tenure> {
    let first = Tenure { holder: 0, token: 2, from: 2 * S, until: 3 * S, fenced: vec![3] };
    let second = Tenure { holder: 1, token: 5, from: 5 * S, until: 7 * S, fenced: vec![6] };
    vec![second, first]
}

#[test]
fn each_lie_about_a_lock_is_found_and_called_by_its_name() {
    let judged = |changes: Vec<Change>, tenures: &[Tenure]| {
        rules(&check_lock(&Order::replayed(changes, 2, 8), "lock", tenures))
    };
    assert_eq!(judged(lives(), &tenures()), []);
    let with = |change: &dyn Fn(&mut Tenure)| {
        let mut tenures = tenures();
        change(&mut tenures[1]);
        judged(lives(), &tenures)
    };
    assert_eq!(with(&|first| first.until = 5 * S), [], "one ends as the other begins");
    assert_eq!(with(&|first| first.until = 5 * S + 1), [Rule::TwoHolders]);
    assert_eq!(with(&|first| first.until = 9 * S), [Rule::TwoHolders], "one around the other");
    assert_eq!(with(&|first| first.fenced.push(6)), [Rule::Unfenced], "another one's fence");
    assert_eq!(with(&|first| first.fenced.push(4)), [Rule::Unfenced], "nobody held it any more");
    let mut stolen = lives();
    stolen.remove(6);
    assert_eq!(judged(stolen, &tenures()), [Rule::LockStolen]);
}
