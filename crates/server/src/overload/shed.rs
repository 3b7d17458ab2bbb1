//! A refusal for want of room, and how it is told.
//!
//! The words and the code are etcd's, so that clients know them; why it was, by which rule, and
//! when to ask again stands in metadata beside them.

use crate::api::ApiError;
use bytes::Bytes;
use std::time::Duration;
use tonic::Status;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};

/// When to ask again, in milliseconds. Source: gRPC proposal A6, "Client Retries", pushback.
pub(crate) const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Metadata with the reason.
const REASON: &str = "quorate-shed";

/// Metadata with the rule.
const RULE: &str = "quorate-limit";

/// To ask again after, if nothing better is known.
pub(crate) const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Why a request is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Why {
    /// A rule's rate.
    Rate,
    /// A rule's requests in flight.
    InFlight,
    /// The queue is too long.
    Queue,
    /// It would be answered when its client has given up.
    Deadline,
    /// There is no room for its bytes.
    Bytes,
    /// Too many are open.
    Open,
}

impl Why {
    /// All, in their order, with their names.
    pub(crate) const ALL: [(Why, &'static str); 6] = [
        (Why::Rate, "rate"),
        (Why::InFlight, "in_flight"),
        (Why::Queue, "queue"),
        (Why::Deadline, "deadline"),
        (Why::Bytes, "bytes"),
        (Why::Open, "open"),
    ];
}

/// A refusal: nothing has happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Shed {
    /// Why.
    pub(crate) why: Why,
    /// By which rule, if by one.
    pub(crate) rule: Option<Bytes>,
    /// When it may be asked again.
    pub(crate) again_after: Duration,
}

impl Shed {
    pub(crate) fn of(why: Why, rule: Option<Bytes>) -> Shed {
        Shed { why, rule, again_after: AGAIN_AFTER }
    }
}

impl From<Shed> for Status {
    fn from(shed: Shed) -> Status {
        let Shed { why, rule, again_after } = shed;
        let (code, text) = ApiError::TooManyRequests.code_and_text();
        let mut metadata = MetadataMap::new();
        push_back(&mut metadata, again_after);
        metadata.insert(REASON, AsciiMetadataValue::from_static(Why::ALL[why as usize].1));
        // A name that is no text is not told.
        let rule = rule.and_then(|name| AsciiMetadataValue::try_from(&name[..]).ok());
        rule.map(|name| metadata.insert(RULE, name));
        Status::with_metadata(code, text, metadata)
    }
}

/// How long a client waits, as it says itself. None: it does not, or not so that it is understood.
///
/// Source: gRPC over HTTP2, "Timeout".
pub(crate) fn patience(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => count.checked_mul(3_600).map(Duration::from_secs),
        "M" => count.checked_mul(60).map(Duration::from_secs),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Adds when to ask again.
pub(crate) fn push_back(metadata: &mut MetadataMap, again_after: Duration) {
    let ms = again_after.as_millis().max(1).to_string();
    metadata.insert(PUSHBACK, AsciiMetadataValue::try_from(ms).expect("digits"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_etcds_and_says_when_to_ask_again() {
        let rule = Some(Bytes::from_static(b"batch"));
        let shed = Shed { again_after: Duration::from_micros(1_500), ..Shed::of(Why::Rate, rule) };
        let status = Status::from(shed);
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        assert_eq!(status.message(), "etcdserver: too many requests");
        let told = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(told(PUSHBACK), Some("1"));
        assert_eq!((told(REASON), told(RULE)), (Some("rate"), Some("batch")));
    }

    #[test]
    fn patience_is_told_in_six_units() {
        let told = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", AsciiMetadataValue::from_static(text));
            patience(&metadata)
        };
        let ms = |ms| Some(Duration::from_millis(ms));
        let cases = [("1H", ms(3_600_000)), ("2M", ms(120_000)), ("3S", ms(3_000)), ("4m", ms(4))];
        for (text, patience) in cases {
            assert_eq!(told(text), patience);
        }
        assert_eq!((told("5000u"), told("6000000n")), (ms(5), ms(6)));
        for text in ["", "m", "5", "5x", "-5m", "99999999999999999999S", "18446744073709551615H"] {
            assert_eq!(told(text), None, "{text:?}");
        }
        assert_eq!(patience(&MetadataMap::new()), None);
    }

    #[test]
    fn reasons_stand_at_their_numbers() {
        for (place, (why, _)) in Why::ALL.iter().enumerate() {
            assert_eq!(*why as usize, place);
        }
    }
}
