//! As much of EDN as histories need: nil, booleans, numbers, strings, keywords, symbols, vectors,
//! lists, maps and sets; comments, commas and discarded forms are skipped, tags are ignored.
//!
//! Everything that is read knows where it stood, so that a complaint can point at it.
//!
//! Bounds: forms nest at most [`DEPTH_MAX`] deep.
//!
//! Source: the edn format specification (`edn-format/edn`).

use super::{ParseError, Place};
use std::fmt;

/// Deeper nesting is refused.
pub const DEPTH_MAX: usize = 64;

/// A form and where it began.
#[derive(Clone, Debug, PartialEq)]
pub struct Edn {
    /// Where it began.
    pub place: Place,
    /// What it is.
    pub form: Form,
}

/// What can be written.
#[derive(Clone, Debug, PartialEq)]
pub enum Form {
    /// `nil`
    Nil,
    /// `true`, `false`
    Bool(bool),
    /// `3`, `-3`, `3N`
    Number(i64),
    /// `3.5`, `1e3`
    Float(f64),
    /// `"text"`
    Text(String),
    /// `:name`, without the colon
    Keyword(String),
    /// `name`
    Symbol(String),
    /// `[a b]` and `(a b)`
    Sequence(Vec<Edn>),
    /// `#{a b}`
    Set(Vec<Edn>),
    /// `{k v}`
    Map(Vec<(Edn, Edn)>),
}

impl Edn {
    /// The value under a keyword of a map.
    pub fn under(&self, name: &str) -> Option<&Edn> {
        let Form::Map(pairs) = &self.form else { return None };
        let is_named = |key: &Edn| matches!(&key.form, Form::Keyword(word) if word == name);
        pairs.iter().find(|(key, _)| is_named(key)).map(|(_, value)| value)
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match &self.form {
            Form::Nil => "nil",
            Form::Bool(_) => "a boolean",
            Form::Number(_) | Form::Float(_) => "a number",
            Form::Text(_) => "a string",
            Form::Keyword(word) => return write!(f, ":{word}"),
            Form::Symbol(word) => return write!(f, "{word}"),
            Form::Sequence(_) => "a vector",
            Form::Set(_) => "a set",
            Form::Map(_) => "a map",
        })
    }
}

/// Reads forms one after another.
pub struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    place: Place,
    depth: usize,
}

impl<'a> Reader<'a> {
    /// Reads `text`, which begins at `place` of its file.
    pub fn new(text: &'a str, place: Place) -> Self {
        Reader { rest: text.chars().peekable(), place, depth: 0 }
    }

    /// The next form, or `None` at the end.
    ///
    /// # Errors
    ///
    /// If what follows is no form, or the text ends within one.
    pub fn next_form(&mut self) -> Result<Option<Edn>, ParseError> {
        self.skip_blanks()?;
        if self.rest.peek().is_none() {
            return Ok(None);
        }
        self.form().map(Some)
    }

    fn bump(&mut self) -> Option<char> {
        let letter = self.rest.next()?;
        if letter == '\n' {
            self.place = Place { line: self.place.line + 1, column: 1 };
        } else {
            self.place.column += 1;
        }
        Some(letter)
    }

    fn skip_blanks(&mut self) -> Result<(), ParseError> {
        while let Some(&letter) = self.rest.peek() {
            if letter == ';' {
                while self.rest.peek().is_some_and(|letter| *letter != '\n') {
                    self.bump();
                }
            } else if letter.is_whitespace() || letter == ',' {
                self.bump();
            } else if letter == '#' && self.follows('_') {
                self.ignored()?;
            } else {
                break;
            }
        }
        Ok(())
    }

    /// `#_` and the form that it takes away. The form may begin with another `#_`: that nests too.
    fn ignored(&mut self) -> Result<(), ParseError> {
        let place = self.place;
        self.bump();
        self.bump();
        self.descend(place)?;
        self.inner()?;
        self.depth -= 1;
        Ok(())
    }

    fn descend(&mut self, place: Place) -> Result<(), ParseError> {
        self.depth += 1;
        match self.depth > DEPTH_MAX {
            true => {
                let what = format!("forms nest more than {DEPTH_MAX} deep");
                Err(ParseError::new(place, what))
            }
            false => Ok(()),
        }
    }

    /// True if `letter` comes after the next one.
    fn follows(&self, letter: char) -> bool {
        let mut ahead = self.rest.clone();
        ahead.next();
        ahead.next() == Some(letter)
    }

    /// A form that must be there.
    fn inner(&mut self) -> Result<Edn, ParseError> {
        self.skip_blanks()?;
        if self.rest.peek().is_none() {
            return Err(ParseError::new(self.place, "the text ends within a form"));
        }
        self.form()
    }

    fn form(&mut self) -> Result<Edn, ParseError> {
        let place = self.place;
        self.descend(place)?;
        let letter = *self.rest.peek().expect("the caller looked");
        let form = match letter {
            '[' => self.items(place, ']').map(Form::Sequence),
            '(' => self.items(place, ')').map(Form::Sequence),
            '{' => self.map(place),
            '"' => self.text(place),
            '#' if self.follows('{') => {
                self.bump();
                self.items(place, '}').map(Form::Set)
            }
            '#' => {
                self.bump();
                self.word();
                self.inner().map(|tagged| tagged.form)
            }
            ']' | ')' | '}' => Err(ParseError::new(place, format!("'{letter}' closes nothing"))),
            _ => {
                let word = self.word();
                atom(&word).ok_or_else(|| ParseError::new(place, format!("'{word}' is no form")))
            }
        };
        self.depth -= 1;
        form.map(|form| Edn { place, form })
    }

    fn items(&mut self, place: Place, end: char) -> Result<Vec<Edn>, ParseError> {
        self.bump();
        let mut items = Vec::new();
        loop {
            self.skip_blanks()?;
            match self.rest.peek() {
                None => {
                    let what = format!("what begins at {place} is not closed with '{end}'");
                    return Err(ParseError::new(self.place, what));
                }
                Some(letter) if *letter == end => {
                    self.bump();
                    return Ok(items);
                }
                Some(_) => items.push(self.form()?),
            }
        }
    }

    fn map(&mut self, place: Place) -> Result<Form, ParseError> {
        let mut items = self.items(place, '}')?.into_iter();
        let mut pairs = Vec::with_capacity(items.len() / 2);
        while let Some(key) = items.next() {
            let Some(value) = items.next() else {
                return Err(ParseError::new(key.place, "this key of a map has no value"));
            };
            pairs.push((key, value));
        }
        Ok(Form::Map(pairs))
    }

    fn text(&mut self, place: Place) -> Result<Form, ParseError> {
        self.bump();
        let mut text = String::new();
        loop {
            let at = self.place;
            match self.bump() {
                Some('"') => return Ok(Form::Text(text)),
                Some('\\') => text.push(match self.bump() {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some('r') => '\r',
                    Some(letter @ ('"' | '\\')) => letter,
                    _ => return Err(ParseError::new(at, "this escape is not known")),
                }),
                Some(letter) => text.push(letter),
                None => {
                    let what = format!("the string that begins at {place} is not closed");
                    return Err(ParseError::new(at, what));
                }
            }
        }
    }

    fn word(&mut self) -> String {
        let mut word = String::new();
        while let Some(&letter) = self.rest.peek() {
            if letter.is_whitespace() || "[](){}\",;".contains(letter) {
                break;
            }
            word.push(letter);
            self.bump();
        }
        word
    }
}

fn atom(word: &str) -> Option<Form> {
    if let Some(name) = word.strip_prefix(':') {
        return (!name.is_empty()).then(|| Form::Keyword(name.to_owned()));
    }
    match word {
        "nil" => return Some(Form::Nil),
        "true" => return Some(Form::Bool(true)),
        "false" => return Some(Form::Bool(false)),
        _ => {}
    }
    let first = word.trim_start_matches(['+', '-']).chars().next()?;
    if !first.is_ascii_digit() {
        return Some(Form::Symbol(word.to_owned()));
    }
    let digits = word.strip_suffix(['N', 'M']).unwrap_or(word);
    let number = digits.parse().map(Form::Number);
    number.or_else(|_| digits.parse().map(Form::Float)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Edn>, ParseError> {
        Reader::new(text, Place { line: 1, column: 1 }).next_form()
    }

    fn complaint(text: &str) -> String {
        read(text).expect_err(text).to_string()
    }

    #[test]
    fn what_histories_need_is_read() {
        let text = "{:process 0, :type :ok, :value [1 -2 nil \"a\\\"b\"], :x #{1 (true)} ; end\n}";
        let map = read(text).expect("a map").expect("one form");
        let Some(Edn { form: Form::Sequence(items), .. }) = map.under("value") else {
            panic!("{map:?}")
        };
        let forms: Vec<&Form> = items.iter().map(|item| &item.form).collect();
        let text = Form::Text("a\"b".to_owned());
        assert_eq!(forms, [&Form::Number(1), &Form::Number(-2), &Form::Nil, &text]);
        assert_eq!(items[3].place, Place { line: 1, column: 42 });
        assert!(
            matches!(map.under("x"), Some(Edn { form: Form::Set(items), .. }) if items.len() == 2)
        );
        assert_eq!(read(" ;nothing\n #_ignored ").expect("blanks"), None);
        let tagged = read("#inst \"2026\"").expect("a tag").expect("a form");
        assert_eq!(tagged.form, Form::Text("2026".to_owned()));
    }

    #[test]
    fn complaints_point_at_the_place() {
        assert_eq!(complaint("[1 2"), "1:5: what begins at 1:1 is not closed with ']'");
        assert_eq!(complaint("\n {:a}"), "2:3: this key of a map has no value");
        assert_eq!(complaint("[1}"), "1:3: '}' closes nothing");
        assert_eq!(complaint("\"abc"), "1:5: the string that begins at 1:1 is not closed");
        assert_eq!(complaint("[12x4]"), "1:2: '12x4' is no form");
        assert_eq!(complaint(&"[".repeat(65)), "1:65: forms nest more than 64 deep");
        assert_eq!(complaint(&"#_".repeat(1_000_000)), "1:129: forms nest more than 64 deep");
        assert_eq!(read("#_ #_ 1 2 3").expect("two are taken away").map(|form| form.form), {
            Some(Form::Number(3))
        });
    }
}
