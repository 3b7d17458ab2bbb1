//! Handing over leadership.
//!
//! The leader stops taking proposals, waits until the wanted leader holds the whole log, and asks
//! it to campaign at once. That campaign is a usual one, but nobody protects the old leader from
//! it. If nothing has come of it after an election timeout, the old leader goes on.
//!
//! Source: dissertation 3.10.

use super::mutant::Mutant;
use super::{Body, Cause, Indication, Raft, Role, Timer, TransferOutcome};
use quorate_core::{Context, NodeId};

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
        let Role::Leader(leader) = &self.role else { return };
        let last = self.log.last().index;
        if leader.progress.get(&heard).is_some_and(|progress| progress.matched() == last) {
            cx.send(heard, self.say(Body::TimeoutNow));
        }
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
