//! Room for the bytes of requests: of one connection, and of the member as a whole.

use super::Counts;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes may be taken.
#[derive(Debug)]
pub(crate) struct Room {
    used: AtomicUsize,
    max: AtomicUsize,
}

impl Room {
    /// For so many bytes.
    pub(crate) fn new(max: usize) -> Room {
        Room { used: AtomicUsize::new(0), max: AtomicUsize::new(max) }
    }

    /// For so many bytes from now on. What was taken stays taken.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// Bytes that there is room for.
    pub(crate) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Bytes that are taken.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// True if there was room.
    #[must_use]
    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.checked_add(bytes).is_some_and(|after| after <= self.max());
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    fn give_back(&self, bytes: usize) {
        let before = self.used.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "only what was taken is given back");
    }
}

/// What one request takes; it is given back when nobody holds this any more.
#[derive(Debug)]
pub(crate) struct Held {
    member: Arc<Room>,
    /// None if it is not known on which connection it came.
    connection: Option<Arc<Room>>,
    open: Arc<AtomicUsize>,
    counts: Arc<Counts>,
    bytes: AtomicUsize,
}

impl Held {
    pub(super) fn new(
        member: &Arc<Room>,
        connection: Option<Arc<Room>>,
        open: &Arc<AtomicUsize>,
        counts: &Arc<Counts>,
    ) -> Arc<Held> {
        open.fetch_add(1, Ordering::Relaxed);
        let (member, open, counts) = (Arc::clone(member), Arc::clone(open), Arc::clone(counts));
        Arc::new(Held { member, connection, open, counts, bytes: AtomicUsize::new(0) })
    }

    /// Takes so much more. False if there is no room: then nothing was taken.
    #[must_use]
    pub(crate) fn take(&self, bytes: usize) -> bool {
        if !self.member.take(bytes) {
            self.counts.count_full();
            return false;
        }
        if let Some(connection) = &self.connection
            && !connection.take(bytes)
        {
            self.member.give_back(bytes);
            self.counts.count_full();
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }

    /// Gives everything back: the bytes were made something else of.
    pub(crate) fn release(&self) {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        self.member.give_back(bytes);
        self.connection.iter().for_each(|connection| connection.give_back(bytes));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release();
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_takes_nothing_and_all_is_given_back_in_the_end() {
        let (member, open) = (Arc::new(Room::new(100)), Arc::new(AtomicUsize::new(0)));
        let connection = Arc::new(Room::new(60));
        let counts = Arc::default();
        let first = Held::new(&member, Some(Arc::clone(&connection)), &open, &counts);
        assert!(first.take(50) && !first.take(11) && first.take(10));
        let second = Held::new(&member, None, &open, &counts);
        assert!(!second.take(41) && second.take(40));
        assert_eq!((member.used(), connection.used(), open.load(Ordering::Relaxed)), (100, 60, 2));
        first.release();
        assert_eq!((member.used(), connection.used()), (40, 0));
        assert!(first.take(60));
        drop((first, second));
        assert_eq!((member.used(), connection.used(), open.load(Ordering::Relaxed)), (0, 0, 0));
        assert!(!Held::new(&member, None, &open, &counts).take(usize::MAX));
        assert_eq!(member.used(), 0);
    }
}
