//! Renewals of leases beside everything else that a client does.
//!
//! Clients of etcd keep leases alive on a stream of its own: a client that waits for an answer, for
//! instance of a leader that is cut off, renews all the same, and relies on what it is told. So it
//! is here. One renewal of each client is under way at a time.

use super::Service;
use super::clients::Asked;
use quorate_drivers::simulate::{About, Hands, Nodes, Site};
use quorate_replica::LeaseAsk;

impl Service {
    /// While a client waits for an answer one of its leases is renewed. What comes of it is judged;
    /// the client itself relies on what it asked for alone.
    pub(super) fn renew_beside(
        &mut self,
        client: usize,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let home = self.clients[client].home;
        let beside = self.clients.len() + 1 + client;
        let waits = self.operations.values().any(|operation| operation.client == beside);
        let is_there = self.members[home].up && nodes.is_correct(home) && !waits;
        let draws = !self.clients[client].leases.is_empty()
            && hands.draw(Site::new(About::Client, beside), 2) == 1;
        if let Some(lease) = self.clients[client].leases.first().filter(|_| is_there && draws) {
            let asked = Asked::Lease(LeaseAsk::KeepAlive { id: lease.id });
            self.ask((beside, home), asked, nodes, hands);
        }
    }
}
