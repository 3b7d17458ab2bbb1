//! Makes a history of a store with revisions, and checks it by its revisions: how long, how large?
//!
//! `cargo run --release -p quorate-check --example millions -- [OPERATIONS]`

use quorate_check::history::{ClientId, History, OpId, Outcome, Recorder};
use quorate_check::models::map::{Blob, Compare, Relation, Request, Response, Span, Store, Target};
use quorate_check::witness::{self, Change, REVISION_EMPTY, Seen, Sessions, Verdict};
use std::io::Write;
use std::time::Instant;

const CLIENTS: usize = 64;
const KEYS: u64 = 100_000;

/// Vigna's splitmix64: a seed, and always the same history.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ (word >> 31)) % bound
    }
}

/// A client's question, and its answer once the store has given it.
struct Flight {
    id: OpId,
    answer: Option<(Response, u64)>,
    changes: Vec<Change>,
}

struct World {
    random: Random,
    keys: Vec<Blob>,
    store: Store,
    revision: u64,
    recorder: Recorder<Request, Response>,
    /// What a watcher was told of revisions whose answers were lost.
    seen: Seen,
}

impl World {
    fn ask(&mut self) -> Request {
        let at = self.random.below(KEYS) as usize;
        let key = self.keys[at].clone();
        let value = format!("value-{}", self.random.below(u64::MAX)).as_str().into();
        match self.random.below(100) {
            0..=49 => {
                Request::Range { key, span: Span::One, revision: 0, limit: 0, serializable: false }
            }
            50..=54 => {
                let end = self.keys[(at + 8).min(KEYS as usize - 1)].clone();
                let span = Span::Until(end);
                Request::Range { key, span, revision: 0, limit: 4, serializable: false }
            }
            55..=84 => Request::Put { key, value, lease: 0 },
            85..=89 => Request::Delete { key, span: Span::One },
            _ => {
                let version = self.store.pair(&key).map_or(0, |pair| pair.version);
                let (span, target) = (Span::One, Target::Version(version));
                let relation = Relation::Equal;
                let compare = Compare { key: key.clone(), span: span.clone(), target, relation };
                let put = Request::Put { key: key.clone(), value, lease: 0 };
                let get = Request::Range { key, span, revision: 0, limit: 0, serializable: false };
                Request::Txn { compares: vec![compare], success: vec![put], failure: vec![get] }
            }
        }
    }

    fn turn(&mut self, client: usize, flight: &mut Option<Flight>) {
        let Some(Flight { id, answer, changes }) = flight.take() else {
            let input = self.ask();
            let id = self.recorder.invoke(ClientId(client as u64), input);
            *flight = Some(Flight { id, answer: None, changes: Vec::new() });
            return;
        };
        let is_lost = self.random.below(1000) == 0;
        match answer {
            _ if is_lost => {
                self.recorder.returned(id, Outcome::Unknown);
                if let (Some((_, revision)), false) = (answer, changes.is_empty()) {
                    self.seen.insert(revision, changes);
                }
            }
            Some((response, revision)) => {
                self.recorder.returned_at(id, Outcome::Ok(response), revision);
            }
            None => {
                let input = self.recorder.operations()[id.0].input.clone();
                let (response, effect) = self.store.apply(&input, self.revision + 1);
                self.revision += u64::from(effect.is_write());
                let change = |key: &Blob| match self.store.pair(key) {
                    Some(pair) => Change::Put(pair),
                    None => Change::Delete(key.clone()),
                };
                let changes = effect.keys().map(change).collect();
                *flight = Some(Flight { id, answer: Some((response, self.revision)), changes });
            }
        }
    }
}

fn generate(operations: usize) -> (History<Request, Response>, Seen) {
    let keys = (0..KEYS).map(|number| format!("key-{number:06}").as_str().into()).collect();
    let mut world = World {
        random: Random(4),
        keys,
        store: Store::default(),
        revision: REVISION_EMPTY,
        recorder: Recorder::new(),
        seen: Seen::new(),
    };
    let mut flights: Vec<Option<Flight>> = (0..CLIENTS).map(|_| None).collect();
    while world.recorder.operations().len() < operations {
        let client = world.random.below(CLIENTS as u64) as usize;
        let mut flight = flights[client].take();
        world.turn(client, &mut flight);
        flights[client] = flight;
    }
    (world.recorder.history(), world.seen)
}

/// The most memory that this process ever held.
fn peak() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or("unknown".to_owned(), |line| line.trim().to_owned())
}

/// Processor time of this thread so far. Unit: seconds. Beside other work, wall time says little.
fn processor() -> f64 {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = line.split(' ').next().and_then(|word| word.parse::<u64>().ok());
    nanos.map_or(f64::NAN, |nanos| nanos as f64 / 1e9)
}

fn main() -> std::io::Result<()> {
    let mut out = std::io::stdout();
    let wanted = std::env::args().nth(1).and_then(|word| word.parse().ok());
    let begin = Instant::now();
    let (history, seen) = generate(wanted.unwrap_or(10_000_000));
    let made = begin.elapsed().as_secs_f64();
    writeln!(out, "made     {} operations in {made:.1} s, peak {}", history.len(), peak())?;
    let (begin, busy) = (Instant::now(), processor());
    let report = witness::check(&history, &seen, Sessions::Monotone);
    let (took, busy) = (begin.elapsed().as_secs_f64(), processor() - busy);
    let (writes, reads, gaps) = (report.writes, report.reads, report.gaps);
    let word = match &report.verdict {
        Verdict::Holds => "holds".to_owned(),
        Verdict::Violated(breach) => format!("violated: {breach}"),
        Verdict::Undecided { revision, why } => format!("undecided at {revision}: {why}"),
    };
    writeln!(out, "checked  in {took:.1} s, {busy:.1} s of processor, peak {}", peak())?;
    writeln!(out, "{word}; {writes} writes, {reads} reads, {gaps} writes that nobody acknowledged")
}
