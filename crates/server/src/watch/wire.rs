//! Messages as bytes.
//!
//! Events are written straight from the shared pairs of the store into the buffer that leaves: the
//! generated types would have to be built first, with counted references for each key and value,
//! only to be written and dropped. Everything else is rare and goes through the generated types.
//!
//! ```text
//! gRPC frame      0 (not compressed), length (4, big-endian), message
//! WatchResponse   1 header, 2 watch_id, 7 fragment, 11 events
//! Event           1 type, 2 kv, 3 prev_kv
//! KeyValue        1 key, 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease
//! ```
//!
//! As in every proto3 message, what is zero or empty is left out.

use crate::proto::etcdserverpb as pb;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use quorate_replica::store::{Event, KeyValue};
use std::sync::Arc;

/// Bytes before each message.
const FRAME_BYTES: usize = 5;

const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

/// An event on its way to the watchers of one class.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pick<'a> {
    pub(super) class: u32,
    pub(super) event: &'a Event,
    /// What the event replaced, if that is wanted and known.
    pub(super) prev: Option<&'a Arc<KeyValue>>,
    /// How it is told: 0 is a put, 1 a deletion.
    kind: u64,
    /// Of the event in a response, its tag included. Unit: bytes.
    pub(super) bytes: usize,
}

impl<'a> Pick<'a> {
    pub(super) fn new(class: u32, event: &'a Event, prev: Option<&'a Arc<KeyValue>>) -> Pick<'a> {
        Pick::of_kind(class, event, prev, u64::from(event.is_delete()))
    }

    /// Planted bug: it is told as a put, whatever it is.
    pub(super) fn told_as_put(
        class: u32,
        event: &'a Event,
        prev: Option<&'a Arc<KeyValue>>,
    ) -> Pick<'a> {
        Pick::of_kind(class, event, prev, 0)
    }

    fn of_kind(
        class: u32,
        event: &'a Event,
        prev: Option<&'a Arc<KeyValue>>,
        kind: u64,
    ) -> Pick<'a> {
        let bytes = delimited_bytes(event_bytes(event, prev, kind));
        Pick { class, event, prev, kind, bytes }
    }
}

/// What is before the events of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) header: pb::ResponseHeader,
    pub(super) watch_id: i64,
    pub(super) fragment: bool,
}

/// Adds a message to `into`.
pub(super) fn frame(message: &pb::WatchResponse, into: &mut Vec<u8>) {
    begin_frame(message.encoded_len(), into);
    message.encode(into).expect("a vector has room");
}

/// Adds a message with events to `into`. Answers with where in `into` the events lie.
pub(super) fn frame_events(
    head: &Head,
    events: &[Pick<'_>],
    into: &mut Vec<u8>,
) -> std::ops::Range<usize> {
    frame_head(head, events.iter().map(|pick| pick.bytes).sum(), into);
    let start = into.len();
    for pick in events {
        put_event(pick, into);
    }
    start..into.len()
}

/// As [`frame_events`] with events that lie in `into` already.
pub(super) fn frame_again(head: &Head, events: std::ops::Range<usize>, into: &mut Vec<u8>) {
    frame_head(head, events.len(), into);
    into.extend_from_within(events);
}

fn frame_head(head: &Head, events_bytes: usize, into: &mut Vec<u8>) {
    let header_bytes = head.header.encoded_len();
    let length = delimited_bytes(header_bytes)
        + number_bytes(head.watch_id as u64)
        + number_bytes(u64::from(head.fragment))
        + events_bytes;
    into.reserve(FRAME_BYTES + length);
    begin_frame(length, into);
    put_length(1, header_bytes, into);
    head.header.encode(into).expect("a vector has room");
    put_number(2, head.watch_id as u64, into);
    put_number(7, u64::from(head.fragment), into);
}

/// Panics: on a message of 4 GiB.
fn begin_frame(length: usize, into: &mut Vec<u8>) {
    let length = u32::try_from(length).expect("messages are bounded far below 4 GiB");
    into.push(0);
    into.extend_from_slice(&length.to_be_bytes());
}

fn event_bytes(event: &Event, prev: Option<&Arc<KeyValue>>, kind: u64) -> usize {
    number_bytes(kind)
        + delimited_bytes(pair_bytes(&event.kv))
        + prev.map_or(0, |prev| delimited_bytes(pair_bytes(prev)))
}

fn put_event(pick: &Pick<'_>, into: &mut Vec<u8>) {
    put_length(11, event_bytes(pick.event, pick.prev, pick.kind), into);
    put_number(1, pick.kind, into);
    put_pair(2, &pick.event.kv, into);
    if let Some(prev) = pick.prev {
        put_pair(3, prev, into);
    }
}

fn pair_bytes(kv: &KeyValue) -> usize {
    text_bytes(&kv.key)
        + number_bytes(kv.create_revision.0)
        + number_bytes(kv.mod_revision.0)
        + number_bytes(kv.version)
        + text_bytes(&kv.value)
        + number_bytes(kv.lease as u64)
}

fn put_pair(field: u8, kv: &KeyValue, into: &mut Vec<u8>) {
    put_length(field, pair_bytes(kv), into);
    put_text(1, &kv.key, into);
    put_number(2, kv.create_revision.0, into);
    put_number(3, kv.mod_revision.0, into);
    put_number(4, kv.version, into);
    put_text(5, &kv.value, into);
    put_number(6, kv.lease as u64, into);
}

/// With tag and length; all our tags take one byte.
fn delimited_bytes(length: usize) -> usize {
    1 + encoded_len_varint(length as u64) + length
}

fn text_bytes(text: &[u8]) -> usize {
    if text.is_empty() { 0 } else { delimited_bytes(text.len()) }
}

fn number_bytes(number: u64) -> usize {
    if number == 0 { 0 } else { 1 + encoded_len_varint(number) }
}

fn put_length(field: u8, length: usize, into: &mut Vec<u8>) {
    into.push(field << 3 | LENGTH_DELIMITED);
    encode_varint(length as u64, into);
}

fn put_text(field: u8, text: &[u8], into: &mut Vec<u8>) {
    if !text.is_empty() {
        put_length(field, text.len(), into);
        into.extend_from_slice(text);
    }
}

fn put_number(field: u8, number: u64, into: &mut Vec<u8>) {
    if number != 0 {
        into.push(field << 3 | VARINT);
        encode_varint(number, into);
    }
}

#[cfg(test)]
mod tests {
    use super::{Head, Pick, frame, frame_again, frame_events};
    use crate::proto::{etcdserverpb as pb, mvccpb};
    use bytes::Bytes;
    use proptest::prelude::*;
    use quorate_replica::store::{Event, KeyValue, Revision};
    use std::sync::Arc;

    fn generated(kv: &KeyValue) -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: kv.key.clone(),
            create_revision: kv.create_revision.0 as i64,
            mod_revision: kv.mod_revision.0 as i64,
            version: kv.version as i64,
            value: kv.value.clone(),
            lease: kv.lease,
        }
    }

    fn pair() -> impl Strategy<Value = Arc<KeyValue>> {
        let number = prop_oneof![Just(0), Just(1), Just(127), Just(128), 0u64..1 << 62];
        let text = prop::collection::vec(any::<u8>(), 0..200);
        (text.clone(), text, number.clone(), number.clone(), number, any::<i64>()).prop_map(
            |(key, value, create, modified, version, lease)| {
                Arc::new(KeyValue {
                    key: Bytes::from(key),
                    value: Bytes::from(value),
                    create_revision: Revision(create),
                    mod_revision: Revision(modified),
                    version,
                    lease,
                })
            },
        )
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_of_the_generated_types(
            pairs in prop::collection::vec((pair(), prop::option::of(pair())), 0..4),
            watch_id in any::<i64>(),
            fragment in any::<bool>(),
            revision in any::<i64>(),
        ) {
            let header =
                pb::ResponseHeader { cluster_id: 7, member_id: u64::MAX, revision, raft_term: 3 };
            let events: Vec<Event> = pairs
                .iter()
                .map(|(kv, _)| Event::new(Arc::clone(kv), None))
                .collect();
            let picks: Vec<Pick<'_>> = events
                .iter()
                .zip(&pairs)
                .map(|(event, (_, prev))| Pick::new(0, event, prev.as_ref()))
                .collect();
            let events = events
                .iter()
                .zip(&pairs)
                .map(|(event, (kv, prev))| mvccpb::Event {
                    r#type: event.is_delete().into(),
                    kv: Some(generated(kv)),
                    prev_kv: prev.as_ref().map(|prev| generated(prev)),
                })
                .collect();
            let message = pb::WatchResponse {
                header: Some(header),
                watch_id,
                fragment,
                events,
                ..Default::default()
            };
            let head = Head { header, watch_id, fragment };
            let (mut expected, mut ours) = (Vec::new(), Vec::new());
            frame(&message, &mut expected);
            let place = frame_events(&head, &picks, &mut ours);
            prop_assert_eq!(&ours, &expected);
            frame_again(&head, place, &mut ours);
            prop_assert_eq!(&ours[expected.len()..], &expected[..]);
        }
    }
}
