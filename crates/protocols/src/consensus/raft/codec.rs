//! Messages and records as bytes.
//!
//! All numbers are little-endian and of fixed width; a message is `term: u64, kind: u8, fields`.
//!
//! | kind | message | fields |
//! |---|---|---|
//! | 1 | PreVote | campaign u64, last position |
//! | 2 | PreVoteReply | campaign u64, verdict u8 |
//! | 3 | Vote | last position, cause u8 |
//! | 4 | VoteReply | verdict u8 |
//! | 5 | Append | prev position, commit u64, count u32, entries |
//! | 6 | Appended | matched u64 |
//! | 7 | AppendRejected | prev u64, hint position |
//! | 8 | Heartbeat | round u64, commit u64, pace u64 (microseconds) |
//! | 9 | HeartbeatReply | round u64 |
//! | 10 | Committed | commit u64 |
//! | 11 | Forward | life u64, batch u64, count u32, commands (length u32, bytes) |
//! | 12 | ReadIndex | life u64, batch u64 |
//! | 13 | ReadIndexReply | life u64, batch u64, ground u8, index u64 |
//! | 14 | TimeoutNow | |
//! | 15 | ForwardRefused | life u64, batch u64, first u32, why u8 |
//! | 16 | Heartbeat that wants a promise | as 8, and lease u64 (microseconds) |
//! | 17 | HeartbeatReply with a promise | round u64, promise u64 (microseconds) |
//!
//! A position is `term u64, index u64`; an entry is `position, kind u8 (0 noop, 1 command,
//! 2 membership), length u32, bytes`; a configuration is three times `count u32, ids u64`; yes and
//! no are 1 and 0; a cause is 0 (silence) or 1 (transfer); a reason is 0 (no leader), 1
//! (overloaded) or 2 (transferring); a ground is 0 (not known), 1 (a round) or 2 (a lease).
//!
//! Kinds 16 and 17, and ground 2, are said only where lease reads are on, so that members which do
//! not know them can be told apart from those which are not asked.
//!
//! Decoding copies no command: it keeps slices of the bytes that arrived. It reads no count on
//! trust: what cannot be there is refused before memory is taken for it.

use super::interface::Refusal;
use super::lease::Ground;
use super::membership::Configuration;
use super::message::{Body, Cause, Message, Verdict};
use super::record::{Entry, Payload, Record};
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{BadFrame, Frame, Index, NodeId, Persist, Position, Term};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// The smallest entry: position, kind, length.
const ENTRY_BYTES_MIN: usize = 16 + 1 + 4;
const NOOP: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

const KIND_LIFE: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_NOOP: u8 = 3;
const KIND_COMMAND: u8 = 4;
const KIND_MEMBERSHIP: u8 = 5;
const KIND_COMMIT: u8 = 6;
const KIND_SNAPSHOT: u8 = 7;
const KIND_REPLACED: u8 = 8;
const KIND_MENDING: u8 = 9;
const KIND_MENDED: u8 = 10;

/// Kinds of frames whose loss would lose a promise: storage keeps two copies of the latest.
pub const CRITICAL_KINDS: [u8; 6] =
    [KIND_LIFE, KIND_HARD_STATE, KIND_SNAPSHOT, KIND_REPLACED, KIND_MENDING, KIND_MENDED];

/// Kinds of frames whose loss costs nothing but time.
pub const HINT_KINDS: [u8; 1] = [KIND_COMMIT];

/// Bytes that are no message of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadMessage {
    /// They end too early.
    Short,
    /// They go on after the message.
    Long,
    /// A kind of message, entry or answer that this version does not know.
    Unknown {
        /// The kind as read.
        kind: u8,
    },
}

impl BadMessage {
    /// What is wrong, in words.
    pub fn reason(self) -> &'static str {
        match self {
            BadMessage::Short => "it ends too early",
            BadMessage::Long => "bytes follow its end",
            BadMessage::Unknown { .. } => "a kind that this version does not know",
        }
    }
}

impl fmt::Display for BadMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BadMessage {}

/// Appends `message` to `out`.
///
/// Panics: if a command is longer than `u32::MAX` bytes; limits on requests are far below.
pub fn encode(message: &Message, out: &mut impl BufMut) {
    out.put_u64_le(message.term.0);
    match &message.body {
        Body::PreVote { campaign, last } => {
            out.put_u8(1);
            out.put_u64_le(campaign.0);
            put_position(*last, out);
        }
        Body::PreVoteReply { campaign, verdict } => {
            out.put_u8(2);
            out.put_u64_le(campaign.0);
            out.put_u8(verdict_byte(*verdict));
        }
        Body::Vote { last, cause } => {
            out.put_u8(3);
            put_position(*last, out);
            out.put_u8(u8::from(*cause == Cause::Transfer));
        }
        Body::VoteReply { verdict } => {
            out.put_u8(4);
            out.put_u8(verdict_byte(*verdict));
        }
        Body::Append { prev, entries, commit } => {
            out.put_u8(5);
            put_position(*prev, out);
            out.put_u64_le(commit.0);
            put_length(entries.len(), out);
            entries.iter().for_each(|entry| put_entry(entry, out));
        }
        Body::Appended { matched } => put_numbers(6, &[matched.0], out),
        Body::AppendRejected { prev, hint } => {
            put_numbers(7, &[prev.0, hint.term.0, hint.index.0], out);
        }
        Body::Heartbeat { round, commit, pace, lease } => match micros(*lease) {
            0 => put_numbers(8, &[*round, commit.0, micros(*pace)], out),
            lease => put_numbers(16, &[*round, commit.0, micros(*pace), lease], out),
        },
        Body::HeartbeatReply { round, promise } => match micros(*promise) {
            0 => put_numbers(9, &[*round], out),
            promise => put_numbers(17, &[*round, promise], out),
        },
        Body::Committed { commit } => put_numbers(10, &[commit.0], out),
        Body::Forward { life, batch, commands } => {
            put_numbers(11, &[*life, *batch], out);
            put_length(commands.len(), out);
            commands.iter().for_each(|command| put_bytes(command, out));
        }
        Body::ReadIndex { life, batch } => put_numbers(12, &[*life, *batch], out),
        Body::ReadIndexReply { life, batch, read_index } => {
            put_numbers(13, &[*life, *batch], out);
            out.put_u8(match read_index {
                None => 0,
                Some((_, Ground::Round)) => 1,
                Some((_, Ground::Lease)) => 2,
            });
            out.put_u64_le(read_index.map_or(0, |(index, _)| index.0));
        }
        Body::TimeoutNow => out.put_u8(14),
        Body::ForwardRefused { life, batch, first, why } => {
            put_numbers(15, &[*life, *batch], out);
            out.put_u32_le(*first);
            out.put_u8(refusal_byte(*why));
        }
    }
}

/// The message that `bytes` hold. Its commands are slices of them.
///
/// Errors: the bytes are no message. Never panics, whatever they are.
pub fn decode(mut bytes: Bytes) -> Result<Message, BadMessage> {
    let input = &mut bytes;
    let term = Term(u64_of(input)?);
    let body = match u8_of(input)? {
        1 => Body::PreVote { campaign: Term(u64_of(input)?), last: position_of(input)? },
        2 => Body::PreVoteReply { campaign: Term(u64_of(input)?), verdict: verdict_of(input)? },
        3 => {
            let last = position_of(input)?;
            let cause = match flag_of(input)? {
                Verdict::Denied => Cause::Silence,
                Verdict::Granted => Cause::Transfer,
            };
            Body::Vote { last, cause }
        }
        4 => Body::VoteReply { verdict: verdict_of(input)? },
        5 => append_of(input)?,
        6 => Body::Appended { matched: Index(u64_of(input)?) },
        7 => Body::AppendRejected { prev: Index(u64_of(input)?), hint: position_of(input)? },
        kind @ (8 | 16) => Body::Heartbeat {
            round: u64_of(input)?,
            commit: Index(u64_of(input)?),
            pace: micros_of(input)?,
            lease: if kind == 16 { micros_of(input)? } else { Duration::ZERO },
        },
        9 => Body::HeartbeatReply { round: u64_of(input)?, promise: Duration::ZERO },
        17 => Body::HeartbeatReply { round: u64_of(input)?, promise: micros_of(input)? },
        10 => Body::Committed { commit: Index(u64_of(input)?) },
        11 => {
            let (life, batch) = (u64_of(input)?, u64_of(input)?);
            let count = count_of(input, 4)?;
            let commands = (0..count).map(|_| bytes_of(input)).collect::<Result<_, _>>()?;
            Body::Forward { life, batch, commands }
        }
        12 => Body::ReadIndex { life: u64_of(input)?, batch: u64_of(input)? },
        13 => {
            let (life, batch) = (u64_of(input)?, u64_of(input)?);
            let ground = ground_of(input)?;
            let index = Index(u64_of(input)?);
            let read_index = ground.map(|ground| (index, ground));
            Body::ReadIndexReply { life, batch, read_index }
        }
        14 => Body::TimeoutNow,
        15 => Body::ForwardRefused {
            life: u64_of(input)?,
            batch: u64_of(input)?,
            first: u32_of(input)?,
            why: refusal_of(input)?,
        },
        kind => return Err(BadMessage::Unknown { kind }),
    };
    finish(input, Message { term, body })
}

fn append_of(input: &mut Bytes) -> Result<Body, BadMessage> {
    let prev = position_of(input)?;
    let commit = Index(u64_of(input)?);
    let count = count_of(input, ENTRY_BYTES_MIN)?;
    let entries = (0..count).map(|_| entry_of(input)).collect::<Result<_, _>>()?;
    Ok(Body::Append { prev, entries, commit })
}

fn put_numbers(kind: u8, numbers: &[u64], out: &mut impl BufMut) {
    out.put_u8(kind);
    numbers.iter().for_each(|number| out.put_u64_le(*number));
}

fn put_length(length: usize, out: &mut impl BufMut) {
    out.put_u32_le(u32::try_from(length).expect("lengths are limited far below 4 GiB"));
}

fn put_bytes(bytes: &Bytes, out: &mut impl BufMut) {
    put_length(bytes.len(), out);
    out.put_slice(bytes);
}

fn put_position(position: Position, out: &mut impl BufMut) {
    out.put_u64_le(position.term.0);
    out.put_u64_le(position.index.0);
}

fn put_entry(entry: &Entry, out: &mut impl BufMut) {
    put_position(entry.position, out);
    match &entry.payload {
        Payload::Noop => {
            out.put_u8(NOOP);
            put_length(0, out);
        }
        Payload::Command(command) => {
            out.put_u8(COMMAND);
            put_bytes(command, out);
        }
        Payload::Membership(configuration) => {
            out.put_u8(MEMBERSHIP);
            put_length(12 + 8 * configuration.size(), out);
            put_configuration(configuration, out);
        }
    }
}

fn put_configuration(configuration: &Configuration, out: &mut impl BufMut) {
    let Configuration { incoming, outgoing, learners } = configuration;
    for ids in [incoming, outgoing, learners] {
        put_length(ids.len(), out);
        ids.iter().for_each(|id| out.put_u64_le(id.0));
    }
}

/// Whole ones.
fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn verdict_byte(verdict: Verdict) -> u8 {
    u8::from(verdict == Verdict::Granted)
}

fn refusal_byte(why: Refusal) -> u8 {
    match why {
        Refusal::NoLeader => 0,
        Refusal::Overloaded => 1,
        Refusal::Transferring => 2,
    }
}

fn need(input: &Bytes, count: usize) -> Result<(), BadMessage> {
    if input.remaining() < count { Err(BadMessage::Short) } else { Ok(()) }
}

fn u8_of(input: &mut Bytes) -> Result<u8, BadMessage> {
    need(input, 1)?;
    Ok(input.get_u8())
}

fn u32_of(input: &mut Bytes) -> Result<u32, BadMessage> {
    need(input, 4)?;
    Ok(input.get_u32_le())
}

fn u64_of(input: &mut Bytes) -> Result<u64, BadMessage> {
    need(input, 8)?;
    Ok(input.get_u64_le())
}

/// A count of things of which each takes at least `each_min` bytes.
fn count_of(input: &mut Bytes, each_min: usize) -> Result<usize, BadMessage> {
    need(input, 4)?;
    let count = usize::try_from(input.get_u32_le()).map_err(|_| BadMessage::Short)?;
    need(input, count.checked_mul(each_min).ok_or(BadMessage::Short)?)?;
    Ok(count)
}

fn micros_of(input: &mut Bytes) -> Result<Duration, BadMessage> {
    Ok(Duration::from_micros(u64_of(input)?))
}

fn bytes_of(input: &mut Bytes) -> Result<Bytes, BadMessage> {
    let length = count_of(input, 1)?;
    Ok(input.split_to(length))
}

fn flag_of(input: &mut Bytes) -> Result<Verdict, BadMessage> {
    match u8_of(input)? {
        0 => Ok(Verdict::Denied),
        1 => Ok(Verdict::Granted),
        kind => Err(BadMessage::Unknown { kind }),
    }
}

fn verdict_of(input: &mut Bytes) -> Result<Verdict, BadMessage> {
    flag_of(input)
}

fn ground_of(input: &mut Bytes) -> Result<Option<Ground>, BadMessage> {
    match u8_of(input)? {
        0 => Ok(None),
        1 => Ok(Some(Ground::Round)),
        2 => Ok(Some(Ground::Lease)),
        kind => Err(BadMessage::Unknown { kind }),
    }
}

fn refusal_of(input: &mut Bytes) -> Result<Refusal, BadMessage> {
    match u8_of(input)? {
        0 => Ok(Refusal::NoLeader),
        1 => Ok(Refusal::Overloaded),
        2 => Ok(Refusal::Transferring),
        kind => Err(BadMessage::Unknown { kind }),
    }
}

fn position_of(input: &mut Bytes) -> Result<Position, BadMessage> {
    Ok(Position { term: Term(u64_of(input)?), index: Index(u64_of(input)?) })
}

fn entry_of(input: &mut Bytes) -> Result<Entry, BadMessage> {
    let position = position_of(input)?;
    let kind = u8_of(input)?;
    let mut bytes = bytes_of(input)?;
    let payload = match kind {
        NOOP => finish(&bytes, Payload::Noop)?,
        COMMAND => Payload::Command(bytes),
        MEMBERSHIP => {
            let configuration = configuration_of(&mut bytes)?;
            finish(&bytes, Payload::Membership(configuration))?
        }
        kind => return Err(BadMessage::Unknown { kind }),
    };
    Ok(Entry { position, payload })
}

fn ids_of(input: &mut Bytes) -> Result<BTreeSet<NodeId>, BadMessage> {
    let count = count_of(input, 8)?;
    (0..count).map(|_| u64_of(input).map(NodeId)).collect()
}

fn configuration_of(input: &mut Bytes) -> Result<Configuration, BadMessage> {
    Ok(Configuration {
        incoming: ids_of(input)?,
        outgoing: ids_of(input)?,
        learners: ids_of(input)?,
    })
}

fn finish<T>(rest: &Bytes, value: T) -> Result<T, BadMessage> {
    if rest.is_empty() { Ok(value) } else { Err(BadMessage::Long) }
}

/// What a snapshot record holds. Its position is in the payload, not in the frame: it is no entry.
fn snapshot_bytes(position: Position, configuration: &Configuration) -> Vec<u8> {
    let mut out = Vec::new();
    put_position(position, &mut out);
    put_configuration(configuration, &mut out);
    out
}

fn snapshot_of(input: &mut Bytes) -> Result<(Position, Configuration), BadMessage> {
    Ok((position_of(input)?, configuration_of(input)?))
}

fn record_of(kind: u8, position: Position, mut bytes: Bytes) -> Result<Record, BadMessage> {
    let input = &mut bytes;
    let record = match kind {
        KIND_LIFE => Record::Life { number: u64_of(input)? },
        KIND_HARD_STATE => {
            let term = Term(u64_of(input)?);
            let vote = Some(NodeId(u64_of(input)?)).filter(|vote| vote.0 != 0);
            Record::HardState { term, vote }
        }
        KIND_NOOP => Record::Entry(Entry { position, payload: Payload::Noop }),
        KIND_COMMAND => {
            let command = std::mem::take(input);
            Record::Entry(Entry { position, payload: Payload::Command(command) })
        }
        KIND_MEMBERSHIP => {
            let payload = Payload::Membership(configuration_of(input)?);
            Record::Entry(Entry { position, payload })
        }
        KIND_COMMIT => Record::Commit(Index(u64_of(input)?)),
        KIND_SNAPSHOT => {
            let (position, configuration) = snapshot_of(input)?;
            Record::Snapshot { position, configuration }
        }
        KIND_REPLACED => {
            let (position, configuration) = snapshot_of(input)?;
            Record::Replaced { position, configuration }
        }
        KIND_MENDING => Record::Mending { last: position_of(input)? },
        KIND_MENDED => Record::Mended,
        kind => return Err(BadMessage::Unknown { kind }),
    };
    finish(input, record)
}

impl Persist for Record {
    /// A command is shared with its frame, not copied.
    ///
    /// Panics: on [`Record::Damaged`], which only storage makes and nobody writes.
    fn to_frame(&self) -> Frame {
        let mut position = Position::ZERO;
        let mut payload = Vec::new();
        let kind = match self {
            Record::Life { number } => {
                payload.put_u64_le(*number);
                KIND_LIFE
            }
            Record::HardState { term, vote } => {
                payload.put_u64_le(term.0);
                payload.put_u64_le(vote.map_or(0, |vote| vote.0));
                KIND_HARD_STATE
            }
            Record::Entry(entry) => {
                position = entry.position;
                match &entry.payload {
                    Payload::Noop => KIND_NOOP,
                    Payload::Command(command) => {
                        let payload = command.clone();
                        return Frame { kind: KIND_COMMAND, position, payload };
                    }
                    Payload::Membership(configuration) => {
                        put_configuration(configuration, &mut payload);
                        KIND_MEMBERSHIP
                    }
                }
            }
            Record::Commit(index) => {
                payload.put_u64_le(index.0);
                KIND_COMMIT
            }
            Record::Snapshot { position, configuration } => {
                payload = snapshot_bytes(*position, configuration);
                KIND_SNAPSHOT
            }
            Record::Replaced { position, configuration } => {
                payload = snapshot_bytes(*position, configuration);
                KIND_REPLACED
            }
            Record::Mending { last } => {
                put_position(*last, &mut payload);
                KIND_MENDING
            }
            Record::Mended => KIND_MENDED,
            Record::Damaged { .. } => panic!("damage is found, not written"),
        };
        Frame { kind, position, payload: Bytes::from(payload) }
    }

    fn from_frame(frame: Frame) -> Result<Record, BadFrame> {
        let Frame { kind, position, payload } = frame;
        record_of(kind, position, payload).map_err(|error| BadFrame { reason: error.reason() })
    }

    fn is_hint(&self) -> bool {
        matches!(self, Record::Commit(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position() -> impl Strategy<Value = Position> {
        (any::<u64>(), any::<u64>()).prop_map(|(term, index)| Position::new(term, index))
    }

    fn ids() -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set((1..u64::MAX).prop_map(NodeId), 0..4)
    }

    fn configuration() -> impl Strategy<Value = Configuration> {
        (ids(), ids(), ids()).prop_map(|(incoming, outgoing, learners)| Configuration {
            incoming,
            outgoing,
            learners,
        })
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let payload = prop_oneof![
            Just(Payload::Noop),
            bytes().prop_map(Payload::Command),
            configuration().prop_map(Payload::Membership),
        ];
        (position(), payload).prop_map(|(position, payload)| Entry { position, payload })
    }

    fn verdict() -> impl Strategy<Value = Verdict> {
        prop_oneof![Just(Verdict::Granted), Just(Verdict::Denied)]
    }

    fn refusal() -> impl Strategy<Value = Refusal> {
        prop_oneof![Just(Refusal::NoLeader), Just(Refusal::Overloaded), Just(Refusal::Transferring)]
    }

    fn index() -> impl Strategy<Value = Index> {
        any::<u64>().prop_map(Index)
    }

    fn span() -> impl Strategy<Value = Duration> {
        prop_oneof![Just(0), any::<u64>()].prop_map(Duration::from_micros)
    }

    fn ground() -> impl Strategy<Value = Ground> {
        prop_oneof![Just(Ground::Round), Just(Ground::Lease)]
    }

    fn body() -> impl Strategy<Value = Body> {
        let campaign = || any::<u64>().prop_map(Term);
        prop_oneof![
            (campaign(), position()).prop_map(|(campaign, last)| Body::PreVote { campaign, last }),
            (campaign(), verdict())
                .prop_map(|(campaign, verdict)| Body::PreVoteReply { campaign, verdict }),
            (position(), prop_oneof![Just(Cause::Silence), Just(Cause::Transfer)])
                .prop_map(|(last, cause)| Body::Vote { last, cause }),
            verdict().prop_map(|verdict| Body::VoteReply { verdict }),
            (position(), proptest::collection::vec(entry(), 0..4), index())
                .prop_map(|(prev, entries, commit)| Body::Append { prev, entries, commit }),
            index().prop_map(|matched| Body::Appended { matched }),
            (index(), position()).prop_map(|(prev, hint)| Body::AppendRejected { prev, hint }),
            (any::<u64>(), index(), span(), span()).prop_map(|(round, commit, pace, lease)| {
                Body::Heartbeat { round, commit, pace, lease }
            }),
            (any::<u64>(), span())
                .prop_map(|(round, promise)| Body::HeartbeatReply { round, promise }),
            index().prop_map(|commit| Body::Committed { commit }),
            (any::<(u64, u64)>(), proptest::collection::vec(bytes(), 0..4))
                .prop_map(|((life, batch), commands)| Body::Forward { life, batch, commands }),
            (any::<(u64, u64, u32)>(), refusal()).prop_map(|((life, batch, first), why)| {
                Body::ForwardRefused { life, batch, first, why }
            }),
            any::<(u64, u64)>().prop_map(|(life, batch)| Body::ReadIndex { life, batch }),
            (any::<(u64, u64)>(), proptest::option::of((index(), ground()))).prop_map(
                |((life, batch), read_index)| Body::ReadIndexReply { life, batch, read_index }
            ),
            Just(Body::TimeoutNow),
        ]
    }

    fn record() -> impl Strategy<Value = Record> {
        prop_oneof![
            any::<u64>().prop_map(|number| Record::Life { number }),
            (any::<u64>(), proptest::option::of((1..u64::MAX).prop_map(NodeId)))
                .prop_map(|(term, vote)| Record::HardState { term: Term(term), vote }),
            entry().prop_map(Record::Entry),
            index().prop_map(Record::Commit),
            (position(), configuration())
                .prop_map(|(position, configuration)| Record::Snapshot { position, configuration }),
            (position(), configuration())
                .prop_map(|(position, configuration)| Record::Replaced { position, configuration }),
            position().prop_map(|last| Record::Mending { last }),
            Just(Record::Mended),
        ]
    }

    proptest! {
        #[test]
        fn a_message_comes_back_as_it_was(term in any::<u64>(), body in body()) {
            let message = Message { term: Term(term), body };
            let mut out = Vec::new();
            encode(&message, &mut out);
            prop_assert_eq!(decode(Bytes::from(out.clone())), Ok(message));
            for end in 0..out.len() {
                prop_assert!(decode(Bytes::copy_from_slice(&out[..end])).is_err());
            }
            out.push(0);
            prop_assert!(decode(Bytes::from(out)).is_err());
        }

        #[test]
        fn a_record_comes_back_as_it_was(record in record()) {
            prop_assert_eq!(Record::from_frame(record.to_frame()), Ok(record));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read_but_never_panic(
            kind in 0u8..20,
            tail in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = vec![0; 8];
            bytes.push(kind);
            bytes.extend(&tail);
            let _ = decode(Bytes::from(bytes));
            let _ = decode(Bytes::from(tail.clone()));
            let payload = Bytes::from(tail);
            let _ = Record::from_frame(Frame { kind, position: Position::ZERO, payload });
        }
    }

    /// Members that have never heard of leases understand those that are not asked for any.
    #[test]
    fn without_leases_the_bytes_are_those_of_old() {
        let zero = Duration::ZERO;
        let bytes = |body| {
            let mut out = Vec::new();
            encode(&Message { term: Term(7), body }, &mut out);
            (out[8], out.len())
        };
        let beat = |lease| Body::Heartbeat { round: 1, commit: Index(2), pace: zero, lease };
        let reply = |promise| Body::HeartbeatReply { round: 1, promise };
        assert_eq!((bytes(beat(zero)), bytes(reply(zero))), ((8, 33), (9, 17)));
        let some = Duration::from_millis(250);
        assert_eq!((bytes(beat(some)), bytes(reply(some))), ((16, 41), (17, 25)));
    }

    #[test]
    fn a_command_is_not_copied() {
        let command = Bytes::from(vec![7; 100]);
        let entry = Entry { position: Position::new(1, 1), payload: Payload::Command(command) };
        let body = Body::Append { prev: Position::ZERO, entries: vec![entry], commit: Index(0) };
        let mut out = Vec::new();
        encode(&Message { term: Term(1), body }, &mut out);
        let bytes = Bytes::from(out);
        let whole = bytes.as_ptr_range();
        let message = decode(bytes).expect("what was encoded");
        let Body::Append { entries, .. } = message.body else { panic!("an append") };
        let Payload::Command(command) = &entries[0].payload else { panic!("a command") };
        assert!(whole.contains(&command.as_ptr()), "a slice of what arrived");
    }

    #[test]
    fn only_the_commit_index_is_a_hint() {
        assert!(Record::Commit(Index(1)).is_hint());
        assert!(!Record::HardState { term: Term(1), vote: None }.is_hint());
    }
}
