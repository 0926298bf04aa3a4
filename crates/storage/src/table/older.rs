//! Older revisions of a key: where they lie, and how one is found.
//!
//! The revisions of a key are counted, and the kept ones are those right before the newest. With a history of `N` they lie in
//! a ring of `N - 1` places, the revision of ordinal `o` at `o mod (N - 1)`: the next one to become old is written over the
//! oldest, and nothing has to be looked for or removed. Versions rise with ordinals, so the revision of a version is found
//! by halving.
//!
//! # Caveats
//!
//! The places depend on `N`: it stays the same for the life of a copy.

use std::ops::Range;

use kv::Version;

use super::read::Reader;
use super::record::{Head, Record};
use crate::engine::EngineError;
use crate::keys::RowSet;
use crate::row_key::RowKey;

/// The ordinals of the older revisions that are kept, from the head of the newest.
pub fn older(newest: &Head) -> Range<u64> {
    newest.ordinal.saturating_sub(newest.kept)..newest.ordinal
}

/// The row of an older revision, where so many revisions are kept of each key, the newest included.
pub fn row(set: RowSet, key: &[u8], ordinal: u64, keep: u64) -> RowKey {
    set.history(key, ordinal % (keep - 1).max(1))
}

impl Reader<'_> {
    /// An older revision that is kept.
    pub fn older(&self, key: &[u8], ordinal: u64) -> Result<Record, EngineError> {
        let missing = || EngineError::corrupt("reading an older revision", "it is missing");
        let raw = self.rows.get(&row(self.set, key, ordinal, self.keep))?.ok_or_else(missing)?;
        Record::decode(raw)
    }

    /// The newest of the older revisions up to a version.
    pub fn older_at(&self, key: &[u8], newest: &Head, at: Version) -> Result<Option<Record>, EngineError> {
        Ok(self.divide(key, older(newest), |version| version <= at)?.before)
    }

    /// Finds where older revisions divide into those whose versions are low and those behind them, by halving.
    pub fn divide(
        &self,
        key: &[u8],
        ordinals: Range<u64>,
        is_low: impl Fn(Version) -> bool,
    ) -> Result<Divided, EngineError> {
        let Range { mut start, mut end } = ordinals;
        let (mut before, mut looks, mut bytes) = (None, 0, 0);
        while start < end {
            let middle = start + (end - start) / 2;
            let record = self.older(key, middle)?;
            (looks, bytes) = (looks + 1, bytes + record.raw.len());
            if is_low(record.head.version) {
                (start, before) = (middle + 1, Some(record));
            } else {
                end = middle;
            }
        }
        Ok(Divided { at: start, before, looks, bytes })
    }
}

/// Where older revisions divide, and what it took to find it.
pub struct Divided {
    /// The ordinal behind the last low one.
    pub at: u64,
    /// The last low one.
    pub before: Option<Record>,
    /// Revisions that were looked at.
    pub looks: usize,
    /// Their bytes.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kv::ShardId;

    use super::*;

    #[test]
    fn older_revisions_take_the_room_of_those_that_are_kept() {
        let set = RowSet { shard: ShardId(1), generation: 1 };
        let of = |key, ordinal, keep| row(set, key, ordinal, keep).to_vec();
        let places = |keep| (0..100).map(|ordinal| of(b"k", ordinal, keep)).collect::<BTreeSet<_>>().len();
        assert_eq!((places(2), places(16), places(u64::MAX)), (1, 15, 100));
        assert_ne!(of(b"k", 7, 16), of(b"j", 7, 16));
    }
}
