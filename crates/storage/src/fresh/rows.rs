//! Rows by hash, in many small maps: a map that grows moves all it has at once, and one of all rows would take as long for
//! that as a hundred writes may wait.

use std::collections::hash_map::Entry;

use bytes::Bytes;

#[expect(clippy::disallowed_types, reason = "it is asked by key, and whoever visits all needs no order")]
type Map = std::collections::HashMap<Bytes, Option<Bytes>>;

/// So many maps: when all together have a quarter of a million rows, each moves some thousands when it grows.
const MAPS: usize = 64;

/// Values by key; what is removed is `None`.
pub struct Rows {
    maps: Vec<Map>,
    count: usize,
}

impl Default for Rows {
    fn default() -> Rows {
        Rows { maps: (0..MAPS).map(|_| Map::default()).collect(), count: 0 }
    }
}

impl Rows {
    pub fn get(&self, key: &[u8]) -> Option<&Option<Bytes>> {
        self.maps[place(key)].get(key)
    }

    /// Where a key is, or will be.
    pub fn entry(&mut self, key: Bytes) -> Entry<'_, Bytes, Option<Bytes>> {
        let entry = self.maps[place(&key)].entry(key);
        self.count += usize::from(matches!(entry, Entry::Vacant(_)));
        entry
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// All rows, in no order.
    pub fn into_all(self) -> impl Iterator<Item = (Bytes, Option<Bytes>)> {
        self.maps.into_iter().flatten()
    }
}

/// Which map. Keys that are made to fall into one place make that map as slow as one of all rows is, and nothing worse: it
/// hashes them by a secret of its own.
fn place(key: &[u8]) -> usize {
    crc32c::crc32c(key) as usize % MAPS
}
