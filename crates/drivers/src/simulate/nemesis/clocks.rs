//! What goes wrong with a clock: another rate for a while, or a jump.

use super::super::faults::Fault;
use super::super::kernel::Kernel;
use super::super::world::World;
use super::Undo;

/// Unit: nanoseconds.
const SECOND: i64 = 1_000_000_000;

impl<W: World> Kernel<W> {
    pub(super) fn bend_clock(&mut self, fault: Fault) {
        let node = self.some_node(fault);
        let lasts = self.some_time(fault);
        let most = match fault {
            Fault::WildDrift => 50_000_000,
            // A second that is spread over a thousand.
            Fault::LeapSecond => 1_000_000,
            _ => self.plan.bounds.drift,
        };
        let rate = match (fault, self.shape(fault, 2)) {
            (Fault::Freeze, _) => -1_000_000_000,
            (_, 0) => most,
            _ => -most,
        };
        self.shells[node].bendable().set_rate(self.now, rate);
        self.shells[node].rearm(self.now, node, &mut self.queue);
        let text = format!("the clock of {} runs {} ppm off", self.shells[node].id, rate / 1_000);
        self.activate(fault, vec![node], lasts, Undo::Rate(node), text);
    }

    pub(super) fn step_clock(&mut self, fault: Fault) {
        if fault == Fault::LeapSecond && self.shape(fault, 2) == 0 {
            return self.bend_clock(fault);
        }
        let node = self.some_node(fault);
        let by = match (fault, self.shape(fault, 2)) {
            (Fault::LeapSecond, 0) => SECOND,
            (Fault::LeapSecond, _) => -SECOND,
            _ => (1 + self.shape(fault, 10)) as i64 * SECOND,
        };
        let by = if fault == Fault::StepBack { -by } else { by };
        self.shells[node].bendable().step(self.now, by);
        self.shells[node].rearm(self.now, node, &mut self.queue);
        let text = format!("the clock of {} jumps by {} s", self.shells[node].id, by / SECOND);
        self.activate(fault, vec![node], 0, Undo::Nothing, text);
    }
}
