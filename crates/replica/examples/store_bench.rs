//! Measures the store: `cargo run --release -p quorate-replica --example store_bench [part]`.
//!
//! The parts are `few`, `many`, `range`, `checkpoint` and `history`; all if none is named. Memory
//! is measured honestly only by one part in a fresh process. Times are those on the processor,
//! so that a busy machine does not count. Linux only, for both.

#![allow(clippy::print_stdout, reason = "this is what the program is for")]

use bytes::Bytes;
use quorate_replica::store::{Command, Keys, Put, Range, Revision, Store};
use std::hint::black_box;
use std::time::Duration;

const VALUE_BYTES: usize = 256;
const MILLION: u64 = 1_000_000;

fn main() {
    let part = std::env::args().nth(1).unwrap_or_default();
    let wanted = |name: &str| part.is_empty() || part == name;
    if wanted("few") {
        puts_on_few_keys();
    }
    if ["many", "range", "checkpoint"].into_iter().any(wanted) {
        let store = fill();
        if wanted("many") {
            overwrite(&store);
        }
        if wanted("range") {
            ranges(&store);
        }
        if wanted("checkpoint") {
            checkpoint(&store);
        }
    }
    if wanted("history") {
        history();
    }
}

/// A key of 20 bytes; numbers are scattered so that neighbours in time are none in order.
fn key(number: u64) -> Bytes {
    Bytes::from(format!("registry/{:011}", number.wrapping_mul(2_654_435_761) % 99_999_999_977))
}

fn put(number: u64, value: &Bytes) -> Command {
    Command::Put(Put { key: key(number), value: value.clone(), ..Put::default() })
}

fn value() -> Bytes {
    Bytes::from(vec![7; VALUE_BYTES])
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number of pages") * 4_096
}

/// Time this thread has spent on the processor.
#[derive(Clone, Copy)]
struct Instant(u64);

impl Instant {
    fn now() -> Instant {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        let spent = stat.split(' ').next().and_then(|spent| spent.parse().ok());
        Instant(spent.expect("a number of nanoseconds"))
    }

    fn elapsed(self) -> Duration {
        Duration::from_nanos(Instant::now().0 - self.0)
    }
}

fn rate(what: &str, count: u64, took: Duration) {
    let each = took.as_nanos() / u128::from(count);
    println!("{what:<44} {:>10.0} /s  {each:>7} ns", count as f64 / took.as_secs_f64());
}

/// Commands are made beforehand: only the store is measured.
fn apply_all(what: &str, store: &mut Store, commands: &[Command]) {
    let start = Instant::now();
    for command in commands {
        black_box(store.apply(command));
    }
    rate(what, commands.len() as u64, start.elapsed());
}

fn puts_on_few_keys() {
    let value = value();
    let commands: Vec<_> = (0..500_000).map(|n| put(n * 7_919 % 10_000, &value)).collect();
    let mut store = Store::new();
    apply_all("puts on 10 k keys", &mut store, &commands);
    // What a service does: compact now and then, sweep a little after each batch.
    let mut store = Store::new();
    let start = Instant::now();
    for (n, command) in commands.iter().enumerate() {
        black_box(store.apply(command));
        if n % 10_000 == 9_999 {
            let revision = Revision(store.revision().0 - 1_000);
            black_box(store.apply(&Command::Compact { revision }));
        }
        if n % 64 == 0 {
            store.sweep(128);
        }
    }
    rate("  with compaction and sweeps", commands.len() as u64, start.elapsed());
}

fn fill() -> Store {
    let value = value();
    let before = resident();
    let mut store = Store::new();
    let start = Instant::now();
    for n in 0..MILLION {
        store.apply(&put(n, &value));
    }
    rate("puts of 1 M new keys (making them included)", MILLION, start.elapsed());
    let used = resident() - before;
    println!("{:<44} {:>10} bytes", "resident per key at 1 M keys", used / MILLION);
    println!("{:<44} {:>10} bytes", "accounted per key", store.bytes_in_use() / MILLION);
    store
}

fn overwrite(store: &Store) {
    let value = value();
    let commands: Vec<_> = (0..300_000).map(|n| put(n * 7_919 % MILLION, &value)).collect();
    let mut copy = store.clone();
    // The first pass copies the shared nodes, the second finds them copied.
    apply_all("puts on 1 M keys, first after a snapshot", &mut copy, &commands);
    apply_all("puts on 1 M keys, no snapshot", &mut copy, &commands);
    let start = Instant::now();
    let mut held = copy.clone();
    for (n, command) in commands.iter().enumerate() {
        black_box(copy.apply(command));
        if n % 100 == 0 {
            held = copy.clone();
        }
    }
    rate("  with a snapshot every 100 puts", commands.len() as u64, start.elapsed());
    drop(held);
}

fn ranges(store: &Store) {
    let all = Bytes::from_static(b"\0");
    let keys = Keys { key: Bytes::from_static(b"registry/5"), range_end: all };
    let range = Range { keys, limit: 1_000, ..Range::default() };
    let time = |what: &str, range: &Range, rounds: u32| {
        let start = Instant::now();
        for _ in 0..rounds {
            black_box(store.range(range).expect("a revision that can be read"));
        }
        rate(what, u64::from(rounds), start.elapsed());
    };
    time("range of 1,000 of 500 k, with count", &range, 2_000);
    let past = Range { revision: Revision(store.revision().0 - 1), ..range.clone() };
    time("  at the revision before", &past, 5);
    time("count of 500 k", &Range { count_only: true, ..range.clone() }, 100_000);
    let one = Keys { key: key(77), range_end: Bytes::new() };
    time("range of one key", &Range { keys: one, ..Range::default() }, 300_000);
    let start = Instant::now();
    black_box(store.hash_kv(Revision(0)).expect("the latest revision"));
    rate("hash of all pairs", MILLION, start.elapsed());
}

fn checkpoint(store: &Store) {
    let mut saved = Vec::with_capacity(400 << 20);
    let start = Instant::now();
    store.save(&mut saved).expect("memory does not fail");
    rate("save of 1 M keys with history", MILLION, start.elapsed());
    println!("{:<44} {:>10} bytes", "saved per key", saved.len() as u64 / MILLION);
    let start = Instant::now();
    let loaded = Store::load(&mut &saved[..]).expect("it was just saved");
    rate("load of 1 M keys with history", MILLION, start.elapsed());
    assert_eq!(loaded.digest(), store.digest(), "a checkpoint keeps the digest");
    let mut compacted = store.clone();
    let revision = compacted.revision();
    black_box(compacted.apply(&Command::Compact { revision }));
    let start = Instant::now();
    let mut slices = 1;
    let mut longest = Duration::ZERO;
    let mut slice = Instant::now();
    while !compacted.sweep(1_000) {
        longest = longest.max(slice.elapsed());
        slice = Instant::now();
        slices += 1;
    }
    rate("sweep of 1 M events in slices of 1,000", MILLION, start.elapsed());
    println!("{:<44} {:>10} us in {slices} slices", "  longest slice", longest.as_micros());
    saved.clear();
    compacted.save(&mut saved).expect("memory does not fail");
    let start = Instant::now();
    black_box(Store::load(&mut &saved[..]).expect("it was just saved"));
    rate("load of 1 M keys, compacted", MILLION, start.elapsed());
}

/// Many versions of few keys: what a version costs beside its pair.
fn history() {
    let value = value();
    let before = resident();
    let mut store = Store::new();
    for n in 0..MILLION {
        store.apply(&put(n % 1_000, &value));
    }
    let used = resident().saturating_sub(before);
    println!("{:<44} {:>10} bytes", "resident per version, 1,000 of 1 k keys", used / MILLION);
}
