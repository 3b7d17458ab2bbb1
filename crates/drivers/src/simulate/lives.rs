//! Beginnings and ends of the lives of nodes.
//!
//! What a crash takes depends on what fails: with the process goes what it had in memory; with the
//! power also what its disk had not made durable, and the machine's clock, which begins anew. Power
//! also fails while a node starts, in the midst of what its recovery reads and writes: recovery
//! must be something that can be begun again.

use super::choices::{About, Site};
use super::faults::Fault;
use super::kernel::{Flying, Kernel};
use super::mutant::Mutant;
use super::nemesis::Power;
use super::queue::Event;
use super::trace::Kind;
use super::world::World;

/// So often the power fails during a start, where nodes crash again and again. Unit: parts per
/// million.
const CUT_SHORT: u64 = 200_000;
/// Then it comes back after so long. Unit: nanoseconds.
const BACK_AFTER: u64 = 10_000_000;
/// What a machine's clock may show when it starts. Unit: seconds.
const ORIGIN_MAX: u64 = 100;
const SECOND: u64 = 1_000_000_000;

impl<W: World> Kernel<W> {
    /// A node starts, or will when it no longer stands still.
    pub(super) fn start(&mut self, at: usize, life: u32) {
        let shell = &mut self.shells[at];
        if shell.life != life || self.seats[at].state.is_some() {
            return;
        }
        if shell.paused > 0 {
            shell.starts_late = true;
            return;
        }
        self.boot(at);
    }

    /// A node that stood still may have to start now.
    pub(super) fn start_late(&mut self, at: usize) {
        let shell = &mut self.shells[at];
        if shell.paused == 0 && std::mem::take(&mut shell.starts_late) {
            self.restart_after(at, 0);
        }
    }

    /// True if the power fails while the node starts.
    pub(super) fn is_cut_short(&mut self, at: usize) -> bool {
        let site = Site::new(About::Crash, at);
        let may = self.calm_since.is_none() && self.nemesis.shape.has(Fault::CrashLoop);
        if !may || !self.choices.chance(site, CUT_SHORT) {
            return false;
        }
        let face = self.shells[at].face;
        self.injected(Fault::CrashLoop);
        self.digest.add(0xb007 ^ (at as u64) << 16);
        self.record(Kind::Note, |step| {
            step.node = Some(face);
            step.text = "the power fails while it starts".to_owned();
        });
        let choices = &mut self.choices;
        let mut choose = |options: usize| choices.draw(site, options as u64) as usize;
        self.world.cut_start_short(face, &mut self.seats[at].disk, &mut choose);
        self.shells[at].life += 1;
        self.begin_clock(at);
        self.restart_after(at, BACK_AFTER);
        true
    }

    /// The machine has no power, and its clock begins anew.
    fn begin_clock(&mut self, at: usize) {
        let origin = SECOND * self.choices.draw(Site::new(About::Crash, at), ORIGIN_MAX);
        let now = self.now;
        let shell = &mut self.shells[at];
        shell.clock.begin(now, origin);
        shell.clock_origin = origin as i64 - now as i64;
    }

    pub(super) fn crash(&mut self, at: usize, power: Power, text: &str) {
        let face = self.shells[at].face;
        self.seats[at].state = None;
        self.tally.size += 1;
        self.digest.add(0xdead ^ (at as u64) << 16);
        self.record(Kind::Crash, |step| {
            step.node = Some(face);
            step.text = text.to_owned();
        });
        for event in self.shells[at].crash() {
            match event {
                Event::Deliver { message } => {
                    let flying: Flying<_> = self.messages.take(message);
                    self.lost(&flying, "the node is down");
                }
                Event::Request { request, .. } => drop(self.requests.take(request)),
                _ => {}
            }
        }
        let site = Site::new(About::Crash, at);
        let choices = &mut self.choices;
        let mut choose = |options: usize| choices.draw(site, options as u64) as usize;
        let disk = &mut self.seats[at].disk;
        match power {
            Power::Fails if self.plan.planted(Mutant::CrashKeepsUnsynced) => {
                self.world.killed(face, disk);
            }
            Power::Fails => self.world.power_cut(face, disk, &mut choose),
            Power::Stays => self.world.killed(face, disk),
        }
        if power == Power::Fails {
            self.begin_clock(at);
        }
        if at < self.nodes() {
            self.with_world(|world, _, hands| world.on_down(at, hands));
        }
    }

    pub(super) fn restart_after(&mut self, at: usize, after: u64) {
        let (node, life) = (at as u16, self.shells[at].life);
        self.queue.push(self.now + after, Event::Boot { node, life });
    }
}
