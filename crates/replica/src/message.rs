//! What replicas say to each other, and its bytes.

use crate::envelope::{Life, Ticket};
use crate::lessor::LeaseMessage;
use crate::members::MembersError;
use bytes::{Buf, BufMut, Bytes};
use quorate_core::Index;
use quorate_protocols::consensus::raft;

/// Between two replicas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Message {
    /// Of the consensus.
    Raft(raft::Message),
    /// About leases.
    Lease(LeaseMessage),
    /// Of a replica to itself: apply what is committed. Never leaves the node.
    Apply,
    /// "After applying the log up to `at`, my state has this digest."
    Digest {
        /// Last entry that the digest covers.
        at: Index,
        /// Digest of everything that was applied so far.
        digest: u64,
    },
    /// To the leader: a sealed change of members, to be looked at and proposed.
    Vet {
        /// As the asking replica sealed it.
        envelope: Bytes,
    },
    /// Of the leader: such a change was not proposed, and never will be.
    Vetoed {
        /// Of the replica that asked.
        life: Life,
        /// Of the change.
        ticket: Ticket,
        /// Why.
        why: MembersError,
    },
}

impl From<raft::Message> for Message {
    fn from(message: raft::Message) -> Message {
        Message::Raft(message)
    }
}

/// Bytes that are no message of ours.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadMessage {
    /// What is wrong with them.
    pub reason: &'static str,
}

impl std::fmt::Display for BadMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.reason)
    }
}

impl std::error::Error for BadMessage {}

const KIND_RAFT: u8 = 1;
const KIND_DIGEST: u8 = 2;
const KIND_LEASE: u8 = 3;
const KIND_VET: u8 = 4;
const KIND_VETOED: u8 = 5;

impl Message {
    /// Appends the encoded message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Raft(message) => {
                out.put_u8(KIND_RAFT);
                raft::codec::encode(message, out);
            }
            Message::Lease(message) => {
                out.put_u8(KIND_LEASE);
                message.encode(out);
            }
            Message::Apply => unreachable!("a message to oneself does not leave the node"),
            Message::Digest { at, digest } => {
                out.put_u8(KIND_DIGEST);
                out.put_u64_le(at.0);
                out.put_u64_le(*digest);
            }
            Message::Vet { envelope } => {
                out.put_u8(KIND_VET);
                out.extend_from_slice(envelope);
            }
            Message::Vetoed { life, ticket, why } => {
                out.put_u8(KIND_VETOED);
                out.put_u64_le(life.0);
                out.put_u64_le(ticket.0);
                let place = MembersError::ALL.iter().position(|one| one == why);
                out.put_u8(place.expect("every reason is listed") as u8);
            }
        }
    }

    /// The message that was encoded. Payloads of entries share `bytes`.
    ///
    /// Errors: the bytes are no message; never panics.
    pub fn decode(mut bytes: Bytes) -> Result<Message, BadMessage> {
        if bytes.is_empty() {
            return Err(BadMessage { reason: "an empty message" });
        }
        match bytes.get_u8() {
            KIND_RAFT => {
                let message = raft::codec::decode(bytes);
                message.map(Message::Raft).map_err(|bad| BadMessage { reason: bad.reason() })
            }
            KIND_LEASE => {
                let message = LeaseMessage::decode(bytes);
                message.map(Message::Lease).map_err(|reason| BadMessage { reason })
            }
            KIND_DIGEST if bytes.len() == 16 => {
                let at = Index(bytes.get_u64_le());
                Ok(Message::Digest { at, digest: bytes.get_u64_le() })
            }
            KIND_DIGEST => Err(BadMessage { reason: "a digest of the wrong length" }),
            KIND_VET => Ok(Message::Vet { envelope: bytes }),
            KIND_VETOED if bytes.len() == 17 => {
                let (life, ticket) = (Life(bytes.get_u64_le()), Ticket(bytes.get_u64_le()));
                let why = MembersError::ALL.get(usize::from(bytes.get_u8()));
                let why = *why.ok_or(BadMessage { reason: "a veto for no known reason" })?;
                Ok(Message::Vetoed { life, ticket, why })
            }
            KIND_VETOED => Err(BadMessage { reason: "a veto of the wrong length" }),
            _ => Err(BadMessage { reason: "an unknown kind of message" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::LeaseTime;
    use quorate_core::Term;

    #[test]
    fn a_digest_survives_the_wire() {
        let message = Message::Digest { at: Index(64), digest: 7 };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(Bytes::from(bytes)), Ok(message));
    }

    #[test]
    fn a_message_about_leases_survives_the_wire() {
        let clock = LeaseMessage::Clock { term: Term(3), at: LeaseTime(5) };
        let message = Message::Lease(clock);
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(Message::decode(Bytes::from(bytes)), Ok(message));
    }

    #[test]
    fn a_change_of_members_and_its_veto_survive_the_wire() {
        let vetoes = MembersError::ALL.map(|why| {
            let (life, ticket) = (Life(3), Ticket(4));
            Message::Vetoed { life, ticket, why }
        });
        let vet = Message::Vet { envelope: Bytes::from_static(b"sealed") };
        for message in vetoes.into_iter().chain([vet]) {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(Message::decode(Bytes::from(bytes)), Ok(message));
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [&[][..], &[0], &[9, 9], &[KIND_DIGEST, 1], &[KIND_RAFT], &[KIND_LEASE]] {
            assert!(Message::decode(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
        }
    }
}
