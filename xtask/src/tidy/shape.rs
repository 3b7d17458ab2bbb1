//! How long, how wide, how begun: a file is read once, from top to bottom.

use super::exceptions::Exception;
use super::source::Source;
use super::{Offence, Tree};

/// Lines of a function, first to last.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a file, tests left out.
const FILE_LINES_MAX: usize = 700;
/// Columns of a line.
const COLUMNS_MAX: usize = 100;

/// An exception may stand so much above what it excuses before it must be lowered.
const SLACK_LINES: usize = 30;

/// Words that must not be committed. Put together here, so that this file may be.
const BANNED: &[(&str, &str)] = &[
    (concat!("TO", "DO"), "do it, or write down in the docs what is missing"),
    (concat!("FIX", "ME"), "fix it"),
    (concat!("X", "XX"), "say what is wrong in a sentence"),
    (concat!("db", "g!"), "remove it"),
    (concat!("to", "do!"), "write it"),
];

pub(super) fn check(
    tree: &Tree,
    long_functions: &[Exception],
    long_files: &[Exception],
    offences: &mut Vec<Offence>,
) {
    tree.files().for_each(|(path, text)| check_text(path, text, offences));
    for (path, source) in tree.sources() {
        check_essay(path, tree.file(path).unwrap_or_default(), offences);
        if !tree.is_test_file(path) {
            check_functions(path, source, long_functions, offences);
            check_length(path, source, long_files, offences);
        }
    }
    check_exceptions(tree, long_functions, long_files, offences);
}

fn check_text(path: &str, text: &str, offences: &mut Vec<Offence>) {
    let mut is_fenced = false;
    for (at, line) in text.lines().enumerate() {
        let mut report = |rule, advice: &str| {
            offences.push(Offence::new(path, at + 1, rule, advice));
        };
        is_fenced ^= line.trim_start().starts_with("```");
        if line.ends_with([' ', '\t']) {
            report("white-space", "remove the blanks at the end");
        }
        if line.chars().count() > COLUMNS_MAX && !may_be_wide(path, line, is_fenced) {
            report("width", "break the line at 100 columns");
        }
        for (word, advice) in BANNED {
            if line.match_indices(word).any(|(at, _)| stands_alone(line, at, word)) {
                report("words", &format!("'{word}': {advice}"));
            }
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        let lines = text.lines().count();
        offences.push(Offence::new(path, lines, "white-space", "end the last line"));
    }
}

/// Transcripts and what a tool wrote are as wide as they are; so are tables, links and texts.
fn may_be_wide(path: &str, line: &str, is_fenced: bool) -> bool {
    let is_document = path.ends_with(".md");
    let is_checked = is_document || path.ends_with(".rs");
    let is_text = ["\"", "r\"", "r#\""].iter().any(|quote| line.trim_start().starts_with(quote));
    let is_row = line.starts_with("//! |") || line.trim_start().starts_with("/// |");
    !is_checked
        || line.contains("http://")
        || line.contains("https://")
        || is_row
        || is_text
        || (is_document && (is_fenced || line.starts_with('|') || line.contains("](")))
        || (is_document && line.starts_with("    "))
}

/// True if the word at `at` is not a part of a longer one.
fn stands_alone(line: &str, at: usize, word: &str) -> bool {
    let is_word = |letter: char| letter.is_alphanumeric() || letter == '_';
    let before = line[..at].chars().next_back().is_some_and(is_word);
    let after = line[at + word.len()..].chars().next().is_some_and(is_word);
    !before && (!after || !word.ends_with(is_word))
}

fn check_essay(path: &str, text: &str, offences: &mut Vec<Offence>) {
    if !text.starts_with("//!") {
        let advice = "begin with an essay (//!): the problem, the idea, what is guaranteed";
        offences.push(Offence::new(path, 1, "essay", advice));
    }
}

fn check_functions(
    path: &str,
    source: &Source,
    exceptions: &[Exception],
    offences: &mut Vec<Offence>,
) {
    for function in source.functions.iter().filter(|f| !source.is_test_line(f.first)) {
        let lines = function.last + 1 - function.first;
        let excused = exceptions.iter().find(|e| e.path == path && e.name == function.name);
        let lines_max = excused.map_or(FUNCTION_LINES_MAX, |excused| excused.lines_max);
        if lines > lines_max {
            let advice = format!(
                "'{}' has {lines} lines of {lines_max}; move state or pure parts out of it",
                function.name
            );
            offences.push(Offence::new(path, function.first, "function-length", advice));
        }
    }
}

fn check_length(
    path: &str,
    source: &Source,
    exceptions: &[Exception],
    offences: &mut Vec<Offence>,
) {
    let lines = source.lines_without_tests();
    let excused = exceptions.iter().find(|exception| exception.path == path);
    let lines_max = excused.map_or(FILE_LINES_MAX, |excused| excused.lines_max);
    if lines > lines_max {
        let advice = format!("{lines} lines of {lines_max}, tests left out; part it by subject");
        offences.push(Offence::new(path, 1, "file-length", advice));
    }
}

/// An exception without a reason, or that is no longer needed, goes.
fn check_exceptions(
    tree: &Tree,
    long_functions: &[Exception],
    long_files: &[Exception],
    offences: &mut Vec<Offence>,
) {
    const HERE: &str = "xtask/src/tidy/exceptions.rs";
    let sources: Vec<(&str, &Source)> = tree.sources().collect();
    let source_of = |path| sources.iter().find(|(at, _)| *at == path).map(|(_, source)| source);
    let length_of = |exception: &Exception| match exception.name {
        "" => source_of(exception.path).map(|source| source.lines_without_tests()),
        name => source_of(exception.path).and_then(|source| {
            let named = source.functions.iter().filter(|function| function.name == name);
            named.map(|function| function.last + 1 - function.first).max()
        }),
    };
    let limits = long_functions.iter().map(|exception| (exception, FUNCTION_LINES_MAX));
    for (exception, limit) in limits.chain(long_files.iter().map(|e| (e, FILE_LINES_MAX))) {
        let Exception { path, name, lines_max, reason } = exception;
        let lines = length_of(exception).unwrap_or(0);
        if reason.is_empty() {
            let advice = format!("say why {path} {name} may be long");
            offences.push(Offence::new(HERE, 1, "exceptions", advice));
        }
        let advice = if lines <= limit {
            format!("{path} {name} is no exception any more: remove it")
        } else if lines + SLACK_LINES < *lines_max {
            format!("{path} {name} shrank: lower its lines_max to {lines}")
        } else {
            continue;
        };
        offences.push(Offence::new(HERE, 1, "exceptions", advice));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted;
    use super::*;

    fn found_with(
        files: &[(&str, &str)],
        functions: &[Exception],
        long_files: &[Exception],
    ) -> Vec<String> {
        let mut offences = Vec::new();
        check(&planted(files), functions, long_files, &mut offences);
        offences.iter().map(Offence::to_string).collect()
    }

    fn found(path: &str, text: &str) -> Vec<String> {
        found_with(&[(path, text)], &[], &[])
    }

    fn function_of(lines: usize) -> String {
        format!("//! Essay.\nfn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    const REASON: &str = "a match that reads as a table";

    #[test]
    fn a_function_grows_to_seventy_lines_and_no_further() {
        assert_eq!(found("crates/a/src/a.rs", &function_of(70)), [""; 0]);
        let found = found("crates/a/src/a.rs", &function_of(71));
        assert_eq!(found.len(), 1);
        assert!(
            found[0].starts_with("crates/a/src/a.rs:2: function-length: 'long' has 71 lines of 70")
        );
    }

    #[test]
    fn an_exception_may_shrink_but_not_grow() {
        let path = "crates/a/src/a.rs";
        let excused = [Exception { path, name: "long", lines_max: 110, reason: REASON }];
        let with = |lines| found_with(&[(path, &function_of(lines))], &excused, &[]);
        assert_eq!(with(110), [""; 0]);
        assert_eq!(with(80), [""; 0]);
        assert!(with(111)[0].contains("111 lines of 110"));
        assert!(with(75)[0].contains("lower its lines_max to 75"));
        assert!(with(20)[0].contains("remove it"));
    }

    #[test]
    fn a_file_grows_to_seven_hundred_lines_without_its_tests() {
        let file = |lines: usize| format!("//! Essay.\n{}", "const A: u8 = 1;\n".repeat(lines - 1));
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "const B: u8 = 1;\n".repeat(90));
        assert_eq!(found("crates/a/src/a.rs", &(file(700) + &tests)), [""; 0]);
        assert!(
            found("crates/a/src/a.rs", &file(701))[0].contains("file-length: 701 lines of 700")
        );
        let path = "crates/a/src/a.rs";
        let excused = [Exception { path, name: "", lines_max: 701, reason: "" }];
        let found = found_with(&[(path, &file(701))], &[], &excused);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("exceptions: say why"));
    }

    #[test]
    fn wide_lines_are_found_where_people_read_them() {
        let wide = "x".repeat(101);
        assert!(found("crates/a/src/a.rs", &format!("//! {wide}\n"))[0].contains(":1: width:"));
        assert!(found("docs/a.md", &format!("# A\n{wide}\n"))[0].contains(":2: width:"));
        assert_eq!(found("docs/a.md", &format!("# A\n| {wide} |\n```\n{wide}\n```\n")), [""; 0]);
        assert_eq!(found("a/scenarios/a.txt", &format!("{wide}\n")), [""; 0]);
    }

    #[test]
    fn every_banned_word_is_found_but_not_inside_another() {
        for (word, _) in BANNED {
            let found = found("docs/a.md", &format!("so {word} it\n"));
            assert_eq!(found.len(), 1, "{word}");
            assert!(found[0].contains("docs/a.md:1: words: "));
        }
        assert_eq!(found("docs/a.md", concat!("MAS", "TODON EXX", "XXL\n")), [""; 0]);
    }

    #[test]
    fn blanks_at_the_end_and_a_missing_essay_are_found() {
        assert!(found("a.toml", "a = 1 \n")[0].contains("a.toml:1: white-space: remove"));
        assert!(found("a.toml", "a = 1")[0].contains("a.toml:1: white-space: end"));
        assert!(found("crates/a/src/a.rs", "use b;\n")[0].contains(":1: essay:"));
    }
}
