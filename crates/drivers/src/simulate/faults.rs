//! Everything that can go wrong, by name, and which system model permits it.
//!
//! A fault has a begin and an end. The simulator never does what the model of the run forbids
//! ([`Fault::permitted`]), and counts what it did, so that a campaign can show that everything that
//! the model allows has happened.
//!
//! | group | what | where it is permitted |
//! |---|---|---|
//! | network | loss, doubling, partitions, congestion | fair-loss, or weaker |
//! | | late messages: a long tail, a slower link, messages held back | not in a synchronous system |
//! | | starvation: a link or a node is left waiting, also beyond the end of all other faults | an asynchronous system |
//! | | corruption, replay, forgery | an arbitrary network |
//! | node | crash for ever | everywhere, at most a minority |
//! | | crash and return, with what was synced | crash-recovery, or weaker |
//! | | send and receive omission | where messages may be lost; else by Byzantine nodes |
//! | | slow node | everywhere; in a synchronous system, within the bound on a step |
//! | | pause | not in a synchronous system |
//! | | Byzantine behaviour | Byzantine nodes, at most a third |
//! | disk | damage (rot, misdirected writes), failed syncs, no space | crash-recovery, or weaker; damage on a minority only, so that a good copy of each byte remains |
//! | | stalled or slow | not in a synchronous system |
//! | | syncs that lie | Byzantine nodes |
//! | clock | drift within the bound | everywhere |
//! | | steps, freezes, drift beyond the bound | not in a synchronous system |

use quorate_core::{Network, NodeFaults, SystemModel, Timing};
use std::fmt;
use std::str::FromStr;

macro_rules! faults {
    ($($variant:ident, $name:literal, $meaning:literal;)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Fault {
            $(#[doc = $meaning] $variant,)*
        }

        impl Fault {
            /// All kinds.
            pub const ALL: &[Fault] = &[$(Fault::$variant,)*];

            /// Its name on the command line and in reports.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)* }
            }

            /// What it does, in a few words.
            pub fn meaning(self) -> &'static str {
                match self { $(Fault::$variant => $meaning,)* }
            }
        }
    };
}

faults! {
    Loss, "loss", "Messages are lost, each with a small probability.";
    Duplicate, "duplicate", "Messages are delivered twice.";
    Tail, "tail", "Some messages take very long.";
    Partition, "partition", "The nodes fall into two groups that do not hear each other.";
    OneWay, "one-way", "One group hears the other and is not heard.";
    PartialCut, "partial-cut", "Two nodes do not hear each other; a third hears both.";
    Bridge, "bridge", "Two groups are joined by one node only.";
    Flapping, "flapping", "A partition comes and goes.";
    IsolateLeader, "isolate-leader", "The leader is cut off.";
    Hold, "hold", "Messages of one node are held back and arrive much later: zombies.";
    SlowLink, "slow-link", "One link becomes slow.";
    Starve, "starve", "An adversary lets a link, or all that a node should hear, wait very long.";
    Congestion, "congestion", "Queues of links are short and overflow.";
    Corrupt, "corrupt", "Messages are altered on the way.";
    Replay, "replay", "Old messages are delivered again.";
    Forge, "forge", "Messages arrive which their sender never sent.";
    Crash, "crash", "A node loses its power, and returns.";
    Kill, "kill", "A process is killed; its disk cache stays; it returns.";
    CrashStop, "crash-stop", "A node dies for ever.";
    CrashLoop, "crash-loop", "A node crashes again and again while it starts.";
    Blackout, "blackout", "All nodes lose their power at once.";
    Pause, "pause", "A node stands still, and goes on.";
    SlowNode, "slow-node", "Each step of a node takes long.";
    SendOmission, "send-omission", "Some messages that a node sends never leave.";
    ReceiveOmission, "receive-omission", "Some messages that reach a node are not seen by it.";
    Twins, "twins", "A Byzantine node equivocates: two copies of it talk to different peers.";
    Withhold, "withhold", "A Byzantine node is silent towards some peers.";
    Lie, "lie", "A Byzantine node alters what it sends.";
    Echo, "echo", "A Byzantine node sends again what it sent long ago.";
    Amnesia, "amnesia", "A Byzantine node forgets its log and promises.";
    BitRot, "bit-rot", "A bit of a disk turns.";
    Misdirected, "misdirected", "A write lands where it should not.";
    SyncError, "sync-error", "A sync fails.";
    SyncLie, "sync-lie", "A sync reports success and does nothing.";
    DiskFull, "disk-full", "A disk has no space.";
    DiskStall, "disk-stall", "A disk stands still for a while.";
    SlowDisk, "slow-disk", "Each sync takes long.";
    Drift, "drift", "A clock runs too fast or too slow, within the bound.";
    WildDrift, "wild-drift", "A clock runs too fast or too slow by up to five in a hundred.";
    StepForward, "step-forward", "A clock jumps ahead, as after a suspend that it counts.";
    StepBack, "step-back", "A clock is set back.";
    Freeze, "freeze", "A clock stands still.";
    LeapSecond, "leap-second", "A leap second is smeared, or stepped.";
    NtpOutage, "ntp-outage", "A clock is left to its oscillator.";
    Ambush, "ambush", "The next leaders are cut off, each as soon as it begins to lead.";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that names no fault.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UnknownFault(pub String);

impl fmt::Display for UnknownFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
        write!(f, "'{}' is no fault; there are {}", self.0, names.join(", "))
    }
}

impl std::error::Error for UnknownFault {}

impl FromStr for Fault {
    type Err = UnknownFault;

    fn from_str(name: &str) -> Result<Fault, UnknownFault> {
        let found = Fault::ALL.iter().find(|fault| fault.name() == name);
        found.copied().ok_or_else(|| UnknownFault(name.to_owned()))
    }
}

impl Fault {
    /// True if the system model allows it.
    pub fn permitted(self, model: &SystemModel) -> bool {
        let lossy = model.network >= Network::FairLoss;
        let late = model.timing >= Timing::PartiallySynchronous;
        let returns = model.node >= NodeFaults::CrashRecovery;
        let byzantine = model.node >= NodeFaults::Byzantine;
        match self {
            Fault::Loss | Fault::Duplicate => lossy,
            Fault::Congestion => lossy && late,
            // In a reliable network, what a partition stops arrives when it has healed.
            Fault::Partition
            | Fault::OneWay
            | Fault::PartialCut
            | Fault::Bridge
            | Fault::Flapping
            | Fault::IsolateLeader
            | Fault::Ambush => late,
            Fault::Tail | Fault::Hold | Fault::SlowLink => late,
            Fault::Starve => model.timing == Timing::Asynchronous,
            Fault::Corrupt | Fault::Replay | Fault::Forge => model.network == Network::Arbitrary,
            Fault::CrashStop => true,
            Fault::Crash | Fault::Kill | Fault::CrashLoop | Fault::Blackout => returns,
            Fault::SyncError | Fault::BitRot | Fault::Misdirected => returns,
            Fault::SendOmission | Fault::ReceiveOmission => byzantine || (lossy && returns),
            Fault::Pause | Fault::DiskStall | Fault::SlowDisk => late,
            Fault::SlowNode => true,
            // A full disk delays writes until there is space.
            Fault::DiskFull => late && returns,
            Fault::Twins | Fault::Withhold | Fault::Lie | Fault::Echo => byzantine,
            Fault::Amnesia | Fault::SyncLie => byzantine,
            Fault::Drift | Fault::NtpOutage => true,
            Fault::WildDrift | Fault::StepForward | Fault::StepBack | Fault::Freeze => late,
            Fault::LeapSecond => late,
        }
    }

    /// The model that permits it and is nearest to `model`: as few axes as can be say something
    /// weaker, and that as strong as can be.
    pub fn weakened(self, model: &SystemModel) -> SystemModel {
        let weaker = SystemModel::all().filter(|cell| model.supports(cell) && self.permitted(cell));
        let nearest = weaker.min_by_key(|cell| cell.weaker_than(model).len());
        nearest.expect("the weakest model permits everything")
    }

    /// Those that the model permits.
    pub fn of_model(model: &SystemModel) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|fault| fault.permitted(model)).collect()
    }

    /// True if it keeps nodes from hearing each other.
    pub(super) fn parts(self) -> bool {
        matches!(
            self,
            Fault::Partition
                | Fault::OneWay
                | Fault::PartialCut
                | Fault::Bridge
                | Fault::Flapping
                | Fault::IsolateLeader
                | Fault::Ambush
        )
    }

    /// True if it breaks whatever bound a clock has, known or not.
    pub(super) fn breaks_time(self) -> bool {
        matches!(self, Fault::StepForward | Fault::StepBack | Fault::Freeze | Fault::LeapSecond)
    }

    /// True if it is what Byzantine nodes do, of which there are less than a third.
    pub fn is_treason(self) -> bool {
        matches!(self, Fault::Twins | Fault::Withhold | Fault::Lie | Fault::Echo | Fault::Amnesia)
    }

    /// True if it damages a disk for good, so that it may hit a minority of the nodes only.
    pub fn damages(self) -> bool {
        matches!(
            self,
            Fault::BitRot | Fault::Misdirected | Fault::SyncLie | Fault::Amnesia | Fault::CrashStop
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(text: &str) -> SystemModel {
        text.parse().expect("a model")
    }

    #[test]
    fn names_parse_back_and_are_distinct() {
        for fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(*fault));
        }
        let error = "gremlins".parse::<Fault>().expect_err("no such fault");
        assert!(error.to_string().contains("'gremlins' is no fault; there are loss, duplicate"));
    }

    #[test]
    fn a_weaker_model_permits_all_that_a_stronger_one_does() {
        let strong = model("network=reliable,node=crash-stop,timing=synchronous");
        let weak = model("network=arbitrary,node=byzantine,timing=asynchronous");
        assert_eq!(
            Fault::of_model(&strong),
            [Fault::CrashStop, Fault::SlowNode, Fault::Drift, Fault::NtpOutage],
            "the strongest cell"
        );
        assert_eq!(Fault::of_model(&weak), Fault::ALL, "the weakest cell");
        let lossy = model("network=fair-loss,node=crash-stop,timing=synchronous");
        for fault in Fault::of_model(&strong) {
            assert!(fault.permitted(&lossy), "{fault}");
        }
    }

    #[test]
    fn the_nearest_model_that_permits_a_fault_says_as_little_else_as_can_be() {
        let strong = model("network=reliable,node=crash-stop,timing=synchronous");
        let nearest = |fault: Fault| fault.weakened(&strong).weaker_than(&strong);
        let (reliable, stop, synchronous) =
            ("network=reliable", "node=crash-stop", "timing=synchronous");
        assert_eq!(nearest(Fault::Drift), []);
        assert_eq!(nearest(Fault::Loss), [("network=fair-loss", reliable)]);
        assert_eq!(nearest(Fault::Forge), [("network=arbitrary", reliable)]);
        assert_eq!(nearest(Fault::Pause), [("timing=partial", synchronous)]);
        assert_eq!(nearest(Fault::Starve), [("timing=asynchronous", synchronous)]);
        assert_eq!(
            nearest(Fault::DiskFull),
            [("node=crash-recovery", stop), ("timing=partial", synchronous)]
        );
        for model in SystemModel::all() {
            for fault in Fault::ALL {
                assert!(fault.permitted(&fault.weakened(&model)), "{fault} in {model}");
            }
        }
    }
}
