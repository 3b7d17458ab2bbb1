//! A bar on a terminal, nothing elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

/// Whether the user wants to see a bar.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    /// If there is a terminal.
    Shown,
    /// Not even then.
    Quiet,
}

/// What is going on.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// A bar, if there is a terminal and the user wants it.
    pub(super) fn new(wish: Wish) -> Progress {
        let is_shown = wish == Wish::Shown && std::io::stderr().is_terminal();
        let bar = is_shown.then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}");
            let bar = ProgressBar::new(1).with_style(style.expect("a constant"));
            bar.set_draw_target(ProgressDrawTarget::stderr());
            bar
        });
        Progress { bar }
    }

    /// Something new begins.
    pub(super) fn begin(&mut self, what: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.reset();
            bar.set_prefix(what.into());
            bar.set_message("");
        }
    }

    /// So far is a round.
    pub(super) fn tick(&mut self, passed: Duration, of: Duration, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(u64::try_from(of.as_millis()).unwrap_or(u64::MAX));
            bar.set_position(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX));
            let rate = done as f64 / passed.as_secs_f64().max(0.001);
            let seconds = of.as_secs_f64();
            bar.set_message(format!("{:.1}/{seconds:.1} s {rate:.0}/s", passed.as_secs_f64()));
        }
    }

    /// So many of so many are done.
    pub(super) fn count(&mut self, done: u64, of: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(of);
            bar.set_position(done);
            bar.set_message(format!("{done}/{of}"));
        }
    }

    /// Nothing goes on any more.
    pub(super) fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
