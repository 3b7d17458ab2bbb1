//! As much of Rust as the rules need: what is code, what is a test, where a function ends.

/// A Rust file, taken apart.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// The text with comments and the insides of strings blanked out; lines are kept.
    pub(super) code: String,
    /// Functions with a body, tests included.
    pub(super) functions: Vec<Function>,
    /// Names of modules in other files that are compiled for tests only.
    pub(super) test_modules: Vec<String>,
    /// Ranges of lines, first and last, that are compiled for tests only.
    test_lines: Vec<(usize, usize)>,
}

/// A function with its lines, counted from 1.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Function {
    pub(super) name: String,
    pub(super) first: usize,
    pub(super) last: usize,
}

impl Source {
    pub(super) fn read(text: &str) -> Source {
        let code = blank(text);
        let mut source = Source { functions: functions(&code), ..Source::default() };
        find_tests(&code, &mut source);
        source.code = code;
        source
    }

    /// True if the line is compiled for tests only.
    pub(super) fn is_test_line(&self, number: usize) -> bool {
        self.test_lines.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// Lines of the file that are not compiled for tests only.
    pub(super) fn lines_without_tests(&self) -> usize {
        let tests: usize = self.test_lines.iter().map(|(first, last)| last + 1 - first).sum();
        self.code.lines().count() - tests
    }
}

/// The identifiers and numbers of a line of code.
pub(super) fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|letter: char| !is_word(letter)).filter(|word| !word.is_empty())
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// What the lexer is inside of.
#[derive(Clone, Copy)]
enum Inside {
    Code,
    LineComment,
    BlockComment { depth: usize },
    Text,
    RawText { hashes: usize },
}

/// Replaces comments and the insides of strings and characters by spaces.
fn blank(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut inside = Inside::Code;
    let mut at = 0;
    while at < letters.len() {
        let (next, now) = match inside {
            Inside::Code => open(&letters, at),
            inside => close(&letters, at, inside),
        };
        let is_code = matches!((inside, now), (Inside::Code, Inside::Code));
        let is_character = is_code && letters[at] == '\'' && next > at + 1;
        for letter in &letters[at..next] {
            code.push(if (is_code && !is_character) || *letter == '\n' { *letter } else { ' ' });
        }
        (at, inside) = (next, now);
    }
    code
}

/// Steps over one letter of code, a character literal, or the beginning of a comment or string.
fn open(letters: &[char], at: usize) -> (usize, Inside) {
    let peek = |offset: usize| letters.get(at + offset).copied().unwrap_or(' ');
    let follows_word = at > 0 && is_word(letters[at - 1]);
    match letters[at] {
        '/' if peek(1) == '/' => (at + 2, Inside::LineComment),
        '/' if peek(1) == '*' => (at + 2, Inside::BlockComment { depth: 1 }),
        '"' => (at + 1, Inside::Text),
        'r' | 'b' if !follows_word => {
            let raw = if letters[at] == 'b' && peek(1) == 'r' { 2 } else { 1 };
            let is_raw = letters[at] == 'r' || raw == 2;
            let hashes = (0..).take_while(|offset| peek(raw + offset) == '#').count();
            match is_raw && peek(raw + hashes) == '"' {
                true => (at + raw + hashes + 1, Inside::RawText { hashes }),
                false => (at + 1, Inside::Code),
            }
        }
        '\'' if peek(1) == '\\' => {
            let end = (at + 3..letters.len()).find(|end| letters[*end] == '\'');
            (end.map_or(letters.len(), |end| end + 1), Inside::Code)
        }
        '\'' if peek(2) == '\'' => (at + 3, Inside::Code),
        _ => (at + 1, Inside::Code),
    }
}

/// Steps over a letter or the end of a comment or string.
fn close(letters: &[char], at: usize, inside: Inside) -> (usize, Inside) {
    let peek = |offset: usize| letters.get(at + offset).copied().unwrap_or(' ');
    match (inside, letters[at]) {
        (Inside::LineComment, '\n') => (at + 1, Inside::Code),
        (Inside::BlockComment { depth }, '/') if peek(1) == '*' => {
            (at + 2, Inside::BlockComment { depth: depth + 1 })
        }
        (Inside::BlockComment { depth: 1 }, '*') if peek(1) == '/' => (at + 2, Inside::Code),
        (Inside::BlockComment { depth }, '*') if peek(1) == '/' => {
            (at + 2, Inside::BlockComment { depth: depth - 1 })
        }
        (Inside::Text, '\\') => ((at + 2).min(letters.len()), Inside::Text),
        (Inside::Text, '"') => (at + 1, Inside::Code),
        (Inside::RawText { hashes }, '"') if (1..=hashes).all(|offset| peek(offset) == '#') => {
            (at + 1 + hashes, Inside::Code)
        }
        (inside, _) => (at + 1, inside),
    }
}

/// Every function with a body.
fn functions(code: &str) -> Vec<Function> {
    let mut functions = Vec::new();
    let mut line = 1;
    let mut counted = 0;
    for (at, _) in code.match_indices("fn ") {
        line += code[counted..at].matches('\n').count();
        counted = at;
        let follows_word = code[..at].chars().next_back().is_some_and(is_word);
        let name: String =
            code[at + 3..].trim_start().chars().take_while(|l| is_word(*l)).collect();
        if follows_word || name.is_empty() {
            continue;
        }
        if let Some(end) = end_of_item(code, at).filter(|end| code[..*end].ends_with('}')) {
            let last = line + code[at..end].matches('\n').count();
            functions.push(Function { name, first: line, last });
        }
    }
    functions
}

/// Where the item that begins at `at` ends: after its `;`, or after the brace that closes it.
fn end_of_item(code: &str, at: usize) -> Option<usize> {
    let mut braces = 0_usize;
    let mut others = 0_usize;
    for (offset, letter) in code[at..].char_indices() {
        match letter {
            '(' | '[' => others += 1,
            ')' | ']' => others = others.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.saturating_sub(1);
                if braces == 0 && others == 0 {
                    return Some(at + offset + 1);
                }
            }
            ';' if braces == 0 && others == 0 => return Some(at + offset + 1),
            _ => {}
        }
    }
    None
}

/// Notes what stands below each `#[cfg(test)]`.
fn find_tests(code: &str, source: &mut Source) {
    const MARK: &str = "#[cfg(test)]";
    let mut from = 0;
    while let Some(at) = code[from..].find(MARK).map(|offset| from + offset) {
        let after = at + MARK.len();
        let item = after + code[after..].find(|letter: char| !letter.is_whitespace()).unwrap_or(0);
        let end = end_of_item(code, skip_attributes(code, item)).unwrap_or(code.len());
        let first = 1 + code[..at].matches('\n').count();
        let last = first + code[at..end].matches('\n').count();
        source.test_lines.push((first, last));
        let mut item_words = words(&code[item..end]).skip_while(|word| *word != "mod");
        if code[..end].ends_with(';')
            && item_words.next().is_some()
            && let Some(name) = item_words.next()
        {
            source.test_modules.push(name.to_owned());
        }
        from = end;
    }
}

/// The first place at or after `at` that is not inside an attribute.
fn skip_attributes(code: &str, mut at: usize) -> usize {
    while code[at..].starts_with("#[") {
        let end = code[at..].find(']').map_or(code.len(), |offset| at + offset + 1);
        let gap = code[end..].find(|letter: char| !letter.is_whitespace()).unwrap_or(0);
        at = end + gap;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let text =
            "let a = \"x // \\\" y\"; // z\nlet b = r#\"q \" r\"#; /* s /* t */ u */ let c = '\"';";
        let code = blank(text);
        assert_eq!(words(&code).collect::<Vec<_>>(), ["let", "a", "let", "b", "let", "c"]);
        assert_eq!(code.lines().count(), 2);
    }

    #[test]
    fn a_lifetime_is_no_character() {
        let code = blank("fn f<'a>(x: &'a str) -> char { let y = '\\''; 'z' }");
        assert!(code.contains("<'a>(x: &'a str)"), "{code}");
        assert!(!code.contains('z'), "{code}");
    }

    #[test]
    fn functions_know_their_lines() {
        let text = "trait T {\n    fn none(&self);\n    fn some(&self) {\n        match 1 {\n\
                    _ => {}\n        }\n    }\n}\nfn one() {}\n";
        let found = Source::read(text).functions;
        let expected = [("some", 3, 7), ("one", 9, 9)];
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.first, f.last)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_below_a_test_mark_is_a_test() {
        let text = "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n fn b() {}\n}\n\
                    fn c() {}\n\
                    #[cfg(test)]\nmod more;\n";
        let source = Source::read(text);
        let tests: Vec<usize> = (1..=9).filter(|line| source.is_test_line(*line)).collect();
        assert_eq!(tests, [2, 3, 4, 5, 6, 8, 9]);
        assert_eq!(source.lines_without_tests(), 2);
        assert_eq!(source.test_modules, ["more"]);
    }
}
