//! The bytes of a question about the time between members, and of its answer.
//!
//! ```text
//!   0     1         9          17         25        33
//!   +-----+---------+----------+----------+---------+
//!   |kind | ticket  | received | answered | error   |   all little-endian
//!   +-----+---------+----------+----------+---------+
//! ```
//!
//! Kind 1 asks and 3 says that there is no clock: they end after the ticket. Kind 2 answers; wall
//! times are signed nanoseconds since 1970, the error is in nanoseconds.

use bytes::{Buf, Bytes};
use quorate_core::WallTime;
use quorate_protocols::time::synchronizer::Message;
use std::time::Duration;

const ASK: u8 = 1;
const ANSWER: u8 = 2;
const NO_CLOCK: u8 = 3;

/// Appends the bytes of a message.
pub(crate) fn encode(message: &Message, out: &mut Vec<u8>) {
    let (kind, ticket) = match message {
        Message::Ask { ticket } => (ASK, ticket),
        Message::Answer { ticket, .. } => (ANSWER, ticket),
        Message::NoClock { ticket } => (NO_CLOCK, ticket),
    };
    out.push(kind);
    out.extend_from_slice(&ticket.to_le_bytes());
    if let Message::Answer { received, answered, error, .. } = message {
        out.extend_from_slice(&received.as_nanos().to_le_bytes());
        out.extend_from_slice(&answered.as_nanos().to_le_bytes());
        let error = u64::try_from(error.as_nanos()).unwrap_or(u64::MAX);
        out.extend_from_slice(&error.to_le_bytes());
    }
}

/// The message, if the bytes are one.
pub(crate) fn decode(mut payload: Bytes) -> Option<Message> {
    if payload.len() < 9 {
        return None;
    }
    let (kind, ticket) = (payload.get_u8(), payload.get_u64_le());
    match (kind, payload.len()) {
        (ASK, 0) => Some(Message::Ask { ticket }),
        (NO_CLOCK, 0) => Some(Message::NoClock { ticket }),
        (ANSWER, 24) => Some(Message::Answer {
            ticket,
            received: WallTime::from_nanos(payload.get_i64_le()),
            answered: WallTime::from_nanos(payload.get_i64_le()),
            error: Duration::from_nanos(payload.get_u64_le()),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn messages() -> impl Strategy<Value = Message> {
        let answer = (any::<u64>(), any::<i64>(), any::<i64>(), any::<u64>()).prop_map(
            |(ticket, received, answered, error)| Message::Answer {
                ticket,
                received: WallTime::from_nanos(received),
                answered: WallTime::from_nanos(answered),
                error: Duration::from_nanos(error),
            },
        );
        prop_oneof![
            any::<u64>().prop_map(|ticket| Message::Ask { ticket }),
            any::<u64>().prop_map(|ticket| Message::NoClock { ticket }),
            answer,
        ]
    }

    proptest! {
        #[test]
        fn a_message_is_read_as_it_was_written(message in messages()) {
            let mut bytes = Vec::new();
            encode(&message, &mut bytes);
            prop_assert_eq!(decode(bytes.into()), Some(message));
        }

        #[test]
        fn any_bytes_are_a_message_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(message) = decode(bytes.clone().into()) {
                let mut again = Vec::new();
                encode(&message, &mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
