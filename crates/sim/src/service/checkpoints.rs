//! Checkpoints of simulated members: when they are written, and how they travel. What is decided is
//! decided by the code of production ([`Supply`]); here is only how long it takes, and what can
//! come between.

use super::disk::{self, MemberDisk};
use super::{CHECKPOINT_TIME, Errand, Service};
use quorate_core::{NodeId, Position};
use quorate_drivers::simulate::trace::Kind;
use quorate_drivers::simulate::{About, Hands, Nodes, Site, World};
use quorate_replica::{Replica, Request};
use quorate_server::checkpointing::Supply;
use std::time::Duration;

/// The end of the log is marked when nothing has been written for so long. Unit: nanoseconds.
const LOG_REST: u64 = 50_000_000;

impl Service {
    /// As the log thread of a member does it when nothing has been written for a while.
    pub(super) fn mark_log(&mut self, node: usize, nodes: &mut Nodes<'_, Self>, now: u64) {
        let member = &mut self.members[node];
        match member.unmarked {
            Some(0) => member.unmarked = Some(now),
            // Should this fail the next sync says so as well.
            Some(since) if now >= since + LOG_REST && !member.syncing => {
                let _ = nodes.with_disk(node).1.idle();
                member.unmarked = None;
            }
            _ => {}
        }
    }

    /// A checkpoint of a member is written, or has to be.
    pub(super) fn take_checkpoint(
        &mut self,
        member: usize,
        checkpoint: quorate_replica::Checkpoint,
        disk: &mut MemberDisk,
        hands: &mut Hands<'_, Self>,
    ) {
        disk.begin_checkpoint(checkpoint);
        let jitter = hands.draw(Site::new(About::Sync, 1_000 + member), 20);
        let lives = self.members[member].lives;
        let takes = CHECKPOINT_TIME + Duration::from_millis(jitter);
        self.errand(takes, Errand::Written { member, lives }, hands);
    }

    pub(super) fn written(
        &mut self,
        member: usize,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let (state, disk) = nodes.with_disk(member);
        let Some(state) = state else { return };
        match disk.finish_checkpoint() {
            Ok(_) => {
                hands.mark("a checkpoint was written");
                match self.members[member].syncing {
                    true => self.members[member].releasing = true,
                    // Should this fail the next sync says so as well.
                    false => drop(disk.release()),
                }
                for to in self.members[member].checkpointing.written() {
                    self.supply(member, to, state, disk, hands);
                }
            }
            Err(_) => {
                for to in self.members[member].checkpointing.failed() {
                    hands.request(member, Duration::ZERO, Request::CheckpointNotSent { to });
                }
            }
        }
    }

    /// A follower needs a checkpoint.
    pub(super) fn supply(
        &mut self,
        from: usize,
        by: NodeId,
        state: &Replica,
        disk: &mut MemberDisk,
        hands: &mut Hands<'_, Self>,
    ) {
        let newest = disk.newest();
        match self.members[from].checkpointing.supply(by, state, newest) {
            Supply::Send(position) => {
                let to = (0..self.nodes).find(|node| self.id(*node) == by);
                let to = to.expect("a member of the cluster asks");
                let jitter = hands.draw(Site::new(About::Sync, 2_000 + from), 50);
                let takes = CHECKPOINT_TIME + Duration::from_millis(jitter);
                let lives = self.members[from].lives;
                self.errand(takes, Errand::Sent { from, to, position, lives }, hands);
            }
            Supply::Take(checkpoint) => self.take_checkpoint(from, *checkpoint, disk, hands),
            Supply::Wait | Supply::Withhold => {}
        }
    }

    /// A checkpoint has travelled, if the link, both members and the checkpoint were there.
    pub(super) fn sent(
        &mut self,
        (from, to, position): (usize, usize, Position),
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let by = self.id(to);
        match self.transfer(from, to, position, nodes, hands) {
            Ok(checkpoint) => {
                hands.mark("a follower was sent a checkpoint");
                hands.tell(Kind::Note, |step| {
                    step.node = Some(to);
                    step.text = format!("receives the checkpoint at {position} from {}", from + 1);
                });
                let install = Request::Install(Box::new(checkpoint));
                hands.request(to, Duration::ZERO, install);
                let sent = Request::CheckpointSent { to: by, position };
                hands.request(from, Duration::from_millis(1), sent);
            }
            Err(why) => {
                hands.tell(Kind::Note, |step| {
                    step.node = Some(to);
                    step.text = format!("does not receive the checkpoint at {position}: {why}");
                });
                hands.request(from, Duration::ZERO, Request::CheckpointNotSent { to: by });
            }
        }
    }

    pub(super) fn transfer(
        &self,
        from: usize,
        to: usize,
        position: Position,
        nodes: &mut Nodes<'_, Self>,
        hands: &Hands<'_, Self>,
    ) -> Result<quorate_replica::Checkpoint, String> {
        if hands.is_cut(from, to) || nodes.get(from).is_none() || nodes.get(to).is_none() {
            return Err("one of them is not there".to_owned());
        }
        let why = |failed: disk::CheckpointFailed| failed.why;
        let announced = nodes.with_disk(from).1.announce(position).map_err(why)?;
        let mut reply = nodes.with_disk(to).1.receive(announced).map_err(why)?;
        while let disk::Reply::Send { offset } = reply {
            let part = nodes.with_disk(from).1.part(position, offset).map_err(why)?;
            reply = nodes.with_disk(to).1.receive_part(offset, &part).map_err(why)?;
        }
        nodes.with_disk(to).1.install(position).map_err(why)
    }
}
