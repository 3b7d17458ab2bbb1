//! Who is interested in a key.
//!
//! Single keys are found by a map, ranges by [`Intervals`]; those interested in the same keys share
//! one entry. Whoever is interested is a *seat*, a small number that the caller gives out. A seat
//! remembers its place in the list of its entry, so that leaving costs no search through a list
//! which may be long: everybody may watch the same prefix.

use super::intervals::{End, Intervals};
use bytes::Bytes;
use quorate_replica::store::Keys;
use std::collections::HashMap;

/// Seats by the keys that they are interested in.
#[derive(Debug)]
pub(super) struct Index {
    single: HashMap<Bytes, Vec<u32>>,
    ranges: Intervals<Vec<u32>>,
    /// By seat: its place in the list of its entry.
    places: Vec<u32>,
    len: usize,
}

impl Index {
    pub(super) fn new() -> Index {
        Index { single: HashMap::new(), ranges: Intervals::new(), places: Vec::new(), len: 0 }
    }

    /// How many seats are taken.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Notes the interest of `seat`. The keys should own their bytes and nothing more.
    pub(super) fn insert(&mut self, keys: &Keys, seat: u32) {
        let seats = match end_of(keys) {
            None => self.single.entry(keys.key.clone()).or_default(),
            Some(end) => {
                if self.ranges.get_mut(&keys.key, &end).is_none() {
                    self.ranges.insert(keys.key.clone(), end.clone(), Vec::new());
                }
                self.ranges.get_mut(&keys.key, &end).expect("just inserted")
            }
        };
        let at = seat as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, 0);
        }
        self.places[at] = seats.len() as u32;
        seats.push(seat);
        self.len += 1;
    }

    /// Forgets the interest of `seat`. Panics: if it was not noted for exactly these keys.
    pub(super) fn remove(&mut self, keys: &Keys, seat: u32) {
        let end = end_of(keys);
        let seats = match &end {
            None => self.single.get_mut(&keys.key),
            Some(end) => self.ranges.get_mut(&keys.key, end),
        };
        let seats = seats.expect("a seat leaves what it has entered");
        let place = self.places[seat as usize];
        assert_eq!(seats[place as usize], seat, "a seat is where it remembers to be");
        seats.swap_remove(place as usize);
        if let Some(moved) = seats.get(place as usize) {
            self.places[*moved as usize] = place;
        }
        if seats.is_empty() {
            match &end {
                None => drop(self.single.remove(&keys.key)),
                Some(end) => drop(self.ranges.remove(&keys.key, end)),
            }
        }
        self.len -= 1;
    }

    /// Calls `found` with each seat that is interested in `key`.
    pub(super) fn find(&self, key: &[u8], mut found: impl FnMut(u32)) {
        if let Some(seats) = self.single.get(key) {
            seats.iter().copied().for_each(&mut found);
        }
        self.ranges.stab(key, &mut |seats| seats.iter().copied().for_each(&mut found));
    }
}

/// None if it is a single key.
fn end_of(keys: &Keys) -> Option<End> {
    match &keys.range_end[..] {
        [] => None,
        [0] => Some(End::Never),
        _ => Some(End::Before(keys.range_end.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::Index;
    use bytes::Bytes;
    use proptest::prelude::*;
    use quorate_replica::store::Keys;

    fn keys(key: u8, end: u8) -> Keys {
        let range_end = match end {
            0 => Bytes::new(),
            1 => Bytes::from_static(b"\0"),
            end => Bytes::from(vec![end]),
        };
        Keys { key: Bytes::from(vec![key]), range_end }
    }

    proptest! {
        #[test]
        fn interest_is_found_as_by_asking_everybody(
            steps in prop::collection::vec((0usize..12, 2u8..8, 0u8..10), 0..100),
        ) {
            let mut index = Index::new();
            let mut all: Vec<Option<Keys>> = vec![None; 12];
            for (seat, key, end) in steps {
                match all[seat].take() {
                    Some(keys) => index.remove(&keys, seat as u32),
                    None => {
                        let keys = keys(key, end);
                        index.insert(&keys, seat as u32);
                        all[seat] = Some(keys);
                    }
                }
                prop_assert_eq!(index.len(), all.iter().flatten().count());
                for probe in 0u8..10 {
                    let mut found = Vec::new();
                    index.find(&[probe], |seat| found.push(seat as usize));
                    found.sort_unstable();
                    let interested = |seat: &usize| {
                        all[*seat].as_ref().is_some_and(|keys| keys.contains(&[probe]))
                    };
                    let naive: Vec<usize> = (0..12).filter(interested).collect();
                    prop_assert_eq!(found, naive);
                }
            }
        }
    }
}
