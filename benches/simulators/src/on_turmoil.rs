//! The programs on turmoil: one host for each node, its simulated UDP, its default tick of 1 ms.

use crate::work::{BEAT, BEGIN, DELAY_MAX, DELAY_MIN, NODES, WINDOW, Work, peers};
use std::cell::Cell;
use std::error::Error;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use turmoil::net::UdpSocket;

const PORT: u16 = 9_000;
/// More than ever wait for one socket: its default would lose some of the flood.
const SOCKET_MAX: usize = 4_096;

type Outcome = Result<(), Box<dyn Error>>;

fn name(node: usize) -> String {
    format!("n{node}")
}

async fn program(work: Work, node: usize, delivered: Rc<Cell<u64>>) -> Outcome {
    let socket = Rc::new(UdpSocket::bind(("0.0.0.0", PORT)).await?);
    tokio::time::sleep(BEGIN).await;
    let to: Vec<SocketAddr> =
        peers(node).map(|peer| (turmoil::lookup(name(peer)), PORT).into()).collect();
    match work {
        Work::Flood => {
            for peer in &to {
                for _ in 0..WINDOW {
                    socket.send_to(&0_u64.to_le_bytes(), *peer).await?;
                }
            }
        }
        Work::Heartbeat => {
            let socket = Rc::clone(&socket);
            tokio::task::spawn_local(async move {
                loop {
                    for peer in &to {
                        let sent = socket.send_to(&1_u64.to_le_bytes(), *peer).await;
                        sent.expect("the network is reliable");
                    }
                    tokio::time::sleep(BEAT).await;
                }
            });
        }
    }
    let mut buffer = [0; 8];
    loop {
        let (_, from) = socket.recv_from(&mut buffer).await?;
        delivered.set(delivered.get() + 1);
        if work == Work::Flood {
            let payload = u64::from_le_bytes(buffer) + 1;
            socket.send_to(&payload.to_le_bytes(), from).await?;
        }
    }
}

/// See [`crate::work::Candidate::run`].
pub fn run(work: Work, seed: u64, simulated: Duration) -> u64 {
    let delivered = Rc::new(Cell::new(0));
    let mut simulator = turmoil::Builder::new()
        .simulation_duration(simulated + Duration::from_secs(1))
        .min_message_latency(DELAY_MIN)
        .max_message_latency(DELAY_MAX)
        .udp_capacity(SOCKET_MAX)
        .rng_seed(seed)
        .build();
    for node in 0..NODES {
        let delivered = Rc::clone(&delivered);
        simulator.host(name(node), move || program(work, node, Rc::clone(&delivered)));
    }
    while simulator.elapsed() < simulated {
        simulator.step().expect("no host fails");
    }
    delivered.get()
}
