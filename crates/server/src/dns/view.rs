//! The instances of a name, in one state of the store.

use super::answer::{Instance, View};
use super::leases::Leases;
use crate::naming::{Directory, Record, Standing, range_end};
use quorate_replica::store::{Keys, Range, Store};
use std::cell::RefCell;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// Instances of a name that are looked at; of more, the first ones by their keys.
const INSTANCES_MAX: u64 = 1_000;
/// Names that are looked through for one below another; if there are more, there may be one.
const NAMES_MAX: usize = 256;
/// Leases of one answer about which the leader is asked.
const WANTED_MAX: usize = 16;

/// One state of the store, and what is known of the leases in it.
pub(super) struct StoreView<'a> {
    pub(super) store: &'a Store,
    pub(super) directory: &'a Directory,
    pub(super) leases: &'a Leases,
    /// Nobody needs to know of more seconds than these.
    pub(super) enough: u32,
    pub(super) now: Instant,
    /// Leases that the leader should be asked about.
    pub(super) wanted: RefCell<BTreeSet<i64>>,
}

impl StoreView<'_> {
    fn left(&self, lease: i64) -> Option<u32> {
        if lease == 0 {
            return None;
        }
        let (left, should_ask) = self.leases.left(lease, self.enough, self.now);
        let mut wanted = self.wanted.borrow_mut();
        if should_ask && wanted.len() < WANTED_MAX {
            wanted.insert(lease);
        }
        Some(left)
    }

    fn range(&self, begin: Vec<u8>, prefix: &str, limit: u64) -> Range {
        let keys = Keys { key: begin.into(), range_end: range_end(prefix).into() };
        Range { keys, limit, ..Range::default() }
    }

    /// Whether somebody may be registered below a name, as `db.eu` is below `eu`. Walks from name
    /// to name, past their instances.
    fn is_above(&self, name: &str) -> bool {
        let (prefix, below) = (self.directory.prefix(), format!(".{name}"));
        let mut begin = prefix.as_bytes().to_vec();
        for _ in 0..NAMES_MAX {
            let Ok(found) = self.store.range(&self.range(begin, prefix, 1)) else { return true };
            let Some(kv) = found.kvs.first() else { return false };
            let key = std::str::from_utf8(&kv.key).ok();
            begin = match key.and_then(|key| self.directory.read(key)) {
                Some((found, _, _)) if found.ends_with(&below) => return true,
                Some((found, standing, _)) => {
                    let keys = self.directory.keys_of(found, standing);
                    range_end(&keys)
                }
                None => [&kv.key[..], b"\0"].concat(),
            };
        }
        true
    }
}

impl View for StoreView<'_> {
    fn revision(&self) -> u64 {
        self.store.revision().0
    }

    fn instances(&self, name: &str) -> Vec<Instance> {
        let prefix = self.directory.keys_of(name, Standing::Healthy);
        let range = self.range(prefix.clone().into_bytes(), &prefix, INSTANCES_MAX);
        let Ok(found) = self.store.range(&range) else { return Vec::new() };
        let instance = |kv: &std::sync::Arc<quorate_replica::store::KeyValue>| {
            let record = Record::parse(&kv.value)?;
            let (place, terms) = (record.place()?, record.terms());
            Some(Instance { place, terms, left: self.left(kv.lease) })
        };
        found.kvs.iter().filter_map(instance).collect()
    }

    fn may_exist(&self, name: &str) -> bool {
        let is_there = |standing| {
            let prefix = self.directory.keys_of(name, standing);
            let range = self.range(prefix.clone().into_bytes(), &prefix, 1);
            self.store.range(&range).is_ok_and(|found| !found.kvs.is_empty())
        };
        is_there(Standing::Healthy) || is_there(Standing::Withdrawn) || self.is_above(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naming::Terms;
    use quorate_replica::store::{Command, Put};
    use serde_json::Value;

    fn store(keys: &[(&str, &str)]) -> Store {
        let mut store = Store::new();
        for (key, value) in keys {
            let (key, value) = (key.as_bytes().to_vec(), value.as_bytes().to_vec());
            let put = Put { key: key.into(), value: value.into(), ..Put::default() };
            let applied = store.apply(&Command::Put(put));
            assert!(applied.outcome.is_ok());
        }
        store
    }

    fn with<T>(store: &Store, test: impl FnOnce(&StoreView<'_>) -> T) -> T {
        let (directory, leases) = (Directory::at("names/"), Leases::new());
        let view = StoreView {
            store,
            directory: &directory,
            leases: &leases,
            enough: 5,
            now: Instant::now(),
            wanted: RefCell::default(),
        };
        test(&view)
    }

    #[test]
    fn instances_are_those_of_the_name_that_can_be_read() {
        let record = Record::new("10.0.0.1:80".into(), Value::Null, Terms::default());
        let ours = String::from_utf8(record.to_value()).expect("text");
        let store = store(&[
            ("names/web/10.0.0.1:80", &ours),
            ("names/web/b", r#"{"Op":0,"Addr":"b:80","Metadata":null}"#),
            ("names/web/c", "something else"),
            ("names/web/d", r#"{"Op":0,"Addr":"unix:/d","Metadata":null}"#),
            ("names/web2/e", &ours),
            ("names/.withdrawn/ill/f", &ours),
        ]);
        with(&store, |view| {
            let places = |name| -> Vec<String> {
                view.instances(name).iter().map(|it| it.place.to_string()).collect()
            };
            assert_eq!(places("web"), ["10.0.0.1:80", "b:80"]);
            assert_eq!(places("we"), [""; 0]);
            assert_eq!(places("ill"), [""; 0]);
            assert!(view.may_exist("ill") && view.may_exist("web") && !view.may_exist("we"));
            assert!(view.instances("web").iter().all(|it| it.left.is_none()), "without a lease");
        });
    }

    #[test]
    fn a_name_above_another_one_may_exist() {
        let store = store(&[("names/a/x", ""), ("names/b/x", ""), ("names/db.eu/x", "")]);
        with(&store, |view| {
            assert!(view.may_exist("eu"));
            assert!(!view.may_exist("u") && !view.may_exist("db"));
        });
        let many: Vec<String> = (0..NAMES_MAX).map(|i| format!("names/n{i}/x")).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "")).collect();
        let store = self::store(&many);
        with(&store, |view| assert!(view.may_exist("nobody"), "it cannot be ruled out"));
    }
}
