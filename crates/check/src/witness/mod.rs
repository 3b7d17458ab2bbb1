//! A store that numbers its writes has told us the order: what remains is to check the claim.
//!
//! *Problem.* The search of [`crate::linear`] is exponential at worst, and a run of a service has
//! millions of operations. *Idea.* Every answer carries a revision, and each write makes one of its
//! own, so the order is not searched but read off. It must keep three promises:
//!
//! 1. **Real time.** What began after an answer of revision `r` came, has a revision of at least
//!    `r`, and above it if it is a write.                                            (`order.rs`)
//! 2. **Content.** Applied one after another, the writes give each answer: what a read at revision
//!    `r` found is the state at `r`, a transaction compared rightly, a deletion counted rightly.
//! 3. **Fate.** Each revision was made by one operation that was acknowledged with it, by one of
//!    unknown outcome that was under way, or by the end of a lease. What failed is never seen.
//!    (`gaps.rs`)
//!
//! And, for clients that stay with one member, **sessions**: none is older than the one before.
//!
//! *Unknown outcomes.* A revision that nobody acknowledged is a *gap*. What fills it is known from
//! [`Seen`] (a watch, or the store's own log), or from reads which found a pair of that revision,
//! or not at all. Where more than one operation of unknown outcome would do, the earliest is taken;
//! if the rest then does not fit, the verdict is [`Verdict::Undecided`] and not a violation.
//!
//! *Guaranteed.* `Holds`: there is an order which explains all. `Violated`: the order that the
//! store claimed is wrong; it is the first breach in the order of revisions.
//!
//! *Bounds.* Time n log n; memory some 40 bytes an operation beside the history, and one state of
//! the store. At most [`GAPS_MAX`] gaps.
//!
//! Sources: Gibbons and Korach, "Testing Shared Memories", 1997 (a given write order makes it
//! easy); etcd's KV API guarantees; Terry et al., "Session Guarantees", 1994.

mod gaps;
mod order;

use crate::history::{History, OpId, Operation, Outcome};
use crate::models::map::{Blob, Pair, Request, Response, Store, is_read};
use gaps::Gaps;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// More revisions that nobody acknowledged are [`Verdict::Undecided`].
pub const GAPS_MAX: usize = 1 << 20;

/// The revision of an empty store: etcd's first.
pub const REVISION_EMPTY: u64 = 1;

/// A change of a key, as a watch tells it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was put.
    Put(Pair),
    /// It went.
    Delete(Blob),
}

impl Change {
    /// The key.
    pub fn key(&self) -> &Blob {
        match self {
            Change::Put(pair) => &pair.key,
            Change::Delete(key) => key,
        }
    }
}

/// What is known of revisions from elsewhere than answers. Each revision that is here is complete;
/// those of acknowledged writes may be here as well, and are compared.
pub type Seen = BTreeMap<u64, Vec<Change>>;

/// Whether a client's reads of old states go forwards.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sessions {
    /// They do: each client stays with one member.
    Monotone,
    /// They need not: serializable reads may go to any member.
    Free,
}

/// Which promise broke.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// An answer is older than one that came before its question was asked.
    RealTime,
    /// An answer is older than the one before, of the same client.
    Session,
    /// Two writes have one revision.
    RevisionShared,
    /// An answer is not what the state of its revision gives.
    Content,
    /// A revision that nobody could have made.
    Hole,
    /// A change that nobody could have made.
    Forged,
    /// A change by an operation that failed for certain.
    Undead,
}

/// A broken promise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Breach {
    /// Which.
    pub rule: Rule,
    /// The revision concerned.
    pub revision: u64,
    /// The operations concerned.
    pub operations: Vec<OpId>,
    /// What was expected, and what was found.
    pub story: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids: Vec<String> = self.operations.iter().map(OpId::to_string).collect();
        write!(
            f,
            "{:?} at revision {}: {} [{}]",
            self.rule,
            self.revision,
            self.story,
            ids.join(" ")
        )
    }
}

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// There is an order that explains everything.
    Holds,
    /// The claimed order is wrong.
    Violated(Breach),
    /// It can not be told; up to this revision all was well.
    Undecided {
        /// Revisions up to this one are explained.
        revision: u64,
        /// Why not further.
        why: String,
    },
}

/// A verdict, and what was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// The answer.
    pub verdict: Verdict,
    /// Acknowledged operations that made a revision.
    pub writes: usize,
    /// Acknowledged operations that did not.
    pub reads: usize,
    /// Revisions that nobody acknowledged.
    pub gaps: usize,
}

/// Where an acknowledged operation stands: its revision, and whether it made it.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Placed {
    revision: u64,
    id: u32,
}

/// Checks a history of an empty store.
pub fn check(history: &History<Request, Response>, seen: &Seen, sessions: Sessions) -> Report {
    let mut writes = Vec::new();
    let mut reads = Vec::new();
    let mut report = Report { verdict: Verdict::Holds, writes: 0, reads: 0, gaps: 0 };
    for (at, operation) in history.operations().iter().enumerate() {
        let Outcome::Ok(response) = &operation.outcome else { continue };
        let id = at as u32;
        let Some(revision) = operation.revision else {
            let why = format!("{} was answered without a revision", OpId(at));
            report.verdict = Verdict::Undecided { revision: 0, why };
            return report;
        };
        if has_written(&operation.input, response) {
            writes.push(Placed { revision, id });
        } else {
            reads.push(Placed { revision: asked_at(&operation.input).unwrap_or(revision), id });
        }
    }
    writes.sort_unstable();
    reads.sort_unstable();
    (report.writes, report.reads) = (writes.len(), reads.len());
    report.verdict = match order::check(history, sessions) {
        Err(breach) => Verdict::Violated(breach),
        Ok(floors) => match Gaps::find(history, &writes, &reads, seen, floors) {
            Err(verdict) => verdict,
            Ok(gaps) => {
                report.gaps = gaps.len();
                replay(history, &writes, &reads, seen, gaps)
            }
        },
    };
    report
}

/// True if the answer says that something was written. The end of a lease does not say.
fn has_written(request: &Request, response: &Response) -> bool {
    match response {
        Response::Put => true,
        Response::Delete { deleted } => *deleted > 0,
        Response::Range { .. } => false,
        Response::Revoke => true,
        Response::Txn { succeeded, responses } => {
            let Request::Txn { success, failure, .. } = request else { return false };
            let branch = if *succeeded { success } else { failure };
            branch.iter().zip(responses).any(|(request, response)| has_written(request, response))
        }
    }
}

/// The old revision that a range asks for.
fn asked_at(request: &Request) -> Option<u64> {
    match request {
        Request::Range { revision, .. } if *revision > 0 => Some(*revision),
        _ => None,
    }
}

/// Applies the writes one after another, and asks each read of the state of its revision.
fn replay<'a>(
    history: &'a History<Request, Response>,
    writes: &[Placed],
    reads: &[Placed],
    seen: &Seen,
    mut gaps: Gaps<'a>,
) -> Verdict {
    let mut store = Store::default();
    let (mut writes, mut reads) = (writes.iter().peekable(), reads.iter().peekable());
    let mut revision = REVISION_EMPTY;
    loop {
        let result = if revision == REVISION_EMPTY {
            Ok(())
        } else {
            match writes.next_if(|write| write.revision <= revision) {
                Some(write) => {
                    let next = writes.peek().filter(|next| next.revision == revision);
                    write_at(history, &mut store, *write, next.copied(), seen)
                }
                None => gaps.fill(history, &mut store, revision, seen),
            }
        };
        let result = result.and_then(|()| {
            while let Some(read) = reads.next_if(|read| read.revision <= revision) {
                read_at(history, &mut store, *read)?;
            }
            Ok(())
        });
        if let Err(breach) = result {
            return gaps.judge(breach);
        }
        if writes.peek().is_none() && reads.peek().is_none() && revision >= gaps.last() {
            return Verdict::Holds;
        }
        revision += 1;
    }
}

fn write_at(
    history: &History<Request, Response>,
    store: &mut Store,
    write: Placed,
    other: Option<&Placed>,
    seen: &Seen,
) -> Result<(), Breach> {
    let breach =
        |rule, operations, story| Err(Breach { rule, revision: write.revision, operations, story });
    let id = OpId(write.id as usize);
    if let Some(other) = other {
        let operations = vec![id, OpId(other.id as usize)];
        let story = "two writes were acknowledged with this revision".to_owned();
        return breach(Rule::RevisionShared, operations, story);
    }
    let operation = history.operation(id);
    let (given, effect) = store.apply(&operation.input, write.revision);
    if operation.outcome.output() != Some(&given) {
        return breach(Rule::Content, vec![id], differs(operation, &given));
    }
    if !effect.is_write() {
        let story = format!("{} changes nothing here, yet has a revision", operation.input);
        return breach(Rule::Content, vec![id], story);
    }
    match seen.get(&write.revision) {
        Some(changes) if !gaps::is_made_of(store, &effect, changes) => {
            let story = format!("{} is not what a watcher was told", operation.input);
            breach(Rule::Content, vec![id], story)
        }
        _ => Ok(()),
    }
}

fn read_at(
    history: &History<Request, Response>,
    store: &mut Store,
    read: Placed,
) -> Result<(), Breach> {
    let id = OpId(read.id as usize);
    let operation = history.operation(id);
    let (given, effect) = store.apply(&operation.input, read.revision);
    if operation.outcome.output() == Some(&given) && !effect.is_write() {
        return Ok(());
    }
    let story = differs(operation, &given);
    Err(Breach { rule: Rule::Content, revision: read.revision, operations: vec![id], story })
}

fn differs(operation: &Operation<Request, Response>, given: &Response) -> String {
    let told = operation.outcome.output().map(Response::to_string).unwrap_or_default();
    format!(
        "'{}{told}' was answered, but the state gives '{}{given}'",
        operation.input, operation.input
    )
}

/// Operations that may have made a revision though nobody acknowledged it.
fn may_have_written(operation: &Operation<Request, Response>) -> bool {
    operation.outcome == Outcome::Unknown && !is_read(&operation.input)
}
