//! Quorum ping: am I on the smaller side of a split?
//!
//! **Problem.** A partition leaves two groups that both run. At most one may go on writing.
//!
//! **Idea.** Each node, once in a period: ping all `N` nodes, count the answers `R`, oneself
//! included. If `R <= floor(N/2)`, this may be the smaller side: the node halts, or serves reads
//! only and says since when.
//!
//! ```text
//!      {n1 n2 n3 | n4 n5}     N = 5:  R = 3 writes      R = 2 reads only
//!      {n1 n2 | n3 n4}        N = 4:  R = 2 on both sides: nobody writes
//! ```
//!
//! **Guarantees.** If the nodes are split into groups that hear nothing of each other, then at most
//! one group writes, from the end of the first round that began after the split; in an even split
//! none does. After the split is mended a node writes again at the end of the first round that
//! began after that.
//!
//! **Two traps**, shown in `scenarios/quorum_ping`:
//! 1. *Chained partitions.* If only the link between n1 and n3 is cut, both still hear n2, both
//!    count two of three, and both write: two nodes that do not hear each other.
//! 2. *A count is as old as its round.* When a split comes, or moves, a node goes on writing until
//!    its round ends, while the other side may write already: for up to two periods both do.
//!
//! Neither can be mended here, because a count of who answers is no promise by who answers. The
//! detector may *withdraw* a promise; whoever must not write twice needs votes that are remembered,
//! as in [`crate::consensus::raft`]. Whoever leaves itself out of the count halts while a majority
//! lives.
//!
//! **Bounds.** One set of answers. Answers to earlier rounds do not count.
//!
//! Source: the usual quorum rule of cluster managers (Gifford, "Weighted Voting for Replicated
//! Data", 1979); compare Raft's check-quorum (Ongaro 2014, section 6.2).

use super::{Mutant, Planted};
use quorate_core::{Context, NodeId, Protocol, SystemModel, Time};
use std::collections::BTreeSet;
use std::time::Duration;

/// What a node on the smaller side does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    /// It stops for good: it pings and answers no more until it is started again.
    Halt,
    /// It serves reads, and writes again when it counts a majority.
    ReadOnly,
}

/// What a node knows before it begins.
#[derive(Clone, Debug)]
pub struct Config {
    /// All nodes, with this one.
    pub nodes: BTreeSet<NodeId>,
    /// The period of rounds. Range: longer than a round trip, else nobody ever counts anybody.
    pub every: Duration,
    /// What the smaller side does.
    pub action: Action,
}

/// What the node may do.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Mode {
    /// The last count was a majority.
    Writes,
    /// It was not, or there was none yet.
    ReadsOnly {
        /// Since when, on this node's clock: how stale its reads may be.
        since: Time,
    },
    /// It was not, and the node has stopped.
    Halted,
}

/// What nodes say to each other.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Message {
    /// Are you there?
    Ping {
        /// The round of who asks.
        round: u64,
    },
    /// Yes.
    Pong {
        /// The round of the ping.
        round: u64,
    },
}

/// The alarm of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// Count.
    Round,
}

/// What the layer above is told when the mode changes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Counted {
    /// What the node may do from now on.
    pub mode: Mode,
    /// Answers of the round, with its own.
    pub answers: usize,
}

/// A node that counts who answers.
#[derive(Clone, Debug)]
pub struct QuorumPing {
    config: Config,
    id: NodeId,
    /// Rounds begin above those of any earlier life, whose answers may still be under way.
    round: u64,
    rounds_counted: u64,
    answers: BTreeSet<NodeId>,
    mode: Mode,
    planted: Planted,
}

impl QuorumPing {
    /// What the node may do.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Rounds that this life has counted.
    pub fn rounds_counted(&self) -> u64 {
        self.rounds_counted
    }

    /// Puts a known mistake in this node. To be called between restore and start.
    pub fn plant(&mut self, mutant: Mutant) {
        self.planted = Planted::with(mutant);
    }

    fn begin_round(&mut self, cx: &mut Context<'_, Self>) {
        self.round += 1;
        self.answers.clear();
        if !self.planted.is(Mutant::QuorumSelfUncounted) {
            self.answers.insert(cx.id);
        }
        let me = cx.id;
        for node in self.config.nodes.iter().filter(|node| **node != me) {
            cx.send(*node, Message::Ping { round: self.round });
        }
        cx.set_timer(Timer::Round, self.config.every..self.config.every);
    }

    fn count(&mut self, cx: &mut Context<'_, Self>) {
        self.rounds_counted += 1;
        let (answers, nodes) = (self.answers.len(), self.config.nodes.len());
        let is_majority = match self.planted.is(Mutant::QuorumHalfSuffices) {
            true => answers >= nodes / 2,
            false => answers > nodes / 2,
        };
        let mode = match (is_majority, self.config.action, self.mode) {
            (true, ..) => Mode::Writes,
            (false, Action::Halt, _) => Mode::Halted,
            (false, Action::ReadOnly, Mode::ReadsOnly { since }) => Mode::ReadsOnly { since },
            (false, Action::ReadOnly, _) => Mode::ReadsOnly { since: cx.now },
        };
        if mode != self.mode {
            self.mode = mode;
            cx.indicate(Counted { mode, answers });
        }
    }
}

impl Protocol for QuorumPing {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = ();
    /// Nothing is asked of a detector.
    type Request = ();
    type Indication = Counted;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Config, _records: &mut dyn Iterator<Item = ()>) -> QuorumPing {
        assert!(config.every > Duration::ZERO, "a period of nothing");
        QuorumPing {
            config: config.clone(),
            id: NodeId(0),
            round: 0,
            rounds_counted: 0,
            answers: BTreeSet::new(),
            mode: Mode::ReadsOnly { since: Time::default() },
            planted: Planted::default(),
        }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        assert!(self.config.nodes.contains(&cx.id), "{} is none of the nodes", cx.id);
        self.id = cx.id;
        self.round = cx.now.as_nanos();
        self.mode = Mode::ReadsOnly { since: cx.now };
        self.begin_round(cx);
    }

    fn on_request(&mut self, (): (), _cx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        if self.mode == Mode::Halted || !self.config.nodes.contains(&from) {
            return;
        }
        match message {
            Message::Ping { round } => cx.send(from, Message::Pong { round }),
            Message::Pong { round } => {
                let counts_all = self.planted.is(Mutant::QuorumOldAnswerCounted);
                if round == self.round || counts_all {
                    self.answers.insert(from);
                }
            }
        }
    }

    fn on_timer(&mut self, Timer::Round: Timer, cx: &mut Context<'_, Self>) {
        self.count(cx);
        if self.mode != Mode::Halted {
            self.begin_round(cx);
        }
    }

    fn invariants(&self) {
        assert!(self.answers.len() <= self.config.nodes.len(), "more answers than nodes");
        assert!(self.id == NodeId(0) || self.config.nodes.contains(&self.id));
    }
}

/// Panics if two of the nodes write though neither group hears the other: what the detector
/// promises of a split into `groups`, each node having counted a round that began after it.
pub fn safety_of_split(groups: &[Vec<&QuorumPing>]) {
    let writes = |group: &&Vec<&QuorumPing>| group.iter().any(|it| it.mode == Mode::Writes);
    let writing = groups.iter().filter(writes).count();
    assert!(writing <= 1, "{writing} sides of a split write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::Effect;

    /// One round of `node` in which exactly `heard` answer.
    fn round(node: &mut QuorumPing, heard: &[u64]) {
        let run =
            |node: &mut QuorumPing,
             event: &mut dyn FnMut(&mut QuorumPing, &mut Context<'_, QuorumPing>)| {
                let mut effects: Vec<Effect<QuorumPing>> = Vec::new();
                let mut choose = |_: usize| 0;
                let id = node.id;
                event(node, &mut Context::new(id, Time::from_nanos(1), &mut choose, &mut effects));
            };
        let round = node.round;
        for from in heard {
            run(node, &mut |node, cx| {
                node.on_message(NodeId(*from), Message::Pong { round }, cx);
            });
        }
        run(node, &mut |node, cx| node.on_timer(Timer::Round, cx));
    }

    fn node(id: u64, nodes: u64, action: Action) -> QuorumPing {
        let config = Config {
            nodes: (1..=nodes).map(NodeId).collect(),
            every: Duration::from_millis(100),
            action,
        };
        let mut node = QuorumPing::restore(&config, &mut std::iter::empty());
        let mut effects = Vec::new();
        let mut choose = |_: usize| 0;
        node.on_start(&mut Context::new(NodeId(id), Time::default(), &mut choose, &mut effects));
        node
    }

    /// All two-way splits of one to nine nodes.
    #[test]
    fn of_every_split_at_most_one_side_writes_and_of_an_even_one_none() {
        for nodes in 1..=9_u64 {
            for side in 0..1_u64 << nodes {
                let on_side = |id: u64| side >> (id - 1) & 1 == 1;
                let mut groups: [Vec<QuorumPing>; 2] = [Vec::new(), Vec::new()];
                for id in 1..=nodes {
                    let mut node = node(id, nodes, Action::ReadOnly);
                    let peers = (1..=nodes).filter(|peer| *peer != id);
                    let heard: Vec<u64> =
                        peers.filter(|peer| on_side(*peer) == on_side(id)).collect();
                    round(&mut node, &heard);
                    groups[usize::from(on_side(id))].push(node);
                }
                let writes =
                    |group: &&Vec<QuorumPing>| group.iter().any(|node| node.mode() == Mode::Writes);
                let writing = groups.iter().filter(writes).count();
                let is_even = u64::from(side.count_ones()) * 2 == nodes;
                assert_eq!(writing, usize::from(!is_even), "{nodes} nodes, split {side:b}");
                safety_of_split(&groups.iter().map(|it| it.iter().collect()).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn who_halts_answers_no_more_and_who_only_reads_comes_back() {
        let mut halts = node(1, 3, Action::Halt);
        round(&mut halts, &[]);
        assert_eq!(halts.mode(), Mode::Halted);
        round(&mut halts, &[2, 3]);
        assert_eq!(halts.mode(), Mode::Halted, "for good");
        let mut reads = node(1, 3, Action::ReadOnly);
        round(&mut reads, &[]);
        assert!(matches!(reads.mode(), Mode::ReadsOnly { .. }));
        round(&mut reads, &[2]);
        assert_eq!(reads.mode(), Mode::Writes);
    }
}
