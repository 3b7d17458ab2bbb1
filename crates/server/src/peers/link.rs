//! The connection to one peer: dialled again and again, written without waiting.
//!
//! The loop thread pushes a batch of frames at the end of each step. If the socket takes them they
//! leave right there, without waking another thread; what it does not take is buffered up to
//! [`OUTBOX_BYTES_MAX`] for the task that owns the connection. A frame that finds no connection or
//! no room is dropped: the protocol above assumes links that lose messages.

use super::hello::{Hello, Lane, Welcome};
use super::stream::{Heard, Stream, Wire};
use super::wire::{Kind, push_frame, split_frame};
use super::{Call, PeerError, Shared, Verdict};
use crate::timekeeping;
use crate::witness::Clue;
use bytes::BytesMut;
use quorate_core::NodeId;
use quorate_protocols::time::synchronizer::Message as TimeMessage;
use quorate_replica::Message;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

/// What may wait for a connection that is slower than we are.
const OUTBOX_BYTES_MAX: usize = 64 * 1024 * 1024;
/// First pause after a failed call; doubled up to the longest one.
const REDIAL_PAUSE_MIN: Duration = Duration::from_millis(50);
/// Longest pause between two calls: what a returning peer may have to wait for us.
const REDIAL_PAUSE_MAX: Duration = Duration::from_millis(500);
/// After a connection broke, so many calls follow each other at once: a process that has ended
/// refuses them, and a new one takes them.
const CALLS_AT_ONCE: u32 = 4;
/// Between them.
const CALL_AT_ONCE_PAUSE: Duration = Duration::from_millis(3);
/// A peer that takes a call answers the hello within this time.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
struct Outbox {
    stream: Option<Arc<Wire>>,
    buffer: Vec<u8>,
    /// The task is writing: frames must queue behind it.
    busy: bool,
}

/// Our end of the connection to one peer.
#[derive(Debug)]
pub(crate) struct Link {
    peer: NodeId,
    outbox: Mutex<Outbox>,
    filled: Notify,
    /// Bytes dropped for want of a connection or of room, since the last connection began.
    dropped_bytes: AtomicU64,
}

impl Link {
    pub(super) fn new(peer: NodeId) -> Link {
        let outbox = Mutex::new(Outbox::default());
        Link { peer, outbox, filled: Notify::new(), dropped_bytes: AtomicU64::new(0) }
    }

    /// Appends the frame of a message.
    pub(crate) fn frame(&self, message: &Message, frames: &mut Vec<u8>) {
        push_frame(frames, Kind::Message, |out| message.encode(out));
    }

    /// Sends a message about the time at once, or drops it. Returns how many bytes it has.
    pub(crate) fn push_time(&self, message: &TimeMessage) -> usize {
        let mut frame = Vec::new();
        push_frame(&mut frame, Kind::Time, |out| timekeeping::wire::encode(message, out));
        let bytes = frame.len();
        self.push(&mut frame);
        bytes
    }

    /// Sends whole frames, or drops them. Never blocks. Leaves `frames` empty.
    pub(crate) fn push(&self, frames: &mut Vec<u8>) {
        let mut outbox = self.lock();
        let room = OUTBOX_BYTES_MAX - outbox.buffer.len().min(OUTBOX_BYTES_MAX);
        let Some(stream) = outbox.stream.clone().filter(|_| frames.len() <= room) else {
            self.dropped_bytes.fetch_add(frames.len() as u64, Ordering::Relaxed);
            return frames.clear();
        };
        let mut taken = 0;
        let mut left_over = true;
        if !outbox.busy && outbox.buffer.is_empty() {
            // An error shows up again in the task, which then gives the connection up.
            if let Ok(sent) = stream.try_write(frames) {
                (taken, left_over) = (sent.taken, sent.left_over);
            }
        }
        if taken < frames.len() || left_over {
            outbox.buffer.extend_from_slice(&frames[taken..]);
            self.filled.notify_one();
        }
        frames.clear();
    }

    /// Says that this member stops.
    pub(super) fn say_goodbye(&self) {
        let mut frame = Vec::new();
        push_frame(&mut frame, Kind::Goodbye, |_| {});
        self.push(&mut frame);
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the connection up until the process ends.
    pub(super) async fn keep(self: Arc<Self>, shared: Arc<Shared>) {
        let mut pause = REDIAL_PAUSE_MIN;
        let mut complained = String::new();
        let mut at_once = 0;
        loop {
            match self.connect(&shared).await {
                Ok(stream) => {
                    shared.is_owned_by(self.peer);
                    let dropped_bytes = self.dropped_bytes.swap(0, Ordering::Relaxed);
                    tracing::info!(peer = %self.peer, dropped_bytes, "connected to peer");
                    (pause, complained) = (REDIAL_PAUSE_MIN, String::new());
                    if let Err(error) = self.serve(stream).await {
                        tracing::debug!(peer = %self.peer, %error, "peer connection ended");
                        tell(&shared, self.peer, &error);
                    }
                    tracing::warn!(peer = %self.peer, "lost the connection to peer");
                    at_once = CALLS_AT_ONCE;
                    continue;
                }
                Err(error) => {
                    match &error {
                        PeerError::DiskLost(lost) => return shared.fail(Verdict::DiskLost(*lost)),
                        PeerError::Removed { why } if shared.told_removed(self.peer) => {
                            return shared.fail(Verdict::Removed { why: why.clone() });
                        }
                        _ => {}
                    }
                    if let PeerError::Io(error) = &error {
                        tell(&shared, self.peer, error);
                    }
                    if error.is_refused_connection() {
                        at_once = 0;
                    }
                    let text = error.to_string();
                    if complained != text {
                        tracing::warn!(peer = %self.peer, %error, "cannot reach peer; trying on");
                        complained = text;
                    }
                }
            }
            if at_once > 0 {
                at_once -= 1;
                tokio::time::sleep(CALL_AT_ONCE_PAUSE).await;
                continue;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REDIAL_PAUSE_MAX);
        }
    }

    async fn connect(&self, shared: &Shared) -> Result<Stream, PeerError> {
        let stream = call(shared, self.peer, Lane::Messages).await?;
        shared.greeted(self.peer);
        Ok(stream)
    }

    async fn serve(&self, stream: Stream) -> std::io::Result<()> {
        let stream = Arc::new(Wire::from(stream));
        self.lock().stream = Some(Arc::clone(&stream));
        let ended = self.write_until_it_breaks(&stream).await;
        let mut outbox = self.lock();
        outbox.stream = None;
        outbox.buffer.clear();
        outbox.busy = false;
        ended
    }

    async fn write_until_it_breaks(&self, stream: &Wire) -> std::io::Result<()> {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = self.filled.notified() => {}
                // The other side never speaks on this lane: readable means that it is gone.
                readable = stream.readable() => {
                    readable?;
                    match stream.listen()? {
                        Heard::End => return Ok(()),
                        Heard::Words => return Err(std::io::ErrorKind::InvalidData.into()),
                        Heard::Nothing => {}
                    }
                }
            }
            loop {
                {
                    let mut outbox = self.lock();
                    outbox.busy = !outbox.buffer.is_empty() || stream.holds_back();
                    if !outbox.busy {
                        break;
                    }
                    std::mem::swap(&mut outbox.buffer, &mut batch);
                }
                let mut rest = &batch[..];
                let mut left_over = true;
                while !rest.is_empty() || left_over {
                    stream.writable().await?;
                    let sent = stream.try_write(rest)?;
                    (rest, left_over) = (&rest[sent.taken..], sent.left_over);
                }
                batch.clear();
            }
        }
    }
}

/// What the failure of a connection says of the peer.
fn tell(shared: &Shared, peer: NodeId, error: &std::io::Error) {
    if let Some(clue) = Clue::of_error(error) {
        shared.receiver.saw(peer, clue);
    }
}

/// Dials a peer, says hello and waits for its welcome.
pub(super) async fn call(shared: &Shared, peer: NodeId, lane: Lane) -> Result<Stream, PeerError> {
    let mut stream = shared.dial(peer).await?;
    let hello = Hello {
        cluster: shared.cluster,
        from: shared.me.0,
        to: peer.0,
        data: shared.data,
        lane,
        profile: shared.profile.clone(),
        known: shared.tells(),
    };
    let mut frame = Vec::new();
    push_frame(&mut frame, Kind::Hello, |out| hello.encode(out));
    stream.write_all(&frame).await?;
    stream.flush().await?;
    let mut buffer = BytesMut::new();
    let answer = tokio::time::timeout(HELLO_TIMEOUT, read_frame(&mut stream, &mut buffer));
    let (kind, payload) = answer.await.map_err(|_| PeerError::NoAnswer)??;
    match kind {
        Kind::Welcome => {
            let welcome = Welcome::decode(payload)?;
            shared.take_in(peer, welcome.data, welcome.known).await?;
            shared.receiver.introduce(peer, welcome.profile);
            Ok(stream)
        }
        Kind::Refused => {
            let why = String::from_utf8_lossy(&payload).into_owned();
            Err(PeerError::Refused { why })
        }
        Kind::Removed => {
            Err(PeerError::Removed { why: String::from_utf8_lossy(&payload).into_owned() })
        }
        _ => Err(PeerError::Unexpected),
    }
}

/// Reads one whole frame; `buffer` keeps what came after it.
pub(super) async fn read_frame(
    stream: &mut Stream,
    buffer: &mut BytesMut,
) -> Result<Call, PeerError> {
    loop {
        if let Some(frame) = split_frame(buffer)? {
            return Ok(frame);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(PeerError::HungUp);
        }
    }
}
