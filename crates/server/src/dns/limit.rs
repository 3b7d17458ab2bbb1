//! How much one source may ask: a datagram may lie about who sent it, and the answer then hits
//! somebody else.
//!
//! Sources are networks, for one who lies may say any address of a network. Each has so many
//! answers in a second. Of what is beyond, every second query is answered by "ask over TCP", which
//! is no longer than the question and which a true client can do; the others are dropped.
//!
//! **Bounds.** [`BUCKETS`] counters, which sources share by the hash of their network: with a key
//! that nobody knows, so that nobody can be shut out on purpose. This machine itself is not
//! limited.
//!
//! Source: Vixie and Schryver, "Response Rate Limiting" (2012), which calls the second kind "slip".

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

/// Counters, shared by all sources.
const BUCKETS: usize = 4_096;

/// What becomes of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It is answered.
    Answer,
    /// It is sent to TCP.
    Slip,
    /// It is dropped.
    Drop,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    second: u64,
    count: u32,
}

/// The counters of all sources.
#[derive(Debug)]
pub(super) struct Limiter {
    rate: u32,
    buckets: Vec<Bucket>,
    key: RandomState,
}

impl Limiter {
    /// So many answers in a second; 0 is no limit.
    pub(super) fn new(rate: u32) -> Limiter {
        Limiter { rate, buckets: vec![Bucket::default(); BUCKETS], key: RandomState::new() }
    }

    /// Counts a query that came in this second.
    pub(super) fn judge(&mut self, source: IpAddr, second: u64) -> Verdict {
        if self.rate == 0 || source.to_canonical().is_loopback() {
            return Verdict::Answer;
        }
        let at = self.key.hash_one(network(source)) % BUCKETS as u64;
        let bucket = &mut self.buckets[at as usize];
        if bucket.second != second {
            *bucket = Bucket { second, count: 0 };
        }
        bucket.count = bucket.count.saturating_add(1);
        match bucket.count.saturating_sub(self.rate) {
            0 => Verdict::Answer,
            beyond if beyond % 2 == 1 => Verdict::Slip,
            _ => Verdict::Drop,
        }
    }
}

/// The network of an address: /24, or /56.
fn network(source: IpAddr) -> u64 {
    match source.to_canonical() {
        IpAddr::V4(ip) => u64::from(u32::from(ip) >> 8),
        IpAddr::V6(ip) => (u128::from(ip) >> 72) as u64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Answer, Drop, Slip};

    #[test]
    fn a_network_has_so_many_answers_in_a_second() {
        let mut limiter = Limiter::new(2);
        let mut ask = |ip: [u8; 4], second| limiter.judge(ip.into(), second);
        let found: Vec<_> = (0..6).map(|i| ask([192, 0, 2, i], 7)).collect();
        assert_eq!(found, [Answer, Answer, Slip, Drop, Slip, Drop]);
        assert_eq!(ask([192, 0, 2, 1], 8), Answer, "another second");
        for _ in 0..9 {
            assert_eq!(ask([127, 0, 0, 1], 7), Answer, "this machine");
        }
        let mut open = Limiter::new(0);
        assert!((0..9).all(|_| open.judge([192, 0, 2, 1].into(), 7) == Answer));
    }

    #[test]
    fn networks_are_told_apart() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("192.0.2.1"), of("192.0.2.255"));
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.9"));
        assert_ne!(of("192.0.2.1"), of("192.0.3.1"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:ff::1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:100::1"));
    }
}
