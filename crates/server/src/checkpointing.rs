//! When a checkpoint is taken, and which one a peer is sent.
//!
//! **Problem.** A checkpoint costs a whole copy of the state on disk. Taken too often it is most of
//! what is written; taken too rarely, a restart reads a long log, and the log takes the space. And
//! a follower that is behind the log can be helped by some checkpoints and not by others.
//!
//! **Idea.** The next one is due when as many bytes were applied as the last one has: so what is
//! written for checkpoints is no more than what is written to the log, and a restart reads at most
//! twice the state. A peer is sent the newest one if the log goes on where that ends; otherwise a
//! new one is taken first, and the peers that need it wait for it together.
//!
//! A value without I/O: it is told what happened and answers what to do. The host of a member and
//! that of a simulated one carry it out.
//!
//! **Bounds.** One checkpoint is written at a time; as many peers wait as there are.

use quorate_core::{NodeId, Position};
use quorate_replica::{Checkpoint, Replica};

/// Decides about checkpoints.
#[derive(Clone, Debug)]
pub struct Checkpointing {
    every_bytes_min: u64,
    /// What the replica had applied, in bytes, at the last one.
    applied_bytes: u64,
    writing: bool,
    /// Peers that wait for a checkpoint newer than the newest.
    wanted_by: Vec<NodeId>,
}

/// What to do for a peer that needs a checkpoint.
#[derive(Debug)]
pub enum Supply {
    /// Send it the one at this position, which is on disk.
    Send(Position),
    /// Write this one, then tell [`Checkpointing::written`] or [`Checkpointing::failed`].
    Take(Box<Checkpoint>),
    /// It waits for the one that is being written.
    Wait,
    /// It gets none from this member.
    Withhold,
}

impl Checkpointing {
    /// Nothing taken yet.
    ///
    /// `every_bytes_min`: log between two checkpoints, at least. Unit: bytes.
    pub fn new(every_bytes_min: u64) -> Checkpointing {
        let wanted_by = Vec::new();
        Checkpointing { every_bytes_min, applied_bytes: 0, writing: false, wanted_by }
    }

    /// The checkpoint to be written now, if one is due. To be asked whenever something was applied.
    ///
    /// `newest_bytes`: size of the newest one on disk, 0 if there is none.
    pub fn due(&mut self, node: &Replica, newest_bytes: u64) -> Option<Checkpoint> {
        // Of the last checkpoint and not of the state now: that grows with the log and is always
        // the longer one while nothing is compacted.
        let due = self.every_bytes_min.max(newest_bytes);
        let applied = node.applied_bytes() - self.applied_bytes;
        if applied >= due { self.take(node) } else { None }
    }

    /// The checkpoint to be written now, due or not, because what is on disk is damaged. None: one
    /// is being written, or the state is good for none.
    pub fn now(&mut self, node: &Replica) -> Option<Checkpoint> {
        self.take(node)
    }

    /// Takes one, unless one is being written. What is wrong must not push out the older
    /// checkpoints, which may be right; so a fenced member takes none.
    fn take(&mut self, node: &Replica) -> Option<Checkpoint> {
        if self.writing || node.fenced().is_some() {
            return None;
        }
        self.writing = true;
        self.applied_bytes = node.applied_bytes();
        Some(node.checkpoint())
    }

    /// A peer needs a checkpoint. The newest is sent if the log continues it, and a newer one is
    /// taken first otherwise.
    ///
    /// `newest`: the newest one on disk.
    pub fn supply(&mut self, to: NodeId, node: &Replica, newest: Option<Position>) -> Supply {
        // A fenced member sends none: a follower would take over what is wrong, and be its
        // majority. It is about to hand leadership over, and the next leader sends its own.
        if node.fenced().is_some() {
            return Supply::Withhold;
        }
        if let Some(position) = newest.filter(|at| at.index >= node.raft().base().index) {
            return Supply::Send(position);
        }
        if self.wanted_by.contains(&to) {
            return Supply::Wait;
        }
        self.wanted_by.push(to);
        self.take(node).map_or(Supply::Wait, |checkpoint| Supply::Take(Box::new(checkpoint)))
    }

    /// The checkpoint is on disk. Answers with who waits for it: each is to be [supplied].
    ///
    /// [supplied]: Checkpointing::supply
    pub fn written(&mut self) -> Vec<NodeId> {
        self.writing = false;
        std::mem::take(&mut self.wanted_by)
    }

    /// The checkpoint could not be written. The log still holds everything, so nothing is lost; it
    /// only grows. Answers with who waited for it: the consensus is to be told that they were not
    /// sent one, and asks again while they need it.
    pub fn failed(&mut self) -> Vec<NodeId> {
        self.writing = false;
        std::mem::take(&mut self.wanted_by)
    }

    /// The writing could not be begun, and nobody will tell that it ended. Whoever waits goes on
    /// waiting: for the next one that is due.
    pub fn not_begun(&mut self) {
        self.writing = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::ReplicaSettings;
    use bytes::Bytes;
    use quorate_core::{Context, Effect, Protocol, Time};
    use quorate_replica::store::{Command, Put};
    use quorate_replica::{Life, Message, Request, Ticket, Timer, seal};
    use std::collections::{BTreeMap, VecDeque};
    use std::time::Duration;

    const ME: NodeId = NodeId(1);
    const VALUE_BYTES: usize = 1_000;

    /// A cluster of one, whose records are durable at once.
    struct Solo {
        node: Replica,
        now: Time,
        timers: BTreeMap<Timer, Time>,
        tickets: u64,
    }

    impl Solo {
        fn new() -> Solo {
            let settings = ReplicaSettings {
                me: ME,
                voters: [ME].into(),
                members: Default::default(),
                member_terms: Default::default(),
                heartbeat_interval: Duration::from_millis(100),
                election_timeout: Duration::from_secs(1),
                election_timeout_min: Duration::from_secs(1),
                lease_reads: None,
                log_retain_bytes: 16 * VALUE_BYTES,
                buggify: quorate_core::Buggify::Off,
            };
            let node = Replica::restore(&settings.replica(Life(1), None), &mut [].into_iter());
            let (now, timers) = (Time::default(), BTreeMap::new());
            let mut solo = Solo { node, now, timers, tickets: 0 };
            solo.turn(|node, cx| node.on_start(cx));
            while solo.node.raft().leader().is_none() {
                let (&timer, &due) = solo.timers.iter().min_by_key(|at| at.1).expect("a timer");
                solo.timers.remove(&timer);
                solo.now = solo.now.max(due);
                solo.turn(|node, cx| node.on_timer(timer, cx));
            }
            solo
        }

        fn turn(&mut self, act: impl FnOnce(&mut Replica, &mut Context<'_, Replica>)) {
            let mut messages: VecDeque<Message> = VecDeque::new();
            self.call(act, &mut messages);
            loop {
                while let Some(message) = messages.pop_front() {
                    self.call(|node, cx| node.on_message(ME, message, cx), &mut messages);
                }
                self.call(|node, cx| node.on_flush(cx), &mut messages);
                if messages.is_empty() {
                    return;
                }
            }
        }

        fn call(
            &mut self,
            act: impl FnOnce(&mut Replica, &mut Context<'_, Replica>),
            messages: &mut VecDeque<Message>,
        ) {
            let (mut effects, mut choose) = (Vec::new(), |_| 0);
            act(&mut self.node, &mut Context::new(ME, self.now, &mut choose, &mut effects));
            for effect in effects {
                match effect {
                    Effect::Send { message, .. } => messages.push_back(message),
                    Effect::SetTimer { timer, within } => {
                        self.timers.insert(timer, self.now.after(within.start));
                    }
                    Effect::CancelTimer { timer } => drop(self.timers.remove(&timer)),
                    Effect::Write { .. } | Effect::Indicate { .. } => {}
                }
            }
        }

        fn put(&mut self, times: usize) {
            for _ in 0..times {
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
                let put = Put { key: Bytes::from_static(b"k"), value, ..Put::default() };
                let mut envelope = Vec::new();
                seal(Life(1), ticket, &mut envelope);
                Command::Put(put).encode(&mut envelope);
                let request = Request::Write { ticket, envelope: Bytes::from(envelope) };
                self.turn(|node, cx| node.on_request(request, cx));
            }
        }
    }

    #[test]
    fn the_next_one_is_due_when_as_much_was_applied_as_the_last_one_has() {
        let mut solo = Solo::new();
        let mut checkpointing = Checkpointing::new(4 * VALUE_BYTES as u64);
        solo.put(3);
        assert!(checkpointing.due(&solo.node, 0).is_none(), "too little was applied");
        solo.put(1);
        let taken = checkpointing.due(&solo.node, 0).expect("it is due");
        assert_eq!(taken.position, solo.node.applied());
        solo.put(9);
        assert!(checkpointing.due(&solo.node, 0).is_none(), "one is being written");
        assert_eq!(checkpointing.written(), []);
        assert!(checkpointing.due(&solo.node, 20_000).is_none(), "the last one was longer");
        solo.put(11);
        assert!(checkpointing.due(&solo.node, 20_000).is_some());
        checkpointing.not_begun();
        solo.put(4);
        assert!(checkpointing.due(&solo.node, 0).is_some(), "nobody is writing");
    }

    #[test]
    fn peers_are_sent_one_that_the_log_continues_and_wait_for_it_together() {
        let mut solo = Solo::new();
        let mut checkpointing = Checkpointing::new(u64::MAX);
        solo.put(2);
        let (second, third) = (NodeId(2), NodeId(3));
        let taken = match checkpointing.supply(second, &solo.node, None) {
            Supply::Take(checkpoint) => checkpoint.position,
            other => panic!("{other:?}"),
        };
        for peer in [second, third] {
            let supply = checkpointing.supply(peer, &solo.node, None);
            assert!(matches!(supply, Supply::Wait), "{supply:?}");
        }
        assert_eq!(checkpointing.written(), [second, third]);
        let supply = checkpointing.supply(second, &solo.node, Some(taken));
        assert!(matches!(supply, Supply::Send(position) if position == taken), "{supply:?}");
        // Then the log in memory is cut off beyond it.
        solo.put(40);
        assert!(solo.node.raft().base() > taken, "at {}", solo.node.raft().base());
        let supply = checkpointing.supply(third, &solo.node, Some(taken));
        assert!(matches!(supply, Supply::Take(_)), "{supply:?}");
        assert_eq!(checkpointing.failed(), [third], "it is told, and asks again");
    }
}
