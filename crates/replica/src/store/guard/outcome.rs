//! An answer as bytes, for requests that may be asked again.
//!
//! ```text
//!   outcome   1 range: flags u8 (1 more, 2 keys only), count, pairs
//!             2 put: pairs (none or one)        3 delete: deleted, pairs
//!             4 transaction, failed, or 5 succeeded: count, then outcomes
//!   pairs     count, then for each: key, value, create, mod, version, zigzag lease
//! ```

use super::requests::OUTCOME_BYTES_MAX;
use crate::store::codec::{DEPTH_MAX, Reader, write_bytes, write_number, zigzag};
use crate::store::{BadCommand, Found, KeyValue, Outcome};
use bytes::Bytes;
use std::sync::Arc;

const RANGE: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const FAILED: u8 = 4;
const SUCCEEDED: u8 = 5;

/// The bytes of an answer; none if they are more than are kept, or it is of another kind.
pub(super) fn encode(outcome: &Outcome) -> Option<Bytes> {
    let mut out = Vec::new();
    write(&mut out, outcome)?;
    Some(Bytes::from(out)).filter(|out| out.len() <= OUTCOME_BYTES_MAX)
}

/// The answer that was encoded. Keys and values are slices of the input.
///
/// Errors: the bytes are none.
pub(super) fn decode(input: Bytes) -> Result<Outcome, BadCommand> {
    let mut input = Reader::new(input);
    let outcome = read(&mut input, 1)?;
    input.end()?;
    Ok(outcome)
}

/// None as soon as it is too long.
fn write(out: &mut Vec<u8>, outcome: &Outcome) -> Option<()> {
    match outcome {
        Outcome::Range(found) => {
            out.push(RANGE);
            out.push(u8::from(found.more) | u8::from(found.keys_only) << 1);
            write_number(out, found.count);
            write_pairs(out, &found.kvs)?;
        }
        Outcome::Put { prev } => {
            out.push(PUT);
            write_pairs(out, prev.as_slice())?;
        }
        Outcome::DeleteRange { deleted, prev } => {
            out.push(DELETE);
            write_number(out, *deleted);
            write_pairs(out, prev)?;
        }
        Outcome::Txn { succeeded, outcomes } => {
            out.push(if *succeeded { SUCCEEDED } else { FAILED });
            write_number(out, outcomes.len() as u64);
            for outcome in outcomes {
                write(out, outcome)?;
            }
        }
        _ => return None,
    }
    Some(())
}

fn write_pairs(out: &mut Vec<u8>, pairs: &[Arc<KeyValue>]) -> Option<()> {
    write_number(out, pairs.len() as u64);
    for kv in pairs {
        if out.len() + kv.key.len() + kv.value.len() > OUTCOME_BYTES_MAX {
            return None;
        }
        write_bytes(out, &kv.key);
        write_bytes(out, &kv.value);
        for number in [kv.create_revision.0, kv.mod_revision.0, kv.version, zigzag(kv.lease)] {
            write_number(out, number);
        }
    }
    Some(())
}

fn read(input: &mut Reader, depth: usize) -> Result<Outcome, BadCommand> {
    if depth > DEPTH_MAX {
        return Err(BadCommand::TooDeep);
    }
    Ok(match input.byte()? {
        RANGE => {
            let [more, keys_only, _] = input.flags(3)?;
            let count = input.number()?;
            Outcome::Range(Found { kvs: input.list(pair)?, more, count, keys_only })
        }
        PUT => {
            let mut pairs = input.list(pair)?;
            let prev = pairs.pop();
            if !pairs.is_empty() {
                return Err(BadCommand::OutOfOrder);
            }
            Outcome::Put { prev }
        }
        DELETE => Outcome::DeleteRange { deleted: input.number()?, prev: input.list(pair)? },
        kind @ (FAILED | SUCCEEDED) => {
            let outcomes = input.list(|input| read(input, depth + 1))?;
            Outcome::Txn { succeeded: kind == SUCCEEDED, outcomes }
        }
        kind => return Err(BadCommand::UnknownKind { kind }),
    })
}

fn pair(input: &mut Reader) -> Result<Arc<KeyValue>, BadCommand> {
    Ok(Arc::new(KeyValue {
        key: input.bytes()?,
        value: input.bytes()?,
        create_revision: input.revision()?,
        mod_revision: input.revision()?,
        version: input.number()?,
        lease: input.signed()?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Revision;

    fn kv(value: usize) -> Arc<KeyValue> {
        Arc::new(KeyValue {
            key: Bytes::from_static(b"key"),
            value: Bytes::from(vec![b'v'; value]),
            create_revision: Revision(3),
            mod_revision: Revision(700),
            version: 5,
            lease: -7,
        })
    }

    #[test]
    fn every_answer_that_is_kept_survives() {
        let found = Found { kvs: vec![kv(3), kv(0)], more: true, count: 9, keys_only: true };
        let put = Outcome::Put { prev: Some(kv(1)) };
        let inner = Outcome::Txn { succeeded: false, outcomes: vec![put.clone()] };
        let outcomes = vec![
            inner,
            Outcome::Range(found),
            Outcome::Put { prev: None },
            Outcome::DeleteRange { deleted: 2, prev: vec![kv(2), kv(9)] },
        ];
        for outcome in
            outcomes.iter().chain([&Outcome::Txn { succeeded: true, outcomes: outcomes.clone() }])
        {
            let bytes = encode(outcome).expect("it is short");
            assert_eq!(decode(bytes.clone()).as_ref(), Ok(outcome));
            for cut in 0..bytes.len() {
                assert!(decode(bytes.slice(..cut)).is_err());
            }
        }
    }

    #[test]
    fn long_answers_and_those_of_other_commands_are_not_kept() {
        assert!(encode(&Outcome::Put { prev: Some(kv(OUTCOME_BYTES_MAX)) }).is_none());
        assert!(encode(&Outcome::LeaseRevoke { deleted: 1 }).is_none());
        let many = vec![Outcome::Put { prev: None }; OUTCOME_BYTES_MAX];
        assert!(encode(&Outcome::Txn { succeeded: true, outcomes: many }).is_none());
    }
}
