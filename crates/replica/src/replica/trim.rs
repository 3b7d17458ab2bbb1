//! Keeping what a replica holds in memory small: the log behind its state, and what was compacted.

use super::{Replica, SWEEP_PAUSE, Timer};
use quorate_core::{Context, Index, Protocol};
use quorate_protocols::consensus::raft;

/// Steps of background compaction in one turn, so that no turn takes long.
const SWEEP_STEPS: usize = 256;

impl Replica {
    /// Cuts the log in memory to about half of its bound once it has outgrown it.
    pub(super) fn trim_log(&mut self, cx: &mut Context<'_, Self>) {
        if self.raft.retained_bytes() > self.log_retain_bytes {
            self.forget_half(cx);
        }
    }

    pub(super) fn forget_half(&mut self, cx: &mut Context<'_, Self>) {
        let base = self.raft.base().index;
        let upto = Index(base.0 + self.applied.index.distance_from(base) / 2);
        if upto > base {
            let heard = cx.child(|cx| self.raft.on_request(raft::Request::Forget { upto }, cx));
            self.hear(heard, cx);
        }
    }

    pub(super) fn sweep(&mut self, cx: &mut Context<'_, Self>) {
        let steps = if self.buggify.strikes(cx) { 1 } else { SWEEP_STEPS };
        if !self.store.sweep(steps) {
            cx.set_timer(Timer::Sweep, SWEEP_PAUSE..SWEEP_PAUSE);
        }
    }
}
