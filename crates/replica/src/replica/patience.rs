//! Giving up on requests: those that waited too long, or all of them.
//!
//! Whoever asked hears whether the operation may still happen: a write that was sent may.

use super::{Indication, Refusal, Replica, ReplicaMutant, Write};
use crate::envelope::Ticket;
use quorate_core::{Context, Time};

impl Replica {
    pub(super) fn refuse_everything(&mut self, why: Refusal, cx: &mut Context<'_, Self>) {
        self.queued.clear();
        for (ticket, _) in std::mem::take(&mut self.writes) {
            cx.indicate(Indication::Answered { ticket, answer: Err(why) });
        }
        for (ticket, _) in std::mem::take(&mut self.reads) {
            cx.indicate(Indication::ReadRefused { ticket, why });
        }
        for (ticket, _) in std::mem::take(&mut self.changes) {
            cx.indicate(Indication::Changed { ticket, answer: Err(why) });
        }
        self.lessor.refuse_everything(why);
    }

    pub(super) fn lose_patience(&mut self, cx: &mut Context<'_, Self>) {
        let deadline = |since: Time| since.after(self.request_timeout) <= cx.now;
        let late = |write: &Write| match write {
            Write::Queued { since, .. } | Write::Sent { since, .. } => deadline(*since),
        };
        let writes: Vec<Ticket> =
            self.writes.iter().take_while(|(_, w)| late(w)).map(|(t, _)| *t).collect();
        let reads: Vec<Ticket> =
            self.reads.iter().take_while(|(_, r)| deadline(r.since)).map(|(t, _)| *t).collect();
        for ticket in writes {
            self.queued.remove(&ticket);
            let why = match self.writes.remove(&ticket).expect("just seen") {
                Write::Queued { .. } => Refusal::NoLeader,
                _ if self.planted(ReplicaMutant::TimeoutIsDefinite) => Refusal::NoLeader,
                Write::Sent { term, .. } if term != self.raft.term() => Refusal::TimedOutLeaderLost,
                Write::Sent { .. } => Refusal::TimedOut,
            };
            cx.indicate(Indication::Answered { ticket, answer: Err(why) });
        }
        self.lose_patience_with_changes(cx);
        for ticket in reads {
            self.reads.remove(&ticket);
            let known = self.raft.leader().is_some();
            let why = if known { Refusal::TimedOut } else { Refusal::NoLeader };
            cx.indicate(Indication::ReadRefused { ticket, why });
        }
    }
}
