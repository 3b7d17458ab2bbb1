//! The total order of writes, and whether everybody who watched was told it.
//!
//! Problem: a watcher promises a copy of the order of writes, through broken streams and changes of
//! leader. Idea: the surviving cluster replays its order after the storm; then each watcher's
//! account is walked along it once, with the revision that is due next. Where the history was
//! compacted the accounts of the watchers of everything are the order, and must agree.
//!
//! Guarantees that are checked, by the name of the rule that their breach breaks: the order has
//! every acknowledged write at its revision (`Missing`) and nothing else (`Forged`, `Undead`,
//! `Twofold`), without holes (`Hole`); a watcher is told all of it (`Gap`), once (`Repeat`), in its
//! order (`Disorder`), nothing besides (`Invented`), a revision as a whole (`Torn`), with the pair
//! that was replaced (`WrongPrev`); what tells it that nothing else happened is true (`Ahead`), and
//! only a compaction that somebody asked for may cost it anything (`Early`).
//!
//! Left out: fragments, which no watcher here asks for.

use crate::support::history::{Rule, Violation};
use std::collections::{BTreeMap, BTreeSet};

/// The revision of the first write of a store.
pub(crate) const FIRST: i64 = 2;

/// One change of one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Change {
    /// Revision that it happened in.
    pub(crate) revision: i64,
    /// Which key.
    pub(crate) key: String,
    /// The new value; none if the key was deleted.
    pub(crate) value: Option<String>,
    /// The lease that a written key hangs on; 0 for none.
    pub(crate) lease: i64,
    /// Revision of the pair that it replaced, where that was told.
    pub(crate) prev: Option<i64>,
}

/// Changes of every key by revision.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    changes: BTreeMap<i64, Vec<Change>>,
    /// For each key the revisions of its changes; true for a write, false for a deletion.
    of_key: BTreeMap<String, BTreeMap<i64, bool>>,
    /// The first revision of which a replay tells; what is known of earlier ones is from watchers.
    from: i64,
    last: i64,
    /// Revisions that were compacted before anybody was told of them.
    unknown: BTreeSet<i64>,
}

/// What a client knows of a write that it sent.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Which key.
    pub(crate) key: String,
    /// The value, unique among all claims of the key; none for a deletion.
    pub(crate) value: Option<String>,
    /// What came of it.
    pub(crate) fate: Fate,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// It was acknowledged with this revision.
    Acknowledged(i64),
    /// It was refused for certain.
    Refused,
    /// It may have happened.
    Unknown,
}

/// Which keys a watcher watches.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Scope {
    /// Every key there is.
    Everything,
    /// Keys that begin so.
    Prefix(String),
}

/// Whether a watcher asks for the pairs that were replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Previous {
    /// Yes.
    Wanted,
    /// No.
    Unwanted,
}

/// What a watcher was told in one message.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// Changes.
    Changes(Vec<Change>),
    /// That there are no changes up to this revision but those that it was told.
    Progress(i64),
    /// That what came before this revision is compacted; it goes on after the revision.
    Compacted(i64),
}

/// A watcher's account.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    /// Who.
    pub(crate) name: String,
    /// What it watched.
    pub(crate) scope: Scope,
    /// Whether it asked for the pairs that were replaced.
    pub(crate) previous: Previous,
    /// The first revision that it asked for.
    pub(crate) from: i64,
    /// What it was told, message by message, over all its streams.
    pub(crate) heard: Vec<Heard>,
}

impl Scope {
    /// True if a watcher of this is told of changes of `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        match self {
            Scope::Everything => true,
            Scope::Prefix(prefix) => key.starts_with(prefix.as_str()),
        }
    }
}

impl Order {
    /// The order of the revisions `from..=last`, as it was replayed.
    pub(crate) fn replayed(changes: Vec<Change>, from: i64, last: i64) -> Order {
        let unknown = (FIRST..from).collect();
        let mut order = Order { from, last, unknown, ..Order::default() };
        for change in changes {
            order.add(change);
        }
        order
    }

    /// Adds what is compacted, as watchers of everything were told.
    pub(crate) fn learn(&mut self, accounts: &[Account]) {
        for account in accounts.iter().filter(|account| account.scope == Scope::Everything) {
            let mut learned: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
            for change in account.changes().filter(|change| change.revision < self.from) {
                if !self.changes.contains_key(&change.revision) {
                    learned.entry(change.revision).or_default().push(change.clone());
                }
            }
            learned.into_values().flatten().for_each(|change| self.add(change));
        }
    }

    /// Every known change, in order.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.changes.values().flatten()
    }

    /// Changes by revision, in order.
    pub(crate) fn revisions(&self) -> impl Iterator<Item = (i64, &[Change])> {
        self.changes.iter().map(|(revision, changes)| (*revision, changes.as_slice()))
    }

    /// The last revision of the store.
    pub(crate) fn last(&self) -> i64 {
        self.last
    }

    /// The newest change of `key` below `revision`: when, and whether it was a write.
    pub(crate) fn before(&self, key: &str, revision: i64) -> Option<(i64, bool)> {
        let of_key = self.of_key.get(key)?;
        of_key.range(..revision).next_back().map(|(at, written)| (*at, *written))
    }

    /// True if all that happened in these revisions is known.
    pub(crate) fn knows(&self, revisions: std::ops::Range<i64>) -> bool {
        revisions.is_empty() || self.unknown.range(revisions).next().is_none()
    }

    fn add(&mut self, change: Change) {
        self.unknown.remove(&change.revision);
        let of_key = self.of_key.entry(change.key.clone()).or_default();
        of_key.insert(change.revision, change.value.is_some());
        self.changes.entry(change.revision).or_default().push(change);
    }

    /// The first revision of `revisions` with a change that this scope has.
    fn first_in(&self, scope: &Scope, revisions: std::ops::Range<i64>) -> Option<i64> {
        if revisions.is_empty() {
            return None;
        }
        let mut there = self.changes.range(revisions);
        there
            .find(|(_, changes)| changes.iter().any(|change| scope.has(&change.key)))
            .map(|(at, _)| *at)
    }
}

impl Account {
    fn changes(&self) -> impl Iterator<Item = &Change> {
        self.heard.iter().flat_map(|heard| match heard {
            Heard::Changes(changes) => changes.as_slice(),
            Heard::Progress(_) | Heard::Compacted(_) => &[],
        })
    }
}

/// Checks that an order is what became of the writes that clients sent, and of nothing else.
/// Deletions by the end of a lease are judged with the leases; `has_lease` names their keys.
pub(crate) fn check_order(
    order: &Order,
    claims: &[Claim],
    has_lease: impl Fn(&str) -> bool,
) -> Vec<Violation> {
    let mut found = Vec::new();
    for revision in order.from..=order.last {
        if !order.changes.contains_key(&revision) {
            found.push(violation(Rule::Hole, format!("nothing happened at revision {revision}")));
        }
    }
    let mut writers: BTreeMap<(&str, &str), &Claim> = BTreeMap::new();
    let mut deleters: BTreeSet<(&str, Option<i64>)> = BTreeSet::new();
    for claim in claims {
        match (&claim.value, claim.fate) {
            (Some(value), _) => {
                let earlier = writers.insert((value, &claim.key), claim);
                assert!(earlier.is_none(), "{value} was written twice: values must be unique");
            }
            (None, Fate::Acknowledged(revision)) => {
                deleters.insert((&claim.key, Some(revision)));
            }
            (None, Fate::Unknown) => {
                deleters.insert((&claim.key, None));
            }
            (None, Fate::Refused) => {}
        }
        if let Fate::Acknowledged(revision) = claim.fate
            && revision >= order.from
            && !order.tells(claim, revision)
        {
            found.push(violation(Rule::Missing, format!("{claim:?} is not in the order")));
        }
    }
    for change in order.changes() {
        let rule = match &change.value {
            Some(value) => {
                let writer = writers.get(&(value.as_str(), change.key.as_str()));
                judge_write(change, writer.copied())
            }
            None => {
                let known = [Some(change.revision), None]
                    .into_iter()
                    .any(|at| deleters.contains(&(change.key.as_str(), at)));
                (!known && !has_lease(&change.key)).then_some(Rule::Forged)
            }
        };
        if let Some(rule) = rule {
            found.push(violation(rule, format!("{change:?} is nobody's")));
        }
    }
    found
}

impl Order {
    fn tells(&self, claim: &Claim, revision: i64) -> bool {
        self.changes.get(&revision).is_some_and(|changes| {
            changes.iter().any(|change| change.key == claim.key && change.value == claim.value)
        })
    }
}

fn judge_write(change: &Change, writer: Option<&Claim>) -> Option<Rule> {
    let Some(writer) = writer else { return Some(Rule::Forged) };
    match writer.fate {
        Fate::Refused => Some(Rule::Undead),
        Fate::Acknowledged(revision) if revision != change.revision => Some(Rule::Twofold),
        Fate::Acknowledged(_) | Fate::Unknown => None,
    }
}

/// Checks that a watcher was told the order. `compacted` is the highest revision that anybody asked
/// to compact.
pub(crate) fn check_account(order: &Order, account: &Account, compacted: i64) -> Vec<Violation> {
    let mut walk = Walk {
        order,
        account,
        next: account.from,
        told: BTreeSet::new(),
        compacted,
        found: Vec::new(),
    };
    for heard in &account.heard {
        match heard {
            Heard::Changes(changes) => {
                for whole in changes.chunk_by(|a, b| a.revision == b.revision) {
                    walk.changes(whole);
                }
            }
            Heard::Progress(revision) => walk.progress(*revision),
            Heard::Compacted(revision) => walk.compacted(*revision),
        }
    }
    walk.pass(Rule::Gap, order.last + 1);
    walk.found
}

/// The walk along the order: what is due next, and what was told.
struct Walk<'a> {
    order: &'a Order,
    account: &'a Account,
    next: i64,
    told: BTreeSet<(i64, &'a str)>,
    compacted: i64,
    found: Vec<Violation>,
}

impl<'a> Walk<'a> {
    /// Changes of one revision that came together.
    fn changes(&mut self, whole: &'a [Change]) {
        let revision = whole[0].revision;
        let fresh = whole.iter().filter(|c| self.told.insert((revision, &c.key))).count();
        if fresh < whole.len() {
            self.broken(Rule::Repeat, format!("{whole:?} was told already"));
        } else if revision < self.next {
            self.broken(Rule::Disorder, format!("{whole:?} came when {} was due", self.next));
        }
        if revision < self.next {
            return;
        }
        self.pass(Rule::Gap, revision);
        self.next = revision + 1;
        let due = match self.order.changes.get(&revision) {
            Some(due) => due.iter().filter(|due| self.account.scope.has(&due.key)).collect(),
            // Nobody else was told of what is compacted now.
            None if revision < self.order.from => return,
            None => Vec::new(),
        };
        let is_due = |told: &Change| due.iter().any(|due| due.is(told));
        if !whole.iter().all(is_due) {
            self.broken(Rule::Invented, format!("told {whole:?}, but it was {due:?}"));
        } else if fresh < due.len() {
            self.broken(Rule::Torn, format!("told {whole:?} of {due:?}"));
        }
        if self.account.previous == Previous::Wanted {
            whole.iter().for_each(|change| self.previous(change));
        }
    }

    /// The pair that was replaced is told unless it is compacted, and is the right one.
    fn previous(&mut self, change: &Change) {
        let replaced = self.order.before(&change.key, change.revision);
        let replaced = replaced.and_then(|(at, written)| written.then_some(at));
        let compacted = change.prev.is_none() && change.revision <= self.compacted;
        let known = self.order.knows(replaced.unwrap_or(FIRST)..change.revision);
        if change.prev != replaced && !compacted && known {
            self.broken(Rule::WrongPrev, format!("{change:?} replaced {replaced:?}"));
        }
    }

    fn progress(&mut self, revision: i64) {
        if revision > self.order.last {
            self.broken(Rule::Ahead, format!("told of revision {revision}, which is not there"));
            return;
        }
        self.pass(Rule::Ahead, revision + 1);
        self.next = self.next.max(revision + 1);
    }

    fn compacted(&mut self, revision: i64) {
        if revision > self.compacted {
            let asked = self.compacted;
            self.broken(Rule::Early, format!("told of compaction at {revision}, asked: {asked}"));
        }
        self.next = self.next.max(revision + 1);
    }

    /// Goes on to a revision: nothing before it is due any more.
    fn pass(&mut self, rule: Rule, to: i64) {
        let missed = match self.account.scope {
            // Each revision has a change, whether the order knows it or not.
            Scope::Everything => (self.next < to).then_some(self.next),
            Scope::Prefix(_) => self.order.first_in(&self.account.scope, self.next..to),
        };
        if let Some(missed) = missed {
            self.broken(rule, format!("revision {missed} was due, passed on to {to}"));
        }
    }

    fn broken(&mut self, rule: Rule, story: String) {
        self.found.push(violation(rule, format!("{}: {story}", self.account.name)));
    }
}

impl Change {
    /// True if both tell the same, apart from what was replaced.
    fn is(&self, other: &Change) -> bool {
        let told = |change: &Change| (change.revision, change.lease);
        told(self) == told(other) && self.key == other.key && self.value == other.value
    }
}

/// A breach with its story.
pub(crate) fn violation(rule: Rule, story: String) -> Violation {
    Violation { rule, story }
}
