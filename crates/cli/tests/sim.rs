//! `quorate sim` as a user meets it: verdicts, exit status, repetition, stories, bad input.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const STRONG: &str = "network=reliable,node=crash-stop,timing=synchronous";

/// Words in a directory of their own, so that what is written lies there.
fn sim_in(directory: &Path, words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("sim")
        .args(words.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("the binary runs")
}

fn sim(words: &str) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    sim_in(directory.path(), words)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn json(output: &Output) -> Value {
    serde_json::from_str(&stdout(output)).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn bad_input_is_one_clear_line_and_exit_status_2() {
    let cases = [
        ("--model gravity=off", "'gravity=off' is no part of a system model"),
        ("--model network=reliable,network=arbitrary", "two things of 'network'"),
        ("--faults gremlins", "--faults: 'gremlins' is no fault; there are loss"),
        ("--model network=reliable --faults loss", "forbids the fault 'loss'; name a weaker model"),
        ("--faults loss,none", "'none' is no fault"),
        ("--protocol paxos-made-moderately-complex", "there are service, "),
        ("--protocol register --workload nothing", "'register' has no 'nothing'; it has mixed"),
        ("--seeds 7..3", "write 0..1000"),
        ("--seed 1 --seeds 0..5", "cannot be used with"),
        ("--shard 4/4", "write 0/4 to 3/4"),
        ("--seeds 5..6 --shard 0/4", "0/4 has none of the seeds 5..6"),
        ("--nodes 0", "0 is not in 1..=25"),
        ("--for soon", "write 10s, 2m or 500ms"),
        ("--jobs 0", "0 is not in 1..="),
        ("--replay no-such-file", "no-such-file: No such file"),
        ("merge", "<FILES>"),
        ("merge no-such-file", "no-such-file: No such file"),
    ];
    for (words, expected) in cases {
        let output = sim(words);
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{words}: {error}");
        assert!(error.contains(expected), "{words}: {error}");
        assert_eq!(stdout(&output), "", "{words}");
        let ours = error.lines().filter(|line| line.starts_with("quorate: ")).count();
        assert!(ours <= 1 && error.lines().count() <= 8, "{words}: {error}");
    }
}

#[test]
#[cfg(not(feature = "mutants"))]
fn a_build_without_planted_bugs_says_how_to_make_one_that_has_them() {
    for words in ["--mutants", "--mutants vote-twice"] {
        let output = sim(words);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("--features mutants"), "{}", stderr(&output));
    }
}

#[test]
fn a_protocol_in_its_model_holds_and_the_verdict_says_what_was_done() {
    let output = sim(&format!("--protocol register --model {STRONG} --seeds 0..60 --jobs 2"));
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(stderr(&output), "", "nothing to be warned of");
    let shown = [
        "protocol    register, workload mixed",
        STRONG,
        "seeds       0..60",
        "in 60 runs",
        "crash-stop ",
        "a backup serves ",
        "checked     read-your-acknowledged",
        "verdict     0 violations",
    ];
    for word in shown {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn outside_of_its_model_a_protocol_is_run_with_a_warning_and_breaks() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = sim_in(directory.path(), "--protocol register --seeds 0..100");
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(stderr(&output).contains("outside of the model of register"), "{}", stderr(&output));
    for word in ["verdict     1 violation", "breaks 'read-your-acknowledged'", "VIOLATION"] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let bundle = only_directory(&directory.path().join("quorate-sim"));
    for name in ["story.txt", "page.html", "trace.ndjson", "shiviz.log", "choices.json"] {
        let length = bundle.join(name).metadata().expect("it is written").len();
        assert!(length > 100, "{name}: {length} bytes");
    }
    // The line that says how to run it again is true, for the story and for the seed.
    for row in ["replay", "again"] {
        let line = text.lines().find(|line| line.starts_with(row)).expect("there is such a line");
        let words = line[row.len()..].trim().strip_prefix("quorate sim ").expect("a command");
        let again = sim_in(directory.path(), words);
        assert_eq!(again.status.code(), Some(1), "{words}: {}", stderr(&again));
        let said = stdout(&again);
        assert!(said.contains("VIOLATION"), "{words}: {said}");
        assert!(!stderr(&again).contains("another run"), "{words}: {}", stderr(&again));
    }
}

fn only_directory(at: &Path) -> PathBuf {
    let found = std::fs::read_dir(at).expect("counter-examples are written here");
    let mut found: Vec<PathBuf> = found.map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

#[test]
fn a_seed_is_the_same_run_in_every_process_with_any_number_of_threads() {
    for words in ["--seed 7", "--protocol raft --seed 7", "--protocol register --seed 0"] {
        let words = format!("{words} --sim-time 2s --json --shrink 0s");
        let (one, other) = (sim(&words), sim(&words));
        assert_eq!(stdout(&one), stdout(&other), "{words}");
        assert!(!json(&one)["digest"].as_str().expect("a digest").is_empty());
    }
    for seeds in ["--protocol raft --seeds 0..24", "--protocol register --seeds 0..24"] {
        let run = |jobs| {
            let output = sim(&format!("{seeds} --sim-time 1s --json --shrink 0s --jobs {jobs}"));
            (output.status.code(), stdout(&output))
        };
        assert_eq!(run(1), run(2), "{seeds}");
    }
}

#[test]
fn every_seed_of_every_protocol_is_the_same_when_it_is_run_twice() {
    for protocol in ["service", "raft"] {
        let words = format!("--protocol {protocol} --seeds 0..6 --sim-time 2s --twice --json");
        let output = sim(&words);
        let leaks = json(&output)["violations"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|found| found["property"] == "determinism");
        assert!(!leaks, "{}", stdout(&output));
    }
}

#[test]
fn shards_are_merged_into_what_one_machine_would_have_found() {
    let directory = tempfile::tempdir().expect("a directory");
    let common = format!("--protocol register --model {STRONG} --sim-time 3s --json");
    let whole = json(&sim(&format!("{common} --seeds 0..30")));
    for shard in 0..3 {
        let output = sim(&format!("{common} --seeds 0..30 --shard {shard}/3"));
        let file = directory.path().join(format!("{shard}.json"));
        std::fs::write(file, output.stdout).expect("it can be written");
    }
    let output = sim_in(directory.path(), "merge 2.json 0.json 1.json --json");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let merged = json(&output);
    for field in ["tally", "digest", "violations", "missing", "plan", "protocol"] {
        assert_eq!(merged[field], whole[field], "{field}");
    }
    let table = stdout(&sim_in(directory.path(), "merge 0.json 1.json 2.json"));
    assert!(table.contains("0..30 (shard 1/3)") && table.contains("0 violations"), "{table}");

    let other = sim("--protocol register --seeds 40..41 --sim-time 3s --json --shrink 0s");
    std::fs::write(directory.path().join("other.json"), other.stdout).expect("it can be written");
    std::fs::write(directory.path().join("garbage.json"), "{\"a\":1}").expect("it can be written");
    let newer = r#"{"quorate_campaign":99}"#;
    std::fs::write(directory.path().join("newer.json"), newer).expect("it can be written");
    let refused = [
        ("merge 0.json 0.json", "seed 0 was run by both"),
        ("merge 0.json other.json", "the plan is"),
        ("merge garbage.json", "this is nothing that 'quorate sim --json' prints"),
        ("merge 0.json newer.json", "this is version 99, and this build reads version 1"),
        ("--replay newer.json", "this is no choices.json"),
    ];
    for (words, expected) in refused {
        let output = sim_in(directory.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        assert!(stderr(&output).contains(expected), "{words}: {}", stderr(&output));
    }
}

#[test]
fn a_clock_ends_a_campaign_that_has_no_seeds() {
    let output = sim(&format!("--protocol register --model {STRONG} --for 300ms --json"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report = json(&output);
    let runs = report["tally"]["runs"].as_u64().expect("a number");
    assert!(runs > 10, "{runs} runs");
    assert_eq!(report["seeds"][0]["to"].as_u64(), Some(runs), "from 0, without a gap");
}
