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
    for line in [
        "read -> 3",
        "has no place in any order: it and 2 others contradict each other",
        "read -> 2         [9, 10]  has no place in any order\n",
        "contradicts it\n",
        "must have happened, or more would be unexplained\n",
    ] {
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

#[test]
fn what_is_no_history_is_refused_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("it can be written");
        path.to_str().expect("a path").to_owned()
    };
    let hole = file("hole", b"");
    let opened = std::fs::OpenOptions::new().write(true).open(&hole).expect("it is there");
    opened.set_len(1 << 42).expect("a hole");
    let zeros = file("zeros", b"");
    let opened = std::fs::OpenOptions::new().write(true).open(&zeros).expect("it is there");
    opened.set_len(7 << 30).expect("a hole");
    let mixed = "{:process 0, :type :invoke, :f :write, :value 3}\n\
                 {:process 0, :type :ok, :f :write, :value 4}\n";
    let cases = [
        (folder.path().to_str().expect("a path").to_owned(), "this is a directory"),
        ("/dev/zero".to_owned(), "this is no regular file"),
        (hole, "this is larger than the 8192 MiB"),
        (zeros, "zeros:1:1: this is no text"),
        (file("utf16", b"\xff\xfe{\0"), "this is text in UTF-16; convert it"),
        (
            file("mixed.edn", mixed.as_bytes()),
            "mixed.edn:2:43: this :ok of a :write has the value 4",
        ),
    ];
    for (path, expected) in cases {
        let output = check(&[&path, "--json"]);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{path}: {error}");
        assert!(error.contains(expected), "{path}: {error}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_history() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["stale.edn", "map.ndjson"] {
        let history = std::fs::read_to_string(data(name)).expect("a history");
        let path = folder.path().join(name);
        std::fs::write(&path, format!("\u{feff}{history}")).expect("it can be written");
        let marked = check(&[path.to_str().expect("a path")]);
        assert_eq!(marked.status.code(), check_file(name, &[]).status.code(), "{name}");
    }
}

#[test]
fn a_file_that_cannot_be_read_has_a_row_of_its_own() {
    let (holds, violated) = (data("queue.edn"), data("stale.edn"));
    let [holds, violated] = [&holds, &violated].map(|path| path.to_str().expect("a path"));
    let output = check(&["no-such", holds, "--json"]);
    assert_eq!(output.status.code(), Some(2), "one could not be judged");
    let rows: Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(rows[0]["file"], "no-such");
    assert_eq!(rows[0]["verdict"], "unread");
    assert!(rows[0]["why"].as_str().is_some_and(|why| why.starts_with("No such file")), "{rows}");
    assert_eq!(rows[1]["verdict"], "holds");
    let output = check(&["no-such", violated, holds]);
    assert_eq!(output.status.code(), Some(1), "a violation is one, whatever else is not known");
    let out = text(&output.stdout);
    assert!(out.contains("no-such") && out.contains("  unread\n"), "{out}");
    assert!(out.contains("1 hold, 1 violated, 0 undecided, 1 unread; "), "{out}");
}

#[test]
fn help_says_what_decides_the_exit_status() {
    let out = text(&check(&["--help"]).stdout);
    for part in ["Examples:", "Exit status: 1 if one is violated", "unread", "up to 8 GiB"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 100), "{out}");
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
