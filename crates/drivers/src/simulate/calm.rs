//! How a run ends: all faults end, the system must come to serve, and it must go on to.
//!
//! **Idea.** When the faults are over the world is asked after each event whether the system has
//! served again. When it has, the run goes on for a little while, in which nothing may break and
//! at whose end it must still be so: a system that serves at one instant and falls apart at the
//! next has not recovered.
//!
//! **Bounds.** `liveness` of the plan for all of it.

use super::kernel::Kernel;
use super::queue::Event;
use super::world::{Broken, Nodes, World};

/// A system that has recovered must still be so after this time. Unit: nanoseconds.
const AFTERMATH: u64 = 500_000_000;

/// So much of what is still owed is named, at most.
const AWAITED_MAX: usize = 16;

impl<W: World> Kernel<W> {
    /// Faults end, and everything that can run runs.
    pub(super) fn calm(&mut self) {
        self.note("the faults end: from here on the system must come to serve");
        self.calm_since = Some(self.now);
        self.size_before_calm = self.tally.size;
        self.choices.close(super::setup::CALM);
        self.stop_nemesis();
        self.with_world(|world, nodes, hands| world.on_calm(nodes, hands));
        self.queue.push(self.now + self.plan.liveness, Event::End);
    }

    pub(super) fn look_for_recovery(&mut self) {
        if self.calm_since.is_none() {
            return;
        }
        let nodes = self.nodes();
        let mut nodes = Nodes { seats: &mut self.seats[..nodes] };
        match (self.world.has_recovered(&mut nodes), self.recovered_since) {
            (false, _) => self.recovered_since = None,
            (true, None) => {
                self.recovered_since = Some(self.now);
                self.queue.push(self.now + AFTERMATH, Event::Aftermath);
            }
            (true, Some(since)) => self.ended |= self.now >= since + AFTERMATH,
        }
    }

    pub(super) fn end(&mut self) {
        self.ended = true;
        if self.plan.is_live() && self.recovered_since.is_none() {
            let bound = self.plan.liveness / 1_000_000;
            let why =
                format!("it did not serve again within {bound} ms after all faults had ended");
            self.broken.get_or_insert(Broken::new("liveness", why));
            self.awaited = self.with_world(|world, nodes, _| world.awaited(nodes));
            let more = self.awaited.len().saturating_sub(AWAITED_MAX);
            if more > 0 {
                self.awaited.truncate(AWAITED_MAX);
                self.awaited.push(format!("and {more} more"));
            }
            // The story is how it came to stand still, not how it stands.
            self.tally.size = self.size_before_calm;
        }
    }
}
