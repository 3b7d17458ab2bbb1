//! Who waits at this member for an answer of the leader about a lease.

use super::{LeaseAsk, Ticket};
use quorate_core::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// A question to another member, or its answer, may have been lost: it is asked again after so
/// long. Asking twice does no harm.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(1_000);

/// The questions of this member that wait for an answer. Bounded by the tickets of the layer above.
#[derive(Clone, Debug, Default)]
pub(super) struct Desk {
    waiting: BTreeMap<Ticket, Waiting>,
    /// To be asked as soon as there is a leader.
    fresh: Vec<Ticket>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Time,
    ask: LeaseAsk,
    asked: Option<Time>,
}

impl Desk {
    pub(super) fn push(&mut self, ticket: Ticket, ask: LeaseAsk, now: Time) {
        self.waiting.insert(ticket, Waiting { since: now, ask, asked: None });
        self.fresh.push(ticket);
    }

    /// The questions that nobody has been asked yet, which are asked now.
    pub(super) fn take_fresh(&mut self, now: Time) -> Vec<(Ticket, LeaseAsk)> {
        let asked = |ticket| {
            let waiting = self.waiting.get_mut(&ticket)?;
            waiting.asked = Some(now);
            Some((ticket, waiting.ask))
        };
        self.fresh.drain(..).filter_map(asked).collect()
    }

    /// Another member leads: it is asked everything that is not answered.
    pub(super) fn ask_again(&mut self) {
        self.fresh = self.waiting.keys().copied().collect();
        for waiting in self.waiting.values_mut() {
            waiting.asked = None;
        }
    }

    /// Asks again what was asked long ago.
    pub(super) fn ask_late_again(&mut self, now: Time) {
        for (ticket, waiting) in &mut self.waiting {
            if waiting.asked.is_some_and(|at| at.after(ASK_AGAIN_AFTER) <= now) {
                waiting.asked = None;
                self.fresh.push(*ticket);
            }
        }
    }

    /// True if somebody still waits for this answer.
    pub(super) fn answered(&mut self, ticket: Ticket) -> bool {
        self.waiting.remove(&ticket).is_some()
    }

    /// Takes out those who have waited longer than `patience`.
    pub(super) fn take_late(&mut self, now: Time, patience: Duration) -> Vec<Ticket> {
        // Tickets ascend with time.
        let late = |waiting: &Waiting| waiting.since.after(patience) <= now;
        let late: Vec<Ticket> =
            self.waiting.iter().take_while(|(_, w)| late(w)).map(|(t, _)| *t).collect();
        for ticket in &late {
            self.waiting.remove(ticket);
        }
        late
    }

    /// Takes out everybody.
    pub(super) fn take_all(&mut self) -> Vec<Ticket> {
        self.fresh.clear();
        std::mem::take(&mut self.waiting).into_keys().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: u64) -> Time {
        Time::from_nanos(second * 1_000_000_000)
    }

    #[test]
    fn a_question_is_asked_again_of_a_new_leader_and_when_no_answer_comes() {
        let mut desk = Desk::default();
        let ask = LeaseAsk::KeepAlive { id: 7 };
        desk.push(Ticket(1), ask, second(1));
        assert_eq!(desk.take_fresh(second(1)), [(Ticket(1), ask)]);
        assert_eq!(desk.take_fresh(second(1)), []);
        desk.ask_again();
        assert_eq!(desk.take_fresh(second(2)), [(Ticket(1), ask)]);
        desk.ask_late_again(second(2));
        assert_eq!(desk.take_fresh(second(2)), []);
        desk.ask_late_again(second(3));
        assert_eq!(desk.take_fresh(second(3)), [(Ticket(1), ask)]);
        assert!(desk.answered(Ticket(1)));
        assert!(!desk.answered(Ticket(1)), "the second answer is nobody's");
    }

    #[test]
    fn patience_ends_in_the_order_of_arrival() {
        let mut desk = Desk::default();
        for at in 1..=3 {
            desk.push(Ticket(at), LeaseAsk::TimeToLive { id: 1 }, second(at));
        }
        assert_eq!(desk.take_late(second(7), Duration::from_secs(5)), [1, 2].map(Ticket));
        assert_eq!(desk.take_fresh(second(7)).len(), 1, "who was given up is not asked for");
        assert_eq!(desk.take_all(), [Ticket(3)]);
    }
}
