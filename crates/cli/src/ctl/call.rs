//! One request, to the first endpoint that can be reached, and what its failure means.
//!
//! Only a failed connection sends us to the next endpoint: then nothing was sent. Once a request
//! has left, repeating it elsewhere could carry it out twice, so its failure is the end, and the
//! message says whether it may still have happened. A write that has a name is asked again: it
//! takes effect once. What certainly has not happened is asked again, too, and so are reads whose
//! member failed: after a pause, within the time that there is, and within the budget of
//! [`crate::retry`].

use super::Caller;
use crate::client::{self, Channel};
use crate::retry::{self, Backoff};
use std::fmt;
use std::time::Instant;
use tonic::{Code, Response, Status};

/// What a request does if it happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Effect {
    /// Nothing changes.
    Read,
    /// Something may change.
    Write,
    /// Something may change, once if the request has a name.
    Named,
}

/// A request without an answer.
#[derive(Debug)]
pub(super) enum CallError {
    /// No endpoint could be reached: nothing happened.
    Unreachable { tried: Vec<(String, String)> },
    /// The member refused: it has not happened and never will.
    Refused { endpoint: String, message: String },
    /// It may have happened, or happen yet.
    OutcomeUnknown { endpoint: String, message: String },
}

impl CallError {
    /// One word for programs.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            CallError::Unreachable { .. } | CallError::Refused { .. } => "did not happen",
            CallError::OutcomeUnknown { .. } => "unknown",
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Unreachable { tried } => {
                f.write_str("no endpoint could be reached, nothing happened:")?;
                for (endpoint, error) in tried {
                    write!(f, " {endpoint} ({error})")?;
                }
                f.write_str("; start a cluster with 'quorate up' or name one with --endpoints")
            }
            CallError::Refused { endpoint, message } => {
                write!(f, "{endpoint} refused, nothing happened: {message}")
            }
            CallError::OutcomeUnknown { endpoint, message } => write!(
                f,
                "outcome unknown: {endpoint}: {message}; it may have happened, or happen yet: read \
                 before you repeat it"
            ),
        }
    }
}

impl std::error::Error for CallError {}

impl Caller {
    /// Sends `request` to the first endpoint that accepts a connection, logged in if that was asked
    /// for.
    pub(super) async fn call<T>(
        &self,
        effect: Effect,
        request: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, CallError> {
        let (mut backoff, began) = (Backoff::default(), Instant::now());
        self.budget.pay_in();
        loop {
            let (error, status) = match self.call_once(effect, &request).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            let again = status.filter(|status| match effect {
                Effect::Read => retry::is_of_the_way(status),
                Effect::Write | Effect::Named => retry::passes(status),
            });
            let pause = again.map(|status| backoff.next(&status));
            let left = self.timeout.saturating_sub(began.elapsed());
            match pause {
                Some(pause) if pause < left && self.budget.take() => {
                    tokio::time::sleep(pause).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// As [`Caller::call`], without asking again. A failure comes with what the member said, if it
    /// did and nothing of an earlier attempt is unknown.
    async fn call_once<T>(
        &self,
        effect: Effect,
        request: &impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, (CallError, Option<Status>)> {
        let mut tried = Vec::new();
        let mut unknown = None;
        for endpoint in &self.endpoints {
            let mut channel = match client::connect(endpoint).await {
                Ok(channel) => channel,
                Err(error) => {
                    tried.push((endpoint.authority(), client::root_cause(&error)));
                    continue;
                }
            };
            let endpoint = endpoint.authority();
            if let Some(login) = &self.login
                && let Err(status) = login.enter_within(self.timeout, &mut channel).await
            {
                // Nothing but the login was sent.
                let message = client::reason(&status);
                return Err((CallError::Refused { endpoint, message }, None));
            }
            let answer = tokio::time::timeout(self.timeout, request(channel)).await;
            let answer =
                answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
            let status = match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => status,
            };
            let message = client::reason(&status);
            // What an earlier attempt does is not known by a refusal of this one.
            let definite = unknown.is_none() && is_definite(&status);
            if effect == Effect::Read || definite {
                return Err((CallError::Refused { endpoint, message }, Some(status)));
            }
            unknown = Some(CallError::OutcomeUnknown { endpoint, message });
            if effect != Effect::Named || !self.conditions.may_repeat() {
                break;
            }
        }
        Err((unknown.unwrap_or(CallError::Unreachable { tried }), None))
    }
}

/// What is said of a request that was carried out before, or may have been.
const OF_BEFORE: [&str; 2] =
    ["quorate: the request was carried out at", "quorate: unknown request id, too old"];

/// True if a write that failed so has not happened and never will.
///
/// Refusals come before a request is proposed. What is not a refusal is a request that was lost on
/// the way, there or back.
fn is_definite(status: &Status) -> bool {
    if OF_BEFORE.iter().any(|words| status.message().starts_with(words)) {
        return false;
    }
    match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss => true,
        Code::Unavailable => retry::DEFINITE.contains(&status.message()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_definite_and_losses_are_not() {
        let definite = [
            (Code::InvalidArgument, "etcdserver: key is not provided"),
            (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            (Code::Unavailable, "etcdserver: no leader"),
        ];
        for (code, message) in definite {
            assert!(is_definite(&Status::new(code, message)), "{message}");
        }
        let unknown = [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "transport error"),
            (Code::DeadlineExceeded, "no answer in time"),
            (Code::Unknown, "h2 protocol error"),
            (Code::Internal, "stream reset"),
            (Code::Cancelled, "canceled"),
        ];
        for (code, message) in unknown {
            assert!(!is_definite(&Status::new(code, message)), "{message}");
        }
    }
}
