//! From cursors to messages.
//!
//! Work is done in *windows*. A window begins at the cursor of the watcher that waited longest (the
//! leader) and reaches until its message is full; every other marked watcher whose cursor lies in
//! it is served from the same look at the log. So a thousand watchers cost one walk over the
//! events and not a thousand, whether they watch the same or each something else, and a watcher
//! that starts far in the past takes turns with those that follow the present. Watchers of one
//! class get copies of the same bytes.
//!
//! A cursor moves when its message has been written and not before: when the chunk is full in the
//! midst of a window, the rest stays where it was.

use super::hub::View;
use super::mutant::Mutant;
use super::session::{Class, Filled, Session, Watcher};
use super::wire::{self, Head, Pick};
use super::{CHUNK_BYTES, MESSAGE_BYTES, REVISION_BYTES_MAX, SCAN_EVENTS};
use quorate_core::Time;
use quorate_replica::store::{Event, History, Revision};
use std::task::Waker;

/// What a window holds.
struct Window<'v> {
    from: Revision,
    /// Everything up to here has been looked at.
    through: Revision,
    /// By class.
    picks: Vec<Pick<'v>>,
}

impl Session {
    /// Writes what is to be sent next to `buf`, about a chunk.
    pub(crate) fn fill(&mut self, now: Time, buf: &mut Vec<u8>) -> Filled {
        if let Some(why) = self.stream.hub.ended(self.settings.requires_leader) {
            return Filled::End(why);
        }
        // Before the marks are looked at, so that all marks up to it are seen.
        let dispatched = self.stream.hub.dispatched();
        // Before the view is taken, so that it shows what has changed up to then.
        let changes = self.stream.hub.auth_changes();
        self.collect();
        // After that, so that it holds what is marked.
        let Some(view) = self.stream.hub.view() else { return Filled::Idle };
        if changes != self.judged && !self.stream.hub.planted(Mutant::RevokedGoesOn) {
            self.judge_watchers(&view);
        }
        self.judged = changes;
        self.cancel_stuck(now, view.latest().revision());
        let mut scan = SCAN_EVENTS;
        loop {
            if let Some(slot) = self.split.take() {
                self.send_fragment(slot, &view, buf);
            } else if let Some(answer) = self.answers.pop_front() {
                wire::frame(&answer, buf);
            } else if scan == 0 || self.queue.is_empty() {
                break;
            } else {
                self.serve_window(&view, dispatched, &mut scan, buf);
            }
            if buf.len() >= CHUNK_BYTES {
                break;
            }
        }
        self.tell_progress(&view, dispatched, buf);
        if !buf.is_empty() {
            self.handed = Some(now);
            return Filled::Chunk;
        }
        if self.queue.is_empty() { Filled::Idle } else { Filled::Again }
    }

    /// Leaves a waker for the next mark, or for the revision that somebody asked about. False if
    /// there is something to do already.
    pub(crate) fn sleep(&mut self, waker: &Waker) -> bool {
        let hub = &self.stream.hub;
        if !self.stream.mailbox.sleep(waker)
            || hub.ended(self.settings.requires_leader).is_some()
            || hub.auth_changes() != self.judged
        {
            return false;
        }
        let (times, asked_at) = self.asked;
        if times == 0 || self.waits_for == Some(asked_at) {
            return times == 0 || hub.dispatched() < asked_at;
        }
        self.waits_for = Some(asked_at);
        hub.wait_for(asked_at, &self.stream.mailbox)
    }

    /// Takes in the marks that the hub has left.
    pub(super) fn collect(&mut self) {
        let mailbox = std::sync::Arc::clone(&self.stream.mailbox);
        mailbox.take(|slot, span| self.mark(slot, span));
    }

    /// Serves the leader and whoever is in its window.
    fn serve_window(
        &mut self,
        view: &View,
        dispatched: Revision,
        scan: &mut usize,
        buf: &mut Vec<u8>,
    ) {
        let Some(leader) = self.unqueue() else { return };
        if !self.has_more(leader) {
            return;
        }
        let from = self.watcher(leader).cursor;
        let Some(history) = self.history(view, from) else {
            return self.cancel_compacted(leader, view.latest().compact_revision());
        };
        let horizon = self.stamp_classes(leader, from).min(history.revision());
        let leading = self.watcher(leader).class;
        let mut window = self.look(history, from, horizon, leading, scan);
        self.sort_picks(&mut window);
        self.serve(leader, &window, dispatched, buf);
        for _ in 0..self.queue.len() {
            let Some(slot) = self.unqueue() else { continue };
            self.serve(slot, &window, dispatched, buf);
            self.requeue(slot);
        }
        self.requeue(leader);
    }

    /// True if the watcher is still there and has marks that it has not come to.
    fn has_more(&self, slot: u32) -> bool {
        self.watchers[slot as usize].as_ref().is_some_and(|watcher| watcher.cursor <= watcher.last)
    }

    /// Puts a watcher that was taken out of the queue back, if it belongs there.
    fn requeue(&mut self, slot: u32) {
        if self.has_more(slot) {
            self.watcher_mut(slot).queued = true;
            self.queue.push_back(slot);
        }
    }

    fn watcher(&self, slot: u32) -> &Watcher {
        self.watchers[slot as usize].as_ref().expect("the caller has seen it")
    }

    fn watcher_mut(&mut self, slot: u32) -> &mut Watcher {
        self.watchers[slot as usize].as_mut().expect("the caller has seen it")
    }

    fn history<'v>(&self, view: &'v View, from: Revision) -> Option<&'v History> {
        let ignored = self.stream.hub.planted(Mutant::CompactionIgnored);
        view.from(from).or_else(|| ignored.then(|| view.latest()))
    }

    /// Stamps the classes in which somebody may have something to do from `from` on. Answers with
    /// how far the marks of those reach whose marks begin with the leader's.
    fn stamp_classes(&mut self, leader: u32, from: Revision) -> Revision {
        self.stamp += 1;
        let Session { watchers, classes, queue, stamp, .. } = self;
        let mut horizon = Revision(0);
        let mut leading = None;
        for slot in [leader].iter().chain(queue.iter()) {
            let Some(watcher) = watchers[*slot as usize].as_ref() else { continue };
            if watcher.cursor < from || watcher.cursor > watcher.last {
                continue;
            }
            if watcher.cursor <= *leading.get_or_insert(watcher.last) {
                horizon = horizon.max(watcher.last);
            }
            let class = classes[watcher.class as usize].as_mut().expect("it has a member");
            class.stamp = *stamp;
            class.picks = (0, 0);
            class.written = None;
        }
        horizon
    }

    /// Picks the events from `from` to `horizon` that stamped classes want, until enough is found
    /// or looked at. Stops between two revisions only.
    fn look<'v>(
        &self,
        history: &'v History,
        from: Revision,
        horizon: Revision,
        leading: u32,
        scan: &mut usize,
    ) -> Window<'v> {
        let inverted = self.stream.hub.planted(Mutant::FilterInverted);
        let from_kept = from.max(history.compact_revision());
        let changes = history.changes(from_kept).expect("the view has these changes");
        let mut window = Window { from, through: horizon, picks: Vec::new() };
        let (mut at, mut bytes, mut leading_bytes) = (from, 0, 0);
        for event in changes {
            let revision = event.revision();
            if revision > horizon {
                break;
            }
            let enough = bytes >= CHUNK_BYTES || leading_bytes >= MESSAGE_BYTES || *scan == 0;
            if revision > at && enough {
                window.through = Revision(revision.0 - 1);
                break;
            }
            at = revision;
            *scan = scan.saturating_sub(1);
            self.class_index.find(&event.kv.key, |number| {
                let class = self.classes[number as usize].as_ref().expect("it is in the index");
                if class.stamp != self.stamp || class.kinds.include(event) == inverted {
                    return;
                }
                let pick = self.pick(number, class, event, history);
                bytes += pick.bytes;
                leading_bytes += if number == leading { pick.bytes } else { 0 };
                window.picks.push(pick);
            });
        }
        window
    }

    /// An event as the members of a class are told of it.
    fn pick<'v>(
        &self,
        number: u32,
        class: &Class,
        event: &'v Event,
        history: &'v History,
    ) -> Pick<'v> {
        let hub = &self.stream.hub;
        let prev = class.prev && !hub.planted(Mutant::PrevForgotten);
        let prev = if prev { history.prev_of(event) } else { None };
        match hub.planted(Mutant::DeleteAsPut) {
            true => Pick::told_as_put(number, event, prev),
            false => Pick::new(number, event, prev),
        }
    }

    /// Brings together what each class picked.
    fn sort_picks(&mut self, window: &mut Window<'_>) {
        window.picks.sort_by_key(|pick| pick.class);
        let mut start = 0;
        for run in window.picks.chunk_by(|a, b| a.class == b.class) {
            let class = self.classes[run[0].class as usize].as_mut().expect("it has picked");
            class.picks = (start, start + run.len());
            start += run.len();
        }
    }

    /// Writes the message of one watcher, if the window concerns it and the chunk has room.
    fn serve(&mut self, slot: u32, window: &Window<'_>, dispatched: Revision, buf: &mut Vec<u8>) {
        let Watcher { id, class, cursor, last, fragments, .. } = *self.watcher(slot);
        if cursor < window.from || cursor > window.through || cursor > last {
            return;
        }
        let (start, end) = self.class(class).picks;
        let told = window.picks[start..end].partition_point(|p| p.event.revision() < cursor);
        let picks = &window.picks[start + told..end];
        let full = buf.len() >= CHUNK_BYTES;
        if picks.is_empty() || full && self.stream.hub.planted(Mutant::RestForgotten) {
            self.watcher_mut(slot).cursor = window.through.next();
            return;
        }
        if full {
            return;
        }
        let bytes: usize = picks.iter().map(|pick| pick.bytes).sum();
        let splits = fragments || self.stream.hub.planted(Mutant::RevisionSplit);
        if splits && bytes > self.settings.fragment_bytes {
            if self.split.is_none() {
                self.watcher_mut(slot).cursor = picks[0].event.revision();
                self.split = Some(slot);
            }
            return;
        }
        if bytes > REVISION_BYTES_MAX {
            let revision = picks[picks.len() - 1].event.revision();
            return self.cancel(slot, dispatched.max(revision), too_large(revision));
        }
        // All marks up to `dispatched` are known: beyond the last one there is nothing.
        let caught_up = window.through >= last;
        let revision = if caught_up { dispatched.max(window.through) } else { window.through };
        let head = Head { header: self.header(revision), watch_id: id, fragment: false };
        let first = start + told;
        match &self.class(class).written {
            Some((same, place)) if *same == first => wire::frame_again(&head, place.clone(), buf),
            _ => {
                let place = wire::frame_events(&head, picks, buf);
                let class = self.classes[class as usize].as_mut().expect("it has a member");
                class.written = Some((first, place));
            }
        }
        let watcher = self.watcher_mut(slot);
        watcher.cursor = window.through.next();
        watcher.quiet = false;
    }

    fn class(&self, number: u32) -> &Class {
        self.classes[number as usize].as_ref().expect("it has a member")
    }

    /// Writes the next part of the revision at which the watcher is.
    fn send_fragment(&mut self, slot: u32, view: &View, buf: &mut Vec<u8>) {
        let Watcher { id, class, cursor, skip, .. } = *self.watcher(slot);
        let Some(history) = self.history(view, cursor) else {
            return self.cancel_compacted(slot, view.latest().compact_revision());
        };
        let class = self.class(class);
        let changes = history.changes_after(cursor, skip).expect("the view has these changes");
        let (mut picks, mut bytes, mut looked, mut more) = (Vec::new(), 0, skip, false);
        for event in changes.take_while(|event| event.revision() == cursor) {
            if class.keys.contains(&event.kv.key) && class.kinds.include(event) {
                let pick = self.pick(0, class, event, history);
                bytes += pick.bytes;
                if bytes > self.settings.fragment_bytes && !picks.is_empty() {
                    more = true;
                    break;
                }
                picks.push(pick);
            }
            looked += 1;
        }
        let head = Head { header: self.header(cursor), watch_id: id, fragment: more };
        wire::frame_events(&head, &picks, buf);
        let watcher = self.watcher_mut(slot);
        watcher.quiet = false;
        if more {
            watcher.skip = looked;
            self.split = Some(slot);
        } else {
            watcher.cursor = cursor.next();
            watcher.skip = 0;
        }
    }

    /// Tells how far the stream is, if somebody asked, and how far its quiet watchers are.
    fn tell_progress(&mut self, view: &View, dispatched: Revision, buf: &mut Vec<u8>) {
        let ahead = self.stream.hub.planted(Mutant::ProgressAhead);
        let caught_up = self.queue.is_empty() && self.answers.is_empty() && self.split.is_none();
        if !caught_up && !ahead {
            return;
        }
        let told = if ahead { view.latest().revision() } else { dispatched };
        let (times, asked_at) = self.asked;
        if times > 0 && told >= asked_at {
            self.asked.0 = 0;
            let answer = self.progress(None, told);
            for _ in 0..times {
                wire::frame(&answer, buf);
            }
        }
        while buf.len() < CHUNK_BYTES
            && let Some(slot) = self.notices.pop_front()
        {
            let watcher = self.watchers[slot as usize].as_ref();
            if watcher.is_some_and(|watcher| watcher.quiet) {
                wire::frame(&self.progress(Some(slot), told), buf);
            }
        }
    }
}

fn too_large(revision: Revision) -> String {
    format!(
        "etcdserver: the events of revision {} exceed {REVISION_BYTES_MAX} bytes; watch with \
         fragments, or resume after it",
        revision.0
    )
}
