//! Playing transcripts, and comparing them with what is on record.

use super::command::Command;
use super::world::World;
use super::{ScriptError, Transcript, script};
use std::fmt::Write;
use std::path::Path;

/// Lines around a difference that are shown with it.
const CONTEXT_LINES: usize = 3;

/// Plays a transcript and returns its text with the effects that the commands have today.
///
/// Errors: the script itself makes no sense. Panics: an invariant broke.
pub fn play<T: Transcript>(text: &str) -> Result<String, ScriptError> {
    let mut world = World::<T>::default();
    let mut played = String::new();
    for block in script::parse(text)? {
        for (line, text) in block.commands() {
            let _whereabouts = Whereabouts { line, text };
            let outcome = Command::parse(text).and_then(|command| world.obey(command));
            outcome.map_err(|reason| ScriptError { line, reason })?;
        }
        script::render(&block, &world.take_output(), &mut played);
    }
    while played.ends_with("\n\n") {
        played.pop();
    }
    Ok(played)
}

/// Plays the transcript in a file and compares; with `UPDATE=1` in the environment, rewrites it.
///
/// Panics: on a difference, which is shown; on a script that makes no sense; if the file cannot be
/// read or written.
pub fn check_file<T: Transcript>(path: &Path) {
    let name = path.display();
    let recorded = std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{name}: {why}"));
    let played = play::<T>(&recorded).unwrap_or_else(|why| panic!("{name}: {why}"));
    if played == recorded {
        return;
    }
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        std::fs::write(path, played).unwrap_or_else(|why| panic!("{name}: {why}"));
        return;
    }
    let difference = difference(&recorded, &played);
    panic!("{name} tells another story (UPDATE=1 records the new one):\n{difference}");
}

/// Plays every `*.txt` of a folder, as [`check_file`] does, and returns how many there are.
///
/// Panics: as `check_file`; if the folder cannot be read.
pub fn check_folder<T: Transcript>(folder: &Path) -> usize {
    let name = folder.display();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{name}: {why}"));
    let paths = entries.map(|entry| entry.unwrap_or_else(|why| panic!("{name}: {why}")).path());
    let mut scripts: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    scripts.sort();
    scripts.iter().for_each(|path| check_file::<T>(path));
    scripts.len()
}

/// Names the command at which a panic happened.
struct Whereabouts<'a> {
    line: usize,
    text: &'a str,
}

impl Drop for Whereabouts<'_> {
    #[expect(clippy::print_stderr, reason = "a panic is under way; this is where it is reported")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at line {} of the script: {}", self.line, self.text);
        }
    }
}

/// Lines that are gone (`-`) and new (`+`), with some lines around them.
fn difference(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let edits = edits(&old, &new);
    let changed: Vec<usize> =
        edits.iter().enumerate().filter(|(_, (sign, _))| *sign != ' ').map(|(at, _)| at).collect();
    let mut shown = String::new();
    let mut previous = None;
    for (at, (sign, line)) in edits.iter().enumerate() {
        let near = changed.partition_point(|change| change + CONTEXT_LINES < at);
        if changed.get(near).is_none_or(|change| *change > at + CONTEXT_LINES) {
            continue;
        }
        if previous.is_some_and(|previous| previous + 1 != at) {
            shown.push_str("  ...\n");
        }
        previous = Some(at);
        writeln!(shown, "{sign} {line}").expect("a string has room");
    }
    shown
}

/// A shortest way from the old lines to the new ones, by their longest common subsequence.
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let mut common = vec![vec![0_u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] = match old[i] == new[j] {
                true => common[i + 1][j + 1] + 1,
                false => common[i + 1][j].max(common[i][j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut edits = Vec::new();
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            edits.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            edits.push(('-', old[i]));
            i += 1;
        } else {
            edits.push(('+', new[j]));
            j += 1;
        }
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_changed_and_little_else() {
        let old = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n";
        let new = "a\nb\nc\nd\ne\nF\ng\nh\ni\nj\nk\n";
        assert_eq!(difference(old, new), "  c\n  d\n  e\n- f\n+ F\n  g\n  h\n  i\n  j\n+ k\n");
        assert_eq!(difference(old, old), "");
    }
}
