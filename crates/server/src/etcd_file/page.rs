//! How a file of bbolt looks: pages, and the elements in them.
//!
//! ```text
//!   file      pages of one size; 0 and 1 are meta pages, the valid one of the higher txid counts
//!   page      id u64, flags u16, count u16, overflow u32, elements, data      little-endian
//!             overflow: so many further pages belong to it
//!   meta      header, then magic u32, version u32 = 2, page size u32, flags u32,
//!             root page u64, sequence u64, freelist page u64, pages in use u64, txid u64,
//!             FNV-1a of the 56 bytes before, u64
//!   branch    elements: pos u32, key length u32, page u64       pos counts from the element
//!   leaf      elements: flags u32, pos u32, key length u32, value length u32
//!             flags 1: the value is a bucket: root page u64, sequence u64; with root page 0 the
//!             page itself follows, within the value
//! ```
//!
//! Source: bbolt `page.go`, `db.go`, `bucket.go` (the format, which has not changed since 2013).

/// Size of a page that is written. Unit: bytes.
pub(super) const PAGE_BYTES: usize = 4_096;
/// Before the elements of a page.
pub(super) const HEADER_BYTES: usize = 16;
/// One element, of either kind.
pub(super) const ELEMENT_BYTES: usize = 16;
/// Header of a meta page and what it says.
pub(super) const META_BYTES: usize = HEADER_BYTES + 64;
/// What the checksum of a meta page covers, after the header.
pub(super) const META_HASHED: usize = 56;
/// Before the page of a bucket that stands within its value.
pub(super) const BUCKET_BYTES: usize = 16;

pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;

/// A leaf element that is a bucket.
pub(super) const IS_BUCKET: u32 = 1;

/// FNV-1a of 64 bits.
pub(super) fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// The two bytes at `at`; none if they are not there. So for the others.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

/// Four bytes.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Eight bytes.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
