//! Expiry: what has a deadline is gone once the shard's newest version reaches it.
//!
//! Every read and update sees it gone at once. The row itself is removed by the next write of its key, or by a sweep at
//! the end of an apply. Either way it counts as deleted at the first version of its deadline's microsecond, whenever the
//! removal came.
//!
//! What is left of a deleted key, its tombstone and older revisions, has a deadline too: when that has passed, the sweep
//! takes the last of it away.
//!
//! # The sweep
//!
//! A row of the index is removed once its whole second has passed, the earliest first. How many an apply removes follows
//! from its entry alone, so all replicas remove the same: whoever sets a deadline pays for one that has passed, all ops
//! together for a few more, and an [`kv::Op::Advance`], which a leader orders when something is due, for
//! [`EXPIRED_PER_APPLY_MAX`].
//!
//! In a log-structured engine a removed row costs whoever passes over it. So the rows of each second are counted, in
//! memory: no scan is begun that finds nothing, and the next one begins where the last one ended. A deadline that is set has
//! not passed, hence no row comes to lie before that place; should one, the place goes back to it.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::{ReplicaId, Version};
use mutant::Mutant;

use super::older;
use super::record::{Head, Record};
use super::write::Writer;
use crate::engine::{EngineError, View};
use crate::keys::{RowSet, parts_of_expiry};

/// Rows that one apply removes because their time has passed: it stays within the length of a turn.
pub const EXPIRED_PER_APPLY_MAX: usize = 256;
/// Of the ops of an entry, every so many pay for one row.
const OPS_PER_ROW: usize = 16;
/// The index is counted in steps of two to the power of this, in microseconds: 1.05 s.
const SECOND_BITS: u32 = 20;

/// The version at which an expired row counts as deleted. It is behind the row's own: no row is stored whose deadline
/// has passed.
pub fn version_of(head: &Head) -> Version {
    Version::new(head.deadline.unwrap_or(u64::MAX), ReplicaId(0))
}

/// How many rows the sweep of an entry may remove: `set` deadlines were set in it.
pub fn allowance(ops: usize, advances: bool, set: usize) -> usize {
    let earned = set + ops / OPS_PER_ROW;
    if advances { EXPIRED_PER_APPLY_MAX } else { earned.min(EXPIRED_PER_APPLY_MAX) }
}

/// What is known in memory of the expiry index of a shard.
#[derive(Default)]
pub struct Deadlines {
    /// Rows by second; none of them is 0.
    seconds: BTreeMap<u64, u64>,
    /// No row of a second that has passed lies before this one.
    cursor: Bytes,
    /// Rows that were put since the last sweep.
    set: usize,
    /// Rows that the last sweep was allowed to remove and did not: with one left, nothing was overdue any more. 0 of a copy
    /// that was just loaded.
    left: usize,
}

impl Deadlines {
    /// Counts the index of a copy.
    pub fn load(rows: &dyn View, set: RowSet) -> Result<Deadlines, EngineError> {
        let mut deadlines = Deadlines::default();
        let (from, to) = (set.expiry_begin(), set.session_begin());
        rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, _| {
            deadlines.put(&row);
            ControlFlow::Continue(())
        })?;
        deadlines.set = 0;
        Ok(deadlines)
    }

    /// When the first second has passed, in microseconds since 1970: then a sweep finds something.
    pub fn due(&self) -> Option<u64> {
        self.seconds.first_key_value().map(|(second, _)| (second + 1) << SECOND_BITS)
    }

    /// A row of the index was put.
    pub fn put(&mut self, row: &Bytes) {
        *self.seconds.entry(second_of(row)).or_default() += 1;
        self.set += 1;
        self.go_back(row);
    }

    /// The next sweep begins no later than here.
    fn go_back(&mut self, row: &Bytes) {
        if *row < self.cursor {
            self.cursor = row.clone();
        }
    }

    /// A row of the index was removed.
    pub fn removed(&mut self, row: &Bytes) {
        let second = second_of(row);
        let left = self.seconds.get_mut(&second).expect("a row of the index is counted while it is there");
        assert!(*left > 0, "a second without rows is not kept");
        *left -= 1;
        if *left == 0 {
            self.seconds.remove(&second);
        }
    }

    /// Checks what is known against all rows of the index, in order, at a shard's newest version.
    pub fn audit(&self, rows: &[Bytes], last: Version) -> Result<(), String> {
        let mut seconds: BTreeMap<u64, u64> = BTreeMap::new();
        rows.iter().for_each(|row| *seconds.entry(second_of(row)).or_default() += 1);
        if seconds != self.seconds {
            return Err(format!(
                "the index has rows by second {seconds:?}, and {:?} are counted",
                self.seconds
            ));
        }
        let Some(first) = rows.first().filter(|row| second_of(row) < second_at(last)) else { return Ok(()) };
        let overdue = first.escape_ascii();
        if *first < self.cursor {
            let cursor = self.cursor.escape_ascii();
            return Err(format!("the next sweep begins at {cursor}, behind what is overdue: {overdue}"));
        }
        match self.left {
            0 => Ok(()),
            left => Err(format!("the last sweep could have removed {left} rows more, and left {overdue}")),
        }
    }

    /// How many rows were put since the last sweep.
    pub fn take_set(&mut self) -> usize {
        std::mem::take(&mut self.set)
    }
}

fn second_of(row: &Bytes) -> u64 {
    parts_of_expiry(row).0 >> SECOND_BITS
}

/// The second of a version: those before it have passed.
fn second_at(version: Version) -> u64 {
    version.micros() >> SECOND_BITS
}

impl Writer<'_> {
    /// Removes rows whose second has passed, the earliest first and so many at most.
    pub fn sweep(&mut self, rows_max: usize) -> Result<(), EngineError> {
        let passed = second_at(self.version());
        let passed = if mutant::is(Mutant::ExpirySweepEndsEarly) { passed.saturating_sub(1) } else { passed };
        self.deadlines.left = rows_max;
        let Some((&first, _)) = self.deadlines.seconds.first_key_value() else { return Ok(()) };
        if first >= passed || rows_max == 0 {
            return Ok(());
        }
        let begin = self.set.expiry(first << SECOND_BITS, b"").max(self.deadlines.cursor.clone());
        let begin =
            if mutant::is(Mutant::ExpirySweepsFromTheStart) { self.set.expiry_begin() } else { begin };
        let end = self.set.expiry(passed << SECOND_BITS, b"");
        let mut rows = Vec::new();
        self.fresh.scan(Bound::Included(&begin), Bound::Excluded(&end), false, &mut |row, _| {
            rows.push(row);
            if rows.len() < rows_max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        assert!(rows.first().is_none_or(|row| *row >= begin), "a sweep goes on where it is to");
        assert!(rows.last().is_none_or(|row| *row < end), "a sweep takes what is overdue");
        // What is put meanwhile goes before it: a deleted key has a deadline too.
        self.deadlines.cursor = rows.last().cloned().unwrap_or(begin);
        let mut removed = 0;
        for row in rows {
            removed += self.remove_overdue(&row, rows_max - removed)?;
            if removed >= rows_max {
                self.deadlines.go_back(&row);
                break;
            }
        }
        if mutant::is(Mutant::ExpirySweepSkipsRows) {
            self.deadlines.cursor = end;
        }
        self.deadlines.left = rows_max.saturating_sub(removed);
        Ok(())
    }

    /// Removes what a row of the index stands for, or some of it; returns how many rows.
    fn remove_overdue(&mut self, row: &Bytes, rows_max: usize) -> Result<usize, EngineError> {
        let (deadline, key) = parts_of_expiry(row);
        let found = self.newest(&key)?.filter(|found| found.head.deadline == Some(deadline));
        let found = found.ok_or_else(|| {
            EngineError::corrupt(
                "removing what has expired",
                "the index names a deadline that its key has not",
            )
        })?;
        if found.head.merged.is_some() {
            self.merge_expiry(&key, &found)?;
            return Ok(1);
        }
        if found.head.tombstone {
            return self.forget_deleted(&key, &found, rows_max);
        }
        let version = version_of(&found.head);
        self.bury(&key, found, version)?;
        Ok(1)
    }

    /// Removes what is left of a deleted key, the oldest revisions first and the tombstone last.
    fn forget_deleted(
        &mut self,
        key: &Bytes,
        tombstone: &Record,
        rows_max: usize,
    ) -> Result<usize, EngineError> {
        let ordinals = older::older(&tombstone.head);
        let removed = (ordinals.end - ordinals.start).min(rows_max as u64);
        let kept = tombstone.head.kept;
        assert!(removed <= kept, "{removed} older revisions are to go, and {kept} are kept");
        for ordinal in ordinals.take(rows_max) {
            self.remove(self.places(&tombstone.head).row(self.set, key, ordinal))?;
        }
        if removed == tombstone.head.kept {
            self.forget_key(key, &tombstone.head)?;
        } else {
            let head = Head { kept: tombstone.head.kept - removed, ..tombstone.head };
            self.put(self.set.current(key), head.encode(&[]))?;
        }
        Ok(removed as usize + 1)
    }

    /// Removes a tombstone that no older revision is kept of any more.
    pub fn forget_key(&mut self, key: &[u8], tombstone: &Head) -> Result<(), EngineError> {
        assert!(tombstone.tombstone, "a key with a value is not forgotten");
        assert!(tombstone.version <= self.version(), "it was deleted at {}, before it is", tombstone.version);
        self.index(key, tombstone.deadline, None)?;
        self.remove(self.set.current(key))?;
        self.state.floor = self.state.floor.max(tombstone.version);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use kv::ShardId;

    use super::*;

    #[test]
    fn audit_row_that_the_next_sweep_begins_behind_is_told() {
        let set = RowSet { shard: ShardId(1), generation: 1 };
        let row = set.expiry(5, b"k");
        let mut deadlines = Deadlines::default();
        deadlines.put(&row);
        let later = Version::new(1 << (SECOND_BITS + 1), ReplicaId(1));
        assert_eq!(deadlines.audit(std::slice::from_ref(&row), later), Ok(()), "it may have had no room");
        deadlines.cursor = set.expiry(6, b"");
        let why = deadlines.audit(std::slice::from_ref(&row), later).unwrap_err();
        assert!(why.contains("behind what is overdue"), "{why}");
        assert_eq!(
            deadlines.audit(&[row], Version::new(7, ReplicaId(1))),
            Ok(()),
            "its second has not passed"
        );
    }
}
