//! Whether leases were kept, ended and handed on as promised.
//!
//! Problem: a lease ends by a clock that no client sees. Idea: its end is a revision of the total
//! order (`order.rs`), and answers with revisions say between which moments that revision came to
//! be: after the sending of any request that was answered with an earlier one, before the arrival
//! of any answer with it or a later one. What these moments prove is held against what the holder
//! was promised.
//!
//! | rule | promise that was broken |
//! |---|---|
//! | `LeaseLost` | it lives for its time from when an acknowledged grant or renewal was sent |
//! | `Overdue` | nobody renews it: it ends within its time and [`LATE`], once there is a leader |
//! | `Split` | all its keys go in one revision |
//! | `Revived` | nothing is attached to it after its end |
//! | `TwoHolders` | a lock that hangs on a lease has one holder at a time |
//! | `LockStolen` | in the order, a lock is free before it is taken |
//! | `Unfenced` | what compares the holder's fencing token is written while it holds, or never |

use crate::support::history::{Rule, Violation};
use crate::support::order::{FIRST, Order, violation};
use std::collections::{BTreeMap, BTreeSet};

/// How much longer than its time a lease may live that nobody renews, under a leader that stays:
/// half of its time again if the leader is new, a grace of a second, and what a busy machine takes.
/// Unit: nanoseconds.
pub(crate) const LATE: u64 = 6_000_000_000;

/// Keys below this belong to one lease each, and only its end deletes them.
pub(crate) const OWN_KEYS: &str = "leased/";

/// A key that belongs to a lease.
pub(crate) fn own_key(lease: i64, number: usize) -> String {
    format!("{OWN_KEYS}{lease}/{number}")
}

fn owner(key: &str) -> Option<i64> {
    key.strip_prefix(OWN_KEYS)?.split('/').next()?.parse().ok()
}

/// An answer with the revision of the store. Times are nanoseconds since the test began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sight {
    /// When the request was sent; 0 if nobody knows.
    pub(crate) invoked: u64,
    /// When the answer came.
    pub(crate) returned: u64,
    /// The revision.
    pub(crate) revision: i64,
}

/// When revisions came to be, as far as answers prove it.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// By revision: a moment at which the store had at least this revision.
    there: BTreeMap<i64, u64>,
    /// By revision: a moment at which the store had at most this revision.
    not_after: BTreeMap<i64, u64>,
}

impl Clock {
    /// What all these answers prove.
    pub(crate) fn of(sights: &[Sight]) -> Clock {
        let mut sights = sights.to_vec();
        sights.sort_by_key(|sight| sight.revision);
        let (mut there, mut not_after) = (BTreeMap::new(), BTreeMap::new());
        let mut latest = 0;
        for sight in &sights {
            latest = sight.invoked.max(latest);
            not_after.insert(sight.revision, latest);
        }
        let mut earliest = u64::MAX;
        for sight in sights.iter().rev() {
            earliest = sight.returned.min(earliest);
            there.insert(sight.revision, earliest);
        }
        Clock { there, not_after }
    }

    /// The revision had come to be at this moment.
    fn came_before(&self, revision: i64) -> u64 {
        self.there.range(revision..).next().map_or(u64::MAX, |(_, at)| *at)
    }

    /// The revision had not come to be at this moment.
    fn came_after(&self, revision: i64) -> u64 {
        self.not_after.range(..revision).next_back().map_or(0, |(_, at)| *at)
    }
}

/// A client's account of one lease.
#[derive(Clone, Debug)]
pub(crate) struct Tenancy {
    /// The lease.
    pub(crate) id: i64,
    /// Time to live as it was granted. Unit: nanoseconds.
    pub(crate) ttl: u64,
    /// When those requests were sent, grant first, that were acknowledged.
    pub(crate) renewals: Vec<u64>,
    /// After this moment the client sent nothing that could renew it.
    pub(crate) until: u64,
    /// When the client was told that there is no such lease.
    pub(crate) gone: Option<u64>,
    /// When a revocation was sent.
    pub(crate) revoking: Option<u64>,
    /// The revision with which the revocation was acknowledged.
    pub(crate) revoked: Option<i64>,
}

/// What there is at the end of a test.
#[derive(Clone, Debug)]
pub(crate) struct Calm {
    /// From when on every member was up and served.
    pub(crate) since: u64,
    /// When the leases were listed.
    pub(crate) listed: u64,
    /// The leases that there were.
    pub(crate) leases: BTreeSet<i64>,
}

/// The revision of the end of each lease that had keys of its own, and breaches of the order.
fn ends_of(order: &Order, found: &mut Vec<Violation>) -> BTreeMap<i64, i64> {
    let mut ends: BTreeMap<i64, i64> = BTreeMap::new();
    let mut attached: BTreeMap<&str, i64> = BTreeMap::new();
    let mut before = FIRST;
    for (revision, changes) in order.revisions() {
        if !order.knows(before..revision) {
            // Keys may have left their leases, or leases ended, without anybody being told.
            attached.clear();
        }
        before = revision;
        for change in changes {
            attached.remove(change.key.as_str());
        }
        let deleted = changes.iter().filter(|change| change.value.is_none());
        let ended: BTreeSet<i64> = deleted.filter_map(|change| owner(&change.key)).collect();
        for lease in ended {
            let left = attached.iter().find(|(_, at)| **at == lease);
            if let Some(first) = ends.insert(lease, revision) {
                let story = format!("lease {lease} took keys at {first} and again at {revision}");
                found.push(violation(Rule::Split, story));
            } else if let Some((left, _)) = left {
                let story = format!("lease {lease} ended at {revision}, but {left} stayed");
                found.push(violation(Rule::Split, story));
            }
        }
        for change in changes.iter().filter(|change| change.value.is_some() && change.lease != 0) {
            attached.insert(&change.key, change.lease);
            if let Some(end) = ends.get(&change.lease) {
                let story = format!("{change:?}, but the lease ended at {end}");
                found.push(violation(Rule::Revived, story));
            }
        }
    }
    ends
}

/// Checks the accounts of all holders of leases.
pub(crate) fn check_leases(
    order: &Order,
    clock: &Clock,
    tenancies: &[Tenancy],
    calm: &Calm,
) -> Vec<Violation> {
    let mut found = Vec::new();
    let ends = ends_of(order, &mut found);
    for tenancy in tenancies {
        let end = ends.get(&tenancy.id).copied();
        if let Some(rule) = tenancy.judge(end, clock, calm) {
            found.push(violation(rule, format!("{tenancy:?} ended at {end:?}, calm: {calm:?}")));
        }
    }
    found
}

impl Tenancy {
    /// The moment up to which it is promised to live.
    pub(crate) fn held_until(&self) -> u64 {
        self.renewals.iter().max().map_or(0, |sent| sent + self.ttl)
    }

    fn judge(&self, end: Option<i64>, clock: &Clock, calm: &Calm) -> Option<Rule> {
        let ended_before = end.map_or(u64::MAX, |end| clock.came_before(end));
        let gone = ended_before.min(self.gone.unwrap_or(u64::MAX));
        let by_its_holder = self.revoking.is_some_and(|sent| sent <= gone);
        if gone < self.held_until() && !by_its_holder {
            return Some(Rule::LeaseLost);
        }
        if let (Some(revoked), Some(end)) = (self.revoked, end)
            && end > revoked
        {
            return Some(Rule::Overdue);
        }
        let lived_after = match end {
            Some(end) => clock.came_after(end),
            None if calm.leases.contains(&self.id) => calm.listed,
            None => 0,
        };
        let listed_after_end = end.is_some() && calm.leases.contains(&self.id);
        let limit = self.until.max(calm.since) + self.ttl + LATE;
        (lived_after > limit || listed_after_end).then_some(Rule::Overdue)
    }
}

/// A client's account of holding a lock once.
#[derive(Clone, Debug)]
pub(crate) struct Tenure {
    /// Who.
    pub(crate) holder: usize,
    /// Revision of the write that took it: the fencing token.
    pub(crate) token: i64,
    /// When the client knew that it holds it.
    pub(crate) from: u64,
    /// Until when it could rely on that: it gave it back, or its lease may have ended.
    pub(crate) until: u64,
    /// Revisions of the writes that were acknowledged and compared the token.
    pub(crate) fenced: Vec<i64>,
}

/// Checks the accounts of all who held the lock `key`.
pub(crate) fn check_lock(order: &Order, key: &str, tenures: &[Tenure]) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut by_time: Vec<&Tenure> = tenures.iter().filter(|t| t.from < t.until).collect();
    by_time.sort_by_key(|tenure| tenure.from);
    let mut longest: Option<&Tenure> = None;
    for tenure in by_time {
        if let Some(other) = longest.filter(|other| other.until > tenure.from) {
            found.push(violation(Rule::TwoHolders, format!("{other:?} and {tenure:?}")));
        }
        if longest.is_none_or(|longest| longest.until < tenure.until) {
            longest = Some(tenure);
        }
    }
    for taken in order.changes().filter(|change| change.key == key && change.value.is_some()) {
        if let Some((at, true)) = order.before(key, taken.revision)
            && order.knows(at..taken.revision)
        {
            let story = format!("{taken:?}, but who took it at {at} had it");
            found.push(violation(Rule::LockStolen, story));
        }
    }
    for tenure in tenures {
        for written in &tenure.fenced {
            // A transaction may take the lock and write at one revision.
            let holder = order.before(key, written + 1);
            let known = order.knows(tenure.token..*written);
            if known && holder != Some((tenure.token, true)) {
                let story = format!("{written} of {tenure:?} while {holder:?} was the last word");
                found.push(violation(Rule::Unfenced, story));
            }
        }
    }
    found
}
