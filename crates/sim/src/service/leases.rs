//! What clients were promised about leases.
//!
//! A lease lives at least until its time has passed since its last answered keep-alive was sent, or
//! since its grant was asked for. That is measured in true time, which nobody but the simulator
//! knows, and allows for the drift that clocks may have. When a clock was off by more than that in
//! this run, nothing was promised and nothing is checked: the promise rests on the bound.
//!
//! What does not rest on clocks is judged in every run: who asks about a lease that lives is not
//! told that it is gone, and one that is gone is not kept alive. That all keys of a lease end with
//! it, at one revision, is judged by [`super::truth`].
//!
//! [`quorate_check::guarantees::lease`] says the same of histories that were recorded elsewhere: it
//! takes the end of a lease from what clients saw, in the order in which they saw it, on one clock.
//! Here an answer may be judged after the end that it promised against, the end is the entry of the
//! log, and clocks drift; so the two share the rule and no code.
//!
//! Source: Gray and Cheriton, "Leases" (1989).

use quorate_drivers::simulate::Broken;
use std::collections::BTreeMap;

/// One part in a thousand for drift, and one millisecond for rounding.
fn tolerance(time: u64) -> u64 {
    time / 1_000 + 1_000_000
}

/// Whether the clocks of this run kept their bound so far.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Clocks {
    /// They did.
    Trusted,
    /// One did not: no time is promised.
    Astray,
}

/// How a lease ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// A client asked for it.
    Revoked,
    /// A leader found that its time was over.
    Expired,
}

/// One lease. All times are true. Unit: nanoseconds.
#[derive(Debug, Default)]
struct Promise {
    until: u64,
    /// The time to live that was promised last.
    time: u64,
    /// A replica had it then.
    began: Option<u64>,
    ended: Option<(u64, End)>,
}

/// All leases that began, or were promised to have begun.
#[derive(Debug, Default)]
pub(super) struct Leases {
    promises: BTreeMap<i64, Promise>,
}

fn broken(why: String) -> Broken {
    Broken::new("lease", why)
}

impl Leases {
    /// A replica has granted it.
    pub(super) fn began(&mut self, id: i64, now: u64) {
        self.promises.entry(id).or_default().began.get_or_insert(now);
    }

    /// A replica has ended it.
    ///
    /// Errors: by itself, and before its time.
    pub(super) fn ended(
        &mut self,
        id: i64,
        now: u64,
        end: End,
        clocks: Clocks,
    ) -> Result<(), Broken> {
        let promise = self.promises.entry(id).or_default();
        promise.ended.get_or_insert((now, end));
        check(id, promise, clocks)
    }

    /// A grant was answered that was asked for at `asked`.
    ///
    /// Errors: it has ended by itself, and before the time that it promises.
    pub(super) fn granted(
        &mut self,
        id: i64,
        asked: u64,
        ttl: u64,
        clocks: Clocks,
    ) -> Result<(), Broken> {
        self.promise(id, asked, ttl * 1_000_000_000, clocks)
    }

    /// A keep-alive that was sent at `asked` was answered: it lives for `left` milliseconds.
    ///
    /// Errors: as for [`Leases::granted`]; it had ended when it was asked about.
    pub(super) fn renewed(
        &mut self,
        id: i64,
        asked: u64,
        left: u64,
        clocks: Clocks,
    ) -> Result<(), Broken> {
        let ended = self.promises.get(&id).and_then(|promise| promise.ended);
        if ended.is_some_and(|(ended, _)| ended < asked) {
            return Err(broken(format!("lease {id} had ended, and is kept alive")));
        }
        self.promise(id, asked, left * 1_000_000, clocks)
    }

    /// Somebody who asked at `asked` was told that there is no such lease.
    ///
    /// Errors: there was one all the time.
    pub(super) fn gone(&self, id: i64, asked: u64) -> Result<(), Broken> {
        let Some(promise) = self.promises.get(&id) else { return Ok(()) };
        let lived = promise.began.is_some_and(|began| began < asked);
        match lived && promise.ended.is_none() {
            true => Err(broken(format!("lease {id} is said to be gone, and lives"))),
            false => Ok(()),
        }
    }

    fn promise(&mut self, id: i64, asked: u64, time: u64, clocks: Clocks) -> Result<(), Broken> {
        let promise = self.promises.entry(id).or_default();
        promise.time = time;
        promise.until = promise.until.max(asked + time);
        check(id, promise, clocks)
    }
}

fn check(id: i64, promise: &Promise, clocks: Clocks) -> Result<(), Broken> {
    let Some((ended, End::Expired)) = promise.ended else { return Ok(()) };
    if clocks == Clocks::Astray || ended + tolerance(promise.time) >= promise.until {
        return Ok(());
    }
    let early = (promise.until - ended) / 1_000_000;
    Err(broken(format!("lease {id} ended {early} ms before its time")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn leases() -> Leases {
        let mut leases = Leases::default();
        leases.began(7, SECOND);
        leases.granted(7, SECOND, 2, Clocks::Trusted).expect("it lives");
        leases
    }

    #[test]
    fn it_ends_by_itself_when_its_time_is_over_and_not_before() {
        let end = |at: u64, clocks| leases().ended(7, at, End::Expired, clocks);
        end(3 * SECOND, Clocks::Trusted).expect("its time is over");
        end(2 * SECOND, Clocks::Trusted).expect_err("a second early");
        end(2 * SECOND, Clocks::Astray).expect("no clock was right");
        leases().ended(7, 2 * SECOND, End::Revoked, Clocks::Trusted).expect("asked for");
    }

    #[test]
    fn an_answer_that_comes_after_the_end_is_judged_by_it() {
        for (clocks, holds) in [(Clocks::Trusted, false), (Clocks::Astray, true)] {
            let mut leases = Leases::default();
            leases.began(7, SECOND);
            leases.ended(7, 2 * SECOND, End::Expired, clocks).expect("nothing is promised yet");
            assert_eq!(leases.granted(7, SECOND, 2, clocks).is_ok(), holds, "{clocks:?}");
        }
    }

    #[test]
    fn what_lives_is_not_gone_and_what_is_gone_is_not_kept_alive() {
        leases().gone(7, 2 * SECOND).expect_err("it lives");
        leases().gone(7, SECOND).expect("it may have begun after the question");
        leases().gone(8, 2 * SECOND).expect("nobody granted it");
        let mut over = leases();
        over.ended(7, 3 * SECOND, End::Expired, Clocks::Trusted).expect("in time");
        over.gone(7, 2 * SECOND).expect("it is");
        over.renewed(7, 2 * SECOND, 2_000, Clocks::Astray).expect("asked before its end");
        over.renewed(7, 4 * SECOND, 2_000, Clocks::Astray).expect_err("asked after its end");
    }
}
