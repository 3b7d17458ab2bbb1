//! The revisions that one client sees only grow, and each of its own writes is above all before.
//!
//! This holds for clients whose reads are linearizable, and for sessions that stay with one member.
//!
//! *Bounds.* One entry per client.
//!
//! Source: Terry et al., "Session Guarantees for Weakly Consistent Replicated Data", 1994.

use super::Broken;
use crate::history::ClientId;
use std::collections::BTreeMap;

/// What an answer tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// Something was read, or nothing was changed.
    Read,
    /// A revision was made.
    Write,
}

/// The last revision of each client.
#[derive(Clone, Debug, Default)]
pub struct Revisions {
    last: BTreeMap<ClientId, u64>,
}

impl Revisions {
    /// A client was answered with this revision, to a question that it asked after its answer
    /// before.
    ///
    /// # Errors
    ///
    /// If the revision is below the last, or a write's is not above it.
    pub fn on_answer(
        &mut self,
        client: ClientId,
        answer: Answer,
        revision: u64,
    ) -> Result<(), Broken> {
        let last = self.last.insert(client, revision).unwrap_or(0);
        if revision < last || (answer == Answer::Write && revision == last) {
            let story = format!("{client} was answered with revision {revision} after {last}");
            return Err(Broken::new("session monotone", story));
        }
        Ok(())
    }

    /// The session is over: the client may go to another member.
    pub fn on_new_session(&mut self, client: ClientId) {
        self.last.remove(&client);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ClientId = ClientId(1);

    #[test]
    fn revisions_of_a_client_grow() {
        let mut revisions = Revisions::default();
        revisions.on_answer(ONE, Answer::Write, 5).expect("first");
        revisions.on_answer(ONE, Answer::Read, 5).expect("the same");
        revisions.on_answer(ClientId(2), Answer::Read, 3).expect("another client");
        let mut same = revisions.clone();
        same.on_answer(ONE, Answer::Write, 5).expect_err("a write makes a new one");
        let mut other = revisions.clone();
        other.on_new_session(ONE);
        other.on_answer(ONE, Answer::Read, 4).expect("a new session");
        let broken = revisions.on_answer(ONE, Answer::Read, 4).expect_err("it went back");
        assert_eq!(
            broken.to_string(),
            "session monotone: client 1 was answered with revision 4 after 5"
        );
    }
}
