//! What goes wrong with a disk: the world damages it, the kernel makes it slow.

use super::super::choices::{About, Site};
use super::super::faults::Fault;
use super::super::kernel::Kernel;
use super::super::world::World;
use super::{MILLISECOND, Power, Undo};

impl<W: World> Kernel<W> {
    pub(super) fn harm_disk(&mut self, fault: Fault) {
        let node =
            if fault.damages() { self.some_victim(fault) } else { Some(self.some_node(fault)) };
        let Some(node) = node else { return };
        if fault == Fault::SyncLie && !self.nemesis.shape.traitors.contains(&node) {
            return;
        }
        let lasts = self.some_time(fault);
        let site = Site::new(About::Shape, fault as usize);
        let choices = &mut self.choices;
        let mut choose = |options: usize| choices.draw(site, options as u64) as usize;
        let disk = &mut self.seats[node].disk;
        if let Some(text) = self.world.damage(node, disk, fault, &mut choose) {
            self.seats[node].damaged |= fault.damages();
            self.activate(fault, vec![node], lasts, Undo::Disk(node, fault), text);
            // Damage at rest is found when it is read: at the next start.
            if fault.damages() && self.shape(fault, 2) == 1 && self.seats[node].state.is_some() {
                self.crash(node, Power::Stays, "it is started anew");
                self.restart_after(node, 10 * MILLISECOND);
            }
        }
    }

    pub(super) fn slow_disk(&mut self, fault: Fault) {
        let node = self.some_node(fault);
        let lasts = self.some_time(fault);
        if fault == Fault::DiskStall {
            let shell = &mut self.shells[node];
            shell.stalled_until = shell.stalled_until.max(self.now + lasts);
            let undo = Undo::Nothing;
            return self.activate(
                fault,
                vec![node],
                lasts,
                undo,
                "the disk stands still".to_owned(),
            );
        }
        let by = MILLISECOND * (1 + self.shape(fault, 200));
        self.shells[node].sync_extra += by;
        let text = format!("each sync takes {} ms more", by / MILLISECOND);
        self.activate(fault, vec![node], lasts, Undo::FastDisk(node, by), text);
    }
}
