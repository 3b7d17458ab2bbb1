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

    /// True if a protocol that needs `needed` keeps its promises in this model: no axis of this
    /// model is weaker than what is needed.
    pub fn supports(&self, needed: &SystemModel) -> bool {
        self.network <= needed.network && self.node <= needed.node && self.timing <= needed.timing
    }
}

impl fmt::Display for SystemModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let network = match self.network {
            Network::Reliable => "reliable",
            Network::FairLoss => "fair-loss",
            Network::Arbitrary => "arbitrary",
        };
        let node = match self.node {
            NodeFaults::CrashStop => "crash-stop",
            NodeFaults::CrashRecovery => "crash-recovery",
            NodeFaults::Byzantine => "byzantine",
        };
        let timing = match self.timing {
            Timing::Synchronous => "synchronous",
            Timing::PartiallySynchronous => "partial",
            Timing::Asynchronous => "asynchronous",
        };
        write!(f, "network={network},node={node},timing={timing}")
    }
}

/// Text that names no system model.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseModelError {
    /// The part that was not understood.
    pub part: String,
}

impl fmt::Display for ParseModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is no part of a system model; write network=reliable|fair-loss|arbitrary, \
             node=crash-stop|crash-recovery|byzantine, timing=synchronous|partial|asynchronous",
            self.part
        )
    }
}

impl std::error::Error for ParseModelError {}

impl FromStr for SystemModel {
    type Err = ParseModelError;

    /// Parts that are not named are those of [`SystemModel::DATA_CENTRE`].
    fn from_str(text: &str) -> Result<SystemModel, ParseModelError> {
        let mut model = SystemModel::DATA_CENTRE;
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part {
                "network=reliable" => model.network = Network::Reliable,
                "network=fair-loss" => model.network = Network::FairLoss,
                "network=arbitrary" => model.network = Network::Arbitrary,
                "node=crash-stop" => model.node = NodeFaults::CrashStop,
                "node=crash-recovery" => model.node = NodeFaults::CrashRecovery,
                "node=byzantine" => model.node = NodeFaults::Byzantine,
                "timing=synchronous" => model.timing = Timing::Synchronous,
                "timing=partial" => model.timing = Timing::PartiallySynchronous,
                "timing=asynchronous" => model.timing = Timing::Asynchronous,
                _ => return Err(ParseModelError { part: part.to_owned() }),
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
        let mut cells = 0;
        for network in [Network::Reliable, Network::FairLoss, Network::Arbitrary] {
            for node in [NodeFaults::CrashStop, NodeFaults::CrashRecovery, NodeFaults::Byzantine] {
                for timing in
                    [Timing::Synchronous, Timing::PartiallySynchronous, Timing::Asynchronous]
                {
                    let model = SystemModel { network, node, timing };
                    assert_eq!(model.to_string().parse(), Ok(model));
                    cells += 1;
                }
            }
        }
        assert_eq!(cells, 27);
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
    }

    #[test]
    fn an_unknown_part_is_named() {
        let error = "network=carrier-pigeon".parse::<SystemModel>().expect_err("no such network");
        assert_eq!(error.part, "network=carrier-pigeon");
    }
}
