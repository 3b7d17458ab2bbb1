//! The words of a script: nodes, options, and what to say about one that makes no sense.

use quorate_core::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

/// Why some words of a script mean nothing.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Misread(pub String);

impl Misread {
    /// The usual one: `what` was wanted, `word` was found.
    pub fn wanted(what: &str, word: &str) -> Misread {
        Misread(format!("'{word}' is no {what}"))
    }
}

impl fmt::Display for Misread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misread {}

/// A script that cannot be played.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScriptError {
    /// The line of the script, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: Misread,
    /// What its block has printed before.
    pub told: Vec<String>,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)?;
        self.told.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl std::error::Error for ScriptError {}

/// The `key=value` words of a command. A key that nobody asks for is an error, so that a misspelt
/// option cannot be overlooked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    values: BTreeMap<String, String>,
    asked: BTreeSet<String>,
}

impl Options {
    /// Errors: a word without `=`, or a key given twice.
    pub fn parse(words: &[&str]) -> Result<Options, Misread> {
        let mut options = Options::default();
        for word in words {
            let (key, value) =
                word.split_once('=').ok_or_else(|| Misread::wanted("key=value", word))?;
            if options.values.insert(key.to_owned(), value.to_owned()).is_some() {
                return Err(Misread(format!("'{key}' is given twice")));
            }
        }
        Ok(options)
    }

    /// The value of `key`, if it was given.
    pub fn value(&mut self, key: &str) -> Option<&str> {
        self.asked.insert(key.to_owned());
        self.values.get(key).map(String::as_str)
    }

    /// The value of `key` read as a `T`, or `otherwise` if it was not given.
    ///
    /// Errors: it was given, and is no `T`.
    pub fn parsed<T: FromStr>(&mut self, key: &str, otherwise: T) -> Result<T, Misread> {
        match self.value(key) {
            None => Ok(otherwise),
            Some(word) => word.parse().map_err(|_| Misread::wanted(key, word)),
        }
    }

    /// Errors: a key was given that nobody asked for.
    pub fn all_asked(&self) -> Result<(), Misread> {
        match self.values.keys().find(|key| !self.asked.contains(*key)) {
            None => Ok(()),
            Some(key) => Err(Misread(format!("nothing here is called '{key}'"))),
        }
    }
}

/// `n2` as a node.
pub(super) fn node(word: &str) -> Result<NodeId, Misread> {
    let number = word.strip_prefix('n').and_then(|digits| digits.parse().ok());
    match number {
        Some(number) if number > 0 => Ok(NodeId(number)),
        _ => Err(Misread::wanted("node such as n1", word)),
    }
}

/// `n1,n3` as nodes.
pub(super) fn nodes_of_list(word: &str) -> Result<BTreeSet<NodeId>, Misread> {
    word.split(',').map(node).collect()
}

/// `100ms`, `2s`, `5us`.
pub(super) fn duration(word: &str) -> Result<std::time::Duration, Misread> {
    let wrong = || Misread::wanted("duration such as 150ms", word);
    let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match &word[digits.len()..] {
        "us" => Ok(std::time::Duration::from_micros(number)),
        "ms" => Ok(std::time::Duration::from_millis(number)),
        "s" => Ok(std::time::Duration::from_secs(number)),
        _ => Err(wrong()),
    }
}
