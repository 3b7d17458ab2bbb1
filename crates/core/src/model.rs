//! The system model: what a protocol may assume of the network, of nodes and of time.

use std::fmt;
use std::str::FromStr;

/// What the network may do to a message.
///
/// Source: Cachin, Guerraoui and Rodrigues (2011), section 2.4. Order: from strong to weak.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Network {
    /// Every message is delivered, once, unaltered.
    Reliable,
    /// Messages may be lost, doubled and reordered; one sent again and again arrives.
    FairLoss,
    /// An adversary may also alter, replay and forge.
    Arbitrary,
}

/// How a node may fail. Order: from strong to weak.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum NodeFaults {
    /// A failed node never returns.
    CrashStop,
    /// A failed node may return with what it had made durable.
    CrashRecovery,
    /// A faulty node may do anything.
    Byzantine,
}

/// What is known of delays and clocks. Order: from strong to weak.
///
/// Source: Dwork, Lynch and Stockmeyer, "Consensus in the Presence of Partial Synchrony" (1988).
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timing {
    /// Delays and processing times have known bounds.
    Synchronous,
    /// Bounds hold from an unknown instant on (GST), or are unknown.
    PartiallySynchronous,
    /// No bound at all.
    Asynchronous,
}

/// Network x node x timing: 27 cells.
///
/// Text form: `network=fair-loss,node=crash-recovery,timing=partial`, parsed and printed alike.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SystemModel {
    /// What the network may do.
    pub network: Network,
    /// How nodes fail.
    pub node: NodeFaults,
    /// What is known of time.
    pub timing: Timing,
}

impl SystemModel {
    /// What a service in a data centre should assume: lossy links, nodes that crash and return,
    /// delays that are bounded only most of the time.
    pub const DATA_CENTRE: SystemModel = SystemModel {
        network: Network::FairLoss,
        node: NodeFaults::CrashRecovery,
        timing: Timing::PartiallySynchronous,
    };

    /// All 27 cells; on each axis the strong words come first.
    pub fn all() -> impl Iterator<Item = SystemModel> {
        let networks = [Network::Reliable, Network::FairLoss, Network::Arbitrary];
        let nodes = [NodeFaults::CrashStop, NodeFaults::CrashRecovery, NodeFaults::Byzantine];
        let timings = [Timing::Synchronous, Timing::PartiallySynchronous, Timing::Asynchronous];
        networks.into_iter().flat_map(move |network| {
            nodes.into_iter().flat_map(move |node| {
                timings.into_iter().map(move |timing| SystemModel { network, node, timing })
            })
        })
    }

    /// What it says of each axis, as it is written: network, node, timing.
    pub fn parts(&self) -> [&'static str; 3] {
        let network = match self.network {
            Network::Reliable => "network=reliable",
            Network::FairLoss => "network=fair-loss",
            Network::Arbitrary => "network=arbitrary",
        };
        let node = match self.node {
            NodeFaults::CrashStop => "node=crash-stop",
            NodeFaults::CrashRecovery => "node=crash-recovery",
            NodeFaults::Byzantine => "node=byzantine",
        };
        let timing = match self.timing {
            Timing::Synchronous => "timing=synchronous",
            Timing::PartiallySynchronous => "timing=partial",
            Timing::Asynchronous => "timing=asynchronous",
        };
        [network, node, timing]
    }

    /// True if a protocol that needs `needed` keeps its promises in this model: no axis of this
    /// model is weaker than what is needed.
    pub fn supports(&self, needed: &SystemModel) -> bool {
        self.weaker_than(needed).is_empty()
    }

    /// The axes on which this model is weaker than `needed`: what it says, and what is needed.
    pub fn weaker_than(&self, needed: &SystemModel) -> Vec<(&'static str, &'static str)> {
        let weaker =
            [self.network > needed.network, self.node > needed.node, self.timing > needed.timing];
        let pairs = self.parts().into_iter().zip(needed.parts());
        pairs.zip(weaker).filter(|(_, weaker)| *weaker).map(|(pair, _)| pair).collect()
    }
}

impl fmt::Display for SystemModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.parts().join(","))
    }
}

/// Text that names no system model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ParseModelError {
    /// This part was not understood.
    Unknown {
        /// The part.
        part: String,
    },
    /// It says two things of this axis, which contradict each other or are one too many.
    Twice {
        /// `network`, `node` or `timing`.
        axis: &'static str,
    },
}

impl fmt::Display for ParseModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseModelError::Unknown { part } => write!(
                f,
                "'{part}' is no part of a system model; write network=reliable|fair-loss|arbitrary, \
                 node=crash-stop|crash-recovery|byzantine, timing=synchronous|partial|asynchronous"
            ),
            ParseModelError::Twice { axis } => write!(
                f,
                "it says two things of '{axis}'; name each of network, node and timing once"
            ),
        }
    }
}

impl std::error::Error for ParseModelError {}

impl FromStr for SystemModel {
    type Err = ParseModelError;

    /// Parts that are not named are those of [`SystemModel::DATA_CENTRE`].
    fn from_str(text: &str) -> Result<SystemModel, ParseModelError> {
        let mut model = SystemModel::DATA_CENTRE;
        let mut named = [false; 3];
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let found = SystemModel::all().find_map(|cell| {
                Some((cell, cell.parts().iter().position(|known| *known == part)?))
            });
            let Some((cell, axis)) = found else {
                return Err(ParseModelError::Unknown { part: part.to_owned() });
            };
            if std::mem::replace(&mut named[axis], true) {
                return Err(ParseModelError::Twice { axis: ["network", "node", "timing"][axis] });
            }
            match axis {
                0 => model.network = cell.network,
                1 => model.node = cell.node,
                _ => model.timing = cell.timing,
            }
        }
        Ok(model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_27_cells_print_and_parse_back() {
        let cells: Vec<SystemModel> = SystemModel::all().collect();
        for (at, model) in cells.iter().enumerate() {
            assert_eq!(model.to_string().parse(), Ok(*model));
            assert!(!cells[..at].contains(model), "{model} is there twice");
        }
        assert_eq!(cells.len(), 27);
    }

    #[test]
    fn a_weaker_system_does_not_support_a_stronger_need() {
        let need = SystemModel::DATA_CENTRE;
        let strong: SystemModel =
            "network=reliable,node=crash-stop,timing=synchronous".parse().expect("a model");
        let weak: SystemModel = "timing=asynchronous".parse().expect("a model");
        assert!(strong.supports(&need));
        assert!(need.supports(&need));
        assert!(!weak.supports(&need));
        assert_eq!(weak.weaker_than(&need), [("timing=asynchronous", "timing=partial")]);
        assert_eq!(strong.weaker_than(&need), []);
    }

    #[test]
    fn an_unknown_part_is_named() {
        let error = "network=carrier-pigeon".parse::<SystemModel>().expect_err("no such network");
        assert_eq!(error, ParseModelError::Unknown { part: "network=carrier-pigeon".to_owned() });
    }

    #[test]
    fn a_model_says_one_thing_of_each_axis() {
        for text in ["node=byzantine,node=crash-stop", "node=byzantine,node=byzantine"] {
            let error = text.parse::<SystemModel>().expect_err("two things");
            assert_eq!(error, ParseModelError::Twice { axis: "node" });
        }
    }
}
