//! The lease behind a lock: granted, kept alive, and lost in time.
//!
//! A lease lives for its time after a keep-alive was *sent*, whatever happened to the answer on its
//! way. A tenth before that is over by our clock it is taken for lost: so much is left to end the
//! command. The clock goes on while the machine sleeps.

use super::members::{AskError, FIRST_CONTACT, Members};
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest,
};
use rustix::time::{ClockId, clock_gettime};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;
use tokio::time::Instant;
use tonic::codegen::tokio_stream;
use tonic::{Code, Response, Status};

/// How often the clock is looked at.
const TICK: Duration = Duration::from_millis(50);

/// A lease of this process.
#[derive(Debug)]
pub(crate) struct Lease {
    id: i64,
    ttl: Duration,
    /// When it was asked for.
    asked: Uptime,
}

/// Time since the machine started, sleep included.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Uptime(Duration);

impl Uptime {
    fn now() -> Uptime {
        let time = clock_gettime(ClockId::Boottime);
        let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
        Uptime(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos))
    }
}

impl Lease {
    /// Grants one.
    pub(crate) async fn grant(members: &Members, ttl: i64) -> Result<Lease, AskError> {
        let id = drawn_id();
        let until = Instant::now() + FIRST_CONTACT;
        let each = Some(FIRST_CONTACT / 4);
        let (granted, asked) = members
            .ask(each, Some(until), async |channel| {
                let asked = Uptime::now();
                let request = LeaseGrantRequest { ttl, id };
                match LeaseClient::new(channel).lease_grant(request).await {
                    Ok(granted) => Ok(Response::new((granted.into_inner().ttl, asked))),
                    // By an attempt whose answer we did not hear, so we do not know since when.
                    Err(status) if status.message().ends_with("lease already exists") => {
                        Ok(Response::new((ttl, asked)))
                    }
                    Err(status) => Err(status),
                }
            })
            .await?;
        // Not longer than what was asked for: an earlier attempt may have granted that.
        let ttl = Duration::from_secs(u64::try_from(granted.min(ttl)).unwrap_or(0));
        let mut lease = Lease { id, ttl, asked };
        // The first keep-alive makes up for what is not known.
        lease.asked = lease.renew(members, until).await?;
        Ok(lease)
    }

    pub(crate) fn id(&self) -> i64 {
        self.id
    }

    /// One keep-alive; when it was sent.
    async fn renew(&self, members: &Members, until: Instant) -> Result<Uptime, AskError> {
        let id = self.id;
        let each = Some((self.ttl / 6).clamp(Duration::from_millis(300), Duration::from_secs(3)));
        members
            .ask(each, Some(until), async |channel| {
                let sent = Uptime::now();
                let question = tokio_stream::once(LeaseKeepAliveRequest { id });
                let answers = LeaseClient::new(channel).lease_keep_alive(question).await?;
                match answers.into_inner().message().await? {
                    None => Err(Status::unavailable("no answer")),
                    Some(answer) if answer.ttl <= 0 => {
                        Err(Status::new(Code::NotFound, "the lease is gone"))
                    }
                    Some(_) => Ok(Response::new(sent)),
                }
            })
            .await
    }

    /// Keeps it alive until that fails; says why.
    pub(crate) async fn keep_alive(&self, members: &Members) -> String {
        let mut last = self.asked;
        let (third, safe) = (self.ttl / 3, self.ttl - self.ttl / 10);
        loop {
            let end = Uptime(last.0 + safe);
            let next = Uptime(last.0 + third);
            if let Some(late) = wait_until(next, end).await {
                return silent(late);
            }
            let left = end.0.saturating_sub(Uptime::now().0);
            let renewed = tokio::select! {
                renewed = self.renew(members, Instant::now() + left) => renewed,
                late = over(end) => return silent(late),
            };
            match renewed {
                Ok(sent) => last = last.max(sent),
                Err(AskError::Refused { status, .. }) if status.code() == Code::NotFound => {
                    return "the lease is gone".to_owned();
                }
                Err(AskError::Refused { endpoint, status }) => {
                    return format!("{endpoint} refused to keep the lease alive: {status}");
                }
                Err(AskError::Unanswered { last }) => {
                    return format!("no keep-alive was answered in time: {last}");
                }
            }
        }
    }

    /// Ends it, and with it the key.
    pub(crate) async fn revoke(&self, members: &Members) -> Result<(), AskError> {
        Lease::revoke_of(self.id, members).await
    }

    /// Ends the lease of this id, if it still lives.
    pub(crate) async fn revoke_of(id: i64, members: &Members) -> Result<(), AskError> {
        let each = Some(Duration::from_secs(2));
        let revoked = members.ask(each, None, async |channel| {
            LeaseClient::new(channel).lease_revoke(LeaseRevokeRequest { id }).await
        });
        match revoked.await {
            Err(AskError::Refused { status, .. }) if status.code() == Code::NotFound => Ok(()),
            revoked => revoked.map(|_| ()),
        }
    }
}

/// Waits until `next`; how late it is if that turns out to be after `end`.
async fn wait_until(next: Uptime, end: Uptime) -> Option<Duration> {
    loop {
        let now = Uptime::now();
        if now >= end {
            return Some(now.0 - end.0);
        }
        if now >= next {
            return None;
        }
        tokio::time::sleep(TICK.min(next.0 - now.0)).await;
    }
}

/// Waits until the end; how late it is by then.
async fn over(end: Uptime) -> Duration {
    wait_until(end, end).await.unwrap_or_default()
}

fn silent(late: Duration) -> String {
    format!("no keep-alive was answered in time, and the lease may have ended ({late:.1?} late)")
}

/// An id that nobody else has drawn. Range: positive.
fn drawn_id() -> i64 {
    let random = RandomState::new().build_hasher().finish();
    ((random >> 1) as i64).max(1)
}
