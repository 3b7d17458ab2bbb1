//! Keeps the steps of a run that somebody wants to look at. A run without one costs nothing.

use super::kernel::Kernel;
use super::trace::{Kind, Step};
use super::world::World;
use std::collections::BTreeMap;

/// Steps of one trace, at most; the run goes on, and the trace says that it was cut off.
pub const STEPS_MAX: usize = 1 << 20;

/// The steps so far, and what is known of the nodes.
#[derive(Debug, Default)]
pub(super) struct Recorder {
    pub(super) steps: Vec<Step>,
    /// What was last told of each node.
    portraits: Vec<BTreeMap<String, String>>,
    pub(super) cut_off: bool,
}

impl Recorder {
    fn push(&mut self, mut step: Step, at: u64) {
        if self.steps.len() == STEPS_MAX {
            self.cut_off = true;
            return;
        }
        step.step = self.steps.len() as u64;
        step.at = at;
        self.steps.push(step);
    }
}

impl<W: World> Kernel<W> {
    /// Notes a step, if anybody looks.
    #[inline]
    pub(super) fn record(&mut self, kind: Kind, make: impl FnOnce(&mut Step)) {
        if let Some(recorder) = &mut self.recorder {
            let mut step = Step::new(kind, "");
            make(&mut step);
            recorder.push(step, self.now);
        }
    }

    /// A remark of the simulator.
    pub(super) fn note(&mut self, text: &str) {
        self.record(Kind::Note, |step| text.clone_into(&mut step.text));
    }

    /// Takes over what the world has told.
    #[inline]
    pub(super) fn take_told(&mut self, told: Option<Vec<Step>>) {
        let Some(recorder) = &mut self.recorder else { return };
        for step in told.into_iter().flatten() {
            recorder.push(step, self.now);
        }
    }

    /// Adds to the last step what has changed in the state of its node.
    #[inline]
    pub(super) fn portray(&mut self, at: usize) {
        let Some(recorder) = &mut self.recorder else { return };
        let Some(state) = self.seats[at].state.as_ref().filter(|_| self.seats[at].correct) else {
            return;
        };
        let mut portrait = self.world.portrait(state);
        let error = self.shells[at].clock.error(self.now) - self.shells[at].clock_origin;
        if error != 0 {
            portrait.insert("clock error".to_owned(), format!("{} ms", error / 1_000_000));
        }
        recorder.portraits.resize(recorder.portraits.len().max(at + 1), BTreeMap::new());
        let known = &mut recorder.portraits[at];
        let changed = portrait.iter().filter(|(name, value)| known.get(*name) != Some(value));
        let changed: BTreeMap<String, String> =
            changed.map(|(name, value)| (name.clone(), value.clone())).collect();
        *known = portrait;
        let last = recorder.steps.iter_mut().rev().find(|step| step.node == Some(at));
        if let Some(step) = last.filter(|_| !changed.is_empty()) {
            step.state.extend(changed);
        }
    }
}
