//! `quorate fd`: what it prints, what it refuses, and with which status.

use std::process::{Command, Output};

fn fd(words: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_quorate");
    Command::new(program).arg("fd").args(words).output().expect("it runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn complaint(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn bench_prints_all_detectors_at_equal_detection_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let plot = directory.path().join("plot.svg");
    let words = ["bench", "--trace", "normal", "--heartbeats", "5000", "--json", "--plot"];
    let words = [&words[..], &[plot.to_str().expect("text")]].concat();
    let output = fd(&words);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let rows: serde_json::Value = serde_json::from_str(&out(&output)).expect("JSON");
    let detection = rows[0]["detection_seconds"].as_f64().expect("a number");
    let detectors = rows[0]["detectors"].as_array().expect("rows");
    assert_eq!(detectors[0]["detector"], "fixed");
    assert!(detectors.len() >= 5, "{detectors:?}");
    for row in detectors {
        assert!(row["detection_mean"].as_f64().expect("a number") <= detection, "{row}");
    }
    let picture = std::fs::read_to_string(&plot).expect("a plot");
    assert!(picture.starts_with("<svg") && picture.contains("<polyline"));
    assert_eq!(out(&fd(&words)), out(&output), "the same seed is the same bench");
}

#[test]
fn a_trace_of_ones_own_is_measured() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("mine.txt");
    let delays = (0..1_000).map(|at| if at % 97 == 0 { "lost\n" } else { "4.5\n" });
    std::fs::write(&file, format!("every 50ms\n{}", delays.collect::<String>())).expect("written");
    let output = fd(&["bench", "--trace", file.to_str().expect("text")]);
    let text = out(&output);
    assert!(text.starts_with("trace mine: 1000 heartbeats, delay 4.5 ms"), "{text}");
    assert!(text.contains("chen"), "{text}");
}

#[test]
fn tune_solves_and_says_what_is_infeasible() {
    let target = ["tune", "--target", "detection<=1s,mistakes<=1/day"];
    let link = ["--loss", "1%", "--mean", "20ms", "--deviation", "6ms"];
    let output = fd(&[&target[..], &link].concat());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(out(&output).contains("margin") && out(&output).contains("0 mistakes"), "{output:?}");
    let words = ["tune", "--target", "detection<=30ms,mistakes<=1/day", "--trace", "loss"];
    let output = fd(&words);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(out(&output).contains("infeasible  mistakes would come too often"), "{output:?}");
    let output = fd(&["tune", "--target", "detection<=1ms,mistakes<=1/day", "--trace", "loss"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(out(&output).contains("no detector can"), "{output:?}");
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    let broken = directory.path().join("broken.txt");
    std::fs::write(&broken, "every 100ms\n1\n2\nsoon\n").expect("written");
    let broken = broken.to_str().expect("text");
    assert!(complaint(&fd(&["bench", "--trace", broken])).contains("line 4: 'soon' is no delay"));
    let nowhere = complaint(&fd(&["bench", "--trace", "nowhere"]));
    assert!(nowhere.contains("synthetic traces are normal"), "{nowhere}");
    let fast = ["bench", "--trace", "normal", "--heartbeats", "2000", "--detection", "1us"];
    assert!(complaint(&fd(&fast)).contains("no detector is so fast"));
    assert!(complaint(&fd(&["bench", "--heartbeats", "3"])).contains("3"));
    assert!(complaint(&fd(&["bench", "--detection=-1s"])).contains("-1s"));
    let tune = |target: &str| complaint(&fd(&["tune", "--target", target, "--trace", "loss"]));
    assert!(tune("detection<=0s,mistakes<=1/day").contains("more than nothing"));
    assert!(tune("mistakes<=1/day").contains("nothing is said of 'detection'"));
    assert!(tune("detection<=1s,mistakes<=-1/day").contains("above zero"));
    assert!(
        complaint(&fd(&["tune", "--target", "detection<=1s,mistakes<=1/day"])).contains("--trace")
    );
}
