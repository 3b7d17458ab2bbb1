//! The planted bugs of failure detectors that a campaign must catch.

use super::plant::{MutantCase, Needs, Plant, WorldName};
use crate::detectors::Kind;
use quorate_drivers::simulate::Fault;
use quorate_protocols::detectors::Mutant;

const fn case(
    (mutant, kind): (Mutant, Kind),
    (breaks, source): (&'static str, &'static str),
    what: &'static str,
    (voters, faults): (u64, &'static [Fault]),
) -> MutantCase {
    let plant = Plant::Detector(mutant);
    let (name, world) = (plant.name(), WorldName::Detector(kind));
    MutantCase {
        name,
        plant,
        breaks,
        source,
        what,
        world,
        needs: Needs { faults, work: &[], voters },
    }
}

/// The planted bugs of detectors, by detector.
pub const DETECTORS: &[MutantCase] = &[
    case(
        (Mutant::PerfectHalfBound, Kind::Perfect),
        ("accuracy", "Kuper, lectures on distributed systems, 2020"),
        "the bound of one way is waited for an answer",
        (3, &[Fault::SlowNode, Fault::Drift]),
    ),
    case(
        (Mutant::PerfectSuspicionForgotten, Kind::Perfect),
        ("completeness", "Chandra and Toueg 1996, section 2.2"),
        "a new round begins without suspects",
        (3, &[Fault::CrashStop]),
    ),
    case(
        (Mutant::TimeoutNeverGrows, Kind::Heartbeat),
        ("liveness", "Chandra and Toueg 1996, figure 10"),
        "the timeout is not raised after a mistake",
        (3, &[Fault::Loss]),
    ),
    case(
        (Mutant::SuspectForEver, Kind::Heartbeat),
        ("liveness", "Chandra and Toueg 1996, figure 10"),
        "a suspect that is heard again stays one",
        (3, &[Fault::Loss, Fault::Partition]),
    ),
    case(
        (Mutant::ChenMarginLeftOut, Kind::Chen),
        ("liveness", "Chen, Toueg and Aguilera 2002, section 6.2"),
        "there is no margin beyond the expected arrival",
        (3, &[Fault::Loss]),
    ),
    case(
        (Mutant::ChenWindowNeverForgets, Kind::Chen),
        ("liveness", "Chen, Toueg and Aguilera 2002, section 6.3"),
        "the expected arrival is a mean over everything ever heard",
        (3, &[Fault::StepForward, Fault::Freeze]),
    ),
    case(
        (Mutant::PhiOutageLearned, Kind::Phi),
        ("completeness", "Hayashibara et al. 2004, section 4: every interval is learned"),
        "an outage is learned as an interval in full length",
        (5, &[Fault::Partition, Fault::Pause, Fault::CrashStop]),
    ),
    case(
        (Mutant::PhiDeviationLeftOut, Kind::Phi),
        ("liveness", "Hayashibara et al. 2004, section 4"),
        "the mean alone decides when silence is too long",
        (3, &[Fault::Loss]),
    ),
    case(
        (Mutant::RttDeviationLeftOut, Kind::Jacobson),
        ("liveness", "Jacobson 1988, appendix A"),
        "the timeout is the mean round trip",
        (3, &[Fault::Loss]),
    ),
    case(
        (Mutant::TrafficSilencesAll, Kind::Traffic),
        ("liveness", "a timer for all peers instead of one for each"),
        "who talks to one peer sends no heartbeat to the others",
        (3, &[Fault::Loss]),
    ),
    case(
        (Mutant::TrafficBurstLearned, Kind::Traffic),
        ("liveness", "the trap of detectors that learn the rate of traffic"),
        "the gaps of a busy time are taken for a promise",
        (3, &[Fault::Loss]),
    ),
    case(
        (Mutant::QuorumSelfUncounted, Kind::QuorumPing),
        ("liveness", "the usual quorum rule, misread"),
        "the node that counts leaves itself out",
        (3, &[Fault::CrashStop]),
    ),
    case(
        (Mutant::QuorumHalfSuffices, Kind::QuorumPing),
        ("one-side", "elasticsearch#10407"),
        "half of the nodes are taken for a majority",
        (4, &[Fault::Partition]),
    ),
    case(
        (Mutant::SwimIncarnationIgnored, Kind::Swim),
        ("liveness", "Das, Gupta and Motivala 2002, section 4.2"),
        "news are weighed without their incarnation",
        (3, &[Fault::Partition, Fault::Pause]),
    ),
    case(
        (Mutant::SwimRefutationLeftOut, Kind::Swim),
        ("liveness", "Das, Gupta and Motivala 2002, section 4.2"),
        "a suspect does not contradict",
        (3, &[Fault::Partition, Fault::Pause]),
    ),
    case(
        (Mutant::SwimDeadForgotten, Kind::Swim),
        ("liveness", "hashicorp/memberlist, \"gossip to the dead\""),
        "who was declared dead is never probed again",
        (3, &[Fault::Partition, Fault::Pause]),
    ),
];
