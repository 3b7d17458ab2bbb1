//! Who takes the space: key prefixes by the bytes of their versions.
//!
//! **Problem.** "The database is full" helps nobody who does not know what fills it. Adding up
//! every key takes as long as the store is large, and the prefixes may be as many as the keys.
//!
//! **Idea.** A systematic sample: every n-th key of the living and of the dead ones stands for its
//! n - 1 successors, and so does every n-th version of a key. Where the sample is the whole, the
//! answer is exact; else a prefix that takes a share of p is off by about its share of
//! 1/sqrt(p * samples). A prefix is what stands before the name in paths: up to the last `/` of the
//! first [`PREFIX_PARTS`] parts, or for other keys what stands before the first digit.
//!
//! **Bounds.** [`SAMPLES_MAX`] keys in each tree, [`VERSIONS_MAX`] versions of one of them, and
//! [`PREFIXES_MAX`] prefixes; what comes beyond these is counted to none.

use super::Store;
use super::versions::Versions;
use super::write::weight;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Keys looked at in each of the two trees.
const SAMPLES_MAX: usize = 16_384;
/// Versions of one key that are looked at.
const VERSIONS_MAX: usize = 16;
/// Prefixes that are told apart.
const PREFIXES_MAX: usize = 4_096;
/// Parts of a path that make its prefix.
const PREFIX_PARTS: usize = 2;
/// A prefix is cut to so many bytes.
const PREFIX_BYTES_MAX: usize = 64;

/// Keys with a common beginning.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Consumer {
    /// Their common beginning.
    pub prefix: Bytes,
    /// What they take of [`Store::bytes_in_use`], about. Unit: bytes.
    pub bytes: u64,
}

impl Store {
    /// The prefixes that take most, largest first, at most `most`. Bounded work; see above.
    pub fn consumers(&self, most: usize) -> Vec<Consumer> {
        let mut sums = BTreeMap::new();
        let stride = self.live.len().div_ceil(SAMPLES_MAX).max(1);
        for at in (0..self.live.len()).step_by(stride) {
            let (key, living) = self.live.nth(at).expect("a rank below the length");
            let bytes = weight(&living.kv) + living.past.as_ref().map_or(0, bytes_of);
            add(&mut sums, key.as_slice(), bytes * stride as u64);
        }
        let stride = self.graves.len().div_ceil(SAMPLES_MAX).max(1);
        for at in (0..self.graves.len()).step_by(stride) {
            let (key, versions) = self.graves.nth(at).expect("a rank below the length");
            add(&mut sums, key.as_slice(), bytes_of(versions) * stride as u64);
        }
        let mut all: Vec<Consumer> = sums
            .into_iter()
            .map(|(prefix, bytes)| Consumer { prefix: Bytes::copy_from_slice(prefix), bytes })
            .collect();
        all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.prefix.cmp(&b.prefix)));
        all.truncate(most);
        all
    }
}

/// What the past of a key takes, about.
fn bytes_of(versions: &Versions) -> u64 {
    let count = versions.len();
    let step = count.div_ceil(VERSIONS_MAX).max(1);
    let ranks = (0..count).step_by(step);
    let kvs = ranks.map(|rank| versions.nth(rank).expect("a rank below the length"));
    kvs.map(|kv| weight(kv) * step as u64).sum()
}

fn add<'a>(sums: &mut BTreeMap<&'a [u8], u64>, key: &'a [u8], bytes: u64) {
    let prefix = prefix_of(key);
    if sums.len() < PREFIXES_MAX || sums.contains_key(prefix) {
        *sums.entry(prefix).or_default() += bytes;
    }
}

/// The part of a key that it shares with its kind.
fn prefix_of(key: &[u8]) -> &[u8] {
    let body = usize::from(key.first() == Some(&b'/'));
    let slashes = key.iter().enumerate().skip(body).filter(|(_, byte)| **byte == b'/');
    let path = slashes.take(PREFIX_PARTS).last().map(|(at, _)| at + 1);
    let name = || key.iter().position(u8::is_ascii_digit).unwrap_or(key.len());
    &key[..path.unwrap_or_else(name).min(PREFIX_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Command, Put};

    fn put(store: &mut Store, key: String, bytes: usize) {
        let value = Bytes::from(vec![b'v'; bytes]);
        store.apply(&Command::Put(Put { key: key.into(), value, ..Put::default() }));
    }

    fn named(consumers: &[Consumer]) -> Vec<(&str, u64)> {
        let text = |prefix| std::str::from_utf8(prefix).expect("text");
        consumers.iter().map(|consumer| (text(&consumer.prefix), consumer.bytes)).collect()
    }

    #[test]
    fn the_prefix_is_what_keys_of_a_kind_share() {
        let cases = [
            ("/registry/pods/ns/name", "/registry/pods/"),
            ("registry/pods/ns", "registry/pods/"),
            ("/lone", "/lone"),
            ("a/1", "a/"),
            ("key-0001", "key-"),
            ("word", "word"),
            ("17", ""),
        ];
        for (key, prefix) in cases {
            assert_eq!(prefix_of(key.as_bytes()), prefix.as_bytes(), "{key}");
        }
        assert_eq!(prefix_of(&[b'x'; 500]).len(), PREFIX_BYTES_MAX);
    }

    #[test]
    fn a_small_store_is_added_up_exactly_with_its_history() {
        let mut store = Store::new();
        for n in 0..10 {
            put(&mut store, format!("/registry/pods/{n}"), 1_000);
            put(&mut store, "leases/one".to_owned(), 4_000);
        }
        put(&mut store, "config".to_owned(), 10);
        let all = store.consumers(9);
        let sum: u64 = all.iter().map(|consumer| consumer.bytes).sum();
        assert_eq!(sum, store.bytes_in_use());
        let [first, second, ..] = named(&all)[..] else { panic!("three consumers") };
        assert_eq!(first.0, "leases/", "old versions count");
        assert_eq!(second.0, "/registry/pods/");
        assert_eq!(store.consumers(1).len(), 1);
    }

    #[test]
    fn a_large_store_is_sampled() {
        let mut store = Store::new();
        for n in 0..60_000 {
            put(&mut store, format!("many/{n:06}"), 100);
            if n % 4 == 0 {
                put(&mut store, format!("some/{n:06}"), 100);
            }
        }
        let consumers = store.consumers(2);
        let [many, some] = named(&consumers)[..] else { panic!("two consumers") };
        assert_eq!((many.0, some.0), ("many/", "some/"));
        let (share, whole) = (many.1 * 100 / (many.1 + some.1), store.bytes_in_use());
        assert!((79..=81).contains(&share), "{share} % instead of 80 %");
        assert!((many.1 + some.1).abs_diff(whole) < whole / 50, "the sum is about the whole");
    }
}
