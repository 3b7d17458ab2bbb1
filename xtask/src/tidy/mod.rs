//! The rules of the house that neither the compiler nor clippy knows.
//!
//! Each rule is a function from the repository's text to offences, so each has a test with a
//! planted one. They run in well under a second and are part of `cargo test`.
//!
//! | file | rules |
//! |---|---|
//! | `layers.rs` | which crate may import which; where async may be; who may name whom |
//! | `determinism.rs` | what a deterministic crate never sees |
//! | `shape.rs` | lengths of functions and files, width of lines, essays, words, white space |
//! | `documents.rs` | titles, links, decision records, the table of contents of protocols |
//!
//! Limits are ratchets: what was longer before is listed in `exceptions.rs` with a reason, and may
//! shrink but not grow.

mod determinism;
mod documents;
mod exceptions;
mod layers;
mod shape;
mod source;
mod tree;

pub(crate) use tree::Tree;

use std::fmt;

/// One place that breaks one rule.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Offence {
    path: String,
    line: usize,
    rule: &'static str,
    advice: String,
}

impl Offence {
    fn new(path: &str, line: usize, rule: &'static str, advice: impl Into<String>) -> Offence {
        Offence { path: path.to_owned(), line, rule, advice: advice.into() }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.advice)
    }
}

/// Everything that breaks a rule, in the order of paths and lines.
pub(crate) fn offences(tree: &Tree) -> Vec<Offence> {
    let mut offences = Vec::new();
    layers::check(tree, &mut offences);
    determinism::check(tree, &mut offences);
    shape::check(tree, exceptions::LONG_FUNCTIONS, exceptions::LONG_FILES, &mut offences);
    documents::check(tree, &mut offences);
    offences.sort();
    offences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        let tree = Tree::load(&crate::root()).expect("a readable repository");
        let offences = offences(&tree);
        let list: Vec<String> = offences.iter().map(Offence::to_string).collect();
        assert!(list.is_empty(), "{} offences:\n{}", list.len(), list.join("\n"));
    }

    #[test]
    fn an_offence_reads_like_a_compiler_message() {
        let offence = Offence::new("a/b.rs", 7, "width", "break the line");
        assert_eq!(offence.to_string(), "a/b.rs:7: width: break the line");
    }
}
