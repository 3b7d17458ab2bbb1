//! Asking one member after the other until one answers.
//!
//! Everything asked here may be asked twice: a grant names its lease, standing in line twice with
//! one lease is standing there once, and the rest reads or ends what is to be ended. So a member
//! that cannot be reached, falls silent, or has no leader sends us to the next one.
//!
//! **Bounds.** One connection at a time. Members are asked in turn, with a pause after each round
//! that grows to [`PAUSE_MAX`], and is as long as a member asks for.

use crate::client::{self, Channel, Endpoint};
use crate::login::Login;
use crate::retry::Backoff;
use quorate_server::proto::v3electionpb::LeaderRequest;
use quorate_server::proto::v3electionpb::election_client::ElectionClient;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Code, Request, Response, Status};

/// The longest time between two rounds through all members: a small part of a lease.
const PAUSE_MAX: Duration = Duration::from_millis(500);

/// How long nobody may be reachable at the beginning, before anything was granted.
pub(crate) const FIRST_CONTACT: Duration = Duration::from_secs(5);

/// The members, and which of them served last.
pub(crate) struct Members {
    endpoints: Vec<Endpoint>,
    login: Option<Login>,
    last: AtomicUsize,
}

/// Why nobody answered as hoped.
#[derive(Debug)]
pub(crate) enum AskError {
    /// A member refused for good.
    Refused { endpoint: String, status: Status },
    /// Nobody answered in time.
    Unanswered { last: String },
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Refused { endpoint, status } => {
                write!(f, "{endpoint} refused: {}", client::reason(status))
            }
            AskError::Unanswered { last } => write!(
                f,
                "no member answered: {last}; start a cluster with 'quorate up' or name one with \
                 --endpoints"
            ),
        }
    }
}

impl Members {
    pub(crate) fn new(endpoints: Vec<Endpoint>, login: Option<Login>) -> Members {
        Members { endpoints, login, last: AtomicUsize::new(0) }
    }

    /// Asks until somebody answers for good. `each` is how long one answer may take, if it is not
    /// to be waited for without end; `until` is when to give up, if ever.
    pub(crate) async fn ask<T>(
        &self,
        each: Option<Duration>,
        until: Option<Instant>,
        request: impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, AskError> {
        let (mut failed, mut why) = (0, None);
        let mut backoff = Backoff::up_to(PAUSE_MAX);
        loop {
            let at = self.last.load(Ordering::Relaxed) % self.endpoints.len();
            let endpoint = &self.endpoints[at];
            let attempt = self.attempt(endpoint, each, &request);
            let answer = match until {
                None => attempt.await,
                Some(until) => match tokio::time::timeout_at(until, attempt).await {
                    Ok(answer) => answer,
                    Err(_) => {
                        let last =
                            why.unwrap_or_else(|| format!("{} (no answer)", endpoint.authority()));
                        return Err(AskError::Unanswered { last });
                    }
                },
            };
            let endpoint = endpoint.authority();
            let status = match answer {
                Ok(answer) => return Ok(answer),
                Err(status) if is_final(&status) => {
                    return Err(AskError::Refused { endpoint, status });
                }
                Err(status) => status,
            };
            self.last.store(at + 1, Ordering::Relaxed);
            failed += 1;
            why = Some(format!("{endpoint} ({})", client::reason(&status)));
            if failed % self.endpoints.len() == 0 {
                let pause = backoff.next(&status);
                match until {
                    None => tokio::time::sleep(pause).await,
                    Some(until) => {
                        tokio::time::sleep_until(until.min(Instant::now() + pause)).await
                    }
                }
            }
        }
    }

    async fn attempt<T>(
        &self,
        endpoint: &Endpoint,
        each: Option<Duration>,
        request: &impl AsyncFn(Channel) -> Result<Response<T>, Status>,
    ) -> Result<T, Status> {
        let asking = async {
            let channel = self.connect(endpoint).await?;
            request(channel).await.map(Response::into_inner)
        };
        match each {
            None => asking.await,
            Some(each) => tokio::time::timeout(each, asking)
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))),
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, Status> {
        let connected = client::connect_alert(endpoint).await;
        let mut channel =
            connected.map_err(|error| Status::unavailable(client::root_cause(&error)))?;
        if let Some(login) = &self.login {
            login.enter(&mut channel).await?;
        }
        Ok(channel)
    }

    /// Tells of every leader of an election and of every value it shows, until it is refused.
    pub(crate) async fn observe(
        &self,
        name: &str,
        show: impl Fn(&str, &str),
    ) -> Result<(), AskError> {
        let told = std::cell::Cell::new(0);
        let until = Instant::now() + FIRST_CONTACT;
        let observing = async |channel: Channel| -> Result<Response<()>, Status> {
            let request = wanting_leader(LeaderRequest { name: name.to_owned().into() });
            let mut stream = ElectionClient::new(channel).observe(request).await?.into_inner();
            while let Some(answer) = stream.message().await? {
                let Some(kv) = answer.kv else { continue };
                // Through another member the present leader is told once more.
                if kv.mod_revision > told.replace(told.get().max(kv.mod_revision)) {
                    show(&String::from_utf8_lossy(&kv.key), &String::from_utf8_lossy(&kv.value));
                }
            }
            Err(Status::unavailable("the stream ended"))
        };
        let never_heard = self.ask(None, Some(until), async |channel| {
            // Somebody has to be there at first; after that we wait for as long as it takes.
            Ok(Response::new(channel))
        });
        drop(never_heard.await?);
        self.ask(None, None, observing).await
    }
}

/// A request that a member without a leader refuses after a while, so that we ask another one.
pub(crate) fn wanting_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().expect("letters"));
    request
}

/// True if another member would say the same.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
    ) || (status.code() == Code::Unknown && std::error::Error::source(status).is_none())
        || status.message().contains("database space exceeded")
}
