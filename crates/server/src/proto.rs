//! The etcd v3 API as Rust types, generated from `proto/`: messages, clients, servers.
//!
//! Package, service, message and field names and numbers are those of the public API, so that
//! every etcd client understands them; the definitions are written in our own words.
#![allow(missing_docs, unreachable_pub, unused_qualifications, reason = "generated code")]
#![allow(clippy::all, reason = "generated code")]

/// What the definitions say, for who looks at messages without knowing their types.
pub(crate) const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Users, roles, permissions.
pub mod authpb {
    tonic::include_proto!("authpb");
}

/// The services of etcd.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The health protocol of gRPC.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// Keys and events.
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// What etcd does not have.
pub mod quoratepb {
    tonic::include_proto!("quoratepb");
}

/// Elections as a service.
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}

/// Locks as a service.
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}
