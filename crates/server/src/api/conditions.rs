//! What a client may add to a write: the locks that it holds, and a name for the request.
//!
//! Both are metadata of the request, so that every client of etcd can use them, and both are judged
//! by the replicas when the write is carried out ([`Guard`]).
//!
//! ```text
//!   quorate-fence: jobs/694d7=12          refused unless this lock is held with this token
//!   quorate-fence-bin: ...                the same for keys that are no text: key, "=", token
//!   quorate-request-id: mover-7/41@1200   takes effect once; 1200 is a revision that the client
//!                                         had seen before it asked for the first time
//! ```
//!
//! Served with Put, DeleteRange, Txn, LeaseRevoke, Compact and Unlock; a request id with the first
//! three, as the others may be asked twice without harm. Elsewhere a write that carries them is
//! refused, rather than carried out without them. Reads do not look at them: to read late is
//! harmless.

use super::errors::ApiError;
use bytes::Bytes;
use quorate_replica::store::{
    FENCES_MAX, Fence, Guard, ID_BYTES_MAX, KvError, RequestId, Revision,
};
use tonic::Status;
use tonic::metadata::MetadataMap;

/// Names the key of a lock and its token.
pub const FENCE: &str = "quorate-fence";
/// The same for keys that are no text.
pub const FENCE_BIN: &str = "quorate-fence-bin";
/// Names the request, and a revision from before it.
pub const REQUEST_ID: &str = "quorate-request-id";

/// What a request may carry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Takes {
    /// Fences and a name.
    Everything,
    /// Fences.
    Fences,
    /// Neither.
    Nothing,
}

/// What the client adds.
///
/// Errors: it cannot be understood, or is not taken with this request.
pub(super) fn read(metadata: &MetadataMap, takes: Takes) -> Result<Guard, Status> {
    let mut guard = Guard::default();
    for value in metadata.get_all(FENCE) {
        guard.fences.push(fence(value.as_encoded_bytes())?);
    }
    for value in metadata.get_all_bin(FENCE_BIN) {
        let value = value.to_bytes().map_err(|_| misspelt(FENCE, "KEY=TOKEN", b""))?;
        guard.fences.push(fence(&value)?);
    }
    let mut ids = metadata.get_all(REQUEST_ID).iter();
    guard.request = ids.next().map(|value| request_id(value.as_encoded_bytes())).transpose()?;
    if ids.next().is_some() {
        return Err(Status::invalid_argument(format!("{REQUEST_ID}: a request has one name")));
    }
    if guard.fences.len() > FENCES_MAX {
        let text = format!("{FENCE}: a request depends on at most {FENCES_MAX} locks");
        return Err(Status::invalid_argument(text));
    }
    if takes == Takes::Nothing && !guard.fences.is_empty() {
        let text = format!("{FENCE}: this request cannot depend on a lock");
        return Err(Status::invalid_argument(text));
    }
    if takes != Takes::Everything && guard.request.is_some() {
        let text = format!(
            "{REQUEST_ID}: only Put, DeleteRange and Txn have names; this request may be asked \
             twice without one"
        );
        return Err(Status::invalid_argument(text));
    }
    Ok(guard)
}

/// `KEY=TOKEN`; the key may have `=` in it.
fn fence(text: &[u8]) -> Result<Fence, Status> {
    let parse = || {
        let at = text.iter().rposition(|byte| *byte == b'=').filter(|at| *at > 0)?;
        let token = number(&text[at + 1..])?;
        Some(Fence { key: Bytes::copy_from_slice(&text[..at]), token: Revision(token) })
    };
    parse().ok_or_else(|| misspelt(FENCE, "KEY=TOKEN", text))
}

/// `ID@REVISION`; the id may have `@` in it.
fn request_id(text: &[u8]) -> Result<RequestId, Status> {
    let parse = || {
        let at = text.iter().rposition(|byte| *byte == b'@')?;
        let is_fit = (1..=ID_BYTES_MAX).contains(&at);
        let since = Revision(number(&text[at + 1..])?);
        is_fit.then(|| RequestId { id: Bytes::copy_from_slice(&text[..at]), since })
    };
    let form = format!("ID@REVISION with an id of 1 to {ID_BYTES_MAX} bytes");
    parse().ok_or_else(|| misspelt(REQUEST_ID, &form, text))
}

/// A revision: positive, in decimal.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number > 0)
}

fn misspelt(name: &str, form: &str, text: &[u8]) -> Status {
    let text = String::from_utf8_lossy(text);
    Status::invalid_argument(format!("{name}: write {form}, not {text:?}"))
}

/// A refusal of the store in words that say what to do, where the guard has to do with it.
pub(super) fn refused(guard: &Guard, why: KvError) -> Status {
    let (code, _) = ApiError::from(why).code_and_text();
    match why {
        KvError::Fenced { fence, holder } => {
            let Some(Fence { key, token }) = guard.fences.get(usize::from(fence)) else {
                return ApiError::from(why).into();
            };
            let (key, token) = (String::from_utf8_lossy(key), token.0);
            let holder = match holder.0 {
                0 => "nobody holds it now".to_owned(),
                holder => format!("it is held with token {holder} now"),
            };
            let text = format!(
                "quorate: fenced: lock {key:?} is not held with token {token}: {holder}; nothing \
                 was written: take the lock again"
            );
            Status::new(code, text)
        }
        KvError::AnswerNotKept { revision } => {
            let text = format!(
                "quorate: the request was carried out at revision {}, and its answer was too long \
                 to be kept",
                revision.0
            );
            Status::new(code, text)
        }
        why => ApiError::from(why).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;
    use tonic::metadata::MetadataValue;

    fn with(pairs: &[(&'static str, &str)]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in pairs {
            metadata.append(*name, value.parse().expect("a value"));
        }
        metadata
    }

    #[test]
    fn fences_and_names_are_understood() {
        let mut metadata = with(&[(FENCE, "jobs/a=b=12"), (REQUEST_ID, "me@home@7")]);
        metadata.append_bin(FENCE_BIN, MetadataValue::from_bytes(b"\xff\0/1=13"));
        let guard = read(&metadata, Takes::Everything).expect("all is right");
        let fence = |key: &'static [u8], token| Fence { key: key.into(), token: Revision(token) };
        assert_eq!(guard.fences, [fence(b"jobs/a=b", 12), fence(b"\xff\0/1", 13)]);
        let request = RequestId { id: "me@home".into(), since: Revision(7) };
        assert_eq!(guard.request, Some(request));
        let none = read(&with(&[("user-agent", "x")]), Takes::Nothing).expect("nothing is added");
        assert!(none.is_empty());
    }

    #[test]
    fn what_is_misspelt_or_not_taken_is_refused_in_words() {
        let long = format!("{}@7", "x".repeat(ID_BYTES_MAX + 1));
        let many = vec![(FENCE, "a/1=2"); FENCES_MAX + 1];
        let cases = [
            (vec![(FENCE, "jobs/1")], Takes::Everything, "write KEY=TOKEN"),
            (vec![(FENCE, "=12")], Takes::Everything, "write KEY=TOKEN"),
            (vec![(FENCE, "jobs/1=")], Takes::Everything, "write KEY=TOKEN"),
            (vec![(FENCE, "jobs/1=0")], Takes::Everything, "write KEY=TOKEN"),
            (vec![(FENCE, "jobs/1=+3")], Takes::Everything, "write KEY=TOKEN"),
            (vec![(FENCE, "jobs/1=99999999999999999999")], Takes::Everything, "write KEY"),
            (vec![(REQUEST_ID, "me")], Takes::Everything, "write ID@REVISION"),
            (vec![(REQUEST_ID, "@7")], Takes::Everything, "write ID@REVISION"),
            (vec![(REQUEST_ID, "me@0")], Takes::Everything, "write ID@REVISION"),
            (vec![(REQUEST_ID, &long)], Takes::Everything, "write ID@REVISION"),
            (vec![(REQUEST_ID, "a@1"), (REQUEST_ID, "b@1")], Takes::Everything, "one name"),
            (many, Takes::Everything, "at most 8 locks"),
            (vec![(FENCE, "a/1=2")], Takes::Nothing, "cannot depend on a lock"),
            (vec![(REQUEST_ID, "a@1")], Takes::Fences, "only Put, DeleteRange and Txn"),
        ];
        for (pairs, takes, words) in cases {
            let refused = read(&with(&pairs), takes).expect_err(words);
            assert_eq!(refused.code(), Code::InvalidArgument, "{pairs:?}");
            assert!(refused.message().contains(words), "{refused}");
        }
    }

    #[test]
    fn a_fenced_write_is_told_lock_token_and_holder() {
        let guard = read(&with(&[(FENCE, "jobs/1=12")]), Takes::Fences).expect("a fence");
        let told = |holder| refused(&guard, KvError::Fenced { fence: 0, holder: Revision(holder) });
        let status = told(19);
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert!(status.message().starts_with(
            "quorate: fenced: lock \"jobs/1\" is not held with token 12: it is held with token 19"
        ));
        assert!(told(0).message().contains("nobody holds it now"));
        let late = refused(&guard, KvError::RequestForgotten);
        assert!(late.message().contains("unknown request id, too old"), "{late}");
        assert_eq!(late.code(), Code::FailedPrecondition);
    }
}
