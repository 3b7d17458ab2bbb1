//! The text of a transcript: blocks of commands and the effects expected of them.

use super::{Misread, ScriptError};

const SEPARATOR: &str = "----";

/// Commands with their comments, and what followed them last time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Block {
    /// Line of the first line of `input`, counted from 1.
    pub(super) line: usize,
    /// Commands, comments and empty lines, as written.
    pub(super) input: Vec<String>,
    /// The effects on record.
    pub(super) expected: Vec<String>,
}

impl Block {
    /// The lines which are commands, each with its line number.
    pub(super) fn commands(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.input.iter().enumerate();
        lines
            .map(|(offset, text)| (self.line + offset, text.trim()))
            .filter(|(_, text)| !text.is_empty() && !text.starts_with('#'))
    }
}

/// Errors: commands at the end which no `----` follows.
pub(super) fn parse(text: &str) -> Result<Vec<Block>, ScriptError> {
    let mut blocks = Vec::new();
    let mut block = Block { line: 1, input: Vec::new(), expected: Vec::new() };
    let mut in_output = false;
    for (number, line) in text.lines().enumerate() {
        match (in_output, line.trim_end()) {
            (false, SEPARATOR) => in_output = true,
            (false, line) => block.input.push(line.to_owned()),
            (true, "") => {
                in_output = false;
                let next = Block { line: number + 2, input: Vec::new(), expected: Vec::new() };
                blocks.push(std::mem::replace(&mut block, next));
            }
            (true, line) => block.expected.push(line.to_owned()),
        }
    }
    if !in_output && let Some((line, _)) = block.commands().next() {
        let reason = Misread(format!("no '{SEPARATOR}' follows these commands"));
        return Err(ScriptError { line, reason, told: Vec::new() });
    }
    if !block.input.is_empty() {
        blocks.push(block);
    }
    Ok(blocks)
}

/// The text of a block which had these effects.
pub(super) fn render(block: &Block, effects: &[String], into: &mut String) {
    let separator = SEPARATOR.to_owned();
    let is_story = block.commands().next().is_some();
    let separator = is_story.then_some(&separator);
    for line in block.input.iter().chain(separator).chain(effects) {
        into.push_str(line);
        into.push('\n');
    }
    if is_story {
        into.push('\n');
    }
}
