//! Reads that may be old, but not older than their client says.
//!
//! **Problem.** etcd's API knows two freshnesses: consult a quorum, or take whatever this member
//! has, however old. Most readers want neither: a second old is good, an hour old is not.
//!
//! **Idea.** A linearizable read proves that this member's state is no older than the moment at
//! which that read began. For as long as the client allows, later reads count from that proof and
//! ask nobody; then one of them proves it anew. Only this machine's own monotonic clock is read, so
//! no clocks need to agree.
//!
//! ```text
//!   proof at 0.0 s     read, 2 s allowed: from here, 1.3 s     read at 2.4 s: a new proof
//!   --|----------------------|------------------------------------|------------------> time
//! ```
//!
//! **How.** Metadata of the request: `quorate-max-staleness: 500ms` (also `2s`), with any range, or
//! a transaction that only reads. Metadata of the answer: `quorate-staleness: 12ms`, rounded up.
//! A new proof is answered even where it took longer than is allowed, with a stamp that says so: no
//! fresher answer can be had.
//! Without a quorum such a read is answered for as long as the last proof allows, and is then
//! refused with the age of what is here.

use super::errors::ApiError;
use crate::handle::Consistency;
use std::time::Duration;
use tonic::metadata::{AsciiMetadataValue, MetadataMap};
use tonic::{Response, Status};

/// What a request may ask.
pub const MAX_STALENESS: &str = "quorate-max-staleness";
/// What its answer then says.
pub const STALENESS: &str = "quorate-staleness";

/// How fresh an answer must be: as the request itself says, unless its metadata says more.
///
/// Errors: a time that is none.
pub(super) fn wanted(
    metadata: &MetadataMap,
    otherwise: Consistency,
) -> Result<Consistency, Status> {
    let Some(text) = metadata.get(MAX_STALENESS) else { return Ok(otherwise) };
    let at_most = text.to_str().ok().and_then(time);
    let at_most = at_most.ok_or_else(|| {
        let text = String::from_utf8_lossy(text.as_encoded_bytes());
        Status::invalid_argument(format!("{MAX_STALENESS}: write 500ms or 2s, not {text:?}"))
    })?;
    Ok(Consistency::Bounded { at_most })
}

/// Says how old an answer can be at most.
pub(super) fn stamp<T>(mut response: Response<T>, staleness: Option<Duration>) -> Response<T> {
    if let Some(staleness) = staleness {
        let millis = staleness.as_micros().div_ceil(1_000);
        let text = AsciiMetadataValue::try_from(format!("{millis}ms"));
        response.metadata_mut().insert(STALENESS, text.expect("digits and letters"));
    }
    response
}

/// A read that could not be proven fresh: says how old the answer would have been.
pub(super) fn refused(why: ApiError, consistency: Consistency, age: Option<Duration>) -> Status {
    let Consistency::Bounded { at_most } = consistency else { return why.into() };
    let here = match age {
        Some(age) => format!("what is here may be {} ms old", age.as_millis()),
        None => "nothing was ever proven fresh here".to_owned(),
    };
    let at_most = at_most.as_millis();
    Status::unavailable(format!("quorate: no quorum, {here}, and {at_most} ms are allowed"))
}

fn time(text: &str) -> Option<Duration> {
    let unit = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit);
    let number = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Result<Consistency, Status> {
        let mut metadata = MetadataMap::new();
        metadata.insert(MAX_STALENESS, text.parse().expect("a value"));
        wanted(&metadata, Consistency::Linearizable)
    }

    #[test]
    fn times_are_understood_or_refused() {
        let bounded = |millis| Consistency::Bounded { at_most: Duration::from_millis(millis) };
        assert_eq!(asked("500ms").expect("a time"), bounded(500));
        assert_eq!(asked("2s").expect("a time"), bounded(2_000));
        assert_eq!(asked("0ms").expect("a time"), bounded(0));
        for text in ["", "500", "ms", "-1s", "1h", "1.5s", "99999999999999999999s", "1s "] {
            let refused = asked(text).expect_err(text);
            assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{text:?}");
        }
        let none = wanted(&MetadataMap::new(), Consistency::Serializable).expect("nothing asked");
        assert_eq!(none, Consistency::Serializable);
    }

    #[test]
    fn staleness_is_rounded_up() {
        let response = stamp(Response::new(()), Some(Duration::from_micros(12_001)));
        assert_eq!(response.metadata().get(STALENESS).expect("a stamp"), "13ms");
        assert!(stamp(Response::new(()), None).metadata().is_empty());
    }

    #[test]
    fn a_refusal_says_how_old_the_answer_would_be() {
        let bounded = Consistency::Bounded { at_most: Duration::from_millis(500) };
        let status = refused(ApiError::NoLeader, bounded, Some(Duration::from_millis(9_000)));
        assert!(status.message().contains("9000 ms old"), "{status}");
        let plain = refused(ApiError::NoLeader, Consistency::Linearizable, None);
        assert_eq!(plain.message(), "etcdserver: no leader");
    }
}
