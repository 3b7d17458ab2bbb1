//! A bar on a terminal, nothing elsewhere.

use super::words::{count, span};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_drivers::simulate::Tally;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// What is going on.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    length: Option<Duration>,
    seeds: u64,
}

impl Progress {
    /// Of a campaign that lasts so long, or has so many seeds.
    pub(super) fn new(is_wanted: bool, length: Option<Duration>, seeds: u64) -> Progress {
        let is_shown = is_wanted && std::io::stderr().is_terminal();
        let bar = is_shown.then(|| {
            let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}");
            let bar = ProgressBar::new(1_000).with_style(style.expect("a constant"));
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            bar.set_prefix("sim");
            bar
        });
        Progress { bar, began: Instant::now(), length, seeds }
    }

    /// So much has been done.
    pub(super) fn tell(&self, tally: &Tally) {
        let Some(bar) = &self.bar else { return };
        let of_seeds = tally.runs as f64 / self.seeds.max(1) as f64;
        let of_time = self.length.map_or(0.0, |length| {
            self.began.elapsed().as_secs_f64() / length.as_secs_f64().max(0.001)
        });
        bar.set_position((of_seeds.max(of_time).min(1.0) * 1_000.0) as u64);
        bar.set_message(format!(
            "{} runs, {} simulated, {} operations",
            count(tally.runs),
            span(tally.simulated),
            count(tally.operations)
        ));
    }

    /// So many of the things to do are done, the last of which is this one.
    #[cfg(feature = "mutants")]
    pub(super) fn count(&self, done: u64, name: &str) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(done * 1_000 / self.seeds.max(1));
        bar.set_message(format!("{done}/{} {name}", self.seeds));
    }

    /// Prints something above the bar.
    #[cfg(feature = "mutants")]
    pub(super) fn above(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Something else goes on.
    pub(super) fn say(&self, prefix: &'static str, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_prefix(prefix);
            bar.set_message(text);
        }
    }

    /// Nothing goes on any more.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
