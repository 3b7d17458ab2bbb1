//! An `:authority` that Go's clients send and the `h2` crate refuses.
//!
//! `etcdctl endpoint status` dials each endpoint by the target `passthrough:///http://HOST:PORT`,
//! and grpc-go then sends that endpoint, scheme and all, as `:authority`. etcd does not look at it;
//! `h2` checks it before any service sees the request, answers PROTOCOL_ERROR, and cannot be told
//! not to.
//!
//! So the beginning of each connection passes through here. The first HEADERS frame of an HTTP/2
//! connection is walked field by field, which is easy because the HPACK table is still empty; if it
//! spells out an authority that is none, the bytes that are not allowed in one become `-`:
//!
//! ```text
//!   :authority: http://127.0.0.1:2379   ->   :authority: http---127.0.0.1:2379
//! ```
//!
//! The length stays what it was, so both sides go on agreeing about the size of the HPACK table,
//! and later requests, which only refer to the entry in it, are right by themselves. After that
//! frame (or at anything unexpected) the stream is passed through untouched and costs nothing more.
//!
//! Sources: RFC 9113 sections 3.4 and 4.1, RFC 7541 sections 5 and 6.

use httlib_huffman::DecoderSpeed;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a client says first on an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes before every frame: length (3), kind, flags, stream (4).
const FRAME_HEADER_BYTES: usize = 9;
const KIND_HEADERS: u8 = 1;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
/// A connection whose first request has not begun within so many bytes is passed through.
const LOOKED_AT_MAX: usize = 64 * 1024;
/// Index of `:authority` in HPACK's static table.
const STATIC_AUTHORITY: usize = 1;

/// A stream whose first request has an authority that `h2` takes.
#[derive(Debug)]
pub(super) struct Tolerant<S> {
    stream: S,
    /// Read, not yet given on.
    held: Vec<u8>,
    given: usize,
    looking: Looking,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Looking {
    /// The first request has not come yet.
    Yes,
    /// Nothing more to look at.
    Done,
}

/// What the beginning of a connection tells.
#[derive(Debug, Eq, PartialEq)]
enum Beginning {
    /// It goes on.
    Unclear,
    /// To be passed through as it is.
    Plain,
    /// To be passed through as this.
    Mended(Vec<u8>),
}

impl<S> Tolerant<S> {
    pub(super) fn new(stream: S) -> Tolerant<S> {
        Tolerant { stream, held: Vec::new(), given: 0, looking: Looking::Yes }
    }

    fn look(&mut self) {
        match beginning(&self.held) {
            Beginning::Unclear if self.held.len() < LOOKED_AT_MAX => return,
            Beginning::Unclear | Beginning::Plain => {}
            Beginning::Mended(bytes) => self.held = bytes,
        }
        self.looking = Looking::Done;
    }

    /// How much of what is held may go on. The preface and whole frames before the first request
    /// must, or the other side would wait for our SETTINGS and we for its request.
    fn ready_bytes(&self) -> usize {
        match self.looking {
            Looking::Done => self.held.len(),
            Looking::Yes => before_first_headers(&self.held),
        }
    }

    fn give(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let ready = self.ready_bytes();
        let count = ready.saturating_sub(self.given).min(into.remaining());
        into.put_slice(&self.held[self.given..self.given + count]);
        self.given += count;
        if self.looking == Looking::Done && self.given == self.held.len() {
            (self.held, self.given) = (Vec::new(), 0);
        }
        count > 0
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tolerant<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.give(into) || into.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if this.looking == Looking::Done {
                return Pin::new(&mut this.stream).poll_read(cx, into);
            }
            let mut bytes = [0; 4_096];
            let mut buffer = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                this.looking = Looking::Done; // The end: what is held is all there is.
            } else {
                this.held.extend_from_slice(buffer.filled());
                this.look();
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tolerant<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Where the frame that begins at `at` ends, if its header is there.
fn frame_end(bytes: &[u8], at: usize) -> Option<usize> {
    let header = bytes.get(at..at + FRAME_HEADER_BYTES)?;
    let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
    Some(at + FRAME_HEADER_BYTES + length)
}

/// The end of the last whole frame before the first HEADERS frame; 0 before the whole preface.
fn before_first_headers(bytes: &[u8]) -> usize {
    if !bytes.starts_with(PREFACE) {
        return 0;
    }
    let mut at = PREFACE.len();
    while let Some(end) = frame_end(bytes, at) {
        if bytes[at + 3] == KIND_HEADERS || end > bytes.len() {
            break;
        }
        at = end;
    }
    at
}

fn beginning(bytes: &[u8]) -> Beginning {
    if !bytes.starts_with(PREFACE) {
        let may_become_one = PREFACE.starts_with(bytes);
        return if may_become_one { Beginning::Unclear } else { Beginning::Plain };
    }
    let at = before_first_headers(bytes);
    let Some(end) = frame_end(bytes, at) else { return Beginning::Unclear };
    if bytes[at + 3] != KIND_HEADERS || end > bytes.len() {
        return Beginning::Unclear;
    }
    match mend(&bytes[at..end]) {
        None => Beginning::Plain,
        Some(frame) => Beginning::Mended([&bytes[..at], &frame, &bytes[end..]].concat()),
    }
}

/// The HEADERS frame with a valid authority; none if it has one, or is of a kind not looked at.
fn mend(frame: &[u8]) -> Option<Vec<u8>> {
    let flags = frame[4];
    // A padded or continued first request comes from no client that needs us.
    if flags & FLAG_END_HEADERS == 0 || flags & FLAG_PADDED != 0 {
        return None;
    }
    let priority = if flags & FLAG_PRIORITY != 0 { 5 } else { 0 };
    let start = FRAME_HEADER_BYTES + priority;
    let block = frame.get(start..)?;
    let found = find_authority(block)?;
    let authority = valid(&found.text)?;
    let mut mended = frame[..start].to_vec();
    mended.extend_from_slice(&block[..found.from]);
    push_string(&mut mended, &authority);
    mended.extend_from_slice(&block[found.to..]);
    let length = u32::try_from(mended.len() - FRAME_HEADER_BYTES).ok()?;
    mended[..3].copy_from_slice(&length.to_be_bytes()[1..]);
    Some(mended)
}

/// A valid authority of the same length; none if `text` is one, or is not text.
fn valid(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    if text.parse::<http::uri::Authority>().is_ok() {
        return None;
    }
    // The colon of the port, and only that one, may stay.
    let port = text.rfind(':').filter(|colon| text[colon + 1..].parse::<u16>().is_ok());
    let keep = |(at, byte): (usize, u8)| match byte {
        b'-' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => byte,
        b':' if Some(at) == port => byte,
        _ => b'-',
    };
    let mended: Vec<u8> = text.bytes().enumerate().map(keep).collect();
    http::uri::Authority::try_from(&mended[..]).is_ok().then_some(mended)
}

/// The value of `:authority` in a header block, and where its string stands.
#[derive(Debug)]
struct Found {
    from: usize,
    to: usize,
    text: Vec<u8>,
}

/// Walks a header block that begins with an empty dynamic table.
fn find_authority(block: &[u8]) -> Option<Found> {
    let mut at = 0;
    while let Some(first) = block.get(at) {
        let prefix = match first {
            0x80.. => 7,
            0x40.. => 6,
            0x20.. => 5,
            _ => 4,
        };
        let (index, next) = integer(block, at, prefix)?;
        at = next;
        if matches!(first, 0x80.. | 0x20..0x40) {
            continue; // An indexed field, or a new size of the table: no string follows.
        }
        let mut named = index == STATIC_AUTHORITY;
        if index == 0 {
            let (name, next) = string(block, at)?;
            named = name == b":authority";
            at = next;
        }
        let (text, next) = string(block, at)?;
        if named {
            return Some(Found { from: at, to: next, text });
        }
        at = next;
    }
    None
}

/// An integer with a prefix of so many bits, and where it ends (RFC 7541, section 5.1).
fn integer(block: &[u8], at: usize, prefix: u32) -> Option<(usize, usize)> {
    let mask = (1usize << prefix) - 1;
    let mut value = usize::from(*block.get(at)?) & mask;
    let mut at = at + 1;
    if value < mask {
        return Some((value, at));
    }
    for shift in [0, 7, 14] {
        let byte = usize::from(*block.get(at)?);
        at += 1;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None // Longer than anything that fits into a frame.
}

/// A string, decoded, and where it ends (RFC 7541, section 5.2).
fn string(block: &[u8], at: usize) -> Option<(Vec<u8>, usize)> {
    let huffman = block.get(at)? & 0x80 != 0;
    let (length, from) = integer(block, at, 7)?;
    let raw = block.get(from..from.checked_add(length)?)?;
    if !huffman {
        return Some((raw.to_vec(), from + length));
    }
    let mut text = Vec::new();
    httlib_huffman::decode(raw, &mut text, DecoderSpeed::FourBits).ok()?;
    Some((text, from + length))
}

fn push_string(out: &mut Vec<u8>, text: &[u8]) {
    match text.len() {
        length @ 0..127 => out.push(length as u8),
        length => {
            out.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                out.push((rest % 128) as u8 | 0x80);
                rest /= 128;
            }
            out.push(rest as u8);
        }
    }
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tokio::io::AsyncReadExt;

    const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// `:method: POST` indexed, then `:authority` with incremental indexing, then `:scheme: http`.
    fn request(authority: &[u8], huffman: bool) -> Vec<u8> {
        let mut block = vec![0x83, 0x41];
        if huffman {
            let mut coded = Vec::new();
            httlib_huffman::encode(authority, &mut coded).expect("encodes");
            block.push(0x80 | coded.len() as u8);
            block.extend(coded);
        } else {
            push_string(&mut block, authority);
        }
        block.push(0x86);
        let headers = frame(KIND_HEADERS, FLAG_END_HEADERS, &block);
        [PREFACE, SETTINGS, &headers, &frame(0, 1, b"a message")].concat()
    }

    fn through(bytes: &[u8], piece: usize) -> Vec<u8> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut mock = bytes.chunks(piece);
            let (mut theirs, ours) = tokio::io::duplex(1 << 20);
            let mut tolerant = Tolerant::new(ours);
            let mut out = Vec::new();
            for piece in mock.by_ref() {
                tokio::io::AsyncWriteExt::write_all(&mut theirs, piece).await.expect("room");
            }
            drop(theirs);
            tolerant.read_to_end(&mut out).await.expect("reads");
            out
        })
    }

    #[test]
    fn an_endpoint_with_a_scheme_becomes_an_authority_of_the_same_length() {
        for (wrong, right) in [
            ("http://127.0.0.1:2379", "http---127.0.0.1:2379"),
            ("https://example.com:2379", "https---example.com:2379"),
            ("http://[::1]:2379", "http-------1-:2379"),
            ("/tmp/socket", "-tmp-socket"),
        ] {
            let right = valid(wrong.as_bytes()).map(String::from_utf8).map(|r| (r, right));
            let (mended, wanted) = right.expect("mended");
            let mended = mended.expect("text");
            assert_eq!(mended.len(), wrong.len());
            assert!(mended.parse::<http::uri::Authority>().is_ok(), "{mended}");
            if !wrong.contains('[') {
                assert_eq!(mended, wanted);
            }
            for huffman in [true, false] {
                let sent = request(wrong.as_bytes(), huffman);
                for piece in [1, 7, 4_096] {
                    assert_eq!(through(&sent, piece), request(mended.as_bytes(), false));
                }
            }
        }
    }

    #[test]
    fn a_good_authority_and_another_protocol_pass_untouched() {
        for good in ["127.0.0.1:2379", "[::1]:2379", "example.com"] {
            let sent = request(good.as_bytes(), true);
            assert_eq!(through(&sent, 5), sent);
        }
        let http1 = b"GET /version HTTP/1.1\r\nHost: http://x\r\n\r\n";
        assert_eq!(through(http1, 3), http1);
        assert_eq!(through(b"PRI * HT", 1), b"PRI * HT");
    }

    #[test]
    fn what_comes_before_the_request_is_not_held_back() {
        let opening = [PREFACE, SETTINGS].concat();
        let mut tolerant = Tolerant::new(tokio::io::empty());
        tolerant.held = opening.clone();
        tolerant.look();
        assert_eq!(tolerant.looking, Looking::Yes);
        assert_eq!(tolerant.ready_bytes(), opening.len());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_neither_panic_nor_change_length_unnoticed(
            tail in proptest::collection::vec(any::<u8>(), 0..300),
            piece in 1usize..40,
        ) {
            let headers = frame(KIND_HEADERS, FLAG_END_HEADERS, &tail);
            for sent in [tail.clone(), [PREFACE, &tail].concat(), [PREFACE, &headers].concat()] {
                let got = through(&sent, piece);
                let mended = match beginning(&sent) {
                    Beginning::Mended(bytes) => bytes,
                    _ => sent,
                };
                prop_assert_eq!(got, mended);
            }
        }
    }
}
