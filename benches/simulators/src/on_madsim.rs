//! The programs on madsim: one node for each, its raw endpoints, which were the fastest of its
//! ways to send a datagram.

use crate::work::{BEAT, BEGIN, DELAY_MAX, DELAY_MIN, NODES, WINDOW, Work, peers};
use madsim::net::Endpoint;
use madsim::runtime::Runtime;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const TAG: u64 = 1;

fn address(node: usize) -> SocketAddr {
    (IpAddr::V4(Ipv4Addr::new(10, 0, 0, node as u8 + 1)), 9_000).into()
}

async fn program(work: Work, node: usize, delivered: Arc<AtomicU64>) {
    let endpoint = Arc::new(Endpoint::bind(address(node)).await.expect("a free port"));
    madsim::time::sleep(BEGIN).await;
    let to: Vec<SocketAddr> = peers(node).map(address).collect();
    match work {
        Work::Flood => {
            for peer in &to {
                for _ in 0..WINDOW {
                    let sent = endpoint.send_to_raw(*peer, TAG, Box::new(0_u64)).await;
                    sent.expect("the network is reliable");
                }
            }
        }
        Work::Heartbeat => {
            let endpoint = Arc::clone(&endpoint);
            madsim::task::spawn(async move {
                loop {
                    for peer in &to {
                        let sent = endpoint.send_to_raw(*peer, TAG, Box::new(1_u64)).await;
                        sent.expect("the network is reliable");
                    }
                    madsim::time::sleep(BEAT).await;
                }
            });
        }
    }
    loop {
        let received = endpoint.recv_from_raw(TAG).await;
        let (payload, from) = received.expect("the endpoint stays open");
        delivered.fetch_add(1, Ordering::Relaxed);
        if work == Work::Flood {
            let payload = *payload.downcast::<u64>().expect("a number was sent") + 1;
            let sent = endpoint.send_to_raw(from, TAG, Box::new(payload)).await;
            sent.expect("the network is reliable");
        }
    }
}

/// See [`crate::work::Candidate::run`].
pub fn run(work: Work, seed: u64, simulated: Duration) -> u64 {
    let mut config = madsim::Config::default();
    config.net.send_latency = DELAY_MIN..DELAY_MAX;
    let runtime = Runtime::with_seed_and_config(seed, config);
    let delivered = Arc::new(AtomicU64::new(0));
    for node in 0..NODES {
        let built = runtime.create_node().name(format!("n{node}")).ip(address(node).ip()).build();
        built.spawn(program(work, node, Arc::clone(&delivered)));
    }
    runtime.block_on(async { madsim::time::sleep(simulated).await });
    delivered.load(Ordering::Relaxed)
}
