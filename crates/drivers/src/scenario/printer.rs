//! The lines of a story.

use super::command::Switch;

/// Collects what is printed. Effects are indented below their event.
#[derive(Clone, Debug)]
pub(super) struct Printer {
    lines: Vec<String>,
    /// An event that is worth a line only if it has effects.
    silent_event: Option<String>,
    pub(super) log: Switch,
    pub(super) alarms: Switch,
}

impl Default for Printer {
    fn default() -> Self {
        let lines = Vec::new();
        Printer { lines, silent_event: None, log: Switch::On, alarms: Switch::Off }
    }
}

impl Printer {
    /// Something happened.
    pub(super) fn event(&mut self, line: String) {
        self.silent_event = None;
        if self.log == Switch::On {
            self.lines.push(line);
        }
    }

    /// Something happened that is printed only if effects follow.
    pub(super) fn event_if_any(&mut self, line: String) {
        self.silent_event = Some(line);
    }

    /// A consequence of the last event.
    pub(super) fn effect(&mut self, line: String) {
        if self.log == Switch::On {
            self.lines.extend(self.silent_event.take());
            self.lines.push(format!("  {line}"));
        }
    }

    /// An effect on an alarm, of which most stories speak no word.
    pub(super) fn alarm(&mut self, line: String) {
        if self.alarms == Switch::On {
            self.effect(line);
        }
    }

    /// What a command asked to see, printed in any case.
    pub(super) fn answer(&mut self, line: String) {
        self.lines.push(line);
    }

    /// The lines since the last call; `ok` if there were none.
    pub(super) fn take(&mut self) -> Vec<String> {
        self.silent_event = None;
        match self.lines.is_empty() {
            true => vec!["ok".to_owned()],
            // A value that prints as nothing at the end of a line leaves no blank there.
            false => self.lines.drain(..).map(|line| line.trim_end().to_owned()).collect(),
        }
    }
}
