//! Values by key: found by hash, and their keys kept in order beside it.
//!
//! A value that is there is found and changed by its hash alone; the order is touched once for each key. Rows lie in pages, in the
//! order in which they came, and never move. The hash has eight bytes for each: where it lies, and enough of its hash to tell
//! it from nearly all others, so that what grows is small and is moved without a look at a key.

use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::order::{Keys, Order};

/// So many maps: one that grows moves all it has at once, and one of all rows would take as long for that as a hundred
/// writes may wait.
const MAPS: usize = 64;
/// Rows of a page.
const PAGE_ROWS: usize = 256;

/// A map of bytes to values.
pub struct Hashed<V> {
    maps: Vec<HashTable<Place>>,
    /// All are full but the last.
    pages: Vec<Vec<(Bytes, V)>>,
    order: Order,
    /// Of a random seed: clients choose the keys, and none can know which of them share a hash.
    hasher: RandomState,
}

/// Where a row lies.
struct Place {
    /// Some of the key's hash.
    hash: u32,
    /// Its number in the order of coming.
    row: u32,
}

impl<V> Default for Hashed<V> {
    fn default() -> Hashed<V> {
        Hashed {
            maps: (0..MAPS).map(|_| HashTable::new()).collect(),
            pages: Vec::new(),
            order: Order::default(),
            hasher: RandomState::new(),
        }
    }
}

impl<V> Hashed<V> {
    pub fn get(&self, key: &[u8]) -> Option<&V> {
        let (map, hash) = self.hash(key);
        let is_it = |place: &Place| place.hash == hash && row(&self.pages, place.row).0 == key;
        let place = self.maps[map].find(spread(hash), is_it)?;
        Some(&row(&self.pages, place.row).1)
    }

    /// The value of a key; where there is none, what was given is put there, and the other is true.
    pub fn get_or_put(&mut self, key: &[u8], new: V) -> (&mut V, bool) {
        let (map, hash) = self.hash(key);
        let is_it = |place: &Place| place.hash == hash && row(&self.pages, place.row).0 == key;
        let (number, is_new) = match self.maps[map].entry(spread(hash), is_it, |place| spread(place.hash)) {
            Entry::Occupied(place) => (place.get().row, false),
            Entry::Vacant(vacant) => {
                let key = Bytes::copy_from_slice(key);
                self.order.add(key.clone());
                let row = push(&mut self.pages, (key, new));
                vacant.insert(Place { hash, row });
                (row, true)
            }
        };
        let (page, place) = page_of(number);
        (&mut self.pages[page][place].1, is_new)
    }

    /// The keys between two bounds, in lists that are each in order.
    pub fn keys<'a>(&'a self, from: Bound<&'a [u8]>, to: Bound<&'a [u8]>) -> impl Iterator<Item = Keys<'a>> {
        self.order.between(from, to)
    }

    /// No more keys come.
    pub fn close(&mut self) {
        self.order.settle();
    }

    /// All of it, in no order.
    pub fn into_all(self) -> impl Iterator<Item = (Bytes, V)> {
        self.pages.into_iter().flatten()
    }

    /// Which map, and what it is told of the hash.
    fn hash(&self, key: &[u8]) -> (usize, u32) {
        let hash = self.hasher.hash_one(key);
        ((hash >> 32) as usize % MAPS, hash as u32)
    }
}

/// A map looks at both ends of a hash.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

fn page_of(number: u32) -> (usize, usize) {
    (number as usize / PAGE_ROWS, number as usize % PAGE_ROWS)
}

fn row<V>(pages: &[Vec<(Bytes, V)>], number: u32) -> &(Bytes, V) {
    let (page, place) = page_of(number);
    &pages[page][place]
}

fn push<V>(pages: &mut Vec<Vec<(Bytes, V)>>, row: (Bytes, V)) -> u32 {
    if pages.last().is_none_or(|page| page.len() == PAGE_ROWS) {
        // Most of those that have one page only have a few rows.
        pages.push(Vec::with_capacity(if pages.is_empty() { 0 } else { PAGE_ROWS }));
    }
    let full = (pages.len() - 1) * PAGE_ROWS;
    let page = pages.last_mut().expect("there is one that is not full");
    page.push(row);
    u32::try_from(full + page.len() - 1).expect("a layer is flushed long before it has so many rows")
}
