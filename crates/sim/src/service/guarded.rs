//! How writes are asked: under which name, under a lock, too late, and again.

use super::clients::Asked;
use super::members::{Answered, Operation};
use super::{Errand, Service};
use quorate_drivers::simulate::{About, Hands, Nodes, Site, World};
use quorate_replica::store::Asked as Sealed;
use quorate_replica::{Life, Request, Ticket, seal};
use std::time::Duration;

impl Service {
    /// A client stands still before it asks what it has decided to ask.
    pub(super) fn stand_still(&mut self, operation: Operation, hands: &mut Hands<'_, Self>) {
        let Operation { number, client, .. } = operation;
        let pause = 1_000 + hands.draw(Site::new(About::Detail, client), 7_000);
        self.operations.insert(number, operation);
        self.errand(Duration::from_millis(pause), Errand::WakeUp { operation: number }, hands);
    }

    /// A client that stood still goes on: it asks what it was about to ask.
    pub(super) fn wake_up(
        &mut self,
        number: u64,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let Some(mut operation) = self.operations.remove(&number) else { return };
        if let Asked::Guarded { paused, .. } = &mut operation.asked {
            *paused = false;
        }
        let home = operation.member;
        if !self.members[home].up || !nodes.is_correct(home) {
            self.operations.insert(number, operation);
            return self.answered(number, Answered::Moved, hands);
        }
        operation.name = self.name(home);
        self.submit(operation, nodes, hands);
    }

    /// A request with a name is asked again, of the next member.
    pub(super) fn ask_again(&mut self, operation: &Operation) {
        let Asked::Guarded { guard, command, .. } = &operation.asked else { return };
        if let Some(client) = self.clients.get_mut(operation.client)
            && guard.request.is_some()
        {
            client.home = (operation.member + 1) % self.nodes;
            client.again = Some((guard.clone(), command.clone()));
        }
    }

    /// How a member will know the next question.
    pub(super) fn name(&mut self, member: usize) -> (Life, Ticket) {
        let id = self.id(member);
        (self.members[member].life(id), self.members[member].ticket())
    }

    pub(super) fn sealed(
        &mut self,
        name: (Life, Ticket),
        operation: u64,
        asked: Sealed,
    ) -> Request {
        let (life, ticket) = name;
        let mut envelope = Vec::new();
        seal(life, ticket, &mut envelope);
        asked.encode(&mut envelope);
        self.asks.ask(name, operation, asked);
        Request::Write { ticket, envelope: envelope.into() }
    }
}
