//! What a watcher may rely on.
//!
//! | promise | broken by |
//! |---|---|
//! | ordered | an event of an earlier revision after a later one |
//! | unique | an event twice |
//! | reliable | an event that was never told, though a later one or a bookmark was |
//! | atomic | a revision told in two messages, without the mark of a fragment |
//! | resumable | a watch from revision `r` that leaves out or invents what is there from `r` on |
//! | bookmark | "nothing more up to `r`" while an event up to `r` is owed |
//!
//! *Idea.* [`Log`] is what the store did, from its own log or from a reader of all history. A
//! [`Watch`] holds a cursor into it: what it is told must be the next events that it is owed, and
//! nothing else. A watcher whose start is compacted must be told so, and nothing before.
//!
//! *Bounds.* The log keeps every change; [`Log::forget`] drops what no watcher needs any more.
//!
//! Source: etcd's watch API guarantees.

use super::Broken;
use crate::models::map::{Blob, Span};
use crate::witness::Change;
use std::collections::BTreeMap;

/// Every change of the store, by revision.
#[derive(Clone, Debug, Default)]
pub struct Log {
    changes: BTreeMap<u64, Vec<Change>>,
}

impl Log {
    /// The store made a revision.
    ///
    /// # Errors
    ///
    /// If there was a later or the same one before: the store's own order is broken.
    pub fn on_revision(&mut self, revision: u64, changes: Vec<Change>) -> Result<(), Broken> {
        let last = self.last();
        if revision <= last {
            let story = format!("the store made revision {revision} after {last}");
            return Err(Broken::new("revisions grow", story));
        }
        self.changes.insert(revision, changes);
        Ok(())
    }

    /// The newest revision; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.changes.keys().next_back().copied().unwrap_or(0)
    }

    /// Drops changes before this revision.
    pub fn forget(&mut self, before: u64) {
        self.changes = self.changes.split_off(&before);
    }
}

/// Which changes a watcher wants.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Filter {
    /// All.
    #[default]
    All,
    /// Only puts.
    NoDelete,
    /// Only deletions.
    NoPut,
}

/// Whether a message is the whole of its revisions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// It is: no revision of it goes on in the next message.
    Whole,
    /// The next message goes on, as the watcher allowed.
    Fragment,
}

/// One watcher.
#[derive(Clone, Debug)]
pub struct Watch {
    name: String,
    key: Blob,
    span: Span,
    filter: Filter,
    /// The next revision that it may be told of.
    next: u64,
    /// What it has been told of revision `next` already, in the middle of one.
    told: Vec<Change>,
    is_over: bool,
}

impl Watch {
    /// A watcher of these keys from revision `start` on, which must not be 0: a watch "from now"
    /// begins after the revision that its creation was answered with.
    pub fn new(name: impl Into<String>, key: Blob, span: Span, filter: Filter, start: u64) -> Self {
        let name = name.into();
        Watch { name, key, span, filter, next: start, told: Vec::new(), is_over: false }
    }

    /// The revision from which a new watch must go on so as to miss and repeat nothing.
    pub fn resume_at(&self) -> u64 {
        self.next
    }

    /// It was told changes, in one message.
    ///
    /// # Errors
    ///
    /// If they are not the next that it is owed.
    pub fn on_events(
        &mut self,
        log: &Log,
        events: &[(u64, Change)],
        part: Part,
    ) -> Result<(), Broken> {
        if self.is_over {
            return Err(self.broken("watch ended", "events after its end".to_owned()));
        }
        for (revision, change) in events {
            self.on_event(log, *revision, change)?;
        }
        if part == Part::Whole && !self.told.is_empty() {
            let owed = self.owed_at(log, self.next).len();
            let story = format!(
                "revision {} was split: {} of its {owed} changes came in one message",
                self.next,
                self.told.len()
            );
            return Err(self.broken("watch atomic", story));
        }
        Ok(())
    }

    fn on_event(&mut self, log: &Log, revision: u64, change: &Change) -> Result<(), Broken> {
        if revision < self.next {
            let was_owed = self.owed_at(log, revision).contains(&change);
            let promise = if was_owed { "watch unique" } else { "watch ordered" };
            let story = format!(
                "{} at revision {revision}, after revision {}",
                show(change),
                self.next - 1
            );
            return Err(self.broken(promise, story));
        }
        if revision > self.next {
            self.owes_nothing_before(log, revision)?;
            self.next = revision;
            self.told.clear();
        }
        if self.told.contains(change) {
            let story = format!("{} twice at revision {revision}", show(change));
            return Err(self.broken("watch unique", story));
        }
        if !self.owed_at(log, revision).contains(&change) {
            let story = format!("{} at revision {revision} never happened", show(change));
            return Err(self.broken("watch true", story));
        }
        self.told.push(change.clone());
        if self.told.len() == self.owed_at(log, revision).len() {
            self.next = revision + 1;
            self.told.clear();
        }
        Ok(())
    }

    /// It was told that there is nothing more up to `revision`.
    ///
    /// # Errors
    ///
    /// If there is, or if the store has not come so far.
    pub fn on_bookmark(&mut self, log: &Log, revision: u64) -> Result<(), Broken> {
        if revision > log.last() {
            let story = format!("a bookmark at {revision}, but the store is at {}", log.last());
            return Err(self.broken("watch bookmark", story));
        }
        if revision < self.next {
            return Ok(()); // an old one says nothing new
        }
        self.owes_nothing_before(log, revision + 1)
            .map_err(|broken| Broken { promise: "watch bookmark", ..broken })?;
        self.next = revision + 1;
        Ok(())
    }

    /// It was told that revisions below `revision` are compacted, and ends.
    ///
    /// # Errors
    ///
    /// If it needs none of them.
    pub fn on_compacted(&mut self, revision: u64) -> Result<(), Broken> {
        self.is_over = true;
        if self.next >= revision {
            let story = format!(
                "it ended for a compaction at {revision}, but needs only {} and \
                later",
                self.next
            );
            return Err(self.broken("watch compaction", story));
        }
        Ok(())
    }

    /// The run is over and everything was delivered: nothing may be owed.
    ///
    /// # Errors
    ///
    /// If something is.
    pub fn on_end(&mut self, log: &Log) -> Result<(), Broken> {
        if self.is_over { Ok(()) } else { self.owes_nothing_before(log, log.last() + 1) }
    }

    /// True if there is something that it has not been told.
    pub fn is_owed(&self, log: &Log) -> bool {
        self.owed(log).next().is_some()
    }

    /// What it has not been told, in order: revisions, and what happened there.
    pub fn owed<'a>(&'a self, log: &'a Log) -> impl Iterator<Item = (u64, &'a Change)> {
        let left = log.changes.range(self.next..).filter(|_| !self.is_over);
        let each = left.flat_map(|(revision, changes)| changes.iter().map(|it| (*revision, it)));
        each.filter(|(_, change)| self.wants(change) && !self.told.contains(change))
    }

    fn owes_nothing_before(&self, log: &Log, until: u64) -> Result<(), Broken> {
        for revision in log.changes.range(self.next..until).map(|(revision, _)| *revision) {
            let told = if revision == self.next { self.told.as_slice() } else { &[] };
            let owed = self.owed_at(log, revision);
            let missed = owed.into_iter().find(|change| !told.contains(change));
            if let Some(missed) = missed {
                let story = format!("{} at revision {revision} was never told", show(missed));
                return Err(self.broken("watch reliable", story));
            }
        }
        Ok(())
    }

    fn owed_at<'a>(&self, log: &'a Log, revision: u64) -> Vec<&'a Change> {
        let changes = log.changes.get(&revision).into_iter().flatten();
        changes.filter(|change| self.wants(change)).collect()
    }

    fn wants(&self, change: &Change) -> bool {
        let kind = match change {
            Change::Put(_) => self.filter != Filter::NoPut,
            Change::Delete(_) => self.filter != Filter::NoDelete,
        };
        kind && self.span.holds(&self.key, change.key())
    }

    fn broken(&self, promise: &'static str, story: String) -> Broken {
        Broken::new(promise, format!("watcher {}: {story}", self.name))
    }
}

fn show(change: &Change) -> String {
    match change {
        Change::Put(pair) => format!("put of {}", pair.key),
        Change::Delete(key) => format!("deletion of {key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::map::Pair;

    fn put(key: &str, revision: u64) -> Change {
        let (create, modified, version, lease) = (revision, revision, 1, 0);
        let (key, value) = (key.into(), "x".into());
        Change::Put(Pair { key, value, create, modified, version, lease })
    }

    /// Revision 2 puts a; 3 puts b; 4 puts a and b; 5 deletes a.
    fn log() -> Log {
        let mut log = Log::default();
        let all = [
            (2, vec![put("a", 2)]),
            (3, vec![put("b", 3)]),
            (4, vec![put("a", 4), put("b", 4)]),
            (5, vec![Change::Delete("a".into())]),
        ];
        for (revision, changes) in all {
            log.on_revision(revision, changes).expect("in order");
        }
        log
    }

    fn watch(start: u64) -> Watch {
        Watch::new("w", "a".into(), Span::Rest, Filter::All, start)
    }

    /// All events from `start` on, one message for each revision.
    fn messages(start: u64) -> Vec<Vec<(u64, Change)>> {
        let each = |(revision, changes): (&u64, &Vec<Change>)| {
            changes.iter().map(|change| (*revision, change.clone())).collect()
        };
        log().changes.range(start..).map(each).collect()
    }

    fn tell(watch: &mut Watch, messages: &[Vec<(u64, Change)>]) -> Result<(), Broken> {
        messages.iter().try_for_each(|events| watch.on_events(&log(), events, Part::Whole))
    }

    fn promise(result: Result<(), Broken>) -> &'static str {
        result.expect_err("a broken promise").promise
    }

    #[test]
    fn what_is_told_in_order_once_and_whole_is_right() {
        for start in 1..=6 {
            let mut watch = watch(start);
            tell(&mut watch, &messages(start)).expect("all of it");
            watch.on_bookmark(&log(), 5).expect("nothing more");
            watch.on_end(&log()).expect("nothing owed");
            assert_eq!(watch.resume_at(), 6);
        }
    }

    #[test]
    fn only_its_keys_and_kinds_are_owed() {
        let mut one = Watch::new("w", "b".into(), Span::One, Filter::NoDelete, 1);
        tell(&mut one, &[vec![(3, put("b", 3))], vec![(4, put("b", 4))]]).expect("its own");
        one.on_end(&log()).expect("nothing owed");
        let mut ends = Watch::new("w", "a".into(), Span::Rest, Filter::NoPut, 1);
        tell(&mut ends, &messages(5)).expect("deletions");
        let mut lost = Watch::new("w", "a".into(), Span::Rest, Filter::NoPut, 1);
        assert_eq!(promise(lost.on_end(&log())), "watch reliable");
    }

    #[test]
    fn each_planted_fault_breaks_its_promise() {
        let mut all = messages(1);
        all.swap(0, 1);
        assert_eq!(promise(tell(&mut watch(1), &all)), "watch reliable");
        let twice = [messages(1), messages(3)].concat();
        assert_eq!(promise(tell(&mut watch(1), &twice)), "watch unique");
        let lost = [messages(1)[..1].to_vec(), messages(4)].concat();
        assert_eq!(promise(tell(&mut watch(1), &lost)), "watch reliable");
        let mut split = messages(4);
        let rest = split[0].split_off(1);
        split.insert(1, rest);
        assert_eq!(promise(tell(&mut watch(4), &split)), "watch atomic");
        assert_eq!(promise(tell(&mut watch(1), &[vec![(2, put("c", 2))]])), "watch true");
        assert_eq!(promise(tell(&mut watch(4), &messages(3))), "watch unique");
        let same = vec![(4, put("a", 4)), (4, put("a", 4))];
        assert_eq!(promise(watch(4).on_events(&log(), &same, Part::Whole)), "watch unique");
        let other = vec![(2, put("c", 2))];
        assert_eq!(promise(watch(4).on_events(&log(), &other, Part::Whole)), "watch ordered");
        assert_eq!(promise(watch(5).on_end(&log())), "watch reliable");
    }

    #[test]
    fn a_fragment_may_split_a_revision_but_not_lose_of_it() {
        let all = messages(4);
        let (first, second) = all[0].split_at(1);
        let mut fragments = watch(4);
        fragments.on_events(&log(), first, Part::Fragment).expect("to be continued");
        fragments.on_events(&log(), second, Part::Whole).expect("continued");
        let mut lossy = watch(4);
        lossy.on_events(&log(), first, Part::Fragment).expect("to be continued");
        let rest = lossy.on_events(&log(), &all[1], Part::Whole);
        assert_eq!(promise(rest), "watch reliable");
    }

    #[test]
    fn a_bookmark_is_never_ahead() {
        assert_eq!(promise(watch(1).on_bookmark(&log(), 2)), "watch bookmark");
        assert_eq!(promise(watch(6).on_bookmark(&log(), 6)), "watch bookmark");
        let mut behind = watch(1);
        tell(&mut behind, &messages(1)).expect("all");
        behind.on_bookmark(&log(), 3).expect("an old one is true");
    }

    #[test]
    fn a_compaction_ends_only_who_needs_what_is_gone() {
        watch(1).on_compacted(3).expect("it needs 1");
        let mut early = watch(3);
        assert_eq!(promise(early.on_compacted(3)), "watch compaction");
        assert_eq!(promise(tell(&mut early, &messages(3))), "watch ended");
    }

    #[test]
    fn a_store_that_repeats_a_revision_is_found() {
        assert_eq!(promise(log().on_revision(5, vec![])), "revisions grow");
    }
}
