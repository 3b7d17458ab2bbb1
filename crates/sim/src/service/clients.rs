//! What clients do: the workload.
//!
//! A client does one thing at a time: it draws what, asks the member that it is connected to, and
//! waits until it is answered or loses patience. Every value that it writes is different from all
//! others, so that whatever is read can be traced to the write that it came from.
//!
//! Some operations belong together, as in the recipes of etcd's clients: a lock is a key that is
//! created under a lease if it is not there; its create revision is the fencing token; whoever
//! holds it writes to a resource outside, which refuses tokens older than it has seen (Kleppmann,
//! "How to do distributed locking", 2016).

use bytes::Bytes;
use quorate_drivers::simulate::{About, Hands, Site, World};
use quorate_replica::LeaseAsk;
use quorate_replica::store::{
    Command, Compare, DeleteRange, Fence, Guard, Keys, LeaseTime, Op, Operand, Put, Range,
    Relation, RequestId, Revision, Txn,
};

/// Keys that clients write, so few that they meet.
pub(super) const KEYS: u64 = 8;
/// Leases that a client holds at a time.
const LEASES_MAX: usize = 2;
/// Times to live that are asked for. Unit: seconds.
const TTLS: [u64; 3] = [2, 3, 5];

/// What kind of clients there are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workload {
    /// Everything.
    Mixed,
    /// Puts, deletes, reads and transactions.
    Kv,
    /// Leases, and keys under them.
    Lease,
    /// Locks by lease and compare, and what they protect.
    Lock,
    /// Writes of keys that are watched, and compactions.
    Watch,
    /// Nothing.
    Idle,
}

impl Workload {
    /// All of them, by name.
    pub const ALL: [(&'static str, Workload); 6] = [
        ("mixed", Workload::Mixed),
        ("kv", Workload::Kv),
        ("lease", Workload::Lease),
        ("lock", Workload::Lock),
        ("watch", Workload::Watch),
        ("idle", Workload::Idle),
    ];

    /// How often each kind of operation is drawn; see [`Wish`].
    pub(super) fn weights(self) -> Weights {
        match self {
            Workload::Mixed => [3, 8, 8, 3, 4, 5, 3, 4, 3, 3, 4, 3, 1, 3, 3, 2, 1, 1, 3, 3],
            Workload::Kv => [3, 8, 8, 3, 4, 5, 3, 4, 3, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0],
            Workload::Lease => [3, 2, 2, 0, 1, 1, 0, 1, 0, 5, 8, 8, 1, 0, 0, 0, 0, 1, 0, 0],
            Workload::Lock => [3, 1, 1, 0, 0, 0, 0, 0, 0, 4, 0, 6, 0, 8, 8, 3, 0, 1, 8, 4],
            Workload::Watch => [3, 9, 1, 0, 5, 3, 3, 1, 0, 1, 3, 1, 1, 0, 0, 0, 3, 1, 0, 0],
            Workload::Idle => [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        }
    }
}

/// How often each [`Wish`] is drawn.
pub(super) type Weights = [u64; Wish::ALL.len()];

/// What a client may want to do. The first is the simplest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    Nothing,
    Put,
    Get,
    Serializable,
    Delete,
    Swap,
    Batch,
    Range,
    History,
    Grant,
    PutUnderLease,
    KeepAlive,
    Revoke,
    Lock,
    Critical,
    Unlock,
    Compact,
    MoveLeader,
    Fenced,
    Named,
}

impl Wish {
    pub(super) const ALL: [Wish; 20] = [
        Wish::Nothing,
        Wish::Put,
        Wish::Get,
        Wish::Serializable,
        Wish::Delete,
        Wish::Swap,
        Wish::Batch,
        Wish::Range,
        Wish::History,
        Wish::Grant,
        Wish::PutUnderLease,
        Wish::KeepAlive,
        Wish::Revoke,
        Wish::Lock,
        Wish::Critical,
        Wish::Unlock,
        Wish::Compact,
        Wish::MoveLeader,
        Wish::Fenced,
        Wish::Named,
    ];
}

/// What a client asks of a member.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Asked {
    /// Replicate this.
    Write(Command),
    /// Replicate this if the guard allows it; ask at once, or after a pause.
    Guarded { guard: Guard, command: Command, paused: bool },
    /// A linearizable read.
    Read(Range),
    /// Whatever this member has.
    Serializable(Range),
    /// About a lease.
    Lease(LeaseAsk),
    /// Hand leadership to that node.
    MoveLeader(usize),
    /// Write to the resource that the lock protects, with the token that the client holds; at
    /// once, or after a pause.
    Critical { token: u64, paused: bool },
}

impl Asked {
    /// What is to be replicated.
    pub(super) fn command(&self) -> Option<&Command> {
        match self {
            Asked::Write(command) | Asked::Guarded { command, .. } => Some(command),
            _ => None,
        }
    }

    /// On which conditions.
    pub(super) fn guard(&self) -> Guard {
        match self {
            Asked::Guarded { guard, .. } => guard.clone(),
            _ => Guard::default(),
        }
    }
}

/// A lock that a client believes to hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Held {
    pub(super) token: u64,
    pub(super) lease: i64,
}

/// A lease as its client knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Owned {
    pub(super) id: i64,
    /// It lives at least until then. True time, in nanoseconds: clients have good clocks.
    pub(super) until: u64,
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) number: usize,
    /// The member that it talks to.
    pub(super) home: usize,
    /// It waits for an answer.
    pub(super) busy: bool,
    pub(super) leases: Vec<Owned>,
    pub(super) held: Option<Held>,
    /// A request of unknown outcome that is to be asked again.
    pub(super) again: Option<(Guard, Command)>,
    /// The latest revision that it was told of.
    pub(super) seen: u64,
    written: u64,
    granted: u64,
}

impl Client {
    pub(super) fn new(number: usize, home: usize) -> Client {
        let (leases, held, again) = (Vec::new(), None, None);
        let (busy, seen, written, granted) = (false, 1, 0, 0);
        Client { number, home, busy, leases, held, again, seen, written, granted }
    }

    /// Draws what to do next. None: nothing, or nothing that is possible now.
    pub(super) fn wish<W: World>(
        &mut self,
        weights: &Weights,
        latest: u64,
        nodes: usize,
        hands: &mut Hands<'_, W>,
    ) -> Option<Asked> {
        if let Some((guard, command)) = self.again.take() {
            return Some(Asked::Guarded { guard, command, paused: false });
        }
        let site = Site::new(About::Client, self.number);
        let mut drawn = hands.draw(site, weights.iter().sum());
        let chosen = weights.iter().position(|weight| match drawn.checked_sub(*weight) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        });
        let wish = Wish::ALL[chosen.expect("weights add up to their sum")];
        self.ask(wish, latest, nodes, hands)
    }

    fn detail<W: World>(&self, bound: u64, hands: &mut Hands<'_, W>) -> u64 {
        hands.draw(Site::new(About::Detail, self.number), bound)
    }

    fn key<W: World>(&self, hands: &mut Hands<'_, W>) -> Bytes {
        Bytes::from(format!("k{}", self.detail(KEYS, hands)))
    }

    /// A value that nobody writes a second time.
    fn value(&mut self) -> Bytes {
        self.written += 1;
        Bytes::from(format!("c{}-{}", self.number, self.written))
    }

    fn ask<W: World>(
        &mut self,
        wish: Wish,
        latest: u64,
        nodes: usize,
        hands: &mut Hands<'_, W>,
    ) -> Option<Asked> {
        let asked = match wish {
            Wish::Nothing => return None,
            Wish::Put => {
                let (key, value) = (self.key(hands), self.value());
                let prev_kv = self.detail(4, hands) == 3;
                Asked::Write(Command::Put(Put { key, value, prev_kv, ..Put::default() }))
            }
            Wish::Get => Asked::Read(Range { keys: one(self.key(hands)), ..Range::default() }),
            Wish::Serializable => {
                Asked::Serializable(Range { keys: one(self.key(hands)), ..Range::default() })
            }
            Wish::Delete => {
                let keys = self.some_range(hands);
                Asked::Write(Command::DeleteRange(DeleteRange { keys, prev_kv: false }))
            }
            Wish::Swap => self.swap(latest, hands),
            Wish::Batch => self.batch(hands),
            Wish::History => {
                let revision = self.some_revision(latest, 12, hands)?;
                Asked::Read(Range { keys: self.some_range(hands), revision, ..Range::default() })
            }
            Wish::Range => {
                let keys = self.some_range(hands);
                let limit = self.detail(4, hands);
                Asked::Read(Range { keys, limit, ..Range::default() })
            }
            Wish::Grant => self.grant(hands)?,
            Wish::PutUnderLease => {
                // The key may have had another lease, or none.
                let lease = self.some_lease(hands)?;
                let key = Bytes::from(format!("k/lease/{}/{}", self.number, self.detail(3, hands)));
                let value = self.value();
                Asked::Write(Command::Put(Put { key, value, lease, ..Put::default() }))
            }
            Wish::KeepAlive => Asked::Lease(LeaseAsk::KeepAlive { id: self.some_lease(hands)? }),
            Wish::Revoke => {
                let id = self.some_lease(hands)?;
                self.forget(id);
                Asked::Write(Command::LeaseRevoke { id })
            }
            Wish::Lock => self.lock(hands)?,
            Wish::Critical => {
                let paused = self.detail(4, hands) == 3;
                Asked::Critical { token: self.held?.token, paused }
            }
            Wish::Unlock => self.unlock()?,
            Wish::Compact => {
                let revision = self.some_revision(latest, 20, hands)?;
                Asked::Write(Command::Compact { revision })
            }
            Wish::MoveLeader => Asked::MoveLeader(self.detail(nodes as u64, hands) as usize),
            Wish::Fenced => self.fenced(hands)?,
            Wish::Named => self.named(hands),
        };
        Some(asked)
    }

    /// One of the past, and now and then one that may not have come yet.
    fn some_revision<W: World>(
        &self,
        latest: u64,
        back_max: u64,
        hands: &mut Hands<'_, W>,
    ) -> Option<Revision> {
        let back = 1 + self.detail(back_max, hands);
        match self.detail(8, hands) {
            7 => Some(Revision(latest + back)),
            _ => latest.checked_sub(back).filter(|at| *at > 0).map(Revision),
        }
    }

    /// All keys, or from one on.
    fn some_range<W: World>(&self, hands: &mut Hands<'_, W>) -> Keys {
        match self.detail(3, hands) {
            0 => one(self.key(hands)),
            1 => Keys { key: self.key(hands), range_end: Bytes::from_static(b"k4") },
            _ => Keys { key: self.key(hands), range_end: Bytes::from_static(b"l") },
        }
    }

    /// Compare and set: by value, by version, or by the revision of a key.
    fn swap<W: World>(&mut self, latest: u64, hands: &mut Hands<'_, W>) -> Asked {
        let (key, value) = (self.key(hands), self.value());
        let operand = match self.detail(3, hands) {
            0 => Operand::Create(0),
            1 => Operand::Version(1 + self.detail(4, hands) as i64),
            _ => Operand::Mod(latest.saturating_sub(self.detail(6, hands)) as i64),
        };
        let relation = if self.detail(4, hands) == 3 { Relation::Less } else { Relation::Equal };
        let compare = vec![Compare { keys: one(key.clone()), relation, operand }];
        let put = Put { key: key.clone(), value, ..Put::default() };
        let success = vec![Op::Put(put)];
        let failure = vec![Op::Range(Range { keys: one(key), ..Range::default() })];
        Asked::Write(Command::Txn(Txn { compare, success, failure }))
    }

    /// Several writes at one revision; one of them may be in a transaction inside, and one may make
    /// all of them impossible.
    fn batch<W: World>(&mut self, hands: &mut Hands<'_, W>) -> Asked {
        let first = self.key(hands);
        let shape = self.detail(4, hands);
        let mut put = |key: Bytes, lease: i64| {
            let value = self.value();
            Op::Put(Put { key, value, lease, ..Put::default() })
        };
        // Two keys that are never the same.
        let mut success = vec![put(first.clone(), 0), put(Bytes::from_static(b"k/batch"), 0)];
        let compare = vec![Compare {
            keys: Keys { key: first, range_end: Bytes::from_static(b"k9") },
            // Of some keys of a range this is true, and of others not.
            relation: Relation::Greater,
            operand: Operand::Version(1),
        }];
        match shape {
            0 => {}
            1 => {
                let inner = vec![put(Bytes::from_static(b"k/inner"), 0)];
                let txn = Txn { compare: compare.clone(), success: inner, failure: Vec::new() };
                success.push(Op::Txn(txn));
            }
            2 => success.push(put(Bytes::from_static(b"k/refused"), 4_711)),
            _ => {
                let keys = one(Bytes::from_static(b"k/inner"));
                success.push(Op::DeleteRange(DeleteRange { keys, prev_kv: false }));
            }
        }
        let compare = if self.written % 3 == 0 { compare } else { Vec::new() };
        Asked::Write(Command::Txn(Txn { compare, success, failure: Vec::new() }))
    }

    /// Writes under the lock that it believes to hold, now and then after it stood still.
    fn fenced<W: World>(&mut self, hands: &mut Hands<'_, W>) -> Option<Asked> {
        let token = Revision(self.held?.token);
        let paused = self.detail(4, hands) == 3;
        let fences = vec![Fence { key: lock_key(), token }];
        let (key, value) = (fenced_key(), self.value());
        let command = Command::Put(Put { key, value, ..Put::default() });
        Some(Asked::Guarded { guard: Guard { fences, request: None }, command, paused })
    }

    /// Writes what it will ask again for if it is not answered: whatever is there, or if nobody has
    /// written since it looked.
    fn named<W: World>(&mut self, hands: &mut Hands<'_, W>) -> Asked {
        let put = Put { key: named_key(), value: self.value(), ..Put::default() };
        let command = match self.detail(2, hands) {
            0 => Command::Put(put),
            _ => {
                let operand = Operand::Mod(self.seen as i64 + 1);
                let relation = Relation::Less;
                let compare = vec![Compare { keys: one(named_key()), relation, operand }];
                Command::Txn(Txn { compare, success: vec![Op::Put(put)], failure: Vec::new() })
            }
        };
        let id = Bytes::from(format!("c{}/{}", self.number, self.written));
        let request = Some(RequestId { id, since: Revision(self.seen) });
        Asked::Guarded { guard: Guard { fences: Vec::new(), request }, command, paused: false }
    }

    /// A lease is over, as far as this client is concerned.
    pub(super) fn forget(&mut self, id: i64) {
        self.leases.retain(|lease| lease.id != id);
        self.held = self.held.filter(|held| held.lease != id);
    }

    /// A lease lives until then, at least.
    pub(super) fn renewed(&mut self, id: i64, until: u64) {
        if let Some(lease) = self.leases.iter_mut().find(|lease| lease.id == id) {
            lease.until = lease.until.max(until);
        }
    }

    /// True if the lease that the lock hangs on lives for sure.
    pub(super) fn holds_surely(&self, now: u64) -> bool {
        let lease = self.held.and_then(|held| self.leases.iter().find(|own| own.id == held.lease));
        lease.is_some_and(|lease| now < lease.until)
    }

    fn grant<W: World>(&mut self, hands: &mut Hands<'_, W>) -> Option<Asked> {
        if self.leases.len() >= LEASES_MAX {
            return None;
        }
        self.granted += 1;
        let id = (self.number as i64 + 1) * 1_000_000 + self.granted as i64;
        let ttl = TTLS[self.detail(TTLS.len() as u64, hands) as usize];
        Some(Asked::Write(Command::LeaseGrant { id, ttl, at: LeaseTime::default() }))
    }

    fn some_lease<W: World>(&self, hands: &mut Hands<'_, W>) -> Option<i64> {
        match self.leases.len() as u64 {
            0 => None,
            leases => Some(self.leases[self.detail(leases, hands) as usize].id),
        }
    }

    /// Creates the key of the lock under a lease, if it is not there.
    fn lock<W: World>(&mut self, hands: &mut Hands<'_, W>) -> Option<Asked> {
        if self.held.is_some() {
            return None;
        }
        let lease = self.some_lease(hands)?;
        let key = lock_key();
        let operand = Operand::Create(0);
        let compare = vec![Compare { keys: one(key.clone()), relation: Relation::Equal, operand }];
        let value = self.value();
        let success = vec![Op::Put(Put { key: key.clone(), value, lease, ..Put::default() })];
        let failure = vec![Op::Range(Range { keys: one(key), ..Range::default() })];
        Some(Asked::Write(Command::Txn(Txn { compare, success, failure })))
    }

    /// Removes the key of the lock, if it is still ours.
    fn unlock(&mut self) -> Option<Asked> {
        let held = self.held.take()?;
        let key = lock_key();
        let operand = Operand::Create(held.token as i64);
        let compare = vec![Compare { keys: one(key.clone()), relation: Relation::Equal, operand }];
        let delete = DeleteRange { keys: one(key), prev_kv: false };
        let success = vec![Op::DeleteRange(delete)];
        Some(Asked::Write(Command::Txn(Txn { compare, success, failure: Vec::new() })))
    }
}

/// The key of the one lock; no client deletes it but who holds it.
pub(super) fn lock_key() -> Bytes {
    Bytes::from_static(b"lock")
}

/// What only the holder of the lock writes.
pub(super) fn fenced_key() -> Bytes {
    Bytes::from_static(b"k/fenced")
}

/// What is written by requests that have names, and by nothing else.
pub(super) fn named_key() -> Bytes {
    Bytes::from_static(b"k/named")
}

/// One key.
pub(super) fn one(key: Bytes) -> Keys {
    Keys { key, range_end: Bytes::new() }
}

/// The lease under which a command takes the lock, if it does.
pub(super) fn locks_under(command: &Command) -> Option<i64> {
    let Command::Txn(txn) = command else { return None };
    match txn.success.first() {
        Some(Op::Put(put)) if put.key == lock_key() => Some(put.lease),
        _ => None,
    }
}

/// What is asked, in the words of etcd's command line.
pub(super) fn words(asked: &Asked) -> String {
    let key = |keys: &Keys| {
        let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
        match keys.range_end.is_empty() {
            true => text(&keys.key),
            false => format!("{}..{}", text(&keys.key), text(&keys.range_end)),
        }
    };
    match asked {
        Asked::Guarded { guard, command, paused } => {
            let still = if *paused { "stand still, then " } else { "" };
            let fences = guard.fences.iter().map(|fence| format!(" with token {}", fence.token.0));
            let name = guard
                .request
                .iter()
                .map(|request| format!(" as {}", String::from_utf8_lossy(&request.id)));
            let conditions: String = fences.chain(name).collect();
            format!("{still}{}{conditions}", words(&Asked::Write(command.clone())))
        }
        Asked::Write(Command::Put(put)) => {
            let (name, value) = (key(&one(put.key.clone())), String::from_utf8_lossy(&put.value));
            match put.lease {
                0 => format!("put {name} = {value}"),
                lease => format!("put {name} = {value} under lease {lease}"),
            }
        }
        Asked::Write(Command::DeleteRange(delete)) => format!("delete {}", key(&delete.keys)),
        Asked::Write(command @ Command::Txn(txn)) => match locks_under(command) {
            Some(lease) => format!("lock under lease {lease}"),
            None if txn.compare.first().is_some_and(|c| c.keys.key == lock_key()) => {
                "unlock".to_owned()
            }
            None => match txn.compare.first() {
                Some(Compare { keys, operand, relation }) => {
                    let writes = txn.success.len();
                    format!("if {} {relation:?} {operand:?} then {writes} writes", key(keys))
                }
                None => format!("{} writes at once", txn.success.len()),
            },
        },
        Asked::Write(Command::Compact { revision }) => format!("compact {}", revision.0),
        Asked::Write(Command::LeaseGrant { id, ttl, .. }) => {
            format!("grant lease {id} for {ttl} s")
        }
        Asked::Write(Command::LeaseRevoke { id }) => format!("revoke lease {id}"),
        Asked::Write(command) => format!("{command:?}"),
        Asked::Read(range) => format!("get {}", key(&range.keys)),
        Asked::Serializable(range) => format!("get {} (serializable)", key(&range.keys)),
        Asked::Lease(LeaseAsk::KeepAlive { id }) => format!("keep lease {id} alive"),
        Asked::Lease(LeaseAsk::TimeToLive { id }) => format!("time to live of lease {id}"),
        Asked::MoveLeader(to) => format!("move the leadership to node {to}"),
        Asked::Critical { token, paused: false } => {
            format!("write to the resource with token {token}")
        }
        Asked::Critical { token, paused: true } => {
            format!("stand still, then write to the resource with token {token}")
        }
    }
}
