//! The body of a request, which takes room as it arrives and must arrive in time.
//!
//! A message of gRPC is gathered until it is whole, so each stream of a connection could hold as
//! much as the largest request, for as long as its client likes. Here every byte that is gathered
//! has a place in the room of the connection and of the member, or the request is refused; and so
//! is one that does not come to its end.

use super::{Held, Shed, Why};
use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};
use tonic::Status;
use tonic::codegen::StdError;

/// Length of what stands before each message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// How a body is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Manner {
    /// As a whole: its bytes are held until the request is answered.
    Whole,
    /// Message by message: each is worked on as soon as it is there, and a body may be silent
    /// between two of them for as long as it likes.
    Messages,
    /// By somebody who looks after that himself.
    Unseen,
}

/// A body that is counted and timed.
#[derive(Debug)]
pub(crate) struct Metered<B> {
    body: B,
    held: Arc<Held>,
    manner: Manner,
    within: Duration,
    /// Runs while something is waited for.
    patience: Option<Pin<Box<Sleep>>>,
    message: Message,
    is_refused: bool,
}

/// Where in a message of gRPC the last byte was.
#[derive(Debug, Default)]
struct Message {
    prefix: [u8; PREFIX_BYTES],
    /// Bytes of the prefix that have come.
    begun: usize,
    /// Bytes of the message that have not.
    left: usize,
}

impl Message {
    /// True between two messages.
    fn is_over(&self) -> bool {
        self.begun == 0
    }

    fn follow(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.begun < PREFIX_BYTES {
                let taken = data.len().min(PREFIX_BYTES - self.begun);
                self.prefix[self.begun..self.begun + taken].copy_from_slice(&data[..taken]);
                self.begun += taken;
                data = &data[taken..];
                if self.begun < PREFIX_BYTES {
                    return;
                }
                let [_, length @ ..] = self.prefix;
                self.left = u32::from_be_bytes(length) as usize;
            }
            let taken = data.len().min(self.left);
            self.left -= taken;
            data = &data[taken..];
            if self.left == 0 {
                self.begun = 0;
            }
        }
    }
}

impl<B> Metered<B> {
    /// This body, read in this manner, whole or silent within that time.
    pub(crate) fn new(body: B, held: Arc<Held>, manner: Manner, within: Duration) -> Metered<B> {
        let (patience, message) = (None, Message::default());
        Metered { body, held, manner, within, patience, message, is_refused: false }
    }

    /// Whether more is due.
    fn is_waited_for(&self) -> bool {
        match self.manner {
            Manner::Whole => true,
            Manner::Messages => !self.message.is_over(),
            Manner::Unseen => false,
        }
    }

    fn arrived(&mut self, data: &Bytes) -> Result<(), Status> {
        if self.manner == Manner::Unseen {
            return Ok(());
        }
        if !self.held.take(data.remaining()) {
            return Err(Shed::of(Why::Bytes, None).into());
        }
        if self.manner == Manner::Messages {
            let was_over = self.message.is_over();
            self.message.follow(data);
            // Every message has its time, whatever came before it.
            if was_over || self.message.is_over() {
                self.patience = None;
            }
            if self.message.is_over() {
                self.held.release();
            }
        }
        Ok(())
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if !self.is_waited_for() {
            return Poll::Pending;
        }
        let within = self.within;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(within)));
        ready!(patience.as_mut().poll(cx));
        Poll::Ready(Status::deadline_exceeded(format!(
            "quorate: the request did not come to its end within {within:?}; nothing happened"
        )))
    }

    fn refuse(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.is_refused = true;
        Poll::Ready(Some(Err(status.into())))
    }
}

impl<B> Body for Metered<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        if self.is_refused {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
            let status = ready!(self.poll_late(cx));
            return self.refuse(status);
        };
        let Some(frame) = frame.transpose().map_err(Into::into)? else { return Poll::Ready(None) };
        if let Some(data) = frame.data_ref()
            && let Err(status) = self.arrived(data)
        {
            return self.refuse(status);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.is_refused || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overload::Overload;
    use http_body_util::{BodyExt, StreamBody};
    use std::convert::Infallible;
    use tonic::codegen::tokio_stream::{self, StreamExt};

    const SOON: Duration = Duration::from_millis(50);

    /// A body of these pieces that never ends.
    fn endless(
        pieces: Vec<Vec<u8>>,
    ) -> impl Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static {
        let frames = pieces.into_iter().map(|piece| Ok(Frame::data(Bytes::from(piece))));
        StreamBody::new(
            tokio_stream::iter(frames.collect::<Vec<_>>()).chain(tokio_stream::pending()),
        )
    }

    async fn refused(
        body: &mut Metered<impl Body<Data = Bytes, Error = Infallible> + Unpin>,
    ) -> Status {
        loop {
            match body.frame().await.expect("it does not end well") {
                Ok(_) => {}
                Err(error) => return Status::from_error(error),
            }
        }
    }

    #[tokio::test]
    async fn what_finds_no_room_is_refused_and_gives_back_what_it_took() {
        let overload = Overload::default();
        let connection = Arc::new(Room::new(1_000));
        let held = overload.hold(Some(Arc::clone(&connection))).expect("nothing is open");
        let body = endless(vec![vec![0; 400]; 3]);
        let mut body = Metered::new(body, held, Manner::Whole, SOON);
        let status = refused(&mut body).await;
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert_eq!(status.message(), "etcdserver: too many requests");
        assert_eq!((connection.used(), overload.room.used()), (800, 800));
        drop(body);
        assert_eq!((connection.used(), overload.room.used()), (0, 0));
    }

    #[tokio::test]
    async fn what_does_not_come_to_its_end_is_refused() {
        let overload = Overload::default();
        let held = overload.hold(None).expect("nothing is open");
        let mut body = Metered::new(endless(vec![vec![0; 10]]), held, Manner::Whole, SOON);
        assert_eq!(refused(&mut body).await.code(), tonic::Code::DeadlineExceeded);
    }

    /// Two whole messages in odd pieces, and one that is broken off.
    #[tokio::test]
    async fn between_two_messages_a_stream_may_be_silent_and_takes_nothing() {
        let overload = Overload::default();
        let whole = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0]].concat();
        let pieces: Vec<Vec<u8>> = whole.chunks(3).map(<[u8]>::to_vec).collect();
        let held = overload.hold(None).expect("nothing is open");
        let count = pieces.len();
        let mut body = Metered::new(endless(pieces), held, Manner::Messages, SOON);
        for _ in 0..count {
            body.frame().await.expect("a piece").expect("it is let in");
        }
        assert_eq!(overload.room.used(), 0);
        let silent = tokio::time::timeout(4 * SOON, body.frame()).await;
        assert!(silent.is_err(), "silence between messages is nobody's business");

        let held = overload.hold(None).expect("nothing is open");
        let begun = [whole, vec![0, 0, 0, 0, 9, 1]].concat();
        let mut body = Metered::new(endless(vec![begun]), held, Manner::Messages, SOON);
        assert_eq!(refused(&mut body).await.code(), tonic::Code::DeadlineExceeded);
    }

    use crate::overload::Room;
}
