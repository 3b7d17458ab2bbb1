//! An acknowledged write is in the final state, or was overwritten by a later revision.
//!
//! Of each key the newest acknowledged write is kept. In the end the key must show exactly that
//! revision, or a later one; and if it is gone, somebody must have been able to delete it after.
//!
//! *Bounds.* One entry per key that was ever written.

use super::Broken;
use crate::models::map::{Blob, Pair, Span};
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
struct Newest {
    revision: u64,
    /// `None`: it was deleted.
    value: Option<Blob>,
}

/// What was acknowledged, and what may have happened.
#[derive(Clone, Debug, Default)]
pub struct Durability {
    acknowledged: BTreeMap<Blob, Newest>,
    may_delete: Vec<(Blob, Span)>,
}

impl Durability {
    /// A put was acknowledged with this revision.
    pub fn on_put(&mut self, key: &Blob, value: &Blob, revision: u64) {
        self.on_write(key, revision, Some(value.clone()));
    }

    /// A deletion of this key was acknowledged with this revision.
    pub fn on_deleted(&mut self, key: &Blob, revision: u64) {
        self.on_write(key, revision, None);
    }

    /// A deletion of these keys may take effect at any time: its outcome is unknown, or they hang
    /// on a lease that may end.
    pub fn on_may_delete(&mut self, key: Blob, span: Span) {
        if !self.may_delete.contains(&(key.clone(), span.clone())) {
            self.may_delete.push((key, span));
        }
    }

    fn on_write(&mut self, key: &Blob, revision: u64, value: Option<Blob>) {
        let is_newer = self.acknowledged.get(key).is_none_or(|known| known.revision < revision);
        if is_newer {
            self.acknowledged.insert(key.clone(), Newest { revision, value });
        }
    }

    /// The final state, read at `revision`, after everything has healed.
    ///
    /// # Errors
    ///
    /// The first key of which an acknowledged write is neither there nor overwritten.
    pub fn on_final(&self, pairs: &[Pair], revision: u64) -> Result<(), Broken> {
        let there: BTreeMap<&Blob, &Pair> = pairs.iter().map(|pair| (&pair.key, pair)).collect();
        for (key, newest) in &self.acknowledged {
            let lost = |story: String| Err(Broken::new("durability", story));
            let at = newest.revision;
            if revision < at {
                return lost(format!("the final revision {revision} is before {at} of {key}"));
            }
            match (there.get(key), &newest.value) {
                (Some(pair), _) if pair.modified > at => {}
                (Some(pair), Some(value)) if pair.modified == at && pair.value == *value => {}
                (None, None) => {}
                (None, Some(_)) if self.may_be_deleted(key) => {}
                (Some(pair), _) => {
                    let (found, modified) = (&pair.value, pair.modified);
                    return lost(format!(
                        "the write of {key} at revision {at} was acknowledged, but {found} of \
                         revision {modified} is there"
                    ));
                }
                (None, Some(_)) => {
                    return lost(format!(
                        "the write of {key} at revision {at} was acknowledged, but nothing is there"
                    ));
                }
            }
        }
        Ok(())
    }

    fn may_be_deleted(&self, key: &Blob) -> bool {
        self.may_delete.iter().any(|(from, span)| span.holds(from, key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(value: &str, modified: u64) -> Pair {
        let (key, value) = ("a".into(), value.into());
        Pair { key, value, create: 2, modified, version: 1, lease: 0 }
    }

    fn written() -> Durability {
        let mut durability = Durability::default();
        durability.on_put(&"a".into(), &"2".into(), 5);
        durability.on_put(&"a".into(), &"1".into(), 4); // acknowledged later
        durability
    }

    #[test]
    fn what_is_there_or_overwritten_is_right() {
        written().on_final(&[pair("2", 5)], 5).expect("it is there");
        written().on_final(&[pair("x", 6)], 9).expect("it was overwritten");
        let mut deleted = written();
        deleted.on_deleted(&"a".into(), 6);
        deleted.on_final(&[], 6).expect("it was deleted");
        let mut leased = written();
        leased.on_may_delete("a".into(), Span::One);
        leased.on_final(&[], 9).expect("it may have been deleted");
    }

    #[test]
    fn what_is_lost_is_found() {
        let lost = [
            written().on_final(&[], 9),
            written().on_final(&[pair("1", 4)], 9),
            written().on_final(&[pair("x", 5)], 9),
            written().on_final(&[pair("2", 5)], 4),
        ];
        for result in lost {
            assert_eq!(result.expect_err("a lost write").promise, "durability");
        }
        let mut back = written();
        back.on_deleted(&"a".into(), 6);
        back.on_final(&[pair("2", 5)], 9).expect_err("a deletion was lost");
    }
}
