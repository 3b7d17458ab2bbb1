//! Lease reads in a simulated run: what the clocks under them do, and who vouches for them.
//!
//! | clocks | what they are | who vouches |
//! |---|---|---|
//! | [`Ground::Kept`] | monotonic ones on oscillators that keep a drawn bound, and count in suspend; faults of clocks hit the wall clocks | always |
//! | [`Ground::Watched`] | exact ones, which the faults of clocks bend beyond any bound | until the first such fault; it is withdrawn in the instant in which the fault begins |
//!
//! A watched run shows that a bound which breaks is harmless once the trust is withdrawn in time,
//! and breaks reads if it is not. No verdict reaches a member that stands still, so a plan for
//! watched clocks has no pauses: there, the clock itself must count ([`Ground::Kept`]).

use quorate_core::Time;
use quorate_drivers::simulate::{Fault, Hands, NodeClocks, Oscillator, Suspend, World};
use quorate_protocols::consensus::raft::LeaseTerms;
use std::time::Duration;

#[cfg(feature = "mutants")]
use crate::mutants::HostMutant;

/// Somebody vouches for the clocks so often,
pub(crate) const VOUCH_EVERY: Duration = Duration::from_millis(100);
/// and for so long.
const VOUCHED_FOR: Duration = Duration::from_millis(250);

/// Faults that take a clock beyond the bound which leases allow for.
const BEYOND: [Fault; 5] =
    [Fault::WildDrift, Fault::StepForward, Fault::StepBack, Fault::Freeze, Fault::LeapSecond];

/// The clocks under lease reads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Ground {
    /// There are no lease reads.
    #[default]
    None,
    /// They keep their bound.
    Kept,
    /// They may break it, and somebody sees it.
    Watched,
}

/// Lease reads in one run.
#[derive(Debug, Default)]
pub(crate) struct LeaseReads {
    ground: Ground,
    drift_ppm: u32,
    oscillators: Vec<Oscillator>,
    /// A clock has left its bound, as far as anybody knows.
    astray: bool,
    #[cfg(feature = "mutants")]
    pub(crate) planted: Option<HostMutant>,
}

impl LeaseReads {
    /// For so many nodes, on that ground. `draw` gives numbers below its argument.
    pub(crate) fn begin(
        &mut self,
        nodes: usize,
        ground: Ground,
        drift_ppm: u32,
        draw: &mut dyn FnMut(u64) -> u64,
    ) {
        (self.ground, self.drift_ppm) = (ground, drift_ppm);
        let bound = i64::from(drift_ppm) * 1_000;
        self.oscillators = (0..nodes).map(|_| Oscillator::drawn(bound, draw)).collect();
    }

    pub(crate) fn are_on(&self) -> bool {
        self.ground != Ground::None
    }

    /// What a member is told of them.
    pub(crate) fn terms(&self, length: Duration) -> Option<LeaseTerms> {
        self.are_on().then_some(LeaseTerms { length, drift_ppm: self.drift_ppm })
    }

    /// The clocks of a node; none for an exact one, which faults bend.
    pub(crate) fn clocks(&self, node: usize) -> Option<NodeClocks> {
        let kept = self.ground == Ground::Kept && !self.goes_by_the_wall();
        let suspend = if self.stops_in_suspend() { Suspend::Stops } else { Suspend::Counts };
        kept.then(|| NodeClocks { oscillator: self.oscillators[node].clone(), suspend })
    }

    /// Until when somebody vouches for the clock of a node now.
    pub(crate) fn vouched<W: World>(&self, node: usize, hands: &Hands<'_, W>) -> Time {
        match self.astray {
            true => Time::default(),
            false => hands.clock(node).after(VOUCHED_FOR),
        }
    }

    /// A fault begins. True if nobody vouches for any clock from now on.
    pub(crate) fn lose_trust(&mut self, fault: Fault) -> bool {
        let watched = self.ground == Ground::Watched && !self.is_blind();
        let lost = watched && BEYOND.contains(&fault) && !self.astray;
        self.astray |= lost;
        lost
    }
}

#[cfg(feature = "mutants")]
impl LeaseReads {
    fn goes_by_the_wall(&self) -> bool {
        self.planted == Some(HostMutant::LeaseOnWallClock)
    }

    fn stops_in_suspend(&self) -> bool {
        self.planted == Some(HostMutant::LeaseClockStops)
    }

    fn is_blind(&self) -> bool {
        self.planted == Some(HostMutant::ClockMonitorBlind)
    }
}

#[cfg(not(feature = "mutants"))]
impl LeaseReads {
    fn goes_by_the_wall(&self) -> bool {
        false
    }

    fn stops_in_suspend(&self) -> bool {
        false
    }

    fn is_blind(&self) -> bool {
        false
    }
}
