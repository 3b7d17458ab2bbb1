//! Does the order of revisions agree with real time, and with each client's own?
//!
//! One pass over all moments, earliest first, with the highest revision that anybody has been
//! answered with so far: the *floor*. Whatever begins now must not be below it.

use super::{Breach, Rule, Sessions, may_have_written};
use crate::history::{ClientId, History, OpId, Outcome};
use crate::models::map::{Request, Response};
use std::collections::BTreeMap;

/// For each operation of unknown outcome that may have written: the floor when it began.
pub(super) type Floors = BTreeMap<OpId, u64>;

/// A revision, and who was answered with it.
type Answer = Option<(u64, OpId)>;

pub(super) fn check(
    history: &History<Request, Response>,
    sessions: Sessions,
) -> Result<Floors, Breach> {
    let operations = history.operations();
    let mut ends: Vec<u32> = (0..operations.len() as u32)
        .filter(|at| operations[*at as usize].deadline().is_some())
        .collect();
    ends.sort_unstable_by_key(|at| operations[*at as usize].deadline());
    let mut ends = ends.into_iter().peekable();
    let mut floor: Answer = None;
    let mut clients: BTreeMap<ClientId, Answer> = BTreeMap::new();
    let mut floors = Floors::new();
    for (at, operation) in operations.iter().enumerate() {
        let is_over = |end: &u32| operations[*end as usize].deadline() < Some(operation.invoked);
        while let Some(end) = ends.next_if(is_over) {
            let ended = &operations[end as usize];
            let answer = ended.revision.map(|revision| (revision, OpId(end as usize)));
            floor = floor.max(answer);
            let own = clients.entry(ended.client).or_default();
            *own = (*own).max(answer);
        }
        if may_have_written(operation) {
            floors.insert(OpId(at), floor.map_or(0, |(revision, _)| revision));
        }
        let Outcome::Ok(response) = &operation.outcome else { continue };
        let Some(revision) = operation.revision else { continue };
        let below = |answer: Answer| {
            let is_write = match response {
                Response::Revoke => false, // it may have found nothing
                _ => super::has_written(&operation.input, response),
            };
            answer.filter(|(other, _)| revision < *other || (is_write && revision == *other))
        };
        let is_stale = matches!(operation.input, Request::Range { serializable: true, .. });
        let (rule, before) = match sessions {
            _ if !is_stale => (Rule::RealTime, below(floor)),
            Sessions::Free => continue,
            Sessions::Monotone => {
                (Rule::Session, below(clients.get(&operation.client).copied().flatten()))
            }
        };
        if let Some((other, before)) = before {
            let story = format!(
                "'{}' was answered with revision {revision}, after revision {other} had been seen",
                operation.input
            );
            return Err(Breach { rule, revision, operations: vec![before, OpId(at)], story });
        }
    }
    Ok(floors)
}
