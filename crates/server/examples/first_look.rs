//! A first look at write throughput: closed-loop puts against any etcd v3 endpoints.
//!
//! ```text
//! cargo run --release -p quorate-server --example first_look -- \
//!     --clients 64 --seconds 5 --rounds 3 quorate=http://127.0.0.1:2379,http://127.0.0.1:2389 \
//!     etcd=http://127.0.0.1:12379
//! ```
//!
//! The clusters are measured in turn, round by round, so that a noisy machine is equally noisy to
//! all of them; only the ratio within one run means anything. The proper load generator is a
//! command of its own; this example is what was there before it.

use quorate_server::proto::etcdserverpb::PutRequest;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tonic::transport::{Channel, Endpoint};

/// Connections, spread over the endpoints.
const CONNECTIONS: usize = 10;
/// Bytes of each value.
const VALUE_BYTES: usize = 256;
/// Keys written to.
const KEYS: u64 = 100_000;

struct Target {
    name: String,
    channels: Vec<Channel>,
    rates: Vec<f64>,
    latencies: Vec<Duration>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut clients, mut seconds, mut rounds) = (64, 5, 3);
    let mut targets = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or("a number");
        match word.as_str() {
            "--clients" => clients = number()?,
            "--seconds" => seconds = number()?,
            "--rounds" => rounds = number()?,
            _ => targets.push(connect(&word).await?),
        }
    }
    for _ in 0..rounds {
        for target in &mut targets {
            round(target, clients, Duration::from_secs(seconds as u64)).await?;
        }
    }
    let baseline = targets.last().map(|target| median(&target.rates)).ok_or("no target")?;
    for target in &mut targets {
        target.latencies.sort_unstable();
        let at = |share: f64| target.latencies[(target.latencies.len() as f64 * share) as usize];
        let rate = median(&target.rates);
        #[expect(clippy::print_stdout, reason = "an example talks to a person")]
        {
            println!(
                "{:<10} {rate:>9.0} puts/s   p50 {:>8.2?}  p99 {:>8.2?}   x{:.2} of the last",
                target.name,
                at(0.50),
                at(0.99),
                rate / baseline
            );
        }
    }
    Ok(())
}

async fn connect(word: &str) -> Result<Target, Box<dyn std::error::Error>> {
    let (name, urls) = word.split_once('=').ok_or("NAME=URL[,URL...]")?;
    let urls: Vec<&str> = urls.split(',').collect();
    let mut channels = Vec::new();
    for index in 0..CONNECTIONS {
        let endpoint = Endpoint::from_shared(urls[index % urls.len()].to_owned())?;
        channels.push(endpoint.tcp_nodelay(true).connect().await?);
    }
    Ok(Target { name: name.to_owned(), channels, rates: Vec::new(), latencies: Vec::new() })
}

async fn round(
    target: &mut Target,
    clients: usize,
    length: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let next = Arc::new(AtomicU64::new(0));
    let began = Instant::now();
    let writer = |index: usize| {
        let channel = target.channels[index % target.channels.len()].clone();
        tokio::spawn(write_until(began + length, channel, Arc::clone(&next)))
    };
    let writers: Vec<_> = (0..clients).map(writer).collect();
    let mut done = 0;
    for writer in writers {
        let latencies = writer.await??;
        done += latencies.len();
        target.latencies.extend(latencies);
    }
    target.rates.push(done as f64 / began.elapsed().as_secs_f64());
    Ok(())
}

async fn write_until(
    end: Instant,
    channel: Channel,
    next: Arc<AtomicU64>,
) -> Result<Vec<Duration>, tonic::Status> {
    let mut client = KvClient::new(channel);
    let value = bytes::Bytes::from(vec![b'v'; VALUE_BYTES]);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let number = next.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9) % KEYS;
        let key = format!("key/{number:08}").into_bytes().into();
        let request = PutRequest { key, value: value.clone(), ..PutRequest::default() };
        let asked = Instant::now();
        client.put(request).await?;
        latencies.push(asked.elapsed());
    }
    Ok(latencies)
}

fn median(rates: &[f64]) -> f64 {
    let mut sorted = rates.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}
