//! What clients saw, and whether a linearizable store could have shown it to them.
//!
//! Problem: deciding linearizability from answers alone is exponential. Idea: every answer of this
//! store carries the revision of the store, and each write gets one of its own, so the order that
//! the store claims is known. What remains is to check the claim, in one pass:
//!
//! 1. real time: whatever began after an answer came has a later (a write) or not an earlier (a
//!    read) revision than that answer;
//! 2. content: a read at revision h shows the newest write of its key up to h, and nothing else;
//! 3. fate: what was refused for certain is never seen, what was never written neither, and an
//!    unknown outcome happened at one revision or not at all.
//!
//! The final reads of a test are part of the history, so a lost acknowledged write breaks rule 2.
//!
//! Sources: Herlihy and Wing, "Linearizability" (1990); Gibbons and Korach, "Testing Shared
//! Memories" (1997), for why a given write order makes the check easy.

use crate::support::client::{Found, Seen};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One operation of one client on one key.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    /// Who.
    pub(crate) client: usize,
    /// When it was sent. Unit: nanoseconds since the test began.
    pub(crate) invoked: u64,
    /// When the answer came, or the client stopped waiting.
    pub(crate) returned: u64,
    /// Which key.
    pub(crate) key: String,
    /// What, and what came of it.
    pub(crate) action: Action,
}

/// An operation and its outcome. Values are unique in a history.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// An acknowledged write.
    Wrote {
        /// The value.
        value: String,
        /// The revision that it was acknowledged with.
        revision: i64,
        /// For a compare-and-swap: the write that it replaced.
        over: Option<i64>,
    },
    /// A write that was refused for certain.
    Refused {
        /// The value.
        value: String,
    },
    /// A write that may have happened.
    Unknown {
        /// The value.
        value: String,
    },
    /// An acknowledged deletion which found the key.
    Deleted {
        /// The revision that it was acknowledged with.
        revision: i64,
    },
    /// A deletion that may have happened.
    DeleteUnknown,
    /// A linearizable read, or a deletion or swap that changed nothing.
    Read(Seen),
}

/// A broken promise of the store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Violation {
    /// Which promise.
    pub(crate) rule: Rule,
    /// Who saw what.
    pub(crate) story: String,
}

/// The promises that are checked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Rule {
    /// Two acknowledged writes have one revision.
    RevisionShared,
    /// An operation has an older revision than one that was over before it began.
    WentBack,
    /// A read missed a write that its own revision covers.
    Stale,
    /// A read did not find a key that was written and not deleted.
    Lost,
    /// A read found what nobody wrote, or before it was written.
    Phantom,
    /// A read found a write that was refused for certain.
    Undead,
    /// One write was seen at two revisions, or two writes at one.
    Twofold,
    /// A swap succeeded although another write came between.
    SwapOver,
    /// An acknowledged write is not in the order (`order.rs`, like all that follow).
    Missing,
    /// The order has what nobody wrote.
    Forged,
    /// The order has a revision without a change.
    Hole,
    /// A watcher was not told a change.
    Gap,
    /// A watcher was told a change twice.
    Repeat,
    /// A watcher was told an earlier change after a later one.
    Disorder,
    /// A watcher was told what is not in the order.
    Invented,
    /// A watcher was told a part of a revision.
    Torn,
    /// A watcher was told another pair than the one that was replaced.
    WrongPrev,
    /// A watcher was told that there is nothing new while there was.
    Ahead,
    /// A watcher was told of a compaction that nobody asked for.
    Early,
    /// A lease ended within its time (`leased.rs`, like all that follow).
    LeaseLost,
    /// A lease lived on.
    Overdue,
    /// The keys of a lease did not go in one revision.
    Split,
    /// A key was attached to a lease that had ended.
    Revived,
    /// Two clients could rely on one lock at the same time.
    TwoHolders,
    /// A lock was taken that was not free.
    LockStolen,
    /// A write got past a fence.
    Unfenced,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.story)
    }
}

/// All broken promises of a history; none if it is what a linearizable store can show.
pub(crate) fn check(events: &[Event]) -> Vec<Violation> {
    let mut found = Vec::new();
    let writes = Writes::of(events, &mut found);
    check_real_time(events, &writes, &mut found);
    check_contents(events, &writes, &mut found);
    check_swaps(events, &writes, &mut found);
    found
}

/// What is known of the writes: from acknowledgements, and from reads that saw them.
struct Writes<'a> {
    /// By value: the event that wrote it.
    by_value: BTreeMap<&'a str, &'a Event>,
    /// By key and revision: the value, or `None` for a deletion.
    by_revision: BTreeMap<&'a str, BTreeMap<i64, Option<&'a str>>>,
    /// Revisions of unknown writes that a read saw, by value.
    seen: BTreeMap<&'a str, i64>,
    /// When the first deletion of unknown outcome of a key was sent.
    deletes_unknown: BTreeMap<&'a str, u64>,
}

impl<'a> Writes<'a> {
    fn of(events: &'a [Event], found: &mut Vec<Violation>) -> Writes<'a> {
        let mut writes = Writes {
            by_value: BTreeMap::new(),
            by_revision: BTreeMap::new(),
            seen: BTreeMap::new(),
            deletes_unknown: BTreeMap::new(),
        };
        let mut revisions = BTreeSet::new();
        for event in events {
            if let Some(value) = event.value() {
                let earlier = writes.by_value.insert(value, event);
                assert!(earlier.is_none(), "the test wrote {value} twice: values must be unique");
            }
            if let Some(revision) = event.write_revision() {
                if !revisions.insert(revision) {
                    let story = format!("revision {revision} was given twice, last to {event}");
                    found.push(Violation { rule: Rule::RevisionShared, story });
                }
                let of_key = writes.by_revision.entry(&event.key).or_default();
                of_key.insert(revision, event.value());
            }
            if matches!(event.action, Action::DeleteUnknown) {
                let first = writes.deletes_unknown.entry(&event.key).or_insert(event.invoked);
                *first = event.invoked.min(*first);
            }
        }
        writes.learn_from_reads(events, found);
        writes
    }

    /// A read fixes the revision of what it saw.
    fn learn_from_reads(&mut self, events: &'a [Event], found: &mut Vec<Violation>) {
        for event in events {
            let Some(seen) = event.found() else { continue };
            let Some(writer) = self.by_value.get(seen.value.as_str()) else { continue };
            if writer.key != event.key {
                continue;
            }
            let at = seen.mod_revision;
            let of_key = self.by_revision.entry(&event.key).or_default();
            let known = *of_key.entry(at).or_insert(Some(&seen.value));
            let claimed = writer.write_revision().unwrap_or(at);
            let first_seen = *self.seen.entry(&seen.value).or_insert(at);
            if known != Some(&seen.value) || claimed != at || first_seen != at {
                let story = format!(
                    "{event}, but revision {at} is known as {known:?} and the value as written \
                     at {claimed} and seen at {first_seen}"
                );
                found.push(Violation { rule: Rule::Twofold, story });
            }
        }
    }

    /// The newest known write of `key` up to `revision`.
    fn newest(&self, key: &str, revision: i64) -> Option<(i64, Option<&'a str>)> {
        let of_key = self.by_revision.get(key)?;
        of_key.range(..=revision).next_back().map(|(at, value)| (*at, *value))
    }
}

/// Rule 1, by a sweep over the beginnings that carries the greatest revision answered so far.
fn check_real_time(events: &[Event], writes: &Writes<'_>, found: &mut Vec<Violation>) {
    let mut by_end: Vec<&Event> = events.iter().filter(|e| e.revision().is_some()).collect();
    by_end.sort_by_key(|event| event.returned);
    let mut by_begin: Vec<&Event> = events.iter().collect();
    by_begin.sort_by_key(|event| event.invoked);
    let mut ended = by_end.into_iter().peekable();
    let mut floor: Option<&Event> = None;
    for event in by_begin {
        while let Some(over) = ended.next_if(|over| over.returned < event.invoked) {
            if floor.is_none_or(|floor| floor.revision() < over.revision()) {
                floor = Some(over);
            }
        }
        // An unknown write that was seen has a revision, too: it happened after it was sent.
        let seen = event.value().and_then(|value| writes.seen.get(value).copied());
        let Some(revision) = event.revision().or(seen) else { continue };
        let Some(before) = floor else { continue };
        let least = before.revision().expect("it was filtered for") + i64::from(event.is_write());
        if revision < least {
            let story = format!("{event} at {revision} began after the end of {before}");
            found.push(Violation { rule: Rule::WentBack, story });
        }
    }
}

/// Rules 2 and 3.
fn check_contents(events: &[Event], writes: &Writes<'_>, found: &mut Vec<Violation>) {
    for event in events {
        let Action::Read(read) = &event.action else { continue };
        let newest = writes.newest(&event.key, read.revision);
        let broken = match &read.found {
            Some(seen) => judge_found(event, read, seen, newest, writes),
            None => judge_missing(event, newest, writes),
        };
        if let Some(rule) = broken {
            let story = format!("{event}; the newest write known is {newest:?}");
            found.push(Violation { rule, story });
        }
    }
}

fn judge_found(
    event: &Event,
    read: &Seen,
    seen: &Found,
    newest: Option<(i64, Option<&str>)>,
    writes: &Writes<'_>,
) -> Option<Rule> {
    let Some(writer) = writes.by_value.get(seen.value.as_str()) else { return Some(Rule::Phantom) };
    if writer.key != event.key || event.returned < writer.invoked {
        return Some(Rule::Phantom);
    }
    if seen.mod_revision > read.revision {
        return Some(Rule::Phantom);
    }
    if matches!(writer.action, Action::Refused { .. }) {
        return Some(Rule::Undead);
    }
    let stale = newest.is_some_and(|(at, _)| seen.mod_revision < at);
    stale.then_some(Rule::Stale)
}

fn judge_missing(
    event: &Event,
    newest: Option<(i64, Option<&str>)>,
    writes: &Writes<'_>,
) -> Option<Rule> {
    let written = matches!(newest, Some((_, Some(_))));
    let first_delete = writes.deletes_unknown.get(event.key.as_str());
    let maybe_deleted = first_delete.is_some_and(|sent| *sent < event.returned);
    (written && !maybe_deleted).then_some(Rule::Lost)
}

/// A swap promises that nothing came between what it compared and what it wrote.
fn check_swaps(events: &[Event], writes: &Writes<'_>, found: &mut Vec<Violation>) {
    for event in events {
        let Action::Wrote { revision, over: Some(over), .. } = &event.action else { continue };
        if let Some((between, _)) = writes.newest(&event.key, revision - 1)
            && between > *over
        {
            let story = format!("{event} replaced {over} although {between} came between");
            found.push(Violation { rule: Rule::SwapOver, story });
        }
    }
}

impl Event {
    /// The value that it wrote or tried to write.
    fn value(&self) -> Option<&str> {
        match &self.action {
            Action::Wrote { value, .. } | Action::Refused { value } | Action::Unknown { value } => {
                Some(value)
            }
            Action::Deleted { .. } | Action::DeleteUnknown | Action::Read(_) => None,
        }
    }

    fn found(&self) -> Option<&Found> {
        match &self.action {
            Action::Read(seen) => seen.found.as_ref(),
            _ => None,
        }
    }

    /// The revision of an acknowledged write.
    fn write_revision(&self) -> Option<i64> {
        match &self.action {
            Action::Wrote { revision, .. } | Action::Deleted { revision } => Some(*revision),
            _ => None,
        }
    }

    /// The revision of any answer.
    pub(crate) fn revision(&self) -> Option<i64> {
        match &self.action {
            Action::Read(seen) => Some(seen.revision),
            _ => self.write_revision(),
        }
    }

    fn is_write(&self) -> bool {
        !matches!(self.action, Action::Read(_))
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from_us, to_us) = (self.invoked / 1_000, self.returned / 1_000);
        write!(f, "client {} {} {:?}", self.client, self.key, self.action)?;
        write!(f, " [{from_us}..{to_us} us]")
    }
}
