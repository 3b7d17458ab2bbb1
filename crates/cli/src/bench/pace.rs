//! When a client begins its next operation, and from when its latency counts.
//!
//! *Closed loop*: when the one before is answered. A server that pauses is asked less meanwhile,
//! so its pause is seen by as many operations as there are clients, and no more.
//!
//! *Open loop*: at times that were fixed before. Whatever keeps a client from being on time is the
//! server's doing, so latency counts from the time that was intended: every operation that a pause
//! delays shows it. (One exception: timers have a grain. A client that was free at the time and
//! was woken a little late has not been kept by the server.)
//!
//! Source: Tene: How not to measure latency, 2013 ("coordinated omission"); wrk2.

use std::time::{Duration, Instant};

/// Lateness of a free client which is its timer's: the grain is a millisecond, and the wake-up
/// takes its time on a busy machine.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// How a client paces itself.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// As fast as it is answered.
    Closed,
    /// At fixed times.
    Open {
        /// When the next operation should begin.
        next: Instant,
        /// Time between two.
        interval: Duration,
    },
}

impl Pace {
    /// The pace of client `index` of `clients`, which together begin `rate` operations a second;
    /// without a rate as fast as they are answered.
    pub(super) fn new(rate: Option<f64>, index: usize, clients: usize, begin: Instant) -> Pace {
        let Some(rate) = rate else { return Pace::Closed };
        let interval = Duration::from_secs_f64(clients as f64 / rate);
        Pace::Open { next: begin + interval.mul_f64(index as f64 / clients as f64), interval }
    }

    /// Waits until the next operation may begin, and tells from when its latency counts; `None`
    /// if that time is not before `end`.
    pub(super) async fn wait(&mut self, end: Instant) -> Option<Instant> {
        let now = Instant::now();
        let Pace::Open { next, interval } = self else { return (now < end).then_some(now) };
        let intended = *next;
        if intended >= end {
            return None;
        }
        *next += *interval;
        if now >= intended {
            return Some(intended);
        }
        tokio::time::sleep_until(intended.into()).await;
        let woken = Instant::now();
        Some(if woken - intended <= TIMER_GRAIN { woken } else { intended })
    }

    /// Operations that should have begun before `end` and did not.
    pub(super) fn missed(&self, end: Instant) -> u64 {
        match self {
            Pace::Open { next, interval } if *next < end => {
                1 + ((end - *next).as_nanos() / interval.as_nanos().max(1)) as u64
            }
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_late_client_counts_from_the_intended_time() {
        let begin = Instant::now();
        let mut pace = Pace::new(Some(100.0), 0, 1, begin);
        let end = begin + Duration::from_millis(45);
        assert!(pace.wait(end).await.expect("the first") - begin < Duration::from_millis(10));
        // The server keeps the client for 40 ms: three operations were due meanwhile.
        std::thread::sleep(Duration::from_millis(40));
        for due in [10, 20, 30] {
            assert_eq!(pace.wait(end).await, Some(begin + Duration::from_millis(due)));
        }
        assert_eq!(pace.missed(end), 1);
        assert_eq!(pace.wait(end).await, Some(begin + Duration::from_millis(40)));
        assert_eq!(pace.wait(end).await, None);
        assert_eq!(pace.missed(end), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn clients_share_the_rate() {
        let begin = Instant::now();
        let next = |index| match Pace::new(Some(1_000.0), index, 4, begin) {
            Pace::Open { next, interval } => (next - begin, interval),
            Pace::Closed => panic!("a rate was given"),
        };
        let ms = Duration::from_millis;
        assert_eq!(
            (0..4).map(next).collect::<Vec<_>>(),
            [(ms(0), ms(4)), (ms(1), ms(4)), (ms(2), ms(4)), (ms(3), ms(4))]
        );
    }
}
