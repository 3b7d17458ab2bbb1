//! Ageing a cluster: a mix that leaves history, holes, leases and dead versions behind.
//!
//! | share | operation |
//! |---|---|
//! | 45 % | put |
//! | 10 % | delete of a key |
//! | 5 % | delete of up to ten neighbours |
//! | 15 % | compare-and-swap, or creation where there is none |
//! | 5 % | grant of a lease of 5 to 60 seconds, and a key that dies with it |
//! | 10 % | range of up to a hundred keys |
//! | 10 % | get |
//!
//! Keys come and go here, so a missing key proves nothing; what is there is verified all the same.

use super::work::{Client, Done, Failed, swap_of};
use quorate_server::proto::etcdserverpb::{DeleteRangeRequest, LeaseGrantRequest, RangeRequest};
use std::time::Instant;

impl Client {
    /// One operation of the mix.
    pub(super) async fn age(&mut self) -> Result<Done, Failed> {
        match self.random.below(100) {
            0..45 => self.write(0, 0, Instant::now()).await.map(|_| Done::Fully),
            45..55 => self.delete(1).await,
            55..60 => self.delete(10).await,
            60..75 => self.swap_or_create().await,
            75..80 => {
                let ttl = 5 + self.random.below(56) as i64;
                let request = LeaseGrantRequest { ttl, id: 0 };
                let lease = self.link().lease.lease_grant(request).await?.into_inner();
                self.write(0, lease.id, Instant::now()).await.map(|_| Done::Fully)
            }
            80..90 => self.look(100).await,
            _ => self.look(1).await,
        }
    }

    async fn delete(&mut self, span: u64) -> Result<Done, Failed> {
        let (key, range_end) = self.neighbours(span);
        let floor = self.ledger.floor();
        let request = DeleteRangeRequest { key, range_end, ..DeleteRangeRequest::default() };
        let answer = self.link().kv.delete_range(request).await?.into_inner();
        if answer.deleted == 0 {
            self.ledger.fresh(floor, answer.header.as_ref())?;
        } else {
            self.ledger.written(floor, answer.header.as_ref())?;
        }
        Ok(Done::Fully)
    }

    async fn swap_or_create(&mut self) -> Result<Done, Failed> {
        let number = self.any_key();
        let known = self.ledger.known(number);
        let stamp = self.stamp(number, 0, Instant::now());
        let (value, checksum) = stamp.encode(&self.filling);
        let key = self.ledger.space.key(number);
        let floor = self.ledger.floor();
        let request = swap_of(key, known.revision, value);
        let answer = self.link().kv.txn(request).await?.into_inner();
        if answer.succeeded {
            self.ledger.acknowledged(floor, answer.header.as_ref(), &stamp, checksum)?;
            return Ok(Done::Fully);
        }
        self.ledger.fresh(floor, answer.header.as_ref())?;
        Ok(Done::Conflict)
    }

    async fn look(&mut self, span: u64) -> Result<Done, Failed> {
        let (key, range_end) = self.neighbours(span);
        let floor = self.ledger.floor();
        let request = RangeRequest { key, range_end, ..RangeRequest::default() };
        let answer = self.link().kv.range(request).await?.into_inner();
        let at = self.ledger.fresh(floor, answer.header.as_ref())?;
        for pair in &answer.kvs {
            let number = self.ledger.space.number(&pair.key).unwrap_or(u64::MAX);
            self.ledger.seen(number, pair, at)?;
        }
        Ok(Done::Fully)
    }

    fn neighbours(&mut self, span: u64) -> (bytes::Bytes, bytes::Bytes) {
        let first = self.any_key();
        let space = &self.ledger.space;
        (space.key(first), space.key((first + span).min(space.keys)))
    }
}
