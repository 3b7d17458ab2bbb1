//! Reading a file of bbolt: what is asked for, page by page, believing nothing.
//!
//! **Bounds.** One path from the root to a leaf is in memory, at most [`DEPTH_MAX`] pages; a page
//! is no longer than the file. Each page of the file is visited at most once in a walk, so the walk
//! ends whatever the pages say.
//!
//! **Guarantee.** Arbitrary bytes give a [`BoltError`] and never a panic. A byte that was changed
//! within a key or a value is not noticed here, as bbolt has no checksum over its pages; the
//! SHA-256 after a snapshot sees it.

use super::page::{
    BRANCH, BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, IS_BUCKET, LEAF, MAGIC, META, META_BYTES,
    META_HASHED, VERSION, fnv1a, u16_at, u32_at, u64_at,
};
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Pages on the way from a root to a leaf; a tree of all data in the world is not so high.
const DEPTH_MAX: usize = 32;
/// The sizes of pages that are believed. Unit: bytes.
const PAGE_SIZES: std::ops::RangeInclusive<u32> = 512..=1 << 20;

/// Why a file is no database of bbolt.
#[derive(Debug)]
pub enum BoltError {
    /// Reading failed.
    Io(io::Error),
    /// Neither of its first pages says so.
    NotADatabase,
    /// Another version of the format.
    UnknownVersion {
        /// Its number.
        found: u32,
    },
    /// A page contradicts itself or the others.
    BadPage {
        /// Its number.
        page: u64,
        /// What is wrong.
        why: &'static str,
    },
}

impl fmt::Display for BoltError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BoltError::Io(error) => write!(f, "reading the database: {error}"),
            BoltError::NotADatabase => f.write_str("not a database of etcd (bbolt)"),
            BoltError::UnknownVersion { found } => {
                write!(f, "a bbolt database of version {found}; version {VERSION} is known")
            }
            BoltError::BadPage { page, why } => write!(f, "page {page} is damaged: {why}"),
        }
    }
}

impl std::error::Error for BoltError {}

impl From<io::Error> for BoltError {
    fn from(error: io::Error) -> BoltError {
        BoltError::Io(error)
    }
}

/// Where bytes come from.
pub(super) trait ReadAt {
    /// Fills `into` from `offset`. Errors: also if the bytes are not there.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(into, offset)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let at = usize::try_from(offset).ok();
        let bytes = at.and_then(|at| self.get(at..at.checked_add(into.len())?));
        into.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// An open database.
pub(super) struct Bolt<'a> {
    source: &'a dyn ReadAt,
    page_bytes: u64,
    /// Pages in the file.
    pages: u64,
    root: u64,
}

/// A bucket of the first level.
#[derive(Clone, Debug)]
pub(super) enum Bucket {
    /// Its root page.
    At(u64),
    /// Its only page.
    Inline(Vec<u8>),
}

/// What a walk is called with: a key, its value, and whether that is a bucket.
type Visit<'v, E> = &'v mut dyn FnMut(&[u8], &[u8], bool) -> Result<(), E>;

/// The state of one walk.
struct Walk<'v, E> {
    visit: Visit<'v, E>,
    /// Pages that may still be visited.
    left: u64,
    last: Option<Vec<u8>>,
}

impl Bolt<'_> {
    /// Opens what lies in the first `len` bytes.
    ///
    /// Errors: see [`BoltError`].
    pub(super) fn open(source: &dyn ReadAt, len: u64) -> Result<Bolt<'_>, BoltError> {
        let mut metas: Vec<Meta> = Vec::new();
        let mut unknown = None;
        // The second meta page stands after the first, whose size may be any.
        let sizes = std::iter::once(0).chain((9..=20).map(|log| 1_u64 << log));
        for offset in sizes {
            let mut bytes = [0; META_BYTES];
            if offset + META_BYTES as u64 > len || source.read_at(offset, &mut bytes).is_err() {
                continue;
            }
            match meta(&bytes) {
                Some(Ok(meta)) if offset == 0 || u64::from(meta.page_bytes) == offset => {
                    metas.push(meta);
                }
                Some(Err(found)) => unknown = Some(found),
                _ => {}
            }
        }
        let newest = metas.into_iter().max_by_key(|meta| meta.txid);
        let Some(Meta { page_bytes, root, .. }) = newest else {
            return Err(unknown
                .map_or(BoltError::NotADatabase, |found| BoltError::UnknownVersion { found }));
        };
        let page_bytes = u64::from(page_bytes);
        Ok(Bolt { source, page_bytes, pages: len / page_bytes, root })
    }

    /// The bucket of this name.
    pub(super) fn bucket(&self, name: &[u8]) -> Result<Option<Bucket>, BoltError> {
        let mut found = None;
        self.walk(&Bucket::At(self.root), &mut |key, value, is_bucket| {
            if is_bucket && key == name {
                found = Some(value.to_vec());
            }
            Ok::<(), BoltError>(())
        })?;
        let Some(value) = found else { return Ok(None) };
        let bad = BoltError::BadPage { page: self.root, why: "a bucket is cut off" };
        let root = u64_at(&value, 0).ok_or(bad)?;
        Ok(Some(match root {
            0 => Bucket::Inline(value.get(BUCKET_BYTES..).unwrap_or_default().to_vec()),
            root => Bucket::At(root),
        }))
    }

    /// Visits all of a bucket, by ascending key.
    ///
    /// Errors: those of the file, and of the visitor.
    pub(super) fn walk<E: From<BoltError>>(
        &self,
        bucket: &Bucket,
        visit: Visit<'_, E>,
    ) -> Result<(), E> {
        let mut walk = Walk { visit, left: self.pages, last: None };
        match bucket {
            Bucket::At(root) => self.page(*root, 0, &mut walk),
            Bucket::Inline(page) => self.leaf(0, page, &mut walk),
        }
    }

    fn page<E: From<BoltError>>(
        &self,
        id: u64,
        depth: usize,
        walk: &mut Walk<'_, E>,
    ) -> Result<(), E> {
        if depth > DEPTH_MAX || walk.left == 0 {
            return Err(bad(id, "it is its own child").into());
        }
        walk.left -= 1;
        let page = self.load(id)?;
        match u16_at(&page, 8) {
            Some(LEAF) => self.leaf(id, &page, walk),
            Some(BRANCH) => {
                let count = usize::from(u16_at(&page, 10).unwrap_or_default());
                for number in 0..count {
                    let at = HEADER_BYTES + number * ELEMENT_BYTES;
                    let child = u64_at(&page, at + 8);
                    let child = child.ok_or_else(|| bad(id, "an element is cut off"))?;
                    self.page(child, depth + 1, walk)?;
                }
                Ok(())
            }
            _ => Err(bad(id, "it is neither a branch nor a leaf").into()),
        }
    }

    fn leaf<E: From<BoltError>>(
        &self,
        id: u64,
        page: &[u8],
        walk: &mut Walk<'_, E>,
    ) -> Result<(), E> {
        let count = usize::from(u16_at(page, 10).unwrap_or_default());
        for number in 0..count {
            let at = HEADER_BYTES + number * ELEMENT_BYTES;
            let (flags, key, value) =
                element(page, at).ok_or_else(|| bad(id, "an element points out of it"))?;
            if walk.last.as_ref().is_some_and(|last| last[..] >= *key) {
                return Err(bad(id, "keys do not ascend").into());
            }
            (walk.visit)(key, value, flags & IS_BUCKET != 0)?;
            walk.last = Some(key.to_vec());
        }
        Ok(())
    }

    /// A page with all that belongs to it.
    fn load(&self, id: u64) -> Result<Vec<u8>, BoltError> {
        if id < 2 || id >= self.pages {
            return Err(bad(id, "it is not in the file"));
        }
        let mut header = [0; HEADER_BYTES];
        self.source.read_at(id * self.page_bytes, &mut header)?;
        let overflow = u64::from(u32_at(&header, 12).unwrap_or_default());
        if u64_at(&header, 0) != Some(id) {
            return Err(bad(id, "another page stands in its place"));
        }
        if overflow >= self.pages - id {
            return Err(bad(id, "it is longer than the file"));
        }
        let bytes = (overflow + 1) * self.page_bytes;
        let bytes = usize::try_from(bytes).map_err(|_| bad(id, "it is longer than the memory"))?;
        let mut page = vec![0; bytes];
        self.source.read_at(id * self.page_bytes, &mut page)?;
        Ok(page)
    }
}

fn bad(page: u64, why: &'static str) -> BoltError {
    BoltError::BadPage { page, why }
}

/// Flags, key and value of a leaf's element.
fn element(page: &[u8], at: usize) -> Option<(u32, &[u8], &[u8])> {
    let (flags, pos) = (u32_at(page, at)?, u32_at(page, at + 4)? as usize);
    let (key_len, value_len) = (u32_at(page, at + 8)? as usize, u32_at(page, at + 12)? as usize);
    let key_at = at.checked_add(pos)?;
    let value_at = key_at.checked_add(key_len)?;
    let key = page.get(key_at..value_at)?;
    let value = page.get(value_at..value_at.checked_add(value_len)?)?;
    Some((flags, key, value))
}

/// What a meta page says.
struct Meta {
    page_bytes: u32,
    root: u64,
    txid: u64,
}

/// None: it is no meta page. `Err`: one of an unknown version.
fn meta(bytes: &[u8]) -> Option<Result<Meta, u32>> {
    let said = bytes.get(HEADER_BYTES..)?;
    if u16_at(bytes, 8)? != META || u32_at(said, 0)? != MAGIC {
        return None;
    }
    if u64_at(said, META_HASHED)? != fnv1a(said.get(..META_HASHED)?) {
        return None;
    }
    let version = u32_at(said, 4)?;
    if version != VERSION {
        return Some(Err(version));
    }
    let page_bytes = u32_at(said, 8)?;
    if !PAGE_SIZES.contains(&page_bytes) || !page_bytes.is_power_of_two() {
        return None;
    }
    Some(Ok(Meta { page_bytes, root: u64_at(said, 16)?, txid: u64_at(said, 48)? }))
}
