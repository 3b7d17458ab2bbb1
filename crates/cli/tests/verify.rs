//! Whether a data directory is whole, told without a member and without a change; and that no
//! flipped byte goes unnoticed that would matter.

mod support;

use quorate_server::verify::{Report, Start, verify};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::cluster::{Cluster, Settings, binary};
use support::files::{copy_tree, data_end, files_below, flip_bit};
use support::{client::fill, report, seed::Seed};
use tempfile::TempDir;

/// Bytes that are flipped, one after another.
const PLACEMENTS: usize = 10_000;
/// Of those, members that are started again by their cluster.
const RESTARTS: usize = 12;

/// Some checkpoints, several segments: small, so that there is something of everything.
fn settings(members: usize) -> Settings {
    Settings::of(members).with("--checkpoint-bytes", 64 << 10).with("--log-retain-bytes", 32 << 10)
}

/// What `quorate verify` says of a directory, and its exit status.
fn said(dir: &Path) -> (String, i32) {
    let output = Command::new(binary()).arg("verify").arg(dir).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (text, output.status.code().expect("it ends by itself"))
}

fn snapshot(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let read = |(file, _): (PathBuf, u64)| (file.clone(), fs::read(file).expect("a file"));
    files_below(dir).into_iter().map(read).collect()
}

#[tokio::test]
async fn a_directory_is_judged_and_left_as_it_is() {
    let mut cluster = Cluster::start(settings(3)).await;
    fill(&cluster.client(0), "k", 400, 256).await;
    let dir = cluster.members[1].data_dir.clone();
    let (words, status) = said(&dir);
    assert_eq!(status, 2, "{words}");
    assert!(words.contains("a member runs with"), "{words}");
    // Killed, so that its log ends as a crash leaves it.
    cluster.kill(1);
    let before = snapshot(&dir);
    let (words, status) = said(&dir);
    assert_eq!((status, words.lines().last()), (0, Some("whole")), "{words}");
    assert!(words.contains(" whole\n") && words.contains("a member starts with"), "{words}");
    assert!(snapshot(&dir) == before, "a look changed something");
    let newest = files_below(&dir.join("member/checkpoints"));
    let newest = newest.iter().filter(|(file, bytes)| *bytes > 10_000 && is_data(file)).next_back();
    flip_bit(&newest.expect("a checkpoint").0, 5_000);
    let (words, status) = said(&dir);
    assert_eq!((status, words.lines().last()), (1, Some("damaged")), "{words}");
    assert!(words.contains("damaged: the checkpoint at"), "{words}");
    let json = Command::new(binary()).arg("verify").arg(&dir).arg("--json").output();
    let json: Value = serde_json::from_slice(&json.expect("it runs").stdout).expect("JSON");
    assert_eq!(json["damage"].as_array().map(Vec::len), Some(1), "{json}");
    assert_eq!(json["start"]["yes"]["from_peers"], 0, "the log has it all: {json}");
    cluster.spawn(1);
    cluster.wait_ready().await;
    cluster.wait_agreement().await;
}

fn is_data(file: &Path) -> bool {
    !file.ends_with("LOCK")
}

#[test]
fn what_is_no_data_is_said_so() {
    let dir = TempDir::new().expect("a directory");
    let (words, status) = said(dir.path());
    assert_eq!(status, 2, "{words}");
    assert!(words.contains("holds no data of a member: give the directory that --data-dir"));
    fs::create_dir_all(dir.path().join("member")).expect("a directory");
    fs::write(dir.path().join("member/identity"), "nonsense").expect("a file");
    let (words, status) = said(dir.path());
    assert!(status == 2 && words.contains("the identity file is damaged"), "{words}");
}

/// What came of a flipped byte.
#[derive(Debug, Default)]
struct Tally {
    named: usize,
    refused: usize,
    harmless: usize,
    cut: usize,
}

/// A byte of the files that are looked at, chosen by `n`.
fn place(files: &[(PathBuf, u64)], n: u64) -> (&Path, u64) {
    let all: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    let mut at = n % all;
    for (file, bytes) in files {
        if at < *bytes {
            return (file, at);
        }
        at -= bytes;
    }
    unreachable!("less than all")
}

/// Every file with data, and the length of its data.
fn with_data(dir: &Path) -> Vec<(PathBuf, u64)> {
    let files = files_below(dir).into_iter().filter(|(file, _)| is_data(file));
    let ends = files.map(|(file, _)| {
        let end = data_end(&fs::read(&file).expect("a file")) as u64;
        (file, end)
    });
    ends.filter(|(_, end)| *end > 0).collect()
}

/// A flipped byte is named, or costs nothing: what a member starts with is then what it was.
fn judge(before: &Report, after: Result<Report, impl std::fmt::Display>, tally: &mut Tally) {
    let Ok(after) = after else {
        tally.refused += 1;
        return;
    };
    let start = |report: &Report| match &report.start {
        Start::Yes { revision, digest, from_peers: 0 } => Some((*revision, digest.clone())),
        Start::Yes { .. } | Start::No { .. } => None,
    };
    if !after.damage.is_empty() || start(&after).is_none() {
        tally.named += 1;
    } else if start(before) == start(&after) {
        tally.harmless += 1;
    } else {
        // The last batch, of which nothing proves that it was ever confirmed: as after a crash.
        assert!(after.unfinished_bytes > 0, "served wrong: {before:?} became {after:?}");
        tally.cut += 1;
    }
}

#[tokio::test]
async fn no_flipped_byte_is_served() {
    let mut cluster = Cluster::start(settings(3)).await;
    fill(&cluster.client(0), "k", 600, 256).await;
    let dir = cluster.members[2].data_dir.clone();
    cluster.kill(2);
    let copy = TempDir::new().expect("a directory");
    copy_tree(&dir, copy.path());
    let whole = verify(copy.path(), None).expect("a report");
    assert!(whole.is_whole(), "{whole:?}");
    let (files, mut seed) = (with_data(copy.path()), Seed::of_this_run());
    let mut tally = Tally::default();
    for _ in 0..PLACEMENTS {
        let (file, at) = place(&files, seed.next());
        flip(file, at);
        judge(&whole, verify(copy.path(), None), &mut tally);
        flip(file, at);
    }
    report(format!("{PLACEMENTS} flipped bytes: {tally:?}"));
    assert!(tally.named > PLACEMENTS / 10 && tally.cut < PLACEMENTS / 10, "{tally:?}");
    // And the cluster makes good what is named, or the member says why it cannot.
    let files = with_data(&dir.join("member/wal"));
    for _ in 0..RESTARTS {
        let (file, at) = place(&files, seed.next());
        flip(file, at);
        let refuses = matches!(verify(&dir, None).map(|report| report.start), Ok(Start::No { .. }));
        if refuses {
            flip(file, at);
        }
        cluster.spawn(2);
        cluster.wait_ready_one(2).await;
        cluster.wait_agreement().await;
        cluster.kill(2);
    }
}

/// What `quorate scrub` of one member says, and its exit status.
fn scrubbed(cluster: &Cluster, member: usize) -> (Value, i32) {
    let endpoint = format!("127.0.0.1:{}", cluster.members[member].client_port);
    let output = Command::new(binary())
        .args(["scrub", "--json", "--timeout", "30", "--endpoints", &endpoint])
        .output()
        .expect("it runs");
    let json = serde_json::from_slice(&output.stdout).expect("JSON");
    (json, output.status.code().expect("it ends by itself"))
}

/// The files of a member that holds each kind, and a byte of data in the middle of it.
fn kinds(dir: &Path) -> Vec<(PathBuf, u64)> {
    let files = with_data(&dir.join("member"));
    let middle = |(file, end): &(PathBuf, u64)| (file.clone(), *end / 2);
    let of = |suffix: &str| {
        let named = |file: &PathBuf| file.to_string_lossy().ends_with(suffix);
        files.iter().find(|(file, _)| named(file)).map(middle)
    };
    let kinds = [".wal", ".checkpoint", ".manifest", "identity", "genesis.copy"];
    kinds.iter().chain(&["roster"]).map(|kind| of(kind).expect("a file of each kind")).collect()
}

/// Bytes turn under a running member; it names and repairs them, and is killed.
#[tokio::test]
async fn a_running_member_repairs_its_files() {
    let mut cluster = Cluster::start(settings(3)).await;
    fill(&cluster.client(0), "k", 400, 256).await;
    let victim = cluster.leader().await;
    let (clean, status) = scrubbed(&cluster, victim);
    assert_eq!((status, &clean["members"][0]["round"]["damaged"]), (0, &Value::from(0)), "{clean}");
    let dir = cluster.members[victim].data_dir.clone();
    let wal = with_data(&dir.join("member/wal"));
    let (current, end) = wal.last().expect("a log").clone();
    let mut places = kinds(&dir);
    places.push((current, end / 2));
    places.dedup();
    for (file, at) in &places {
        flip(file, *at);
    }
    let (found, status) = scrubbed(&cluster, victim);
    let round = &found["members"][0]["round"];
    assert_eq!(status, 0, "{found}");
    // A checkpoint is one thing, whether its file or its manifest turned.
    assert!(round["damaged"].as_u64() >= Some(places.len() as u64 - 1), "{found}");
    assert!(round["unrepaired"].is_null(), "{found}");
    for (file, _) in &places {
        let text = file.file_stem().expect("a name").to_string_lossy().into_owned();
        assert!(round["findings"].to_string().contains(&text), "{text} of {found}");
    }
    let (again, _) = scrubbed(&cluster, victim);
    assert_eq!(again["members"][0]["round"]["damaged"], 0, "{again}");
    cluster.kill(victim);
    let (words, status) = said(&dir);
    assert_eq!((status, words.lines().last()), (0, Some("whole")), "{words}");
    cluster.spawn(victim);
    cluster.wait_ready_one(victim).await;
    cluster.wait_agreement().await;
    let log = cluster.log(victim);
    assert!(log.contains("what was damaged on disk is repaired"), "{log}");
}

fn flip(file: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().read(true).write(true).open(file).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("the damage");
}
