//! Copies that are not current: their rows go, a piece at a time, and what they took of a disk comes back.
//!
//! The engine lets go at once of what has nothing but such rows. The others are removed one by one, which frees nothing yet: the marks
//! of removed rows reach the engine with a flush, and go with the rows when it finds that worth its while. So it is told how much is
//! gone ([`Intake::gone`](crate::engine::Intake::gone)), and whoever owns the table, that there is something to flush
//! ([`Table::has_gone`]).

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::ShardId;
use mutant::Mutant;

use super::Table;
use super::shard::Shard;
use crate::engine::{EngineError, View};
use crate::keys::RowSet;

/// Rows that one call of [`Table::forget`] removes: a millisecond or two.
const FORGOTTEN_ROWS_MAX: usize = 1024;

/// What is known of copies that are not current.
#[derive(Default)]
pub(super) struct Leftovers {
    /// The last row removed of those that are being forgotten: what is before it need not be passed over again.
    forgetting: BTreeMap<RowSet, Bytes>,
    /// What those held that were current, in bytes of keys and values.
    bytes: BTreeMap<RowSet, u64>,
}

impl Leftovers {
    /// A copy is current no more.
    pub fn note(&mut self, shard: Option<Shard>) {
        self.bytes.extend(shard.map(|shard| (shard.set, shard.state.usage.bytes)));
    }

    /// A copy is current.
    pub fn forget(&mut self, set: RowSet) {
        self.forgetting.remove(&set);
        self.bytes.remove(&set);
    }
}

impl Table {
    /// Lets go of a shard that is not to be used any more; its rows stay until they are [forgotten](Table::forget).
    pub fn close(&mut self, shard: ShardId) {
        let closed = self.shards.remove(&shard);
        closed.iter().for_each(|closed| self.fresh.note_no_more(&closed.set.prefix()));
        self.leftovers.note(closed);
    }

    /// Removes rows of a copy that is not current; returns whether there are more.
    pub fn forget(&mut self, shard: ShardId, generation: u32) -> Result<bool, EngineError> {
        let set = RowSet { shard, generation };
        assert!(
            self.shards.get(&shard).is_none_or(|current| current.set != set),
            "the current copy of shard {shard} is not to be forgotten: load another first"
        );
        self.installs.remove(&set);
        if mutant::is(Mutant::SnapshotOverLeftovers) {
            return Ok(false);
        }
        let (begin, end) = match self.leftovers.forgetting.get(&set) {
            Some(last) => (last.clone(), set.end()),
            None => (self.begin_to_forget(set)?, set.end()),
        };
        let mut rows = Vec::new();
        self.fresh.scan(Bound::Included(&begin), Bound::Excluded(&end), false, &mut |row, _| {
            rows.push(row);
            if rows.len() == FORGOTTEN_ROWS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        assert!(rows.first().is_none_or(|row| *row >= begin), "rows of the copy that is forgotten");
        assert!(rows.last().is_none_or(|row| *row < end), "rows of the copy that is forgotten");
        // Copied: a row must not hold on to the block it was read from.
        rows.iter().for_each(|row| self.fresh.remove(Bytes::copy_from_slice(row)));
        let more = rows.len() == FORGOTTEN_ROWS_MAX;
        match rows.pop() {
            Some(last) if more => drop(self.leftovers.forgetting.insert(set, last)),
            _ => {
                let bytes = self.leftovers.bytes.remove(&set).unwrap_or_default();
                self.leftovers.forgetting.remove(&set);
                self.fresh.note_gone(bytes);
            }
        }
        Ok(more)
    }

    /// Whether copies are gone since the last flush: the next one may bring their space back.
    pub fn has_gone(&self) -> bool {
        self.fresh.has_gone()
    }

    /// Before the first row is removed: marks that were let go of later would show again what they had removed.
    fn begin_to_forget(&mut self, set: RowSet) -> Result<Bytes, EngineError> {
        let (begin, end) = (Bytes::copy_from_slice(set.state().as_ref()), set.end());
        match self.fresh.let_go_between(&begin, &end) {
            Ok(freed) => {
                let bytes = self.leftovers.bytes.entry(set).or_default();
                *bytes = bytes.saturating_sub(freed);
            }
            // Its rows are removed all the same.
            Err(error) if error.may_pass() => {}
            Err(error) => return Err(error),
        }
        Ok(begin)
    }
}
