//! Clients of ill will: HTTP/2 frames written by hand, as no client library would.
//!
//! Source: RFC 9113 (HTTP/2), RFC 7541 (HPACK: literals without indexing, names of the static
//! table).

use crate::support::net::loopback;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Payload of a frame at most, unless the server says otherwise.
const FRAME_BYTES: usize = 16 << 10;

/// A write that the member does not take within this is given up.
const STUCK_AFTER: Duration = Duration::from_secs(2);

/// What a member has answered on one connection.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    /// Room for data on all streams together.
    window: AtomicI64,
    /// Streams whose answer has begun.
    pub(crate) heads: AtomicUsize,
    /// Streams that the member has reset.
    pub(crate) resets: AtomicUsize,
    /// Bytes that came.
    pub(crate) bytes: AtomicU64,
    /// 1 after a GOAWAY or the end of the connection.
    pub(crate) over: AtomicUsize,
}

impl Answers {
    /// Takes in one frame, and tells its kind; none at the end of the connection.
    fn read(&self, stream: &mut TcpStream) -> Option<u8> {
        let mut head = [0; 9];
        stream.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).ok()?;
        self.bytes.fetch_add(length as u64, Ordering::Relaxed);
        match head[3] {
            WINDOW_UPDATE if head[5..9] == [0; 4] => {
                let more = u32::from_be_bytes(payload[..4].try_into().expect("4 bytes"));
                self.window.fetch_add(i64::from(more), Ordering::Relaxed);
            }
            HEADERS => drop(self.heads.fetch_add(1, Ordering::Relaxed)),
            RST_STREAM => drop(self.resets.fetch_add(1, Ordering::Relaxed)),
            _ => {}
        }
        Some(head[3])
    }
}

/// One connection.
pub(crate) struct Flood {
    stream: TcpStream,
    next: u32,
    pub(crate) answers: Arc<Answers>,
}

impl Flood {
    /// Connects and says the first words. What is answered is read.
    pub(crate) fn connect(port: u16) -> Flood {
        let mut flood = Flood::deaf(port);
        let answers = Arc::clone(&flood.answers);
        // Its settings hold once they are acknowledged.
        while answers.read(&mut flood.stream).expect("a member says its settings") != SETTINGS {}
        let mut words = Vec::new();
        frame(&mut words, SETTINGS, ACK, 0, &[]);
        flood.stream.write_all(&words).expect("an acknowledgement");
        let mut stream = flood.stream.try_clone().expect("a socket");
        std::thread::spawn(move || {
            while answers.read(&mut stream).is_some_and(|kind| kind != GOAWAY) {}
            answers.over.store(1, Ordering::Relaxed);
        });
        flood
    }

    /// As [`Flood::connect`], and never reads anything. It allows the member to send whatever it
    /// likes.
    pub(crate) fn deaf(port: u16) -> Flood {
        let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
        stream.set_write_timeout(Some(STUCK_AFTER)).expect("a limit");
        let answers = Arc::new(Answers::default());
        answers.window.store(65_535, Ordering::Relaxed);
        let mut words = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // The largest window for each stream, and for all of them.
        let window = [&[0, 4][..], &0x7FFF_FFFF_u32.to_be_bytes()].concat();
        frame(&mut words, SETTINGS, 0, 0, &window);
        frame(&mut words, WINDOW_UPDATE, 0, 0, &0x7FFF_0000_u32.to_be_bytes());
        stream.write_all(&words).expect("the first words");
        Flood { stream, next: 1, answers }
    }

    /// Writes frames. False if the member does not take them, or has ended the connection.
    pub(crate) fn write(&mut self, frames: &[u8]) -> bool {
        self.stream.write_all(frames).is_ok()
    }

    /// A stream whose request is that method of gRPC.
    pub(crate) fn open(&mut self, frames: &mut Vec<u8>, path: &str) -> u32 {
        let id = self.next;
        self.next += 2;
        let mut block = vec![0x83, 0x86]; // POST, http
        literal(&mut block, &[0x04], path);
        literal(&mut block, &[0x01], "a");
        literal(&mut block, &[0x0F, 0x10], "application/grpc");
        block.push(0x00);
        block.extend([2]);
        block.extend(b"te");
        block.extend([8]);
        block.extend(b"trailers");
        frame(frames, HEADERS, END_HEADERS, id, &block);
        id
    }

    /// A whole request with that message.
    pub(crate) fn ask(&mut self, frames: &mut Vec<u8>, path: &str, message: &[u8]) {
        let id = self.open(frames, path);
        let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), message].concat();
        frame(frames, DATA, END_STREAM, id, &framed);
    }

    /// Sends data on a stream as soon as there is room on the connection. False if there never is.
    pub(crate) fn send(&mut self, id: u32, mut data: &[u8]) -> bool {
        while !data.is_empty() {
            let (piece, rest) = data.split_at(data.len().min(FRAME_BYTES));
            let size = piece.len() as i64;
            let deadline = Instant::now() + STUCK_AFTER;
            while self.answers.window.load(Ordering::Relaxed) < size {
                if Instant::now() > deadline || self.answers.over.load(Ordering::Relaxed) > 0 {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            self.answers.window.fetch_sub(size, Ordering::Relaxed);
            let mut frames = Vec::new();
            frame(&mut frames, DATA, 0, id, piece);
            if !self.write(&frames) {
                return false;
            }
            data = rest;
        }
        true
    }
}

impl Drop for Flood {
    /// The reader has a socket of its own.
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Gives a stream up.
pub(crate) fn reset(frames: &mut Vec<u8>, id: u32) {
    frame(frames, RST_STREAM, 0, id, &8_u32.to_be_bytes());
}

/// A question whose answer is an acknowledgement.
pub(crate) fn settings(frames: &mut Vec<u8>) {
    frame(frames, SETTINGS, 0, 0, &[]);
}

/// As [`settings`].
pub(crate) fn ping(frames: &mut Vec<u8>) {
    frame(frames, PING, 0, 0, &[7; 8]);
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    out.extend([kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

fn literal(block: &mut Vec<u8>, name: &[u8], value: &str) {
    block.extend_from_slice(name);
    block.push(u8::try_from(value.len()).expect("short"));
    block.extend_from_slice(value.as_bytes());
}
