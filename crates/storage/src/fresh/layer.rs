//! One layer of rows: found by hash, and kept in order beside it.
//!
//! Most rows are written again while their layer is: then the hash is all that is looked at. The order is touched once for
//! each key.

use std::collections::hash_map::Entry;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::order::{Keys, Order};
use super::rows::Rows;

/// What a row takes beside its bytes: its places in the hash and in the order, and the heads of its buffers.
const ROW_BYTES: u64 = 192;
/// A removal counts for so many bytes more: every scan passes over it until it is flushed and merged away.
const REMOVED_BYTES: u64 = 512;

/// Rows that were written between two cuts, each key once.
#[derive(Default)]
pub struct Layer {
    rows: Rows,
    /// The keys of `rows`.
    order: Order,
    /// What the rows take and count for.
    bytes: u64,
    /// The engine has all of it.
    flushed: AtomicBool,
}

impl Layer {
    /// Writes a row, or that it is removed.
    pub fn set(&mut self, key: Bytes, value: Option<Bytes>) {
        self.bytes += bytes_of(&key, value.as_ref());
        match self.rows.entry(key) {
            Entry::Occupied(mut row) => {
                self.bytes -= bytes_of(row.key(), row.get().as_ref());
                row.insert(value);
            }
            Entry::Vacant(row) => {
                self.order.add(row.key().clone());
                row.insert(value);
            }
        }
    }

    /// `None` = it knows nothing of the key.
    pub fn get(&self, key: &[u8]) -> Option<Option<&Bytes>> {
        self.rows.get(key).map(Option::as_ref)
    }

    /// The keys between two bounds, in lists that are each in order.
    pub fn keys<'a>(&'a self, from: Bound<&'a [u8]>, to: Bound<&'a [u8]>) -> impl Iterator<Item = Keys<'a>> {
        self.order.between(from, to)
    }

    /// No more rows come.
    pub fn close(&mut self) {
        self.order.settle();
    }

    pub fn is_empty(&self) -> bool {
        self.rows.count() == 0
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// This layer on top of an older one, as one. It takes as long as the smaller of them.
    pub fn over(mut self, mut below: Layer) -> Layer {
        if self.rows.count() < below.rows.count() {
            self.rows.into_all().for_each(|(key, value)| below.set(key, value));
            return below;
        }
        for (key, value) in below.rows.into_all() {
            if self.rows.get(&key).is_none() {
                self.set(key, value);
            }
        }
        self
    }

    pub fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Acquire)
    }

    /// The engine has all of it now.
    pub fn set_flushed(&self) {
        self.flushed.store(true, Ordering::Release);
    }
}

fn bytes_of(key: &Bytes, value: Option<&Bytes>) -> u64 {
    key.len() as u64 + ROW_BYTES + value.map_or(REMOVED_BYTES, |value| value.len() as u64)
}
