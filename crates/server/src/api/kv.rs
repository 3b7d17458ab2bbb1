//! The KV service: reading and writing keys.
//!
//! Each method is request -> plan, one question to the replica, outcome -> answer; the first and
//! the last are pure functions of `convert.rs`. Nothing is spawned, logged or copied on the way.

use super::conditions::{self, Takes};
use super::convert::{self, Plan};
use super::errors::ApiError;
use super::freshness;
use super::header::Headers;
use super::large::{self, Answer};
use crate::auth::{Asker, Gate};
use crate::handle::{Applied, Consistency, Handle, Read, Refusal};
use crate::overload::{Asked, Kind, Pass, Shed, Touched, patience};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::kv_server;
use quorate_replica::store::{
    Asking, Command, Found, Guard, KvError, Limits, Outcome, Pages, QuotaKind, SortOrder,
    SortTarget,
};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::task::spawn_blocking;
use tonic::codegen::tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

/// Bytes of keys and values in one slice of a streamed range; a slice holds at least one pair,
/// however large.
const SLICE_BYTES_MAX: usize = 512 * 1024;

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Kv {
    handle: Handle,
    headers: Headers,
    gate: Gate,
    /// What is refused before it reaches the replica.
    limits: Limits,
    large: large::Desk,
}

impl Kv {
    /// The service, with these limits on requests.
    pub(crate) fn new(handle: Handle, gate: Gate, limits: Limits) -> Kv {
        let headers = Headers::of(&handle);
        Kv { handle, headers, gate, limits, large: large::Desk::new() }
    }

    async fn write(
        &self,
        (asker, metadata): (&Asker, &MetadataMap),
        guard: &Guard,
        command: &Command,
    ) -> Result<(pb::ResponseHeader, Outcome), Status> {
        self.limits.admit(command).map_err(ApiError::from)?;
        let pass = self.enter(asker, metadata, Touched::Command(command), Kind::Write)?;
        let applied = self.gate.write_guarded(asker, guard, command).await?;
        pass.answered();
        let header = self.headers.at(applied.revision, applied.term);
        Ok((header, applied.outcome.map_err(|why| self.refused(guard, why))?))
    }

    /// Lets a request in, by the rules of the cluster and if it can be answered in time.
    fn enter(
        &self,
        asker: &Asker,
        metadata: &MetadataMap,
        touched: Touched<'_>,
        kind: Kind,
    ) -> Result<Pass<'_>, Shed> {
        let patience = patience(metadata);
        let asked = Asked { credential: &asker.credential, touched, patience };
        self.handle.overload().enter(&asked, kind)
    }

    /// As [`Kv::enter`], for a read.
    fn enter_read(
        &self,
        asker: &Asker,
        metadata: &MetadataMap,
        touched: Touched<'_>,
        consistency: Consistency,
    ) -> Result<Pass<'_>, Shed> {
        let kind = match consistency {
            Consistency::Serializable => Kind::Local,
            Consistency::Linearizable | Consistency::Bounded { .. } => Kind::Read,
        };
        self.enter(asker, metadata, touched, kind)
    }

    /// A refusal of the store, in words that say what to do.
    fn refused(&self, guard: &Guard, why: KvError) -> Status {
        let KvError::QuotaExceeded { rule, kind, max } = why else {
            return conditions::refused(guard, why);
        };
        let rule = self.handle.overload().rule(usize::from(rule));
        let name = rule.map(|rule| String::from_utf8_lossy(&rule.name).into_owned());
        let what = if kind == QuotaKind::Bytes { "bytes" } else { "keys" };
        let (code, _) = ApiError::QuotaExceeded.code_and_text();
        let name = name.unwrap_or_default();
        Status::new(
            code,
            format!(
                "quorate: storage quota {name:?} of {max} {what} is used up; nothing was written: \
                 delete keys, or raise it with 'quorate limit set'"
            ),
        )
    }

    /// A read that was refused.
    fn unread(&self, why: Refusal, consistency: Consistency) -> Status {
        freshness::refused(why.into(), consistency, self.handle.staleness())
    }

    fn opened(&self, applied: Applied) -> Result<(pb::ResponseHeader, Outcome), ApiError> {
        Ok((self.headers.at(applied.revision, applied.term), applied.outcome?))
    }

    /// Errors: who does not vote is not asked for the latest.
    fn may_read(&self, consistency: Consistency) -> Result<(), ApiError> {
        match consistency == Consistency::Linearizable && self.handle.is_learner() {
            true => Err(ApiError::NotSupportedForLearner),
            false => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl kv_server::Kv for Kv {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let (range, consistency) = convert::range(request)?;
        let consistency = freshness::wanted(&metadata, consistency)?;
        self.may_read(consistency)?;
        self.limits.admit_range(&range).map_err(ApiError::from)?;
        let asker = Asker::of(&extensions);
        let pass = self.enter_read(&asker, &metadata, Touched::Keys(&range.keys), consistency)?;
        let snapshot = self.handle.snapshot(consistency).await;
        let snapshot = snapshot.map_err(|why| self.unread(why, consistency))?;
        pass.answered();
        Gate::judge_read(&snapshot.store, &asker, Asking::Range(&range))?;
        if !large::is_short(&range) {
            let staleness = snapshot.staleness;
            let header = self.headers.at(snapshot.store.revision(), snapshot.term);
            let began = Instant::now();
            let response = match self.large.answer(snapshot.store, range, header).await? {
                Answer::Small(found) => {
                    Response::new(convert::found_response(Some(header), &found))
                }
                Answer::Large(answer) => answer.into_response(),
            };
            // It may have waited for its seat.
            let staleness = staleness.map(|staleness| staleness + began.elapsed());
            return Ok(freshness::stamp(response, staleness));
        }
        let applied = self.handle.read_of(snapshot, Read::Range(range)).await;
        let staleness = applied.staleness;
        let (header, outcome) = self.opened(applied)?;
        let response = Response::new(convert::range_response(header, outcome));
        Ok(freshness::stamp(response, staleness))
    }

    type RangeStreamStream = Slices;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<Slices>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let (range, consistency) = convert::range(request)?;
        let consistency = freshness::wanted(&metadata, consistency)?;
        if range.sort_target != SortTarget::Key || range.sort_order == SortOrder::Descend {
            // As in etcd: what must be sorted first cannot be streamed; clients then ask Range.
            return Err(Status::unimplemented("etcdserver: a sorted range cannot be streamed"));
        }
        self.may_read(consistency)?;
        self.limits.admit_range(&range).map_err(ApiError::from)?;
        let asker = Asker::of(&extensions);
        let pass = self.enter_read(&asker, &metadata, Touched::Keys(&range.keys), consistency)?;
        let snapshot = self.handle.snapshot(consistency).await;
        let snapshot = snapshot.map_err(|why| self.unread(why, consistency))?;
        pass.answered();
        Gate::judge_read(&snapshot.store, &asker, Asking::Range(&range))?;
        let staleness = snapshot.staleness;
        let header = self.headers.at(snapshot.store.revision(), snapshot.term);
        // Filters have to visit the whole range before the first page.
        let begun = spawn_blocking(move || {
            let pages = snapshot.store.pages(&range, SLICE_BYTES_MAX)?;
            Ok(Slices::new(header, pages))
        });
        let slices: Result<_, KvError> = begun.await.expect("a read does not panic");
        let response = Response::new(slices.map_err(ApiError::from)?);
        Ok(freshness::stamp(response, staleness))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let guard = conditions::read(&metadata, Takes::Everything)?;
        let command = Command::Put(convert::put(request));
        let asker = Asker::of(&extensions);
        let (header, outcome) = self.write((&asker, &metadata), &guard, &command).await?;
        Ok(Response::new(convert::put_response(header, outcome)))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let guard = conditions::read(&metadata, Takes::Everything)?;
        let command = Command::DeleteRange(convert::delete_range(request));
        let asker = Asker::of(&extensions);
        let (header, outcome) = self.write((&asker, &metadata), &guard, &command).await?;
        Ok(Response::new(convert::delete_response(header, outcome)))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let asker = Asker::of(&extensions);
        let mut staleness = None;
        let (header, outcome) = match convert::plan_txn(request)? {
            Plan::Read(txn, consistency) => {
                let consistency = freshness::wanted(&metadata, consistency)?;
                self.limits.admit_txn(&txn).map_err(ApiError::from)?;
                let touched = Touched::Txn(&txn);
                let pass = self.enter_read(&asker, &metadata, touched, consistency)?;
                let snapshot = self.handle.snapshot(consistency).await;
                let snapshot = snapshot.map_err(|why| self.unread(why, consistency))?;
                pass.answered();
                Gate::judge_read(&snapshot.store, &asker, Asking::Txn(&txn))?;
                let applied = self.handle.read_of(snapshot, Read::Txn(txn)).await;
                staleness = applied.staleness;
                self.opened(applied)?
            }
            Plan::Write(command) => {
                let guard = conditions::read(&metadata, Takes::Everything)?;
                self.write((&asker, &metadata), &guard, &command).await?
            }
        };
        let response = Response::new(convert::txn_response(header, outcome));
        Ok(freshness::stamp(response, staleness))
    }

    /// Answers when the compaction has been applied here, which is all that `physical` asks for:
    /// the store forgets and frees in one step.
    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        let guard = conditions::read(&metadata, Takes::Fences)?;
        let command = convert::compact(request)?;
        let asker = Asker::of(&extensions);
        let (header, outcome) = self.write((&asker, &metadata), &guard, &command).await?;
        assert!(matches!(outcome, Outcome::Compact), "a compaction was answered otherwise");
        Ok(Response::new(pb::CompactionResponse { header: Some(header) }))
    }
}

/// The slices of a streamed range, each made when the connection has room for it: what a slow
/// client costs is one slice and a frozen copy of the store, not a second copy of the answer.
///
/// As in etcd 3.7, only the last slice has a header, `more` and the count, so that merging all
/// slices gives the answer of an unary range.
pub(crate) struct Slices {
    pages: Pages,
    /// One page ahead, because the last page is the one after which there is none.
    page: Option<Found>,
    /// For the last slice.
    header: pb::ResponseHeader,
}

impl Slices {
    fn new(header: pb::ResponseHeader, mut pages: Pages) -> Slices {
        let page = pages.next();
        Slices { pages, page, header }
    }
}

impl Iterator for Slices {
    type Item = pb::RangeResponse;

    fn next(&mut self) -> Option<pb::RangeResponse> {
        let page = self.page.take()?;
        self.page = self.pages.next();
        let header = if self.page.is_none() { Some(self.header) } else { None };
        Some(convert::found_response(header, &page))
    }
}

impl Stream for Slices {
    type Item = Result<pb::RangeStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let wrap = |slice| Ok(pb::RangeStreamResponse { range_response: Some(slice) });
        Poll::Ready(self.next().map(wrap))
    }
}

#[cfg(test)]
mod tests {
    use super::{SLICE_BYTES_MAX, Slices};
    use crate::api::convert;
    use crate::proto::etcdserverpb as pb;
    use bytes::Bytes;
    use quorate_replica::store::{Command, Keys, Outcome, Put, Range, Store};

    fn header() -> pb::ResponseHeader {
        pb::ResponseHeader { cluster_id: 1, member_id: 2, revision: 9, raft_term: 4 }
    }

    fn store(pairs: usize, value_bytes: usize) -> Store {
        let mut store = Store::new();
        for number in 0..pairs {
            let key = Bytes::from(format!("key-{number:04}"));
            let value = Bytes::from(vec![b'v'; value_bytes]);
            store.apply(&Command::Put(Put { key, value, ..Put::default() }));
        }
        store
    }

    fn everything() -> Range {
        let end = Bytes::from_static(b"\0");
        Range { keys: Keys { key: end.clone(), range_end: end }, ..Range::default() }
    }

    fn slices(store: &Store, range: &Range) -> Vec<pb::RangeResponse> {
        let pages = store.pages(range, SLICE_BYTES_MAX).expect("the latest can be read");
        Slices::new(header(), pages).collect()
    }

    #[test]
    fn merging_the_slices_gives_the_answer_of_a_range() {
        let cases = [(0, 0), (1, 10), (3, 10), (40, 100_000), (3, SLICE_BYTES_MAX)];
        for (pairs, value_bytes) in cases {
            let store = store(pairs, value_bytes);
            for range in [
                everything(),
                Range { limit: 7, ..everything() },
                Range { keys_only: true, ..everything() },
                Range { count_only: true, ..everything() },
            ] {
                let found = store.range(&range).expect("the latest can be read");
                let whole = convert::range_response(header(), Outcome::Range(found));
                let slices = slices(&store, &range);
                let (last, before) = slices.split_last().expect("there is always a last slice");
                for slice in before {
                    assert_eq!(slice.header, None);
                    assert!(!slice.more && slice.count == 0 && !slice.kvs.is_empty());
                }
                let kvs: Vec<_> = slices.iter().flat_map(|slice| slice.kvs.clone()).collect();
                assert_eq!(pb::RangeResponse { kvs, ..last.clone() }, whole);
            }
        }
    }

    #[test]
    fn a_large_answer_comes_in_slices() {
        let slices = slices(&store(40, 100_000), &everything());
        assert_eq!(slices.len(), 7, "6 pairs pass the limit, so 40 pairs take 7 slices");
        for slice in &slices[..6] {
            assert_eq!(slice.kvs.len(), 6);
        }
    }
}
