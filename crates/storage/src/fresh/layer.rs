//! One layer of rows: what was written between two cuts, each row once.
//!
//! Most rows are written again while their layer is: then a hash is all that is looked at (`hashed`). Rows of a ring are
//! nearly all new, so they lie together, in a list for each 256 places: a key that is written often costs the hash and the
//! order one name for its ring, and not one for each of its older revisions.

use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::hashed::Hashed;
use super::order::{is_before, is_within};
use crate::keys::{ring_of, stem_of};

/// What a row takes beside its bytes: its places in the hash and in the order, and the heads of its buffers.
const ROW_BYTES: u64 = 192;
/// What a row of a ring takes beside its value: its place in the list, and the head of its buffer.
const RING_ROW_BYTES: u64 = 96;
/// A removal counts for so many bytes more: every scan passes over it until it is flushed and merged away.
const REMOVED_BYTES: u64 = 512;

/// Rows that were written between two cuts.
#[derive(Default)]
pub struct Layer {
    rows: Hashed<Option<Bytes>>,
    /// By what the keys of their rows have in common.
    rings: Hashed<Ring>,
    /// Rows of both.
    count: usize,
    /// What the rows take and count for.
    bytes: u64,
    /// The engine has all of it.
    flushed: AtomicBool,
}

/// Rows by the last byte of their keys, in order.
type Ring = Vec<(u8, Option<Bytes>)>;

/// Rows in order: key, and value or that it is removed.
pub type Rows<'a> = Box<dyn DoubleEndedIterator<Item = (Bytes, Option<&'a Bytes>)> + 'a>;

impl Layer {
    /// Writes a row, or that it is removed.
    pub fn set(&mut self, key: &[u8], value: Option<Bytes>) {
        self.bytes += bytes_of(value.as_ref());
        let before = match ring_of(key) {
            Some((stem, last)) => self.set_in_ring(stem, last, value),
            None => {
                let (row, is_new) = self.rows.get_or_put(key, None);
                let before = std::mem::replace(row, value);
                if is_new {
                    self.bytes += key.len() as u64 + ROW_BYTES;
                }
                (!is_new).then_some(before)
            }
        };
        match before {
            Some(before) => self.bytes -= bytes_of(before.as_ref()),
            None => self.count += 1,
        }
    }

    /// Returns what was there.
    fn set_in_ring(&mut self, stem: &[u8], last: u8, value: Option<Bytes>) -> Option<Option<Bytes>> {
        let (ring, is_new) = self.rings.get_or_put(stem, Ring::new());
        if is_new {
            self.bytes += stem.len() as u64 + ROW_BYTES;
        }
        match ring.binary_search_by_key(&last, |(last, _)| *last) {
            Ok(at) => Some(std::mem::replace(&mut ring[at].1, value)),
            Err(at) => {
                ring.insert(at, (last, value));
                self.bytes += RING_ROW_BYTES;
                None
            }
        }
    }

    /// `None` = it knows nothing of the key.
    pub fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        let Some((stem, last)) = ring_of(key) else { return self.rows.get(key).map(Option::as_ref) };
        let ring = self.rings.get(stem)?;
        let at = ring.binary_search_by_key(&last, |(last, _)| *last).ok()?;
        Some(ring[at].1.as_ref())
    }

    /// The rows between two bounds, in lists that are each in order; no key is in two of them.
    pub fn lists<'a>(&'a self, from: Bound<&'a [u8]>, to: Bound<&'a [u8]>) -> impl Iterator<Item = Rows<'a>> {
        let row = |key: &'a Bytes| (key.clone(), self.rows.get(key).and_then(Option::as_ref));
        let rows = self.rows.keys(from, to).map(move |keys| Box::new(keys.map(row)) as Rows);
        // The bound may be within a ring.
        let first = from.map(|from| stem_of(from).unwrap_or(from));
        let first = match first {
            Bound::Excluded(stem) => Bound::Included(stem),
            first => first,
        };
        let ring = |stem: &'a Bytes| {
            let ring = self.rings.get(stem).map_or(&[][..], Vec::as_slice);
            ring.iter().map(|(last, value)| (joined(stem, *last), value.as_ref()))
        };
        let is_between = move |(key, _): &(Bytes, _)| !is_before(key, from) && is_within(key, to);
        let rings = self.rings.keys(first, to);
        rows.chain(rings.map(move |stems| Box::new(stems.flat_map(ring).filter(is_between)) as Rows))
    }

    /// No more rows come.
    pub fn close(&mut self) {
        self.rows.close();
        self.rings.close();
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// This layer on top of an older one, as one. It takes as long as the smaller of them.
    pub fn over(mut self, mut below: Layer) -> Layer {
        if self.count < below.count {
            self.into_all().for_each(|(key, value)| below.set(&key, value));
            return below;
        }
        for (key, value) in below.into_all() {
            if self.get(&key).is_none() {
                self.set(&key, value);
            }
        }
        self
    }

    /// All rows, in no order.
    fn into_all(self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
        let ring = |(stem, ring): (Bytes, Ring)| {
            ring.into_iter().map(move |(last, value)| (joined(&stem, last), value))
        };
        self.rows.into_all().chain(self.rings.into_all().flat_map(ring))
    }

    pub fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Acquire)
    }

    /// The engine has all of it now.
    pub fn set_flushed(&self) {
        self.flushed.store(true, Ordering::Release);
    }
}

fn bytes_of(value: Option<&Bytes>) -> u64 {
    value.map_or(REMOVED_BYTES, |value| value.len() as u64)
}

/// The key of a row of a ring.
fn joined(stem: &[u8], last: u8) -> Bytes {
    let mut key = Vec::with_capacity(stem.len() + 1);
    key.extend_from_slice(stem);
    key.push(last);
    key.into()
}
