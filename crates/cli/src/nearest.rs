//! The known name that a mistyped one probably meant.
//!
//! Bound: nothing is proposed for more than [`NAME_MAX`] bytes, which are no typing error.

/// Bytes of a name that is looked at, at most.
const NAME_MAX: usize = 200;

/// The nearest of `candidates`, if it differs in two letters or a third of all, and not in all of
/// them: beyond that a proposal confuses more than it helps.
pub(crate) fn nearest<'a>(
    text: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    if text.len() > NAME_MAX {
        return None;
    }
    let candidates: Vec<&str> = candidates.into_iter().collect();
    let near = candidates
        .iter()
        .map(|candidate| (distance(text, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| {
            *distance <= (candidate.len() / 3).max(2) && *distance < candidate.len()
        })
        .map(|(_, candidate)| candidate);
    // Or it is a word that was not finished.
    let begun = || candidates.iter().find(|known| text.len() > 2 && known.starts_with(text));
    near.or_else(|| begun().copied())
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
    fn nonsense_is_given_no_name() {
        let names = ["crash", "crash-stop", "kill"];
        assert_eq!(nearest("crsh", names), Some("crash"));
        assert_eq!(nearest("crash-stpo", names), Some("crash-stop"));
        assert_eq!(nearest("partition", names), None);
        assert_eq!(nearest("part", ["pause", "partition"]), Some("partition"));
        assert_eq!(nearest("xy", ["kv", "lock"]), None, "nothing of it is the same");
        assert_eq!(nearest(&"x".repeat(1 << 24), names), None, "and it takes no time");
    }
}
