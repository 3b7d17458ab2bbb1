//! Ways to look at a trace. Each is a pure function of the [`Trace`](super::trace::Trace): the same
//! run is shown in the same bytes.
//!
//! | function | file | for |
//! |---|---|---|
//! | [`text()`] | `text.rs` | a terminal, a mail, a diff: one line per step |
//! | [`page()`] | `page.rs` | a browser: a space-time diagram beside the state of each node |
//! | [`shiviz()`] | `shiviz.rs` | the tool ShiViz: vector clocks |
//!
//! A trace holds texts of a stranger: keys, values, names. None of the three lets such a text do
//! anything but be read: what would move a cursor, end a line or turn the direction of writing is
//! shown as `\u{..}`, and what HTML would take for markup reaches the page as data.

mod page;
mod shiviz;
mod text;

pub use page::page;
pub use shiviz::shiviz;
pub use text::{Colour, text};

use std::fmt::{self, Write};

/// A text of which no character does anything but be read.
struct Readable<'a>(&'a str);

impl fmt::Display for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match is_unseen(letter) {
                true => write!(f, "{}", letter.escape_unicode())?,
                false => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// Control characters, ends of lines in any language, and what turns the direction of writing.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(letter, '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// True time in milliseconds with microseconds; nanoseconds are cut off.
struct Millis(u64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0 / 1_000;
        f.pad(&format!("{}.{:03}", micros / 1_000, micros % 1_000))
    }
}

/// The name at `place`; a trace that was made by hand may name a place that is not there.
fn name(names: &[String], place: usize) -> String {
    match names.get(place) {
        Some(name) => Readable(name).to_string(),
        None => format!("?{place}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_milliseconds_and_microseconds() {
        assert_eq!(Millis(0).to_string(), "0.000");
        assert_eq!(Millis(1_500_999).to_string(), "1.500");
        assert_eq!(format!("{:>9}", Millis(12_000_001_000)), "12000.001");
    }

    #[test]
    fn a_text_moves_no_cursor_and_turns_no_line() {
        let evil = "a\u{1b}[2Jb\nc\u{202e}d\u{2028}e\u{85}f\u{0}ü→";
        let shown = Readable(evil).to_string();
        let expected = r"a\u{1b}[2Jb\u{a}c\u{202e}d\u{2028}e\u{85}f\u{0}ü→";
        assert_eq!(shown, expected);
    }
}
