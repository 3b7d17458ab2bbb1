//! Printing that survives a reader who has gone away.

use std::io::Write;

/// Prints a line on standard output. A closed pipe (`quorate status | head -1`) is no error.
pub(crate) fn line(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Prints a line on standard error.
pub(crate) fn complain(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "quorate: {text}");
}

/// Prints a line on standard error as it is.
pub(crate) fn note(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
