//! Messages under way, in the order in which they were sent.

use quorate_core::NodeId;
use std::collections::BTreeSet;

/// Which of the messages under way a command is about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Selection {
    pub(super) from: Option<BTreeSet<NodeId>>,
    pub(super) to: Option<BTreeSet<NodeId>>,
    /// First word of the message as it is printed.
    pub(super) kind: Option<String>,
    /// How many fitting messages are passed over first.
    pub(super) skip: usize,
    /// How many are taken at most.
    pub(super) count: usize,
}

/// Names one message under way. Range: counts up over the whole story.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Ticket(u64);

/// One message under way.
#[derive(Clone, Debug)]
pub(super) struct Flight<M> {
    ticket: Ticket,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: M,
    /// The message as it is printed.
    pub(super) print: String,
}

/// The network between the nodes. Only the script bounds what is under way.
#[derive(Clone, Debug)]
pub(super) struct Network<M> {
    flights: Vec<Flight<M>>,
    sent: u64,
    /// Disjoint; empty if all reach each other.
    sides: Vec<BTreeSet<NodeId>>,
}

impl<M> Default for Network<M> {
    fn default() -> Self {
        Network { flights: Vec::new(), sent: 0, sides: Vec::new() }
    }
}

impl<M: Clone> Network<M> {
    pub(super) fn send(&mut self, from: NodeId, to: NodeId, message: M, print: String) {
        self.sent += 1;
        let ticket = Ticket(self.sent);
        self.flights.push(Flight { ticket, from, to, message, print });
    }

    /// True if a message from the one reaches the other.
    pub(super) fn connects(&self, from: NodeId, to: NodeId) -> bool {
        self.sides.is_empty()
            || self.sides.iter().any(|side| side.contains(&from) && side.contains(&to))
    }

    /// Parts the nodes and returns the messages which are lost on the way across.
    pub(super) fn part(&mut self, sides: Vec<BTreeSet<NodeId>>) -> Vec<Flight<M>> {
        self.sides = sides;
        let flights = std::mem::take(&mut self.flights);
        let (kept, lost) =
            flights.into_iter().partition(|flight| self.connects(flight.from, flight.to));
        self.flights = kept;
        lost
    }

    pub(super) fn heal(&mut self) {
        self.sides.clear();
    }

    /// Tickets of the messages under way that fit, in the order of sending.
    pub(super) fn select(&self, selection: &Selection) -> Vec<Ticket> {
        let fits = |flight: &&Flight<M>| {
            let kind = flight.print.split_whitespace().next();
            selection.from.as_ref().is_none_or(|nodes| nodes.contains(&flight.from))
                && selection.to.as_ref().is_none_or(|nodes| nodes.contains(&flight.to))
                && selection.kind.as_ref().is_none_or(|word| kind == Some(word))
        };
        let fitting = self.flights.iter().filter(fits).skip(selection.skip);
        fitting.take(selection.count).map(|flight| flight.ticket).collect()
    }

    /// Takes a message off the network; none if it is gone already.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Flight<M>> {
        let place = self.flights.binary_search_by_key(&ticket, |flight| flight.ticket).ok()?;
        Some(self.flights.remove(place))
    }

    /// Sends a copy of a message behind all others and returns its print.
    pub(super) fn duplicate(&mut self, ticket: Ticket) -> Option<Flight<M>> {
        let place = self.flights.binary_search_by_key(&ticket, |flight| flight.ticket).ok()?;
        let copy = self.flights[place].clone();
        self.send(copy.from, copy.to, copy.message.clone(), copy.print.clone());
        Some(copy)
    }

    pub(super) fn in_flight(&self) -> impl Iterator<Item = &Flight<M>> {
        self.flights.iter()
    }
}
