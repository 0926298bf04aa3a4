//! Older revisions of a key: where they lie, and how one is found.
//!
//! The revisions of a key are counted, and the kept ones are those right before the newest. With a history of `N` they lie in
//! a ring of `N - 1` places, the revision of ordinal `o` at `o mod (N - 1)`: the next one to become old is written over the
//! oldest, and nothing has to be looked for or removed. Versions rise with ordinals, so the revision of a version is found
//! by halving.
//!
//! # Another history
//!
//! The places depend on `N`, and `N` may change while keys have revisions. So the newest revision of each key says how the others
//! lie ([`Places`]), and a key whose revisions lie otherwise than they would now is seen to when it is written next:
//!
//! ```text
//!   few are kept                             all of them are laid anew, at once
//!   more than fit are kept, or too many      from here on they lie by their ordinals, beside the ring where the earlier ones
//!                                            stay; a few of those that are too many go with each write
//! ```
//!
//! With a history of a time the revisions lie by their ordinals, and a few of those whose time is over go with each write.
//!
//! # Caveats
//!
//! A key that is not written again keeps what it has, whatever its history is by now.

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

/// Revisions of a key that are laid anew at once: it costs no more than a few writes.
pub const LAID_MAX: u64 = 64;
/// Revisions that are too many and go with one write: more than a write adds, and few enough to be quick.
pub const SHED_MAX: u64 = 16;

/// How the older revisions of a key lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Places {
    /// Places of the ring. At least 1.
    pub places: u64,
    /// The revisions from this ordinal on lie by their ordinals, beside the ring.
    pub ring_until: u64,
}

impl Places {
    /// Where so many revisions are kept of each key, the newest included.
    pub fn of(keep: u64) -> Places {
        Places { places: (keep - 1).max(1), ring_until: u64::MAX }
    }

    /// The same, with what comes from an ordinal on lying beside the ring.
    pub fn until(self, ordinal: u64) -> Places {
        Places { ring_until: self.ring_until.min(ordinal), ..self }
    }

    /// The row of an older revision.
    pub fn row(self, set: RowSet, key: &[u8], ordinal: u64) -> RowKey {
        set.history(key, if ordinal < self.ring_until { ordinal % self.places } else { ordinal })
    }
}

impl Reader<'_> {
    /// An older revision that is kept.
    pub fn older(&self, key: &[u8], newest: &Head, ordinal: u64) -> Result<Record, EngineError> {
        let missing = || EngineError::corrupt("reading an older revision", "it is missing");
        let places = newest.places.unwrap_or(self.usual);
        let raw = self.rows.get(&places.row(self.set, key, ordinal))?.ok_or_else(missing)?;
        Record::decode(raw)
    }

    /// The newest of the older revisions up to a version.
    pub fn older_at(&self, key: &[u8], newest: &Head, at: Version) -> Result<Option<Record>, EngineError> {
        if newest.merged.is_some() {
            return self.merged_at(key, newest, at);
        }
        Ok(self.divide(key, newest, older(newest), |version| version <= at)?.before)
    }

    /// Finds where older revisions divide into those whose versions are low and those behind them, by halving.
    pub fn divide(
        &self,
        key: &[u8],
        newest: &Head,
        ordinals: Range<u64>,
        is_low: impl Fn(Version) -> bool,
    ) -> Result<Divided, EngineError> {
        let Range { mut start, mut end } = ordinals;
        let (mut before, mut looks, mut bytes) = (None, 0, 0);
        while start < end {
            let middle = start + (end - start) / 2;
            let record = self.older(key, newest, middle)?;
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
        let of = |key, ordinal, keep| Places::of(keep).row(set, key, ordinal).to_vec();
        let places = |keep| (0..100).map(|ordinal| of(b"k", ordinal, keep)).collect::<BTreeSet<_>>().len();
        assert_eq!((places(2), places(16), places(u64::MAX)), (1, 15, 100));
        assert_ne!(of(b"k", 7, 16), of(b"j", 7, 16));
    }

    #[test]
    fn older_revisions_beside_a_ring_take_no_place_of_it() {
        let set = RowSet { shard: ShardId(1), generation: 1 };
        for first in [3, 70, 100, 1000] {
            let places = Places::of(101).until(first);
            let rows = (first.saturating_sub(100)..first + 100)
                .map(|ordinal| places.row(set, b"k", ordinal).to_vec());
            assert_eq!(rows.collect::<BTreeSet<_>>().len() as u64, 100 + first.min(100));
        }
    }
}
