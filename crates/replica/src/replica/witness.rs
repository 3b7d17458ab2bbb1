//! A replica that keeps no store: it holds the log and votes, so that two members with data and a
//! small third machine survive the loss of any one of them.
//!
//! To the consensus it is a voter like the others, and its log holds whole entries: so what a
//! quorum has acknowledged can be taken from it, as long as it stands in its log. It carries out
//! nothing but changes of the members. If it is elected, because it holds what another one lacks,
//! it brings that one up to date and hands over; meanwhile nobody is served. Its checkpoints are
//! empty, and it gives them to nobody.
//!
//! Who is one stands in the table of the members, so that a replica learns it from the log,
//! wherever in the log it is: what it has carried out before is given up.
//!
//! Sources: Liskov and others (1991), "Replication in the Harp file system", section 4.1 (witnesses
//! that log); Ongaro (2014), section 11.7.2.

use super::{Refusal, Replica};
use crate::digests::Digests;
use crate::store::Store;
use quorate_core::{Context, NodeId, Protocol};
use quorate_protocols::consensus::raft;

impl Replica {
    /// True if this member keeps no store.
    pub fn is_witness(&self) -> bool {
        self.members.is_witness(self.id)
    }

    /// Why nobody is served here, ever.
    pub(super) fn serves_nothing(&self) -> Option<Refusal> {
        match self.agreement.fenced {
            Some(_) => Some(Refusal::Corrupt),
            None => self.is_witness().then_some(Refusal::Witness),
        }
    }

    /// A follower lacks what our log no longer holds. It waits until somebody leads who has a
    /// store.
    pub(super) fn has_no_checkpoint(&mut self, by: NodeId, cx: &mut Context<'_, Self>) {
        let request = raft::Request::SnapshotFailed { to: by };
        let heard = cx.child(|cx| self.raft.on_request(request, cx));
        self.hear(heard, cx);
    }

    /// The table of the members has changed, or the store: if this is a witness, now or again, it
    /// has none.
    pub(super) fn give_up_store(&mut self, was_witness: bool, cx: &mut Context<'_, Self>) {
        if !self.is_witness() {
            return;
        }
        self.store = Store::new();
        self.agreement.digests = Digests::default();
        self.leases_installed(cx.now);
        if !was_witness {
            // What was sent before may still happen.
            self.refuse_everything(Refusal::TimedOut, cx);
        }
    }
}
