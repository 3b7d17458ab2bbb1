//! The central trait.

use crate::{Context, NodeId, SystemModel};
use std::fmt::Debug;
use std::hash::Hash;

/// A deterministic state machine; the same value runs in every driver.
///
/// Handlers return nothing and cannot fail: bad input is dropped and counted, a refusal is an
/// indication, a broken invariant panics. A crash is `drop`, then [`Protocol::restore`].
///
/// An explorer demands `Clone + Eq + Hash` on top; every protocol of the shelf has them. A protocol
/// that owns gigabytes need not.
///
/// Source: request and indication as in Cachin, Guerraoui and Rodrigues, "Introduction to Reliable
/// and Secure Distributed Programming" (2011), section 1.4.
pub trait Protocol: Sized {
    /// What is known before the first event.
    type Config;
    /// Between nodes.
    type Message: Clone + Debug;
    /// Named alarms, not handles.
    type Timer: Copy + Debug + Eq + Hash + Ord;
    /// What survives a crash.
    type Record: Debug;
    /// Asked by the layer above.
    type Request: Debug;
    /// Told to the layer above.
    type Indication: Debug;

    /// The weakest system under which the protocol keeps its promises.
    const MODEL: SystemModel;

    /// The only constructor: a new node has no records, a crashed one gets back, in order, the
    /// records that were durable when it crashed.
    fn restore(config: &Self::Config, records: &mut dyn Iterator<Item = Self::Record>) -> Self;

    /// The first event of every life.
    fn on_start(&mut self, _cx: &mut Context<'_, Self>) {}

    /// The layer above asks.
    fn on_request(&mut self, request: Self::Request, cx: &mut Context<'_, Self>);

    /// A message arrives, possibly late, twice, or never.
    fn on_message(&mut self, from: NodeId, message: Self::Message, cx: &mut Context<'_, Self>);

    /// An alarm goes off.
    fn on_timer(&mut self, timer: Self::Timer, cx: &mut Context<'_, Self>);

    /// Called once after each batch of events: coalesce here (one append per follower, not one per
    /// proposal).
    fn on_flush(&mut self, _cx: &mut Context<'_, Self>) {}

    /// Panics if a local invariant is broken. Every driver calls it after every batch.
    fn invariants(&self) {}
}
