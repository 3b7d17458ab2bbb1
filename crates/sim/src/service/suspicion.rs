//! Evidence that a process has ended, right and wrong, for members that are told of it by the
//! connections around them. Nothing may rest on it: it costs an election at most.

use super::Service;
use quorate_drivers::simulate::{About, Hands, Site, World as _};
use quorate_replica::Request;
use std::time::Duration;

/// Each time that a client acts somebody suspects somebody for nothing. Unit: one in a million.
const WRONG_SUSPICIONS: u64 = 3_000;

impl Service {
    /// The host of a process that has ended refuses connections, and peers notice: mostly.
    pub(super) fn tell_the_end(&mut self, node: usize, hands: &mut Hands<'_, Self>) {
        for other in (0..self.nodes).filter(|other| *other != node) {
            let site = Site::new(About::Detail, 1_000 + other);
            if hands.is_cut(node, other) || hands.draw(site, 4) == 3 {
                continue;
            }
            let after = Duration::from_millis(1 + hands.draw(site, 10));
            hands.request(other, after, Request::Suspect { peer: self.id(node) });
        }
    }

    /// Now and then a connection breaks, and is refused, for no reason that has to do with the
    /// process: a wrong suspicion.
    pub(super) fn suspect_wrongly(&mut self, hands: &mut Hands<'_, Self>) {
        let site = Site::new(About::Detail, 2_000);
        if self.options.exact || !hands.chance(site, WRONG_SUSPICIONS) {
            return;
        }
        let by = hands.draw(site, self.nodes as u64) as usize;
        let of = hands.draw(site, self.nodes as u64) as usize;
        hands.request(by, Duration::ZERO, Request::Suspect { peer: self.id(of) });
    }
}
