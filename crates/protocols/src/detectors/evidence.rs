//! Evidence beyond silence: what the rest of the machine knows, and how much it is worth.
//!
//! **Problem.** A timeout waits, although somebody often knows at once: the kernel of the peer's
//! machine refuses the connection, a supervisor saw the process exit. And some voices are loud and
//! prove nothing: anybody can send an ICMP message.
//!
//! **Idea.** Evidence is weighed by who gives it.
//!
//! | evidence | by whom | worth |
//! |---|---|---|
//! | connection refused | the kernel of the peer: its host lives, nobody listens | taken at once |
//! | exit notice of a life | the supervisor that waited for the process | taken at once, for that life |
//! | goodbye in a life | the peer, which stops in order | taken at once, for that life |
//! | connection reset | the kernel of the peer, or anybody on the way | a hint: worth dialling at once |
//! | host unreachable, link down | routers and cables on the way | a hint: kept, and never enough |
//! | silence beyond the deadline | a detector | taken |
//! | a sign of life of the peer | the peer | ends suspicion, after an end only in a new life |
//!
//! **Guarantees.** Hints alone never change the verdict, however many. A notice about an earlier
//! life changes nothing. What is heard of the peer *after* a piece of evidence outweighs it,
//! because a process can be started again; so the verdict is a suspicion, like that of every
//! detector.
//!
//! **Left out.** Whether a notice is genuine: who hands it in has checked its signature. What a
//! sign of life is: each message may be one; to the members of the service only a new connection
//! is.
//!
//! **Bounds.** [`HINTS_MAX`] hints are kept; the oldest goes first.
//!
//! Source: Leners, Wu, Hung, Aguilera and Walfish, "Detecting Failures in Distributed Systems with
//! the Falcon Spy Network" (2011), for layers of spies; RFC 1122, section 4.2.3.9, for why an ICMP
//! error is soft; RFC 5961, section 3, for how little it takes to reset a connection of others.

use super::{Mutant, Planted};
use quorate_core::Time;
use std::collections::VecDeque;

/// Hints that are kept of a peer.
pub const HINTS_MAX: usize = 16;

/// What is known of a peer, beside what it says.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Evidence {
    /// A connection was refused: the host lives, and nobody listens.
    Refused,
    /// A connection was reset: most likely by the host of a process that has ended.
    Reset,
    /// The supervisor saw that life of the process end.
    Exited {
        /// The life that ended.
        life: u64,
    },
    /// It said that it stops, in that life.
    Goodbye {
        /// The life that ends.
        life: u64,
    },
    /// The network says that it cannot be reached.
    Unreachable,
    /// A link on the way is down.
    LinkDown,
}

impl Evidence {
    /// True if it is a hint: never enough by itself, or with others of its kind.
    pub fn is_hint(self) -> bool {
        matches!(self, Evidence::Reset | Evidence::Unreachable | Evidence::LinkDown)
    }
}

/// Whether a detector bears the silence of the peer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Silence {
    /// It was heard within its deadline.
    Borne,
    /// It was not.
    TooLong,
}

/// What follows from all of it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Trusted.
    Trusted,
    /// Suspected because of this evidence.
    Gone(Evidence),
    /// Suspected because it is silent.
    Silent,
}

/// The file on one peer.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct File {
    /// The newest life that was heard of.
    life: u64,
    gone: Option<(Time, Evidence)>,
    hints: VecDeque<(Time, Evidence)>,
    planted: Planted,
}

impl File {
    /// An empty file with a known mistake in who keeps it.
    #[cfg(any(test, feature = "mutants"))]
    pub fn planted(mutant: Mutant) -> File {
        File { planted: Planted::with(mutant), ..File::default() }
    }

    /// The peer was heard, in that life. A message of an earlier life is no sign of this one.
    pub fn heard(&mut self, life: u64) {
        if life < self.life {
            return;
        }
        // Of a life that has ended something may still be under way: it lives on only if it is
        // another one.
        let ends = |of: Evidence| matches!(of, Evidence::Exited { .. } | Evidence::Goodbye { .. });
        let has_ended = self.gone.is_some_and(|(_, evidence)| ends(evidence));
        if life > self.life || !has_ended {
            self.gone = None;
            self.hints.clear();
        }
        self.life = life;
    }

    /// Somebody else says something about it.
    pub fn record(&mut self, now: Time, evidence: Evidence) {
        let counts_hints = self.planted.is(Mutant::HintSuffices);
        let takes_old = self.planted.is(Mutant::OldExitNoticeTaken);
        match evidence {
            Evidence::Exited { life } | Evidence::Goodbye { life }
                if life < self.life && !takes_old => {}
            Evidence::Exited { life } | Evidence::Goodbye { life } => {
                self.life = self.life.max(life);
                self.gone = Some((now, evidence));
            }
            hint if hint.is_hint() => {
                if self.hints.len() == HINTS_MAX {
                    self.hints.pop_front();
                }
                self.hints.push_back((now, hint));
                if counts_hints {
                    self.gone = Some((now, hint));
                }
            }
            _ => {
                self.gone.get_or_insert((now, evidence));
            }
        }
    }

    /// What follows.
    pub fn verdict(&self, silence: Silence) -> Verdict {
        match (self.gone, silence) {
            (Some((_, evidence)), _) => Verdict::Gone(evidence),
            (None, Silence::TooLong) => Verdict::Silent,
            (None, Silence::Borne) => Verdict::Trusted,
        }
    }

    /// Everything that speaks against the peer, oldest first, for whoever asks why.
    pub fn against(&self) -> Vec<(Time, Evidence)> {
        let mut all: Vec<(Time, Evidence)> = self.hints.iter().copied().chain(self.gone).collect();
        all.sort();
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn a_refused_connection_is_taken_at_once_until_the_peer_is_heard() {
        let mut file = File::default();
        file.heard(1);
        assert_eq!(file.verdict(Silence::Borne), Verdict::Trusted);
        file.record(at(5), Evidence::Refused);
        assert_eq!(file.verdict(Silence::Borne), Verdict::Gone(Evidence::Refused));
        file.heard(1);
        assert_eq!(file.verdict(Silence::Borne), Verdict::Trusted, "it answers after all");
    }

    #[test]
    fn a_goodbye_ends_its_life_and_no_other() {
        let mut file = File::default();
        file.heard(7);
        file.record(at(1), Evidence::Goodbye { life: 6 });
        assert_eq!(file.verdict(Silence::Borne), Verdict::Trusted);
        file.record(at(2), Evidence::Goodbye { life: 7 });
        file.heard(7);
        assert_ne!(file.verdict(Silence::Borne), Verdict::Trusted, "it was under way");
        file.heard(8);
        assert_eq!(file.verdict(Silence::Borne), Verdict::Trusted);
    }

    #[test]
    fn an_exit_notice_ends_its_life_and_no_other() {
        let mut file = File::default();
        file.heard(7);
        file.record(at(1), Evidence::Exited { life: 6 });
        assert_eq!(file.verdict(Silence::Borne), Verdict::Trusted, "replayed, or late");
        file.record(at(2), Evidence::Exited { life: 7 });
        let gone = Verdict::Gone(Evidence::Exited { life: 7 });
        assert_eq!(file.verdict(Silence::Borne), gone);
        file.heard(7);
        assert_eq!(file.verdict(Silence::Borne), gone, "its last message was under way");
        file.heard(8);
        assert_eq!(file.verdict(Silence::Borne), Verdict::Trusted, "a new life");
    }

    #[test]
    fn hints_are_kept_up_to_a_bound_and_never_suffice() {
        let mut file = File::default();
        file.heard(1);
        for forged in 0..1_000 {
            let hints = [Evidence::Unreachable, Evidence::LinkDown, Evidence::Reset];
            let hint = hints[forged as usize % hints.len()];
            file.record(at(forged), hint);
            assert_eq!(file.verdict(Silence::Borne), Verdict::Trusted);
        }
        assert_eq!(file.against().len(), HINTS_MAX);
        assert_eq!(file.against()[0].0, at(1_000 - HINTS_MAX as u64), "the newest are kept");
        assert_eq!(file.verdict(Silence::TooLong), Verdict::Silent);
    }

    /// The planted bugs of this file; the tests above would see them.
    #[test]
    fn who_takes_hints_or_old_notices_is_found_out() {
        let mut rash = File::planted(Mutant::HintSuffices);
        rash.record(at(1), Evidence::Unreachable);
        assert_ne!(rash.verdict(Silence::Borne), Verdict::Trusted);
        let mut gullible = File::planted(Mutant::OldExitNoticeTaken);
        gullible.heard(7);
        gullible.record(at(1), Evidence::Exited { life: 6 });
        assert_ne!(gullible.verdict(Silence::Borne), Verdict::Trusted);
    }
}
