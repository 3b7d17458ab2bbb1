//! Histories of what clients saw, and whether they keep a promise.
//!
//! | question | module |
//! |---|---|
//! | what happened? | [`history`] |
//! | is there an order that one copy could have shown? | [`linear`], with the [`models`] |
//! | is the order that the store's revisions claim right? | [`witness`] |
//! | do watches, leases, locks and writes keep their promises? | [`guarantees`] |
//! | what does this file say? | [`parse`] |
//! | what contradicts what, for people? | [`report`] |
//!
//! Nothing here knows a protocol, a driver or a clock: a history is data.

pub mod guarantees;
mod hash;
pub mod history;
pub mod linear;
pub mod models;
pub mod parse;
pub mod report;
pub mod witness;
