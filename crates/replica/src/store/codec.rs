//! A [`Command`] as bytes in the replicated log.
//!
//! ```text
//!   command   version u8 = 1, then one of
//!             1 put      2 delete range      3 txn      4 compact: revision
//!             6 grant: id, ttl, lease clock u64 LE        7 revoke: id
//!             8 expire: term, count, names        9 countdown: term, lease clock, count,
//!             then for each lease its name and 0 (renewing) or 1, deadline (counting)
//!   name      id, grant
//!             10 raise alarm: kind u8, member      11 clear alarm: kind u8, member
//!             13 limits: see `limits/bytes.rs`
//!             12 users and roles: see `auth/bytes.rs`, also for who asked, and `guard/mod.rs`
//!             for what stands before both
//!   put       flags u8 (1 prev_kv, 2 ignore_value, 4 ignore_lease), key, value, lease
//!   delete    flags u8 (1 prev_kv), keys
//!   range     flags u8 (1 keys_only, 2 count_only), sort u8 (order + 3 * target), keys, limit,
//!             revision, min_mod, max_mod, min_create, max_create
//!   txn       compares, success, failure: count each, then the items
//!   compare   kind u8 (relation + 4 * target), keys, operand
//!   op        tag u8 (1 put, 2 delete, 3 txn, 5 range), then as above
//!   keys      key, range_end
//!   bytes     length, then the bytes
//!   number    LEB128, at most 10 bytes; signed ones in zigzag
//! ```
//!
//! Decoding shares the input: keys and values are slices of it. It never panics, allocates no
//! more than a constant factor of the input, and recurses to [`DEPTH_MAX`] at most. Each command
//! has exactly one encoding except for overlong numbers, which are accepted.
//!
//! Sources: DWARF 5, section 7.6 (LEB128); Protocol Buffers, "Encoding" (zigzag).

use super::lease::{Countdown, LeaseName, LeaseTime};
use super::{
    Alarm, AlarmAction, AlarmKind, Command, Compare, DeleteRange, Keys, LimitCommand, Op, Operand,
    Put, Range, Relation, Revision, SortOrder, SortTarget, Txn,
};
use bytes::{Buf, Bytes};
use std::fmt;

/// First byte of every encoded command.
pub const CODEC_VERSION: u8 = 1;

/// Length of the lease clock at the end of a grant.
const STAMP_BYTES: usize = 8;

/// Transactions may be nested so deep, the outermost one included. Deeper ones are not admitted.
pub const DEPTH_MAX: usize = 128;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const TXN: u8 = 3;
const COMPACT: u8 = 4;
const RANGE: u8 = 5;
const LEASE_GRANT: u8 = 6;
const LEASE_REVOKE: u8 = 7;
const LEASE_EXPIRE: u8 = 8;
const LEASE_COUNTDOWN: u8 = 9;

const RENEWING: u8 = 0;
const COUNTING: u8 = 1;
const RAISE: u8 = 10;
const CLEAR: u8 = 11;
const AUTH: u8 = 12;
const LIMIT: u8 = 13;

/// Why bytes are not a command.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadCommand {
    /// Written by a version of this program that is not known.
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// The bytes end too early.
    Truncated,
    /// A byte that stands for a kind or for flags has no meaning.
    UnknownKind {
        /// The byte.
        kind: u8,
    },
    /// A number does not fit in 64 bits.
    NumberTooLarge,
    /// Transactions are nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// What has to ascend does not.
    OutOfOrder,
    /// Bytes are left over.
    Trailing {
        /// How many.
        bytes: usize,
    },
}

impl fmt::Display for BadCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadCommand::UnknownVersion { version } => write!(f, "unknown version {version}"),
            BadCommand::Truncated => f.write_str("the bytes end too early"),
            BadCommand::UnknownKind { kind } => write!(f, "unknown kind or flags {kind}"),
            BadCommand::NumberTooLarge => f.write_str("a number does not fit in 64 bits"),
            BadCommand::TooDeep => f.write_str("transactions are nested too deep"),
            BadCommand::OutOfOrder => f.write_str("a sequence does not ascend"),
            BadCommand::Trailing { bytes } => write!(f, "{bytes} bytes are left over"),
        }
    }
}

impl std::error::Error for BadCommand {}

impl Command {
    /// Appends the encoded command.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(CODEC_VERSION);
        match self {
            Command::Put(put) => {
                out.push(PUT);
                write_put(out, put);
            }
            Command::DeleteRange(delete) => {
                out.push(DELETE);
                write_delete(out, delete);
            }
            Command::Txn(txn) => {
                out.push(TXN);
                write_txn(out, txn);
            }
            Command::Compact { revision } => {
                out.push(COMPACT);
                write_number(out, revision.0);
            }
            Command::LeaseGrant { id, ttl, at } => {
                out.push(LEASE_GRANT);
                write_number(out, zigzag(*id));
                write_number(out, *ttl);
                out.extend_from_slice(&at.0.to_le_bytes()); // Of one length, see `stamp`.
            }
            Command::LeaseRevoke { id } => {
                out.push(LEASE_REVOKE);
                write_number(out, zigzag(*id));
            }
            Command::LeaseExpire { term, leases } => {
                out.push(LEASE_EXPIRE);
                write_number(out, *term);
                write_number(out, leases.len() as u64);
                for name in leases {
                    write_name(out, *name);
                }
            }
            Command::LeaseCountdown { term, at, leases } => {
                out.push(LEASE_COUNTDOWN);
                write_number(out, *term);
                write_number(out, at.0);
                write_number(out, leases.len() as u64);
                for (name, countdown) in leases {
                    write_name(out, *name);
                    write_countdown(out, *countdown);
                }
            }
            Command::Alarm(action) => write_alarm(out, action),
            Command::Auth(command) => {
                out.push(AUTH);
                command.encode(out);
            }
            Command::Limit(command) => {
                out.push(LIMIT);
                command.encode(out);
            }
        }
    }

    /// True if the encoded command carries a lease clock which the leader has to write into it.
    pub fn wants_stamp(encoded: &[u8]) -> bool {
        encoded.starts_with(&[CODEC_VERSION, LEASE_GRANT]) && encoded.len() >= 2 + STAMP_BYTES
    }

    /// Writes the lease clock into a command that [wants](Command::wants_stamp) it.
    pub fn stamp(encoded: &mut [u8], at: LeaseTime) {
        assert!(Command::wants_stamp(encoded), "a command without a lease clock");
        let place = encoded.len() - STAMP_BYTES;
        encoded[place..].copy_from_slice(&at.0.to_le_bytes());
    }

    /// Reads one command which fills `input`; its keys and values are slices of it.
    pub fn decode(input: Bytes) -> Result<Command, BadCommand> {
        let mut input = Reader::new(input);
        let version = input.byte()?;
        if version != CODEC_VERSION {
            return Err(BadCommand::UnknownVersion { version });
        }
        let command = match input.byte()? {
            PUT => Command::Put(input.put()?),
            DELETE => Command::DeleteRange(input.delete()?),
            TXN => Command::Txn(input.txn(1)?),
            COMPACT => Command::Compact { revision: input.revision()? },
            LEASE_GRANT => {
                let (id, ttl, at) = (input.signed()?, input.number()?, input.stamp()?);
                Command::LeaseGrant { id, ttl, at }
            }
            LEASE_REVOKE => Command::LeaseRevoke { id: input.signed()? },
            LEASE_EXPIRE => {
                let term = input.number()?;
                Command::LeaseExpire { term, leases: input.list(Reader::name)? }
            }
            LEASE_COUNTDOWN => {
                let (term, at) = (input.number()?, LeaseTime(input.number()?));
                let leases = input.list(|input| Ok((input.name()?, input.countdown()?)))?;
                Command::LeaseCountdown { term, at, leases }
            }
            RAISE => Command::Alarm(AlarmAction::Raise(input.alarm()?)),
            CLEAR => Command::Alarm(AlarmAction::Clear(input.alarm()?)),
            AUTH => Command::Auth(input.auth()?),
            LIMIT => Command::Limit(LimitCommand::decode(&mut input)?),
            kind => return Err(BadCommand::UnknownKind { kind }),
        };
        input.end()?;
        Ok(command)
    }
}

/// Appends a number in LEB128.
pub(super) fn write_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Small numbers of either sign become small numbers.
pub(super) fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

/// The inverse of [`zigzag`].
pub(super) fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn write_keys(out: &mut Vec<u8>, keys: &Keys) {
    write_bytes(out, &keys.key);
    write_bytes(out, &keys.range_end);
}

fn write_put(out: &mut Vec<u8>, put: &Put) {
    out.push(flags([put.prev_kv, put.ignore_value, put.ignore_lease]));
    write_bytes(out, &put.key);
    write_bytes(out, &put.value);
    write_number(out, zigzag(put.lease));
}

fn write_delete(out: &mut Vec<u8>, delete: &DeleteRange) {
    out.push(flags([delete.prev_kv, false, false]));
    write_keys(out, &delete.keys);
}

fn write_range(out: &mut Vec<u8>, range: &Range) {
    let order = match range.sort_order {
        SortOrder::None => 0,
        SortOrder::Ascend => 1,
        SortOrder::Descend => 2,
    };
    let target = match range.sort_target {
        SortTarget::Key => 0,
        SortTarget::Version => 1,
        SortTarget::Create => 2,
        SortTarget::Mod => 3,
        SortTarget::Value => 4,
    };
    out.push(flags([range.keys_only, range.count_only, false]));
    out.push(order + 3 * target);
    write_keys(out, &range.keys);
    write_number(out, range.limit);
    write_number(out, range.revision.0);
    write_number(out, range.min_mod_revision.0);
    write_number(out, range.max_mod_revision.0);
    write_number(out, range.min_create_revision.0);
    write_number(out, range.max_create_revision.0);
}

fn write_compare(out: &mut Vec<u8>, compare: &Compare) {
    let relation = match compare.relation {
        Relation::Equal => 0,
        Relation::Greater => 1,
        Relation::Less => 2,
        Relation::NotEqual => 3,
    };
    let target = match &compare.operand {
        Operand::Version(_) => 0,
        Operand::Create(_) => 1,
        Operand::Mod(_) => 2,
        Operand::Value(_) => 3,
        Operand::Lease(_) => 4,
    };
    out.push(relation + 4 * target);
    write_keys(out, &compare.keys);
    match &compare.operand {
        Operand::Value(value) => write_bytes(out, value),
        Operand::Version(number)
        | Operand::Create(number)
        | Operand::Mod(number)
        | Operand::Lease(number) => write_number(out, zigzag(*number)),
    }
}

fn write_txn(out: &mut Vec<u8>, txn: &Txn) {
    write_number(out, txn.compare.len() as u64);
    for compare in &txn.compare {
        write_compare(out, compare);
    }
    for branch in [&txn.success, &txn.failure] {
        write_number(out, branch.len() as u64);
        for op in branch {
            write_op(out, op);
        }
    }
}

fn write_alarm(out: &mut Vec<u8>, action: &AlarmAction) {
    let (tag, alarm) = match action {
        AlarmAction::Raise(alarm) => (RAISE, alarm),
        AlarmAction::Clear(alarm) => (CLEAR, alarm),
    };
    out.extend([tag, alarm.kind.code()]);
    write_number(out, alarm.member);
}

fn write_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Put(put) => {
            out.push(PUT);
            write_put(out, put);
        }
        Op::DeleteRange(delete) => {
            out.push(DELETE);
            write_delete(out, delete);
        }
        Op::Txn(txn) => {
            out.push(TXN);
            write_txn(out, txn);
        }
        Op::Range(range) => {
            out.push(RANGE);
            write_range(out, range);
        }
    }
}

fn write_name(out: &mut Vec<u8>, name: LeaseName) {
    write_number(out, zigzag(name.id));
    write_number(out, name.grant);
}

fn write_countdown(out: &mut Vec<u8>, countdown: Countdown) {
    match countdown {
        Countdown::Renewing => out.push(RENEWING),
        Countdown::Counting { deadline } => {
            out.push(COUNTING);
            write_number(out, deadline.0);
        }
    }
}

fn flags(set: [bool; 3]) -> u8 {
    u8::from(set[0]) | u8::from(set[1]) << 1 | u8::from(set[2]) << 2
}

/// The bytes not yet decoded.
pub(super) struct Reader {
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(input: Bytes) -> Reader {
        Reader { rest: input }
    }

    /// What is not yet decoded.
    pub(super) fn rest(self) -> Bytes {
        self.rest
    }

    /// Errors: there is something left.
    pub(super) fn end(&self) -> Result<(), BadCommand> {
        match self.rest.len() {
            0 => Ok(()),
            bytes => Err(BadCommand::Trailing { bytes }),
        }
    }

    pub(super) fn byte(&mut self) -> Result<u8, BadCommand> {
        self.rest.try_get_u8().map_err(|_| BadCommand::Truncated)
    }

    pub(super) fn flags(&mut self, known: u8) -> Result<[bool; 3], BadCommand> {
        match self.byte()? {
            kind if kind & !known != 0 => Err(BadCommand::UnknownKind { kind }),
            kind => Ok([kind & 1 != 0, kind & 2 != 0, kind & 4 != 0]),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, BadCommand> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(BadCommand::NumberTooLarge);
            }
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(BadCommand::NumberTooLarge)
    }

    pub(super) fn signed(&mut self) -> Result<i64, BadCommand> {
        self.number().map(unzigzag)
    }

    fn stamp(&mut self) -> Result<LeaseTime, BadCommand> {
        self.rest.try_get_u64_le().map(LeaseTime).map_err(|_| BadCommand::Truncated)
    }

    fn name(&mut self) -> Result<LeaseName, BadCommand> {
        Ok(LeaseName { id: self.signed()?, grant: self.number()? })
    }

    fn countdown(&mut self) -> Result<Countdown, BadCommand> {
        match self.byte()? {
            RENEWING => Ok(Countdown::Renewing),
            COUNTING => Ok(Countdown::Counting { deadline: LeaseTime(self.number()?) }),
            kind => Err(BadCommand::UnknownKind { kind }),
        }
    }

    pub(super) fn revision(&mut self) -> Result<Revision, BadCommand> {
        self.number().map(Revision)
    }

    pub(super) fn bytes(&mut self) -> Result<Bytes, BadCommand> {
        let len = usize::try_from(self.number()?).map_err(|_| BadCommand::Truncated)?;
        if len > self.rest.len() {
            return Err(BadCommand::Truncated);
        }
        Ok(self.rest.split_to(len))
    }

    pub(super) fn keys(&mut self) -> Result<Keys, BadCommand> {
        Ok(Keys { key: self.bytes()?, range_end: self.bytes()? })
    }

    fn put(&mut self) -> Result<Put, BadCommand> {
        let [prev_kv, ignore_value, ignore_lease] = self.flags(7)?;
        let (key, value, lease) = (self.bytes()?, self.bytes()?, self.signed()?);
        Ok(Put { key, value, lease, prev_kv, ignore_value, ignore_lease })
    }

    fn delete(&mut self) -> Result<DeleteRange, BadCommand> {
        let [prev_kv, ..] = self.flags(1)?;
        Ok(DeleteRange { keys: self.keys()?, prev_kv })
    }

    fn range(&mut self) -> Result<Range, BadCommand> {
        let [keys_only, count_only, _] = self.flags(3)?;
        let sort = self.byte()?;
        let unknown = |_| BadCommand::UnknownKind { kind: sort };
        Ok(Range {
            keys_only,
            count_only,
            sort_order: SortOrder::try_from(i32::from(sort % 3)).map_err(unknown)?,
            sort_target: SortTarget::try_from(i32::from(sort / 3)).map_err(unknown)?,
            keys: self.keys()?,
            limit: self.number()?,
            revision: self.revision()?,
            min_mod_revision: self.revision()?,
            max_mod_revision: self.revision()?,
            min_create_revision: self.revision()?,
            max_create_revision: self.revision()?,
        })
    }

    fn alarm(&mut self) -> Result<Alarm, BadCommand> {
        let kind = self.byte()?;
        let kind = AlarmKind::of_code(kind).ok_or(BadCommand::UnknownKind { kind })?;
        Ok(Alarm { kind, member: self.number()? })
    }

    fn compare(&mut self) -> Result<Compare, BadCommand> {
        let kind = self.byte()?;
        let relation = match kind % 4 {
            0 => Relation::Equal,
            1 => Relation::Greater,
            2 => Relation::Less,
            _ => Relation::NotEqual,
        };
        let keys = self.keys()?;
        let operand = match kind / 4 {
            0 => Operand::Version(self.signed()?),
            1 => Operand::Create(self.signed()?),
            2 => Operand::Mod(self.signed()?),
            3 => Operand::Value(self.bytes()?),
            4 => Operand::Lease(self.signed()?),
            _ => return Err(BadCommand::UnknownKind { kind }),
        };
        Ok(Compare { keys, relation, operand })
    }

    fn txn(&mut self, depth: usize) -> Result<Txn, BadCommand> {
        if depth > DEPTH_MAX {
            return Err(BadCommand::TooDeep);
        }
        let compare = self.list(Reader::compare)?;
        let success = self.list(|input| input.op(depth))?;
        let failure = self.list(|input| input.op(depth))?;
        Ok(Txn { compare, success, failure })
    }

    fn op(&mut self, depth: usize) -> Result<Op, BadCommand> {
        match self.byte()? {
            PUT => self.put().map(Op::Put),
            DELETE => self.delete().map(Op::DeleteRange),
            TXN => self.txn(depth + 1).map(Op::Txn),
            RANGE => self.range().map(Op::Range),
            kind => Err(BadCommand::UnknownKind { kind }),
        }
    }

    /// A counted list. It grows as items arrive: the count alone must not allocate.
    pub(super) fn list<T>(
        &mut self,
        item: impl Fn(&mut Reader) -> Result<T, BadCommand>,
    ) -> Result<Vec<T>, BadCommand> {
        let count = self.number()?;
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(item(self)?);
        }
        Ok(items)
    }
}
