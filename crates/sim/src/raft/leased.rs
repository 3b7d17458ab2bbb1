//! Lease reads of Raft alone: in which worlds they are on, who vouches for the clocks, and evidence
//! against a leader that lives.

use super::{RaftWorld, own};
use crate::lease_reads::Ground;
#[cfg(feature = "mutants")]
use crate::mutants::HostMutant;
use quorate_drivers::simulate::{About, Hands, Nodes, Site, World as _};
#[cfg(feature = "mutants")]
use quorate_protocols::consensus::raft::Mutant;
use quorate_protocols::consensus::raft::Request;
use std::time::Duration;

/// With clocks that drift so much a margin shows. Unit: parts per million.
const DRIFT_PPM_MAX: u32 = 50_000;

impl RaftWorld {
    /// With lease reads on clocks that keep their bound, in every run.
    #[must_use]
    pub fn on_kept_clocks() -> RaftWorld {
        RaftWorld { ground: Some(Ground::Kept), ..RaftWorld::default() }
    }

    /// With lease reads on clocks that break their bound, and somebody who sees it. Not for plans
    /// with pauses, or steps that take long: no verdict reaches a member that stands still.
    #[must_use]
    pub fn on_watched_clocks() -> RaftWorld {
        RaftWorld { ground: Some(Ground::Watched), ..RaftWorld::default() }
    }

    /// With a known mistake in every member.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mutant: Mutant) -> RaftWorld {
        let of_leases = matches!(
            mutant,
            Mutant::LeaseMarginForgotten
                | Mutant::LeaseFromAnswer
                | Mutant::PromiseForgotten
                | Mutant::PromiseYieldsToEvidence
                | Mutant::LeaseOutlivesTransfer
        );
        let ground = of_leases.then_some(Ground::Kept);
        RaftWorld { mutant: Some(mutant), ground, ..RaftWorld::default() }
    }

    /// With a known mistake of what surrounds the members: one of their clocks.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn on_hosts_with(mutant: HostMutant) -> RaftWorld {
        let mut world = match mutant {
            HostMutant::ClockMonitorBlind => RaftWorld::on_watched_clocks(),
            _ => RaftWorld { ground: Some(Ground::Kept), ..RaftWorld::default() },
        };
        world.leases.planted = Some(mutant);
        world
    }

    /// The leader's process is said to have ended, and lives. Where reads rest on leases, those who
    /// hear of it have promised not to act on it yet.
    pub(super) fn suspect_wrongly(
        &mut self,
        nodes: &mut Nodes<'_, RaftWorld>,
        hands: &mut Hands<'_, RaftWorld>,
    ) {
        let Some(leader) = self.leader(nodes).filter(|_| self.leases.are_on()) else { return };
        for other in (0..nodes.len()).filter(|other| *other != leader) {
            if hands.draw(Site::new(About::Detail, 2_000 + other), 4) > 0 {
                hands.request(other, Duration::ZERO, Request::Suspect { peer: own(leader) });
            }
        }
    }

    /// Somebody has looked at the clocks.
    pub(super) fn vouch(&mut self, nodes: usize, hands: &mut Hands<'_, RaftWorld>) {
        for node in 0..nodes {
            let until = self.leases.vouched(node, hands);
            hands.request(node, Duration::ZERO, Request::TrustClock { until });
        }
    }

    /// The run begins, with clocks on that ground and of that drift if nobody wants others.
    pub(super) fn begin_leases(
        &mut self,
        nodes: usize,
        drawn: Ground,
        drift_ppm: u32,
        hands: &mut Hands<'_, RaftWorld>,
    ) {
        let drift_ppm = if self.ground.is_some() { DRIFT_PPM_MAX } else { drift_ppm };
        let mut draw = |below| hands.draw(Site::new(About::Detail, 1_009), below);
        self.leases.begin(nodes, self.ground.unwrap_or(drawn), drift_ppm, &mut draw);
    }
}
