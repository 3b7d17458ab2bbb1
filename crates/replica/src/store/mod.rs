//! The multi-version store: etcd key-value semantics over an ordered map of histories.

mod command;

pub use command::*;
