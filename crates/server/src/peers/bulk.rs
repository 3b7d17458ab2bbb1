//! Checkpoints on their way: to our disk, to peers, and from peers.
//!
//! ```text
//!   sender                                   receiver
//!     Hello(lane = checkpoint)  ─────────►
//!                               ◄─────────   Welcome
//!     Offer(position, size, …)  ─────────►
//!                               ◄─────────   Resume(offset)      what an earlier try left behind
//!     Chunk(offset, bytes) …    ─────────►   written as they come
//!                               ◄─────────   Stored              checked, published, durable
//! ```
//!
//! The bytes are those of the sender's checkpoint file, which never changes once it is published:
//! so a transfer that broke off is taken up where it stopped, even by another process.

use super::hello::Lane;
use super::link::{call, read_frame};
use super::stream::Stream;
use super::wire::{Kind, push_frame};
use super::{PeerError, Shared as PeersShared};
use crate::host::{Ask, Shared};
use crate::recover::RecoverError;
use crate::shelf::{Reception, Shelf};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_core::{NodeId, Position};
use quorate_replica::Checkpoint;
use quorate_storage::{Checkpoints, Manifest, RealDisk};
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::task::spawn_blocking;

/// A transfer that stands still for so long is given up, to be resumed later.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where checkpoints are written, sent and received. Shared by the loop thread and the sockets.
#[derive(Debug)]
pub(crate) struct CheckpointDesk {
    shelf: Shelf<RealDisk>,
    /// Held while a checkpoint comes in: one at a time.
    receiving: tokio::sync::Mutex<()>,
    wiring: OnceLock<Wiring>,
}

/// What is known only once the member is put together.
#[derive(Debug)]
struct Wiring {
    runtime: tokio::runtime::Handle,
    peers: Arc<PeersShared>,
    host: Arc<Shared>,
}

impl CheckpointDesk {
    pub(crate) fn new(checkpoints: Checkpoints<RealDisk>) -> CheckpointDesk {
        CheckpointDesk {
            shelf: Shelf::new(checkpoints),
            receiving: tokio::sync::Mutex::new(()),
            wiring: OnceLock::new(),
        }
    }

    /// What is on our disk.
    pub(crate) fn shelf(&self) -> &Shelf<RealDisk> {
        &self.shelf
    }

    /// Tells the desk how to reach peers and the loop thread. Called once.
    pub(crate) fn connect(
        &self,
        runtime: tokio::runtime::Handle,
        peers: Arc<PeersShared>,
        host: Arc<Shared>,
    ) {
        let wired = self.wiring.set(Wiring { runtime, peers, host });
        assert!(wired.is_ok(), "the desk is connected once");
    }

    /// Writes a checkpoint on a thread of its own, then calls `done`.
    ///
    /// Errors: there is no thread to be had; `done` is not called.
    pub(crate) fn write(
        self: &Arc<Self>,
        checkpoint: Checkpoint,
        done: impl FnOnce(Result<Position, String>) + Send + 'static,
    ) -> io::Result<()> {
        let desk = Arc::clone(self);
        let body = move || {
            let position = checkpoint.position;
            let written = desk.shelf.write(&checkpoint);
            drop(checkpoint);
            done(written.map(|()| position).map_err(|error| error.to_string()));
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned());
        thread.spawn(body).map(|_| ())
    }

    /// Sends the checkpoint at `position` to a peer, then calls `done` on a thread that may wait.
    pub(crate) fn send(
        self: &Arc<Self>,
        to: NodeId,
        position: Position,
        done: impl FnOnce(Result<Position, String>) + Send + 'static,
    ) {
        let desk = Arc::clone(self);
        let wiring = self.wiring.get().expect("connected before the loop runs");
        wiring.runtime.spawn(async move {
            let wiring = desk.wiring.get().expect("connected before the loop runs");
            let ours = Arc::clone(&desk);
            let checked = spawn_blocking(move || ours.shelf.check(position)).await;
            let outcome = match checked.expect("checking does not panic") {
                Ok(()) => desk.transfer(&wiring.peers, to, position).await,
                Err(error) => Err(io::Error::other(error).into()),
            };
            let outcome = outcome.map(|()| position).map_err(|error| error.to_string());
            let told = spawn_blocking(move || done(outcome)).await;
            told.expect("telling the outcome does not panic");
        });
    }

    async fn transfer(
        self: &Arc<Self>,
        peers: &PeersShared,
        to: NodeId,
        position: Position,
    ) -> Result<(), PeerError> {
        let manifest = self.shelf.announce(position).ok_or_else(|| gone(position))?;
        tracing::info!(peer = %to, %position, bytes = manifest.size, "sending a checkpoint");
        let mut stream = call(peers, to, Lane::Checkpoint).await?;
        let mut buffer = BytesMut::new();
        write_frame(&mut stream, Kind::Offer, |out| encode_offer(&manifest, out)).await?;
        let mut offset = match expect(&mut stream, &mut buffer, Kind::Resume).await? {
            bytes if bytes.len() == 8 => (&bytes[..]).get_u64_le(),
            _ => return Err(PeerError::Unexpected),
        };
        while offset < manifest.size {
            let ours = Arc::clone(self);
            let reading = spawn_blocking(move || ours.shelf.part(position, offset));
            let chunk = reading.await.expect("reading does not panic").map_err(io::Error::other)?;
            if chunk.is_empty() {
                return Err(gone(position));
            }
            write_frame(&mut stream, Kind::Chunk, |out| {
                out.put_u64_le(offset);
                out.extend_from_slice(&chunk);
            })
            .await?;
            offset += chunk.len() as u64;
        }
        expect(&mut stream, &mut buffer, Kind::Stored).await.map(|_| ())
    }
}

fn gone(position: Position) -> PeerError {
    let why = format!("the checkpoint at {position} is no longer there");
    PeerError::Io(io::Error::new(io::ErrorKind::NotFound, why))
}

/// Takes a checkpoint from a peer, makes it durable and hands it to the loop thread.
pub(super) async fn receive(
    mut stream: Stream,
    mut buffer: BytesMut,
    from: NodeId,
    desk: &Arc<CheckpointDesk>,
) -> Result<(), PeerError> {
    let Ok(_guard) = desk.receiving.try_lock() else {
        let why = "another checkpoint is coming in";
        write_frame(&mut stream, Kind::Refused, |out| out.extend_from_slice(why.as_bytes()))
            .await?;
        return Err(PeerError::Refused { why: why.to_owned() });
    };
    let offer = expect(&mut stream, &mut buffer, Kind::Offer).await?;
    let manifest = decode_offer(offer).ok_or(PeerError::Unexpected)?;
    let position = manifest.position;
    // It looks through what is there already, which may be much; this thread has ticks to keep.
    let (ours, announced) = (Arc::clone(desk), manifest.clone());
    let beginning = spawn_blocking(move || ours.shelf.receive(announced));
    match beginning.await.expect("looking does not panic").map_err(io::Error::other)? {
        Reception::Wanted(incoming) => {
            let offset = incoming.offset();
            tracing::info!(peer = %from, %position, offset, "receiving a checkpoint");
            write_frame(&mut stream, Kind::Resume, |out| out.put_u64_le(offset)).await?;
            let incoming = take_chunks(&mut stream, &mut buffer, incoming, manifest.size).await?;
            let completing = spawn_blocking(move || incoming.complete());
            completing.await.expect("completing does not panic").map_err(io::Error::other)?;
        }
        Reception::Here => {
            write_frame(&mut stream, Kind::Resume, |out| out.put_u64_le(manifest.size)).await?;
        }
    }
    let theirs = Arc::clone(desk);
    let installing = spawn_blocking(move || theirs.install(position));
    installing.await.expect("loading does not panic").map_err(io::Error::other)?;
    tracing::info!(peer = %from, %position, "received a checkpoint");
    write_frame(&mut stream, Kind::Stored, |_| {}).await
}

async fn take_chunks(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    mut incoming: quorate_storage::Incoming<RealDisk>,
    size: u64,
) -> Result<quorate_storage::Incoming<RealDisk>, PeerError> {
    while incoming.offset() < size {
        let mut chunk = expect(stream, buffer, Kind::Chunk).await?;
        if chunk.len() <= 8 {
            return Err(PeerError::Unexpected);
        }
        let offset = chunk.get_u64_le();
        let writing = spawn_blocking(move || incoming.write(offset, &chunk).map(|()| incoming));
        incoming = writing.await.expect("writing does not panic").map_err(io::Error::other)?;
    }
    Ok(incoming)
}

impl CheckpointDesk {
    /// Loads a checkpoint that just came in and hands it to the loop thread.
    fn install(&self, position: Position) -> Result<(), RecoverError> {
        let checkpoint = self.shelf.install(position)?;
        let wiring = self.wiring.get().expect("connected before the first call");
        wiring.host.insist(Ask::Install(Box::new(checkpoint)));
        Ok(())
    }
}

async fn write_frame(
    stream: &mut Stream,
    kind: Kind,
    payload: impl FnOnce(&mut Vec<u8>),
) -> Result<(), PeerError> {
    let mut frame = Vec::new();
    push_frame(&mut frame, kind, payload);
    let writing = async {
        stream.write_all(&frame).await?;
        stream.flush().await
    };
    let writing = tokio::time::timeout(STALL_TIMEOUT, writing);
    Ok(writing.await.map_err(|_| PeerError::NoAnswer)??)
}

async fn expect(
    stream: &mut Stream,
    buffer: &mut BytesMut,
    kind: Kind,
) -> Result<Bytes, PeerError> {
    let reading = tokio::time::timeout(STALL_TIMEOUT, read_frame(stream, buffer));
    match reading.await.map_err(|_| PeerError::NoAnswer)?? {
        (found, payload) if found == kind => Ok(payload),
        (Kind::Refused, payload) => {
            Err(PeerError::Refused { why: String::from_utf8_lossy(&payload).into_owned() })
        }
        _ => Err(PeerError::Unexpected),
    }
}

fn encode_offer(manifest: &Manifest, out: &mut Vec<u8>) {
    out.put_u64_le(manifest.position.term.0);
    out.put_u64_le(manifest.position.index.0);
    out.put_u64_le(manifest.size);
    out.put_u32_le(manifest.hash);
    out.extend_from_slice(&manifest.metadata);
}

pub(super) fn decode_offer(mut bytes: Bytes) -> Option<Manifest> {
    let position = Position::new(bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
    let size = bytes.try_get_u64_le().ok()?;
    let hash = bytes.try_get_u32_le().ok()?;
    let fits = bytes.len() <= quorate_storage::METADATA_MAX;
    fits.then_some(Manifest { position, size, hash, metadata: bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_survives_the_wire_and_a_cut_one_is_refused() {
        let metadata = Bytes::from_static(b"members");
        let manifest = Manifest { position: Position::new(2, 9), size: 70, hash: 5, metadata };
        let mut bytes = Vec::new();
        encode_offer(&manifest, &mut bytes);
        assert_eq!(decode_offer(Bytes::from(bytes.clone())), Some(manifest));
        assert_eq!(decode_offer(Bytes::copy_from_slice(&bytes[..20])), None);
    }
}
