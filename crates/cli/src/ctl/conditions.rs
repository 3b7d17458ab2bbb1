//! What is added to a write: the locks that must be held, and a name by which it may be asked
//! again.
//!
//! A fence comes from `--fence`, or from `QUORATE_FENCE`, which `quorate lock` sets for its
//! command; so what that command writes is refused by the store once the lock is lost. `--fence ''`
//! leaves it out. With a request id a write whose outcome is unknown is asked again, of the next
//! endpoint.

use clap::Args;
use quorate_server::api::conditions::{FENCE_BIN, REQUEST_ID};
use std::fmt;
use tonic::Request;
use tonic::metadata::{AsciiMetadataValue, BinaryMetadataValue, MetadataValue};

/// Where `quorate lock` tells its command what it holds.
const FENCE_VARIABLE: &str = "QUORATE_FENCE";

/// The flags.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ConditionFlags {
    /// Write only while this lock is held; '' for no lock [env: QUORATE_FENCE]
    #[arg(long, global = true, value_name = "KEY=TOKEN")]
    fence: Vec<String>,
    /// Write once, however often it is asked: a name, and a revision seen before the first time
    #[arg(long, global = true, value_name = "ID@REVISION")]
    request_id: Option<String>,
}

/// What is added to each write.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions {
    fences: Vec<BinaryMetadataValue>,
    request_id: Option<AsciiMetadataValue>,
}

/// A condition that cannot be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum BadCondition {
    Fence(String),
    RequestId(String),
}

impl fmt::Display for BadCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadCondition::Fence(text) => {
                write!(f, "--fence: write KEY=TOKEN as 'quorate lock' tells it, not {text:?}")
            }
            BadCondition::RequestId(text) => write!(
                f,
                "--request-id: write ID@REVISION, where REVISION is one that was seen before the \
                 first attempt, not {text:?}"
            ),
        }
    }
}

impl ConditionFlags {
    /// What the flags and the environment say.
    ///
    /// Errors: it has not the form.
    pub(super) fn read(&self) -> Result<Conditions, BadCondition> {
        let mut fences = self.fence.clone();
        if fences.is_empty() {
            fences.extend(std::env::var(FENCE_VARIABLE).ok());
        }
        fences.retain(|fence| !fence.is_empty());
        let fences = fences.into_iter().map(|text| match has_number_after(&text, '=') {
            true => Ok(MetadataValue::from_bytes(text.as_bytes())),
            false => Err(BadCondition::Fence(text)),
        });
        let request_id = self.request_id.as_ref().map(|text| {
            let value = AsciiMetadataValue::try_from(text.as_str()).ok();
            let value = value.filter(|_| has_number_after(text, '@'));
            value.ok_or_else(|| BadCondition::RequestId(text.clone()))
        });
        Ok(Conditions {
            fences: fences.collect::<Result<_, _>>()?,
            request_id: request_id.transpose()?,
        })
    }
}

fn has_number_after(text: &str, sign: char) -> bool {
    text.rsplit_once(sign).is_some_and(|(name, number)| {
        !name.is_empty() && number.parse::<u64>().is_ok_and(|number| number > 0)
    })
}

impl Conditions {
    /// A write with all that is added to it.
    pub(super) fn named<T>(&self, message: T) -> Request<T> {
        let mut request = self.fenced(message);
        if let Some(id) = &self.request_id {
            request.metadata_mut().insert(REQUEST_ID, id.clone());
        }
        request
    }

    /// A write of a kind that has no name.
    pub(super) fn fenced<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        for fence in &self.fences {
            request.metadata_mut().append_bin(FENCE_BIN, fence.clone());
        }
        request
    }

    /// True if a write may be asked again although it may have happened.
    pub(super) fn may_repeat(&self) -> bool {
        self.request_id.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(fences: &[&str], id: Option<&str>) -> Result<Conditions, BadCondition> {
        let fence = fences.iter().map(|text| (*text).to_owned()).collect();
        ConditionFlags { fence, request_id: id.map(str::to_owned) }.read()
    }

    #[test]
    fn conditions_become_metadata() {
        let conditions = read(&["jobs/a=b=12", "k=1"], Some("me@home@7")).expect("well-formed");
        let request = conditions.named(());
        let fences = request.metadata().get_all_bin(FENCE_BIN).iter();
        let fences: Vec<_> = fences.map(|value| value.to_bytes().expect("base64")).collect();
        assert_eq!(fences, [&b"jobs/a=b=12"[..], b"k=1"]);
        assert_eq!(request.metadata().get(REQUEST_ID).expect("an id"), "me@home@7");
        assert!(conditions.fenced(()).metadata().get(REQUEST_ID).is_none());
        assert!(read(&[""], None).expect("none").fenced(()).metadata().is_empty());
    }

    #[test]
    fn what_has_not_the_form_is_refused() {
        for text in ["jobs", "=1", "jobs=", "jobs=0", "jobs=x"] {
            assert_eq!(read(&[text], None).err(), Some(BadCondition::Fence(text.to_owned())));
        }
        for text in ["me", "@1", "me@", "me@0", "m\u{e4}@x"] {
            let bad = BadCondition::RequestId(text.to_owned());
            assert_eq!(read(&["a=1"], Some(text)).err(), Some(bad));
        }
    }
}
