//! `quorate check` as a user runs it: verdicts, exit status, complaints, the page.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../check/tests/data").join(name)
}

fn check(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_quorate"));
    command.arg("check").args(words).output().expect("the binary runs")
}

fn check_file(name: &str, more: &[&str]) -> Output {
    let path = data(name);
    let mut words = vec![path.to_str().expect("a path")];
    words.extend(more);
    check(&words)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn assert_verdict(name: &str, more: &[&str], word: &str, status: i32) -> String {
    let output = check_file(name, more);
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{name}: {out}{err}");
    assert!(out.contains(word), "{name}: {out}{err}");
    out
}

fn assert_complaint(name: &str, more: &[&str], what: &str) {
    let output = check_file(name, more);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{name}: {err}");
    assert!(err.contains(what), "{name}: {err}");
}

#[test]
fn a_stale_read_is_told_with_the_operations_that_contradict_each_other() {
    let out = assert_verdict("stale.edn", &[], "violated", 1);
    for line in ["read -> 3", "read -> 2", "fits nowhere", "contradicts it"] {
        assert!(out.contains(line), "{out}");
    }
    assert!(!out.contains("write 1"), "the first write has nothing to do with it: {out}");
}

#[test]
fn other_models_and_formats_are_found_by_their_content() {
    assert_verdict("queue.edn", &[], "holds", 0);
    assert_verdict("map.ndjson", &[], "revisions", 0);
    let out = assert_verdict("map-wrong.ndjson", &[], "violated", 1);
    assert!(out.contains("2 deleted' was answered, but the state gives"), "{out}");
}

#[test]
fn json_is_one_array() {
    let output = check_file("stale.edn", &["--json"]);
    let rows: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(rows[0]["verdict"], "violated");
    assert_eq!(rows[0]["minimal"], true);
    let conflict = rows[0]["conflict"].as_array().expect("operations");
    assert!(conflict.iter().any(|bar| bar["role"] == "stuck"), "{rows}");
}

#[test]
fn the_page_needs_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("page.html");
    let output = check_file("stale.edn", &["--html", page.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(1));
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("<svg") && page.contains("class=\"Stuck\""));
    assert!(!page.contains("http"), "no address in it");
    let nowhere = folder.path().join("no/such/page.html");
    let output = check_file("stale.edn", &["--html", nowhere.to_str().expect("a path")]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn bad_input_is_refused_with_line_and_column() {
    assert_complaint("cut.edn", &[], "cut.edn:6:44: what begins at 6:1 is not closed with '}'");
    assert_complaint("stale.edn", &["--model", "queue"], "1:1: a queue knows no :write");
    assert_complaint("stale.edn", &["--model", "map"], "--format json");
    assert_complaint("stale.edn", &["--format", "json"], "1:2: ");
    assert_complaint("map.ndjson", &["--model", "set"], "this is a history of a map");
    assert_complaint("porcupine/README.md", &[], "the format is not known");
    assert_complaint("nothing-there", &[], "nothing-there: ");
    let status = |words: &[&str]| check(words).status.code();
    assert_eq!(status(&[]), Some(2), "a file is needed");
    assert_eq!(status(&["x", "--model", "heap"]), Some(2));
    assert_eq!(status(&["x", "--budget-steps", "0"]), Some(2));
}

#[test]
fn a_spent_budget_is_undecided_and_says_how_far_it_got() {
    let more = ["--budget-steps", "20"];
    let out = assert_verdict("porcupine/etcd/etcd_099.log", &more, "undecided", 2);
    assert!(out.contains("the budget of steps is spent; "), "{out}");
}

/// Checks every file that the table of a README names.
fn assert_verdicts(folder: &Path) {
    let table = std::fs::read_to_string(folder.join("README.md")).expect("a README");
    let mut files = Vec::new();
    let mut expected = Vec::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('*')).collect();
        let path = folder.join(cells[1].trim_matches('`'));
        let is_bad = cells.contains(&"bad");
        if path.is_file() && (is_bad || cells.contains(&"ok")) {
            files.push(path.to_str().expect("a path").to_owned());
            expected.push(if is_bad { "violated" } else { "holds" });
        }
    }
    assert!(!files.is_empty(), "no file of {} is there", folder.display());
    let mut words: Vec<&str> = files.iter().map(String::as_str).collect();
    words.push("--json");
    let output = check(&words);
    let rows: Value = serde_json::from_slice(&output.stdout).expect("json");
    let rows = rows.as_array().expect("an array");
    assert_eq!(rows.len(), files.len());
    for ((row, file), expected) in rows.iter().zip(&files).zip(expected) {
        assert_eq!(row["verdict"], expected, "{file}");
    }
}

#[test]
fn all_verdicts_on_recorded_histories_are_right() {
    assert_verdicts(&data("porcupine"));
    match std::env::var_os("QUORATE_HISTORIES") {
        Some(folder) => assert_verdicts(Path::new(&folder)),
        None => println!("SKIPPED: QUORATE_HISTORIES names no folder with more histories"),
    }
}
