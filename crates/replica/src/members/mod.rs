//! The members of a cluster as its operators see them: names, addresses, and what shall become of
//! each.
//!
//! **Problem.** The consensus counts ids. Whoever runs a cluster speaks of names and addresses,
//! must find the same list at every member and after every crash, and asks for things that take a
//! while: a newcomer shall vote, but only once it holds the log.
//!
//! **Idea.** The table says what is *wanted*; it changes by commands of the log and by nothing
//! else, so it is the same everywhere. The configuration of the consensus says what *is*. Whoever
//! leads moves the second towards the first, by joint changes, in steps that lose no quorum:
//!
//! ```text
//!    wanted     add 4 (voter)          replace 2 by 5            remove 3
//!       |          |                      |                         |
//!    is         {1 2 3 | 4}  caught up  {1 2 3 4 | 5} caught up  {1 3 4 5}     ...   {1 4 5}
//!               learner  --> {1 2 3 4}  learner   --> one joint step: 5 in, 2 out
//! ```
//!
//! So a newcomer is a learner until it has caught up, whatever it is to be; a change that was begun
//! is finished by the next leader; and a seat that is replaced keeps its vote until the moment at
//! which the new one takes it.
//!
//! A *witness* is a voter without a store: cheap, and enough to make a third. A quorum of witnesses
//! alone would hold what nobody can serve, so there are never so many.
//!
//! **Guarantees.** Every quorum has a member with a store. Equal commands and configurations in
//! equal order give equal tables. No two seats that are to stay have an address in common. An id
//! that was removed never returns.
//!
//! **Bounds.** [`SEATS_MAX`] seats, [`URLS_MAX`] addresses for each, of [`TEXT_BYTES_MAX`] bytes;
//! [`REMOVED_MAX`] removed ids are remembered, the oldest are forgotten first.
//!
//! Sources: Ongaro (2014), sections 4.2.1 and 4.3; etcd `server/etcdserver/api/membership`
//! (refusals and their order).

mod codec;

pub use codec::{BadMembers, MembersCommand};

use quorate_core::{Index, NodeId};
use quorate_protocols::consensus::raft::Configuration;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Members of a cluster, learners and those who are leaving included.
pub const SEATS_MAX: usize = 64;
/// Addresses of one kind that a member has.
pub const URLS_MAX: usize = 16;
/// A name or an address. Unit: bytes.
pub const TEXT_BYTES_MAX: usize = 512;
/// Removed ids that are remembered.
pub const REMOVED_MAX: usize = 1_024;

/// What shall become of a member.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Wanted {
    /// It votes, as soon as it holds the log.
    #[default]
    Voter,
    /// It listens.
    Learner,
    /// It leaves.
    Gone,
}

/// One member.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Seat {
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// What shall become of it.
    pub wanted: Wanted,
    /// It has told its name and addresses itself.
    pub started: bool,
    /// The member whose vote it takes, or took.
    pub replaces: Option<NodeId>,
    /// It keeps the log and no store: it votes, and serves nothing. For ever.
    pub witness: bool,
}

impl Seat {
    /// The seat of a member that a cluster begins with.
    pub fn of(peer_urls: Vec<String>) -> Seat {
        Seat { peer_urls, ..Seat::default() }
    }
}

/// Why members are not changed. Definite.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MembersError {
    /// There is no such member.
    NotFound,
    /// The id is, or was, another member's.
    IdExists,
    /// A member has one of these peer addresses.
    PeerUrlExists,
    /// Only a learner can be promoted.
    NotALearner,
    /// The learner does not hold the log yet.
    LearnerNotReady,
    /// As many learners as are allowed are there.
    TooManyLearners,
    /// Too few of the voters that would be left have ever started.
    NotEnoughStarted,
    /// A voter has not been heard lately.
    Unhealthy,
    /// [`SEATS_MAX`] seats are taken.
    TooManyMembers,
    /// Another one is to take this member's place already.
    BeingReplaced,
    /// Some member runs a version that does not know of changes.
    NotCapable,
    /// Witnesses alone would be a quorum.
    TooManyWitnesses,
}

impl MembersError {
    pub(crate) const ALL: [MembersError; 12] = [
        MembersError::NotFound,
        MembersError::IdExists,
        MembersError::PeerUrlExists,
        MembersError::NotALearner,
        MembersError::LearnerNotReady,
        MembersError::TooManyLearners,
        MembersError::NotEnoughStarted,
        MembersError::Unhealthy,
        MembersError::TooManyMembers,
        MembersError::BeingReplaced,
        MembersError::NotCapable,
        MembersError::TooManyWitnesses,
    ];
}

impl fmt::Display for MembersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MembersError::NotFound => "member not found",
            MembersError::IdExists => "the member id exists already",
            MembersError::PeerUrlExists => "a peer URL is another member's",
            MembersError::NotALearner => "the member is no learner",
            MembersError::LearnerNotReady => "the learner is not in sync with the leader",
            MembersError::TooManyLearners => "too many learners",
            MembersError::NotEnoughStarted => "not enough started members would be left",
            MembersError::Unhealthy => "a voter is not heard",
            MembersError::TooManyMembers => "too many members",
            MembersError::BeingReplaced => "another one is to take the member's place",
            MembersError::NotCapable => "a member runs an older version",
            MembersError::TooManyWitnesses => {
                "witnesses, which keep no data, could be a quorum by themselves"
            }
        })
    }
}

/// The members, and those who were.
///
/// An empty table knows nobody: then nothing is wanted, and the configuration stays as it is.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Members {
    seats: BTreeMap<NodeId, Seat>,
    /// Who was removed, by when, and whether it was a witness.
    removed: BTreeMap<(Index, NodeId), bool>,
}

impl Members {
    /// The members that a cluster begins with.
    pub fn of(seats: impl IntoIterator<Item = (NodeId, Seat)>) -> Members {
        Members { seats: seats.into_iter().collect(), removed: BTreeMap::new() }
    }

    /// True if nobody is known.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// All members, in the order of their ids; those too who are leaving.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Seat)> + '_ {
        self.seats.iter().map(|(id, seat)| (*id, seat))
    }

    /// One of them.
    pub fn get(&self, id: NodeId) -> Option<&Seat> {
        self.seats.get(&id)
    }

    /// True if the member was here and is not any longer.
    pub fn was_removed(&self, id: NodeId) -> bool {
        self.removed.keys().any(|(_, gone)| *gone == id)
    }

    /// Carries out a command that is committed at `at`, while `present` is in force.
    ///
    /// Errors: those of [`MembersError`] that do not depend on who is asked; nothing has changed.
    pub fn apply(
        &mut self,
        command: &MembersCommand,
        present: &Configuration,
        at: Index,
    ) -> Result<(), MembersError> {
        match command {
            MembersCommand::Add { id, peer_urls, wanted, witness } => {
                let (wanted, witness) = (*wanted, *witness);
                let (voters, witnesses) = self.wanted_votes(None);
                if witness && !has_store(voters + 1, witnesses + 1) {
                    return Err(MembersError::TooManyWitnesses);
                }
                self.add(*id, Seat { wanted, witness, ..Seat::of(peer_urls.clone()) })
            }
            MembersCommand::Replace { id, old, peer_urls } => {
                if self.replacement(*old, peer_urls).is_some() {
                    return Ok(()); // asked again: it is under way, or done
                }
                let leaving = self.seats.get(old).ok_or(MembersError::NotFound)?;
                if self.is_replaced(*old) {
                    return Err(MembersError::BeingReplaced);
                }
                let wanted = match leaving.wanted {
                    Wanted::Gone => return Err(MembersError::NotFound),
                    wanted => wanted,
                };
                let (replaces, witness) = (Some(*old), leaving.witness);
                let seat = Seat { wanted, replaces, witness, ..Seat::of(peer_urls.clone()) };
                self.add(*id, seat)
            }
            MembersCommand::Remove { id } => {
                self.seats.get(id).ok_or(MembersError::NotFound)?;
                if !self.leaves_a_voter(*id, present) {
                    return Err(MembersError::NotEnoughStarted);
                }
                let (voters, witnesses) = self.wanted_votes(Some(*id));
                if !self.is_witness(*id) && !has_store(voters, witnesses) {
                    return Err(MembersError::TooManyWitnesses);
                }
                self.seats.get_mut(id).expect("just seen").wanted = Wanted::Gone;
                Ok(())
            }
            MembersCommand::Update { id, peer_urls } => {
                if !self.seats.contains_key(id) {
                    return Err(MembersError::NotFound);
                }
                let mut except = self.predecessors(*id);
                except.push(*id);
                self.check_urls(peer_urls, &except)?;
                self.seats.get_mut(id).expect("just seen").peer_urls.clone_from(peer_urls);
                Ok(())
            }
            MembersCommand::Promote { id } => {
                let seat = self.seats.get_mut(id).ok_or(MembersError::NotFound)?;
                check_promotion(*id, seat, present)?;
                seat.wanted = Wanted::Voter;
                Ok(())
            }
            MembersCommand::Publish { id, name, client_urls } => {
                let seat = self.seats.get_mut(id).ok_or(MembersError::NotFound)?;
                (seat.name, seat.client_urls) = (name.clone(), client_urls.clone());
                seat.started = true;
                Ok(())
            }
            MembersCommand::Force { id } => self.force(*id, at),
        }
    }

    fn add(&mut self, id: NodeId, seat: Seat) -> Result<(), MembersError> {
        if self.seats.contains_key(&id) || self.was_removed(id) {
            return Err(MembersError::IdExists);
        }
        self.check_urls(&seat.peer_urls, &self.chain(seat.replaces))?;
        if self.seats.len() >= SEATS_MAX {
            return Err(MembersError::TooManyMembers);
        }
        self.seats.insert(id, seat);
        Ok(())
    }

    /// Whose vote `id` takes when it gets its own: the one that it replaces, and, if that one was
    /// to replace another and never did, that other one, too.
    fn predecessors(&self, id: NodeId) -> Vec<NodeId> {
        self.chain(self.seats.get(&id).and_then(|seat| seat.replaces))
    }

    /// `first` and its own predecessors, as far as they are here.
    fn chain(&self, first: Option<NodeId>) -> Vec<NodeId> {
        let mut chain = Vec::new();
        let mut next = first;
        while let Some((id, seat)) = next.and_then(|id| Some((id, self.seats.get(&id)?)))
            && chain.len() < SEATS_MAX
        {
            chain.push(id);
            next = seat.replaces;
        }
        chain
    }

    /// Whoever leaves has its addresses no longer. One that is to be replaced keeps them until
    /// then, as the replacement may be called off; `except` may share theirs.
    fn check_urls(&self, peer_urls: &[String], except: &[NodeId]) -> Result<(), MembersError> {
        let others = self
            .seats
            .iter()
            .filter(|(id, seat)| !except.contains(id) && seat.wanted != Wanted::Gone);
        let taken: BTreeSet<&String> = others.flat_map(|(_, seat)| &seat.peer_urls).collect();
        match peer_urls.iter().any(|url| taken.contains(url)) {
            true => Err(MembersError::PeerUrlExists),
            false => Ok(()),
        }
    }

    /// Somebody is here, or is to come, who takes this one's vote.
    fn is_replaced(&self, id: NodeId) -> bool {
        let by = |seat: &Seat| seat.replaces == Some(id) && seat.wanted != Wanted::Gone;
        self.seats.values().any(by)
    }

    /// Who was given the vote of `old` and has these addresses.
    pub fn replacement(&self, old: NodeId, peer_urls: &[String]) -> Option<NodeId> {
        let fits = |seat: &Seat| {
            seat.replaces == Some(old) && seat.peer_urls == peer_urls && seat.wanted != Wanted::Gone
        };
        self.seats.iter().find(|(_, seat)| fits(seat)).map(|(id, _)| *id)
    }

    /// True if that member votes and keeps no store, or did when it was removed.
    pub fn is_witness(&self, id: NodeId) -> bool {
        match self.seats.get(&id) {
            Some(seat) => seat.witness,
            None => self.removed.iter().any(|((_, gone), witness)| *gone == id && *witness),
        }
    }

    /// How many are to vote, apart from `without`, and how many of them are witnesses.
    fn wanted_votes(&self, without: Option<NodeId>) -> (usize, usize) {
        let votes = |(id, seat): &(&NodeId, &Seat)| {
            seat.wanted == Wanted::Voter && !self.is_replaced(**id) && Some(**id) != without
        };
        let seats = self.seats.iter().filter(votes);
        seats.fold((0, 0), |(voters, witnesses), (_, seat)| {
            (voters + 1, witnesses + usize::from(seat.witness))
        })
    }

    /// True if somebody with a store votes when `id` is gone, of those who vote now.
    fn leaves_a_voter(&self, id: NodeId, present: &Configuration) -> bool {
        let stays = |voter: &NodeId| {
            let keeps = |seat: &Seat| seat.wanted == Wanted::Voter && !seat.witness;
            *voter != id && self.seats.get(voter).is_some_and(keeps)
        };
        !present.incoming.contains(&id) || present.incoming.iter().any(stays)
    }

    /// The data of one member are all that is left: it is the cluster now.
    fn force(&mut self, id: NodeId, at: Index) -> Result<(), MembersError> {
        let mut seat = self.seats.get(&id).cloned().ok_or(MembersError::NotFound)?;
        if seat.witness {
            return Err(MembersError::TooManyWitnesses);
        }
        (seat.wanted, seat.replaces) = (Wanted::Voter, None);
        let others: Vec<NodeId> = self.seats.keys().copied().filter(|one| *one != id).collect();
        others.into_iter().for_each(|other| self.bury(other, at));
        self.seats.insert(id, seat);
        Ok(())
    }

    fn bury(&mut self, id: NodeId, at: Index) {
        let seat = self.seats.remove(&id).unwrap_or_default();
        // Whom it was to replace is still here: that falls to whoever was to replace it.
        if let Some(first) = seat.replaces.filter(|first| self.seats.contains_key(first)) {
            let heirs = self.seats.values_mut().filter(|seat| seat.replaces == Some(id));
            heirs.for_each(|seat| seat.replaces = Some(first));
        }
        self.removed.insert((at, id), seat.witness);
        while self.removed.len() > REMOVED_MAX {
            self.removed.pop_first();
        }
    }

    /// A configuration was committed at `at`: whoever was to leave, and is not in it, has left.
    pub fn settle(&mut self, present: &Configuration, at: Index) {
        if present.is_joint() {
            return;
        }
        let left = |id: &NodeId, seat: &Seat| {
            !present.contains(*id)
                && (seat.wanted == Wanted::Gone || self.is_taken_over(*id, present))
        };
        let gone: Vec<NodeId> =
            self.seats.iter().filter(|(id, seat)| left(id, seat)).map(|(id, _)| *id).collect();
        gone.into_iter().for_each(|id| self.bury(id, at));
    }

    /// True if the one that was to take this one's place has taken it.
    fn is_taken_over(&self, id: NodeId, present: &Configuration) -> bool {
        let taken = |(new, seat): (&NodeId, &Seat)| {
            let is_there = match seat.wanted {
                Wanted::Voter => present.incoming.contains(new),
                Wanted::Learner => present.learners.contains(new),
                Wanted::Gone => false,
            };
            is_there && self.predecessors(*new).contains(&id)
        };
        self.seats.iter().any(taken)
    }

    /// The configuration to go to from `present`: who votes, and who listens. A learner that is to
    /// vote does so once it is `ready`.
    pub fn target(
        &self,
        present: &Configuration,
        ready: impl Fn(NodeId) -> bool,
    ) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let (mut voters, mut learners) = (present.incoming.clone(), present.learners.clone());
        for (id, seat) in &self.seats {
            let listens = present.learners.contains(id);
            let stays = !self.is_taken_over(*id, present);
            match seat.wanted {
                Wanted::Gone => {}
                Wanted::Voter if voters.contains(id) => {}
                Wanted::Voter if listens && ready(*id) => {
                    learners.remove(id);
                    voters.insert(*id);
                    let before = self.predecessors(*id);
                    voters.retain(|voter| !before.contains(voter));
                }
                Wanted::Voter | Wanted::Learner if stays && !voters.contains(id) => {
                    learners.insert(*id);
                }
                Wanted::Voter | Wanted::Learner => {}
            }
        }
        let leaves = |id: &NodeId| {
            let gone = |seat: &Seat| seat.wanted == Wanted::Gone;
            self.seats.get(id).is_none_or(gone) || self.is_taken_over(*id, present)
        };
        voters.retain(|id| !leaves(id));
        // A member with a store is still to come: until then the voters stay who they are.
        let witnesses = voters.iter().filter(|id| self.is_witness(**id)).count();
        if !has_store(voters.len(), witnesses) {
            voters.clone_from(&present.incoming);
            learners.extend(present.learners.iter().copied());
        }
        learners.retain(|id| !leaves(id) && !voters.contains(id));
        if self.is_empty() || voters.is_empty() {
            return (present.incoming.clone(), present.learners.clone());
        }
        (voters, learners)
    }

    /// A fingerprint of the table; 0 of an empty one.
    pub fn digest(&self) -> u64 {
        if self.is_empty() && self.removed.is_empty() {
            return 0;
        }
        crate::store::xxh64(&self.encoded(), 0)
    }
}

/// True if every quorum of so many voters has one that is no witness.
fn has_store(voters: usize, witnesses: usize) -> bool {
    witnesses <= voters / 2
}

/// Only who does not vote can be promoted; one that shall vote anyway may be.
///
/// Errors: why not.
pub(crate) fn check_promotion(
    id: NodeId,
    seat: &Seat,
    present: &Configuration,
) -> Result<(), MembersError> {
    match seat.wanted {
        Wanted::Gone => Err(MembersError::NotFound),
        Wanted::Voter if present.incoming.contains(&id) => Err(MembersError::NotALearner),
        Wanted::Voter | Wanted::Learner => Ok(()),
    }
}

#[cfg(test)]
mod tests;
