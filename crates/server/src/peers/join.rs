//! Asking a running cluster to be let in: who am I, and who are the others?
//!
//! ```text
//!   newcomer                                   any member of --initial-cluster
//!     Join(version, its peer URLs)  ────────►
//!                                   ◄────────  Joined(cluster, id, genesis, members)
//!                                              or Refused(why)
//! ```
//!
//! Nothing is promised by the answer: the newcomer still has to say hello to each member, with its
//! data id, before it is listened to. A seat is given to whoever has its address, as long as nobody
//! has started there: one that has started and comes without data has lost its disk, and its votes
//! with it ([ADR 11](../../../../docs/adr/0011-ids-and-identity.md)).

use super::hello::{MAGIC, VERSION};
use super::link::{HELLO_TIMEOUT, read_frame};
use super::wire::{Kind, push_frame};
use super::{PeerError, dial};
use crate::genesis::Genesis;
use crate::tls::Secured;
use crate::url::Url;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use quorate_core::NodeId;
use quorate_replica::members::{Members, TEXT_BYTES_MAX, URLS_MAX, Wanted};
use tokio::io::AsyncWriteExt;

/// What a newcomer is told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Joined {
    /// The id that it is to have.
    pub(crate) member: u64,
    /// What the cluster began with.
    pub(crate) genesis: Genesis,
    /// The members as of now.
    pub(crate) members: Members,
}

/// Asks one member. `urls`: the peer addresses of the newcomer.
pub(crate) async fn ask(
    to: &Url,
    tls: Option<&Secured>,
    urls: &[String],
) -> Result<Joined, PeerError> {
    let mut stream = dial(to, tls).await?;
    let mut frame = Vec::new();
    push_frame(&mut frame, Kind::Join, |out| encode_urls(urls, out));
    stream.write_all(&frame).await?;
    stream.flush().await?;
    let mut buffer = BytesMut::new();
    let answer = tokio::time::timeout(HELLO_TIMEOUT, read_frame(&mut stream, &mut buffer));
    match answer.await.map_err(|_| PeerError::NoAnswer)?? {
        (Kind::Joined, payload) => decode(payload).ok_or(PeerError::Unexpected),
        (Kind::Refused, payload) => {
            Err(PeerError::Refused { why: String::from_utf8_lossy(&payload).into_owned() })
        }
        _ => Err(PeerError::Unexpected),
    }
}

/// Whose seat has one of these addresses. Errors: in words, what to do.
pub(super) fn seat_for(urls: &[String], members: &Members) -> Result<NodeId, String> {
    let fits = |(_, seat): &(NodeId, &quorate_replica::members::Seat)| {
        seat.wanted != Wanted::Gone && seat.peer_urls.iter().any(|url| urls.contains(url))
    };
    let place = urls.join(",");
    let mut seats: Vec<_> = members.iter().filter(fits).collect();
    seats.sort_by_key(|(_, seat)| seat.started);
    match seats.first() {
        Some((id, seat)) if !seat.started => Ok(*id),
        Some((id, seat)) => Err(format!(
            "member {:x} ({}) has started at {place} with another data directory: it lost its \
             disk, and with it its votes and acknowledged entries. Bring its old data directory \
             back, or give its place to a new member: 'quorate member replace {:x} NAME {place}'",
            id.0, seat.name, id.0
        )),
        None => Err(format!(
            "no member of this cluster has the peer URL {place}; add one first: 'quorate member \
             add NAME --peer-urls={place}'"
        )),
    }
}

fn encode_urls(urls: &[String], out: &mut Vec<u8>) {
    out.extend_from_slice(&MAGIC);
    out.put_u16_le(VERSION);
    let urls = &urls[..urls.len().min(URLS_MAX)];
    out.put_u16_le(urls.len() as u16);
    for url in urls {
        let bytes = &url.as_bytes()[..url.len().min(TEXT_BYTES_MAX)];
        out.put_u16_le(bytes.len() as u16);
        out.extend_from_slice(bytes);
    }
}

/// The addresses that a newcomer tells. None: it is no newcomer of this version.
pub(super) fn decode_urls(mut bytes: Bytes) -> Option<Vec<String>> {
    if !bytes.starts_with(&MAGIC) {
        return None;
    }
    bytes.advance(MAGIC.len());
    let version = bytes.try_get_u16_le().ok()?;
    let count = usize::from(bytes.try_get_u16_le().ok()?);
    if version != VERSION || count > URLS_MAX {
        return None;
    }
    let mut text = || {
        let length = usize::from(bytes.try_get_u16_le().ok()?);
        if length > bytes.len() || length > TEXT_BYTES_MAX {
            return None;
        }
        String::from_utf8(bytes.split_to(length).to_vec()).ok()
    };
    (0..count).map(|_| text()).collect()
}

/// Appends the answer to a newcomer.
pub(super) fn encode(joined: &Joined, out: &mut Vec<u8>) {
    out.put_u64_le(joined.member);
    out.put_u64_le(joined.genesis.cluster);
    let first = joined.genesis.members.encoded();
    out.put_u32_le(first.len() as u32);
    out.extend_from_slice(&first);
    out.extend_from_slice(&joined.members.encoded());
}

pub(super) fn decode(mut bytes: Bytes) -> Option<Joined> {
    let (member, cluster) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
    let length = bytes.try_get_u32_le().ok()? as usize;
    if length > bytes.len() {
        return None;
    }
    let first = Members::decode(bytes.split_to(length)).ok()?;
    let genesis = Genesis { cluster, members: first };
    Some(Joined { member, genesis, members: Members::decode(bytes).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_replica::members::Seat;

    fn urls(port: u16) -> Vec<String> {
        vec![format!("http://127.0.0.1:{port}")]
    }

    #[test]
    fn question_and_answer_survive_the_wire_and_cut_ones_are_refused() {
        let mut bytes = Vec::new();
        encode_urls(&urls(1), &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(decode_urls(Bytes::copy_from_slice(&bytes[..cut])), None);
        }
        assert_eq!(decode_urls(Bytes::from(bytes)), Some(urls(1)));
        let members = Members::of([(NodeId(3), Seat::of(urls(3)))]);
        let genesis = Genesis { cluster: 9, members: members.clone() };
        let joined = Joined { member: 3, genesis, members };
        let mut bytes = Vec::new();
        encode(&joined, &mut bytes);
        for cut in 0..bytes.len() {
            assert_eq!(decode(Bytes::copy_from_slice(&bytes[..cut])), None);
        }
        assert_eq!(decode(Bytes::from(bytes)), Some(joined));
    }

    #[test]
    fn a_seat_is_given_once() {
        let started = Seat { started: true, name: "a".to_owned(), ..Seat::of(urls(1)) };
        let seats = [(NodeId(1), started.clone()), (NodeId(2), Seat::of(urls(2)))];
        let members = Members::of(seats);
        assert_eq!(seat_for(&urls(2), &members), Ok(NodeId(2)));
        let lost = seat_for(&urls(1), &members).expect_err("it has started");
        assert!(lost.contains("quorate member replace 1 NAME http://127.0.0.1:1"), "{lost}");
        let unknown = seat_for(&urls(9), &members).expect_err("nobody is there");
        assert!(unknown.contains("quorate member add NAME"), "{unknown}");
        let heir = Seat { replaces: Some(NodeId(1)), ..Seat::of(urls(1)) };
        let members = Members::of([(NodeId(1), started), (NodeId(5), heir)]);
        assert_eq!(seat_for(&urls(1), &members), Ok(NodeId(5)), "its heir has its address");
    }
}
