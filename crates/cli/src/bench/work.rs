//! One client: asks, and judges the answer.
//!
//! A client uses its connections in turn, so that one client alone sees leader and followers as
//! often as many clients do. Each has its own place in a random sequence, its own number as a
//! writer, and one question under way at a time.

use super::cluster::Cluster;
use super::leases::{Keeper, Kept, Leases};
use super::ledger::Ledger;
use super::round::Load;
use super::space::Random;
use super::stamp::Stamp;
use super::verdict::Wrong;
use crate::client::Channel;
use bytes::Bytes;
use quorate_server::proto::etcdserverpb::compare::{CompareTarget, TargetUnion};
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::request_op::Request;
use quorate_server::proto::etcdserverpb::response_op::Response;
use quorate_server::proto::etcdserverpb::{
    Compare, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use std::sync::Arc;
use std::time::Instant;
use tonic::{Code, Status};

/// What clients do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Work {
    /// Writes of random keys.
    Put,
    /// Reads of random keys.
    Get(Freshness),
    /// Reads and writes of random keys.
    Mixed {
        /// How many of a hundred are linearizable reads.
        reads: u64,
    },
    /// Compare-and-swaps of random keys, by the revision that is known of them.
    Swap,
    /// Reads of neighbouring keys.
    Range {
        /// How many.
        span: u64,
    },
    /// Reads of all keys in one call.
    List,
    /// Grants of leases.
    Grant,
    /// Keep-alives of leases.
    KeepAlive {
        /// Of how many, together.
        leases: u64,
    },
    /// Events to many watchers.
    Watch {
        /// How many.
        watchers: usize,
        /// Over so many streams.
        streams: usize,
    },
    /// The mix of `age.rs`.
    Age,
    /// Questions to a server that sends back what it gets.
    Echo,
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Freshness {
    /// It sees every write acknowledged before.
    Linearizable,
    /// It sees what the member has.
    Serializable,
}

/// What came of a question.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Done {
    /// What was wanted.
    Fully,
    /// The key had been written by somebody else; nothing changed.
    Conflict,
}

/// Why a question has no good answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// Refused, or lost.
    Status(Status),
    /// Answered wrongly.
    Wrong(Wrong),
}

impl From<Status> for Failed {
    fn from(status: Status) -> Failed {
        Failed::Status(status)
    }
}

impl From<Wrong> for Failed {
    fn from(wrong: Wrong) -> Failed {
        Failed::Wrong(wrong)
    }
}

/// One connection as one client uses it.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The endpoint, to name it.
    pub(super) endpoint: Arc<str>,
    /// The connection.
    pub(super) channel: Channel,
    pub(super) kv: KvClient<Channel>,
    pub(super) lease: LeaseClient<Channel>,
    /// Newest revision that a serializable answer on this connection had.
    reached: i64,
}

impl Link {
    /// Over this connection.
    pub(super) fn new(endpoint: Arc<str>, channel: Channel) -> Link {
        let kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let lease = LeaseClient::new(channel.clone());
        Link { endpoint, channel, kv, lease, reached: 0 }
    }
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) ledger: Arc<Ledger>,
    pub(super) leases: Arc<Leases>,
    pub(super) random: Random,
    pub(super) filling: Bytes,
    /// Index of the connection that is used now.
    pub(super) turn: usize,
    /// Its own leases, if it keeps any alive.
    pub(super) kept: Vec<Kept>,
    pub(super) keeper: Option<Keeper>,
    links: Vec<Link>,
    writer: u32,
    sequence: u64,
    origin: Instant,
}

impl Client {
    /// Client `index` on these connections, of which there is at least one.
    pub(super) fn new(
        cluster: &Cluster,
        load: &Load,
        links: Vec<Link>,
        index: usize,
        random: Random,
    ) -> Client {
        assert!(!links.is_empty(), "a client has a connection");
        let kept = match load.work {
            Work::KeepAlive { .. } => cluster.leases.share(index, load.clients),
            _ => Vec::new(),
        };
        Client {
            ledger: Arc::clone(&cluster.ledger),
            leases: Arc::clone(&cluster.leases),
            random,
            filling: load.filling.clone(),
            turn: index % links.len(),
            kept,
            keeper: None,
            links,
            writer: cluster.ledger.writer(),
            sequence: 0,
            origin: cluster.origin,
        }
    }

    /// The endpoint that was asked last.
    pub(super) fn endpoint(&self) -> &str {
        &self.links[self.turn % self.links.len()].endpoint
    }

    /// One operation.
    pub(super) async fn once(&mut self, work: Work) -> Result<Done, Failed> {
        self.turn = (self.turn + 1) % self.links.len();
        let outcome = match work {
            Work::Put => self.put().await,
            Work::Get(freshness) => self.get(freshness).await,
            Work::Mixed { reads } if self.random.below(100) < reads => {
                self.get(Freshness::Linearizable).await
            }
            Work::Mixed { .. } => self.put().await,
            Work::Swap => self.swap().await,
            Work::Range { span } => {
                let first = self.random.below(self.ledger.space.keys - span + 1);
                self.range(first, span).await
            }
            Work::List => self.range(0, self.ledger.space.keys).await,
            Work::Grant => self.grant().await,
            Work::KeepAlive { .. } => self.keep_alive().await,
            Work::Age => self.age().await,
            Work::Echo => self.echo().await,
            Work::Watch { .. } => unreachable!("watch.rs runs its rounds"),
        };
        if let Err(Failed::Status(_)) = outcome {
            // What was on its way may happen after what this writer does next, and the member may
            // have been replaced by one that has not caught up.
            self.lost();
            self.link().reached = 0;
        }
        outcome
    }

    /// A write of this client may happen at any time, so that it goes on as another writer.
    fn lost(&mut self) {
        self.ledger.perhaps_written();
        self.writer = self.ledger.writer();
        self.sequence = 0;
    }

    pub(super) fn link(&mut self) -> &mut Link {
        &mut self.links[self.turn]
    }

    pub(super) fn any_key(&mut self) -> u64 {
        self.random.below(self.ledger.space.keys)
    }

    pub(super) fn stamp(&mut self, key: u64, counter: u64, sent: Instant) -> Stamp {
        self.sequence += 1;
        let sent_at = u64::try_from((sent - self.origin).as_nanos()).unwrap_or(u64::MAX);
        let (writer, sequence) = (self.writer, self.sequence);
        Stamp { writer, run: self.ledger.run, key, sequence, counter, sent_at }
    }

    async fn put(&mut self) -> Result<Done, Failed> {
        self.write(0, 0, Instant::now()).await.map(|_| Done::Fully)
    }

    /// A write for watchers to see, by the writer in this slot; its time counts from `start`.
    pub(super) async fn put_for(&mut self, slot: u64, start: Instant) -> Result<i64, Failed> {
        self.turn = (self.turn + 1) % self.links.len();
        let outcome = self.write(slot, 0, start).await;
        if let Err(Failed::Status(_)) = outcome {
            self.ledger.perhaps_written();
        }
        outcome
    }

    /// Writes a random key; tells at which revision.
    pub(super) async fn write(
        &mut self,
        counter: u64,
        lease: i64,
        sent: Instant,
    ) -> Result<i64, Failed> {
        let number = self.any_key();
        let stamp = self.stamp(number, counter, sent);
        let (value, checksum) = stamp.encode(&self.filling);
        let key = self.ledger.space.key(number);
        let floor = self.ledger.floor();
        let request = PutRequest { key, value, lease, ..PutRequest::default() };
        let answer = self.link().kv.put(request).await?.into_inner();
        Ok(self.ledger.acknowledged(floor, answer.header.as_ref(), &stamp, checksum)?)
    }

    async fn get(&mut self, freshness: Freshness) -> Result<Done, Failed> {
        let number = self.any_key();
        let serializable = freshness == Freshness::Serializable;
        let key = self.ledger.space.key(number);
        let floor = self.ledger.floor();
        let request = RangeRequest { key, serializable, ..RangeRequest::default() };
        let answer = self.link().kv.range(request).await?.into_inner();
        let at = match freshness {
            Freshness::Linearizable => self.ledger.fresh(floor, answer.header.as_ref())?,
            Freshness::Serializable => self.forward(&answer)?,
        };
        self.judge(number, 1, at, &answer)?;
        Ok(Done::Fully)
    }

    async fn range(&mut self, first: u64, span: u64) -> Result<Done, Failed> {
        let space = &self.ledger.space;
        let (key, range_end) = (space.key(first), space.key(first + span));
        let floor = self.ledger.floor();
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let answer = self.link().kv.range(request).await?.into_inner();
        let at = self.ledger.fresh(floor, answer.header.as_ref())?;
        self.judge(first, span, at, &answer)?;
        Ok(Done::Fully)
    }

    /// Writes a key if it is still at the revision that is known of it.
    async fn swap(&mut self) -> Result<Done, Failed> {
        let number = self.any_key();
        let known = self.ledger.known(number);
        let stamp = self.stamp(number, known.counter + 1, Instant::now());
        let (value, checksum) = stamp.encode(&self.filling);
        let key = self.ledger.space.key(number);
        let floor = self.ledger.floor();
        let answer = self.link().kv.txn(swap_of(key, known.revision, value)).await;
        let answer = match answer {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                if !is_refusal(&status) {
                    self.ledger.perhaps_swapped();
                }
                return Err(status.into());
            }
        };
        let only = <[_; 1]>::try_from(answer.responses).ok().map(|[only]| only.response);
        match (answer.succeeded, only) {
            (true, Some(Some(Response::ResponsePut(_)))) => {
                self.ledger.acknowledged(floor, answer.header.as_ref(), &stamp, checksum)?;
                self.ledger.swapped();
                Ok(Done::Fully)
            }
            (false, Some(Some(Response::ResponseRange(range)))) => {
                let at = self.ledger.fresh(floor, answer.header.as_ref())?;
                self.judge(number, 1, at, &range)?;
                let revision = range.kvs.first().map_or(0, |pair| pair.mod_revision);
                if revision != known.revision {
                    return Ok(Done::Conflict);
                }
                Err(Failed::Wrong(Wrong {
                    promise: "a comparison fails only if it does not hold",
                    expected: format!("mod_revision = {revision} to hold"),
                    seen: format!("the other branch, with mod_revision {revision}"),
                }))
            }
            _ => Err(Failed::Wrong(Wrong {
                promise: "a transaction answers each operation of the branch taken",
                expected: "the answer to one put, or else to one range".to_owned(),
                seen: "another list of answers".to_owned(),
            })),
        }
    }

    /// Asks a server that answers with the value it was sent (`echo.rs` of the server).
    async fn echo(&mut self) -> Result<Done, Failed> {
        let number = self.any_key();
        let stamp = self.stamp(number, 0, Instant::now());
        let (value, _) = stamp.encode(&self.filling);
        let key = self.ledger.space.key(number);
        let called = key.clone();
        let request = RangeRequest { key, range_end: value.clone(), ..RangeRequest::default() };
        let answer = self.link().kv.range(request).await?.into_inner();
        match answer.kvs.as_slice() {
            [pair] if pair.key == called && pair.value == value => Ok(Done::Fully),
            other => Err(Failed::Wrong(Wrong {
                promise: "an echo is what was called",
                expected: format!("one pair, the value {stamp:?}"),
                seen: format!("{} pairs, or another value", other.len()),
            })),
        }
    }

    /// A member's own state only goes forward.
    fn forward(&mut self, answer: &RangeResponse) -> Result<i64, Wrong> {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let link = self.link();
        if revision < link.reached {
            return Err(Wrong {
                promise: "on one connection serializable reads never go back",
                expected: format!("an answer of revision {} or later", link.reached),
                seen: format!("revision {revision}"),
            });
        }
        link.reached = revision;
        Ok(revision)
    }

    /// All keys from `first` on, and no others, as the books know them.
    fn judge(&self, first: u64, span: u64, at: i64, answer: &RangeResponse) -> Result<(), Wrong> {
        judge(&self.ledger, first, span, at, answer)
    }
}

/// All keys from `first` on, and no others, as the books know them.
pub(super) fn judge(
    ledger: &Ledger,
    first: u64,
    span: u64,
    at: i64,
    answer: &RangeResponse,
) -> Result<(), Wrong> {
    for (key, pair) in (first..first + span).zip(&answer.kvs) {
        ledger.seen(key, pair, at)?;
    }
    let count = answer.kvs.len() as u64;
    if count < span {
        // Every key was written before, so that even a member that lags has them all.
        ledger.missing(first + count, at)?;
    }
    let told = u64::try_from(answer.count).unwrap_or(u64::MAX);
    if count == span && told == span && !answer.more {
        return Ok(());
    }
    Err(Wrong {
        promise: "a range without a limit is complete, and no key appears that was not written",
        expected: format!("{span} keys, counted {span}, and no more to come"),
        seen: format!("{count} keys, counted {told}, more to come: {}", answer.more),
    })
}

/// Writes if the key is at this revision, reads it otherwise.
pub(super) fn swap_of(key: Bytes, revision: i64, value: Bytes) -> TxnRequest {
    let operation = |request| vec![RequestOp { request: Some(request) }];
    let compare = Compare {
        target: CompareTarget::Mod.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        key: key.clone(),
        ..Compare::default()
    };
    let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    TxnRequest {
        compare: vec![compare],
        success: operation(Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })),
        failure: operation(Request::RequestRange(range)),
    }
}

/// True if a write that failed so has certainly not happened.
pub(super) fn is_refusal(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::Internal
            | Code::Aborted
    )
}
