//! Histories of what clients saw, and whether they keep a promise.
//!
//! | question | module |
//! |---|---|
//! | what happened? | [`history`] |
//! | is there an order that one copy could have shown? | [`linear`], with the [`models`] |

mod hash;
pub mod history;
pub mod linear;
pub mod models;
pub mod parse;
pub mod witness;
