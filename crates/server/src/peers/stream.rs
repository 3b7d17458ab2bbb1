//! A connection between members: bytes as they are, or over TLS.
//!
//! [`Stream`] is for tasks that wait. [`Wire`] is for the lane of messages, on which the loop
//! thread writes without waiting: with TLS it encrypts into a buffer of at most
//! [`ENCRYPTED_BYTES_MAX`], and what the socket does not take stays there for the task that owns
//! the connection. The order of bytes is that of the calls, since one lock is held from encrypting
//! to writing.

use rustls::{ClientConnection, Connection, ServerConnection};
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// What is encrypted and has not left, at most. Unit: bytes before encryption.
const ENCRYPTED_BYTES_MAX: usize = 256 * 1024;

/// Waits for bytes both ways.
#[derive(Debug)]
pub(super) enum Stream {
    /// As they are.
    Plain(TcpStream),
    /// Over TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Over TLS.
    pub(super) fn secured(stream: TlsStream<TcpStream>) -> Stream {
        Stream::Tls(Box::new(stream))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, into),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// What became of bytes that were to leave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sent {
    /// So many of them need not be given again.
    pub(super) taken: usize,
    /// True if some of those have not left yet: `try_write` again, if need be with nothing.
    pub(super) left_over: bool,
}

/// What came on a lane on which the other side never speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// Nothing that concerns us.
    Nothing,
    /// The end.
    End,
    /// Something.
    Words,
}

/// Writes without waiting, from any thread.
#[derive(Debug)]
pub(super) struct Wire {
    socket: TcpStream,
    session: Option<Mutex<Connection>>,
}

impl From<Stream> for Wire {
    fn from(stream: Stream) -> Wire {
        let (socket, mut session) = match stream {
            Stream::Plain(socket) => return Wire { socket, session: None },
            Stream::Tls(stream) => apart(*stream),
        };
        session.set_buffer_limit(Some(ENCRYPTED_BYTES_MAX));
        Wire { socket, session: Some(Mutex::new(session)) }
    }
}

fn apart(stream: TlsStream<TcpStream>) -> (TcpStream, Connection) {
    match stream {
        TlsStream::Client(stream) => {
            let (socket, session): (TcpStream, ClientConnection) = stream.into_inner();
            (socket, session.into())
        }
        TlsStream::Server(stream) => {
            let (socket, session): (TcpStream, ServerConnection) = stream.into_inner();
            (socket, session.into())
        }
    }
}

impl Wire {
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        self.socket.writable().await
    }

    /// Sends what the socket takes now. Errors: the connection is broken.
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<Sent> {
        let Some(session) = &self.session else {
            if bytes.is_empty() {
                return Ok(Sent { taken: 0, left_over: false });
            }
            return match self.socket.try_write(bytes) {
                Ok(taken) => Ok(Sent { taken, left_over: taken < bytes.len() }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    Ok(Sent { taken: 0, left_over: true })
                }
                Err(error) => Err(error),
            };
        };
        let mut session = lock(session);
        let mut taken = 0;
        loop {
            taken += session.writer().write(&bytes[taken..])?;
            let left_over = self.drain(&mut session)?;
            if left_over || taken == bytes.len() {
                return Ok(Sent { taken, left_over });
            }
        }
    }

    /// True if something that was taken has not left yet.
    pub(super) fn holds_back(&self) -> bool {
        self.session.as_ref().is_some_and(|session| lock(session).wants_write())
    }

    /// Looks at what came, after it became readable. Errors: the connection is broken.
    pub(super) fn listen(&self) -> io::Result<Heard> {
        let Some(session) = &self.session else {
            return match self.socket.try_read(&mut [0; 64]) {
                Ok(0) => Ok(Heard::End),
                Ok(_) => Ok(Heard::Words),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Heard::Nothing),
                Err(error) => Err(error),
            };
        };
        let mut session = lock(session);
        match session.read_tls(&mut Nonblocking(&self.socket)) {
            Ok(0) => return Ok(Heard::End),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Heard::Nothing),
            Err(error) => return Err(error),
        }
        let state = session.process_new_packets().map_err(io::Error::other)?;
        // An answer to what came, for example to new keys.
        self.drain(&mut session)?;
        Ok(match state {
            state if state.plaintext_bytes_to_read() > 0 => Heard::Words,
            state if state.peer_has_closed() => Heard::End,
            _ => Heard::Nothing,
        })
    }

    /// Writes what is encrypted. True if some of it is left.
    fn drain(&self, session: &mut Connection) -> io::Result<bool> {
        while session.wants_write() {
            match session.write_tls(&mut Nonblocking(&self.socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

fn lock(session: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    session.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A socket as the session wants it.
struct Nonblocking<'a>(&'a TcpStream);

impl io::Read for Nonblocking<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
