//! How the lessor is part of a replica: what it sees, and its deeds.

use super::{Indication, Replica};
use crate::envelope::{self, Ticket};
use crate::lessor::{Deed, LeaseAsk, LeaseMessage, Lessor, Origin, View};
use crate::message::Message;
use crate::store::{Command, LeaseTime};
use bytes::Bytes;
use quorate_core::{Context, NodeId, Protocol, Term, Time};
use quorate_protocols::consensus::raft::{self, RoleName};

impl Replica {
    /// The lessor, and what it sees of the rest.
    fn lessor(&mut self, now: Time) -> (&mut Lessor, View<'_>) {
        let view = View {
            now,
            me: self.id,
            life: self.raft.life(),
            term: self.raft.term(),
            leader: self.raft.leader(),
            fenced: self.serves_nothing().is_some(),
            applied: self.applied,
            store: &self.store,
        };
        (&mut self.lessor, view)
    }

    pub(super) fn start_leases(&mut self, cx: &mut Context<'_, Self>) {
        let (lessor, view) = self.lessor(cx.now);
        lessor.start(view);
    }

    pub(super) fn ask_about_lease(
        &mut self,
        ticket: Ticket,
        ask: LeaseAsk,
        cx: &mut Context<'_, Self>,
    ) {
        let (lessor, view) = self.lessor(cx.now);
        lessor.ask(ticket, ask, view);
    }

    pub(super) fn on_lease_message(
        &mut self,
        from: NodeId,
        message: LeaseMessage,
        cx: &mut Context<'_, Self>,
    ) {
        let (lessor, view) = self.lessor(cx.now);
        lessor.on_message(from, message, view);
    }

    /// A grant that is to be proposed, with the leader's lease clock in it.
    pub(super) fn stamp(&mut self, envelope: Bytes, cx: &mut Context<'_, Self>) {
        let (lessor, view) = self.lessor(cx.now);
        lessor.stamp(envelope, view);
    }

    pub(super) fn lease_applied(&mut self, command: &Command, term: Term, now: Time) {
        let (lessor, view) = self.lessor(now);
        lessor.applied(command, term, view);
    }

    pub(super) fn leases_installed(&mut self, now: Time) {
        let (lessor, view) = self.lessor(now);
        lessor.installed(view);
    }

    pub(super) fn tick_leases(&mut self, cx: &mut Context<'_, Self>) {
        let patience = self.request_timeout;
        let (lessor, view) = self.lessor(cx.now);
        lessor.tick(patience, view);
    }

    pub(super) fn record_refused(&mut self, encoded: Bytes) {
        let command = Command::decode(encoded).expect("we encoded it");
        self.lessor.refused(&command);
    }

    pub(super) fn flush_leases(&mut self, cx: &mut Context<'_, Self>) {
        if self.buggify.strikes(cx) {
            return; // There is another turn soon, at the latest with the next tick.
        }
        let (lessor, view) = self.lessor(cx.now);
        lessor.flush(view);
        for deed in self.lessor.take_deeds() {
            self.carry_out(deed, cx);
        }
    }

    fn carry_out(&mut self, deed: Deed, cx: &mut Context<'_, Self>) {
        match deed {
            Deed::Confirm { ticket } => {
                // What rests on a confirmation ends leases of clients: no clock may err in it.
                let request = raft::Request::Confirm { ticket: ticket.0 };
                let heard = cx.child(|cx| self.raft.on_request(request, cx));
                self.hear(heard, cx);
            }
            Deed::Propose(command) => {
                let mut sealed = Vec::new();
                envelope::seal(self.life, Lessor::RECORD, &mut sealed);
                command.encode(&mut sealed);
                self.propose_as_leader(Bytes::from(sealed), cx);
            }
            Deed::ProposeStamped { envelopes, at, origin } => {
                self.propose_stamped(envelopes, at, origin, cx);
            }
            Deed::Refused { envelope, why } => self.refused(envelope, why, cx),
            Deed::Send { to, message } => cx.send(to, Message::Lease(message)),
            Deed::SendAll { message } => {
                let me = cx.id;
                for to in self.configuration.members().into_iter().filter(|to| *to != me) {
                    cx.send(to, Message::Lease(message.clone()));
                }
            }
            Deed::Answer { ticket, answer } => {
                cx.indicate(Indication::LeaseAnswered { ticket, answer });
            }
        }
    }

    fn propose_stamped(
        &mut self,
        envelopes: Vec<Bytes>,
        at: LeaseTime,
        origin: Option<Origin>,
        cx: &mut Context<'_, Self>,
    ) {
        for (place, envelope) in (0..).zip(envelopes) {
            let command = envelope::stamped(envelope, at);
            let Some(origin) = origin else {
                self.propose_as_leader(command, cx);
                continue;
            };
            if let Some(why) = self.propose_for_another(command, cx) {
                return self.carry_out(origin.refusal(place, why), cx);
            }
        }
    }

    /// Proposes a command of another member's client. Why not, if it is not taken.
    fn propose_for_another(
        &mut self,
        command: Bytes,
        cx: &mut Context<'_, Self>,
    ) -> Option<raft::Refusal> {
        if self.raft.role() != RoleName::Leader {
            return Some(raft::Refusal::NoLeader);
        }
        let heard = cx.child(|cx| self.raft.on_request(raft::Request::Propose { command }, cx));
        let refused = heard.iter().find_map(|indication| match indication {
            raft::Indication::Refused { why, .. } => Some(*why),
            _ => None,
        });
        self.hear(heard, cx);
        refused
    }

    /// A record counts in the term of the leader who made it, so nobody else is to append it.
    fn propose_as_leader(&mut self, command: Bytes, cx: &mut Context<'_, Self>) {
        if self.raft.role() != RoleName::Leader {
            return self.refused(command, raft::Refusal::NoLeader, cx);
        }
        let heard = cx.child(|cx| self.raft.on_request(raft::Request::Propose { command }, cx));
        self.hear(heard, cx);
    }
}
