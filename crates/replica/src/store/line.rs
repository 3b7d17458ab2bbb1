//! How the keys of a line are named: that of those who wait for a lock, or for leadership.
//!
//! A candidate is a key `NAME/LEASE`, the lease in hexadecimal as Go writes it, and hangs on that
//! lease. The oldest key of a line is served. The revision at which a key came to life is its
//! *token*: it grows from holder to holder, and is never used twice.
//!
//! Source: etcd `client/v3/concurrency` (behaviour).

use super::{Keys, Range, SortOrder, SortTarget};
use bytes::Bytes;

/// `NAME/LEASE`.
pub fn key_of(name: &[u8], lease: i64) -> Bytes {
    // Go writes negative numbers with a sign.
    let sign = if lease < 0 { "-" } else { "" };
    let lease = format!("/{sign}{:x}", lease.unsigned_abs());
    Bytes::from([name, lease.as_bytes()].concat())
}

/// The name and the lease that a key consists of, if it is one of a line.
pub fn parts_of(key: &[u8]) -> Option<(&[u8], i64)> {
    let slash = key.iter().rposition(|byte| *byte == b'/')?;
    let text = std::str::from_utf8(&key[slash + 1..]).ok()?;
    let lease = i64::from_str_radix(text, 16).ok().filter(|lease| *lease != 0)?;
    (key_of(&key[..slash], lease) == key).then_some((&key[..slash], lease))
}

/// Every key of a line: those that begin with `NAME/`.
pub fn keys_of(name: &[u8]) -> Keys {
    let with = |last: u8| Bytes::from([name, &[last]].concat());
    Keys { key: with(b'/'), range_end: with(b'/' + 1) }
}

/// The oldest key of a line.
pub fn oldest(line: &Keys) -> Range {
    Range {
        keys: line.clone(),
        limit: 1,
        sort_order: SortOrder::Ascend,
        sort_target: SortTarget::Create,
        ..Range::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_clients_of_etcd_name_them() {
        let cases = [
            (1, "a/1"),
            (0x7f, "a/7f"),
            (-0x1d, "a/-1d"),
            (i64::MAX, "a/7fffffffffffffff"),
            (i64::MIN, "a/-8000000000000000"),
        ];
        for (lease, key) in cases {
            assert_eq!(key_of(b"a", lease), key.as_bytes());
            assert_eq!(parts_of(key.as_bytes()), Some((&b"a"[..], lease)));
        }
        assert_eq!(parts_of(b"/a/b/7"), Some((&b"/a/b"[..], 7)));
        for key in ["a", "a/", "a/xyz", "a/7F", "a/07", "a/+7", "a/0", "a/8000000000000000"] {
            assert_eq!(parts_of(key.as_bytes()), None, "{key}");
        }
    }

    #[test]
    fn a_line_holds_what_begins_with_its_name_and_a_slash() {
        let line = keys_of(b"jobs");
        assert!(line.contains(b"jobs/1") && line.contains(b"jobs/a/b"));
        for other in ["jobs", "jobs-2/1", "jobs0", "job/1"] {
            assert!(!line.contains(other.as_bytes()), "{other}");
        }
    }
}
