//! The KV service: reading and writing keys.
//!
//! Each method is request -> plan, one question to the replica, outcome -> answer; the first and
//! the last are pure functions of `convert.rs`. Nothing is spawned, logged or copied on the way.

use super::convert::{self, Plan};
use super::errors::ApiError;
use super::header::Headers;
use crate::handle::{Applied, Consistency, Handle, Read};
use crate::proto::etcdserverpb::kv_server;
use crate::proto::{etcdserverpb as pb, mvccpb};
use prost::Message;
use quorate_replica::store::{Command, Found, KeyValue, Outcome, Range, SortOrder, SortTarget};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// Bytes of keys and values in one slice of a streamed range; a slice holds at least one pair,
/// however large.
const SLICE_BYTES_MAX: usize = 512 * 1024;

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Kv {
    handle: Handle,
    headers: Headers,
    /// Above this a request that would be replicated is refused.
    request_bytes_max: usize,
}

impl Kv {
    /// The service; writes larger than `request_bytes_max` bytes are refused.
    pub(crate) fn new(handle: Handle, request_bytes_max: usize) -> Kv {
        let headers = Headers::of(&handle);
        Kv { handle, headers, request_bytes_max }
    }

    async fn found(
        &self,
        range: Range,
        consistency: Consistency,
    ) -> Result<(pb::ResponseHeader, Outcome), ApiError> {
        self.opened(self.handle.read(Read::Range(range), consistency).await?)
    }

    async fn written(&self, command: Command) -> Result<(pb::ResponseHeader, Outcome), ApiError> {
        self.opened(self.handle.write(command).await?)
    }

    fn opened(&self, applied: Applied) -> Result<(pb::ResponseHeader, Outcome), ApiError> {
        Ok((self.headers.at(applied.revision, applied.term), applied.outcome?))
    }
}

#[tonic::async_trait]
impl kv_server::Kv for Kv {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let (range, consistency) = convert::range(request.into_inner())?;
        let (header, outcome) = self.found(range, consistency).await?;
        Ok(Response::new(convert::range_response(header, outcome)))
    }

    type RangeStreamStream = Slices;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Slices>, Status> {
        let (range, consistency) = convert::range(request.into_inner())?;
        if range.sort_target != SortTarget::Key || range.sort_order == SortOrder::Descend {
            // As in etcd: what must be sorted first cannot be streamed; clients then ask Range.
            return Err(Status::unimplemented("etcdserver: a sorted range cannot be streamed"));
        }
        let (header, outcome) = self.found(range, consistency).await?;
        let Outcome::Range(found) = outcome else {
            panic!("a range was answered with {outcome:?}")
        };
        Ok(Response::new(Slices::of(header, found)))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let request = request.into_inner();
        check_size(&request, self.request_bytes_max)?;
        let (header, outcome) = self.written(Command::Put(convert::put(request))).await?;
        Ok(Response::new(convert::put_response(header, outcome)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let request = request.into_inner();
        check_size(&request, self.request_bytes_max)?;
        let command = Command::DeleteRange(convert::delete_range(request));
        let (header, outcome) = self.written(command).await?;
        Ok(Response::new(convert::delete_response(header, outcome)))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        check_size(&request, self.request_bytes_max)?;
        let (header, outcome) = match convert::plan_txn(request)? {
            Plan::Read(read, consistency) => {
                let applied = self.handle.read(read, consistency).await;
                self.opened(applied.map_err(ApiError::from)?)?
            }
            Plan::Write(command) => self.written(command).await?,
        };
        Ok(Response::new(convert::txn_response(header, outcome)))
    }

    /// Answers when the compaction has been applied here, which is all that `physical` asks for:
    /// the store forgets and frees in one step.
    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let command = convert::compact(request.into_inner())?;
        let (header, outcome) = self.written(command).await?;
        assert!(matches!(outcome, Outcome::Compact), "a compaction was answered otherwise");
        Ok(Response::new(pb::CompactionResponse { header: Some(header) }))
    }
}

/// The slices of a streamed range, each made when the connection has room for it: what a slow
/// client costs is one slice and the shared pairs, not a second copy of the whole answer.
///
/// As in etcd 3.7, only the last slice has a header, `more` and the count, so that merging all
/// slices gives the answer of an unary range.
#[derive(Debug)]
pub(crate) struct Slices {
    pairs: vec::IntoIter<Arc<KeyValue>>,
    pair: fn(&KeyValue) -> mvccpb::KeyValue,
    /// What the last slice ends with; absent when it has been sent.
    end: Option<pb::RangeResponse>,
}

impl Slices {
    fn of(header: pb::ResponseHeader, found: Found) -> Slices {
        let pair = if found.keys_only { convert::key_only } else { convert::key_value };
        let end = pb::RangeResponse {
            header: Some(header),
            kvs: Vec::new(),
            more: found.more,
            count: convert::signed(found.count),
        };
        Slices { pairs: found.kvs.into_iter(), pair, end: Some(end) }
    }

    fn slice(&mut self) -> Option<pb::RangeResponse> {
        self.end.as_ref()?;
        let mut kvs = Vec::new();
        let mut bytes = 0;
        while bytes < SLICE_BYTES_MAX
            && let Some(pair) = self.pairs.next()
        {
            let pair = (self.pair)(&pair);
            bytes += pair.encoded_len();
            kvs.push(pair);
        }
        if self.pairs.len() > 0 {
            return Some(pb::RangeResponse { kvs, ..pb::RangeResponse::default() });
        }
        let end = self.end.take()?;
        Some(pb::RangeResponse { kvs, ..end })
    }
}

impl Stream for Slices {
    type Item = Result<pb::RangeStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.slice().map(|range_response| {
            Ok(pb::RangeStreamResponse { range_response: Some(range_response) })
        }))
    }
}

/// What is replicated is bounded, so that one request cannot occupy log and network for long.
fn check_size(request: &impl Message, bytes_max: usize) -> Result<(), ApiError> {
    if request.encoded_len() > bytes_max {
        return Err(ApiError::RequestTooLarge);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{SLICE_BYTES_MAX, Slices, check_size};
    use crate::api::{convert, errors::ApiError};
    use crate::proto::etcdserverpb as pb;
    use bytes::Bytes;
    use quorate_replica::store::{Found, KeyValue, Outcome, Revision};
    use std::sync::Arc;

    fn header() -> pb::ResponseHeader {
        pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 9, raft_term: 4 }
    }

    fn found(pairs: usize, value_bytes: usize) -> Found {
        let pair = |number: usize| {
            Arc::new(KeyValue {
                key: Bytes::from(format!("key-{number:04}")),
                value: Bytes::from(vec![b'v'; value_bytes]),
                create_revision: Revision(2),
                mod_revision: Revision(3),
                version: 2,
                lease: 0,
            })
        };
        let kvs: Vec<_> = (0..pairs).map(pair).collect();
        Found { count: pairs as u64 + 5, kvs, more: true, keys_only: false }
    }

    fn slices(found: Found) -> Vec<pb::RangeResponse> {
        let mut slices = Slices::of(header(), found);
        std::iter::from_fn(|| slices.slice()).collect()
    }

    #[test]
    fn merging_the_slices_gives_the_answer_of_a_range() {
        for (pairs, value_bytes) in [(0, 0), (1, 10), (3, 10), (40, 100_000), (3, SLICE_BYTES_MAX)]
        {
            let whole =
                convert::range_response(header(), Outcome::Range(found(pairs, value_bytes)));
            let slices = slices(found(pairs, value_bytes));
            let (last, before) = slices.split_last().expect("there is always a last slice");
            for slice in before {
                assert_eq!(slice.header, None);
                assert!(!slice.more && slice.count == 0 && !slice.kvs.is_empty());
            }
            let kvs: Vec<_> = slices.iter().flat_map(|slice| slice.kvs.clone()).collect();
            assert_eq!(pb::RangeResponse { kvs, ..last.clone() }, whole);
        }
    }

    #[test]
    fn a_slice_is_as_large_as_its_limit_and_one_pair_at_most() {
        let slices = slices(found(40, 100_000));
        assert_eq!(slices.len(), 7, "6 pairs pass the limit, so 40 pairs take 7 slices");
        for slice in &slices[..6] {
            assert_eq!(slice.kvs.len(), 6);
        }
    }

    #[test]
    fn the_limit_of_a_request_is_inclusive() {
        let put = |value_bytes: usize| pb::PutRequest {
            value: Bytes::from(vec![0; value_bytes]),
            ..pb::PutRequest::default()
        };
        // One byte of tag and one of length come with the value.
        assert_eq!(check_size(&put(98), 100), Ok(()));
        assert_eq!(check_size(&put(99), 100), Err(ApiError::RequestTooLarge));
    }
}
