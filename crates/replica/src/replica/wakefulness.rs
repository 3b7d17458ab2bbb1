//! Whether this member has been awake: nobody who stood still can tell that a leader was silent.
//!
//! **Problem.** A command may take longer than an election timeout, such as one that deletes a
//! million keys, and so may a stopped process. Afterwards the election timer is due at once,
//! whatever the leader has said meanwhile, and the leader finds that it has heard no quorum. As
//! all members apply the same command at about the same time, a legal request would depose a
//! leader whom nobody misses.
//!
//! **Idea.** The replica has something to do at least every [`TICK`]. If much more time than that
//! passes between two events it stood still, and an election timer is believed only after it has
//! been awake again for as long as a silence counts as the end of the leader.
//!
//! **Guarantees.** Safety does not depend on it: an election may always be late. One that is due
//! is put off [`PUT_OFF_MAX`] times in a row at most, so that members which are slow all the time
//! find a leader all the same.

use super::{Replica, ReplicaMutant};
use crate::lessor::TICK;
use quorate_core::{Context, Protocol, Time};
use quorate_protocols::consensus::raft;
use std::time::Duration;

/// Election timers in a row that are not believed.
const PUT_OFF_MAX: u32 = 3;

/// When this member was awake.
#[derive(Debug)]
pub(super) struct Wakefulness {
    last_event: Time,
    awake_since: Time,
    put_off: u32,
}

impl Wakefulness {
    pub(super) fn new() -> Wakefulness {
        let (last_event, awake_since) = (Time::default(), Time::default());
        Wakefulness { last_event, awake_since, put_off: 0 }
    }

    /// Something happens now, and a silence of `patience` means that the leader is gone.
    pub(super) fn note(&mut self, now: Time, patience: Duration) {
        if now.since(self.last_event) > patience / 2 + TICK {
            if now.since(self.awake_since) > patience * (PUT_OFF_MAX + 1) {
                self.put_off = 0;
            }
            self.awake_since = now;
        }
        self.last_event = now;
    }

    /// An election timer is due. True if it says something about others.
    fn believes(&mut self, now: Time, patience: Duration) -> bool {
        self.note(now, patience);
        let awake = now.since(self.awake_since) >= patience;
        if awake || self.put_off == PUT_OFF_MAX {
            self.put_off = 0;
            return true;
        }
        self.put_off += 1;
        false
    }
}

impl Replica {
    pub(super) fn on_raft_timer(&mut self, timer: raft::Timer, cx: &mut Context<'_, Self>) {
        let patience = self.raft.patience();
        let awake = timer != raft::Timer::Election || self.wakefulness.believes(cx.now, patience);
        if !(awake || self.planted(ReplicaMutant::WakefulnessIgnored)) {
            return self.raft.put_off_election();
        }
        let heard = cx.child(|cx| self.raft.on_timer(timer, cx));
        self.hear(heard, cx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn awake_until(seconds: u64) -> (Wakefulness, Time) {
        let mut wakefulness = Wakefulness::new();
        let mut now = Time::from_nanos(1);
        for _ in 0..seconds * 10 {
            wakefulness.note(now, TIMEOUT);
            now = now.after(TICK);
        }
        (wakefulness, now)
    }

    #[test]
    fn a_timer_is_believed_by_who_was_awake() {
        let (mut wakefulness, now) = awake_until(5);
        assert!(wakefulness.believes(now, TIMEOUT));
        assert!(wakefulness.believes(now.after(TIMEOUT / 2), TIMEOUT));
    }

    #[test]
    fn a_timer_is_not_believed_until_one_was_awake_for_an_election_timeout() {
        let (mut wakefulness, now) = awake_until(5);
        let mut now = now.after(3 * TIMEOUT);
        assert!(!wakefulness.believes(now, TIMEOUT));
        for _ in 0..9 {
            now = now.after(TICK);
            wakefulness.note(now, TIMEOUT);
        }
        assert!(!wakefulness.believes(now, TIMEOUT));
        assert!(wakefulness.believes(now.after(TICK), TIMEOUT));
    }

    #[test]
    fn who_stands_still_again_and_again_believes_it_in_the_end() {
        let (mut wakefulness, mut now) = awake_until(5);
        let mut answers = Vec::new();
        for _ in 0..8 {
            now = now.after(2 * TIMEOUT);
            answers.push(wakefulness.believes(now, TIMEOUT));
        }
        assert_eq!(answers, [false, false, false, true, false, false, false, true]);
    }
}
