//! The service as it runs in production, member by member, in a simulated world.
//!
//! | file | holds |
//! |---|---|
//! | `disk.rs` | what a member keeps when it crashes: its log and its checkpoints |

pub mod disk;
