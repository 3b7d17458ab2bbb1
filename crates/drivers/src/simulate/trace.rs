//! What happened in one run, step by step, as data: the one source of the text, of the page, of the
//! trace file and of the ShiViz export.
//!
//! A trace file is ndjson: the [`Head`] in the first line, a [`Step`] in each further line. Numbers
//! are plain, times are nanoseconds of true time since the run began; only the simulator knows true
//! time, nodes see their own clocks.
//!
//! ```text
//! {"quorate_trace":1,"protocol":"service","model":"network=...","seed":"7","nodes":["n1"],...}
//! {"step":0,"at":0,"kind":"boot","node":0,"text":"starts with 0 records"}
//! {"step":9,"at":1500000,"kind":"send","node":0,"peer":1,"message":4,"text":"RequestVote term 2"}
//! ```

use super::run::Switch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

/// The version of trace files that this build writes, and the only one that it reads.
pub const TRACE_VERSION: u32 = 1;

/// The first line of a trace file.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Head {
    /// [`TRACE_VERSION`].
    pub quorate_trace: u32,
    /// The build that wrote it.
    pub version: String,
    /// What was simulated.
    pub protocol: String,
    /// The system model, in its text form.
    pub model: String,
    /// The seed of the run: decimal digits, because it does not fit a JSON number everywhere.
    pub seed: String,
    /// Names of the nodes; steps name them by their place here.
    pub nodes: Vec<String>,
    /// Names of the clients, if there are any.
    pub clients: Vec<String>,
    /// The bug that was planted.
    pub mutant: Option<String>,
    /// Whether the code under test might take its rare paths on purpose.
    #[serde(default = "on")]
    pub buggify: Switch,
    /// The property that broke, if one did.
    pub property: Option<String>,
    /// Why it broke.
    pub why: Option<String>,
    /// If it is `liveness`: what the system still owed in the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<String>,
    /// The digest of all events, in hexadecimal.
    pub digest: String,
    /// The command that replays the run.
    pub replay: String,
}

/// What files say that were written before there was a switch.
pub(super) fn on() -> Switch {
    Switch::On
}

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A node begins a life: for the first time, or after a crash.
    Boot,
    /// A node loses its power; what was not synced may be gone.
    Crash,
    /// A node stands still.
    Pause,
    /// It goes on.
    Resume,
    /// `node` hands `message` for `peer` to the network.
    Send,
    /// `message` from `peer` reaches `node`.
    Receive,
    /// `message` from `peer` to `node` is lost.
    Lose,
    /// A timer of `node` fires.
    Timer,
    /// What `node` wrote is durable.
    Synced,
    /// `node` tells the layer above something.
    Tell,
    /// Client `client` begins operation `operation` at `node`.
    Invoke,
    /// Operation `operation` of client `client` ends.
    Return,
    /// A fault begins. `fault` pairs it with its end; `nodes` are those concerned.
    Fault,
    /// A fault ends.
    Heal,
    /// A property is broken; the last step of a run that broke one.
    Violation,
    /// A remark of the simulator: the end of a phase, for example.
    Note,
}

/// One thing that happened.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Step {
    /// Its number, counted from 0 without gaps.
    pub step: u64,
    /// True time. Unit: nanoseconds since the run began.
    pub at: u64,
    /// What happened.
    pub kind: Kind,
    /// The node that it happened at: a place in [`Head::nodes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<usize>,
    /// The other end of a message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<usize>,
    /// Pairs a send with its receipts (more than one if it was doubled) or its loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<u64>,
    /// The client: a place in [`Head::clients`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<usize>,
    /// Pairs an invocation with its return.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<u64>,
    /// Pairs the begin of a fault with its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<u64>,
    /// The nodes that a fault concerns; for a partition, the groups are told in `text`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<usize>,
    /// In the field's words.
    pub text: String,
    /// What has changed in the state of `node` since its last step that told of it: role, term,
    /// commit index, clock error, and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub state: BTreeMap<String, String>,
}

impl Step {
    /// A step of which only the kind and the words are known.
    pub fn new(kind: Kind, text: impl Into<String>) -> Step {
        Step {
            step: 0,
            at: 0,
            kind,
            node: None,
            peer: None,
            message: None,
            client: None,
            operation: None,
            fault: None,
            nodes: Vec::new(),
            text: text.into(),
            state: BTreeMap::new(),
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What was run.
    pub head: Head,
    /// What happened, in order.
    pub steps: Vec<Step>,
}

/// Why a file is no trace.
#[derive(Debug)]
pub enum TraceError {
    /// It could not be read.
    Io(io::Error),
    /// It was written by another version.
    Version {
        /// The version that it names.
        found: u32,
    },
    /// A line is none that a trace may have there.
    Line {
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
        /// What is wrong.
        why: String,
    },
}

impl std::fmt::Display for TraceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TraceError::Io(error) => write!(f, "cannot read the trace: {error}"),
            TraceError::Version { found } => write!(
                f,
                "this is a trace of version {found}, and this build reads version {TRACE_VERSION}; \
                 run the seed again with this build, or read the trace with the build that wrote it"
            ),
            TraceError::Line { line, column, why } => {
                write!(f, "line {line}, column {column}: {why}")
            }
        }
    }
}

impl std::error::Error for TraceError {}

impl Trace {
    /// Writes it as ndjson.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &self.head)?;
        out.write_all(b"\n")?;
        for step in &self.steps {
            serde_json::to_writer(&mut *out, step)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    }

    /// Reads what [`Trace::write`] wrote.
    ///
    /// Errors: names the line and the column of what is wrong, or the version.
    pub fn read(input: &mut impl BufRead) -> Result<Trace, TraceError> {
        let mut lines = input.lines().enumerate();
        let Some((_, first)) = lines.next() else {
            let why = "an empty file; a trace begins with its head".to_owned();
            return Err(TraceError::Line { line: 1, column: 1, why });
        };
        let first = first.map_err(TraceError::Io)?;
        let head = read_head(&first)?;
        let mut steps = Vec::new();
        for (number, line) in lines {
            let line = line.map_err(TraceError::Io)?;
            let step: Step = serde_json::from_str(&line).map_err(|bad| of_line(number, &bad))?;
            check_step(&step, &head, steps.len()).map_err(|why| TraceError::Line {
                line: number + 1,
                column: 1,
                why,
            })?;
            steps.push(step);
        }
        Ok(Trace { head, steps })
    }
}

fn of_line(number: usize, bad: &serde_json::Error) -> TraceError {
    TraceError::Line { line: number + 1, column: bad.column(), why: bad.to_string() }
}

/// The version is looked at first: a head of another version may have other fields.
fn read_head(line: &str) -> Result<Head, TraceError> {
    #[derive(Deserialize)]
    struct Version {
        quorate_trace: u32,
    }
    let version: Version = serde_json::from_str(line).map_err(|bad| of_line(0, &bad))?;
    if version.quorate_trace != TRACE_VERSION {
        return Err(TraceError::Version { found: version.quorate_trace });
    }
    serde_json::from_str(line).map_err(|bad| of_line(0, &bad))
}

fn check_step(step: &Step, head: &Head, number: usize) -> Result<(), String> {
    if step.step != number as u64 {
        return Err(format!("step {} where step {number} should be", step.step));
    }
    let named = step.node.iter().chain(&step.peer).chain(&step.nodes).max();
    if let Some(node) = named.filter(|node| **node >= head.nodes.len()) {
        return Err(format!("node {node} of {}", head.nodes.len()));
    }
    match step.client.filter(|client| *client >= head.clients.len()) {
        Some(client) => Err(format!("client {client} of {}", head.clients.len())),
        None => Ok(()),
    }
}
