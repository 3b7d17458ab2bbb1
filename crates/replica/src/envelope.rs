//! How a command travels through the log: with the mark of the replica that owes its answer.

use crate::store::{Asked, LeaseTime};
use bytes::{Buf, Bytes};

/// Bytes in front of every command.
const HEADER_BYTES: usize = 16;

/// Numbers the requests of one life of one replica. Never used twice in a life.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ticket(pub u64);

/// One life of one replica, from process start to process end: drawn at random, so that a command
/// which an earlier life had proposed is never taken for the answer to a question of this one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Life(pub u64);

/// Opens an envelope: the caller appends the encoded command.
pub fn seal(life: Life, ticket: Ticket, out: &mut Vec<u8>) {
    out.extend_from_slice(&life.0.to_le_bytes());
    out.extend_from_slice(&ticket.0.to_le_bytes());
}

/// Splits an envelope. None if the bytes are too short to be one.
pub fn open(mut bytes: Bytes) -> Option<(Life, Ticket, Bytes)> {
    if bytes.len() < HEADER_BYTES {
        return None;
    }
    let life = Life(bytes.get_u64_le());
    let ticket = Ticket(bytes.get_u64_le());
    Some((life, ticket, bytes))
}

/// The encoded command inside. None if the bytes are too short to be an envelope.
pub(crate) fn body(sealed: &[u8]) -> Option<&[u8]> {
    sealed.get(HEADER_BYTES..)
}

/// True if the command inside carries a lease clock that the leader has to write.
pub(crate) fn wants_stamp(sealed: &[u8]) -> bool {
    sealed.get(HEADER_BYTES..).is_some_and(Asked::wants_stamp)
}

/// The same envelope with the lease clock in its command.
pub(crate) fn stamped(sealed: Bytes, at: LeaseTime) -> Bytes {
    let mut bytes = Vec::from(sealed);
    Asked::stamp(&mut bytes[HEADER_BYTES..], at);
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_can_be_opened() {
        let mut bytes = Vec::new();
        seal(Life(3), Ticket(9), &mut bytes);
        bytes.extend_from_slice(b"put");
        let opened = open(Bytes::from(bytes));
        assert_eq!(opened, Some((Life(3), Ticket(9), Bytes::from_static(b"put"))));
        assert_eq!(open(Bytes::from_static(b"too short")), None);
    }
}
