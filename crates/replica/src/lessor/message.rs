//! What members say to each other about leases, and its bytes.
//!
//! ```text
//!   clock    1, term u64, lease clock u64
//!   asks     2, life u64, then each: ticket u64, kind u8 (1 keep alive, 2 time to live), id i64
//!   answers  3, life u64, then each: ticket u64, left u64, granted u64 (both u64::MAX: gone)
//!   stamp    4, term u64, life u64, batch u64, then each: length u32, envelope
//!   refused  5, term u64, life u64, batch u64, first u32,
//!            why u8 (0 no leader, 1 overloaded, 2 transferring)
//! ```
//!
//! All numbers are little-endian.

use super::{LeaseAnswer, LeaseAsk};
use crate::envelope::{Life, Ticket};
use crate::store::LeaseTime;
use bytes::{Buf, BufMut, Bytes};
use quorate_core::Term;
use quorate_protocols::consensus::raft;

/// Items of one message at most; more travel in several.
pub(super) const ITEMS_MAX: usize = 4_096;

const CLOCK: u8 = 1;
const ASKS: u8 = 2;
const ANSWERS: u8 = 3;
const STAMP: u8 = 4;
const STAMP_REFUSED: u8 = 5;

const KEEP_ALIVE: u8 = 1;
const TIME_TO_LIVE: u8 = 2;
const GONE: u64 = u64::MAX;

/// Between two members.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LeaseMessage {
    /// Of the leader: "my lease clock is at this moment".
    Clock {
        /// The term in which it leads.
        term: Term,
        /// The moment at which it was sent.
        at: LeaseTime,
    },
    /// To the leader: questions of clients.
    Asks {
        /// Of the asking replica.
        life: Life,
        /// The questions.
        asks: Vec<(Ticket, LeaseAsk)>,
    },
    /// Of the leader.
    Answers {
        /// Of the replica that asked.
        life: Life,
        /// The answers, each to the question of its ticket.
        answers: Vec<(Ticket, LeaseAnswer)>,
    },
    /// To the leader: sealed commands, to be proposed with its lease clock in them. As a forward of
    /// the consensus, it is taken once, and only in its term.
    Stamp {
        /// Of the sender.
        term: Term,
        /// The sender's life, as its consensus counts them.
        life: u64,
        /// Number of this message in that life.
        batch: u64,
        /// The commands.
        envelopes: Vec<Bytes>,
    },
    /// Of the leader: it does not propose these commands, and nobody else will.
    StampRefused {
        /// As in the message.
        term: Term,
        /// As in the message.
        life: u64,
        /// As in the message.
        batch: u64,
        /// Place of the first command that is refused, as are all after it. From 0.
        first: u32,
        /// The reason.
        why: raft::Refusal,
    },
}

impl LeaseMessage {
    /// Appends the encoded message.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            LeaseMessage::Clock { term, at } => {
                out.put_u8(CLOCK);
                out.put_u64_le(term.0);
                out.put_u64_le(at.0);
            }
            LeaseMessage::Asks { life, asks } => {
                out.put_u8(ASKS);
                out.put_u64_le(life.0);
                for (ticket, ask) in asks {
                    let (kind, id) = match *ask {
                        LeaseAsk::KeepAlive { id } => (KEEP_ALIVE, id),
                        LeaseAsk::TimeToLive { id } => (TIME_TO_LIVE, id),
                    };
                    out.put_u64_le(ticket.0);
                    out.put_u8(kind);
                    out.put_i64_le(id);
                }
            }
            LeaseMessage::Answers { life, answers } => {
                out.put_u8(ANSWERS);
                out.put_u64_le(life.0);
                for (ticket, answer) in answers {
                    let (left, granted) = match *answer {
                        LeaseAnswer::Gone => (GONE, GONE),
                        LeaseAnswer::Lives { left, granted } => (left, granted),
                    };
                    out.put_u64_le(ticket.0);
                    out.put_u64_le(left);
                    out.put_u64_le(granted);
                }
            }
            LeaseMessage::Stamp { term, life, batch, envelopes } => {
                out.put_u8(STAMP);
                [term.0, *life, *batch].into_iter().for_each(|number| out.put_u64_le(number));
                for envelope in envelopes {
                    let length = u32::try_from(envelope.len());
                    out.put_u32_le(length.expect("a grant is a few bytes"));
                    out.put_slice(envelope);
                }
            }
            LeaseMessage::StampRefused { term, life, batch, first, why } => {
                out.put_u8(STAMP_REFUSED);
                [term.0, *life, *batch].into_iter().for_each(|number| out.put_u64_le(number));
                out.put_u32_le(*first);
                out.put_u8(match why {
                    raft::Refusal::NoLeader => 0,
                    raft::Refusal::Overloaded => 1,
                    raft::Refusal::Transferring => 2,
                });
            }
        }
    }

    /// The message that was encoded. Errors: what is wrong with the bytes.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<LeaseMessage, &'static str> {
        const SHORT: &str = "a message about leases that ends too early";
        let kind = bytes.try_get_u8().map_err(|_| SHORT)?;
        let word = |bytes: &mut Bytes| bytes.try_get_u64_le().map_err(|_| SHORT);
        match kind {
            CLOCK => {
                let (term, at) = (Term(word(&mut bytes)?), LeaseTime(word(&mut bytes)?));
                match bytes.is_empty() {
                    true => Ok(LeaseMessage::Clock { term, at }),
                    false => Err("a lease clock of the wrong length"),
                }
            }
            ASKS => {
                let life = Life(word(&mut bytes)?);
                let mut asks = Vec::with_capacity(bytes.len() / 17);
                while !bytes.is_empty() {
                    let ticket = Ticket(word(&mut bytes)?);
                    let kind = bytes.try_get_u8().map_err(|_| SHORT)?;
                    let id = word(&mut bytes)? as i64;
                    asks.push(match kind {
                        KEEP_ALIVE => (ticket, LeaseAsk::KeepAlive { id }),
                        TIME_TO_LIVE => (ticket, LeaseAsk::TimeToLive { id }),
                        _ => return Err("an unknown question about a lease"),
                    });
                }
                Ok(LeaseMessage::Asks { life, asks })
            }
            ANSWERS => {
                let life = Life(word(&mut bytes)?);
                let mut answers = Vec::with_capacity(bytes.len() / 24);
                while !bytes.is_empty() {
                    let ticket = Ticket(word(&mut bytes)?);
                    let (left, granted) = (word(&mut bytes)?, word(&mut bytes)?);
                    answers.push(match (left, granted) {
                        (GONE, GONE) => (ticket, LeaseAnswer::Gone),
                        _ => (ticket, LeaseAnswer::Lives { left, granted }),
                    });
                }
                Ok(LeaseMessage::Answers { life, answers })
            }
            STAMP => {
                let (term, life) = (Term(word(&mut bytes)?), word(&mut bytes)?);
                let batch = word(&mut bytes)?;
                let mut envelopes = Vec::new();
                while !bytes.is_empty() {
                    let length = bytes.try_get_u32_le().map_err(|_| SHORT)? as usize;
                    if length > bytes.len() {
                        return Err(SHORT);
                    }
                    envelopes.push(bytes.split_to(length));
                }
                Ok(LeaseMessage::Stamp { term, life, batch, envelopes })
            }
            STAMP_REFUSED => {
                let (term, life) = (Term(word(&mut bytes)?), word(&mut bytes)?);
                let batch = word(&mut bytes)?;
                let first = bytes.try_get_u32_le().map_err(|_| SHORT)?;
                let why = reason_of(bytes.try_get_u8().map_err(|_| SHORT)?)?;
                match bytes.is_empty() {
                    true => Ok(LeaseMessage::StampRefused { term, life, batch, first, why }),
                    false => Err("a refusal of grants of the wrong length"),
                }
            }
            _ => Err("an unknown message about leases"),
        }
    }
}

/// Why a grant is refused, by its number on the wire.
fn reason_of(code: u8) -> Result<raft::Refusal, &'static str> {
    match code {
        0 => Ok(raft::Refusal::NoLeader),
        1 => Ok(raft::Refusal::Overloaded),
        2 => Ok(raft::Refusal::Transferring),
        _ => Err("an unknown reason to refuse a grant"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(message: &LeaseMessage) -> Bytes {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        Bytes::from(bytes)
    }

    fn message() -> impl Strategy<Value = LeaseMessage> {
        let ask = (any::<u64>(), any::<bool>(), any::<i64>()).prop_map(|(ticket, keep, id)| {
            let ask = if keep { LeaseAsk::KeepAlive { id } } else { LeaseAsk::TimeToLive { id } };
            (Ticket(ticket), ask)
        });
        let answer = (any::<u64>(), any::<Option<(u32, u64)>>()).prop_map(|(ticket, lives)| {
            let lives =
                lives.map(|(left, granted)| LeaseAnswer::Lives { left: u64::from(left), granted });
            (Ticket(ticket), lives.unwrap_or(LeaseAnswer::Gone))
        });
        let envelope = proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
        let why = prop_oneof![
            Just(raft::Refusal::NoLeader),
            Just(raft::Refusal::Overloaded),
            Just(raft::Refusal::Transferring),
        ];
        prop_oneof![
            any::<(u64, u64)>()
                .prop_map(|(term, at)| LeaseMessage::Clock { term: Term(term), at: LeaseTime(at) }),
            (any::<u64>(), proptest::collection::vec(ask, 0..20))
                .prop_map(|(life, asks)| LeaseMessage::Asks { life: Life(life), asks }),
            (any::<u64>(), proptest::collection::vec(answer, 0..20))
                .prop_map(|(life, answers)| LeaseMessage::Answers { life: Life(life), answers }),
            (any::<[u64; 3]>(), proptest::collection::vec(envelope, 0..20)).prop_map(
                |([term, life, batch], envelopes)| {
                    LeaseMessage::Stamp { term: Term(term), life, batch, envelopes }
                }
            ),
            (any::<[u64; 3]>(), any::<u32>(), why).prop_map(|([term, life, batch], first, why)| {
                LeaseMessage::StampRefused { term: Term(term), life, batch, first, why }
            }),
        ]
    }

    proptest! {
        #[test]
        fn every_message_comes_back(message in message()) {
            prop_assert_eq!(LeaseMessage::decode(encoded(&message)), Ok(message));
        }

        #[test]
        fn arbitrary_bytes_never_panic(
            kind in 0_u8..7,
            rest in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let bytes = Bytes::from([&[kind], &rest[..]].concat());
            if let Ok(message) = LeaseMessage::decode(bytes.clone()) {
                prop_assert_eq!(encoded(&message), bytes);
            }
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&[][..], &[9], &[CLOCK, 1], &[ASKS], &[STAMP, 9, 0, 0, 0, 1]] {
            assert!(LeaseMessage::decode(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
        let mut asks = encoded(&LeaseMessage::Asks { life: Life(1), asks: Vec::new() }).to_vec();
        asks.extend([0; 8]);
        asks.push(3);
        asks.extend([0; 8]);
        let bad = LeaseMessage::decode(Bytes::from(asks));
        assert_eq!(bad, Err("an unknown question about a lease"));
    }
}
