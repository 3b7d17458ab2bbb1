//! Files that a user names, read whole.
//!
//! What is no regular file is refused before it is opened: a pipe that nobody writes to is waited
//! for in vain, and a device such as `/dev/zero` has no end. What is larger than its reader can use
//! is refused before memory is asked for, and a file that grows meanwhile is refused as well.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// A file with a zero byte among so many is no text: the rest, which may be a hole of gigabytes, is
/// not read.
const HEAD_BYTES: u64 = 64 << 10;

/// Why a file is not read.
#[derive(Debug)]
pub(crate) enum InputError {
    /// The system says so.
    Io(io::Error),
    /// It is a directory.
    Directory,
    /// It is a pipe, a device or a socket.
    Special,
    /// It is larger than what is read.
    Large {
        /// Bytes that are read, at most.
        most: u64,
    },
    /// It is no text.
    NotText {
        /// Line and column of the first byte that is none, from 1.
        at: (usize, usize),
        /// It begins as texts in UTF-16 do.
        utf16: bool,
    },
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InputError::Io(error) => write!(f, "{error}"),
            InputError::Directory => f.write_str("this is a directory; name a file in it"),
            InputError::Special => f.write_str(
                "this is no regular file but a pipe or a device; write it into a file, and name \
                 that",
            ),
            InputError::Large { most } => write!(
                f,
                "this is larger than the {} MiB that are read; it is probably the wrong file",
                most >> 20
            ),
            InputError::NotText { utf16: false, .. } => f.write_str("this is no text (UTF-8)"),
            InputError::NotText { utf16: true, .. } => f.write_str(
                "this is text in UTF-16; convert it, for example with 'iconv -f utf-16 -t utf-8'",
            ),
        }
    }
}

/// A text file of at most so many bytes, without a byte order mark.
pub(crate) fn text(path: &Path, most: u64) -> Result<String, InputError> {
    let kind = std::fs::metadata(path).map_err(InputError::Io)?;
    if kind.is_dir() {
        return Err(InputError::Directory);
    }
    if !kind.is_file() {
        return Err(InputError::Special);
    }
    if kind.len() > most {
        return Err(InputError::Large { most });
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(InputError::Io)?;
    (&mut file).take(HEAD_BYTES).read_to_end(&mut bytes).map_err(InputError::Io)?;
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(not_text(&bytes, at));
    }
    let rest = most.saturating_add(1).saturating_sub(bytes.len() as u64);
    file.take(rest).read_to_end(&mut bytes).map_err(InputError::Io)?;
    if bytes.len() as u64 > most {
        return Err(InputError::Large { most });
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        not_text(error.as_bytes(), at)
    })?;
    match text.strip_prefix('\u{feff}') {
        Some(text) => Ok(text.to_owned()),
        None => Ok(text),
    }
}

/// Names the place of the first byte that is no text.
fn not_text(bytes: &[u8], at: usize) -> InputError {
    let marks = [&[0xff, 0xfe][..], &[0xfe, 0xff]];
    let utf16 = marks.iter().any(|mark| bytes.starts_with(mark));
    let good = String::from_utf8_lossy(&bytes[..at]);
    let line = good.matches('\n').count() + 1;
    let column = good.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    InputError::NotText { at: (line, column), utf16 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_in_a_regular_file_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("it can be written");
            text(&path, 8)
        };
        assert_eq!(read(b"12345678").expect("it fits"), "12345678");
        assert_eq!(read(b"\xef\xbb\xbf1234").expect("a mark is left out"), "1234");
        assert!(matches!(read(b"123456789"), Err(InputError::Large { most: 8 })));
        let refused = |bytes: &[u8]| match read(bytes) {
            Err(InputError::NotText { at, utf16 }) => (at, utf16),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(b"a\nb\xff"), ((2, 2), false));
        assert_eq!(refused(b"\xff\xfea\0"), ((1, 4), true));
        assert_eq!(refused(b"a\nbc\0"), ((2, 3), false));
        assert!(matches!(text(folder.path(), 8), Err(InputError::Directory)));
        assert!(matches!(text(Path::new("/dev/zero"), 8), Err(InputError::Special)));
        assert!(matches!(text(Path::new("/no/such"), 8), Err(InputError::Io(_))));
        // A file without an end that costs no space.
        let hole = File::create(&path).expect("it can be made");
        hole.set_len(1 << 40).expect("a hole");
        assert!(matches!(text(&path, 1 << 30), Err(InputError::Large { .. })));
    }
}
