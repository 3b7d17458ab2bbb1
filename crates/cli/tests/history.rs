//! The checker of histories must find what it is there for: each rule has a doctored history.

mod support;

use support::client::{Found, Seen};
use support::history::{Action, Event, Rule, check};

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
