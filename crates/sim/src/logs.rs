//! What must hold of the logs of a Raft cluster over a whole run, whatever lies above it.
//!
//! | name | meaning | source |
//! |---|---|---|
//! | `election-safety` | at most one leader in a term, ever | paper 5.2 |
//! | `leader-append-only` | a leader never takes back an entry | paper 5.3 |
//! | `log-matching` | a position names one entry, and one that it follows | paper 5.3 |
//! | `leader-completeness` | a leader holds what was committed in earlier terms | paper 5.4 |
//! | `state-machine-safety` | nobody holds another state than the committed entries give | paper 5.4.3 |
//!
//! [`quorate_protocols::consensus::raft::safety`] compares the members as they are at one moment,
//! for tests that have nothing else. Here every turn of a member is judged by itself and by what is
//! remembered of earlier ones: it costs what the turn changed, and what members held that are down
//! or have forgotten it by now counts as well. Two leaders of a term need not lead at the same
//! moment.
//!
//! *Bounds.* Each entry of the run is kept, with what it follows: its bytes are shared.
//!
//! Source: Ongaro and Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014).

use quorate_core::{Index, NodeId, Position, Term};
use quorate_drivers::simulate::Broken;
use quorate_protocols::consensus::raft::{Payload, Raft, RoleName};
use std::collections::BTreeMap;

/// What is remembered of one member, in this life.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// The log was checked up to here.
    checked: Position,
    /// The term in which it led at the end of its last turn, and the end of its log then.
    led: Option<(Term, Position)>,
}

/// The logs of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    members: Vec<Seen>,
    leaders: BTreeMap<Term, NodeId>,
    /// What each position names, and what it follows.
    entries: BTreeMap<Position, (Payload, Position)>,
    /// What is committed for ever, from index 1.
    chosen: Vec<Position>,
    /// How many of the first of them the members agree to be committed in each term or before.
    chosen_by: BTreeMap<Term, Index>,
}

impl Logs {
    /// A cluster of so many members, which have yet to boot.
    pub(crate) fn begin(&mut self, nodes: usize) {
        self.members = vec![Seen::default(); nodes];
    }

    /// A member begins a life.
    pub(crate) fn boot(&mut self, at: usize) {
        self.members[at] = Seen::default();
    }

    /// The last index that anybody was told to be committed.
    pub(crate) fn last(&self) -> Index {
        Index(self.chosen.len() as u64)
    }

    /// The entry at the next index is committed: a member of `term` says so.
    pub(crate) fn choose(&mut self, term: Term, position: Position) {
        assert_eq!(position.index, self.last().next(), "entries are chosen in order");
        self.chosen.push(position);
        self.chosen_by.insert(term, position.index);
    }

    /// What is committed at an index; the begin of the log for 0.
    pub(crate) fn chosen(&self, index: Index) -> Option<Position> {
        match index.0.checked_sub(1) {
            None => Some(Position::ZERO),
            Some(place) => self.chosen.get(place as usize).copied(),
        }
    }

    /// The entries after the last that is chosen, up to this one, in order; a member has applied
    /// it, and its log was judged before it did.
    ///
    /// Errors: they do not follow what is chosen.
    pub(crate) fn up_to(&self, position: Position) -> Result<Vec<(Position, Payload)>, Broken> {
        let mut found = Vec::new();
        let mut at = position;
        while at.index > self.last() {
            let Some((payload, previous)) = self.entries.get(&at) else {
                let why = format!("{position} is applied, and nobody ever had {at} in its log");
                return Err(Broken::new("state-machine-safety", why));
            };
            found.push((at, payload.clone()));
            at = *previous;
        }
        if self.chosen(at.index) != Some(at) {
            let why = format!("{position} is applied after {at}, which is not what is committed");
            return Err(Broken::new("state-machine-safety", why));
        }
        found.reverse();
        Ok(found)
    }

    /// A turn is over: all that one member can break.
    pub(crate) fn turn(&mut self, at: usize, raft: &Raft) -> Result<(), Broken> {
        if raft.role() == RoleName::Leader || raft.leader() == Some(raft.id()) {
            self.election_safety(raft)?;
            self.leader_append_only(at, raft)?;
            self.leader_completeness(raft)?;
        } else {
            self.members[at].led = None;
        }
        self.log_matching(at, raft)
    }

    fn election_safety(&mut self, raft: &Raft) -> Result<(), Broken> {
        let leader = *self.leaders.entry(raft.term()).or_insert(raft.id());
        if leader == raft.id() {
            return Ok(());
        }
        let why = format!("{leader} and {} both led in term {}", raft.id(), raft.term());
        Err(Broken::new("election-safety", why))
    }

    fn leader_append_only(&mut self, at: usize, raft: &Raft) -> Result<(), Broken> {
        let member = &mut self.members[at];
        let now = (raft.term(), raft.last());
        if let Some((term, last)) = member.led.replace(now)
            && term == raft.term()
            && raft.base().index < last.index
            && raft.position_at(last.index) != Some(last)
        {
            let why = format!("{} leads in term {term} and took back {last}", raft.id());
            return Err(Broken::new("leader-append-only", why));
        }
        Ok(())
    }

    fn leader_completeness(&self, raft: &Raft) -> Result<(), Broken> {
        let earlier = self.chosen_by.range(..raft.term()).map(|(_, index)| *index).max();
        let Some(index) = earlier.filter(|index| *index > raft.base().index) else {
            return Ok(());
        };
        let committed = self.chosen[index.0 as usize - 1];
        if raft.position_at(index) == Some(committed) {
            return Ok(());
        }
        let (who, term) = (raft.id(), raft.term());
        let why = format!("{who} leads in term {term} without {committed}, committed before");
        Err(Broken::new("leader-completeness", why))
    }

    /// By induction: if each position names one entry and one predecessor, logs that share a
    /// position agree up to it.
    fn log_matching(&mut self, at: usize, raft: &Raft) -> Result<(), Broken> {
        let checked = self.members[at].checked;
        if raft.last() == checked {
            return Ok(());
        }
        let base = raft.base();
        let goes_on =
            checked.index >= base.index && raft.position_at(checked.index) == Some(checked);
        let mut before = if goes_on { checked } else { base };
        let skip = before.index.distance_from(base.index) as usize;
        for entry in raft.entries().skip(skip) {
            let known = self.entries.entry(entry.position);
            let (payload, previous) = known.or_insert_with(|| (entry.payload.clone(), before));
            if *payload != entry.payload || *previous != before {
                let (position, who) = (entry.position, raft.id());
                let why = format!("{position} names two entries, one of them at {who}");
                return Err(Broken::new("log-matching", why));
            }
            before = entry.position;
        }
        self.members[at].checked = before;
        Ok(())
    }

    /// A member holds the state as of `position`, in which its log may begin.
    pub(crate) fn state_is_agreed(&self, who: NodeId, position: Position) -> Result<(), Broken> {
        if self.chosen(position.index) == Some(position) {
            return Ok(());
        }
        let why = format!("{who} holds a state as of {position}, which is not committed");
        Err(Broken::new("state-machine-safety", why))
    }
}
