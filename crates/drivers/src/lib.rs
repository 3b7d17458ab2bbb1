//! What runs a protocol. Drivers are generic over [`quorate_core::Protocol`] and name none.
//!
//! | driver | file | time, network, disk |
//! |---|---|---|
//! | live | `live/` | real: one thread per node, a log thread beside it |

pub mod live;
