//! Disks that turn under a member that lives, and members that read their disks again.
//!
//! Whenever a bit of a living member's disk turns, its scrubber looks some time later, and repairs
//! step by step what it finds, with the look and the decisions of production
//! ([`quorate_server::scrub`]); crashes, full disks and further damage come in between. What it
//! says is then judged by a start from a copy of the disk: it must find nothing damaged, and
//! everything that the member has promised.

use super::disk::MemberDisk;
use super::members::Member;
use super::{Errand, Service};
use quorate_drivers::simulate::trace::Kind;
use quorate_drivers::simulate::{About, Broken, Hands, Nodes, Site};
use quorate_replica::{Life, Replica};
use quorate_server::recover::RecoverError;
use quorate_server::scrub::{Repair, Step};
use quorate_storage::WalError;
use std::time::Duration;

/// From damage to the look that finds it, at most. Unit: milliseconds.
const SCRUB_WITHIN: u64 = 3_000;
/// Between two steps of a repair.
const STEP: Duration = Duration::from_millis(50);

impl Service {
    /// If something has turned on the disk of this member, it will look.
    pub(super) fn scrub_later(&mut self, member: usize, hands: &mut Hands<'_, Self>) {
        if std::mem::take(&mut self.members[member].turned) {
            let after = hands.draw(Site::new(About::Sync, 3_000 + member), SCRUB_WITHIN);
            self.members[member].looks += 1;
            let lives = self.members[member].lives;
            let scrub = Errand::Scrub { member, lives, repair: None };
            self.errand(Duration::from_millis(1 + after), scrub, hands);
        }
    }

    /// A member looks at its disk, or goes on with a repair.
    pub(super) fn scrub(
        &mut self,
        member: usize,
        repair: Option<Repair>,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let (Some(state), disk) = nodes.with_disk(member) else { return };
        let Some(mut repair) = repair else {
            let Ok(found) = disk.scrub() else { return };
            let Some(repair) = Repair::of(&found) else {
                self.members[member].looks -= 1;
                return self.judge_disk(member, state, disk, hands);
            };
            hands.mark("a scrub found damage");
            hands.tell(Kind::Note, |step| {
                step.node = Some(member);
                step.text = format!("finds damage on its disk: {:?}", found.findings[0]);
            });
            return self.repair_later(member, repair, hands);
        };
        let Ok(view) = disk.view(state.applied().index, state.fenced().is_some()) else { return };
        match repair.next(&view) {
            Step::Done => {
                hands.mark("damage was repaired while a member ran");
                self.members[member].looks -= 1;
                return self.judge_disk(member, state, disk, hands);
            }
            // Should one of these fail it is tried again, or the next sync says so.
            Step::Seal if !self.members[member].syncing => drop(disk.seal()),
            Step::SetAside(position) => drop(disk.set_aside(position)),
            Step::Checkpoint if self.plants.releases_first() => disk.release_uncovered(),
            Step::Checkpoint => {
                if let Some(checkpoint) = self.members[member].checkpointing.now(state) {
                    self.take_checkpoint(member, checkpoint, disk, hands);
                }
            }
            // The workload moves the state on.
            Step::Seal | Step::Nudge | Step::Wait => {}
        }
        self.repair_later(member, repair, hands);
    }

    fn repair_later(&mut self, member: usize, repair: Repair, hands: &mut Hands<'_, Self>) {
        if !self.calm {
            let lives = self.members[member].lives;
            self.errand(STEP, Errand::Scrub { member, lives, repair: Some(repair) }, hands);
        }
    }

    /// The scrubber says that the disk is whole: a start from it agrees.
    fn judge_disk(
        &self,
        member: usize,
        state: &Replica,
        disk: &MemberDisk,
        hands: &mut Hands<'_, Self>,
    ) {
        // It is to look again; or a hole of an earlier start waits for peers.
        let Member { turned, looks, .. } = self.members[member];
        if turned || looks > 0 || state.raft().is_mending() {
            return;
        }
        let mut copy = disk.fork();
        let why = match copy.boot(&self.settings(member), Life(u64::MAX)) {
            Ok(found) if found.replica.raft().is_mending() => "entries are gone".to_owned(),
            Ok(found) if found.lost > 0 => format!("{} records are lost", found.lost),
            Ok(found) if found.damaged_places > 0 => "the log is damaged".to_owned(),
            Ok(_) => return,
            // The copy fails as its original does.
            Err(RecoverError::Log(WalError::Io(_) | WalError::NotWritable(_))) => return,
            Err(RecoverError::Checkpoints(_)) => return,
            Err(why) => why.to_string(),
        };
        let why = format!("member {member} takes its disk for whole: {why}");
        hands.broken(Broken::new("repair", why));
    }
}
