//! Physical time: what time it truly is, found out with clocks that are wrong and messages that are
//! late.
//!
//! | problem | file | source |
//! |---|---|---|
//! | how wrong a clock becomes by itself | [`dispersion`] | RFC 5905, section 4 |
//! | what one question and its answer say | [`exchange`] | RFC 5905, sections 8 and 10 |
//! | several sources, of which some lie | [`marzullo`] | Marzullo (1984, 1990) |
//! | a clock that runs smoothly | [`discipline`] | RFC 5905, sections 11.3 and 12 |
//! | all of it among members | [`synchronizer`] | |
//! | one server, asked until the answer is good | [`cristian`] | Cristian (1989) |
//! | no server at all: the average of all | [`berkeley`] | Gusella and Zatti (1989) |
//!
//! What the result is good for is told in [`crate::clocks::interval`].

pub mod berkeley;
pub mod cristian;
pub mod discipline;
pub mod dispersion;
pub mod exchange;
pub mod marzullo;
pub mod synchronizer;
