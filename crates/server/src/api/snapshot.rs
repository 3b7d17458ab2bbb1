//! The stream of a snapshot to a client; what is in it says `crate::snapshot`.
//!
//! Messages as in etcd: pieces of 32 KiB, each with what is still to come, and the digest alone in
//! the last one.
//!
//! **Bounds.** [`SNAPSHOTS_MAX`] at a time, each with a thread, a frozen store and some pieces; a
//! further one is one request too many. A consumer that takes nothing for [`STALL`] is given up.

use super::ETCD_VERSION;
use super::errors::ApiError;
use super::header::Headers;
use super::watched::Watched;
use crate::host::Snapshot as Frozen;
use crate::proto::etcdserverpb as pb;
use crate::snapshot::{self, CHUNKS_AHEAD, Chunks, DIGEST_BYTES, SnapshotHeader};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tonic::Status;
use tonic::codegen::tokio_stream::Stream;

/// Snapshots at a time.
pub(super) const SNAPSHOTS_MAX: usize = 4;
/// A consumer that takes nothing for so long is given up.
const STALL: Duration = Duration::from_secs(30);

/// Hands snapshots out.
#[derive(Clone, Debug)]
pub(super) struct Desk {
    seats: Arc<Semaphore>,
}

/// A snapshot on its way.
#[derive(Debug)]
pub(crate) struct Pieces {
    coming: Watched<Coming>,
    /// The first message tells the moment of the snapshot.
    header: Option<pb::ResponseHeader>,
    /// Bytes still to come, without the digest.
    remaining: u64,
    ended: bool,
}

#[derive(Debug)]
struct Coming {
    pieces: mpsc::Receiver<Vec<u8>>,
    /// Cut off a piece that ends with the digest.
    digest: Option<Vec<u8>>,
    _seat: OwnedSemaphorePermit,
}

impl Desk {
    pub(super) fn new() -> Desk {
        Desk { seats: Arc::new(Semaphore::new(SNAPSHOTS_MAX)) }
    }

    /// Begins a snapshot.
    ///
    /// Errors: [`ApiError::TooManyRequests`].
    pub(super) async fn begin(
        &self,
        frozen: Frozen,
        headers: &Headers,
    ) -> Result<Pieces, ApiError> {
        let seat = Arc::clone(&self.seats).try_acquire_owned();
        let seat = seat.map_err(|_| ApiError::TooManyRequests)?;
        let header = headers.at(frozen.store.revision(), frozen.term);
        let store = Arc::clone(&frozen.store);
        let measuring = spawn_blocking(move || snapshot::length(&store));
        let remaining = measuring.await.expect("measuring does not panic");
        let whose = SnapshotHeader {
            cluster: header.cluster_id,
            member: header.member_id,
            term: frozen.term.0,
            revision: frozen.store.revision().0,
        };
        let (sender, pieces) = mpsc::channel(CHUNKS_AHEAD);
        spawn_blocking(move || {
            let mut chunks = Chunks::new(sender);
            let written = snapshot::write(whose, &frozen.store, &mut chunks);
            if written.and_then(|()| chunks.finish()).is_err() {
                tracing::info!("a snapshot was not taken to its end");
            }
        });
        let coming = Coming { pieces, digest: None, _seat: seat };
        let coming = Watched::new(coming, STALL);
        Ok(Pieces { coming, header: Some(header), remaining, ended: false })
    }
}

impl Coming {
    /// The next piece; `left` bytes are still to come before the digest.
    fn poll(&mut self, left: u64, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        if left == 0 && self.digest.as_ref().is_some_and(|digest| digest.len() == DIGEST_BYTES) {
            return Poll::Ready(self.digest.take());
        }
        loop {
            let Some(mut piece) = std::task::ready!(self.pieces.poll_recv(cx)) else {
                return Poll::Ready(None);
            };
            let own = usize::try_from(left).unwrap_or(usize::MAX);
            if piece.len() > own {
                let digest = piece.split_off(own);
                self.digest.get_or_insert_default().extend(digest);
            }
            if !piece.is_empty() {
                return Poll::Ready(Some(piece));
            }
            if self.digest.as_ref().is_some_and(|digest| digest.len() == DIGEST_BYTES) {
                return Poll::Ready(self.digest.take());
            }
        }
    }
}

impl Stream for Pieces {
    type Item = Result<pb::SnapshotResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let left = this.remaining;
        let polled = this.coming.with(|coming| coming.poll(left, cx));
        let blob = match polled {
            Some(Poll::Pending) => return Poll::Pending,
            Some(Poll::Ready(Some(blob))) => blob,
            Some(Poll::Ready(None)) | None => {
                this.ended = true;
                let error = Status::deadline_exceeded("the snapshot was not taken in time");
                return Poll::Ready(Some(Err(error)));
            }
        };
        this.ended = left == 0;
        this.remaining = left.saturating_sub(blob.len() as u64);
        Poll::Ready(Some(Ok(pb::SnapshotResponse {
            header: this.header.take(),
            remaining_bytes: this.remaining,
            blob: blob.into(),
            version: ETCD_VERSION.to_owned(),
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_core::Term;
    use quorate_replica::store::{Command, Put, Store};
    use std::future::poll_fn;

    fn frozen(pairs: usize) -> Frozen {
        let mut store = Store::new();
        for number in 0..pairs {
            let (key, value) = (Bytes::from(format!("k{number}")), Bytes::from(vec![7; 900]));
            store.apply(&Command::Put(Put { key, value, ..Put::default() }));
        }
        Frozen { store: Arc::new(store), term: Term(3), staleness: None }
    }

    async fn next(pieces: &mut Pieces) -> Option<Result<pb::SnapshotResponse, Status>> {
        poll_fn(|cx| Pin::new(&mut *pieces).poll_next(cx)).await
    }

    #[tokio::test]
    async fn the_pieces_are_a_snapshot_and_the_digest_comes_alone() {
        for pairs in [0, 40, 500] {
            let frozen = frozen(pairs);
            let desk = Desk::new();
            let pieces = desk.begin(frozen.clone(), &Headers::test()).await;
            let mut pieces = pieces.expect("a seat");
            let (mut bytes, mut last) = (Vec::new(), None);
            let whole = snapshot::length(&frozen.store);
            while let Some(piece) = next(&mut pieces).await {
                let piece = piece.expect("a piece");
                assert_eq!(piece.header.is_some(), bytes.is_empty(), "the first has a header");
                bytes.extend_from_slice(&piece.blob);
                let left = whole.saturating_sub(bytes.len() as u64);
                assert_eq!(piece.remaining_bytes, left);
                last = Some(piece);
            }
            assert_eq!(last.expect("a last piece").blob.len(), DIGEST_BYTES);
            let (header, store) = snapshot::read(&mut &bytes[..]).expect("a snapshot");
            assert_eq!((header.term, header.revision), (3, frozen.store.revision().0));
            assert_eq!(store.digest(), frozen.store.digest());
        }
    }

    #[tokio::test]
    async fn there_are_so_many_at_a_time_and_who_goes_frees_everything() {
        let frozen = frozen(2_000);
        let desk = Desk::new();
        let mut under_way = Vec::new();
        for _ in 0..SNAPSHOTS_MAX {
            let mut pieces = desk.begin(frozen.clone(), &Headers::test()).await.expect("a seat");
            next(&mut pieces).await.expect("a piece").expect("no error");
            under_way.push(pieces);
        }
        let refused = desk.begin(frozen.clone(), &Headers::test()).await.err();
        assert_eq!(refused, Some(ApiError::TooManyRequests));
        drop(under_way);
        assert_eq!(desk.seats.available_permits(), SNAPSHOTS_MAX);
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&frozen.store) > 1 {
            assert!(std::time::Instant::now() < deadline, "a writer holds on to the store");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
