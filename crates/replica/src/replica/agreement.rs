//! What follows when replicas differ: who is wrong is fenced, and what nobody can tell is disputed.
//!
//! A replica that differs does not become right by itself: it is started anew from a state that a
//! quorum shared, stays fenced, and is believed once a quorum shares its state where it went wrong.
//!
//! A dispute is settled once a quorum is seen to share our state at a later point: digests run on,
//! so who agrees there has agreed all along. A replica that is fenced tells its digest to nobody:
//! a quorum holds another one, so nothing rests on it, and it would start disputes for ever.

use super::{Indication, Refusal, Replica, ReplicaMutant};
use crate::digests::{Digests, Verdict};
use crate::message::Message;
use quorate_core::{Context, Index, NodeId, Protocol};
use quorate_protocols::consensus::raft;

/// Whether our state is that of the others.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Agreement {
    pub(super) digests: Digests,
    /// Where our state was seen to differ from a quorum's: it is not to be believed.
    pub(super) fenced: Option<Index>,
    /// That was in a former life.
    in_doubt: bool,
    /// Members differ here, and no quorum has shared our state since.
    disputed: Option<Index>,
}

impl Agreement {
    /// Our state was seen to differ in this life.
    fn is_known(&self) -> bool {
        self.fenced.is_some() && !self.in_doubt
    }
}

impl Replica {
    /// Where our state was seen to differ from a quorum's.
    pub fn fenced(&self) -> Option<Index> {
        self.agreement.fenced
    }

    /// Up to here a quorum was seen to share our state, in this life.
    pub fn agreed(&self) -> Index {
        self.agreement.digests.agreed()
    }

    /// Our state is not to be believed before a quorum is seen to share it at `since` or later:
    /// until then this replica is fenced. To be called in a life after one that differed, between
    /// restore and start.
    pub fn doubt(&mut self, since: Index) {
        self.agreement.fenced = Some(since);
        self.agreement.in_doubt = true;
    }

    /// Where members were seen to differ, until a quorum is seen to share our state.
    pub fn disputed(&self) -> Option<Index> {
        self.agreement.disputed
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
            self.agreement.digests.note(at, cx.id, self.digest());
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
        self.agreement.digests.note(at, from, digest);
        self.judge(at, cx);
    }

    fn judge(&mut self, at: Index, cx: &mut Context<'_, Self>) {
        let quorum = self.configuration.incoming.len() / 2 + 1;
        match self.agreement.digests.compare(at, cx.id, quorum) {
            Verdict::Agreed if self.agreement.digests.is_shared(at, cx.id, quorum) => {
                self.agreement.digests.agree(at);
                self.believe(at, cx);
                self.agreement.disputed = self.agreement.disputed.filter(|disputed| *disputed > at);
            }
            Verdict::Agreed if self.planted(ReplicaMutant::HealedUnproven) => self.believe(at, cx),
            Verdict::Agreed => {}
            Verdict::Disputed { at } => {
                self.agreement.disputed = self.agreement.disputed.max(Some(at));
                cx.indicate(Indication::Disputed { at });
            }
            Verdict::Diverged { .. } if self.agreement.is_known() => {}
            Verdict::Diverged { at } => {
                self.agreement.fenced = Some(at);
                self.agreement.in_doubt = false;
                cx.indicate(Indication::Diverged { at });
                self.refuse_everything(Refusal::Corrupt, cx);
            }
        }
    }

    /// A quorum shares our state there: if that is where it went wrong in a former life, it is
    /// right now.
    fn believe(&mut self, at: Index, cx: &mut Context<'_, Self>) {
        if self.agreement.fenced.is_some_and(|since| since <= at) {
            self.agreement.fenced = None;
            cx.indicate(Indication::Healed { at });
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
        if self.agreement.fenced.is_some() {
            return;
        }
        let Some((at, digest)) = self.agreement.digests.latest_of(cx.id) else { return };
        let me = cx.id;
        for to in self.configuration.members().into_iter().filter(|to| *to != me) {
            cx.send(to, Message::Digest { at, digest });
        }
    }
}
