//! What clients were promised about leases.
//!
//! A lease lives at least until its time has passed since its last answered keep-alive was sent, or
//! since its grant was asked for. That is measured in true time, which nobody but the simulator
//! knows, and allows for the drift that clocks may have. When a clock was off by more than that in
//! this run, nothing was promised and nothing is checked: the promise rests on the bound.
//!
//! All keys of a lease end with it, at one revision.

use quorate_drivers::simulate::Broken;
use quorate_replica::store::Store;
use std::collections::BTreeMap;

/// One part in a thousand for drift, and one millisecond for rounding.
fn tolerance(time: u64) -> u64 {
    time / 1_000 + 1_000_000
}

#[derive(Debug)]
struct Promise {
    /// True time. Unit: nanoseconds.
    until: u64,
    time: u64,
    /// A client asked for its end.
    revoked: bool,
    /// When a replica was first seen without it.
    ended: Option<u64>,
}

/// A lease whose end has not been seen.
#[derive(Clone, Copy, Debug)]
struct Open {
    id: i64,
    /// A replica was seen with it.
    seen: bool,
}

/// True if a lease may have ended or never begun.
fn over(promise: Option<&Promise>) -> bool {
    promise.is_none_or(|promise| promise.ended.is_some())
}

/// All leases that were asked for.
#[derive(Debug, Default)]
pub(super) struct Leases {
    promises: BTreeMap<i64, Promise>,
    /// Those whose end has not been seen, by ascending id.
    open: Vec<Open>,
}

impl Leases {
    /// A grant was answered that was asked for at `asked`.
    pub(super) fn granted(&mut self, id: i64, asked: u64, ttl: u64) -> Result<(), Broken> {
        let time = ttl * 1_000_000_000;
        let until = asked + time;
        let promise = Promise { until, time, revoked: false, ended: None };
        let promise = self.promises.entry(id).or_insert(promise);
        promise.until = promise.until.max(until);
        check(id, promise)
    }

    /// A grant was asked for; its answer may never come.
    pub(super) fn asked(&mut self, id: i64) {
        let promise = Promise { until: 0, time: 0, revoked: false, ended: None };
        let promise = self.promises.entry(id).or_insert(promise);
        if promise.ended.is_none()
            && let Err(place) = self.open.binary_search_by_key(&id, |open| open.id)
        {
            self.open.insert(place, Open { id, seen: false });
        }
    }

    /// A keep-alive that was sent at `asked` was answered: it lives for `left` milliseconds.
    pub(super) fn renewed(
        &mut self,
        id: i64,
        asked: u64,
        left: u64,
        trusted: bool,
    ) -> Result<(), Broken> {
        let Some(promise) = self.promises.get_mut(&id) else { return Ok(()) };
        promise.time = left * 1_000_000;
        promise.until = promise.until.max(asked + promise.time);
        if trusted { check(id, promise) } else { Ok(()) }
    }

    /// A client asks for its end.
    pub(super) fn revoking(&mut self, id: i64) {
        if let Some(promise) = self.promises.get_mut(&id) {
            promise.revoked = true;
        }
    }

    /// True if the end of this lease has been seen.
    pub(super) fn is_over(&self, id: i64) -> bool {
        over(self.promises.get(&id))
    }

    /// The replica that is ahead of all has applied something: looks for leases that have ended,
    /// and whether they ended early if clocks can be `trusted`. Answers with how many of them ended
    /// without being revoked.
    pub(super) fn look(&mut self, store: &Store, now: u64, trusted: bool) -> Result<usize, Broken> {
        let mut judged = Ok(());
        let mut ended = 0;
        let promises = &mut self.promises;
        // Both are in order: one walk beside the other, since this is looked at in most turns.
        let mut living = store.leases().map(|(id, _)| id).peekable();
        self.open.retain_mut(|Open { id, seen }| {
            while living.next_if(|living| living < id).is_some() {}
            let lives = living.peek() == Some(id);
            *seen |= lives;
            if lives || !*seen {
                return true;
            }
            let promise = promises.get_mut(id).expect("each open one was asked for");
            promise.ended = Some(now);
            ended += usize::from(!promise.revoked);
            if trusted {
                judged = std::mem::replace(&mut judged, Ok(())).and(check(*id, promise));
            }
            false
        });
        judged.map(|()| ended)
    }
}

fn check(id: i64, promise: &Promise) -> Result<(), Broken> {
    let Some(ended) = promise.ended.filter(|_| !promise.revoked) else { return Ok(()) };
    if ended + tolerance(promise.time) >= promise.until {
        return Ok(());
    }
    let early = (promise.until - ended) / 1_000_000;
    Err(Broken::new("lease", format!("lease {id} ended {early} ms before its time")))
}
