//! Two forms of the key in our tree: behind a pointer, and in the node itself while it is short.
//!
//! A search compares about log2(n) keys. Behind a pointer each of them is a cache miss; inside
//! the node most of them share a few lines and one page.

use bytes::Bytes;
use std::borrow::Borrow;
use std::cmp::Ordering;

/// A key of the tree.
pub trait TreeKey:
    Borrow<[u8]> + Clone + Ord + Send + Sync + for<'a> From<&'a Bytes> + 'static
{
}

impl TreeKey for PointedKey {}
impl TreeKey for InlineKey {}

/// Shared with the version it belongs to.
#[derive(Clone, Eq, Ord, PartialEq, PartialOrd)]
pub struct PointedKey(Bytes);

impl From<&Bytes> for PointedKey {
    fn from(key: &Bytes) -> PointedKey {
        PointedKey(key.clone())
    }
}

impl Borrow<[u8]> for PointedKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Longest key that is kept inline; with the length and the tag it fills 48 bytes.
const INLINE_MAX: usize = 46;

/// Copied into the node.
#[derive(Clone)]
pub enum InlineKey {
    Short { len: u8, bytes: [u8; INLINE_MAX] },
    Long(Bytes),
}

impl From<&Bytes> for InlineKey {
    fn from(key: &Bytes) -> InlineKey {
        let Ok(len) = u8::try_from(key.len()) else { return InlineKey::Long(key.clone()) };
        let mut bytes = [0; INLINE_MAX];
        let Some(room) = bytes.get_mut(..key.len()) else { return InlineKey::Long(key.clone()) };
        room.copy_from_slice(key);
        InlineKey::Short { len, bytes }
    }
}

impl Borrow<[u8]> for InlineKey {
    fn borrow(&self) -> &[u8] {
        match self {
            InlineKey::Short { len, bytes } => &bytes[..usize::from(*len)],
            InlineKey::Long(key) => key,
        }
    }
}

impl Ord for InlineKey {
    fn cmp(&self, other: &InlineKey) -> Ordering {
        Borrow::<[u8]>::borrow(self).cmp(other.borrow())
    }
}

impl PartialOrd for InlineKey {
    fn partial_cmp(&self, other: &InlineKey) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for InlineKey {
    fn eq(&self, other: &InlineKey) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for InlineKey {}
