//! A deterministic crate sees no clock, thread, socket, file, lock, float, random number or
//! unordered collection: the same events give the same effects, on every machine, for ever.

use super::source::words;
use super::{Offence, Tree};

/// The crates that are deterministic.
const DETERMINISTIC: &[&str] =
    &["crates/core/src/", "crates/protocols/src/", "crates/replica/src/"];

/// Words of code that have no place there, and what stands in their place.
const WORDS: &[(&str, &str)] = &[
    ("Instant", "time enters as cx.now"),
    ("SystemTime", "time enters as cx.now, wall time as data in a request"),
    ("async", "handlers run to completion; async begins at the door"),
    ("await", "handlers run to completion; async begins at the door"),
    ("HashMap", "its order differs from run to run; use BTreeMap"),
    ("HashSet", "its order differs from run to run; use BTreeSet"),
    ("RandomState", "it differs from run to run"),
    ("DefaultHasher", "its values may change with the toolchain"),
    ("f32", "floats have no place in state; use integers with a unit in the name"),
    ("f64", "floats have no place in state; use integers with a unit in the name"),
    ("rand", "randomness enters as cx.choose or as a timer's range"),
    ("Mutex", "a protocol is a value; nothing shares it"),
    ("RwLock", "a protocol is a value; nothing shares it"),
    ("Condvar", "a protocol is a value; nothing waits in it"),
    ("mpsc", "effects are data pushed into the context"),
    ("thread_local", "there is no global state"),
    ("OnceLock", "there is no global state"),
    ("LazyLock", "there is no global state"),
];

/// Modules of the standard library that have no place there.
const STD_MODULES: &[&str] = &["env", "fs", "net", "os", "process", "thread"];

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) {
    for (path, source) in tree.sources() {
        if !DETERMINISTIC.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let mut group = Group::default();
        for (number, line) in tree.product_lines(path, source) {
            for (word, instead) in WORDS {
                if words(line).any(|found| found == *word) {
                    let advice = format!("no '{word}' here: {instead}");
                    offences.push(Offence::new(path, number, "determinism", advice));
                }
            }
            for module in STD_MODULES {
                if line.contains(&format!("std::{module}")) && names_path(line, module)
                    || group.names(line, module)
                {
                    let advice =
                        format!("no 'std::{module}' here: the driver does what touches the world");
                    offences.push(Offence::new(path, number, "determinism", advice));
                }
            }
            group.follow(line);
        }
    }
}

/// True if `std::module` stands in the line as a whole path, not as the beginning of a longer word.
fn names_path(line: &str, module: &str) -> bool {
    let path = format!("std::{module}");
    line.match_indices(&path).any(|(at, _)| {
        let after = line[at + path.len()..].chars().next().unwrap_or(' ');
        !after.is_alphanumeric() && after != '_'
    })
}

/// Follows a `use std::{ .. };` over several lines.
#[derive(Default)]
struct Group {
    depth: usize,
}

impl Group {
    /// True if the line names `module` directly inside a group of `std`.
    fn names(&self, line: &str, module: &str) -> bool {
        let (mut depth, inner) = match line.find("use std::{") {
            Some(at) => (0, &line[at + "use std::".len()..]),
            None if self.depth > 0 => (self.depth, line),
            None => return false,
        };
        for part in inner.split_inclusive(['{', '}', ',']) {
            let name = part.trim_end_matches(['{', '}', ',']).trim();
            let first = name.split("::").next().unwrap_or_default();
            if depth == 1 && words(first).next() == Some(module) {
                return true;
            }
            depth = step(depth, part);
        }
        false
    }

    fn follow(&mut self, line: &str) {
        match line.find("use std::{") {
            Some(at) => self.depth = step(0, &line[at..]),
            None if self.depth > 0 => self.depth = step(self.depth, line),
            None => {}
        }
    }
}

/// The depth of braces after `text`.
fn step(depth: usize, text: &str) -> usize {
    let opened = depth + text.matches('{').count();
    opened.saturating_sub(text.matches('}').count())
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted;
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        let mut offences = Vec::new();
        check(&planted(&[(path, text)]), &mut offences);
        offences.iter().map(Offence::to_string).collect()
    }

    #[test]
    fn every_forbidden_word_is_found() {
        for (word, _) in WORDS {
            let found = found("crates/core/src/a.rs", &format!("use x::{word};\n"));
            assert_eq!(found.len(), 1, "{word}: {found:?}");
            assert!(found[0].starts_with("crates/core/src/a.rs:1: determinism: no '"));
        }
    }

    #[test]
    fn every_forbidden_module_is_found_however_it_is_imported() {
        for module in STD_MODULES {
            for text in [
                format!("use std::{module}::X;\n"),
                format!("let x = std::{module}::x();\n"),
                format!("use std::{{fmt, {module}}};\n"),
                format!("use std::{{\n    fmt::{{self, Debug}},\n    {module}::X,\n}};\n"),
            ] {
                assert_eq!(found("crates/replica/src/a.rs", &text).len(), 1, "{text}");
            }
        }
    }

    #[test]
    fn tests_comments_and_other_crates_may() {
        let text = "//! A Mutex is not used.\nuse std::{fmt, ops::Range};\nfn operand() {}\n\
                    #[cfg(test)]\nmod tests { use std::fs; use x::HashMap; }\n";
        assert_eq!(found("crates/protocols/src/a.rs", text), [""; 0]);
        assert_eq!(found("crates/storage/src/a.rs", "use std::fs;\n"), [""; 0]);
        assert_eq!(found("crates/protocols/tests/a.rs", "use std::fs;\n"), [""; 0]);
    }
}
