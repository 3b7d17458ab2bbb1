//! The yardstick: what a gRPC server costs that does nothing.
//!
//! It answers `KV.Range` with one pair, made of the key and the end that it was asked for, so that
//! a client which carries a value in the end gets it back. No state, no check, nothing of ours: a
//! member's read cannot cost less than this on the same machine with the same client. One thread
//! serves, as in a member, which wastes the least. Started by `quorate bench echo`, and of no other
//! use.

use crate::proto::etcdserverpb::kv_server::{Kv, KvServer};
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
    PutResponse, RangeRequest, RangeResponse, RangeStreamResponse, ResponseHeader, TxnRequest,
    TxnResponse,
};
use crate::proto::mvccpb::KeyValue;
use std::io;
use tokio::net::TcpListener;
use tonic::codegen::BoxStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Serves on a free port of loopback, which `listening` is told, until the process ends.
///
/// Errors: no port, or no more connections.
pub fn run(listening: impl FnOnce(u16)) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        listening(listener.local_addr()?.port());
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = tonic::transport::Server::builder().add_service(KvServer::new(Echo));
        server.serve_with_incoming(incoming).await.map_err(io::Error::other)
    })
}

#[derive(Clone, Copy, Debug)]
struct Echo;

#[tonic::async_trait]
impl Kv for Echo {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let RangeRequest { key, range_end, .. } = request.into_inner();
        let pair = KeyValue { key, value: range_end, ..KeyValue::default() };
        let header = Some(ResponseHeader::default());
        Ok(Response::new(RangeResponse { header, kvs: vec![pair], more: false, count: 1 }))
    }

    type RangeStreamStream = BoxStream<RangeStreamResponse>;

    async fn range_stream(
        &self,
        _: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(no())
    }

    async fn put(&self, _: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        Err(no())
    }

    async fn delete_range(
        &self,
        _: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        Err(no())
    }

    async fn txn(&self, _: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        Err(no())
    }

    async fn compact(
        &self,
        _: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        Err(no())
    }
}

fn no() -> Status {
    Status::unimplemented("this server only sends back what it is asked")
}
