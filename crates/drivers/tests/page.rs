//! The page of a trace in a real browser: what a reader sees after each key, that the texts of a
//! trace stay texts, and that a long run stays quick.

mod browser;
mod example;

use browser::{Browser, key};
use quorate_drivers::simulate::show::{page, shiviz};
use quorate_drivers::simulate::trace::{Kind, Trace};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a key may take in a run of 20,000 steps, on a machine that is busy with other work.
const KEY_TIME_MAX: Duration = Duration::from_secs(5);
/// What a page may hold at once, however long the run is.
const ELEMENTS_MAX: u64 = 5_000;

fn page_of(trace: &Trace) -> Vec<u8> {
    let mut out = Vec::new();
    page(trace, &mut out).expect("memory takes all");
    out
}

/// What the panel says of every node, by key and place.
const STATE: &str = "
    const rows = [];
    for (const row of document.querySelectorAll('#state tr[data-key]')) {
      rows.push([row.dataset.key, [...row.querySelectorAll('td')].map((cell) => {
        const value = cell.querySelector('ins') ?? cell.querySelector('span');
        return (cell.querySelector('ins') ? '*' : '') + value.textContent;
      })]);
    }
    return rows;";

/// The same from the trace; a `*` stands before what the step itself has changed.
fn state_after(trace: &Trace, at: usize) -> Value {
    let nodes = trace.head.nodes.len();
    let mut told: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let keys = trace.steps.iter().flat_map(|step| step.state.keys());
    keys.for_each(|key| drop(told.insert(key, vec!["–".to_owned(); nodes])));
    for step in &trace.steps[..=at] {
        for (key, value) in &step.state {
            let cell = &mut told.get_mut(key.as_str()).expect("listed")[step.node.expect("a node")];
            let shown = if value.is_empty() { "(empty)" } else { value };
            let is_new = cell.trim_start_matches('*') != shown && step.step == at as u64;
            *cell = format!("{}{shown}", if is_new { "*" } else { "" });
        }
    }
    for (key, cells) in &mut told {
        for (node, cell) in cells.iter_mut().enumerate() {
            let step = &trace.steps[at];
            if step.node != Some(node) || !step.state.contains_key(*key) {
                *cell = cell.trim_start_matches('*').to_owned();
            }
        }
    }
    json!(told)
}

fn state_shown(browser: &Browser) -> Value {
    let rows = browser.run(STATE);
    let rows: Vec<(String, Value)> = serde_json::from_value(rows).expect("rows of the table");
    Value::Object(rows.into_iter().collect())
}

fn selected(browser: &Browser) -> u64 {
    let script = "return [...document.querySelectorAll('[role=option][aria-selected=true]')]
        .map((row) => Number(row.dataset.step))";
    match browser.run(script).as_array().expect("rows").as_slice() {
        [row] => row.as_u64().expect("a step"),
        rows => panic!("{} rows are selected: {rows:?}", rows.len()),
    }
}

fn text_of(browser: &Browser, what: &str) -> String {
    let text = browser.run(&format!("return document.querySelector('{what}').innerText"));
    text.as_str().expect("a text").to_owned()
}

fn count(browser: &Browser, what: &str) -> u64 {
    let script = format!("return document.querySelectorAll('{what}').length");
    browser.run(&script).as_u64().expect("a number")
}

fn step_of(trace: &Trace, kind: Kind) -> u64 {
    trace.steps.iter().find(|step| step.kind == kind).expect("one of the kind").step
}

fn assert_quiet(browser: &Browser) {
    assert_eq!(browser.complaints(), [""; 0], "the console");
    assert_eq!(browser.requests(), [""; 0], "requests");
}

#[test]
fn every_step_shows_its_words_and_the_state_after_it() {
    let Some(browser) = Browser::start() else { return };
    let trace = example::lost_write();
    browser.open(&page_of(&trace), "#step=0");
    let head = text_of(&browser, "#head");
    let why = trace.head.why.clone().expect("a reason");
    for part in ["linearizability", &why, "seed\n7", "appended-before-synced", &trace.head.replay] {
        assert!(head.contains(part), "'{part}' is not in the head:\n{head}");
    }
    for (at, step) in trace.steps.iter().enumerate() {
        if at > 0 {
            browser.press(&[if at % 2 == 0 { key::DOWN } else { 'j' }]);
        }
        assert_eq!(selected(&browser), at as u64);
        let [panel, row] = ["#panel", ".row.selected"].map(|what| text_of(&browser, what));
        assert!(panel.contains(&step.text), "step {at}:\n{panel}");
        assert!(row.contains(&step.text), "step {at}:\n{row}");
        assert_eq!(state_shown(&browser), state_after(&trace, at), "the state after step {at}");
    }
    browser.press(&[key::DOWN]);
    assert_eq!(selected(&browser), 47, "there is nothing after the last step");
    browser.press(&[key::UP, 'k']);
    assert_eq!(selected(&browser), 45);
    browser.press(&[key::HOME]);
    assert_eq!(selected(&browser), 0);
    browser.press(&[key::END]);
    assert_eq!(selected(&browser), 47);
    browser.press(&[key::PAGE_UP]);
    assert!((20..40).contains(&selected(&browser)), "{}", selected(&browser));
    browser.press(&[key::PAGE_DOWN, key::PAGE_DOWN]);
    assert_eq!(selected(&browser), 47);
    browser.until("return location.hash === '#step=47'");
    assert_quiet(&browser);
}

#[test]
fn a_page_opens_at_what_broke_and_says_what_is_awaited() {
    let Some(browser) = Browser::start() else { return };
    let mut trace = example::lost_write();
    browser.open(&page_of(&trace), "");
    assert_eq!(selected(&browser), step_of(&trace, Kind::Violation));
    assert_eq!(count(&browser, ".row.selected.violation"), 1, "it is in view");
    assert_eq!(count(&browser, "#awaited li"), 0);
    trace.head.awaited = vec!["n2 does not serve".to_owned(), "lease 7 has not ended".to_owned()];
    browser.open(&page_of(&trace), "");
    assert_eq!(text_of(&browser, "#awaited"), "n2 does not serve\nlease 7 has not ended");
    // A run that holds is read from its begin, and an address leads where it says.
    trace.steps.retain(|step| step.kind != Kind::Violation);
    (trace.head.property, trace.head.why) = (None, None);
    browser.open(&page_of(&trace), "");
    assert_eq!(selected(&browser), 0);
    browser.open(&page_of(&example::lost_write()), "#step=3");
    assert_eq!(selected(&browser), 3);
    assert_quiet(&browser);
}

#[test]
fn clients_that_do_nothing_take_no_room_from_the_nodes() {
    let Some(browser) = Browser::start() else { return };
    let mut trace = example::lost_write();
    trace.head.clients.extend((0..15).map(|number| format!("idle {number}")));
    browser.open(&page_of(&trace), "");
    let acting: BTreeSet<_> = trace.steps.iter().filter_map(|step| step.client).collect();
    assert_eq!(count(&browser, ".lane-head.client"), acting.len() as u64);
    let right = "return Math.max(...[...document.querySelectorAll('.lane-head.node, .words-head')]
        .map((head) => head.getBoundingClientRect().left)) < document.querySelector('#lanes')
        .getBoundingClientRect().right";
    assert_eq!(browser.run(right), Value::Bool(true), "a lane or the words are out of sight");
    assert_quiet(&browser);
}

#[test]
fn what_went_wrong_is_drawn() {
    let Some(browser) = Browser::start() else { return };
    let trace = example::lost_write();
    let lost = step_of(&trace, Kind::Lose);
    browser.open(&page_of(&trace), &format!("#step={lost}"));
    assert_eq!(selected(&browser), lost, "a link leads to its step");
    assert_eq!(count(&browser, &format!(".cross[data-step=\"{lost}\"]")), 1);
    assert_eq!(count(&browser, ".message.chosen .arrow.lost"), 1);
    assert_eq!(count(&browser, ".row.selected.lose"), 1);
    // The vote of n3 arrives twice: two arrows, one of them marked.
    browser.press(&[key::HOME]);
    assert_eq!(count(&browser, ".arrow.again"), 1);
    assert_eq!(text_of(&browser, ".row.receive .again"), "again");
    assert_eq!(browser.run("return document.querySelector('.times').textContent"), "×2");
    // The violation is where the keys say, and crosses all lanes.
    for stroke in ['v', key::ENTER] {
        browser.press(&[key::HOME, stroke]);
        assert_eq!(selected(&browser), step_of(&trace, Kind::Violation));
    }
    assert_eq!(count(&browser, ".row.selected.violation"), 1);
    assert_eq!(count(&browser, "line.violation"), 1);
    // The partition stands as two boxes, and is under way; n1 and n2 lead, in two colours.
    assert_eq!(count(&browser, ".fault .tint"), 2);
    assert!(text_of(&browser, "#now").contains("partition: n1 | n2 n3"));
    assert_eq!(count(&browser, ".lane-head.leader"), 2);
    assert_eq!(count(&browser, ".lane-head.leader.term-1"), 1);
    assert_eq!(count(&browser, ".lane-head.leader.term-2"), 1);
    // What an invocation or a loss changes in the state of a node is on its lane as well.
    let mut story = example::Story::new(&["n1"], &["c1"]);
    story.at(0, Kind::Boot, "starts").invoke(0, 0, "put x");
    story.state("role=leader, term=9");
    browser.open(&page_of(&story.trace()), "#step=1");
    assert_eq!(count(&browser, ".life.leader.term-1"), 1);
    assert_eq!(browser.run("return document.querySelector('.pill text').textContent"), "leader T9");
    assert_quiet(&browser);
}

#[test]
fn a_crash_is_seen_in_three_places() {
    let Some(browser) = Browser::start() else { return };
    let trace = example::lost_write();
    browser.open(&page_of(&trace), "#step=0");
    // The node is down in the head of its lane, in the table and on the lane.
    let crash = step_of(&trace, Kind::Crash);
    browser.run(&format!("location.hash = '#step={crash}'"));
    browser.until(&format!("return document.querySelector('#step-{crash}.selected') !== null"));
    assert_eq!(text_of(&browser, "#state .status .down"), "down");
    assert_eq!(text_of(&browser, ".lane-head.down span"), "✕ down");
    assert_eq!(count(&browser, ".sign.crash"), 1);
    assert_quiet(&browser);
}

#[test]
fn a_reader_searches_zooms_clicks_and_asks_for_help() {
    let Some(browser) = Browser::start() else { return };
    let trace = example::lost_write();
    browser.open(&page_of(&trace), "#step=0");
    browser.press(&"/requestvote term 2".chars().collect::<Vec<_>>());
    assert_eq!(text_of(&browser, "#found"), "4 steps");
    let wanted = |text: &str| {
        let steps = trace.steps.iter().filter(move |step| step.text.contains(text));
        steps.map(|step| step.step).collect::<Vec<_>>()
    };
    for step in wanted("RequestVote term 2") {
        browser.press(&[key::ENTER]);
        assert_eq!(selected(&browser), step);
        assert_eq!(text_of(&browser, ".row.selected mark"), "RequestVote term 2");
    }
    browser.press(&[key::ESCAPE, 'j']);
    assert_eq!(selected(&browser), 39, "keys are the page's again");
    assert_eq!(count(&browser, "mark"), 0);
    let row = "return document.querySelector('.row.selected').offsetHeight";
    let before = browser.run(row).as_u64();
    browser.press(&['+']);
    assert!(browser.run(row).as_u64() > before);
    browser.press(&['0']);
    let script = "const box = document.querySelector('#scroller'); \
                  return box.scrollHeight <= box.clientHeight";
    assert_eq!(browser.run(script), json!(true), "the whole run is in view");
    browser.press(&['1', 'm']);
    assert_eq!(selected(&browser), 37, "from a receipt to its send");
    browser.run("document.querySelector('#step-33').click()");
    browser.drawn();
    assert_eq!(selected(&browser), 33);
    browser.press(&['[']);
    assert_eq!(selected(&browser), 29, "the step of the same node before it");
    browser.press(&['?']);
    assert_eq!(count(&browser, "dialog[open]"), 1);
    browser.press(&['j', key::ESCAPE]);
    assert_eq!(count(&browser, "dialog[open]"), 0);
    assert_eq!(selected(&browser), 29, "help takes the keys");
    assert_quiet(&browser);
}

#[test]
fn texts_stay_texts() {
    let Some(browser) = Browser::start() else { return };
    let trace = example::evil();
    browser.open(&page_of(&trace), "#step=0");
    let read = browser.run("return document.getElementById('trace').textContent");
    let read: Value = serde_json::from_str(read.as_str().expect("a text")).expect("JSON");
    assert_eq!(read, json!({"head": trace.head, "steps": trace.steps}), "as it was written");
    for _ in &trace.steps {
        browser.press(&['j']);
    }
    for (what, wanted) in [("script", 2), ("img, base, textarea, svg svg, b b", 0), ("h1", 1)] {
        assert_eq!(count(&browser, what), wanted, "{what}");
    }
    let title = browser.run("return document.title");
    assert_eq!(title, "<h1></script><script>document.title = 'evil'</script> (seed 7)");
    let names = browser.run(
        "return [...document.querySelectorAll('.lane-head.node b')].map((b) => b.textContent)",
    );
    assert_eq!(names, json!(["<b>n1</b>", "n\\u{202e}2\"'", "</script>", "(4)"]));
    let unseen = "return /[\\u0000-\\u0008\\u001b\\u202e\\u2028]/.test(document.body.innerText)";
    assert_eq!(browser.run(unseen), json!(false), "nothing unseen is shown");
    assert_eq!(state_shown(&browser), {
        let mut state = state_after(&trace, 9);
        state["role"][0] = json!("leader\\u{0}\\u{7}\\u{1b}[31m");
        state
    });
    assert_quiet(&browser);
}

#[test]
fn a_run_without_a_step_or_a_node_is_a_page() {
    let Some(browser) = Browser::start() else { return };
    for nodes in [&["n1"][..], &[]] {
        browser.open(&page_of(&example::Story::new(nodes, &[]).trace()), "#step=3");
        browser.press(&['j', 'v', key::END, key::PAGE_UP, '-', '0', 'm', ']', 'n']);
        assert!(text_of(&browser, "#head").contains("No property broke"));
        assert_eq!(count(&browser, ".row"), 0);
        assert_quiet(&browser);
    }
}

#[test]
fn a_page_may_ask_for_nothing_and_a_complaint_is_heard() {
    let Some(browser) = Browser::start() else { return };
    browser.open(&page_of(&example::lost_write()), "#step=0");
    assert_quiet(&browser);
    browser.run("console.error('planted')");
    let complaints = browser.complaints();
    assert_eq!(complaints.len(), 1, "{complaints:?}");
    assert!(complaints[0].contains("planted"));
    browser.run("fetch('http://127.0.0.1:9/planted').catch(() => {})");
    browser.drawn();
    let complaints = browser.complaints().join("\n");
    assert!(complaints.contains("Content Security Policy"), "{complaints}");
    assert_eq!(browser.requests(), [""; 0], "the policy stops it before it leaves");
}

/// ShiViz runs the expression in the first line over the rest, as JavaScript does.
#[test]
fn a_log_for_shiviz_is_taken_apart_by_its_expression() {
    let Some(browser) = Browser::start() else { return };
    for trace in [example::lost_write(), example::evil()] {
        let mut log = Vec::new();
        shiviz(&trace, &mut log).expect("memory takes all");
        let log = json!(String::from_utf8(log).expect("UTF-8"));
        let script = format!(
            "const [parser, delimiter, ...log] = {log}.split('\\n');
             const found = [...log.join('\\n').trim().matchAll(new RegExp(parser, 'gm'))];
             if (delimiter !== '') throw new Error('a delimiter');
             return found.map(({{ groups }}) =>
               [Number(groups.step), JSON.parse(groups.clock)[groups.host] > 0, groups.event]);"
        );
        let found = browser.run(&script);
        let found = found.as_array().expect("events");
        assert_eq!(found.len(), trace.steps.len());
        for (at, event) in found.iter().enumerate() {
            assert_eq!((&event[0], &event[1]), (&json!(at), &json!(true)), "{event}");
            assert_ne!(event[2], "", "step {at}");
        }
    }
}

#[test]
fn twenty_thousand_steps_do_not_hang() {
    let Some(browser) = Browser::start() else { return };
    let trace = example::by_lot(1, 5, 20_000);
    browser.open(&page_of(&trace), "#step=9000");
    assert_eq!(selected(&browser), 9_000);
    let strokes = ['j', key::END, 'k', key::PAGE_UP, '-', '-', '-', '-', key::HOME, '0', '+', '1'];
    for stroke in strokes {
        let begun = Instant::now();
        browser.press(&[stroke]);
        let took = begun.elapsed();
        assert!(took < KEY_TIME_MAX, "{took:?} after {}", stroke.escape_unicode());
        let elements = count(&browser, "*");
        assert!(elements < ELEMENTS_MAX, "{elements} after {}", stroke.escape_unicode());
    }
    browser.press(&[key::END]);
    assert_eq!(selected(&browser), 19_999);
    assert_eq!(state_shown(&browser), state_after(&trace, 19_999));
    assert_quiet(&browser);
}
