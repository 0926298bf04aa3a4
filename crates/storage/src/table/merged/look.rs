//! What a copy in the merged layout is asked by other replicas, and reads of its older revisions.

use std::ops::{Bound, ControlFlow};

use bytes::Bytes;
use kv::merged::{Found, LOOK_BYTES_MAX, LOOK_ROWS_MAX, Look, Named, Row};
use kv::{Direction, Error, Key, Range, ShardId, Version};

use super::older;
use crate::engine::EngineError;
use crate::keys::{key_of_current, key_of_tombstone};
use crate::row_key::RowKey;
use crate::table::layout::Layout;
use crate::table::range::SKIPPED_ROWS_MAX;
use crate::table::read::Reader;
use crate::table::record::{Head, Record};
use crate::table::shard::Shard;
use crate::table::{Clock, Stop, Table};

impl Table {
    /// What a shard's copy in the merged layout holds: rows as they are stored, one whose deadline has passed and that no sweep has come to
    /// among them.
    pub fn look(&self, shard: ShardId, look: &Look) -> Result<Found, EngineError> {
        let Shard { set, state, buckets, .. } = self.loaded(shard);
        assert_eq!(state.layout, Layout::Merged, "the layout of a copy that another replica looks at");
        if let Look::Digests { first, count, width } = *look {
            return Ok(Found::Digests(buckets.sums(first, count, width)));
        }
        let keep = state.keeps(self.options).history.keep();
        let (usual, hidden, clock) = (self.options.places(), Default::default(), Clock::Shard);
        Reader { rows: &self.fresh, set: *set, state, clock, keep, usual, hidden }.look(look)
    }

    /// Whether a look finds all it needs in memory: it does not wait for the engine.
    pub fn looks_in_memory(&self, shard: ShardId, look: &Look) -> bool {
        match look {
            Look::Digests { .. } => true,
            Look::Keys(keys) => {
                let set = self.loaded(shard).set;
                keys.iter().all(|key| self.fresh.in_memory(set.current(key).as_ref()).is_some())
            }
            _ => false,
        }
    }

    /// How the rows of a shard's copy lie.
    pub fn layout(&self, shard: ShardId) -> Layout {
        self.loaded(shard).state.layout
    }

    /// Up to which version a key may have been there of which nothing is kept.
    pub fn floor(&self, shard: ShardId) -> Version {
        self.loaded(shard).state.floor
    }
}

/// A page that is filled.
#[derive(Default)]
struct Filled {
    rows: Vec<Row>,
    names: Vec<Named>,
    bytes: usize,
    looked_at: usize,
    next: Option<Key>,
}

impl Filled {
    /// Whether so many bytes more would be too many, or there are enough rows.
    fn is_full(&self, more: usize, rows_max: usize) -> bool {
        let count = self.rows.len() + self.names.len();
        count >= rows_max
            || self.looked_at >= SKIPPED_ROWS_MAX
            || count > 0 && self.bytes + more > LOOK_BYTES_MAX
    }

    fn add(&mut self, row: Row) {
        self.bytes += row.bytes();
        self.rows.push(row);
    }

    fn names(self) -> Found {
        Found::Names { names: self.names, next: self.next }
    }

    fn rows(self) -> Found {
        Found::Rows { rows: self.rows, next: self.next }
    }
}

impl Reader<'_> {
    fn look(&self, look: &Look) -> Result<Found, EngineError> {
        match look {
            Look::Keys(keys) => {
                let all = keys.iter().map(|key| (key, self.current(key)));
                let mut found = Filled::default();
                for (key, record) in all {
                    if !self.add_named(&mut found, key, record?) {
                        break;
                    }
                }
                Ok(found.rows())
            }
            Look::Rows(names) => {
                let mut found = Filled::default();
                for named in names {
                    if !self.add_named(&mut found, &named.0, self.named(named)?) {
                        break;
                    }
                }
                Ok(found.rows())
            }
            Look::Range { from, to, direction, limit, after } => {
                let (from, to, page) = (from.clone(), to.clone(), after.clone());
                let range = Range { from, to, page, direction: *direction, ..Range::default() };
                let limit = if *limit == 0 { LOOK_ROWS_MAX } else { LOOK_ROWS_MAX.min(*limit as usize) };
                self.look_at_range(&range, limit)
            }
            Look::AsOf { from, to, at } => self.look_as_of(from, to.as_ref(), at.unwrap_or(Version::MAX)),
            Look::Buckets { buckets, after } => self.names_in(buckets, after.as_ref()),
            Look::Tombstones { after } => self.tombstones(after.as_ref()),
            Look::Digests { .. } => unreachable!("digests are in memory"),
        }
    }

    /// Adds what a look for names has found; returns whether there is room for more.
    fn add_named(&self, found: &mut Filled, key: &Key, record: Option<Record>) -> bool {
        let Some(record) = record else { return true };
        if found.is_full(key.len() + record.value_bytes(), LOOK_ROWS_MAX) {
            found.next = Some(key.clone());
            return false;
        }
        found.add(record.merged_row(key));
        true
    }

    /// The revision with a name, if it is the newest of its key or kept as an older one.
    fn named(&self, (key, rank): &Named) -> Result<Option<Record>, EngineError> {
        let Some(newest) = self.current(key)? else { return Ok(None) };
        if newest.head.rank().revision() == rank.revision() {
            return Ok(Some(newest));
        }
        if rank.expired || newest.head.kept == 0 || rank.version < newest.head.floor() {
            return Ok(None);
        }
        let row = older::row(self.set, key, rank.version);
        self.rows.get(row.as_ref())?.map(Record::decode).transpose()
    }

    fn look_at_range(&self, range: &Range, rows_max: usize) -> Result<Found, EngineError> {
        let mut found = Filled::default();
        self.scan_newest(range, &mut |key, record| {
            if found.is_full(key.len() + record.value_bytes(), rows_max) {
                found.next = found.rows.last().map(|row| row.key.clone());
                return ControlFlow::Break(());
            }
            found.add(record.merged_row(&key));
            found.looked_at = 0;
            ControlFlow::Continue(())
        })?;
        Ok(found.rows())
    }

    /// The rows that were the newest at a version, each with the floor of its key.
    fn look_as_of(&self, from: &Key, to: Option<&Key>, at: Version) -> Result<Found, EngineError> {
        let (mut found, mut last, mut failed) = (Filled::default(), None, Ok(()));
        let range = Range { from: from.clone(), to: to.cloned(), ..Range::default() };
        self.scan_newest(&range, &mut |key, newest| {
            let row = match self.merged_as_of(&key, newest, at) {
                Ok(row) => row,
                Err(error) => {
                    failed = Err(error);
                    return ControlFlow::Break(());
                }
            };
            if found.is_full(row.as_ref().map_or(0, Row::bytes), LOOK_ROWS_MAX) {
                found.next = last.take();
                return ControlFlow::Break(());
            }
            found.looked_at += 1;
            row.into_iter().for_each(|row| found.add(row));
            last = Some(Bytes::copy_from_slice(&key));
            ControlFlow::Continue(())
        })?;
        failed.map(|()| found.rows())
    }

    fn merged_as_of(&self, key: &Key, newest: Record, at: Version) -> Result<Option<Row>, EngineError> {
        let floor = newest.head.floor();
        let record = match newest.head.since() <= at {
            true => Some(newest),
            false => self.merged_at(key, &newest.head, at)?,
        };
        Ok(record.map(|record| Row { floor, ..record.merged_row(key) }))
    }

    fn names_in(&self, buckets: &[u16], after: Option<&Key>) -> Result<Found, EngineError> {
        let (mut found, mut last) = (Filled::default(), None);
        let range = Range { page: after.cloned(), ..Range::default() };
        self.scan_newest(&range, &mut |key, record| {
            if found.is_full(key.len(), LOOK_ROWS_MAX) {
                found.next = last.take();
                return ControlFlow::Break(());
            }
            found.looked_at += 1;
            if super::buckets::is_among(&key, buckets) {
                found.bytes += key.len();
                found.names.push((Bytes::copy_from_slice(&key), record.head.rank()));
            }
            last = Some(Bytes::copy_from_slice(&key));
            ControlFlow::Continue(())
        })?;
        Ok(found.names())
    }

    fn tombstones(&self, after: Option<&Key>) -> Result<Found, EngineError> {
        let begin = self.set.tombstone(after.map_or(&b""[..], |key| key));
        let end = self.set.end();
        let mut found = Filled::default();
        let mut keys: Vec<Key> = Vec::new();
        self.rows.scan(Bound::Excluded(begin.as_ref()), Bound::Excluded(&end), false, &mut |row, _| {
            let key = Bytes::copy_from_slice(&key_of_tombstone(&row));
            if keys.len() >= SKIPPED_ROWS_MAX || !keys.is_empty() && found.bytes + key.len() > LOOK_BYTES_MAX
            {
                found.next = keys.last().cloned();
                return ControlFlow::Break(());
            }
            found.bytes += key.len();
            keys.push(key);
            ControlFlow::Continue(())
        })?;
        for key in keys {
            let missing =
                || EngineError::corrupt("listing tombstones", "the index names a key that has none");
            let newest = self.current(&key)?.filter(|newest| newest.head.tombstone).ok_or_else(missing)?;
            found.names.push((key, newest.head.rank()));
        }
        Ok(found.names())
    }

    /// Visits the newest revisions of the keys of a range, in its order.
    fn scan_newest(
        &self,
        range: &Range,
        visit: &mut dyn FnMut(Key, Record) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let (from, to) = self.bounds(range);
        let (from, to) = (from.as_ref().map(RowKey::as_ref), to.as_ref().map(RowKey::as_ref));
        let mut failed = Ok(());
        let backward = range.direction == Direction::Backward;
        self.rows.scan(from, to, backward, &mut |row, raw| match Record::decode(raw) {
            Ok(record) => visit(key_of_current(&row), record),
            Err(error) => {
                failed = Err(error);
                ControlFlow::Break(())
            }
        })?;
        failed
    }

    /// The newest of the older revisions up to a version.
    pub fn merged_at(&self, key: &[u8], newest: &Head, at: Version) -> Result<Option<Record>, EngineError> {
        older::first(self.rows, (self.set, key, newest), (newest.floor(), at), true)
    }

    /// A version before all kept revisions: the key was absent then, or nobody knows.
    pub fn before_all_merged(
        &self,
        key: &[u8],
        current: Record,
        at: Version,
    ) -> Result<Option<Record>, Stop> {
        let all = (current.head.floor(), Version::MAX);
        let is_first = current.head.first;
        let oldest =
            older::first(self.rows, (self.set, key, &current.head), all, false)?.unwrap_or(current).head;
        // An expiry says that there was a value from its version on, and not which.
        let was_there = at >= oldest.version || oldest.merged.is_some_and(|merged| merged.replaced.is_some());
        let floor = self.state.floor;
        match is_first && !was_there {
            false => Err(Error::Trimmed { asked: at, oldest: oldest.since() }.into()),
            true if at < floor => Err(Error::Trimmed { asked: at, oldest: floor }.into()),
            true => Ok(None),
        }
    }

    /// Visits the older revisions of a key before a version, newest first.
    pub fn visit_merged(
        &self,
        key: &[u8],
        newest: &Head,
        before: Option<Version>,
        visit: &mut dyn FnMut(Record) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        let to = before.map_or(Version::MAX, Version::before);
        older::visit(self.rows, (self.set, key, newest), (newest.floor(), to), true, visit)
    }
}
