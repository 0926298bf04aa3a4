//! Rows are merged, and tombstones collected.

use std::ops::ControlFlow;

use bytes::Bytes;
use kv::merged::{Named, Row};
use kv::{Answer, Key, Op, Version};

use super::older;
use crate::engine::EngineError;
use crate::table::layout::Layout;
use crate::table::record::{Head, Merged, Record};
use crate::table::write::Writer;
use crate::table::{History, Stop};

impl Writer<'_> {
    /// Evaluates what writes in the merged layout.
    pub fn evaluate_merged(&mut self, op: &Op) -> Result<Answer, Stop> {
        let count = match op {
            Op::Merge { rows } => {
                let mut news = 0;
                for row in rows {
                    news += u64::from(self.merge(row)?);
                }
                news
            }
            Op::Collect { tombstones } => self.collect(tombstones)?,
            Op::Advance { .. } => 0,
            _ => return Err(super::refused(Layout::Merged)),
        };
        Ok(Answer::Trimmed { count, next: None })
    }

    /// Takes a row in; returns whether it is kept and was not yet.
    fn merge(&mut self, row: &Row) -> Result<bool, EngineError> {
        match self.newest(&row.key)? {
            Some(newest) if row.rank().revision() <= newest.head.rank().revision() => {
                self.merge_older(row, &newest)
            }
            None if row.known => Ok(false),
            newest => self.merge_newest(row, newest.as_ref()).map(|()| true),
        }
    }

    /// The row becomes the newest of its key.
    fn merge_newest(&mut self, row: &Row, old: Option<&Record>) -> Result<(), EngineError> {
        let key = &row.key;
        let mut head = Head::of_merged(row);
        if let Some(old) = old {
            let merged = head.merged.map(|merged| Merged { oldest: oldest(&old.head), ..merged });
            head = Head { first: head.first && old.head.first, kept: old.head.kept, merged, ..head };
            raise_floor(&mut head, old.head.floor());
            // Below another row the deadline of a value says all that its expiry does.
            if !old.head.rank().expired || self.history.keep() == 1 {
                self.keep_older(key, &mut head, &old.merged_row(key))?;
            }
            self.buckets.remove(key, old.head.rank());
        }
        self.shed(key, &mut head)?;
        self.buckets.add(key, head.rank());
        let deadline = old.and_then(|old| old.head.due());
        self.index(key, deadline, head.due())?;
        match &row.value {
            Some(value) => self.count_stored(key, old, value.len()),
            None => self.count_gone(key, old),
        }
        self.index_tombstone(key, old.is_some_and(|old| old.head.tombstone), head.tombstone)?;
        self.put(self.set.current(key), head.encode(&[row.value.as_deref().unwrap_or_default()]))
    }

    /// The row goes where its version belongs, below the newest, and its floor to the newest; returns whether one of them is news.
    fn merge_older(&mut self, row: &Row, newest: &Record) -> Result<bool, EngineError> {
        let (key, before) = (&row.key, newest.head);
        let mut head = before;
        raise_floor(&mut head, row.floor);
        let is_full = before.kept > 0 && before.kept >= self.history.keep() - 1;
        let is_new = self.is_missing(row, &before)?;
        if is_new && is_full && row.version < oldest(&before) {
            // It would go at once, and leave a mark that the next late ones pass over.
            head.first = false;
        } else if is_new {
            self.keep_older(key, &mut head, row)?;
        }
        self.shed(key, &mut head)?;
        if head != before {
            self.put(self.set.current(key), head.encode(&[&newest.value()]))?;
        }
        let is_trimmed = head.floor() > before.floor();
        if is_trimmed {
            self.buckets.remove(key, before.rank());
            self.buckets.add(key, head.rank());
        }
        Ok(is_trimmed || is_new && head.kept > 0 && oldest(&head) <= row.version)
    }

    /// Whether a row that is not above the newest says something of the older revisions that is not known yet.
    fn is_missing(&self, row: &Row, newest: &Head) -> Result<bool, EngineError> {
        let is_newest = row.rank().revision() == newest.rank().revision();
        if is_newest || row.expired && self.history.keep() > 1 {
            return Ok(false);
        }
        let place = older::row(self.set, &row.key, row.version);
        Ok(newest.kept == 0 || self.fresh.get_own(place.as_ref())?.is_none())
    }

    /// Puts a value or deletion among the older revisions of a key, if any are kept and it is not below the floor.
    fn keep_older(&mut self, key: &[u8], newest: &mut Head, row: &Row) -> Result<(), EngineError> {
        if row.version < newest.floor() {
            return Ok(());
        }
        if self.history.keep() == 1 {
            // An expiry says by itself that its value was there.
            newest.first &= row.version == newest.version;
            return Ok(());
        }
        // The floor is the key's, and stands in the newest revision.
        let row = Row { floor: Version::ZERO, ..row.clone() };
        let raw = Head::of_merged(&row).encode(&[row.value.as_deref().unwrap_or_default()]);
        self.put(older::row(self.set, key, row.version), raw)?;
        newest.kept += 1;
        let is_oldest = newest.kept == 1 || row.version < oldest(newest);
        set_oldest(newest, if is_oldest { row.version } else { oldest(newest) });
        Ok(())
    }

    /// Drops what the history does not want of the older revisions, and what is below the floor, the oldest first.
    fn shed(&mut self, key: &[u8], newest: &mut Head) -> Result<(), EngineError> {
        let most = self.history.keep() - 1;
        let begin = match self.history {
            History::Micros(micros) => newest.version.micros().saturating_sub(micros),
            History::Count(_) | History::All => 0,
        };
        let floor = newest.floor();
        let is_all_wanted = newest.kept <= most && (begin == 0 || oldest(newest).micros() >= begin);
        if newest.kept == 0 || is_all_wanted && oldest(newest) >= floor {
            return Ok(());
        }
        let mut gone = Vec::new();
        let mut next = None;
        let (kept, room) = (newest.kept, self.step_max);
        // One before the begin of a time stays: it was the newest then. Below the floor none does.
        let is_wanted = |gone: usize, version: Version, behind: Version| {
            kept - gone as u64 <= most && behind.micros() >= begin && version >= floor
        };
        let mut before: Option<Version> = None;
        older::visit_all(&*self.fresh, (self.set, key, newest), &mut |record| {
            let version = record.head.version;
            if let Some(before) = before.replace(version) {
                if gone.len() == room || is_wanted(gone.len(), before, version) {
                    next = Some(before);
                    return ControlFlow::Break(());
                }
                gone.push(before);
            }
            ControlFlow::Continue(())
        })?;
        if let (None, Some(last)) = (next, before) {
            match is_wanted(gone.len(), last, newest.version) {
                true => next = Some(last),
                false => gone.push(last),
            }
        }
        for version in &gone {
            self.remove(older::row(self.set, key, *version))?;
        }
        newest.kept -= gone.len() as u64;
        newest.first &= gone.is_empty();
        set_oldest(newest, next.unwrap_or(Version::ZERO));
        Ok(())
    }

    /// Makes of a value whose deadline has passed its expiry.
    pub fn merge_expiry(&mut self, key: &Bytes, value: &Record) -> Result<(), EngineError> {
        let expiry = value.merged_row(key).expire();
        let none = || EngineError::corrupt("expiring a value", "it has no deadline");
        self.merge_newest(&expiry.ok_or_else(none)?, Some(value))
    }

    /// Forgets tombstones, as far as they are still the newest of their keys; returns how many. What finds no room stays, and is named
    /// again.
    fn collect(&mut self, tombstones: &[Named]) -> Result<u64, EngineError> {
        let (mut count, mut room) = (0, self.step_max);
        for (key, rank) in tombstones {
            let found = self.newest(key)?;
            let Some(found) = found.filter(|found| found.head.tombstone && found.head.rank() == *rank) else {
                continue;
            };
            if !self.forget_older_than(key, found.head, room)? {
                break;
            }
            room -= found.head.kept as usize;
            self.forget_collected(key, &found.head)?;
            count += 1;
        }
        Ok(count)
    }

    /// Forgets so many of the revisions before a tombstone at most, the oldest first; returns whether none is left.
    fn forget_older_than(&mut self, key: &Key, mut head: Head, room: usize) -> Result<bool, EngineError> {
        let mut versions = Vec::new();
        older::visit_all(&*self.fresh, (self.set, key, &head), &mut |record| {
            versions.push(record.head.version);
            if versions.len() > room { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let left = versions.get(room).copied();
        for version in versions.iter().take(room) {
            self.remove(older::row(self.set, key, *version))?;
        }
        if let Some(left) = left.filter(|_| room > 0) {
            head.kept -= room as u64;
            head.first = false;
            set_oldest(&mut head, left);
            self.put(self.set.current(key), head.encode(&[]))?;
        }
        Ok(left.is_none())
    }

    /// Removes a tombstone that nothing is kept before any more.
    fn forget_collected(&mut self, key: &Key, tombstone: &Head) -> Result<(), EngineError> {
        self.buckets.remove(key, tombstone.rank());
        self.index_tombstone(key, true, false)?;
        self.remove(self.set.current(key))?;
        let state = &mut self.state;
        state.floor = state.floor.max(tombstone.since());
        // An expiry may be known before its deadline has come.
        state.last = state.last.max(state.floor);
        Ok(())
    }

    fn index_tombstone(&mut self, key: &[u8], was: bool, is: bool) -> Result<(), EngineError> {
        match (was, is) {
            (false, true) => self.put(self.set.tombstone(key), Bytes::new()),
            (true, false) => self.remove(self.set.tombstone(key)),
            _ => Ok(()),
        }
    }
}

/// Nothing below this version is kept of a key any more, and whether there was something is not said.
fn raise_floor(newest: &mut Head, floor: Version) {
    if floor > newest.floor() {
        newest.first = false;
        newest.merged = newest.merged.map(|merged| Merged { floor, ..merged });
    }
}

fn oldest(newest: &Head) -> Version {
    newest.merged.map_or(Version::ZERO, |merged| merged.oldest)
}

fn set_oldest(newest: &mut Head, oldest: Version) {
    newest.merged = newest.merged.map(|merged| Merged { oldest, ..merged });
}
