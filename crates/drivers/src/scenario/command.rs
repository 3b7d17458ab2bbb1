//! What a script can say.
//!
//! ```text
//! cluster nodes=3 key=value...     a new story: n1, n2, n3 begin; other keys are the protocol's
//! node n4 key=value...             one more begins
//! request n1 words...              the layer above n1 asks; the words are the protocol's own
//! deliver SELECTION                messages arrive (those under way now, in the order of sending)
//! drop SELECTION                   messages are lost
//! duplicate SELECTION              messages are doubled; the copies travel behind all others
//! partition n1 | n2 n3             only nodes on the same side reach each other
//! heal                             all reach each other again
//! fire n1 Election                 an armed alarm goes off; time moves on to where it may
//! advance 100ms                    time passes, alarms go off as they fall due
//! run 100ms                        the same, and all is delivered and synced after each alarm
//! sync [n1...] [upto=3]            records become durable, and what waited for them leaves
//! auto-sync on|off [n1...]         records are durable at once (at first: off)
//! damage n1 2                      the payload of durable record 2 of n1 can no longer be read
//! crash n1...                      volatile state and records that are not durable are gone
//! restart n1...                    a crashed node returns with its durable records
//! stabilize [n1...]                deliver among these nodes and sync them until all is quiet
//! choose 2 0 1                     answers to the next choices of nodes (else the first option)
//! state [n1...]                    prints nodes
//! inflight                         prints messages under way
//! timers on|off                    prints alarms as they are set and cancelled (at first: off)
//! log on|off                       prints effects (at first: on)
//!
//! SELECTION: [from=n1,n2] [to=n3] [kind=Append] [nth=2] [count=1]      all messages under way that
//!            fit; `nth` skips those before it, so that messages can overtake each other
//! ```

use super::network::Selection;
use super::words::{duration, node, nodes_of_list};
use super::{Misread, Options};
use quorate_core::{Lsn, NodeId};
use std::collections::BTreeSet;
use std::time::Duration;

/// Whether something is done from now on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Switch {
    On,
    Off,
}

/// One line of a script.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Command<'a> {
    Cluster(Options),
    Node(NodeId, Options),
    Request(NodeId, Vec<&'a str>),
    Deliver(Selection),
    Drop(Selection),
    Duplicate(Selection),
    Partition(Vec<BTreeSet<NodeId>>),
    Heal,
    Fire(NodeId, String),
    Advance(Duration),
    Run(Duration),
    Sync { nodes: Vec<NodeId>, upto: Option<Lsn> },
    AutoSync(Switch, Vec<NodeId>),
    Damage(NodeId, usize),
    Crash(Vec<NodeId>),
    Restart(Vec<NodeId>),
    Stabilize(Vec<NodeId>),
    Choose(Vec<usize>),
    State(Vec<NodeId>),
    InFlight,
    Timers(Switch),
    Log(Switch),
}

impl<'a> Command<'a> {
    /// Errors: the line is no command.
    pub(super) fn parse(line: &'a str) -> Result<Command<'a>, Misread> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (name, rest) = words.split_first().ok_or(Misread("an empty command".to_owned()))?;
        Ok(match *name {
            "cluster" => Command::Cluster(Options::parse(rest)?),
            "node" => {
                let (id, rest) = node_first(rest)?;
                Command::Node(id, Options::parse(rest)?)
            }
            "request" => {
                let (id, rest) = node_first(rest)?;
                Command::Request(id, rest.to_vec())
            }
            "deliver" => Command::Deliver(selection(rest)?),
            "drop" => Command::Drop(selection(rest)?),
            "duplicate" => Command::Duplicate(selection(rest)?),
            "partition" => Command::Partition(sides(rest)?),
            "heal" => Command::Heal,
            "fire" => {
                let (id, rest) = node_first(rest)?;
                Command::Fire(id, rest.concat())
            }
            "advance" => Command::Advance(duration(rest.first().copied().unwrap_or_default())?),
            "run" => Command::Run(duration(rest.first().copied().unwrap_or_default())?),
            "sync" => sync(rest)?,
            "auto-sync" => {
                let (on, rest) = switch_first(rest)?;
                Command::AutoSync(on, nodes(rest)?)
            }
            "damage" => {
                let (id, rest) = node_first(rest)?;
                Command::Damage(id, number(rest.first().copied().unwrap_or_default())?)
            }
            "crash" => Command::Crash(nodes(rest)?),
            "restart" => Command::Restart(nodes(rest)?),
            "stabilize" => Command::Stabilize(nodes(rest)?),
            "choose" => {
                Command::Choose(rest.iter().map(|word| number(word)).collect::<Result<_, _>>()?)
            }
            "state" => Command::State(nodes(rest)?),
            "inflight" => Command::InFlight,
            "timers" => Command::Timers(switch_first(rest)?.0),
            "log" => Command::Log(switch_first(rest)?.0),
            other => return Err(Misread::wanted("command", other)),
        })
    }
}

fn number(word: &str) -> Result<usize, Misread> {
    word.parse().map_err(|_| Misread::wanted("number", word))
}

fn nodes(words: &[&str]) -> Result<Vec<NodeId>, Misread> {
    words.iter().map(|word| node(word)).collect()
}

fn node_first<'w, 'a>(words: &'w [&'a str]) -> Result<(NodeId, &'w [&'a str]), Misread> {
    match words.split_first() {
        Some((first, rest)) => Ok((node(first)?, rest)),
        None => Err(Misread("a node such as n1 is missing".to_owned())),
    }
}

fn switch_first<'w, 'a>(words: &'w [&'a str]) -> Result<(Switch, &'w [&'a str]), Misread> {
    match words.split_first() {
        Some((&"on", rest)) => Ok((Switch::On, rest)),
        Some((&"off", rest)) => Ok((Switch::Off, rest)),
        _ => Err(Misread("say 'on' or 'off'".to_owned())),
    }
}

fn sides(words: &[&str]) -> Result<Vec<BTreeSet<NodeId>>, Misread> {
    words
        .split(|word| *word == "|")
        .map(|side| side.iter().map(|word| node(word)).collect())
        .collect()
}

fn sync<'a>(words: &[&str]) -> Result<Command<'a>, Misread> {
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.contains('='));
    let mut options = Options::parse(&options)?;
    let upto = options.value("upto").map(number).transpose()?;
    options.all_asked()?;
    Ok(Command::Sync { nodes: nodes(&names)?, upto: upto.map(|upto| upto as Lsn) })
}

fn selection(words: &[&str]) -> Result<Selection, Misread> {
    let mut options = Options::parse(words)?;
    let selection = Selection {
        from: options.value("from").map(nodes_of_list).transpose()?,
        to: options.value("to").map(nodes_of_list).transpose()?,
        kind: options.value("kind").map(str::to_owned),
        skip: options.parsed("nth", 1_usize)?.saturating_sub(1),
        count: options.parsed("count", usize::MAX)?,
    };
    options.all_asked()?;
    Ok(selection)
}
