//! Failure detectors: who has crashed, as far as silence can tell.
//!
//! **Problem.** A node that has crashed and a node that is slow look alike from outside. Whoever
//! waits for a crashed node waits for ever; whoever gives up a slow one makes a mistake.
//!
//! **Idea.** A *detector* at each node keeps a list of *suspects*. It may be wrong, and says in
//! which way. **Completeness**: crashed nodes come to be suspected. **Accuracy**: correct nodes do
//! not. One without the other is worth nothing: a detector that suspects everybody is complete.
//!
//! | class | completeness | accuracy | where it exists |
//! |---|---|---|---|
//! | perfect, P | strong: each crashed node, by each correct one | strong: no correct node, ever | synchronous systems |
//! | eventually perfect, ◇P | strong | eventually strong: after some time, no correct node | partial synchrony |
//! | with a quality of service | strong, within a detection time | a rate of mistakes, and how long one lasts | delays with a distribution |
//!
//! | detector | file | class, and under which assumption |
//! |---|---|---|
//! | ping with a bound | [`perfect`] | P if the bounds are true and no message is lost |
//! | heartbeats with a growing timeout | [`heartbeat`] | ◇P if delays are bounded from some time on by at most its largest timeout |
//! | Chen's freshness points | [`chen`] | quality of service; ◇P where jitter is below the margin from some time on |
//! | phi accrual | [`phi`] | quality of service, if intervals are roughly normal; ◇P as above |
//! | round trips | [`jacobson`] | quality of service; ◇P as above |
//! | traffic as heartbeat | [`traffic`] | ◇P as `heartbeat`, with fewer messages |
//! | quorum ping | [`quorum_ping`] | none about single nodes: *at most one side* of a clean split writes |
//! | SWIM with Lifeguard | [`swim`] | ◇P if round trips come below its ping timeout; spreads what it finds |
//!
//! [`evidence`] adds what is better than silence: a refused connection, an exit notice.
//!
//! **Use.** A detector may make somebody wait, or withdraw a promise; it must never grant one. Two
//! nodes can each trust themselves and suspect the other; only a quorum that *agrees* excludes
//! that.
//!
//! **Shape.** What computes a deadline from arrivals is an [`Estimator`], a plain value; the
//! protocol [`heartbeat::Heartbeats`] sends, listens, and asks one estimator for each peer.
//!
//! **Bounds.** Windows and tables have named maxima, in each file.
//!
//! Sources: Chandra and Toueg, "Unreliable Failure Detectors for Reliable Distributed Systems"
//! (1996); Chen, Toueg and Aguilera, "On the Quality of Service of Failure Detectors" (2002).

pub mod chen;
pub mod evidence;
pub mod heartbeat;
pub mod jacobson;
pub mod perfect;
pub mod phi;
pub mod quorum_ping;
pub mod swim;
pub mod traffic;

use quorate_core::{NodeId, Time};
use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

/// What a detector tells the layer above.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Change {
    /// From now on this node is suspected.
    Suspect(NodeId),
    /// It is no longer.
    Trust(NodeId),
}

/// Until when the silence of one peer is bearable: a plain value, fed with arrivals.
pub trait Estimator: Clone + Debug + Eq + Hash {
    /// Its parameters.
    type Config: Clone + Debug;

    /// An estimator that has heard nothing until `now`.
    fn new(config: &Self::Config, planted: Planted, now: Time) -> Self;

    /// A heartbeat arrived that is newer than those before it. `number` counts the sender's
    /// periods: heartbeat 7 was due seven periods after the sender began.
    fn heard(&mut self, number: u64, now: Time);

    /// The peer had been suspected, and the heartbeat just heard shows that this was a mistake.
    fn was_wrong(&mut self) {}

    /// From this instant on the peer is suspected, unless it is heard before.
    fn deadline(&self) -> Time;
}

/// One peer, and whether it is suspected.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Watched<E> {
    pub(crate) estimator: E,
    pub(crate) is_suspected: bool,
}

impl<E: Estimator> Watched<E> {
    pub(crate) fn new(estimator: E) -> Self {
        Watched { estimator, is_suspected: false }
    }

    /// A sign of life; true if the peer is trusted again by it.
    pub(crate) fn heard(&mut self, number: u64, now: Time) -> bool {
        self.estimator.heard(number, now);
        if self.is_suspected {
            self.estimator.was_wrong();
        }
        self.trust_if_fresh(now)
    }

    /// A sign of a new life: what was learned of the last one is forgotten.
    pub(crate) fn reborn(&mut self, estimator: E, now: Time) -> bool {
        self.estimator = estimator;
        self.trust_if_fresh(now)
    }

    fn trust_if_fresh(&mut self, now: Time) -> bool {
        let was_suspected = self.is_suspected;
        self.is_suspected &= self.estimator.deadline() <= now;
        was_suspected && !self.is_suspected
    }

    /// The alarm of its deadline has gone off; true if it is suspected from now on.
    pub(crate) fn expired(&mut self, now: Time) -> bool {
        let is_late = self.estimator.deadline() <= now;
        let is_new = is_late && !self.is_suspected;
        self.is_suspected |= is_late;
        is_new
    }

    /// How long its silence may last from now.
    pub(crate) fn patience(&self, now: Time) -> Duration {
        self.estimator.deadline().since(now)
    }
}

quorate_core::planted_bugs! {
    /// A known mistake in a failure detector.
    pub enum Mutant {
        /// The bound of one way is waited for the answer to a ping (Kuper's "2d + r").
        PerfectHalfBound = "perfect-half-bound",
        /// A new round begins without suspects.
        PerfectSuspicionForgotten = "perfect-suspicion-forgotten",
        /// The timeout is not raised after a mistake (Chandra and Toueg 1996, figure 10).
        TimeoutNeverGrows = "timeout-never-grows",
        /// A suspect that is heard again stays one.
        SuspectForEver = "suspect-for-ever",
        /// The margin beyond the expected arrival is left out (Chen 2002, section 6.2).
        ChenMarginLeftOut = "chen-margin-left-out",
        /// The expected arrival is a mean over everything that was ever heard.
        ChenWindowNeverForgets = "chen-window-never-forgets",
        /// The silence of an outage is learned as an interval in full length.
        PhiOutageLearned = "phi-outage-learned",
        /// The mean alone decides when silence is too long.
        PhiDeviationLeftOut = "phi-deviation-left-out",
        /// An answer is measured from the last ping, not from the one it answers (Karn 1987).
        RttOfLastPing = "rtt-of-last-ping",
        /// The timeout is the mean, without a multiple of the deviation (Jacobson 1988, appendix).
        RttDeviationLeftOut = "rtt-deviation-left-out",
        /// Who talks to one peer sends no heartbeat to the others.
        TrafficSilencesAll = "traffic-silences-all",
        /// The gaps of a busy time are taken for a promise that it goes on.
        TrafficBurstLearned = "traffic-burst-learned",
        /// The node that counts leaves itself out.
        QuorumSelfUncounted = "quorum-self-uncounted",
        /// Half of the nodes are taken for a majority.
        QuorumHalfSuffices = "quorum-half-suffices",
        /// An answer to an earlier round counts in this one.
        QuorumOldAnswerCounted = "quorum-old-answer-counted",
        /// News are weighed without their incarnation (SWIM 2002, section 4.2).
        SwimIncarnationIgnored = "swim-incarnation-ignored",
        /// A member that hears that it is suspected does not contradict.
        SwimRefutationLeftOut = "swim-refutation-left-out",
        /// Who was declared dead is never probed again.
        SwimDeadForgotten = "swim-dead-forgotten",
        /// A hint of the network suffices to suspect.
        HintSuffices = "hint-suffices",
        /// The exit notice of an earlier life is taken for one of this life.
        OldExitNoticeTaken = "old-exit-notice-taken",
    }
}

/// The planted bug of a detector, if there is one.
///
/// In a build without the feature `mutants` there never is, whatever is planted.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Planted {
    #[cfg(any(test, feature = "mutants"))]
    mutant: Option<Mutant>,
}

impl Planted {
    /// This one.
    #[cfg(any(test, feature = "mutants"))]
    pub fn with(mutant: Mutant) -> Planted {
        Planted { mutant: Some(mutant) }
    }

    /// None: this build has no planted bugs.
    #[cfg(not(any(test, feature = "mutants")))]
    pub fn with(_mutant: Mutant) -> Planted {
        Planted {}
    }

    #[cfg(any(test, feature = "mutants"))]
    pub(crate) fn is(self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    #[cfg(not(any(test, feature = "mutants")))]
    pub(crate) fn is(self, _mutant: Mutant) -> bool {
        false
    }
}
