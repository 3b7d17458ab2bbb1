//! Clients that live on leases: some keep them, some let them end, some hold a lock by one.
//!
//! A *keeper* is granted a lease, hangs keys on it in one transaction, renews it for a while, and
//! then revokes it or walks away. A *contender* takes a lock in one transaction (no such key: put
//! it, with my lease), writes under the fence of the lock's revision, and gives the lock back, or
//! walks away and leaves that to its lease. `leased.rs` judges what they saw.

use crate::support::client::{Client, Failure, judge};
use crate::support::leased::{OWN_KEYS, Sight, Tenancy, Tenure, own_key};
use crate::support::order::{Claim, Fate};
use crate::support::seed::Seed;
use bytes::Bytes;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_server::proto::etcdserverpb::request_op::Request;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tonic::codegen::tokio_stream;
use tonic::{Code, Status};

/// The key of the lock.
pub(crate) const LOCK: &str = "lock";

/// The key that is written by the holder of the lock only.
pub(crate) const FENCED: &str = "fenced";

/// Times to live that are asked for. Unit: seconds.
const TTL_MIN: usize = 2;
pub(crate) const TTL_MAX: usize = 4;

/// Keys that hang on a keeper's lease.
const KEYS: usize = 3;

/// A pause after a failed request.
const BREATH: Duration = Duration::from_millis(30);

/// Time between two writes under the fence, and between two attempts to take the lock.
const WRITE_EVERY: Duration = Duration::from_millis(60);

/// What a tenant brings home.
#[derive(Debug, Default)]
pub(crate) struct Lived {
    /// Every lease that may have been granted.
    pub(crate) tenancies: Vec<Tenancy>,
    /// Every time that it held the lock.
    pub(crate) tenures: Vec<Tenure>,
    /// Every write that it sent.
    pub(crate) claims: Vec<Claim>,
    /// Every answer with a revision.
    pub(crate) sights: Vec<Sight>,
}

impl Lived {
    /// Adds what another brought home.
    pub(crate) fn append(&mut self, other: Lived) {
        self.tenancies.extend(other.tenancies);
        self.tenures.extend(other.tenures);
        self.claims.extend(other.claims);
        self.sights.extend(other.sights);
    }
}

/// What a tenant does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trade {
    /// It hangs keys on leases.
    Keeper,
    /// It wants the lock.
    Contender,
}

/// A client that lives on leases.
pub(crate) struct Tenant {
    number: usize,
    members: Vec<Client>,
    at: usize,
    start: Instant,
    seed: Seed,
    sequence: i64,
    lived: Lived,
}

/// How it went to renew a lease.
enum Renewal {
    Done,
    Unanswered,
    Gone,
}

impl Tenant {
    /// A tenant with a number of its own.
    pub(crate) fn new(number: usize, ports: &[u16], start: Instant, seed: Seed) -> Tenant {
        let members = ports.iter().map(|port| Client::in_a_hurry(*port)).collect();
        let lived = Lived::default();
        Tenant { number, members, at: number, start, seed, sequence: 0, lived }
    }

    /// Works until it is over.
    pub(crate) async fn live(mut self, trade: Trade, over: Arc<AtomicBool>) -> Lived {
        while !over.load(Ordering::SeqCst) {
            match trade {
                Trade::Keeper => self.keep(&over).await,
                Trade::Contender => self.contend(&over).await,
            }
        }
        self.lived
    }

    /// One lease from its grant to its end, or to where it is left alone.
    async fn keep(&mut self, over: &AtomicBool) {
        let Some(mut tenancy) = self.granted().await else { return };
        let value = self.next_value();
        let keys: Vec<String> = (0..KEYS).map(|number| own_key(tenancy.id, number)).collect();
        let puts = keys.iter().map(|key| put(key, &value, tenancy.id)).collect();
        let outcome = self.write(Vec::new(), puts).await;
        self.claim(&keys, Some(value), outcome.fate());
        let renewals = self.seed.below(10);
        for _ in 0..renewals {
            let pause = Duration::from_nanos(tenancy.ttl / 5);
            if over.load(Ordering::SeqCst) || !self.still_there(&mut tenancy, pause).await {
                break;
            }
        }
        if self.seed.below(3) == 0 && tenancy.gone.is_none() {
            self.revoke(&mut tenancy).await;
        }
        tenancy.until = self.now();
        self.lived.tenancies.push(tenancy);
    }

    /// One attempt to take the lock, with all that follows if it succeeds.
    async fn contend(&mut self, over: &AtomicBool) {
        let Some(mut tenancy) = self.granted().await else { return };
        loop {
            let own = own_key(tenancy.id, 0);
            let value = self.next_value();
            let puts = vec![put(LOCK, &value, tenancy.id), put(&own, &value, tenancy.id)];
            let outcome = self.write(vec![compare(LOCK, 0)], puts).await;
            self.claim(&[LOCK.to_owned(), own], Some(value), outcome.fate());
            match outcome {
                Outcome::Done { revision } => {
                    self.hold(&mut tenancy, revision, over).await;
                    break;
                }
                // It may have it without knowing: that must be left to the lease.
                Outcome::Unknown => break,
                Outcome::Lost | Outcome::Refused => {}
            }
            if over.load(Ordering::SeqCst) || !self.still_there(&mut tenancy, WRITE_EVERY).await {
                break;
            }
        }
        tenancy.until = self.now();
        self.lived.tenancies.push(tenancy);
    }

    /// Holds the lock for a while and writes under its fence.
    async fn hold(&mut self, tenancy: &mut Tenancy, token: i64, over: &AtomicBool) {
        let from = self.now();
        let mut tenure = Tenure { holder: self.number, token, from, until: 0, fenced: Vec::new() };
        let writes = self.seed.between(2, 12);
        for _ in 0..writes {
            let value = self.next_value();
            let outcome =
                self.write(vec![compare(LOCK, token)], vec![put(FENCED, &value, 0)]).await;
            self.claim(&[FENCED.to_owned()], Some(value), outcome.fate());
            if let Outcome::Done { revision } = outcome {
                tenure.fenced.push(revision);
            }
            if over.load(Ordering::SeqCst) || !self.still_there(tenancy, WRITE_EVERY).await {
                break;
            }
        }
        tenure.until = tenancy.held_until();
        if self.seed.below(4) > 0 {
            tenure.until = tenure.until.min(self.now());
            let delete = pb::DeleteRangeRequest { key: LOCK.into(), ..Default::default() };
            let delete = Request::RequestDeleteRange(delete);
            let outcome = self.write(vec![compare(LOCK, token)], vec![delete]).await;
            self.claim(&[LOCK.to_owned()], None, outcome.fate());
            if self.seed.below(2) == 0 {
                self.revoke(tenancy).await;
            }
        }
        self.lived.tenures.push(tenure);
    }

    /// A new lease, if that is known to be granted.
    async fn granted(&mut self) -> Option<Tenancy> {
        self.sequence += 1;
        let id = (self.number as i64 + 1) * 1_000_000 + self.sequence;
        let ttl = self.seed.between(TTL_MIN, TTL_MAX + 1) as i64;
        let sent = self.now();
        let patience = self.member().patience;
        let request = pb::LeaseGrantRequest { ttl, id };
        let granted = judge(patience, self.member().lease.lease_grant(request)).await;
        let ttl = Duration::from_secs(ttl as u64).as_nanos() as u64;
        let mut tenancy = Tenancy {
            id,
            ttl,
            renewals: Vec::new(),
            until: self.now(),
            gone: None,
            revoking: None,
            revoked: None,
        };
        match granted {
            Ok(granted) => {
                let revision = granted.header.expect("a header").revision;
                self.saw(sent, revision);
                tenancy.ttl = Duration::from_secs(granted.ttl as u64).as_nanos() as u64;
                tenancy.renewals.push(sent);
                return Some(tenancy);
            }
            // It may be there, and must end even so.
            Err(Failure::Unknown(_)) => self.lived.tenancies.push(tenancy),
            Err(Failure::Definite(_)) => {}
        }
        self.stumble().await;
        None
    }

    /// Waits, then renews a lease; tries again until its time is over. False if it is gone, or may
    /// be for all that this client knows.
    async fn still_there(&mut self, tenancy: &mut Tenancy, pause: Duration) -> bool {
        tokio::time::sleep(pause).await;
        while self.now() < tenancy.held_until() {
            let sent = self.now();
            match self.renew(tenancy.id).await {
                Renewal::Done => {
                    tenancy.renewals.push(sent);
                    return true;
                }
                Renewal::Gone => {
                    tenancy.gone = Some(self.now());
                    return false;
                }
                Renewal::Unanswered => self.stumble().await,
            }
        }
        false
    }

    async fn renew(&mut self, id: i64) -> Renewal {
        // A third of the shortest time: a member that stands still must not cost the lease.
        let patience = Duration::from_secs(TTL_MIN as u64) / 3;
        let sent = self.now();
        let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
        let lease = &mut self.member().lease;
        let asked = async {
            let mut answers = lease.lease_keep_alive(once).await?.into_inner();
            answers.message().await?.ok_or_else(|| Status::cancelled("the stream ended"))
        };
        let answer = match tokio::time::timeout(patience, asked).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => return Renewal::Unanswered,
        };
        assert_eq!(answer.id, id, "the answer is about another lease");
        self.saw(sent, answer.header.expect("a header").revision);
        if answer.ttl > 0 { Renewal::Done } else { Renewal::Gone }
    }

    async fn revoke(&mut self, tenancy: &mut Tenancy) {
        let sent = self.now();
        let patience = self.member().patience;
        let request = pb::LeaseRevokeRequest { id: tenancy.id };
        let revoked = judge(patience, self.member().lease.lease_revoke(request)).await;
        match revoked {
            Ok(revoked) => {
                let revision = revoked.header.expect("a header").revision;
                self.saw(sent, revision);
                (tenancy.revoking, tenancy.revoked) = (Some(sent), Some(revision));
            }
            Err(Failure::Definite(status)) if status.code() == Code::NotFound => {
                // It asked only once, so it was not this that ended the lease.
                tenancy.gone = Some(self.now());
            }
            Err(Failure::Definite(_)) => {}
            Err(Failure::Unknown(_)) => {
                tenancy.revoking = Some(sent);
                self.stumble().await;
            }
        }
    }

    /// A transaction; without conditions it is done in any case.
    async fn write(&mut self, compare: Vec<pb::Compare>, success: Vec<Request>) -> Outcome {
        let success = success.into_iter().map(|op| pb::RequestOp { request: Some(op) }).collect();
        let request = pb::TxnRequest { compare, success, failure: Vec::new() };
        let sent = self.now();
        let patience = self.member().patience;
        match judge(patience, self.member().kv.txn(request)).await {
            Ok(answer) => {
                let revision = answer.header.expect("a header").revision;
                self.saw(sent, revision);
                if answer.succeeded { Outcome::Done { revision } } else { Outcome::Lost }
            }
            Err(Failure::Definite(_)) => {
                self.stumble().await;
                Outcome::Refused
            }
            Err(Failure::Unknown(_)) => {
                self.stumble().await;
                Outcome::Unknown
            }
        }
    }

    fn claim(&mut self, keys: &[String], value: Option<String>, fate: Fate) {
        let claims = keys.iter().map(|key| Claim { key: key.clone(), value: value.clone(), fate });
        self.lived.claims.extend(claims);
    }

    fn saw(&mut self, invoked: u64, revision: i64) {
        let returned = self.now();
        self.lived.sights.push(Sight { invoked, returned, revision });
    }

    /// After a failed request: another member, after a pause.
    async fn stumble(&mut self) {
        self.at = self.seed.below(self.members.len());
        tokio::time::sleep(BREATH).await;
    }

    fn member(&mut self) -> &mut Client {
        let count = self.members.len();
        &mut self.members[self.at % count]
    }

    fn now(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    fn next_value(&mut self) -> String {
        self.sequence += 1;
        format!("tenant {}.{}", self.number, self.sequence)
    }
}

/// What came of a transaction.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    /// Its conditions held.
    Done {
        /// Its revision.
        revision: i64,
    },
    /// Its conditions did not hold.
    Lost,
    Refused,
    Unknown,
}

impl Outcome {
    fn fate(self) -> Fate {
        match self {
            Outcome::Done { revision } => Fate::Acknowledged(revision),
            Outcome::Lost | Outcome::Refused => Fate::Refused,
            Outcome::Unknown => Fate::Unknown,
        }
    }
}

/// True for a key that the end of a lease may delete.
pub(crate) fn has_lease(key: &str) -> bool {
    key == LOCK || key.starts_with(OWN_KEYS)
}

fn put(key: &str, value: &str, lease: i64) -> Request {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let value = Bytes::copy_from_slice(value.as_bytes());
    Request::RequestPut(pb::PutRequest { key, value, lease, ..Default::default() })
}

/// The condition that a key's last write is the one at `revision`; 0: that there is no such key.
fn compare(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        key: Bytes::copy_from_slice(key.as_bytes()),
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Default::default()
    }
}
