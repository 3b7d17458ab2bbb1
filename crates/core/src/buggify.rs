//! Taking a rare path more often, under simulation only.
//!
//! **Problem.** Some paths of correct code are so rare that a simulator hardly ever sees them: an
//! append that carries one entry of many, an apply that is interrupted, a follower that is sent a
//! whole state. Bugs wait there, and next to them.
//!
//! **Idea.** At a few places the code itself asks whether to take the rare path now, by
//! [`Context::choose`], so that the answer is replayed, shrunk and enumerated like every other
//! choice. The usual path is choice 0: a driver that answers 0 takes no rare path, which is how a
//! simulation lets a cluster recover.
//!
//! **Guarantees.** Off, the default, asks nothing and costs a comparison. No place may cost safety
//! on either path; a place may cost progress only for as long as the rare path is chosen.
//!
//! Source: Zhou et al., "FoundationDB: A Distributed Unbundled Transactional Key Value Store"
//! (SIGMOD 2021), section 4: "buggification".

use crate::{Context, Protocol};

/// Whether rare paths are taken on purpose.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Buggify {
    /// Never: production.
    #[default]
    Off,
    /// About one time in so many. Range: at least 2.
    OneIn(u32),
}

impl Buggify {
    /// True if the rare path is to be taken now.
    ///
    /// Panics: if it is one in fewer than 2, because then nobody would ever recover.
    pub fn strikes<P: Protocol>(self, cx: &mut Context<'_, P>) -> bool {
        match self {
            Buggify::Off => false,
            Buggify::OneIn(times) => {
                assert!(times >= 2, "a rare path that is taken always");
                cx.choose(times as usize) == times as usize - 1
            }
        }
    }
}
