//! Asking a server for the time, over and over, without being a burden.
//!
//! **Idea.** The first questions follow each other fast, then one every [`POLL_MIN`] to
//! [`POLL_MAX`], with jitter, so that members that were started together do not ask together. Each
//! question leaves from a socket of its own: who wants to answer in the server's place must guess
//! port and number (see [`super::ntp`]).
//!
//! **Kiss-o'-death.** `RATE` doubles the time between questions, for good. `DENY` and `RSTR` end
//! them until the member is started again. RFC 5905, section 7.4.
//!
//! **Bounds.** [`ANSWER_WITHIN`] per question; [`STRANGERS_MAX`] packets that do not answer it.

use super::Timekeeper;
use super::ntp::{self, Answer, Kiss, PACKET_BYTES, Unusable};
use super::source::TimeSource;
use crate::identity::random;
use quorate_core::Time;
use quorate_drivers::live::monotonic_now;
use quorate_protocols::time::exchange::Exchange;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UdpSocket, lookup_host};
use tokio::time::{sleep, timeout};

/// Between the first questions.
const POLL_FIRST: Duration = Duration::from_secs(2);
/// So many of them.
const FIRST_QUESTIONS: u32 = 4;
/// Between two questions, at least,
const POLL_MIN: Duration = Duration::from_secs(16);
/// and at most, unless the server asks for more.
pub(super) const POLL_MAX: Duration = Duration::from_secs(64);
/// However often a server says that it is asked too often, it is asked once in this time.
const POLL_RATED_MAX: Duration = Duration::from_secs(1_024);
/// An answer comes within this time, or not at all.
const ANSWER_WITHIN: Duration = Duration::from_millis(1_500);
/// Packets that are looked at for one answer.
const STRANGERS_MAX: u32 = 16;
/// Room for a packet with extensions.
const DATAGRAM_BYTES: usize = 1_024;

/// What became of the last question.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) enum Asked {
    /// It was not asked yet, or is being asked.
    #[default]
    NotYet,
    /// It has answered.
    Answered,
    /// It could not be reached.
    Unreachable {
        /// Why not.
        why: String,
    },
    /// It said nothing that is of use.
    Refused {
        /// Why not.
        why: String,
    },
    /// It is not asked any more.
    GivenUp {
        /// Why not.
        why: String,
    },
}

/// What is known of one server.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct ServerLog {
    /// The last question.
    pub(super) asked: Asked,
    /// Packets that did not answer what was asked.
    pub(super) strangers: u64,
}

/// Why a question had no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// The name is not known, or the socket failed.
    Io(io::Error),
    /// Nothing came.
    Silence,
    /// What came is of no use.
    Unusable(Unusable),
}

impl From<io::Error> for NoAnswer {
    fn from(error: io::Error) -> NoAnswer {
        NoAnswer::Io(error)
    }
}

/// When the next question is due.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Pace {
    first: u32,
    interval: Duration,
    least: Duration,
}

impl Pace {
    fn new() -> Pace {
        Pace { first: FIRST_QUESTIONS, interval: POLL_MIN, least: POLL_MIN }
    }

    /// After an answer: less and less often.
    fn answered(&mut self) -> Duration {
        if self.first > 1 {
            self.first -= 1;
            return POLL_FIRST;
        }
        let due = self.interval;
        self.interval = (self.interval * 2).min(POLL_MAX).max(self.least);
        due
    }

    /// After silence: as often as is decent.
    fn failed(&mut self) -> Duration {
        self.first = self.first.saturating_sub(1);
        self.interval = self.least;
        if self.first > 0 { POLL_FIRST } else { self.interval }
    }

    /// After `RATE`.
    fn slower(&mut self) -> Duration {
        self.first = 0;
        self.least = (self.least * 2).min(POLL_RATED_MAX);
        self.interval = self.interval.max(self.least);
        self.interval
    }
}

/// A duration and up to a quarter of it: never less than the server asked for.
fn jittered(interval: Duration) -> Duration {
    // Without randomness the jitter is missed, and nothing else.
    let share = random().unwrap_or(0) >> 32;
    interval + (interval / 4).mul_f64(share as f64 / (1_u64 << 32) as f64)
}

/// Asks until the member ends, or the server does not want it.
pub(super) async fn ask_forever(keeper: Arc<Timekeeper>, number: u16, source: TimeSource) {
    let mut pace = Pace::new();
    let mut address = None;
    loop {
        let asked = ask(&source, &mut address).await;
        let strangers = asked.1;
        let due = match asked.0 {
            Ok(exchange) => {
                keeper.exchanged(number, exchange, strangers);
                pace.answered()
            }
            Err(why) => {
                address = None;
                let (told, due) = judge(why, &mut pace);
                let is_over = due.is_none();
                keeper.not_answered(number, told, strangers);
                if is_over {
                    return;
                }
                due.unwrap_or(POLL_MAX)
            }
        };
        tokio::select! {
            () = sleep(jittered(due)) => {}
            () = keeper.disrupted() => {}
        }
    }
}

/// What to say of a question without an answer, and when to ask again, if at all.
fn judge(why: NoAnswer, pace: &mut Pace) -> (Asked, Option<Duration>) {
    match why {
        NoAnswer::Unusable(why @ Unusable::Kiss(kiss)) => match kiss {
            Kiss::Deny | Kiss::Restrict => {
                let why = format!("{why}; not asked any more, leave this --time-source out");
                (Asked::GivenUp { why }, None)
            }
            Kiss::Rate => (Asked::Refused { why: why.to_string() }, Some(pace.slower())),
            Kiss::Other(_) => (Asked::Refused { why: why.to_string() }, Some(pace.failed())),
        },
        NoAnswer::Unusable(why) => (Asked::Refused { why: why.to_string() }, Some(pace.failed())),
        NoAnswer::Silence => {
            let why = format!("no answer within {ANSWER_WITHIN:?}");
            (Asked::Unreachable { why }, Some(pace.failed()))
        }
        NoAnswer::Io(error) => (Asked::Unreachable { why: error.to_string() }, Some(pace.failed())),
    }
}

/// One question. Also says how many packets came that did not answer it.
async fn ask(
    source: &TimeSource,
    address: &mut Option<SocketAddr>,
) -> (Result<Exchange, NoAnswer>, u64) {
    let mut strangers = 0;
    let told = match resolve(source, address).await {
        Ok(server) => exchange(server, &mut strangers).await,
        Err(error) => Err(NoAnswer::Io(error)),
    };
    (told, strangers)
}

async fn resolve(source: &TimeSource, known: &mut Option<SocketAddr>) -> io::Result<SocketAddr> {
    if let Some(address) = known {
        return Ok(*address);
    }
    let looked_up = timeout(ANSWER_WITHIN, lookup_host((source.host(), source.port())));
    let mut found = looked_up.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let nobody = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let address = found.next().ok_or_else(nobody)?;
    *known = Some(address);
    Ok(address)
}

/// Asks a server once.
pub(super) async fn exchange(
    server: SocketAddr,
    strangers: &mut u64,
) -> Result<Exchange, NoAnswer> {
    let local: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(local).await?;
    socket.connect(server).await?;
    let nonce = random()?;
    let sent = monotonic_now();
    socket.send(&ntp::question(nonce)).await?;
    let answer = timeout(ANSWER_WITHIN, receive(&socket, nonce, strangers)).await;
    let (Answer { received, answered, error }, arrived) =
        answer.map_err(|_| NoAnswer::Silence)??;
    Ok(Exchange { sent, received, answered, arrived, error })
}

async fn receive(
    socket: &UdpSocket,
    nonce: u64,
    strangers: &mut u64,
) -> Result<(Answer, Time), NoAnswer> {
    let mut packet = [0; DATAGRAM_BYTES];
    for _ in 0..STRANGERS_MAX {
        let bytes = socket.recv(&mut packet).await?;
        let arrived = monotonic_now();
        match ntp::answer(&packet[..bytes], nonce) {
            Ok(answer) => return Ok((answer, arrived)),
            Err(why @ (Unusable::NotOurs | Unusable::Mode { .. } | Unusable::Short { .. })) => {
                tracing::debug!(bytes, %why, least = PACKET_BYTES, "not the answer of the server");
                *strangers += 1;
            }
            Err(why) => return Err(NoAnswer::Unusable(why)),
        }
    }
    Err(NoAnswer::Unusable(Unusable::NotOurs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_become_rare_and_rarer_when_the_server_asks_for_it() {
        let mut pace = Pace::new();
        let due: Vec<u64> = (0..7).map(|_| pace.answered().as_secs()).collect();
        assert_eq!(due, [2, 2, 2, 16, 32, 64, 64]);
        assert_eq!(pace.failed().as_secs(), 16);
        let due: Vec<u64> = (0..8).map(|_| pace.slower().as_secs()).collect();
        assert_eq!(due, [32, 64, 128, 256, 512, 1_024, 1_024, 1_024]);
        assert_eq!(pace.answered().as_secs(), 1_024, "it is asked less often for good");
        assert_eq!(pace.failed().as_secs(), 1_024);
    }

    #[test]
    fn who_wants_to_be_asked_less_often_or_never_is() {
        let kiss = |kiss, pace: &mut Pace| {
            let (asked, due) = judge(NoAnswer::Unusable(Unusable::Kiss(kiss)), pace);
            (matches!(asked, Asked::GivenUp { .. }), due.map(|due| due.as_secs()))
        };
        let mut pace = Pace::new();
        assert_eq!(kiss(Kiss::Rate, &mut pace), (false, Some(32)));
        assert_eq!(kiss(Kiss::Rate, &mut pace), (false, Some(64)));
        assert_eq!(kiss(Kiss::Other(*b"INIT"), &mut pace), (false, Some(64)));
        assert_eq!(pace.answered().as_secs(), 64, "it is not asked more often again");
        for never in [Kiss::Deny, Kiss::Restrict] {
            assert_eq!(kiss(never, &mut pace), (true, None));
        }
    }

    #[test]
    fn jitter_is_up_to_a_quarter_more() {
        let second = Duration::from_secs(1);
        let drawn: Vec<Duration> = (0..200).map(|_| jittered(second)).collect();
        assert!(drawn.iter().all(|due| (second..=second * 5 / 4).contains(due)));
        assert!(drawn.iter().any(|due| *due < second * 9 / 8));
        assert!(drawn.iter().any(|due| *due > second * 9 / 8));
    }
}
