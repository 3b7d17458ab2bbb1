//! What is known of each peer beside its messages, and who may be told of it.
//!
//! **Problem.** A silence takes a while to mean anything, although somebody often knows at once
//! what has become of a peer. What they know must make members ask sooner, and nothing else:
//! whoever lies here must not be able to do more than cause an election now and then.
//!
//! **Idea.** Each clue goes into a file on the peer (`detectors::evidence`), which knows what a
//! clue is worth and of which life of the peer it tells. A life ends, for us, where a connection to
//! or from the next one begins.
//!
//! | clue | seen by | worth |
//! |---|---|---|
//! | connection refused | `peers/link.rs`, from the kernel of the peer | it has ended |
//! | goodbye | `peers/listen.rs`, from the peer, when it stops in order | it has ended |
//! | exited | the supervisor that started it, by [`Supervisor`] | it has ended |
//! | connection reset | `peers/link.rs`, from the kernel or from anybody on the way | dial at once |
//! | unreachable, link down | `peers/link.rs`, from the network | kept and counted |
//!
//! **Guarantees.** A peer is suspected once for each of its lives, whatever is said how often. A
//! notice about a process that ended before the present connection began changes nothing. A
//! suspicion grants nobody anything: the member asks the others whether it could win an election,
//! and those who hear the leader say no. So a lie told to too few members has a question asked. One
//! told to all at once, such as a forged goodbye of the leader to each follower, leaves nobody who
//! hears it, and there *is* an election: an interruption, in which nothing acknowledged is lost. It
//! does not come more often than goodbyes are believed, one of a peer in 5 s; and where reads rest
//! on leases nobody stands or votes before what was promised is over.
//!
//! **Bounds.** A file for each peer; [`NOTICES_MAX`] notices that wait.

use quorate_core::{NodeId, Time};
use quorate_protocols::detectors::evidence::{Evidence, File, Silence, Verdict};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Notices of a supervisor that wait; one more is dropped, and silence tells the same.
const NOTICES_MAX: usize = 64;

/// Between two goodbyes of a peer that are believed. Whoever says hello and goodbye in the name of
/// the leader, again and again, gets no more elections by it; silence tells the same of one who
/// does stop twice in that time.
const GOODBYES_APART: Duration = Duration::from_secs(5);

/// What somebody saw.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Clue {
    /// Its host is there, and nobody listens.
    Refused,
    /// A connection was reset.
    Reset,
    /// It said that it stops.
    Goodbye,
    /// Its supervisor saw it end, then.
    Exited { at: Time },
    /// The network says that it cannot be reached, or nothing is confirmed.
    Unreachable,
    /// A link of ours is down.
    LinkDown,
}

impl Clue {
    /// The names of all kinds, for `/metrics`.
    pub(crate) const KINDS: [&'static str; 6] =
        ["refused", "reset", "goodbye", "exited", "unreachable", "link-down"];

    /// Its place among them.
    pub(crate) fn kind(self) -> usize {
        match self {
            Clue::Refused => 0,
            Clue::Reset => 1,
            Clue::Goodbye => 2,
            Clue::Exited { .. } => 3,
            Clue::Unreachable => 4,
            Clue::LinkDown => 5,
        }
    }

    /// What the failure of a connection tells, if anything.
    pub(crate) fn of_error(error: &std::io::Error) -> Option<Clue> {
        use std::io::ErrorKind as Kind;
        match error.kind() {
            Kind::ConnectionRefused => Some(Clue::Refused),
            Kind::ConnectionReset | Kind::BrokenPipe => Some(Clue::Reset),
            Kind::HostUnreachable | Kind::NetworkUnreachable | Kind::TimedOut => {
                Some(Clue::Unreachable)
            }
            Kind::NetworkDown => Some(Clue::LinkDown),
            _ => None,
        }
    }
}

/// The files on all peers.
#[derive(Debug, Default)]
pub(crate) struct Witness {
    files: Mutex<BTreeMap<NodeId, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    file: File,
    /// Counted by us.
    life: u64,
    /// When we met it.
    met: Time,
    /// When it last said goodbye and was believed.
    goodbye: Option<Time>,
}

impl Witness {
    /// A connection to or from the peer begins: whoever has ended, it is not this process.
    pub(crate) fn met(&self, peer: NodeId, now: Time) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let known = files.entry(peer).or_default();
        known.life += 1;
        known.met = now;
        known.file.heard(known.life);
    }

    /// Somebody saw something. True if the peer is to be suspected for it, and was not.
    pub(crate) fn hear(&self, peer: NodeId, now: Time, clue: Clue) -> bool {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { file, life, met, goodbye } = files.entry(peer).or_default();
        let is_early = |last: Time| now.since(last) < GOODBYES_APART;
        if clue == Clue::Goodbye && goodbye.is_some_and(is_early) {
            return false;
        }
        let evidence = match clue {
            Clue::Refused => Evidence::Refused,
            Clue::Reset => Evidence::Reset,
            Clue::Goodbye => Evidence::Goodbye { life: *life },
            Clue::Exited { at } if at < *met => Evidence::Exited { life: life.saturating_sub(1) },
            Clue::Exited { .. } => Evidence::Exited { life: *life },
            Clue::Unreachable => Evidence::Unreachable,
            Clue::LinkDown => Evidence::LinkDown,
        };
        let before = file.verdict(Silence::Borne);
        file.record(now, evidence);
        // Of one that we have never met nobody expects anything.
        let is_suspected = file.verdict(Silence::Borne) != Verdict::Trusted;
        let is_news = *life > 0 && before == Verdict::Trusted && is_suspected;
        if is_news && clue == Clue::Goodbye {
            *goodbye = Some(now);
        }
        is_news
    }
}

/// A supervisor saw the process of a member end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ExitNotice {
    /// The name of the member.
    pub member: String,
    /// When, on the clock of [`Supervisor::now`]. Unit: time since the machine started.
    pub at: Duration,
}

/// Where the supervisor of this process hands in its notices.
///
/// Who holds it can have this member ask for an election too early, and no more.
#[derive(Clone, Debug)]
pub struct Supervisor {
    sender: mpsc::Sender<ExitNotice>,
}

/// The other end, for [`crate::run`].
#[derive(Debug)]
pub struct Notices {
    receiver: mpsc::Receiver<ExitNotice>,
}

impl Supervisor {
    /// Both ends.
    pub fn new() -> (Supervisor, Notices) {
        let (sender, receiver) = mpsc::channel(NOTICES_MAX);
        (Supervisor { sender }, Notices { receiver })
    }

    /// The clock that all processes of a machine share.
    pub fn now() -> Duration {
        Duration::from_nanos(quorate_drivers::live::monotonic_now().as_nanos())
    }

    /// Hands a notice in. Never blocks: if too many wait, it is dropped.
    pub fn tell(&self, notice: ExitNotice) {
        // Silence will tell the same.
        let _ = self.sender.try_send(notice);
    }
}

impl Notices {
    /// The next one; none if there will be none any more.
    pub(crate) async fn next(&mut self) -> Option<ExitNotice> {
        self.receiver.recv().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(7);

    fn at(seconds: u64) -> Time {
        Time::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn a_peer_is_suspected_once_for_each_of_its_lives() {
        let witness = Witness::default();
        witness.met(PEER, at(1));
        assert!(witness.hear(PEER, at(2), Clue::Refused));
        for clue in [Clue::Refused, Clue::Exited { at: at(2) }, Clue::Goodbye, Clue::Refused] {
            assert!(!witness.hear(PEER, at(3), clue), "{clue:?} is no news");
        }
        witness.met(PEER, at(4));
        assert!(witness.hear(PEER, at(5), Clue::Goodbye), "the next life");
    }

    #[test]
    fn goodbyes_that_follow_each_other_are_not_believed() {
        let witness = Witness::default();
        let mut believed = 0;
        for tenth in 0..200 {
            let now = Time::from_nanos(tenth * 100_000_000);
            witness.met(PEER, now);
            believed += u32::from(witness.hear(PEER, now, Clue::Goodbye));
        }
        assert_eq!(believed, 4, "of 200 in 20 seconds");
    }

    #[test]
    fn a_late_notice_is_about_the_life_before() {
        let witness = Witness::default();
        witness.met(PEER, at(1));
        witness.met(PEER, at(10));
        assert!(!witness.hear(PEER, at(11), Clue::Exited { at: at(9) }));
        assert!(witness.hear(PEER, at(12), Clue::Exited { at: at(11) }));
    }

    #[test]
    fn what_anybody_on_the_way_can_send_is_no_reason() {
        let witness = Witness::default();
        witness.met(PEER, at(1));
        for clue in [Clue::Reset, Clue::Unreachable, Clue::LinkDown] {
            (0..1_000).for_each(|_| assert!(!witness.hear(PEER, at(2), clue), "{clue:?}"));
        }
    }

    #[test]
    fn who_was_never_met_is_not_suspected() {
        let witness = Witness::default();
        assert!(!witness.hear(PEER, at(1), Clue::Refused));
        witness.met(PEER, at(2));
        assert!(witness.hear(PEER, at(3), Clue::Refused));
    }

    #[test]
    fn every_kind_has_a_name_of_its_own() {
        let exited = Clue::Exited { at: at(0) };
        let all = [Clue::Refused, Clue::Reset, Clue::Goodbye, exited, Clue::Unreachable];
        let places: Vec<usize> = all.into_iter().chain([Clue::LinkDown]).map(Clue::kind).collect();
        assert_eq!(places, (0..Clue::KINDS.len()).collect::<Vec<_>>());
    }
}
