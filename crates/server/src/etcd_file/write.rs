//! Writing a file of bbolt, from beginning to end.
//!
//! **Idea.** Who writes all of a tree at once needs no balancing: leaves are filled one after the
//! other, and of each the first key is remembered; a level of branches is made of those, and one
//! above it, until a single page is left. The first pages, which name the root, come last.
//!
//! **Bounds.** In memory are one leaf, and the first key and the number of every page.

use super::page::{
    BRANCH, ELEMENT_BYTES, FREELIST, HEADER_BYTES, IS_BUCKET, LEAF, MAGIC, META, META_HASHED,
    PAGE_BYTES, VERSION, fnv1a,
};
use std::io::{self, Seek, SeekFrom, Write};

/// Two meta pages and the list of free ones.
const FIRST_PAGES: u64 = 3;
const FREELIST_PAGE: u64 = 2;
/// Elements of one page; a count has 16 bits, and the largest one means something else.
const COUNT_MAX: usize = 0xFFF0;

/// A database that is being written.
pub(super) struct Writer<'a, W> {
    out: &'a mut W,
    /// The number of the next page.
    next: u64,
    /// Name and root page of what is there.
    buckets: Vec<(Vec<u8>, u64)>,
}

/// A bucket that is being written.
pub(super) struct Tree {
    leaf: Vec<(Vec<u8>, Vec<u8>, u32)>,
    leaf_bytes: usize,
    /// First key and number of each leaf.
    leaves: Vec<(Vec<u8>, u64)>,
}

impl<'a, W: Write + Seek> Writer<'a, W> {
    /// Begins at the beginning of `out`.
    pub(super) fn begin(out: &'a mut W) -> io::Result<Writer<'a, W>> {
        out.seek(SeekFrom::Start(0))?;
        out.write_all(&[0; FIRST_PAGES as usize * PAGE_BYTES])?;
        Ok(Writer { out, next: FIRST_PAGES, buckets: Vec::new() })
    }

    /// Adds a pair to a bucket: keys ascend.
    pub(super) fn add(&mut self, tree: &mut Tree, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.add_element(tree, key, value, 0)
    }

    fn add_element(
        &mut self,
        tree: &mut Tree,
        key: &[u8],
        value: &[u8],
        flags: u32,
    ) -> io::Result<()> {
        let bytes = ELEMENT_BYTES + key.len() + value.len();
        let is_full = tree.leaf_bytes + bytes > PAGE_BYTES - HEADER_BYTES;
        if !tree.leaf.is_empty() && (is_full || tree.leaf.len() == COUNT_MAX) {
            self.flush(tree)?;
        }
        tree.leaf_bytes += bytes;
        tree.leaf.push((key.to_vec(), value.to_vec(), flags));
        Ok(())
    }

    /// Ends a bucket and gives it its name.
    pub(super) fn finish_bucket(&mut self, name: &[u8], tree: Tree) -> io::Result<()> {
        let root = self.finish_tree(tree)?;
        self.buckets.push((name.to_vec(), root));
        Ok(())
    }

    /// Ends the database, and answers with its length.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        let mut buckets = std::mem::take(&mut self.buckets);
        buckets.sort();
        let mut tree = Tree::new();
        for (name, root) in buckets {
            let mut value = root.to_le_bytes().to_vec();
            value.extend(0_u64.to_le_bytes());
            self.add_element(&mut tree, &name, &value, IS_BUCKET)?;
        }
        let root = self.finish_tree(tree)?;
        self.out.seek(SeekFrom::Start(0))?;
        for (id, txid) in [(0, 0), (1, 1)] {
            let page = meta(id, root, self.next, txid);
            self.out.write_all(&page)?;
        }
        let mut free = header(FREELIST_PAGE, FREELIST, 0, 0);
        free.resize(PAGE_BYTES, 0);
        self.out.write_all(&free)?;
        self.out.seek(SeekFrom::End(0))?;
        self.out.flush()?;
        Ok(self.next * PAGE_BYTES as u64)
    }

    /// Writes what has gathered for a leaf.
    fn flush(&mut self, tree: &mut Tree) -> io::Result<()> {
        let leaf = std::mem::take(&mut tree.leaf);
        tree.leaf_bytes = 0;
        let first = leaf.first().map(|(key, ..)| key.clone()).unwrap_or_default();
        let (mut elements, mut data) = (Vec::new(), Vec::new());
        for (number, (key, value, flags)) in leaf.iter().enumerate() {
            let pos = (leaf.len() - number) * ELEMENT_BYTES + data.len();
            for word in [*flags, pos as u32, key.len() as u32, value.len() as u32] {
                elements.extend(word.to_le_bytes());
            }
            data.extend_from_slice(key);
            data.extend_from_slice(value);
        }
        let id = self.page(LEAF, leaf.len(), &elements, &data)?;
        tree.leaves.push((first, id));
        Ok(())
    }

    /// Writes the last leaf and the branches above, and answers with the root.
    fn finish_tree(&mut self, mut tree: Tree) -> io::Result<u64> {
        if !tree.leaf.is_empty() || tree.leaves.is_empty() {
            self.flush(&mut tree)?;
        }
        let mut level = tree.leaves;
        while level.len() > 1 {
            let mut above = Vec::new();
            let mut rest = &level[..];
            while !rest.is_empty() {
                let count = fitting(rest);
                let (now, later) = rest.split_at(count);
                above.push((now[0].0.clone(), self.branch(now)?));
                rest = later;
            }
            level = above;
        }
        Ok(level[0].1)
    }

    fn branch(&mut self, children: &[(Vec<u8>, u64)]) -> io::Result<u64> {
        let (mut elements, mut data) = (Vec::new(), Vec::new());
        for (number, (key, child)) in children.iter().enumerate() {
            let pos = (children.len() - number) * ELEMENT_BYTES + data.len();
            elements.extend((pos as u32).to_le_bytes());
            elements.extend((key.len() as u32).to_le_bytes());
            elements.extend(child.to_le_bytes());
            data.extend_from_slice(key);
        }
        self.page(BRANCH, children.len(), &elements, &data)
    }

    /// Writes a page with what belongs to it, and answers with its number.
    fn page(&mut self, flags: u16, count: usize, elements: &[u8], data: &[u8]) -> io::Result<u64> {
        let id = self.next;
        let bytes = HEADER_BYTES + elements.len() + data.len();
        let pages = bytes.div_ceil(PAGE_BYTES);
        let mut page = header(id, flags, count, pages - 1);
        page.extend_from_slice(elements);
        page.extend_from_slice(data);
        page.resize(pages * PAGE_BYTES, 0);
        self.out.write_all(&page)?;
        self.next += pages as u64;
        Ok(id)
    }
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { leaf: Vec::new(), leaf_bytes: 0, leaves: Vec::new() }
    }
}

/// How many of these children one branch takes: two at least, or a level would not be smaller than
/// the one below.
fn fitting(children: &[(Vec<u8>, u64)]) -> usize {
    let mut bytes = HEADER_BYTES;
    let fits = |(key, _): &&(Vec<u8>, u64)| {
        bytes += ELEMENT_BYTES + key.len();
        bytes <= PAGE_BYTES
    };
    let count = children.iter().take(COUNT_MAX).take_while(fits).count();
    count.max(2).min(children.len())
}

fn header(id: u64, flags: u16, count: usize, overflow: usize) -> Vec<u8> {
    let mut page = id.to_le_bytes().to_vec();
    page.extend(flags.to_le_bytes());
    page.extend((count as u16).to_le_bytes());
    page.extend((overflow as u32).to_le_bytes());
    page
}

fn meta(id: u64, root: u64, pages: u64, txid: u64) -> Vec<u8> {
    let mut said = Vec::new();
    for word in [MAGIC, VERSION, PAGE_BYTES as u32, 0] {
        said.extend(word.to_le_bytes());
    }
    for word in [root, 0, FREELIST_PAGE, pages, txid] {
        said.extend(word.to_le_bytes());
    }
    assert_eq!(said.len(), META_HASHED, "the checksum stands at a fixed place");
    let hash = fnv1a(&said);
    let mut page = header(id, META, 0, 0);
    page.extend(said);
    page.extend(hash.to_le_bytes());
    page.resize(PAGE_BYTES, 0);
    page
}
