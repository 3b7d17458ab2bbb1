//! The known name that a mistyped one probably meant.

use crate::serve::table;

/// The flag whose name is nearest.
pub(super) fn flag(name: &str) -> Option<&'static str> {
    let special = ["config-file", "version", "help"];
    nearest(name, table::flags().map(|flag| flag.name).chain(special))
}

/// The YAML key that is nearest.
pub(super) fn yaml_key(key: &str) -> Option<&'static str> {
    nearest(key, table::flags().map(|flag| flag.yaml))
}

/// The nearest of `candidates`, if it differs in two letters or a third of all: beyond that a
/// proposal confuses more than it helps.
fn nearest(text: &str, candidates: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    candidates
        .map(|candidate| (distance(text, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 3).max(2))
        .map(|(_, candidate)| candidate)
}

/// The fewest single-letter insertions, deletions and replacements between two texts.
///
/// Source: Wagner and Fischer, "The String-to-String Correction Problem" (1974), one row kept.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_the_textbook() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn a_typing_error_finds_its_flag_and_nonsense_finds_none() {
        assert_eq!(flag("listen-client-url"), Some("listen-client-urls"));
        assert_eq!(flag("dta-dir"), Some("data-dir"));
        assert_eq!(flag("xyzzy-frobnicate"), None);
        assert_eq!(
            yaml_key("peer-transport-security.certfile"),
            Some("peer-transport-security.cert-file")
        );
    }
}
