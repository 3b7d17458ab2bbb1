//! The form of a line.
//!
//! ```text
//!   {"seq":7,"time":"2026-01-31T08:30:00.123456Z","prev":"<64 hex>", ... ,"hash":"<64 hex>"}\n
//!   '------------------------- hashed by SHA-256 ------------------'
//! ```
//!
//! The hash is of the bytes before it as they stand in the file, so nothing depends on how JSON is
//! written. Sequence numbers begin at 1 and have no gaps; the first record follows [`Hash::ZERO`].

use super::what::What;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

/// The longest line that is read. Unit: bytes. What is written is far below: keys are cut.
pub(super) const LINE_BYTES_MAX: u64 = 1 << 20;

/// What stands between the content of a line and its hash.
const BEFORE_HASH: &str = ",\"hash\":\"";
const AFTER_HASH: &str = "\"}";
const HASH_DIGITS: usize = 64;

/// Hash of one record.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Hash([u8; 32]);

impl Hash {
    /// What the first record follows.
    pub(super) const ZERO: Hash = Hash([0; 32]);

    fn of(content: &[u8]) -> Hash {
        Hash(Sha256::digest(content).into())
    }

    /// From 64 digits, lower case. None for anything else.
    pub(super) fn parse(text: &str) -> Option<Hash> {
        let digits = text.as_bytes();
        let is_digit = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != HASH_DIGITS || !digits.iter().all(is_digit) {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Hash(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a record tells.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Body {
    /// Of a client.
    Call(Call),
    /// Of the log itself.
    Event(Event),
}

/// A call that was answered.
#[derive(Debug, Serialize)]
pub(crate) struct Call {
    /// Who. Absent: nobody who could be named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
    /// By what that was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) by: Option<&'static str>,
    /// Address and port of the client.
    pub(super) from: String,
    /// The method.
    pub(super) call: String,
    /// What was asked for.
    #[serde(flatten)]
    pub(super) what: What,
    /// gRPC's name of what came of it, or `Unfinished` if the client did not wait for it.
    pub(super) result: &'static str,
    /// The words of a refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

/// What happened to the log.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Event {
    /// A member begins to write.
    Opened {
        /// Its id.
        member: String,
        /// Bytes of a record that was being written when the process died.
        cut_bytes: u64,
    },
    /// It ends in good order.
    Closed,
    /// Records could not be written.
    Lost {
        /// So many.
        count: u64,
        /// Why.
        why: String,
    },
    /// The oldest file goes.
    Removed {
        /// Its number.
        file: u64,
        /// The number of its last record.
        last_seq: u64,
        /// The hash of its last record.
        last_hash: String,
    },
}

#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    time: &'a str,
    prev: String,
    #[serde(flatten)]
    body: &'a Body,
}

/// Appends a record to `out`. Returns its hash.
pub(super) fn write(seq: u64, prev: Hash, at: SystemTime, body: &Body, out: &mut Vec<u8>) -> Hash {
    let line = Line { seq, time: &time(at), prev: prev.to_string(), body };
    let text = serde_json::to_string(&line).expect("numbers and text");
    let content = text.strip_suffix('}').expect("an object ends so");
    let hash = Hash::of(content.as_bytes());
    out.extend_from_slice(content.as_bytes());
    out.extend_from_slice(format!("{BEFORE_HASH}{hash}{AFTER_HASH}\n").as_bytes());
    hash
}

/// A line, as far as the chain goes.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) prev: Hash,
    /// As the line tells it.
    pub(super) hash: Hash,
    /// It is the hash of the content.
    pub(super) is_true: bool,
    pub(super) lost: u64,
    pub(super) removed: Option<Removed>,
}

/// A file that went because there were enough younger ones.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Removed {
    pub(super) file: u64,
    pub(super) last_seq: u64,
    pub(super) last_hash: Hash,
}

#[derive(Deserialize)]
struct Parsed {
    seq: u64,
    prev: String,
    event: Option<String>,
    count: Option<u64>,
    file: Option<u64>,
    last_seq: Option<u64>,
    last_hash: Option<String>,
}

/// Reads a line without its end. None: it is no record.
pub(super) fn read(line: &[u8]) -> Option<Record> {
    let text = std::str::from_utf8(line).ok()?;
    let parsed: Parsed = serde_json::from_str(text).ok()?;
    let tail = HASH_DIGITS + AFTER_HASH.len() + BEFORE_HASH.len();
    let (content, tail) = text.split_at_checked(text.len().checked_sub(tail)?)?;
    let digits = tail.strip_prefix(BEFORE_HASH)?.strip_suffix(AFTER_HASH)?;
    let hash = Hash::parse(digits)?;
    let event = parsed.event.as_deref();
    let removed = (event == Some("removed")).then(|| {
        let last_hash = Hash::parse(parsed.last_hash.as_deref()?)?;
        Some(Removed { file: parsed.file?, last_seq: parsed.last_seq?, last_hash })
    });
    Some(Record {
        seq: parsed.seq,
        prev: Hash::parse(&parsed.prev)?,
        hash,
        is_true: Hash::of(content.as_bytes()) == hash,
        lost: if event == Some("lost") { parsed.count? } else { 0 },
        removed: removed.flatten(),
    })
}

/// In UTC, as RFC 3339 has it.
fn time(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since 1970-01-01.
///
/// Source: Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March, so that a leap day is the last of its year; eras are of 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, wanted) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_827_696, "2000-02-29T12:34:56.000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000Z"),
        ] {
            assert_eq!(time(UNIX_EPOCH + Duration::from_secs(seconds)), wanted);
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        let event = Event::Removed { file: 3, last_seq: 9, last_hash: Hash::ZERO.to_string() };
        let hash = write(10, Hash::ZERO, UNIX_EPOCH, &Body::Event(event), &mut out);
        let line = out.strip_suffix(b"\n").expect("a line");
        let record = read(line).expect("a record");
        assert!(record.is_true);
        assert_eq!((record.seq, record.prev, record.hash), (10, Hash::ZERO, hash));
        let removed = Removed { file: 3, last_seq: 9, last_hash: Hash::ZERO };
        assert_eq!(record.removed, Some(removed));
        for other in ["", "{}", "null", "[1]", "{\"seq\":1}"] {
            assert!(read(other.as_bytes()).is_none(), "{other}");
        }
    }
}
