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
            if let Err(reason) = outcome {
                return Err(ScriptError { line, reason, told: world.take_output() });
            }
        }
        script::render(&block, &world.take_output(), &mut played);
    }
    while played.ends_with("\n\n") {
        played.pop();
    }
    Ok(played)
}

/// Plays every transcript (`*.txt`) of a folder and compares; with `UPDATE=1` in the environment,
/// rewrites them. Returns how many there are.
///
/// Panics: on a difference, which is shown; on a script that makes no sense; if a file cannot be
/// read or written.
pub fn check_folder<T: Transcript>(folder: &Path) -> usize {
    let name = folder.display();
    let entries = std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{name}: {why}"));
    let paths = entries.map(|entry| entry.unwrap_or_else(|why| panic!("{name}: {why}")).path());
    let mut scripts: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "txt")).collect();
    scripts.sort();
    let complaints: Vec<String> =
        scripts.iter().filter_map(|path| check_file::<T>(path).err()).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    scripts.len()
}

/// Errors: what is wrong, for a reader.
fn check_file<T: Transcript>(path: &Path) -> Result<(), String> {
    let name = path.display();
    let recorded = std::fs::read_to_string(path).map_err(|why| format!("{name}: {why}"))?;
    let played = play::<T>(&recorded).map_err(|why| format!("{name}: {why}"))?;
    if played == recorded {
        return Ok(());
    }
    if std::env::var_os("UPDATE").is_some_and(|value| value == "1") {
        return std::fs::write(path, played).map_err(|why| format!("{name}: {why}"));
    }
    let difference = difference(&recorded, &played);
    Err(format!("{name} tells another story (UPDATE=1 records the new one):\n{difference}"))
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
