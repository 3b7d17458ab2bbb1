//! Writes at fixed times, whatever the answers do, and when they were acknowledged.

use crate::client::{self, Endpoint};
use quorate_server::proto::etcdserverpb::PutRequest;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::url::Url;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tonic::transport::Channel;

/// A write that is not answered by then is given up.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Writes under way; beyond that the loop is no longer open, and none begins.
const UNDER_WAY_MAX: usize = 20_000;
/// Keys that are written in turn.
const KEYS: u64 = 1_000;
/// So many acknowledgements after a blow mean that somebody serves again.
const SERVED: usize = 20;

/// Writes under way.
pub(super) struct Load {
    channels: Vec<Option<Channel>>,
    every: Duration,
    begun: u64,
    under_way: JoinSet<()>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
}

/// A write that was acknowledged.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    begun: Instant,
    at: Instant,
}

impl Load {
    /// So many writes per second, at all endpoints in turn.
    pub(super) fn begin(endpoints: &[Url], writes_per_second: u64) -> Load {
        Load {
            channels: endpoints
                .iter()
                .map(|url| Some(client::channel(&Endpoint::of(url.clone(), None))))
                .collect(),
            every: Duration::from_secs(1) / u32::try_from(writes_per_second).unwrap_or(u32::MAX),
            begun: 0,
            under_way: JoinSet::new(),
            acknowledged: Arc::default(),
        }
    }

    /// Nothing is asked of this member any more.
    pub(super) fn leave_out(&mut self, member: usize) {
        self.channels[member] = None;
    }

    /// Goes on for so long.
    pub(super) async fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        self.run(|_| Instant::now() >= end).await;
    }

    /// Goes on until writes are acknowledged that began after `struck`. False if that takes longer
    /// than `at_most`.
    pub(super) async fn run_until_served(&mut self, struck: Instant, at_most: Duration) -> bool {
        let is_served = |load: &Load| load.since(struck + load.every) >= SERVED;
        self.run(|load| is_served(load) || struck.elapsed() > at_most).await;
        is_served(self)
    }

    /// How many were acknowledged so far.
    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits for what is under way. Answers with the longest time between two acknowledgements
    /// around `struck`.
    pub(super) async fn end(mut self, struck: Instant) -> Duration {
        self.under_way.abort_all();
        while self.under_way.join_next().await.is_some() {}
        let mut acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.sort_unstable_by_key(|write| write.at);
        let around = acknowledged.partition_point(|write| write.at < struck).saturating_sub(1);
        let gaps = acknowledged[around..].windows(2).map(|pair| pair[1].at - pair[0].at);
        gaps.max().unwrap_or_default()
    }

    fn since(&self, moment: Instant) -> usize {
        let acknowledged = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.iter().rev().take(SERVED).filter(|write| write.begun > moment).count()
    }

    async fn run(&mut self, is_over: impl Fn(&Load) -> bool) {
        let mut clock = tokio::time::interval(self.every);
        clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !is_over(self) {
            clock.tick().await;
            while self.under_way.try_join_next().is_some() {}
            if self.under_way.len() < UNDER_WAY_MAX {
                self.write();
            }
        }
    }

    fn write(&mut self) {
        let number = self.begun;
        self.begun += 1;
        let Some(channel) = &self.channels[(number % self.channels.len() as u64) as usize] else {
            return;
        };
        let key = format!("failover/{}", number % KEYS).into();
        let value = number.to_string().into();
        let mut client = KvClient::new(channel.clone());
        let acknowledged = Arc::clone(&self.acknowledged);
        self.under_way.spawn(async move {
            let put = client.put(PutRequest { key, value, ..PutRequest::default() });
            let begun = Instant::now();
            if let Ok(Ok(_)) = tokio::time::timeout(ANSWER_WITHIN, put).await {
                let write = Acknowledged { begun, at: Instant::now() };
                acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(write);
            }
        });
    }
}
