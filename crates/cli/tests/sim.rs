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
        (
            "--model network=reliable --faults loss",
            "network=reliable forbids the fault 'loss', and network=fair-loss permits it",
        ),
        ("--faults starve", "timing=partial forbids the fault 'starve', and timing=asynchronous"),
        ("--faults loss,none", "'none' stands alone"),
        ("--faults loss,loss", "'loss' is named twice"),
        ("--faults los", "'los' is no fault (did you mean 'loss'?); 'quorate sim list' names all"),
        ("--model network=fairloss", "did you mean 'network=fair-loss'?"),
        ("--model byzantine", "did you mean 'node=byzantine'?"),
        (
            "--protocol servise",
            "there is no 'servise' (did you mean 'service'?); there are service",
        ),
        ("--workload lok", "'service' has no 'lok' (did you mean 'lock'?); it has mixed"),
        ("--seed abc", "a seed is a whole number from 0 to 18446744073709551614"),
        ("--seed 18446744073709551615", "a seed is a whole number from 0 to 18446744073709551614"),
        ("--sim-time 25h", "a run lasts a day at most"),
        ("--sim-time 18446744073709551615", "a run lasts a day at most"),
        ("--buggify maybe", "write on or off"),
        ("--show", "--seed"),
        ("--replay /dev/zero", "/dev/zero: this is no regular file"),
        ("--replay .", ".: this is a directory; name a file in it"),
        ("merge /dev/zero", "/dev/zero: this is no regular file"),
        ("merge .", ".: this is a directory"),
        ("--seed 1 --out /dev/null", "/dev/null"),
        ("--seed 1 --out /dev/null/x", "name another directory with --out"),
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

/// A violation, and the directory of its files.
fn register_breaks(directory: &Path, more: &str) -> (Output, PathBuf) {
    let words = format!("--protocol register --seeds 0..100 --shrink 1s {more}");
    let output = sim_in(directory, &words);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    (output, only_directory(&directory.join("quorate-sim")))
}

#[test]
fn every_field_of_a_choices_file_is_looked_at_before_it_is_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, bundle) = register_breaks(directory.path(), "");
    let text = std::fs::read_to_string(bundle.join("choices.json")).expect("it is written");
    let written: Value = serde_json::from_str(&text).expect("JSON");
    let cases = [
        ("/plan/nodes", serde_json::json!([99_999_999]), "nodes: 99999999 is not in 1..=25"),
        ("/plan/nodes", serde_json::json!([]), "nodes: it names 0 numbers"),
        ("/plan/safety", u64::MAX.into(), "safety: 18446744073709551615 is not in 0..="),
        ("/plan/liveness", u64::MAX.into(), "liveness: 18446744073709551615 is not in 1..="),
        ("/plan/delay_max", u64::MAX.into(), "delay_max: 18446744073709551615 is not in"),
        ("/plan/step_max", u64::MAX.into(), "step_max: 18446744073709551615 is not in"),
        ("/plan/drift", i64::MIN.into(), "drift: -9223372036854775808 is not in"),
        ("/plan/faults", serde_json::json!(["forge"]), "network=fair-loss forbids the fault"),
        ("/plan/faults", serde_json::json!(["crsh"]), "did you mean 'crash'?"),
        ("/plan/model", "network=fairloss".into(), "did you mean 'network=fair-loss'?"),
        ("/plan/buggify", "perhaps".into(), "unknown variant `perhaps`"),
        ("/protocol", "regster".into(), "did you mean 'register'?"),
        ("/workload", "mixt".into(), "did you mean 'mixed'?"),
        ("/property", "livenes".into(), "did you mean 'liveness'?"),
        ("/seed", (-1).into(), "invalid value: integer `-1`"),
        ("/sites", "none".into(), "invalid type: string"),
        ("/mutant", "no-such".into(), ""),
        ("/digest", "0".into(), "this is another run than the one that was written down"),
    ];
    for (field, value, expected) in cases {
        let mut altered = written.clone();
        *altered.pointer_mut(field).expect("there is such a field") = value;
        let file = directory.path().join("altered.json");
        std::fs::write(file, altered.to_string()).expect("it can be written");
        let output = sim_in(directory.path(), "--replay altered.json");
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{field}: {error}");
        assert!(error.contains(expected), "{field}: {error}");
        assert!(!error.contains("panicked"), "{field}: {error}");
    }
    // What an editor puts before a text changes nothing.
    std::fs::write(directory.path().join("marked.json"), format!("\u{feff}{text}"))
        .expect("written");
    let output = sim_in(directory.path(), "--replay marked.json");
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

#[test]
fn what_no_campaign_prints_is_not_merged() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = sim(&format!("--protocol register --model {STRONG} --seeds 0..3 --json"));
    let written = json(&output);
    let cases = [
        ("/seeds/0/of", serde_json::json!(0), "there is no shard 0/0"),
        ("/seeds/0/index", u64::MAX.into(), "there is no shard 18446744073709551615/1"),
        ("/seeds/0/to", 0.into(), "it counts 3 runs, and names 0 seeds"),
        ("/seeds/0/from", 9.into(), "end before they begin"),
        ("/tally/events", u64::MAX.into(), "its count of \"events\" is larger"),
        ("/tally/runs", u64::MAX.into(), "its count of \"runs\" is larger"),
        ("/plan/nodes", serde_json::json!([0]), "nodes: 0 is not in 1..=25"),
        ("/protocol", "regster".into(), "did you mean 'register'?"),
        ("/digest", "x".into(), "is no number in hexadecimal"),
    ];
    for (field, value, expected) in cases {
        let mut altered = written.clone();
        *altered.pointer_mut(field).expect("there is such a field") = value;
        std::fs::write(directory.path().join("a.json"), altered.to_string()).expect("written");
        let output = sim_in(directory.path(), "merge a.json");
        let error = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{field}: {error}");
        assert!(error.starts_with("quorate: a.json: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_merge_names_what_was_not_run() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, seeds) in [("0", "0..30 --shard 0/3"), ("2", "0..30 --shard 2/3"), ("x", "40..42")] {
        let words = format!("--protocol register --model {STRONG} --sim-time 1s --seeds {seeds}");
        let output = sim(&format!("{words} --json"));
        let file = directory.path().join(format!("{name}.json"));
        std::fs::write(file, output.stdout).expect("it can be written");
    }
    let text = stdout(&sim_in(directory.path(), "merge 0.json 2.json"));
    assert!(text.contains("\n  not run   0..30 (shard 1/3)\n"), "{text}");
    let merged = json(&sim_in(directory.path(), "merge 0.json 2.json --json"));
    let missing = serde_json::json!([{ "from": 0, "to": 30, "index": 1, "of": 3 }]);
    assert_eq!(merged["unrun"], missing);
    let merged = json(&sim_in(directory.path(), "merge 0.json x.json --json"));
    assert_eq!(merged["unrun"].as_array().map(Vec::len), Some(3), "{}", merged["unrun"]);
    let whole = json(&sim_in(directory.path(), "merge x.json --json"));
    assert_eq!(whole["unrun"], serde_json::json!([]));
}

#[test]
fn a_story_is_told_even_if_it_cannot_be_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, bundle) = register_breaks(directory.path(), "");
    std::fs::remove_dir_all(&bundle).expect("it can be removed");
    std::fs::write(&bundle, "in the way").expect("it can be written");
    let (output, _) = register_breaks(directory.path(), "");
    let text = stdout(&output);
    assert!(
        text.contains("VIOLATION") && text.contains("none: they could not be written"),
        "{text}"
    );
    assert!(!text.contains("page.html"), "{text}");
    assert!(stderr(&output).contains("The story is told without its files"), "{}", stderr(&output));
    let (output, _) = register_breaks(directory.path(), "--json");
    assert_eq!(json(&output)["story"]["directory"], Value::Null);
    // One that can not be made at all is noticed before anything runs.
    let output =
        sim_in(directory.path(), &format!("--seeds 0..99999999 --out {}", bundle.display()));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_seed_under_another_model_has_another_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, first) = register_breaks(directory.path(), "");
    let name = first.file_name().expect("a name").to_string_lossy().into_owned();
    let seed = name.split('-').nth(1).expect("a seed").to_owned();
    for more in ["--model timing=asynchronous", "--nodes 5", "--faults crash,partition,kill"] {
        for seed in [&seed, "0", "1", "2", "3"] {
            sim_in(
                directory.path(),
                &format!("--protocol register --seed {seed} --shrink 0s {more}"),
            );
        }
    }
    let entries = std::fs::read_dir(directory.path().join("quorate-sim")).expect("stories");
    let same = entries.filter(|entry| {
        let name = entry.as_ref().expect("an entry").file_name();
        name.to_string_lossy().starts_with(&format!("register-{seed}-"))
    });
    assert!(same.count() > 1, "seed {seed} breaks under another plan as well");
    assert!(first.join("choices.json").exists());
}

#[test]
fn a_run_that_holds_can_be_looked_at_and_replayed() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = sim_in(
        directory.path(),
        &format!("--protocol register --model {STRONG} --seed 4 --sim-time 1s --show"),
    );
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(text.contains("\nfiles ") && text.contains("\nreplay "), "{text}");
    let bundle = only_directory(&directory.path().join("quorate-sim"));
    let story = std::fs::read_to_string(bundle.join("story.txt")).expect("a story");
    assert!(story.contains("verdict   no property broke"), "{story}");
    let file = bundle.join("choices.json");
    let output = sim_in(directory.path(), &format!("--replay {} --json", file.display()));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let outcome = json(&output);
    assert_eq!(outcome["is_same"], true);
    assert_eq!(outcome["head"]["property"], Value::Null);
    let steps = outcome["steps"].as_array().expect("steps").len();
    assert_eq!(story.lines().count() - steps, 10, "the head, and a line for each step");
    assert!(outcome["tally"]["events"].as_u64() > Some(0));
    // Without the flag nothing is written, and no empty directory stays.
    let other = tempfile::tempdir().expect("a directory");
    sim_in(other.path(), &format!("--protocol register --model {STRONG} --seed 4 --sim-time 1s"));
    assert_eq!(std::fs::read_dir(other.path()).expect("a directory").count(), 0);
}

#[test]
fn a_replay_as_data_is_the_whole_outcome() {
    let directory = tempfile::tempdir().expect("a directory");
    let (_, bundle) = register_breaks(directory.path(), "");
    let file = bundle.join("choices.json");
    let output = sim_in(directory.path(), &format!("--replay {} --json", file.display()));
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let outcome = json(&output);
    let steps = outcome["steps"].as_array().expect("steps");
    assert_eq!(steps.last().expect("a step")["kind"], "violation");
    assert_eq!(outcome["head"]["property"], "read-your-acknowledged");
    assert_eq!(outcome["broken_at"], steps.last().expect("a step")["at"]);
    assert_eq!(outcome["tally"]["runs"], 1);
}

#[test]
fn a_comparison_says_what_was_compared() {
    let words = format!("--protocol register --model {STRONG} --seeds 0..7 --sim-time 1s --twice");
    let text = stdout(&sim(&words));
    assert!(text.contains("twice       7 seeds were run again, with equal digests"), "{text}");
    assert_eq!(json(&sim(&format!("{words} --json")))["compared"], 7);
    let once = json(&sim("--protocol register --seeds 0..1 --sim-time 1s --json --shrink 0s"));
    assert_eq!(once.get("compared"), None);
}

#[test]
fn outside_of_a_model_the_axes_are_named_and_what_would_be_inside() {
    let output = sim("--protocol register --model timing=synchronous --seed 0 --sim-time 100ms");
    let expected = "outside of the model of register: network=fair-loss where it needs \
                    network=reliable, node=crash-recovery where it needs node=crash-stop; \
                    violations are to be expected (inside it: --model \
                    network=reliable,node=crash-stop,timing=synchronous)";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[test]
fn rare_paths_are_a_switch_that_every_head_tells() {
    let plan = |words: &str| {
        let words = format!("--seed 3 --sim-time 100ms --json --shrink 0s {words}");
        let report = json(&sim(&words));
        (report["plan"]["buggify"].clone(), report["digest"].clone())
    };
    let (on, calm) = (plan("--faults none --buggify on"), plan("--faults none"));
    assert_eq!((&on.0, &calm.0), (&"on".into(), &"off".into()));
    assert_eq!(plan("").0, "on");
    assert_eq!(plan("--buggify off").0, "off");
    let text = stdout(&sim("--seed 3 --sim-time 100ms --faults none"));
    assert!(text.contains("\nbuggify     off\n"), "{text}");
    let list = stdout(&sim("list"));
    assert!(list.contains("\nSWITCHES\n  buggify ") && list.contains("off with --faults none"));
    assert_eq!(json(&sim("list --json"))["switches"][0]["name"], "buggify");
    let directory = tempfile::tempdir().expect("a directory");
    for (words, expected) in [("--buggify on", "buggify: members take"), ("", "buggify is off")] {
        let words = format!("--seed 3 --sim-time 100ms --faults none --show {words}");
        let output = sim_in(directory.path(), &words);
        let line = stdout(&output);
        let file = line.lines().find_map(|line| line.strip_prefix("files ")).expect("files");
        let file = file.trim().split(':').next().expect("a directory");
        let story = directory.path().join(file).join("story.txt");
        let story = std::fs::read_to_string(story).expect("a story");
        assert!(story.contains(expected) || expected != "buggify is off", "{story}");
        assert!(story.contains("buggify"), "{story}");
    }
}

#[test]
fn help_has_examples_and_says_what_its_words_mean() {
    for (words, expected) in [
        ("--help", &["Examples:", "--show", "--buggify", "An event is", "Exit status:"][..]),
        ("merge --help", &["Examples:", "not run", "Exit status:"]),
        ("list --help", &["Examples:", "Exit status:"]),
    ] {
        let text = stdout(&sim(words));
        for part in expected {
            assert!(text.contains(part), "{words}: {part}: {text}");
        }
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{words}: {widest:?}");
    }
}
