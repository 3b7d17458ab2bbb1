//! What somebody could do to a log afterwards, and that it is found and named.

use super::files::{Files, HEAD, name};
use super::record::{Body, Call};
use super::what::What;
use super::writer::Audit;
use super::{
    AuditCalls, AuditError, AuditSettings, FILES_MIN, Head, Report, Trouble, verify_dir,
    verify_file,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

const RECORDS: usize = 8;

fn settings(dir: &Path, file_bytes: u64) -> AuditSettings {
    AuditSettings { dir: dir.to_owned(), calls: AuditCalls::Changes, file_bytes, files: FILES_MIN }
}

fn call(number: usize) -> Call {
    Call {
        user: Some("ann".to_owned()),
        by: Some("token"),
        from: "127.0.0.1:1".to_owned(),
        call: format!("/etcdserverpb.KV/Put{number}"),
        what: What::default(),
        result: "OK",
        error: None,
    }
}

/// A log of one file: a record that it was opened, and calls.
fn log() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut files = Files::open(settings(dir.path(), 1 << 20), "7").expect("a log");
    for number in 1..RECORDS {
        files.push(SystemTime::now(), &Body::Call(call(number))).expect("room");
    }
    files.sync().expect("room");
    let file = dir.path().join(name(1));
    (dir, file)
}

fn verified(dir: &Path) -> Report {
    verify_dir(dir, None).expect("it can be read")
}

fn troubles(dir: &Path) -> Vec<Trouble> {
    verified(dir).findings.into_iter().map(|finding| finding.trouble).collect()
}

fn lines(file: &Path) -> Vec<Vec<u8>> {
    let text = fs::read(file).expect("it is there");
    text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_log_that_nobody_touched_is_whole() {
    let (dir, file) = log();
    let report = verified(dir.path());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.records, report.first, report.last), (RECORDS as u64, 1, RECORDS as u64));
    let alone = verify_file(&file, None).expect("it can be read");
    assert!(alone.is_whole());
    assert_eq!(alone.hash, report.hash);
}

#[test]
fn a_flipped_bit_of_any_byte_is_found() {
    let (dir, file) = log();
    for path in [&file, &dir.path().join(HEAD)] {
        let whole = fs::read(path).expect("it is there");
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << (at % 8);
            fs::write(path, flipped).expect("written");
            let report = verified(dir.path());
            assert!(!report.is_whole(), "{}: bit {} of byte {at}", path.display(), at % 8);
        }
        fs::write(path, whole).expect("written");
    }
    assert!(verified(dir.path()).is_whole());
}

#[test]
fn every_removed_line_is_found_and_named() {
    let (dir, file) = log();
    let whole = lines(&file);
    for gone in 0..whole.len() {
        let mut left = whole.clone();
        left.remove(gone);
        fs::write(&file, left.concat()).expect("written");
        let seq = gone as u64 + 1;
        let wanted = match gone + 1 == whole.len() {
            true => Trouble::Truncated { last: seq - 1, head: seq },
            false => Trouble::Missing { from: seq, to: seq },
        };
        assert_eq!(troubles(dir.path()), [wanted]);
    }
}

#[test]
fn every_moved_or_repeated_line_is_found_and_named() {
    let (dir, file) = log();
    let whole = lines(&file);
    for first in 0..whole.len() {
        for second in first + 1..whole.len() {
            let mut moved = whole.clone();
            moved.swap(first, second);
            fs::write(&file, moved.concat()).expect("written");
            let found = troubles(dir.path());
            let named = found.iter().any(|one| matches!(one, Trouble::OutOfOrder { .. }));
            assert!(named, "{first} and {second}: {found:?}");
        }
        let mut repeated = whole.clone();
        repeated.push(whole[first].clone());
        fs::write(&file, repeated.concat()).expect("written");
        assert_eq!(troubles(dir.path()), [Trouble::OutOfOrder { seq: first as u64 + 1 }]);
    }
}

#[test]
fn every_cut_is_found_and_named_and_not_written_after() {
    let (dir, file) = log();
    let whole = fs::read(&file).expect("it is there");
    for len in (0..whole.len()).rev() {
        fs::write(&file, &whole[..len]).expect("written");
        let found = troubles(dir.path());
        let head = RECORDS as u64;
        let named =
            |one: &Trouble| matches!(one, Trouble::Truncated { head: at, .. } if *at == head);
        assert!(found.iter().any(named), "{len} bytes: {found:?}");
    }
    fs::write(&file, &whole[..whole.len() / 2]).expect("written");
    let refused = Files::open(settings(dir.path(), 1 << 20), "7").expect_err("it is too short");
    assert!(matches!(refused, AuditError::Tampered { .. }), "{refused}");
    assert!(refused.to_string().contains("quorate audit verify"), "{refused}");
    fs::remove_file(&file).expect("removed");
    assert!(Files::open(settings(dir.path(), 1 << 20), "7").is_err());
    fs::remove_file(dir.path().join(HEAD)).expect("removed");
    fs::write(&file, &whole).expect("written");
    assert_eq!(troubles(dir.path()), [Trouble::BadHead]);
    assert!(Files::open(settings(dir.path(), 1 << 20), "7").is_err());
}

/// A forger who makes the hashes fit up to a point is found at the next record, or by the head.
#[test]
fn a_forged_record_is_found_by_its_neighbour_and_a_forged_end_by_the_head() {
    let (dir, file) = log();
    let whole = lines(&file);
    for at in 0..whole.len() {
        let record = super::record::read(whole[at].trim_ascii_end()).expect("a record");
        let mut forged = whole.clone();
        let mut line = Vec::new();
        let body = Body::Call(call(99));
        super::record::write(record.seq, record.prev, SystemTime::now(), &body, &mut line);
        forged[at] = line;
        fs::write(&file, forged.concat()).expect("written");
        let seq = record.seq;
        let wanted = match at + 1 == whole.len() {
            true => Trouble::OtherHead { seq },
            false => Trouble::Unlinked { seq: seq + 1 },
        };
        assert_eq!(troubles(dir.path()), [wanted]);
    }
}

/// All of it made anew, head and all: only who kept the head elsewhere can tell.
#[test]
fn a_log_made_up_as_a_whole_is_found_by_a_head_that_was_kept_elsewhere() {
    let (dir, _) = log();
    let report = verified(dir.path());
    let head = format!("{}:{}", report.last, report.hash).parse::<Head>().expect("a head");
    let (other, _) = log();
    assert!(verified(other.path()).is_whole());
    let found = verify_dir(other.path(), Some(head)).expect("it can be read").findings;
    assert_eq!(found[0].trouble, Trouble::OtherHead { seq: RECORDS as u64 });
    assert!(verify_dir(dir.path(), Some(head)).expect("it can be read").is_whole());
    assert!("7".parse::<Head>().is_err());
    assert!("7:xyz".parse::<Head>().is_err());
}

/// A log of several files, the oldest of which have gone.
fn rotated() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let small = || AuditSettings { files: 3, ..settings(dir.path(), 2_000) };
    for life in 0..3 {
        let mut files = Files::open(small(), "7").expect("a log");
        for number in 0..20 {
            files.push(SystemTime::now(), &Body::Call(call(life * 100 + number))).expect("room");
        }
        files.sync().expect("room");
    }
    dir
}

#[test]
fn the_chain_goes_on_over_files_and_restarts_and_says_what_was_removed() {
    let dir = rotated();
    let report = verified(dir.path());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.files, 3);
    assert!(report.first > 1, "the first have gone");
    let numbers = super::files::numbers(dir.path()).expect("readable");
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
    for number in &numbers {
        let len = fs::metadata(dir.path().join(name(*number))).expect("there").len();
        assert!(len <= 2_400, "{len}: a removal may come on top");
    }
    for (at, number) in numbers.iter().enumerate() {
        let path = dir.path().join(name(*number));
        let content = fs::read(&path).expect("there");
        fs::remove_file(&path).expect("removed");
        let found = troubles(dir.path());
        let named = match at + 1 == numbers.len() {
            true => found.iter().any(|one| matches!(one, Trouble::Truncated { .. })),
            false => found.contains(&Trouble::FileMissing { number: *number }),
        };
        assert!(named, "{number} of {numbers:?}: {found:?}");
        fs::write(&path, content).expect("written");
    }
    assert!(verified(dir.path()).is_whole());
    let old: Head = format!("1:{}", report.hash).parse().expect("a head");
    assert!(verify_dir(dir.path(), Some(old)).is_err(), "it cannot be said");
}

#[test]
fn a_crash_within_a_line_is_mended_and_told_and_no_trouble() {
    let (dir, file) = log();
    let mut content = fs::read(&file).expect("there");
    content.extend_from_slice(b"{\"seq\":9,\"ti");
    fs::write(&file, &content).expect("written");
    let report = verified(dir.path());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.unfinished_bytes, 12);
    drop(Files::open(settings(dir.path(), 1 << 20), "7").expect("it is mended"));
    let report = verified(dir.path());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.last, report.unfinished_bytes), (RECORDS as u64 + 1, 0));
    let last = lines(&file).pop().expect("lines");
    assert!(String::from_utf8_lossy(&last).contains("\"cut_bytes\":12"));
}

#[test]
fn two_members_do_not_share_a_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let _first = Files::open(settings(dir.path(), 1 << 20), "7").expect("a log");
    let refused = Files::open(settings(dir.path(), 1 << 20), "8").expect_err("it is in use");
    assert!(matches!(refused, AuditError::Locked { .. }), "{refused}");
}

#[test]
fn lines_that_are_none_are_named_and_what_follows_is_looked_at() {
    let (dir, file) = log();
    let whole = lines(&file);
    for at in 0..whole.len() {
        let mut added = whole.clone();
        added.insert(at, b"{\"seq\":3}\n".to_vec());
        fs::write(&file, added.concat()).expect("written");
        assert_eq!(troubles(dir.path()), [Trouble::NotARecord], "before line {at}");
    }
    let mut two = whole.clone();
    two[1] = b"\n".to_vec();
    two.remove(4);
    fs::write(&file, two.concat()).expect("written");
    let missing = Trouble::Missing { from: 5, to: 5 };
    assert_eq!(troubles(dir.path()), [Trouble::NotARecord, missing]);
    assert!(verify_dir(&dir.path().join("nothing"), None).is_err());
    let empty = tempfile::tempdir().expect("a directory");
    assert!(verify_dir(empty.path(), None).is_err(), "there is no log");
}

/// A log that cannot be written holds up nobody, counts, tells operators, and says so itself when
/// it can be written again.
#[tokio::test]
async fn what_cannot_be_written_is_counted_told_and_recorded_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let told = Arc::new(Mutex::new(Vec::new()));
    let tell = {
        let told = Arc::clone(&told);
        move |what| told.lock().expect("nobody panics").push(what)
    };
    // Each record needs a file of its own, which a directory in its place refuses.
    let small = AuditSettings { files: 100, ..settings(dir.path(), 100) };
    let audit = Audit::start(small, 7, tell).expect("a log");
    let blocked = dir.path().join(name(2));
    fs::create_dir(&blocked).expect("created");
    for number in 0..3 {
        audit.record(call(number));
    }
    let counts = audit.counts();
    let deadline = SystemTime::now() + Duration::from_secs(60);
    while counts.lost.get() < 3 {
        assert!(SystemTime::now() < deadline, "{counts:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let first = told.lock().expect("nobody panics")[0].clone().expect("a sentence");
    assert!(first.contains("the audit log loses records: "), "{first}");
    fs::remove_dir(&blocked).expect("removed");
    audit.record(call(4));
    audit.close().await;
    assert_eq!((counts.written.get(), counts.lost.get()), (1, 3));
    let report = verified(dir.path());
    assert!(report.is_whole(), "{report:?}");
    assert_eq!(report.lost, 3);
}
