//! What follows when replicas differ: who is wrong is fenced, and what nobody can tell is disputed.
//!
//! A dispute is settled once a quorum is seen to share our state at a later point: digests run on,
//! so who agrees there has agreed all along. A replica that is fenced tells its digest to nobody:
//! a quorum holds another one, so nothing rests on it, and it would start disputes for ever.

use super::{Indication, Refusal, Replica};
use crate::digests::Verdict;
use crate::message::Message;
use quorate_core::{Context, Index, NodeId, Protocol};
use quorate_protocols::consensus::raft;

impl Replica {
    /// Where our state was seen to differ from a quorum's.
    pub fn fenced(&self) -> Option<Index> {
        self.fenced
    }

    /// Where members were seen to differ, until a quorum is seen to share our state.
    pub fn disputed(&self) -> Option<Index> {
        self.disputed
    }

    /// What is compared with others: the store, and what the log has changed about the members. Who
    /// they were first does not count, because a replica of a version without that table is of the
    /// same state until one is changed.
    pub fn digest(&self) -> u64 {
        self.store.digest() ^ self.members.digest() ^ self.genesis_digest
    }

    /// What the state is at a common point, once that is applied.
    pub(super) fn note_digest(&mut self, cx: &mut Context<'_, Self>) {
        let at = self.applied.index;
        if at.0.is_multiple_of(crate::DIGEST_EVERY) && !self.is_witness() {
            self.digests.note(at, cx.id, self.digest());
            self.judge(at, cx);
        }
    }

    /// Another replica told its digest.
    pub(super) fn hear_digest(
        &mut self,
        from: NodeId,
        at: Index,
        digest: u64,
        cx: &mut Context<'_, Self>,
    ) {
        self.digests.note(at, from, digest);
        self.judge(at, cx);
    }

    fn judge(&mut self, at: Index, cx: &mut Context<'_, Self>) {
        let quorum = self.configuration.incoming.len() / 2 + 1;
        match self.digests.compare(at, cx.id, quorum) {
            Verdict::Agreed if self.digests.is_shared(at, cx.id, quorum) => {
                self.disputed = self.disputed.filter(|disputed| *disputed > at);
            }
            Verdict::Agreed => {}
            Verdict::Disputed { at } => {
                self.disputed = self.disputed.max(Some(at));
                cx.indicate(Indication::Disputed { at });
            }
            Verdict::Diverged { .. } if self.fenced.is_some() => {}
            Verdict::Diverged { at } => {
                self.fenced = Some(at);
                cx.indicate(Indication::Diverged { at });
                self.refuse_everything(Refusal::Corrupt, cx);
            }
        }
    }

    /// A leader that serves nothing hands over: its log is good, but it has no answers.
    pub(super) fn step_aside(&mut self, cx: &mut Context<'_, Self>) {
        if self.raft.leader() != Some(cx.id) {
            return;
        }
        let others = self.configuration.incoming.iter().copied().filter(|voter| *voter != cx.id);
        if let Some(to) = self.ablest(&others.collect()) {
            let request = raft::Request::TransferLeadership { to };
            let heard = cx.child(|cx| self.raft.on_request(request, cx));
            self.hear(heard, cx);
        }
    }

    /// A fenced replica is silent: its state is known to be wrong, and would start disputes.
    pub(super) fn tell_digest(&mut self, cx: &mut Context<'_, Self>) {
        if self.fenced.is_some() {
            return;
        }
        let Some((at, digest)) = self.digests.latest_of(cx.id) else { return };
        let me = cx.id;
        for to in self.configuration.members().into_iter().filter(|to| *to != me) {
            cx.send(to, Message::Digest { at, digest });
        }
    }
}
