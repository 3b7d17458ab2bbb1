//! What runs a protocol. Drivers are generic over [`quorate_core::Protocol`] and name none.
//!
//! | driver | file | time, network, disk |
//! |---|---|---|
//! | scenario | `scenario/` | in the hands of a script; effects are compared line by line |
//! | live | `live/` | real: one thread per node, a log thread beside it |
//! | simulate | `simulate/` | virtual: every choice is drawn from one log, every fault has a name |

pub mod live;
pub mod scenario;
pub mod simulate;
