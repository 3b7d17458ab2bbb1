//! Ranges of keys as flags say them and as the API says them.

use clap::Args;

/// The flags that select keys.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct KeyFlags {
    /// All keys that begin with KEY ('' for all keys)
    #[arg(long, conflicts_with_all = ["from_key", "range_end"])]
    pub(super) prefix: bool,
    /// All keys from KEY on
    #[arg(long, conflicts_with = "range_end")]
    pub(super) from_key: bool,
    /// All keys from KEY up to, without, END
    #[arg(long, value_name = "END")]
    pub(super) range_end: Option<String>,
}

/// Keys in `[key, range_end)`, with etcd's conventions.
///
/// Source: etcd `api/etcdserverpb/rpc.proto`, RangeRequest: no end is one key, an end of one zero
/// byte is "everything from key on".
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct KeyRange {
    pub(super) key: Vec<u8>,
    pub(super) range_end: Vec<u8>,
}

impl KeyRange {
    /// What `key` and the flags select.
    pub(super) fn new(key: &str, flags: &KeyFlags) -> KeyRange {
        let first = || if key.is_empty() { vec![0] } else { key.as_bytes().to_vec() };
        if flags.prefix {
            return KeyRange { key: first(), range_end: prefix_end(key.as_bytes()) };
        }
        if flags.from_key {
            return KeyRange { key: first(), range_end: vec![0] };
        }
        let range_end = flags.range_end.as_deref().unwrap_or_default().as_bytes().to_vec();
        KeyRange { key: key.as_bytes().to_vec(), range_end }
    }
}

/// The first key that is greater than every key with this prefix.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let kept = prefix.iter().rposition(|byte| *byte < 0xff);
    match kept {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end
        }
        None => vec![0],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_prefixes() {
        let cases: [(&[u8], &[u8]); 5] = [
            (b"a", b"b"),
            (b"foo/", b"foo0"),
            (b"a\xff", b"b"),
            (b"\xff\xff", b"\0"),
            (b"", b"\0"),
        ];
        for (prefix, end) in cases {
            assert_eq!(prefix_end(prefix), end, "{prefix:?}");
        }
    }

    #[test]
    fn flags_select_keys() {
        let select = |key: &str, flags: KeyFlags| {
            let range = KeyRange::new(key, &flags);
            (range.key, range.range_end)
        };
        let prefix = || KeyFlags { prefix: true, ..KeyFlags::default() };
        let from = || KeyFlags { from_key: true, ..KeyFlags::default() };
        let upto = KeyFlags { range_end: Some("z".to_owned()), ..KeyFlags::default() };
        assert_eq!(select("a", KeyFlags::default()), (b"a".to_vec(), vec![]));
        assert_eq!(select("a", prefix()), (b"a".to_vec(), b"b".to_vec()));
        assert_eq!(select("", prefix()), (vec![0], vec![0]));
        assert_eq!(select("a", from()), (b"a".to_vec(), vec![0]));
        assert_eq!(select("a", upto), (b"a".to_vec(), b"z".to_vec()));
    }
}
