//! The digests of a copy's buckets: what they are is in [`kv::merged`].
//!
//! They are kept in memory, and those that an entry has changed are written at its end, so a flush has them as of the rows. A bucket
//! whose sum is 0 has no row: what is written follows from the rows alone.

use std::collections::BTreeSet;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::Key;
use kv::merged::{BUCKETS, Rank, bucket, digest};

use crate::engine::{EngineError, View};
use crate::fresh::Fresh;
use crate::keys::{RowSet, bucket_of, key_of_current};
use crate::table::record::Record;

/// The sums of a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    /// By bucket; none at all of a copy that has no rows yet.
    sums: Vec<u64>,
    /// Those that are not written yet.
    changed: BTreeSet<u16>,
}

impl Buckets {
    /// As they are stored.
    pub fn load(rows: &dyn View, set: RowSet) -> Result<Buckets, EngineError> {
        let (begin, end) = (set.bucket_begin(), set.tombstone(b""));
        let (mut buckets, mut is_sound) = (Buckets::default(), true);
        rows.scan(Bound::Included(&begin), Bound::Excluded(end.as_ref()), false, &mut |row, raw| {
            let sum = raw.as_ref().try_into().map(u64::from_be_bytes);
            is_sound = sum.is_ok() && bucket_of(&row) < BUCKETS;
            match (is_sound, sum) {
                (true, Ok(sum)) => *buckets.sum(bucket_of(&row)) = sum,
                _ => return ControlFlow::Break(()),
            }
            ControlFlow::Continue(())
        })?;
        if is_sound {
            Ok(buckets)
        } else {
            Err(EngineError::corrupt("reading the digest of a bucket", "it is none"))
        }
    }

    /// As they must be, from the rows. It reads all newest ones.
    pub fn count(rows: &dyn View, set: RowSet) -> Result<Buckets, EngineError> {
        let (from, to) = (set.current(b""), set.current_end());
        let (mut buckets, mut failed) = (Buckets::default(), Ok(()));
        rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, raw| {
            match Record::decode(raw) {
                Ok(record) => buckets.add(&key_of_current(&row), record.head.rank()),
                Err(error) => failed = Err(error),
            }
            if failed.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        failed.map(|()| buckets)
    }

    /// A row has become the newest of its key.
    pub fn add(&mut self, key: &[u8], rank: Rank) {
        let sum = self.sum(bucket(key));
        *sum = sum.wrapping_add(digest(key, rank));
        self.changed.insert(bucket(key));
    }

    /// A row is not the newest of its key any more.
    pub fn remove(&mut self, key: &[u8], rank: Rank) {
        let sum = self.sum(bucket(key));
        *sum = sum.wrapping_sub(digest(key, rank));
        self.changed.insert(bucket(key));
    }

    /// Writes what has changed.
    pub fn write(&mut self, fresh: &mut Fresh, set: RowSet) {
        for bucket in std::mem::take(&mut self.changed) {
            match *self.sum(bucket) {
                0 => fresh.remove(set.bucket(bucket)),
                sum => fresh.put(set.bucket(bucket), Bytes::copy_from_slice(&sum.to_be_bytes())),
            }
        }
    }

    /// The sums of `count` buckets from the `first`, of `width` each together.
    pub fn sums(&self, first: u16, count: u16, width: u16) -> Vec<u64> {
        let end = first.saturating_add(count).min(BUCKETS);
        let all: Vec<u64> = (first..end).map(|bucket| self.get(bucket)).collect();
        let of = |part: &[u64]| part.iter().fold(0u64, |sum, one| sum.wrapping_add(*one));
        all.chunks(usize::from(width.max(1))).map(of).collect()
    }

    /// Whether these are the same sums.
    pub fn is_like(&self, other: &Buckets) -> bool {
        (0..BUCKETS).all(|bucket| self.get(bucket) == other.get(bucket))
    }

    fn get(&self, bucket: u16) -> u64 {
        self.sums.get(usize::from(bucket)).copied().unwrap_or_default()
    }

    fn sum(&mut self, bucket: u16) -> &mut u64 {
        if self.sums.is_empty() {
            self.sums = vec![0; usize::from(BUCKETS)];
        }
        &mut self.sums[usize::from(bucket)]
    }
}

/// Whether a key is in one of these buckets, which rise.
pub fn is_among(key: &Key, buckets: &[u16]) -> bool {
    buckets.binary_search(&bucket(key)).is_ok()
}
