//! Handing over leadership.
//!
//! The leader stops taking proposals, waits until the wanted leader holds the whole log, and asks
//! it to campaign at once. That campaign is a usual one, but nobody protects the old leader from
//! it. If nothing has come of it after an election timeout, the old leader goes on.
//!
//! A leader whose disk stands still, or has been much slower than a quorum's for a while, does so
//! of its own accord: its heartbeats need no disk, so no silence would ever tell. Whoever is asked
//! first may be unable, too; the next voter is asked then, each of them once.
//!
//! Whoever was asked to campaign may do so at any later time of the term, and is not held back by
//! what was promised to the leader, which from then on has no lease (`lease.rs`).
//!
//! Source: dissertation 3.10.

use super::mutant::Mutant;
use super::progress::Progress;
use super::{Body, Cause, Indication, Raft, Role, Timer, TransferOutcome};
use quorate_core::{Context, NodeId, Time};
use std::cmp::Reverse;
use std::time::Duration;

/// A disk that takes an entry faster than this is never called slow.
const SLOW_DISK: Duration = Duration::from_millis(100);
/// A slow disk takes so many times as long as a quorum's.
const SLOWER_THAN_QUORUM: u32 = 4;
/// A disk must be slow for so long; and when all voters were asked to take over and nothing came
/// of it, the first is not asked again before.
const SLOW_FOR: Duration = Duration::from_secs(10);
/// A disk is slow while it is written to: what was measured before that says nothing about now.
const FRESH: Duration = Duration::from_secs(2);

impl Raft {
    pub(super) fn transfer_leadership(&mut self, to: NodeId, cx: &mut Context<'_, Raft>) {
        if self.is_leader() && to == self.id() {
            let outcome = TransferOutcome::Completed;
            return cx.indicate(Indication::TransferEnded { to, outcome });
        }
        if !self.is_leader() || !self.configuration().incoming.contains(&to) {
            let outcome = TransferOutcome::Aborted;
            return cx.indicate(Indication::TransferEnded { to, outcome });
        }
        self.end_transfer(TransferOutcome::Aborted, cx);
        self.transfer = Some(to);
        let timeout = self.config.election_timeout;
        cx.set_timer(Timer::Transfer, timeout..timeout + timeout / 4 + timeout / 1_000);
        self.hand_over_if_ready(to, cx);
    }

    /// Asks the wanted leader to campaign once it holds everything.
    pub(super) fn hand_over_if_ready(&mut self, heard: NodeId, cx: &mut Context<'_, Raft>) {
        if self.transfer != Some(heard) {
            return;
        }
        let last = self.log.last().index;
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.progress.get(&heard).is_some_and(|progress| progress.matched() == last) {
            leader.handed_over = true;
            cx.send(heard, self.say(Body::TimeoutNow));
        }
    }

    /// A leader whose own disk stands still, or is much slower than the others', makes room for one
    /// whose disk is not: until then every write of its clients' would wait for the network twice,
    /// and what is proposed here would pile up. A quorum commits without it meanwhile.
    pub(super) fn spare_the_cluster(&mut self, cx: &mut Context<'_, Raft>) {
        let (own, commit, now) = (self.id(), self.commit, cx.now);
        let quorum = self.agreed(|id| Reverse(self.disk_bound(id, now))).0;
        let patience = self.config.election_timeout;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get(&own) else { return };
        let stalled = progress.matched() < commit && progress.disk.elapsed(now) > patience;
        let bound = progress.disk.bound(now);
        let fresh = progress.disk.has_measured_within(FRESH, now);
        let slow =
            fresh && bound > SLOW_DISK && bound > quorum * SLOWER_THAN_QUORUM && !quorum.is_zero();
        leader.slow_since = if slow { leader.slow_since.or(Some(now)) } else { None };
        let slow_for_long = leader.slow_since.is_some_and(|since| now.since(since) > SLOW_FOR);
        if leader.spared.is_some_and(|at| now.since(at) > SLOW_FOR) {
            leader.spared_to.clear();
        }
        if !(stalled || slow_for_long) || self.transfer.is_some() {
            return;
        }
        let Some(to) = self.healthiest(now) else { return };
        let Role::Leader(leader) = &mut self.role else { return };
        leader.spared = Some(now);
        leader.spared_to.insert(to);
        self.transfer_leadership(to, cx);
    }

    fn disk_bound(&self, id: NodeId, now: Time) -> Duration {
        let Role::Leader(leader) = &self.role else { return Duration::ZERO };
        leader.progress.get(&id).map_or(Duration::ZERO, |progress| progress.disk.bound(now))
    }

    /// The voter that holds most of the log and was not asked lately; of several the one that
    /// writes fastest, as far as that is known.
    fn healthiest(&self, now: Time) -> Option<NodeId> {
        let Role::Leader(leader) = &self.role else { return None };
        let asked = |id: &NodeId| leader.spared_to.contains(id);
        let others = self.configuration().incoming.iter();
        let others = others.filter(|id| **id != self.id() && !asked(id));
        let known = others.filter_map(|id| Some((*id, leader.progress.get(id)?)));
        let heard = known.filter(|(_, progress)| progress.is_heard());
        let speed = |of: &Progress| match of.disk.bound(now) {
            Duration::ZERO => Reverse(Duration::MAX),
            bound => Reverse(bound),
        };
        let best = heard.max_by_key(|(_, of)| (of.matched(), speed(of)));
        best.map(|(id, _)| id)
    }

    /// The request to campaign may have been lost.
    pub(super) fn remind_transferee(&mut self, cx: &mut Context<'_, Raft>) {
        if let Some(to) = self.transfer.filter(|_| !self.planted(Mutant::TransferNeverEnds)) {
            self.hand_over_if_ready(to, cx);
        }
    }

    pub(super) fn end_transfer(&mut self, outcome: TransferOutcome, cx: &mut Context<'_, Raft>) {
        if let Some(to) = self.transfer.take() {
            cx.cancel_timer(Timer::Transfer);
            cx.indicate(Indication::TransferEnded { to, outcome });
        }
    }

    pub(super) fn on_timeout_now(&mut self, from: NodeId, cx: &mut Context<'_, Raft>) {
        let from_leader = self.leader.is_none_or(|leader| leader == from);
        if from_leader && !self.is_leader() && self.may_campaign() {
            self.campaign(Cause::Transfer, cx);
        }
    }
}
