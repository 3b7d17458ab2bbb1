//! Whether a chain is whole, and if not, where it is broken and how.
//!
//! Every line is looked at. After a break the chain is taken up again from the next line that is a
//! record, so that all breaks are found and not only the first. What can be said of one:
//!
//! | trouble | what was done |
//! |---|---|
//! | [`Trouble::Altered`] | a line was changed |
//! | [`Trouble::Unlinked`] | a record was made up, with a hash that fits it |
//! | [`Trouble::NotARecord`] | a line was changed beyond recognition, or added by hand |
//! | [`Trouble::Missing`] | records were removed |
//! | [`Trouble::OutOfOrder`] | a record was moved, or repeated |
//! | [`Trouble::Truncated`] | the end was cut off |
//! | [`Trouble::FileMissing`] | a whole file was removed, and no record says so |
//! | [`Trouble::BadHead`] [`Trouble::OtherHead`] | the head was changed, or all that it names |
//!
//! A last line without an end that the head does not name is what a crash leaves, or a member that
//! writes at this moment; it is told, and no trouble.

use super::files::{self, HEAD, numbers, parse_head};
use super::record::{self, Hash, LINE_BYTES_MAX, Record, Removed};
use serde::Serialize;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Findings that are told; further ones are counted.
const FINDINGS_MAX: usize = 1_000;

/// What is wrong at one place.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(tag = "trouble", rename_all = "kebab-case")]
pub enum Trouble {
    /// The record is not what it was.
    Altered {
        /// Its number.
        seq: u64,
    },
    /// The record does not follow the one before it, though each is whole by itself.
    Unlinked {
        /// Its number.
        seq: u64,
    },
    /// The line is none of this log.
    NotARecord,
    /// These are not there.
    Missing {
        /// First.
        from: u64,
        /// Last.
        to: u64,
    },
    /// The record stands where another belongs.
    OutOfOrder {
        /// Its number.
        seq: u64,
    },
    /// The log ends too early.
    Truncated {
        /// Its last record; 0 if there is none.
        last: u64,
        /// The record that must be there.
        head: u64,
    },
    /// The file before this one is not there.
    FileMissing {
        /// Its number.
        number: u64,
    },
    /// There is no head, or it is none.
    BadHead,
    /// The record is not the one that the head names.
    OtherHead {
        /// Its number.
        seq: u64,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Altered { seq } => write!(f, "record {seq} was altered"),
            Trouble::Unlinked { seq } => {
                write!(f, "record {seq} does not follow the one before it: one was made up")
            }
            Trouble::NotARecord => f.write_str("this line is no record"),
            Trouble::Missing { from, to } if from == to => write!(f, "record {from} is missing"),
            Trouble::Missing { from, to } => write!(f, "records {from} to {to} are missing"),
            Trouble::OutOfOrder { seq } => write!(f, "record {seq} is out of order"),
            Trouble::Truncated { last, head } => {
                write!(f, "truncated: it ends with record {last}, and record {head} was there")
            }
            Trouble::FileMissing { number } => {
                write!(f, "{} is missing, and no record says why", files::name(*number))
            }
            Trouble::BadHead => f.write_str("the head is missing, or is none"),
            Trouble::OtherHead { seq } => write!(f, "record {seq} is not the one of the head"),
        }
    }
}

/// Where something is wrong, and what.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// The name of the file.
    pub file: String,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub trouble: Trouble,
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Files that were read.
    pub files: usize,
    /// Records in them.
    pub records: u64,
    /// Number of the first record.
    pub first: u64,
    /// Number of the last record.
    pub last: u64,
    /// Its hash.
    pub hash: String,
    /// Records that the log itself tells of as lost, because they could not be written.
    pub lost: u64,
    /// Bytes at the end that are no whole line yet, or because of a crash.
    pub unfinished_bytes: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// Further findings, which are not told.
    pub further_findings: u64,
}

impl Report {
    /// True if nobody has changed it.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty()
    }

    fn find(&mut self, file: &str, line: u64, trouble: Trouble) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { file: file.to_owned(), line, trouble });
        } else {
            self.further_findings += 1;
        }
    }
}

/// A record that must be there, as it was told before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    seq: u64,
    hash: Hash,
}

impl std::str::FromStr for Head {
    type Err = &'static str;

    /// From `SEQ:HASH`, as the member logs it.
    fn from_str(text: &str) -> Result<Head, &'static str> {
        let wrong = "write SEQ:HASH with 64 hex digits, as the member has logged it";
        let (seq, hash) = text.split_once(':').ok_or(wrong)?;
        let hash = Hash::parse(hash).ok_or(wrong)?;
        Ok(Head { seq: seq.parse().map_err(|_| wrong)?, hash })
    }
}

impl Head {
    /// True if a log that begins with this record may have this head. The first head is written
    /// before the first record.
    fn can_be(self, first: u64) -> bool {
        if self.seq == 0 { self.hash == Hash::ZERO } else { self.seq >= first }
    }
}

/// Verifies a log.
///
/// Errors: it cannot be read, or there is none.
pub fn verify_dir(dir: &Path, kept: Option<Head>) -> io::Result<Report> {
    // The head first: a member that writes meanwhile only adds to what it names.
    let head = match std::fs::read_to_string(dir.join(HEAD)) {
        Ok(text) => parse_head(&text).map(|(seq, hash)| Head { seq, hash }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => None,
        Err(error) => return Err(error),
    };
    let numbers = numbers(dir)?;
    if numbers.is_empty() && !dir.join(HEAD).exists() {
        return Err(io::Error::other("there is no audit log in this directory"));
    }
    let mut chain = Chain::new(head.into_iter().chain(kept).collect());
    chain.begin(numbers.first().copied());
    let mut before = None;
    for (at, number) in numbers.iter().enumerate() {
        let name = files::name(*number);
        for missing in before.map_or(*number, |before: u64| before + 1)..*number {
            chain.report.find(&name, 0, Trouble::FileMissing { number: missing });
        }
        let place = if at + 1 == numbers.len() { Place::Last } else { Place::Middle };
        chain.read(&dir.join(&name), &name, place)?;
        before = Some(*number);
    }
    if let Some(first) = numbers.first().filter(|first| **first > 1) {
        chain.expect_removed(first - 1, &files::name(*first));
    }
    let last = numbers.last().map_or(HEAD.to_owned(), |number| files::name(*number));
    let first = chain.report.first;
    if head.is_none_or(|head| !head.can_be(first)) {
        chain.report.find(HEAD, 0, Trouble::BadHead);
    }
    if kept.is_some_and(|kept| kept.seq < first) {
        let text = format!("the log begins with record {first}: name a younger head");
        return Err(io::Error::other(text));
    }
    Ok(chain.end(&last))
}

/// Verifies one file by itself: what came before and after it is not known.
///
/// Errors: it cannot be read.
pub fn verify_file(path: &Path, kept: Option<Head>) -> io::Result<Report> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut chain = Chain::new(kept.into_iter().collect());
    chain.begin(files::number(&name));
    chain.read(path, &name, Place::Last)?;
    Ok(chain.end(&name))
}

/// Where a file stands among the others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    /// Another one follows.
    Middle,
    /// It may end within a line.
    Last,
}

/// What must come next.
#[derive(Clone, Copy, Debug)]
struct Expected {
    seq: u64,
    /// Absent after a record that was altered: what it was is not known.
    prev: Option<Hash>,
}

struct Chain {
    report: Report,
    heads: Vec<Head>,
    /// Absent before the first record.
    expected: Option<Expected>,
    removed: Vec<Removed>,
    /// What the first record follows.
    begins_after: Option<(u64, Hash)>,
}

impl Chain {
    fn new(heads: Vec<Head>) -> Chain {
        let report = Report { hash: Hash::ZERO.to_string(), ..Report::default() };
        Chain { report, heads, expected: None, removed: Vec::new(), begins_after: None }
    }

    /// The first file begins with the first record, which follows nothing.
    fn begin(&mut self, file: Option<u64>) {
        if file == Some(1) {
            self.expected = Some(Expected { seq: 1, prev: Some(Hash::ZERO) });
        }
    }

    fn read(&mut self, path: &Path, name: &str, place: Place) -> io::Result<()> {
        let mut reader = BufReader::new(File::open(path)?);
        let (mut line, mut number) = (Vec::new(), 0);
        self.report.files += 1;
        loop {
            line.clear();
            let read = reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            number += 1;
            match line.strip_suffix(b"\n") {
                Some(line) => self.line(line, name, number),
                // In the middle, and within a line that is too long, it is none.
                None if place == Place::Last && (read as u64) < LINE_BYTES_MAX => {
                    self.report.unfinished_bytes = read as u64;
                }
                None => self.broken(name, number),
            }
        }
    }

    fn broken(&mut self, file: &str, number: u64) {
        self.report.find(file, number, Trouble::NotARecord);
        if let Some(expected) = &mut self.expected {
            // It may have been the record that belongs here.
            *expected = Expected { seq: expected.seq + 1, prev: None };
        }
    }

    fn line(&mut self, line: &[u8], file: &str, number: u64) {
        let Some(record) = record::read(line) else { return self.broken(file, number) };
        self.report.records += 1;
        if self.begins_after.is_none() {
            self.begins_after = Some((record.seq.saturating_sub(1), record.prev));
            self.report.first = record.seq;
        }
        let expected = self.expected.unwrap_or(Expected { seq: record.seq, prev: None });
        if !record.is_true {
            self.report.find(file, number, Trouble::Altered { seq: expected.seq });
            self.expected = Some(Expected { seq: expected.seq + 1, prev: None });
            self.report.last = expected.seq;
            return;
        }
        // A line that was none may have stood in the place of nothing.
        let is_next = expected.prev.is_none() && record.seq + 1 == expected.seq;
        if record.seq < expected.seq && !is_next {
            return self.misplaced(record.seq, file, number);
        }
        if record.seq > expected.seq {
            let (from, to) = (expected.seq, record.seq - 1);
            self.report.find(file, number, Trouble::Missing { from, to });
        } else if expected.prev.is_some_and(|prev| prev != record.prev) {
            self.report.find(file, number, Trouble::Unlinked { seq: record.seq });
        }
        self.take(&record, file, number);
    }

    /// A record that was missed, or that was there already.
    fn misplaced(&mut self, seq: u64, file: &str, number: u64) {
        let missed = Trouble::Missing { from: seq, to: seq };
        self.report.findings.retain(|finding| finding.trouble != missed);
        self.report.find(file, number, Trouble::OutOfOrder { seq });
    }

    fn take(&mut self, record: &Record, file: &str, number: u64) {
        let mut named = self.heads.iter().filter(|head| head.seq == record.seq);
        if named.any(|head| head.hash != record.hash) {
            self.report.find(file, number, Trouble::OtherHead { seq: record.seq });
        }
        self.expected = Some(Expected { seq: record.seq + 1, prev: Some(record.hash) });
        self.report.last = record.seq;
        self.report.hash = record.hash.to_string();
        self.report.lost += record.lost;
        self.removed.extend(record.removed);
    }

    /// A log whose first files are gone has to say so itself.
    fn expect_removed(&mut self, number: u64, file: &str) {
        let said = self.begins_after.is_some_and(|(last_seq, last_hash)| {
            self.removed.contains(&Removed { file: number, last_seq, last_hash })
        });
        if !said {
            self.report.find(file, 0, Trouble::FileMissing { number });
        }
    }

    fn end(mut self, file: &str) -> Report {
        for Head { seq, .. } in self.heads.clone() {
            if seq > self.report.last {
                let trouble = Trouble::Truncated { last: self.report.last, head: seq };
                self.report.find(file, 0, trouble);
            }
        }
        self.report
    }
}
