//! Who vouches for the clocks of members, where reads rest on them.

use super::{Errand, Service};
use crate::lease_reads::{Ground, VOUCH_EVERY};
use quorate_drivers::simulate::{About, Hands, Site};
use quorate_replica::Request;
use std::time::Duration;

/// Oscillators keep this, and the leases of clients allow for it. Unit: parts per million.
const DRIFT_PPM: u32 = 200;

impl Service {
    /// The run begins, with lease reads on that ground.
    pub(super) fn begin_lease_reads(
        &mut self,
        nodes: usize,
        ground: Ground,
        hands: &mut Hands<'_, Self>,
    ) {
        let mut draw = |below| hands.draw(Site::new(About::Setup, 1_008), below);
        self.lease_reads.begin(nodes, ground, DRIFT_PPM, &mut draw);
    }

    /// Somebody has looked at the clocks.
    pub(super) fn vouch(&mut self, hands: &mut Hands<'_, Self>) {
        for node in 0..self.nodes {
            let until = self.lease_reads.vouched(node, hands);
            hands.request(node, Duration::ZERO, Request::TrustClock { until });
        }
        self.errand(VOUCH_EVERY, Errand::Vouch, hands);
    }
}
