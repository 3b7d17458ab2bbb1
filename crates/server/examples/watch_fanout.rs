//! How many events a second a member tells its watchers, and what one costs it.
//!
//! ```console
//! $ cargo run --release -p quorate-server --example watch_fanout -- --streams 100 --watchers 10 \
//!     quorate=http://127.0.0.1:2379=PID etcd=http://127.0.0.1:3379=PID
//! ```
//!
//! Ten connections; all watchers watch the keys that the writers write, so every put is told to all
//! of them. Works with every server that speaks etcd's API; rounds are interleaved. Every watcher
//! checks that the revisions it is told ascend by one.

use bytes::Bytes;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};

/// Connections that the streams are spread over.
const CONNECTIONS: usize = 10;
/// Bytes of a value.
const VALUE_BYTES: usize = 256;
/// Clock ticks of the kernel in a second, in which processor time is told.
const TICKS: f64 = 100.0;

struct Requests(mpsc::Receiver<pb::WatchRequest>);

impl Stream for Requests {
    type Item = pb::WatchRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

struct Target {
    name: String,
    url: String,
    pid: String,
    rates: Vec<f64>,
    micros: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Load {
    streams: usize,
    watchers: usize,
    writers: usize,
    seconds: u64,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let mut load = Load { streams: 100, watchers: 10, writers: 8, seconds: 5 };
    let (mut rounds, mut targets) = (3, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number =
            || words.next().and_then(|n| n.parse::<usize>().ok()).ok_or("a number is missing");
        match word.as_str() {
            "--streams" => load.streams = number()?,
            "--watchers" => load.watchers = number()?,
            "--writers" => load.writers = number()?,
            "--seconds" => load.seconds = number()? as u64,
            "--rounds" => rounds = number()?,
            _ => {
                let mut parts = word.split('=').map(str::to_owned);
                let mut part = || parts.next().ok_or("NAME=URL=PID");
                let (name, url, pid) = (part()?, part()?, part()?);
                targets.push(Target { name, url, pid, rates: Vec::new(), micros: Vec::new() });
            }
        }
    }
    for _ in 0..rounds {
        for target in &mut targets {
            round(target, load).await?;
        }
    }
    for target in &mut targets {
        #[expect(clippy::print_stdout, reason = "an example talks to a person")]
        {
            let (rate, micros) = (median(&mut target.rates), median(&mut target.micros));
            let name = &target.name;
            println!("{name:<10} {rate:>9.0} events/s   {micros:.2} us of server CPU per event");
        }
    }
    Ok(())
}

async fn round(target: &mut Target, load: Load) -> Result<(), Failure> {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels
            .push(Endpoint::from_shared(target.url.clone())?.tcp_nodelay(true).connect().await?);
    }
    let (told, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (ready, mut readies) = mpsc::channel(load.streams);
    let mut readers = Vec::new();
    for stream in 0..load.streams {
        let channel = channels[stream % CONNECTIONS].clone();
        let (told, over, ready) = (Arc::clone(&told), Arc::clone(&over), ready.clone());
        readers.push(tokio::spawn(async move {
            read(channel, load.watchers, &told, &over, ready).await
        }));
    }
    for _ in 0..load.streams {
        readies.recv().await.ok_or("a stream failed")?;
    }
    let writers: Vec<_> = (0..load.writers)
        .map(|writer| {
            tokio::spawn(write(channels[writer % CONNECTIONS].clone(), Arc::clone(&over)))
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, first, cpu) =
        (Instant::now(), told.load(Ordering::Relaxed), cpu_ticks(&target.pid)?);
    tokio::time::sleep(Duration::from_secs(load.seconds)).await;
    let events = (told.load(Ordering::Relaxed) - first) as f64;
    target.rates.push(events / began.elapsed().as_secs_f64());
    target.micros.push((cpu_ticks(&target.pid)? - cpu) / TICKS * 1e6 / events);
    over.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await??;
    }
    for reader in readers {
        reader.abort();
        if let Ok(outcome) = reader.await {
            outcome?;
        }
    }
    Ok(())
}

async fn read(
    channel: Channel,
    watchers: usize,
    told: &AtomicU64,
    over: &AtomicBool,
    ready: mpsc::Sender<()>,
) -> Result<(), Failure> {
    let (requests, receiver) = mpsc::channel(watchers);
    for _ in 0..watchers {
        let create = pb::WatchCreateRequest {
            key: Bytes::from_static(b"key/"),
            range_end: Bytes::from_static(b"key0"),
            ..Default::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        requests.send(pb::WatchRequest { request_union }).await?;
    }
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut answers = client.watch(Requests(receiver)).await?.into_inner();
    let (mut created, mut last) = (0, vec![0; watchers]);
    while let Some(answer) = answers.message().await? {
        created += usize::from(answer.created);
        if answer.created && created == watchers {
            ready.send(()).await?;
        }
        for event in &answer.events {
            let revision = event.kv.as_ref().ok_or("an event without a pair")?.mod_revision;
            let last = &mut last[usize::try_from(answer.watch_id)?];
            if *last != 0 && revision != *last + 1 {
                return Err(format!("told {revision} after {last}").into());
            }
            *last = revision;
        }
        told.fetch_add(answer.events.len() as u64, Ordering::Relaxed);
        if over.load(Ordering::Relaxed) {
            break;
        }
    }
    drop(requests);
    Ok(())
}

async fn write(channel: Channel, over: Arc<AtomicBool>) -> Result<(), tonic::Status> {
    let mut client = KvClient::new(channel);
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let mut number = 0u64;
    while !over.load(Ordering::Relaxed) {
        number += 1;
        let key = Bytes::from(format!("key/{:04}", number % 1_000));
        let value = value.clone();
        client.put(pb::PutRequest { key, value, ..Default::default() }).await?;
    }
    Ok(())
}

/// Processor time of a process so far, its own and the kernel's for it.
fn cpu_ticks(pid: &str) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    Ok(fields[11].parse::<f64>()? + fields[12].parse::<f64>()?)
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(0.0)
}
