//! Sequential objects: what one copy of each thing answers, asked one thing at a time.
//!
//! | model | file | operations | parts |
//! |---|---|---|---|
//! | register, CAS register | `register.rs` | read, write, compare-and-set | one |
//! | append-kv | `kv.rs` | get, put, append | one per key |
//! | queue | `queue.rs` | enqueue, dequeue | one |
//! | set | `set.rs` | add, remove, contains, read | one per element without reads of all |
//! | lock | `lock.rs` | acquire, release, with fencing tokens | one per lock |
//! | map | `map.rs` | etcd's put, delete, range, transaction | keys that no operation connects |
//!
//! `keyed.rs` puts many objects of one kind under keys. Each is a value without state of its own;
//! [`crate::linear`] asks it.

pub mod keyed;
pub mod kv;
pub mod lock;
pub mod map;
pub mod queue;
pub mod register;
pub mod set;
mod value;

pub use value::Value;

use std::collections::BTreeMap;

/// Numbers keys in the order of their first appearance: the parts of an object whose operations
/// concern one key each.
pub(crate) fn number_keys<K: Ord>(keys: impl Iterator<Item = K>) -> Vec<usize> {
    let mut numbers = BTreeMap::new();
    keys.map(|key| {
        let next = numbers.len();
        *numbers.entry(key).or_insert(next)
    })
    .collect()
}
