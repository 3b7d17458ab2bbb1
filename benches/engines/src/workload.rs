//! The same puts and reads for every candidate, from a fixed seed.

use crate::engine::{Background, Engine, KeyValue};
use crate::measure::Meter;
use bytes::Bytes;

/// Puts per commit: what a loaded server gathers while one batch is applied.
pub const BATCH: usize = 64;

/// A compaction follows so many puts, and keeps so many versions of history.
const COMPACT_EVERY: usize = 100_000;

/// Incompressible bytes that the values are cut from.
const POOL_BYTES: usize = 4 << 20;

/// A prime that visits the keys out of order.
const STRIDE: usize = 618_041;

struct Values {
    pool: Vec<u8>,
    state: u64,
    len: usize,
}

impl Values {
    fn new(len: usize) -> Values {
        let mut state = 1;
        let pool = (0..POOL_BYTES / 8).flat_map(|_| next(&mut state).to_le_bytes()).collect();
        Values { pool, state, len }
    }

    fn value(&mut self) -> Bytes {
        let at = next(&mut self.state) as usize % (self.pool.len() - self.len);
        Bytes::copy_from_slice(&self.pool[at..at + self.len])
    }
}

/// Sebastiano Vigna's splitmix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn key(number: usize) -> Bytes {
    let key = format!("/registry/pods/ns-{:03}/pod-{:08}", number % 100, number / 100);
    Bytes::from(key.into_bytes().into_boxed_slice())
}

fn key_at(position: usize, keys: usize) -> Bytes {
    key((position * STRIDE) % keys)
}

/// Writes every key once, out of order.
pub fn load<E: Engine>(engine: &mut E, keys: usize, value: usize) {
    assert!(!keys.is_multiple_of(STRIDE), "the stride must visit every key");
    let mut values = Values::new(value);
    let mut meter = Meter::start();
    for first in (0..keys).step_by(BATCH) {
        let numbers = first..(first + BATCH).min(keys);
        let batch: Vec<_> =
            meter.aside(|| numbers.map(|at| (key_at(at, keys), values.value())).collect());
        meter.step(|| {
            engine.put_batch(&batch);
            engine.upkeep() == Background::Busy
        });
        meter.aside(|| drop(batch));
    }
    meter.report("load", keys);
}

/// Writes a few keys again and again while old versions are compacted away.
pub fn overwrite<E: Engine>(engine: &mut E, keys: usize, hot: usize, puts: usize, value: usize) {
    let mut values = Values::new(value);
    let mut meter = Meter::start();
    let (mut horizon, mut since) = (0, 0);
    for _ in 0..puts / BATCH {
        let batch: Vec<_> = meter.aside(|| {
            let mut pick = || next(&mut values.state) as usize % hot;
            let picks: Vec<usize> = (0..BATCH).map(|_| pick()).collect();
            picks.into_iter().map(|at| (key_at(at, keys), values.value())).collect()
        });
        since += BATCH;
        if since >= COMPACT_EVERY {
            (horizon, since) = (engine.revision().saturating_sub(COMPACT_EVERY as u64), 0);
        }
        meter.step(|| {
            engine.put_batch(&batch);
            let removed = engine.compact_step(horizon);
            engine.upkeep() == Background::Busy || removed > 0
        });
        meter.aside(|| drop(batch));
    }
    meter.report("overwrite", puts / BATCH * BATCH);
    let last = engine.revision();
    while engine.compact_step(last) > 0 {}
}

/// Reads keys at random; a step is a batch of them, so that the clock does not weigh in.
pub fn get<E: Engine>(engine: &mut E, phase: &str, keys: usize, count: usize) {
    let mut state = 7;
    let mut meter = Meter::start();
    let mut sum = 0;
    let rounds = count / BATCH;
    for _ in 0..rounds {
        let mut pick = || key(next(&mut state) as usize % keys);
        let picked: Vec<_> = meter.aside(|| (0..BATCH).map(|_| pick()).collect());
        meter.step(|| {
            for key in &picked {
                let found = engine.get(key, &mut |kv| sum += touch(kv));
                assert!(found, "every key was loaded");
            }
            false
        });
        meter.aside(|| drop(picked));
    }
    meter.report(phase, rounds * BATCH);
    assert!(sum > 0, "values are not all zero");
}

/// Reads runs of a thousand keys from random starts.
pub fn range<E: Engine>(engine: &mut E, keys: usize, count: usize) {
    let mut state = 8;
    let mut meter = Meter::start();
    let mut sum = 0;
    for _ in 0..count {
        let key = meter.aside(|| key(next(&mut state) as usize % (keys / 2)));
        meter.step(|| {
            engine.range(&key, 1_000, &mut |kv| sum += touch(kv));
            false
        });
    }
    meter.report("range", count);
    assert!(sum > 0, "values are not all zero");
}

/// Reads the value as an answer would.
fn touch(kv: &KeyValue) -> u64 {
    kv.value.iter().map(|&byte| u64::from(byte)).sum::<u64>() + kv.modified
}
