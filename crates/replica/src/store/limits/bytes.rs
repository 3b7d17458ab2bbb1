//! Rules as bytes, in the log and in a checkpoint.
//!
//! ```text
//!   command   13, then 1 set: rule, or 2 remove: name
//!   rule      name, user, prefix, then optional numbers: per second, burst, in flight,
//!             priority (1 low, 2 normal, 3 high), quota in bytes, quota in keys
//!   optional  0, or 1 and the number
//!   bytes, number   as in `codec.rs`
//! ```

use super::{LimitCommand, LimitRule, Priority, Quota};
use crate::store::BadCommand;
use crate::store::codec::{Reader, write_bytes, write_number};
use bytes::Bytes;

const SET: u8 = 1;
const REMOVE: u8 = 2;

impl Priority {
    /// Its number in the log, a checkpoint and the API.
    pub fn code(self) -> u8 {
        match self {
            Priority::Low => 1,
            Priority::Normal => 2,
            Priority::High => 3,
        }
    }

    /// The inverse of [`Priority::code`].
    pub fn of_code(code: u8) -> Option<Priority> {
        [Priority::Low, Priority::Normal, Priority::High].into_iter().find(|p| p.code() == code)
    }
}

impl LimitCommand {
    pub(in crate::store) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            LimitCommand::Set(rule) => {
                out.push(SET);
                rule.encode(out);
            }
            LimitCommand::Remove { name } => {
                out.push(REMOVE);
                write_bytes(out, name);
            }
        }
    }

    pub(in crate::store) fn decode(input: &mut Reader) -> Result<LimitCommand, BadCommand> {
        match input.byte()? {
            SET => Ok(LimitCommand::Set(LimitRule::decode(input)?)),
            REMOVE => Ok(LimitCommand::Remove { name: input.bytes()? }),
            kind => Err(BadCommand::UnknownKind { kind }),
        }
    }
}

impl LimitRule {
    pub(in crate::store) fn encode(&self, out: &mut Vec<u8>) {
        for text in [&self.name, &self.user, &self.prefix] {
            write_bytes(out, text);
        }
        let priority = self.priority.map(|priority| u64::from(priority.code()));
        let Quota { bytes, keys } = self.quota;
        for number in [self.per_second, self.burst, self.in_flight, priority, bytes, keys] {
            out.push(u8::from(number.is_some()));
            number.into_iter().for_each(|number| write_number(out, number));
        }
    }

    pub(in crate::store) fn decode(input: &mut Reader) -> Result<LimitRule, BadCommand> {
        let (name, user, prefix) = (input.bytes()?, input.bytes()?, input.bytes()?);
        let (per_second, burst) = (optional(input)?, optional(input)?);
        let (in_flight, priority) = (optional(input)?, optional(input)?);
        let quota = Quota { bytes: optional(input)?, keys: optional(input)? };
        let known = |code: u64| {
            let code = u8::try_from(code).map_err(|_| BadCommand::NumberTooLarge)?;
            Priority::of_code(code).ok_or(BadCommand::UnknownKind { kind: code })
        };
        let priority = priority.map(known).transpose()?;
        Ok(LimitRule { name, user, prefix, per_second, burst, in_flight, priority, quota })
    }

    /// The same rule, without the buffer that its names are slices of.
    pub(super) fn copied(&self) -> LimitRule {
        let copied = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        LimitRule {
            name: copied(&self.name),
            user: copied(&self.user),
            prefix: copied(&self.prefix),
            ..*self
        }
    }
}

fn optional(input: &mut Reader) -> Result<Option<u64>, BadCommand> {
    match input.byte()? {
        0 => Ok(None),
        1 => Ok(Some(input.number()?)),
        kind => Err(BadCommand::UnknownKind { kind }),
    }
}
