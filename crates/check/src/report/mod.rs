//! From a history to what people read: a verdict, what contradicts what, and a picture.
//!
//! [`judge`] takes any recorded history through the right check: by revisions if it is a map's and
//! every answer has one, else by search. What it gives knows no model any more: texts, times as
//! stamps, roles; [`html`] draws it, and the command line prints it.
//!
//! Bounds: a [`Conflict`] shows at most [`BARS_MAX`] operations, those nearest to it.

pub mod html;

use crate::history::{History, OpId};
use crate::linear::{self, Budget, Explanation, HistoryOf, Model, Violation};
use crate::models::keyed::Keyed;
use crate::models::kv::Kv;
use crate::models::lock::Lock;
use crate::models::map::{Map, Request, Response};
use crate::models::queue::Queue;
use crate::models::register::Register;
use crate::models::set::Set;
use crate::parse::Recorded;
use crate::witness::{self, Seen, Sessions};

/// A conflict shows at most so many operations.
pub const BARS_MAX: usize = 400;

/// The verdict in a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// There is an order.
    Holds,
    /// There is none.
    Violated,
    /// It is not known.
    Undecided,
}

/// How it was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// [`crate::linear`].
    Search,
    /// [`crate::witness`].
    Revisions,
}

/// What an operation has to do with a violation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// It contradicts the others of the core.
    Core,
    /// The one of the core that nothing can precede.
    Stuck,
    /// It is needed to tell the story.
    Helper,
    /// It is merely there.
    Bystander,
}

impl Role {
    /// What a reader is told of it.
    pub fn meaning(self) -> &'static str {
        match self {
            Role::Stuck => "has no place in any order",
            Role::Core => "contradicts it",
            Role::Helper => "must have happened, or more would be unexplained",
            Role::Bystander => "has nothing to do with it",
        }
    }
}

/// One operation of a picture.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bar {
    /// Its place in the history.
    pub id: OpId,
    /// Whose it is.
    pub client: u64,
    /// In words.
    pub text: String,
    /// Stamp of its invocation.
    pub from: u64,
    /// Stamp by which it must have taken effect; `None` if the outcome is unknown.
    pub until: Option<u64>,
    /// What it has to do with it.
    pub role: Role,
    /// Its place in the longest order that was found, from 1.
    pub place: Option<usize>,
}

/// Why a history has no order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conflict {
    /// In a sentence.
    pub summary: String,
    /// The operations around it, in order of invocation; all of the core are among them.
    pub bars: Vec<Bar>,
    /// Operations that were left out.
    pub omitted: usize,
    /// True if no operation of the core can be left out, false if the budget ended before that was
    /// known; `None` where the revisions point at the operations.
    pub is_minimal: Option<bool>,
}

/// The result of a check.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judgement {
    /// The verdict.
    pub word: Word,
    /// How it was found.
    pub method: Method,
    /// Operations in the history.
    pub operations: usize,
    /// Independent parts.
    pub parts: usize,
    /// Steps of the search.
    pub steps: u64,
    /// What there is to say about a verdict that is not `Holds`.
    pub why: Option<String>,
    /// If violated.
    pub conflict: Option<Conflict>,
}

/// What a check may cost.
pub struct Limits<'a> {
    /// Steps of the search; as many again for the explanation.
    pub steps: u64,
    /// Memory of the search. Unit: bytes.
    pub bytes: u64,
    /// Asked now and then; true ends the check.
    pub cancel: &'a mut dyn FnMut() -> bool,
}

impl Limits<'_> {
    fn budget(&mut self) -> Budget<'_> {
        Budget { steps: self.steps, bytes: self.bytes, cancel: &mut *self.cancel }
    }
}

/// Checks a recorded history.
pub fn judge(recorded: &Recorded, limits: Limits<'_>) -> Judgement {
    match recorded {
        Recorded::Register(history) => search(&Keyed(Register::default()), history, limits),
        Recorded::Queue(history) => search(&Queue::default(), history, limits),
        Recorded::Set(history) => search(&Set::default(), history, limits),
        Recorded::Lock(history) => search(&Lock, history, limits),
        Recorded::Kv(history) => search(&Kv, history, limits),
        Recorded::Map(history, seen) => judge_map(history, seen, limits),
    }
}

fn judge_map(history: &History<Request, Response>, seen: &Seen, limits: Limits<'_>) -> Judgement {
    let answered = history.operations().iter().filter(|op| op.deadline().is_some());
    if answered.clone().count() > 0 && answered.clone().all(|op| op.revision.is_some()) {
        return by_revisions(history, seen);
    }
    let refusal = history.operations().iter().find_map(|op| Map::refuses(&op.input));
    match refusal {
        Some(why) => Judgement {
            word: Word::Undecided,
            method: Method::Search,
            operations: history.len(),
            parts: 0,
            steps: 0,
            why: Some(format!("{why}, and not every answer here has one")),
            conflict: None,
        },
        None => search(&Map, history, limits),
    }
}

fn by_revisions(history: &History<Request, Response>, seen: &Seen) -> Judgement {
    let report = witness::check(history, seen, Sessions::Free);
    let (word, why, conflict) = match report.verdict {
        witness::Verdict::Holds => (Word::Holds, None, None),
        witness::Verdict::Violated(breach) => {
            let stuck = breach.operations.last().copied();
            let role = |id: OpId| match id {
                id if Some(id) == stuck => Role::Stuck,
                id if breach.operations.contains(&id) => Role::Core,
                _ => Role::Bystander,
            };
            let all: Vec<OpId> = (0..history.len()).map(OpId).collect();
            let bars = bars(&Map, history, &all, &role, &[]);
            let omitted = history.len() - bars.len();
            let summary = breach.to_string();
            let conflict = Conflict { summary: summary.clone(), bars, omitted, is_minimal: None };
            (Word::Violated, Some(summary), Some(conflict))
        }
        witness::Verdict::Undecided { revision, why } => {
            (Word::Undecided, Some(format!("{why}; all is well up to {revision}")), None)
        }
    };
    let (operations, parts) = (history.len(), 1);
    Judgement { word, method: Method::Revisions, operations, parts, steps: 0, why, conflict }
}

fn search<M: Model>(model: &M, history: &HistoryOf<M>, mut limits: Limits<'_>) -> Judgement {
    let report = linear::check_within(model, history, limits.budget());
    let mut judgement = Judgement {
        word: Word::Holds,
        method: Method::Search,
        operations: history.len(),
        parts: report.parts,
        steps: report.steps,
        why: None,
        conflict: None,
    };
    match report.verdict {
        linear::Verdict::Holds => {}
        linear::Verdict::Undecided(undecided) => {
            judgement.word = Word::Undecided;
            let (covered, of) = (undecided.covered, undecided.of);
            let why = format!("{}; {covered} of {of} operations are explained", undecided.why);
            judgement.why = Some(why);
        }
        linear::Verdict::Violated(violation) => {
            let explanation = linear::explain(model, history, &violation, limits.budget());
            let conflict = conflict(model, history, &violation, &explanation);
            judgement.word = Word::Violated;
            judgement.why = Some(conflict.summary.clone());
            judgement.conflict = Some(conflict);
        }
    }
    judgement
}

fn conflict<M: Model>(
    model: &M,
    history: &HistoryOf<M>,
    violation: &Violation,
    explanation: &Explanation,
) -> Conflict {
    let role = |id: OpId| match id {
        id if id == violation.stuck => Role::Stuck,
        id if explanation.core.contains(&id) => Role::Core,
        id if explanation.helpers.contains(&id) => Role::Helper,
        _ => Role::Bystander,
    };
    let bars = bars(model, history, &violation.prefix, &role, &explanation.order);
    let stuck = history.operation(violation.stuck);
    let others = match explanation.core.len().saturating_sub(1) {
        0 => "alone it is impossible".to_owned(),
        1 => "it and 1 other contradict each other".to_owned(),
        many => format!("it and {many} others contradict each other"),
    };
    let summary = format!(
        "{} of {}, '{}', has no place in any order: {others}",
        violation.stuck,
        stuck.client,
        model.show(&stuck.input, &stuck.outcome),
    );
    let omitted = violation.prefix.len() - bars.len();
    Conflict { summary, bars, omitted, is_minimal: Some(explanation.is_minimal) }
}

/// The operations with a role, and then the latest, up to the bound.
fn bars<M: Model>(
    model: &M,
    history: &HistoryOf<M>,
    ids: &[OpId],
    role: &dyn Fn(OpId) -> Role,
    order: &[OpId],
) -> Vec<Bar> {
    let concerned = ids.iter().filter(|id| role(**id) != Role::Bystander).count();
    let mut room = BARS_MAX.saturating_sub(concerned);
    let last = ids.iter().rposition(|id| role(*id) != Role::Bystander).unwrap_or(ids.len());
    let mut shown = Vec::new();
    for (at, id) in ids.iter().enumerate().rev() {
        let is_bystander = role(*id) == Role::Bystander;
        if is_bystander && (room == 0 || at > last + BARS_MAX / 8) {
            continue;
        }
        room -= usize::from(is_bystander);
        let operation = history.operation(*id);
        shown.push(Bar {
            id: *id,
            client: operation.client.0,
            text: model.show(&operation.input, &operation.outcome),
            from: operation.invoked.0,
            until: operation.deadline().map(|end| end.0),
            role: role(*id),
            place: order.iter().position(|other| other == id).map(|place| place + 1),
        });
    }
    shown.reverse();
    shown.truncate(BARS_MAX.max(concerned));
    shown
}
