//! What goes wrong with a node: it dies, stands still, is slow, deaf or dumb, or forgets.

use super::super::choices::{About, Site};
use super::super::faults::Fault;
use super::super::kernel::Kernel;
use super::super::mutant::Mutant;
use super::super::setup::Promise;
use super::super::trace::Kind;
use super::super::world::World;
use super::{MILLISECOND, Power, Undo};

impl<W: World> Kernel<W> {
    pub(super) fn down(&mut self, fault: Fault) {
        let node = match fault {
            Fault::CrashStop => self.some_victim(fault),
            _ => Some(self.some_node(fault)),
        };
        let Some(node) = node.filter(|node| self.seats[*node].state.is_some()) else { return };
        let away = self.some_time(fault);
        self.injected(fault);
        match fault {
            Fault::CrashStop => {
                self.crash(node, Power::Fails, "it dies for ever");
                match self.plan.planted(Mutant::ReturnsFromDeath) {
                    true => self.restart_after(node, away),
                    false => self.seats[node].dead = true,
                }
            }
            Fault::Kill => {
                self.crash(node, Power::Stays, "the process is killed");
                self.restart_after(node, away);
            }
            Fault::CrashLoop => {
                let times = 1 + self.shape(fault, 4);
                self.crash(node, Power::Fails, "the power fails");
                self.restart_after(node, away.min(100 * MILLISECOND));
                self.crash_again(node, times);
            }
            _ => {
                self.crash(node, Power::Fails, "the power fails");
                self.restart_after(node, away);
            }
        }
    }

    pub(super) fn crash_again(&mut self, node: usize, left: u64) {
        if left == 0 {
            return;
        }
        let after = 10 * MILLISECOND + self.shape(Fault::CrashLoop, 200) * MILLISECOND;
        let undo = Undo::CrashAgain(node, left - 1);
        self.activate(Fault::CrashLoop, vec![node], after, undo, "it will crash again".to_owned());
    }

    pub(super) fn blackout(&mut self) {
        self.injected(Fault::Blackout);
        for node in 0..self.nodes() {
            let away = self.some_time(Fault::Blackout);
            if self.seats[node].state.is_some() {
                self.crash(node, Power::Fails, "the power fails everywhere");
                self.restart_after(node, away);
            }
        }
    }

    pub(super) fn stand_still(&mut self, fault: Fault) {
        let node = self.some_node(fault);
        let lasts = self.some_time(fault);
        let shell = &self.shells[node];
        if self.keeps_bounds() && (shell.paused > 0 || shell.step_time > 0) {
            return;
        }
        if fault == Fault::Pause {
            self.shells[node].pause(self.now);
            self.record(Kind::Pause, |step| {
                step.node = Some(node);
                step.text = "stands still".to_owned();
            });
            return self.activate(fault, vec![node], lasts, Undo::Resume(node), String::new());
        }
        let mut by = MILLISECOND * (1 + self.shape(fault, 50));
        if let Promise::Always { step, .. } = self.nemesis.shape.promise {
            by = by.min(step);
        }
        self.shells[node].step_time += by;
        let text = format!("each step takes {} ms more", by / MILLISECOND);
        self.activate(fault, vec![node], lasts, Undo::Steady(node, by), text);
    }

    pub(super) fn omit(&mut self, fault: Fault) {
        let node = self.some_node(fault);
        if !self.is_lossy() && !self.nemesis.shape.traitors.contains(&node) {
            return;
        }
        let lasts = self.some_time(fault);
        let rate = [200_000, 500_000, 1_000_000][self.shape(fault, 3) as usize];
        let undo = match fault {
            Fault::SendOmission => {
                self.shells[node].send_omission = rate;
                Undo::SendOmission(node)
            }
            _ => {
                self.shells[node].receive_omission = rate;
                Undo::ReceiveOmission(node)
            }
        };
        let text = format!("{} of 100 messages", rate / 10_000);
        self.activate(fault, vec![node], lasts, undo, text);
    }

    /// Why a message is not seen by a node, if it is not.
    pub(in super::super) fn omitted(&mut self, at: usize) -> Option<&'static str> {
        let rate = self.shells[at].receive_omission;
        let site = Site::new(About::Malice, at);
        self.choices.chance(site, rate).then_some("receive omission")
    }

    /// A traitor comes back with nothing on its disk.
    pub(super) fn forget(&mut self) {
        let traitors = self.nemesis.shape.traitors.clone();
        let chosen = self.shape(Fault::Amnesia, traitors.len().max(1) as u64) as usize;
        let Some(node) = traitors.get(chosen).copied() else { return };
        if self.seats[node].state.is_some() {
            self.injected(Fault::Amnesia);
            self.crash(node, Power::Fails, "it forgets everything");
            self.seats[node].disk = self.world.disk(node);
            self.seats[node].damaged = true;
            self.restart_after(node, 10 * MILLISECOND);
        }
    }
}
