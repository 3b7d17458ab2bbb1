//! Being called by peers.

use super::hello::{Hello, Lane, Welcome};
use super::link::{HELLO_TIMEOUT, read_frame};
use super::stream::Stream;
use super::wire::{Kind, push_frame, split_frame};
use super::{PeerError, Shared, bulk, configure};
use crate::timekeeping;
use crate::tls::{self, Terminator};
use crate::witness::Clue;
use bytes::{Bytes, BytesMut};
use quorate_core::NodeId;
use quorate_replica::Message;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Calls at one time; more wait in the kernel's queue. A cluster needs two per peer. With TLS a
/// call counts from the end of its handshake on, and one too many is cut off.
const CALLS_MAX: usize = 256;
/// Questions and answers about the time that one connection may bring in a second; the others are
/// dropped. An honest peer sends a few.
const TIMES_PER_SECOND_MAX: u32 = 64;
/// Room for a read is made in pieces of this size, in bytes: entries of the log go on sharing it.
const READ_BYTES: usize = 64 * 1024;
/// How TLS begins: a handshake record of version 3.x.
const TLS_BEGINS: [u8; 2] = [0x16, 0x03];
/// With less room than this a new piece is begun.
const READ_BYTES_MIN: usize = 8 * 1024;

/// Takes calls until the process ends.
pub(super) async fn listen(listener: tls::Listener, shared: Arc<Shared>) {
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let tls::Listener { tcp, tls } = listener;
    loop {
        // Strangers must not take the places of peers before they have shaken hands.
        let permit = match tls {
            Some(_) => None,
            None => Some(Arc::clone(&calls).acquire_owned().await.expect("never closed")),
        };
        let (stream, address) = match tcp.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, or the caller gave up: neither ends the listener.
                tracing::warn!(%error, "cannot take a peer's call");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (shared, tls, calls) = (Arc::clone(&shared), tls.clone(), Arc::clone(&calls));
        tokio::spawn(async move {
            let outcome = match tls {
                Some(tls) => answer_secured(stream, &tls, &calls, &shared).await,
                None => answer_plain(stream, &shared).await,
            };
            if let Err(error) = outcome {
                match error {
                    PeerError::HungUp | PeerError::Io(_) => {
                        tracing::debug!(%address, %error, "a peer's connection ended");
                    }
                    _ => tracing::warn!(%address, %error, "a peer's connection was closed"),
                }
            }
            drop(permit);
        });
    }
}

async fn answer_plain(stream: TcpStream, shared: &Arc<Shared>) -> Result<(), PeerError> {
    configure(&stream)?;
    let mut first = [0; 2];
    let looking = tokio::time::timeout(HELLO_TIMEOUT, stream.peek(&mut first));
    looking.await.map_err(|_| PeerError::NoAnswer)??;
    let mut stream = Stream::Plain(stream);
    if first == TLS_BEGINS {
        // No frame is TLS: whatever it says, the caller sees that this is another protocol.
        refuse(&mut stream, "this port has no TLS").await?;
        tls::linger(stream).await;
        return Err(PeerError::TlsUnwanted);
    }
    answer(stream, shared).await
}

async fn answer_secured(
    stream: TcpStream,
    tls: &Terminator,
    calls: &Semaphore,
    shared: &Arc<Shared>,
) -> Result<(), PeerError> {
    configure(&stream)?;
    // A failed handshake has been told and counted.
    let Some(stream) = tls.accept(stream, |stream| stream).await else { return Ok(()) };
    let Ok(_permit) = calls.try_acquire() else {
        let why = format!("{CALLS_MAX} calls are under way already");
        return Err(PeerError::Refused { why });
    };
    answer(Stream::secured(stream.into()), shared).await
}

async fn answer(mut stream: Stream, shared: &Arc<Shared>) -> Result<(), PeerError> {
    let mut buffer = BytesMut::new();
    let first = tokio::time::timeout(HELLO_TIMEOUT, read_frame(&mut stream, &mut buffer));
    let (kind, payload) = first.await.map_err(|_| PeerError::NoAnswer)??;
    if kind != Kind::Hello {
        return Err(PeerError::Unexpected);
    }
    let hello = match Hello::decode(payload) {
        Ok(hello) => hello,
        Err(bad) => {
            refuse(&mut stream, &bad.to_string()).await?;
            return Err(PeerError::BadHello(bad));
        }
    };
    if let Err(why) = judge(&hello, shared).await? {
        refuse(&mut stream, &why).await?;
        return Err(PeerError::Refused { why });
    }
    shared.receiver.introduce(NodeId(hello.from), hello.profile);
    let (data, profile) = (shared.data, shared.profile.clone());
    let welcome = Welcome { data, profile, known: shared.roster.known() };
    let mut frame = Vec::new();
    push_frame(&mut frame, Kind::Welcome, |out| welcome.encode(out));
    stream.write_all(&frame).await?;
    stream.flush().await?;
    let from = NodeId(hello.from);
    match hello.lane {
        Lane::Messages => take_messages(stream, buffer, from, shared).await,
        Lane::Checkpoint => {
            let desk = shared.receiver.checkpoints();
            bulk::receive(stream, buffer, from, &desk).await
        }
    }
}

/// The inner error is what the caller is told.
async fn judge(hello: &Hello, shared: &Shared) -> Result<Result<(), String>, PeerError> {
    if hello.cluster != shared.cluster {
        return Ok(Err(format!(
            "cluster ID mismatch: this is a member of cluster {:x}, you are of {:x}; compare \
             --initial-cluster and --initial-cluster-token",
            shared.cluster, hello.cluster
        )));
    }
    if hello.to != shared.me.0 {
        return Ok(Err(format!(
            "member ID mismatch: you call {:x}, this is {:x}; compare --initial-cluster",
            hello.to, shared.me.0
        )));
    }
    if !shared.urls.contains_key(&NodeId(hello.from)) {
        return Ok(Err(format!("member {:x} is no member of this cluster", hello.from)));
    }
    match shared.take_in(NodeId(hello.from), hello.data, hello.known.clone()).await {
        Err(PeerError::DiskLost(lost)) => {
            shared.fail(PeerError::DiskLost(lost));
            Ok(Err(lost.to_string()))
        }
        Err(PeerError::PeerDiskLost(lost)) => {
            tracing::warn!("{lost}");
            Ok(Err(lost.told_to_the_caller()))
        }
        other => other.map(Ok),
    }
}

async fn refuse(stream: &mut Stream, why: &str) -> Result<(), PeerError> {
    let mut frame = Vec::new();
    push_frame(&mut frame, Kind::Refused, |out| out.extend_from_slice(why.as_bytes()));
    stream.write_all(&frame).await?;
    Ok(stream.flush().await?)
}

async fn take_messages(
    mut stream: Stream,
    mut buffer: BytesMut,
    from: NodeId,
    shared: &Shared,
) -> Result<(), PeerError> {
    let mut messages = Vec::new();
    let mut goodbye = false;
    let mut times = Allowance::default();
    loop {
        while let Some((kind, payload)) = split_frame(&mut buffer)? {
            match kind {
                Kind::Message => messages.push(decode(payload)?),
                Kind::Time => {
                    let message = timekeeping::wire::decode(payload);
                    let message = message.ok_or(PeerError::Unexpected)?;
                    if times.take(Instant::now()) {
                        shared.receiver.timed(from, message);
                    }
                }
                Kind::Goodbye => goodbye = true,
                _ => return Err(PeerError::Unexpected),
            }
        }
        if !messages.is_empty() {
            shared.receiver.deliver(from, &mut messages);
        }
        if std::mem::take(&mut goodbye) {
            shared.receiver.saw(from, Clue::Goodbye); // After all that it said before.
        }
        if buffer.capacity() - buffer.len() < READ_BYTES_MIN {
            buffer.reserve(READ_BYTES);
        }
        match stream.read_buf(&mut buffer).await? {
            0 => return Err(PeerError::HungUp),
            bytes => shared.receiver.received(from, bytes),
        }
    }
}

/// Questions and answers about the time from one connection, which are dealt with at once: as many
/// in a second as no honest peer sends.
#[derive(Debug, Default)]
struct Allowance {
    /// When the present second began, and how many there were in it.
    second: Option<(Instant, u32)>,
}

impl Allowance {
    /// True if there is room for one more.
    fn take(&mut self, now: Instant) -> bool {
        let (began, used) = match self.second {
            Some((began, used)) if now.duration_since(began) < Duration::from_secs(1) => {
                (began, used)
            }
            _ => (now, 0),
        };
        self.second = Some((began, used.saturating_add(1)));
        used < TIMES_PER_SECOND_MAX
    }
}

fn decode(payload: Bytes) -> Result<Message, PeerError> {
    Message::decode(payload).map_err(|bad| {
        tracing::warn!(%bad, "a peer sent a message that we do not understand");
        PeerError::Unexpected
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_questions_gets_no_more_than_its_share_of_each_second() {
        let mut times = Allowance::default();
        let begin = Instant::now();
        let taken = |times: &mut Allowance, millis| {
            let now = begin + Duration::from_millis(millis);
            (0..10_000).filter(|_| times.take(now)).count() as u32
        };
        assert_eq!(taken(&mut times, 0), TIMES_PER_SECOND_MAX);
        assert_eq!(taken(&mut times, 999), 0);
        assert_eq!(taken(&mut times, 1_000), TIMES_PER_SECOND_MAX);
    }
}
