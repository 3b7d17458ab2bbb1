//! What a client adds to a command: that it holds a lock, and by which name it will know the
//! command again.
//!
//! **Problem.** Who was paused, or whose message was late, writes after the lock has passed on to
//! somebody else; and who gets no answer does not know whether to write once more. Both are decided
//! only where all writes are put in order.
//!
//! **Idea.** A *guard* travels with the command through the log and is looked at when the command
//! is carried out, by every replica alike.
//!
//! | part | file | effect |
//! |---|---|---|
//! | [`Fence`] | `fence.rs` | the command is refused unless this lock is held with this token |
//! | [`RequestId`] | `requests.rs` | the command takes effect once, however often it is asked for |
//!
//! A command that was carried out before is answered first, then it is looked at whether it is
//! allowed at all: that a first try took effect does not change when the lock is lost after it.
//!
//! ```text
//!   guarded   version u8 = 3, count, then fences: key, token;
//!             0, or 1 and the request id: id, since;
//!             then the command, with or without a caller, as in `auth/bytes.rs` and `codec.rs`
//! ```
//!
//! *Bounds.* [`FENCES_MAX`] fences, [`ID_BYTES_MAX`] bytes of an id; more is not admitted.

mod fence;
mod outcome;
mod requests;

pub use requests::{ID_BYTES_MAX, OUTCOME_BYTES_MAX, REQUEST_AGE_MAX, REQUEST_BYTES, REQUESTS_MAX};
pub(super) use requests::{Kept, Requests, hash, owner};

use super::codec::{Reader, write_bytes, write_number};
use super::{BadCommand, Revision};
use bytes::Bytes;

/// First byte of a command with a guard.
pub(super) const GUARD_VERSION: u8 = 3;

/// Locks that one command may depend on.
pub const FENCES_MAX: usize = 8;

/// A lock that must be held.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fence {
    /// The key of its holder, as locking answered with it.
    pub key: Bytes,
    /// The create revision of that key.
    pub token: Revision,
}

/// The name of a command, by which a client asks for it again.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RequestId {
    /// Given to no other command. Range: 1 to [`ID_BYTES_MAX`] bytes.
    pub id: Bytes,
    /// A revision that the client had seen before it asked for the first time.
    pub since: Revision,
}

/// What a client adds to a command.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Guard {
    /// All of them must hold.
    pub fences: Vec<Fence>,
    /// The command takes effect once.
    pub request: Option<RequestId>,
}

impl Guard {
    /// True if nothing is added.
    pub fn is_empty(&self) -> bool {
        self.fences.is_empty() && self.request.is_none()
    }

    /// Appends what stands before the command: nothing, if nothing is added.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        out.push(GUARD_VERSION);
        write_number(out, self.fences.len() as u64);
        for fence in &self.fences {
            write_bytes(out, &fence.key);
            write_number(out, fence.token.0);
        }
        out.push(u8::from(self.request.is_some()));
        if let Some(request) = &self.request {
            write_bytes(out, &request.id);
            write_number(out, request.since.0);
        }
    }

    /// The guard at the beginning of a command, and the rest.
    ///
    /// Errors: the bytes begin with the mark of a guard and are none.
    pub(super) fn decode(input: Bytes) -> Result<(Guard, Bytes), BadCommand> {
        if input.first() != Some(&GUARD_VERSION) {
            return Ok((Guard::default(), input));
        }
        let mut input = Reader::new(input.slice(1..));
        let fences =
            input.list(|input| Ok(Fence { key: input.bytes()?, token: input.revision()? }))?;
        let request = match input.byte()? {
            0 => None,
            1 => Some(RequestId { id: input.bytes()?, since: input.revision()? }),
            kind => return Err(BadCommand::UnknownKind { kind }),
        };
        Ok((Guard { fences, request }, input.rest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_survives_and_what_is_cut_off_is_refused() {
        let fence = |key: &'static str, token| Fence { key: key.into(), token: Revision(token) };
        let request = Some(RequestId { id: "c-1".into(), since: Revision(300) });
        let guard = Guard { fences: vec![fence("a/1", 7), fence("b/2", 1 << 40)], request };
        let mut bytes = Vec::new();
        guard.encode(&mut bytes);
        let len = bytes.len();
        bytes.extend(*b"command");
        let bytes = Bytes::from(bytes);
        let decoded = Guard::decode(bytes.clone()).expect("it was encoded");
        assert_eq!(decoded, (guard, Bytes::from_static(b"command")));
        for cut in 1..len {
            assert!(Guard::decode(bytes.slice(..cut)).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_command_without_a_guard_is_as_it_was() {
        let mut bytes = Vec::new();
        Guard::default().encode(&mut bytes);
        assert!(bytes.is_empty());
        let command = Bytes::from_static(&[1, 2, 3]);
        assert_eq!(Guard::decode(command.clone()), Ok((Guard::default(), command)));
    }
}
