//! Forwarding: what is proposed to a follower goes to the leader, which takes it once.
//!
//! **Problem.** A follower passes the commands of its clients on. The network may double such a
//! message, and a command that is appended twice is applied twice. The leader may also be unable to
//! take it; then whoever proposed it should hear so, and not wait for nothing.
//!
//! **Idea.** Commands travel in *batches*, numbered in a life of the forwarder. The leader keeps,
//! for each forwarder and for the term, a *replay window* ([`ReplayWindow`]): the highest batch it
//! has seen, and which of those shortly before it. It looks at a batch once and decides: it appends
//! the commands up to the first that it cannot take, and says which that was.
//!
//! ```text
//!    propose --> batch 7: a, b, c --- Forward ---------> not seen yet: a, b are appended
//!                 |                                       |
//!                 +- kept for a while                     +-- c does not fit
//!                 v                                       v
//!    Refused c <-- taken out <------- ForwardRefused 7, from c on
//!                                     Forward (doubled) -> seen: dropped
//! ```
//!
//! **Guarantees.** *Once*: no command of a batch is appended twice, in all terms together: a batch
//! counts only in the term in which it was sent, that term has one leader, and a leader's windows
//! last as long as its term. *Definite*: a command that a [`ForwardRefused`](Body::ForwardRefused)
//! reports was not appended and never will be, because its batch is never looked at again.
//!
//! A life whose record was lost by a crash has the number of the next one. Then the leader takes
//! batches of the later life for doubled ones and drops them: a loss. Both guarantees hold, since
//! it still decides once for each number.
//!
//! **Bounds.** A batch that is overtaken by [`REPLAY_WINDOW`] later ones is dropped. A forwarder
//! keeps at most [`OUTSTANDING_MAX`] batches, and no more bytes than may be uncommitted, for an
//! election timeout. For what was lost, or is no longer kept, there is no answer: whoever proposed
//! must give up after a while, and then does not know the outcome. A leader keeps a window for each
//! member that forwarded in its term, also for those who left, and takes nothing from others.
//!
//! Sources: dissertation 6.2 (routing requests to the leader); the window is that of RFC 4303,
//! section 3.4.3.

use super::mutant::Mutant;
use super::record::Payload;
use super::{Body, Indication, Raft, Refusal, Role};
use bytes::Bytes;
use quorate_core::{Context, NodeId, Term, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Batches before the highest seen one of which a leader knows whether it has seen them; one that
/// is older is dropped.
const REPLAY_WINDOW: u64 = u128::BITS as u64;

/// Batches that a forwarder keeps in case that they are refused; beyond it the oldest is let go.
const OUTSTANDING_MAX: usize = 4_096;

/// Which batches of one forwarder were seen.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct ReplayWindow {
    life: u64,
    highest: u64,
    /// Bit `n` is set if the batch `highest - 1 - n` was seen.
    below: u128,
}

impl ReplayWindow {
    /// Notes a batch of a life. Lives and batches are numbered from 1.
    ///
    /// False if it must be dropped: it was seen before, or that cannot be told because it is too
    /// old.
    pub fn is_first_sight(&mut self, life: u64, batch: u64) -> bool {
        if life > self.life {
            *self = ReplayWindow { life, highest: batch, below: 0 };
            return true;
        }
        if life < self.life {
            return false;
        }
        if batch > self.highest {
            let by = batch - self.highest;
            self.below = match u32::try_from(by) {
                Ok(by) if by < u128::BITS => self.below << by | 1 << (by - 1),
                Ok(u128::BITS) => 1 << (u128::BITS - 1),
                _ => 0,
            };
            self.highest = batch;
            return true;
        }
        let behind = self.highest - batch;
        if behind == 0 || behind > REPLAY_WINDOW {
            return false;
        }
        let bit = 1 << (behind - 1);
        let is_first = self.below & bit == 0;
        self.below |= bit;
        is_first
    }
}

/// A forwarder's batches that may still be refused.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Outstanding {
    batches: VecDeque<Batch>,
    bytes: usize,
    /// Number of the last batch in this life.
    last_batch: u64,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Batch {
    number: u64,
    to: NodeId,
    term: Term,
    at: Time,
    commands: Vec<Bytes>,
    bytes: usize,
}

impl Outstanding {
    /// Keeps the commands that are sent to the leader of `term`, and answers with the number of
    /// their batch. The oldest batches are let go to stay within `bytes_max`.
    pub fn sent(
        &mut self,
        to: NodeId,
        term: Term,
        commands: &[Bytes],
        bytes_max: usize,
        now: Time,
    ) -> u64 {
        self.last_batch += 1;
        let (number, bytes) = (self.last_batch, commands.iter().map(Bytes::len).sum());
        self.bytes += bytes;
        let commands = commands.to_vec();
        self.batches.push_back(Batch { number, to, term, at: now, commands, bytes });
        while self.batches.len() > OUTSTANDING_MAX || self.bytes > bytes_max {
            self.let_go_of_oldest();
        }
        number
    }

    /// The commands of a batch from the `first` on, which `from` refused as the leader of `term`.
    /// None if that batch is no longer kept or went to somebody else. It is kept no longer: the
    /// same answer means nothing when it comes again.
    pub fn refused(
        &mut self,
        from: NodeId,
        term: Term,
        batch: u64,
        first: usize,
    ) -> Option<Vec<Bytes>> {
        let at = self.batches.binary_search_by_key(&batch, |kept| kept.number).ok()?;
        let kept = &self.batches[at];
        if (kept.to, kept.term) != (from, term) || first >= kept.commands.len() {
            return None;
        }
        let mut kept = self.batches.remove(at)?;
        self.bytes -= kept.bytes;
        Some(kept.commands.split_off(first))
    }

    /// Lets go of what was sent longer than `age` ago: it was taken, or an answer was lost.
    pub fn forget_older_than(&mut self, age: Duration, now: Time) {
        while self.batches.front().is_some_and(|kept| now.since(kept.at) > age) {
            self.let_go_of_oldest();
        }
    }

    fn let_go_of_oldest(&mut self) {
        if let Some(kept) = self.batches.pop_front() {
            self.bytes -= kept.bytes;
        }
    }
}

/// What was proposed at a member that does not lead.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Forwards {
    fresh: Vec<Bytes>,
    fresh_bytes: usize,
    outstanding: Outstanding,
}

impl Forwards {
    pub(super) fn push(&mut self, command: Bytes) {
        self.fresh_bytes += command.len();
        self.fresh.push(command);
    }

    /// Bytes that the next flush sends.
    pub(super) fn fresh_bytes(&self) -> usize {
        self.fresh_bytes
    }

    pub(super) fn take_fresh(&mut self) -> Vec<Bytes> {
        self.fresh_bytes = 0;
        std::mem::take(&mut self.fresh)
    }

    pub(super) fn forget_older_than(&mut self, age: Duration, now: Time) {
        self.outstanding.forget_older_than(age, now);
    }

    /// No answer counts any more.
    pub(super) fn forget_outstanding(&mut self) {
        self.outstanding.batches.clear();
        self.outstanding.bytes = 0;
    }

    pub(super) fn invariants(&self) {
        assert!(self.fresh_bytes == 0 || !self.fresh.is_empty(), "fresh bytes of no command");
        let Outstanding { batches, bytes, .. } = &self.outstanding;
        assert!(*bytes == 0 || !batches.is_empty(), "kept bytes of no batch");
        assert!(batches.len() <= OUTSTANDING_MAX, "too many batches are kept");
    }
}

impl Raft {
    /// Passes on what was proposed here, in messages of bounded size.
    pub(super) fn flush_forwards(&mut self, cx: &mut Context<'_, Raft>) {
        let mut commands = Vec::new();
        let mut bytes = 0;
        for command in self.forwards.take_fresh() {
            if self.leader.is_none() {
                cx.indicate(Indication::Refused { command, why: Refusal::NoLeader });
                continue;
            }
            let full = bytes + command.len() > self.config.append_bytes_max;
            if !commands.is_empty() && (full || self.config.buggify.strikes(cx)) {
                self.forward(std::mem::take(&mut commands), cx);
                bytes = 0;
            }
            bytes += command.len();
            commands.push(command);
        }
        if !commands.is_empty() {
            self.forward(commands, cx);
        }
    }

    fn forward(&mut self, commands: Vec<Bytes>, cx: &mut Context<'_, Raft>) {
        let Some(leader) = self.leader else { return };
        let (life, bytes_max) = (self.life, self.config.uncommitted_bytes_max);
        let outstanding = &mut self.forwards.outstanding;
        let batch = outstanding.sent(leader, self.term, &commands, bytes_max, cx.now);
        cx.send(leader, self.say(Body::Forward { life, batch, commands }));
    }

    pub(super) fn on_forward(
        &mut self,
        from: NodeId,
        life: u64,
        batch: u64,
        commands: Vec<Bytes>,
        cx: &mut Context<'_, Raft>,
    ) {
        let takes_twice = self.planted(Mutant::ForwardTakenTwice);
        let Role::Leader(leader) = &mut self.role else { return };
        if !leader.progress.contains_key(&from) {
            return; // Whoever is no member has no window, and its batches cannot be told apart.
        }
        let window = leader.forwarders.entry(from).or_default();
        let before = *window;
        if !window.is_first_sight(life, batch) && !takes_twice {
            return;
        }
        for (first, command) in (0..).zip(commands) {
            let busy = self.config.buggify.strikes(cx).then_some(Refusal::Overloaded);
            if let Some(why) = self.admit(&command).or(busy) {
                cx.send(from, self.say(Body::ForwardRefused { life, batch, first, why }));
                if first == 0 && self.planted(Mutant::RefusedForwardForgotten) {
                    self.plant_window(from, before);
                }
                break;
            }
            self.append_own(Payload::Command(command), cx);
        }
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = leader.progress.get_mut(&from) {
            progress.forwarded(last);
        }
    }

    /// Planted bug: as if the last batch had not been seen.
    fn plant_window(&mut self, of: NodeId, before: ReplayWindow) {
        if let Role::Leader(leader) = &mut self.role {
            leader.forwarders.insert(of, before);
        }
    }

    pub(super) fn on_forward_refused(
        &mut self,
        from: NodeId,
        life: u64,
        batch: u64,
        first: u32,
        why: Refusal,
        cx: &mut Context<'_, Raft>,
    ) {
        if life != self.life {
            return; // To a former life.
        }
        let Ok(first) = usize::try_from(first) else { return };
        let refused = self.forwards.outstanding.refused(from, self.term, batch, first);
        for command in refused.unwrap_or_default() {
            cx.indicate(Indication::Refused { command, why });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    /// What a window would be with all the memory in the world.
    #[derive(Default)]
    struct Naive {
        life: u64,
        seen: BTreeSet<u64>,
    }

    impl Naive {
        fn is_first_sight(&mut self, life: u64, batch: u64) -> bool {
            if life < self.life {
                return false;
            }
            if life > self.life {
                (self.life, self.seen) = (life, BTreeSet::new());
            }
            let highest = self.seen.last().copied().unwrap_or(0);
            batch + REPLAY_WINDOW >= highest && self.seen.insert(batch)
        }
    }

    proptest! {
        #[test]
        fn a_window_knows_what_a_set_knows(
            steps in proptest::collection::vec((0_u64..300, 0_u8..200), 1..300),
        ) {
            let (mut window, mut naive) = (ReplayWindow::default(), Naive::default());
            let (mut life, mut highest) = (1, 200);
            for (step, what) in steps {
                life += u64::from(what == 0);
                let batch = match what {
                    1..20 => highest + step,
                    _ => highest + 2 - step.min(highest + 1).min(200),
                };
                highest = highest.max(batch);
                let of = if what == 20 { life - 1 } else { life };
                let first = naive.is_first_sight(of, batch);
                prop_assert_eq!(window.is_first_sight(of, batch), first, "{} of {}", batch, of);
            }
        }
    }

    const LEADER: NodeId = NodeId(1);
    const TERM: Term = Term(3);

    fn commands(count: u8) -> Vec<Bytes> {
        (0..count).map(|number| Bytes::from(vec![number; 10])).collect()
    }

    #[test]
    fn a_refusal_counts_once_and_only_from_whom_the_batch_went_to() {
        let mut outstanding = Outstanding::default();
        let now = Time::from_nanos(1);
        let batch = outstanding.sent(LEADER, TERM, &commands(3), 100, now);
        assert_eq!(outstanding.refused(NodeId(2), TERM, batch, 1), None);
        assert_eq!(outstanding.refused(LEADER, TERM.next(), batch, 1), None);
        assert_eq!(outstanding.refused(LEADER, TERM, batch + 1, 1), None);
        assert_eq!(outstanding.refused(LEADER, TERM, batch, 3), None, "there is no such command");
        assert_eq!(outstanding.refused(LEADER, TERM, batch, 1), Some(commands(3)[1..].to_vec()));
        assert_eq!(outstanding.refused(LEADER, TERM, batch, 1), None);
        assert_eq!(outstanding, Outstanding { last_batch: batch, ..Outstanding::default() });
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_number_and_time() {
        let mut outstanding = Outstanding::default();
        let second = |second: u64| Time::from_nanos(second * 1_000_000_000);
        let first = outstanding.sent(LEADER, TERM, &commands(3), 50, second(1));
        let second_batch = outstanding.sent(LEADER, TERM, &commands(3), 50, second(2));
        assert_eq!(outstanding.refused(LEADER, TERM, first, 0), None, "60 bytes are too many");
        outstanding.forget_older_than(Duration::from_secs(1), second(3));
        assert_eq!(outstanding.batches.len(), 1);
        outstanding.forget_older_than(Duration::from_secs(1), second(4));
        assert_eq!(outstanding.refused(LEADER, TERM, second_batch, 0), None);
        for _ in 0..=OUTSTANDING_MAX {
            outstanding.sent(LEADER, TERM, &commands(1), usize::MAX, second(5));
        }
        assert_eq!(outstanding.batches.len(), OUTSTANDING_MAX);
    }
}
