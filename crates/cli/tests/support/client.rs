//! A client that says of each failure whether the operation may still happen.

use crate::support::cluster::SOON;
use crate::support::net::loopback;
use crate::support::seed::Seed;
use bytes::Bytes;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::mvccpb::KeyValue;
use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How long one request may take: longer than a member looks for a leader, so that it is the member
/// who says what became of it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// How long one request may take in a storm, where another member may know more.
pub(crate) const HURRY: Duration = Duration::from_millis(1_500);

/// Writers of [`fill`].
const FILL_LANES: usize = 16;

/// A request that was not answered with a result.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// It has not happened and never will.
    Definite(Status),
    /// It may have happened, or happen later.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Definite(status) => {
                write!(f, "refused: {:?} {}", status.code(), status.message())
            }
            Failure::Unknown(reason) => write!(f, "outcome unknown: {reason}"),
        }
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Freshness {
    /// It sees every write acknowledged before.
    Linearizable,
    /// It sees what the member has.
    Serializable,
}

/// One key as a read found it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Found {
    /// The value, as text.
    pub(crate) value: String,
    /// Revision of the write.
    pub(crate) mod_revision: i64,
}

/// The answer to a read of one key.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// Revision of the store when it was read.
    pub(crate) revision: i64,
    /// The key, unless it did not exist.
    pub(crate) found: Option<Found>,
}

/// The answer to a compare-and-swap.
#[derive(Clone, Debug)]
pub(crate) enum Swap {
    /// The key was as expected and is written now.
    Done {
        /// Revision of the write.
        revision: i64,
    },
    /// The key was not as expected; this is how it was.
    Lost(Seen),
}

/// The whole store at one revision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    /// Revision of the store.
    pub(crate) revision: i64,
    /// Every key with all its numbers, by key.
    pub(crate) kvs: Vec<KeyValue>,
}

/// A connection to one member; it reconnects by itself.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Key-value calls, for requests that this type has no method for.
    pub(crate) kv: pb::kv_client::KvClient<Channel>,
    /// Calls about the member.
    pub(crate) maintenance: pb::maintenance_client::MaintenanceClient<Channel>,
    /// Calls about the cluster.
    pub(crate) cluster: pb::cluster_client::ClusterClient<Channel>,
    /// Calls about leases.
    pub(crate) lease: pb::lease_client::LeaseClient<Channel>,
    /// Watches.
    pub(crate) watch: pb::watch_client::WatchClient<Channel>,
    /// How long one request may take.
    pub(crate) patience: Duration,
}

impl Client {
    /// A client of the member that serves clients at `port`; connects with the first request.
    pub(crate) fn new(port: u16) -> Client {
        let channel = Endpoint::from_shared(format!("http://{}", loopback(port)))
            .expect("an address")
            .connect_timeout(Duration::from_millis(500))
            .connect_lazy();
        let kv = pb::kv_client::KvClient::new(channel.clone());
        Client {
            kv: kv.max_decoding_message_size(usize::MAX).max_encoding_message_size(usize::MAX),
            maintenance: pb::maintenance_client::MaintenanceClient::new(channel.clone()),
            cluster: pb::cluster_client::ClusterClient::new(channel.clone()),
            lease: pb::lease_client::LeaseClient::new(channel.clone()),
            watch: pb::watch_client::WatchClient::new(channel)
                .max_decoding_message_size(usize::MAX),
            patience: PATIENCE,
        }
    }

    /// A client that would rather ask another member than wait.
    pub(crate) fn in_a_hurry(port: u16) -> Client {
        Client::new(port).with_patience(HURRY)
    }

    /// The same with another limit on the time of one request.
    pub(crate) fn with_patience(mut self, patience: Duration) -> Client {
        self.patience = patience;
        self
    }

    /// Writes one key and returns the revision.
    pub(crate) async fn put(
        &mut self,
        key: &str,
        value: impl Into<Vec<u8>>,
    ) -> Result<i64, Failure> {
        let request =
            pb::PutRequest { key: text(key), value: value.into().into(), ..Default::default() };
        let answer = judge(self.patience, self.kv.put(request)).await?;
        Ok(answer.header.expect("a header").revision)
    }

    /// Deletes one key and returns the revision and the number of keys deleted.
    pub(crate) async fn delete(&mut self, key: &str) -> Result<(i64, i64), Failure> {
        let request = pb::DeleteRangeRequest { key: text(key), ..Default::default() };
        let answer = judge(self.patience, self.kv.delete_range(request)).await?;
        Ok((answer.header.expect("a header").revision, answer.deleted))
    }

    /// Reads one key.
    pub(crate) async fn get(&mut self, key: &str, freshness: Freshness) -> Result<Seen, Failure> {
        let request = pb::RangeRequest {
            key: text(key),
            serializable: freshness == Freshness::Serializable,
            ..Default::default()
        };
        Ok(seen(judge(self.patience, self.kv.range(request)).await?))
    }

    /// Reads keys as they were, each at its own revision, from this member alone.
    pub(crate) async fn get_past(
        &mut self,
        places: impl Iterator<Item = (&str, i64)>,
    ) -> Result<Vec<Option<Found>>, Failure> {
        use pb::{request_op, response_op};
        let success = places
            .map(|(key, revision)| {
                let range = pb::RangeRequest {
                    key: text(key),
                    revision,
                    serializable: true,
                    ..Default::default()
                };
                pb::RequestOp { request: Some(request_op::Request::RequestRange(range)) }
            })
            .collect();
        let request = pb::TxnRequest { success, ..Default::default() };
        let answer = judge(self.patience, self.kv.txn(request)).await?;
        let found = answer.responses.into_iter().map(|op| match op.response {
            Some(response_op::Response::ResponseRange(range)) => first(range.kvs),
            other => panic!("a range was asked for, got {other:?}"),
        });
        Ok(found.collect())
    }

    /// Reads everything.
    pub(crate) async fn all(&mut self, freshness: Freshness) -> Result<Snapshot, Failure> {
        let request = pb::RangeRequest {
            key: Bytes::from_static(b"\0"),
            range_end: Bytes::from_static(b"\0"),
            serializable: freshness == Freshness::Serializable,
            ..Default::default()
        };
        let answer = judge(self.patience, self.kv.range(request)).await?;
        Ok(Snapshot { revision: answer.header.expect("a header").revision, kvs: answer.kvs })
    }

    /// Writes `value` if the key's last write is still the one at `expected` (0: no such key).
    pub(crate) async fn swap(
        &mut self,
        key: &str,
        expected: i64,
        value: &str,
    ) -> Result<Swap, Failure> {
        use pb::compare::{CompareResult, CompareTarget, TargetUnion};
        use pb::{request_op, response_op};
        let put = pb::PutRequest { key: text(key), value: text(value), ..Default::default() };
        let range = pb::RangeRequest { key: text(key), ..Default::default() };
        let request = pb::TxnRequest {
            compare: vec![pb::Compare {
                key: text(key),
                result: CompareResult::Equal.into(),
                target: CompareTarget::Mod.into(),
                target_union: Some(TargetUnion::ModRevision(expected)),
                ..Default::default()
            }],
            success: vec![pb::RequestOp { request: Some(request_op::Request::RequestPut(put)) }],
            failure: vec![pb::RequestOp {
                request: Some(request_op::Request::RequestRange(range)),
            }],
        };
        let mut answer = judge(self.patience, self.kv.txn(request)).await?;
        let revision = answer.header.as_ref().expect("a header").revision;
        if answer.succeeded {
            return Ok(Swap::Done { revision });
        }
        match answer.responses.remove(0).response {
            Some(response_op::Response::ResponseRange(range)) => {
                Ok(Swap::Lost(Seen { revision, found: first(range.kvs) }))
            }
            other => panic!("a range was asked for, got {other:?}"),
        }
    }

    /// What the member says of itself.
    pub(crate) async fn status(&mut self) -> Result<pb::StatusResponse, Failure> {
        judge(self.patience, self.maintenance.status(pb::StatusRequest {})).await
    }

    /// Forgets the history before `revision`.
    pub(crate) async fn compact(&mut self, revision: i64) -> Result<(), Failure> {
        let request = pb::CompactionRequest { revision, physical: false };
        judge(self.patience, self.kv.compact(request)).await.map(|_| ())
    }

    /// The hash of the history up to `revision`.
    pub(crate) async fn hash_kv(&mut self, revision: i64) -> Result<pb::HashKvResponse, Failure> {
        let request = pb::HashKvRequest { revision };
        judge(self.patience, self.maintenance.hash_kv(request)).await
    }

    /// Asks this member, which should be the leader, to hand leadership to another.
    pub(crate) async fn move_leader(&mut self, target_id: u64) -> Result<(), Failure> {
        let request = pb::MoveLeaderRequest { target_id };
        judge(self.patience, self.maintenance.move_leader(request)).await.map(|_| ())
    }

    /// The members as this one knows them.
    pub(crate) async fn members(&mut self) -> Result<pb::MemberListResponse, Failure> {
        let request = pb::MemberListRequest::default();
        judge(self.patience, self.cluster.member_list(request)).await
    }
}

/// Writes the keys `prefix/0` to `prefix/(count - 1)`, several at a time, each with [`filler`] of
/// its name as the value. Writes are repeated until they are acknowledged.
///
/// Panics: if a write is not acknowledged in time.
pub(crate) async fn fill(client: &Client, prefix: &str, count: usize, bytes: usize) {
    let lanes: Vec<_> = (0..FILL_LANES)
        .map(|lane| {
            let keys: Vec<String> =
                (lane..count).step_by(FILL_LANES).map(|number| key(prefix, number)).collect();
            tokio::spawn(fill_lane(client.clone(), keys, bytes))
        })
        .collect();
    for lane in lanes {
        lane.await.expect("a writer");
    }
}

async fn fill_lane(mut client: Client, keys: Vec<String>, bytes: usize) {
    for key in keys {
        let deadline = Instant::now() + SOON;
        while let Err(failure) = client.put(&key, filler(&key, bytes)).await {
            assert!(Instant::now() < deadline, "{key}: {failure}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Checks that a store holds what [`fill`] wrote, whole.
pub(crate) fn assert_filled(snapshot: &Snapshot, prefix: &str, count: usize, bytes: usize) {
    for number in 0..count {
        let key = key(prefix, number);
        let at = snapshot.kvs.binary_search_by(|kv| kv.key.as_ref().cmp(key.as_bytes()));
        let at = at.unwrap_or_else(|_| panic!("{key} is lost"));
        assert!(snapshot.kvs[at].value == filler(&key, bytes), "{key} has another value");
    }
}

fn key(prefix: &str, number: usize) -> String {
    format!("{prefix}/{number}")
}

/// `bytes` bytes which depend on the key and do not compress, so that a mix-up is noticed.
fn filler(key: &str, bytes: usize) -> Vec<u8> {
    let seed = key.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    Seed::new(seed).bytes(bytes)
}

/// Waits for an answer and tells definite refusals from unknown outcomes.
pub(crate) async fn judge<T>(
    patience: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(patience, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) if is_definite(&status) => Err(Failure::Definite(status)),
        Ok(Err(status)) => {
            Err(Failure::Unknown(format!("{:?} {}", status.code(), status.message())))
        }
        Err(_) => Err(Failure::Unknown(format!("no answer within {patience:?}"))),
    }
}

/// Only what is known to be refused before it was proposed counts; anything new is unknown.
fn is_definite(status: &Status) -> bool {
    let message = status.message();
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition | Code::NotFound => {
            true
        }
        Code::ResourceExhausted => message == "etcdserver: too many requests",
        Code::Unavailable => {
            // The second is the client library's: the connection was refused, nothing was sent.
            message == "etcdserver: no leader" || message == "tcp connect error"
        }
        _ => false,
    }
}

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn seen(answer: pb::RangeResponse) -> Seen {
    let revision = answer.header.expect("a header").revision;
    Seen { revision, found: first(answer.kvs) }
}

fn first(kvs: Vec<KeyValue>) -> Option<Found> {
    kvs.into_iter().next().map(|kv| Found {
        value: String::from_utf8_lossy(&kv.value).into_owned(),
        mod_revision: kv.mod_revision,
    })
}
