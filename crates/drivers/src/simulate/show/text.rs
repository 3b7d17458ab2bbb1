//! A trace as text, one line per step.
//!
//! ```text
//!  step      ms  node  what
//!     8  50.000  n1    timer       election
//!     9  50.000  n1    n1 -> n2    RequestVote term 1  [role=candidate term=1]
//!    12  51.100  n2    n2 <- n1    RequestVote term 1
//!    14  51.250  -     n1 -x n3    RequestVote term 1
//! !  20  60.000  n2    CRASHES     its power is cut
//! !! 41  93.000  -     VIOLATION   an acknowledged write is gone
//! ```
//!
//! Every step has its line and no line is folded: what looks dull is where a run differs from the
//! next one, and two texts can be compared by `diff`. A fault has a `!` in the margin, the
//! violation two, so that `grep '^!'` tells what was done to the cluster.

use super::{Millis, Readable, name};
use crate::simulate::trace::{Kind, Step, Trace};
use std::collections::BTreeSet;
use std::io::{self, Write};

/// What a step does is padded to the longest that there is, and to no more columns than these.
const DEED_COLUMNS_MAX: usize = 24;

/// Whether lines are coloured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Colour {
    /// No escape sequence at all.
    Plain,
    /// ANSI escape sequences, for a terminal. What is coloured stands out without colour as well.
    Ansi,
}

/// Writes the head of a trace, and a line for each of its steps.
///
/// Errors: those of `out`.
pub fn text(trace: &Trace, colour: Colour, out: &mut impl Write) -> io::Result<()> {
    write_head(trace, colour, out)?;
    let columns = Columns::of(trace);
    let Columns { step, time, node, .. } = columns;
    writeln!(out, "   {:>step$}  {:>time$}  {:<node$}  what", "step", "ms", "node")?;
    let mut received = BTreeSet::new();
    for at in &trace.steps {
        let is_again =
            at.kind == Kind::Receive && at.message.is_some_and(|message| !received.insert(message));
        let line = columns.line(trace, at, if is_again { "  (again)" } else { "" });
        write_line(&line, at.kind, colour, out)?;
    }
    Ok(())
}

fn write_head(trace: &Trace, colour: Colour, out: &mut impl Write) -> io::Result<()> {
    let head = &trace.head;
    let mut fact = |what: &str, value: &str| writeln!(out, "{what:<9} {}", Readable(value));
    fact("protocol", &head.protocol)?;
    fact("model", &head.model)?;
    fact("buggify", &head.buggify.to_string())?;
    fact("seed", &head.seed)?;
    if let Some(mutant) = &head.mutant {
        fact("mutant", mutant)?;
    }
    fact("version", &head.version)?;
    fact("digest", &head.digest)?;
    fact("replay", &head.replay)?;
    match &head.property {
        None => fact("verdict", "no property broke")?,
        Some(property) => {
            let verdict = format!("verdict   violated: {}", Readable(property));
            write_line(&verdict, Kind::Violation, colour, out)?;
        }
    }
    if let Some(why) = &head.why {
        writeln!(out, "because   {}", Readable(why))?;
    }
    for awaited in &head.awaited {
        writeln!(out, "awaited   {}", Readable(awaited))?;
    }
    writeln!(out)
}

/// How wide each column is. Unit: characters.
struct Columns {
    step: usize,
    time: usize,
    node: usize,
    deed: usize,
}

impl Columns {
    fn of(trace: &Trace) -> Columns {
        let steps = trace.steps.iter();
        let step = steps.clone().map(|step| step.step.to_string().len()).max();
        let time = steps.clone().map(|step| Millis(step.at).to_string().len()).max();
        let node = steps.clone().map(|step| where_at(trace, step).chars().count()).max();
        let deed = steps.map(|step| deed(trace, step).chars().count()).max();
        Columns {
            step: step.unwrap_or(0).max("step".len()),
            time: time.unwrap_or(0).max("ms".len()),
            node: node.unwrap_or(0).max("node".len()),
            deed: deed.unwrap_or(0).min(DEED_COLUMNS_MAX),
        }
    }

    fn line(&self, trace: &Trace, step: &Step, remark: &str) -> String {
        let margin = match step.kind {
            Kind::Violation => "!!",
            Kind::Fault | Kind::Heal | Kind::Crash | Kind::Pause => "! ",
            _ => "  ",
        };
        let number = format!("{:>1$}", step.step, self.step);
        let time = format!("{:>1$}", Millis(step.at), self.time);
        let node = format!("{:<1$}", where_at(trace, step), self.node);
        let deed = format!("{:<1$}", deed(trace, step), self.deed);
        let (words, state) = (Readable(&step.text), state(step));
        let concerned = concerned(trace, step);
        let line =
            format!("{margin} {number}  {time}  {node}  {deed}  {words}{concerned}{remark}{state}");
        line.trim_end().to_owned()
    }
}

/// The node that a step happened at; a loss happens on the way.
fn where_at(trace: &Trace, step: &Step) -> String {
    match step.node {
        Some(node) if step.kind != Kind::Lose => name(&trace.head.nodes, node),
        _ => "-".to_owned(),
    }
}

/// Who does what, to whom.
fn deed(trace: &Trace, step: &Step) -> String {
    let node =
        |place: Option<usize>| place.map_or("?".to_owned(), |at| name(&trace.head.nodes, at));
    let client = || step.client.map_or("?".to_owned(), |at| name(&trace.head.clients, at));
    match step.kind {
        Kind::Send => format!("{} -> {}", node(step.node), node(step.peer)),
        Kind::Receive => format!("{} <- {}", node(step.node), node(step.peer)),
        Kind::Lose => format!("{} -x {}", node(step.peer), node(step.node)),
        Kind::Invoke => format!("{} invokes", client()),
        Kind::Return => format!("{} returns", client()),
        Kind::Boot => "boots".to_owned(),
        Kind::Crash => "CRASHES".to_owned(),
        Kind::Pause => "PAUSES".to_owned(),
        Kind::Resume => "resumes".to_owned(),
        Kind::Timer => "timer".to_owned(),
        Kind::Synced => "synced".to_owned(),
        Kind::Tell => "tells".to_owned(),
        Kind::Fault => "FAULT".to_owned(),
        Kind::Heal => "HEALED".to_owned(),
        Kind::Violation => "VIOLATION".to_owned(),
        Kind::Note => "note".to_owned(),
    }
}

/// The nodes that a fault concerns, if its text does not name them all.
fn concerned(trace: &Trace, step: &Step) -> String {
    let names: Vec<String> = step.nodes.iter().map(|at| name(&trace.head.nodes, *at)).collect();
    let words: BTreeSet<&str> = step.text.split(|l: char| !l.is_alphanumeric()).collect();
    match names.iter().all(|name| words.contains(name.as_str())) {
        true => String::new(),
        false => format!("  ({})", names.join(" ")),
    }
}

/// What has changed, in brackets.
fn state(step: &Step) -> String {
    let pairs = step.state.iter();
    let pairs: Vec<String> =
        pairs.map(|(key, value)| format!("{}={}", Readable(key), Readable(value))).collect();
    match pairs.is_empty() {
        true => String::new(),
        false => format!("  [{}]", pairs.join(" ")),
    }
}

fn write_line(line: &str, kind: Kind, colour: Colour, out: &mut impl Write) -> io::Result<()> {
    let code = match kind {
        _ if colour == Colour::Plain => "",
        Kind::Violation => "1;31",
        Kind::Fault | Kind::Crash | Kind::Pause | Kind::Lose => "33",
        Kind::Heal | Kind::Resume | Kind::Boot => "32",
        Kind::Invoke | Kind::Return => "36",
        Kind::Timer | Kind::Synced | Kind::Note => "2",
        Kind::Send | Kind::Receive | Kind::Tell => "",
    };
    match code {
        "" => writeln!(out, "{line}"),
        code => writeln!(out, "\u{1b}[{code}m{line}\u{1b}[0m"),
    }
}
