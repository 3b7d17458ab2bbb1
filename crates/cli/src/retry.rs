//! Asking again: what may be, when, and how often at most.
//!
//! **Problem.** Whoever is refused and asks again at once makes more of what was too much already:
//! a cluster that was overloaded for a second stays so for as long as its clients insist. And a
//! write whose outcome is unknown may take effect twice.
//!
//! **Idea.** Asked again is only what certainly has not happened, or may happen twice without harm:
//! reads, and writes with a name. Before each attempt there is a pause, longer each time and partly
//! random, and never shorter than the member asks for. And all requests of a process share a
//! *budget*: each pays a tenth of a retry in, each retry takes a whole one out.
//!
//! **Guarantee.** Of n requests and their retries together at most 1.1 n + [`AT_ONCE`] leave this
//! process, however long everything is down. To connect to another member where nothing was sent
//! yet is no retry.
//!
//! Sources: Google SRE Book (2016), chapter 22, "retry budgets"; gRPC proposal A6, "Client Retries"
//! (throttling, pushback); Brooker, "Exponential Backoff and Jitter" (2015), full jitter.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tonic::{Code, Status};

/// What a retry costs. Unit: parts of a retry.
const RETRY: u64 = 1_000;

/// What each request pays in: a tenth.
const PAID_IN: u64 = RETRY / 10;

/// Retries that may be saved up.
const SAVED_MAX: u64 = 10;

/// Retries that may come before anything was paid in.
pub(crate) const AT_ONCE: u64 = 1;

/// The first pause is at most this, each further one at most twice the one before,
const PAUSE_FIRST: Duration = Duration::from_millis(50);

/// and none longer than this, unless a member asks for it.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A member may ask for no longer pause.
const PUSHBACK_MAX: Duration = Duration::from_secs(60);

/// When a member wants to be asked again. Source: gRPC proposal A6.
const PUSHBACK: &str = "grpc-retry-pushback-ms";

/// What a member that refuses for want of room says; the request has not happened.
const TOO_MANY: &str = "etcdserver: too many requests";

/// What a member that is unavailable says before it has done anything.
pub(crate) const DEFINITE: [&str; 3] = [
    "etcdserver: no leader",
    "etcdserver: unhealthy cluster",
    "quorate: this member is a witness, which keeps no data; ask another one",
];

/// The retries that a process has left.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Budget {
        Budget(AtomicU64::new(AT_ONCE * RETRY))
    }
}

impl Budget {
    /// A request that is no retry is asked.
    pub(crate) fn pay_in(&self) {
        let add = |left: u64| Some((left + PAID_IN).min(SAVED_MAX * RETRY));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes a retry, if there is one.
    #[must_use]
    pub(crate) fn take(&self) -> bool {
        let take = |left: u64| left.checked_sub(RETRY);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// Pauses that grow.
#[derive(Debug)]
pub(crate) struct Backoff {
    most: Duration,
    max: Duration,
    random: u64,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::up_to(PAUSE_MAX)
    }
}

impl Backoff {
    /// None longer than `max`.
    pub(crate) fn up_to(max: Duration) -> Backoff {
        // Two processes must not pause alike; what they draw decides nothing else.
        let random = RandomState::new().build_hasher().finish() | 1;
        Backoff { most: PAUSE_FIRST, max, random }
    }

    /// After this refusal.
    pub(crate) fn next(&mut self, status: &Status) -> Duration {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let drawn = self.most.mul_f64((self.random >> 11) as f64 / (1_u64 << 53) as f64);
        self.most = (self.most * 2).min(self.max);
        pushback(status).map_or(drawn, |wanted| wanted + drawn)
    }
}

/// How long a member wants not to be asked.
pub(crate) fn pushback(status: &Status) -> Option<Duration> {
    let ms: u64 = status.metadata().get(PUSHBACK)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(ms).min(PUSHBACK_MAX))
}

/// True if the request certainly has not happened, and may happen if it is asked again.
pub(crate) fn passes(status: &Status) -> bool {
    match status.code() {
        Code::ResourceExhausted => status.message() == TOO_MANY,
        Code::Unavailable => DEFINITE.contains(&status.message()),
        _ => false,
    }
}

/// True if who asks for nothing new may ask again: the member, or the way to it, failed.
pub(crate) fn is_of_the_way(status: &Status) -> bool {
    passes(status) || status.code() == Code::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::AsciiMetadataValue;

    /// A client that asks `requests` times and again whenever it may; how often that is together.
    fn insist(requests: u64, is_down: impl Fn(u64) -> bool) -> u64 {
        let (budget, mut asked) = (Budget::default(), 0);
        for _ in 0..requests {
            budget.pay_in();
            loop {
                asked += 1;
                if !is_down(asked) || !budget.take() {
                    break;
                }
            }
        }
        asked
    }

    #[test]
    fn a_cluster_that_is_down_is_asked_a_tenth_more() {
        for requests in [1, 10, 1_000, 100_000] {
            let asked = insist(requests, |_| true);
            assert!(asked <= requests + requests / 10 + AT_ONCE, "{requests} became {asked}");
        }
    }

    #[test]
    fn a_short_failure_is_made_up_for_by_what_was_saved() {
        // After a thousand good ones ten fail in a row.
        let asked = insist(2_000, |number| (1_000..1_010).contains(&number));
        assert_eq!(asked, 2_010);
    }

    #[test]
    fn pauses_grow_are_random_and_obey() {
        let refused = Status::resource_exhausted(TOO_MANY);
        let mut backoff = Backoff::up_to(Duration::from_millis(400));
        let bounds = [50, 100, 200, 400, 400, 400];
        for bound in bounds {
            assert!(backoff.next(&refused) <= Duration::from_millis(bound));
        }
        let mut pauses: Vec<Duration> = (0..100).map(|_| backoff.next(&refused)).collect();
        pauses.dedup();
        assert!(pauses.len() > 90, "they are drawn");
        let mut pushed = refused.clone();
        pushed.metadata_mut().insert(PUSHBACK, AsciiMetadataValue::from_static("700"));
        let pause = backoff.next(&pushed);
        assert!((700..=1_100).contains(&pause.as_millis()), "{pause:?}");
        pushed.metadata_mut().insert(PUSHBACK, AsciiMetadataValue::from_static("-1"));
        assert_eq!(pushback(&pushed), None);
    }

    #[test]
    fn only_what_has_not_happened_is_asked_again() {
        let cases = [
            (Status::resource_exhausted(TOO_MANY), true, true),
            (Status::resource_exhausted("etcdserver: mvcc: database space exceeded"), false, false),
            (Status::unavailable("etcdserver: no leader"), true, true),
            (Status::unavailable("etcdserver: request timed out"), false, true),
            (Status::unavailable("transport error"), false, true),
            (Status::deadline_exceeded("no answer in time"), false, false),
            (Status::invalid_argument("etcdserver: key is not provided"), false, false),
        ];
        for (status, definite, read) in cases {
            assert_eq!((passes(&status), is_of_the_way(&status)), (definite, read), "{status}");
        }
    }
}
