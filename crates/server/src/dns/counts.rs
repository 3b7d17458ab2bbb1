//! What is counted of DNS.

use super::answer::Response;
use crate::metrics::Counter;

/// Types that are counted apart.
const TYPES: [(u16, &str); 7] =
    [(1, "A"), (28, "AAAA"), (33, "SRV"), (6, "SOA"), (2, "NS"), (255, "ANY"), (0, "other")];
/// Response codes that occur.
const CODES: [(u16, &str); 7] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (16, "BADVERS"),
];

/// Why a query is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Dropped {
    /// It is none.
    Malformed,
    /// Its source asks too much.
    Rate,
    /// Too many others are being answered.
    Busy,
}

/// Why, in words.
const DROPPED: [&str; 3] = ["malformed", "rate", "busy"];

/// What is counted of DNS.
#[derive(Debug, Default)]
pub(crate) struct DnsCounts {
    queries: [[Counter; CODES.len()]; TYPES.len()],
    dropped: [Counter; DROPPED.len()],
    stale: Counter,
}

impl DnsCounts {
    pub(super) fn count(&self, response: &Response) {
        let other = TYPES.len() - 1;
        let rtype = TYPES.iter().position(|(number, _)| *number == response.rtype);
        let rcode = CODES.iter().position(|(number, _)| *number == response.rcode);
        self.queries[rtype.unwrap_or(other)][rcode.unwrap_or(0)].add(1);
    }

    pub(super) fn drop_one(&self, why: Dropped) {
        self.dropped[why as usize].add(1);
    }

    pub(super) fn count_stale(&self) {
        self.stale.add(1);
    }

    /// By type and response code; those that occurred.
    pub(crate) fn queries(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let rows = TYPES.iter().zip(&self.queries).flat_map(|((_, rtype), row)| {
            CODES.iter().zip(row).map(|((_, rcode), count)| (*rtype, *rcode, count.get()))
        });
        rows.filter(|(_, _, count)| *count > 0)
    }

    /// By why.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DROPPED.iter().zip(&self.dropped).map(|(why, count)| (*why, count.get()))
    }

    /// Answers that were too old.
    pub(crate) fn stale(&self) -> u64 {
        self.stale.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_type_and_code() {
        let counts = DnsCounts::default();
        for (rtype, rcode) in [(1, 0), (1, 3), (1, 0), (999, 5)] {
            counts.count(&Response { bytes: Vec::new(), rtype, rcode });
        }
        let found: Vec<_> = counts.queries().collect();
        let wanted = [("A", "NOERROR", 2), ("A", "NXDOMAIN", 1), ("other", "REFUSED", 1)];
        assert_eq!(found, wanted);
        counts.drop_one(Dropped::Busy);
        let dropped: Vec<_> = counts.dropped().collect();
        assert_eq!(dropped, [("malformed", 0), ("rate", 0), ("busy", 1)]);
    }
}
