//! Names of nodes.

use std::fmt;

/// A node of the system: the member id of the service, a small number in tests.
///
/// Range: any `u64` but 0, which the wire formats of the service use for "nobody".
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    /// Small ids read as `n1`; member ids of the service in hexadecimal, as operators know them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1_000 { write!(f, "n{}", self.0) } else { write!(f, "{:x}", self.0) }
    }
}
