//! Revisions that nobody acknowledged, and who may have made them.
//!
//! ```text
//! known from   candidates                                            none of them fits
//! Seen         operations of unknown outcome that touch its keys;    Forged
//!              the end of a lease, if only deletions
//! a read       the same; what was found must come out                Undead, Forged
//! nothing      all of unknown outcome; the end of a lease            Hole
//! ```
//!
//! A candidate was invoked before anybody saw the revision, and is tried on the state: applied,
//! compared, and undone if it does not fit.

use super::order::Floors;
use super::{Breach, Change, GAPS_MAX, Placed, REVISION_EMPTY, Rule, Seen, Verdict};
use crate::history::{History, OpId, Outcome};
use crate::models::map::{Blob, Effect, Pair, Request, Response, Store};
use std::collections::{BTreeMap, BTreeSet};

/// So many candidates are tried for a revision of which nothing is known.
const BLIND_TRIALS_MAX: usize = 4096;

/// The gaps.
pub(super) struct Gaps<'a> {
    revisions: BTreeSet<u64>,
    last: u64,
    /// Pairs of a gap that reads have found.
    found: BTreeMap<u64, Vec<(&'a Pair, OpId)>>,
    /// Candidates by a key that they name, in order of invocation.
    by_key: BTreeMap<&'a Blob, Vec<OpId>>,
    /// Those whose keys are not all named, and all, in order of invocation.
    wide: Vec<OpId>,
    all: BTreeSet<OpId>,
    floors: Floors,
    /// Keys and values that are found somewhere: who put them is not needed elsewhere.
    claimed: BTreeSet<(&'a Blob, &'a Blob)>,
    /// The first revision for which more than one would have done.
    doubtful: Option<u64>,
}

impl<'a> Gaps<'a> {
    /// Finds them. An error is a verdict at once.
    pub(super) fn find(
        history: &'a History<Request, Response>,
        writes: &[Placed],
        reads: &[Placed],
        seen: &'a Seen,
        floors: Floors,
    ) -> Result<Self, Verdict> {
        let told = |placed: &[Placed]| placed.last().map_or(REVISION_EMPTY, |last| last.revision);
        let seen_last = seen.keys().next_back().copied().unwrap_or(REVISION_EMPTY);
        let last = told(writes).max(told(reads)).max(seen_last);
        let mut revisions = BTreeSet::new();
        let mut next = REVISION_EMPTY + 1;
        for until in writes.iter().map(|write| write.revision).chain([last + 1]) {
            if until.saturating_sub(next) > (GAPS_MAX - revisions.len()) as u64 {
                let why = format!("more than {GAPS_MAX} revisions were acknowledged by nobody");
                return Err(Verdict::Undecided { revision: next, why });
            }
            revisions.extend(next..until);
            next = next.max(until + 1);
        }
        let mut gaps = Gaps {
            revisions,
            last,
            found: BTreeMap::new(),
            by_key: BTreeMap::new(),
            wide: Vec::new(),
            all: floors.keys().copied().collect(),
            floors,
            claimed: BTreeSet::new(),
            doubtful: None,
        };
        if !gaps.revisions.is_empty() {
            gaps.look_around(history);
            gaps.index(history);
        }
        Ok(gaps)
    }

    pub(super) fn len(&self) -> usize {
        self.revisions.len()
    }

    /// The last revision that anybody has heard of.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Pairs in answers that nobody acknowledged to have written.
    fn look_around(&mut self, history: &'a History<Request, Response>) {
        for (at, operation) in history.operations().iter().enumerate() {
            let Some(response) = operation.outcome.output() else { continue };
            let mut pairs = Vec::new();
            pairs_of(response, &mut pairs);
            for pair in pairs {
                if self.revisions.contains(&pair.modified) {
                    self.claimed.insert((&pair.key, &pair.value));
                    self.found.entry(pair.modified).or_default().push((pair, OpId(at)));
                }
            }
        }
    }

    fn index(&mut self, history: &'a History<Request, Response>) {
        for id in self.all.iter().copied() {
            let mut keys = BTreeSet::new();
            if names_all(&history.operation(id).input, &mut keys) {
                for key in keys {
                    self.by_key.entry(key).or_default().push(id);
                }
            } else {
                self.wide.push(id);
            }
        }
    }

    /// Finds out who made a revision, and applies it.
    pub(super) fn fill(
        &mut self,
        history: &'a History<Request, Response>,
        store: &mut Store,
        revision: u64,
        seen: &Seen,
    ) -> Result<(), Breach> {
        let found = self.found.remove(&revision).unwrap_or_default();
        let key = match seen.get(&revision) {
            Some(changes) => changes.first().map(Change::key),
            None => found.first().map(|(pair, _)| &pair.key),
        };
        let candidates = self.candidates(key);
        let fits = |store: &Store, effect: &Effect| {
            let is_seen = seen.get(&revision).is_none_or(|all| is_made_of(store, effect, all));
            let is_found =
                found.iter().all(|(pair, _)| store.pair(&pair.key).as_ref() == Some(*pair));
            effect.is_write() && is_seen && is_found
        };
        let mut chosen: Option<OpId> = None;
        for id in candidates {
            if self.floors.get(&id).is_none_or(|floor| *floor >= revision) {
                continue;
            }
            let input = &history.operation(id).input;
            if chosen.is_some_and(|chosen| history.operation(chosen).input == *input)
                || (key.is_none() && self.is_claimed(input))
            {
                continue;
            }
            let (_, effect) = store.apply(input, revision);
            let does = fits(store, &effect);
            store.undo(effect);
            if does && chosen.is_some() {
                self.doubtful.get_or_insert(revision);
                break;
            }
            if does {
                chosen = Some(id);
            }
        }
        if let Some(id) = chosen {
            store.apply(&history.operation(id).input, revision);
            self.all.remove(&id);
            return Ok(());
        }
        if self.ends_lease(store, revision, key, fits) {
            return Ok(());
        }
        Err(accuse(history, revision, key, &found))
    }

    /// Who is tried, in which order.
    fn candidates(&self, key: Option<&Blob>) -> Vec<OpId> {
        let free = |id: &&OpId| self.all.contains(id);
        match key {
            Some(key) => {
                let named = self.by_key.get(key).into_iter().flatten();
                named.chain(&self.wide).filter(free).copied().collect()
            }
            None => self.all.iter().take(BLIND_TRIALS_MAX).copied().collect(),
        }
    }

    fn is_claimed(&self, request: &Request) -> bool {
        match request {
            Request::Put { key, value, .. } => self.claimed.contains(&(key, value)),
            _ => false,
        }
    }

    /// Tries the end of the lease of `key`, or of each.
    fn ends_lease(
        &mut self,
        store: &mut Store,
        revision: u64,
        key: Option<&Blob>,
        fits: impl Fn(&Store, &Effect) -> bool,
    ) -> bool {
        let mut chosen = None;
        let leases: Vec<i64> = match key {
            Some(key) => store.pair(key).map(|pair| pair.lease).into_iter().collect(),
            None => store.leases().take(BLIND_TRIALS_MAX).collect(),
        };
        for lease in leases {
            let (_, effect) = store.apply(&Request::Revoke { lease }, revision);
            let does = fits(store, &effect);
            store.undo(effect);
            if does && chosen.replace(lease).is_some() {
                self.doubtful.get_or_insert(revision);
                break;
            }
        }
        chosen.map(|lease| store.apply(&Request::Revoke { lease }, revision)).is_some()
    }

    /// A breach after a doubtful choice is no proof.
    pub(super) fn judge(&self, breach: Breach) -> Verdict {
        match self.doubtful {
            Some(doubtful) if doubtful <= breach.revision => {
                let why = format!(
                    "more than one operation of unknown outcome may have made revision \
                     {doubtful}; after the first of them: {breach}"
                );
                Verdict::Undecided { revision: doubtful - 1, why }
            }
            _ => Verdict::Violated(breach),
        }
    }
}

/// Names who could be meant.
fn accuse(
    history: &History<Request, Response>,
    revision: u64,
    key: Option<&Blob>,
    found: &[(&Pair, OpId)],
) -> Breach {
    let mut operations: Vec<OpId> = found.iter().map(|(_, id)| *id).collect();
    operations.dedup();
    operations.truncate(8);
    let Some(key) = key else {
        let story = "no operation was under way that could have made it".to_owned();
        return Breach { rule: Rule::Hole, revision, operations, story };
    };
    let value = found.first().map(|(pair, _)| &pair.value);
    let puts = |request: &Request| match request {
        Request::Put { key: other, value: put, .. } => other == key && Some(put) == value,
        _ => false,
    };
    let mut failed = history.operations().iter().enumerate();
    let failed = failed.find(|(_, op)| op.outcome == Outcome::Failed && puts(&op.input));
    if let Some((at, _)) = failed {
        operations.insert(0, OpId(at));
        let story = format!("the put of {key} failed for certain, but is there");
        return Breach { rule: Rule::Undead, revision, operations, story };
    }
    let story = format!("no operation was under way that could have changed {key} so");
    Breach { rule: Rule::Forged, revision, operations, story }
}

/// True if what was done to the store is exactly these changes.
pub(super) fn is_made_of(store: &Store, effect: &Effect, changes: &[Change]) -> bool {
    let touched: BTreeSet<&Blob> = effect.keys().collect();
    let told: BTreeSet<&Blob> = changes.iter().map(Change::key).collect();
    let fits = |change: &Change| match change {
        Change::Put(pair) => store.pair(&pair.key).as_ref() == Some(pair),
        Change::Delete(key) => store.pair(key).is_none(),
    };
    touched == told && changes.iter().all(fits)
}

fn pairs_of<'a>(response: &'a Response, pairs: &mut Vec<&'a Pair>) {
    match response {
        Response::Range { pairs: found, .. } => pairs.extend(found),
        Response::Txn { responses, .. } => {
            responses.iter().for_each(|response| pairs_of(response, pairs));
        }
        Response::Put | Response::Delete { .. } | Response::Revoke => {}
    }
}

/// Collects the keys that a request may write; false if it does not name them all.
fn names_all<'a>(request: &'a Request, keys: &mut BTreeSet<&'a Blob>) -> bool {
    match request {
        Request::Put { key, .. } => {
            keys.insert(key);
            true
        }
        Request::Delete { key, span } => {
            keys.insert(key);
            *span == crate::models::map::Span::One
        }
        Request::Range { .. } => true,
        Request::Revoke { .. } => false,
        Request::Txn { success, failure, .. } => {
            success.iter().chain(failure).all(|request| names_all(request, keys))
        }
    }
}
