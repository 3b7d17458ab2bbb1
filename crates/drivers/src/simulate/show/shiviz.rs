//! A trace as a log for ShiViz, with a vector clock at each event.
//!
//! ShiViz draws a log of any format that a regular expression parses, and knows messages only by
//! their effect on vector clocks. Its files hold the expression in the first line, the delimiter of
//! executions in the second (none here), then the log:
//!
//! ```text
//! n1 {"n1":4} 9 1.500 send to n2: RequestVote term 2
//! n2 {"n1":4,"n2":2} 12 2.250 receive from n1: RequestVote term 2
//! ```
//!
//! The clocks are computed from the trace; nodes know nothing of them. *Guarantee:* for events `e`
//! and `f` of the log, `clock(e) < clock(f)` if and only if `e` happened before `f`, which is the
//! smallest transitive relation with
//!
//! * the order of events at one host,
//! * a send before each of its receipts, and before its loss,
//! * an invocation before the next turn of its node, unless the node is down or crashes first: a
//!   client stands beside its node, and what it asks is there at once,
//! * the last event of a node before the return of an operation that names the node; the return of
//!   an operation that was given up names none,
//! * everything before an event of the *observer*, where the violation happens, and each fault and
//!   note that names no node. The observer sees all and tells nobody, so it adds no order between
//!   others. Of a loss, which happens there too, it sees the message alone.
//!
//! Sources: C. Fidge, "Timestamps in Message-Passing Systems That Preserve the Partial Ordering"
//! (1988); F. Mattern, "Virtual Time and Global States of Distributed Systems" (1989); I.
//! Beschastnikh et al., "Visualizing Distributed System Executions" (ACM TOSEM 2020). What the
//! parser of ShiViz asks for: the first event of a host has its own entry 1, each further one adds
//! one, and a host that has no event is in no clock.

use super::{Millis, Readable};
use crate::simulate::trace::{Kind, Step, Trace};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

/// Parses a line of the log.
const PARSER: &str = r"(?<host>\S+) (?<clock>\{[^{}]*\}) (?<step>\d+) (?<ms>\d+\.\d+) (?<event>.*)";

/// Writes a file that ShiViz opens.
///
/// Errors: those of `out`. Panics if a step names a node or a client that the head does not, which
/// [`Trace::read`] lets no file do.
pub fn shiviz(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{PARSER}\n")?;
    let hosts = hosts(trace);
    let mut clocks = Clocks::new(trace);
    for step in &trace.steps {
        let host = clocks.host_of(step);
        let clock = clocks.step(step);
        let known = hosts.iter().zip(clock).filter(|(_, events)| **events > 0);
        let clock: Vec<String> =
            known.map(|(name, events)| format!("\"{name}\":{events}")).collect();
        let (number, at) = (step.step, Millis(step.at));
        let event = event(&hosts, step);
        writeln!(out, "{} {{{}}} {number} {at} {event}", hosts[host], clock.join(","))?;
    }
    Ok(())
}

/// Names of nodes, clients and the observer, each in letters that the parser takes, and once.
fn hosts(trace: &Trace) -> Vec<String> {
    let head = &trace.head;
    let mut taken = BTreeSet::new();
    let names = head.nodes.iter().chain(&head.clients).map(String::as_str).chain(["observer"]);
    let mut hosts = Vec::new();
    for name in names {
        let is_plain = |letter: char| letter.is_alphanumeric() || "._:-".contains(letter);
        let plain = |letter| if is_plain(letter) { letter } else { '_' };
        let mut name: String = name.chars().map(plain).collect();
        while name.is_empty() || !taken.insert(name.clone()) {
            name.push('_');
        }
        hosts.push(name);
    }
    hosts
}

/// What happened, in one line.
fn event(hosts: &[String], step: &Step) -> String {
    let host = |place: Option<usize>| place.and_then(|at| hosts.get(at)).map_or("?", |name| name);
    let (node, peer) = (host(step.node), host(step.peer));
    let text = Readable(&step.text);
    match step.kind {
        Kind::Send => format!("send to {peer}: {text}"),
        Kind::Receive => format!("receive from {peer}: {text}"),
        Kind::Lose => format!("lost from {peer} to {node}: {text}"),
        Kind::Invoke => format!("invoke at {node}: {text}"),
        Kind::Return => format!("return: {text}"),
        Kind::Boot => format!("boot: {text}"),
        Kind::Crash => format!("crash: {text}"),
        Kind::Pause => format!("pause: {text}"),
        Kind::Resume => format!("resume: {text}"),
        Kind::Timer => format!("timer: {text}"),
        Kind::Synced => format!("synced: {text}"),
        Kind::Tell => format!("tell: {text}"),
        Kind::Fault => format!("fault: {text}"),
        Kind::Heal => format!("heal: {text}"),
        Kind::Violation => format!("VIOLATION: {text}"),
        Kind::Note => format!("note: {text}"),
    }
}

/// How many events of each host are known, by the place of the host.
type Vector = Vec<u64>;

/// The clocks of all hosts: nodes first, then clients, then the observer.
struct Clocks {
    nodes: usize,
    now: Vec<Vector>,
    /// By message, when it was sent. Kept to the end, because any message may arrive again.
    sent: BTreeMap<u64, Vector>,
    /// By node: what clients asked since its last turn.
    asked: Vec<Vector>,
    is_down: Vec<bool>,
}

impl Clocks {
    fn new(trace: &Trace) -> Clocks {
        let nodes = trace.head.nodes.len();
        let hosts = nodes + trace.head.clients.len() + 1;
        Clocks {
            nodes,
            now: vec![vec![0; hosts]; hosts],
            sent: BTreeMap::new(),
            asked: vec![vec![0; hosts]; nodes],
            is_down: vec![false; nodes],
        }
    }

    fn observer(&self) -> usize {
        self.now.len() - 1
    }

    /// Where a step happened.
    fn host_of(&self, step: &Step) -> usize {
        let at = match step.kind {
            Kind::Lose | Kind::Violation => None,
            Kind::Invoke | Kind::Return => step.client.map(|client| self.nodes + client),
            _ => step.node,
        };
        at.unwrap_or(self.observer())
    }

    /// Takes one step, and returns the clock of its event.
    fn step(&mut self, step: &Step) -> &Vector {
        let host = self.host_of(step);
        for known in self.learns(step, host) {
            merge(&mut self.now[host], &known);
        }
        self.now[host][host] += 1;
        self.tell(step, host);
        &self.now[host]
    }

    /// What a host knows at this event that it did not know before.
    fn learns(&mut self, step: &Step, host: usize) -> Vec<Vector> {
        let sent = || step.message.and_then(|message| self.sent.get(&message)).cloned();
        let mut known = Vec::new();
        match (step.kind, step.node) {
            (Kind::Receive | Kind::Lose, _) => known.extend(sent()),
            (Kind::Return, Some(node)) => known.push(self.now[node].clone()),
            _ if host == self.observer() => known.extend_from_slice(&self.now),
            _ => {}
        }
        if host < self.nodes && is_turn(step.kind) {
            let hosts = self.now.len();
            known.push(std::mem::replace(&mut self.asked[host], vec![0; hosts]));
        }
        known
    }

    /// What others will know by this event.
    fn tell(&mut self, step: &Step, host: usize) {
        match (step.kind, step.message, step.node) {
            (Kind::Send, Some(message), _) => {
                self.sent.insert(message, self.now[host].clone());
            }
            (Kind::Invoke, _, Some(node)) if !self.is_down[node] => {
                merge(&mut self.asked[node], &self.now[host]);
            }
            (Kind::Crash, _, Some(node)) => {
                self.is_down[node] = true;
                self.asked[node].fill(0);
            }
            (Kind::Boot, _, Some(node)) => self.is_down[node] = false,
            _ => {}
        }
    }
}

/// True if the node itself does something; what is done to it tells it nothing.
fn is_turn(kind: Kind) -> bool {
    matches!(kind, Kind::Send | Kind::Receive | Kind::Timer | Kind::Synced | Kind::Tell)
}

fn merge(clock: &mut Vector, other: &Vector) {
    for (mine, theirs) in clock.iter_mut().zip(other) {
        *mine = (*mine).max(*theirs);
    }
}
