//! Histories from files.
//!
//! | format | first line begins with | file |
//! |---|---|---|
//! | own | `{"quorate_history":` | `ndjson.rs` |
//! | Jepsen's log | `INFO jepsen.util - 0 :invoke :read nil` | `jepsen.rs` |
//! | Jepsen's EDN, Porcupine's kv | `{:process 0, :type :invoke, ..` | `jepsen.rs`, over `edn.rs` |
//!
//! A file that ends early or says what makes no sense is refused with the line and the column. The
//! order of the lines is the order of the events; times in a file are not looked at, since they may
//! come from different clocks.
//!
//! Bounds: the caller's; a history is as large as its file.

pub mod edn;
mod jepsen;
mod ndjson;

use crate::linear::HistoryOf;
use crate::models::Value;
use crate::models::keyed::Keyed;
use crate::models::kv::Kv;
use crate::models::lock::Lock;
use crate::models::map::Map;
use crate::models::queue::Queue;
use crate::models::register::Register;
use crate::models::set::Set;
use crate::witness::Seen;
use std::fmt;

pub use ndjson::{HISTORY_VERSION, write};

/// A complaint may repeat what stands in the file; it is cut off after so many characters.
const WHAT_MAX: usize = 200;

/// A place in a file. Both count from 1; columns are characters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a file is no history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseError {
    /// Where.
    pub place: Place,
    /// What is wrong there.
    pub what: String,
}

impl ParseError {
    pub(crate) fn new(place: Place, what: impl Into<String>) -> Self {
        let mut what = what.into();
        if let Some((end, _)) = what.char_indices().nth(WHAT_MAX) {
            what.truncate(end);
            what.push_str(" ..");
        }
        ParseError { place, what }
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl std::error::Error for ParseError {}

/// How a history is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// Our own, one JSON object per line.
    Json,
    /// Lines of Jepsen's log.
    JepsenLog,
    /// Maps of Jepsen's `history.edn`.
    Edn,
    /// The same with `:key`, as in Porcupine's kv files.
    Porcupine,
}

impl Format {
    /// Every format, with its name.
    pub const ALL: [(Format, &'static str); 4] = [
        (Format::Json, "json"),
        (Format::JepsenLog, "jepsen-log"),
        (Format::Edn, "edn"),
        (Format::Porcupine, "porcupine"),
    ];
}

/// What a history is a history of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// A register without compare-and-set.
    Register,
    /// One with.
    CasRegister,
    /// etcd's map.
    Map,
    /// A queue.
    Queue,
    /// Locks.
    Lock,
    /// A set.
    Set,
    /// Texts that grow.
    Kv,
}

impl Kind {
    /// Every kind, with its name.
    pub const ALL: [(Kind, &'static str); 7] = [
        (Kind::Register, "register"),
        (Kind::CasRegister, "cas-register"),
        (Kind::Map, "map"),
        (Kind::Queue, "queue"),
        (Kind::Lock, "lock"),
        (Kind::Set, "set"),
        (Kind::Kv, "kv"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let row = Kind::ALL.iter().find(|(kind, _)| *kind == self);
        row.map_or("", |(_, name)| name)
    }
}

/// A history from a file.
#[derive(Clone, Debug)]
pub enum Recorded {
    /// With or without compare-and-set.
    Register(HistoryOf<Keyed<Register<Value>>>),
    /// etcd's map, and what watchers were told of it.
    Map(HistoryOf<Map>, Seen),
    /// A queue.
    Queue(HistoryOf<Queue<Value>>),
    /// A set.
    Set(HistoryOf<Set<Value>>),
    /// Locks.
    Lock(HistoryOf<Lock>),
    /// Texts that grow.
    Kv(HistoryOf<Kv>),
}

/// What editors of some systems put before a text: it says nothing, and is left out.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Guesses the format from the first line that says something.
pub fn detect(text: &str) -> Option<Format> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    if line.starts_with('{') && line.contains("\"quorate_history\"") {
        Some(Format::Json)
    } else if line.starts_with("{") || line.starts_with("[") || line.starts_with("#jepsen") {
        Some(if line.contains(":key ") { Format::Porcupine } else { Format::Edn })
    } else if line.contains(" - ") && line.contains(':') {
        Some(Format::JepsenLog)
    } else {
        None
    }
}

/// Reads a history. Without a kind, the operations tell what it is of.
///
/// # Errors
///
/// If the text is not of that format, ends early, or has an operation which the kind does not know.
pub fn parse(text: &str, format: Format, kind: Option<Kind>) -> Result<Recorded, ParseError> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    match format {
        Format::Json => ndjson::read(text, kind),
        Format::JepsenLog => jepsen::assemble(&jepsen::log_events(text)?, kind),
        Format::Edn | Format::Porcupine => jepsen::assemble(&jepsen::edn_events(text)?, kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_says_nothing() {
        let edn = "{:process 0, :type :invoke, :f :write, :value 1}\n{:process";
        let json = "{\"quorate_history\":1,\"model\":\"register\"}\n{\"type\":";
        let log = "INFO  jepsen.util - 0 :invoke :write 1\nINFO  jepsen.util - 0";
        for text in [edn, json, log] {
            let marked = format!("\u{feff}{text}");
            let format = detect(text).expect("it is known");
            assert_eq!(detect(&marked), Some(format));
            let complaint = |text: &str| parse(text, format, None).expect_err("it is cut off");
            assert_eq!(complaint(&marked), complaint(text), "places do not count it");
        }
    }

    #[test]
    fn a_complaint_about_a_long_line_is_short() {
        let line = "ä".repeat(100_000);
        for format in [Format::Json, Format::JepsenLog, Format::Edn, Format::Porcupine] {
            let error = parse(&line, format, None).expect_err("no history");
            assert!(error.to_string().chars().count() < WHAT_MAX + 20, "{format:?}");
        }
        let error = parse(&line, Format::Edn, None).expect_err("no history");
        assert!(error.to_string().ends_with("ää .."), "{error}");
    }
}
