//! Members that come, go and change places while clients write: an operator of the simulated
//! service, and what it was promised.
//!
//! A cluster of some of the nodes begins. The others run with an empty log, as members do that
//! were started before anybody added them. The operator adds, promotes, replaces, removes; each
//! node is a member once at most, since an id that was removed never returns. It asks anybody, also
//! those who are cut off, and does not wait for one change to end before it asks for the next.
//!
//! What must hold is `membership`:
//!
//! * voters change by a joint configuration, which is left for the new voters alone;
//! * whoever gets a vote holds nearly all of the log by then;
//! * an entry is committed only if a majority of the voters in force has it, of both sets in a
//!   joint configuration;
//! * who was removed is in no later configuration, and a removal that was answered has taken
//!   effect;
//! * nobody votes beside the one that takes its place, but in the joint step;
//! * nothing changes that nobody asked for, or that was refused;
//! * after the faults, every change that was begun comes to its end.
//!
//! Sources: Ongaro and Ousterhout (2014), section 6; Ongaro (2014), sections 4.2.1 and 4.3.

use super::{Errand, Service};
use quorate_core::{Index, NodeId, Position};
use quorate_drivers::simulate::trace::Kind;
use quorate_drivers::simulate::{About, Broken, Hands, Nodes, Site, World as _};
use quorate_protocols::consensus::raft::{Configuration, Payload, Raft, RoleName};
use quorate_replica::members::{Members, MembersCommand, MembersError, Seat, Wanted};
use quorate_replica::{Life, MemberTerms, Refusal, Replica, Request, Ticket, open, seal};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Between two wishes of the operator, about.
const THINK: Duration = Duration::from_millis(700);
/// A learner that lacks more entries is not in sync; as the replica has it, and a few that a leader
/// may append in one turn.
const LAG_MAX: u64 = 1_000 + 64;

/// A question of the operator, by the name under which a member knows it.
type Name = (Life, Ticket);

/// What an operator does to the members, and what it was promised.
#[derive(Debug, Default)]
pub(super) struct Reshaping {
    on: bool,
    /// The disk of a node was damaged.
    lost: bool,
    founders: usize,
    terms: MemberTerms,
    /// The next node that was never a member.
    next: usize,
    asked: BTreeMap<Name, MembersCommand>,
    refused: BTreeSet<Name>,
    /// What is wanted and what is, as the log says.
    table: Members,
    present: Configuration,
    /// The end of each node's log after its last turn.
    ends: Vec<Index>,
    /// Of each node after its last turn: the configuration in force, and what it knew as committed.
    seen: Vec<(Configuration, Index)>,
}

impl Reshaping {
    /// An operator of these nodes, of whom some begin the cluster.
    pub(super) fn begin(&mut self, nodes: usize, auto_promote: bool) {
        self.on = true;
        self.founders = if nodes > 3 { 3 } else { 2.min(nodes) };
        self.next = self.founders;
        self.terms = MemberTerms { strict: false, learners_max: 2, auto_promote };
        self.ends = vec![Index(0); nodes];
        self.seen = vec![(Configuration::default(), Index(0)); nodes];
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// The disk of a node was damaged.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// True if a node may have lost what only it had.
    pub(super) fn has_lost(&self) -> bool {
        self.lost
    }

    /// True if the committed configuration counts on it.
    pub(super) fn votes(&self, id: NodeId) -> bool {
        !self.on || self.present.is_voter(id)
    }

    /// True if the committed configuration counts on it, and clients are served there.
    pub(super) fn serves(&self, id: NodeId) -> bool {
        self.votes(id) && !self.table.is_witness(id)
    }

    /// True if all that was begun has ended.
    pub(super) fn is_settled(&self) -> bool {
        let leaving = |seat: &Seat| seat.wanted == Wanted::Gone;
        !self.on || !self.present.is_joint() && !self.table.iter().any(|(_, seat)| leaving(seat))
    }

    /// The next entry of the log concerns the members.
    pub(super) fn happens(&mut self, position: Position, payload: &Payload) -> Result<(), Broken> {
        match payload {
            Payload::Membership(next) => self.reconfigured(position, next),
            Payload::Command(sealed) => match open(sealed.clone()) {
                Some((life, ticket, body)) if MembersCommand::is_one(&body) => {
                    let command = MembersCommand::decode(body);
                    let command = command.map_err(|bad| Broken::new("membership", bad.to_string()));
                    self.changed(position, (life, ticket), &command?)
                }
                _ => Ok(()),
            },
            Payload::Noop => Ok(()),
        }
    }

    fn changed(
        &mut self,
        position: Position,
        name: Name,
        command: &MembersCommand,
    ) -> Result<(), Broken> {
        let by_leader = name == (Life(0), Ticket(0))
            && self.terms.auto_promote
            && matches!(command, MembersCommand::Promote { .. });
        let as_asked = self.asked.get(&name) == Some(command) && !self.refused.contains(&name);
        if !by_leader && !as_asked {
            let why = format!("{command:?} at {position} was asked by nobody, or refused");
            return Err(Broken::new("membership", why));
        }
        // Refused by the table: then nothing changes, here as at every member.
        let _ = self.table.apply(command, &self.present, position.index);
        Ok(())
    }

    fn reconfigured(&mut self, position: Position, next: &Configuration) -> Result<(), Broken> {
        let present = &self.present;
        let follows = match present.is_joint() {
            true => next.outgoing.is_empty() && next.incoming == present.incoming,
            false if next.incoming == present.incoming => next.outgoing.is_empty(),
            false => next.outgoing == present.incoming,
        };
        if !follows {
            let why = format!("{next:?} at {position} cannot follow {present:?}");
            return Err(Broken::new("membership", why));
        }
        if let Some(back) = next.members().into_iter().find(|id| self.table.was_removed(*id)) {
            let why = format!("{back} was removed and is in {next:?} at {position}");
            return Err(Broken::new("membership", why));
        }
        self.nobody_votes_beside_its_heir(position, next)?;
        self.present = next.clone();
        self.table.settle(next, position.index);
        Ok(())
    }

    fn nobody_votes_beside_its_heir(
        &self,
        position: Position,
        next: &Configuration,
    ) -> Result<(), Broken> {
        for (heir, seat) in self.table.iter() {
            let Some(old) = seat.replaces else { continue };
            if !next.is_joint() && next.incoming.contains(&heir) && next.incoming.contains(&old) {
                let why = format!("{old} votes beside {heir}, its heir, in {next:?} at {position}");
                return Err(Broken::new("membership", why));
            }
        }
        Ok(())
    }

    /// A turn of a node is over.
    pub(super) fn turn(&mut self, node: usize, raft: &Raft) -> Result<(), Broken> {
        if !self.on {
            return Ok(());
        }
        self.ends[node] = raft.last().index;
        let now = (raft.configuration().clone(), raft.commit_index());
        let before = std::mem::replace(&mut self.seen[node], now.clone());
        if raft.role() != RoleName::Leader {
            return Ok(());
        }
        let own = raft.position_at(now.1).is_some_and(|at| at.term == raft.term());
        if now.1 > before.1 && own && before.0.size() > 0 {
            let held = |of: &Configuration| self.is_held(of, now.1);
            if !held(&before.0) && !held(&now.0) {
                let why =
                    format!("{} committed {} without a quorum of {:?}", raft.id(), now.1, now.0);
                return Err(Broken::new("membership", why));
            }
        }
        self.new_voters_are_in_sync(raft, &before.0)
    }

    fn is_held(&self, configuration: &Configuration, index: Index) -> bool {
        let holds = |id: &NodeId| self.ends.get(id.0 as usize - 1).is_some_and(|end| *end >= index);
        let majority = |voters: &BTreeSet<NodeId>| {
            voters.iter().filter(|id| holds(id)).count() * 2 > voters.len()
        };
        majority(&configuration.incoming)
            && (configuration.outgoing.is_empty() || majority(&configuration.outgoing))
    }

    fn new_voters_are_in_sync(&self, raft: &Raft, before: &Configuration) -> Result<(), Broken> {
        let present = raft.configuration();
        if !present.is_joint() || before.is_joint() || before.incoming != present.outgoing {
            return Ok(());
        }
        let last = raft.last().index.0;
        for (id, matched, _) in raft.progress() {
            let is_new = present.incoming.contains(&id) && !present.outgoing.contains(&id);
            let lacks = last.saturating_sub(matched.0);
            if is_new && (lacks > LAG_MAX || lacks > last / 10 + 64) {
                let why = format!("{id} is to vote and lacks {lacks} of {last} entries");
                return Err(Broken::new("membership", why));
            }
        }
        Ok(())
    }
}

impl Service {
    /// The members that the cluster begins with.
    pub(super) fn founders(&self) -> (usize, Members) {
        let shape = &self.reshaping;
        if !shape.on {
            return (self.nodes, Members::default());
        }
        let seat = |node| {
            let seat = Seat { started: true, ..Seat::of(vec![url(node)]) };
            (self.id(node), seat)
        };
        (shape.founders, Members::of((0..shape.founders).map(seat)))
    }

    pub(super) fn member_terms(&self) -> MemberTerms {
        self.reshaping.terms
    }

    /// The first wish of the operator, if there is one.
    pub(super) fn begin_reshaping(&mut self, hands: &mut Hands<'_, Self>) {
        if self.reshaping.on {
            let (founders, members) = self.founders();
            self.reshaping.present = Configuration::of((0..founders).map(|node| self.id(node)));
            self.reshaping.table = members;
            self.errand(2 * THINK, Errand::Reshape, hands);
        }
    }

    /// The operator wants something.
    pub(super) fn reshape(&mut self, nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        if self.calm {
            return;
        }
        let site = Site::new(About::Detail, 3_000);
        let jitter = Duration::from_millis(hands.draw(site, 1_000));
        self.errand(THINK + jitter, Errand::Reshape, hands);
        let at = hands.draw(site, self.nodes as u64) as usize;
        if !self.members[at].up || !nodes.is_correct(at) {
            return;
        }
        if let Some(command) = self.wished(hands) {
            self.change(at, command, hands);
        }
    }

    fn wished(&mut self, hands: &mut Hands<'_, Self>) -> Option<MembersCommand> {
        let site = Site::new(About::Detail, 3_001);
        let wish = hands.draw(site, 8);
        let seats: Vec<NodeId> = self.reshaping.table.iter().map(|(id, _)| id).collect();
        let some = seats[hands.draw(site, seats.len() as u64) as usize];
        if let 0..=3 = wish {
            let new = self.reshaping.next;
            if new == self.nodes {
                return None;
            }
            self.reshaping.next += 1;
            let (id, peer_urls) = (self.id(new), vec![url(new)]);
            return Some(match wish {
                0..=2 => {
                    let wanted = if wish == 2 { Wanted::Learner } else { Wanted::Voter };
                    let witness = wish == 1 && hands.draw(site, 2) == 0;
                    MembersCommand::Add { id, peer_urls, wanted, witness }
                }
                _ => MembersCommand::Replace { id, old: some, peer_urls },
            });
        }
        Some(match wish {
            4 | 5 => MembersCommand::Remove { id: some },
            6 => MembersCommand::Promote { id: some },
            _ => MembersCommand::Update { id: some, peer_urls: vec![format!("moved-{some}")] },
        })
    }

    fn change(&mut self, at: usize, command: MembersCommand, hands: &mut Hands<'_, Self>) {
        let name = self.name(at);
        let mut sealed = Vec::new();
        seal(name.0, name.1, &mut sealed);
        command.encode(&mut sealed);
        hands.tell(Kind::Note, |step| {
            (step.node, step.text) =
                (Some(at), format!("the operator asks n{}: {command:?}", at + 1));
        });
        self.reshaping.asked.insert(name, command);
        let request = Request::Change { ticket: name.1, envelope: sealed.into() };
        hands.request(at, Duration::ZERO, request);
    }

    /// A member that finds itself in the table tells its name.
    pub(super) fn publish(&mut self, node: usize, table: &Members, hands: &mut Hands<'_, Self>) {
        let id = self.id(node);
        if table.get(id).is_some_and(|seat| !seat.started) {
            let (name, client_urls) = (format!("n{}", node + 1), Vec::new());
            self.change(node, MembersCommand::Publish { id, name, client_urls }, hands);
        }
    }

    /// The operator is answered.
    pub(super) fn changed(
        &mut self,
        node: usize,
        ticket: Ticket,
        answer: Result<Result<Members, MembersError>, Refusal>,
        state: &Replica,
        hands: &mut Hands<'_, Self>,
    ) {
        let name = (self.members[node].life(self.id(node)), ticket);
        let command = self.reshaping.asked.get(&name).cloned();
        match (answer, command) {
            (Ok(Ok(_)), Some(MembersCommand::Remove { id })) => {
                let present = state.raft().configuration();
                if present.is_voter(id) {
                    let why = format!("{id} is said to be removed, and it votes in {present:?}");
                    return hands.broken(Broken::new("membership", why));
                }
                hands.mark("a member was removed");
            }
            (Ok(Ok(_)), Some(MembersCommand::Replace { .. })) => {
                hands.mark("a member is being replaced");
            }
            (Ok(Ok(_)), Some(MembersCommand::Promote { .. })) => {
                hands.mark("a learner was promoted");
            }
            (Ok(Ok(_)), _) => {}
            // By the leader, or by the table: then it may be in the log, and changes nothing.
            (Ok(Err(MembersError::LearnerNotReady | MembersError::TooManyLearners)), _) => {
                self.reshaping.refused.insert(name);
            }
            (Ok(Err(_)), _) => {}
            (Err(why), _) if why.is_definite() => {
                self.reshaping.refused.insert(name);
            }
            (Err(_), _) => {}
        }
    }
}

fn url(node: usize) -> String {
    format!("http://n{}:2380", node + 1)
}
