//! Reads of a replica: each waits until the state is fresh enough for it.
//!
//! ```text
//!   Queued ── a leader is known ─► Asked ── ReadReady ─► Behind(index) ── applied ─► Readable
//!      ▲                             │
//!      └────────── ReadRefused ──────┘
//! ```

use super::{Indication, Replica, ReplicaMutant};
use crate::envelope::Ticket;
use quorate_core::{Context, Index, Protocol, Time};
use quorate_protocols::consensus::raft::{self, Ground};

#[derive(Clone, Copy, Debug)]
pub(super) enum ReadState {
    /// To be asked (again) as soon as there is a leader.
    Queued,
    /// The leader was asked for an index.
    Asked,
    /// Waits until the state has caught up with this index.
    Behind(Index, Ground),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) since: Time,
    pub(super) state: ReadState,
}

impl Replica {
    pub(super) fn read(&mut self, ticket: Ticket, cx: &mut Context<'_, Self>) {
        if let Some(why) = self.serves_nothing() {
            return cx.indicate(Indication::ReadRefused { ticket, why });
        }
        self.reads.insert(ticket, Reading { since: cx.now, state: ReadState::Queued });
        self.ask_queued_reads(cx);
    }

    pub(super) fn ask_queued_reads(&mut self, cx: &mut Context<'_, Self>) {
        if self.raft.leader().is_none() {
            return;
        }
        let is_queued = |(ticket, read): (&Ticket, &mut Reading)| {
            let queued = matches!(read.state, ReadState::Queued);
            if queued {
                read.state = ReadState::Asked;
            }
            queued.then_some(*ticket)
        };
        let asked: Vec<Ticket> = self.reads.iter_mut().filter_map(is_queued).collect();
        for ticket in asked {
            let request = raft::Request::Read { ticket: ticket.0 };
            let heard = cx.child(|cx| self.raft.on_request(request, cx));
            self.hear(heard, cx);
        }
    }

    pub(super) fn read_ready(
        &mut self,
        ticket: Ticket,
        read_index: Index,
        ground: Ground,
        cx: &mut Context<'_, Self>,
    ) {
        let Some(read) = self.reads.get_mut(&ticket) else { return };
        let early = self.planted.is(ReplicaMutant::ReadBeforeApplied);
        if self.applied.index >= read_index || early {
            self.reads.remove(&ticket);
            cx.indicate(Indication::Readable { ticket, ground });
        } else {
            read.state = ReadState::Behind(read_index, ground);
        }
    }

    /// A read may be asked again: it is one.
    pub(super) fn read_refused(&mut self, ticket: Ticket) {
        if let Some(read) = self.reads.get_mut(&ticket) {
            read.state = ReadState::Queued;
        }
    }

    /// Reads whose index the state has now reached.
    pub(super) fn release_reads(&mut self, cx: &mut Context<'_, Self>) {
        let applied = self.applied.index;
        let reached = |read: &Reading| match read.state {
            ReadState::Behind(at, ground) => (at <= applied).then_some(ground),
            ReadState::Queued | ReadState::Asked => None,
        };
        let reached = |(ticket, read): (&Ticket, &Reading)| Some((*ticket, reached(read)?));
        let ready: Vec<(Ticket, Ground)> = self.reads.iter().filter_map(reached).collect();
        for (ticket, ground) in ready {
            self.reads.remove(&ticket);
            cx.indicate(Indication::Readable { ticket, ground });
        }
    }
}
