//! `quorate man DIR`: a manual page for every command.
//!
//! **Idea.** The definition of the commands knows their words, flags and examples; the pages are
//! made of it, so that they cannot fall behind. The examples and the flags of `serve` are tables,
//! and a page would flow them into one paragraph: here they keep their lines.

use crate::serve;
use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Why the pages are not there. Those written before stay.
#[derive(Debug)]
pub(crate) struct ManError {
    path: PathBuf,
    error: io::Error,
}

impl std::fmt::Display for ManError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ManError { path, error } = self;
        write!(f, "cannot write {}: {error}; give a directory that is writable", path.display())
    }
}

/// Writes the pages of `command` and of all commands below it into `dir`, which is made if it is
/// not there. Returns how many there are.
pub(crate) fn write(command: Command, dir: &Path) -> Result<usize, ManError> {
    fs::create_dir_all(dir).map_err(|error| ManError { path: dir.to_owned(), error })?;
    // `help` would have as many pages again, each saying that it shows the help of another.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_tree(&command, dir)
}

fn write_tree(command: &Command, dir: &Path) -> Result<usize, ManError> {
    let man = Man::new(command.clone());
    let path = dir.join(man.get_filename());
    let text = page(command, &man).map_err(|error| ManError { path: path.clone(), error })?;
    fs::write(&path, text).map_err(|error| ManError { path, error })?;
    let below = command.get_subcommands().filter(|command| !command.is_hide_set());
    below.map(|command| write_tree(command, dir)).sum::<Result<usize, _>>().map(|pages| pages + 1)
}

fn page(command: &Command, man: &Man) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    if command.get_name() == "serve" {
        table(&mut text, "DESCRIPTION", &serve::long_help())?;
        return Ok(text);
    }
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if command.get_arguments().next().is_some() {
        man.render_options_section(&mut text)?;
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(after) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        table(&mut text, "NOTES", &after.to_string())?;
    }
    Ok(text)
}

/// A section whose lines stay as they are.
fn table(text: &mut Vec<u8>, title: &str, lines: &str) -> io::Result<()> {
    let mut roff = Roff::default();
    roff.control("SH", [title]).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []).to_writer(text)
}
