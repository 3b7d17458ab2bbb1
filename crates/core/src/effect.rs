//! What a handler asked for, as plain data.

use crate::{NodeId, Protocol};
use std::ops::Range;
use std::time::Duration;

/// When a message may leave the node.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Release {
    /// At once, in parallel with the disk.
    Immediately,
    /// When every record written before this send is on stable storage.
    OnceDurable,
}

/// One thing that a handler asked its driver to do. Drivers carry effects out in order.
#[derive(Debug)]
pub enum Effect<P: Protocol> {
    /// Hand a message to the network, or back to ourselves if `to` is this node.
    Send {
        /// Receiver.
        to: NodeId,
        /// The message.
        message: P::Message,
        /// When it may leave.
        release: Release,
    },
    /// Arm (or re-arm) a named alarm. The driver picks the moment: jitter without a generator.
    SetTimer {
        /// Name of the alarm; setting it again replaces it.
        timer: P::Timer,
        /// Fires at a moment within this range from now.
        within: Range<Duration>,
    },
    /// Disarm a named alarm; nothing happens if it is not set.
    CancelTimer {
        /// Name of the alarm.
        timer: P::Timer,
    },
    /// Append a record to stable storage.
    Write {
        /// The record; `Protocol::restore` gets it back after a crash.
        record: P::Record,
    },
    /// Tell the layer above.
    Indicate {
        /// What happened.
        indication: P::Indication,
    },
}
