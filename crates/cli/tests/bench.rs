//! `quorate bench` measures an honest server, and refuses figures of one that lies, whatever the
//! lie.

mod liar;

use liar::{Liar, Lie};
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn bench(words: &str, endpoint: &str) -> Output {
    let common = "--for 400ms --warmup 0s --rounds 2 --keys 40 --clients 8 --connections 4";
    Command::new(env!("CARGO_BIN_EXE_quorate"))
        .arg("bench")
        .args(words.split_whitespace())
        .args(common.split_whitespace())
        .args(["--endpoints", endpoint])
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const WORKLOADS: [&str; 9] = [
    "put",
    "get",
    "get --serializable",
    "mixed --reads 50",
    "txn",
    "range --span 20",
    "list",
    "lease-grant",
    "lease-keepalive --leases 20",
];
const WATCH: &str = "watch --watchers 12 --streams 3";

#[test]
fn an_honest_server_is_measured_by_every_workload() {
    let honest = Liar::start(Lie::None);
    for words in WORKLOADS.iter().copied().chain([WATCH, "put --rate 500", "fill"]) {
        let output = bench(words, &honest.endpoint);
        let (shown, error) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{words}: {error}");
        assert!(words == "fill" || shown.contains("P99"), "{words}: {shown}");
    }
}

/// An empty promise is whichever of several the lie meets first.
fn is_caught(lie: Lie, words: &str, promise: &str) {
    let liar = Liar::start(lie);
    let output = bench(words, &liar.endpoint);
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(2), "{lie:?} by {words}: {shown}{error}");
    assert!(error.contains(promise), "{lie:?} by {words}: {error}");
    assert!(error.contains("expected") && error.contains("seen"), "{lie:?}: {error}");
    assert_eq!(shown, "", "{lie:?}: there are no figures");
}

#[test]
fn lies_about_reads_are_caught() {
    let mixed = "mixed --reads 50";
    let range = "range --span 20";
    let cases = [
        (Lie::OldRevision, mixed, "a linearizable read sees every write"),
        (Lie::OldRevision, "list", "a linearizable read sees every write"),
        (Lie::OldValue, mixed, "holds every write up to it"),
        (Lie::FlippedBit, "get", "a value is the one that was written"),
        (Lie::FlippedBit, "list", "a value is the one that was written"),
        (Lie::OtherKeysValue, "get", "a value is the one that was written"),
        (Lie::OtherValueSameRevision, mixed, "one revision of a key is one value"),
        (Lie::FutureValue, "get", "holds nothing newer"),
        (Lie::LostKey, "get", "an acknowledged write is never lost"),
        (Lie::RangeGap, range, "complete and in order"),
        (Lie::RangeOrder, range, "complete and in order"),
        (Lie::RangeCount, range, "a range without a limit is complete"),
        (Lie::RangeMore, "list", "a range without a limit is complete"),
        (Lie::OldRevision, "get --serializable", "never go back"),
        (Lie::LostKey, "get --serializable", "an acknowledged write is never lost"),
    ];
    for (lie, words, promise) in cases {
        is_caught(lie, words, promise);
    }
}

#[test]
fn lies_about_writes_are_caught() {
    is_caught(Lie::ForgottenWrite, "put", "");
    is_caught(Lie::WriteTwice, "put", "it happens once");
    is_caught(Lie::OldAcknowledgement, "put", "");
    is_caught(Lie::BlindSwap, "txn", "a compare-and-swap replaces what it compared with");
    is_caught(Lie::RefusedSwap, "txn", "a comparison fails only if it does not hold");
    is_caught(Lie::ForgottenSwap, "txn", "");
}

#[test]
fn lies_about_events_are_caught() {
    is_caught(Lie::EventGap, WATCH, "no event is left out");
    is_caught(Lie::EventTwice, WATCH, "events come once and in the order");
    is_caught(Lie::EventOrder, WATCH, "");
    is_caught(Lie::EventFlippedBit, WATCH, "a value is the one that was written");
    is_caught(Lie::EventStray, WATCH, "about one of its watches");
}

#[test]
fn a_watcher_that_is_forgotten_is_noticed() {
    is_caught(Lie::EventsEnd, WATCH, "every acknowledged write is told to every watcher");
}

#[test]
fn lies_about_leases_are_caught() {
    is_caught(Lie::ForgottenLease, "lease-grant", "a lease that was granted is known");
    is_caught(Lie::LeaseTwice, "lease-grant", "a grant is a new lease");
    is_caught(Lie::ShortLease, "lease-grant", "a grant is a new lease");
    is_caught(Lie::GoneLease, "lease-keepalive --leases 20", "the time to live of its own lease");
    is_caught(Lie::OtherLease, "lease-keepalive --leases 20", "the time to live of its own lease");
}

/// Ten minutes of it are `quorate bench elections --for 10m --burn`.
#[test]
fn nobody_is_elected_because_the_machine_is_busy() {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["bench", "elections", "--for", "20s", "--burn", "4", "--json"])
        .output()
        .expect("the binary runs");
    let (shown, error) = (text(&output.stdout), text(&output.stderr));
    let figures: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
    let cluster = &figures["clusters"][0];
    assert_eq!(cluster["elections"], 0, "{shown}{error}");
    assert!(cluster["acknowledged"].as_u64() > Some(500), "{shown}{error}");
    assert_eq!(output.status.code(), Some(0), "{shown}{error}");
}

/// The count above can be another one than nought.
#[test]
fn a_leader_that_stands_still_is_found_out() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(["bench", "elections", "--for", "12s", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let signal = |pid: &str, signal| {
        let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a process");
        let _ = kill_process(pid, signal); // At the end of the run there is none.
    };
    // One after the other stands still, whoever leads, as long as it is measured; and for longer
    // than the longest timeout, because members learn from their own pauses to be patient.
    let children = format!("/proc/{0}/task/{0}/children", bench.id());
    while bench.try_wait().expect("a child").is_none() {
        let members = fs::read_to_string(&children).unwrap_or_default();
        for pid in members.split_whitespace() {
            signal(pid, Signal::STOP);
            std::thread::sleep(Duration::from_millis(3_000));
            signal(pid, Signal::CONT);
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    let output = bench.wait_with_output().expect("it has ended");
    let shown = text(&output.stdout);
    let figures: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
    assert!(figures["clusters"][0]["elections"].as_u64() > Some(0), "{shown}");
    assert_eq!(output.status.code(), Some(1), "{shown}");
}
