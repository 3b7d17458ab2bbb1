//! Filling the key space before a run, and going through the books after it.
//!
//! Reads are only judged by what is known, so keys that shall be read are read once, or written,
//! before anything is measured; a key space that an earlier run has filled is kept as it is. After
//! the last round every key is read again: what was acknowledged must be there, and the counters
//! of compare-and-swaps must have grown by as many as were acknowledged.

use super::cluster::Cluster;
use super::ledger::Ledger;
use super::progress::Progress;
use super::stamp::{STAMP_BYTES, Stamp};
use super::verdict::Wrong;
use super::work::Failed;
use crate::client::Channel;
use bytes::Bytes;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::request_op::Request;
use quorate_server::proto::etcdserverpb::{
    PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
};
use std::fmt;
use std::sync::Arc;
use tokio::task::JoinSet;
use tonic::Status;

/// Bytes of keys and values in one question or answer, roughly: well below etcd's 1.5 MiB.
const BATCH_BYTES: usize = 512 * 1024;

/// Writes in one transaction; etcd allows 128 by default.
const BATCH_WRITES_MAX: usize = 100;

/// Keys in one answer.
const PAGE_KEYS_MAX: usize = 4_096;

/// Transactions under way at one time.
const LANES: usize = 8;

/// How often a transaction is sent that fails.
const ATTEMPTS_MAX: u32 = 5;

/// Why a key space cannot be filled or read.
#[derive(Debug)]
pub(super) enum FillError {
    /// No endpoint can be reached.
    Unreachable { endpoint: String, reason: String },
    /// A question was refused, or its answer lost.
    Failed { endpoint: String, status: Status },
    /// The server answers wrongly; see the cluster's verdict.
    Condemned,
    /// A key holds what no run of this program wrote.
    Foreign { key: String },
}

impl fmt::Display for FillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FillError::Unreachable { endpoint, reason } => write!(
                f,
                "cannot reach {endpoint}: {reason}; start a cluster with 'quorate up', or name one \
                 with --endpoints"
            ),
            FillError::Failed { endpoint, status } => write!(
                f,
                "{endpoint} does not let the key space be filled or read: {:?}: {}; 'quorate \
                 status' shows how the members are",
                status.code(),
                status.message()
            ),
            FillError::Condemned => f.write_str("the server answers wrongly"),
            FillError::Foreign { key } => write!(
                f,
                "{key} holds a value that is not from this program, or is damaged; choose another \
                 --prefix, or delete these keys with 'quorate ctl del --prefix'"
            ),
        }
    }
}

/// What the values of all keys add up to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Totals {
    /// Keys there are.
    pub(super) keys: u64,
    /// Sum of their counters.
    pub(super) counters: u64,
}

/// What to do with keys that are not there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Gaps {
    /// Write them.
    Filled,
    /// Leave them.
    Left,
}

/// Makes the keys of the key space known; where gaps are filled, all exist afterwards, with values
/// of one size.
pub(super) async fn prepare(
    cluster: &Cluster,
    filling: &Bytes,
    gaps: Gaps,
    progress: &mut Progress,
) -> Result<Totals, FillError> {
    let channels = connect(cluster).await?;
    progress.begin(format!("{}: reading", cluster.name));
    let size = STAMP_BYTES + filling.len();
    let mut totals = Totals::default();
    let mut wanted = Vec::new();
    let mut next = 0;
    each_page(cluster, &channels[0], size, async |ledger, page, at, upto| {
        for pair in &page.kvs {
            let key = String::from_utf8_lossy(&pair.key).into_owned();
            let Some(number) = ledger.space.number(&pair.key) else {
                return Err(FillError::Foreign { key });
            };
            let Ok((stamp, _)) = Stamp::decode(&pair.value) else {
                return Err(FillError::Foreign { key });
            };
            if gaps == Gaps::Filled {
                wanted.extend(next..number);
            }
            next = number + 1;
            ledger.begins_at(number, pair.version);
            let is_fit = pair.value.len() == size || gaps == Gaps::Left;
            // A key that dies with a lease would be missed.
            if is_fit && pair.lease == 0 {
                condemning(cluster, ledger.seen(number, pair, at))?;
                totals.counters += stamp.counter;
            } else {
                wanted.push(number);
            }
        }
        if gaps == Gaps::Filled {
            wanted.extend(next..upto);
        }
        next = next.max(upto);
        progress.count(next, ledger.space.keys);
        Ok(())
    })
    .await?;
    totals.keys = cluster.ledger.space.keys;
    write(cluster, &channels, filling, wanted, progress).await?;
    Ok(totals)
}

/// Reads every key and compares it with the books.
pub(super) async fn audit(
    cluster: &Cluster,
    value_bytes: usize,
    progress: &mut Progress,
) -> Result<Totals, FillError> {
    let channels = connect(cluster).await?;
    progress.begin(format!("{}: verifying", cluster.name));
    let mut totals = Totals::default();
    let mut next = 0;
    each_page(cluster, &channels[0], value_bytes, async |ledger, page, at, upto| {
        for pair in &page.kvs {
            let number = ledger.space.number(&pair.key);
            let number = number.filter(|number| *number >= next).ok_or_else(|| Wrong {
                promise: "a range is in the order of its keys, and holds none that was not written",
                expected: format!("key number {next} or a later one"),
                seen: String::from_utf8_lossy(&pair.key).into_owned(),
            });
            let number = condemning(cluster, number)?;
            for absent in next..number {
                condemning(cluster, ledger.missing(absent, at))?;
            }
            next = number + 1;
            totals.keys += 1;
            totals.counters += condemning(cluster, ledger.seen(number, pair, at))?.counter;
            condemning(cluster, ledger.is_settled(number, pair))?;
        }
        for absent in next..upto {
            condemning(cluster, ledger.missing(absent, at))?;
        }
        next = next.max(upto);
        progress.count(next, ledger.space.keys);
        Ok(())
    })
    .await?;
    Ok(totals)
}

fn condemning<T>(cluster: &Cluster, judged: Result<T, Wrong>) -> Result<T, FillError> {
    judged.map_err(|wrong| {
        cluster.verdict.condemn(&cluster.endpoints[0].authority(), wrong);
        FillError::Condemned
    })
}

async fn connect(cluster: &Cluster) -> Result<Vec<KvClient<Channel>>, FillError> {
    let mut channels = Vec::new();
    for endpoint in &cluster.endpoints {
        let channel = cluster.connect(endpoint).await.map_err(|reason| {
            let endpoint = endpoint.authority();
            FillError::Unreachable { endpoint, reason }
        })?;
        channels.push(KvClient::new(channel).max_decoding_message_size(usize::MAX));
    }
    Ok(channels)
}

/// Reads the key space in pages, each linearizable. The last argument of `visit` is the number of
/// the first key that the page does not tell about.
async fn each_page(
    cluster: &Cluster,
    kv: &KvClient<Channel>,
    value_bytes: usize,
    mut visit: impl AsyncFnMut(&Ledger, &RangeResponse, i64, u64) -> Result<(), FillError>,
) -> Result<(), FillError> {
    let ledger = Arc::clone(&cluster.ledger);
    let limit = (BATCH_BYTES / value_bytes.max(1)).clamp(1, PAGE_KEYS_MAX);
    let mut from = 0;
    while from < ledger.space.keys {
        let floor = ledger.floor();
        let request = RangeRequest {
            key: ledger.space.key(from),
            range_end: ledger.space.key(ledger.space.keys),
            limit: limit as i64,
            ..RangeRequest::default()
        };
        let page = kv.clone().range(request).await.map_err(|status| failed(cluster, status))?;
        let page = page.into_inner();
        let at = condemning(cluster, ledger.fresh(floor, page.header.as_ref()))?;
        let last = page.kvs.last().and_then(|pair| ledger.space.number(&pair.key));
        let upto = match last {
            Some(last) if page.more && last >= from => last + 1,
            _ => ledger.space.keys,
        };
        visit(&ledger, &page, at, upto).await?;
        from = upto;
    }
    Ok(())
}

fn failed(cluster: &Cluster, status: Status) -> FillError {
    FillError::Failed { endpoint: cluster.endpoints[0].authority(), status }
}

async fn write(
    cluster: &Cluster,
    channels: &[KvClient<Channel>],
    filling: &Bytes,
    wanted: Vec<u64>,
    progress: &mut Progress,
) -> Result<(), FillError> {
    progress.begin(format!("{}: filling", cluster.name));
    let batch = (BATCH_BYTES / (STAMP_BYTES + filling.len())).clamp(1, BATCH_WRITES_MAX);
    let (mut done, of) = (0, wanted.len() as u64);
    let mut lanes = JoinSet::new();
    for (turn, keys) in wanted.chunks(batch).enumerate() {
        if lanes.len() >= LANES {
            done += finish(cluster, lanes.join_next().await)?;
            progress.count(done, of);
        }
        let kv = channels[turn % channels.len()].clone();
        let ledger = Arc::clone(&cluster.ledger);
        lanes.spawn(write_batch(kv, ledger, keys.to_vec(), filling.clone()));
    }
    while !lanes.is_empty() {
        done += finish(cluster, lanes.join_next().await)?;
        progress.count(done, of);
    }
    Ok(())
}

fn finish(
    cluster: &Cluster,
    lane: Option<Result<Result<u64, Failed>, tokio::task::JoinError>>,
) -> Result<u64, FillError> {
    match lane.expect("a lane is busy").expect("a lane does not panic") {
        Ok(written) => Ok(written),
        Err(Failed::Status(status)) => Err(failed(cluster, status)),
        Err(Failed::Wrong(wrong)) => condemning(cluster, Err(wrong)),
    }
}

async fn write_batch(
    mut kv: KvClient<Channel>,
    ledger: Arc<Ledger>,
    keys: Vec<u64>,
    filling: Bytes,
) -> Result<u64, Failed> {
    let mut attempt = 0;
    loop {
        // A batch that is repeated is another writer's: the one before may still happen.
        let writer = ledger.writer();
        let stamps: Vec<(Stamp, Bytes, u32)> = (1..)
            .zip(&keys)
            .map(|(sequence, &key)| {
                let stamp = Stamp { writer, run: ledger.run, key, sequence, ..Stamp::default() };
                let (value, checksum) = stamp.encode(&filling);
                (stamp, value, checksum)
            })
            .collect();
        let put = |(stamp, value, _): &(Stamp, Bytes, u32)| {
            let key = ledger.space.key(stamp.key);
            let put = PutRequest { key, value: value.clone(), ..PutRequest::default() };
            RequestOp { request: Some(Request::RequestPut(put)) }
        };
        let txn = TxnRequest { success: stamps.iter().map(put).collect(), ..TxnRequest::default() };
        let floor = ledger.floor();
        match kv.txn(txn).await {
            Ok(answer) => {
                let revision = ledger.written(floor, answer.get_ref().header.as_ref())?;
                for (stamp, _, checksum) in &stamps {
                    ledger.enter(revision, stamp, *checksum)?;
                }
                return Ok(keys.len() as u64);
            }
            Err(status) if attempt + 1 == ATTEMPTS_MAX => return Err(Failed::Status(status)),
            Err(_) => {
                attempt += 1;
                keys.iter().for_each(|_| ledger.perhaps_written());
            }
        }
        tokio::time::sleep(std::time::Duration::from_millis(100 << attempt)).await;
    }
}
