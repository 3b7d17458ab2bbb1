//! What is written of a trace as text and for ShiViz. What a browser makes of the page is in
//! `page.rs`.

mod example;

use proptest::prelude::*;
use quorate_drivers::simulate::show::{Colour, page, shiviz, text};
use quorate_drivers::simulate::trace::{Kind, Step, Trace};
use std::collections::BTreeMap;

fn as_text(trace: &Trace, colour: Colour) -> String {
    let mut out = Vec::new();
    text(trace, colour, &mut out).expect("memory takes all");
    String::from_utf8(out).expect("UTF-8")
}

fn as_shiviz(trace: &Trace) -> String {
    let mut out = Vec::new();
    shiviz(trace, &mut out).expect("memory takes all");
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn a_story_reads_as_on_record() {
    let wanted = "\
protocol  service
model     network=fair-loss node=crash-recovery timing=partial
buggify   on
seed      7
mutant    appended-before-synced
version   0.1.0
digest    5ca1ab1e0ddba11f
replay    quorate sim --seed 7 --mutants appended-before-synced --shrink
verdict   violated: linearizability
because   c2 reads x at revision 1 after c1 was told that its write of x has revision 2: ";
    let text = as_text(&example::lost_write(), Colour::Plain);
    assert!(text.starts_with(wanted), "{text}");
    let lines: Vec<&str> = text.lines().skip(11).collect();
    assert_eq!(lines.len(), 1 + 48, "a line per step, and what the columns are");
    let expected = [
        (0, "   step       ms  node  what"),
        (4, "      3    0.400  n3    note        its clock is ahead  [clock error=+2.4 ms]"),
        (6, "      5  151.400  n1    n1 -> n2    RequestVote term 1 last 0"),
        (8, "      7  152.200  n2    n2 <- n1    RequestVote term 1 last 0  [term=1 vote=n1]"),
        (15, "     14  154.150  n1    n1 <- n3    Vote term 1 granted  (again)"),
        (16, "     15  158.250  n1    c1 invokes  put x = 1  [waiting=c1]"),
        (19, "!    18  158.570  n3    PAUSES      stands still"),
        (23, "     22  159.320  -     n1 -x n3    Append term 1 previous 0 entries 1"),
        (27, "!    26  159.970  n2    CRASHES     loses power; 1 record was not synced  [log=]"),
        (28, "!    27  161.970  -     FAULT       partition: n1 | n2 n3"),
    ];
    for (at, line) in expected {
        assert_eq!(lines[at], line);
    }
    assert!(lines[48].starts_with("!!   47  364.440  -     VIOLATION   c2 reads x at revision 1"));
}

#[test]
fn what_is_awaited_has_a_line_each() {
    let mut trace = example::lost_write();
    trace.head.awaited = vec!["n2 does not serve".to_owned(), "lease 7 has not ended".to_owned()];
    let text = as_text(&trace, Colour::Plain);
    let expected = "\nawaited   n2 does not serve\nawaited   lease 7 has not ended\n\n";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_fault_names_the_nodes_that_its_text_does_not() {
    let mut story = example::Story::new(&["n1", "n2"], &[]);
    story.fault(&[1], "the disk is full");
    story.fault(&[0, 1], "partition: n1 | n2");
    let text = as_text(&story.trace(), Colour::Plain);
    assert!(
        text.ends_with("the disk is full  (n2)\n!     1  0.000  -     FAULT  partition: n1 | n2\n")
    );
}

#[test]
fn colour_changes_no_word() {
    let trace = example::lost_write();
    let (plain, coloured) = (as_text(&trace, Colour::Plain), as_text(&trace, Colour::Ansi));
    assert!(!plain.contains('\u{1b}'));
    let mut rest = String::new();
    for (at, piece) in coloured.split('\u{1b}').enumerate() {
        rest.push_str(if at == 0 { piece } else { piece.split_once('m').expect("a code").1 });
    }
    assert_eq!(rest, plain);
    let violation = coloured.lines().last().expect("a line");
    assert!(violation.starts_with("\u{1b}[1;31m!!") && violation.ends_with("\u{1b}[0m"));
}

#[test]
fn evil_texts_are_read_and_do_nothing() {
    for written in [as_text(&example::evil(), Colour::Plain), as_shiviz(&example::evil())] {
        let acts = |letter: &char| letter.is_control() && *letter != '\n';
        assert_eq!(written.chars().find(acts), None);
        assert!(!written.contains(['\u{202e}', '\u{2028}', '\u{2029}', '\u{feff}']));
        assert_eq!(written.matches("<img src=x onerror").count(), 2, "sent and lost");
    }
    let mut out = Vec::new();
    page(&example::evil(), &mut out).expect("memory takes all");
    let page = String::from_utf8(out).expect("UTF-8");
    assert_eq!(page.matches("</script").count(), 2, "the two ends of ours");
    assert_eq!(page.matches("<!--").count() + page.matches("<img").count(), 0);
}

/// One line of the log, as the expression in the first line takes it apart.
#[derive(Debug)]
struct Event {
    host: String,
    clock: BTreeMap<String, u64>,
}

fn events(log: &str) -> Vec<Event> {
    let mut lines = log.lines();
    assert!(lines.next().is_some_and(|parser| parser.starts_with(r"(?<host>\S+) (?<clock>\{")));
    assert_eq!(lines.next(), Some(""), "no delimiter");
    lines
        .enumerate()
        .map(|(at, line)| {
            let mut parts = line.splitn(5, ' ');
            let mut part = || parts.next().expect("five parts");
            let (host, clock) = (part().to_owned(), part());
            assert_eq!(part().parse(), Ok(at), "steps are counted");
            part().parse::<f64>().expect("a time");
            Event { host, clock: serde_json::from_str(clock).expect("a clock in JSON") }
        })
        .collect()
}

/// True if `a` is less than `b`: nowhere greater, and not the same.
fn is_before(a: &BTreeMap<String, u64>, b: &BTreeMap<String, u64>) -> bool {
    a.iter().all(|(host, events)| b.get(host).is_some_and(|others| events <= others)) && a != b
}

/// What happened before what, by walking the arrows: the naive version.
fn causes(trace: &Trace, hosts: &[String]) -> Vec<Vec<bool>> {
    let steps = &trace.steps;
    let mut before = vec![vec![false; steps.len()]; steps.len()];
    for (at, step) in steps.iter().enumerate() {
        let mut direct: Vec<usize> = Vec::new();
        direct.extend((0..at).rev().find(|earlier| hosts[*earlier] == hosts[at]));
        direct.extend((0..at).filter(|earlier| is_cause(trace, *earlier, at)));
        if hosts[at] == "observer" && step.kind != Kind::Lose {
            direct.extend(0..at);
        }
        for cause in direct {
            let known = before[cause].clone();
            before[at].iter_mut().zip(known).for_each(|(mine, theirs)| *mine |= theirs);
            before[at][cause] = true;
        }
    }
    before
}

/// True if a message, a question or an answer leads from one step to the other.
fn is_cause(trace: &Trace, from: usize, to: usize) -> bool {
    let (cause, effect) = (&trace.steps[from], &trace.steps[to]);
    let between = &trace.steps[from + 1..to];
    let is_at = |step: &Step| {
        step.node == effect.node
            && !matches!(step.kind, Kind::Lose | Kind::Invoke | Kind::Return | Kind::Violation)
    };
    match (cause.kind, effect.kind) {
        (Kind::Send, Kind::Receive | Kind::Lose) => cause.message == effect.message,
        (_, Kind::Return) => effect.node.is_some() && is_at(cause) && !between.iter().any(is_at),
        (Kind::Invoke, Kind::Send | Kind::Receive | Kind::Timer | Kind::Synced | Kind::Tell) => {
            let lives = trace.steps[..from].iter().rev().filter(|step| step.node == effect.node);
            let mut lives = lives.map(|step| step.kind);
            let last = lives.find(|kind| matches!(kind, Kind::Crash | Kind::Boot));
            let is_crash = |step: &Step| step.kind == Kind::Crash && step.node == effect.node;
            cause.node == effect.node && last != Some(Kind::Crash) && !between.iter().any(is_crash)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn clocks_are_ordered_as_causes_are(seed: u64, nodes in 1..5_usize, steps in 1..160_usize) {
        let trace = example::by_lot(seed, nodes, steps);
        let events = events(&as_shiviz(&trace));
        prop_assert_eq!(events.len(), trace.steps.len());
        let hosts: Vec<String> = events.iter().map(|event| event.host.clone()).collect();
        let before = causes(&trace, &hosts);
        for later in 0..events.len() {
            for earlier in 0..later {
                let (a, b) = (&events[earlier].clock, &events[later].clock);
                prop_assert_eq!(is_before(a, b), before[later][earlier], "{} {}", earlier, later);
                prop_assert!(!is_before(b, a), "{} is after {}", earlier, later);
            }
        }
    }

    /// What ShiViz's parser asks for, on any trace.
    #[test]
    fn a_host_counts_its_own_events(seed: u64, nodes in 1..5_usize, steps in 1..160_usize) {
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        let events = events(&as_shiviz(&example::by_lot(seed, nodes, steps)));
        for event in &events {
            let own = counted.entry(event.host.clone()).or_default();
            *own += 1;
            prop_assert_eq!(event.clock[&event.host], *own);
            let is_known = |(host, events): (&String, &u64)| counted.get(host) >= Some(events);
            prop_assert!(event.clock.iter().all(is_known), "{:?}", event);
        }
    }
}

#[test]
fn hosts_have_names_that_the_parser_takes() {
    let mut story = example::Story::new(&["a b", "a_b", "observer", "{\"x\":1}"], &["", "a b"]);
    for node in 0..4 {
        story.at(node, Kind::Timer, "fires");
    }
    story.invoke(0, 0, "x");
    story.invoke(1, 0, "y");
    let log = as_shiviz(&story.violation("p", "w"));
    let hosts: Vec<String> = events(&log).into_iter().map(|event| event.host).collect();
    assert_eq!(hosts, ["a_b", "a_b_", "observer", "__x_:1_", "_", "a_b__", "observer_"]);
}
