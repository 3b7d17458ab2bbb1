//! Compiles the protobuf definitions of `proto/` with a compiler that is itself a crate, so that
//! building the server needs no installed tool.

use prost::Message;
use std::error::Error;
use std::path::PathBuf;

/// Every definition with a service, and those which only others import.
const DEFINITIONS: &[&str] = &[
    "authpb.proto",
    "etcdserverpb/auth.proto",
    "etcdserverpb/cluster.proto",
    "etcdserverpb/header.proto",
    "etcdserverpb/kv.proto",
    "etcdserverpb/lease.proto",
    "etcdserverpb/maintenance.proto",
    "etcdserverpb/watch.proto",
    "health.proto",
    "mvccpb.proto",
    "quoratepb.proto",
    "v3electionpb.proto",
    "v3lockpb.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(DEFINITIONS, ["proto"])?;
    let mut at_run_time = descriptors.clone();
    // Comments are for documentation alone.
    at_run_time.file.iter_mut().for_each(|file| file.source_code_info = None);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), at_run_time.encode_to_vec())?;
    // Keys and values are shared with the buffer which they were received in, not copied out.
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::Snug")
        .compile_fds(descriptors)?;
    Ok(())
}
