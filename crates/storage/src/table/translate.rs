//! A key's rows in another layout: what a change of protocol between those with an order and those without makes of them.
//!
//! ```text
//!   ordered                                   merged
//!   newest  k   b at 20, one kept      ->     newest  k       b at 20, was 10, the oldest at 10
//!   older   k, place 0   a at 10              older   k, 10   a
//!
//!   merged                                    ordered
//!   newest  k   b at 20, the oldest 10 ->     newest  k       b at 20, not the first
//!   newest  j   deleted at 30          ->     nothing
//!   newest  i   c until 40             ->     nothing, where the newest version is above that
//! ```
//!
//! Into the merged layout goes all that is kept of a key. Out of it comes the newest value alone: what an order would make of earlier rows
//! that came without one is nobody's to say, and they are `trimmed`. So the floor is the newest version there, and copies with the same
//! newest rows become the same copies, whatever else each of them has seen. Versions stay as they are in both ways.

use std::ops::ControlFlow;

use bytes::Bytes;
use kv::merged::Row;
use kv::{Key, Version};

use super::layout::Layout;
use super::merged;
use super::older::older;
use super::read::Reader;
use super::record::{Head, Merged, Record};
use crate::engine::EngineError;
use crate::fresh::Fresh;
use crate::keys::RowSet;

/// What a key is in another layout: its rows, by their suffixes; that of the newest revision is the first.
pub type Translated = Vec<(Bytes, Bytes)>;

impl Reader<'_> {
    /// Translates a key of the copy that is read, which lies in the other layout.
    pub fn translate(&self, key: &Key, to: Layout) -> Result<Translated, EngineError> {
        let Some(newest) = self.current(key)? else { return Ok(Translated::default()) };
        match to {
            Layout::Ordered => Ok(self.to_ordered(key, &newest)),
            Layout::Merged => self.to_merged(key, &newest),
        }
    }

    fn to_ordered(&self, key: &Key, newest: &Record) -> Translated {
        let Head { version, created, changes, deadline, .. } = newest.head;
        if !newest.is_live_at(self.state.last) {
            return Translated::new();
        }
        let (tombstone, first, ordinal, kept, places, merged) = (false, false, 0, 0, None, None);
        let head =
            Head { tombstone, first, version, created, changes, ordinal, kept, deadline, places, merged };
        with_indexes(self.set, key, &head, head.encode(&[&newest.value()]))
    }

    fn to_merged(&self, key: &Key, newest: &Record) -> Result<Translated, EngineError> {
        let (mut rows, mut replaced, mut first) = (Vec::new(), None, newest.head.first);
        for (count, ordinal) in older(&newest.head).enumerate() {
            let record = self.older(key, &newest.head, ordinal)?;
            if count == 0 {
                first = record.head.first;
            }
            let row = row_of(key, &record, replaced);
            replaced = Some(row.version);
            let raw = Head::of_merged(&row).encode(&[row.value.as_deref().unwrap_or_default()]);
            let suffix = RowSet::suffix(&merged::older_row(self.set, key, row.version).into());
            rows.push((row.version, suffix, raw));
        }
        let row = row_of(key, newest, replaced);
        let oldest = rows.first().map_or(Version::ZERO, |(version, _, _)| *version);
        let merged = Head::of_merged(&row).merged.map(|merged| Merged { oldest, ..merged });
        let head = Head { first, kept: rows.len() as u64, merged, ..Head::of_merged(&row) };
        let raw = head.encode(&[row.value.as_deref().unwrap_or_default()]);
        let older = rows.into_iter().map(|(_, suffix, raw)| (suffix, raw));
        let mut rows = with_indexes(self.set, key, &head, raw);
        rows.extend(older);
        Ok(rows)
    }
}

/// A revision of the ordered layout as a row.
fn row_of(key: &Key, record: &Record, replaced: Option<Version>) -> Row {
    let row = Row { replaced, ..record.merged_row(key) };
    // A tombstone of the ordered layout has a time at which it is forgotten.
    if row.value.is_none() { Row::tombstone(row.key, row.version, replaced) } else { row }
}

/// The row of a newest revision, and those of the indexes that name it.
fn with_indexes(set: RowSet, key: &Key, head: &Head, raw: Bytes) -> Vec<(Bytes, Bytes)> {
    let suffix = |row: Bytes| RowSet::suffix(&row);
    let mut rows = vec![(suffix(set.current(key).into()), raw)];
    rows.extend(head.due().map(|deadline| (suffix(set.expiry(deadline, key)), Bytes::new())));
    if head.tombstone && head.merged.is_some() {
        rows.push((suffix(set.tombstone(key).into()), Bytes::new()));
    }
    rows
}

/// Removes the rows of a key of a translated copy; returns the newest revision.
pub fn remove_translated(fresh: &mut Fresh, set: RowSet, key: &Key) -> Result<Option<Bytes>, EngineError> {
    let Some(raw) = fresh.get_own(set.current(key).as_ref())? else { return Ok(None) };
    let newest = Record::decode(raw.clone())?;
    let mut older = Vec::new();
    merged::visit_older(&*fresh, (set, key, &newest.head), &mut |record| {
        older.push(record.head.version);
        ControlFlow::Continue(())
    })?;
    for version in older {
        fresh.remove(merged::older_row(set, key, version));
    }
    for (suffix, _) in with_indexes(set, key, &newest.head, Bytes::new()) {
        fresh.remove(set.with_suffix(&suffix));
    }
    Ok(Some(raw))
}
