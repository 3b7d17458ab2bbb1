//! What the invariants cost: one cluster of three in one thread, with and without them.
//!
//! Three members replicate commands of 256 bytes over a network and disks that cost nothing, so
//! that only the protocol and its driver are seen. Each round runs both ways; the medians and their
//! ratio are printed. See `docs/adr/0008-assertions-stay-on.md`.
//!
//! `cargo bench -p quorate-protocols --bench raft_throughput`

use bytes::Bytes;
use quorate_core::{Context, Effect, Gate, NodeId, Protocol, Release, Time};
use quorate_protocols::consensus::raft::{
    Config, Configuration, Indication, Message, Raft, Request, Timer,
};
use std::collections::VecDeque;
use std::time::Instant;

const COMMANDS_PER_ROUND: usize = 200_000;
/// A busy member handles many requests per batch, an idle one a single request.
const COMMANDS_PER_BATCH: [usize; 2] = [64, 1];
const ENTRIES_KEPT: u64 = 10_000;
const ROUNDS: usize = 9;

/// Whether a driver calls `invariants()` after each batch.
#[derive(Clone, Copy)]
enum Invariants {
    Checked,
    Unchecked,
}

struct Seat {
    id: NodeId,
    raft: Raft,
    gate: Gate<Message>,
    inbox: VecDeque<(NodeId, Message)>,
    committed: usize,
}

struct Cluster {
    seats: Vec<Seat>,
    effects: Vec<Effect<Raft>>,
    invariants: Invariants,
}

impl Cluster {
    fn new(invariants: Invariants) -> Cluster {
        let members = [NodeId(1), NodeId(2), NodeId(3)];
        let seats = members.map(|id| Seat {
            id,
            raft: Raft::restore(
                &Config::new(id, Configuration::of(members)),
                &mut std::iter::empty(),
            ),
            gate: Gate::default(),
            inbox: VecDeque::new(),
            committed: 0,
        });
        let mut cluster = Cluster { seats: seats.into(), effects: Vec::new(), invariants };
        for at in 0..cluster.seats.len() {
            cluster.batch(at, |raft, cx| raft.on_start(cx));
        }
        cluster.batch(0, |raft, cx| raft.on_timer(Timer::Election, cx));
        cluster.settle();
        cluster
    }

    /// One batch of events of one member, everything carried out, its disk synced.
    fn batch(&mut self, at: usize, events: impl FnOnce(&mut Raft, &mut Context<'_, Raft>)) {
        let seat = &mut self.seats[at];
        let mut choose = |_| 0;
        let mut cx = Context::new(seat.id, Time::default(), &mut choose, &mut self.effects);
        events(&mut seat.raft, &mut cx);
        seat.raft.on_flush(&mut cx);
        if let Invariants::Checked = self.invariants {
            seat.raft.invariants();
        }
        let mut leaving = Vec::new();
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send { to, message, release: Release::Immediately } => {
                    leaving.push((to, message));
                }
                Effect::Send { to, message, release: Release::OnceDurable } => {
                    leaving.extend(seat.gate.admit(to, message));
                }
                Effect::Write { .. } => {
                    seat.gate.wrote();
                }
                Effect::Indicate { indication: Indication::Committed { entries } } => {
                    seat.committed += entries.len();
                }
                Effect::Indicate { .. } | Effect::SetTimer { .. } | Effect::CancelTimer { .. } => {}
            }
        }
        let written = seat.gate.written();
        leaving.extend(seat.gate.synced(written));
        let from = seat.id;
        for (to, message) in leaving {
            let to = self.seats.iter_mut().find(|seat| seat.id == to).expect("a member");
            to.inbox.push_back((from, message));
        }
    }

    /// Delivers until all is quiet; what waits at one member is one batch.
    fn settle(&mut self) {
        while let Some(at) = self.seats.iter().position(|seat| !seat.inbox.is_empty()) {
            let inbox = std::mem::take(&mut self.seats[at].inbox);
            self.batch(at, |raft, cx| {
                inbox.into_iter().for_each(|(from, message)| raft.on_message(from, message, cx));
            });
        }
    }
}

/// Commands per second.
fn round(invariants: Invariants, per_batch: usize) -> f64 {
    let mut cluster = Cluster::new(invariants);
    let command = Bytes::from_static(&[7; 256]);
    let before = cluster.seats[0].committed;
    let began = Instant::now();
    for _ in 0..COMMANDS_PER_ROUND / per_batch {
        cluster.batch(0, |raft, cx| {
            for _ in 0..per_batch {
                raft.on_request(Request::Propose { command: command.clone() }, cx);
            }
        });
        cluster.settle();
        for at in 0..cluster.seats.len() {
            let upto = cluster.seats[at].raft.commit_index();
            if upto.distance_from(cluster.seats[at].raft.base().index) > ENTRIES_KEPT {
                cluster.batch(at, |raft, cx| raft.on_request(Request::Compact { upto }, cx));
            }
        }
    }
    let elapsed = began.elapsed();
    let committed = cluster.seats[0].committed - before;
    assert!(committed + per_batch > COMMANDS_PER_ROUND, "only {committed} committed");
    committed as f64 / elapsed.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "a measurement is printed")]
fn main() {
    for per_batch in COMMANDS_PER_BATCH {
        let (mut checked, mut unchecked) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            checked.push(round(Invariants::Checked, per_batch));
            unchecked.push(round(Invariants::Unchecked, per_batch));
        }
        let (checked, unchecked) = (median(checked), median(unchecked));
        println!("{per_batch} commands per batch");
        println!("  with invariants  {checked:10.0} commands/s");
        println!("  without          {unchecked:10.0} commands/s  x{:.3}", unchecked / checked);
    }
}
