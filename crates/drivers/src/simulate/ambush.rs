//! Lying in wait for leaders: each of the next few is cut off at the moment in which it begins to
//! lead.
//!
//! **Problem.** The famous bugs of elections need a leader that fails before anybody has heard what
//! it appended: a few thousandths of a second, which a fault that comes at a time of its own hardly
//! ever meets. Figure 8 of the Raft paper needs two such leaders in a row.
//!
//! **Idea.** The fault does not come at a time but at an event. While it waits, the kernel asks the
//! world after each turn who leads; a leader that was none before is cut off in both directions
//! before its first message arrives anywhere, where the network may lose messages, and is held back
//! where it may not. Each of them stays away for a time of its own, so that they return in any
//! order.
//!
//! **Bounds.** It waits for ten seconds at most, for four leaders at most, and one waits at a time.
//!
//! Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014),
//! figure 8.

use super::faults::Fault;
use super::kernel::Kernel;
use super::nemesis::Undo;
use super::world::World;

const MILLISECOND: u64 = 1_000_000;
/// Leaders that one ambush waits for, at most.
const LEADERS_MAX: u64 = 4;
/// It waits so long, at least and at most. Unit: milliseconds.
const WAIT: [u64; 2] = [1_000, 10_000];

/// Waits for leaders.
#[derive(Debug)]
pub(super) struct Ambush {
    /// Who led when it was last looked.
    leader: Option<usize>,
    /// For so many it waits.
    left: u64,
}

impl<W: World> Kernel<W> {
    /// An ambush begins, unless there is one.
    pub(super) fn lie_in_wait(&mut self) {
        if self.nemesis.ambush.is_some() {
            return;
        }
        let left = 1 + self.shape(Fault::Ambush, LEADERS_MAX);
        let [least, most] = WAIT;
        let lasts = MILLISECOND * (least + self.shape(Fault::Ambush, most - least + 1));
        let leader = self.present_leader();
        self.nemesis.ambush = Some(Ambush { leader, left });
        let text = match left {
            1 => "the next leader is waited for".to_owned(),
            _ => format!("the next {left} leaders are waited for"),
        };
        self.activate(Fault::Ambush, Vec::new(), lasts, Undo::CallOff, text);
    }

    /// A turn is over: somebody may have begun to lead in it.
    pub(super) fn look_for_leader(&mut self) {
        if self.nemesis.ambush.is_none() {
            return;
        }
        let now = self.present_leader();
        let Some(ambush) = &mut self.nemesis.ambush else { return };
        let before = std::mem::replace(&mut ambush.leader, now);
        let Some(leader) = now.filter(|_| now != before) else { return };
        ambush.left -= 1;
        if ambush.left == 0 {
            self.nemesis.ambush = None;
        }
        let lasts = self.some_time(Fault::Ambush);
        self.part_from(vec![leader], Fault::Ambush, lasts);
    }

    fn present_leader(&mut self) -> Option<usize> {
        self.with_world(|world, nodes, _| world.leader(nodes))
    }
}
