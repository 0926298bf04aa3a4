//! Whether the expiry of a copy, and what it counts, are as they must be, for tests and the simulator.
//!
//! - Each deadline of a newest revision has its row in the index, and the index has no other row. (The deadline of a
//!   tombstone is the time at which what is left of its key is forgotten.)
//! - The index is counted right in memory, second by second.
//! - No row of a second that has passed lies before the place where the next sweep begins: no sweep would come to it.
//! - What the copy holds is what its state counts.
//! - In the merged layout: the digests are those of the newest rows, the index of tombstones names these and no others, and the older revisions
//!   are those that the newest say there are.
//! - When the last sweep did not use all that it was allowed, no row is left of the seconds that have passed.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::ShardId;

use super::Table;
use super::layout::Layout;
use super::merged::Buckets;
use super::record::{Head, Record};
use super::shard::Shard;
use super::usage;
use crate::engine::{EngineError, View};
use crate::keys::{RowSet, key_of_current, key_of_suffix, key_of_tombstone};

impl Table {
    /// Checks the expiry of a shard's current copy; an error says what does not hold. It reads all of the copy.
    #[doc(hidden)]
    pub fn audit(&self, shard: ShardId) -> Result<(), String> {
        let Shard { set, state, deadlines, buckets, .. } = self.loaded(shard);
        // It is no work of the table.
        let rows = self.fresh.peek();
        let held = usage::count(&rows, *set).map_err(|error| error.to_string())?;
        if held != state.usage {
            return Err(format!("shard {shard} holds {held:?}, and counts {:?}", state.usage));
        }
        let counted = match state.layout {
            Layout::Ordered => Buckets::default(),
            Layout::Merged => Buckets::count(&rows, *set).map_err(|error| error.to_string())?,
        };
        if !counted.is_like(buckets) {
            return Err(format!("the digests of shard {shard} are not those of its rows"));
        }
        self.audit_tombstones(shard)?;
        self.audit_older(shard)?;
        let expected = expected(&rows, *set).map_err(|error| error.to_string())?;
        let found = index(&rows, *set).map_err(|error| error.to_string())?;
        if let Some(row) = expected.iter().find(|row| found.binary_search(row).is_err()) {
            return Err(format!(
                "a deadline has no row in the index of shard {shard}: {}",
                row.escape_ascii()
            ));
        }
        if let Some(row) = found.iter().find(|row| expected.binary_search(row).is_err()) {
            return Err(format!(
                "the index of shard {shard} has a row of no deadline: {}",
                row.escape_ascii()
            ));
        }
        deadlines.audit(&found, state.last).map_err(|why| format!("shard {shard} at {}: {why}", state.last))
    }
}

impl Table {
    /// In the merged layout: each newest revision that is a tombstone has its row in the index of tombstones, and nothing else has.
    fn audit_tombstones(&self, shard: ShardId) -> Result<(), String> {
        let Shard { set, .. } = *self.loaded(shard);
        let rows = self.fresh.peek();
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        let (from, to) = (set.current(b""), set.current_end());
        let mut visit = |row: Bytes, raw| {
            if Record::decode(raw).is_ok_and(|record| record.head.merged.is_some() && record.head.tombstone) {
                expected.push(key_of_current(&row));
            }
            ControlFlow::Continue(())
        };
        let scanned = rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut visit);
        scanned.map_err(|error| error.to_string())?;
        let (from, to) = (set.tombstone(b""), set.end());
        let mut visit = |row: Bytes, _| {
            found.push(key_of_tombstone(&row));
            ControlFlow::Continue(())
        };
        let scanned = rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut visit);
        scanned.map_err(|error| error.to_string())?;
        match found == expected {
            true => Ok(()),
            false => Err(format!("shard {shard} has tombstones {expected:?}, and its index says {found:?}")),
        }
    }
}

impl Table {
    /// In the merged layout: the newest revision of each key says how many older ones there are, and which is the oldest.
    fn audit_older(&self, shard: ShardId) -> Result<(), String> {
        let Shard { set, state, .. } = *self.loaded(shard);
        if state.layout == Layout::Ordered {
            return Ok(());
        }
        let rows = self.fresh.peek();
        let (mut said, mut found) = (BTreeMap::new(), BTreeMap::new());
        let (from, to) = (set.current(b""), set.current_end());
        let mut visit = |row: Bytes, raw| {
            if let Ok(Head { kept: kept @ 1.., merged: Some(merged), .. }) =
                Record::decode(raw).map(|record| record.head)
            {
                said.insert(key_of_current(&row), (kept, merged.oldest));
            }
            ControlFlow::Continue(())
        };
        let scanned = rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut visit);
        scanned.map_err(|error| error.to_string())?;
        let mut visit = |row: Bytes, raw| {
            let key = key_of_suffix(&RowSet::suffix(&row)).unwrap_or_default();
            if let Ok(record) = Record::decode(raw) {
                found.entry(key).or_insert((0, record.head.version)).0 += 1;
            }
            ControlFlow::Continue(())
        };
        let end = set.expiry_begin();
        let scanned = rows.scan(Bound::Included(&to), Bound::Excluded(&end), false, &mut visit);
        scanned.map_err(|error| error.to_string())?;
        match found == said {
            true => Ok(()),
            false => Err(format!("shard {shard} has older revisions {found:?}, and its newest say {said:?}")),
        }
    }
}

/// The rows that the index must have, in order.
fn expected(rows: &dyn View, set: RowSet) -> Result<Vec<Bytes>, EngineError> {
    let (from, to) = (set.current(b""), set.current_end());
    let (mut expected, mut failed) = (Vec::new(), Ok(()));
    rows.scan(
        Bound::Included(&from),
        Bound::Excluded(&to),
        false,
        &mut |row, raw| match Record::decode(raw) {
            Ok(record) => {
                let deadline = record.head.due();
                expected.extend(deadline.map(|deadline| set.expiry(deadline, &key_of_current(&row))));
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Err(error);
                ControlFlow::Break(())
            }
        },
    )?;
    expected.sort_unstable();
    failed.map(|()| expected)
}

/// The rows that it has, in order.
fn index(rows: &dyn View, set: RowSet) -> Result<Vec<Bytes>, EngineError> {
    let (from, to) = (set.expiry_begin(), set.session_begin());
    let mut found = Vec::new();
    rows.scan(Bound::Included(&from), Bound::Excluded(&to), false, &mut |row, _| {
        found.push(row);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use kv::{Entry, Op, ReplicaId, Stamped, Version};

    use super::*;
    use crate::table::fuzz;

    const SHARD: ShardId = ShardId(1);
    /// More than the second that the index is counted in.
    const SECOND: u64 = 2_000_000;

    fn apply(table: &mut Table, index: u64, micros: u64, op: Op) {
        let entry =
            Entry { proposed: Version::new(micros, ReplicaId(1)), ops: vec![Stamped { id: None, op }] };
        table.apply(SHARD, index, 1, &entry).unwrap();
    }

    fn expiring(key: &'static str, deadline: u64) -> Op {
        Op::Put { key: key.into(), value: "v".into(), deadline: Some(deadline), previous: false }
    }

    /// One key that expires, and the row of its deadline.
    fn table() -> (Table, Bytes) {
        let mut table = fuzz::table();
        apply(&mut table, 1, 1, expiring("k", SECOND));
        assert_eq!(table.audit(SHARD), Ok(()));
        let row = table.loaded(SHARD).set.expiry(SECOND, b"k");
        (table, row)
    }

    fn refused(table: &Table, why: &str) {
        let found = table.audit(SHARD).unwrap_err();
        assert!(found.contains(why), "{found}, and not {why}");
    }

    #[test]
    fn audit_index_that_differs_from_the_deadlines_is_told() {
        let (mut table, row) = table();
        let other = table.loaded(SHARD).set.expiry(SECOND + 1, b"k");
        table.fresh.put(other.clone(), Bytes::new());
        refused(&table, "a row of no deadline");
        table.fresh.remove(other);
        table.fresh.remove(row);
        refused(&table, "has no row in the index");
    }

    #[test]
    fn audit_index_that_is_counted_wrong_is_told() {
        let (mut table, row) = table();
        table.shards.get_mut(&SHARD).unwrap().deadlines.put(&row);
        refused(&table, "are counted");
    }

    #[test]
    fn audit_row_that_a_sweep_could_have_removed_is_told() {
        let (mut table, _) = table();
        table.shards.get_mut(&SHARD).unwrap().state.last = Version::new(3 * SECOND, ReplicaId(1));
        refused(&table, "could have removed 1 rows more");
    }
}
