//! A table in memory, as far as a protocol sees it: of each key the newest row, and what was ever seen.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use kv::merged::{self, BUCKETS, Found, Look, Named, Row};
use kv::{Direction, Entry, Key, Op, Position, Version};

/// The newest rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    pub applied: Position,
    pub rows: BTreeMap<Key, Row>,
    pub last: Version,
}

/// So many rows or names are in one answer, so that there are several pages.
const PAGE: usize = 3;

impl Table {
    /// Applies an entry.
    pub fn apply(&mut self, at: Position, entry: &Bytes) {
        assert_eq!(at.index, self.applied.index.next(), "entries are applied in order");
        self.applied = at;
        for stamped in Entry::decode(entry).unwrap().ops {
            match stamped.op {
                Op::Merge { rows } => rows.into_iter().for_each(|row| self.merge(row)),
                Op::Collect { tombstones } => tombstones.iter().for_each(|name| self.collect(name)),
                Op::Advance { to, .. } => self.last = to.after(self.last),
                other => panic!("a quorum shard does not order {other:?}"),
            }
        }
    }

    fn merge(&mut self, row: Row) {
        self.last = self.last.max(row.version);
        let before = self.rows.get(&row.key);
        if let Some(same) = before.filter(|before| before.rank() == row.rank()) {
            assert_eq!(*same, row, "a key and a version name one row");
        }
        if before.is_none_or(|before| before.rank() < row.rank()) {
            self.rows.insert(row.key.clone(), row);
        }
    }

    fn collect(&mut self, (key, rank): &Named) {
        if self.rows.get(key).is_some_and(|row| row.rank() == *rank && row.value.is_none()) {
            self.rows.remove(key);
        }
    }

    /// Looks.
    pub fn look(&self, what: &Look) -> Found {
        match what {
            Look::Keys(keys) => {
                let taken = keys.iter().take(PAGE);
                let rows = taken.filter_map(|key| self.rows.get(key)).cloned().collect();
                Found::Rows { rows, next: keys.get(PAGE).cloned() }
            }
            Look::Range { from, to, direction, after, .. } => {
                self.range(from, to.as_ref(), *direction, after.as_ref())
            }
            Look::Digests { .. } => {
                let mut sums = vec![0u64; usize::from(BUCKETS)];
                for row in self.rows.values() {
                    let sum = &mut sums[usize::from(merged::bucket(&row.key))];
                    *sum = sum.wrapping_add(merged::digest(&row.key, row.rank()));
                }
                Found::Digests(sums)
            }
            Look::Buckets { buckets, after } => {
                self.names(after.as_ref(), |row| buckets.contains(&merged::bucket(&row.key)))
            }
            Look::Rows(names) => {
                let named =
                    |(key, rank): &Named| self.rows.get(key).filter(|row| row.rank() == *rank).cloned();
                let next = names.get(PAGE).map(|(key, _)| key.clone());
                Found::Rows { rows: names.iter().take(PAGE).filter_map(named).collect(), next }
            }
            Look::AsOf { .. } => panic!("quorum trims nothing"),
            Look::Tombstones { after } => self.names(after.as_ref(), |row| row.value.is_none()),
        }
    }

    fn range(&self, from: &Key, to: Option<&Key>, direction: Direction, after: Option<&Key>) -> Found {
        let is_within = |key: &Key| key >= from && to.is_none_or(|to| key < to);
        let is_after = |key: &Key| match (after, direction) {
            (None, _) => true,
            (Some(after), Direction::Forward) => key > after,
            (Some(after), Direction::Backward) => key < after,
        };
        let mut rows =
            Vec::from_iter(self.rows.values().filter(|row| is_within(&row.key) && is_after(&row.key)));
        if direction == Direction::Backward {
            rows.reverse();
        }
        let next = (rows.len() > PAGE).then(|| rows[PAGE - 1].key.clone());
        Found::Rows { rows: rows.into_iter().take(PAGE).cloned().collect(), next }
    }

    fn names(&self, after: Option<&Key>, is: impl Fn(&Row) -> bool) -> Found {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let rows = self.rows.range((from, Bound::Unbounded)).map(|(_, row)| row).filter(|row| is(row));
        let names = Vec::from_iter(rows.map(|row| (row.key.clone(), row.rank())).take(PAGE + 1));
        let next = (names.len() > PAGE).then(|| names[PAGE - 1].0.clone());
        Found::Names { names: names.into_iter().take(PAGE).collect(), next }
    }
}
